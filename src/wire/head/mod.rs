//! Heads of requests and responses (RFC 9112), read strictly and written anew.
//!
//! [`mod@lines`] finds the end of the head and everything that is wrong byte by byte, `httparse`
//! splits it into fields, and the rules of [`HeadRule`] judge what it says: the accepted grammar is
//! the small part of HTTP/1.1 that MCP needs. What is let through is never relayed as it came:
//! [`Writer`] writes heads from chosen fields, so that one framing, ours, goes out.
//!
//! It does not decide statuses, does not know paths or origins, and does not read bodies.
//!
//! Invariants: positions are offsets in the bytes that were given; a head that is `Done` has exactly
//! one framing; field values hold no control byte but HTAB; nothing is allocated once [`Fields`] is
//! warm; any cut of the input gives the same answer.

mod fields;
mod framing;
mod lines;
mod media;
mod rule;
mod target;
mod write;

pub use super::Read;
pub use fields::{Field, Fields, Name};
pub use media::{Accepts, Media, accepts, media};
pub use rule::{HeadFault, HeadRule};
pub use write::{NotWritable, Writer, reason};

use crate::limits::Limits;
use crate::types::Span;
use fields::{Slot, Times};
use lines::Extent;
pub(super) use lines::is_token_byte;

/// A method of the MCP transports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// A stream from the server, or metadata.
    Get,
    /// One message to the server.
    Post,
    /// The end of a session.
    Delete,
    /// A browser's question before a request.
    Options,
}

impl Method {
    /// As it stands in the request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
        }
    }

    /// RFC 9110 §9.1: methods are case-sensitive.
    fn of(name: &[u8]) -> Result<Method, HeadRule> {
        match name {
            b"GET" => Ok(Method::Get),
            b"POST" => Ok(Method::Post),
            b"DELETE" => Ok(Method::Delete),
            b"OPTIONS" => Ok(Method::Options),
            b"HEAD" | b"PUT" | b"PATCH" | b"CONNECT" | b"TRACE" => Err(HeadRule::MethodNotAllowed),
            _ => Err(HeadRule::MethodUnknown),
        }
    }
}

/// Where a body ends (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// There is none.
    Empty,
    /// After this many bytes; 0 when the sender said so.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection. Responses only.
    UntilClose,
}

/// A request head that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Path of the target: begins with `/`, in the characters of RFC 3986, without dot segments.
    pub path: Span,
    /// Query, without the question mark.
    pub query: Option<Span>,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the client wants to go on with this connection.
    pub keep_alive: bool,
    /// Whether it waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
}

/// A response head that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// 100 to 599, not 101.
    pub status: u16,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the connection can carry another exchange.
    pub keep_alive: bool,
}

/// Fields in one head, at most; `head_fields_max` can only be lowered.
const FIELDS_MAX: usize = 100;

fn fault<T>(rule: HeadRule, at: usize) -> Result<T, HeadFault> {
    Err(HeadFault { rule, at: at as u32 })
}

/// Reads the request head at the start of `bytes`, which may be followed by anything.
pub fn read_request(
    bytes: &[u8],
    limits: &Limits,
    fields: &mut Fields,
) -> Read<Request, HeadFault> {
    let extent = match fields.lines.walk(bytes, limits, true) {
        Ok(Some(extent)) => extent,
        Ok(None) => return Read::More,
        Err(fault) => return broken(fields, fault),
    };
    match request(bytes, extent, limits, fields) {
        Ok(value) => {
            fields.lines = Default::default();
            Read::Done { value, used: extent.end }
        }
        Err(fault) => broken(fields, fault),
    }
}

/// Reads the response head at the start of `bytes`, to a request with method `asked`. Interim
/// responses (1xx) are `Done` too, with their status; the caller goes on with what follows.
pub fn read_response(
    bytes: &[u8],
    limits: &Limits,
    asked: Method,
    fields: &mut Fields,
) -> Read<Response, HeadFault> {
    let extent = match fields.lines.walk(bytes, limits, false) {
        Ok(Some(extent)) => extent,
        Ok(None) => return Read::More,
        Err(fault) => return broken(fields, fault),
    };
    match response(bytes, extent, asked, limits, fields) {
        Ok(value) => {
            fields.lines = Default::default();
            Read::Done { value, used: extent.end }
        }
        Err(fault) => broken(fields, fault),
    }
}

fn broken<T>(fields: &mut Fields, fault: HeadFault) -> Read<T, HeadFault> {
    fields.clear();
    Read::Broken(fault)
}

fn request(
    bytes: &[u8],
    extent: Extent,
    limits: &Limits,
    fields: &mut Fields,
) -> Result<Request, HeadFault> {
    let line = &bytes[extent.start..extent.line_end];
    // RFC 9112 §3: exactly one space between the three parts; a lenient reader sees another target.
    let space = |from: usize| memchr::memchr(b' ', &line[from..]).map(|at| from + at);
    let Some(method_end) = space(0) else {
        return fault(HeadRule::RequestLine, extent.line_end);
    };
    let Some(target_end) = space(method_end + 1) else {
        return fault(HeadRule::RequestLine, extent.line_end);
    };
    if target_end == method_end + 1 {
        return fault(HeadRule::RequestLine, extent.start + target_end);
    }
    version(&line[target_end + 1..], extent.start + target_end + 1, HeadRule::RequestLine)?;
    let method = match Method::of(&line[..method_end]) {
        Ok(method) => method,
        Err(rule) => return fault(rule, extent.start),
    };
    let target = Span::new(extent.start + method_end + 1, extent.start + target_end);
    let (path, query) = target::judge(bytes, target, limits)?;

    let mut storage = [const { std::mem::MaybeUninit::uninit() }; FIELDS_MAX];
    let fields_max = FIELDS_MAX.min(limits.head_fields_max as usize);
    let mut parsed = httparse::Request::new(&mut []);
    let head = &bytes[extent.start..extent.end];
    match parsed.parse_with_uninit_headers(head, &mut storage[..fields_max]) {
        Ok(httparse::Status::Complete(used)) if used == head.len() => {}
        outcome => return Err(unparsed(bytes, extent, fields_max, outcome.err())),
    }
    keep(bytes, parsed.headers, fields)?;

    framing::host(bytes, extent.end, fields)?;
    if let Some(slot) = fields.slot(Name::Upgrade) {
        return fault(HeadRule::Upgrade, slot.name.start as usize);
    }
    let connection = framing::connection(bytes, fields)?;
    if let Some(at) = connection.upgrade {
        return fault(HeadRule::Upgrade, at);
    }
    let expect_continue = framing::expect(bytes, fields)?;
    let framing = framing::declared(bytes, fields)?.unwrap_or(Framing::Empty);
    let keep_alive = !connection.close;
    Ok(Request { method, path, query, framing, keep_alive, expect_continue })
}

fn response(
    bytes: &[u8],
    extent: Extent,
    asked: Method,
    limits: &Limits,
    fields: &mut Fields,
) -> Result<Response, HeadFault> {
    let line = &bytes[..extent.line_end];
    version(&line[..line.len().min(8)], 0, HeadRule::StatusLine)?;
    let status = match &line[8..] {
        [b' ', a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..]
            if rest.first().is_none_or(|&byte| byte == b' ') =>
        {
            (a - b'0') as u16 * 100 + (b - b'0') as u16 * 10 + (c - b'0') as u16
        }
        _ => return fault(HeadRule::StatusLine, 8.min(line.len())),
    };
    match status {
        101 => return fault(HeadRule::SwitchingProtocols, 9),
        100..=599 => {}
        _ => return fault(HeadRule::Status, 9),
    }
    let mut storage = [const { std::mem::MaybeUninit::uninit() }; FIELDS_MAX];
    let fields_max = FIELDS_MAX.min(limits.head_fields_max as usize);
    let mut parsed = httparse::Response::new(&mut []);
    let head = &bytes[..extent.end];
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, head, &mut storage[..fields_max]) {
        Ok(httparse::Status::Complete(used)) if used == head.len() => {}
        outcome => return Err(unparsed(bytes, extent, fields_max, outcome.err())),
    }
    keep(bytes, parsed.headers, fields)?;

    let connection = framing::connection(bytes, fields)?;
    let framing = framing::of_response(bytes, status, asked, fields)?;
    let keep_alive = !connection.close && framing != Framing::UntilClose;
    Ok(Response { status, framing, keep_alive })
}

fn version(seen: &[u8], at: usize, line: HeadRule) -> Result<(), HeadFault> {
    match seen {
        b"HTTP/1.1" => Ok(()),
        b"HTTP/1.0" => fault(HeadRule::VersionOld, at),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            fault(HeadRule::Version, at)
        }
        _ => fault(line, at),
    }
}

/// Takes over the fields that httparse found, judging each by itself and against those before it.
fn keep(
    bytes: &[u8],
    parsed: &[httparse::Header<'_>],
    fields: &mut Fields,
) -> Result<(), HeadFault> {
    fields.clear();
    // Why addresses: httparse gives slices of `bytes`; the gateway wants positions.
    let offset = |part: &[u8]| part.as_ptr() as usize - bytes.as_ptr() as usize;
    for header in parsed {
        let name = header.name.as_bytes();
        let name_span = Span::new(offset(name), offset(name) + name.len());
        let value = header.value.trim_ascii();
        let value_span = match value.is_empty() {
            true => Span { start: name_span.end() as u32 + 1, len: 0 },
            false => Span::new(offset(value), offset(value) + value.len()),
        };
        let slot = Slot { name: name_span, value: value_span, known: Name::of(name) };
        judge_field(bytes, &slot, fields)?;
        fields.push(slot);
    }
    Ok(())
}

fn judge_field(bytes: &[u8], slot: &Slot, fields: &Fields) -> Result<(), HeadFault> {
    let name = slot.name.of(bytes);
    let at = slot.name.start as usize;
    let Some(known) = slot.known else {
        if memchr::memchr(b'_', name).is_some() && Name::looking_like(name).is_some() {
            return fault(HeadRule::LookAlikeField, at);
        }
        let routing = name.len() > 4 && name[..4].eq_ignore_ascii_case(b"mcp-");
        if routing && twice(bytes, name, fields) {
            return fault(HeadRule::DuplicateRouting, at);
        }
        return Ok(());
    };
    match known.times() {
        Times::Many => return Ok(()),
        Times::One if fields.slot(known).is_some() => {
            return fault(HeadRule::DuplicateField, at);
        }
        Times::Routing if fields.slot(known).is_some() && twice(bytes, name, fields) => {
            return fault(HeadRule::DuplicateRouting, at);
        }
        Times::Routing if known == Name::McpParam && looks_like_another(bytes, name, fields) => {
            return fault(HeadRule::LookAlikeField, at);
        }
        Times::One | Times::Routing => {}
    }
    // Why not every field: names of people and products stand in User-Agent and the like.
    if known != Name::UserAgent
        && known != Name::ContentDisposition
        && let Some(bad) = slot.value.of(bytes).iter().position(|byte| !byte.is_ascii())
    {
        return fault(HeadRule::FieldBytes, slot.value.start as usize + bad);
    }
    Ok(())
}

/// Whether a mirrored argument of another name becomes this one where names are variables: servers behind
/// CGI, WSGI and the like take `_` for `-`, some for every byte that is no letter or digit.
fn looks_like_another(bytes: &[u8], name: &[u8], fields: &Fields) -> bool {
    let variable = |byte: &u8| match byte.is_ascii_alphanumeric() {
        true => byte.to_ascii_lowercase(),
        false => b'_',
    };
    fields
        .slots()
        .filter(|other| other.known == Some(Name::McpParam))
        .any(|other| other.name.of(bytes).iter().map(variable).eq(name.iter().map(variable)))
}

fn twice(bytes: &[u8], name: &[u8], fields: &Fields) -> bool {
    fields.slots().any(|other| other.name.of(bytes).eq_ignore_ascii_case(name))
}

/// The place of what httparse refused: it names the kind, not the byte.
#[cold]
fn unparsed(
    bytes: &[u8],
    extent: Extent,
    fields_max: usize,
    error: Option<httparse::Error>,
) -> HeadFault {
    let head = &bytes[..extent.end - 2];
    let mut start = extent.line_end + 2;
    let mut count = 0;
    while start < head.len() {
        let end = memchr::memchr(b'\r', &head[start..]).map_or(head.len(), |at| start + at);
        let line = &head[start..end];
        let token = line.iter().take_while(|byte| is_token_byte(**byte)).count();
        let rest = &line[token..];
        if token == 0 || rest.first() != Some(&b':') {
            let colon = rest.trim_ascii_start().first() == Some(&b':');
            let rule = match token > 0 && colon {
                true => HeadRule::SpaceBeforeColon,
                false => HeadRule::FieldName,
            };
            return HeadFault { rule, at: (start + token) as u32 };
        }
        count += 1;
        if count > fields_max {
            return HeadFault { rule: HeadRule::TooManyFields, at: start as u32 };
        }
        start = end + 2;
    }
    let rule = match error {
        Some(httparse::Error::Status) => HeadRule::StatusLine,
        _ => HeadRule::FieldName,
    };
    HeadFault { rule, at: extent.start as u32 }
}

#[cfg(test)]
mod tests;
