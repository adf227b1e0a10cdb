//! The lines of a key behind the words that begin it, whatever stands around them.
//!
//! A key in armour (RFC 7468, RFC 4880 §6.2, RFC 4716 §3.4) is lines of base64. Where it stands in a diff, a quote, a log, source code
//! or a table, each line has something before and behind it, and no pattern reads over all of that. So only the words
//! at its begin are looked for, and behind them what can be nothing but its lines: long runs of letters of base64.

use std::ops::Range;

use memchr::memmem;

use super::runs::{BASE64, NONE};

/// Bound: bytes of a key with what stands around its lines; RSA of 8,192 bits has 6,400 of its own.
const KEY_BYTES_MAX: usize = 16 << 10;
/// The same where no words end it.
const OPEN_BYTES_MAX: usize = 4 << 10;
/// Letters of a line that shows that there is a key: those of RFC 7468 have 64, others up to 76.
const LINE_LETTERS_MIN: usize = 40;
/// Letters of a line behind such a one.
const MORE_LETTERS_MIN: usize = 16;
/// Letters of the last line.
const LAST_LETTERS_MIN: usize = 4;

/// The lines of the key that begins with `text`, behind the words at its begin; none when there is no key.
pub(super) fn of_key(text: &[u8]) -> Vec<Range<usize>> {
    let text = &text[..text.len().min(KEY_BYTES_MAX)];
    let body = match memmem::find(text, b"PRIVATE KEY") {
        Some(end) => &text[..end],
        None => &text[..text.len().min(OPEN_BYTES_MAX)],
    };
    let mut lines: Vec<Range<usize>> = vec![];
    let mut at = 0;
    while let Some(on) = body[at..].iter().position(|byte| is_letter(*byte)) {
        let mut start = at + on;
        let end = start + body[start..].iter().take_while(|byte| is_letter(**byte)).count();
        at = end;
        // The letter behind a backslash is part of an escape: `\nMIIE…`.
        if start > 0 && body[start - 1] == b'\\' {
            start += 1;
        }
        let run = &body[start..end.max(start)];
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
            lines.push(start..end);
        }
    }
    lines
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
