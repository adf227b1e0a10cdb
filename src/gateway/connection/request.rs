//! From the head of a request to the request in the upstream's hands.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zeroize::Zeroizing;

use super::super::entries::{self, Decision, TargetText};
use super::super::env::Caller;
use super::super::fault::Fault;
use super::super::metrics;
use super::super::session::{SessionRule, new_session};
use super::agreement::{agree, era, is_date};
use super::exchange::{Call, Exchange, Measure};
use super::handles::{self, Opened};
use super::hosts::{host_is_ours, origin_is_let_in};
use super::judge::Stopped;
use super::outbox::Emission;
use super::routing::{metadata_at, names_a_session, route_at, suffix_target};
use super::upstream_head::{count_findings, record_head};
use super::{Action, Connection, Link, Phase, Turn, is_empty};
use crate::auth::cache::Setting;
use crate::auth::handle::{self, Owner, Purpose};
use crate::auth::token;
use crate::guard::policy::Permit;
use crate::guard::{self, Judgement, Opaque, Outcome, Session};
use crate::limits::Limits;
use crate::record::{Keep, Kind, PartKind};
use crate::types::{Direction, Era};
use crate::wire::body::{Chunks, Decoder, Step};
use crate::wire::head::{self, Fields, Framing, Media, Method, Name};
use crate::wire::json::Text;
use crate::wire::mcp::{self, Class, TargetKind};

impl Connection {
    /// A head is whole: an exchange begins.
    pub(super) fn begin(&mut self, head: BytesMut, request: head::Request, turn: &mut Turn<'_>) {
        self.open_exchange(head, request, turn);
        if let Err(fault) = self.admit(turn) {
            self.refuse(fault, turn);
        }
    }

    fn open_exchange(&mut self, head: BytesMut, request: head::Request, turn: &mut Turn<'_>) {
        let settings = turn.env.settings().clone();
        let accept = self.fields.get(&head, Name::Accept);
        let accepts = head::accepts(accept.unwrap_or(b"*/*"));
        self.generation = turn.env.snapshot.generation;
        let id = turn.env.ids.exchange(turn.now);
        self.exchange = Some(Box::new(Exchange {
            id,
            connection: self.life.id(id),
            level: settings.level,
            keep: Keep::Full,
            settings,
            started: turn.now,
            http: request.method,
            close: !request.keep_alive || self.life.is_over(),
            client_bytes: head.len() as u64,
            request,
            head,
            head_clean: None,
            answer_head: BytesMut::new(),
            answer_fields: Fields::new(),
            route: None,
            caller: None,
            token: None,
            session: None,
            era: None,
            accepts,
            rpc_id: None,
            rpc_method: None,
            targets: Vec::new(),
            initialize: false,
            call: None,
            grant: None,
            opaque: Opaque::Allow,
            origin: None,
            tls: self.life.tls_brief(),
            upstream_tls: None,
            upstream_session: None,
            upstream_fields: None,
            request_memory: turn.env.budget.reservation(),
            answer_memory: turn.env.budget.reservation(),
            ordinal: 0,
            status: None,
            outcome: "complete",
            counted: metrics::Outcome::Answered,
            sent_bytes: 0,
            head_ns: match std::mem::take(&mut self.head_begun) {
                true => turn.now.mono_ns.saturating_sub(self.head_since_ns),
                false => 0,
            },
            forwarded_ns: None,
            begun_ns: None,
            sent_ns: None,
            handed: Vec::new(),
            handed_since_ns: None,
            unacknowledged: Measure::Not,
            late_bytes: 0,
            chunks: Chunks::default(),
            kept_back: None,
            upstream_bytes: 0,
            coding: None,
            coded: None,
            interims: 0,
            asked: false,
            forwarded: false,
            answering: false,
            begun: false,
            streaming: false,
            answered: false,
            answer_ordinal: None,
            upstream_keeps: false,
            terminal: false,
            ended: false,
            orphan_ns: None,
        }));
    }

    /// The head as text that nobody could trust, or none at all: an exchange of a refusal only.
    pub(super) fn refuse_unread(&mut self, fault: Fault, turn: &mut Turn<'_>) {
        let request = head::Request {
            method: Method::Get,
            path: Default::default(),
            query: None,
            framing: Framing::Empty,
            keep_alive: false,
            expect_continue: false,
        };
        self.open_exchange(BytesMut::new(), request, turn);
        if let (Some(exchange), Some(rx)) = (&mut self.exchange, &mut self.rx) {
            exchange.client_bytes = rx.len() as u64;
            rx.clear();
        }
        self.refuse(fault, turn);
    }

    /// Path, origin, caller: all that is decided before a byte of the body is read.
    fn admit(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let exchange = self.exchange.as_mut().expect("an exchange has begun");
        if turn.env.draining {
            return Err(Fault::Draining);
        }
        let head = &exchange.head;
        let path = exchange.request.path.of(head);
        let origin = self.fields.get(head, Name::Origin).map(Arc::from);
        let host = self.fields.get(head, Name::Host);
        if !host.is_some_and(|host| host_is_ours(&exchange.settings, self.listener, host)) {
            return Err(Fault::HostForeign);
        }

        if let Some(document) = metadata_at(&exchange.settings, path) {
            if !is_empty(exchange.request.framing) {
                return Err(Fault::MethodUnfit);
            }
            return match exchange.http {
                Method::Get | Method::Options => {
                    self.answer_metadata(document, turn);
                    Ok(())
                }
                _ => Err(Fault::MethodUnfit),
            };
        }
        let route = route_at(&exchange.settings, path).ok_or(Fault::PathUnknown)?;
        exchange.route = Some(route);
        // Decided: session handles go to callers wrapped. None is ever given out in a query (the
        // transport of 2024-11-05 is not served), so one that comes in there is nobody's.
        if exchange.request.query.is_some_and(|query| names_a_session(query.of(head))) {
            return Err(Fault::PathUnknown);
        }

        if let Some(origin) = origin {
            let tls = exchange.tls.is_some();
            if !origin_is_let_in(&exchange.settings, self.listener, &origin, host, tls) {
                return Err(Fault::OriginForeign);
            }
            exchange.origin = Some(origin);
        }
        if exchange.http == Method::Options {
            if !is_empty(exchange.request.framing) {
                return Err(Fault::MethodUnfit);
            }
            self.answer_options(turn);
            return Ok(());
        }
        self.authenticate(turn)
    }

    /// The token becomes a caller, or a fetch of keys is waited for.
    fn authenticate(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let exchange = self.exchange.as_mut().expect("an exchange has begun");
        let route_index = exchange.route.expect("the path was matched");
        let settings = exchange.settings.clone();
        let route = &settings.routes[route_index];
        let token = token::bearer(self.fields.get(&exchange.head, Name::Authorization))
            .map_err(Fault::Token)?;
        let snapshot = turn.env.snapshot.clone();
        let setting = Setting {
            issuers: &settings.issuers,
            keys: &snapshot.keys,
            policy_generation: snapshot.generation,
            now: turn.now,
            limits: &settings.limits,
        };
        let sessions = &turn.env.sessions;
        let upstream = route_index as u16;
        let seals = settings.seals.tokens;
        let mut first_use = None;
        let checked =
            turn.env.tokens.check(token, upstream, &route.resource, setting, |identity| {
                first_use = seals.then(|| Box::new(Zeroizing::new(token.to_vec())));
                Arc::new(Caller {
                    identity: identity.clone(),
                    access: settings.policy.access(identity, upstream),
                    slot: sessions.slot(identity, upstream),
                    subject: entries::subject(identity, &route.name),
                    mark: guard::CallerMark::of(token).map(Arc::new),
                })
            });
        exchange.token = first_use;
        match checked {
            Ok((identity, caller)) => {
                if let Some(certificate) = token::certificate_of(identity)
                    && !self.life.shows(&certificate)
                {
                    // Why: its first use is that of whoever has the certificate.
                    if exchange.token.take().is_some() {
                        turn.env.tokens.forget(token, upstream);
                    }
                    return Err(Fault::Token(token::TokenFault::OtherCertificate));
                }
                // Keys may have been waited for, but nothing of the body was read.
                exchange.request_memory.belongs_to(caller.slot.share());
                exchange.answer_memory.belongs_to(caller.slot.share());
                let mut caller = Arc::clone(caller);
                if let Some(subject) = self.life.subject(&caller.subject) {
                    Arc::make_mut(&mut caller).subject = subject;
                }
                if let Some(reason) = snapshot.deny.denies(identity) {
                    // Why: the refusal is recorded with the subject; it is known who tried.
                    exchange.caller = Some(caller);
                    self.tell_connect(turn);
                    return Err(Fault::Denied(reason));
                }
                turn.env.scanner.look_for(caller.mark.clone());
                exchange.caller = Some(caller);
                self.phase = Phase::Head;
                self.tell_connect(turn);
                self.authorize_head(turn)
            }
            Err(fault) => match fault.fetch_wanted() {
                Some(issuer) => {
                    // Why: a key id that nobody knows causes one fetch in a while; until the next is
                    // due, and after one that did not bring the key, the token is simply not good.
                    if !snapshot.keys.waiting_helps(usize::from(issuer), turn.now) {
                        return Err(match fault {
                            token::TokenFault::NoKeys { .. } => Fault::KeysUnavailable,
                            _ => Fault::Token(fault),
                        });
                    }
                    if !matches!(self.phase, Phase::Keys { .. }) {
                        turn.env.keys_wanted.push(issuer);
                        let wait_ms = settings.limits.keys_wait_ms_max;
                        let deadline_ns = turn.now.after_ms(wait_ms);
                        self.phase = Phase::Keys { deadline_ns, fault };
                    }
                    Ok(())
                }
                None => Err(Fault::Token(fault)),
            },
        }
    }

    /// The snapshot may have changed: look at the token again.
    pub(super) fn step_keys(&mut self, turn: &mut Turn<'_>) -> bool {
        if turn.env.snapshot.generation == self.generation {
            return false;
        }
        self.generation = turn.env.snapshot.generation;
        let settings = turn.env.settings().clone();
        self.exchange.as_mut().expect("an exchange has begun").settings = settings;
        match self.admit(turn) {
            Ok(()) => !matches!(self.phase, Phase::Keys { .. }),
            Err(fault) => {
                self.refuse(fault, turn);
                true
            }
        }
    }

    /// The caller is known: handles, HTTP method, framing and media type.
    fn authorize_head(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let exchange = self.exchange.as_mut().expect("an exchange has begun");
        let settings = exchange.settings.clone();
        let limits = &settings.limits;
        let head = &exchange.head;
        let caller = exchange.caller.as_ref().expect("the caller was just judged");

        let version = self.fields.get(head, Name::McpProtocolVersion);
        exchange.era = version.map(era);

        let owner = Owner {
            issuer: &caller.identity.issuer,
            subject: &caller.identity.subject,
            upstream: &settings.routes[exchange.route.expect("the path was matched")].name,
        };
        // MCP 2026-07-28 has neither sessions nor resumption: the fields are ignored there.
        if exchange.era != Some(Era::Modern) {
            if let Some(value) = self.fields.get(head, Name::McpSessionId) {
                let (session, original) =
                    handle::unwrap(&settings.handle_key, owner, Purpose::Session, value)
                        .ok_or(Fault::HandleForeign(Purpose::Session))?;
                exchange.session = Some((session, SessionRule::Handle));
                exchange.upstream_session = Some(original.into());
            }
            // MCP 2025-11-25, transports: a stream is resumed by GET. Elsewhere the field says nothing, and
            // does not go on.
            if exchange.http == Method::Get
                && let Some(value) = self.fields.get(head, Name::LastEventId)
            {
                let (session, original) =
                    handle::unwrap(&settings.handle_key, owner, Purpose::Event, value)
                        .ok_or(Fault::HandleForeign(Purpose::Event))?;
                exchange.session.get_or_insert((session, SessionRule::Handle));
                exchange.upstream_fields.get_or_insert_default().event = Some(original.into());
            }
        }

        if turn.env.recorder.progress().unwitnessed() {
            return Err(Fault::Unwitnessed);
        }
        match exchange.http {
            Method::Get | Method::Delete => {
                version.map_or(Ok(()), is_date)?;
                if !is_empty(exchange.request.framing) {
                    return Err(Fault::MethodUnfit);
                }
                let permit = settings
                    .policy
                    .judge_http(&caller.access)
                    .map_err(|denial| Fault::NotGranted(denial.reason))?;
                self.stitch(turn);
                self.forward_bodyless(&permit, turn)
            }
            Method::Post => {
                if self
                    .fields
                    .get(head, Name::ContentEncoding)
                    .is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"))
                {
                    return Err(Fault::Encoded);
                }
                match self.fields.get(head, Name::ContentType).map(head::media) {
                    Some(Media::Json) => {}
                    _ => return Err(Fault::MediaUnfit),
                }
                let allowed = limits.body_bytes_max;
                let decoder = match exchange.request.framing {
                    Framing::Length(seen) if seen > allowed => {
                        return Err(Fault::BodyTooLarge { seen, allowed });
                    }
                    Framing::Length(length) => {
                        if !exchange.request_memory.grow_to(length) {
                            return Err(Fault::Memory);
                        }
                        None
                    }
                    Framing::Chunked => Some(Decoder::new(Framing::Chunked)),
                    Framing::Empty | Framing::UntilClose => return Err(Fault::LengthMissing),
                };
                let expects = exchange.request.expect_continue;
                let deadline_ns = turn.now.after_ms(limits.body_ms_max);
                let waiting = self.rx.as_ref().map_or(0, BytesMut::len) as u64;
                self.phase = Phase::Body {
                    decoder,
                    body: BytesMut::new(),
                    since_ns: turn.now.mono_ns,
                    received_before: self.life.received_bytes.saturating_sub(waiting),
                    deadline_ns,
                };
                // While a receive is under way into `rx` itself, nothing stands in it.
                if expects && self.rx.as_ref().is_none_or(BytesMut::is_empty) {
                    self.answer_continue(turn);
                }
                Ok(())
            }
            Method::Options => Err(Fault::MethodUnfit),
        }
    }

    /// Finds the session of the exchange, once the message (if any) is known.
    fn stitch(&mut self, turn: &mut Turn<'_>) {
        let exchange = self.exchange.as_mut().expect("an exchange has begun");
        if exchange.session.is_some() {
            return;
        }
        let caller = exchange.caller.as_ref().expect("only callers have sessions");
        let random = turn.env.ids.random();
        exchange.session = Some(if exchange.initialize {
            let session = new_session(turn.now, random);
            caller.slot.open(session, turn.now);
            (session, SessionRule::Initialize)
        } else {
            let idle_ms_max = exchange.settings.limits.session_idle_ms_max;
            (caller.slot.current(turn.now, idle_ms_max, random), SessionRule::IdleWindow)
        });
    }

    /// Bytes that the body still needs, for the next read.
    pub(super) fn body_bytes_wanted(&self) -> usize {
        let Some(exchange) = &self.exchange else { return crate::limits::RECEIVE_BYTES };
        match exchange.request.framing {
            // Bound: the length was checked against `body_bytes_max` and taken from the budget.
            Framing::Length(length) => (length as usize)
                .saturating_sub(self.rx.as_ref().map_or(0, BytesMut::len))
                .max(crate::limits::RECEIVE_BYTES),
            _ => crate::limits::RECEIVE_BYTES,
        }
    }

    /// When a body of which no more arrives is too slow: each byte of it buys time.
    pub(super) fn body_rate_due_ns(&self, limits: &Limits) -> Option<u64> {
        let Phase::Body { since_ns, received_before, .. } = self.phase else { return None };
        let received = self.life.received_bytes.saturating_sub(received_before);
        let bought_ns =
            received.saturating_mul(1_000_000_000).checked_div(limits.body_rate_bytes_min)?;
        let grace_ns = limits.body_grace_ms_max.saturating_mul(1_000_000);
        Some(since_ns.saturating_add(grace_ns).saturating_add(bought_ns))
    }

    pub(super) fn step_body(&mut self, turn: &mut Turn<'_>) -> bool {
        match self.gather_body() {
            Ok(Some(body)) => {
                let exchange = self.exchange.as_mut().expect("a body belongs to an exchange");
                exchange.client_bytes += body.len() as u64;
                // The body is whole: whatever is refused now, the next request can be read.
                exchange.request.framing = Framing::Empty;
                if let Err(fault) = self.judge_call(body, turn) {
                    self.refuse(fault, turn);
                }
                true
            }
            Ok(None) => {
                if self.client_ended && self.rx.is_some() {
                    self.abandon("client-disconnected", turn);
                    return true;
                }
                false
            }
            Err(fault) => {
                self.refuse(fault, turn);
                true
            }
        }
    }

    fn gather_body(&mut self) -> Result<Option<BytesMut>, Fault> {
        let exchange = self.exchange.as_mut().expect("a body belongs to an exchange");
        let (Some(rx), Phase::Body { decoder, body, .. }) = (&mut self.rx, &mut self.phase) else {
            return Ok(None);
        };
        let Some(decoder) = decoder else {
            let Framing::Length(length) = exchange.request.framing else {
                unreachable!("a body without a decoder has a length")
            };
            let length = length as usize;
            return Ok((rx.len() >= length).then(|| rx.split_to(length)));
        };
        let allowed = exchange.settings.limits.body_bytes_max;
        loop {
            let step = decoder.step(rx).map_err(Fault::Body)?;
            let come = match step {
                Step::Data(span) => body.len() as u64 + u64::from(span.len),
                _ => body.len() as u64,
            };
            // With what the chunk still announces: the same sum wherever the input is cut.
            let seen = come.saturating_add(decoder.announced_bytes());
            if seen > allowed {
                return Err(Fault::BodyTooLarge { seen, allowed });
            }
            match step {
                Step::Data(span) => {
                    if !exchange.request_memory.grow_to(come) {
                        return Err(Fault::Memory);
                    }
                    body.extend_from_slice(span.of(rx));
                    let _ = rx.split_to(span.end());
                }
                Step::Skip(used) => {
                    let _ = rx.split_to(used);
                }
                Step::More => return Ok(None),
                Step::End { used } => {
                    let _ = rx.split_to(used);
                    exchange.chunks = decoder.take_chunks();
                    return Ok(Some(std::mem::take(body)));
                }
            }
        }
    }

    /// The message is whole: strict reading, grants, scan; then the record.
    fn judge_call(&mut self, mut body: BytesMut, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let exchange = self.exchange.as_mut().expect("a call belongs to an exchange");
        let settings = exchange.settings.clone();
        let limits = &settings.limits;
        let mut message = mcp::read(&body, Direction::Request, limits, &mut turn.env.json)
            .map_err(|fault| {
                exchange.rpc_id =
                    fault.id.as_ref().map(|id| Bytes::copy_from_slice(id.span.of(&body)));
                exchange.keep_back(&body);
                Fault::Message(fault)
            })?;
        exchange.rpc_id = (message.class == Class::Request)
            .then(|| message.id.as_ref().map(|id| Bytes::copy_from_slice(id.span.of(&body))))
            .flatten();
        exchange.rpc_method = message.method.as_ref().map(|text| text.decode(&body).into());
        exchange.targets = target_texts(&message, &body);
        exchange.initialize =
            message.class == Class::Request && exchange.rpc_method.as_deref() == Some("initialize");
        if let Err(fault) = agree(&self.fields, exchange, &message, &body) {
            exchange.keep_back(&body);
            return Err(fault);
        }
        let mut came = None;
        let mut rewritten = false;
        let opened = handles::open(exchange, &message, &body).inspect_err(|_| {
            exchange.keep_back(&body);
            exchange.targets.iter_mut().for_each(shorten_task);
        });
        if let Some(Opened { bytes, tried }) = opened? {
            rewritten = true;
            let before = std::mem::replace(&mut body, bytes);
            let opened = mcp::read(&body, Direction::Request, limits, &mut turn.env.json)
                .map_err(Fault::Message)?;
            let asked = std::mem::replace(&mut message, opened);
            exchange.targets = target_texts(&message, &body);
            name_tried(&mut exchange.targets, &asked, &before, &tried, turn);
            came = Some(Zeroizing::new(before.to_vec()));
        }
        let came = came.filter(|_| settings.seals.originals);
        self.stitch(turn);

        let exchange = self.exchange.as_mut().expect("a call belongs to an exchange");
        let caller = exchange.caller.as_ref().expect("a call was authenticated");
        exchange.asked(&mut turn.env.scanner);
        let permit = match settings.policy.judge_message(&caller.access, &message, &body) {
            Ok(permit) => permit,
            Err(denial) => {
                // Why: what was tried is evidence, so the refused message is recorded, masked. No
                // permit exists for it, so nothing of it can ever be forwarded.
                let key = pseudonym_key(exchange, turn);
                let original = settings.seals.originals.then(|| Zeroizing::new(body.to_vec()));
                let original = came.or(original);
                let session = Session {
                    direction: Direction::Request,
                    mask: settings.mask,
                    pseudonym_key: &key,
                    limits,
                };
                let opaque = caller.access.opaque();
                let masked =
                    turn.env.scanner.mask_for_record(body, opaque, &session, &mut turn.env.json);
                let (recorded, findings) = masked.map_or_else(
                    |_| (None, Vec::new()),
                    |(bytes, findings)| {
                        let original = original.filter(|original| original[..] != bytes[..]);
                        (Some(Stopped { body: bytes, original, unfit: None }), findings)
                    },
                );
                self.refuse_with(Fault::NotGranted(denial.reason), recorded, findings, turn);
                return Ok(());
            }
        };
        exchange.under(permit);
        let key = pseudonym_key(exchange, turn);
        let mask = permit.mask().unwrap_or(settings.mask);
        turn.env.scanner.keep_originals(settings.seals.originals);
        let mut outcome = turn.env.scanner.judge_message(
            body,
            message,
            &permit,
            Direction::Request,
            mask,
            &key,
            &mut turn.env.json,
            limits,
        );
        if came.is_some()
            && let Outcome::Pass(Judgement { original, .. }) | Outcome::Blocked { original, .. } =
                &mut outcome
        {
            *original = came;
        }
        match outcome {
            Outcome::Pass(judgement) => {
                let target = suffix_target(exchange)?;
                let written = self.upstream_head(Some(judgement.bytes.len()), &target, &key, turn);
                let exchange = self.exchange.as_mut().expect("a call belongs to an exchange");
                let written = match written {
                    Ok(written) => written,
                    Err(fault) => {
                        exchange.keep_back(&judgement.bytes);
                        return Err(fault);
                    }
                };
                let (head, head_record, mut findings) = written;
                let (head_in, head_findings) = record_head(exchange, &self.fields, turn);
                findings.extend(head_findings);
                findings.extend(judgement.findings);
                count_findings(&findings, turn);
                let decision = if judgement.edited { Decision::Masked } else { Decision::Allowed };
                let mut verdict = exchange.verdict(Direction::Request, decision, &self.source_text);
                verdict.findings = &findings;
                verdict.edited = judgement.edited || rewritten;
                verdict.chunks = Some(&exchange.chunks);
                let verdict = verdict.part();
                exchange.chunks = Chunks::default();
                let body: Bytes = (*judgement.bytes).clone();
                exchange.call =
                    Some(Box::new(Call { message: judgement.message, bytes: body.clone() }));
                exchange.asked = true;
                let entry = exchange.entry(Kind::Request, turn.now);
                let entry = exchange
                    .with_subject(entry)
                    .part(PartKind::Verdict, verdict)
                    .part(PartKind::HeadIn, head_in)
                    .part(PartKind::HeadOut, head_record);
                let entry = Exchange::body(entry, body, judgement.original);
                let payload =
                    guard::join(guard::own(head), judgement.bytes, guard::own(Bytes::new()));
                self.forward(Emission::request(entry, payload), turn);
                Ok(())
            }
            Outcome::Blocked { findings, masked, original, .. } => {
                let body = Stopped { body: masked, original, unfit: None };
                self.refuse_with(Fault::RequestBlocked, Some(body), findings, turn);
                Ok(())
            }
            Outcome::Refused(fault) => Err(Fault::Guard(fault)),
        }
    }

    /// GET and DELETE carry no message: only the head goes on.
    fn forward_bodyless(&mut self, permit: &Permit, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let exchange = self.exchange.as_mut().expect("an exchange has begun");
        exchange.under(*permit);
        let target = suffix_target(exchange)?;
        let key = pseudonym_key(exchange, turn);
        let (head, head_record, mut findings) = self.upstream_head(None, &target, &key, turn)?;
        let exchange = self.exchange.as_mut().expect("an exchange has begun");
        let (head_in, head_findings) = record_head(exchange, &self.fields, turn);
        findings.extend(head_findings);
        count_findings(&findings, turn);
        let mut verdict =
            exchange.verdict(Direction::Request, Decision::Allowed, &self.source_text);
        verdict.findings = &findings;
        verdict.resumes = exchange.upstream_event().is_some();
        let verdict = verdict.part();
        exchange.asked = true;
        let entry = exchange.entry(Kind::Request, turn.now);
        let entry = exchange
            .with_subject(entry)
            .part(PartKind::Verdict, verdict)
            .part(PartKind::HeadIn, head_in)
            .part(PartKind::HeadOut, head_record);
        let payload =
            guard::join(guard::own(head), guard::own(Bytes::new()), guard::own(Bytes::new()));
        self.forward(Emission::request(entry, payload), turn);
        Ok(())
    }

    fn forward(&mut self, emission: Emission, turn: &mut Turn<'_>) {
        let limits = &turn.env.settings().limits;
        // Bound: the record has its own deadline; this one is for the queue before the upstream.
        let wait_ms = limits.recorder_ms_max + limits.connect_ms_max;
        self.phase = Phase::Forward { deadline_ns: turn.now.after_ms(wait_ms), request: None };
        self.emit(emission, turn);
    }

    /// The record has the request: get a connection, then send.
    pub(super) fn step_forward(&mut self, turn: &mut Turn<'_>) -> bool {
        let Phase::Forward { deadline_ns, request } = &mut self.phase else { return false };
        if request.is_none() {
            return false;
        }
        let exchange = self.exchange.as_mut().expect("a request belongs to an exchange");
        match &mut self.link {
            Link::None => {
                self.link = Link::Asked;
                let limits = &exchange.settings.limits;
                let tls_ms = exchange.route().tls.as_ref().map_or(0, |_| limits.tls_ms_max);
                let wait_ms = 2 * limits.connect_ms_max + tls_ms;
                *deadline_ns = turn.now.after_ms(wait_ms);
                turn.out.push(Action::OpenUpstream {
                    route: exchange.route.expect("the path was matched") as u16,
                    stream: exchange.http == Method::Get,
                });
                false
            }
            Link::Asked => false,
            Link::Open { sending, .. } => {
                let payload = request.take().expect("it was there a line ago");
                *sending = true;
                exchange.forwarded = true;
                turn.out.push(Action::SendUpstream(payload));
                let answer_ms_max = exchange.settings.limits.answer_ms_max;
                self.phase = Phase::AnswerHead { deadline_ns: turn.now.after_ms(answer_ms_max) };
                true
            }
        }
    }
}

/// The key of the pseudonyms that callers see in this exchange.
pub(super) fn pseudonym_key(exchange: &Exchange, turn: &mut Turn<'_>) -> [u8; 32] {
    let session = exchange.session.map(|(session, _)| session).unwrap_or_default();
    turn.env.pseudonyms.key(&exchange.settings.pseudonym_key, session)
}

/// Bound: bytes that the record says of a task id that was refused; a handle has at most
/// [`handle::HANDLE_BYTES_MAX`].
const TASK_TEXT_BYTES_MAX: usize = handle::HANDLE_BYTES_MAX;

/// No handle of anybody is longer, and who refuses it need not repeat it.
fn shorten_task(target: &mut TargetText) {
    let name = &mut target.name;
    if target.kind == "task" && name.len() > TASK_TEXT_BYTES_MAX {
        let end = (0..=TASK_TEXT_BYTES_MAX).rev().find(|at| name.is_char_boundary(*at));
        name.truncate(end.unwrap_or(0));
        name.push('…');
    }
}

/// The record says of task ids that were never given out what the caller wrote, not what stands in for
/// them. Bound: each fits into a handle.
fn name_tried(
    targets: &mut Vec<TargetText>,
    asked: &mcp::Message,
    before: &[u8],
    tried: &[Text],
    turn: &mut Turn<'_>,
) {
    for text in tried {
        // No rule has looked at it: what goes on is another text.
        let words = text.decode(before);
        let name = turn.env.scanner.fill_words(words.as_bytes(), Direction::Request);
        match asked.targets.iter().position(|target| target.text == *text) {
            Some(at) => targets[at].name = name,
            None => targets.push(TargetText { kind: "task", name }),
        }
    }
}

fn target_texts(message: &mcp::Message, bytes: &[u8]) -> Vec<TargetText> {
    message
        .targets
        .iter()
        .map(|target| TargetText {
            kind: match target.kind {
                TargetKind::Tool => "tool",
                TargetKind::Prompt => "prompt",
                TargetKind::Resource => "resource",
                TargetKind::Task => "task",
            },
            name: target.text.decode(bytes).into_owned(),
        })
        .collect()
}
