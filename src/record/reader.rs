//! A whole record read and checked: all segments in order, how they join, what is missing, what is
//! torn, what is damaged. Works on a stopped and on a live directory; a live one is read as it stood
//! when each file was opened.
//!
//! It reads on behind damage where that is possible. What it gives a [`Sink`] before the first damage
//! is exactly what was written.
//!
//! | newest segment ends | no writer runs | a writer runs |
//! |---|---|---|
//! | sealed, last entry is stop | sound | sound |
//! | sealed otherwise | sound, a gap: the next file is missing or the process ended just then | sound |
//! | at a point | sound, a gap: ended without a seal | sound |
//! | torn | damage: a torn tail, which starting the gateway adopts | a write in progress |
//! | broken | damage | damage |

use std::io;

use super::disk::Files;
use super::earlier::Earlier;
use super::format::{
    HEADER_BYTES_MAX, NEW_SUFFIX, SKIPPABLE_HEAD_BYTES, segment_name, segment_number,
};
use super::header::{Header, HeaderFault, Previous, PreviousEnd};
use super::keys::VerifierKey;
use super::rotation::KeyPlan;
use super::scan::{Damage, End, NO_EARLIER, Scanned, Sink, Task, scan};
use super::skip::Skips;
use super::tree::Tree;
use super::writer::residue;

mod parallel;

pub use parallel::read_parallel;

/// Why a segment that can be read counts as not covered.
const KEY_UNKNOWN: &str = "signed by a key that does not follow from the one that is trusted; a file \
    that may hold the change of keys could not be read";

/// A place where the record says itself that something is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Number of the segment.
    pub segment: u32,
    /// Where in its file.
    pub offset: u64,
    /// What it is.
    pub what: String,
}

/// What a record came to.
#[derive(Debug, Default)]
pub struct Reading {
    /// Name of the log, from the first good header.
    pub origin: Option<String>,
    /// Segment files read, or left out.
    pub segments: u64,
    /// Those that were left out, because their index says that nothing asked for is inside.
    pub left_segments: u64,
    /// Entries read.
    pub entries: u64,
    /// Good checkpoints read.
    pub checkpoints: u64,
    /// Entries behind the last checkpoint.
    pub unsigned_entries: u64,
    /// Roots of the trees whose sizes were asked for, as far as they are known.
    pub roots: Vec<(u64, [u8; 32])>,
    /// Where each segment that could be read ends: its number, the last point that is kept, and the
    /// chain up to there.
    pub ends: Vec<(u32, u64, [u8; 32])>,
    /// The keys that sign, oldest first: the one that was given and those it was changed to or from.
    pub keys: Vec<VerifierKey>,
    /// Size and root of the tree at the end, when nothing before hides entries.
    pub tree: Option<Tree>,
    /// A writer holds the directory.
    pub live: bool,
    /// Bytes of a write in progress at the end of a live record.
    pub progress_bytes: u64,
    /// Everything that is wrong.
    pub damage: Vec<Damage>,
    /// Everything the record says is not there.
    pub gaps: Vec<Gap>,
    /// Files in the folder that are not part of a record.
    pub strays: Vec<String>,
    /// Files that could not be read, with the error.
    pub unreadable: Vec<(u32, String)>,
}

impl Reading {
    /// Nothing is wrong. Says nothing about trust: that needs a key.
    pub fn is_consistent(&self) -> bool {
        self.damage.is_empty() && self.strays.is_empty() && self.unreadable.is_empty()
    }
}

/// What to check while reading.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checks<'a> {
    /// Trust in signatures; without it only their form is checked.
    pub key: Option<&'a VerifierKey>,
    /// Check the commitments of all parts, and what the indexes promise.
    pub commitments: bool,
}

/// Reads the header of one segment.
pub fn read_header(files: &(impl Files + ?Sized), segment: u32) -> io::Result<(Header, [u8; 32])> {
    let fault = |fault: HeaderFault| io::Error::new(io::ErrorKind::InvalidData, fault.to_string());
    let mut input = files.open_at(&segment_name(segment), 0)?;
    let mut head = [0; SKIPPABLE_HEAD_BYTES];
    input.read_exact(&mut head)?;
    let bytes = Header::frame_bytes(&head).map_err(fault)?;
    debug_assert!(bytes <= HEADER_BYTES_MAX);
    let mut frame = vec![0; bytes];
    frame[..SKIPPABLE_HEAD_BYTES].copy_from_slice(&head);
    input.read_exact(&mut frame[SKIPPABLE_HEAD_BYTES..])?;
    Header::read(&frame).map_err(fault)
}

/// Reads everything. An error is one of the folder itself; a record without any segment is one too.
pub fn read(files: &dyn Files, checks: Checks<'_>, sink: &mut dyn Sink) -> io::Result<Reading> {
    read_roots(files, checks, &[], sink)
}

/// The same; also gives the roots of the trees of the sizes `roots_at`, which ascend.
pub fn read_roots(
    files: &dyn Files,
    checks: Checks<'_>,
    roots_at: &[u64],
    sink: &mut dyn Sink,
) -> io::Result<Reading> {
    let (mut walk, numbers) = Walk::begin(files, checks, roots_at)?;
    let plan = walk.plan(&numbers);
    let task = SegmentTask { files, plan: plan.as_ref(), checks, roots_at };
    for (segment, follower) in with_followers(&numbers) {
        let read = task.read(segment, follower, sink);
        walk.add(segment, follower, read);
    }
    Ok(walk.finish())
}

/// Reads everything but the segments of `skips`. That the segments which are left out are
/// links of the record is checked, not what is inside.
pub fn read_skipping(
    files: &dyn Files,
    checks: Checks<'_>,
    skips: &Skips,
    sink: &mut dyn Sink,
) -> io::Result<Reading> {
    let (mut walk, numbers) = Walk::begin(files, checks, &[])?;
    let plan = walk.plan(&numbers);
    let task = SegmentTask { files, plan: plan.as_ref(), checks, roots_at: &[] };
    for (segment, follower) in with_followers(&numbers) {
        let read = match skips.sealed(segment) {
            Some(sealed) => {
                sink.left(&sealed.left);
                walk.reading.left_segments += 1;
                Ok(SegmentRead {
                    previous: Some(sealed.previous_of_next),
                    length: sealed.length,
                    scanned: sealed.scanned(),
                    key_unknown: false,
                })
            }
            None => task.read(segment, follower, sink),
        };
        walk.add(segment, follower, read);
    }
    Ok(walk.finish())
}

/// Each segment with the one behind it.
fn with_followers(numbers: &[u32]) -> impl Iterator<Item = (u32, Option<u32>)> {
    numbers.iter().enumerate().map(|(index, number)| (*number, numbers.get(index + 1).copied()))
}

/// How one segment is read: by itself, whatever the others hold.
struct SegmentTask<'a> {
    files: &'a dyn Files,
    plan: Option<&'a KeyPlan>,
    checks: Checks<'a>,
    roots_at: &'a [u64],
}

/// What one segment came to, before it is compared with its neighbours.
struct SegmentRead {
    /// What the next segment says of this one, when it is there and can be read.
    previous: Option<Previous>,
    length: u64,
    scanned: Scanned,
    /// Another key than the one that is trusted signed here, and where that may be said could not be
    /// read.
    key_unknown: bool,
}

impl SegmentTask<'_> {
    fn read(
        &self,
        segment: u32,
        follower: Option<u32>,
        sink: &mut dyn Sink,
    ) -> io::Result<SegmentRead> {
        let next = follower.filter(|&follower| Some(follower) == segment.checked_add(1));
        let header = next.and_then(|next| read_header(self.files, next).ok());
        // Why only in its place: the header of another segment says nothing of the file before it.
        let header = header.filter(|(header, _)| Some(header.segment) == next);
        let previous = header.map(|(header, _)| header.previous);
        let name = segment_name(segment);
        let length = self.files.len(&name)?;
        let counts = match previous {
            Some(Previous {
                end: PreviousEnd::Torn | PreviousEnd::Damaged, kept_bytes, ..
            }) => kept_bytes.min(length),
            _ => length,
        };
        let mut input = self.files.open_at(&name, 0)?;
        let key = self.plan.map(|plan| plan.of(segment));
        let commitments = self.checks.commitments;
        let key_sure = self.plan.is_none_or(|plan| plan.is_sure(segment));
        let roots_at = self.roots_at;
        let task = Task { segment, length: counts, key, key_sure, roots_at, commitments };
        let scanned = scan(&task, &mut *input, sink)?;
        let key_unknown = scanned.other_key && !key_sure;
        Ok(SegmentRead { previous, length, scanned, key_unknown })
    }
}

/// Puts together what the segments came to, one after the other.
struct Walk<'a> {
    files: &'a dyn Files,
    checks: Checks<'a>,
    reading: Reading,
    /// The next segment that should be there.
    expected: u32,
    /// The tree up to here, unless damage hides entries.
    tree: Option<Tree>,
    /// The checkpoints up to here, as long as nothing is damaged.
    earlier: Earlier,
    next_sequence: u64,
    signed: u64,
}

impl<'a> Walk<'a> {
    /// Looks what is there; gives the numbers of the segments.
    fn begin(
        files: &'a dyn Files,
        checks: Checks<'a>,
        roots_at: &[u64],
    ) -> io::Result<(Walk<'a>, Vec<u32>)> {
        let mut reading = Reading { live: files.is_live(), ..Reading::default() };
        let mut numbers = Vec::new();
        for name in files.list()? {
            match segment_number(&name) {
                Some(number) => numbers.push(number),
                None if name.ends_with(NEW_SUFFIX) => {}
                None => reading.strays.push(name),
            }
        }
        numbers.sort_unstable();
        reading.strays.sort_unstable();
        if numbers.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no segment files"));
        }
        if roots_at.first() == Some(&0) {
            reading.roots.push((0, Tree::new().root()));
        }
        let tree = Some(Tree::new());
        let earlier = Earlier::default();
        let walk = Walk {
            files,
            checks,
            reading,
            expected: 0,
            tree,
            earlier,
            next_sequence: 0,
            signed: 0,
        };
        Ok((walk, numbers))
    }

    /// Which key signs what.
    fn plan(&mut self, numbers: &[u32]) -> Option<KeyPlan> {
        let plan = self.checks.key.map(|key| KeyPlan::follow(self.files, numbers, key));
        if let Some(plan) = &plan {
            self.reading.keys = plan.keys().cloned().collect();
        }
        plan
    }

    fn finish(self) -> Reading {
        let mut reading = self.reading;
        reading.unsigned_entries = self.next_sequence.saturating_sub(self.signed);
        reading.tree = self.tree;
        reading
    }

    fn damage(&mut self, segment: u32, offset: u64, end: u64, what: impl Into<String>) {
        let entry = self.tree.as_ref().map(Tree::size);
        self.reading.damage.push(Damage { segment, entry, offset, end, what: what.into() });
    }

    fn missing(&mut self, from: u32, to: u32) {
        let what = if from == to {
            "segment file is missing".to_owned()
        } else {
            format!("segment files {from} to {to} are missing")
        };
        self.damage(from, 0, 0, what);
        self.tree = None;
    }

    /// The next segment and what it came to.
    fn add(&mut self, segment: u32, follower: Option<u32>, read: io::Result<SegmentRead>) {
        if segment != self.expected {
            self.missing(self.expected, segment - 1);
        }
        self.expected = segment.saturating_add(1);
        self.reading.segments += 1;
        let joined = read.and_then(|read| self.join(segment, follower.is_none(), &read));
        if let Err(error) = joined {
            self.reading.unreadable.push((segment, error.to_string()));
            self.tree = None;
        }
    }

    fn join(&mut self, segment: u32, newest: bool, read: &SegmentRead) -> io::Result<()> {
        let SegmentRead { previous, length, scanned, key_unknown } = read;
        if *key_unknown {
            self.reading.unreadable.push((segment, KEY_UNKNOWN.to_owned()));
        }
        self.joins(segment, scanned);
        let strangers = self.cosigned(segment, scanned);
        self.reading.entries += scanned.entries;
        self.reading.checkpoints += scanned.checkpoints;
        let last = self.reading.roots.last().map(|(size, _)| *size);
        let fresh = scanned.roots.iter().filter(|(size, _)| last.is_none_or(|last| *size > last));
        self.reading.roots.extend(fresh);
        // These stand before whatever damage is in the segment.
        self.reading.damage.extend(strangers);
        self.reading.damage.extend(scanned.damage.iter().cloned());
        self.reading.ends.push((segment, scanned.point, scanned.chain));
        self.signed = scanned.signed.unwrap_or(self.signed);
        self.next_sequence = match (&scanned.tree, &scanned.header) {
            (Some(tree), _) => tree.size(),
            (None, Some(header)) => header.tree.size() + scanned.entries,
            (None, None) => self.next_sequence + scanned.entries,
        };
        self.tree = scanned.tree.clone();
        match previous {
            Some(previous) => self.ended(segment, *length, scanned, previous)?,
            None => self.ends(segment, *length, scanned, newest),
        }
        Ok(())
    }

    /// The segment's cosignatures against the checkpoints before it. Behind damage, and behind a segment
    /// that was left out, they are not asked: it may hold the checkpoint.
    fn cosigned(&mut self, segment: u32, scanned: &Scanned) -> Vec<Damage> {
        let read = self.reading.damage.is_empty() && self.reading.unreadable.is_empty();
        if !read || self.tree.is_none() || self.reading.left_segments > 0 {
            return Vec::new();
        }
        let strangers = scanned.cosigned.strangers(&self.earlier).into_iter().map(|place| Damage {
            segment,
            entry: place.entry,
            offset: place.offset,
            end: place.end,
            what: NO_EARLIER.to_owned(),
        });
        let strangers = strangers.collect();
        scanned.cosigned.pass_on(&mut self.earlier);
        strangers
    }

    /// The header against everything before it.
    fn joins(&mut self, segment: u32, scanned: &Scanned) {
        let Some(header) = &scanned.header else { return };
        self.reading.origin.get_or_insert_with(|| header.origin.clone());
        if self.reading.origin.as_ref() != Some(&header.origin) {
            self.damage(segment, 0, 0, format!("segment belongs to the log {:?}", header.origin));
        }
        if self.tree.as_ref().is_some_and(|tree| *tree != header.tree) {
            let what = format!(
                "segment begins with entry {}, which does not continue the tree before it",
                header.tree.size()
            );
            self.damage(segment, 0, 0, what);
        }
    }

    /// The end of a segment against what the next one says of it.
    fn ended(
        &mut self,
        segment: u32,
        length: u64,
        scanned: &Scanned,
        previous: &Previous,
    ) -> io::Result<()> {
        let kept = previous.kept_bytes;
        let end_good = match previous.end {
            PreviousEnd::Sealed => scanned.end == End::Sealed,
            PreviousEnd::Torn => scanned.end == End::Point,
            PreviousEnd::Damaged => true,
            PreviousEnd::None => false,
        };
        if kept.checked_add(previous.residue_bytes) != Some(length) {
            let what = format!(
                "file is {length} bytes, the next segment says {kept} and {} after them",
                previous.residue_bytes
            );
            self.damage(segment, length.min(kept), length, what);
        } else if !end_good || scanned.point != kept {
            // Damage inside is told already.
            if scanned.damage.is_empty() {
                let what = format!(
                    "file does not end as the next segment says: {}",
                    previous.end.as_str()
                );
                self.damage(segment, scanned.point, length, what);
            }
        } else if scanned.chain != previous.chain {
            let what = "chain differs from what the next segment carries on";
            self.damage(segment, 0, kept, what);
        }
        if previous.residue_bytes > 0 && length > kept {
            let (bytes, digest) = residue(self.files, &segment_name(segment), kept)?;
            if bytes != previous.residue_bytes || digest != previous.residue_digest {
                let what = "residue differs from what was there when it was adopted";
                self.damage(segment, kept, length, what);
            }
        }
        match previous.end {
            PreviousEnd::Torn => {
                let what = format!(
                    "ended without a seal; {} bytes of an unfinished write follow, what they held \
                     is not in the record",
                    previous.residue_bytes
                );
                self.reading.gaps.push(Gap { segment, offset: kept, what });
            }
            PreviousEnd::Damaged => {
                let what = format!(
                    "damaged; the operator ordered to go on, {} bytes were given up",
                    previous.residue_bytes
                );
                self.damage(segment, kept, length, what);
            }
            PreviousEnd::None | PreviousEnd::Sealed => {}
        }
        Ok(())
    }

    /// The end of the newest segment, or of one whose follower cannot be read.
    fn ends(&mut self, segment: u32, length: u64, scanned: &Scanned, newest: bool) {
        let live = self.reading.live && newest;
        let gap = |what: &str| Gap { segment, offset: scanned.point, what: what.into() };
        match scanned.end {
            End::Sealed if newest && !scanned.stopped && !live => self.reading.gaps.push(gap(
                "the last segment is sealed without a stop entry: the next file is missing, or the \
                 process ended just then",
            )),
            End::Point if newest && !live => self.reading.gaps.push(gap(
                "the process ended without a seal; what it wrote after this point, if anything, is \
                 not here",
            )),
            End::Torn if live => self.reading.progress_bytes = length - scanned.point,
            End::Torn => {
                let what = format!(
                    "torn tail of {} bytes; starting the gateway adopts it",
                    length - scanned.point
                );
                self.damage(segment, scanned.point, length, what);
            }
            // Told already.
            End::Broken => {}
            End::Sealed | End::Point => {}
        }
    }
}
