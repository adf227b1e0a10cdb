//! The writer thread: entries from all workers into segment files, in batches.
//!
//! One turn: wait for an entry, drain the queue up to a bound, build one flush, one append, one sync
//! where somebody waits for it, let go of the payload, publish the tickets, wake the workers. Between
//! turns: checkpoints, seals, new segments.
//!
//! | state | event | next | published |
//! |---|---|---|---|
//! | open | batch stored | open | tickets |
//! | open | append or sync fails, or is short | down | failed; the batch is kept |
//! | down, by a full disk, reserve held | the reserve is freed; the next segment takes what is pending | sealed, reserve spent | tickets, still failed |
//! | down, reserve spent | twice the reserve is free, and the reserve made again | down, reserve held | |
//! | open | bound of bytes or age | sealed, then open (next number) or down | |
//! | down | a new segment opens and takes the batch | open | tickets, then not failed |
//! | down | anything fails | down, again after a pause | |
//! | any | stop | ended: the queue stored, stop entry, seal | ended |
//!
//! What is known after each step, should the process or the host end there:
//! * during an append: the file ends behind its last point in residue; no ticket for it was
//!   published, recovery adopts what stands before it.
//! * between append and publish: entries are in the record that nobody was told of. That is sound.
//! * a failed sync: the kernel may have dropped the pages and may call the next sync good, so the file
//!   is given up, never synced again, and the batch is written once more into a new segment.
//! * during the creation of a segment: `*.new` is left over, which counts for nothing.
//!
//! Invariant: a ticket is published only after an append that took every byte (and a sync, for that
//! level) of a flush that holds its entry; what was given up is never signed.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use serde_json::{Value, json};

use super::clock::ClockWatch;
use super::disk::Disk;
use super::entry::{Entry, Kind, PartKind};
use super::handle::{Level, Order, Progress, Recorder, Submission, Waker};
use super::header::{Previous, PreviousEnd};
use super::keys::LogKey;
use super::mailbox::{Cosigned, Mailbox};
use super::note::{Checkpoint, time_text};
use super::recovery;
use super::rotation::Rotation;
use super::segment::Builder;
pub use super::settings::{
    Clock, EndFault, Report, Sealing, Settings, StartFault, WORKER_NONE, system_boot_id, system_now,
};
use crate::limits::Limits;
use crate::types::{Now, hex};

mod data_keys;
mod down;
mod full;
mod published;
mod steps;

use data_keys::DataKeys;
use down::Down;
pub(super) use down::residue;
use published::Published;
pub use steps::{Steps, Turned};

/// Pause between two tries to open a new segment.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// The pause is doubled this often at most, to 8 s: once for each try that used up a number.
const PAUSE_DOUBLINGS_MAX: u32 = 5;
/// Entries of one batch. Bound: the time until the first of them is published.
const BATCH_ENTRIES_MAX: usize = 1024;
/// Read at a time when a residue is hashed.
const READ_BYTES: usize = 64 * 1024;

/// The running writer.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<Result<Report, EndFault>>,
    orders: Sender<Order>,
    progress: Arc<Progress>,
}

/// Opens the record on `disk`, writes its start entry, and starts the thread. Gives one recorder for
/// each waker. When this returns, the record has been written to once, and synced.
pub fn start(
    disk: Box<dyn Disk>,
    settings: Settings,
) -> Result<(Writer, Vec<Recorder>), StartFault> {
    let (steps, recorders) = open(disk, settings)?;
    let (orders, progress) = (steps.orders(), steps.progress());
    let thread = std::thread::Builder::new()
        .name("recorder".into())
        .spawn(move || steps.run())
        .map_err(StartFault::Io)?;
    Ok((Writer { thread, orders, progress }, recorders))
}

/// The same without a thread: whoever calls it takes the turns, and decides when. [`start`] does so on a
/// thread of its own; a simulator does so in its own time.
pub fn open(disk: Box<dyn Disk>, settings: Settings) -> Result<(Steps, Vec<Recorder>), StartFault> {
    if settings.wakers.len() > WORKER_NONE as usize {
        return Err(StartFault::Setup(format!(
            "{} recorders, limit {WORKER_NONE}",
            settings.wakers.len()
        )));
    }
    let mut settings = settings;
    let previous_key = settings.previous_key.take();
    let recovered = recovery::recover_after(
        &*disk,
        settings.key.verifier(),
        previous_key.as_ref().map(LogKey::verifier),
        settings.accept_damage,
    )?;
    let before = match settings.before_writing.take() {
        Some(ask) => ask(&*disk, &recovered.tree, &kept_checkpoint(&settings, &recovered))?,
        None => Vec::new(),
    };
    let progress = Arc::new(Progress::new(settings.wakers.len()));
    let queue = settings.limits.recorder_queue_entries_max as usize;
    let (sender, orders) = crossbeam_channel::bounded(queue);
    let recorders = (0..settings.wakers.len())
        .map(|worker| Recorder {
            worker: worker as u8,
            number: 0,
            bytes_max: settings.limits.recorder_queue_bytes_max,
            entries_max: settings.limits.recorder_queue_entries_max,
            gathers: false,
            gathered: Vec::new(),
            urgent: false,
            orders: sender.clone(),
            progress: progress.clone(),
        })
        .collect();
    let mut facts = settings.facts.clone();
    facts.insert(
        "record".into(),
        json!({
            "origin": settings.key.verifier().name(),
            "segment": recovered.segment,
            "boot_id": hex(&settings.boot_id),
            "entries_before": recovered.tree.size(),
            "previous": previous_json(&recovered.previous),
            "accept_damage": settings.accept_damage,
            "missing_segments": recovered.noted.missing_segments,
            "foreign_files": recovered.noted.foreign_files,
            "checkpoint": recovered.checkpoint.as_ref().map(checkpoint_json),
        }),
    );
    let (size, root) = (recovered.tree.size(), recovered.tree.root());
    let rotation = previous_key
        .filter(|_| recovered.rotates)
        .map(|previous_key| Rotation::sign(&previous_key, &settings.key, size, root).to_string());
    let data_keys = settings.sealing.clone().map(DataKeys::new);
    let mut thread = Thread {
        clock: ClockWatch::new((settings.clock)()),
        published: Published::from(size),
        disk,
        settings,
        orders,
        progress: progress.clone(),
        state: State::Down(Down {
            tree: recovered.tree,
            segment: recovered.segment,
            previous: recovered.previous,
            unhashed: None,
            unforced: (recovered.previous.end != PreviousEnd::None)
                .then(|| recovered.segment.saturating_sub(1)),
        }),
        batch: Vec::new(),
        failed: None,
        reserve_held: false,
        data_keys,
    };
    thread.make_reserve().map_err(StartFault::Reserve)?;
    thread.open_segment().map_err(|fault| fault.into_start())?;
    let now = (thread.settings.clock)();
    let entry =
        Entry::new(Kind::Start, now).part(PartKind::Detail, Value::Object(facts).to_string());
    thread.batch.push(own(entry));
    if let Some(rotation) = rotation {
        let entry = Entry::new(Kind::Rotation, now).part(PartKind::Detail, rotation);
        thread.batch.push(own(entry));
    }
    thread.batch.extend(before.into_iter().map(own));
    thread.store_batch().map_err(|fault| fault.into_start())?;
    let ended = Ended {
        progress: thread.progress.clone(),
        wakers: thread.settings.wakers.clone(),
        mailboxes: thread.settings.mailboxes.clone(),
    };
    Ok((Steps::new(thread, sender, ended), recorders))
}

impl Writer {
    /// How far the writer has come.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// The thread has ended: unless [`Writer::stop`] was called, the process must end too.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// The way for cosigned notes into the record.
    pub fn cosigned(&self) -> Cosigned {
        Cosigned { orders: self.orders.clone() }
    }

    /// Makes the writer look at its clock now.
    pub fn look(&self) {
        // A full queue wakes it just as well.
        let _ = self.orders.try_send(Order::Look);
        self.thread.thread().unpark();
    }

    /// Stores what is queued, writes the stop entry, seals, signs, and ends the thread. Entries
    /// submitted from now on may come back or stay unpublished.
    pub fn stop(self) -> Result<Report, EndFault> {
        self.progress.set_stopping();
        self.look();
        self.thread.join().unwrap_or(Err(EndFault::Panicked))
    }
}

/// Says at the thread's end, however it comes, that nothing will be published any more.
struct Ended {
    progress: Arc<Progress>,
    wakers: Vec<Waker>,
    mailboxes: Vec<Arc<Mailbox>>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.progress.set_ended();
        self.mailboxes.iter().for_each(|mailbox| mailbox.close());
        self.wakers.iter().for_each(|wake| wake());
    }
}

/// Why a step failed. The file is given up, unless it had no part in it.
#[derive(Debug)]
enum Fault {
    Io(&'static str, io::Error),
    Short {
        taken: usize,
        of: usize,
    },
    Segment(super::segment::SegmentFault),
    /// A key file could not be made; the open segment is as it was.
    Key(&'static str, io::Error),
}

impl Fault {
    fn into_start(self) -> StartFault {
        match self {
            Fault::Io(_, error) | Fault::Key(_, error) => StartFault::Io(error),
            Fault::Short { .. } => StartFault::Io(io::Error::other(self.to_string())),
            Fault::Segment(fault) => StartFault::Setup(fault.to_string()),
        }
    }
}

impl Fault {
    /// The disk is full, or may be: a file takes a part of an append when only a part has room.
    fn is_full(&self) -> bool {
        match self {
            Fault::Io(_, error) | Fault::Key(_, error) => {
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Fault::Short { .. } => true,
            Fault::Segment(_) => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Io(step, error) => write!(f, "{step}: {error}"),
            Fault::Key(step, error) => write!(f, "{step} of a key file: {error}"),
            Fault::Short { taken, of } => write!(f, "append: {taken} of {of} bytes taken"),
            Fault::Segment(fault) => fault.fmt(f),
        }
    }
}

/// An open segment with its times, monotonic ns.
struct Open {
    builder: Builder,
    opened_ns: u64,
    signed_ns: u64,
    /// When the oldest entry was stored that no checkpoint covers.
    unsigned_ns: Option<u64>,
}

enum State {
    Open(Box<Open>),
    Down(Down),
}

struct Failed {
    since: Now,
    what: String,
    tries: u64,
    /// Tries that had failed when the writer was to stop.
    tries_before_stop: Option<u64>,
    /// Segments that were opened and given up since then.
    spent: u32,
    /// The newest fault says that the disk is full.
    full: bool,
}

struct Thread {
    clock: ClockWatch,
    disk: Box<dyn Disk>,
    settings: Settings,
    orders: Receiver<Order>,
    progress: Arc<Progress>,
    state: State,
    /// Received and not stored.
    batch: Vec<Submission>,
    /// Set from the first failure to the first batch stored after it.
    failed: Option<Failed>,
    /// The reserve is there to be spent.
    reserve_held: bool,
    published: Published,
    /// Keys of what is sealed just now, when anything is.
    data_keys: Option<DataKeys>,
}

impl Thread {
    fn now(&self) -> Now {
        (self.settings.clock)()
    }

    /// Adds entries to the batch; gives their bytes.
    fn take(&mut self, mut entries: Vec<Submission>) -> u64 {
        if let Some(keys) = &self.data_keys {
            entries.iter_mut().for_each(|submission| keys.marks(&mut submission.entry));
        }
        let bytes = entries.iter().map(|submission| submission.bytes).sum();
        self.batch.extend(entries);
        bytes
    }

    /// Takes what the wait gave, and drains the queue up to the bounds. False when all recorders are
    /// gone.
    fn receive(&mut self, first: Result<Order, RecvTimeoutError>) -> bool {
        let mut connected = true;
        let mut bytes = 0;
        match first {
            Ok(Order::Entries(entries)) => bytes += self.take(entries),
            Ok(Order::Cosigned(note)) => self.take_cosigned(note),
            Ok(Order::Look) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => connected = false,
        }
        let bytes_max = self.settings.limits.recorder_batch_bytes_max;
        while bytes < bytes_max && self.batch.len() < BATCH_ENTRIES_MAX {
            match self.orders.try_recv() {
                Ok(Order::Entries(entries)) => bytes += self.take(entries),
                Ok(Order::Cosigned(note)) => self.take_cosigned(note),
                Ok(Order::Look) => {}
                Err(_) => break,
            }
        }
        connected
    }

    fn take_cosigned(&mut self, note: String) {
        let now = self.now();
        self.published.cosigned(note, now);
    }

    /// Time until the next checkpoint, publication or seal.
    fn wait(&self) -> Duration {
        let State::Open(open) = &self.state else { return RETRY_PAUSE };
        let limits = &self.settings.limits;
        let published = [self.published.due_ns(limits), self.published.sign_due_ns()];
        let due_ns = published.into_iter().flatten().fold(open.due_ns(limits), u64::min);
        Duration::from_nanos(due_ns.saturating_sub(self.now().mono_ns))
    }

    /// Entries about the clock stand in front of the batch: what it holds was read behind the step.
    fn watch_clock(&mut self) {
        let Settings { clock, kernel_clock, boot_id, .. } = &self.settings;
        let boot_id = hex(boot_id);
        let step = self.clock.step(&boot_id, || clock());
        let now = clock();
        let stated = match kernel_clock {
            Some(ask) if self.clock.asks(now) => self.clock.stated(now, ask()),
            _ => None,
        };
        for detail in stated.into_iter().chain(step) {
            let entry = Entry::new(Kind::Clock, now).part(PartKind::Detail, detail.to_string());
            self.batch.insert(0, Submission { worker: WORKER_NONE, number: 0, bytes: 0, entry });
        }
    }

    fn turn(&mut self) -> Result<(), Fault> {
        self.watch_clock();
        self.store_batch()?;
        let now = self.now();
        let limits = &self.settings.limits;
        let State::Open(open) = &self.state else { return Ok(()) };
        let sign_due_ns = self.published.sign_due_ns().unwrap_or(u64::MAX);
        if open.builder.bytes() >= limits.segment_bytes_max
            || now.mono_ns >= open.age_due_ns(limits)
        {
            self.seal()?;
            self.open_segment()?;
        } else if now.mono_ns >= open.sign_due_ns(limits).min(sign_due_ns) {
            self.checkpoint()?;
        }
        self.publish_when_due()
    }

    /// Stores the batch in one append and publishes it. On a fault the batch is still there.
    fn store_batch(&mut self) -> Result<(), Fault> {
        self.store(self.batch.len())
    }

    /// The same for the first `count` of the batch.
    fn store(&mut self, count: usize) -> Result<(), Fault> {
        if count == 0 {
            return Ok(());
        }
        let count = count + self.make_data_keys(count)?;
        let State::Open(open) = &mut self.state else { return Ok(()) };
        let batch = &self.batch[..count];
        for Submission { entry, worker, .. } in batch {
            let key = self.data_keys.as_ref().and_then(|keys| keys.of(entry));
            open.builder.entry_sealed(entry, *worker, key).map_err(Fault::Segment)?;
        }
        open.builder.flush().map_err(Fault::Segment)?;
        append(&mut *self.disk, open.builder.step())?;
        let synced = batch.iter().any(|submission| submission.entry.level == Level::Synced);
        if synced {
            sync(&mut *self.disk)?;
        }
        open.builder.stored();
        self.published.grow(open.builder.leaves());
        self.progress.set_entries(open.builder.entries());
        let now = (self.settings.clock)();
        open.unsigned_ns.get_or_insert(now.mono_ns);
        self.publish(count, synced);
        if let Some(keys) = &mut self.data_keys {
            keys.trim();
        }
        Ok(())
    }

    fn publish(&mut self, count: usize, synced: bool) {
        let mut last = [None; WORKER_NONE as usize + 1];
        let mut entries = 0;
        let mut bytes = 0;
        // Why: the payload is let go before its receipt is out, so that whoever gets the receipt finds
        // its memory unshared and can use it again without an allocation.
        for submission in self.batch.drain(..count) {
            if submission.worker != WORKER_NONE {
                last[submission.worker as usize] = Some(submission.number);
                entries += 1;
                bytes += submission.bytes;
            }
        }
        self.progress.taken(entries, bytes);
        let wake_all = self.progress.take_refused();
        for (worker, wake) in self.settings.wakers.iter().enumerate() {
            if let Some(number) = last[worker] {
                self.progress.publish(worker as u8, number, synced);
            }
            if wake_all || last[worker].is_some() {
                wake();
            }
        }
    }

    fn checkpoint(&mut self) -> Result<(), Fault> {
        let now = self.now();
        let State::Open(open) = &mut self.state else { return Ok(()) };
        for note in self.published.waiting() {
            open.builder.cosignatures(note).map_err(Fault::Segment)?;
        }
        open.builder.checkpoint(&self.settings.key, now.utc_ns).map_err(Fault::Segment)?;
        append(&mut *self.disk, open.builder.step())?;
        open.builder.stored();
        open.signed_ns = now.mono_ns;
        open.unsigned_ns = None;
        self.tell_signed(now);
        Ok(())
    }

    fn seal(&mut self) -> Result<(), Fault> {
        let now = self.now();
        let State::Open(open) = &mut self.state else { return Ok(()) };
        for note in self.published.waiting() {
            open.builder.cosignatures(note).map_err(Fault::Segment)?;
        }
        open.builder.seal(&self.settings.key, now.utc_ns).map_err(Fault::Segment)?;
        append(&mut *self.disk, open.builder.step())?;
        sync(&mut *self.disk)?;
        open.builder.stored();
        let kept = open.builder.kept();
        self.tell_signed(now);
        self.state = State::Down(Down::after(kept, PreviousEnd::Sealed));
        Ok(())
    }

    fn finish(&mut self) -> Result<Report, Fault> {
        let now = self.now();
        if let State::Open(_) = &self.state {
            self.batch.push(own(Entry::new(Kind::Stop, now)));
            let stored = self.store_batch();
            // Why: after a failure the stop is decided anew, so its entry is not kept.
            self.batch.clear();
            stored?;
            self.seal()?;
            self.publish_last();
        }
        Ok(self.report())
    }

    /// What the record has come to. Only after a seal.
    fn report(&self) -> Report {
        match &self.state {
            State::Down(down) => Report { entries: down.tree.size(), segment: down.segment - 1 },
            State::Open(_) => unreachable!("sealed just now"),
        }
    }
}

impl Open {
    fn sign_due_ns(&self, limits: &Limits) -> u64 {
        let ms = |ms: u64| ms * 1_000_000;
        let heartbeat = self.signed_ns + ms(limits.heartbeat_ms_max);
        // Why: four fifths of the bound, so that a late wake-up stays inside it.
        let fresh = self.unsigned_ns.map(|since| since + ms(limits.checkpoint_ms_max) / 5 * 4);
        fresh.map_or(heartbeat, |fresh| fresh.min(heartbeat))
    }

    fn age_due_ns(&self, limits: &Limits) -> u64 {
        self.opened_ns + limits.segment_ms_max * 1_000_000
    }

    fn due_ns(&self, limits: &Limits) -> u64 {
        self.sign_due_ns(limits).min(self.age_due_ns(limits))
    }
}

/// A checkpoint over what is kept of the record, before anything is added.
fn kept_checkpoint(settings: &Settings, recovered: &recovery::Recovered) -> Checkpoint {
    Checkpoint {
        origin: settings.key.verifier().name().to_owned(),
        size: recovered.tree.size(),
        root: recovered.tree.root(),
        segment: recovered.segment.saturating_sub(1),
        offset: recovered.previous.kept_bytes,
        chain: recovered.previous.chain,
        utc_ns: (settings.clock)().utc_ns,
        sealed: false,
    }
}

/// An entry of the writer itself: always synced.
fn own(mut entry: Entry) -> Submission {
    entry.level = Level::Synced;
    Submission { worker: WORKER_NONE, number: 0, bytes: 0, entry }
}

/// One append that must take everything.
fn append(disk: &mut dyn Disk, bytes: &[u8]) -> Result<(), Fault> {
    loop {
        match disk.append(bytes) {
            Ok(taken) if taken == bytes.len() => return Ok(()),
            Ok(taken) => return Err(Fault::Short { taken, of: bytes.len() }),
            // Nothing was taken.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Fault::Io("append", error)),
        }
    }
}

fn sync(disk: &mut dyn Disk) -> Result<(), Fault> {
    disk.sync().map_err(|error| Fault::Io("sync", error))
}

pub(super) fn previous_json(previous: &Previous) -> Value {
    json!({
        "end": previous.end.as_str(),
        "kept_bytes": previous.kept_bytes,
        "residue_bytes": previous.residue_bytes,
    })
}

fn checkpoint_json(checkpoint: &Checkpoint) -> Value {
    json!({
        "size": checkpoint.size,
        "root": STANDARD.encode(checkpoint.root),
        "segment": checkpoint.segment,
        "offset": checkpoint.offset,
        "chain": STANDARD.encode(checkpoint.chain),
        "time": time_text(checkpoint.utc_ns),
        "sealed": checkpoint.sealed,
    })
}
