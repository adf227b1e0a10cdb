//! Strict reading of one small JSON object: a token's header, its claims, a key set, a discovery
//! document.
//!
//! RFC 8725 §2.4 and RFC 7515 §4: two parsers must never see different members, so a member that
//! stands twice at any level is refused, and so is anything after the object. Depth is bounded by
//! serde_json (128), size by the caller.
//!
//! It does not judge what the members mean.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Why the bytes are no such object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnObject;

/// Reads the object that `bytes` holds, and nothing else.
///
/// # Errors
/// Not JSON, not UTF-8, not an object, a member that stands twice, bytes after the object, a number
/// beyond what a 64-bit float holds.
pub fn read(bytes: &[u8]) -> Result<Map<String, Value>, NotAnObject> {
    match serde_json::from_slice::<Strict>(bytes) {
        Ok(Strict(Value::Object(members))) => Ok(members),
        _ => Err(NotAnObject),
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Strict, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value without duplicate members")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            out.push(item);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            if out.contains_key(&key) {
                return Err(A::Error::custom("duplicate member"));
            }
            let Strict(value) = members.next_value()?;
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_as_serde_json_reads_it() {
        let text = br#"{"a":[1,-2,3.5,"x\u0041",null,true,{"b":{}}],"n":18446744073709551615}"#;
        let read = read(text).unwrap();
        assert_eq!(Value::Object(read), serde_json::from_slice::<Value>(text).unwrap());
    }

    // Mutant: without the `contains_key` line the duplicates pass (the last one wins).
    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for text in [
            r#"{"sub":"a","sub":"b"}"#,
            r#"{"sub":"a","s\u0075b":"b"}"#,
            r#"{"a":[{"b":1,"b":1}]}"#,
            r#"{"a":1}{"a":1}"#,
            r#"{"a":1}x"#,
            r#"{"a":1e999}"#,
            r#"{"a":"\ud800"}"#,
            r#"{a:1}"#,
            r#"{"a":1,}"#,
            r#"["a"]"#,
            "null",
            "",
            "\u{feff}{}",
        ] {
            assert_eq!(read(text.as_bytes()), Err(NotAnObject), "{text}");
        }
        assert_eq!(read(b"{\"a\":\"\xff\"}"), Err(NotAnObject));
        assert_eq!(read(&b"[".repeat(100_000)), Err(NotAnObject));
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
        assert_eq!(read(deep.as_bytes()), Err(NotAnObject));
    }
}
