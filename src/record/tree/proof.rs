//! Proofs about trees, made and checked: that a leaf is in a tree, that one tree begins another.
//!
//! Made from ranges after RFC 6962 §2.1.1 and §2.1.2, checked by the algorithms of RFC 9162 §2.1.3.2 and
//! §2.1.4.2. A check takes exactly the one right proof: neither a longer nor a shorter one passes.

use super::range;
use super::{Range, node_hash};

/// Most hashes of one proof about a tree that a record can hold: a consistency proof has at most one
/// for each level and one more (c2sp.org/tlog-witness allows 63).
pub const PROOF_HASHES_MAX: usize = 63;

/// The largest power of two below `size`, which is at least 2.
pub(super) fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The proof that the tree of `old` begins the tree of `old` and `new`; empty when one of them is.
/// `None` when `old` does not begin with the first leaf or `new` does not continue it.
pub fn consistency(old: &Range, new: &Range) -> Option<Vec<[u8; 32]>> {
    if old.begin() == 0 && old.end() == 0 && new.begin() == 0 {
        return Some(Vec::new());
    }
    range::consistency(old, new)
}

/// The proof that the leaf with this hash stands behind `before` in the tree that `after` completes.
/// `None` when the three do not fit together.
pub fn inclusion(before: &Range, leaf: [u8; 32], after: &Range) -> Option<Vec<[u8; 32]>> {
    range::inclusion(before, leaf, after)
}

/// Is the leaf with this hash at `index` in the tree of `size` leaves with this root?
/// RFC 9162 §2.1.3.2.
pub fn includes(
    index: u64,
    leaf: &[u8; 32],
    size: u64,
    root: &[u8; 32],
    path: &[[u8; 32]],
) -> bool {
    if index >= size {
        return false;
    }
    // The leaf's node and the last node of the tree, level by level.
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for step in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(step, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, step);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Does the tree of `old_size` leaves with `old_root` begin the tree of `new_size` leaves with
/// `new_root`? RFC 9162 §2.1.4.2. Every tree continues the empty one, whose root is not looked at, and
/// itself; the proof is empty then.
pub fn continues(
    old_size: u64,
    old_root: &[u8; 32],
    new_size: u64,
    new_root: &[u8; 32],
    proof: &[[u8; 32]],
) -> bool {
    if old_size > new_size {
        return false;
    }
    if old_size == new_size {
        return proof.is_empty() && old_root == new_root;
    }
    if old_size == 0 {
        return proof.is_empty();
    }
    let (first, rest) = match (old_size.is_power_of_two(), proof.split_first()) {
        (true, Some(_)) => (old_root, proof),
        (false, Some((first, rest))) => (first, rest),
        (_, None) => return false,
    };
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for step in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(step, &old_hash);
            new_hash = node_hash(step, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, step);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

#[cfg(test)]
mod tests {
    use super::super::{Tree, leaf_hash};
    use super::*;

    fn leaf(index: u64) -> [u8; 32] {
        leaf_hash(&index.to_be_bytes())
    }

    fn range(begin: u64, end: u64) -> Range {
        let mut range = Range::new(begin);
        (begin..end).for_each(|index| range.append(leaf(index)));
        range
    }

    fn roots(sizes: u64) -> Vec<[u8; 32]> {
        let mut tree = Tree::new();
        let mut roots = vec![tree.root()];
        for index in 0..sizes {
            tree.append(leaf(index));
            roots.push(tree.root());
        }
        roots
    }

    // Mutants: a proof that is not turned around; `hash_of` folded from the left; the last hash of a
    // consistency proof left out when the old tree is no subtree.
    #[test]
    fn every_proof_of_every_small_tree_passes() {
        let roots = roots(70);
        for size in 1..70 {
            for index in 0..size {
                let path = inclusion(&range(0, index), leaf(index), &range(index + 1, size));
                let path = path.unwrap();
                let root = &roots[size as usize];
                assert!(includes(index, &leaf(index), size, root, &path), "{index} of {size}");
                assert!(!includes(index, &leaf(index + 1), size, root, &path));
            }
            for old in 0..=size {
                let proof = consistency(&range(0, old), &range(old, size)).unwrap();
                let (old_root, root) = (&roots[old as usize], &roots[size as usize]);
                assert!(continues(old, old_root, size, root, &proof), "{old} to {size}");
            }
        }
    }

    // Mutants: `continues` without the comparison of either root; without `last == 0` at the end.
    #[test]
    fn no_other_proof_passes() {
        let roots = roots(20);
        let mut refused = 0;
        for size in 1..20u64 {
            for old in 1..size {
                let proof = consistency(&range(0, old), &range(old, size)).unwrap();
                let (old_root, root) = (&roots[old as usize], &roots[size as usize]);
                let mut others = vec![proof[1..].to_vec(), proof[..proof.len() - 1].to_vec()];
                others.push([&proof[..], &[[0; 32]]].concat());
                others.push([&[*old_root], &proof[..]].concat());
                for place in 0..proof.len() {
                    let mut other = proof.clone();
                    other[place][7] ^= 1;
                    others.push(other);
                }
                for other in others {
                    assert!(!continues(old, old_root, size, root, &other), "{old} to {size}");
                    refused += 1;
                }
                for other in [old - 1, old + 1] {
                    assert!(!continues(other, old_root, size, root, &proof), "{other} to {size}");
                }
                assert!(!continues(old, root, size, old_root, &proof));
                let mut other = *old_root;
                other[7] ^= 1;
                assert!(!continues(old, &other, size, root, &proof), "{old} to {size}");
            }
        }
        assert!(refused > 1_000);
        assert!(consistency(&range(1, 3), &range(3, 5)).is_none());
        assert!(consistency(&range(0, 3), &range(4, 5)).is_none());
        assert!(inclusion(&range(0, 3), leaf(3), &range(5, 6)).is_none());
    }
}
