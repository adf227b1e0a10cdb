//! Refusals before authentication: recorded one by one up to a rate, then counted.
//!
//! Anybody on the network can cause them, so their number in the record is bounded: for each source
//! address and reason, `refusals_each_max` a minute are entries of their own; what comes beyond is
//! counted, with the first and last time, and written as one entry when its minute is over. Connections
//! on which nobody was ever authenticated are only counted, by how they ended.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::limits::Limits;
use crate::types::Now;

const WINDOW_NS: u64 = 60_000_000_000;

#[derive(Debug)]
struct Window {
    started_ns: u64,
    each: u64,
    beyond: u64,
    first_utc_ns: u64,
    last_utc_ns: u64,
}

impl Window {
    fn count(&mut self, now: Now) {
        if self.beyond == 0 {
            self.first_utc_ns = now.utc_ns;
        }
        self.beyond += 1;
        self.last_utc_ns = now.utc_ns;
    }
}

/// What a window counted beyond the rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Source address; `None` when more sources came than are told apart.
    pub source: Option<IpAddr>,
    /// Reason label.
    pub reason: &'static str,
    /// Refusals beyond those recorded one by one.
    pub count: u64,
    /// UTC nanoseconds of the first and last of them.
    pub first_utc_ns: u64,
    /// See `first_utc_ns`.
    pub last_utc_ns: u64,
}

/// Counts refusals of one worker.
#[derive(Debug, Default)]
pub struct Refusals {
    windows: HashMap<(Option<IpAddr>, &'static str), Window>,
}

impl Refusals {
    /// True when this refusal becomes an entry of its own; false when it was only counted.
    pub fn each(
        &mut self,
        source: IpAddr,
        reason: &'static str,
        now: Now,
        limits: &Limits,
    ) -> bool {
        let window = self.window(source, reason, now, limits);
        if window.each < limits.refusals_each_max {
            window.each += 1;
            return true;
        }
        window.count(now);
        false
    }

    /// Counts something that never becomes an entry of its own.
    pub fn count(&mut self, source: IpAddr, reason: &'static str, now: Now, limits: &Limits) {
        self.window(source, reason, now, limits).count(now);
    }

    fn window(
        &mut self,
        source: IpAddr,
        reason: &'static str,
        now: Now,
        limits: &Limits,
    ) -> &mut Window {
        let mut key = (Some(source), reason);
        if !self.windows.contains_key(&key)
            && self.windows.len() as u64 >= limits.refusals_sources_max
        {
            key.0 = None;
        }
        self.windows.entry(key).or_insert(Window {
            started_ns: now.mono_ns,
            each: 0,
            beyond: 0,
            first_utc_ns: 0,
            last_utc_ns: 0,
        })
    }

    /// Takes a count back that could not be recorded now; it is due again when its minute is over.
    pub fn put_back(&mut self, counted: Counted, now: Now) {
        let window = self.windows.entry((counted.source, counted.reason)).or_insert(Window {
            started_ns: now.mono_ns,
            each: u64::MAX,
            beyond: 0,
            first_utc_ns: counted.first_utc_ns,
            last_utc_ns: counted.last_utc_ns,
        });
        window.beyond += counted.count;
        window.first_utc_ns = window.first_utc_ns.min(counted.first_utc_ns);
        window.last_utc_ns = window.last_utc_ns.max(counted.last_utc_ns);
    }

    /// Windows that are over (all of them when `all`): what they counted, to be recorded.
    pub fn due(&mut self, now: Now, all: bool) -> Vec<Counted> {
        let mut counted = Vec::new();
        self.windows.retain(|(source, reason), window| {
            if !all && now.mono_ns.saturating_sub(window.started_ns) < WINDOW_NS {
                return true;
            }
            if window.beyond > 0 {
                counted.push(Counted {
                    source: *source,
                    reason,
                    count: window.beyond,
                    first_utc_ns: window.first_utc_ns,
                    last_utc_ns: window.last_utc_ns,
                });
            }
            false
        });
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { utc_ns: seconds * 1_000_000_000, mono_ns: seconds * 1_000_000_000 }
    }

    #[test]
    fn beyond_the_rate_refusals_are_counted_with_first_and_last() {
        let limits = Limits { refusals_each_max: 2, ..Limits::default() };
        let mut refusals = Refusals::default();
        let source: IpAddr = "10.0.0.1".parse().unwrap();
        assert!(refusals.each(source, "token-missing", at(1), &limits));
        assert!(refusals.each(source, "token-missing", at(2), &limits));
        assert!(!refusals.each(source, "token-missing", at(3), &limits));
        assert!(!refusals.each(source, "token-missing", at(4), &limits));
        assert!(refusals.each(source, "path-unknown", at(5), &limits));
        assert!(refusals.due(at(30), false).is_empty());
        let due = refusals.due(at(62), false);
        assert_eq!(due.len(), 1);
        assert_eq!(
            (due[0].count, due[0].first_utc_ns, due[0].last_utc_ns),
            (2, 3_000_000_000, 4_000_000_000)
        );
        assert!(refusals.each(source, "token-missing", at(63), &limits));
    }

    #[test]
    fn the_number_of_sources_told_apart_is_bounded() {
        let limits = Limits { refusals_sources_max: 16, ..Limits::default() };
        let mut refusals = Refusals::default();
        for index in 0..10_000u32 {
            refusals.each(IpAddr::from(index.to_be_bytes()), "token-missing", at(1), &limits);
        }
        assert!(refusals.windows.len() <= 17);
        let counted: u64 = refusals.due(at(1), true).iter().map(|counted| counted.count).sum();
        assert_eq!(counted, 10_000 - 16 - limits.refusals_each_max);
    }
}
