//! `search --refusals`: who was refused before anybody was authenticated, and connections on which nobody
//! ever was; for each source and reason how often, first and last.
//!
//! In the record these stand one by one up to a rate, and beyond it as counts: both are put together.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::text::{escape, json_line};
use super::{Exit, Indexes, exit, parts, read};
use crate::record::entry::EntryView;
use crate::record::note::{time_read, time_text};
use crate::record::scan::{Place, Sink};
use crate::record::skip::{Asked, Question};
use crate::record::{Kind, PartKind};

/// Sources and reasons told apart. Bound: who floods the gateway must not fill the memory of whoever
/// reads; what comes beyond is one row for each reason.
const ROWS_MAX: usize = 65_536;

/// Which refusals to list, and how.
#[derive(Debug, Clone, Default)]
pub struct RefusalsOptions {
    /// Directory of the record.
    pub directory: PathBuf,
    /// Those at this time or later, UTC ns.
    pub since_ns: Option<u64>,
    /// Those before this time, UTC ns.
    pub until_ns: Option<u64>,
    /// JSON Lines instead of text.
    pub json: bool,
    /// What may be left out.
    pub indexes: Indexes,
}

/// Refusals of one source for one reason.
struct Row {
    count: u64,
    first_ns: u64,
    last_ns: u64,
    /// Why, as the last of them says where it says more than the reason.
    why: Option<String>,
}

struct Refusals<'a> {
    options: &'a RefusalsOptions,
    /// By source, `None` for more than are told apart, and reason.
    rows: BTreeMap<(Option<String>, String), Row>,
}

/// One refusal, or a count of them.
struct Refused {
    source: Option<String>,
    reason: String,
    row: Row,
}

impl Refused {
    fn read(entry: &EntryView<'_>) -> Option<Refused> {
        match entry.kind()? {
            Kind::Refusal => {
                let verdict = parts::verdict(entry)?;
                // Of somebody who is known `search` tells by itself.
                let known = entry.part(PartKind::Subject).is_some();
                if known || !verdict.only {
                    return None;
                }
                let source = verdict.source?;
                let address = source.parse::<SocketAddr>().map(|source| source.ip().to_string());
                let time = entry.now.utc_ns;
                let row = Row { count: 1, first_ns: time, last_ns: time, why: None };
                Some(Refused {
                    source: Some(address.unwrap_or(source)),
                    reason: verdict.reason?,
                    row,
                })
            }
            Kind::Refusals => {
                let detail = parts::detail(entry)?;
                let text = |name: &str| detail[name].as_str().map(str::to_owned);
                let time = |name: &str| detail[name].as_str().and_then(time_read);
                let row = Row {
                    count: detail["count"].as_u64()?,
                    first_ns: time("first").unwrap_or(entry.now.utc_ns),
                    last_ns: time("last").unwrap_or(entry.now.utc_ns),
                    why: text("why"),
                };
                Some(Refused { source: text("source"), reason: text("reason")?, row })
            }
            _ => None,
        }
    }
}

impl Sink for Refusals<'_> {
    fn entry(&mut self, _: &Place, entry: &EntryView<'_>) {
        let Some(Refused { source, reason, row }) = Refused::read(entry) else { return };
        let RefusalsOptions { since_ns, until_ns, .. } = *self.options;
        if since_ns.is_some_and(|since| row.last_ns < since)
            || until_ns.is_some_and(|until| row.first_ns >= until)
        {
            return;
        }
        let mut key = (source, reason);
        if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&key) {
            key.0 = None;
        }
        match self.rows.get_mut(&key) {
            None => _ = self.rows.insert(key, row),
            Some(known) => {
                known.count = known.count.saturating_add(row.count);
                known.first_ns = known.first_ns.min(row.first_ns);
                known.last_ns = known.last_ns.max(row.last_ns);
                known.why = row.why.or(known.why.take());
            }
        }
    }
}

impl RefusalsOptions {
    fn asked(&self) -> Asked<'static> {
        let mut questions: Vec<Question<'static>> = Vec::new();
        // What is counted is written when its minute is over, so no earlier than it says.
        if let Some(since) = self.since_ns {
            questions
                .push(Box::new(move |index| index.times_ns.is_some_and(|(_, last)| last >= since)));
        }
        Asked { questions, exchanges: false }
    }
}

/// Lists: 0 found, 1 none in a complete record, 4 not all of it could be read.
pub fn run(
    options: &RefusalsOptions,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let mut sink = Refusals { options, rows: BTreeMap::new() };
    let (directory, indexes) = (&options.directory, &options.indexes);
    let Some(reading) = read(directory, indexes, &options.asked(), &mut sink, err)? else {
        return Ok(Exit::Incomplete);
    };
    for ((source, reason), row) in &sink.rows {
        let (first, last) = (time_text(row.first_ns), time_text(row.last_ns));
        let line = match options.json {
            true => {
                let mut line = json!({
                    "source": source,
                    "reason": reason,
                    "count": row.count,
                    "first": first,
                    "last": last,
                });
                if let Some(why) = &row.why {
                    line["why"] = Value::from(why.as_str());
                }
                json_line(&line)
            }
            false => {
                let source = escape(source.as_deref().unwrap_or("others"));
                let why = row.why.as_deref().map(|why| format!("  {}", escape(why)));
                format!(
                    "{first}  {last}  {:>6}  {source}  {}{}",
                    row.count,
                    escape(reason),
                    why.unwrap_or_default()
                )
            }
        };
        writeln!(out, "{line}")?;
    }
    Ok(exit(&reading, !sink.rows.is_empty()))
}
