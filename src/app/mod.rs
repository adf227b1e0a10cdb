//! The program: configuration, commands, admin endpoint, demo.

pub mod admin;
pub mod config;
pub mod demo;
pub mod log;
