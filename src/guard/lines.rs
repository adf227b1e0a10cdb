//! The lines of a key behind the words that begin it, whatever stands around them.
//!
//! A key in armour (RFC 7468, RFC 4880 §6.2, RFC 4716 §3.4) is lines of base64. Where it stands in a diff, a quote, a log, source code
//! or a table, each line has something before and behind it, and no pattern reads over all of that. So only the words
//! at its begin are looked for, and behind them what can be nothing but its lines: long runs of letters of base64.

use std::ops::Range;

use memchr::memmem;

use super::runs::{BASE64, NONE};
use super::units;

/// Bound: bytes of a key with what stands around its lines; RSA of 8,192 bits has 100 lines.
const KEY_BYTES_MAX: usize = 64 << 10;
/// Bound: letters of a key; RSA of 8,192 bits has 6,400.
const KEY_LETTERS_MAX: usize = 8 << 10;
/// Bound: what stands between two lines, or before the first, of a key that no words end: the head of a line in a log.
const GAP_BYTES_MAX: usize = 1 << 10;
/// Bound: `BEGIN` or `END` and what stands behind it before `PRIVATE KEY`: three words of twelve letters.
const KIND_BYTES_MAX: usize = 5 + 1 + 3 * 13;
/// Letters of a line that shows that there is a key: those of RFC 7468 have 64, others up to 76.
const LINE_LETTERS_MIN: usize = 40;
/// Letters of a line behind such a one.
const MORE_LETTERS_MIN: usize = 16;
/// Letters of the last line.
const LAST_LETTERS_MIN: usize = 4;

/// The lines of the key that begins with `text`, behind the words at its begin; none when there is no key.
pub(super) fn of_key(text: &[u8]) -> Vec<Range<usize>> {
    let text = &text[..text.len().min(KEY_BYTES_MAX)];
    let end = end_of_key(text);
    let body = &text[..end.unwrap_or(text.len())];
    let mut lines: Vec<Range<usize>> = vec![];
    let (mut at, mut letters) = (0, 0);
    while let Some(on) = body[at..].iter().position(|byte| is_letter(*byte)) {
        let mut start = at + on;
        let last = lines.last().map_or(0, |line| line.end);
        if (end.is_none() && start - last > GAP_BYTES_MAX) || letters > KEY_LETTERS_MAX {
            break;
        }
        let stop = start + body[start..].iter().take_while(|byte| is_letter(**byte)).count();
        at = stop;
        // The letters of an escape are part of it: `\nMIIE…`, `%0AMIIE…`.
        if let Some(unit) = units::around(body, start) {
            start = unit.end.min(stop);
        }
        let run = &body[start..stop];
        let has = |is: fn(&u8) -> bool| run.iter().any(is);
        let (upper, lower, digit) =
            (has(u8::is_ascii_uppercase), has(u8::is_ascii_lowercase), has(u8::is_ascii_digit));
        let is_line = match run.len() {
            LINE_LETTERS_MIN.. => upper && lower && digit,
            _ if lines.is_empty() => false,
            MORE_LETTERS_MIN.. => upper && lower,
            LAST_LETTERS_MIN.. => (upper && lower && digit) || run.ends_with(b"="),
            _ => false,
        };
        if is_line {
            letters += run.len();
            lines.push(start..stop);
        }
    }
    lines
}

/// Where the words stand that end the key, or begin another; a table or a comment may speak of private keys in between.
fn end_of_key(text: &[u8]) -> Option<usize> {
    let is_end = |at: &usize| {
        let from = at.saturating_sub(KIND_BYTES_MAX);
        // Not within `SEND`.
        let border = |on: usize| {
            (from + on).checked_sub(1).is_none_or(|before| !text[before].is_ascii_alphanumeric())
        };
        let words = [&b"END"[..], b"BEGIN"];
        words.iter().any(|word| memmem::find_iter(&text[from..*at], word).any(border))
    };
    let named = memmem::find_iter(text, b"PRIVATE");
    let mut keys = named.filter(|at| {
        matches!(text.get(at + b"PRIVATE".len()..), Some([b' ' | b'+', b'K', b'E', b'Y', ..]))
    });
    keys.find(is_end)
}

fn is_letter(byte: u8) -> bool {
    byte == b'=' || (BASE64[byte as usize] != NONE && !matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 4] = [
        "bP4F4bOgRMcm7NpJqoQXJNDHe+AkLmh45deVb/oiYriSk8Ro+F9j/XOBcJrYtE3A",
        "weyLVZ8bK2TzZxXmI4mPfMYhD1v5g3ZdAKvvpRmrLWiuLszH5pMVXPCe+1M7Ee4p",
        "DaGe3scDDXCiq0neLgycF+2U0kWKi+UuaoMz8y",
        "TzK1TQ==",
    ];

    fn found(text: &str) -> Vec<&str> {
        of_key(text.as_bytes()).into_iter().map(|at| &text[at]).collect()
    }

    // Mutant: the letter of an escape belongs to the line.
    #[test]
    fn the_lines_of_a_key_are_told_from_what_stands_around_them() {
        for (before, behind) in [
            ("", "\n"),
            ("-", "\n"),
            ("> ", "\r\n"),
            ("# ", "\n"),
            ("    \"", "\\n\"\n"),
            ("'", "',\n"),
            ("\\n", ""),
            ("k.pem-3-", "\n"),
            ("2026-11-23T10:00:00Z INFO key: ", "\n"),
            ("", "$\n"),
            ("| ", " |\n"),
            ("", "<br>\n"),
            ("", "%0A"),
            ("%20", "&"),
        ] {
            let body: String = LINES.iter().map(|line| format!("{before}{line}{behind}")).collect();
            assert_eq!(
                found(&format!("\n{body}{before}-----END RSA PRIVATE KEY-----")),
                LINES,
                "{before}"
            );
            assert_eq!(found(&format!("\n{body}{before}")), LINES, "{before}");
        }
    }

    // Four of five lines of a long key stayed in a log with long heads. Mutants: each bound is half of it; a key of the
    // table's name ends another; the begin of the next one does not.
    #[test]
    fn a_key_goes_on_behind_whatever_stands_between_its_lines() {
        let lines: Vec<String> = (0..100)
            .map(|number| format!("aB{number:02}{}", LINES[number % 2].split_at(4).1))
            .collect();
        let body =
            |head: &str| -> String { lines.iter().map(|line| format!("{head}{line}\n")).collect() };
        let log = "2026-11-02T10:11:12Z INFO loader: ".repeat(15);
        for head in [&log[..], "PRIVATE KEY | ", "# a PRIVATE KEY of api\n> ", "SEND PRIVATE KEY "]
        {
            assert_eq!(found(&body(head)), lines, "{head}");
            let ended = body(head) + "-----END RSA PRIVATE KEY-----\n" + LINES[0];
            assert_eq!(found(&ended), lines, "{head}");
            let ended = body(head) + "-----BEGIN+EC+PRIVATE+KEY-----\n" + LINES[0];
            assert_eq!(found(&ended), lines, "{head}");
        }
        let far = format!("{}{}{}", LINES[0], " ".repeat(1024), LINES[1]);
        assert_eq!(found(&far), LINES[..2]);
        assert_eq!(found(&far.replacen(' ', "  ", 1)), LINES[..1]);
        let kind =
            format!("{}\nBEGIN{} PRIVATE KEY {}", LINES[0], " TWELVELETTER".repeat(3), LINES[1]);
        assert_eq!(found(&kind), LINES[..1]);
        let long = body("").repeat(2);
        assert_eq!(found(&long).len(), KEY_LETTERS_MAX / LINES[0].len() + 1);
    }

    // Mutants: any long run is a line; a short one is, before there was a long one; the words at the end do not end it.
    #[test]
    fn what_speaks_of_keys_has_no_lines() {
        for text in [
            "\", \"-----END PRIVATE KEY-----\"",
            "\n<your key>\n-----END PRIVATE KEY-----",
            "\"); decodePrivateKeyInfo(armourOfTheKey); strip(\"-----END PRIVATE KEY-----\")",
            "\"; PrivateKeyInfoDecodingErrorHandlerForTesting(x, y); sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "\n-----END PRIVATE KEY-----\nbP4F4bOgRMcm7NpJqoQXJNDHe+AkLmh45deVb/oiYriSk8Ro+F9j/XOBcJrYtE3A",
        ] {
            assert!(found(text).is_empty(), "{text}: {:?}", found(text));
        }
    }
}
