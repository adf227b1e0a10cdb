//! One run: everything around the shipped connections and the shipped writer, driven by one generator.
//!
//! At each step all that could happen next is listed, and one of it does. Completions of the kernel,
//! turns of the writer, hand-overs, peers and time are all in that list, so they come late and in any
//! order. Time goes on a little when it is chosen, and to the next thing due when nothing else is left.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use stenograph::auth::deny::DenyList;
use stenograph::gateway::budget::Budget;
use stenograph::gateway::connection::{Action, Connection, Event, Receive, ToClient};
use stenograph::gateway::env::Snapshot;
use stenograph::gateway::fault::{self, Fault, UpstreamFault};
use stenograph::gateway::metrics::Metrics;
use stenograph::gateway::session::SessionTable;
use stenograph::limits::Limits;
use stenograph::record::reader::{Checks, read};
use stenograph::record::writer::{self, EndFault, Sealing, StartFault, Steps, Turned};
use stenograph::record::{Kind, Level, Progress, Recorder, Waker};
use stenograph::types::{ExchangeId, Now};

use super::ask::{Ask, Fate, Tokens, ask};
use super::dice::Dice;
use super::disk::SimDisk;
use super::ledger::{Ledger, check_record, read_image};
use super::peers::{Client, Link, piece};
use super::record_support::{How, Image, MemoryDisk, auditor, key, random, settings};
use super::stage::{ISSUER, NOW_S, Plan, Recorded, snapshot_of};
use super::worker::{Shared, Worker};

/// What spare room of receive buffers is filled with. No byte of it may ever leave.
const POISON: u8 = 0xa5;

/// Longest a worker keeps entries that nobody waits for.
const LAZY_NS: u64 = 5_000_000;

/// Bound on the steps of one run: a run that needs more goes round in circles.
const STEPS_MAX: u64 = 400_000;

/// Bound on the simulated time from the last thing that any peer does to the end of all connections, and
/// on that of one exchange: the sum of all that one may wait for, each once, and a stream's silence for
/// each of its events.
fn patience_ns(limits: &Limits) -> u64 {
    let once = limits.idle_ms_max
        + limits.head_ms_max
        + limits.keys_wait_ms_max
        + limits.body_ms_max
        + 3 * limits.recorder_ms_max
        + 2 * limits.connect_ms_max
        + 2 * limits.answer_ms_max
        + limits.orphan_ms_max
        + 2 * limits.send_ms_max
        + limits.linger_ms_max;
    (once + 8 * limits.stream_idle_ms_max) * 1_000_000
}

/// Where a client connection's wish for an upstream connection stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opening {
    No,
    /// In the queue of the pool.
    Waiting,
    /// It may have one.
    Granted {
        stream: bool,
    },
}

/// Bytes in the kernel's hands.
struct Sending {
    bytes: Vec<u8>,
    taken: usize,
}

/// One client connection and the operations that are under way for it.
struct Line {
    worker: usize,
    machine: Connection,
    client: Client,
    client_read: Option<Receive>,
    client_send: Option<Sending>,
    opening: Opening,
    /// The upstream connection in use, and whether it is counted.
    link: Option<(usize, bool)>,
    /// It was counted until its answer turned out to be a stream.
    beside: bool,
    upstream_read: Option<Receive>,
    upstream_send: Option<Sending>,
    measure: bool,
    /// Something around it changed.
    woken: bool,
    closed: bool,
    /// Its last entry was said.
    parted: bool,
    /// The exchange whose answer was begun last.
    exchange: Option<ExchangeId>,
}

/// What could happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    ClientWrites(usize),
    ClientRead(usize),
    ClientTakes(usize),
    ClientSent(usize),
    Open(usize),
    UpstreamTakes(usize),
    UpstreamSent(usize),
    UpstreamRead(usize),
    Wake(usize),
    /// What is under way on a closed connection comes back.
    Return(usize),
    Part(usize),
    ServerReads(usize),
    ServerWrites(usize),
    HandOver(usize),
    Receipts(usize),
    Tick(usize),
    Write,
    Chaos,
    Time,
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// Of all moves, in their order, and of all that went out.
    pub trace: u64,
    pub steps: u64,
    /// Releases that were held against the disk.
    pub looked: usize,
    /// Requests that arrived at the server.
    pub arrived: usize,
    pub crashes: usize,
    pub entries: usize,
}

pub struct World {
    dice: Dice,
    seed: u64,
    calm: bool,
    /// Something goes wrong in one of so many steps.
    chaos_in: usize,
    level: Level,
    now: Now,
    clock: Arc<Mutex<Now>>,
    plan: Plan,
    deny: Arc<DenyList>,
    denied: Vec<&'static str>,
    late_key: bool,
    snapshot: Arc<Snapshot>,
    shared: Shared,
    workers: Vec<Worker>,
    lines: Vec<Line>,
    links: Vec<Link>,
    disk: SimDisk,
    steps: Option<Steps>,
    progress: Arc<Progress>,
    /// When the writer wants its next turn; before that only when there is an entry.
    write_due_ns: u64,
    orders: bool,
    stalled_until_ns: u64,
    tick_due_ns: u64,
    tokens: Tokens,
    ledger: Ledger,
    /// Every request, and how often it arrived.
    asks: Vec<(Ask, usize)>,
    drain_due_ns: Option<u64>,
    crashes: usize,
    step: u64,
    trace: u64,
    last: Vec<String>,
    /// No mischief from here on.
    over: bool,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "step {} of STENOGRAPH_SIM_SEED={} (calm: {}, level: {:?}); the last moves: {}",
                self.step,
                self.seed,
                self.calm,
                self.level,
                self.last.join(" ")
            );
        }
    }
}

impl World {
    pub fn new(seed: u64, tokens: Tokens, jwks: &'static [serde_json::Value]) -> World {
        let mut dice = Dice(seed);
        let calm = dice.once_in(4);
        let level = match dice.below(8) {
            0 => Level::Queued,
            1..=3 => Level::Synced,
            _ => Level::Written,
        };
        let chaos_in = *dice.pick(&[40, 120, 300]);
        let mut limits = Limits {
            refusals_each_max: u64::MAX,
            idle_ms_max: 20_000,
            answer_ms_max: 30_000,
            stream_idle_ms_max: 30_000,
            segment_bytes_max: 64 << 10,
            frame_bytes_max: 64 << 10,
            reserve_bytes_max: 2 << 20,
            ..Limits::default()
        };
        if !calm && dice.once_in(3) {
            limits.recorder_queue_entries_max = 16;
            limits.stream_ahead_bytes_max = 1 << 10;
        }
        let seals = dice.once_in(4);
        let mut plan = Plan { limits, level, fetching: true, ..Plan::default() };
        if seals {
            plan.seals.originals = true;
            plan.sealing = Some(Sealing {
                recipients: vec![auditor().recipient().clone()],
                // Bodies are looked for in the record.
                payloads: false,
            });
        }
        let now = Now { utc_ns: NOW_S * 1_000_000_000, mono_ns: 1_000_000_000_000 };
        let deny = Arc::new(DenyList::default());
        let snapshot = Arc::new(snapshot_of(&plan, &deny, 1, &jwks[..1]));
        let metrics = Metrics::new(3, vec!["codegen".to_owned()], fault::LABELS);
        let shared = Shared {
            budget: Budget::new(plan.limits.inflight_bytes_max),
            sessions: SessionTable::new(64),
            metrics: Arc::new(metrics),
        };
        let clock = Arc::new(Mutex::new(now));
        let disk = SimDisk::default();
        let count = 1 + dice.below(3);
        let Opened { steps, recorders, flags } = open_writer(count, &disk, &plan, &clock);
        let mut world = World {
            progress: steps.progress(),
            steps: Some(steps),
            disk,
            dice,
            seed,
            calm,
            chaos_in,
            level,
            now,
            clock,
            plan,
            deny,
            denied: Vec::new(),
            late_key: false,
            snapshot,
            shared,
            workers: Vec::new(),
            lines: Vec::new(),
            links: Vec::new(),
            write_due_ns: now.mono_ns,
            orders: false,
            stalled_until_ns: 0,
            tick_due_ns: now.mono_ns + 1_000_000_000,
            tokens,
            ledger: Ledger::default(),
            asks: Vec::new(),
            drain_due_ns: None,
            crashes: 0,
            step: 0,
            trace: seed,
            last: Vec::new(),
            over: false,
        };
        world.staff(recorders, flags);
        world.connect_some();
        world
    }

    /// Starts the process: the writer on what the disk holds, and workers.
    fn start(&mut self) {
        let count = 1 + self.dice.below(3);
        let Opened { steps, recorders, flags } =
            open_writer(count, &self.disk, &self.plan, &self.clock);
        self.progress = steps.progress();
        self.steps = Some(steps);
        self.write_due_ns = self.now.mono_ns;
        self.staff(recorders, flags);
    }

    /// One worker for each recorder.
    fn staff(&mut self, recorders: Vec<Recorder>, flags: Vec<Arc<AtomicBool>>) {
        let limits = self.plan.limits.clone();
        for (index, (recorder, flag)) in recorders.into_iter().zip(flags).enumerate() {
            let seed = self.dice.next();
            let snapshot = self.snapshot.clone();
            let shared = &self.shared;
            let worker = Worker::new(index as u8, seed, recorder, flag, snapshot, shared, &limits);
            self.workers.push(worker);
        }
    }

    /// Some clients connect.
    fn connect_some(&mut self) {
        for _ in 0..2 + self.dice.below(6) {
            let mut asks = Vec::new();
            for _ in 0..1 + self.dice.below(5) {
                let one = ask(self.asks.len(), &self.tokens, self.calm, &mut self.dice);
                self.asks.push((one.clone(), 0));
                let last = one.last;
                asks.push(one);
                if last {
                    break;
                }
            }
            let (pipelines, polite) = (self.dice.once_in(2), self.dice.once_in(2));
            let source = format!("192.0.2.{}:40000", 1 + self.lines.len() % 200).parse().unwrap();
            let worker = self.dice.below(self.workers.len());
            self.lines.push(Line {
                worker,
                machine: Connection::new(source, 0, self.now),
                client: Client::new(asks, pipelines, polite),
                client_read: None,
                client_send: None,
                opening: Opening::No,
                beside: false,
                link: None,
                upstream_read: None,
                upstream_send: None,
                measure: false,
                woken: true,
                closed: false,
                parted: false,
                exchange: None,
            });
        }
    }

    // ---- the machine and its actions ----

    fn event(&mut self, line: usize, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let one = &mut self.lines[line];
            let env = &mut self.workers[one.worker].env;
            if env.snapshot.generation != self.snapshot.generation {
                env.snapshot = self.snapshot.clone();
            }
            one.woken = false;
            let mut actions = Vec::new();
            one.machine.input(self.now, event, env, &mut actions);
            for action in actions {
                self.perform(line, action);
            }
            let one = &mut self.lines[line];
            if std::mem::take(&mut one.measure) {
                let unknown = self.dice.once_in(4);
                next = Some(Event::ClientMeasured((!unknown).then_some(7)));
            }
        }
        let one = &self.lines[line];
        let env = &mut self.workers[one.worker].env;
        if !one.closed {
            let deadline_ns = one.machine.deadline_ns(env, self.now);
            assert!(
                deadline_ns.is_none_or(|at| at > self.now.mono_ns),
                "a deadline in the past stays: the worker would spin"
            );
        }
        env.notices.clear();
        // Whoever asks for keys gets them when they arrive.
        env.keys_wanted.clear();
    }

    fn perform(&mut self, line: usize, action: Action) {
        let one = &mut self.lines[line];
        assert!(!one.closed, "an action behind the close: {action:?}");
        match action {
            Action::ReadClient(receive) => {
                assert!(one.client_read.is_none(), "two receives from the client at once");
                one.client_read = Some(receive);
            }
            Action::SendClient(pieces) => {
                assert!(one.client_send.is_none(), "two sends to the client at once");
                let mut bytes = Vec::new();
                for out in &pieces {
                    if self.level != Level::Queued {
                        let exchange = &mut one.exchange;
                        self.ledger.answer_leaves(out, exchange, &self.disk, self.level);
                    }
                    match out {
                        ToClient::Payload(payload) => {
                            payload.iter().for_each(|part| bytes.extend_from_slice(part));
                        }
                        ToClient::Unavailable(text) => {
                            bytes.extend_from_slice(text);
                        }
                    }
                }
                assert!(!bytes.contains(&POISON));
                self.trace = mix(self.trace, &bytes);
                one.client_send = Some(Sending { bytes, taken: 0 });
            }
            Action::ShutdownClient => {
                assert!(one.client_send.is_none(), "shut in the middle of a send");
                one.client.ended = true;
            }
            Action::MeasureClient => one.measure = true,
            Action::CloseClient => one.closed = true,
            Action::OpenUpstream { stream, .. } => {
                assert!(one.link.is_none(), "two upstream connections at once");
                assert!(one.opening == Opening::No, "two upstream connections at once");
                let worker = &mut self.workers[one.worker];
                let limits = &worker.env.settings().limits;
                if stream || worker.open < 2 {
                    worker.open += usize::from(!stream);
                    one.opening = Opening::Granted { stream };
                } else if worker.waiting.len() as u64 >= limits.upstream_queue_max {
                    one.opening = Opening::Granted { stream: true };
                } else {
                    worker.waiting.push_back(line);
                    one.opening = Opening::Waiting;
                }
            }
            Action::SendUpstream(payload) => {
                let (link, _) = one.link.expect("the machine sends on an open upstream");
                assert!(one.upstream_send.is_none(), "two sends to the upstream at once");
                assert!(!self.links[link].dropped);
                if self.level != Level::Queued {
                    self.ledger.request_leaves(&payload, &self.disk, self.level);
                }
                let bytes = payload.concat();
                assert!(!bytes.contains(&POISON));
                self.trace = mix(self.trace, &bytes);
                one.upstream_send = Some(Sending { bytes, taken: 0 });
                self.check_access(line);
            }
            Action::ReadUpstream(receive) => {
                assert!(one.link.is_some() && one.upstream_read.is_none(), "two receives at once");
                one.upstream_read = Some(receive);
            }
            Action::UpstreamStreams => {
                let (_, counted) = one.link.as_mut().expect("a stream comes on a connection");
                assert!(std::mem::take(counted), "what streams was counted until now");
                one.beside = true;
                let worker = one.worker;
                self.give_back(worker);
            }
            Action::DropUpstream { reusable } => self.drop_upstream(line, reusable),
        }
    }

    /// Nobody whose access has ended asks anything of the server.
    fn check_access(&self, line: usize) {
        let sent = &self.lines[line].upstream_send.as_ref().expect("it was just handed over").bytes;
        let text = String::from_utf8_lossy(sent);
        let asked = self.asks.iter().find(|(ask, _)| text.contains(&ask.marker));
        let Some((ask, _)) = asked else { return };
        let head = String::from_utf8_lossy(&ask.bytes);
        for subject in &self.denied {
            let token = match *subject {
                "alice" => &self.tokens.alice,
                _ => &self.tokens.bob,
            };
            assert!(!head.contains(&**token), "{subject} is denied and asks {}", ask.marker);
        }
    }

    fn drop_upstream(&mut self, line: usize, reusable: bool) {
        let one = &mut self.lines[line];
        let worker = one.worker;
        let quiet = one.upstream_read.is_none() && one.upstream_send.is_none();
        let beside = std::mem::take(&mut one.beside);
        let opening = std::mem::replace(&mut one.opening, Opening::No);
        match (one.link.take(), opening) {
            (Some((link, counted)), _) => {
                let pool = &self.workers[worker];
                let room = beside && pool.open + pool.idle.len() < 2;
                if (counted || room) && reusable && quiet {
                    self.workers[worker].idle.push(link);
                } else {
                    self.links[link].dropped = true;
                }
                if counted {
                    self.give_back(worker);
                }
            }
            (None, Opening::Waiting) => {
                self.workers[worker].waiting.retain(|waiting| *waiting != line);
            }
            (None, Opening::Granted { stream: false }) => self.give_back(worker),
            (None, Opening::Granted { stream: true }) => {}
            (None, Opening::No) => panic!("nothing to give back"),
        }
        // As in the worker: the kernel completes what is under way with the end of the connection.
        let one = &mut self.lines[line];
        one.upstream_read = None;
        one.upstream_send = None;
    }

    /// The right to a counted connection goes to the next in the queue.
    fn give_back(&mut self, worker: usize) {
        match self.workers[worker].waiting.pop_front() {
            Some(line) => self.lines[line].opening = Opening::Granted { stream: false },
            None => self.workers[worker].open -= 1,
        }
    }

    fn open(&mut self, line: usize) {
        let Opening::Granted { stream } = self.lines[line].opening else { return };
        let worker = self.lines[line].worker;
        self.lines[line].opening = Opening::No;
        if !self.calm && !self.over && self.dice.once_in(12) {
            if !stream {
                self.give_back(worker);
            }
            let fault = *self.dice.pick(&[
                UpstreamFault::Unreachable(std::io::ErrorKind::ConnectionRefused),
                UpstreamFault::ConnectTimeout,
            ]);
            return self.event(line, Event::UpstreamRefused(Fault::Upstream(fault)));
        }
        let mut kept = None;
        while !stream && kept.is_none() {
            let Some(link) = self.workers[worker].idle.pop() else { break };
            match self.links[link].is_quiet() {
                true => kept = Some(link),
                false => self.links[link].dropped = true,
            }
        }
        let link = kept.unwrap_or_else(|| {
            self.links.push(Link::new());
            self.links.len() - 1
        });
        self.lines[line].link = Some((link, !stream));
        self.event(line, Event::UpstreamReady);
    }

    // ---- what could happen ----

    fn deadline_ns(&self, line: usize) -> Option<u64> {
        let one = &self.lines[line];
        (!one.closed).then(|| one.machine.deadline_ns(&self.workers[one.worker].env, self.now))?
    }

    fn wakes(&self, line: usize) -> bool {
        let one = &self.lines[line];
        if one.closed {
            return false;
        }
        let receipt = one.machine.waits_for_record()
            && match one.machine.waits_for() {
                Some((ticket, level)) if self.progress.reached(ticket, level) => true,
                _ => self.progress.failed() || self.progress.ended(),
            };
        one.woken || receipt || self.deadline_ns(line).is_some_and(|at| at <= self.now.mono_ns)
    }

    fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        for (index, one) in self.lines.iter().enumerate() {
            let client = &one.client;
            if client.may_write() {
                moves.push(Move::ClientWrites(index));
            }
            if one.closed {
                let under_way = one.client_read.is_some() || one.client_send.is_some();
                match under_way {
                    true => moves.push(Move::Return(index)),
                    false if !one.parted => moves.push(Move::Part(index)),
                    false => {}
                }
                continue;
            }
            if one.client_read.is_some() && (!client.wire.is_empty() || client.fin || client.reset)
            {
                moves.push(Move::ClientRead(index));
            }
            if let Some(sending) = &one.client_send {
                if client.reset || sending.taken == sending.bytes.len() {
                    moves.push(Move::ClientSent(index));
                } else if client.stuck_until_ns <= self.now.mono_ns {
                    moves.push(Move::ClientTakes(index));
                }
            }
            if matches!(one.opening, Opening::Granted { .. }) {
                moves.push(Move::Open(index));
            }
            if let Some((link, _)) = one.link {
                let link = &self.links[link];
                if let Some(sending) = &one.upstream_send {
                    match link.reset || link.fin || sending.taken == sending.bytes.len() {
                        true => moves.push(Move::UpstreamSent(index)),
                        false => moves.push(Move::UpstreamTakes(index)),
                    }
                }
                if one.upstream_read.is_some() && (!link.wire.is_empty() || link.fin || link.reset)
                {
                    moves.push(Move::UpstreamRead(index));
                }
            }
            if self.wakes(index) {
                moves.push(Move::Wake(index));
            }
        }
        for (index, link) in self.links.iter().enumerate().filter(|(_, link)| !link.dropped) {
            if !link.inbox.is_empty() && !link.reset && !link.fin {
                moves.push(Move::ServerReads(index));
            }
            if link.may_write() {
                moves.push(Move::ServerWrites(index));
            }
        }
        for (index, worker) in self.workers.iter().enumerate() {
            let recorder = &worker.env.recorder;
            let lazily = worker.lazy_since_ns.is_none_or(|at| at + LAZY_NS > self.now.mono_ns);
            if recorder.has_gathered() && (recorder.is_urgent() || !lazily) {
                moves.push(Move::HandOver(index));
            }
            if worker.recorded.load(Ordering::Relaxed) {
                moves.push(Move::Receipts(index));
            }
        }
        if self.tick_due_ns <= self.now.mono_ns {
            moves.extend((0..self.workers.len()).map(Move::Tick));
        }
        let due = self.write_due_ns <= self.now.mono_ns;
        if self.steps.is_some()
            && self.stalled_until_ns <= self.now.mono_ns
            && (due || (self.orders && !self.progress.failed()))
        {
            moves.push(Move::Write);
        }
        moves
    }

    /// The next moment at which something is due.
    fn next_due_ns(&self) -> Option<u64> {
        let lines = (0..self.lines.len()).filter_map(|line| self.deadline_ns(line));
        let stuck = self.lines.iter().filter(|one| !one.closed && one.client_send.is_some());
        let stuck = stuck.map(|one| one.client.stuck_until_ns);
        let lazy = self.workers.iter().filter(|worker| worker.env.recorder.has_gathered());
        let lazy = lazy.filter_map(|worker| Some(worker.lazy_since_ns? + LAZY_NS));
        let write = self.steps.as_ref().map(|_| {
            let due = if self.orders { self.now.mono_ns } else { self.write_due_ns };
            due.max(self.stalled_until_ns)
        });
        let busy = self.lines.iter().any(|one| !one.closed);
        let tick = busy.then_some(self.tick_due_ns);
        let all = lines.chain(stuck).chain(lazy).chain(write).chain(tick).chain(self.drain_due_ns);
        all.filter(|at| *at > self.now.mono_ns).min()
    }

    fn advance(&mut self, ns: u64) {
        self.now.mono_ns += ns;
        self.now.utc_ns += ns;
        *self.clock.lock().expect("no panic") = self.now;
        if self.drain_due_ns.is_some_and(|at| at <= self.now.mono_ns) {
            self.drain_due_ns = None;
            self.workers.iter_mut().for_each(|worker| worker.env.drained = true);
            self.lines.iter_mut().for_each(|one| one.woken = true);
        }
    }

    // ---- one step ----

    /// False when nothing is left to happen.
    fn step(&mut self) -> bool {
        self.step += 1;
        assert!(self.step < STEPS_MAX, "the run goes round in circles");
        let drained = self.workers.iter().all(|worker| worker.env.draining);
        if drained && !self.over && self.lines.iter().all(|one| one.parted) {
            self.restart();
        }
        let mut moves = self.moves();
        if moves.is_empty() {
            let Some(due_ns) = self.next_due_ns() else { return false };
            self.advance(due_ns - self.now.mono_ns);
            return true;
        }
        moves.push(Move::Time);
        if !self.calm && !self.over && self.dice.once_in(self.chaos_in) {
            moves = vec![Move::Chaos];
        }
        let next = *self.dice.pick(&moves);
        self.trace = mix(self.trace, format!("{next:?}").as_bytes());
        if self.last.len() == 40 {
            self.last.remove(0);
        }
        self.last.push(format!("{next:?}"));
        self.make(next);
        for worker in &mut self.workers {
            match worker.env.recorder.has_gathered() {
                true => {
                    worker.lazy_since_ns.get_or_insert(self.now.mono_ns);
                }
                false => worker.lazy_since_ns = None,
            }
        }
        true
    }

    fn make(&mut self, next: Move) {
        let dice = &mut self.dice;
        match next {
            Move::ClientWrites(line) => self.lines[line].client.write(dice),
            Move::ClientRead(line) => {
                let one = &mut self.lines[line];
                let mut buffer = one.client_read.take().expect("a receive is under way").room();
                let event = if one.client.reset {
                    Event::ClientBroken
                } else if one.client.wire.is_empty() {
                    Event::ClientEnd(buffer)
                } else {
                    fill(&mut buffer, &mut one.client.wire, dice);
                    Event::ClientBytes(buffer)
                };
                self.event(line, event);
            }
            Move::ClientTakes(line) => {
                let one = &mut self.lines[line];
                let sending = one.client_send.as_mut().expect("a send is under way");
                let some = piece(sending.bytes.len() - sending.taken, dice);
                one.client.read(&sending.bytes[sending.taken..sending.taken + some]);
                sending.taken += some;
            }
            Move::ClientSent(line) => {
                let one = &mut self.lines[line];
                let sending = one.client_send.take().expect("a send is under way");
                let taken = sending.taken as u64;
                let event = match sending.taken == sending.bytes.len() {
                    true => Event::ClientSent(taken),
                    false => Event::ClientSendBroken(taken),
                };
                self.event(line, event);
            }
            Move::Open(line) => self.open(line),
            Move::UpstreamTakes(line) => {
                let one = &mut self.lines[line];
                let (link, _) = one.link.expect("it sends on a connection");
                let sending = one.upstream_send.as_mut().expect("a send is under way");
                let some = piece(sending.bytes.len() - sending.taken, dice);
                self.links[link].inbox.extend(&sending.bytes[sending.taken..sending.taken + some]);
                sending.taken += some;
            }
            Move::UpstreamSent(line) => {
                let sending = self.lines[line].upstream_send.take().expect("a send is under way");
                let event = match sending.taken == sending.bytes.len() {
                    true => Event::UpstreamSent,
                    false => Event::UpstreamUnsent,
                };
                self.event(line, event);
            }
            Move::UpstreamRead(line) => {
                let one = &mut self.lines[line];
                let link = &mut self.links[one.link.expect("it reads from a connection").0];
                let mut buffer = one.upstream_read.take().expect("a receive is under way").room();
                let event = if link.reset {
                    Event::UpstreamBroken(buffer)
                } else if link.wire.is_empty() {
                    Event::UpstreamEnd(buffer)
                } else {
                    fill(&mut buffer, &mut link.wire, dice);
                    Event::UpstreamBytes(buffer)
                };
                self.event(line, event);
            }
            Move::Wake(line) => self.event(line, Event::Wake),
            Move::Return(line) => {
                let one = &mut self.lines[line];
                one.client_send = None;
                one.client_read = None;
            }
            Move::Part(line) => self.part(line),
            Move::ServerReads(link) => self.server_reads(link),
            Move::ServerWrites(link) => self.links[link].write(dice),
            Move::HandOver(worker) => {
                self.workers[worker].env.recorder.flush();
                self.orders = true;
            }
            Move::Receipts(worker) => {
                self.workers[worker].recorded.store(false, Ordering::Relaxed);
                let all = self.progress.failed() || self.progress.ended();
                for one in self.lines.iter_mut().filter(|one| one.worker == worker) {
                    let due = match one.machine.waits_for() {
                        Some((ticket, level)) => self.progress.reached(ticket, level),
                        None => true,
                    };
                    one.woken |= one.machine.waits_for_record() && (all || due);
                }
            }
            Move::Tick(worker) => {
                let now = self.now;
                self.workers[worker].record_counted(now, false);
                self.tick_due_ns = now.mono_ns + 1_000_000_000;
            }
            Move::Write => self.write(),
            Move::Chaos => self.chaos(),
            Move::Time => {
                let most = match dice.below(20) {
                    0 => 400_000_000,
                    1 => 20_000_000,
                    _ => 100_000,
                };
                let ns = 1 + dice.below(most) as u64;
                let due_ns = self.next_due_ns().unwrap_or(u64::MAX);
                self.advance(ns.min(due_ns - self.now.mono_ns));
            }
        }
    }

    /// The operations of a closed connection came back.
    fn part(&mut self, line: usize) {
        let one = &mut self.lines[line];
        assert!(one.link.is_none() && one.opening == Opening::No, "closed with an upstream");
        assert!(one.upstream_read.is_none() && one.upstream_send.is_none());
        let env = &mut self.workers[one.worker].env;
        match one.machine.farewell(Some(0), self.now, env) {
            None => one.parted = true,
            Some(entry) => match env.recorder.submit(entry) {
                Ok(_) => one.parted = true,
                // Tried again until the time for it is over.
                Err(_) if !self.dice.once_in(200) => {}
                Err(_) => {
                    one.machine.farewell_lost(self.now, env);
                    one.parted = true;
                }
            },
        }
    }

    fn server_reads(&mut self, link: usize) {
        let Some(arrived) = self.links[link].read(&mut self.dice) else { return };
        let marker = arrived.marker.as_deref();
        let found = self.asks.iter_mut().find(|(ask, _)| Some(&*ask.marker) == marker);
        let Some((ask, times)) = found else {
            panic!("a request that nobody sent: {:?} {:?}", arrived.head, arrived.body)
        };
        *times += 1;
        assert_eq!(*times, 1, "{} arrived again", ask.marker);
        let may = matches!(ask.fate, Fate::Passes | Fate::Accepted | Fate::Replaced(_));
        assert!(may, "{} was forwarded and must not be: {:?}", ask.marker, ask.fate);
        for secret in [super::stage::PLANTED, super::stage::FORBIDDEN] {
            let both = arrived.head.contains(secret) || arrived.body.contains(secret);
            assert!(!both, "{secret} arrived with {}", ask.marker);
        }
        assert!(arrived.head.contains("Authorization: Bearer gateways-own\r\n"));
        let calm = self.calm || self.over;
        self.links[link].answer(&arrived, ask, calm, &mut self.dice);
    }

    fn write(&mut self) {
        if !self.calm && !self.over && self.dice.once_in(30) {
            let calls = ["append", "append", "sync", "create", "rename", "sync_names", "write_key"];
            let (call, how) = (*self.dice.pick(&calls), *self.dice.pick(&How::ALL));
            self.disk.memory.fail_next(call, how);
        }
        let Some(steps) = &mut self.steps else { return };
        match steps.turn() {
            Turned::Waits(wait) => {
                self.write_due_ns =
                    self.now.mono_ns + wait.max(Duration::from_micros(1)).as_nanos() as u64;
            }
            Turned::Ended(ended) => panic!("the writer ended by itself: {ended:?}"),
        }
        // Bounded batches: what is left is taken by the next turn.
        self.orders = self.progress.queued_entries() > 0;
        if self.workers.iter().any(|worker| worker.env.recorder.has_gathered()) {
            self.orders = false;
        }
    }

    fn change(&mut self, jwks: usize) {
        let generation = self.snapshot.generation + 1;
        let keys = &super::JWKS[..jwks];
        self.snapshot = Arc::new(snapshot_of(&self.plan, &self.deny, generation, keys));
        self.lines.iter_mut().for_each(|one| one.woken = true);
    }

    /// Something around the gateway goes wrong, or changes.
    fn chaos(&mut self) {
        let open: Vec<usize> =
            (0..self.lines.len()).filter(|line| !self.lines[*line].closed).collect();
        let Some(&line) = (!open.is_empty()).then(|| self.dice.pick(&open)) else {
            return self.connect_some();
        };
        let jwks = 1 + usize::from(self.late_key);
        match self.dice.below(26) {
            0..=2 => self.lines[line].client.fin = true,
            3..=5 => self.lines[line].client.reset = true,
            6 | 7 => {
                let ms = self.dice.below(40_000) as u64;
                self.lines[line].client.stuck_until_ns = self.now.mono_ns + ms * 1_000_000;
            }
            8 | 9 => {
                if !self.links.is_empty() {
                    let link = self.dice.below(self.links.len());
                    match self.dice.once_in(2) {
                        true => self.links[link].fin = true,
                        false => self.links[link].reset = true,
                    }
                }
            }
            10..=12 => {
                let ms = *self.dice.pick(&[1, 50, 2_000, 12_000]);
                self.stalled_until_ns = self.now.mono_ns + ms * 1_000_000;
            }
            13 => {
                let calls = self.disk.memory.calls();
                let count = 1 + self.dice.below(12) as u64;
                let how = *self.dice.pick(&How::ALL);
                self.disk.memory.fail(calls..calls + count, how);
            }
            14 => {
                let used: usize = self.disk.memory.image().values().map(Vec::len).sum();
                let room = self.dice.below(4 << 10) as u64;
                let reserved = self.disk.memory.reserved();
                self.disk.memory.capacity(Some(used as u64 + reserved + room));
            }
            15 | 16 => self.disk.memory.capacity(None),
            17 => {
                // Somebody sets the wall clock; within the life of the tokens.
                let ns = self.dice.below(60_000_000_000) as u64;
                self.now.utc_ns = match self.dice.once_in(2) {
                    true => self.now.utc_ns + ns,
                    false => self.now.utc_ns - ns,
                };
                *self.clock.lock().expect("no panic") = self.now;
            }
            18 => {
                self.late_key = true;
                self.plan.fetching = false;
                self.change(2);
            }
            19 if self.denied.is_empty() => {
                let subject = *self.dice.pick(&["alice", "bob"]);
                self.denied.push(subject);
                let text = format!("[[deny]]\nissuer = \"{ISSUER}\"\nsubject = \"{subject}\"\n");
                self.deny = Arc::new(DenyList::parse(&text).expect("a deny list"));
                self.change(jwks);
            }
            20 => self.change(jwks),
            21 if self.dice.once_in(2) => self.crash(),
            22 if self.dice.once_in(3) => self.drain(),
            23 => self.connect_some(),
            _ => self.lines[line].woken = true,
        }
    }

    fn drain(&mut self) {
        if self.drain_due_ns.is_some() || self.workers.iter().any(|worker| worker.env.draining) {
            return;
        }
        self.workers.iter_mut().for_each(|worker| worker.env.draining = true);
        self.lines.iter_mut().for_each(|one| one.woken = true);
        let limits = &self.plan.limits;
        self.drain_due_ns = Some(self.now.mono_ns + limits.drain_ms_max * 1_000_000);
    }

    /// The drain is over: the process ends in order and another one begins.
    fn restart(&mut self) {
        self.disk.memory.heal();
        self.disk.memory.capacity(None);
        self.end();
        self.start_again();
    }

    /// The process is killed, or the host loses its power; then it is started again.
    fn crash(&mut self) {
        self.crashes += 1;
        let kept: (Image, Image) = match self.level == Level::Synced && self.dice.once_in(2) {
            true => self.disk.after_power_cut(&mut self.dice),
            false => (self.disk.memory.image(), self.disk.memory.keys()),
        };
        self.lines.clear();
        self.workers.clear();
        self.steps = None;
        assert_eq!(self.shared.budget.used_bytes(), 0, "payload memory after all connections");
        self.disk = SimDisk::with(kept.0, kept.1);
        self.start_again();
    }

    fn start_again(&mut self) {
        self.lines.clear();
        self.links.clear();
        self.workers.clear();
        self.drain_due_ns = None;
        self.stalled_until_ns = 0;
        self.start();
        let record = read_image(self.disk.memory.image());
        self.ledger.all_is_there(&record);
        self.connect_some();
    }

    // ---- to the end ----

    /// Runs until everything has ended, and looks at what is left.
    pub fn run(mut self) -> Ended {
        let storm = 500 + self.dice.below(2500) as u64;
        while self.step < storm && self.step() {}
        self.over = true;
        self.disk.memory.heal();
        self.disk.memory.capacity(None);
        self.stalled_until_ns = 0;
        if self.dice.once_in(3) && !self.calm {
            self.drain();
        }
        let patience_ns = patience_ns(&self.plan.limits);
        let mut until_ns = self.now.mono_ns + patience_ns;
        let mut waiting: usize = usize::MAX;
        while self.lines.iter().any(|one| !one.parted) {
            let step = self.step();
            let open: Vec<usize> =
                (0..self.lines.len()).filter(|line| !self.lines[*line].parted).collect();
            assert!(step, "nothing will ever happen again, and lines {open:?} are open");
            // As long as a peer writes something new, nobody has to end.
            let unsaid = self.lines.iter().map(|one| one.client.asks.len() - one.client.begun);
            let left: usize = unsaid.sum::<usize>() + self.lines.len();
            if left < waiting {
                waiting = left;
                until_ns = self.now.mono_ns + patience_ns;
            }
            assert!(self.now.mono_ns < until_ns, "lines {open:?} do not end");
        }
        self.finish()
    }

    /// The process ends in order: nothing is left in any hand.
    fn end(&mut self) {
        assert_eq!(self.shared.budget.used_bytes(), 0, "payload memory after all connections");
        for worker in &mut self.workers {
            assert_eq!((worker.open, worker.waiting.len()), (0, 0), "upstream connections in use");
            worker.record_counted(self.now, true);
            worker.env.recorder.flush();
        }
        let mut steps = self.steps.take().expect("the writer runs");
        steps.stop();
        let ended = loop {
            match steps.turn() {
                Turned::Waits(wait) => self.advance(wait.as_nanos() as u64 + 1),
                Turned::Ended(ended) => break ended,
            }
            self.step += 1;
            assert!(self.step < STEPS_MAX, "the writer does not end");
        };
        match ended {
            Ok(_) => {}
            Err(EndFault::Unstored(entries)) => panic!("{entries} entries are not stored"),
            Err(EndFault::Panicked) => unreachable!("a panic would have come here"),
        }
        drop(steps);
        assert_eq!((self.progress.queued_entries(), self.progress.queued_bytes()), (0, 0));
    }

    fn finish(mut self) -> Ended {
        self.end();
        let image = self.disk.memory.image();
        let log_key = key();
        let checks = Checks { key: Some(log_key.verifier()), commitments: true };
        let mut none = super::stage::Keep(Vec::new());
        let reading = read(&MemoryDisk::with(image), checks, &mut none).expect("a disk in memory");
        assert!(reading.is_consistent(), "{:?} {:?}", reading.damage, reading.strays);
        assert_eq!(reading.unsigned_entries, 0);
        let record = none.0;
        assert!(!self.disk.memory.synced_after_failure());
        self.ledger.all_is_there(&record);
        check_record(&record, self.calm);
        self.check_ends(&record);
        if self.calm {
            self.check_calm(&record);
        }
        Ended {
            trace: self.trace,
            steps: self.step,
            looked: self.ledger.looked,
            arrived: self.asks.iter().map(|(_, times)| times).sum(),
            crashes: self.crashes,
            entries: record.len(),
        }
    }

    /// Every exchange ended in its time.
    fn check_ends(&self, record: &[Recorded]) {
        let patience_ns = patience_ns(&self.plan.limits);
        for entry in record.iter().filter(|entry| entry.kind == Kind::End) {
            let took = entry.detail()["duration_ns"].as_u64().expect("a duration");
            assert!(took < patience_ns, "an exchange took {took} ns");
        }
    }

    /// Nothing failed, so everything came to what it had to.
    fn check_calm(&self, record: &[Recorded]) {
        for (ask, times) in &self.asks {
            let goes_up = matches!(ask.fate, Fate::Passes | Fate::Accepted | Fate::Replaced(_));
            assert_eq!(*times, usize::from(goes_up), "{} of {:?}", ask.marker, ask.fate);
        }
        let mut answered = 0;
        for one in &self.lines {
            let client = &one.client;
            assert_eq!(client.answers.len(), client.asks.len(), "each request is answered");
            answered += client.answers.len();
            for (ask, seen) in client.asks.iter().zip(&client.answers) {
                let message = seen.message();
                match ask.fate {
                    Fate::Passes => assert!(message.get("result").is_some(), "{ask:?}: {seen:?}"),
                    Fate::Accepted => assert!((200..300).contains(&seen.status), "{seen:?}"),
                    Fate::Refused(status, code) => {
                        assert_eq!(seen.status, status, "{ask:?}: {seen:?}");
                        assert!(code == 0 || message["error"]["code"] == code, "{seen:?}");
                    }
                    Fate::Replaced(code) => assert_eq!(message["error"]["code"], code, "{seen:?}"),
                }
            }
        }
        let ends = record.iter().filter(|entry| entry.kind == Kind::End).count();
        let alone = record.iter().filter(|entry| {
            entry.exchange.is_some() && entry.ordinal == 0 && entry.kind == Kind::Refusal
        });
        assert!(ends + alone.count() >= answered, "{ends} ends of {answered} answers");
    }
}

/// A writer with its recorders, and a flag for each that it sets when it wakes that worker.
struct Opened {
    steps: Steps,
    recorders: Vec<Recorder>,
    flags: Vec<Arc<AtomicBool>>,
}

fn open_writer(count: usize, disk: &SimDisk, plan: &Plan, clock: &Arc<Mutex<Now>>) -> Opened {
    let flags: Vec<_> = (0..count).map(|_| Arc::new(AtomicBool::new(false))).collect();
    loop {
        let mut write = settings(count, plan.limits.clone());
        let clock = clock.clone();
        write.clock = Arc::new(move || *clock.lock().expect("no panic"));
        write.random = random();
        write.boot_id = [0xb0; 16];
        write.sealing = plan.sealing.clone();
        write.wakers = flags
            .iter()
            .map(|flag| {
                let flag = flag.clone();
                Arc::new(move || flag.store(true, Ordering::Relaxed)) as Waker
            })
            .collect();
        match writer::open(Box::new(disk.clone()), write) {
            Ok((steps, recorders)) => return Opened { steps, recorders, flags },
            // The start fails closed; starting again works.
            Err(StartFault::Io(_) | StartFault::Reserve(_)) => {
                disk.memory.heal();
                disk.memory.capacity(None);
            }
            Err(fault) => panic!("{fault}"),
        }
    }
}

/// Receives some of what is in the network; the spare room is full of poison before.
fn fill(buffer: &mut BytesMut, from: &mut std::collections::VecDeque<u8>, dice: &mut Dice) {
    for slot in buffer.spare_capacity_mut() {
        slot.write(POISON);
    }
    let room = buffer.capacity() - buffer.len();
    assert!(room > 0, "a receive into no room would look like the peer's end");
    let some = piece(from.len().min(room), dice);
    let taken: Vec<u8> = from.drain(..some).collect();
    buffer.extend_from_slice(&taken);
}

/// FNV-1a: only tells two runs apart.
fn mix(trace: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(trace, |trace, byte| (trace ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
