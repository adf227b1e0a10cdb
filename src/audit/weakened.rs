//! Where recording was weakened, as the record tells it: entries of kind weakening, and what the
//! recording settings of consecutive policies come to when they are compared, also over restarts.
//!
//! Entries may come in any order; what they say is put in order at the end.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;

use serde_json::{Value, json};

use super::parts;
use crate::gateway::recording::Recording;
use crate::record::Kind;
use crate::record::entry::EntryView;
use crate::record::note::time_text;

/// Bound: different things that are told. Who has more of them finds the entries by their kind.
const TEXTS_MAX: usize = 10_000;

/// One thing, with the first and the last entry that say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weakening {
    /// In words.
    pub what: String,
    /// Sequence of the first entry.
    pub entry: u64,
    /// Its time, UTC ns.
    pub utc_ns: u64,
    /// Sequence of the last entry.
    pub last: u64,
    /// Entries that say it.
    pub count: u64,
}

impl Weakening {
    /// The JSON form.
    pub fn json(&self) -> Value {
        json!({
            "entry": self.entry,
            "time": time_text(self.utc_ns),
            "what": self.what,
            "last": self.last,
            "count": self.count,
        })
    }
}

struct Policy {
    utc_ns: u64,
    recording: Arc<Recording>,
}

/// Gathers.
#[derive(Default)]
pub struct Weakened {
    /// By sequence.
    policies: BTreeMap<u64, Policy>,
    /// Equal settings are kept once, however often the gateway started with them.
    settings: BTreeMap<String, Arc<Recording>>,
    /// What a weakening entry tells against the policy before it, by sequence.
    told: BTreeMap<u64, Vec<String>>,
    texts: BTreeMap<String, Weakening>,
}

impl Weakened {
    /// Takes note of an entry.
    pub fn add(&mut self, entry: &EntryView<'_>) {
        let utc_ns = entry.now.utc_ns;
        match entry.kind() {
            Some(Kind::Policy) => {
                let detail = parts::detail(entry).unwrap_or_default();
                // A policy of a version that did not say it is no ground for a comparison.
                let Some(said) = detail.get("recording") else { return };
                let text = said.to_string();
                let recording = match self.settings.get(&text) {
                    Some(known) => known.clone(),
                    None => {
                        let read = serde_json::from_value(said.clone()).unwrap_or_default();
                        self.settings.entry(text).or_insert(Arc::new(read)).clone()
                    }
                };
                self.policies.insert(entry.sequence, Policy { utc_ns, recording });
            }
            Some(Kind::Weakening) => {
                let detail = parts::detail(entry).unwrap_or_default();
                let texts = |name: &str| -> Vec<String> {
                    let said = detail[name].as_array().into_iter().flatten();
                    said.filter_map(|what| what.as_str().map(str::to_owned)).collect()
                };
                let since = texts("weakened");
                for what in texts("weak").into_iter().chain(since.iter().cloned()) {
                    self.note(what, entry.sequence, utc_ns);
                }
                self.told.insert(entry.sequence, since);
            }
            _ => {}
        }
    }

    /// Takes what `later` gathered from other entries.
    pub fn join(&mut self, later: Weakened) {
        let mut known: Vec<(Arc<Recording>, Arc<Recording>)> = Vec::new();
        for (text, recording) in later.settings {
            let own = self.settings.entry(text).or_insert_with(|| recording.clone()).clone();
            known.push((recording, own));
        }
        for (sequence, mut policy) in later.policies {
            if let Some((_, own)) =
                known.iter().find(|(one, _)| Arc::ptr_eq(one, &policy.recording))
            {
                policy.recording = own.clone();
            }
            self.policies.insert(sequence, policy);
        }
        self.told.extend(later.told);
        later.texts.into_values().for_each(|one| self.merge(one));
    }

    fn note(&mut self, what: String, entry: u64, utc_ns: u64) {
        self.merge(Weakening { what, entry, utc_ns, last: entry, count: 1 });
    }

    fn merge(&mut self, one: Weakening) {
        let full = self.texts.len() >= TEXTS_MAX;
        match self.texts.entry(one.what.clone()) {
            Slot::Occupied(mut known) => {
                let known = known.get_mut();
                known.count += one.count;
                known.last = known.last.max(one.last);
                if one.entry < known.entry {
                    (known.entry, known.utc_ns) = (one.entry, one.utc_ns);
                }
            }
            Slot::Vacant(slot) if !full => {
                slot.insert(one);
            }
            Slot::Vacant(_) => {}
        }
    }

    /// Everything that was weakened, by the first entry that says it.
    pub fn finish(mut self) -> Vec<Weakening> {
        let policies: Vec<(u64, Policy)> = std::mem::take(&mut self.policies).into_iter().collect();
        for (index, pair) in policies.windows(2).enumerate() {
            let [(_, before), (sequence, after)] = pair else { continue };
            if Arc::ptr_eq(&before.recording, &after.recording) {
                continue;
            }
            let until = policies.get(index + 2).map_or(u64::MAX, |(sequence, _)| *sequence);
            let told: Vec<String> =
                self.told.range(sequence..&until).flat_map(|(_, texts)| texts.clone()).collect();
            for what in after.recording.weaker_than(&before.recording) {
                if !told.contains(&what) {
                    self.note(what, *sequence, after.utc_ns);
                }
            }
        }
        let mut all: Vec<Weakening> = self.texts.into_values().collect();
        all.sort_by_key(|weakening| weakening.entry);
        all
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::record::PartKind;
    use crate::record::entry::PartView;
    use crate::types::Now;

    fn add(weakened: &mut Weakened, sequence: u64, kind: Kind, detail: &Value) {
        let text = detail.to_string();
        let part = PartView {
            kind_number: PartKind::Detail as u8,
            length: text.len() as u32,
            commitment: [0; 32],
            bytes: Some(text.as_bytes()),
        };
        weakened.add(&EntryView {
            header: Cow::Borrowed(&[]),
            kind_number: kind as u8,
            sequence,
            exchange: None,
            session: None,
            ordinal: 0,
            now: Now { utc_ns: sequence, mono_ns: 0 },
            worker: 255,
            status: 0,
            parts: vec![part],
        });
    }

    fn policy(release: &str) -> Value {
        json!({ "policy": "x", "recording": { "release": release, "seal_to": ["age1a"] } })
    }

    // Mutant: `weaker_than` asked the other way round.
    #[test]
    fn policies_are_compared_over_restarts_and_what_an_entry_tells_is_told_once() {
        let said = "release was written and is queued";
        // A reload that told it; a restart that did not; a restart with the same settings.
        let entries = [
            (1, Kind::Policy, policy("synced")),
            (5, Kind::Policy, policy("written")),
            (9, Kind::Policy, policy("queued")),
            (10, Kind::Weakening, json!({ "weak": ["w"], "weakened": [said] })),
            (20, Kind::Policy, policy("queued")),
            (21, Kind::Weakening, json!({ "weak": ["w"], "weakened": [] })),
            (30, Kind::Policy, policy("synced")),
            (31, Kind::Policy, policy("written")),
            (40, Kind::Policy, json!({ "rules": [] })),
        ];
        // As they come; backwards; gathered in two halves that are put together.
        for (reversed, at) in [(false, 0), (true, 0), (false, 3), (false, 6)] {
            let mut weakened = Weakened::default();
            let mut entries = entries.to_vec();
            if reversed {
                entries.reverse();
            }
            for half in [&entries[..at], &entries[at..]] {
                let mut gathered = Weakened::default();
                for (sequence, kind, detail) in half {
                    add(&mut gathered, *sequence, *kind, detail);
                }
                weakened.join(gathered);
            }
            let told: Vec<(u64, u64, u64, String)> = weakened
                .finish()
                .into_iter()
                .map(|one| (one.entry, one.last, one.count, one.what))
                .collect();
            let expected = [
                (5, 31, 2, "release was synced and is written".to_owned()),
                (10, 10, 1, said.to_owned()),
                (10, 21, 2, "w".to_owned()),
            ];
            assert_eq!(told, expected);
        }
    }
}
