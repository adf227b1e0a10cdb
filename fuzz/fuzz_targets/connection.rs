//! Fuzzes a client connection between a client and a server; what must hold is in `tests/fuzzed/connection.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stenograph_fuzz::fuzzed::run("connection", input));
