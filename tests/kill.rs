//! SIGKILL under load, against a ledger kept outside: whatever the upstream or a client has seen,
//! the record holds.
//!
//! Every call carries a mark in its arguments and every answer and event one of its own. The
//! upstream writes down each mark it receives and the clients each mark they receive, byte by byte
//! as it comes in, complete message or not. The gateway is killed at a random moment and started
//! again on the same directory, over and over; after each kill `verify --key` must find nothing but a
//! torn tail, which the next start adopts. Every [`CYCLES_OF_ONE_RECORD`] kills the record is closed:
//! `verify` must say intact, and every mark of the ledger must stand in it. In `written` and `synced`
//! none may be missing; in `queued` only the newest of a connection: no mark is missing from before one
//! that is there. The other direction (recorded but seen by nobody) is allowed: recording comes first.
//!
//! `STENOGRAPH_KILL_CYCLES` sets the number of kills for each release level (default 6; 1,000 take
//! about eight minutes each), `STENOGRAPH_KILL_SEED` repeats the moments of an earlier run.
//!
//! Checked against the mutants "`record::Held::release` lets go at once" (the ledger then holds marks
//! that the record lacks), "tickets are published before the append", "the residue is not told in the
//! next header" (`verify` then finds damage).

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

use std::collections::{BTreeSet, HashMap};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::{
    Gateway, IdentityProvider, RESOURCE, call, field, listen, marks, read_answer, read_head,
    read_up_to,
};

const CLIENTS: usize = 12;

type Ledger = Arc<Mutex<BTreeSet<String>>>;

/// An upstream that writes down what it receives before it answers: every second call as JSON,
/// the others as a stream of a progress event and the answer.
fn start_upstream(ledger: Ledger) -> SocketAddr {
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
        marks(&kept, "call-", &mut *ledger.lock().ok()?);
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
) {
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(address) else {
            thread::sleep(Duration::from_millis(2));
            continue;
        };
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let (mut kept, mut seen) = (Vec::new(), Vec::new());
        loop {
            number += 1;
            let request = call("/tools", token, number, &format!("call-{label}-{number}-end"));
            if stream.write_all(&request).is_err() {
                // The answer to an earlier call may still lie in the socket.
                let _ = stream.read_to_end(&mut seen);
                break;
            }
            match read_answer(&mut stream, &mut kept, &mut seen) {
                Ok((200, _)) => {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok((status, body)) => {
                    panic!("status {status}: {}", String::from_utf8_lossy(&body));
                }
                Err(_) => break,
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        let mut ledger = ledger.lock().expect("no panic");
        marks(&seen, "answer-", &mut *ledger);
        marks(&seen, "event-", &mut *ledger);
    }
}

/// Every mark in the record: the frames of every segment, decompressed.
fn recorded(directory: &Path) -> BTreeSet<String> {
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

/// A small generator (SplitMix64): the moments of the kills can be repeated from the seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The rules of the test: few, so that a start takes milliseconds. Compiling the built-in pack takes more
/// than a second in a debug build.
const FEW_RULES: &str = r#"
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

/// A record is closed and looked at after so many kills: `verify` runs after each, so its cost grows
/// with the square of this.
const CYCLES_OF_ONE_RECORD: u64 = 16;

/// Cycle and client of a mark, and its place in what that client's connection has seen.
fn place(mark: &str) -> (String, (u64, u8)) {
    let (kind, rest) = mark.split_once('-').expect("kind-cycle-client-number");
    let (label, number) = rest.rsplit_once('-').expect("kind-cycle-client-number");
    let step = match kind {
        "call" => 0,
        "event" => 1,
        _ => 2,
    };
    (label.to_owned(), (number.parse().expect("a number"), step))
}

/// What `queued` permits: of each connection the newest may be missing, and nothing before something
/// that is there.
fn only_newest_missing(
    ledger: &BTreeSet<String>,
    recorded: &BTreeSet<String>,
) -> Result<u64, String> {
    let mut newest_there: HashMap<String, (u64, u8)> = HashMap::new();
    for mark in ledger.intersection(recorded) {
        let (label, at) = place(mark);
        let newest = newest_there.entry(label).or_default();
        *newest = at.max(*newest);
    }
    let mut missing = 0;
    for mark in ledger.difference(recorded) {
        let (label, at) = place(mark);
        if newest_there.get(&label).is_some_and(|newest| at < *newest) {
            return Err(format!("{mark} is missing, and {newest_there:?} is there"));
        }
        missing += 1;
    }
    Ok(missing)
}

/// After a kill: nothing is wrong but the tail of the newest segment.
fn assert_torn_at_most(gateway: &Gateway) -> bool {
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

#[derive(Default)]
struct Counts {
    seen: usize,
    missing: u64,
    torn: u64,
}

/// Ends one record and holds it against the ledger, which is then empty.
fn close_record(gateway: &mut Gateway, ledger: &Ledger, release: &str, counts: &mut Counts) {
    // What the dead gateways handed to the kernel still reaches the upstream's threads.
    thread::sleep(Duration::from_millis(300));
    gateway.start();
    let verify = ["verify", "--json", "--key", &gateway.verifier];
    let (code, said, why) = gateway.command(&verify);
    assert_eq!(code, 0, "verify while it runs again: {said}{why}");
    let verifier = gateway.verifier.clone();
    assert!(gateway.stop(), "the last one drains and seals");
    let (code, said, why) = gateway.command(&["verify", "--json", "--key", &verifier]);
    assert_eq!(code, 0, "verify in the end: {said}{why}");
    let ledger = std::mem::take(&mut *ledger.lock().expect("no panic"));
    let recorded = recorded(&gateway.directory);
    counts.seen += ledger.len();
    if release == "queued" {
        counts.missing +=
            only_newest_missing(&ledger, &recorded).unwrap_or_else(|what| panic!("{what}"));
    } else {
        let lost: Vec<_> = ledger.difference(&recorded).take(10).collect();
        assert!(lost.is_empty(), "seen outside but not in the record: {lost:?}");
    }
    std::fs::remove_dir_all(gateway.directory.join("record")).expect("the record goes");
}

fn kill_over_and_over(release: &str) {
    let cycles = setting("STENOGRAPH_KILL_CYCLES").unwrap_or(6);
    let seed = setting("STENOGRAPH_KILL_SEED").unwrap_or_else(|| {
        let mut bytes = [0u8; 8];
        getrandom::fill(&mut bytes).expect("randomness");
        u64::from_le_bytes(bytes)
    });
    println!("STENOGRAPH_KILL_SEED={seed} STENOGRAPH_KILL_CYCLES={cycles}");
    let begun = Instant::now();
    let mut dice = Dice(seed);
    let directory = tempfile::tempdir().expect("directory");
    let provider = IdentityProvider::start();
    let ledger = Ledger::default();
    let upstream = start_upstream(ledger.clone());
    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    let mut gateway =
        Gateway::prepare(&binary, directory.path(), &provider, upstream, "\"auto\"", release, "");
    gateway.few_rules(FEW_RULES);
    let token: Arc<str> = provider.token("builder", &["engineering"], RESOURCE).into();
    let answered = Arc::new(AtomicU64::new(0));
    let mut counts = Counts::default();

    for cycle in 0..cycles {
        gateway.start();
        let stop = Arc::new(AtomicBool::new(false));
        let before = answered.load(Ordering::Relaxed);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (token, stop, answered, ledger) =
                    (token.clone(), stop.clone(), answered.clone(), ledger.clone());
                let (label, address) = (format!("{cycle}-{client}"), gateway.address);
                thread::spawn(move || {
                    run_client(address, &token, &label, &stop, &answered, &ledger)
                })
            })
            .collect();
        // The first answer shows that the load is on; the kill comes soon after it.
        let waited = Instant::now();
        while answered.load(Ordering::Relaxed) == before
            && waited.elapsed() < Duration::from_secs(10)
        {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(answered.load(Ordering::Relaxed) > before, "no call was answered");
        thread::sleep(Duration::from_micros(dice.next() % 200_000));
        gateway.kill();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("no client panics");
        }
        counts.torn += u64::from(assert_torn_at_most(&gateway));
        if (cycle + 1) % CYCLES_OF_ONE_RECORD == 0 || cycle + 1 == cycles {
            close_record(&mut gateway, &ledger, release, &mut counts);
        }
    }
    println!(
        "{release}: {cycles} kills in {:?}, {} marks seen outside, {} answered, {} torn tails, {} of \
         the newest missing",
        begun.elapsed(),
        counts.seen,
        answered.load(Ordering::Relaxed),
        counts.torn,
        counts.missing,
    );
    assert!(counts.seen as u64 > cycles * 20, "hardly any load: {}", counts.seen);
}

#[test]
fn nothing_seen_is_lost_by_a_kill_when_released_as_written() {
    kill_over_and_over("written");
}

#[test]
fn nothing_seen_is_lost_by_a_kill_when_released_as_synced() {
    kill_over_and_over("synced");
}

#[test]
fn only_the_newest_is_lost_by_a_kill_when_released_as_queued() {
    kill_over_and_over("queued");
}

#[test]
fn the_rule_of_queued_permits_the_newest_and_nothing_before_it() {
    let set = |marks: &[&str]| marks.iter().map(|mark| (*mark).to_owned()).collect::<BTreeSet<_>>();
    let ledger = set(&["call-0-1-1", "answer-0-1-1", "call-0-1-2", "event-0-1-2", "call-0-2-9"]);
    let newest = set(&["call-0-1-1", "answer-0-1-1", "call-0-2-9"]);
    assert_eq!(only_newest_missing(&ledger, &newest), Ok(2));
    let middle = set(&["call-0-1-1", "event-0-1-2"]);
    assert!(only_newest_missing(&ledger, &middle).is_err());
}
