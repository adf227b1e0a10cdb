//! Answers that are event streams: every event is judged whole, recorded, then released.

use bytes::{Bytes, BytesMut};

use super::super::entries::{Decision, Verdict};
use super::super::fault::{Fault, UpstreamFault};
use super::super::{heads, metrics};
use super::answer::{Whose, answer_head, answer_head_record, whose};
use super::exchange::Exchange;
use super::judge::{FromServer, Stopped};
use super::outbox::Emission;
use super::told::tell;
use super::upstream_head::count_findings;
use super::waiting::Said;
use super::{Action, Connection, Link, Phase, Turn};
use crate::auth::handle::{self, Purpose};
use crate::guard::{self, Judged, Payload};
use crate::record::{Entry, Kind, PartKind};
use crate::types::{Direction, Era, Finding};
use crate::wire::body::{Decoder, Step};
use crate::wire::head::{self, Fields, Method};
use crate::wire::mcp::Class;
use crate::wire::sse::{self, Item};

/// WHATWG HTML §9.2.6: how long a client waits before it connects again. Clamped to what neither
/// hammers the server nor strands the client.
const RETRY_MS: std::ops::RangeInclusive<u64> = 100..=600_000;

/// RFC 9112 §7.1: the chunk that ends the body.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl Connection {
    /// The head says that events follow.
    pub(super) fn open_stream(
        &mut self,
        answer: head::Response,
        turn: &mut Turn<'_>,
    ) -> Result<(), UpstreamFault> {
        let exchange = self.exchange.as_mut().expect("an answer belongs to an exchange");
        // Why first: where it cannot be written, the refusal tells the head that came.
        let head = answer_head(exchange, 200, Some("text/event-stream"), None, turn.env.draining)
            .map_err(|_| UpstreamFault::Handle)?;
        let (head_in, findings) = answer_head_record(exchange, turn);
        count_findings(&findings, turn);
        exchange.answering = true;
        exchange.streaming = true;
        if exchange.http != Method::Get {
            turn.out.push(Action::UpstreamStreams);
        }
        if let Some(call) = &mut exchange.call {
            // Why a copy: it is kept as long as the stream, and so is the buffer that it came in.
            call.bytes = Bytes::copy_from_slice(&call.bytes);
        }
        // Both heads are recorded.
        self.fields = Fields::new();
        let mut verdict =
            exchange.verdict(Direction::Response, Decision::Allowed, &self.source_text);
        verdict.findings = &findings;
        let verdict = verdict.part();
        let entry = exchange
            .entry(Kind::StreamOpen, turn.now)
            .part(PartKind::Verdict, verdict)
            .part(PartKind::HeadIn, head_in)
            .part(PartKind::HeadOut, head.clone());
        let idle_ms_max = exchange.settings.limits.stream_idle_ms_max;
        let payload = own_piece(head, Bytes::new(), Bytes::new());
        self.phase = Phase::Stream {
            decoder: Decoder::of_response(answer.framing),
            payload: BytesMut::new(),
            events: Box::new(sse::Reader::new()),
            splits: None,
            deadline_ns: turn.now.after_ms(idle_ms_max),
            until_ns: turn.now.after_ms(exchange.settings.limits.stream_ms_max),
        };
        self.emit(Emission::answer(entry, payload), turn);
        Ok(())
    }

    pub(super) fn step_stream(&mut self, turn: &mut Turn<'_>) -> bool {
        match self.next_item(turn) {
            Ok(Next::Items { comment, event }) => {
                if comment {
                    self.on_comment(turn);
                }
                if let Some(event) = event
                    && let Err(fault) = self.on_event(event, turn)
                {
                    self.drop_link(false, turn);
                    self.end_stream(Some(fault), turn);
                }
                true
            }
            Ok(Next::More) => false,
            Ok(Next::End { keeps }) => {
                self.drop_link(keeps, turn);
                // MCP 2025-11-25: a server may end a stream before the answer; the client comes back
                // with Last-Event-ID. In the modern era that is a lost call, which the client sees by
                // itself.
                self.end_stream(None, turn);
                true
            }
            Err(Fault::Upstream(fault)) => {
                self.fail_upstream(fault, turn);
                true
            }
            Err(fault) => {
                self.drop_link(false, turn);
                self.end_stream(Some(fault), turn);
                true
            }
        }
    }

    /// Takes one event off what arrived. Comments that arrived together are one: a heartbeat says that the
    /// server is there, and a server may send a thousand of them in the bytes of one event.
    fn next_item(&mut self, turn: &mut Turn<'_>) -> Result<Next, Fault> {
        let far_ahead = {
            let exchange = self.exchange.as_ref().expect("a stream belongs to an exchange");
            self.is_far_ahead(&exchange.settings.limits)
        };
        if far_ahead {
            return Ok(Next::More);
        }
        let waiting = self.waiting_bytes();
        let exchange = self.exchange.as_mut().expect("a stream belongs to an exchange");
        let limits = &exchange.settings.limits;
        let mut comment = false;
        let Link::Open { rx, ended, broken, .. } = &mut self.link else {
            return Ok(Next::More);
        };
        let Phase::Stream { decoder, payload, events, deadline_ns, .. } = &mut self.phase else {
            unreachable!("only called in this phase")
        };
        exchange.answer_memory.shrink_to(waiting + events.unterminated_bytes() as u64);
        if rx.as_ref().is_some_and(|rx| !rx.is_empty()) {
            *deadline_ns = turn.now.after_ms(limits.stream_idle_ms_max);
        }
        loop {
            // Why before the buffer: it may be with the kernel, and what came earlier waits for nobody.
            if !payload.is_empty() {
                // Why by the place in the stream: the same events go out wherever the input is cut.
                let allowed = limits.stream_bytes_max;
                let room = allowed.saturating_sub(events.position());
                if room == 0 {
                    return Err(Fault::StreamTooLarge { allowed });
                }
                let within = usize::try_from(room).unwrap_or(usize::MAX).min(payload.len());
                let before = events.position();
                let (used, item) = match events.read(&payload[..within], limits) {
                    Ok(read) => read,
                    Err(fault) if fault.rule.is_bound() => {
                        let allowed = limits.event_bytes_max;
                        return Err(Fault::EventTooLarge { fault, allowed });
                    }
                    Err(fault) => {
                        // The event up to the line that breaks the rule, and what came behind it.
                        let used = (events.position() - before) as usize;
                        let mut came = events.unterminated();
                        if used < payload.len() {
                            came.push(b'\n');
                            came.extend_from_slice(&payload[used..]);
                        }
                        exchange.keep_back(&came);
                        return Err(Fault::Upstream(UpstreamFault::Events(fault)));
                    }
                };
                let _ = payload.split_to(used);
                match item {
                    Some(Item::Event(event)) => {
                        return Ok(Next::Items { comment, event: Some(event) });
                    }
                    Some(Item::Comment) => comment = true,
                    None => {}
                }
                continue;
            }
            let Some(rx) = rx.as_mut() else {
                return Ok(match comment {
                    true => Next::Items { comment, event: None },
                    false => Next::More,
                });
            };
            let step =
                decoder.step(rx).map_err(|fault| Fault::Upstream(UpstreamFault::Body(fault)))?;
            match step {
                Step::Data(span) => {
                    let gathered = events.unterminated_bytes() as u64 + u64::from(span.len);
                    if !exchange.answer_memory.grow_to(waiting + gathered) {
                        return Err(Fault::Memory);
                    }
                    exchange.upstream_bytes += span.end() as u64;
                    *payload = rx.split_to(span.end());
                    let _ = payload.split_to(span.start as usize);
                }
                Step::Skip(used) => {
                    exchange.upstream_bytes += used as u64;
                    let _ = rx.split_to(used);
                }
                // What ends here ends at the next look as well.
                Step::More if comment => return Ok(Next::Items { comment, event: None }),
                Step::End { used } => {
                    exchange.upstream_bytes += used as u64;
                    let _ = rx.split_to(used);
                    if comment {
                        return Ok(Next::Items { comment, event: None });
                    }
                    return Ok(Next::End { keeps: exchange.upstream_keeps });
                }
                Step::More if *ended => {
                    if *broken || decoder.at_close().is_err() {
                        return Err(Fault::Upstream(UpstreamFault::Closed));
                    }
                    return Ok(Next::End { keeps: false });
                }
                Step::More => return Ok(Next::More),
            }
        }
    }

    /// Heartbeats keep proxies and clients alive; what the server wrote in them stays here.
    fn on_comment(&mut self, turn: &mut Turn<'_>) {
        let exchange = self.exchange.as_mut().expect("a stream belongs to an exchange");
        let entry = exchange.entry(Kind::Event, turn.now);
        let (head, tail) = chunk(BytesMut::from(sse::COMMENT), 0, b"");
        self.emit(Emission::answer(entry, own_piece(head, Bytes::new(), tail)), turn);
    }

    fn on_event(&mut self, event: sse::Event, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let exchange = self.exchange.as_mut().expect("a stream belongs to an exchange");
        for field in [event.name.as_deref(), event.id.as_deref()].into_iter().flatten() {
            // Never masked, because they come back: a hit stops the stream.
            if turn
                .env
                .scanner
                .judge_field(field, Direction::Response)
                .is_some_and(|(_, action)| action != crate::types::RuleAction::Alert)
            {
                return Err(Fault::Upstream(UpstreamFault::Handle));
            }
        }
        let id = match &event.id {
            // The modern era has no resumption.
            Some(_) if exchange.era == Some(Era::Modern) => None,
            // WHATWG HTML §9.2.6: an empty id resets the client's Last-Event-ID.
            Some(id) if id.is_empty() => Some(String::new()),
            Some(id) => Some(wrap_event_id(exchange, id)?),
            None => None,
        };
        let retry_ms = event.retry_ms.map(|ms| ms.clamp(*RETRY_MS.start(), *RETRY_MS.end()));
        let mut prefix = BytesMut::with_capacity(256);
        sse::write_event_prefix(
            &mut prefix,
            event.name.as_deref(),
            id.as_deref().map(str::as_bytes),
            retry_ms,
        );
        match event.data {
            // A name by itself says nothing.
            None if id.is_none() && retry_ms.is_none() => Ok(()),
            None => {
                let (name, id) = (event.name.as_deref(), id.as_deref().map(str::as_bytes));
                let mut fields = BytesMut::new();
                sse::write_event(&mut fields, name, id, retry_ms, None);
                self.say_fields(fields, b"", turn);
                Ok(())
            }
            Some(data) if data.is_empty() => {
                // A priming event: an id to come back with, and nothing yet.
                self.say_fields(prefix, sse::EVENT_SUFFIX, turn);
                Ok(())
            }
            Some(data) => self.on_message(data, prefix, turn),
        }
    }

    /// One event, one JSON-RPC message.
    fn on_message(
        &mut self,
        data: BytesMut,
        prefix: BytesMut,
        turn: &mut Turn<'_>,
    ) -> Result<(), Fault> {
        let waiting = self.waiting_bytes();
        let exchange = self.exchange.as_mut().expect("a stream belongs to an exchange");
        exchange.answer_memory.shrink_to(waiting);
        if !exchange.answer_memory.grow_to(waiting + data.len() as u64) {
            return Err(Fault::Memory);
        }
        let mut from_server = FromServer::read(exchange, data, turn)?;
        // Why: our canonical form has one data line for each event.
        from_server.join_lines(exchange, waiting, turn)?;
        let FromServer { bytes: data, message, .. } = &from_server;
        // The stream of a call carries the answer of that call, once; a resumed one (GET) may carry others.
        let of_a_call = exchange.http == Method::Post;
        let whose = match message.class {
            Class::Answer | Class::Error if of_a_call => Some(whose(exchange, message, data)),
            _ => None,
        };
        let answers_call = whose == Some(Whose::Calls);
        if whose == Some(Whose::Others) || (answers_call && exchange.answered) {
            exchange.keep_back(data);
            return Err(Fault::Upstream(UpstreamFault::WrongId));
        }
        if whose == Some(Whose::Nobodys) {
            exchange.upstream_keeps = false;
        }
        let event = Box::new(Said { from_server, prefix, answers_call });
        self.say(event, turn)
    }

    /// A blocked event: an answer's place takes an error with its id, anything else is kept back.
    #[expect(clippy::too_many_arguments, reason = "what is known of one event, used once")]
    pub(super) fn block_event(
        &mut self,
        class: Class,
        id: Option<Bytes>,
        answers_call: bool,
        method: Option<String>,
        findings: Vec<Finding>,
        stopped: Stopped,
        turn: &mut Turn<'_>,
    ) {
        count_findings(&findings, turn);
        let fault = stopped.fault();
        let disposition = fault.disposition();
        turn.env.metrics.refused(disposition.label);
        let exchange = self.exchange.as_mut().expect("a stream belongs to an exchange");
        tell(exchange, &self.fields, (self.source, &self.source_text), fault, turn);
        exchange.answered |= answers_call;
        // Why: an id and a method are never masked, so they may be what the rule blocks. An answer that
        // is not the call's own is dropped then: there is no id to answer with.
        let shown = id.as_deref().map(|id| turn.env.scanner.fill_words(id, Direction::Response));
        let named = method
            .as_deref()
            .map(|method| turn.env.scanner.fill_words(method.as_bytes(), Direction::Response));
        let clean = answers_call || shown.as_deref().map(str::as_bytes) == id.as_deref();
        let mut verdict = event_verdict(
            Decision::Blocked,
            named.as_deref(),
            shown.as_deref().map(str::as_bytes),
            &findings,
        );
        verdict.policy = Some(&exchange.settings.policy_id);
        verdict.names = exchange.tells_names();
        verdict.refused_for(fault);
        verdict.unfit = stopped.unfit.as_deref();
        let takes_place = matches!(class, Class::Answer | Class::Error) && id.is_some() && clean;
        verdict.code = takes_place.then_some(disposition.code);
        let verdict = verdict.part();
        let entry = exchange.entry(Kind::Event, turn.now).part(PartKind::Verdict, verdict);
        let entry = Exchange::body(entry, stopped.body, stopped.original);
        let emission = if takes_place {
            Emission::answer(entry, error_event(exchange, id.as_deref(), fault, false))
        } else {
            Emission::entry(entry)
        };
        self.emit(emission, turn);
    }

    /// Ends the stream towards the client; with a fault, its error takes the place of an answer that
    /// is still owed.
    pub(super) fn end_stream(&mut self, fault: Option<Fault>, turn: &mut Turn<'_>) {
        let fault = fault.or(self.give_up_waiting(turn).err());
        let exchange = self.exchange.as_mut().expect("a stream belongs to an exchange");
        let unterminated = match &mut self.phase {
            Phase::Stream { events, decoder, .. } => {
                exchange.chunks = decoder.take_chunks();
                if exchange.kept_back.is_none() && events.unterminated_bytes() > 0 {
                    exchange.keep_back(&events.unterminated());
                }
                events.unterminated_bytes()
            }
            _ => 0,
        };
        self.phase = Phase::Finish;
        let Some(fault) = fault else {
            if unterminated > 0 {
                exchange.outcome = "upstream-unterminated-event";
            }
            // The chunk that ends the body rides on an entry of its own, as every byte does.
            let entry = exchange.entry(Kind::Event, turn.now);
            let last = own_piece(Bytes::from_static(LAST_CHUNK), Bytes::new(), Bytes::new());
            self.emit(Emission::answer(entry, last), turn);
            return;
        };
        let disposition = fault.disposition();
        turn.env.metrics.refused(disposition.label);
        tell(exchange, &self.fields, (self.source, &self.source_text), fault, turn);
        exchange.outcome = disposition.label;
        exchange.counted = metrics::Outcome::Failed;
        exchange.close |= disposition.close;
        let owed = exchange.http == Method::Post && !exchange.answered && exchange.rpc_id.is_some();
        let mut verdict =
            exchange.verdict(Direction::Response, Decision::Failed, &self.source_text);
        if fault == Fault::AccessEnded {
            verdict.decision = Decision::Denied;
        }
        verdict.refused_for(fault);
        verdict.code = owed.then_some(disposition.code);
        let verdict = verdict.part();
        let entry = exchange.entry(Kind::Refusal, turn.now).part(PartKind::Verdict, verdict);
        let entry = exchange.with_kept_back(entry);
        let payload = if owed {
            exchange.answered = true;
            let id = exchange.rpc_id.clone();
            error_event(exchange, id.as_deref(), fault, true)
        } else {
            own_piece(Bytes::from_static(LAST_CHUNK), Bytes::new(), Bytes::new())
        };
        self.emit(Emission::answer(entry, payload), turn);
    }

    /// Bytes that were judged but not yet released when access ended stay inside; their entries
    /// remain in the record, and the cut that follows says that they were not released.
    pub(super) fn withhold(&mut self) {
        self.held.clear();
        self.to_client.clear();
        self.to_client_ordinals.clear();
        self.begins = false;
        let waiting = std::mem::take(&mut self.unsubmitted);
        self.unsubmitted = waiting.into_iter().map(Emission::withheld).collect();
    }
}

enum Next {
    /// Comments, and the event behind them.
    Items {
        comment: bool,
        event: Option<sse::Event>,
    },
    More,
    End {
        keeps: bool,
    },
}

/// What stands before the data of an event: its name, its id, the time to come back.
pub(super) fn with_prefix(entry: Entry, prefix: &[u8]) -> Entry {
    match prefix.is_empty() {
        true => entry,
        false => entry.part(PartKind::HeadOut, Bytes::copy_from_slice(prefix)),
    }
}

pub(super) fn event_verdict<'a>(
    decision: Decision,
    method: Option<&'a str>,
    id: Option<&'a [u8]>,
    findings: &'a [Finding],
) -> Verdict<'a> {
    let mut verdict = Verdict::new(Direction::Response, decision);
    verdict.method = method;
    verdict.id = id.and_then(|id| std::str::from_utf8(id).ok());
    verdict.findings = findings;
    verdict
}

fn wrap_event_id(exchange: &Exchange, id: &[u8]) -> Result<String, Fault> {
    let unusable = Fault::Upstream(UpstreamFault::Handle);
    let (Some(owner), Some((session, _))) = (exchange.owner(), exchange.session) else {
        return Err(unusable);
    };
    handle::wrap(&exchange.settings.handle_key, owner, Purpose::Event, session, id).ok_or(unusable)
}

/// RFC 9112 §7.1: one chunk. What stands before the data of the event, and what stands behind it.
pub(super) fn chunk(prefix: BytesMut, data_bytes: usize, suffix: &'static [u8]) -> (Bytes, Bytes) {
    let bytes = prefix.len() + data_bytes + suffix.len();
    let mut head = BytesMut::with_capacity(prefix.len() + 12);
    head.extend_from_slice(format!("{bytes:x}\r\n").as_bytes());
    head.extend_from_slice(&prefix);
    let mut tail = BytesMut::with_capacity(suffix.len() + 2);
    tail.extend_from_slice(suffix);
    tail.extend_from_slice(b"\r\n");
    (head.freeze(), tail.freeze())
}

/// An error in the place of an answer, as an event; with `last` the stream ends behind it.
fn error_event(
    exchange: &Exchange,
    id: Option<&[u8]>,
    fault: Fault,
    last: bool,
) -> Judged<Payload> {
    let error = heads::fault_error(id, fault, exchange.id);
    let mut prefix = BytesMut::with_capacity(64);
    sse::write_event_prefix(&mut prefix, Some(b"message"), None, None);
    let (head, tail) = chunk(prefix, error.len(), sse::EVENT_SUFFIX);
    let tail = if last { Bytes::from([&tail[..], LAST_CHUNK].concat()) } else { tail };
    own_piece(head, error, tail)
}

/// A piece of an answer that the gateway wrote itself.
pub(super) fn own_piece(head: Bytes, body: Bytes, tail: Bytes) -> Judged<Payload> {
    guard::join(guard::own(head), guard::own(body), guard::own(tail))
}
