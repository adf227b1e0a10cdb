//! What a message may cost beside reading it.
//!
//! A text can be made so that each of its bytes costs many times what an ordinary one does: members of gzip that hold
//! three bytes each, secrets and nothing else. What is dear is counted as the bytes of ordinary text that take
//! as long, never as time: the same text is judged alike on every machine and with every engine.
//!
//! | counted | bytes | source |
//! |---|---|---|
//! | a member of gzip that is begun | [`MEMBER`] | measured: 3.5 µs, most of it the tables of its codes |
//! | a finding | [`FINDING`] | measured: 0.4 to 1 µs: its expression, its place, two digests, what takes its place |
//!
//! Near-matches and what is read again have bounds of their own ([`super::scan`]), and so have the bytes that are
//! decoded ([`super::views`]).

/// Decided: as many times the ordinary cost as a byte of a hostile text may have.
const TIMES_MAX: u64 = 10;
/// Decided: so much of a message may cost that, whatever its length: an answer of ordinary size is masked and not
/// refused, though it is nothing but secrets.
const FREE_BYTES: u64 = 256 << 10;

/// Bytes of ordinary text, 3.5 ns each, that cost what a member of gzip does.
pub(super) const MEMBER: u64 = 1000;
/// The same for a finding.
pub(super) const FINDING: u64 = 200;

/// More than [`Work`] allows, in bytes of ordinary text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverBudget {
    /// What was counted before it was refused.
    pub seen: u64,
    /// What a message of its length may have.
    pub allowed: u64,
}

/// What one message has cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    seen: u64,
    allowed: u64,
}

impl Default for Work {
    fn default() -> Work {
        Work::of(0)
    }
}

impl Work {
    /// Nothing yet of a message of `bytes` bytes.
    pub(super) fn of(bytes: usize) -> Work {
        Work { seen: 0, allowed: TIMES_MAX * (bytes as u64 + FREE_BYTES) }
    }

    /// Without a bound: for what was counted already and is looked at again.
    pub(super) fn again() -> Work {
        Work { seen: 0, allowed: u64::MAX }
    }

    /// Counts `count` things of `each` bytes.
    pub(super) fn add(&mut self, count: usize, each: u64) -> Result<(), OverBudget> {
        self.seen = self.seen.saturating_add(each.saturating_mul(count as u64));
        match self.seen > self.allowed {
            true => Err(OverBudget { seen: self.seen, allowed: self.allowed }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_passes_and_one_more_does_not() {
        let allowed = TIMES_MAX * (1000 + FREE_BYTES);
        let mut work = Work::of(1000);
        assert_eq!(work.add(2, allowed / 2), Ok(()));
        assert_eq!(work.add(0, FINDING), Ok(()));
        assert_eq!(work.add(1, 1), Err(OverBudget { seen: allowed + 1, allowed }));
    }
}
