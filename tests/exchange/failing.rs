//! Upstreams that fail, lie or answer nonsense.

use stenograph::gateway::fault::{Fault, UpstreamFault};
use stenograph::limits::Limits;
use stenograph::record::Kind;

use super::script::{STREAM_HEAD, Script, call, json_answer, result};
use super::stage::{PLANTED, Plan};

/// A call by alice that was sent upstream.
fn sent(plan: Plan) -> Script {
    let script = Script::new(plan);
    let token = script.stage.token("alice", 600);
    script
        .client(call(&token, 7, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
}

// Checked against the mutant "sent again": a closed connection asks for another one.
#[test]
fn an_upstream_that_closes_fails_the_call_which_is_not_sent_again() {
    let whole = json_answer("", &result(7, "ok"));
    for bytes in [0, 1, 20, whole.len() - 1] {
        sent(Plan::default())
            .upstream(&whole[..bytes])
            .upstream_ends()
            .expect_error(502, -31004)
            .expect_drop(false)
            .expect_nothing()
            .expect_recorded(Kind::Request, &[])
            .expect_recorded(Kind::Refusal, &["\"failed\"", "upstream-closed"])
            .expect_recorded(Kind::End, &["upstream-closed"])
            .expect_open()
            .end();
        sent(Plan::default())
            .upstream(&whole[..bytes])
            .upstream_breaks()
            .expect_error(502, -31004)
            .expect_drop(false)
            .expect_nothing()
            .end();
    }
}

// Checked against the mutant "any id will do" in `own_answer_id`.
#[test]
fn an_answer_that_cannot_be_used_becomes_502() {
    let moved = "HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n";
    let challenge =
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
    let html = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi";
    let answers = [
        ("upstream-wrong-id", json_answer("", &result(8, "of another call"))),
        ("upstream-wrong-id", json_answer("", &result(7, "x").replace(":7,", ":\"7\","))),
        ("upstream-status", moved.to_owned()),
        ("upstream-status", challenge.to_owned()),
        ("upstream-status", json_answer("", &result(7, "x")).replace("200 OK", "500 No")),
        ("upstream-status", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("upstream-head", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n".to_owned()),
        ("upstream-media-type", html.to_owned()),
        ("upstream-encoding", json_answer("Content-Encoding: gzip\r\n", &result(7, "x"))),
        ("upstream-message", json_answer("", "{\"jsonrpc\":\"2.0\",\"id\":7,\"id\":7}")),
        ("upstream-message", json_answer("", "[]")),
        ("upstream-head", "SSH-2.0-OpenSSH\r\n\r\n".to_owned()),
        ("upstream-head", json_answer("Content-Length: 3\r\n", "{}")),
        (
            "upstream-framing",
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
                .to_owned(),
        ),
    ];
    for (label, answer) in answers {
        let script = sent(Plan::default()).upstream(&answer);
        let text = String::from_utf8_lossy(&script.rig.client_out).into_owned();
        assert!(!text.contains("10.0.0.1") && !text.contains("another"), "{text}");
        script
            .expect_error(502, -31004)
            // Answers and calls may no longer match on it.
            .expect_drop(false)
            .expect_recorded(Kind::Request, &[])
            .expect_recorded(Kind::Refusal, &[label])
            .expect_recorded(Kind::End, &[label])
            .expect_open()
            .end();
    }
}

#[test]
fn an_answer_over_its_bound_is_refused_however_it_is_framed() {
    let limits = Limits { answer_bytes_max: 1024, ..Limits::default() };
    let body = result(7, &"x".repeat(2000));
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let chunked =
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for answer in [json_answer("", &body), chunked, format!("{head}\r\n{body}")] {
        sent(Plan { limits: limits.clone(), ..Plan::default() })
            .upstream(answer)
            .expect_error(200, -31003)
            .expect_drop(false)
            .expect_open()
            .end();
    }
}

#[test]
fn interim_answers_are_passed_over() {
    let answer = json_answer("", &result(7, "ok"));
    sent(Plan::default())
        .upstream("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        .expect_nothing()
        .upstream(answer)
        .expect_answer(200, |answer| assert!(!answer.head.contains("Link")))
        .expect_drop(true)
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::Interim, &["interim-not-relayed", "103 Early Hints", "</x>"])
        .expect_recorded(Kind::Interim, &["100 Continue"])
        .expect_recorded(Kind::Answer, &[])
        .end();
}

#[test]
fn an_upstream_that_cannot_be_reached_is_502_and_a_busy_one_503() {
    let faults = [
        (Fault::Upstream(UpstreamFault::Unreachable(std::io::ErrorKind::ConnectionRefused)), 502),
        (Fault::Upstream(UpstreamFault::ConnectTimeout), 504),
        (Fault::UpstreamBusy, 503),
    ];
    for (fault, status) in faults {
        let script = Script::new(Plan::default());
        let token = script.stage.token("alice", 600);
        script
            .client(call(&token, 7, "echo", "x"))
            .expect_open_upstream("codegen")
            .upstream_refused(fault)
            .expect_error(status, -31004)
            .expect_nothing()
            .expect_open()
            .end();
    }
}

// Checked against the mutants "the head is taken before the answer's is written" (in each of the three
// places) and "a head of which nothing is read on is thrown away" (an answer over its bound).
#[test]
fn the_head_of_an_answer_that_is_refused_is_recorded() {
    let initialize = "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"initialize\",\"params\":{\
                      \"protocolVersion\":\"2025-11-25\"}}";
    let initialized = "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\
                       \"protocolVersion\":\"2025-11-25\",\"capabilities\":{}}}";
    // Longer than any handle can hold.
    let mark = format!("X-Mark: seen\r\nMcp-Session-Id: {}\r\n", "s".repeat(2_000));
    let stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
    let bare = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n";
    let large = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Mark: seen\r\n";
    let upgrade = "HTTP/1.1 101 Switching Protocols\r\nX-Mark: seen\r\n\r\n";
    for (answer, status, label) in [
        (json_answer(&mark, initialized), 502, "upstream-handle"),
        (format!("{stream}{mark}\r\n"), 502, "upstream-handle"),
        (format!("{bare}{mark}\r\n"), 502, "upstream-handle"),
        (format!("{large}Content-Length: 99999999\r\n\r\n"), 200, "answer-too-large"),
        (upgrade.to_owned(), 502, "upstream-head"),
    ] {
        let script = Script::new(Plan::default());
        let token = script.stage.token("alice", 600);
        let told = if label == "upstream-head" { vec![label] } else { vec![label, "X-Mark: seen"] };
        script
            .client(super::script::post(&token, "", initialize))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["initialize"])
            .upstream(&answer)
            .expect_answer(status, |_| {})
            .expect_recorded(Kind::Request, &[])
            .expect_recorded(Kind::Refusal, &told)
            .expect_recorded(Kind::End, &[label])
            .end();
    }
    // Of a head that breaks a rule no field can be told from another: how much of it came is told.
    let head = "HTTP/1.1 200 OK\r\nContent-Type : application/json\r\n\r\n";
    let kept = format!("\"kept_back_bytes\":{}", head.len());
    sent(Plan::default())
        .upstream(head)
        .expect_error(502, -31004)
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::Refusal, &["upstream-head", &kept])
        .end();
}

// Mutants: every error passes; an error of nobody's leaves the connection to the next call; the word that
// stands for no id taken for one in a result too.
#[test]
fn an_error_with_the_id_of_another_call_is_not_this_calls_answer() {
    let error = |id: &str| {
        format!("{{\"jsonrpc\":\"2.0\",{id}\"error\":{{\"code\":-32000,\"message\":\"late\"}}}}")
    };
    let bad_request = |body: &str| json_answer("", body).replacen("200 OK", "400 Bad Request", 1);
    for id in ["\"id\":6,", "\"id\":\"7\",", "\"id\":\"else\","] {
        for answer in [json_answer("", &error(id)), bad_request(&error(id))] {
            sent(Plan::default())
                .upstream(answer)
                .expect_error(502, -31004)
                .expect_drop(false)
                .expect_recorded(Kind::Request, &[])
                .expect_recorded(Kind::Refusal, &["upstream-wrong-id"])
                .end();
        }
    }
    let word = result(7, "x").replace("\"id\":7", "\"id\":\"server-error\"");
    sent(Plan::default())
        .upstream(json_answer("", &word))
        .expect_error(502, -31004)
        .expect_drop(false)
        .end();
    // Of a server that could not read the call: it passes, and nobody else is sent there.
    for id in ["\"id\":null,", "", "\"id\":\"server-error\","] {
        sent(Plan::default())
            .upstream(bad_request(&error(id)))
            .expect_error(400, -32000)
            .expect_drop(false)
            .end();
    }
    sent(Plan::default())
        .upstream(bad_request(&error("\"id\":7,")))
        .expect_error(400, -32000)
        .expect_drop(true)
        .end();
}

// Nobody could tell a redirect from a crash, nor which rule of framing a server breaks.
#[test]
fn the_record_says_which_rule_a_server_breaks_and_where() {
    let chunked = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                   Transfer-Encoding: chunked\r\n\r\n";
    let plain = json_answer("", &result(7, "x"));
    let rule = |reason: &str, rule: &str, source: &str, at: u64| {
        [
            format!("\"reason\":\"{reason}\""),
            format!("\"rule\":\"{rule}\",\"rule_source\":\"{source}\",\"at\":{at}"),
        ]
    };
    let status = |status: u16| {
        ["\"reason\":\"upstream-status\"".to_owned(), format!("\"upstream_status\":{status}")]
    };
    for (told, answer) in [
        (status(500), plain.replace("200 OK", "500 No")),
        (status(302), plain.replace("200 OK", "302 Found")),
        (
            rule("upstream-head", "head-bare-lf", "RFC 9112 §2.2", 15),
            "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n".to_owned(),
        ),
        (
            rule("upstream-framing", "body-chunk-size", "RFC 9112 §7.1", 6),
            format!("{chunked}1\r\n{{\r\nzz\r\n"),
        ),
        (
            rule("upstream-message", "json-duplicate-key", "RFC 8259 §4", 24),
            json_answer("", "{\"jsonrpc\":\"2.0\",\"id\":7,\"id\":7}"),
        ),
    ] {
        let told = told.each_ref().map(String::as_str);
        sent(Plan::default())
            .upstream(&answer)
            .expect_error(502, -31004)
            .expect_drop(false)
            .expect_recorded(Kind::Request, &[])
            .expect_recorded(Kind::Refusal, &told)
            .end();
    }
    let told = rule("upstream-events", "sse-not-utf8", "WHATWG HTML §9.2.5", 6);
    sent(Plan::default())
        .upstream(STREAM_HEAD)
        .upstream(b"9\r\ndata: \xff\n\n\r\n")
        .expect_to_client(&["\"code\":-31004"])
        .expect_drop(false)
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::StreamOpen, &[])
        .expect_recorded(Kind::Refusal, &told.each_ref().map(String::as_str))
        .end();
}

// Neither the caller nor the record was told the rule of chunks that is broken, nor where.
#[test]
fn a_caller_is_told_which_rule_of_framing_it_breaks_and_where() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let mut script = script.client(format!(
        "POST /codegen HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
         2;x=y\r\n{{}}\r\n0\r\n\r\n"
    ));
    let answer = super::script::read_answer(&mut script.rig.client_out);
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("body-chunk-extension at byte 1 (RFC 9112 §7.1.1)"), "{message}");
    script
        .expect_recorded(
            Kind::Refusal,
            &["\"reason\":\"body-framing\"", "\"rule\":\"body-chunk-extension\"", "\"at\":1"],
        )
        .expect_closed()
        .end();
}

// An operator read "upstream-status (fault of the server)" and "host (fault of the client)". Checked against
// the mutant "nothing is filled in what was seen".
#[test]
fn the_log_says_which_upstream_failed_how_and_which_host_was_asked_for() {
    let why = |script: &mut Script| {
        let notice = script.stage.env.notices.pop().expect("a notice");
        assert!(script.stage.env.notices.is_empty());
        notice.why.unwrap_or_default()
    };
    let plain = json_answer("", &result(7, "x"));
    for (answer, told) in [
        (plain.replace("200 OK", "302 Found"), "upstream codegen: status 302"),
        (plain.replace("200 OK", "200 OK\nx: y"), "upstream codegen: head-bare-lf at byte 15"),
        (json_answer("", &result(8, "x")), "upstream codegen"),
    ] {
        let mut script = sent(Plan::default()).upstream(&answer);
        let why = why(&mut script);
        assert!(why.starts_with(told), "{why}");
        script.expect_error(502, -31004).expect_drop(false).end();
    }
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let mut script = script
        .client(call(&token, 7, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_refused(Fault::Upstream(UpstreamFault::Unreachable(
            std::io::ErrorKind::ConnectionRefused,
        )));
    assert_eq!(why(&mut script), "upstream codegen: connection refused");
    script.expect_error(502, -31004).end();

    let long = format!("{}.example", "h".repeat(60));
    for (host, told) in [
        ("evil.example:80", "192.0.2.7:40000: Host evil.example:80".to_owned()),
        (&*format!("{PLANTED}.example"), "192.0.2.7:40000: Host [planted]*".to_owned()),
        (&*format!("{token}.example"), "192.0.2.7:40000: Host *".to_owned()),
        (&long, format!("192.0.2.7:40000: Host {long}")),
    ] {
        let script = Script::new(Plan::default());
        let request = call(&token, 7, "echo", "x");
        let mut script =
            script.client(request.replace("Host: g\r\n", &format!("Host: {host}\r\n")));
        let Some(notice) = script.stage.env.notices.pop() else {
            // A name that is none breaks a rule of heads.
            script.expect_answer(400, |_| {}).end();
            continue;
        };
        let why = notice.why.unwrap_or_default();
        assert!(why.starts_with(&told), "{why}");
        assert!(!why.contains(PLANTED) && !why.contains(&token), "{why}");
        script.expect_answer(421, |_| {}).end();
    }
}
