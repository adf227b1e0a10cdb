//! Finding the next byte that matters, eight and sixty-four at a time.
//!
//! Holds the two searches that `memchr` has no needle for: they look for *ranges*, and one of them passes the short
//! escapes of JSON. Does not judge anything. Invariant of every function: the answer is the first index at or after
//! `from` where the byte is in the set, or `bytes.len()`.

const ONES: u64 = u64::MAX / 255;
const HIGHS: u64 = ONES * 0x80;

/// High bit set in every byte of `word` that is zero; the lowest one set is exact, bits above a true
/// hit may be false (the borrow runs upwards).
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// The same for bytes below `bound`, which is at most 0x80.
fn below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(ONES * bound as u64) & !word & HIGHS
}

fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    let chunk = bytes.get(at..at + 8)?;
    Some(u64::from_le_bytes(chunk.try_into().expect("eight bytes")))
}

/// Bytes of a word that stop a string of JSON: quotes, backslashes, control bytes (below 0x20).
fn string_stops(word: u64) -> u64 {
    below(word, 0x20) | zeros(word ^ (ONES * b'"' as u64)) | zeros(word ^ (ONES * b'\\' as u64))
}

/// Where a string of JSON stops to be plain text and short escapes: its closing quote, a control byte (below 0x20),
/// the backslash of any other escape, or the end of `bytes`; and whether there was an escape before.
pub(super) fn string_stop(bytes: &[u8], from: usize) -> (usize, bool) {
    let mut at = from;
    // Why: most strings end within a word or four, and long escapes stand in rows; only long texts earn the blocks.
    for _ in 0..4 {
        let Some(word) = word_at(bytes, at) else { break };
        let hits = string_stops(word);
        if hits == 0 {
            at += 8;
            continue;
        }
        at += (hits.trailing_zeros() / 8) as usize;
        if !is_short_escape(bytes, at) {
            return (at, false);
        }
        break;
    }
    let mut escaped = false;
    while let Some(block) = bytes[at..].first_chunk::<BLOCK_BYTES>() {
        let (stops, slash) = string_masks(block);
        let starts = escape_starts(slash);
        // What an escape takes stops nothing.
        let stops = stops & !(starts << 1);
        let plain = (stops & stops.wrapping_neg()).wrapping_sub(1);
        // An escape that the block cuts is looked at with the next one.
        let mut escapes = starts & plain & !CUT;
        while escapes != 0 {
            let place = escapes.trailing_zeros() as usize;
            if !SHORT_ESCAPES[block[place + 1] as usize] {
                return (at + place, escaped);
            }
            escaped = true;
            escapes &= escapes - 1;
        }
        if stops != 0 {
            return (at + stops.trailing_zeros() as usize, escaped);
        }
        at += BLOCK_BYTES - usize::from(starts & CUT != 0);
    }
    loop {
        at = word_stop(bytes, at);
        if !is_short_escape(bytes, at) {
            return (at, escaped);
        }
        (at, escaped) = (at + 2, true);
    }
}

/// The first byte that stops a string, whatever it is.
fn word_stop(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(word) = word_at(bytes, at) {
        let hits = string_stops(word);
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let stops = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    bytes[at..].iter().position(stops).map_or(bytes.len(), |on| at + on)
}

/// Second bytes of the short escapes of RFC 8259 §7.
const SHORT_ESCAPES: [bool; 256] = {
    let mut table = [false; 256];
    let mut place = 0;
    while place < 8 {
        table[b"\"\\/bfnrt"[place] as usize] = true;
        place += 1;
    }
    table
};

fn is_short_escape(bytes: &[u8], at: usize) -> bool {
    matches!(bytes[at..], [b'\\', second, ..] if SHORT_ESCAPES[second as usize])
}

const BLOCK_BYTES: usize = 64;
/// The last byte of a block.
const CUT: u64 = 1 << (BLOCK_BYTES - 1);

/// The backslashes that begin an escape, each other one of a row, where the byte before the block is none.
/// (Langdale and Lemire, Parsing gigabytes of JSON per second, 2019, §3.1.1.)
#[inline(always)]
pub(crate) fn escape_starts(slash: u64) -> u64 {
    const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
    if slash & (slash << 1) == 0 {
        return slash;
    }
    let series = ((slash << 1) | ODD).wrapping_sub(slash);
    (series ^ ODD) & slash
}

/// The quotes and control bytes of a block, and its backslashes, a bit for each byte.
#[cfg(target_arch = "x86_64")]
fn string_masks(block: &[u8; BLOCK_BYTES]) -> (u64, u64) {
    // SAFETY: SSE2, with which the function is compiled, belongs to every x86-64.
    unsafe { string_masks_128(block) }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn string_masks_128(block: &[u8; BLOCK_BYTES]) -> (u64, u64) {
    use std::arch::x86_64::*;
    let mut out = (0, 0);
    for (place, bytes) in block.as_chunks::<16>().0.iter().enumerate() {
        let bytes = u128::from_le_bytes(*bytes);
        let bytes = _mm_set_epi64x((bytes >> 64) as i64, bytes as i64);
        let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
        let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
        let slash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
        let mask = |bytes: i32| u64::from(bytes as u16) << (place * 16);
        out.0 |= mask(_mm_movemask_epi8(_mm_or_si128(control, quote)));
        out.1 |= mask(_mm_movemask_epi8(slash));
    }
    out
}

/// The same byte by byte.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn string_masks_plain(block: &[u8; BLOCK_BYTES]) -> (u64, u64) {
    let mask = |set: fn(u8) -> bool| {
        let bits = block.iter().enumerate().map(|(place, &byte)| u64::from(set(byte)) << place);
        bits.fold(0, |mask, bit| mask | bit)
    };
    (mask(|byte| byte < 0x20 || byte == b'"'), mask(|byte| byte == b'\\'))
}
#[cfg(not(target_arch = "x86_64"))]
use string_masks_plain as string_masks;

/// First control byte: below 0x20, or DEL.
pub(super) fn control(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(word) = word_at(bytes, at) {
        let hits = below(word, 0x20) | zeros(word ^ (ONES * 0x7f));
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = bytes[at..].iter().position(|&byte| byte < 0x20 || byte == 0x7f);
    rest.map_or(bytes.len(), |more| at + more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Byte by byte.
    fn naive(bytes: &[u8], from: usize) -> (usize, bool) {
        let (mut at, mut escaped) = (from, false);
        loop {
            match bytes[at..] {
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => {
                    (at, escaped) = (at + 2, true);
                }
                [] | [0..0x20 | b'"' | b'\\', ..] => return (at, escaped),
                _ => at += 1,
            }
        }
    }

    // Mutants: `below` with bound 0x1f; `zeros` without `& !word`; a short escape that the words meet is one before the
    // stop; each backslash begins an escape; a cut escape is passed; `starts` for `starts & plain`; the quote that an
    // escape takes stops; `escaped` of the whole block; one byte behind the escape at the end.
    proptest! {
        #[test]
        fn agrees_with_looking_at_every_byte(
            pieces in proptest::collection::vec(prop_oneof![
                (1usize..90).prop_map(|length| vec![b'a'; length]),
                proptest::sample::select(vec!["\\n", "\\\"", "\\\\", "\\/"]).prop_map(|it| it.as_bytes().to_vec()),
                proptest::sample::select(vec!["\\", "\"", "\\u0041", "\\x", "\n", "\x1f"]).prop_map(|it| it.as_bytes().to_vec()),
                proptest::collection::vec(prop_oneof![Just(0x80u8), Just(0xffu8), any::<u8>(), Just(b' ')], 1..9),
            ], 0..20),
            from in 0usize..80,
        ) {
            let bytes = pieces.concat();
            let from = from.min(bytes.len());
            prop_assert_eq!(string_stop(&bytes, from), naive(&bytes, from));
            let is_control = |byte: &u8| *byte < 0x20 || *byte == 0x7f;
            let plain = bytes[from..].iter().position(is_control).map_or(bytes.len(), |on| from + on);
            prop_assert_eq!(control(&bytes, from), plain);
        }

        // Texts of servers: hundreds of bytes with short escapes all along. Mutant: a block that ends in the second of two
        // backslashes is read again from there.
        #[test]
        fn escapes_all_along_are_passed(
            gaps in proptest::collection::vec(0usize..70, 0..30), rows in 1usize..6, end in 0usize..70,
            escape in proptest::sample::select(vec![&b"\\\""[..], b"\\\\"])
        ) {
            let mut bytes = vec![];
            for gap in gaps {
                bytes.resize(bytes.len() + gap, b'a');
                (0..rows).for_each(|_| bytes.extend_from_slice(escape));
            }
            let stop = bytes.len();
            bytes.push(b'"');
            bytes.resize(bytes.len() + end, b' ');
            prop_assert_eq!(string_stop(&bytes, 0).0, stop);
        }

        #[test]
        fn a_lone_stop_in_a_long_run_is_found(len in 0usize..300, at in 0usize..300, stop in 0u8..0x23) {
            let mut bytes = vec![b'x'; len];
            if at < len { bytes[at] = stop; }
            prop_assert_eq!(string_stop(&bytes, 0), naive(&bytes, 0));
        }

        #[test]
        fn wide_masks_are_the_plain_ones(bytes in proptest::collection::vec(prop_oneof![
            3 => any::<u8>(), 1 => Just(b'"'), 1 => Just(b'\\'), 1 => 0x1du8..0x23
        ], BLOCK_BYTES)) {
            let block = bytes.first_chunk().unwrap();
            prop_assert_eq!(string_masks(block), string_masks_plain(block));
        }
    }
}
