//! Just enough of Rust's grammar to tell code from comments and text: names, single punctuation
//! marks, comments. Literals are skipped. It does not check that the source compiles.

/// A piece of source with the line it begins on, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub line: usize,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Name(String),
    Mark(char),
    /// With its slashes.
    Comment(String),
    /// A string, character or number.
    Literal,
}

pub fn read(source: &str) -> Vec<Token> {
    let bytes = source.as_bytes();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let start = at;
        let what = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => {
                at = source[at..].find('\n').map_or(bytes.len(), |end| at + end);
                Some(What::Comment(source[start..at].to_owned()))
            }
            b'/' if bytes[at..].starts_with(b"/*") => {
                at = block_comment_end(bytes, at);
                Some(What::Comment(source[start..at].to_owned()))
            }
            b'"' => {
                at = string_end(bytes, at);
                Some(What::Literal)
            }
            b'\'' => match quoted_end(source, at) {
                Some(end) => {
                    at = end;
                    Some(What::Literal)
                }
                // A lifetime: the mark and a name.
                None => {
                    at += 1;
                    Some(What::Mark('\''))
                }
            },
            byte if byte.is_ascii_digit() => {
                at = name_end(source, at);
                Some(What::Literal)
            }
            byte if byte == b'_' || byte.is_ascii_alphabetic() || !byte.is_ascii() => {
                at = name_end(source, at);
                let name = &source[start..at];
                let rest = &bytes[at..];
                let is_prefix = ["r", "b", "br", "c", "cr"].contains(&name);
                if is_prefix && rest.starts_with(b"\"") && !name.contains('r') {
                    at = string_end(bytes, at);
                    Some(What::Literal)
                } else if name == "b" && rest.starts_with(b"'") {
                    at = quoted_end(source, at).unwrap_or(at + 1);
                    Some(What::Literal)
                } else if is_prefix && name.contains('r') && raw_hashes(rest).is_some() {
                    at = raw_string_end(source, at);
                    Some(What::Literal)
                } else {
                    Some(What::Name(name.to_owned()))
                }
            }
            byte => {
                at += 1;
                (!byte.is_ascii_whitespace()).then_some(What::Mark(byte as char))
            }
        };
        tokens.extend(what.map(|what| Token { line, what }));
        line += bytes[start..at].iter().filter(|byte| **byte == b'\n').count();
    }
    tokens
}

fn name_end(source: &str, at: usize) -> usize {
    let is_part = |c: char| c == '_' || c.is_alphanumeric();
    source[at..].find(|c| !is_part(c)).map_or(source.len(), |end| at + end.max(1))
}

/// Nested, as Rust's are.
fn block_comment_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn string_end(bytes: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of a character literal at `open`, `None` when it is a lifetime.
fn quoted_end(source: &str, open: usize) -> Option<usize> {
    let rest = &source[open + 1..];
    let first = rest.chars().next()?;
    if first == '\\' {
        let close = rest[2..].find('\'')?;
        return Some(open + 1 + 2 + close + 1);
    }
    let after = first.len_utf8();
    rest[after..].starts_with('\'').then_some(open + 1 + after + 1)
}

/// The number of `#` before the quote of a raw string.
fn raw_hashes(rest: &[u8]) -> Option<usize> {
    let hashes = rest.iter().take_while(|byte| **byte == b'#').count();
    (rest.get(hashes) == Some(&b'"')).then_some(hashes)
}

fn raw_string_end(source: &str, at: usize) -> usize {
    let hashes = raw_hashes(&source.as_bytes()[at..]).unwrap_or(0);
    let body = at + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    source[body..].find(&close).map_or(source.len(), |end| body + end + close.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str) -> Vec<String> {
        let name = |token: Token| match token.what {
            What::Name(name) => Some(name),
            _ => None,
        };
        read(source).into_iter().filter_map(name).collect()
    }

    #[test]
    fn text_and_comments_are_not_code() {
        let source = r####"
            a "b \" c" 'd' '\'' b'e' b"f" r"g\" h r#"i " j"# // k
            /* l /* m */ n */ o<'p> '\u{1F600}' q 1_000u64 é "####;
        assert_eq!(names(source), ["a", "h", "o", "p", "q", "é"]);
    }

    #[test]
    fn lines_are_counted_through_text() {
        let tokens = read("\"a\nb\"\n/*\n*/x");
        assert_eq!(tokens.last(), Some(&Token { line: 4, what: What::Name("x".to_owned()) }));
    }
}
