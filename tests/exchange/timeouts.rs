//! Every wait has an end: time is driven by hand.

use stenograph::record::Kind;

use super::script::{STREAM_HEAD, Script, call, event, json_answer, post, progress, result};
use super::stage::Plan;

fn sent() -> Script {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 6000);
    script
        .client(call(&token, 7, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
}

#[test]
fn an_idle_connection_is_closed_and_a_slow_head_answered() {
    Script::new(Plan::default())
        .after_ms(74_000)
        .expect_open()
        .after_ms(2_000)
        .expect_closed()
        .end();
    Script::new(Plan::default())
        .client("POST /cod")
        .after_ms(9_000)
        .client("egen HT")
        .expect_nothing()
        .after_ms(1_500)
        .expect_answer(408, |_| {})
        .expect_closed()
        .after_ms(3_000)
        .end();
}

#[test]
fn the_time_of_a_head_begins_with_its_first_byte() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let request = call(&token, 1, "deploy", "x");
    script
        .after_ms(60_000)
        .client(&request[..20])
        .after_ms(9_000)
        .client(&request[20..])
        .expect_error(200, -31001)
        .after_ms(60_000)
        .expect_open()
        .end();
}

#[test]
fn a_body_below_the_least_rate_is_answered_with_408() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let request = call(&token, 1, "echo", "x");
    script
        .client(&request[..request.len() - 5])
        .after_ms(10_000)
        .expect_nothing()
        .after_ms(1_000)
        .expect_answer(408, |answer| assert!(answer.body.contains("1024 bytes a second")))
        .expect_nothing()
        .expect_recorded(Kind::Refusal, &["alice", "body-too-slow"])
        .expect_closed()
        .end();
}

#[test]
fn a_body_at_the_least_rate_is_read_until_its_deadline() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let request = call(&token, 1, "echo", &"x".repeat(100_000));
    let head = request.find("\r\n\r\n").unwrap() + 4;
    let mut script = script.client(&request[..head]).after_ms(9_500);
    let mut at = head;
    for _ in 0..20 {
        script = script.client(&request[at..at + 1024]).after_ms(1_000).expect_nothing();
        at += 1024;
    }
    // From here on it would be in time, were there no end to all bodies.
    script
        .client(&request[at..at + 20_000])
        .after_ms(1_000)
        .expect_answer(408, |_| {})
        .expect_recorded(Kind::Refusal, &["alice", "body-timeout"])
        .expect_closed()
        .end();
}

#[test]
fn without_a_least_rate_a_slow_body_has_its_deadline() {
    let mut plan = Plan::default();
    plan.limits.body_rate_bytes_min = 0;
    let script = Script::new(plan);
    let token = script.stage.token("alice", 600);
    let request = call(&token, 1, "echo", "x");
    script
        .client(&request[..request.len() - 5])
        .after_ms(29_000)
        .expect_nothing()
        .after_ms(1_500)
        .expect_answer(408, |_| {})
        .expect_nothing()
        .expect_recorded(Kind::Refusal, &["alice", "body-timeout"])
        .expect_closed()
        .end();
}

/// Checked against the mutant that waits for what a chunk announces.
#[test]
fn a_chunk_that_announces_more_than_may_come_is_refused_at_once() {
    for (before, size) in [("", "FFFFFFFFFFFFFFFF"), ("", "400001"), ("5\r\n{\"a\":\r\n", "3FFFFC")]
    {
        for whole in [true, false] {
            let script = Script::new(Plan::default());
            let token = script.stage.token("alice", 600);
            let chunked =
                post(&token, "", "").replace("Content-Length: 0", "Transfer-Encoding: chunked");
            let request = format!("{chunked}{before}{size}\r\n");
            let script = match whole {
                true => script.client(&request),
                false => request.bytes().fold(script, |script, byte| script.client([byte])),
            };
            script
                .expect_answer(413, |_| {})
                .expect_recorded(Kind::Refusal, &["alice", "body-too-large"])
                .expect_closed()
                .end();
        }
    }
    let script = sent().upstream(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n",
    );
    script.expect_error(200, -31003).expect_drop(false).end();
}

fn streaming(plan: Plan) -> Script {
    let script = Script::new(plan);
    let token = script.stage.token("alice", 6000);
    script
        .client(call(&token, 7, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(STREAM_HEAD)
        .expect_to_client(&["200 OK"])
}

#[test]
fn a_stream_lasts_as_long_as_one_may() {
    let mut plan = Plan::default();
    plan.limits.stream_ms_max = 60_000;
    let mut script = streaming(plan);
    for step in 0..5 {
        script = script.after_ms(11_000).upstream(event(&progress(step)));
        script = script.expect_to_client(&["\"progress\""]);
    }
    script
        .after_ms(6_000)
        .expect_to_client(&["\"id\":7,\"error\":{\"code\":-31003", "0\r\n\r\n"])
        .expect_drop(false)
        .expect_open()
        .end();
}

#[test]
fn a_stream_is_as_large_as_one_may() {
    let mut plan = Plan::default();
    plan.limits.stream_bytes_max = 4096;
    let mut script = streaming(plan);
    let events = event(&progress(1));
    // Chunk framing is no part of the stream.
    let data_bytes = events.len() - "74\r\n\r\n".len();
    for _ in 0..4096 / data_bytes {
        script = script.upstream(&events).expect_to_client(&["\"progress\""]);
    }
    script
        .upstream(&events)
        .expect_to_client(&["\"id\":7,\"error\":{\"code\":-31003", "0\r\n\r\n"])
        .expect_drop(false)
        .expect_open()
        .end();
}

#[test]
fn waiting_for_an_upstream_connection_ends() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let mut script = script.client(call(&token, 7, "echo", "x")).expect_open_upstream("codegen");
    script = script.after_ms(5_000).expect_nothing().after_ms(1_500).expect_error(503, -31004);
    script.expect_nothing().end();
}

#[test]
fn a_slow_answer_is_504_in_every_phase() {
    sent().after_ms(299_000).expect_nothing().after_ms(2_000).expect_error(504, -31004).end();
    let answer = json_answer("", &result(7, "ok"));
    sent()
        .upstream(&answer[..answer.len() - 3])
        .after_ms(301_000)
        .expect_error(504, -31004)
        .expect_drop(false)
        .end();
    sent()
        .upstream(STREAM_HEAD)
        .expect_to_client(&["200 OK"])
        .after_ms(800_000)
        .upstream(event(&progress(1)))
        .expect_to_client(&["\"progress\":1"])
        .after_ms(800_000)
        .expect_nothing()
        .after_ms(101_000)
        .expect_to_client(&["\"id\":7,\"error\":{\"code\":-31004", "0\r\n\r\n"])
        .expect_drop(false)
        .end();
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let script = sent().client_reads(false).upstream(json_answer("", &result(7, "ok")));
    script
        .expect_answer(200, |_| {})
        .after_ms(29_000)
        .expect_open()
        .after_ms(2_000)
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::Answer, &[])
        .expect_recorded(Kind::End, &["client-not-reading"])
        .expect_closed()
        .end();
}

#[test]
fn after_a_refusal_that_closes_the_client_may_finish_for_a_while() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let request = post(&token, "", "{}").replace("application/json\r\n", "text/plain\r\n");
    let request = request.replace("Content-Length: 2", "Content-Length: 200000");
    let script = script.client(request).expect_answer(415, |_| {});
    assert!(script.rig.shut && !script.rig.closed);
    let script = script.client(vec![b'x'; 100_000]).after_ms(1_000);
    assert!(!script.rig.closed);
    let script = script.after_ms(1_500);
    assert!(script.rig.closed);
    script.end();
}

#[test]
fn a_recorder_that_takes_too_long_is_503() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let script = script
        .set(|stage| stage.stall(true))
        .client(call(&token, 7, "echo", "x"))
        .after_ms(9_000)
        .expect_nothing()
        .after_ms(1_050)
        .expect_error(503, -31005)
        .expect_nothing()
        .expect_closed();
    script.set(|stage| stage.stall(false)).end();
}

// The caller was told that the record cannot be written, and it was. Mutant: the deadline by itself.
#[test]
fn a_worker_that_had_no_time_looks_again_before_it_blames_the_recorder() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let script = script
        .set(|stage| stage.stall(true))
        .client(call(&token, 7, "echo", "x"))
        .after_ms(12_000)
        .expect_nothing();
    // The record went on; or it did not.
    let went_on = script.set(|stage| stage.stall(false)).after_ms(50);
    went_on
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(json_answer("", &result(7, "ok")))
        .expect_answer(200, |_| {})
        .end();
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let script = script
        .set(|stage| stage.stall(true))
        .client(call(&token, 7, "echo", "x"))
        .after_ms(12_000)
        .expect_nothing()
        .after_ms(150)
        .expect_error(503, -31005)
        .expect_nothing()
        .expect_closed();
    script.set(|stage| stage.stall(false)).end();
}
