//! What must hold for every input, as functions that panic when it does not: called by the fuzz
//! targets and by `tests/wire_twins.rs`.
//!
//! Each takes raw bytes. They are slow on purpose (every cut, second opinions from other parsers) and
//! no part of the gateway's work.

use bytes::BytesMut;

use super::body::{BodyFault, Decoder, Step};
use super::head::{
    Field, Fields, Framing, HeadFault, Method, Read, Writer, read_request, read_response,
};
use super::json::{self, JsonRule, Unwatched};
use super::mcp::{self, Class, Place};
use super::sse::{self, Item, SseFault};
use crate::limits::Limits;
use crate::types::{Direction, Span};

/// The bytes in pieces of these sizes, one after the other; what is left is the last piece.
fn pieces<'a>(data: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let (mut pieces, mut rest) = (Vec::new(), data);
    for size in sizes {
        let (piece, behind) = rest.split_at((*size).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// Cuts that are tried in an input of `len` bytes: all of a short one, a spread of a long one.
fn cuts(len: usize) -> impl Iterator<Item = usize> {
    (0..=len).step_by(1 + len / 400)
}

/// Heads: every cut gives the same answer, and what is accepted survives being written anew.
pub fn head(data: &[u8]) {
    let limits = &Limits::default();
    let request = |bytes: &[u8], fields: &mut Fields| read_request(bytes, limits, fields);
    let response =
        |bytes: &[u8], fields: &mut Fields| read_response(bytes, limits, Method::Post, fields);
    head_cuts(data, request);
    head_cuts(data, response);
    let mut fields = Fields::new();
    let Read::Done { value, used } = request(data, &mut fields) else { return };
    let mut out = BytesMut::new();
    let target = Span::new(value.path.start as usize, value.query.unwrap_or(value.path).end());
    let mut writer = Writer::request(&mut out, value.method, target.of(data)).expect("judged");
    for Field { name, value, .. } in fields.iter(data) {
        let name = std::str::from_utf8(name).expect("a token");
        writer = writer.field(name, value).expect("judged");
    }
    writer.end();
    let mut again = Fields::new();
    // Why other bounds: the canonical form may be longer by a space in every field.
    let wide = &Limits { head_bytes_max: 2 * limits.head_bytes_max, ..limits.clone() };
    let Read::Done { value: copy, used: all } = read_request(&out, wide, &mut again) else {
        panic!("what was read and written is read again")
    };
    assert_eq!(all, out.len());
    assert_eq!((copy.method, copy.framing), (value.method, value.framing));
    assert_eq!((copy.keep_alive, copy.expect_continue), (value.keep_alive, value.expect_continue));
    let same = fields.iter(data).zip(again.iter(&out));
    assert!(fields.len() == again.len() && used <= data.len());
    assert!({ same }.all(|(a, b)| (a.name, a.value, a.known) == (b.name, b.value, b.known)));
}

fn head_cuts<T: PartialEq + std::fmt::Debug>(
    data: &[u8],
    read: impl Fn(&[u8], &mut Fields) -> Read<T, HeadFault>,
) {
    let whole = read(data, &mut Fields::new());
    let mut fields = Fields::new();
    for cut in cuts(data.len()) {
        match read(&data[..cut], &mut fields) {
            Read::More => {}
            early => {
                assert_eq!(early, whole, "cut at {cut}");
                return;
            }
        }
    }
    assert_eq!(read(data, &mut fields), whole);
}

/// Bodies: every size of pieces, and pieces of these `sizes`, give the same payload, end and fault.
pub fn body(data: &[u8], sizes: &[usize]) {
    let Some((&kind, data)) = data.split_first() else { return };
    let framing = match kind % 4 {
        0 => Framing::Length(kind as u64 / 4),
        1 => Framing::UntilClose,
        _ => Framing::Chunked,
    };
    for make in [Decoder::new, Decoder::of_response] {
        let whole = body_by(make(framing), pieces(data, &[]));
        for size in [1, 2, 3, 7] {
            let cut = data.chunks(size).collect();
            assert_eq!(body_by(make(framing), cut), whole, "pieces of {size}");
        }
        assert_eq!(body_by(make(framing), pieces(data, sizes)), whole, "pieces of {sizes:?}");
    }
}

type Payload = (Vec<u8>, usize, Result<bool, BodyFault>);

/// Chunked bodies: the payload of a request is what another reader gave for it, `None` where it takes
/// the body for broken or not whole.
pub fn chunks(data: &[u8], other: Option<Vec<u8>>) {
    let (payload, _, end) = body_by(Decoder::new(Framing::Chunked), pieces(data, &[]));
    assert_eq!((end == Ok(true)).then_some(payload), other);
}

fn body_by(mut decoder: Decoder, pieces: Vec<&[u8]>) -> Payload {
    let (mut payload, mut at) = (Vec::new(), 0);
    for mut piece in pieces {
        while !piece.is_empty() {
            let used = match decoder.step(piece) {
                Ok(Step::Data(span)) => {
                    assert!(span.len > 0, "progress");
                    payload.extend_from_slice(span.of(piece));
                    span.end()
                }
                Ok(Step::Skip(used)) => {
                    assert!(used > 0, "progress");
                    used
                }
                Ok(Step::More) => panic!("there was input"),
                Ok(Step::End { used }) => {
                    assert!(decoder.is_done());
                    return (payload, at + used, Ok(true));
                }
                Err(fault) => {
                    assert_eq!((decoder.step(piece), decoder.at_close()), (Err(fault), Err(fault)));
                    return (payload, 0, Err(fault));
                }
            };
            at += used;
            piece = &piece[used..];
            assert_eq!(decoder.position(), at as u64);
        }
    }
    (payload, at, Ok(decoder.is_done()))
}

/// Event streams: every size of pieces, and pieces of these `sizes`, give the same items, and what is
/// written from them reads the same.
pub fn events(data: &[u8], sizes: &[usize]) {
    let limits = &Limits { event_bytes_max: 1024, event_id_bytes_max: 64, ..Limits::default() };
    let whole = events_by(pieces(data, &[]), limits);
    for size in [1, 2, 3, 7] {
        assert_eq!(events_by(data.chunks(size).collect(), limits), whole, "pieces of {size}");
    }
    assert_eq!(events_by(pieces(data, sizes), limits), whole, "pieces of {sizes:?}");
    let mut out = BytesMut::new();
    for item in &whole.0 {
        match item {
            Item::Comment => out.extend_from_slice(sse::COMMENT),
            Item::Event(event) => {
                let (name, id) = (event.name.as_deref(), event.id.as_deref());
                sse::write_event(&mut out, name, id, event.retry_ms, event.data.as_deref());
            }
        }
    }
    // Why other bounds: `data: ` may be longer than what the line began with.
    let wide = &Limits { event_id_bytes_max: 1 << 20, ..limits.clone() };
    assert_eq!(events_by(out.chunks(5).collect(), wide), (whole.0, Ok(0)));
}

type Items = (Vec<Item>, Result<usize, SseFault>);

fn events_by(pieces: Vec<&[u8]>, limits: &Limits) -> Items {
    let (mut reader, mut items) = (sse::Reader::new(), Vec::new());
    for piece in pieces {
        let mut at = 0;
        while at < piece.len() {
            match reader.read(&piece[at..], limits) {
                Ok((used, item)) => {
                    assert!(used > 0 && (item.is_some() || at + used == piece.len()));
                    at += used;
                    items.extend(item);
                }
                Err(fault) => return (items, Err(fault)),
            }
        }
        assert!(reader.unterminated_bytes() as u64 <= sse::block_bytes_max(limits));
    }
    (items, Ok(reader.unterminated_bytes()))
}

/// JSON: agrees with serde_json on what is valid, but for what is refused by policy.
pub fn json(data: &[u8]) {
    let ours = json::read(data, &Limits::default(), &mut json::Scratch::new(), &mut Unwatched);
    // Why `IgnoredAny`: a `Value` refuses numbers beyond a float, which the grammar allows.
    let theirs = match std::str::from_utf8(data) {
        Ok(text) => serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok(),
        Err(_) => false,
    };
    match ours {
        Ok(()) => assert!(theirs, "accepted here only"),
        Err(fault) => {
            assert!(fault.at as usize <= data.len());
            let policy = fault.rule.is_well_formed() || fault.rule == JsonRule::LoneSurrogate;
            assert!(policy || !theirs, "refused here only: {fault}");
        }
    }
}

/// The envelope: what is accepted says the same to serde_json, whoever sent it, and every string has
/// a place.
pub fn message(data: &[u8]) {
    let limits = &Limits::default();
    for from in [Direction::Request, Direction::Response] {
        let mut scratch = json::Scratch::new();
        let message = match mcp::read(data, from, limits, &mut scratch) {
            Ok(message) => message,
            Err(fault) => {
                assert!(fault.at as usize <= data.len());
                continue;
            }
        };
        let mut places = Vec::new();
        mcp::places(data, usize::MAX, &mut places).expect("it was read");
        if let Some(id) = message.id {
            let inner = if id.number {
                id.span
            } else {
                Span::new(id.span.start as usize + 1, id.span.end() - 1)
            };
            assert!(places.contains(&(inner, Place::Protected)));
        }
        for target in &message.targets {
            assert!(places.contains(&(target.text.span, Place::Protected)));
        }
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) else {
            // A number beyond a float: no tree to compare with.
            continue;
        };
        let says = |pointer: &str| value.pointer(pointer).and_then(|value| value.as_str());
        match message.class {
            Class::Request | Class::Notification => {
                assert_eq!(says("/method"), Some(message.method_name(data).as_ref()));
                assert_eq!(value.get("id").is_some(), message.id.is_some());
            }
            Class::Answer => assert!(value["result"].is_object() && value.get("method").is_none()),
            Class::Error => assert!(value["error"].is_object() && value.get("method").is_none()),
        }
        if let Some(id) = message.id {
            let decoded = id.decode(data);
            match id.number {
                true => assert_eq!(value["id"].to_string(), decoded),
                false => assert_eq!(says("/id"), Some(decoded.as_ref())),
            }
        }
        if let (Some(known), [target]) = (message.known, message.targets.as_slice()) {
            let decoded = target.text.decode(data);
            match known.target {
                mcp::TargetRule::Name(_) => assert_eq!(says("/params/name"), Some(&*decoded)),
                mcp::TargetRule::Uri => assert_eq!(says("/params/uri"), Some(&*decoded)),
                mcp::TargetRule::TaskId => assert_eq!(says("/params/taskId"), Some(&*decoded)),
                _ => {}
            }
        }
        for list in &message.lists {
            let array: serde_json::Value =
                serde_json::from_slice(list.array.of(data)).expect("an array");
            assert_eq!(array.as_array().map(Vec::len), Some(list.items.len()));
            for item in &list.items {
                serde_json::from_slice::<serde_json::Value>(item.span.of(data)).expect("a value");
            }
        }
    }
}
