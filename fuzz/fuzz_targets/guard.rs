//! Fuzzes the engines of the guard beside each other; what must hold is in `tests/fuzzed/guard.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stenograph_fuzz::fuzzed::run("guard", input));
