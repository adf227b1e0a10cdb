//! From the first byte of the upstream's answer to the answer in the client's hands; and how an
//! exchange is cut.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::super::entries::{Decision, Verdict};
use super::super::fault::{Fault, UpstreamFault};
use super::super::heads::HeadText;
use super::super::metrics;
use super::exchange::Exchange;
use super::judge::{FromServer, Stopped, learn};
use super::outbox::Emission;
use super::own::push_cors;
use super::upstream_head::{count_findings, names_a_credential};
use super::{Connection, Link, Phase, Turn, routing};
use crate::auth::handle::{self, Purpose};
use crate::guard::{self, Outcome};
use crate::limits::RECEIVE_BYTES;
use crate::record::{Kind, PartKind};
use crate::types::{Direction, Era};
use crate::wire::Read;
use crate::wire::body::{Chunks, Decoder, Step};
use crate::wire::coding::{self, Coding, CodingRule};
use crate::wire::head::{self, Framing, Media, Method, Name};
use crate::wire::mcp::{self, Class};

/// Why an exchange is cut that outlasts the drain.
pub(super) const DRAINED: &str = "draining";

/// Bound: interim answers before the one that counts. Reading them costs the worker and brings nothing;
/// a server that sent them without end would have it for as long as an answer may take.
const INTERIMS_MAX: u32 = 64;

impl Connection {
    pub(super) fn step_answer_head(&mut self, turn: &mut Turn<'_>) -> bool {
        let Link::Open { rx: Some(rx), ended, .. } = &mut self.link else { return false };
        let exchange = self.exchange.as_mut().expect("an answer belongs to an exchange");
        let limits = &exchange.settings.limits;
        match head::read_response(rx, limits, exchange.http, &mut exchange.answer_fields) {
            Read::Done { value, used } if (100..200).contains(&value.status) => {
                exchange.interims += 1;
                if value.status == 101 || exchange.interims > INTERIMS_MAX {
                    exchange.upstream_bytes += used as u64;
                    exchange.answer_head = rx.split_to(used);
                    self.fail_upstream(UpstreamFault::Status(value.status), turn);
                } else {
                    // RFC 9110 §15.2: interim answers carry nothing that a caller needs.
                    let head = rx.split_to(used);
                    self.record_interim(head, value.status, turn);
                }
                true
            }
            Read::Done { value, used } => {
                let head = rx.split_to(used);
                exchange.upstream_bytes += used as u64;
                if let Err(fault) = self.on_answer_head(head, value, turn) {
                    self.fail_upstream(fault, turn);
                }
                true
            }
            Read::More if *ended => {
                self.fail_upstream(UpstreamFault::Closed, turn);
                true
            }
            Read::More => false,
            Read::Broken(fault) => {
                // Where its fields begin and end is not known, so no credential could be filled in it.
                exchange.keep_back(rx);
                self.fail_upstream(UpstreamFault::Head(fault), turn);
                true
            }
        }
    }

    /// An interim answer of the upstream stays here; the record has its head.
    fn record_interim(&mut self, head: BytesMut, status: u16, turn: &mut Turn<'_>) {
        let exchange = self.exchange.as_mut().expect("an answer belongs to an exchange");
        exchange.upstream_bytes += head.len() as u64;
        exchange.answer_head = head;
        let (head_in, findings) = answer_head_record(exchange, turn);
        count_findings(&findings, turn);
        let mut verdict = Verdict::new(Direction::Response, Decision::Allowed);
        verdict.reason = Some("interim-not-relayed");
        verdict.findings = &findings;
        let verdict = verdict.part();
        let mut entry = exchange.entry(Kind::Interim, turn.now);
        entry.status = status;
        let entry = entry.part(PartKind::Verdict, verdict).part(PartKind::HeadIn, head_in);
        self.emit(Emission::entry(entry), turn);
    }

    fn on_answer_head(
        &mut self,
        head: BytesMut,
        answer: head::Response,
        turn: &mut Turn<'_>,
    ) -> Result<(), UpstreamFault> {
        let exchange = self.exchange.as_mut().expect("an answer belongs to an exchange");
        // From here on whatever is recorded of the answer tells its head, a refusal too.
        exchange.answer_head = head;
        let head = &exchange.answer_head;
        exchange.upstream_keeps = answer.keep_alive;
        let status = answer.status;
        exchange.coding = None;
        if let Some(value) = exchange.answer_fields.get(head, Name::ContentEncoding)
            && !value.eq_ignore_ascii_case(b"identity")
        {
            exchange.coding = Coding::of(value);
            let events = |value| matches!(head::media(value), Media::EventStream);
            let streams = exchange.answer_fields.get(head, Name::ContentType).is_some_and(events);
            let decodes = |coding| exchange.route().decode.contains(&coding);
            // Why no streams: what was decoded could be released before the check at the end.
            if streams || !exchange.coding.is_some_and(decodes) {
                return Err(UpstreamFault::Encoded);
            }
        }
        // The upstream's own challenge and redirects are not the caller's business: its credential is
        // the gateway's, and its addresses are behind the gateway.
        if status == 401 || status == 407 || (300..400).contains(&status) {
            return Err(UpstreamFault::Status(status));
        }
        if let Some(session) = exchange.answer_fields.get(head, Name::McpSessionId)
            && exchange.era != Some(Era::Modern)
        {
            exchange.upstream_session = Some(session.into());
        }
        exchange.status = Some(status);
        let media = exchange.answer_fields.get(head, Name::ContentType).map(head::media);
        let settings = exchange.settings.clone();
        let limits = &settings.limits;
        match media {
            Some(Media::EventStream) if status == 200 => {
                self.open_stream(answer, turn)?;
                Ok(())
            }
            _ => {
                let whole = match answer.framing {
                    Framing::Length(length) if length > limits.answer_bytes_max => {
                        self.answer_too_large(limits.answer_bytes_max, turn);
                        return Ok(());
                    }
                    Framing::Length(length) => {
                        if !exchange.answer_memory.grow_to(length) {
                            self.drop_link(false, turn);
                            self.refuse(Fault::Memory, turn);
                            return Ok(());
                        }
                        Some(length as usize)
                    }
                    Framing::Empty => Some(0),
                    Framing::Chunked | Framing::UntilClose => None,
                };
                self.phase = Phase::AnswerBody {
                    decoder: Decoder::of_response(answer.framing),
                    whole,
                    body: BytesMut::new(),
                    deadline_ns: turn.now.after_ms(limits.answer_ms_max),
                };
                Ok(())
            }
        }
    }

    /// Bytes that the answer still needs, for the next read.
    pub(super) fn answer_bytes_wanted(&self) -> usize {
        match (&self.phase, &self.link) {
            // Bound: the length was checked against `answer_bytes_max` and taken from the budget.
            (Phase::AnswerBody { whole: Some(length), .. }, Link::Open { rx: Some(rx), .. }) => {
                length.saturating_sub(rx.len()).max(RECEIVE_BYTES)
            }
            _ => RECEIVE_BYTES,
        }
    }

    pub(super) fn step_answer_body(&mut self, turn: &mut Turn<'_>) -> bool {
        match self.gather_answer() {
            Ok(Some(body)) => {
                self.on_answer(body, turn);
                true
            }
            Ok(None) => false,
            Err(Fault::Upstream(fault)) => {
                self.fail_upstream(fault, turn);
                true
            }
            Err(Fault::AnswerTooLarge { allowed }) => {
                self.answer_too_large(allowed, turn);
                true
            }
            Err(fault) => {
                self.drop_link(false, turn);
                self.refuse(fault, turn);
                true
            }
        }
    }

    fn gather_answer(&mut self) -> Result<Option<BytesMut>, Fault> {
        let exchange = self.exchange.as_mut().expect("an answer belongs to an exchange");
        let Link::Open { rx: Some(rx), ended, broken, .. } = &mut self.link else {
            return Ok(None);
        };
        let Phase::AnswerBody { decoder, whole, body, .. } = &mut self.phase else {
            unreachable!("only called in this phase")
        };
        let closed = Fault::Upstream(UpstreamFault::Closed);
        if let Some(length) = *whole {
            if rx.len() >= length {
                exchange.upstream_bytes += length as u64;
                // What stands behind it in `rx` is no part of the answer.
                *whole = Some(0);
                return Ok(Some(rx.split_to(length)));
            }
            return if *ended { Err(closed) } else { Ok(None) };
        }
        loop {
            let step =
                decoder.step(rx).map_err(|fault| Fault::Upstream(UpstreamFault::Body(fault)))?;
            let seen = match step {
                Step::Data(span) => body.len() as u64 + u64::from(span.len),
                _ => body.len() as u64,
            };
            let allowed = exchange.settings.limits.answer_bytes_max;
            if seen.saturating_add(decoder.announced_bytes()) > allowed {
                return Err(Fault::AnswerTooLarge { allowed });
            }
            match step {
                Step::Data(span) => {
                    if !exchange.answer_memory.grow_to(seen) {
                        return Err(Fault::Memory);
                    }
                    exchange.upstream_bytes += span.end() as u64;
                    body.extend_from_slice(span.of(rx));
                    let _ = rx.split_to(span.end());
                }
                Step::Skip(used) => {
                    exchange.upstream_bytes += used as u64;
                    let _ = rx.split_to(used);
                }
                Step::End { used } => {
                    exchange.upstream_bytes += used as u64;
                    let _ = rx.split_to(used);
                    exchange.chunks = decoder.take_chunks();
                    return Ok(Some(std::mem::take(body)));
                }
                Step::More if *ended => {
                    if *broken || decoder.at_close().is_err() {
                        return Err(closed);
                    }
                    exchange.upstream_keeps = false;
                    return Ok(Some(std::mem::take(body)));
                }
                Step::More => return Ok(None),
            }
        }
    }

    /// The body of the answer is whole.
    fn on_answer(&mut self, body: BytesMut, turn: &mut Turn<'_>) {
        let exchange = self.exchange.as_mut().expect("an answer belongs to an exchange");
        let status = exchange.status.unwrap_or(502);
        let media =
            exchange.answer_fields.get(&exchange.answer_head, Name::ContentType).map(head::media);
        let body = match decoded(exchange, body) {
            Ok(body) => body,
            Err(fault) => {
                self.drop_link(false, turn);
                return self.refuse(fault, turn);
            }
        };
        let exchange = self.exchange.as_mut().expect("an answer belongs to an exchange");
        let result = match media {
            _ if body.is_empty() => self.relay_bare(status, turn),
            Some(Media::Json) => self.relay_json(body, status, turn),
            // A refusal in prose (Express, proxies) still tells the client by its status; the prose
            // stays behind, it cannot be judged as a message.
            _ if (400..500).contains(&status) => {
                exchange.keep_back(&body);
                self.relay_bare(status, turn)
            }
            // 202 with a word in it, as servers of the HTTP+SSE transport send it.
            _ if status == 202 => {
                exchange.keep_back(&body);
                self.relay_bare(status, turn)
            }
            _ => {
                exchange.keep_back(&body);
                Err(Fault::Upstream(UpstreamFault::MediaType))
            }
        };
        // Why not before: an answer that is not this call's means that answers and calls no longer
        // match on the connection, and the next call there would get this one's.
        let keeps = self.exchange.as_ref().is_some_and(|exchange| exchange.upstream_keeps);
        self.drop_link(keeps && result.is_ok(), turn);
        if let Err(fault) = result {
            self.refuse(fault, turn);
        }
    }

    /// A status without a message: accepted notifications, ended sessions, refusals in prose.
    fn relay_bare(&mut self, status: u16, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let exchange = self.exchange.as_mut().expect("an answer belongs to an exchange");
        let fits = match status {
            202 | 204 => true,
            // RFC 9110 §9.3.5: DELETE may answer 200 with nothing to say.
            200 => exchange.http != Method::Post || exchange.rpc_id.is_none(),
            400..=499 => true,
            _ => false,
        };
        if !fits {
            return Err(Fault::Upstream(UpstreamFault::Status(status)));
        }
        // Why first: where it cannot be written, the refusal tells the head that came.
        let head = answer_head(exchange, status, None, Some(0), turn.env.draining)?;
        let (head_in, findings) = answer_head_record(exchange, turn);
        count_findings(&findings, turn);
        exchange.answering = true;
        exchange.answered = true;
        let mut verdict =
            exchange.verdict(Direction::Response, Decision::Allowed, &self.source_text);
        verdict.findings = &findings;
        verdict.chunks = Some(&exchange.chunks);
        let verdict = verdict.part();
        exchange.chunks = Chunks::default();
        let entry = exchange
            .entry(Kind::Answer, turn.now)
            .part(PartKind::Verdict, verdict)
            .part(PartKind::HeadIn, head_in)
            .part(PartKind::HeadOut, head.clone());
        let entry = exchange.with_kept_back(entry);
        let payload =
            guard::join(guard::own(head), guard::own(Bytes::new()), guard::own(Bytes::new()));
        self.emit(Emission::answer(entry, payload), turn);
        self.phase = Phase::Finish;
        Ok(())
    }

    /// A JSON answer: strict reading, list filter, scan; then the record.
    fn relay_json(
        &mut self,
        body: BytesMut,
        status: u16,
        turn: &mut Turn<'_>,
    ) -> Result<(), Fault> {
        let exchange = self.exchange.as_mut().expect("an answer belongs to an exchange");
        if status >= 500 || (status > 202 && status < 400) {
            exchange.keep_back(&body);
            return Err(Fault::Upstream(UpstreamFault::Status(status)));
        }
        let from_server = FromServer::read(exchange, body, turn)?;
        if let Err(fault) = own_answer_id(exchange, &from_server.message, &from_server.bytes) {
            exchange.keep_back(&from_server.bytes);
            return Err(fault);
        }
        let FromServer { filtered, rewritten, .. } = from_server;
        let outcome = from_server.scan(exchange, true, turn);
        match outcome {
            Outcome::Pass(judgement) => {
                // Why first: where it cannot be written, the refusal tells the head that came.
                let head = answer_head(
                    exchange,
                    status,
                    Some("application/json"),
                    Some(judgement.bytes.len()),
                    turn.env.draining,
                )?;
                learn(exchange, &judgement, turn);
                let exchange = self.exchange.as_mut().expect("an answer belongs to an exchange");
                let (head_in, mut findings) = answer_head_record(exchange, turn);
                findings.extend(judgement.findings);
                count_findings(&findings, turn);
                exchange.answering = true;
                exchange.answered = true;
                let decision = if judgement.edited { Decision::Masked } else { Decision::Allowed };
                let mut verdict =
                    exchange.verdict(Direction::Response, decision, &self.source_text);
                verdict.findings = &findings;
                verdict.edited = judgement.edited || rewritten;
                verdict.filtered = filtered;
                verdict.unfit = judgement.unfit.as_deref();
                verdict.chunks = Some(&exchange.chunks);
                let verdict = verdict.part();
                exchange.chunks = Chunks::default();
                let entry = exchange
                    .entry(Kind::Answer, turn.now)
                    .part(PartKind::Verdict, verdict)
                    .part(PartKind::HeadIn, head_in)
                    .part(PartKind::HeadOut, head.clone());
                let body = (*judgement.bytes).clone();
                // What came is the encoded body: that is the original, whatever was masked in its text.
                let original = match exchange.coded.take() {
                    Some(coded) => coded.1,
                    None => judgement.original,
                };
                let entry = Exchange::body(entry, body, original);
                let payload =
                    guard::join(guard::own(head), judgement.bytes, guard::own(Bytes::new()));
                self.emit(Emission::answer(entry, payload), turn);
                self.phase = Phase::Finish;
                Ok(())
            }
            Outcome::Blocked { findings, masked, mut original, unfit, .. } => {
                if let Some(coded) = &mut exchange.coded {
                    original = coded.1.take();
                }
                let body = Stopped { body: masked, original, unfit };
                self.refuse_with(body.fault(), Some(body), findings, turn);
                Ok(())
            }
            Outcome::Refused(fault) => Err(Fault::Guard(fault)),
        }
    }

    /// The answer is over its bound: it is not read on, and the call's place takes an error.
    fn answer_too_large(&mut self, allowed: u64, turn: &mut Turn<'_>) {
        self.drop_link(false, turn);
        self.refuse(Fault::AnswerTooLarge { allowed }, turn);
    }

    /// What has come of a message that will never be whole.
    pub(super) fn keep_back_partial(&mut self) {
        let Some(exchange) = &mut self.exchange else { return };
        if exchange.kept_back.is_some() {
            return;
        }
        match (&self.phase, &self.link) {
            (Phase::Body { decoder: Some(_), body, .. }, _) => exchange.keep_back(body),
            (Phase::Body { decoder: None, .. }, _) => {
                if let (Framing::Length(length), Some(rx)) = (exchange.request.framing, &self.rx) {
                    exchange.keep_back(&rx[..rx.len().min(length as usize)]);
                }
            }
            // A head that is not whole, or what came behind one that is refused.
            (Phase::AnswerHead { .. }, Link::Open { rx: Some(rx), .. }) => exchange.keep_back(rx),
            (Phase::AnswerBody { whole: Some(length), .. }, Link::Open { rx: Some(rx), .. }) => {
                exchange.keep_back(&rx[..rx.len().min(*length)]);
            }
            (Phase::AnswerBody { whole: None, body, .. }, _) => exchange.keep_back(body),
            (Phase::Stream { events, .. }, _) => exchange.keep_back(&events.unterminated()),
            _ => {}
        }
    }

    /// The upstream failed. Before the answer began this is a status; in a stream the call's place
    /// takes an error.
    pub(super) fn fail_upstream(&mut self, fault: UpstreamFault, turn: &mut Turn<'_>) {
        let fault = Fault::Upstream(fault);
        self.keep_back_partial();
        self.drop_link(false, turn);
        if matches!(self.phase, Phase::Stream { .. }) {
            self.end_stream(Some(fault), turn);
        } else {
            self.refuse(fault, turn);
        }
    }

    /// Access ended (deny list, grants, `exp`): nothing more passes, in either direction.
    pub(super) fn watch_access(&mut self, turn: &mut Turn<'_>) {
        let Some(exchange) = &mut self.exchange else { return };
        let Some(caller) = &mut exchange.caller else { return };
        // A whole answer that waits for its record has not left yet and can still be withheld; what has
        // begun to leave, and refusals of ours, go on.
        let withheld = !exchange.begun
            && !exchange.ended
            && exchange.counted == metrics::Outcome::Answered
            && (!self.held.is_empty() || !self.unsubmitted.is_empty());
        match self.phase {
            Phase::Linger { .. } | Phase::Closed => return,
            Phase::Finish if !withheld => return,
            _ => {}
        }
        if turn.now.utc_s() >= caller.identity.expires_s {
            self.cut("token-expired", turn);
            return;
        }
        if turn.env.snapshot.generation == self.generation {
            return;
        }
        if matches!(self.phase, Phase::Keys { .. }) {
            return;
        }
        self.generation = turn.env.snapshot.generation;
        let snapshot = turn.env.snapshot.clone();
        if let Some(reason) = snapshot.deny.denies(&caller.identity) {
            self.cut(reason.by.as_str(), turn);
            return;
        }
        // Routes may have moved: the upstream is found again by its name.
        let settings = snapshot.settings.clone();
        let name = &exchange.settings.routes[exchange.route.expect("a caller has a route")].name;
        let Some(route) = settings.routes.iter().position(|route| route.name == *name) else {
            self.cut("upstream-removed", turn);
            return;
        };
        if routing::moved(exchange, &settings.routes[route]) {
            self.cut("upstream-changed", turn);
            return;
        }
        let caller = exchange.caller.as_mut().expect("it was there at the begin");
        let access = settings.policy.access(&caller.identity, route as u16);
        Arc::make_mut(caller).access = access;
        let still = match &exchange.call {
            Some(call) => settings.policy.judge_message(&caller.access, &call.message, &call.bytes),
            None => settings.policy.judge_http(&caller.access),
        };
        match still {
            Ok(permit) => {
                exchange.route = Some(route);
                exchange.settings = settings;
                exchange.under(permit);
            }
            // A body still on its way is judged when it is whole.
            Err(_) if matches!(self.phase, Phase::Body { .. }) => {
                exchange.route = Some(route);
                exchange.settings = settings;
            }
            Err(denial) => self.cut(denial.reason.as_str(), turn),
        }
    }

    /// Ends the exchange from our side and records why.
    pub(super) fn cut(&mut self, reason: &'static str, turn: &mut Turn<'_>) {
        // What was judged before access ended but is not yet released stays inside.
        let _ = self.give_up_waiting(turn);
        self.withhold();
        let fault = match reason {
            "client-disconnected" => None,
            DRAINED => Some(Fault::Draining),
            _ => Some(Fault::AccessEnded),
        };
        let exchange = self.exchange.as_mut().expect("only exchanges are cut");
        exchange.close = true;
        let mut verdict =
            exchange.verdict(Direction::Response, Decision::Denied, &self.source_text);
        verdict.reason = Some(reason);
        if fault != Some(Fault::AccessEnded) {
            verdict.decision = Decision::Failed;
        }
        let verdict = verdict.part();
        let entry = exchange.entry(Kind::Cut, turn.now);
        let entry = exchange.with_subject(entry).part(PartKind::Verdict, verdict);
        exchange.outcome = reason;
        let streams = matches!(self.phase, Phase::Stream { .. }) && exchange.begun;
        self.emit(Emission::entry(entry), turn);
        // Why behind the entry of the cut: the next one tells it.
        self.keep_back_partial();
        self.drop_link(false, turn);
        match fault {
            None => self.phase = Phase::Finish,
            Some(fault) if streams => self.end_stream(Some(fault), turn),
            Some(fault) => self.refuse(fault, turn),
        }
        if let Some(exchange) = &mut self.exchange {
            exchange.outcome = reason;
            exchange.counted = metrics::Outcome::Cut;
        }
    }
}

/// The body of an answer without its coding; the encoded one stays with the exchange for the record.
fn decoded(exchange: &mut Exchange, body: BytesMut) -> Result<BytesMut, Fault> {
    let Some(coding) = exchange.coding.filter(|_| !body.is_empty()) else { return Ok(body) };
    let settings = exchange.settings.clone();
    let held = body.len() as u64;
    let memory = &mut exchange.answer_memory;
    let mut reserve = |bytes| memory.grow_to(held + bytes);
    match coding::decode(coding, &body, &settings.limits, &mut reserve) {
        Ok(text) => {
            exchange.coded = Some(Box::new((body.len(), exchange.sealed_copy(&body))));
            Ok(text)
        }
        Err(fault) => {
            exchange.keep_back(&body);
            Err(match fault.rule {
                CodingRule::Memory => Fault::Memory,
                CodingRule::TooLong => {
                    Fault::AnswerTooLarge { allowed: settings.limits.answer_bytes_max }
                }
                _ => Fault::Upstream(UpstreamFault::Coding(fault)),
            })
        }
    }
}

/// Word in place of an id with which the Python SDK's servers (1.x) answer what they could not read or
/// know no session for; clients come back to life by its status.
const NOBODYS_ID: &[u8] = b"\"server-error\"";

/// Whose outcome a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// That of the call.
    Calls,
    /// An error of which the server does not say whose it is: it could not read the call (JSON-RPC 2.0 §5).
    Nobodys,
    /// That of another call.
    Others,
}

/// Whose outcome `message` is, a result or an error.
pub(super) fn whose(exchange: &Exchange, message: &mcp::Message, bytes: &[u8]) -> Whose {
    if answers(exchange, message, bytes) {
        return Whose::Calls;
    }
    match &message.id {
        None => Whose::Nobodys,
        Some(id) if message.class == Class::Error && id.span.of(bytes) == NOBODYS_ID => {
            Whose::Nobodys
        }
        Some(_) => Whose::Others,
    }
}

/// A body that is one message answers the call: with the call's id, or as an error that is nobody's. Behind
/// the latter calls and answers may no longer match, so the connection is not used again.
fn own_answer_id(
    exchange: &mut Exchange,
    message: &mcp::Message,
    bytes: &[u8],
) -> Result<(), Fault> {
    let whose = match message.class {
        Class::Answer | Class::Error => whose(exchange, message, bytes),
        // The server's own requests and notifications need a stream.
        Class::Request | Class::Notification => Whose::Others,
    };
    match whose {
        Whose::Calls => Ok(()),
        Whose::Nobodys => {
            exchange.upstream_keeps = false;
            Ok(())
        }
        Whose::Others => Err(Fault::Upstream(UpstreamFault::WrongId)),
    }
}

/// Whether `message` carries the id of the call.
fn answers(exchange: &Exchange, message: &mcp::Message, bytes: &[u8]) -> bool {
    let Some(call) = &exchange.call else { return false };
    match (&call.message.id, &message.id) {
        (Some(asked), Some(given)) => given.same(bytes, asked, &call.bytes),
        _ => false,
    }
}

pub(super) fn mask_of(exchange: &Exchange) -> guard::Mask {
    exchange
        .grant
        .and_then(|grant| exchange.settings.policy.mask(grant))
        .unwrap_or(exchange.settings.mask)
}

/// The recorded copy of the upstream's head: credentials filled, the rest scanned and filled.
pub(super) fn answer_head_record(
    exchange: &mut Exchange,
    turn: &mut Turn<'_>,
) -> (Bytes, Vec<crate::types::Finding>) {
    let mut head = std::mem::take(&mut exchange.answer_head);
    if !head.is_empty() {
        let fields = std::mem::take(&mut exchange.answer_fields);
        // Why: a cookie or a token of the server opens the server, whoever reads it in the record.
        let secret: Vec<_> = fields
            .iter(&head)
            .filter(|field| match field.known {
                Some(known) => known == Name::SetCookie,
                None => names_a_credential(field.name),
            })
            .map(|field| field.value_span)
            .collect();
        for span in secret {
            head[span.range()].fill(b'*');
        }
    }
    let findings = turn.env.scanner.fill_text(&mut head, Direction::Response);
    (head.freeze(), findings)
}

/// The head of an answer that comes from the upstream, written anew. Constants, a handle of ours, and
/// an origin of the configuration: nothing in it needs to be scanned for the record.
pub(super) fn answer_head(
    exchange: &Exchange,
    status: u16,
    media: Option<&str>,
    length: Option<usize>,
    draining: bool,
) -> Result<Bytes, Fault> {
    let mut head = HeadText::answer(status, exchange.id);
    if let Some(media) = media {
        head.field("Content-Type", media.as_bytes());
    }
    match length {
        Some(_) if status == 204 => {}
        Some(bytes) => head.length(bytes),
        None => {
            head.field("Transfer-Encoding", b"chunked");
            // Proxies in front of us (nginx) would hold events back.
            head.field("X-Accel-Buffering", b"no");
        }
    }
    // Lists are cut to the caller's grants, so nothing may be kept for others.
    head.field("Cache-Control", b"private, no-store");
    if exchange.initialize
        && let (Some(original), Some((session, _)), Some(owner)) =
            (&exchange.upstream_session, exchange.session, exchange.owner())
    {
        let key = &exchange.settings.handle_key;
        let handle = handle::wrap(key, owner, Purpose::Session, session, original)
            .ok_or(Fault::Upstream(UpstreamFault::Handle))?;
        head.field("Mcp-Session-Id", handle.as_bytes());
    }
    let mut cors = Vec::new();
    push_cors(exchange.origin.as_deref(), &mut cors);
    for (name, value) in cors {
        head.field(name, value);
    }
    if status == 405 {
        head.field("Allow", b"POST");
    }
    if exchange.close || draining {
        head.field("Connection", b"close");
    }
    Ok(head.end().freeze())
}
