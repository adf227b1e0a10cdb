//! Fuzzes the reader of the configuration; what must hold is in `tests/fuzzed/config.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stenograph_fuzz::fuzzed::run("config", input));
