//! Bytes on the wire: HTTP/1.1 heads and bodies, event streams, JSON and the MCP envelope.
//!
//! Every reader takes bytes and gives positions, events or a fault that names the rule and the byte.
//! Nothing here does I/O, reads a clock, or knows who is calling; nothing here decides what a fault
//! means for the connection ([`crate::gateway`] does).
//!
//! Shared invariants: any cut of the input gives the same answer; "not yet" is no fault; what is
//! accepted is written in one canonical form only.

pub mod body;
pub mod check;
pub mod coding;
pub mod head;
pub mod json;
pub mod mcp;
pub mod proxy;
mod seek;
pub mod sse;

#[cfg(target_arch = "x86_64")]
pub(crate) use seek::escape_starts;

/// Answer of a reader that may need more bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read<T, F> {
    /// Complete: the value, and how many bytes of the input it took.
    Done {
        /// What was read.
        value: T,
        /// Bytes of the input that belong to it.
        used: usize,
    },
    /// Nothing wrong so far, but not all there: call again with the same bytes and more.
    More,
    /// Refused; more bytes change nothing.
    Broken(F),
}
