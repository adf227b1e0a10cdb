//! Byte scans for texts without a fixed part: mail addresses, numbers, account codes.
//!
//! Such patterns slow Hyperscan by a factor of twenty and more, so they never enter it. One pass over
//! 64 bytes at a time turns classes of bytes into bit masks; runs and joints of runs are found by
//! shifting them. Each place that fits is looked at once: shape first, then the rule's expression on
//! the few bytes around it. A detector decides nothing: it may name too many places, never too few.
//! The tests hold it against the expression searched over the whole text.
//!
//! Bound: one candidate is at most 320 bytes, an address.

use super::simd;

/// What a rule can ask for instead of Hyperscan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detector {
    /// Around an `@`.
    Email,
    /// 12 to 19 digits that pass for a card number, 4-4-4-4, 4-6-4 or 4-6-5. A rule whose validator asks for a card number
    /// looks at none but those whose digits, all together, are one.
    Card,
    /// Groups of 3, 2 and 4 digits.
    ThreeTwoFour,
    /// Nine digits, or groups of 3, 2 and 4.
    Nine,
    /// Groups of 3, 3, 3 and 2 digits.
    ThreeThreeThreeTwo,
    /// Groups of 3, 3 and 4 digits, or of 3 and 7, that begin with 2 to 9.
    ThreeThreeFour,
    /// Ten digits that begin with 2 to 9.
    Ten,
    /// A `+` and at least nine digits with short separators.
    Plus,
    /// Two capital letters and two digits, and an account number behind them whose checksum holds.
    Iban,
    /// Two capital letters, six digits in pairs, and a letter from A to D.
    Nino,
    /// Groups of digits joined by dots.
    Dotted,
    /// Three groups of letters, digits, `-` and `_`, joined by dots: twenty or more, six, and twenty-seven or more.
    LongSixLong,
}

/// One place to look at: the expression is searched in `from..to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which detector named it.
    pub detector: Detector,
    /// First byte the match may start at.
    pub from: usize,
    /// End of the text the match may use.
    pub to: usize,
}

impl Detector {
    /// Names in rule files.
    pub const ALL: &'static [(&'static str, Detector)] = &[
        ("email", Detector::Email),
        ("card", Detector::Card),
        ("3-2-4", Detector::ThreeTwoFour),
        ("9", Detector::Nine),
        ("3-3-3-2", Detector::ThreeThreeThreeTwo),
        ("3-3-4", Detector::ThreeThreeFour),
        ("10", Detector::Ten),
        ("plus", Detector::Plus),
        ("iban", Detector::Iban),
        ("nino", Detector::Nino),
        ("dotted", Detector::Dotted),
        ("long-6-long", Detector::LongSixLong),
    ];

    /// The detector called `name`.
    pub fn named(name: &str) -> Option<Detector> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|&(_, detector)| detector)
    }

    /// Its name in rule files.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, other)| *other == self).map_or("", |(name, _)| name)
    }

    /// Bound: bytes of a candidate, with those beside it that say whether it stands by itself.
    pub fn bytes_max(self) -> usize {
        match self {
            // A local part, a domain, and one more byte on each side; an address in front of a host is told by its
            // scheme, and is a candidate where that is not seen.
            Detector::Email => 64 + 1 + 255 + 2,
            Detector::LongSixLong => 2 * LONG_MAX + 6 + 2 + 2,
            _ => 64,
        }
    }

    /// Whether the match `start..end` stands by itself in `text`: not a part of a longer word, number,
    /// identifier or address.
    pub fn stands_alone(self, text: &[u8], start: usize, end: usize) -> bool {
        let before = |back: usize| start.checked_sub(back).map(|at| text[at]);
        let after = |on: usize| text.get(end + on).copied();
        let word = |byte: Option<u8>| byte.is_some_and(is_word);
        match self {
            // Its expression says what may stand beside it.
            Detector::LongSixLong => true,
            Detector::Email => {
                let glued = before(1).is_some_and(is_local) || ends_in_letter(&text[..start]);
                // `user@host:/path` is a place on a machine.
                let place = after(0) == Some(b':') && matches!(after(1), Some(b'/' | b'~'));
                let closed = matches!(after(0), Some(b'@' | b'(' | b'_'));
                !glued && !closed && !place && !in_userinfo(text, start)
            }
            _ => {
                let phone = matches!(self, Detector::ThreeThreeFour | Detector::Plus);
                // `555-0132x12` has an extension, `1-800-…` and `001-415-…` a code of the country.
                let extension = phone
                    && after(0) == Some(b'x')
                    && after(1).is_some_and(|byte| byte.is_ascii_digit());
                let country = phone
                    && [&b"1-"[..], b"001-", b"1.", b"001."].iter().any(|code| {
                        text[..start].strip_suffix(*code).is_some_and(|rest| {
                            !rest
                                .last()
                                .is_some_and(|&byte| is_word(byte) || b"-.+/".contains(&byte))
                        })
                    });
                // `x-1`, `1.2`, `a/1`: a part of something longer.
                let joined_before = match before(1) {
                    Some(byte) if is_word(byte) => true,
                    Some(b'.') if self == Detector::Dotted => true,
                    Some(b'-' | b'.' | b'+') => word(before(2)),
                    Some(b'/' | b'#' | b'@') => true,
                    _ => false,
                };
                // `4111111111111111.0`: tables turn whole numbers into decimals.
                let whole = self == Detector::Card
                    && after(0) == Some(b'.')
                    && after(1) == Some(b'0')
                    && !word(after(2));
                let joined_after = match after(0) {
                    _ if whole => false,
                    Some(byte) if is_word(byte) => true,
                    Some(b'-' | b'.' | b'+' | b'/') => {
                        after(1).is_some_and(|byte| byte.is_ascii_alphanumeric())
                    }
                    _ => false,
                };
                (country || !joined_before) && (extension || !joined_after)
            }
        }
    }

    /// The first place from `at` on, at most `end`, where a match may start that stands by itself on its left.
    pub(super) fn next_start(self, text: &[u8], at: usize, end: usize) -> usize {
        let inside = |at: usize| match (self, text[at - 1]) {
            (Detector::LongSixLong, _) => false,
            (Detector::Email, byte) => is_local(byte) || ends_in_letter(&text[..at]),
            (Detector::Dotted, byte) => is_word(byte) || byte == b'.',
            (_, byte) => is_word(byte),
        };
        (at..end).find(|&at| at == 0 || !inside(at)).unwrap_or(end)
    }

    /// Cuts a match that read too far: what follows an account or telephone number after a blank can
    /// look like more of it. Returns the end.
    pub fn settle(self, text: &[u8], start: usize, end: usize) -> usize {
        let count = |wanted: usize, counts: fn(&u8) -> bool| {
            let mut seen = 0;
            text[start..end]
                .iter()
                .position(|byte| {
                    seen += usize::from(counts(byte));
                    seen == wanted
                })
                .map_or(end, |at| start + at + 1)
        };
        match (self, &text[start..end]) {
            (Detector::Iban, [a, b, ..]) => super::people::iban_length(&[*a, *b])
                .map_or(end, |length| count(length, u8::is_ascii_alphanumeric)),
            (Detector::Plus, [b'+', b'1' | b'7', ..]) => count(11, u8::is_ascii_digit),
            _ => end,
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether `before` ends in a letter beyond ASCII of a script that puts blanks between words: what follows is more of its
/// word (`ren\u{e9}.b@…`). Quotes, dashes, blanks, pictures and the scripts from U+2E80 on (Chinese, Japanese, Korean) are
/// no part of what stands behind them.
fn ends_in_letter(before: &[u8]) -> bool {
    let tail = &before[before.len().saturating_sub(4)..];
    let Some(lead) = tail.iter().rposition(|&byte| byte & 0xc0 != 0x80) else { return false };
    std::str::from_utf8(&tail[lead..])
        .ok()
        .and_then(|text| text.chars().next())
        .is_some_and(|last| !last.is_ascii() && last.is_alphabetic() && last < '\u{2e80}')
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-')
}

/// `scheme://user:password@host` is no mail address; `mailto:` is one.
fn in_userinfo(text: &[u8], start: usize) -> bool {
    let from = start.saturating_sub(96);
    let before = &text[from..start];
    let Some(at) = memchr::memmem::rfind(before, b"://") else { return false };
    !before[at + 3..]
        .iter()
        .any(|byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'"' | b'\'' | b'?'))
}

/// Finds candidates in `text` and calls `found` for each, in order of the byte that named them.
/// Stops early when `found` says false. `marks` is memory that is used again.
pub fn scan(text: &[u8], marks: &mut Marks, found: impl FnMut(Candidate) -> bool) {
    simd::survey(text, &mut marks.0);
    among(text, &marks.0.marks, found);
}

/// [`scan`] for a text that was surveyed.
pub(super) fn among(text: &[u8], marks: &[simd::Marks], mut found: impl FnMut(Candidate) -> bool) {
    for block in marks {
        let mut any = block.any();
        while any != 0 {
            let bit = any.trailing_zeros();
            let mark = 1u64 << bit;
            any &= any - 1;
            let place = block.at + bit as usize;
            // One byte can end two shapes: `AB 41` starts a code and a number.
            let codes = block.tight | block.spaced | block.plus | block.dots;
            if (block.email | block.dotted | codes) & mark != 0 {
                let named = [
                    (block.email & mark != 0).then(|| email_at(text, place)).flatten(),
                    (block.dotted & mark != 0).then(|| dotted_at(text, place)).flatten(),
                    (block.tight & mark != 0).then(|| iban_at(text, place - 3)).flatten(),
                    (block.tight & mark != 0).then(|| nino_at(text, place - 3)).flatten(),
                    (block.spaced & mark != 0).then(|| nino_at(text, place - 4)).flatten(),
                    (block.plus & mark != 0).then(|| plus_at(text, place)).flatten(),
                    (block.dots & mark != 0).then(|| dots_at(text, place)).flatten(),
                ];
                for candidate in named.into_iter().flatten() {
                    if !found(candidate) {
                        return;
                    }
                }
            }
            let start = if block.nine & mark != 0 {
                Some(place - 8)
            } else if block.joint & mark != 0 {
                group_before(text, place)
            } else {
                None
            };
            if start.is_some_and(|start| !digits_at(text, start, &mut found)) {
                return;
            }
        }
    }
}

/// Memory of [`scan`].
#[derive(Debug, Default)]
pub struct Marks(simd::Survey);

/// An account number at `from`: as many letters and digits as its country has, with single blanks
/// between, and the right remainder.
fn iban_at(text: &[u8], from: usize) -> Option<Candidate> {
    let length = super::people::iban_length(text[from..].first_chunk()?)?;
    let mut seen = 0;
    let mut to = from;
    for &byte in text[from..].iter().take(length + length / 4 + 1) {
        match byte {
            b'A'..=b'Z' | b'0'..=b'9' => seen += 1,
            b' ' => {}
            _ => return None,
        }
        to += 1;
        if seen == length {
            break;
        }
    }
    super::people::iban(&text[from..to]).then_some(Candidate { detector: Detector::Iban, from, to })
}

/// Six digits and a letter from A to D behind two letters at `from`, with blanks between pairs.
fn nino_at(text: &[u8], from: usize) -> Option<Candidate> {
    let mut seen = 0;
    for (place, &byte) in text[from + 2..].iter().enumerate().take(11) {
        match byte {
            b'0'..=b'9' if seen < 6 => seen += 1,
            b'A'..=b'D' if seen == 6 => {
                return Some(Candidate { detector: Detector::Nino, from, to: from + 3 + place });
            }
            b' ' => {}
            _ => return None,
        }
    }
    None
}

/// Both sides of an `@`: a local part before it, a letter or digit after it.
fn email_at(text: &[u8], place: usize) -> Option<Candidate> {
    let before = *text.get(place.checked_sub(1)?)?;
    let after = *text.get(place + 1)?;
    if !(is_local(before) || before == b'\'') || !after.is_ascii_alphanumeric() {
        return None;
    }
    let domain = &text[place + 1..text.len().min(place + 1 + 255)];
    let end = domain
        .iter()
        .position(|&byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')));
    let domain = &domain[..end.unwrap_or(domain.len())];
    // `pkg@1.2.3`: no label that could end a domain.
    domain.windows(2).find(|pair| pair[0] == b'.' && pair[1].is_ascii_alphabetic())?;
    let start = place.saturating_sub(64);
    let local = &text[start..place];
    let from = local
        .iter()
        .rposition(|&byte| !(is_local(byte) || byte == b'\''))
        .map_or(start, |at| start + at + 1);
    Some(Candidate { detector: Detector::Email, from, to: place + 1 + domain.len() })
}

/// Only the first joint of a dotted number is a candidate.
fn dotted_at(text: &[u8], place: usize) -> Option<Candidate> {
    let dot = place - 1;
    let first = text[..dot].iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |at| at + 1);
    if dot - first > 3 || (first > 0 && (text[first - 1] == b'.' || is_word(text[first - 1]))) {
        return None;
    }
    // Four groups of one to three digits.
    let mut groups = 1;
    let mut run = 0;
    for &byte in &text[place..text.len().min(first + 16)] {
        match byte {
            b'0'..=b'9' => run += 1,
            b'.' if run > 0 => {
                groups += 1;
                run = 0;
            }
            _ => break,
        }
        if run > 3 {
            return None;
        }
    }
    (groups == 4 - usize::from(run > 0)).then(|| Candidate {
        detector: Detector::Dotted,
        from: first,
        to: text.len().min(first + 17),
    })
}

/// Bound: the longest group on either side of two dots that is looked at.
const LONG_MAX: usize = 48;

/// Six letters before the dot at `place`, and long groups on both sides.
fn dots_at(text: &[u8], place: usize) -> Option<Candidate> {
    let is_letter = |byte: &&u8| is_word(**byte) || **byte == b'-';
    let first = place - 7;
    let before = text[..first].iter().rev().take(LONG_MAX).take_while(is_letter).count();
    let after = text[place + 1..].iter().take(LONG_MAX).take_while(is_letter).count();
    let six = text[first + 1..place].iter().all(|byte| is_letter(&byte));
    (six && before >= 20 && after >= 27).then(|| Candidate {
        detector: Detector::LongSixLong,
        from: first - before,
        // One byte more: the expression looks at what follows.
        to: text.len().min(place + 1 + after + 1),
    })
}

/// A `+` before `place` and enough digits after it.
fn plus_at(text: &[u8], place: usize) -> Option<Candidate> {
    let mut digits = 0;
    let mut gap = 0;
    let mut end = place;
    for (on, &byte) in text[place..].iter().enumerate().take(40) {
        match byte {
            b'0'..=b'9' => {
                digits += 1;
                gap = 0;
                end = place + on + 1;
            }
            b' ' | b'-' | b'.' | b'(' | b')' if gap < 2 => gap += 1,
            _ => break,
        }
    }
    (digits >= 9).then_some(Candidate { detector: Detector::Plus, from: place - 1, to: end })
}

/// Where the group of three or four digits starts that ends before the gap before `place`; a longer one
/// begins no shape, nor does one that follows a letter.
fn group_before(text: &[u8], place: usize) -> Option<usize> {
    let gap = (1..GAP_MAX).find(|gap| text[place - 1 - gap].is_ascii_digit()).unwrap_or(GAP_MAX);
    let end = place - gap;
    let from = end.saturating_sub(5);
    let length = text[from..end].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let start = end - length;
    let glued = start > 0 && is_word(text[start - 1]);
    (matches!(length, 3 | 4) && !glued).then_some(start)
}

/// Bound: what stands between two groups of digits, `)` and two more.
const GAP_MAX: usize = 3;

/// Most groups of digits that a shape has.
const GROUPS_MAX: usize = 4;

/// A comb of digits that starts at `start`: groups with at most [`GAP_MAX`] separators between them. Each shape
/// at its front is named; false when the caller has enough.
fn digits_at(text: &[u8], start: usize, found: &mut impl FnMut(Candidate) -> bool) -> bool {
    let mut groups = [0u8; GROUPS_MAX];
    let mut count = 0;
    let mut end = start;
    loop {
        // Why 20: no shape has more than 19 digits in a group.
        let run = text[end..].iter().take(20).take_while(|byte| byte.is_ascii_digit()).count();
        groups[count] = run as u8;
        count += 1;
        end += run;
        // What begins no longer shape is not read further: dates, times, counters.
        let more =
            matches!(&groups[..count], [3 | 4] | [3, 2 | 3] | [3, 3, 3] | [4, 4 | 6] | [4, 4, 4]);
        if !more {
            break;
        }
        let gap =
            text[end..].iter().take(GAP_MAX).take_while(|byte| b" -.)".contains(byte)).count();
        if gap == 0 || !text.get(end + gap).is_some_and(u8::is_ascii_digit) {
            break;
        }
        end += gap;
    }
    let first = text[start];
    let area = first >= b'2';
    let named: &[Detector] = match &groups[..count] {
        [12..=19, ..] => {
            let digits = &text[start..start + groups[0] as usize];
            if super::people::card_any(digits) { &[Detector::Card] } else { &[] }
        }
        [4, 4, 4, 4, ..] | [4, 6, 4 | 5, ..] => &[Detector::Card],
        [3, 2, 4, ..] => &[Detector::ThreeTwoFour, Detector::Nine],
        [9, ..] => &[Detector::Nine],
        [3, 3, 3, 2, ..] => &[Detector::ThreeThreeThreeTwo],
        [3, 3, 4, ..] | [3, 7, ..] if area => &[Detector::ThreeThreeFour],
        [10, ..] if area => &[Detector::Ten],
        _ => &[],
    };
    let from = start - usize::from(start > 0 && text[start - 1] == b'(');
    named.iter().all(|&detector| found(Candidate { detector, from, to: end }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<(Detector, &str)> {
        let mut out = vec![];
        scan(text.as_bytes(), &mut Marks::default(), |candidate| {
            out.push((candidate.detector, &text[candidate.from..candidate.to]));
            true
        });
        out
    }

    // Mutants: `prev` without the bits of the block before; `digits_start` with all ones for them.
    #[test]
    fn places_are_named_wherever_they_stand() {
        for pad in 0..130 {
            let pad = " ".repeat(pad);
            for (text, detector) in [
                ("a.b@c.example", Detector::Email),
                ("4111 1111 1111 1111", Detector::Card),
                ("+1 (415) 555-2671", Detector::Plus),
                ("(415) 555-2671", Detector::ThreeThreeFour),
                // Two blanks behind the bracket were one too many.
                ("(415)  555-2671", Detector::ThreeThreeFour),
                ("GB82WEST12345698765432", Detector::Iban),
                ("AB 12 34 56 C", Detector::Nino),
                ("8.8.4.4", Detector::Dotted),
                (
                    "NzU2MDcxNzkwMjU5NjE0MjQx.GB5tZg.f4e1vYFjo0G7eezpGsEm3JYUvLB5LMuUkCiVoj",
                    Detector::LongSixLong,
                ),
            ] {
                let whole = format!("{pad}{text}");
                let all = named(&whole);
                assert!(
                    all.iter().any(|(kind, seen)| *kind == detector && seen.starts_with(text)),
                    "{all:?}"
                );
            }
        }
    }

    #[test]
    fn ordinary_identifiers_are_not_named() {
        assert_eq!(named("2026-11-22T08:21:58Z v1.2.3 3.14 0x7fff a1b2c3 @types/node"), []);
    }

    // Nothing but ASCII blanks and signs was taken for the begin of an address. Mutants: whatever is not ASCII glues, or
    // is no blank, or is a digit; a letter of any script does, or of those before U+3040 or U+AC00; none from U+0590 on
    // does; of characters only those of two bytes are looked at; either function does not ask.
    #[test]
    fn an_address_stands_alone_behind_a_quote_or_a_word_of_another_script() {
        for (before, alone) in [
            ("\u{201c}", true),
            ("\u{ab}", true),
            ("\u{a0}", true),
            ("\u{2013}", true),
            ("\u{1f4e7}", true),
            ("\u{90ae}\u{7bb1}\u{ff1a}", true),
            ("\u{90ae}\u{7bb1}", true),
            ("\u{3005}", true),
            ("\u{306f}", true),
            ("\u{c740}", true),
            ("\u{b2}", true),
            ("\u{663}", true),
            ("ren\u{e9}", false),
            ("\u{43f}", false),
            ("\u{5d0}", false),
            ("\u{928}", false),
            ("\u{10d0}", false),
            ("x", false),
        ] {
            let text = format!("{before}bob.smith@corp-mail.io");
            let (from, end) = (before.len(), text.len());
            let stands = Detector::Email.stands_alone(text.as_bytes(), from, end);
            assert_eq!(stands, alone, "{text}");
            let next = Detector::Email.next_start(text.as_bytes(), from, end);
            assert_eq!(next == from, alone, "{text}");
        }
    }

    proptest::proptest! {
        // Mutants: a blank stands inside too; a dot does, in account numbers.
        #[test]
        fn no_start_is_passed_over_that_could_stand_alone(
            text in "[a1 .@\u{e9}_%+x-]{0,12}", at in 0usize..12
        ) {
            let text = text.as_bytes();
            let at = at.min(text.len());
            for &(name, detector) in Detector::ALL {
                let next = detector.next_start(text, at, text.len());
                for start in at..next {
                    for end in start + 1..=text.len() {
                        let alone = detector.stands_alone(text, start, end);
                        proptest::prop_assert!(!alone, "{name}: {start}..{end} before {next}");
                    }
                }
            }
        }
    }
}
