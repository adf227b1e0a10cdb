//! The program: configuration, commands, admin endpoint, demo.

pub mod admin;
pub mod check;
pub mod cli;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod keygen;
pub mod log;
