//! The payload memory of the whole process as one number that is taken from and given back.
//!
//! Whoever gathers a body, an answer or an event takes its bytes here first and refuses when there are
//! none left, so that a thousand maximal bodies end in refusals and not in memory.
//!
//! Nobody takes most of it from the others: what a caller holds already and asks for on top may be no
//! more than what is free. So one caller comes to half of it, two to a third each, and there is always
//! room for one that holds nothing. A caller's only message is measured by the whole alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that may be in flight, shared by all workers.
#[derive(Debug)]
pub struct Budget {
    used_bytes: AtomicU64,
    bytes_max: u64,
}

impl Budget {
    /// A budget of `bytes_max` bytes.
    pub fn new(bytes_max: u64) -> Arc<Budget> {
        Arc::new(Budget { used_bytes: AtomicU64::new(0), bytes_max })
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// An empty reservation, to be grown.
    pub fn reservation(self: &Arc<Budget>) -> Reservation {
        Reservation { budget: Arc::clone(self), share: None, bytes: 0 }
    }
}

/// What one caller holds of a [`Budget`], over all its connections.
#[derive(Debug, Default)]
pub struct Share {
    used_bytes: AtomicU64,
}

/// Bytes taken from a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    share: Option<Arc<Share>>,
    bytes: u64,
}

impl Reservation {
    /// From here on it counts as this caller's. Nothing is reserved yet.
    pub fn belongs_to(&mut self, share: &Arc<Share>) {
        debug_assert_eq!(self.bytes, 0, "it was somebody's");
        self.share = Some(Arc::clone(share));
    }

    /// Makes the reservation at least `bytes` large; false, and nothing changed, when the budget has
    /// not that much left, or not for this caller.
    pub fn grow_to(&mut self, bytes: u64) -> bool {
        let Some(more) = bytes.checked_sub(self.bytes) else { return true };
        if more == 0 {
            return true;
        }
        // What this reservation holds is of the message itself. Two workers may look at the same moment;
        // then a caller is over its share by a message.
        let others = self
            .share
            .as_ref()
            .map_or(0, |share| share.used_bytes.load(Ordering::Relaxed).saturating_sub(self.bytes));
        let taken =
            self.budget.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                let free = self.budget.bytes_max.saturating_sub(used);
                let asked = if others == 0 { more } else { others.saturating_add(bytes) };
                (asked <= free && more <= free).then(|| used + more)
            });
        if taken.is_ok() {
            self.bytes = bytes;
            if let Some(share) = &self.share {
                share.used_bytes.fetch_add(more, Ordering::Relaxed);
            }
        }
        taken.is_ok()
    }

    /// Makes the reservation at most `bytes` large.
    pub fn shrink_to(&mut self, bytes: u64) {
        if let Some(less) = self.bytes.checked_sub(bytes).filter(|&less| less > 0) {
            self.give_back(less);
            self.bytes = bytes;
        }
    }

    fn give_back(&self, bytes: u64) {
        self.budget.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(share) = &self.share {
            share.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes reserved.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked against the mutant that knows no shares.
    #[test]
    fn nobody_takes_what_the_others_need() {
        let budget = Budget::new(100);
        let (one, other) = (Arc::new(Share::default()), Arc::new(Share::default()));
        let of = |share: &Arc<Share>| {
            let mut reservation = budget.reservation();
            reservation.belongs_to(share);
            reservation
        };
        let mut held = Vec::new();
        while held.len() < 100 {
            let mut next = of(&one);
            if !next.grow_to(10) {
                break;
            }
            held.push(next);
        }
        assert_eq!(budget.used_bytes(), 50, "one alone comes to half");
        let mut whole = of(&other);
        assert!(whole.grow_to(50), "who holds nothing may have what is free");
        drop(whole);
        assert!(of(&other).grow_to(20));
        held.clear();
        assert_eq!((budget.used_bytes(), one.used_bytes.load(Ordering::Relaxed)), (0, 0));
        assert!(of(&one).grow_to(100), "an only message is measured by the whole");
    }

    #[test]
    fn what_was_taken_comes_back_and_the_sum_is_never_exceeded() {
        let budget = Budget::new(100);
        let mut first = budget.reservation();
        let mut second = budget.reservation();
        assert!(first.grow_to(60));
        assert!(!second.grow_to(41));
        assert!(second.grow_to(40));
        assert_eq!(budget.used_bytes(), 100);
        first.shrink_to(10);
        assert!(second.grow_to(90));
        drop((first, second));
        assert_eq!(budget.used_bytes(), 0);
    }
}
