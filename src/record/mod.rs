//! The log: byte format, segments, Merkle tree, the writer thread and the reader.
//!
//! The life of an entry: a worker fills an [`Entry`], hands it to its [`Recorder`] and gets a
//! [`Ticket`]; bytes that may leave only after the record go into a [`Held`] with that ticket; the
//! writer thread (`writer`) compresses, hashes and writes, then publishes the ticket in [`Progress`];
//! the worker turns the [`Held`] into a [`Released`], the only thing that may be sent.
//!
//! | module | holds | I/O |
//! |---|---|---|
//! | [`mod@format`] | the document of the format, its constants | no |
//! | [`entry`] | entries, parts, their byte tables | no |
//! | [`hash`] | SHA-256 of many messages at once | no |
//! | [`header`] | the segment header | no |
//! | [`tree`] | RFC 6962 hashes, the growing tree, ranges, proofs | no |
//! | [`note`] | checkpoints as C2SP signed notes | no |
//! | [`age`] | age keys and files, X25519 only | identity files |
//! | [`patch`] | what turns sent bytes into those that came | no |
//! | [`seal`] | sealed parts and their data keys | no |
//! | [`cosign`] | cosignatures of witnesses, their keys | no |
//! | [`key_files`] | key files against the entries that name them | by `Files` |
//! | [`keys`] | the log's signing key and verifier key | key files |
//! | [`segment`] | entries in, bytes of a segment out | no |
//! | [`index`] | what a sealed segment says of its content | no |
//! | [`handle`] | what workers hold: recorder, tickets, progress | no |
//! | [`disk`] | the narrow interface to files, and the real one | yes |
//! | [`settings`] | what the writer needs, how it can end | clocks |
//! | [`clock`] | clock steps, what the kernel says of its error | no |
//! | [`mailbox`] | published checkpoints on their way to witnesses | no |
//! | [`leaves`] | leaves read again for a proof | by `Files` |
//! | [`rotation`] | changes of the log's key | by `Files` |
//! | [`writer`] | the thread | by `Disk` |
//! | [`earlier`] | which checkpoints cosignatures may speak of | no |
//! | [`found`] | what a reader finds: places, damage, ends | no |
//! | [`scan`] | one segment read and checked, byte by byte | by `Read` |
//! | [`recovery`] | what the newest segment's end means at start | by `Disk` |
//! | [`skip`] | segments whose index says that nothing asked for is inside | by `Files` |
//! | [`reader`] | a whole directory read and checked | by `Files` |
//!
//! It does not know HTTP, MCP, rules or grants: parts arrive as bytes, already judged.

pub mod age;
pub mod clock;
pub mod cosign;
pub mod disk;
pub mod earlier;
pub mod entry;
pub mod format;
pub mod found;
pub mod handle;
pub mod hash;
pub mod header;
pub mod index;
pub mod key_files;
pub mod keys;
pub mod leaves;
pub mod mailbox;
pub mod note;
pub mod patch;
pub mod reader;
pub mod recovery;
pub mod rotation;
pub mod scan;
pub mod seal;
pub mod segment;
pub mod settings;
pub mod skip;
pub mod tree;
pub mod writer;

pub use entry::{Entry, Keep, Kind, Original, Part, PartKind};
pub use format::fingerprint;
pub use handle::{Held, Level, Progress, Recorder, Released, SubmitFault, Ticket, Waker};
