//! What is wrong with a configuration file: where, what was seen, what is allowed.
//!
//! All problems are gathered before anything is said, so that one run of `check` shows them all.
//! A problem never carries the content of a file it names, nor text that may be a secret.

use std::collections::BTreeSet;
use std::fmt;

use crate::audit::text::escape;

/// One fault of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line of the configuration file, from 1; `None` when the file as a whole is meant.
    pub line: Option<u32>,
    /// The key, as `upstream[0].url`; entries of a list are counted from 0 in the order of the file.
    pub key: String,
    /// What stands there.
    pub seen: String,
    /// What may stand there, or what to do.
    pub allowed: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; allowed: {}", self.key, self.seen, self.allowed)
    }
}

impl Problem {
    /// The problem as one line for people, as compilers write it: `file:line: key: …`. Control
    /// characters of the file do not reach a terminal.
    pub fn text(&self, file: &str) -> String {
        let place = match self.line {
            Some(line) => format!("{file}:{line}"),
            None => file.to_owned(),
        };
        escape(&format!("{place}: {self}"))
    }

    /// The problem as one object of `check --json`.
    pub fn to_json(&self, file: &str) -> serde_json::Value {
        serde_json::json!({
            "file": file,
            "line": self.line,
            "key": self.key,
            "seen": self.seen,
            "allowed": self.allowed,
        })
    }
}

/// A value with the place it came from.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) line: u32,
    pub(super) key: String,
}

impl<T> At<T> {
    pub(super) fn with<U>(&self, value: U) -> At<U> {
        At { value, line: self.line, key: self.key.clone() }
    }
}

/// Gathers problems while a file is read.
///
/// Invariant: a line that is no valid TOML gets one problem and no second one about the value that
/// the recovering parser made up for it.
pub(super) struct Problems {
    found: Vec<Problem>,
    /// Offset of the first byte of each line.
    line_starts: Vec<usize>,
    broken_lines: BTreeSet<u32>,
    /// Lines of the table headers, ascending.
    header_lines: Vec<u32>,
}

impl Problems {
    pub(super) fn new(text: &str) -> Problems {
        let line_starts = std::iter::once(0)
            .chain(
                text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1),
            )
            .collect();
        let header_lines = (1u32..)
            .zip(text.lines())
            .filter(|(_, line)| line.trim_start().starts_with('['))
            .map(|(number, _)| number)
            .collect();
        Problems { found: Vec::new(), line_starts, broken_lines: BTreeSet::new(), header_lines }
    }

    /// The line, from 1, that the byte `offset` stands on.
    pub(super) fn line(&self, offset: usize) -> u32 {
        self.line_starts.partition_point(|start| *start <= offset) as u32
    }

    /// A place where the text is no TOML.
    pub(super) fn broken(&mut self, offset: usize, seen: &str) {
        let line = self.line(offset);
        if self.broken_lines.insert(line) {
            self.found.push(Problem {
                line: Some(line),
                key: "syntax".to_owned(),
                seen: seen.to_owned(),
                allowed: "a TOML 1.0 document".to_owned(),
            });
        }
    }

    /// A value that may not stand where it stands.
    pub(super) fn at<T>(
        &mut self,
        at: &At<T>,
        seen: impl Into<String>,
        allowed: impl Into<String>,
    ) {
        if self.broken_lines.contains(&at.line) {
            return;
        }
        self.found.push(Problem {
            line: Some(at.line),
            key: at.key.clone(),
            seen: seen.into(),
            allowed: allowed.into(),
        });
    }

    /// A key that has to be there and is not; `table_line` is the line of the table's header.
    pub(super) fn missing(&mut self, key: String, table_line: u32, allowed: &str) {
        // Why: the key may stand on a line of this table that could not be read.
        let next_header = self.header_lines.iter().find(|line| **line > table_line);
        let end = next_header.copied().unwrap_or(u32::MAX);
        if self.broken_lines.range(table_line..end).next().is_none() {
            self.found.push(Problem {
                line: Some(table_line),
                key,
                seen: "is missing".to_owned(),
                allowed: allowed.to_owned(),
            });
        }
    }

    /// A table of the top level that has to be there and is not.
    pub(super) fn missing_table(&mut self, header: &str, allowed: &str) {
        // Why: the header itself may be the line that could not be read.
        if self.broken_lines.iter().any(|line| self.header_lines.contains(line)) {
            return;
        }
        self.found.push(Problem {
            line: None,
            key: header.to_owned(),
            seen: "is missing".to_owned(),
            allowed: allowed.to_owned(),
        });
    }

    /// Everything found, in the order of the file.
    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|problem| problem.line.unwrap_or(u32::MAX));
        self.found
    }
}
