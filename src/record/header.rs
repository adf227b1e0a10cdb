//! The segment header: the first frame of each file. Its byte table is in [`super::format`].
//!
//! Invariant: the last 32 bytes are the first value of the segment's chain, over all bytes of the
//! frame before them, so that a header proves itself even when nothing follows.

use sha2::{Digest, Sha256};

use super::format::{
    CHAIN_LABEL, FORMAT_VERSION, FORMAT_VERSIONS, HEADER_BYTES_MAX, MAGIC_HEADER, SEGMENT_MAGIC,
    SKIPPABLE_HEAD_BYTES, skippable_head,
};
use super::tree::Tree;
use crate::types::Now;

/// Bytes of the payload before the origin.
const FIXED_BYTES: usize = 138;

/// How the segment before this one ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum PreviousEnd {
    /// There is none: this is segment 0.
    None = 0,
    /// Sealed: closed in order, all of it counts.
    Sealed = 1,
    /// Kept up to a point; what follows that point is residue.
    Torn = 2,
    /// Damaged after a point, and the operator ordered to go on.
    Damaged = 3,
}

impl PreviousEnd {
    /// The word used in entries and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            PreviousEnd::None => "none",
            PreviousEnd::Sealed => "sealed",
            PreviousEnd::Torn => "torn",
            PreviousEnd::Damaged => "damaged",
        }
    }

    fn from_number(number: u8) -> Option<PreviousEnd> {
        [PreviousEnd::None, PreviousEnd::Sealed, PreviousEnd::Torn, PreviousEnd::Damaged]
            .into_iter()
            .find(|end| *end as u8 == number)
    }
}

/// What a segment says of the file before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Previous {
    /// How it ended.
    pub end: PreviousEnd,
    /// Bytes of it that count.
    pub kept_bytes: u64,
    /// Bytes after them.
    pub residue_bytes: u64,
    /// SHA-256 of those; zero when there are none.
    pub residue_digest: [u8; 32],
    /// Chain value over all kept bytes; zero for segment 0.
    pub chain: [u8; 32],
}

impl Previous {
    /// Nothing before segment 0.
    pub const NONE: Previous = Previous {
        end: PreviousEnd::None,
        kept_bytes: 0,
        residue_bytes: 0,
        residue_digest: [0; 32],
        chain: [0; 32],
    };
}

/// The header of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Name of the log, the same as the name of its key.
    pub origin: String,
    /// Number of the segment.
    pub segment: u32,
    /// The tree before the first entry of this segment.
    pub tree: Tree,
    /// When it was created.
    pub created: Now,
    /// `/proc/sys/kernel/random/boot_id`: the boot that `mono_ns` counts from.
    pub boot_id: [u8; 16],
    /// How the file before it ended.
    pub previous: Previous,
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderFault {
    /// Shorter than a header; bytes seen.
    Short(u64),
    /// Not the magic numbers of a segment.
    Magic,
    /// A version this reader does not know.
    Version(u16),
    /// A length or count does not fit the others.
    Length,
    /// A field has a value it must not have.
    Field(&'static str),
    /// The closing chain value does not match the bytes before it.
    Digest,
}

impl std::fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HeaderFault::Short(seen) => write!(f, "file is {seen} bytes, shorter than its header"),
            HeaderFault::Magic => f.write_str("file does not begin as a segment does"),
            HeaderFault::Version(seen) => {
                write!(f, "format version is {seen}, this reader knows 1 to {FORMAT_VERSION}")
            }
            HeaderFault::Length => f.write_str("lengths in the segment header do not fit"),
            HeaderFault::Field(name) => {
                write!(f, "segment header has a value that is not allowed in {name}")
            }
            HeaderFault::Digest => f.write_str("segment header does not match its own digest"),
        }
    }
}

impl Header {
    /// The header frame and the first value of the chain.
    pub fn write(&self) -> (Vec<u8>, [u8; 32]) {
        let origin = self.origin.as_bytes();
        assert!(!origin.is_empty() && origin.len() <= 255, "origin of 1 to 255 bytes");
        let peaks = self.tree.peaks();
        let payload_bytes = FIXED_BYTES + origin.len() + 32 * peaks.len() + 32;
        let mut out = Vec::with_capacity(SKIPPABLE_HEAD_BYTES + payload_bytes);
        out.extend_from_slice(&skippable_head(MAGIC_HEADER, payload_bytes));
        out.extend_from_slice(SEGMENT_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.push(self.previous.end as u8);
        out.push(origin.len() as u8);
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.tree.size().to_le_bytes());
        out.extend_from_slice(&self.created.utc_ns.to_le_bytes());
        out.extend_from_slice(&self.created.mono_ns.to_le_bytes());
        out.extend_from_slice(&self.boot_id);
        out.extend_from_slice(&self.previous.kept_bytes.to_le_bytes());
        out.extend_from_slice(&self.previous.residue_bytes.to_le_bytes());
        out.extend_from_slice(&self.previous.residue_digest);
        out.extend_from_slice(&self.previous.chain);
        out.push(peaks.len() as u8);
        out.push(0);
        out.extend_from_slice(origin);
        for peak in peaks {
            out.extend_from_slice(peak);
        }
        let chain = first_chain(&out);
        out.extend_from_slice(&chain);
        (out, chain)
    }

    /// Bytes of the whole header frame, read from its first [`SKIPPABLE_HEAD_BYTES`].
    pub fn frame_bytes(head: &[u8; SKIPPABLE_HEAD_BYTES]) -> Result<usize, HeaderFault> {
        let magic = u32::from_le_bytes(head[..4].try_into().expect("4 bytes"));
        if magic != MAGIC_HEADER {
            return Err(HeaderFault::Magic);
        }
        let payload = u32::from_le_bytes(head[4..].try_into().expect("4 bytes")) as usize;
        let bytes = SKIPPABLE_HEAD_BYTES + payload;
        if payload < FIXED_BYTES + 1 + 32 || bytes > HEADER_BYTES_MAX {
            return Err(HeaderFault::Length);
        }
        Ok(bytes)
    }

    /// Format version of a header frame that was read.
    pub fn version(frame: &[u8]) -> u16 {
        let at = SKIPPABLE_HEAD_BYTES + SEGMENT_MAGIC.len();
        u16::from_le_bytes([frame[at], frame[at + 1]])
    }

    /// Reads a whole header frame; gives the first value of the chain too.
    pub fn read(frame: &[u8]) -> Result<(Header, [u8; 32]), HeaderFault> {
        let Some(head) = frame.first_chunk::<SKIPPABLE_HEAD_BYTES>() else {
            return Err(HeaderFault::Short(frame.len() as u64));
        };
        if Header::frame_bytes(head)? != frame.len() {
            return Err(HeaderFault::Length);
        }
        let at = |start: usize| SKIPPABLE_HEAD_BYTES + start;
        let u64_at = |start: usize| {
            u64::from_le_bytes(frame[at(start)..at(start) + 8].try_into().expect("8 bytes"))
        };
        let digest_at = |start: usize| -> [u8; 32] {
            frame[at(start)..at(start) + 32].try_into().expect("32 bytes")
        };
        if &frame[at(0)..at(8)] != SEGMENT_MAGIC {
            return Err(HeaderFault::Magic);
        }
        let version = u16::from_le_bytes([frame[at(8)], frame[at(9)]]);
        if !FORMAT_VERSIONS.contains(&version) {
            return Err(HeaderFault::Version(version));
        }
        let origin_bytes = frame[at(11)] as usize;
        let peaks_count = frame[at(136)] as usize;
        if frame.len() != at(FIXED_BYTES + origin_bytes + 32 * peaks_count + 32) {
            return Err(HeaderFault::Length);
        }
        let (covered, stated) = frame.split_at(frame.len() - 32);
        let chain = first_chain(covered);
        if stated != chain {
            return Err(HeaderFault::Digest);
        }
        let end = PreviousEnd::from_number(frame[at(10)]).ok_or(HeaderFault::Field("end"))?;
        if frame[at(137)] != 0 {
            return Err(HeaderFault::Field("reserved"));
        }
        let origin = std::str::from_utf8(&frame[at(FIXED_BYTES)..at(FIXED_BYTES + origin_bytes)])
            .ok()
            .filter(|origin| !origin.is_empty())
            .ok_or(HeaderFault::Field("origin"))?;
        let peaks = (0..peaks_count)
            .map(|index| digest_at(FIXED_BYTES + origin_bytes + 32 * index))
            .collect();
        let tree = Tree::from_peaks(u64_at(16), peaks).ok_or(HeaderFault::Field("peaks"))?;
        let segment = u32::from_le_bytes(frame[at(12)..at(16)].try_into().expect("4 bytes"));
        let previous = Previous {
            end,
            kept_bytes: u64_at(56),
            residue_bytes: u64_at(64),
            residue_digest: digest_at(72),
            chain: digest_at(104),
        };
        if (end == PreviousEnd::None) != (segment == 0)
            || (end == PreviousEnd::None && (previous != Previous::NONE || tree.size() != 0))
            || (end == PreviousEnd::Sealed && previous.residue_bytes != 0)
            || (previous.residue_bytes == 0 && previous.residue_digest != [0; 32])
        {
            return Err(HeaderFault::Field("previous"));
        }
        let header = Header {
            origin: origin.to_owned(),
            segment,
            tree,
            created: Now { utc_ns: u64_at(24), mono_ns: u64_at(32) },
            boot_id: frame[at(40)..at(56)].try_into().expect("16 bytes"),
            previous,
        };
        Ok((header, chain))
    }
}

/// First value of a segment's chain: SHA-256(label || header frame without its last 32 bytes).
fn first_chain(covered: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(CHAIN_LABEL).chain_update(covered).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tree::leaf_hash;

    fn sample() -> Header {
        let mut tree = Tree::new();
        (0..11u8).for_each(|leaf| tree.append(leaf_hash(&[leaf])));
        Header {
            origin: "log.example.com/a".into(),
            segment: 7,
            tree,
            created: Now { utc_ns: 1, mono_ns: 2 },
            boot_id: [9; 16],
            previous: Previous {
                end: PreviousEnd::Torn,
                kept_bytes: 100,
                residue_bytes: 5,
                residue_digest: [4; 32],
                chain: [8; 32],
            },
        }
    }

    #[test]
    fn survives_writing_and_reading() {
        let header = sample();
        let (bytes, chain) = header.write();
        assert_eq!(Header::read(&bytes), Ok((header, chain)));
    }

    // Mutant: leaving `first_chain` unchecked lets flips in times and ids through.
    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let (bytes, _) = sample().write();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::read(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Header::read(&bytes[..len]).is_err(), "cut at {len}");
        }
    }
}
