//! A full disk: what is pending is stored with the space of the reserve, and the record is sealed.
//!
//! | reserve | disk | what is done |
//! |---|---|---|
//! | held | full | freed at once; the next segment takes the pending entries that fit, and is sealed |
//! | spent | no room for twice the reserve | nothing: no file is touched, calls are refused |
//! | spent | room for twice the reserve | the reserve is made again, then a segment is opened |
//! | spent | fails in another way | as any failure: tried again after a pause |
//!
//! Why twice: a reserve that is made from the last free blocks would be spent at once, again and again,
//! and each time a segment with nothing in it would stay behind.
//!
//! While the record is closed like this it stays failed, so that no new call gets in; entries of the
//! exchanges that were open wait in the queue, up to its bound, for the next segment.

use std::io;

use super::data_keys::FILES_BYTES_MAX;
use super::{Fault, Report, State, Thread, own};
use crate::record::entry::{Entry, Kind};
use crate::record::format::{CHECKPOINT_BYTES_MAX, HEADER_BYTES_MAX, INDEX_BYTES_MAX};
use crate::record::handle::Order;

/// What of the reserve is not for entries: header, index, seal, the writer's own entries, the rounding
/// of three writes to blocks of up to 64 KiB, and key files.
const OVERHEAD_BYTES: u64 =
    (HEADER_BYTES_MAX + INDEX_BYTES_MAX + CHECKPOINT_BYTES_MAX + 4096 + 3 * 64 * 1024) as u64
        + FILES_BYTES_MAX;

impl Thread {
    /// Holds the reserve, or says why not. Once it was spent, it is only made where there is room for
    /// twice as much.
    pub(super) fn make_reserve(&mut self) -> io::Result<()> {
        if self.reserve_held {
            return Ok(());
        }
        let bytes = self.settings.limits.reserve_bytes_max;
        if self.failed.is_some() {
            self.disk.reserve(2 * bytes)?;
        }
        self.disk.reserve(bytes)?;
        self.reserve_held = true;
        Ok(())
    }

    /// Closes the record when the disk is full and the reserve is held. Gives the report when the
    /// writer is to stop and nothing is left to be stored.
    pub(super) fn close_when_full(&mut self) -> Option<Report> {
        if !self.reserve_held || !self.failed.as_ref().is_some_and(|failed| failed.full) {
            return None;
        }
        self.reserve_held = false;
        let closed = match self.disk.free_reserve() {
            Ok(()) => self.close(),
            Err(error) => Err(Fault::Io("free the reserve", error)),
        };
        match closed {
            Ok(true) => Some(self.report()),
            Ok(false) => None,
            Err(fault) => {
                self.fail(fault);
                None
            }
        }
    }

    /// A segment of what is pending, sealed. True when it ends with the stop entry.
    fn close(&mut self) -> Result<bool, Fault> {
        self.open_segment()?;
        self.tell_failure(true);
        let room = self.settings.limits.reserve_bytes_max.saturating_sub(OVERHEAD_BYTES);
        let stopping = self.progress.stopping();
        let mut bytes = 0;
        let mut fits = 0;
        loop {
            while let Some(next) = self.batch.get(fits) {
                bytes += next.bytes;
                if bytes > room {
                    break;
                }
                fits += 1;
            }
            if fits < self.batch.len() {
                break;
            }
            match self.orders.try_recv() {
                Ok(Order::Entries(entries)) => {
                    self.take(entries);
                }
                // The witness is asked again.
                Ok(Order::Cosigned(_) | Order::Look) => {}
                Err(_) => break,
            }
        }
        let stops = stopping && fits == self.batch.len();
        if stops {
            let entry = Entry::new(Kind::Stop, self.now());
            self.batch.push(own(entry));
            fits += 1;
        }
        let stored = self.store(fits);
        if stored.is_err() && stops {
            // Why: after a failure the stop is decided anew, so its entry is not kept.
            self.batch.pop();
        }
        stored?;
        self.seal()?;
        debug_assert!(matches!(self.state, State::Down(_)));
        Ok(stops)
    }
}
