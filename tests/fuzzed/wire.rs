//! The readers of the wire: any cut gives the same, and the naive twins read what is accepted alike.

use stenograph::limits::Limits;
use stenograph::wire::head::{Fields, Framing, Method, Read, read_request, read_response};
use stenograph::wire::json::{self as strict, JsonRule, Scratch, Unwatched};
use stenograph::wire::{check, sse as events};

use super::parts;
use super::twins::{PlainHead, chunk_twin, has_duplicate, sse_twin};

/// Heads of requests and answers. Mutant: a field that may stand once may stand twice.
pub fn head(input: &[u8]) {
    let (data, _) = parts(input);
    check::head(data);
    let limits = &Limits::default();
    let mut fields = Fields::new();
    if let Read::Done { value, used } = read_request(data, limits, &mut fields)
        && let Some(plain) = same_fields(data, used, &fields)
    {
        assert_eq!(plain.words[0], value.method.as_str());
        let target = [Some(value.path), value.query].into_iter().flatten();
        let target: Vec<_> = target.map(|span| span.of(data)).collect();
        assert_eq!(plain.words[1].as_bytes(), target.join(&b'?'));
        assert_eq!(plain.words[2], "HTTP/1.1");
        assert_eq!(plain.values("host").len(), 1, "two readers may take two hosts");
        assert_eq!(framing(&plain).unwrap_or(Framing::Empty), value.framing);
    }
    let answer = read_response(data, limits, Method::Post, &mut fields);
    if let Read::Done { value, used } = answer
        && let Some(plain) = same_fields(data, used, &fields)
    {
        assert_eq!((plain.words[0], plain.words[1]), ("HTTP/1.1", &*value.status.to_string()));
        if value.status >= 200 && value.status != 204 && value.status != 304 {
            assert_eq!(framing(&plain).unwrap_or(Framing::UntilClose), value.framing);
        }
    }
}

/// What the twin reads of an accepted head: the same fields. `None` when it is no text.
fn same_fields<'a>(data: &'a [u8], used: usize, fields: &Fields) -> Option<PlainHead<'a>> {
    let text = std::str::from_utf8(&data[..used]).ok()?;
    let plain = PlainHead::read(text.as_bytes()).expect("what is accepted can be split");
    assert_eq!(plain.bytes, used);
    let ours: Vec<_> = fields.iter(data).map(|field| (field.name, field.value)).collect();
    let theirs: Vec<_> =
        plain.fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    assert_eq!(ours, theirs);
    Some(plain)
}

/// The framing that a reader sees who takes the first field he finds and asks no further.
fn framing(plain: &PlainHead<'_>) -> Option<Framing> {
    let (lengths, codings) = (plain.values("content-length"), plain.values("transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1, "two readers may take two framings");
    if let [coding] = codings[..] {
        assert!(coding.eq_ignore_ascii_case("chunked"));
        return Some(Framing::Chunked);
    }
    lengths.first().map(|length| Framing::Length(length.parse().expect("digits")))
}

/// Bodies. The first byte chooses the framing. Mutant: a chunk line without a digit.
pub fn body(input: &[u8]) {
    let (data, sizes) = parts(input);
    check::body(data, &sizes);
    if let Some((2, chunks)) = data.split_first() {
        check::chunks(chunks, chunk_twin(chunks));
    }
}

/// Event streams. Mutant: a line feed behind a carriage return ends another line.
pub fn sse(input: &[u8]) {
    let (data, sizes) = parts(input);
    check::events(data, &sizes);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (mut reader, mut items, mut rest) = (events::Reader::new(), Vec::new(), data);
    while !rest.is_empty() {
        let Ok((used, item)) = reader.read(rest, &Limits::default()) else { return };
        items.extend(item);
        rest = &rest[used..];
    }
    assert_eq!(items, sse_twin(text));
}

/// JSON texts. Mutant: no check of names up to sixteen.
pub fn json(input: &[u8]) {
    let (input, _) = parts(input);
    check::json(input);
    let read = strict::read(input, &Limits::default(), &mut Scratch::new(), &mut Unwatched);
    let Ok(text) = std::str::from_utf8(input) else { return };
    match read {
        Ok(()) => assert!(!has_duplicate(text), "one name twice"),
        Err(fault) if fault.rule == JsonRule::DuplicateKey => {
            // What comes first in the text is told, so compare only where nothing else is wrong.
            let fine = serde_json::from_str::<serde_json::Value>(text).is_ok();
            assert!(!fine || has_duplicate(text), "no name twice");
        }
        Err(_) => {}
    }
}

/// JSON-RPC messages. Mutant: as for JSON.
pub fn mcp(input: &[u8]) {
    check::message(parts(input).0);
}
