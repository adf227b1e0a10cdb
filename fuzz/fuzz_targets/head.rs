//! Fuzzes the reader of request and response heads; what must hold is in `wire::check::head`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stenograph::wire::check::head(data));
