//! How published checkpoints get to those who ask witnesses: one mailbox for each of them, which holds
//! the newest checkpoint and the leaves that were added since the last one was taken.
//!
//! The writer never waits here: what nobody has taken is joined with what comes next, so a mailbox
//! stays as small as one [`Range`] however long a witness is away.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam_channel::Sender;

use super::handle::Order;
use super::tree::Range;
use crate::types::Now;

/// A checkpoint that was signed, written, and synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The signed note.
    pub note: String,
    /// Entries in its tree.
    pub size: u64,
    /// Root of that tree.
    pub root: [u8; 32],
    /// When it was signed.
    pub now: Now,
}

#[derive(Debug, Default)]
struct State {
    signed: Option<Arc<Signed>>,
    grown: Option<Range>,
    closed: bool,
}

/// One witness's view of what the writer publishes.
#[derive(Debug, Default)]
pub struct Mailbox {
    state: Mutex<State>,
    arrived: Condvar,
}

/// What [`Mailbox::take`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// The newest checkpoint, and the leaves since the last one that was taken. For the first one:
    /// since the record was opened.
    Signed(Arc<Signed>, Range),
    /// Nothing came in time.
    Nothing,
    /// Nothing will come any more.
    Closed,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Puts a checkpoint in, with the leaves since the last one that was put in.
    pub fn put(&self, signed: Arc<Signed>, grown: &Range) {
        let mut state = self.lock();
        match &mut state.grown {
            Some(waiting) => assert!(waiting.join(grown), "leaves are published without gaps"),
            None => state.grown = Some(grown.clone()),
        }
        state.signed = Some(signed);
        drop(state);
        self.arrived.notify_all();
    }

    /// Nothing more will be put in.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Waits for the next checkpoint, for at most `timeout`. What was put in before the mailbox was
    /// closed can still be taken.
    pub fn take(&self, timeout: Duration) -> Taken {
        let waits = |state: &mut State| state.signed.is_none() && !state.closed;
        let (mut state, _) = self
            .arrived
            .wait_timeout_while(self.lock(), timeout, waits)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        match (state.signed.take(), state.grown.take()) {
            (Some(signed), Some(grown)) => Taken::Signed(signed, grown),
            _ if state.closed => Taken::Closed,
            _ => Taken::Nothing,
        }
    }
}

/// Brings cosigned notes back to the writer, which stores them in front of the next checkpoint.
#[derive(Clone)]
pub struct Cosigned {
    pub(super) orders: Sender<Order>,
}

impl Cosigned {
    /// Hands over a whole note: the text and the log's line as published, then cosignature lines that
    /// were verified. False when the queue is full; the next note says more anyway.
    pub fn store(&self, note: String) -> bool {
        self.orders.try_send(Order::Cosigned(note)).is_ok()
    }
}

impl fmt::Debug for Cosigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cosigned")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(size: u64) -> Arc<Signed> {
        let now = Now { utc_ns: size, mono_ns: size };
        Arc::new(Signed { note: size.to_string(), size, root: [size as u8; 32], now })
    }

    fn range(begin: u64, end: u64) -> Range {
        let mut range = Range::new(begin);
        (begin..end).for_each(|index| range.append([index as u8; 32]));
        range
    }

    // Mutant: `put` that replaces what waits instead of joining it.
    #[test]
    fn what_nobody_took_is_joined() {
        let mailbox = Mailbox::default();
        assert_eq!(mailbox.take(Duration::ZERO), Taken::Nothing);
        mailbox.put(signed(3), &range(1, 3));
        mailbox.put(signed(9), &range(3, 9));
        assert_eq!(mailbox.take(Duration::ZERO), Taken::Signed(signed(9), range(1, 9)));
        mailbox.put(signed(12), &range(9, 12));
        mailbox.close();
        assert_eq!(mailbox.take(Duration::ZERO), Taken::Signed(signed(12), range(9, 12)));
        assert_eq!(mailbox.take(Duration::from_secs(60)), Taken::Closed);
    }
}
