//! A thousand maximal bodies at once end in refusals, not in memory.
//!
//! Every client offers a body of the largest size allowed and holds its last byte back until all of
//! them have gone as far as they get. The gateway may take as many as its budget of bytes in flight
//! allows and must refuse the others (503 with `Retry-After`); its memory stays under the sum that
//! its bounds promise, and the call after it is answered as if nothing had been.
//!
//! Checked against the mutant "the budget always admits": the memory then passes the bound.

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use support::{
    Gateway, IdentityProvider, RESOURCE, call, field, listen, read_answer, read_head, read_up_to,
    status,
};

const CLIENTS: usize = 1000;
const MIB: usize = 1024 * 1024;
const BODY_BYTES: usize = 4 * MIB;
/// `inflight_bytes_max` of this run: room for 16 of the bodies, half of them one caller's.
const BUDGET_BYTES: usize = 64 * MIB;

fn start_upstream() -> SocketAddr {
    let (listener, address) = listen();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve_upstream(stream));
        }
    });
    address
}

fn serve_upstream(mut stream: TcpStream) -> Option<()> {
    let mut kept = Vec::new();
    while let Ok(Some(head)) = read_head(&mut stream, &mut kept) {
        let length =
            field(&head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        read_up_to(&mut stream, &mut kept, length).ok()?;
        kept.drain(..length);
        let answer =
            r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"taken"}]}}"#;
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        stream.write_all(&[head.as_bytes(), answer.as_bytes()].concat()).ok()?;
    }
    Some(())
}

/// What became of one offer: the status of its answer and whether a refusal said when to come
/// again; 0 when the connection was cut without one.
fn offer(address: SocketAddr, request: &[u8], together: &Barrier) -> (u16, bool) {
    let mut sent = 0;
    let stream = TcpStream::connect(address).ok();
    if let Some(mut stream) = stream.as_ref() {
        let _ = stream.set_write_timeout(Some(Duration::from_secs(3)));
        let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
        while sent < request.len() - 1 {
            match stream.write(&request[sent..request.len() - 1]) {
                Ok(written) if written > 0 => sent += written,
                _ => break,
            }
        }
    }
    together.wait();
    let Some(mut stream) = stream else { return (0, false) };
    let _ = stream.set_write_timeout(Some(Duration::from_secs(30)));
    let _ = stream.write_all(&request[sent..]);
    let mut answer = Vec::new();
    let mut room = [0u8; 4096];
    while support::find(&answer, b"\r\n\r\n").is_none() {
        match stream.read(&mut room) {
            Ok(read) if read > 0 => answer.extend_from_slice(&room[..read]),
            _ => break,
        }
    }
    (status(&answer), field(&answer, "retry-after").is_some())
}

/// Peak resident memory of a process, in bytes.
fn peak_bytes(process: u32) -> usize {
    let told = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = told.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("KiB") * 1024
}

#[test]
fn a_thousand_maximal_bodies_end_in_refusals() {
    let directory = tempfile::tempdir().expect("directory");
    let provider = IdentityProvider::start();
    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    let limits = format!("[limits]\ninflight_bytes_max = \"{}MiB\"\n", BUDGET_BYTES / MIB);
    let mut gateway = Gateway::prepare(
        Path::new(&binary),
        directory.path(),
        &provider,
        start_upstream(),
        "\"auto\"",
        "written",
        &limits,
    );
    gateway.start();
    let token = provider.token("builder", &["engineering"], RESOURCE);
    let frame = call("/tools", &token, 1, "").len();
    // The head grows by the digits of the length; what is left over stays under the bound.
    let request: Arc<[u8]> = call("/tools", &token, 1, &"x".repeat(BODY_BYTES - frame)).into();
    let ask = |request: &[u8]| {
        let mut stream = TcpStream::connect(gateway.address).expect("connects");
        stream.write_all(request).expect("the call goes out");
        read_answer(&mut stream, &mut Vec::new(), &mut Vec::new()).expect("an answer")
    };
    let small = call("/tools", &token, 1, "hello");
    assert_eq!(ask(&small).0, 200, "a small call before");
    assert_eq!(ask(&request).0, 200, "one maximal call alone");
    let before = peak_bytes(gateway.id());

    let together = Arc::new(Barrier::new(CLIENTS));
    let address = gateway.address;
    let offers: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (request, together) = (request.clone(), together.clone());
            thread::Builder::new()
                .stack_size(128 * 1024)
                .spawn(move || offer(address, &request, &together))
                .expect("a thread")
        })
        .collect();
    let mut seen: BTreeMap<u16, usize> = BTreeMap::new();
    for offer in offers {
        let (status, retry) = offer.join().expect("no panic");
        assert!(status != 503 || retry, "503 without Retry-After");
        *seen.entry(status).or_default() += 1;
    }
    let after = peak_bytes(gateway.id());
    println!("answers {seen:?}; peak {} MiB before, {} MiB after", before / MIB, after / MIB);
    assert!(seen.get(&503).is_some_and(|refused| *refused > CLIENTS / 2), "refusals: {seen:?}");
    assert!(seen.get(&200).is_some_and(|taken| *taken > 0), "some are taken: {seen:?}");
    assert!(
        seen.keys().all(|status| [0, 200, 408, 503].contains(status)),
        "nothing else: {seen:?}"
    );
    // The budget, the writer's queue (64 MiB), the views of two messages and receive buffers.
    let allowed = before + BUDGET_BYTES + 64 * MIB + 64 * MIB;
    assert!(after < allowed, "{} MiB, allowed {} MiB", after / MIB, allowed / MIB);
    assert_eq!(ask(&small).0, 200, "a small call after");
    assert!(gateway.stop(), "it drains and seals");
    let (code, said, why) = gateway.command(&["verify", "--json", "--key", &gateway.verifier]);
    assert_eq!(code, 0, "verify: {said}{why}");
}
