//! Heads that the gateway writes itself: requests to the upstream, answers to the client.
//!
//! Both are written anew from an allow-list of fields; nothing a peer sent is copied unless its name
//! is on the list. The reason phrase is ours.

use bytes::{Bytes, BytesMut};

use super::fault::{Disposition, Fault};
use crate::types::ExchangeId;
use crate::wire::head::{self, Method, Name};
use crate::wire::sse;

/// Field that carries the exchange id.
pub const EXCHANGE_FIELD: &str = "Stenograph-Exchange";

/// Fields of a client's request that go on to the upstream unchanged, after their values are scanned.
/// What frames, authenticates or routes is written by the gateway itself.
pub fn forwarded(name: Name) -> bool {
    matches!(
        name,
        Name::Accept
            | Name::AcceptLanguage
            | Name::UserAgent
            | Name::McpProtocolVersion
            | Name::McpMethod
            | Name::McpName
            | Name::Traceparent
            | Name::Tracestate
    )
}

/// A head under construction.
pub struct HeadText(BytesMut);

impl HeadText {
    /// A request line.
    pub fn request(method: Method, target: &str, query: Option<&[u8]>) -> HeadText {
        let mut out = BytesMut::with_capacity(512);
        out.extend_from_slice(method.as_str().as_bytes());
        out.extend_from_slice(b" ");
        out.extend_from_slice(target.as_bytes());
        if let Some(query) = query {
            out.extend_from_slice(b"?");
            out.extend_from_slice(query);
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        HeadText(out)
    }

    /// A status line with the exchange id behind it.
    pub fn answer(status: u16, exchange: ExchangeId) -> HeadText {
        let mut out = BytesMut::with_capacity(256);
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(itoa(u64::from(status), &mut [0; 20]));
        out.extend_from_slice(b" ");
        out.extend_from_slice(head::reason(status).as_bytes());
        out.extend_from_slice(b"\r\n");
        let mut head = HeadText(out);
        head.field(EXCHANGE_FIELD, &exchange.text());
        head
    }

    /// One field. The value comes from our own texts or from a head that the strict reader accepted,
    /// which excludes CR, LF and NUL; the assertion keeps it so.
    pub fn field(&mut self, name: &str, value: &[u8]) {
        self.field_bytes(name.as_bytes(), value);
    }

    /// The same with a name that came in.
    pub fn field_bytes(&mut self, name: &[u8], value: &[u8]) {
        assert!(
            memchr::memchr3(b'\r', b'\n', 0, value).is_none()
                && memchr::memchr3(b'\r', b'\n', b':', name).is_none(),
            "a field that would break the head"
        );
        self.0.extend_from_slice(name);
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }

    /// `Content-Length`.
    pub fn length(&mut self, bytes: usize) {
        self.field("Content-Length", itoa(bytes as u64, &mut [0; 20]));
    }

    /// Where the next field's value will stand, given its name: for values that the recorded copy
    /// fills.
    pub fn next_value_at(&self, name: &str) -> usize {
        self.0.len() + name.len() + 2
    }

    /// The empty line.
    pub fn end(mut self) -> BytesMut {
        self.0.extend_from_slice(b"\r\n");
        self.0
    }
}

/// Decimal digits of `value`, written into `digits`.
pub fn itoa(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &digits[at..];
        }
    }
}

/// The JSON-RPC error (JSON-RPC 2.0 §5.1) that tells a fault, with the exchange id in `data`.
/// `id` is the raw JSON text of the call's id.
pub fn fault_error(id: Option<&[u8]>, fault: Fault, exchange: ExchangeId) -> Bytes {
    rpc_error(id, fault.disposition().code, &fault.message(), &fault.data(), exchange)
}

/// `data`: further members of the error's `data`, each with a comma in front.
fn rpc_error(
    id: Option<&[u8]>,
    code: i32,
    message: &str,
    data: &str,
    exchange: ExchangeId,
) -> Bytes {
    let mut out = Vec::with_capacity(192 + message.len());
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    // It may go out as an event: one line for every reader.
    let escaped = id.and_then(sse::escape_line_ends);
    out.extend_from_slice(escaped.as_deref().or(id).unwrap_or(b"null"));
    out.extend_from_slice(b",\"error\":{\"code\":");
    if code < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(itoa(u64::from(code.unsigned_abs()), &mut [0; 20]));
    out.extend_from_slice(b",\"message\":");
    serde_json::to_writer(&mut out, message).expect("writing to memory does not fail");
    out.extend_from_slice(b",\"data\":{\"exchange\":\"");
    out.extend_from_slice(&exchange.text());
    out.push(b'"');
    out.extend_from_slice(data.as_bytes());
    out.extend_from_slice(b"}}}");
    Bytes::from(out)
}

/// How an answer of the gateway itself is shaped.
pub struct OwnAnswer<'a> {
    /// Status.
    pub status: u16,
    /// Media type and body; `None` sends `Content-Length: 0`.
    pub body: Option<(&'static str, Bytes)>,
    /// Close the connection after it.
    pub close: bool,
    /// Further fields.
    pub fields: &'a [(&'static str, &'a [u8])],
}

/// Head and body of an answer of the gateway itself.
pub fn own_answer(exchange: ExchangeId, answer: &OwnAnswer<'_>) -> (Bytes, Bytes) {
    let mut head = HeadText::answer(answer.status, exchange);
    let body = match &answer.body {
        Some((media, body)) => {
            head.field("Content-Type", media.as_bytes());
            body.clone()
        }
        None => Bytes::new(),
    };
    if answer.status != 204 {
        head.length(body.len());
    }
    for (name, value) in answer.fields {
        head.field(name, value);
    }
    if answer.close {
        head.field("Connection", b"close");
    }
    (head.end().freeze(), body)
}

/// The fields that a disposition adds.
pub fn retry_after(disposition: &Disposition) -> Option<String> {
    disposition.retry_after_s.map(|seconds| seconds.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_error_is_json_whatever_the_message_holds() {
        let id = ExchangeId::new(1, 2, 3, 4);
        let body = rpc_error(Some(b"\"a\""), -31001, "no \"grant\"\n", "", id);
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(value["id"], "a");
        assert_eq!(value["error"]["code"], -31001);
        assert_eq!(value["error"]["message"], "no \"grant\"\n");
        assert_eq!(value["error"]["data"]["exchange"], id.to_string());
    }

    #[test]
    #[should_panic(expected = "break the head")]
    fn a_line_feed_in_a_value_never_leaves() {
        HeadText::answer(200, ExchangeId::default()).field("X", b"a\r\nb: c");
    }
}
