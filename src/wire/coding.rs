//! Content codings of answers (RFC 9110 §8.4.1): one layer, decoded whole, within bounds that a bomb meets
//! before memory does.
//!
//! What is taken is what every decoder reads alike: exactly one gzip member, one zlib stream or one zstd
//! frame, with nothing in front of it, behind it or left out, and a check sum that agrees. It does not
//! decide whether an answer may be encoded, and it takes the encoded body only when all of it is there:
//! nothing that was decoded is seen before the end of the body was checked.
//!
//! Invariants: the text is at most `answer_bytes_max` long and at most `decode_ratio_max` times as long as
//! what it is decoded from; besides it, a decoder holds at most the window of its format.

use std::fmt;
use std::io::Read;

use bytes::BytesMut;
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use crate::limits::{DECODE_WINDOW_LOG_MAX, Limits, RECEIVE_BYTES};

/// A coding that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// The zlib format of RFC 1950, as RFC 9110 §8.4.1.2 defines it; no bare deflate stream.
    Deflate,
    /// RFC 8878, with the window of RFC 9659.
    Zstd,
}

impl Coding {
    /// All of them.
    pub const ALL: [Coding; 3] = [Coding::Gzip, Coding::Deflate, Coding::Zstd];

    /// Its name in `Content-Encoding` and in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Zstd => "zstd",
        }
    }

    /// The coding that a whole field value names. A list names none: it is more than one layer.
    pub fn of(value: &[u8]) -> Option<Coding> {
        Coding::ALL
            .into_iter()
            .find(|coding| value.eq_ignore_ascii_case(coding.as_str().as_bytes()))
    }
}

/// What is wrong with an encoded body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CodingRule {
    /// It is not of the coding that it is said to be, or its check sum disagrees.
    Corrupt,
    /// It ends before its end.
    Truncated,
    /// Something stands behind its end: another member, another frame, other bytes.
    Trailing,
    /// It becomes longer than `answer_bytes_max`.
    TooLong,
    /// It becomes more than `decode_ratio_max` times as long.
    Ratio,
    /// The payload memory of the process is used up.
    Memory,
}

impl CodingRule {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            CodingRule::Corrupt => "coding-corrupt",
            CodingRule::Truncated => "coding-truncated",
            CodingRule::Trailing => "coding-trailing",
            CodingRule::TooLong => "coding-too-long",
            CodingRule::Ratio => "coding-ratio",
            CodingRule::Memory => "coding-memory",
        }
    }

    /// Where the rule comes from.
    pub fn source(self) -> &'static str {
        match self {
            CodingRule::Corrupt | CodingRule::Truncated | CodingRule::Trailing => "RFC 9110 §8.4.1",
            CodingRule::TooLong => "answer_bytes_max",
            CodingRule::Ratio => "decode_ratio_max",
            CodingRule::Memory => "inflight_bytes_max",
        }
    }
}

/// A broken rule, and how many bytes of the encoded body had been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodingFault {
    /// What was broken.
    pub rule: CodingRule,
    /// Bytes of the encoded body read so far.
    pub at: u64,
}

impl fmt::Display for CodingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} ({})", self.rule.as_str(), self.at, self.rule.source())
    }
}

impl std::error::Error for CodingFault {}

/// The text as it grows, and its bounds.
struct Text<'a> {
    bytes: BytesMut,
    bytes_max: u64,
    ratio_bytes_max: u64,
    reserve: &'a mut dyn FnMut(u64) -> bool,
}

impl Text<'_> {
    fn push(&mut self, more: &[u8]) -> Result<(), CodingRule> {
        let bytes = (self.bytes.len() + more.len()) as u64;
        if bytes > self.bytes_max {
            return Err(CodingRule::TooLong);
        }
        if bytes > self.ratio_bytes_max {
            return Err(CodingRule::Ratio);
        }
        if !(self.reserve)(bytes) {
            return Err(CodingRule::Memory);
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }
}

/// Decodes a whole body. `reserve` is asked before the text grows to so many bytes; when it says no, that
/// is [`CodingRule::Memory`].
///
/// # Errors
/// The body breaks a rule. Nothing of the text is given then.
pub fn decode(
    coding: Coding,
    encoded: &[u8],
    limits: &Limits,
    reserve: &mut dyn FnMut(u64) -> bool,
) -> Result<BytesMut, CodingFault> {
    let text = Text {
        bytes: BytesMut::new(),
        bytes_max: limits.answer_bytes_max,
        ratio_bytes_max: limits.decode_ratio_max.saturating_mul(encoded.len() as u64),
        reserve,
    };
    let outcome = match coding {
        Coding::Gzip => {
            inflate(flate2::bufread::GzDecoder::new(encoded), text, |reader| reader.get_ref().len())
        }
        Coding::Deflate => inflate(flate2::bufread::ZlibDecoder::new(encoded), text, |reader| {
            reader.get_ref().len()
        }),
        Coding::Zstd => unzstd(encoded, text),
    };
    outcome.map_err(|(rule, left)| CodingFault { rule, at: (encoded.len() - left) as u64 })
}

/// Gives the text, or the rule and how many bytes were left to read.
fn inflate<R: Read>(
    mut reader: R,
    mut text: Text<'_>,
    left: impl Fn(&R) -> usize,
) -> Result<BytesMut, (CodingRule, usize)> {
    let mut room = [0; RECEIVE_BYTES];
    loop {
        let read = reader.read(&mut room).map_err(|error| {
            let rule = match error.kind() {
                std::io::ErrorKind::UnexpectedEof => CodingRule::Truncated,
                _ => CodingRule::Corrupt,
            };
            (rule, left(&reader))
        })?;
        match read {
            // The trailer was read and agrees.
            0 if left(&reader) > 0 => return Err((CodingRule::Trailing, left(&reader))),
            0 => return Ok(text.bytes),
            _ => text.push(&room[..read]).map_err(|rule| (rule, left(&reader)))?,
        }
    }
}

/// First bytes of a zstd frame (RFC 8878 §3.1.1); skippable frames have others and hold no text.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

fn unzstd(encoded: &[u8], mut text: Text<'_>) -> Result<BytesMut, (CodingRule, usize)> {
    let whole = encoded.len();
    if !encoded.starts_with(&ZSTD_MAGIC[..whole.min(4)]) {
        return Err((CodingRule::Corrupt, whole));
    }
    let mut decoder = DCtx::create();
    // RFC 9659 §3: at most 8 MiB; the library refuses the frame before it allocates.
    decoder
        .set_parameter(DParameter::WindowLogMax(DECODE_WINDOW_LOG_MAX))
        .expect("a window that the library knows");
    let mut input = InBuffer::around(encoded);
    let mut room = [0; RECEIVE_BYTES];
    loop {
        let mut output = OutBuffer::around(&mut room[..]);
        let before = input.pos();
        let wanted = decoder
            .decompress_stream(&mut output, &mut input)
            .map_err(|_| (CodingRule::Corrupt, whole - before))?;
        let written = output.pos();
        let left = whole - input.pos();
        text.push(&room[..written]).map_err(|rule| (rule, left))?;
        match (wanted, left) {
            // The frame is over, its check sum agreed where it has one.
            (0, 0) => return Ok(text.bytes),
            (0, left) => return Err((CodingRule::Trailing, left)),
            (_, 0) if written == 0 => return Err((CodingRule::Truncated, 0)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
