//! What came and went nowhere, and in which pieces it came: told in the record, never in clear where no
//! rule could judge it.

use serde_json::{Value, json};
use stenograph::record::{Kind, PartKind};

use super::script::{
    STREAM_HEAD, Script, call, call_body, chunk, event, json_answer, post, progress, result,
};
use super::stage::{Plan, Recorded};

/// What no rule may let into the record when it stands where none looks.
const HALF: &str = "MASKME-abcdef";

fn sent() -> Script {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    script
        .client(call(&token, 7, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
}

fn said(entry: &Recorded) -> Value {
    let part = entry.part(PartKind::Verdict).or(entry.part(PartKind::Detail));
    serde_json::from_slice(part.unwrap_or_default()).unwrap_or_default()
}

/// The entry of this kind says that so many bytes were kept back, and none has them.
fn kept_back(script: &Script, kind: Kind, bytes: usize) {
    script.stage.settle();
    let record = script.stage.record();
    let entry = record.iter().find(|entry| entry.kind == kind).unwrap();
    assert_eq!(said(entry)["kept_back_bytes"], bytes, "{}", entry.text());
    let told = record.iter().filter(|entry| !said(entry)["kept_back_bytes"].is_null()).count();
    assert_eq!(told, 1, "told once");
    assert!(!record.iter().any(|entry| entry.text().contains(HALF)), "in clear");
}

// Mutant: `keep_back_partial` that does nothing.
#[test]
fn what_came_and_could_not_be_judged_is_told_by_its_length() {
    let html = format!("<p>{HALF}</p>");
    let as_text = |status: &str, text: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        )
    };

    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let broken = format!("{{\"jsonrpc\":\"2.0\",\"x\":\"{HALF}");
    let script = script.client(post(&token, "", &broken)).expect_error(400, -32700);
    kept_back(&script, Kind::Refusal, broken.len());
    script.end();

    // A body that never became whole: nothing but the end is there to tell it.
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let request = post(&token, "", &broken);
    let script = script.client(&request[..request.len() - 3]).client_ends();
    kept_back(&script, Kind::End, broken.len() - 3);
    script.end();

    let script = sent().upstream(as_text("404 Not Found", &html)).expect_answer(404, |answer| {
        assert_eq!(answer.body, "");
    });
    kept_back(&script, Kind::Answer, html.len());
    script.expect_drop(true).end();

    let wrong = result(8, HALF);
    let half = format!("{{\"x\":\"{HALF}");
    let answers: [(String, &str); 4] = [
        (as_text("200 OK", &html), &html),
        (json_answer("", &wrong), &wrong),
        (json_answer("", &half), &half),
        (as_text("200 OK", &html).replace("text/plain", "application/json"), &html),
    ];
    for (answer, body) in answers {
        let script = sent().upstream(answer).expect_answer(502, |_| {}).expect_drop(false);
        kept_back(&script, Kind::Refusal, body.len());
        script.end();
    }

    // Cut short: by a length that is not reached, in chunks, in the middle of an event.
    let cut = json_answer("", &wrong);
    let script = sent().upstream(&cut[..cut.len() - 5]).upstream_ends().expect_answer(502, |_| {});
    kept_back(&script, Kind::Refusal, wrong.len() - 5);
    script.expect_drop(false).end();
    let head = STREAM_HEAD.replace("text/event-stream", "application/json");
    let script = sent().upstream(head + &chunk(&half)).upstream_ends().expect_answer(502, |_| {});
    kept_back(&script, Kind::Refusal, half.len());
    script.expect_drop(false).end();
    let script = sent()
        .upstream(STREAM_HEAD.to_owned() + &chunk(&format!("data: {half}")) + "0\r\n\r\n")
        .expect_to_client(&["200 OK", "0\r\n\r\n"]);
    kept_back(&script, Kind::End, half.len() + "data: ".len());
    script.expect_drop(true).end();
    let script = sent()
        .upstream(STREAM_HEAD.to_owned() + &event(&half))
        .expect_to_client(&["200 OK", "-31004"]);
    kept_back(&script, Kind::Refusal, half.len());
    script.expect_drop(false).end();
}

// Checked against the mutants: `keep_back_partial` without its arm for heads; a broken head kept up to
// its fault alone; an event reader that lets the line go that breaks a rule; `drop_link` that counts nothing.
#[test]
fn what_came_of_a_broken_head_or_event_is_kept_back_and_counted() {
    let end = |script: &Script| {
        let record = script.stage.record();
        said(record.iter().find(|entry| entry.kind == Kind::End).unwrap())
    };
    let half = format!("HTTP/1.1 200 OK\r\nX-Inner: {HALF}");
    let old = format!("HTTP/1.0 200 OK\r\nX-Inner: {HALF}\r\n\r\nwith a body");
    let moved = format!("HTTP/1.1 302 Found\r\nContent-Length: 99\r\n\r\n{HALF}");
    for (came, kept) in [(&half, &half[..]), (&old, &old), (&moved, HALF)] {
        let script = sent().upstream(came);
        // Of the first more could come; the others are refused as they stand.
        let script = if *came == half { script.upstream_ends() } else { script };
        let script = script.expect_answer(502, |_| {});
        kept_back(&script, Kind::Refusal, kept.len());
        assert_eq!(end(&script)["upstream_bytes"], came.len());
        script.expect_drop(false).end();
    }
    // The connection is reset in the middle of the head.
    let script = sent().upstream(&half).upstream_breaks().expect_answer(502, |_| {});
    kept_back(&script, Kind::Refusal, half.len());
    script.expect_drop(false).end();
    // In one piece, and with the line cut in two.
    let event = format!("event: x\nid: a\0b {HALF}\ndata: {HALF}\n\n");
    let whole = format!("{STREAM_HEAD}{}", chunk(&event));
    let [front, back] = [&event[..14], &event[14..]].map(chunk);
    let cut = format!("{STREAM_HEAD}{front}{back}");
    for came in [whole, cut] {
        let script = sent().upstream(&came).expect_to_client(&["200 OK", "-31004"]);
        kept_back(&script, Kind::Refusal, event.len());
        assert_eq!(end(&script)["upstream_bytes"], came.len());
        script.expect_drop(false).end();
    }
}

// Mutant: the head let go when its status cannot be relayed.
#[test]
fn the_head_of_an_answer_that_is_not_relayed_is_in_the_record() {
    let answer = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"inner\"\r\n\
                  Set-Cookie: a=b\r\nContent-Length: 0\r\n\r\n";
    let script = sent()
        .upstream(answer)
        .expect_answer(502, |_| {})
        .expect_drop(false)
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(
            Kind::Refusal,
            &["401 Unauthorized", "realm=\"inner\"", "Set-Cookie: ***"],
        );
    script.end();
}

// Mutants: `take_chunks` that gives nothing; bytes behind an answer not counted.
#[test]
fn the_pieces_in_which_bodies_came_are_told() {
    let script = Script::new(Plan::default());
    let token = script.stage.token("alice", 600);
    let body = call_body(7, "echo", "x");
    let (front, back) = body.split_at(20);
    let chunked = post(&token, "Transfer-Encoding: chunked\r\n", "")
        .replace("Content-Length: 0\r\n", "")
        + &chunk(front)
        + &chunk(back)
        + "0\r\n\r\n";
    let answer = result(7, "in one piece and some more");
    let head = STREAM_HEAD.replace("text/event-stream", "application/json");
    let script = script
        .client(chunked)
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(head + &chunk(&answer) + "0\r\n\r\nLATE!")
        .expect_answer(200, |_| {})
        .expect_drop(false)
        .client(call(&token, 7, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(STREAM_HEAD.to_owned() + &event(&progress(1)) + &event(&progress(2)))
        .after_ms(2_000)
        .upstream(event(&result(7, "")) + "0\r\n\r\n")
        .expect_to_client(&["200 OK", "0\r\n\r\n"])
        .expect_drop(true);
    script.stage.settle();
    let record = script.stage.record();
    let of = |kind: Kind| -> Vec<Value> {
        record.iter().filter(|entry| entry.kind == kind).map(said).collect()
    };
    assert_eq!(of(Kind::Request)[0]["chunks"], json!([[20, 1], [back.len(), 1]]));
    assert_eq!(of(Kind::Request)[1]["chunks"], Value::Null);
    assert_eq!(of(Kind::Answer)[0]["chunks"], json!([[answer.len(), 1]]));
    let ends = of(Kind::End);
    assert_eq!((&ends[0]["late_bytes"], &ends[1]["late_bytes"]), (&json!(5), &Value::Null));
    let event_bytes = |text: &str| "event: message\ndata: \n\n".len() + text.len();
    assert_eq!(of(Kind::Delivery)[0]["chunks"], json!([[event_bytes(&progress(1)), 2]]));
    assert_eq!(ends[1]["chunks"], json!([[event_bytes(&result(7, "")), 1]]));
    script.end();
}
