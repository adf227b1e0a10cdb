//! Fuzzes the decoder of content codings; what must hold is in `tests/fuzzed/coding.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stenograph_fuzz::fuzzed::run("coding", input));
