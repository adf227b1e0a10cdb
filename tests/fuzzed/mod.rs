//! What the fuzz targets ask of each input, as functions that panic when the answer is wrong: called by
//! `fuzz/fuzz_targets/` on what the fuzzer makes, and by `tests/fuzz_seeds.rs` on what is kept.
//!
//! An input is bytes and cut points. What stands behind the last byte 0xff says the sizes of the pieces
//! in which the bytes in front of it arrive, one byte for each piece; without an 0xff all is one piece.
//!
//! Each target names the mutants that it was checked against: the fuzzer found each within a second, from
//! the seeds of `fuzz/seeds.py`.

#![allow(dead_code, reason = "each user asks some of it")]

#[path = "../exchange/rig.rs"]
mod rig;
#[path = "../exchange/script.rs"]
mod script;
#[path = "../exchange/stage.rs"]
mod stage;

#[path = "../record_support/mod.rs"]
mod record_support;
#[path = "../twins/mod.rs"]
mod twins;

mod coding;
mod config;
mod connection;
mod guard;
mod proxy;
mod segment;
mod wire;

/// The bytes of an input, and the sizes of the pieces in which they come.
pub fn parts(input: &[u8]) -> (&[u8], Vec<usize>) {
    match memchr::memrchr(0xff, input) {
        Some(at) => (&input[..at], input[at + 1..].iter().copied().map(size).collect()),
        None => (input, Vec::new()),
    }
}

/// The size that one byte stands for: each of 1 to 128, then up to 8 KiB in steps of 64.
fn size(byte: u8) -> usize {
    match byte {
        0..128 => usize::from(byte) + 1,
        128.. => (usize::from(byte) - 127) * 64,
    }
}

/// Cuts `bytes` into pieces of these sizes; what is left is the last piece.
fn pieces(bytes: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut at = 0;
    let mut pieces = Vec::new();
    for size in sizes {
        let end = (at + size).min(bytes.len());
        pieces.push(bytes[at..end].to_vec());
        at = end;
    }
    pieces.push(bytes[at..].to_vec());
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// A target: takes one input.
pub type Target = fn(&[u8]);

/// Every target by its name: that of the file in `fuzz/fuzz_targets/` and of the folder of its seeds.
pub const TARGETS: &[(&str, Target)] = &[
    ("head", wire::head),
    ("body", wire::body),
    ("sse", wire::sse),
    ("json", wire::json),
    ("mcp", wire::mcp),
    ("coding", coding::run),
    ("connection", connection::run),
    ("config", config::run),
    ("segment", segment::run),
    ("proxy", proxy::run),
    ("guard", guard::run),
];

/// Runs the target called `name`.
pub fn run(name: &str, input: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a known target");
    target(input);
}
