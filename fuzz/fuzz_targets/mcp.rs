//! Fuzzes the reader of JSON-RPC messages; what must hold is in `wire::check::message`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stenograph::wire::check::message(data));
