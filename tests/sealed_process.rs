//! A gateway process with an auditor: what a server sent comes back with the identity alone, by the
//! commands that people type.

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use support::{
    Gateway, IdentityProvider, RESOURCE, call, field, find, listen, read_answer, read_head,
    read_up_to,
};

const SECRET: &str = "MASKME-abcdef123456";

const RULES: &str = r#"
schema = 1
[pack]
id = "play"
version = "1"
title = "What is planted"
[[rule]]
id = "planted"
title = "Planted"
category = "credential"
pattern = '\b(MASKME-[a-z0-9]{12})\b'
tests.match = ['MASKME-abcdef123456']
tests.no_match = ['MASKME-abc']
"#;

/// What the server answers to every call.
fn sent(id: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"{SECRET} and \u004dASKME"}}]}}}}"#
    )
}

fn start_upstream() -> SocketAddr {
    let (listener, address) = listen();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer_calls(stream));
        }
    });
    address
}

fn answer_calls(mut stream: TcpStream) -> Option<()> {
    let mut kept = Vec::new();
    while let Ok(Some(head)) = read_head(&mut stream, &mut kept) {
        let length = field(&head, "content-length")?.parse().ok()?;
        read_up_to(&mut stream, &mut kept, length).ok()?;
        let rest = kept.split_off(length);
        let message: serde_json::Value = serde_json::from_slice(&kept).ok()?;
        kept = rest;
        let body = sent(message["id"].as_u64()?);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).ok()?;
    }
    Some(())
}

fn auditor(binary: &Path, file: &Path) -> String {
    let made =
        Command::new(binary).args(["keygen", "auditor", "--out"]).arg(file).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

fn echoed(binary: &Path, directory: &Path, more: &[&str]) -> (i32, String) {
    let mut child = Command::new(binary)
        .args(["echoed", "--json", "--record"])
        .arg(directory.join("record"))
        .arg("--fingerprint-key")
        .arg(directory.join("fingerprint.key"))
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(SECRET.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    (done.status.code().unwrap(), String::from_utf8(done.stdout).unwrap())
}

// Checked against the mutant "the digest of a key file is not compared".
#[test]
fn an_auditor_sees_what_the_server_sent_and_nobody_else_does() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    let identity = here.join("auditor.key");
    let recipient = auditor(&binary, &identity);
    let stranger = here.join("stranger.key");
    auditor(&binary, &stranger);
    let provider = IdentityProvider::start();
    let seal_to = format!("seal_to = [\"{recipient}\"]\n");
    let mut gateway =
        Gateway::prepare(&binary, here, &provider, start_upstream(), "[0]", "written", &seal_to);
    gateway.few_rules(RULES);
    gateway.start();
    let token = provider.token("ada", &["engineering"], RESOURCE);
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.write_all(&call("/tools", &token, 7, "hello")).unwrap();
    let (mut kept, mut seen) = (Vec::new(), Vec::new());
    read_answer(&mut stream, &mut kept, &mut seen).unwrap();
    assert!(find(&seen, SECRET.as_bytes()).is_none());
    let exchange = field(&seen, "stenograph-exchange").unwrap().to_owned();
    drop(stream);
    assert!(gateway.stop());

    let verify = |exit: i32, words: &[&str]| {
        let (code, out, err) = gateway.command(&["verify", "--json", "--key", &gateway.verifier]);
        assert_eq!(code, exit, "{out}{err}");
        words.iter().for_each(|word| assert!(out.contains(word), "{word}: {out}"));
    };
    verify(0, &["\"sealed\":{\"erased\":[],\"foreign\":[],\"keys\":1}"]);

    let show = |file: &Path, exit: i32, word: &str| {
        let file = file.to_str().unwrap();
        let words = ["show", &exchange, "--json", "--original", "--identity", file];
        let (code, out, err) = gateway.command(&words);
        assert_eq!(code, exit, "{out}{err}");
        assert!(err.contains(word), "{err}");
        let parts = out.lines().flat_map(|line| {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            entry["parts"].as_array().unwrap().clone()
        });
        parts
            .filter(|part| part["restored"] == true)
            .map(|part| part["text"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(show(&identity, 0, "1 originals restored"), [sent(7)]);
    assert!(show(&stranger, 1, "wrong identity").is_empty());
    assert!(show(&here.join("none.key"), 4, "No such file").is_empty());
    let (code, out, _) = gateway.command(&["show", &exchange]);
    assert_eq!(code, 0);
    assert!(out.contains("withheld") && !out.contains(SECRET), "{out}");

    let (code, out) = echoed(&binary, here, &[]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("\"masked\":true") && out.contains("\"masked\":1"), "{out}");
    let (code, out) = echoed(&binary, here, &["--identity", identity.to_str().unwrap()]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("\"part\":\"original\"") && out.contains("\"searched\":1"), "{out}");

    let keys = here.join("record/keys");
    let file = std::fs::read_dir(&keys).unwrap().next().unwrap().unwrap().path();
    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    verify(1, &[&name, "is not the one that was written"]);
    assert!(show(&identity, 1, "damaged").is_empty());
    std::fs::remove_file(&file).unwrap();
    verify(0, &[name.strip_suffix(".age").unwrap()]);
    assert!(show(&identity, 1, "erased").is_empty());
}
