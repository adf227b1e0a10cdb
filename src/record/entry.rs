//! Entries and their parts: what a worker fills in, the byte table of the header, and the view a
//! reader gets. The tables are in [`super::format`].
//!
//! Invariant: a header is a function of the entry alone, it holds lengths and salted commitments of
//! the parts and never their bytes, and it is at most [`ENTRY_HEADER_BYTES_MAX`] long.

use std::borrow::Cow;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::handle::Level;
use super::seal::sealed_bytes;
use crate::limits::ENTRY_HEADER_BYTES_MAX;
use crate::types::{ExchangeId, Now, SessionId};

/// First byte of an entry in the plain stream that carries each salt and each commitment.
pub const TAG_ENTRY: u8 = b'E';
/// First byte of a compact entry in the plain stream: one seed in place of the salts, and only those
/// commitments that cannot be computed from what is there.
pub const TAG_COMPACT: u8 = b'C';
/// First byte of a mark in the plain stream.
pub const TAG_MARK: u8 = b'M';
/// Version of the entry header.
pub const ENTRY_VERSION: u8 = 1;
/// Header bytes before the table of parts.
pub const HEADER_FIXED_BYTES: usize = 63;
/// One row of the table of parts: kind, flags, length, commitment.
pub const PART_ROW_BYTES: usize = 38;
/// The same row in a compact entry, without the commitment.
pub const COMPACT_ROW_BYTES: usize = 6;
/// Most parts of one entry. Bound: 63 + 16 * 38 = 671 bytes of header, under 1024.
pub const PARTS_MAX: usize = 16;
const _: () = assert!(HEADER_FIXED_BYTES + PARTS_MAX * PART_ROW_BYTES <= ENTRY_HEADER_BYTES_MAX);
/// Bytes of the salt that is hashed in front of each part.
pub const SALT_BYTES: usize = 32;
/// Random bytes of a compact entry, from which the salts of its parts are derived.
pub const SEED_BYTES: usize = 32;
/// Starts the hash that derives a salt. Bound: with seed and index 51 bytes, one block of SHA-256.
const SALT_LABEL: &[u8; 18] = b"stenograph salt v2";
/// Bytes of a commitment.
const COMMITMENT_BYTES: usize = 32;
/// Largest entry in the plain stream, withheld parts counted as if they stood there. Bound: a reader
/// never holds more than this for one entry; an answer is at most 16 MiB and its head 32 KiB, and it may
/// be told four times: as it was sent and as it came, in the table and in the sealed part.
pub const ENTRY_BYTES_MAX: usize = 80 * 1024 * 1024;

const FLAG_EXCHANGE: u16 = 1;
const FLAG_SESSION: u16 = 2;
const FLAGS_KNOWN: u16 = FLAG_EXCHANGE | FLAG_SESSION;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal, $word:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $number,)* }

        impl $name {
            /// All of them, by number.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The word used in JSON Lines and on terminals.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }

            /// The one with this number, if this version knows it.
            pub fn from_number(number: u8) -> Option<$name> {
                match number { $($number => Some($name::$variant),)* _ => None }
            }
        }
    };
}

words! {
    /// What an entry tells.
    Kind {
        /// The gateway starts: versions, boot id, how the record before it ended.
        Start = 1, "start";
        /// The policy in force: configuration without secrets, grants, rule ids.
        Policy = 2, "policy";
        /// A message from the client, as it is forwarded.
        Request = 3, "request";
        /// An answer that is one body, as it is released.
        Answer = 4, "answer";
        /// The head of an answer that is an event stream.
        StreamOpen = 5, "stream-open";
        /// One event of a stream, as it is released.
        Event = 6, "event";
        /// An interim answer (100).
        Interim = 7, "interim";
        /// The gateway's own answer in place of forwarding or releasing.
        Refusal = 8, "refusal";
        /// Refusals before authentication beyond the rate, counted.
        Refusals = 9, "refusals";
        /// A stream or exchange ended by the gateway.
        Cut = 10, "cut";
        /// The end of an exchange: status, bytes delivered, count of its entries.
        End = 11, "end";
        /// The deny list changed.
        Deny = 12, "deny";
        /// A clock step, or the kernel's stated error.
        Clock = 13, "clock";
        /// The gateway stops in order.
        Stop = 14, "stop";
        /// The writer went on in a new segment after a file had failed.
        Resume = 15, "resume";
        /// A client connection was accepted.
        Connect = 16, "connect";
        /// A client connection is over: counts, bytes left unacknowledged.
        Disconnect = 17, "disconnect";
        /// When events of a stream were handed to the kernel.
        Delivery = 18, "delivery";
        /// The public keys of an issuer, as they are used from here on.
        Keys = 19, "keys";
        /// A data key for sealed parts: its id, its recipients and the digest of its key file.
        SealKey = 20, "seal-key";
        /// The log's key changes; signed by both keys.
        Rotation = 21, "rotation";
        /// Less is recorded, or it is held later, than before or than the defaults say.
        Weakening = 22, "weakening";
        /// What the witnesses said: too long without one, or a smaller tree that was accepted.
        Witness = 23, "witness";
    }
}

words! {
    /// What a part of an entry holds.
    PartKind {
        /// JSON: who calls.
        Subject = 1, "subject";
        /// A head as it came, credentials filled.
        HeadIn = 2, "head-in";
        /// A head as it was sent.
        HeadOut = 3, "head-out";
        /// A body or event as it was sent, masked.
        Body = 4, "body";
        /// A body as it came, where it differs from what went on: length and commitment only. Its
        /// salt and what restores it lie in the sealed part of the same entry.
        Original = 5, "original";
        /// JSON: what was decided, and the findings.
        Verdict = 6, "verdict";
        /// JSON: anything else.
        Detail = 7, "detail";
        /// What restores the original, encrypted under a data key of the session.
        Sealed = 8, "sealed";
        /// The caller's token at its first use: length and commitment only, sealed like an original.
        Token = 9, "token";
    }
}

/// How the bodies of an entry are kept. Subjects, heads, verdicts and details are always kept as they
/// are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Keep {
    /// Only their length and commitment; the salt is thrown away, so that nobody can try out what they
    /// might have been.
    Heads,
    /// In the sealed part only; where nothing is sealed, like [`Keep::Heads`].
    Sealed,
    /// As they were sent.
    #[default]
    Full,
}

impl Keep {
    /// The words of the configuration and of policies in the record, weakest first.
    pub const WORDS: &'static [(&'static str, Keep)] =
        &[("heads", Keep::Heads), ("sealed", Keep::Sealed), ("full", Keep::Full)];

    /// The word used in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Keep::Heads => "heads",
            Keep::Sealed => "sealed",
            Keep::Full => "full",
        }
    }

    /// Whether the bytes of a part of this kind stand in the record as they are.
    pub fn stores(self, kind: PartKind) -> bool {
        self == Keep::Full || kind != PartKind::Body
    }
}

/// One part of an entry. The bytes are shared with whoever sends them and cannot change any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it holds.
    pub kind: PartKind,
    /// The bytes themselves.
    pub bytes: Bytes,
}

/// Bytes that are recorded by length and commitment, and in the sealed part. Wiped on drop. Where
/// nothing is sealed they are not recorded at all.
#[derive(Clone, PartialEq, Eq)]
pub struct Original {
    /// [`PartKind::Original`]: what came where the entry's body stands; or [`PartKind::Token`].
    pub kind: PartKind,
    /// The bytes as they came.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Original {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Original({}, {} bytes)", self.kind.as_str(), self.bytes.len())
    }
}

/// One entry as a worker hands it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it tells.
    pub kind: Kind,
    /// The exchange it belongs to.
    pub exchange: Option<ExchangeId>,
    /// The session it belongs to.
    pub session: Option<SessionId>,
    /// Index within the exchange, from 0; with the count in the end entry it shows that none is
    /// missing.
    pub ordinal: u32,
    /// HTTP status, 0 where there is none.
    pub status: u16,
    /// When it happened.
    pub now: Now,
    /// The level its submitter will wait for; [`Level::Synced`] makes the writer sync its batch.
    pub level: Level,
    /// How its bodies are kept.
    pub keep: Keep,
    /// At most [`PARTS_MAX`] parts, originals and the sealed part counted.
    pub parts: Vec<Part>,
    /// What is to be sealed.
    pub originals: Vec<Original>,
}

impl Entry {
    /// An entry without exchange, session, status or parts, to be waited for at `Written`.
    pub fn new(kind: Kind, now: Now) -> Entry {
        Entry {
            kind,
            exchange: None,
            session: None,
            ordinal: 0,
            status: 0,
            now,
            level: Level::Written,
            keep: Keep::Full,
            parts: Vec::new(),
            originals: Vec::new(),
        }
    }

    /// The same entry with one more part.
    pub fn part(mut self, kind: PartKind, bytes: impl Into<Bytes>) -> Entry {
        self.parts.push(Part { kind, bytes: bytes.into() });
        self
    }

    /// The same entry with bytes that are to be sealed.
    pub fn original(mut self, kind: PartKind, bytes: Zeroizing<Vec<u8>>) -> Entry {
        self.originals.push(Original { kind, bytes });
        self
    }

    /// There may be something to seal in it.
    pub fn may_seal(&self) -> bool {
        self.keep == Keep::Sealed || !self.originals.is_empty()
    }

    /// Most rows its table of parts can have, the sealed part included.
    pub fn rows_max(&self) -> usize {
        self.parts.len() + self.originals.len() + usize::from(self.may_seal())
    }

    /// Most bytes it takes in the plain stream: every part stored, and the sealed part.
    pub fn plain_bytes(&self) -> usize {
        let parts: usize = self.parts.iter().map(|part| part.bytes.len()).sum();
        let rows = self.rows_max() * (COMPACT_ROW_BYTES + 1);
        let stored = 1 + HEADER_FIXED_BYTES + SEED_BYTES + rows + parts;
        if !self.may_seal() {
            return stored;
        }
        let originals: usize = self.originals.iter().map(|original| original.bytes.len()).sum();
        let body = if self.keep == Keep::Sealed { parts } else { 0 };
        stored + originals + sealed_bytes(self.rows_max(), body + originals)
    }
}

/// The salt of part `index` of a compact entry: SHA-256(label || seed || index).
///
/// It hides its part as a random salt does, also when the salts of other parts are disclosed: they
/// are outputs of a hash of a secret of 32 bytes at other places. Who discloses one part gives its
/// salt, never the seed.
pub fn derive_salt(seed: &[u8; SEED_BYTES], index: u8) -> [u8; SALT_BYTES] {
    let mut block = [0; SALT_LABEL.len() + SEED_BYTES + 1];
    block[..SALT_LABEL.len()].copy_from_slice(SALT_LABEL);
    block[SALT_LABEL.len()..][..SEED_BYTES].copy_from_slice(seed);
    block[SALT_LABEL.len() + SEED_BYTES] = index;
    Sha256::digest(block).into()
}

/// Writes into `out` the header `header` as it stands in a compact entry: rows without commitments.
pub fn write_compact_header(out: &mut Vec<u8>, header: &[u8]) {
    let (fixed, rows) = header.split_at(HEADER_FIXED_BYTES);
    out.extend_from_slice(fixed);
    for row in rows.chunks_exact(PART_ROW_BYTES) {
        out.extend_from_slice(&row[..COMPACT_ROW_BYTES]);
    }
}

/// Commitment to one part: SHA-256(salt || bytes).
pub fn commitment(salt: &[u8; SALT_BYTES], bytes: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(bytes).finalize().into()
}

/// Writes the header of `entry` before its table of parts, which gets `rows` rows, into `out`.
pub fn write_fixed(out: &mut Vec<u8>, entry: &Entry, sequence: u64, worker: u8, rows: usize) {
    assert!(rows <= PARTS_MAX, "rows of the table");
    let header_bytes = HEADER_FIXED_BYTES + rows * PART_ROW_BYTES;
    let mut flags = 0;
    if entry.exchange.is_some() {
        flags |= FLAG_EXCHANGE;
    }
    if entry.session.is_some() {
        flags |= FLAG_SESSION;
    }
    out.extend_from_slice(&(header_bytes as u16).to_le_bytes());
    out.push(ENTRY_VERSION);
    out.push(entry.kind as u8);
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&entry.exchange.map_or([0; 15], ExchangeId::to_bytes));
    out.extend_from_slice(&entry.session.map_or([0; 10], SessionId::to_bytes));
    out.extend_from_slice(&entry.ordinal.to_le_bytes());
    out.extend_from_slice(&entry.now.utc_ns.to_le_bytes());
    out.extend_from_slice(&entry.now.mono_ns.to_le_bytes());
    out.push(worker);
    out.extend_from_slice(&entry.status.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out.push(rows as u8);
}

/// Writes one row of the table of parts into `out`.
pub fn write_row(out: &mut Vec<u8>, kind: PartKind, salt: &[u8; SALT_BYTES], bytes: &[u8]) {
    out.push(kind as u8);
    out.push(0);
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(&commitment(salt, bytes));
}

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

    fn bytes<'a>(&self, plain: &'a [u8], spot: &Spot) -> &'a [u8] {
        let start = spot.at + if self.compact { 0 } else { SALT_BYTES };
        &plain[start..start + spot.length as usize]
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
    let standing = &plain[1..layout.header_end];
    let mut parts = Vec::with_capacity(layout.parts);
    for (index, spot) in layout.spots[..layout.parts].iter().enumerate() {
        let bytes = spot.present.then(|| layout.bytes(plain, spot));
        let stated = match (layout.compact, bytes) {
            (true, Some(bytes)) => commitment(&derive_salt(layout.seed(plain), index as u8), bytes),
            (true, None) => array(plain, spot.at),
            (false, _) => array(standing, HEADER_FIXED_BYTES + index * PART_ROW_BYTES + 6),
        };
        if !layout.compact
            && commitments
            && let Some(bytes) = bytes
            && commitment(&array(plain, spot.at), bytes) != stated
        {
            return EntryRead::Broken(EntryFault::Commitment(index as u8));
        }
        let Spot { kind_number, length, .. } = *spot;
        parts.push(PartView { kind_number, length, commitment: stated, bytes });
    }
    let header = match layout.compact {
        false => Cow::Borrowed(standing),
        true => Cow::Owned(whole_header(standing, &parts)),
    };
    let flags = u16::from_le_bytes(array(standing, 60));
    let view = EntryView {
        kind_number: standing[3],
        sequence: u64::from_le_bytes(array(standing, 4)),
        exchange: (flags & FLAG_EXCHANGE != 0)
            .then(|| ExchangeId::from_bytes(&array(standing, 12))),
        session: (flags & FLAG_SESSION != 0).then(|| SessionId::from_bytes(array(standing, 27))),
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
    EntryRead::Done(view, layout.used)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let now = Now { utc_ns: 3, mono_ns: 4 };
        let mut entry =
            Entry::new(Kind::Event, now).part(PartKind::Body, "body").part(PartKind::Detail, "");
        entry.exchange = Some(ExchangeId::new(9_000_000, 1, 2, 3));
        entry
    }

    const SEED: [u8; SEED_BYTES] = [0x5e; SEED_BYTES];

    fn header(entry: &Entry) -> Vec<u8> {
        let mut header = Vec::new();
        write_fixed(&mut header, entry, 77, 8, entry.parts.len());
        for (index, part) in entry.parts.iter().enumerate() {
            write_row(&mut header, part.kind, &derive_salt(&SEED, index as u8), &part.bytes);
        }
        header
    }

    /// The entry with each salt, as a copy holds it.
    fn sample() -> Vec<u8> {
        let entry = entry();
        let salts = [derive_salt(&SEED, 0), derive_salt(&SEED, 1)];
        let mut plain = vec![TAG_ENTRY];
        plain.extend_from_slice(&header(&entry));
        for (part, salt) in entry.parts.iter().zip(&salts) {
            plain.push(1);
            plain.extend_from_slice(salt);
            plain.extend_from_slice(&part.bytes);
        }
        plain
    }

    /// The same entry as the writer stores it.
    fn compact() -> Vec<u8> {
        let entry = entry();
        let mut plain = vec![TAG_COMPACT];
        write_compact_header(&mut plain, &header(&entry));
        plain.extend_from_slice(&SEED);
        for part in &entry.parts {
            plain.push(1);
            plain.extend_from_slice(&part.bytes);
        }
        assert_eq!(plain.len(), entry.plain_bytes());
        plain
    }

    #[test]
    fn both_forms_stand_for_the_same_header() {
        let (whole, compact) = (sample(), compact());
        let EntryRead::Done(whole, _) = read_entry(&whole, true) else { panic!() };
        let EntryRead::Done(compact, _) = read_entry(&compact, true) else { panic!() };
        assert_eq!(whole, compact);
    }

    // Mutant: a salt that is derived without the index is the same for both parts.
    #[test]
    fn salts_are_derived_as_the_format_says() {
        // Python: hashlib.sha256(b"stenograph salt v2" + b"\x5e" * 32 + bytes([i])).hexdigest()
        let expected = [
            "47ecabe562a710b93b8e993e3a6a7405f3be7e8e0a599959ab615c314277276e",
            "de75697e4ee556a4a71da99c8aeb9e319a74ff8e6bc94cbf4559a35d94ccbbb3",
        ];
        for (index, expected) in expected.into_iter().enumerate() {
            let salt = derive_salt(&SEED, index as u8);
            let hex: String = salt.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected);
        }
    }

    // Mutant: a part, seed or length that is not hashed leaves the header as it was.
    #[test]
    fn every_bit_of_a_compact_entry_is_in_its_header() {
        let plain = compact();
        let EntryRead::Done(sound, _) = read_entry(&plain, true) else { panic!() };
        for bit in 8..plain.len() * 8 {
            let mut other = plain.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            match read_entry(&other, true) {
                EntryRead::Done(view, _) => assert_ne!(view.header, sound.header, "bit {bit}"),
                EntryRead::Broken(_) | EntryRead::More(_) => {}
            }
        }
    }

    #[test]
    fn a_part_that_is_not_stored_has_its_commitment_in_a_compact_entry() {
        let plain = compact();
        let EntryRead::Done(sound, _) = read_entry(&plain, true) else { panic!() };
        let parts_start = 1 + HEADER_FIXED_BYTES + 2 * COMPACT_ROW_BYTES + SEED_BYTES;
        let mut held = plain[..parts_start].to_vec();
        held.push(0);
        held.extend_from_slice(&sound.parts[0].commitment);
        held.extend_from_slice(&plain[parts_start + 1 + 4..]);
        for cut in 1..held.len() {
            assert!(matches!(read_entry(&held[..cut], true), EntryRead::More(_)), "cut at {cut}");
        }
        let EntryRead::Done(view, used) = read_entry(&held, true) else { panic!() };
        assert_eq!((used, view.parts[0].bytes, view.parts[0].length), (held.len(), None, 4));
        assert_eq!(view.header, sound.header);
    }

    #[test]
    fn any_cut_asks_for_more_and_never_for_too_much() {
        for plain in [sample(), compact()] {
            for cut in 1..plain.len() {
                let EntryRead::More(need) = read_entry(&plain[..cut], true) else {
                    panic!("cut at {cut}");
                };
                assert!(cut < need && need <= plain.len(), "cut at {cut} asks for {need}");
                assert_eq!(measure_entry(&plain[..cut]), EntryMeasure::More(need));
            }
            let longer = [&plain[..], b"M"].concat();
            let EntryRead::Done(view, used) = read_entry(&longer, true) else { panic!() };
            assert_eq!(measure_entry(&longer), EntryMeasure::Done(used));
            assert_eq!((used, view.sequence, view.worker), (plain.len(), 77, 8));
            assert_eq!(view.part(PartKind::Body), Some(&b"body"[..]));
        }
    }

    // Mutant: a commitment that is not compared lets an exchanged body or salt through.
    #[test]
    fn bodies_salts_and_commitments_belong_together() {
        let plain = sample();
        let parts_start = 1 + HEADER_FIXED_BYTES + 2 * PART_ROW_BYTES;
        let rows_start = 1 + HEADER_FIXED_BYTES;
        for at in (parts_start..plain.len()).chain(rows_start + 6..rows_start + PART_ROW_BYTES) {
            let mut other = plain.clone();
            other[at] ^= 0x80;
            let read = read_entry(&other, true);
            let refused = matches!(
                read,
                EntryRead::Broken(EntryFault::Commitment(_) | EntryFault::Presence(_))
            );
            assert!(refused, "byte {at}: {read:?}");
        }
    }

    #[test]
    fn a_part_can_be_withheld_while_the_header_stays() {
        let plain = sample();
        let parts_start = 1 + HEADER_FIXED_BYTES + 2 * PART_ROW_BYTES;
        let mut held = plain[..parts_start].to_vec();
        held.push(0);
        held.extend_from_slice(&plain[parts_start + 1 + SALT_BYTES + 4..]);
        let EntryRead::Done(view, used) = read_entry(&held, true) else { panic!() };
        assert_eq!((used, view.parts[0].bytes, view.parts[0].length), (held.len(), None, 4));
        assert_eq!(view.parts[1].bytes, Some(&b""[..]));
    }

    #[test]
    fn headers_that_do_not_fit_are_refused() {
        for (at, value) in [(1, 0xff), (3, 9), (61, 4), (62, 1), (63, 17), (65, 1)] {
            let mut plain = sample();
            plain[at] = value;
            assert!(matches!(read_entry(&plain, true), EntryRead::Broken(_)), "byte {at}");
        }
        let mut plain = sample();
        // An exchange id without its flag.
        plain[61] = 0;
        assert!(matches!(read_entry(&plain, true), EntryRead::Broken(EntryFault::Flags(0))));
        let mut plain = sample();
        plain[1 + HEADER_FIXED_BYTES + 2..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(read_entry(&plain, true), EntryRead::Broken(EntryFault::TooLong(_))));
    }
}
