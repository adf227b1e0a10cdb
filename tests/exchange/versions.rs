//! What differs between the versions of MCP, as far as it binds a gateway (basic/transports of 2025-03-26
//! to 2025-11-25, basic/transports/streamable-http of 2026-07-28).

use super::script::{STREAM_HEAD, Script, call_body, chunk, json_answer, post, result};
use super::stage::Plan;

const MODERN: &str = "MCP-Protocol-Version: 2026-07-28\r\n";

/// Alice's POST with these fields; the server's answer to it; what it got and what she got.
fn exchanged(fields: &str, body: &str, answer: &str) -> (String, super::script::Answer) {
    let script = Script::new(Plan { methods: vec!["**"], ..Plan::default() });
    let alice = script.stage.token("alice", 600);
    let mut script = script
        .client(post(&alice, fields, body))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["POST /mcp"])
        .upstream(answer);
    let sent = String::from_utf8(script.rig.requests.last().unwrap().clone()).unwrap();
    let answer = super::script::read_answer(&mut script.rig.client_out);
    script.end();
    (sent, answer)
}

fn error(code: i32, data: &str) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{{\"code\":{code},\"message\":\"m\",\"data\":{data}}}}}"
    )
}

#[test]
fn every_handshake_version_and_none_is_passed_as_it_came() {
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", ""] {
        let field = match version {
            "" => String::new(),
            version => format!("MCP-Protocol-Version: {version}\r\n"),
        };
        let (sent, answer) =
            exchanged(&field, &call_body(1, "echo", "x"), &json_answer("", &result(1, "ok")));
        assert_eq!(answer.status, 200);
        assert_eq!(sent.contains("MCP-Protocol-Version"), !version.is_empty());
        assert!(sent.contains(&field), "{sent}");
    }
}

// Statuses and codes of the newer era say what a client has to do next; they are the server's to give.
#[test]
fn the_servers_own_refusals_keep_status_code_and_data() {
    let fields = format!("{MODERN}Mcp-Method: tools/call\r\nMcp-Name: echo\r\n");
    for (status, code, data) in [
        (
            "400 Bad Request",
            -32022,
            "{\"supported\":[\"2026-07-28\"],\"requested\":\"2099-01-01\"}",
        ),
        ("400 Bad Request", -32021, "{\"requiredCapabilities\":{\"sampling\":{}}}"),
        ("400 Bad Request", -32020, "{}"),
        ("400 Bad Request", -32602, "{}"),
        ("404 Not Found", -32601, "{}"),
    ] {
        let body = error(code, data);
        let answer = json_answer("", &body).replace("200 OK", status);
        let (_, answer) = exchanged(&fields, &call_body(1, "echo", "x"), &answer);
        assert_eq!(answer.status.to_string(), status[..3]);
        assert_eq!(answer.body, body);
    }
}

#[test]
fn a_version_that_nobody_knows_yet_is_the_servers_to_refuse() {
    let fields = "MCP-Protocol-Version: 2099-01-01\r\nMcp-Method: tools/call\r\nMcp-Name: echo\r\n";
    let answer = json_answer("", &error(-32022, "{}")).replace("200 OK", "400 Bad Request");
    let (sent, answer) = exchanged(fields, &call_body(1, "echo", "x"), &answer);
    assert!(sent.contains("MCP-Protocol-Version: 2099-01-01\r\n"));
    assert_eq!((answer.status, answer.json()["error"]["code"].as_i64()), (400, Some(-32022)));
}

/// Alice's POST with these fields, which goes nowhere: status and error of the answer.
fn refused(fields: &str, body: &str) -> (u16, serde_json::Value) {
    let script = Script::new(Plan { methods: vec!["**"], ..Plan::default() });
    let alice = script.stage.token("alice", 600);
    let mut script = script.client(post(&alice, fields, body));
    let answer = super::script::read_answer(&mut script.rig.client_out);
    script.expect_nothing().end();
    (answer.status, answer.json()["error"].take())
}

// A caller was told that Mcp-Method and the body disagree. Checked against the mutant "what is no date is
// compared as text".
#[test]
fn a_version_that_is_none_is_named_and_not_another_field() {
    let routing = "Mcp-Method: tools/call\r\nMcp-Name: echo\r\n";
    for version in
        ["junk", "2026-07-28x", "2026-13-01", "2026-07-00", "9", "2026/07/28", "+026-07-28"]
    {
        for more in ["", "Mcp-Method: tools/call\r\n"] {
            let fields = format!("MCP-Protocol-Version: {version}\r\n{more}");
            let (status, error) = refused(&fields, &call_body(1, "echo", "x"));
            assert_eq!((status, error["code"].as_i64()), (400, Some(-32022)), "{version}: {error}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("MCP-Protocol-Version is no date"), "{message}");
            assert!(message.contains("2026-07-28") && !message.contains("junk"), "{message}");
            assert_eq!(error["data"]["supported"][4], "2026-07-28");
        }
        // With the routing fields it is the server that says which versions it speaks.
        let fields = format!("MCP-Protocol-Version: {version}\r\n{routing}");
        let (sent, answer) =
            exchanged(&fields, &call_body(1, "echo", "x"), &json_answer("", &result(1, "ok")));
        assert!(sent.contains(&format!("MCP-Protocol-Version: {version}\r\n")), "{sent}");
        assert_eq!(answer.status, 200);
    }
    let script = Script::new(Plan { methods: vec!["**"], ..Plan::default() });
    let alice = script.stage.token("alice", 600);
    let get = format!(
        "GET /codegen HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {alice}\r\n\
         Accept: text/event-stream\r\nMCP-Protocol-Version: junk\r\n\r\n"
    );
    script.client(get).expect_error(400, -32022).expect_nothing().end();
}

#[test]
fn a_version_nobody_knows_without_its_routing_fields_is_named_and_not_the_field() {
    for more in ["", "Mcp-Method: tools/call\r\n"] {
        let fields = format!("MCP-Protocol-Version: 2099-01-01\r\n{more}");
        let (status, error) = refused(&fields, &call_body(1, "echo", "x"));
        assert_eq!((status, error["code"].as_i64()), (400, Some(-32022)), "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("MCP-Protocol-Version is 2099-01-01"), "{message}");
        assert_eq!(error["data"]["requested"], "2099-01-01");
    }
    // Of a version that is known, the field that is missing is the fault.
    let (status, error) = refused(MODERN, &call_body(1, "echo", "x"));
    assert_eq!((status, error["code"].as_i64()), (400, Some(-32020)), "{error}");
}

// Refused although name and body agreed. Checked against the mutant "any name will do".
#[test]
fn a_method_nobody_knows_may_be_routed_by_the_name_or_uri_it_holds() {
    let call = |params: &str| {
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"acme/do\",\"params\":{{{params}}}}}")
    };
    let fields = |name: &str| format!("{MODERN}Mcp-Method: acme/do\r\nMcp-Name: {name}\r\n");
    for (name, params) in [
        ("thing", "\"name\":\"thing\""),
        ("=?base64?dGhpbmc=?=", "\"name\":\"th\\u0069ng\""),
        ("file:///x", "\"uri\":\"file:///x\""),
    ] {
        let (sent, _) = exchanged(&fields(name), &call(params), &json_answer("", &result(1, "ok")));
        assert!(sent.contains(&format!("Mcp-Name: {name}\r\n")), "{sent}");
    }
    for (name, params) in [
        ("thing", "\"name\":\"other\""),
        ("thing", "\"uri\":\"other\""),
        ("thing", "\"name\":[\"thing\"]"),
        ("thing", "\"deep\":{\"name\":\"thing\"}"),
        ("thing", ""),
    ] {
        let (status, error) = refused(&fields(name), &call(params));
        assert_eq!((status, error["code"].as_i64()), (400, Some(-32020)), "{params}: {error}");
    }
}

// 2026-07-28 has neither sessions nor resumption: neither field is honoured, asked for, or refused.
#[test]
fn the_newer_era_knows_no_sessions() {
    let fields = format!(
        "{MODERN}Mcp-Method: tools/call\r\nMcp-Name: echo\r\nMcp-Session-Id: left-over\r\n\
         Last-Event-ID: left-over\r\n"
    );
    let event = chunk(&format!("id: 7\ndata: {}\n\n", result(1, "ok")));
    let answer = STREAM_HEAD.replace("\r\n\r\n", "\r\nMcp-Session-Id: minted\r\n\r\n")
        + &event
        + "0\r\n\r\n";
    let (sent, answer) = exchanged(&fields, &call_body(1, "echo", "x"), &answer);
    assert!(!sent.contains("left-over"), "{sent}");
    assert!(!answer.head.contains("Mcp-Session-Id"), "{answer:?}");
    assert!(!answer.body.contains("id: "), "{answer:?}");
}

#[test]
fn what_the_caller_accepts_is_told_as_it_came() {
    let script = Script::new(Plan::default());
    let alice = script.stage.token("alice", 600);
    let both = "Accept: application/json, text/event-stream\r\n";
    let request = post(&alice, "", &call_body(1, "echo", "x")).replace(both, "Accept: */*\r\n");
    script
        .client(request)
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["Accept: */*\r\n"])
        // Servers differ here (406 from Node, 200 from Python): it is theirs to say.
        .upstream(json_answer("", &error(-32000, "{}")).replace("200 OK", "406 Not Acceptable"))
        .expect_answer(406, |_| {})
        .end();
}

#[test]
fn mirrored_arguments_go_on_and_their_names_are_not_judged() {
    let fields = format!(
        "{MODERN}Mcp-Method: tools/call\r\nMcp-Name: echo\r\nMcp-Param-Region: eu\r\n\
         Mcp-Param-Else: =?base64?w6k=?=\r\nX-Else: no\r\n"
    );
    let (sent, _) =
        exchanged(&fields, &call_body(1, "echo", "x"), &json_answer("", &result(1, "ok")));
    assert!(sent.contains("Mcp-Param-Region: eu\r\n"), "{sent}");
    assert!(sent.contains("Mcp-Param-Else: =?base64?w6k=?=\r\n"), "{sent}");
    assert!(!sent.contains("X-Else"), "{sent}");
}

// 2025-11-25 elicitation by URL, sampling and roots: requests of the server on the stream of a call; the
// client's answers come as messages of their own.
#[test]
fn the_server_asks_on_a_calls_stream_and_is_answered_by_a_post() {
    let script = Script::new(Plan::default());
    let alice = script.stage.token("alice", 600);
    let url = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"elicitation/create\",\"params\":{\"mode\":\"url\",\
               \"elicitationId\":\"e-1\",\"url\":\"https://pay.example.com/x\",\"message\":\"pay\"}}";
    let answer = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"action\":\"accept\"}}";
    script
        .client(post(&alice, "", &call_body(1, "echo", "x")))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["tools/call"])
        .upstream(STREAM_HEAD.to_owned() + &chunk(&format!("data: {url}\n\n")))
        .expect_to_client(&["200 OK", "https://pay.example.com/x"])
        .expect_recorded(stenograph::record::Kind::Request, &[])
        .expect_recorded(stenograph::record::Kind::StreamOpen, &[])
        .expect_recorded(
            stenograph::record::Kind::Event,
            &["elicitation/create", "https://pay.example.com/x"],
        )
        // The server's id 1 is not the call's id 1: the call is still owed its answer.
        .upstream(chunk(&format!("data: {}\n\n", result(1, "ok"))) + "0\r\n\r\n")
        .expect_to_client(&["\"text\":\"ok\"", "0\r\n\r\n"])
        .client(post(&alice, "", answer))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["\"action\":\"accept\""])
        .upstream("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        .expect_answer(202, |_| {})
        .end();
}

#[test]
fn a_method_nobody_knows_is_judged_by_its_name() {
    let body =
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"acme/count\",\"params\":{\"name\":\"x\"}}";
    let (sent, _) = exchanged("", body, &json_answer("", &result(1, "ok")));
    assert!(sent.contains("acme/count"));
    let script = Script::new(Plan { methods: vec!["acme/list"], ..Plan::default() });
    let alice = script.stage.token("alice", 600);
    script.client(post(&alice, "", body)).expect_error(200, -31001).expect_nothing().end();
}
