//! The data keys that the writer holds, and how their files come to be.
//!
//! A session gets a key of its own when something of it is first to be sealed; what has no session, and
//! the sessions of a flood, share one. A key file is written, synced and renamed, and the folder synced,
//! before the entry that names it is written, at every release level: a sealed part whose key is gone
//! would be lost.
//!
//! So the first call of a session that has something to seal waits for two syncs. Measured with file,
//! rename and folder on ext4 on a virtual disk that others were busy on, 150 times: median 12 ms, p99
//! 20 ms; in a gateway, eight starts, that call took 8 to 45 ms, on a memory file system 2 to 46 ms: the
//! syncs are a part of it. No key is made ahead: it would be a file that no entry names after each crash,
//! which `verify` has to tell, and it would spare one session at each start and none of those after it.
//!
//! Crash after each step: an unfinished `*.new`, or a key file that no entry names. Neither holds
//! anything that was sealed.

use std::collections::HashMap;
use std::io;

use super::{Fault, Sealing, Thread, own};
use crate::record::entry::{Entry, Keep};
use crate::record::key_files::seal_key_entry;
use crate::record::seal::DataKey;
use crate::types::{Now, SessionId};

/// Sessions whose keys are held at once. Bound: 128 bytes each; a session that comes back after it was
/// forgotten gets another key.
const KEYS_MAX: usize = 4096;
/// For how long a key is used. Bound: what one erased file takes with it, and how long a key is in the
/// memory of the gateway.
const KEY_NS_MAX: u64 = 3_600_000_000_000;
/// Keys of their own that new sessions may get at once, and one more a second. Bound: a key file costs
/// the writer a write, two syncs and 0.1 ms for each recipient; beyond it sessions share a key.
const BURST_MAX: u64 = 64;
/// Space that the key files of one batch may take on the disk, a block of 4 KiB each.
pub(super) const FILES_BYTES_MAX: u64 = (BURST_MAX + 2) * 4096;
const SECOND_NS: u64 = 1_000_000_000;

struct Held {
    key: DataKey,
    made_ns: u64,
}

impl Held {
    fn lives(&self, now: Now) -> bool {
        now.mono_ns.saturating_sub(self.made_ns) < KEY_NS_MAX
    }
}

/// See the module's document.
pub(super) struct DataKeys {
    sealing: Sealing,
    sessions: HashMap<SessionId, Held>,
    shared: Option<Held>,
    /// Nanoseconds of [`SECOND_NS`] a key that are saved up, and when they were counted.
    credit_ns: u64,
    counted_ns: u64,
    /// Names of key files were made that no sync covers yet.
    names_unsynced: bool,
}

impl DataKeys {
    pub(super) fn new(sealing: Sealing) -> DataKeys {
        DataKeys {
            sealing,
            sessions: HashMap::new(),
            shared: None,
            credit_ns: BURST_MAX * SECOND_NS,
            counted_ns: 0,
            names_unsynced: false,
        }
    }

    /// Marks the bodies of `entry` to be sealed, where all are.
    pub(super) fn marks(&self, entry: &mut Entry) {
        if self.sealing.payloads && entry.keep == Keep::Full {
            entry.keep = Keep::Sealed;
        }
    }

    /// The key for `entry`, when it has anything to seal.
    ///
    /// Panics when [`Thread::make_data_keys`] did not go before.
    pub(super) fn of(&self, entry: &Entry) -> Option<&DataKey> {
        if !entry.may_seal() {
            return None;
        }
        let own = entry.session.and_then(|session| self.sessions.get(&session));
        let held = own.or(self.shared.as_ref()).expect("keys are made before entries are added");
        Some(&held.key)
    }

    /// Forgets the oldest keys beyond the bound. Not while a batch is built: it may need any of them.
    pub(super) fn trim(&mut self) {
        while self.sessions.len() > KEYS_MAX {
            let oldest = self.sessions.iter().min_by_key(|(_, held)| held.made_ns);
            let Some(oldest) = oldest.map(|(session, _)| *session) else { return };
            self.sessions.remove(&oldest);
        }
    }

    /// For whom a key has to be made so that `entry` can be sealed: a session, or all that share one.
    fn lacks(&mut self, entry: &Entry, now: Now) -> Option<Option<SessionId>> {
        if !entry.may_seal() {
            return None;
        }
        if let Some(session) = entry.session {
            match self.sessions.get(&session) {
                Some(held) if held.lives(now) => return None,
                _ => self.sessions.remove(&session),
            };
            if self.takes_credit(now) {
                return Some(Some(session));
            }
        }
        match &self.shared {
            Some(held) if held.lives(now) => None,
            _ => Some(None),
        }
    }

    fn takes_credit(&mut self, now: Now) -> bool {
        let since_ns = now.mono_ns.saturating_sub(self.counted_ns);
        self.credit_ns = self.credit_ns.saturating_add(since_ns).min(BURST_MAX * SECOND_NS);
        self.counted_ns = now.mono_ns;
        let enough = self.credit_ns >= SECOND_NS;
        self.credit_ns -= if enough { SECOND_NS } else { 0 };
        enough
    }
}

impl Thread {
    /// Makes the keys that the first `count` of the batch need and puts the entries that name them in
    /// front of their first use; gives how many. On a fault what was made so far is kept, and the rest
    /// is made at the next try.
    pub(super) fn make_data_keys(&mut self, count: usize) -> Result<usize, Fault> {
        let Some(mut keys) = self.data_keys.take() else { return Ok(0) };
        let made = self.make_keys_in(&mut keys, count);
        self.data_keys = Some(keys);
        made
    }

    fn make_keys_in(&mut self, keys: &mut DataKeys, count: usize) -> Result<usize, Fault> {
        let (mut at, mut made) = (0, 0);
        while at < count + made {
            if let Some(session) = keys.lacks(&self.batch[at].entry, self.now()) {
                let now = self.now();
                let (held, entry) = self.make_key(keys, session, now)?;
                match session {
                    Some(session) => drop(keys.sessions.insert(session, held)),
                    None => keys.shared = Some(held),
                }
                self.batch.insert(at, own(entry));
                at += 1;
                made += 1;
            }
            at += 1;
        }
        if keys.names_unsynced {
            self.disk.sync_key_names().map_err(|error| Fault::Key("sync of the name", error))?;
            keys.names_unsynced = false;
        }
        Ok(made)
    }

    fn make_key(
        &mut self,
        keys: &mut DataKeys,
        session: Option<SessionId>,
        now: Now,
    ) -> Result<(Held, Entry), Fault> {
        let random = self.settings.random.clone();
        let key = DataKey::generate(&*random);
        let recipients = &keys.sealing.recipients;
        let file = key.to_file(recipients, &*random);
        let (name_new, name) = (format!("{}.new", key.id()), key.id().file_name());
        let taken = self.disk.write_key(&name_new, &file);
        let taken = taken.map_err(|error| Fault::Key("write", error))?;
        if taken != file.len() {
            let what = format!("{taken} of {} bytes taken", file.len());
            // As of a full disk: nothing else takes a part of so little.
            return Err(Fault::Key("write", io::Error::new(io::ErrorKind::StorageFull, what)));
        }
        self.disk.sync_key().map_err(|error| Fault::Key("sync", error))?;
        self.disk.rename_key(&name_new, &name).map_err(|error| Fault::Key("rename", error))?;
        keys.names_unsynced = true;
        let entry = seal_key_entry(&key, &file, recipients, session, now);
        Ok((Held { key, made_ns: now.mono_ns }, entry))
    }
}
