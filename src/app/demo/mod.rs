//! The parts that the demo embeds in the binary; tests use them too.

pub mod idp;
pub mod server;
pub mod story;
pub mod world;
