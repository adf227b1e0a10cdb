//! Event streams (WHATWG HTML §9.2.6), read into whole events and written in one canonical form.
//!
//! The reader gathers an event until its empty line and hands it over at once, in its own memory.
//! Lines end in CR, LF or CRLF and in nothing else; an event ended by a lone CR does not wait for a
//! line feed that may follow. Fields the standard does not name are dropped, comments are reported
//! without their text, an event that the stream does not end is never delivered.
//!
//! Stricter than the standard: invalid UTF-8 is a fault (clients replace it, so one bad byte could
//! hide what the scanner looks for), and so is a control character in an id or name (an id comes back
//! in a request field). It does not look into the data and keeps no last event id.
//!
//! Invariants: an item is a function of the stream's bytes, whatever the cuts; one event holds at most
//! `event_bytes_max` of data and `event_id_bytes_max` of id and of name; what is buffered is bounded
//! by their sum and a small excess ([`block_bytes_max`]); a fault is final.

use std::fmt;

use bytes::{Buf, BufMut, BytesMut};

use crate::limits::Limits;

/// What an event stream broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SseRule {
    /// A line that is not UTF-8.
    NotUtf8,
    /// More data in one event than `event_bytes_max`.
    EventTooLong,
    /// An event whose fields, names and line ends counted, exceed what its parts may sum up to.
    BlockTooLong,
    /// An id longer than `event_id_bytes_max`.
    IdTooLong,
    /// A control character in an id.
    IdText,
    /// An event name longer than `event_id_bytes_max`.
    NameTooLong,
    /// An event name that is not printable ASCII: some readers end a line at characters beyond it.
    NameText,
}

impl SseRule {
    /// Every rule.
    pub const ALL: &'static [SseRule] = &[
        SseRule::NotUtf8,
        SseRule::EventTooLong,
        SseRule::BlockTooLong,
        SseRule::IdTooLong,
        SseRule::IdText,
        SseRule::NameTooLong,
        SseRule::NameText,
    ];

    /// The rule's name in records and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            SseRule::NotUtf8 => "sse-not-utf8",
            SseRule::EventTooLong => "sse-event-too-long",
            SseRule::BlockTooLong => "sse-block-too-long",
            SseRule::IdTooLong => "sse-id-too-long",
            SseRule::IdText => "sse-id-text",
            SseRule::NameTooLong => "sse-name-too-long",
            SseRule::NameText => "sse-name-text",
        }
    }

    /// It bounds an event: what is over it is not kept.
    pub fn is_bound(self) -> bool {
        matches!(self, SseRule::EventTooLong | SseRule::BlockTooLong)
    }

    /// Where the rule comes from.
    pub fn source(self) -> &'static str {
        match self {
            SseRule::NotUtf8 => "WHATWG HTML §9.2.5",
            SseRule::IdText | SseRule::NameText => "WHATWG HTML §9.2.6",
            SseRule::EventTooLong | SseRule::BlockTooLong => "event_bytes_max",
            SseRule::IdTooLong | SseRule::NameTooLong => "event_id_bytes_max",
        }
    }
}

/// A broken rule and the place in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SseFault {
    /// What was broken.
    pub rule: SseRule,
    /// Offset in the stream: of the offending byte, or of the line that is too long or ill-formed.
    pub at: u64,
}

impl fmt::Display for SseFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} ({})", self.rule.as_str(), self.at, self.rule.source())
    }
}

impl std::error::Error for SseFault {}

/// One thing the stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An event, or fields without data (an id or a retry time by itself has a meaning too).
    Event(Event),
    /// A comment line.
    Comment,
}

/// One event. Has at least one of its parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// `event`, not empty; `None` means `message`.
    pub name: Option<Vec<u8>>,
    /// `id`; empty resets the client's last event id.
    pub id: Option<Vec<u8>>,
    /// `retry` in milliseconds, pinned to 64 bits.
    pub retry_ms: Option<u64>,
    /// `data`: lines joined by line feeds. `None` when there was no data line at all, empty for the
    /// priming event of MCP 2025-11-25.
    pub data: Option<BytesMut>,
}

impl Event {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.id.is_none() && self.retry_ms.is_none() && self.data.is_none()
    }
}

/// Raw bytes of one event, fields it repeats or that are dropped included: enough for the longest
/// event with an id, a name and a retry time, and for two hundred lines of data.
pub fn block_bytes_max(limits: &Limits) -> u64 {
    limits.event_bytes_max + 2 * limits.event_id_bytes_max + 2048
}

const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// Reads one stream.
#[derive(Debug, Default)]
pub struct Reader {
    /// The unfinished line, when a read ended inside it.
    line: BytesMut,
    event: Event,
    /// Bytes of the stream consumed before the current call.
    position: u64,
    /// Bytes since the last item, line ends counted.
    block_bytes: u64,
    /// Bytes of the byte order mark seen at the start; 3 when that is settled.
    mark_bytes: u8,
    /// The last line ended in CR: a line feed now belongs to it.
    after_cr: bool,
    broken: Option<SseFault>,
}

impl Reader {
    /// At the start of a stream.
    pub fn new() -> Reader {
        Reader::default()
    }

    /// Reads up to the next item. Returns how much of `input` was consumed; without an item, all of
    /// it was.
    pub fn read(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<(usize, Option<Item>), SseFault> {
        if let Some(fault) = self.broken {
            return Err(fault);
        }
        let mut at = 0;
        let outcome = self.advance(input, &mut at, limits);
        self.position += at as u64;
        match outcome {
            Ok(item) => Ok((at, item)),
            Err(fault) => {
                self.broken = Some(fault);
                Err(fault)
            }
        }
    }

    /// Bytes of the stream consumed so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes consumed that no item has accounted for: an event that the stream has not ended.
    pub fn unterminated_bytes(&self) -> usize {
        self.block_bytes as usize
    }

    /// That event, as far as it came: its fields in our canonical form, then the line that is unfinished
    /// or that breaks a rule.
    pub fn unterminated(&self) -> Vec<u8> {
        let mut text = BytesMut::new();
        let Event { name, id, retry_ms, data } = &self.event;
        write_event_prefix(&mut text, name.as_deref(), id.as_deref(), *retry_ms);
        // The prefix ends where the data would begin.
        text.truncate(text.len() - b"data: ".len());
        for line in data.iter().flat_map(|data| data[..].split(|byte| *byte == b'\n')) {
            text.extend_from_slice(b"data: ");
            text.extend_from_slice(line);
            text.extend_from_slice(b"\n");
        }
        text.extend_from_slice(&self.line);
        text.to_vec()
    }

    fn advance(
        &mut self,
        input: &[u8],
        at: &mut usize,
        limits: &Limits,
    ) -> Result<Option<Item>, SseFault> {
        self.mark(input, at);
        while *at < input.len() {
            if std::mem::take(&mut self.after_cr) && input[*at] == b'\n' {
                *at += 1;
                continue;
            }
            let rest = &input[*at..];
            let stop = memchr::memchr2(b'\r', b'\n', rest);
            let taken = stop.map_or(rest.len(), |len| len + 1);
            let room = block_bytes_max(limits) - self.block_bytes;
            if taken as u64 > room {
                let at = self.position + *at as u64 + room;
                return Err(SseFault { rule: SseRule::BlockTooLong, at });
            }
            self.block_bytes += taken as u64;
            *at += taken;
            let Some(len) = stop else {
                self.line.extend_from_slice(rest);
                break;
            };
            self.after_cr = rest[len] == b'\r';
            let end = self.position + (*at - 1) as u64;
            let item = match self.line.is_empty() {
                true => {
                    let ended = self.line_end(&rest[..len], end, limits);
                    ended.inspect_err(|fault| self.keep_line(fault, &rest[..len]))?
                }
                false => {
                    self.line.extend_from_slice(&rest[..len]);
                    let line = std::mem::take(&mut self.line);
                    self.gathered_end(line, end, limits)?
                }
            };
            if item.is_some() {
                // Why now: the caller can then go on with a fresh buffer.
                if self.after_cr && input.get(*at) == Some(&b'\n') {
                    self.after_cr = false;
                    *at += 1;
                }
                return Ok(item);
            }
        }
        Ok(None)
    }

    /// This line breaks a rule: it stays with the event that is never whole, unless that is a bound.
    fn keep_line(&mut self, fault: &SseFault, line: &[u8]) {
        if !fault.rule.is_bound() {
            self.line = BytesMut::from(line);
        }
    }

    /// One byte order mark at the very start is no part of the stream.
    fn mark(&mut self, input: &[u8], at: &mut usize) {
        while self.mark_bytes < 3 {
            match input.get(*at) {
                None => return,
                Some(&byte) if byte == BYTE_ORDER_MARK[self.mark_bytes as usize] => {
                    self.mark_bytes += 1;
                    *at += 1;
                }
                Some(_) => {
                    let seen = &BYTE_ORDER_MARK[..self.mark_bytes as usize];
                    self.line.extend_from_slice(seen);
                    self.block_bytes += seen.len() as u64;
                    self.mark_bytes = 3;
                }
            }
        }
    }

    /// A line that was gathered from several reads: its memory becomes the data when it is the first
    /// data line.
    fn gathered_end(
        &mut self,
        mut line: BytesMut,
        end: u64,
        limits: &Limits,
    ) -> Result<Option<Item>, SseFault> {
        if self.event.data.is_none()
            && let Some(value) = line.strip_prefix(b"data:")
        {
            let skipped = line.len() - value.strip_prefix(b" ").unwrap_or(value).len();
            self.judge_line(&line, end).inspect_err(|fault| self.keep_line(fault, &line))?;
            line.advance(skipped);
            self.data_fits(line.len(), end, limits)?;
            self.event.data = Some(line);
            return Ok(None);
        }
        self.line_end(&line, end, limits).inspect_err(|fault| self.keep_line(fault, &line))
    }

    fn judge_line(&self, line: &[u8], end: u64) -> Result<(), SseFault> {
        std::str::from_utf8(line).map(|_| ()).map_err(|fault| {
            let at = end - line.len() as u64 + fault.valid_up_to() as u64;
            SseFault { rule: SseRule::NotUtf8, at }
        })
    }

    fn data_fits(&self, bytes: usize, end: u64, limits: &Limits) -> Result<(), SseFault> {
        match bytes as u64 > limits.event_bytes_max {
            true => Err(SseFault { rule: SseRule::EventTooLong, at: end }),
            false => Ok(()),
        }
    }

    /// A whole line without its end; `end` is the place of that end in the stream.
    fn line_end(
        &mut self,
        line: &[u8],
        end: u64,
        limits: &Limits,
    ) -> Result<Option<Item>, SseFault> {
        if line.is_empty() {
            self.block_bytes = 0;
            let event = std::mem::take(&mut self.event);
            return Ok((!event.is_empty()).then_some(Item::Event(event)));
        }
        self.judge_line(line, end)?;
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let start = end - line.len() as u64;
        match &line[..colon] {
            b"" => {
                // Why: comments are not gathered, so however many there are they fill nothing.
                self.block_bytes -= line.len() as u64 + 1;
                return Ok(Some(Item::Comment));
            }
            b"data" => {
                let before = self.event.data.as_ref().map_or(0, |data| data.len() + 1);
                self.data_fits(before + value.len(), end, limits)?;
                match &mut self.event.data {
                    Some(data) => {
                        data.put_u8(b'\n');
                        data.extend_from_slice(value);
                    }
                    none => *none = Some(BytesMut::from(value)),
                }
            }
            b"id" => {
                if value.len() as u64 > limits.event_id_bytes_max {
                    return Err(SseFault { rule: SseRule::IdTooLong, at: start });
                }
                // It goes to clients wrapped and to its server as it came: any text will do.
                let text = std::str::from_utf8(value).expect("the line is UTF-8");
                if text.chars().any(char::is_control) {
                    return Err(SseFault { rule: SseRule::IdText, at: start });
                }
                self.event.id = Some(value.to_vec());
            }
            b"event" => {
                if value.len() as u64 > limits.event_id_bytes_max {
                    return Err(SseFault { rule: SseRule::NameTooLong, at: start });
                }
                if !value.iter().all(|byte| matches!(byte, b' '..=b'~')) {
                    return Err(SseFault { rule: SseRule::NameText, at: start });
                }
                self.event.name = (!value.is_empty()).then(|| value.to_vec());
            }
            // WHATWG: only ASCII digits count, anything else is ignored.
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let ms = value.iter().fold(0u64, |ms, digit| {
                    ms.saturating_mul(10).saturating_add((digit - b'0') as u64)
                });
                self.event.retry_ms = Some(ms);
            }
            _ => {}
        }
        Ok(None)
    }
}

/// A comment, as the gateway writes it: keeps the connection awake and says nothing.
pub const COMMENT: &[u8] = b":\n\n";

/// What follows the data of an event written with [`write_event_prefix`].
pub const EVENT_SUFFIX: &[u8] = b"\n\n";

/// Writes everything of an event that stands before its data. The data must follow as one line (see
/// [`join_lines`]), then [`EVENT_SUFFIX`].
pub fn write_event_prefix(
    out: &mut BytesMut,
    name: Option<&[u8]>,
    id: Option<&[u8]>,
    retry_ms: Option<u64>,
) {
    write_fields(out, name, id, retry_ms);
    out.put_slice(b"data: ");
}

/// Writes a whole event; every line of `data` becomes a data line. Without data only the fields.
pub fn write_event(
    out: &mut BytesMut,
    name: Option<&[u8]>,
    id: Option<&[u8]>,
    retry_ms: Option<u64>,
    data: Option<&[u8]>,
) {
    write_fields(out, name, id, retry_ms);
    for line in data.into_iter().flat_map(|data| data.split(|&byte| byte == b'\n')) {
        debug_assert!(!line.contains(&b'\r'), "data holds no carriage return");
        out.put_slice(b"data: ");
        out.put_slice(line);
        out.put_u8(b'\n');
    }
    out.put_u8(b'\n');
}

fn write_fields(out: &mut BytesMut, name: Option<&[u8]>, id: Option<&[u8]>, retry_ms: Option<u64>) {
    let mut field = |label: &[u8], value: &[u8]| {
        debug_assert!(memchr::memchr2(b'\r', b'\n', value).is_none(), "a line end in a field");
        out.put_slice(label);
        out.put_slice(value);
        out.put_u8(b'\n');
    };
    if let Some(name) = name {
        field(b"event: ", name);
    }
    if let Some(id) = id {
        field(b"id: ", id);
    }
    if let Some(ms) = retry_ms {
        field(b"retry: ", ms.to_string().as_bytes());
    }
}

/// Makes one line of a JSON text, in place: in JSON a line end is white space, so a space says the
/// same. True when there was something to replace.
pub fn join_lines(json: &mut [u8]) -> bool {
    let mut from = 0;
    while let Some(at) = memchr::memchr2(b'\n', b'\r', &json[from..]) {
        json[from + at] = b' ';
        from += at + 1;
    }
    from > 0
}

/// Characters that end a line for some readers and not by the standard, as they stand in UTF-8, and how
/// JSON escapes them: U+0085, U+2028 and U+2029. Python's `str.splitlines` and others that go by Unicode
/// end a line there; the rest of such characters cannot stand in JSON as they are (RFC 8259 §7).
const UNICODE_LINE_ENDS: [(&[u8], &[u8]); 3] =
    [(b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029")];

/// Escapes in a valid JSON text what ends a line for some readers; `None` when there is nothing to escape.
/// Such a character stands only within strings, where its escape says the same.
pub fn escape_line_ends(json: &[u8]) -> Option<BytesMut> {
    let mut escaped = None;
    let mut from = 0;
    for at in memchr::memchr2_iter(0xc2, 0xe2, json) {
        let ends = |(raw, _): &&(&[u8], &[u8])| json[at..].starts_with(raw);
        let Some((raw, escape)) = UNICODE_LINE_ENDS.iter().find(ends) else { continue };
        let out = escaped.get_or_insert_with(|| BytesMut::with_capacity(json.len() + 64));
        out.extend_from_slice(&json[from..at]);
        out.extend_from_slice(escape);
        from = at + raw.len();
    }
    let mut out: BytesMut = escaped?;
    out.extend_from_slice(&json[from..]);
    Some(out)
}

#[cfg(test)]
mod tests;
