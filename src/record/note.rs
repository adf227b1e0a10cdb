//! Checkpoints: the signed statements about the tree and the chain, as C2SP signed notes. The text is
//! in [`super::format`].
//!
//! Invariant: a checkpoint is read only when writing it again gives the same bytes, so there is one
//! spelling of each.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::keys::{LogKey, VerifierKey, base64_read};

/// Largest note that is read: a text, the log's signature, and a dozen cosignatures.
pub const NOTE_BYTES_MAX: usize = 8 * 1024;
/// Most signature lines of one note.
pub const SIGNATURES_MAX: usize = 32;

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log.
    pub origin: String,
    /// Entries in the tree.
    pub size: u64,
    /// Root of the tree of that size.
    pub root: [u8; 32],
    /// Segment that the checkpoint stands in.
    pub segment: u32,
    /// Where its frame begins.
    pub offset: u64,
    /// The chain at that offset.
    pub chain: [u8; 32],
    /// UTC, ns.
    pub utc_ns: u64,
    /// It closes its segment.
    pub sealed: bool,
}

/// What is wrong with a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteFault {
    /// Not a checkpoint in its one spelling.
    Form,
    /// Signed under another name or key.
    OtherKey,
    /// The signature does not fit the text.
    Signature,
}

impl std::fmt::Display for NoteFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            NoteFault::Form => "checkpoint is not in the form of the format document",
            NoteFault::OtherKey => "checkpoint is signed by another key",
            NoteFault::Signature => "signature of the checkpoint does not fit",
        })
    }
}

/// One signature line of a note: `— <name> <base64(key hash || signature)>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine<'a> {
    /// The whole line without its line feed.
    pub line: &'a str,
    /// Name of the key.
    pub name: &'a str,
    /// First bytes of the signature: which key of that name.
    pub hash: [u8; 4],
    /// What follows them.
    pub signature: Vec<u8>,
}

/// A signed note (c2sp.org/signed-note) taken apart; nothing in it is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note<'a> {
    /// The signed text, with its last line feed.
    pub text: &'a str,
    /// At least one.
    pub signatures: Vec<SignatureLine<'a>>,
}

impl<'a> Note<'a> {
    /// Takes a note apart. Strict: UTF-8 without control characters, canonical base64, names without
    /// spaces and `+`, nothing behind the last signature.
    pub fn parse(note: &'a [u8]) -> Option<Note<'a>> {
        let note = std::str::from_utf8(note).ok().filter(|note| note.len() <= NOTE_BYTES_MAX)?;
        if note.chars().any(|c| c.is_control() && c != '\n') {
            return None;
        }
        let border = note.rfind("\n\n")?;
        let (text, lines) = (&note[..=border], note[border + 2..].strip_suffix('\n')?);
        let signatures = lines.split('\n').map(SignatureLine::parse).collect::<Option<Vec<_>>>()?;
        (border > 0 && signatures.len() <= SIGNATURES_MAX).then_some(Note { text, signatures })
    }
}

impl<'a> SignatureLine<'a> {
    /// Takes one line apart, without its line feed.
    pub fn parse(line: &'a str) -> Option<SignatureLine<'a>> {
        let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c == '+') {
            return None;
        }
        let bytes = base64_read(signature)?;
        let (hash, signature) = bytes.split_first_chunk::<4>()?;
        let (hash, signature) = (*hash, signature.to_vec());
        (!signature.is_empty()).then_some(SignatureLine { line, name, hash, signature })
    }

    /// True when `key` signed `text` so.
    pub fn is_by(&self, key: &VerifierKey, text: &str) -> bool {
        self.name == key.name()
            && self.hash == key.hash()
            && <&[u8; 64]>::try_from(&self.signature[..])
                .is_ok_and(|signature| key.verify(text.as_bytes(), signature))
    }
}

/// What every checkpoint says (c2sp.org/tlog-checkpoint), whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeHead {
    /// Name of the log.
    pub origin: String,
    /// Leaves in the tree.
    pub size: u64,
    /// Its root.
    pub root: [u8; 32],
}

impl TreeHead {
    /// Reads the first three lines of a note's text; lines behind them must not be empty.
    pub fn parse(text: &str) -> Option<TreeHead> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let origin = lines.next().filter(|origin| !origin.is_empty())?.to_owned();
        let digits = lines.next()?;
        let size: u64 = digits.parse().ok()?;
        let root = base64_read(lines.next()?)?.try_into().ok()?;
        let good = size.to_string() == digits && lines.all(|line| !line.is_empty());
        good.then_some(TreeHead { origin, size, root })
    }
}

/// Notes that stand behind each other with an empty line between, as in a witness's state file; one
/// note is the simplest case. `None` when what is left between the notes is no note.
pub fn notes(text: &str) -> Option<Vec<&str>> {
    let mut notes = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        // A note is a text without empty lines, an empty line, and lines with a dash.
        let mut end = rest.find("\n\n")? + 2;
        while let Some(line) = rest[end..].split_inclusive('\n').next() {
            if !line.starts_with('\u{2014}') {
                break;
            }
            end += line.len();
        }
        notes.push(&rest[..end]);
        rest = rest[end..].strip_prefix('\n').unwrap_or(&rest[end..]);
    }
    Some(notes)
}

/// RFC 3339, UTC, nanoseconds.
pub fn time_text(utc_ns: u64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(utc_ns)) {
        Ok(time) => format!("{time:.9}"),
        Err(_) => format!("{utc_ns}ns"),
    }
}

/// Reads a time, UTC ns.
pub fn time_read(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_nanosecond()).ok()
}

impl Checkpoint {
    /// The signed text.
    pub fn text(&self) -> String {
        format!(
            "{}\n{}\n{}\nchain {} {} {}\ntime {}\n{}",
            self.origin,
            self.size,
            STANDARD.encode(self.root),
            self.segment,
            self.offset,
            STANDARD.encode(self.chain),
            time_text(self.utc_ns),
            if self.sealed { "sealed\n" } else { "" }
        )
    }

    /// Reads the text of a checkpoint of this program.
    pub fn parse(text: &str) -> Option<Checkpoint> {
        let mut lines = text.split('\n');
        let origin = lines.next()?.to_owned();
        let size = lines.next()?.parse().ok()?;
        let root = base64_read(lines.next()?)?.try_into().ok()?;
        let mut chain = lines.next()?.strip_prefix("chain ")?.split(' ');
        let segment = chain.next()?.parse().ok()?;
        let offset = chain.next()?.parse().ok()?;
        let value = base64_read(chain.next()?)?.try_into().ok()?;
        let utc_ns = time_read(lines.next()?.strip_prefix("time ")?)?;
        let sealed = lines.next()? == "sealed";
        let checkpoint =
            Checkpoint { origin, size, root, segment, offset, chain: value, utc_ns, sealed };
        (checkpoint.text() == text).then_some(checkpoint)
    }

    /// The signed note.
    pub fn sign(&self, key: &LogKey) -> String {
        let text = self.text();
        let mut signature = key.verifier().hash().to_vec();
        signature.extend_from_slice(&key.sign(text.as_bytes()));
        format!("{text}\n\u{2014} {} {}\n", key.verifier().name(), STANDARD.encode(signature))
    }

    /// Reads a note; with a key the signature is checked, without one only its form.
    pub fn open(note: &[u8], key: Option<&VerifierKey>) -> Result<Checkpoint, NoteFault> {
        let note = std::str::from_utf8(note).map_err(|_| NoteFault::Form)?;
        let (text, signature) = note.split_once("\n\n\u{2014} ").ok_or(NoteFault::Form)?;
        let text = &note[..text.len() + 1];
        let (name, signature) = signature
            .strip_suffix('\n')
            .and_then(|line| line.split_once(' '))
            .ok_or(NoteFault::Form)?;
        let signature = base64_read(signature).ok_or(NoteFault::Form)?;
        let (hash, signature) = signature.split_first_chunk::<4>().ok_or(NoteFault::Form)?;
        let signature = <&[u8; 64]>::try_from(signature).map_err(|_| NoteFault::Form)?;
        let checkpoint = Checkpoint::parse(text).ok_or(NoteFault::Form)?;
        if name != checkpoint.origin {
            return Err(NoteFault::OtherKey);
        }
        if let Some(key) = key {
            if name != key.name() || *hash != key.hash() {
                return Err(NoteFault::OtherKey);
            }
            if !key.verify(text.as_bytes(), signature) {
                return Err(NoteFault::Signature);
            }
        }
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(sealed: bool) -> Checkpoint {
        Checkpoint {
            origin: "log.example".into(),
            size: 12,
            root: [3; 32],
            segment: 4,
            offset: 5678,
            chain: [9; 32],
            utc_ns: 1_795_000_000_123_456_789,
            sealed,
        }
    }

    // Mutant: `open` without `verify` lets flips in the text and in the signature through.
    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let key = LogKey::from_seed("log.example", &[1; 32]).unwrap();
        for sealed in [false, true] {
            let note = sample(sealed).sign(&key).into_bytes();
            assert_eq!(Checkpoint::open(&note, Some(key.verifier())), Ok(sample(sealed)));
            for bit in 0..note.len() * 8 {
                let mut flipped = note.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(Checkpoint::open(&flipped, Some(key.verifier())).is_err(), "bit {bit}");
            }
            for len in 0..note.len() {
                assert!(Checkpoint::open(&note[..len], None).is_err(), "cut at {len}");
            }
        }
    }

    // Mutants: `rfind` become `find` in `Note::parse`; names with `+` allowed; no bound on lines.
    #[test]
    fn notes_are_taken_apart_strictly() {
        let good = "a\nb\n\nc\n\n\u{2014} n.x AAAAAAA=\n\u{2014} m AQAAAAEC\n";
        let note = Note::parse(good.as_bytes()).unwrap();
        assert_eq!(note.text, "a\nb\n\nc\n");
        let names: Vec<_> = note.signatures.iter().map(|line| (line.name, line.hash)).collect();
        assert_eq!(names, [("n.x", [0; 4]), ("m", [1, 0, 0, 0])]);
        assert_eq!(note.signatures[1].signature, [1, 2]);
        let many = format!("a\n\n{}", "\u{2014} n AAAAAAA=\n".repeat(SIGNATURES_MAX + 1));
        let bad = [
            "",
            "a\n",
            "\n\n\u{2014} n AAAAAAA=\n",
            "a\n\n\u{2014} n AAAAAAA=",
            "a\n\n\u{2014} n AAAAAAA=\n\n",
            "a\n\n\u{2014} n AAAAAAB=\n",
            "a\n\n\u{2014} n AAAAAA==\n",
            "a\n\n\u{2014} n+ AAAAAAA=\n",
            "a\n\n\u{2014}  AAAAAAA=\n",
            "a\n\n- n AAAAAAA=\n",
            "a\r\n\n\u{2014} n AAAAAAA=\n",
            &many,
        ];
        for bad in bad {
            assert_eq!(Note::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn tree_heads_of_other_logs_are_read() {
        let root = STANDARD.encode([5; 32]);
        let head = TreeHead::parse(&format!("x/y\n7\n{root}\nmore\n")).unwrap();
        assert_eq!(head, TreeHead { origin: "x/y".into(), size: 7, root: [5; 32] });
        for bad in [
            format!("\n7\n{root}\n"),
            format!("x\n07\n{root}\n"),
            format!("x\n+7\n{root}\n"),
            format!("x\n7\n{root}"),
            format!("x\n7\n{root}\n\nmore\n"),
            format!("x\n7\n{}\n", STANDARD.encode([5; 31])),
        ] {
            assert_eq!(TreeHead::parse(&bad), None, "{bad:?}");
        }
    }

    #[test]
    fn notes_behind_each_other_are_parted() {
        let (one, two) = ("a\n\n\u{2014} n AAAAAAA=\n", "b\n\n\u{2014} n AA=\n\u{2014} m AA=\n");
        assert_eq!(notes(&format!("{one}\n{two}")).unwrap(), [one, two]);
        assert_eq!(notes(one).unwrap(), [one]);
        assert_eq!(notes("").unwrap(), [""; 0]);
        assert_eq!(notes("a\n"), None);
    }

    // Mutant: `parse` without the comparison with `text()` takes every one of these.
    #[test]
    fn another_spelling_is_no_checkpoint() {
        let key = LogKey::from_seed("log.example", &[1; 32]).unwrap();
        let note = sample(true).sign(&key);
        let spellings = [
            ("\n12\n", "\n+12\n"),
            ("\n12\n", "\n012\n"),
            ("chain 4 ", "chain +4 "),
            ("=\ntime", "= more\ntime"),
            ("Z\nsealed", "z\nsealed"),
            ("Z\nsealed", "+00:00\nsealed"),
            ("sealed\n", "sealed\nmore\n"),
            ("sealed\n", "open\n"),
        ];
        let read = spellings.map(|(from, to)| {
            let other = note.replacen(from, to, 1);
            assert_ne!(other, note);
            Checkpoint::open(other.as_bytes(), None).map(|_| to)
        });
        assert_eq!(read, [Err(NoteFault::Form); 8]);
    }

    #[test]
    fn another_key_of_the_same_name_is_refused() {
        let key = LogKey::from_seed("log.example", &[1; 32]).unwrap();
        let other = LogKey::from_seed("log.example", &[2; 32]).unwrap();
        let note = sample(false).sign(&other).into_bytes();
        let read = Checkpoint::open(&note, Some(key.verifier()));
        assert_eq!(read, Err(NoteFault::OtherKey));
    }

    #[test]
    fn times_have_nine_digits() {
        assert_eq!(time_text(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(time_text(1_795_000_000_120_000_000), "2026-11-18T11:06:40.120000000Z");
        assert_eq!(time_read("2026-11-18T11:06:40.120000000Z"), Some(1_795_000_000_120_000_000));
    }
}
