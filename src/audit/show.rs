//! `show`: the entries of one exchange, or of all exchanges of one session, in order.
//!
//! For people: who, when, what was decided, heads and bodies, with JSON set in lines and every unsafe
//! character escaped. With JSON Lines: one object for each entry with all its parts.

use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::parts::{self, Subject, Verdict};
use super::text::{escape, json_line, lines, pretty};
use super::{Exit, exit, read};
use crate::record::PartKind;
use crate::record::entry::{EntryView, PartView};
use crate::record::note::time_text;
use crate::record::scan::{Place, Sink};
use crate::types::{ExchangeId, NotAnId, SessionId};

/// What can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// One exchange.
    Exchange(ExchangeId),
    /// All exchanges of a session.
    Session(SessionId),
}

impl FromStr for Shown {
    type Err = NotAnId;
    /// 24 characters are an exchange, 16 a session.
    fn from_str(text: &str) -> Result<Shown, NotAnId> {
        match text.len() {
            ExchangeId::TEXT_LEN => text.parse().map(Shown::Exchange),
            _ => text.parse().map(Shown::Session),
        }
    }
}

/// What to show, and how.
#[derive(Debug, Clone)]
pub struct ShowOptions {
    /// Directory of the record.
    pub directory: PathBuf,
    /// The exchange or session.
    pub id: Shown,
    /// JSON Lines instead of text.
    pub json: bool,
}

struct Show<'a> {
    options: &'a ShowOptions,
    found: u64,
    exchange: Option<ExchangeId>,
    subject: Option<Subject>,
    out: &'a mut dyn Write,
    written: io::Result<()>,
}

impl Sink for Show<'_> {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        let wanted = match self.options.id {
            Shown::Exchange(id) => entry.exchange == Some(id),
            Shown::Session(id) => entry.session == Some(id),
        };
        if !wanted || self.written.is_err() {
            return;
        }
        self.found += 1;
        self.written = match self.options.json {
            true => writeln!(self.out, "{}", json_line(&entry_json(place, entry))),
            false => self.print(place, entry),
        };
    }
}

/// Shows: 0 found, 1 not there in a complete record, 4 not all of it could be read.
pub fn run(options: &ShowOptions, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let mut show = Show { options, found: 0, exchange: None, subject: None, out, written: Ok(()) };
    let Some(reading) = read(&options.directory, &mut show, err)? else {
        return Ok(Exit::Incomplete);
    };
    show.written?;
    if show.found == 0 {
        let id = match options.id {
            Shown::Exchange(id) => format!("exchange {id}"),
            Shown::Session(id) => format!("session {id}"),
        };
        writeln!(err, "stenograph: {id} is not in this record")?;
    }
    Ok(exit(&reading, show.found > 0))
}

fn kind_text(entry: &EntryView<'_>) -> String {
    entry.kind().map_or_else(|| format!("kind {}", entry.kind_number), |kind| kind.as_str().into())
}

fn part_kind_text(part: &PartView<'_>) -> String {
    PartKind::from_number(part.kind_number)
        .map_or_else(|| format!("part {}", part.kind_number), |kind| kind.as_str().into())
}

/// The JSON Lines form of one entry: JSON parts as JSON, text as text, the rest in base64.
pub fn entry_json(place: &Place, entry: &EntryView<'_>) -> Value {
    let parts: Vec<Value> = entry
        .parts
        .iter()
        .map(|part| {
            let mut value = json!({ "kind": part_kind_text(part), "length": part.length });
            let json_kinds = [PartKind::Subject, PartKind::Verdict, PartKind::Detail];
            let is_json = json_kinds.iter().any(|kind| *kind as u8 == part.kind_number);
            match part.bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
                None => value["withheld"] = json!(true),
                Some((_, Ok(text))) => match serde_json::from_str::<Value>(text) {
                    Ok(parsed) if is_json => value["json"] = parsed,
                    _ => value["text"] = json!(text),
                },
                Some((bytes, Err(_))) => value["base64"] = json!(STANDARD.encode(bytes)),
            }
            value
        })
        .collect();
    json!({
        "sequence": entry.sequence,
        "exchange": entry.exchange.map(|id| id.to_string()),
        "session": entry.session.map(|id| id.to_string()),
        "ordinal": entry.ordinal,
        "kind": kind_text(entry),
        "time": time_text(entry.now.utc_ns),
        "mono_ns": entry.now.mono_ns,
        "worker": entry.worker,
        "status": (entry.status != 0).then_some(entry.status),
        "parts": parts,
        "segment": place.segment,
        "offset": place.start,
        "sound": place.sound,
    })
}

impl Show<'_> {
    fn print(&mut self, place: &Place, entry: &EntryView<'_>) -> io::Result<()> {
        if self.exchange != entry.exchange {
            self.exchange = entry.exchange;
            self.subject = None;
            let exchange = entry.exchange.map_or("-".into(), |id| id.to_string());
            let session = entry.session.map_or("-".into(), |id| id.to_string());
            writeln!(self.out, "exchange {exchange}  session {session}")?;
        }
        let status = match entry.status {
            0 => String::new(),
            status => format!("  status {status}"),
        };
        let sound = if place.sound { "" } else { "  (in damaged bytes)" };
        writeln!(
            self.out,
            "\n{}  {}{status}  (entry {}, segment {:08}){sound}",
            time_text(entry.now.utc_ns),
            kind_text(entry),
            entry.sequence,
            place.segment,
        )?;
        if let Some(subject) = parts::subject(entry)
            && self.subject.as_ref() != Some(&subject)
        {
            self.who(&subject)?;
            self.subject = Some(subject);
        }
        if let Some(verdict) = parts::verdict(entry) {
            self.verdict(&verdict)?;
        }
        for part in &entry.parts {
            let kind = PartKind::from_number(part.kind_number);
            let title = match kind {
                Some(PartKind::Subject | PartKind::Verdict) => continue,
                Some(PartKind::HeadIn) => "head as it came",
                Some(PartKind::HeadOut) => "head as it was sent",
                Some(PartKind::Body) => "body as it was sent",
                Some(PartKind::Original) => "body as it came",
                Some(PartKind::Detail) => "detail",
                Some(PartKind::Sealed) => "sealed original",
                Some(PartKind::Token) => "token as it came",
                None => "part of a kind that this version does not know",
            };
            self.part(title, part)?;
        }
        Ok(())
    }

    fn field(&mut self, name: &str, value: Option<&str>) -> io::Result<()> {
        match value {
            Some(value) => writeln!(self.out, "  {name:<10} {}", escape(value)),
            None => Ok(()),
        }
    }

    fn who(&mut self, subject: &Subject) -> io::Result<()> {
        self.field("subject", subject.subject.as_deref())?;
        self.field("issuer", subject.issuer.as_deref())?;
        self.field("client", subject.client.as_deref())?;
        self.field("token", subject.token_id.as_deref())?;
        self.field("expires", subject.expires.as_deref())?;
        self.field("key", subject.key_id.as_deref())?;
        self.field("from", subject.source.as_deref())?;
        self.field("upstream", subject.upstream.as_deref())
    }

    fn verdict(&mut self, verdict: &Verdict) -> io::Result<()> {
        let decision = verdict.decision.as_deref().unwrap_or("-");
        let mut text = decision.to_owned();
        if let Some(reason) = &verdict.reason {
            text.push_str(&format!(" ({reason})"));
        }
        if let Some(code) = verdict.code {
            text.push_str(&format!(", JSON-RPC code {code}"));
        }
        self.field("verdict", Some(&text))?;
        self.field("policy", verdict.policy.as_deref())?;
        self.field("method", verdict.method.as_deref().or(verdict.http.as_deref()))?;
        for target in &verdict.targets {
            self.field(&target.kind, Some(&target.name))?;
        }
        self.field("id", verdict.id.as_deref())?;
        self.field("from", verdict.source.as_deref())?;
        for finding in &verdict.findings {
            let text = format!(
                "{} {} at byte {}, {} bytes, level {}",
                finding.rule, finding.action, finding.start, finding.len, finding.level
            );
            self.field("finding", Some(&text))?;
        }
        Ok(())
    }

    fn part(&mut self, title: &str, part: &PartView<'_>) -> io::Result<()> {
        let Some(bytes) = part.bytes else {
            return writeln!(self.out, "  {title}: {} bytes, withheld", part.length);
        };
        writeln!(self.out, "  {title}: {} bytes", part.length)?;
        let set = pretty(bytes);
        for line in lines(set.as_ref().map_or(bytes, |text| text.as_bytes())) {
            writeln!(self.out, "    {line}")?;
        }
        Ok(())
    }
}
