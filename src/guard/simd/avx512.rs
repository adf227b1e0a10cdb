//! The functions of this folder with AVX-512: the masks of a block from comparisons, or with one look into a
//! table where the CPU has that (VBMI).

use std::arch::x86_64::*;

use super::leads::{IS_LEAD, SIGNS, UNSEEN, is_backslash, is_lead, next_loop, unseen_among};
use super::marks::{Marks, Masks, marks_of};
use super::survey::{Classes, Survey, runs_of, survey_loop};
use super::text::{TEXT, TextMasks, each_bit, text_loop, text_of};
use super::unescape::{SHORT, Unescaped, Units, unescape_loop};
use super::{BACK_BYTES, BLOCK_BYTES, Block, STEP_BYTES, fresh, padded, whole, windows};
use crate::guard::runs;
use crate::wire::escape_starts;

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
        // Why apart: where the next block begins is known before this one is, as long as the branch is told right.
        if stops | starts >> 63 == 0 && length == BLOCK_BYTES {
            let text = _mm512_mask_mov_epi8(bytes, second, short);
            store_512(to, _mm512_maskz_compress_epi8(!starts, text));
            let units = starts.count_ones() as usize;
            (read, written, count) =
                (read + BLOCK_BYTES, written + BLOCK_BYTES - units, count + units);
            continue;
        }
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
            if first == b'\\' && from.get(read + 1).is_some_and(|&byte| SHORT[byte as usize] != 0) {
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
    SIGNS
        .iter()
        .fold(0, |mask, &sign| mask | _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(sign as i8)))
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
    let first =
        _mm512_maskz_permutex2var_epi8(strange, load_512(&first[0]), bytes, load_512(&first[1]));
    let second =
        _mm512_maskz_permutex2var_epi8(strange, load_512(&second[0]), bytes, load_512(&second[1]));
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
            | class(runs::BASE64[byte] != runs::NONE, LETTER);
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
