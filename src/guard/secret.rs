//! Where in a match the secret stands, told from the match's two ends.
//!
//! To find a match takes an automaton; to ask it where a group of the match is takes a search that is several times dearer
//! and goes over the match state by state. Most patterns leave no choice: what stands before and behind their
//! group has one length, or ends where the group's letters begin. For those the place is counted out.
//!
//! A pattern `lead(group)tail` is understood when *every* way to read a match puts the group at the same place:
//!
//! | end | told by |
//! |---|---|
//! | [`End::Fixed`] | the lead (or tail) has one length |
//! | [`End::Maybe`] | it is one byte or none, and the group cannot begin (or end) with such a byte |
//! | [`End::Behind`] | the lead ends in a byte that it holds a known number of times |
//! | [`End::Letters`] | it ends (or begins) with a byte that the group cannot hold: the group is a run of its letters |
//! | [`End::Length`] | the group has one length, and its other end is known |
//!
//! Anything else is no [`Secret`], and the expression is asked.

use std::ops::Range;

use regex_syntax::hir::{Class, Hir, HirKind};

/// A set of bytes.
type Bytes = [bool; 256];

/// How one end of the group is told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Fixed(usize),
    Maybe(Box<Bytes>),
    Behind(u8, usize),
    Letters,
    Length(usize),
}

/// Where the secret stands in each match of one pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    start: End,
    end: End,
    /// What the group can hold.
    letters: Box<Bytes>,
}

impl Secret {
    /// How the secret of `hir` is told: its only group, or all of it where it has none. `None` where only the
    /// expression knows. `hir` is the tree that the expression was built from.
    pub(super) fn of(hir: &Hir) -> Option<Secret> {
        let parts = match hir.kind() {
            HirKind::Concat(parts) => &parts[..],
            _ => std::slice::from_ref(hir),
        };
        let groups = hir.properties().explicit_captures_len();
        let is_group = |part: &Hir| matches!(part.kind(), HirKind::Capture(_));
        let (lead, group, tail) = match (groups, parts.iter().position(is_group)) {
            (0, _) => (&[][..], hir, &[][..]),
            (1, Some(at)) => (&parts[..at], &parts[at], &parts[at + 1..]),
            _ => return None,
        };
        if group.properties().minimum_len() == Some(0) {
            return None;
        }
        let letters = held(group);
        let length = length_of(std::slice::from_ref(group));
        let (lead_min, lead_max) = lengths(lead);
        let (_, tail_max) = lengths(tail);
        let before = ends(lead, true);
        let behind = ends(tail, false);
        let mut start = length_of(lead).map(End::Fixed);
        if start.is_none()
            && lead_max == Some(1)
            && apart(&before, &ends(std::slice::from_ref(group), false))
        {
            start = Some(End::Maybe(before.clone()));
        }
        if start.is_none() && lead_min > 0 {
            let mut last = (0..=u8::MAX).filter(|&byte| before[byte as usize]);
            if let (Some(last), None) = (last.next(), last.next()) {
                start = count_all(lead, last).map(|count| End::Behind(last, count));
            }
        }
        let mut end = length_of(tail).map(End::Fixed);
        if end.is_none()
            && tail_max == Some(1)
            && apart(&behind, &ends(std::slice::from_ref(group), true))
        {
            end = Some(End::Maybe(behind.clone()));
        }
        // What needs the other end, where that needs nothing.
        let by_other = |edge: &Bytes| {
            length.map(End::Length).or_else(|| apart(edge, &letters).then_some(End::Letters))
        };
        let (start, end) = match (start, end) {
            (Some(start), Some(end)) => (start, end),
            (Some(start), None) => (start, by_other(&behind)?),
            (None, Some(end)) => (by_other(&before)?, end),
            (None, None) => return None,
        };
        Some(Secret { start, end, letters })
    }

    /// Where the secret stands in a match of `text` that lies at `at`.
    pub(super) fn within(&self, text: &[u8], at: &Range<usize>) -> Range<usize> {
        let start = match &self.start {
            End::Fixed(lead) => Some(at.start + lead),
            End::Maybe(bytes) => Some(at.start + usize::from(bytes[text[at.start] as usize])),
            End::Behind(byte, count) => memchr::memchr_iter(*byte, &text[at.clone()])
                .nth(count - 1)
                .map(|on| at.start + on + 1),
            End::Letters | End::Length(_) => None,
        };
        let end = match (&self.end, start) {
            (End::Fixed(tail), _) => at.end - tail,
            (End::Maybe(bytes), _) => at.end - usize::from(bytes[text[at.end - 1] as usize]),
            (End::Length(length), Some(start)) => start + length,
            (_, Some(start)) => text[start..at.end]
                .iter()
                .position(|&byte| !self.letters[byte as usize])
                .map_or(at.end, |on| start + on),
            (_, None) => at.end,
        };
        let start = start.unwrap_or_else(|| match self.start {
            End::Length(length) => end - length,
            _ => text[at.start..end]
                .iter()
                .rposition(|&byte| !self.letters[byte as usize])
                .map_or(at.start, |on| at.start + on + 1),
        });
        start..end
    }
}

/// No byte is in both.
fn apart(a: &Bytes, b: &Bytes) -> bool {
    a.iter().zip(b).all(|(a, b)| !(a & b))
}

/// Shortest and longest text of `parts`, one behind the other; `None` for no end.
fn lengths(parts: &[Hir]) -> (usize, Option<usize>) {
    let min = parts.iter().map(|part| part.properties().minimum_len().unwrap_or(0)).sum();
    let max = parts.iter().map(|part| part.properties().maximum_len()).sum();
    (min, max)
}

/// The length of `parts`, where all their texts have the same.
fn length_of(parts: &[Hir]) -> Option<usize> {
    let (min, max) = lengths(parts);
    max.filter(|&max| max == min)
}

/// All bytes that a text of `hir` can hold.
fn held(hir: &Hir) -> Box<Bytes> {
    let mut out = Box::new([false; 256]);
    hold(hir, &mut out);
    out
}

fn hold(hir: &Hir, out: &mut Bytes) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => literal.0.iter().for_each(|&byte| out[byte as usize] = true),
        HirKind::Class(class) => hold_class(class, out),
        HirKind::Repetition(repetition) => hold(&repetition.sub, out),
        HirKind::Capture(capture) => hold(&capture.sub, out),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().for_each(|part| hold(part, out));
        }
    }
}

fn hold_class(class: &Class, out: &mut Bytes) {
    let mut range = |from: u8, to: u8| out[from as usize..=to as usize].fill(true);
    match class {
        Class::Bytes(class) => class.ranges().iter().for_each(|of| range(of.start(), of.end())),
        // Its characters have several bytes.
        Class::Unicode(class) if !class.is_ascii() => range(0, u8::MAX),
        Class::Unicode(class) => {
            class.ranges().iter().for_each(|of| range(of.start() as u8, of.end() as u8));
        }
    }
}

/// The bytes with which texts of `parts` can end (`last`) or begin.
fn ends(parts: &[Hir], last: bool) -> Box<Bytes> {
    let mut out = Box::new([false; 256]);
    end_of_all(parts, last, &mut out);
    out
}

fn end_of_all(parts: &[Hir], last: bool, out: &mut Bytes) {
    for place in 0..parts.len() {
        let part = &parts[if last { parts.len() - 1 - place } else { place }];
        end_of(part, last, out);
        if part.properties().minimum_len() != Some(0) {
            break;
        }
    }
}

fn end_of(hir: &Hir, last: bool, out: &mut Bytes) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => {
            let byte = if last { literal.0.last() } else { literal.0.first() };
            byte.into_iter().for_each(|&byte| out[byte as usize] = true);
        }
        HirKind::Class(class) => hold_class(class, out),
        HirKind::Repetition(repetition) => end_of(&repetition.sub, last, out),
        HirKind::Capture(capture) => end_of(&capture.sub, last, out),
        HirKind::Concat(parts) => end_of_all(parts, last, out),
        HirKind::Alternation(parts) => parts.iter().for_each(|part| end_of(part, last, out)),
    }
}

/// How often `byte` stands in every text of `parts`, one behind the other; `None` where that differs.
fn count_all(parts: &[Hir], byte: u8) -> Option<usize> {
    parts.iter().map(|part| count_of(part, byte)).sum()
}

fn count_of(hir: &Hir, byte: u8) -> Option<usize> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(0),
        HirKind::Literal(literal) => Some(memchr::memchr_iter(byte, &literal.0).count()),
        HirKind::Class(_) => {
            let held = held(hir);
            let only = held.iter().filter(|held| **held).count() == 1;
            match held[byte as usize] {
                false => Some(0),
                true => only.then_some(1),
            }
        }
        HirKind::Repetition(repetition) => match count_of(&repetition.sub, byte)? {
            0 => Some(0),
            each => {
                (repetition.max == Some(repetition.min)).then_some(each * repetition.min as usize)
            }
        },
        HirKind::Capture(capture) => count_of(&capture.sub, byte),
        HirKind::Concat(parts) => count_all(parts, byte),
        HirKind::Alternation(parts) => {
            let mut counts = parts.iter().map(|part| count_of(part, byte));
            let first = counts.next()??;
            counts.all(|count| count == Some(first)).then_some(first)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::compile::{expression, parse, without_long_counts};
    use super::*;

    fn secret(pattern: &str) -> Option<Secret> {
        Secret::of(&without_long_counts(&parse(pattern).unwrap()))
    }

    // Mutants: `Maybe` though the group can begin with the byte; `Letters` though it holds the byte before or behind it;
    // `Behind` though the lead holds the byte now and then; a group may be empty.
    #[test]
    fn a_secret_is_counted_out_only_where_every_reading_agrees() {
        for pattern in [
            r"(?:\b|_)([A-Z]{4})(?:\b|_)",
            r"(?:\b|_)(k[A-Z_]{4,9})",
            r"(?:\b|_)(k[A-Z_]{5})[_-]{0,2}(?:[^A-Z_-]|\z)",
            r"(?:key|secret) {0,3}([A-Z]{4})(?:[^A-Z]|\z)",
            r"[a-z]{2}://[^:@/]{0,9}:([^@]{3,9})@",
            r"(?:k|key)[:=]{1,2}([A-Z]{2,9});",
            r"x[:=]{0,2}([A-Z]{2,9})",
            r"key=([A-Z]{2,9})[;,]{0,3}",
            "k[A-Z]{3}",
            r"(k[A-Z]{3})",
        ] {
            assert!(secret(pattern).is_some(), "{pattern}");
        }
        for pattern in [
            r"(?:\b|_)([A-Z_]{4,9})",
            r"(?:\b|_)(k_?[A-Z_]{4})[_-]{0,2}(?:[^A-Z_-]|\z)",
            r"([A-Z]{4,9})[A-Z]?",
            r"[A-Z]{1,2}([A-Z]{2,9});",
            r"a:?b{0,2}:([a-z:]{2,9});",
            r"[ab:]{1,2}:([a-z:]{2,9});",
            r"(?:([A-Z]{3})k){1,2}",
            r"k([A-Z]{0,3});",
            r"a([0-9]{2})|b([0-9]{3})",
            r"a([0-9]{2})b([0-9]{3})",
        ] {
            assert_eq!(secret(pattern), None, "{pattern}");
        }
    }

    // Whatever is understood is what the expression says.
    #[test]
    fn a_secret_stands_where_the_expression_says() {
        let letters = b"kA_-:=@;ab/9. ";
        let mut seed = 7u64;
        let mut found = 0;
        for pattern in [
            r"(?:\b|_)([A-Z]{1,4})(?:\b|_)",
            r"(?:\b|_)(k[A-Z_]{0,3})",
            r"(?:\b|_)(k[A-Z_]{2})[_-]{0,2}(?:[^A-Z_-]|\z)",
            r"[ab]{1,2}:[^:@/]{0,3}:([^@]{1,3})@",
            r"(?:k|ka)[:=]{1,2}([A-Z]{1,3});",
            r"a[:=]{0,2}([A-Z]{1,3})",
            r"k([A-Z]{1,3})[;:]{0,2}",
            r"[ab]{1,3}([A-Z]{2})(?:[^A-Z]|\z)",
        ] {
            let hir = parse(pattern).unwrap();
            let regex = expression(&hir, false).unwrap();
            let secret = secret(pattern).expect(pattern);
            for _ in 0..60_000 {
                let mut text = [0; 12];
                for byte in &mut text {
                    seed = seed
                        .wrapping_mul(0x5851_F42D_4C95_7F2D)
                        .wrapping_add(0x1405_7B7E_F767_814F);
                    *byte = letters[(seed >> 33) as usize % letters.len()];
                }
                let mut captures = regex.create_captures();
                regex.captures(&text, &mut captures);
                if let (Some(all), Some(group)) = (captures.get_group(0), captures.get_group(1)) {
                    found += 1;
                    let text = String::from_utf8_lossy(&text);
                    let counted = secret.within(text.as_bytes(), &(all.start..all.end));
                    assert_eq!(counted, group.start..group.end, "{pattern} {text}");
                }
            }
        }
        assert!(found > 20_000, "{found}");
    }
}
