//! What a witness remembers of each log, one file, and what it does with a request.
//!
//! The file holds the latest cosigned note of each log, with an empty line between them, so that an
//! auditor can give it to `verify --since` as it is.
//!
//! | step | a power cut then |
//! |---|---|
//! | the new file is written beside the old one, synced | the old one holds |
//! | renamed over it, the directory synced | the new one holds; nobody has the cosignature |
//! | the cosignature leaves | the new one holds |
//!
//! Invariant: the tree of a cosignature that leaves continues the one of every cosignature that left
//! before it, over restarts too. So nothing is cosigned that is not in the file, and one process at a
//! time holds the file (`FILE.lock`).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::protocol::Request;
use crate::record::cosign::WitnessKey;
use crate::record::keys::VerifierKey;
use crate::record::note::{Note, SignatureLine, TreeHead, notes};
use crate::record::tree::proof::continues;

/// Largest state file: some thousand logs.
const STATE_BYTES_MAX: u64 = 16 * 1024 * 1024;

struct Latest {
    head: TreeHead,
    note: String,
}

/// A witness's memory.
pub struct State {
    path: PathBuf,
    /// Holds a byte as soon as something was cosigned.
    lock: File,
    /// Keys of the logs that are witnessed, by origin.
    keys: BTreeMap<String, Vec<VerifierKey>>,
    /// Also of logs that are not listed any more: forgetting is what a witness must not do.
    latest: BTreeMap<String, Latest>,
}

/// What a request comes to; each is one status of the protocol.
#[derive(Debug)]
pub enum Answer {
    /// 200: the cosignature line. It is in the file.
    Cosigned(String),
    /// 400: not a request.
    Form,
    /// 403: no signature by a key that is trusted for this log.
    Signature,
    /// 404: a log that is not witnessed here.
    Unknown,
    /// 409: the witness is at this size.
    Size(u64),
    /// 422: the tree does not continue the one that was cosigned.
    Fork,
    /// 500: the state cannot be written; nothing is cosigned.
    Failed(io::Error),
}

impl State {
    /// Opens or begins the state in `path` for these logs. The error is a sentence.
    pub fn open(path: &Path, logs: &[VerifierKey], own: &WitnessKey) -> Result<State, String> {
        let lock_path = beside(path, ".lock");
        let fault = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| fault(&lock_path, error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            format!("{}: another witness has it; give each its own state", path.display())
        })?;
        let mut keys: BTreeMap<String, Vec<VerifierKey>> = BTreeMap::new();
        for key in logs {
            keys.entry(key.name().to_owned()).or_default().push(key.clone());
        }
        let used = lock.metadata().map_err(|error| fault(&lock_path, error))?.len() > 0;
        let mut state = State { path: path.to_owned(), lock, keys, latest: BTreeMap::new() };
        match std::fs::metadata(path) {
            Ok(meta) if meta.len() > STATE_BYTES_MAX => {
                return Err(format!("{}: larger than {STATE_BYTES_MAX} bytes", path.display()));
            }
            Ok(_) => state.read(own)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fault(path, error)),
        }
        // Why: a witness that begins anew after its memory was lost would cosign any tree.
        if used && state.latest.is_empty() {
            return Err(format!(
                "{}: was here and is gone; bring it back, or remove {} to begin anew",
                path.display(),
                lock_path.display()
            ));
        }
        Ok(state)
    }

    fn read(&mut self, own: &WitnessKey) -> Result<(), String> {
        let text = std::fs::read_to_string(&self.path)
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        let broken = || {
            format!(
                "{}: not a state that this witness wrote; bring back a good copy",
                self.path.display()
            )
        };
        for note in notes(&text).ok_or_else(broken)? {
            let parsed = Note::parse(note.as_bytes()).ok_or_else(broken)?;
            let head = TreeHead::parse(parsed.text).ok_or_else(broken)?;
            let cosigned = |line: &_| own.verifier().verify(line, parsed.text).is_some();
            if !parsed.signatures.iter().any(cosigned) {
                return Err(broken());
            }
            let latest = Latest { note: note.to_owned(), head: head.clone() };
            if self.latest.insert(head.origin, latest).is_some() {
                return Err(broken());
            }
        }
        Ok(())
    }

    /// The latest note that was cosigned for this log, with the cosignature.
    pub fn latest(&self, origin: &str) -> Option<&str> {
        self.latest.get(origin).map(|latest| latest.note.as_str())
    }

    /// Judges a request at this time, in seconds since the epoch.
    pub fn add(&mut self, body: &[u8], own: &WitnessKey, seconds: u64) -> Answer {
        let Some(request) = Request::parse(body) else { return Answer::Form };
        let Some(note) = Note::parse(request.note.as_bytes()) else { return Answer::Form };
        let Some(head) = TreeHead::parse(note.text) else { return Answer::Form };
        let Some(keys) = self.keys.get(&head.origin) else { return Answer::Unknown };
        let by_log = |line: &&SignatureLine<'_>| keys.iter().any(|key| line.is_by(key, note.text));
        let Some(signed) = note.signatures.iter().find(by_log) else { return Answer::Signature };
        if request.old_size > head.size {
            return Answer::Form;
        }
        let latest = self.latest.get(&head.origin).map(|latest| &latest.head);
        let (size, root) = latest.map_or((0, None), |latest| (latest.size, Some(latest.root)));
        if request.old_size != size {
            return Answer::Size(size);
        }
        // Why the empty tree needs no root: everything continues it.
        let root = root.unwrap_or(head.root);
        if size == head.size && latest.is_some() && root != head.root {
            return Answer::Size(size);
        }
        let whole = match size {
            0 => request.proof.is_empty(),
            _ => continues(size, &root, head.size, &head.root, &request.proof),
        };
        if !whole {
            return Answer::Fork;
        }
        let line = own.cosign(note.text, seconds);
        let kept = format!("{}\n{}\n{line}", note.text, signed.line);
        let origin = head.origin.clone();
        let before = self.latest.insert(origin.clone(), Latest { head, note: kept });
        match self.write() {
            Ok(()) => Answer::Cosigned(line),
            Err(error) => {
                match before {
                    Some(before) => self.latest.insert(origin, before),
                    None => self.latest.remove(&origin),
                };
                Answer::Failed(error)
            }
        }
    }

    fn write(&self) -> io::Result<()> {
        if self.lock.metadata()?.len() == 0 {
            (&self.lock).write_all(b"1")?;
            self.lock.sync_all()?;
        }
        let new = beside(&self.path, ".new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
        let notes: Vec<&str> = self.latest.values().map(|latest| latest.note.as_str()).collect();
        file.write_all(notes.join("\n").as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(directory)?.sync_all()
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::keys::LogKey;
    use crate::record::tree::{Range, Tree, leaf_hash, proof};
    use base64::Engine as _;

    fn tree(leaves: &[u8]) -> Tree {
        let mut tree = Tree::new();
        leaves.iter().for_each(|leaf| tree.append(leaf_hash(&[*leaf])));
        tree
    }

    fn note(key: &LogKey, tree: &Tree) -> String {
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let text =
            format!("{}\n{}\n{}\n", key.verifier().name(), tree.size(), encode(&tree.root()));
        let signature = [&key.verifier().hash()[..], &key.sign(text.as_bytes())].concat();
        format!("{text}\n\u{2014} {} {}\n", key.verifier().name(), encode(&signature))
    }

    /// A request from the first `old` leaves to all of them.
    fn body(key: &LogKey, old: usize, leaves: &[u8]) -> String {
        let mut new = Range::new(old as u64);
        leaves[old..].iter().for_each(|leaf| new.append(leaf_hash(&[*leaf])));
        let proof = proof::consistency(&Range::of(&tree(&leaves[..old])), &new).unwrap();
        Request { old_size: old as u64, proof, note: &note(key, &tree(leaves)) }.text()
    }

    // Mutants: `add` without the proof check; without the comparison of roots at one size; with the
    // state written after the answer (the file is looked at); `open` that goes on with what it could
    // read; `open` that does not ask whether the file was here before.
    #[test]
    fn a_witness_cosigns_what_continues_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let log = LogKey::from_seed("log.example", &[1; 32]).unwrap();
        let other = LogKey::from_seed("other.example", &[2; 32]).unwrap();
        let forged = LogKey::from_seed("log.example", &[3; 32]).unwrap();
        let own = WitnessKey::from_seed("w.example", &[4; 32]).unwrap();
        let logs = [log.verifier().clone()];
        let mut state = State::open(&path, &logs, &own).unwrap();
        let ask = |state: &mut State, body: &str| state.add(body.as_bytes(), &own, 5);

        assert!(matches!(ask(&mut state, "old 0\n\nnothing"), Answer::Form));
        assert!(matches!(ask(&mut state, &body(&other, 0, &[1])), Answer::Unknown));
        assert!(matches!(ask(&mut state, &body(&forged, 0, &[1])), Answer::Signature));
        let Answer::Cosigned(line) = ask(&mut state, &body(&log, 0, &[1, 2, 3])) else { panic!() };
        let kept = std::fs::read_to_string(&path).unwrap();
        assert!(kept.ends_with(&line), "{kept}");
        assert_eq!(state.latest("log.example"), Some(kept.as_str()));

        // Smaller, forked at the same size, forked further on, and a gap in between.
        assert!(matches!(ask(&mut state, &body(&log, 0, &[1, 2])), Answer::Size(3)));
        assert!(matches!(ask(&mut state, &body(&log, 3, &[1, 2, 9])), Answer::Size(3)));
        assert!(matches!(ask(&mut state, &body(&log, 3, &[1, 9, 3, 4, 5])), Answer::Fork));
        let short = body(&log, 3, &[1, 2, 3, 4, 5]).replacen("old 3", "old 9", 1);
        assert!(matches!(ask(&mut state, &short), Answer::Form));
        assert!(matches!(ask(&mut state, &body(&log, 3, &[1, 2, 3])), Answer::Cosigned(_)));
        assert!(matches!(ask(&mut state, &body(&log, 3, &[1, 2, 3, 4, 5])), Answer::Cosigned(_)));

        // Nobody else may have the file, and a restart forgets nothing.
        assert!(State::open(&path, &logs, &own).is_err());
        drop(state);
        let mut state = State::open(&path, &[], &own).unwrap();
        assert!(matches!(ask(&mut state, &body(&log, 5, &[1, 2, 3, 4, 5])), Answer::Unknown));
        drop(state);
        let mut state = State::open(&path, &logs, &own).unwrap();
        assert!(matches!(ask(&mut state, &body(&log, 0, &[1])), Answer::Size(5)));
        assert!(matches!(ask(&mut state, &body(&log, 5, &[1, 2, 3, 4, 9, 6])), Answer::Fork));
        drop(state);

        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&good[..], b"\n", &good].concat()).unwrap();
        assert!(State::open(&path, &logs, &own).is_err(), "one log twice");
        std::fs::write(&path, &good[..good.len() / 2]).unwrap();
        assert!(State::open(&path, &logs, &own).is_err());
        std::fs::write(&path, "").unwrap();
        assert!(State::open(&path, &logs, &own).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(State::open(&path, &logs, &own).is_err());
    }
}
