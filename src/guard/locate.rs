//! Where in a message the findings stand: one walk, and only when something was found.
//!
//! The text is valid JSON, so brackets, quotes and commas say all. A name in which something was found is
//! never told. Bound: bytes of all paths of one message; findings behind it have their span alone.

use std::sync::Arc;

use memchr::memchr2;

use super::fault::GuardFault;
use super::scan::{Kind, Scanner, kind_of};
use crate::limits::Limits;
use crate::types::path::{JsonPath, Step};
use crate::types::{Direction, Finding, Span};
use crate::wire::json::{self, Text};

/// Bound: bytes of the paths of one message, as they are written into one verdict. Decided: several times
/// what `findings_max` findings in the content of an answer need.
const PATHS_BYTES_MAX: usize = 256 << 10;

/// A container that is open.
struct Frame {
    /// An object, whose next string is a name when `names` says so.
    object: bool,
    names: bool,
    /// Element of a list.
    index: u32,
    /// Name of the member, between its quotes.
    name: Span,
    hidden: bool,
    /// The same as a step, once somebody asked.
    step: Option<Step>,
}

/// Sets the paths of `findings` in `raw`, which is valid JSON and was read as UTF-8. Findings come back
/// in the order of their spans.
pub(super) fn locate(raw: &[u8], findings: &mut [Finding]) {
    findings.sort_by_key(|finding| finding.span.start);
    let mut frames: Vec<Frame> = vec![];
    let (mut at, mut next, mut told) = (0, 0, 0);
    while at < raw.len() && next < findings.len() {
        let from = at;
        at += 1;
        let end = match raw[from] {
            b'"' => {
                at = string_end(raw, at);
                at.saturating_sub(1)
            }
            open @ (b'{' | b'[') => {
                let object = open == b'{';
                frames.push(Frame {
                    object,
                    names: object,
                    index: 0,
                    name: Span::new(0, 0),
                    hidden: false,
                    step: None,
                });
                continue;
            }
            b'}' | b']' => {
                frames.pop();
                continue;
            }
            b',' => {
                if let Some(frame) = frames.last_mut() {
                    frame.names = frame.object;
                    frame.index += u32::from(!frame.object);
                    frame.step = None;
                }
                continue;
            }
            b':' => {
                if let Some(frame) = frames.last_mut() {
                    frame.names = false;
                }
                continue;
            }
            byte if byte.is_ascii_whitespace() => continue,
            _ => {
                let rest = &raw[at..];
                let ends =
                    |byte: &u8| matches!(byte, b',' | b']' | b'}') || byte.is_ascii_whitespace();
                at += rest.iter().position(ends).unwrap_or(rest.len());
                at
            }
        };
        let before = next;
        while findings.get(next).is_some_and(|finding| (finding.span.start as usize) < end) {
            next += 1;
        }
        if let Some(frame) = frames.last_mut()
            && frame.names
        {
            let reaches = |finding: &Finding| finding.span.end() > from;
            frame.name = Span::new(from + 1, end);
            frame.hidden = before < next || findings[..before].last().is_some_and(reaches);
        }
        if before < next {
            let path = path(raw, &mut frames);
            let bytes = path.text(true).len();
            let path = Arc::new(path);
            for finding in &mut findings[before..next] {
                told += bytes;
                finding.path = (told <= PATHS_BYTES_MAX).then(|| Arc::clone(&path));
            }
        }
    }
}

impl Scanner {
    /// [`Scanner::scan`], with the path of each finding where the text is JSON.
    pub fn scan_located(
        &mut self,
        input: &[u8],
        direction: Direction,
        scratch: &mut json::Scratch,
        limits: &Limits,
    ) -> Result<Vec<Finding>, GuardFault> {
        let mut findings = self.scan(input, direction, scratch, limits)?;
        if !findings.is_empty() && kind_of(input, scratch, limits) == Kind::Json {
            locate(input, &mut findings);
        }
        Ok(findings)
    }
}

/// One past the quote that ends the string which begins at `at`.
fn string_end(raw: &[u8], mut at: usize) -> usize {
    while let Some(found) = raw.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        match raw[at] {
            b'"' => return at + 1,
            _ => at += 2,
        }
    }
    raw.len()
}

fn path(raw: &[u8], frames: &mut [Frame]) -> JsonPath {
    let mut path = JsonPath::default();
    for frame in frames {
        let step = frame.step.get_or_insert_with(|| match (frame.object, frame.hidden) {
            (false, _) => Step::Index(frame.index),
            (true, true) => Step::Hidden,
            (true, false) => {
                let escaped = frame.name.of(raw).contains(&b'\\');
                Step::member(&Text { span: frame.name, escaped }.decode(raw))
            }
        });
        path.push(step.clone());
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::RuleAction;

    fn found(raw: &str, what: &str) -> Vec<Finding> {
        raw.match_indices(what)
            .map(|(at, _)| Finding {
                rule: "r".into(),
                action: RuleAction::Mask,
                span: Span::new(at, at + what.len()),
                fingerprint: [0; 16],
                level: 1,
                path: None,
            })
            .collect()
    }

    fn paths(raw: &str, what: &str, names: bool) -> Vec<String> {
        serde_json::from_str::<serde_json::Value>(raw).expect("valid");
        let mut findings = found(raw, what);
        locate(raw.as_bytes(), &mut findings);
        findings.iter().map(|finding| finding.path.as_ref().unwrap().text(names)).collect()
    }

    #[test]
    fn every_place_has_its_path() {
        let raw = r#"{"a,]":"x\"}, SECRET","result":{ "content":[ {"text":"SECRET and SECRET"},[1,SECRET] ,"SECRET"],
            "SECRET":{"in":["SECRET"]},"k\u0065y":{"SECRET x":1,"n":"SECRET"}},"SECRET":2}"#;
        let raw = raw.replace("1,SECRET", "1,77").replace("77", "7777777");
        assert_eq!(
            paths(&raw, "SECRET", true),
            [
                "/a,]",
                "/result/content/0/text",
                "/result/content/0/text",
                "/result/content/2",
                "/result/*",
                "/result/*/in/0",
                "/result/key/*",
                "/result/key/n",
                "/*"
            ]
        );
        assert_eq!(paths(&raw, "7777777", true), ["/result/content/1/1"]);
        assert_eq!(paths(&raw, "SECRET", false)[7], "/result/*/*");
        assert_eq!(paths("\"SECRET\"", "SECRET", true), [""]);
    }

    #[test]
    fn paths_of_one_message_are_bounded() {
        let name = "n".repeat(40);
        let raw = format!("{{\"{name}\":[{}\"SECRET\"]}}", "\"SECRET\",".repeat(20_000));
        let mut findings = found(&raw, "SECRET");
        locate(raw.as_bytes(), &mut findings);
        let paths = findings.iter().filter_map(|finding| finding.path.as_ref());
        let bytes: usize = paths.map(|path| path.text(true).len()).sum();
        assert!((PATHS_BYTES_MAX - 100..=PATHS_BYTES_MAX).contains(&bytes), "{bytes}");
    }
}
