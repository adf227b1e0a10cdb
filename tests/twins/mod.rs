//! Naive twins of the readers of the wire, shared by the property tests and the fuzz targets.
//!
//! A twin is the obvious slow version: it looks at the whole input at once and knows nothing of cuts.

#![allow(dead_code, reason = "each user asks some of the twins")]

use bytes::BytesMut;
use stenograph::wire::sse;

/// An event stream read by `split`: what the standard says, for streams without bad bytes.
pub fn sse_twin(stream: &str) -> Vec<sse::Item> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
    let stream = stream.replace("\r\n", "\n").replace('\r', "\n");
    // What follows the last line end is no line.
    let Some((lines, _)) = stream.rsplit_once('\n') else { return Vec::new() };
    let mut items = Vec::new();
    let mut event = sse::Event::default();
    for line in lines.split('\n') {
        let (field, value) = match line.split_once(':') {
            Some((field, value)) => (field, value.strip_prefix(' ').unwrap_or(value)),
            None => (line, ""),
        };
        match field {
            "" if line.is_empty() => {
                let done = std::mem::take(&mut event);
                if done != sse::Event::default() {
                    items.push(sse::Item::Event(done));
                }
            }
            "" => items.push(sse::Item::Comment),
            // Nothing behind it is told.
            "event" if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => return items,
            "event" => event.name = (!value.is_empty()).then(|| value.as_bytes().to_vec()),
            "id" => event.id = Some(value.as_bytes().to_vec()),
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                event.retry_ms = Some(value.parse().unwrap_or(u64::MAX));
            }
            "data" => {
                let before = event.data.take().map(|data| [&data[..], b"\n"].concat());
                let data = [&before.unwrap_or_default()[..], value.as_bytes()].concat();
                event.data = Some(BytesMut::from(&data[..]));
            }
            _ => {}
        }
    }
    items
}

/// Chunks collected by looking for line ends in the whole body.
pub fn chunk_twin(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut payload = Vec::new();
    loop {
        let end = body.windows(2).position(|pair| pair == b"\r\n")?;
        let digits = std::str::from_utf8(&body[..end]).ok()?;
        if digits.is_empty()
            || digits.len() > 16
            || digits.contains(|c: char| !c.is_ascii_hexdigit())
        {
            return None;
        }
        let size = usize::from_str_radix(digits, 16).ok()?;
        body = &body[end + 2..];
        if size == 0 {
            return body.starts_with(b"\r\n").then_some(payload);
        }
        payload.extend_from_slice(body.get(..size)?);
        body = body[size..].strip_prefix(b"\r\n")?;
    }
}

/// Whether a JSON text has one name twice in one object, found with a tree of pairs.
pub fn has_duplicate(text: &str) -> bool {
    use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
    struct Tree(bool);
    impl<'de> Deserialize<'de> for Tree {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tree, D::Error> {
            deserializer.deserialize_any(Look)
        }
    }
    struct Look;
    impl<'de> Visitor<'de> for Look {
        type Value = Tree;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("JSON")
        }
        fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
            Ok(Tree(false))
        }
        fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
            Ok(Tree(false))
        }
        fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
            Ok(Tree(false))
        }
        fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
            Ok(Tree(false))
        }
        fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
            Ok(Tree(false))
        }
        fn visit_unit<E>(self) -> Result<Tree, E> {
            Ok(Tree(false))
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
            let mut found = false;
            while let Some(Tree(inner)) = seq.next_element()? {
                found |= inner;
            }
            Ok(Tree(found))
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
            let (mut found, mut names) = (false, std::collections::HashSet::new());
            while let Some((name, Tree(inner))) = map.next_entry::<String, Tree>()? {
                found |= inner | !names.insert(name);
            }
            Ok(Tree(found))
        }
    }
    serde_json::from_str::<Tree>(text).is_ok_and(|tree| tree.0)
}

/// A head as `split` sees it: the words of its first line, and its fields. `None` where that shows no
/// such thing.
pub struct PlainHead<'a> {
    pub words: [&'a str; 3],
    pub fields: Vec<(&'a str, &'a str)>,
    /// Bytes up to and with the empty line.
    pub bytes: usize,
}

impl<'a> PlainHead<'a> {
    pub fn read(text: &'a [u8]) -> Option<PlainHead<'a>> {
        // RFC 9112 §2.2: one empty line in front of a request is skipped.
        let skipped = if text.starts_with(b"\r\n") { 2 } else { 0 };
        let length = text[skipped..].windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&text[skipped..skipped + length - 4]).ok()?;
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.splitn(3, ' ');
        let words = [words.next()?, words.next()?, words.next().unwrap_or("")];
        let field = |line: &'a str| {
            let (name, value) = line.split_once(':')?;
            Some((name, value.trim_matches([' ', '\t'])))
        };
        let fields = lines.map(field).collect::<Option<Vec<_>>>()?;
        Some(PlainHead { words, fields, bytes: skipped + length })
    }

    /// All values of a field.
    pub fn values(&self, name: &str) -> Vec<&'a str> {
        let named = self.fields.iter().filter(|(one, _)| one.eq_ignore_ascii_case(name));
        named.map(|(_, value)| *value).collect()
    }
}
