//! One segment file, read from front to back and checked byte by byte, in bounded memory.
//!
//! The scan walks the frames and blocks itself and gives the decompressor one block at a time, so that
//! it knows where each mark stands in the file. Entries are handed on only when the mark behind them
//! has been read; `sound` says whether the chain agreed.
//!
//! | at | sees | goes on as |
//! |---|---|---|
//! | frame boundary | data frame head | in a frame |
//! | frame boundary | checkpoint | frame boundary, or sealed |
//! | frame boundary | cosignatures | only cosignatures, an index or a checkpoint may follow |
//! | frame boundary | index | only a sealed checkpoint may follow |
//! | in a frame | block | in a frame, flush open |
//! | in a frame, flush open | mark | in a frame, at a point |
//! | in a frame, at a point | frame end | frame boundary |
//! | anywhere | end of the file at a point | [`End::Point`] |
//! | anywhere | end of the file elsewhere | [`End::Torn`] |
//! | anywhere | anything else | damage; searched for the next checkpoint, else [`End::Broken`] |
//!
//! Invariant: `point` is the last place up to which everything was read, and `chain` and `tree` speak
//! of exactly the bytes before it.

use std::io::{self, Read};

use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

use super::earlier::text_digest;
use super::entry::{
    ENTRY_BYTES_MAX, EntryFault, EntryMeasure, EntryView, Kind, PartKind, TAG_COMPACT, TAG_ENTRY,
    TAG_MARK, measure_entry, read_entries,
};
use super::format::{
    CHECKPOINT_BYTES_MAX, COMPACT_VERSION_MIN, COSIGNATURES_BYTES_MAX, COSIGNATURES_VERSION_MIN,
    DATA_FRAME_HEAD, FORMAT_VERSION, FRAME_END, INDEX_BYTES_MAX, MAGIC_CHECKPOINT,
    MAGIC_COSIGNATURES, MAGIC_INDEX, MARK_BLOCK_HEAD, MARK_BYTES, ROTATION_VERSION_MIN,
    SKIPPABLE_HEAD_BYTES, WINDOW_LOG,
};
pub use super::found::{Damage, End, Gather, Gatherer, Left, Place, Scanned, Sink, Task};
use super::header::{Header, HeaderFault};
use super::index::{Index, Summary};
use super::keys::VerifierKey;
use super::note::{Checkpoint, Note, NoteFault};
use super::rotation::Rotation;
use super::tree::Tree;

mod extent;
mod resume;

use extent::Extent;

/// Largest block of a data frame (RFC 8878 §3.1.1.2.4).
pub(super) const BLOCK_BYTES_MAX: usize = 128 * 1024;
/// Plain bytes of one flush. Bound: one largest entry and a batch in front of it.
const FLUSH_BYTES_MAX: usize = ENTRY_BYTES_MAX + 8 * 1024 * 1024;
/// File bytes read at a time.
const READ_BYTES: usize = 256 * 1024;
/// Plain memory kept between flushes.
const PLAIN_KEEP_BYTES: usize = 4 * 1024 * 1024;

/// A cosignature over something else than a checkpoint that stands before it.
pub(super) const NO_EARLIER: &str =
    "cosigned checkpoint is none of the 4096 before it in this record";

/// Why a step could not be taken.
enum Fault {
    /// The bytes end here.
    Torn,
    Broken(String),
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        Fault::Io(error)
    }
}

fn broken<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Broken(what.into()))
}

/// A checkpoint by the key of the task, and whether another key signed it.
fn open(task: &Task<'_>, note: &[u8]) -> (Result<Checkpoint, NoteFault>, bool) {
    match Checkpoint::open(note, task.key) {
        Err(NoteFault::OtherKey) if !task.key_sure => (Checkpoint::open(note, None), true),
        opened => {
            let other_key = opened == Err(NoteFault::OtherKey);
            (opened, other_key)
        }
    }
}

struct Scan<'a> {
    task: &'a Task<'a>,
    input: &'a mut dyn Read,
    sink: &'a mut dyn Sink,
    /// File bytes from `offset` on that are in memory.
    window: Vec<u8>,
    /// Consumed bytes at the front of `window`.
    used: usize,
    /// File offset of the first unconsumed byte.
    offset: u64,
    /// File bytes read so far.
    read: u64,
    zstd: DCtx<'static>,
    in_frame: bool,
    indexed: bool,
    /// Cosignatures stand right before this place.
    cosigned: bool,
    /// No flush has been read yet.
    first_flush: bool,
    /// How many of the wanted roots are behind.
    roots_past: usize,
    /// Format version of the header; the newest one where that cannot be read.
    version: u16,
    origin: Option<String>,
    /// The chain since its last point.
    extent: Extent,
    /// The same at `point`.
    point_extent: Extent,
    /// Memory of an extent that is over.
    extent_spare: Extent,
    /// Plain bytes of the open flush.
    plain: Vec<u8>,
    /// How much of it is whole entries, and where each ends.
    entry_ends: Vec<usize>,
    /// Plain bytes with which the next entry may be whole.
    entry_need: usize,
    tree: Option<Tree>,
    /// Leaves of the flush that is being handed on.
    leaves: Vec<[u8; 32]>,
    next_sequence: Option<u64>,
    /// The index as the entries make it, where it is to be compared.
    index: Option<Index>,
    out: Scanned,
}

/// Reads the first `task.length` bytes of a segment. An error is one of the disk, not of the bytes.
pub fn scan(task: &Task<'_>, input: &mut dyn Read, sink: &mut dyn Sink) -> io::Result<Scanned> {
    let mut zstd = DCtx::create();
    // Bound: a frame that asks for a larger window is refused by the decompressor as well.
    zstd.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(|_| io::ErrorKind::Other)?;
    let mut scan = Scan {
        task,
        input,
        sink,
        window: Vec::new(),
        used: 0,
        offset: 0,
        read: 0,
        zstd,
        in_frame: false,
        indexed: false,
        cosigned: false,
        first_flush: true,
        roots_past: 0,
        version: FORMAT_VERSION,
        origin: None,
        extent: Extent::default(),
        point_extent: Extent::default(),
        extent_spare: Extent::default(),
        plain: Vec::new(),
        entry_ends: Vec::new(),
        entry_need: 1,
        tree: None,
        leaves: Vec::new(),
        next_sequence: None,
        index: task.commitments.then(Index::default),
        out: Scanned::nothing(),
    };
    scan.run()?;
    Ok(scan.out)
}

impl Scan<'_> {
    fn run(&mut self) -> io::Result<()> {
        let mut step = self.header();
        loop {
            match step {
                Ok(None) => step = self.step(),
                Ok(Some(end)) => {
                    self.out.end = end;
                    break;
                }
                Err(Fault::Io(error)) => return Err(error),
                Err(Fault::Torn) => {
                    let start = self.out.point;
                    // Why: what was torn off has no checkpoint behind it; else a length was damaged.
                    let Some(end) = self.unread()?.checkpoint else {
                        self.out.end = End::Torn;
                        break;
                    };
                    let what = "bytes run beyond the end of the file";
                    self.damage(start, end, self.next_sequence, what);
                    step = self.resume();
                }
                Err(Fault::Broken(what)) => {
                    let start = self.out.point;
                    let rest = self.unread()?;
                    // Why: zeros behind a point are what some file systems show after a power cut for
                    // bytes that were never written; nothing was acknowledged there without a sync.
                    if self.out.header.is_some() && rest.zero {
                        self.out.end = End::Torn;
                        self.out.tail_zero = true;
                        break;
                    }
                    let end = match rest.checkpoint {
                        Some(at) => at,
                        None => self.task.length,
                    };
                    self.damage(start, end, self.next_sequence, what);
                    if rest.checkpoint.is_none() {
                        self.out.end = End::Broken;
                        break;
                    }
                    step = self.resume();
                }
            }
        }
        self.out.chain = self.point_extent.digest();
        self.out.tree = self.tree.take();
        Ok(())
    }

    fn damage(&mut self, offset: u64, end: u64, entry: Option<u64>, what: impl Into<String>) {
        let segment = self.task.segment;
        self.out.damage.push(Damage { segment, entry, offset, end, what: what.into() });
    }

    /// Makes `bytes` unconsumed bytes available; `Torn` when the file ends before.
    fn need(&mut self, bytes: usize) -> Result<&[u8], Fault> {
        while self.window.len() - self.used < bytes {
            if !self.fill()? {
                return Err(Fault::Torn);
            }
        }
        Ok(&self.window[self.used..self.used + bytes])
    }

    /// Reads on; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let left = self.task.length - self.read;
        if left == 0 {
            return Ok(false);
        }
        if self.used > 0 {
            self.window.drain(..self.used);
            self.used = 0;
        }
        let at = self.window.len();
        self.window.resize(at + (left as usize).min(READ_BYTES), 0);
        let got = self.input.read(&mut self.window[at..])?;
        self.window.truncate(at + got);
        self.read += got as u64;
        self.sink.bytes_read(got as u64);
        // A file that is shorter than it was a moment ago.
        if got == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(true) }
    }

    fn consume(&mut self, bytes: usize) {
        self.extent.add(&self.window[self.used..self.used + bytes]);
        self.used += bytes;
        self.offset += bytes as u64;
    }

    fn at_point(&mut self) {
        self.out.point = self.offset;
        self.point_extent.copy_from(&self.extent);
    }

    fn header(&mut self) -> Result<Option<End>, Fault> {
        let name = |fault: HeaderFault| Fault::Broken(fault.to_string());
        let short = |fault, length| match fault {
            Fault::Torn => name(HeaderFault::Short(length)),
            other => other,
        };
        let length = self.task.length;
        let head = self.need(SKIPPABLE_HEAD_BYTES).map_err(|fault| short(fault, length))?;
        let head = head.first_chunk().expect("8 bytes");
        let frame_bytes = Header::frame_bytes(head).map_err(name)?;
        let frame = self.need(frame_bytes).map_err(|fault| short(fault, length))?;
        let (header, chain) = Header::read(frame).map_err(name)?;
        let version = Header::version(frame);
        if header.segment != self.task.segment {
            return broken(format!("file holds segment {}", header.segment));
        }
        if let Some(key) = self.task.key
            && header.origin != key.name()
        {
            return broken(format!("segment belongs to the log {:?}", header.origin));
        }
        self.version = version;
        self.consume(frame_bytes);
        self.extent.begin(chain, self.offset);
        self.origin = Some(header.origin.clone());
        self.tree = Some(header.tree.clone());
        self.next_sequence = Some(header.tree.size());
        self.roots_past = self.task.roots_at.partition_point(|size| *size < header.tree.size());
        self.grow();
        self.out.header = Some(header);
        self.at_point();
        Ok(None)
    }

    fn step(&mut self) -> Result<Option<End>, Fault> {
        if self.offset == self.task.length {
            let clean = self.plain.is_empty() && !self.indexed && self.offset == self.out.point;
            return if clean { Ok(Some(End::Point)) } else { Err(Fault::Torn) };
        }
        if self.in_frame { self.block() } else { self.frame() }
    }

    fn frame(&mut self) -> Result<Option<End>, Fault> {
        let magic = u32::from_le_bytes(self.need(4)?.try_into().expect("4 bytes"));
        if magic == MAGIC_COSIGNATURES && !self.indexed {
            return self.cosignatures();
        }
        if magic == MAGIC_CHECKPOINT || magic == MAGIC_INDEX {
            return self.skippable(magic);
        }
        if self.cosigned {
            return broken("something other than a checkpoint follows cosignatures");
        }
        if self.indexed {
            return broken("something other than a checkpoint follows the index");
        }
        if magic.to_le_bytes() != DATA_FRAME_HEAD[..4] {
            return broken(format!("frame begins with {magic:#010x}"));
        }
        if self.need(DATA_FRAME_HEAD.len())? != DATA_FRAME_HEAD {
            return broken("data frame has another head than the format lays down");
        }
        self.zstd
            .reset(ResetDirective::SessionOnly)
            .map_err(|_| Fault::Io(io::ErrorKind::Other.into()))?;
        self.decode(DATA_FRAME_HEAD.len())?;
        self.in_frame = true;
        Ok(None)
    }

    fn cosignatures(&mut self) -> Result<Option<End>, Fault> {
        if self.version < COSIGNATURES_VERSION_MIN {
            return broken(format!("cosignatures in a segment of version {}", self.version));
        }
        let head = self.need(SKIPPABLE_HEAD_BYTES)?;
        let bytes = u32::from_le_bytes(head[4..].try_into().expect("4 bytes")) as usize;
        if bytes > COSIGNATURES_BYTES_MAX {
            return broken(format!("frame of {bytes} bytes, limit {COSIGNATURES_BYTES_MAX}"));
        }
        let whole = SKIPPABLE_HEAD_BYTES + bytes;
        let payload = self.need(whole)?[SKIPPABLE_HEAD_BYTES..].to_vec();
        let Some(note) = Note::parse(&payload).filter(|note| note.signatures.len() > 1) else {
            return broken("cosignatures are no note with the lines of witnesses");
        };
        let Some(checkpoint) = Checkpoint::parse(note.text) else {
            return broken(NoteFault::Form.to_string());
        };
        let is_signed = |key: &VerifierKey| note.signatures[0].is_by(key, note.text);
        let other =
            |key: &VerifierKey| !self.task.key_sure && note.signatures[0].hash != key.hash();
        if self.task.key.is_some_and(|key| !is_signed(key) && !other(key))
            || note.signatures[0].name != checkpoint.origin
        {
            return broken("cosigned checkpoint is not signed by the log's key");
        }
        if self.origin.as_ref().is_some_and(|origin| *origin != checkpoint.origin)
            || self.next_sequence.is_some_and(|next| checkpoint.size > next)
        {
            return broken(format!(
                "cosigned checkpoint speaks of {:?} with {} entries",
                checkpoint.origin, checkpoint.size
            ));
        }
        let (start, end) = (self.out.point, self.offset + whole as u64);
        // Why only so far: damage may hide the checkpoint.
        if self.out.damage.is_empty()
            && !self.out.cosigned.cosignature(
                text_digest(note.text),
                start,
                end,
                self.next_sequence,
            )
        {
            return broken(NO_EARLIER);
        }
        self.sink.cosignatures((self.task.segment, self.offset), &checkpoint, &note);
        self.consume(whole);
        self.cosigned = true;
        Ok(None)
    }

    fn skippable(&mut self, magic: u32) -> Result<Option<End>, Fault> {
        let head = self.need(SKIPPABLE_HEAD_BYTES)?;
        let bytes = u32::from_le_bytes(head[4..].try_into().expect("4 bytes")) as usize;
        let bytes_max = if magic == MAGIC_INDEX { INDEX_BYTES_MAX } else { CHECKPOINT_BYTES_MAX };
        if bytes > bytes_max {
            return broken(format!("frame of {bytes} bytes, limit {bytes_max}"));
        }
        let whole = SKIPPABLE_HEAD_BYTES + bytes;
        let task = self.task;
        let payload = &self.need(whole)?[SKIPPABLE_HEAD_BYTES..];
        if magic == MAGIC_INDEX {
            let index = serde_json::from_slice::<serde_json::Value>(payload);
            if !index.is_ok_and(|index| index["version"] == 1) {
                return broken("index is no JSON object of version 1");
            }
            let stated = Summary::read(payload);
            if self.indexed {
                return broken("second index");
            }
            self.compare_index(stated.as_ref(), whole);
            self.consume(whole);
            self.indexed = true;
            return Ok(None);
        }
        let (checkpoint, other_key) = open(task, payload);
        self.out.other_key |= other_key;
        let checkpoint = match checkpoint {
            Ok(checkpoint) => checkpoint,
            Err(fault) => return broken(fault.to_string()),
        };
        self.check(&checkpoint)?;
        if checkpoint.sealed != self.indexed {
            return broken("a sealed checkpoint and an index belong together");
        }
        let before = self.chain_point(checkpoint.chain);
        self.judge(&before, before.digest(), checkpoint.chain, whole);
        self.extent_spare = before;
        self.consume(whole);
        self.cosigned = false;
        self.out.checkpoints += 1;
        self.out.signed = Some(checkpoint.size);
        self.out.cosigned.checkpoint(text_digest(&checkpoint.text()));
        self.sink.checkpoint(&checkpoint);
        self.at_point();
        if !checkpoint.sealed {
            return Ok(None);
        }
        self.indexed = false;
        if self.offset == self.task.length {
            return Ok(Some(End::Sealed));
        }
        broken("bytes follow the sealed checkpoint")
    }

    /// What the index promises against the entries. Where some were not read nothing can be said.
    fn compare_index(&mut self, stated: Option<&Summary>, whole: usize) {
        let (Some(stated), Some(index)) = (stated, self.index.take()) else { return };
        if self.out.resumed || !self.out.damage.is_empty() || index.is_partial() {
            return;
        }
        if let Some(member) = stated.lie(&index.summary()) {
            let (offset, entry) = (self.offset, self.next_sequence);
            let what = format!("index says of {member:?} what the entries do not");
            self.damage(offset, offset + whole as u64, entry, what);
        }
    }

    /// The checkpoint against what was read. A root that differs is told as damage here, because the
    /// bytes after it can still be read.
    fn check(&mut self, checkpoint: &Checkpoint) -> Result<(), Fault> {
        if checkpoint.segment != self.task.segment || checkpoint.offset != self.offset {
            return broken(format!(
                "checkpoint speaks of segment {} byte {}",
                checkpoint.segment, checkpoint.offset
            ));
        }
        if self.origin.as_ref().is_some_and(|origin| *origin != checkpoint.origin) {
            return broken(format!("checkpoint belongs to the log {:?}", checkpoint.origin));
        }
        let differs = match (&self.tree, self.next_sequence) {
            (Some(tree), _) => tree.size() != checkpoint.size || tree.root() != checkpoint.root,
            (None, Some(next)) => next != checkpoint.size,
            (None, None) => false,
        };
        if differs {
            let (offset, entry) = (self.offset, self.next_sequence);
            let what = format!(
                "checkpoint of {} entries does not fit the entries before it",
                checkpoint.size
            );
            self.damage(offset, offset, entry, what);
            self.tree = None;
            self.next_sequence = Some(checkpoint.size);
        }
        Ok(())
    }

    fn block(&mut self) -> Result<Option<End>, Fault> {
        let head: [u8; 3] = self.need(3)?.try_into().expect("3 bytes");
        let flushed = self.plain.is_empty() && self.offset == self.out.point;
        if head[0] & 1 == 1 {
            if head != FRAME_END || !flushed {
                return broken("frame ends in another way than the format lays down");
            }
            self.consume(FRAME_END.len());
            self.in_frame = false;
            self.at_point();
            return Ok(None);
        }
        let size = (u32::from_le_bytes([head[0], head[1], head[2], 0]) >> 3) as usize;
        let content = match head[0] >> 1 & 3 {
            0 | 2 => size,
            1 => 1,
            _ => return broken("block of the reserved type"),
        };
        if size > BLOCK_BYTES_MAX {
            return broken(format!("block of {size} bytes, limit {BLOCK_BYTES_MAX}"));
        }
        let whole = 3 + content;
        let block = self.need(whole)?;
        let mark = (head == MARK_BLOCK_HEAD && block[3] == TAG_MARK)
            .then(|| <[u8; 3 + MARK_BYTES]>::try_from(block).expect("length of a mark block"));
        let between = self.entry_ends.last().copied().unwrap_or(0) == self.plain.len();
        if let (Some(mark), true) = (mark, between) {
            return self.mark(&mark).map(|()| None);
        }
        self.decode(whole)?;
        if self.plain.len() > FLUSH_BYTES_MAX {
            return broken(format!("flush of more than {FLUSH_BYTES_MAX} bytes"));
        }
        self.measure()?;
        Ok(None)
    }

    /// Finds the ends of the entries that are whole by now.
    fn measure(&mut self) -> Result<(), Fault> {
        let mut at = self.entry_ends.last().copied().unwrap_or(0);
        while self.plain.len() >= at + self.entry_need {
            let tag = self.plain[at];
            if tag != TAG_ENTRY && (tag != TAG_COMPACT || self.version < COMPACT_VERSION_MIN) {
                return broken(format!("item begins with {tag:#04x}"));
            }
            match measure_entry(&self.plain[at..]) {
                EntryMeasure::Done(used) => {
                    at += used;
                    self.entry_ends.push(at);
                    self.entry_need = 1;
                }
                EntryMeasure::More(need) => self.entry_need = need,
                EntryMeasure::Broken(fault) => return broken(fault.to_string()),
            }
        }
        Ok(())
    }

    fn mark(&mut self, block: &[u8; 3 + MARK_BYTES]) -> Result<(), Fault> {
        if self.entry_ends.is_empty() {
            return broken("mark without an entry before it");
        }
        let stated = block[4..].try_into().expect("32 bytes");
        let before = self.chain_point(stated);
        let flush_bytes = self.plain.len();
        if let Err(fault) = self.decode(block.len()) {
            self.judge(&before, before.digest(), stated, block.len());
            return Err(fault);
        }
        self.plain.truncate(flush_bytes);
        let (segment, version) = (self.task.segment, self.version);
        let plain = std::mem::take(&mut self.plain);
        let mut ends = std::mem::take(&mut self.entry_ends);
        let commitments = self.task.commitments;
        let mut place = None;
        read_entries(&plain, &ends, commitments, before.message(), |view, leaf, fault, beside| {
            let place = place.get_or_insert_with(|| {
                let computed = beside.unwrap_or_else(|| before.digest());
                let sound = self.judge(&before, computed, stated, block.len());
                let (start, end) = (before.start, self.extent.start);
                Place { segment, version, start, end, sound }
            });
            self.entry(place, &view, leaf, fault);
        });
        self.extent_spare = before;
        self.grow();
        self.first_flush = false;
        ends.clear();
        self.plain = plain;
        self.plain.clear();
        self.plain.shrink_to(PLAIN_KEEP_BYTES);
        self.entry_ends = ends;
        self.at_point();
        Ok(())
    }

    fn entry(
        &mut self,
        place: &Place,
        view: &EntryView<'_>,
        leaf: [u8; 32],
        fault: Option<EntryFault>,
    ) {
        if let Some(fault) = fault {
            self.damage(place.start, place.end, Some(view.sequence), fault.to_string());
        }
        if self.next_sequence.is_some_and(|next| next != view.sequence) {
            let next = self.next_sequence;
            let what = format!("entry has sequence {}, expected {next:?}", view.sequence);
            self.damage(place.start, place.end, next, what);
            self.tree = None;
        }
        if view.kind() == Some(Kind::Rotation)
            && self.version >= ROTATION_VERSION_MIN
            && let Err(what) = self.rotation(view)
        {
            self.damage(place.start, place.end, Some(view.sequence), what);
        }
        self.next_sequence = Some(view.sequence.saturating_add(1));
        self.leaves.push(leaf);
        self.out.entries += 1;
        self.out.stopped = view.kind() == Some(Kind::Stop);
        if let Some(index) = &mut self.index {
            index.add_view(view);
        }
        let place = Place { sound: place.sound && fault.is_none(), ..*place };
        self.sink.entry(&place, view);
    }

    /// The entry of a key rotation against its place, its signatures and the tree before it.
    fn rotation(&self, entry: &EntryView<'_>) -> Result<(), &'static str> {
        if !self.first_flush || self.out.checkpoints > 0 || self.out.entries == 0 {
            return Err("key rotation stands elsewhere than behind a start entry");
        }
        let detail = entry.part(PartKind::Detail).ok_or("key rotation says nothing")?;
        let rotation = Rotation::read(detail)?;
        let fits = self.out.header.as_ref().is_some_and(|header| {
            (rotation.size, rotation.root) == (header.tree.size(), header.tree.root())
        });
        if !fits {
            return Err("key rotation speaks of another tree than the one before it");
        }
        if self.task.key_sure && self.task.key.is_some_and(|key| *key != rotation.new) {
            return Err("key rotation does not follow from the key that is trusted");
        }
        Ok(())
    }

    /// Puts the leaves of a flush into the tree, and notes its root at each size that was asked for.
    fn grow(&mut self) {
        let mut leaves = std::mem::take(&mut self.leaves);
        while let Some(tree) = &mut self.tree {
            let wanted = self.task.roots_at.get(self.roots_past);
            let ahead = wanted.map_or(u64::MAX, |size| size.saturating_sub(tree.size()));
            if ahead > leaves.len() as u64 {
                tree.append_all(&mut leaves);
                break;
            }
            tree.append_all(&mut leaves.drain(..ahead as usize).collect());
            self.roots_past += 1;
            self.out.roots.push((tree.size(), tree.root()));
        }
        leaves.clear();
        self.leaves = leaves;
    }

    /// The chain goes on from what is stated at this offset. Gives what it was before.
    fn chain_point(&mut self, stated: [u8; 32]) -> Extent {
        let mut extent = std::mem::take(&mut self.extent_spare);
        extent.begin(stated, self.offset);
        std::mem::replace(&mut self.extent, extent)
    }

    /// Compares the value `computed` for the end of `before` with what is stated at the point that was
    /// made there. The point's own `own` bytes count into the range of a damage, since the fault may
    /// lie there.
    fn judge(&mut self, before: &Extent, computed: [u8; 32], stated: [u8; 32], own: usize) -> bool {
        let sound = computed == stated || before.digest_other() == Some(stated);
        if !sound {
            let end = self.extent.start + own as u64;
            let what = "chain differs over these bytes";
            self.damage(before.start, end, self.next_sequence, what);
            // Why: the fault may lie in the bytes or in the stated value; the next point tells.
            self.extent.differs(computed);
        }
        sound
    }

    /// Decompresses and consumes the next `bytes` of the file.
    fn decode(&mut self, bytes: usize) -> Result<(), Fault> {
        let mut input = InBuffer::around(&self.window[self.used..self.used + bytes]);
        loop {
            self.plain.reserve(BLOCK_BYTES_MAX + 64);
            let at = self.plain.len();
            let room = self.plain.capacity();
            let mut out = OutBuffer::around_pos(&mut self.plain, at);
            if let Err(code) = self.zstd.decompress_stream(&mut out, &mut input) {
                let name = zstd::zstd_safe::get_error_name(code);
                return broken(format!("block cannot be decompressed: {name}"));
            }
            if input.pos() == bytes && self.plain.len() < room {
                break;
            }
        }
        self.consume(bytes);
        Ok(())
    }
}
