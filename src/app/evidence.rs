//! What the control threads put into the record: the policy in force, where it weakens recording, the
//! keys of the issuers, the deny list, and the facts of the start entry.
//!
//! | entry | when | holds |
//! |---|---|---|
//! | policy | at start and at each reload, before anything is judged under it | its id, the configuration without secrets, the text of every rule file (once for each text), how much is recorded |
//! | weakening | behind a policy entry, when there is something to tell | where less is recorded than the defaults say, or than before |
//! | keys | when the keys of an issuer change, before a token is judged by them | each key: id, algorithm, thumbprint, public members |
//! | deny | at start and at each change | entries added and taken away |
//!
//! Nothing secret is read here: configurations name files, and of known values only the ids are told.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::app::config::{Config, Grant, Release};
use crate::app::log;
use crate::auth::deny::{DenyEntry, DenyList};
use crate::auth::keys::{KeySet, KeySets};
use crate::gateway::recording::{GrantRecording, Recording};
use crate::guard::rules::{BUILTIN, BUILTIN_NAME};
use crate::record::writer;
use crate::record::{Entry, Kind, PartKind, Recorder, SubmitFault};
use crate::types::{Now, hex};

/// Hexadecimal digits of a policy's id. Bound: two policies of one record with one id would take about
/// 2^24 reloads.
const POLICY_ID_DIGITS: usize = 12;

/// Tries of an entry that finds the queue full, and the pause between them: two seconds.
const TRIES: u32 = 100;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// The way of the control threads into the record, and what they have told so far.
pub struct Evidence {
    recorder: Mutex<Recorder>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// SHA-256 of the rule texts that stand in the record since this start.
    texts: HashSet<String>,
    recording: Option<Recording>,
    keys: Vec<Option<Arc<KeySet>>>,
    deny: Option<Arc<DenyList>>,
}

/// A policy as it goes into the record.
pub struct PolicyText {
    /// Its id: what verdicts refer to. Equal policies have equal ids.
    pub id: Arc<str>,
    config: String,
    /// Sections of the file that take effect at the next start only.
    pending: Vec<&'static str>,
    packs: Vec<(String, String, String)>,
    rules: Vec<String>,
    recording: Recording,
}

fn release(release: Release) -> String {
    let found = Release::WORDS.iter().find(|(_, known)| *known == release);
    found.map_or("", |(word, _)| word).to_owned()
}

/// The same for grants that let the same callers do the same, whatever is recorded of it.
fn grant_id(grant: &Grant, upstream: &str) -> String {
    let Grant { issuer, groups, subjects, claims, tools, prompts, resources, methods, .. } = grant;
    let whom =
        json!([upstream, issuer, groups, subjects, claims, tools, prompts, resources, methods]);
    hex(&Sha256::digest(whom.to_string())[..POLICY_ID_DIGITS / 2])
}

/// How much is recorded under `config`.
pub fn recording(config: &Config) -> Recording {
    let grants = config.grants.iter().enumerate().map(|(number, grant)| {
        let upstream = &config.upstreams[usize::from(grant.upstream)].name;
        GrantRecording {
            id: grant_id(grant, upstream),
            name: format!("grant {number} on {upstream}"),
            release: release(grant.release.unwrap_or(config.record.release)),
            record: grant.record.as_str().to_owned(),
        }
    });
    Recording {
        release: release(config.record.release),
        seal_to: config.record.seal_to.iter().map(ToString::to_string).collect(),
        seal: if config.record.seal_payloads { "payloads" } else { "masked" }.to_owned(),
        seal_tokens: config.record.seal_tokens,
        witnesses: config.record.witnesses.iter().map(|one| one.key.to_string()).collect(),
        on_unwitnessed: if config.record.unwitnessed_refuses { "refuse" } else { "alarm" }
            .to_owned(),
        max_unwitnessed_ms: config.record.unwitnessed_ms_max,
        grants: grants.collect(),
    }
}

impl PolicyText {
    /// The policy of `config` with rules compiled from these texts. `rules` are the ids of all rules,
    /// known values included.
    pub fn new(
        config: &Config,
        pending: Vec<&'static str>,
        files: &[(String, String)],
        rules: Vec<String>,
    ) -> PolicyText {
        let builtin = (BUILTIN_NAME.to_owned(), BUILTIN.to_owned());
        let packs: Vec<_> = config
            .guard
            .builtin
            .then_some(builtin)
            .into_iter()
            .chain(files.iter().cloned())
            .map(|(name, text)| (name, hex(&Sha256::digest(&text)), text))
            .collect();
        let config_text = config.public_text().to_owned();
        let recording = recording(config);
        let digests: Vec<_> = packs.iter().map(|(name, digest, _)| (name, digest)).collect();
        let whole = json!([config_text, pending, digests, rules, recording]).to_string();
        let id = hex(&Sha256::digest(whole)[..POLICY_ID_DIGITS / 2]);
        PolicyText { id: id.into(), config: config_text, pending, packs, rules, recording }
    }
}

impl Evidence {
    /// Nothing is told yet.
    pub fn new(recorder: Recorder) -> Evidence {
        Evidence { recorder: Mutex::new(recorder), told: Mutex::default() }
    }

    /// One entry. Tried for a while when the queue is full: these are few, and what they say (who was
    /// cut off, which policy holds) is evidence. False, and a line in the log, when it cannot be taken.
    pub fn record(&self, kind: Kind, detail: &Value) -> bool {
        let now: Now = writer::system_now();
        let mut entry = Entry::new(kind, now).part(PartKind::Detail, detail.to_string());
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..TRIES {
            match recorder.submit(entry) {
                Ok(_) => return true,
                // No entry may be as large, now or later.
                Err((_, SubmitFault::TooLarge)) => break,
                Err((back, SubmitFault::Full | SubmitFault::Ended)) => entry = back,
            }
            std::thread::sleep(PAUSE);
        }
        log::error("record", format!("an entry of kind {} could not be recorded", kind.as_str()))
            .write();
        false
    }

    /// The policy that holds from here on. To be called before anything is judged under it; false means
    /// that it must not come into force.
    pub fn policy(&self, policy: &PolicyText) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let packs: Vec<Value> = policy
            .packs
            .iter()
            .map(|(name, digest, text)| {
                // Why: a pack is large and seldom changes; its digest names the entry that has it.
                let text = (!told.texts.contains(digest)).then_some(text);
                json!({ "name": name, "sha256": digest, "text": text })
            })
            .collect();
        let detail = json!({
            "policy": &*policy.id,
            "config": policy.config,
            "pending": policy.pending,
            "packs": packs,
            "rules": policy.rules,
            "recording": policy.recording,
        });
        if !self.record(Kind::Policy, &detail) {
            return false;
        }
        told.texts.extend(policy.packs.iter().map(|(_, digest, _)| digest.clone()));
        let before = told.recording.replace(policy.recording.clone());
        let weakened = policy.recording.weaknesses();
        let since = before.map_or(Vec::new(), |before| policy.recording.weaker_than(&before));
        if weakened.is_empty() && since.is_empty() {
            return true;
        }
        for what in &since {
            log::warn("weakening", what.clone()).write();
        }
        let detail = json!({ "policy": &*policy.id, "weak": weakened, "weakened": since });
        self.record(Kind::Weakening, &detail)
    }

    /// The key sets that are about to be used. False when they must not be: a token that they verify
    /// could not be checked from the record.
    pub fn keys(&self, issuers: &[String], sets: &KeySets) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.keys.resize(issuers.len(), None);
        for (index, issuer) in issuers.iter().enumerate() {
            let Some(set) = sets.issuer(index).and_then(|keys| keys.set.as_ref()) else { continue };
            let known = told.keys[index].as_ref();
            if known.is_some_and(|known| Arc::ptr_eq(known, set) || known.same_keys(set)) {
                continue;
            }
            if !self.record(Kind::Keys, &keys_detail(issuer, set)) {
                return false;
            }
            told.keys[index] = Some(set.clone());
        }
        true
    }

    /// The deny list that is in force.
    pub fn deny(&self, list: &Arc<DenyList>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let none = DenyList::default();
        let before = told.deny.as_deref().unwrap_or(&none);
        let text = |entry: &DenyEntry| {
            json!({
                "issuer": entry.issuer,
                "subject": entry.subject,
                "client": entry.client,
                "jti": entry.token_id,
                "reason": entry.reason,
                "since": entry.since,
            })
        };
        let without = |one: &DenyList, other: &DenyList| -> Vec<Value> {
            one.entries().iter().filter(|entry| !other.holds(entry)).map(text).collect()
        };
        let (added, removed) = (without(list, before), without(before, list));
        if told.deny.is_none() && list.entries().is_empty() {
            return;
        }
        let entries = list.entries().len();
        let detail = json!({ "entries": entries, "added": added, "removed": removed });
        if self.record(Kind::Deny, &detail) {
            told.deny = Some(list.clone());
        }
    }

    /// The deny file is of no use: the list before stays in force.
    pub fn deny_kept(&self, fault: &str) {
        self.record(Kind::Deny, &json!({ "kept": fault }));
    }
}

fn keys_detail(issuer: &str, set: &KeySet) -> Value {
    let keys: Vec<Value> = set
        .keys()
        .iter()
        .map(|key| {
            let public: Value = serde_json::from_str(&key.public_jwk).unwrap_or_default();
            json!({
                "kid": &*key.id,
                "alg": key.algorithm.as_str(),
                "thumbprint": &*key.thumbprint,
                "jwk": public,
            })
        })
        .collect();
    let ignored: Vec<Value> = set
        .ignored
        .iter()
        .map(|(index, fault)| json!({ "index": index, "reason": fault.as_str() }))
        .collect();
    json!({ "issuer": issuer, "keys": keys, "ignored": ignored })
}

/// Facts of the start entry about the program and the host.
pub fn start_facts(release: &str, ring_flags: &str) -> Map<String, Value> {
    let uname = rustix::system::uname();
    let mut facts = Map::new();
    facts.insert("version".into(), env!("CARGO_PKG_VERSION").into());
    facts.insert("commit".into(), env!("STENOGRAPH_COMMIT").into());
    facts.insert("binary_sha256".into(), binary_digest().into());
    facts.insert("kernel".into(), uname.release().to_string_lossy().into_owned().into());
    facts.insert("host".into(), uname.nodename().to_string_lossy().into_owned().into());
    facts.insert("scanner".into(), crate::guard::engine::version().into());
    facts.insert("ring_flags".into(), ring_flags.into());
    facts.insert("release".into(), release.into());
    facts
}

/// SHA-256 of the program that runs, as `sha256sum` prints it; `None` where it cannot be read.
fn binary_digest() -> Option<String> {
    // Why this name: it leads to the file that was started, also when another has taken its place.
    static DIGEST: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    DIGEST.get_or_init(|| file_digest(Path::new("/proc/self/exe")).ok()).clone()
}

fn file_digest(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash)?;
    Ok(hex(&hash.finalize()))
}
