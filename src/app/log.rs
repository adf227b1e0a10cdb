//! What the program says about itself, on stderr: one line for each event, JSON when stderr is no
//! terminal, else words.
//!
//! A line is written with one call, so that lines of several threads do not mix. A line that cannot be
//! written is dropped: nobody is left to be told. Of what came over the wire a line holds
//! names that the configuration knows and what a fault is about (the words of a TLS fault, a Host or an
//! Origin that is not served): bounded, secrets filled, nothing that cannot be seen; in words, control and bidirectional characters are
//! escaped all the same.
//!
//! JSON fields of every line: `time` (RFC 3339, nanoseconds, UTC), `level`, `event` (a fixed word for
//! scripts), `message` (for people); then the event's own fields.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::audit::text::escape;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Info,
    /// Works, and needs a look.
    Warn,
    /// Something does not work.
    Error,
}

impl Level {
    /// The word in a line.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line.
    Json,
    /// Words.
    Words,
}

static FORM: OnceLock<Form> = OnceLock::new();
static QUIET: AtomicBool = AtomicBool::new(false);

/// From now on only errors are said: for commands that tell something else themselves.
pub fn set_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Fixes the form; the first call counts. Without one, the form follows from stderr.
pub fn set_form(form: Form) {
    let _ = FORM.set(form);
}

fn form() -> Form {
    *FORM.get_or_init(|| match std::io::stderr().is_terminal() {
        true => Form::Words,
        false => Form::Json,
    })
}

/// One line in the making; [`Line::write`] says it.
#[derive(Debug, Clone)]
#[must_use = "a line is said by write()"]
pub struct Line {
    level: Level,
    event: &'static str,
    message: String,
    fields: Map<String, Value>,
}

/// A line about `event`.
pub fn line(level: Level, event: &'static str, message: impl Into<String>) -> Line {
    Line { level, event, message: message.into(), fields: Map::new() }
}

/// A line that all is well.
pub fn info(event: &'static str, message: impl Into<String>) -> Line {
    line(Level::Info, event, message)
}

/// A line that wants a look.
pub fn warn(event: &'static str, message: impl Into<String>) -> Line {
    line(Level::Warn, event, message)
}

/// A line about a failure.
pub fn error(event: &'static str, message: impl Into<String>) -> Line {
    line(Level::Error, event, message)
}

impl Line {
    /// Adds a field.
    pub fn field(mut self, name: &'static str, value: impl Into<Value>) -> Line {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// The line in `form`, with its line feed.
    pub fn text(&self, form: Form, now: Timestamp) -> String {
        let time = format!("{now:.9}");
        let mut out = match form {
            Form::Json => {
                let mut object = Map::new();
                object.insert("time".to_owned(), time.into());
                object.insert("level".to_owned(), self.level.as_str().into());
                object.insert("event".to_owned(), self.event.into());
                object.insert("message".to_owned(), self.message.as_str().into());
                object.extend(self.fields.clone());
                Value::Object(object).to_string()
            }
            Form::Words => {
                let mut out = format!("{} {:5} {}", &time[11..23], self.level.as_str(), self.event);
                let _ = write!(out, ": {}", escape(&self.message));
                for (name, value) in &self.fields {
                    let text = match value {
                        Value::String(text) => escape(text),
                        other => escape(&other.to_string()),
                    };
                    let _ = write!(out, " {name}={text}");
                }
                out
            }
        };
        out.push('\n');
        out
    }

    /// Says it on stderr.
    pub fn write(self) {
        if QUIET.load(Ordering::Relaxed) && self.level != Level::Error {
            return;
        }
        let text = self.text(form(), Timestamp::now());
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_both_forms() {
        let now = "2026-11-22T08:00:00.5Z".parse().unwrap();
        let line = info("ready", "listening").field("addresses", vec!["127.0.0.1:1"]);
        let json: Value = serde_json::from_str(&line.text(Form::Json, now)).unwrap();
        assert_eq!(json["time"], "2026-11-22T08:00:00.500000000Z");
        assert_eq!(json["event"], "ready");
        assert_eq!(json["addresses"][0], "127.0.0.1:1");
        let words = line.text(Form::Words, now);
        assert_eq!(words, "08:00:00.500 info  ready: listening addresses=[\"127.0.0.1:1\"]\n");
    }

    /// Mutant: `text` that writes the message as it is.
    #[test]
    fn no_control_character_reaches_a_terminal() {
        let line = error("x", "a\u{1b}[2J\nb\u{202e}c\u{200b}").field("f", "\u{9b}");
        let text = line.text(Form::Words, Timestamp::UNIX_EPOCH);
        assert!(text.trim_end().chars().all(|c| !c.is_control() && c.is_ascii()), "{text:?}");
        let json = line.text(Form::Json, Timestamp::UNIX_EPOCH);
        assert_eq!(json.lines().count(), 1);
    }
}
