//! The log: byte format, segments, Merkle tree, the writer thread and the reader.
