//! The exchange as a machine: bytes and time in, decisions and bytes out.

pub mod metrics;
