//! Views: one message at every level of decoding, and the way back to its bytes.
//!
//! In valid JSON a backslash stands in strings only, so unescaping a whole message needs no parser:
//! view 1 is the message unescaped, view 2 is view 1 unescaped (JSON inside JSON strings), and so on
//! while an escape remains. All views lie in one buffer, separated, and are scanned once. A view is a
//! copy for looking only; nothing is ever sent from it.
//!
//! No map is kept while decoding. When something matched, the few ends are walked back, level by
//! level, over the text below ([`Views::to_raw`]): a start goes to the first byte of the escape or
//! character that produced it, an end to one past the last, so no edit leaves half of either.
//!
//! The unit of decoding is [`unit()`]; other codings (hex, base64) would be further units over the same
//! buffer. Bounds: levels, and bytes of all views together; beyond them the message is refused.

use std::ops::Range;

/// Between two views: no rule reads across it, because no secret holds it.
const SEPARATOR: &[u8] = b"\n\x00\n";

/// Where the text of a view lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Levels of decoding above the raw bytes; 0 is the raw bytes themselves. For JSON without
    /// escapes the raw bytes serve as level 1.
    pub level: u8,
    /// Where in the buffer, or `None` for the raw bytes.
    at: Option<Range<usize>>,
}

/// A message is more deeply or more widely encoded than the bounds allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewFault {
    /// Escapes remain after the last level.
    TooDeep,
    /// The views are too long together.
    TooLong,
}

/// The views of one message, and their memory, which is used again.
#[derive(Debug, Default)]
pub struct Views {
    buffer: Vec<u8>,
    views: Vec<View>,
}

/// What stands at one place of an encoded text: `len` bytes that decode to `out[..out_len]`.
struct Unit {
    len: usize,
    out: [u8; 4],
    out_len: usize,
}

impl Unit {
    fn plain(byte: u8) -> Unit {
        Unit { len: 1, out: [byte, 0, 0, 0], out_len: 1 }
    }
}

fn hex4(digits: &[u8]) -> Option<u32> {
    digits
        .get(..4)?
        .iter()
        .try_fold(0, |value, &digit| Some(value << 4 | (digit as char).to_digit(16)?))
}

/// The unit at the start of `text`, which begins with a backslash. What is no escape of RFC 8259 §7
/// stands for itself: deeper levels are guesses, and `\d` or `C:\Users` are no escapes.
fn unit(text: &[u8]) -> Unit {
    let short = |byte: u8| Unit { len: 2, out: [byte, 0, 0, 0], out_len: 1 };
    match text.get(1) {
        Some(&byte @ (b'"' | b'\\' | b'/')) => short(byte),
        Some(b'b') => short(8),
        Some(b'f') => short(12),
        Some(b'n') => short(b'\n'),
        Some(b'r') => short(b'\r'),
        Some(b't') => short(b'\t'),
        Some(b'u') => {
            let Some(first) = hex4(&text[2..]) else { return Unit::plain(b'\\') };
            let (value, len) = match first {
                0xd800..=0xdbff => {
                    let low = text
                        .get(6..8)
                        .filter(|start| start == b"\\u")
                        .and_then(|_| hex4(&text[8..]));
                    match low {
                        Some(low @ 0xdc00..=0xdfff) => {
                            (0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00), 12)
                        }
                        _ => (0xfffd, 6),
                    }
                }
                value => (value, 6),
            };
            let mut out = [0; 4];
            let out_len = char::from_u32(value).unwrap_or('\u{fffd}').encode_utf8(&mut out).len();
            Unit { len, out, out_len }
        }
        _ => Unit::plain(b'\\'),
    }
}

/// Unescapes `from` to the end of `to`; true when an escape was decoded.
fn unescape(from: &[u8], to: &mut Vec<u8>) -> bool {
    let mut changed = false;
    let mut rest = from;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        to.extend_from_slice(&rest[..at]);
        let unit = unit(&rest[at..]);
        to.extend_from_slice(&unit.out[..unit.out_len]);
        changed |= unit.len > 1;
        rest = &rest[at + unit.len..];
    }
    to.extend_from_slice(rest);
    changed
}

/// Whether an escape remains in `text` that decodes to a byte of content. A run of backslashes, or one
/// before a quote, hides nothing: both stand for themselves at every level.
fn hides_something(text: &[u8]) -> bool {
    memchr::memchr_iter(b'\\', text).any(|at| match text.get(at + 1) {
        Some(b'b' | b'f' | b'n' | b'r' | b't' | b'/') => true,
        Some(b'u') => hex4(&text[at + 2..]).is_some(),
        _ => false,
    })
}

fn has_escape(text: &[u8]) -> bool {
    memchr::memchr_iter(b'\\', text).any(|at| unit(&text[at..]).len > 1)
}

impl Views {
    /// No views, no memory.
    pub fn new() -> Views {
        Views::default()
    }

    /// Builds the views of `raw`. `json` says that the bytes are valid JSON: then the first level is
    /// the unescaped text; otherwise the bytes themselves are a view too.
    pub fn build(
        &mut self,
        raw: &[u8],
        json: bool,
        levels_max: u64,
        bytes_max: u64,
    ) -> Result<(), ViewFault> {
        self.buffer.clear();
        self.views.clear();
        let escaped = memchr::memchr(b'\\', raw).is_some();
        if !json || !escaped {
            self.views.push(View { level: u8::from(json), at: None });
        }
        if !escaped {
            return Ok(());
        }
        let levels_max = levels_max.min(u8::MAX as u64) as u8;
        for level in 1..=levels_max {
            if (self.buffer.len() + raw.len()) as u64 > bytes_max {
                return Err(ViewFault::TooLong);
            }
            let start = self.buffer.len();
            if level == 1 {
                if !unescape(raw, &mut self.buffer) {
                    self.buffer.truncate(start);
                    return Ok(());
                }
            } else {
                let below = self.views.last().and_then(|view| view.at.clone()).unwrap_or(0..0);
                if !has_escape(&self.buffer[below.clone()]) {
                    return Ok(());
                }
                // The text below is copied out of the way of its own growth, piece by piece.
                self.unescape_within(below);
            }
            let end = self.buffer.len();
            self.views.push(View { level, at: Some(start..end) });
            self.buffer.extend_from_slice(SEPARATOR);
        }
        let last = self.views.last().and_then(|view| view.at.clone()).unwrap_or(0..0);
        if hides_something(&self.buffer[last]) { Err(ViewFault::TooDeep) } else { Ok(()) }
    }

    fn unescape_within(&mut self, below: Range<usize>) {
        let mut at = below.start;
        self.buffer.reserve(below.len() + SEPARATOR.len());
        while let Some(next) = memchr::memchr(b'\\', &self.buffer[at..below.end]) {
            self.buffer.extend_from_within(at..at + next);
            let unit = unit(&self.buffer[at + next..below.end]);
            self.buffer.extend_from_slice(&unit.out[..unit.out_len]);
            at += next + unit.len;
        }
        self.buffer.extend_from_within(at..below.end);
    }

    /// The views, lowest level first.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// The text of view `number`.
    pub fn text<'a>(&'a self, raw: &'a [u8], number: usize) -> &'a [u8] {
        match &self.views[number].at {
            None => raw,
            Some(at) => &self.buffer[at.clone()],
        }
    }

    /// All decoded views with their separators: what is scanned in one go beside the raw bytes.
    pub fn decoded(&self) -> &[u8] {
        &self.buffer
    }

    /// Whether the raw bytes are a view.
    pub fn raw_is_a_view(&self) -> bool {
        self.views.first().is_some_and(|view| view.at.is_none())
    }

    /// The text below view `number`: what it was decoded from.
    fn below<'a>(&'a self, raw: &'a [u8], number: usize) -> &'a [u8] {
        match number.checked_sub(1) {
            Some(below) => self.text(raw, below),
            None => raw,
        }
    }

    /// Takes spans of view `number` back to spans of the raw bytes, in place. `spans` must be sorted by
    /// start. Every span is widened to whole escapes and whole characters.
    pub fn to_raw(&self, raw: &[u8], number: usize, spans: &mut [Range<usize>]) {
        let mut number = number;
        loop {
            if self.views[number].at.is_none() {
                break;
            }
            step_down(self.below(raw, number), spans);
            match number.checked_sub(1) {
                Some(below) => number = below,
                None => break,
            }
        }
        // Whole characters: an end inside one moves to its end.
        for span in spans {
            while span.start > 0 && span.start < raw.len() && is_continuation(raw[span.start]) {
                span.start -= 1;
            }
            while span.end < raw.len() && is_continuation(raw[span.end]) {
                span.end += 1;
            }
        }
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// Takes spans of the unescaped text to spans of `below`, one walk for all. Starts ascend; ends need
/// not, so they are walked as a list of their own.
fn step_down(below: &[u8], spans: &mut [Range<usize>]) {
    let mut walk = Walk::new(below);
    for span in spans.iter_mut() {
        span.start = walk.unit_around(span.start).start;
    }
    let mut ends: Vec<usize> = (0..spans.len()).collect();
    ends.sort_unstable_by_key(|&place| spans[place].end);
    let mut walk = Walk::new(below);
    for place in ends {
        let end = spans[place].end;
        spans[place].end = if end == 0 { 0 } else { walk.unit_around(end - 1).end };
    }
}

struct Walk<'a> {
    below: &'a [u8],
    /// Place in `below`, and the place in the unescaped text that it produces.
    at: usize,
    out: usize,
    /// The next backslash at or after `at`.
    next: usize,
}

impl<'a> Walk<'a> {
    fn new(below: &'a [u8]) -> Walk<'a> {
        let next = memchr::memchr(b'\\', below).unwrap_or(below.len());
        Walk { below, at: 0, out: 0, next }
    }

    /// The bytes below that produce byte `target` of the unescaped text. Targets must not descend
    /// below the unit reached last.
    fn unit_around(&mut self, target: usize) -> Range<usize> {
        loop {
            let plain = self.next - self.at;
            if target < self.out + plain {
                let place = self.at + (target - self.out);
                return place..place + 1;
            }
            if self.next >= self.below.len() {
                return self.below.len()..self.below.len();
            }
            let unit = unit(&self.below[self.next..]);
            if target < self.out + plain + unit.out_len {
                return self.next..self.next + unit.len;
            }
            self.out += plain + unit.out_len;
            self.at = self.next + unit.len;
            self.next = memchr::memchr(b'\\', &self.below[self.at..])
                .map_or(self.below.len(), |on| self.at + on);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(raw: &[u8]) -> Result<Views, ViewFault> {
        let mut views = Views::new();
        views.build(raw, true, 4, 1 << 20)?;
        Ok(views)
    }

    fn nested(text: &str, levels: usize) -> String {
        (0..levels).fold(text.to_string(), |text, _| serde_json::to_string(&text).unwrap())
    }

    #[test]
    fn views_end_when_nothing_is_left_to_decode() {
        assert_eq!(build(b"{\"a\":1}").unwrap().views().len(), 1);
        assert_eq!(build(br#""a\nb""#).unwrap().views().len(), 1);
        assert_eq!(build(br#""a\\nb""#).unwrap().views().len(), 2);
        // A regular expression and a path are no deeper text.
        assert_eq!(build(br#""\\d+ C:\\Users""#).unwrap().views().len(), 1);
    }

    #[test]
    fn more_levels_than_the_bound_are_refused() {
        assert!(build(nested("x\ny", 4).as_bytes()).is_ok());
        assert_eq!(build(nested("x\ny", 5).as_bytes()).err(), Some(ViewFault::TooDeep));
        // A picture made of backslashes hides nothing.
        assert!(build(nested(&"\\".repeat(40), 2).as_bytes()).is_ok());
        let mut views = Views::new();
        assert_eq!(views.build(br#""\n""#, true, 4, 2), Err(ViewFault::TooLong));
    }

    proptest! {
        #[test]
        fn the_first_view_is_what_a_parser_reads(text in any::<String>()) {
            let raw = serde_json::to_string(&text).unwrap();
            let views = build(raw.as_bytes());
            prop_assume!(views.is_ok());
            let views = views.unwrap();
            let seen = views.text(raw.as_bytes(), 0);
            prop_assert_eq!(&seen[1..seen.len() - 1], text.as_bytes());
        }

        // Mutant: `unit_around(span.end)` instead of the byte before the end.
        #[test]
        fn a_place_found_at_any_level_goes_back_to_the_bytes_it_came_from(
            before in "[a-z\\n\"é😀/]{0,8}", after in "[a-z\\n\"é😀/]{0,8}", levels in 1usize..=3, spell in any::<bool>()
        ) {
            let mut raw = nested(&format!("{before}TOKEN{after}"), levels);
            if spell {
                let escape = nested("\\u0054", levels - 1);
                raw = raw.replace('T', &escape[levels.min(2) - 1..escape.len() + 1 - levels.min(2)]);
            }
            let views = build(raw.as_bytes());
            prop_assume!(views.is_ok());
            let views = views.unwrap();
            for number in 0..views.views().len() {
                let text = views.text(raw.as_bytes(), number);
                if let Some(at) = memchr::memmem::find(text, b"TOKEN") {
                    let mut spans = vec![at..at + 5; 1];
                    views.to_raw(raw.as_bytes(), number, &mut spans);
                    let mut edited = raw.clone().into_bytes();
                    let length = spans[0].len();
                    edited.splice(spans[0].clone(), vec![b'*'; length]);
                    // Still valid at every level, and the rest is untouched.
                    let mut value = String::from_utf8(edited).unwrap();
                    for _ in 0..levels {
                        value = serde_json::from_str(&value).unwrap();
                    }
                    prop_assert_eq!(value, format!("{before}{}{after}", "*".repeat(length)));
                }
            }
        }
    }
}
