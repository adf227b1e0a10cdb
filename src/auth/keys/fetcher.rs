//! The machine that keeps key sets fresh: which document is due, what its arrival means, when to try
//! again. Time and bytes come in; a thread performs the [`Fetch`].
//!
//! Per issuer:
//!
//! | state | event | next |
//! |---|---|---|
//! | `Idle` (due at an instant) | `poll` at or after it | `Discovery`, fetch of `<issuer>/.well-known/openid-configuration` |
//! | `Idle` | `want`, not paced | `Idle`, due now |
//! | `Discovery` | `arrived`, document names this issuer and a lawful `jwks_uri` | `Keys`, fetch of it |
//! | `Keys` | `arrived`, a readable set with at least one usable key | `Idle`, set in force, due after `keys_fresh_ms_max` |
//! | `Discovery`, `Keys` | `arrived` with anything else, or `failed` | `Idle`, last good set stays, due after a growing pause |
//!
//! Invariants: at most one fetch per issuer is under way; unknown key ids cause at most one fetch per
//! `keys_refetch_ms_min`; a set is used for at most `keys_age_ms_max` after the fetch that brought it
//! *began*; every address comes from the configuration or from a document fetched from there.

use std::fmt;
use std::sync::Arc;

use super::{IssuerKeys, KeySet, KeySets};
use crate::auth::object;
use crate::auth::token::Issuer;
use crate::limits::Limits;
use crate::types::Now;

/// First pause after a failed fetch; doubles with each further one.
const RETRY_MS_MIN: u64 = 1_000;
/// Longest pause after failed fetches: an issuer that comes back is noticed within a minute.
const RETRY_MS_MAX: u64 = 60_000;

/// Which document is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// OpenID Connect Discovery 1.0 §4.
    Discovery,
    /// The key set that discovery named.
    Keys,
}

/// One fetch to perform: a GET without credentials, no redirect followed, at most `bytes_max` of body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Index of the issuer.
    pub issuer: usize,
    /// Which document.
    pub stage: Stage,
    /// `https`, or `http` towards a loopback name; the performer checks the resolved address too.
    pub url: String,
    /// Longest body.
    pub bytes_max: u64,
}

/// Why a fetch brought nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchFault {
    /// The configured or discovered address is neither https nor http towards loopback.
    Address,
    /// The name does not resolve, or to an address that is not allowed.
    Resolve,
    /// No connection, or TLS failed.
    Connect,
    /// Too slow.
    Timeout,
    /// A status other than 200 (a redirect is one of them).
    Status(u16),
    /// Body over `keys_bytes_max`.
    TooLong,
    /// The connection broke while the answer was read, or it was no HTTP.
    Broken,
    /// The document is not what it should be.
    Document,
    /// `issuer` in the discovery document is not the configured URL.
    Issuer,
    /// `jwks_uri` is missing or not https (http only from loopback issuer to loopback).
    KeysAddress,
    /// The set holds no key that may verify a token.
    NoKeys,
}

impl FetchFault {
    /// The name used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            FetchFault::Address => "address",
            FetchFault::Resolve => "resolve",
            FetchFault::Connect => "connect",
            FetchFault::Timeout => "timeout",
            FetchFault::Status(_) => "status",
            FetchFault::TooLong => "too-long",
            FetchFault::Broken => "broken",
            FetchFault::Document => "document",
            FetchFault::Issuer => "issuer",
            FetchFault::KeysAddress => "keys-address",
            FetchFault::NoKeys => "no-keys",
        }
    }
}

impl fmt::Display for FetchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchFault::Address => {
                f.write_str("address is neither https nor http towards loopback")
            }
            FetchFault::Resolve => f.write_str("name does not resolve to an allowed address"),
            FetchFault::Connect => f.write_str("no connection, or its certificate is not trusted"),
            FetchFault::Timeout => f.write_str("no answer in time"),
            FetchFault::Status(status) => write!(f, "status {status}, expected 200"),
            FetchFault::TooLong => f.write_str("document is longer than keys_bytes_max"),
            FetchFault::Broken => f.write_str("answer broke off or is no HTTP"),
            FetchFault::Document => f.write_str("document is not the expected JSON"),
            FetchFault::Issuer => {
                f.write_str("\"issuer\" in the discovery document differs from the configured url")
            }
            FetchFault::KeysAddress => {
                f.write_str("\"jwks_uri\" is missing or not https (http only for loopback issuers)")
            }
            FetchFault::NoKeys => f.write_str("key set holds no usable key"),
        }
    }
}

#[derive(Debug)]
enum State {
    Idle { due_ns: u64 },
    Discovery,
    Keys,
}

#[derive(Debug)]
struct One {
    issuer: Issuer,
    state: State,
    /// The next fetch of the run under way, until `poll` hands it out.
    next: Option<(Stage, String)>,
    began_ns: u64,
    failures: u32,
    keys: IssuerKeys,
}

/// See the module's table.
#[derive(Debug)]
pub struct KeyFetcher {
    issuers: Vec<One>,
    limits: Limits,
    generation: u64,
}

impl KeyFetcher {
    /// Every issuer is due at once. `generation` is that of the first snapshot: after a reload it must
    /// be above the last one, so that no verdict of the old configuration lives on.
    pub fn new(issuers: &[Issuer], limits: &Limits, generation: u64) -> KeyFetcher {
        let issuers = issuers
            .iter()
            .map(|issuer| One {
                issuer: issuer.clone(),
                state: State::Idle { due_ns: 0 },
                next: None,
                began_ns: 0,
                failures: 0,
                keys: IssuerKeys { fetching: true, ..IssuerKeys::default() },
            })
            .collect();
        KeyFetcher { issuers, limits: limits.clone(), generation }
    }

    /// What workers may see now.
    pub fn snapshot(&self) -> KeySets {
        KeySets::new(self.generation, self.issuers.iter().map(|one| one.keys.clone()).collect())
    }

    /// Somebody met a key id that is not in the set, or no set. Starts a fetch unless one is under way
    /// or such a wish was granted within `keys_refetch_ms_min`; true when it did.
    pub fn want(&mut self, issuer: usize, now: Now) -> bool {
        let Some(one) = self.issuers.get_mut(issuer) else { return false };
        if now.mono_ns < one.keys.wish_from_ns {
            return false;
        }
        let State::Idle { due_ns } = &mut one.state else { return false };
        *due_ns = now.mono_ns;
        one.keys.wish_from_ns = now.after_ms(self.limits.keys_refetch_ms_min);
        one.keys.fetching = true;
        true
    }

    /// The next fetch to perform, if one is due. Its end is told with [`KeyFetcher::arrived`] or
    /// [`KeyFetcher::failed`].
    pub fn poll(&mut self, now: Now) -> Option<Fetch> {
        for (issuer, one) in self.issuers.iter_mut().enumerate() {
            if matches!(one.state, State::Idle { due_ns } if due_ns <= now.mono_ns) {
                let url = format!(
                    "{}/.well-known/openid-configuration",
                    one.issuer.url.strip_suffix('/').unwrap_or(&one.issuer.url)
                );
                one.state = State::Discovery;
                one.began_ns = now.mono_ns;
                one.keys.fetching = true;
                one.next = Some((Stage::Discovery, url));
            }
            if let Some((stage, url)) = one.next.take() {
                return Some(Fetch { issuer, stage, url, bytes_max: self.limits.keys_bytes_max });
            }
        }
        None
    }

    /// When [`KeyFetcher::poll`] may next have something, in monotonic nanoseconds.
    pub fn deadline_ns(&self) -> u64 {
        self.issuers
            .iter()
            .map(|one| match one.state {
                State::Idle { due_ns } => due_ns,
                State::Discovery | State::Keys if one.next.is_some() => 0,
                State::Discovery | State::Keys => u64::MAX,
            })
            .min()
            .unwrap_or(u64::MAX)
    }

    /// The body of a fetch with status 200 is here.
    ///
    /// # Errors
    /// Why it is of no use; the machine has already noted it and will try again.
    pub fn arrived(&mut self, issuer: usize, body: &[u8], now: Now) -> Result<(), FetchFault> {
        let Some(one) = self.issuers.get_mut(issuer) else { return Ok(()) };
        let outcome = match one.state {
            State::Idle { .. } => return Ok(()),
            State::Discovery => read_discovery(body, &one.issuer.url).map(|url| {
                one.state = State::Keys;
                one.next = Some((Stage::Keys, url));
            }),
            State::Keys => KeySet::read(body, &one.issuer.algorithms)
                .map_err(|_| FetchFault::Document)
                .and_then(
                    |set| if set.keys().is_empty() { Err(FetchFault::NoKeys) } else { Ok(set) },
                )
                .map(|set| {
                    let same = one.keys.set.as_ref().is_some_and(|old| old.same_keys(&set));
                    // An expired set counts as gone: its return is a change for everybody.
                    if !same || one.keys.usable_until_ns <= now.mono_ns {
                        self.generation += 1;
                    }
                    one.keys.set = Some(Arc::new(set));
                    one.keys.fetched_ns = one.began_ns;
                    one.keys.usable_until_ns = one
                        .began_ns
                        .saturating_add(self.limits.keys_age_ms_max.saturating_mul(1_000_000));
                    one.keys.attempts += 1;
                    one.keys.fetching = false;
                    one.failures = 0;
                    // Why at half the age: with a short age set for tests or caution, the refresh must
                    // still come before the end.
                    let fresh_ms =
                        self.limits.keys_fresh_ms_max.min(self.limits.keys_age_ms_max / 2);
                    one.state = State::Idle { due_ns: now.after_ms(fresh_ms) };
                }),
        };
        if let Err(fault) = outcome {
            self.failed(issuer, now);
            return Err(fault);
        }
        Ok(())
    }

    /// The fetch under way brought nothing. The last good set stays until its age is over.
    pub fn failed(&mut self, issuer: usize, now: Now) {
        let Some(one) = self.issuers.get_mut(issuer) else { return };
        if matches!(one.state, State::Idle { .. }) {
            return;
        }
        let pause_ms = (RETRY_MS_MIN << one.failures.min(6)).min(RETRY_MS_MAX);
        one.failures = one.failures.saturating_add(1);
        one.keys.attempts += 1;
        one.keys.fetching = false;
        one.next = None;
        one.state = State::Idle { due_ns: now.after_ms(pause_ms) };
    }
}

/// OpenID Connect Discovery 1.0 §4.3: `issuer` must be identical to the address the document was asked
/// from. Gives `jwks_uri`.
fn read_discovery(body: &[u8], issuer: &str) -> Result<String, FetchFault> {
    let document = object::read(body).map_err(|_| FetchFault::Document)?;
    if document.get("issuer").and_then(|value| value.as_str()) != Some(issuer) {
        return Err(FetchFault::Issuer);
    }
    let url = document
        .get("jwks_uri")
        .and_then(|value| value.as_str())
        .filter(|url| url.bytes().all(|byte| byte.is_ascii_graphic()))
        .ok_or(FetchFault::KeysAddress)?;
    // Why: an issuer that is reached over TLS must not send us to an unprotected address, loopback or
    // not; only a loopback issuer may name a loopback address.
    let lawful = url.starts_with("https://") || (is_loopback_http(issuer) && is_loopback_http(url));
    if lawful { Ok(url.to_owned()) } else { Err(FetchFault::KeysAddress) }
}

/// Whether `url` is plain http whose host is `localhost`, in 127.0.0.0/8, or `[::1]`, without userinfo.
pub(crate) fn is_loopback_http(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // Readers of addresses differ on both: no host is worth guessing behind them.
    if authority.contains(['@', '\\']) {
        return false;
    }
    let host = match authority.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((host, port)) if port.is_empty() || port.starts_with(':') => host,
            _ => return false,
        },
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl super::KeySets {
    /// Whether `url` may be an issuer's: https, or http towards a loopback name.
    pub fn address_allowed(url: &str) -> bool {
        let https = url.strip_prefix("https://").is_some_and(|rest| {
            !rest.is_empty()
                && !rest.starts_with('/')
                && !rest.split('/').next().unwrap_or_default().contains('@')
        });
        url.bytes().all(|byte| byte.is_ascii_graphic())
            && !url.contains(['?', '#'])
            && (https || is_loopback_http(url))
    }
}
