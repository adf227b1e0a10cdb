//! The gateway with TLS on both sides, as a process: real handshakes, real files, the record read
//! back. What real clients do with it is in tests/tls_clients.rs.
//!
//! `STENOGRAPH_TLS_CONNECTIONS` (800) is how many wait at once; 10000 take half a minute.

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;
#[path = "tls_support/ends.rs"]
mod tls_ends;
mod tls_support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, ServerConfig};
use support::{Gateway, IdentityProvider, RESOURCE, binary, call};
use tls_ends::{Client, NAME, start_server};
use tls_support::{Authority, For, Issued, VERSIONS, client_config, provider};

/// A gateway with TLS, and whoever is around it.
struct House {
    directory: tempfile::TempDir,
    gateway: Gateway,
    provider: IdentityProvider,
    servers: Authority,
    callers: Authority,
}

/// What a house is built with.
struct Plan<'a> {
    /// Text of `tls` of the listener.
    tls: &'a str,
    /// Text behind the upstream's `resource`.
    upstream: &'a str,
    /// Scheme of the upstream's URL.
    scheme: &'a str,
    /// Further sections.
    more: &'a str,
    /// Cores of the workers.
    cores: &'a str,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Plan {
            tls: r#"{ certificate = "gateway.pem", key = "gateway.key" }"#,
            upstream: "",
            scheme: "http",
            more: "",
            cores: "[0]",
        }
    }
}

impl House {
    /// Builds it in front of `upstream`; `prepare` writes further files.
    fn build(
        upstream: SocketAddr,
        plan: &Plan<'_>,
        prepare: impl FnOnce(&Path, &Authority, &Authority),
    ) -> House {
        House::build_for(IdentityProvider::start(), upstream, plan, prepare)
    }

    /// The same, for callers of `provider`. What the system trusts is `system.pem`, where there is one.
    fn build_for(
        provider: IdentityProvider,
        upstream: SocketAddr,
        plan: &Plan<'_>,
        prepare: impl FnOnce(&Path, &Authority, &Authority),
    ) -> House {
        let directory = tempfile::tempdir().unwrap();
        let program = binary(env!("CARGO_BIN_EXE_stenograph"));
        let mut gateway = Gateway::prepare(
            &program,
            directory.path(),
            &provider,
            upstream,
            plan.cores,
            "written",
            plan.more,
        );
        gateway.few_rules(support::ledger::FEW_RULES);
        let (servers, callers) = (Authority::new("servers"), Authority::new("callers"));
        servers.issue(&[NAME], "the gateway", For::Server).write(directory.path(), "gateway");
        std::fs::write(directory.path().join("servers.pem"), servers.pem()).unwrap();
        std::fs::write(directory.path().join("callers.pem"), callers.pem()).unwrap();
        prepare(directory.path(), &servers, &callers);
        let address = format!("address = \"{}\"", gateway.address);
        gateway.configure(&address, &format!("{address}\ntls = {}", plan.tls));
        let resource = format!("resource = \"{RESOURCE}\"");
        gateway.configure(&resource, &format!("{resource}\n{}", plan.upstream));
        let url = |scheme: &str| format!("url = \"{scheme}://{upstream}/mcp\"");
        gateway.configure(&url("http"), &url(plan.scheme));
        let system = directory.path().join("system.pem");
        if system.exists() {
            gateway.environment = vec![("SSL_CERT_FILE", system)];
        }
        gateway.start();
        House { directory, gateway, provider, servers, callers }
    }

    fn token(&self) -> String {
        self.provider.token("erin", &["engineering"], RESOURCE)
    }

    fn address(&self) -> SocketAddr {
        self.gateway.address
    }

    /// A client of one version with this certificate.
    fn client(
        &self,
        version: &'static rustls::SupportedProtocolVersion,
        own: Option<&Issued>,
    ) -> Arc<rustls::ClientConfig> {
        Arc::new(client_config(self.servers.roots(), version, own))
    }

    /// All text of the record.
    fn record(&self) -> String {
        let mut plain = Vec::new();
        for entry in std::fs::read_dir(self.directory.path().join("record/segments")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "seg") {
                let file = std::fs::File::open(path).unwrap();
                let _ = zstd::stream::read::Decoder::new(file)
                    .and_then(|mut decoder| std::io::copy(&mut decoder, &mut plain));
            }
        }
        String::from_utf8_lossy(&plain).into_owned()
    }

    /// One exchange as `show` gives it.
    fn show(&self, id: &str) -> Vec<serde_json::Value> {
        let (code, out, why) = self.gateway.command(&["show", id, "--json"]);
        assert_eq!(code, 0, "{why}");
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl House {
    /// One exchange as `show` gives it once its connection is over.
    fn show_whole(&self, id: &str) -> Vec<serde_json::Value> {
        let begun = Instant::now();
        loop {
            let entries = self.show(id);
            if entries.iter().any(|entry| entry["kind"] == "disconnect") {
                return entries;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "no disconnect: {entries:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What was refused before anybody was authenticated, as `search` gives it: source, reason, count, why.
    fn refusals(&self) -> Vec<serde_json::Value> {
        let (_, out, why) = self.gateway.command(&["search", "--refusals", "--json"]);
        assert!(why.is_empty(), "{why}");
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn part<'a>(entries: &'a [serde_json::Value], kind: &str, part: &str) -> &'a serde_json::Value {
    let entry = entries.iter().find(|entry| entry["kind"] == kind).expect("an entry");
    let parts = entry["parts"].as_array().expect("parts");
    &parts.iter().find(|one| one["kind"] == part).expect("a part")["json"]
}

/// A server's side: `issued`, and callers of `callers` required where given.
fn server_config(issued: &Issued, callers: Option<&Authority>) -> Arc<ServerConfig> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(&VERSIONS).unwrap();
    let builder = match callers {
        None => builder.with_no_client_auth(),
        Some(callers) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(callers.roots()), provider())
                .build()
                .unwrap(),
        ),
    };
    Arc::new(builder.with_single_cert(issued.chain(), issued.private_key()).unwrap())
}

// Mutants tried: the connect entry without `tls`; `Pools::checkout` that asks the socket and not the pipe
// whether it is quiet (what TLS itself says makes it a new connection for the next call).
#[test]
fn a_call_under_tls_on_both_sides_is_recorded_with_its_channels() {
    // The upstream's own house: an authority of its own, which also knows the gateway.
    let inside = Authority::new("inside");
    let server = inside.issue(&["tools.inside.test"], "tools", For::Server);
    let (upstream, seen) = start_server(Some(server_config(&server, Some(&inside))));
    let shown = inside.issue(&["gateway.inside.test"], "gateway inside", For::Client);
    let plan = Plan {
        tls: r#"{ certificate = "gateway.pem", key = "gateway.key", client_ca = "callers.pem" }"#,
        upstream: r#"tls = { ca = "inside.pem", certificate = "own.pem", key = "own.key", server_name = "tools.inside.test" }"#,
        scheme: "https",
        ..Plan::default()
    };
    let mut house = House::build(upstream, &plan, |directory, _, _| {
        std::fs::write(directory.join("inside.pem"), inside.pem()).unwrap();
        shown.write(directory, "own");
    });
    let own = house.callers.issue(&["agent.example.test"], "agent 7", For::Client);
    let token = house.token();
    for version in VERSIONS {
        let mut client = Client::connect(house.address(), &house.client(version, Some(&own)));
        let (status, id) = client.call_for_id(&token, 1, "once");
        assert_eq!(status, 200);
        for (number, length) in [(2, 1), (3, 1_000), (4, 100_000), (5, 1_000_000)] {
            let text = "x".repeat(length);
            let (status, body) = client.call(&token, number, &text).unwrap();
            assert!(status == 200 && body.contains(&format!("\"{text}\"")), "{status}, {length}");
        }
        let entries = house.show(&id);
        let brief = part(&entries, "request", "verdict")["tls"].as_str().unwrap();
        let name =
            if version.version == rustls::ProtocolVersion::TLSv1_3 { "TLSv1.3" } else { "TLSv1.2" };
        assert!(brief.starts_with(name) && brief.contains("_AES_256_GCM_"), "{brief}");
        let certificate = &part(&entries, "request", "subject")["certificate"];
        assert_eq!(certificate["subject"], "CN=agent 7");
        assert_eq!(certificate["names"][0], "dns:agent.example.test");
        let end = &part(&entries, "end", "detail")["upstream_tls"];
        assert_eq!(end["version"], "TLSv1.3", "{end}");
        assert_eq!(end["certificate"]["subject"], "CN=tools");
        let (code, text, _) = house.gateway.command(&["show", &id]);
        assert!(code == 0 && text.contains(name) && text.contains("CN=agent 7"), "{text}");
        assert!(text.contains("CN=tools"), "{text}");
        let exporter = client.exporter();
        assert!(text.contains(&format!("\"exporter\": \"{exporter}\"")), "{text}");
        drop(client);
        let entries = house.show_whole(&id);
        let connect = part(&entries, "connect", "detail");
        let named = &part(&entries, "request", "verdict")["connection"];
        assert!(named.is_string() && connect["connection"] == *named, "{connect}");
        assert_eq!(part(&entries, "disconnect", "detail")["connection"], *named);
        let tls = &connect["tls"];
        for (member, expected) in
            [("version", name), ("exporter", &*exporter), ("server_name", NAME)]
        {
            assert_eq!(tls[member], expected, "{connect}");
        }
        assert_eq!(tls["certificate"]["subject"], "CN=agent 7", "{connect}");
    }
    // Kept connections are used again although TLS spoke on them meanwhile: tickets, new keys.
    assert_eq!(seen.requests.load(Ordering::SeqCst), 10);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1);
    let clients = seen.clients.lock().unwrap();
    assert_eq!(clients[0].0.as_deref(), Some(&shown.chain()[0][..]));
    assert_eq!(clients[0].1.as_deref(), Some("tools.inside.test"));
    drop(clients);
    assert!(house.gateway.stop());
    let (code, _, why) = house.gateway.command(&["verify", "--key", &house.gateway.verifier]);
    assert_eq!(code, 0, "{why}");
}

// Mutants tried: refused handshakes without an entry; without a notice.
#[test]
fn who_is_refused_is_refused_with_a_line_that_says_why() {
    let (upstream, seen) = start_server(None);
    let plan = Plan {
        tls: r#"{ certificate = "gateway.pem", key = "gateway.key", client_ca = "callers.pem", client_certificate = "required" }"#,
        ..Plan::default()
    };
    let house = House::build(upstream, &plan, |_, _, _| {});
    let other = Authority::new("other");
    let token = house.token();
    let cases = [
        (None, "tls-certificate-missing", "peer sent no certificates"),
        (Some(other.issue(&[], "foreign", For::Client)), "tls-certificate-issuer", "UnknownIssuer"),
        (
            Some(house.callers.expired(&[], "old", For::Client)),
            "tls-certificate-expired",
            "expired",
        ),
    ];
    for (own, label, why) in &cases {
        for version in VERSIONS {
            let config = house.client(version, own.as_ref());
            let error = Client::connect(house.address(), &config).call(&token, 1, "x").unwrap_err();
            assert!(error.to_string().contains("alert"), "the caller is told: {error}");
        }
        house.gateway.wait_for_log(&format!("{label}: 127.0.0.1:"));
        let log = house.gateway.log();
        let line = log.lines().find(|line| line.contains(label)).unwrap();
        assert!(line.contains(why), "{line}");
    }
    // Whoever does not trust the gateway says so by an alert.
    let config = Arc::new(client_config(other.roots(), VERSIONS[1], None));
    assert!(Client::connect(house.address(), &config).shake().is_err());
    house.gateway.wait_for_log("tls-alert: ");
    std::thread::sleep(Duration::from_millis(300));
    let refusals = house.refusals();
    let row = |label: &str| {
        let row =
            refusals.iter().find(|row| row["reason"] == label && row["source"] == "127.0.0.1");
        row.unwrap_or_else(|| panic!("no {label} in {refusals:?}"))
    };
    for (_, label, why) in &cases {
        let row = row(label);
        // Once in each version of TLS.
        assert_eq!(row["count"], 2, "{row}");
        assert!(row["why"].as_str().unwrap().contains(why), "{row}");
        assert!(row["first"].as_str() < row["last"].as_str(), "{row}");
    }
    assert_eq!(row("tls-alert")["count"], 1);
    let (code, text, _) = house.gateway.command(&["search", "--refusals"]);
    assert!(code == 0 && text.contains("  127.0.0.1  tls-certificate-expired  "), "{text}");
    assert_eq!(seen.requests.load(Ordering::SeqCst), 0);
}

// Mutant tried: `timeout_at` around the handshake left out.
#[test]
fn a_handshake_has_a_deadline_and_garbage_gets_an_end() {
    let (upstream, _) = start_server(None);
    let plan = Plan { more: "[limits]\ntls_ms_max = \"400ms\"", ..Plan::default() };
    let house = House::build(upstream, &plan, |_, _, _| {});
    let connect = || {
        let stream = TcpStream::connect(house.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    };
    let begun = Instant::now();
    let until_end = |mut stream: TcpStream| {
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        (heard, begun.elapsed())
    };
    // Silence, a part of a hello, and one byte at a time: all are cut by the clock.
    let silent = connect();
    let mut half = connect();
    half.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).unwrap();
    let mut drip = connect();
    drip.set_nodelay(true).unwrap();
    let dripping = std::thread::spawn(move || {
        let begun = Instant::now();
        for byte in [0x16u8, 3, 1, 2, 0].into_iter().chain(std::iter::repeat(1)) {
            if drip.write_all(&[byte]).is_err() || begun.elapsed() > Duration::from_secs(5) {
                return begun.elapsed();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        unreachable!("the bytes do not end");
    });
    for stream in [silent, half] {
        let (_, took) = until_end(stream);
        assert!((300..3_000).contains(&took.as_millis()), "{took:?}");
    }
    // It reads what comes for `linger_ms_max` (2 s) more, so that its word is not lost in a reset.
    assert!(dripping.join().unwrap() < Duration::from_secs(4));
    house.gateway.wait_for_log("tls-timeout: ");

    let mut plain = connect();
    plain.write_all(&call("/tools", "x", 1, "x")).unwrap();
    let (heard, _) = until_end(plain);
    let heard = String::from_utf8_lossy(&heard).into_owned();
    assert!(heard.starts_with("HTTP/1.1 400 ") && heard.contains("https"), "{heard}");
    assert!(heard.contains("Content-Length: 40") && heard.ends_with("please\n"), "{heard}");
    house.gateway.wait_for_log("tls-plain-http: ");
    let mut garbage = connect();
    garbage.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
    garbage.shutdown(Shutdown::Write).unwrap();
    until_end(garbage);
    house.gateway.wait_for_log("tls-not-tls: ");
    let mut ended = connect();
    ended.write_all(&[0x16, 3, 1]).unwrap();
    ended.shutdown(Shutdown::Write).unwrap();
    until_end(ended);
    house.gateway.wait_for_log("tls-ended: ");
    // And after all that it serves.
    let mut client = Client::connect(house.address(), &house.client(VERSIONS[1], None));
    assert_eq!(client.call(&house.token(), 1, "x").unwrap().0, 200);
}

// Mutant tried: who sends nothing and ends is told like any handshake that came to nothing.
#[test]
fn who_only_looks_whether_a_port_is_open_is_counted_and_told_nowhere() {
    let (upstream, _) = start_server(None);
    for tls in [true, false] {
        let mut house = House::build(upstream, &Plan::default(), |_, _, _| {});
        if !tls {
            house.gateway.stop();
            let text = r#"tls = { certificate = "gateway.pem", key = "gateway.key" }"#;
            house.gateway.configure(text, "");
            house.gateway.start();
        }
        let begun = house.gateway.log().lines().count();
        for _ in 0..100 {
            drop(TcpStream::connect(house.address()).unwrap());
        }
        // Some balancers end by a reset, so that nothing is left behind.
        for _ in 0..100 {
            let socket = socket2::Socket::from(TcpStream::connect(house.address()).unwrap());
            socket.set_linger(Some(Duration::ZERO)).unwrap();
        }
        std::thread::sleep(Duration::from_millis(500));
        let log = house.gateway.log();
        let told = log.lines().skip(begun).filter(|line| !line.contains("keys_changed"));
        let told: Vec<&str> = told.collect();
        assert!(told.is_empty(), "tls {tls}: {told:?}");
        assert!(house.gateway.stop());
        let record = house.record();
        let counts: Vec<u64> = record
            .split("\"reason\":\"connection-client-")
            .skip(1)
            .filter_map(|rest| rest.split("\"count\":").nth(1)?.split(',').next()?.parse().ok())
            .collect();
        assert_eq!(counts.iter().sum::<u64>(), 200, "tls {tls}: {counts:?}");
        assert!(counts.len() <= 2, "one entry for each way to end: {counts:?}");
        assert!(!record.contains("tls-ended"), "tls {tls}");
    }
}

// Mutant tried: the bytes of a handshake are not counted.
#[test]
fn a_handshake_has_a_bound_in_bytes() {
    let (upstream, _) = start_server(None);
    let plan = Plan {
        tls: r#"{ certificate = "gateway.pem", key = "gateway.key", client_ca = "callers.pem" }"#,
        more: "[limits]\ntls_handshake_bytes_max = \"4KiB\"",
        ..Plan::default()
    };
    let house = House::build(upstream, &plan, |_, _, _| {});
    let own = house.callers.issue(&[], "agent", For::Client);
    let token = house.token();
    for version in VERSIONS {
        let mut client = Client::connect(house.address(), &house.client(version, Some(&own)));
        // What comes behind the handshake does not count.
        assert_eq!(client.call(&token, 1, &"x".repeat(10_000)).unwrap().0, 200);
        let long = Issued { certificate: own.certificate.repeat(20), key: own.key.clone() };
        let config = house.client(version, Some(&long));
        let mut client = Client::connect(house.address(), &config);
        assert!(client.call(&token, 1, "x").is_err());
        house.gateway.wait_for_log("tls-handshake-too-long: ");
    }
}

// Mutant tried: the bytes of the read with which the handshake ends are counted too (every call is
// refused).
#[test]
fn a_long_chain_and_a_long_body_in_one_write_are_no_handshake_that_is_too_long() {
    let (upstream, _) = start_server(None);
    let plan = Plan {
        tls: r#"{ certificate = "gateway.pem", key = "gateway.key", client_ca = "callers.pem" }"#,
        ..Plan::default()
    };
    let house = House::build(upstream, &plan, |_, _, _| {});
    let own = house.callers.issue(&["agent.example.test"], "agent", For::Client);
    // As long as a chain with RSA keys of 4096 bits.
    let long = Issued { certificate: own.certificate.repeat(8), key: own.key.clone() };
    let token = house.token();
    for length in [100, 18_000, 40_000, 300_000] {
        let mut client = Client::connect(house.address(), &house.client(VERSIONS[1], Some(&long)));
        let text = "x".repeat(length);
        let flight = client.call_in_one(&token, &text).unwrap();
        assert!(flight >= 2_048, "the flight of the handshake has {flight} bytes");
        let (status, body) = client.answer().unwrap();
        assert!(status == 200 && body.contains(&text), "{length}: {status}");
    }
    assert!(!house.gateway.log().contains("too-long"), "{}", house.gateway.log());
}

#[test]
fn any_cut_of_a_connection_gives_the_same_answer() {
    let (upstream, _) = start_server(None);
    let house = House::build(upstream, &Plan::default(), |_, _, _| {});
    let token = house.token();
    for version in VERSIONS {
        for piece in [1, 3, 100, 16_384] {
            let config = house.client(version, None);
            let mut client = Client::connect_as(house.address(), &config, NAME, piece);
            let (status, body) = client.call(&token, 1, "cut me").unwrap();
            assert!(status == 200 && body.contains("cut me"), "{piece}: {status} {body}");
        }
    }
}

// Mutant tried: a ticketer for each worker.
#[test]
fn sessions_are_resumed_by_every_worker() {
    let (upstream, _) = start_server(None);
    let plan = Plan { cores: "\"auto\"", ..Plan::default() };
    let house = House::build(upstream, &plan, |_, _, _| {});
    let token = house.token();
    for version in VERSIONS {
        let config = house.client(version, None);
        let mut kinds = Vec::new();
        for number in 0..8 {
            let mut client = Client::connect(house.address(), &config);
            let (status, id) = client.call_for_id(&token, 1, "x");
            assert_eq!(status, 200);
            let entries = house.show(&id);
            assert_eq!(part(&entries, "connect", "detail")["tls"]["resumed"], number > 0);
            kinds.push(client.tls.conn.handshake_kind().unwrap());
        }
        assert_eq!(kinds[0], HandshakeKind::Full);
        assert!(kinds[1..].iter().all(|kind| *kind == HandshakeKind::Resumed), "{kinds:?}");
    }
}

// Mutant tried: a reload that goes on without the pairs it could not read.
#[test]
fn certificates_are_renewed_under_open_connections_and_bad_ones_change_nothing() {
    let (upstream, _) = start_server(None);
    let plan = Plan {
        tls: r#"{ certificates = [
            { certificate = "gateway.pem", key = "gateway.key" },
            { certificate = "second.pem", key = "second.key" },
        ] }"#,
        ..Plan::default()
    };
    // TOML 1.0 has inline tables on one line.
    let tls = plan.tls.replace('\n', " ").replace(", ] }", " ] }").replace(",  ]", " ]");
    let tls: String = tls.split_whitespace().collect::<Vec<_>>().join(" ").replace("}, ]", "} ]");
    let plan = Plan { tls: &tls, ..Plan::default() };
    let second = "*.second.example.test";
    let house = House::build(upstream, &plan, |directory, servers, _| {
        servers.issue(&[second], "second", For::Server).write(directory, "second");
    });
    let token = house.token();
    let config = house.client(VERSIONS[1], None);
    let shown = |name: &str| {
        // A configuration of its own: no session to resume.
        let config = house.client(VERSIONS[1], None);
        let mut client = Client::connect_as(house.address(), &config, name, usize::MAX);
        client.shake().map(|()| client.shown())
    };
    let (first, other) = (shown(NAME).unwrap(), shown("a.second.example.test").unwrap());
    assert_ne!(first, other, "the certificate is chosen by name");
    let mut open = Client::connect(house.address(), &config);
    assert_eq!(open.call(&token, 1, "before").unwrap().0, 200);

    // A key that does not belong to the certificate: nothing changes, and the log says why.
    let renewed = house.servers.issue(&[NAME], "the gateway, renewed", For::Server);
    tls_support::write_private(&house.directory.path().join("gateway.key"), &renewed.key);
    house.gateway.wait_for_log("does not belong to");
    assert_eq!(shown(NAME).unwrap(), first);
    // The certificate follows: both are in force, without a signal.
    std::fs::write(house.directory.path().join("gateway.pem"), &renewed.certificate).unwrap();
    house.gateway.wait_for_log("were read again");
    assert_eq!(shown(NAME).unwrap(), renewed.chain()[0].to_vec());
    assert_eq!(shown("a.second.example.test").unwrap(), other);
    assert_eq!(open.call(&token, 2, "after").unwrap().0, 200, "an open connection goes on");

    // A key that everybody may read is put right by its mode alone.
    let renewed = house.servers.issue(&[NAME], "the gateway, once more", For::Server);
    let key = house.directory.path().join("gateway.key");
    let mode =
        |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    renewed.write(house.directory.path(), "gateway");
    mode(0o644);
    house.gateway.wait_for_log("chmod 600");
    mode(0o600);
    let begun = Instant::now();
    while shown(NAME).unwrap() != renewed.chain()[0].to_vec() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the new one is not in force");
        std::thread::sleep(Duration::from_millis(50));
    }

    // By SIGHUP at once, with files that cannot be read at all.
    std::fs::write(house.directory.path().join("second.pem"), "no certificate").unwrap();
    house.gateway.reload();
    house.gateway.wait_for_log("holds no certificate");
    assert_eq!(shown("a.second.example.test").unwrap(), other);
}

// Mutant tried: demands are never compared.
#[test]
fn connections_of_before_end_when_the_listener_demands_more_and_not_when_certificates_are_renewed()
{
    let (upstream, _) = start_server(None);
    let tls = r#"{ certificate = "gateway.pem", key = "gateway.key", client_ca = "callers.pem" }"#;
    let plan = Plan { tls, ..Plan::default() };
    let others = Authority::new("others");
    let house = House::build(upstream, &plan, |_, _, _| {});
    let token = house.token();
    let own = house.callers.issue(&[], "agent", For::Client);
    let connect = || {
        let mut client = Client::connect(house.address(), &house.client(VERSIONS[1], Some(&own)));
        assert_eq!(client.call(&token, 1, "first").unwrap().0, 200);
        client
    };
    let mut again = 0;
    let mut read_again = |change: &dyn Fn()| {
        change();
        again += 1;
        let begun = Instant::now();
        while house.gateway.log().matches("read again").count() < again {
            assert!(begun.elapsed() < Duration::from_secs(10), "{}", house.gateway.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let mut open = connect();
    let renewed = house.servers.issue(&[NAME], "the gateway, renewed", For::Server);
    read_again(&|| drop(renewed.write(house.directory.path(), "gateway")));
    assert_eq!(open.call(&token, 2, "renewed").unwrap().0, 200);
    let authorities = |all: String| std::fs::write(house.directory.path().join("callers.pem"), all);
    read_again(&|| authorities(house.callers.pem() + &others.pem()).unwrap());
    assert_eq!(open.call(&token, 3, "one more").unwrap().0, 200);
    read_again(&|| authorities(others.pem()).unwrap());
    assert!(open.call(&token, 4, "nobody vouches for it").is_err());

    let plain = || {
        let mut stream = TcpStream::connect(house.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(&call("/tools", &token, 1, "x")).unwrap();
        let answer = support::read_answer(&mut stream, &mut Vec::new(), &mut Vec::new());
        (answer.unwrap().0, stream)
    };
    let with = format!("tls = {tls}");
    let reload = |old: &str, new: &str| {
        house.gateway.configure(old, new);
        house.gateway.reload();
    };
    read_again(&|| reload(&with, "# no tls"));
    let (status, mut stream) = plain();
    assert_eq!(status, 200);
    read_again(&|| reload("# no tls", &with));
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "it is not under TLS");
    assert!(house.record().contains("listener-changed"));
}

// Mutant tried: a handshake that failed is followed by a plain connection.
#[test]
fn an_upstream_that_is_not_the_right_one_is_502_and_gets_nothing() {
    let inside = Authority::new("inside");
    let other = Authority::new("other");
    let name = "tools.inside.test";
    let good = inside.issue(&[name], "tools", For::Server);
    let cases: [(Option<Issued>, &str, u16); 5] = [
        (Some(other.issue(&[name], "tools", For::Server)), "upstream-tls-certificate-issuer", 502),
        (
            Some(inside.expired(&[name], "tools", For::Server)),
            "upstream-tls-certificate-expired",
            502,
        ),
        (
            Some(inside.issue(&["else.inside.test"], "tools", For::Server)),
            "upstream-tls-certificate-name",
            502,
        ),
        (
            Some(inside.issue(&[name], "tools", For::Client)),
            "upstream-tls-certificate-purpose",
            502,
        ),
        // Speaks plain HTTP: waits for a request that never comes.
        (None, "upstream-tls-timeout", 504),
    ];
    for (issued, label, expected) in &cases {
        let (upstream, seen) = start_server(issued.as_ref().map(|one| server_config(one, None)));
        let plan = Plan {
            upstream: r#"tls = { ca = "inside.pem", server_name = "tools.inside.test" }"#,
            scheme: "https",
            more: "[limits]\ntls_ms_max = \"500ms\"",
            ..Plan::default()
        };
        let house = House::build(upstream, &plan, |directory, _, _| {
            std::fs::write(directory.join("inside.pem"), inside.pem()).unwrap();
        });
        let mut client = Client::connect(house.address(), &house.client(VERSIONS[1], None));
        let (status, body) = client.call(&house.token(), 1, "secret of the caller").unwrap();
        assert_eq!(status, *expected, "{label}: {body}");
        house.gateway.wait_for_log(&format!("{label}: upstream tools: "));
        assert_eq!(seen.requests.load(Ordering::SeqCst), 0, "{label}");
    }
    // One that wants a certificate, and is shown none: in TLS 1.3 it says so behind the handshake.
    let (upstream, seen) = start_server(Some(server_config(&good, Some(&other))));
    let plan = Plan {
        upstream: r#"tls = { ca = "inside.pem", server_name = "tools.inside.test" }"#,
        scheme: "https",
        ..Plan::default()
    };
    let house = House::build(upstream, &plan, |directory, _, _| {
        std::fs::write(directory.join("inside.pem"), inside.pem()).unwrap();
    });
    let mut client = Client::connect(house.address(), &house.client(VERSIONS[1], None));
    assert_eq!(client.call(&house.token(), 1, "secret of the caller").unwrap().0, 502);
    house.gateway.wait_for_log("upstream-tls-alert: upstream tools: ");
    assert!(house.gateway.log().contains("CertificateRequired"), "{}", house.gateway.log());
    assert_eq!(seen.requests.load(Ordering::SeqCst), 0);
    // The same house with the right one serves.
    let (upstream, seen) = start_server(Some(server_config(&good, None)));
    let plan = Plan {
        upstream: r#"tls = { ca = "inside.pem", server_name = "tools.inside.test" }"#,
        scheme: "https",
        more: "[limits]\nupstream_idle_ms_max = \"100ms\"",
        ..Plan::default()
    };
    let house = House::build(upstream, &plan, |directory, _, _| {
        std::fs::write(directory.join("inside.pem"), inside.pem()).unwrap();
    });
    let mut client = Client::connect(house.address(), &house.client(VERSIONS[1], None));
    assert_eq!(client.call(&house.token(), 1, "x").unwrap().0, 200);
    assert_eq!(seen.requests.load(Ordering::SeqCst), 1);
    // A second connection is verified like the first: a resumed session would not be, and a certificate
    // that has ended meanwhile would serve on.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(client.call(&house.token(), 2, "x").unwrap().0, 200);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 2);
    assert!(!house.record().contains("\"resumed\":true"));
}

/// A call in the version of 2026-07-28, of whose client the end is a cancellation.
fn modern_call(token: &str) -> Vec<u8> {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    format!(
        "POST /tools HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
         MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: echo\r\n\
         Content-Length: {}\r\n\r\n{body}",
        token,
        body.len()
    )
    .into_bytes()
}

// Mutant tried: what is being opened is let go without its end.
#[test]
fn an_upstream_whose_handshake_nobody_waits_for_any_more_holds_no_socket() {
    // Takes connections and says nothing; tells when each came and when it was over.
    let (silent, upstream) = support::listen();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in silent.incoming().flatten() {
            let tell = tell.clone();
            std::thread::spawn(move || {
                tell.send("came").unwrap();
                let mut room = [0; 4096];
                while stream.read(&mut room).is_ok_and(|bytes| bytes > 0) {}
                tell.send("over").unwrap();
            });
        }
    });
    let plan = Plan { scheme: "https", ..Plan::default() };
    let house = House::build(upstream, &plan, |_, _, _| {});
    let request = modern_call(&house.token());
    // In this version a client that leaves cancels its call (MCP 2026-07-28, basic/transports).
    for _ in 0..5 {
        let mut client = Client::connect(house.address(), &house.client(VERSIONS[1], None));
        client.tls.write_all(&request).unwrap();
        client.tls.flush().unwrap();
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok("came"));
        drop(client);
        // Less than the time of a handshake (5 s): nobody waits for that one.
        assert_eq!(told.recv_timeout(Duration::from_secs(4)), Ok("over"));
    }
}

// Mutant tried: the end without `close_notify` is not noted.
#[test]
fn an_end_without_close_notify_is_noted_and_one_with_it_is_not() {
    let (upstream, _) = start_server(None);
    let house = House::build(upstream, &Plan::default(), |_, _, _| {});
    let token = house.token();
    let ends = |tell: bool| {
        let mut client = Client::connect(house.address(), &house.client(VERSIONS[1], None));
        assert_eq!(client.call(&token, 1, "x").unwrap().0, 200);
        if tell {
            client.tls.conn.send_close_notify();
            client.tls.conn.complete_io(&mut client.tls.sock).unwrap();
        }
        client.tls.sock.stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let read = client.tls.read_to_end(&mut rest);
        assert!(read.is_ok(), "the gateway says its own end: {read:?}");
    };
    let disconnects = |count: usize| {
        let begun = Instant::now();
        loop {
            let record = house.record();
            let seen = record.matches("\"why\":\"client-ended\"").count();
            if seen >= count || begun.elapsed() > Duration::from_secs(5) {
                assert_eq!(seen, count);
                return record.matches("\"truncated\":true").count();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    ends(true);
    assert_eq!(disconnects(1), 0);
    ends(false);
    assert_eq!(disconnects(2), 1);
}

/// An https server that takes one request on each connection, sends what `answer` gives, and closes: the
/// first of two connections in turn without `close_notify`, the second with it.
fn closing_server(config: Arc<ServerConfig>, answer: &'static str) -> SocketAddr {
    let (listener, address) = support::listen();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let connection = rustls::ServerConnection::new(config.clone()).expect("a server");
            let mut tls = rustls::StreamOwned::new(connection, stream);
            let mut kept = Vec::new();
            let Ok(Some(head)) = support::read_head(&mut tls, &mut kept) else { continue };
            let length = support::field(&head, "content-length").unwrap().parse().unwrap();
            support::read_up_to(&mut tls, &mut kept, length).unwrap();
            tls.write_all(answer.as_bytes()).unwrap();
            if number % 2 == 1 {
                tls.conn.send_close_notify();
            }
            tls.flush().unwrap();
            tls.sock.shutdown(Shutdown::Write).unwrap();
            // Its end, so that no reset overtakes what was sent.
            let _ = tls.sock.read(&mut [0; 1024]);
        }
    });
    address
}

// Mutant: `was_truncated` asked of the client's pipe alone.
#[test]
fn an_upstreams_answer_cut_off_without_close_notify_is_not_whole() {
    let inside = Authority::new("inside");
    let good = inside.issue(&["tools.inside.test"], "tools", For::Server);
    let plan = Plan {
        upstream: r#"tls = { ca = "inside.pem", server_name = "tools.inside.test" }"#,
        scheme: "https",
        ..Plan::default()
    };
    let cases = [
        // Whole JSON: nothing but the connection's end tells that no more was to come.
        (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n\
             {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}",
            502,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n\
             data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\
             \"params\":{\"progressToken\":1,\"progress\":1}}\n\n",
            200,
        ),
    ];
    for (answer, broken) in cases {
        let upstream = closing_server(server_config(&good, None), answer);
        let house = House::build(upstream, &plan, |directory, _, _| {
            std::fs::write(directory.join("inside.pem"), inside.pem()).unwrap();
        });
        let mut client = Client::connect(house.address(), &house.client(VERSIONS[1], None));
        let (status, body) = client.call(&house.token(), 1, "x").unwrap();
        assert!(status == broken && body.contains("-31004"), "{status} {body}");
        let (status, body) = client.call(&house.token(), 1, "x").unwrap();
        assert!(status == 200 && !body.contains("-31004"), "{status} {body}");
        let (_, out, _) = house.gateway.command(&["search", "--json"]);
        let first: serde_json::Value =
            serde_json::from_str(out.lines().next().unwrap_or_default()).unwrap();
        assert_eq!(first["end"]["outcome"], "upstream-closed", "{out}");
    }
}

/// Resident memory of the gateway that is its own and not a file's, in bytes.
fn own_bytes(house: &House) -> usize {
    let told = std::fs::read_to_string(format!("/proc/{}/status", house.gateway.id())).unwrap();
    let line = told.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

// Whoever is not authenticated holds no more than its handshake may have, twice while rustls puts it
// together. Mutant tried: `tls_handshake_bytes_max` is 64 KiB.
#[test]
fn a_handshake_that_does_not_go_on_holds_little() {
    let (upstream, _) = start_server(None);
    // Why: the allocator takes memory by 2 MiB where it may, which so few connections cannot tell from
    // their own.
    rustix::thread::disable_transparent_huge_pages(true).unwrap();
    let house = House::build(upstream, &Plan::default(), |_, _, _| {});
    // A hello that announces 60,000 bytes, in records of 8,000, of which 56,000 come.
    let mut bytes = vec![1, 0, 0xea, 0x60];
    bytes.resize(56_000, 0);
    let records: Vec<u8> =
        bytes.chunks(8_000).flat_map(|part| [&[22, 3, 1, 0x1f, 0x40][..], part].concat()).collect();
    let open = |count: usize, length: usize| -> Vec<TcpStream> {
        let all: Vec<TcpStream> = (0..count)
            .map(|_| {
                let mut stream = TcpStream::connect(house.address()).unwrap();
                let _ = stream.write_all(&records[..length]);
                stream
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        all
    };
    let begun = own_bytes(&house);
    for length in [0, 1_000, 16_000, 56_000] {
        let waiting = open(200, length);
        let each = own_bytes(&house).saturating_sub(begun) / waiting.len();
        println!("{each} bytes for each handshake of which {length} bytes came");
        assert!(each <= 48 * 1024, "{each} bytes for each");
    }
}

// Mutant tried: `input` leaves the memory of a long record with rustls (33 KiB each).
#[test]
fn a_connection_that_waits_under_tls_costs_at_most_24_kibibytes() {
    let (upstream, _) = start_server(None);
    let plan = Plan {
        tls: r#"{ certificate = "gateway.pem", key = "gateway.key", client_ca = "callers.pem" }"#,
        ..Plan::default()
    };
    let house = House::build(upstream, &plan, |_, _, _| {});
    let own = house.callers.issue(&["agent.example.test"], "agent", For::Client);
    let token = house.token();
    let text = "x".repeat(40_000);
    let open = |count: usize| -> Vec<Client> {
        (0..count)
            .map(|at| {
                let config = house.client(VERSIONS[at % 2], Some(&own));
                let mut client = Client::connect(house.address(), &config);
                assert_eq!(client.call(&token, 1, &text).unwrap().0, 200);
                client
            })
            .collect()
    };
    let many = support::setting("STENOGRAPH_TLS_CONNECTIONS", 800);
    let first = open(many / 2);
    let before = own_bytes(&house);
    let others = open(many / 2);
    let each = own_bytes(&house).saturating_sub(before) / others.len();
    println!("{each} bytes for each of the later half of {many} connections under TLS that wait");
    assert!(each <= 24 * 1024, "{each} bytes for each connection");
    // All of them are there: the first one and the last one are served on.
    for client in [first, others].iter_mut().flatten().step_by(many / 8) {
        assert_eq!(client.call(&token, 2, "x").unwrap().0, 200);
    }
}

// Mutants tried: what has come of a record is taken and put together by rustls (36 KiB each); it is taken
// and held as it is (32 KiB).
#[test]
fn a_connection_that_stops_inside_a_record_costs_at_most_24_kibibytes() {
    let (upstream, _) = start_server(None);
    let plan = Plan {
        tls: r#"{ certificate = "gateway.pem", key = "gateway.key", client_ca = "callers.pem" }"#,
        ..Plan::default()
    };
    // Why: the allocator takes memory by 2 MiB where it may, which so few connections cannot tell from
    // their own.
    rustix::thread::disable_transparent_huge_pages(true).unwrap();
    let house = House::build(upstream, &plan, |_, _, _| {});
    let own = house.callers.issue(&["agent.example.test"], "agent", For::Client);
    let open = |count: usize| -> Vec<(Client, Vec<u8>)> {
        let each = (0..count).map(|at| {
            let config = house.client(VERSIONS[at % 2], Some(&own));
            let mut client = Client::connect(house.address(), &config);
            client.shake().unwrap();
            let record = client.record(&[b'a'; 16 * 1024]).unwrap();
            (client, record)
        });
        each.collect()
    };
    let warm = open(300);
    let before = own_bytes(&house);
    let mut waiting = open(300);
    let mut sent = 0;
    for length in [0, 1, 4, 5, 1_000, 4_200, 8_400, 12_600, 16_405] {
        for (client, record) in &mut waiting {
            client.tls.sock.stream.write_all(&record[sent..length]).unwrap();
        }
        sent = length;
        std::thread::sleep(Duration::from_millis(200));
        let each = own_bytes(&house).saturating_sub(before) / waiting.len();
        println!("{each} bytes for each connection that stops {length} bytes into a record");
        assert!(each <= 24 * 1024, "{each} bytes for each, {length} bytes into a record");
    }
    drop(warm);
}

#[test]
fn check_tells_what_is_wrong_with_certificates() {
    let (upstream, _) = start_server(None);
    let house = House::build(upstream, &Plan::default(), |_, _, _| {});
    let directory = house.directory.path();
    let check = || {
        let done = std::process::Command::new(&house.gateway.binary)
            .args(["check", "--config"])
            .arg(directory.join("stenograph.toml"))
            .output()
            .unwrap();
        let out = String::from_utf8_lossy(&done.stdout).into_owned();
        (done.status.code().unwrap(), out)
    };
    assert_eq!(check().0, 0);
    house.servers.expired(&[NAME], "old", For::Server).write(directory, "gateway");
    let (code, said) = check();
    assert!(code == 0 && said.contains("has expired"), "{said}");
    let stranger = house.servers.issue(&[NAME], "x", For::Server);
    std::fs::write(directory.join("gateway.pem"), &stranger.certificate).unwrap();
    let (code, said) = check();
    assert!(code == 2 && said.contains("listen[0].tls.key") && said.contains("belong"), "{said}");
    tls_support::write_private(&directory.join("gateway.key"), &stranger.key);
    assert_eq!(check().0, 0);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(directory.join("gateway.key"), open).unwrap();
    let (code, said) = check();
    assert!(code == 2 && said.contains("chmod 600"), "{said}");
}

// Mutant tried: the system's authorities are left out of what tells the demands on an upstream apart.
#[test]
fn authorities_that_the_system_trusts_are_read_again_by_sighup() {
    let (inside, other) = (Authority::new("inside"), Authority::new("other"));
    let server = inside.issue(&["127.0.0.1"], "tools", For::Server);
    let (upstream, seen) = start_server(Some(server_config(&server, None)));
    let plan = Plan { scheme: "https", ..Plan::default() };
    let house = House::build(upstream, &plan, |directory, _, _| {
        std::fs::write(directory.join("system.pem"), other.pem()).unwrap();
    });
    let token = house.token();
    let mut client = Client::connect(house.address(), &house.client(VERSIONS[1], None));
    let mut reloads = 0;
    let mut trust = |authorities: String| {
        std::fs::write(house.directory.path().join("system.pem"), authorities).unwrap();
        house.gateway.reload();
        reloads += 1;
        let begun = Instant::now();
        while house.gateway.log().matches("configuration was read again").count() < reloads {
            assert!(begun.elapsed() < Duration::from_secs(10), "{}", house.gateway.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    assert_eq!(client.call(&token, 1, "x").unwrap().0, 502);
    house.gateway.wait_for_log("upstream-tls-certificate-issuer: upstream tools: ");
    trust(other.pem() + &inside.pem());
    assert_eq!(client.call(&token, 2, "x").unwrap().0, 200);
    // Nothing changed: what is kept is used again.
    trust(inside.pem() + &other.pem());
    assert_eq!(client.call(&token, 3, "x").unwrap().0, 200);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1);
    // Taken away: neither by a new connection nor by one that was kept.
    trust(other.pem());
    assert_eq!(client.call(&token, 4, "x").unwrap().0, 502);
    assert_eq!(seen.requests.load(Ordering::SeqCst), 2);
}

#[test]
fn keys_of_an_issuer_are_fetched_under_the_authorities_that_the_system_trusts_then() {
    let (inside, other) = (Authority::new("inside"), Authority::new("other"));
    let issued = inside.issue(&["127.0.0.1"], "issuer", For::Server);
    let config = server_config(&issued, None);
    let provider = IdentityProvider::start_as("https", move |stream| {
        let connection = rustls::ServerConnection::new(config.clone()).ok()?;
        Some(rustls::StreamOwned::new(connection, stream))
    });
    let (upstream, _) = start_server(None);
    let house = House::build_for(provider, upstream, &Plan::default(), |directory, _, _| {
        std::fs::write(directory.join("system.pem"), other.pem()).unwrap();
    });
    house.gateway.wait_for_log("keys_failed");
    assert!(!house.gateway.log().contains("keys_changed"), "{}", house.gateway.log());
    std::fs::write(house.directory.path().join("system.pem"), inside.pem()).unwrap();
    let begun = Instant::now();
    while !house.gateway.log().contains("keys_changed") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", house.gateway.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut client = Client::connect(house.address(), &house.client(VERSIONS[1], None));
    assert_eq!(client.call(&house.token(), 1, "x").unwrap().0, 200);
}

// Mutants tried: no bound around the handshake with an upstream; the wait for a connection without it.
#[test]
fn opening_a_connection_to_an_upstream_has_an_end() {
    // Takes connections and says nothing.
    let (silent, upstream) = support::listen();
    std::thread::spawn(move || silent.incoming().flatten().collect::<Vec<_>>());
    let plan = Plan {
        scheme: "https",
        upstream: "connections = 1",
        more: "[limits]\nconnect_ms_max = \"200ms\"\ntls_ms_max = \"1s\"",
        ..Plan::default()
    };
    let house = House::build(upstream, &plan, |_, _, _| {});
    let (house, token) = (&house, house.token());
    let took: Vec<(u16, u128)> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..3)
            .map(|at| {
                std::thread::sleep(Duration::from_millis(50));
                let token = &token;
                scope.spawn(move || {
                    let config = house.client(VERSIONS[1], None);
                    let mut client = Client::connect(house.address(), &config);
                    client.shake().unwrap();
                    let begun = Instant::now();
                    let (status, _) = client.call(token, at, "x").unwrap();
                    (status, begun.elapsed().as_millis())
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    // The first waits for its handshake; those behind it for the one connection, and then for a handshake:
    // in all no longer than two connects and one handshake.
    assert_eq!(took[0].0, 504, "{took:?}");
    assert!((900..2_500).contains(&took[0].1), "{took:?}");
    for (status, ms) in &took[1..] {
        assert_eq!(*status, 503, "{took:?}");
        assert!((1_300..2_900).contains(ms), "{took:?}");
    }
    house.gateway.wait_for_log("upstream-tls-timeout: upstream tools: ");
}

/// Descriptors that the gateway has open.
fn descriptors(house: &House) -> usize {
    let pid = house.gateway.id();
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a gateway that runs").count()
}

/// A port that nobody accepts on and whose backlog is full: the kernel drops whoever wants to connect. Lives
/// as long as the sockets.
fn black_hole() -> (SocketAddr, socket2::Socket, Vec<TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut full = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
        full.push(stream);
        assert!(full.len() < 16, "the backlog does not fill");
    }
    (address, socket, full)
}

// Mutant tried: the connect is an operation of the ring (one descriptor more for each call, for two
// minutes).
#[test]
fn an_upstream_that_swallows_connects_keeps_no_descriptor() {
    let (nobody, _socket, _full) = black_hole();
    let (silent, mute) = support::listen();
    std::thread::spawn(move || silent.incoming().flatten().collect::<Vec<_>>());
    for (upstream, scheme) in [(nobody, "http"), (nobody, "https"), (mute, "https")] {
        let plan = Plan {
            scheme,
            more: "[limits]\nconnect_ms_max = \"100ms\"\ntls_ms_max = \"500ms\"",
            ..Plan::default()
        };
        let house = House::build(upstream, &plan, |_, _, _| {});
        let token = house.token();
        let mut client = Client::connect(house.address(), &house.client(VERSIONS[1], None));
        assert_eq!(client.call(&token, 0, "x").unwrap().0, 504, "{scheme}");
        let before = descriptors(&house);
        for id in 1..=12 {
            assert_eq!(client.call(&token, id, "x").unwrap().0, 504, "{scheme}");
        }
        let after = descriptors(&house);
        assert!(after <= before + 1, "{scheme}: {before} descriptors, then {after}");
    }
    // Who calls leaves before anybody is reached.
    let more = "[limits]\nupstream_connections_max = 4";
    let plan = Plan { more, ..Plan::default() };
    let house = House::build(nobody, &plan, |_, _, _| {});
    let token = house.token();
    // Whatever the gateway opens once is open.
    let mut nobody = Client::connect(house.address(), &house.client(VERSIONS[1], None));
    assert_eq!(nobody.call("nobody", 1, "x").unwrap().0, 401);
    let before = descriptors(&house);
    for _ in 0..12 {
        let mut client = Client::connect(house.address(), &house.client(VERSIONS[1], None));
        client.tls.write_all(&modern_call(&token)).unwrap();
        client.tls.flush().unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    let until = Instant::now() + Duration::from_secs(2);
    while descriptors(&house) > before + 1 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(descriptors(&house) <= before + 1, "{before}, then {}", descriptors(&house));
}

/// Writes records of its own behind what rustls wrote: an upstream as nobody builds it.
struct Forger {
    key: aws_lc_rs::aead::LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Forger {
    /// Goes on with the keys under which `connection` writes.
    fn of(connection: rustls::ServerConnection) -> Forger {
        let secrets = connection.dangerous_extract_secrets().unwrap();
        let (sequence, rustls::ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets.tx else {
            panic!("TLS 1.3 with AES-256-GCM was chosen")
        };
        let key = aws_lc_rs::aead::UnboundKey::new(&aws_lc_rs::aead::AES_256_GCM, key.as_ref());
        let key = aws_lc_rs::aead::LessSafeKey::new(key.unwrap());
        Forger { key, iv: iv.as_ref().try_into().unwrap(), sequence }
    }

    /// RFC 8446 §5.2: one record of this content type.
    fn record(&mut self, content_type: u8, content: &[u8]) -> Vec<u8> {
        let mut inner = [content, &[content_type]].concat();
        let length = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
        let head = [0x17, 3, 3, length[0], length[1]];
        let mut nonce = self.iv;
        for (byte, part) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= part;
        }
        self.sequence += 1;
        let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce);
        let aad = aws_lc_rs::aead::Aad::from(head);
        self.key.seal_in_place_append_tag(nonce, aad, &mut inner).unwrap();
        [&head[..], &inner].concat()
    }

    /// RFC 8446 §4.6.1: a ticket.
    fn ticket(&mut self) -> Vec<u8> {
        let ticket = [7; 200];
        let mut body = vec![0, 0, 14, 16, 1, 2, 3, 4, 1, 0, 0, ticket.len() as u8];
        body.extend_from_slice(&ticket);
        body.extend_from_slice(&[0, 0]);
        let message = [&[4, 0, 0, body.len() as u8], &body[..]].concat();
        self.record(22, &message)
    }
}

/// An upstream that answers one call on each connection and then writes what `after` makes; counts its
/// connections, and tells of each when that is written.
fn forging_server(
    issued: &Issued,
    after: fn(&mut Forger) -> Vec<u8>,
) -> (SocketAddr, std::sync::mpsc::Receiver<bool>) {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth();
    let mut config = config.with_single_cert(issued.chain(), issued.private_key()).unwrap();
    config.enable_secret_extraction = true;
    config.send_tls13_tickets = 0;
    let config = Arc::new(config);
    let (listener, address) = support::listen();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, tell) = (config.clone(), tell.clone());
            std::thread::spawn(move || {
                let connection = rustls::ServerConnection::new(config).unwrap();
                let mut tls = rustls::StreamOwned::new(connection, stream);
                let mut kept = Vec::new();
                let head = support::read_head(&mut tls, &mut kept).ok()??;
                let length = support::field(&head, "content-length")?.parse().ok()?;
                support::read_up_to(&mut tls, &mut kept, length).ok()?;
                let body = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                tls.write_all(answer.as_bytes()).and_then(|()| tls.flush()).ok()?;
                let (connection, mut stream) = tls.into_parts();
                let mut forger = Forger::of(connection);
                // Behind the whole answer, so that the connection was kept.
                std::thread::sleep(Duration::from_millis(200));
                tell.send(stream.write_all(&after(&mut forger)).is_ok()).ok()?;
                let mut rest = [0; 4096];
                while stream.read(&mut rest).is_ok_and(|bytes| bytes > 0) {}
                Some(())
            });
        }
    });
    (address, told)
}

// Mutants tried: a kept connection is listened to without end; half a record is nothing; what TLS says
// is an answer (any byte makes it unfit).
#[test]
fn what_tls_says_on_a_kept_connection_is_taken_within_a_bound() {
    let inside = Authority::new("inside");
    let issued = inside.issue(&["tools.inside.test"], "tools", For::Server);
    type After = fn(&mut Forger) -> Vec<u8>;
    let cases: [(&str, After, bool); 6] = [
        ("nothing", |_| Vec::new(), true),
        ("two tickets", |forger| [forger.ticket(), forger.ticket()].concat(), true),
        // More than is looked at in one go (four receives of 18 KiB).
        ("tickets without end", |forger| (0..600).flat_map(|_| forger.ticket()).collect(), false),
        ("a part of a record's head", |forger| forger.ticket()[..3].to_vec(), false),
        ("a part of a record", |forger| forger.ticket()[..100].to_vec(), false),
        ("an answer that nobody asked for", |forger| forger.record(23, b"HTTP/1.1 200 OK"), false),
    ];
    for (what, after, kept) in cases {
        let (upstream, told) = forging_server(&issued, after);
        let plan = Plan {
            upstream: r#"tls = { ca = "inside.pem", server_name = "tools.inside.test" }"#,
            scheme: "https",
            more: "[limits]\nanswer_ms_max = \"1s\"",
            ..Plan::default()
        };
        let house = House::build(upstream, &plan, |directory, _, _| {
            std::fs::write(directory.join("inside.pem"), inside.pem()).unwrap();
        });
        let token = house.token();
        let mut client = Client::connect(house.address(), &house.client(VERSIONS[1], None));
        assert_eq!(client.call(&token, 1, "x").unwrap().0, 200, "{what}");
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(true), "{what}");
        // The upstream reads no second call on a connection: on the kept one there is no answer.
        let (status, body) = client.call(&token, 1, "x").unwrap();
        assert_eq!(status, if kept { 504 } else { 200 }, "{what}: {body}");
    }
}
