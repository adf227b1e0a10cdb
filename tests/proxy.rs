//! A gateway behind a proxy knows its callers: the PROXY protocol, by hand and from HAProxy.

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;
mod tls_support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};
use support::{
    Gateway, IdentityProvider, RESOURCE, call, field, listen, read_answer, read_head, read_up_to,
};

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
        let length = field(&head, "content-length").and_then(|value| value.parse().ok())?;
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

/// A gateway that takes connections from these proxies.
struct House {
    gateway: Gateway,
    token: String,
    directory: tempfile::TempDir,
}

impl House {
    fn behind(proxies: &str, more: &str) -> House {
        House::listening(&format!("proxy_protocol = {proxies}"), more)
    }

    /// One with these lines in its listener.
    fn listening(lines: &str, more: &str) -> House {
        let directory = tempfile::tempdir().expect("directory");
        let provider = IdentityProvider::start();
        let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
        let mut gateway = Gateway::prepare(
            Path::new(&binary),
            directory.path(),
            &provider,
            start_upstream(),
            "[0]",
            "written",
            more,
        );
        gateway.few_rules(support::ledger::FEW_RULES);
        let address = format!("address = \"{}\"", gateway.address);
        gateway.configure(&address, &format!("{address}\n{lines}"));
        gateway.start();
        let token = provider.token("builder", &["engineering"], RESOURCE);
        House { gateway, token, directory }
    }

    /// What becomes of a connection that sends these pieces, a moment between each two.
    fn send(&self, pieces: &[&[u8]]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.gateway.address).expect("it connects");
        stream.set_nodelay(true).expect("set");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        for piece in pieces {
            // Why the result does not matter: a refused connection may be gone before the last piece.
            let _ = stream.write_all(piece);
            thread::sleep(Duration::from_millis(20));
        }
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    fn call(&self) -> Vec<u8> {
        call("/tools", &self.token, 1, "hello")
    }

    /// Stops the gateway and gives all text of its record.
    fn record(&mut self) -> String {
        assert!(self.gateway.stop(), "it drains and seals");
        let mut plain = Vec::new();
        let segments = self.directory.path().join("record/segments");
        for entry in std::fs::read_dir(segments).expect("segments") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "seg") {
                let file = std::fs::File::open(path).expect("a segment");
                let _ = zstd::stream::read::Decoder::new(file)
                    .and_then(|mut decoder| std::io::copy(&mut decoder, &mut plain));
            }
        }
        String::from_utf8_lossy(&plain).into_owned()
    }
}

/// How often a connection from `source`, through a proxy on this host, is told.
fn told(record: &str, source: &str) -> usize {
    record.matches(&format!("\"source\":\"{source}\",\"proxy\":\"127.0.0.1:")).count()
}

const LINE: &[u8] = b"PROXY TCP4 203.0.113.9 198.51.100.1 40000 443\r\n";
/// From 203.0.113.10:40000.
const BLOCK: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x0a\xc6\x33\x64\x01\x9c\x40\x01\xbb";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

#[test]
fn the_recorded_source_is_the_callers_and_the_proxy_stands_beside_it() {
    let mut house = House::behind("[\"127.0.0.1\"]", "[limits]\nproxy_ms_max = \"500ms\"\n");
    let call = house.call();
    let answered = |answer: &[u8]| answer.starts_with(b"HTTP/1.1 200 ");
    assert!(answered(&house.send(&[&[LINE, &call].concat()])), "in one piece");
    let mut cut: Vec<&[u8]> = LINE.chunks(9).collect();
    cut.push(&call);
    assert!(answered(&house.send(&cut)), "in pieces");
    assert!(answered(&house.send(&[&BLOCK[..15], &[&BLOCK[15..], &call[..]].concat()])), "block");
    assert!(answered(&house.send(&[LOCAL, &call])), "the proxy's own");

    assert_eq!(house.send(&[&call]), b"", "no header");
    assert_eq!(house.send(&[b"PROXY TCP4 203.0.113.9 1.1.1.1 1 02\r\n", &call]), b"");
    let begun = Instant::now();
    assert_eq!(house.send(&[&LINE[..20]]), b"", "a header that ends early");
    let mut slow = TcpStream::connect(house.gateway.address).expect("it connects");
    slow.write_all(&LINE[..20]).expect("a part");
    slow.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    assert_eq!(slow.read(&mut [0; 16]).unwrap_or(0), 0, "a header that does not end");
    assert!(begun.elapsed() < Duration::from_secs(15), "it waits for no header for ever");

    let record = house.record();
    assert_eq!(told(&record, "203.0.113.9:40000"), 4, "two connects, two disconnects");
    assert_eq!(told(&record, "203.0.113.10:40000"), 2, "the address of version 2");
    for rule in ["proxy-missing", "proxy-port", "proxy-ended", "proxy-late"] {
        assert!(record.contains(rule), "{rule} is not in the record");
    }
}

// Mutant: every connection has one name.
#[test]
fn two_open_connections_with_one_source_are_told_apart() {
    let house = House::behind("[\"127.0.0.1\"]", "");
    let connect = || {
        let mut stream = TcpStream::connect(house.gateway.address).expect("it connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        stream.write_all(BLOCK).expect("sent");
        stream
    };
    let mut both = [connect(), connect()];
    let mut names = Vec::new();
    for at in [0, 1, 0] {
        both[at].write_all(&house.call()).expect("sent");
        let mut all = Vec::new();
        read_answer(&mut both[at], &mut Vec::new(), &mut all).expect("an answer");
        let id = field(&all, "stenograph-exchange").expect("an id").to_owned();
        let (code, out, why) = house.gateway.command(&["show", &id, "--json"]);
        assert_eq!(code, 0, "{why}");
        let entries: Vec<serde_json::Value> =
            out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let told = |kind: &str| {
            let mut of_kind = entries.iter().filter(|entry| entry["kind"] == kind);
            let parts = of_kind.next().expect("an entry")["parts"].as_array().expect("parts");
            let told = parts.iter().find(|part| !part["json"]["connection"].is_null());
            let told = told.unwrap_or_else(|| panic!("no {kind} with a connection in {out}"));
            (told["json"]["source"].clone(), told["json"]["connection"].clone())
        };
        assert_eq!(told("request"), told("connect"));
        assert_eq!(told("connect").0, "203.0.113.10:40000");
        names.push(told("connect").1);
    }
    assert!(names[0] == names[2] && names[0] != names[1], "{names:?}");
}

// Mutants: only what stands one by one is listed; only what is counted.
#[test]
fn refusals_before_authentication_are_listed_by_source_and_reason() {
    let mut house = House::behind("[\"127.0.0.1\"]", "[limits]\nrefusals_each_max = 2\n");
    let nobody = b"POST /tools HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    for _ in 0..5 {
        assert!(house.send(&[LINE, nobody]).starts_with(b"HTTP/1.1 401 "));
    }
    assert!(house.send(&[BLOCK, nobody]).starts_with(b"HTTP/1.1 401 "));
    let asked = |words: &[&str]| {
        let (code, out, why) =
            house.gateway.command(&[&["search", "--refusals"][..], words].concat());
        assert!(code == 0 && why.is_empty(), "{why}");
        out
    };
    // Two of the five stand one by one; what is counted is written when its minute, or the gateway, is over.
    let early = asked(&[]);
    assert!(early.contains("       2  203.0.113.9  token-missing\n"), "{early}");
    assert!(house.gateway.stop());
    let asked = |words: &[&str]| house.gateway.command(&[&["search"][..], words].concat());
    let (code, out, _) = asked(&["--refusals", "--json"]);
    assert_eq!(code, 0);
    let rows: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let row = |source: &str| {
        let mut of_source = rows.iter().filter(|row| row["source"] == source);
        of_source.find(|row| row["reason"] == "token-missing").expect("a row").clone()
    };
    assert_eq!(
        (&row("203.0.113.9")["count"], &row("203.0.113.10")["count"]),
        (&5.into(), &1.into())
    );
    let times = row("203.0.113.9");
    assert!(times["first"].as_str() < times["last"].as_str(), "{times}");
    // Connections on which nobody ever was stand beside them.
    let over = rows.iter().find(|row| row["reason"] == "connection-client-ended");
    assert_eq!(over.expect("a row")["count"].as_u64().map(|count| count > 0), Some(true));
    assert_eq!(asked(&["--refusals", "--until", "2020-01-01"]).0, 1, "none then");
    assert_eq!(asked(&["--refusals", "--tool", "x"]).0, 2, "they name no tool");
}

/// Checked against the mutant that believes a header from anybody.
#[test]
fn nobody_but_the_named_proxies_is_let_in() {
    let mut house = House::behind("[\"192.0.2.0/24\", \"::1\"]", "");
    let call = house.call();
    assert_eq!(house.send(&[LINE, &call]), b"", "a header of anybody's");
    assert_eq!(house.send(&[&call]), b"", "none");
    let record = house.record();
    assert!(record.contains("proxy-not-named") && !record.contains("203.0.113.9"));
}

/// A HAProxy that ends with the test.
struct HaProxy(Child);

impl HaProxy {
    /// Forwards connections on `from` to `to`, with these words at the server.
    fn start(directory: &Path, from: SocketAddr, to: SocketAddr, words: &str) -> HaProxy {
        let config = format!(
            "global\n  maxconn 64\ndefaults\n  mode tcp\n  timeout connect 5s\n  \
             timeout client 20s\n  timeout server 20s\nlisten front\n  bind {from}\n  \
             server gateway {to} {words}\n"
        );
        let file = directory.join(format!("haproxy-{}.cfg", from.port()));
        std::fs::write(&file, config).expect("config");
        let child = Command::new("haproxy")
            .args(["-db", "-q", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .expect("haproxy runs: tests/setup.sh installs it");
        let begun = Instant::now();
        while TcpStream::connect(from).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "haproxy does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        HaProxy(child)
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn haproxy_says_who_calls_in_both_versions() {
    let mut house = House::behind("[\"127.0.0.1\"]", "");
    let mut callers = Vec::new();
    for words in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c"] {
        let from = SocketAddr::from(([127, 0, 0, 1], support::free_port()));
        let _proxy = HaProxy::start(house.directory.path(), from, house.gateway.address, words);
        let mut stream = TcpStream::connect(from).expect("it connects");
        stream.write_all(&house.call()).expect("a call");
        let answer = read_answer(&mut stream, &mut Vec::new(), &mut Vec::new()).expect("an answer");
        assert_eq!(answer.0, 200, "{words}");
        callers.push(stream.local_addr().expect("an address"));
    }
    let record = house.record();
    for caller in callers {
        assert_eq!(told(&record, &caller.to_string()), 2, "{caller}, as it comes and goes");
    }
}

#[test]
fn the_header_comes_before_the_handshake() {
    let files = tempfile::tempdir().expect("directory");
    let authority = tls_support::Authority::new("authority");
    let own = authority.issue(&["gateway.test"], "gateway", tls_support::For::Server);
    let (certificate, key) = own.write(files.path(), "gateway");
    let lines = format!(
        "proxy_protocol = [\"127.0.0.1\"]\ntls = {{ certificate = {certificate:?}, key = {key:?} }}"
    );
    let mut house = House::listening(&lines, "");
    let mut callers = Vec::new();
    for (words, version) in ["send-proxy", "send-proxy-v2"].into_iter().zip(tls_support::VERSIONS) {
        let from = SocketAddr::from(([127, 0, 0, 1], support::free_port()));
        let _proxy = HaProxy::start(house.directory.path(), from, house.gateway.address, words);
        let config = tls_support::client_config(authority.roots(), version, None);
        let name = "gateway.test".try_into().expect("a name");
        let tls = ClientConnection::new(config.into(), name).expect("a client");
        let stream = TcpStream::connect(from).expect("it connects");
        callers.push(stream.local_addr().expect("an address"));
        let mut stream = StreamOwned::new(tls, stream);
        stream.write_all(&house.call()).expect("a call");
        let answer = read_answer(&mut stream, &mut Vec::new(), &mut Vec::new()).expect("an answer");
        assert_eq!(answer.0, 200, "{words}");
    }
    let record = house.record();
    for caller in callers {
        assert_eq!(told(&record, &caller.to_string()), 2, "{caller}, as it comes and goes");
    }
    assert!(record.contains("TLSv1.2") && record.contains("TLSv1.3"));
}

/// Checked against the mutant that looks at the proxies that were named when the process began.
#[test]
fn who_is_a_proxy_is_what_the_configuration_says_now() {
    let house = House::behind("[\"127.0.0.1\"]", "");
    let call = house.call();
    let answered = |answer: &[u8]| answer.starts_with(b"HTTP/1.1 200 ");
    let mut reloads = 0;
    let mut change = |old: &str, new: &str| {
        house.gateway.configure(old, new);
        house.gateway.reload();
        reloads += 1;
        let begun = Instant::now();
        while house.gateway.log().matches("was read again").count() < reloads {
            assert!(begun.elapsed() < Duration::from_secs(10), "{}", house.gateway.log());
            thread::sleep(Duration::from_millis(10));
        }
    };
    let open = |first: &[u8]| {
        let mut stream = TcpStream::connect(house.gateway.address).expect("it connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        stream.write_all(first).expect("sent");
        stream
    };
    let again = |stream: &mut TcpStream, bytes: &[u8]| {
        stream.write_all(bytes).expect("sent");
        read_answer(stream, &mut Vec::new(), &mut Vec::new()).expect("an answer").0
    };
    let mut kept = open(LINE);
    assert_eq!(again(&mut kept, &call), 200);

    change("proxy_protocol = [\"127.0.0.1\"]", "proxy_protocol = [\"192.0.2.0/24\"]");
    assert_eq!(house.send(&[LINE, &call]), b"", "it is a proxy no longer");
    house.gateway.wait_for_log("proxy-not-named");
    // Whoever was let in by that proxy's word is let in no more.
    assert_eq!(kept.read(&mut [0; 16]).expect("an end"), 0);

    change("proxy_protocol = [\"192.0.2.0/24\"]", "# no proxy");
    assert!(answered(&house.send(&[&call])), "nobody is asked for a header");
    assert!(house.send(&[LINE, &call]).starts_with(b"HTTP/1.1 400 "), "it is no header any more");

    change("# no proxy", "proxy_protocol = [\"127.0.0.0/8\"]");
    assert_eq!(house.send(&[&call]), b"", "everybody is");
    assert!(answered(&house.send(&[LINE, &call])));
}

/// Checked against the mutant that compares addresses as they came (`contains` without `to_canonical`).
#[test]
fn an_address_that_came_over_ipv6_is_the_ipv4_address() {
    let mut house = House::behind("[\"127.0.0.1\"]", "");
    let port = house.gateway.address.port();
    assert!(house.gateway.stop());
    // A socket of both families: it sees 127.0.0.1 as ::ffff:127.0.0.1.
    let before = format!("address = \"{}\"", house.gateway.address);
    house.gateway.configure(&before, &format!("address = \"[::]:{port}\""));
    house.gateway.start();
    let call = house.call();
    assert!(house.send(&[LINE, &call]).starts_with(b"HTTP/1.1 200 "), "the proxy is known");
    // The caller, too: the same source as in its IPv4 form.
    let mapped = b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 40000 443\r\n";
    let foreign = String::from_utf8(call.clone()).unwrap().replacen("Host: ", "Host: foreign.", 1);
    assert!(house.send(&[mapped, foreign.as_bytes()]).starts_with(b"HTTP/1.1 421 "));
    house.gateway.wait_for_log("host: 192.0.2.7:40000: Host foreign.");
    assert!(house.gateway.stop());
    // Networks of IPv6 hold no address of IPv4, not even the one that holds all of IPv6.
    house.gateway.configure("[\"127.0.0.1\"]", "[\"::/0\"]");
    house.gateway.start();
    assert_eq!(house.send(&[LINE, &call]), b"");
    house.gateway.wait_for_log("proxy-not-named");
    assert!(house.gateway.stop());
    // Written as IPv6, an IPv4 network would match nothing: that is told, and not started with.
    for (network, before) in [("::ffff:0:0/96", "::/0"), ("::ffff:127.0.0.1", "::ffff:0:0/96")] {
        house.gateway.configure(&format!("[\"{before}\"]"), &format!("[\"{network}\"]"));
        let done = Command::new(&house.gateway.binary)
            .args(["check", "--config"])
            .arg(house.directory.path().join("stenograph.toml"))
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert!(said.contains("proxy_protocol") && said.contains("IPv4 address itself"), "{said}");
    }
}

/// Checked against the mutants that count nobody, and that count the proxy for its callers.
#[test]
fn one_source_has_no_more_connections_than_allowed() {
    let more = "[limits]\nconnections_each_max = 2\n";
    for (lines, mine, others) in [
        ("proxy_protocol = [\"127.0.0.1\"]", LINE, Some(BLOCK)),
        ("# every caller comes by itself", b"".as_slice(), None),
    ] {
        let house = House::listening(lines, more);
        let call = house.call();
        let open = |header: &[u8]| {
            let mut stream = TcpStream::connect(house.gateway.address).expect("it connects");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
            let _ = stream.write_all(&[header, &call].concat());
            let answer = read_answer(&mut stream, &mut Vec::new(), &mut Vec::new());
            answer.ok().map(|(status, _)| (stream, status))
        };
        let (first, second) = (open(mine), open(mine));
        assert!(matches!((&first, &second), (Some((_, 200)), Some((_, 200)))));
        assert!(open(mine).is_none(), "a third of one source");
        if let Some(others) = others {
            assert!(matches!(open(others), Some((_, 200))), "another caller of that proxy");
            let own: Vec<_> = (0..4).map(|_| open(LOCAL)).collect();
            assert!(own.iter().all(|one| matches!(one, Some((_, 200)))), "the proxy itself");
        }
        drop(first);
        let begun = Instant::now();
        while !matches!(open(mine), Some((_, 200))) {
            assert!(begun.elapsed() < Duration::from_secs(10), "there is room again");
            thread::sleep(Duration::from_millis(10));
        }
        drop(second);
    }
}
