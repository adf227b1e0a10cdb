//! What is known of the exchange in progress, whatever its phase.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zeroize::Zeroizing;

use super::super::budget::Reservation;
use super::super::entries::{self, ChunksText, Decision, End, Handed, TargetText, Verdict};
use super::super::env::{Caller, Route, Settings};
use super::super::metrics;
use super::super::secure::Secured;
use super::super::session::SessionRule;
use super::outbox::Emission;
use crate::guard::policy::Permit;
use crate::guard::{Opaque, Original};
use crate::record::{Entry, Keep, Kind, Level, PartKind};
use crate::types::{Direction, Era, ExchangeId, Now, SessionId};
use crate::wire::body::Chunks;
use crate::wire::coding::Coding;
use crate::wire::head::{self, Accepts, Fields, Method};
use crate::wire::mcp;

/// The call as it was judged: kept until the exchange ends, so that a change of grants can judge it
/// again.
pub(super) struct Call {
    pub(super) message: mcp::Message,
    pub(super) bytes: Bytes,
}

/// Bytes that go nowhere: how many, and themselves where they are sealed. Boxed: most exchanges have none.
type Aside = Box<(usize, Option<Original>)>;

/// What the caller knows by handles, as the upstream knows it.
#[derive(Default)]
pub(super) struct UpstreamFields {
    /// `Last-Event-ID`.
    pub(super) event: Option<Box<[u8]>>,
    /// `Mcp-Name`, where that is a task.
    pub(super) name: Option<Box<[u8]>>,
}

/// What the kernel says of a connection that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// Nobody asked.
    Not,
    /// The worker was asked.
    Asked,
    /// Its answer.
    Got(Option<u64>),
}

/// Bound: runs of one delivery entry, about 24 bytes each.
pub(super) const HANDED_MAX: usize = 256;
/// Longest that what the kernel took waits for its delivery entry.
const HANDED_NS: u64 = 1_000_000_000;

/// One HTTP request and its answer.
pub(super) struct Exchange {
    pub(super) id: ExchangeId,
    /// The connection, as the record names it.
    pub(super) connection: ExchangeId,
    pub(super) settings: Arc<Settings>,
    pub(super) started: Now,
    pub(super) http: Method,
    pub(super) request: head::Request,
    /// The head as it came, until it is recorded.
    pub(super) head: BytesMut,
    /// Its credentials are filled, and no rule finds anything in it.
    pub(super) head_clean: Option<bool>,
    /// The head of the upstream's answer, until it is recorded. Why apart: the places of its fields
    /// are known by `answer_fields`, those of `head` by `fields` of the connection.
    pub(super) answer_head: BytesMut,
    pub(super) answer_fields: Fields,
    pub(super) route: Option<usize>,
    pub(super) caller: Option<Arc<Caller>>,
    /// The caller's token, where it is sealed and no entry has it yet. Boxed: it is at its first use only.
    pub(super) token: Option<Box<Original>>,
    pub(super) session: Option<(SessionId, SessionRule)>,
    pub(super) era: Option<Era>,
    pub(super) accepts: Accepts,
    /// Raw JSON text of the call's id.
    pub(super) rpc_id: Option<Bytes>,
    pub(super) rpc_method: Option<Box<str>>,
    pub(super) targets: Vec<TargetText>,
    pub(super) initialize: bool,
    pub(super) call: Option<Box<Call>>,
    pub(super) grant: Option<u16>,
    /// What becomes of opaque content in the answer to the call.
    pub(super) opaque: Opaque,
    pub(super) level: Level,
    /// How bodies are kept.
    pub(super) keep: Keep,
    /// Origin that may read the answer (CORS).
    pub(super) origin: Option<Arc<[u8]>>,
    /// `Mcp-Session-Id` as the upstream knows it.
    pub(super) upstream_session: Option<Box<[u8]>>,
    /// Other fields as the upstream knows them. Boxed: most exchanges have none.
    pub(super) upstream_fields: Option<Box<UpstreamFields>>,
    pub(super) request_memory: Reservation,
    pub(super) answer_memory: Reservation,
    pub(super) ordinal: u32,
    pub(super) status: Option<u16>,
    pub(super) outcome: &'static str,
    /// The same, as it is counted.
    pub(super) counted: metrics::Outcome,
    pub(super) sent_bytes: u64,
    /// The first byte of the head arrived so long before `started`.
    pub(super) head_ns: u64,
    pub(super) forwarded_ns: Option<u64>,
    pub(super) begun_ns: Option<u64>,
    pub(super) sent_ns: Option<u64>,
    /// What of a stream the kernel has taken and no entry has told.
    pub(super) handed: Vec<Handed>,
    /// When the oldest of that was taken, monotonic.
    pub(super) handed_since_ns: Option<u64>,
    /// Bytes that the client had not acknowledged when the exchange was cut.
    pub(super) unacknowledged: Measure,
    pub(super) late_bytes: u64,
    /// Version and suite of TLS on the client's connection.
    pub(super) tls: Option<Arc<str>>,
    /// What protects the connection to the upstream.
    pub(super) upstream_tls: Option<Arc<Secured>>,
    /// Chunks of the body that is being read.
    pub(super) chunks: Chunks,
    /// Coding in which the body of the answer comes.
    pub(super) coding: Option<Coding>,
    /// The body of the answer as it came, where it was decoded: how long, and itself where it is sealed.
    pub(super) coded: Option<Aside>,
    /// What came and goes nowhere, until an entry tells it: how much, and itself where it is sealed.
    pub(super) kept_back: Option<Aside>,
    pub(super) client_bytes: u64,
    pub(super) upstream_bytes: u64,
    /// Interim answers of the upstream so far.
    pub(super) interims: u32,
    /// The request entry was emitted.
    pub(super) asked: bool,
    /// The request was handed to the upstream.
    pub(super) forwarded: bool,
    /// The head of the answer was emitted.
    pub(super) answering: bool,
    /// The first bytes of the answer (no interim one) are on their way to the client.
    pub(super) begun: bool,
    /// The answer is an event stream under way.
    pub(super) streaming: bool,
    /// The call's own answer was emitted.
    pub(super) answered: bool,
    /// On a stream: by the entry with this ordinal.
    pub(super) answer_ordinal: Option<u32>,
    /// The upstream connection may be kept after a whole answer.
    pub(super) upstream_keeps: bool,
    /// The client connection ends with this exchange.
    pub(super) close: bool,
    /// A single refusal entry says all there is; no end entry follows.
    pub(super) terminal: bool,
    pub(super) ended: bool,
    pub(super) orphan_ns: Option<u64>,
}

impl Exchange {
    pub(super) fn route(&self) -> &Route {
        &self.settings.routes[self.route.expect("a route was found before anything asks for it")]
    }

    /// Tells the scanner what the next message belongs to, where a rule asks.
    pub(super) fn asked(&self, scanner: &mut crate::guard::Scanner) {
        if !scanner.rules().has_scopes() {
            return;
        }
        let tool = self.targets.iter().find(|target| target.kind == "tool");
        scanner.set_asked(crate::guard::Asked {
            upstream: self.route.map(|route| self.settings.routes[route].name.to_string()),
            method: self.rpc_method.as_deref().map(str::to_owned),
            tool: self
                .rpc_method
                .as_ref()
                .map(|_| tool.map_or_else(String::new, |it| it.name.clone())),
        });
    }

    /// From here on what passes does so by this permit: its grant says how far the record must be, how
    /// bodies are kept, and what becomes of opaque content in the answer.
    pub(super) fn under(&mut self, permit: Permit) {
        let grant = permit.grant();
        (self.grant, self.opaque) = (grant, permit.opaque());
        let terms = grant.and_then(|grant| self.settings.grant_terms.get(usize::from(grant)));
        let terms = terms.copied().unwrap_or_default();
        self.level = terms.level.unwrap_or(self.settings.level);
        self.keep = terms.keep;
    }

    /// When access ends by itself, or the answer of a client that left is given up.
    pub(super) fn deadline_ns(&self, now: Now) -> Option<u64> {
        let expires = self.caller.as_ref().map(|caller| {
            let left_ns =
                caller.identity.expires_s.saturating_mul(1_000_000_000).saturating_sub(now.utc_ns);
            now.mono_ns.saturating_add(left_ns)
        });
        [expires, self.orphan_ns].into_iter().flatten().min()
    }

    /// `Last-Event-ID` as the upstream knows it.
    pub(super) fn upstream_event(&self) -> Option<&[u8]> {
        self.upstream_fields.as_ref()?.event.as_deref()
    }

    /// `Mcp-Name` as the upstream knows it, where that is a task that the caller knows by a handle.
    pub(super) fn upstream_name(&self) -> Option<&[u8]> {
        self.upstream_fields.as_ref()?.name.as_deref()
    }

    /// The next entry of this exchange, numbered.
    pub(super) fn entry(&mut self, kind: Kind, now: Now) -> Entry {
        let mut entry = Entry::new(kind, now);
        entry.exchange = Some(self.id);
        entry.session = self.session.map(|(session, _)| session);
        entry.ordinal = self.ordinal;
        entry.status = self.status.unwrap_or(0);
        entry.level = self.level;
        entry.keep = self.keep;
        // Why not then: before the request is read it is not known which session it belongs to.
        if kind != Kind::Interim
            && let Some(token) = self.token.take()
        {
            entry = entry.original(PartKind::Token, *token);
        }
        self.ordinal += 1;
        entry
    }

    /// The body of an entry, and what came in its place where that was another text.
    pub(super) fn body(entry: Entry, body: Bytes, original: Option<Original>) -> Entry {
        let entry = entry.part(PartKind::Body, body);
        match original {
            Some(original) => entry.original(PartKind::Original, original),
            None => entry,
        }
    }

    /// Bodies of this exchange are kept in clear, and the names in them may be told.
    pub(super) fn tells_names(&self) -> bool {
        self.keep == Keep::Full && !self.settings.seals.payloads
    }

    /// A verdict with all that is known.
    pub(super) fn verdict<'a>(
        &'a self,
        direction: Direction,
        decision: Decision,
        source: &'a str,
    ) -> Verdict<'a> {
        let mut verdict = Verdict::new(direction, decision);
        verdict.grant = self.grant;
        verdict.names = self.tells_names();
        verdict.policy = Some(&self.settings.policy_id);
        verdict.status = self.status;
        verdict.coded = match (self.coding, &self.coded) {
            (Some(coding), Some(coded)) => Some((coding.as_str(), coded.0)),
            _ => None,
        };
        verdict.kept_back_bytes = self.kept_back.as_ref().map(|kept| kept.0);
        // Why: what the request entry of this exchange says is not said again in its answers.
        if self.asked && direction == Direction::Response {
            return verdict;
        }
        verdict.era = self.era;
        verdict.http = Some(self.http.as_str());
        verdict.method = self.rpc_method.as_deref();
        verdict.targets = &self.targets;
        verdict.id = self.rpc_id.as_deref().and_then(|id| std::str::from_utf8(id).ok());
        verdict.upstream = self.route.map(|route| &*self.settings.routes[route].name);
        verdict.source = Some(source);
        verdict.connection = Some(self.connection);
        verdict.tls = self.tls.as_deref();
        verdict.session_rule = self.session.map(|(_, rule)| rule);
        verdict
    }

    /// The entry with which the exchange ends, unless its only entry said all.
    pub(super) fn end_emission(&mut self, now: Now) -> Option<Emission> {
        if self.terminal {
            return None;
        }
        let alone = self.ordinal == 0;
        self.handed_since_ns = None;
        let mut entry = self.entry(Kind::End, now);
        if alone {
            // Why: no other entry says who it was.
            entry = self.with_subject(entry);
        }
        let end = End {
            // Why only then: the first entry of an exchange names it.
            connection: alone.then_some(self.connection),
            status: self.status,
            outcome: self.outcome,
            sent_bytes: self.sent_bytes,
            client_bytes: self.client_bytes,
            upstream_bytes: self.upstream_bytes,
            entries: self.ordinal,
            duration_ns: self.since_start(now),
            head_ns: self.head_ns,
            forwarded_ns: self.forwarded_ns,
            begun_ns: self.begun_ns,
            sent_ns: self.sent_ns,
            handed: &self.handed,
            chunks: ChunksText::of(Some(&self.chunks)),
            kept_back_bytes: self.kept_back.as_ref().map(|kept| kept.0),
            unacknowledged_bytes: match self.unacknowledged {
                Measure::Got(bytes) => bytes,
                Measure::Not | Measure::Asked => None,
            },
            late_bytes: self.late_bytes,
            upstream_tls: self.upstream_tls.as_deref(),
        };
        entry = entry.part(PartKind::Detail, end.part());
        Some(Emission::entry(self.with_kept_back(entry)))
    }

    /// These bytes came and go nowhere. What no rule could judge is never stored in clear: the next entry
    /// hands it over to be sealed, and its verdict or detail says how much it was.
    pub(super) fn keep_back(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        // Where these are the text of an encoded body, that body is what came.
        let coded = self.coded.as_mut().map(|coded| (coded.0, coded.1.take()));
        let aside = coded.unwrap_or_else(|| (bytes.len(), self.sealed_copy(bytes)));
        self.kept_back = Some(Box::new(aside));
    }

    /// What is sealed of bytes that go nowhere.
    pub(super) fn sealed_copy(&self, bytes: &[u8]) -> Option<Original> {
        let seals = self.settings.seals.originals && self.keep != Keep::Heads;
        seals.then(|| Zeroizing::new(bytes.to_vec()))
    }

    /// The entry with what was kept back. To be called behind the verdict, which says how much it is.
    pub(super) fn with_kept_back(&mut self, entry: Entry) -> Entry {
        match self.kept_back.take().map(|kept| *kept) {
            Some((_, Some(bytes))) => entry.original(PartKind::Original, bytes),
            _ => entry,
        }
    }

    /// Nanoseconds since the head of the request was whole.
    pub(super) fn since_start(&self, now: Now) -> u64 {
        now.mono_ns.saturating_sub(self.started.mono_ns)
    }

    /// The kernel has taken what these entries released.
    pub(super) fn note_handed(&mut self, ordinals: impl Iterator<Item = u32>, now: Now) {
        let at = self.since_start(now);
        for ordinal in ordinals {
            match self.handed.last_mut() {
                Some(Handed(_, last, when)) if *when == at && *last + 1 == ordinal => {
                    *last = ordinal;
                }
                _ => self.handed.push(Handed(ordinal, ordinal, at)),
            }
            self.handed_since_ns.get_or_insert(now.mono_ns);
        }
    }

    /// When a delivery entry is due.
    pub(super) fn delivery_due_ns(&self) -> Option<u64> {
        self.handed_since_ns.map(|since| since.saturating_add(HANDED_NS))
    }

    /// A delivery entry is to be written now.
    pub(super) fn delivery_is_due(&self, now: Now) -> bool {
        self.handed.len() >= HANDED_MAX
            || self.delivery_due_ns().is_some_and(|due| now.mono_ns >= due)
    }

    /// The delivery entry, when it is due. What is left at the end rides with the end entry.
    pub(super) fn delivery(&mut self, now: Now) -> Option<Emission> {
        if !self.delivery_is_due(now) {
            return None;
        }
        self.handed_since_ns = None;
        let handed = std::mem::take(&mut self.handed);
        let entry = self.entry(Kind::Delivery, now);
        let detail = entries::delivery(self.started.mono_ns, &handed, &self.chunks);
        self.chunks = Chunks::default();
        Some(Emission::entry(entry.part(PartKind::Detail, detail)))
    }

    /// The subject part, when the caller is known.
    pub(super) fn with_subject(&self, entry: Entry) -> Entry {
        match &self.caller {
            Some(caller) => entry.part(PartKind::Subject, caller.subject.clone()),
            None => entry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_fits_its_block() {
        // Bound: mimalloc's blocks are of 768 and then of 896 bytes, and everybody whose body is on its way
        // has one.
        assert!(size_of::<Exchange>() <= 768, "{}", size_of::<Exchange>());
    }
}
