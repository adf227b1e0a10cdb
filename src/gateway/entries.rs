//! What the record says of an exchange: subject, verdict and end, as JSON parts of log entries.
//!
//! The texts are written straight into their buffers; the readers are in `audit`. Nothing here holds
//! payload: findings carry positions and fingerprints, never values.

use bytes::Bytes;
use serde::Serialize;

use super::broken::Broken;
use super::fault::Fault;
use super::secure::{Certificate, Secured};
use super::session::SessionRule;
use crate::guard::Unfit;
use crate::types::{Direction, Era, ExchangeId, Finding, Identity};
use crate::wire::body::Chunks;

/// The decision an entry records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Passed as it came.
    Allowed,
    /// Passed with edits.
    Masked,
    /// Stopped by a rule.
    Blocked,
    /// Stopped because no grant allows it, or because the caller is nobody we know.
    Denied,
    /// Stopped because it cannot be trusted or is over a bound.
    Refused,
    /// The upstream, the recorder or the host failed.
    Failed,
}

impl Decision {
    /// The word in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Allowed => "allowed",
            Decision::Masked => "masked",
            Decision::Blocked => "blocked",
            Decision::Denied => "denied",
            Decision::Refused => "refused",
            Decision::Failed => "failed",
        }
    }
}

#[derive(Serialize)]
struct SubjectText<'a> {
    issuer: &'a str,
    subject: &'a str,
    client: Option<&'a str>,
    token_id: Option<&'a str>,
    key_id: &'a str,
    key_thumbprint: &'a str,
    expires: String,
    upstream: &'a str,
}

/// The subject part of every entry of one caller at one upstream.
pub fn subject(identity: &Identity, upstream: &str) -> Bytes {
    let expires = i64::try_from(identity.expires_s)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| identity.expires_s.to_string(), |time| time.to_string());
    json(&SubjectText {
        issuer: &identity.issuer,
        subject: &identity.subject,
        client: identity.client.as_deref(),
        token_id: identity.token_id.as_deref(),
        key_id: &identity.key_id,
        key_thumbprint: &identity.key_thumbprint,
        expires,
        upstream,
    })
}

#[derive(Serialize)]
struct FindingText<'a> {
    rule: &'a str,
    action: &'static str,
    start: u32,
    len: u32,
    level: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    fingerprint: Hex,
}

#[derive(Serialize)]
struct UnfitText<'a> {
    rule: &'a str,
    path: String,
    keyword: &'static str,
    schema: Hex,
}

/// An id as text, written without an allocation.
struct IdText(ExchangeId);

impl Serialize for IdText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.text();
        serializer.serialize_str(std::str::from_utf8(&text).expect("base 32 is ASCII"))
    }
}

fn id_text<S: serde::Serializer>(id: &ExchangeId, serializer: S) -> Result<S::Ok, S::Error> {
    IdText(*id).serialize(serializer)
}

fn id_text_of<S: serde::Serializer>(
    id: &Option<ExchangeId>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    id.map(IdText).serialize(serializer)
}

struct Hex([u8; 16]);

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (index, byte) in self.0.iter().enumerate() {
            text[2 * index] = DIGITS[(byte >> 4) as usize];
            text[2 * index + 1] = DIGITS[(byte & 15) as usize];
        }
        serializer.serialize_str(std::str::from_utf8(&text).expect("hex is ASCII"))
    }
}

/// A target of the method: kind and decoded name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TargetText {
    /// `tool`, `prompt`, `resource` or `task`.
    pub kind: &'static str,
    /// Decoded.
    pub name: String,
}

/// What was decided about one message, and on which ground.
#[derive(Debug)]
pub struct Verdict<'a> {
    /// Which way the message travels.
    pub direction: Direction,
    /// The decision.
    pub decision: Decision,
    /// Why, as a fixed word.
    pub reason: Option<&'a str>,
    /// HTTP status towards the client, when one was chosen.
    pub status: Option<u16>,
    /// JSON-RPC code towards the client, when one was chosen.
    pub code: Option<i32>,
    /// The rule that what was refused breaks, where it does.
    pub broken: Option<Broken>,
    /// Status of the upstream, when that is what failed.
    pub upstream_status: Option<u16>,
    /// Protocol era.
    pub era: Option<Era>,
    /// HTTP method.
    pub http: Option<&'a str>,
    /// JSON-RPC method.
    pub method: Option<&'a str>,
    /// What the method names.
    pub targets: &'a [TargetText],
    /// JSON-RPC id as it stood.
    pub id: Option<&'a str>,
    /// Index of the grant that allowed it.
    pub grant: Option<u16>,
    /// Id of the policy it was judged under; the policy entry before it has its text.
    pub policy: Option<&'a str>,
    /// Name of the upstream.
    pub upstream: Option<&'a str>,
    /// Where the connection came from.
    pub source: Option<&'a str>,
    /// The connection: the same in its connect and disconnect entries, and in no other's.
    pub connection: Option<ExchangeId>,
    /// Version and suite of TLS on it, where there is any.
    pub tls: Option<&'a str>,
    /// What stitched the exchange to its session.
    pub session_rule: Option<SessionRule>,
    /// The client comes back to a stream: it named the last event that it has (`Last-Event-ID`).
    pub resumes: bool,
    /// What the scanner found.
    pub findings: &'a [Finding],
    /// Their paths tell names of members that are the caller's or the server's own. Only where the body
    /// is kept in clear, which has those names anyway.
    pub names: bool,
    /// The bytes that went on differ from those that came.
    pub edited: bool,
    /// Elements removed from lists.
    pub filtered: bool,
    /// A piece of a secret was masked that other events hold the rest of.
    pub split: bool,
    /// What the tool's schema refuses of the structured content once it is masked.
    pub unfit: Option<&'a Unfit>,
    /// Chunks in which the body arrived.
    pub chunks: Option<&'a Chunks>,
    /// Coding in which the body came, and its bytes then; what is judged and goes on is decoded.
    pub coded: Option<(&'static str, usize)>,
    /// Bytes that came and could not be judged, or that nobody was to get: sealed, or not recorded.
    pub kept_back_bytes: Option<usize>,
    /// This entry is the whole exchange: no end entry follows.
    pub only: bool,
}

impl<'a> Verdict<'a> {
    /// A verdict with nothing said yet.
    pub fn new(direction: Direction, decision: Decision) -> Verdict<'a> {
        Verdict {
            direction,
            decision,
            reason: None,
            status: None,
            code: None,
            broken: None,
            upstream_status: None,
            era: None,
            http: None,
            method: None,
            targets: &[],
            id: None,
            grant: None,
            policy: None,
            upstream: None,
            source: None,
            connection: None,
            tls: None,
            session_rule: None,
            resumes: false,
            findings: &[],
            names: false,
            edited: false,
            filtered: false,
            split: false,
            unfit: None,
            chunks: None,
            coded: None,
            kept_back_bytes: None,
            only: false,
        }
    }

    /// What the fault says of itself.
    pub fn refused_for(&mut self, fault: Fault) {
        self.reason = Some(fault.disposition().label);
        self.broken = fault.broken();
        self.upstream_status = fault.upstream_status();
    }

    /// The verdict part.
    pub fn part(&self) -> Bytes {
        #[derive(Serialize)]
        struct VerdictText<'a> {
            direction: &'static str,
            decision: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            reason: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            status: Option<u16>,
            #[serde(skip_serializing_if = "Option::is_none")]
            code: Option<i32>,
            #[serde(skip_serializing_if = "Option::is_none")]
            rule: Option<&'static str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            rule_source: Option<&'static str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            at: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            upstream_status: Option<u16>,
            #[serde(skip_serializing_if = "Option::is_none")]
            era: Option<&'static str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            http: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            method: Option<&'a str>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            targets: &'a [TargetText],
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            grant: Option<u16>,
            #[serde(skip_serializing_if = "Option::is_none")]
            policy: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            upstream: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            source: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            connection: Option<IdText>,
            #[serde(skip_serializing_if = "Option::is_none")]
            tls: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            session_rule: Option<&'static str>,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            resumes: bool,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            findings: Vec<FindingText<'a>>,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            edited: bool,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            filtered: bool,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            split: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            unfit: Option<UnfitText<'a>>,
            #[serde(flatten)]
            chunks: ChunksText<'a>,
            #[serde(skip_serializing_if = "Option::is_none")]
            coding: Option<&'static str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            coded_bytes: Option<usize>,
            #[serde(skip_serializing_if = "Option::is_none")]
            kept_back_bytes: Option<usize>,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            only: bool,
        }
        json(&VerdictText {
            direction: self.direction.as_str(),
            decision: self.decision.as_str(),
            reason: self.reason,
            status: self.status,
            code: self.code,
            rule: self.broken.map(|broken| broken.rule),
            rule_source: self.broken.map(|broken| broken.source),
            at: self.broken.map(|broken| broken.at),
            upstream_status: self.upstream_status,
            era: self.era.map(|era| match era {
                Era::Handshake => "handshake",
                Era::Modern => "modern",
            }),
            http: self.http,
            method: self.method,
            targets: self.targets,
            id: self.id,
            grant: self.grant,
            policy: self.policy,
            upstream: self.upstream,
            source: self.source,
            connection: self.connection.map(IdText),
            tls: self.tls,
            session_rule: self.session_rule.map(SessionRule::as_str),
            resumes: self.resumes,
            findings: self
                .findings
                .iter()
                .map(|finding| FindingText {
                    rule: &finding.rule,
                    action: finding.action.as_str(),
                    start: finding.span.start,
                    len: finding.span.len,
                    level: finding.level,
                    path: finding.path.as_ref().map(|path| path.text(self.names)),
                    fingerprint: Hex(finding.fingerprint),
                })
                .collect(),
            edited: self.edited,
            filtered: self.filtered,
            split: self.split,
            unfit: self.unfit.map(|unfit| UnfitText {
                rule: &unfit.rule,
                path: unfit.path.text(self.names),
                keyword: unfit.keyword,
                schema: Hex(unfit.schema),
            }),
            chunks: ChunksText::of(self.chunks),
            coding: self.coded.map(|(coding, _)| coding),
            coded_bytes: self.coded.map(|(_, bytes)| bytes),
            kept_back_bytes: self.kept_back_bytes,
            only: self.only,
        })
    }
}

/// Chunks as they arrived: size and count of each run, and how many came behind those.
#[derive(Debug, Default, Serialize)]
pub struct ChunksText<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    chunks: &'a [(u64, u64)],
    #[serde(skip_serializing_if = "is_zero")]
    chunks_more: u64,
}

impl<'a> ChunksText<'a> {
    /// Nothing, where the body was not chunked.
    pub fn of(chunks: Option<&'a Chunks>) -> ChunksText<'a> {
        chunks.map_or_else(ChunksText::default, |chunks| ChunksText {
            chunks: &chunks.runs,
            chunks_more: chunks.more,
        })
    }
}

/// How an exchange ended.
#[derive(Debug, Serialize)]
pub struct End<'a> {
    /// The connection, where this is the only entry of the exchange.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "id_text_of")]
    pub connection: Option<ExchangeId>,
    /// HTTP status sent to the client, if any.
    pub status: Option<u16>,
    /// `complete`, or why it ended before it was whole.
    pub outcome: &'a str,
    /// Bytes of the answer handed to the kernel.
    pub sent_bytes: u64,
    /// Bytes received from the client for this exchange: head and body.
    pub client_bytes: u64,
    /// Bytes received from the upstream for this exchange.
    pub upstream_bytes: u64,
    /// Entries of this exchange, this one included.
    pub entries: u32,
    /// Time from the head of the request, whole, to the end, in nanoseconds.
    pub duration_ns: u64,
    /// The first byte of the head arrived so long before that, in nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub head_ns: u64,
    /// From the head of the request to the moment at which the kernel had taken the request for the
    /// upstream, in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarded_ns: Option<u64>,
    /// The same to the first bytes of the answer for the client, its head among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begun_ns: Option<u64>,
    /// The same to its last byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_ns: Option<u64>,
    /// Events handed to the kernel that no delivery entry told.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub handed: &'a [Handed],
    /// Chunks of a stream that no delivery entry told.
    #[serde(flatten)]
    pub chunks: ChunksText<'a>,
    /// Bytes that came and that no other entry tells: the rest of a request, of an answer or of an event
    /// that were never whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_back_bytes: Option<usize>,
    /// Of an exchange that was cut or broke: bytes on its connection that the client had not
    /// acknowledged when it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unacknowledged_bytes: Option<u64>,
    /// Bytes that the upstream had sent behind the answer; they went nowhere.
    #[serde(skip_serializing_if = "is_zero")]
    pub late_bytes: u64,
    /// What protected the connection to the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_tls: Option<&'a Secured>,
}

/// The kernel had taken what the entries with these ordinals released: first, last, and nanoseconds
/// since the head of the request was whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Handed(pub u32, pub u32, pub u64);

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The detail part of a delivery entry.
pub fn delivery(started_mono_ns: u64, handed: &[Handed], chunks: &Chunks) -> Bytes {
    #[derive(Serialize)]
    struct DeliveryText<'a> {
        started_mono_ns: u64,
        handed: &'a [Handed],
        #[serde(flatten)]
        chunks: ChunksText<'a>,
    }
    json(&DeliveryText { started_mono_ns, handed, chunks: ChunksText::of(Some(chunks)) })
}

/// A client connection, in its connect and disconnect entries.
#[derive(Debug, Serialize)]
pub struct Connected<'a> {
    /// Its name in the record; the first entry of each exchange on it has it.
    #[serde(serialize_with = "id_text")]
    pub connection: ExchangeId,
    /// Where it came from.
    pub source: &'a str,
    /// The proxy that it came through, and that said where it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<std::net::SocketAddr>,
    /// The address it was accepted on.
    pub local: Option<std::net::SocketAddr>,
    /// When it was accepted, RFC 3339.
    pub opened: String,
    /// The same on the boot clock.
    pub opened_mono_ns: u64,
    /// What protects it; told once, when it is opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<&'a Secured>,
    /// How it ended.
    #[serde(flatten)]
    pub over: Option<Over>,
}

/// How a client connection ended.
#[derive(Debug, Serialize)]
pub struct Over {
    /// Why, as a fixed word.
    pub why: &'static str,
    /// Requests whose head was read.
    pub exchanges: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes handed to the kernel.
    pub sent_bytes: u64,
    /// Bytes of those that the client had not acknowledged; `None` where the kernel did not say.
    pub unacknowledged_bytes: Option<u64>,
    /// Bytes received after the last answer, and thrown away.
    #[serde(skip_serializing_if = "is_zero")]
    pub discarded_bytes: u64,
    /// The client's end came without TLS's word for it (`close_notify`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// From its opening to its end.
    pub duration_ns: u64,
}

impl Connected<'_> {
    /// The detail part.
    pub fn part(&self) -> Bytes {
        json(self)
    }
}

impl End<'_> {
    /// The detail part.
    pub fn part(&self) -> Bytes {
        json(self)
    }
}

/// The detail part of counted refusals.
pub fn counted(counted: &super::refusals::Counted) -> Bytes {
    #[derive(Serialize)]
    struct CountedText<'a> {
        source: Option<String>,
        reason: &'a str,
        count: u64,
        first: String,
        last: String,
    }
    json(&CountedText {
        source: counted.source.map(|source| source.to_string()),
        reason: counted.reason,
        count: counted.count,
        first: time(counted.first_utc_ns),
        last: time(counted.last_utc_ns),
    })
}

/// The detail part of a refused handshake: one refusal, with why.
pub fn handshake_refused(
    source: std::net::SocketAddr,
    reason: &str,
    why: &str,
    now: crate::types::Now,
) -> Bytes {
    #[derive(Serialize)]
    struct RefusedText<'a> {
        source: String,
        port: u16,
        reason: &'a str,
        why: &'a str,
        count: u64,
        first: String,
        last: String,
    }
    json(&RefusedText {
        source: source.ip().to_string(),
        port: source.port(),
        reason,
        why,
        count: 1,
        first: time(now.utc_ns),
        last: time(now.utc_ns),
    })
}

/// The subject part with the certificate that the caller showed on this connection.
pub fn with_certificate(subject: &Bytes, certificate: &Certificate) -> Bytes {
    let Some(open) = subject.strip_suffix(b"}") else { return subject.clone() };
    let mut out = Vec::with_capacity(subject.len() + 256);
    out.extend_from_slice(open);
    out.extend_from_slice(b",\"certificate\":");
    serde_json::to_writer(&mut out, certificate).expect("writing to memory does not fail");
    out.push(b'}');
    Bytes::from(out)
}

/// RFC 3339, UTC, nanoseconds.
pub(super) fn time(utc_ns: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(utc_ns))
        .map_or_else(|_| utc_ns.to_string(), |time| format!("{time:.9}"))
}

/// Writes a JSON part.
pub fn json<T: Serialize>(value: &T) -> Bytes {
    let mut out = Vec::with_capacity(256);
    serde_json::to_writer(&mut out, value).expect("writing to memory does not fail");
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::path::{JsonPath, Step};
    use crate::types::{RuleAction, Span};

    #[test]
    fn a_verdict_says_what_was_found_and_never_the_value() {
        let mut path = JsonPath::default();
        path.push(Step::member("params"));
        path.push(Step::member("mine"));
        let findings = [Finding {
            rule: Arc::from("github-token"),
            action: RuleAction::Mask,
            span: Span::new(10, 50),
            fingerprint: [0xab; 16],
            level: 1,
            path: Some(Arc::new(path)),
        }];
        let mut verdict = Verdict::new(Direction::Response, Decision::Masked);
        verdict.findings = &findings;
        verdict.edited = true;
        let part = verdict.part();
        let value: serde_json::Value = serde_json::from_slice(&part).unwrap();
        assert_eq!(value["decision"], "masked");
        assert_eq!(value["findings"][0]["rule"], "github-token");
        assert_eq!(value["findings"][0]["fingerprint"], "ab".repeat(16));
        assert_eq!(value["findings"][0]["start"], 10);
        assert_eq!(value["findings"][0]["path"], "/params/*");
    }
}
