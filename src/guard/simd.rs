//! Sixty-four bytes at a time: classes of bytes as bit masks, and unescaping.
//!
//! Each function exists once as safe code over one block ([`Masks::plain`]) and once for each set of
//! instructions; the CPU is asked once. Both give the same result for every input, which the tests check
//! on all that the CPU has. The loops are written once, as macros, so that they are compiled with
//! the instructions of the function they stand in.

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

    use super::{
        BLOCK_BYTES, Block, IS_LEAD, Known, LEADS, Marks, Masks, SHORT, Unescaped, Units,
        is_backslash, is_lead, marks_of,
    };

    /// The standard library keeps the answer.
    pub(super) fn has_512() -> bool {
        std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
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
