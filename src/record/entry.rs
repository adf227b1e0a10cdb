//! Entries and their parts: what a worker fills in, the byte table of the header, and the view a
//! reader gets. The tables are in [`super::format`].
//!
//! Invariant: a header is a function of the entry alone, it holds lengths and salted commitments of
//! the parts and never their bytes, and it is at most [`ENTRY_HEADER_BYTES_MAX`] long.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::handle::Level;
use crate::limits::ENTRY_HEADER_BYTES_MAX;
use crate::types::{ExchangeId, Now, SessionId};

/// First byte of an entry in the plain stream.
pub const TAG_ENTRY: u8 = b'E';
/// First byte of a mark in the plain stream.
pub const TAG_MARK: u8 = b'M';
/// Version of the entry header.
pub const ENTRY_VERSION: u8 = 1;
/// Header bytes before the table of parts.
pub const HEADER_FIXED_BYTES: usize = 63;
/// One row of the table of parts: kind, flags, length, commitment.
pub const PART_ROW_BYTES: usize = 38;
/// Most parts of one entry. Bound: 63 + 16 * 38 = 671 bytes of header, under 1024.
pub const PARTS_MAX: usize = 16;
const _: () = assert!(HEADER_FIXED_BYTES + PARTS_MAX * PART_ROW_BYTES <= ENTRY_HEADER_BYTES_MAX);
/// Random bytes in front of each part, hashed with it.
pub const SALT_BYTES: usize = 32;
/// Largest entry in the plain stream. Bound: a reader never holds more than this for one entry; an
/// answer is at most 16 MiB and its head 32 KiB.
pub const ENTRY_BYTES_MAX: usize = 64 * 1024 * 1024;

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
    /// Encrypted to the auditors.
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
    /// At most [`PARTS_MAX`] parts.
    pub parts: Vec<Part>,
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
        }
    }

    /// The same entry with one more part.
    pub fn part(mut self, kind: PartKind, bytes: impl Into<Bytes>) -> Entry {
        self.parts.push(Part { kind, bytes: bytes.into() });
        self
    }

    /// Bytes it takes in the plain stream.
    pub fn plain_bytes(&self) -> usize {
        let parts: usize = self.parts.iter().map(|part| part.bytes.len()).sum();
        1 + HEADER_FIXED_BYTES + self.parts.len() * (PART_ROW_BYTES + 1 + SALT_BYTES) + parts
    }
}

/// Commitment to one part: SHA-256(salt || bytes).
pub fn commitment(salt: &[u8; SALT_BYTES], bytes: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(bytes).finalize().into()
}

/// Writes the header of `entry` into `out`; `salts` has one salt for each part.
pub fn write_header(
    out: &mut Vec<u8>,
    entry: &Entry,
    sequence: u64,
    worker: u8,
    salts: &[[u8; SALT_BYTES]],
) {
    assert!(entry.parts.len() == salts.len() && salts.len() <= PARTS_MAX, "parts and salts");
    let header_bytes = HEADER_FIXED_BYTES + salts.len() * PART_ROW_BYTES;
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
    out.push(salts.len() as u8);
    for (part, salt) in entry.parts.iter().zip(salts) {
        out.push(part.kind as u8);
        out.push(0);
        out.extend_from_slice(&(part.bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(&commitment(salt, &part.bytes));
    }
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
    /// The header bytes: the leaf of the tree is their RFC 6962 hash.
    pub header: &'a [u8],
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

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("length is N")
}

/// Reads an entry that begins with its tag at `plain[0]`. Checks everything but the sequence, and the
/// commitments only when `commitments` says so.
pub fn read_entry(plain: &[u8], commitments: bool) -> EntryRead<'_> {
    debug_assert!(plain.first().is_none_or(|&tag| tag == TAG_ENTRY));
    let header_start = 1;
    if plain.len() < header_start + HEADER_FIXED_BYTES {
        return EntryRead::More(header_start + HEADER_FIXED_BYTES);
    }
    let fixed = &plain[header_start..];
    let header_bytes = u16::from_le_bytes(array(fixed, 0));
    let parts_count = fixed[62];
    let flags = u16::from_le_bytes(array(fixed, 60));
    if fixed[2] != ENTRY_VERSION {
        return EntryRead::Broken(EntryFault::Version(fixed[2]));
    }
    if parts_count as usize > PARTS_MAX {
        return EntryRead::Broken(EntryFault::Parts(parts_count));
    }
    if header_bytes as usize != HEADER_FIXED_BYTES + parts_count as usize * PART_ROW_BYTES {
        return EntryRead::Broken(EntryFault::HeaderLength(header_bytes));
    }
    let exchange_bytes: [u8; 15] = array(fixed, 12);
    let session_bytes: [u8; 10] = array(fixed, 27);
    let has_exchange = flags & FLAG_EXCHANGE != 0;
    let has_session = flags & FLAG_SESSION != 0;
    if flags & !FLAGS_KNOWN != 0
        || (!has_exchange && exchange_bytes != [0; 15])
        || (!has_session && session_bytes != [0; 10])
    {
        return EntryRead::Broken(EntryFault::Flags(flags));
    }
    let parts_start = header_start + header_bytes as usize;
    if plain.len() < parts_start {
        return EntryRead::More(parts_start);
    }
    let header = &plain[header_start..parts_start];
    let mut rows = Vec::with_capacity(parts_count as usize);
    let mut needed = parts_start as u64;
    for index in 0..parts_count as usize {
        let row = &header[HEADER_FIXED_BYTES + index * PART_ROW_BYTES..];
        if row[1] != 0 {
            return EntryRead::Broken(EntryFault::Flags(u16::from(row[1])));
        }
        let length = u32::from_le_bytes(array(row, 2));
        rows.push((row[0], length, array::<32>(row, 6)));
        needed += 1;
    }
    let longest: u64 = rows.iter().map(|row| u64::from(row.1) + SALT_BYTES as u64).sum();
    if needed + longest > ENTRY_BYTES_MAX as u64 {
        return EntryRead::Broken(EntryFault::TooLong(needed + longest));
    }
    let mut parts = Vec::with_capacity(rows.len());
    let mut at = parts_start;
    // Everything behind `at` still needs at least one byte for each part.
    for (index, &(kind_number, length, stated)) in rows.iter().enumerate() {
        let Some(&presence) = plain.get(at) else {
            return EntryRead::More(at + rows.len() - index);
        };
        at += 1;
        let bytes = match presence {
            0 => None,
            1 => {
                let end = at + SALT_BYTES + length as usize;
                if plain.len() < end {
                    return EntryRead::More(end + rows.len() - index - 1);
                }
                let salt = array(plain, at);
                let bytes = &plain[at + SALT_BYTES..end];
                at = end;
                Some((salt, bytes))
            }
            other => return EntryRead::Broken(EntryFault::Presence(other)),
        };
        parts.push((kind_number, length, stated, bytes));
    }
    let mut views = Vec::with_capacity(parts.len());
    for (index, (kind_number, length, stated, bytes)) in parts.into_iter().enumerate() {
        if let Some((salt, bytes)) = bytes
            && commitments
            && commitment(&salt, bytes) != stated
        {
            return EntryRead::Broken(EntryFault::Commitment(index as u8));
        }
        let bytes = bytes.map(|(_, bytes)| bytes);
        views.push(PartView { kind_number, length, commitment: stated, bytes });
    }
    let view = EntryView {
        header,
        kind_number: header[3],
        sequence: u64::from_le_bytes(array(header, 4)),
        exchange: has_exchange.then(|| ExchangeId::from_bytes(&exchange_bytes)),
        session: has_session.then(|| SessionId::from_bytes(session_bytes)),
        ordinal: u32::from_le_bytes(array(header, 37)),
        now: Now {
            utc_ns: u64::from_le_bytes(array(header, 41)),
            mono_ns: u64::from_le_bytes(array(header, 49)),
        },
        worker: header[57],
        status: u16::from_le_bytes(array(header, 58)),
        parts: views,
    };
    EntryRead::Done(view, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let now = Now { utc_ns: 3, mono_ns: 4 };
        let mut entry =
            Entry::new(Kind::Event, now).part(PartKind::Body, "body").part(PartKind::Detail, "");
        entry.exchange = Some(ExchangeId::new(9_000_000, 1, 2, 3));
        let salts = [[5; SALT_BYTES], [6; SALT_BYTES]];
        let mut plain = vec![TAG_ENTRY];
        write_header(&mut plain, &entry, 77, 8, &salts);
        for (part, salt) in entry.parts.iter().zip(&salts) {
            plain.push(1);
            plain.extend_from_slice(salt);
            plain.extend_from_slice(&part.bytes);
        }
        assert_eq!(plain.len(), entry.plain_bytes());
        plain
    }

    #[test]
    fn any_cut_asks_for_more_and_never_for_too_much() {
        let plain = sample();
        for cut in 1..plain.len() {
            let EntryRead::More(need) = read_entry(&plain[..cut], true) else {
                panic!("cut at {cut}");
            };
            assert!(cut < need && need <= plain.len(), "cut at {cut} asks for {need}");
        }
        let longer = [&plain[..], b"M"].concat();
        let EntryRead::Done(view, used) = read_entry(&longer, true) else { panic!() };
        assert_eq!((used, view.sequence, view.worker), (plain.len(), 77, 8));
        assert_eq!(view.part(PartKind::Body), Some(&b"body"[..]));
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
