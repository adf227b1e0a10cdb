//! What the newest segment's end means when a writer starts. Only that file is read; nothing is
//! changed in it. The next segment's header says what was decided.
//!
//! | header | damage | tree known | ends | verdict |
//! |---|---|---|---|---|
//! | (no segment) | | | | first segment |
//! | bad | any | any | any | refuse, also when ordered to go on: what came before is unknown |
//! | good | none | yes | sealed | go on behind the seal |
//! | good | none | yes | at a point | adopt all of it |
//! | good | none | yes | torn | adopt up to the last point; the residue is stated in the next header |
//! | good | none | yes | broken | refuse: broken without a damage cannot be |
//! | good | some | yes | any | damaged: refuse, or when ordered go on behind the last point, told for ever |
//! | good | any | no | any | refuse, also when ordered: the tree cannot be continued |
//!
//! Torn and damaged are told apart by what can be read: bytes that end in the middle of something
//! that began well, or that are zero, are torn; bytes that contradict the format, the chain or a
//! signature, or that have a good checkpoint behind them, are damaged. `Gap:` a length damaged in the
//! last flush behind the last checkpoint reads as torn, and that flush is then dropped and told as
//! residue; at most `checkpoint_ms_max` of entries stand there.

use super::disk::{Disk, Files};
use super::entry::EntryView;
use super::format::{segment_name, segment_number};
use super::header::{Previous, PreviousEnd};
use super::keys::VerifierKey;
use super::note::Checkpoint;
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
}

/// What the decision rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The header is good.
    pub header: bool,
    /// Something contradicts the format, the chain or a signature.
    pub damage: bool,
    /// The tree at the last point is known.
    pub tree: bool,
    /// How the file ends.
    pub end: End,
    /// The operator ordered to go on behind damage.
    pub ordered: bool,
}

/// What the facts come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on in the next segment, which says that this one ended so.
    GoOn(PreviousEnd),
    /// Do not start.
    Refuse,
}

/// The table above.
pub fn decide(facts: Facts) -> Verdict {
    match facts {
        Facts { header: false, .. } | Facts { tree: false, .. } => Verdict::Refuse,
        Facts { damage: true, ordered: true, .. } => Verdict::GoOn(PreviousEnd::Damaged),
        Facts { damage: true, ordered: false, .. } => Verdict::Refuse,
        Facts { end: End::Sealed, .. } => Verdict::GoOn(PreviousEnd::Sealed),
        Facts { end: End::Point | End::Torn, .. } => Verdict::GoOn(PreviousEnd::Torn),
        Facts { end: End::Broken, .. } => Verdict::Refuse,
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
        let task = Task { segment, length, key: Some(key), roots_at: &[], commitments: false };
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
    let Some(segment) = names.iter().filter_map(|name| segment_number(name)).max() else {
        return Ok(Recovered {
            segment: 0,
            tree: Tree::new(),
            previous: Previous::NONE,
            checkpoint: None,
            rotates: false,
        });
    };
    let name = segment_name(segment);
    let length = disk.len(&name).map_err(StartFault::Io)?;
    let scan_with = |key| {
        let mut input = disk.open_at(&name, 0).map_err(StartFault::Io)?;
        let task = Task { segment, length, key: Some(key), roots_at: &[], commitments: false };
        let mut last = Last::default();
        let scanned = scan(&task, &mut *input, &mut last).map_err(StartFault::Io)?;
        Ok::<_, StartFault>((scanned, last))
    };
    // Why errors are passed over: the scan tells what is wrong with the file.
    let rotation = rotation::find(disk, segment).ok().flatten();
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
    let facts = Facts {
        header: scanned.header.is_some(),
        damage: !scanned.damage.is_empty(),
        tree: scanned.tree.is_some(),
        end: scanned.end,
        ordered: accept_damage,
    };
    if scanned.other_key && scanned.checkpoints == 0 {
        return Err(StartFault::OtherLog(key.name().to_owned()));
    }
    let (end, tree) = match (decide(facts), scanned.tree.clone()) {
        (Verdict::GoOn(end), Some(tree)) => (end, tree),
        _ => return Err(refusal(disk, key, segment, &scanned)),
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
    Ok(Recovered { segment: number, tree, previous, checkpoint, rotates })
}

fn refusal(
    files: &(impl Files + ?Sized),
    key: &VerifierKey,
    segment: u32,
    scanned: &Scanned,
) -> StartFault {
    // Why: another key looks like damage everywhere; one plain sentence is better.
    if let Ok((header, _)) = super::reader::read_header(files, segment)
        && header.origin != key.name()
    {
        return StartFault::OtherLog(header.origin);
    }
    let (offset, what) = match scanned.damage.first() {
        Some(damage) => (damage.offset, damage.what.clone()),
        None => (scanned.point, "segment cannot be continued".into()),
    };
    StartFault::Damaged { segment, offset, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Mutant: swapping the first two arms of `decide` lets an order override a bad header.
    #[test]
    fn the_table_has_a_row_for_every_combination() {
        let mut rows = 0;
        for header in [false, true] {
            for damage in [false, true] {
                for tree in [false, true] {
                    for end in [End::Sealed, End::Point, End::Torn, End::Broken] {
                        for ordered in [false, true] {
                            let verdict = decide(Facts { header, damage, tree, end, ordered });
                            let expected = match (header, damage, tree, end, ordered) {
                                (false, ..) | (_, _, false, ..) => Verdict::Refuse,
                                (true, true, true, _, true) => Verdict::GoOn(PreviousEnd::Damaged),
                                (true, true, true, _, false) => Verdict::Refuse,
                                (true, false, true, End::Sealed, _) => {
                                    Verdict::GoOn(PreviousEnd::Sealed)
                                }
                                (true, false, true, End::Point, _) => {
                                    Verdict::GoOn(PreviousEnd::Torn)
                                }
                                (true, false, true, End::Torn, _) => {
                                    Verdict::GoOn(PreviousEnd::Torn)
                                }
                                (true, false, true, End::Broken, _) => Verdict::Refuse,
                            };
                            assert_eq!(verdict, expected);
                            rows += 1;
                        }
                    }
                }
            }
        }
        assert_eq!(rows, 64);
    }
}
