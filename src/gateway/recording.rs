//! How much is recorded under a policy, and where that is less than the defaults say or than it was.
//!
//! The policy entry carries a [`Recording`]; whoever reads the record compares those of consecutive
//! policies, also over restarts. What is said here in words stands in entries of kind weakening and in
//! the report of `verify`. Nothing here reads a configuration.

use serde::{Deserialize, Serialize};

use crate::record::{Keep, Level};

/// How one grant is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GrantRecording {
    /// The same for a grant that names the same callers and targets of the same upstream, wherever it
    /// stands.
    pub id: String,
    /// For people: its number and its upstream.
    pub name: String,
    /// Release level in force.
    pub release: String,
    /// How bodies are kept.
    pub record: String,
}

/// How much is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Recording {
    /// Release level where a grant sets none.
    pub release: String,
    /// Recipients of sealed originals.
    pub seal_to: Vec<String>,
    /// What is sealed: `masked` or `payloads`.
    pub seal: String,
    /// Tokens are sealed at their first use.
    pub seal_tokens: bool,
    /// Verifier keys of the witnesses.
    pub witnesses: Vec<String>,
    /// What happens without a witness: `alarm` or `refuse`.
    pub on_unwitnessed: String,
    /// Longest time without a witness, milliseconds.
    pub max_unwitnessed_ms: u64,
    /// Every grant.
    pub grants: Vec<GrantRecording>,
}

/// Strength of a release level; words that are not known are the weakest.
fn level(word: &str) -> u8 {
    match word {
        _ if word == Level::Synced.as_str() => 3,
        _ if word == Level::Written.as_str() => 2,
        _ if word == Level::Queued.as_str() => 1,
        _ => 0,
    }
}

/// Strength of keeping; words that are not known are the weakest.
fn kept(word: &str) -> u8 {
    Keep::WORDS.iter().position(|(known, _)| *known == word).map_or(0, |place| place as u8 + 1)
}

impl Recording {
    /// Where less is recorded, or less durably, than the defaults say.
    pub fn weaknesses(&self) -> Vec<String> {
        let mut found = Vec::new();
        let written = level(Level::Written.as_str());
        if level(&self.release) < written {
            found.push(format!(
                "release = {}: bytes go on before their entry is written",
                self.release
            ));
        }
        if self.seal_to.is_empty() {
            found.push("no seal_to: the originals of masked spans are lost".to_owned());
        }
        for grant in &self.grants {
            let release = level(&grant.release);
            if release < level(&self.release) {
                found.push(format!(
                    "{}: release = {}, below [record] release = {}",
                    grant.name, grant.release, self.release
                ));
            }
            if kept(&grant.record) < kept(Keep::Full.as_str()) {
                found.push(format!("{}: record = {}", grant.name, grant.record));
            }
        }
        found
    }

    /// Where less is recorded, or less durably, than under `before`.
    pub fn weaker_than(&self, before: &Recording) -> Vec<String> {
        let mut found = Vec::new();
        let changed = |name: &str, old: &str, new: &str| format!("{name} was {old} and is {new}");
        if level(&self.release) < level(&before.release) {
            found.push(changed("release", &before.release, &self.release));
        }
        for recipient in before.seal_to.iter().filter(|one| !self.seal_to.contains(one)) {
            found.push(format!("recipient {recipient} was taken out of seal_to"));
        }
        if before.seal == "payloads" && self.seal != before.seal {
            found.push(changed("seal", &before.seal, &self.seal));
        }
        if before.seal_tokens && !self.seal_tokens {
            found.push(changed("seal_tokens", "true", "false"));
        }
        for witness in before.witnesses.iter().filter(|one| !self.witnesses.contains(one)) {
            found.push(format!("witness {witness} was taken away"));
        }
        if !before.witnesses.is_empty() {
            if before.on_unwitnessed == "refuse" && self.on_unwitnessed != before.on_unwitnessed {
                found.push(changed("on_unwitnessed", "refuse", &self.on_unwitnessed));
            }
            if self.max_unwitnessed_ms > before.max_unwitnessed_ms {
                found.push(format!(
                    "max_unwitnessed was {} ms and is {} ms",
                    before.max_unwitnessed_ms, self.max_unwitnessed_ms
                ));
            }
        }
        for grant in &self.grants {
            match before.grants.iter().find(|old| old.id == grant.id) {
                Some(old) => {
                    if level(&grant.release) < level(&old.release) {
                        let name = format!("{}: release", grant.name);
                        found.push(changed(&name, &old.release, &grant.release));
                    }
                    if kept(&grant.record) < kept(&old.record) {
                        let name = format!("{}: record", grant.name);
                        found.push(changed(&name, &old.record, &grant.record));
                    }
                }
                // A grant that was edited is another one: what it loosens is told all the same.
                None => {
                    if level(&grant.release) < level(&self.release) {
                        found.push(format!("{} is new, release = {}", grant.name, grant.release));
                    }
                    if kept(&grant.record) < kept(Keep::Full.as_str()) {
                        found.push(format!("{} is new, record = {}", grant.name, grant.record));
                    }
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(id: &str, release: &str, record: &str) -> GrantRecording {
        GrantRecording {
            id: id.into(),
            name: format!("grant {id}"),
            release: release.into(),
            record: record.into(),
        }
    }

    fn strong() -> Recording {
        Recording {
            release: "synced".into(),
            seal_to: vec!["age1a".into(), "age1b".into()],
            seal: "payloads".into(),
            seal_tokens: true,
            witnesses: vec!["w1".into(), "w2".into()],
            on_unwitnessed: "refuse".into(),
            max_unwitnessed_ms: 60_000,
            grants: vec![grant("a", "synced", "full"), grant("b", "synced", "sealed")],
        }
    }

    #[test]
    fn each_step_down_is_told_once_and_no_step_up_is() {
        type Change = fn(&mut Recording);
        let steps: [(Change, &str); 11] = [
            (|to| to.release = "written".into(), "release was synced and is written"),
            (|to| drop(to.seal_to.remove(0)), "recipient age1a was taken out"),
            (|to| to.seal = "masked".into(), "seal was payloads"),
            (|to| to.seal_tokens = false, "seal_tokens was true"),
            (|to| drop(to.witnesses.remove(1)), "witness w2 was taken away"),
            (|to| to.on_unwitnessed = "alarm".into(), "on_unwitnessed was refuse and is alarm"),
            (|to| to.max_unwitnessed_ms = 60_001, "max_unwitnessed was 60000 ms"),
            (|to| to.grants[0].release = "queued".into(), "grant a: release was synced"),
            (|to| to.grants[1].record = "heads".into(), "grant b: record was sealed and is heads"),
            (|to| to.grants.push(grant("c", "synced", "heads")), "grant c is new, record = heads"),
            (|to| to.grants.push(grant("c", "queued", "full")), "grant c is new, release = queued"),
        ];
        for (change, expected) in steps {
            let (before, mut after) = (strong(), strong());
            change(&mut after);
            let told = after.weaker_than(&before);
            assert!(told.len() == 1 && told[0].contains(expected), "{told:?}");
            if after.grants.len() == before.grants.len() {
                assert_eq!(before.weaker_than(&after), Vec::<String>::new(), "{expected}");
            }
        }
        assert_eq!(strong().weaker_than(&strong()), Vec::<String>::new());
        assert_eq!(strong().weaker_than(&Recording::default()).len(), 1, "the new sealed grant");
    }

    #[test]
    fn what_is_less_than_the_defaults_is_told() {
        let weak = Recording {
            release: "queued".into(),
            grants: vec![grant("a", "queued", "full"), grant("b", "written", "heads")],
            ..Recording::default()
        };
        let told = weak.weaknesses();
        assert!(told[0].contains("release = queued") && told[1].contains("no seal_to"), "{told:?}");
        assert_eq!(told[2..], ["grant b: record = heads"]);
        let below = Recording { grants: vec![grant("a", "queued", "full")], ..strong() };
        assert_eq!(
            below.weaknesses(),
            ["grant a: release = queued, below [record] release = synced"]
        );
        let sealed = strong().weaknesses();
        assert_eq!(sealed, ["grant b: record = sealed"]);
    }
}
