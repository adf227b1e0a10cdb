//! Real clients against the gateway's TLS: openssl, curl, Node and Python, over 1.2 and 1.3, with and
//! without a certificate of their own, and with each kind of wrong one: every refusal has its line in the
//! log, which says why. `tests/run.sh` installs the clients; one that is not there fails the test.

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;
#[path = "tls_support/ends.rs"]
#[expect(dead_code, reason = "each test uses its part of it")]
mod tls_ends;
mod tls_support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use support::{Gateway, IdentityProvider, RESOURCE, binary, call};
use tls_ends::{NAME, start_server};
use tls_support::{Authority, For};

struct House {
    directory: tempfile::TempDir,
    gateway: Gateway,
    provider: IdentityProvider,
    token: String,
}

/// A gateway that wants certificates of callers, or does not mind.
fn house(client_certificate: &str) -> House {
    let (upstream, _) = start_server(None);
    let directory = tempfile::tempdir().unwrap();
    let provider = IdentityProvider::start();
    let program = binary(env!("CARGO_BIN_EXE_stenograph"));
    let here = directory.path();
    let mut gateway = Gateway::prepare(&program, here, &provider, upstream, "[0]", "written", "");
    gateway.few_rules(support::ledger::FEW_RULES);
    let (servers, callers, other) =
        (Authority::new("servers"), Authority::new("callers"), Authority::new("other"));
    servers.issue(&[NAME], "the gateway", For::Server).write(here, "gateway");
    callers.issue(&["agent.example.test"], "agent", For::Client).write(here, "own");
    other.issue(&[], "foreign", For::Client).write(here, "foreign");
    callers.issue(&[], "other agent", For::Client).write(here, "second");
    callers.expired(&[], "old", For::Client).write(here, "old");
    callers.early(&[], "early", For::Client).write(here, "early");
    callers.issue(&[NAME], "server", For::Server).write(here, "server");
    for (authority, name) in [(&servers, "servers.pem"), (&callers, "callers.pem")] {
        std::fs::write(here.join(name), authority.pem()).unwrap();
    }
    let address = format!("address = \"{}\"", gateway.address);
    let tls = format!(
        "tls = {{ certificate = \"gateway.pem\", key = \"gateway.key\", \
         client_ca = \"callers.pem\", client_certificate = \"{client_certificate}\" }}"
    );
    let hosts = format!("hosts = [\"{NAME}\"]");
    gateway.configure(&address, &format!("{address}\n{hosts}\n{tls}"));
    gateway.start();
    let token = provider.token("erin", &["engineering"], RESOURCE);
    House { directory, gateway, provider, token }
}

/// A program, where the files lie. Its word for what happened is on stdout.
fn run(program: &str, arguments: &[&str], here: &Path, input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(here)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} (tests/run.sh installs it): {error}"));
    let mut stdin = child.stdin.take().unwrap();
    // A client that is refused early may be gone.
    let _ = stdin.write_all(input);
    // openssl ends when its input does, so it has to be left open until the answer is there.
    let wait_ms = if input.is_empty() { 0 } else { 700 };
    let closing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(wait_ms));
        drop(stdin);
    });
    let output = child.wait_with_output().unwrap();
    closing.join().unwrap();
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Each version with the words that openssl, curl, Node and Python have for it.
const VERSIONS: [(&str, &str, &str); 2] =
    [("1.2", "tls1_2", "TLSv1.2"), ("1.3", "tls1_3", "TLSv1.3")];

/// What a client has.
#[derive(Debug, Clone, Copy)]
struct Papers {
    /// Its own certificate.
    own: Option<&'static str>,
    /// The authority that it trusts.
    trusts: &'static str,
    /// Why it is not let in: the rule, and words of the line in the log.
    refused: Option<(&'static str, &'static str)>,
}

const fn shows(own: &'static str, rule: &'static str, why: &'static str) -> Papers {
    Papers { own: Some(own), trusts: "servers.pem", refused: Some((rule, why)) }
}

const PAPERS: [Papers; 7] = [
    Papers { own: Some("own"), trusts: "servers.pem", refused: None },
    Papers {
        own: None,
        trusts: "servers.pem",
        refused: Some(("tls-certificate-missing", "peer sent no certificates")),
    },
    shows("foreign", "tls-certificate-issuer", "UnknownIssuer"),
    shows("old", "tls-certificate-expired", "certificate expired"),
    shows("early", "tls-certificate-early", "not valid yet"),
    shows("server", "tls-certificate-purpose", "purpose"),
    // This one finds the gateway's certificate wrong.
    Papers { own: Some("own"), trusts: "callers.pem", refused: Some(("tls-alert", "UnknownCA")) },
];

/// Runs `client` for each version and papers against both kinds of gateways; it says whether the call
/// was answered. With `objects`, a client that finds the gateway's certificate wrong says so on the wire.
fn each_case(objects: bool, client: impl Fn(&House, (&str, &str, &str), Papers) -> (bool, String)) {
    for demand in ["required", "optional"] {
        for version in VERSIONS {
            // One of its own: of lines of one rule about one source a gateway writes the first and counts
            // those behind it.
            let house = house(demand);
            for papers in PAPERS {
                let refused =
                    papers.refused.filter(|_| demand == "required" || papers.own.is_some());
                let (answered, said) = client(&house, version, papers);
                let case = format!("{demand} {version:?} {papers:?}");
                assert_eq!(answered, refused.is_none(), "{case}: {said}");
                let Some((rule, why)) = refused else { continue };
                if rule == "tls-alert" && !objects {
                    continue;
                }
                let rule = format!("{rule}: 127.0.0.1:");
                house.gateway.wait_for_log(&rule);
                let log = house.gateway.log();
                let line = log.lines().find(|line| line.contains(&rule)).unwrap();
                assert!(line.contains(why), "{case}: {line}");
            }
        }
    }
}

// Checked against the mutants: a refused handshake has no line; every line has one rule.
#[test]
fn openssl_s_client() {
    each_case(true, |house, (_, flag, name), papers| {
        let connect = house.gateway.address.to_string();
        let flag = format!("-{flag}");
        let mut arguments = vec![
            "s_client",
            "-connect",
            &connect,
            "-servername",
            NAME,
            "-verify_hostname",
            NAME,
            "-CAfile",
            papers.trusts,
            "-verify_return_error",
            "-ign_eof",
            "-alpn",
            "http/1.1",
            "-keymatexport",
            "EXPORTER-Channel-Binding",
            "-keymatexportlen",
            "32",
            &flag,
        ];
        let files = papers.own.map(|own| (format!("{own}.pem"), format!("{own}.key")));
        if let Some((certificate, key)) = &files {
            arguments.extend(["-cert", certificate, "-key", key]);
        }
        let request = text(&call("/tools", &house.token, 1, "by openssl"));
        let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        let output = run("openssl", &arguments, house.directory.path(), request.as_bytes());
        let said = text(&output.stdout) + &text(&output.stderr);
        let answered = said.contains("\"by openssl\"");
        if answered {
            assert!(said.contains(name) && said.contains("ALPN protocol: http/1.1"), "{said}");
            // The channel binding that openssl derived is the one in the record. In TLS 1.2 openssl's
            // exporter has no context, and RFC 9266 wants an empty one.
            if name == "TLSv1.3" {
                let at = said.find("Keying material: ").expect("it is printed") + 17;
                let exporter = said[at..at + 64].to_lowercase();
                let shown = recorded(house, &said);
                assert!(shown.contains(&format!("\"exporter\": \"{exporter}\"")), "{shown}");
            }
        }
        (answered, said)
    });
}

/// The exchange whose answer is in what a client said, with its connection, as `show` gives it.
fn recorded(house: &House, said: &str) -> String {
    let at = said.find("Stenograph-Exchange: ").expect("an answer of the gateway") + 21;
    let (code, shown, why) = house.gateway.command(&["show", &said[at..at + 24]]);
    assert_eq!(code, 0, "{why}");
    shown
}

const BODY: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"by a client"}}}"#;

#[test]
fn curl() {
    each_case(true, |house, (number, _, _), papers| {
        let port = house.gateway.address.port();
        let resolve = format!("{NAME}:{port}:127.0.0.1");
        let url = format!("https://{NAME}:{port}/tools");
        let bearer = format!("Authorization: Bearer {}", house.token);
        let (least, most) = (format!("--tlsv{number}"), number.to_owned());
        // Offers h2 and http/1.1, as curl does by itself.
        let mut arguments = vec![
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--cacert",
            papers.trusts,
            "--resolve",
            &resolve,
            &least,
            "--tls-max",
            &most,
            "-H",
            &bearer,
            "-H",
            "Content-Type: application/json",
            "-H",
            "Accept: application/json, text/event-stream",
            "-H",
            "MCP-Protocol-Version: 2025-11-25",
            "--data-binary",
            BODY,
            &url,
        ];
        let files = papers.own.map(|own| (format!("{own}.pem"), format!("{own}.key")));
        if let Some((certificate, key)) = &files {
            arguments.extend(["--cert", certificate, "--key", key]);
        }
        let output = run("curl", &arguments, house.directory.path(), b"");
        let said = text(&output.stdout) + &text(&output.stderr);
        (said.contains("\"by a client\""), said)
    });
}

// The second caller's refusal was counted behind the first one's line.
#[test]
fn a_second_caller_with_a_wrong_certificate_has_its_own_line() {
    let house = house("required");
    let port = house.gateway.address.port();
    let resolve = format!("{NAME}:{port}:127.0.0.1");
    let url = format!("https://{NAME}:{port}/tools");
    for source in ["127.0.0.2", "127.0.0.3"] {
        let arguments = [
            "--silent",
            "--max-time",
            "20",
            "--interface",
            source,
            "--cacert",
            "servers.pem",
            "--resolve",
            &resolve,
            "--cert",
            "old.pem",
            "--key",
            "old.key",
            &url,
        ];
        let output = run("curl", &arguments, house.directory.path(), b"");
        assert!(!output.status.success());
        house.gateway.wait_for_log(&format!("tls-certificate-expired: {source}:"));
    }
}

/// RFC 8705 §3. Checked against the mutants: the certificate is not compared; it is compared when the token
/// is seen first only.
#[test]
fn a_token_bound_to_a_certificate_is_good_with_that_one_only() {
    let house = house("optional");
    let port = house.gateway.address.port();
    let resolve = format!("{NAME}:{port}:127.0.0.1");
    let url = format!("https://{NAME}:{port}/tools");
    let pem = std::fs::read_to_string(house.directory.path().join("own.pem")).unwrap();
    let der = pem.split("-----").nth(2).unwrap().replace('\n', "");
    let der = STANDARD.decode(der).unwrap();
    let claim =
        format!(",\"cnf\":{{\"x5t#S256\":\"{}\"}}", URL_SAFE_NO_PAD.encode(Sha256::digest(der)));
    let bound = house.provider.token_with("erin", &["engineering"], RESOURCE, &claim);
    // By turns: a worker knows the token from the call before.
    for (own, status) in [
        (None, "401"),
        (Some("second"), "401"),
        (Some("own"), "200"),
        (None, "401"),
        (Some("second"), "401"),
        (Some("own"), "200"),
    ] {
        let bearer = format!("Authorization: Bearer {bound}");
        let mut arguments = vec![
            "--silent",
            "--max-time",
            "20",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
            "--cacert",
            "servers.pem",
            "--resolve",
            &resolve,
            "-H",
            &bearer,
            "-H",
            "Content-Type: application/json",
            "-H",
            "Accept: application/json, text/event-stream",
            "-H",
            "MCP-Protocol-Version: 2025-11-25",
            "--data-binary",
            BODY,
            &url,
        ];
        let files = own.map(|own| (format!("{own}.pem"), format!("{own}.key")));
        if let Some((certificate, key)) = &files {
            arguments.extend(["--cert", certificate, "--key", key]);
        }
        let output = run("curl", &arguments, house.directory.path(), b"");
        assert_eq!(text(&output.stdout), status, "{own:?}");
    }
    let mut house = house;
    assert!(house.gateway.stop());
    let (_, refused, _) = house.gateway.command(&["search", "--refusals"]);
    assert!(refused.contains("       4  127.0.0.1  token-other-certificate\n"), "{refused}");
}

/// Port, name, token, version and papers as the scripts take them.
fn script(
    house: &House,
    program: &str,
    flag: &str,
    code: &str,
    version: &str,
    papers: Papers,
) -> (bool, String) {
    let port = house.gateway.address.port().to_string();
    let own = papers.own.unwrap_or("-");
    let arguments = [flag, code, &port, NAME, &house.token, version, papers.trusts, own, BODY];
    let output = run(program, &arguments, house.directory.path(), b"");
    let said = text(&output.stdout) + &text(&output.stderr);
    (said.contains("\"by a client\"") && said.contains(&format!("over {version}")), said)
}

const PYTHON: &str = r#"
import http.client, ssl, socket, sys
port, name, token, version, trusts, own, body = sys.argv[1:8]
context = ssl.create_default_context(cafile=trusts)
context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version.replace(".", "_"))
context.set_alpn_protocols(["http/1.1"])
if own != "-":
    context.load_cert_chain(own + ".pem", own + ".key")
sock = context.wrap_socket(socket.create_connection(("127.0.0.1", int(port)), 20), server_hostname=name)
connection = http.client.HTTPConnection(name)
connection.sock = sock
connection.request("POST", "/tools", body, {
    "Authorization": "Bearer " + token, "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"})
print(connection.getresponse().read().decode(), "over", sock.version())
"#;

#[test]
fn python() {
    each_case(true, |house, (_, _, name), papers| {
        script(house, "python3", "-c", PYTHON, name, papers)
    });
}

const NODE: &str = r#"
const [port, name, token, version, trusts, own, body] = process.argv.slice(1);
const fs = require("fs"), https = require("https");
const options = {
  host: "127.0.0.1", port, servername: name, path: "/tools", method: "POST",
  ca: fs.readFileSync(trusts), minVersion: version, maxVersion: version,
  headers: { Host: name, Authorization: "Bearer " + token, "Content-Type": "application/json",
    Accept: "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25",
    "Content-Length": Buffer.byteLength(body) },
};
if (own !== "-") {
  options.cert = fs.readFileSync(own + ".pem");
  options.key = fs.readFileSync(own + ".key");
}
const request = https.request(options, (answer) => {
  const protocol = answer.socket.getProtocol();
  let text = "";
  answer.on("data", (data) => { text += data; });
  answer.on("end", () => { console.log(text, "over", protocol); process.exit(0); });
});
request.on("error", (error) => { console.log(String(error)); process.exit(1); });
request.end(body);
"#;

#[test]
fn node() {
    // Node finds the certificate wrong when the handshake is over, and leaves without a word.
    each_case(false, |house, (_, _, name), papers| script(house, "node", "-e", NODE, name, papers));
}
