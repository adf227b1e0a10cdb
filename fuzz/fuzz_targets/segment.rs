//! Fuzzes the reader of a record; what must hold is in `tests/fuzzed/segment.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stenograph_fuzz::fuzzed::run("segment", input));
