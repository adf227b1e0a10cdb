//! What stands in the views of one text: candidates, matches, and what is asked about each match.
//!
//! Leaves hits with the place they have in their view; overlaps and places in the text are the caller's ([`super`]).

use std::ops::Range;

use regex_automata::Input;

use super::{Engine, Scanner};
use crate::guard::blocks::{Blocks, Window};
use crate::guard::caller;
use crate::guard::context::{Verdict, judge, near};
use crate::guard::detect::{self, Detector};
use crate::guard::engine::{Candidates, EngineFault, Presence};
use crate::guard::fault::GuardFault;
use crate::guard::hit::Hit;
use crate::guard::lines;
use crate::guard::literals;
use crate::guard::people;
use crate::guard::rules::{Matcher, Rule, RuleSet};
use crate::guard::simd;
use crate::guard::units;
use crate::guard::validate::Validator;
use crate::guard::views::Views;
use crate::types::{Direction, RuleAction};

/// Bound: matches of expressions in one text that validators turn down, beside one in 64 bytes. An
/// ordinary answer of 16 MiB has a few hundred; a text made to have more is refused.
pub(super) const REJECTED_MAX: usize = 1 << 14;

/// Bound: how often each byte of a text may be read again by an expression, because a match was turned
/// down or ended behind its secret; beside so many bytes. Ordinary texts stay below one.
const REREAD_MAX: (usize, usize) = (4, 64 << 10);

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

impl Scanner {
    /// Searches the first level whole; deeper ones too when something may stand there.
    pub(super) fn search_all(
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
        marks: Option<&[simd::Marks]>,
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
                Matcher::Pattern { .. } => None,
                Matcher::Detector { detector, .. } => Some(detector),
                Matcher::Known => continue,
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
