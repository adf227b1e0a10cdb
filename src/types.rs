//! The words that all floors share: positions, times, ids, who calls, and what was decided.
//!
//! Nothing here does I/O or reads a clock: times come in as arguments.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A position in a message: `start..start + len`, in bytes. Messages are bounded well below 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Span {
    /// The span `start..end`. Panics when `end < start` or beyond 4 GiB: both are mistakes of ours.
    pub fn new(start: usize, end: usize) -> Span {
        assert!(start <= end && end <= u32::MAX as usize, "span {start}..{end}");
        Span { start: start as u32, len: (end - start) as u32 }
    }

    /// One past the last byte.
    pub fn end(self) -> usize {
        self.start as usize + self.len as usize
    }

    /// The same as a range.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end()
    }

    /// The bytes of `of` that this span covers. Panics when the span does not lie in `of`.
    pub fn of(self, of: &[u8]) -> &[u8] {
        &of[self.range()]
    }
}

/// One reading of both clocks, taken by the worker and handed down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// UTC, nanoseconds since the Unix epoch. May step.
    pub utc_ns: u64,
    /// Monotonic, nanoseconds since the boot of the host (`CLOCK_BOOTTIME`). Deadlines rest on this.
    pub mono_ns: u64,
}

impl Now {
    /// UTC in whole seconds, the unit of `exp`, `nbf` and `iat` (RFC 7519 §2, NumericDate).
    pub fn utc_s(self) -> u64 {
        self.utc_ns / 1_000_000_000
    }

    /// The monotonic instant `ms` milliseconds later.
    pub fn after_ms(self, ms: u64) -> u64 {
        self.mono_ns.saturating_add(ms.saturating_mul(1_000_000))
    }
}

/// Crockford's base 32 in lower case: sorts like the bits it stands for, no look-alike letters.
const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn base32_write(mut value: u128, out: &mut [u8]) {
    for slot in out.iter_mut().rev() {
        *slot = BASE32[(value & 31) as usize];
        value >>= 5;
    }
}

fn base32_read(text: &str) -> Option<u128> {
    text.bytes().try_fold(0u128, |value, byte| {
        let digit = BASE32.iter().position(|&symbol| symbol == byte)?;
        Some((value << 5) | digit as u128)
    })
}

/// Name of one exchange: one HTTP request and its answer.
///
/// 120 bits, printed as 24 characters: milliseconds of UTC (48), worker (8), counter of that worker
/// (24), random bits of the process (40). Sorts by time; unique across workers (worker), within a
/// millisecond (counter) and across restarts and hosts (random).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ExchangeId(u128);

impl ExchangeId {
    /// Characters of the printed form.
    pub const TEXT_LEN: usize = 24;
    /// Bytes of the stored form.
    pub const BYTES: usize = 15;

    /// Puts an id together from its parts; each is cut to its width.
    pub fn new(utc_ns: u64, worker: u8, counter: u32, random: u64) -> ExchangeId {
        let ms = (utc_ns / 1_000_000) as u128 & 0xffff_ffff_ffff;
        ExchangeId(
            (ms << 72)
                | ((worker as u128) << 64)
                | ((counter as u128 & 0xff_ffff) << 40)
                | (random as u128 & 0xff_ffff_ffff),
        )
    }

    /// The stored form, most significant byte first.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out.copy_from_slice(&self.0.to_be_bytes()[1..]);
        out
    }

    /// Reads the stored form.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> ExchangeId {
        let mut wide = [0; 16];
        wide[1..].copy_from_slice(bytes);
        ExchangeId(u128::from_be_bytes(wide))
    }

    /// The printed form without an allocation.
    pub fn text(self) -> [u8; Self::TEXT_LEN] {
        let mut out = [0; Self::TEXT_LEN];
        base32_write(self.0, &mut out);
        out
    }
}

impl fmt::Display for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).expect("base 32 is ASCII"))
    }
}

impl fmt::Debug for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an id: expected the characters 0-9 and a-z without i, l, o and u, of the printed length")
    }
}

impl std::error::Error for NotAnId {}

impl FromStr for ExchangeId {
    type Err = NotAnId;
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        if text.len() != Self::TEXT_LEN {
            return Err(NotAnId);
        }
        base32_read(text).map(ExchangeId).ok_or(NotAnId)
    }
}

/// Name of one session: the exchanges that are stitched together. 80 bits, printed as 16 characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SessionId([u8; 10]);

impl SessionId {
    /// Characters of the printed form.
    pub const TEXT_LEN: usize = 16;
    /// Bytes of the stored form.
    pub const BYTES: usize = 10;

    /// A session with these bits.
    pub fn from_bytes(bytes: [u8; 10]) -> SessionId {
        SessionId(bytes)
    }

    /// The stored form.
    pub fn to_bytes(self) -> [u8; 10] {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut wide = [0; 16];
        wide[6..].copy_from_slice(&self.0);
        let mut out = [0; Self::TEXT_LEN];
        base32_write(u128::from_be_bytes(wide), &mut out);
        f.write_str(std::str::from_utf8(&out).expect("base 32 is ASCII"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionId {
    type Err = NotAnId;
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        if text.len() != Self::TEXT_LEN {
            return Err(NotAnId);
        }
        let wide = base32_read(text).ok_or(NotAnId)?.to_be_bytes();
        let mut bytes = [0; 10];
        bytes.copy_from_slice(&wide[6..]);
        Ok(SessionId(bytes))
    }
}

/// Which way a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server.
    Request,
    /// From the server to the client: answers, notifications and the server's own requests.
    Response,
}

impl Direction {
    /// The word used in rules, records and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Request => "request",
            Direction::Response => "response",
        }
    }
}

/// The two families of protocol versions (MCP 2026-07-28, basic/versioning).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Era {
    /// Up to 2025-11-25: `initialize`, optional session.
    Handshake,
    /// From 2026-07-28: no handshake, no session, `_meta` on every request.
    Modern,
}

/// Who calls, as a verified token says. Kept behind an `Arc`; nothing in it is a secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// `iss`, equal to the configured issuer URL.
    pub issuer: Arc<str>,
    /// `sub`.
    pub subject: Arc<str>,
    /// `client_id` or `azp`.
    pub client: Option<Arc<str>>,
    /// `jti`.
    pub token_id: Option<Arc<str>>,
    /// The configured groups claim.
    pub groups: Vec<String>,
    /// All claims, for grants that name one.
    pub claims: serde_json::Map<String, serde_json::Value>,
    /// `kid` of the key that verified the token.
    pub key_id: Arc<str>,
    /// RFC 7638 thumbprint (SHA-256, base64url) of that key.
    pub key_thumbprint: Arc<str>,
    /// `iat`, seconds of UTC.
    pub issued_s: u64,
    /// `exp`, seconds of UTC. Access ends here.
    pub expires_s: u64,
}

/// What a rule does with what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleAction {
    /// Let through by an `allow` of the operator; recorded.
    Allow,
    /// Recorded only.
    Alert,
    /// Replaced before it goes on.
    Mask,
    /// The message is refused.
    Block,
}

impl RuleAction {
    /// The word used in rules, records and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            RuleAction::Allow => "allow",
            RuleAction::Alert => "alert",
            RuleAction::Mask => "mask",
            RuleAction::Block => "block",
        }
    }
}

/// One thing the scanner found, as it is recorded: never the value itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Id of the rule.
    pub rule: Arc<str>,
    /// What was done with it.
    pub action: RuleAction,
    /// Where it stands in the bytes as they were judged (before masking; `fill` keeps positions).
    pub span: Span,
    /// HMAC-SHA-256 of the value under the record's fingerprint key, first 16 bytes: lets `echoed`
    /// find the value again. Never shown to callers.
    pub fingerprint: [u8; 16],
    /// Levels of decoding between the bytes of the message and the value (1 = an ordinary JSON string).
    pub level: u8,
    /// The string or number of the message that holds it; none outside a message, and over a bound.
    pub path: Option<Arc<path::JsonPath>>,
}

/// Two lower-case digits for each byte. Allocates for each of them: for texts, not for the hot path.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub mod path;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchange_ids_survive_printing_and_sort_by_time() {
        let early = ExchangeId::new(1_700_000_000_000_000_000, 1, 0xff_ffff, u64::MAX);
        let later = ExchangeId::new(1_700_000_000_001_000_000, 0, 0, 0);
        assert!(early < later && early.to_string() < later.to_string());
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(ExchangeId::from_bytes(&early.to_bytes()), early);
        assert_eq!("too short".parse::<ExchangeId>(), Err(NotAnId));
        assert_eq!("0000000000000000000000ui".parse::<ExchangeId>(), Err(NotAnId));
    }

    #[test]
    fn session_ids_survive_printing() {
        let id = SessionId::from_bytes([0, 1, 2, 3, 250, 251, 252, 253, 254, 255]);
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
