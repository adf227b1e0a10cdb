//! Scanning one text: views, candidates, exact spans, and what is done with each.
//!
//! ```text
//! bytes -> views -> Hyperscan: which rules may match --> expression: spans of the secret
//!                 -> byte scans: places -------------/        |
//!                 -> known values ----------------------------+-> validators, context
//!                                                             v
//!               findings <- overlaps resolved <- places in the JSON <- raw positions
//! ```
//!
//! A scanner belongs to one worker and keeps its memory. It edits nothing ([`super::mask`]) and
//! releases nothing ([`super::judge`]). The same bytes and rules give the same findings everywhere.
//!
//! Bounds: levels and bytes of views, findings, and candidates of one text; beyond any of them the
//! answer is a [`super::GuardFault`], never a partial result.

mod search;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use regex_automata::meta;

use super::blocks::Blocks;
use super::caller::CallerMark;
use super::context::{is_bare_number, settle};
use super::detect;
use super::engine::{Candidates, Presence, Scratch};
use super::fault::GuardFault;
use super::hit::{Hit, resolve};
use super::keyed::Keyed;
use super::mask::fill_of;
use super::rules::RuleSet;
use super::scope::{Asked, keep_in_scope};
use super::views::Views;
use super::work;
use crate::limits::Limits;
use crate::types::{Direction, Finding, RuleAction, Span};
use crate::wire::json;
use crate::wire::mcp::{self, Place};

/// Which engine names the candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Hyperscan and byte scans; built without it, the same as [`Engine::Literals`].
    Hyperscan,
    /// What each pattern cannot do without, and byte scans: no library.
    Literals,
    /// The expressions alone, over everything: the twin that the tests compare with.
    Expressions,
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Valid JSON.
    Json,
    /// Anything else.
    Text,
    /// A head or a part of one, which may come from anybody.
    Field,
}

/// Bound: bytes of the views of a [`Kind::Field`], for each byte of it, and beside that. What is encoded once or twice
/// stays below; what is compressed to be long is refused before it costs anything.
const FIELD_VIEWS_MAX: (u64, u64) = (8, 64 << 10);

/// The same for everything else. What is decoded is shorter than what it was decoded from, and stands once at each level
/// and phase; only what is compressed is longer, and 1 KB of it must not be the work of megabytes.
const VIEWS_MAX: (u64, u64) = (32, 512 << 10);

/// Why views are always there behind a search.
const LENT: &str = "views are lent out during a search only";

/// Scans texts for one worker.
pub struct Scanner {
    rules: Arc<RuleSet>,
    engine: Engine,
    scratch: Option<Scratch>,
    /// Lazily made, one for each rule that was ever searched for.
    caches: Vec<Option<Box<meta::Cache>>>,
    fingerprint: Keyed,
    caller: Option<Arc<CallerMark>>,
    /// The end of the caller's token stands in a view.
    shown: bool,
    /// Lent out during a search.
    views: Option<Box<Views>>,
    presence: Presence,
    /// Lent out while what stands around units is searched: rules of the first level.
    present: Presence,
    marks: detect::Marks,
    blocks: Blocks,
    pub(super) hits: Vec<Hit>,
    places: Vec<(Span, Place)>,
    /// End of the last match of each rule, within one view.
    last_end: Vec<usize>,
    slots: Vec<Option<regex_automata::util::primitives::NonMaxUsize>>,
    rejected: usize,
    reread: usize,
    /// Look at whole views, also where nothing shows around units.
    #[cfg(test)]
    whole: bool,
    /// Keep overlapping hits: what one rule finds, whatever others do.
    pub(super) unresolved: bool,
    pub(super) keeps_originals: bool,
    asked: Asked,
    levels_max: u64,
    view_bytes_max: u64,
    findings_max: usize,
}

impl std::fmt::Debug for Scanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scanner({} rules, {:?})", self.rules.rules().len(), self.engine)
    }
}

impl Scanner {
    /// A scanner over `rules`. `fingerprint_key` is the record's key for [`Finding::fingerprint`].
    ///
    /// # Panics
    /// When there is no memory, as every other allocation. So nobody goes on with the scanner of other
    /// rules than those that the verdicts name.
    pub fn new(rules: Arc<RuleSet>, fingerprint_key: [u8; 32], limits: &Limits) -> Scanner {
        Scanner::with_engine(rules, fingerprint_key, limits, Engine::Hyperscan)
    }

    /// The same with a chosen engine.
    pub fn with_engine(
        rules: Arc<RuleSet>,
        fingerprint_key: [u8; 32],
        limits: &Limits,
        engine: Engine,
    ) -> Scanner {
        let count = rules.rules().len();
        let scratch = match engine {
            Engine::Hyperscan => rules.database.as_ref().map(|database| database.scratch()),
            Engine::Literals | Engine::Expressions => None,
        };
        Scanner {
            engine,
            scratch,
            caches: (0..count).map(|_| None).collect(),
            fingerprint: Keyed::new(&fingerprint_key),
            caller: None,
            shown: false,
            views: Some(Box::default()),
            presence: Presence::new(count),
            present: Presence::new(count),
            marks: detect::Marks::default(),
            blocks: Blocks::default(),
            hits: vec![],
            places: vec![],
            last_end: vec![0; count],
            slots: vec![],
            rejected: 0,
            reread: 0,
            #[cfg(test)]
            whole: false,
            unresolved: false,
            keeps_originals: false,
            asked: Asked::default(),
            levels_max: limits.views_max,
            view_bytes_max: limits.view_bytes_max,
            findings_max: limits.findings_max as usize,
            rules,
        }
    }

    /// From now on messages that are edited or blocked come back with a copy of what they were.
    pub fn keep_originals(&mut self, keeps: bool) {
        self.keeps_originals = keeps;
    }

    /// From now on this token is a known value too; `None` for none.
    pub fn look_for(&mut self, caller: Option<Arc<CallerMark>>) {
        self.caller = caller;
    }

    /// What the messages to come belong to; only rules with a scope ask.
    pub fn set_asked(&mut self, asked: Asked) {
        self.asked = asked;
    }

    /// The rules in force.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// Findings in one text, in order of their place: what the gateway would find in it. JSON when it
    /// parses strictly, else plain text.
    pub fn scan(
        &mut self,
        input: &[u8],
        direction: Direction,
        scratch: &mut json::Scratch,
        limits: &Limits,
    ) -> Result<Vec<Finding>, GuardFault> {
        let kind = kind_of(input, scratch, limits);
        self.find(input, kind, direction, None, scratch, limits)?;
        Ok(self.findings())
    }

    /// The same for bytes that are known to be valid JSON: no strict reading unless something is found.
    pub fn scan_json(
        &mut self,
        input: &[u8],
        direction: Direction,
        scratch: &mut json::Scratch,
        limits: &Limits,
    ) -> Result<Vec<Finding>, GuardFault> {
        self.find(input, Kind::Json, direction, None, scratch, limits)?;
        Ok(self.findings())
    }

    /// Finds what stands in `raw`: afterwards `hits` holds non-overlapping spans in order, each with its
    /// final action.
    pub(super) fn find(
        &mut self,
        raw: &[u8],
        kind: Kind,
        direction: Direction,
        pseudonym_key: Option<&[u8; 32]>,
        scratch: &mut json::Scratch,
        limits: &Limits,
    ) -> Result<(), GuardFault> {
        self.hits.clear();
        (self.rejected, self.reread, self.shown) = (0, 0, false);
        let bytes_max = self.views_max(raw, kind);
        // Why taken out: the views lend their text while the scanner's other memory changes.
        let mut views = self.views.take().unwrap_or_default();
        let built = views.build(raw, kind == Kind::Json, self.levels_max, bytes_max);
        let rules = Arc::clone(&self.rules);
        self.presence.clear();
        let done = built
            .map_err(GuardFault::from)
            .and_then(|()| self.search_all(&rules, &mut views, raw, direction));
        self.views = Some(views);
        done?;
        if self.hits.is_empty() {
            return Ok(());
        }
        self.place(&rules, raw, kind)?;
        if !self.unresolved {
            let of = (kind, direction);
            keep_in_scope(&mut self.hits, &rules, raw, of, &self.asked, scratch, limits);
            resolve(&mut self.hits, rules.known_from);
            let work = self.views.as_deref_mut().expect(LENT).work();
            work.add(self.hits.len(), work::FINDING).map_err(GuardFault::TooMuchWork)?;
        }
        self.digest(raw, pseudonym_key);
        self.rewrite(&rules, raw);
        Ok(())
    }

    /// Bound: bytes of the views of `raw`.
    pub(super) fn views_max(&self, raw: &[u8], kind: Kind) -> u64 {
        let (each, more) = match kind {
            Kind::Json | Kind::Text => VIEWS_MAX,
            Kind::Field => FIELD_VIEWS_MAX,
        };
        self.view_bytes_max.min(each * raw.len() as u64 + more)
    }

    /// The record's fingerprint of `value`.
    pub(super) fn fingerprint_of(&self, value: &[u8]) -> [u8; 16] {
        let full = self.fingerprint.of(value);
        let mut print = [0; 16];
        print.copy_from_slice(&full[..16]);
        print
    }

    /// Raw positions for all hits; in JSON, the token each stands in decides what can be done.
    fn place(&mut self, rules: &RuleSet, raw: &[u8], kind: Kind) -> Result<(), GuardFault> {
        // Until here the span is the one in the view.
        self.hits.sort_by_key(|hit| (hit.view, hit.span.start));
        let mut spans: Vec<(usize, Range<usize>)> =
            self.hits.iter().map(|hit| (hit.view, hit.span.clone())).collect();
        let views = self.views.as_deref().expect(LENT);
        views.to_raw(raw, &mut spans);
        for (hit, (view, span)) in self.hits.iter_mut().zip(spans) {
            hit.number = is_bare_number(views.text(raw, view), hit.span.clone());
            if hit.number {
                hit.action = settle(rules.all(), hit, Place::Number);
                // What was compressed has no digits of its own to put others in their place.
                hit.number = !views.is_compressed(view);
            }
            hit.span = span;
            hit.level = views.views()[view].level;
        }
        self.hits.sort_by(|a, b| {
            (a.rule, a.span.start, a.span.end, a.level).cmp(&(
                b.rule,
                b.span.start,
                b.span.end,
                b.level,
            ))
        });
        self.hits.dedup_by(|later, kept| later.rule == kept.rule && later.span == kept.span);
        if kind != Kind::Json {
            return Ok(());
        }
        // Nothing behind the last hit decides what becomes of one.
        let until = self.hits.iter().map(|hit| hit.span.end).max().unwrap_or(0);
        mcp::places(raw, until, &mut self.places).map_err(|_| GuardFault::EditBroke)?;
        // Tokens are in order; a hit lies in one of them, except for a pattern made to read across.
        for mut hit in std::mem::take(&mut self.hits) {
            let first = self.places.partition_point(|(span, _)| span.end() <= hit.span.start);
            let tokens = &self.places[first..];
            let here = hit.span.clone();
            let holds = |span: &Span| span.start as usize <= here.start && here.end <= span.end();
            if let Some(&(_, place)) = tokens.first().filter(|(span, _)| holds(span)) {
                hit.number |= place == Place::Number;
                hit.action = settle(rules.all(), &hit, place);
                self.hits.push(hit);
                continue;
            }
            for &(span, place) in tokens {
                if span.start as usize >= here.end {
                    break;
                }
                let mut piece = hit.clone();
                piece.span = here.start.max(span.start as usize)..here.end.min(span.end());
                piece.number |= place == Place::Number;
                piece.action = settle(rules.all(), &hit, place);
                self.hits.push(piece);
            }
        }
        Ok(())
    }

    fn digest(&mut self, raw: &[u8], pseudonym_key: Option<&[u8; 32]>) {
        let pseudonym = pseudonym_key.map(Keyed::new);
        let views = self.views.as_deref().expect(LENT);
        for hit in &mut self.hits {
            let value = &views.text(raw, hit.view)[hit.value.clone()];
            hit.fingerprint.copy_from_slice(&self.fingerprint.of(value)[..16]);
            if let Some(pseudonym) = &pseudonym {
                hit.pseudonym.copy_from_slice(&pseudonym.of(value)[..4]);
            }
        }
    }

    /// What takes the place of hits in runs.
    fn rewrite(&mut self, rules: &RuleSet, raw: &[u8]) {
        if !self.views.as_deref().expect(LENT).has_runs() {
            return;
        }
        let masked = |hit: &Hit| hit.action > RuleAction::Alert;
        let places: Vec<_> = self
            .hits
            .iter()
            .map(|hit| masked(hit).then(|| (hit.view, hit.piece.clone())))
            .collect();
        let hits = &self.hits;
        let new =
            |hit: usize, text: &[u8], span: Range<usize>| fill_of(rules, &hits[hit], text, span);
        let patches = self.views.as_deref().expect(LENT).rewrite(raw, &places, new);
        for (hit, patch) in self.hits.iter_mut().zip(patches) {
            hit.patch = patch;
        }
    }

    /// The hits as findings. More than the bound is the caller's refusal.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let rules = self.rules.all();
        self.hits
            .iter()
            .map(|hit| Finding {
                rule: Arc::clone(&rules[hit.rule].id),
                action: hit.action,
                span: Span::new(hit.span.start, hit.span.end),
                fingerprint: hit.fingerprint,
                level: hit.level,
                path: None,
            })
            .collect()
    }

    /// Fails when there are more hits than the bound.
    pub(super) fn bounded(&self) -> Result<(), GuardFault> {
        self.bounded_with(0)
    }

    /// The same, with so many findings beside them.
    pub(super) fn bounded_with(&self, beside: usize) -> Result<(), GuardFault> {
        if self.hits.len() + beside > self.findings_max {
            Err(GuardFault::TooManyFindings)
        } else {
            Ok(())
        }
    }
}

/// JSON when it reads strictly.
pub(super) fn kind_of(input: &[u8], scratch: &mut json::Scratch, limits: &Limits) -> Kind {
    let first = input.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        Some(b'{' | b'[' | b'"')
            if json::read(input, limits, scratch, &mut json::Unwatched).is_ok() =>
        {
            Kind::Json
        }
        _ => Kind::Text,
    }
}
