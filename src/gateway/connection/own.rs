//! Answers of the gateway itself: refusals, metadata, preflights, interim answers.

use bytes::Bytes;

use super::super::entries::Decision;
use super::super::fault::Fault;
use super::super::heads::{self, OwnAnswer};
use super::super::metrics;
use super::answer::answer_head_record;
use super::exchange::Exchange;
use super::judge::Stopped;
use super::outbox::Emission;
use super::stream::own_piece;
use super::told::tell;
use super::upstream_head::{count_findings, hide_words, record_head};
use super::{Connection, Phase, Turn};
use crate::auth::{metadata, token};
use crate::guard::{Judged, Payload};
use crate::record::{Kind, PartKind};
use crate::types::{Direction, Finding};
use crate::wire::head::{Fields, Framing, Method};

impl Connection {
    /// Answers with what the fault says, and records it.
    pub(super) fn refuse(&mut self, fault: Fault, turn: &mut Turn<'_>) {
        self.refuse_with(fault, None, Vec::new(), turn);
    }

    pub(super) fn refuse_with(
        &mut self,
        fault: Fault,
        body: Option<Stopped>,
        mut findings: Vec<Finding>,
        turn: &mut Turn<'_>,
    ) {
        let disposition = fault.disposition();
        turn.env.metrics.refused(disposition.label);
        if let Some(exchange) = &mut self.exchange {
            tell(exchange, &self.fields, (self.source, &self.source_text), fault, turn);
        }
        // Why not of what is too large: a copy of it would be too large as well.
        if !matches!(
            fault,
            Fault::BodyTooLarge { .. } | Fault::AnswerTooLarge { .. } | Fault::Memory
        ) {
            self.keep_back_partial();
        }
        self.drop_link(false, turn);
        let source = self.source;
        let behind = self.body_is_behind_us();
        let Some(exchange) = &mut self.exchange else { return };
        let (head_in, head_findings) = if exchange.answer_head.is_empty() {
            record_head(exchange, &self.fields, turn)
        } else {
            answer_head_record(exchange, turn)
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
            | Fault::HostForeign
            | Fault::HandleForeign(_)
            | Fault::AccessEnded => Decision::Denied,
            Fault::RequestBlocked | Fault::AnswerBlocked | Fault::AnswerUnfit => Decision::Blocked,
            Fault::Upstream(_)
            | Fault::UpstreamBusy
            | Fault::Recorder
            | Fault::Unwitnessed
            | Fault::KeysUnavailable => Decision::Failed,
            _ => Decision::Refused,
        };
        exchange.counted = match decision {
            Decision::Blocked => metrics::Outcome::Blocked,
            Decision::Failed => metrics::Outcome::Failed,
            _ => metrics::Outcome::Refused,
        };
        let direction = match fault {
            Fault::Upstream(_)
            | Fault::AnswerBlocked
            | Fault::AnswerUnfit
            | Fault::AnswerTooLarge { .. }
            | Fault::EventTooLarge { .. }
            | Fault::EntryTooLarge { answer: true, .. }
            | Fault::StreamTooLarge { .. }
            | Fault::StreamTooOld => Direction::Response,
            _ => Direction::Request,
        };
        let payload = refusal_text(exchange, fault, status, with_body);
        if exchange.call.is_none() {
            // Why: id, method and targets are never masked, so they may be what is refused; no rule has
            // passed them yet.
            hide_words(exchange, turn);
        }
        let mut verdict = exchange.verdict(direction, decision, &self.source_text);
        verdict.refused_for(fault);
        verdict.code = with_body.then_some(disposition.code);
        verdict.findings = &findings;
        verdict.unfit = body.as_ref().and_then(|body| body.unfit.as_deref());
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
            entry = exchange.with_kept_back(entry);
            if !head_in.is_empty() {
                entry = entry.part(PartKind::HeadIn, head_in);
            }
            if let Some(Stopped { body, original, .. }) = body {
                entry = Exchange::body(entry, body, original);
            }
            self.emit(Emission::answer(entry, payload), turn);
        } else {
            self.emit_counted(payload, turn);
        }
        self.phase = Phase::Finish;
    }

    /// The client ended before the exchange had an answer to send.
    pub(super) fn abandon(&mut self, outcome: &'static str, turn: &mut Turn<'_>) {
        let _ = self.give_up_waiting(turn);
        self.keep_back_partial();
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
    pub(super) fn body_is_behind_us(&mut self) -> bool {
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

    pub(super) fn answer_continue(&mut self, turn: &mut Turn<'_>) {
        let exchange = self.exchange.as_mut().expect("an exchange has begun");
        let entry = exchange.entry(Kind::Interim, turn.now);
        let payload =
            own_payload(Bytes::from_static(b"HTTP/1.1 100 Continue\r\n\r\n"), Bytes::new());
        self.emit(Emission::interim(entry, payload), turn);
    }

    pub(super) fn answer_metadata(&mut self, document: Bytes, turn: &mut Turn<'_>) {
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

    pub(super) fn answer_options(&mut self, turn: &mut Turn<'_>) {
        let exchange = self.exchange.as_ref().expect("an exchange has begun");
        let preflight = exchange.origin.is_some();
        let allow: (&'static str, &[u8]) = ("Allow", b"POST, GET, DELETE, OPTIONS");
        let headers = allowed_headers(&self.fields, &exchange.head);
        let with: &[(&'static str, &[u8])] = &[
            allow,
            ("Access-Control-Allow-Methods", b"POST, GET, DELETE"),
            ("Access-Control-Allow-Headers", &headers),
            ("Access-Control-Max-Age", b"600"),
        ];
        let fields = if preflight { with } else { &with[..1] };
        self.answer_own(204, None, fields, "options", turn);
    }

    /// An answer of the gateway itself that is no refusal.
    pub(super) fn answer_own(
        &mut self,
        status: u16,
        body: Option<(&'static str, Bytes)>,
        fields: &[(&'static str, &[u8])],
        outcome: &'static str,
        turn: &mut Turn<'_>,
    ) {
        let source = self.source;
        let exchange = self.exchange.as_mut().expect("an exchange has begun");
        exchange.status = Some(status);
        exchange.outcome = outcome;
        exchange.terminal = true;
        exchange.answering = true;
        let mut all: Vec<(&'static str, &[u8])> = fields.to_vec();
        let origin = exchange.origin.clone();
        push_cors(origin.as_deref(), &mut all);
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
    pub(super) fn emit_counted(&mut self, payload: Judged<Payload>, turn: &mut Turn<'_>) {
        let exchange = self.exchange.as_ref().expect("an exchange has begun");
        debug_assert!(exchange.answering);
        let held = turn.env.recorder.hold_behind_all(payload);
        self.hold_client(held, turn);
    }
}

/// Fields that a page may send, beyond those that every page may (Fetch standard, CORS-safelisted).
const PAGE_FIELDS: &[u8] = b"Authorization, Content-Type, Accept, Mcp-Session-Id, \
    MCP-Protocol-Version, Last-Event-ID, Mcp-Method, Mcp-Name";
/// Bound: mirrored arguments that one preflight names; a tool has a handful.
const PAGE_PARAMS_MAX: usize = 32;

/// The value of `Access-Control-Allow-Headers`: the fields of MCP, and the mirrored arguments
/// (`Mcp-Param-*`, MCP 2026-07-28) that the preflight names. Why by name: in an answer to a request with
/// credentials a browser takes no pattern for a name.
fn allowed_headers(fields: &Fields, head: &[u8]) -> Vec<u8> {
    let mut allowed = PAGE_FIELDS.to_vec();
    let asked = fields
        .iter(head)
        .filter(|field| field.name.eq_ignore_ascii_case(b"Access-Control-Request-Headers"))
        .flat_map(|field| field.value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii);
    let symbol = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let param = |name: &&[u8]| {
        const PREFIX: &[u8] = b"mcp-param-";
        name.len() > PREFIX.len()
            && name[..PREFIX.len()].eq_ignore_ascii_case(PREFIX)
            && name.iter().all(symbol)
    };
    for name in asked.filter(param).take(PAGE_PARAMS_MAX) {
        allowed.extend_from_slice(b", ");
        allowed.extend_from_slice(name);
    }
    allowed
}

pub(super) fn own_payload(head: Bytes, body: Bytes) -> Judged<Payload> {
    own_piece(head, body, Bytes::new())
}

/// Adds what lets a listed browser origin read the answer (Fetch standard, CORS protocol).
pub(super) fn push_cors<'a>(origin: Option<&'a [u8]>, fields: &mut Vec<(&'static str, &'a [u8])>) {
    if let Some(origin) = origin {
        fields.push(("Access-Control-Allow-Origin", origin));
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
    push_cors(exchange.origin.as_deref(), &mut fields);
    let body = with_body.then(|| {
        let id = exchange.rpc_id.as_deref();
        let error = heads::fault_error(id, fault, exchange.id);
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
