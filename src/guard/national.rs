//! Validators of national identity numbers, dates of birth and the addresses of crypto wallets.
//!
//! Each takes the matched bytes with their separators. Sources stand at the variants of
//! [`super::validate::Validator`].

use sha2::{Digest, Sha256};

use super::people::digits;

/// Verhoeff: the digit of an Aadhaar number that closes the sum in the dihedral group of ten.
pub(super) fn aadhaar(value: &[u8]) -> bool {
    let Some((d, 12)) = digits::<12>(value) else { return false };
    // d(a, b) of the group: rotations 0 to 4, reflections 5 to 9.
    let product = |a: u8, b: u8| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => 5 + (a + b - 5) % 5,
        (false, true) => 5 + (a - 5 + 5 - b) % 5,
        (false, false) => (a + 5 - b) % 5,
    };
    const TURN: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let sum = d.iter().rev().enumerate().fold(0, |sum, (place, &digit)| {
        product(sum, (0..place % 8).fold(digit, |digit, _| TURN[digit as usize]))
    });
    d[0] >= 2 && sum == 0 && d.iter().any(|&digit| digit != d[0])
}

/// Day and month that a calendar has.
fn calendar(day: u32, month: u32) -> bool {
    (1..=31).contains(&day) && (1..=12).contains(&month)
}

pub(super) fn pesel(value: &[u8]) -> bool {
    let Some((d, 11)) = digits::<11>(value) else { return false };
    let sum: u32 =
        d.iter().zip([1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]).map(|(&d, w)| d as u32 * w).sum();
    // The century is in the month: 1800 adds 80, 2000 adds 20, 2100 adds 40.
    let month = (d[2] as u32 * 10 + d[3] as u32) % 20;
    sum.is_multiple_of(10) && calendar(d[4] as u32 * 10 + d[5] as u32, month)
}

/// Spain: the letter is the number modulo 23; X, Y and Z stand for 0, 1 and 2.
pub(super) fn dni(value: &[u8]) -> bool {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let compact: Vec<u8> = value
        .iter()
        .filter(|byte| byte.is_ascii_alphanumeric())
        .map(u8::to_ascii_uppercase)
        .collect();
    let [first, middle @ .., letter] = compact.as_slice() else { return false };
    let first = match first {
        b'X' => b'0',
        b'Y' => b'1',
        b'Z' => b'2',
        other => *other,
    };
    let all = std::iter::once(first).chain(middle.iter().copied());
    let number = all
        .clone()
        .filter(u8::is_ascii_digit)
        .fold(0u32, |number, byte| number.wrapping_mul(10).wrapping_add((byte - b'0') as u32));
    compact.len() == 9
        && all.clone().all(|byte| byte.is_ascii_digit())
        && LETTERS[(number % 23) as usize] == *letter
}

/// Italy: the last letter closes a sum in which odd places count by a table.
pub(super) fn codice_fiscale(value: &[u8]) -> bool {
    const ODD: [u8; 26] = [
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24,
        23,
    ];
    let Some((body, [letter])) = value.split_at_checked(15) else { return false };
    let sum = body.iter().enumerate().try_fold(0u32, |sum, (place, byte)| {
        let worth = match byte.to_ascii_uppercase() {
            letter @ b'A'..=b'Z' => letter - b'A',
            digit @ b'0'..=b'9' => digit - b'0',
            _ => return None,
        };
        Some(sum + if place % 2 == 0 { ODD[worth as usize] } else { worth } as u32)
    });
    sum.is_some_and(|sum| (sum % 26) as u8 + b'A' == letter.to_ascii_uppercase())
}

/// Netherlands: the test of eleven, with the last digit taken off.
pub(super) fn bsn(value: &[u8]) -> bool {
    let Some((d, 9)) = digits::<9>(value) else { return false };
    let sum: i32 = d.iter().zip([9, 8, 7, 6, 5, 4, 3, 2, -1]).map(|(&d, w)| d as i32 * w).sum();
    sum % 11 == 0 && d.iter().any(|&digit| digit != d[0])
}

/// A day between 1900 and 2030 in one of the orders people write; months may be words.
pub(super) fn birth_date(value: &[u8]) -> bool {
    let numbers: Vec<u32> = value
        .split(|byte| !byte.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .filter_map(|part| std::str::from_utf8(part).ok()?.parse().ok())
        .collect();
    let year = |year: u32| (1900..=2030).contains(&year) || year < 100;
    match *numbers.as_slice() {
        [y, m, d] if y > 99 => year(y) && calendar(d, m),
        [a, b, y] => year(y) && (calendar(a, b) || calendar(b, a)),
        [d, y] => year(y) && (1..=31).contains(&d) && value.iter().any(u8::is_ascii_alphabetic),
        _ => false,
    }
}

/// Base58Check of 21 bytes: version 0 or 5 and a hash, closed by four bytes of SHA-256 twice.
pub(super) fn base58_wallet(value: &[u8]) -> bool {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut bytes = [0u8; 25];
    for byte in value {
        let Some(digit) = ALPHABET.iter().position(|known| known == byte) else { return false };
        let mut carry = digit as u32;
        for slot in bytes.iter_mut().rev() {
            carry += *slot as u32 * 58;
            *slot = carry as u8;
            carry >>= 8;
        }
        if carry != 0 {
            return false;
        }
    }
    let (body, check) = bytes.split_at(21);
    matches!(body[0], 0 | 5) && Sha256::digest(Sha256::digest(body))[..4] == *check
}

/// A segregated witness address: bech32 or bech32m by its version (BIP 173, BIP 350).
pub(super) fn segwit(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| bech32::segwit::decode(text).is_ok())
}

/// EIP-55: letters of the address are large where the digit of Keccak-256 over its small form is above
/// seven. Addresses all in one case carry no checksum and do not hold.
pub(super) fn eip55(value: &[u8]) -> bool {
    let Some(body) = value.strip_prefix(b"0x") else { return false };
    if body.len() != 40 || !body.iter().all(u8::is_ascii_hexdigit) {
        return false;
    }
    let hash = keccak256(&body.to_ascii_lowercase());
    let mixed = body.iter().any(u8::is_ascii_lowercase) && body.iter().any(u8::is_ascii_uppercase);
    mixed
        && body.iter().enumerate().all(|(place, byte)| {
            let digit = (hash[place / 2] >> (4 * (1 - place % 2))) & 15;
            byte.is_ascii_digit() || byte.is_ascii_uppercase() == (digit > 7)
        })
}

/// Keccak-256 of less than one block (136 bytes), with the padding from before SHA-3.
fn keccak256(text: &[u8]) -> [u8; 32] {
    const ROTATE: [u32; 24] =
        [1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 2, 14, 27, 41, 56, 8, 25, 43, 62, 18, 39, 61, 20, 44];
    const LANE: [usize; 24] =
        [10, 7, 11, 17, 18, 3, 5, 16, 8, 21, 24, 4, 15, 23, 19, 13, 12, 2, 20, 14, 22, 9, 6, 1];
    debug_assert!(text.len() < 136);
    let mut block = [0u8; 136];
    block[..text.len()].copy_from_slice(text);
    block[text.len()] ^= 1;
    block[135] ^= 0x80;
    let mut state = [0u64; 25];
    for (lane, bytes) in state.iter_mut().zip(block.as_chunks::<8>().0) {
        *lane = u64::from_le_bytes(*bytes);
    }
    // Round constants come from a shift register of eight bits (FIPS 202 §3.2.5).
    let mut register = 1u8;
    for _ in 0..24 {
        let columns: [u64; 5] =
            std::array::from_fn(|x| (0..5).fold(0, |sum, y| sum ^ state[x + 5 * y]));
        for (place, lane) in state.iter_mut().enumerate() {
            let x = place % 5;
            *lane ^= columns[(x + 4) % 5] ^ columns[(x + 1) % 5].rotate_left(1);
        }
        let mut carried = state[1];
        for (&lane, &by) in LANE.iter().zip(&ROTATE) {
            carried = std::mem::replace(&mut state[lane], carried.rotate_left(by));
        }
        for row in state.chunks_exact_mut(5) {
            let old: [u64; 5] = std::array::from_fn(|x| row[x]);
            for x in 0..5 {
                row[x] = old[x] ^ (!old[(x + 1) % 5] & old[(x + 2) % 5]);
            }
        }
        for bit in 0..7 {
            if register & 1 == 1 {
                state[0] ^= 1 << ((1 << bit) - 1);
            }
            register = (register << 1) ^ (0x71 & (register >> 7).wrapping_neg());
        }
    }
    std::array::from_fn(|place| state[place / 8].to_le_bytes()[place % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    // Published examples: UIDAI's and Wikipedia's worked numbers, BIP 173, EIP-55.
    #[test]
    fn published_examples_hold_and_one_character_off_does_not() {
        type Check = fn(&[u8]) -> bool;
        for (check, good, bad) in [
            (aadhaar as Check, "4991 4212 3454", "4991 4212 3455"),
            (pesel, "44051401359", "44051401358"),
            (pesel, "02070803628", "02170803629"),
            (dni, "12345678Z", "12345678A"),
            (dni, "X1234567L", "X1234567M"),
            (codice_fiscale, "RSSMRA85T10A562S", "RSSMRA85T10A562T"),
            (bsn, "111222333", "111222334"),
            (birth_date, "1985-07-14", "1985-13-41"),
            (birth_date, "14/07/1985", "45/14/1985"),
            (birth_date, "July 14, 1985", "July 1985"),
            (
                base58_wallet,
                "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
                "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
            ),
            (
                segwit,
                "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
                "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",
            ),
            (
                eip55,
                "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
                "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD",
            ),
            (
                eip55,
                "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
                "0xfb6916095ca1df60bb79ce92ce3ea74c37c5d359",
            ),
        ] {
            assert!(check(good.as_bytes()), "{good}");
            assert!(!check(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn keccak_is_the_one_from_before_sha_3() {
        assert_eq!(
            crate::types::hex(&keccak256(b"")),
            "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
        );
    }
}
