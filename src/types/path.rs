//! Where in a message something stands: a JSON Pointer (RFC 6901) whose free names can be left out.

use std::fmt::Write as _;

/// Bound: steps that are told. A finding deeper down is told by the place of what it stands in.
const STEPS_MAX: usize = 16;
/// Bound: characters that are told of a name.
const NAME_CHARS_MAX: usize = 48;

/// Member names that MCP itself gives to what holds text (schemas of 2025-03-26 to 2026-07-28). They say
/// nothing about a caller or a server, so they are told where bodies are not kept in clear too.
const WORDS: &[&str] = &[
    "_meta",
    "annotations",
    "arguments",
    "blob",
    "clientInfo",
    "completion",
    "content",
    "contents",
    "cursor",
    "data",
    "default",
    "description",
    "elicitation",
    "enum",
    "error",
    "icons",
    "id",
    "inputRequests",
    "inputResponses",
    "inputSchema",
    "instructions",
    "items",
    "jsonrpc",
    "logger",
    "message",
    "messages",
    "method",
    "mimeType",
    "model",
    "name",
    "nextCursor",
    "outputSchema",
    "params",
    "progressToken",
    "prompt",
    "prompts",
    "properties",
    "requestState",
    "requestedSchema",
    "resource",
    "resourceTemplates",
    "resources",
    "result",
    "role",
    "serverInfo",
    "structuredContent",
    "systemPrompt",
    "task",
    "taskId",
    "tasks",
    "text",
    "title",
    "tools",
    "type",
    "uri",
    "uriTemplate",
    "url",
    "value",
    "values",
    "version",
];

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Element of a list, from 0.
    Index(u32),
    /// A member that MCP names.
    Word(&'static str),
    /// Another member, as far as it is told.
    Name(Box<str>),
    /// A member whose name holds something that was found.
    Hidden,
}

impl Step {
    /// The member called `name`.
    pub fn member(name: &str) -> Step {
        if let Ok(at) = WORDS.binary_search(&name) {
            return Step::Word(WORDS[at]);
        }
        match name.char_indices().nth(NAME_CHARS_MAX) {
            Some((end, _)) => Step::Name(format!("{}…", &name[..end]).into()),
            None => Step::Name(name.into()),
        }
    }
}

/// The steps from the message down to a value. Never holds the value, nor a name in which something was
/// found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JsonPath {
    steps: Vec<Step>,
    /// There are more steps than are told.
    more: bool,
}

impl JsonPath {
    /// One step more.
    pub fn push(&mut self, step: Step) {
        match self.steps.len() < STEPS_MAX {
            true => self.steps.push(step),
            false => self.more = true,
        }
    }

    /// The path `path`, from below the steps of `above`.
    pub fn below(above: impl IntoIterator<Item = Step>, path: &JsonPath) -> JsonPath {
        let mut below = JsonPath::default();
        above.into_iter().chain(path.steps.iter().cloned()).for_each(|step| below.push(step));
        below.more |= path.more;
        below
    }

    /// As a JSON Pointer; empty for the whole message. `*` stands for a name that is not told: where
    /// `names` is false, every one that MCP does not give. `…` stands for what is over a bound.
    pub fn text(&self, names: bool) -> String {
        let mut out = String::new();
        for step in &self.steps {
            out.push('/');
            match step {
                Step::Index(index) => {
                    write!(out, "{index}").expect("writing to memory does not fail");
                }
                Step::Word(word) => out.push_str(word),
                Step::Name(name) if names => {
                    for c in name.chars() {
                        match c {
                            '~' => out.push_str("~0"),
                            '/' => out.push_str("~1"),
                            _ => out.push(c),
                        }
                    }
                }
                Step::Name(_) | Step::Hidden => out.push('*'),
            }
        }
        if self.more {
            out.push_str("/…");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_pointer_and_its_names_can_be_left_out() {
        assert!(WORDS.is_sorted(), "looked up by halves");
        let mut path = JsonPath::default();
        for step in [
            Step::member("result"),
            Step::member("content"),
            Step::Index(3),
            Step::member("a/b~c"),
            Step::Hidden,
        ] {
            path.push(step);
        }
        assert_eq!(path.text(true), "/result/content/3/a~1b~0c/*");
        assert_eq!(path.text(false), "/result/content/3/*/*");
        for _ in 0..100 {
            path.push(Step::member(&"é".repeat(100)));
        }
        let text = path.text(true);
        assert!(text.ends_with("é…/…") && text.chars().count() < 800, "{text}");
    }
}
