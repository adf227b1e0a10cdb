//! From the head of a request to the request in the upstream's hands.

use bytes::{Bytes, BytesMut};

use super::super::entries::{self, Decision, TargetText};
use super::super::env::{Caller, Settings};
use super::super::fault::Fault;
use super::super::heads::{self, HeadText, OwnAnswer};
use super::super::metrics;
use super::super::session::{SessionRule, new_session};
use super::answer::answer_head_record;
use super::exchange::{Call, Exchange};
use super::outbox::Emission;
use super::stream::own_piece;
use super::{Action, Connection, Link, Phase, Turn, is_empty};
use crate::auth::cache::Setting;
use crate::auth::handle::{self, Owner, Purpose};
use crate::auth::{metadata, token};
use crate::guard::policy::Permit;
use crate::guard::{self, Judged, Outcome, Payload};
use crate::record::{Kind, PartKind};
use crate::types::{Direction, Era, Finding, RuleAction};
use crate::wire::body::{Decoder, Step};
use crate::wire::head::{self, Framing, Media, Method, Name};
use crate::wire::mcp::{self, Class, TargetKind};

/// First version of the modern era (MCP 2026-07-28, basic/versioning). Versions are dates, so they
/// compare as text.
const MODERN: &[u8] = b"2026-07-28";

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
        self.exchange = Some(Box::new(Exchange {
            id: turn.env.ids.exchange(turn.now),
            level: settings.level,
            settings,
            started: turn.now,
            http: request.method,
            close: !request.keep_alive,
            client_bytes: head.len() as u64,
            request,
            head,
            head_clean: None,
            answer_head: BytesMut::new(),
            route: None,
            caller: None,
            session: None,
            era: None,
            accepts,
            rpc_id: None,
            rpc_method: None,
            targets: Vec::new(),
            initialize: false,
            call: None,
            grant: None,
            origin: None,
            upstream_session: None,
            upstream_event: None,
            request_memory: turn.env.budget.reservation(),
            answer_memory: turn.env.budget.reservation(),
            ordinal: 0,
            status: None,
            outcome: "complete",
            counted: metrics::Outcome::Answered,
            sent_bytes: 0,
            upstream_bytes: 0,
            interims: 0,
            forwarded: false,
            answering: false,
            begun: false,
            streaming: false,
            answered: false,
            upstream_keeps: false,
            terminal: false,
            ended: false,
            orphan_ns: None,
        }));
    }

    /// The head as text that nobody could trust, or none at all: an exchange of a refusal only.
    pub(super) fn refuse_unread(&mut self, fault: Fault, turn: &mut Turn<'_>) {
        self.head_since_ns = None;
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
        let origin = self.fields.get(head, Name::Origin).map(Bytes::copy_from_slice);

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
            let listed = exchange.settings.origins.get(usize::from(self.listener));
            if !listed.is_some_and(|list| list.iter().any(|one| one.as_bytes() == &origin[..])) {
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
        let checked =
            turn.env.tokens.check(token, upstream, &route.resource, setting, |identity| Caller {
                identity: identity.clone(),
                access: settings.policy.access(identity, upstream),
                slot: sessions.slot(identity, upstream),
                subject: entries::subject(identity, &route.name),
            });
        match checked {
            Ok((identity, caller)) => {
                if let Some(reason) = snapshot.deny.denies(identity) {
                    // Why: the refusal is recorded with the subject; it is known who tried.
                    exchange.caller = Some(caller.clone());
                    return Err(Fault::Denied(reason));
                }
                exchange.caller = Some(caller.clone());
                self.phase = Phase::Head;
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
        exchange.era =
            version.map(|version| if version >= MODERN { Era::Modern } else { Era::Handshake });

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
                        .ok_or(Fault::HandleForeign)?;
                exchange.session = Some((session, SessionRule::Handle));
                exchange.upstream_session = Some(original);
            }
            if let Some(value) = self.fields.get(head, Name::LastEventId) {
                let (session, original) =
                    handle::unwrap(&settings.handle_key, owner, Purpose::Event, value)
                        .ok_or(Fault::HandleForeign)?;
                exchange.session.get_or_insert((session, SessionRule::Handle));
                exchange.upstream_event = Some(original);
            }
        }

        match exchange.http {
            Method::Get | Method::Delete => {
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
                self.phase = Phase::Body { decoder, body: BytesMut::new(), deadline_ns };
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
        loop {
            match decoder.step(rx).map_err(Fault::Body)? {
                Step::Data(span) => {
                    let seen = body.len() as u64 + u64::from(span.len);
                    let allowed = exchange.settings.limits.body_bytes_max;
                    if seen > allowed {
                        return Err(Fault::BodyTooLarge { seen, allowed });
                    }
                    if !exchange.request_memory.grow_to(seen) {
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
                    return Ok(Some(std::mem::take(body)));
                }
            }
        }
    }

    /// The message is whole: strict reading, grants, scan; then the record.
    fn judge_call(&mut self, body: BytesMut, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let exchange = self.exchange.as_mut().expect("a call belongs to an exchange");
        let settings = exchange.settings.clone();
        let limits = &settings.limits;
        let message =
            mcp::read(&body, Direction::Request, limits, &mut turn.env.json).map_err(|fault| {
                exchange.rpc_id =
                    fault.id.as_ref().map(|id| Bytes::copy_from_slice(id.span.of(&body)));
                Fault::Message(fault)
            })?;
        exchange.rpc_id = (message.class == Class::Request)
            .then(|| message.id.as_ref().map(|id| Bytes::copy_from_slice(id.span.of(&body))))
            .flatten();
        exchange.rpc_method = message.method.as_ref().map(|text| text.decode(&body).into_owned());
        exchange.targets = target_texts(&message, &body);
        exchange.initialize =
            message.class == Class::Request && exchange.rpc_method.as_deref() == Some("initialize");
        agree(&self.fields, exchange, &message, &body)?;
        self.stitch(turn);

        let exchange = self.exchange.as_mut().expect("a call belongs to an exchange");
        let caller = exchange.caller.as_ref().expect("a call was authenticated");
        let permit = match settings.policy.judge_message(&caller.access, &message, &body) {
            Ok(permit) => permit,
            Err(denial) => {
                // Why: what was tried is evidence, so the refused message is recorded, masked. No
                // permit exists for it, so nothing of it can ever be forwarded.
                let key = pseudonym_key(exchange, turn);
                let masked = turn.env.scanner.mask_for_record(
                    body,
                    Direction::Request,
                    &key,
                    &mut turn.env.json,
                    limits,
                );
                let (recorded, findings) = masked.map_or_else(
                    |_| (None, Vec::new()),
                    |(bytes, findings)| (Some(bytes), findings),
                );
                self.refuse_with(Fault::NotGranted(denial.reason), recorded, findings, turn);
                return Ok(());
            }
        };
        exchange.grant = permit.grant();
        if let Some(level) = permit
            .grant()
            .and_then(|grant| settings.grant_levels.get(usize::from(grant)).copied().flatten())
        {
            exchange.level = level;
        }
        let key = pseudonym_key(exchange, turn);
        let mask = permit.mask().unwrap_or(settings.mask);
        let outcome = turn.env.scanner.judge_message(
            body,
            message,
            &permit,
            Direction::Request,
            mask,
            &key,
            &mut turn.env.json,
            limits,
        );
        match outcome {
            Outcome::Pass(judgement) => {
                let target = suffix_target(exchange);
                let written =
                    self.upstream_head(Some(judgement.bytes.len()), &target, &key, turn)?;
                let exchange = self.exchange.as_mut().expect("a call belongs to an exchange");
                let (head, head_record, mut findings) = written;
                let (head_in, head_findings) = record_head(exchange, &self.fields, turn);
                findings.extend(head_findings);
                findings.extend(judgement.findings);
                count_findings(&findings, turn);
                let decision = if judgement.edited { Decision::Masked } else { Decision::Allowed };
                let mut verdict = exchange.verdict(Direction::Request, decision, &self.source_text);
                verdict.findings = &findings;
                verdict.edited = judgement.edited;
                let verdict = verdict.part();
                let body: Bytes = (*judgement.bytes).clone();
                exchange.call = Some(Call { message: judgement.message, bytes: body.clone() });
                let entry = exchange.entry(Kind::Request, turn.now);
                let entry = exchange
                    .with_subject(entry)
                    .part(PartKind::Verdict, verdict)
                    .part(PartKind::HeadIn, head_in)
                    .part(PartKind::HeadOut, head_record)
                    .part(PartKind::Body, body);
                let payload =
                    guard::join(guard::own(head), judgement.bytes, guard::own(Bytes::new()));
                self.forward(Emission::request(entry, payload), turn);
                Ok(())
            }
            Outcome::Blocked { findings, masked, .. } => {
                self.refuse_with(Fault::RequestBlocked, Some(masked), findings, turn);
                Ok(())
            }
            Outcome::Refused(fault) => Err(Fault::Guard(fault)),
        }
    }

    /// GET and DELETE carry no message: only the head goes on.
    fn forward_bodyless(&mut self, permit: &Permit, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let exchange = self.exchange.as_mut().expect("an exchange has begun");
        exchange.grant = permit.grant();
        let target = suffix_target(exchange);
        let key = pseudonym_key(exchange, turn);
        let (head, head_record, mut findings) = self.upstream_head(None, &target, &key, turn)?;
        let exchange = self.exchange.as_mut().expect("an exchange has begun");
        let (head_in, head_findings) = record_head(exchange, &self.fields, turn);
        findings.extend(head_findings);
        count_findings(&findings, turn);
        let mut verdict =
            exchange.verdict(Direction::Request, Decision::Allowed, &self.source_text);
        verdict.findings = &findings;
        let verdict = verdict.part();
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
        self.phase = Phase::Forward { deadline_ns: turn.now.after_ms(wait_ms) };
        self.emit(emission, turn);
    }

    /// Writes the head of the upstream request: the bytes to send, and their recorded copy.
    fn upstream_head(
        &mut self,
        body_bytes: Option<usize>,
        target: &str,
        pseudonym_key: &[u8; 32],
        turn: &mut Turn<'_>,
    ) -> Result<(Bytes, Bytes, Vec<Finding>), Fault> {
        let exchange = self.exchange.as_mut().expect("an exchange has begun");
        look_at_head(exchange, &self.fields, turn)?;
        let route = exchange.route();
        let head = &exchange.head;
        let query = exchange.request.query.map(|span| span.of(head));
        let scanner = &mut turn.env.scanner;
        // Nothing found in the whole head: then nothing in any of its values.
        let clean = exchange.head_clean == Some(true);
        if let Some(query) = query.filter(|_| !clean)
            && scanner
                .judge_field(query, Direction::Request)
                .is_some_and(|(_, action)| action != RuleAction::Alert)
        {
            return Err(Fault::RequestBlocked);
        }
        let suffix = &exchange.request.path.of(head)[route.path.len()..];
        if encodes_a_secret(suffix, scanner)
            || query.is_some_and(|query| query.contains(&b'%') && encodes_a_secret(query, scanner))
        {
            return Err(Fault::RequestBlocked);
        }
        let mut text = HeadText::request(exchange.http, target, query);
        text.field("Host", route.host.as_bytes());
        let mut accepted = false;
        for field in self.fields.iter(head) {
            let known = field.known.is_some_and(heads::forwarded);
            let param = field.known == Some(Name::McpParam);
            if !known && !param {
                continue;
            }
            accepted |= field.known == Some(Name::Accept);
            let found = match clean {
                true => None,
                false => scanner.judge_field(field.value, Direction::Request),
            };
            match found {
                None | Some((_, RuleAction::Alert)) => {
                    text.field_bytes(field.name, field.value);
                }
                Some((_, RuleAction::Mask)) if param => {
                    // Decided: a mirrored argument gets the value that the masked argument got.
                    let value = scanner.fill_field(field.value, Direction::Request, pseudonym_key);
                    text.field_bytes(field.name, &value);
                }
                Some((_, RuleAction::Mask))
                    if !matches!(field.known, Some(Name::McpName | Name::McpMethod)) => {}
                Some(_) => return Err(Fault::RequestBlocked),
            }
        }
        if !accepted {
            let both: &[u8] = match exchange.http {
                Method::Get => b"text/event-stream",
                _ => b"application/json, text/event-stream",
            };
            text.field("Accept", both);
        }
        // Why: an encoded answer could not be inspected.
        text.field("Accept-Encoding", b"identity");
        if let Some(session) = &exchange.upstream_session {
            text.field("Mcp-Session-Id", session);
        }
        if let Some(event) = &exchange.upstream_event {
            text.field("Last-Event-ID", event);
        }
        if let Some(bytes) = body_bytes {
            text.field("Content-Type", b"application/json");
            text.length(bytes);
        }
        let credential = route.credential.as_ref().map(|(name, value)| {
            let at = text.next_value_at(name);
            text.field(name, value);
            at..at + value.len()
        });
        // The rest of it is our own text and handles that the upstream made.
        let handles = [&exchange.upstream_session, &exchange.upstream_event];
        let clean = clean
            && handles
                .into_iter()
                .flatten()
                .all(|value| scanner.is_clean(value, Direction::Request));
        let sent = text.end().freeze();
        if clean && credential.is_none() {
            return Ok((sent.clone(), sent, Vec::new()));
        }
        let mut recorded = BytesMut::from(&sent[..]);
        if let Some(range) = credential {
            recorded[range].fill(b'*');
        }
        let findings = match clean {
            true => Vec::new(),
            false => scanner.fill_text(&mut recorded, Direction::Request),
        };
        Ok((sent, recorded.freeze(), findings))
    }

    /// The record has the request: get a connection, then send.
    pub(super) fn step_forward(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.to_upstream.is_none() {
            return false;
        }
        let exchange = self.exchange.as_mut().expect("a request belongs to an exchange");
        match &mut self.link {
            Link::None => {
                self.link = Link::Asked;
                let connect_ms_max = exchange.settings.limits.connect_ms_max;
                self.phase = Phase::Forward { deadline_ns: turn.now.after_ms(2 * connect_ms_max) };
                turn.out.push(Action::OpenUpstream {
                    route: exchange.route.expect("the path was matched") as u16,
                    stream: exchange.http == Method::Get,
                });
                false
            }
            Link::Asked => false,
            Link::Open { sending, .. } => {
                let payload = self.to_upstream.take().expect("it was there a line ago");
                *sending = true;
                exchange.forwarded = true;
                turn.out.push(Action::SendUpstream(payload));
                let answer_ms_max = exchange.settings.limits.answer_ms_max;
                self.phase = Phase::AnswerHead { deadline_ns: turn.now.after_ms(answer_ms_max) };
                true
            }
        }
    }

    /// Answers with what the fault says, and records it.
    pub(super) fn refuse(&mut self, fault: Fault, turn: &mut Turn<'_>) {
        self.refuse_with(fault, None, Vec::new(), turn);
    }

    pub(super) fn refuse_with(
        &mut self,
        fault: Fault,
        body: Option<Bytes>,
        mut findings: Vec<Finding>,
        turn: &mut Turn<'_>,
    ) {
        let disposition = fault.disposition();
        turn.env.metrics.refused(disposition.label);
        if let Some(exchange) = &self.exchange {
            turn.env.notice(&disposition, exchange.id);
        }
        self.drop_link(false, turn);
        let source = self.source.ip();
        let behind = self.body_is_behind_us();
        let Some(exchange) = &mut self.exchange else { return };
        let (head_in, head_findings) = if exchange.answer_head.is_empty() {
            record_head(exchange, &self.fields, turn)
        } else {
            answer_head_record(exchange, &self.answer_fields, turn)
        };
        findings.extend(head_findings);
        count_findings(&findings, turn);

        // A refused request with an id is answered inside JSON-RPC, whatever else has no id to answer
        // with a bare status (CONTRACT; widely used clients lose their connection on 4xx).
        let in_rpc = disposition.status == 200;
        let (status, with_body) = match (in_rpc, exchange.rpc_id.is_some()) {
            (true, true) => (200, true),
            (true, false) => (403, false),
            (false, _) => (disposition.status, true),
        };
        exchange.status = Some(status);
        exchange.outcome = disposition.label;
        exchange.answering = true;
        exchange.answered = true;
        exchange.close |= disposition.close || !behind;
        let known = exchange.caller.is_some();
        let fresh = exchange.ordinal == 0;

        let decision = match fault {
            Fault::Token(_)
            | Fault::Denied(_)
            | Fault::NotGranted(_)
            | Fault::OriginForeign
            | Fault::HandleForeign
            | Fault::AccessEnded => Decision::Denied,
            Fault::RequestBlocked | Fault::AnswerBlocked => Decision::Blocked,
            Fault::Upstream(_) | Fault::UpstreamBusy | Fault::Recorder | Fault::KeysUnavailable => {
                Decision::Failed
            }
            _ => Decision::Refused,
        };
        exchange.counted = match decision {
            Decision::Blocked => metrics::Outcome::Blocked,
            Decision::Failed => metrics::Outcome::Failed,
            _ => metrics::Outcome::Refused,
        };
        let direction = match fault {
            Fault::Upstream(_) | Fault::AnswerBlocked | Fault::AnswerTooLarge { .. } => {
                Direction::Response
            }
            _ => Direction::Request,
        };
        let payload = refusal_text(exchange, fault, status, with_body);
        if exchange.call.is_none() {
            // Why: id, method and targets are never masked, so they may be what is refused; no rule has
            // passed them yet.
            hide_words(exchange, turn);
        }
        let mut verdict = exchange.verdict(direction, decision, &self.source_text);
        verdict.reason = Some(disposition.label);
        verdict.code = with_body.then_some(disposition.code);
        verdict.at = fault.at();
        verdict.findings = &findings;
        verdict.only = !known && fresh;
        let verdict = verdict.part();

        // Before the caller is known, one source cannot fill the record: beyond a rate it is counted.
        let each = known
            || turn.env.refusals.each(
                source,
                disposition.label,
                turn.now,
                &exchange.settings.limits,
            );
        exchange.terminal = !known && fresh;
        let mut entry = exchange.entry(Kind::Refusal, turn.now);
        if each {
            entry = exchange.with_subject(entry).part(PartKind::Verdict, verdict);
            if !head_in.is_empty() {
                entry = entry.part(PartKind::HeadIn, head_in);
            }
            if let Some(body) = body {
                entry = entry.part(PartKind::Body, body);
            }
            self.emit(Emission::answer(entry, payload), turn);
        } else {
            self.emit_counted(payload, turn);
        }
        self.phase = Phase::Finish;
    }

    /// The client ended before the exchange had an answer to send.
    pub(super) fn abandon(&mut self, outcome: &'static str, turn: &mut Turn<'_>) {
        self.drop_link(false, turn);
        let Some(exchange) = &mut self.exchange else { return };
        exchange.outcome = outcome;
        exchange.counted = metrics::Outcome::Cut;
        exchange.close = true;
        // Of somebody who never said who he is nothing is left to tell.
        exchange.terminal = exchange.ordinal == 0 && exchange.caller.is_none();
        self.phase = Phase::Finish;
    }

    /// True when every byte of the request has been taken from the receive buffer, or can be now.
    fn body_is_behind_us(&mut self) -> bool {
        let Some(exchange) = &mut self.exchange else { return false };
        if self.client_ended {
            return false;
        }
        match (exchange.request.framing, &mut self.rx) {
            (Framing::Empty | Framing::Length(0), _) => true,
            (Framing::Length(length), Some(rx)) if rx.len() as u64 >= length => {
                let _ = rx.split_to(length as usize);
                exchange.client_bytes += length;
                exchange.request.framing = Framing::Empty;
                true
            }
            _ => false,
        }
    }

    fn answer_continue(&mut self, turn: &mut Turn<'_>) {
        let exchange = self.exchange.as_mut().expect("an exchange has begun");
        let entry = exchange.entry(Kind::Interim, turn.now);
        let payload =
            own_payload(Bytes::from_static(b"HTTP/1.1 100 Continue\r\n\r\n"), Bytes::new());
        self.emit(Emission::interim(entry, payload), turn);
    }

    fn answer_metadata(&mut self, document: Bytes, turn: &mut Turn<'_>) {
        let http = self.exchange.as_ref().expect("an exchange has begun").http;
        let fields: &[(&'static str, &[u8])] = &[
            ("Access-Control-Allow-Origin", b"*"),
            ("Access-Control-Allow-Methods", b"GET, OPTIONS"),
            ("Access-Control-Allow-Headers", b"MCP-Protocol-Version, Authorization"),
            ("Cache-Control", b"public, max-age=300"),
        ];
        let (status, body) = match http {
            Method::Options => (204, None),
            _ => (200, Some(("application/json", document))),
        };
        self.answer_own(status, body, fields, "metadata", turn);
    }

    fn answer_options(&mut self, turn: &mut Turn<'_>) {
        let exchange = self.exchange.as_ref().expect("an exchange has begun");
        let preflight = exchange.origin.is_some();
        let allow: (&'static str, &[u8]) = ("Allow", b"POST, GET, DELETE, OPTIONS");
        let with: &[(&'static str, &[u8])] = &[
            allow,
            ("Access-Control-Allow-Methods", b"POST, GET, DELETE"),
            (
                "Access-Control-Allow-Headers",
                b"Authorization, Content-Type, Accept, Mcp-Session-Id, MCP-Protocol-Version, \
                  Last-Event-ID, Mcp-Method, Mcp-Name",
            ),
            ("Access-Control-Max-Age", b"600"),
        ];
        let fields = if preflight { with } else { &with[..1] };
        self.answer_own(204, None, fields, "options", turn);
    }

    /// An answer of the gateway itself that is no refusal.
    fn answer_own(
        &mut self,
        status: u16,
        body: Option<(&'static str, Bytes)>,
        fields: &[(&'static str, &[u8])],
        outcome: &'static str,
        turn: &mut Turn<'_>,
    ) {
        let source = self.source.ip();
        let exchange = self.exchange.as_mut().expect("an exchange has begun");
        exchange.status = Some(status);
        exchange.outcome = outcome;
        exchange.terminal = true;
        exchange.answering = true;
        let mut all: Vec<(&'static str, &[u8])> = fields.to_vec();
        let origin = exchange.origin.clone();
        push_cors(origin.as_ref(), &mut all);
        let own = OwnAnswer { status, body, close: exchange.close, fields: &all };
        let (head, body) = heads::own_answer(exchange.id, &own);
        let mut verdict =
            exchange.verdict(Direction::Response, Decision::Allowed, &self.source_text);
        verdict.reason = Some(outcome);
        verdict.only = true;
        let verdict = verdict.part();
        let each = turn.env.refusals.each(source, outcome, turn.now, &exchange.settings.limits);
        let entry = exchange.entry(Kind::Answer, turn.now).part(PartKind::Verdict, verdict);
        let payload = own_payload(head, body);
        if each {
            self.emit(Emission::answer(entry, payload), turn);
        } else {
            self.emit_counted(payload, turn);
        }
        self.phase = Phase::Finish;
    }

    /// An answer whose record is a count: it leaves once everything handed over so far is recorded,
    /// which includes the first of its kind.
    fn emit_counted(&mut self, payload: Judged<Payload>, turn: &mut Turn<'_>) {
        let exchange = self.exchange.as_ref().expect("an exchange has begun");
        debug_assert!(exchange.answering);
        let held = turn.env.recorder.hold_behind_all(payload);
        self.hold_client(held, turn);
    }
}

fn own_payload(head: Bytes, body: Bytes) -> Judged<Payload> {
    own_piece(head, body, Bytes::new())
}

/// Adds what lets a listed browser origin read the answer (Fetch standard, CORS protocol).
pub(super) fn push_cors<'a>(origin: Option<&'a Bytes>, fields: &mut Vec<(&'static str, &'a [u8])>) {
    if let Some(origin) = origin {
        fields.push(("Access-Control-Allow-Origin", &origin[..]));
        fields.push((
            "Access-Control-Expose-Headers",
            b"Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, Stenograph-Exchange",
        ));
        fields.push(("Vary", b"Origin"));
    }
}

/// The answer that tells a fault.
pub(super) fn refusal_text(
    exchange: &Exchange,
    fault: Fault,
    status: u16,
    with_body: bool,
) -> Judged<Payload> {
    let disposition = fault.disposition();
    let mut fields: Vec<(&'static str, &[u8])> = Vec::new();
    let challenge = (status == 401).then(|| {
        let route = exchange.route();
        let token = match fault {
            Fault::Token(fault) => Some(fault),
            _ => Some(token::TokenFault::Expired),
        };
        metadata::challenge(&route.metadata_url, token)
    });
    if let Some(challenge) = &challenge {
        fields.push(("WWW-Authenticate", challenge.as_bytes()));
    }
    let retry_after = heads::retry_after(&disposition);
    if let Some(seconds) = &retry_after {
        fields.push(("Retry-After", seconds.as_bytes()));
    }
    if status == 405 {
        fields.push(("Allow", b"POST, GET, DELETE, OPTIONS"));
    }
    push_cors(exchange.origin.as_ref(), &mut fields);
    let body = with_body.then(|| {
        let id = exchange.rpc_id.as_deref();
        let error = heads::rpc_error(id, disposition.code, &fault.message(), exchange.id);
        if status == 200 && exchange.accepts.events && !exchange.accepts.json {
            let mut event = Vec::with_capacity(error.len() + 32);
            event.extend_from_slice(b"event: message\ndata: ");
            event.extend_from_slice(&error);
            event.extend_from_slice(b"\n\n");
            ("text/event-stream", Bytes::from(event))
        } else {
            ("application/json", error)
        }
    });
    let own = OwnAnswer { status, body, close: exchange.close, fields: &fields };
    let (head, body) = heads::own_answer(exchange.id, &own);
    own_payload(head, body)
}

/// The key of the pseudonyms that callers see in this exchange.
pub(super) fn pseudonym_key(exchange: &Exchange, turn: &mut Turn<'_>) -> [u8; 32] {
    let session = exchange.session.map(|(session, _)| session).unwrap_or_default();
    turn.env.pseudonyms.key(&exchange.settings.pseudonym_key, session)
}

/// Fills the credentials in the head as it came, and looks whether anything else in it is found by a
/// rule. From here on the head is fit for the record, or is filled on its way there.
///
/// # Errors
/// The head may not go on: a mirrored argument cannot be read, or a rule blocks it.
fn look_at_head(
    exchange: &mut Exchange,
    fields: &head::Fields,
    turn: &mut Turn<'_>,
) -> Result<(), Fault> {
    let key = pseudonym_key(exchange, turn);
    let head = &mut exchange.head;
    let secret: Vec<_> = fields
        .iter(head)
        .filter(|field| match field.known {
            Some(Name::Authorization | Name::ProxyAuthorization | Name::Cookie | Name::Dpop) => {
                true
            }
            Some(_) => false,
            None => names_a_credential(field.name),
        })
        .map(|field| field.value_span)
        .collect();
    for span in secret {
        head[span.range()].fill(b'*');
    }
    let params: Vec<_> = fields
        .iter(head)
        .filter(|field| matches!(field.known, Some(Name::McpParam | Name::McpName)))
        .map(|field| field.value_span)
        .collect();
    let scanner = &mut turn.env.scanner;
    let mut result = Ok(());
    for span in params {
        let fine = fill_encoded(&mut head[span.range()], scanner, &key);
        result = result.and(fine);
    }
    exchange.head_clean = Some(scanner.is_clean(head, Direction::Request));
    result
}

/// A mirrored argument in its base64 form (see [`decode_field`]): what a rule finds in it is filled in
/// the decoded bytes, which keeps the length of the encoded ones. In the other form it is left as it is.
fn fill_encoded(
    value: &mut [u8],
    scanner: &mut guard::Scanner,
    key: &[u8; 32],
) -> Result<(), Fault> {
    use base64::Engine;
    let decoded = match decode_field(value) {
        Some(std::borrow::Cow::Borrowed(_)) => return Ok(()),
        Some(std::borrow::Cow::Owned(decoded)) => decoded,
        None => {
            value.fill(b'*');
            return Err(Fault::HeaderMismatch("Mcp-Param"));
        }
    };
    let action = match scanner.judge_field(&decoded, Direction::Request) {
        None | Some((_, RuleAction::Alert)) => return Ok(()),
        Some((_, action)) => action,
    };
    let filled = scanner.fill_field(&decoded, Direction::Request, key);
    let encoded = base64::engine::general_purpose::STANDARD.encode(filled);
    let start = value.len() - encoded.len() - 2;
    value[start..start + encoded.len()].copy_from_slice(encoded.as_bytes());
    match action {
        RuleAction::Block => Err(Fault::RequestBlocked),
        _ => Ok(()),
    }
}

/// The recorded copy of the request head: credentials filled, the rest scanned and filled.
fn record_head(
    exchange: &mut Exchange,
    fields: &head::Fields,
    turn: &mut Turn<'_>,
) -> (Bytes, Vec<Finding>) {
    if exchange.head.is_empty() {
        return (Bytes::new(), Vec::new());
    }
    if exchange.head_clean.is_none() {
        // Why the result does not matter here: the head goes nowhere but into the record.
        let _ = look_at_head(exchange, fields, turn);
    }
    let mut head = std::mem::take(&mut exchange.head);
    for span in [Some(exchange.request.path), exchange.request.query].into_iter().flatten() {
        if span.of(&head).contains(&b'%') && encodes_a_secret(span.of(&head), &mut turn.env.scanner)
        {
            head[span.range()].fill(b'*');
        }
    }
    let findings = match exchange.head_clean {
        Some(true) => Vec::new(),
        _ => turn.env.scanner.fill_text(&mut head, Direction::Request),
    };
    (head.freeze(), findings)
}

/// Bound: how often the target of a request may be percent-encoded over.
const TARGET_LEVELS_MAX: usize = 3;

/// Whether a part of the target holds what a rule masks or blocks, as it stands or percent-decoded:
/// whoever reads the target behind us decodes it.
fn encodes_a_secret(part: &[u8], scanner: &mut guard::Scanner) -> bool {
    if part.is_empty() {
        return false;
    }
    let mut text = part.to_vec();
    for _ in 0..=TARGET_LEVELS_MAX {
        let found = scanner.judge_field(&text, Direction::Request);
        if found.is_some_and(|(_, action)| action != RuleAction::Alert) {
            return true;
        }
        let decoded = percent_decoded(&text);
        if decoded == text {
            return false;
        }
        text = decoded;
    }
    true
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| (*byte as char).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Fields outside the known ones whose name says that a credential stands in them.
pub(super) fn names_a_credential(name: &[u8]) -> bool {
    const WORDS: [&[u8]; 7] =
        [b"auth", b"token", b"secret", b"api-key", b"apikey", b"password", b"cookie"];
    let lower = name.to_ascii_lowercase();
    WORDS.iter().any(|word| memchr::memmem::find(&lower, word).is_some())
}

/// Fills every secret in what the record says of the call in words.
fn hide_words(exchange: &mut Exchange, turn: &mut Turn<'_>) {
    let mut fill = |text: &[u8]| turn.env.scanner.fill_words(text, Direction::Request);
    exchange.rpc_id = exchange.rpc_id.take().map(|id| Bytes::from(fill(&id)));
    exchange.rpc_method = exchange.rpc_method.take().map(|method| fill(method.as_bytes()));
    for target in &mut exchange.targets {
        target.name = fill(target.name.as_bytes());
    }
}

pub(super) fn count_findings(findings: &[Finding], turn: &mut Turn<'_>) {
    for finding in findings {
        turn.env.metrics.found(finding.action);
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

/// MCP 2026-07-28, streamable HTTP: an intermediary that reads the body checks that the routing fields
/// agree with it; somebody behind us may route by the fields alone.
fn agree(
    fields: &head::Fields,
    exchange: &mut Exchange,
    message: &mcp::Message,
    body: &[u8],
) -> Result<(), Fault> {
    let head = &exchange.head;
    let in_body = message.protocol_version.as_ref().map(|text| text.decode(body));
    let in_head = fields.get(head, Name::McpProtocolVersion);
    if let Some(in_body) = &in_body
        && in_head != Some(in_body.as_bytes())
    {
        return Err(Fault::HeaderMismatch("MCP-Protocol-Version"));
    }
    let modern = in_head.is_some_and(|version| version >= MODERN);
    exchange.era = Some(if modern { Era::Modern } else { Era::Handshake });

    let named = fields.get(head, Name::McpMethod);
    match (named, exchange.rpc_method.as_deref()) {
        (Some(named), Some(method)) if named == method.as_bytes() => {}
        (Some(_), _) => return Err(Fault::HeaderMismatch("Mcp-Method")),
        (None, _) if modern && message.class == Class::Request => {
            return Err(Fault::HeaderMismatch("Mcp-Method"));
        }
        (None, _) => {}
    }
    let routed = matches!(
        exchange.rpc_method.as_deref(),
        Some(
            "tools/call"
                | "prompts/get"
                | "resources/read"
                | "tasks/get"
                | "tasks/update"
                | "tasks/cancel"
        )
    );
    let target = exchange.targets.first().filter(|_| routed);
    match (fields.get(head, Name::McpName), target) {
        (Some(named), Some(target)) => {
            let decoded = decode_field(named).ok_or(Fault::HeaderMismatch("Mcp-Name"))?;
            if decoded != target.name.as_bytes() {
                return Err(Fault::HeaderMismatch("Mcp-Name"));
            }
        }
        (Some(_), None) => return Err(Fault::HeaderMismatch("Mcp-Name")),
        (None, Some(_)) if modern && message.class == Class::Request => {
            return Err(Fault::HeaderMismatch("Mcp-Name"));
        }
        (None, _) => {}
    }
    Ok(())
}

/// MCP 2026-07-28: `Mcp-Name` and `Mcp-Param-*` may be `=?base64?…?=`, exactly so.
fn decode_field(value: &[u8]) -> Option<std::borrow::Cow<'_, [u8]>> {
    use base64::Engine;
    match value.strip_prefix(b"=?base64?").and_then(|rest| rest.strip_suffix(b"?=")) {
        Some(encoded) => base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .ok()
            .map(std::borrow::Cow::Owned),
        None => Some(std::borrow::Cow::Borrowed(value)),
    }
}

fn metadata_at(settings: &Settings, path: &[u8]) -> Option<Bytes> {
    const WELL_KNOWN: &[u8] = b"/.well-known/oauth-protected-resource";
    let rest = path.strip_prefix(WELL_KNOWN)?;
    if rest.is_empty() && settings.routes.len() == 1 {
        return Some(settings.routes[0].metadata.clone());
    }
    settings
        .routes
        .iter()
        .find(|route| {
            // The public path of `resource` and the path at this listener may differ behind another
            // proxy; both lead to the document.
            route.metadata_path.as_bytes() == path || route.path.as_bytes() == rest
        })
        .map(|route| route.metadata.clone())
}

/// The route with the longest path that is `path` or a whole-segment prefix of it.
fn route_at(settings: &Settings, path: &[u8]) -> Option<usize> {
    settings.routes.iter().position(|route| {
        path.strip_prefix(route.path.as_bytes())
            .is_some_and(|rest| rest.is_empty() || (rest[0] == b'/' && suffix_is_plain(rest)))
    })
}

/// A query with the session parameter of the 2024-11-05 transport, in either spelling.
fn names_a_session(query: &[u8]) -> bool {
    query.split(|byte| matches!(byte, b'&' | b';')).any(|pair| {
        let name = pair.split(|&byte| byte == b'=').next().unwrap_or_default();
        name.eq_ignore_ascii_case(b"session_id") || name.eq_ignore_ascii_case(b"sessionId")
    })
}

/// What stands behind the route's path goes on to the upstream, so nothing in it may be read in two
/// ways: no dot segment, no escape, no backslash.
fn suffix_is_plain(rest: &[u8]) -> bool {
    let symbol = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
    rest.iter().all(symbol)
        && rest.split(|&byte| byte == b'/').all(|segment| segment != b"." && segment != b"..")
        && memchr::memmem::find(rest, b"//").is_none()
}

/// The upstream's target for the path that was asked for.
fn suffix_target(exchange: &Exchange) -> String {
    let route = exchange.route();
    let path = exchange.request.path.of(&exchange.head);
    let rest = &path[route.path.len()..];
    let rest = std::str::from_utf8(rest).expect("the suffix is plain ASCII");
    format!(
        "{}{rest}",
        if rest.is_empty() { &route.target } else { route.target.trim_end_matches('/') }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_in_the_query_is_nobodys() {
        assert!(names_a_session(b"session_id=1") && names_a_session(b"a=b&sessionId=1"));
        assert!(!names_a_session(b"session=1&x=session_id"));
    }

    #[test]
    fn a_path_suffix_is_plain_or_unknown() {
        assert!(suffix_is_plain(b"/a/b.c"));
        for bad in ["/../x", "/a/./b", "/%2e%2e/x", "/a%2fb", "/a\\b", "//x", "/a;b"] {
            assert!(!suffix_is_plain(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_base64_field_is_decoded_before_it_is_compared() {
        assert_eq!(decode_field(b"=?base64?ZWNobw==?=").as_deref(), Some(&b"echo"[..]));
        assert_eq!(
            decode_field(b"=?BASE64?ZWNobw==?=").as_deref(),
            Some(&b"=?BASE64?ZWNobw==?="[..])
        );
        assert_eq!(decode_field(b"=?base64?ZWNobw?="), None);
        assert_eq!(decode_field(b"echo").as_deref(), Some(&b"echo"[..]));
    }
}
