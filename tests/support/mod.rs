//! What the integration tests and the end-to-end bench stand the gateway between: an identity
//! provider that really signs, plain HTTP clients, and the gateway as a child process.
//!
//! Everything is blocking `std` and knows nothing of the library: what it says about the gateway is
//! said from outside.

pub mod dice;
pub mod ledger;
pub mod server;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};

/// Looks for `needle` in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

/// Every `PREFIX…-end` in some bytes: the ledger's entries are written this way so that they are
/// found in any framing that does not split them.
pub fn marks(bytes: &[u8], prefix: &str, into: &mut impl Extend<String>) {
    for at in memchr::memmem::find_iter(bytes, prefix.as_bytes()) {
        let rest = &bytes[at..bytes.len().min(at + 96)];
        if let Some(end) = find(rest, b"-end") {
            into.extend([String::from_utf8_lossy(&rest[..end]).into_owned()]);
        }
    }
}

/// A number from the environment.
pub fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A listener on a free port of the loopback.
pub fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    listen().1.port()
}

/// Seconds since the epoch.
pub fn epoch_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// An identity provider with one Ed25519 key: discovery, key set, tokens.
pub struct IdentityProvider {
    key: SigningKey,
    /// Its issuer URL.
    pub issuer: String,
}

impl IdentityProvider {
    /// Starts to serve on a free port; the threads end with the process.
    pub fn start() -> Self {
        Self::start_as("http", Some)
    }

    /// The same; `open` says what is spoken on each connection.
    pub fn start_as<S: Read + Write + 'static>(
        scheme: &str,
        open: impl Fn(TcpStream) -> Option<S> + Clone + Send + 'static,
    ) -> Self {
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).expect("randomness");
        let key = SigningKey::from_bytes(&seed);
        let (listener, address) = listen();
        let issuer = format!("{scheme}://{address}");
        let x = URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes());
        let keys = format!(
            r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":"test-1","x":"{x}"}}]}}"#
        );
        let discovery = format!(
            r#"{{"issuer":"{issuer}","jwks_uri":"{issuer}/jwks","token_endpoint":"{issuer}/token"}}"#
        );
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (keys, discovery, open) = (keys.clone(), discovery.clone(), open.clone());
                thread::spawn(move || {
                    if let Some(stream) = open(stream) {
                        answer_documents(stream, &keys, &discovery);
                    }
                });
            }
        });
        Self { key, issuer }
    }

    /// A signed access token (RFC 9068) for one audience, valid for an hour.
    pub fn token(&self, subject: &str, groups: &[&str], audience: &str) -> String {
        self.token_with(subject, groups, audience, "")
    }

    /// The same with further claims, each with a comma in front.
    pub fn token_with(&self, subject: &str, groups: &[&str], audience: &str, more: &str) -> String {
        let head = r#"{"alg":"EdDSA","typ":"at+jwt","kid":"test-1"}"#;
        let now = epoch_s();
        let claims = format!(
            r#"{{"iss":"{}","sub":"{subject}","client_id":"{subject}","aud":"{audience}","iat":{now},"nbf":{now},"exp":{},"jti":"{subject}-{now}","groups":{groups:?}{more}}}"#,
            self.issuer,
            now + 3600,
        );
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }
}

fn answer_documents(mut stream: impl Read + Write, keys: &str, discovery: &str) {
    let mut kept = Vec::new();
    while let Ok(Some(head)) = read_head(&mut stream, &mut kept) {
        let body = if find(&head, b" /jwks ").is_some() { keys } else { discovery };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

/// Reads one HTTP head; what was read beyond it stays in `kept`. `None` at a clean end.
pub fn read_head(stream: &mut impl Read, kept: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(end) = find(kept, b"\r\n\r\n") {
            let rest = kept.split_off(end + 4);
            return Ok(Some(std::mem::replace(kept, rest)));
        }
        let mut room = [0u8; 16 * 1024];
        match stream.read(&mut room)? {
            0 if kept.is_empty() => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => kept.extend_from_slice(&room[..read]),
        }
    }
}

/// Fills `kept` until it holds `length` bytes.
pub fn read_up_to(stream: &mut impl Read, kept: &mut Vec<u8>, length: usize) -> io::Result<()> {
    let mut room = [0u8; 16 * 1024];
    while kept.len() < length {
        match stream.read(&mut room)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => kept.extend_from_slice(&room[..read]),
        }
    }
    Ok(())
}

/// The value of one header field of a head, by its lower-case name.
pub fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    std::str::from_utf8(head).ok()?.split("\r\n").skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The status of an answer's head.
pub fn status(head: &[u8]) -> u16 {
    std::str::from_utf8(head.get(9..12).unwrap_or(b"0"))
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(0)
}

/// Reads one whole answer from a keep-alive connection: status and body. Every byte read is added
/// to `ledger` the moment it is there, so that an answer cut short is seen as far as it came.
pub fn read_answer(
    stream: &mut impl Read,
    kept: &mut Vec<u8>,
    ledger: &mut impl Extend<u8>,
) -> io::Result<(u16, Vec<u8>)> {
    struct Logged<'a, S, L>(&'a mut S, &'a mut L);
    impl<S: Read, L: Extend<u8>> Logged<'_, S, L> {
        fn more(&mut self, kept: &mut Vec<u8>) -> io::Result<()> {
            let mut room = [0u8; 16 * 1024];
            let read = self.0.read(&mut room)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            kept.extend_from_slice(&room[..read]);
            self.1.extend(room[..read].iter().copied());
            Ok(())
        }
    }
    let mut source = Logged(stream, ledger);
    let head = loop {
        if let Some(end) = find(kept, b"\r\n\r\n") {
            let rest = kept.split_off(end + 4);
            break std::mem::replace(kept, rest);
        }
        source.more(kept)?;
    };
    let status = status(&head);
    if let Some(length) = field(&head, "content-length").and_then(|value| value.parse().ok()) {
        while kept.len() < length {
            source.more(kept)?;
        }
        let rest = kept.split_off(length);
        return Ok((status, std::mem::replace(kept, rest)));
    }
    let mut body = Vec::new();
    loop {
        let line_end = loop {
            match find(kept, b"\r\n") {
                Some(end) => break end,
                None => source.more(kept)?,
            }
        };
        let size = std::str::from_utf8(&kept[..line_end])
            .ok()
            .and_then(|s| usize::from_str_radix(s.trim(), 16).ok());
        let Some(size) = size else { return Err(io::ErrorKind::InvalidData.into()) };
        let whole = line_end + 2 + size + 2;
        while kept.len() < whole {
            source.more(kept)?;
        }
        body.extend_from_slice(&kept[line_end + 2..line_end + 2 + size]);
        kept.drain(..whole);
        if size == 0 {
            return Ok((status, body));
        }
    }
}

/// The bytes of one `tools/call` of the tool `echo` to `path`, with `text` as its argument.
pub fn call(path: &str, token: &str, id: u64, text: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"{text}"}}}}}}"#
    );
    format!(
        "POST {path} HTTP/1.1\r\nHost: mcp.example.test\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
         MCP-Protocol-Version: 2025-11-25\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The gateway's binary: the one built for this test, or `STENOGRAPH_BIN`.
pub fn binary(built: &str) -> PathBuf {
    std::env::var_os("STENOGRAPH_BIN").map_or_else(|| built.into(), PathBuf::from)
}

/// A directory with everything one gateway needs, and the gateway started in it.
pub struct Gateway {
    /// Holds config, keys and record.
    pub directory: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
    /// The log's verifier key, as `keygen log` printed it.
    pub verifier: String,
    /// The program.
    pub binary: PathBuf,
    /// What is set in its environment.
    pub environment: Vec<(&'static str, PathBuf)>,
    child: Option<Child>,
}

impl Gateway {
    /// Makes keys and config in `directory`: one upstream `/tools` at `upstream`, whose tool `echo`
    /// the group `engineering` may call. `cores`, `release` and
    /// `more` (whole sections) go into the config as they are.
    pub fn prepare(
        binary: &Path,
        directory: &Path,
        provider: &IdentityProvider,
        upstream: SocketAddr,
        cores: &str,
        release: &str,
        more: &str,
    ) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let here = directory.display();
        let made = Command::new(binary)
            .args(["keygen", "log", "--out"])
            .arg(directory.join("log.key"))
            .output()
            .expect("keygen runs");
        assert!(made.status.success(), "keygen: {}", String::from_utf8_lossy(&made.stderr));
        let printed = String::from_utf8(made.stdout).expect("text");
        let verifier = printed.lines().last().expect("the verifier key").to_owned();
        let config = format!(
            r#"
[workers]
cores = {cores}

[[listen]]
address = "{address}"

[[issuer]]
url = "{issuer}"
algorithms = ["EdDSA"]

[[upstream]]
name = "tools"
path = "/tools"
url = "http://{upstream}/mcp"
resource = "{RESOURCE}"

[[grant]]
upstream = "tools"
groups = ["engineering"]
tools = ["echo"]

[guard]
rules = ["builtin"]

[record]
directory = "{here}/record"
release = "{release}"
signing_key = "{here}/log.key"
fingerprint_key = "{here}/fingerprint.key"

{more}
"#,
            issuer = provider.issuer,
        );
        std::fs::write(directory.join("stenograph.toml"), config).expect("config is written");
        Self {
            directory: directory.into(),
            address,
            verifier,
            binary: binary.into(),
            environment: Vec::new(),
            child: None,
        }
    }

    /// Scans with these rules instead of the built-in pack.
    pub fn few_rules(&self, rules: &str) {
        let file = self.directory.join("rules.toml");
        std::fs::write(&file, rules).expect("rules are written");
        let config = self.directory.join("stenograph.toml");
        let text = std::fs::read_to_string(&config).expect("config is there");
        let name = format!("rules = [{:?}]", file.display().to_string());
        std::fs::write(&config, text.replace("rules = [\"builtin\"]", &name)).expect("written");
    }

    /// Starts the gateway and waits until it says that it is ready.
    pub fn start(&mut self) {
        let log = self.directory.join("serve.log");
        let file = std::fs::File::create(&log).expect("log file");
        let child = Command::new(&self.binary)
            .args(["serve", "--config"])
            .arg(self.directory.join("stenograph.toml"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("same file"))
            .stderr(file)
            .spawn()
            .expect("the gateway starts");
        let child = self.child.insert(child);
        let begun = Instant::now();
        loop {
            let said = std::fs::read(&log).unwrap_or_default();
            if find(&said, br#""event":"ready""#).is_some() {
                return;
            }
            let ended = child.try_wait().expect("waiting works");
            assert!(
                ended.is_none() && begun.elapsed() < Duration::from_secs(30),
                "not ready ({ended:?}): {}",
                String::from_utf8_lossy(&said)
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    /// Replaces a piece of the configuration.
    pub fn configure(&self, old: &str, new: &str) {
        let config = self.directory.join("stenograph.toml");
        let text = std::fs::read_to_string(&config).expect("config is there");
        assert!(text.contains(old), "{old}");
        std::fs::write(&config, text.replacen(old, new, 1)).expect("written");
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.directory.join("serve.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Waits until the log holds `text`, at most 10 s.
    pub fn wait_for_log(&self, text: &str) {
        let begun = Instant::now();
        while !self.log().contains(text) {
            assert!(begun.elapsed() < Duration::from_secs(10), "{text} is not in {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Has it read its configuration again.
    pub fn reload(&self) {
        let process = rustix::process::Pid::from_child(self.child.as_ref().expect("running"));
        rustix::process::kill_process(process, rustix::process::Signal::HUP).expect("signal");
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("running");
        child.kill().expect("kill");
        child.wait().expect("gone");
    }

    /// SIGTERM; true if it ended with exit code 0 within 20 s.
    pub fn stop(&mut self) -> bool {
        let mut child = self.child.take().expect("running");
        let process = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("signal");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if let Some(ended) = child.try_wait().expect("waiting works") {
                return ended.success();
            }
            thread::sleep(Duration::from_millis(10));
        }
        child.kill().expect("kill");
        child.wait().expect("gone");
        false
    }

    /// Runs a reading command on the record; exit code, output, diagnostics.
    pub fn command(&self, words: &[&str]) -> (i32, String, String) {
        let done = Command::new(&self.binary)
            .args(words)
            .arg("--record")
            .arg(self.directory.join("record"))
            .stdin(Stdio::null())
            .output()
            .expect("the command runs");
        (
            done.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&done.stdout).into_owned(),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        )
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The audience of every token here.
pub const RESOURCE: &str = "https://mcp.example.test/tools";
