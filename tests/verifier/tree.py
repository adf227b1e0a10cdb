"""The Merkle tree of RFC 6962 §2.1 with SHA-256, kept as the roots of its complete subtrees."""

import hashlib


def leaf_hash(leaf):
    return hashlib.sha256(b"\0" + leaf).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def root_of(leaves):
    """The root over leaf hashes, as RFC 6962 §2.1 defines it."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    middle = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(root_of(leaves[:middle]), root_of(leaves[middle:]))


class Tree:
    """A tree that grows at its end. `peaks`: roots of the complete subtrees, largest first."""

    def __init__(self, size=0, peaks=()):
        self.size = size
        self.peaks = list(peaks)
        # The hashes of the leaves that were added.
        self.added = []

    def add(self, leaf):
        peak, size = leaf_hash(leaf), self.size
        self.added.append(peak)
        # Each trailing one of the size is a complete subtree as large as what the leaf completes.
        while size & 1:
            peak = node_hash(self.peaks.pop(), peak)
            size >>= 1
        self.peaks.append(peak)
        self.size += 1

    def root(self):
        if not self.peaks:
            return hashlib.sha256(b"").digest()
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root

    def is_same(self, other):
        return self.size == other.size and self.peaks == other.peaks
