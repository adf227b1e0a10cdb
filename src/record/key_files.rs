//! The key files of a record against the entries that name them.
//!
//! | key file | is |
//! |---|---|
//! | as the entry says | sound |
//! | gone | erased: what it sealed cannot be restored any more, and nothing else is touched |
//! | other content than the entry's digest says | damage |
//! | there, named by no entry | foreign: left over when a process ended just then, or put there |
//! | `*.new` | an unfinished one; counts for nothing |
//!
//! A sealed part whose key no entry before it names is damage.

use std::collections::HashMap;
use std::io;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::age::Recipient;
use super::disk::Files;
use super::entry::{Entry, EntryView, Kind, PartKind};
use super::format::SEALED_VERSION_MIN;
use super::found::{Damage, Place};
use super::seal::{DataKey, KeyId, key_of, sealed_part};
use crate::types::{Now, SessionId, hex};

/// The detail of a seal-key entry.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct SealKeyDetail {
    /// Id of the data key, 32 hexadecimal digits.
    pub key: String,
    /// SHA-256 of its file, 64 hexadecimal digits.
    pub file: String,
    /// `age1…` of everybody it is wrapped to.
    pub recipients: Vec<String>,
    /// The session whose key it is; none where several share it.
    pub session: Option<String>,
}

/// The entry that names `key` and its file, which goes before whatever is sealed under it.
pub fn seal_key_entry(
    key: &DataKey,
    file: &[u8],
    recipients: &[Recipient],
    session: Option<SessionId>,
    now: Now,
) -> Entry {
    let detail = SealKeyDetail {
        key: key.id().to_string(),
        file: hex(&Sha256::digest(file)),
        recipients: recipients.iter().map(ToString::to_string).collect(),
        session: session.map(|session| session.to_string()),
    };
    let detail = serde_json::to_string(&detail).expect("writing to memory does not fail");
    let mut entry = Entry::new(Kind::SealKey, now).part(PartKind::Detail, detail);
    entry.session = session;
    entry
}

/// Where a key is named, and what its file must be.
#[derive(Debug)]
struct Named {
    digest: [u8; 32],
    place: Place,
    entry: u64,
}

/// Collects from the entries of a record, in any order, then looks at the files. Takes about 200 bytes
/// for each key.
#[derive(Debug, Default)]
pub struct KeyFiles {
    named: HashMap<KeyId, Named>,
    /// The first entry that is sealed under each key.
    used: HashMap<KeyId, (u64, Place)>,
    damage: Vec<Damage>,
}

/// What the key files came to.
#[derive(Debug, Default)]
pub struct KeyReport {
    /// Keys that entries name.
    pub named: u64,
    /// Keys whose files are gone, sorted.
    pub erased: Vec<KeyId>,
    /// Files that no entry names, sorted.
    pub foreign: Vec<String>,
    /// Files that could not be read, with the error.
    pub unreadable: Vec<(String, String)>,
    /// Changed files, and sealed parts without a key.
    pub damage: Vec<Damage>,
}

fn digest_of(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (slot, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *slot = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    (hex(&digest) == text).then_some(digest)
}

fn damage(place: &Place, entry: u64, what: String) -> Damage {
    let (segment, offset, end) = (place.segment, place.start, place.end);
    Damage { segment, entry: Some(entry), offset, end, what }
}

impl KeyFiles {
    /// Takes what an entry says of keys.
    pub fn add(&mut self, place: &Place, entry: &EntryView<'_>) {
        // Why: before it these numbers are kinds that nobody knows.
        if place.version < SEALED_VERSION_MIN {
            return;
        }
        if entry.kind() == Some(Kind::SealKey) {
            let detail = entry.part(PartKind::Detail);
            let detail = detail.and_then(|text| serde_json::from_slice::<SealKeyDetail>(text).ok());
            let named = detail
                .and_then(|detail| Some((KeyId::parse(&detail.key)?, digest_of(&detail.file)?)));
            match named {
                Some((id, digest)) => {
                    let entry = entry.sequence;
                    self.named.insert(id, Named { digest, place: *place, entry });
                }
                None => {
                    let what = "a seal-key entry names no key".to_owned();
                    self.damage.push(damage(place, entry.sequence, what));
                }
            }
        }
        let Some((row, part)) = sealed_part(entry) else { return };
        if row + 1 != entry.parts.len() {
            let what = "a sealed part is not the last row".to_owned();
            self.damage.push(damage(place, entry.sequence, what));
        } else if let Some(part) = part {
            match key_of(part) {
                Ok(id) => {
                    let first = self.used.entry(id).or_insert((entry.sequence, *place));
                    if entry.sequence < first.0 {
                        *first = (entry.sequence, *place);
                    }
                }
                Err(fault) => {
                    self.damage.push(damage(place, entry.sequence, fault.to_string()));
                }
            }
        }
    }

    /// Takes what `later` collected from entries behind these.
    pub fn join(&mut self, later: KeyFiles) {
        self.named.extend(later.named);
        for (id, use_later) in later.used {
            let first = self.used.entry(id).or_insert(use_later);
            if use_later.0 < first.0 {
                *first = use_later;
            }
        }
        self.damage.extend(later.damage);
    }

    /// Looks at the files. `live`: a writer runs, so a file may be there before its entry is read.
    pub fn check(self, files: &dyn Files, live: bool) -> io::Result<KeyReport> {
        let KeyFiles { named, used, damage: found } = self;
        let mut report =
            KeyReport { named: named.len() as u64, damage: found, ..KeyReport::default() };
        for name in files.list_keys()? {
            let known = KeyId::of_file_name(&name).is_some_and(|id| named.contains_key(&id));
            if !known && !live && !name.ends_with(".new") {
                report.foreign.push(name);
            }
        }
        for (id, &Named { digest, place, entry }) in &named {
            let name = id.file_name();
            match files.read_key(&name) {
                Ok(bytes) if Sha256::digest(&bytes)[..] == digest => {}
                Ok(_) => {
                    let what = format!("key file {name} is not the one that was written");
                    report.damage.push(damage(&place, entry, what));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => report.erased.push(*id),
                Err(error) => report.unreadable.push((name, error.to_string())),
            }
        }
        for (id, (entry, place)) in used {
            if named.get(&id).is_none_or(|named| named.entry > entry) {
                let what = format!("sealed with the key {id}, which no entry before names");
                report.damage.push(damage(&place, entry, what));
            }
        }
        report.erased.sort_unstable();
        report.foreign.sort_unstable();
        report.unreadable.sort_unstable();
        report.damage.sort_by_key(|damage| (damage.segment, damage.entry));
        Ok(report)
    }
}
