//! Handles in a running gateway with two workers, and in the one after it: what a caller was given opens
//! for him on every worker and after a restart, and for nobody else. Judged at the upstream, by what it
//! was asked.

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use support::{Gateway, IdentityProvider, RESOURCE};

/// Connections for each question. Each goes to one of the two workers, as the kernel picks: all go to
/// the same one less than once in 30,000 runs.
const CONNECTIONS: usize = 16;

/// A server that hands out one session, one event id, one task and one state; and all it was asked.
fn start_server() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let (listener, address) = support::listen();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let heard = Arc::clone(&heard);
            thread::spawn(move || serve(stream, &heard));
        }
    });
    (address, asked)
}

fn serve(mut stream: TcpStream, heard: &Mutex<Vec<String>>) {
    let mut kept = Vec::new();
    while let Ok(Some(head)) = support::read_head(&mut stream, &mut kept) {
        let length =
            support::field(&head, "content-length").map_or(0, |text| text.parse().unwrap());
        support::read_up_to(&mut stream, &mut kept, length).unwrap();
        let body: Vec<u8> = kept.drain(..length).collect();
        let text = String::from_utf8([head, body.clone()].concat()).unwrap();
        heard.lock().unwrap().push(text);
        let message: Value = serde_json::from_slice(&body).unwrap_or_default();
        let task = json!({"taskId": "servers-task", "status": "working"});
        let result = match message["method"].as_str() {
            Some("initialize") => json!({"protocolVersion": "2025-11-25", "capabilities": {}}),
            Some("tools/call") if message["params"]["arguments"]["text"] == "ask" => {
                json!({"resultType": "input_required", "requestState": "servers-\u{e9}tat"})
            }
            Some("tools/call") => json!({"task": task}),
            _ => task,
        };
        let answer = match message["id"].is_null() {
            true => {
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 26\r\n\r\n\
                     id: servers-event\ndata: \n\n"
                    .to_owned()
            }
            false => {
                let body =
                    json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: \
                     servers-session\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// One request on a connection of its own: status, head with body.
fn ask(to: SocketAddr, method: &str, token: &str, more: &str, body: &Value) -> (u16, String) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let framing = match body.len() {
        0 => String::new(),
        length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
    };
    let mut stream = TcpStream::connect(to).expect("the gateway listens");
    let request = format!(
        "{method} /tools HTTP/1.1\r\nHost: mcp.example.test\r\nAuthorization: Bearer {token}\r\n\
         Accept: application/json, text/event-stream\r\n{more}{framing}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut seen = Vec::new();
    let (status, _) =
        support::read_answer(&mut stream, &mut Vec::new(), &mut seen).expect("answered");
    (status, String::from_utf8(seen).expect("text"))
}

fn request(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
}

/// The value behind `before` in an answer, up to `end`.
fn between(text: &str, before: &str, end: char) -> String {
    let at = text.find(before).unwrap_or_else(|| panic!("{before:?} in {text}")) + before.len();
    text[at..].split(end).next().unwrap().to_owned()
}

/// A call of the newer era; made again when it carries a state.
fn modern(state: Option<&str>) -> (String, Value) {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let mut params = json!({"name": "echo", "arguments": {"text": "ask"}, "_meta": meta});
    if let Some(state) = state {
        params["requestState"] = state.into();
    }
    let fields = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: echo\r\n";
    (fields.to_owned(), request("tools/call", params))
}

// Checked against the mutants "the owner is no part of the tag" (`tag` leaves the subject out), "the key
// of the handles is drawn at each start" (`load_keys`), and "what is not ours goes on as it came" (the
// last line of `open_task`).
#[test]
fn a_handle_opens_for_its_owner_on_every_worker_and_after_a_restart() {
    let directory = tempfile::tempdir().expect("directory");
    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    let provider = IdentityProvider::start();
    let (upstream, asked) = start_server();
    let more =
        "[[grant]]\nupstream = \"tools\"\ngroups = [\"engineering\"]\nmethods = [\"tasks/*\"]\n";
    let mut gateway =
        Gateway::prepare(&binary, directory.path(), &provider, upstream, "[0, 1]", "written", more);
    gateway.start();
    let alice = provider.token("alice", &["engineering"], RESOURCE);
    let mallory = provider.token("mallory", &["engineering"], RESOURCE);
    let to = gateway.address;

    let initialize = request("initialize", json!({"protocolVersion": "2025-11-25"}));
    let (_, answer) = ask(to, "POST", &alice, "", &initialize);
    let session = between(&answer, "Mcp-Session-Id: ", '\r');
    let in_session = format!("Mcp-Session-Id: {session}\r\n");
    let (_, answer) = ask(to, "GET", &alice, &in_session, &Value::Null);
    let event = between(&answer, "id: ", '\n');
    let start = request("tools/call", json!({"name": "echo", "arguments": {"text": "start"}}));
    let (_, answer) = ask(to, "POST", &alice, &in_session, &start);
    let task = between(&answer, "\"taskId\":\"", '"');
    let (fields, call) = modern(None);
    let (_, answer) = ask(to, "POST", &alice, &fields, &call);
    let state = between(&answer, "\"requestState\":\"", '"');
    for handle in [&session, &event, &task] {
        assert!(!handle.contains("servers"), "{handle}");
    }
    assert!(state.starts_with("servers-\u{e9}tat."), "{state}");

    for restarted in [false, true] {
        if restarted {
            assert!(gateway.stop());
            gateway.start();
        }
        for _ in 0..CONNECTIONS {
            let owned = |token: &str| {
                let resume = format!("Last-Event-ID: {event}\r\n");
                let get = request("tasks/get", json!({"taskId": task}));
                let (fields, again) = modern(Some(&state));
                [
                    (
                        "Mcp-Session-Id: servers-session",
                        ask(to, "POST", token, &in_session, &start),
                    ),
                    ("Last-Event-ID: servers-event", ask(to, "GET", token, &resume, &Value::Null)),
                    ("\"taskId\":\"servers-task\"", ask(to, "POST", token, "", &get)),
                    (
                        "\"requestState\":\"servers-\u{e9}tat\"",
                        ask(to, "POST", token, &fields, &again),
                    ),
                ]
            };
            asked.lock().unwrap().clear();
            for (place, (wanted, (status, answer))) in owned(&alice).into_iter().enumerate() {
                assert_eq!(status, 200, "{answer}");
                let heard = asked.lock().unwrap();
                assert!(heard[place].contains(wanted), "{wanted} in {}", heard[place]);
            }
            asked.lock().unwrap().clear();
            for (_, (status, answer)) in owned(&mallory) {
                assert_eq!(status, 404, "{answer}");
            }
            // What the server calls it, as somebody knows it who got round the gateway.
            let bare = request("tasks/get", json!({"taskId": "servers-task"}));
            let (fields, with_state) = modern(Some("servers-\u{e9}tat"));
            for token in [&alice, &mallory] {
                let field = "Mcp-Session-Id: servers-session\r\n";
                assert_eq!(ask(to, "POST", token, field, &start).0, 404);
                let field = "Last-Event-ID: servers-event\r\n";
                assert_eq!(ask(to, "GET", token, field, &Value::Null).0, 404);
                assert_eq!(ask(to, "POST", token, &fields, &with_state).0, 404);
                // The server answers for a task that does not exist, and cannot know which was meant.
                ask(to, "POST", token, "", &bare);
            }
            for heard in asked.lock().unwrap().iter() {
                assert!(!heard.contains("servers-"), "{heard}");
            }
        }
    }
    assert!(gateway.stop());
}
