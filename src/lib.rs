//! Stenograph, the court reporter for MCP traffic.
//!
//! This file is the map of the house, ground floor first. A module may use lower floors only;
//! `tests/tidy.rs` checks it.
//!
//! | floor | module | I/O | holds |
//! |---|---|---|---|
//! | 0 | [`limits`], [`types`] | no | every bound; the words that all floors share |
//! | 1 | [`wire`] | no | HTTP/1.1 heads and bodies, event streams, JSON, the MCP envelope |
//! | 2 | [`guard`] | no | rules, scanner, masking, grants |
//! | 2 | [`auth`] | no | tokens, key sets, metadata, the deny list |
//! | 2 | [`record`] | writer and reader only | the log: format, segments, Merkle tree, writer, reader |
//! | 3 | [`gateway`] | no | faults, the exchange and connection machines |
//! | 4 | [`worker`] | yes | one ring per core: accept, perform actions, upstream pool |
//! | 4 | [`audit`] | yes | reading the record back: verify, sessions, show, search, echoed |
//! | 5 | [`app`] | yes | configuration, commands, admin, demo |

pub mod limits;
pub mod types;

pub mod wire;

pub mod auth;
pub mod guard;
pub mod record;

pub mod gateway;

pub mod audit;
pub mod worker;

pub mod app;
