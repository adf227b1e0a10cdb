"""The Merkle tree of RFC 6962 §2.1 with SHA-256, kept as the roots of its complete subtrees."""

import hashlib


def leaf_hash(leaf):
    return hashlib.sha256(b"\0" + leaf).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """A tree that grows at its end. `peaks`: roots of the complete subtrees, largest first."""

    def __init__(self, size=0, peaks=()):
        self.size = size
        self.peaks = list(peaks)

    def add(self, leaf):
        peak, size = leaf_hash(leaf), self.size
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
