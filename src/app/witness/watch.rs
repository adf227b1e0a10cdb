//! How long the record has gone unwitnessed, and what is done about it.
//!
//! The record counts as witnessed up to the largest checkpoint that any of the witnesses has cosigned:
//! one honest witness is enough to show a rewritten record. What follows is unwitnessed since that
//! checkpoint was signed, or since the first entry behind it was written, whichever was later.
//!
//! | state | event | next | told |
//! |---|---|---|---|
//! | good | unwitnessed for longer than `max_unwitnessed`, or no witness reached at the start | alarm | log, entry; new calls refused where `on_unwitnessed` says so |
//! | alarm | a cosignature over a checkpoint younger than that | good | log, entry |

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::app::evidence::Evidence;
use crate::app::log;
use crate::record::{Kind, Progress};

/// How often the time is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What one witness has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WitnessGauges {
    /// Name of the witness, as configured.
    pub name: String,
    /// Entries that it has cosigned.
    pub size: u64,
    /// Requests that failed, by reason.
    pub failures: BTreeMap<&'static str, u64>,
}

/// What all of them have come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Each witness.
    pub witnesses: Vec<WitnessGauges>,
    /// Entries behind the last cosigned checkpoint.
    pub unwitnessed_entries: u64,
    /// For how long the oldest of them has waited.
    pub unwitnessed_ms: u64,
    /// Longer than is allowed.
    pub alarm: bool,
}

#[derive(Debug)]
struct Seen {
    size: u64,
    /// When the cosigned checkpoint was signed, or entries were first seen behind it.
    since: Instant,
}

/// Shared by the threads that ask, the one that watches, and the admin endpoint.
#[derive(Debug)]
pub struct Watch {
    max: Duration,
    refuses: bool,
    seen: Mutex<Seen>,
    witnesses: Mutex<Vec<WitnessGauges>>,
    /// A witness has agreed at the start, or cosigned since.
    ever: AtomicBool,
    alarm: AtomicBool,
    entries: AtomicU64,
    stopping: AtomicBool,
}

impl Watch {
    /// `reached` has the size at which each witness agreed at the start; entries up to the largest are
    /// witnessed. Without any the alarm is on from the start.
    pub fn new(names: &[String], reached: &[Option<u64>], max_ms: u64, refuses: bool) -> Watch {
        let gauge = |(name, size): (&String, &Option<u64>)| WitnessGauges {
            name: name.clone(),
            size: size.unwrap_or(0),
            ..WitnessGauges::default()
        };
        let size = reached.iter().flatten().max().copied();
        Watch {
            max: Duration::from_millis(max_ms),
            refuses,
            seen: Mutex::new(Seen { size: size.unwrap_or(0), since: Instant::now() }),
            witnesses: Mutex::new(names.iter().zip(reached).map(gauge).collect()),
            ever: AtomicBool::new(size.is_some()),
            alarm: AtomicBool::new(false),
            entries: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn of(&self, witness: usize, change: impl FnOnce(&mut WitnessGauges)) {
        let mut all = self.witnesses.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(one) = all.get_mut(witness) {
            change(one);
        }
    }

    /// A witness has cosigned a checkpoint of this size that is so old.
    pub fn cosigned(&self, witness: usize, size: u64, age: Duration) {
        self.of(witness, |one| one.size = size);
        self.ever.store(true, Ordering::Release);
        let mut seen = self.seen();
        if size >= seen.size {
            let signed = Instant::now().checked_sub(age).unwrap_or(seen.since);
            *seen = Seen { size, since: signed.max(seen.since) };
        }
    }

    /// A request failed.
    pub fn failed(&self, witness: usize, reason: &'static str) {
        self.of(witness, |one| *one.failures.entry(reason).or_default() += 1);
    }

    /// What the admin endpoint shows.
    pub fn gauges(&self) -> Gauges {
        let seen = self.seen();
        let entries = self.entries.load(Ordering::Relaxed).saturating_sub(seen.size);
        let unwitnessed = if entries == 0 { Duration::ZERO } else { seen.since.elapsed() };
        Gauges {
            witnesses: self
                .witnesses
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .clone(),
            unwitnessed_entries: entries,
            unwitnessed_ms: unwitnessed.as_millis() as u64,
            alarm: self.alarm.load(Ordering::Relaxed),
        }
    }

    /// Ends [`Watch::run`].
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Looks at the time until it is stopped.
    pub fn run(&self, progress: &Arc<Progress>, evidence: &Evidence) {
        let mut told = false;
        while !self.stopping.load(Ordering::Acquire) {
            let entries = progress.entries();
            self.entries.store(entries, Ordering::Relaxed);
            let (size, since) = {
                let mut seen = self.seen();
                if entries <= seen.size {
                    seen.since = Instant::now();
                }
                (seen.size, seen.since.elapsed())
            };
            let alarm = !self.ever.load(Ordering::Acquire) || since > self.max;
            if alarm != told {
                told = alarm;
                self.alarm.store(alarm, Ordering::Relaxed);
                progress.set_unwitnessed(alarm && self.refuses);
                let refused = if self.refuses { "; new calls are refused" } else { "" };
                let since_ms = since.as_millis() as u64;
                match alarm {
                    true => log::error("unwitnessed", format!("no witness cosigns{refused}")),
                    false => log::info("witnessed", "a witness cosigns again"),
                }
                .field("cosigned_entries", size)
                .field("entries", entries)
                .write();
                let detail = json!({
                    "event": if alarm { "unwitnessed" } else { "witnessed" },
                    "cosigned_entries": size,
                    "entries": entries,
                    "unwitnessed_ms": since_ms,
                    "refuses": self.refuses,
                });
                evidence.record(Kind::Witness, &detail);
            }
            std::thread::sleep(LOOK);
        }
    }
}
