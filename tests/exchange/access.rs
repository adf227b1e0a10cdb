//! Who is let in, and how access ends while an exchange is open.

use base64::Engine as _;
use stenograph::record::Kind;

use super::script::{
    STREAM_HEAD, Script, call, call_body, event, json_answer, post, progress, result,
};
use super::stage::{Plan, Stage};

#[test]
fn without_a_good_token_there_is_a_challenge_and_no_upstream() {
    let script = Script::new(Plan::default());
    let good = script.stage.token("alice", 600);
    let expired = script.stage.token("alice", 0);
    let (front, back) = good.split_at(good.len() - 20);
    let other = if back.starts_with('A') { "B" } else { "A" };
    let forged = format!("{front}{other}{}", &back[1..]);
    let bare =
        call(&good, 1, "echo", "x").replace(&format!("Authorization: Bearer {good}\r\n"), "");
    let script = [bare, call(&expired, 1, "echo", "x"), call(&forged, 1, "echo", "x")]
        .into_iter()
        .fold(script, |script, request| {
            script
                .client(request)
                .expect_answer(401, |answer| {
                    let challenge = answer.field("WWW-Authenticate").unwrap();
                    assert!(challenge.contains("resource_metadata="), "{challenge}");
                })
                .expect_nothing()
                .expect_recorded(Kind::Refusal, &["denied"])
        });
    script.expect_open().end();
}

#[test]
fn refusals_before_the_caller_is_known_are_counted_beyond_a_rate() {
    let mut plan = Plan::default();
    plan.limits.refusals_each_max = 2;
    let mut script = Script::new(plan);
    let request = "GET /codegen HTTP/1.1\r\nHost: g\r\n\r\n";
    for _ in 0..5 {
        script = script.client(request).expect_answer(401, |_| {}).expect_nothing();
    }
    script.stage.settle();
    assert_eq!(script.stage.record().len(), 2);
    assert_eq!(script.stage.env.refusals.due(script.stage.now, true)[0].count, 3);
    script.end();
}

#[test]
fn an_unknown_key_is_waited_for_and_its_token_accepted_when_it_comes() {
    let script = Script::new(Plan { fetching: true, ..Plan::default() });
    let token = script.stage.late_token();
    let script = script.client(call(&token, 1, "echo", "x")).expect_nothing();
    assert_eq!(script.stage.env.keys_wanted, [0]);
    script
        .after_ms(1000)
        .expect_nothing()
        .set(|stage| stage.change(|plan| plan.late_key = true))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(json_answer("", &result(1, "ok")))
        .expect_answer(200, |_| {})
        .end();
}

#[test]
fn a_call_that_waits_for_a_key_when_its_path_goes_away_is_unknown() {
    let script = Script::new(Plan { fetching: true, ..Plan::default() });
    let token = script.stage.late_token();
    script
        .client(call(&token, 1, "echo", "x"))
        .expect_nothing()
        .set(|stage| {
            stage.change(|plan| (plan.late_key, plan.path) = (true, "/codegen-of-another-name"));
        })
        .expect_answer(404, |_| {})
        .expect_nothing()
        .end();
}

#[test]
fn an_unknown_key_that_does_not_come_is_a_bad_token() {
    let script = Script::new(Plan { fetching: true, ..Plan::default() });
    let token = script.stage.late_token();
    script
        .client(call(&token, 1, "echo", "x"))
        .expect_nothing()
        .after_ms(5_000)
        .expect_answer(401, |_| {})
        .expect_nothing()
        // The fetch that ended without it is an answer too.
        .client(call(&script_token(), 1, "echo", "x"))
        .set(|stage| stage.change(|plan| plan.fetching = false))
        .expect_answer(401, |_| {})
        .expect_nothing()
        .end();
}

fn script_token() -> String {
    let script = Script::new(Plan::default());
    let token = script.stage.late_token();
    script.end();
    token
}

/// A call by alice, good for `life_s`, whose answer began as a stream.
fn streaming(life_s: u64) -> Script {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", life_s);
    script
        .client(call(&token, 7, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(STREAM_HEAD.to_owned() + &event(&progress(1)))
        .expect_to_client(&["200 OK", "\"progress\":1"])
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::StreamOpen, &[])
        .expect_recorded(Kind::Event, &[])
}

fn cut(script: Script, reason: &str) {
    script
        .expect_to_client(&["\"id\":7,\"error\":{\"code\":-31001", "0\r\n\r\n"])
        .expect_drop(false)
        .expect_recorded(Kind::Cut, &["alice", "\"denied\"", reason])
        .expect_recorded(Kind::Refusal, &["access-ended"])
        .expect_recorded(Kind::End, &[reason])
        .expect_closed()
        .end();
}

fn demand_tls(stage: &mut Stage) {
    stage.change(|plan| plan.demands.tls = true);
}

// Checked against the mutant "demands are never compared" (`look` returns at once) and, for the second part,
// "the exchange that is under way keeps the connection".
#[test]
fn a_connection_of_a_listener_that_demands_more_now_carries_no_further_call() {
    // It waits: nothing more comes of it.
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let answered = |script: Script| {
        script
            .client(call(&token, 1, "echo", "x"))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["echo"])
    };
    answered(script)
        .upstream(json_answer("", &result(1, "ok")))
        .expect_answer(200, |answer| assert_eq!(answer.field("Connection"), None))
        .expect_drop(true)
        .set(|stage| stage.change(|plan| plan.policy = "two"))
        .expect_open()
        .set(demand_tls)
        .expect_closed()
        .end();
    // A call is under way: its answer is the last, and what stands behind it is not answered.
    answered(Script::new(Plan::default()))
        .client(call(&token, 2, "echo", "behind"))
        .set(demand_tls)
        .expect_nothing()
        .upstream(json_answer("", &result(1, "ok")))
        .expect_answer(200, |answer| assert_eq!(answer.field("Connection"), Some("close")))
        .expect_drop(true)
        .expect_nothing()
        .client_ends()
        .expect_closed()
        .end();
    // A head is half there: the same.
    let (front, back) = {
        let call = call(&token, 3, "echo", "x");
        let (front, back) = call.split_at(40);
        (front.to_owned(), back.to_owned())
    };
    Script::new(Plan::default())
        .client(front)
        .set(demand_tls)
        .expect_open()
        .client(back)
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(json_answer("", &result(3, "ok")))
        .expect_answer(200, |answer| assert_eq!(answer.field("Connection"), Some("close")))
        .expect_drop(true)
        .client_ends()
        .expect_closed()
        .end();
}

// Checked against the mutant "streams go on": nothing is cut in `watch_demands`.
#[test]
fn streams_without_an_end_are_cut_when_the_listener_demands_more() {
    let get = |script: Script| {
        let token = script.stage.token("alice", 600);
        script
            .client(format!(
                "GET /codegen HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\n\
                 Accept: text/event-stream\r\n\r\n"
            ))
            .expect_stream_upstream()
            .upstream_ready()
            .expect_to_upstream(&["GET /mcp"])
            .upstream(STREAM_HEAD.to_owned() + &event(&progress(1)))
            .expect_to_client(&["200 OK", "\"progress\":1"])
    };
    get(Script::new(Plan::default()))
        .set(demand_tls)
        .expect_to_client(&["0\r\n\r\n"])
        .expect_drop(false)
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::StreamOpen, &[])
        .expect_recorded(Kind::Event, &[])
        .expect_recorded(Kind::Cut, &["alice", "\"denied\"", "listener-changed"])
        .client_ends()
        .expect_closed()
        .end();
    // The stream of a call ends with its answer.
    streaming(600)
        .set(demand_tls)
        .expect_nothing()
        .upstream(event(&result(7, "still")) + "0\r\n\r\n")
        .expect_to_client(&["still", "0\r\n\r\n"])
        .client_ends()
        .expect_closed()
        .end();
}

// Checked against the mutant "access is judged once": `watch_access` returns at once.
#[test]
fn an_open_stream_ends_when_access_ends() {
    let expired = streaming(2).after_ms(1_999).expect_nothing().after_ms(1);
    cut(expired.expect_recorded(Kind::Delivery, &["handed"]), "token-expired");
    cut(streaming(600).set(|stage| stage.deny("alice")), "denied-subject");
    cut(streaming(600).set(|stage| stage.change(|plan| plan.tools.clear())), "");
    streaming(600)
        .set(|stage| stage.deny("bob"))
        .set(|stage| stage.change(|plan| plan.tools = vec!["ec*"]))
        .expect_nothing()
        .upstream(event(&result(7, "still")) + "0\r\n\r\n")
        .expect_to_client(&["still", "0\r\n\r\n"])
        .end();
}

#[test]
fn a_call_that_waits_for_its_answer_ends_when_access_ends() {
    let ends: [fn(Script) -> Script; 3] = [
        |script| script.after_ms(30_000),
        |script| script.set(|stage| stage.deny("alice")),
        |script| script.set(|stage| stage.change(|plan| plan.groups = vec!["others"])),
    ];
    for end in ends {
        let script = Script::new(Plan::default());
        let token = script.stage.token("alice", 30);
        let script = script
            .client(call(&token, 7, "echo", "x"))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["echo"]);
        end(script).expect_error(401, -31001).expect_drop(false).expect_closed().end();
    }
}

/// The answer was judged while access held and waits for its record when access ends: it stays inside.
///
/// Mutant: `watch_access` that leaves everything in `Finish` alone releases it.
#[test]
fn an_answer_that_waits_for_its_record_is_withheld_when_access_ends() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    script
        .client(call(&token, 7, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .set(|stage| stage.stall(true))
        .upstream(json_answer("", &result(7, "held")))
        .expect_nothing()
        .set(|stage| stage.deny("alice"))
        .set(|stage| stage.stall(false))
        .expect_answer(401, |answer| assert!(!answer.body.contains("held"), "{answer:?}"))
        .expect_closed()
        .end();
}

#[test]
fn a_body_on_its_way_is_judged_by_what_holds_when_it_is_whole() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let request = post(&token, "", &call_body(1, "echo", "x"));
    let (front, back) = request.split_at(request.len() - 5);
    script
        .client(front)
        .set(|stage| stage.change(|plan| plan.tools.clear()))
        .client(back)
        .expect_error(200, -31001)
        .expect_nothing()
        .end();

    let script = Script::new(Plan::default());
    script
        .client(front)
        .set(|stage| stage.deny("alice"))
        .expect_error(401, -31001)
        .expect_closed()
        .end();
}

/// Settings that name another place for an upstream: what was read or written for the one it had goes
/// nowhere.
///
/// Mutant tried, here and in the next: `watch_access` that takes the route over by its name alone panics
/// on a longer path, and sends a head with the old credential to the new address.
#[test]
fn a_call_on_its_way_when_its_upstream_moves_goes_nowhere() {
    let moves: [fn(&mut Plan); 2] =
        [|plan| plan.path = "/codegen-of-another-name", |plan| plan.address = "127.0.0.2:1"];
    for change in moves {
        let script = Script::new(Plan::default());
        let token = script.stage.token("alice", 600);
        let request = post(&token, "", &call_body(1, "echo", "x"));
        let (front, back) = request.split_at(request.len() - 5);
        script
            .client(front)
            .set(|stage| stage.change(change))
            .client(back)
            .expect_error(401, -31001)
            .expect_nothing()
            .expect_recorded(Kind::Cut, &["alice", "upstream-changed"])
            .expect_closed()
            .end();
    }
}

#[test]
fn a_written_head_is_not_sent_where_its_upstream_moved_to() {
    let changes: [fn(&mut Plan); 2] =
        [|plan| plan.address = "127.0.0.2:1", |plan| plan.credential = "Bearer gateways-next"];
    for change in changes {
        let script = Script::new(Plan::default());
        let token = script.stage.token("alice", 600);
        script
            .set(|stage| stage.stall(true))
            .client(call(&token, 1, "echo", "x"))
            .expect_nothing()
            .set(|stage| stage.change(change))
            .set(|stage| stage.stall(false))
            .expect_error(401, -31001)
            .expect_nothing()
            .expect_recorded(Kind::Request, &[])
            .expect_recorded(Kind::Cut, &["alice", "upstream-changed"])
            .expect_closed()
            .end();
    }
}

#[test]
fn a_new_credential_is_shown_by_what_is_not_written_yet_and_ends_no_call_that_was_sent() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let request = post(&token, "", &call_body(1, "echo", "x"));
    let (front, back) = request.split_at(request.len() - 5);
    script
        .client(front)
        .set(|stage| stage.change(|plan| plan.credential = "Bearer gateways-next"))
        .client(back)
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["Bearer gateways-next", "echo"])
        .set(|stage| stage.change(|plan| plan.credential = "Bearer gateways-last"))
        .upstream(json_answer("", &result(1, "ok")))
        .expect_answer(200, |_| {})
        .end();
}

#[test]
fn a_slow_reader_whose_token_expires_does_not_make_the_worker_spin() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 2);
    // The rig fails if a deadline in the past stays.
    script
        .client_reads(false)
        .client(call(&token, 1, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(json_answer("", &result(1, "ok")))
        .expect_answer(200, |_| {})
        .after_ms(2_500)
        .client_reads(true)
        .end();
}

#[test]
fn a_revoked_caller_whose_stream_has_not_begun_gets_an_answer_and_no_stray_chunk() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    script
        .client(call(&token, 7, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .set(|stage| stage.stall(true))
        .upstream(STREAM_HEAD.to_owned() + &event(&progress(1)))
        .expect_nothing()
        .set(|stage| stage.deny("alice"))
        .set(|stage| stage.stall(false))
        .expect_error(401, -31001)
        .expect_closed()
        .end();
}

#[test]
fn a_caller_who_leaves_in_the_middle_of_a_body_is_in_the_record() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let request = call(&token, 1, "echo", "x");
    script
        .client(&request[..request.len() - 5])
        .client_ends()
        .expect_nothing()
        .expect_recorded(Kind::End, &["alice", "client-disconnected"])
        .expect_closed()
        .end();
}

// Checked against the mutant "copies are looked for and not refused" in `look_at_head`.
#[test]
fn a_copy_of_the_token_in_the_rest_of_the_head_goes_nowhere() {
    let shown = Script::new(Plan::default());
    let token = shown.stage.token("alice", 600);
    shown.end();
    let good = call(&token, 1, "echo", "x");
    let escaped = token.replace('.', "%2E");
    let twice = token.replace('.', "%252E");
    let coded = base64::engine::general_purpose::STANDARD.encode(format!("my {token}"));
    let request = |old: &str, new: &str| {
        assert!(good.contains(old));
        good.replacen(old, &new.replace("$T", &token), 1)
    };
    for copied in [
        request("Accept: ", "Accept: authorization: Bearer $T, "),
        request("Host: g\r\n", "Host: g\r\nUser-Agent: ide/1 ($T)\r\n"),
        request("Host: g\r\n", "Host: g\r\nTraceparent: x$Tx\r\n"),
        request("/codegen ", "/codegen?access_token=$T "),
        request("/codegen ", &format!("/codegen?a={escaped} ")),
        request("/codegen ", &format!("/codegen?a={twice} ")),
        request("Host: g\r\n", &format!("Host: g\r\nMcp-Param-X: =?base64?{coded}?=\r\n")),
    ] {
        Script::new(Plan::default())
            .client(copied)
            .expect_error(200, -31002)
            .set(|stage| {
                stage.settle();
                let texts: String = stage.record().iter().map(|entry| entry.text()).collect();
                for form in [&token, &escaped, &twice, &coded] {
                    assert!(!texts.contains(form), "{texts}");
                }
            })
            .end();
    }
    // Proxies in front add such fields; none of them goes on.
    Script::new(Plan::default())
        .client(request("Host: g\r\n", "Host: g\r\nX-Forwarded-Access: $T\r\n"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["\"echo\""])
        .set(|stage| {
            stage.settle();
            let texts: String = stage.record().iter().map(|entry| entry.text()).collect();
            assert!(!texts.contains(&token), "{texts}");
        })
        .end();
}
