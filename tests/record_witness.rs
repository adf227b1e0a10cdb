//! One honest witness against somebody who has the log's signing key and the whole disk.
//!
//! Gateway and witness are real processes. The attacker rolls the record back, forks it, or writes it
//! anew with one entry changed, always signed with the real key, so that `verify --key` finds nothing:
//! that is the point. Then the auditor, with the witness's state, and the gateway at its next start must
//! find it, also after the witness was killed and started again.
//!
//! Checked against the mutants "the state is not read at the witness's start" (`State::open` without
//! `read`), "no proof check" (`State::add` takes `whole` for true), "`ask_at_start` does not refuse".

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stenograph::record::disk::{Directory, Files};
use stenograph::record::entry::EntryView;
use stenograph::record::header::{Header, Previous};
use stenograph::record::keys::{LogKey, load_signing_key};
use stenograph::record::note::{TreeHead, notes};
use stenograph::record::reader::{Checks, read};
use stenograph::record::rotation::Rotation;
use stenograph::record::scan::{Place, Sink};
use stenograph::record::segment::Builder;
use stenograph::record::tree::Tree;
use stenograph::record::{Entry, Kind, PartKind};
use stenograph::types::Now;
use support::ledger::{Ledger, start_upstream};
use support::{Gateway, IdentityProvider};

const SOON: Duration = Duration::from_secs(30);

fn run(binary: &Path, words: &[&str]) -> (i32, String, String) {
    let done = Command::new(binary).args(words).stdin(Stdio::null()).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code().unwrap_or(-1), text(&done.stdout), text(&done.stderr))
}

fn keygen(binary: &Path, kind: &str, file: &Path, name: &str) -> String {
    let file = file.display().to_string();
    let (code, out, err) = run(binary, &["keygen", kind, "--out", &file, "--name", name]);
    assert_eq!(code, 0, "{err}");
    out.trim().to_owned()
}

/// A witness in a process of its own.
struct Witness {
    binary: PathBuf,
    directory: PathBuf,
    listen: String,
    log: String,
    child: Option<Child>,
}

impl Witness {
    fn start(&mut self) {
        let log = self.directory.join("witness.log");
        let file = std::fs::File::create(&log).expect("log file");
        let child = Command::new(&self.binary)
            .args(["witness", "--listen", &self.listen, "--log", &self.log, "--key"])
            .arg(self.directory.join("witness.key"))
            .arg("--state")
            .arg(self.state())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("the witness starts");
        self.child = Some(child);
        let begun = Instant::now();
        loop {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if let Some(line) = said.lines().find(|line| line.contains(r#""event":"ready""#)) {
                let line: Value = serde_json::from_str(line).expect("JSON");
                self.listen = line["addresses"][0].as_str().expect("an address").to_owned();
                return;
            }
            assert!(begun.elapsed() < SOON, "not ready: {said}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn kill(&mut self) {
        let mut child = self.child.take().expect("running");
        child.kill().expect("kill");
        child.wait().expect("gone");
    }

    fn state(&self) -> PathBuf {
        self.directory.join("witness.state")
    }

    /// Entries that it has cosigned.
    fn size(&self) -> u64 {
        let state = std::fs::read_to_string(self.state()).unwrap_or_default();
        let note = notes(&state).expect("notes").pop().unwrap_or_default();
        let text = note.split_once("\n\n").map_or("", |(text, _)| text);
        TreeHead::parse(&format!("{text}\n")).map_or(0, |head| head.size)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Some calls that are refused, and recorded.
fn call(address: SocketAddr, times: usize) {
    for _ in 0..times {
        let mut stream = TcpStream::connect(address).expect("the gateway listens");
        let request = "POST /tools HTTP/1.1\r\nHost: mcp.example.test\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("answered");
        assert_eq!(&answer, b"HTTP/1.1 401");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("segments")).expect("made");
    for file in std::fs::read_dir(from.join("segments")).expect("listed") {
        let file = file.expect("a file").path();
        let name = file.file_name().expect("a name");
        std::fs::copy(&file, to.join("segments").join(name)).expect("copied");
    }
}

fn replace(record: &Path, by: &Path) {
    std::fs::remove_dir_all(record).expect("removed");
    copy(by, record);
}

/// `serve` that must not come up: exit code and log.
fn start_refused(gateway: &Gateway) -> (i32, String) {
    let config = gateway.directory.join("stenograph.toml").display().to_string();
    let log = gateway.directory.join("refused.log");
    let mut child = Command::new(&gateway.binary)
        .args(["serve", "--config", &config])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).expect("log file"))
        .spawn()
        .expect("it runs");
    let begun = Instant::now();
    loop {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        if let Some(ended) = child.try_wait().expect("waiting works") {
            return (ended.code().unwrap_or(-1), said);
        }
        if begun.elapsed() > SOON || said.contains(r#""event":"ready""#) {
            child.kill().expect("kill");
            child.wait().expect("gone");
            panic!("it was to refuse: {said}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[derive(Default)]
struct Collect(Vec<Entry>);

impl Sink for Collect {
    fn entry(&mut self, _place: &Place, view: &EntryView<'_>) {
        let mut entry = Entry::new(view.kind().expect("known"), view.now);
        entry.exchange = view.exchange;
        entry.session = view.session;
        entry.ordinal = view.ordinal;
        entry.status = view.status;
        for part in &view.parts {
            let kind = PartKind::from_number(part.kind_number).expect("known");
            entry = entry.part(kind, part.bytes.unwrap_or_default().to_vec());
        }
        self.0.push(entry);
    }
}

/// One sealed segment of these entries, by whoever has the key.
fn segment(key: &LogKey, entries: &[Entry]) -> Vec<u8> {
    let header = Header {
        origin: key.verifier().name().to_owned(),
        segment: 0,
        tree: Tree::new(),
        created: Now { utc_ns: 1, mono_ns: 1 },
        boot_id: [0; 16],
        previous: Previous::NONE,
    };
    let random = Arc::new(|bytes: &mut [u8]| getrandom::fill(bytes).expect("randomness"));
    let mut builder = Builder::begin(&header, 64 * 1024, random).expect("begun");
    let mut file = builder.step().to_vec();
    builder.stored();
    for entry in entries {
        builder.entry(entry, 0).expect("added");
    }
    builder.flush().expect("flushed");
    file.extend_from_slice(builder.step());
    builder.stored();
    builder.seal(key, 2).expect("sealed");
    file.extend_from_slice(builder.step());
    file
}

fn write_anew(record: &Path, key: &LogKey) {
    let mut collect = Collect::default();
    let files = Directory::new(record);
    read(&files as &dyn Files, Checks::default(), &mut collect).expect("read");
    let entries = &mut collect.0;
    let refused = entries.iter().position(|entry| entry.kind == Kind::Refusal).expect("one");
    entries[refused].status = 200;
    std::fs::remove_dir_all(record.join("segments")).expect("removed");
    std::fs::create_dir_all(record.join("segments")).expect("made");
    std::fs::write(record.join("segments/00000000.seg"), segment(key, entries)).expect("written");
}

#[test]
fn one_honest_witness_catches_whoever_has_the_key() {
    let directory = tempfile::tempdir().expect("directory");
    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    let provider = IdentityProvider::start();
    let upstream = start_upstream(Ledger::default());
    let seen_by = keygen(&binary, "witness", &directory.path().join("witness.key"), "w.example");
    let more = "[limits]\npublish_ms_min = \"50ms\"\n";
    let mut gateway =
        Gateway::prepare(&binary, directory.path(), &provider, upstream, "[0]", "written", more);
    gateway.few_rules(support::ledger::FEW_RULES);
    let mut witness = Witness {
        binary: binary.clone(),
        directory: directory.path().into(),
        listen: "127.0.0.1:0".into(),
        log: gateway.verifier.clone(),
        child: None,
    };
    witness.start();
    let config = directory.path().join("stenograph.toml");
    let alone = std::fs::read_to_string(&config).expect("config");
    let asked = alone.replace(
        "release = \"written\"",
        &format!(
            "release = \"written\"\nwitnesses = [{{ url = \"http://{}\", key = \"{seen_by}\" }}]",
            witness.listen
        ),
    );
    std::fs::write(&config, &asked).expect("config");
    let record = directory.path().join("record");
    let (early, state) = (directory.path().join("early"), witness.state().display().to_string());
    let key = gateway.verifier.clone();
    let verify = |gateway: &Gateway, more: &[&str]| {
        let (code, out, err) =
            gateway.command(&[&["verify", "--json", "--key", &key][..], more].concat());
        let said: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
        (code, said)
    };
    let (since, by) = (["--since", &state[..]], ["--witness", &seen_by[..]]);
    let all = [&since[..], &by[..]].concat();

    // An honest day, and a copy of its record.
    for turn in 0..2 {
        gateway.start();
        let before = witness.size();
        call(gateway.address, 5);
        let begun = Instant::now();
        while witness.size() < before + 5 {
            assert!(begun.elapsed() < SOON, "nothing is cosigned");
            std::thread::sleep(Duration::from_millis(10));
        }
        // What was cosigned goes into the record, in front of the next checkpoint.
        call(gateway.address, 5);
        std::thread::sleep(Duration::from_millis(1500));
        assert!(gateway.stop());
        let (code, said) = verify(&gateway, &all);
        assert_eq!(code, 0, "{said}");
        assert_eq!(said["entries"], witness.size(), "the last checkpoint is cosigned too");
        assert!(said["unwitnessed"]["witnesses"][0]["cosignatures"].as_u64() > Some(0), "{said}");
        assert!(said["unwitnessed"]["longest"]["entries"].as_u64() > Some(0), "{said}");
        if turn == 0 {
            copy(&record, &early);
        }
    }
    let late = directory.path().join("late");
    copy(&record, &late);
    let cosigned = witness.size();

    // Rolled back.
    replace(&record, &early);
    let (code, said) = verify(&gateway, &[]);
    assert_eq!((code, &said["intact"]), (0, &json!(true)), "{said}");
    let (code, said) = verify(&gateway, &since);
    let what = said["since"][0]["what"].as_str().unwrap_or_default();
    assert!(code == 1 && what.starts_with("rolled back"), "{said}");
    let (code, log) = start_refused(&gateway);
    assert!(code == 3 && log.contains(&format!("cosigned {cosigned}")), "{code} {log}");

    // The operator may go on all the same, and the record says so.
    let config_text = config.display().to_string();
    let mut accepted = Command::new(&binary)
        .args(["serve", "--accept-rollback", "--config", &config_text])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let begun = Instant::now();
    while TcpStream::connect(gateway.address).is_err() {
        assert!(begun.elapsed() < SOON, "it does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    call(gateway.address, 1);
    let process = rustix::process::Pid::from_child(&accepted);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("signal");
    assert!(accepted.wait().expect("gone").success());
    let mut collect = Collect::default();
    read(&Directory::new(&record) as &dyn Files, Checks::default(), &mut collect).expect("read");
    let told = collect.0.iter().find(|entry| entry.kind == Kind::Witness).expect("it is told");
    let detail: Value = serde_json::from_slice(&told.parts[0].bytes).expect("JSON");
    assert_eq!(
        (&detail["event"], &detail["theirs"]["size"]),
        (&json!("rollback-accepted"), &json!(cosigned))
    );
    assert!(detail["theirs"]["checkpoint"].as_str().is_some_and(|note| note.contains("w.example")));
    assert_eq!(witness.size(), cosigned, "and the witness does not cosign it");
    replace(&record, &early);

    // Forked: grown beyond what the witness has seen, with other entries.
    std::fs::write(&config, &alone).expect("config");
    gateway.start();
    call(gateway.address, cosigned as usize);
    assert!(gateway.stop());
    std::fs::write(&config, &asked).expect("config");
    let (code, said) = verify(&gateway, &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said["entries"].as_u64() > Some(cosigned), "{said}");
    let (code, said) = verify(&gateway, &since);
    let what = said["since"][0]["what"].as_str().unwrap_or_default();
    assert!(code == 1 && what.starts_with("forked"), "{said}");
    let (_, said) = verify(&gateway, &by);
    assert!(said["unwitnessed"]["tail_entries"].as_u64() > Some(cosigned / 2), "{said}");
    // The witness forgets nothing when it is killed.
    witness.kill();
    witness.start();
    let (code, log) = start_refused(&gateway);
    assert!(code == 3 && log.contains("another history"), "{code} {log}");
    assert_eq!(witness.size(), cosigned);

    // Written anew, one entry changed.
    replace(&record, &late);
    let log_key = load_signing_key(&directory.path().join("log.key")).expect("the key");
    write_anew(&record, &log_key);
    let (code, said) = verify(&gateway, &[]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = verify(&gateway, &since);
    assert_eq!(code, 1, "{said}");
    let (code, said) = verify(&gateway, &by);
    assert_eq!((code, &said["unwitnessed"]["witnesses"][0]["cosignatures"]), (1, &json!(0)));
    let (code, log) = start_refused(&gateway);
    assert!(code == 3, "{code} {log}");

    // The honest record goes on.
    replace(&record, &late);
    gateway.start();
    assert!(gateway.stop());
    let (code, said) = verify(&gateway, &all);
    assert_eq!(code, 0, "{said}");
    assert!(witness.size() > cosigned);
}

/// A call with a good token: its status.
fn good_call(address: SocketAddr, token: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("the gateway listens");
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"call-1-end"}}}"#;
    let request = format!(
        "POST /tools HTTP/1.1\r\nHost: mcp.example.test\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
         MCP-Protocol-Version: 2025-06-18\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("answered");
    std::str::from_utf8(&answer[9..]).expect("text").parse().expect("a status")
}

// Mutants: `judge` that does not ask `unwitnessed`; `Watch::run` that never sets it back.
#[test]
fn calls_are_refused_until_a_witness_is_there() {
    let directory = tempfile::tempdir().expect("directory");
    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    let provider = IdentityProvider::start();
    let upstream = start_upstream(Ledger::default());
    let seen_by = keygen(&binary, "witness", &directory.path().join("witness.key"), "w.example");
    let listen = format!("127.0.0.1:{}", support::free_port());
    let more = format!(
        "on_unwitnessed = \"refuse\"\nmax_unwitnessed = \"2s\"\n\
         witnesses = [{{ url = \"http://{listen}\", key = \"{seen_by}\" }}]\n\
         [limits]\npublish_ms_min = \"50ms\"\n"
    );
    let mut gateway =
        Gateway::prepare(&binary, directory.path(), &provider, upstream, "[0]", "written", &more);
    gateway.few_rules(support::ledger::FEW_RULES);
    let token = provider.token("ada", &["engineering"], support::RESOURCE);
    let mut witness = Witness {
        binary,
        directory: directory.path().into(),
        listen,
        log: gateway.verifier.clone(),
        child: None,
    };
    let turns_to = |gateway: &Gateway, status: u16| {
        let begun = Instant::now();
        while good_call(gateway.address, &token) != status {
            assert!(begun.elapsed() < SOON, "no call is answered with {status}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    gateway.start();
    assert_eq!(good_call(gateway.address, &token), 503, "nobody is there at the start");
    witness.start();
    turns_to(&gateway, 200);
    witness.kill();
    turns_to(&gateway, 503);
    witness.start();
    turns_to(&gateway, 200);
    assert!(gateway.stop());
    let (code, out, _) = gateway.command(&["verify", "--json", "--key", &gateway.verifier]);
    assert_eq!(code, 0, "{out}");
}

#[test]
fn the_log_changes_its_key_and_both_keys_verify_all_of_it() {
    let directory = tempfile::tempdir().expect("directory");
    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    let provider = IdentityProvider::start();
    let upstream = start_upstream(Ledger::default());
    let mut gateway =
        Gateway::prepare(&binary, directory.path(), &provider, upstream, "[0]", "written", "");
    gateway.few_rules(support::ledger::FEW_RULES);
    gateway.start();
    call(gateway.address, 2);
    gateway.kill();
    let old = gateway.verifier.clone();
    let name = old.split('+').next().expect("a name");
    let new = keygen(&binary, "log", &directory.path().join("new.key"), name);
    let config = directory.path().join("stenograph.toml");
    let text = std::fs::read_to_string(&config).expect("config");
    let here = directory.path().display();
    let text = text.replace(
        &format!("signing_key = \"{here}/log.key\""),
        &format!("signing_key = \"{here}/new.key\"\nprevious_signing_key = \"{here}/log.key\""),
    );
    std::fs::write(&config, text).expect("config");
    for _ in 0..2 {
        gateway.start();
        call(gateway.address, 2);
        assert!(gateway.stop());
        for key in [&old, &new] {
            let (code, out, err) = gateway.command(&["verify", "--json", "--key", key]);
            assert_eq!(code, 0, "{key}: {out}{err}");
            let said: Value = serde_json::from_str(&out).expect("JSON");
            assert_eq!(said["keys"], json!([&old, &new]), "once, although it started twice");
        }
    }
    let other = keygen(&binary, "log", &directory.path().join("other.key"), name);
    let (code, _, _) = gateway.command(&["verify", "--key", &other]);
    assert_eq!(code, 1);
}

// Mutants: `Scan::rotation` without `Rotation::read`; without comparing size and root; with any place.
#[test]
fn a_forged_rotation_is_damage() {
    let key = |seed: u8| LogKey::from_seed("log.example", &[seed; 32]).expect("a key");
    let (old, new) = (key(1), key(2));
    let empty = Tree::new().root();
    let good = Rotation::sign(&old, &new, 0, empty);
    let forged = {
        let mut forged = good.clone();
        forged["old_signature"] = Rotation::sign(&key(3), &new, 0, empty)["old_signature"].clone();
        forged
    };
    let now = Now { utc_ns: 5, mono_ns: 5 };
    let entry =
        |kind, detail: &Value| Entry::new(kind, now).part(PartKind::Detail, detail.to_string());
    let start = entry(Kind::Start, &json!({}));
    for (rotation, signer, trusted, sound) in [
        (&good, &new, &old, true),
        (&good, &new, &new, true),
        (&good, &old, &old, false),
        (&forged, &new, &old, false),
        (&forged, &new, &new, false),
        (&Rotation::sign(&old, &new, 1, empty), &new, &new, false),
        (&Rotation::sign(&old, &new, 0, [7; 32]), &new, &new, false),
    ] {
        let directory = tempfile::tempdir().expect("directory");
        std::fs::create_dir(directory.path().join("segments")).expect("made");
        let entries = [start.clone(), entry(Kind::Rotation, rotation)];
        let file = directory.path().join("segments/00000000.seg");
        std::fs::write(&file, segment(signer, &entries)).expect("written");
        let checks = Checks { key: Some(trusted.verifier()), commitments: true };
        let files = Directory::new(directory.path());
        let reading = read(&files as &dyn Files, checks, &mut Collect::default()).expect("read");
        assert_eq!(reading.is_consistent(), sound, "{rotation} {:?}", reading.damage);
    }
    let directory = tempfile::tempdir().expect("directory");
    std::fs::create_dir(directory.path().join("segments")).expect("made");
    let file = directory.path().join("segments/00000000.seg");
    std::fs::write(&file, segment(&new, &[entry(Kind::Rotation, &good)])).expect("written");
    let checks = Checks { key: Some(new.verifier()), commitments: true };
    let files = Directory::new(directory.path());
    let reading = read(&files as &dyn Files, checks, &mut Collect::default()).expect("read");
    assert!(!reading.is_consistent(), "a rotation without a start before it");
}
