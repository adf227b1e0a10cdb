//! Which exchanges belong together.
//!
//! | link present | session | rule recorded |
//! |---|---|---|
//! | a wrapped `Mcp-Session-Id` of ours | the id inside the handle | `mcp-session` |
//! | the handle of a task, or a marked `requestState`, without such a field | the id inside the handle | `task`, `request-state` |
//! | an `initialize` request | a new id; later calls without a handle join it | `initialize` |
//! | none | the last session of (issuer, subject, client, upstream) inside the idle window, else a new one | `idle-window` |
//!
//! The id travels inside the handle, so the first rule needs no table and holds across workers, hosts
//! and restarts. The idle window is a small table shared by the workers; each worker keeps the slot of
//! a caller beside its verified token, so the lock is taken once per token and worker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::budget::Share;
use crate::types::{Identity, Now, SessionId};

/// What stitched an exchange to its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionRule {
    /// The wrapped session handle.
    Handle,
    /// The wrapped id of a task.
    Task,
    /// The marked state of a call that is made again.
    RequestState,
    /// A handshake opens a session.
    Initialize,
    /// The idle window of the caller.
    IdleWindow,
}

impl SessionRule {
    /// The word that is recorded.
    pub fn as_str(self) -> &'static str {
        match self {
            SessionRule::Handle => "mcp-session",
            SessionRule::Task => "task",
            SessionRule::RequestState => "request-state",
            SessionRule::Initialize => "initialize",
            SessionRule::IdleWindow => "idle-window",
        }
    }
}

/// A new session id: milliseconds of UTC (48 bits), then random bits (32).
pub fn new_session(now: Now, random: u64) -> SessionId {
    let mut bytes = [0; SessionId::BYTES];
    bytes[..6].copy_from_slice(&(now.utc_ns / 1_000_000).to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&(random as u32).to_be_bytes());
    SessionId::from_bytes(bytes)
}

/// The idle-window session of one caller at one upstream.
#[derive(Debug)]
pub struct SessionSlot(Mutex<Option<(SessionId, u64)>>, Arc<Share>);

impl SessionSlot {
    /// What the caller holds of the process' payload memory.
    pub fn share(&self) -> &Arc<Share> {
        &self.1
    }

    /// The session that a call at `now` belongs to, and marks it as used.
    pub fn current(&self, now: Now, idle_ms_max: u64, random: u64) -> SessionId {
        let mut slot = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let session = match *slot {
            Some((session, last_ns))
                if now.mono_ns.saturating_sub(last_ns) <= idle_ms_max * 1_000_000 =>
            {
                session
            }
            _ => new_session(now, random),
        };
        *slot = Some((session, now.mono_ns));
        session
    }

    /// Makes `session` the one that later calls join.
    pub fn open(&self, session: SessionId, now: Now) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
            Some((session, now.mono_ns));
    }

    fn last_ns(&self) -> u64 {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).map_or(0, |(_, last)| last)
    }
}

type CallerKey = (Arc<str>, Arc<str>, Option<Arc<str>>, u16);

/// Slots of all callers, shared by the workers.
#[derive(Debug)]
pub struct SessionTable {
    slots: Mutex<HashMap<CallerKey, Arc<SessionSlot>>>,
    callers_max: usize,
}

impl SessionTable {
    /// A table for at most `callers_max` callers; beyond it the longest idle half is forgotten.
    pub fn new(callers_max: usize) -> Arc<SessionTable> {
        Arc::new(SessionTable { slots: Mutex::new(HashMap::new()), callers_max })
    }

    /// The slot of this caller.
    pub fn slot(&self, identity: &Identity, upstream: u16) -> Arc<SessionSlot> {
        let key = (
            Arc::clone(&identity.issuer),
            Arc::clone(&identity.subject),
            identity.client.clone(),
            upstream,
        );
        let mut slots = self.slots.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if slots.len() >= self.callers_max && !slots.contains_key(&key) {
            let mut ages: Vec<u64> = slots.values().map(|slot| slot.last_ns()).collect();
            ages.sort_unstable();
            let middle = ages[ages.len() / 2];
            slots.retain(|_, slot| slot.last_ns() > middle);
        }
        Arc::clone(
            slots
                .entry(key)
                .or_insert_with(|| Arc::new(SessionSlot(Mutex::new(None), Arc::default()))),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::caller;

    fn at(seconds: u64) -> Now {
        Now { utc_ns: seconds * 1_000_000_000, mono_ns: seconds * 1_000_000_000 }
    }

    #[test]
    fn calls_inside_the_idle_window_share_a_session_and_later_ones_do_not() {
        let table = SessionTable::new(100);
        let slot = table.slot(&caller("al"), 0);
        let first = slot.current(at(10), 30_000, 1);
        assert_eq!(slot.current(at(39), 30_000, 2), first);
        assert_eq!(table.slot(&caller("al"), 0).current(at(60), 30_000, 3), first);
        assert_ne!(slot.current(at(100), 30_000, 4), first);
        assert_ne!(table.slot(&caller("bo"), 0).current(at(11), 30_000, 5), first);
        assert_ne!(table.slot(&caller("al"), 1).current(at(11), 30_000, 6), first);
    }

    #[test]
    fn the_table_is_bounded() {
        let table = SessionTable::new(10);
        for index in 0..1000 {
            table.slot(&caller(&index.to_string()), 0).current(at(index), 1, index);
            assert!(table.slots.lock().unwrap().len() <= 10);
        }
    }
}
