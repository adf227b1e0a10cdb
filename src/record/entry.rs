//! Entries and their parts: what a worker fills in, the byte table of the header, and the view a
//! reader gets. The tables are in [`super::format`].
//!
//! Invariant: a header is a function of the entry alone, it holds lengths and salted commitments of
//! the parts and never their bytes, and it is at most [`ENTRY_HEADER_BYTES_MAX`] long.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::handle::Level;
use super::seal::sealed_bytes;
use crate::limits::ENTRY_HEADER_BYTES_MAX;
use crate::types::{ExchangeId, Now, SessionId};

mod read;

pub use read::{
    EntryFault, EntryMeasure, EntryRead, EntryView, PartView, measure_entry, read_entries,
    read_entry,
};

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
/// Starts the hash that derives a salt.
const SALT_LABEL: &[u8; 18] = b"stenograph salt v2";
/// What is hashed for a salt: label, seed and index. Bound: 55 bytes are one block of SHA-256.
pub const SALT_MESSAGE_BYTES: usize = SALT_LABEL.len() + SEED_BYTES + 1;
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
        let has_body = || self.parts.iter().any(|part| part.kind == PartKind::Body);
        !self.originals.is_empty() || (self.keep == Keep::Sealed && has_body())
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
    Sha256::digest(salt_message(seed, index)).into()
}

/// What [`derive_salt`] hashes.
pub fn salt_message(seed: &[u8; SEED_BYTES], index: u8) -> [u8; SALT_MESSAGE_BYTES] {
    let mut message = [index; SALT_MESSAGE_BYTES];
    message[..SALT_LABEL.len()].copy_from_slice(SALT_LABEL);
    message[SALT_LABEL.len()..][..SEED_BYTES].copy_from_slice(seed);
    message
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
    write_row_open(out, kind, bytes);
    let at = out.len() - COMMITMENT_BYTES;
    out[at..].copy_from_slice(&commitment(salt, bytes));
}

/// The same with zeros where the commitment belongs.
pub fn write_row_open(out: &mut Vec<u8>, kind: PartKind, bytes: &[u8]) {
    out.push(kind as u8);
    out.push(0);
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; COMMITMENT_BYTES]);
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
