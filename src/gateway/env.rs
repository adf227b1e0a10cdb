//! What the machines of one worker share: the read-only snapshot and the worker's own tools.
//!
//! A [`Snapshot`] is swapped whole (configuration, key sets, deny list, rules); its generation number
//! tells machines that hold something derived from an older one to judge again.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use super::budget::Budget;
use super::demands::Demands;
use super::fault::Fault;
use super::metrics::{Counters, Metrics};
use super::refusals::Refusals;
use super::schemas::Schemas;
use super::session::{SessionSlot, SessionTable};
use crate::auth::cache::Cache;
use crate::auth::deny::DenyList;
use crate::auth::handle::HandleKey;
use crate::auth::keys::KeySets;
use crate::auth::token::Issuer;
use crate::guard::policy::{Access, Policy};
use crate::guard::{CallerMark, Mask, RuleSet, Scanner, Structured};
use crate::limits::Limits;
use crate::record::{Keep, Level, Recorder};
use crate::types::{ExchangeId, Identity, Now, SessionId};
use crate::wire::coding::Coding;
use crate::wire::json;
use crate::wire::proxy::Network;

/// How the worker makes TLS connections to an upstream. The machines do not look into it.
#[derive(Debug)]
pub struct RouteTls {
    /// What is demanded and shown.
    pub config: Arc<rustls::ClientConfig>,
    /// Who the upstream has to be.
    pub name: rustls::pki_types::ServerName<'static>,
    /// Differs between any two: connections made under one are not used under another.
    pub number: u64,
}

/// One upstream as the machines see it.
#[derive(Debug, Clone)]
pub struct Route {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// Path prefix that callers use, without a slash at its end (`""` for the root).
    pub path: String,
    /// Value of `Host` towards the upstream.
    pub host: String,
    /// Path of the MCP endpoint at the upstream.
    pub target: String,
    /// Where to connect.
    pub address: SocketAddr,
    /// How to make the connection safe; `None` is plain.
    pub tls: Option<Arc<RouteTls>>,
    /// Required audience and public URL.
    pub resource: Arc<str>,
    /// URL of the protected-resource metadata (RFC 9728 §3.1).
    pub metadata_url: String,
    /// Path at which that document is served.
    pub metadata_path: String,
    /// The document.
    pub metadata: Bytes,
    /// Field name and value that authenticate the gateway to the upstream.
    pub credential: Option<(String, Vec<u8>)>,
    /// Codings in which its answers may come.
    pub decode: Vec<Coding>,
    /// Connections to this upstream, of all workers together. Event streams are not counted, whether a
    /// GET asked for them or a call is answered by one: each has a client connection for itself, so they
    /// are bounded by `connections_max` and `connections_each_max`.
    pub connections: u32,
}

/// How a grant wants its exchanges recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// How far the record must be before bytes go on, where the grant sets it.
    pub level: Option<Level>,
    /// How bodies are kept.
    pub keep: Keep,
}

/// The configuration in the form that the machines use.
#[derive(Debug)]
pub struct Settings {
    /// Id of the policy: names the entry of the record that holds its text.
    pub policy_id: Arc<str>,
    /// All bounds.
    pub limits: Limits,
    /// Upstreams, longest path first.
    pub routes: Vec<Route>,
    /// Accepted issuers.
    pub issuers: Vec<Issuer>,
    /// Grants.
    pub policy: Policy,
    /// How each grant wants its exchanges recorded.
    pub grant_terms: Vec<Terms>,
    /// Proxies whose header begins every connection, per listener; `None` where there is no header.
    pub proxies: Vec<Option<Vec<Network>>>,
    /// What each listener demands of whoever connects.
    pub demands: Vec<Arc<Demands>>,
    /// Browser origins let in, per listener.
    pub origins: Vec<Vec<String>>,
    /// Names that a request may be sent to, per listener, in lower case without port.
    pub hosts: Vec<Vec<String>>,
    /// How far the record must be before bytes go on.
    pub level: Level,
    /// Masking style.
    pub mask: Mask,
    /// What becomes of structured content that a mask makes unfit, where the rule does not say.
    pub structured: Structured,
    /// Key of the session and event handles.
    pub handle_key: HandleKey,
    /// Key of the visible pseudonyms.
    pub pseudonym_key: [u8; 32],
    /// What is sealed to auditors.
    pub seals: Seals,
}

/// What is handed to the writer to be sealed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seals {
    /// Messages as they came, where something else went on.
    pub originals: bool,
    /// The caller's token, at its first use on a worker.
    pub tokens: bool,
    /// Whole bodies, none of which is stored in clear.
    pub payloads: bool,
}

/// Everything that may change while the process runs, as one value.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows with every change.
    pub generation: u64,
    /// Configuration.
    pub settings: Arc<Settings>,
    /// Key sets of all issuers.
    pub keys: Arc<KeySets>,
    /// Who is out.
    pub deny: Arc<DenyList>,
    /// Compiled rules.
    pub rules: Arc<RuleSet>,
}

/// A verified caller at one upstream, kept beside the token in the cache of the worker.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub identity: Arc<Identity>,
    /// Which grants apply.
    pub access: Access,
    /// Idle-window session.
    pub slot: Arc<SessionSlot>,
    /// The subject part of every entry of this caller, encoded once.
    pub subject: Bytes,
    /// Finds the caller's token in what passes.
    pub mark: Option<Arc<CallerMark>>,
}

/// Makes exchange ids of one worker.
#[derive(Debug)]
pub struct Ids {
    worker: u8,
    counter: u32,
    state: u64,
}

impl Ids {
    /// Ids of worker `worker`; `seed` comes from the system's random source.
    pub fn new(worker: u8, seed: u64) -> Ids {
        Ids { worker, counter: 0, state: seed }
    }

    /// Random bits for ids. Not for keys: SplitMix64 (Steele, Lea, Flood 2014) only keeps ids of
    /// several processes apart.
    pub fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next exchange id.
    pub fn exchange(&mut self, now: Now) -> ExchangeId {
        self.counter = self.counter.wrapping_add(1);
        let random = self.random();
        ExchangeId::new(now.utc_ns, self.worker, self.counter, random)
    }
}

/// The counters of one worker.
#[derive(Debug, Clone)]
pub struct WorkerCounters {
    /// Counters of all workers.
    pub all: Arc<Metrics>,
    /// Which of them is ours.
    pub worker: usize,
}

impl std::ops::Deref for WorkerCounters {
    type Target = Counters;
    fn deref(&self) -> &Counters {
        self.all.worker(self.worker)
    }
}

/// Pseudonym keys of the sessions that were seen last: one HMAC for each session instead of two for
/// each exchange.
#[derive(Debug, Default)]
pub struct Pseudonyms {
    keys: HashMap<SessionId, [u8; 32]>,
}

/// Bound: beyond it all are forgotten and derived again when needed.
const PSEUDONYM_KEYS_MAX: usize = 4096;

impl Pseudonyms {
    /// The key of `session`: equal values are equal within a session and cannot be compared between
    /// sessions.
    pub fn key(&mut self, base: &[u8; 32], session: SessionId) -> [u8; 32] {
        use hmac::{Hmac, Mac};
        if self.keys.len() >= PSEUDONYM_KEYS_MAX {
            self.keys.clear();
        }
        *self.keys.entry(session).or_insert_with(|| {
            let mut mac =
                Hmac::<sha2::Sha256>::new_from_slice(base).expect("HMAC takes a key of any length");
            mac.update(&session.to_bytes());
            mac.finalize().into_bytes().into()
        })
    }
}

/// A fault that somebody should read about; the worker passes it on to the log.
#[derive(Debug, Clone)]
pub struct Notice {
    /// The fault.
    pub fault: Fault,
    /// Whose it is.
    pub whose: Whose,
    /// Where the record has the rest, when there was an exchange.
    pub exchange: Option<ExchangeId>,
    /// Why, where more is known than the label says.
    pub why: Option<String>,
}

/// Whose fault it is, as far as names and addresses tell.
#[derive(Debug, Clone)]
pub enum Whose {
    /// Of whoever sits at this address.
    Source(IpAddr),
    /// Of the upstream of this name.
    Upstream(Arc<str>),
    /// Of this host.
    Own,
}

/// Bound: notices of one turn; what comes beyond is counted and recorded all the same.
const NOTICES_MAX: usize = 64;

/// The tools of one worker, lent to its machines for each event.
pub struct Env {
    /// The snapshot in force.
    pub snapshot: Arc<Snapshot>,
    /// The scanner with this worker's scratch memory.
    pub scanner: Scanner,
    /// Memory of the strict JSON pass.
    pub json: json::Scratch,
    /// Verified tokens.
    pub tokens: Cache<Arc<Caller>>,
    /// The way to the writer.
    pub recorder: Recorder,
    /// Exchange ids.
    pub ids: Ids,
    /// Idle-window sessions of all workers.
    pub sessions: Arc<SessionTable>,
    /// Output schemas of tools, shared by all workers.
    pub schemas: Arc<Schemas>,
    /// Payload memory of the process.
    pub budget: Arc<Budget>,
    /// Counters of this worker.
    pub metrics: WorkerCounters,
    /// Keys of the visible pseudonyms.
    pub pseudonyms: Pseudonyms,
    /// Refusals before authentication.
    pub refusals: Refusals,
    /// Faults to be logged; the worker passes them on and empties the list.
    pub notices: Vec<Notice>,
    /// Issuers whose keys are wanted; the worker passes them on and empties the list.
    pub keys_wanted: Vec<u16>,
    /// The process is draining: no new exchange begins.
    pub draining: bool,
    /// The drain is over: what is still open is cut.
    pub drained: bool,
}

impl Env {
    /// Leaves a notice for the log.
    pub fn notice(&mut self, notice: Notice) {
        if self.notices.len() < NOTICES_MAX {
            self.notices.push(notice);
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.snapshot.settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_within_one_instant() {
        let mut ids = Ids::new(3, 42);
        let now = Now { utc_ns: 1_700_000_000_000_000_000, mono_ns: 0 };
        let made: std::collections::HashSet<_> = (0..1000).map(|_| ids.exchange(now)).collect();
        assert_eq!(made.len(), 1000);
    }
}
