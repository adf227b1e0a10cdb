//! The exchange as a machine: bytes and time in, decisions and bytes out.
//!
//! | module | holds |
//! |---|---|
//! | [`fault`] | every fault and its answer |
//! | [`broken`] | the rule that a fault is about, its source and its place |
//! | [`connection`] | one client connection: the machine |
//! | [`demands`] | what listeners demand, and which connections began under other demands |
//! | [`mod@env`] | what the machines of one worker share |
//! | [`entries`] | what the record says of an exchange |
//! | [`heads`] | heads that the gateway writes itself |
//! | [`schemas`] | what tools say of their structured content |
//! | [`session`] | which exchanges belong together |
//! | [`recording`] | how much is recorded under a policy, and where that is less |
//! | [`refusals`] | refusals before authentication, bounded |
//! | [`secure`] | what is known of a connection that TLS protects |
//! | [`budget`] | payload memory of the process |
//! | [`metrics`] | counters |

pub mod broken;
pub mod budget;
pub mod connection;
pub mod demands;
pub mod entries;
pub mod env;
pub mod fault;
pub mod heads;
pub mod metrics;
pub mod recording;
pub mod refusals;
pub mod schemas;
pub mod secure;
pub mod session;

/// A caller, for the unit tests of what is kept for one.
#[cfg(test)]
fn caller(subject: &str) -> crate::types::Identity {
    crate::types::Identity {
        issuer: "https://idp".into(),
        subject: subject.into(),
        client: None,
        token_id: None,
        groups: vec![],
        claims: Default::default(),
        key_id: "k".into(),
        key_thumbprint: "t".into(),
        issued_s: 0,
        expires_s: 0,
    }
}
