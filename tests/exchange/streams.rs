//! Answers that are event streams.

use stenograph::limits::{Limits, RECEIVE_BYTES, STREAM_AHEAD_PIECES_MAX};
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

/// Entries of events so far, while the record goes on.
fn recorded_events(script: &Script) -> usize {
    script.stage.record().iter().filter(|entry| entry.kind == Kind::Event).count()
}

// Mutants: a comment is given on as it is read; a comment in
// front of an event or of the end is lost; none is given on before something else comes.
#[test]
fn heartbeats_that_arrive_together_are_one() {
    const MIB: usize = 1024 * 1024;
    // One by itself goes out at once.
    let script = streaming(Plan::default());
    script
        .upstream(chunk(":\n\n"))
        .expect_to_client(&["3\r\n:\n\n\r\n"])
        .upstream(chunk(": still there\n"))
        .expect_to_client(&["3\r\n:\n\n\r\n"])
        .upstream(chunk(":\n:\ndata:\n:\n:\n\n:\n") + "0\r\n\r\n")
        .expect_to_client(&["3\r\n:\n\n\r\n", "data: \n\n", "3\r\n:\n\n\r\n0\r\n\r\n"])
        .expect_drop(true)
        .end();
    let in_chunks = chunk(":\n").repeat(MIB / 2);
    let in_one = chunk(&":\n".repeat(MIB / 2));
    for (burst, wire_bytes) in [(in_one, MIB), (in_chunks, 7 * MIB / 2)] {
        let mut script = streaming(Plan::default());
        let begun = std::time::Instant::now();
        script = script.upstream(&burst);
        script.stage.settle();
        let entries = recorded_events(&script);
        // As many as reads: a MiB of comments was half a million entries.
        let reads = wire_bytes / RECEIVE_BYTES;
        assert!((1..=reads + 2).contains(&entries), "{entries} entries, {reads} reads");
        assert_eq!(script.rig.client_out.len(), entries * "3\r\n:\n\n\r\n".len());
        println!("{wire_bytes} bytes: {entries} entries, {:?}", begun.elapsed());
        script.rig.client_out.clear();
        script.upstream("0\r\n\r\n").expect_to_client(&["0\r\n\r\n"]).end();
    }
}

// Mutant: only the bytes that wait are bounded, not the pieces.
#[test]
fn the_shortest_events_are_taken_a_few_at_a_time() {
    const EVENTS: usize = 20_000;
    let mut script = streaming(Plan::default())
        .client_reads(false)
        .upstream(chunk(&"retry: 1000\n\n".repeat(EVENTS)));
    script.stage.settle();
    let ahead = recorded_events(&script);
    // As many again are in the send that is under way.
    let allowed = 2 * STREAM_AHEAD_PIECES_MAX;
    assert!((1..=allowed).contains(&ahead), "{ahead} are taken");
    script = script.client_reads(true);
    for _ in 0..EVENTS {
        if recorded_events(&script) >= EVENTS {
            break;
        }
        script = script.wake();
        script.stage.settle();
    }
    let out = String::from_utf8_lossy(&script.rig.client_out).into_owned();
    assert_eq!(out.matches("retry: 1000\n\n").count(), EVENTS);
    script.rig.client_out.clear();
    script.upstream("0\r\n\r\n").expect_to_client(&["0\r\n\r\n"]).end();
}

// The whole burst arrives with one read, and the upstream says nothing more.
// Mutants: a send that begins is no move, and what arrived is looked at only while the buffer of the upstream
// is here (what is over the bound stays inside); a send that begins is no move (it waits for that send).
#[test]
fn events_that_are_there_do_not_wait_for_the_upstream_to_say_more() {
    const OVER: usize = 40;
    let burst = chunk(&"data:\n\n".repeat(STREAM_AHEAD_PIECES_MAX + OVER));
    assert!(burst.len() < RECEIVE_BYTES);
    let mut script = streaming(Plan::default())
        .client_reads(false)
        .upstream(event(&progress(1)))
        .expect_to_client(&["\"progress\":1"])
        .upstream(burst)
        .expect_nothing();
    script.stage.settle();
    assert_eq!(recorded_events(&script), 1 + STREAM_AHEAD_PIECES_MAX);
    // One send ends and the next begins: behind it there is room for the rest.
    script.rig.client_takes(&mut script.stage);
    script.stage.settle();
    assert_eq!(recorded_events(&script), 1 + STREAM_AHEAD_PIECES_MAX + OVER);
    let script = script.client_reads(true);
    let out = String::from_utf8_lossy(&script.rig.client_out);
    assert_eq!(out.matches("data: \n\n").count(), STREAM_AHEAD_PIECES_MAX + OVER);
    script
        .expect_to_client(&[])
        .upstream("0\r\n\r\n")
        .expect_to_client(&["0\r\n\r\n"])
        .expect_drop(true)
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

/// A log notification that says `text`.
fn log(text: &str) -> String {
    event(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":"{text}"}}}}"#
    ))
}

#[test]
fn a_secret_in_two_events_waits_and_is_masked_in_both() {
    let (begin, end) = PLANTED.split_at(11);
    streaming(Plan::default())
        .upstream(log("plain text goes out at once"))
        .expect_to_client(&["plain text"])
        .expect_recorded(Kind::Event, &["\"allowed\""])
        .upstream(log(&format!("the key is {begin}")))
        .expect_nothing()
        .after_ms(300)
        .expect_nothing()
        .upstream(event(&progress(1)))
        .upstream(chunk("id: 7\ndata:\n\n"))
        .expect_nothing()
        .upstream(log(&format!("{end}, he said")))
        .expect_to_client(&[
            "the key is [planted]**",
            "\"progress\":1",
            "data: \n\n",
            "\"data\":\"",
            ", he said",
        ])
        .expect_recorded(
            Kind::Event,
            &["\"masked\"", "planted", "\"split\":true", "key is [planted]**"],
        )
        .expect_recorded(Kind::Event, &["notifications/progress"])
        .expect_recorded(Kind::Event, &[])
        .expect_recorded(Kind::Event, &["\"masked\"", "\"split\":true", ", he said"])
        .upstream(log("and on it goes"))
        .expect_to_client(&["and on it goes"])
        .end();
}

#[test]
fn what_does_not_end_in_time_goes_out_masked_and_so_does_the_rest() {
    let (begin, end) = PLANTED.split_at(11);
    streaming(Plan::default())
        .upstream(log(&format!("the key is {begin}")))
        .after_ms(1_999)
        .expect_nothing()
        .after_ms(1)
        .expect_to_client(&["the key is [planted]**"])
        .after_ms(3_000)
        .upstream(log(&format!("{end}, he said")))
        .expect_to_client(&["\"data\":\"********, he said"])
        .end();
}

// One character was written as a reference, and what stood before the cut went out bare. Mutant: `find` without
// `find_below`.
#[test]
fn a_secret_with_a_letter_encoded_waits_and_is_covered_even_where_its_unit_is_cut() {
    streaming(Plan::default())
        .upstream(log("the key is MASKME-ab&#99;d%6"))
        .expect_nothing()
        .upstream(log("5f123456, he said"))
        .expect_to_client(&["the key is [planted]********\"", "\"********, he said"])
        .expect_recorded(Kind::Event, &["\"masked\"", "\"split\":true", "is [planted]********\""])
        .expect_recorded(Kind::Event, &["\"masked\"", "\"split\":true", "\"********, he said"])
        .end();
    streaming(Plan::default())
        .upstream(log("the key is MASKME-ab&#99;d%6"))
        .after_ms(1_999)
        .expect_nothing()
        .after_ms(1)
        .expect_to_client(&["the key is [planted]********\""])
        .upstream(log("5f1234"))
        .expect_to_client(&["\"******\""])
        .upstream(log("56, he said"))
        .expect_to_client(&["\"**, he said"])
        .end();
}

#[test]
fn an_answer_and_the_end_of_the_stream_wait_for_nothing() {
    let (begin, _) = PLANTED.split_at(11);
    streaming(Plan::default())
        .upstream(log(&format!("the key is {begin}")))
        .expect_nothing()
        .upstream(event(&result(7, "done")))
        .expect_to_client(&["the key is [planted]**", "\"id\":7"])
        .end();
    streaming(Plan::default())
        .upstream(log(&format!("the key is {begin}")))
        .upstream("0\r\n\r\n")
        .expect_to_client(&["the key is [planted]**", "0\r\n\r\n"])
        .end();
    streaming(Plan::default())
        .upstream(log(&format!("the key is {begin}")))
        .upstream_breaks()
        .expect_to_client(&["the key is [planted]**", "\"id\":7,\"error\"", "0\r\n\r\n"])
        .end();
}

#[test]
fn what_waits_when_access_ends_is_recorded_and_stays_here() {
    let (begin, _) = PLANTED.split_at(11);
    streaming(Plan::default())
        .upstream(log(&format!("the key is {begin}")))
        .expect_nothing()
        .set(|stage| stage.deny("alice"))
        .expect_to_client(&["error", "0\r\n\r\n"])
        .expect_recorded(Kind::Event, &["\"masked\"", "the key is [planted]**"])
        .expect_recorded(Kind::Cut, &[])
        .end();
}

#[test]
fn texts_at_other_places_are_other_texts() {
    let (begin, end) = PLANTED.split_at(11);
    let at = |member: &str, text: &str| {
        event(&format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":{{"{member}":"{text}"}}}}}}"#
        ))
    };
    streaming(Plan::default())
        .upstream(at("out", begin))
        .upstream(at("err", end))
        .expect_nothing()
        .upstream(at("out", "."))
        .expect_to_client(&[begin, end])
        .end();
}
