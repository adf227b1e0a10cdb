//! Where a shape may start, told by classes of bytes.

use super::{Block, fresh};

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
    pub(super) fn plain(block: &Block) -> Masks {
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

/// Places of one block where a shape may start, each bit at the byte that shows it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::guard) struct Marks {
    /// Offset of the block.
    pub(in crate::guard) at: usize,
    /// The first digit behind a gap of one to three bytes behind a group of three digits or more.
    pub(in crate::guard) joint: u64,
    /// The ninth digit of a run whose first digit does not follow a letter.
    pub(in crate::guard) nine: u64,
    /// The first digit after a `+` that does not follow a letter.
    pub(in crate::guard) plus: u64,
    /// The fourth byte of `AA99` at the start of a word.
    pub(in crate::guard) tight: u64,
    /// The fifth byte of `AA 99`.
    pub(in crate::guard) spaced: u64,
    /// A digit after a dot after a digit.
    pub(in crate::guard) dotted: u64,
    /// An `@`.
    pub(in crate::guard) email: u64,
    /// A dot, and another one seven bytes before it.
    pub(in crate::guard) dots: u64,
}

impl Marks {
    /// All places.
    pub(in crate::guard) fn any(&self) -> u64 {
        let numbers = self.joint | self.nine | self.plus | self.dotted;
        numbers | self.tight | self.spaced | self.email | self.dots
    }
}

/// What stands in the window at `at`.
#[inline(always)]
pub(super) fn marks_of(at: usize, here: &Masks) -> Marks {
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
