//! What waits for the record, and what may leave because of it.
//!
//! Everything a connection says goes through here in order: an emission is an entry for the record
//! and, with it, the bytes that may leave once that entry has reached its level. An entry that finds
//! the writer's queue full comes back and is tried again when the record went on; meanwhile nothing
//! more is read. One that is larger than any entry may be is refused at once, with what it releases.

use bytes::{Bytes, BytesMut};

use super::super::fault::Fault;
use super::super::metrics;
use super::exchange::Exchange;
use super::{Action, Connection, Link, Phase, ToClient, Turn};
use crate::guard::{Judged, Payload};
use crate::limits::{Limits, STREAM_AHEAD_PIECES_MAX};
use crate::record::entry::ENTRY_BYTES_MAX;
use crate::record::{Entry, Held, Kind, Level, PartKind, Released, SubmitFault, Ticket};

/// Which side bytes go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    /// The client, before the answer begins (RFC 9110 §15.2).
    Interim,
    Upstream,
}

/// An entry, and what may leave once it is recorded.
pub(super) struct Emission {
    entry: Entry,
    out: Option<(Side, Judged<Payload>)>,
}

impl Emission {
    /// An entry that releases nothing.
    pub(super) fn entry(entry: Entry) -> Emission {
        Emission { entry, out: None }
    }

    /// An entry that releases an answer, or a piece of one.
    pub(super) fn answer(entry: Entry, payload: Judged<Payload>) -> Emission {
        Emission { entry, out: Some((Side::Client, payload)) }
    }

    /// An entry that releases an interim answer.
    pub(super) fn interim(entry: Entry, payload: Judged<Payload>) -> Emission {
        Emission { entry, out: Some((Side::Interim, payload)) }
    }

    /// The same entry, releasing nothing.
    pub(super) fn withheld(self) -> Emission {
        Emission { entry: self.entry, out: None }
    }

    /// An entry that releases a request.
    pub(super) fn request(entry: Entry, payload: Judged<Payload>) -> Emission {
        Emission { entry, out: Some((Side::Upstream, payload)) }
    }
}

/// Bytes whose entry is in the writer's hands.
pub(super) struct HeldOut {
    side: Side,
    /// Ordinal of the entry, and the bytes that it releases.
    ordinal: u32,
    bytes: u64,
    held: Held<Judged<Payload>>,
}

impl HeldOut {
    pub(super) fn waits_for(&self) -> (Ticket, Level) {
        self.held.waits_for()
    }
}

fn bytes_of(payload: &Payload) -> u64 {
    payload.iter().map(|piece| piece.len() as u64).sum()
}

/// Bytes that wait to be sent.
fn payload_bytes(waiting: &[ToClient]) -> u64 {
    waiting
        .iter()
        .map(|out| match out {
            ToClient::Payload(payload) => bytes_of(payload),
            ToClient::Unavailable(text) => text.len() as u64,
        })
        .sum()
}

impl Connection {
    /// Hands an emission to the record, behind those that still wait.
    pub(super) fn emit(&mut self, emission: Emission, turn: &mut Turn<'_>) {
        // Room for one, not for four: mostly it leaves at once.
        self.unsubmitted.reserve_exact(1);
        self.unsubmitted.push_back(emission);
        self.record_since_ns.get_or_insert(turn.now.mono_ns);
    }

    /// Bytes that wait for the record, for their turn, or for the client to read. A sum over few: see
    /// [`Connection::is_far_ahead`].
    pub(super) fn waiting_bytes(&self) -> u64 {
        let held: u64 = self.held.iter().map(|held| held.bytes).sum();
        let split = match &self.phase {
            Phase::Stream { splits: Some(splits), .. } => splits.waiting_bytes(),
            _ => 0,
        };
        held + split + payload_bytes(&self.to_client) + self.sending_bytes
    }

    /// So much of a stream waits that no more is taken from the upstream. What waits wakes the machine when
    /// it goes on.
    pub(super) fn is_far_ahead(&self, limits: &Limits) -> bool {
        !self.unsubmitted.is_empty()
            || self.held.len() + self.to_client.len() >= STREAM_AHEAD_PIECES_MAX
            || self.waiting_bytes() >= limits.stream_ahead_bytes_max
    }

    /// Holds bytes for the client behind what is already held.
    pub(super) fn hold_client(&mut self, held: Held<Judged<Payload>>, turn: &mut Turn<'_>) {
        let held = HeldOut { side: Side::Client, ordinal: 0, bytes: 0, held };
        self.held.push_back(held);
        self.record_since_ns.get_or_insert(turn.now.mono_ns);
    }

    /// Submits what waits, releases what is recorded, starts to send what is released. True when
    /// anything moved, so that the phase can look again.
    pub(super) fn pump(&mut self, turn: &mut Turn<'_>) -> bool {
        let sends = self.sending_since_ns.is_some();
        let before = (self.unsubmitted.len(), self.held.len(), self.has_request());
        while let Some(Emission { entry, out }) = self.unsubmitted.pop_front() {
            let (level, ordinal) = (entry.level, entry.ordinal);
            match turn.env.recorder.submit(entry) {
                Ok(ticket) => {
                    if let Some((side, payload)) = out {
                        let bytes = bytes_of(&payload);
                        let held = turn.env.recorder.hold(ticket, level, payload);
                        self.held.push_back(HeldOut { side, ordinal, bytes, held });
                    }
                }
                Err((entry, SubmitFault::TooLarge)) => {
                    self.record_less(Emission { entry, out }, turn);
                }
                Err((entry, SubmitFault::Full | SubmitFault::Ended)) => {
                    self.unsubmitted.push_front(Emission { entry, out });
                    break;
                }
            }
        }
        while let Some(HeldOut { side, ordinal, bytes, held }) = self.held.pop_front() {
            match held.release(turn.env.recorder.progress()) {
                Ok(released) => match side {
                    Side::Client | Side::Interim if self.client_broken => {}
                    Side::Interim => self.to_client.push(ToClient::Payload(released)),
                    Side::Client => {
                        self.begins = true;
                        self.to_client_ordinals.push((ordinal, bytes));
                        self.to_client.push(ToClient::Payload(released));
                    }
                    Side::Upstream => {
                        // Whatever ended the exchange meanwhile, nobody asks for it then.
                        if let Phase::Forward { request, .. } = &mut self.phase {
                            *request = Some(released);
                        }
                    }
                },
                Err(held) => {
                    self.held.push_front(HeldOut { side, ordinal, bytes, held });
                    break;
                }
            }
        }
        if !self.waits_for_record() {
            self.record_since_ns = None;
        }
        if self.sending_since_ns.is_none() && !self.to_client.is_empty() {
            self.sending_since_ns = Some(turn.now.mono_ns);
            self.sending_bytes = payload_bytes(&self.to_client);
            self.sending_ordinals = std::mem::take(&mut self.to_client_ordinals);
            turn.out.push(Action::SendClient(std::mem::take(&mut self.to_client)));
            if std::mem::take(&mut self.begins)
                && let Some(exchange) = &mut self.exchange
            {
                exchange.begun = true;
            }
        }
        // What begins to be sent makes room behind it, as what is released does.
        before != (self.unsubmitted.len(), self.held.len(), self.has_request())
            || sends != self.sending_since_ns.is_some()
    }

    /// The request may leave and has not.
    fn has_request(&self) -> bool {
        matches!(self.phase, Phase::Forward { request: Some(_), .. })
    }

    /// No entry may be as large as this one, now or later: what it would have released stays inside, and a
    /// refusal takes its place.
    fn record_less(&mut self, emission: Emission, turn: &mut Turn<'_>) {
        let Emission { entry, out } = emission;
        let side = out.as_ref().map(|(side, _)| *side);
        // Nothing of the exchange was said behind it, so the refusal takes its number.
        let last = self.unsubmitted.is_empty();
        let fault = |answer| Fault::EntryTooLarge {
            seen: entry.plain_bytes() as u64,
            allowed: ENTRY_BYTES_MAX as u64,
            answer,
        };
        match (side, &self.phase, &mut self.exchange) {
            (Some(Side::Upstream), Phase::Forward { .. }, Some(exchange)) if last => {
                exchange.head = head_of(&entry);
                exchange.asked = false;
                take_back(exchange, &entry);
                let fault = fault(false);
                self.refuse(fault, turn);
            }
            (Some(Side::Client), Phase::Finish, Some(exchange))
                if last && entry.kind == Kind::Answer =>
            {
                exchange.answer_head = head_of(&entry);
                take_back(exchange, &entry);
                let fault = fault(true);
                self.refuse(fault, turn);
            }
            (Some(Side::Client), Phase::Stream { .. }, Some(exchange)) if last => {
                take_back(exchange, &entry);
                exchange.answered &= exchange.answer_ordinal != Some(entry.ordinal);
                let fault = fault(true);
                self.drop_link(false, turn);
                self.end_stream(Some(fault), turn);
            }
            // A refusal holds none of the message in what it releases, and other entries release nothing:
            // these are told without the message.
            _ if (out.is_none() || entry.kind == Kind::Refusal) && !is_bare(&entry) => {
                let mut entry = entry;
                entry.parts.retain(|part| part.kind != PartKind::Body);
                entry.originals.clear();
                self.unsubmitted.push_front(Emission { entry, out });
            }
            _ => self.recorder_unavailable(turn),
        }
    }

    /// The recorder cannot write, or takes longer than its bound: nothing that waits leaves. The
    /// caller gets the constant text, and the connection ends.
    pub(super) fn recorder_unavailable(&mut self, turn: &mut Turn<'_>) {
        turn.env.metrics.refused(Fault::Recorder.disposition().label);
        let waiting_end = self.exchange.as_ref().is_some_and(|exchange| exchange.ended);
        // What was said stays said, as far as the queue takes it: once the writer can write again, the
        // record shows what was refused meanwhile.
        for emission in std::mem::take(&mut self.unsubmitted) {
            let _ = turn.env.recorder.submit(emission.withheld().entry);
        }
        self.held.clear();
        self.to_client.clear();
        self.to_client_ordinals.clear();
        self.begins = false;
        self.record_since_ns = None;
        self.drop_link(false, turn);
        let Some(exchange) = &mut self.exchange else { return };
        if !waiting_end {
            exchange.outcome = "recorder-unavailable";
            if !exchange.begun {
                exchange.status = Some(503);
            }
            if let Some(end) = exchange.end_emission(turn.now) {
                let _ = turn.env.recorder.submit(end.entry);
            }
        }
        exchange.close = true;
        exchange.terminal = true;
        exchange.outcome = "recorder-unavailable";
        exchange.counted = metrics::Outcome::Failed;
        if waiting_end || self.client_broken {
            self.close(turn);
            return;
        }
        let id = exchange.id;
        let begun = exchange.begun;
        let streaming = exchange.streaming && begun;
        if begun && !streaming {
            // A part of a whole answer is out already; nothing sensible can follow it.
            self.close(turn);
            return;
        }
        let text = unavailable(streaming, exchange.forwarded, id);
        if self.sending_since_ns.is_none() {
            self.sending_since_ns = Some(turn.now.mono_ns);
            turn.out.push(Action::SendClient(vec![ToClient::Unavailable(text)]));
        } else {
            self.to_client.push(ToClient::Unavailable(text));
        }
        self.phase = Phase::Finish;
        debug_assert!(matches!(self.link, Link::None));
    }
}

/// The entry holds nothing of a message.
fn is_bare(entry: &Entry) -> bool {
    entry.originals.is_empty() && entry.parts.iter().all(|part| part.kind != PartKind::Body)
}

/// The head that the entry holds, fit for the record.
fn head_of(entry: &Entry) -> BytesMut {
    let head = entry.parts.iter().find(|part| part.kind == PartKind::HeadIn);
    head.map_or_else(BytesMut::new, |part| BytesMut::from(&part.bytes[..]))
}

/// The exchange goes on as if `entry` had not been made; the next one says how long its message was.
fn take_back(exchange: &mut Exchange, entry: &Entry) {
    exchange.ordinal = entry.ordinal;
    let token = entry.originals.iter().find(|original| original.kind == PartKind::Token);
    exchange.token = token.map(|original| Box::new(original.bytes.clone()));
    let body = entry.parts.iter().find(|part| part.kind == PartKind::Body);
    exchange.kept_back = body.map(|part| Box::new((part.bytes.len(), None)));
}

const UNAVAILABLE_HEAD: &str = "HTTP/1.1 503 Service Unavailable\r\nStenograph-Exchange: ";
const UNAVAILABLE_TAIL: &str = "\r\nContent-Type: application/json\r\nRetry-After: 1\r\n\
Connection: close\r\nContent-Length: 135\r\n\r\n\
{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-31005,\"message\":\"the record cannot be \
written, so nothing was forwarded; try again later\"}}";
const FORWARDED_TAIL: &str = "\r\nContent-Type: application/json\r\nRetry-After: 1\r\n\
Connection: close\r\nContent-Length: 132\r\n\r\n\
{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-31005,\"message\":\"the answer cannot be \
recorded and is withheld; the call may have run\"}}";
const STREAM_HEAD: &str = "b3\r\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\
\"code\":-31005,\"message\":\"the record cannot be written; the stream ends\",\
\"data\":{\"exchange\":\"";
const STREAM_TAIL: &str = "\"}}}\n\n\r\n0\r\n\r\n";

/// The text that the recorder cannot write: constants around the exchange id.
fn unavailable(streaming: bool, forwarded: bool, id: crate::types::ExchangeId) -> Released<Bytes> {
    match (streaming, forwarded) {
        (true, _) => Released::unrecorded(STREAM_HEAD, id, STREAM_TAIL),
        (false, false) => Released::unrecorded(UNAVAILABLE_HEAD, id, UNAVAILABLE_TAIL),
        (false, true) => Released::unrecorded(UNAVAILABLE_HEAD, id, FORWARDED_TAIL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ExchangeId;

    #[test]
    fn the_constant_lengths_are_true() {
        for tail in [UNAVAILABLE_TAIL, FORWARDED_TAIL] {
            let body = tail.split_once("\r\n\r\n").unwrap().1;
            assert!(
                tail.contains(&format!("Content-Length: {}\r\n", body.len())),
                "{}",
                body.len()
            );
            let value: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(value["error"]["code"], -31005);
        }
        let text = format!("{STREAM_HEAD}{}{STREAM_TAIL}", ExchangeId::default());
        let (size, rest) = text.split_once("\r\n").unwrap();
        let chunk = rest.strip_suffix("\r\n0\r\n\r\n").unwrap();
        assert_eq!(usize::from_str_radix(size, 16).unwrap(), chunk.len(), "{:x}", chunk.len());
        let data = chunk.strip_prefix("event: message\ndata: ").unwrap();
        let value: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(value["error"]["code"], -31005);
    }
}
