//! Answers that are event streams.

use stenograph::limits::Limits;
use stenograph::record::Kind;

use super::script::{STREAM_HEAD, Script, call, chunk, event, progress, result};
use super::stage::{FORBIDDEN, PLANTED, Plan};

/// A call by alice whose answer begins as a stream.
fn streaming(plan: Plan) -> Script {
    let script = Script::new(plan);
    let token = script.stage.token("alice", 600);
    script
        .client(call(&token, 7, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(STREAM_HEAD)
        .expect_to_client(&["HTTP/1.1 200 OK\r\n", "Transfer-Encoding: chunked\r\n", "\r\n\r\n"])
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::StreamOpen, &[])
}

#[test]
fn progress_goes_out_event_by_event_and_the_answer_ends_the_stream() {
    streaming(Plan::default())
        .upstream(event(&progress(1)))
        .expect_to_client(&["event: message\ndata: {", "\"progress\":1", "\n\n\r\n"])
        .expect_recorded(Kind::Event, &["notifications/progress"])
        .upstream(&event(&progress(2))[..40])
        .expect_nothing()
        .upstream(&event(&progress(2))[40..])
        .expect_to_client(&["\"progress\":2"])
        .expect_recorded(Kind::Event, &[])
        .upstream(event(&result(7, &format!("the key is {PLANTED}"))))
        .expect_to_client(&["\"id\":7", "the key is ["])
        .expect_recorded(Kind::Event, &["\"decision\":\"masked\""])
        .upstream("0\r\n\r\n")
        .expect_to_client(&["0\r\n\r\n"])
        .expect_recorded(Kind::Event, &[])
        .expect_recorded(Kind::End, &["complete"])
        .expect_drop(true)
        .expect_open()
        .end();
}

// Python's `str.splitlines` ends a line at each of these; see tests/event_streams.rs.
#[test]
fn what_ends_a_line_for_some_readers_goes_out_escaped_and_is_recorded_as_an_edit() {
    streaming(Plan::default())
        .upstream(event(
            &progress(1).replace(":1}", ":1,\"message\":\"a\u{2028}b\u{2029}\u{85}\"}"),
        ))
        .expect_to_client(&["\"message\":\"a\\u2028b\\u2029\\u0085\"}"])
        .expect_recorded(Kind::Event, &["\"edited\":true", "a\\u2028b"])
        .upstream(event(&result(7, &format!("\u{2028}{PLANTED}"))))
        .expect_to_client(&["\"id\":7", "\\u2028["])
        .expect_recorded(Kind::Event, &["\"decision\":\"masked\""])
        .upstream(chunk("event: a\u{2028}b\ndata: {}\n\n"))
        .expect_to_client(&["0\r\n\r\n"])
        .expect_recorded(Kind::Refusal, &["upstream-events"])
        .end();
}

#[test]
fn a_time_to_come_back_needs_no_data() {
    streaming(Plan::default())
        .upstream(chunk("retry: 3000\n\n"))
        .expect_to_client(&["\r\nretry: 3000\n\n\r\n"])
        .expect_recorded(Kind::Event, &["retry: 3000\n"])
        .upstream(chunk("event: message\n\n"))
        .expect_nothing()
        .upstream("0\r\n\r\n")
        .expect_to_client(&["0\r\n\r\n"])
        .end();
}

#[test]
fn a_blocked_event_is_replaced_if_it_answers_and_kept_back_otherwise() {
    streaming(Plan::default())
        .upstream(event(&progress(1).replace(":1}", &format!(":1,\"message\":\"{FORBIDDEN}\"}}"))))
        .expect_nothing()
        .expect_recorded(Kind::Event, &["\"blocked\""])
        .upstream(event(&result(7, FORBIDDEN)) + "0\r\n\r\n")
        .expect_to_client(&["\"id\":7,\"error\":{\"code\":-31002", "0\r\n\r\n"])
        .end();
}

#[test]
fn a_stream_that_fails_midway_ends_with_an_error_in_the_answers_place() {
    let broken: [fn(Script) -> Script; 4] = [
        |script| script.upstream_ends(),
        |script| script.upstream_breaks(),
        |script| script.upstream("zz\r\n"),
        |script| script.upstream(event("{\"jsonrpc\":\"2.0\"")),
    ];
    for broken in broken {
        let script =
            streaming(Plan::default()).upstream(event(&progress(1))).expect_to_client(&["1"]);
        broken(script)
            .expect_to_client(&["\"id\":7,\"error\":{\"code\":-31004", "\n\n\r\n0\r\n\r\n"])
            .expect_drop(false)
            .end();
    }
}

#[test]
fn an_event_over_its_bound_ends_the_stream() {
    let limits = Limits { event_bytes_max: 1024, ..Limits::default() };
    streaming(Plan { limits, ..Plan::default() })
        .upstream(event(&result(7, &"x".repeat(2000))))
        .expect_to_client(&["\"id\":7,\"error\":{\"code\":-31003", "0\r\n\r\n"])
        .expect_drop(false)
        .end();
}

#[test]
fn an_answer_with_another_id_on_the_calls_stream_is_somebody_elses() {
    streaming(Plan::default())
        .upstream(event(&result(8, "of another caller")))
        .expect_to_client(&["\"id\":7,\"error\":{\"code\":-31004", "0\r\n\r\n"])
        .expect_drop(false)
        .end();
}

// Mutants: errors pass whatever their id is; what comes behind the answer is not looked at.
#[test]
fn a_calls_stream_carries_the_outcome_of_that_call_once() {
    let error = |id: &str| {
        event(&format!(
            "{{\"jsonrpc\":\"2.0\",{id}\"error\":{{\"code\":-32000,\"message\":\"late\"}}}}"
        ))
    };
    for foreign in ["\"id\":8,", "\"id\":\"7\","] {
        streaming(Plan::default())
            .upstream(error(foreign))
            .expect_to_client(&["\"id\":7,\"error\":{\"code\":-31004", "0\r\n\r\n"])
            .expect_drop(false)
            .end();
    }
    for second in [event(&result(7, "again")), error("\"id\":7,")] {
        streaming(Plan::default())
            .upstream(event(&result(7, "once")))
            .expect_to_client(&["once"])
            .expect_recorded(Kind::Event, &[])
            .upstream(second)
            .expect_to_client(&["0\r\n\r\n"])
            .expect_recorded(Kind::Refusal, &["upstream-wrong-id", "\"kept_back_bytes\""])
            .expect_drop(false)
            .end();
    }
    // An error of nobody's takes no place, and the connection is not used again.
    streaming(Plan::default())
        .upstream(error("\"id\":null,"))
        .expect_to_client(&["\"id\":null"])
        .upstream(event(&result(7, "once")) + "0\r\n\r\n")
        .expect_to_client(&["once", "0\r\n\r\n"])
        .expect_drop(false)
        .end();
}

#[test]
fn events_being_gathered_are_taken_from_the_budget() {
    let limits = Limits { inflight_bytes_max: 1024 * 1024, ..Limits::default() };
    let script = streaming(Plan { limits, ..Plan::default() });
    let whole = event(&result(7, &"x".repeat(2 * 1024 * 1024)));
    let script = script.upstream(&whole[..512 * 1024]).expect_nothing();
    assert!(script.stage.env.budget.used_bytes() >= 500 * 1024);
    let script = script
        .upstream(&whole[512 * 1024..])
        .expect_to_client(&["\"id\":7,\"error\":{\"code\":-31003", "0\r\n\r\n"]);
    assert_eq!(script.stage.env.budget.used_bytes(), 0);
    script.end();
}

#[test]
fn a_client_that_leaves_cancels_upstream_in_the_modern_era_only() {
    streaming(Plan::default())
        .client_ends()
        .upstream(event(&result(7, "late")) + "0\r\n\r\n")
        .expect_to_client(&["late", "0\r\n\r\n"])
        .expect_recorded(Kind::Event, &["late"])
        .expect_recorded(Kind::Event, &[])
        .expect_recorded(Kind::End, &["complete"])
        .expect_drop(true)
        .expect_closed()
        .end();

    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let more = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: echo\r\n";
    script
        .client(
            call(&token, 7, "echo", "x")
                .replace("Content-Length", &format!("{more}Content-Length")),
        )
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .client_ends()
        .expect_drop(false)
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::Cut, &["client-disconnected"])
        .expect_recorded(Kind::End, &["client-disconnected"])
        .expect_closed()
        .end();
}

#[test]
fn the_answer_of_a_client_that_left_is_waited_for_within_a_bound() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    script
        .client(call(&token, 7, "echo", "x"))
        .client_ends()
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .after_ms(59_000)
        .expect_nothing()
        .after_ms(2_000)
        .expect_drop(false)
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::Cut, &["client-disconnected"])
        .expect_recorded(Kind::End, &[])
        .expect_closed()
        .end();
}
