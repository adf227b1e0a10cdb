//! What a listener demands of whoever connects, so that a connection which was let in under other demands
//! is known for one when the configuration or the authorities change.
//!
//! A connection carries the demands of its begin. Those in force hold for it as well, or it ends: at once
//! while it waits, otherwise behind the exchange that is under way. The listener's own certificates are no
//! demand, so renewing them ends nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::wire::proxy::Network;

/// Whose certificates callers show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerDemands {
    /// What tells each authority from others: SHA-256 over name, key and constraints. One that was
    /// renewed with its name and key is the same.
    pub authorities: BTreeSet<[u8; 32]>,
    /// Callers without a certificate are refused.
    pub required: bool,
}

/// What one listener demands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demands {
    /// The connection is under TLS.
    pub tls: bool,
    /// Callers are asked for certificates.
    pub callers: Option<CallerDemands>,
    /// Every connection comes from one of these proxies, with its header.
    pub proxies: Option<Vec<Network>>,
}

impl Demands {
    /// Whoever was let in under `self` would be let in under `now`, with the same identity.
    pub fn hold_under(&self, now: &Demands) -> bool {
        let callers = match (&self.callers, &now.callers) {
            (None, None) => true,
            (Some(then), Some(now)) => {
                then.authorities.is_subset(&now.authorities) && (then.required || !now.required)
            }
            _ => false,
        };
        let proxies = match (&self.proxies, &now.proxies) {
            (None, None) => true,
            (Some(then), Some(now)) => then.iter().all(|one| now.contains(one)),
            _ => false,
        };
        self.tls == now.tls && callers && proxies
    }
}

/// The demands under which a connection was let in, and whether they were seen to hold.
#[derive(Debug)]
pub(super) struct LetIn {
    demands: Arc<Demands>,
    /// Generation of the snapshot against which they were compared last.
    generation: u64,
    /// They hold no more.
    over: bool,
}

impl LetIn {
    pub(super) fn new(demands: Arc<Demands>, generation: u64) -> LetIn {
        LetIn { demands, generation, over: false }
    }

    /// Compares with the demands of a newer snapshot. Why an older one says nothing: the connection may
    /// have begun under what this worker has not seen yet.
    pub(super) fn look(&mut self, generation: u64, now: Option<&Arc<Demands>>) {
        if generation > self.generation {
            self.generation = generation;
            self.over |= now.is_none_or(|now| !self.demands.hold_under(now));
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callers(authorities: &[u8], required: bool) -> Demands {
        let authorities = authorities.iter().map(|one| [*one; 32]).collect();
        let callers = Some(CallerDemands { authorities, required });
        Demands { tls: true, callers, proxies: None }
    }

    fn proxies(list: &[&str]) -> Demands {
        let list = list.iter().map(|text| Network::parse(text).expect("a network")).collect();
        Demands { proxies: Some(list), ..Demands::default() }
    }

    #[test]
    fn demands_hold_as_long_as_nothing_more_is_asked() {
        let (plain, tls) = (Demands::default(), Demands { tls: true, ..Demands::default() });
        let cases = [
            (plain.clone(), plain.clone(), true),
            (plain.clone(), tls.clone(), false),
            (tls.clone(), plain.clone(), false),
            (callers(&[1], true), callers(&[1, 2], true), true),
            (callers(&[1, 2], true), callers(&[2], true), false),
            (callers(&[1], true), callers(&[2], true), false),
            (callers(&[1], true), callers(&[1], false), true),
            (callers(&[1], false), callers(&[1], true), false),
            (callers(&[1], false), tls.clone(), false),
            (tls, callers(&[1], false), false),
            (proxies(&["10.0.0.1"]), proxies(&["10.0.0.1", "10.0.0.2"]), true),
            (proxies(&["10.0.0.1", "10.0.0.2"]), proxies(&["10.0.0.2"]), false),
            (proxies(&["10.0.0.1"]), plain.clone(), false),
            (plain, proxies(&["10.0.0.1"]), false),
        ];
        for (then, now, holds) in cases {
            assert_eq!(then.hold_under(&now), holds, "{then:?} under {now:?}");
        }
    }
}
