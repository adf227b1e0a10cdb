//! Several segments read at once, each on a thread of its own, and put together in their order.
//!
//! A segment can be read by itself: its header states the tree and the chain before it, and whether
//! that is true is asked when the segments are put together, as in [`super::read`]. What a sink gathers
//! from a segment, and its checkpoints, are kept until the segments before it are done.
//!
//! Invariants: the reading and what the sink gets are those of [`super::read_roots`], in the same order;
//! at most one segment a thread and [`AHEAD`] more are read before they are put together.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

use super::{Checks, Reading, SegmentRead, SegmentTask, Walk, read_roots, with_followers};
use crate::record::disk::Files;
use crate::record::entry::EntryView;
use crate::record::found::{Gather, Gatherer, Place, Sink};
use crate::record::note::{Checkpoint, Note};
use crate::record::rotation::KeyPlan;

/// Segments beside those in work that may wait for the ones before them. Bound: what is kept of them is
/// in memory, some hundred bytes for each checkpoint.
const AHEAD: usize = 2;
/// How often the sink hears how much was read.
const TELL: Duration = Duration::from_millis(100);

/// Reads everything with up to `threads` threads. A sink without a gatherer gets every entry from one
/// thread, because all of them would have to wait in memory.
pub fn read_parallel(
    files: &(dyn Files + Sync),
    checks: Checks<'_>,
    roots_at: &[u64],
    threads: NonZeroUsize,
    sink: &mut dyn Sink,
) -> io::Result<Reading> {
    let gatherer = match sink.gatherer() {
        Some(gatherer) if threads.get() > 1 => gatherer,
        _ => return read_roots(files, checks, roots_at, sink),
    };
    let (mut walk, numbers) = Walk::begin(files, checks, roots_at)?;
    let plan = walk.plan(&numbers);
    let work: Vec<(u32, Option<u32>)> = with_followers(&numbers).collect();
    let threads = threads.get().min(work.len());
    let gate = Gate { done: Mutex::new(0), moved: Condvar::new() };
    let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    let (sender, finished) = crossbeam_channel::unbounded();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, plan) = (sender.clone(), plan.as_ref());
            let (work, gate, next, bytes) = (&work, &gate, &next, &bytes);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&(segment, follower)) = work.get(index) else { return };
                    gate.wait(index, threads + AHEAD);
                    let one =
                        read_one(files, plan, checks, roots_at, segment, follower, bytes, gatherer);
                    // The other end is gone only when this very scope ends by a panic.
                    if sender.send((index, one)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting: Vec<Option<One>> = work.iter().map(|_| None).collect();
        let mut at = 0;
        while at < work.len() {
            let told = finished.recv_timeout(TELL);
            let read = bytes.swap(0, Ordering::Relaxed);
            if read > 0 {
                sink.bytes_read(read);
            }
            match told {
                Ok((index, one)) => waiting[index] = Some(one),
                Err(RecvTimeoutError::Timeout) => {}
                // A thread panicked; the scope passes that on.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Some(one) = waiting.get_mut(at).and_then(Option::take) {
                let (segment, follower) = work[at];
                sink.gathered(one.gathered.into_any());
                for told in &one.told {
                    told.give(sink);
                }
                walk.add(segment, follower, one.read);
                at += 1;
                gate.open(at);
            }
        }
        let read = bytes.swap(0, Ordering::Relaxed);
        if read > 0 {
            sink.bytes_read(read);
        }
    });
    Ok(walk.finish())
}

/// Holds threads back that are too far ahead.
struct Gate {
    /// Segments put together.
    done: Mutex<usize>,
    moved: Condvar,
}

impl Gate {
    fn wait(&self, index: usize, ahead: usize) {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let far = |done: &mut usize| index >= *done + ahead;
        drop(self.moved.wait_while(done, far).unwrap_or_else(PoisonError::into_inner));
    }

    fn open(&self, done: usize) {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = done;
        self.moved.notify_all();
    }
}

struct One {
    read: io::Result<SegmentRead>,
    gathered: Box<dyn Gather>,
    told: Vec<Told>,
}

#[expect(clippy::too_many_arguments, reason = "the shared half of the loop above")]
fn read_one(
    files: &(dyn Files + Sync),
    plan: Option<&KeyPlan>,
    checks: Checks<'_>,
    roots_at: &[u64],
    segment: u32,
    follower: Option<u32>,
    bytes: &AtomicU64,
    gatherer: Gatherer,
) -> One {
    let mut kept = Kept { bytes, gathered: gatherer(), told: Vec::new() };
    let task = SegmentTask { files, plan, checks, roots_at };
    let read = task.read(segment, follower, &mut kept);
    One { read, gathered: kept.gathered, told: kept.told }
}

/// Keeps what the sink will get.
struct Kept<'a> {
    bytes: &'a AtomicU64,
    gathered: Box<dyn Gather>,
    told: Vec<Told>,
}

impl Sink for Kept<'_> {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        self.gathered.entry(place, entry);
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.told.push(Told::Checkpoint(checkpoint.clone()));
    }

    fn cosignatures(&mut self, at: (u32, u64), checkpoint: &Checkpoint, note: &Note<'_>) {
        let lines = note.signatures.iter().flat_map(|signature| [signature.line, "\n"]);
        let whole = [note.text, "\n"].into_iter().chain(lines).collect();
        self.told.push(Told::Cosignatures(at, checkpoint.clone(), whole));
    }

    fn bytes_read(&mut self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One thing that was found, kept until its turn.
enum Told {
    Checkpoint(Checkpoint),
    Cosignatures((u32, u64), Checkpoint, String),
}

impl Told {
    fn give(&self, sink: &mut dyn Sink) {
        match self {
            Told::Checkpoint(checkpoint) => sink.checkpoint(checkpoint),
            Told::Cosignatures(at, checkpoint, note) => {
                let note = Note::parse(note.as_bytes()).expect("it was opened before");
                sink.cosignatures(*at, checkpoint, &note);
            }
        }
    }
}
