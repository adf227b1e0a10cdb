//! A small MCP server on loopback whose code generator leaks a credential: the upstream of the demo,
//! and of tests that need to know exactly what an upstream received.
//!
//! Handshake era (2025-11-25) with sessions, and calls of the modern era without. Blocking sockets, one
//! thread for each connection. It is no product: it trusts everybody, as servers behind a gateway often
//! do.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::limits::Limits;
use crate::wire::Read as WireRead;
use crate::wire::body::{Decoder, Step};
use crate::wire::head::{self, Fields, Method};

/// What the server leaks: made for one run, shaped like the real thing.
#[derive(Debug, Clone)]
pub struct Leak {
    /// An AWS access key id.
    pub aws_key_id: String,
    /// A GitHub token with a true checksum.
    pub github_token: String,
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The head, as it came.
    pub head: String,
    /// The body, as it came.
    pub body: Vec<u8>,
}

struct State {
    leak: Leak,
    seen: Mutex<Vec<Seen>>,
    sessions: AtomicU64,
    open_streams: AtomicU64,
    stop: AtomicBool,
}

/// A running server; dropping it stops it.
pub struct McpServer {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl McpServer {
    /// Starts one on a free port of 127.0.0.1.
    pub fn start(leak: Leak) -> io::Result<McpServer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            leak,
            seen: Mutex::default(),
            sessions: AtomicU64::new(0),
            open_streams: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let shared = state.clone();
        let thread = std::thread::Builder::new().name("demo-mcp".into()).spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::Acquire) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let shared = shared.clone();
                let _ = std::thread::Builder::new()
                    .name("demo-mcp-connection".into())
                    .spawn(move || drop(serve(stream, &shared)));
            }
        })?;
        Ok(McpServer { address, state, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The MCP endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Every request that arrived so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Streams that callers hold open now.
    pub fn open_streams(&self) -> u64 {
        self.state.open_streams.load(Ordering::Acquire)
    }
}

impl Drop for McpServer {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Release);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Head, what it says, and body.
type Received = (Vec<u8>, head::Request, Vec<u8>);

/// Reads one request; `None` when the peer has ended.
fn receive(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    fields: &mut Fields,
) -> io::Result<Option<Received>> {
    let limits = Limits::default();
    let mut chunk = [0; 16 * 1024];
    let (head, request) = loop {
        match head::read_request(buffer, &limits, fields) {
            WireRead::Done { value, used } => {
                let rest = buffer.split_off(used);
                break (std::mem::replace(buffer, rest), value);
            }
            WireRead::More => {}
            WireRead::Broken(fault) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, fault.to_string()));
            }
        }
        let bytes = stream.read(&mut chunk)?;
        if bytes == 0 {
            return Ok(None);
        }
        buffer.extend_from_slice(&chunk[..bytes]);
    };
    let mut decoder = Decoder::new(request.framing);
    let mut body = Vec::new();
    loop {
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
        match decoder.step(buffer).map_err(invalid)? {
            Step::Data(span) => {
                body.extend_from_slice(span.of(buffer));
                buffer.drain(..span.end());
            }
            Step::Skip(used) => drop(buffer.drain(..used)),
            Step::End { used } => {
                buffer.drain(..used);
                return Ok(Some((head, request, body)));
            }
            Step::More => {
                let bytes = stream.read(&mut chunk)?;
                if bytes == 0 {
                    return Ok(None);
                }
                buffer.extend_from_slice(&chunk[..bytes]);
            }
        }
    }
}

fn serve(mut stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    let mut fields = Fields::new();
    while let Some((head, request, body)) = receive(&mut stream, &mut buffer, &mut fields)? {
        state
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Seen { head: String::from_utf8_lossy(&head).into_owned(), body: body.clone() });
        match request.method {
            Method::Post => {
                post(&mut stream, state, &body)?;
            }
            Method::Get => return events(&mut stream, state),
            Method::Delete => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
            }
            Method::Options => {
                stream
                    .write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")?;
            }
        }
    }
    Ok(())
}

fn post(stream: &mut TcpStream, state: &State, body: &[u8]) -> io::Result<()> {
    let message: Value =
        serde_json::from_slice(body).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let Some(id) = message.get("id").cloned() else {
        return stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
    };
    let method = message["method"].as_str().unwrap_or_default();
    let name = message["params"]["name"].as_str().unwrap_or_default();
    if method == "tools/call" && name == "build_project" {
        return progress(stream, &id, &message["params"]["_meta"]["progressToken"]);
    }
    let mut fields = String::new();
    let result = match method {
        "initialize" => {
            let session = state.sessions.fetch_add(1, Ordering::AcqRel);
            fields = format!("Mcp-Session-Id: demo-session-{session}\r\n");
            json!({
                "protocolVersion": "2025-11-25",
                "capabilities": { "tools": {}, "logging": {} },
                "serverInfo": { "name": "demo-codegen", "version": "1.0.0" },
            })
        }
        "ping" => json!({}),
        "tools/list" => json!({ "tools": tools() }),
        "tools/call" => match call(state, name, &message["params"]["arguments"]) {
            Some(result) => result,
            None => return error(stream, &id, -32602, "Unknown tool"),
        },
        _ => return error(stream, &id, -32601, "Method not found"),
    };
    let answer = json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{fields}Content-Length: {}\r\n\r\n{answer}",
        answer.len()
    )
}

fn error(stream: &mut TcpStream, id: &Value, code: i32, message: &str) -> io::Result<()> {
    let error = json!({ "code": code, "message": message });
    let answer = json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    )
}

fn tools() -> Value {
    let text = |name: &str, what: &str| {
        json!({
            "name": name,
            "description": what,
            "inputSchema": { "type": "object", "properties": { "text": { "type": "string" } } },
        })
    };
    json!([
        text("generate_code", "Generates a client for an internal service"),
        text("echo", "Says what it was told"),
        text("build_project", "Builds, with progress"),
        text("deploy_production", "Deploys to production"),
    ])
}

fn call(state: &State, name: &str, arguments: &Value) -> Option<Value> {
    let text = match name {
        "generate_code" => {
            let Leak { aws_key_id, github_token } = &state.leak;
            format!(
                "import boto3\n\n# TODO remove before review\nclient = boto3.client(\n    \"s3\",\n    \
                 aws_access_key_id=\"{aws_key_id}\",\n)\nGITHUB_TOKEN = \"{github_token}\"\n"
            )
        }
        "echo" => arguments["text"].as_str().unwrap_or_default().to_owned(),
        "deploy_production" => "deployed".to_owned(),
        _ => return None,
    };
    Some(json!({ "content": [{ "type": "text", "text": text }] }))
}

/// An answer as a stream: progress, then the result.
fn progress(stream: &mut TcpStream, id: &Value, token: &Value) -> io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    for step in 1..=3 {
        if !token.is_null() {
            let params = json!({ "progressToken": token, "progress": step, "total": 3 });
            event(
                stream,
                &json!({
                    "jsonrpc": "2.0", "method": "notifications/progress", "params": params,
                }),
            )?;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let content = json!([{ "type": "text", "text": "built" }]);
    event(stream, &json!({ "jsonrpc": "2.0", "id": id, "result": { "content": content } }))?;
    stream.write_all(b"0\r\n\r\n")
}

fn event(stream: &mut TcpStream, message: &Value) -> io::Result<()> {
    let text = format!("event: message\ndata: {message}\n\n");
    write!(stream, "{:x}\r\n{text}\r\n", text.len())
}

/// The stream that a client opens by GET: a log line every tenth of a second until it is closed.
fn events(stream: &mut TcpStream, state: &State) -> io::Result<()> {
    state.open_streams.fetch_add(1, Ordering::AcqRel);
    let result = (|| {
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
              Transfer-Encoding: chunked\r\n\r\n",
        )?;
        for line in 0u64.. {
            if state.stop.load(Ordering::Acquire) {
                break;
            }
            event(
                stream,
                &json!({
                    "jsonrpc": "2.0",
                    "method": "notifications/message",
                    "params": { "level": "info", "data": format!("build log line {line}") },
                }),
            )?;
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    })();
    state.open_streams.fetch_sub(1, Ordering::AcqRel);
    result
}
