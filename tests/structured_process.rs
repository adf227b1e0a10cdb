//! Structured content and its schema in a running gateway with two workers: what one connection has listed
//! counts on every other, a reload changes what becomes of it, and the record can be read back.

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use support::{Gateway, IdentityProvider, RESOURCE, server};

/// Connections for each question; all of them go to one worker less than once in 30,000 runs.
const CONNECTIONS: usize = 16;

const RULES: &str = r#"
schema = 1
[pack]
id = "own"
version = "1"
[[rule]]
id = "planted"
title = "Planted"
category = "credential"
pattern = '\b(MASKME-[a-z0-9]{12})\b'
"#;
const PLANTED: &str = "MASKME-abcdef123456";

/// A server with one tool, whose answer fits its schema.
fn start_server() -> SocketAddr {
    server::start(|_, message| {
        let schema = json!({"properties": {"key": {"type": "string", "pattern": "^MASKME-"}}});
        let result = match message["method"].as_str() {
            Some("tools/list") => json!({"tools": [{"name": "echo", "outputSchema": schema}]}),
            _ => json!({"content": [], "structuredContent": {"key": PLANTED}}),
        };
        Some(server::json(&server::result(message, result)))
    })
}

/// One request on a connection of its own.
fn ask(to: SocketAddr, token: &str, method: &str, params: Value) -> Value {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let mut stream = TcpStream::connect(to).expect("the gateway listens");
    let request = format!(
        "POST /tools HTTP/1.1\r\nHost: mcp.example.test\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut seen = Vec::new();
    support::read_answer(&mut stream, &mut Vec::new(), &mut seen).expect("answered");
    let text = String::from_utf8(seen).expect("text");
    assert!(!text.contains(PLANTED), "{text}");
    serde_json::from_str(text.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON")
}

// Checked against the mutants "each worker has its own schemas" and "a reload keeps `structured`".
#[test]
fn what_one_connection_has_listed_counts_on_every_worker() {
    let directory = tempfile::tempdir().expect("directory");
    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    let provider = IdentityProvider::start();
    let mut gateway = Gateway::prepare(
        &binary,
        directory.path(),
        &provider,
        start_server(),
        "[0, 1]",
        "written",
        "",
    );
    gateway.few_rules(RULES);
    gateway.start();
    let to = gateway.address;
    let alice = provider.token("alice", &["engineering"], RESOURCE);
    let bob = provider.token("bob", &["engineering"], RESOURCE);
    let call = |token: &str| ask(to, token, "tools/call", json!({"name": "echo", "arguments": {}}));
    let masked = |answer: &Value| {
        let key = answer["result"]["structuredContent"]["key"].as_str();
        assert!(key.is_some_and(|key| key.starts_with("[planted:")), "{answer}");
    };

    masked(&call(&alice));
    let listed = ask(to, &alice, "tools/list", json!({}));
    assert_eq!(listed["result"]["tools"][0]["name"], "echo");
    let mut refused = Value::Null;
    for _ in 0..CONNECTIONS {
        refused = call(&alice);
        assert_eq!(refused["error"]["code"], -31002);
        // Who was shown nothing has no schema of somebody else.
        masked(&call(&bob));
    }
    gateway.configure("[guard]\n", "[guard]\nstructured = \"mask\"\n");
    gateway.reload();
    gateway.wait_for_log("the configuration was read again");
    for _ in 0..CONNECTIONS {
        masked(&call(&alice));
    }
    assert!(gateway.stop());

    let (code, out, err) = gateway.command(&["search", "--rule", "planted", "--json"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.lines().count() >= 3 * CONNECTIONS, "{out}");
    let exchange = refused["error"]["data"]["exchange"].as_str().expect("named");
    let (code, out, err) = gateway.command(&["show", exchange]);
    assert_eq!(code, 0, "{err}");
    let unfit = "masked by planted, /result/structuredContent/key breaks pattern of schema ";
    assert!(out.contains(unfit) && out.contains("blocked (answer-unfit)"), "{out}");
}
