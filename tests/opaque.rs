//! A server that returns pictures, sounds and files, before a gateway whose grant says what becomes of them: as a
//! caller sees it, as it changes while the gateway runs, and as the record tells it afterwards.

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::{Gateway, IdentityProvider, RESOURCE, call, field, server};

/// Bytes that are no text.
fn picture() -> String {
    STANDARD.encode((0..3000u32).map(|at| (at * 167 % 251) as u8).collect::<Vec<u8>>())
}

/// What the tool `echo` returns when it is told this word.
fn content(word: &str) -> Value {
    let resource =
        |blob: String| json!({ "uri": "file:///x", "mimeType": "image/png", "blob": blob });
    match word {
        "image" => json!({ "type": "image", "data": picture(), "mimeType": "image/png" }),
        "audio" => json!({ "type": "audio", "data": picture(), "mimeType": "audio/wav" }),
        "blob" => json!({ "type": "resource", "resource": resource(picture()) }),
        "svg" => {
            json!({ "type": "resource", "resource": resource(STANDARD.encode("<svg>a drawing</svg>")) })
        }
        _ => json!({ "type": "text", "text": "nothing to see" }),
    }
}

/// The answer to a call with this id and word, byte for byte.
fn sent(id: u64, word: &str) -> String {
    let result = json!({ "content": [content(word.trim_end_matches("-stream"))] });
    json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string()
}

fn start_server() -> SocketAddr {
    server::start(|_, message| {
        let word = message["params"]["arguments"]["text"].as_str().unwrap_or("request");
        let answer = sent(message["id"].as_u64()?, word);
        Some(match word.ends_with("-stream") {
            true => server::whole("text/event-stream", "", &format!("data: {answer}\n\n")),
            false => server::json(&answer),
        })
    })
}

/// One caller's connection.
struct Caller {
    stream: TcpStream,
    token: String,
    kept: Vec<u8>,
    id: u64,
}

impl Caller {
    /// The message that a call is answered with, and the exchange.
    fn ask(&mut self, request: impl FnOnce(&str, u64) -> Vec<u8>) -> (String, String) {
        self.id += 1;
        self.stream.write_all(&request(&self.token, self.id)).expect("sent");
        let mut seen = Vec::new();
        let answer = support::read_answer(&mut self.stream, &mut self.kept, &mut seen);
        assert_eq!(answer.expect("answered").0, 200, "{}", String::from_utf8_lossy(&seen));
        let exchange = field(&seen, "stenograph-exchange").expect("an exchange").to_owned();
        let text = String::from_utf8(seen).expect("text");
        let at = text.find("{\"").expect("a message");
        let end = text.rfind('}').expect("its end");
        (text[at..=end].to_owned(), exchange)
    }

    fn tool(&mut self, word: &str) -> (String, String) {
        self.ask(|token, id| call("/tools", token, id, word))
    }

    /// A call of this tool with a picture in its arguments.
    fn show(&mut self, tool: &str) -> (String, String) {
        self.ask(|token, id| {
            let plain = String::from_utf8(call("/tools", token, id, "@")).expect("text");
            let (head, body) = plain.split_once("\r\n\r\n").expect("a body");
            let body = body.replace("\"@\"", &content("image").to_string());
            let body = body.replace("\"echo\"", &format!("\"{tool}\""));
            let (before, _) = head.rsplit_once(": ").expect("a length");
            format!("{before}: {}\r\n\r\n{body}", body.len()).into_bytes()
        })
    }

    /// The grant says so from now on.
    fn until(&mut self, passes: bool) {
        let begun = Instant::now();
        while self.tool("image").0.contains("\"error\"") == passes {
            assert!(begun.elapsed() < Duration::from_secs(10), "the grant is not in force");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn with_input(binary: &Path, words: &[&str], directory: &Path, input: &str) -> String {
    let mut child = Command::new(binary)
        .args(words)
        .arg("--config")
        .arg(directory.join("stenograph.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    String::from_utf8(child.wait_with_output().expect("it ends").stdout).expect("text")
}

// Mutants: requests are not looked at; the policy is made without the word of the grant.
#[test]
fn pictures_pass_are_told_or_stay_outside_as_the_grant_says_and_the_record_tells() {
    let directory = tempfile::tempdir().expect("directory");
    let here = directory.path();
    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    let identity = here.join("auditor.key");
    let made = Command::new(&binary).args(["keygen", "auditor", "--out"]).arg(&identity).output();
    let recipient = String::from_utf8(made.expect("keygen runs").stdout).expect("text");
    let provider = IdentityProvider::start();
    let seal_to = format!("seal_to = [\"{}\"]\n", recipient.trim());
    let mut gateway =
        Gateway::prepare(&binary, here, &provider, start_server(), "[0]", "written", &seal_to);
    gateway.start();
    let token = provider.token("ada", &["engineering"], RESOURCE);
    let stream = TcpStream::connect(gateway.address).expect("the gateway listens");
    let mut ada = Caller { stream, token, kept: vec![], id: 0 };

    let all = ["image", "audio", "blob", "image-stream", "audio-stream", "svg", "text"];
    for word in all {
        assert_eq!(ada.tool(word).0, sent(ada.id, word));
    }
    assert_eq!(ada.show("echo").0, sent(ada.id, ""));

    gateway.configure("tools = [\"echo\"]", "tools = [\"echo\"]\nopaque = \"block\"");
    gateway.reload();
    ada.until(false);
    let mut blocked = vec![];
    for word in all {
        let (answer, exchange) = ada.tool(word);
        match word {
            "svg" | "text" => assert_eq!(answer, sent(ada.id, word)),
            _ => {
                let error: Value = serde_json::from_str(&answer).expect("JSON");
                assert_eq!(
                    (&error["id"], &error["error"]["code"]),
                    (&json!(ada.id), &json!(-31002))
                );
                assert!(!answer.contains(&picture()[..40]));
                blocked.push((word, exchange, sent(ada.id, word)));
            }
        }
    }
    let (answer, refused) = ada.show("echo");
    assert!(answer.contains("-31002"), "{answer}");
    let (answer, denied) = ada.show("nope");
    assert!(answer.contains("\"error\"") && !answer.contains("-31002"), "{answer}");

    gateway.configure("opaque = \"block\"", "opaque = \"alert\"");
    gateway.reload();
    ada.until(true);
    let (answer, told) = ada.tool("audio-stream");
    assert_eq!(answer, sent(ada.id, "audio-stream"));
    drop(ada);
    assert!(gateway.stop());

    let words = ["explain", "--subject", "ada", "--group", "engineering", "--tool", "echo"];
    let explained = with_input(&binary, &words, here, "");
    assert!(explained.contains("opaque content is told"), "{explained}");

    let (code, found, faults) = gateway.command(&["search", "--json", "--rule", "opaque:audio"]);
    assert_eq!(code, 0, "{faults}");
    for (word, exchange, _) in &blocked {
        assert_eq!(found.contains(exchange), word.starts_with("audio"), "{word}");
    }
    assert!(found.contains(&told), "{found}");
    let (_, found, _) = gateway.command(&["search", "--json", "--rule", "opaque:image"]);
    assert!(found.contains(&refused) && !found.contains(&told), "{found}");
    assert!(found.contains(&denied), "a picture that no grant lets in is told: {found}");

    let (_, shown, _) = gateway.command(&["show", &denied]);
    assert!(shown.contains("opaque:image") && !shown.contains(&picture()[..40]), "{shown}");

    let identity = identity.to_str().expect("text");
    for (word, exchange, came) in &blocked {
        let (code, shown, faults) = gateway.command(&["show", exchange]);
        assert_eq!(code, 0, "{faults}");
        let rule = format!("opaque:{}", word.trim_end_matches("-stream"));
        assert!(shown.contains(&rule) && !shown.contains(&picture()[..40]), "{word}: {shown}");
        let words = ["show", exchange, "--json", "--original", "--identity", identity];
        let (code, shown, faults) = gateway.command(&words);
        assert_eq!(code, 0, "{faults}");
        let restored = shown.lines().any(|line| {
            let entry: Value = serde_json::from_str(line).expect("JSON Lines");
            let parts = entry["parts"].as_array().expect("parts").iter();
            parts.into_iter().any(|part| part["restored"] == true && part["text"] == **came)
        });
        assert!(restored, "{word}: what came is not restored: {shown}");
    }
    let (_, shown, _) = gateway.command(&["show", &told]);
    assert!(shown.contains("opaque:audio"), "{shown}");

    let echoed =
        with_input(&binary, &["echoed", "--json", "--fingerprints-only"], here, &picture());
    for (word, exchange, _) in &blocked {
        assert!(echoed.contains(exchange), "{word}: {echoed}");
    }
    // Every text is read again; nothing of it is a finding of a rule of the pack.
    let (code, again, faults) = gateway.command(&["rescan", "--json", "--identity", identity]);
    assert_eq!(code, 1, "{again} {faults}");
    assert!(again.contains("\"refused\":0") && again.contains("\"new\":0"), "{again}");
    let (code, _, faults) = gateway.command(&["verify", "--key", &gateway.verifier]);
    assert_eq!(code, 0, "{faults}");
}
