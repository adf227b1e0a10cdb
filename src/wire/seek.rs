//! Finding the next byte that matters, eight and thirty-two at a time.
//!
//! Holds the two searches that `memchr` has no needle for (they look for *ranges*). Does not judge
//! anything. Invariant of every function: the answer is the first index at or after `from` where the
//! byte is in the set, or `bytes.len()`.

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

/// First quote, backslash or control byte (below 0x20): where a run of plain string bytes ends.
pub(super) fn string_stop(bytes: &[u8], from: usize) -> usize {
    let stops = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    let mut at = from;
    // Why: most strings end within a word or four; only long ones earn the wide loop.
    for _ in 0..4 {
        let Some(word) = word_at(bytes, at) else { break };
        let hits = below(word, 0x20)
            | zeros(word ^ (ONES * b'"' as u64))
            | zeros(word ^ (ONES * b'\\' as u64));
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    // Why: a fold without an early exit is what the compiler turns into vector code.
    while let Some(block) = bytes.get(at..at + 32) {
        if block.iter().fold(false, |hit, &byte| hit | stops(byte)) {
            break;
        }
        at += 32;
    }
    bytes[at..].iter().position(|&byte| stops(byte)).map_or(bytes.len(), |more| at + more)
}

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

    // Checked against the mutants: `below` with bound 0x1f; the wide loop stepping by 40; `zeros`
    // without `& !word`.
    proptest! {
        #[test]
        fn agrees_with_looking_at_every_byte(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'a'), Just(0x80u8), Just(0xffu8), any::<u8>(), Just(b' ')], 0..200),
            from in 0usize..80,
        ) {
            let from = from.min(bytes.len());
            let naive = |set: &dyn Fn(u8) -> bool| {
                (from..bytes.len()).find(|&at| set(bytes[at])).unwrap_or(bytes.len())
            };
            prop_assert_eq!(
                string_stop(&bytes, from),
                naive(&|byte| byte < 0x20 || byte == b'"' || byte == b'\\')
            );
            prop_assert_eq!(control(&bytes, from), naive(&|byte| byte < 0x20 || byte == 0x7f));
        }

        #[test]
        fn a_lone_stop_in_a_long_run_is_found(len in 0usize..300, at in 0usize..300, stop in 0u8..0x23) {
            let mut bytes = vec![b'x'; len];
            if at < len { bytes[at] = stop; }
            let naive = bytes.iter().position(|&b| b < 0x20 || b == b'"').unwrap_or(len);
            prop_assert_eq!(string_stop(&bytes, 0), naive);
        }
    }
}
