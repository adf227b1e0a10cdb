//! Grants and shortened lists, judged on whole messages.

use std::sync::Arc;

use bytes::BytesMut;
use proptest::prelude::*;
use serde_json::{Value, json};
use stenograph::guard::Opaque;
use stenograph::guard::glob::Glob;
use stenograph::guard::policy::{DenialReason, Grant, IMPLIED, Policy};
use stenograph::limits::Limits;
use stenograph::types::{Direction, Identity};
use stenograph::wire::json::Scratch;
use stenograph::wire::mcp::{self, Message};

fn identity(issuer: &str, subject: &str, groups: &[&str]) -> Identity {
    let claims = json!({"team": ["red", "blue"], "tier": 2, "staff": true});
    Identity {
        issuer: issuer.into(),
        subject: subject.into(),
        client: None,
        token_id: None,
        groups: groups.iter().map(ToString::to_string).collect(),
        claims: claims.as_object().unwrap().clone(),
        key_id: Arc::from("k"),
        key_thumbprint: Arc::from("t"),
        issued_s: 0,
        expires_s: 1,
    }
}

fn globs(texts: &[&str]) -> Vec<Glob> {
    texts.iter().map(|text| Glob::new(text)).collect()
}

fn read(bytes: &[u8], direction: Direction) -> Message {
    mcp::read(bytes, direction, &Limits::default(), &mut Scratch::new()).unwrap()
}

fn policy() -> Policy {
    Policy::new(vec![
        Grant {
            upstream: 0,
            groups: vec!["engineering".into()],
            tools: globs(&["generate_*"]),
            resources: globs(&["file:///work/**"]),
            ..Grant::default()
        },
        Grant {
            upstream: 0,
            subjects: vec!["alice".into()],
            prompts: globs(&["review"]),
            methods: globs(&["logging/*", "tasks/*", "subscriptions/listen"]),
            ..Grant::default()
        },
        Grant {
            upstream: 1,
            groups: vec!["engineering".into()],
            tools: globs(&["**"]),
            ..Grant::default()
        },
    ])
}

fn request(method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()
}

fn verdict(subject: &str, groups: &[&str], text: &str) -> Result<Option<u16>, DenialReason> {
    let policy = policy();
    let access = policy.access(&identity("https://i", subject, groups), 0);
    policy
        .judge_message(&access, &read(text.as_bytes(), Direction::Request), text.as_bytes())
        .map(|permit| permit.grant())
        .map_err(|denial| denial.reason)
}

// Mutant: `any` instead of an error for a target that no glob matches.
#[test]
fn every_target_needs_a_grant_of_its_kind() {
    let engineer = |text: &str| verdict("bob", &["engineering"], text);
    let call = |name: &str| request("tools/call", json!({"name": name, "arguments": {}}));
    assert_eq!(engineer(&call("generate_code")), Ok(Some(0)));
    for name in ["Generate_code", " generate_code", "delete_all", "generate_a/b", ""] {
        assert_eq!(engineer(&call(name)), Err(DenialReason::Tool), "{name:?}");
    }
    assert_eq!(engineer(&call("generate_").replace("generate_", "\\u0067enerate_x")), Ok(Some(0)));
    let resource = |uri: &str| engineer(&request("resources/read", json!({"uri": uri})));
    assert_eq!(resource("file:///work/a/b.txt"), Ok(Some(0)));
    assert_eq!(resource("file:///home/a"), Err(DenialReason::Resource));
    for uri in [
        "file:///work/../etc/passwd",
        "file:///work/%2e%2e/x",
        "file:///work/a%2Fb",
        "file:///work\\a",
    ] {
        assert_eq!(resource(uri), Err(DenialReason::TwistedUri), "{uri}");
    }
    assert_eq!(
        engineer(&request("prompts/get", json!({"name": "review"}))),
        Err(DenialReason::Prompt)
    );
    assert_eq!(
        verdict("alice", &["engineering"], &request("prompts/get", json!({"name": "review"}))),
        Ok(Some(1))
    );
    let complete = |reference: Value| {
        engineer(&request(
            "completion/complete",
            json!({"ref": reference, "argument": {"name": "a", "value": "b"}}),
        ))
    };
    assert_eq!(complete(json!({"type": "ref/resource", "uri": "file:///work/{x}"})), Ok(Some(0)));
    assert_eq!(
        complete(json!({"type": "ref/prompt", "name": "review"})),
        Err(DenialReason::Prompt)
    );
    assert_eq!(
        complete(json!({"type": "ref/tool", "name": "generate_a"})),
        Err(DenialReason::TargetMissing)
    );
}

// MCP 2026-07-28 has no `resources/subscribe`: servers say so (-32601) to whatever carries the name. The
// mutant "without a target everything passes" (`untargeted` takes the first grant) fails here.
#[test]
fn a_method_without_its_target_needs_all_targets_granted_or_its_name() {
    let bare = |method: &str| request(method, json!({"_meta": {}}));
    let of = |grant: Grant, method: &str| {
        let policy = Policy::new(vec![grant]);
        let access = policy.access(&identity("https://idp", "bob", &["engineering"]), 0);
        let bytes = bare(method).into_bytes();
        let message = read(&bytes, Direction::Request);
        let judged = policy.judge_message(&access, &message, &bytes);
        judged.map(|permit| permit.grant()).map_err(|denial| denial.reason)
    };
    let missing = Err(DenialReason::TargetMissing);
    let all = || Grant { resources: globs(&["**"]), ..Grant::default() };
    let some = || Grant { resources: globs(&["file:///**"]), ..Grant::default() };
    let named = || Grant { methods: globs(&["resources/*"]), ..Grant::default() };
    assert_eq!(of(all(), "resources/subscribe"), Ok(Some(0)));
    assert_eq!(of(all(), "tools/call"), missing);
    assert_eq!(of(some(), "resources/subscribe"), missing);
    assert_eq!(of(named(), "resources/subscribe"), Ok(Some(0)));
    assert_eq!(of(named(), "prompts/get"), missing);
}

#[test]
fn the_handshake_is_implied_and_nothing_else_is() {
    for method in IMPLIED {
        let text = if method.starts_with("notifications/") {
            json!({"jsonrpc": "2.0", "method": method, "params": {"requestId": 1, "progressToken": 1, "progress": 1}})
        } else {
            json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}})
        };
        assert_eq!(verdict("bob", &["engineering"], &text.to_string()), Ok(Some(0)), "{method}");
        assert_eq!(
            verdict("bob", &["sales"], &text.to_string()),
            Err(DenialReason::NoGrant),
            "{method}"
        );
    }
    let level = request("logging/setLevel", json!({"level": "info"}));
    assert_eq!(verdict("bob", &["engineering"], &level), Err(DenialReason::Method));
    assert_eq!(verdict("alice", &[], &level), Ok(Some(1)));
    assert_eq!(verdict("alice", &[], &request("tasks/get", json!({"taskId": "t"}))), Ok(Some(1)));
    assert_eq!(verdict("alice", &[], &request("made/up", json!({}))), Err(DenialReason::Method));
    let roots = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#;
    assert_eq!(verdict("alice", &[], roots), Err(DenialReason::Method));
    let listen = |uris: Value| {
        request("subscriptions/listen", json!({"notifications": {"resourceSubscriptions": uris}}))
    };
    assert_eq!(verdict("alice", &["engineering"], &listen(json!(["file:///work/a"]))), Ok(Some(1)));
    assert_eq!(
        verdict("alice", &["engineering"], &listen(json!(["file:///work/a", "file:///etc/a"]))),
        Err(DenialReason::Resource)
    );
    assert_eq!(verdict("bob", &["engineering"], &listen(json!([]))), Err(DenialReason::Method));
    let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"roots":[]}}"#;
    assert_eq!(verdict("bob", &["engineering"], answer), Ok(Some(0)));
    assert_eq!(verdict("bob", &[], answer), Err(DenialReason::NoGrant));
}

// Mutants: the grant of the method counts alone, or that of the first target; the weakest does, or the first of all
// where there is no target.
#[test]
fn what_becomes_of_opaque_content_says_the_strictest_grant_of_a_message() {
    let grant = |opaque, methods: &[&str], resources: &[&str]| Grant {
        subjects: vec!["alice".into()],
        methods: globs(methods),
        resources: globs(resources),
        opaque,
        ..Grant::default()
    };
    let policy = Policy::new(vec![
        grant(Opaque::Allow, &["subscriptions/listen"], &["file:///plain/**"]),
        grant(Opaque::Block, &[], &["file:///block/**"]),
        grant(Opaque::Alert, &[], &["file:///alert/**"]),
    ]);
    let access = policy.access(&identity("https://i", "alice", &[]), 0);
    let listen = |uris: &[&str]| {
        let filter = json!({"notifications": {"resourceSubscriptions": uris}});
        let text = request("subscriptions/listen", filter);
        let message = read(text.as_bytes(), Direction::Request);
        policy.judge_message(&access, &message, text.as_bytes()).unwrap().opaque()
    };
    let [plain, alert, block] = ["file:///plain/a", "file:///alert/a", "file:///block/a"];
    for (uris, opaque) in [
        (&[][..], Opaque::Allow),
        (&[plain], Opaque::Allow),
        (&[alert], Opaque::Alert),
        (&[alert, plain], Opaque::Alert),
        (&[plain, block, alert], Opaque::Block),
        (&[block, plain], Opaque::Block),
    ] {
        assert_eq!(listen(uris), opaque, "{uris:?}");
    }
    assert_eq!(access.opaque(), Opaque::Block);
    assert_eq!(policy.judge_http(&access).unwrap().opaque(), Opaque::Block);
}

#[test]
fn a_grant_names_people_by_issuer_group_subject_and_claim() {
    let grant = |change: fn(&mut Grant)| {
        let mut grant = Grant { upstream: 3, ..Grant::default() };
        change(&mut grant);
        let policy = Policy::new(vec![grant]);
        !policy.access(&identity("https://i", "alice", &["eng"]), 3).is_empty()
    };
    assert!(grant(|_| {}));
    assert!(!grant(|grant| grant.upstream = 4));
    assert!(grant(|grant| grant.issuer = Some("https://i".into())));
    assert!(!grant(|grant| grant.issuer = Some("https://other".into())));
    assert!(grant(|grant| grant.groups = vec!["x".into(), "eng".into()]));
    assert!(!grant(|grant| grant.groups = vec!["Eng".into()]));
    assert!(grant(|grant| {
        grant.groups = vec!["x".into()];
        grant.subjects = vec!["alice".into()];
    }));
    assert!(grant(|grant| grant.claims = vec![("team".into(), vec!["blue".into()])]));
    assert!(grant(|grant| grant.claims =
        vec![("tier".into(), vec!["2".into()]), ("staff".into(), vec!["true".into()])]));
    assert!(!grant(|grant| grant.claims = vec![("team".into(), vec!["green".into()])]));
    assert!(!grant(|grant| grant.claims = vec![("missing".into(), vec!["x".into()])]));
}

fn shortened(text: &str, subject: &str, groups: &[&str]) -> String {
    let policy = policy();
    let access = policy.access(&identity("https://i", subject, groups), 0);
    let mut bytes = BytesMut::from(text);
    let (_, edited) = policy
        .judge_answer(&access, &read(text.as_bytes(), Direction::Response), &mut bytes)
        .unwrap();
    assert_eq!(edited.is_some(), bytes != text.as_bytes());
    assert!(edited.is_none_or(|before| before == text.as_bytes()));
    read(&bytes, Direction::Response);
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn lists_lose_whole_elements_and_keep_every_other_byte() {
    let text = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[ {"name":"a"} , {"name":"generate_b", "x":[1,2]},5,{"name":7},{"title":"generate_c"} ],"cacheScope":"public"}}"#;
    assert_eq!(
        shortened(text, "bob", &["engineering"]),
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[ {"name":"generate_b", "x":[1,2]} ],"cacheScope":"private"}}"#
    );
    assert_eq!(
        shortened(text, "nobody", &[]),
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[  ],"cacheScope":"private"}}"#
    );
    let plain = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"tools"}]}}"#;
    assert_eq!(shortened(plain, "nobody", &[]), plain);
}

fn element() -> impl Strategy<Value = Value> {
    prop_oneof![
        "generate_[a-z\\n\"]{0,3}"
            .prop_map(|name| json!({"name": name, "inputSchema": {"type": "object"}})),
        "[a-z/ ]{0,5}".prop_map(|name| json!({"description": "x,]}", "name": name})),
        Just(json!({"uri": "file:///work/a", "name": "generate_no"})),
        Just(json!({"name": 5})),
        Just(json!([1, 2])),
        Just(json!("generate_text")),
        Just(Value::Null),
    ]
}

proptest! {
    // Mutant: the end of a run of dropped elements taken from the element itself, not from the next.
    #[test]
    fn a_shortened_list_is_what_a_parser_would_have_shortened(items in proptest::collection::vec(element(), 0..8), pretty in any::<bool>()) {
        let whole = json!({"jsonrpc": "2.0", "id": "x", "result": {"tools": items, "nextCursor": "c"}});
        let text = if pretty { serde_json::to_string_pretty(&whole).unwrap() } else { whole.to_string() };
        let name_of = |item: &Value| item.as_object().and_then(|item| item.get("name")).and_then(|name| name.as_str().map(String::from));
        // Control characters in names are none of the envelope's business in answers.
        let glob = Glob::new("generate_*");
        let mut expected = whole.clone();
        expected["result"]["tools"].as_array_mut().unwrap().retain(|item| name_of(item).is_some_and(|name| glob.matches(name.as_bytes())));
        let seen: Value = serde_json::from_str(&shortened(&text, "bob", &["engineering"])).unwrap();
        prop_assert_eq!(seen, expected);
    }
}
