//! The payload memory of the whole process as one number that is taken from and given back.
//!
//! Whoever gathers a body, an answer or an event takes its bytes here first and refuses when there are
//! none left, so that a thousand maximal bodies end in refusals and not in memory.

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
        Reservation { budget: Arc::clone(self), bytes: 0 }
    }
}

/// Bytes taken from a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Reservation {
    /// Makes the reservation at least `bytes` large; false, and nothing changed, when the budget has
    /// not that much left.
    pub fn grow_to(&mut self, bytes: u64) -> bool {
        let Some(more) = bytes.checked_sub(self.bytes) else { return true };
        if more == 0 {
            return true;
        }
        let taken =
            self.budget.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(more).filter(|&sum| sum <= self.budget.bytes_max)
            });
        if taken.is_ok() {
            self.bytes = bytes;
        }
        taken.is_ok()
    }

    /// Makes the reservation at most `bytes` large.
    pub fn shrink_to(&mut self, bytes: u64) {
        if let Some(less) = self.bytes.checked_sub(bytes).filter(|&less| less > 0) {
            self.budget.used_bytes.fetch_sub(less, Ordering::Relaxed);
            self.bytes = bytes;
        }
    }

    /// Bytes reserved.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
