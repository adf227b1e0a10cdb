//! `show`: the entries of one exchange, or of all exchanges of one session, in order.
//!
//! For people: who, when, what was decided, heads and bodies, with JSON set in lines and every unsafe
//! character escaped. With JSON Lines: one object for each entry with all its parts. The connections that
//! the exchanges came over are shown with them: see [`super::connections`].

use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::connections::{Connections, Later};
use super::originals::{Closed, Opener};
use super::parts::{self, Subject, Verdict};
use super::text::{escape, json_line, lines, pretty};
use super::{Exit, Indexes, complain, exit, read};
use crate::record::PartKind;
use crate::record::entry::{EntryView, PartView};
use crate::record::note::time_text;
use crate::record::scan::{Left, Place, Sink};
use crate::record::seal::{Restored, key_of};
use crate::record::skip::{Asked, Question};
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
    /// What may be left out.
    pub indexes: Indexes,
}

impl Shown {
    /// What an index can be asked so that a segment without an answer has no entry of it.
    fn asked(self) -> Asked<'static> {
        let question: Question<'static> = match self {
            Shown::Session(id) => Box::new(move |index| index.sessions.may_name(&id)),
            Shown::Exchange(id) => Box::new(move |index| {
                let begun = index.exchanges.is_some_and(|(first, last)| first <= id && id <= last);
                begun || index.late.may_name(&id)
            }),
        };
        Asked { questions: vec![question], exchanges: false }
    }
}

/// What became of the sealed parts that were met.
#[derive(Default)]
struct Opened {
    /// Texts restored, each proven against the commitment in its header.
    restored: u64,
    /// Why others were not, and in how many entries.
    closed: Vec<(Closed, u64)>,
}

impl Opened {
    fn closed(&mut self, closed: &Closed) {
        match self.closed.iter_mut().find(|(seen, _)| seen == closed) {
            Some((_, count)) => *count += 1,
            None => self.closed.push((closed.clone(), 1)),
        }
    }

    /// Says it, and gives the exit code: 0 all restored, 1 the answer is no, 4 something was not read.
    fn tell(&self, err: &mut dyn Write) -> io::Result<Exit> {
        for (closed, count) in &self.closed {
            writeln!(err, "stenograph: {count} not restored: {closed}")?;
        }
        let each = "each is exactly what its entry commits to";
        match (self.restored, self.closed.is_empty()) {
            (0, true) => writeln!(err, "stenograph: nothing is sealed there")?,
            (0, false) => {}
            (count, _) => writeln!(err, "stenograph: {count} originals restored; {each}")?,
        }
        let unread = |(closed, _): &(Closed, u64)| matches!(closed, Closed::Unreadable(..));
        Ok(match self.closed.is_empty() {
            true if self.restored > 0 => Exit::Done,
            true => Exit::No,
            false if self.closed.iter().any(unread) => Exit::Incomplete,
            false => Exit::No,
        })
    }
}

struct Show<'a> {
    options: &'a ShowOptions,
    opener: Option<Opener>,
    opened: Opened,
    found: u64,
    connections: Connections,
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
        if self.written.is_err() {
            return;
        }
        if let Some(text) = self.connections.add(place, entry) {
            self.written = self.out.write_all(text.as_bytes());
        }
        if !wanted || self.written.is_err() {
            return;
        }
        self.found += 1;
        if let Some(text) = self.connections.ask(entry) {
            self.written = self.out.write_all(text.as_bytes());
        }
        let opened = self.opener.as_mut().and_then(|opener| opener.open(entry));
        match &opened {
            Some(Ok(restored)) => self.opened.restored += restored.len() as u64,
            Some(Err(closed)) => self.opened.closed(closed),
            None => {}
        }
        self.written = match self.options.json {
            true => {
                let line = entry_json_opened(place, entry, opened.as_ref());
                writeln!(self.out, "{}", json_line(&line))
            }
            false => self.print(place, entry, opened.as_ref()),
        };
    }

    fn left(&mut self, left: &Left) {
        if left.starts {
            self.connections.forget();
        }
    }
}

/// Shows: 0 found, 1 not there in a complete record, 4 not all of it could be read.
///
/// With an identity what is sealed is restored and proven too; then the code also says whether all of
/// it was: 1 where it is erased, sealed to others, damaged, or where nothing is sealed; 4 where a key
/// file could not be read.
pub fn run(options: &ShowOptions, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    show(options, None, out, err)
}

/// [`run`], restoring what is sealed with `opener`.
pub fn run_original(
    options: &ShowOptions,
    opener: Opener,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    show(options, Some(opener), out, err)
}

fn show(
    options: &ShowOptions,
    opener: Option<Opener>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let opens = opener.is_some();
    let mut show = Show {
        options,
        opener,
        opened: Opened::default(),
        found: 0,
        connections: Connections::new(options.json),
        exchange: None,
        subject: None,
        out,
        written: Ok(()),
    };
    let (directory, indexes) = (&options.directory, &options.indexes);
    let asked = options.id.asked();
    let Some(reading) = read(directory, indexes, &asked, &mut show, err)? else {
        return Ok(Exit::Incomplete);
    };
    show.written?;
    // An end of a connection may lie in a segment that has nothing else of what is shown.
    let mut reading = reading;
    let consistent = reading.is_consistent();
    while reading.left_segments > 0
        && let Some((from, to)) = show.connections.window()
    {
        let asked = Asked {
            questions: vec![Box::new(move |index| {
                index.times_ns.is_some_and(|(first, last)| first <= to && from <= last)
            })],
            exchanges: false,
        };
        let mut later = Later::new(&mut show.connections, &mut *show.out);
        let quiet = &mut io::sink();
        let Some(more) = read(directory, indexes, &asked, &mut later, quiet)? else {
            return Ok(Exit::Incomplete);
        };
        later.end()?;
        if consistent && !more.is_consistent() {
            complain(&more, err)?;
            reading = more;
            break;
        }
    }
    if show.found == 0 {
        let id = match options.id {
            Shown::Exchange(id) => format!("exchange {id}"),
            Shown::Session(id) => format!("session {id}"),
        };
        writeln!(err, "stenograph: {id} is not in this record")?;
    } else if opens {
        let opened = show.opened.tell(err)?;
        return Ok(match exit(&reading, true) {
            Exit::Done => opened,
            other => other,
        });
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
    entry_json_opened(place, entry, None)
}

/// What came of the sealed part of an entry.
type Outcome = Result<Vec<Restored>, Closed>;

/// The bytes that were restored of part `row`.
fn restored_of(opened: Option<&Outcome>, row: usize) -> Option<&[u8]> {
    let restored = opened?.as_ref().ok()?;
    Some(&restored.iter().find(|one| usize::from(one.row) == row)?.bytes[..])
}

fn entry_json_opened(place: &Place, entry: &EntryView<'_>, opened: Option<&Outcome>) -> Value {
    let parts: Vec<Value> = entry
        .parts
        .iter()
        .enumerate()
        .map(|(row, part)| {
            let mut value = json!({ "kind": part_kind_text(part), "length": part.length });
            let json_kinds = [PartKind::Subject, PartKind::Verdict, PartKind::Detail];
            let is_json = json_kinds.iter().any(|kind| *kind as u8 == part.kind_number);
            let restored = restored_of(opened, row);
            if restored.is_some() {
                value["restored"] = json!(true);
            }
            if part.kind_number == PartKind::Sealed as u8 {
                value["key"] =
                    json!(part.bytes.and_then(|bytes| key_of(bytes).ok()).map(|id| id.to_string()));
                if let Some(Err(closed)) = opened {
                    value["closed"] = json!(closed.to_string());
                }
            }
            let bytes = part.bytes.or(restored);
            match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
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
    fn print(
        &mut self,
        place: &Place,
        entry: &EntryView<'_>,
        opened: Option<&Outcome>,
    ) -> io::Result<()> {
        if self.exchange != entry.exchange {
            self.exchange = entry.exchange;
            self.subject = None;
            let exchange = entry.exchange.map_or("-".into(), |id| id.to_string());
            let session = entry.session.map_or("-".into(), |id| id.to_string());
            writeln!(self.out, "exchange {exchange}  session {session}")?;
        }
        writeln!(self.out, "{}", heading(place, entry))?;
        if let Some(subject) = parts::subject(entry)
            && self.subject.as_ref() != Some(&subject)
        {
            self.who(&subject)?;
            self.subject = Some(subject);
        }
        if let Some(verdict) = parts::verdict(entry) {
            self.verdict(&verdict)?;
        }
        for (row, part) in entry.parts.iter().enumerate() {
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
            match (kind, part.bytes) {
                (Some(PartKind::Sealed), Some(bytes)) => {
                    let key = key_of(bytes).map_or("?".into(), |id| id.to_string());
                    writeln!(self.out, "  {title}: {} bytes under key {key}", part.length)?;
                    if let Some(Err(closed)) = opened {
                        writeln!(self.out, "    {}", escape(&closed.to_string()))?;
                    }
                }
                _ => print_part(self.out, title, part, restored_of(opened, row))?,
            }
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
        if let Some(certificate) = &subject.certificate {
            let subject = certificate.subject.as_deref().unwrap_or("no subject");
            let names = certificate.names.join(" ");
            let text = format!("{subject} {names} sha256 {}", certificate.sha256);
            self.field("cert", Some(&text))?;
        }
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
        if let Some(status) = verdict.upstream_status {
            text.push_str(&format!(", status {status} of the upstream"));
        }
        self.field("verdict", Some(&text))?;
        let rule = verdict.rule.as_ref().map(|rule| {
            let at = verdict.at.unwrap_or_default();
            let source = verdict.rule_source.as_deref().unwrap_or("-");
            format!("{rule} at byte {at} ({source})")
        });
        self.field("rule", rule.as_deref())?;
        self.field("policy", verdict.policy.as_deref())?;
        self.field("method", verdict.method.as_deref().or(verdict.http.as_deref()))?;
        for target in &verdict.targets {
            self.field(&target.kind, Some(&target.name))?;
        }
        self.field("id", verdict.id.as_deref())?;
        self.field("from", verdict.source.as_deref())?;
        self.field("connection", verdict.connection.as_deref())?;
        self.field("tls", verdict.tls.as_deref())?;
        let kept_back = verdict.kept_back_bytes.map(|bytes| format!("{bytes} bytes that came"));
        self.field("kept back", kept_back.as_deref())?;
        let unfit = verdict.unfit.as_ref().map(|unfit| {
            let (rule, path, keyword) = (&unfit.rule, &unfit.path, &unfit.keyword);
            format!("masked by {rule}, {path} breaks {keyword} of schema {}", unfit.schema)
        });
        self.field("unfit", unfit.as_deref())?;
        for finding in &verdict.findings {
            let place = finding.path.as_ref().map(|path| format!(", in {path}"));
            let text = format!(
                "{} {} at byte {}, {} bytes, level {}{}",
                finding.rule,
                finding.action,
                finding.start,
                finding.len,
                finding.level,
                place.unwrap_or_default()
            );
            self.field("finding", Some(&text))?;
        }
        Ok(())
    }
}

/// The line in front of what is shown of an entry.
fn heading(place: &Place, entry: &EntryView<'_>) -> String {
    let status = match entry.status {
        0 => String::new(),
        status => format!("  status {status}"),
    };
    let sound = if place.sound { "" } else { "  (in damaged bytes)" };
    format!(
        "\n{}  {}{status}  (entry {}, segment {:08}){sound}",
        time_text(entry.now.utc_ns),
        kind_text(entry),
        entry.sequence,
        place.segment,
    )
}

/// A connect or disconnect entry as text: its heading, and its detail.
pub(super) fn connection_text(place: &Place, entry: &EntryView<'_>) -> String {
    let mut text = Vec::new();
    let written = writeln!(text, "{}", heading(place, entry)).and_then(|()| {
        entry.parts.iter().try_for_each(|part| print_part(&mut text, "connection", part, None))
    });
    written.expect("writing to memory does not fail");
    String::from_utf8_lossy(&text).into_owned()
}

fn print_part(
    out: &mut dyn Write,
    title: &str,
    part: &PartView<'_>,
    restored: Option<&[u8]>,
) -> io::Result<()> {
    let Some(bytes) = part.bytes.or(restored) else {
        return writeln!(out, "  {title}: {} bytes, withheld", part.length);
    };
    let proven = match restored {
        Some(_) => ", restored and proven against its commitment",
        None => "",
    };
    writeln!(out, "  {title}: {} bytes{proven}", part.length)?;
    let set = pretty(bytes);
    for line in lines(set.as_ref().map_or(bytes, |text| text.as_bytes())) {
        writeln!(out, "    {line}")?;
    }
    Ok(())
}
