//! A server that answers one message after the other, each as the test says.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;

use serde_json::Value;

use super::{field, listen, read_head, read_up_to};

/// What a server says to a head and a message.
type Answers = dyn Fn(&[u8], &Value) -> Option<Vec<u8>>;

/// Starts it. `answers` gets the head and the message of a request (null when there is none), and gives the whole
/// answer, or nothing to end the connection. Each connection has a thread of its own.
pub fn start(
    answers: impl Fn(&[u8], &Value) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> SocketAddr {
    let (listener, address) = listen();
    let answers = Arc::new(answers);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answers = Arc::clone(&answers);
            thread::spawn(move || serve(stream, &*answers));
        }
    });
    address
}

fn serve(mut stream: TcpStream, answers: &Answers) -> Option<()> {
    let mut kept = Vec::new();
    while let Ok(Some(head)) = read_head(&mut stream, &mut kept) {
        let length = field(&head, "content-length").map_or(Ok(0), str::parse).ok()?;
        read_up_to(&mut stream, &mut kept, length).ok()?;
        let message = serde_json::from_slice(&kept[..length]).unwrap_or_default();
        kept.drain(..length);
        stream.write_all(&answers(&head, &message)?).ok()?;
    }
    Some(())
}

/// A JSON-RPC result for the message it answers.
pub fn result(message: &Value, result: Value) -> String {
    serde_json::json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string()
}

/// An answer of JSON.
pub fn json(body: &str) -> Vec<u8> {
    whole("application/json", "", body)
}

/// An answer with this media type, these further fields (each with its line end), and this body.
pub fn whole(media: &str, fields: &str, body: &str) -> Vec<u8> {
    let bytes = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {media}\r\n{fields}Content-Length: {bytes}\r\n\r\n{body}"
    )
    .into_bytes()
}
