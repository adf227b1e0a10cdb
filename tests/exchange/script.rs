//! A conversation as a test reads it: this arrives, that must go out, this is recorded.
//!
//! A script that is dropped before [`Script::end`] panics: a test that stops in the middle of its
//! conversation has not said what it expects.

use stenograph::gateway::connection::Event;
use stenograph::gateway::fault::Fault;
use stenograph::limits::Limits;
use stenograph::record::Kind;
use stenograph::wire::Read;
use stenograph::wire::body::{Decoder, Step};
use stenograph::wire::head::{self, Fields, Method};

use super::rig::{POISON, Rig};
use super::stage::{Plan, Recorded, Stage};

/// An answer as the client reads it.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        let data = self.body.lines().rev().find_map(|line| line.strip_prefix("data: "));
        serde_json::from_str(data.unwrap_or(&self.body)).unwrap_or_default()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Takes one whole answer off the front of `bytes`.
pub fn read_answer(bytes: &mut Vec<u8>) -> Answer {
    let mut fields = Fields::new();
    let read = head::read_response(bytes, &Limits::default(), Method::Post, &mut fields);
    let Read::Done { value, used } = read else {
        panic!("no answer in {:?}", String::from_utf8_lossy(bytes))
    };
    let head = String::from_utf8(bytes.drain(..used).collect()).unwrap();
    let mut body = Vec::new();
    let mut decoder = Decoder::of_response(value.framing);
    loop {
        match decoder.step(bytes).unwrap() {
            Step::Data(span) => {
                body.extend_from_slice(span.of(bytes));
                bytes.drain(..span.end());
            }
            Step::Skip(used) => drop(bytes.drain(..used)),
            Step::End { used } => {
                bytes.drain(..used);
                break;
            }
            Step::More => panic!("the answer is not whole: {:?}", String::from_utf8_lossy(&body)),
        }
    }
    Answer { status: value.status, head, body: String::from_utf8(body).unwrap() }
}

pub struct Script {
    pub stage: Stage,
    pub rig: Rig,
    seen_requests: usize,
    seen_entries: usize,
    finished: bool,
}

impl Script {
    pub fn new(plan: Plan) -> Script {
        let mut stage = Stage::new(plan);
        let rig = Rig::new(&mut stage);
        Script { stage, rig, seen_requests: 0, seen_entries: 0, finished: false }
    }

    fn drive(mut self) -> Script {
        self.rig.drive(&mut self.stage);
        self
    }

    /// Another client connection; what the one before it left behind is looked at first.
    pub fn reconnect(mut self) -> Script {
        assert!(self.rig.client_out.is_empty(), "{}", self.unread());
        self.rig = Rig::new(&mut self.stage);
        self.seen_requests = 0;
        self
    }

    fn unread(&self) -> String {
        String::from_utf8_lossy(&self.rig.client_out).into_owned()
    }

    // ---- what happens ----

    pub fn client(mut self, bytes: impl AsRef<[u8]>) -> Script {
        self.rig.client(bytes.as_ref());
        self.drive()
    }

    pub fn client_ends(mut self) -> Script {
        self.rig.client_ends();
        self.drive()
    }

    pub fn client_reads(mut self, reads: bool) -> Script {
        self.rig.client_reads = reads;
        self.drive()
    }

    pub fn upstream_reads(mut self, reads: bool) -> Script {
        self.rig.upstream_reads = reads;
        self.drive()
    }

    pub fn upstream_ready(mut self) -> Script {
        self.rig.upstream_ready(&mut self.stage);
        self.drive()
    }

    pub fn upstream_refused(mut self, fault: Fault) -> Script {
        self.rig.upstream_refused(&mut self.stage, fault);
        self.drive()
    }

    pub fn upstream(mut self, bytes: impl AsRef<[u8]>) -> Script {
        self.rig.upstream(bytes.as_ref());
        self.drive()
    }

    pub fn upstream_ends(mut self) -> Script {
        self.rig.upstream_ends();
        self.drive()
    }

    pub fn upstream_breaks(mut self) -> Script {
        self.rig.upstream_breaks(&mut self.stage);
        self.drive()
    }

    /// Time passes; the machine looks again.
    pub fn after_ms(mut self, ms: u64) -> Script {
        self.stage.now.utc_ns += ms * 1_000_000;
        self.stage.now.mono_ns += ms * 1_000_000;
        self.wake()
    }

    pub fn wake(mut self) -> Script {
        if !self.rig.closed {
            self.rig.event(&mut self.stage, Event::Wake);
        }
        self.drive()
    }

    /// Something around the connection changes.
    pub fn set(mut self, change: impl FnOnce(&mut Stage)) -> Script {
        change(&mut self.stage);
        self.wake()
    }

    // ---- what is expected ----

    pub fn expect_open_upstream(mut self, name: &str) -> Script {
        let (route, _) = self.rig.opens.pop_front().expect("a connection was asked for");
        assert_eq!(&*self.stage.env.settings().routes[usize::from(route)].name, name);
        self
    }

    pub fn expect_stream_upstream(mut self) -> Script {
        let (_, stream) = self.rig.opens.pop_front().expect("a connection was asked for");
        assert!(stream);
        self
    }

    /// The next request upstream holds these pieces in this order.
    pub fn expect_to_upstream(mut self, pieces: &[&str]) -> Script {
        let request = self.rig.requests.get(self.seen_requests).expect("a request went upstream");
        self.seen_requests += 1;
        in_order(&String::from_utf8_lossy(request), pieces);
        self
    }

    pub fn expect_drop(mut self, reusable: bool) -> Script {
        assert_eq!(self.rig.drops.pop_front(), Some(reusable));
        self
    }

    /// What was sent to the client since holds these pieces in this order.
    pub fn expect_to_client(mut self, pieces: &[&str]) -> Script {
        in_order(&self.unread(), pieces);
        self.rig.client_out.clear();
        self
    }

    /// One whole answer was sent to the client.
    pub fn expect_answer(mut self, status: u16, check: impl FnOnce(&Answer)) -> Script {
        let answer = read_answer(&mut self.rig.client_out);
        assert_eq!(answer.status, status, "{answer:?}");
        check(&answer);
        self
    }

    /// One whole answer with a JSON-RPC error of this code.
    pub fn expect_error(self, status: u16, code: i32) -> Script {
        self.expect_answer(status, |answer| {
            assert_eq!(answer.json()["error"]["code"], code, "{answer:?}");
        })
    }

    /// Nothing went out that was not expected before.
    pub fn expect_nothing(self) -> Script {
        assert!(self.rig.client_out.is_empty(), "{}", self.unread());
        assert_eq!(self.rig.requests.len(), self.seen_requests, "a request went upstream");
        assert!(self.rig.opens.is_empty(), "an upstream connection was asked for");
        self
    }

    /// The next entry of the record is of this kind and holds these pieces in this order.
    pub fn expect_recorded(mut self, kind: Kind, pieces: &[&str]) -> Script {
        self.stage.settle();
        let record = self.stage.record();
        let kinds: Vec<_> = record.iter().map(|entry| entry.kind).collect();
        let entry = record.get(self.seen_entries).unwrap_or_else(|| {
            panic!("no entry {} of kind {kind:?}; there are {kinds:?}", self.seen_entries)
        });
        assert_eq!(entry.kind, kind, "entry {} of {kinds:?}", self.seen_entries);
        in_order(&entry.text(), pieces);
        self.seen_entries += 1;
        self
    }

    pub fn expect_closed(self) -> Script {
        assert!(self.rig.closed || self.rig.shut, "the connection stays open");
        self
    }

    pub fn expect_open(self) -> Script {
        assert!(!self.rig.closed && !self.rig.shut, "the connection is closed");
        self
    }

    /// The conversation is over: nothing is left that was not expected.
    pub fn end(mut self) {
        self.finished = true;
        if !self.stage.stalled {
            self.stage.settle();
            check_record(&self.stage.record());
        }
        let rig = &self.rig;
        assert!(rig.client_out.is_empty(), "{}", self.unread());
        assert_eq!(rig.requests.len(), self.seen_requests, "a request went upstream");
        assert!(rig.opens.is_empty());
        assert!(!rig.requests.iter().any(|request| request.contains(&POISON)));
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if !self.finished && !std::thread::panicking() {
            panic!("the script was dropped before its end");
        }
    }
}

pub fn in_order(text: &str, pieces: &[&str]) {
    let mut rest = text;
    for piece in pieces {
        let Some(at) = rest.find(piece) else { panic!("{piece:?} is missing in {text:?}") };
        rest = &rest[at + piece.len()..];
    }
}

/// Entries of every exchange are numbered without a hole, and its end says how many there are.
pub fn check_record(record: &[Recorded]) {
    let mut counts = std::collections::HashMap::new();
    for entry in record {
        let count = counts.entry(entry.exchange).or_insert(0u32);
        assert_eq!(entry.ordinal, *count, "{:?} of {:?}", entry.kind, entry.exchange);
        *count += 1;
        if entry.kind == Kind::End {
            assert_eq!(entry.detail()["entries"], *count);
        }
    }
}

/// A POST with this body and these further fields.
pub fn post(token: &str, more: &str, body: &str) -> String {
    format!(
        "POST /codegen HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
         {more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A call of a tool.
pub fn call(token: &str, id: u32, tool: &str, text: &str) -> String {
    post(token, "", &call_body(id, tool, text))
}

pub fn call_body(id: u32, tool: &str, text: &str) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\
         \"params\":{{\"name\":\"{tool}\",\"arguments\":{{\"text\":\"{text}\"}}}}}}"
    )
}

/// The JSON answer of a server.
pub fn json_answer(more: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub fn result(id: u32, text: &str) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"content\":[{{\"type\":\"text\",\"text\":\"{text}\"}}]}}}}"
    )
}

pub const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

pub fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

pub fn event(message: &str) -> String {
    chunk(&format!("event: message\ndata: {message}\n\n"))
}

pub fn progress(step: u32) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":1,\"progress\":{step}}}}}"
    )
}
