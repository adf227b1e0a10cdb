//! The files that a configuration names: are they there, readable, and private where they hold keys.
//! Their content is looked at for form only and never quoted.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::problem::{At, Problems};

/// Largest file that holds a key or a known secret; a certificate chain fits too.
/// Bound: such a file is read whole into memory.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Words for what went wrong, without the platform's own text around the number.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "may not be read".to_owned(),
        _ => format!("cannot be read ({error})"),
    }
}

/// A file that has to be there and readable. Returns whether it is.
pub(super) fn readable(path: &At<&Path>, problems: &mut Problems) -> bool {
    match File::open(path.value).and_then(|file| file.metadata()) {
        Ok(about) if about.is_file() => true,
        Ok(_) => {
            problems.at(path, format!("{} is no file", path.value.display()), "a readable file");
            false
        }
        Err(error) => {
            let seen = format!("{}: {}", path.value.display(), words(&error));
            problems.at(path, seen, "a readable file");
            false
        }
    }
}

/// A file that holds a key: readable by its owner only. Returns its bytes when nothing is wrong.
pub(super) fn private(path: &At<&Path>, remedy: &str, problems: &mut Problems) -> Option<Vec<u8>> {
    match read_private(path.value) {
        Ok(bytes) => Some(bytes),
        Err(fault) => {
            let allowed = match fault.is_missing {
                true => remedy.to_owned(),
                false => fault.allowed,
            };
            problems.at(path, format!("{}: {}", path.value.display(), fault.seen), allowed);
            None
        }
    }
}

/// Why a private file cannot be used.
#[derive(Debug, Clone)]
pub struct PrivateFault {
    /// There is no such file.
    pub is_missing: bool,
    /// What was seen.
    pub seen: String,
    /// What is allowed, with the remedy.
    pub allowed: String,
}

/// Reads a file that holds a key or a secret: a plain file of at most [`SECRET_FILE_BYTES_MAX`] bytes
/// that neither group nor others may read or write. The mode is read from the opened file, so that
/// it is the mode of the bytes that are returned.
pub fn read_private(path: &Path) -> Result<Vec<u8>, PrivateFault> {
    let fault = |seen: String, allowed: &str| PrivateFault {
        is_missing: false,
        seen,
        allowed: allowed.to_owned(),
    };
    let unreadable = |error: io::Error| PrivateFault {
        is_missing: error.kind() == io::ErrorKind::NotFound,
        seen: words(&error),
        allowed: "a file that its owner may read".to_owned(),
    };
    let file = File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(fault("is no file".to_owned(), "a file"));
    }
    let mode = about.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let allowed =
            format!("a mode without rights for group and others: chmod 600 {}", path.display());
        return Err(fault(format!("has mode {mode:04o}"), &allowed));
    }
    if about.len() > SECRET_FILE_BYTES_MAX {
        let seen = format!("is {} bytes", about.len());
        return Err(fault(seen, &format!("at most {SECRET_FILE_BYTES_MAX} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(SECRET_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// One secret in a file: its bytes without the line end that editors add. `None` when nothing is left.
pub fn one_secret(bytes: &[u8]) -> Option<&[u8]> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    (!bytes.is_empty()).then_some(bytes)
}

/// The directory a file will be created in has to be there.
pub(super) fn parent(path: &At<&Path>, problems: &mut Problems) {
    let parent = match path.value.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !parent.is_dir() {
        let seen = format!("{}: no such directory", parent.display());
        problems.at(path, seen, "a path in a directory that is there");
    }
}

/// The directory of the record: made at start when only its last part is missing.
pub(super) fn directory(path: &At<&Path>, problems: &mut Problems) {
    match fs::metadata(path.value) {
        Ok(about) if about.is_dir() => {}
        Ok(_) => {
            problems.at(path, format!("{} is no directory", path.value.display()), "a directory")
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => parent(path, problems),
        Err(error) => {
            let seen = format!("{}: {}", path.value.display(), words(&error));
            problems.at(path, seen, "a directory that this user may use");
        }
    }
}
