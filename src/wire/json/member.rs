//! One member of a JSON text, found by the names on the way to it.

use super::{Scratch, Text, Visitor, read};
use crate::limits::Limits;
use crate::types::Span;

/// The value of the member that `path` leads to, name by name from the whole text, which is an object;
/// `None` where there is none. Names are compared as decoded. A string is given with its quotes.
///
/// # Panics
/// In debug builds, when `path` is empty.
pub fn member(bytes: &[u8], path: &[&str], limits: &Limits, scratch: &mut Scratch) -> Option<Span> {
    debug_assert!(!path.is_empty());
    let mut search = Search { bytes, path, level: 0, named: false, from: None, found: None };
    read(bytes, limits, scratch, &mut search).ok()?;
    search.found
}

struct Search<'a> {
    bytes: &'a [u8],
    path: &'a [&'a str],
    /// Objects on the path that are open.
    level: usize,
    /// The name that came last is the next one of the path.
    named: bool,
    /// Where the container begins that is looked for, while it is open.
    from: Option<u32>,
    found: Option<Span>,
}

impl Search<'_> {
    /// The next value at `depth` is the one on the path.
    fn is_next(&self, depth: u32) -> bool {
        self.from.is_none() && self.named && depth as usize == self.level
    }

    fn scalar(&mut self, depth: u32, span: Span) {
        if self.is_next(depth) && self.level == self.path.len() {
            self.found = Some(span);
        }
        self.named &= depth as usize != self.level;
    }
}

impl Visitor for Search<'_> {
    fn key(&mut self, depth: u32, text: Text) {
        if self.from.is_none() && depth as usize == self.level {
            self.named = text.is(self.bytes, self.path[self.level - 1]);
        }
    }

    fn string(&mut self, depth: u32, text: Text) {
        self.scalar(depth, text.quoted());
    }

    fn number(&mut self, depth: u32, span: Span) {
        self.scalar(depth, span);
    }

    fn literal(&mut self, depth: u32, span: Span) {
        self.scalar(depth, span);
    }

    fn open(&mut self, depth: u32, object: bool, at: u32) {
        let whole = depth == 0;
        if !whole && !self.is_next(depth) {
            return;
        }
        self.named = false;
        if !whole && self.level == self.path.len() {
            self.from = Some(at);
        } else if object {
            self.level += 1;
        }
    }

    fn close(&mut self, depth: u32, _: bool, at: u32) {
        match self.from {
            Some(start) if depth as usize == self.level => {
                self.found = Some(Span { start, len: at + 1 - start });
                self.from = None;
            }
            Some(_) => {}
            None if depth as usize + 1 == self.level => self.level -= 1,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(text: &'a str, path: &[&str]) -> Option<&'a str> {
        let span = member(text.as_bytes(), path, &Limits::default(), &mut Scratch::new())?;
        Some(std::str::from_utf8(span.of(text.as_bytes())).unwrap())
    }

    #[test]
    fn a_member_is_found_by_the_names_on_the_way() {
        let text = r#"{"b":{"c":{"x":9}},"a":[{"b":{"c":0}}],"a2":{"b":1},"r":{"a":{"b":5},"b":{"c":[1,{"b":2}]},"d":"b","e":{"c":7}}}"#;
        assert_eq!(found(text, &["r", "b", "c"]), Some(r#"[1,{"b":2}]"#));
        assert_eq!(found(text, &["r", "b"]), Some(r#"{"c":[1,{"b":2}]}"#));
        assert_eq!(found(text, &["r", "d"]), Some(r#""b""#));
        assert_eq!(found(text, &["r", "a", "b"]), Some("5"));
        assert_eq!(found(text, &["r", "d", "b"]), None);
        assert_eq!(found(text, &["a", "b", "c"]), None, "a list is no object");
        assert_eq!(found(text, &["c"]), None);
        assert_eq!(found(r#"{"\u0062":null}"#, &["b"]), Some("null"));
        assert_eq!(found(r#"[{"b":1}]"#, &["b"]), None);
        assert_eq!(found(r#"{"a":[{"b":1}],"b":[]}"#, &["b"]), Some("[]"));
    }
}
