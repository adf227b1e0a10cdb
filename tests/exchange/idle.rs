//! Who waits holds no receive buffer.
//!
//! Checked against two mutants: a receive that keeps the buffer it is given, and one that makes its
//! room at once.

use super::script::{STREAM_HEAD, Script, call, event, json_answer, progress, result};
use super::stage::Plan;

fn holds(script: &Script) -> usize {
    script.rig.receives_hold_bytes()
}

#[test]
fn a_connection_that_waits_holds_no_receive_buffer() {
    let script = Script::new(Plan::default());
    assert_eq!(holds(&script), 0, "before the first byte");
    let token = script.stage.token("alice", 6000);
    let request = call(&token, 7, "echo", "x");

    let script = script.client(&request[..40]);
    assert_eq!(holds(&script), 40, "in the middle of a head: what has arrived of it");
    let script = script.client(&request[40..request.len() - 5]);
    assert!(holds(&script) < request.len(), "in the middle of a body");

    let script = script
        .client(&request[request.len() - 5..])
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"]);
    assert_eq!(holds(&script), 0, "while the upstream works");
    let answer = json_answer("", &result(7, "ok"));
    let script = script.upstream(&answer[..30]);
    assert_eq!(holds(&script), 30, "in the middle of the answer's head");
    let script = script.upstream(&answer[30..]).expect_answer(200, |_| {});
    assert_eq!(holds(&script), 0, "between two requests");
    script.expect_drop(true).expect_open().end();
}

#[test]
fn a_silent_stream_holds_no_receive_buffer() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 6000);
    let script = script
        .client(call(&token, 7, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(STREAM_HEAD)
        .expect_to_client(&["200 OK"]);
    assert_eq!(holds(&script), 0, "before the first event");
    let script = script.upstream(event(&progress(1))).expect_to_client(&["\"progress\":1"]);
    assert_eq!(holds(&script), 0, "between two events");
    script
        .upstream(event(&result(7, "ok")) + "0\r\n\r\n")
        .expect_to_client(&["ok", "0\r\n\r\n"])
        .expect_open()
        .end();
}
