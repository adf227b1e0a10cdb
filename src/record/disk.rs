//! The narrow interface between the record and files, so that tests can put a failing, stalling or
//! remembering disk in its place; and the real one.
//!
//! [`Files`] reads, [`Disk`] also writes. A disk has at most one file open for appending: a segment is
//! written by one hand, from front to back, and never opened again.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

/// Reading of the segment files of one record.
pub trait Files {
    /// Names of all files in the segments folder, in no order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Length of the file now.
    fn len(&self, name: &str) -> io::Result<u64>;
    /// The file's bytes from `offset` on.
    fn open_at(&self, name: &str, offset: u64) -> io::Result<Box<dyn Read>>;
    /// A writer holds the directory now.
    fn is_live(&self) -> bool;
}

/// Writing of segment files.
pub trait Disk: Files + Send {
    /// Creates `name`, or empties it, and makes it the file for [`Disk::append`].
    fn create(&mut self, name: &str) -> io::Result<()>;
    /// Appends; gives how many bytes were taken, which may be fewer.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Makes what was appended survive a power cut. After a failure the file is given up.
    fn sync(&mut self) -> io::Result<()>;
    /// Renames a file, also the open one.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Makes created and renamed names survive a power cut.
    fn sync_names(&mut self) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// A record's directory, for reading.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The record in `root`. Touches nothing yet.
    pub fn new(root: impl Into<PathBuf>) -> Directory {
        Directory { root: root.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    fn segments(&self) -> PathBuf {
        self.root.join("segments")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.segments().join(name)
    }
}

impl Files for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.segments())? {
            // Why: a name that is not UTF-8 is shown with replacement characters, never overlooked.
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(std::fs::metadata(self.file(name))?.len())
    }

    fn open_at(&self, name: &str, offset: u64) -> io::Result<Box<dyn Read>> {
        let mut file = File::open(self.file(name))?;
        if offset > 0 {
            file.seek(SeekFrom::Start(offset))?;
        }
        Ok(Box::new(file))
    }

    fn is_live(&self) -> bool {
        let Ok(lock) = File::open(self.root.join("lock")) else { return false };
        match flock(&lock, FlockOperation::NonBlockingLockShared) {
            // The lock goes with the file.
            Ok(()) => false,
            Err(errno) => errno == rustix::io::Errno::WOULDBLOCK,
        }
    }
}

/// Why a directory cannot be opened for writing.
#[derive(Debug)]
pub enum DiskFault {
    /// Another process writes there.
    Locked(PathBuf),
    /// A file or folder cannot be made or opened.
    Io(PathBuf, io::Error),
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskFault::Locked(path) => write!(
                f,
                "{}: another gateway writes this record; give each its own directory",
                path.display()
            ),
            DiskFault::Io(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for DiskFault {}

/// The real disk. Holds the directory's lock as long as it lives.
#[derive(Debug)]
pub struct RealDisk {
    directory: Directory,
    open: Option<File>,
    /// Kept for its lock.
    _lock: File,
}

/// Readers probe the lock for an instant; a writer that starts then tries again.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

impl RealDisk {
    /// Creates the directory where missing (mode 0700) and takes its lock.
    pub fn open(root: &Path) -> Result<RealDisk, DiskFault> {
        let fault = |path: &Path| {
            let path = path.to_owned();
            move |error| DiskFault::Io(path, error)
        };
        let directory = Directory::new(root);
        let segments = directory.segments();
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&segments).map_err(fault(&segments))?;
        let lock_path = root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(fault(&lock_path))?;
        let mut tries = 0;
        while let Err(errno) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            tries += 1;
            if errno != rustix::io::Errno::WOULDBLOCK {
                return Err(DiskFault::Io(lock_path, errno.into()));
            }
            if tries == LOCK_TRIES {
                return Err(DiskFault::Locked(root.to_owned()));
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        Ok(RealDisk { directory, open: None, _lock: lock })
    }
}

fn not_open() -> io::Error {
    io::Error::other("no file is open for appending")
}

impl Files for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.directory.list()
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        self.directory.len(name)
    }

    fn open_at(&self, name: &str, offset: u64) -> io::Result<Box<dyn Read>> {
        self.directory.open_at(name, offset)
    }

    fn is_live(&self) -> bool {
        false
    }
}

impl Disk for RealDisk {
    fn create(&mut self, name: &str) -> io::Result<()> {
        self.open = None;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.directory.file(name))?;
        self.open = Some(file);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.open.as_mut().ok_or_else(not_open)?.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.open.as_ref().ok_or_else(not_open)?.sync_data()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.directory.file(from), self.directory.file(to))
    }

    fn sync_names(&mut self) -> io::Result<()> {
        File::open(self.directory.segments())?.sync_all()
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.directory.file(name))
    }
}
