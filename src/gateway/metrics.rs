//! Counters of the gateway: one block for each worker, added to by that worker alone, read by the admin
//! endpoint. Nothing is shared between workers, so that counting costs a load and a store.
//!
//! Invariant: each [`Counters`] has one writer. A second writer would lose counts, never more.
//! Labels are names from the configuration and fixed words; nothing that a caller sends becomes one.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::types::RuleAction;

/// How an exchange ended, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream's answer was released whole.
    Answered,
    /// Refused by us: identity, grants, form, bounds.
    Refused,
    /// Refused because a rule blocked it.
    Blocked,
    /// The upstream did not answer as it should.
    Failed,
    /// The client went away, or we cut the stream.
    Cut,
}

impl Outcome {
    /// Every outcome with its label.
    pub const ALL: [(Outcome, &'static str); 5] = [
        (Outcome::Answered, "answered"),
        (Outcome::Refused, "refused"),
        (Outcome::Blocked, "blocked"),
        (Outcome::Failed, "failed"),
        (Outcome::Cut, "cut"),
    ];
}

/// Which leg and which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leg {
    /// Received from clients.
    ClientIn,
    /// Handed to the kernel for clients.
    ClientOut,
    /// Received from upstreams.
    UpstreamIn,
    /// Handed to the kernel for upstreams.
    UpstreamOut,
}

impl Leg {
    /// Every leg with its two labels: peer and direction.
    pub const ALL: [(Leg, &'static str, &'static str); 4] = [
        (Leg::ClientIn, "client", "received"),
        (Leg::ClientOut, "client", "sent"),
        (Leg::UpstreamIn, "upstream", "received"),
        (Leg::UpstreamOut, "upstream", "sent"),
    ];
}

/// Upper bounds of the classes of a duration, in microseconds; a last class holds the rest.
/// From a call on loopback to the longest tool call.
pub const DURATION_CLASSES_US: [u64; 10] =
    [250, 1_000, 4_000, 16_000, 64_000, 250_000, 1_000_000, 4_000_000, 30_000_000, 300_000_000];

/// A duration counted in classes.
#[derive(Debug, Default)]
pub struct Durations {
    classes: [AtomicU64; DURATION_CLASSES_US.len() + 1],
    sum_us: AtomicU64,
}

impl Durations {
    /// Counts one duration.
    pub fn add_us(&self, us: u64) {
        let class = DURATION_CLASSES_US.partition_point(|bound| *bound < us);
        add(&self.classes[class], 1);
        add(&self.sum_us, us);
    }
}

/// Counters of one worker. Aligned so that two workers never write to one cache line.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    reasons: &'static [&'static str],
    /// Exchanges by upstream and outcome; the last row is for those that reached no upstream's path.
    requests: Box<[[AtomicU64; Outcome::ALL.len()]]>,
    /// Refusals by reason, in the order of `reasons`; the last one is for words outside it.
    refusals: Box<[AtomicU64]>,
    findings: [AtomicU64; 4],
    bytes: [AtomicU64; Leg::ALL.len()],
    clients_opened: AtomicU64,
    clients_closed: AtomicU64,
    upstreams_opened: AtomicU64,
    upstreams_closed: AtomicU64,
    /// Payload bytes held now.
    inflight_bytes: AtomicU64,
    /// From the head of a request to the last byte of its answer.
    exchange: Durations,
    /// From a frozen buffer to its receipt.
    recorder_wait: Durations,
}

/// One writer, so a load and a store do; a reader sees an old value or the new one.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

impl Counters {
    fn new(upstreams: usize, reasons: &'static [&'static str]) -> Counters {
        Counters {
            reasons,
            requests: (0..=upstreams).map(|_| Default::default()).collect(),
            refusals: (0..=reasons.len()).map(|_| AtomicU64::new(0)).collect(),
            findings: Default::default(),
            bytes: Default::default(),
            clients_opened: AtomicU64::new(0),
            clients_closed: AtomicU64::new(0),
            upstreams_opened: AtomicU64::new(0),
            upstreams_closed: AtomicU64::new(0),
            inflight_bytes: AtomicU64::new(0),
            exchange: Durations::default(),
            recorder_wait: Durations::default(),
        }
    }

    /// An exchange has ended; `upstream` is the index in the configuration, if its path was one's.
    pub fn request(&self, upstream: Option<u16>, outcome: Outcome) {
        let none = self.requests.len() - 1;
        let row = upstream.map_or(none, |index| usize::from(index).min(none));
        add(&self.requests[row][outcome as usize], 1);
    }

    /// Something was refused; `reason` is one of the words given to [`Metrics::new`].
    pub fn refused(&self, reason: &str) {
        let position = self.reasons.iter().position(|known| *known == reason);
        add(&self.refusals[position.unwrap_or(self.reasons.len())], 1);
    }

    /// The scanner found something.
    pub fn found(&self, action: RuleAction) {
        add(&self.findings[action as usize], 1);
    }

    /// Bytes went over a socket.
    pub fn bytes(&self, leg: Leg, count: u64) {
        add(&self.bytes[leg as usize], count);
    }

    /// A client connection was accepted.
    pub fn client_opened(&self) {
        add(&self.clients_opened, 1);
    }

    /// A client connection is gone.
    pub fn client_closed(&self) {
        add(&self.clients_closed, 1);
    }

    /// A connection to an upstream was made.
    pub fn upstream_opened(&self) {
        add(&self.upstreams_opened, 1);
    }

    /// A connection to an upstream is gone.
    pub fn upstream_closed(&self) {
        add(&self.upstreams_closed, 1);
    }

    /// Payload bytes that this worker holds now.
    pub fn set_inflight_bytes(&self, count: u64) {
        self.inflight_bytes.store(count, Ordering::Relaxed);
    }

    /// Time from the head of a request to the last byte of its answer.
    pub fn exchange_us(&self, us: u64) {
        self.exchange.add_us(us);
    }

    /// Time from a frozen buffer to its receipt.
    pub fn recorder_wait_us(&self, us: u64) {
        self.recorder_wait.add_us(us);
    }
}

/// The counters of all workers.
#[derive(Debug)]
pub struct Metrics {
    upstreams: Vec<String>,
    reasons: &'static [&'static str],
    workers: Vec<Counters>,
}

/// The sum of a duration over all workers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DurationSum {
    /// Count of each class of [`DURATION_CLASSES_US`], then of the rest; not cumulated.
    pub classes: Vec<u64>,
    /// Sum in microseconds.
    pub sum_us: u64,
}

/// The sum over all workers at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sum {
    /// Upstream name (`""` for none), label of the outcome, count.
    pub requests: Vec<(String, &'static str, u64)>,
    /// Reason, count.
    pub refusals: Vec<(&'static str, u64)>,
    /// Action, count.
    pub findings: Vec<(&'static str, u64)>,
    /// Peer, direction, bytes.
    pub bytes: Vec<(&'static str, &'static str, u64)>,
    /// Client connections accepted since start.
    pub clients_opened: u64,
    /// Client connections open now.
    pub clients_open: u64,
    /// Connections to upstreams made since start.
    pub upstreams_opened: u64,
    /// Connections to upstreams open now.
    pub upstreams_open: u64,
    /// Payload bytes held now.
    pub inflight_bytes: u64,
    /// From the head of a request to the last byte of its answer.
    pub exchange: DurationSum,
    /// From a frozen buffer to its receipt.
    pub recorder_wait: DurationSum,
}

impl Metrics {
    /// Counters for so many workers. `upstreams` are the names in the order of the configuration;
    /// `reasons` are the labels of every fault.
    pub fn new(
        workers: usize,
        upstreams: Vec<String>,
        reasons: &'static [&'static str],
    ) -> Metrics {
        let counters = |_| Counters::new(upstreams.len(), reasons);
        let workers = (0..workers).map(counters).collect();
        Metrics { upstreams, reasons, workers }
    }

    /// The counters that worker `index` alone adds to. Panics when there is no such worker.
    pub fn worker(&self, index: usize) -> &Counters {
        &self.workers[index]
    }

    /// Adds up all workers.
    pub fn sum(&self) -> Sum {
        let total = |of: &dyn Fn(&Counters) -> &AtomicU64| -> u64 {
            let values = self.workers.iter().map(|one| of(one).load(Ordering::Relaxed));
            values.fold(0, u64::wrapping_add)
        };
        let durations = |of: fn(&Counters) -> &Durations| DurationSum {
            classes: (0..=DURATION_CLASSES_US.len())
                .map(|class| total(&|one| &of(one).classes[class]))
                .collect(),
            sum_us: total(&|one| &of(one).sum_us),
        };
        let mut requests = Vec::new();
        let names = self.upstreams.iter().map(String::as_str).chain([""]);
        for (row, name) in names.enumerate() {
            for (column, (_, label)) in Outcome::ALL.iter().enumerate() {
                let count = total(&|one| &one.requests[row][column]);
                requests.push((name.to_owned(), *label, count));
            }
        }
        let reasons = self.reasons.iter().copied().chain(["other"]).enumerate();
        let actions = [RuleAction::Alert, RuleAction::Mask, RuleAction::Block, RuleAction::Allow];
        let clients_opened = total(&|one| &one.clients_opened);
        let upstreams_opened = total(&|one| &one.upstreams_opened);
        Sum {
            requests,
            refusals: reasons
                .map(|(at, reason)| (reason, total(&|one| &one.refusals[at])))
                .collect(),
            findings: actions
                .map(|action| (action.as_str(), total(&|one| &one.findings[action as usize])))
                .to_vec(),
            bytes: Leg::ALL
                .map(|(leg, peer, way)| (peer, way, total(&|one| &one.bytes[leg as usize])))
                .to_vec(),
            clients_opened,
            // Why: closed may be read after opened has grown; it never becomes negative for a reader.
            clients_open: clients_opened.saturating_sub(total(&|one| &one.clients_closed)),
            upstreams_opened,
            upstreams_open: upstreams_opened.saturating_sub(total(&|one| &one.upstreams_closed)),
            inflight_bytes: total(&|one| &one.inflight_bytes),
            exchange: durations(|one| &one.exchange),
            recorder_wait: durations(|one| &one.recorder_wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_added_up() {
        let metrics = Metrics::new(2, vec!["a".to_owned(), "b".to_owned()], &["expired", "denied"]);
        for worker in 0..2 {
            let counters = metrics.worker(worker);
            counters.request(Some(1), Outcome::Answered);
            counters.request(None, Outcome::Refused);
            counters.refused("denied");
            counters.refused("a word of no list");
            counters.found(RuleAction::Mask);
            counters.bytes(Leg::ClientOut, 10);
            counters.client_opened();
            counters.exchange_us(1_000);
            counters.exchange_us(1_000_000_000);
        }
        metrics.worker(1).client_closed();
        let sum = metrics.sum();
        assert!(sum.requests.contains(&("b".to_owned(), "answered", 2)));
        assert!(sum.requests.contains(&(String::new(), "refused", 2)));
        assert!(sum.requests.contains(&("a".to_owned(), "answered", 0)));
        assert_eq!(sum.refusals, [("expired", 0), ("denied", 2), ("other", 2)]);
        assert_eq!(sum.findings[1], ("mask", 2));
        assert!(sum.bytes.contains(&("client", "sent", 20)));
        assert_eq!((sum.clients_opened, sum.clients_open), (2, 1));
        assert_eq!(sum.exchange.classes[1], 2);
        assert_eq!(sum.exchange.classes[DURATION_CLASSES_US.len()], 2);
        assert_eq!(sum.exchange.sum_us, 2_000_002_000);
    }

    #[test]
    fn labels_stand_in_the_order_of_their_values() {
        for (index, (outcome, _)) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, index);
        }
        for (index, (leg, _, _)) in Leg::ALL.iter().enumerate() {
            assert_eq!(*leg as usize, index);
        }
    }
}
