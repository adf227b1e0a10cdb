//! The reading commands on a small record: what they print, what they cover, how they end.

mod record_support;

use std::path::Path;

use record_support::{Image, Maker, Step, key, settings};
use serde_json::{Value, json};
use stenograph::audit::echoed::{self, EchoedOptions};
use stenograph::audit::filter::Filter;
use stenograph::audit::search::{self, SearchOptions};
use stenograph::audit::sessions::{self, SessionsOptions};
use stenograph::audit::show::{self, ShowOptions, Shown};
use stenograph::audit::verify::{self, VerifyOptions};
use stenograph::audit::{Exit, Indexes, text};
use stenograph::limits::Limits;
use stenograph::record::disk::RealDisk;
use stenograph::record::{Entry, Kind, Level, PartKind, fingerprint, writer};
use stenograph::types::{ExchangeId, Now, SessionId};
use zeroize::Zeroizing;

const T0: u64 = 1_795_000_000_000_000_000;
const KEY: [u8; 32] = [3; 32];
const SECRET: &str = "ghp_0123456789abcdefABCDEF";

fn exchange(number: u32) -> ExchangeId {
    ExchangeId::new(T0 + u64::from(number) * 1_000_000_000, 0, number, 1)
}

fn entry(kind: Kind, number: u32, ordinal: u32) -> Entry {
    let utc_ns = T0 + u64::from(number) * 1_000_000_000 + u64::from(ordinal) * 1_000_000;
    let mut entry = Entry::new(kind, Now { utc_ns, mono_ns: 5 });
    entry.exchange = Some(exchange(number));
    entry.session = Some(SessionId::from_bytes([number as u8 / 2; 10]));
    entry.ordinal = ordinal;
    entry
}

fn subject(name: &str) -> String {
    json!({
        "issuer": "https://id.example", "subject": name, "client": "cli", "token_id": null,
        "key_id": "k1", "key_thumbprint": "tp", "expires": "2026-11-22T09:00:00Z",
        "upstream": "codegen",
    })
    .to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A call of `tool` by `name`, whose answer had a secret masked.
fn call(number: u32, name: &str, tool: &str, request: &str) -> Vec<Entry> {
    let verdict = json!({
        "direction": "request", "decision": "allowed", "http": "POST", "method": "tools/call",
        "targets": [{ "kind": "tool", "name": tool }], "id": "1", "grant": 0,
        "upstream": "codegen", "source": "127.0.0.1:5000", "edited": false, "filtered": false,
    });
    let answer = json!({
        "direction": "response", "decision": "masked", "edited": true, "filtered": false,
        "findings": [{
            "rule": "github-token", "action": "mask", "start": 10, "len": SECRET.len(),
            "level": 1, "path": "/result/text", "fingerprint": hex(&fingerprint(&KEY, SECRET.as_bytes())),
        }],
    });
    let mut answered = entry(Kind::Answer, number, 1)
        .part(PartKind::Verdict, answer.to_string())
        .part(PartKind::HeadOut, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        .part(PartKind::Body, r#"{"result":{"text":"[github-token]*****"}}"#);
    answered.status = 200;
    let end = json!({
        "status": 200, "outcome": "complete", "sent_bytes": 99, "client_bytes": 10,
        "upstream_bytes": 20, "entries": 3, "duration_ns": 5,
    });
    vec![
        entry(Kind::Request, number, 0)
            .part(PartKind::Subject, subject(name))
            .part(PartKind::Verdict, verdict.to_string())
            .part(PartKind::HeadIn, "POST /codegen HTTP/1.1\r\nhost: x\r\n\r\n")
            .part(PartKind::Body, request.to_owned()),
        answered,
        entry(Kind::End, number, 2).part(PartKind::Detail, end.to_string()),
    ]
}

fn record() -> Image {
    let mut maker = Maker::default();
    let refusal = json!({
        "direction": "request", "decision": "denied", "reason": "no-grant", "status": 200,
        "code": -31001, "method": "tools/call", "targets": [{ "kind": "tool", "name": "rm\u{202e}" }],
        "upstream": "codegen", "rule": "json-duplicate-key", "rule_source": "RFC 8259 §4", "at": 24,
        "upstream_status": 302,
    });
    maker.segment(vec![
        Step::Flush(vec![Entry::new(Kind::Start, Now::default())]),
        Step::Flush(call(1, "alice", "make_code", r#"{"q":"caf\u00e9 \"x\""}"#)),
        Step::Checkpoint,
        Step::Flush(call(2, "bob", "make_test", "{\"q\":\"plain \u{1b}[2J\u{202e}text\"}")),
        Step::Flush(vec![
            entry(Kind::Refusal, 3, 0)
                .part(PartKind::Subject, subject("bob"))
                .part(PartKind::Verdict, refusal.to_string()),
        ]),
        Step::Seal,
    ]);
    maker.segment(vec![
        // Never ended.
        Step::Flush(call(4, "alice", "make_code", "{}").drain(..1).collect()),
        Step::Checkpoint,
    ]);
    maker.files
}

fn write(image: &Image) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("segments")).unwrap();
    for (name, file) in image {
        std::fs::write(directory.path().join("segments").join(name), file).unwrap();
    }
    directory
}

fn objects(out: &[u8]) -> Vec<Value> {
    let lines = std::str::from_utf8(out).unwrap().lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn search(directory: &Path, filter: Filter) -> (Exit, Vec<Value>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let directory = directory.to_owned();
    let options = SearchOptions { directory, filter, json: true, ..SearchOptions::default() };
    let exit = search::run(&options, &mut out, &mut err).unwrap();
    (exit, objects(&out))
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn search_puts_exchanges_together() {
    let directory = write(&record());
    let (exit, rows) = search(directory.path(), Filter::default());
    assert_eq!((exit, rows.len()), (Exit::Done, 4));
    let first = &rows[0];
    assert_eq!(first["exchange"], exchange(1).to_string());
    assert_eq!(first["time"], "2026-11-18T11:06:41.000000000Z");
    for (field, value) in [
        ("subject", json!("alice")),
        ("issuer", json!("https://id.example")),
        ("upstream", json!("codegen")),
        ("method", json!("tools/call")),
        ("target", json!("make_code")),
        ("status", json!(200)),
        ("verdict", json!("masked")),
        ("rules", json!(["github-token"])),
        ("entries", json!(3)),
        ("whole", json!(true)),
    ] {
        assert_eq!(first[field], value, "{field}");
    }
    assert_eq!(first["end"]["sent_bytes"], 99);
    let denied = rows.iter().find(|row| row["verdict"] == "denied").unwrap();
    assert_eq!((&denied["end"], &denied["reason"]), (&Value::Null, &json!("no-grant")));
    let open = rows.iter().find(|row| row["exchange"] == exchange(4).to_string()).unwrap();
    assert_eq!((&open["end"], &open["entries"]), (&Value::Null, &json!(1)));
}

#[test]
fn search_filters() {
    let directory = write(&record());
    let asked = |filter: Filter| search(directory.path(), filter).1.len();
    let none = Filter::default;
    assert_eq!(asked(Filter { subject: some("alice"), ..none() }), 2);
    assert_eq!(asked(Filter { tool: some("make_*"), ..none() }), 3);
    assert_eq!(asked(Filter { verdict: some("denied"), ..none() }), 1);
    assert_eq!(asked(Filter { rule: some("github-token"), ..none() }), 2);
    assert_eq!(asked(Filter { method: some("tools/call"), ..none() }), 4);
    assert_eq!(asked(Filter { upstream: some("other"), ..none() }), 0);
    assert_eq!(asked(Filter { issuer: some("https://id.example"), ..none() }), 4);
    assert_eq!(asked(Filter { since_ns: Some(T0 + 2_000_000_000), ..none() }), 3);
    assert_eq!(asked(Filter { until_ns: Some(T0 + 2_000_000_000), ..none() }), 1);
    let session = Some(SessionId::from_bytes([1; 10]));
    assert_eq!(asked(Filter { session, ..none() }), 2);
    assert_eq!(asked(Filter { text: some("café \"x\""), ..none() }), 1);
    assert_eq!(asked(Filter { text: some("nowhere"), ..none() }), 0);
    let (exit, _) = search(directory.path(), Filter { text: some("nowhere"), ..none() });
    assert_eq!(exit, Exit::No);
}

#[test]
fn sessions_are_summed_up() {
    let directory = write(&record());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut options = SessionsOptions { directory: directory.path().into(), ..Default::default() };
    options.json = true;
    assert_eq!(sessions::run(&options, &mut out, &mut err).unwrap(), Exit::Done);
    let rows = objects(&out);
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0]["subject"], "alice");
    assert_eq!(rows[0]["first"], "2026-11-18T11:06:41.000000000Z");
    assert_eq!(rows[0]["last"], "2026-11-18T11:06:41.002000000Z");
    assert_eq!((&rows[1]["exchanges"], &rows[1]["subject"]), (&json!(2), &json!("bob")));
    options.filter.subject = some("nobody");
    assert_eq!(sessions::run(&options, &mut out, &mut err).unwrap(), Exit::No);
}

fn show(directory: &Path, id: &str, json: bool) -> (Exit, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (directory, id) = (directory.to_owned(), id.parse().unwrap());
    let options = ShowOptions { directory, id, json, indexes: Indexes::default() };
    let exit = show::run(&options, &mut out, &mut err).unwrap();
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

// Mutant: printing a body, a target or a head without `escape`.
#[test]
fn show_is_readable_and_safe() {
    let directory = write(&record());
    let (exit, shown, _) = show(directory.path(), &exchange(2).to_string(), false);
    assert_eq!(exit, Exit::Done);
    assert!(!shown.chars().any(|c| c != '\n' && text::is_unsafe(c)), "{shown}");
    for piece in ["bob", "make_test", "POST /codegen", "masked", "github-token mask at byte 10"] {
        assert!(shown.contains(piece), "{piece} in {shown}");
    }
    assert!(shown.contains(r"plain \u{1b}[2J\u{202e}text"), "{shown}");
    assert!(shown.contains("\n      \"result\": {\n"), "{shown}");
    let (_, shown, _) = show(directory.path(), &exchange(3).to_string(), false);
    assert!(shown.contains("rm\\u{202e}") && shown.contains("denied (no-grant)"), "{shown}");
    assert!(shown.contains("json-duplicate-key at byte 24 (RFC 8259 §4)"), "{shown}");
    assert!(shown.contains("status 302 of the upstream"), "{shown}");

    let (_, lines, _) = show(directory.path(), &exchange(2).to_string(), true);
    assert!(!lines.chars().any(|c| c != '\n' && text::is_unsafe(c)));
    let entries = objects(lines.as_bytes());
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[0]["kind"], "request");
    assert_eq!(entries[0]["parts"][0]["json"]["subject"], "bob");
    assert_eq!(entries[0]["parts"][3]["text"], "{\"q\":\"plain \u{1b}[2J\u{202e}text\"}");

    let session = SessionId::from_bytes([1; 10]).to_string();
    let (_, lines, _) = show(directory.path(), &session, true);
    assert_eq!(objects(lines.as_bytes()).len(), 4);
    let (exit, shown, told) = show(directory.path(), &exchange(99).to_string(), false);
    assert_eq!((exit, shown.as_str()), (Exit::No, ""));
    assert!(told.contains("not in this record"));
    assert!("not an id".parse::<Shown>().is_err());
}

fn echo(directory: &Path, secret: &str, with_key: bool) -> (Exit, Vec<Value>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let options = EchoedOptions {
        directory: directory.into(),
        secret: Zeroizing::new(secret.as_bytes().to_vec()),
        fingerprint_key: with_key.then(|| Zeroizing::new(KEY)),
        fingerprints_only: false,
        json: true,
        indexes: Indexes::default(),
    };
    let exit = echoed::run(&options, &mut out, &mut err).unwrap();
    let shown = String::from_utf8(out.clone()).unwrap();
    assert!(!shown.contains(secret), "the secret is never printed");
    (exit, objects(&out))
}

#[test]
fn echoed_answers_by_fingerprint_and_by_text() {
    let directory = write(&record());
    let (exit, mut lines) = echo(directory.path(), SECRET, true);
    let coverage = lines.pop().unwrap();
    assert_eq!((exit, lines.len()), (Exit::Done, 2));
    for (field, value) in [
        ("exchange", json!(exchange(1).to_string())),
        ("direction", json!("response")),
        ("masked", json!(true)),
        ("rule", json!("github-token")),
        ("path", json!("/result/text")),
        ("level", json!(1)),
        ("start", json!(10)),
    ] {
        assert_eq!(lines[0][field], value, "{field}");
    }
    let coverage = &coverage["coverage"];
    assert_eq!(coverage["complete"], true);
    assert_eq!((&coverage["entries"], &coverage["segments"]), (&json!(9), &json!(2)));
    assert_eq!(coverage["from"], "1970-01-01T00:00:00.000000000Z");

    let (exit, lines) = echo(directory.path(), "café \"x\"", true);
    assert_eq!((exit, lines.len()), (Exit::Done, 2));
    assert_eq!((&lines[0]["direction"], &lines[0]["masked"]), (&json!("request"), &json!(false)));
    assert_eq!(echo(directory.path(), "never seen", true).0, Exit::No);
    // Without the fingerprint key the answer does not cover masked values.
    let (exit, lines) = echo(directory.path(), SECRET, false);
    assert_eq!((exit, lines.len()), (Exit::Incomplete, 1));
    assert_eq!(lines[0]["coverage"]["fingerprints"], false);
    assert_eq!(echo(directory.path(), "café \"x\"", false).0, Exit::Incomplete);
}

fn verify(directory: &Path, with_key: bool) -> (Exit, Value, String) {
    let mut options = VerifyOptions {
        directory: directory.into(),
        key: with_key.then(|| key().verifier().clone()),
        since: Vec::new(),
        witnesses: Vec::new(),
        json: true,
        threads: std::num::NonZeroUsize::new(2).unwrap(),
    };
    let (mut out, mut text, mut err) = (Vec::new(), Vec::new(), Vec::new());
    let exit = verify::run(&options, &mut out, &mut err).unwrap();
    options.json = false;
    assert_eq!(verify::run(&options, &mut text, &mut err).unwrap(), exit);
    (exit, objects(&out).pop().unwrap_or_default(), String::from_utf8(text).unwrap())
}

#[test]
fn verify_says_what_it_is() {
    let directory = write(&record());
    let (exit, report, shown) = verify(directory.path(), true);
    assert_eq!((exit, &report["intact"]), (Exit::Done, &json!(true)));
    assert_eq!(report["key"], key().verifier().to_string());
    assert_eq!((&report["segments"], &report["entries"]), (&json!(2), &json!(9)));
    assert_eq!((&report["checkpoints"], &report["damage"]), (&json!(3), &json!([])));
    assert!(shown.starts_with("intact\n"), "{shown}");
    let (exit, report, shown) = verify(directory.path(), false);
    assert_eq!((exit, &report["intact"]), (Exit::No, &json!(false)));
    assert!(shown.starts_with("consistent with itself only"), "{shown}");
    let nothing = tempfile::tempdir().unwrap();
    assert_eq!(verify(nothing.path(), true).0, Exit::Incomplete);
}

// One flipped byte: verify names it, the other commands print what they can and say that it is not
// all.
#[test]
fn a_damaged_record_is_still_read() {
    let mut image = record();
    let file = image.get_mut("00000001.seg").unwrap();
    let at = file.len() / 2;
    file[at] ^= 4;
    let directory = write(&image);
    let (exit, report, shown) = verify(directory.path(), true);
    assert_eq!(exit, Exit::No);
    let damage = &report["damage"][0];
    assert_eq!(damage["segment"], 1);
    assert!(damage["offset"].as_u64().unwrap() <= at as u64);
    assert!(at as u64 <= damage["end"].as_u64().unwrap());
    assert!(shown.starts_with("NOT INTACT") && shown.contains("segment 00000001"), "{shown}");
    let (exit, rows) = search(directory.path(), Filter::default());
    assert_eq!(exit, Exit::Incomplete);
    assert!(rows.len() >= 3, "{rows:?}");
    let (exit, shown, told) = show(directory.path(), &exchange(1).to_string(), false);
    assert_eq!(exit, Exit::Incomplete);
    assert!(shown.contains("alice") && told.contains("segment 00000001"), "{told}");
    let (exit, lines) = echo(directory.path(), SECRET, true);
    assert_eq!(
        (exit, &lines.last().unwrap()["coverage"]["complete"]),
        (Exit::Incomplete, &json!(false))
    );
}

#[test]
fn a_live_directory_is_read_while_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path()).unwrap();
    let limits = Limits { segment_bytes_max: 64 * 1024, ..Limits::default() };
    let (writer, mut recorders) = writer::start(Box::new(disk), settings(1, limits)).unwrap();
    let recorder = &mut recorders[0];
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) && number < 200_000 {
                for entry in call(number, "alice", "make_code", "{\"q\":1}") {
                    let ticket = recorder.submit(entry);
                    if let Ok(ticket) = ticket
                        && number % 64 == 0
                    {
                        let held = recorder.hold(ticket, Level::Written, ());
                        record_support::until("a ticket", || held.ready(recorder.progress()));
                    }
                }
                number += 1;
            }
        });
        let mut seen = 0;
        let started = std::time::Instant::now();
        let mut segments = 0;
        while segments < 4 && started.elapsed().as_secs() < 20 {
            let (exit, report, _) = verify(directory.path(), true);
            assert_eq!(exit, Exit::Done, "{report}");
            assert_eq!(report["live"], true);
            let entries = report["entries"].as_u64().unwrap();
            assert!(entries >= seen);
            seen = entries;
            segments = report["segments"].as_u64().unwrap();
            let (exit, _) =
                search(directory.path(), Filter { subject: some("x"), ..Filter::default() });
            assert_eq!(exit, Exit::No);
        }
        assert!(seen > 0);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    writer.stop().unwrap();
    let (exit, report, _) = verify(directory.path(), true);
    assert_eq!((exit, &report["live"]), (Exit::Done, &json!(false)));
    assert_eq!((&report["gaps"], &report["unsigned_entries"]), (&json!([]), &json!(0)));
    assert!(report["segments"].as_u64().unwrap() > 1, "{report}");
}
