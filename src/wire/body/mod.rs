//! Bodies: where their bytes are, by length, by chunks or until the connection ends (RFC 9112 §6, §7).
//!
//! The decoder copies nothing: it says which part of the input is payload and how much is framing. It
//! does not bound bodies (the caller counts what it keeps) and does not undo content codings.
//!
//! | state | input | next |
//! |---|---|---|
//! | `Length(n)` | payload, up to n bytes | `Length(n - taken)`; `Done` at 0 |
//! | `UntilClose` | payload | itself; `Done` by [`Decoder::at_close`] |
//! | `Size` | 1 to 16 hexadecimal digits | itself |
//! | `Size` | CR | `SizeEnd` |
//! | `SizeEnd` | LF | `Data(n)`, or `Trailer` when n is 0 |
//! | `Data(n)` | payload, up to n bytes | `Data(n - taken)`; `DataCr` at 0 |
//! | `DataCr` | CR | `DataLf` |
//! | `DataLf` | LF | `Size` |
//! | `Trailer` | a field line; only of a response | itself; the line is judged and dropped |
//! | `Trailer` | an empty line | `Done` |
//! | any | anything else | `Broken` for good |
//!
//! Invariants: every input byte is consumed once, as payload or framing; after `Done` none is; a fault
//! is final and the same for every cut of the input.

use std::fmt;

use bytes::{BufMut, BytesMut};

use super::head::is_token_byte;
use super::head::{Framing, Name};
use crate::limits::TRAILER_BYTES_MAX;
use crate::types::Span;

/// What a body broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BodyRule {
    /// A chunk size that is not 1 to 16 hexadecimal digits; signs and spaces are none.
    ChunkSize,
    /// A chunk extension: no sender has use for one, and readers end them differently.
    ChunkExtension,
    /// A chunk line or chunk that does not end in CRLF.
    ChunkEnd,
    /// A trailer field in a request.
    Trailer,
    /// A trailer field that frames, routes or identifies.
    TrailerField,
    /// A trailer line that is no field.
    TrailerForm,
    /// A trailer section longer than `TRAILER_BYTES_MAX`.
    TrailerTooLong,
    /// The connection ended before the body did.
    Truncated,
}

impl BodyRule {
    /// Every rule.
    pub const ALL: &'static [BodyRule] = &[
        BodyRule::ChunkSize,
        BodyRule::ChunkExtension,
        BodyRule::ChunkEnd,
        BodyRule::Trailer,
        BodyRule::TrailerField,
        BodyRule::TrailerForm,
        BodyRule::TrailerTooLong,
        BodyRule::Truncated,
    ];

    /// The rule's name in records and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            BodyRule::ChunkSize => "body-chunk-size",
            BodyRule::ChunkExtension => "body-chunk-extension",
            BodyRule::ChunkEnd => "body-chunk-end",
            BodyRule::Trailer => "body-trailer",
            BodyRule::TrailerField => "body-trailer-field",
            BodyRule::TrailerForm => "body-trailer-form",
            BodyRule::TrailerTooLong => "body-trailer-too-long",
            BodyRule::Truncated => "body-truncated",
        }
    }

    /// Where the rule comes from.
    pub fn source(self) -> &'static str {
        match self {
            BodyRule::ChunkSize | BodyRule::ChunkEnd => "RFC 9112 §7.1",
            BodyRule::ChunkExtension => "RFC 9112 §7.1.1",
            BodyRule::Trailer | BodyRule::TrailerForm => "RFC 9112 §7.1.2",
            BodyRule::TrailerField => "RFC 9110 §6.5.1",
            BodyRule::TrailerTooLong => "TRAILER_BYTES_MAX",
            BodyRule::Truncated => "RFC 9112 §8",
        }
    }
}

/// A broken rule and the byte that broke it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyFault {
    /// What was broken.
    pub rule: BodyRule,
    /// Offset from the first byte after the head, framing counted.
    pub at: u64,
}

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} ({})", self.rule.as_str(), self.at, self.rule.source())
    }
}

impl std::error::Error for BodyFault {}

/// Answer of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Payload, not empty, at this place of the input. Consumed: everything up to its end.
    Data(Span),
    /// This many bytes, at least one, were framing; go on with the rest.
    Skip(usize),
    /// The input was empty and the body is not over.
    More,
    /// The body is over; this many bytes of the input still belonged to it.
    End {
        /// Bytes consumed.
        used: usize,
    },
}

#[derive(Debug, Clone)]
enum State {
    Length(u64),
    UntilClose,
    Size { value: u64, digits: u8 },
    SizeEnd { value: u64 },
    Data(u64),
    DataCr,
    DataLf,
    Trailer(Box<Trailer>),
    Done,
    Broken(BodyFault),
}

/// The trailer section being read: one line at a time.
#[derive(Debug, Clone, Default)]
struct Trailer {
    line: Vec<u8>,
    bytes: usize,
}

/// Bound: runs of equal chunk sizes that are remembered.
const CHUNK_RUNS_MAX: usize = 256;

/// The sizes of chunks as they arrived, for whoever records them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunks {
    /// Size and how many of it in a row, the empty one at the end not counted.
    pub runs: Vec<(u64, u64)>,
    /// Chunks behind those that are remembered.
    pub more: u64,
}

impl Chunks {
    fn add(&mut self, size: u64) {
        let known = self.runs.len();
        match self.runs.last_mut() {
            Some((last, count)) if *last == size && self.more == 0 => *count += 1,
            _ if known < CHUNK_RUNS_MAX => self.runs.push((size, 1)),
            _ => self.more += 1,
        }
    }

    /// The body was not chunked, or all of it was told.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.more == 0
    }
}

/// Reads one body.
#[derive(Debug, Clone)]
pub struct Decoder {
    chunks: Chunks,
    state: State,
    /// Bytes consumed so far.
    position: u64,
    trailers: bool,
}

impl Decoder {
    /// For a body framed so. Trailer fields are refused: right for requests.
    pub fn new(framing: Framing) -> Decoder {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { value: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Decoder { chunks: Chunks::default(), state, position: 0, trailers: false }
    }

    /// The same for a response: trailer fields are read and dropped, those that frame, route or
    /// identify refused.
    pub fn of_response(framing: Framing) -> Decoder {
        Decoder { trailers: true, ..Decoder::new(framing) }
    }

    /// Whether the body is over.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The chunks that began since this was asked last.
    pub fn take_chunks(&mut self) -> Chunks {
        std::mem::take(&mut self.chunks)
    }

    /// Payload that is announced and has not come: the rest of the length or of the chunk. What is
    /// announced beyond a bound need not be waited for.
    pub fn announced_bytes(&self) -> u64 {
        match self.state {
            State::Length(left) | State::Data(left) => left,
            _ => 0,
        }
    }

    /// Bytes consumed so far, framing counted.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads on: `input` is what follows the bytes consumed so far. To be called again with the rest
    /// until it answers `More` or `End`.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, BodyFault> {
        let mut at = 0;
        loop {
            match &mut self.state {
                State::Broken(fault) => return Err(*fault),
                State::Done => {
                    self.position += at as u64;
                    return Ok(Step::End { used: at });
                }
                State::Length(left) | State::Data(left) => {
                    let take = (input.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                    if take == 0 {
                        break;
                    }
                    *left -= take as u64;
                    if *left == 0 {
                        let chunked = matches!(self.state, State::Data(_));
                        self.state = if chunked { State::DataCr } else { State::Done };
                    }
                    self.position += (at + take) as u64;
                    return Ok(Step::Data(Span::new(at, at + take)));
                }
                State::UntilClose => {
                    if at == input.len() {
                        break;
                    }
                    self.position += input.len() as u64;
                    return Ok(Step::Data(Span::new(at, input.len())));
                }
                _ => {
                    let Some(&byte) = input.get(at) else { break };
                    if let Err(rule) = self.framing(byte) {
                        let fault = BodyFault { rule, at: self.position + at as u64 };
                        self.state = State::Broken(fault);
                        return Err(fault);
                    }
                    at += 1;
                }
            }
        }
        self.position += at as u64;
        Ok(if at > 0 { Step::Skip(at) } else { Step::More })
    }

    /// One byte of chunk framing.
    fn framing(&mut self, byte: u8) -> Result<(), BodyRule> {
        self.state = match &mut self.state {
            State::Size { value, digits } => match byte {
                b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' if *digits < 16 => {
                    let digit = (byte as char).to_digit(16).expect("a hexadecimal digit");
                    State::Size { value: *value << 4 | digit as u64, digits: *digits + 1 }
                }
                b'\r' if *digits > 0 => State::SizeEnd { value: *value },
                b';' if *digits > 0 => return Err(BodyRule::ChunkExtension),
                b'\n' if *digits > 0 => return Err(BodyRule::ChunkEnd),
                _ => return Err(BodyRule::ChunkSize),
            },
            State::SizeEnd { value } => match (byte, *value) {
                (b'\n', 0) => State::Trailer(Box::default()),
                (b'\n', size) => {
                    self.chunks.add(size);
                    State::Data(size)
                }
                _ => return Err(BodyRule::ChunkEnd),
            },
            State::DataCr => match byte {
                b'\r' => State::DataLf,
                _ => return Err(BodyRule::ChunkEnd),
            },
            State::DataLf => match byte {
                b'\n' => State::Size { value: 0, digits: 0 },
                _ => return Err(BodyRule::ChunkEnd),
            },
            State::Trailer(trailer) => match trailer.take(byte, self.trailers)? {
                true => State::Done,
                false => return Ok(()),
            },
            State::Length(_)
            | State::UntilClose
            | State::Data(_)
            | State::Done
            | State::Broken(_) => unreachable!("handled by step"),
        };
        Ok(())
    }

    /// The connection has ended. In order only when that is how the body ends, or it was over.
    pub fn at_close(&mut self) -> Result<(), BodyFault> {
        match &self.state {
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Done => Ok(()),
            State::Broken(fault) => Err(*fault),
            _ => {
                let fault = BodyFault { rule: BodyRule::Truncated, at: self.position };
                self.state = State::Broken(fault);
                Err(fault)
            }
        }
    }
}

impl Trailer {
    /// One byte of the trailer section; true when it was the last.
    fn take(&mut self, byte: u8, allowed: bool) -> Result<bool, BodyRule> {
        self.bytes += 1;
        if self.bytes > TRAILER_BYTES_MAX {
            return Err(BodyRule::TrailerTooLong);
        }
        match (self.line.as_slice(), byte) {
            ([b'\r'], b'\n') => return Ok(true),
            ([b'\r'], _) => return Err(BodyRule::TrailerForm),
            ([], b'\r') => {}
            ([], _) if !allowed => return Err(BodyRule::Trailer),
            ([.., b'\r'], b'\n') => {
                judge_trailer(&self.line[..self.line.len() - 1])?;
                self.line.clear();
                return Ok(false);
            }
            ([.., b'\r'], _) => return Err(BodyRule::TrailerForm),
            (_, b'\r' | b'\t') => {}
            (_, 0..=0x1f | 0x7f) => return Err(BodyRule::TrailerForm),
            _ => {}
        }
        self.line.push(byte);
        Ok(false)
    }
}

fn judge_trailer(line: &[u8]) -> Result<(), BodyRule> {
    let colon = memchr::memchr(b':', line).ok_or(BodyRule::TrailerForm)?;
    let name = &line[..colon];
    if name.is_empty() || !name.iter().all(|&byte| is_token_byte(byte)) {
        return Err(BodyRule::TrailerForm);
    }
    // RFC 9110 §6.5.1: what must be known before the content is read has no place after it. The
    // known names are a superset of that.
    match Name::of(name) {
        Some(_) => Err(BodyRule::TrailerField),
        None => Ok(()),
    }
}

/// Ends a chunk.
pub const CHUNK_SUFFIX: &[u8] = b"\r\n";

/// Ends a chunked body.
pub const CHUNKS_END: &[u8] = b"0\r\n\r\n";

/// Writes the line before a chunk of `length` bytes, which must not be 0 (that would end the body).
pub fn write_chunk_prefix(out: &mut BytesMut, length: usize) {
    debug_assert!(length > 0, "an empty chunk ends the body");
    let mut digits = [0; 16];
    let mut at = digits.len();
    let mut left = length;
    while left > 0 {
        at -= 1;
        digits[at] = b"0123456789abcdef"[left & 15];
        left >>= 4;
    }
    out.put_slice(&digits[at..]);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
