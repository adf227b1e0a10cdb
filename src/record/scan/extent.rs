//! The chain over the bytes behind the last chain point.
//!
//! The bytes are kept and hashed at the next point, beside the entries between the two: many messages
//! at once are cheaper, see [`crate::record::hash`].

use sha2::{Digest, Sha256};

use crate::record::hash::Message;

/// Bytes kept; from there on they are hashed as they come. Bound: a flush of usual size compresses to
/// a tenth of this.
const BEHIND_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, Clone, Default)]
pub(super) struct Extent {
    /// File offset of the point.
    pub(super) start: u64,
    /// Value of the chain there.
    chain: [u8; 32],
    /// The value that was computed, where another is stated.
    other: Option<[u8; 32]>,
    /// Bytes behind the point.
    behind: Vec<u8>,
    /// Where they are too many to keep: what they hash to so far, from both values.
    long: Option<(Sha256, Option<Sha256>)>,
}

impl Extent {
    /// From now on the bytes are those behind the point at `start`.
    pub(super) fn begin(&mut self, chain: [u8; 32], start: u64) {
        self.start = start;
        self.chain = chain;
        self.other = None;
        self.behind.clear();
        self.long = None;
    }

    /// The value that was computed for the point is another than the one that is stated there: the
    /// next point shows which of them is wrong.
    pub(super) fn differs(&mut self, computed: [u8; 32]) {
        debug_assert!(self.long.is_none(), "told right behind the point");
        self.other = Some(computed);
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        if self.long.is_none() && self.behind.len() + bytes.len() > BEHIND_BYTES_MAX {
            let from = |chain| Sha256::new().chain_update(chain).chain_update(&self.behind);
            self.long = Some((from(self.chain), self.other.map(from)));
            self.behind.clear();
        }
        let Some((hash, other)) = &mut self.long else {
            self.behind.extend_from_slice(bytes);
            return;
        };
        hash.update(bytes);
        if let Some(other) = other {
            other.update(bytes);
        }
    }

    /// What has to be hashed for the value here; `None` where it was hashed already.
    pub(super) fn message(&self) -> Option<Message<'_>> {
        self.long.is_none().then_some(Message { head: &self.chain, body: &self.behind })
    }

    /// The value of the chain here.
    pub(super) fn digest(&self) -> [u8; 32] {
        match &self.long {
            Some((hash, _)) => hash.clone().finalize().into(),
            None => {
                Sha256::new().chain_update(self.chain).chain_update(&self.behind).finalize().into()
            }
        }
    }

    /// The same from the other value of the last point.
    pub(super) fn digest_other(&self) -> Option<[u8; 32]> {
        if let Some((_, other)) = &self.long {
            return Some(other.clone()?.finalize().into());
        }
        let front = Sha256::new().chain_update(self.other?);
        Some(front.chain_update(&self.behind).finalize().into())
    }

    /// Becomes a copy of `other`, in the memory it has.
    pub(super) fn copy_from(&mut self, from: &Extent) {
        self.begin(from.chain, from.start);
        self.other = from.other;
        self.behind.extend_from_slice(&from.behind);
        self.long.clone_from(&from.long);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Mutants: the bytes kept so far left out when they become too many; the other value dropped there.
    #[test]
    fn many_bytes_hash_to_what_few_do() {
        let bytes: Vec<u8> =
            (0..BEHIND_BYTES_MAX as u32 + 70_000).map(|at| (at >> 3) as u8).collect();
        for taken in [0, 1, 65_536, BEHIND_BYTES_MAX, BEHIND_BYTES_MAX + 1, bytes.len()] {
            let mut extent = Extent::default();
            extent.begin([7; 32], 5);
            extent.differs([8; 32]);
            for piece in bytes[..taken].chunks(60_000) {
                extent.add(piece);
            }
            let of = |front: u8| -> [u8; 32] {
                Sha256::new()
                    .chain_update([front; 32])
                    .chain_update(&bytes[..taken])
                    .finalize()
                    .into()
            };
            assert_eq!(extent.digest(), of(7), "{taken}");
            assert_eq!(extent.digest_other(), Some(of(8)), "{taken}");
            assert_eq!(extent.message().is_some(), taken <= BEHIND_BYTES_MAX, "{taken}");
            let mut copy = Extent::default();
            copy.copy_from(&extent);
            assert_eq!((copy.digest(), copy.digest_other()), (of(7), Some(of(8))), "{taken}");
            extent.begin([9; 32], 6);
            assert_eq!(
                (extent.digest(), extent.digest_other()),
                (Sha256::digest([9; 32]).into(), None)
            );
        }
    }
}
