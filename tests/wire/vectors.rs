//! Reading the vector files: cases with their bytes made visible, and what is expected of each.
//!
//! ```text
//! # a comment
//! == name of the case
//! > input; several of these lines are joined, and no line end is added
//! < expectation; several make a list
//! ```
//!
//! In input, `␍` `␊` `␉` `␀` stand for the control characters they picture, `‹ff 00›` for bytes,
//! `‹61*100›` for a repeated byte, and `«` for nothing: it marks the byte where a fault is expected.

use std::fs;
use std::path::Path;

#[derive(Debug, Default, Clone)]
pub struct Case {
    /// File and name, for messages.
    pub name: String,
    pub input: Vec<u8>,
    /// Offset of the mark.
    pub mark: Option<usize>,
    pub expected: Vec<String>,
}

/// The cases of `tests/vectors/{file}`. Every case has input and an expectation, and a name of its own.
pub fn cases(file: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{file}: {fault}"));
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        match line.split_at_checked(2) {
            Some(("==", name)) => {
                let name = format!("{file}: {}", name.trim());
                assert!(cases.iter().all(|case| case.name != name), "twice: {name}");
                cases.push(Case { name, ..Case::default() });
            }
            Some(("> ", input)) => decode(input, cases.last_mut().expect("a case is open")),
            Some(("< ", expected)) => {
                let case = cases.last_mut().expect("a case is open");
                case.expected.push(expected.to_string());
            }
            _ if line.is_empty() || line.starts_with('#') || line == ">" => {}
            _ => panic!("{file}:{}: neither case, input nor expectation", number + 1),
        }
    }
    for case in &cases {
        assert!(!case.expected.is_empty(), "{}: nothing is expected", case.name);
    }
    cases
}

fn decode(line: &str, case: &mut Case) {
    let mut rest = line;
    while let Some(symbol) = rest.chars().next() {
        rest = &rest[symbol.len_utf8()..];
        match symbol {
            '␍' => case.input.push(b'\r'),
            '␊' => case.input.push(b'\n'),
            '␉' => case.input.push(b'\t'),
            '␀' => case.input.push(0),
            '«' => {
                assert_eq!(case.mark, None, "{}: two marks", case.name);
                case.mark = Some(case.input.len());
            }
            '‹' => {
                let (inner, after) = rest.split_once('›').expect("‹ is closed by ›");
                rest = after;
                for part in inner.split(' ') {
                    let (byte, count) = part.split_once('*').unwrap_or((part, "1"));
                    let byte = u8::from_str_radix(byte, 16).expect("a byte in hexadecimal");
                    let count: usize = count.parse().expect("a count");
                    case.input.extend(std::iter::repeat_n(byte, count));
                }
            }
            other => case.input.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}
