//! A debug tool that shows what the server was told: the gateway's own credential and the caller's token come
//! back in no form, whatever the pack knows.

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::{Gateway, IdentityProvider, RESOURCE, server};

const USER: &str = "gateway:correct horse battery";

/// What a debug tool shows of a value: as it is, escaped, encoded, and inside JSON in a string.
fn shown(value: &str) -> Vec<String> {
    let escaped: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    vec![
        format!("authorization: {value}"),
        escaped,
        hex,
        STANDARD.encode(format!("header {value}")),
        json!({"headers": {"authorization": value}}).to_string(),
        json!({"body": json!({"authorization": value}).to_string()}).to_string(),
    ]
}

/// Whether `text` shows `value` to somebody who decodes what the tool encoded.
fn tells(text: &str, value: &str) -> bool {
    let all: Vec<String> = shown(value);
    all.iter().any(|form| text.contains(form)) || text.contains(value)
}

/// A server whose tool shows the head of its request, and what it learned elsewhere.
fn start_server(learned: Arc<str>) -> SocketAddr {
    server::start(move |head, message| {
        let credential = support::field(head, "authorization").expect("a credential");
        let (_, secret) = credential.split_once(' ').expect("a scheme");
        let texts: Vec<Value> = [credential, secret, USER, &*learned]
            .into_iter()
            .flat_map(shown)
            .map(|text| json!({"type": "text", "text": text}))
            .collect();
        let result = json!({"content": texts, "structuredContent": {"credential": secret, "token": &*learned}});
        let answer = server::result(message, result);
        Some(match message["params"]["arguments"]["text"] == "stream" {
            true => {
                let progress = json!({"jsonrpc": "2.0", "method": "notifications/message",
                    "params": {"level": "debug", "data": {"seen": [credential, &*learned]}}});
                let events = format!("data: {progress}\n\ndata: {answer}\n\n");
                server::whole("text/event-stream", "", &events)
            }
            false => {
                let debug = format!("X-Debug: {credential}\r\n");
                server::whole("application/json", &debug, &answer)
            }
        })
    })
}

// Mutants: only "Bearer " is taken off a credential; the mark of the caller is not set.
#[test]
fn credentials_that_a_debug_tool_reflects_do_not_come_back() {
    let directory = tempfile::tempdir().expect("directory");
    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    let provider = IdentityProvider::start();
    let alice = provider.token("alice", &["engineering"], RESOURCE);
    let upstream = start_server(alice.as_str().into());
    let mut gateway =
        Gateway::prepare(&binary, directory.path(), &provider, upstream, "[0]", "written", "");
    let credential = format!("Basic {}", STANDARD.encode(USER));
    stenograph::app::demo::world::write_private(
        &directory.path().join("credential"),
        credential.as_bytes(),
    )
    .expect("written");
    let resource = format!("resource = \"{RESOURCE}\"");
    let file = directory.path().join("credential");
    let own = format!(
        "{resource}\ncredential = {{ header = \"authorization\", file = {:?} }}",
        file.display().to_string()
    );
    gateway.configure(&resource, &own);
    // Nothing but what is known in full.
    gateway.few_rules(
        "schema = 1\n[pack]\nid = \"none\"\nversion = \"1\"\ntitle = \"None\"\n[[rule]]\nid = \"none\"\n\
         title = \"None\"\ncategory = \"custom\"\npattern = 'NONE-[0-9]{9}'\n",
    );
    gateway.start();

    let mut stream = TcpStream::connect(gateway.address).expect("the gateway listens");
    let mut kept = Vec::new();
    for (id, how) in ["plain", "stream", "plain"].into_iter().enumerate() {
        let mut seen = Vec::new();
        stream.write_all(&support::call("/tools", &alice, id as u64, how)).expect("sent");
        let (status, _) =
            support::read_answer(&mut stream, &mut kept, &mut seen).expect("answered");
        let seen = String::from_utf8(seen).expect("text");
        assert_eq!(status, 200, "{seen}");
        assert!(seen.contains("[secret-caller-token]**"), "{seen}");
        assert!(seen.contains("[secret-upstream-credential-tools]"), "{seen}");
        for value in [&alice, &credential["Basic ".len()..], USER, "correct horse battery"] {
            assert!(!tells(&seen, value), "{value} in {seen}");
        }
    }
    assert!(gateway.stop());
    let (code, told, faults) = gateway.command(&["search", "--json"]);
    assert_eq!(code, 0, "{faults}");
    for rule in ["secret:caller-token", "secret:upstream-credential-tools-pair"] {
        assert!(told.contains(rule), "{rule}: {told}");
    }
    for value in [&alice, &credential["Basic ".len()..], USER, "correct horse battery"] {
        assert!(!tells(&told, value), "{value} in {told}");
    }
}
