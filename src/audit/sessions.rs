//! `sessions`: who used which upstream when, one line each, oldest first.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::json;

use super::filter::Filter;
use super::find::Needle;
use super::parts::Subject;
use super::rows::{Row, Rows};
use super::text::{escape, json_line};
use super::{Exit, Indexes, exit, read};
use crate::record::entry::EntryView;
use crate::record::note::time_text;
use crate::record::scan::{Left, Place, Sink};
use crate::types::SessionId;

/// Which sessions to list, and how.
#[derive(Debug, Clone, Default)]
pub struct SessionsOptions {
    /// Directory of the record.
    pub directory: PathBuf,
    /// Exchanges that count; a session without any is not listed.
    pub filter: Filter,
    /// JSON Lines instead of text.
    pub json: bool,
    /// What may be left out.
    pub indexes: Indexes,
}

struct Session {
    subject: Subject,
    first_ns: u64,
    last_ns: u64,
    exchanges: u64,
}

struct Sessions<'a> {
    filter: &'a Filter,
    needle: Option<Needle>,
    rows: Rows,
    sessions: BTreeMap<SessionId, Session>,
}

impl Sessions<'_> {
    fn rows(&mut self, rows: Vec<Row>) {
        for row in rows {
            let Some(id) = row.session.filter(|_| self.filter.takes(&row)) else { continue };
            let session = self.sessions.entry(id).or_insert_with(|| Session {
                subject: row.subject.clone(),
                first_ns: row.first_ns,
                last_ns: row.last_ns,
                exchanges: 0,
            });
            session.first_ns = session.first_ns.min(row.first_ns);
            session.last_ns = session.last_ns.max(row.last_ns);
            session.exchanges += 1;
        }
    }
}

impl Sink for Sessions<'_> {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        let matched = self.needle.as_ref().is_some_and(|needle| {
            entry.parts.iter().filter_map(|part| part.bytes).any(|bytes| needle.is_in(bytes))
        });
        let ready = self.rows.add(place, entry, matched);
        self.rows(ready);
    }

    fn left(&mut self, left: &Left) {
        if left.starts {
            let rest = self.rows.rest();
            self.rows(rest);
        }
    }
}

/// Lists: 0 found, 1 none in a complete record, 4 not all of it could be read.
pub fn run(
    options: &SessionsOptions,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let mut sink = Sessions {
        filter: &options.filter,
        needle: options.filter.text.as_ref().map(|text| Needle::new(text.as_bytes())),
        rows: Rows::default(),
        sessions: BTreeMap::new(),
    };
    let (directory, indexes) = (&options.directory, &options.indexes);
    let asked = options.filter.asked();
    let Some(reading) = read(directory, indexes, &asked, &mut sink, err)? else {
        return Ok(Exit::Incomplete);
    };
    let rest = sink.rows.rest();
    sink.rows(rest);
    let mut sessions: Vec<_> = sink.sessions.into_iter().collect();
    sessions.sort_by_key(|(id, session)| (session.first_ns, *id));
    for (id, session) in &sessions {
        let subject = &session.subject;
        let line = match options.json {
            true => json_line(&json!({
                "session": id.to_string(),
                "subject": subject.subject,
                "issuer": subject.issuer,
                "client": subject.client,
                "upstream": subject.upstream,
                "first": time_text(session.first_ns),
                "last": time_text(session.last_ns),
                "exchanges": session.exchanges,
            })),
            false => format!(
                "{id}  {}  {}  {:>6}  {}@{}  {}",
                time_text(session.first_ns),
                time_text(session.last_ns),
                session.exchanges,
                escape(subject.subject.as_deref().unwrap_or("-")),
                escape(subject.upstream.as_deref().unwrap_or("-")),
                escape(subject.issuer.as_deref().unwrap_or("-")),
            ),
        };
        writeln!(out, "{line}")?;
    }
    Ok(exit(&reading, !sessions.is_empty()))
}
