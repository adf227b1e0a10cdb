//! What a reader finds in a segment, and what it is asked to read.

use std::any::Any;

use super::earlier::Cosigned;
use super::entry::EntryView;
use super::header::Header;
use super::keys::VerifierKey;
use super::note::{Checkpoint, Note};
use super::tree::Tree;

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the segment.
    pub segment: u32,
    /// Its format version.
    pub version: u16,
    /// First byte of the flush that holds the entry.
    pub start: u64,
    /// One past its last byte, the mark not included.
    pub end: u64,
    /// The chain agreed over these bytes.
    pub sound: bool,
}

/// Gathers what a sink needs of the entries of one segment, on whatever thread reads it. Bound: what it
/// holds must not grow with the number of entries, since several segments are read ahead.
pub trait Gather: Send {
    /// One entry, in order of the file.
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>);
    /// Itself, for [`Sink::gathered`].
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send>;
}

/// Makes an empty [`Gather`].
pub type Gatherer = fn() -> Box<dyn Gather>;

/// A segment that was not read, because its index says that nothing asked for is inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Its number.
    pub segment: u32,
    /// Bytes of its file.
    pub bytes: u64,
    /// Its entries.
    pub entries: u64,
    /// There is a start entry among them.
    pub starts: bool,
    /// Least and greatest time of an entry, UTC ns.
    pub times_ns: Option<(u64, u64)>,
}

/// Gets what a scan finds.
pub trait Sink {
    /// One entry, in order of the file.
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>);
    /// With `Some`, entries may go to what this makes, one for each segment, in place of
    /// [`Sink::entry`]: that lets several threads read.
    fn gatherer(&self) -> Option<Gatherer> {
        None
    }
    /// What was gathered from the next segment.
    fn gathered(&mut self, _segment: Box<dyn Any + Send>) {}
    /// One checkpoint whose form, and signature where a key was given, is good.
    fn checkpoint(&mut self, _checkpoint: &Checkpoint) {}
    /// Cosignatures over an earlier checkpoint, whose text and log signature are good, with segment and
    /// offset. What the witnesses' lines are worth is for the sink; whether that checkpoint stands in
    /// this record is told as damage, which may be after this call.
    fn cosignatures(&mut self, _at: (u32, u64), _checkpoint: &Checkpoint, _note: &Note<'_>) {}
    /// A segment was left out here.
    fn left(&mut self, _left: &Left) {}
    /// So many bytes of files have been read since the last call.
    fn bytes_read(&mut self, _bytes: u64) {}
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Number of the segment.
    pub segment: u32,
    /// Sequence of the first entry that may be affected, where it is known.
    pub entry: Option<u64>,
    /// First byte of the range the damage lies in.
    pub offset: u64,
    /// One past the last byte of that range.
    pub end: u64,
    /// What it is.
    pub what: String,
}

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By a sealed checkpoint, exactly.
    Sealed,
    /// At a point.
    Point,
    /// In the middle of something that began well.
    Torn,
    /// In bytes that cannot be read.
    Broken,
}

/// What one segment came to.
#[derive(Debug)]
pub struct Scanned {
    /// Its header, when that is good.
    pub header: Option<Header>,
    /// How it ends.
    pub end: End,
    /// The last point.
    pub point: u64,
    /// Chain over all bytes before the point.
    pub chain: [u8; 32],
    /// The tree of all entries before the point, unless damage hides some of them.
    pub tree: Option<Tree>,
    /// Tree size that the last good checkpoint speaks of.
    pub signed: Option<u64>,
    /// Entries read.
    pub entries: u64,
    /// Good checkpoints read.
    pub checkpoints: u64,
    /// The checkpoints, and cosignatures over others, up to the first damage.
    pub cosigned: Cosigned,
    /// Roots of the trees of the sizes that were asked for, as far as they are known.
    pub roots: Vec<(u64, [u8; 32])>,
    /// The last entry is a stop entry.
    pub stopped: bool,
    /// A good checkpoint stands behind bytes that could not be read.
    pub resumed: bool,
    /// A checkpoint is signed by another key than the one given.
    pub other_key: bool,
    /// Everything behind the point is zero.
    pub tail_zero: bool,
    /// Everything that is wrong.
    pub damage: Vec<Damage>,
}

impl Scanned {
    /// What it is before the first byte is read.
    pub(super) fn nothing() -> Scanned {
        Scanned {
            header: None,
            end: End::Broken,
            point: 0,
            chain: [0; 32],
            tree: None,
            signed: None,
            entries: 0,
            checkpoints: 0,
            cosigned: Cosigned::default(),
            roots: Vec::new(),
            stopped: false,
            resumed: false,
            other_key: false,
            tail_zero: false,
            damage: Vec::new(),
        }
    }
}

/// What is to be read.
pub struct Task<'a> {
    /// The number in the file's name.
    pub segment: u32,
    /// Bytes of the file that count.
    pub length: u64,
    /// Trust in signatures: the key that signs this segment. Without it only their form is checked.
    pub key: Option<&'a VerifierKey>,
    /// It is known that no other key signs this segment. Where it is not, what another key signed is
    /// read as without trust, and told by [`Scanned::other_key`] alone.
    pub key_sure: bool,
    /// Tree sizes whose roots are wanted, ascending.
    pub roots_at: &'a [u64],
    /// Check the commitments of all parts, and what the index promises.
    pub commitments: bool,
}
