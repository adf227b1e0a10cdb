//! Entries as a reader gets them: measured, taken apart, checked against their commitments.

use std::borrow::Cow;

use super::*;
use crate::record::hash::{Message, digest_all};
use crate::record::tree::LEAF_PREFIX;

/// What is wrong with the bytes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryFault {
    /// A version this reader does not know.
    Version(u8),
    /// The header length does not fit the number of parts.
    HeaderLength(u16),
    /// A flag this version does not define, or an id without its flag.
    Flags(u16),
    /// More parts than allowed.
    Parts(u8),
    /// The entry is larger than [`ENTRY_BYTES_MAX`].
    TooLong(u64),
    /// The byte that says whether a part is present is neither 0 nor 1.
    Presence(u8),
    /// A part does not match its commitment; the index of the part.
    Commitment(u8),
}

impl std::fmt::Display for EntryFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EntryFault::Version(seen) => {
                write!(f, "entry version is {seen}, this reader knows {ENTRY_VERSION}")
            }
            EntryFault::HeaderLength(seen) => {
                write!(f, "entry header says it has {seen} bytes, which does not fit its parts")
            }
            EntryFault::Flags(seen) => {
                write!(f, "entry flags are {seen:#06x}, allowed are {FLAGS_KNOWN:#06x}")
            }
            EntryFault::Parts(seen) => write!(f, "entry has {seen} parts, limit {PARTS_MAX}"),
            EntryFault::TooLong(seen) => {
                write!(f, "entry is {seen} bytes, limit {ENTRY_BYTES_MAX}")
            }
            EntryFault::Presence(seen) => {
                write!(f, "presence of a part is {seen}, allowed are 0 and 1")
            }
            EntryFault::Commitment(part) => {
                write!(f, "part {part} does not match its commitment")
            }
        }
    }
}

/// One part of a read entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartView<'a> {
    /// Number of the kind.
    pub kind_number: u8,
    /// Length as the header states it.
    pub length: u32,
    /// Commitment as the header states it.
    pub commitment: [u8; 32],
    /// The bytes, checked against the commitment; `None` when they are withheld.
    pub bytes: Option<&'a [u8]>,
}

/// One entry as read, borrowed from the reader's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryView<'a> {
    /// The whole header, commitments included: the leaf of the tree is its RFC 6962 hash.
    pub header: Cow<'a, [u8]>,
    /// Number of the kind; [`EntryView::kind`] where this version knows it.
    pub kind_number: u8,
    /// Place in the whole record, and leaf index.
    pub sequence: u64,
    /// The exchange it belongs to.
    pub exchange: Option<ExchangeId>,
    /// The session it belongs to.
    pub session: Option<SessionId>,
    /// Index within the exchange.
    pub ordinal: u32,
    /// When it happened.
    pub now: Now,
    /// Who submitted it.
    pub worker: u8,
    /// HTTP status, 0 where there is none.
    pub status: u16,
    /// The parts in order.
    pub parts: Vec<PartView<'a>>,
}

impl<'a> EntryView<'a> {
    /// The kind, when this version knows it.
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_number(self.kind_number)
    }

    /// The bytes of the first part of this kind.
    pub fn part(&self, kind: PartKind) -> Option<&'a [u8]> {
        self.parts.iter().find(|part| part.kind_number == kind as u8)?.bytes
    }
}

/// What reading an entry from the front of `plain` came to.
#[derive(Debug)]
pub enum EntryRead<'a> {
    /// An entry of `used` bytes, the tag included.
    Done(EntryView<'a>, usize),
    /// The entry goes on after the end of `plain`; at least this many bytes are needed.
    More(usize),
    /// No entry.
    Broken(EntryFault),
}

/// Where the entry at the front of `plain` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryMeasure {
    /// It has so many bytes, the tag included.
    Done(usize),
    /// It goes on after the end of `plain`; at least this many bytes are needed.
    More(usize),
    /// No entry.
    Broken(EntryFault),
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("length is N")
}

/// Where one part stands.
#[derive(Debug, Clone, Copy, Default)]
struct Spot {
    kind_number: u8,
    length: u32,
    present: bool,
    /// First byte behind the presence.
    at: usize,
}

/// Where everything of an entry stands. Everything is checked but the commitments.
struct Layout {
    compact: bool,
    /// One past the header as it stands.
    header_end: usize,
    parts: usize,
    spots: [Spot; PARTS_MAX],
    used: usize,
}

impl Layout {
    fn read(plain: &[u8]) -> Result<Layout, EntryMeasure> {
        let broken = |fault| Err(EntryMeasure::Broken(fault));
        let header_start = 1;
        if plain.len() < header_start + HEADER_FIXED_BYTES {
            return Err(EntryMeasure::More(header_start + HEADER_FIXED_BYTES));
        }
        let compact = plain[0] == TAG_COMPACT;
        let fixed = &plain[header_start..];
        let header_bytes = u16::from_le_bytes(array(fixed, 0));
        let parts = fixed[62] as usize;
        let flags = u16::from_le_bytes(array(fixed, 60));
        if fixed[2] != ENTRY_VERSION {
            return broken(EntryFault::Version(fixed[2]));
        }
        if parts > PARTS_MAX {
            return broken(EntryFault::Parts(fixed[62]));
        }
        if header_bytes as usize != HEADER_FIXED_BYTES + parts * PART_ROW_BYTES {
            return broken(EntryFault::HeaderLength(header_bytes));
        }
        if flags & !FLAGS_KNOWN != 0
            || (flags & FLAG_EXCHANGE == 0 && fixed[12..27] != [0; 15])
            || (flags & FLAG_SESSION == 0 && fixed[27..37] != [0; 10])
        {
            return broken(EntryFault::Flags(flags));
        }
        let row_bytes = if compact { COMPACT_ROW_BYTES } else { PART_ROW_BYTES };
        let header_end = header_start + HEADER_FIXED_BYTES + parts * row_bytes;
        let parts_start = header_end + if compact { SEED_BYTES } else { 0 };
        if plain.len() < parts_start {
            return Err(EntryMeasure::More(parts_start));
        }
        let mut spots = [Spot::default(); PARTS_MAX];
        let mut longest = parts_start as u64;
        for (index, spot) in spots[..parts].iter_mut().enumerate() {
            let row = &plain[header_start + HEADER_FIXED_BYTES + index * row_bytes..];
            if row[1] != 0 {
                return broken(EntryFault::Flags(u16::from(row[1])));
            }
            spot.kind_number = row[0];
            spot.length = u32::from_le_bytes(array(row, 2));
            let salt_bytes = if compact { 0 } else { SALT_BYTES as u64 };
            longest += 1 + salt_bytes + u64::from(spot.length);
        }
        if longest > ENTRY_BYTES_MAX as u64 {
            return broken(EntryFault::TooLong(longest));
        }
        let mut at = parts_start;
        for (index, spot) in spots[..parts].iter_mut().enumerate() {
            // Everything behind `at` still needs at least one byte for each part.
            let behind = parts - index - 1;
            let Some(&presence) = plain.get(at) else {
                return Err(EntryMeasure::More(at + 1 + behind));
            };
            spot.at = at + 1;
            spot.present = presence == 1;
            let held = match (presence, compact) {
                (0, false) => 0,
                (0, true) => COMMITMENT_BYTES,
                (1, false) => SALT_BYTES + spot.length as usize,
                (1, true) => spot.length as usize,
                (other, _) => return broken(EntryFault::Presence(other)),
            };
            at = spot.at + held;
            if plain.len() < at {
                return Err(EntryMeasure::More(at + behind));
            }
        }
        Ok(Layout { compact, header_end, parts, spots, used: at })
    }

    fn seed<'a>(&self, plain: &'a [u8]) -> &'a [u8; SEED_BYTES] {
        plain[self.header_end..].first_chunk().expect("the seed is there")
    }

    fn salt<'a>(&self, plain: &'a [u8], index: usize) -> &'a [u8; SALT_BYTES] {
        plain[self.spots[index].at..].first_chunk().expect("the salt is there")
    }

    fn bytes<'a>(&self, plain: &'a [u8], index: usize) -> &'a [u8] {
        let spot = &self.spots[index];
        let start = spot.at + if self.compact { 0 } else { SALT_BYTES };
        &plain[start..start + spot.length as usize]
    }

    /// What a reader gets. `computed` has the commitments of the present parts as they were computed,
    /// or nothing when they are not to be checked.
    fn view<'a>(
        &self,
        plain: &'a [u8],
        computed: &[[u8; 32]],
    ) -> (EntryView<'a>, Option<EntryFault>) {
        let standing = &plain[1..self.header_end];
        let mut parts = Vec::with_capacity(self.parts);
        let mut fault = None;
        let mut computed = computed.iter();
        for (index, spot) in self.spots[..self.parts].iter().enumerate() {
            let bytes = spot.present.then(|| self.bytes(plain, index));
            let own = if spot.present { computed.next() } else { None };
            let commitment = match (self.compact, own) {
                (true, Some(own)) => *own,
                (true, None) => array(plain, spot.at),
                (false, own) => {
                    let at = HEADER_FIXED_BYTES + index * PART_ROW_BYTES + COMPACT_ROW_BYTES;
                    let stated = array(standing, at);
                    if own.is_some_and(|own| *own != stated) {
                        fault.get_or_insert(EntryFault::Commitment(index as u8));
                    }
                    stated
                }
            };
            let Spot { kind_number, length, .. } = *spot;
            parts.push(PartView { kind_number, length, commitment, bytes });
        }
        let header = match self.compact {
            false => Cow::Borrowed(standing),
            true => Cow::Owned(whole_header(standing, &parts)),
        };
        let flags = u16::from_le_bytes(array(standing, 60));
        let exchange = flags & FLAG_EXCHANGE != 0;
        let session = flags & FLAG_SESSION != 0;
        let view = EntryView {
            kind_number: standing[3],
            sequence: u64::from_le_bytes(array(standing, 4)),
            exchange: exchange.then(|| ExchangeId::from_bytes(&array(standing, 12))),
            session: session.then(|| SessionId::from_bytes(array(standing, 27))),
            ordinal: u32::from_le_bytes(array(standing, 37)),
            now: Now {
                utc_ns: u64::from_le_bytes(array(standing, 41)),
                mono_ns: u64::from_le_bytes(array(standing, 49)),
            },
            worker: standing[57],
            status: u16::from_le_bytes(array(standing, 58)),
            parts,
            header,
        };
        (view, fault)
    }
}

/// Finds the end of the entry that begins with its tag at `plain[0]`.
pub fn measure_entry(plain: &[u8]) -> EntryMeasure {
    debug_assert!(plain.first().is_none_or(|&tag| tag == TAG_ENTRY || tag == TAG_COMPACT));
    match Layout::read(plain) {
        Ok(layout) => EntryMeasure::Done(layout.used),
        Err(stop) => stop,
    }
}

/// Reads an entry that begins with its tag at `plain[0]`. Checks everything but the sequence, and the
/// commitments of [`TAG_ENTRY`] only when `commitments` says so. Those of [`TAG_COMPACT`] are computed
/// from the parts: what is wrong with these shows in the leaf.
pub fn read_entry(plain: &[u8], commitments: bool) -> EntryRead<'_> {
    debug_assert!(plain.first().is_none_or(|&tag| tag == TAG_ENTRY || tag == TAG_COMPACT));
    let layout = match Layout::read(plain) {
        Ok(layout) => layout,
        Err(EntryMeasure::More(need)) => return EntryRead::More(need),
        Err(EntryMeasure::Broken(fault)) => return EntryRead::Broken(fault),
        Err(EntryMeasure::Done(_)) => unreachable!("a layout stops with a reason"),
    };
    let computed = (0..layout.parts)
        .filter(|&index| layout.spots[index].present && (layout.compact || commitments))
        .map(|index| {
            let salt = match layout.compact {
                true => derive_salt(layout.seed(plain), index as u8),
                false => *layout.salt(plain, index),
            };
            commitment(&salt, layout.bytes(plain, index))
        })
        .collect::<Vec<_>>();
    match layout.view(plain, &computed) {
        (_, Some(fault)) => EntryRead::Broken(fault),
        (view, None) => EntryRead::Done(view, layout.used),
    }
}

/// Entries whose digests are computed side by side. Bound: their layouts are 27 KiB.
const TOGETHER: usize = 64;

/// Reads whole entries that stand one after the other: entry k ends at `ends[k]` in `plain`, and was
/// measured. Gives each with the hash of its leaf, and with what is wrong with its commitments, which
/// are checked as by [`read_entry`]. The message `beside` is hashed with them; each entry comes with
/// its digest.
pub fn read_entries<'a>(
    plain: &'a [u8],
    ends: &[usize],
    commitments: bool,
    mut beside: Option<Message<'_>>,
    mut each: impl FnMut(EntryView<'a>, [u8; 32], Option<EntryFault>, Option<[u8; 32]>),
) {
    let mut from = 0;
    let mut beside_digest = None;
    for ends in ends.chunks(TOGETHER) {
        let entries: Vec<(&[u8], Layout)> = ends
            .iter()
            .map(|&to| {
                let entry = &plain[std::mem::replace(&mut from, to)..to];
                let Ok(layout) = Layout::read(entry) else { unreachable!("measured as whole") };
                (entry, layout)
            })
            .collect();
        let present = |layout: &Layout| {
            let spots = layout.spots;
            (0..layout.parts).filter(move |&index| spots[index].present)
        };
        let mut salt_messages = Vec::new();
        for (entry, layout) in entries.iter().filter(|(_, layout)| layout.compact) {
            let seed = layout.seed(entry);
            salt_messages.extend(present(layout).map(|index| salt_message(seed, index as u8)));
        }
        let mut salts = Vec::with_capacity(salt_messages.len());
        let messages: Vec<Message<'_>> =
            salt_messages.iter().map(|message| Message { head: message, body: &[] }).collect();
        digest_all(&messages, &mut salts);
        let mut derived = salts.iter();
        let mut messages = Vec::with_capacity(1 + salts.len());
        let apart = beside.take();
        messages.extend(apart);
        for (entry, layout) in &entries {
            for index in present(layout).filter(|_| layout.compact || commitments) {
                let salt = match layout.compact {
                    true => derived.next().expect("one for each present part"),
                    false => layout.salt(entry, index),
                };
                messages.push(Message { head: salt, body: layout.bytes(entry, index) });
            }
        }
        let mut computed = Vec::with_capacity(messages.len());
        digest_all(&messages, &mut computed);
        let mut computed = &computed[..];
        if apart.is_some() {
            beside_digest = computed.split_off_first().copied();
        }
        let views: Vec<(EntryView<'a>, Option<EntryFault>)> = entries
            .iter()
            .map(|(entry, layout)| {
                let count = match layout.compact || commitments {
                    true => present(layout).count(),
                    false => 0,
                };
                let own = computed.split_off(..count).expect("as many as were asked for");
                layout.view(entry, own)
            })
            .collect();
        let messages: Vec<Message<'_>> = views
            .iter()
            .map(|(view, _)| Message { head: &LEAF_PREFIX, body: &view.header })
            .collect();
        let mut leaves = Vec::with_capacity(messages.len());
        digest_all(&messages, &mut leaves);
        for ((view, fault), leaf) in views.into_iter().zip(leaves) {
            each(view, leaf, fault, beside_digest);
        }
    }
}

/// The header of a compact entry with its commitments.
fn whole_header(standing: &[u8], parts: &[PartView<'_>]) -> Vec<u8> {
    let (fixed, rows) = standing.split_at(HEADER_FIXED_BYTES);
    let mut header = Vec::with_capacity(HEADER_FIXED_BYTES + parts.len() * PART_ROW_BYTES);
    header.extend_from_slice(fixed);
    for (row, part) in rows.chunks_exact(COMPACT_ROW_BYTES).zip(parts) {
        header.extend_from_slice(row);
        header.extend_from_slice(&part.commitment);
    }
    header
}
