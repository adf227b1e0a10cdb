//! Calls with JSON answers: what passes, what is masked, blocked, denied and filtered.

use stenograph::gateway::env::Terms;
use stenograph::record::{Keep, Kind, Level, PartKind};

use super::script::{Script, call, call_body, json_answer, post, result};
use super::stage::{FORBIDDEN, PLANTED, Plan};

// Checked against the mutant "the credential field is copied from the caller" (`Authorization` on the
// list of forwarded fields).
#[test]
fn a_call_goes_up_without_the_callers_token_and_its_answer_comes_back() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let script = script
        .client(call(&token, 1, "echo", "hello"))
        .expect_open_upstream("codegen")
        .expect_recorded(Kind::Request, &["\"subject\":\"alice\"", "tools/call", "hello"])
        .expect_nothing()
        .upstream_ready()
        .expect_to_upstream(&[
            "POST /mcp HTTP/1.1\r\nHost: upstream.internal:3001\r\n",
            "Authorization: Bearer gateways-own\r\n\r\n",
            &call_body(1, "echo", "hello"),
        ]);
    assert!(!String::from_utf8_lossy(&script.rig.requests[0]).contains(&token));
    let script = script
        .upstream(json_answer("", &result(1, "hello")))
        .expect_recorded(Kind::Answer, &["\"decision\":\"allowed\"", "hello"])
        .expect_drop(true)
        .expect_answer(200, |answer| {
            assert_eq!(answer.body, result(1, "hello"));
            assert!(answer.field("Stenograph-Exchange").is_some());
            assert!(answer.head.contains("Cache-Control: private"));
        })
        .expect_recorded(Kind::End, &["\"status\":200", "\"outcome\":\"complete\""])
        .expect_open();
    for entry in script.stage.record() {
        assert!(!entry.text().contains(&token), "the token is in the record");
    }
    script.end();
}

// Checked against the mutant "scan skipped": `judge_message` passes everything.
#[test]
fn a_secret_in_an_answer_or_a_request_goes_on_masked_and_is_recorded_masked() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let script = script
        .client(call(&token, 1, "echo", PLANTED))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["\"text\":\"["])
        .upstream(json_answer("", &result(1, &format!("key {PLANTED} end"))))
        .expect_answer(200, |answer| {
            assert!(!answer.body.contains("MASKME"), "{answer:?}");
            assert_eq!(answer.body.len(), result(1, &format!("key {PLANTED} end")).len());
            assert_eq!(answer.json()["id"], 1);
        })
        .expect_recorded(Kind::Request, &["\"decision\":\"masked\"", "\"rule\":\"planted\""])
        .expect_recorded(Kind::Answer, &["\"decision\":\"masked\"", "\"rule\":\"planted\""])
        .expect_recorded(Kind::End, &[]);
    assert!(!String::from_utf8_lossy(&script.rig.requests[0]).contains("MASKME"));
    for entry in script.stage.record() {
        assert!(!entry.text().contains("MASKME"), "an original is in the record");
    }
    script.end();
}

#[test]
fn a_secret_in_a_field_or_a_query_does_not_go_on() {
    use base64::Engine;
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("a {PLANTED} b"));
    let fields = format!(
        "User-Agent: x/{PLANTED}\r\nAccept-Language: {PLANTED}\r\nTracestate: a={PLANTED}\r\n\
         Mcp-Param-Text: {PLANTED}\r\nMcp-Param-More: =?base64?{encoded}?=\r\n\
         X-Api-Key: of-the-caller\r\n"
    );
    let script = script
        .client(post(&token, &fields, &call_body(1, "echo", PLANTED)))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["Mcp-Param-Text: [", "Mcp-Param-More: =?base64?", "?=", "echo"])
        .upstream(json_answer("", &result(1, "ok")))
        .expect_answer(200, |_| {});
    let request = String::from_utf8_lossy(&script.rig.requests[0]).into_owned();
    for secret in ["MASKME", &encoded, "of-the-caller"] {
        assert!(!request.contains(secret), "{request}");
        for entry in script.stage.record() {
            assert!(!entry.text().contains(secret), "{secret} in {:?}", entry.kind);
        }
    }
    let get = format!(
        "GET /codegen?key={PLANTED} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let blocked = base64::engine::general_purpose::STANDARD.encode(FORBIDDEN);
    let [blocked, unreadable] =
        [format!("=?base64?{blocked}?="), "=?base64?%%?=".to_owned()].map(|value| {
            post(&token, &format!("Mcp-Param-Text: {value}\r\n"), &call_body(2, "echo", "x"))
        });
    script
        .client(get)
        .expect_answer(403, |_| {})
        .client(blocked)
        .expect_error(200, -31002)
        .client(unreadable)
        .expect_error(400, -32020)
        .expect_nothing()
        .end();
}

#[test]
fn a_blocked_request_stays_here() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    script
        .client(call(&token, 8, "echo", FORBIDDEN))
        .expect_error(200, -31002)
        .expect_nothing()
        .expect_recorded(Kind::Refusal, &["\"blocked\"", "forbidden"])
        .expect_recorded(Kind::End, &["request-blocked"])
        .expect_open()
        .end();
}

#[test]
fn a_blocked_answer_is_replaced_by_an_error() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    script
        .client(call(&token, 8, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&[])
        .upstream(json_answer("", &result(8, FORBIDDEN)))
        .expect_answer(200, |answer| {
            assert_eq!(answer.json()["error"]["code"], -31002);
            assert_eq!(answer.json()["id"], 8);
            assert!(!answer.body.contains("BLOCKME"));
        })
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::Refusal, &["answer-blocked"])
        .expect_recorded(Kind::End, &[])
        .end();
}

// Checked against the mutant "policy skipped": `judge_message` of the policy permits everything.
#[test]
fn what_is_not_granted_is_refused_in_the_form_its_caller_understands() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let notification =
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/other\",\"params\":{}}".to_owned();
    let only_events = post(&token, "", &call_body(4, "deploy", "now"))
        .replace("application/json, text/event-stream", "text/event-stream");
    script
        .client(call(&token, 3, "deploy", "now"))
        .expect_error(200, -31001)
        .expect_recorded(Kind::Refusal, &["\"denied\"", "deploy"])
        .expect_recorded(Kind::End, &[])
        .client(post(&token, "", &notification))
        .expect_answer(403, |answer| assert_eq!(answer.body, ""))
        .expect_recorded(Kind::Refusal, &["\"denied\"", "notifications/other"])
        .expect_recorded(Kind::End, &[])
        .client(only_events)
        .expect_answer(200, |answer| {
            assert_eq!(answer.field("Content-Type"), Some("text/event-stream"));
            assert_eq!(answer.json()["error"]["code"], -31001);
        })
        .expect_nothing()
        .expect_open()
        .end();
}

#[test]
fn a_list_shows_what_is_granted_and_belongs_to_one_caller() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let list = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"tools\":[{\"name\":\"echo\"},\
                {\"name\":\"deploy\"},{\"name\":\"generate_code\"}],\"cacheScope\":\"public\"}}";
    script
        .client(post(&token, "", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["tools/list"])
        .upstream(json_answer("", list))
        .expect_answer(200, |answer| {
            let result = &answer.json()["result"];
            let tools = result["tools"].as_array().unwrap();
            let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["echo", "generate_code"]);
            assert_eq!(result["cacheScope"], "private");
        })
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::Answer, &["\"filtered\":true"])
        .end();
}

// Checked against the mutant "a receive takes the buffer away although a whole request stands in it".
#[test]
fn pipelined_requests_are_answered_in_order() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let both = call(&token, 1, "echo", "first")
        + &call(&token, 2, "deploy", "second")
        + &call(&token, 3, "echo", "third");
    script
        .client(both)
        .expect_open_upstream("codegen")
        .expect_nothing()
        .upstream_ready()
        .expect_to_upstream(&["first"])
        .upstream(json_answer("", &result(1, "one")))
        .expect_answer(200, |answer| assert_eq!(answer.json()["id"], 1))
        .expect_drop(true)
        .expect_error(200, -31001)
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["third"])
        .upstream(json_answer("", &result(3, "three")))
        .expect_answer(200, |answer| assert_eq!(answer.json()["id"], 3))
        .expect_open()
        .end();
}

#[test]
fn a_chunked_body_is_gathered_and_sent_on_with_its_length() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let body = call_body(1, "echo", "pieces");
    let (front, back) = body.split_at(10);
    let head =
        post(&token, "Transfer-Encoding: chunked\r\n", "").replace("Content-Length: 0\r\n", "");
    script
        .client(format!("{head}a\r\n{front}\r\n{:x}\r\n{back}\r\n0\r\n\r\n", back.len()))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&[&format!("Content-Length: {}\r\n", body.len()), &body])
        .upstream(json_answer("", &result(1, "ok")))
        .expect_answer(200, |_| {})
        .expect_open()
        .end();
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let request = post(&token, "Expect: 100-continue\r\n", &call_body(1, "echo", "x"));
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    script
        .client(format!("{head}\r\n\r\n"))
        .expect_to_client(&["HTTP/1.1 100 Continue\r\n\r\n"])
        .expect_recorded(Kind::Interim, &[])
        .client(body)
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(json_answer("", &result(1, "ok")))
        .expect_answer(200, |_| {})
        .end();
}

#[test]
fn a_client_that_asks_first_is_told_so_after_keys_were_waited_for_too() {
    let script = Script::new(Plan { fetching: true, ..Plan::default() });
    let token = script.stage.late_token();
    let request = post(&token, "Expect: 100-continue\r\n", &call_body(1, "echo", "x"));
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    script
        .client(format!("{head}\r\n\r\n"))
        .expect_nothing()
        .set(|stage| stage.change(|plan| plan.late_key = true))
        .expect_to_client(&["HTTP/1.1 100 Continue\r\n\r\n"])
        .client(body)
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(json_answer("", &result(1, "ok")))
        .expect_answer(200, |_| {})
        .end();
}

#[test]
fn a_notification_is_accepted_and_a_refusal_in_prose_stays_behind_its_status() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let note = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}";
    script
        .client(post(&token, "", note))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["notifications/initialized"])
        .upstream("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        .expect_answer(202, |answer| assert_eq!(answer.body, ""))
        .expect_drop(true)
        .client(call(&token, 2, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream("HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\n<b>no</b>")
        .expect_answer(404, |answer| assert_eq!(answer.body, ""))
        .end();
}

// Checked against the mutant "a dirty upstream connection is kept": `drop_link` looks at nothing but
// `complete`.
#[test]
fn an_upstream_connection_with_anything_behind_the_answer_serves_nobody_else() {
    let token_and = |script: Script| (script.stage.token("alice", 600), script);
    let answer = json_answer("", &result(1, "ok"));
    let prelude = |script: Script, token: &str| {
        script
            .client(call(token, 1, "echo", "x"))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["echo"])
    };
    // Bytes that nobody asked for.
    let (token, script) = token_and(Script::new(Plan::default()));
    prelude(script, &token)
        .upstream(format!("{answer}HTTP/1.1 200 OK\r\n"))
        .expect_answer(200, |_| {})
        .expect_drop(false)
        .end();
    // The server will close.
    let (token, script) = token_and(Script::new(Plan::default()));
    prelude(script, &token)
        .upstream(json_answer("Connection: close\r\n", &result(1, "ok")))
        .expect_answer(200, |_| {})
        .expect_drop(false)
        .end();
    // An answer before the whole request was taken.
    let (token, script) = token_and(Script::new(Plan::default()));
    script
        .upstream_reads(false)
        .client(call(&token, 1, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(&answer)
        .expect_answer(200, |_| {})
        .expect_drop(false)
        .end();
    // A body that ends with the connection.
    let (token, script) = token_and(Script::new(Plan::default()));
    let until_close = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n".to_owned();
    prelude(script, &token)
        .upstream(until_close + &result(1, "ok"))
        .upstream_ends()
        .expect_answer(200, |_| {})
        .expect_drop(false)
        .end();
}

#[test]
fn routing_fields_that_disagree_with_the_body_are_refused_in_the_modern_era() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let modern = "MCP-Protocol-Version: 2026-07-28\r\n";
    let body = call_body(1, "echo", "x");
    let script = [
        modern.to_owned(),
        format!("{modern}Mcp-Method: tools/list\r\nMcp-Name: echo\r\n"),
        format!("{modern}Mcp-Method: tools/call\r\nMcp-Name: deploy\r\n"),
        format!("{modern}Mcp-Method: tools/call\r\n"),
    ]
    .into_iter()
    .fold(script, |script, more| {
        script.client(post(&token, &more, &body)).expect_error(400, -32020).expect_nothing()
    });
    let agreeing = format!("{modern}Mcp-Method: tools/call\r\nMcp-Name: =?base64?ZWNobw==?=\r\n");
    script
        .client(post(&token, &agreeing, &body))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["Mcp-Method: tools/call\r\n"])
        .upstream(json_answer("", &result(1, "ok")))
        .expect_answer(200, |_| {})
        .end();
}

// Mutant: `Exchange::entry` that leaves `keep` as it is.
#[test]
fn under_a_grant_of_heads_no_body_is_kept_and_everything_else_is() {
    let terms = Terms { level: Some(Level::Synced), keep: Keep::Heads };
    let script = Script::new(Plan { terms, ..Plan::default() });
    let token = script.stage.token("alice", 600);
    let script = script
        .client(call(&token, 1, "echo", "the question"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["the question"])
        .upstream(json_answer("", &result(1, "the answer")))
        .expect_answer(200, |answer| assert!(answer.body.contains("the answer")))
        .expect_recorded(Kind::Request, &["\"subject\":\"alice\"", "tools/call", "POST /codegen"])
        .expect_recorded(Kind::Answer, &["\"decision\":\"allowed\"", "HTTP/1.1 200 OK"])
        .expect_recorded(Kind::End, &["complete"])
        .client(call(&token, 2, "deploy", "refused"))
        .expect_error(200, -31001);
    script.stage.settle();
    for entry in script.stage.record() {
        let body = entry.parts.iter().find(|(kind, _)| *kind == PartKind::Body as u8);
        let kept = body.is_some_and(|(_, bytes)| bytes.is_some());
        // What no grant allows is evidence of what was tried.
        assert_eq!(kept, entry.kind == Kind::Refusal, "{entry:?}");
    }
    script.end();
}
