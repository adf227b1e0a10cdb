//! No segment is open: how the next one is opened, and what is done when a file had to be given up.

use std::io;
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    Failed, Fault, Open, PAUSE_DOUBLINGS_MAX, READ_BYTES, RETRY_PAUSE, State, Thread, append, own,
    sync,
};
use crate::record::disk::Files;
use crate::record::entry::{Entry, Kind, PartKind};
use crate::record::format::{segment_name, segment_name_new};
use crate::record::header::{Header, Previous, PreviousEnd};
use crate::record::note::time_text;
use crate::record::segment::{Builder, Kept};
use crate::record::settings::WORKER_NONE;
use crate::record::tree::Tree;

/// No segment is open; how to open the next.
pub(super) struct Down {
    pub(super) tree: Tree,
    pub(super) segment: u32,
    pub(super) previous: Previous,
    /// Segment whose residue is still to be measured and hashed for `previous`.
    pub(super) unhashed: Option<u32>,
    /// Segment that is still to be forced out: what the next header says of it, its residue too, must
    /// still be true after a power cut. Never one whose sync failed.
    pub(super) unforced: Option<u32>,
}

impl Down {
    pub(super) fn after(kept: Kept, end: PreviousEnd) -> Down {
        Down {
            tree: kept.tree,
            segment: kept.segment + 1,
            previous: Previous {
                end,
                kept_bytes: kept.bytes,
                residue_bytes: 0,
                residue_digest: [0; 32],
                chain: kept.chain,
            },
            unhashed: (end != PreviousEnd::Sealed).then_some(kept.segment),
            unforced: None,
        }
    }
}

impl Thread {
    /// Opens the next segment. On a fault the state says how to try again.
    pub(super) fn open_segment(&mut self) -> Result<(), Fault> {
        let now = self.now();
        let State::Down(down) = &mut self.state else { return Ok(()) };
        // Why taken at once: a file is not synced again behind a failure.
        if let Some(old) = down.unforced.take() {
            self.disk
                .sync_closed(&segment_name(old))
                .map_err(|error| Fault::Io("sync of the segment before", error))?;
        }
        if let Some(old) = down.unhashed {
            let name = segment_name(old);
            let (bytes, digest) = residue(&*self.disk, &name, down.previous.kept_bytes)
                .map_err(|error| Fault::Io("read", error))?;
            down.previous.residue_bytes = bytes;
            down.previous.residue_digest = digest;
            down.unhashed = None;
        }
        let header = Header {
            origin: self.settings.key.verifier().name().to_owned(),
            segment: down.segment,
            tree: down.tree.clone(),
            created: now,
            boot_id: self.settings.boot_id,
            previous: down.previous,
        };
        let frame_bytes_max = self.settings.limits.frame_bytes_max;
        let mut builder = Builder::begin(&header, frame_bytes_max, self.settings.random.clone())
            .map_err(Fault::Segment)?;
        let (name_new, name) = (segment_name_new(header.segment), segment_name(header.segment));
        self.disk.create(&name_new).map_err(|error| Fault::Io("create", error))?;
        append(&mut *self.disk, builder.step())?;
        // Crash here: `.new` is left over. Why the sync: a file that has its name has its header.
        sync(&mut *self.disk)?;
        self.disk.rename(&name_new, &name).map_err(|error| Fault::Io("rename", error))?;
        // Crash here: a segment without entries, kept to the end of its header.
        builder.stored();
        if let Err(error) = self.disk.sync_names() {
            // The file has its name, so its number is used.
            self.state = State::Down(Down::after(builder.kept(), PreviousEnd::Torn));
            return Err(Fault::Io("sync of names", error));
        }
        if !self.settings.mailboxes.is_empty() {
            builder.keep_leaves();
        }
        self.state = State::Open(Box::new(Open {
            builder,
            opened_ns: now.mono_ns,
            signed_ns: now.mono_ns,
            unsigned_ns: None,
        }));
        Ok(())
    }

    /// Gives the open file up and publishes the failure.
    pub(super) fn fail(&mut self, fault: Fault) {
        let now = self.now();
        let spent = if let State::Open(open) = &self.state
            && !matches!(fault, Fault::Key(..))
        {
            let mut down = Down::after(open.builder.kept(), PreviousEnd::Torn);
            down.unforced = down.unhashed.filter(|_| !matches!(fault, Fault::Io("sync", _)));
            self.state = State::Down(down);
            1
        } else {
            0
        };
        let (what, full) = (fault.to_string(), fault.is_full());
        self.progress.set_failed(Some(&what));
        match &mut self.failed {
            Some(failed) => {
                failed.tries += 1;
                failed.spent += spent;
                failed.full = full;
            }
            None => {
                self.failed = Some(Failed {
                    since: now,
                    what,
                    tries: 1,
                    tries_before_stop: None,
                    spent: 0,
                    full,
                })
            }
        }
        self.settings.wakers.iter().for_each(|wake| wake());
    }

    /// One try to go on in a new segment, with an entry that tells of the failure.
    pub(super) fn retry(&mut self) {
        if let Err(error) = self.make_reserve() {
            return self.fail(Fault::Io("reserve", error));
        }
        // Why keys first: while none can be made, no segment is begun that would hold nothing.
        let keys = self.make_data_keys(self.batch.len());
        if let Err(fault) = keys.and_then(|_| self.open_segment()) {
            return self.fail(fault);
        }
        self.tell_failure(false);
        match self.store_batch() {
            Ok(()) => {
                self.failed = None;
                self.progress.set_failed(None);
                self.settings.wakers.iter().for_each(|wake| wake());
            }
            Err(fault) => self.fail(fault),
        }
    }

    /// Puts an entry that tells of the failure in front of the batch. `closing`: this segment only
    /// takes what is pending, with the space of the reserve.
    pub(super) fn tell_failure(&mut self, closing: bool) {
        let Some(failed) = &self.failed else { return };
        let now = (self.settings.clock)();
        let detail = json!({
            "failed": failed.what,
            "since": time_text(failed.since.utc_ns),
            "until": time_text(now.utc_ns),
            "tries": failed.tries,
            "closing": closing,
        });
        let entry = Entry::new(Kind::Resume, now).part(PartKind::Detail, detail.to_string());
        self.batch.retain(|kept| kept.entry.kind != Kind::Resume || kept.worker != WORKER_NONE);
        self.batch.insert(0, own(entry));
    }

    /// Time until the next try. It grows with the numbers that tries have used up, so that a disk that
    /// takes headers and nothing else is not filled with them; nobody waits for it at the end.
    pub(super) fn pause(&self) -> Duration {
        match &self.failed {
            Some(failed) if !self.progress.stopping() => {
                RETRY_PAUSE * (1 << failed.spent.min(PAUSE_DOUBLINGS_MAX))
            }
            _ => RETRY_PAUSE,
        }
    }

    /// Of a record that is to stop. The tries before that do not count: the disk may work again by now.
    pub(super) fn tries_are_over(&mut self) -> bool {
        let pauses = self.settings.limits.drain_ms_max / RETRY_PAUSE.as_millis() as u64 + 1;
        self.failed.as_mut().is_some_and(|failed| {
            let before = *failed.tries_before_stop.get_or_insert(failed.tries - 1);
            failed.tries - before > pauses
        })
    }
}

/// Length and SHA-256 of what a file holds behind `kept`; zero digest when that is nothing.
pub(in crate::record) fn residue(
    files: &(impl Files + ?Sized),
    name: &str,
    kept: u64,
) -> io::Result<(u64, [u8; 32])> {
    let length = files.len(name)?.saturating_sub(kept);
    if length == 0 {
        return Ok((0, [0; 32]));
    }
    let mut input = files.open_at(name, kept)?;
    let mut hash = Sha256::new();
    let mut left = length;
    let mut buffer = vec![0; READ_BYTES];
    while left > 0 {
        let want = (left as usize).min(READ_BYTES);
        match input.read(&mut buffer[..want])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            got => {
                hash.update(&buffer[..got]);
                left -= got as u64;
            }
        }
    }
    Ok((length, hash.finalize().into()))
}
