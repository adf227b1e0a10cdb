//! A text in stored bytes: as it is, written with JSON escapes (also in JSON inside JSON), or inside
//! base64 at any of its three alignments.
//!
//! `Gap:` other encodings (hex, URL escapes, compression, splitting over two events) are not searched.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem;

/// Levels of JSON text inside JSON text that are undone.
const LEVELS_MAX: usize = 4;
/// Shortest text that is also looked for in base64: shorter ones turn up by chance.
const ENCODED_BYTES_MIN: usize = 6;

/// What to look for.
#[derive(Debug)]
pub struct Needle {
    plain: memmem::Finder<'static>,
    encoded: Vec<memmem::Finder<'static>>,
}

impl Needle {
    /// Looks for `text`; an empty one is found nowhere.
    pub fn new(text: &[u8]) -> Needle {
        let mut encoded: Vec<String> = Vec::new();
        if text.len() >= ENCODED_BYTES_MIN {
            for shift in 0..3 {
                let mut shifted = vec![0; shift];
                shifted.extend_from_slice(text);
                // Characters that depend on bytes before or behind the text are left out.
                let skip = [0, 2, 3][shift];
                let keep = shifted.len() * 8 / 6;
                for full in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
                    let piece = full[skip..keep].to_owned();
                    if !encoded.contains(&piece) {
                        encoded.push(piece);
                    }
                }
            }
        }
        Needle {
            plain: memmem::Finder::new(text).into_owned(),
            encoded: encoded
                .iter()
                .map(|piece| memmem::Finder::new(piece.as_bytes()).into_owned())
                .collect(),
        }
    }

    /// True when the text stands in `bytes`.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        if self.plain.needle().is_empty() {
            return false;
        }
        let mut level: Cow<'_, [u8]> = Cow::Borrowed(bytes);
        for _ in 0..=LEVELS_MAX {
            let found = |finder: &memmem::Finder<'_>| finder.find(&level).is_some();
            if found(&self.plain) || self.encoded.iter().any(found) {
                return true;
            }
            match unescape(&level) {
                Some(next) => level = Cow::Owned(next),
                None => return false,
            }
        }
        false
    }
}

/// Undoes JSON escapes (RFC 8259 §7) wherever they stand; `None` when there is none. What is no escape
/// stays as it is.
pub fn unescape(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut at = memchr::memchr(b'\\', bytes)?;
    let mut out = Vec::with_capacity(bytes.len());
    let mut from = 0;
    let mut changed = false;
    loop {
        out.extend_from_slice(&bytes[from..at]);
        let (value, used) = escape_at(&bytes[at..]);
        changed |= value.is_some();
        match value {
            Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            None => out.extend_from_slice(&bytes[at..at + used]),
        }
        from = at + used;
        match memchr::memchr(b'\\', &bytes[from..]) {
            Some(next) => at = from + next,
            None => break,
        }
    }
    out.extend_from_slice(&bytes[from..]);
    changed.then_some(out)
}

/// The character of the escape at the front of `bytes`, and its length.
fn escape_at(bytes: &[u8]) -> (Option<char>, usize) {
    let simple = match bytes.get(1) {
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode_at(bytes),
        _ => return (None, 1),
    };
    (Some(simple), 2)
}

fn unicode_at(bytes: &[u8]) -> (Option<char>, usize) {
    let unit = |at: usize| -> Option<u32> {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |value, &digit| Some(value * 16 + (digit as char).to_digit(16)?))
    };
    let Some(high) = unit(0) else { return (None, 1) };
    if let Some(c) = char::from_u32(high) {
        return (Some(c), 6);
    }
    match unit(6) {
        Some(low) if high < 0xdc00 && (0xdc00..0xe000).contains(&low) => {
            let c = char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
            (c, 12)
        }
        _ => (None, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    // Mutants: keeping the last base64 character of a shifted text; fewer levels of escapes undone.
    #[test]
    fn finds_every_form() {
        let secret = "pa\"ss\\wörd/🙂 \n end";
        let needle = Needle::new(secret.as_bytes());
        let quote = |text: &String| serde_json::to_string(text).ok();
        let nested = std::iter::successors(Some(secret.to_owned()), quote).take(5);
        let all: String = secret.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
        for body in nested.chain([all, secret.replace('/', "\\/")]) {
            assert!(needle.is_in(format!("xx{body}yy").as_bytes()), "{body}");
        }
        for before in ["", "a", "ab", "abc"] {
            for after in ["", "a", "ab", "abc"] {
                let text = format!("{before}{secret}{after}");
                for body in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                    assert!(needle.is_in(body.as_bytes()), "{before} {after} {body}");
                    let in_json = body.replace('/', "\\/");
                    assert!(needle.is_in(in_json.as_bytes()), "{in_json}");
                }
            }
        }
        assert!(!needle.is_in(b"pa\\\"ss\\\\word"));
        assert!(!Needle::new(b"").is_in(b"anything"));
    }

    #[test]
    fn what_is_no_escape_stays() {
        assert_eq!(unescape(b"no escapes"), None);
        assert_eq!(unescape(b"\\x \\u12 \\ud800 \\"), None);
        assert_eq!(unescape(b"\\x\\n").unwrap(), b"\\x\n");
        assert_eq!(unescape(b"\\ud83d\\ude42").unwrap(), "🙂".as_bytes());
    }
}
