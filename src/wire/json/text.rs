//! Strings of a JSON text: where they stand, and what they say after unescaping.

use std::borrow::Cow;

use super::{JsonFault, JsonRule};
use crate::types::Span;

/// A string of a message that passed the strict reading: its raw bytes between the quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text {
    /// Between the quotes, escapes as they came.
    pub span: Span,
    /// Whether the raw bytes hold a backslash.
    pub escaped: bool,
}

impl Text {
    /// What the string says. Borrowed when nothing is escaped. `message` is the text that was read;
    /// another one panics or gives nonsense.
    pub fn decode<'a>(&self, message: &'a [u8]) -> Cow<'a, str> {
        let raw = self.span.of(message);
        if !self.escaped {
            return Cow::Borrowed(std::str::from_utf8(raw).expect("the message was read as UTF-8"));
        }
        let mut out = Vec::with_capacity(raw.len());
        unescape(raw, &mut out);
        Cow::Owned(String::from_utf8(out).expect("no escape stands for half a character"))
    }

    /// Whether the string says exactly `word`, byte for byte after unescaping.
    pub fn is(&self, message: &[u8], word: &str) -> bool {
        match self.escaped {
            false => self.span.of(message) == word.as_bytes(),
            true => self.decode(message) == word,
        }
    }

    /// The string with its quotes.
    pub fn quoted(&self) -> Span {
        Span { start: self.span.start - 1, len: self.span.len + 2 }
    }
}

/// Checks the escape whose backslash is at `at`; returns the byte after it (after both halves of a
/// surrogate pair).
pub(super) fn escape_end(bytes: &[u8], at: usize) -> Result<usize, JsonFault> {
    let fault = |rule, at: usize| Err(JsonFault { rule, at: at as u32 });
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => match unit_at(bytes, at)? {
            // RFC 8259 §8.2: readers replace, keep or refuse lone surrogates; refused here.
            0xdc00..=0xdfff => fault(JsonRule::LoneSurrogate, at),
            0xd800..=0xdbff => {
                let low = at + 6;
                match bytes.get(low..low + 2) {
                    Some(b"\\u") => match unit_at(bytes, low)? {
                        0xdc00..=0xdfff => Ok(low + 6),
                        _ => fault(JsonRule::LoneSurrogate, at),
                    },
                    _ => fault(JsonRule::LoneSurrogate, at),
                }
            }
            _ => Ok(at + 6),
        },
        Some(_) => fault(JsonRule::Escape, at),
        None => fault(JsonRule::Truncated, at + 1),
    }
}

/// The four hexadecimal digits after the `\u` at `at`.
fn unit_at(bytes: &[u8], at: usize) -> Result<u16, JsonFault> {
    (at + 2..at + 6).try_fold(0, |unit: u16, index| {
        let Some(&byte) = bytes.get(index) else {
            return Err(JsonFault { rule: JsonRule::Truncated, at: bytes.len() as u32 });
        };
        match (byte as char).to_digit(16) {
            Some(digit) => Ok(unit << 4 | digit as u16),
            None => Err(JsonFault { rule: JsonRule::Escape, at: at as u32 }),
        }
    })
}

/// Appends what `raw` says; `raw` has passed [`escape_end`] for every backslash in it.
pub(super) fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let (byte, used) = match rest[at + 1] {
            b'b' => (0x08, 2),
            b'f' => (0x0c, 2),
            b'n' => (b'\n', 2),
            b'r' => (b'\r', 2),
            b't' => (b'\t', 2),
            b'u' => {
                let used = unescape_unit(&rest[at..], out);
                rest = &rest[at + used..];
                continue;
            }
            itself => (itself, 2),
        };
        out.push(byte);
        rest = &rest[at + used..];
    }
    out.extend_from_slice(rest);
}

fn unescape_unit(raw: &[u8], out: &mut Vec<u8>) -> usize {
    let unit = |at| unit_at(raw, at).expect("the escape was checked") as u32;
    let (code, used) = match unit(0) {
        high @ 0xd800..=0xdbff => (0x10000 + ((high - 0xd800) << 10) + (unit(6) - 0xdc00), 12),
        code => (code, 6),
    };
    let symbol = char::from_u32(code).expect("the pair was checked");
    out.extend_from_slice(symbol.encode_utf8(&mut [0; 4]).as_bytes());
    used
}
