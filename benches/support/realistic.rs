//! Messages as servers of MCP send them: code, documents, search results, logs, rows, lists of tools, progress.
//!
//! Code and documents are this repository's own; the rest is made from a seed. Nothing of it holds a secret, though
//! some look like one: numbers of orders, digests, a mail address now and then.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::text::{self, Seed};

/// Words of titles, logs and descriptions, a few that belong to secrets among them.
const WORDS: &[&str] = &[
    "the", "a", "of", "to", "and", "in", "for", "is", "on", "that", "with", "this", "when", "from",
    "not", "build", "request", "failed", "returns", "server", "list", "issue", "branch", "merge",
    "update", "file", "error", "page", "result", "query", "user", "project", "status", "after",
    "before", "retry", "cache", "index", "queue", "worker", "open", "closed", "assigned", "review",
    "comment", "title", "number", "items", "search", "default", "limit", "optional", "string",
    "value", "field", "table", "row", "column", "deploy", "release", "version", "test", "token",
    "key", "account", "customer", "order", "invoice", "region", "cluster", "node", "memory",
    "disk", "latency",
];

fn prose(seed: &mut Seed, words: usize) -> String {
    (0..words).map(|_| seed.pick(WORDS)).collect::<Vec<_>>().join(" ")
}

/// The texts that code and documents are cut from.
pub struct Source {
    code: Vec<String>,
    documents: Vec<String>,
}

fn files(folder: &Path, ending: &str, out: &mut Vec<PathBuf>) {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the repository can be read")
        .map(|entry| entry.expect("the repository can be read").path())
        .collect();
    found.sort();
    for path in found {
        if path.is_dir() {
            files(&path, ending, out);
        } else if path.extension().is_some_and(|it| it == ending) {
            out.push(path);
        }
    }
}

impl Source {
    /// Reads them.
    pub fn read() -> Source {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut code = vec![];
        files(&root.join("src/wire"), "rs", &mut code);
        files(&root.join("src/worker"), "rs", &mut code);
        files(&root.join("tests/sdk"), "py", &mut code);
        code.retain(|path| !path.components().any(|part| part.as_os_str() == "node_modules"));
        let read = |paths: Vec<PathBuf>| -> Vec<String> {
            let text = |path| std::fs::read_to_string(path).expect("a text of the repository");
            paths.into_iter().map(text).collect()
        };
        let documents = read(vec![root.join("README.md"), root.join("CHANGELOG.md")]);
        Source { code: read(code), documents }
    }

    /// A piece of about `bytes` bytes, whole lines.
    fn piece(seed: &mut Seed, from: &[String], bytes: usize) -> String {
        let mut out = String::new();
        while out.len() < bytes {
            let text = &from[seed.below(from.len())];
            let lines: Vec<&str> = text.lines().collect();
            let first = seed.below(lines.len());
            for line in &lines[first..] {
                out.push_str(line);
                out.push('\n');
                if out.len() >= bytes {
                    break;
                }
            }
        }
        out
    }

    /// One message with about `bytes` bytes of content.
    pub fn message(&self, seed: &mut Seed, bytes: usize) -> String {
        let answer = |seed: &mut Seed, result: Value| {
            json!({"jsonrpc": "2.0", "id": seed.number(1, 9999), "result": result}).to_string()
        };
        let text =
            |text: String| json!({"content": [{"type": "text", "text": text}], "isError": false});
        match seed.below(20) {
            0..=5 => {
                let code = Source::piece(seed, &self.code, bytes);
                answer(seed, text(code))
            }
            6..=8 => {
                let document = Source::piece(seed, &self.documents, bytes);
                answer(seed, text(document))
            }
            9 | 10 => {
                let mut found = String::new();
                while found.len() < bytes {
                    let line = Source::piece(seed, &self.code, 1);
                    let (number, folder) = (seed.number(1, 900), seed.below(30));
                    found.push_str(&format!("src/wire/part{folder}/mod.rs:{number}:{line}"));
                }
                answer(seed, text(found))
            }
            11 | 12 => {
                let mut log = String::new();
                while log.len() < bytes {
                    let (second, milli, worker) =
                        (seed.below(60), seed.below(1000), seed.below(32));
                    let words = prose(seed, 9);
                    let took = seed.number(1, 9999);
                    log.push_str(&format!(
                        "2026-11-22T08:14:{second:02}.{milli:03}Z INFO worker={worker} {words} took={took}ms\n"
                    ));
                }
                answer(seed, text(log))
            }
            13..=15 => {
                let mut rows = vec![];
                let mut length = 0;
                while length < bytes {
                    let row = json!({
                        "id": seed.number(1, 1_000_000), "key": text::uuid(seed), "title": prose(seed, 6),
                        "state": seed.pick(&["open", "closed", "merged"]), "labels": [prose(seed, 1), prose(seed, 1)],
                        "created_at": format!("2026-{:02}-{:02}T10:00:00Z", seed.number(1, 13), seed.number(1, 29)),
                        "amount": seed.number(1, 100_000) as f64 / 100.0, "owner": null
                    });
                    length += row.to_string().len();
                    rows.push(row);
                }
                // The same twice: as text for a model, and as it is.
                let rows = json!(rows);
                answer(
                    seed,
                    json!({"content": [{"type": "text", "text": rows.to_string()}], "structuredContent": {"rows": rows}}),
                )
            }
            16 => {
                let mut tools = vec![];
                let mut length = 0;
                while length < bytes {
                    let properties = json!({
                        "query": {"type": "string", "description": prose(seed, 12)},
                        "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
                    });
                    let tool = json!({
                        "name": format!("{}_{}", prose(seed, 1), seed.below(99)), "description": prose(seed, 30),
                        "inputSchema": {"type": "object", "properties": properties, "required": ["query"]},
                        "annotations": {"readOnlyHint": true}
                    });
                    length += tool.to_string().len();
                    tools.push(tool);
                }
                answer(seed, json!({"tools": tools}))
            }
            17 => {
                let data = prose(seed, bytes / 6 + 1);
                json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "logger": "build", "data": data}})
                    .to_string()
            }
            18 => {
                let arguments = json!({"path": "src/main.rs", "content": Source::piece(seed, &self.code, bytes)});
                json!({"jsonrpc": "2.0", "id": seed.number(1, 9999), "method": "tools/call", "params": {"name": "write_file", "arguments": arguments}})
                    .to_string()
            }
            _ => {
                let data = seed.of(text::BASE64, bytes.next_multiple_of(4));
                answer(
                    seed,
                    json!({"content": [{"type": "image", "mimeType": "image/png", "data": data}]}),
                )
            }
        }
    }
}
