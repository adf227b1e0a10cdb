//! The exchange machine played by scripts: bytes and time in, bytes and entries of the record out,
//! without a socket. What is behind the connection is real: tokens, grants, rules, and a recorder that
//! writes to a disk in memory.

mod record_support;

#[path = "wire/vectors.rs"]
mod vectors;

#[path = "exchange/rig.rs"]
mod rig;
#[path = "exchange/script.rs"]
mod script;
#[path = "exchange/stage.rs"]
mod stage;

#[path = "exchange/access.rs"]
mod access;
#[path = "exchange/browsers.rs"]
mod browsers;
#[path = "exchange/calls.rs"]
mod calls;
#[path = "exchange/cuts.rs"]
mod cuts;
#[path = "exchange/delivery.rs"]
mod delivery;
#[path = "exchange/encoded.rs"]
mod encoded;
#[path = "exchange/exact.rs"]
mod exact;
#[path = "exchange/failing.rs"]
mod failing;
#[path = "exchange/handles.rs"]
mod handles;
#[path = "exchange/idle.rs"]
mod idle;
#[path = "exchange/opaque.rs"]
mod opaque;
#[path = "exchange/recorder.rs"]
mod recorder;
#[path = "exchange/streams.rs"]
mod streams;
#[path = "exchange/structured.rs"]
mod structured;
#[path = "exchange/timeouts.rs"]
mod timeouts;
#[path = "exchange/versions.rs"]
mod versions;
