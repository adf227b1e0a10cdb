//! Fuzzes the reader of event streams; what must hold is in `wire::check::events`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stenograph::wire::check::events(data));
