//! The fields that decide where a body ends, who is addressed, and whether the connection goes on.

use super::fields::Times;
use super::lines::is_token_byte;
use super::{Fields, Framing, HeadFault, HeadRule, Method, Name, fault};

/// RFC 9112 §3.2: exactly one valid Host (twice is refused as a duplicate).
pub(super) fn host(bytes: &[u8], end: usize, fields: &Fields) -> Result<(), HeadFault> {
    let Some(slot) = fields.slot(Name::Host) else {
        return fault(HeadRule::HostMissing, end);
    };
    let value = slot.value.of(bytes);
    let start = slot.value.start as usize;
    let (name_len, port) = match value {
        [b'[', ..] => match memchr::memchr(b']', value) {
            Some(close) => (close + 1, &value[close + 1..]),
            None => return fault(HeadRule::HostForm, start),
        },
        _ => {
            let colon = memchr::memchr(b':', value).unwrap_or(value.len());
            (colon, &value[colon..])
        }
    };
    // Why a small alphabet: no user information, no list, no escape is a host that anyone serves.
    let bad = match &value[..name_len] {
        [b'[', inner @ .., b']'] => {
            let allowed = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            (inner.is_empty())
                .then_some(0)
                .or(inner.iter().position(|b| !allowed(b)).map(|n| n + 1))
        }
        [] => Some(0),
        name => name
            .iter()
            .position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'))),
    };
    if let Some(bad) = bad {
        return fault(HeadRule::HostForm, start + bad);
    }
    match port {
        [] => Ok(()),
        [b':', digits @ ..]
            if !digits.is_empty() && digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) =>
        {
            Ok(())
        }
        _ => fault(HeadRule::HostForm, start + name_len),
    }
}

/// What Connection says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) close: bool,
    /// Where `upgrade` stands.
    pub(super) upgrade: Option<usize>,
}

pub(super) fn connection(bytes: &[u8], fields: &Fields) -> Result<Connection, HeadFault> {
    let mut said = Connection::default();
    if fields.slot(Name::Connection).is_none() {
        return Ok(said);
    }
    for slot in fields.slots().filter(|slot| slot.known == Some(Name::Connection)) {
        let mut at = slot.value.start as usize;
        for part in slot.value.of(bytes).split(|&byte| byte == b',') {
            let option = part.trim_ascii();
            if option.iter().any(|&byte| !is_token_byte(byte)) {
                return fault(HeadRule::ConnectionForm, at);
            }
            if option.eq_ignore_ascii_case(b"close") {
                said.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                said.upgrade.get_or_insert(at);
            } else if Name::of(option).is_some_and(|name| name.times() != Times::Many) {
                // RFC 9110 §7.6.1: a sender must not; a proxy that obeys would drop, say, the
                // Authorization of the request.
                return fault(HeadRule::ConnectionOption, at);
            }
            at += part.len() + 1;
        }
    }
    Ok(said)
}

/// RFC 9110 §10.1.1.
pub(super) fn expect(bytes: &[u8], fields: &Fields) -> Result<bool, HeadFault> {
    match fields.slot(Name::Expect) {
        None => Ok(false),
        Some(slot) if slot.value.of(bytes).eq_ignore_ascii_case(b"100-continue") => Ok(true),
        Some(slot) => fault(HeadRule::Expect, slot.value.start as usize),
    }
}

/// What Content-Length and Transfer-Encoding say; both, or anything but the plain forms, is refused.
pub(super) fn declared(bytes: &[u8], fields: &Fields) -> Result<Option<Framing>, HeadFault> {
    match (fields.slot(Name::ContentLength), fields.slot(Name::TransferEncoding)) {
        (None, None) => Ok(None),
        // RFC 9112 §6.3: such a message "ought to be handled as an error"; it is how requests are
        // smuggled.
        (Some(length), Some(encoding)) => {
            let later = length.name.start.max(encoding.name.start);
            fault(HeadRule::LengthWithEncoding, later as usize)
        }
        (None, Some(slot)) => match slot.value.of(bytes).eq_ignore_ascii_case(b"chunked") {
            true => Ok(Some(Framing::Chunked)),
            false => fault(HeadRule::TransferEncoding, slot.value.start as usize),
        },
        (Some(slot), None) => {
            let digits = slot.value.of(bytes);
            let start = slot.value.start as usize;
            if digits.is_empty() {
                return fault(HeadRule::LengthForm, start);
            }
            if let Some(bad) = digits.iter().position(|byte| !byte.is_ascii_digit()) {
                return fault(HeadRule::LengthForm, start + bad);
            }
            // Bound: 19 digits fit in 64 bits whatever they are.
            if digits.len() > 19 {
                return fault(HeadRule::LengthTooLong, start);
            }
            let length = digits.iter().fold(0, |n: u64, digit| n * 10 + (digit - b'0') as u64);
            Ok(Some(Framing::Length(length)))
        }
    }
}

/// RFC 9112 §6.3, in its order.
pub(super) fn of_response(
    bytes: &[u8],
    status: u16,
    asked: Method,
    fields: &Fields,
) -> Result<Framing, HeadFault> {
    // HEAD and CONNECT would end the body with the head; no method the gateway sends does.
    match asked {
        Method::Get | Method::Post | Method::Delete | Method::Options => {}
    }
    let declared = declared(bytes, fields)?;
    match (status, declared) {
        (100..=199 | 204 | 304, Some(Framing::Chunked)) => {
            let slot = fields.slot(Name::TransferEncoding).expect("it was just read");
            fault(HeadRule::BodyForbidden, slot.name.start as usize)
        }
        // Why not a length of 0: servers send it with 204, against the letter, and mean no harm.
        (100..=199 | 204, Some(Framing::Length(1..))) => {
            let slot = fields.slot(Name::ContentLength).expect("it was just read");
            fault(HeadRule::BodyForbidden, slot.name.start as usize)
        }
        (100..=199 | 204 | 304, _) => Ok(Framing::Empty),
        (_, Some(framing)) => Ok(framing),
        (_, None) => Ok(Framing::UntilClose),
    }
}
