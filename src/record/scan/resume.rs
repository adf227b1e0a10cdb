//! Behind bytes that cannot be read: the search for the next good checkpoint, and going on from it.

use std::io;

use memchr::memmem;

use super::{Fault, Scan, broken, open};
use crate::record::format::{CHECKPOINT_BYTES_MAX, MAGIC_CHECKPOINT, SKIPPABLE_HEAD_BYTES};
use crate::record::found::End;
use crate::record::tree::Tree;

/// What stands behind a place that cannot be read.
pub(super) struct Rest {
    pub(super) zero: bool,
    /// The next good checkpoint of this segment.
    pub(super) checkpoint: Option<u64>,
}

impl Scan<'_> {
    /// Looks through the bytes behind the point for a checkpoint to go on from, and stops in front of
    /// it. Bytes that were consumed behind the point are not looked at again: no checkpoint begins in
    /// a block or header that was read.
    pub(super) fn unread(&mut self) -> io::Result<Rest> {
        let mut zero = self.offset == self.out.point;
        let magic = MAGIC_CHECKPOINT.to_le_bytes();
        let mut first = true;
        loop {
            self.fill_to(SKIPPABLE_HEAD_BYTES + CHECKPOINT_BYTES_MAX)?;
            let window = &self.window[self.used..];
            if window.is_empty() {
                return Ok(Rest { zero, checkpoint: None });
            }
            zero &= window.iter().all(|&byte| byte == 0);
            // Why: what cannot be read at this very place is not tried a second time.
            let from = usize::from(std::mem::take(&mut first));
            let found = memmem::find(&window[from.min(window.len())..], &magic);
            let Some(found) = found.map(|found| found + from) else {
                let skip = window.len().saturating_sub(3).max(1);
                self.skip(skip);
                continue;
            };
            self.skip(found);
            self.fill_to(SKIPPABLE_HEAD_BYTES + CHECKPOINT_BYTES_MAX)?;
            if self.resumes_here()? {
                return Ok(Rest { zero: false, checkpoint: Some(self.offset) });
            }
            self.skip(1);
        }
    }

    /// Makes `bytes` unconsumed bytes available, or all that are left.
    fn fill_to(&mut self, bytes: usize) -> io::Result<()> {
        while self.window.len() - self.used < bytes && self.fill()? {}
        Ok(())
    }

    fn skip(&mut self, bytes: usize) {
        self.used += bytes;
        self.offset += bytes as u64;
    }

    fn resumes_here(&mut self) -> io::Result<bool> {
        let window = &self.window[self.used..];
        let Some(head) = window.first_chunk::<SKIPPABLE_HEAD_BYTES>() else { return Ok(false) };
        let bytes = u32::from_le_bytes(head[4..].try_into().expect("4 bytes")) as usize;
        // Why the bound first: whoever writes this head many times makes nobody read its content often.
        if bytes > CHECKPOINT_BYTES_MAX {
            return Ok(false);
        }
        let Some(note) = window[SKIPPABLE_HEAD_BYTES..].get(..bytes) else { return Ok(false) };
        let (Ok(checkpoint), _) = open(self.task, note) else { return Ok(false) };
        Ok(checkpoint.segment == self.task.segment && checkpoint.offset == self.offset)
    }

    /// Goes on at a checkpoint behind damage: its chain is taken as stated, the tree is unknown.
    pub(super) fn resume(&mut self) -> Result<Option<End>, Fault> {
        let window = &self.window[self.used..];
        let bytes = u32::from_le_bytes(window[4..8].try_into().expect("looked at")) as usize;
        let note = &window[SKIPPABLE_HEAD_BYTES..SKIPPABLE_HEAD_BYTES + bytes];
        let (checkpoint, other_key) = open(self.task, note);
        let checkpoint = checkpoint.map_err(|fault| Fault::Broken(fault.to_string()))?;
        self.out.other_key |= other_key;
        self.plain.clear();
        self.entry_ends.clear();
        self.entry_need = 1;
        self.in_frame = false;
        self.extent.begin(checkpoint.chain, self.offset);
        // The tree is still known only when nothing but other frames was damaged.
        let fits = |tree: &Tree| tree.size() == checkpoint.size && tree.root() == checkpoint.root;
        if !self.tree.as_ref().is_some_and(fits) {
            self.tree = None;
        }
        self.next_sequence = Some(checkpoint.size);
        self.origin.get_or_insert(checkpoint.origin.clone());
        self.indexed = false;
        self.cosigned = false;
        self.first_flush = false;
        self.out.resumed = true;
        self.consume(SKIPPABLE_HEAD_BYTES + bytes);
        self.out.checkpoints += 1;
        self.out.signed = Some(checkpoint.size);
        self.sink.checkpoint(&checkpoint);
        self.at_point();
        if !checkpoint.sealed {
            return Ok(None);
        }
        if self.offset == self.task.length {
            return Ok(Some(End::Sealed));
        }
        broken("bytes follow the sealed checkpoint")
    }
}
