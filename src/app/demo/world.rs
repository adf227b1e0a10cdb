//! Everything the story needs on loopback: identity provider, MCP server, gateway, and their files in
//! one directory that stays.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::idp::{Client, Idp};
use super::server::{Leak, McpServer};
use crate::app::config::Config;
use crate::app::serve::{Gateway, Host};
use crate::auth::keys::Algorithm;
use crate::record::keys;
use crate::wire::Read as WireRead;
use crate::wire::body::{Decoder, Step};
use crate::wire::head::{self, Fields, Framing};

/// Digits of made-up tokens.
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn random_text(alphabet: &[u8], len: usize) -> String {
    let mut bytes = vec![0; len];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes.iter().map(|byte| alphabet[*byte as usize % alphabet.len()] as char).collect()
}

/// CRC-32 (IEEE 802.3), bit by bit: only for the six check digits of one made-up token.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

impl Leak {
    /// Made up anew, with the form and the checksum of the real kinds; opens nothing anywhere.
    pub fn new() -> Leak {
        let body = random_text(BASE62, 30);
        let mut number = crc32(body.as_bytes()) as usize;
        let mut check = [b'0'; 6];
        for digit in check.iter_mut().rev() {
            *digit = BASE62[number % 62];
            number /= 62;
        }
        let check = std::str::from_utf8(&check).expect("base 62 is ASCII");
        Leak {
            aws_key_id: format!("AKIA{}", random_text(BASE32, 16)),
            github_token: format!("ghp_{body}{check}"),
        }
    }
}

impl Default for Leak {
    fn default() -> Leak {
        Leak::new()
    }
}

/// Public URL of the demo's upstream: the audience of its tokens.
pub const PATH: &str = "/codegen";

/// What differs from the story.
#[derive(Default)]
pub struct Plan {
    /// More TOML, behind the demo's own sections.
    pub more: String,
    /// `release` of the record; `written` when empty.
    pub release: &'static str,
    /// In place of the parts of the host.
    pub host: Host,
    /// URL of another upstream in place of the demo's server.
    pub upstream_url: Option<String>,
    /// `[workers] cores`; `"auto"` when empty.
    pub cores: &'static str,
}

/// The running parts.
pub struct World {
    /// Where the files are.
    pub directory: PathBuf,
    /// The configuration file.
    pub config: PathBuf,
    /// The identity provider.
    pub idp: Idp,
    /// The MCP server.
    pub server: McpServer,
    /// The gateway.
    pub gateway: Gateway,
    /// The secrets that the server leaks.
    pub leak: Leak,
    /// Public URL of the upstream.
    pub resource: String,
    /// The log's verifier key.
    pub verifier: String,
}

/// Writes a private file.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

impl World {
    /// Starts everything, with its files in `directory`, which must be new or empty.
    pub fn start(directory: &Path, plan: Plan) -> Result<World, Box<dyn std::error::Error>> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let leak = Leak::new();
        let client = |id: &str, groups: &[&str]| Client {
            id: id.to_owned(),
            secret: format!("{id}-secret"),
            subject: id.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            life_s: 3600,
        };
        let idp = Idp::start(
            Algorithm::Es256,
            vec![
                client("ada-engineer", &["engineering"]),
                client("carl-contractor", &["contractors"]),
            ],
        )?;
        let server = McpServer::start(leak.clone())?;

        let mut random = |bytes: &mut [u8]| {
            getrandom::fill(bytes).expect("the kernel gives random bytes");
        };
        let log_key = keys::generate("stenograph.demo/log", &mut random)?;
        let verifier = log_key.verifier().to_string();
        keys::create_signing_key(&directory.join("log.key"), &log_key)?;
        std::fs::write(directory.join("log.pub"), format!("{verifier}\n"))?;
        write_private(
            &directory.join("upstream-credential"),
            b"Bearer demo-upstream-credential-9f2c\n",
        )?;

        let address = free_address()?;
        let resource = format!("http://{address}{PATH}");
        let release = if plan.release.is_empty() { "written" } else { plan.release };
        let cores = if plan.cores.is_empty() { "\"auto\"" } else { plan.cores };
        let upstream_url = plan.upstream_url.clone().unwrap_or_else(|| server.url());
        let text = format!(
            r#"# The demo's gateway: one upstream, two groups.
[workers]
cores = {cores}

[[listen]]
address = "{address}"

[[issuer]]
url = "{issuer}"

[[upstream]]
name = "codegen"
path = "{PATH}"
url = "{upstream_url}"
resource = "{resource}"
credential = {{ header = "authorization", file = "upstream-credential" }}

[[grant]]
upstream = "codegen"
groups = ["engineering"]
tools = ["generate_*", "echo", "build_project"]

[[grant]]
upstream = "codegen"
groups = ["contractors"]
tools = ["echo"]

[deny]
file = "deny.toml"

[record]
directory = "record"
release = "{release}"
signing_key = "log.key"

{more}
"#,
            issuer = idp.url(),
            more = plan.more,
        );
        let config = directory.join("stenograph.toml");
        std::fs::write(&config, text)?;
        let parsed = Config::load(&config).map_err(|problems| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })?;
        let gateway = Gateway::start(parsed, plan.host)?;
        let world = World {
            directory: directory.to_owned(),
            config,
            idp,
            server,
            gateway,
            leak,
            resource,
            verifier,
        };
        world.wait_ready()?;
        Ok(world)
    }

    fn wait_ready(&self) -> Result<(), String> {
        let start = Instant::now();
        while !self.gateway.is_ready() {
            if start.elapsed() > Duration::from_secs(10) {
                return Err("the gateway did not get the identity provider's keys".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Where the gateway listens.
    pub fn address(&self) -> SocketAddr {
        self.gateway.addresses()[0]
    }

    /// The record's directory.
    pub fn record(&self) -> PathBuf {
        self.directory.join("record")
    }

    /// A token of the identity provider, good for `life_s` seconds.
    pub fn token(&self, subject: &str, groups: &[&str], life_s: u64) -> String {
        self.idp.mint(&self.idp.claims(subject, groups, &self.resource, life_s))
    }

    /// The engineer's token.
    pub fn engineer(&self) -> String {
        self.token("ada-engineer", &["engineering"], 3600)
    }

    /// The contractor's token.
    pub fn contractor(&self) -> String {
        self.token("carl-contractor", &["contractors"], 3600)
    }
}

/// An answer as a plain client sees it.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Fields in order, names in lower case.
    pub fields: Vec<(String, String)>,
    /// Body without its framing.
    pub body: Vec<u8>,
}

impl Answer {
    /// Value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; of an event stream, the last event's data. `Null` when there is none.
    pub fn json(&self) -> Value {
        let text = self.text();
        let data = text.lines().rev().find_map(|line| line.strip_prefix("data: "));
        serde_json::from_str(data.unwrap_or(&text)).unwrap_or(Value::Null)
    }
}

/// A plain HTTP/1.1 client on one kept connection.
pub struct PlainClient {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl PlainClient {
    /// Connects.
    pub fn connect(address: SocketAddr) -> io::Result<PlainClient> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(PlainClient { stream, buffer: Vec::new() })
    }

    /// The connection itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a message by POST and reads the answer.
    pub fn post(&mut self, token: &str, more: &str, message: &Value) -> io::Result<Answer> {
        self.send_post(token, more, message)?;
        self.answer()
    }

    /// Sends a message by POST; `more` are further fields of the head.
    pub fn send_post(&mut self, token: &str, more: &str, message: &Value) -> io::Result<()> {
        let body = message.to_string();
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
             {more}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.send(head.as_bytes())?;
        self.send(body.as_bytes())
    }

    /// Calls a tool.
    pub fn call(&mut self, token: &str, id: u64, tool: &str, text: &str) -> io::Result<Answer> {
        let params = json!({ "name": tool, "arguments": { "text": text } });
        let message =
            json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
        self.post(token, "", &message)
    }

    /// Sends a GET that opens a stream; the answer is read with [`PlainClient::head`] and
    /// [`PlainClient::some`].
    pub fn open_stream(&mut self, token: &str) -> io::Result<()> {
        let head = format!(
            "GET {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Accept: text/event-stream\r\n\r\n"
        );
        self.send(head.as_bytes())
    }

    /// Reads more bytes as they are; 0 at the end.
    pub fn some(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let bytes = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..bytes]);
        Ok(bytes)
    }

    /// What was read and not yet taken.
    pub fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads the head of an answer.
    pub fn head(&mut self) -> io::Result<(Answer, Framing)> {
        let mut fields = Fields::new();
        let limits = crate::limits::Limits::default();
        loop {
            let asked = head::Method::Post;
            match head::read_response(&self.buffer, &limits, asked, &mut fields) {
                WireRead::Done { value, used } => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let list = fields
                        .iter(&self.buffer[..used])
                        .map(|field| (text(field.name).to_ascii_lowercase(), text(field.value)))
                        .collect();
                    self.buffer.drain(..used);
                    let answer = Answer { status: value.status, fields: list, body: Vec::new() };
                    return Ok((answer, value.framing));
                }
                WireRead::More => {
                    if self.some()? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                WireRead::Broken(fault) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, fault.to_string()));
                }
            }
        }
    }

    /// Reads a whole answer; interim ones are passed over.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let (mut answer, framing) = self.head()?;
        while (100..200).contains(&answer.status) {
            (answer, _) = self.head()?;
        }
        let mut decoder = Decoder::of_response(framing);
        loop {
            let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
            match decoder.step(&self.buffer).map_err(invalid)? {
                Step::Data(span) => {
                    answer.body.extend_from_slice(span.of(&self.buffer));
                    self.buffer.drain(..span.end());
                }
                Step::Skip(used) => drop(self.buffer.drain(..used)),
                Step::End { used } => {
                    self.buffer.drain(..used);
                    return Ok(answer);
                }
                Step::More => {
                    if self.some()? == 0 {
                        decoder.at_close().map_err(invalid)?;
                        return Ok(answer);
                    }
                }
            }
        }
    }
}
