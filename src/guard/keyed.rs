//! HMAC-SHA-256 (RFC 2104) of many short texts under one key.
//!
//! A finding is a few bytes, and two rounds of the digest are all that it needs: the two rounds for the key are done once.
//! Why not the crate that signs elsewhere: it spends as much again on buffers that go from text to text.

use sha2::compress256;
use sha2::digest::generic_array::GenericArray;

const BLOCK_BYTES: usize = 64;
/// Bytes of the length that ends the last block.
const LENGTH_BYTES: usize = 8;

/// The state that SHA-256 begins with (FIPS 180-4 §5.3.3).
const BEGIN: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// A key, as both digests stand behind it.
pub(super) struct Keyed {
    inner: [u32; 8],
    outer: [u32; 8],
}

impl Keyed {
    pub(super) fn new(key: &[u8; 32]) -> Keyed {
        let padded = |with: u8| {
            let mut block = [with; BLOCK_BYTES];
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            let mut state = BEGIN;
            compress256(&mut state, &[GenericArray::from(block)]);
            state
        };
        Keyed { inner: padded(0x36), outer: padded(0x5c) }
    }

    /// The HMAC of `text`.
    pub(super) fn of(&self, text: &[u8]) -> [u8; 32] {
        finish(self.outer, &finish(self.inner, text))
    }
}

/// SHA-256 of one block, behind which it stands at `state`, and `text`.
fn finish(mut state: [u32; 8], text: &[u8]) -> [u8; 32] {
    let (blocks, rest) = text.as_chunks::<BLOCK_BYTES>();
    for block in blocks {
        compress256(&mut state, &[GenericArray::from(*block)]);
    }
    let mut last = [[0; BLOCK_BYTES]; 2];
    let bits = (BLOCK_BYTES as u64 + text.len() as u64) * 8;
    let used = 1 + usize::from(rest.len() + 1 + LENGTH_BYTES > BLOCK_BYTES);
    last[0][..rest.len()].copy_from_slice(rest);
    last[0][rest.len()] = 0x80;
    last[used - 1][BLOCK_BYTES - LENGTH_BYTES..].copy_from_slice(&bits.to_be_bytes());
    for block in &last[..used] {
        compress256(&mut state, &[GenericArray::from(*block)]);
    }
    let mut out = [0; 32];
    out.as_chunks_mut::<4>()
        .0
        .iter_mut()
        .zip(state)
        .for_each(|(bytes, word)| *bytes = word.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, Mac};
    use sha2::Sha256;

    use super::*;

    // Mutants: the length without the block of the key; one byte fewer for it; the two pads changed; always two last blocks.
    #[test]
    fn every_length_has_the_code_that_the_crate_gives() {
        for length in 0..300usize {
            let key: [u8; 32] = std::array::from_fn(|at| (at * 7 + length) as u8);
            let text: Vec<u8> = (0..length).map(|at| (at * 31 + length) as u8).collect();
            let mut theirs = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            theirs.update(&text);
            let theirs: [u8; 32] = theirs.finalize().into_bytes().into();
            assert_eq!(Keyed::new(&key).of(&text), theirs, "{length}");
        }
    }
}
