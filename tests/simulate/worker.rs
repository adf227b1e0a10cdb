//! A worker without its ring: the environment of its machines, its pool of upstream connections, and the
//! hand-over to the writer. What it decides is what `worker::core` and `worker::upstream` decide.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use stenograph::auth::cache::Cache;
use stenograph::gateway::budget::Budget;
use stenograph::gateway::entries;
use stenograph::gateway::env::{Env, Ids, Pseudonyms, Snapshot, WorkerCounters};
use stenograph::gateway::metrics::Metrics;
use stenograph::gateway::refusals::Refusals;
use stenograph::gateway::schemas::Schemas;
use stenograph::gateway::session::SessionTable;
use stenograph::guard::Scanner;
use stenograph::limits::Limits;
use stenograph::record::{Entry, Kind, PartKind, Recorder};
use stenograph::types::Now;
use stenograph::wire::json;

use super::stage::RULES;

/// What the workers of one process share.
#[derive(Clone)]
pub struct Shared {
    pub budget: Arc<Budget>,
    pub sessions: Arc<SessionTable>,
    pub metrics: Arc<Metrics>,
}

pub struct Worker {
    pub env: Env,
    /// Upstream connections that wait for the next call.
    pub idle: Vec<usize>,
    /// Upstream connections that are counted.
    pub open: usize,
    /// Client connections that wait for one.
    pub waiting: VecDeque<usize>,
    /// The writer has woken this worker.
    pub recorded: Arc<AtomicBool>,
    /// Since when entries that nobody waits for have been gathered.
    pub lazy_since_ns: Option<u64>,
}

impl Worker {
    pub fn new(
        index: u8,
        seed: u64,
        recorder: Recorder,
        recorded: Arc<AtomicBool>,
        snapshot: Arc<Snapshot>,
        shared: &Shared,
        limits: &Limits,
    ) -> Worker {
        let mut recorder = recorder;
        recorder.gather();
        let env = Env {
            scanner: Scanner::new(RULES.clone(), [5; 32], limits),
            json: json::Scratch::new(),
            tokens: Cache::new(limits),
            recorder,
            ids: Ids::new(index, seed),
            sessions: shared.sessions.clone(),
            schemas: Schemas::new(1 << 20),
            budget: shared.budget.clone(),
            metrics: WorkerCounters { all: shared.metrics.clone(), worker: usize::from(index) },
            pseudonyms: Pseudonyms::default(),
            refusals: Refusals::default(),
            notices: Vec::new(),
            keys_wanted: Vec::new(),
            draining: false,
            drained: false,
            snapshot,
        };
        Worker {
            env,
            idle: Vec::new(),
            open: 0,
            waiting: VecDeque::new(),
            recorded,
            lazy_since_ns: None,
        }
    }

    /// Records the refusals that were only counted.
    pub fn record_counted(&mut self, now: Now, all: bool) {
        let mut due = self.env.refusals.due(now, all);
        // The map that they stand in has no order that a seed could repeat.
        due.sort_by_key(|counted| (counted.source, counted.reason));
        for counted in due {
            let detail = entries::counted(&counted);
            let entry = Entry::new(Kind::Refusals, now).part(PartKind::Detail, detail);
            if self.env.recorder.submit(entry).is_err() {
                self.env.refusals.put_back(counted, now);
            }
        }
    }
}
