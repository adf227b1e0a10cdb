//! Content that no rule can look into: allowed, told or blocked, by the grant under which it comes.

use stenograph::guard::Opaque;
use stenograph::record::Kind;

use super::script::{STREAM_HEAD, Script, call, call_body, event, json_answer, post, progress};
use super::stage::{PLANTED, Plan};

/// The first bytes of a picture in base64.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ";
/// A text in base64.
const TEXT: &str = "PHN2Zz5oZWxsbzwvc3ZnPg==";

/// Content of this type.
pub fn picture(kind: &str) -> String {
    content(kind, PNG)
}

fn content(kind: &str, data: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"data\":\"{data}\",\"mimeType\":\"{kind}/x\"}}")
}

fn resource(blob: &str) -> String {
    format!("{{\"type\":\"resource\",\"resource\":{{\"uri\":\"a:b\",\"blob\":\"{blob}\"}}}}")
}

/// A result with this content.
pub fn shows(id: u32, content: &str) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"content\":[{content}]}}}}")
}

/// A notification with this content.
pub fn says(content: &str) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{{\"level\":\"info\",\"data\":{content}}}}}"
    )
}

/// A request of the server with this content.
fn asks(content: &str) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"sampling/createMessage\",\"params\":{{\"messages\":[{{\"role\":\"user\",\"content\":{content}}}],\"maxTokens\":9}}}}"
    )
}

fn plan(opaque: Opaque) -> Plan {
    Plan { opaque, ..Plan::default() }
}

/// A call of `tool` that has gone upstream.
fn asked(script: Script, tool: &str) -> Script {
    let token = script.stage.token("alice", 600);
    script
        .client(call(&token, 7, tool, "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&[tool])
        .expect_recorded(Kind::Request, &[])
}

// Mutant: the record keeps what is blocked in clear.
#[test]
fn an_answer_passes_is_told_or_is_blocked_as_the_grant_says() {
    let told = [
        ("opaque:image", "/result/content/0/data", picture("image")),
        ("opaque:audio", "/result/content/0/data", picture("audio")),
        (
            "opaque:image",
            "/result/content/0/data",
            content("image", "no base64 at all, but somebody reads it"),
        ),
        ("opaque:blob", "/result/content/0/resource/blob", resource(PNG)),
        (
            "opaque:data-uri",
            "/result/content/0/text",
            format!("{{\"type\":\"text\",\"text\":\"see data:image/png;base64,{PNG}\"}}"),
        ),
    ];
    for (rule, path, content) in told {
        let answer = shows(7, &content);
        let came = |script: Script| script.upstream(json_answer("", &answer));
        let script = came(asked(Script::new(plan(Opaque::Allow)), "echo"))
            .expect_answer(200, |seen| assert_eq!(seen.body, answer))
            .expect_recorded(Kind::Answer, &["\"decision\":\"allowed\""]);
        assert!(script.stage.record().iter().all(|entry| !entry.text().contains("opaque:")));
        script.end();

        came(asked(Script::new(plan(Opaque::Alert)), "echo"))
            .expect_answer(200, |seen| assert_eq!(seen.body, answer))
            .expect_recorded(
                Kind::Answer,
                &["\"decision\":\"allowed\"", rule, "\"action\":\"alert\"", path],
            )
            .end();

        let script = came(asked(Script::new(plan(Opaque::Block)), "echo"))
            .expect_error(200, -31002)
            .expect_recorded(
                Kind::Refusal,
                &["answer-blocked", rule, "\"action\":\"block\"", path, &format!("[{rule}]")],
            )
            .expect_recorded(Kind::End, &[]);
        let shown: String = script.stage.record().iter().map(|entry| entry.text()).collect();
        assert!(!shown.contains(PNG), "what nobody looked into is not kept in clear");
        script.end();
    }
}

#[test]
fn text_and_what_has_no_such_shape_pass_everywhere() {
    for content in [
        content("image", TEXT),
        content("audio", &TEXT.replace("==", "")),
        resource(TEXT),
        format!("{{\"type\":\"text\",\"text\":\"{PNG}\"}}"),
    ] {
        let script = asked(Script::new(plan(Opaque::Block)), "echo");
        script
            .upstream(STREAM_HEAD)
            .upstream(event(&asks(&content)) + &event(&shows(7, &content)) + "0\r\n\r\n")
            .expect_to_client(&["createMessage", &content, "\"id\":7", &content, "0\r\n\r\n"])
            .end();
    }
}

#[test]
fn on_a_stream_the_answers_place_takes_an_error_and_what_else_is_blocked_is_kept_back() {
    asked(Script::new(plan(Opaque::Block)), "echo")
        .upstream(STREAM_HEAD)
        .expect_to_client(&["HTTP/1.1 200 OK\r\n", "\r\n\r\n"])
        .expect_recorded(Kind::StreamOpen, &[])
        .upstream(event(&says(&picture("image"))))
        .expect_nothing()
        .expect_recorded(Kind::Event, &["\"blocked\"", "opaque:image", "/params/data/data"])
        .upstream(event(&progress(1)))
        .expect_to_client(&["\"progress\":1"])
        .expect_recorded(Kind::Event, &["\"allowed\""])
        .upstream(event(&shows(7, &picture("audio"))) + "0\r\n\r\n")
        .expect_to_client(&["\"id\":7,\"error\":{\"code\":-31002", "0\r\n\r\n"])
        .expect_recorded(Kind::Event, &["\"blocked\"", "opaque:audio"])
        .end();
}

// Mutant: requests are not looked at.
#[test]
fn what_a_client_sends_is_judged_alike() {
    let body = |content: &str| call_body(3, "echo", "x").replace("\"x\"", content);
    let answers = |content: &str| {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{{\"role\":\"assistant\",\"model\":\"m\",\"content\":{content}}}}}"
        )
    };
    let script = Script::new(plan(Opaque::Block));
    let token = script.stage.token("alice", 600);
    script
        .client(post(&token, "", &body(&picture("image"))))
        .expect_error(200, -31002)
        .expect_recorded(
            Kind::Refusal,
            &["request-blocked", "opaque:image", "/params/arguments/text/data", "[opaque:image]"],
        )
        .expect_recorded(Kind::End, &[])
        // It has no id to answer.
        .client(post(&token, "", &answers(&picture("audio"))))
        .expect_answer(403, |answer| assert_eq!(answer.body, ""))
        .expect_recorded(Kind::Refusal, &["request-blocked", "opaque:audio"])
        .expect_nothing()
        .end();

    let script = Script::new(plan(Opaque::Alert));
    script
        .client(post(&token, "", &body(&resource(PNG))))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&[&body(&resource(PNG))])
        .expect_recorded(Kind::Request, &["opaque:blob", "\"alert\""])
        .end();
}

// Mutants: the strictest grant counts for everything; the first one does; what needs any grant follows the first.
#[test]
fn the_grant_of_the_target_counts_and_where_there_is_none_the_strictest() {
    let plan = || Plan {
        opaque: Opaque::Allow,
        also: vec![("draw", Opaque::Block), ("paint", Opaque::Alert), ("d*", Opaque::Allow)],
        ..Plan::default()
    };
    let answer = shows(7, &picture("image"));
    asked(Script::new(plan()), "echo")
        .upstream(json_answer("", &answer))
        .expect_answer(200, |seen| assert_eq!(seen.body, answer))
        .expect_recorded(Kind::Answer, &["\"allowed\""])
        .end();
    asked(Script::new(plan()), "paint")
        .upstream(json_answer("", &answer))
        .expect_answer(200, |seen| assert_eq!(seen.body, answer))
        .expect_recorded(Kind::Answer, &["opaque:image", "\"alert\""])
        .end();
    // The first grant that allows it.
    asked(Script::new(plan()), "draw")
        .upstream(json_answer("", &answer))
        .expect_error(200, -31002)
        .end();
    // The server says it by itself, while a call is under way whose answer may be a picture.
    asked(Script::new(plan()), "echo")
        .upstream(STREAM_HEAD)
        .expect_to_client(&["\r\n\r\n"])
        .upstream(event(&asks(&picture("image"))))
        .expect_nothing()
        .upstream(event(&answer) + "0\r\n\r\n")
        .expect_to_client(&[&answer, "0\r\n\r\n"])
        .end();
    // Nobody asked.
    let script = Script::new(plan());
    let token = script.stage.token("alice", 600);
    let get = format!(
        "GET /codegen HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\n\
         Accept: text/event-stream\r\n\r\n"
    );
    script
        .client(get)
        .expect_stream_upstream()
        .upstream_ready()
        .expect_to_upstream(&["GET "])
        .upstream(STREAM_HEAD)
        .expect_to_client(&["\r\n\r\n"])
        .upstream(event(&says(&picture("audio"))))
        .expect_nothing()
        .upstream(event(&answer))
        .expect_to_client(&["\"id\":7,\"error\":{\"code\":-31002"])
        .upstream("0\r\n\r\n")
        .expect_to_client(&["0\r\n\r\n"])
        .end();
    // What needs any grant.
    let listed = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{{\"tools\":[{{\"name\":\"echo\",\"inputSchema\":{{}},\
         \"icons\":[{{\"src\":\"data:image/png;base64,{PNG}\"}}]}}]}}}}"
    );
    let script = Script::new(plan());
    script
        .client(post(&token, "", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\"}"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["tools/list"])
        .upstream(json_answer("", &listed))
        .expect_error(200, -31002)
        .end();
}

// Mutant: the exchange keeps what the call was permitted by.
#[test]
fn a_change_of_the_grant_holds_for_what_comes_from_then_on() {
    let answer = shows(7, &picture("image"));
    asked(Script::new(plan(Opaque::Allow)), "echo")
        .set(|stage| stage.change(|plan| plan.opaque = Opaque::Block))
        .upstream(json_answer("", &answer))
        .expect_error(200, -31002)
        .end();
    asked(Script::new(plan(Opaque::Block)), "echo")
        .upstream(STREAM_HEAD)
        .upstream(event(&says(&picture("image"))))
        .expect_to_client(&["\r\n\r\n"])
        .set(|stage| stage.change(|plan| plan.opaque = Opaque::Allow))
        .upstream(event(&says(&picture("image"))) + &event(&answer) + "0\r\n\r\n")
        .expect_to_client(&[&says(&picture("image")), &answer, "0\r\n\r\n"])
        .end();
}

#[test]
fn what_is_masked_beside_it_is_masked() {
    let both = format!("{},{{\"type\":\"text\",\"text\":\"{PLANTED}\"}}", picture("image"));
    asked(Script::new(plan(Opaque::Alert)), "echo")
        .upstream(json_answer("", &shows(7, &both)))
        .expect_answer(200, |seen| {
            assert!(seen.body.contains(PNG) && !seen.body.contains("MASKME"), "{seen:?}");
        })
        .expect_recorded(Kind::Answer, &["\"masked\"", "opaque:image", "\"planted\""])
        .end();
    let script = asked(Script::new(plan(Opaque::Block)), "echo")
        .upstream(json_answer("", &shows(7, &both)))
        .expect_error(200, -31002)
        .expect_recorded(Kind::Refusal, &["opaque:image", "\"planted\"", "[planted"]);
    let record = script.stage.record();
    let refusal = record.iter().find(|entry| entry.kind == Kind::Refusal).expect("it was refused");
    assert!(!refusal.text().contains(PNG) && !refusal.text().contains("MASKME"));
    script.end();
}
