//! Signed checkpoints on their way out: the newest for whoever asks, about one a second for the
//! witnesses; and cosigned notes on their way in.
//!
//! Invariant: what is published was synced before, so that a power cut cannot make the record smaller
//! than what a witness has seen.

use std::sync::Arc;

use super::{Fault, State, Thread, sync};
use crate::limits::Limits;
use crate::record::mailbox::{Mailbox, Signed};
use crate::record::tree::Range;
use crate::types::Now;

/// Longest that cosignatures wait for the next checkpoint, which covers them.
const COSIGNED_WAIT_NS: u64 = 1_000_000_000;
/// Most cosigned notes that wait; older ones say less and go first.
const COSIGNED_MAX: usize = 16;

/// What is to be published, and what came back.
#[derive(Debug)]
pub(super) struct Published {
    /// Leaves behind the newest checkpoint.
    grown: Range,
    /// The newest checkpoint, not published yet, and the leaves since the one that was.
    ready: Option<(Arc<Signed>, Range)>,
    /// Size and monotonic time of the last one that was published.
    last: Option<(u64, u64)>,
    cosigned: Vec<String>,
    /// Since when the oldest of them waits.
    cosigned_ns: Option<u64>,
}

impl Published {
    pub(super) fn from(size: u64) -> Published {
        let grown = Range::new(size);
        Published { grown, ready: None, last: None, cosigned: Vec::new(), cosigned_ns: None }
    }

    /// Entries were stored.
    pub(super) fn grow(&mut self, leaves: Vec<[u8; 32]>) {
        leaves.into_iter().for_each(|leaf| self.grown.append(leaf));
    }

    /// A note with cosignatures came in.
    pub(super) fn cosigned(&mut self, note: String, now: Now) {
        if self.cosigned.len() == COSIGNED_MAX {
            self.cosigned.remove(0);
        }
        self.cosigned.push(note);
        self.cosigned_ns.get_or_insert(now.mono_ns);
    }

    /// Notes that the next checkpoint is to cover.
    pub(super) fn waiting(&self) -> &[String] {
        &self.cosigned
    }

    /// They are stored.
    pub(super) fn cosigned_stored(&mut self) {
        self.cosigned.clear();
        self.cosigned_ns = None;
    }

    /// When a checkpoint has to cover what came in.
    pub(super) fn sign_due_ns(&self) -> Option<u64> {
        Some(self.cosigned_ns? + COSIGNED_WAIT_NS)
    }

    /// When the newest checkpoint is to be published.
    pub(super) fn due_ns(&self, limits: &Limits) -> Option<u64> {
        let (signed, _) = self.ready.as_ref()?;
        Some(match self.last {
            None => 0,
            Some((size, at)) if size != signed.size => at + limits.publish_ms_min * 1_000_000,
            Some((_, at)) => at + limits.publish_silence_ms_max * 1_000_000,
        })
    }

    fn signed(&mut self, signed: Arc<Signed>) {
        let next = Range::new(self.grown.end());
        let grown = std::mem::replace(&mut self.grown, next);
        let range = match self.ready.take() {
            Some((_, mut range)) => {
                assert!(range.join(&grown), "leaves are counted without gaps");
                range
            }
            None => grown,
        };
        debug_assert!(range.end() == signed.size, "published leaves are those of the checkpoint");
        self.ready = Some((signed, range));
    }

    fn put(&mut self, mailboxes: &[Arc<Mailbox>], now: Now) {
        let Some((signed, range)) = self.ready.take() else { return };
        self.last = Some((signed.size, now.mono_ns));
        mailboxes.iter().for_each(|mailbox| mailbox.put(signed.clone(), &range));
    }
}

impl Thread {
    /// The open segment's newest checkpoint is stored.
    pub(super) fn tell_signed(&mut self, now: Now) {
        let State::Open(open) = &self.state else { return };
        let Some((note, size, root)) = open.builder.signed() else { return };
        let signed = Arc::new(Signed { note: note.clone(), size: *size, root: *root, now });
        self.progress.set_signed(signed.clone());
        if !self.settings.mailboxes.is_empty() {
            self.published.signed(signed);
        }
        self.published.cosigned_stored();
    }

    /// Publishes the newest checkpoint when it is time.
    pub(super) fn publish_when_due(&mut self) -> Result<(), Fault> {
        let now = self.now();
        let due = self.published.due_ns(&self.settings.limits);
        if due.is_some_and(|due| now.mono_ns >= due) {
            if let State::Open(_) = &self.state {
                sync(&mut *self.disk)?;
            }
            self.published.put(&self.settings.mailboxes, now);
        }
        Ok(())
    }

    /// Publishes the checkpoint of the seal, which was synced.
    pub(super) fn publish_last(&mut self) {
        let now = self.now();
        self.published.put(&self.settings.mailboxes, now);
    }
}
