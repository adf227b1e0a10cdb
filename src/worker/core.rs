//! The worker thread: a pinned core, a ring, listeners, and the tasks of its connections.

use std::cell::{Cell, RefCell, RefMut};
use std::future::Future;
use std::net::{Shutdown, TcpListener as StdListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tokio_uring::net::TcpListener;

use super::receipts::{self, Receipts};
use super::ring::Flags;
use super::shared::{Shared, Signals};
use super::sources::Place;
use super::tls::accept::Acceptor;
use super::upstream::{NoLink, Pools, Upstream};
use super::{client, handshake, socket};
use crate::auth::cache::Cache;
use crate::gateway::connection::Action;
use crate::gateway::entries;
use crate::gateway::env::{Env, Ids, Notice, Pseudonyms, Snapshot, Whose, WorkerCounters};
use crate::gateway::fault::{Fault, UpstreamFault};
use crate::gateway::metrics::Counters;
use crate::gateway::refusals::Refusals;
use crate::guard::Scanner;
use crate::limits::Limits;
use crate::record::{Entry, Kind, PartKind, Progress, Recorder};
use crate::types::Now;
use crate::wire::json;

/// How often a worker looks at what is due: counted refusals, idle upstream connections.
const TICK: Duration = Duration::from_secs(1);

/// Time that cut exchanges have for their last entry and their last bytes.
const CUT: Duration = Duration::from_millis(500);

/// What one worker is started with.
pub struct Start {
    /// Number of the worker.
    pub index: u8,
    /// Core it is pinned to.
    pub core: Option<usize>,
    /// Submission queue entries.
    pub ring_depth: u32,
    /// Flags that the kernel takes.
    pub flags: Flags,
    /// One listening socket for each configured listener.
    pub listeners: Vec<StdListener>,
    /// The way to the writer.
    pub recorder: Recorder,
    /// Fingerprint key of the record.
    pub fingerprint_key: [u8; 32],
    /// Random bits for ids.
    pub seed: u64,
}

/// One worker, as its tasks see it.
pub struct Worker {
    shared: Arc<Shared>,
    signals: Arc<Signals>,
    env: RefCell<Env>,
    pools: Rc<Pools>,
    receipts: Receipts,
    progress: Arc<Progress>,
    connections: Cell<u64>,
    actions: Cell<Vec<Action>>,
    counters: WorkerCounters,
    fingerprint_key: [u8; 32],
    workers: usize,
}

impl Worker {
    /// Both clocks.
    pub fn now(&self) -> Now {
        (self.shared.clock)()
    }

    /// Signals to the tasks of this worker.
    pub fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Kept upstream connections.
    pub fn pools(&self) -> &Rc<Pools> {
        &self.pools
    }

    /// Counters of this worker.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The tools of the machines, with the snapshot in force.
    pub fn env(&self, now: Now) -> RefMut<'_, Env> {
        let mut env = self.env.borrow_mut();
        env.draining = self.shared.draining();
        env.drained = self.shared.drained();
        if env.snapshot.generation != self.shared.generation() {
            let next = self.shared.snapshot();
            if !Arc::ptr_eq(&env.snapshot.rules, &next.rules) {
                // Without memory for it this panics, which stops the process: verdicts never name a
                // policy under which nothing was judged.
                let limits = &next.settings.limits;
                env.scanner = Scanner::new(next.rules.clone(), self.fingerprint_key, limits);
            }
            env.snapshot = next;
        }
        let _ = now;
        env
    }

    /// Who waits for the record.
    pub fn receipts(&self) -> &Receipts {
        &self.receipts
    }

    /// How far the record is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// A number for a new connection.
    pub fn number(&self) -> u64 {
        self.connections.set(self.connections.get() + 1);
        self.connections.get()
    }

    /// An empty list of actions, for one turn of one connection.
    pub fn actions(&self) -> Vec<Action> {
        self.actions.take()
    }

    /// Takes the list back, empty.
    pub fn actions_back(&self, actions: Vec<Action>) {
        debug_assert!(actions.is_empty(), "an action was not performed");
        self.actions.set(actions);
    }

    /// Entries are gathered, and nobody waits for any of them.
    pub fn gathers_lazily(&self) -> bool {
        let env = self.env.borrow();
        env.recorder.has_gathered() && !env.recorder.is_urgent()
    }

    /// Hands the gathered entries to the writer.
    pub fn hand_over(&self) {
        self.env.borrow_mut().recorder.flush();
    }

    /// Passes on what the machines left for others.
    pub fn pass_on(&self, env: &mut Env) {
        if env.recorder.has_gathered() {
            self.receipts.gathered.notify_one();
        }
        for notice in env.notices.drain(..) {
            (self.shared.notice)(notice);
        }
        for issuer in env.keys_wanted.drain(..) {
            (self.shared.keys_wanted)(issuer);
        }
    }

    /// Gets a connection to the upstream of `route`.
    pub fn open_upstream(
        &self,
        route: u16,
        stream: bool,
    ) -> impl Future<Output = Result<Upstream, Fault>> + use<> {
        let settings = self.env.borrow().settings().clone();
        let pools = self.pools.clone();
        let workers = self.workers;
        let shared = self.shared.clone();
        async move {
            let found = settings.routes.get(usize::from(route)).ok_or(Fault::PathUnknown)?;
            let cap = (found.connections as usize / workers).max(1);
            let refused = match pools.checkout(found, stream, cap, &settings.limits).await {
                Ok(link) => return Ok(link),
                Err(NoLink::Fault(fault)) => return Err(fault),
                Err(NoLink::Tls(refused)) => refused,
            };
            let fault = Fault::Upstream(UpstreamFault::Tls(refused.fault));
            let words = refused.why.as_deref().unwrap_or(refused.fault.as_str());
            let why = format!("upstream {}: {}", found.name, bounded(words));
            notice(&shared, fault, Whose::Upstream(found.name.clone()), why);
            Err(fault)
        }
    }

    /// What a listener shows and demands; `None` is plain HTTP.
    pub fn acceptor(&self, listener: u16) -> Option<Arc<Acceptor>> {
        self.shared.acceptor(listener)
    }

    /// What is in force. Why not that of the turn before: the first thing a connection does may
    /// be to ask who is believed.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot()
    }

    /// The bounds in force.
    pub fn limits(&self) -> Limits {
        self.shared.snapshot().settings.limits.clone()
    }

    /// Waits until the drain begins.
    pub async fn until_drain(&self) {
        loop {
            let changed = self.signals.changed.notified();
            if self.shared.draining() {
                return;
            }
            changed.await;
        }
    }

    /// A caller's handshake came to nothing: recorded within the rate, counted, logged.
    pub fn tell_handshake(&self, source: std::net::SocketAddr, refused: &handshake::Refused) {
        let words = refused.why.as_deref().unwrap_or(refused.fault.as_str());
        self.tell_refused(source, Fault::Handshake(refused.fault), words);
    }

    /// A connection was refused before its first request.
    pub fn tell_refused(&self, source: std::net::SocketAddr, fault: Fault, why: &str) {
        let now = self.now();
        let label = fault.disposition().label;
        self.counters.refused(label);
        let why = bounded(why);
        {
            let env = &mut *self.env.borrow_mut();
            let limits = &env.snapshot.settings.limits;
            if env.refusals.each(source.ip(), label, now, limits) {
                let detail = entries::handshake_refused(source, label, &why, now);
                let entry = Entry::new(Kind::Refusals, now).part(PartKind::Detail, detail);
                if env.recorder.submit(entry).is_err() {
                    // The queue is full: it is counted, and told with the others.
                    env.refusals.count(source.ip(), label, now, limits);
                }
                self.pass_on(env);
            }
        }
        notice(&self.shared, fault, Whose::Source(source.ip()), format!("{source}: {why}"));
    }

    /// An upstream connection broke; where TLS says why, so does the log.
    pub fn tell_upstream_tls(&self, upstream: &str, error: &std::io::Error) {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(error) = inner {
            let fault = Fault::Upstream(UpstreamFault::Tls(super::tls::why::fault(error)));
            let why = format!("upstream {upstream}: {}", bounded(&error.to_string()));
            notice(&self.shared, fault, Whose::Upstream(upstream.into()), why);
        }
    }

    /// Counts something for the record that becomes no entry of its own.
    pub(super) fn count(&self, source: std::net::SocketAddr, reason: &'static str) {
        let now = self.now();
        let env = &mut *self.env.borrow_mut();
        let limits = &env.snapshot.settings.limits;
        env.refusals.count(source.ip(), reason, now, limits);
    }

    /// Records the refusals that were only counted.
    fn record_counted(&self, all: bool) {
        let now = self.now();
        let mut env = self.env.borrow_mut();
        // The budget is one number for all workers; one of them shows it.
        if env.metrics.worker == 0 {
            env.metrics.set_inflight_bytes(self.shared.budget.used_bytes());
        }
        for counted in env.refusals.due(now, all) {
            let detail = entries::counted(&counted);
            let entry = Entry::new(Kind::Refusals, now).part(PartKind::Detail, detail);
            if env.recorder.submit(entry).is_err() {
                // The queue is full: the count is kept and tried again.
                env.refusals.put_back(counted, now);
            }
        }
        self.pass_on(&mut env);
    }
}

/// Bound: what a peer can make the log and the record say about its handshake.
const WHY_BYTES_MAX: usize = 400;

fn bounded(why: &str) -> String {
    let end = (0..=why.len().min(WHY_BYTES_MAX)).rev().find(|at| why.is_char_boundary(*at));
    why[..end.unwrap_or(0)].to_owned()
}

fn notice(shared: &Shared, fault: Fault, whose: Whose, why: String) {
    (shared.notice)(Notice { fault, whose, exchange: None, why: Some(why) });
}

/// Runs a worker until the drain is over. Blocks the thread.
pub fn run(start: Start, shared: Arc<Shared>) -> Result<(), String> {
    if let Some(core) = start.core {
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        rustix::thread::sched_setaffinity(None, &set).map_err(|error| {
            format!("worker {} cannot be pinned to core {core}: {error}", start.index)
        })?;
    }
    let mut builder = tokio_uring::builder();
    builder.entries(start.ring_depth);
    builder.uring_builder(&start.flags.builder(start.ring_depth));
    let runtime = tokio_uring::Runtime::new(&builder)
        .map_err(|error| format!("worker {}: no ring: {error}", start.index))?;
    runtime.block_on(work(start, shared))
}

async fn work(mut start: Start, shared: Arc<Shared>) -> Result<(), String> {
    start.recorder.gather();
    let progress = start.recorder.progress_shared();
    let snapshot = shared.snapshot();
    let limits = snapshot.settings.limits.clone();
    let scanner = Scanner::new(snapshot.rules.clone(), start.fingerprint_key, &limits);
    let index = usize::from(start.index);
    let counters = WorkerCounters { all: shared.metrics.clone(), worker: index };
    let env = Env {
        scanner,
        json: json::Scratch::new(),
        tokens: Cache::new(&limits),
        recorder: start.recorder,
        ids: Ids::new(start.index, start.seed),
        sessions: shared.sessions.clone(),
        schemas: shared.schemas.clone(),
        budget: shared.budget.clone(),
        metrics: counters.clone(),
        pseudonyms: Pseudonyms::default(),
        refusals: Refusals::default(),
        notices: Vec::new(),
        keys_wanted: Vec::new(),
        draining: false,
        drained: false,
        snapshot,
    };
    let worker = Rc::new(Worker {
        signals: shared.signals[index].clone(),
        workers: shared.signals.len(),
        env: RefCell::new(env),
        pools: Pools::new(counters.clone()),
        receipts: Receipts::default(),
        progress,
        connections: Cell::new(0),
        actions: Cell::default(),
        counters,
        fingerprint_key: start.fingerprint_key,
        shared: shared.clone(),
    });
    let listening = tokio_uring::spawn(receipts::listen(worker.clone()));
    let handing_over = tokio_uring::spawn(receipts::hand_over(worker.clone()));
    let mut accepting = Vec::new();
    for (listener, socket) in start.listeners.into_iter().enumerate() {
        accepting.push(tokio_uring::spawn(accept(worker.clone(), socket, listener as u16)));
    }
    let mut drained_at: Option<Instant> = None;
    loop {
        let changed = worker.signals.changed.notified();
        let open = shared.connections.load(Ordering::Acquire);
        if shared.draining() {
            let until = *drained_at
                .get_or_insert_with(|| Instant::now() + Duration::from_millis(limits.drain_ms_max));
            // What outlasts the drain is cut, and recorded as cut; then the worker ends.
            if Instant::now() >= until {
                shared.end_drain();
            }
            if open == 0 || Instant::now() >= until + CUT {
                break;
            }
        }
        let pause = if drained_at.is_some() { Duration::from_millis(20) } else { TICK };
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(pause) => {}
        }
        worker.record_counted(false);
        worker.pools.prune(&limits);
    }
    for task in accepting {
        let _ = task.await;
    }
    worker.record_counted(true);
    listening.abort();
    handing_over.abort();
    worker.hand_over();
    Ok(())
}

/// Accepts until the drain.
async fn accept(worker: Rc<Worker>, socket: StdListener, listener: u16) {
    let listener_socket = TcpListener::from_std(socket);
    let connections_max = worker.shared.snapshot().settings.limits.connections_max;
    let mut accepting = pin!(None);
    loop {
        if worker.shared.draining() {
            break;
        }
        let mut changed = pin!(worker.signals.changed.notified());
        if accepting.is_none() {
            accepting.set(Some(listener_socket.accept()));
        }
        let accepted = tokio::select! {
            accepted = async { accepting.as_mut().as_pin_mut().unwrap().await } => accepted,
            () = changed.as_mut() => continue,
        };
        accepting.set(None);
        match accepted {
            Ok((stream, source)) => {
                // A listener of both families sees callers over IPv4 in the form of IPv6.
                let source = std::net::SocketAddr::new(source.ip().to_canonical(), source.port());
                let shared = &worker.shared;
                let open = shared.connections.fetch_add(1, Ordering::AcqRel);
                let guard = Open { shared: shared.clone(), worker: worker.clone(), place: None };
                worker.counters().client_opened();
                if open >= connections_max {
                    // Bound: beyond it a connection costs nothing but its handshake.
                    worker.count(source, "connection-over-bound");
                    drop((stream, guard));
                    continue;
                }
                client::serve(worker.clone(), stream, source, listener, guard);
            }
            // Out of descriptors, or a connection that was gone before it was taken: a short pause
            // keeps a full table from becoming a busy loop.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    // Why: the kernel keeps the port bound while an accept is under way, even after the process.
    socket::shutdown(&listener_socket, Shutdown::Both);
    if let Some(last) = accepting.as_mut().as_pin_mut() {
        let _ = tokio::time::timeout(Duration::from_millis(200), last).await;
    }
}

/// Counts a connection as open until it is dropped.
pub(super) struct Open {
    shared: Arc<Shared>,
    worker: Rc<Worker>,
    place: Option<Place>,
}

impl Open {
    /// Counts it among the connections of `source`. False when that has as many as it may; beyond the bound
    /// a connection costs nothing but its begin.
    pub(super) fn is_of(&mut self, source: std::net::SocketAddr) -> bool {
        let each_max = self.worker.snapshot().settings.limits.connections_each_max;
        self.place = self.shared.sources.enter(source.ip(), each_max);
        if self.place.is_none() {
            self.worker.count(source, "source-over-bound");
        }
        self.place.is_some()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.set_broken();
        }
        self.shared.connections.fetch_sub(1, Ordering::AcqRel);
        self.worker.counters().client_closed();
    }
}
