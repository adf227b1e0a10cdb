//! Units: what stands for one character at one place of an encoded text.
//!
//! | begins with | unit | decodes to |
//! |---|---|---|
//! | `\` | an escape of a JSON string (RFC 8259 §7) | its character |
//! | `\x`, `\u{`, `\0` to `\3` | escapes of C, shells and scripts: `\x67`, `\u{67}`, `\147` | the byte, its character |
//! | `%` | two hexadecimal digits (RFC 3986 §2.1) | the byte |
//! | `&` | a character reference of HTML: decimal, hexadecimal, or a name for a sign of ASCII | its character |
//! | ESC `[` | a control sequence of terminals (ECMA-48 §5.4), as colours are | nothing |
//! | C2 and more | a character that is not seen ([`UNSEEN`]): soft hyphen, zero width, fillers, marks of direction, tags | nothing |
//!
//! Behind the first level nobody can know which coding a text is in, so all of them are taken off at once, one level
//! at a time: `%5Cu0041`, `\u00255C`, in any order. What is no unit stands for itself.

use super::simd;

/// Characters that are not seen, first and last of each range: Default_Ignorable_Code_Point (Unicode 16,
/// DerivedCoreProperties.txt), and the marks of interlinear annotations, U+FFF9 to U+FFFB.
pub(super) const UNSEEN: &[(u32, u32)] = &[
    (0xad, 0xad),
    (0x34f, 0x34f),
    (0x61c, 0x61c),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x200b, 0x200f),
    (0x202a, 0x202e),
    (0x2060, 0x206f),
    (0x3164, 0x3164),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffb),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0xe0000, 0xe0fff),
];

/// What stands at one place of an encoded text: `len` bytes that decode to `out[..out_len]`.
pub(super) struct Unit {
    pub(super) len: usize,
    pub(super) out: [u8; 4],
    pub(super) out_len: usize,
}

impl Unit {
    fn plain(byte: u8) -> Unit {
        Unit { len: 1, out: [byte, 0, 0, 0], out_len: 1 }
    }

    fn of(len: usize, value: u32) -> Unit {
        let mut out = [0; 4];
        let out_len = char::from_u32(value).unwrap_or('\u{fffd}').encode_utf8(&mut out).len();
        Unit { len, out, out_len }
    }
}

pub(super) use simd::Units;

impl Units {
    /// The unit at the start of `text`.
    pub(super) fn at(self, text: &[u8]) -> Unit {
        match self {
            Units::Json => json(text),
            Units::Any => any(text),
        }
    }

    /// [`Units::at`] as [`simd::unescape`] wants it.
    pub(super) fn decode(self, text: &[u8], out: &mut [u8]) -> (usize, usize) {
        let unit = self.at(text);
        out[..unit.out_len].copy_from_slice(&unit.out[..unit.out_len]);
        (unit.len, unit.out_len)
    }

    /// A place before `end`, or there, that no unit of `text` goes over which begins at `from` or behind it: as far as
    /// the longest unit reaches no lead stands before it. `None` where units stand too close to tell.
    pub(super) fn outside(self, text: &[u8], from: usize, end: usize) -> Option<usize> {
        let (longest, is_lead): (usize, fn(u8) -> bool) = match self {
            Units::Json => (JSON_BYTES_MAX, |byte| byte == b'\\'),
            Units::Any => (UNIT_BYTES_MAX, simd::is_lead),
        };
        let mut end = end;
        for _ in 0..OUTSIDE_TRIES_MAX {
            let before = end.checked_sub(longest).filter(|&before| before > from)?;
            match text[before..end].iter().position(|&byte| is_lead(byte)) {
                None => return Some(end),
                Some(on) => end = before + on,
            }
        }
        None
    }

    /// Where a unit may begin, from `from` on.
    pub(super) fn next_lead(self, text: &[u8], from: usize) -> Option<usize> {
        match self {
            Units::Json => memchr::memchr(b'\\', &text[from..]).map(|on| from + on),
            Units::Any => simd::next_lead(text, from),
        }
    }
}

/// The next unit of `text` that is longer than a byte, from `from` on. What is none is passed, like a decoder
/// passes it.
pub(super) fn next(text: &[u8], mut from: usize) -> Option<std::ops::Range<usize>> {
    while let Some(at) = simd::next_lead(text, from) {
        let unit = any(&text[at..]);
        if unit.len > 1 {
            return Some(at..at + unit.len);
        }
        from = at + 1;
    }
    None
}

/// [`next`] in a text that was surveyed.
pub(super) fn next_of(
    text: &[u8],
    survey: &simd::Survey,
    mut from: usize,
) -> Option<std::ops::Range<usize>> {
    while let Some(at) = survey.next_lead(from) {
        let unit = any(&text[at..]);
        if unit.len > 1 {
            return Some(at..at + unit.len);
        }
        from = at + 1;
    }
    None
}

/// Bound: places that [`Units::outside`] looks at.
const OUTSIDE_TRIES_MAX: usize = 16;

/// Bound: bytes of an escape of JSON: both halves of a surrogate pair.
const JSON_BYTES_MAX: usize = 12;

/// Bound: bytes of a unit: of the longest sequence.
const UNIT_BYTES_MAX: usize = 3 + SEQUENCE_BYTES_MAX;

/// Where the unit begins whose rest is still to come behind `text`; of a numeric reference without a semicolon more
/// digits may come.
pub(super) fn cut(text: &[u8]) -> Option<usize> {
    let last = text.len().saturating_sub(UNIT_BYTES_MAX);
    (last..text.len()).find(|at| is_cut(&text[*at..]))
}

/// The unit that begins before `at` and ends behind it. Of two backslashes the second may begin one too: an escape a
/// level deeper.
pub(super) fn around(text: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let from = at.saturating_sub(UNIT_BYTES_MAX);
    // Nearly always no unit begins there; all bytes are asked, because so the compiler asks many at once.
    let none =
        |bytes: &[u8]| !bytes.iter().fold(false, |any, &byte| any | simd::is_lead_like(byte));
    let none = match text[..at].last_chunk::<UNIT_BYTES_MAX>() {
        Some(before) => none(before),
        None => none(&text[..at]),
    };
    if none {
        return None;
    }
    (from..at)
        .filter(|&start| simd::is_lead(text[start]))
        .map(|start| start..start + any(&text[start..]).len)
        .find(|unit| unit.end > at)
}

/// Whether a unit begins like `text` and is longer.
fn is_cut(text: &[u8]) -> bool {
    let all_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    match text {
        [ESCAPE] => true,
        [ESCAPE, b'[', rest @ ..] => {
            rest.len() <= SEQUENCE_BYTES_MAX && rest.iter().all(|byte| matches!(byte, 0x20..=0x3f))
        }
        [b'%', digits @ ..] => digits.len() < 2 && all_hex(digits),
        [b'\\'] => true,
        [b'\\', b'x', digits @ ..] => digits.len() < 2 && all_hex(digits),
        [b'\\', b'0'..=b'3'] | [b'\\', b'0'..=b'3', b'0'..=b'7'] => true,
        [b'\\', b'u', b'{', digits @ ..] => digits.len() <= 6 && all_hex(digits),
        [b'\\', b'u', digits @ ..] if digits.len() < 4 => all_hex(digits),
        [b'\\', b'u', rest @ ..] => {
            // The second half of a surrogate pair.
            let (first, low) = rest.split_at(4);
            let digits = low.get(2..).unwrap_or_default();
            matches!(hex(first), Some(0xd800..=0xdbff))
                && (b"\\u".starts_with(low) || low.starts_with(b"\\u"))
                && digits.len() < 4
                && all_hex(digits)
        }
        [b'&', b'#', b'x' | b'X', digits @ ..] => {
            digits.len() <= REFERENCE_DIGITS_MAX && all_hex(digits)
        }
        [b'&', b'#', digits @ ..] => {
            digits.len() <= REFERENCE_DIGITS_MAX && digits.iter().all(u8::is_ascii_digit)
        }
        [b'&', name @ ..] => {
            let names = NAMES.iter().map(|(name, _)| *name).chain(UNSEEN_NAMES.iter().copied());
            names.into_iter().any(|whole| whole.len() > name.len() && whole.starts_with(name))
        }
        // Half of a character, of a text whose bytes were encoded.
        [first @ 0xc2..=0xf4, rest @ ..] => {
            let more = 1 + usize::from(*first >= 0xe0) + usize::from(*first >= 0xf0);
            rest.len() < more && rest.iter().all(|byte| byte & 0xc0 == 0x80)
        }
        _ => false,
    }
}

/// Whether a unit remains in `text` that hides something. A run of backslashes, or one before a quote, does not:
/// both stand for themselves at every level. Nor does one before a slash where no part of a key or an address goes on
/// (`s/\\/\//` of scripts). An end of a line does, also before a blank or a bracket: rules ask for them.
pub(super) fn hides_something(text: &[u8]) -> bool {
    let mut from = 0;
    while let Some(unit) = next(text, from) {
        let hides = match &text[unit.clone()] {
            [b'\\', b'"' | b'\\'] => false,
            [b'\\', b'/'] => {
                let before = text[..unit.start].iter().rev().find(|byte| **byte != b'\\');
                before.is_some_and(|byte| byte.is_ascii_alphanumeric() || b":+=_-.@".contains(byte))
            }
            _ => true,
        };
        if hides {
            return true;
        }
        // Why not behind it: the second of two backslashes may begin an escape.
        from = unit.start + 1;
    }
    false
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, &digit| Some(value << 4 | (digit as char).to_digit(16)?))
}

fn hex4(digits: &[u8]) -> Option<u32> {
    hex(digits.get(..4)?)
}

/// The unit at the start of `text`, which begins with a backslash. What is no escape of RFC 8259 §7
/// stands for itself: deeper levels are guesses, and `\d` or `C:\Users` are no escapes.
fn json(text: &[u8]) -> Unit {
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
            Unit::of(len, value)
        }
        _ => Unit::plain(b'\\'),
    }
}

/// The escape at the start of `text`, which begins with a backslash, as JSON or languages of programs write it.
fn escape(text: &[u8]) -> Unit {
    let byte = |byte: u32| Unit { len: 4, out: [byte as u8, 0, 0, 0], out_len: 1 };
    match *text {
        [_, b'x', high, low, ..] => hex(&[high, low]).map_or(Unit::plain(b'\\'), byte),
        [_, a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
            byte(u32::from(a & 7) << 6 | u32::from(b & 7) << 3 | u32::from(c & 7))
        }
        [_, b'u', b'{', ..] => {
            let rest = &text[3..];
            let digits = rest.iter().take(7).take_while(|digit| digit.is_ascii_hexdigit()).count();
            match hex(&rest[..digits]) {
                Some(value) if (1..=6).contains(&digits) && rest.get(digits) == Some(&b'}') => {
                    Unit::of(4 + digits, value)
                }
                _ => Unit::plain(b'\\'),
            }
        }
        _ => json(text),
    }
}

/// The unit of any coding at the start of `text`, which begins with a sign or is not ASCII.
fn any(text: &[u8]) -> Unit {
    match *text {
        [b'\\', ..] => escape(text),
        [b'%', high, low, ..] => match hex(&[high, low]) {
            Some(byte) => Unit { len: 3, out: [byte as u8, 0, 0, 0], out_len: 1 },
            None => Unit::plain(b'%'),
        },
        [b'&', ..] => reference(text),
        [ESCAPE, b'[', ..] => match sequence(text) {
            Some(len) => Unit { len, out: [0; 4], out_len: 0 },
            None => Unit::plain(ESCAPE),
        },
        [0x80..=0xff, ..] => match unseen(text) {
            Some(len) => Unit { len, out: [0; 4], out_len: 0 },
            None => Unit::plain(text[0]),
        },
        [byte, ..] => Unit::plain(byte),
        [] => Unit { len: 0, out: [0; 4], out_len: 0 },
    }
}

/// The control character ESC.
const ESCAPE: u8 = 0x1b;

/// Bound: parameters and signs of a control sequence, in bytes; colours of 24 bits, before and behind, have 36.
const SEQUENCE_BYTES_MAX: usize = 48;

/// Bytes of the control sequence at the start of `text`, which begins with ESC and `[` (ECMA-48 §5.4): parameters, signs, and a
/// last byte. A terminal shows nothing in its place.
fn sequence(text: &[u8]) -> Option<usize> {
    let rest = &text[2..];
    let rest = &rest[..rest.len().min(SEQUENCE_BYTES_MAX + 1)];
    let parameters = rest.iter().take_while(|byte| matches!(byte, 0x30..=0x3f)).count();
    let signs = rest[parameters..].iter().take_while(|byte| matches!(byte, 0x20..=0x2f)).count();
    matches!(rest.get(parameters + signs), Some(0x40..=0x7e)).then_some(2 + parameters + signs + 1)
}

/// Bytes of the character at the start of `text`, which is not ASCII, when it is one that is not seen.
fn unseen(text: &[u8]) -> Option<usize> {
    let (len, first) = match *text.first()? {
        byte @ 0xc2..=0xdf => (2, byte & 0x1f),
        byte @ 0xe0..=0xef => (3, byte & 0x0f),
        byte @ 0xf0..=0xf4 => (4, byte & 0x07),
        _ => return None,
    };
    let mut value = u32::from(first);
    for &byte in text.get(1..len)? {
        if byte & 0xc0 != 0x80 {
            return None;
        }
        value = value << 6 | u32::from(byte & 0x3f);
    }
    // Most of what is asked for are dashes and quotes, U+2010 to U+201F.
    let range = UNSEEN.iter().find(|(_, last)| value <= *last)?;
    (value >= range.0).then_some(len)
}

/// Names of signs that stand in secrets or around them (HTML, named character references).
const NAMES: &[(&[u8], u8)] = &[
    (b"amp;", b'&'),
    (b"lt;", b'<'),
    (b"gt;", b'>'),
    (b"quot;", b'"'),
    (b"apos;", b'\''),
    (b"nbsp;", b' '),
    (b"Tab;", b'\t'),
    (b"NewLine;", b'\n'),
    (b"excl;", b'!'),
    (b"num;", b'#'),
    (b"dollar;", b'$'),
    (b"percnt;", b'%'),
    (b"lpar;", b'('),
    (b"rpar;", b')'),
    (b"ast;", b'*'),
    (b"plus;", b'+'),
    (b"comma;", b','),
    (b"hyphen;", b'-'),
    (b"dash;", b'-'),
    (b"period;", b'.'),
    (b"sol;", b'/'),
    (b"colon;", b':'),
    (b"semi;", b';'),
    (b"equals;", b'='),
    (b"quest;", b'?'),
    (b"commat;", b'@'),
    (b"lsqb;", b'['),
    (b"lbrack;", b'['),
    (b"bsol;", b'\\'),
    (b"rsqb;", b']'),
    (b"rbrack;", b']'),
    (b"Hat;", b'^'),
    (b"lowbar;", b'_'),
    (b"UnderBar;", b'_'),
    (b"grave;", b'`'),
    (b"lcub;", b'{'),
    (b"lbrace;", b'{'),
    (b"verbar;", b'|'),
    (b"vert;", b'|'),
    (b"rcub;", b'}'),
    (b"rbrace;", b'}'),
];

/// Names of characters that are not seen.
const UNSEEN_NAMES: &[&[u8]] = &[
    b"shy;",
    b"zwnj;",
    b"zwj;",
    b"lrm;",
    b"rlm;",
    b"ZeroWidthSpace;",
    b"NegativeVeryThinSpace;",
    b"NegativeThinSpace;",
    b"NegativeMediumSpace;",
    b"NegativeThickSpace;",
    b"NoBreak;",
    b"ApplyFunction;",
    b"af;",
    b"InvisibleTimes;",
    b"it;",
    b"InvisibleComma;",
    b"ic;",
];

/// Bound: the longest of the names, with its semicolon.
const NAME_BYTES_MAX: usize = "NegativeVeryThinSpace;".len();

/// The first letters of all names.
const NAMES_BEGIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < NAMES.len() {
        table[NAMES[at].0[0] as usize] = true;
        at += 1;
    }
    at = 0;
    while at < UNSEEN_NAMES.len() {
        table[UNSEEN_NAMES[at][0] as usize] = true;
        at += 1;
    }
    table
};

/// Bound: digits of a numeric reference, leading zeros included. More of them stand for themselves.
const REFERENCE_DIGITS_MAX: usize = 12;

/// The character reference at the start of `text`, which begins with `&`. A numeric one may lack its semicolon, as
/// browsers allow (HTML, numeric character reference end state).
fn reference(text: &[u8]) -> Unit {
    let rest = &text[1..];
    if !rest.first().is_some_and(|&byte| byte == b'#' || NAMES_BEGIN[byte as usize]) {
        return Unit::plain(b'&');
    }
    if rest.first() == Some(&b'#') {
        let (radix, skip) =
            if matches!(rest.get(1), Some(b'x' | b'X')) { (16, 2) } else { (10, 1) };
        let digits = &rest[skip.min(rest.len())..];
        let count = digits
            .iter()
            .take(REFERENCE_DIGITS_MAX + 1)
            .take_while(|digit| (**digit as char).is_digit(radix))
            .count();
        if count == 0 || count > REFERENCE_DIGITS_MAX {
            return Unit::plain(b'&');
        }
        let value = digits[..count].iter().fold(0u64, |value, &digit| {
            value * u64::from(radix) + u64::from((digit as char).to_digit(radix).unwrap_or(0))
        });
        let semicolon = usize::from(digits.get(count) == Some(&b';'));
        return Unit::of(1 + skip + count + semicolon, u32::try_from(value).unwrap_or(u32::MAX));
    }
    // Nearly every `&` is an operator: without a semicolon soon it is no name.
    let near = &rest[..rest.len().min(NAME_BYTES_MAX)];
    if !near.contains(&b';') {
        return Unit::plain(b'&');
    }
    let begins = |name: &[u8]| name[0] == rest[0] && rest.starts_with(name);
    if let Some((name, byte)) = NAMES.iter().find(|(name, _)| begins(name)) {
        return Unit { len: 1 + name.len(), out: [*byte, 0, 0, 0], out_len: 1 };
    }
    match UNSEEN_NAMES.iter().find(|name| begins(name)) {
        Some(name) => Unit { len: 1 + name.len(), out: [0; 4], out_len: 0 },
        None => Unit::plain(b'&'),
    }
}

/// `unit` written anew for another byte of ASCII, in its own length; `None` where it cannot be.
pub(super) fn rewrite(unit: &[u8], byte: u8) -> Option<Vec<u8>> {
    let new = match *unit {
        [_] => vec![byte],
        [b'\\', b'u', b'{', ..] => {
            let width = unit.len() - 4;
            format!("\\u{{{byte:0width$x}}}").into_bytes()
        }
        [b'\\', b'x', _, _] => format!("\\x{byte:02x}").into_bytes(),
        [b'\\', _, _, _] => format!("\\{byte:03o}").into_bytes(),
        [b'\\', b'u', _, _, _, _] => format!("\\u{byte:04x}").into_bytes(),
        [b'%', _, _] => format!("%{byte:02x}").into_bytes(),
        [b'&', b'#', x @ (b'x' | b'X'), ..] => {
            let end = if unit.ends_with(b";") { ";" } else { "" };
            let width = unit.len() - 3 - end.len();
            format!("&#{}{byte:0width$x}{end}", x as char).into_bytes()
        }
        [b'&', b'#', ..] => {
            let end = if unit.ends_with(b";") { ";" } else { "" };
            let width = unit.len() - 2 - end.len();
            format!("&#{byte:0width$}{end}").into_bytes()
        }
        [b'&', ..] => {
            let width = unit.len().checked_sub(3)?;
            format!("&#{byte:0width$};").into_bytes()
        }
        _ => return None,
    };
    (new.len() == unit.len()).then_some(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy as _, prop_assert_eq, prop_oneof, proptest};

    proptest! {
        // Mutants: a short text is not looked at; `%` or characters are no leads.
        #[test]
        fn the_unit_around_a_place_is_the_first_of_all_that_go_over_it(
            pieces in proptest::collection::vec(prop_oneof![
                6 => "[a-z0-9 ;]{0,30}",
                3 => proptest::sample::select(vec![
                    "\\n", "\\u0041", "\\ud83d\\ude00", "%41", "%", "&amp;", "&#00000065;", "&",
                    "&NegativeVeryThinSpace;", "\u{1b}[38;2;255;100;100;48;2;255;100;100m",
                    "\u{1b}[38;2;255;100;100;48;2;255;100;100;00000000000001m", "\u{200b}",
                    "\u{2013}", "\u{e0001}", "\u{e9}", "\\\\",
                ]).prop_map(str::to_owned),
            ], 0..8)
        ) {
            let text = pieces.concat().into_bytes();
            for at in 0..=text.len() {
                let naive = (at.saturating_sub(UNIT_BYTES_MAX)..at)
                    .map(|start| start..start + any(&text[start..]).len)
                    .find(|unit| unit.end > at);
                prop_assert_eq!(around(&text, at), naive, "{}", at);
            }
        }
    }

    fn decoded(text: &str) -> String {
        let (mut out, mut at) = (vec![], 0);
        while at < text.len() {
            let unit = any(&text.as_bytes()[at..]);
            out.extend_from_slice(&unit.out[..unit.out_len]);
            at += unit.len;
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_unit_is_what_its_coding_says() {
        for (text, meant) in [
            (r"\u0067hp\/\n", "ghp/\n"),
            (r"\x67\150\u{70}\u{00005f}\x5F", "ghp__"),
            ("%67hp%5f%5F", "ghp__"),
            ("&#103;&#x68;&#X70;&lowbar;&#0000065;&#66&amp;lt;", "ghp_AB&lt;"),
            (
                "g\u{200b}h\u{ad}p\u{2060}_\u{feff}a\u{e0041}b\u{202e}&shy;c&ZeroWidthSpace;",
                "ghp_abc",
            ),
            ("\u{1b}[32mghp\u{1b}[0;1m_\u{1b}[38;2;255;0;10;48;5;12ma\u{1b}[K\u{1b}[?25l", "ghp_a"),
        ] {
            assert_eq!(decoded(text), meant, "{text}");
        }
        // What is no unit stays.
        for text in [
            r"\d C:\Users \xy \400 \08 \u{} \u{0000067} \u{67",
            "100% %4 %zz",
            "a&b &c; &#; &#x; &# &unknown;",
            "–’…é😀",
            "&#1234567890123;",
            "\u{1b}(B \u{1b}[ \u{1b}[1;\u{e9} \u{1b}",
        ] {
            assert_eq!(decoded(text), text);
        }
    }

    // Mutant: U+FFA0 left out of the table.
    #[test]
    fn the_table_is_what_unicode_ignores() {
        let class = r"[\p{Default_Ignorable_Code_Point}\u{fff9}-\u{fffb}]";
        let hir = regex_syntax::parse(class).expect("a class");
        let regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(class)) =
            hir.kind()
        else {
            panic!("{hir:?}")
        };
        let ranges = class.iter().map(|range| (range.start() as u32, range.end() as u32));
        assert_eq!(ranges.collect::<Vec<_>>(), UNSEEN);
    }

    // Mutants: `value < *last` in `unseen`; `=` for `|=` in `simd::UNSEEN`.
    #[test]
    fn every_character_that_is_not_seen_is_folded_however_it_is_written() {
        let mut survey = simd::Survey::default();
        for value in 0x80..0x11_0000 {
            let Some(character) = char::from_u32(value) else { continue };
            let folds = UNSEEN.iter().any(|(first, last)| (first..=last).contains(&&value));
            let wanted = if folds { "ghp_".to_string() } else { format!("gh{character}p_") };
            let raw = format!("gh{character}p_");
            assert_eq!(decoded(&raw), wanted, "U+{value:04X}");
            let leads = next(raw.as_bytes(), 0).map(|unit| unit.start);
            assert_eq!(leads, folds.then_some(2), "U+{value:04X}");
            if !folds && value > 0xffff {
                continue;
            }
            simd::survey(raw.as_bytes(), &mut survey);
            let found = next_of(raw.as_bytes(), &survey, 0).map(|unit| unit.start);
            assert_eq!(found, folds.then_some(2), "U+{value:04X}");
            if folds {
                let percent: String =
                    character.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect();
                let json: String = character
                    .encode_utf16(&mut [0; 2])
                    .iter()
                    .map(|unit| format!("\\u{unit:04x}"))
                    .collect();
                for coded in [percent, json, format!("&#{value};"), format!("&#x{value:X};")] {
                    assert_eq!(decoded(&decoded(&format!("gh{coded}p_"))), "ghp_", "{coded}");
                }
            }
        }
        for name in UNSEEN_NAMES {
            assert_eq!(decoded(&format!("gh&{}p_", String::from_utf8_lossy(name))), "ghp_");
        }
    }

    // Mutants: `digits.len() < REFERENCE_DIGITS_MAX` in `is_cut`; no second half of a pair; no half of a character.
    #[test]
    fn a_unit_that_is_cut_is_told_wherever_it_is_cut() {
        for unit in [
            r"\n",
            r"\u0067",
            r"\ud83d\ude00",
            r"\x67",
            r"\147",
            r"\u{67}",
            r"\u{00005f}",
            "%67",
            "&#103;",
            "&#000000000103;",
            "&#x67;",
            "&#X000000000067;",
            "&amp;",
            "&NegativeVeryThinSpace;",
            "\u{ad}",
            "\u{200b}",
            "\u{e0041}",
        ] {
            let unit = unit.as_bytes();
            for before in ["", "100", "key ghp_"] {
                let before = before.as_bytes();
                for length in 1..unit.len() {
                    let text = [before, &unit[..length]].concat();
                    assert_eq!(cut(&text), Some(before.len()), "{}", text.escape_ascii());
                }
                assert_eq!(cut(&[before, unit].concat()), None, "{}", unit.escape_ascii());
            }
        }
        for text in [
            "AT&TT",
            "100% ",
            r"\d",
            r"\400",
            r"\u{67x",
            "&#1234567890123",
            "%4g",
            "é",
            r"\ud83d\n",
            "a;",
        ] {
            assert_eq!(cut(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_unit_is_written_anew_in_its_own_length() {
        for (unit, new) in [
            ("a", Some("Z")),
            (r"\u0061", Some(r"\u005a")),
            (r"\x61", Some(r"\x5a")),
            (r"\141", Some(r"\132")),
            (r"\u{61}", Some(r"\u{5a}")),
            (r"\u{0061}", Some(r"\u{005a}")),
            ("%61", Some("%5a")),
            ("&#097;", Some("&#090;")),
            ("&#x61", Some("&#x5a")),
            ("&amp;", Some("&#90;")),
            ("&lt;", None),
            (r"\/", None),
        ] {
            let made = rewrite(unit.as_bytes(), b'Z').map(|new| String::from_utf8(new).unwrap());
            assert_eq!(made.as_deref(), new, "{unit}");
            assert!(made.is_none_or(|made| decoded(&made) == "Z"));
        }
    }

    #[test]
    fn only_what_changes_the_text_hides_something() {
        for (text, hides) in [
            (r#"\\\" \\"#, false),
            (r"\\n", true),
            (r"\n(.k \\t[x] \n", true),
            (r"KEY:\n  a", true),
            (r"\n(415)", true),
            (r"a\nAKIA", true),
            (r"a\n\t", true),
            (r"%s/\\\\/\//g", false),
            (r"s/[^\\/]*\/", false),
            (r"https:\/\/a", true),
            (r"K7MDENG\/bPx", true),
            ("\u{1b}[32m", true),
            ("%41", true),
            ("&amp;", true),
            ("\u{200b}", true),
            ("100 % – done & dusted", false),
        ] {
            assert_eq!(hides_something(text.as_bytes()), hides, "{text}");
        }
    }
}
