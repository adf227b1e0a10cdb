//! Everything about a match but its span: validators, the words around it, the place it stands in.
//!
//! Pure functions over a view's text; they decide whether a match counts and what can be done with it
//! where it stands, never what it is replaced by.

use std::ops::Range;

use memchr::memmem;

use super::hit::Hit;
use super::mask::is_mask;
use super::rules::{CONTEXT_BYTES_MAX, Category, Rule};
use super::validate::entropy;
use crate::types::RuleAction;
use crate::wire::mcp::Place;

/// What can be done at a place. Keys and what correlates or routes are never edited: a credential
/// there blocks, personal data alerts. A bare number is edited only when its label says what it is.
pub(super) fn settle(rules: &[Rule], hit: &Hit, place: Place) -> RuleAction {
    let rule = &rules[hit.rule];
    match (place, hit.action) {
        (_, RuleAction::Alert) => RuleAction::Alert,
        (Place::Value, action) => action,
        (Place::Number, action) => {
            let sure = rule.category != Category::Pii || hit.context;
            if sure { action } else { RuleAction::Alert }
        }
        (Place::Key | Place::Protected, RuleAction::Mask) if rule.category == Category::Pii => {
            RuleAction::Alert
        }
        (Place::Key | Place::Protected, _) => RuleAction::Block,
    }
}

/// A match that counts.
pub(super) struct Verdict {
    /// Its checksum holds.
    pub(super) confirmed: bool,
    /// Its label says what it is.
    pub(super) context: bool,
}

/// Everything about a match but its span.
pub(super) fn judge(rule: &Rule, text: &[u8], span: Range<usize>) -> Option<Verdict> {
    let value = &text[span.clone()];
    if value.is_empty() || is_mask(value) {
        return None;
    }
    if rule.entropy_min > 0.0 && entropy(value) < rule.entropy_min {
        return None;
    }
    if !rule.validators.iter().all(|validator| validator.holds(value)) {
        return None;
    }
    let label_at = label_before(&text[..span.start]);
    let label = &text[label_at.clone()];
    let labelled = !rule.after.is_empty() && label_says(label, &rule.after);
    if !rule.after.is_empty() && !labelled {
        return None;
    }
    let before = span.start.saturating_sub(rule.context_within)..span.start;
    if rule.context_required && !labelled && !has_word(text, before, &rule.context) {
        return None;
    }
    let context = labelled || has_word(text, label_at.clone(), &rule.context);
    if !context && !rule.not_after.is_empty() && label_says(label, &rule.not_after) {
        return None;
    }
    if rule.allow.iter().any(|allow| allow.is_match(value)) {
        return None;
    }
    let confirmed =
        !rule.confirm.is_empty() && rule.confirm.iter().all(|validator| validator.holds(value));
    Some(Verdict { confirmed, context })
}

/// Whether a word of the rule's context stands before any match in `window`: never false where
/// [`judge`] would find one.
pub(super) fn near(rule: &Rule, text: &[u8], window: &Range<usize>) -> bool {
    let from = window.start.saturating_sub(rule.context_within);
    has_word(text, from..window.end, &rule.context)
}

/// Bound: text looked through for context words: the longest candidate and the longest context.
const NEAR_BYTES_MAX: usize = 3 * CONTEXT_BYTES_MAX;

/// Words looked for in lower case, each with what finds it fast.
#[derive(Debug, Clone, Default)]
pub struct Words(Vec<memmem::Finder<'static>>);

impl Words {
    /// Words in lower case.
    pub fn new(words: &[String]) -> Words {
        let finder = |word: &String| memmem::Finder::new(word.as_bytes()).into_owned();
        Words(words.iter().map(finder).collect())
    }

    /// The words, for people.
    pub fn names(&self) -> Vec<std::borrow::Cow<'_, str>> {
        self.0.iter().map(|word| String::from_utf8_lossy(word.needle())).collect()
    }

    /// No words.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether one of `words` begins a word in `range` of `text` (a capital letter begins one too:
/// `paymentCard`). A word of up to three letters must be the whole word. What stands around the range
/// counts, so a longer range finds all that a shorter one does.
fn has_word(text: &[u8], range: Range<usize>, words: &Words) -> bool {
    if words.is_empty() {
        return false;
    }
    let start = range.start.max(range.end.saturating_sub(NEAR_BYTES_MAX));
    let mut lower = [0; NEAR_BYTES_MAX];
    let lower = &mut lower[..range.end - start];
    lower.copy_from_slice(&text[start..range.end]);
    lower.make_ascii_lowercase();
    let lower = &*lower;
    words.0.iter().any(|word| {
        word.find_iter(lower).any(|at| {
            let at = start + at;
            let length = word.needle().len();
            let begins =
                text[at].is_ascii_uppercase() || at == 0 || !text[at - 1].is_ascii_alphabetic();
            let after = text.get(at + length);
            begins && (length > 3 || !after.is_some_and(u8::is_ascii_lowercase))
        })
    })
}

/// Bound: a label, in bytes.
const LABEL_BYTES_MAX: usize = 32;

/// The label directly before a value: `order_id` in `order_id": "` and in `order_id #`.
fn label_before(before: &[u8]) -> Range<usize> {
    let glue =
        before.iter().rev().take(6).take_while(|byte| b" \t\"'\\:=#([<>".contains(byte)).count();
    let rest = &before[..before.len() - glue];
    let length = rest
        .iter()
        .rev()
        .take(LABEL_BYTES_MAX)
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        .count();
    rest.len() - length..rest.len()
}

/// Whether `label` holds one of `words`; a word that begins with `=` must be the whole label.
fn label_says(label: &[u8], words: &[String]) -> bool {
    let mut lower = [0; LABEL_BYTES_MAX];
    let lower = &mut lower[..label.len()];
    lower.copy_from_slice(label);
    lower.make_ascii_lowercase();
    words.iter().any(|word| match word.strip_prefix('=') {
        Some(whole) => *lower == *whole.as_bytes(),
        // A label is too short for a search to be worth its preparation.
        None => lower.windows(word.len()).any(|part| part == word.as_bytes()),
    })
}

/// Whether digits in a text look like a bare number of JSON inside it: `"n":4111`, `[4111, 42]`. Only
/// digits may take their place then, or the inner JSON would break.
pub(super) fn is_bare_number(text: &[u8], span: Range<usize>) -> bool {
    if !text[span.clone()].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let mut before =
        text[..span.start].iter().rev().take(256).skip_while(|byte| byte.is_ascii_whitespace());
    let after = text[span.end..].iter().take(256).find(|byte| !byte.is_ascii_whitespace());
    let closed = matches!(after, Some(b',' | b'}' | b']'));
    match before.next() {
        Some(b':') => closed && before.find(|byte| !byte.is_ascii_whitespace()) == Some(&b'"'),
        Some(b'[' | b',') => closed,
        _ => false,
    }
}
