//! Writing heads: one canonical form, and nothing that could end a line early.

use std::fmt;

use bytes::{BufMut, BytesMut};

use super::Method;
use super::lines::is_token_byte;

/// A field or target that cannot stand in a head: its name is no token, or its value holds a control
/// byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotWritable;

impl fmt::Display for NotWritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a field name that is no token or a value with a control byte cannot be written",
        )
    }
}

impl std::error::Error for NotWritable {}

/// Writes one head: first line, fields in the order given, then [`Writer::end`]. Appends to a buffer;
/// a head that is not ended is the caller's to throw away.
#[derive(Debug)]
#[must_use = "a head needs its end"]
pub struct Writer<'a> {
    out: &'a mut BytesMut,
}

impl<'a> Writer<'a> {
    /// Begins a request. `target` is written as it is; a byte outside visible ASCII is refused.
    pub fn request(
        out: &'a mut BytesMut,
        method: Method,
        target: &[u8],
    ) -> Result<Writer<'a>, NotWritable> {
        if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
            return Err(NotWritable);
        }
        out.put_slice(method.as_str().as_bytes());
        out.put_u8(b' ');
        out.put_slice(target);
        out.put_slice(b" HTTP/1.1\r\n");
        Ok(Writer { out })
    }

    /// Begins a response. `status` has three digits; its last three are written otherwise.
    pub fn response(out: &'a mut BytesMut, status: u16) -> Writer<'a> {
        debug_assert!((100..=599).contains(&status), "status {status}");
        let digit = |place: u16| b'0' + (status / place % 10) as u8;
        out.put_slice(b"HTTP/1.1 ");
        out.put_slice(&[digit(100), digit(10), digit(1), b' ']);
        out.put_slice(reason(status).as_bytes());
        out.put_slice(b"\r\n");
        Writer { out }
    }

    /// Adds a field. Refused, and not written: a name that is no token, a value with a control byte
    /// other than HTAB.
    pub fn field(self, name: &str, value: &[u8]) -> Result<Writer<'a>, NotWritable> {
        let name_good = !name.is_empty() && name.bytes().all(is_token_byte);
        let value_good = value.iter().all(|&byte| (byte >= 0x20 && byte != 0x7f) || byte == b'\t');
        if !name_good || !value_good {
            return Err(NotWritable);
        }
        self.out.put_slice(name.as_bytes());
        self.out.put_slice(b": ");
        self.out.put_slice(value);
        self.out.put_slice(b"\r\n");
        Ok(self)
    }

    /// Adds `Content-Length`.
    pub fn length(self, length: u64) -> Writer<'a> {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut left = length;
        loop {
            at -= 1;
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        self.out.put_slice(b"Content-Length: ");
        self.out.put_slice(&digits[at..]);
        self.out.put_slice(b"\r\n");
        self
    }

    /// Adds `Transfer-Encoding: chunked`.
    pub fn chunked(self) -> Writer<'a> {
        self.out.put_slice(b"Transfer-Encoding: chunked\r\n");
        self
    }

    /// Ends the head.
    pub fn end(self) {
        self.out.put_slice(b"\r\n");
    }
}

/// The usual phrase of a status, empty where there is none (RFC 9112 §4: it carries no meaning).
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
