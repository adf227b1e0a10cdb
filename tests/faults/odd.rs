//! MCP servers that misbehave on their connections, and a log of what reached them.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What reached the server.
#[derive(Default)]
pub struct Log {
    calls: Mutex<Vec<String>>,
    connections: AtomicU64,
}

impl Log {
    /// Reads up to the empty line; gives what came behind it, and the length of the body.
    pub fn receive_head(&self, stream: &mut TcpStream) -> Option<(Vec<u8>, usize)> {
        let mut bytes = Vec::new();
        loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
                let length = head.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
                return Some((bytes.split_off(at + 4), length));
            }
            more(stream, &mut bytes)?;
        }
    }

    /// Reads one request and remembers its body; `None` at the end.
    pub fn receive(&self, stream: &mut TcpStream) -> Option<String> {
        let (mut body, length) = self.receive_head(stream)?;
        while body.len() < length {
            more(stream, &mut body)?;
        }
        let behind = body.split_off(length);
        let body = String::from_utf8_lossy(&body).into_owned();
        let mut calls = self.calls.lock().unwrap();
        calls.push(body.clone());
        if !behind.is_empty() {
            // Nobody pipelines here: what stands behind a request was sent too much, and counts.
            calls.push(String::from_utf8_lossy(&behind).into_owned());
        }
        Some(body)
    }
}

fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 16 * 1024];
    let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
    bytes.extend_from_slice(&chunk[..read]);
    Some(())
}

/// A server whose connections are all treated in one odd way. Runs until the test ends.
pub struct Odd {
    address: SocketAddr,
    log: Arc<Log>,
}

impl Odd {
    pub fn start(treat: impl Fn(TcpStream, u64, &Log) + Send + Sync + 'static) -> Odd {
        Odd::start_at("127.0.0.1:0".parse().unwrap(), treat)
    }

    /// `treat` gets each connection and its number, from 0.
    pub fn start_at(
        address: SocketAddr,
        treat: impl Fn(TcpStream, u64, &Log) + Send + Sync + 'static,
    ) -> Odd {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let shared = log.clone();
        let treat = Arc::new(treat);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, treat) = (shared.clone(), treat.clone());
                let number = log.connections.fetch_add(1, Ordering::AcqRel);
                std::thread::spawn(move || treat(stream, number, &log));
            }
        });
        Odd { address, log }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    pub fn calls(&self) -> Vec<String> {
        self.log.calls.lock().unwrap().clone()
    }

    pub fn connections(&self) -> u64 {
        self.log.connections.load(Ordering::Acquire)
    }
}

fn answer(id: &str, text: &str) -> Vec<u8> {
    let body = serde_json::json!({ "content": [{ "type": "text", "text": text }] });
    let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{body}}}");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
    format!("{head}{}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The answer to a call: its id and its text again.
pub fn answer_to(body: &str) -> Vec<u8> {
    let call: serde_json::Value = serde_json::from_str(body).unwrap();
    let text = call["params"]["arguments"]["text"].as_str().unwrap();
    answer(&call["id"].to_string(), text)
}

/// An answer that nobody asked for.
pub fn stray(id: &str) -> Vec<u8> {
    answer(id, "stray")
}

/// One that fits the call that will come next.
pub fn stray_after(body: &str) -> Vec<u8> {
    let call: serde_json::Value = serde_json::from_str(body).unwrap();
    stray(&(call["id"].as_u64().unwrap() + 1).to_string())
}
