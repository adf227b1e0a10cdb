//! All that one pass over a text tells of it: where shapes may start, where units may begin, long runs of letters.

use std::ops::Range;

use super::leads::leads_plain;
use super::marks::Marks;
use super::{BACK_BYTES, BLOCK_BYTES, Block, STEP_BYTES, fresh};
use crate::guard::runs;

/// What a window is looked at for at first: most have nothing of it but plain letters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Classes {
    pub(super) digit: u64,
    pub(super) upper: u64,
    pub(super) at: u64,
    /// `.` and `+`.
    pub(super) join: u64,
    /// Where units may begin.
    pub(super) lead: u64,
    /// Letters of base64 (RFC 4648 §4 and §5).
    pub(super) letter: u64,
}

impl Classes {
    /// Byte by byte: the twin.
    pub(super) fn plain(block: &Block) -> Classes {
        let mut out = Classes::default();
        for (place, &byte) in block.iter().enumerate() {
            let bit = |yes: bool| u64::from(yes) << place;
            out.digit |= bit(byte.is_ascii_digit());
            out.upper |= bit(byte.is_ascii_uppercase());
            out.at |= bit(byte == b'@');
            out.join |= bit(byte == b'.' || byte == b'+');
            out.letter |= bit(runs::BASE64[byte as usize] != runs::NONE);
        }
        out.lead = leads_plain(block);
        out
    }

    /// Whether a shape other than an address may be shown by a byte of the window: all of them begin with three digits
    /// in a row, with two behind a capital letter and one byte more, or with one behind a `+` or a dot; or with two dots.
    #[inline(always)]
    pub(super) fn may_show(&self) -> bool {
        let two = self.digit & self.digit << 1;
        let number = two & (self.digit << 2 | self.upper << 3) | self.digit & self.join << 1;
        number | self.join & self.join << 7 != 0
    }
}

/// All that one pass over a text tells of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::guard) struct Survey {
    /// The windows in which a shape may start.
    pub(in crate::guard) marks: Vec<Marks>,
    /// Where units may begin: a word a window, a bit a byte that is fresh in it.
    pub(super) leads: Vec<u64>,
    /// Runs of at least [`RUN_BYTES_MIN`] letters of base64, in order.
    pub(in crate::guard) runs: Vec<Range<usize>>,
}

impl Survey {
    pub(super) fn clear(&mut self) {
        self.marks.clear();
        self.leads.clear();
        self.runs.clear();
    }

    /// The next byte from `from` on with which a unit may begin.
    pub(in crate::guard) fn next_lead(&self, from: usize) -> Option<usize> {
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
pub(super) const RUN_BYTES_MIN: usize = runs::LETTERS_MIN;
const _: () = assert!(RUN_BYTES_MIN == 16);

/// Adds the runs of the window at `at` to `out`. `open` is where the run began that reaches the end of the window before.
#[inline(always)]
pub(super) fn runs_of(
    at: usize,
    letter: u64,
    open: &mut Option<usize>,
    out: &mut Vec<Range<usize>>,
) {
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
pub(super) use survey_loop;
