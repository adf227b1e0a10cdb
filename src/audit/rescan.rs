//! `rescan`: rules of today over what was recorded under those of then: what was let through that would be
//! masked, blocked or told now.
//!
//! Every body that is kept in clear is scanned as the gateway would scan it, and with an auditor's identity
//! every original too: there what was masked stands as it came. A finding is *known* when the verdict of
//! its entry names the same rule for the same bytes, or, with the record's fingerprint key, for the same
//! value. The same text and pack give the same findings on any machine, so over originals, with the pack of
//! then, nothing is new but what nobody got: what was cut from lists before it was judged.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::originals::Opener;
use super::text::{escape, json_line};
use super::{Exit, Indexes, echoed, exit, parts, read};
use crate::guard::{RuleSet, Scanner};
use crate::limits::Limits;
use crate::record::PartKind;
use crate::record::entry::EntryView;
use crate::record::note::time_text;
use crate::record::scan::{Place, Sink};
use crate::record::skip::Asked;
use crate::types::{Direction, Finding, hex};
use crate::wire::json::Scratch;

/// Which rules to run over which record, and how to say it.
#[derive(Clone)]
pub struct RescanOptions {
    /// Directory of the record.
    pub directory: PathBuf,
    /// The rules of today.
    pub rules: Arc<RuleSet>,
    /// The record's fingerprint key: with it a value that its verdict names is known wherever it stands.
    pub fingerprint_key: Option<[u8; 32]>,
    /// Tell what the verdicts name already, too.
    pub known: bool,
    /// JSON Lines instead of text.
    pub json: bool,
}

impl std::fmt::Debug for RescanOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RescanOptions({})", self.directory.display())
    }
}

struct Rescan<'a> {
    options: &'a RescanOptions,
    scanner: Scanner,
    scratch: Scratch,
    limits: Limits,
    opener: Option<Opener>,
    /// Texts that were scanned.
    scanned: u64,
    /// Texts over a bound of the scanner.
    refused: u64,
    /// Bodies and originals that could not be read: sealed, or not kept.
    unread: u64,
    new: u64,
    known: u64,
    out: &'a mut dyn Write,
    written: io::Result<()>,
}

impl Rescan<'_> {
    fn text(
        &mut self,
        place: &Place,
        entry: &EntryView<'_>,
        (kind, bytes): (PartKind, &[u8]),
        verdict: &parts::Verdict,
    ) {
        let way = match kind {
            // What came differs from what the entry records as the body, not in its direction.
            PartKind::Original => verdict.direction.as_deref(),
            _ => echoed::direction(entry.kind(), Some(kind)),
        };
        let Some(way) = way else { return };
        let direction = match way {
            "request" => Direction::Request,
            _ => Direction::Response,
        };
        let (scratch, limits) = (&mut self.scratch, &self.limits);
        let Ok(found) = self.scanner.scan_located(bytes, direction, scratch, limits) else {
            self.refused += 1;
            return;
        };
        self.scanned += 1;
        for finding in found {
            let span = (u64::from(finding.span.start), u64::from(finding.span.len));
            let print = self.options.fingerprint_key.map(|_| hex(&finding.fingerprint));
            let known = verdict.findings.iter().any(|old| {
                let same = (old.start, old.len) == span || Some(&old.fingerprint) == print.as_ref();
                *old.rule == *finding.rule && same
            });
            *(if known { &mut self.known } else { &mut self.new }) += 1;
            if (!known || self.options.known) && self.written.is_ok() {
                let line = self.line(place, entry, kind, way, &finding, known);
                self.written = writeln!(self.out, "{line}");
            }
        }
    }

    fn line(
        &self,
        place: &Place,
        entry: &EntryView<'_>,
        kind: PartKind,
        way: &str,
        finding: &Finding,
        known: bool,
    ) -> String {
        let exchange = entry.exchange.map(|id| id.to_string());
        let path = finding.path.as_ref().map(|path| path.text(true));
        let time = time_text(entry.now.utc_ns);
        match self.options.json {
            true => json_line(&json!({
                "exchange": exchange,
                "session": entry.session.map(|id| id.to_string()),
                "time": time,
                "direction": way,
                "rule": &*finding.rule,
                "action": finding.action.as_str(),
                "known": known,
                "part": kind.as_str(),
                "path": path,
                "level": finding.level,
                "start": finding.span.start,
                "len": finding.span.len,
                "entry": entry.sequence,
                "segment": place.segment,
            })),
            false => format!(
                "{time}  {}  {way:<8}  {:<5}  {} {}  {}",
                exchange.as_deref().unwrap_or("-"),
                if known { "known" } else { "NEW" },
                escape(&finding.rule),
                finding.action.as_str(),
                path.as_deref().map_or("-".into(), escape),
            ),
        }
    }
}

impl Sink for Rescan<'_> {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        let wanted = |kind| matches!(kind, Some(PartKind::Body | PartKind::Original));
        if !entry.parts.iter().any(|part| wanted(PartKind::from_number(part.kind_number))) {
            return;
        }
        let verdict = parts::verdict(entry).unwrap_or_default();
        let opened = self.opener.as_mut().and_then(|opener| opener.open(entry));
        let restored = opened.and_then(Result::ok).unwrap_or_default();
        for (row, part) in entry.parts.iter().enumerate() {
            let Some(kind) =
                PartKind::from_number(part.kind_number).filter(|kind| wanted(Some(*kind)))
            else {
                continue;
            };
            let sealed = || restored.iter().find(|one| usize::from(one.row) == row);
            match part.bytes.or_else(|| sealed().map(|one| &one.bytes[..])) {
                Some(bytes) => self.text(place, entry, (kind, bytes), &verdict),
                None => self.unread += 1,
            }
        }
    }
}

/// Scans: 0 something new was found, 1 nothing new and all was scanned, 4 not everything was.
pub fn run(
    options: &RescanOptions,
    opener: Option<Opener>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let limits = Limits::default();
    let mut rescan = Rescan {
        options,
        scanner: Scanner::new(
            options.rules.clone(),
            options.fingerprint_key.unwrap_or_default(),
            &limits,
        ),
        scratch: Scratch::new(),
        limits,
        opener,
        scanned: 0,
        refused: 0,
        unread: 0,
        new: 0,
        known: 0,
        out,
        written: Ok(()),
    };
    // No index says what bodies hold: everything is read.
    let (all, asked) = (Indexes::default(), Asked { questions: vec![], exchanges: false });
    let Some(reading) = read(&options.directory, &all, &asked, &mut rescan, err)? else {
        return Ok(Exit::Incomplete);
    };
    rescan.written?;
    let Rescan { scanned, refused, unread, new, known, .. } = rescan;
    let complete = reading.is_consistent() && refused + unread == 0;
    let rules = hex(&options.rules.source_digest());
    match options.json {
        true => {
            let coverage = json!({
                "rules": rules, "scanned": scanned, "refused": refused, "unread": unread,
                "new": new, "known": known, "complete": complete,
            });
            writeln!(rescan.out, "{}", json_line(&json!({ "coverage": coverage })))?;
        }
        false => writeln!(
            rescan.out,
            "{new} new and {known} known findings in {scanned} texts, by rules {rules}; {refused} were \
             over a bound of the scanner, {unread} are sealed or not kept"
        )?,
    }
    if unread > 0 && rescan.opener.is_none() {
        writeln!(err, "stenograph: {unread} texts were not read; an auditor can, with --identity")?;
    }
    Ok(match exit(&reading, new > 0) {
        Exit::No if !complete => Exit::Incomplete,
        exit => exit,
    })
}
