//! The public keys of all issuers: what is in force, and what is to be fetched.
//!
//! [`key`] reads a key set (RFC 7517) and keeps what may verify an access token. [`KeySets`] is the
//! snapshot that workers share, swapped whole. [`KeyFetcher`] is the machine that decides when which
//! document is fetched; a control thread performs it.
//!
//! It does not fetch anything and no address ever comes from a token.
//!
//! Invariants: a snapshot names per issuer until when its keys may be used, so that tokens are refused
//! when fetching has failed for too long even if the control thread is gone; the generation changes
//! exactly when a key was added or removed.

mod fetcher;
pub mod key;

use std::sync::Arc;

pub use fetcher::{Fetch, FetchFault, KeyFetcher, Stage};
pub use key::{Algorithm, Key, KeyFault, KeySet, Lookup};

use crate::types::Now;

/// Immutable snapshot of all issuers' key sets, indexed like the configured issuers.
#[derive(Debug, Clone, Default)]
pub struct KeySets {
    /// Changes when any issuer's keys change. Cached verdicts of another generation are void.
    pub generation: u64,
    issuers: Vec<IssuerKeys>,
}

/// What is known about one issuer's keys.
#[derive(Debug, Clone, Default)]
pub struct IssuerKeys {
    /// The last good set, if there ever was one.
    pub set: Option<Arc<KeySet>>,
    /// Monotonic instant at which the fetch that brought the set began, in nanoseconds.
    pub fetched_ns: u64,
    /// Monotonic instant after which the set must not be used, in nanoseconds.
    pub usable_until_ns: u64,
    /// Fetches that have ended, well or not. Somebody who waits for a fetch waits for this to change.
    pub attempts: u64,
    /// Whether a fetch is under way.
    pub fetching: bool,
    /// Monotonic instant from which a wish for a fetch is granted, in nanoseconds.
    pub wish_from_ns: u64,
}

impl KeySets {
    /// A snapshot of these issuers.
    pub fn new(generation: u64, issuers: Vec<IssuerKeys>) -> KeySets {
        KeySets { generation, issuers }
    }

    /// A snapshot of sets that never age, for tests and benches.
    pub fn fixed(sets: Vec<KeySet>) -> KeySets {
        let issuers = sets
            .into_iter()
            .map(|set| IssuerKeys {
                set: Some(Arc::new(set)),
                usable_until_ns: u64::MAX,
                ..IssuerKeys::default()
            })
            .collect();
        KeySets { generation: 1, issuers }
    }

    /// The keys of `issuer` that may be used now; `None` when there are none or they are too old.
    pub fn usable(&self, issuer: usize, now: Now) -> Option<&Arc<KeySet>> {
        let keys = self.issuers.get(issuer)?;
        keys.set.as_ref().filter(|_| now.mono_ns < keys.usable_until_ns)
    }

    /// Everything known about `issuer`.
    pub fn issuer(&self, issuer: usize) -> Option<&IssuerKeys> {
        self.issuers.get(issuer)
    }

    /// Whether waiting can help: a fetch for `issuer` is under way or a wish would start one. If not,
    /// refuse at once.
    pub fn waiting_helps(&self, issuer: usize, now: Now) -> bool {
        self.issuers
            .get(issuer)
            .is_some_and(|keys| keys.fetching || now.mono_ns >= keys.wish_from_ns)
    }

    /// Whether every issuer has usable keys: part of being ready.
    pub fn complete(&self, now: Now) -> bool {
        !self.issuers.is_empty()
            && (0..self.issuers.len()).all(|issuer| self.usable(issuer, now).is_some())
    }
}
