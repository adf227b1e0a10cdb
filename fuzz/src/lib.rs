//! What the fuzz targets share with the tests of the crate: see `tests/fuzzed/mod.rs`.

#[path = "../../tests/fuzzed/mod.rs"]
pub mod fuzzed;
