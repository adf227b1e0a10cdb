//! `data:` URIs (RFC 2397) in a text, spelled in any way that their readers take.
//!
//! The URL parser drops tabs and line ends wherever they stand (URL §4.4); the data URL processor takes blanks around
//! `base64`, takes the letters percent-encoded, and passes blanks among them (Fetch §6.2, Infra §2.5, forgiving
//! base64). What stands in an address of HTML, or of JSON inside a string, comes behind references or escapes.

use std::borrow::Cow;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use memchr::{memchr, memmem};

use super::{Reading, is_binary, is_text};
use crate::guard::runs::{self, BASE64, NONE};
use crate::guard::units::Units;

/// Bound: levels of references and escapes that are taken off.
const LEVELS_MAX: usize = 2;

/// Whether a `data:` URI in `text` has base64 or percent-encoded bytes that are no text. Every step is linear in `text`.
pub(super) fn holds(text: &[u8], inflated_max: u64) -> bool {
    let mut level = Cow::Borrowed(text);
    for _ in 0..LEVELS_MAX {
        // Why each: what is an escape to one reader stands for itself to another.
        if holds_plain(&level, inflated_max) {
            return true;
        }
        match decoded(&level) {
            Some(next) => level = Cow::Owned(next),
            None => return false,
        }
    }
    holds_plain(&level, inflated_max)
}

/// `text` with the units of one level decoded; `None` where there are none.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut lead = Units::Any.next_lead(text, 0)?;
    let mut out = Vec::with_capacity(text.len());
    let mut from = 0;
    loop {
        out.extend_from_slice(&text[from..lead]);
        let unit = Units::Any.at(&text[lead..]);
        out.extend_from_slice(&unit.out[..unit.out_len]);
        from = lead + unit.len.max(1);
        match Units::Any.next_lead(text, from.min(text.len())) {
            Some(next) => lead = next,
            None => break,
        }
    }
    out.extend_from_slice(&text[from.min(text.len())..]);
    (out != text).then_some(out)
}

static SCHEME: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::builder().ascii_case_insensitive(true).build(["data:"]).expect("a word")
});

fn holds_plain(text: &[u8], inflated_max: u64) -> bool {
    static CODED: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("64"));
    let text = match text.iter().any(|byte| is_dropped(*byte)) {
        true => Cow::Owned(text.iter().copied().filter(|byte| !is_dropped(*byte)).collect()),
        false => Cow::Borrowed(text),
    };
    let Some(scheme) = SCHEME.find(&*text) else { return false };
    if holds_bytes(&text[scheme.start()..]) {
        return true;
    }
    let mut from = scheme.end();
    while let Some(on) = CODED.find(&text[from..]) {
        let (before, behind) = (&text[..from + on], from + on + 2);
        from = behind;
        let marked = ends_without_case(before, b"base")
            .is_some_and(|before| before.trim_ascii_end().ends_with(b";"));
        if !marked {
            continue;
        }
        let blanks = text[behind..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        match text.get(behind + blanks) {
            Some(b',') => from = behind + blanks + 1,
            // Some readers take the word before further parameters.
            Some(b';') => match memchr(b',', &text[behind..]) {
                Some(on) => from = behind + on + 1,
                None => return false,
            },
            _ => {
                from = behind + blanks;
                continue;
            }
        }
        let (mut letters, length) = letters(&text[from..]);
        from += length;
        // What breaks off where a text goes on is no letter too few.
        if letters.len() % 4 == 1 {
            letters.pop();
        }
        if letters.len() >= runs::LETTERS_MIN && !is_text(&letters, inflated_max) {
            return true;
        }
    }
    false
}

/// Bound: shortest opaque content, in bytes: as many as the shortest in letters.
const BYTES_MIN: usize = runs::LETTERS_MIN * 3 / 4;

/// Whether a `data:` URI that names a type holds bytes that are no text, percent-encoded: `data:image/png,%89PNG`. It ends
/// at a blank, a quote or a bracket of markup, which are written `%20`, `%22`, `%3c`.
fn holds_bytes(text: &[u8]) -> bool {
    let mut from = 0;
    while let Some(scheme) = SCHEME.find(&text[from..]) {
        from += scheme.end();
        // The type and its parameters (RFC 2397 §3). No colon: the walk ends before the next URI.
        let is_head =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/;=\" ".contains(byte);
        let head = text[from..].iter().take_while(|byte| is_head(byte)).count();
        let (head, rest) = text[from..].split_at(head);
        from += head.len();
        let head = head.trim_ascii();
        if rest.first() != Some(&b',') || !head.contains(&b'/') {
            continue;
        }
        let is_end = |byte: &u8| matches!(byte, b' ' | b'"' | b'<' | b'>' | b'`');
        let end = rest.iter().position(is_end).unwrap_or(rest.len());
        from += end;
        let bytes = percent_decoded(&rest[1..end]);
        // A text may be in any charset.
        let says_text = head.get(..5).is_some_and(|says| says.eq_ignore_ascii_case(b"text/"));
        let is_text = match says_text {
            true => !bytes.iter().any(|byte| is_binary(*byte)),
            false => Reading::default().take(&bytes).is_some_and(|text| text.is_whole()),
        };
        if bytes.len() >= BYTES_MIN && !is_text {
            return true;
        }
    }
    false
}

/// `text` with what is percent-encoded decoded, once.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let (mut bytes, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some(&byte) = text.get(at) {
        let (byte, length) = percent(byte, text.get(at + 1..at + 3)).unwrap_or((byte, 1));
        bytes.push(byte);
        at += length;
    }
    bytes
}

/// The byte that `%` and two digits stand for, and how much they take.
fn percent(byte: u8, digits: Option<&[u8]>) -> Option<(u8, usize)> {
    let digits = digits.filter(|_| byte == b'%')?;
    let [high, low] = [digits[0], digits[1]].map(|digit| runs::HEX[digit as usize]);
    (high != NONE && low != NONE).then_some((high << 4 | low, 3))
}

/// The letters at the start of `text`, and how much of it they take.
fn letters(text: &[u8]) -> (Vec<u8>, usize) {
    let (mut letters, mut at) = (vec![], 0);
    while let Some(&byte) = text.get(at) {
        let (byte, length) = match percent(byte, text.get(at + 1..at + 3)) {
            Some(decoded) => decoded,
            None if byte == b'%' => break,
            None => (byte, 1),
        };
        match byte {
            _ if BASE64[byte as usize] != NONE => letters.push(byte),
            _ if byte.is_ascii_whitespace() => {}
            _ => break,
        }
        at += length;
    }
    (letters, at)
}

/// URL §4.4, "ASCII tab or newline".
fn is_dropped(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\r' | b'\n')
}

fn ends_without_case<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let at = text.len().checked_sub(word.len())?;
    text[at..].eq_ignore_ascii_case(word).then_some(&text[..at])
}
