//! Where units of a coding may begin: escapes, `%41`, `&#65;`, characters that are not seen.

use super::Block;
use crate::guard::units;

pub(super) fn backslashes_plain(block: &Block) -> u64 {
    block
        .iter()
        .enumerate()
        .fold(0, |mask, (place, &byte)| mask | u64::from(byte == b'\\') << place)
}

/// The bytes of ASCII with which a unit of a coding begins: an escape, `%41`, `&#65;`, a sequence for terminals.
pub(super) const SIGNS: [u8; 4] = [b'\\', b'%', b'&', 0x1b];

/// The first two bytes of the characters that are not seen ([`units::UNSEEN`]) in UTF-8, as bits by their lower seven
/// bits: such a character may begin where the bits of a first byte and those of the byte behind it meet.
pub(super) struct Unseen {
    pub(super) first: [u8; 128],
    pub(super) second: [u8; 128],
}

pub(super) const UNSEEN: Unseen = {
    let mut out = Unseen { first: [0; 128], second: [0; 128] };
    // First bytes that have a bit; the last bit serves all beyond the seventh.
    let mut bits = 0;
    let mut range = 0;
    while range < units::UNSEEN.len() {
        let (mut value, last) = units::UNSEEN[range];
        while value <= last {
            let (first, second) = match value {
                0..0x800 => (0xc0 | value >> 6, 0x80 | value & 0x3f),
                0x800..0x1_0000 => (0xe0 | value >> 12, 0x80 | value >> 6 & 0x3f),
                _ => (0xf0 | value >> 18, 0x80 | value >> 12 & 0x3f),
            };
            let first = (first & 0x7f) as usize;
            if out.first[first] == 0 {
                out.first[first] = 1 << if bits < 7 { bits } else { 7 };
                bits += 1;
            }
            out.second[(second & 0x7f) as usize] |= out.first[first];
            value += 1;
        }
        range += 1;
    }
    out
};

/// Whether a unit may begin with `byte`, whatever stands behind it.
pub(super) const IS_LEAD: [bool; 256] = {
    let mut table = [false; 256];
    let mut place = 0;
    while place < SIGNS.len() {
        table[SIGNS[place] as usize] = true;
        place += 1;
    }
    let mut byte = 0;
    while byte < 128 {
        table[128 + byte] = UNSEEN.first[byte] != 0;
        byte += 1;
    }
    table
};

/// Whether a unit may begin with `byte`, asked without a table: never false where [`IS_LEAD`] is true.
#[inline]
pub(in crate::guard) fn is_lead_like(byte: u8) -> bool {
    matches!(byte, b'\\' | b'%' | b'&' | 0x1b | 0xc2..)
}

#[inline]
pub(super) fn is_backslash(byte: u8) -> bool {
    byte == b'\\'
}

#[inline]
pub(in crate::guard) fn is_lead(byte: u8) -> bool {
    IS_LEAD[byte as usize]
}

/// The bytes of a block with which a unit may begin: signs, and first bytes of characters that may be unseen as far as
/// the byte behind them says; behind the last one of the block may be anything.
pub(super) fn leads_plain(block: &Block) -> u64 {
    let (mut signs, mut strange) = (0, 0);
    for (place, byte) in block.iter().enumerate() {
        signs |= u64::from(SIGNS.contains(byte)) << place;
        strange |= u64::from(!byte.is_ascii()) << place;
    }
    signs | unseen_among(block, strange)
}

/// The bytes among `strange`, which are not ASCII, with which an unseen character may begin.
#[inline]
pub(super) fn unseen_among(block: &Block, mut strange: u64) -> u64 {
    let mut mask = 0;
    while strange != 0 {
        let place = strange.trailing_zeros() as usize;
        strange &= strange - 1;
        let first = UNSEEN.first[(block[place] & 0x7f) as usize];
        let meets =
            |next: u8| !next.is_ascii() && UNSEEN.second[(next & 0x7f) as usize] & first != 0;
        let may = first != 0 && block.get(place + 1).is_none_or(|&next| meets(next));
        mask |= u64::from(may) << place;
    }
    mask
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
pub(super) use next_loop;
