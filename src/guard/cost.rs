//! What a rule costs, and the gate that keeps a dear one out of the set.
//!
//! Two things are timed for one rule alone: the engine over an ordinary text, which every message pays,
//! and the expression over texts made of the rule's own beginnings, which only such texts pay. Both are
//! given in units of a yardstick taken in the same breath: one pass of a plain automaton over the same
//! number of bytes. So the figures hold on slow and on busy machines; the best of several runs counts,
//! and the limits leave a wide margin. The clock is handed in: it should count this thread's time only.
//!
//! The built-in pack is not gated when it is loaded; a test holds it to the same limits.

use std::time::Duration;

use regex_automata::meta;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::compile::parse;
use super::engine::{Candidates, Database, Presence};
use super::rules::{BUILTIN_NAME, Matcher, Rule, RuleFault, RuleSet};

/// Bound: what the engine may take for one rule over an ordinary text, in units of the yardstick. The
/// dearest built-in rule takes a third of it.
///
/// Without Hyperscan a text that a pattern needs costs one pass of a plain automaton alone, and nothing
/// beside others: what is dear there is a pattern that needs none.
pub const ENGINE_MAX: f32 = if cfg!(feature = "engine-hyperscan") { 0.6 } else { 1.6 };
/// Bound: what the expression may take over a text of beginnings, in units of the yardstick.
pub const CONFIRM_MAX: f32 = 60.0;

/// Bytes of the ordinary text.
const ORDINARY_BYTES: usize = 64 << 10;
/// Bytes of a text of beginnings.
const BEGINNINGS_BYTES: usize = 16 << 10;
/// Runs of which the best counts.
const RUNS: usize = 5;

/// What one rule costs, in units of the yardstick; 1 is one pass of a plain automaton.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    /// The engine over an ordinary text.
    pub engine: f32,
    /// The expression over the dearest text of the rule's own beginnings.
    pub confirm: f32,
}

/// A clock that counts what this thread has spent.
pub type Clock<'a> = &'a mut dyn FnMut() -> Duration;

/// Every rule of a file that is dearer than the bounds and is not allowed to be, and those that are
/// allowed to be.
pub fn check(set: &RuleSet, clock: Clock<'_>) -> (Vec<RuleFault>, Vec<RuleFault>) {
    let (mut faults, mut allowed) = (vec![], vec![]);
    if set.rules().iter().all(|rule| rule.file == BUILTIN_NAME) {
        return (faults, allowed);
    }
    let mut gauge = Gauge::new(clock);
    for rule in set.rules().iter().filter(|rule| rule.file != BUILTIN_NAME) {
        let cost = gauge.cost(rule);
        let mut tell = |what: &str, seen: f32, most: f32| {
            if seen > most {
                let to = if rule.allow_slow { &mut allowed } else { &mut faults };
                to.push(RuleFault {
                    file: rule.file.clone(),
                    line: rule.line,
                    rule: Some(rule.id.to_string()),
                    what: format!(
                        "slow: {what} takes {seen:.1} times a plain pass; allowed: {most:.1}, a \
                         pattern that begins with fixed text and has short repeats, or allow_slow = true"
                    ),
                });
            }
        };
        tell("the engine over ordinary text", cost.engine, ENGINE_MAX);
        tell("the expression over text that begins like a match", cost.confirm, CONFIRM_MAX);
    }
    (faults, allowed)
}

/// Measures rules with one yardstick.
pub struct Gauge<'a> {
    clock: Clock<'a>,
    ordinary: Vec<u8>,
    /// Seconds a byte of one pass of a plain automaton.
    unit: f32,
}

impl std::fmt::Debug for Gauge<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gauge({:e} s a byte)", self.unit)
    }
}

impl<'a> Gauge<'a> {
    /// Takes the yardstick.
    pub fn new(clock: Clock<'a>) -> Gauge<'a> {
        let mut gauge = Gauge { clock, ordinary: ordinary_text(), unit: 1.0 };
        // No fixed part, so that nothing is skipped: every byte is one step of the automaton.
        let plain =
            meta::Regex::new("(?-u)[a-z][0-9]{3}[A-Z][0-9]{4}[a-z]").expect("a fixed pattern");
        let ordinary = std::mem::take(&mut gauge.ordinary);
        gauge.unit = gauge.best(ordinary.len(), || {
            std::hint::black_box(plain.find(&ordinary[..]));
        });
        gauge.ordinary = ordinary;
        gauge
    }

    /// Seconds a byte of the best of some runs.
    fn best(&mut self, bytes: usize, mut run: impl FnMut()) -> f32 {
        let best = (0..RUNS)
            .map(|_| {
                let start = (self.clock)();
                run();
                (self.clock)().saturating_sub(start)
            })
            .min()
            .unwrap_or_default();
        best.as_secs_f32().max(1e-9) / bytes as f32
    }

    /// What `rule` costs.
    pub fn cost(&mut self, rule: &Rule) -> Cost {
        let Some(regex) = rule.matcher.regex() else { return Cost::default() };
        let mut cost = Cost::default();
        if let Matcher::Pattern { printed, .. } = &rule.matcher
            && let Ok(database) = Database::compile(&[(0, printed)])
        {
            let scratch = database.scratch();
            let mut presence = Presence::new(1);
            let ordinary = std::mem::take(&mut self.ordinary);
            let took = self.best(ordinary.len(), || {
                // An engine that fails here fails the scan of every message, loudly.
                let _ = database.scan(&ordinary, &scratch, &mut presence);
            });
            self.ordinary = ordinary;
            cost.engine = took / self.unit;
        }
        for text in beginnings(rule) {
            let took = self.best(text.len(), || {
                std::hint::black_box(regex.find_iter(&text[..]).count());
            });
            cost.confirm = cost.confirm.max(took / self.unit);
        }
        cost
    }
}

/// Texts made of what matches of `rule` begin with.
fn beginnings(rule: &Rule) -> Vec<Vec<u8>> {
    let mut examples: Vec<Vec<u8>> =
        rule.tests_match.iter().map(|text| text.clone().into_bytes()).collect();
    if let Ok(hir) = parse(&rule.pattern) {
        for repeats in [0, 40] {
            let mut example = vec![];
            shortest(&hir, repeats, &mut example);
            examples.push(example);
        }
    }
    let mut texts = vec![];
    for example in examples.iter().filter(|example| !example.is_empty()).take(4) {
        for part in [10, 30, 60, 90] {
            let begin = &example[..(example.len() * part).div_ceil(100)];
            // What must come last stands there too, or a search for it alone would end at once.
            let last = &example[example.len() - example.len().div_ceil(8)..];
            for (unit, end) in [([begin, b" "].concat(), last), ([begin, last].concat(), b"")] {
                let mut text: Vec<u8> =
                    unit.iter().copied().cycle().take(BEGINNINGS_BYTES).collect();
                text.extend_from_slice(end);
                texts.push(text);
            }
        }
    }
    texts
}

/// A text that `hir` matches, anchors aside: repeats `more` rounds above their minimum where they may.
fn shortest(hir: &Hir, more: u32, out: &mut Vec<u8>) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => out.extend_from_slice(&literal.0),
        HirKind::Class(Class::Bytes(class)) => {
            // A letter stands for the class where it has one: it goes on, where a sign would end it.
            let range =
                class.ranges().iter().find(|range| range.start() <= b'z' && range.end() >= b'0');
            let range = range.or(class.ranges().first());
            out.extend(range.map(|range| range.start().max(b'0').min(range.end())));
        }
        HirKind::Class(Class::Unicode(class)) => {
            out.extend(class.ranges().first().map(|range| range.start() as u8));
        }
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(u32::MAX);
            for _ in 0..repetition.min.saturating_add(more).min(most).min(4096) {
                shortest(&repetition.sub, 0, out);
            }
        }
        HirKind::Capture(capture) => shortest(&capture.sub, more, out),
        HirKind::Concat(parts) => parts.iter().for_each(|part| shortest(part, more, out)),
        HirKind::Alternation(parts) => {
            if let Some(first) = parts.first() {
                shortest(first, more, out);
            }
        }
    }
}

/// Text of the kinds that messages carry, the same every time: prose, code, JSON, logs, digests, numbers.
fn ordinary_text() -> Vec<u8> {
    const LINES: &[&str] = &[
        "The server returned a list of open issues and merged the branch into main; see the policy.\n",
        "    let value = self.index.get(&key).unwrap_or_default(); // token count\n",
        "{\"id\": 48213, \"name\": \"password policy\", \"state\": \"open\", \"labels\": [\"api\", \"phone\"]}\n",
        "2026-11-22T08:14:55.120394Z INFO [worker-7] request_id=9f86d081-884c-4d63-a5b1-2c3f took 14ms\n",
        "commit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b merged https://git.example.com/org/repo/pull/1\n",
        "\"integrity\": \"sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwv\",\n",
        "import { Key, Secret } from \"@scope/pkg\"; export const API_KEY = process.env.API_KEY;\n",
        "| 10293 | order #4500982 | 12.50 | 192.168.1.20 | user@host | +1.25 | 1700000000000 |\n",
    ];
    LINES.concat().into_bytes().into_iter().cycle().take(ORDINARY_BYTES).collect()
}
