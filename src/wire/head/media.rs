//! Content-Type and Accept, as far as MCP needs them.

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Media {
    /// `application/json` in UTF-8.
    Json,
    /// `text/event-stream` in UTF-8.
    EventStream,
    /// Anything else, another charset among it.
    Other,
}

/// Judges a Content-Type: the exact type, and no parameter but `charset=utf-8`.
pub fn media(content_type: &[u8]) -> Media {
    let mut parts = content_type.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let kind = parts.next().unwrap_or_default();
    let media = if kind.eq_ignore_ascii_case(b"application/json") {
        Media::Json
    } else if kind.eq_ignore_ascii_case(b"text/event-stream") {
        Media::EventStream
    } else {
        return Media::Other;
    };
    // RFC 9110 §5.6.6: parameters are written without white space around the equals sign, and empty
    // ones are allowed.
    let harmless = |part: &[u8]| {
        part.is_empty()
            || part.eq_ignore_ascii_case(b"charset=utf-8")
            || part.eq_ignore_ascii_case(b"charset=\"utf-8\"")
    };
    if parts.all(harmless) { media } else { Media::Other }
}

/// What a client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepts {
    /// `application/json`.
    pub json: bool,
    /// `text/event-stream`.
    pub events: bool,
}

/// Judges one Accept value. Ranges count for what they cover; a weight of 0 excludes nothing that
/// another member names, it just does not count itself.
pub fn accepts(value: &[u8]) -> Accepts {
    let mut accepts = Accepts::default();
    for member in value.split(|&byte| byte == b',') {
        let mut parts = member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let range = parts.next().unwrap_or_default();
        let zero = parts.any(|part| {
            part.len() >= 3
                && part[..2].eq_ignore_ascii_case(b"q=")
                && part[2..].iter().all(|byte| matches!(byte, b'0' | b'.'))
        });
        if zero {
            continue;
        }
        let is = |word: &[u8]| range.eq_ignore_ascii_case(word);
        accepts.json |= is(b"application/json") || is(b"application/*") || is(b"*/*");
        accepts.events |= is(b"text/event-stream") || is(b"text/*") || is(b"*/*");
    }
    accepts
}
