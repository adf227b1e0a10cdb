//! Sixty-four bytes at a time: classes of bytes as bit masks, and unescaping.
//!
//! Each function exists once as safe code over one block ([`Masks::plain`]) and once for each set of
//! instructions; the CPU is asked once. Both give the same result for every input, which the tests check
//! on all that the CPU has. The loops are written once, as macros, so that they are compiled with
//! the instructions of the function they stand in.

use std::ops::Range;

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

/// The bytes with which any unit of a coding begins, beside the backslash: `%41`, `&#65;`, and the UTF-8
/// of characters that are not seen.
pub(super) const LEADS: [u8; 7] = [b'\\', b'%', b'&', 0xc2, 0xe2, 0xef, 0xf3];

const IS_LEAD: [bool; 256] = {
    let mut table = [false; 256];
    let mut place = 0;
    while place < LEADS.len() {
        table[LEADS[place] as usize] = true;
        place += 1;
    }
    table
};

fn leads_plain(block: &Block) -> u64 {
    block
        .iter()
        .enumerate()
        .fold(0, |mask, (place, &byte)| mask | u64::from(IS_LEAD[byte as usize]) << place)
}

/// Places of one block where a shape may start, each bit at the byte that shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    /// Offset of the block.
    pub(super) at: usize,
    /// The first digit behind a gap of one or two bytes behind a group of three digits or more.
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
}

impl Marks {
    /// All places.
    pub(super) fn any(&self) -> u64 {
        self.joint | self.nine | self.plus | self.tight | self.spaced | self.dotted | self.email
    }
}

/// What is known of a block, for the next one.
#[derive(Debug, Default, Clone, Copy)]
struct Known {
    masks: Masks,
    /// Bytes with which runs of two, three, four and nine digits end.
    two: u64,
    three: u64,
    four: u64,
    nine: u64,
}

/// What stands in the block at `at`, with what stood in the one before.
#[inline(always)]
fn marks_of(at: usize, block: &Masks, before: &mut Known) -> Marks {
    // Byte i of `prev(x, n)` tells of byte i - n.
    let prev = |now: u64, old: u64, n: u32| (now << n) | (old >> (64 - n));
    let old = *before;
    let digit = |n: u32| prev(block.digit, old.masks.digit, n);
    let upper = |n: u32| prev(block.upper, old.masks.upper, n);
    let word = |n: u32| prev(block.word, old.masks.word, n);
    let gap = |n: u32| prev(block.gap, old.masks.gap, n);
    let two = block.digit & digit(1);
    let three = two & digit(2);
    let four = two & prev(two, old.two, 2);
    let eight = four & prev(four, old.four, 4);
    let nine = eight & digit(8);
    let codes = two & upper(3);
    *before = Known { masks: *block, two, three, four, nine };
    let behind_gap = gap(1) & (prev(three, old.three, 2) | gap(2) & prev(three, old.three, 3));
    Marks {
        at,
        joint: block.digit & behind_gap,
        nine: nine & !prev(nine, old.nine, 1) & !word(9),
        plus: block.digit & prev(block.plus, old.masks.plus, 1) & !word(2),
        tight: codes & upper(2) & !word(4),
        spaced: codes & upper(4) & !word(2) & !word(5),
        dotted: block.digit & prev(block.dot, old.masks.dot, 1) & digit(2),
        email: block.at,
    }
}

macro_rules! marks_loop {
    ($text:expr, $out:expr, $masks:expr) => {{
        let (blocks, rest) = $text.as_chunks::<BLOCK_BYTES>();
        // The state of the last bytes is carried from block to block.
        let mut before = Known::default();
        for (number, block) in blocks.iter().enumerate() {
            let marks = marks_of(number * BLOCK_BYTES, &$masks(block), &mut before);
            if marks.any() != 0 {
                $out.push(marks);
            }
        }
        if !rest.is_empty() {
            let mut padded = [0u8; BLOCK_BYTES];
            padded[..rest.len()].copy_from_slice(rest);
            let marks = marks_of(blocks.len() * BLOCK_BYTES, &$masks(&padded), &mut before);
            if marks.any() != 0 {
                $out.push(marks);
            }
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

fn letters_plain(block: &Block) -> u64 {
    block.iter().enumerate().fold(0, |mask, (place, &byte)| {
        let letter = byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte);
        mask | u64::from(letter) << place
    })
}

/// Bound: shortest run of letters that is told, a power of two.
const RUN_BYTES_MIN: usize = super::runs::LETTERS_MIN;

// A run is looked at bit by bit only in blocks where one may be.
macro_rules! runs_loop {
    ($text:expr, $out:expr, $masks:expr) => {{
        let text: &[u8] = $text;
        let out: &mut Vec<Range<usize>> = $out;
        let (blocks, rest) = text.as_chunks::<BLOCK_BYTES>();
        let mut padded = [0u8; BLOCK_BYTES];
        padded[..rest.len()].copy_from_slice(rest);
        // Where the run began that reaches the end of the block before.
        let mut open: Option<usize> = None;
        let mut tell = |from: usize, to: usize| {
            if to - from >= RUN_BYTES_MIN {
                out.push(from..to);
            }
        };
        for (number, block) in blocks.iter().chain(std::iter::once(&padded)).enumerate() {
            let start = number * BLOCK_BYTES;
            let mut mask: u64 = $masks(block);
            if let Some(from) = open {
                let more = mask.trailing_ones() as usize;
                if more == BLOCK_BYTES {
                    continue;
                }
                tell(from, start + more);
                open = None;
                mask &= u64::MAX << more;
            }
            let last = mask.leading_ones() as usize;
            if last > 0 {
                open = Some(start + BLOCK_BYTES - last);
                if last == BLOCK_BYTES {
                    continue;
                }
                mask &= u64::MAX >> last;
            }
            // Bits at which at least RUN_BYTES_MIN set ones begin.
            let mut long = mask & (mask >> 1);
            long &= long >> 2;
            long &= long >> 4;
            long &= long >> 8;
            while long != 0 {
                let from = long.trailing_zeros() as usize;
                let length = (mask >> from).trailing_ones() as usize;
                tell(start + from, start + from + length);
                long = if from + length >= 64 { 0 } else { long & (u64::MAX << (from + length)) };
            }
        }
        if let Some(from) = open {
            tell(from, text.len());
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

/// What is known of a block, for the next one.
#[derive(Default, Clone, Copy)]
struct TextKnown {
    masks: TextMasks,
    group: u64,
    pair: u64,
    pairs2: u64,
    pairs4: u64,
}

/// Bytes of a block with which text ends that has enough groups in a row: three of base64, nine of hexadecimal letters.
#[inline(always)]
fn text_of(masks: TextMasks, before: &mut TextKnown) -> u64 {
    let prev = |now: u64, old: u64, n: u32| (now << n) | (old >> (64 - n));
    let old = *before;
    // The last letter of a group may be any, and is looked at afterwards.
    let group = masks[2] & prev(masks[1], old.masks[1], 1) & prev(masks[0], old.masks[0], 2);
    let pair = masks[3] & prev(masks[4], old.masks[4], 1);
    let pairs2 = pair & prev(pair, old.pair, 2);
    let pairs4 = pairs2 & prev(pairs2, old.pairs2, 4);
    let pairs8 = pairs4 & prev(pairs4, old.pairs4, 8);
    *before = TextKnown { masks, group, pair, pairs2, pairs4 };
    group & prev(group, old.group, 4) & prev(group, old.group, 8)
        | pairs8 & prev(pair, old.pair, 16)
}

macro_rules! text_loop {
    ($text:expr, $out:expr, $masks:expr) => {{
        let text: &[u8] = $text;
        let out: &mut Vec<u64> = $out;
        let (blocks, rest) = text.as_chunks::<BLOCK_BYTES>();
        let mut before = TextKnown::default();
        for block in blocks {
            out.push(text_of($masks(block), &mut before));
        }
        if !rest.is_empty() {
            let mut padded = [0u8; BLOCK_BYTES];
            padded[..rest.len()].copy_from_slice(rest);
            out.push(text_of($masks(&padded), &mut before));
        }
    }};
}

/// Marks the bytes of `text` that may end a group of letters of base64 or hexadecimal text behind enough others that
/// decode to printable bytes; one bit a byte. Never too few: a text of twelve letters of base64, or
/// eighteen of hexadecimal, has one (for base64 at its last letter but one).
pub(super) fn text_ends(text: &[u8], out: &mut Vec<u64>) {
    out.clear();
    #[cfg(target_arch = "x86_64")]
    if x86::has_table() {
        // SAFETY: the CPU was asked for the instructions that the function is compiled with.
        return unsafe { x86::text_ends_512(text, out) };
    }
    text_loop!(text, out, text_masks_plain);
}

/// Finds the runs of letters of base64 (RFC 4648 §4 and §5) in `text`, in order.
pub(super) fn runs(text: &[u8], out: &mut Vec<Range<usize>>) {
    out.clear();
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_512() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { x86::runs_512(text, out) };
        }
        if x86::has_256() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { x86::runs_256(text, out) };
        }
    }
    runs_loop!(text, out, letters_plain);
}

/// What came of unescaping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unescaped {
    /// Bytes written.
    pub(super) written: usize,
    /// Escapes decoded.
    pub(super) units: usize,
}

/// Finds the blocks of `text` in which a shape may start.
pub(super) fn marks(text: &[u8], out: &mut Vec<Marks>) {
    out.clear();
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_512() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { x86::marks_512(text, out) };
        }
        if x86::has_256() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { x86::marks_256(text, out) };
        }
    }
    marks_loop!(text, out, Masks::plain);
}

/// Which units are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Units {
    /// Escapes of JSON strings.
    Json,
    /// All that begin with one of [`LEADS`].
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

/// The next of [`LEADS`] in `text` from `from` on.
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
    use std::ops::Range;

    use super::{
        BLOCK_BYTES, Block, IS_LEAD, Known, LEADS, Marks, Masks, RUN_BYTES_MIN, SHORT, TEXT,
        TextKnown, TextMasks, Unescaped, Units, is_backslash, is_lead, marks_of, text_of,
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
    fn text_masks_512(block: &Block) -> TextMasks {
        let bytes = load_512(block);
        let (low, high) = TEXT.split_at(BLOCK_BYTES);
        let half = |half: &[u8]| load_512(half.first_chunk().expect("half of 128 bytes"));
        // The upper bit of a byte is not looked at by the table: such bytes are in no class.
        let ascii = !_mm512_movepi8_mask(bytes);
        let classes = _mm512_maskz_permutex2var_epi8(ascii, half(low), bytes, half(high));
        [1, 2, 4, 8, 16].map(|class| _mm512_test_epi8_mask(classes, _mm512_set1_epi8(class)))
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub(super) fn text_ends_512(text: &[u8], out: &mut Vec<u64>) {
        text_loop!(text, out, text_masks_512);
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
        LEADS.iter().fold(0, |mask, &lead| {
            mask | _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(lead as i8))
        })
    }

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

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn runs_512(text: &[u8], out: &mut Vec<Range<usize>>) {
        runs_loop!(text, out, letters_512);
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn marks_512(text: &[u8], out: &mut Vec<Marks>) {
        marks_loop!(text, out, masks_512);
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
        LEADS.iter().fold(0, |mask, &lead| {
            let wanted = _mm256_set1_epi8(lead as i8);
            mask | mask_256(_mm256_cmpeq_epi8(low, wanted), _mm256_cmpeq_epi8(high, wanted))
        })
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

    #[target_feature(enable = "avx2")]
    pub(super) fn runs_256(text: &[u8], out: &mut Vec<Range<usize>>) {
        runs_loop!(text, out, letters_256);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn marks_256(text: &[u8], out: &mut Vec<Marks>) {
        marks_loop!(text, out, masks_256);
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
    fn all_marks(text: &[u8]) -> Vec<Vec<Marks>> {
        let mut plain = vec![];
        marks_loop!(text, plain, Masks::plain);
        let mut chosen = vec![];
        marks(text, &mut chosen);
        let mut all = vec![plain, chosen];
        #[cfg(target_arch = "x86_64")]
        if x86::has_256() {
            let mut narrow = vec![];
            // SAFETY: the CPU was asked.
            unsafe { x86::marks_256(text, &mut narrow) };
            all.push(narrow);
        }
        all
    }

    fn all_unescaped(text: &[u8], units: Units) -> Vec<(Vec<u8>, usize)> {
        // A stand-in for longer units: `\u`, and any other lead, takes six bytes and makes one.
        let long = |text: &[u8], out: &mut [u8]| match (text[0], text.get(1)) {
            (b'\\', Some(&byte)) if SHORT[byte as usize] != 0 => {
                out[0] = SHORT[byte as usize];
                (2, 1)
            }
            (_, Some(b'u')) if text.len() >= 6 => {
                out[0] = text[5];
                (6, 1)
            }
            (byte, _) => {
                out[0] = byte;
                (1, 1)
            }
        };
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
        if x86::has_256() {
            // SAFETY: the CPU was asked.
            all.push(run(&|out| unsafe { x86::unescape_256(text, out, units, long) }));
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
        // Mutants: nothing of the block before in `text_of`; bytes of 0x80 and more looked up like those below.
        #[test]
        fn text_ends_are_the_plain_ones(
            text in proptest::collection::vec(prop_oneof![
                8 => proptest::sample::select(b"IaQb3x24567".to_vec()), 1 => any::<u8>()
            ], 0..300)
        ) {
            let mut all = [vec![], vec![]];
            text_loop!(&text, &mut all[0], text_masks_plain);
            text_ends(&text, &mut all[1]);
            prop_assert_eq!(&all[0], &all[1]);
            let class = |at: usize, bit: u8| {
                text.get(at).is_some_and(|&byte| byte < 128 && TEXT[byte as usize] & bit != 0)
            };
            for at in 0..text.len() {
                let group = |at: usize| class(at, 1) && class(at + 1, 2) && class(at + 2, 4);
                let pair = |at: usize| class(at, 16) && class(at + 1, 8);
                let ends = at >= 10 && [0, 4, 8].iter().all(|on| group(at - 10 + on))
                    || at >= 17 && (0..9).all(|on| pair(at - 17 + 2 * on));
                prop_assert_eq!(all[0][at / 64] >> (at % 64) & 1 == 1, ends, "{}", at);
            }
        }

        // Mutants: the run that is open at the end of a block is dropped; the mask's own last bit.
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
            let mut all = vec![vec![], vec![]];
            runs_loop!(&text, &mut all[0], letters_plain);
            runs(&text, &mut all[1]);
            #[cfg(target_arch = "x86_64")]
            if x86::has_256() {
                let mut narrow = vec![];
                // SAFETY: the CPU was asked.
                unsafe { x86::runs_256(&text, &mut narrow) };
                all.push(narrow);
            }
            for one in &all {
                prop_assert_eq!(one, &plain);
            }
        }

        // Mutants: `count` for `count - 1` in `in_half`; `before` not carried on.
        #[test]
        fn wide_marks_are_the_plain_ones(
            text in proptest::collection::vec(prop_oneof![
                any::<u8>(), Just(b'1'), Just(b'A'), Just(b' '), Just(b'.'), Just(b'@'), Just(b'+'), Just(b':'), Just(b'['), Just(b'/'), Just(b'{')
            ], 0..300)
        ) {
            let all = all_marks(&text);
            for one in &all[1..] {
                prop_assert_eq!(one, &all[0]);
            }
        }

        // Mutant: `written + BLOCK_BYTES` after a block with an escape.
        #[test]
        fn wide_unescaping_is_the_plain_one(
            text in proptest::collection::vec(prop_oneof![
                4 => Just(b'a'), 1 => Just(b'\\'), 1 => Just(b'n'), 1 => Just(b'u'), 1 => any::<u8>(),
                1 => proptest::sample::select(LEADS.to_vec())
            ], 0..400)
        ) {
            for units in [Units::Json, Units::Any] {
                let all = all_unescaped(&text, units);
                for one in &all[1..] {
                    prop_assert_eq!(one, &all[0]);
                }
            }
        }

        // Mutant: `from + 9` behind the bytes that are looked at one by one.
        #[test]
        fn the_next_lead_is_the_next_one(
            text in proptest::collection::vec(prop_oneof![
                60 => Just(b'a'), 1 => proptest::sample::select(LEADS.to_vec())
            ], 1..400),
            from in any::<proptest::sample::Index>()
        ) {
            let from = from.index(text.len());
            let plain = (from..text.len()).find(|&at| LEADS.contains(&text[at]));
            prop_assert_eq!(next_lead(&text, from), plain);
            prop_assert_eq!(next_loop!(&text, from, leads_plain), plain);
            #[cfg(target_arch = "x86_64")]
            if x86::has_256() {
                // SAFETY: the CPU was asked.
                prop_assert_eq!(unsafe { x86::next_lead_256(&text, from) }, plain);
            }
        }
    }
}
