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

use std::ops::Range;
use std::sync::Arc;

use regex_automata::{Input, meta};

use super::blocks::{Blocks, Window};
use super::caller::{self, CallerMark};
use super::context::{Verdict, is_bare_number, judge, near, settle};
use super::detect::{self, Detector};
use super::engine::{Candidates, EngineFault, Presence, Scratch};
use super::fault::GuardFault;
use super::hit::{Hit, resolve};
use super::keyed::Keyed;
use super::lines;
use super::literals;
use super::mask::fill_of;
use super::people;
use super::rules::{Rule, RuleSet};
use super::scope::{Asked, keep_in_scope};
use super::units;
use super::validate::Validator;
use super::views::Views;
use super::work;
use crate::limits::Limits;
use crate::types::{Direction, Finding, RuleAction, Span};
use crate::wire::json;
use crate::wire::mcp::{self, Place};

/// Bound: matches of expressions in one text that validators turn down, beside one in 64 bytes. An
/// ordinary answer of 16 MiB has a few hundred; a text made to have more is refused.
const REJECTED_MAX: usize = 1 << 14;

/// Bound: how often each byte of a text may be read again by an expression, because a match was turned
/// down or ended behind its secret; beside so many bytes. Ordinary texts stay below one.
const REREAD_MAX: (usize, usize) = (4, 64 << 10);

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

/// Bound: hits around units that are compared with those of the first level; with more of them, whole views are looked at.
const KNOWN_MAX: usize = 32;

/// What is searched in one go.
#[derive(Debug, Clone, Copy)]
enum Searched<'a> {
    /// One text, and the number of its view.
    One(&'a [u8], usize),
    /// All views but the first. No match of one goes over into the next.
    Deeper(&'a Views),
}

impl<'a> Searched<'a> {
    fn text(self) -> &'a [u8] {
        match self {
            Searched::One(text, _) => text,
            Searched::Deeper(views) => views.deeper(),
        }
    }

    /// The view that byte `at` of the text stands in, or the first behind it, and where it lies.
    fn at(self, at: usize) -> Option<(usize, Range<usize>)> {
        match self {
            Searched::One(text, view) => Some((view, 0..text.len())),
            Searched::Deeper(views) => views.at(at),
        }
    }

    /// The view that `span` of the text lies in, and where that lies.
    fn holds(self, span: &Range<usize>) -> Option<(usize, Range<usize>)> {
        self.at(span.start).filter(|(_, at)| at.start <= span.start && span.end <= at.end)
    }
}

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

    /// Searches the first level whole; deeper ones too when something may stand there.
    fn search_all(
        &mut self,
        rules: &RuleSet,
        views: &mut Views,
        raw: &[u8],
        direction: Direction,
    ) -> Result<(), GuardFault> {
        let first = views.text(raw, 0);
        self.candidates(rules, first)?;
        self.search_view(rules, Searched::One(first, 0), Some(views.marks()), direction)?;
        // A match that is longer than the margin may end far from where the engine saw it begin.
        let mut deeper = self.presence.meets(&rules.far) || self.shown;
        let margin = rules.margin.max(caller::TAIL_BYTES + 2);
        if views.around(raw, margin)?.is_empty() {
            return Ok(());
        }
        if !deeper {
            std::mem::swap(&mut self.presence, &mut self.present);
            self.presence.clear();
            let around = views.text_around();
            self.candidates(rules, around)?;
            deeper = self.presence.meets(&rules.far);
            if !deeper {
                let found = self.hits.len();
                let around = Searched::One(around, 1);
                self.search_view(rules, around, Some(views.marks_around()), direction)?;
                let (old, new) = self.hits.split_at(found);
                // What the first level has as well is no reason to look deeper.
                deeper = self.shown
                    || new.len() > KNOWN_MAX
                    || !new.iter().all(|new| {
                        views.in_first(raw, &new.span).is_some_and(|span| {
                            old.iter().take(KNOWN_MAX).any(|old| {
                                (old.rule, old.action, &old.span) == (new.rule, new.action, &span)
                            })
                        })
                    });
                self.hits.truncate(found);
            }
            self.presence.join(&self.present);
        }
        #[cfg(test)]
        let deeper = deeper || self.whole;
        if !deeper {
            return Ok(());
        }
        views.deepen(raw)?;
        // Why all in one go: a text has thousands of small views, and each search has its price.
        self.presence.clear();
        self.candidates(rules, views.deeper())?;
        self.search_view(rules, Searched::Deeper(views), None, direction)
    }

    /// Marks the rules whose pattern may match in `text`, beside those that are marked already.
    fn candidates(&mut self, rules: &RuleSet, text: &[u8]) -> Result<(), GuardFault> {
        let mut presence = std::mem::take(&mut self.presence);
        let done = self.ask(rules, text, &mut presence);
        self.presence = presence;
        done.map_err(|_| GuardFault::Engine)
    }

    /// The same in `presence`.
    fn ask(
        &self,
        rules: &RuleSet,
        text: &[u8],
        presence: &mut Presence,
    ) -> Result<(), EngineFault> {
        if self.engine == Engine::Literals {
            return rules
                .without_library()
                .and_then(|database| database.scan(text, &literals::Scratch, presence));
        }
        match (&rules.database, &self.scratch) {
            (Some(database), Some(scratch)) => database.scan(text, scratch, presence),
            _ => {
                (0..rules.rules().len()).for_each(|number| presence.set(number));
                Ok(())
            }
        }
    }

    /// Where in `text` the rules of `presence` may match, when it is worth while to know.
    fn blocks_of(
        &mut self,
        rules: &RuleSet,
        text: &[u8],
        presence: &Presence,
    ) -> Result<Blocks, GuardFault> {
        let mut blocks = std::mem::take(&mut self.blocks);
        let looked = match self.engine {
            Engine::Expressions => blocks.skip(text),
            Engine::Hyperscan | Engine::Literals => {
                let ask = |text: &[u8], here: &mut Presence| self.ask(rules, text, here);
                blocks.look(text, presence, rules.margin, ask)
            }
        };
        looked.map(|()| blocks).map_err(|_| GuardFault::Engine)
    }

    /// Searches one text. `marks` are those of its survey, where there was one.
    fn search_view(
        &mut self,
        rules: &RuleSet,
        searched: Searched<'_>,
        marks: Option<&[super::simd::Marks]>,
        direction: Direction,
    ) -> Result<(), GuardFault> {
        let text = searched.text();
        for &(_, number) in &rules.detectors {
            self.last_end[number] = 0;
        }
        let presence = std::mem::take(&mut self.presence);
        let blocks = self.blocks_of(rules, text, &presence)?;
        let mut done = Ok(());
        for number in presence.iter() {
            let rule = &rules.rules()[number];
            let detector = match rule.matcher {
                super::rules::Matcher::Pattern { .. } => None,
                super::rules::Matcher::Detector { detector, .. } => Some(detector),
                super::rules::Matcher::Known => continue,
            };
            if let Searched::Deeper(views) = searched
                && rules.anchored.has(number)
            {
                for view in 1..views.views().len() {
                    let one = Searched::One(views.deeper_text(view), view);
                    let window = Window::whole(0..one.text().len());
                    done = done.and_then(|()| {
                        self.search(rules, number, detector, one, window, direction)
                    });
                }
                continue;
            }
            for window in blocks.windows(number, rules.reaches[number]) {
                done = done.and_then(|()| {
                    self.search(rules, number, detector, searched, window, direction)
                });
            }
        }
        self.presence = presence;
        self.blocks = blocks;
        done?;
        if self.engine != Engine::Expressions && !rules.detectors.is_empty() {
            let mut done = Ok(());
            let mut own = std::mem::take(&mut self.marks);
            let found = |candidate: detect::Candidate| {
                for &(detector, number) in &rules.detectors {
                    if detector == candidate.detector {
                        let from = candidate.from.max(self.last_end[number]);
                        let rule = &rules.rules()[number];
                        let window = from..candidate.to.max(from);
                        // Nine in ten groups of digits are no card's.
                        if detector == Detector::Card
                            && window.start == candidate.from
                            && rule.validators.iter().any(|it| it.is_card())
                            && !people::card_any(&text[window.clone()])
                        {
                            continue;
                        }
                        // Cheaper than the expression, and most candidates end here.
                        if rule.context_required
                            && rule.after.is_empty()
                            && !near(rule, text, &window)
                        {
                            continue;
                        }
                        let (detector, window) = (Some(detector), Window::whole(window));
                        done = self.search(rules, number, detector, searched, window, direction);
                        if done.is_err() {
                            return false;
                        }
                    }
                }
                true
            };
            match marks {
                Some(marks) => detect::among(text, marks, found),
                None => detect::scan(text, &mut own, found),
            }
            self.marks = own;
            done?;
        }
        if let Some((automaton, numbers)) = &rules.known {
            for found in automaton.find_iter(text) {
                let number = numbers[found.pattern().as_usize()];
                let inside = searched.holds(&found.range());
                let action = rules.rules()[number].actions.of(direction);
                if let Some(((view, at), action)) = inside.zip(action) {
                    // A quote or a backslash carries what is around it at some level: it stays, and the
                    // value is masked in pieces between them.
                    let value = found.start() - at.start..found.end() - at.start;
                    let mut start = value.start;
                    for piece in text[found.range()].split(|&byte| matches!(byte, b'"' | b'\\')) {
                        let end = start + piece.len();
                        if start < end {
                            self.push(number, action, true, view, value.clone(), start..end)?;
                        }
                        start = end + 1;
                    }
                }
            }
        }
        if let Some(caller) = self.caller.clone() {
            self.shown |= caller.ends(text, |end| {
                let start = end - caller.bytes();
                match searched.holds(&(start..end)) {
                    Some((view, at)) => {
                        let value = start - at.start..end - at.start;
                        self.push(
                            rules.caller(),
                            RuleAction::Mask,
                            true,
                            view,
                            value.clone(),
                            value,
                        )
                    }
                    None => Ok(()),
                }
            })?;
        }
        Ok(())
    }

    /// Every match of one rule in `window` of what is searched.
    fn search(
        &mut self,
        rules: &RuleSet,
        number: usize,
        detector: Option<Detector>,
        searched: Searched<'_>,
        window: Window,
        direction: Direction,
    ) -> Result<(), GuardFault> {
        let rule = &rules.rules()[number];
        let Some(action) = rule.actions.of(direction) else { return Ok(()) };
        let Some(regex) = rule.matcher.regex() else { return Ok(()) };
        let text = searched.text();
        let Window { span: window, begin_max } = window;
        let mut at = window.start;
        // Nearer than the window's end where a match went over the end of its view.
        let mut until = window.end;
        while at < begin_max {
            let cache = self.caches[number].get_or_insert_with(|| Box::new(regex.create_cache()));
            self.slots.clear();
            // Why: to ask for a group costs more than to find the match.
            let groups = if rule.secret.is_some() { 1 } else { regex.captures_len() };
            self.slots.resize(groups * 2, None);
            let input = Input::new(&text[..until]).span(at..until);
            let matched = regex.search_slots_with(cache, &input, &mut self.slots).is_some();
            let slot = |place: usize| self.slots.get(place).copied().flatten().map(|at| at.get());
            let Some((start, end)) = slot(0).zip(slot(1)).filter(|_| matched) else {
                if until == window.end {
                    break;
                }
                (at, until) = (until, window.end);
                continue;
            };
            if start >= begin_max {
                break;
            }
            let group = (1..self.slots.len() / 2)
                .find_map(|group| slot(group * 2).zip(slot(group * 2 + 1)));
            let (from, to) = match &rule.secret {
                Some(secret) => {
                    let Range { start: from, end: to } = secret.within(text, &(start..end));
                    (from, to)
                }
                None => group.unwrap_or((start, end)),
            };
            // What a match asks for in front of a secret may be what divides two views.
            let Some((view, here)) = searched.at(start) else { break };
            if end > here.end {
                (at, until) = (start, here.end);
                continue;
            }
            let here_text = &text[here.clone()];
            let inside = from.checked_sub(here.start).map(|from| {
                let to = to - here.start;
                from..detector.map_or(to, |detector| detector.settle(here_text, from, to))
            });
            let inside = inside.filter(|at| {
                detector.is_none_or(|detector| detector.stands_alone(here_text, at.start, at.end))
            });
            match inside.and_then(|at| judge_whole_units(rule, here_text, at)) {
                Some((Verdict { confirmed, context, allowed }, Range { start: from, end: to })) => {
                    let stronger = rule.on_confirmed.of(direction).filter(|_| confirmed);
                    // What carries a checksum that holds is no value of the operator's choice.
                    let passes = (allowed && !confirmed).then_some(RuleAction::Allow);
                    let action = passes.or(stronger).unwrap_or(action);
                    if rule.key_lines {
                        let lines = lines::of_key(&here_text[to..]);
                        let end = lines.last().map_or(to, |last| to + last.end);
                        for line in lines {
                            let line = to + line.start..to + line.end;
                            self.push(number, action, context, view, to..end, line)?;
                        }
                    } else {
                        self.push(number, action, context, view, from..to, from..to)?;
                    }
                    self.last_end[number] = here.start + to;
                    at = (here.start + to).max(start + 1);
                }
                None => {
                    at = start + 1;
                    match detector {
                        Some(detector) => at = detector.next_start(text, at, window.end),
                        None => self.rejected += 1,
                    }
                }
            }
            self.reread += end.saturating_sub(at);
            if self.rejected > REJECTED_MAX + text.len() / 64
                || self.reread > REREAD_MAX.0 * text.len() + REREAD_MAX.1
            {
                return Err(GuardFault::TooManyCandidates);
            }
        }
        Ok(())
    }

    fn push(
        &mut self,
        rule: usize,
        action: RuleAction,
        context: bool,
        view: usize,
        value: Range<usize>,
        piece: Range<usize>,
    ) -> Result<(), GuardFault> {
        // Why a multiple: one secret may show in every view before doubles are dropped.
        if self.hits.len() >= self.findings_max.saturating_mul(self.levels_max as usize + 1) {
            return Err(GuardFault::TooManyFindings);
        }
        self.hits.push(Hit {
            rule,
            action,
            span: piece.clone(),
            piece,
            patch: None,
            // Told when the views are back.
            level: 0,
            number: false,
            context,
            view,
            value,
            fingerprint: [0; 16],
            pseudonym: [0; 4],
        });
        Ok(())
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
        let behind = |hit: &Hit| {
            let first = self.places.partition_point(|(span, _)| span.end() <= hit.span.start);
            &self.places[first..]
        };
        let across = self.hits.iter_mut().position(|hit| {
            let inside = behind(hit).first().filter(|(span, _)| {
                span.start as usize <= hit.span.start && hit.span.end <= span.end()
            });
            let Some(&(_, place)) = inside.filter(|_| !hit.span.is_empty()) else { return true };
            hit.number |= place == Place::Number;
            hit.action = settle(rules.all(), hit, place);
            false
        });
        let Some(across) = across else { return Ok(()) };
        for hit in self.hits.split_off(across) {
            for &(span, place) in behind(&hit) {
                if span.start as usize >= hit.span.end {
                    break;
                }
                let mut piece = hit.clone();
                piece.span = hit.span.start.max(span.start as usize)..hit.span.end.min(span.end());
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

/// [`judge`], and where the match lies that counts: not in half of a unit, or what is written over it leaves a text that
/// nobody can read. In `\nalice@…` the `n` belongs to the escape. Of what else may be a unit (`%41` in `LIKE '%4111…'`) nobody
/// knows, and all of it is masked.
fn judge_whole_units(
    rule: &Rule,
    text: &[u8],
    at: Range<usize>,
) -> Option<(Verdict, Range<usize>)> {
    // First, because most candidates end there.
    let verdict = judge(rule, text, at.clone())?;
    let Some(unit) = units::around(text, at.start) else { return Some((verdict, at)) };
    let whole = unit.start..at.end;
    let mail = rule.validators.contains(&Validator::Email);
    let short = matches!(text[unit.clone()], [b'\\', b'n' | b't' | b'r' | b'b' | b'f']);
    let exact = short || (mail && text[unit.start] == b'\\');
    if !exact {
        return Some((verdict, whole));
    }
    let behind = unit.end.min(at.end)..at.end;
    // `\n@abc.abstractmethod` is no address.
    let whole = (!mail).then_some((verdict, whole));
    judge(rule, text, behind.clone()).map(|verdict| (verdict, behind)).or(whole)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex_syntax::hir::{Class, Hir, HirKind};

    use super::*;

    /// One character in another way of writing it.
    fn unit(way: u8, character: char) -> String {
        match (way % 4, character.is_ascii()) {
            (0, true) => format!("%{:02X}", character as u8),
            (1, true) => format!("\\u{:04x}", character as u32),
            (2, _) => format!("&#{};", character as u32),
            _ => format!("{character}\u{200b}"),
        }
    }

    /// A text that `hir` matches, with repeats of `repeats` of their longest.
    fn long_match(hir: &Hir, repeats: f64, seed: &mut u64, out: &mut Vec<u8>) {
        let mut below = |most: usize| {
            *seed = seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            (*seed >> 33) as usize % most.max(1)
        };
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => out.extend_from_slice(&literal.0),
            HirKind::Class(Class::Bytes(class)) => {
                let has = |byte: &u8| {
                    class.ranges().iter().any(|range| (range.start()..=range.end()).contains(byte))
                };
                let letters: Vec<u8> = (b'0'..=b'9')
                    .chain(b'A'..=b'Z')
                    .chain(b'a'..=b'z')
                    .chain(*b"-_=/ :.,;@'\n")
                    .filter(has)
                    .collect();
                let first = class.ranges().first().map_or(b'?', |range| range.start());
                out.push(letters.get(below(letters.len())).copied().unwrap_or(first));
            }
            HirKind::Class(Class::Unicode(_)) => unreachable!("patterns are of bytes"),
            HirKind::Repetition(repetition) => {
                let most = repetition.max.unwrap_or(repetition.min).min(2000);
                let count = (f64::from(most) * repeats).round() as u32;
                for _ in 0..count.max(repetition.min) {
                    long_match(&repetition.sub, repeats, seed, out);
                }
            }
            HirKind::Capture(capture) => long_match(&capture.sub, repeats, seed, out),
            HirKind::Concat(parts) => {
                parts.iter().for_each(|part| long_match(part, repeats, seed, out));
            }
            HirKind::Alternation(parts) => {
                let which = below(parts.len());
                long_match(&parts[which], repeats, seed, out);
            }
        }
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, text).expect("memory");
        encoder.finish().expect("memory")
    }

    /// In letters, as the `way` says; each three ways of writing them.
    fn in_letters(way: usize, text: &[u8]) -> Vec<u8> {
        use base64::Engine as _;
        let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        match way {
            0 => base64(text).into_bytes(),
            1 => text.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect(),
            2 => base64(&gzip(text)).into_bytes(),
            _ => {
                let whole = base64(text);
                let lines: Vec<&[u8]> = whole.as_bytes().chunks(76).collect();
                lines.join(&b"\r\n"[..])
            }
        }
    }

    // A unit in a run cut what was looked at in the run, so that gzip broke off and base64 was read from the middle.
    // Mutants: pieces do not begin where their run does; nor end there.
    #[test]
    fn a_unit_anywhere_in_a_long_run_hides_nothing_of_it() {
        let rules = RuleSet::builtin().expect("the built-in pack compiles");
        let limits = Limits::default();
        let mut memory = json::Scratch::new();
        let mut scanner = Scanner::new(Arc::clone(&rules), [0; 32], &limits);
        let noise: String = (0..6000u32)
            .map(|at| char::from(b'a' + (at.wrapping_mul(2_654_435_761) >> 24) as u8 % 26))
            .collect();
        let key = "ghp_b9Le03MtXyZ7aQ2wE4rT6uI8oP1sD3fG5hJ0";
        let mut missed = vec![];
        for ways in [&[0][..], &[1], &[2], &[3], &[1, 1], &[0, 0], &[1, 1, 1], &[2, 0], &[0, 2]] {
            let long = ways.len() < 2 || ways.contains(&2);
            let mut text = match long {
                true => format!("{} key {key} {}", &noise[..3000], &noise[3000..]).into_bytes(),
                false => format!("{} key {key} ", &noise[..60]).into_bytes(),
            };
            for way in ways {
                text = in_letters(*way, &text);
            }
            let text = String::from_utf8(text).expect("letters");
            for part in 1..24 {
                let at = text.len() * part / 24;
                let letter = char::from(text.as_bytes()[at]);
                for unit in [
                    format!("\u{200b}{letter}"),
                    format!("&shy;{letter}"),
                    format!("%{:02X}", letter as u8),
                ] {
                    let coded = format!("a {}{unit}{} b", &text[..at], &text[at + 1..]);
                    let raw = serde_json::to_string(&coded).expect("text");
                    let found = scanner.scan_json(
                        raw.as_bytes(),
                        Direction::Response,
                        &mut memory,
                        &limits,
                    );
                    if !found
                        .is_ok_and(|found| found.iter().any(|one| &*one.rule == "github-token"))
                    {
                        missed.push((ways, part, unit));
                    }
                }
            }
        }
        assert!(
            missed.is_empty(),
            "{} missed: {:?}",
            missed.len(),
            &missed[..missed.len().min(40)]
        );
    }

    /// A scanner of `rules` alone.
    fn own(rules: &str) -> Scanner {
        let rules = format!("schema = 1\n{rules}");
        let rules = RuleSet::compile(&[("own.toml".into(), rules)], false, &[]).expect("compiles");
        Scanner::new(rules, [0; 32], &Limits::default())
    }

    fn ids_of(scanner: &mut Scanner, text: &str) -> Vec<(String, u8)> {
        let raw = serde_json::to_string(text).expect("text");
        let (mut memory, limits) = (json::Scratch::new(), Limits::default());
        let found = scanner.scan_json(raw.as_bytes(), Direction::Response, &mut memory, &limits);
        found.expect("within bounds").iter().map(|one| (one.rule.to_string(), one.level)).collect()
    }

    // Mutants: a match may go over the end of its view; one that does ends the search.
    #[test]
    fn no_match_goes_over_from_one_view_into_the_next() {
        use base64::Engine as _;
        let coded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let mut scanner = own(
            "[[rule]]\nid = \"own-pair\"\ntitle = \"x\"\ncategory = \"custom\"\npattern = 'begin-[0-9]{4}(?:[\\x00-!#-\\[\\]-~]{0,200}end-[0-9]{4})?'\ntests.match = [\"begin-1234\"]\ntests.no_match = [\"begin\"]\n",
        );
        let text = format!(
            "{} , {} , {}",
            coded("say begin-1234 now"),
            coded("say end-1234 now"),
            coded("say begin-5678 now")
        );
        assert_eq!(ids_of(&mut scanner, &text), vec![("own-pair".to_owned(), 2); 2]);
        let whole = coded("say begin-1234 now, then end-1234 too");
        assert_eq!(ids_of(&mut scanner, &whole), vec![("own-pair".to_owned(), 2)]);
    }

    // Mutants: no rule asks for ends; only the end of what is searched in one go counts.
    #[test]
    fn a_rule_that_asks_for_the_end_of_a_text_has_it_in_each_view() {
        use base64::Engine as _;
        let coded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let mut scanner = own(
            "[[rule]]\nid = \"own-last\"\ntitle = \"x\"\ncategory = \"custom\"\npattern = 'the last word\\z'\ntests.match = [\"the last word\"]\ntests.no_match = [\"the last words\"]\n",
        );
        let text = format!("{} , {}", coded("it is the last word"), coded("it is nothing at all"));
        assert_eq!(ids_of(&mut scanner, &text), vec![("own-last".to_owned(), 2)]);
        let text =
            format!("{} , {}", coded("it is the last word, or"), coded("it is nothing at all"));
        assert_eq!(ids_of(&mut scanner, &text), vec![]);
    }

    #[test]
    fn nine_thousand_encoded_ids_and_an_emoji_are_no_reason_to_refuse() {
        let ids: String = (0..9000).map(|id| format!("/a/YWJjZGVmZ2hpamts{id} ")).collect();
        let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";
        let rules = RuleSet::builtin().expect("the built-in pack compiles");
        let mut scanner = Scanner::new(rules, [0; 32], &Limits::default());
        let found = ids_of(&mut scanner, &format!("{ids}\u{2764}\u{fe0f} {token}"));
        assert_eq!(found, vec![("jwt".to_owned(), 1)]);
    }

    #[test]
    fn near_matches_at_the_bound_pass_and_one_more_is_refused() {
        let mut scanner = own(
            "[[rule]]\nid = \"own-mixed\"\ntitle = \"x\"\ncategory = \"custom\"\npattern = 'key-([0-9]{4})'\nmin_entropy = 1.5\ntests.match = [\"key-1234\"]\ntests.no_match = [\"key-1111\"]\n",
        );
        let (mut memory, limits) = (json::Scratch::new(), Limits::default());
        let mut scan = |near: usize| {
            let text = "key-1111 ".repeat(near) + &"key-1234 ".repeat(9);
            let bound = REJECTED_MAX + text.len() / 64;
            let found = scanner.scan(text.as_bytes(), Direction::Response, &mut memory, &limits);
            (near <= bound, found.map(|found| found.len()))
        };
        let near = (0..).find(|near| *near > REJECTED_MAX + (near * 9 + 81) / 64).expect("one");
        assert_eq!(scan(near - 1), (true, Ok(9)));
        assert_eq!(scan(near), (false, Err(GuardFault::TooManyCandidates)));
    }

    #[test]
    fn a_rule_of_groups_that_asks_for_no_card_finds_all_of_them() {
        let mut scanner = own(
            "[[rule]]\nid = \"own-groups\"\ntitle = \"x\"\ncategory = \"custom\"\ndetector = \"card\"\npattern = '([0-9]{4} [0-9]{4} [0-9]{4} [0-9]{4})'\ntests.match = [\"1234 5678 1234 5678\"]\ntests.no_match = [\"1234\"]\n",
        );
        let found = ids_of(&mut scanner, "the house card 1234 5678 1234 5679 is lost");
        assert_eq!(found, vec![("own-groups".to_owned(), 1)]);
    }

    // Mutant: the secret is a run of its letters though what stands beside it can hold them.
    #[test]
    fn the_secret_of_every_rule_stands_where_its_expression_says() {
        let rules = RuleSet::builtin().expect("the built-in pack compiles");
        let (mut counted, mut seen) = (0, 0);
        for (number, rule) in rules.rules().iter().enumerate() {
            let (Some(secret), Some(regex)) = (&rule.secret, rule.matcher.regex()) else {
                continue;
            };
            counted += usize::from(regex.captures_len() > 1);
            let hir = crate::guard::compile::parse(&rule.pattern).expect("it compiled");
            let mut texts: Vec<Vec<u8>> =
                rule.tests_match.iter().map(|text| text.clone().into_bytes()).collect();
            for seed in 0..60u64 {
                let mut made = b"_-:a@\"._= "[seed as usize % 10..][..1].to_vec();
                let repeats = seed as f64 / 60.0;
                long_match(&hir, repeats, &mut (seed * 7919 + number as u64), &mut made);
                made.extend_from_slice(&b"_-_ :@-x\"_="[seed as usize % 9..][..2]);
                texts.push(made);
            }
            for text in texts {
                for groups in regex.captures_iter(&text) {
                    let (Some(all), Some(group)) = (groups.get_group(0), groups.get_group(1))
                    else {
                        continue;
                    };
                    seen += 1;
                    let told = secret.within(&text, &(all.start..all.end));
                    let text = String::from_utf8_lossy(&text[all.start..all.end]);
                    assert_eq!(told, group.start..group.end, "{} {text}", rule.id);
                }
            }
        }
        assert!(counted > 80 && seen > 3000, "{counted} {seen}");
    }

    // Mutants: no rule is far; one without a bound is not; the reach of a rule is nine bytes.
    #[test]
    fn a_match_of_any_length_is_found_wherever_a_unit_stands_in_it() {
        let rules = RuleSet::builtin().expect("the built-in pack compiles");
        let limits = Limits::default();
        let mut memory = json::Scratch::new();
        let mut scanner = Scanner::new(Arc::clone(&rules), [0; 32], &limits);
        let (mut far, mut local) = (0, 0);
        for (number, rule) in rules.rules().iter().enumerate() {
            let hir = crate::guard::compile::parse(&rule.pattern).expect("it compiled");
            for (seed, repeats) in [(1, 0.1), (2, 0.4), (3, 0.7), (4, 1.0), (5, 1.0)] {
                let mut made = vec![];
                long_match(&hir, repeats, &mut (seed * 7919 + number as u64), &mut made);
                let Ok(text) = String::from_utf8(made) else { continue };
                for part in 0..16 {
                    let at = text.len() * part / 16;
                    // Patterns with characters beyond ASCII have places inside of one.
                    if !text.as_bytes()[at].is_ascii() {
                        continue;
                    }
                    let character = char::from(text.as_bytes()[at]);
                    let unit = format!("%{:02X}", character as u8);
                    let coded = format!(". {}{unit}{} .", &text[..at], &text[at + 1..]);
                    let mut found = |whole: bool| {
                        scanner.whole = whole;
                        scanner.scan(coded.as_bytes(), Direction::Response, &mut memory, &limits)
                    };
                    let (looked, all) = (found(false), found(true));
                    assert_eq!(looked, all, "{} {repeats} {part}: {coded}", rule.id);
                    let own = all.is_ok_and(|all| all.iter().any(|one| one.rule == rule.id));
                    *(if rules.far.has(number) { &mut far } else { &mut local }) +=
                        usize::from(own);
                }
            }
        }
        // A test in which nothing is found shows nothing.
        assert!(far > 300 && local > 3000, "{far} {local}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        // Mutant: a margin of 24 bytes.
        #[test]
        fn what_stands_around_units_says_all_that_whole_views_do(
            pieces in proptest::collection::vec(
                (0usize..700, any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..200, any::<u8>(), 0usize..3), 1..4
            )
        ) {
            let rules = RuleSet::builtin().expect("the built-in pack compiles");
            let mut text = String::new();
            for (filler, rule, example, place, way, units) in pieces {
                // Nothing of the filler stands in a secret or before one.
                text.push_str(&"lorem ipsum; ".repeat(filler / 13));
                let rule = rule.get(rules.rules());
                let example = example.get(&rule.tests_match);
                for (at, character) in example.chars().enumerate() {
                    let coded = (0..units).any(|unit| at == (place + unit * 37) % example.chars().count());
                    if coded {
                        text.push_str(&unit(way, character));
                    } else {
                        text.push(character);
                    }
                }
            }
            let raw = serde_json::to_string(&text).expect("text");
            let limits = Limits::default();
            let mut memory = json::Scratch::new();
            let mut found = |whole: bool| {
                let mut scanner = Scanner::new(Arc::clone(&rules), [0; 32], &limits);
                scanner.whole = whole;
                scanner.scan_json(raw.as_bytes(), Direction::Response, &mut memory, &limits)
            };
            prop_assert_eq!(found(false), found(true), "{}", raw);
        }
    }
}
