//! Sixty-four bytes at a time: classes of bytes as bit masks, and unescaping.
//!
//! Each function exists once as safe code over one block ([`Masks::plain`]) and once for each set of
//! instructions; the CPU is asked once. Both give the same result for every input, which the tests check
//! on all that the CPU has. The loops are written once, as macros, so that they are compiled with
//! the instructions of the function they stand in.

use std::ops::Range;

use super::units;

/// Bytes of a block.
pub(super) const BLOCK_BYTES: usize = 64;

type Block = [u8; BLOCK_BYTES];

/// Bit masks of 64 bytes, one bit a byte.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Masks {
    pub(super) digit: u64,
    pub(super) upper: u64,
    /// Letters, digits, `_`.
    pub(super) word: u64,
    pub(super) dot: u64,
    pub(super) at: u64,
    pub(super) plus: u64,
    /// What stands between groups of digits: ` -.)`.
    pub(super) gap: u64,
}

impl Masks {
    /// Byte by byte: the twin.
    fn plain(block: &Block) -> Masks {
        let mut out = Masks::default();
        for (place, &byte) in block.iter().enumerate() {
            let bit = |yes: bool| u64::from(yes) << place;
            out.digit |= bit(byte.is_ascii_digit());
            out.upper |= bit(byte.is_ascii_uppercase());
            out.word |= bit(byte.is_ascii_alphanumeric() || byte == b'_');
            out.dot |= bit(byte == b'.');
            out.at |= bit(byte == b'@');
            out.plus |= bit(byte == b'+');
            out.gap |= bit(b" -.)".contains(&byte));
        }
        out
    }
}

fn backslashes_plain(block: &Block) -> u64 {
    block
        .iter()
        .enumerate()
        .fold(0, |mask, (place, &byte)| mask | u64::from(byte == b'\\') << place)
}

/// The bytes of ASCII with which a unit of a coding begins: an escape, `%41`, `&#65;`.
const SIGNS: [u8; 3] = [b'\\', b'%', b'&'];

/// The first two bytes of the characters that are not seen ([`units::UNSEEN`]) in UTF-8, as bits by their lower seven
/// bits: such a character may begin where the bits of a first byte and those of the byte behind it meet.
struct Unseen {
    first: [u8; 128],
    second: [u8; 128],
}

const UNSEEN: Unseen = {
    let mut out = Unseen { first: [0; 128], second: [0; 128] };
    // First bytes that have a bit; the last bit serves all beyond the seventh.
    let mut bits = 0;
    let mut range = 0;
    while range < units::UNSEEN.len() {
        let (mut value, last) = units::UNSEEN[range];
        while value <= last {
            let (first, second) = match value {
                0..0x800 => (0xc0 | value >> 6, 0x80 | value & 0x3f),
                0x800..0x1_0000 => (0xe0 | value >> 12, 0x80 | value >> 6 & 0x3f),
                _ => (0xf0 | value >> 18, 0x80 | value >> 12 & 0x3f),
            };
            let first = (first & 0x7f) as usize;
            if out.first[first] == 0 {
                out.first[first] = 1 << if bits < 7 { bits } else { 7 };
                bits += 1;
            }
            out.second[(second & 0x7f) as usize] |= out.first[first];
            value += 1;
        }
        range += 1;
    }
    out
};

/// Whether a unit may begin with `byte`, whatever stands behind it.
const IS_LEAD: [bool; 256] = {
    let mut table = [false; 256];
    let mut place = 0;
    while place < SIGNS.len() {
        table[SIGNS[place] as usize] = true;
        place += 1;
    }
    let mut byte = 0;
    while byte < 128 {
        table[128 + byte] = UNSEEN.first[byte] != 0;
        byte += 1;
    }
    table
};

/// The bytes of a block with which a unit may begin: signs, and first bytes of characters that may be unseen as far as
/// the byte behind them says; behind the last one of the block may be anything.
fn leads_plain(block: &Block) -> u64 {
    let (mut signs, mut strange) = (0, 0);
    for (place, byte) in block.iter().enumerate() {
        signs |= u64::from(SIGNS.contains(byte)) << place;
        strange |= u64::from(!byte.is_ascii()) << place;
    }
    signs | unseen_among(block, strange)
}

/// The bytes among `strange`, which are not ASCII, with which an unseen character may begin.
#[inline]
fn unseen_among(block: &Block, mut strange: u64) -> u64 {
    let mut mask = 0;
    while strange != 0 {
        let place = strange.trailing_zeros() as usize;
        strange &= strange - 1;
        let first = UNSEEN.first[(block[place] & 0x7f) as usize];
        let meets =
            |next: u8| !next.is_ascii() && UNSEEN.second[(next & 0x7f) as usize] & first != 0;
        let may = first != 0 && block.get(place + 1).is_none_or(|&next| meets(next));
        mask |= u64::from(may) << place;
    }
    mask
}

/// Places of one block where a shape may start, each bit at the byte that shows it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    /// Offset of the block.
    pub(super) at: usize,
    /// The first digit behind a gap of one to three bytes behind a group of three digits or more.
    pub(super) joint: u64,
    /// The ninth digit of a run whose first digit does not follow a letter.
    pub(super) nine: u64,
    /// The first digit after a `+` that does not follow a letter.
    pub(super) plus: u64,
    /// The fourth byte of `AA99` at the start of a word.
    pub(super) tight: u64,
    /// The fifth byte of `AA 99`.
    pub(super) spaced: u64,
    /// A digit after a dot after a digit.
    pub(super) dotted: u64,
    /// An `@`.
    pub(super) email: u64,
    /// A dot, and another one seven bytes before it.
    pub(super) dots: u64,
}

impl Marks {
    /// All places.
    pub(super) fn any(&self) -> u64 {
        let numbers = self.joint | self.nine | self.plus | self.dotted;
        numbers | self.tight | self.spaced | self.email | self.dots
    }
}

/// Bytes by which one window goes on behind the one before it, and those that both see: nothing that is told of a byte
/// depends on one further back. So no window needs to know of another one, and no shift carries.
const STEP_BYTES: usize = 48;
const BACK_BYTES: usize = BLOCK_BYTES - STEP_BYTES;

/// What stands in the window at `at`.
#[inline(always)]
fn marks_of(at: usize, here: &Masks) -> Marks {
    // Bit i of `x << n` tells of byte i - n.
    let two = here.digit & here.digit << 1;
    let three = two & here.digit << 2;
    let four = two & two << 2;
    let nine = four & four << 4 & here.digit << 8;
    let codes = two & here.upper << 3;
    let behind_three = here.gap << 3 & three << 4;
    let behind_gap = here.gap << 1 & (three << 2 | here.gap << 2 & (three << 3 | behind_three));
    let fresh = fresh(at);
    Marks {
        at,
        joint: here.digit & behind_gap & fresh,
        nine: nine & !(nine << 1) & !(here.word << 9) & fresh,
        plus: here.digit & here.plus << 1 & !(here.word << 2) & fresh,
        tight: codes & here.upper << 2 & !(here.word << 4) & fresh,
        spaced: codes & here.upper << 4 & !(here.word << 2) & !(here.word << 5) & fresh,
        dotted: here.digit & here.dot << 1 & here.digit << 2 & fresh,
        email: here.at & fresh,
        dots: here.dot & here.dot << 7 & fresh,
    }
}

/// The bytes of the window at `at` that no window before has told of.
#[inline(always)]
fn fresh(at: usize) -> u64 {
    if at == 0 { u64::MAX } else { u64::MAX << BACK_BYTES }
}

/// What a window is looked at for at first: most have nothing of it but plain letters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Classes {
    digit: u64,
    upper: u64,
    at: u64,
    /// `.` and `+`.
    join: u64,
    /// Where units may begin.
    lead: u64,
    /// Letters of base64 (RFC 4648 §4 and §5).
    letter: u64,
}

impl Classes {
    /// Byte by byte: the twin.
    fn plain(block: &Block) -> Classes {
        let mut out = Classes::default();
        for (place, &byte) in block.iter().enumerate() {
            let bit = |yes: bool| u64::from(yes) << place;
            out.digit |= bit(byte.is_ascii_digit());
            out.upper |= bit(byte.is_ascii_uppercase());
            out.at |= bit(byte == b'@');
            out.join |= bit(byte == b'.' || byte == b'+');
            out.letter |= bit(super::runs::BASE64[byte as usize] != super::runs::NONE);
        }
        out.lead = leads_plain(block);
        out
    }

    /// Whether a shape other than an address may be shown by a byte of the window: all of them begin with three digits
    /// in a row, with two behind a capital letter and one byte more, or with one behind a `+` or a dot; or with two dots.
    #[inline(always)]
    fn may_show(&self) -> bool {
        let two = self.digit & self.digit << 1;
        let number = two & (self.digit << 2 | self.upper << 3) | self.digit & self.join << 1;
        number | self.join & self.join << 7 != 0
    }
}

/// All that one pass over a text tells of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Survey {
    /// The windows in which a shape may start.
    pub(super) marks: Vec<Marks>,
    /// Where units may begin: a word a window, a bit a byte that is fresh in it.
    leads: Vec<u64>,
    /// Runs of at least [`RUN_BYTES_MIN`] letters of base64, in order.
    pub(super) runs: Vec<Range<usize>>,
}

impl Survey {
    fn clear(&mut self) {
        self.marks.clear();
        self.leads.clear();
        self.runs.clear();
    }

    /// The next byte from `from` on with which a unit may begin.
    pub(super) fn next_lead(&self, from: usize) -> Option<usize> {
        let mut window = from.saturating_sub(BACK_BYTES) / STEP_BYTES;
        let mut word = self.leads.get(window)? & (u64::MAX << (from - window * STEP_BYTES));
        while word == 0 {
            window += 1;
            word = *self.leads.get(window)?;
        }
        Some(window * STEP_BYTES + word.trailing_zeros() as usize)
    }
}

/// Bound: shortest run of letters that is told: twice eight.
const RUN_BYTES_MIN: usize = super::runs::LETTERS_MIN;
const _: () = assert!(RUN_BYTES_MIN == 16);

/// Adds the runs of the window at `at` to `out`. `open` is where the run began that reaches the end of the window before.
#[inline(always)]
fn runs_of(at: usize, letter: u64, open: &mut Option<usize>, out: &mut Vec<Range<usize>>) {
    let two = letter & letter << 1;
    let four = two & two << 2;
    let eight = four & four << 4;
    let mut long = eight & eight << 8 & fresh(at);
    if let Some(from) = *open {
        let more = (letter >> BACK_BYTES).trailing_ones() as usize;
        if more == STEP_BYTES {
            return;
        }
        let end = BACK_BYTES + more;
        out.push(from..at + end);
        *open = None;
        long &= u64::MAX << end;
    }
    while long != 0 {
        // The sixteenth letter of a run.
        let place = long.trailing_zeros() as usize;
        let from = at + place + 1 - RUN_BYTES_MIN;
        let end = place + (letter >> place).trailing_ones() as usize;
        if end == BLOCK_BYTES {
            *open = Some(from);
            return;
        }
        out.push(from..at + end);
        long &= u64::MAX << end;
    }
}

// Calls `$each` for each window of a text; the last one may be short, and there may be none.
macro_rules! windows {
    ($text:expr, $look:expr, $look_part:expr, $each:expr) => {{
        let text: &[u8] = $text;
        let mut at = 0;
        while let Some(block) = text[at..].first_chunk::<BLOCK_BYTES>() {
            $each(at, $look(block));
            at += STEP_BYTES;
        }
        let seen = if at == 0 { 0 } else { BACK_BYTES };
        if text.len() - at > seen {
            $each(at, $look_part(&text[at..]));
        }
    }};
}

/// A block as it is, for those that look at it with instructions of their own.
#[inline(always)]
fn whole(block: &Block) -> Block {
    *block
}

/// The last bytes of a text, with zeros behind them.
#[inline(always)]
fn padded(part: &[u8]) -> Block {
    let mut block = [0; BLOCK_BYTES];
    block[..part.len()].copy_from_slice(part);
    block
}

// Most windows show nothing and are not looked at closely.
macro_rules! survey_loop {
    ($text:expr, $out:expr, $look:expr, $look_part:expr, $classes:expr, $masks:expr) => {{
        let (text, out): (&[u8], &mut Survey) = ($text, $out);
        let mut open = None;
        windows!(text, $look, $look_part, |at: usize, seen| {
            let classes: Classes = $classes(&seen);
            out.leads.push(classes.lead & fresh(at));
            runs_of(at, classes.letter, &mut open, &mut out.runs);
            if classes.may_show() {
                let marks = marks_of(at, &$masks(&seen));
                if marks.any() != 0 {
                    out.marks.push(marks);
                }
            } else if classes.at & fresh(at) != 0 {
                out.marks.push(Marks { at, email: classes.at & fresh(at), ..Marks::default() });
            }
        });
        if let Some(from) = open {
            out.runs.push(from..text.len());
        }
    }};
}

/// What a short escape (RFC 8259 §7) stands for; 0 for all that is none.
const SHORT: [u8; 256] = {
    let mut table = [0; 256];
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table[b'/' as usize] = b'/';
    table[b'b' as usize] = 8;
    table[b'f' as usize] = 12;
    table[b'n' as usize] = b'\n';
    table[b'r' as usize] = b'\r';
    table[b't' as usize] = b'\t';
    table
};

// Each round copies a whole block, also where less of it counts: `out` has room for that.
macro_rules! unescape_loop {
    ($from:expr, $out:expr, $long:expr, $masks:expr, $begins:expr) => {{
        let (from, out): (&[u8], &mut [u8]) = ($from, $out);
        let (mut read, mut written, mut units) = (0, 0, 0usize);
        while let Some(block) = from[read..].first_chunk::<BLOCK_BYTES>() {
            out[written..written + BLOCK_BYTES].copy_from_slice(block);
            let escapes = $masks(block);
            let plain = escapes.trailing_zeros() as usize;
            (read, written) = (read + plain, written + plain);
            if escapes == 0 {
                continue;
            }
            // Escapes in a row: nested JSON has many.
            while let Some(&first) = from.get(read).filter(|byte| $begins(**byte)) {
                let short = from.get(read + 1).map_or(0, |&byte| SHORT[byte as usize]);
                if short != 0 && first == b'\\' {
                    out[written] = short;
                    (read, written, units) = (read + 2, written + 1, units + 1);
                } else {
                    let (used, made) = $long(&from[read..], &mut out[written..]);
                    units += usize::from(used > 1);
                    (read, written) = (read + used, written + made);
                }
            }
        }
        while let Some(&byte) = from.get(read) {
            if $begins(byte) {
                let (used, made) = $long(&from[read..], &mut out[written..]);
                units += usize::from(used > 1);
                (read, written) = (read + used, written + made);
            } else {
                out[written] = byte;
                (read, written) = (read + 1, written + 1);
            }
        }
        Unescaped { written, units }
    }};
}

macro_rules! next_loop {
    ($text:expr, $from:expr, $masks:expr) => {{
        let (text, mut from): (&[u8], usize) = ($text, $from);
        loop {
            let Some(block) = text[from..].first_chunk::<BLOCK_BYTES>() else {
                let on = text[from..].iter().position(|&byte| IS_LEAD[byte as usize]);
                break on.map(|on| from + on);
            };
            let found = $masks(block);
            if found != 0 {
                break Some(from + found.trailing_zeros() as usize);
            }
            from += BLOCK_BYTES;
        }
    }};
}

/// Classes of letters that base64 and hexadecimal text of printable bytes is made of, one bit each. All values of
/// base64 are those of RFC 4648 §4 and §5.
const TEXT: [u8; 128] = {
    let mut table = [0; 128];
    let mut byte = 0;
    while byte < 128 {
        let value = super::runs::BASE64[byte];
        let mut class = 0;
        if value != 0xff {
            // A first byte of 0x20 to 0x7f, or a tab, line feed or return.
            if matches!(value, 8..=31 | 2 | 3) {
                class |= 1;
            }
            // A second byte with the upper half 2 to 7, or 0.
            if matches!(value & 15, 0 | 2..=7) {
                class |= 2;
            }
            // A third byte below 0x80.
            if value & 2 == 0 {
                class |= 4;
            }
        }
        if super::runs::HEX[byte] != 0xff {
            class |= 8;
            // An upper half of 2 to 7, or 0.
            if matches!(byte as u8, b'0' | b'2'..=b'7') {
                class |= 16;
            }
        }
        table[byte] = class;
        byte += 1;
    }
    table
};

/// Masks of the classes of [`TEXT`].
type TextMasks = [u64; 5];

fn text_masks_plain(block: &Block) -> TextMasks {
    let mut classes = [0u8; BLOCK_BYTES];
    for (class, &byte) in classes.iter_mut().zip(block) {
        *class = if byte < 128 { TEXT[byte as usize] } else { 0 };
    }
    let mut out = [0; 5];
    for (place, eight) in classes.as_chunks::<8>().0.iter().enumerate() {
        let eight = u64::from_le_bytes(*eight);
        for (class, mask) in out.iter_mut().enumerate() {
            // Byte i holds 0 or 1; the product has it at bit 56 + i.
            let bits = (eight >> class) & 0x0101_0101_0101_0101;
            *mask |= (bits.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (place * 8);
        }
    }
    out
}

/// Bytes of a window with which text ends that has enough groups in a row: three of base64, eight of hexadecimal letters.
#[inline(always)]
fn text_of(at: usize, masks: TextMasks) -> u64 {
    // The last letter of a group may be any, and is looked at afterwards.
    let group = masks[2] & masks[1] << 1 & masks[0] << 2;
    let pair = masks[3] & masks[4] << 1;
    let pairs2 = pair & pair << 2;
    let pairs4 = pairs2 & pairs2 << 4;
    (group & group << 4 & group << 8 | pairs4 & pairs4 << 8) & fresh(at)
}

/// Calls `each` with every bit that is set, from `at` on.
#[inline(always)]
fn each_bit(at: usize, mut word: u64, each: &mut impl FnMut(usize)) {
    while word != 0 {
        each(at + word.trailing_zeros() as usize);
        word &= word - 1;
    }
}

macro_rules! text_loop {
    ($text:expr, $each:expr, $look:expr, $look_part:expr, $masks:expr) => {{
        let each = $each;
        windows!($text, $look, $look_part, |at: usize, seen| {
            each_bit(at, text_of(at, $masks(&seen)), each);
        });
    }};
}

/// Calls `each` for the bytes of `text` that may end a group of letters of base64 or hexadecimal text behind enough
/// others that decode to printable bytes. Never for too few: a text of twelve letters of base64, or sixteen of hexadecimal,
/// has one (for base64 at its last letter but one).
pub(super) fn text_ends(text: &[u8], mut each: impl FnMut(usize)) {
    #[cfg(target_arch = "x86_64")]
    if x86::has_table() {
        // SAFETY: the CPU was asked for the instructions that the function is compiled with.
        return unsafe { x86::text_ends_table(text, &mut each) };
    }
    text_loop!(text, &mut each, whole, padded, text_masks_plain);
}

/// What came of unescaping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unescaped {
    /// Bytes written.
    pub(super) written: usize,
    /// Escapes decoded.
    pub(super) units: usize,
}

/// Looks at `text` once; `out` is what it tells.
pub(super) fn survey(text: &[u8], out: &mut Survey) {
    out.clear();
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_table() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { x86::survey_table(text, out) };
        }
        if x86::has_512() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { x86::survey_512(text, out) };
        }
        if x86::has_256() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { x86::survey_256(text, out) };
        }
    }
    survey_loop!(text, out, whole, padded, Classes::plain, Masks::plain);
}

/// Which units are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Units {
    /// Escapes of JSON strings.
    Json,
    /// All.
    Any,
}

fn is_backslash(byte: u8) -> bool {
    byte == b'\\'
}

fn is_lead(byte: u8) -> bool {
    IS_LEAD[byte as usize]
}

/// Decodes the units of `from` into `out`, which must be longer by a block: nothing becomes longer.
/// `long` decodes what is no short escape at the front of its text into the front of its second argument,
/// and returns how many bytes it read and wrote.
pub(super) fn unescape(
    from: &[u8],
    out: &mut [u8],
    units: Units,
    long: impl Fn(&[u8], &mut [u8]) -> (usize, usize),
) -> Unescaped {
    debug_assert!(out.len() >= from.len() + BLOCK_BYTES);
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_squeeze() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { x86::unescape_squeeze(from, out, units, long) };
        }
        if x86::has_512() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { x86::unescape_512(from, out, units, long) };
        }
        if x86::has_256() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { x86::unescape_256(from, out, units, long) };
        }
    }
    match units {
        Units::Json => unescape_loop!(from, out, long, backslashes_plain, is_backslash),
        Units::Any => unescape_loop!(from, out, long, leads_plain, is_lead),
    }
}

/// The next byte of `text` from `from` on with which a unit may begin.
pub(super) fn next_lead(text: &[u8], from: usize) -> Option<usize> {
    // Units often stand close together.
    let near = text[from..].iter().take(8).position(|&byte| is_lead(byte));
    if let Some(on) = near {
        return Some(from + on);
    }
    let from = text.len().min(from + 8);
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_512() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { x86::next_lead_512(text, from) };
        }
        if x86::has_256() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { x86::next_lead_256(text, from) };
        }
    }
    next_loop!(text, from, leads_plain)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{
        BACK_BYTES, BLOCK_BYTES, Block, Classes, IS_LEAD, Marks, Masks, SHORT, SIGNS, STEP_BYTES,
        Survey, TEXT, TextMasks, UNSEEN, Unescaped, Units, each_bit, fresh, is_backslash, is_lead,
        marks_of, padded, runs_of, text_of, unseen_among, whole,
    };

    /// The standard library keeps the answer.
    pub(super) fn has_512() -> bool {
        std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
    }

    pub(super) fn has_table() -> bool {
        has_512() && std::arch::is_x86_feature_detected!("avx512vbmi")
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn text_masks_table(bytes: &__m512i) -> TextMasks {
        let classes = look_up(*bytes, &TEXT);
        // Not `map`: what it calls has not the instructions of this function.
        [
            in_class(classes, 1),
            in_class(classes, 2),
            in_class(classes, 4),
            in_class(classes, 8),
            in_class(classes, 16),
        ]
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn text_ends_table(text: &[u8], each: &mut impl FnMut(usize)) {
        text_loop!(text, each, load_512, load_part_512, text_masks_table);
    }

    pub(super) fn has_squeeze() -> bool {
        has_table() && std::arch::is_x86_feature_detected!("avx512vbmi2")
    }

    /// The backslashes that begin an escape: each other one of a row. (Langdale and Lemire, Parsing gigabytes of JSON per
    /// second, 2019, §3.1.1.)
    #[inline(always)]
    fn escape_starts(slash: u64) -> u64 {
        const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
        if slash & (slash << 1) == 0 {
            return slash;
        }
        let series = ((slash << 1) | ODD).wrapping_sub(slash);
        (series ^ ODD) & slash
    }

    /// The short escapes of a block all at once: the second byte of each becomes what it stands for, the first is squeezed
    /// out. Goes up to what is no short escape.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2")]
    pub(super) fn unescape_squeeze(
        from: &[u8],
        out: &mut [u8],
        units: Units,
        long: impl Fn(&[u8], &mut [u8]) -> (usize, usize),
    ) -> Unescaped {
        let table = SHORT.first_chunk().expect("half of 256 bytes");
        let begins = |byte: u8| if units == Units::Any { is_lead(byte) } else { byte == b'\\' };
        let (mut read, mut written, mut count) = (0, 0, 0);
        while read < from.len() {
            let (bytes, length) = match from[read..].first_chunk::<BLOCK_BYTES>() {
                Some(block) => (load_512(block), BLOCK_BYTES),
                None => (load_part_512(&from[read..]), from.len() - read),
            };
            let to = out[written..].first_chunk_mut().expect("room for a block more than is read");
            let slash = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'\\' as i8));
            let leads = match units {
                Units::Json => slash,
                Units::Any => leads_table(bytes),
            };
            if leads == 0 {
                store_512(to, bytes);
                (read, written) = (read + length, written + length);
                continue;
            }
            let starts = escape_starts(slash);
            let second = starts << 1;
            let short = look_up(bytes, table);
            let strange = second & !_mm512_test_epi8_mask(short, short);
            let stops = strange >> 1 | leads & !slash & !second;
            // An escape that the block cuts waits for the next one.
            let whole = length - usize::from(length == BLOCK_BYTES && starts >> 63 == 1);
            let end = (stops.trailing_zeros() as usize).min(whole);
            let here = if end == BLOCK_BYTES { u64::MAX } else { (1 << end) - 1 };
            let keep = here & !starts;
            let text = _mm512_mask_mov_epi8(bytes, second, short);
            store_512(to, _mm512_maskz_compress_epi8(keep, text));
            read += end;
            written += keep.count_ones() as usize;
            count += (starts & here).count_ones() as usize;
            if end == whole {
                continue;
            }
            // Long units in a row: texts that are spelled out have many.
            while let Some(&first) = from.get(read).filter(|byte| begins(**byte)) {
                if first == b'\\'
                    && from.get(read + 1).is_some_and(|&byte| SHORT[byte as usize] != 0)
                {
                    break;
                }
                let (used, made) = long(&from[read..], &mut out[written..]);
                count += usize::from(used > 1);
                (read, written) = (read + used, written + made);
            }
        }
        Unescaped { written, units: count }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn store_512(block: &mut Block, bytes: __m512i) {
        // SAFETY: the reference is to 64 bytes that may be written; the store asks for no alignment.
        unsafe { _mm512_storeu_si512(block.as_mut_ptr().cast(), bytes) }
    }

    pub(super) fn has_256() -> bool {
        std::arch::is_x86_feature_detected!("avx2")
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn load_512(block: &Block) -> __m512i {
        // SAFETY: the reference is to 64 bytes that may be read; the load asks for no alignment.
        unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn masks_512(block: &Block) -> Masks {
        let bytes = load_512(block);
        let all = |byte: u8| _mm512_set1_epi8(byte as i8);
        let within = |bytes: __m512i, first: u8, count: u8| {
            _mm512_cmplt_epu8_mask(_mm512_sub_epi8(bytes, all(first)), all(count))
        };
        let digit = within(bytes, b'0', 10);
        let letter = within(_mm512_or_si512(bytes, all(0x20)), b'a', 26);
        Masks {
            digit,
            upper: within(bytes, b'A', 26),
            word: digit | letter | _mm512_cmpeq_epi8_mask(bytes, all(b'_')),
            dot: _mm512_cmpeq_epi8_mask(bytes, all(b'.')),
            at: _mm512_cmpeq_epi8_mask(bytes, all(b'@')),
            plus: _mm512_cmpeq_epi8_mask(bytes, all(b'+')),
            gap: _mm512_cmpeq_epi8_mask(bytes, all(b' '))
                | _mm512_cmpeq_epi8_mask(bytes, all(b'-'))
                | _mm512_cmpeq_epi8_mask(bytes, all(b'.'))
                | _mm512_cmpeq_epi8_mask(bytes, all(b')')),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn backslashes_512(block: &Block) -> u64 {
        _mm512_cmpeq_epi8_mask(load_512(block), _mm512_set1_epi8(b'\\' as i8))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn leads_512(block: &Block) -> u64 {
        let bytes = load_512(block);
        let signs = signs_512(bytes);
        match _mm512_movepi8_mask(bytes) {
            0 => signs,
            strange => signs | unseen_among(block, strange),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn signs_512(bytes: __m512i) -> u64 {
        SIGNS.iter().fold(0, |mask, &sign| {
            mask | _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(sign as i8))
        })
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn leads_table(bytes: __m512i) -> u64 {
        match _mm512_movepi8_mask(bytes) {
            0 => signs_512(bytes),
            strange => signs_512(bytes) | unseen_table(bytes, strange),
        }
    }

    /// Where characters begin that may be unseen: two looks into tables. `strange` are the bytes that are not ASCII.
    #[cold]
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn unseen_table(bytes: __m512i, strange: u64) -> u64 {
        let [first, second] = [&UNSEEN.first, &UNSEEN.second].map(|table| {
            let (low, high) = table.split_at(BLOCK_BYTES);
            let half = |half: &[u8]| *half.first_chunk::<BLOCK_BYTES>().expect("half of 128 bytes");
            [half(low), half(high)]
        });
        let first = _mm512_maskz_permutex2var_epi8(
            strange,
            load_512(&first[0]),
            bytes,
            load_512(&first[1]),
        );
        let second = _mm512_maskz_permutex2var_epi8(
            strange,
            load_512(&second[0]),
            bytes,
            load_512(&second[1]),
        );
        // Each byte takes the place of the one before it; behind the last one may be anything.
        let any = _mm512_set1_epi8(-1);
        let next = _mm512_mask_permutexvar_epi8(any, u64::MAX >> 1, load_512(&BEHIND), second);
        _mm512_test_epi8_mask(first, next)
    }

    /// For each byte the place of the one behind it.
    const BEHIND: Block = {
        let mut out = [0; BLOCK_BYTES];
        let mut place = 0;
        while place < BLOCK_BYTES {
            out[place] = place as u8 + 1;
            place += 1;
        }
        out
    };

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn letters_512(block: &Block) -> u64 {
        let bytes = load_512(block);
        let all = |byte: u8| _mm512_set1_epi8(byte as i8);
        let within = |bytes: __m512i, first: u8, count: u8| {
            _mm512_cmplt_epu8_mask(_mm512_sub_epi8(bytes, all(first)), all(count))
        };
        within(bytes, b'0', 10)
            | within(_mm512_or_si512(bytes, all(0x20)), b'a', 26)
            | b"+/-_".iter().fold(0, |mask, &sign| mask | _mm512_cmpeq_epi8_mask(bytes, all(sign)))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn classes_512(block: &Block) -> Classes {
        let bytes = load_512(block);
        let digits = _mm512_sub_epi8(bytes, _mm512_set1_epi8(b'0' as i8));
        Classes {
            digit: _mm512_cmplt_epu8_mask(digits, _mm512_set1_epi8(10)),
            upper: _mm512_cmplt_epu8_mask(
                _mm512_sub_epi8(bytes, _mm512_set1_epi8(b'A' as i8)),
                _mm512_set1_epi8(26),
            ),
            join: _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'.' as i8))
                | _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'+' as i8)),
            at: _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'@' as i8)),
            lead: leads_512(block),
            letter: letters_512(block),
        }
    }

    const DIGIT: u8 = 1;
    const UPPER: u8 = 2;
    const WORD: u8 = 4;
    const GAP: u8 = 8;
    const JOIN: u8 = 16;
    const AT: u8 = 32;
    const LEAD: u8 = 64;
    const LETTER: u8 = 128;

    const fn class(holds: bool, bit: u8) -> u8 {
        if holds { bit } else { 0 }
    }

    /// Bits of the classes of a byte of ASCII.
    const CLASSES: [u8; 128] = {
        let mut table = [0; 128];
        let mut byte = 0;
        while byte < 128 {
            let it = byte as u8;
            let join = it == b'.' || it == b'+';
            table[byte] = class(it.is_ascii_digit(), DIGIT)
                | class(it.is_ascii_uppercase(), UPPER)
                | class(it.is_ascii_alphanumeric() || it == b'_', WORD)
                | class(matches!(it, b' ' | b'-' | b'.' | b')'), GAP)
                | class(join, JOIN)
                | class(it == b'@', AT)
                | class(IS_LEAD[byte], LEAD)
                | class(crate::guard::runs::BASE64[byte] != crate::guard::runs::NONE, LETTER);
            byte += 1;
        }
        table
    };

    /// The class of each byte; none for bytes that are not ASCII, whose upper bit the table does not see.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn look_up(bytes: __m512i, table: &[u8; 128]) -> __m512i {
        let (low, high) = table.split_at(BLOCK_BYTES);
        let low = load_512(low.first_chunk().expect("half of 128 bytes"));
        let high = load_512(high.first_chunk().expect("half of 128 bytes"));
        _mm512_maskz_permutex2var_epi8(!_mm512_movepi8_mask(bytes), low, bytes, high)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn in_class(classes: __m512i, class: u8) -> u64 {
        _mm512_test_epi8_mask(classes, _mm512_set1_epi8(class as i8))
    }

    /// The bytes of a text shorter than a block, with zeros behind them.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn load_part_512(part: &[u8]) -> __m512i {
        let length = part.len().min(BLOCK_BYTES - 1);
        // SAFETY: only the bytes whose bit is set are read, and all of them lie in `part`.
        unsafe { _mm512_maskz_loadu_epi8((1 << length) - 1, part.as_ptr().cast()) }
    }

    /// What is known of a window from one look into the table.
    #[derive(Clone, Copy)]
    struct Seen {
        bytes: __m512i,
        classes: __m512i,
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn see(block: &Block) -> Seen {
        let bytes = load_512(block);
        Seen { bytes, classes: look_up(bytes, &CLASSES) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn see_part(part: &[u8]) -> Seen {
        let bytes = load_part_512(part);
        Seen { bytes, classes: look_up(bytes, &CLASSES) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn classes_table(seen: &Seen) -> Classes {
        let classes = seen.classes;
        let lead = match _mm512_movepi8_mask(seen.bytes) {
            0 => in_class(classes, LEAD),
            strange => in_class(classes, LEAD) | unseen_table(seen.bytes, strange),
        };
        Classes {
            digit: in_class(classes, DIGIT),
            upper: in_class(classes, UPPER),
            at: in_class(classes, AT),
            join: in_class(classes, JOIN),
            lead,
            letter: in_class(classes, LETTER),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn masks_table(seen: &Seen) -> Masks {
        let classes = seen.classes;
        let (gap, join) = (in_class(classes, GAP), in_class(classes, JOIN));
        Masks {
            digit: in_class(classes, DIGIT),
            upper: in_class(classes, UPPER),
            word: in_class(classes, WORD),
            dot: join & gap,
            at: in_class(classes, AT),
            plus: join & !gap,
            gap,
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn survey_table(text: &[u8], out: &mut Survey) {
        survey_loop!(text, out, see, see_part, classes_table, masks_table);
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn survey_512(text: &[u8], out: &mut Survey) {
        survey_loop!(text, out, whole, padded, classes_512, masks_512);
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn unescape_512(
        from: &[u8],
        out: &mut [u8],
        units: Units,
        long: impl Fn(&[u8], &mut [u8]) -> (usize, usize),
    ) -> Unescaped {
        match units {
            Units::Json => unescape_loop!(from, out, long, backslashes_512, is_backslash),
            Units::Any => unescape_loop!(from, out, long, leads_512, is_lead),
        }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn next_lead_512(text: &[u8], from: usize) -> Option<usize> {
        next_loop!(text, from, leads_512)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load_half(half: &[u8; 32]) -> __m256i {
        // SAFETY: the reference is to 32 bytes that may be read; the load asks for no alignment.
        unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load_256(block: &Block) -> [__m256i; 2] {
        let (halves, _) = block.as_chunks::<32>();
        [load_half(&halves[0]), load_half(&halves[1])]
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn mask_256(low: __m256i, high: __m256i) -> u64 {
        u64::from(_mm256_movemask_epi8(low) as u32)
            | u64::from(_mm256_movemask_epi8(high) as u32) << 32
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn masks_256(block: &Block) -> Masks {
        let [low, high] = load_256(block);
        let all = |byte: u8| _mm256_set1_epi8(byte as i8);
        let is = |byte: u8| {
            mask_256(_mm256_cmpeq_epi8(low, all(byte)), _mm256_cmpeq_epi8(high, all(byte)))
        };
        // At most `count - 1` above `first`, without sign: the lesser of both is the byte itself.
        let in_half = |bytes: __m256i, first: u8, count: u8| {
            let over = _mm256_sub_epi8(bytes, all(first));
            _mm256_cmpeq_epi8(_mm256_min_epu8(over, all(count - 1)), over)
        };
        let within = |low: __m256i, high: __m256i, first: u8, count: u8| {
            mask_256(in_half(low, first, count), in_half(high, first, count))
        };
        let fold = |bytes: __m256i| _mm256_or_si256(bytes, all(0x20));
        let digit = within(low, high, b'0', 10);
        Masks {
            digit,
            upper: within(low, high, b'A', 26),
            word: digit | within(fold(low), fold(high), b'a', 26) | is(b'_'),
            dot: is(b'.'),
            at: is(b'@'),
            plus: is(b'+'),
            gap: is(b' ') | is(b'-') | is(b'.') | is(b')'),
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn backslashes_256(block: &Block) -> u64 {
        let [low, high] = load_256(block);
        let wanted = _mm256_set1_epi8(b'\\' as i8);
        mask_256(_mm256_cmpeq_epi8(low, wanted), _mm256_cmpeq_epi8(high, wanted))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn leads_256(block: &Block) -> u64 {
        let [low, high] = load_256(block);
        let signs = SIGNS.iter().fold(0, |mask, &sign| {
            let wanted = _mm256_set1_epi8(sign as i8);
            mask | mask_256(_mm256_cmpeq_epi8(low, wanted), _mm256_cmpeq_epi8(high, wanted))
        });
        match mask_256(low, high) {
            0 => signs,
            strange => signs | unseen_among(block, strange),
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn letters_256(block: &Block) -> u64 {
        let [low, high] = load_256(block);
        let all = |byte: u8| _mm256_set1_epi8(byte as i8);
        let is = |byte: u8| {
            mask_256(_mm256_cmpeq_epi8(low, all(byte)), _mm256_cmpeq_epi8(high, all(byte)))
        };
        let in_half = |bytes: __m256i, first: u8, count: u8| {
            let over = _mm256_sub_epi8(bytes, all(first));
            _mm256_cmpeq_epi8(_mm256_min_epu8(over, all(count - 1)), over)
        };
        let fold = |bytes: __m256i| _mm256_or_si256(bytes, all(0x20));
        mask_256(in_half(low, b'0', 10), in_half(high, b'0', 10))
            | mask_256(in_half(fold(low), b'a', 26), in_half(fold(high), b'a', 26))
            | b"+/-_".iter().fold(0, |mask, &sign| mask | is(sign))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn classes_256(block: &Block) -> Classes {
        let [low, high] = load_256(block);
        let all = |byte: u8| _mm256_set1_epi8(byte as i8);
        let within = |bytes: __m256i, first: u8, count: u8| {
            let over = _mm256_sub_epi8(bytes, all(first));
            _mm256_cmpeq_epi8(_mm256_min_epu8(over, all(count - 1)), over)
        };
        let is = |byte: u8| {
            mask_256(_mm256_cmpeq_epi8(low, all(byte)), _mm256_cmpeq_epi8(high, all(byte)))
        };
        Classes {
            digit: mask_256(within(low, b'0', 10), within(high, b'0', 10)),
            upper: mask_256(within(low, b'A', 26), within(high, b'A', 26)),
            at: is(b'@'),
            join: is(b'.') | is(b'+'),
            lead: leads_256(block),
            letter: letters_256(block),
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn survey_256(text: &[u8], out: &mut Survey) {
        survey_loop!(text, out, whole, padded, classes_256, masks_256);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn unescape_256(
        from: &[u8],
        out: &mut [u8],
        units: Units,
        long: impl Fn(&[u8], &mut [u8]) -> (usize, usize),
    ) -> Unescaped {
        match units {
            Units::Json => unescape_loop!(from, out, long, backslashes_256, is_backslash),
            Units::Any => unescape_loop!(from, out, long, leads_256, is_lead),
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn next_lead_256(text: &[u8], from: usize) -> Option<usize> {
        next_loop!(text, from, leads_256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every way in which this CPU can do it, the plain one first.
    fn all_surveys(text: &[u8]) -> Vec<Survey> {
        let mut plain = Survey::default();
        survey_loop!(text, &mut plain, whole, padded, Classes::plain, Masks::plain);
        let mut all = vec![plain];
        let mut add = |does: &dyn Fn(&mut Survey)| {
            let mut one = Survey::default();
            does(&mut one);
            all.push(one);
        };
        add(&|out| survey(text, out));
        #[cfg(target_arch = "x86_64")]
        {
            if x86::has_512() {
                // SAFETY: the CPU was asked.
                add(&|out| unsafe { x86::survey_512(text, out) });
            }
            if x86::has_256() {
                // SAFETY: the CPU was asked.
                add(&|out| unsafe { x86::survey_256(text, out) });
            }
        }
        all
    }

    fn all_unescaped(text: &[u8], units: Units) -> Vec<(Vec<u8>, usize)> {
        let long = |text: &[u8], out: &mut [u8]| units.decode(text, out);
        let begins = |byte: u8| if units == Units::Any { is_lead(byte) } else { byte == b'\\' };
        let run = |does: &dyn Fn(&mut [u8]) -> Unescaped| {
            let mut out = vec![0xee; text.len() + BLOCK_BYTES];
            let done = does(&mut out);
            out.truncate(done.written);
            (out, done.units)
        };
        let mut all = vec![
            run(&|out| match units {
                Units::Json => unescape_loop!(text, out, long, backslashes_plain, is_backslash),
                Units::Any => unescape_loop!(text, out, long, leads_plain, is_lead),
            }),
            run(&|out| unescape(text, out, units, long)),
        ];
        #[cfg(target_arch = "x86_64")]
        {
            if x86::has_512() {
                // SAFETY: the CPU was asked.
                all.push(run(&|out| unsafe { x86::unescape_512(text, out, units, long) }));
            }
            if x86::has_256() {
                // SAFETY: the CPU was asked.
                all.push(run(&|out| unsafe { x86::unescape_256(text, out, units, long) }));
            }
        }
        // Byte by byte.
        let (mut out, mut at, mut count) = (vec![], 0, 0);
        while at < text.len() {
            let mut one = [text[at], 0, 0, 0];
            let (used, made) = if begins(text[at]) { long(&text[at..], &mut one) } else { (1, 1) };
            out.extend_from_slice(&one[..made]);
            count += usize::from(used > 1);
            at += used;
        }
        all.push((out, count));
        all
    }

    proptest! {
        // Mutants: no `fresh`; `pairs4 << 4`; bytes of 0x80 and more looked up like those below.
        #[test]
        fn text_ends_are_the_plain_ones(
            text in proptest::collection::vec(prop_oneof![
                8 => proptest::sample::select(b"IaQb3x24567".to_vec()), 1 => any::<u8>()
            ], 0..300)
        ) {
            let mut all = [vec![], vec![]];
            text_loop!(&text, &mut |at| all[0].push(at), whole, padded, text_masks_plain);
            text_ends(&text, |at| all[1].push(at));
            prop_assert_eq!(&all[0], &all[1]);
            let class = |at: usize, bit: u8| {
                text.get(at).is_some_and(|&byte| byte < 128 && TEXT[byte as usize] & bit != 0)
            };
            let group = |at: usize| class(at, 1) && class(at + 1, 2) && class(at + 2, 4);
            let pair = |at: usize| class(at, 16) && class(at + 1, 8);
            let ends = |at: &usize| {
                *at >= 10 && [0, 4, 8].iter().all(|on| group(at - 10 + on))
                    || *at >= 15 && (0..8).all(|on| pair(at - 15 + 2 * on))
            };
            prop_assert_eq!(&all[0], &(0..text.len()).filter(ends).collect::<Vec<_>>());
        }

        // Mutants: the run that is open at the end of a window is dropped; `letter` for `letter >> BACK_BYTES`.
        #[test]
        fn runs_are_the_plain_ones(
            pieces in proptest::collection::vec((0usize..90, "[^A-Za-z0-9+/_-]{1,3}"), 0..12)
        ) {
            let text: Vec<u8> = pieces.iter().flat_map(|(length, gap)| ["a".repeat(*length), gap.clone()].concat().into_bytes()).collect();
            let mut plain = vec![];
            let mut from = 0;
            for at in 0..=text.len() {
                if at == text.len() || !(text[at].is_ascii_alphanumeric() || b"+/-_".contains(&text[at])) {
                    if at - from >= RUN_BYTES_MIN {
                        plain.push(from..at);
                    }
                    from = at + 1;
                }
            }
            for one in all_surveys(&text) {
                prop_assert_eq!(&one.runs, &plain);
            }
        }

        // Mutants: `count` for `count - 1` in `in_half`; no `join` in `may_show`.
        #[test]
        fn wide_surveys_are_the_plain_one(
            text in proptest::collection::vec(prop_oneof![
                any::<u8>(), Just(b'1'), Just(b'A'), Just(b' '), Just(b'.'), Just(b'@'), Just(b'+'), Just(b':'), Just(b'['), Just(b'/'), Just(b'{')
            ], 0..300),
            words in proptest::collection::vec(("[A-Za-z@ .+(%&\\\\-]{0,150}", "[0-9A-Z .)@+-]{0,40}"), 0..4)
        ) {
            let words: Vec<u8> = words.into_iter().flat_map(|(word, number)| [word, number].concat().into_bytes()).collect();
            for text in [text, words] {
                let all = all_surveys(&text);
                for one in &all[1..] {
                    prop_assert_eq!(one, &all[0]);
                }
                // Each window looked at closely.
                let mut close = vec![];
                windows!(&text, whole, padded, |at, block: Block| {
                    let marks = marks_of(at, &Masks::plain(&block));
                    close.extend((marks.any() != 0).then_some(marks));
                });
                prop_assert_eq!(&all[0].marks, &close);
                let leads = |at: usize| all[0].next_lead(at) == Some(at);
                // None too few, and of characters those only that have two bytes of unseen ones, or one at an end.
                for at in 0..text.len() {
                    let sign = SIGNS.contains(&text[at]);
                    let unit = IS_LEAD[text[at] as usize] && Units::Any.at(&text[at..]).out_len == 0;
                    prop_assert!(leads(at) || !(sign || unit));
                    prop_assert!(IS_LEAD[text[at] as usize] || !leads(at));
                }
            }
        }

        // Mutants: `written + BLOCK_BYTES` after a block with an escape; each backslash begins an escape; one that a
        // block cuts is squeezed out.
        #[test]
        fn wide_unescaping_is_the_plain_one(
            text in proptest::collection::vec(prop_oneof![
                4 => Just(b'a'), 1 => Just(b'\\'), 1 => Just(b'n'), 1 => Just(b'u'), 1 => any::<u8>(),
                1 => proptest::sample::select(vec![b'%', b'&', 0xc2, 0xad, 0xe2, 0x80, 0x8b, 0xe3, 0x85])
            ], 0..400),
            words in proptest::collection::vec(
                (0usize..80, proptest::sample::select(vec!["\\n", "\\\\", "\\\\n", "\\\"", "\\u0041", "\\d", "%41", "\u{200b}", "\u{2013}", "\u{e0001}"])), 0..12
            )
        ) {
            let words: Vec<u8> = words.iter().flat_map(|(plain, unit)| ["a".repeat(*plain), unit.to_string()].concat().into_bytes()).collect();
            for (text, units) in [(&text, Units::Json), (&text, Units::Any), (&words, Units::Json), (&words, Units::Any)] {
                let all = all_unescaped(text, units);
                for one in &all[1..] {
                    prop_assert_eq!(one, &all[0]);
                }
            }
        }

        // Mutants: `from + 9` behind the bytes that are looked at one by one; no `is_none_or` at the end of a block.
        #[test]
        fn the_next_lead_is_the_next_one(
            text in proptest::collection::vec(prop_oneof![
                60 => Just("a"), 1 => proptest::sample::select(vec!["%", "\\", "&", "é", "–", "\u{200b}", "\u{ad}", "\u{1f600}", "\u{e0001}"])
            ], 1..400),
            from in any::<proptest::sample::Index>()
        ) {
            let text = text.concat().into_bytes();
            let from = from.index(text.len());
            let is_unit = |at: usize| {
                IS_LEAD[text[at] as usize]
                    && (SIGNS.contains(&text[at]) || Units::Any.at(&text[at..]).out_len == 0)
            };
            let plain = (from..text.len()).find(|&at| is_unit(at));
            // What is no unit may be told, and is passed.
            let behind = |next: &dyn Fn(usize) -> Option<usize>| {
                let mut at = from;
                loop {
                    match next(at) {
                        Some(lead) if !is_unit(lead) => at = lead + 1,
                        other => break other,
                    }
                }
            };
            prop_assert_eq!(behind(&|from| next_lead(&text, from)), plain);
            prop_assert_eq!(behind(&|from| next_loop!(&text, from, leads_plain)), plain);
            #[cfg(target_arch = "x86_64")]
            if x86::has_256() {
                // SAFETY: the CPU was asked.
                prop_assert_eq!(behind(&|from| unsafe { x86::next_lead_256(&text, from) }), plain);
            }
        }
    }
}
