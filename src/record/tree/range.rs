//! A stretch of leaves, kept as the roots of the largest complete subtrees that tile it. Ranges that
//! touch can be joined, and from ranges that cover a tree every proof about it can be made.
//!
//! Invariants: `nodes` tile `begin..end` from left to right, each is a complete subtree at a multiple
//! of its own size, and no two of them could be one. So there are at most two for each bit of `end`.

use super::proof::split;
use super::{Tree, node_hash};

/// The leaves `begin..end` of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    begin: u64,
    end: u64,
    /// (leaves, root), left to right.
    nodes: Vec<(u64, [u8; 32])>,
}

impl Range {
    /// No leaves yet; the next one has the index `begin`.
    pub fn new(begin: u64) -> Range {
        Range { begin, end: begin, nodes: Vec::new() }
    }

    /// All leaves of `tree`.
    pub fn of(tree: &Tree) -> Range {
        let mut nodes = Vec::with_capacity(tree.peaks().len());
        let mut left = tree.size();
        for peak in tree.peaks() {
            let leaves = 1 << left.ilog2();
            nodes.push((leaves, *peak));
            left -= leaves;
        }
        Range { begin: 0, end: tree.size(), nodes }
    }

    /// Index of the first leaf.
    pub fn begin(&self) -> u64 {
        self.begin
    }

    /// One past the index of the last leaf.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The tree, when the range begins with the first leaf.
    pub fn tree(&self) -> Option<Tree> {
        let peaks = self.nodes.iter().map(|(_, root)| *root).collect();
        if self.begin == 0 { Tree::from_peaks(self.end, peaks) } else { None }
    }

    /// Adds the next leaf by its hash.
    pub fn append(&mut self, leaf: [u8; 32]) {
        self.push(1, leaf);
    }

    /// Adds what follows; false, and nothing is changed, when `next` does not begin where this ends.
    pub fn join(&mut self, next: &Range) -> bool {
        if next.begin != self.end {
            return false;
        }
        for (leaves, root) in &next.nodes {
            self.push(*leaves, *root);
        }
        true
    }

    /// Adds a complete subtree, which becomes one with what stands before it where that is possible.
    fn push(&mut self, mut leaves: u64, mut root: [u8; 32]) {
        let mut start = self.end;
        self.end += leaves;
        while let Some(&(before, left)) = self.nodes.last() {
            if before != leaves || !(start - before).is_multiple_of(2 * leaves) {
                break;
            }
            self.nodes.pop();
            root = node_hash(&left, &root);
            start -= before;
            leaves *= 2;
        }
        self.nodes.push((leaves, root));
    }
}

/// Hash of the leaves `from..to` of the tree that `ranges` cover: RFC 6962 §2.1, `MTH(D[from:to])`.
/// `None` when the ranges do not have a border at both.
fn hash_of(ranges: &[&Range], from: u64, to: u64) -> Option<[u8; 32]> {
    let mut roots = Vec::new();
    let mut at = from;
    for range in ranges {
        let mut start = range.begin;
        for (leaves, root) in &range.nodes {
            if start == at && start + leaves <= to {
                roots.push(*root);
                at += leaves;
            }
            start += leaves;
        }
    }
    // Why from the right: behind a border at a multiple of their sizes the subtrees only get smaller.
    let last = roots.pop().filter(|_| at == to)?;
    Some(roots.iter().rev().fold(last, |right, left| node_hash(left, &right)))
}

/// RFC 6962 §2.1.2, `PROOF(m, D[n])`: that the tree of `old.end()` leaves begins the tree that `new`
/// completes. `None` when `old` does not begin with the first leaf, is empty, or `new` does not
/// continue it.
pub(super) fn consistency(old: &Range, new: &Range) -> Option<Vec<[u8; 32]>> {
    if old.begin != 0 || old.end == 0 || new.begin != old.end {
        return None;
    }
    let ranges = [old, new];
    let (mut low, mut high) = (0, new.end);
    let mut whole = true;
    let mut proof = Vec::new();
    while old.end != high {
        let middle = low + split(high - low);
        if old.end <= middle {
            proof.push(hash_of(&ranges, middle, high)?);
            high = middle;
        } else {
            proof.push(hash_of(&ranges, low, middle)?);
            low = middle;
            whole = false;
        }
    }
    if !whole {
        proof.push(hash_of(&ranges, low, high)?);
    }
    proof.reverse();
    Some(proof)
}

/// RFC 6962 §2.1.1, `PATH(m, D[n])`: that the leaf between `before` and `after` is in the tree of all
/// three. `None` when they do not fit together around one leaf.
pub(super) fn inclusion(before: &Range, leaf: [u8; 32], after: &Range) -> Option<Vec<[u8; 32]>> {
    let index = before.end;
    if before.begin != 0 || after.begin != index.checked_add(1)? {
        return None;
    }
    let mut middle = Range::new(index);
    middle.append(leaf);
    let ranges = [before, &middle, after];
    let (mut low, mut high) = (0, after.end);
    let mut path = Vec::new();
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            path.push(hash_of(&ranges, middle, high)?);
            high = middle;
        } else {
            path.push(hash_of(&ranges, low, middle)?);
            low = middle;
        }
    }
    path.reverse();
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::super::leaf_hash;
    use super::*;

    fn leaf(index: u64) -> [u8; 32] {
        leaf_hash(&index.to_be_bytes())
    }

    fn range(begin: u64, end: u64) -> Range {
        let mut range = Range::new(begin);
        (begin..end).for_each(|index| range.append(leaf(index)));
        range
    }

    // Mutant: `push` that merges without looking at the alignment joins 1 and 2 into one subtree.
    #[test]
    fn joined_ranges_are_the_range() {
        for end in 0..40 {
            for middle in 0..=end {
                let mut joined = range(0, middle);
                assert!(joined.join(&range(middle, end)));
                assert_eq!(joined, range(0, end), "0..{middle}..{end}");
                let mut tree = Tree::new();
                (0..end).for_each(|index| tree.append(leaf(index)));
                assert_eq!(joined.tree().unwrap(), tree);
                assert_eq!(Range::of(&tree), joined);
                for third in middle..=end {
                    let mut joined = range(middle, third);
                    assert!(joined.join(&range(third, end)));
                    assert_eq!(joined, range(middle, end), "{middle}..{third}..{end}");
                }
            }
        }
        let mut first = range(0, 5);
        assert!(!first.join(&range(6, 9)));
        assert_eq!(first, range(0, 5));
        assert!(range(3, 9).tree().is_none());
    }

    #[test]
    fn a_long_range_stays_small() {
        let mut range = Range::new(12_345);
        (12_345..70_000).for_each(|index| range.append(leaf(index)));
        assert!(range.nodes.len() <= 2 * 17, "{}", range.nodes.len());
    }
}
