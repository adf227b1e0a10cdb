//! Request targets: origin form only, in the characters of the URI grammar, with one meaning.

use super::{HeadFault, HeadRule, fault};
use crate::limits::Limits;
use crate::types::Span;

/// Splits `target` into path and query.
pub(super) fn judge(
    bytes: &[u8],
    target: Span,
    limits: &Limits,
) -> Result<(Span, Option<Span>), HeadFault> {
    let text = target.of(bytes);
    let start = target.start as usize;
    if text.len() as u64 > limits.target_bytes_max {
        return fault(HeadRule::TargetTooLong, start + limits.target_bytes_max as usize);
    }
    // RFC 9112 §3.2.2: servers accept the absolute form too. MCP clients do not send it, and two
    // authorities (target and Host) are one too many.
    if text[0] != b'/' {
        return fault(HeadRule::TargetForm, start);
    }
    let path_len = memchr::memchr(b'?', text).unwrap_or(text.len());
    for (at, &byte) in text.iter().enumerate() {
        let allowed = match byte {
            b'%' => {
                let digits = text.get(at + 1..at + 3);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return fault(HeadRule::TargetEscape, start + at);
                }
                true
            }
            b'?' => true,
            // WHATWG URL leaves these alone in queries, so browsers send them.
            b'[' | b']' | b'{' | b'}' | b'|' | b'^' => at > path_len,
            byte => is_path_byte(byte),
        };
        if !allowed {
            return fault(HeadRule::TargetBytes, start + at);
        }
    }
    segments(&text[..path_len], start)?;
    let path = Span::new(start, start + path_len);
    let query = (path_len < text.len()).then(|| Span::new(start + path_len + 1, target.end()));
    Ok((path, query))
}

/// RFC 3986 §3.3: pchar without escapes, and the slash.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
                | b'/'
        )
}

/// Refuses what one side would normalise away and the other would not: a path that was authorised
/// must be the path that is served.
fn segments(path: &[u8], start: usize) -> Result<(), HeadFault> {
    let mut at = 1;
    for segment in path[1..].split(|&byte| byte == b'/') {
        let last = at + segment.len() == path.len();
        if segment == b"." || segment == b".." || (segment.is_empty() && !last) {
            return fault(HeadRule::TargetSegments, start + at);
        }
        at += segment.len() + 1;
    }
    let mut from = 0;
    while let Some(at) = memchr::memchr(b'%', &path[from..]).map(|at| from + at) {
        if let [b'2', b'e' | b'E' | b'f' | b'F'] | [b'5', b'c' | b'C'] | [b'0', b'0'] =
            path[at + 1..at + 3]
        {
            return fault(HeadRule::TargetSegments, start + at);
        }
        from = at + 3;
    }
    Ok(())
}
