//! Verified tokens of one worker, by digest: a signature is checked once, not once a call.
//!
//! The token itself is not kept. An entry serves one upstream (the audience was checked for it) and
//! ends at `exp`, when the keys or the policy change, and when the issuer's keys are too old. What the
//! gateway derived from the identity (its grants, its session) rides along as `T`.
//!
//! A bad token is remembered for [`TOKEN_REFUSAL_MS_MAX`], unless the same bytes could become good.
//! It does not know the deny list: the caller asks it on every call, cached or not.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::keys::KeySets;
use super::token::{self, Issuer, TokenFault};
use crate::limits::{Limits, TOKEN_REFUSAL_MS_MAX};
use crate::types::{Identity, Now};

/// SHA-256 of a token's bytes.
pub type TokenDigest = [u8; 32];

/// The digest of `token`.
pub fn digest(token: &[u8]) -> TokenDigest {
    Sha256::digest(token).into()
}

type Place = (TokenDigest, u16);

#[derive(Debug)]
struct Entry<T> {
    identity: Arc<Identity>,
    keys_generation: u64,
    policy_generation: u64,
    keys_until_ns: u64,
    payload: T,
}

#[derive(Debug)]
struct Refusal {
    fault: TokenFault,
    keys_generation: u64,
    policy_generation: u64,
    until_ns: u64,
}

/// What stands around a token when it is judged.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// The configured issuers.
    pub issuers: &'a [Issuer],
    /// Their keys.
    pub keys: &'a KeySets,
    /// Changes with every reload of the configuration.
    pub policy_generation: u64,
    /// Both clocks.
    pub now: Now,
    /// The bounds in force.
    pub limits: &'a Limits,
}

/// See the module's document. `T` is what the caller keeps beside an identity.
#[derive(Debug)]
pub struct Cache<T> {
    good: HashMap<Place, Entry<T>>,
    bad: HashMap<Place, Refusal>,
    entries_max: usize,
}

impl<T> Cache<T> {
    /// An empty cache of at most `token_cache_entries_max` good and as many bad tokens.
    pub fn new(limits: &Limits) -> Cache<T> {
        let entries_max = usize::try_from(limits.token_cache_entries_max).unwrap_or(usize::MAX);
        Cache { good: HashMap::new(), bad: HashMap::new(), entries_max }
    }

    /// Judges `token` for the upstream numbered `upstream` whose resource is `audience`, from memory if
    /// it can. `payload` is asked once per verified token.
    ///
    /// # Errors
    /// As [`token::verify`].
    pub fn check(
        &mut self,
        token: &[u8],
        upstream: u16,
        audience: &str,
        setting: Setting<'_>,
        payload: impl FnOnce(&Arc<Identity>) -> T,
    ) -> Result<(&Arc<Identity>, &mut T), TokenFault> {
        // Bound: nothing longer is hashed.
        if token.len() as u64 > setting.limits.token_bytes_max {
            return Err(TokenFault::TooLong);
        }
        let place = (digest(token), upstream);
        if self.lives(&place, setting) {
            let entry = self.good.get_mut(&place).expect("it was there a line ago");
            return Ok((&entry.identity, &mut entry.payload));
        }
        if let Some(fault) = self.refused(&place, setting) {
            return Err(fault);
        }
        let verdict = token::verify(
            token,
            setting.issuers,
            setting.keys,
            audience,
            setting.now,
            setting.limits,
        );
        match verdict {
            Ok(identity) => {
                let identity = Arc::new(identity);
                let payload = payload(&identity);
                let entry = self.insert(place, identity, payload, setting);
                Ok((&entry.identity, &mut entry.payload))
            }
            Err(fault) => {
                self.refuse(place, fault, setting);
                Err(fault)
            }
        }
    }

    /// Forgets a good token, as if it had not been seen.
    pub fn forget(&mut self, token: &[u8], upstream: u16) {
        self.good.remove(&(digest(token), upstream));
    }

    /// Good tokens remembered.
    pub fn len(&self) -> usize {
        self.good.len()
    }

    /// Whether no good token is remembered.
    pub fn is_empty(&self) -> bool {
        self.good.is_empty()
    }

    /// Whether the token at `place` is known good; forgets it when it is no longer.
    fn lives(&mut self, place: &Place, setting: Setting<'_>) -> bool {
        match self.good.get(place) {
            None => false,
            Some(entry) if entry.lives(setting) => true,
            Some(_) => {
                self.good.remove(place);
                false
            }
        }
    }

    fn refused(&self, place: &Place, setting: Setting<'_>) -> Option<TokenFault> {
        let refusal = self.bad.get(place)?;
        refusal.lives(setting).then_some(refusal.fault)
    }

    fn insert(
        &mut self,
        place: Place,
        identity: Arc<Identity>,
        payload: T,
        setting: Setting<'_>,
    ) -> &mut Entry<T> {
        if self.good.len() >= self.entries_max {
            self.good.retain(|_, entry| entry.lives(setting));
            // Which half goes is chance (the order of a hash map): no bookkeeping on the hot path, and
            // a wrong choice costs one signature check.
            let mut surplus = self.good.len().saturating_sub(self.entries_max / 2);
            self.good.retain(|_, _| {
                let keep = surplus == 0;
                surplus = surplus.saturating_sub(1);
                keep
            });
        }
        let keys_until_ns = setting
            .issuers
            .iter()
            .position(|issuer| issuer.url == *identity.issuer)
            .and_then(|index| setting.keys.issuer(index))
            .map_or(0, |keys| keys.usable_until_ns);
        let entry = Entry {
            identity,
            keys_generation: setting.keys.generation,
            policy_generation: setting.policy_generation,
            keys_until_ns,
            payload,
        };
        self.good.entry(place).insert_entry(entry).into_mut()
    }

    fn refuse(&mut self, place: Place, fault: TokenFault, setting: Setting<'_>) {
        if fault.may_pass_later() {
            return;
        }
        if self.bad.len() >= self.entries_max {
            // Whoever fills it sends rubbish: forgetting costs at most one signature check each.
            self.bad.clear();
        }
        let refusal = Refusal {
            fault,
            keys_generation: setting.keys.generation,
            policy_generation: setting.policy_generation,
            until_ns: setting.now.after_ms(TOKEN_REFUSAL_MS_MAX),
        };
        self.bad.insert(place, refusal);
    }
}

impl<T> Entry<T> {
    fn lives(&self, setting: Setting<'_>) -> bool {
        self.keys_generation == setting.keys.generation
            && self.policy_generation == setting.policy_generation
            && setting.now.mono_ns < self.keys_until_ns
            && setting.now.utc_s() < self.identity.expires_s
    }
}

impl Refusal {
    fn lives(&self, setting: Setting<'_>) -> bool {
        self.keys_generation == setting.keys.generation
            && self.policy_generation == setting.policy_generation
            && setting.now.mono_ns < self.until_ns
    }
}
