//! The functions of this folder with AVX2: a block is two halves.

use std::arch::x86_64::*;

use super::leads::{IS_LEAD, SIGNS, is_backslash, is_lead, next_loop, unseen_among};
use super::marks::{Marks, Masks, marks_of};
use super::survey::{Classes, Survey, runs_of, survey_loop};
use super::unescape::{SHORT, Unescaped, Units, unescape_loop};
use super::{BACK_BYTES, BLOCK_BYTES, Block, STEP_BYTES, fresh, padded, whole, windows};

/// The standard library keeps the answer.
pub(super) fn has_256() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
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
    u64::from(_mm256_movemask_epi8(low) as u32) | u64::from(_mm256_movemask_epi8(high) as u32) << 32
}

#[inline]
#[target_feature(enable = "avx2")]
fn masks_256(block: &Block) -> Masks {
    let [low, high] = load_256(block);
    let all = |byte: u8| _mm256_set1_epi8(byte as i8);
    let is =
        |byte: u8| mask_256(_mm256_cmpeq_epi8(low, all(byte)), _mm256_cmpeq_epi8(high, all(byte)));
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
    let is =
        |byte: u8| mask_256(_mm256_cmpeq_epi8(low, all(byte)), _mm256_cmpeq_epi8(high, all(byte)));
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
    let is =
        |byte: u8| mask_256(_mm256_cmpeq_epi8(low, all(byte)), _mm256_cmpeq_epi8(high, all(byte)));
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
