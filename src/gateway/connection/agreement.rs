//! Routing fields and body say the same: somebody behind the gateway may route by the fields alone.

use super::super::fault::Fault;
use super::exchange::Exchange;
use crate::types::Era;
use crate::wire::head::{self, Name};
use crate::wire::mcp::{self, Class};

/// Versions of MCP whose rules are known here, as a refusal names them.
pub(in super::super) const VERSIONS: [&str; 5] =
    ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"];

/// First version of the modern era (MCP 2026-07-28, basic/versioning).
const MODERN: &str = VERSIONS[4];

/// The era of the version in `MCP-Protocol-Version`. Versions are dates, so they compare as text. What is no
/// date is of the era whose rules are the stricter ones; where it keeps them, the server says which versions
/// it speaks, and we cannot.
pub(super) fn era(version: &[u8]) -> Era {
    match date(version) {
        Some(date) if date.as_slice() < MODERN.as_bytes() => Era::Handshake,
        _ => Era::Modern,
    }
}

/// # Errors
/// The version is no date.
pub(super) fn is_date(version: &[u8]) -> Result<(), Fault> {
    date(version).map(|_| ()).ok_or(Fault::Version { seen: None })
}

/// `YYYY-MM-DD`, the month and the day in their ranges.
fn date(version: &[u8]) -> Option<[u8; 10]> {
    let date: [u8; 10] = version.try_into().ok()?;
    let [year @ .., b'-', m1, m2, b'-', d1, d2] = &date else { return None };
    let digits = year.iter().chain([m1, m2, d1, d2]).all(u8::is_ascii_digit);
    let fits = |(high, low): (&u8, &u8), most: &[u8; 2]| {
        (b"01".as_slice()..=most).contains(&[*high, *low].as_slice())
    };
    (digits && fits((m1, m2), b"12") && fits((d1, d2), b"31")).then_some(date)
}

/// MCP 2026-07-28, streamable HTTP: an intermediary that reads the body checks that the routing fields
/// agree with it; somebody behind us may route by the fields alone.
pub(super) fn agree(
    fields: &head::Fields,
    exchange: &mut Exchange,
    message: &mcp::Message,
    body: &[u8],
) -> Result<(), Fault> {
    let head = &exchange.head;
    let in_body = message.protocol_version.as_ref().map(|text| text.decode(body));
    let in_head = fields.get(head, Name::McpProtocolVersion);
    let modern = in_head.map(era) == Some(Era::Modern);
    if let Some(in_body) = &in_body
        && in_head != Some(in_body.as_bytes())
    {
        return Err(Fault::HeaderMismatch("MCP-Protocol-Version"));
    }
    // What a version that is not known here asks for cannot be told; one known field too few says that it
    // is not spoken here, and not which field it is.
    let missing = |field| match in_head.map(date) {
        Some(None) => Fault::Version { seen: None },
        Some(Some(seen)) if !VERSIONS.iter().any(|known| known.as_bytes() == seen) => {
            Fault::Version { seen: Some(seen) }
        }
        _ => Fault::HeaderMismatch(field),
    };
    exchange.era = Some(if modern { Era::Modern } else { Era::Handshake });

    let named = fields.get(head, Name::McpMethod);
    match (named, exchange.rpc_method.as_deref()) {
        (Some(named), Some(method)) if named == method.as_bytes() => {}
        (Some(_), _) => return Err(Fault::HeaderMismatch("Mcp-Method")),
        (None, _) if modern && message.class == Class::Request => {
            return Err(missing("Mcp-Method"));
        }
        (None, _) => {}
    }
    let routed = matches!(
        exchange.rpc_method.as_deref(),
        Some(
            "tools/call"
                | "prompts/get"
                | "resources/read"
                | "tasks/get"
                | "tasks/update"
                | "tasks/cancel"
        )
    );
    let target = exchange.targets.first().filter(|_| routed);
    match (fields.get(head, Name::McpName), target) {
        (Some(named), Some(target)) => {
            let decoded = decode_field(named).ok_or(Fault::HeaderMismatch("Mcp-Name"))?;
            if decoded != target.name.as_bytes() {
                return Err(Fault::HeaderMismatch("Mcp-Name"));
            }
        }
        (Some(named), None) => {
            // What the name of another method is, its own rules say: `params.name` or `params.uri`.
            let decoded = decode_field(named).ok_or(Fault::HeaderMismatch("Mcp-Name"))?;
            let named_in_body = [message.name, message.uri];
            if !named_in_body.iter().flatten().any(|text| text.decode(body).as_bytes() == &*decoded)
            {
                return Err(Fault::HeaderMismatch("Mcp-Name"));
            }
        }
        (None, Some(_)) if modern && message.class == Class::Request => {
            return Err(missing("Mcp-Name"));
        }
        (None, _) => {}
    }
    Ok(())
}

/// MCP 2026-07-28: `Mcp-Name` and `Mcp-Param-*` may be `=?base64?…?=`, exactly so.
pub(super) fn decode_field(value: &[u8]) -> Option<std::borrow::Cow<'_, [u8]>> {
    use base64::Engine;
    match value.strip_prefix(b"=?base64?").and_then(|rest| rest.strip_suffix(b"?=")) {
        Some(encoded) => base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .ok()
            .map(std::borrow::Cow::Owned),
        None => Some(std::borrow::Cow::Borrowed(value)),
    }
}

/// The same the other way: a value that is no visible ASCII, or that looks encoded, is encoded.
pub(super) fn encode_field(value: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    use base64::Engine;
    let plain = value.iter().all(u8::is_ascii_graphic) && !value.starts_with(b"=?");
    if plain {
        return std::borrow::Cow::Borrowed(value);
    }
    let encoded = base64::engine::general_purpose::STANDARD.encode(value);
    std::borrow::Cow::Owned(format!("=?base64?{encoded}?=").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_alike() {
        for value in ["task-1", "", "a b", " a", "\u{e9}", "=?base64?ZWNobw==?="] {
            let field = encode_field(value.as_bytes());
            assert!(field.iter().all(u8::is_ascii_graphic));
            assert_eq!(decode_field(&field).as_deref(), Some(value.as_bytes()));
        }
        assert_eq!(&*encode_field(b"task-1"), b"task-1");
    }

    #[test]
    fn a_base64_field_is_decoded_before_it_is_compared() {
        assert_eq!(decode_field(b"=?base64?ZWNobw==?=").as_deref(), Some(&b"echo"[..]));
        assert_eq!(
            decode_field(b"=?BASE64?ZWNobw==?=").as_deref(),
            Some(&b"=?BASE64?ZWNobw==?="[..])
        );
        assert_eq!(decode_field(b"=?base64?ZWNobw?="), None);
        assert_eq!(decode_field(b"echo").as_deref(), Some(&b"echo"[..]));
    }
}
