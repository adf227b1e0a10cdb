//! Globs over names and URIs, compared byte by byte as decoded: no trimming, no case, no normal forms.
//!
//! | in a glob | matches |
//! |---|---|
//! | `*` | any bytes except `/`, none included |
//! | `**` | any bytes |
//! | anything else | itself |
//!
//! Matching takes no more steps than the product of both lengths, whatever the glob.

/// One glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Byte(u8),
    /// `*`
    Within,
    /// `**`
    Across,
}

impl Glob {
    /// Reads a glob; every text is one.
    pub fn new(text: &str) -> Glob {
        let mut parts = vec![];
        let mut bytes = text.bytes().peekable();
        while let Some(byte) = bytes.next() {
            if byte != b'*' {
                parts.push(Part::Byte(byte));
                continue;
            }
            let mut stars = 1;
            while bytes.next_if_eq(&b'*').is_some() {
                stars += 1;
            }
            parts.push(if stars == 1 { Part::Within } else { Part::Across });
        }
        Glob { text: text.to_string(), parts }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether all of `value` matches.
    pub fn matches(&self, value: &[u8]) -> bool {
        // The places in the glob that are alive after each byte; a star stays alive in its place.
        let mut alive = vec![false; self.parts.len() + 1];
        alive[0] = true;
        self.skip_stars(&mut alive);
        for &byte in value {
            let mut next = vec![false; self.parts.len() + 1];
            for (place, part) in self.parts.iter().enumerate().filter(|(place, _)| alive[*place]) {
                match part {
                    Part::Byte(wanted) if *wanted == byte => next[place + 1] = true,
                    Part::Within if byte != b'/' => next[place] = true,
                    Part::Across => next[place] = true,
                    _ => {}
                }
            }
            self.skip_stars(&mut next);
            alive = next;
        }
        alive[self.parts.len()]
    }

    /// A star may match nothing.
    fn skip_stars(&self, alive: &mut [bool]) {
        for (place, part) in self.parts.iter().enumerate() {
            if alive[place] && !matches!(part, Part::Byte(_)) {
                alive[place + 1] = true;
            }
        }
    }
}

/// Whether a URI says one thing to every reader. Dot segments, an encoded slash, backslash or dot, a
/// backslash, user information and control characters let a server see another path or host than the
/// one that was judged; such a URI matches no glob.
pub fn uri_is_plain(uri: &[u8]) -> bool {
    if uri.iter().any(|&byte| byte == b'\\' || byte <= b' ' || byte == 0x7f) {
        return false;
    }
    let encoded = uri.windows(3).any(|three| {
        three[0] == b'%'
            && matches!(&three[1..].to_ascii_lowercase()[..], b"2f" | b"2e" | b"5c" | b"00" | b"25")
    });
    if encoded {
        return false;
    }
    let (authority, path) = match memchr::memmem::find(uri, b"://") {
        Some(at) => {
            let rest = &uri[at + 3..];
            let end = rest
                .iter()
                .position(|byte| matches!(byte, b'/' | b'?' | b'#'))
                .unwrap_or(rest.len());
            rest.split_at(end)
        }
        None => (&b""[..], uri),
    };
    let path =
        &path[..path.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(path.len())];
    // `file:./x` and `a:b/../c`: the scheme's colon starts a segment as the slash does.
    let dots = path
        .split(|byte| matches!(byte, b'/' | b':'))
        .any(|segment| segment == b"." || segment == b"..");
    // The host of an opaque scheme may be dots too (`res://../x`).
    !authority.contains(&b'@') && authority != b"." && authority != b".." && !dots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_a_segment() {
        for (glob, value, expected) in [
            ("generate_*", "generate_code", true),
            ("generate_*", "generate_", true),
            ("generate_*", "Generate_code", false),
            ("generate_*", "generate_code ", true),
            ("generate_code", "generate_code ", false),
            ("*", "a", true),
            ("*", "", true),
            ("*", "a/b", false),
            ("**", "a/b", true),
            ("file:///work/*", "file:///work/a.txt", true),
            ("file:///work/*", "file:///work/sub/a.txt", false),
            ("file:///work/**", "file:///work/sub/a.txt", true),
            ("a*b*c", "aXXbYYc", true),
            ("a*b*c", "aXXbYY", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(Glob::new(glob).matches(value.as_bytes()), expected, "{glob} {value}");
        }
    }

    #[test]
    fn a_hostile_glob_takes_no_longer() {
        let glob = Glob::new(&"a*".repeat(200));
        assert!(!glob.matches(&vec![b'a'; 2000].iter().copied().chain([b'/']).collect::<Vec<_>>()));
    }

    #[test]
    fn uris_with_two_readings_match_nothing() {
        for plain in [
            "file:///a/b.txt",
            "demo://resource/1",
            "https://h.example/a?q=../x",
            "note:x",
            "a/b",
            "x://h/...",
            "x://h/.a",
        ] {
            assert!(uri_is_plain(plain.as_bytes()), "{plain}");
        }
        for twisted in [
            "file:///a/../b",
            "file:///a/./b",
            "file:///a/..",
            "x://h/%2e%2E/b",
            "x://h/a%2Fb",
            "x://h/a%5cb",
            "x://h/a\\b",
            "https://u@h/a",
            "https://u:p@h/a",
            "x://../a",
            "x://h/a b",
            "../a",
            "file:../a",
            "x://h/a\n",
            "x://h/%252e",
        ] {
            assert!(!uri_is_plain(twisted.as_bytes()), "{twisted}");
        }
    }
}
