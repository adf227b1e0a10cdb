//! What all workers and the control threads share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::sources::Sources;
use super::tls::accept::Acceptor;
use crate::gateway::budget::Budget;
use crate::gateway::env::{Notice, Snapshot};
use crate::gateway::metrics::Metrics;
use crate::gateway::schemas::Schemas;
use crate::gateway::session::SessionTable;
use crate::types::Now;

/// Reads both clocks.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// Signals to the tasks of one worker.
#[derive(Debug, Default)]
pub struct Signals {
    /// The record went on, or failed. Heard by one task of the worker, which wakes those it concerns.
    pub recorded: Notify,
    /// The snapshot changed, or the drain began.
    pub changed: Notify,
}

/// What all workers share.
pub struct Shared {
    snapshot: ArcSwap<Snapshot>,
    acceptors: ArcSwap<Vec<Option<Arc<Acceptor>>>>,
    generation: AtomicU64,
    /// Payload memory.
    pub budget: Arc<Budget>,
    /// Idle-window sessions.
    pub sessions: Arc<SessionTable>,
    /// Output schemas of tools.
    pub schemas: Arc<Schemas>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Client connections of all workers.
    pub connections: AtomicU64,
    /// The same by source.
    pub sources: Arc<Sources>,
    /// Both clocks.
    pub clock: Clock,
    /// Asks for the keys of an issuer; must not block.
    pub keys_wanted: Box<dyn Fn(u16) + Send + Sync>,
    /// Tells the operator about a fault; must not block for long.
    pub notice: Box<dyn Fn(Notice) + Send + Sync>,
    /// One for each worker.
    pub signals: Vec<Arc<Signals>>,
    draining: AtomicBool,
    drained: AtomicBool,
    broken: AtomicBool,
}

impl Shared {
    /// Shared state that starts with this snapshot.
    pub fn new(
        snapshot: Snapshot,
        metrics: Arc<Metrics>,
        signals: Vec<Arc<Signals>>,
        clock: Clock,
        keys_wanted: Box<dyn Fn(u16) + Send + Sync>,
        notice: Box<dyn Fn(Notice) + Send + Sync>,
    ) -> Shared {
        let limits = &snapshot.settings.limits;
        Shared {
            generation: AtomicU64::new(snapshot.generation),
            budget: Budget::new(limits.inflight_bytes_max),
            sessions: SessionTable::new(limits.token_cache_entries_max as usize),
            schemas: Schemas::new(limits.output_schemas_bytes_max),
            snapshot: ArcSwap::from_pointee(snapshot),
            acceptors: ArcSwap::default(),
            metrics,
            connections: AtomicU64::new(0),
            sources: Arc::default(),
            clock,
            keys_wanted,
            notice,
            signals,
            draining: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        }
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Number of the snapshot in force: one relaxed load to see whether anything changed.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Changes the snapshot: `change` gets the one in force and gives the next. All open connections
    /// look at it at once.
    pub fn change(&self, change: impl Fn(&Snapshot) -> Snapshot) {
        let mut generation = 0;
        self.snapshot.rcu(|current| {
            let mut next = change(current);
            next.generation = current.generation + 1;
            generation = next.generation;
            next
        });
        self.generation.fetch_max(generation, Ordering::AcqRel);
        self.wake();
    }

    /// What each listener shows and demands of callers from now on; connections that are open look at the
    /// snapshot, which has the demands, too. Why it is changed behind this: whoever connects between the
    /// two takes the older demands for its own, and not more for granted than it has met. `None` is plain
    /// HTTP, and so is a listener that is not in the list.
    pub fn set_acceptors(&self, acceptors: Vec<Option<Arc<Acceptor>>>) {
        self.acceptors.store(Arc::new(acceptors));
    }

    /// See [`Shared::set_acceptors`].
    pub fn acceptor(&self, listener: u16) -> Option<Arc<Acceptor>> {
        self.acceptors.load().get(usize::from(listener)).cloned().flatten()
    }

    /// The drain has begun.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Begins the drain: listeners close, idle connections close, open exchanges may end.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.wake();
    }

    /// Ends the drain: open exchanges are cut.
    pub fn end_drain(&self) {
        if !self.drained.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// See [`Shared::end_drain`].
    pub fn drained(&self) -> bool {
        self.drained.load(Ordering::Acquire)
    }

    /// A task panicked. The process must stop: the runtime keeps the panic inside the task, and a core
    /// that has lost one may have lost more.
    pub fn set_broken(&self) {
        self.broken.store(true, Ordering::Release);
    }

    /// See [`Shared::set_broken`].
    pub fn broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    fn wake(&self) {
        for signals in &self.signals {
            signals.changed.notify_waiters();
            // A listener or a worker that was not waiting at this moment sees it when it waits next.
            signals.changed.notify_one();
        }
    }
}
