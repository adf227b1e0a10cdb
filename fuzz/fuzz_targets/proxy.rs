//! Fuzzes the reader of PROXY headers; what must hold is in `tests/fuzzed/proxy.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stenograph_fuzz::fuzzed::run("proxy", input));
