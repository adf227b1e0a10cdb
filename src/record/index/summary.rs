//! The index of a sealed segment as it is written and read; and two of them compared.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::json;

use super::{TERMS_MAX, VERSION};
use crate::record::note::{time_read, time_text};
use crate::types::{ExchangeId, SessionId, hex};

/// Bytes of a fingerprint.
pub const FINGERPRINT_BYTES: usize = 16;

/// A list of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// What it names.
    pub values: BTreeSet<T>,
    /// Nothing was left out.
    pub whole: bool,
}

impl<T: Ord> Listed<T> {
    /// Something that `asked` is true of may be in the segment.
    pub fn may_hold(&self, asked: impl FnMut(&T) -> bool) -> bool {
        !self.whole || self.values.iter().any(asked)
    }

    /// This value may be in the segment.
    pub fn may_name(&self, value: &T) -> bool {
        !self.whole || self.values.contains(value)
    }

    /// True when this list promises what `computed`, the list of the entries, does not say.
    fn lies(&self, computed: &Listed<T>) -> bool {
        self.whole && self != computed
    }
}

/// The index of one segment. What each member promises is in [`crate::record::format`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Entries in the segment.
    pub entries: u64,
    /// Start entries among them.
    pub starts: u64,
    /// Least and greatest time of an entry, UTC ns.
    pub times_ns: Option<(u64, u64)>,
    /// Least and greatest id of the exchanges that begin here.
    pub exchanges: Option<(ExchangeId, ExchangeId)>,
    /// Sessions of entries.
    pub sessions: Listed<SessionId>,
    /// `subject` of subject parts.
    pub subjects: Listed<String>,
    /// Names of targets in verdicts.
    pub targets: Listed<String>,
    /// Rules of findings in verdicts.
    pub rules: Listed<String>,
    /// Fingerprints of findings in verdicts.
    pub fingerprints: Listed<[u8; FINGERPRINT_BYTES]>,
    /// Exchanges with an entry here and no last one.
    pub open: Listed<ExchangeId>,
    /// Exchanges with an entry here that began before.
    pub late: Listed<ExchangeId>,
}

/// The JSON object.
#[derive(Deserialize)]
struct Written {
    version: u64,
    complete: bool,
    entries: u64,
    starts: u64,
    first: Option<String>,
    last: Option<String>,
    exchanges: Option<(String, String)>,
    sessions: Vec<String>,
    subjects: Vec<String>,
    targets: Vec<String>,
    rules: Vec<String>,
    fingerprints: Vec<String>,
    open: Vec<String>,
    late: Vec<String>,
    overflowed: BTreeSet<String>,
}

/// The bytes of a fingerprint in lower-case hexadecimal; nothing else is one.
pub(super) fn fingerprint_read(text: &str) -> Option<[u8; FINGERPRINT_BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * FINGERPRINT_BYTES {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; FINGERPRINT_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn texts<T: Display>(values: &Listed<T>) -> Vec<String> {
    values.values.iter().map(T::to_string).collect()
}

/// Both of a range, or none.
fn range<T>(range: (Option<T>, Option<T>)) -> Option<Option<(T, T)>> {
    match range {
        (Some(first), Some(last)) => Some(Some((first, last))),
        (None, None) => Some(None),
        _ => None,
    }
}

impl Summary {
    fn overflowed(&self) -> Vec<&'static str> {
        let lists = [
            ("sessions", self.sessions.whole),
            ("subjects", self.subjects.whole),
            ("targets", self.targets.whole),
            ("rules", self.rules.whole),
            ("fingerprints", self.fingerprints.whole),
            ("open", self.open.whole),
            ("late", self.late.whole),
        ];
        lists.into_iter().filter(|(_, whole)| !whole).map(|(name, _)| name).collect()
    }

    /// The payload of the index frame.
    pub fn write(&self) -> Vec<u8> {
        let overflowed = self.overflowed();
        let exchanges = self.exchanges.map(|(first, last)| [first.to_string(), last.to_string()]);
        let fingerprints: Vec<String> =
            self.fingerprints.values.iter().map(|bytes| hex(bytes)).collect();
        let index = json!({
            "version": VERSION,
            "complete": overflowed.is_empty(),
            "entries": self.entries,
            "starts": self.starts,
            "first": self.times_ns.map(|(first, _)| time_text(first)),
            "last": self.times_ns.map(|(_, last)| time_text(last)),
            "exchanges": exchanges,
            "sessions": texts(&self.sessions),
            "subjects": self.subjects.values,
            "targets": self.targets.values,
            "rules": self.rules.values,
            "fingerprints": fingerprints,
            "open": texts(&self.open),
            "late": texts(&self.late),
            "overflowed": overflowed,
        });
        index.to_string().into_bytes()
    }

    /// Reads the payload of an index frame. `None` for one that lacks a member, as earlier writers
    /// wrote it, or in which one has another form: it promises nothing.
    pub fn read(payload: &[u8]) -> Option<Summary> {
        let written: Written = serde_json::from_slice(payload).ok()?;
        let overflowed = &written.overflowed;
        if written.version != VERSION || written.complete != overflowed.is_empty() {
            return None;
        }
        fn listed<T: Ord>(
            texts: Vec<String>,
            read: impl Fn(String) -> Option<T>,
            whole: bool,
        ) -> Option<Listed<T>> {
            // Why: what a reader computes itself is bounded so.
            (texts.len() <= TERMS_MAX).then_some(())?;
            let values = texts.into_iter().map(read).collect::<Option<_>>()?;
            Some(Listed { values, whole })
        }
        fn id<T: FromStr>(text: String) -> Option<T> {
            text.parse().ok()
        }
        let time = |text: Option<String>| match text {
            Some(text) => time_read(&text).map(Some),
            None => Some(None),
        };
        let exchanges = match written.exchanges {
            Some((first, last)) => Some((id(first)?, id(last)?)),
            None => None,
        };
        let whole = |name: &str| !overflowed.contains(name);
        Some(Summary {
            entries: written.entries,
            starts: written.starts,
            times_ns: range((time(written.first)?, time(written.last)?))?,
            exchanges,
            sessions: listed(written.sessions, id, whole("sessions"))?,
            subjects: listed(written.subjects, Some, whole("subjects"))?,
            targets: listed(written.targets, Some, whole("targets"))?,
            rules: listed(written.rules, Some, whole("rules"))?,
            fingerprints: listed(
                written.fingerprints,
                |text| fingerprint_read(&text),
                whole("fingerprints"),
            )?,
            open: listed(written.open, id, whole("open"))?,
            late: listed(written.late, id, whole("late"))?,
        })
    }

    /// The first member that promises what `computed`, the index of the entries, does not say. A list
    /// that says that something was left out promises nothing.
    pub fn lie(&self, computed: &Summary) -> Option<&'static str> {
        [
            ("entries", self.entries != computed.entries),
            ("starts", self.starts != computed.starts),
            ("first and last", self.times_ns != computed.times_ns),
            ("exchanges", self.exchanges != computed.exchanges),
            ("sessions", self.sessions.lies(&computed.sessions)),
            ("subjects", self.subjects.lies(&computed.subjects)),
            ("targets", self.targets.lies(&computed.targets)),
            ("rules", self.rules.lies(&computed.rules)),
            ("fingerprints", self.fingerprints.lies(&computed.fingerprints)),
            ("open", self.open.lies(&computed.open)),
            ("late", self.late.lies(&computed.late)),
        ]
        .into_iter()
        .find(|(_, lies)| *lies)
        .map(|(name, _)| name)
    }
}
