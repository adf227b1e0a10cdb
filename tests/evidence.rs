//! What a running gateway puts into the record besides the exchanges: the program, the policy in force
//! at each verdict, the keys that verified the callers, and where recording was weakened.
//!
//! Real processes; what is looked at is what the reading commands and the reader give.

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use stenograph::audit::show::entry_json;
use stenograph::record::disk::Directory;
use stenograph::record::entry::EntryView;
use stenograph::record::reader::{Checks, read};
use stenograph::record::scan::{Place, Sink};
use support::{
    Gateway, IdentityProvider, RESOURCE, binary, call, field, listen, read_head, read_up_to,
};

fn event(message: &str) -> String {
    let text = format!("event: message\ndata: {message}\n\n");
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn progress(step: u32) -> String {
    event(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":1,"progress":{step}}}}}"#
    ))
}

/// An upstream whose answers are streams: one event at once, the rest when it is told to go on.
fn start_upstream() -> (SocketAddr, mpsc::Sender<()>) {
    let (listener, address) = listen();
    let (go_on, told) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(stream, &told);
        }
    });
    (address, go_on)
}

fn serve(mut stream: TcpStream, told: &Receiver<()>) -> Option<()> {
    let mut kept = Vec::new();
    while let Ok(Some(head)) = read_head(&mut stream, &mut kept) {
        let length = field(&head, "content-length")?.parse().ok()?;
        read_up_to(&mut stream, &mut kept, length).ok()?;
        let message: Value = serde_json::from_slice(&kept[..length]).ok()?;
        kept.drain(..length);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        stream.write_all(format!("{head}{}", progress(1)).as_bytes()).ok()?;
        told.recv().ok()?;
        let answer =
            format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, message["id"]);
        stream.write_all(format!("{}{}0\r\n\r\n", progress(2), event(&answer)).as_bytes()).ok()?;
    }
    None
}

/// Every entry, as `show --json` gives it.
struct All(Vec<Value>);

impl Sink for All {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        self.0.push(entry_json(place, entry));
    }
}

fn entries(directory: &Path) -> Vec<Value> {
    let mut all = All(Vec::new());
    let files = Directory::new(directory.join("record"));
    let reading = read(&files, Checks { key: None, commitments: true }, &mut all).unwrap();
    assert!(reading.is_consistent(), "{:?}", reading.damage);
    all.0
}

/// The JSON part of this kind.
fn part<'a>(entry: &'a Value, kind: &str) -> &'a Value {
    let parts = entry["parts"].as_array().unwrap();
    parts.iter().find(|part| part["kind"] == kind).map_or(&Value::Null, |part| &part["json"])
}

fn of_kind<'a>(entries: &'a [Value], kind: &str) -> Vec<&'a Value> {
    entries.iter().filter(|entry| entry["kind"] == kind).collect()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited 20 s for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn receive_until(stream: &mut TcpStream, got: &mut Vec<u8>, text: &str) {
    until(text, || {
        let mut room = [0; 4096];
        let read = stream.read(&mut room).expect("the gateway answers");
        got.extend_from_slice(&room[..read]);
        support::find(got, text.as_bytes()).is_some()
    });
}

// Mutants: `verdict.policy` left out of events; `told.texts` never filled.
#[test]
fn verdicts_name_the_policy_they_were_given_under_also_when_it_changes_during_a_stream() {
    let directory = tempfile::tempdir().unwrap();
    let provider = IdentityProvider::start();
    let (upstream, go_on) = start_upstream();
    let program = binary(env!("CARGO_BIN_EXE_stenograph"));
    let mut gateway =
        Gateway::prepare(&program, directory.path(), &provider, upstream, "[0]", "written", "");
    gateway.start();
    let token = provider.token("alice", &["engineering"], RESOURCE);
    let mut client = TcpStream::connect(gateway.address).unwrap();
    client.write_all(&call("/tools", &token, 1, "hello")).unwrap();
    let mut got = Vec::new();
    receive_until(&mut client, &mut got, "\"progress\":1");

    // Less is recorded from now on: a weaker release, and no bodies.
    let file = directory.path().join("stenograph.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let weaker = config
        .replace("release = \"written\"", "release = \"queued\"")
        .replace("tools = [\"echo\"]", "tools = [\"echo\"]\nrecord = \"heads\"");
    std::fs::write(&file, &weaker).unwrap();
    let process = rustix::process::Pid::from_raw(gateway.id().cast_signed()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::HUP).unwrap();
    let log = directory.path().join("serve.log");
    until("the reload", || {
        support::find(&std::fs::read(&log).unwrap(), b"was read again").is_some()
    });
    go_on.send(()).unwrap();
    receive_until(&mut client, &mut got, "0\r\n\r\n");
    let local = client.local_addr().unwrap();
    drop(client);
    assert!(gateway.stop());

    let all = entries(directory.path());
    let policies = of_kind(&all, "policy");
    assert_eq!(policies.len(), 2);
    let [before, after] = [0, 1].map(|at| part(policies[at], "detail"));
    let verdicts: Vec<(&str, &Value)> = all
        .iter()
        .filter(|entry| !entry["exchange"].is_null() && !part(entry, "verdict").is_null())
        .map(|entry| (entry["kind"].as_str().unwrap(), &part(entry, "verdict")["policy"]))
        .collect();
    let (old, new) = (&before["policy"], &after["policy"]);
    assert_ne!(old, new);
    let expected =
        [("request", old), ("stream-open", old), ("event", old), ("event", new), ("event", new)];
    assert_eq!(verdicts, expected);
    let (code, shown, _) =
        gateway.command(&["show", all.iter().find_map(|one| one["exchange"].as_str()).unwrap()]);
    assert_eq!(code, 0);
    for id in [old, new] {
        assert!(shown.contains(&format!("policy     {}", id.as_str().unwrap())), "{shown}");
    }

    // The text that an id stands for: configuration, rules once for each text.
    assert!(before["config"].as_str().unwrap().contains("release = \"written\""), "{before}");
    assert!(after["config"].as_str().unwrap().contains("release = \"queued\""), "{after}");
    let pack = &before["packs"][0];
    assert_eq!(pack["name"], "builtin");
    assert!(pack["text"].as_str().unwrap().contains("[[rule]]"));
    assert_eq!(
        (&after["packs"][0]["sha256"], &after["packs"][0]["text"]),
        (&pack["sha256"], &Value::Null)
    );
    for policy in &policies {
        let judged = all
            .iter()
            .find(|entry| part(entry, "verdict")["policy"] == part(policy, "detail")["policy"]);
        assert!(policy["sequence"].as_u64() < judged.unwrap()["sequence"].as_u64());
    }

    // Bodies of the first event are there, of the later ones not.
    let bodies: Vec<bool> = of_kind(&all, "event")
        .iter()
        .filter_map(|entry| {
            entry["parts"].as_array().unwrap().iter().find(|part| part["kind"] == "body")
        })
        .map(|body| body["withheld"] == true)
        .collect();
    assert_eq!(bodies, [false, true, true]);

    // The key that verified the caller, by its thumbprint, stands before the first call.
    let request = of_kind(&all, "request")[0];
    let keys = of_kind(&all, "keys")[0];
    assert!(keys["sequence"].as_u64() < request["sequence"].as_u64());
    let key = &part(keys, "detail")["keys"][0];
    assert_eq!(part(keys, "detail")["issuer"], provider.issuer.as_str());
    assert_eq!(key["thumbprint"], part(request, "subject")["key_thumbprint"]);
    assert_eq!((&key["jwk"]["kty"], &key["alg"]), (&"OKP".into(), &"EdDSA".into()));
    assert!(key["jwk"]["x"].is_string() && key["jwk"]["d"].is_null());

    // The connection: told before its first exchange, and with the counts at its end.
    let connect = of_kind(&all, "connect")[0];
    assert!(connect["sequence"].as_u64() < request["sequence"].as_u64());
    assert_eq!(part(connect, "detail")["source"], local.to_string());
    assert_eq!(part(connect, "detail")["local"], gateway.address.to_string());
    let over = part(of_kind(&all, "disconnect")[0], "detail");
    assert_eq!((&over["source"], &over["exchanges"]), (&local.to_string().into(), &1.into()));
    assert_eq!(over["sent_bytes"], got.len());
    assert_eq!((&over["unacknowledged_bytes"], &over["why"]), (&0.into(), &"client-ended".into()));

    // What the start entry says of the program.
    let start = part(of_kind(&all, "start")[0], "detail");
    let digest = std::process::Command::new("sha256sum").arg(&program).output().unwrap();
    let digest = String::from_utf8(digest.stdout).unwrap();
    assert_eq!(start["binary_sha256"].as_str(), digest.split(' ').next());
    assert!(start["commit"].is_string() && start["kernel"].is_string(), "{start}");
    let stated = part(of_kind(&all, "clock")[0], "detail");
    assert!(stated["stated"]["error_us_max"].is_i64(), "{stated}");

    // `verify` names what was weakened, and calls it no damage; also over a restart.
    std::fs::write(&file, weaker.replace("record = \"heads\"", "record = \"full\"")).unwrap();
    gateway.start();
    assert!(gateway.stop());
    std::fs::write(&file, &weaker).unwrap();
    gateway.start();
    assert!(gateway.stop());
    let (code, report, _) = gateway.command(&["verify", "--json", "--key", &gateway.verifier]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((code, &report["intact"]), (0, &true.into()), "{report}");
    let mut weakened: Vec<(String, u64)> = report["weakened"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["what"].as_str().unwrap().to_owned(), one["count"].as_u64().unwrap()))
        .collect();
    weakened.sort();
    let expected = [
        ("grant 0 on tools: record = heads", 2),
        // Told at the reload, and found again between two runs.
        ("grant 0 on tools: record was full and is heads", 2),
        ("grant 0 on tools: release was written and is queued", 1),
        ("no seal_to: the originals of masked spans are lost", 4),
        ("release = queued: bytes go on before their entry is written", 3),
        ("release was written and is queued", 1),
    ];
    assert_eq!(weakened, expected.map(|(what, count)| (what.to_owned(), count)));
    let (_, text, _) = gateway.command(&["verify", "--key", &gateway.verifier]);
    assert!(text.contains("  weakened     entry "), "{text}");
}
