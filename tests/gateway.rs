//! The gateway as a whole, in this process: real sockets, real ring, real record, a real identity
//! provider and the demo's MCP server.

use std::time::Duration;

use serde_json::json;
use stenograph::app::demo::world::{PlainClient, Plan, World};

fn world(plan: Plan) -> (tempfile::TempDir, World) {
    let directory = tempfile::tempdir().unwrap();
    let world = World::start(&directory.path().join("world"), plan).unwrap();
    (directory, world)
}

#[test]
fn an_engineers_call_is_masked_and_the_callers_token_stays_here() {
    let (_directory, world) = world(Plan::default());
    let token = world.engineer();
    let mut client = PlainClient::connect(world.address()).unwrap();
    let answer = client.call(&token, 7, "generate_code", "s3 client").unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let text = answer.text();
    assert!(!text.contains(&world.leak.github_token), "{text}");
    assert!(!text.contains(&world.leak.aws_key_id), "{text}");
    assert_eq!(answer.json()["id"], 7);
    assert!(text.contains("[github-token:"), "{text}");
    assert!(answer.field("stenograph-exchange").is_some());

    let seen = world.server.seen();
    assert_eq!(seen.len(), 1);
    assert!(!seen[0].head.contains(&token));
    assert!(seen[0].head.contains("demo-upstream-credential"), "{}", seen[0].head);
    world.gateway.stop().unwrap();
}

#[test]
fn no_token_is_a_followable_challenge_and_reaches_no_upstream() {
    let (_directory, world) = world(Plan::default());
    let mut client = PlainClient::connect(world.address()).unwrap();
    client.send(b"POST /codegen HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}").unwrap();
    let answer = client.answer().unwrap();
    assert_eq!(answer.status, 401);
    let challenge = answer.field("www-authenticate").unwrap();
    let url = challenge.split("resource_metadata=\"").nth(1).unwrap().split('"').next().unwrap();
    let path = url.split_once("//").unwrap().1.split_once('/').unwrap().1;
    client.send(format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    let document = client.answer().unwrap();
    assert_eq!(document.status, 200, "{document:?}");
    assert_eq!(document.json()["resource"], json!(world.resource));
    assert_eq!(document.json()["authorization_servers"][0], json!(world.idp.url()));
    assert!(world.server.seen().is_empty());
    world.gateway.stop().unwrap();
}

#[test]
fn tools_that_are_not_granted_are_neither_listed_nor_called() {
    let (_directory, world) = world(Plan::default());
    let token = world.contractor();
    let mut client = PlainClient::connect(world.address()).unwrap();
    let list =
        client.post(&token, "", &json!({"jsonrpc":"2.0","id":1,"method":"tools/list"})).unwrap();
    let names: Vec<_> = list.json()["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["echo"]);
    let before = world.server.seen().len();
    let denied = client.call(&token, 2, "deploy_production", "now").unwrap();
    assert_eq!(denied.status, 200);
    assert_eq!(denied.json()["error"]["code"], -31001);
    assert_eq!(denied.json()["id"], 2);
    assert_eq!(world.server.seen().len(), before);
    // The connection lives on.
    let answer = client.call(&token, 3, "echo", "still here").unwrap();
    assert_eq!(answer.json()["result"]["content"][0]["text"], "still here");
    world.gateway.stop().unwrap();
}

#[test]
fn a_stream_shows_progress_and_is_cut_within_a_second_of_revoke() {
    let (_directory, world) = world(Plan::default());
    let token = world.engineer();
    let mut client = PlainClient::connect(world.address()).unwrap();
    let message = json!({"jsonrpc":"2.0","id":"b","method":"tools/call","params":{
        "name":"build_project","arguments":{},"_meta":{"progressToken":"p"}}});
    let answer = client.post(&token, "", &message).unwrap();
    let text = answer.text();
    assert_eq!(text.matches("notifications/progress").count(), 3, "{text}");
    assert_eq!(answer.json()["result"]["content"][0]["text"], "built");

    let contractor = world.contractor();
    let mut stream = PlainClient::connect(world.address()).unwrap();
    stream.open_stream(&contractor).unwrap();
    let (head, _) = stream.head().unwrap();
    assert_eq!(head.status, 200);
    stream.some().unwrap();
    let start = std::time::Instant::now();
    stenograph::app::denyfile::revoke(
        &world.directory.join("deny.toml"),
        world.idp.url(),
        &["carl-contractor"],
        &[],
        &[],
        None,
    )
    .unwrap();
    while stream.some().unwrap() > 0 {}
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let refused = PlainClient::connect(world.address())
        .unwrap()
        .call(&contractor, 9, "echo", "again")
        .unwrap();
    assert_eq!(refused.status, 401);
    let fine = client.call(&token, 10, "echo", "others go on").unwrap();
    assert_eq!(fine.status, 200);
    world.gateway.stop().unwrap();
}

/// The drain ends an open stream in order: cut, counted, sealed.
///
/// Mutant: a worker that ends after the drain without `end_drain` leaves the exchange without an end.
#[test]
fn an_exchange_that_outlasts_the_drain_is_cut_and_recorded() {
    let (_directory, world) =
        world(Plan { more: "[limits]\ndrain_ms_max = \"300ms\"\n".into(), ..Plan::default() });
    let mut stream = PlainClient::connect(world.address()).unwrap();
    stream.open_stream(&world.engineer()).unwrap();
    assert_eq!(stream.head().unwrap().0.status, 200);
    stream.some().unwrap();
    let record = world.record();
    world.gateway.stop().unwrap();
    while stream.some().unwrap_or(0) > 0 {}
    let options = stenograph::audit::search::SearchOptions {
        directory: record,
        json: true,
        ..Default::default()
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    stenograph::audit::search::run(&options, &mut out, &mut err).unwrap();
    let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(line["end"]["outcome"], "draining", "{line}");
    assert_eq!(line["whole"], true, "{line}");
}
