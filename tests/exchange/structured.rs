//! Structured content that a mask makes unfit for the schema that the tool was listed with.

use serde_json::{Value, json};
use stenograph::guard::{Mask, Structured};
use stenograph::limits::Limits;
use stenograph::record::Kind;

use super::script::{STREAM_HEAD, Script, call, event, json_answer, post};
use super::stage::{PLANTED, Plan};

/// What a mask of `PLANTED` begins with here.
const FILLED: &str = "[planted:";

/// `subject` has had `tools/list` answered with this schema of `echo`.
fn listed_to(script: Script, subject: &str, schema: &Value) -> Script {
    let token = script.stage.token(subject, 600);
    let tool = match schema {
        Value::Null => json!({"name": "echo", "inputSchema": {}}),
        _ => json!({"name": "echo", "inputSchema": {}, "outputSchema": schema}),
    };
    let list = json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": [tool]}}).to_string();
    script
        .client(post(&token, "", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["tools/list"])
        .upstream(json_answer("", &list))
        .expect_answer(200, |answer| {
            assert_eq!(answer.json()["result"]["tools"][0]["outputSchema"], *schema);
        })
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::Answer, &["\"decision\":\"allowed\""])
        .expect_recorded(Kind::End, &[])
}

/// `subject` calls `echo`, which answers with this structured content.
fn called_by(script: Script, subject: &str, structured: &Value) -> Script {
    let token = script.stage.token(subject, 600);
    let text = structured.to_string();
    let answer = json!({"jsonrpc": "2.0", "id": 7, "result": {
        "content": [{"type": "text", "text": text}], "structuredContent": structured,
    }});
    script
        .client(call(&token, 7, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(json_answer("", &answer.to_string()))
        .expect_recorded(Kind::Request, &[])
}

/// The schema of a member called `key`.
fn keyed(schema: Value) -> Value {
    json!({"type": "object", "properties": {"key": schema}, "required": ["key"]})
}

fn goes_on(script: Script, pieces: &[&str]) -> Script {
    script
        .expect_answer(200, |answer| {
            let key = &answer.json()["result"]["structuredContent"]["key"];
            let key = key.as_str().unwrap();
            assert!(key.starts_with(FILLED) && key.len() == PLANTED.len(), "{key}");
            assert!(!answer.body.contains(PLANTED));
        })
        .expect_recorded(Kind::Answer, pieces)
        .expect_recorded(Kind::End, &[])
}

fn is_blocked(script: Script, pieces: &[&str]) -> Script {
    script
        .expect_answer(200, |answer| {
            let error = &answer.json()["error"];
            assert_eq!((&error["code"], &answer.json()["id"]), (&json!(-31002), &json!(7)));
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("output schema"), "{message}");
            assert!(!answer.body.contains(PLANTED) && !answer.body.contains(FILLED));
        })
        .expect_recorded(Kind::Refusal, pieces)
        .expect_recorded(Kind::End, &["answer-unfit"])
}

// Checked against the mutants "never validate" and "validate what came instead of what goes on": the first of
// them goes on.
#[test]
fn what_the_schema_refuses_once_it_is_masked_is_blocked() {
    for (schema, keyword) in [
        (json!({"type": "string", "pattern": "^MASKME-"}), "pattern"),
        (json!({"format": "hostname"}), "format"),
        (
            json!({"contentEncoding": "none", "allOf": [{"maxLength": 19}, {"pattern": "6$"}]}),
            "pattern",
        ),
        (json!({"not": {"pattern": "\\*"}}), "not"),
        (json!({"anyOf": [{"type": "null"}, {"pattern": "^MASKME-"}]}), "anyOf"),
    ] {
        let keyword = format!("\"keyword\":\"{keyword}\"");
        let script = listed_to(Script::new(Plan::default()), "alice", &keyed(schema));
        let script = called_by(script, "alice", &json!({"key": PLANTED}));
        is_blocked(
            script,
            &[
                "\"decision\":\"blocked\",\"reason\":\"answer-unfit\"",
                "\"code\":-31002",
                "\"rule\":\"planted\",\"action\":\"mask\"",
                "\"unfit\":{\"rule\":\"planted\",\"path\":\"/result/structuredContent/key\"",
                &keyword,
                "\"schema\":\"",
                FILLED,
            ],
        )
        .end();
    }
}

#[test]
fn what_still_fits_goes_on_masked() {
    for schema in [
        json!({"type": "string", "minLength": 19, "maxLength": 19}),
        json!({"type": "string", "description": "a key"}),
        json!(true),
        // Nobody can tell.
        json!({"$ref": "https://x.example/schema"}),
        json!({"pattern": "("}),
    ] {
        let script = listed_to(Script::new(Plan::default()), "alice", &keyed(schema));
        let script = called_by(script, "alice", &json!({"key": PLANTED}));
        goes_on(script, &["\"decision\":\"masked\""]).end();
    }
}

// Within a session equal values are masked alike.
#[test]
fn what_the_schema_itself_names_is_masked_there_and_fits() {
    for schema in [json!({"enum": [PLANTED, "none"]}), json!({"const": PLANTED})] {
        let script = Script::new(Plan::default());
        let token = script.stage.token("alice", 600);
        let tool = json!({"name": "echo", "outputSchema": keyed(schema)});
        let list = json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": [tool]}}).to_string();
        let script = script
            .client(post(&token, "", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}"))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["tools/list"])
            .upstream(json_answer("", &list))
            .expect_answer(200, |answer| assert!(answer.body.contains(FILLED)))
            .expect_recorded(Kind::Request, &[])
            .expect_recorded(Kind::Answer, &["\"decision\":\"masked\""])
            .expect_recorded(Kind::End, &[]);
        let script = called_by(script, "alice", &json!({"key": PLANTED}));
        goes_on(script, &["\"decision\":\"masked\"", "\"edited\":true}"]).end();
    }
}

#[test]
fn labels_are_filled_where_only_that_fits() {
    let plan = Plan { mask: Mask::Label, ..Plan::default() };
    let schema = keyed(json!({"type": "string", "minLength": 19}));
    let script = listed_to(Script::new(plan.clone()), "alice", &schema);
    let script = called_by(script, "alice", &json!({"key": PLANTED}));
    script
        .expect_answer(200, |answer| {
            let result = &answer.json()["result"];
            let key = result["structuredContent"]["key"].as_str().unwrap();
            assert!(key.starts_with(FILLED) && key.len() == PLANTED.len(), "{key}");
            // What no schema binds keeps its label.
            assert_eq!(result["content"][0]["text"], "{\"key\":\"[masked:planted]\"}");
        })
        .expect_recorded(Kind::Answer, &["\"decision\":\"masked\""])
        .end();
    let script = listed_to(Script::new(plan.clone()), "alice", &keyed(json!({"maxLength": 40})));
    let script = called_by(script, "alice", &json!({"key": PLANTED}));
    script
        .expect_answer(200, |answer| {
            let content = &answer.json()["result"]["structuredContent"];
            assert_eq!(content["key"], "[masked:planted]");
        })
        .expect_recorded(Kind::Answer, &["\"decision\":\"masked\""])
        .end();
    let script = listed_to(Script::new(plan), "alice", &keyed(json!({"pattern": "^M"})));
    is_blocked(called_by(script, "alice", &json!({"key": PLANTED})), &["\"keyword\":\"pattern\""])
        .end();
}

// Checked against the mutant "what did not fit before is blocked too".
#[test]
fn what_the_server_itself_broke_goes_on_masked() {
    let schema = json!({
        "properties": {"key": {"pattern": "^MASKME-"}, "count": {"type": "integer"}},
    });
    let script = listed_to(Script::new(Plan::default()), "alice", &schema);
    let script = called_by(script, "alice", &json!({"key": PLANTED, "count": "three"}));
    goes_on(script, &["\"decision\":\"masked\"", "\"edited\":true}"]).end();
}

// Checked against the mutant "a rule that blocks blocks what others have made unfit".
#[test]
fn a_rule_may_mask_all_the_same_and_the_record_says_so() {
    let unfit = |rule: &str| {
        format!("\"unfit\":{{\"rule\":\"{rule}\",\"path\":\"/result/structuredContent/")
    };
    let plan = Plan { structured: Structured::Mask, ..Plan::default() };
    let script = listed_to(Script::new(plan), "alice", &keyed(json!({"pattern": "^M"})));
    let script = called_by(script, "alice", &json!({"key": PLANTED}));
    goes_on(script, &["\"decision\":\"masked\"", &unfit("planted")]).end();

    // `number` says so itself, and what it does is not held against `planted`, which blocks.
    let of = |number: &str, key: &str| json!({"properties": {"key": {"pattern": key}, "number": {"pattern": number}}});
    let content = json!({"key": PLANTED, "number": "SSN-123456789"});
    let script = listed_to(Script::new(Plan::default()), "alice", &of("[0-9]$", "."));
    let script = called_by(script, "alice", &content);
    goes_on(script, &["\"decision\":\"masked\"", &unfit("number")]).end();
    let script = listed_to(Script::new(Plan::default()), "alice", &of("[0-9]$", "^M"));
    is_blocked(
        called_by(script, "alice", &content),
        &[&unfit("planted"), "\"keyword\":\"pattern\""],
    )
    .end();
}

#[test]
fn what_is_not_known_is_masked_as_ever() {
    let content = json!({"key": PLANTED});
    let strict = keyed(json!({"pattern": "^M"}));
    let masked = ["\"decision\":\"masked\""];
    // Nobody has listed the tool.
    let script = called_by(Script::new(Plan::default()), "alice", &content);
    let script = goes_on(script, &masked);
    // Somebody else has; then the caller himself, and the tool has another schema, and none.
    let script = listed_to(script, "bob", &strict);
    let script = goes_on(called_by(script, "alice", &content), &masked);
    let script = listed_to(script, "alice", &keyed(json!({"type": "string"})));
    let script = goes_on(called_by(script, "alice", &content), &masked);
    let script = is_blocked(called_by(script, "bob", &content), &[]);
    let script = listed_to(script, "bob", &Value::Null);
    goes_on(called_by(script, "bob", &content), &masked).end();

    let mut limits = Limits::default();
    assert!(limits.set("output_schema_bytes_max", 60));
    let script = listed_to(Script::new(Plan { limits, ..Plan::default() }), "alice", &strict);
    goes_on(called_by(script, "alice", &content), &masked).end();
}

#[test]
fn an_event_that_answers_a_call_is_judged_alike() {
    let script = Script::new(Plan::default());
    let script = listed_to(script, "alice", &keyed(json!({"pattern": "^M"})));
    let token = script.stage.token("alice", 600);
    let answer = json!({"jsonrpc": "2.0", "id": 7, "result": {
        "content": [], "structuredContent": {"key": PLANTED},
    }});
    script
        .client(call(&token, 7, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        .expect_to_upstream(&["echo"])
        .upstream(STREAM_HEAD)
        .expect_to_client(&["text/event-stream"])
        .upstream(event(&answer.to_string()))
        .expect_to_client(&["data: {", "\"code\":-31002", "output schema"])
        .upstream("0\r\n\r\n")
        .expect_to_client(&["0\r\n\r\n"])
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::StreamOpen, &[])
        .expect_recorded(
            Kind::Event,
            &["\"reason\":\"answer-unfit\"", "\"unfit\":{\"rule\":\"planted\""],
        )
        .end();
}
