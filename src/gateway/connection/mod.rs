//! One client connection as a machine: events and time in, actions out.
//!
//! The machine sees no socket, clock or file. [`Connection::input`] takes what happened, changes the
//! state as far as it goes, and leaves the operations that the worker shall start in the list of
//! actions. Requests on one connection are answered in order: an exchange begins when the one before
//! it is over, and what is pipelined behind it waits in the receive buffer, within a bound.
//!
//! ```text
//!          +------------------------------- keep-alive ------------------------------+
//!          v                                                                          |
//!   Head -> (Keys) -> Body -> Forward -> AnswerHead -> AnswerBody -----> Finish -> Head
//!     |       |         |        |           |      \-> Stream ----------^  |
//!     +-------+---------+--------+-----------+------ refusal ------------^  +-> Linger -> Closed
//! ```
//!
//! | phase | waits for | goes on when | to |
//! |---|---|---|---|
//! | Head | client bytes | the head is whole | Keys, Body, Forward (GET, DELETE), Finish (refusal) |
//! | Keys | a key set | the snapshot changed, or time is up | as Head |
//! | Body | client bytes | the body is whole | Forward, Finish (refusal) |
//! | Forward | the record, then a connection | the request was handed to the upstream | AnswerHead |
//! | AnswerHead | upstream bytes | the head is whole | AnswerBody, Stream, Finish |
//! | AnswerBody | upstream bytes | the body is whole | Finish |
//! | Stream | upstream bytes | the stream ends or is cut | Finish |
//! | Finish | the record, then the client | all is sent | Head, Linger |
//! | Linger | the client's end | end or bound | Closed |
//!
//! In every phase after the token was judged, the end of access (deny list, grants, `exp`) cuts the
//! exchange; in every phase, a recorder that cannot write refuses it.
//!
//! What leaves does so as `Released<Judged<Payload>>` only: the guard mints the inner, the receipt of
//! the recorder the outer half. The one exception is the text that says that the recorder cannot
//! write; it holds nothing but constants and the exchange id.

mod agreement;
mod answer;
mod exchange;
mod handles;
mod hosts;
mod judge;
mod life;
mod outbox;
mod own;
mod receive;
mod request;
mod routing;
mod stream;
mod told;
mod upstream_head;
mod waiting;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};

pub(super) use self::agreement::VERSIONS;
use self::exchange::{Exchange, Measure};
use self::life::Life;
use self::outbox::{Emission, HeldOut};
pub use self::receive::Receive;
use self::waiting::Waits;
use super::env::Env;
use super::fault::{Fault, UpstreamFault};
use super::metrics::{self, Leg};
use super::secure::Secured;
use crate::auth::token::TokenFault;
use crate::guard::split::Splits;
use crate::guard::{Judged, Payload};
use crate::limits::RECEIVE_BYTES;
use crate::record::{Level, Released, Ticket};
use crate::types::{Era, Now};
use crate::wire::body::Decoder;
use crate::wire::head::{self, Fields, Framing, Method};
use crate::wire::{Read, sse};

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The receive buffer comes back with what the client sent.
    ClientBytes(BytesMut),
    /// The client will send no more; the buffer comes back.
    ClientEnd(BytesMut),
    /// The client connection broke.
    ClientBroken,
    /// Everything handed over was taken by the kernel: so many bytes.
    ClientSent(u64),
    /// The client connection broke after so many bytes of what was handed over.
    ClientSendBroken(u64),
    /// An upstream connection is there.
    UpstreamReady,
    /// An upstream connection is there, protected by TLS as this says.
    UpstreamSecured(Arc<Secured>),
    /// None can be had.
    UpstreamRefused(Fault),
    /// The receive buffer comes back with what the upstream sent.
    UpstreamBytes(BytesMut),
    /// The upstream will send no more; the buffer comes back.
    UpstreamEnd(BytesMut),
    /// The upstream connection broke, or ended under TLS without TLS's word for it (`close_notify`); the
    /// buffer comes back.
    UpstreamBroken(BytesMut),
    /// The bytes handed over that the client has not acknowledged, as [`Action::MeasureClient`] asked.
    ClientMeasured(Option<u64>),
    /// The request was taken by the kernel.
    UpstreamSent,
    /// It was not taken whole. Why this is no [`Event::UpstreamBroken`]: a server may answer early and
    /// close without reading on (RFC 9112 §9.5); what it said is still to be read.
    UpstreamUnsent,
    /// The record went on, the snapshot changed, the drain began, or a deadline passed: look again.
    Wake,
}

/// What leaves towards the client.
#[derive(Debug)]
pub enum ToClient {
    /// Judged and recorded.
    Payload(Released<Judged<Payload>>),
    /// The constant text that the recorder cannot write.
    Unavailable(Released<bytes::Bytes>),
}

/// What the worker shall do.
#[derive(Debug)]
pub enum Action {
    /// Receive from the client, once something has arrived.
    ReadClient(Receive),
    /// Send all of this, then report [`Event::ClientSent`].
    SendClient(Vec<ToClient>),
    /// Send no more to the client (FIN), keep receiving.
    ShutdownClient,
    /// Ask the kernel how many bytes the client has not acknowledged, and report
    /// [`Event::ClientMeasured`] before anything else.
    MeasureClient,
    /// End the client connection; the machine is done when every operation came back.
    CloseClient,
    /// Get a connection to this upstream: a kept or a new one; `stream` when the caller may hold it
    /// open for long.
    OpenUpstream {
        /// Index of the route.
        route: u16,
        /// Not counted against the cap of the upstream.
        stream: bool,
    },
    /// Send this upstream, then report [`Event::UpstreamSent`].
    SendUpstream(Released<Judged<Payload>>),
    /// Receive from the upstream, once something has arrived.
    ReadUpstream(Receive),
    /// The answer on the upstream connection is an event stream, which may stay open for long: it no
    /// longer counts against the cap of the upstream, as if it had been opened for a stream.
    UpstreamStreams,
    /// The exchange is done with the upstream connection (or with waiting for one).
    DropUpstream {
        /// It may serve another exchange: the answer was whole and nothing else arrived.
        reusable: bool,
    },
}

enum Phase {
    Head,
    Keys {
        deadline_ns: u64,
        fault: TokenFault,
    },
    Body {
        decoder: Option<Decoder>,
        body: BytesMut,
        /// When the head was whole, and what the connection had received by then.
        since_ns: u64,
        received_before: u64,
        deadline_ns: u64,
    },
    /// `request` is what the record has released and the upstream has not got.
    Forward {
        deadline_ns: u64,
        request: Option<Released<Judged<Payload>>>,
    },
    AnswerHead {
        deadline_ns: u64,
    },
    AnswerBody {
        decoder: Decoder,
        whole: Option<usize>,
        body: BytesMut,
        deadline_ns: u64,
    },
    /// `payload` is what the decoder gave and the event reader has not read yet.
    Stream {
        decoder: Decoder,
        payload: BytesMut,
        events: Box<sse::Reader>,
        /// What the server said in pieces, and the events that wait because of it.
        splits: Option<Box<Splits<Waits>>>,
        deadline_ns: u64,
        /// The end of any stream.
        until_ns: u64,
    },
    Finish,
    Linger {
        deadline_ns: u64,
        discarded: u64,
    },
    Closed,
}

/// The upstream connection as far as the machine knows it.
enum Link {
    None,
    Asked,
    Open { rx: Option<BytesMut>, sending: bool, ended: bool, broken: bool },
}

/// One client connection.
pub struct Connection {
    source: IpAddr,
    source_text: Box<str>,
    listener: u16,
    /// What arrived and is not taken yet. `None` while the kernel fills it; that is only so when
    /// nothing in it could be acted on.
    rx: Option<BytesMut>,
    /// A receive is under way, into `rx` or into a buffer of its own.
    receiving: bool,
    fields: Fields,
    phase: Phase,
    exchange: Option<Box<Exchange>>,
    link: Link,
    unsubmitted: VecDeque<Emission>,
    held: VecDeque<HeldOut>,
    to_client: Vec<ToClient>,
    /// Ordinals of the entries that released what waits in `to_client`, and the bytes of each.
    to_client_ordinals: Vec<(u32, u64)>,
    /// The same of what the kernel is taking.
    sending_ordinals: Vec<(u32, u64)>,
    sending_since_ns: Option<u64>,
    sending_bytes: u64,
    /// The first bytes of the exchange's answer wait in `to_client`.
    begins: bool,
    record_since_ns: Option<u64>,
    client_ended: bool,
    client_broken: bool,
    requests: u64,
    /// A head has begun to arrive.
    head_begun: bool,
    /// Since then, or since the connection waits for one.
    head_since_ns: u64,
    life: Life,
    generation: u64,
}

/// Bound: how much later than its deadline a wait for the record is looked at, in milliseconds, for the record to
/// be the one that is late. A worker looks within one of its turns.
const RECORD_LATE_MS_MAX: u64 = 100;

/// One turn of the machine: the worker's tools, the time and the list of actions.
struct Turn<'a> {
    env: &'a mut Env,
    now: Now,
    out: &'a mut Vec<Action>,
}

impl Connection {
    /// A connection from `source`, accepted by listener `listener` at `now`.
    pub fn new(source: SocketAddr, listener: u16, now: Now) -> Connection {
        Connection {
            source: source.ip(),
            source_text: source.to_string().into(),
            listener,
            rx: Some(BytesMut::new()),
            receiving: false,
            fields: Fields::new(),
            phase: Phase::Head,
            exchange: None,
            link: Link::None,
            unsubmitted: VecDeque::new(),
            held: VecDeque::new(),
            to_client: Vec::new(),
            to_client_ordinals: Vec::new(),
            sending_ordinals: Vec::new(),
            sending_since_ns: None,
            sending_bytes: 0,
            begins: false,
            record_since_ns: None,
            client_ended: false,
            client_broken: false,
            requests: 0,
            head_begun: false,
            head_since_ns: now.mono_ns,
            life: Life::new(now),
            generation: 0,
        }
    }

    /// True when the machine is done; the worker drops it when its operations came back.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// True while the machine waits for the record to go on.
    pub fn waits_for_record(&self) -> bool {
        !self.unsubmitted.is_empty() || !self.held.is_empty()
    }

    /// The receipt with which the record's going on matters to this connection; `None` when it waits
    /// for room in the writer's queue, so that any change matters.
    pub fn waits_for(&self) -> Option<(Ticket, Level)> {
        match self.unsubmitted.is_empty() {
            true => self.held.front().map(HeldOut::waits_for),
            false => None,
        }
    }

    /// Monotonic nanoseconds at which the machine wants to look again, whatever happens.
    pub fn deadline_ns(&self, env: &Env, now: Now) -> Option<u64> {
        let limits = &env.settings().limits;
        let ms = |since: u64, ms: u64| since.saturating_add(ms.saturating_mul(1_000_000));
        let phase = match &self.phase {
            Phase::Head => Some(match self.head_begun {
                true => ms(self.head_since_ns, limits.head_ms_max),
                false => ms(self.head_since_ns, limits.idle_ms_max),
            }),
            Phase::Body { deadline_ns, .. } => {
                let rate_ns = self.body_rate_due_ns(limits).unwrap_or(u64::MAX);
                Some(rate_ns.min(*deadline_ns))
            }
            Phase::Stream { deadline_ns, until_ns, splits, .. } => {
                let waits = splits.as_ref().and_then(|splits| splits.deadline_ns(limits));
                Some((*deadline_ns.min(until_ns)).min(waits.unwrap_or(u64::MAX)))
            }
            Phase::Keys { deadline_ns, .. }
            | Phase::Forward { deadline_ns, .. }
            | Phase::AnswerHead { deadline_ns }
            | Phase::AnswerBody { deadline_ns, .. }
            | Phase::Linger { deadline_ns, .. } => Some(*deadline_ns),
            Phase::Finish | Phase::Closed => None,
        };
        let record = self.record_since_ns.map(|since| ms(since, limits.recorder_ms_max));
        let send = self.sending_since_ns.map(|since| ms(since, limits.send_ms_max));
        // Why not in `Finish`: nothing is cut there any more, so a deadline that has passed would stay
        // in the past, and the worker would spin until a slow reader is done.
        let exchange = match &self.phase {
            Phase::Finish | Phase::Linger { .. } | Phase::Closed => None,
            _ => self.exchange.as_ref().and_then(|exchange| exchange.deadline_ns(now)),
        };
        let delivery = self.exchange.as_ref().and_then(|exchange| exchange.delivery_due_ns());
        [phase, record, send, exchange, delivery].into_iter().flatten().min()
    }

    /// Takes one event at `now`; appends the operations to start to `out`.
    pub fn input(&mut self, now: Now, event: Event, env: &mut Env, out: &mut Vec<Action>) {
        let caller = self.exchange.as_ref().and_then(|exchange| exchange.caller.as_ref());
        env.scanner.look_for(caller.and_then(|caller| caller.mark.clone()));
        let mut turn = Turn { env, now, out };
        self.absorb(event, &mut turn);
        self.watch(&mut turn);
        while self.step(&mut turn) {}
        if self.waits_for_record() && turn.env.recorder.progress().failed() {
            self.recorder_unavailable(&mut turn);
            while self.step(&mut turn) {}
        }
        self.read_on(&mut turn);
        // What waits for the record is seldom there while a connection waits for a peer.
        if self.unsubmitted.is_empty() {
            self.unsubmitted = VecDeque::new();
        }
        if self.held.is_empty() {
            self.held = VecDeque::new();
        }
        self.invariants();
    }

    fn invariants(&self) {
        debug_assert!(self.exchange.is_some() || matches!(self.link, Link::None));
        debug_assert!(
            self.exchange.is_some()
                || matches!(self.phase, Phase::Head | Phase::Linger { .. } | Phase::Closed)
        );
    }

    fn absorb(&mut self, event: Event, turn: &mut Turn<'_>) {
        match event {
            Event::ClientBytes(buffer) => {
                self.receiving = false;
                self.life.received(buffer.len());
                if let Phase::Linger { discarded, .. } = &mut self.phase {
                    *discarded += buffer.len() as u64;
                    self.rx = Some(BytesMut::new());
                } else {
                    if matches!(self.phase, Phase::Head) && !self.head_begun {
                        (self.head_begun, self.head_since_ns) = (true, turn.now.mono_ns);
                    }
                    self.take_back(buffer);
                }
            }
            Event::ClientEnd(buffer) => {
                self.receiving = false;
                self.take_back(buffer);
                self.client_ended = true;
            }
            Event::ClientBroken => self.client_breaks(),
            Event::ClientSendBroken(bytes) => {
                self.count_sent(bytes, turn);
                self.client_breaks();
            }
            Event::ClientSent(bytes) => {
                self.sending_since_ns = None;
                self.sending_bytes = 0;
                self.count_sent(bytes, turn);
            }
            Event::UpstreamSecured(secured) => {
                if let Some(exchange) = &mut self.exchange {
                    exchange.upstream_tls = Some(secured);
                }
                self.absorb(Event::UpstreamReady, turn);
            }
            Event::UpstreamReady => match self.link {
                Link::Asked => {
                    self.link = Link::Open {
                        rx: Some(BytesMut::new()),
                        sending: false,
                        ended: false,
                        broken: false,
                    };
                }
                // Why: the exchange gave up waiting in the same turn in which the connection came.
                _ => turn.out.push(Action::DropUpstream { reusable: true }),
            },
            Event::UpstreamRefused(fault) => {
                if matches!(self.link, Link::Asked) {
                    self.link = Link::None;
                    self.refuse(fault, turn);
                }
            }
            Event::UpstreamBytes(buffer) => {
                if let Link::Open { rx, .. } = &mut self.link {
                    *rx = Some(buffer);
                }
            }
            Event::UpstreamEnd(buffer) => {
                if let Link::Open { rx, ended, .. } = &mut self.link {
                    *rx = Some(buffer);
                    *ended = true;
                }
            }
            Event::UpstreamBroken(buffer) => {
                if let Link::Open { rx, ended, broken, sending } = &mut self.link {
                    *rx = Some(buffer);
                    *ended = true;
                    *broken = true;
                    *sending = false;
                }
            }
            Event::ClientMeasured(bytes) => {
                if let Some(exchange) = &mut self.exchange {
                    exchange.unacknowledged = Measure::Got(bytes);
                }
            }
            Event::UpstreamSent => {
                if let Link::Open { sending, .. } = &mut self.link {
                    *sending = false;
                    if let Some(exchange) = &mut self.exchange {
                        exchange.forwarded_ns = Some(exchange.since_start(turn.now));
                    }
                }
            }
            // The link counts as sending from now on, so it is never used again; the read that is
            // under way tells whether there was an answer.
            Event::UpstreamUnsent | Event::Wake => {}
        }
    }

    fn client_breaks(&mut self) {
        self.receiving = false;
        self.rx = Some(BytesMut::new());
        self.client_ended = true;
        self.client_broken = true;
        self.sending_since_ns = None;
        // Why: a send may still be under way, and what waits behind it must not become a second one.
        self.to_client.clear();
        self.to_client_ordinals.clear();
        self.begins = false;
    }

    fn count_sent(&mut self, bytes: u64, turn: &mut Turn<'_>) {
        turn.env.metrics.bytes(Leg::ClientOut, bytes);
        self.life.sent_bytes += bytes;
        let mut left = bytes;
        // What the kernel took only in part is not told as handed over.
        let taken = self.sending_ordinals.drain(..).take_while(|(_, bytes)| {
            let whole = *bytes <= left;
            left = left.saturating_sub(*bytes);
            whole
        });
        let Some(exchange) = &mut self.exchange else { return };
        exchange.sent_bytes += bytes;
        if exchange.begun && bytes > 0 {
            let at = exchange.since_start(turn.now);
            exchange.begun_ns.get_or_insert(at);
            exchange.sent_ns = Some(at);
        }
        if exchange.streaming {
            exchange.note_handed(taken.map(|(ordinal, _)| ordinal), turn.now);
        }
    }

    /// A receive buffer is back: it is `rx` itself, or holds what came behind it.
    fn take_back(&mut self, buffer: BytesMut) {
        match &mut self.rx {
            Some(rx) if !rx.is_empty() => rx.extend_from_slice(&buffer),
            rx => *rx = Some(buffer),
        }
    }

    /// Looks at what may end an exchange from outside: time, access, recorder, drain, disconnect.
    fn watch(&mut self, turn: &mut Turn<'_>) {
        let now_ns = turn.now.mono_ns;
        let settings = turn.env.settings().clone();
        let limits = &settings.limits;
        let over = |since: Option<u64>, ms: u64| {
            since.is_some_and(|since| now_ns >= since.saturating_add(ms * 1_000_000))
        };

        if over(self.sending_since_ns, limits.send_ms_max) {
            self.client_broken = true;
            self.client_ended = true;
            self.sending_since_ns = None;
            self.to_client.clear();
            self.abandon("client-not-reading", turn);
            if self.exchange.is_none() {
                self.close(turn);
            }
            return;
        }
        if self.waits_for_record() {
            let failed = turn.env.recorder.progress().failed();
            if !failed && over(self.record_since_ns, limits.recorder_ms_max + RECORD_LATE_MS_MAX) {
                // Nobody looked for so long: it was the worker that had no time, and what the record
                // has done meanwhile is not yet seen.
                let wait_ms = limits.recorder_ms_max.saturating_sub(RECORD_LATE_MS_MAX);
                self.record_since_ns = Some(now_ns.saturating_sub(wait_ms * 1_000_000));
            } else if failed || over(self.record_since_ns, limits.recorder_ms_max) {
                self.recorder_unavailable(turn);
                return;
            }
        }
        if let Some(exchange) = &mut self.exchange
            && let Phase::Stream { decoder, .. } = &mut self.phase
            && exchange.delivery_is_due(turn.now)
        {
            exchange.chunks = decoder.take_chunks();
        }
        if let Some(exchange) = &mut self.exchange
            && !exchange.ended
            && let Some(emission) = exchange.delivery(turn.now)
        {
            self.emit(emission, turn);
        }
        self.watch_access(turn);
        self.watch_demands(turn);
        if turn.env.drained
            && self.exchange.is_some()
            && !matches!(self.phase, Phase::Finish | Phase::Linger { .. } | Phase::Closed)
        {
            self.cut(answer::DRAINED, turn);
            return;
        }
        self.watch_client(turn);
        self.watch_phase(turn, limits);
    }

    fn watch_client(&mut self, turn: &mut Turn<'_>) {
        if !self.client_ended {
            return;
        }
        let Some(exchange) = &mut self.exchange else { return };
        if matches!(self.phase, Phase::Finish | Phase::Closed) {
            return;
        }
        // Decided: a client's FIN is a disconnect. It cancels upstream from 2026-07-28 on; before, the
        // answer is still read and recorded, within a bound. A stream opened by GET answers nothing.
        let forwarded = !matches!(self.phase, Phase::Keys { .. } | Phase::Body { .. });
        if exchange.era == Some(Era::Modern) || exchange.http == Method::Get {
            if forwarded {
                self.cut("client-disconnected", turn);
            } else {
                self.abandon("client-disconnected", turn);
            }
        } else if forwarded {
            let orphan_ms_max = turn.env.settings().limits.orphan_ms_max;
            let deadline = *exchange.orphan_ns.get_or_insert(turn.now.after_ms(orphan_ms_max));
            if turn.now.mono_ns >= deadline {
                self.cut("client-disconnected", turn);
            }
        }
    }

    fn watch_phase(&mut self, turn: &mut Turn<'_>, limits: &crate::limits::Limits) {
        let now_ns = turn.now.mono_ns;
        match &self.phase {
            Phase::Head => {
                let waited = |ms: u64| now_ns >= self.head_since_ns.saturating_add(ms * 1_000_000);
                if self.head_begun {
                    if waited(limits.head_ms_max) {
                        self.refuse_unread(Fault::HeadTimeout, turn);
                    }
                } else if waited(limits.idle_ms_max) || turn.env.draining || self.life.is_over() {
                    self.close(turn);
                }
            }
            Phase::Keys { deadline_ns, fault } if now_ns >= *deadline_ns => {
                let fault = match fault {
                    TokenFault::NoKeys { .. } => Fault::KeysUnavailable,
                    fault => Fault::Token(*fault),
                };
                self.refuse(fault, turn);
            }
            Phase::Body { deadline_ns, .. } if now_ns >= *deadline_ns => {
                self.refuse(Fault::BodyTimeout, turn);
            }
            Phase::Body { .. }
                if self.body_rate_due_ns(limits).is_some_and(|due| now_ns >= due) =>
            {
                self.refuse(Fault::BodyTooSlow { least: limits.body_rate_bytes_min }, turn);
            }
            Phase::Forward { deadline_ns, .. } if now_ns >= *deadline_ns => {
                if matches!(self.link, Link::Asked) {
                    self.drop_link(false, turn);
                    self.refuse(Fault::UpstreamBusy, turn);
                }
            }
            Phase::AnswerHead { deadline_ns } | Phase::AnswerBody { deadline_ns, .. }
                if now_ns >= *deadline_ns =>
            {
                self.fail_upstream(UpstreamFault::AnswerTimeout, turn);
            }
            Phase::Stream { deadline_ns, .. } if now_ns >= *deadline_ns => {
                self.fail_upstream(UpstreamFault::StreamTimeout, turn);
            }
            Phase::Stream { until_ns, .. } if now_ns >= *until_ns => {
                self.drop_link(false, turn);
                self.end_stream(Some(Fault::StreamTooOld), turn);
            }
            Phase::Stream { splits: Some(splits), .. }
                if splits.deadline_ns(limits).is_some_and(|due| now_ns >= due) =>
            {
                if let Err(fault) = self.give_up_waiting(turn) {
                    self.drop_link(false, turn);
                    self.end_stream(Some(fault), turn);
                }
            }
            Phase::Linger { deadline_ns, discarded }
                if now_ns >= *deadline_ns
                    || self.client_ended
                    || *discarded > limits.linger_bytes_max =>
            {
                self.close(turn);
            }
            _ => {}
        }
    }

    /// One step of the phase; true when there may be another at once.
    fn step(&mut self, turn: &mut Turn<'_>) -> bool {
        let moved = match self.phase {
            Phase::Head => self.step_head(turn),
            Phase::Keys { .. } => self.step_keys(turn),
            Phase::Body { .. } => self.step_body(turn),
            Phase::Forward { .. } => self.step_forward(turn),
            Phase::AnswerHead { .. } => self.step_answer_head(turn),
            Phase::AnswerBody { .. } => self.step_answer_body(turn),
            Phase::Stream { .. } => self.step_stream(turn),
            Phase::Finish => false,
            Phase::Linger { .. } | Phase::Closed => return false,
        };
        let pumped = self.pump(turn);
        moved || pumped || (matches!(self.phase, Phase::Finish) && self.step_finish(turn))
    }

    fn step_head(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some(rx) = &mut self.rx else { return false };
        if rx.is_empty() {
            if self.client_ended {
                self.close(turn);
            }
            return false;
        }
        let limits = &turn.env.snapshot.settings.limits;
        match head::read_request(rx, limits, &mut self.fields) {
            Read::Done { value, used } => {
                // Why a copy: what is kept of the head while the body or the upstream takes its time would
                // keep the whole receive buffer.
                let head = BytesMut::from(&rx[..used]);
                rx.advance(used);
                self.requests += 1;
                self.begin(head, value, turn);
                true
            }
            Read::More => {
                if self.client_ended {
                    self.close(turn);
                }
                false
            }
            Read::Broken(fault) => {
                self.refuse_unread(Fault::Head(fault), turn);
                true
            }
        }
    }

    /// All answers of the exchange are emitted: once they are sent, end it and look for the next.
    fn step_finish(&mut self, turn: &mut Turn<'_>) -> bool {
        let drained = self.held.is_empty()
            && self.unsubmitted.is_empty()
            && self.to_client.is_empty()
            && self.sending_since_ns.is_none();
        if !drained {
            return false;
        }
        let Some(exchange) = &mut self.exchange else { return false };
        if !exchange.ended {
            if self.client_broken && exchange.outcome == "complete" {
                exchange.outcome = "client-disconnected";
                exchange.counted = metrics::Outcome::Cut;
            }
            if exchange.counted == metrics::Outcome::Cut && !exchange.terminal {
                match exchange.unacknowledged {
                    Measure::Not => {
                        exchange.unacknowledged = Measure::Asked;
                        turn.out.push(Action::MeasureClient);
                        return false;
                    }
                    Measure::Asked => return false,
                    Measure::Got(_) => {}
                }
            }
            exchange.ended = true;
            let metrics = &turn.env.metrics;
            metrics.request(exchange.route.map(|route| route as u16), exchange.counted);
            let took_ns = turn.now.mono_ns.saturating_sub(exchange.started.mono_ns);
            metrics.exchange_us(took_ns / 1000);
            if let Some(emission) = exchange.end_emission(turn.now) {
                // The end holds nothing back: it speaks of what is already sent.
                self.emit(emission, turn);
                self.pump(turn);
                if !self.unsubmitted.is_empty() {
                    return true;
                }
            }
        }
        let close = exchange_closes(self.exchange.as_deref(), self.requests, turn.env);
        self.exchange = None;
        self.record_since_ns = None;
        self.head_since_ns = turn.now.mono_ns;
        self.rest();
        if self.client_broken || (close && self.client_ended) {
            self.close(turn);
            return false;
        }
        if close {
            self.life.shut = true;
            turn.out.push(Action::ShutdownClient);
            let linger_ms_max = turn.env.settings().limits.linger_ms_max;
            self.phase =
                Phase::Linger { deadline_ns: turn.now.after_ms(linger_ms_max), discarded: 0 };
            if let Some(rx) = &mut self.rx {
                rx.clear();
            }
            return false;
        }
        self.phase = Phase::Head;
        self.head_begun = self.rx.as_ref().is_some_and(|rx| !rx.is_empty());
        true
    }

    /// No exchange is under way, perhaps for long: what the next one needs it takes anew.
    fn rest(&mut self) {
        self.to_client_ordinals = Vec::new();
        self.sending_ordinals = Vec::new();
        self.fields = Fields::new();
    }

    /// Starts the reads that the state allows.
    fn read_on(&mut self, turn: &mut Turn<'_>) {
        let limits = &turn.env.snapshot.settings.limits;
        let wanted = match &self.phase {
            Phase::Closed => None,
            Phase::Head => Some(RECEIVE_BYTES),
            Phase::Linger { .. } => Some(RECEIVE_BYTES),
            Phase::Body { .. } => Some(self.body_bytes_wanted()),
            _ => {
                let ahead = self.rx.as_ref().map_or(0, BytesMut::len) as u64;
                (ahead < limits.pipelined_bytes_max).then_some(RECEIVE_BYTES)
            }
        };
        if let Some(wanted) = wanted
            && !self.client_ended
            && !self.receiving
        {
            self.receiving = true;
            // Why a buffer of its own: behind the exchange in progress a whole request may stand in
            // `rx`; in the kernel's hands nobody would see it until more arrives.
            let reads_on =
                matches!(self.phase, Phase::Head | Phase::Body { .. } | Phase::Linger { .. });
            let own = !reads_on && self.rx.as_ref().is_some_and(|rx| !rx.is_empty());
            let buffer = if own { BytesMut::new() } else { self.rx.take().unwrap_or_default() };
            self.life.receiving_from = buffer.len();
            turn.out.push(Action::ReadClient(Receive::new(buffer, wanted)));
        }

        let wanted = match &self.phase {
            Phase::AnswerHead { .. } => Some(RECEIVE_BYTES),
            Phase::AnswerBody { .. } => Some(self.answer_bytes_wanted()),
            Phase::Stream { .. } => (!self.is_far_ahead(limits)).then_some(RECEIVE_BYTES),
            _ => None,
        };
        if let Some(wanted) = wanted
            && let Link::Open { rx, ended: false, .. } = &mut self.link
            && let Some(buffer) = rx.take()
        {
            turn.out.push(Action::ReadUpstream(Receive::new(buffer, wanted)));
        }
    }

    /// Gives the upstream connection back or away.
    fn drop_link(&mut self, complete: bool, turn: &mut Turn<'_>) {
        if let (Link::Open { rx: Some(rx), .. }, Some(exchange)) = (&self.link, &mut self.exchange)
        {
            // What stands behind a whole answer is no part of it; else it is what came of one.
            match complete {
                true => exchange.late_bytes += rx.len() as u64,
                false => exchange.upstream_bytes += rx.len() as u64,
            }
        }
        let reusable = match &self.link {
            Link::None => return,
            Link::Asked => false,
            // Why: a connection that still sends, that ended, or on which anything stands behind the
            // answer would carry bytes of this exchange into another.
            Link::Open { rx, sending, ended, broken } => {
                complete
                    && rx.as_ref().is_some_and(BytesMut::is_empty)
                    && !sending
                    && !ended
                    && !broken
            }
        };
        self.link = Link::None;
        if let Phase::Forward { request, .. } = &mut self.phase {
            *request = None;
        }
        turn.out.push(Action::DropUpstream { reusable });
    }

    fn close(&mut self, turn: &mut Turn<'_>) {
        if !self.is_closed() {
            self.note_close(turn);
            self.drop_link(false, turn);
            self.exchange = None;
            self.phase = Phase::Closed;
            turn.out.push(Action::CloseClient);
        }
    }
}

/// Whether the connection ends with this exchange.
fn exchange_closes(exchange: Option<&Exchange>, requests: u64, env: &Env) -> bool {
    exchange.is_none_or(|exchange| exchange.close)
        || requests >= env.settings().limits.connection_requests_max
        || env.draining
}

/// Framing of a request that has no body.
fn is_empty(framing: Framing) -> bool {
    matches!(framing, Framing::Empty | Framing::Length(0))
}
