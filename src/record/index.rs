//! What a sealed segment says of its content, so that a reader may skip it: sessions, subjects,
//! targets, rules and the range of time. JSON in the index frame; see [`super::format`].
//!
//! It is gathered while entries pass and is a convenience only: nothing is proved by it. Each set is
//! bounded; `"complete": false` says that one of them overflowed and a reader must not skip.

use std::collections::BTreeSet;

use bytes::Bytes;
use memchr::memmem;
use serde::Deserialize;
use serde_json::json;

use super::entry::{Entry, PartKind};
use super::note::time_text;
use crate::types::SessionId;

/// Values kept of each sort. Bound: 4 * 4096 values of at most [`TERM_BYTES_MAX`] stay under
/// `INDEX_BYTES_MAX` for all but adversarial names, which are then left out and told.
const TERMS_MAX: usize = 4096;
/// Longest value that is kept.
const TERM_BYTES_MAX: usize = 256;
/// All text kept together. Bound: under `INDEX_BYTES_MAX` even when each byte is escaped (6 bytes).
const TEXT_BYTES_MAX: usize = 128 * 1024;

#[derive(Deserialize, Default)]
struct SubjectTerms {
    #[serde(default)]
    subject: Option<String>,
}

#[derive(Deserialize)]
struct TargetTerm {
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct FindingTerm {
    #[serde(default)]
    rule: Option<String>,
}

/// The list that stands behind `key`, a member name with its colon, in an object that was written
/// without spaces. No text within a string looks like that: there a quote has a backslash before it.
///
/// Why not the whole object: this runs for every entry, and reading all of it costs as much as a tenth
/// of compressing it.
fn list<T: for<'de> Deserialize<'de>>(object: &[u8], key: &memmem::Finder<'_>) -> Vec<T> {
    let Some(at) = key.find(object) else { return Vec::new() };
    let text = &object[at + key.needle().len()..];
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<Vec<T>>();
    values.next().and_then(Result::ok).unwrap_or_default()
}

/// The index of one segment as it grows.
#[derive(Debug)]
pub struct Index {
    targets_key: memmem::Finder<'static>,
    findings_key: memmem::Finder<'static>,
    entries: u64,
    utc_ns: Option<(u64, u64)>,
    sessions: BTreeSet<SessionId>,
    subjects: BTreeSet<String>,
    targets: BTreeSet<String>,
    rules: BTreeSet<String>,
    text_bytes: usize,
    overflowed: bool,
    subject_last: Bytes,
}

impl Default for Index {
    fn default() -> Index {
        Index {
            targets_key: memmem::Finder::new(b"\"targets\":"),
            findings_key: memmem::Finder::new(b"\"findings\":"),
            entries: 0,
            utc_ns: None,
            sessions: BTreeSet::new(),
            subjects: BTreeSet::new(),
            targets: BTreeSet::new(),
            rules: BTreeSet::new(),
            text_bytes: 0,
            overflowed: false,
            subject_last: Bytes::new(),
        }
    }
}

fn keep(set: &mut BTreeSet<String>, term: String, text_bytes: &mut usize, overflowed: &mut bool) {
    if set.contains(&term) {
        return;
    }
    if set.len() == TERMS_MAX
        || term.len() > TERM_BYTES_MAX
        || *text_bytes + term.len() > TEXT_BYTES_MAX
    {
        *overflowed = true;
        return;
    }
    *text_bytes += term.len();
    set.insert(term);
}

impl Index {
    /// Takes note of one entry. Parts that are no JSON of the expected shape add nothing.
    pub fn add(&mut self, entry: &Entry) {
        self.entries += 1;
        let utc_ns = entry.now.utc_ns;
        let (first, last) = self.utc_ns.unwrap_or((utc_ns, utc_ns));
        self.utc_ns = Some((first.min(utc_ns), last.max(utc_ns)));
        if let Some(session) = entry.session {
            if self.sessions.len() < TERMS_MAX {
                self.sessions.insert(session);
            } else if !self.sessions.contains(&session) {
                self.overflowed = true;
            }
        }
        for part in &entry.parts {
            match part.kind {
                // Why: the subject of a caller comes with each request, mostly the same bytes again.
                PartKind::Subject if part.bytes != self.subject_last => {
                    self.subject_last = part.bytes.clone();
                    let terms: SubjectTerms =
                        serde_json::from_slice(&part.bytes).unwrap_or_default();
                    if let Some(subject) = terms.subject {
                        self.keep_subject(subject);
                    }
                }
                PartKind::Verdict => {
                    for target in list::<TargetTerm>(&part.bytes, &self.targets_key) {
                        let Index { targets, text_bytes, overflowed, .. } = self;
                        if let Some(name) = target.name {
                            keep(targets, name, text_bytes, overflowed);
                        }
                    }
                    for finding in list::<FindingTerm>(&part.bytes, &self.findings_key) {
                        let Index { rules, text_bytes, overflowed, .. } = self;
                        if let Some(rule) = finding.rule {
                            keep(rules, rule, text_bytes, overflowed);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn keep_subject(&mut self, subject: String) {
        let Index { subjects, text_bytes, overflowed, .. } = self;
        keep(subjects, subject, text_bytes, overflowed);
    }

    /// The payload of the index frame.
    pub fn write(&self) -> Vec<u8> {
        let sessions: Vec<String> = self.sessions.iter().map(SessionId::to_string).collect();
        let (first, last) = match self.utc_ns {
            Some((first, last)) => (Some(time_text(first)), Some(time_text(last))),
            None => (None, None),
        };
        let index = json!({
            "version": 1,
            "complete": !self.overflowed,
            "entries": self.entries,
            "first": first,
            "last": last,
            "sessions": sessions,
            "subjects": self.subjects,
            "targets": self.targets,
            "rules": self.rules,
        });
        index.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::entry::Kind;
    use crate::record::format::INDEX_BYTES_MAX;
    use crate::types::Now;

    #[test]
    fn gathers_terms_and_stays_bounded() {
        let mut index = Index::default();
        let now = Now { utc_ns: 5_000_000_000, mono_ns: 1 };
        let mut entry = Entry::new(Kind::Request, now)
            .part(PartKind::Subject, r#"{"subject":"alice","upstream":"codegen"}"#)
            .part(
                PartKind::Verdict,
                r#"{"targets":[{"kind":"tool","name":"make"}],"findings":[{"rule":"aws-key"}]}"#,
            )
            .part(PartKind::Detail, "no JSON");
        entry.session = Some(SessionId::from_bytes([1; 10]));
        index.add(&entry);
        index.add(&entry);
        let value: serde_json::Value = serde_json::from_slice(&index.write()).unwrap();
        assert_eq!(value["subjects"], json!(["alice"]));
        assert_eq!(value["targets"], json!(["make"]));
        assert_eq!(value["rules"], json!(["aws-key"]));
        assert_eq!((&value["entries"], &value["complete"]), (&json!(2), &json!(true)));
        for number in 0..20_000u32 {
            let name = "\u{1}".repeat(200) + &number.to_string();
            let verdict = json!({ "targets": [{ "name": name }] }).to_string();
            let mut entry = Entry::new(Kind::Request, now).part(PartKind::Verdict, verdict);
            let mut id = [0; 10];
            id[..4].copy_from_slice(&number.to_le_bytes());
            entry.session = Some(SessionId::from_bytes(id));
            index.add(&entry);
        }
        let written = index.write();
        assert!(written.len() <= INDEX_BYTES_MAX, "{} bytes", written.len());
        let value: serde_json::Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(value["complete"], json!(false));
    }
}
