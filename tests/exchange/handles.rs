//! Session and event handles: wrapped towards the client, theirs alone, unwrapped towards the upstream.

use stenograph::record::Kind;

use super::script::{STREAM_HEAD, Script, call_body, chunk, json_answer, post, result};
use super::stage::Plan;

const INITIALIZE: &str = "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{\
                          \"protocolVersion\":\"2025-11-25\"}}";
const INITIALIZED: &str = "{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{\
                           \"protocolVersion\":\"2025-11-25\",\"capabilities\":{}}}";

/// Shakes hands as alice; gives the handle.
fn handshake(script: Script) -> (Script, String) {
    let token = script.stage.token("alice", 600);
    let mut handle = String::new();
    let script = script
        .client(post(&token, "", INITIALIZE))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["initialize"])
        .upstream(json_answer("Mcp-Session-Id: upstreams-own-7\r\n", INITIALIZED))
        .expect_answer(200, |answer| {
            handle = answer.field("Mcp-Session-Id").unwrap().to_owned();
            assert!(!handle.contains("upstreams-own"), "{handle}");
        })
        .expect_drop(true);
    (script, handle)
}

// Checked against the mutant "the handle is not bound to its owner": an owner of constants.
#[test]
fn a_session_handle_opens_its_owners_session_and_nobody_elses() {
    let (script, handle) = handshake(Script::new(Plan::default()));
    let alice = script.stage.token("alice", 600);
    let mallory = script.stage.token("mallory", 600);
    let field = format!("Mcp-Session-Id: {handle}\r\n");
    let body = call_body(1, "echo", "x");
    script
        .client(post(&alice, &field, &body))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["Mcp-Session-Id: upstreams-own-7\r\n", "echo"])
        .upstream(json_answer("", &result(1, "ok")))
        .expect_answer(200, |_| {})
        .client(post(&mallory, &field, &body))
        .expect_error(404, -31001)
        .expect_nothing()
        .client(post(&alice, "Mcp-Session-Id: upstreams-own-7\r\n", &body))
        .expect_error(404, -31001)
        .expect_nothing()
        .expect_recorded(Kind::Request, &["\"session_rule\":\"initialize\""])
        .expect_recorded(Kind::Answer, &[])
        .expect_recorded(Kind::End, &[])
        .expect_recorded(Kind::Request, &["\"session_rule\":\"mcp-session\""])
        .expect_recorded(Kind::Answer, &[])
        .expect_recorded(Kind::End, &[])
        .expect_recorded(Kind::Refusal, &["mallory", "handle-foreign"])
        .expect_recorded(Kind::End, &[])
        .expect_recorded(Kind::Refusal, &["alice", "handle-foreign"])
        .expect_recorded(Kind::End, &[])
        .end();
}

#[test]
fn a_stream_is_opened_resumed_and_ended_by_its_owner() {
    let (script, handle) = handshake(Script::new(Plan::default()));
    let alice = script.stage.token("alice", 600);
    let mallory = script.stage.token("mallory", 600);
    let get = |token: &str, more: &str| {
        format!(
            "GET /codegen HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\n\
             Accept: text/event-stream\r\nMcp-Session-Id: {handle}\r\n{more}\r\n"
        )
    };
    let log = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}";
    let mut last = String::new();
    let script = script
        .client(get(&alice, ""))
        .expect_stream_upstream()
        .upstream_ready()
        .expect_to_upstream(&["GET /mcp HTTP/1.1\r\n", "Mcp-Session-Id: upstreams-own-7\r\n"])
        .upstream(STREAM_HEAD.to_owned() + &chunk(&format!("id: 41\ndata: {log}\n\n")))
        .upstream(chunk(": heartbeat with words\n\n") + "0\r\n\r\n")
        .expect_answer(200, |answer| {
            let line = answer.body.lines().find_map(|line| line.strip_prefix("id: "));
            last = line.unwrap().to_owned();
            assert_ne!(last, "41");
            assert!(answer.body.ends_with(":\n\n"), "{answer:?}");
        });
    let resume = format!("Last-Event-ID: {last}\r\n");
    script
        .client(get(&mallory, &resume).replace(&format!("Mcp-Session-Id: {handle}\r\n"), ""))
        .expect_error(404, -31001)
        .expect_nothing()
        .client(get(&alice, &resume))
        .expect_stream_upstream()
        .upstream_ready()
        .expect_to_upstream(&["Last-Event-ID: 41\r\n"])
        .upstream("HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
        .expect_answer(405, |_| {})
        .client(get(&alice, "").replace("GET ", "DELETE "))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["DELETE /mcp HTTP/1.1\r\n", "Mcp-Session-Id: upstreams-own-7\r\n"])
        .upstream("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .expect_answer(200, |answer| assert_eq!(answer.body, ""))
        .end();
}
