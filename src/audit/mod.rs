//! Reading the record back: verify, sessions, show, search, echoed.
//!
//! Every command reads the record through [`crate::record::reader`], on a live and on a stopped
//! directory, and prints what can be read even where something is damaged; what is not covered is told
//! on stderr and by the exit code. All but `verify` leave out sealed segments whose index says that
//! nothing asked for is inside ([`crate::record::skip`]); the answer is the same, and that they were left
//! out is told.
//!
//! | module | holds |
//! |---|---|
//! | [`verify`] | every byte against the signed tree |
//! | [`weakened`] | where less was recorded, or less durably |
//! | [`withheld`] | parts that are not here |
//! | `connections` | the connections that exchanges came over |
//! | [`refusals`] | who was refused before anybody was authenticated |
//! | [`rows`] | the entries of one exchange put together |
//! | [`sessions`], [`show`], [`search`] | who, when, what |
//! | [`echoed`] | was this secret ever seen |
//! | [`filter`] | which rows are asked for; times as they are typed |
//! | [`originals`] | sealed parts opened with an auditor's identity |
//! | [`find`] | a text in stored bytes, also escaped and encoded |
//! | [`text`] | recorded text made safe for a terminal |
//! | [`bar`] | progress on a terminal |
//!
//! Each command is a function of its options and two writers, and gives an [`Exit`]; the command line
//! is elsewhere.

use std::io::{self, Write};
use std::path::Path;

use crate::record::disk::{Directory, Files};
use crate::record::keys::VerifierKey;
use crate::record::reader::{Checks, Reading, read_skipping};
use crate::record::scan::Sink;
use crate::record::skip::{Asked, Skips};

pub mod bar;
mod connections;
pub mod echoed;
pub mod filter;
pub mod find;
pub mod originals;
pub mod parts;
pub mod refusals;
pub mod rescan;
pub mod rows;
pub mod search;
pub mod sessions;
pub mod show;
pub mod since;
pub mod text;
pub mod verify;
pub mod weakened;
pub mod withheld;
pub mod witnessed;

/// How a command ended; the number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, found, intact.
    Done = 0,
    /// The answer is no.
    No = 1,
    /// Wrong usage.
    Usage = 2,
    /// Could not read, write, or cover everything.
    Incomplete = 4,
}

/// How far the indexes of sealed segments are believed.
#[derive(Debug, Clone, Default)]
pub struct Indexes {
    /// Not at all: everything is read.
    pub ignored: bool,
    /// The log's key, which has to have signed them. Without it none is believed: whoever can write the
    /// files could hide a segment behind an index.
    pub key: Option<VerifierKey>,
}

/// Reads what may be `asked` for in the record in `directory` into `sink`, with a progress bar, and says
/// on `err` what could not be read and what was left out. `None` when there is no record to read; that
/// is told too.
fn read(
    directory: &Path,
    indexes: &Indexes,
    asked: &Asked<'_>,
    sink: &mut dyn Sink,
    err: &mut dyn Write,
) -> io::Result<Option<Reading>> {
    let files: &dyn Files = &Directory::new(directory);
    let mut watched = bar::Watched::new(bar::total_bytes(files), sink);
    // Why: what is printed is what was written, so the commitments are checked here too.
    let checks = Checks { key: None, commitments: true };
    let skips = match indexes.key.as_ref().filter(|_| !indexes.ignored) {
        None => Ok(Skips::default()),
        Some(key) => Skips::of(files, Some(key), asked),
    };
    let reading = skips.and_then(|skips| read_skipping(files, checks, &skips, &mut watched));
    watched.finish();
    match reading {
        Ok(reading) => {
            complain(&reading, err)?;
            tell_left(&reading, indexes, err)?;
            Ok(Some(reading))
        }
        Err(error) => {
            no_record(directory, &error, err)?;
            Ok(None)
        }
    }
}

/// Says what was not read because of an index, and what that is worth.
fn tell_left(reading: &Reading, indexes: &Indexes, err: &mut dyn Write) -> io::Result<()> {
    let Reading { left_segments, segments, .. } = reading;
    if *left_segments == 0 {
        return Ok(());
    }
    let key = indexes.key.as_ref().map(ToString::to_string).unwrap_or_default();
    writeln!(
        err,
        "stenograph: {left_segments} of {segments} segments were not read, because nothing asked for \
         is in them: so say their indexes, which {} has signed; --no-index reads all",
        text::escape(&key)
    )
}

fn no_record(directory: &Path, error: &io::Error, err: &mut dyn Write) -> io::Result<()> {
    writeln!(
        err,
        "stenograph: cannot read a record in {}: {error}; name its directory with --record",
        text::escape(&directory.display().to_string())
    )
}

/// Says what could not be read.
fn complain(reading: &Reading, err: &mut dyn Write) -> io::Result<()> {
    if reading.is_consistent() {
        return Ok(());
    }
    for damage in reading.damage.iter().take(COMPLAINTS_MAX) {
        writeln!(
            err,
            "stenograph: segment {:08}, bytes {} to {}: {}",
            damage.segment,
            damage.offset,
            damage.end,
            text::escape(&damage.what)
        )?;
    }
    if reading.damage.len() > COMPLAINTS_MAX {
        writeln!(err, "stenograph: and {} more", reading.damage.len() - COMPLAINTS_MAX)?;
    }
    for (segment, error) in &reading.unreadable {
        writeln!(err, "stenograph: segment {segment:08} cannot be read: {error}")?;
    }
    for name in &reading.strays {
        writeln!(err, "stenograph: file {} does not belong to the record", text::escape(name))?;
    }
    writeln!(err, "stenograph: the record is not complete; run verify for all of it")
}

/// Complaints of one kind that are printed.
const COMPLAINTS_MAX: usize = 20;

/// The exit code of a search: found, not found, or not everything was covered.
fn exit(reading: &Reading, found: bool) -> Exit {
    match (reading.is_consistent(), found) {
        (false, _) => Exit::Incomplete,
        (true, true) => Exit::Done,
        (true, false) => Exit::No,
    }
}
