//! Where text that was encoded as base64 or as hexadecimal digits shows itself as text.

use super::{BLOCK_BYTES, Block, fresh};
use crate::guard::runs;

/// Classes of letters that base64 and hexadecimal text of printable bytes is made of, one bit each. All values of
/// base64 are those of RFC 4648 §4 and §5.
pub(super) const TEXT: [u8; 128] = {
    let mut table = [0; 128];
    let mut byte = 0;
    while byte < 128 {
        let value = runs::BASE64[byte];
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
        if runs::HEX[byte] != 0xff {
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
pub(super) type TextMasks = [u64; 5];

pub(super) fn text_masks_plain(block: &Block) -> TextMasks {
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
pub(super) fn text_of(at: usize, masks: TextMasks) -> u64 {
    // The last letter of a group may be any, and is looked at afterwards.
    let group = masks[2] & masks[1] << 1 & masks[0] << 2;
    let pair = masks[3] & masks[4] << 1;
    let pairs2 = pair & pair << 2;
    let pairs4 = pairs2 & pairs2 << 4;
    (group & group << 4 & group << 8 | pairs4 & pairs4 << 8) & fresh(at)
}

/// Calls `each` with every bit that is set, from `at` on.
#[inline(always)]
pub(super) fn each_bit(at: usize, mut word: u64, each: &mut impl FnMut(usize)) {
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
pub(super) use text_loop;
