//! Fuzzes the reader of bodies; what must hold is in `wire::check::body`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stenograph::wire::check::body(data));
