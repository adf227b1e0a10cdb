//! What the writer needs to know, and how it can end: settings, the system's clocks, faults.

use std::fmt;
use std::io;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::age::Recipient;
use super::clock::Stated;
use super::disk::Files;
use super::entry::Entry;
use super::handle::Waker;
use super::keys::LogKey;
use super::mailbox::Mailbox;
use super::note::Checkpoint;
use super::segment::Random;
use super::tree::Tree;
use crate::limits::Limits;
use crate::types::Now;

/// The worker in the writer's own entries.
pub const WORKER_NONE: u8 = 255;

/// Reads both clocks.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// Asks the kernel about its clock; `None` where it does not say.
pub type KernelClock = Arc<dyn Fn() -> Option<Stated> + Send + Sync>;
/// What is asked between recovery and the first write: the files, the tree of all entries kept, and a
/// checkpoint that says so, which is signed and stands nowhere. Gives entries to put behind the start
/// entry, or why the record must not be continued ([`StartFault::Refused`]).
pub type BeforeWriting = Box<dyn FnOnce(&dyn Files, &Tree, &Checkpoint) -> BeforeWritten + Send>;

/// What [`BeforeWriting`] gives.
pub type BeforeWritten = Result<Vec<Entry>, StartFault>;

/// Everything the writer needs besides the disk.
pub struct Settings {
    /// The log's key; its name is the origin.
    pub key: LogKey,
    /// The bounds in force.
    pub limits: Limits,
    /// One for each recorder; the position is the recorder's number. At most 255.
    pub wakers: Vec<Waker>,
    /// Both clocks.
    pub clock: Clock,
    /// What the kernel says of the error of its clock; `None` asks nobody.
    pub kernel_clock: Option<KernelClock>,
    /// Random bytes for salts.
    pub random: Random,
    /// `/proc/sys/kernel/random/boot_id`, as bytes.
    pub boot_id: [u8; 16],
    /// Facts for the start entry: versions, host, digest of the program.
    pub facts: Map<String, Value>,
    /// The key before this one, of the same name. The first start with both records that the key
    /// changes, signed by both.
    pub previous_key: Option<LogKey>,
    /// Where signed checkpoints are published, about once a second.
    pub mailboxes: Vec<Arc<Mailbox>>,
    /// Asked before the record is written to.
    pub before_writing: Option<BeforeWriting>,
    /// Go on behind a damaged newest segment; the damage stays visible for ever.
    pub accept_damage: bool,
    /// To whom originals are sealed; without it nothing is, and they are lost.
    pub sealing: Option<Sealing>,
}

/// What is sealed, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealing {
    /// Auditors; at least one, at most [`super::age::RECIPIENTS_MAX`].
    pub recipients: Vec<Recipient>,
    /// All bodies are sealed, not only what was edited in them.
    pub payloads: bool,
}

impl Settings {
    /// Settings with the system's clocks, random bytes and boot id.
    pub fn system(key: LogKey, limits: Limits, wakers: Vec<Waker>) -> Settings {
        Settings {
            key,
            limits,
            wakers,
            clock: Arc::new(system_now),
            kernel_clock: None,
            random: Arc::new(|bytes| {
                getrandom::fill(bytes).expect("the kernel gives random bytes")
            }),
            boot_id: system_boot_id(),
            facts: Map::new(),
            previous_key: None,
            mailboxes: Vec::new(),
            before_writing: None,
            accept_damage: false,
            sealing: None,
        }
    }
}

/// Both clocks of the system.
pub fn system_now() -> Now {
    let ns = |id| {
        let time = rustix::time::clock_gettime(id);
        (time.tv_sec as u64).saturating_mul(1_000_000_000) + time.tv_nsec as u64
    };
    Now {
        utc_ns: ns(rustix::time::ClockId::Realtime),
        mono_ns: ns(rustix::time::ClockId::Boottime),
    }
}

/// The kernel's boot id, or zero where it cannot be read.
pub fn system_boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    let mut id = [0; 16];
    if digits.len() == 32 {
        for (slot, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *slot = pair[0] << 4 | pair[1];
        }
    }
    id
}

/// Why the record cannot be opened.
#[derive(Debug)]
pub enum StartFault {
    /// The disk fails.
    Io(io::Error),
    /// The space that closes the record on a full disk cannot be set aside.
    Reserve(io::Error),
    /// The newest segment is damaged. Going on needs an order ([`Settings::accept_damage`]).
    Damaged {
        /// Number of the segment.
        segment: u32,
        /// Where the damage begins.
        offset: u64,
        /// What it is.
        what: String,
        /// An order would help: what came before the damage can be continued.
        acceptable: bool,
    },
    /// The record is another log's; the name seen.
    OtherLog(String),
    /// What was asked before the first write says no; why.
    Refused(String),
    /// The compressor cannot be set up, or there are too many recorders.
    Setup(String),
}

impl fmt::Display for StartFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartFault::Io(error) => write!(f, "cannot write the record: {error}"),
            StartFault::Reserve(error) => write!(
                f,
                "the record directory's file system has no room for the reserve \
                 (limits.reserve_bytes_max): {error}; free some space"
            ),
            StartFault::Damaged { segment, offset, what, acceptable } => {
                let order = match acceptable {
                    true => "start once with --accept-damage, which is recorded for ever, or ",
                    false => "",
                };
                write!(
                    f,
                    "segment {segment:08}, byte {offset}: {what}; run verify and keep a copy, then \
                     {order}give the gateway another record directory"
                )
            }
            StartFault::OtherLog(origin) => write!(
                f,
                "the record was written by {origin} with another key; give this key its own directory"
            ),
            StartFault::Refused(what) | StartFault::Setup(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for StartFault {}

/// What the writer leaves behind when it ends in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Entries in the whole record.
    pub entries: u64,
    /// Number of the last segment.
    pub segment: u32,
}

/// Why the writer ended otherwise.
#[derive(Debug)]
pub enum EndFault {
    /// The disk failed until the end; entries that are not stored.
    Unstored(usize),
    /// The thread panicked.
    Panicked,
}

impl fmt::Display for EndFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndFault::Unstored(0) => f.write_str(
                "everything recorded is stored, but there was no room for the stop entry",
            ),
            EndFault::Unstored(entries) => {
                write!(
                    f,
                    "record could not be written to the end, {entries} entries are not stored"
                )
            }
            EndFault::Panicked => f.write_str("recorder thread panicked"),
        }
    }
}

impl std::error::Error for EndFault {}
