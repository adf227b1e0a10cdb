//! Which segments a reader may leave out, because their index says that nothing asked for is inside.
//!
//! An index is believed only when its bytes are bound to a signature, without reading the segment: the
//! last chain point in front of it states the chain up to there, and
//! SHA-256(that chain || bytes from that point to the sealed checkpoint) is the chain which the sealed
//! checkpoint states, whose signature is checked where a key is given. The header of the segment and that
//! of the next one must fit too, so that what is left out is a link of the record like any other: no
//! missing, cut or exchanged file goes unnoticed because of an index. Anything that does not fit, or that
//! cannot be read, leads to reading the segment, which tells what is wrong. The newest is always read.
//!
//! Why whole exchanges: a filter is asked of an exchange, whose entries may lie in several segments, and
//! each may hold a part of the answer. So
//! * an exchange of which one segment says that it is open there or came from before may lie in all
//!   segments that name it, that began exchanges around its id, or that have no index;
//! * it may be asked for when each question may be answered by one of them; then all of them are read;
//! * else some question has no answer in any of them, nor in those of its entries that are read, so half
//!   an exchange is never taken for one that was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use memchr::memmem;
use sha2::{Digest, Sha256};

use super::disk::Files;
use super::entry::TAG_MARK;
use super::format::{
    CHECKPOINT_BYTES_MAX, COSIGNATURES_BYTES_MAX, FRAME_END, INDEX_BYTES_MAX, MAGIC_CHECKPOINT,
    MAGIC_COSIGNATURES, MAGIC_INDEX, MARK_BLOCK_HEAD, MARK_BYTES, SKIPPABLE_HEAD_BYTES,
    segment_name, segment_number,
};
use super::found::{End, Left, Scanned};
use super::header::{Header, Previous, PreviousEnd};
use super::index::Summary;
use super::keys::VerifierKey;
use super::note::Checkpoint;
use super::reader::read_header;
use super::rotation::KeyPlan;
use crate::types::ExchangeId;

/// Bytes read first from the end of a segment. Bound: holds all but the largest indexes.
const TAIL_BYTES: u64 = 64 * 1024;
/// Bytes read from there when that was not enough: the largest index, and cosignatures in front of it.
const TAIL_BYTES_MAX: u64 = 2 * INDEX_BYTES_MAX as u64;

/// Something that is asked: false when the index says that nothing in the segment answers it.
pub type Question<'a> = Box<dyn Fn(&Summary) -> bool + 'a>;

/// What is asked of a record.
#[derive(Default)]
pub struct Asked<'a> {
    /// All of them must have an answer. Bound: 32.
    pub questions: Vec<Question<'a>>,
    /// They are asked of whole exchanges, not of single entries.
    pub exchanges: bool,
}

/// Segments that are left out.
#[derive(Default)]
pub struct Skips {
    segments: BTreeMap<u32, Sealed>,
}

impl Skips {
    /// Looks at all indexes. An error is one of the folder itself.
    pub fn of(
        files: &dyn Files,
        key: Option<&VerifierKey>,
        asked: &Asked<'_>,
    ) -> io::Result<Skips> {
        let mut numbers: Vec<u32> =
            files.list()?.iter().filter_map(|name| segment_number(name)).collect();
        numbers.sort_unstable();
        if asked.questions.is_empty() || numbers.len() < 2 {
            return Ok(Skips::default());
        }
        assert!(asked.questions.len() <= 32, "one bit for each question");
        let plan = key.map(|key| KeyPlan::follow(files, &numbers, key));
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for pair in numbers.windows(2) {
            let follows = pair[0].checked_add(1) == Some(pair[1]);
            let key = plan.as_ref().map(|plan| plan.of(pair[0]));
            match Sealed::read(files, pair[0], key) {
                Ok(Some((sealed, summary))) if follows => {
                    known.push(Known::new(sealed, summary, &asked.questions));
                }
                _ => unknown.push(pair[0]),
            }
        }
        unknown.extend(numbers.last());
        let all = (1_u64 << asked.questions.len()) - 1;
        let needed = match asked.exchanges {
            true => whole_exchanges(&known, &unknown, all as u32),
            false => vec![false; known.len()],
        };
        let left = known
            .into_iter()
            .zip(needed)
            .filter(|(known, needed)| !needed && u64::from(known.answers) != all);
        let segments: BTreeMap<u32, Sealed> =
            left.map(|(known, _)| (known.sealed.left.segment, known.sealed)).collect();
        Ok(Skips { segments })
    }

    /// The segment, when it is left out.
    pub(super) fn sealed(&self, segment: u32) -> Option<&Sealed> {
        self.segments.get(&segment)
    }
}

/// A segment whose index is bound to its seal.
pub(super) struct Sealed {
    pub(super) left: Left,
    pub(super) length: u64,
    pub(super) previous_of_next: Previous,
    header: Header,
    /// The header of the next segment.
    next: Header,
    chain: [u8; 32],
    size: u64,
}

impl Sealed {
    /// What reading the segment would come to, as far as its neighbours are concerned.
    pub(super) fn scanned(&self) -> Scanned {
        Scanned {
            header: Some(self.header.clone()),
            end: End::Sealed,
            point: self.length,
            chain: self.chain,
            tree: Some(self.next.tree.clone()),
            signed: Some(self.size),
            ..Scanned::nothing()
        }
    }

    fn read(
        files: &dyn Files,
        segment: u32,
        key: Option<&VerifierKey>,
    ) -> io::Result<Option<(Sealed, Summary)>> {
        let Some(next_number) = segment.checked_add(1) else { return Ok(None) };
        let (next, _) = read_header(files, next_number)?;
        let name = segment_name(segment);
        let length = files.len(&name)?;
        if next.previous.end != PreviousEnd::Sealed || next.previous.kept_bytes != length {
            return Ok(None);
        }
        let (header, _) = read_header(files, segment)?;
        if header.segment != segment || next.segment != next_number || header.origin != next.origin
        {
            return Ok(None);
        }
        for window in [TAIL_BYTES, TAIL_BYTES_MAX] {
            let from = length.saturating_sub(window);
            let mut tail = Vec::new();
            files.open_at(&name, from)?.take(window).read_to_end(&mut tail)?;
            let Some(end) = SealedEnd::read(&tail, from, segment, key) else {
                if from == 0 {
                    break;
                }
                continue;
            };
            let SealedEnd { checkpoint, summary, chain } = end;
            let fits = checkpoint.origin == header.origin
                && header.tree.size().checked_add(summary.entries) == Some(checkpoint.size)
                && (next.tree.size(), next.tree.root()) == (checkpoint.size, checkpoint.root)
                && next.previous.residue_bytes == 0
                && next.previous.chain == chain;
            if !fits {
                break;
            }
            let left = Left {
                segment,
                bytes: length,
                entries: summary.entries,
                starts: summary.starts > 0,
                times_ns: summary.times_ns,
            };
            let previous_of_next = next.previous;
            let size = checkpoint.size;
            let sealed = Sealed { left, length, previous_of_next, header, next, chain, size };
            return Ok(Some((sealed, summary)));
        }
        Ok(None)
    }
}

/// The end of a sealed segment.
struct SealedEnd {
    checkpoint: Checkpoint,
    summary: Summary,
    /// Chain over the whole file.
    chain: [u8; 32],
}

impl SealedEnd {
    /// Reads it from `tail`, the bytes of the file from `from` to its end.
    fn read(tail: &[u8], from: u64, segment: u32, key: Option<&VerifierKey>) -> Option<SealedEnd> {
        let seal = frame_before(tail, tail.len(), MAGIC_CHECKPOINT, CHECKPOINT_BYTES_MAX)?;
        let checkpoint = Checkpoint::open(&tail[seal + SKIPPABLE_HEAD_BYTES..], key).ok()?;
        let in_place = checkpoint.sealed
            && checkpoint.segment == segment
            && checkpoint.offset == from + seal as u64;
        let index = frame_before(tail, seal, MAGIC_INDEX, INDEX_BYTES_MAX)?;
        let (point, chain) = chain_point_before(tail, index)?;
        let extent = Sha256::new().chain_update(chain).chain_update(&tail[point..seal]);
        if !in_place || <[u8; 32]>::from(extent.finalize()) != checkpoint.chain {
            return None;
        }
        let summary = Summary::read(&tail[index + SKIPPABLE_HEAD_BYTES..seal])?;
        let rest = Sha256::new().chain_update(checkpoint.chain).chain_update(&tail[seal..]);
        Some(SealedEnd { checkpoint, summary, chain: rest.finalize().into() })
    }
}

/// Where the skippable frame begins that ends at `end`.
fn frame_before(bytes: &[u8], end: usize, magic: u32, payload_max: usize) -> Option<usize> {
    let least = end.saturating_sub(SKIPPABLE_HEAD_BYTES + payload_max);
    let mut before = end;
    // Why one by one: a payload may hold the magic number.
    while let Some(at) = memmem::rfind(&bytes[least..before], &magic.to_le_bytes()) {
        let start = least + at;
        let length = bytes.get(start + 4..start + SKIPPABLE_HEAD_BYTES)?;
        let length = u32::from_le_bytes(length.try_into().expect("4 bytes"));
        if (start + SKIPPABLE_HEAD_BYTES).checked_add(length as usize) == Some(end) {
            return Some(start);
        }
        before = start + 3;
    }
    None
}

/// The last chain point in front of `end`, with only cosignatures between: a mark and the end of its
/// frame, or a checkpoint. What it states is taken as it stands; the seal tells whether it is right.
fn chain_point_before(bytes: &[u8], mut end: usize) -> Option<(usize, [u8; 32])> {
    const MARK_BLOCK_BYTES: usize = MARK_BLOCK_HEAD.len() + MARK_BYTES;
    loop {
        let mark = bytes[..end]
            .strip_suffix(&FRAME_END)
            .and_then(|bytes| bytes.len().checked_sub(MARK_BLOCK_BYTES).map(|at| (at, bytes)));
        if let Some((at, bytes)) = mark
            && let Some(content) = bytes[at..].strip_prefix(&MARK_BLOCK_HEAD)
            && content[0] == TAG_MARK
        {
            return Some((at, content[1..].try_into().expect("32 bytes")));
        }
        let checkpoint = frame_before(bytes, end, MAGIC_CHECKPOINT, CHECKPOINT_BYTES_MAX);
        if let Some(at) = checkpoint {
            let note = &bytes[at + SKIPPABLE_HEAD_BYTES..end];
            return Some((at, Checkpoint::open(note, None).ok()?.chain));
        }
        end = frame_before(bytes, end, MAGIC_COSIGNATURES, COSIGNATURES_BYTES_MAX)?;
    }
}

/// What is known of a segment by its index.
struct Known {
    sealed: Sealed,
    /// Bit n: question n may have an answer here.
    answers: u32,
    /// It lists all exchanges that lie elsewhere too.
    whole: bool,
    open: BTreeSet<ExchangeId>,
    late: BTreeSet<ExchangeId>,
    begun: Option<(ExchangeId, ExchangeId)>,
}

impl Known {
    fn new(sealed: Sealed, summary: Summary, questions: &[Question<'_>]) -> Known {
        let bits = questions.iter().enumerate();
        let answers = bits.map(|(bit, asked)| u32::from(asked(&summary)) << bit).sum();
        let Summary { open, late, exchanges, .. } = summary;
        let whole = open.whole && late.whole;
        let (open, late) = (open.values, late.values);
        Known { sealed, answers, whole, open, late, begun: exchanges }
    }

    fn number(&self) -> u32 {
        self.sealed.left.segment
    }
}

/// An exchange that lies in more than one segment.
#[derive(Default)]
struct Crossing {
    /// Places in the list of known segments that name it, in order.
    named: Vec<usize>,
    /// It began in the first of them.
    begun: bool,
    /// It ended in the last of them.
    ended: bool,
}

/// Which of the known segments have to be read for an exchange that lies in several. `all` has a bit for
/// each question.
fn whole_exchanges(known: &[Known], unknown: &[u32], all: u32) -> Vec<bool> {
    let mut needed: Vec<bool> = known.iter().map(|known| !known.whole).collect();
    let mut blind: Vec<u32> = unknown.to_vec();
    blind.extend(known.iter().filter(|known| !known.whole).map(Known::number));
    blind.sort_unstable();
    let mut crossings: BTreeMap<ExchangeId, Crossing> = BTreeMap::new();
    for (place, segment) in known.iter().enumerate().filter(|(_, segment)| segment.whole) {
        for &exchange in segment.open.union(&segment.late) {
            let crossing = crossings.entry(exchange).or_default();
            if crossing.named.is_empty() {
                crossing.begun = !segment.late.contains(&exchange);
            }
            crossing.named.push(place);
            crossing.ended = !segment.open.contains(&exchange);
        }
    }
    let ranges = Ranges::new(known);
    for (exchange, crossing) in crossings {
        let (first, last) = match (crossing.named.first(), crossing.named.last()) {
            (Some(&first), Some(&last)) => (known[first].number(), known[last].number()),
            _ => continue,
        };
        // Where it may lie without being named.
        let from = if crossing.begun { first } else { 0 };
        let to = if crossing.ended { last } else { u32::MAX };
        let unseen = blind[blind.partition_point(|&number| number < from)..]
            .first()
            .is_some_and(|&number| number <= to);
        let mut places = crossing.named;
        ranges.around(exchange, &mut places);
        let answers = places.iter().fold(0, |answers, &place| answers | known[place].answers);
        if unseen || answers == all {
            places.iter().for_each(|&place| needed[place] = true);
        }
    }
    needed
}

/// The ranges of exchanges that began in the known segments, to be asked which hold an id.
struct Ranges {
    /// First id, last id, place; in order of the first.
    ranges: Vec<(ExchangeId, ExchangeId, usize)>,
    /// The greatest last id up to each.
    reach: Vec<ExchangeId>,
}

impl Ranges {
    fn new(known: &[Known]) -> Ranges {
        let mut ranges: Vec<(ExchangeId, ExchangeId, usize)> = known
            .iter()
            .enumerate()
            .filter_map(|(place, known)| known.begun.map(|(first, last)| (first, last, place)))
            .collect();
        ranges.sort_unstable();
        let mut greatest = None;
        let reach = ranges.iter().map(|&(_, last, _)| {
            greatest = greatest.max(Some(last));
            greatest.expect("one at least")
        });
        let reach = reach.collect();
        Ranges { ranges, reach }
    }

    /// Adds the places whose range holds `exchange`.
    fn around(&self, exchange: ExchangeId, places: &mut Vec<usize>) {
        let behind = self.ranges.partition_point(|(first, _, _)| *first <= exchange);
        for at in (0..behind).rev() {
            if self.reach[at] < exchange {
                return;
            }
            let (_, last, place) = self.ranges[at];
            if last >= exchange && !places.contains(&place) {
                places.push(place);
            }
        }
    }
}
