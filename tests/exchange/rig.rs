//! The worker's part, without sockets: performs the actions of one connection, watches that they keep
//! the order that the ring needs, and hands bytes in by pieces, in buffers whose spare room is filled
//! with poison.

use std::collections::VecDeque;

use bytes::BytesMut;
use stenograph::gateway::connection::{Action, Connection, Event, Receive, ToClient};
use stenograph::gateway::fault::Fault;

use super::stage::{Stage, until};

/// What spare room of receive buffers is filled with. No byte of it may ever leave.
pub const POISON: u8 = 0xa5;

/// An answer that a server gives to the next request, in pieces.
#[derive(Clone, Default)]
pub struct Served {
    pub pieces: Vec<Vec<u8>>,
    pub ends: bool,
}

/// One direction of bytes on their way to the machine.
#[derive(Default)]
struct Inlet {
    pieces: VecDeque<Vec<u8>>,
    ends: bool,
    receive: Option<Receive>,
}

impl Inlet {
    /// The next delivery: the buffer with more in it, or with the end.
    fn deliver(&mut self) -> Option<(BytesMut, bool)> {
        self.receive.as_ref()?;
        if self.pieces.front().is_some_and(Vec::is_empty) {
            self.pieces.pop_front();
        }
        let Some(piece) = self.pieces.front_mut() else {
            return self.ends.then(|| (self.room(), true));
        };
        let piece = std::mem::take(piece);
        let mut buffer = self.room();
        for slot in buffer.spare_capacity_mut() {
            slot.write(POISON);
        }
        let room = buffer.capacity() - buffer.len();
        assert!(room > 0, "a receive into no room would look like the peer's end");
        let (taken, rest) = piece.split_at(piece.len().min(room));
        buffer.extend_from_slice(taken);
        self.pieces[0] = rest.to_vec();
        Some((buffer, false))
    }

    /// As the worker: something has come, so there is room.
    fn room(&mut self) -> BytesMut {
        self.receive.take().expect("it is there").room()
    }
}

pub struct Rig {
    pub connection: Connection,
    client: Inlet,
    upstream: Inlet,
    /// The client takes what is sent.
    pub client_reads: bool,
    /// The upstream takes what is sent.
    pub upstream_reads: bool,
    sending: Option<u64>,
    sending_upstream: bool,
    linked: bool,
    asked: bool,
    /// Everything sent to the client.
    pub client_out: Vec<u8>,
    /// Requests sent upstream, each in one piece.
    pub requests: Vec<Vec<u8>>,
    /// Upstreams asked for and not answered: route, for a stream.
    pub opens: VecDeque<(u16, bool)>,
    /// The answer that comes is a stream that began as a call.
    pub streams: bool,
    /// How upstream connections were given back.
    pub drops: VecDeque<bool>,
    pub shut: bool,
    pub closed: bool,
    measure: bool,
    /// What the kernel would say of bytes that the client has not acknowledged.
    pub unacknowledged: Option<u64>,
    /// Plays the server: connections open at once and each request gets the next of these.
    pub server: Option<VecDeque<Served>>,
}

impl Rig {
    pub fn new(stage: &mut Stage) -> Rig {
        let source = "192.0.2.7:40000".parse().unwrap();
        let snapshot = &stage.env.snapshot;
        let demands = snapshot.settings.demands.first().cloned();
        let generation = snapshot.generation;
        let mut rig = Rig {
            connection: Connection::new(source, 0, stage.now).under(demands, generation),
            client: Inlet::default(),
            upstream: Inlet::default(),
            client_reads: true,
            upstream_reads: true,
            sending: None,
            sending_upstream: false,
            linked: false,
            asked: false,
            client_out: Vec::new(),
            requests: Vec::new(),
            opens: VecDeque::new(),
            streams: false,
            drops: VecDeque::new(),
            shut: false,
            closed: false,
            measure: false,
            unacknowledged: Some(0),
            server: None,
        };
        rig.event(stage, Event::Wake);
        rig
    }

    /// One event, and the actions it causes.
    pub fn event(&mut self, stage: &mut Stage, event: Event) {
        let mut actions = Vec::new();
        self.connection.input(stage.now, event, &mut stage.env, &mut actions);
        for action in actions {
            self.perform(action);
        }
        if std::mem::take(&mut self.measure) {
            return self.event(stage, Event::ClientMeasured(self.unacknowledged));
        }
        if !self.connection.is_closed()
            && let Some(deadline_ns) = self.connection.deadline_ns(&stage.env, stage.now)
        {
            // A deadline that is over and was not acted on would make the worker spin.
            assert!(deadline_ns > stage.now.mono_ns, "a deadline in the past stays");
        }
    }

    fn perform(&mut self, action: Action) {
        assert!(!self.closed, "an action behind the close: {action:?}");
        match action {
            Action::ReadClient(receive) => {
                assert!(self.client.receive.is_none(), "two receives from the client at once");
                self.client.receive = Some(receive);
            }
            Action::SendClient(pieces) => {
                assert!(self.sending.is_none(), "two sends to the client at once");
                let before = self.client_out.len();
                for piece in pieces {
                    match piece {
                        ToClient::Payload(payload) => {
                            payload.iter().for_each(|part| self.client_out.extend_from_slice(part));
                        }
                        ToClient::Unavailable(text) => self.client_out.extend_from_slice(&text),
                    }
                }
                self.sending = Some((self.client_out.len() - before) as u64);
            }
            Action::ShutdownClient => {
                assert!(self.sending.is_none(), "shut in the middle of a send");
                self.shut = true;
            }
            Action::MeasureClient => self.measure = true,
            Action::CloseClient => self.closed = true,
            Action::OpenUpstream { route, stream } => {
                assert!(!self.linked && !self.asked, "two upstream connections at once");
                self.asked = true;
                self.opens.push_back((route, stream));
            }
            Action::SendUpstream(payload) => {
                assert!(self.linked && !self.sending_upstream, "no connection is free to send on");
                self.sending_upstream = true;
                self.requests.push(payload.concat());
                if let Some(served) = self.server.as_mut().and_then(VecDeque::pop_front) {
                    self.upstream.pieces.extend(served.pieces);
                    self.upstream.ends = served.ends;
                }
            }
            Action::ReadUpstream(receive) => {
                assert!(self.linked && self.upstream.receive.is_none(), "two receives at once");
                self.upstream.receive = Some(receive);
            }
            Action::UpstreamStreams => {
                assert!(self.linked && !self.streams, "an answer becomes a stream once");
                self.streams = true;
            }
            Action::DropUpstream { reusable } => {
                assert!(self.linked || self.asked, "nothing to give back");
                // As in the worker: an operation under way keeps the connection from being kept.
                let quiet = self.upstream.receive.is_none() && !self.sending_upstream;
                if self.linked {
                    self.drops.push_back(reusable && quiet);
                }
                self.opens.clear();
                (self.linked, self.asked, self.sending_upstream) = (false, false, false);
                self.streams = false;
                self.upstream = Inlet::default();
            }
        }
    }

    /// Memory of the receives from both sides while they wait.
    pub fn receives_hold_bytes(&self) -> usize {
        let both = [&self.client.receive, &self.upstream.receive];
        both.into_iter().flatten().map(Receive::held_bytes).sum()
    }

    /// There is a connection to the upstream.
    pub fn is_linked(&self) -> bool {
        self.linked
    }

    pub fn client(&mut self, bytes: &[u8]) {
        self.client.pieces.push_back(bytes.to_vec());
    }

    pub fn client_ends(&mut self) {
        self.client.ends = true;
    }

    pub fn upstream(&mut self, bytes: &[u8]) {
        assert!(self.is_linked(), "the upstream speaks on a connection that the gateway let go");
        self.upstream.pieces.push_back(bytes.to_vec());
    }

    pub fn upstream_ends(&mut self) {
        assert!(self.linked);
        self.upstream.ends = true;
    }

    pub fn upstream_breaks(&mut self, stage: &mut Stage) {
        self.sending_upstream = false;
        let buffer = self.upstream.room();
        self.event(stage, Event::UpstreamBroken(buffer));
    }

    pub fn upstream_ready(&mut self, stage: &mut Stage) {
        assert!(self.asked, "nobody asked for a connection");
        (self.asked, self.linked) = (false, true);
        self.event(stage, Event::UpstreamReady);
    }

    pub fn upstream_refused(&mut self, stage: &mut Stage, fault: Fault) {
        assert!(self.asked, "nobody asked for a connection");
        self.asked = false;
        self.event(stage, Event::UpstreamRefused(fault));
    }

    /// The client takes what is being sent, and nothing behind it yet.
    pub fn client_takes(&mut self, stage: &mut Stage) {
        let bytes = self.sending.take().expect("nothing is being sent");
        self.event(stage, Event::ClientSent(bytes));
    }

    /// Goes on until nothing moves.
    pub fn drive(&mut self, stage: &mut Stage) {
        loop {
            if self.closed {
                return;
            }
            if let Some((buffer, end)) = self.client.deliver() {
                let event = if end { Event::ClientEnd } else { Event::ClientBytes };
                self.event(stage, event(buffer));
            } else if self.server.is_some() && self.asked {
                self.opens.clear();
                self.upstream_ready(stage);
            } else if self.upstream_reads && self.sending_upstream {
                self.sending_upstream = false;
                self.event(stage, Event::UpstreamSent);
            } else if let Some((buffer, end)) = self.upstream.deliver() {
                let event = if end { Event::UpstreamEnd } else { Event::UpstreamBytes };
                self.event(stage, event(buffer));
            } else if self.client_reads
                && let Some(bytes) = self.sending.take()
            {
                self.event(stage, Event::ClientSent(bytes));
            } else if self.connection.waits_for_record() && !stage.stalled {
                let progress = stage.env.recorder.progress_shared();
                until("the record", || progress.queued_entries() == 0 || progress.failed());
                self.event(stage, Event::Wake);
            } else {
                return;
            }
        }
    }
}
