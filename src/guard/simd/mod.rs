//! Sixty-four bytes at a time: classes of bytes as bit masks, and unescaping.
//!
//! Each function exists once as safe code over one block ([`Masks::plain`]) and once for each set of
//! instructions; the CPU is asked once. Both give the same result for every input, which the tests check
//! on all that the CPU has. The loops are written once, as macros, so that they are compiled with
//! the instructions of the function they stand in.
//!
//! | File | What is in it |
//! |---|---|
//! | `marks` | where shapes of numbers and addresses may start |
//! | `leads` | where units of a coding may begin |
//! | `survey` | one pass that tells both, and the runs of letters |
//! | `text` | encoded text that decodes to text |
//! | `unescape` | decoding |
//! | `avx512`, `avx2` | the same with wide instructions |

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod leads;
mod marks;
mod survey;
mod text;
mod unescape;

use self::leads::{IS_LEAD, backslashes_plain, is_backslash, leads_plain, next_loop};
pub(super) use self::leads::{is_lead, is_lead_like};
pub(super) use self::marks::Marks;
use self::marks::{Masks, marks_of};
pub(super) use self::survey::Survey;
use self::survey::{Classes, runs_of, survey_loop};
use self::text::{each_bit, text_loop, text_masks_plain, text_of};
use self::unescape::{SHORT, unescape_loop};
pub(super) use self::unescape::{Unescaped, Units};

/// Bytes of a block.
pub(super) const BLOCK_BYTES: usize = 64;

type Block = [u8; BLOCK_BYTES];

/// Bytes by which one window goes on behind the one before it, and those that both see: nothing that is told of a byte
/// depends on one further back. So no window needs to know of another one, and no shift carries.
const STEP_BYTES: usize = 48;
const BACK_BYTES: usize = BLOCK_BYTES - STEP_BYTES;

/// The bytes of the window at `at` that no window before has told of.
#[inline(always)]
fn fresh(at: usize) -> u64 {
    if at == 0 { u64::MAX } else { u64::MAX << BACK_BYTES }
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
use windows;

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

/// Calls `each` for the bytes of `text` that may end a group of letters of base64 or hexadecimal text behind enough
/// others that decode to printable bytes. Never for too few: a text of twelve letters of base64, or sixteen of hexadecimal,
/// has one (for base64 at its last letter but one).
pub(super) fn text_ends(text: &[u8], mut each: impl FnMut(usize)) {
    #[cfg(target_arch = "x86_64")]
    if avx512::has_table() {
        // SAFETY: the CPU was asked for the instructions that the function is compiled with.
        return unsafe { avx512::text_ends_table(text, &mut each) };
    }
    text_loop!(text, &mut each, whole, padded, text_masks_plain);
}

/// Looks at `text` once; `out` is what it tells.
pub(super) fn survey(text: &[u8], out: &mut Survey) {
    out.clear();
    #[cfg(target_arch = "x86_64")]
    {
        if avx512::has_table() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { avx512::survey_table(text, out) };
        }
        if avx512::has_512() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { avx512::survey_512(text, out) };
        }
        if avx2::has_256() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { avx2::survey_256(text, out) };
        }
    }
    survey_loop!(text, out, whole, padded, Classes::plain, Masks::plain);
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
        if avx512::has_squeeze() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { avx512::unescape_squeeze(from, out, units, long) };
        }
        if avx512::has_512() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { avx512::unescape_512(from, out, units, long) };
        }
        if avx2::has_256() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { avx2::unescape_256(from, out, units, long) };
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
        if avx512::has_512() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { avx512::next_lead_512(text, from) };
        }
        if avx2::has_256() {
            // SAFETY: the CPU was asked for the instructions that the function is compiled with.
            return unsafe { avx2::next_lead_256(text, from) };
        }
    }
    next_loop!(text, from, leads_plain)
}

#[cfg(test)]
mod tests {
    use super::leads::SIGNS;
    use super::survey::RUN_BYTES_MIN;
    use super::text::TEXT;
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
            if avx512::has_512() {
                // SAFETY: the CPU was asked.
                add(&|out| unsafe { avx512::survey_512(text, out) });
            }
            if avx2::has_256() {
                // SAFETY: the CPU was asked.
                add(&|out| unsafe { avx2::survey_256(text, out) });
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
            if avx512::has_512() {
                // SAFETY: the CPU was asked.
                all.push(run(&|out| unsafe { avx512::unescape_512(text, out, units, long) }));
            }
            if avx2::has_256() {
                // SAFETY: the CPU was asked.
                all.push(run(&|out| unsafe { avx2::unescape_256(text, out, units, long) }));
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
            if avx2::has_256() {
                // SAFETY: the CPU was asked.
                prop_assert_eq!(behind(&|from| unsafe { avx2::next_lead_256(&text, from) }), plain);
            }
        }
    }
}
