//! The JSON parts of entries as `audit` reads them. Fields that are missing, or that a later version
//! added, are no fault; a part that is no such JSON reads as empty.

use serde::Deserialize;
use serde_json::Value;

use crate::record::PartKind;
use crate::record::entry::EntryView;

/// Who calls.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Subject {
    /// `iss`.
    pub issuer: Option<String>,
    /// `sub`.
    pub subject: Option<String>,
    /// `client_id` or `azp`.
    pub client: Option<String>,
    /// `jti`.
    pub token_id: Option<String>,
    /// `kid`.
    pub key_id: Option<String>,
    /// When access ends, RFC 3339.
    pub expires: Option<String>,
    /// Where the connection came from.
    pub source: Option<String>,
    /// Name of the upstream.
    pub upstream: Option<String>,
    /// The certificate that the caller showed.
    pub certificate: Option<Certificate>,
}

/// A caller's certificate.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Certificate {
    /// SHA-256 of its DER form, in hexadecimal.
    pub sha256: String,
    /// Its subject.
    pub subject: Option<String>,
    /// Its alternative names, each with its kind.
    pub names: Vec<String>,
}

/// What a method names.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Target {
    /// `tool`, `prompt`, `resource` or `task`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// One thing the scanner found.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Finding {
    /// Id of the rule.
    pub rule: String,
    /// `alert`, `mask` or `block`.
    pub action: String,
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// Levels of decoding.
    pub level: u64,
    /// The string or number that holds it, as a JSON Pointer.
    pub path: Option<String>,
    /// 32 hexadecimal digits.
    pub fingerprint: String,
}

/// Structured content that its tool's schema accepted as it came, and not as it was masked.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Unfit {
    /// Id of the rule whose mask it is.
    pub rule: String,
    /// Where in the message, as a JSON Pointer.
    pub path: String,
    /// The keyword of the schema.
    pub keyword: String,
    /// First half of the SHA-256 of the schema's text, in hexadecimal digits.
    pub schema: String,
}

/// What was decided.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Verdict {
    /// `request` or `response`.
    pub direction: Option<String>,
    /// The decision.
    pub decision: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// HTTP status towards the client.
    pub status: Option<u16>,
    /// JSON-RPC code towards the client.
    pub code: Option<i64>,
    /// The rule that what was refused breaks.
    pub rule: Option<String>,
    /// Where that rule comes from.
    pub rule_source: Option<String>,
    /// Where it is broken, in bytes.
    pub at: Option<u64>,
    /// Status of the upstream, when that is what failed.
    pub upstream_status: Option<u16>,
    /// Protocol era.
    pub era: Option<String>,
    /// HTTP method.
    pub http: Option<String>,
    /// JSON-RPC method.
    pub method: Option<String>,
    /// What the method names.
    pub targets: Vec<Target>,
    /// JSON-RPC id as it stood.
    pub id: Option<String>,
    /// Which grant allowed it.
    pub grant: Option<Value>,
    /// Id of the policy it was judged under.
    pub policy: Option<String>,
    /// Name of the upstream.
    pub upstream: Option<String>,
    /// Where the connection came from.
    pub source: Option<String>,
    /// The connection, as its connect and disconnect entries name it.
    pub connection: Option<String>,
    /// Version and suite of TLS on it.
    pub tls: Option<String>,
    /// What stitched the exchange to its session.
    pub session_rule: Option<String>,
    /// What the scanner found.
    pub findings: Vec<Finding>,
    /// The bytes that went on differ from those that came.
    pub edited: bool,
    /// Elements were removed from lists.
    pub filtered: bool,
    /// What the tool's schema refuses of structured content once it is masked.
    pub unfit: Option<Unfit>,
    /// Bytes that came and went nowhere: in the sealed part, or not recorded.
    pub kept_back_bytes: Option<u64>,
    /// This entry is the whole exchange: no end entry follows.
    pub only: bool,
}

/// The subject part of an entry.
pub fn subject(entry: &EntryView<'_>) -> Option<Subject> {
    serde_json::from_slice(entry.part(PartKind::Subject)?).ok()
}

/// The verdict part of an entry.
pub fn verdict(entry: &EntryView<'_>) -> Option<Verdict> {
    serde_json::from_slice(entry.part(PartKind::Verdict)?).ok()
}

/// The detail part of an entry.
pub fn detail(entry: &EntryView<'_>) -> Option<Value> {
    serde_json::from_slice(entry.part(PartKind::Detail)?).ok()
}

/// Strength of a decision: the strongest one of an exchange is its verdict. 0 for a word that is not
/// known.
pub fn strength(decision: &str) -> u8 {
    match decision {
        "blocked" => 6,
        "denied" => 5,
        "refused" => 4,
        "failed" => 3,
        "masked" => 2,
        "allowed" => 1,
        _ => 0,
    }
}
