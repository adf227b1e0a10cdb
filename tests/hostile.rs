//! Callers and servers that mean harm, against the gateway as a whole: what must not pass, and what
//! must not stand in the record. The server here says what each test wants it to say.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stenograph::app::demo::world::{Answer, PlainClient, Plan, World};

/// Head and body of every request that arrived.
type Seen = Arc<Mutex<Vec<String>>>;

/// A server that answers every request with what `answer` makes of its id.
fn server(answer: impl Fn(&Value) -> Vec<u8> + Send + Sync + 'static) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let seen = Seen::default();
    let (answer, all) = (Arc::new(answer), seen.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answer, all) = (answer.clone(), all.clone());
            std::thread::spawn(move || serve(stream, &*answer, &all));
        }
    });
    (url, seen)
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(&Value) -> Vec<u8>, seen: &Seen) {
    let mut kept = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let whole = String::from_utf8_lossy(&kept).split_once("\r\n\r\n").map(|(head, body)| {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            (head.to_owned(), body.to_owned(), length.map_or(0, |text| text.parse().unwrap()))
        });
        if let Some((head, body, length)) = whole
            && body.len() >= length
        {
            kept.clear();
            seen.lock().unwrap().push(format!("{head}\r\n\r\n{body}"));
            let id =
                serde_json::from_str::<Value>(&body).map_or(Value::Null, |it| it["id"].clone());
            if stream.write_all(&answer(&id)).is_err() {
                return;
            }
            continue;
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(bytes) => kept.extend_from_slice(&chunk[..bytes]),
        }
    }
}

fn http(fields: &str, media: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {media}\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn result(id: &Value) -> String {
    json!({"jsonrpc":"2.0","id":id,"result":{"content":[{"type":"text","text":"fine"}]}})
        .to_string()
}

fn world(url: String, more: &str) -> (tempfile::TempDir, World) {
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan { upstream_url: Some(url), more: more.to_owned(), ..Plan::default() };
    let world = World::start(&directory.path().join("world"), plan).unwrap();
    (directory, world)
}

/// Every byte of the record, decompressed.
fn record(directory: &Path) -> String {
    let mut out = Vec::new();
    for file in std::fs::read_dir(directory.join("segments")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        out.extend_from_slice(&bytes);
        for at in memchr::memmem::find_iter(&bytes, b"\x28\xb5\x2f\xfd") {
            let mut reader = zstd::stream::read::Decoder::new(&bytes[at..]).unwrap().single_frame();
            let _ = reader.read_to_end(&mut out);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn post(world: &World, path: &str, more: &str, body: &str) -> Answer {
    let mut client = PlainClient::connect(world.address()).unwrap();
    let token = world.engineer();
    client
        .send(
            format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
                 Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
                 {more}Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )
        .unwrap();
    client.answer().unwrap()
}

fn call(id: Value, tool: &str) -> String {
    json!({"jsonrpc":"2.0","id":id,"method":"tools/call","params":{"name":tool,"arguments":{}}})
        .to_string()
}

#[test]
fn a_refused_id_method_or_name_that_is_a_secret_was_in_the_verdict() {
    let (url, seen) = server(|id| http("", "application/json", &result(id)));
    let (_directory, world) = world(url, "");
    let secret = &world.leak.github_token;
    let named = |method: &str, member: &str, value: &str| {
        json!({"jsonrpc":"2.0","id":1,"method":method,"params":{member:value}}).to_string()
    };
    let escaped =
        call(json!("x"), "echo").replace("\"x\"", &format!("\"\\u0067{}\"", &secret[1..]));
    for body in [
        call(json!(secret), "echo"),
        escaped,
        call(json!(1), secret),
        named("resources/read", "uri", &format!("file:///{secret}")),
        named("prompts/get", "name", secret),
        named(secret, "x", "y"),
        json!({"jsonrpc":"2.0","id":secret,"method":"tools/call","params":[]}).to_string(),
    ] {
        let answer = post(&world, "/codegen", "", &body);
        assert!(answer.json()["error"]["code"].is_i64(), "{answer:?}");
        let answer = post(&world, "/codegen", "Expect: 100-continue\r\n", &body);
        assert!(answer.json()["error"]["code"].is_i64(), "{answer:?}");
    }
    assert!(seen.lock().unwrap().is_empty());
    let directory = world.record();
    let tail = &secret[1..];
    world.gateway.stop().unwrap();
    let record = record(&directory);
    assert!(record.contains("[github-token"), "the verdicts are there");
    assert!(!record.contains(tail));
}

#[test]
fn a_secret_hidden_in_the_target_or_in_base64_went_upstream() {
    let (url, seen) = server(|id| http("", "application/json", &result(id)));
    let (_directory, world) = world(url, "");
    let secret = world.leak.github_token.clone();
    let token = world.engineer();
    let base64 = STANDARD.encode(&secret);
    let percent = format!("%67{}", &secret[1..]);
    let twice = percent.replace('%', "%25");
    for (path, more) in [
        (format!("/codegen/{secret}"), String::new()),
        (format!("/codegen?x={percent}"), String::new()),
        (format!("/codegen?x={twice}"), String::new()),
        (format!("/codegen?access_token={}", token.replace('.', "%2E")), String::new()),
        ("/codegen".into(), format!("Mcp-Param-A: =?base64?{base64}?=\r\n")),
        (
            "/codegen".into(),
            format!("Mcp-Param-A: =?base64?{}?=\r\n", base64.trim_end_matches('=')),
        ),
    ] {
        let answer = post(&world, &path, &more, &call(json!(1), "echo"));
        assert!(answer.json()["error"]["code"].is_i64(), "{path} {more} {answer:?}");
    }
    let fine = post(
        &world,
        "/codegen?a=b%20c",
        "Mcp-Param-A: =?base64?ZWNobw==?=\r\n",
        &call(json!(1), "echo"),
    );
    assert_eq!(fine.json()["result"]["content"][0]["text"], "fine", "{fine:?}");
    assert_eq!(seen.lock().unwrap().len(), 1);
    let directory = world.record();
    let signature = token.rsplit('.').next().unwrap().to_owned();
    world.gateway.stop().unwrap();
    let record = record(&directory);
    for hidden in [&secret[4..], base64.trim_end_matches('='), &signature] {
        assert!(!record.contains(hidden), "{hidden}");
    }
}

#[test]
fn a_blocked_event_gave_its_secret_back_as_the_id_of_the_error() {
    let secret = "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";
    let (url, _) = server(move |id| {
        let foreign = json!({"jsonrpc":"2.0","id":secret,"error":{"code":1,"message":"x"}});
        let asked = json!({"jsonrpc":"2.0","id":secret,"method":"ping"});
        let method = json!({"jsonrpc":"2.0","method":format!("notifications/{secret}")});
        let events: String =
            [foreign, asked, method].iter().map(|event| format!("data: {event}\n\n")).collect();
        http("", "text/event-stream", &format!("{events}data: {}\n\n", result(id)))
    });
    let (_directory, world) = world(url, "");
    let answer = post(&world, "/codegen", "", &call(json!(7), "echo"));
    assert_eq!(answer.json()["id"], 7, "{answer:?}");
    assert!(!answer.text().contains(secret), "{answer:?}");
    let directory = world.record();
    world.gateway.stop().unwrap();
    assert!(!record(&directory).contains(secret));
}

#[test]
fn the_name_of_an_event_reached_the_caller_and_not_the_record() {
    let (url, _) = server(|id| {
        http("", "text/event-stream", &format!("event: carried-beside\ndata: {}\n\n", result(id)))
    });
    let (_directory, world) = world(url, "");
    let answer = post(&world, "/codegen", "", &call(json!(7), "echo"));
    assert!(answer.text().contains("carried-beside"), "{answer:?}");
    let directory = world.record();
    world.gateway.stop().unwrap();
    assert!(record(&directory).contains("event: carried-beside"));
}

#[test]
fn a_servers_cookie_stood_in_the_recorded_head() {
    let (url, _) = server(|id| {
        let fields = "Set-Cookie: sid=opens-the-server\r\nX-Auth-Token: opens-it-too\r\n";
        http(fields, "application/json", &result(id))
    });
    let (_directory, world) = world(url, "");
    assert_eq!(post(&world, "/codegen", "", &call(json!(7), "echo")).status, 200);
    let directory = world.record();
    world.gateway.stop().unwrap();
    let record = record(&directory);
    assert!(record.contains("Set-Cookie: ****"));
    assert!(!record.contains("opens-"));
}

#[test]
fn a_burst_of_small_events_was_more_than_one_vectored_send_takes() {
    let (url, _) = server(|id| {
        let times = "retry: 1000\n\n".repeat(5000);
        http("", "text/event-stream", &format!("{times}data: {}\n\n", result(id)))
    });
    let (_directory, world) = world(url, "");
    let answer = post(&world, "/codegen", "", &call(json!(7), "echo"));
    assert_eq!(answer.text().matches("retry: 1000\n\n").count(), 5000);
    assert_eq!(answer.json()["id"], 7);
    world.gateway.stop().unwrap();
}

#[test]
fn an_exchange_of_a_client_that_does_not_read_had_no_end() {
    let (url, _) = server(|id| {
        let event = format!(
            "data: {}\n\n",
            json!({"jsonrpc":"2.0","method":"notifications/message",
            "params":{"level":"info","data":"x y ".repeat(50_000)}})
        );
        http("", "text/event-stream", &format!("{}data: {}\n\n", event.repeat(100), result(id)))
    });
    let (_directory, world) = world(url, "[limits]\nsend_ms_max = \"300ms\"\n");
    let mut client = PlainClient::connect(world.address()).unwrap();
    let body = call(json!(7), "echo");
    let token = world.engineer();
    client
        .send(
            format!(
                "POST /codegen HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )
        .unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let directory = world.record();
    world.gateway.stop().unwrap();
    assert!(record(&directory).contains("client-not-reading"));
}

#[test]
fn interim_answers_without_end_kept_a_worker_busy() {
    let (url, _) = server(|_| b"HTTP/1.1 102 Processing\r\n\r\n".repeat(20_000));
    let (_directory, world) = world(url, "");
    let answer = post(&world, "/codegen", "", &call(json!(7), "echo"));
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (502, &json!(-31004)),
        "{answer:?}"
    );
    world.gateway.stop().unwrap();
}
