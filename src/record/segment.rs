//! Entries in, bytes of a segment file out. Knows no file: the writer takes [`Builder::step`], gives
//! it to the disk, and says [`Builder::stored`] when the disk has taken all of it.
//!
//! | call | allowed when | adds to the step |
//! |---|---|---|
//! | `begin` | | the header frame |
//! | `entry` | not sealed | compressed bytes, perhaps none yet |
//! | `flush` | after entries | the rest of the data, the mark, perhaps the frame end |
//! | `cosignatures` | flushed and stored, before `checkpoint` or `seal` | perhaps the frame end, the cosignature frame |
//! | `checkpoint` | flushed and stored | perhaps the frame end, the checkpoint frame |
//! | `seal` | flushed and stored | perhaps the frame end, the index frame, the sealed checkpoint |
//! | `stored` | flushed | nothing; the step is empty again |
//!
//! Invariants: what [`Builder::kept`] tells is true of the bytes that were stored, whatever was added
//! since; a checkpoint never speaks of entries that were not stored. After a fault the builder is
//! given up, and its file with it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use zeroize::Zeroize;
use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective as Directive;
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

use super::entry::{
    COMPACT_ROW_BYTES, Entry, HEADER_FIXED_BYTES, Keep, Original, PART_ROW_BYTES, PARTS_MAX,
    PartKind, SALT_BYTES, SEED_BYTES, TAG_COMPACT, TAG_MARK, derive_salt, salt_message,
    write_compact_header, write_fixed, write_row, write_row_open,
};
use super::format::{
    DATA_FRAME_HEAD, FRAME_END, MAGIC_CHECKPOINT, MAGIC_COSIGNATURES, MAGIC_INDEX, MARK_BLOCK_HEAD,
    MARK_BYTES, WINDOW_LOG, ZSTD_LEVEL, skippable_head,
};
use super::hash::{Message, digest_all};
use super::header::Header;
use super::index::Index;
use super::keys::LogKey;
use super::note::Checkpoint;
use super::patch;
use super::seal::{DataKey, How, Item, seal};
use super::tree::{LEAF_PREFIX, Tree};

/// Room given to the compressor at a time: a whole block fits.
const ROOM_BYTES: usize = 132 * 1024;
/// Plain bytes gathered for one call of the compressor, which costs something for each.
const GATHER_BYTES: usize = 16 * 1024;
/// Parts from this size on go to the compressor from where they lie.
const DIRECT_BYTES: usize = 4 * 1024;
/// Bytes of parts that wait to be hashed. Measured: more of them leave the core's own cache in between,
/// fewer make lanes run empty more often.
const WAITING_BYTES: usize = 128 * 1024;
/// Seeds and salts drawn at once.
const SALT_POOL_BYTES: usize = 4096;
const _: () = assert!(SEED_BYTES == SALT_BYTES, "one pool for both");

/// Source of random bytes: fills the slice, and panics where the system has none.
pub type Random = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// Why a segment cannot be built on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentFault {
    /// The compressor reports an error; its code.
    Compressor(usize),
    /// The compressor's output has not the form that the format lays down.
    Form,
}

impl std::fmt::Display for SegmentFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SegmentFault::Compressor(code) => {
                write!(f, "zstd: {}", zstd::zstd_safe::get_error_name(*code))
            }
            SegmentFault::Form => f.write_str("zstd wrote a frame that is not in our form"),
        }
    }
}

/// Fresh seeds and salts, drawn in batches.
struct Salts {
    random: Random,
    pool: Box<[u8; SALT_POOL_BYTES]>,
    used: usize,
}

impl Salts {
    fn next(&mut self) -> [u8; SALT_BYTES] {
        if self.used == SALT_POOL_BYTES {
            (self.random)(&mut self.pool[..]);
            self.used = 0;
        }
        let mut salt = [0; SALT_BYTES];
        // Why: a salt leaves no copy behind that could go out twice.
        salt.swap_with_slice(&mut self.pool[self.used..self.used + SALT_BYTES]);
        self.used += SALT_BYTES;
        salt
    }
}

/// The commitment in row `index` of a whole header.
fn stated(header: &[u8], index: usize) -> &[u8] {
    let row = &header[HEADER_FIXED_BYTES + index * PART_ROW_BYTES..][..PART_ROW_BYTES];
    &row[COMPACT_ROW_BYTES..]
}

/// What of an entry goes into its sealed part.
struct Sealing<'a> {
    entry: &'a Entry,
    /// Row of its body.
    body: Option<usize>,
}

impl<'a> Sealing<'a> {
    fn of(entry: &'a Entry) -> Sealing<'a> {
        // Why: this runs for every entry, and nearly none has anything to seal.
        let may = entry.keep == Keep::Sealed || !entry.originals.is_empty();
        let body = may.then(|| entry.parts.iter().position(|part| part.kind == PartKind::Body));
        Sealing { entry, body: body.flatten() }
    }

    fn takes_body(&self) -> bool {
        self.body.is_some() && self.entry.keep == Keep::Sealed
    }

    fn takes(&self, original: &Original) -> bool {
        // Why: a patch of a body that nobody keeps restores nothing.
        let lost = self.body.is_some() && self.entry.keep == Keep::Heads;
        original.kind != PartKind::Original || !lost
    }

    fn any(&self) -> bool {
        self.takes_body() || self.entry.originals.iter().any(|original| self.takes(original))
    }

    /// The sealed part. `header_before` is the entry's header up to the row of that part; `salts` are
    /// those of its parts and, behind them, of its originals.
    fn part(
        &self,
        key: &DataKey,
        header_before: &[u8],
        salts: &[[u8; SALT_BYTES]],
        random: &dyn Fn(&mut [u8]),
    ) -> Vec<u8> {
        let parts = &self.entry.parts;
        let mut patches = Vec::with_capacity(self.entry.originals.len());
        for (index, original) in self.entry.originals.iter().enumerate() {
            if self.takes(original) {
                patches.push(match self.body {
                    Some(body) if original.kind == PartKind::Original => {
                        let patch = patch::make(&parts[body].bytes, &original.bytes);
                        (parts.len() + index, How::Patch, patch)
                    }
                    _ => (parts.len() + index, How::Whole, original.bytes.clone()),
                });
            }
        }
        let mut items = Vec::with_capacity(1 + patches.len());
        if let Some(row) = self.body.filter(|_| self.takes_body()) {
            let content = &parts[row].bytes[..];
            items.push(Item { row: row as u8, how: How::Whole, salt: salts[row], content });
        }
        for (row, how, content) in &patches {
            items.push(Item { row: *row as u8, how: *how, salt: salts[*row], content });
        }
        seal(key, header_before, &items, random)
    }
}

/// An entry of the open flush whose leaf is not in the tree yet.
struct Pending {
    /// Its header in `Builder::headers`.
    header: Range<usize>,
    /// Its commitments are still to be computed: of all its rows, from this seed.
    seed: Option<[u8; SEED_BYTES]>,
    /// Its parts in `Builder::parts`.
    parts: Range<usize>,
}

/// The chain since the last point.
#[derive(Clone)]
struct Extent {
    /// Its value at the last point.
    chain: [u8; 32],
    /// Bytes behind that point, apart from those of the step.
    behind: Vec<u8>,
}

impl Extent {
    /// The front of the message whose digest is the next value of the chain.
    fn front(&self) -> Vec<u8> {
        [&self.chain[..], &self.behind].concat()
    }
}

/// What of a segment is stored: enough to go on in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Number of the segment.
    pub segment: u32,
    /// Stored bytes; a point of the format.
    pub bytes: u64,
    /// Chain over all of them.
    pub chain: [u8; 32],
    /// The tree of all entries in them.
    pub tree: Tree,
}

/// A segment being written.
pub struct Builder {
    zstd: CCtx<'static>,
    frame_bytes_max: u64,
    /// Plain bytes of the open frame.
    frame: Option<u64>,
    /// Entries since the last mark.
    unmarked: bool,
    sealed: bool,
    origin: String,
    segment: u32,
    /// File offset of the first byte of `step`.
    base: u64,
    step: Vec<u8>,
    /// Bytes of `step` that are in front of the last point.
    before_point: usize,
    extent: Extent,
    tree: Tree,
    stored_extent: Extent,
    stored_tree: Tree,
    index: Index,
    salts: Salts,
    /// Leaves since they were last taken, where somebody wants them.
    leaves: Option<Vec<[u8; 32]>>,
    /// The last note that was signed, and the size and root that it speaks of.
    signed: Option<(String, u64, [u8; 32])>,
    pending: Vec<Pending>,
    /// Headers of the pending entries.
    headers: Vec<u8>,
    /// Parts of the pending entries.
    parts: Vec<Bytes>,
    /// Their bytes.
    waiting_bytes: usize,
    /// Plain bytes that the compressor has not got yet.
    gathered: Vec<u8>,
}

impl Builder {
    /// Starts a segment; the step holds its header.
    pub fn begin(
        header: &Header,
        frame_bytes_max: u64,
        random: Random,
    ) -> Result<Builder, SegmentFault> {
        let mut zstd = CCtx::create();
        for parameter in [
            CParameter::CompressionLevel(ZSTD_LEVEL),
            CParameter::WindowLog(WINDOW_LOG),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ] {
            zstd.set_parameter(parameter).map_err(SegmentFault::Compressor)?;
        }
        let (step, chain) = header.write();
        let extent = Extent { chain, behind: Vec::new() };
        Ok(Builder {
            zstd,
            frame_bytes_max,
            frame: None,
            unmarked: false,
            sealed: false,
            origin: header.origin.clone(),
            segment: header.segment,
            base: 0,
            before_point: step.len(),
            step,
            stored_extent: extent.clone(),
            extent,
            tree: header.tree.clone(),
            stored_tree: header.tree.clone(),
            index: Index::default(),
            salts: Salts { random, pool: Box::new([0; SALT_POOL_BYTES]), used: SALT_POOL_BYTES },
            leaves: None,
            signed: None,
            pending: Vec::new(),
            headers: Vec::new(),
            parts: Vec::new(),
            waiting_bytes: 0,
            gathered: Vec::with_capacity(2 * GATHER_BYTES),
        })
    }

    /// Adds an entry; gives its sequence. Nothing is sealed: originals are left out, and bodies that are
    /// to be sealed keep their length and commitment only.
    pub fn entry(&mut self, entry: &Entry, worker: u8) -> Result<u64, SegmentFault> {
        self.entry_sealed(entry, worker, None)
    }

    /// Adds an entry whose originals, and bodies where it says so, are sealed with `key`; gives its
    /// sequence.
    pub fn entry_sealed(
        &mut self,
        entry: &Entry,
        worker: u8,
        key: Option<&DataKey>,
    ) -> Result<u64, SegmentFault> {
        assert!(!self.sealed, "entry after the seal");
        let mut salts = [[0; SALT_BYTES]; PARTS_MAX];
        let added = self.add(entry, worker, key, &mut salts);
        // Why: a salt that is not in the record is as secret as what it hides.
        if entry.keep != Keep::Full || entry.may_seal() {
            salts.zeroize();
        }
        added
    }

    fn add(
        &mut self,
        entry: &Entry,
        worker: u8,
        key: Option<&DataKey>,
        salts: &mut [[u8; SALT_BYTES]; PARTS_MAX],
    ) -> Result<u64, SegmentFault> {
        let sequence = self.entries();
        let seed = self.salts.next();
        let originals = if key.is_some() { &entry.originals[..] } else { &[] };
        let sealing = key.map(|key| (key, Sealing::of(entry))).filter(|(_, sealing)| sealing.any());
        let open_rows = entry.parts.len() + originals.len();
        let rows = open_rows + usize::from(sealing.is_some());
        // Why: what is all stored needs no commitment before the flush, and many at once are cheaper.
        let whole = originals.is_empty()
            && sealing.is_none()
            && entry.parts.iter().all(|part| entry.keep.stores(part.kind));
        let start = self.headers.len();
        let header = &mut self.headers;
        write_fixed(header, entry, sequence, worker, rows);
        let first_part = self.parts.len();
        if whole {
            for part in &entry.parts {
                write_row_open(header, part.kind, &part.bytes);
                self.parts.push(part.bytes.clone());
                self.waiting_bytes += part.bytes.len();
            }
        } else {
            for (index, part) in entry.parts.iter().enumerate() {
                // Why: the seed is stored, so what is not stored beside it needs a salt of its own.
                salts[index] = match entry.keep.stores(part.kind) {
                    true => derive_salt(&seed, index as u8),
                    false => self.salts.next(),
                };
                write_row(header, part.kind, &salts[index], &part.bytes);
            }
        }
        for (original, salt) in originals.iter().zip(&mut salts[entry.parts.len()..]) {
            *salt = self.salts.next();
            write_row(header, original.kind, salt, &original.bytes);
        }
        let sealed = sealing.map(|(key, sealing)| {
            let sealed = sealing.part(key, &header[start..], &salts[..], &*self.salts.random);
            let salt = derive_salt(&seed, open_rows as u8);
            write_row(header, PartKind::Sealed, &salt, &sealed);
            sealed
        });
        self.pending.push(Pending {
            header: start..self.headers.len(),
            seed: whole.then_some(seed),
            parts: first_part..self.parts.len(),
        });
        self.unmarked = true;
        self.frame.get_or_insert(0);
        self.index.add(entry);
        self.gathered.push(TAG_COMPACT);
        write_compact_header(&mut self.gathered, &self.headers[start..]);
        self.gathered.extend_from_slice(&seed);
        for (index, part) in entry.parts.iter().enumerate() {
            if !entry.keep.stores(part.kind) {
                self.gathered.push(0);
                self.gathered.extend_from_slice(stated(&self.headers[start..], index));
                continue;
            }
            self.gathered.push(1);
            if part.bytes.len() < DIRECT_BYTES {
                self.gathered.extend_from_slice(&part.bytes);
                continue;
            }
            self.hand_over()?;
            self.plain(&part.bytes)?;
        }
        for index in entry.parts.len()..open_rows {
            self.gathered.push(0);
            self.gathered.extend_from_slice(stated(&self.headers[start..], index));
        }
        if let Some(sealed) = sealed {
            self.gathered.push(1);
            self.gathered.extend_from_slice(&sealed);
        }
        if self.gathered.len() >= GATHER_BYTES {
            self.hand_over()?;
        }
        if self.waiting_bytes >= WAITING_BYTES {
            self.settle(None);
        }
        Ok(sequence)
    }

    /// Gives the compressor what was gathered.
    fn hand_over(&mut self) -> Result<(), SegmentFault> {
        let mut gathered = std::mem::take(&mut self.gathered);
        let taken = self.plain(&gathered);
        gathered.clear();
        self.gathered = gathered;
        taken
    }

    /// Ends the flush: everything added so far can be read once the step is stored.
    pub fn flush(&mut self) -> Result<(), SegmentFault> {
        if !self.unmarked {
            return Ok(());
        }
        self.hand_over()?;
        self.drive(&[], Directive::ZSTD_e_flush)?;
        let start = self.step.len();
        let chain = self.settle(Some(start)).expect("asked for");
        self.at_point(start, chain);
        let mut mark = [0; MARK_BYTES];
        mark[0] = TAG_MARK;
        mark[1..].copy_from_slice(&chain);
        self.plain(&mark)?;
        self.drive(&[], Directive::ZSTD_e_flush)?;
        // Why: 33 bytes, 32 of them a hash, do not compress, so zstd stores them raw; the form is what
        // lets a reader check every bit of a mark that no later point covers yet.
        let block = &self.step[start..];
        if block.len() != 3 + MARK_BYTES || block[..3] != MARK_BLOCK_HEAD || block[3..] != mark {
            return Err(SegmentFault::Form);
        }
        self.unmarked = false;
        if self.frame.is_some_and(|plain| plain >= self.frame_bytes_max) {
            self.end_frame()?;
        }
        Ok(())
    }

    /// Puts the pending entries into the tree, and gives the chain at `end` bytes into the step where
    /// it is asked for: everything that is to be hashed, side by side.
    fn settle(&mut self, end: Option<usize>) -> Option<[u8; 32]> {
        let mut salt_messages = Vec::with_capacity(self.parts.len());
        for (pending, seed) in
            self.pending.iter().filter_map(|pending| Some((pending, pending.seed?)))
        {
            let parts = 0..pending.parts.len();
            salt_messages.extend(parts.map(|index| salt_message(&seed, index as u8)));
        }
        let mut salts = Vec::with_capacity(salt_messages.len());
        let messages: Vec<Message<'_>> =
            salt_messages.iter().map(|message| Message { head: message, body: &[] }).collect();
        digest_all(&messages, &mut salts);

        let front = self.extent.front();
        let mut messages = Vec::with_capacity(1 + self.parts.len());
        messages.extend(
            end.map(|end| Message { head: &front, body: &self.step[self.before_point..end] }),
        );
        messages.extend(
            salts.iter().zip(&self.parts).map(|(salt, part)| Message { head: salt, body: part }),
        );
        let mut digests = Vec::with_capacity(messages.len());
        digest_all(&messages, &mut digests);
        let (chain, commitments_all) = match end {
            Some(_) => (Some(digests[0]), &digests[1..]),
            None => (None, &digests[..]),
        };
        for pending in self.pending.iter().filter(|pending| pending.seed.is_some()) {
            let rows = &mut self.headers[pending.header.clone()][HEADER_FIXED_BYTES..];
            let commitments = &commitments_all[pending.parts.clone()];
            for (row, commitment) in rows.chunks_exact_mut(PART_ROW_BYTES).zip(commitments) {
                row[COMPACT_ROW_BYTES..].copy_from_slice(commitment);
            }
        }
        let leaves: Vec<Message<'_>> = self
            .pending
            .iter()
            .map(|pending| Message {
                head: &LEAF_PREFIX,
                body: &self.headers[pending.header.clone()],
            })
            .collect();
        digests.clear();
        digest_all(&leaves, &mut digests);
        if let Some(leaves) = &mut self.leaves {
            leaves.extend_from_slice(&digests);
        }
        self.tree.append_all(&mut digests);
        self.pending.clear();
        self.headers.clear();
        self.parts.clear();
        self.waiting_bytes = 0;
        chain
    }

    /// From now on the leaves of entries are kept for [`Builder::leaves`].
    pub fn keep_leaves(&mut self) {
        self.leaves.get_or_insert_default();
    }

    /// The leaf hashes of the entries added since the last call, once they are stored.
    pub fn leaves(&mut self) -> Vec<[u8; 32]> {
        self.leaves.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The last note that was signed here, with the size and the root of its tree.
    pub fn signed(&self) -> Option<&(String, u64, [u8; 32])> {
        self.signed.as_ref()
    }

    /// Adds an earlier checkpoint with its cosignatures. A checkpoint or the seal must follow in the
    /// same step.
    pub fn cosignatures(&mut self, note: &str) -> Result<(), SegmentFault> {
        self.end_frame()?;
        self.step.extend_from_slice(&skippable_head(MAGIC_COSIGNATURES, note.len()));
        self.step.extend_from_slice(note.as_bytes());
        Ok(())
    }

    /// Adds a checkpoint over all that is stored.
    pub fn checkpoint(&mut self, key: &LogKey, utc_ns: u64) -> Result<(), SegmentFault> {
        self.end_frame()?;
        self.sign(key, utc_ns, false);
        Ok(())
    }

    /// Closes the segment: index and sealed checkpoint.
    pub fn seal(&mut self, key: &LogKey, utc_ns: u64) -> Result<(), SegmentFault> {
        self.end_frame()?;
        let index = self.index.write();
        self.step.extend_from_slice(&skippable_head(MAGIC_INDEX, index.len()));
        self.step.extend_from_slice(&index);
        self.sign(key, utc_ns, true);
        self.sealed = true;
        Ok(())
    }

    /// The bytes that the disk has to take, in one write.
    pub fn step(&self) -> &[u8] {
        &self.step
    }

    /// The disk has taken the whole step.
    pub fn stored(&mut self) {
        assert!(!self.unmarked, "a step ends with a mark, a frame or a checkpoint");
        self.extent.behind.extend_from_slice(&self.step[self.before_point..]);
        self.base += self.step.len() as u64;
        self.step.clear();
        self.before_point = 0;
        self.stored_extent = self.extent.clone();
        self.stored_tree.clone_from(&self.tree);
    }

    /// What is stored.
    pub fn kept(&self) -> Kept {
        Kept {
            segment: self.segment,
            bytes: self.base,
            chain: Sha256::digest(self.stored_extent.front()).into(),
            tree: self.stored_tree.clone(),
        }
    }

    /// Stored bytes.
    pub fn bytes(&self) -> u64 {
        self.base
    }

    /// Entries before and in this segment, stored or not.
    pub fn entries(&self) -> u64 {
        self.tree.size() + self.pending.len() as u64
    }

    /// Chain at `end` bytes into the step, which becomes a point.
    fn point(&mut self, end: usize) -> [u8; 32] {
        let extent = Sha256::new().chain_update(self.extent.front());
        let chain = extent.chain_update(&self.step[self.before_point..end]).finalize().into();
        self.at_point(end, chain);
        chain
    }

    fn at_point(&mut self, end: usize, chain: [u8; 32]) {
        self.extent.chain = chain;
        self.extent.behind.clear();
        self.before_point = end;
    }

    fn end_frame(&mut self) -> Result<(), SegmentFault> {
        if self.frame.take().is_none() {
            return Ok(());
        }
        let start = self.step.len();
        self.drive(&[], Directive::ZSTD_e_end)?;
        if self.step[start..] == FRAME_END { Ok(()) } else { Err(SegmentFault::Form) }
    }

    fn sign(&mut self, key: &LogKey, utc_ns: u64, sealed: bool) {
        debug_assert!(
            !self.unmarked && self.tree == self.stored_tree,
            "signed before it is stored"
        );
        let start = self.step.len();
        let chain = self.point(start);
        let checkpoint = Checkpoint {
            origin: self.origin.clone(),
            size: self.tree.size(),
            root: self.tree.root(),
            segment: self.segment,
            offset: self.base + start as u64,
            chain,
            utc_ns,
            sealed,
        };
        let note = checkpoint.sign(key);
        self.step.extend_from_slice(&skippable_head(MAGIC_CHECKPOINT, note.len()));
        self.step.extend_from_slice(note.as_bytes());
        self.signed = Some((note, checkpoint.size, checkpoint.root));
    }

    /// Puts plain bytes into the open frame.
    fn plain(&mut self, bytes: &[u8]) -> Result<(), SegmentFault> {
        if let Some(plain) = &mut self.frame {
            *plain += bytes.len() as u64;
        }
        self.drive(bytes, Directive::ZSTD_e_continue)
    }

    fn drive(&mut self, bytes: &[u8], directive: Directive) -> Result<(), SegmentFault> {
        let frame_start = self.step.len();
        let mut input = InBuffer::around(bytes);
        loop {
            self.step.reserve(ROOM_BYTES);
            let at = self.step.len();
            let mut out = OutBuffer::around_pos(&mut self.step, at);
            let left = self
                .zstd
                .compress_stream2(&mut out, &mut input, directive)
                .map_err(SegmentFault::Compressor)?;
            let done = match directive {
                Directive::ZSTD_e_continue => input.pos() == bytes.len(),
                Directive::ZSTD_e_flush | Directive::ZSTD_e_end => left == 0,
            };
            if done {
                break;
            }
        }
        debug_assert!(
            !self.step[frame_start..].starts_with(&DATA_FRAME_HEAD[..4])
                || self.step[frame_start..].starts_with(&DATA_FRAME_HEAD)
        );
        Ok(())
    }
}
