//! The deny file: reading it, watching it, and `revoke`.
//!
//! A thread looks at the file every [`POLL_MS`] and publishes a new list whole. What it guards against:
//!
//! - A file that is gone, unreadable or faulty never lets anybody back in: the list in force stays, and
//!   the fault is reported.
//! - An entry works from the first look that sees it. An entry that vanishes stops working only after
//!   the file has been unchanged for [`SETTLE_MS`]: an editor that empties the file before it writes it
//!   opens no gap.
//! - A change within one tick of the file system's clock is seen: a file younger than [`YOUNG_MS`] is
//!   read at every look, whatever its times say.
//!
//! [`revoke`] replaces the file whole (temporary file, fsync, rename, fsync of the directory) under a
//! lock on the directory, so that two of them, or a crash, lose nothing.
//!
//! It does not cut anybody off: the workers ask the list they were given.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{RecvTimeoutError, Sender};
use sha2::{Digest, Sha256};

use crate::auth::deny::{DenyEntry, DenyFault, DenyList, entry_text};
use crate::auth::token::name_allowed;
use crate::limits::DENY_FILE_BYTES_MAX;

/// Between two looks at the file. Five looks fit into the second in which a caller must be out.
pub const POLL_MS: u64 = 200;
/// How long a file without some entry must stand unchanged before the entry ends.
pub const SETTLE_MS: u64 = 1_000;
/// Age below which times of a file are not believed: more than any file system's tick (FAT 2 s).
const YOUNG_MS: u64 = 2_500;

/// Why the file gives no list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DenyFileFault {
    /// There is no such file.
    Missing,
    /// It cannot be read.
    Read(io::ErrorKind),
    /// It is longer than [`DENY_FILE_BYTES_MAX`].
    TooLong,
    /// It is not UTF-8.
    NotText,
    /// What is wrong in it, in order.
    Content(Vec<DenyFault>),
}

impl fmt::Display for DenyFileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DenyFileFault::Missing => f.write_str("deny file does not exist"),
            DenyFileFault::Read(kind) => write!(f, "deny file cannot be read: {kind}"),
            DenyFileFault::TooLong => {
                write!(f, "deny file is longer than {DENY_FILE_BYTES_MAX} bytes")
            }
            DenyFileFault::NotText => f.write_str("deny file is not UTF-8"),
            DenyFileFault::Content(faults) => {
                write!(f, "deny file has {} faults", faults.len())?;
                faults.iter().try_for_each(|fault| write!(f, "; {fault}"))
            }
        }
    }
}

impl std::error::Error for DenyFileFault {}

fn read(path: &Path) -> Result<String, DenyFileFault> {
    let fault = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => DenyFileFault::Missing,
        kind => DenyFileFault::Read(kind),
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(fault)?;
    file.take(DENY_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > DENY_FILE_BYTES_MAX {
        return Err(DenyFileFault::TooLong);
    }
    String::from_utf8(bytes).map_err(|_| DenyFileFault::NotText)
}

/// The list in the file at `path`.
///
/// # Errors
/// Any fault. At start all but [`DenyFileFault::Missing`] must stop the start: without the list it is
/// not known who is out.
pub fn load(path: &Path) -> Result<DenyList, DenyFileFault> {
    DenyList::parse(&read(path)?).map_err(DenyFileFault::Content)
}

/// What a watch has to tell.
#[derive(Debug, Clone)]
pub enum Change {
    /// This list is in force from now on.
    List(Arc<DenyList>),
    /// The file is of no use; the list before stays in force. Told once per state of the file.
    Kept(DenyFileFault),
}

/// A running watch; dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Watches `path` on a thread of its own. `first` is the list that is in force already; `publish` is
/// called with everything that differs from it, from the first look on.
///
/// # Errors
/// The thread cannot be started.
pub fn watch(
    path: &Path,
    first: Arc<DenyList>,
    mut publish: impl FnMut(Change) + Send + 'static,
) -> io::Result<Watch> {
    let (stop, stopped) = crossbeam_channel::bounded(0);
    let mut look = Look::new(path.to_owned(), first);
    let thread = std::thread::Builder::new().name("deny-file".to_owned()).spawn(move || {
        loop {
            if let Some(change) = look.look(Instant::now()) {
                publish(change);
            }
            match stopped.recv_timeout(Duration::from_millis(POLL_MS)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    })?;
    Ok(Watch { stop: Some(stop), thread: Some(thread) })
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The state of a watch between two looks.
struct Look {
    path: PathBuf,
    in_force: Arc<DenyList>,
    /// What stood in the file when it was last read: digest of it, or the fault.
    seen: Option<Result<[u8; 32], DenyFileFault>>,
    stamp: Option<Stamp>,
    /// A list with fewer entries than the one in force, and since when it stands in the file.
    settling: Option<(Arc<DenyList>, Instant)>,
}

impl Look {
    fn new(path: PathBuf, in_force: Arc<DenyList>) -> Look {
        // A file that was never there is no news: nobody is out, and that is what is in force.
        let seen = in_force.entries().is_empty().then_some(Err(DenyFileFault::Missing));
        Look { path, in_force, seen, stamp: None, settling: None }
    }

    fn look(&mut self, now: Instant) -> Option<Change> {
        let (stamp, young) = match fs::metadata(&self.path) {
            Ok(metadata) => {
                let age = metadata
                    .modified()
                    .ok()
                    .and_then(|modified| SystemTime::now().duration_since(modified).ok());
                let stamp = Stamp {
                    device: metadata.dev(),
                    inode: metadata.ino(),
                    size: metadata.size(),
                    modified: (metadata.mtime(), metadata.mtime_nsec()),
                    changed: (metadata.ctime(), metadata.ctime_nsec()),
                };
                // A time in the future has no age: not believed either.
                (Some(stamp), age.is_none_or(|age| age < Duration::from_millis(YOUNG_MS)))
            }
            Err(_) => (None, true),
        };
        if young || stamp != self.stamp {
            self.stamp = stamp;
            let text = read(&self.path);
            let seen = text.as_ref().map(|text| Sha256::digest(text).into()).map_err(Clone::clone);
            if self.seen.as_ref() != Some(&seen) {
                self.seen = Some(seen);
                return self.news(text, now);
            }
        }
        match self.settling.take() {
            Some((list, since))
                if now.duration_since(since) >= Duration::from_millis(SETTLE_MS) =>
            {
                self.in_force = list;
                Some(Change::List(Arc::clone(&self.in_force)))
            }
            settling => {
                self.settling = settling;
                None
            }
        }
    }

    fn news(&mut self, text: Result<String, DenyFileFault>, now: Instant) -> Option<Change> {
        // Whatever comes, what was settling is no longer what stands in the file.
        self.settling = None;
        let parsed = text.and_then(|text| DenyList::parse(&text).map_err(DenyFileFault::Content));
        let list = match parsed {
            Ok(list) => list,
            Err(fault) => return Some(Change::Kept(fault)),
        };
        let gone = self.in_force.entries().iter().any(|entry| !list.holds(entry));
        if gone {
            let union = self.in_force.union(&list);
            self.settling = Some((Arc::new(list), now));
            self.in_force = Arc::new(union);
        } else {
            self.in_force = Arc::new(list);
        }
        Some(Change::List(Arc::clone(&self.in_force)))
    }
}

/// What `revoke` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// Entries added.
    pub added: usize,
    /// Entries that stood there already.
    pub already: usize,
}

/// Why `revoke` did nothing. The file is as it was.
#[derive(Debug)]
pub enum RevokeFault {
    /// Neither subject nor client nor token is named, or a name is empty, too long, or holds control or
    /// invisible characters.
    Name,
    /// The file as it stands has faults; mend it first, or what it should say is lost.
    File(DenyFileFault),
    /// The file would be over its bound.
    TooLong,
    /// The new file could not be given to the old one's owner: the gateway might not be able to read it.
    Owner(io::Error),
    /// Anything else the system refused, and at which step.
    Write(&'static str, io::Error),
}

impl fmt::Display for RevokeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RevokeFault::Name => f.write_str(
                "expected a subject, client or jti of 1 to 512 bytes without control or invisible \
                 characters",
            ),
            RevokeFault::File(fault) => write!(f, "nothing was changed: {fault}"),
            RevokeFault::TooLong => write!(
                f,
                "nothing was changed: deny file would be over {DENY_FILE_BYTES_MAX} bytes; remove \
                 entries whose tokens have expired"
            ),
            RevokeFault::Owner(error) => write!(
                f,
                "nothing was changed: cannot keep the deny file's owner ({error}); run as its owner"
            ),
            RevokeFault::Write(step, error) => write!(f, "nothing was changed: {step}: {error}"),
        }
    }
}

impl std::error::Error for RevokeFault {}

/// Adds an entry for each of `subjects`, `clients` and `token_ids` of `issuer` to the file at `path`,
/// which is created when it is missing. Doing it again changes nothing.
///
/// # Errors
/// The file is as it was.
pub fn revoke(
    path: &Path,
    issuer: &str,
    subjects: &[&str],
    clients: &[&str],
    token_ids: &[&str],
    reason: Option<&str>,
) -> Result<Revoked, RevokeFault> {
    let entry = |subject: Option<&str>, client: Option<&str>, token_id: Option<&str>| DenyEntry {
        issuer: issuer.to_owned(),
        subject: subject.map(str::to_owned),
        client: client.map(str::to_owned),
        token_id: token_id.map(str::to_owned),
        reason: reason.map(str::to_owned),
        since: Some(jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
    };
    let wanted: Vec<DenyEntry> = subjects
        .iter()
        .map(|name| entry(Some(name), None, None))
        .chain(clients.iter().map(|name| entry(None, Some(name), None)))
        .chain(token_ids.iter().map(|name| entry(None, None, Some(name))))
        .collect();
    let names = subjects.iter().chain(clients).chain(token_ids);
    if wanted.is_empty()
        || !name_allowed(issuer)
        || !names.into_iter().all(|name| name_allowed(name))
    {
        return Err(RevokeFault::Name);
    }

    // A link is followed: what is replaced is the file it leads to, not the link.
    let path = match fs::canonicalize(path) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(RevokeFault::Write("finding the deny file", error)),
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Why the directory: a lock on the file itself would be on the file that is about to be replaced.
    let directory =
        File::open(parent).map_err(|error| RevokeFault::Write("opening its directory", error))?;
    rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|error| RevokeFault::Write("locking its directory", error.into()))?;

    let (mut text, existed) = match read(&path) {
        Ok(text) => (text, true),
        Err(DenyFileFault::Missing) => (String::new(), false),
        Err(fault) => return Err(RevokeFault::File(fault)),
    };
    let list = DenyList::parse(&text)
        .map_err(|faults| RevokeFault::File(DenyFileFault::Content(faults)))?;
    let mut added: Vec<DenyEntry> = Vec::new();
    for entry in &wanted {
        if !list.holds(entry) && !DenyList::new(added.clone()).holds(entry) {
            added.push(entry.clone());
        }
    }
    let revoked = Revoked { added: added.len(), already: wanted.len() - added.len() };
    if added.is_empty() {
        return Ok(revoked);
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    if !text.is_empty() && !text.ends_with("\n\n") {
        text.push('\n');
    }
    text.extend(added.iter().map(entry_text));
    if text.len() as u64 > DENY_FILE_BYTES_MAX {
        return Err(RevokeFault::TooLong);
    }
    // What is written must be what a reader understands, or the next start fails.
    DenyList::parse(&text).map_err(|faults| RevokeFault::File(DenyFileFault::Content(faults)))?;
    replace(&path, &directory, &text, existed)?;
    Ok(revoked)
}

fn replace(path: &Path, directory: &File, text: &str, existed: bool) -> Result<(), RevokeFault> {
    let write = |step| move |error| RevokeFault::Write(step, error);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = path.with_file_name(format!(".{name}.new"));
    // Only the holder of the lock writes this name: what stands there is of a run that died.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(write("removing an old temporary file")(error));
        }
        _ => {}
    }
    let result = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&temporary)
            .map_err(write("creating a temporary file"))?;
        if existed {
            let old = fs::metadata(path).map_err(write("reading the file's owner"))?;
            let new = file.metadata().map_err(write("reading the file's owner"))?;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                let (user, group) =
                    (rustix::fs::Uid::from_raw(old.uid()), rustix::fs::Gid::from_raw(old.gid()));
                rustix::fs::fchown(&file, Some(user), Some(group))
                    .map_err(|error| RevokeFault::Owner(error.into()))?;
            }
            let mode = fs::Permissions::from_mode(old.mode() & 0o7777);
            file.set_permissions(mode).map_err(write("keeping the file's mode"))?;
        }
        file.write_all(text.as_bytes()).map_err(write("writing"))?;
        // Crash here: the old file stands, the temporary one is removed by the next run.
        file.sync_all().map_err(write("fsync"))?;
        fs::rename(&temporary, path).map_err(write("replacing the file"))
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
        return result;
    }
    // Crash here: after a power cut either file may stand; the caller has not been told "done" yet.
    directory.sync_all().map_err(|error| {
        RevokeFault::Write(
            "fsync of the directory (the entry stands, and may not outlive a crash)",
            error,
        )
    })
}
