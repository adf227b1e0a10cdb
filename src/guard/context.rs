//! Everything about a match but its span: validators, the words around it, the place it stands in.
//!
//! Pure functions over a view's text; they decide whether a match counts and what can be done with it
//! where it stands, never what it is replaced by.

use std::ops::Range;
use std::sync::LazyLock;

use super::hit::Hit;
use super::mask::is_mask;
use super::rules::{CONTEXT_BYTES_MAX, Category, Rule};
use super::telephone::{is_decimal, is_grouped, is_signed_number, may_be_count, names_telephones};
use super::validate::{Validator, entropy};
use super::words::{Labels, Words};
use crate::types::RuleAction;
use crate::wire::mcp::Place;

/// What can be done at a place. Keys and what correlates or routes are never edited: a credential
/// there blocks, personal data alerts. A bare number is edited only when its label says what it is.
pub(super) fn settle(rules: &[Rule], hit: &Hit, place: Place) -> RuleAction {
    let rule = &rules[hit.rule];
    match (place, hit.action) {
        (_, action @ (RuleAction::Allow | RuleAction::Alert)) => action,
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
    /// The operator lets it through.
    pub(super) allowed: bool,
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
    let labelled = !rule.after.is_empty() && rule.after.says(label);
    if !rule.after.is_empty() && !labelled {
        return None;
    }
    let before = span.start.saturating_sub(rule.context_within)..span.start;
    let rare = rule.validators.contains(&Validator::CardAny);
    let before = match memchr::memrchr(b'\n', &text[before.clone()]) {
        // A number that is a card's only by its label has it in its own line.
        Some(end) if rare => before.start + end..before.end,
        _ => before,
    };
    if rule.context_required && !labelled && !has_word(text, before, &rule.context) {
        return None;
    }
    if rare && in_table(text, &span) {
        return None;
    }
    let named = has_word(text, label_at.clone(), &rule.context);
    if value.iter().all(u8::is_ascii_digit)
        && !rule.not_key.is_empty()
        && is_key(text, &label_at, span.start)
        && rule.not_key.says(label)
        && (!(named || is_said(rule, &text[..label_at.start])) || (rare && COUNTED.says(label)))
    {
        return None;
    }
    let local = rule.validators.contains(&Validator::PhoneLength);
    let glue = &text[label_at.end..span.start];
    let quoted = glue.last().is_some_and(|byte| b"\"'".contains(byte));
    // `"tel": 61.2345678` is a number of JSON.
    let member = glue.contains(&b'"');
    if local && !quoted && is_decimal(value) && (member || !names_telephones(label)) {
        return None;
    }
    let counted = local && may_be_count(value, label);
    let context = (labelled || named) && !counted;
    let phone = rule.validators.contains(&Validator::E164);
    if phone && is_signed_number(value, context) {
        return None;
    }
    // `Delta +1 800 221 1212` is no difference.
    let grouped = phone && is_grouped(value);
    if !context && !grouped && !rule.not_after.is_empty() && rule.not_after.says(label) {
        return None;
    }
    if !context
        && rule.validators.contains(&Validator::Card)
        && (in_table(text, &span) || among_numbers(text, &span))
    {
        return None;
    }
    let confirmed =
        !rule.confirm.is_empty() && rule.confirm.iter().all(|validator| validator.holds(value));
    let allowed = rule.allow.iter().any(|allow| allow.is_match(value));
    Some(Verdict { confirmed, context, allowed })
}

/// Keys that count or name what a word in them says: `card_id`, `charge_count`, `cardinality`.
static COUNTED: LazyLock<Labels> = LazyLock::new(|| {
    Labels::new(&["*id", "*ids", "*count", "*at", "cardinality"].map(str::to_owned))
});

/// Whether the label is a key: `:`, `=` or `>` stands behind it, or it has an underscore, as no word of prose
/// (`node_x_bytes_total 4128…`).
fn is_key(text: &[u8], label: &Range<usize>, start: usize) -> bool {
    text[label.end..start].iter().any(|byte| b":=>".contains(byte))
        || text[label.clone()].contains(&b'_')
}

/// Bound: a clause before a label.
const CLAUSE_BYTES_MAX: usize = 48;

/// Whether a word of the rule's context stands before the label in its own clause: `card on line: 4111…`.
fn is_said(rule: &Rule, before: &[u8]) -> bool {
    let before = &before[before.len().saturating_sub(CLAUSE_BYTES_MAX)..];
    let clause = before.rsplit(|byte| b"\"',;{}<>\n\\".contains(byte)).next().unwrap_or_default();
    has_word(before, before.len() - clause.len()..before.len(), &rule.context)
}

/// Whether a word of the rule's context stands before any match in `window`: never false where
/// [`judge`] would find one.
pub(super) fn near(rule: &Rule, text: &[u8], window: &Range<usize>) -> bool {
    let from = window.start.saturating_sub(rule.context_within);
    has_word(text, from..window.end, &rule.context)
}

/// Bound: text looked through for context words: the longest candidate and the longest context.
const NEAR_BYTES_MAX: usize = 3 * CONTEXT_BYTES_MAX;

/// Whether one of `words` begins a word in `range` of `text` (a capital letter begins one too:
/// `paymentCard`). A word of up to three letters must be a whole word. What stands around the range
/// counts, so a longer range finds all that a shorter one does.
fn has_word(text: &[u8], range: Range<usize>, words: &Words) -> bool {
    let start = range.start.max(range.end.saturating_sub(NEAR_BYTES_MAX));
    words.places(&text[start..range.end]).any(|place| {
        let at = start + place.start;
        let length = place.len();
        let (before, after) = (at.checked_sub(1).map(|at| text[at]), text.get(at + length));
        let capital =
            text[at].is_ascii_uppercase() && !before.is_some_and(|byte| byte.is_ascii_uppercase());
        let begins = capital || !before.is_some_and(|byte| byte.is_ascii_alphabetic());
        let rest = &text[at + 1..at + length];
        // Two or three letters in a row stand in every random text: `ssn`, `Ssn`, `SSN`, alone.
        let short = || {
            let large = rest.iter().all(u8::is_ascii_uppercase);
            let small = rest.iter().all(u8::is_ascii_lowercase);
            (large || small)
                && !after.is_some_and(|byte| {
                    byte.is_ascii_lowercase() || (large && byte.is_ascii_alphanumeric())
                })
                && !before.is_some_and(|byte| byte.is_ascii_digit())
        };
        begins && (length > 3 || short())
    })
}

/// Whether digits in groups are part of a table of such groups: another group of four follows or stands
/// before them. Fonts, code pages and columns of counters look like card numbers now and then.
fn in_table(text: &[u8], span: &Range<usize>) -> bool {
    if text[span.clone()].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let gap = |byte: &u8| matches!(byte, b' ' | b'-' | b'\t' | b'\r' | b'\n' | b',');
    let four = |mut digits: usize, end: Option<&u8>| {
        digits = digits.min(5);
        digits == 4 && end.is_none_or(gap)
    };
    let before = &text[span.start.saturating_sub(8)..span.start];
    let back: Vec<u8> = before.iter().rev().copied().skip_while(gap).collect();
    let length = back.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let preceded = before.last().is_some_and(gap) && four(length, back.get(length));
    let after = &text[span.end..text.len().min(span.end + 12)];
    let on: Vec<u8> = after.iter().copied().skip_while(gap).collect();
    let length = on.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    // Four digits behind a card number can be a year; a second group after them is a table.
    let followed = after.first().is_some_and(gap)
        && four(length, on.get(length))
        && on.get(length + 1).is_some_and(u8::is_ascii_hexdigit);
    preceded || followed
}

/// Whether digits are rather a number among numbers than a card: with a sign, a dot or labels of a metric before them, or beside another long
/// number that is no card. Four groups that count on are a range of codes.
fn among_numbers(text: &[u8], span: &Range<usize>) -> bool {
    let value = &text[span.clone()];
    if !value.iter().all(u8::is_ascii_digit) {
        let group = |group: &[u8]| {
            group.iter().fold(0u32, |number, digit| number * 10 + u32::from(digit - b'0'))
        };
        let numbers: Vec<u32> = value
            .split(|byte| !byte.is_ascii_digit())
            .filter(|of| of.len() == 4)
            .map(group)
            .collect();
        return numbers.windows(2).filter(|pair| pair[0] + 1 == pair[1]).count() > 1;
    }
    let before = &text[span.start.saturating_sub(NUMBER_NEAR_BYTES_MAX)..span.start];
    let after = &text[span.end..text.len().min(span.end + NUMBER_NEAR_BYTES_MAX)];
    let sign = match before {
        [.., byte, b'-'] => !byte.is_ascii_alphanumeric() && *byte != b'-',
        [b'-'] | [.., b'.'] => true,
        // A sample: `node_x{device="eth0"} 4128…`.
        [.., b'"', b'}', b' '] => true,
        _ => false,
    };
    sign || is_other_number(after, false) || is_other_number(before, true)
}

/// Bound: a gap of blanks and a number beside another, in bytes.
const NUMBER_NEAR_BYTES_MAX: usize = 64;

/// Whether a gap with a blank in it leads to 14 digits or more that are no card; `back`: read from the end.
fn is_other_number(bytes: &[u8], back: bool) -> bool {
    let at = |place: usize| bytes[if back { bytes.len() - 1 - place } else { place }];
    let gap = |byte: u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',');
    let mut blank = false;
    let mut from = 0;
    while from < bytes.len() && gap(at(from)) {
        blank |= at(from) != b',';
        from += 1;
    }
    let mut to = from;
    while to < bytes.len() && at(to).is_ascii_digit() {
        to += 1;
    }
    if !blank || !(14..=19).contains(&(to - from)) {
        return false;
    }
    let digits = match back {
        true => &bytes[bytes.len() - to..bytes.len() - from],
        false => &bytes[from..to],
    };
    let mut turned = [0; 19];
    let turned = &mut turned[..digits.len()];
    turned.copy_from_slice(digits);
    turned.reverse();
    // A card read backwards is one read forwards.
    !Validator::CardAny.holds(digits) && !Validator::CardAny.holds(turned)
}

/// Bound: a label, in bytes.
const LABEL_BYTES_MAX: usize = 32;
/// Bound: what may stand between a label and its value, in bytes.
const GLUE_BYTES_MAX: usize = 6;

/// Bound: words that join a label to its value (`card number is 4111…`).
const JOINTS_MAX: usize = 3;

/// Bound: a label with its words, and what stands between them and before the value.
pub(super) const LABEL_NEAR_BYTES_MAX: usize =
    (1 + JOINTS_MAX) * (LABEL_BYTES_MAX + GLUE_BYTES_MAX);

/// Words between a label and its value that say nothing themselves.
const JOINTS: &[&[u8]] =
    &[b"number", b"numbers", b"no", b"num", b"nr", b"nbr", b"id", b"is", b"was", b"are", b"code"];

/// The label before a value: `order_id` in `order_id": "` and in `order_id #`, `card number is` in
/// `my card number is `.
fn label_before(before: &[u8]) -> Range<usize> {
    let mut label = word_before(before);
    for _ in 0..JOINTS_MAX {
        let word = &before[label.start..];
        let word = &word[..word.iter().take_while(|byte| byte.is_ascii_alphabetic()).count()];
        if !JOINTS.iter().any(|joint| joint.eq_ignore_ascii_case(word)) {
            break;
        }
        let next = word_before(&before[..label.start]);
        if next.is_empty() || next.end + 2 < label.start {
            break;
        }
        label.start = next.start;
    }
    label
}

/// The word directly before a value.
fn word_before(before: &[u8]) -> Range<usize> {
    let glue = before
        .iter()
        .rev()
        .take(GLUE_BYTES_MAX)
        .take_while(|byte| b" \t\"'\\:=#([<>".contains(byte))
        .count();
    let rest = &before[..before.len() - glue];
    let length = rest
        .iter()
        .rev()
        .take(LABEL_BYTES_MAX)
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        .count();
    rest.len() - length..rest.len()
}

/// Whether digits in a text look like a bare number of JSON inside it: `"n":4111`, `[4111, 42]`. Only
/// digits may take their place then, or the inner JSON would break.
pub(super) fn is_bare_number(text: &[u8], span: Range<usize>) -> bool {
    if !text[span.clone()].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let before = &text[span.start.saturating_sub(256)..span.start];
    let mut back = before.iter().rev().skip_while(|byte| byte.is_ascii_whitespace()).copied();
    let behind = &text[span.end..];
    // `4111111111111111.0`
    let fraction = behind
        .strip_prefix(b".0")
        .map_or(0, |rest| 2 + rest.iter().take_while(|byte| **byte == b'0').count());
    let after = behind[fraction..].iter().take(256).find(|byte| !byte.is_ascii_whitespace());
    let closed = matches!(after, Some(b',' | b'}' | b']'));
    match back.next() {
        Some(b':') => closed && back.find(|byte| !byte.is_ascii_whitespace()) == Some(b'"'),
        Some(b'[' | b'{') => closed,
        // One line of a column of numbers, read alone.
        _ if in_column(before, &text[span.end..]) => true,
        Some(b',') => (closed || after == Some(&b')')) && follows_item(before),
        // An argument: `f(4111, 42)`, not `card (4111)`.
        Some(b'(') => {
            after == Some(&b',')
                && back.next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        }
        _ => false,
    }
}

/// Whether nothing but blanks stands before on the line, and nothing but a comma behind.
fn in_column(before: &[u8], after: &[u8]) -> bool {
    // First, because it is a byte or two.
    if !matches!(after, [b','] | [b',', b'\r' | b'\n', ..]) {
        return false;
    }
    let line = before.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
    !line.is_empty() && line.iter().all(|byte| matches!(byte, b' ' | b'\t'))
}

/// Whether the comma that ends `before` follows an item of JSON. A field of a table (`Smith,4111,`) is
/// no item.
fn follows_item(before: &[u8]) -> bool {
    let number =
        |byte: u8| matches!(byte, b'0'..=b'9' | b'+'..=b'.' | b' ' | b'\t' | b'\r' | b'\n');
    // Columns of numbers are long: many bytes at once, so far as all of them are such.
    let mut rest = before;
    while let Some((front, last)) = rest.split_last_chunk::<32>()
        && last.iter().fold(true, |all, &byte| all & number(byte))
    {
        rest = front;
    }
    let rest = &rest[..rest.len() - rest.iter().rev().take_while(|byte| number(**byte)).count()];
    [&b"\""[..], b"'", b"[", b"]", b"{", b"}", b"(", b"true", b"false", b"null"]
        .iter()
        .any(|end| rest.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::super::rules::RuleSet;
    use super::*;

    fn words(word: &str) -> Words {
        Words::new(&[word.to_owned()])
    }

    // Mutants: of a gap of commas alone the rest counts; 13 digits do; read from the end, the digits are those at the front;
    // a card's digits in turn make another number.
    #[test]
    fn a_long_number_beside_another_is_told_in_either_direction() {
        for (gap, number, other) in [
            (" ", "1234567890123456", true),
            (",\t", "1234567890123456", true),
            (",", "1234567890123456", false),
            ("", "1234567890123456", false),
            (" ", "4111111111111111", false),
            (" ", "1111111111111114", false),
            (" ", "12345678901234", true),
            (" ", "1234567890123", false),
            (" ", "1234567890123456789", true),
            (" ", "12345678901234567890", false),
        ] {
            for end in ["", ".", " 12345678901234567"] {
                let on = format!("{gap}{number}{end}");
                assert_eq!(is_other_number(on.as_bytes(), false), other, "{on}");
                let back = format!("{}{number}{gap}", end.chars().rev().collect::<String>());
                assert_eq!(is_other_number(back.as_bytes(), true), other, "{back}");
            }
        }
    }

    // Mutants: whatever follows the comma; a number at the very start of its line.
    #[test]
    fn a_number_alone_on_a_line_is_one_of_a_column() {
        for (text, alone) in [
            ("a\n  4111,\n  42", true),
            ("a\n\t4111,\r\n", true),
            ("a\n  4111,", true),
            ("a\n  4111, 42", false),
            ("a\n  4111,42", false),
            ("a\n  4111", false),
            ("a\n4111,\n", false),
            ("a 4111,\n", false),
        ] {
            let start = text.find('4').expect("a number");
            assert_eq!(is_bare_number(text.as_bytes(), start..start + 4), alone, "{text}");
        }
    }

    // Mutant: a dot is no part of a number.
    #[test]
    fn an_item_of_json_is_seen_behind_any_count_of_numbers() {
        for length in 0..100 {
            let column: String = "4111,-1.5+2 \t\r\n,".chars().cycle().take(length).collect();
            for (item, follows) in [
                ("x\"", true),
                ("[", true),
                ("null", true),
                ("x", false),
                ("(", true),
                (";", false),
            ] {
                assert_eq!(
                    follows_item(format!("{item}{column}").as_bytes()),
                    follows,
                    "{item}{column}"
                );
            }
            assert!(!follows_item(column.as_bytes()));
        }
    }

    // Mutants: a word may begin inside another, or behind a capital letter; capitals begin none; three letters are a long
    // word, four a short one; nothing is asked of short ones; their letters may be mixed, go on, or follow a digit.
    #[test]
    fn what_begins_a_word_counts_and_a_short_one_stands_by_itself() {
        for (word, text, counts) in [
            ("card", "my card", true),
            ("card", "cards", true),
            ("card", "CARDS", true),
            ("card", "4card", true),
            ("card", "paymentCard", true),
            ("card", "postcard", false),
            ("card", "POSTCARD", false),
            ("iban", "myIbans", true),
            ("ssn", "ssn", true),
            ("ssn", "SSN:", true),
            ("ssn", "mySsn", true),
            ("ssn", "ssn1", true),
            ("ssn", "SSN1", false),
            ("ssn", "SSNs", false),
            ("ssn", "ssns", false),
            ("ssn", "1ssn", false),
            ("ssn", "sSn", false),
            ("ssn", "lessn", false),
        ] {
            let (text, all) = (text.as_bytes(), 0..text.len());
            let text_is = String::from_utf8_lossy(text);
            assert_eq!(has_word(text, all, &words(word)), counts, "{word} in {text_is}");
        }
        // What stands around a range counts.
        assert!(!has_word(b"postcard", 4..8, &words("card")));
        assert!(!has_word(b"ssns", 0..3, &words("ssn")));
    }

    // Mutants: one byte more or less, of either bound.
    #[test]
    fn a_word_counts_up_to_its_distance_and_no_further() {
        const WITHIN: usize = 20;
        let pack = format!(
            "schema = 1\n[pack]\nid = \"own\"\nversion = \"1\"\n[[rule]]\nid = \"code\"\ntitle = \"Code\"\n\
             category = \"credential\"\npattern = '\\b([0-9]{{6}})\\b'\ncontext = [\"badge\"]\n\
             context_within = {WITHIN}\ncontext_required = true\ntests.match = ['badge 123456']\n"
        );
        let files = [("own".to_owned(), pack)];
        let rules = RuleSet::compile(&files, false, &[]).expect("a good rule");
        let rule = &rules.rules()[0];
        for distance in WITHIN - 2..WITHIN + 3 {
            let text = format!("  badge{}123456", ".".repeat(distance - "badge".len()));
            let span = text.len() - 6..text.len();
            let counts = distance <= WITHIN;
            assert_eq!(judge(rule, text.as_bytes(), span.clone()).is_some(), counts, "{distance}");
            assert_eq!(near(rule, text.as_bytes(), &span), counts, "{distance}");
        }
        for distance in NEAR_BYTES_MAX - 2..NEAR_BYTES_MAX + 3 {
            let text = format!("  badge{}", ".".repeat(distance - "badge".len()));
            let counts = has_word(text.as_bytes(), 0..text.len(), &words("badge"));
            assert_eq!(counts, distance <= NEAR_BYTES_MAX, "{distance}");
        }
    }

    // Mutants: one byte more or less of a label, of what stands behind it, or between it and its joints; one joint more
    // or less; joints in small letters alone.
    #[test]
    fn a_label_is_the_word_before_with_the_words_that_join_it() {
        let (long, longer) = ("a".repeat(LABEL_BYTES_MAX), "a".repeat(LABEL_BYTES_MAX + 1));
        for (before, label) in [
            ("{\"order_id\": \"", "order_id"),
            ("order_id #", "order_id"),
            ("order:     ", "order"),
            ("order:      ", ""),
            (&long, &long[..]),
            (&longer, &long[..]),
            ("my card number is ", "card number is"),
            ("my card NUMBER Is ", "card NUMBER Is"),
            ("the card number code is ", "card number code is"),
            ("card no number code is ", "no number code is"),
            ("card, number ", "number"),
            ("card  number ", "card  number"),
            ("card   number ", "number"),
        ] {
            let found = label_before(before.as_bytes());
            assert_eq!(&before[found], label, "{before}");
        }
    }
}
