//! The TLS machine against rustls's own client, byte stream against byte stream: wherever the stream is
//! cut, the same plaintext comes out, and who is refused is refused for the right reason.

mod tls_support;

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use bytes::BytesMut;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use stenograph::gateway::secure::TlsFault;
use stenograph::limits::TLS_RECORD_BYTES;
use stenograph::worker::tls::accept::{Acceptor, Callers, Pair};
use stenograph::worker::tls::session::Session;
use stenograph::worker::tls::{peer, why};
use tls_support::{Authority, For, Issued, VERSIONS, client_config};

fn pair(issued: &Issued) -> Pair {
    Pair { chain: issued.chain(), key: issued.private_key() }
}

fn name(text: &str) -> ServerName<'static> {
    ServerName::try_from(text.to_owned()).expect("a name")
}

/// What one conversation gave.
struct Heard {
    at_server: Vec<u8>,
    at_client: Vec<u8>,
}

fn client_bytes(client: &mut ClientConnection) -> Vec<u8> {
    let mut out = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut out).expect("memory");
    }
    out
}

fn client_takes(client: &mut ClientConnection, mut bytes: &[u8], heard: &mut Vec<u8>) {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).expect("memory");
        let state = client.process_new_packets().expect("the machine speaks TLS");
        let mut room = vec![0; state.plaintext_bytes_to_read()];
        client.reader().read_exact(&mut room).expect("it is there");
        heard.extend_from_slice(&room);
    }
}

/// Feeds `bytes` to the machine in pieces as `cut` says.
fn server_takes(
    server: &mut Session,
    bytes: &[u8],
    cut: &mut dyn FnMut() -> usize,
    heard: &mut Vec<u8>,
) -> Result<(), rustls::Error> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(cut().clamp(1, rest.len()));
        server.input(now, |piece| heard.extend_from_slice(piece))?;
        rest = later;
    }
    Ok(())
}

/// Passes what either side has to say until both are silent.
fn exchange(
    server: &mut Session,
    client: &mut ClientConnection,
    cut: &mut dyn FnMut() -> usize,
    heard: &mut Heard,
) -> Result<(), rustls::Error> {
    loop {
        let to_server = client_bytes(client);
        server_takes(server, &to_server, cut, &mut heard.at_server)?;
        let mut to_client = BytesMut::new();
        server.output(&mut to_client);
        client_takes(client, &to_client, &mut heard.at_client);
        if to_server.is_empty() && to_client.is_empty() {
            return Ok(());
        }
    }
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

/// A whole conversation: handshake, both ways, new keys in the middle, the client's end.
fn talk(
    acceptor: &Acceptor,
    config: &Arc<rustls::ClientConfig>,
    cut: &mut dyn FnMut() -> usize,
) -> Heard {
    let mut server = acceptor.session().unwrap();
    let mut client = ClientConnection::new(config.clone(), name("mcp.example.test")).unwrap();
    let mut heard = Heard { at_server: Vec::new(), at_client: Vec::new() };
    exchange(&mut server, &mut client, cut, &mut heard).unwrap();
    assert!(!server.is_handshaking());

    client.writer().write_all(&pattern(20_000, 1)).unwrap();
    exchange(&mut server, &mut client, cut, &mut heard).unwrap();
    if client.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) {
        client.refresh_traffic_keys().unwrap();
    }
    // Many small records in one flight.
    for piece in pattern(3_000, 2).chunks(30) {
        client.writer().write_all(piece).unwrap();
    }
    exchange(&mut server, &mut client, cut, &mut heard).unwrap();

    let mut out = BytesMut::new();
    for record in pattern(40_000, 3).chunks(TLS_RECORD_BYTES) {
        server.encrypt(record, &mut out).unwrap();
    }
    client_takes(&mut client, &out, &mut heard.at_client);

    assert!(!server.has_ended());
    client.send_close_notify();
    exchange(&mut server, &mut client, cut, &mut heard).unwrap();
    assert!(server.has_ended(), "the client's end is heard");
    heard
}

// Mutants tried: `input` stops after the first `read_tls` (4 KiB of a longer input are lost); plaintext
// of one call only is read out; `ended` is not set.
#[test]
fn any_cut_of_the_stream_gives_the_same_plaintext() {
    let authority = Authority::new("test authority");
    let issued = authority.issue(&["mcp.example.test"], "mcp", For::Server);
    let acceptor = Acceptor::new(&[pair(&issued)], None).unwrap();
    let expected_at_server = [pattern(20_000, 1), pattern(3_000, 2)].concat();
    let expected_at_client = pattern(40_000, 3);
    for version in VERSIONS {
        let config = Arc::new(client_config(authority.roots(), version, None));
        let check = |heard: Heard, how: &str| {
            assert!(heard.at_server == expected_at_server, "{how}");
            assert!(heard.at_client == expected_at_client, "{how}");
        };
        for size in [1, 2, 3, 5, 7, 64, 4095, 4096, 4097, 16_384, 16_406, usize::MAX] {
            check(talk(&acceptor, &config, &mut || size), &format!("{version:?} by {size}"));
        }
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for round in 0..40 {
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Mostly small, sometimes more than a record.
                (1 + (state >> 33) as usize % 20_000) >> (state >> 60)
            };
            check(talk(&acceptor, &config, &mut random), &format!("{version:?} round {round}"));
        }
    }
}

#[test]
fn facts_of_the_channel_are_the_same_on_both_ends() {
    let authority = Authority::new("test authority");
    let issued = authority.issue(&["mcp.example.test"], "mcp", For::Server);
    let own = authority.issue(&["agent.example.test", "192.0.2.7"], "agent 7", For::Client);
    let callers = Callers { authorities: vec![authority_der(&authority)], required: true };
    let acceptor = Acceptor::new(&[pair(&issued)], Some(&callers)).unwrap();
    for version in VERSIONS {
        let config = Arc::new(client_config(authority.roots(), version, Some(&own)));
        let mut server = acceptor.session().unwrap();
        let mut client = ClientConnection::new(config, name("mcp.example.test")).unwrap();
        let mut heard = Heard { at_server: Vec::new(), at_client: Vec::new() };
        exchange(&mut server, &mut client, &mut || usize::MAX, &mut heard).unwrap();
        let secured = server.secured().unwrap();
        let exporter = client
            .export_keying_material([0u8; 32], b"EXPORTER-Channel-Binding", Some(&[]))
            .unwrap();
        let exporter: String = exporter.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(secured.exporter.as_deref(), Some(exporter.as_str()));
        assert_eq!(secured.server_name.as_deref(), Some("mcp.example.test"));
        assert!(!secured.resumed);
        assert_eq!(
            Some(secured.suite),
            client.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str())
        );
        let certificate = secured.certificate.unwrap();
        assert_eq!(certificate.subject.as_deref(), Some("CN=agent 7"));
        assert_eq!(certificate.names, ["dns:agent.example.test", "ip:192.0.2.7"]);
        assert_eq!(certificate, peer::certificate(&own.chain()[0]));
    }
}

fn authority_der(authority: &Authority) -> rustls::pki_types::CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()
}

/// The fault with which the machine refuses a client with this configuration.
fn refusal(acceptor: &Acceptor, config: rustls::ClientConfig) -> Option<TlsFault> {
    let mut server = acceptor.session().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name("mcp.example.test")).unwrap();
    loop {
        let to_server = client_bytes(&mut client);
        if let Err(error) = server.input(&to_server, |_| {}) {
            let fault = why::fault(&error);
            let told = server.output(&mut BytesMut::new());
            assert!(told || fault == TlsFault::Alert, "the client is told by an alert");
            return Some(fault);
        }
        let mut to_client = BytesMut::new();
        server.output(&mut to_client);
        let mut bytes = &to_client[..];
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            // What the client makes of it does not matter: an alert of its own comes next.
            let _ = client.process_new_packets();
        }
        if to_server.is_empty() && to_client.is_empty() {
            return None;
        }
    }
}

// Mutant tried: callers' certificates are optional where they are required.
#[test]
fn callers_are_refused_for_the_right_reason() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let clients = Authority::new("clients");
    let issued = ours.issue(&["mcp.example.test"], "mcp", For::Server);
    let callers = |required| Callers { authorities: vec![authority_der(&clients)], required };
    let required = Acceptor::new(&[pair(&issued)], Some(&callers(true))).unwrap();
    let optional = Acceptor::new(&[pair(&issued)], Some(&callers(false))).unwrap();
    let good = clients.issue(&[], "good", For::Client);
    let cases = [
        (Some(good), None, None),
        (None, Some(TlsFault::CertificateMissing), None),
        (
            Some(other.issue(&[], "foreign", For::Client)),
            Some(TlsFault::CertificateIssuer),
            Some(TlsFault::CertificateIssuer),
        ),
        (
            Some(ours.issue(&[], "of the servers' authority", For::Client)),
            Some(TlsFault::CertificateIssuer),
            Some(TlsFault::CertificateIssuer),
        ),
        (
            Some(clients.expired(&[], "old", For::Client)),
            Some(TlsFault::CertificateExpired),
            Some(TlsFault::CertificateExpired),
        ),
        (
            Some(clients.issue(&["x.example.test"], "a server", For::Server)),
            Some(TlsFault::CertificatePurpose),
            Some(TlsFault::CertificatePurpose),
        ),
    ];
    for version in VERSIONS {
        for (own, when_required, when_optional) in &cases {
            let config = || client_config(ours.roots(), version, own.as_ref());
            assert_eq!(refusal(&required, config()), *when_required, "{version:?}");
            assert_eq!(refusal(&optional, config()), *when_optional, "{version:?}");
        }
        let mut h2 = client_config(ours.roots(), version, None);
        h2.alpn_protocols = vec![b"h2".to_vec()];
        assert_eq!(refusal(&optional, h2), Some(TlsFault::Protocol));
        let mut both = client_config(ours.roots(), version, None);
        both.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        assert_eq!(refusal(&optional, both), None);
        // The client refuses our certificate: its alert is the reason.
        let distrusting = client_config(other.roots(), version, None);
        assert_eq!(refusal(&optional, distrusting), Some(TlsFault::Alert));
    }
}

#[test]
fn garbage_and_plain_http_are_known_by_their_first_bytes() {
    let authority = Authority::new("test authority");
    let issued = authority.issue(&["mcp.example.test"], "mcp", For::Server);
    let acceptor = Acceptor::new(&[pair(&issued)], None).unwrap();
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"POST /mcp HTTP/1.1\r\n",
        b"\0\0\0\0\0\0\0\0",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10],
    ] {
        let mut server = acceptor.session().unwrap();
        let error = server.input(garbage, |_| panic!("no plaintext")).unwrap_err();
        assert_eq!(why::fault(&error), TlsFault::NotTls, "{garbage:?}: {error}");
    }
    assert!(why::is_plain_http(b"GET / HTTP/1.1\r\n") && !why::is_plain_http(b"SSH-2.0"));
}

// Mutant tried: `verify_resumed` returns at once.
#[test]
fn who_resumes_a_session_is_verified_as_of_now() {
    let (ours, clients) = (Authority::new("ours"), Authority::new("clients"));
    let issued = ours.issue(&["mcp.example.test"], "mcp", For::Server);
    let own = clients.issue(&[], "agent", For::Client);
    let callers = Callers { authorities: vec![authority_der(&clients)], required: true };
    let acceptor = Acceptor::new(&[pair(&issued)], Some(&callers)).unwrap();
    let others = Callers { authorities: vec![authority_der(&ours)], required: true };
    let stricter = Acceptor::new(&[pair(&issued)], Some(&others)).unwrap();
    for version in VERSIONS {
        let config = Arc::new(client_config(ours.roots(), version, Some(&own)));
        let connect = |acceptor: &Acceptor| {
            let mut server = acceptor.session().unwrap();
            let mut client =
                ClientConnection::new(config.clone(), name("mcp.example.test")).unwrap();
            let mut heard = Heard { at_server: Vec::new(), at_client: Vec::new() };
            let done = exchange(&mut server, &mut client, &mut || usize::MAX, &mut heard);
            (server, done)
        };
        let (first, done) = connect(&acceptor);
        done.unwrap();
        assert!(!first.is_resumed());
        let (second, done) = connect(&acceptor);
        done.unwrap();
        assert!(second.is_resumed(), "{version:?}");
        let secured = second.secured().unwrap();
        assert_eq!(secured.certificate.unwrap().subject.as_deref(), Some("CN=agent"));
        assert!(acceptor.verify_resumed(&second).is_ok());
        // Other authorities are in force now: the ticket alone does not let anybody in.
        assert_eq!(
            why::fault(&stricter.verify_resumed(&second).unwrap_err()),
            TlsFault::CertificateIssuer
        );
        let (_, done) = connect(&stricter);
        assert_eq!(why::fault(&done.unwrap_err()), TlsFault::CertificateIssuer);
    }
}

#[test]
fn the_certificate_is_chosen_by_name() {
    let authority = Authority::new("test authority");
    let names = [&["mcp.example.test"][..], &["*.example.test"], &["other.example.org"]];
    let issued: Vec<Issued> =
        names.iter().map(|names| authority.issue(names, "server", For::Server)).collect();
    let pairs: Vec<Pair> = issued.iter().map(pair).collect();
    let acceptor = Acceptor::new(&pairs, None).unwrap();
    for (asked, shown) in [("mcp.example.test", 0), ("x.example.test", 1), ("other.example.org", 2)]
    {
        for version in VERSIONS {
            let config = Arc::new(client_config(authority.roots(), version, None));
            let mut server = acceptor.session().unwrap();
            let mut client = ClientConnection::new(config, name(asked)).unwrap();
            let mut heard = Heard { at_server: Vec::new(), at_client: Vec::new() };
            exchange(&mut server, &mut client, &mut || usize::MAX, &mut heard).unwrap();
            assert_eq!(client.peer_certificates().unwrap()[0], issued[shown].chain()[0]);
        }
    }
}
