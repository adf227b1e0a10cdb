//! Fuzzes the reader of JSON texts; what must hold is in `tests/fuzzed/wire.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stenograph_fuzz::fuzzed::run("json", input));
