//! Views: one message at every level of decoding, and the way back to its bytes.
//!
//! In valid JSON a backslash stands in strings only, so unescaping a whole message needs no parser:
//! view 1 is the message unescaped, view 2 is view 1 unescaped (JSON inside JSON strings), and so on
//! while an escape remains. A view is a copy for looking only; nothing is ever sent from it.
//!
//! ```text
//! build:   raw -> view 1, whole
//! around:  view 1 -> what stands around its escapes, level by level, in one buffer: is anything there?
//! deepen:  view 1 -> view 2 -> …, whole, only when something may be there
//! ```
//!
//! Most messages have a few escapes below the first level that hide nothing: a path, an expression. A
//! match that stands at a deeper level only has an escape in it or near it, so the neighbourhoods
//! of the escapes say whether whole views are worth their time. Both ways see the same.
//!
//! The first level of JSON has its escapes only, exactly. Behind it nobody knows which coding a text is in: all
//! codings that write characters as units ([`super::units`]) are taken off at once, level by level.
//!
//! No map is kept while decoding. When something matched, the few ends are walked back, level by
//! level, over the text below ([`Views::to_raw`]): a start goes to the first byte of the escape or
//! character that produced it, an end to one past the last, so no edit leaves half of either.
//!
//! Bounds: levels, and bytes of all views together; beyond them the message is refused.

use std::ops::Range;

use super::simd;
use super::units::{self, Units};

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

/// Memory for text, used again; what was written once stays, so it is never cleared twice.
#[derive(Debug, Default)]
struct Buffer {
    memory: Vec<u8>,
    used: usize,
}

impl Buffer {
    fn text(&self) -> &[u8] {
        &self.memory[..self.used]
    }

    /// Makes room for what `bytes` unescape to.
    fn reserve(&mut self, bytes: usize) {
        let wanted = self.used + bytes + simd::BLOCK_BYTES + SEPARATOR.len();
        if self.memory.len() < wanted {
            self.memory.resize(wanted, 0);
        }
    }

    /// Appends `from` decoded; the number of units in it.
    fn decode(&mut self, from: &[u8], units: Units) -> usize {
        self.reserve(from.len());
        let to = &mut self.memory[self.used..];
        let done = simd::unescape(from, to, units, |text, out| units.decode(text, out));
        self.used += done.written;
        done.units
    }

    /// The same from the buffer's own text.
    fn decode_within(&mut self, below: Range<usize>, units: Units) -> usize {
        self.reserve(below.len());
        let (from, to) = self.memory.split_at_mut(self.used);
        let done = simd::unescape(&from[below], to, units, |text, out| units.decode(text, out));
        self.used += done.written;
        done.units
    }

    fn separate(&mut self) {
        self.reserve(0);
        self.memory[self.used..self.used + SEPARATOR.len()].copy_from_slice(SEPARATOR);
        self.used += SEPARATOR.len();
    }
}

/// The views of one message, and their memory, which is used again.
#[derive(Debug, Default)]
pub struct Views {
    buffer: Buffer,
    around: Buffer,
    views: Vec<View>,
    levels_max: u8,
    bytes_max: u64,
}

impl Views {
    /// No views, no memory.
    pub fn new() -> Views {
        Views::default()
    }

    /// Builds the first view of `raw`. `json` says that the bytes are valid JSON: then it is the unescaped text at level 1;
    /// otherwise the bytes themselves, at level 0.
    pub fn build(
        &mut self,
        raw: &[u8],
        json: bool,
        levels_max: u64,
        bytes_max: u64,
    ) -> Result<(), ViewFault> {
        self.buffer.used = 0;
        self.views.clear();
        self.levels_max = levels_max.min(u8::MAX as u64) as u8;
        self.bytes_max = bytes_max;
        if !json || memchr::memchr(b'\\', raw).is_none() {
            self.views.push(View { level: u8::from(json), at: None });
            return Ok(());
        }
        if raw.len() as u64 > bytes_max {
            return Err(ViewFault::TooLong);
        }
        self.buffer.decode(raw, Units::Json);
        self.views.push(View { level: 1, at: Some(0..self.buffer.used) });
        self.buffer.separate();
        Ok(())
    }

    /// What stands within `margin` bytes of a unit at any deeper level, decoded; empty when there is none. It holds every
    /// match up to `margin` bytes long that a deeper view has and the view below it has not. Fails where units
    /// remain behind the last level.
    pub fn around(&mut self, raw: &[u8], margin: usize) -> Result<&[u8], ViewFault> {
        let Views { buffer, around, views, levels_max, bytes_max } = self;
        around.used = 0;
        let Some(View { mut level, at: first }) = views.first().cloned() else { return Ok(&[]) };
        // Where the level below lies: in the raw bytes, in the buffer of whole views, then in this one.
        let mut below: Option<Range<usize>> = None;
        loop {
            let (start, mut from) = (around.used, 0);
            loop {
                let (text, offset): (&[u8], usize) = match (&below, &first) {
                    (Some(at), _) => (&around.memory[at.clone()], at.start),
                    (None, Some(at)) => (&buffer.memory[at.clone()], at.start),
                    (None, None) => (raw, 0),
                };
                if level >= *levels_max {
                    return if units::hides_something(text) {
                        Err(ViewFault::TooDeep)
                    } else {
                        Ok(around.text())
                    };
                }
                let Some(window) = units_around(text, from, margin) else { break };
                from = window.end;
                if (around.used + window.len()) as u64 > *bytes_max {
                    return Err(ViewFault::TooLong);
                }
                let window = offset + window.start..offset + window.end;
                match (&below, &first) {
                    (Some(_), _) => around.decode_within(window, Units::Any),
                    (None, Some(_)) => around.decode(&buffer.memory[window], Units::Any),
                    (None, None) => around.decode(&raw[window], Units::Any),
                };
                around.separate();
            }
            if around.used == start {
                return Ok(around.text());
            }
            below = Some(start..around.used);
            level += 1;
        }
    }

    /// Builds all deeper views whole.
    pub fn deepen(&mut self, raw: &[u8]) -> Result<(), ViewFault> {
        loop {
            let Some(View { level, at: below }) = self.views.last().cloned() else { return Ok(()) };
            let text = below.as_ref().map_or(raw, |at| &self.buffer.memory[at.clone()]);
            if units::next(text, 0).is_none() {
                return Ok(());
            }
            if level >= self.levels_max {
                return if units::hides_something(text) { Err(ViewFault::TooDeep) } else { Ok(()) };
            }
            if (self.buffer.used + text.len()) as u64 > self.bytes_max {
                return Err(ViewFault::TooLong);
            }
            let start = self.buffer.used;
            match below {
                Some(below) => self.buffer.decode_within(below, Units::Any),
                None => self.buffer.decode(raw, Units::Any),
            };
            self.views.push(View { level: level + 1, at: Some(start..self.buffer.used) });
            self.buffer.separate();
        }
    }

    /// The views, lowest level first.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// The text of view `number`.
    pub fn text<'a>(&'a self, raw: &'a [u8], number: usize) -> &'a [u8] {
        match &self.views[number].at {
            None => raw,
            Some(at) => &self.buffer.memory[at.clone()],
        }
    }

    /// All views but the first with their separators: what is scanned in one go.
    pub fn deeper(&self) -> &[u8] {
        let first = self.views.first().and_then(|view| view.at.as_ref());
        &self.buffer.text()[first.map_or(0, |at| at.end)..]
    }

    /// The text below view `number`: what it was decoded from.
    fn below<'a>(&'a self, raw: &'a [u8], number: usize) -> &'a [u8] {
        match number.checked_sub(1) {
            Some(below) => self.text(raw, below),
            None => raw,
        }
    }

    /// Takes spans of view `number` back to spans of the raw bytes, in place. `spans` must be sorted by
    /// start. Every span is widened to whole units and whole characters.
    pub fn to_raw(&self, raw: &[u8], number: usize, spans: &mut [Range<usize>]) {
        for number in (0..=number).rev() {
            if self.views[number].at.is_none() {
                break;
            }
            let units = if number == 0 { Units::Json } else { Units::Any };
            step_down(self.below(raw, number), units, spans);
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
fn step_down(below: &[u8], units: Units, spans: &mut [Range<usize>]) {
    let mut walk = Walk::new(below, units);
    for span in spans.iter_mut() {
        span.start = walk.unit_around(span.start).start;
    }
    let mut ends: Vec<usize> = (0..spans.len()).collect();
    ends.sort_unstable_by_key(|&place| spans[place].end);
    let mut walk = Walk::new(below, units);
    for place in ends {
        let end = spans[place].end;
        spans[place].end = if end == 0 { 0 } else { walk.unit_around(end - 1).end };
    }
}

struct Walk<'a> {
    below: &'a [u8],
    units: Units,
    /// Place in `below`, and the place in the decoded text that it produces.
    at: usize,
    out: usize,
    /// Where the next unit may begin, at or after `at`.
    next: usize,
}

impl<'a> Walk<'a> {
    fn new(below: &'a [u8], units: Units) -> Walk<'a> {
        let next = units.next_lead(below, 0).unwrap_or(below.len());
        Walk { below, units, at: 0, out: 0, next }
    }

    /// The bytes below that produce byte `target` of the decoded text. Targets must not descend
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
            let unit = self.units.at(&self.below[self.next..]);
            if target < self.out + plain + unit.out_len {
                return self.next..self.next + unit.len;
            }
            self.out += plain + unit.out_len;
            self.at = self.next + unit.len;
            self.next = self.units.next_lead(self.below, self.at).unwrap_or(self.below.len());
        }
    }
}

/// The next piece of `text` from `from` on in which units stand with `margin` bytes around each.
///
/// It begins and ends outside of any unit: one within the margin of another belongs to the same piece,
/// with its own margin.
fn units_around(text: &[u8], from: usize, margin: usize) -> Option<Range<usize>> {
    let first = units::next(text, from)?;
    let start = first.start.saturating_sub(margin).max(from);
    let mut last = first.end;
    while let Some(next) = units::next(text, last) {
        // Both margins meet.
        if next.start > last.saturating_add(margin.saturating_mul(2)) {
            break;
        }
        last = next.end;
    }
    Some(start..text.len().min(last.saturating_add(margin)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(raw: &[u8]) -> Result<Views, ViewFault> {
        let mut views = Views::new();
        views.build(raw, true, 4, 1 << 20)?;
        let hidden = views.around(raw, usize::MAX).map(|_| ());
        views.deepen(raw)?;
        hidden?;
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
