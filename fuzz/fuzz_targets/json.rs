//! Fuzzes the reader of JSON texts; what must hold is in `wire::check::json`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stenograph::wire::check::json(data));
