//! `echoed`: was this secret ever seen, in which exchanges, in which direction, was it masked; and how
//! much of the record the answer covers.
//!
//! Two ways to find it, both over every entry: its fingerprint among the findings (that is how a masked
//! value is found again), and its text in every stored head, body and detail (that is how a value is
//! found that no rule knew). With an auditor's identity what is sealed is searched too; without one it
//! is told what was not. On demand the fingerprint alone: then indexes tell which segments need not be
//! read. The secret itself is never printed.

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::find::Needle;
use super::originals::Opener;
use super::parts::Finding;
use super::text::{escape, json_line};
use super::{Exit, Indexes, parts, read};
use crate::record::entry::EntryView;
use crate::record::fingerprint;
use crate::record::note::time_text;
use crate::record::reader::Reading;
use crate::record::scan::{Left, Place, Sink};
use crate::record::seal::sealed_part;
use crate::record::skip::{Asked, Question};
use crate::record::{Kind, PartKind};

/// What to look for, and how to say it.
pub struct EchoedOptions {
    /// Directory of the record.
    pub directory: PathBuf,
    /// The value, exactly.
    pub secret: Zeroizing<Vec<u8>>,
    /// The record's fingerprint key; without it masked values cannot be found.
    pub fingerprint_key: Option<Zeroizing<[u8; 32]>>,
    /// Look for the fingerprint alone: not for the text in heads and bodies, and not in what is sealed.
    /// Only then may segments be left out, because no index says what bodies hold.
    pub fingerprints_only: bool,
    /// JSON Lines instead of text.
    pub json: bool,
    /// What may be left out.
    pub indexes: Indexes,
}

impl std::fmt::Debug for EchoedOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EchoedOptions({})", self.directory.display())
    }
}

struct Echoed<'a> {
    json: bool,
    needle: Needle,
    /// Look for the text too.
    text: bool,
    fingerprint: Option<String>,
    hits: u64,
    entries: u64,
    withheld_parts: u64,
    /// The first entries that have them.
    withheld_in: Vec<u64>,
    opener: Option<&'a mut Opener>,
    sealed: Sealed,
    first_ns: Option<u64>,
    last_ns: Option<u64>,
    out: &'a mut dyn Write,
    written: io::Result<()>,
}

/// One place where the value was seen.
struct Hit<'a> {
    entry: &'a EntryView<'a>,
    place: &'a Place,
    direction: Option<String>,
    masked: bool,
    action: Option<String>,
    rule: Option<String>,
    part: Option<&'static str>,
    /// Where in the message it stood.
    found: Option<&'a Finding>,
}

/// Entries with parts that are not kept, told by their sequence.
const WITHHELD_TOLD_MAX: usize = 100;

/// What of the sealed texts the answer covers.
#[derive(Debug, Default)]
struct Sealed {
    /// Opened and searched.
    searched: u64,
    /// Originals that were not opened, but differ by masks alone: what a rule found in them is found
    /// again by its fingerprint.
    masked: u64,
    /// Not opened, and nothing else tells what they hold.
    unsearched: u64,
}

impl Echoed<'_> {
    fn times(&mut self, first_ns: u64, last_ns: u64) {
        self.first_ns = Some(self.first_ns.map_or(first_ns, |first| first.min(first_ns)));
        self.last_ns = Some(self.last_ns.map_or(last_ns, |last| last.max(last_ns)));
    }

    /// The parts whose bytes do not stand in the record: searched where they can be opened, counted
    /// otherwise.
    fn absent(&mut self, place: &Place, entry: &EntryView<'_>) {
        let absent = || entry.parts.iter().enumerate().filter(|(_, part)| part.bytes.is_none());
        if absent().next().is_none() {
            return;
        }
        let opened = self.opener.as_mut().and_then(|opener| opener.open(entry));
        let restored = opened.and_then(Result::ok).unwrap_or_default();
        let seals = matches!(sealed_part(entry), Some((_, Some(_))));
        let verdict = parts::verdict(entry).unwrap_or_default();
        let body = entry.part(PartKind::Body).map(|bytes| self.needle.is_in(bytes)).or_else(|| {
            let body = restored
                .iter()
                .find(|one| entry.parts[usize::from(one.row)].kind_number == PartKind::Body as u8);
            body.map(|one| self.needle.is_in(&one.bytes))
        });
        // What came and went nowhere stands beside no body that tells of it.
        let has_body = entry.parts.iter().any(|part| part.kind_number == PartKind::Body as u8);
        for (row, part) in absent() {
            let kind = PartKind::from_number(part.kind_number);
            let text = restored.iter().find(|one| usize::from(one.row) == row);
            match (text, kind) {
                (Some(text), _) => {
                    self.sealed.searched += 1;
                    if !self.needle.is_in(&text.bytes) {
                        continue;
                    }
                    let told = verdict.direction.clone();
                    let said = direction(entry.kind(), kind).map(str::to_owned);
                    self.hit(&Hit {
                        entry,
                        place,
                        direction: if kind == Some(PartKind::Token) { said } else { told.or(said) },
                        masked: kind != Some(PartKind::Body) && body != Some(true),
                        action: None,
                        rule: None,
                        part: Some(kind.map_or("part", PartKind::as_str)),
                        found: None,
                    });
                }
                (None, Some(PartKind::Original))
                    if seals && has_body && self.fingerprint.is_some() && !verdict.filtered =>
                {
                    self.sealed.masked += 1;
                }
                (None, _) if seals => self.sealed.unsearched += 1,
                (None, _) => {
                    self.withheld_parts += 1;
                    if self.withheld_in.len() < WITHHELD_TOLD_MAX
                        && self.withheld_in.last() != Some(&entry.sequence)
                    {
                        self.withheld_in.push(entry.sequence);
                    }
                }
            }
        }
    }

    fn hit(&mut self, hit: &Hit<'_>) {
        self.hits += 1;
        if self.written.is_err() {
            return;
        }
        let exchange = hit.entry.exchange.map(|id| id.to_string());
        let line = match self.json {
            true => json_line(&json!({
                "exchange": exchange,
                "session": hit.entry.session.map(|id| id.to_string()),
                "time": time_text(hit.entry.now.utc_ns),
                "direction": hit.direction,
                "masked": hit.masked,
                "rule": hit.rule,
                "action": hit.action,
                "part": hit.part,
                "path": hit.found.and_then(|found| found.path.as_deref()),
                "level": hit.found.map(|found| found.level),
                "start": hit.found.map(|found| found.start),
                "len": hit.found.map(|found| found.len),
                "entry": hit.entry.sequence,
                "segment": hit.place.segment,
                "sound": hit.place.sound,
            })),
            false => format!(
                "{}  {}  {:<8}  {}  {}  {}",
                time_text(hit.entry.now.utc_ns),
                exchange.as_deref().unwrap_or("-"),
                hit.direction.as_deref().map_or("-".into(), escape),
                if hit.masked { "masked" } else { "IN CLEAR" },
                hit.rule.as_deref().or(hit.part).map_or("-".into(), escape),
                hit.found.and_then(|found| found.path.as_deref()).map_or("-".into(), escape),
            ),
        };
        self.written = writeln!(self.out, "{line}");
    }
}

/// The direction that an entry of this kind records.
pub(super) fn direction(kind: Option<Kind>, part: Option<PartKind>) -> Option<&'static str> {
    match kind? {
        Kind::Request => Some("request"),
        Kind::Answer | Kind::StreamOpen | Kind::Event | Kind::Interim => Some("response"),
        // The body of a refusal is the gateway's own answer; the head is the client's.
        Kind::Refusal | Kind::Cut => match part? {
            PartKind::HeadIn | PartKind::Original | PartKind::Token => Some("request"),
            PartKind::HeadOut | PartKind::Body => Some("response"),
            PartKind::Subject | PartKind::Verdict | PartKind::Detail | PartKind::Sealed => None,
        },
        Kind::Start
        | Kind::Policy
        | Kind::Refusals
        | Kind::End
        | Kind::Deny
        | Kind::Clock
        | Kind::Stop
        | Kind::Resume
        | Kind::Connect
        | Kind::Disconnect
        | Kind::Delivery
        | Kind::Keys
        | Kind::SealKey
        | Kind::Rotation
        | Kind::Weakening
        | Kind::Witness => None,
    }
}

impl Sink for Echoed<'_> {
    fn left(&mut self, left: &Left) {
        self.entries += left.entries;
        if let Some((first_ns, last_ns)) = left.times_ns {
            self.times(first_ns, last_ns);
        }
    }

    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        self.entries += 1;
        self.times(entry.now.utc_ns, entry.now.utc_ns);
        let verdict = match &self.fingerprint {
            Some(_) => parts::verdict(entry).unwrap_or_default(),
            None => parts::Verdict::default(),
        };
        let mut told: Vec<(&str, Option<&str>)> = Vec::new();
        for finding in &verdict.findings {
            // Why: a value that stands in one string several times is one line for each rule.
            let what = (finding.rule.as_str(), finding.path.as_deref());
            if self.fingerprint.as_ref() != Some(&finding.fingerprint) || told.contains(&what) {
                continue;
            }
            told.push(what);
            self.hit(&Hit {
                entry,
                place,
                direction: verdict.direction.clone(),
                masked: matches!(finding.action.as_str(), "mask" | "block"),
                action: Some(finding.action.clone()),
                rule: Some(finding.rule.clone()),
                part: None,
                found: Some(finding),
            });
        }
        if !self.text {
            return;
        }
        self.absent(place, entry);
        for part in &entry.parts {
            let Some(bytes) = part.bytes else { continue };
            if self.needle.is_in(bytes) {
                let kind = PartKind::from_number(part.kind_number);
                self.hit(&Hit {
                    entry,
                    place,
                    direction: direction(entry.kind(), kind).map(str::to_owned),
                    masked: false,
                    action: None,
                    rule: None,
                    part: Some(kind.map_or("part", PartKind::as_str)),
                    found: None,
                });
            }
        }
    }
}

/// Why [`EchoedOptions::fingerprints_only`] cannot be answered.
const NO_FINGERPRINTS: &str = "looking for fingerprints alone needs the fingerprint key; name it \
    with --fingerprint-key, or the configuration with --config";

/// [`run_with`], without an auditor's identity.
pub fn run(options: &EchoedOptions, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    run_with(options, None, out, err)
}

/// Looks: 0 found and 1 not found when everything was covered, 4 when something was not.
pub fn run_with(
    options: &EchoedOptions,
    mut opener: Option<Opener>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    if options.secret.is_empty() {
        writeln!(err, "stenograph: the secret is empty; give it on stdin")?;
        return Ok(Exit::Usage);
    }
    if options.fingerprints_only && options.fingerprint_key.is_none() {
        writeln!(err, "stenograph: {NO_FINGERPRINTS}")?;
        return Ok(Exit::Usage);
    }
    let own = options.fingerprint_key.as_ref().map(|key| fingerprint(key, &options.secret));
    let fingerprint = own.map(|own| own.iter().map(|byte| format!("{byte:02x}")).collect());
    let questions = match own.filter(|_| options.fingerprints_only) {
        Some(own) => {
            let asked: Question<'_> = Box::new(move |index| index.fingerprints.may_name(&own));
            vec![asked]
        }
        None => Vec::new(),
    };
    let asked = Asked { questions, exchanges: false };
    let mut echoed = Echoed {
        json: options.json,
        needle: Needle::new(&options.secret),
        text: !options.fingerprints_only,
        fingerprint,
        hits: 0,
        entries: 0,
        withheld_parts: 0,
        withheld_in: Vec::new(),
        opener: opener.as_mut(),
        sealed: Sealed::default(),
        first_ns: None,
        last_ns: None,
        out,
        written: Ok(()),
    };
    let (directory, indexes) = (&options.directory, &options.indexes);
    let Some(reading) = read(directory, indexes, &asked, &mut echoed, err)? else {
        return Ok(Exit::Incomplete);
    };
    echoed.written?;
    let complete = reading.is_consistent()
        && echoed.fingerprint.is_some()
        && echoed.withheld_parts == 0
        && echoed.sealed.unsearched == 0;
    let coverage = json!({
        "entries": echoed.entries,
        "segments": reading.segments,
        "left_segments": reading.left_segments,
        "index_key": indexes.key.as_ref().map(ToString::to_string),
        "unsigned_entries": reading.unsigned_entries,
        "withheld_parts": echoed.withheld_parts,
        "withheld_in": echoed.withheld_in,
        "sealed": {
            "searched": echoed.sealed.searched,
            "masked": echoed.sealed.masked,
            "unsearched": echoed.sealed.unsearched,
        },
        "damaged": !reading.is_consistent(),
        "gaps": reading.gaps.len(),
        "live": reading.live,
        "fingerprints": echoed.fingerprint.is_some(),
        "text": echoed.text,
        "complete": complete,
        "from": echoed.first_ns.map(time_text),
        "to": echoed.last_ns.map(time_text),
        "hits": echoed.hits,
    });
    if options.json {
        writeln!(echoed.out, "{}", json_line(&json!({ "coverage": coverage })))?;
    } else {
        print_coverage(echoed.out, &coverage, &reading)?;
    }
    if echoed.fingerprint.is_none() {
        let what = "without the fingerprint key masked values cannot be found";
        writeln!(err, "stenograph: {what}; name the configuration with --config")?;
    }
    if echoed.withheld_parts > 0 {
        let (count, first) = (echoed.withheld_parts, &echoed.withheld_in);
        writeln!(
            err,
            "stenograph: {count} bodies were not kept, so nobody can search them; first in entries \
             {first:?}"
        )?;
    }
    if echoed.sealed.unsearched > 0 {
        let count = echoed.sealed.unsearched;
        writeln!(
            err,
            "stenograph: {count} sealed texts were not searched; an auditor can, with --identity"
        )?;
    }
    Ok(match (complete, echoed.hits > 0) {
        (false, _) => Exit::Incomplete,
        (true, true) => Exit::Done,
        (true, false) => Exit::No,
    })
}

fn print_coverage(out: &mut dyn Write, coverage: &Value, reading: &Reading) -> io::Result<()> {
    let word = |name: &str| coverage[name].as_str().unwrap_or("-").to_owned();
    writeln!(
        out,
        "{} {} in {} entries of {} segments, {} to {}",
        coverage["hits"],
        if coverage["hits"] == 1 { "hit" } else { "hits" },
        coverage["entries"],
        reading.segments,
        word("from"),
        word("to"),
    )?;
    writeln!(
        out,
        "coverage: {}; fingerprints of masked values: {}; text of heads and bodies: {}",
        if coverage["complete"] == true { "complete" } else { "NOT complete" },
        if coverage["fingerprints"] == true { "yes" } else { "no" },
        if coverage["text"] == true { "yes" } else { "not asked for" },
    )
}
