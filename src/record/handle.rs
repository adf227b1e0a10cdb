//! What workers hold of the record: the [`Recorder`] they submit to, the [`Ticket`] they get, the
//! [`Held`] bytes that wait for it, and [`Progress`], which the writer publishes.
//!
//! The promise of the house rests here: [`Released`] is minted by [`Held::release`] alone, and that
//! only when the writer has published the ticket at the wanted level. Nothing here blocks.
//!
//! Invariant: tickets of one recorder are published in the order they were given.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Sender, TrySendError};

use super::entry::{ENTRY_BYTES_MAX, Entry, Kind, PARTS_MAX};
use super::mailbox::Signed;
use crate::types::ExchangeId;

/// How far an entry has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// In the writer's hands.
    Queued,
    /// In the operating system: survives the end of the process.
    Written,
    /// On the disk: survives a power cut.
    Synced,
}

impl Level {
    /// The word used in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Queued => "queued",
            Level::Written => "written",
            Level::Synced => "synced",
        }
    }
}

/// Called by the writer once for each batch that held entries of this recorder, after a batch that made
/// room when somebody was refused, and when the state of the record changes. Must not block.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Receipt for one submitted entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub(super) worker: u8,
    pub(super) number: u64,
    pub(super) level: Level,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    written: AtomicU64,
    synced: AtomicU64,
}

/// How far the writer has come. Shared; read without locks.
#[derive(Debug)]
pub struct Progress {
    lanes: Box<[Lane]>,
    failed: AtomicBool,
    /// Why, in words: for logs and readiness, never on the way of a call.
    failure: Mutex<Option<String>>,
    ended: AtomicBool,
    stopping: AtomicBool,
    /// Somebody was refused for lack of room and wants to hear when there is some.
    refused: AtomicBool,
    queued_entries: AtomicU64,
    queued_bytes: AtomicU64,
    entries: AtomicU64,
    /// The newest checkpoint.
    signed: ArcSwapOption<Signed>,
    /// Calls are to be refused because no witness has cosigned for too long.
    unwitnessed: AtomicBool,
}

impl Progress {
    pub(super) fn new(recorders: usize) -> Progress {
        Progress {
            lanes: (0..recorders).map(|_| Lane::default()).collect(),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            ended: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            queued_entries: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            signed: ArcSwapOption::empty(),
            unwitnessed: AtomicBool::new(false),
        }
    }

    /// True when the entry behind `ticket` has reached `level`.
    pub fn reached(&self, ticket: Ticket, level: Level) -> bool {
        let lane = &self.lanes[ticket.worker as usize];
        match level {
            Level::Queued => true,
            Level::Written => lane.written.load(Ordering::Acquire) >= ticket.number,
            Level::Synced => lane.synced.load(Ordering::Acquire) >= ticket.number,
        }
    }

    /// Why the record cannot be written: the step that failed and what the system says of it.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// The record cannot be written just now: calls are to be refused.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The writer thread is gone, by order or by a panic; nothing will be published any more.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Entries submitted and not yet written.
    pub fn queued_entries(&self) -> u64 {
        self.queued_entries.load(Ordering::Relaxed)
    }

    /// Bytes of those.
    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    /// Entries in the whole record that are written.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// The newest checkpoint that this process has signed and written.
    pub fn signed(&self) -> Option<Arc<Signed>> {
        self.signed.load_full()
    }

    pub(super) fn set_signed(&self, signed: Arc<Signed>) {
        self.signed.store(Some(signed));
    }

    /// No witness has cosigned for longer than is allowed: new calls are to be refused.
    pub fn unwitnessed(&self) -> bool {
        self.unwitnessed.load(Ordering::Acquire)
    }

    /// Says so. Set by whoever asks the witnesses.
    pub fn set_unwitnessed(&self, unwitnessed: bool) {
        self.unwitnessed.store(unwitnessed, Ordering::Release);
    }

    pub(super) fn publish(&self, worker: u8, number: u64, synced: bool) {
        let lane = &self.lanes[worker as usize];
        if synced {
            lane.synced.store(number, Ordering::Release);
        }
        lane.written.store(number, Ordering::Release);
    }

    pub(super) fn set_failed(&self, why: Option<&str>) {
        *self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
            why.map(str::to_owned);
        self.failed.store(why.is_some(), Ordering::Release);
    }

    pub(super) fn set_ended(&self) {
        self.failed.store(true, Ordering::Release);
        self.ended.store(true, Ordering::Release);
    }

    pub(super) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn taken(&self, entries: u64, bytes: u64) {
        self.queued_entries.fetch_sub(entries, Ordering::Relaxed);
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// True once after a refusal for lack of room.
    pub(super) fn take_refused(&self) -> bool {
        // Pairs with the fence in `submit`: either this sees the flag, or the submitter sees the room.
        fence(Ordering::SeqCst);
        self.refused.swap(false, Ordering::AcqRel)
    }

    pub(super) fn set_entries(&self, entries: u64) {
        self.entries.store(entries, Ordering::Relaxed);
    }
}

/// Why an entry was not taken; it comes back with this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitFault {
    /// The queue is at its bound: stop reading until the writer has caught up.
    Full,
    /// The entry has more parts or bytes than one entry may have.
    TooLarge,
    /// The writer has ended.
    Ended,
}

impl std::fmt::Display for SubmitFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SubmitFault::Full => "queue to the recorder is full",
            SubmitFault::TooLarge => "entry is larger than one entry may be",
            SubmitFault::Ended => "recorder has ended",
        })
    }
}

/// What travels to the writer.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) worker: u8,
    pub(super) number: u64,
    pub(super) bytes: u64,
    pub(super) entry: Entry,
}

#[derive(Debug)]
pub(super) enum Order {
    Entries(Vec<Submission>),
    /// A note with cosignatures, to be stored.
    Cosigned(String),
    /// Look at the clock and the stop flag again.
    Look,
}

/// One worker's way to the writer.
#[derive(Debug)]
pub struct Recorder {
    pub(super) worker: u8,
    pub(super) number: u64,
    pub(super) bytes_max: u64,
    pub(super) entries_max: u64,
    pub(super) gathers: bool,
    pub(super) gathered: Vec<Submission>,
    /// The gathered entries hold one that somebody waits for.
    pub(super) urgent: bool,
    pub(super) orders: Sender<Order>,
    pub(super) progress: Arc<Progress>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // What was said is written, also when its worker ends.
        self.flush();
    }
}

impl Recorder {
    /// From now on entries are gathered until [`Recorder::flush`]: a worker hands over all that one
    /// turn of its loop has to say at once, because waking a sleeping writer costs 13 µs.
    pub fn gather(&mut self) {
        self.gathers = true;
    }

    /// Counts an entry in, or leaves the counts as they were when it does not fit.
    fn admit(&self, bytes: u64) -> bool {
        let before = self.progress.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let entries = self.progress.queued_entries.fetch_add(1, Ordering::Relaxed);
        let fits = self.fits(before, entries, bytes);
        if !fits {
            self.progress.taken(1, bytes);
        }
        fits
    }

    fn fits(&self, queued_bytes: u64, queued_entries: u64, bytes: u64) -> bool {
        // Why: an entry that is larger than the whole bound still gets through an empty queue.
        (queued_bytes == 0 || queued_bytes + bytes <= self.bytes_max)
            && queued_entries < self.entries_max
    }

    /// Hands an entry to the writer, or gives it back.
    ///
    /// The entry's bytes stay shared with the caller until they are written; they cannot change. An
    /// entry of level [`Level::Queued`] is in the writer's hands when this returns, whatever gathers.
    #[expect(
        clippy::result_large_err,
        reason = "who is refused gets his entry back, which is rare"
    )]
    pub fn submit(&mut self, entry: Entry) -> Result<Ticket, (Entry, SubmitFault)> {
        let bytes = entry.plain_bytes() as u64;
        if entry.rows_max() > PARTS_MAX || bytes > ENTRY_BYTES_MAX as u64 {
            return Err((entry, SubmitFault::TooLarge));
        }
        let progress = &*self.progress;
        if progress.ended() {
            return Err((entry, SubmitFault::Ended));
        }
        while !self.admit(bytes) {
            progress.refused.store(true, Ordering::Release);
            // Why: the writer may have made room just before it could see the flag; nobody would say so
            // a second time. Pairs with the fence in `take_refused`.
            fence(Ordering::SeqCst);
            if !self.fits(
                progress.queued_bytes.load(Ordering::Relaxed),
                progress.queued_entries.load(Ordering::Relaxed),
                bytes,
            ) {
                return Err((entry, SubmitFault::Full));
            }
        }
        self.number += 1;
        let number = self.number;
        let level = entry.level;
        self.urgent |= !matches!(entry.kind, Kind::End | Kind::Delivery | Kind::Disconnect);
        self.gathered.push(Submission { worker: self.worker, number, bytes, entry });
        if !self.gathers || level == Level::Queued {
            self.flush();
        }
        Ok(Ticket { worker: self.worker, number, level })
    }

    /// Hands over what was gathered.
    pub fn flush(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        self.urgent = false;
        let batch = std::mem::take(&mut self.gathered);
        // Bound: the queue has room for as many orders as entries are admitted, so it can only be full
        // of requests to look; then the batch stays here for the next flush. A writer that has ended
        // publishes nothing any more, and nothing that waits for it is released.
        if let Err(TrySendError::Full(Order::Entries(batch))) =
            self.orders.try_send(Order::Entries(batch))
        {
            self.gathered = batch;
            self.urgent = true;
        }
    }

    /// Something was gathered.
    pub fn has_gathered(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// Somebody waits for what was gathered; ends of exchanges hold nothing back and can ride with the
    /// next batch.
    pub fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Binds `value` to `ticket`: it comes out only when the entry has reached `level`.
    ///
    /// Panics when `level` is above the level the entry was submitted with: nobody would sync it.
    pub fn hold<T>(&self, ticket: Ticket, level: Level, value: T) -> Held<T> {
        assert!(level <= ticket.level, "held for {level:?}, submitted for {:?}", ticket.level);
        Held { ticket, level, value }
    }

    /// Binds `value` to everything submitted so far: it comes out when all of that is written. For
    /// bytes whose record is a count that follows later (refusals of one source beyond a rate).
    pub fn hold_behind_all<T>(&self, value: T) -> Held<T> {
        let level = Level::Written;
        Held { ticket: Ticket { worker: self.worker, number: self.number, level }, level, value }
    }

    /// How far the writer has come.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The same, to keep.
    pub fn progress_shared(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Number of this recorder: the worker in its entries.
    pub fn worker(&self) -> u8 {
        self.worker
    }
}

/// A value that waits for the record.
#[derive(Debug)]
pub struct Held<T> {
    ticket: Ticket,
    level: Level,
    value: T,
}

impl<T> Held<T> {
    /// The value, when its entry has reached the level; itself again otherwise.
    pub fn release(self, progress: &Progress) -> Result<Released<T>, Held<T>> {
        if self.ready(progress) { Ok(Released(self.value)) } else { Err(self) }
    }

    /// The receipt that it waits for, and the level.
    pub fn waits_for(&self) -> (Ticket, Level) {
        (self.ticket, self.level)
    }

    /// True when [`Held::release`] would give the value.
    pub fn ready(&self, progress: &Progress) -> bool {
        progress.reached(self.ticket, self.level)
    }
}

/// A value whose record has reached its level. Minted by [`Held::release`]; and by
/// [`Released::unrecorded`] for the one text that cannot be recorded, because it says so.
#[derive(Debug)]
pub struct Released<T>(T);

impl Released<bytes::Bytes> {
    /// The text that tells a caller that nothing can be recorded: constants of the program around the
    /// id of the exchange. The types let nothing else through: no byte of a peer can be `'static`.
    pub fn unrecorded(before: &'static str, exchange: ExchangeId, after: &'static str) -> Self {
        let mut text = Vec::with_capacity(before.len() + ExchangeId::TEXT_LEN + after.len());
        text.extend_from_slice(before.as_bytes());
        text.extend_from_slice(&exchange.text());
        text.extend_from_slice(after.as_bytes());
        Released(bytes::Bytes::from(text))
    }
}

impl<T> Released<T> {
    /// The value itself.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Released<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}
