//! What is decoded and what is not, with bombs of our own making.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;
use crate::limits::MIB;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn bare_deflate(text: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// One frame with a check sum, with a window of this logarithm and no size at its head.
fn zstd_windowed(text: &[u8], window_log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn encode(coding: Coding, text: &[u8]) -> Vec<u8> {
    match coding {
        Coding::Gzip => gzip(text),
        Coding::Deflate => zlib(text),
        Coding::Zstd => zstd_windowed(text, 20),
    }
}

fn read(coding: Coding, encoded: &[u8]) -> Result<BytesMut, CodingRule> {
    decode(coding, encoded, &Limits::default(), &mut |_| true).map_err(|fault| {
        assert!(fault.at <= encoded.len() as u64);
        fault.rule
    })
}

/// A text that is about as long when it is encoded.
fn text(bytes: usize) -> Vec<u8> {
    let mut state = 7u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

const SAID: &[u8] =
    br#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"said"}]}}"#;

#[test]
fn what_is_encoded_once_is_decoded() {
    for coding in Coding::ALL {
        for said in [SAID.to_vec(), text(300_000), Vec::new()] {
            assert_eq!(read(coding, &encode(coding, &said)).unwrap(), said, "{coding:?}");
        }
        assert_eq!(Coding::of(coding.as_str().to_uppercase().as_bytes()), Some(coding));
    }
    // One layer, by one name.
    for value in ["", "br", "identity", "x-gzip", "gzip, gzip", "gzip,", " gzip", "zstd;q=1"] {
        assert_eq!(Coding::of(value.as_bytes()), None, "{value}");
    }
}

/// Mutants: the check of the ratio left out; the bound of the text left out.
#[test]
fn bombs_end_at_the_ratio_and_hold_little() {
    let zeros = vec![0; 64 << 20];
    for coding in Coding::ALL {
        let bomb = encode(coding, &zeros);
        let mut most = 0;
        let limits = Limits { answer_bytes_max: 16 * MIB, ..Limits::default() };
        let fault = decode(coding, &bomb, &limits, &mut |bytes| {
            most = most.max(bytes);
            true
        });
        assert_eq!(fault.unwrap_err().rule, CodingRule::Ratio, "{coding:?}");
        assert!(most <= 100 * bomb.len() as u64, "{coding:?}: {most} of {}", bomb.len());
    }
    let long = text(100_000);
    let limits = Limits { answer_bytes_max: 99_999, ..Limits::default() };
    for coding in Coding::ALL {
        let fault = decode(coding, &encode(coding, &long), &limits, &mut |_| true).unwrap_err();
        assert_eq!(fault.rule, CodingRule::TooLong);
        let mut budget = |bytes| bytes <= 50_000;
        let limits = Limits::default();
        let fault = decode(coding, &encode(coding, &long), &limits, &mut budget).unwrap_err();
        assert_eq!(fault.rule, CodingRule::Memory);
    }
}

/// Mutant: the default window of the library (128 MiB).
#[test]
fn a_zstd_window_above_eight_mebibytes_is_refused() {
    assert_eq!(read(Coding::Zstd, &zstd_windowed(&text(5000), 23)).unwrap(), text(5000));
    for window_log in [24, 27] {
        let wide = zstd_windowed(&text(5000), window_log);
        assert_eq!(read(Coding::Zstd, &wide), Err(CodingRule::Corrupt), "{window_log}");
    }
}

/// Mutant: what is left behind the end is not looked at.
#[test]
fn a_second_member_and_anything_else_behind_the_end_is_refused() {
    for coding in Coding::ALL {
        let one = encode(coding, SAID);
        for behind in [&one[..], b"\0", b"\n", &encode(coding, b"")] {
            let both = [&one, behind].concat();
            assert_eq!(read(coding, &both), Err(CodingRule::Trailing), "{coding:?}");
        }
    }
    // A skippable frame in front (RFC 8878 §3.1.2) or behind: other decoders drop it or stop at it.
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let frame = encode(Coding::Zstd, SAID);
    let front = [&skippable, &frame[..]].concat();
    assert_eq!(read(Coding::Zstd, &front), Err(CodingRule::Corrupt));
    assert_eq!(read(Coding::Zstd, &[&frame, &skippable[..]].concat()), Err(CodingRule::Trailing));
}

#[test]
fn nothing_is_given_of_what_is_cut_short() {
    for coding in Coding::ALL {
        let whole = encode(coding, SAID);
        for end in 0..whole.len() {
            let rule = read(coding, &whole[..end]).expect_err("cut short");
            assert!(
                matches!(rule, CodingRule::Truncated | CodingRule::Corrupt),
                "{coding:?} {end}: {rule:?}"
            );
        }
    }
}

/// Mutant: the trailer of gzip is not compared.
#[test]
fn a_wrong_check_sum_is_refused() {
    for coding in Coding::ALL {
        let whole = encode(coding, SAID);
        for at in whole.len() - 4..whole.len() {
            let mut bent = whole.clone();
            bent[at] ^= 1;
            assert_eq!(read(coding, &bent), Err(CodingRule::Corrupt), "{coding:?} {at}");
        }
    }
    // The length at the end of a gzip member is of what was said, too.
    let mut crc = gzip(SAID);
    let at = crc.len() - 8;
    crc[at] ^= 1;
    assert_eq!(read(Coding::Gzip, &crc), Err(CodingRule::Corrupt));
}

#[test]
fn what_is_called_by_another_name_is_refused() {
    for called in Coding::ALL {
        for coding in Coding::ALL {
            let outcome = read(called, &encode(coding, SAID));
            assert_eq!(outcome.is_ok(), called == coding, "{coding:?} called {called:?}");
        }
        assert_eq!(read(called, SAID), Err(CodingRule::Corrupt));
        assert_eq!(read(called, &bare_deflate(SAID)), Err(CodingRule::Corrupt));
    }
    // One layer: what is inside is given as it is, and is no JSON.
    assert_eq!(read(Coding::Gzip, &gzip(&gzip(SAID))).unwrap(), gzip(SAID));
}

proptest! {
    #[test]
    fn bytes_of_any_kind_break_nothing(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        said in proptest::collection::vec(any::<u8>(), 0..300),
        bend in any::<(usize, u8)>(),
    ) {
        for coding in Coding::ALL {
            let _ = read(coding, &bytes);
            let mut encoded = encode(coding, &said);
            prop_assert_eq!(read(coding, &encoded).unwrap(), said.clone());
            let at = bend.0 % encoded.len();
            encoded[at] ^= bend.1;
            // A bit of a gzip head (time, system) may change without changing the text.
            if let Ok(text) = read(coding, &encoded) {
                prop_assert_eq!(text, said.clone());
            }
        }
    }
}
