//! The promise: nothing leaves, in either direction, before its record has reached its level.

use stenograph::gateway::env::{Seals, Terms};
use stenograph::limits::Limits;
use stenograph::record::{Keep, Kind};

use super::script::{STREAM_HEAD, Script, call, event, json_answer, progress, result};
use super::stage::{PLANTED, Plan};

fn sent(script: Script, token: &str) -> Script {
    script
        .client(call(token, 7, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
}

// Checked against the mutant "released before it is recorded": `Held::ready` is always true.
#[test]
fn a_stalled_writer_holds_every_byte_back_in_both_directions() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let script = script
        .set(|stage| stage.stall(true))
        .client(call(&token, 7, "echo", "x"))
        .after_ms(2_000)
        .expect_nothing()
        .set(|stage| stage.stall(false))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .set(|stage| stage.stall(true))
        .upstream(json_answer("", &result(7, "held")))
        .after_ms(2_000)
        .expect_nothing()
        .set(|stage| stage.stall(false))
        .expect_answer(200, |answer| assert!(answer.body.contains("held")));
    let script = sent(script, &token)
        .set(|stage| stage.stall(true))
        .upstream(STREAM_HEAD)
        .upstream(event(&progress(1)))
        .after_ms(2_000)
        .expect_nothing()
        .set(|stage| stage.stall(false))
        .expect_to_client(&["200 OK", "\"progress\":1"])
        .set(|stage| stage.stall(true))
        .upstream(event(&progress(2)))
        .upstream(event(&result(7, "last")) + "0\r\n\r\n")
        .after_ms(2_000)
        .expect_nothing()
        .set(|stage| stage.stall(false))
        .expect_to_client(&["\"progress\":2", "last", "0\r\n\r\n"]);
    // Refusals and interim answers wait just the same.
    script
        .set(|stage| stage.stall(true))
        .client(call(&token, 8, "deploy", "x"))
        .client("GET /nowhere HTTP/1.1\r\nHost: g\r\n\r\n")
        .expect_nothing()
        .set(|stage| stage.stall(false))
        .expect_error(200, -31001)
        .expect_answer(404, |_| {})
        .expect_open()
        .end();
}

#[test]
fn a_writer_that_fails_lets_nothing_through_and_serves_again_when_it_can() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let script = script
        .set(|stage| stage.fail(true))
        .client(call(&token, 7, "echo", "refused"))
        .expect_answer(503, |answer| {
            assert_eq!(answer.json()["error"]["code"], -31005);
            assert!(answer.field("Retry-After").is_some());
        })
        .expect_nothing()
        .expect_closed()
        .reconnect()
        .client(call(&token, 8, "echo", "refused at once"))
        .expect_error(503, -31005)
        .expect_nothing()
        .expect_closed()
        .set(|stage| {
            stage.fail(false);
            super::stage::until("the record", || !stage.env.recorder.progress().failed());
        })
        .reconnect()
        // What was refused is in the record, with its end: not forwarded.
        .expect_recorded(Kind::Request, &["refused"])
        .expect_recorded(Kind::End, &["recorder-unavailable"])
        .expect_recorded(Kind::Request, &["refused at once"])
        .expect_recorded(Kind::End, &["recorder-unavailable"]);
    sent(script, &token)
        .upstream(json_answer("", &result(7, "ok")))
        .expect_answer(200, |_| {})
        .end();
}

#[test]
fn an_answer_that_cannot_be_recorded_is_withheld() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let script = sent(script, &token)
        .set(|stage| stage.fail(true))
        .upstream(json_answer("", &result(7, "withheld")))
        .expect_answer(503, |answer| {
            assert_eq!(answer.json()["error"]["code"], -31005);
            assert!(!answer.body.contains("withheld\""), "{answer:?}");
            assert!(answer.body.contains("may have run"));
        })
        .expect_closed();
    script.set(|stage| stage.fail(false)).end();
}

#[test]
fn a_stream_that_cannot_be_recorded_ends_with_an_error_event() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let script = sent(script, &token)
        .upstream(STREAM_HEAD.to_owned() + &event(&progress(1)))
        .set(|stage| stage.fail(true))
        .upstream(event(&result(7, "withheld")))
        .expect_answer(200, |answer| {
            assert!(answer.body.contains("\"progress\":1"), "{answer:?}");
            assert!(!answer.body.contains("withheld"), "{answer:?}");
            assert_eq!(answer.json()["error"]["code"], -31005);
        })
        .expect_drop(false)
        .expect_closed();
    script.set(|stage| stage.fail(false)).end();
}

#[test]
fn a_caller_that_was_told_to_go_on_gets_an_answer_when_the_record_fails() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let request = call(&token, 1, "echo", "x")
        .replace("Content-Length", "Expect: 100-continue\r\nContent-Length");
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    script
        .client(format!("{head}\r\n\r\n"))
        .expect_to_client(&["HTTP/1.1 100 Continue\r\n\r\n"])
        .set(|stage| stage.fail(true))
        .client(body)
        .expect_error(503, -31005)
        .expect_nothing()
        .set(|stage| stage.fail(false))
        .end();
}

#[test]
fn a_full_queue_makes_the_connection_wait_and_loses_nothing() {
    let limits = Limits { recorder_queue_entries_max: 16, ..Limits::default() };
    let script = Script::new(Plan { limits, ..Plan::default() });
    let token = script.stage.token("alice", 600);
    let mut script = sent(script, &token)
        .upstream(STREAM_HEAD)
        .expect_to_client(&["200 OK"])
        .set(|stage| stage.stall(true));
    for step in 1..=100 {
        script.rig.upstream(event(&progress(step)).as_bytes());
    }
    script.rig.upstream((event(&result(7, "last")) + "0\r\n\r\n").as_bytes());
    script = script.wake().expect_nothing();
    let queued = script.stage.env.recorder.progress().queued_entries();
    // The queue, and what the writer had taken when the disk stalled.
    assert!((16..80).contains(&queued), "{queued}");
    script = script.set(|stage| stage.stall(false));
    let text = String::from_utf8(std::mem::take(&mut script.rig.client_out)).unwrap();
    for step in 1..=100 {
        assert_eq!(text.matches(&format!("\"progress\":{step}}}")).count(), 1, "{step}");
    }
    assert!(text.ends_with("0\r\n\r\n"));
    script.stage.settle();
    let record = script.stage.record();
    assert_eq!(record.iter().filter(|entry| entry.kind == Kind::Event).count(), 102);
    script.end();
}

#[test]
fn what_a_large_body_took_is_given_back_when_it_is_refused() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let mut script = script;
    for _ in 0..3 {
        let body = "x".repeat(3 * 1024 * 1024);
        script = script.client(super::script::post(&token, "", &body)).expect_error(400, -32700);
        assert_eq!(script.stage.env.budget.used_bytes(), 0);
        assert_eq!(script.rig.receives_hold_bytes(), 0, "the connection keeps its memory");
    }
    script.expect_open().end();
}

#[test]
fn a_caller_holds_no_more_memory_than_it_leaves_free() {
    let mut plan = Plan::default();
    plan.limits.inflight_bytes_max = 8 * 1024 * 1024;
    let mut script = Script::new(plan);
    let offer = |script: &mut Script, subject: &str, mebibytes: usize| {
        let token = script.stage.token(subject, 600);
        let length = format!("Content-Length: {}", mebibytes * 1024 * 1024);
        let head = super::script::post(&token, "", "").replace("Content-Length: 0", &length);
        let mut rig = super::rig::Rig::new(&mut script.stage);
        rig.client(head.as_bytes());
        rig.drive(&mut script.stage);
        let answer = String::from_utf8(rig.client_out.clone()).unwrap();
        (rig, answer)
    };
    let (alices, answer) = offer(&mut script, "alice", 3);
    assert_eq!(answer, "", "the body is waited for");
    let (_, answer) = offer(&mut script, "alice", 4);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let (bobs, answer) = offer(&mut script, "bob", 4);
    assert_eq!(answer, "", "somebody else's is");
    drop((alices, bobs));
    assert_eq!(script.stage.env.budget.used_bytes(), 0);
    script.end();
}

/// So much of a body that an entry which holds it four times is too long.
const TOO_LONG: usize = 21 << 20;

fn too_long() -> Plan {
    let limits = Limits {
        body_bytes_max: 32 << 20,
        answer_bytes_max: 32 << 20,
        event_bytes_max: 32 << 20,
        ..Limits::default()
    };
    let terms = Terms { level: None, keep: Keep::Sealed };
    let seals = Seals { originals: true, ..Seals::default() };
    Plan { limits, terms, seals, ..Plan::default() }
}

/// A text of that length in which something is masked, so that it is sealed as it came, too.
fn long_text() -> String {
    format!("{PLANTED} {}", "x".repeat(TOO_LONG))
}

// Checked against the mutants "what does not fit is tried again" (`TooLarge` is taken for `Full`) and "the
// recorder fails" (each of the three arms of `record_less` left out).
#[test]
fn a_message_that_no_entry_can_hold_is_refused_at_once() {
    let bound = |answer: &super::script::Answer| {
        assert_eq!(answer.json()["error"]["code"], -31003, "{}", answer.head);
        let said = answer.json()["error"]["message"].to_string();
        assert!(said.contains("ENTRY_BYTES_MAX") && said.contains("83886080"), "{said}");
    };
    let refused = ["\"refused\"", "\"reason\":\"entry-too-large\"", "\"kept_back_bytes\":2202"];
    let script = Script::new(too_long());
    let token = script.stage.token("alice", 600);
    let script = script
        .client(call(&token, 7, "echo", &long_text()))
        .expect_answer(413, bound)
        .expect_nothing()
        .expect_recorded(Kind::Refusal, &refused)
        .expect_recorded(Kind::End, &["entry-too-large"])
        .expect_open();
    sent(script, &token)
        .upstream(json_answer("", &result(7, &long_text())))
        .expect_answer(502, bound)
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::Refusal, &[refused[0], refused[1], refused[2], "200 OK"])
        .expect_recorded(Kind::End, &["entry-too-large"])
        .expect_open()
        .end();

    let script = Script::new(too_long());
    let mut script = sent(script, &token).upstream(STREAM_HEAD).expect_to_client(&["200 OK"]);
    for piece in event(&result(7, &long_text())).as_bytes().chunks(64 << 10) {
        script.rig.upstream(piece);
    }
    script
        .wake()
        .expect_to_client(&["\"id\":7,\"error\":{\"code\":-31003", "ENTRY_BYTES_MAX", "0\r\n\r\n"])
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::StreamOpen, &[])
        .expect_recorded(Kind::Refusal, &["entry-too-large"])
        .expect_recorded(Kind::End, &["entry-too-large"])
        .end();
}
