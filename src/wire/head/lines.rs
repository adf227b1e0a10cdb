//! Finding the end of a head, and with it everything that is wrong byte by byte.
//!
//! One walk from left to right that can stop and go on at any byte. It reports the first offence in
//! reading order, so that the answer does not depend on how the bytes arrived, and it reports garbage
//! at once instead of waiting for an empty line that may never come.
//!
//! Afterwards every line of the head ends in CRLF, no other control byte but HTAB stands in it, no
//! line continues another, and a request begins with a token and a space (a response with `HTTP/`).

use super::fields::PLACES_MAX;
use super::{HeadFault, HeadRule};
use crate::limits::Limits;
use crate::wire::seek;

/// Longest method that is looked at; the registered ones have at most 17 bytes.
const METHOD_BYTES_MAX: usize = 32;

/// How far the walk has come. `line <= at`. In 32 bits, as the places of a head are: every connection that
/// waits has one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lines {
    /// Everything before this byte is in order.
    at: u32,
    /// Start of the line that `at` is in.
    line: u32,
    /// Ends of the first line and of the head so far.
    first_end: u32,
    /// Lines ended so far.
    ended: u32,
}

/// Where the parts of a complete head stand: `start..line_end` is the first line, `..end` all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) start: usize,
    pub(super) line_end: usize,
    pub(super) end: usize,
}

/// RFC 9110 §5.6.2, tchar.
pub(in crate::wire) fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z'
        | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.'
        | b'^' | b'_' | b'`' | b'|' | b'~')
}

impl Lines {
    /// Goes on. `None`: not ended yet.
    pub(super) fn walk(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        request: bool,
    ) -> Result<Option<Extent>, HeadFault> {
        let fault = |rule, at: usize| Err(HeadFault { rule, at: at as u32 });
        let bytes_max = (limits.head_bytes_max as usize).min(PLACES_MAX);
        let window = &bytes[..bytes.len().min(bytes_max)];
        if self.at as usize > window.len() {
            // The caller threw bytes away without saying so; begin again rather than skip a check.
            *self = Lines::default();
        }
        // RFC 9112 §2.2: one empty line before a request is ignored; old clients sent it after a body.
        let start = match window {
            b"\r" if request => return Ok(None),
            [b'\r', b'\n', ..] if request => 2,
            _ => 0,
        };
        let first = if request { method_end(&window[start..]) } else { protocol_end(window) };
        if let Err(at) = first {
            let rule = if request { HeadRule::RequestLine } else { HeadRule::StatusLine };
            return fault(rule, start + at);
        }
        let (mut at, mut line) = (start.max(self.at as usize), start.max(self.line as usize));
        loop {
            if self.ended > 0
                && at == line
                && let Some(b' ' | b'\t') = window.get(at)
            {
                return fault(HeadRule::ObsFold, at);
            }
            at = seek::control(window, at);
            match (window.get(at), window.get(at + 1)) {
                (Some(b'\t'), _) => at += 1,
                (Some(b'\r'), Some(b'\n')) => {
                    if self.ended == 0 {
                        self.first_end = at as u32;
                    } else if at == line {
                        let (line_end, end) = (self.first_end as usize, at + 2);
                        return Ok(Some(Extent { start, line_end, end }));
                    }
                    self.ended += 1;
                    at += 2;
                    line = at;
                }
                (None, _) | (Some(b'\r'), None) => {
                    (self.at, self.line) = (at as u32, line as u32);
                    return match bytes.len() >= bytes_max {
                        true => fault(HeadRule::TooLong, bytes_max),
                        false => Ok(None),
                    };
                }
                (Some(b'\r'), _) => return fault(HeadRule::BareCr, at),
                (Some(b'\n'), _) => return fault(HeadRule::BareLf, at),
                (Some(_), _) => return fault(HeadRule::ControlByte, at),
            }
        }
    }
}

/// A token and a space, as far as it is there; the offset of what is neither.
fn method_end(line: &[u8]) -> Result<(), usize> {
    let token = line.iter().take(METHOD_BYTES_MAX).take_while(|byte| is_token_byte(**byte)).count();
    match line.get(token) {
        None => Ok(()),
        Some(b' ') if token > 0 => Ok(()),
        Some(_) => Err(token),
    }
}

fn protocol_end(line: &[u8]) -> Result<(), usize> {
    let same = line.iter().zip(b"HTTP/").take_while(|(a, b)| a == b).count();
    if same == line.len().min(5) { Ok(()) } else { Err(same) }
}
