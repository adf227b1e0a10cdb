//! Session and event handles: wrapped towards the client, theirs alone, unwrapped towards the upstream.

use stenograph::record::Kind;

use super::script::{STREAM_HEAD, Script, call_body, chunk, json_answer, post, result};
use super::stage::{Plan, Recorded};

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
        .set(|stage| {
            stage.settle();
            let resumed = |entry: &Recorded| entry.text().contains("\"resumes\":true");
            let record = stage.record();
            let resumed: Vec<_> = record.iter().filter(|entry| resumed(entry)).collect();
            assert_eq!(resumed.len(), 1);
            assert!(resumed[0].kind == Kind::Request && resumed[0].text().contains("GET"));
        })
        .client(get(&alice, "").replace("GET ", "DELETE "))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["DELETE /mcp HTTP/1.1\r\n", "Mcp-Session-Id: upstreams-own-7\r\n"])
        .upstream("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .expect_answer(200, |answer| assert_eq!(answer.body, ""))
        .end();
}

fn with_tasks() -> Script {
    Script::new(Plan { methods: vec!["tasks/*", "subscriptions/listen"], ..Plan::default() })
}

/// Fields and body of a request of the newer era.
fn modern(method: &str, name: &str, params: &str) -> (String, String) {
    let name = if name.is_empty() { String::new() } else { format!("Mcp-Name: {name}\r\n") };
    let fields = format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n{name}");
    let body = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":{{{params},\"_meta\":{{\
         \"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\"}}}}}}"
    );
    (fields, body)
}

fn answer_of(result: &str) -> String {
    json_answer("", &format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{result}}}"))
}

/// Alice starts a task that the server calls `t-1`; gives her handle.
fn started(script: Script) -> (Script, String) {
    let alice = script.stage.token("alice", 600);
    let (fields, body) = modern("tools/call", "echo", "\"name\":\"echo\"");
    let mut handle = String::new();
    let script = script
        .client(post(&alice, &fields, &body))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["tools/call"])
        .upstream(answer_of("{\"resultType\":\"task\",\"taskId\":\"t-1\",\"status\":\"working\"}"))
        .expect_answer(200, |answer| {
            let result = &answer.json()["result"];
            assert_eq!(result["status"], "working");
            handle = result["taskId"].as_str().unwrap().to_owned();
            assert_ne!(handle, "t-1");
        })
        .expect_drop(true);
    (script, handle)
}

// Checked against the mutants "a task goes out as it came" (`wrap` finds no tasks) and "any owner opens
// it" (`tag` leaves the subject out).
#[test]
fn a_task_is_asked_after_by_its_owner_alone() {
    let (script, handle) = started(with_tasks());
    let alice = script.stage.token("alice", 600);
    let mallory = script.stage.token("mallory", 600);
    let (fields, body) = modern("tasks/get", &handle, &format!("\"taskId\":\"{handle}\""));
    script
        .client(post(&alice, &fields, &body))
        .expect_open_upstream("codegen")
        .upstream_ready()
        // The routing field says what the body says, on both sides.
        .expect_to_upstream(&["Mcp-Name: t-1\r\n", "\"taskId\":\"t-1\""])
        .upstream(answer_of("{\"taskId\":\"t-1\",\"status\":\"completed\"}"))
        .expect_answer(200, |answer| {
            assert_eq!(answer.json()["result"]["status"], "completed");
            assert_ne!(answer.json()["result"]["taskId"], "t-1");
        })
        .client(post(&mallory, &fields, &body))
        .expect_error(404, -32602)
        .expect_nothing()
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::Answer, &["\"taskId\":"])
        .expect_recorded(Kind::End, &[])
        .expect_recorded(Kind::Request, &["\"session_rule\":\"task\"", "t-1"])
        .expect_recorded(Kind::Answer, &[])
        .expect_recorded(Kind::End, &[])
        .expect_recorded(Kind::Refusal, &["mallory", "handle-foreign"])
        .expect_recorded(Kind::End, &[])
        .end();
}

// Checked against the mutant "what is not ours goes on as it came" (`open_task` changes nothing then).
#[test]
fn a_task_id_that_was_never_given_out_opens_nothing() {
    let (script, _) = started(with_tasks());
    let mut script = script;
    let mut inert = String::new();
    for subject in ["alice", "mallory"] {
        let token = script.stage.token(subject, 600);
        let (fields, body) = modern("tasks/get", "t-1", "\"taskId\":\"t-1\"");
        script = script
            .client(post(&token, &fields, &body))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["tasks/get"]);
        let sent = String::from_utf8(script.rig.requests.last().unwrap().clone()).unwrap();
        assert!(!sent.contains("t-1"), "{sent}");
        let at = sent.find("\"taskId\":\"").unwrap() + 10;
        inert = sent[at..].split('"').next().unwrap().to_owned();
        assert!(sent.contains(&format!("Mcp-Name: {inert}\r\n")), "{sent}");
        // The server's own words for it reach the caller, the stand-in among them.
        let error = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{{\"code\":-32602,\"message\":\"no {inert}\"}}}}"
        );
        script = script.upstream(json_answer("", &error)).expect_error(200, -32602);
    }
    // What stood in for it is no handle.
    let mallory = script.stage.token("mallory", 600);
    let (fields, body) = modern("tasks/get", &inert, &format!("\"taskId\":\"{inert}\""));
    script.client(post(&mallory, &fields, &body)).expect_error(404, -32602).expect_nothing().end();
}

#[test]
fn a_list_of_more_targets_than_allowed_is_refused_before_any_is_opened() {
    let lists: [fn(usize) -> String; 2] = [
        |count| format!("\"taskIds\":[{}]", vec!["\"x\""; count].join(",")),
        |count| format!("\"resourceSubscriptions\":[{}]", vec!["\"x:y\""; count].join(",")),
    ];
    for list in lists {
        let script = with_tasks();
        let alice = script.stage.token("alice", 600);
        let listen = |count| {
            let params = format!("\"notifications\":{{{}}}", list(count));
            modern("subscriptions/listen", "", &params)
        };
        let (fields, body) = listen(1025);
        script
            .client(post(&alice, &fields, &body))
            .expect_error(400, -32602)
            .expect_nothing()
            .expect_recorded(Kind::Refusal, &["alice", "mcp-too-many-targets"])
            .expect_recorded(Kind::End, &[])
            .expect_open()
            .end();
    }
}

#[test]
fn the_most_task_ids_of_one_message_are_asked_after() {
    let script = with_tasks();
    let alice = script.stage.token("alice", 600);
    let ids = vec!["\"x\""; 1024].join(",");
    let params = format!("\"notifications\":{{\"taskIds\":[{ids}]}}");
    let (fields, body) = modern("subscriptions/listen", "", &params);
    script
        .client(post(&alice, &fields, &body))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["subscriptions/listen"])
        .upstream(answer_of("{}"))
        .expect_answer(200, |_| {})
        .end();
}

#[test]
fn every_place_of_a_task_is_a_handle_of_the_owner() {
    let (script, handle) = started(with_tasks());
    let alice = script.stage.token("alice", 600);
    let mallory = script.stage.token("mallory", 600);
    let (fields, body) = modern(
        "subscriptions/listen",
        "",
        &format!("\"notifications\":{{\"taskIds\":[\"{handle}\"]}}"),
    );
    let related = "\"_meta\":{\"io.modelcontextprotocol/related-task\":{\"taskId\":\"t-1\"}}";
    let notes = [
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tasks\",\"params\":{\"taskId\":\"t-1\"}}"
            .to_owned(),
        format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{{{related}}}}}"
        ),
        format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"task\":{{\"taskId\":\"t-1\"}},\
             \"tasks\":[{{\"taskId\":\"t-1\"}},{{\"taskId\":\"t-2\"}}],{related}}}}}"
        ),
    ];
    let events: String = notes.iter().map(|note| chunk(&format!("data: {note}\n\n"))).collect();
    script
        .client(post(&mallory, &fields, &body))
        .expect_error(404, -32602)
        .expect_nothing()
        .client(post(&alice, &fields, &body))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["\"taskIds\":[\"t-1\"]"])
        .upstream(STREAM_HEAD.to_owned() + &events + "0\r\n\r\n")
        .expect_answer(200, |answer| {
            assert!(!answer.body.contains("\"t-"), "{answer:?}");
            assert_eq!(answer.body.matches("\"taskId\":\"").count(), 6, "{answer:?}");
        })
        .end();
}

// MCP 2025-11-25: a client may run tasks for the server; it names them, the server asks after them.
#[test]
fn tasks_of_the_client_keep_their_names() {
    let script = with_tasks();
    let alice = script.stage.token("alice", 600);
    let created =
        "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"task\":{\"taskId\":\"clients-own\"}}}";
    let get =
        "GET /codegen HTTP/1.1\r\nHost: g\r\nAccept: text/event-stream\r\nAuthorization: Bearer ";
    let asks = "{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"tasks/get\",\"params\":{\"taskId\":\"clients-own\"}}";
    script
        .client(post(&alice, "", created))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["\"taskId\":\"clients-own\""])
        .upstream("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        .expect_answer(202, |_| {})
        .client(format!("{get}{alice}\r\n\r\n"))
        .expect_stream_upstream()
        .upstream_ready()
        .expect_to_upstream(&["GET /mcp"])
        .upstream(STREAM_HEAD.to_owned() + &chunk(&format!("data: {asks}\n\n")) + "0\r\n\r\n")
        .expect_answer(200, |answer| assert!(answer.body.contains("clients-own"), "{answer:?}"))
        .end();
}

// Checked against the mutants "any state goes on" (`marked` is not asked) and "the mark goes to the
// server" (the edit that cuts it off is left out).
#[test]
fn a_request_state_comes_back_byte_for_byte_from_its_owner_alone() {
    let script = Script::new(Plan::default());
    let alice = script.stage.token("alice", 600);
    let mallory = script.stage.token("mallory", 600);
    // As a server may write it: with escapes that need not be.
    let theirs = "a\\u0062c\\/d\\u00e9";
    let (fields, body) = modern("tools/call", "echo", "\"name\":\"echo\"");
    let mut state = String::new();
    let script = script
        .client(post(&alice, &fields, &body))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["tools/call"])
        .upstream(answer_of(&format!(
            "{{\"resultType\":\"input_required\",\"requestState\":\"{theirs}\"}}"
        )))
        .expect_answer(200, |answer| {
            let at = answer.body.find("\"requestState\":\"").unwrap() + 16;
            state = answer.body[at..].split('"').next().unwrap().to_owned();
            assert!(state.starts_with(theirs), "{state}");
        });
    let again = |state: &str| {
        let params =
            format!("\"name\":\"echo\",\"inputResponses\":{{}},\"requestState\":\"{state}\"");
        modern("tools/call", "echo", &params)
    };
    let (fields, body) = again(&state);
    let mut script = script
        .client(post(&alice, &fields, &body))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&[&format!("\"requestState\":\"{theirs}\"")])
        .upstream(answer_of("{\"resultType\":\"complete\"}"))
        .expect_answer(200, |_| {});
    // A client that writes the same text in other escapes gives the same text back.
    let decoded: String = serde_json::from_str(&format!("\"{state}\"")).unwrap();
    let (fields, body) = again(&decoded.replace('.', "\\u002e"));
    script = script
        .client(post(&alice, &fields, &body))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["\"requestState\":\"abc/d\u{e9}\""])
        .upstream(answer_of("{\"resultType\":\"complete\"}"))
        .expect_answer(200, |_| {});
    for (token, state) in [
        (&mallory, state.clone()),
        (&alice, theirs.to_owned()),
        (&alice, format!("x{state}")),
        (&alice, format!("{state}x")),
        (&alice, String::new()),
    ] {
        let (fields, body) = again(&state);
        script =
            script.client(post(token, &fields, &body)).expect_error(404, -32602).expect_nothing();
    }
    script.end();
}

#[test]
fn grants_are_asked_again_when_a_call_is_made_again() {
    let script = Script::new(Plan::default());
    let alice = script.stage.token("alice", 600);
    let (fields, body) = modern("tools/call", "echo", "\"name\":\"echo\"");
    let mut state = String::new();
    let script = script
        .client(post(&alice, &fields, &body))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["tools/call"])
        .upstream(answer_of("{\"resultType\":\"input_required\",\"requestState\":\"s\"}"))
        .expect_answer(200, |answer| {
            state = answer.json()["result"]["requestState"].as_str().unwrap().to_owned();
        })
        .set(|stage| stage.change(|plan| plan.tools = vec!["generate_*"]));
    let (fields, body) =
        modern("tools/call", "echo", &format!("\"name\":\"echo\",\"requestState\":\"{state}\""));
    script.client(post(&alice, &fields, &body)).expect_error(200, -31001).expect_nothing().end();
}

const RELATED: &str = "io.modelcontextprotocol/related-task";

// Checked against the mutants "what is no string is nothing" (`set`, and `task` without its second arm)
// and "a related task may be anything" (`Slot::Task` is not looked at).
#[test]
fn a_state_or_task_id_that_is_no_string_goes_to_nobody() {
    let mut script =
        Script::new(Plan { methods: vec!["custom/*", "subscriptions/listen"], ..Plan::default() });
    let alice = script.stage.token("alice", 600);
    let related = |task: &str| format!("\"name\":\"echo\",\"_meta\":{{\"{RELATED}\":{task}}}");
    let mut bodies = Vec::new();
    for other in ["[\"victim-raw\"]", "{\"a\":\"victim-raw\"}", "7", "true", "null"] {
        for method in ["tools/call", "custom/thing"] {
            bodies.extend([
                (method, format!("\"name\":\"echo\",\"requestState\":{other}")),
                (method, format!("\"name\":\"echo\",\"taskId\":{other}")),
                (method, related(&format!("{{\"taskId\":{other}}}"))),
            ]);
        }
    }
    for other in ["[{\"taskId\":\"victim-raw\"}]", "\"victim-raw\"", "7", "null"] {
        bodies.push(("tools/call", related(other)));
    }
    for (method, params) in bodies {
        let body = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":{{{params}}}}}"
        );
        script = script.client(post(&alice, "", &body)).expect_error(400, -32602).expect_nothing();
    }
    // Nor does what a server hands out in another form.
    for result in [
        "{\"requestState\":[\"servers-own\"]}".to_owned(),
        "{\"taskId\":5}".to_owned(),
        "{\"tasks\":[{\"taskId\":{\"a\":\"servers-own\"}}]}".to_owned(),
        format!("{{\"_meta\":{{\"{RELATED}\":{{\"taskId\":[\"servers-own\"]}}}}}}"),
    ] {
        script = script
            .client(post(&alice, "", &call_body(1, "echo", "x")))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["echo"])
            .upstream(answer_of(&result))
            .expect_answer(502, |answer| assert!(!answer.body.contains("servers-own")));
    }
    script.end();
}

// Checked against the mutant "only methods of the table have tasks" (`task_of` does nothing).
#[test]
fn a_task_id_is_the_owners_under_every_method() {
    let plan = Plan { methods: vec!["custom/*", "tools/list"], ..Plan::default() };
    let (mut script, handle) = started(Script::new(plan));
    let alice = script.stage.token("alice", 600);
    let mallory = script.stage.token("mallory", 600);
    for method in ["custom/thing", "tools/call", "tools/list"] {
        let body = |task: &str| {
            format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":{{\
                 \"name\":\"echo\",\"taskId\":\"{task}\"}}}}"
            )
        };
        script = script
            .client(post(&mallory, "", &body(&handle)))
            .expect_error(404, -32602)
            .expect_nothing()
            .client(post(&alice, "", &body(&handle)))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["\"taskId\":\"t-1\""])
            .upstream(answer_of("{}"))
            .expect_answer(200, |_| {})
            .client(post(&mallory, "", &body("t-1")))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&[method]);
        let sent = String::from_utf8(script.rig.requests.last().unwrap().clone()).unwrap();
        assert!(!sent.contains("t-1"), "{sent}");
        script = script.upstream(answer_of("{}")).expect_answer(200, |_| {});
    }
    script.end();
}

// Checked against the mutant "every id that is opened is the name" (the target is not looked at).
#[test]
fn a_related_task_is_not_what_a_request_is_routed_by() {
    let (mut script, handle) = started(with_tasks());
    let alice = script.stage.token("alice", 600);
    let related = format!("\"{RELATED}\":{{\"taskId\":\"{handle}\"}},\"io.");
    for (method, name, params) in [
        ("tools/call", "echo", "\"name\":\"echo\"".to_owned()),
        ("tasks/get", "never-given-out", "\"taskId\":\"never-given-out\"".to_owned()),
    ] {
        let (fields, body) = modern(method, name, &params);
        let body = body.replace("\"io.", &related);
        script = script
            .client(post(&alice, &fields, &body))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["Mcp-Name: ", "\"taskId\":\"t-1\""]);
        let sent = String::from_utf8(script.rig.requests.last().unwrap().clone()).unwrap();
        assert!(!sent.contains("Mcp-Name: t-1\r\n"), "{sent}");
        assert_eq!(sent.contains("Mcp-Name: echo\r\n"), name == "echo", "{sent}");
        script = script.upstream(answer_of("{}")).expect_answer(200, |_| {});
    }
    script.end();
}

// Checked against the mutant "any method resumes" (the HTTP method is not looked at). MCP 2025-11-25,
// transports: a stream is resumed by GET, whatever it was opened by.
#[test]
fn only_a_get_resumes() {
    let (mut script, handle) = handshake(Script::new(Plan::default()));
    let alice = script.stage.token("alice", 600);
    let fields = format!("Mcp-Session-Id: {handle}\r\n");
    let mut event = String::new();
    script = script
        .client(post(&alice, &fields, &call_body(1, "echo", "x")))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(
            STREAM_HEAD.to_owned()
                + &chunk(&format!("id: 41\ndata: {}\n\n", result(1, "ok")))
                + "0\r\n\r\n",
        )
        .expect_answer(200, |answer| {
            let line = answer.body.lines().find_map(|line| line.strip_prefix("id: "));
            event = line.unwrap().to_owned();
        });
    let fields = format!("{fields}Last-Event-ID: {event}\r\n");
    let call = post(&alice, &fields, &call_body(2, "echo", "x"));
    let delete = format!(
        "DELETE /codegen HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {alice}\r\n{fields}\r\n"
    );
    for (request, answer) in [
        (call, json_answer("", &result(2, "ok"))),
        (delete, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
    ] {
        script = script
            .client(request)
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["Mcp-Session-Id: upstreams-own-7\r\n"]);
        let sent = String::from_utf8(script.rig.requests.last().unwrap().clone()).unwrap();
        assert!(!sent.contains("Last-Event-ID"), "{sent}");
        script = script.upstream(answer).expect_answer(200, |_| {});
    }
    script.stage.settle();
    let record = script.stage.record();
    assert!(record.iter().all(|entry| !entry.text().contains("\"resumes\"")));
    script.end();
}

// Checked against the mutant "only the scan edits" (`edited` is the scanner's alone), in each of the
// three places.
#[test]
fn the_record_says_that_handles_took_the_place_of_ids() {
    let (script, handle) = started(with_tasks());
    let alice = script.stage.token("alice", 600);
    let (fields, body) = modern("tasks/get", &handle, &format!("\"taskId\":\"{handle}\""));
    let (listen, listening) = modern("subscriptions/listen", "", "\"notifications\":{}");
    let note =
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tasks\",\"params\":{\"taskId\":\"t-1\"}}";
    let edited = "\"edited\":true";
    let script = script
        .client(post(&alice, &fields, &body))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["tasks/get"])
        .upstream(answer_of("{\"status\":\"completed\"}"))
        .expect_answer(200, |_| {})
        .client(post(&alice, &listen, &listening))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["subscriptions/listen"])
        .upstream(STREAM_HEAD.to_owned() + &chunk(&format!("data: {note}\n\n")) + "0\r\n\r\n")
        .expect_answer(200, |_| {});
    script.stage.settle();
    let told = |kind| -> Vec<bool> {
        let entries = script.stage.record().into_iter().filter(|entry| entry.kind == kind);
        entries.map(|entry| entry.text().contains(edited)).collect()
    };
    // The call starts a task, the next asks after it, the last listens.
    assert_eq!(told(Kind::Request), [false, true, false]);
    assert_eq!(told(Kind::Answer), [true, false]);
    assert!(told(Kind::Event)[0]);
    script.end();
}

const NOTED: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";

/// A notification, or with `id` a request, of a method that no version has.
fn custom(id: Option<u32>, params: &str) -> String {
    let id = id.map_or(String::new(), |id| format!("\"id\":{id},"));
    format!("{{\"jsonrpc\":\"2.0\",{id}\"method\":\"custom/note\",\"params\":{{{params}}}}}")
}

/// Opens a stream as alice on which the server says these messages; gives what she gets.
fn told(script: Script, messages: &[String]) -> (Script, String) {
    let alice = script.stage.token("alice", 600);
    let get =
        "GET /codegen HTTP/1.1\r\nHost: g\r\nAccept: text/event-stream\r\nAuthorization: Bearer ";
    let events: String = messages.iter().map(|one| chunk(&format!("data: {one}\n\n"))).collect();
    let mut body = String::new();
    let script = script
        .client(format!("{get}{alice}\r\n\r\n"))
        .expect_stream_upstream()
        .upstream_ready()
        .expect_to_upstream(&["GET /mcp"])
        .upstream(STREAM_HEAD.to_owned() + &events + "0\r\n\r\n")
        .expect_answer(200, |answer| body.clone_from(&answer.body));
    (script, body)
}

fn custom_plan() -> Plan {
    Plan { methods: vec!["custom/*"], ..Plan::default() }
}

// Checked against the mutants "a state is a state of requests only" (`open` looks at it there alone) and
// "only an answer hands a state out" (`wrap` looks at it there alone).
#[test]
fn a_request_state_is_its_owners_in_every_message() {
    let script = Script::new(custom_plan());
    let alice = script.stage.token("alice", 600);
    let mallory = script.stage.token("mallory", 600);
    let theirs = ["one", "two", "three"];
    let said = [
        custom(None, "\"requestState\":\"one\""),
        custom(Some(3), "\"requestState\":\"two\""),
        format!("{{\"jsonrpc\":\"2.0\",\"id\":4,\"result\":{{\"requestState\":\"{}\"}}}}", "three"),
    ];
    let (mut script, body) = told(script, &said);
    let states: Vec<String> = body
        .split("\"requestState\":\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect();
    assert_eq!(states.len(), 3, "{body}");
    let answer = |state: &str| {
        format!("{{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{{\"requestState\":\"{state}\"}}}}")
    };
    let note = |state: &str| custom(None, &format!("\"requestState\":\"{state}\""));
    for (theirs, state) in theirs.iter().zip(&states) {
        assert!(state.starts_with(theirs) && state.len() > theirs.len(), "{state}");
        for kind in [&answer as &dyn Fn(&str) -> String, &note] {
            script = script
                .client(post(&mallory, "", &kind(state)))
                .expect_error(404, -32602)
                .client(post(&alice, "", &kind(theirs)))
                .expect_error(404, -32602)
                .expect_nothing()
                .client(post(&alice, "", &kind(state)))
                .expect_open_upstream("codegen")
                .upstream_ready()
                .expect_to_upstream(&[&format!("\"requestState\":\"{theirs}\"")])
                .upstream(NOTED)
                .expect_answer(202, |_| {});
        }
    }
    script.end();
}

// Checked against the mutants "only methods of the table name tasks in notifications" (`task_of` looks at
// requests of clients alone) and "a notification may name any task" (`open_task` is never strict there).
#[test]
fn a_task_in_a_notification_of_any_method_is_its_owners() {
    let (script, handle) = started(Script::new(custom_plan()));
    let alice = script.stage.token("alice", 600);
    let mallory = script.stage.token("mallory", 600);
    let said = [
        custom(None, "\"taskId\":\"t-1\""),
        custom(None, "\"task\":{\"taskId\":\"t-1\"}"),
        custom(None, "\"tasks\":[{\"taskId\":\"t-1\"},{\"taskId\":\"t-1\"}]"),
        custom(Some(9), "\"taskId\":\"t-1\""),
        custom(None, "\"taskId\":\"t-1\"").replace("custom/note", "notifications/message"),
    ];
    let (mut script, body) = told(script, &said);
    assert_eq!(body.matches(&format!("\"taskId\":\"{handle}\"")).count(), 6, "{body}");
    assert!(!body.contains("\"t-1\""), "{body}");
    for method in ["custom/note", "notifications/progress"] {
        let note =
            |id: &str| custom(None, &format!("\"taskId\":\"{id}\"")).replace("custom/note", method);
        script = script
            .client(post(&mallory, "", &note(&handle)))
            .expect_error(404, -32602)
            .expect_nothing()
            .client(post(&alice, "", &note(&handle)))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["\"taskId\":\"t-1\""])
            .upstream(NOTED)
            .expect_answer(202, |_| {})
            .client(post(&mallory, "", &note("t-1")))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&[method]);
        let sent = String::from_utf8(script.rig.requests.last().unwrap().clone()).unwrap();
        assert!(!sent.contains("t-1"), "{sent}");
        script = script.upstream(NOTED).expect_answer(202, |_| {});
    }
    script.end();
}

// Checked against the mutant "what is no object is nothing" (`no_handle` does nothing).
#[test]
fn a_task_that_is_no_object_goes_to_nobody() {
    let mut script = Script::new(Plan::default());
    let alice = script.stage.token("alice", 600);
    for result in [
        "{\"task\":\"servers-own\"}",
        "{\"task\":[{\"taskId\":\"servers-own\"}]}",
        "{\"task\":7}",
        "{\"tasks\":\"servers-own\"}",
        "{\"tasks\":{\"a\":{\"taskId\":\"servers-own\"}}}",
        "{\"tasks\":[\"servers-own\"]}",
        "{\"tasks\":[{},[\"servers-own\"]]}",
        "{\"tasks\":[7]}",
        "{\"_meta\":{\"io.modelcontextprotocol/related-task\":\"servers-own\"}}",
    ] {
        script = script
            .client(post(&alice, "", &call_body(1, "echo", "x")))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["echo"])
            .upstream(answer_of(result))
            .expect_answer(502, |answer| assert!(!answer.body.contains("servers-own")))
            // Nor does a client's answer go to a server.
            .client(post(
                &alice,
                "",
                &format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{result}}}"),
            ))
            .expect_error(400, -32602)
            .expect_nothing();
    }
    // No id can stand in these.
    for result in ["{\"task\":null,\"tasks\":null}", "{\"tasks\":[null,true,{}]}"] {
        script = script
            .client(post(&alice, "", &call_body(1, "echo", "x")))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["echo"])
            .upstream(answer_of(result))
            .expect_answer(200, |answer| assert!(answer.body.contains(result), "{answer:?}"));
    }
    script.end();
}

// Checked against the mutant "the record names what went on" (`name_tried` does nothing).
#[test]
fn the_record_says_which_task_was_tried() {
    let plan = Plan { methods: vec!["custom/*", "tasks/*"], ..Plan::default() };
    let mut script = Script::new(plan);
    let mallory = script.stage.token("mallory", 600);
    let planted = format!("t-2 {}", super::stage::PLANTED);
    for (method, id) in [("tasks/get", "t-1"), ("custom/thing", "t-1")] {
        let body = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":{{\
             \"taskId\":\"{id}\"}}}}"
        );
        script = script
            .client(post(&mallory, "", &body))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&[method])
            .upstream(answer_of("{}"))
            .expect_answer(200, |_| {})
            .expect_recorded(
                Kind::Request,
                &["\"targets\":[{\"kind\":\"task\",\"name\":\"", id, "\"}]"],
            )
            .expect_recorded(Kind::Answer, &[])
            .expect_recorded(Kind::End, &[]);
    }
    // A secret would go on in it, and no id can be masked.
    let body = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tasks/get\",\"params\":{{\
         \"taskId\":\"{planted}\"}}}}"
    );
    script = script.client(post(&mallory, "", &body)).expect_error(200, -31002).expect_nothing();
    // One that fits in no handle is refused, and told as far as a handle reaches.
    let long = "x".repeat(100_000);
    let (fields, body) = modern("tasks/get", "", &format!("\"taskId\":\"{long}\""));
    let fields = fields.replace("2026-07-28", "2025-11-25");
    let body = body.replace("2026-07-28", "2025-11-25");
    script = script.client(post(&mallory, &fields, &body)).expect_error(404, -32602);
    script.stage.settle();
    let record = script.stage.record();
    assert!(record.iter().all(|entry| !entry.text().contains(super::stage::PLANTED)));
    let refusal = record.iter().rfind(|entry| entry.kind == Kind::Refusal).unwrap().text();
    assert!(refusal.contains("\"name\":\"xxx") && refusal.len() < 4_000, "{}", refusal.len());
    script.end();
}

// Checked against the mutant "a page is as long as it is" (`read` has no bound for servers).
#[test]
fn a_page_of_more_tasks_than_allowed_is_the_servers_fault() {
    let page = |count: usize| {
        let tasks = vec!["{\"taskId\":\"t\"}"; count].join(",");
        answer_of(&format!("{{\"tasks\":[{tasks}]}}"))
    };
    let mut script = with_tasks();
    let alice = script.stage.token("alice", 600);
    let (fields, body) = modern("tasks/list", "", "\"cursor\":\"1\"");
    for (count, status) in [(10_000, 200), (10_001, 502)] {
        script = script
            .client(post(&alice, &fields, &body))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["tasks/list"])
            .upstream(page(count))
            .expect_answer(status, |answer| assert!(!answer.body.contains("\"t\"")));
    }
    script.end();
}
