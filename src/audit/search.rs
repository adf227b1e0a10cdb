//! `search`: the exchanges that have what is asked for, one line each, in the order they ended.

use std::io::{self, Write};
use std::path::PathBuf;

use super::filter::Filter;
use super::find::Needle;
use super::originals::Opener;
use super::rows::{Row, Rows};
use super::text::{escape, json_line};
use super::{Exit, Indexes, exit, read};
use crate::record::PartKind;
use crate::record::entry::EntryView;
use crate::record::note::time_text;
use crate::record::scan::{Left, Place, Sink};
use crate::record::seal::sealed_part;

/// What to search for, and how to say it.
#[derive(Debug, Clone, Default)]
pub struct SearchOptions {
    /// Directory of the record.
    pub directory: PathBuf,
    /// What is asked for.
    pub filter: Filter,
    /// JSON Lines instead of text.
    pub json: bool,
    /// What may be left out.
    pub indexes: Indexes,
}

/// How many entries have sealed texts that were not searched.
#[derive(Default)]
struct Unsearched {
    /// Bodies: nothing else tells what they hold.
    bodies: u64,
    /// Originals and tokens beside what is searched.
    others: u64,
}

struct Search<'a> {
    options: &'a SearchOptions,
    needle: Option<Needle>,
    opener: Option<Opener>,
    unsearched: Unsearched,
    rows: Rows,
    found: u64,
    out: &'a mut dyn Write,
    written: io::Result<()>,
}

impl Search<'_> {
    fn rows(&mut self, rows: Vec<Row>) {
        for row in rows {
            if self.written.is_ok() && self.options.filter.takes(&row) {
                self.found += 1;
                let line = match self.options.json {
                    true => json_line(&row.json()),
                    false => line(&row),
                };
                self.written = writeln!(self.out, "{line}");
            }
        }
    }
}

impl Sink for Search<'_> {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        let matched = match &self.needle {
            None => false,
            Some(needle) => {
                let opened = self.opener.as_mut().and_then(|opener| opener.open(entry));
                let restored = opened.and_then(Result::ok);
                if restored.is_none() && sealed_part(entry).is_some() {
                    let body = entry.parts.iter().any(|part| {
                        part.kind_number == PartKind::Body as u8 && part.bytes.is_none()
                    });
                    self.unsearched.bodies += u64::from(body);
                    self.unsearched.others += u64::from(!body);
                }
                let stored = entry.parts.iter().filter_map(|part| part.bytes);
                let restored = restored.iter().flatten().map(|one| &one.bytes[..]);
                stored.chain(restored).any(|bytes| needle.is_in(bytes))
            }
        };
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

/// [`run_with`], without an auditor's identity.
pub fn run(options: &SearchOptions, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    run_with(options, None, out, err)
}

/// Searches: 0 found, 1 nothing in a complete record, 4 not all of it could be read or searched. With
/// `opener` what is sealed is searched for the text too.
pub fn run_with(
    options: &SearchOptions,
    opener: Option<Opener>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let needle = options.filter.text.as_ref().map(|text| Needle::new(text.as_bytes()));
    let mut search = Search {
        options,
        needle,
        opener,
        unsearched: Unsearched::default(),
        rows: Rows::default(),
        found: 0,
        out,
        written: Ok(()),
    };
    let (directory, indexes) = (&options.directory, &options.indexes);
    let asked = options.filter.asked();
    let Some(reading) = read(directory, indexes, &asked, &mut search, err)? else {
        return Ok(Exit::Incomplete);
    };
    let rest = search.rows.rest();
    search.rows(rest);
    search.written?;
    let Unsearched { bodies, others } = search.unsearched;
    if bodies + others > 0 {
        writeln!(
            err,
            "stenograph: the text was not looked for in what {} entries have sealed, in {bodies} of \
             them the body; an auditor can, with --identity",
            bodies + others
        )?;
    }
    Ok(match exit(&reading, search.found > 0) {
        Exit::No if bodies > 0 => Exit::Incomplete,
        exit => exit,
    })
}

/// One exchange as one line of text.
pub fn line(row: &Row) -> String {
    let word = |word: Option<&str>| escape(word.unwrap_or("-"));
    let mut line = format!(
        "{}  {}  {:<7} {:>3}  {}@{}  {}",
        time_text(row.first_ns),
        row.exchange,
        word(row.verdict.as_deref()),
        row.status.map_or("-".to_owned(), |status| status.to_string()),
        word(row.subject.subject.as_deref()),
        word(row.subject.upstream.as_deref()),
        word(row.method.as_deref()),
    );
    if let Some(target) = row.target() {
        line.push(' ');
        line.push_str(&escape(target));
    }
    if !row.rules.is_empty() {
        let rules: Vec<String> = row.rules.iter().map(|rule| escape(rule)).collect();
        line.push_str(&format!("  [{}]", rules.join(" ")));
    }
    if row.end.is_none() && !row.only {
        line.push_str("  (no end)");
    } else if !row.is_whole() {
        line.push_str("  (entries missing)");
    }
    if row.damaged {
        line.push_str("  (in damaged bytes)");
    }
    line
}
