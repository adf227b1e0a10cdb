//! Rules, compiled once from one source and shared read only.
//!
//! A set is compiled as a whole or not at all: a broken rule, an unknown key or a failing test yields
//! every fault of the set and no set. What is compiled never changes; a reload swaps the `Arc`.

use std::sync::{Arc, OnceLock};

use aho_corasick::AhoCorasick;
use regex_automata::meta;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use super::compile::{compile_rule, known_rule, parse, without_long_counts};
use super::context::LABEL_NEAR_BYTES_MAX;
use super::detect::Detector;
use super::engine::{Candidates, Database, EngineFault, Presence};
use super::literals;
use super::opening::Openings;
use super::pack;
use super::print;
use super::scope::Scope;
use super::secret::Secret;
use super::structured::Structured;
use super::validate::Validator;
pub use super::words::{Labels, Words};
use crate::types::{Direction, RuleAction};

/// The pack that ships with the gateway.
pub const BUILTIN: &str = include_str!("pack.toml");
/// Its name in messages.
pub const BUILTIN_NAME: &str = "builtin";
/// Prefix of the ids of known values (`secret:NAME`).
pub const KNOWN_PREFIX: &str = "secret:";
/// Name of the caller's own token as a known value.
pub const CALLER_TOKEN: &str = "caller-token";
/// Bound: shortest known value. Shorter ones stand in ordinary text by chance.
pub const KNOWN_BYTES_MIN: usize = 6;
/// Bound: text before a match in which context words are looked for, in bytes.
pub const CONTEXT_BYTES_MAX: usize = 256;

/// Bytes within which all stands that decides whether a candidate of a byte scan counts: the candidate itself and what is
/// looked at before it. A rule with a pattern is looked at wherever its pattern shows.
fn near_bytes(rule: &Rule) -> usize {
    match &rule.matcher {
        Matcher::Detector { detector, .. } => detector.bytes_max() + before_bytes(rule),
        Matcher::Pattern { .. } | Matcher::Known => 0,
    }
}

/// Bytes before a match that are looked at.
fn before_bytes(rule: &Rule) -> usize {
    let labels = [&rule.after, &rule.not_after, &rule.not_key];
    let labelled = !rule.context.is_empty() || labels.iter().any(|words| !words.is_empty());
    if labelled { LABEL_NEAR_BYTES_MAX.max(rule.context_within) } else { 0 }
}

/// Bytes within which all stands that decides whether a match of a pattern counts: the longest match, the bytes beside it
/// and what is looked at before it. `None`: there is no such bound. 0 for rules without a pattern of the engine's.
fn reach(rule: &Rule) -> Option<usize> {
    let Matcher::Pattern { .. } = &rule.matcher else { return Some(0) };
    if rule.key_lines {
        return None;
    }
    let hir = without_long_counts(&parse(&rule.pattern).ok()?);
    let longest = hir.properties().maximum_len()?;
    Some(1 + longest + 1 + before_bytes(rule))
}

/// Whether a pattern asks for the begin or the end of a text where a line end would not do as well: between two views
/// stands one.
fn asks_for_ends(rule: &Rule) -> bool {
    let Matcher::Pattern { .. } = &rule.matcher else { return false };
    parse(&rule.pattern).is_ok_and(|hir| needs_ends(&hir))
}

fn needs_ends(hir: &Hir) -> bool {
    let is_end = |hir: &Hir| matches!(hir.kind(), HirKind::Look(Look::Start | Look::End));
    let line_end = |hir: &Hir| match hir.kind() {
        HirKind::Class(Class::Bytes(class)) => {
            class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&b'\n'))
        }
        HirKind::Class(Class::Unicode(class)) => {
            class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&'\n'))
        }
        _ => false,
    };
    match hir.kind() {
        HirKind::Alternation(parts) => {
            let free = parts.iter().any(line_end);
            parts.iter().any(|part| if is_end(part) { !free } else { needs_ends(part) })
        }
        HirKind::Concat(parts) => parts.iter().any(needs_ends),
        HirKind::Repetition(repetition) => needs_ends(&repetition.sub),
        HirKind::Capture(capture) => needs_ends(&capture.sub),
        HirKind::Look(_) => is_end(hir),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => false,
    }
}

/// What a rule looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Grants access to something.
    Credential,
    /// Data about a person.
    Pii,
    /// An operator's own.
    Custom,
}

impl Category {
    /// Names in rule files.
    pub const ALL: &'static [(&'static str, Category)] = &[
        ("credential", Category::Credential),
        ("pii", Category::Pii),
        ("custom", Category::Custom),
    ];

    /// The word used in rule files.
    pub fn as_str(self) -> &'static str {
        match self {
            Category::Credential => "credential",
            Category::Pii => "pii",
            Category::Custom => "custom",
        }
    }
}

/// What is done in each direction; `None` means the rule is off there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Actions {
    /// From the client to the server.
    pub request: Option<RuleAction>,
    /// From the server to the client.
    pub response: Option<RuleAction>,
}

impl Actions {
    /// The action for one direction.
    pub fn of(self, direction: Direction) -> Option<RuleAction> {
        match direction {
            Direction::Request => self.request,
            Direction::Response => self.response,
        }
    }
}

/// How a rule finds its candidates.
#[derive(Debug)]
pub enum Matcher {
    /// Hyperscan with the printed pattern, then the expression.
    Pattern {
        /// What Hyperscan compiles.
        printed: String,
        /// Exact spans.
        regex: meta::Regex,
    },
    /// A byte scan, then the expression around each place it names.
    Detector {
        /// Which scan.
        detector: Detector,
        /// Exact spans.
        regex: meta::Regex,
    },
    /// A value known in full.
    Known,
}

impl Matcher {
    /// The confirming expression.
    pub fn regex(&self) -> Option<&meta::Regex> {
        match self {
            Matcher::Pattern { regex, .. } | Matcher::Detector { regex, .. } => Some(regex),
            Matcher::Known => None,
        }
    }
}

/// One compiled rule.
#[derive(Debug)]
pub struct Rule {
    /// Stable name: labels, records, metrics.
    pub id: Arc<str>,
    /// For people.
    pub title: String,
    /// What it looks for.
    pub category: Category,
    /// low, medium, high or critical.
    pub severity: String,
    /// The pattern's source text; empty for known values.
    pub pattern: String,
    /// How it is found.
    pub matcher: Matcher,
    /// Where in a match the secret is; `None` where only the expression knows.
    pub(super) secret: Option<Secret>,
    /// All must hold.
    pub validators: Vec<Validator>,
    /// When all hold, [`Rule::on_confirmed`] applies.
    pub confirm: Vec<Validator>,
    /// The match is the words before a key: the secret is its lines ([`super::lines`]).
    pub key_lines: bool,
    /// Bits a byte of the secret, at least.
    pub entropy_min: f32,
    /// Words looked for before the match, lower case.
    pub context: Words,
    /// How far before, in bytes.
    pub context_within: usize,
    /// Without a word there is no match.
    pub context_required: bool,
    /// Words of which the label directly before the match must hold one, lower case.
    pub after: Labels,
    /// Words in the label directly before the match that rule it out, lower case.
    pub not_after: Labels,
    /// Words in the key directly before the match that rule it out, lower case: of a label with `:`, `=` or `>` behind it.
    pub not_key: Labels,
    /// What is done.
    pub actions: Actions,
    /// What is done instead when the checksum holds.
    pub on_confirmed: Actions,
    /// Whether the mask shows a pseudonym (never for low-entropy personal data).
    pub pseudonym: bool,
    /// Values that are let through.
    pub allow: Vec<meta::Regex>,
    /// Where it applies; `None`: everywhere.
    pub scope: Option<Box<Scope>>,
    /// What becomes of structured content that no longer fits its schema because of this rule's mask;
    /// `None`: what `[guard]` says.
    pub structured: Option<Structured>,
    /// Dearer than the gate allows ([`super::cost`]), and meant to be.
    pub allow_slow: bool,
    /// Texts in which the rule matches; checked when a pack is tested.
    pub tests_match: Vec<String>,
    /// Texts in which it does not.
    pub tests_no_match: Vec<String>,
    /// File it comes from.
    pub file: String,
    /// Line of its first key.
    pub line: u32,
}

/// What is wrong with a rule file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFault {
    /// Name of the file.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Id of the rule, where there is one.
    pub rule: Option<String>,
    /// Seen and allowed.
    pub what: String,
}

impl std::fmt::Display for RuleFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if let Some(rule) = &self.rule {
            write!(f, "rule {rule}: ")?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for RuleFault {}

/// A compiled set of rules.
#[derive(Debug)]
pub struct RuleSet {
    /// Those of the files, known values, and last the caller's own token.
    rules: Vec<Rule>,
    /// Number of the first known value.
    pub(super) known_from: usize,
    pub(super) database: Option<Database>,
    /// The engine without a library, once somebody asked for it.
    without: OnceLock<Result<literals::Database, EngineFault>>,
    /// Known values, and for each the number of its rule.
    pub(super) known: Option<(AhoCorasick, Vec<usize>)>,
    /// The byte scans some rule asks for.
    pub(super) detectors: Vec<(Detector, usize)>,
    /// How far from an escape a match can reach for the engine to see it, in bytes.
    pub(super) margin: usize,
    /// Rules whose matches can reach farther, once the engine has seen them begin.
    pub(super) far: Presence,
    /// Rules that ask for the begin or the end of a text: each view has its own, so each is searched by itself.
    pub(super) anchored: Presence,
    /// For each rule the bytes within which all stands that decides whether a match counts; `None` without a bound.
    pub(super) reaches: Vec<Option<usize>>,
    /// Beginnings of secrets, for texts that come in pieces.
    pub(super) openings: Openings,
    source_digest: [u8; 32],
}

/// A known value: its name (the rule becomes `secret:NAME`) and its bytes.
pub type KnownValue = (String, Vec<u8>);

impl RuleSet {
    /// The built-in pack alone; compiled once for the process.
    pub fn builtin() -> Result<Arc<RuleSet>, Vec<RuleFault>> {
        static SET: OnceLock<Result<Arc<RuleSet>, Vec<RuleFault>>> = OnceLock::new();
        SET.get_or_init(|| RuleSet::compile(&[], true, &[])).clone()
    }

    /// Compiles rule files (name and TOML text), with or without the built-in pack, and known values.
    /// Returns every fault that was found. The rules' own tests are run by [`super::packtest::check`].
    pub fn compile(
        files: &[(String, String)],
        builtin: bool,
        secrets: &[KnownValue],
    ) -> Result<Arc<RuleSet>, Vec<RuleFault>> {
        use sha2::{Digest, Sha256};
        let mut faults = vec![];
        let mut book = pack::Book::default();
        let mut digest = Sha256::new();
        if builtin {
            pack::read(BUILTIN_NAME, BUILTIN, &mut book, &mut faults);
            digest.update(BUILTIN.as_bytes());
        }
        for (name, text) in files {
            pack::read(name, text, &mut book, &mut faults);
            digest.update([0]);
            digest.update(text.as_bytes());
        }
        book.settle(&mut faults);

        let mut rules: Vec<Rule> = book
            .rules
            .iter()
            .filter(|rule| rule.enabled)
            .filter_map(|source| compile_rule(source, &mut faults))
            .collect();
        let known_from = rules.len();
        for (name, value) in secrets {
            if value.len() < KNOWN_BYTES_MIN {
                faults.push(RuleFault {
                    file: name.clone(),
                    line: 1,
                    rule: None,
                    what: format!(
                        "a known value of {} bytes; allowed: at least {KNOWN_BYTES_MIN}",
                        value.len()
                    ),
                });
            }
            rules.push(known_rule(name));
        }
        rules.push(known_rule(CALLER_TOKEN));
        let patterns: Vec<(usize, &str)> = rules.iter().enumerate().filter_map(printed).collect();
        let database = if patterns.is_empty() || !faults.is_empty() {
            None
        } else {
            match Database::compile(&patterns) {
                Ok(database) => Some(database),
                Err(fault) => {
                    blame(&patterns, &rules, &fault, &mut faults);
                    None
                }
            }
        };
        if !faults.is_empty() {
            return Err(faults);
        }
        let known = if secrets.is_empty() {
            None
        } else {
            let automaton = AhoCorasick::builder()
                .match_kind(aho_corasick::MatchKind::LeftmostLongest)
                .build(secrets.iter().map(|(_, value)| value))
                .map_err(|error| vec![plain(BUILTIN_NAME, format!("known values: {error}"))])?;
            Some((automaton, (known_from..rules.len() - 1).collect()))
        };
        let detectors = rules
            .iter()
            .enumerate()
            .filter_map(|(number, rule)| match rule.matcher {
                Matcher::Detector { detector, .. } => Some((detector, number)),
                _ => None,
            })
            .collect();
        let longest = patterns
            .iter()
            .filter_map(|(_, printed)| print::length_max(printed))
            .chain(secrets.iter().map(|(_, value)| value.len()))
            .max()
            .unwrap_or(0);
        // The bytes beside a word count too.
        let margin = rules.iter().map(near_bytes).chain([longest + 2]).max().unwrap_or(0);
        let reaches: Vec<_> = rules.iter().map(reach).collect();
        let (mut far, mut anchored) = (Presence::new(rules.len()), Presence::new(rules.len()));
        for (number, rule) in rules.iter().enumerate() {
            if asks_for_ends(rule) {
                anchored.set(number);
                far.set(number);
            }
            if reaches[number].is_none_or(|bytes| bytes > margin) {
                far.set(number);
            }
        }
        let values = secrets.iter().map(|(_, value)| value.clone());
        let openings = Openings::of(&rules, (known_from..).zip(values).collect());
        let source_digest = digest.finalize().into();
        Ok(Arc::new(RuleSet {
            rules,
            known_from,
            database,
            without: OnceLock::new(),
            known,
            detectors,
            margin,
            far,
            anchored,
            reaches,
            openings,
            source_digest,
        }))
    }

    /// All rules in the order of their files, then known values; the index is the rule's number.
    pub fn rules(&self) -> &[Rule] {
        &self.rules[..self.caller()]
    }

    /// The same, and the rule of the caller's own token behind them.
    pub(super) fn all(&self) -> &[Rule] {
        &self.rules
    }

    /// Number of the rule of the caller's own token.
    pub(super) fn caller(&self) -> usize {
        self.rules.len() - 1
    }

    /// The engine without a library for these rules.
    pub(super) fn without_library(&self) -> Result<&literals::Database, EngineFault> {
        let compile = || {
            let patterns: Vec<_> = self.rules.iter().enumerate().filter_map(printed).collect();
            literals::Database::compile(&patterns)
        };
        self.without.get_or_init(compile).as_ref().map_err(Clone::clone)
    }

    /// Whether some rule asks where it applies.
    pub fn has_scopes(&self) -> bool {
        self.rules.iter().any(|rule| rule.scope.is_some())
    }

    /// The rule called `id`.
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| &*rule.id == id)
    }

    /// SHA-256 over the texts the set was compiled from (not over known values).
    pub fn source_digest(&self) -> [u8; 32] {
        self.source_digest
    }
}

/// What an engine is given of a rule.
fn printed((number, rule): (usize, &Rule)) -> Option<(usize, &str)> {
    match &rule.matcher {
        Matcher::Pattern { printed, .. } => Some((number, printed)),
        _ => None,
    }
}

fn plain(file: &str, what: String) -> RuleFault {
    RuleFault { file: file.into(), line: 1, rule: None, what }
}

/// Hyperscan refuses a set as a whole: compile each pattern alone and name the ones it does not take.
fn blame(
    patterns: &[(usize, &str)],
    rules: &[Rule],
    whole: &EngineFault,
    faults: &mut Vec<RuleFault>,
) {
    let before = faults.len();
    for &(number, printed) in patterns {
        if let Err(fault) = Database::compile(&[(0, printed)]) {
            let rule = &rules[number];
            faults.push(RuleFault {
                file: rule.file.clone(),
                line: 1,
                rule: Some(rule.id.to_string()),
                what: fault.to_string(),
            });
        }
    }
    if faults.len() == before {
        faults.push(plain(BUILTIN_NAME, whole.to_string()));
    }
}
