//! TLS 1.2 and 1.3 on both sides, with rustls and aws-lc.
//!
//! | module | holds |
//! |---|---|
//! | [`session`] | one connection as a machine: ciphertext in, plaintext and ciphertext out |
//! | [`accept`] | what a listener shows and demands: certificates by name, callers' certificates |
//! | [`open`] | what is demanded of an upstream, and shown to it |
//! | [`peer`] | what a certificate says, for the record and for `check` |
//! | [`why`] | why a handshake failed, in the words of the gateway |
//!
//! Decided here: no early data (RFC 8446 §8: it can be replayed, and a call is never made twice), no
//! renegotiation (rustls has none), extended master secret is required in TLS 1.2 (RFC 7627: without
//! it the exporter of two connections can be made equal), `http/1.1` is the only application protocol,
//! and a caller that resumes a session is verified again, as of now; upstreams resume none, so that each
//! connection verifies its upstream.

pub mod accept;
pub mod open;
pub mod peer;
pub mod session;
pub mod why;
