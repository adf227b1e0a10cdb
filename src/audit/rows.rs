//! Entries put together into exchanges, as they stream by.
//!
//! A row is given away at the end entry of its exchange, or at a refusal that says that it is all. Other
//! rows without an end (the process was killed, or the exchange is still open) are given away when the next run of the
//! gateway begins, at the end of the record, or when too many wait. Memory is bounded by the exchanges
//! open at once, not by the length of the record.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use super::parts::{self, Target};
use crate::record::entry::EntryView;
use crate::record::index::closes;
use crate::record::note::time_text;
use crate::record::scan::Place;
use crate::record::{Kind, PartKind};
use crate::types::{ExchangeId, SessionId};

/// Exchanges that consist of one refusal so far and wait for more. Bound: a flood of refusals must not
/// fill the memory of whoever reads the record.
const REFUSALS_MAX: usize = 4096;
/// Exchanges that wait for their end. Bound: several times `connections_max`.
const OPEN_MAX: usize = 131_072;
/// Bound: places told of one exchange; `show` has them all.
const PLACES_MAX: usize = 64;

/// One exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its id.
    pub exchange: ExchangeId,
    /// Its session.
    pub session: Option<SessionId>,
    /// Time of its first entry, UTC ns.
    pub first_ns: u64,
    /// Time of its last entry so far, UTC ns.
    pub last_ns: u64,
    /// Sequence of its first entry.
    pub sequence: u64,
    /// Who called.
    pub subject: parts::Subject,
    /// Where the connection came from.
    pub source: Option<String>,
    /// JSON-RPC method, or the HTTP method when there was no message.
    pub method: Option<String>,
    /// Everything the method names.
    pub targets: Vec<Target>,
    /// HTTP status towards the client.
    pub status: Option<u16>,
    /// The strongest decision.
    pub verdict: Option<String>,
    /// Reason of that decision.
    pub reason: Option<String>,
    /// Rules that matched.
    pub rules: BTreeSet<String>,
    /// Where in the messages that was, as JSON Pointers. At most [`PLACES_MAX`].
    pub places: BTreeSet<String>,
    /// Entries read.
    pub entries: u32,
    /// Detail of the end entry.
    pub end: Option<Value>,
    /// Some of its entries lie in bytes that are damaged.
    pub damaged: bool,
    /// Its only entry says all there is; no end entry follows.
    pub only: bool,
    /// A text that was searched for stands in it.
    pub matched: bool,
}

impl Row {
    fn new(exchange: ExchangeId, entry: &EntryView<'_>) -> Row {
        Row {
            exchange,
            session: None,
            first_ns: entry.now.utc_ns,
            last_ns: entry.now.utc_ns,
            sequence: entry.sequence,
            subject: parts::Subject::default(),
            source: None,
            method: None,
            targets: Vec::new(),
            status: None,
            verdict: None,
            reason: None,
            rules: BTreeSet::new(),
            places: BTreeSet::new(),
            entries: 0,
            end: None,
            damaged: false,
            only: false,
            matched: false,
        }
    }

    fn add(&mut self, place: &Place, entry: &EntryView<'_>, matched: bool) {
        self.entries += 1;
        self.last_ns = entry.now.utc_ns;
        self.damaged |= !place.sound;
        self.matched |= matched;
        self.session = self.session.or(entry.session);
        if let Some(subject) = parts::subject(entry) {
            self.subject = subject;
        }
        if let Some(verdict) = parts::verdict(entry) {
            self.verdict(verdict);
        }
        if entry.status != 0 {
            self.status = Some(entry.status);
        }
        if entry.kind() == Some(Kind::End) {
            let detail = parts::detail(entry).unwrap_or(Value::Null);
            if let Some(status) = detail["status"].as_u64() {
                self.status = u16::try_from(status).ok();
            }
            self.end = Some(detail);
        }
    }

    fn verdict(&mut self, verdict: parts::Verdict) {
        if let Some(decision) = verdict.decision {
            let before = self.verdict.as_deref().map_or(0, parts::strength);
            if self.verdict.is_none() || parts::strength(&decision) > before {
                self.verdict = Some(decision);
                self.reason = verdict.reason;
            }
        }
        self.only |= verdict.only;
        for finding in verdict.findings {
            self.rules.insert(finding.rule);
            self.places.extend(finding.path.filter(|_| self.places.len() < PLACES_MAX));
        }
        // Why: requests of the server travel in answers; what was called is what the client asked.
        if verdict.direction.as_deref() != Some("response") {
            if self.method.is_none() || verdict.method.is_some() {
                self.method = verdict.method.or(verdict.http).or(self.method.take());
            }
            if self.targets.is_empty() {
                self.targets = verdict.targets;
            }
        }
        if self.subject.upstream.is_none() {
            self.subject.upstream = verdict.upstream;
        }
        if self.source.is_none() {
            self.source = verdict.source;
        }
        if verdict.status.is_some() {
            self.status = verdict.status;
        }
    }

    /// Name of the first target.
    pub fn target(&self) -> Option<&str> {
        self.targets.first().map(|target| target.name.as_str())
    }

    /// The end entry counts as many entries as were read; true also without an end entry.
    pub fn is_whole(&self) -> bool {
        let counted = self.end.as_ref().and_then(|end| end["entries"].as_u64());
        counted.is_none_or(|counted| counted == u64::from(self.entries))
    }

    /// The JSON Lines form.
    pub fn json(&self) -> Value {
        json!({
            "exchange": self.exchange.to_string(),
            "session": self.session.map(|session| session.to_string()),
            "time": time_text(self.first_ns),
            "subject": self.subject.subject,
            "issuer": self.subject.issuer,
            "client": self.subject.client,
            "upstream": self.subject.upstream,
            "method": self.method,
            "target": self.target(),
            "status": self.status,
            "verdict": self.verdict,
            "reason": self.reason,
            "rules": self.rules,
            "places": self.places,
            "entries": self.entries,
            "end": self.end,
            "whole": self.is_whole() && !self.damaged,
        })
    }
}

/// Exchanges that are not given away yet.
#[derive(Debug, Default)]
pub struct Rows {
    open: BTreeMap<ExchangeId, Row>,
    refusals: VecDeque<ExchangeId>,
}

impl Rows {
    /// Takes an entry; gives the rows that are ready, oldest first.
    pub fn add(&mut self, place: &Place, entry: &EntryView<'_>, matched: bool) -> Vec<Row> {
        if entry.kind() == Some(Kind::Start) {
            return self.rest();
        }
        let Some(exchange) = entry.exchange else { return Vec::new() };
        let row = self.open.entry(exchange).or_insert_with(|| Row::new(exchange, entry));
        row.add(place, entry, matched);
        let mut ready = Vec::new();
        match entry.kind() {
            kind if closes(kind, entry.part(PartKind::Verdict)) => {
                ready.extend(self.open.remove(&exchange));
            }
            Some(Kind::Refusal) if row.entries == 1 => {
                self.refusals.push_back(exchange);
                while self.refusals.len() > REFUSALS_MAX {
                    let oldest = self.refusals.pop_front().expect("longer than its bound");
                    // It may have ended or grown since.
                    if self.open.get(&oldest).is_some_and(|row| row.entries == 1) {
                        ready.extend(self.open.remove(&oldest));
                    }
                }
            }
            _ => {}
        }
        if self.open.len() > OPEN_MAX {
            ready.extend(self.open.pop_first().map(|(_, row)| row));
        }
        ready
    }

    /// Gives everything that still waits, oldest first.
    pub fn rest(&mut self) -> Vec<Row> {
        self.refusals.clear();
        let mut rest: Vec<_> = std::mem::take(&mut self.open).into_values().collect();
        rest.sort_by_key(|row| row.sequence);
        rest
    }
}
