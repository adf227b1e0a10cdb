//! The program: configuration, commands, admin endpoint, demo.

pub mod admin;
pub mod certificates;
pub mod check;
pub mod cli;
pub mod config;
pub mod demo;
pub mod denyfile;
pub mod doctor;
pub mod evidence;
pub mod explain;
pub mod kernelclock;
pub mod keyfetch;
pub mod keygen;
pub mod log;
pub mod notices;
pub mod reading;
pub mod rules;
pub mod scan;
pub mod serve;
pub mod witness;
