//! One rule from its source to its compiled form.
//!
//! The pattern is parsed once; that tree is checked, printed for Hyperscan and made into the expression
//! that confirms. Every fault of the rule is reported.

use regex_automata::meta;
use regex_syntax::hir::{Capture, Hir, HirKind, Repetition};

use super::detect::Detector;
use super::print::{self, PrintFault};
use super::rules::{Actions, Category, KNOWN_PREFIX, Labels, Matcher, Rule, RuleFault, Words};
use super::scope::Scope;
use super::secret::Secret;
use super::structured::Structured;
use super::validate::Validator;
use crate::types::RuleAction;

/// One rule as its source says, before compilation.
#[derive(Debug, Clone, Default)]
pub struct RuleSource {
    /// Stable name: labels, records, metrics.
    pub id: String,
    /// For people.
    pub title: String,
    /// `None` when missing or unknown (a fault has been reported then).
    pub category: Option<Category>,
    /// low, medium, high or critical.
    pub severity: String,
    /// regex-syntax, bytes, Unicode off.
    pub pattern: String,
    /// Byte scan that stands in for Hyperscan.
    pub detector: Option<Detector>,
    /// All must hold.
    pub validators: Vec<Validator>,
    /// When all hold, `on_confirmed` applies instead of `actions`.
    pub confirm: Vec<Validator>,
    /// Bits a byte of the secret.
    pub entropy_min: f32,
    /// Words looked for before the match, lower case.
    pub context: Vec<String>,
    /// How far before, in bytes.
    pub context_within: usize,
    /// Without a word there is no match.
    pub context_required: bool,
    /// Words of which the label directly before the match must hold one, lower case.
    pub after: Vec<String>,
    /// Words in the label directly before the match that rule it out, lower case.
    pub not_after: Vec<String>,
    /// Words in the key directly before the match that rule it out, lower case.
    pub not_key: Vec<String>,
    /// Actions.
    pub actions: Actions,
    /// Stronger actions when confirmed.
    pub on_confirmed: Actions,
    /// Whether the mask shows a pseudonym.
    pub pseudonym: Option<bool>,
    /// False: left out.
    pub enabled: bool,
    /// Where it applies; nothing: everywhere.
    pub scope: Scope,
    /// What becomes of structured content that the mask makes unfit.
    pub structured: Option<Structured>,
    /// It matches the words before a key, whose lines are the secret.
    pub key_lines: bool,
    /// Dearer than the gate allows, and meant to be.
    pub allow_slow: bool,
    /// Texts in which the rule must match.
    pub tests_match: Vec<String>,
    /// Texts in which it must not.
    pub tests_no_match: Vec<String>,
    /// Patterns of values that are let through.
    pub allow: Vec<String>,
    /// File and line, for messages.
    pub file: String,
    /// Line of the rule's first key.
    pub line: u32,
}

/// Parses a pattern in the one dialect of rule files: bytes, Unicode off.
pub(super) fn parse(pattern: &str) -> Result<Hir, String> {
    regex_syntax::ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .nest_limit(64)
        .build()
        .parse(pattern)
        .map_err(|error| error.to_string().lines().last().unwrap_or_default().to_string())
}

/// Bound: a repeat up to at least so many is read as one without end. Each count is a state of the
/// automaton: with thousands the search is no longer one pass over the text. A text that is longer than
/// the rule says matches then too.
const COUNTED_MAX: u32 = 512;

/// `hir` with long repeats as [`COUNTED_MAX`] says.
pub(super) fn without_long_counts(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Repetition(repetition) => Hir::repetition(Repetition {
            max: repetition.max.filter(|&max| max < COUNTED_MAX),
            sub: Box::new(without_long_counts(&repetition.sub)),
            ..*repetition
        }),
        HirKind::Capture(capture) => {
            let sub = Box::new(without_long_counts(&capture.sub));
            Hir::capture(Capture { sub, ..capture.clone() })
        }
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(without_long_counts).collect()),
        HirKind::Alternation(parts) => {
            Hir::alternation(parts.iter().map(without_long_counts).collect())
        }
        _ => hir.clone(),
    }
}

/// What confirms matches of `hir`. `long`: in texts that are longer than the few bytes around a place that a byte scan
/// named; there, looking for letters that every match holds costs more than to read them all.
pub(super) fn expression(hir: &Hir, long: bool) -> Result<meta::Regex, String> {
    let config = meta::Config::new()
        .utf8_empty(false)
        .auto_prefilter(long)
        .onepass(false)
        .nfa_size_limit(Some(16 << 20))
        .hybrid_cache_capacity(1 << 20);
    meta::Builder::new()
        .configure(config)
        .build_from_hir(&without_long_counts(hir))
        .map_err(|error| error.to_string())
}

/// Compiles `source`, or reports everything that is wrong with it.
pub(super) fn compile_rule(source: &RuleSource, faults: &mut Vec<RuleFault>) -> Option<Rule> {
    let mut fault = |what: String| {
        faults.push(RuleFault {
            file: source.file.clone(),
            line: source.line,
            rule: Some(source.id.clone()),
            what,
        });
    };
    let hir = match parse(&source.pattern) {
        Ok(hir) => hir,
        Err(error) => {
            fault(format!("pattern: {error}"));
            return None;
        }
    };
    // The quote and the backslash end or change the string a secret stands in, at some level of
    // nesting: an edit over one of them could break what is around it.
    for (byte, name) in [(b'"', "a double quote"), (b'\\', "a backslash")] {
        if print::secret_can_hold(&hir, byte) {
            fault(format!(
                "the secret can hold {name}; allowed: a capture group around a part without it"
            ));
        }
    }
    let printed = match print::print(&hir) {
        Ok(printed) => printed,
        Err(PrintFault::Unbounded) if source.detector.is_some() => String::new(),
        Err(error) => {
            fault(format!("pattern: {}", error.as_str()));
            return None;
        }
    };
    let regex = match expression(&hir, source.detector.is_none()) {
        Ok(regex) => regex,
        Err(error) => {
            fault(format!("pattern: {error}"));
            return None;
        }
    };
    let mut allow = vec![];
    for pattern in &source.allow {
        match parse(pattern).and_then(|hir| expression(&hir, false)) {
            Ok(regex) => allow.push(regex),
            Err(error) => fault(format!("allow: {error}")),
        }
    }
    let category = source.category?;
    let matcher = match source.detector {
        Some(detector) => Matcher::Detector { detector, regex },
        None => Matcher::Pattern { printed, regex },
    };
    Some(Rule {
        id: source.id.as_str().into(),
        title: source.title.clone(),
        category,
        severity: source.severity.clone(),
        pattern: source.pattern.clone(),
        matcher,
        secret: Secret::of(&without_long_counts(&hir)),
        validators: source.validators.clone(),
        confirm: source.confirm.clone(),
        entropy_min: source.entropy_min,
        context: Words::new(&source.context),
        context_within: source.context_within,
        context_required: source.context_required,
        after: Labels::new(&source.after),
        not_after: Labels::new(&source.not_after),
        not_key: Labels::new(&source.not_key),
        actions: source.actions,
        on_confirmed: source.on_confirmed,
        pseudonym: source.pseudonym.unwrap_or(category != Category::Pii),
        allow,
        scope: (!source.scope.is_empty()).then(|| Box::new(source.scope.clone())),
        structured: source.structured,
        key_lines: source.key_lines,
        allow_slow: source.allow_slow,
        tests_match: source.tests_match.clone(),
        tests_no_match: source.tests_no_match.clone(),
        file: source.file.clone(),
        line: source.line,
    })
}

/// The rule of a known value: found exactly, masked in both directions.
pub(super) fn known_rule(name: &str) -> Rule {
    let action = Some(RuleAction::Mask);
    Rule {
        id: format!("{KNOWN_PREFIX}{name}").into(),
        title: "known value".into(),
        category: Category::Credential,
        severity: "critical".into(),
        pattern: String::new(),
        matcher: Matcher::Known,
        secret: None,
        validators: vec![],
        confirm: vec![],
        entropy_min: 0.0,
        context: Words::default(),
        context_within: 0,
        context_required: false,
        after: Labels::default(),
        not_after: Labels::default(),
        not_key: Labels::default(),
        actions: Actions { request: action, response: action },
        on_confirmed: Actions::default(),
        // A known value may be a short password: a visible keyed digest of it helps nobody.
        pseudonym: false,
        allow: vec![],
        structured: None,
        scope: None,
        key_lines: false,
        allow_slow: false,
        tests_match: vec![],
        tests_no_match: vec![],
        file: "known values".into(),
        line: 1,
    }
}
