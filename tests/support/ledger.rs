//! A load whose every step leaves a mark outside the gateway, to be held against the record when the
//! gateway was killed or the power was cut.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::{Gateway, call, field, listen, marks, read_answer, read_head, read_up_to};

/// Clients at once.
pub const CLIENTS: usize = 12;

/// Marks that were seen outside, each with the moment when its last byte had come in.
pub type Ledger = Arc<Mutex<BTreeMap<String, Instant>>>;

/// Enters all marks of some bytes.
fn enter(bytes: &[u8], prefix: &str, ledger: &Ledger) {
    let mut found = Vec::new();
    marks(bytes, prefix, &mut found);
    if !found.is_empty() {
        let now = Instant::now();
        let mut ledger = ledger.lock().expect("no panic");
        for mark in found {
            ledger.entry(mark).or_insert(now);
        }
    }
}

/// What a client receives: entered in the ledger byte by byte as it comes in.
struct Watch<'a> {
    bytes: Vec<u8>,
    ledger: &'a Ledger,
}

impl Extend<u8> for Watch<'_> {
    fn extend<T: IntoIterator<Item = u8>>(&mut self, bytes: T) {
        self.bytes.extend(bytes);
        for prefix in ["answer-", "event-"] {
            enter(&self.bytes, prefix, self.ledger);
        }
    }
}

/// An upstream that writes down what it receives before it answers: every second call as JSON,
/// the others as a stream of a progress event and the answer.
pub fn start_upstream(ledger: Ledger) -> SocketAddr {
    let (listener, address) = listen();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let ledger = ledger.clone();
            thread::spawn(move || serve_upstream(stream, &ledger));
        }
    });
    address
}

fn serve_upstream(mut stream: TcpStream, ledger: &Ledger) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut kept = Vec::new();
    while let Ok(Some(head)) = read_head(&mut stream, &mut kept) {
        let length =
            field(&head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        let whole = read_up_to(&mut stream, &mut kept, length);
        // Even a body that was cut short has been seen.
        enter(&kept, "call-", ledger);
        whole.ok()?;
        let rest = kept.split_off(length);
        let body = std::mem::replace(&mut kept, rest);
        let mut mark = Vec::new();
        marks(&body, "call-", &mut mark);
        let name = mark.first()?.strip_prefix("call-")?.to_owned();
        let message: serde_json::Value = serde_json::from_slice(&body).ok()?;
        let id = message["id"].as_u64()?;
        let answer = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"answer-{name}-end"}}]}}}}"#
        );
        if id % 2 == 0 {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                answer.len()
            );
            stream.write_all(&[head.as_bytes(), answer.as_bytes()].concat()).ok()?;
        } else {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                .ok()?;
            let event = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{id},"progress":1,"message":"event-{name}-end"}}}}"#
            );
            for data in [event, answer] {
                let framed = format!("event: message\ndata: {data}\n\n");
                stream.write_all(format!("{:x}\r\n{framed}\r\n", framed.len()).as_bytes()).ok()?;
            }
            stream.write_all(b"0\r\n\r\n").ok()?;
        }
    }
    Some(())
}

/// Calls over and over until told to stop; answers seen, whole or in part, go into the ledger.
fn run_client(
    address: SocketAddr,
    token: &str,
    label: &str,
    stop: &AtomicBool,
    answered: &AtomicU64,
    ledger: &Ledger,
    may_fail: bool,
) {
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(address) else {
            thread::sleep(Duration::from_millis(2));
            continue;
        };
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let (mut kept, mut seen) = (Vec::new(), Watch { bytes: Vec::new(), ledger });
        loop {
            number += 1;
            let request = call("/tools", token, number, &format!("call-{label}-{number}-end"));
            if stream.write_all(&request).is_err() {
                // The answer to an earlier call may still lie in the socket.
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest);
                seen.extend(rest);
                break;
            }
            seen.bytes.clear();
            match read_answer(&mut stream, &mut kept, &mut seen) {
                Ok((200, _)) => {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                // The disk is gone: the gateway says so until it is killed.
                Ok((503, _)) if may_fail => thread::sleep(Duration::from_millis(2)),
                Ok((status, body)) => {
                    panic!("status {status}: {}", String::from_utf8_lossy(&body));
                }
                Err(_) => break,
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
}

/// Every mark in the record: the frames of every segment, decompressed.
pub fn recorded(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory.join("record/segments")).expect("segments").flatten() {
        if entry.path().extension().is_none_or(|extension| extension != "seg") {
            continue;
        }
        let file = std::fs::File::open(entry.path()).expect("segment opens");
        let mut plain = Vec::new();
        // A torn segment ends in an error; what came before it counts, and `verify` judges it.
        let _ = zstd::stream::read::Decoder::new(file)
            .and_then(|mut decoder| std::io::copy(&mut decoder, &mut plain));
        for prefix in ["call-", "answer-", "event-"] {
            marks(&plain, prefix, &mut found);
        }
    }
    found
}

/// The rules of the test: few, so that a start takes milliseconds. Compiling the built-in pack takes more
/// than a second in a debug build.
pub const FEW_RULES: &str = r#"
schema = 1
[pack]
id = "few"
version = "1"
title = "One rule"
[[rule]]
id = "aws-access-key-id"
title = "AWS access key id"
category = "credential"
pattern = '\b((?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16})\b'
tests.match = ['AKIAIOSFODNN7EXAMPLE']
tests.no_match = ['AKIAIOSFODNN7EXAMPL']
"#;

/// After a kill: nothing is wrong but the tail of the newest segment.
pub fn assert_torn_at_most(gateway: &Gateway) -> bool {
    let (code, said, why) = gateway.command(&["verify", "--json", "--key", &gateway.verifier]);
    let said: serde_json::Value = serde_json::from_str(&said).expect("one object");
    let damage = said["damage"].as_array().expect("a list");
    let torn = |damage: &serde_json::Value| {
        damage["what"].as_str().is_some_and(|what| what.starts_with("torn tail"))
    };
    assert!(damage.len() <= 1 && damage.iter().all(torn), "after a kill: {said}{why}");
    assert_eq!(code, damage.len() as i32, "{said}{why}");
    !damage.is_empty()
}

/// Clients under way.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<thread::JoinHandle<()>>,
}

impl Load {
    /// Starts the clients and returns when the first call was answered. `cycle` goes into their marks;
    /// `may_fail`: calls may be refused with 503.
    pub fn start(
        address: SocketAddr,
        token: &Arc<str>,
        cycle: u64,
        ledger: &Ledger,
        may_fail: bool,
    ) -> Load {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients = (0..CLIENTS)
            .map(|client| {
                let (token, stop, answered, ledger) =
                    (token.clone(), stop.clone(), answered.clone(), ledger.clone());
                let label = format!("{cycle}-{client}");
                thread::spawn(move || {
                    run_client(address, &token, &label, &stop, &answered, &ledger, may_fail)
                })
            })
            .collect();
        let waited = Instant::now();
        while answered.load(Ordering::Relaxed) == 0 && waited.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(answered.load(Ordering::Relaxed) > 0, "no call was answered");
        Load { stop, answered, clients }
    }

    /// The clients stop; gives how many calls were answered.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("no client panics");
        }
        self.answered.load(Ordering::Relaxed)
    }
}
