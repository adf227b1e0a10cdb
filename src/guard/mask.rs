//! Masking: what takes the place of a secret.
//!
//! | style | text | length |
//! |---|---|---|
//! | [`Mask::Fill`] | `[rule-id:7f3a9c1e]***`, else `[rule-id]***`, else `***` | the same, in place |
//! | [`Mask::Label`] | `[masked:rule-id]` | another; what follows moves |
//! | number | `1000…` | the same, in place |
//! | in base64 or hexadecimal text | the fill, in the decoded bytes | the same, in place |
//!
//! The alphabet is `A-Za-z0-9:_[]*-`: no quote, backslash or control character, so JSON stays valid at
//! every level of nesting. The eight digits are a keyed pseudonym: equal values look equal within one
//! session and tell nothing without its key; they are off for low-entropy data.

use std::ops::Range;

use super::hit::Hit;
use super::rules::{KNOWN_PREFIX, RuleSet};
use crate::types::RuleAction;

/// Which text takes the place of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mask {
    /// Same length, in place.
    #[default]
    Fill,
    /// A label of its own length.
    Label,
}

impl Mask {
    /// The word used in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Mask::Fill => "fill",
            Mask::Label => "label",
        }
    }

    /// The style called `name`.
    pub fn named(name: &str) -> Option<Mask> {
        [Mask::Fill, Mask::Label].into_iter().find(|mask| mask.as_str() == name)
    }
}

/// Writes the fill for `id` over `out`, keeping its length.
fn fill(out: &mut [u8], id: &str, pseudonym: Option<[u8; 4]>) {
    out.fill(b'*');
    let long = pseudonym.map(|bits| format!("[{id}:{:08x}]", u32::from_be_bytes(bits)));
    let short = format!("[{id}]");
    let text = long.filter(|text| text.len() <= out.len()).unwrap_or(short);
    if text.len() <= out.len() {
        out[..text.len()].copy_from_slice(text.as_bytes());
    }
}

/// Writes the fill of the rule called `id` over a piece of a secret.
pub(super) fn cover_with(piece: &mut [u8], id: &str) {
    fill(piece, &label(id), None);
}

/// Digits of the same length that no rule takes for anything; no leading zero where that matters.
fn fill_number(raw: &mut [u8], start: usize, end: usize) {
    let leads = !start
        .checked_sub(1)
        .is_some_and(|before| raw[before].is_ascii_digit() || raw[before] == b'.');
    for byte in raw[start..end].iter_mut().filter(|byte| byte.is_ascii_digit()) {
        *byte = b'0';
    }
    if leads {
        raw[start..end]
            .iter_mut()
            .find(|byte| byte.is_ascii_digit())
            .into_iter()
            .for_each(|byte| *byte = b'1');
    }
}

/// The name of a rule as it may stand in a mask: known values are called by the operator's word, which
/// may hold anything.
fn label_of(rules: &RuleSet, hit: &Hit) -> String {
    label(&rules.all()[hit.rule].id)
}

fn label(id: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '_' | '-') { c } else { '-' }
    };
    id.strip_prefix(KNOWN_PREFIX).map_or_else(
        || id.to_string(),
        |name| format!("secret-{}", name.chars().map(plain).collect::<String>()),
    )
}

fn pseudonym_of(rules: &RuleSet, hit: &Hit) -> Option<[u8; 4]> {
    // Without a key the pseudonym is all zero: nothing to show.
    (rules.all()[hit.rule].pseudonym && hit.pseudonym != [0; 4]).then_some(hit.pseudonym)
}

/// Fills every hit that is not a mere alert, in place. No hit holds a quote or a backslash: rules are
/// checked for that when they are compiled, known values are cut there. So every raw span consists of
/// whole escapes at every level.
pub(super) fn fill_hits(rules: &RuleSet, hits: &[Hit], raw: &mut [u8]) {
    for hit in hits.iter().filter(|hit| hit.action > RuleAction::Alert) {
        if let Some(patch) = &hit.patch {
            patch.iter().for_each(|&(place, byte)| raw[place] = byte);
            continue;
        }
        if hit.number {
            fill_number(raw, hit.span.start, hit.span.end);
            continue;
        }
        let label = label_of(rules, hit);
        fill(&mut raw[hit.span.clone()], &label, pseudonym_of(rules, hit));
    }
}

/// What takes the place of `span` of a run's text.
pub(super) fn fill_of(rules: &RuleSet, hit: &Hit, text: &[u8], span: Range<usize>) -> Vec<u8> {
    // One byte before says whether a number goes on there.
    let from = span.start.saturating_sub(1);
    let mut out = text[from..span.end].to_vec();
    let (start, end) = (span.start - from, span.end - from);
    if hit.number {
        fill_number(&mut out, start, end);
    } else {
        fill(&mut out[start..], &label_of(rules, hit), pseudonym_of(rules, hit));
    }
    out.split_off(start)
}

/// Replaces every hit that is not a mere alert by a label; numbers, what stands in a run, and what stands
/// within `filled`, keep their length.
pub(super) fn label_hits(rules: &RuleSet, hits: &[Hit], filled: &Range<usize>, raw: &mut Vec<u8>) {
    let mut out = Vec::with_capacity(raw.len() + hits.len() * 16);
    let mut at = 0;
    for hit in hits.iter().filter(|hit| hit.action > RuleAction::Alert) {
        if hit.number || hit.patch.is_some() || filled.contains(&hit.span.start) {
            fill_hits(rules, std::slice::from_ref(hit), raw);
            continue;
        }
        out.extend_from_slice(&raw[at..hit.span.start]);
        out.extend_from_slice(format!("[masked:{}]", label_of(rules, hit)).as_bytes());
        at = hit.span.end;
    }
    out.extend_from_slice(&raw[at..]);
    *raw = out;
}

/// Whether a number is one of ours, or looks like it and says as little: `1000000000`, `10.0000000`.
fn is_number_mask(value: &[u8]) -> bool {
    let mut digits = value.iter().filter(|byte| byte.is_ascii_digit());
    let first = digits.next().is_some_and(|digit| matches!(digit, b'0' | b'1'));
    first
        && digits.all(|&digit| digit == b'0')
        && value.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

/// Whether a text is one of ours: a rule that reads `password = …` or `"phone": …` must not find the mask.
pub(super) fn is_mask(value: &[u8]) -> bool {
    if is_number_mask(value) {
        return true;
    }
    let body = match value.first() {
        Some(b'[') => {
            let Some(end) = memchr::memchr(b']', value) else { return false };
            let inside = &value[1..end];
            let id = inside.strip_prefix(b"masked:").unwrap_or(inside);
            let id = match id.len().checked_sub(9) {
                Some(at) if id[at] == b':' && id[at + 1..].iter().all(u8::is_ascii_hexdigit) => {
                    &id[..at]
                }
                _ => id,
            };
            let plain =
                |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
            if id.is_empty() || !id.iter().all(plain) {
                return false;
            }
            &value[end + 1..]
        }
        Some(b'*') => value,
        _ => return false,
    };
    body.iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(length: usize, id: &str, pseudonym: Option<[u8; 4]>) -> String {
        let mut out = vec![b'x'; length];
        fill(&mut out, id, pseudonym);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_longest_form_that_fits_is_taken() {
        let pseudonym = Some([0x7f, 0x3a, 0x9c, 0x1e]);
        assert_eq!(filled(24, "github-token", pseudonym), "[github-token:7f3a9c1e]*");
        assert_eq!(filled(20, "github-token", pseudonym), "[github-token]******");
        assert_eq!(filled(24, "github-token", None), "[github-token]**********");
        assert_eq!(filled(5, "github-token", pseudonym), "*****");
        assert_eq!(filled(0, "x", None), "");
    }

    #[test]
    fn numbers_stay_numbers() {
        for (raw, start, end, expected) in [
            ("[4111111111111111]", 1, 17, "[1000000000000000]"),
            ("[-4155552671]", 2, 12, "[-1000000000]"),
            ("[12.536904399]", 4, 13, "[12.000000000]"),
        ] {
            let mut bytes = raw.as_bytes().to_vec();
            fill_number(&mut bytes, start, end);
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
    }

    #[test]
    fn masks_are_known_again() {
        for text in [
            "[jwt:0123abcd]***",
            "[jwt]",
            "[masked:aws-access-key-id]",
            "********",
            "1000000000",
            "00000000",
            "10.000000",
        ] {
            assert!(is_mask(text.as_bytes()), "{text}");
        }
        for text in [
            "[jwt]x",
            "hunter2",
            "[Hunter 2]",
            "*a*",
            "[]",
            "[x",
            "2000000",
            "1000001",
            "1 000",
            "",
        ] {
            assert!(!is_mask(text.as_bytes()), "{text}");
        }
    }
}
