//! How far delivery got: when the kernel had taken what, what the client never acknowledged, and the
//! connection that all of it went over.

use serde_json::{Value, json};
use stenograph::gateway::connection::Event;
use stenograph::record::{Entry, Kind, PartKind};

use super::script::{STREAM_HEAD, Script, call, event, json_answer, progress, result};
use super::stage::{Plan, Recorded};

fn sent(script: Script, token: &str) -> Script {
    script
        .client(call(token, 7, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
}

fn details(record: &[Recorded], kind: Kind) -> Vec<Value> {
    record.iter().filter(|entry| entry.kind == kind).map(Recorded::detail).collect()
}

/// Last words of the script's connection.
fn farewell(script: &mut Script, unacknowledged: Option<u64>) -> Option<Value> {
    let now = script.stage.now;
    let entry: Option<Entry> =
        script.rig.connection.farewell(unacknowledged, now, &mut script.stage.env);
    entry.map(|entry| {
        assert_eq!(entry.kind, Kind::Disconnect);
        let part = entry.parts.iter().find(|part| part.kind == PartKind::Detail).unwrap();
        serde_json::from_slice(&part.bytes).unwrap()
    })
}

// Mutant: `note_handed` not called.
#[test]
fn each_event_is_told_once_with_the_time_at_which_the_kernel_had_it() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let script = sent(script, &token)
        .after_ms(100)
        .upstream(STREAM_HEAD)
        .after_ms(100)
        .client_reads(false)
        .upstream(event(&progress(1)))
        .upstream(event(&progress(2)))
        .after_ms(300)
        .client_reads(true)
        .expect_to_client(&["200 OK", "\"progress\":1", "\"progress\":2"])
        // A second after the oldest was taken, they are told without anything else happening.
        .after_ms(600)
        .upstream(event(&result(7, "done")) + "0\r\n\r\n")
        .expect_to_client(&["done", "0\r\n\r\n"]);
    script.stage.settle();
    let record = script.stage.record();
    let handed = |kind| details(&record, kind).iter().map(|one| one["handed"].clone()).collect();
    let ms = 1_000_000;
    let early: Vec<Value> = handed(Kind::Delivery);
    assert_eq!(early, [json!([[1, 1, 100 * ms], [2, 3, 500 * ms]])]);
    let late: Vec<Value> = handed(Kind::End);
    assert_eq!(late, [json!([[5, 6, 1100 * ms]])]);
    assert_eq!(record[4].kind, Kind::Delivery);
    let end = &details(&record, Kind::End)[0];
    let times = ["forwarded_ns", "begun_ns", "sent_ns", "duration_ns"].map(|name| &end[name]);
    assert_eq!(times, [&json!(0), &json!(100 * ms), &json!(1100 * ms), &json!(1100 * ms)]);
    script.end();
}

// Mutant: what the kernel took in part is told as handed over.
#[test]
fn an_event_that_the_kernel_took_in_part_is_not_told_as_handed_over() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let mut script = sent(script, &token)
        .upstream(STREAM_HEAD)
        .expect_to_client(&["200 OK"])
        .client_reads(false)
        .upstream(event(&progress(1)));
    script.rig.event(&mut script.stage, Event::ClientSendBroken(10));
    let script = script.upstream(event(&result(7, "for nobody")) + "0\r\n\r\n");
    script.stage.settle();
    let end = &details(&script.stage.record(), Kind::End)[0];
    assert_eq!(
        (&end["handed"], &end["outcome"]),
        (&json!([[1, 1, 0]]), &json!("client-disconnected"))
    );
    let mut script = script;
    script.rig.client_out.clear();
    script.end();
}

// The simulator found it (seed 50): what waited behind a send became a second send, when a receive said
// that the client is gone before the send did. Mutant: the waiting bytes are kept.
#[test]
fn a_client_that_is_gone_is_sent_nothing_more() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let mut script = sent(script, &token)
        .upstream(STREAM_HEAD)
        .expect_to_client(&["200 OK"])
        .client_reads(false)
        .upstream(event(&progress(1)))
        .upstream(event(&progress(2)));
    // The machine of the test refuses a second send.
    script.rig.event(&mut script.stage, Event::ClientBroken);
    let mut script = script.upstream(event(&result(7, "for nobody")) + "0\r\n\r\n");
    assert!(!String::from_utf8_lossy(&script.rig.client_out).contains("\"progress\":2"));
    script.rig.client_out.clear();
    script.end();
}

// Mutants: the question asked of every exchange, or of none.
#[test]
fn what_was_cut_says_how_much_the_client_never_acknowledged() {
    let mut script = Script::new(Plan::default());
    script.rig.unacknowledged = Some(4242);
    let token = script.stage.token("alice", 600);
    let script = sent(script, &token)
        .upstream(json_answer("", &result(7, "whole")))
        .expect_answer(200, |_| {})
        .expect_drop(true);
    let script = sent(script, &token)
        .upstream(STREAM_HEAD.to_owned() + &event(&progress(1)))
        .set(|stage| stage.deny("alice"))
        .expect_answer(200, |answer| assert!(answer.body.contains("-31001"), "{answer:?}"))
        .expect_drop(false)
        .expect_closed();
    script.stage.settle();
    let ends = details(&script.stage.record(), Kind::End);
    assert_eq!(
        (&ends[0]["unacknowledged_bytes"], &ends[0]["outcome"]),
        (&Value::Null, &"complete".into())
    );
    assert_eq!(ends[1]["unacknowledged_bytes"], 4242);
    assert_eq!(ends[1]["outcome"], "denied-subject");
    script.end();
}

// Mutants: a connect entry for every request; the FIN counted as a byte.
#[test]
fn a_connection_is_told_with_its_first_caller_and_when_it_is_over() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let stranger = "GET /nowhere HTTP/1.1\r\nHost: g\r\n\r\n";
    let first = call(&token, 7, "echo", "x");
    let last = first.replace("Host: g", "Host: g\r\nConnection: close");
    let mut sent_bytes = 0;
    let mut script = script.client(stranger).expect_answer(404, |answer| {
        sent_bytes += answer.head.len() + answer.body.len();
    });
    for request in [&first, &last] {
        script = script
            .after_ms(1_000)
            .client(request)
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["echo"])
            .upstream(json_answer("", &result(7, "ok")))
            .expect_drop(true)
            .expect_answer(200, |answer| sent_bytes += answer.head.len() + answer.body.len());
    }
    let mut script = script.expect_closed().client("late").client_ends();
    assert!(script.rig.closed);
    let over = farewell(&mut script, Some(3)).unwrap();
    let received = stranger.len() + first.len() + last.len() + 4;
    for (name, expected) in [
        ("why", json!("closed-after-answer")),
        ("exchanges", json!(3)),
        ("received_bytes", json!(received)),
        ("sent_bytes", json!(sent_bytes)),
        ("unacknowledged_bytes", json!(2)),
        ("discarded_bytes", json!(4)),
        ("duration_ns", json!(2_000_000_000u64)),
    ] {
        assert_eq!(over[name], expected, "{name} in {over}");
    }
    script.stage.settle();
    let all = script.stage.all();
    let connects = details(&all, Kind::Connect);
    assert_eq!(connects.len(), 1, "{connects:?}");
    for name in ["source", "opened", "opened_mono_ns"] {
        assert!(!over[name].is_null() && over[name] == connects[0][name], "{name} in {over}");
    }
    // Each of its exchanges names it, the refusal before anybody was known too.
    let name = over["connection"].as_str().unwrap();
    assert_eq!(connects[0]["connection"], name);
    let named =
        |kind| all.iter().filter(|entry| entry.kind == kind).map(connection_of).collect::<Vec<_>>();
    assert_eq!(named(Kind::Refusal), [Some(name.to_owned())]);
    assert_eq!(named(Kind::Request), [Some(name.to_owned()), Some(name.to_owned())]);
    assert_eq!(named(Kind::Answer), [None, None], "an answer does not repeat it");
    let place = |kind| all.iter().position(|entry| entry.kind == kind).unwrap();
    assert!(
        place(Kind::Refusal) < place(Kind::Connect) && place(Kind::Connect) < place(Kind::Request)
    );
    script.end();
}

/// The connection that the verdict of an entry names.
fn connection_of(entry: &Recorded) -> Option<String> {
    let verdict: Value = serde_json::from_slice(entry.part(PartKind::Verdict)?).unwrap();
    Some(verdict["connection"].as_str()?.to_owned())
}

// Mutant: an exchange whose end is all there is does not name it.
#[test]
fn two_connections_of_one_source_are_told_apart() {
    let mut script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let mut names = Vec::new();
    for _ in 0..2 {
        // Given up before its body was whole: nothing but the end tells it.
        let ask = call(&token, 7, "echo", "x");
        script = script.client(&ask[..ask.len() - 1]).client_ends();
        let over = farewell(&mut script, Some(0)).unwrap();
        script.stage.settle();
        let all = script.stage.all();
        let end = details(&all, Kind::End).pop().unwrap();
        assert_eq!(end["connection"], over["connection"]);
        names.push((over["source"].clone(), over["connection"].clone()));
        script = script.reconnect();
    }
    assert!(names[0].0 == names[1].0 && names[0].1 != names[1].1, "{names:?}");
    script.end();
}

#[test]
fn a_connection_without_a_caller_is_only_counted() {
    let mut script = Script::new(Plan::default());
    for _ in 0..3 {
        script = script.client("GET /nowhere HTTP/1.1\r\nHost: g\r\n\r\n").client_ends();
        script.rig.client_out.clear();
        assert_eq!(farewell(&mut script, Some(0)), None);
        script = script.reconnect();
    }
    script = script.after_ms(100_000).expect_closed();
    assert_eq!(farewell(&mut script, Some(0)), None);
    let (now, refusals) = (script.stage.now, &mut script.stage.env.refusals);
    let mut counted: Vec<_> =
        refusals.due(now, true).into_iter().map(|one| (one.reason, one.count)).collect();
    counted.sort_unstable();
    assert_eq!(counted, [("connection-client-ended", 3), ("connection-idle", 1)]);
    assert!(details(&script.stage.all(), Kind::Connect).is_empty());
    script.end();
}
