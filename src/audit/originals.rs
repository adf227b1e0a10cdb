//! Opening sealed parts with an auditor's identity: the key files of the record, and why one does not
//! open.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;

use crate::record::age::{AgeFault, Identity};
use crate::record::disk::{Directory, Files};
use crate::record::entry::EntryView;
use crate::record::seal::{DataKey, KeyId, Restored, SealFault, key_of, restore, sealed_part};

/// Keys held at once. Bound: memory; a key that is needed again is read again.
const KEYS_MAX: usize = 4096;

/// Why what is sealed in an entry is not restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// The sealed part is not in this copy.
    Withheld,
    /// The key file is gone.
    Erased(KeyId),
    /// The key is wrapped to others.
    OtherIdentity(KeyId),
    /// The key file is there, and is not what it was.
    Changed(KeyId, AgeFault),
    /// The key file cannot be read.
    Unreadable(KeyId, String),
    /// The sealed part does not open, or what comes out is not what the header commits to.
    Part(KeyId, SealFault),
    /// The sealed part has no known form.
    Form(SealFault),
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Closed::Withheld => f.write_str("withheld: the sealed part is not in this copy"),
            Closed::Erased(key) => write!(f, "erased: the file of key {key} is gone"),
            Closed::OtherIdentity(key) => {
                write!(f, "wrong identity: key {key} is sealed to other auditors")
            }
            Closed::Changed(key, fault) => write!(f, "damaged: the file of key {key} {fault}"),
            Closed::Unreadable(key, error) => {
                write!(f, "not read: the file of key {key}: {error}")
            }
            Closed::Part(key, fault) => write!(f, "damaged: {fault} (key {key})"),
            Closed::Form(fault) => write!(f, "damaged: {fault}"),
        }
    }
}

/// Opens the sealed parts of one record.
#[derive(Debug)]
pub struct Opener {
    files: Directory,
    identities: Vec<Identity>,
    keys: HashMap<KeyId, Result<DataKey, Closed>>,
}

impl Opener {
    /// For the record in `directory`.
    pub fn new(directory: &Path, identities: Vec<Identity>) -> Opener {
        Opener { files: Directory::new(directory), identities, keys: HashMap::new() }
    }

    /// Everything that is sealed in `entry`, each proven against the commitment in its header; `None`
    /// when nothing is.
    pub fn open(&mut self, entry: &EntryView<'_>) -> Option<Result<Vec<Restored>, Closed>> {
        let (_, part) = sealed_part(entry)?;
        Some(self.restored(entry, part))
    }

    fn restored(
        &mut self,
        entry: &EntryView<'_>,
        part: Option<&[u8]>,
    ) -> Result<Vec<Restored>, Closed> {
        let id = key_of(part.ok_or(Closed::Withheld)?).map_err(Closed::Form)?;
        if self.keys.len() >= KEYS_MAX && !self.keys.contains_key(&id) {
            self.keys.clear();
        }
        if !self.keys.contains_key(&id) {
            let key = self.key(id);
            self.keys.insert(id, key);
        }
        let key = self.keys[&id].as_ref().map_err(Clone::clone)?;
        restore(entry, key).map_err(|fault| Closed::Part(id, fault))
    }

    fn key(&self, id: KeyId) -> Result<DataKey, Closed> {
        let file = self.files.read_key(&id.file_name()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Closed::Erased(id),
            _ => Closed::Unreadable(id, error.to_string()),
        })?;
        let key = DataKey::of_file(&file, &self.identities).map_err(|fault| match fault {
            AgeFault::OtherIdentity => Closed::OtherIdentity(id),
            fault => Closed::Changed(id, fault),
        })?;
        match key.id() == id {
            true => Ok(key),
            false => Err(Closed::Changed(id, AgeFault::Form("it holds the key of another file"))),
        }
    }
}
