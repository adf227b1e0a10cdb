//! Recorded text made safe: whoever wrote it must not be able to move the cursor, turn the line
//! around or hide something in an auditor's terminal.

use serde_json::Value;

/// True for characters that are not shown as they are: control characters, line and paragraph
/// separators, bidirectional controls, everything of no width, tags, and fillers that look empty.
///
/// Unicode 16: categories Cc, Cf, Zl, Zp, variation selectors, and the blank Hangul letters.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{034f}' | '\u{0600}'..='\u{0605}' | '\u{061c}' | '\u{06dd}'
            | '\u{070f}' | '\u{0890}'..='\u{0891}' | '\u{08e2}' | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1345f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The text with every unsafe character written as `\u{…}`, for one line of a terminal.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// Bytes as lines for a terminal: broken at line feeds, everything unsafe escaped, and bytes that are
/// no UTF-8 written as `\x…`.
pub fn lines(bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    for line in bytes.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut out = String::new();
        for chunk in line.utf8_chunks() {
            out.push_str(&escape(chunk.valid()));
            for byte in chunk.invalid() {
                out.push_str(&format!("\\x{byte:02x}"));
            }
        }
        lines.push(out);
    }
    if lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// JSON text set in lines, two spaces a level, in the order and the spelling it has; `None` when it is
/// no JSON.
pub fn pretty(bytes: &[u8]) -> Option<String> {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).ok()?;
    let text = std::str::from_utf8(bytes).ok()?;
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0usize;
    let (mut in_string, mut escaped) = (false, false);
    let mut tokens = text.chars().filter(|c| !matches!(c, '\r')).peekable();
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = tokens.next() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while tokens.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if let Some(close) = tokens.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                newline(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                newline(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    Some(out)
}

/// One line of JSON in which unsafe characters of strings are written as `\u….`.
pub fn json_line(value: &Value) -> String {
    let text = value.to_string();
    if !text.chars().any(is_unsafe) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut units = [0; 2];
    for c in text.chars() {
        if is_unsafe(c) {
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TRICKS: &str = "a\u{1b}[2J\u{202e}b\u{200b}c\u{2066}\u{feff}\u{e0041}\u{7}\u{9b}\tz";

    // Mutants: any one range of `is_unsafe` dropped, or cut by its first or its last character.
    #[test]
    fn nothing_unsafe_gets_through() {
        let all: String = (0..=0x10_ffff).filter_map(char::from_u32).collect();
        for shown in [escape(&all), escape(TRICKS), json_line(&json!(TRICKS))] {
            assert!(!shown.chars().any(is_unsafe));
        }
        // Unicode's own names for them; a blank, and controls that are no category of their own.
        let names = r"^[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{DI}\x{2800}\x{13440}-\x{1345f}]";
        let names = regex_automata::meta::Regex::new(names).unwrap();
        for c in all.chars() {
            assert_eq!(is_unsafe(c), names.is_match(c.encode_utf8(&mut [0; 4]) as &str), "{c:?}");
        }
        assert_eq!(escape("Grüße, 世界 🙂"), "Grüße, 世界 🙂");
        let back: Value = serde_json::from_str(&json_line(&json!(TRICKS))).unwrap();
        assert_eq!(back, json!(TRICKS));
    }

    #[test]
    fn bytes_become_lines() {
        let shown = lines(b"one\r\n\x1b[31mtwo\xff\n\nfour\n");
        assert_eq!(shown, ["one", "\\u{1b}[31mtwo\\xff", "", "four"]);
    }

    #[test]
    fn json_keeps_its_order_and_numbers() {
        let raw = br#"{"b":1.10,"a":[1,{},[]],"s":"x,{\"\\"}"#;
        let expected = "{\n  \"b\": 1.10,\n  \"a\": [\n    1,\n    {},\n    []\n  ],\n  \"s\": \"x,{\\\"\\\\\"\n}";
        assert_eq!(pretty(raw).unwrap(), expected);
        assert_eq!(pretty(b"{ } "), Some("{}".into()));
        assert_eq!(pretty(b"data: {}"), None);
    }
}
