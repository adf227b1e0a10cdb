//! Content codings: what is decoded is what the libraries behind it read, within the bounds, and whole.

use std::io::Read;

use stenograph::limits::Limits;
use stenograph::wire::coding::{Coding, decode};

/// The first byte chooses the coding. Mutant: what stands behind the end is not looked at.
pub fn run(input: &[u8]) {
    let Some((kind, encoded)) = input.split_first() else { return };
    let coding = Coding::ALL[usize::from(*kind) % 3];
    let limits = Limits { answer_bytes_max: 256 * 1024, ..Limits::default() };
    let mut reserved = 0;
    let read = decode(coding, encoded, &limits, &mut |bytes| {
        assert!(bytes >= reserved, "memory shrinks while it is decoded");
        reserved = bytes;
        true
    });
    let most = limits.answer_bytes_max.min(100 * encoded.len() as u64);
    assert!(reserved <= most, "{reserved} bytes of {}", encoded.len());
    let text = match read {
        Ok(text) => text,
        Err(fault) => {
            assert!(fault.at <= encoded.len() as u64);
            return;
        }
    };
    assert_eq!(text.len() as u64, reserved);
    // The twins read on over members and frames until the bytes are over: there is one only.
    let mut twin = Vec::new();
    let outcome = match coding {
        Coding::Gzip => flate2::read::MultiGzDecoder::new(encoded).read_to_end(&mut twin),
        Coding::Deflate => flate2::read::ZlibDecoder::new(encoded).read_to_end(&mut twin),
        Coding::Zstd => zstd::stream::copy_decode(encoded, &mut twin).map(|()| twin.len()),
    };
    outcome.expect("the library reads what is accepted");
    assert_eq!(twin, text);
    // One byte more, or one less, and it is refused.
    let longer = [encoded, b"\0"].concat();
    assert!(decode(coding, &longer, &limits, &mut |_| true).is_err(), "a byte behind the end");
    let shorter = &encoded[..encoded.len() - 1];
    assert!(decode(coding, shorter, &limits, &mut |_| true).is_err(), "a byte is missing");
}
