//! The log's key changes: the entry that says so, signed by both keys, and which key signs which
//! segment. The form and the rules of trust are in [`super::format`].

use std::io::{self, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::disk::Files;
use super::entry::{
    EntryMeasure, EntryRead, Kind, PartKind, TAG_COMPACT, TAG_ENTRY, TAG_MARK, measure_entry,
    read_entry,
};
use super::format::{
    DATA_FRAME_HEAD, MARK_BYTES, ROTATION_VERSION_MIN, SKIPPABLE_HEAD_BYTES, WINDOW_LOG,
    segment_name,
};
use super::header::Header;
use super::keys::{LogKey, VerifierKey, base64_read};
use super::scan::BLOCK_BYTES_MAX;

/// Plain bytes at the front of a segment in which a rotation is looked for. Bound: the writer's own
/// first flush, a start entry and what belongs to it.
const FLUSH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A change of the log's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The key before.
    pub old: VerifierKey,
    /// The key from here on.
    pub new: VerifierKey,
    /// Entries before the segment in which it stands.
    pub size: u64,
    /// Root of the tree of those.
    pub root: [u8; 32],
}

impl Rotation {
    /// What both keys sign.
    pub fn statement(&self) -> String {
        format!(
            "stenograph key rotation v1\n{}\n{}\n{}\n{}\n{}\n",
            self.old.name(),
            self.size,
            STANDARD.encode(self.root),
            self.old,
            self.new
        )
    }

    /// The detail part of the entry.
    pub fn sign(old: &LogKey, new: &LogKey, size: u64, root: [u8; 32]) -> Value {
        let (old_verifier, new_verifier) = (old.verifier().clone(), new.verifier().clone());
        let rotation = Rotation { old: old_verifier, new: new_verifier, size, root };
        let statement = rotation.statement();
        let signature = |key: &LogKey| STANDARD.encode(key.sign(statement.as_bytes()));
        json!({
            "old": rotation.old.to_string(),
            "new": rotation.new.to_string(),
            "size": size,
            "statement": statement,
            "old_signature": signature(old),
            "new_signature": signature(new),
        })
    }

    /// Reads the detail part; the error says what is wrong. Both signatures are good when it is read.
    pub fn read(detail: &[u8]) -> Result<Rotation, &'static str> {
        let detail: Value =
            serde_json::from_slice(detail).map_err(|_| "key rotation is no JSON object")?;
        let text = |name: &str| detail[name].as_str().ok_or("key rotation lacks a field");
        let key = |name: &str| {
            VerifierKey::parse(text(name)?).map_err(|_| "key rotation names a key that is none")
        };
        let (old, new, statement) = (key("old")?, key("new")?, text("statement")?);
        let root = statement.split('\n').nth(3).and_then(base64_read);
        let root = root.and_then(|root| root.try_into().ok());
        let root = root.ok_or("statement of the key rotation has no root")?;
        let size = detail["size"].as_u64().ok_or("key rotation lacks a field")?;
        let rotation = Rotation { old, new, size, root };
        if rotation.statement() != statement || rotation.old.name() != rotation.new.name() {
            return Err("statement of the key rotation is not that of its fields");
        }
        for (key, name) in [(&rotation.old, "old_signature"), (&rotation.new, "new_signature")] {
            let signature = base64_read(text(name)?).and_then(|bytes| bytes.try_into().ok());
            if !signature.is_some_and(|signature| key.verify(statement.as_bytes(), &signature)) {
                return Err("key rotation is not signed by both keys");
            }
        }
        Ok(rotation)
    }
}

/// Which key signs which segment, followed from one that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPlan {
    /// (first segment, key), in order; never empty.
    keys: Vec<(u32, VerifierKey)>,
    /// Segments before this one may be signed by an earlier key.
    sure_from: u32,
    /// This segment and those behind it may be signed by a later key.
    sure_before: Option<u32>,
}

impl KeyPlan {
    /// One key for all segments.
    pub fn one(key: VerifierKey) -> KeyPlan {
        KeyPlan { keys: vec![(0, key)], sure_from: 0, sure_before: None }
    }

    /// Follows the rotations of a record from `trusted`, forwards and backwards. A rotation that is
    /// not signed by both keys, or does not follow the one before it, ends the way. Where `trusted` does
    /// not occur, it stands for all segments. A file that cannot be read may hold a rotation: what is
    /// behind it, up to a rotation that goes on from the same key, is not [`KeyPlan::is_sure`].
    pub fn follow(files: &dyn Files, segments: &[u32], trusted: &VerifierKey) -> KeyPlan {
        let mut plan = KeyPlan { keys: Vec::new(), sure_from: 0, sure_before: None };
        let mut unread = false;
        for &segment in segments {
            let rotation = match find(files, segment) {
                Ok(Some(rotation)) => rotation,
                Ok(None) => continue,
                // That it cannot be read is told by whoever reads the segment.
                Err(_) => {
                    unread = true;
                    plan.sure_before.get_or_insert(segment);
                    continue;
                }
            };
            match plan.keys.last() {
                // Said again after a start that was cut off.
                Some((_, key)) if *key == rotation.new => {}
                Some((_, key)) if *key != rotation.old => break,
                Some(_) => plan.keys.push((segment, rotation.new)),
                None => {
                    plan.sure_from = if unread { segment } else { 0 };
                    plan.keys.extend([(0, rotation.old), (segment, rotation.new)]);
                }
            }
            plan.sure_before = None;
        }
        if plan.keys.iter().any(|(_, key)| key == trusted) {
            return plan;
        }
        let sure_before = unread.then_some(0);
        KeyPlan { sure_before, ..KeyPlan::one(trusted.clone()) }
    }

    /// The key that signs this segment.
    pub fn of(&self, segment: u32) -> &VerifierKey {
        let after = self.keys.partition_point(|(first, _)| *first <= segment);
        &self.keys[after.saturating_sub(1)].1
    }

    /// No file that may say otherwise was left unread.
    pub fn is_sure(&self, segment: u32) -> bool {
        segment >= self.sure_from && self.sure_before.is_none_or(|before| segment < before)
    }

    /// All keys, oldest first.
    pub fn keys(&self) -> impl Iterator<Item = &VerifierKey> {
        self.keys.iter().map(|(_, key)| key)
    }
}

/// The plain bytes of a data frame, block by block: what is broken behind a block hides nothing of it.
struct Blocks {
    input: Box<dyn Read>,
    zstd: DCtx<'static>,
}

impl Blocks {
    /// `input` stands at the beginning of the frame.
    fn begin(mut input: Box<dyn Read>) -> io::Result<Blocks> {
        let mut zstd = DCtx::create();
        zstd.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(undecoded)?;
        let mut head = [0; DATA_FRAME_HEAD.len()];
        input.read_exact(&mut head)?;
        let mut blocks = Blocks { input, zstd };
        blocks.decode(&head, &mut Vec::new())?;
        Ok(blocks)
    }

    /// Adds the next block to `plain`; false at the end of the frame.
    fn next(&mut self, plain: &mut Vec<u8>) -> io::Result<bool> {
        let mut block = vec![0; 3];
        self.input.read_exact(&mut block)?;
        let (last, kind) = (block[0] & 1 == 1, block[0] >> 1 & 3);
        let size = u32::from_le_bytes([block[0], block[1], block[2], 0]) >> 3;
        // RFC 8878 §3.1.1.2: a block of one byte repeated holds it once.
        block.resize(3 + if kind == 1 { 1 } else { size as usize }, 0);
        if last || size as usize > BLOCK_BYTES_MAX {
            return Ok(false);
        }
        self.input.read_exact(&mut block[3..])?;
        self.decode(&block, plain)?;
        Ok(true)
    }

    fn decode(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        let mut input = InBuffer::around(bytes);
        loop {
            plain.reserve(BLOCK_BYTES_MAX + 64);
            let (at, room) = (plain.len(), plain.capacity());
            let mut out = OutBuffer::around_pos(plain, at);
            self.zstd.decompress_stream(&mut out, &mut input).map_err(undecoded)?;
            if input.pos() == bytes.len() && plain.len() < room {
                return Ok(());
            }
        }
    }
}

fn undecoded(code: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, zstd::zstd_safe::get_error_name(code))
}

/// The rotation in the first flush of a segment. A flush that is not whole holds none: the next start
/// says it again; nor does one that is not as the format lays down, which the scan tells. An error is
/// one of the disk.
pub fn find(files: &dyn Files, segment: u32) -> io::Result<Option<Rotation>> {
    let input = files.open_at(&segment_name(segment), 0)?;
    let of_bytes = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
    match find_in(input) {
        Err(error) if of_bytes.contains(&error.kind()) => Ok(None),
        found => found,
    }
}

fn find_in(mut input: Box<dyn Read>) -> io::Result<Option<Rotation>> {
    let mut head = [0; SKIPPABLE_HEAD_BYTES];
    input.read_exact(&mut head)?;
    let bad = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let bytes = Header::frame_bytes(&head).map_err(|fault| bad(fault.to_string()))?;
    let mut frame = vec![0; bytes];
    frame[..head.len()].copy_from_slice(&head);
    input.read_exact(&mut frame[head.len()..])?;
    if Header::version(&frame) < ROTATION_VERSION_MIN {
        return Ok(None);
    }
    let mut blocks = Blocks::begin(input)?;
    let mut flush = Vec::new();
    let (mut at, mut need) = (0, 1);
    let mut found = None;
    loop {
        while flush.len() < at + need {
            if flush.len() > FLUSH_BYTES_MAX || !blocks.next(&mut flush)? {
                return Ok(None);
            }
        }
        match flush[at] {
            TAG_ENTRY | TAG_COMPACT => {}
            TAG_MARK if flush.len() >= at + MARK_BYTES => return Ok(found),
            TAG_MARK => {
                need = MARK_BYTES;
                continue;
            }
            // Anything else is told by the scan.
            _ => return Ok(None),
        }
        match measure_entry(&flush[at..]) {
            EntryMeasure::More(more) => need = more,
            EntryMeasure::Broken(_) => return Ok(None),
            EntryMeasure::Done(used) => {
                let EntryRead::Done(entry, _) = read_entry(&flush[at..], false) else {
                    return Ok(None);
                };
                // Why: only a start rotates, and a start says so first.
                if at == 0 && entry.kind() != Some(Kind::Start) {
                    return Ok(None);
                }
                if entry.kind() == Some(Kind::Rotation) && found.is_none() {
                    let detail = entry.part(PartKind::Detail).unwrap_or_default();
                    let Ok(rotation) = Rotation::read(detail) else { return Ok(None) };
                    found = Some(rotation);
                }
                at += used;
                need = 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> LogKey {
        LogKey::from_seed("log.example", &[seed; 32]).unwrap()
    }

    // Mutants: `read` that checks one signature only (either), or takes the statement for granted.
    #[test]
    fn a_rotation_needs_both_signatures_over_its_own_statement() {
        let good = Rotation::sign(&key(1), &key(2), 7, [9; 32]);
        let read = Rotation::read(good.to_string().as_bytes()).unwrap();
        assert_eq!((read.size, read.root), (7, [9; 32]));
        assert_eq!((&read.old, &read.new), (key(1).verifier(), key(2).verifier()));
        let other = Rotation::sign(&key(1), &key(3), 7, [9; 32]);
        for name in ["new", "size", "statement", "old_signature", "new_signature"] {
            let mut forged = good.clone();
            forged[name] = match name {
                "size" => json!(8),
                _ => other[name].clone(),
            };
            assert!(Rotation::read(forged.to_string().as_bytes()).is_err(), "{name}");
            forged.as_object_mut().unwrap().remove(name);
            assert!(Rotation::read(forged.to_string().as_bytes()).is_err(), "no {name}");
        }
        let renamed = LogKey::from_seed("other.example", &[2; 32]).unwrap();
        let renamed = Rotation::sign(&key(1), &renamed, 7, [9; 32]);
        assert!(Rotation::read(renamed.to_string().as_bytes()).is_err());
    }
}
