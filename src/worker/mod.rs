//! One ring per core: accepts, performs the actions of the machines, keeps upstream connections.
//!
//! A worker is one pinned thread with its own tokio-uring runtime, its own listeners (`SO_REUSEPORT`,
//! so the kernel spreads connections) and its own upstream pools. Workers share read-only snapshots
//! and a few counters; nothing on the way of a call takes a lock that another worker holds.
//!
//! | module | holds |
//! |---|---|
//! | [`ring`] | ring flags, what the kernel must offer, the start-up probe |
//! | [`shared`] | what all workers and the control threads share |
//! | [`core`] | the worker thread: accept, drain, ticks |
//! | [`client`] | the task of one client connection: performs actions, reports events |
//! | [`proxied`] | the header of a proxy in front of the gateway |
//! | [`receive`] | receiving without holding a buffer meanwhile |
//! | [`send`] | sending all pieces of a message |
//! | [`pipe`] | a connection, plain or under TLS |
//! | [`handshake`] | TLS handshakes: time, bytes, and what becomes of refused ones |
//! | [`receipts`] | who waits for the record; handing entries over turn by turn |
//! | [`upstream`] | pools of kept upstream connections |
//! | [`tls`] | TLS towards clients and upstreams |
//! | [`sources`] | how many connections each source has open |
//! | [`socket`] | the few socket calls that the ring does not do |

pub mod client;
pub mod core;
pub mod handshake;
pub mod pipe;
pub mod proxied;
pub mod receipts;
pub mod receive;
pub mod ring;
pub mod send;
pub mod shared;
pub mod socket;
pub mod sources;
pub mod tls;
pub mod upstream;
