//! What a sealed segment says of its content, so that a reader may skip it: sessions, subjects,
//! targets, rules, fingerprints, the range of time, and which exchanges lie in other segments too. JSON in
//! the index frame; what each key promises is in [`super::format`].
//!
//! It is a function of the entries alone: the writer gathers it while they pass, and a verifier gathers
//! it again and calls a difference damage. Each list is bounded, and says so where something was left out:
//! a reader then looks inside.
//!
//! Invariant: whatever the bytes of a verdict are, a list holds at least what a reader of the whole
//! verdict finds there.

use std::collections::{BTreeSet, HashSet};

use memchr::memmem::Finder;
use serde::Deserialize;

use super::entry::{Entry, EntryView, Kind, PartKind};
use crate::types::{ExchangeId, SessionId};

mod summary;

pub use summary::{FINGERPRINT_BYTES, Listed, Summary};

/// Version of the JSON object.
const VERSION: u64 = 1;
/// Values kept of each sort. Bound: with [`TEXT_BYTES_MAX`] everything stays under `INDEX_BYTES_MAX`.
pub const TERMS_MAX: usize = 4096;
/// Longest value that is kept.
pub const TERM_BYTES_MAX: usize = 256;
/// Text kept together, as it is written in JSON. Bound: half of `INDEX_BYTES_MAX`; the rest is for the
/// ids and fingerprints.
pub const TEXT_BYTES_MAX: usize = 512 * 1024;
/// Exchanges followed at once. Bound: memory of the writer; several times what can be listed.
const OPEN_MAX: usize = 65_536;

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
    #[serde(default)]
    fingerprint: Option<String>,
}

/// What is kept of a verdict.
#[derive(Deserialize, Default)]
#[serde(default)]
struct VerdictTerms {
    targets: Vec<TargetTerm>,
    findings: Vec<FindingTerm>,
    only: bool,
}

impl VerdictTerms {
    fn read(verdict: &[u8]) -> VerdictTerms {
        serde_json::from_slice(verdict).unwrap_or_default()
    }
}

/// True when an entry of this kind and with this verdict part is the last of its exchange: an end, or a
/// refusal that says so itself.
pub fn closes(kind: Option<Kind>, verdict: Option<&[u8]>) -> bool {
    match kind {
        Some(Kind::End) => true,
        Some(Kind::Refusal) => verdict.is_some_and(|verdict| VerdictTerms::read(verdict).only),
        _ => false,
    }
}

/// One member of a verdict, found without reading the rest.
///
/// Why: this runs for every entry, and reading all of a verdict costs as much as a tenth of compressing
/// the entry.
#[derive(Debug)]
struct Member {
    /// The name in its quotes.
    name: Finder<'static>,
}

impl Member {
    fn new(quoted: &'static str) -> Member {
        Member { name: Finder::new(quoted) }
    }

    /// The list that is this member, empty where there is none; `None` where only reading all of the
    /// verdict can tell: when the name is there twice as a member, is followed by white space, or the
    /// list has another form. `verdict` has no `\u`, so a name stands there as it is.
    fn list<T: for<'de> Deserialize<'de>>(&self, verdict: &[u8]) -> Option<Vec<T>> {
        let mut value = None;
        for at in self.name.find_iter(verdict) {
            let behind = at + self.name.needle().len();
            match verdict.get(behind) {
                Some(b':') if value.is_none() => value = Some(behind + 1),
                // The end of a text that ends like the name.
                Some(b',' | b'}' | b']') => {}
                _ => return None,
            }
        }
        let Some(value) = value else { return Some(Vec::new()) };
        let mut values =
            serde_json::Deserializer::from_slice(&verdict[value..]).into_iter::<Vec<T>>();
        values.next()?.ok()
    }
}

/// A set that is listed.
#[derive(Debug)]
struct Terms<T> {
    values: BTreeSet<T>,
    /// Something was left out.
    overflowed: bool,
}

impl<T> Default for Terms<T> {
    fn default() -> Terms<T> {
        Terms { values: BTreeSet::new(), overflowed: false }
    }
}

impl<T: Ord + Clone> Terms<T> {
    fn keep(&mut self, value: T) {
        if self.values.len() < TERMS_MAX {
            self.values.insert(value);
        } else if !self.values.contains(&value) {
            self.overflowed = true;
        }
    }

    fn listed(&self) -> Listed<T> {
        Listed { values: self.values.clone(), whole: !self.overflowed }
    }
}

impl Terms<String> {
    fn keep_text(&mut self, text: String, text_bytes: &mut usize) {
        if self.values.contains(&text) {
            return;
        }
        let bytes = json_bytes(&text);
        if text.len() > TERM_BYTES_MAX
            || *text_bytes + bytes > TEXT_BYTES_MAX
            || self.values.len() == TERMS_MAX
        {
            self.overflowed = true;
            return;
        }
        *text_bytes += bytes;
        self.values.insert(text);
    }
}

/// Bytes of `text` in JSON, without the quotes: RFC 8259 §7, with the short escapes where there are any.
fn json_bytes(text: &str) -> usize {
    let bytes = |byte: u8| match byte {
        b'"' | b'\\' | 8 | b'\t' | b'\n' | 12 | b'\r' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(bytes).sum()
}

/// The index of one segment as it grows.
#[derive(Debug)]
pub struct Index {
    targets_member: Member,
    findings_member: Member,
    escape: Finder<'static>,
    entries: u64,
    starts: u64,
    times_ns: Option<(u64, u64)>,
    sessions: Terms<SessionId>,
    subjects: Terms<String>,
    targets: Terms<String>,
    rules: Terms<String>,
    fingerprints: Terms<[u8; FINGERPRINT_BYTES]>,
    text_bytes: usize,
    /// Exchanges with an entry here and no last one.
    open: HashSet<ExchangeId>,
    /// More were open at once than are followed.
    open_lost: bool,
    late: Terms<ExchangeId>,
    exchanges: Option<(ExchangeId, ExchangeId)>,
    session_last: Option<SessionId>,
    subject_last: Vec<u8>,
    partial: bool,
}

impl Default for Index {
    fn default() -> Index {
        Index {
            targets_member: Member::new("\"targets\""),
            findings_member: Member::new("\"findings\""),
            escape: Finder::new(b"\\u"),
            entries: 0,
            starts: 0,
            times_ns: None,
            sessions: Terms::default(),
            subjects: Terms::default(),
            targets: Terms::default(),
            rules: Terms::default(),
            fingerprints: Terms::default(),
            text_bytes: 0,
            open: HashSet::new(),
            open_lost: false,
            late: Terms::default(),
            exchanges: None,
            session_last: None,
            subject_last: Vec::new(),
            partial: false,
        }
    }
}

/// The fixed part of an entry.
struct Head {
    kind: Option<Kind>,
    exchange: Option<ExchangeId>,
    session: Option<SessionId>,
    ordinal: u32,
    utc_ns: u64,
}

impl Index {
    /// Takes note of an entry that is written.
    pub fn add(&mut self, entry: &Entry) {
        let mut verdict = None;
        for part in &entry.parts {
            match part.kind {
                PartKind::Subject => self.subject(&part.bytes),
                PartKind::Verdict => {
                    self.verdict(&part.bytes);
                    verdict.get_or_insert(&part.bytes[..]);
                }
                _ => {}
            }
        }
        let Entry { exchange, session, ordinal, .. } = *entry;
        let (kind, utc_ns) = (Some(entry.kind), entry.now.utc_ns);
        self.head(&Head { kind, exchange, session, ordinal, utc_ns }, verdict);
    }

    /// Takes note of an entry that is read.
    pub fn add_view(&mut self, entry: &EntryView<'_>) {
        for part in &entry.parts {
            match (PartKind::from_number(part.kind_number), part.bytes) {
                (Some(PartKind::Subject), Some(bytes)) => self.subject(bytes),
                (Some(PartKind::Verdict), Some(bytes)) => self.verdict(bytes),
                (Some(PartKind::Subject | PartKind::Verdict), None) => self.partial = true,
                _ => {}
            }
        }
        let EntryView { exchange, session, ordinal, .. } = *entry;
        let (kind, utc_ns) = (entry.kind(), entry.now.utc_ns);
        let head = Head { kind, exchange, session, ordinal, utc_ns };
        self.head(&head, entry.part(PartKind::Verdict));
    }

    /// Parts that belong into the index were withheld: it cannot be compared with another.
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    fn head(&mut self, head: &Head, verdict: Option<&[u8]>) {
        self.entries += 1;
        self.starts += u64::from(head.kind == Some(Kind::Start));
        let (first, last) = self.times_ns.unwrap_or((head.utc_ns, head.utc_ns));
        self.times_ns = Some((first.min(head.utc_ns), last.max(head.utc_ns)));
        if let Some(session) = head.session
            && head.session != self.session_last
        {
            self.session_last = head.session;
            self.sessions.keep(session);
        }
        let Some(exchange) = head.exchange else { return };
        let closes = closes(head.kind, verdict);
        // Why first: most ends and most further entries are of an exchange that is open.
        let known = match closes {
            true => self.open.remove(&exchange),
            false => self.open.contains(&exchange),
        };
        if known {
            return;
        }
        if head.ordinal == 0 {
            let (first, last) = self.exchanges.unwrap_or((exchange, exchange));
            self.exchanges = Some((first.min(exchange), last.max(exchange)));
        } else {
            self.late.keep(exchange);
        }
        if closes {
            return;
        }
        match self.open.len() < OPEN_MAX {
            true => _ = self.open.insert(exchange),
            false => self.open_lost = true,
        }
    }

    fn subject(&mut self, subject: &[u8]) {
        // Why: the subject of a caller comes with each request, mostly the same bytes again.
        if subject == self.subject_last {
            return;
        }
        self.subject_last.clear();
        self.subject_last.extend_from_slice(subject);
        let terms: SubjectTerms = serde_json::from_slice(subject).unwrap_or_default();
        if let Some(subject) = terms.subject {
            self.subjects.keep_text(subject, &mut self.text_bytes);
        }
    }

    fn verdict(&mut self, verdict: &[u8]) {
        let lists = match self.escape.find(verdict) {
            Some(_) => None,
            None => self.targets_member.list(verdict).zip(self.findings_member.list(verdict)),
        };
        let (targets, findings) = lists.unwrap_or_else(|| {
            let terms = VerdictTerms::read(verdict);
            (terms.targets, terms.findings)
        });
        for target in targets {
            if let Some(name) = target.name {
                self.targets.keep_text(name, &mut self.text_bytes);
            }
        }
        for FindingTerm { rule, fingerprint } in findings {
            if let Some(rule) = rule {
                self.rules.keep_text(rule, &mut self.text_bytes);
            }
            if let Some(fingerprint) = fingerprint.and_then(|text| summary::fingerprint_read(&text))
            {
                self.fingerprints.keep(fingerprint);
            }
        }
    }

    /// What the entries so far come to.
    pub fn summary(&self) -> Summary {
        let listed = self.open.iter().copied().collect::<BTreeSet<_>>();
        let whole = !self.open_lost && listed.len() <= TERMS_MAX;
        let open = Listed { values: listed.into_iter().take(TERMS_MAX).collect(), whole };
        let mut late = self.late.listed();
        // What was not followed may be told as late though it began here.
        late.whole &= !self.open_lost;
        Summary {
            entries: self.entries,
            starts: self.starts,
            times_ns: self.times_ns,
            exchanges: self.exchanges,
            sessions: self.sessions.listed(),
            subjects: self.subjects.listed(),
            targets: self.targets.listed(),
            rules: self.rules.listed(),
            fingerprints: self.fingerprints.listed(),
            open,
            late,
        }
    }

    /// The payload of the index frame.
    pub fn write(&self) -> Vec<u8> {
        self.summary().write()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::record::format::INDEX_BYTES_MAX;
    use crate::types::Now;

    const NOW: Now = Now { utc_ns: 5_000_000_000, mono_ns: 1 };

    fn of(kind: Kind, exchange: u32, ordinal: u32) -> Entry {
        let mut entry = Entry::new(kind, NOW);
        entry.exchange = Some(ExchangeId::new(1, 0, exchange, 1));
        entry.ordinal = ordinal;
        entry
    }

    fn with_verdict(verdict: impl Into<Vec<u8>>) -> Summary {
        let mut index = Index::default();
        index.add(&Entry::new(Kind::Request, NOW).part(PartKind::Verdict, verdict.into()));
        index.summary()
    }

    #[test]
    fn gathers_what_entries_hold() {
        let mut index = Index::default();
        let fingerprint = "0123456789abcdef0123456789abcdef";
        let verdict = json!({
            "targets": [{ "kind": "tool", "name": "make" }],
            "findings": [{ "rule": "aws-key", "fingerprint": fingerprint }],
        });
        let mut entry = of(Kind::Request, 1, 0)
            .part(PartKind::Subject, r#"{"subject":"alice","upstream":"codegen"}"#)
            .part(PartKind::Verdict, verdict.to_string())
            .part(PartKind::Detail, "no JSON");
        entry.session = Some(SessionId::from_bytes([1; 10]));
        index.add(&entry);
        index.add(&of(Kind::Answer, 1, 1));
        let value: Value = serde_json::from_slice(&index.write()).unwrap();
        for (member, said) in [
            ("entries", json!(2)),
            ("starts", json!(0)),
            ("complete", json!(true)),
            ("first", json!("1970-01-01T00:00:05.000000000Z")),
            ("sessions", json!([entry.session.unwrap().to_string()])),
            ("subjects", json!(["alice"])),
            ("targets", json!(["make"])),
            ("rules", json!(["aws-key"])),
            ("fingerprints", json!([fingerprint])),
            (
                "exchanges",
                json!([entry.exchange, entry.exchange].map(|id| id.unwrap().to_string())),
            ),
            ("open", json!([entry.exchange.unwrap().to_string()])),
            ("late", json!([])),
            ("overflowed", json!([])),
        ] {
            assert_eq!(value[member], said, "{member}");
        }
        assert_eq!(Summary::read(&index.write()).unwrap(), index.summary());
    }

    // Mutants: an end that leaves its exchange open; a refusal of its own that does; a first entry with
    // another ordinal that counts as begun.
    #[test]
    fn exchanges_that_lie_elsewhere_too_are_listed() {
        let mut index = Index::default();
        let only =
            |verdict: &str| of(Kind::Refusal, 4, 0).part(PartKind::Verdict, verdict.to_owned());
        for entry in [
            of(Kind::Request, 1, 0),
            of(Kind::End, 1, 1),
            of(Kind::Request, 2, 0),
            of(Kind::Event, 3, 7),
            only(r#"{"only" : true}"#),
            of(Kind::End, 5, 9),
        ] {
            index.add(&entry);
        }
        let ids = |listed: &Listed<ExchangeId>| listed.values.iter().copied().collect::<Vec<_>>();
        let id = |number| ExchangeId::new(1, 0, number, 1);
        let summary = index.summary();
        assert_eq!(ids(&summary.open), [id(2), id(3)]);
        assert_eq!(ids(&summary.late), [id(3), id(5)]);
        assert_eq!(summary.exchanges, Some((id(1), id(4))));
        index.add(&only(r#"{"only":false}"#));
        assert_eq!(ids(&index.summary().open), [id(2), id(3), id(4)]);
    }

    // Mutants: `list` that takes the first member of that name, or passes over one before white space; no
    // look for escapes.
    #[test]
    fn however_a_verdict_is_spelled_nothing_is_left_out() {
        let named =
            |verdict: &str| with_verdict(verdict).targets.values.into_iter().collect::<Vec<_>>();
        assert_eq!(named(r#"{"targets":[{"name":"targets"}],"method":"targets"}"#), ["targets"]);
        for odd in [
            r#"{"targets" :[{"name":"make"}]}"#,
            r#"{"\u0074argets":[{"name":"make"}]}"#,
            r#"{"grant":{"targets":[{"name":"other"}]},"targets":[{"name":"make"}]}"#,
            r#"{"id":"\"targets\":[]","targets":[{"name":"m\u0061ke"}]}"#,
            r#"{"a\"targets":[],"targets":[{"name":"make"}]}"#,
        ] {
            assert_eq!(named(odd), ["make"], "{odd}");
        }
    }

    // Mutant: text that is counted without its escapes.
    #[test]
    fn everything_is_bounded_and_says_so() {
        let mut index = Index::default();
        for number in 0..20_000u32 {
            let name = "\u{1}".repeat(200) + &number.to_string();
            let verdict = json!({
                "targets": [{ "name": name }],
                "findings": [{ "rule": number.to_string(), "fingerprint": format!("{number:032x}") }],
            });
            for ordinal in 0..2 {
                let mut entry = of(Kind::Request, number * 2 + ordinal, ordinal)
                    .part(PartKind::Subject, json!({ "subject": number.to_string() }).to_string())
                    .part(PartKind::Verdict, verdict.to_string());
                let mut id = [0; 10];
                id[..4].copy_from_slice(&number.to_le_bytes());
                entry.session = Some(SessionId::from_bytes(id));
                index.add(&entry);
            }
        }
        let written = index.write();
        assert!(written.len() <= INDEX_BYTES_MAX, "{} bytes", written.len());
        let value: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(value["complete"], json!(false));
        assert_eq!(value["overflowed"].as_array().unwrap().len(), 7);
        let read = Summary::read(&written).unwrap();
        assert_eq!(read, index.summary());
        assert!(read.rules.may_name(&"never".to_owned()));
        let text = "\u{0}\u{8}\t\n\u{b}\u{c}\r\"\\/\u{7f}é🙂";
        assert_eq!(json_bytes(text) + 2, json!(text).to_string().len());
    }

    // Mutant: `Summary::read` that takes an index without the lists of exchanges.
    #[test]
    fn an_index_that_lacks_something_promises_nothing() {
        let whole = with_verdict("{}").write();
        let whole: Value = serde_json::from_slice(&whole).unwrap();
        assert!(Summary::read(whole.to_string().as_bytes()).is_some());
        for member in
            ["complete", "starts", "sessions", "fingerprints", "open", "late", "overflowed"]
        {
            let mut less = whole.clone();
            less.as_object_mut().unwrap().remove(member);
            assert_eq!(Summary::read(less.to_string().as_bytes()), None, "{member}");
        }
        for (member, odd) in [
            ("version", json!(2)),
            ("complete", json!(false)),
            ("overflowed", json!(["late"])),
            ("late", json!(["no id"])),
            ("fingerprints", json!(["AB"])),
            ("first", Value::Null),
        ] {
            let mut other = whole.clone();
            other[member] = odd;
            assert_eq!(Summary::read(other.to_string().as_bytes()), None, "{member}");
        }
    }
}
