//! The Merkle tree of RFC 6962 §2.1 over entry headers, as it grows: only the roots of its complete
//! subtrees are kept. A [`Range`] keeps the same for a stretch of leaves, and makes proofs; [`proof`]
//! checks them.
//!
//! Invariant: `peaks` has one hash for each bit that is set in `size`, largest subtree first.

use sha2::{Digest, Sha256};

use super::hash::{Message, digest_all};

pub mod proof;
mod range;

pub use range::Range;

/// Stands in front of a leaf that is hashed (RFC 6962 §2.1).
pub const LEAF_PREFIX: [u8; 1] = [0];
/// Stands in front of two nodes that are hashed (RFC 6962 §2.1).
pub const NODE_PREFIX: [u8; 1] = [1];

/// RFC 6962 §2.1: SHA-256(0x00 || leaf).
pub fn leaf_hash(leaf: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(LEAF_PREFIX).chain_update(leaf).finalize().into()
}

/// RFC 6962 §2.1: SHA-256(0x01 || left || right).
pub fn node_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(NODE_PREFIX).chain_update(left).chain_update(right).finalize().into()
}

/// A tree that leaves are appended to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    size: u64,
    peaks: Vec<[u8; 32]>,
}

impl Tree {
    /// The empty tree.
    pub fn new() -> Tree {
        Tree::default()
    }

    /// The tree of `size` leaves with these peaks; `None` when their number does not fit the size.
    pub fn from_peaks(size: u64, peaks: Vec<[u8; 32]>) -> Option<Tree> {
        (peaks.len() == size.count_ones() as usize).then_some(Tree { size, peaks })
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, largest first.
    pub fn peaks(&self) -> &[[u8; 32]] {
        &self.peaks
    }

    /// Appends a leaf by its hash.
    pub fn append(&mut self, leaf: [u8; 32]) {
        let mut hash = leaf;
        let mut size = self.size;
        while size & 1 == 1 {
            let left = self.peaks.pop().expect("one peak for each set bit");
            hash = node_hash(&left, &hash);
            size >>= 1;
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Appends leaves by their hashes, level by level; `leaves` is scratch afterwards.
    pub fn append_all(&mut self, leaves: &mut Vec<[u8; 32]>) {
        let mut left = self.size;
        self.size += leaves.len() as u64;
        let mut peaks = Vec::new();
        let mut nodes = Vec::with_capacity(leaves.len() / 2 + 1);
        while !leaves.is_empty() {
            if left & 1 == 1 {
                leaves.insert(0, self.peaks.pop().expect("one peak for each set bit"));
            }
            left >>= 1;
            if leaves.len() % 2 == 1 {
                peaks.extend(leaves.pop());
            }
            let pairs = leaves.as_flattened().chunks_exact(64);
            let messages: Vec<Message<'_>> =
                pairs.map(|pair| Message { head: &NODE_PREFIX, body: pair }).collect();
            nodes.clear();
            digest_all(&messages, &mut nodes);
            std::mem::swap(leaves, &mut nodes);
        }
        self.peaks.extend(peaks.into_iter().rev());
    }

    /// The root: RFC 6962 §2.1, MTH; for the empty tree SHA-256 of nothing.
    pub fn root(&self) -> [u8; 32] {
        let mut peaks = self.peaks.iter().rev();
        let Some(&last) = peaks.next() else { return Sha256::digest([]).into() };
        peaks.fold(last, |right, left| node_hash(left, &right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962 §2.1, word by word.
    fn naive(leaves: &[Vec<u8>]) -> [u8; 32] {
        match leaves.len() {
            0 => Sha256::digest([]).into(),
            1 => leaf_hash(&leaves[0]),
            n => {
                let mut split = 1;
                while split * 2 < n {
                    split *= 2;
                }
                node_hash(&naive(&leaves[..split]), &naive(&leaves[split..]))
            }
        }
    }

    // Mutants: the peak not put in front; the peaks of the new levels in the order they came.
    #[test]
    fn many_leaves_at_once_grow_the_same_tree() {
        for before in 0..20u64 {
            for more in 0..40u64 {
                let leaf = |number: u64| leaf_hash(&number.to_le_bytes());
                let mut one_by_one = Tree::new();
                (0..before + more).for_each(|number| one_by_one.append(leaf(number)));
                let mut at_once = Tree::new();
                (0..before).for_each(|number| at_once.append(leaf(number)));
                at_once.append_all(&mut (before..before + more).map(leaf).collect());
                assert_eq!(at_once, one_by_one, "{before} and {more}");
            }
        }
    }

    // Mutants: the peaks folded without the `rev` (another root from three leaves on); folded from the
    // left (from seven on).
    #[test]
    fn grows_like_the_recursive_definition() {
        let mut tree = Tree::new();
        let mut leaves = Vec::new();
        for index in 0..130u32 {
            assert_eq!(tree.root(), naive(&leaves), "size {index}");
            let leaf = index.to_be_bytes()[..(index as usize % 5).min(4)].to_vec();
            tree.append(leaf_hash(&leaf));
            leaves.push(leaf);
            let again = Tree::from_peaks(tree.size(), tree.peaks().to_vec()).unwrap();
            assert_eq!(again.root(), tree.root());
        }
        assert!(Tree::from_peaks(3, vec![[0; 32]]).is_none());
    }

    // Published vectors of the Certificate Transparency test suite (RFC 6962 reference code).
    #[test]
    fn known_roots() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Tree::new();
        for (size, expected) in roots.iter().enumerate() {
            assert_eq!(crate::types::hex(&tree.root()), *expected, "size {size}");
            if let Some(leaf) = leaves.get(size) {
                tree.append(leaf_hash(leaf));
            }
        }
    }
}
