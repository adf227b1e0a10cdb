//! Witnesses: who else saw that the record only grew. `stenograph witness` is one; the gateway asks
//! them.
//!
//! Whoever holds the log's signing key can write another history, and it will verify. A witness on
//! another host remembers the largest tree it has seen of a log, cosigns only trees that continue it,
//! and so makes such a history visible: the protocol is c2sp.org/tlog-witness.
//!
//! | module | holds |
//! |---|---|
//! | [`protocol`] | the request of `add-checkpoint`, read and written |
//! | [`state`] | what a witness remembers, and what it cosigns |
//! | [`server`] | the command `witness` |
//! | [`asker`] | the gateway's side: asking, at start and every second |
//! | [`asking`] | the threads of that, put together |
//! | [`watch`] | how long the record has gone unwitnessed, alarms |

pub mod asker;
pub mod asking;
pub mod protocol;
pub mod server;
pub mod state;
pub mod watch;
