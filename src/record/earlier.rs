//! The checkpoints that cosignatures may speak of: the last [`COSIGNED_BEHIND_MAX`] before them in the
//! record, whatever segments they stand in.
//!
//! A segment is read by itself, so a cosignature over a text that no checkpoint before it in its segment
//! has stays open until the segments before are known.
//!
//! Invariants: at most [`COSIGNED_BEHIND_MAX`] digests are kept of a segment and of the record, and at
//! most as many texts are open.

use std::collections::{HashMap, VecDeque};

use sha2::{Digest, Sha256};

use super::format::COSIGNED_BEHIND_MAX;

/// SHA-256 of the signed text of a checkpoint.
pub type TextDigest = [u8; 32];

/// The digest of the signed text of a checkpoint.
pub fn text_digest(text: &str) -> TextDigest {
    Sha256::digest(text).into()
}

/// The last checkpoints, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Earlier {
    texts: VecDeque<TextDigest>,
}

impl Earlier {
    /// The next checkpoint.
    pub fn add(&mut self, text: TextDigest) {
        if self.texts.len() == COSIGNED_BEHIND_MAX {
            self.texts.pop_front();
        }
        self.texts.push_back(text);
    }

    /// How many checkpoints stand behind the last one with this text.
    fn behind(&self, text: &TextDigest) -> Option<usize> {
        self.texts.iter().rev().position(|one| one == text)
    }
}

/// Where a cosignature stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CosignedPlace {
    /// The last point before it.
    pub offset: u64,
    /// One past its last byte.
    pub end: u64,
    /// Entries before it, where that is known.
    pub entry: Option<u64>,
    /// Checkpoints before it in its segment.
    before: usize,
}

/// The checkpoints of one segment, and the cosignatures in it over others.
#[derive(Debug, Default)]
pub struct Cosigned {
    own: Earlier,
    /// First and last place of each text that no checkpoint before has in this segment.
    open: HashMap<TextDigest, (CosignedPlace, CosignedPlace)>,
}

impl Cosigned {
    /// The next checkpoint of the segment.
    pub fn checkpoint(&mut self, text: TextDigest) {
        self.own.add(text);
    }

    /// A cosignature over `text`: false when no record before the segment can make it right.
    pub fn cosignature(
        &mut self,
        text: TextDigest,
        offset: u64,
        end: u64,
        entry: Option<u64>,
    ) -> bool {
        if self.own.behind(&text).is_some() {
            return true;
        }
        let before = self.own.texts.len();
        let place = CosignedPlace { offset, end, entry, before };
        let room = self.open.len() < COSIGNED_BEHIND_MAX;
        match self.open.get_mut(&text) {
            _ if before == COSIGNED_BEHIND_MAX => false,
            Some((_, last)) => {
                *last = place;
                true
            }
            // Bound: there are no more checkpoints that they could speak of.
            None if !room => false,
            None => {
                self.open.insert(text, (place, place));
                true
            }
        }
    }

    /// The cosignatures over checkpoints that are not among those `before` the segment either, in the
    /// order of the file.
    pub fn strangers(&self, before: &Earlier) -> Vec<CosignedPlace> {
        let stranger = |(text, (first, last)): (&TextDigest, &(CosignedPlace, CosignedPlace))| {
            let behind = before.behind(text).unwrap_or(COSIGNED_BEHIND_MAX);
            let far = |place: &&CosignedPlace| behind + place.before >= COSIGNED_BEHIND_MAX;
            [first, last].into_iter().find(far).copied()
        };
        let mut strangers: Vec<CosignedPlace> = self.open.iter().filter_map(stranger).collect();
        strangers.sort_unstable_by_key(|place| place.end);
        strangers
    }

    /// Adds the segment's checkpoints to those before it.
    pub fn pass_on(&self, before: &mut Earlier) {
        self.own.texts.iter().for_each(|text| before.add(*text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: usize) -> TextDigest {
        text_digest(&number.to_string())
    }

    /// Checkpoints 0.. of the segments before, then so many of the segment.
    fn record(before: usize, own: usize) -> (Earlier, Cosigned) {
        let mut earlier = Earlier::default();
        (0..before).for_each(|number| earlier.add(text(number)));
        let mut cosigned = Cosigned::default();
        (before..before + own).for_each(|number| cosigned.checkpoint(text(number)));
        (earlier, cosigned)
    }

    // Mutants: `>` in `far`; `before` left out of it; the last place not kept; `own` not asked.
    #[test]
    fn a_cosignature_may_speak_of_the_4096_checkpoints_before_it() {
        const MAX: usize = COSIGNED_BEHIND_MAX;
        for (before, own) in [(0, MAX + 5), (5, MAX), (MAX, 5), (MAX + 5, 5), (MAX, 0), (10, 3)] {
            let oldest = (before + own).saturating_sub(MAX);
            for (number, good) in [
                (oldest, true),
                (before + own - 1, true),
                (before + own, false),
                (oldest.wrapping_sub(1), false),
            ] {
                let (earlier, mut cosigned) = record(before, own);
                let possible = cosigned.cosignature(text(number), 1, 2, None);
                let sound = possible && cosigned.strangers(&earlier).is_empty();
                assert_eq!(sound, good, "{before} and {own} checkpoints, number {number}");
            }
        }
        // The first time it is near enough, then not any more.
        let (earlier, mut cosigned) = record(MAX, 0);
        assert!(cosigned.cosignature(text(0), 1, 2, None));
        cosigned.checkpoint(text(MAX));
        assert!(cosigned.cosignature(text(0), 3, 4, None));
        let strangers = cosigned.strangers(&earlier);
        assert_eq!(strangers.iter().map(|place| place.end).collect::<Vec<_>>(), [4]);
    }

    // Mutant: no bound on what is open.
    #[test]
    fn open_cosignatures_are_bounded() {
        let mut cosigned = Cosigned::default();
        for number in 0..2 * COSIGNED_BEHIND_MAX {
            let possible = cosigned.cosignature(text(number), 1, 2, None);
            assert_eq!(possible, number < COSIGNED_BEHIND_MAX);
        }
        assert_eq!(cosigned.open.len(), COSIGNED_BEHIND_MAX);
    }
}
