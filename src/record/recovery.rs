//! What is found in the directory when a writer starts, and what is done about it. Of the segments only
//! the newest file is read; nothing is changed in it. The next segment's header says what was decided.
//!
//! | the newest segment is ([`Newest`]) | verdict | ordered to go on behind damage |
//! |---|---|---|
//! | absent | the first segment | the same |
//! | empty, shorter than its header, or its header is wrong | refuse: what came before is unknown | refuse |
//! | another log's | refuse | refuse |
//! | sealed, its last entry is a stop | go on behind the seal | the same |
//! | sealed otherwise | go on behind the seal (`verify` tells a gap) | the same |
//! | a header and nothing else | adopt it | the same |
//! | ended at a point | adopt all of it | the same |
//! | torn, or zeros behind a point | adopt up to the last point; the residue is stated in the next header | the same |
//! | damaged | refuse | go on behind the last point, told for ever |
//! | damaged so that its tree is lost | refuse: the tree cannot be continued | refuse |
//!
//! | besides it there is ([`Leftover`]) | done | told |
//! |---|---|---|
//! | a `*.new`, of this or another number | left; made anew when its number is used | no: nothing counts in it |
//! | a number missing below the newest | gone on with: only the newest is read | start entry, `verify` |
//! | a foreign file | left alone | start entry, `verify` |
//! | no reserve, or one of another size | made again; refuse where there is no room | |
//! | files in `keys/` | left alone: they hold no entry | |
//!
//! Torn and damaged are told apart by what can be read: bytes that end in the middle of something
//! that began well, or that are zero, are torn; bytes that contradict the format, the chain or a
//! signature, or that have a good checkpoint behind them, are damaged. `Gap:` a length damaged in the
//! last flush behind the last checkpoint reads as torn, and that flush is then dropped and told as
//! residue; at most `checkpoint_ms_max` of entries stand there.
//!
//! `Gap:` cosignatures in segments before the newest are not looked at, and those in the newest one over a
//! checkpoint that stands before it are checked for the log's signature alone: whether the tree agrees is
//! asked of the witnesses themselves at the start, which know the largest tree they ever cosigned, and of
//! the record by `verify`. Reading every segment for it would make a start as long as the record.

use std::io;

use super::disk::Disk;
use super::entry::EntryView;
use super::format::{NEW_SUFFIX, segment_name, segment_number};
use super::header::{Header, Previous, PreviousEnd};
use super::keys::VerifierKey;
use super::note::Checkpoint;
use super::reader::read_header;
use super::rotation;
use super::scan::{End, Place, Scanned, Sink, Task, scan};
use super::tree::Tree;
use super::writer::{StartFault, residue};

/// Where the record goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Number of the segment to create.
    pub segment: u32,
    /// The tree of all entries kept.
    pub tree: Tree,
    /// How the newest segment ended.
    pub previous: Previous,
    /// The last checkpoint of the record before.
    pub checkpoint: Option<Checkpoint>,
    /// The record does not show yet that the key follows the previous one.
    pub rotates: bool,
    /// What the newest segment was.
    pub newest: Newest,
    /// What else was seen.
    pub noted: Noted,
}

/// What the newest segment's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newest {
    /// There is none.
    Absent,
    /// It has no bytes.
    Empty,
    /// It ends inside its header.
    HeaderCut,
    /// Its header contradicts the format or the file's name.
    HeaderWrong,
    /// It was written under another name or with another key.
    OtherLog,
    /// Sealed, and the last entry is a stop.
    Stopped,
    /// Sealed, and the last entry is another one.
    Sealed,
    /// A good header and nothing else.
    HeaderOnly,
    /// Ended at a point behind the header.
    AtPoint,
    /// Ended in the middle of something that began well.
    Torn,
    /// Nothing but zeros behind a point.
    Zeros,
    /// Something contradicts the format, the chain or a signature; the tree at the last point is known.
    Damaged,
    /// The same, and the tree is not known.
    TreeLost,
}

impl Newest {
    /// Every one of them.
    pub const ALL: [Newest; 13] = [
        Newest::Absent,
        Newest::Empty,
        Newest::HeaderCut,
        Newest::HeaderWrong,
        Newest::OtherLog,
        Newest::Stopped,
        Newest::Sealed,
        Newest::HeaderOnly,
        Newest::AtPoint,
        Newest::Torn,
        Newest::Zeros,
        Newest::Damaged,
        Newest::TreeLost,
    ];

    fn of(
        scanned: &Scanned,
        length: u64,
        stated: &io::Result<(Header, [u8; 32])>,
        key: &VerifierKey,
    ) -> Newest {
        // Why first: another key looks like damage everywhere; one plain sentence is better.
        let foreign = stated.as_ref().is_ok_and(|(header, _)| header.origin != key.name());
        if foreign || (scanned.other_key && scanned.checkpoints == 0) {
            return Newest::OtherLog;
        }
        if scanned.header.is_none() {
            return match stated {
                _ if length == 0 => Newest::Empty,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Newest::HeaderCut,
                _ => Newest::HeaderWrong,
            };
        }
        if scanned.tree.is_none() {
            return Newest::TreeLost;
        }
        if !scanned.damage.is_empty() {
            return Newest::Damaged;
        }
        match scanned.end {
            End::Sealed if scanned.stopped => Newest::Stopped,
            End::Sealed => Newest::Sealed,
            End::Point if scanned.entries == 0 && scanned.checkpoints == 0 => Newest::HeaderOnly,
            End::Point => Newest::AtPoint,
            End::Torn if scanned.tail_zero => Newest::Zeros,
            End::Torn => Newest::Torn,
            // Broken without a damage cannot be: the stricter of the two.
            End::Broken => Newest::TreeLost,
        }
    }
}

/// What may lie in the record's directory besides the newest segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// A segment that was being created.
    New,
    /// A number below the newest has no file.
    Missing,
    /// A file that is no part of a record.
    Foreign,
    /// The reserve is not there, or has another size.
    NoReserve,
    /// Files beside the segments, of data keys.
    Keys,
}

impl Leftover {
    /// Every one of them.
    pub const ALL: [Leftover; 5] =
        [Leftover::New, Leftover::Missing, Leftover::Foreign, Leftover::NoReserve, Leftover::Keys];
}

/// What the start entry tells of the folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noted {
    /// Numbers below the newest without a file.
    pub missing_segments: u64,
    /// Files that are no part of a record.
    pub foreign_files: u64,
}

/// What the newest segment comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Begin with segment 0.
    Begin,
    /// Go on in the next segment, which says that this one ended so.
    GoOn(PreviousEnd),
    /// Do not start.
    Refuse,
}

/// The first table above. `ordered`: the operator accepts damage.
pub fn decide(newest: Newest, ordered: bool) -> Verdict {
    match (newest, ordered) {
        (Newest::Absent, _) => Verdict::Begin,
        (
            Newest::Empty
            | Newest::HeaderCut
            | Newest::HeaderWrong
            | Newest::OtherLog
            | Newest::TreeLost,
            _,
        ) => Verdict::Refuse,
        (Newest::Stopped | Newest::Sealed, _) => Verdict::GoOn(PreviousEnd::Sealed),
        (Newest::HeaderOnly | Newest::AtPoint | Newest::Torn | Newest::Zeros, _) => {
            Verdict::GoOn(PreviousEnd::Torn)
        }
        (Newest::Damaged, true) => Verdict::GoOn(PreviousEnd::Damaged),
        (Newest::Damaged, false) => Verdict::Refuse,
    }
}

/// Keeps the last checkpoint.
#[derive(Default)]
struct Last(Option<Checkpoint>);

impl Sink for Last {
    fn entry(&mut self, _place: &Place, _entry: &EntryView<'_>) {}

    fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.0 = Some(checkpoint.clone());
    }
}

/// The last good checkpoint before segment `end`. Segments without one are those of a process that
/// ended within `checkpoint_ms_max`, so mostly one is read. One that cannot be read is passed over:
/// the entry that this is for is no proof, and `verify` tells the damage.
fn checkpoint_before(disk: &dyn Disk, key: &VerifierKey, end: u32) -> Option<Checkpoint> {
    (0..end).rev().find_map(|segment| {
        let name = segment_name(segment);
        let length = disk.len(&name).ok()?;
        let mut input = disk.open_at(&name, 0).ok()?;
        let mut last = Last::default();
        let task = Task {
            segment,
            length,
            key: Some(key),
            key_sure: true,
            roots_at: &[],
            commitments: false,
        };
        scan(&task, &mut *input, &mut last).ok()?;
        last.0
    })
}

/// Looks at the newest segment and decides.
pub fn recover(
    disk: &dyn Disk,
    key: &VerifierKey,
    accept_damage: bool,
) -> Result<Recovered, StartFault> {
    recover_after(disk, key, None, accept_damage)
}

/// The same, where the newest segment may also be signed by the key before.
pub fn recover_after(
    disk: &dyn Disk,
    key: &VerifierKey,
    previous_key: Option<&VerifierKey>,
    accept_damage: bool,
) -> Result<Recovered, StartFault> {
    let names = disk.list().map_err(StartFault::Io)?;
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let foreign = names.len()
        - numbers.len()
        - names.iter().filter(|name| name.ends_with(NEW_SUFFIX)).count();
    let mut noted = Noted { missing_segments: 0, foreign_files: foreign as u64 };
    let Some(&segment) = numbers.last() else {
        return Ok(Recovered {
            segment: 0,
            tree: Tree::new(),
            previous: Previous::NONE,
            checkpoint: None,
            rotates: false,
            newest: Newest::Absent,
            noted,
        });
    };
    noted.missing_segments = u64::from(segment) + 1 - numbers.len() as u64;
    let name = segment_name(segment);
    let length = disk.len(&name).map_err(StartFault::Io)?;
    let bad = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
    let stated = match read_header(disk, segment) {
        Err(error) if !bad.contains(&error.kind()) => return Err(StartFault::Io(error)),
        stated => stated,
    };
    let scan_with = |key| {
        let mut input = disk.open_at(&name, 0).map_err(StartFault::Io)?;
        let task = Task {
            segment,
            length,
            key: Some(key),
            key_sure: true,
            roots_at: &[],
            commitments: false,
        };
        let mut last = Last::default();
        let scanned = scan(&task, &mut *input, &mut last).map_err(StartFault::Io)?;
        Ok::<_, StartFault>((scanned, last))
    };
    let rotation = rotation::find(disk, segment).map_err(StartFault::Io)?;
    let (mut by_previous, (mut scanned, mut last)) = match (&rotation, previous_key) {
        (Some(rotation), Some(old)) if rotation.new == *old => (true, scan_with(old)?),
        _ => (false, scan_with(key)?),
    };
    if let Some(old) = previous_key
        && !by_previous
        && scanned.other_key
        && scanned.checkpoints == 0
    {
        (by_previous, (scanned, last)) = (true, scan_with(old)?);
    }
    // Why not when nothing is signed: what an earlier start said may have been cut off, and it may be
    // said again.
    let shown = !by_previous
        && (scanned.checkpoints > 0 || rotation.is_some_and(|rotation| rotation.new == *key));
    let newest = Newest::of(&scanned, length, &stated, key);
    let (end, tree) = match (decide(newest, accept_damage), scanned.tree.clone()) {
        (Verdict::GoOn(end), Some(tree)) => (end, tree),
        _ => return Err(refusal(newest, segment, &scanned, &stated, key)),
    };
    let number = segment
        .checked_add(1)
        .ok_or_else(|| StartFault::Setup("segment numbers are used up".into()))?;
    let (residue_bytes, residue_digest) =
        residue(disk, &name, scanned.point).map_err(StartFault::Io)?;
    let previous = Previous {
        end,
        kept_bytes: scanned.point,
        residue_bytes,
        residue_digest,
        chain: scanned.chain,
    };
    let checkpoint = last.0.or_else(|| checkpoint_before(disk, key, segment));
    let rotates = previous_key.is_some() && !shown;
    Ok(Recovered { segment: number, tree, previous, checkpoint, rotates, newest, noted })
}

fn refusal(
    newest: Newest,
    segment: u32,
    scanned: &Scanned,
    stated: &io::Result<(Header, [u8; 32])>,
    key: &VerifierKey,
) -> StartFault {
    if newest == Newest::OtherLog {
        let origin = stated.as_ref().map_or(key.name(), |(header, _)| &header.origin);
        return StartFault::OtherLog(origin.to_owned());
    }
    let (offset, what) = match scanned.damage.first() {
        Some(damage) => (damage.offset, damage.what.clone()),
        None => (scanned.point, "segment cannot be continued".into()),
    };
    // Only then is there something that an order could accept.
    let acceptable = newest == Newest::Damaged;
    StartFault::Damaged { segment, offset, what, acceptable }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Mutant: with `TreeLost` beside `Damaged` an order goes on with a tree that nobody knows.
    #[test]
    fn the_table_is_as_it_is_written() {
        for (row, newest) in Newest::ALL.into_iter().enumerate() {
            // A variant that is not in ALL does not compile here, or moves the others.
            let (place, plain, ordered) = match newest {
                Newest::Absent => (0, Verdict::Begin, Verdict::Begin),
                Newest::Empty => (1, Verdict::Refuse, Verdict::Refuse),
                Newest::HeaderCut => (2, Verdict::Refuse, Verdict::Refuse),
                Newest::HeaderWrong => (3, Verdict::Refuse, Verdict::Refuse),
                Newest::OtherLog => (4, Verdict::Refuse, Verdict::Refuse),
                Newest::Stopped => {
                    (5, Verdict::GoOn(PreviousEnd::Sealed), Verdict::GoOn(PreviousEnd::Sealed))
                }
                Newest::Sealed => {
                    (6, Verdict::GoOn(PreviousEnd::Sealed), Verdict::GoOn(PreviousEnd::Sealed))
                }
                Newest::HeaderOnly => {
                    (7, Verdict::GoOn(PreviousEnd::Torn), Verdict::GoOn(PreviousEnd::Torn))
                }
                Newest::AtPoint => {
                    (8, Verdict::GoOn(PreviousEnd::Torn), Verdict::GoOn(PreviousEnd::Torn))
                }
                Newest::Torn => {
                    (9, Verdict::GoOn(PreviousEnd::Torn), Verdict::GoOn(PreviousEnd::Torn))
                }
                Newest::Zeros => {
                    (10, Verdict::GoOn(PreviousEnd::Torn), Verdict::GoOn(PreviousEnd::Torn))
                }
                Newest::Damaged => (11, Verdict::Refuse, Verdict::GoOn(PreviousEnd::Damaged)),
                Newest::TreeLost => (12, Verdict::Refuse, Verdict::Refuse),
            };
            assert_eq!(place, row);
            assert_eq!(decide(newest, false), plain, "{newest:?}");
            assert_eq!(decide(newest, true), ordered, "{newest:?}, ordered");
        }
    }
}
