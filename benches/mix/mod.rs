//! Entries as the gateway writes them for everyday traffic: calls of tools with all that is recorded
//! of them (subject, verdicts, four heads, bodies or events, end).
//!
//! Answers are pieces of source files (this repository's), rows of JSON with ids and times, logs, and
//! plain text; log-uniform from 1 KiB to 16 KiB; one call in eight is answered by a stream of events.
//! Requests are 256 B to 4 KiB. Twenty-four callers take turns. Nothing repeats within the window of
//! the compressor but what repeats in real traffic: heads, subjects, verdicts, the words of a language.

use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use stenograph::record::{Entry, Kind, PartKind};
use stenograph::types::{ExchangeId, Now, SessionId};

/// A small generator (xorshift64); nothing depends on its quality.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.roll() >> 8) % bound
    }

    /// From `low` to `low << doublings`, each doubling as likely as the others.
    fn size(&mut self, low: usize, doublings: u64) -> usize {
        let base = low << self.below(doublings);
        base + self.below(base as u64) as usize
    }
}

const WORDS: &[&str] = &[
    "the", "order", "of", "customer", "and", "invoice", "was", "changed", "in", "a", "release",
    "by", "deploy", "cluster", "for", "review", "branch", "is", "window", "account", "total", "to",
    "number", "please", "update", "service", "that", "north", "river", "yellow", "quick", "with",
    "generate", "handler", "module", "request", "return", "value", "import", "field", "public",
    "static", "widget", "commit", "build", "failed", "passed", "after", "before", "because",
];

/// All source files of this repository, one after the other.
fn sources() -> String {
    fn gather(directory: &Path, out: &mut Vec<String>) {
        let mut paths: Vec<_> = std::fs::read_dir(directory)
            .expect("sources are there")
            .map(|entry| entry.expect("readable").path())
            .collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                gather(&path, out);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                out.push(std::fs::read_to_string(&path).expect("text"));
            }
        }
    }
    let mut files = Vec::new();
    gather(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    files.concat()
}

struct Texts {
    dice: Dice,
    source: String,
    at: usize,
}

impl Texts {
    fn words(&mut self, bytes: usize) -> String {
        let mut out = String::new();
        while out.len() < bytes {
            match self.dice.below(12) {
                0 => write!(out, "{} ", self.dice.below(100_000)),
                1 => write!(out, "{:08x} ", self.dice.roll() as u32),
                _ => write!(out, "{} ", WORDS[self.dice.below(WORDS.len() as u64) as usize]),
            }
            .expect("memory");
        }
        out
    }

    fn rows(&mut self, bytes: usize) -> String {
        let mut out = String::from("[");
        while out.len() < bytes {
            let (id, other) = (self.dice.roll(), self.dice.roll());
            let name = self.words(24);
            write!(
                out,
                r#"{{"id":"{id:016x}","title":"{name}","state":"open","author":{{"id":{},"login":"user{}"}},"updated_at":"2026-11-{:02}T{:02}:{:02}:{:02}Z","score":{}.{}}},"#,
                other % 1_000_000,
                other % 500,
                1 + id % 28,
                id % 24,
                id % 60,
                other % 60,
                id % 100,
                other % 1000,
            )
            .expect("memory");
        }
        out.push_str("null]");
        out
    }

    fn log(&mut self, bytes: usize) -> String {
        let mut out = String::new();
        while out.len() < bytes {
            let roll = self.dice.roll();
            let text = self.words(40);
            writeln!(
                out,
                "2026-11-22T08:{:02}:{:02}.{:03}Z INFO worker-{} request={:08x} took={}ms {text}",
                roll % 60,
                roll / 60 % 60,
                roll % 1000,
                roll % 8,
                roll >> 32,
                roll % 900
            )
            .expect("memory");
        }
        out
    }

    fn source(&mut self, bytes: usize) -> String {
        // Why an odd stride: the next piece is from elsewhere, and the same one comes back late.
        self.at = (self.at + 300_007) % (self.source.len() - 40_000);
        let cut = |mut at: usize| {
            while !self.source.is_char_boundary(at) {
                at += 1;
            }
            at
        };
        let (start, end) = (cut(self.at), cut(self.at + bytes));
        self.source[start..end].to_owned()
    }

    fn any(&mut self, bytes: usize) -> String {
        match self.dice.below(4) {
            0 => self.words(bytes),
            1 => self.rows(bytes),
            2 => self.log(bytes),
            _ => self.source(bytes),
        }
    }
}

struct Caller {
    subject: Bytes,
    session: SessionId,
    head_in: String,
    source: String,
}

fn callers(dice: &mut Dice) -> Vec<Caller> {
    (0..24u64)
        .map(|number| {
            let subject = format!(
                r#"{{"issuer":"https://login.example.com","subject":"user{number}@example.com","client":"ide","token_id":"{:016x}","key_id":"2026-11","key_thumbprint":"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs","expires":"2026-11-22T09:{number:02}:00Z","upstream":"codegen"}}"#,
                dice.roll()
            );
            let mut session = [0; 10];
            session[..8].copy_from_slice(&dice.roll().to_le_bytes());
            let head_in = format!(
                "POST /codegen HTTP/1.1\r\nHost: mcp.example.com\r\nAuthorization: {}\r\n\
                 Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
                 Accept-Encoding: gzip, deflate, br\r\nUser-Agent: python-httpx/0.28.1\r\n\
                 Mcp-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: {:032x}\r\n",
                "*".repeat(800),
                u128::from(dice.roll()) << 64 | u128::from(dice.roll()),
            );
            let source = format!("10.0.{number}.7:{}", 32_768 + dice.below(28_000));
            let session = SessionId::from_bytes(session);
            Caller { subject: subject.into(), session, head_in, source }
        })
        .collect()
}

const TOOLS: &[&str] =
    &["read_file", "search_issues", "run_tests", "generate_code", "query", "echo"];

/// Everything that is recorded of `count` calls.
pub fn calls(count: u32) -> Vec<Entry> {
    let mut texts = Texts { dice: Dice(0x9e37_79b9_7f4a_7c15), source: sources(), at: 0 };
    let callers = callers(&mut texts.dice);
    let mut entries = Vec::new();
    for number in 0..count {
        let caller = &callers[texts.dice.below(24) as usize];
        let tool = TOOLS[texts.dice.below(TOOLS.len() as u64) as usize];
        let utc_ns = 1_795_000_000_000_000_000 + u64::from(number) * 91_337;
        let exchange = ExchangeId::new(utc_ns, 0, number, texts.dice.roll());
        let make = |kind, ordinal: u32, status| {
            let mono_ns = 77_000_000_000_000 + u64::from(number) * 91_337 + u64::from(ordinal);
            let mut entry =
                Entry::new(kind, Now { utc_ns: utc_ns + u64::from(ordinal) * 31_000, mono_ns });
            entry.exchange = Some(exchange);
            entry.session = Some(caller.session);
            entry.ordinal = ordinal;
            entry.status = status;
            entry
        };
        let request_bytes = texts.dice.size(256, 4);
        let arguments = texts.any(request_bytes);
        let request = serde_json::json!({
            "jsonrpc": "2.0", "id": number, "method": "tools/call",
            "params": { "name": tool, "arguments": { "text": arguments } },
        })
        .to_string();
        let verdict = |direction: &str, status: &str| {
            format!(
                r#"{{"direction":"{direction}","decision":"allowed",{status}"era":"handshake","http":"POST","method":"tools/call","targets":[{{"kind":"tool","name":"{tool}"}}],"id":"{number}","grant":0,"upstream":"codegen","source":"{}","session_rule":"mcp-session","edited":false,"filtered":false}}"#,
                caller.source
            )
        };
        let head_in = format!("{}Content-Length: {}\r\n\r\n", caller.head_in, request.len());
        let head_out = format!(
            "POST /mcp HTTP/1.1\r\nHost: 10.1.0.3:42301\r\nAccept: application/json, \
             text/event-stream\r\nAccept-Encoding: identity\r\nMcp-Session-Id: {:x?}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            caller.session.to_string(),
            request.len()
        );
        entries.push(
            make(Kind::Request, 0, 0)
                .part(PartKind::Subject, caller.subject.clone())
                .part(PartKind::Verdict, verdict("request", ""))
                .part(PartKind::HeadIn, head_in)
                .part(PartKind::HeadOut, head_out)
                .part(PartKind::Body, request),
        );
        let streamed = texts.dice.below(8) == 0;
        let answer_bytes = texts.dice.size(1024, 4);
        let text = texts.any(answer_bytes);
        let answer = serde_json::json!({
            "jsonrpc": "2.0", "id": number,
            "result": { "content": [{ "type": "text", "text": text }], "isError": false },
        })
        .to_string();
        let media = if streamed { "text/event-stream" } else { "application/json" };
        let length = match streamed {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {}", answer.len()),
        };
        let answer_in = format!(
            "HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 06:51:{:02} GMT\r\nserver: uvicorn\r\n\
             content-type: {media}\r\n{length}\r\n\r\n",
            number / 100 % 60
        );
        let answer_out = format!(
            "HTTP/1.1 200 OK\r\nStenograph-Exchange: {exchange}\r\nContent-Type: {media}\r\n\
             {length}\r\nCache-Control: private, no-store\r\n\r\n"
        );
        let response = verdict("response", r#""status":200,"#);
        let mut ordinal = 1;
        if streamed {
            entries.push(
                make(Kind::StreamOpen, ordinal, 200)
                    .part(PartKind::Verdict, response.clone())
                    .part(PartKind::HeadIn, answer_in)
                    .part(PartKind::HeadOut, answer_out),
            );
            for step in 0..texts.dice.below(6) {
                let message = texts.words(60);
                let event = format!(
                    "event: message\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":{number},\"progress\":{step},\"message\":\"{message}\"}}}}\n\n"
                );
                ordinal += 1;
                entries.push(
                    make(Kind::Event, ordinal, 0)
                        .part(PartKind::Verdict, response.clone())
                        .part(PartKind::Body, event),
                );
            }
            ordinal += 1;
            entries.push(
                make(Kind::Event, ordinal, 0)
                    .part(PartKind::Verdict, response)
                    .part(PartKind::Body, format!("event: message\ndata: {answer}\n\n")),
            );
        } else {
            entries.push(
                make(Kind::Answer, ordinal, 200)
                    .part(PartKind::Verdict, response)
                    .part(PartKind::HeadIn, answer_in)
                    .part(PartKind::HeadOut, answer_out)
                    .part(PartKind::Body, answer),
            );
        }
        ordinal += 1;
        let end = format!(
            r#"{{"status":200,"outcome":"complete","sent_bytes":{},"client_bytes":{},"upstream_bytes":{},"entries":{},"duration_ns":{}}}"#,
            answer_bytes + 311,
            request_bytes + 911,
            answer_bytes + 170,
            ordinal + 1,
            150_000 + texts.dice.below(900_000)
        );
        entries.push(make(Kind::End, ordinal, 200).part(PartKind::Detail, end));
    }
    entries
}

/// Bytes of all bodies and events: the payload.
pub fn payload_bytes(entries: &[Entry]) -> usize {
    let parts = entries.iter().flat_map(|entry| &entry.parts);
    parts.filter(|part| part.kind == PartKind::Body).map(|part| part.bytes.len()).sum()
}
