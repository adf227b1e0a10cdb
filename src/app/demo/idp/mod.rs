//! A small identity provider on loopback: it really signs the tokens that the demo and the tests use.
//!
//! It serves discovery (OpenID Connect Discovery 1.0; RFC 8414 under its own name too), a key set and a
//! token endpoint for the client-credentials grant with resource indicators (RFC 6749 §4.4, RFC 8707),
//! on ordinary blocking sockets and threads. It is no product: clients are given at start, keys live in
//! memory, it binds loopback only and speaks plain HTTP, one request per connection.

pub mod signing;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

pub use signing::{SigningKey, compact};

use crate::auth::keys::Algorithm;
use crate::auth::token::Issuer;

/// Bound: head and body of one request, in bytes.
const REQUEST_BYTES_MAX: usize = 32 * 1024;
/// Bound: requests answered at once; further ones are closed.
const CONNECTIONS_MAX: usize = 64;
/// Bound: one read or write.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(5);

/// Somebody who may ask for tokens.
#[derive(Debug, Clone)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// `client_secret`.
    pub secret: String,
    /// `sub` of its tokens.
    pub subject: String,
    /// `groups` of its tokens.
    pub groups: Vec<String>,
    /// Life of its tokens, in seconds.
    pub life_s: u64,
}

#[derive(Debug)]
struct State {
    url: String,
    clients: Vec<Client>,
    /// The last one signs; all are published.
    keys: Vec<SigningKey>,
    /// Requests by path.
    requests: HashMap<String, u64>,
}

/// A running identity provider; dropping it stops it.
#[derive(Debug)]
pub struct Idp {
    address: SocketAddr,
    url: String,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Idp {
    /// Starts one on a free port of 127.0.0.1 with one new key of `algorithm`.
    ///
    /// # Errors
    /// The port cannot be bound or the thread not started.
    pub fn start(algorithm: Algorithm, clients: Vec<Client>) -> io::Result<Idp> {
        Idp::start_at(
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            vec![SigningKey::generate("demo-1", algorithm)],
            clients,
        )
    }

    /// The same at this address with these keys; the last one signs.
    ///
    /// # Errors
    /// `InvalidInput` when `address` is not loopback or there is no key; else as [`Idp::start`].
    pub fn start_at(
        address: SocketAddr,
        keys: Vec<SigningKey>,
        clients: Vec<Client>,
    ) -> io::Result<Idp> {
        if !address.ip().is_loopback() || keys.is_empty() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let url = format!("http://{address}");
        let state = Arc::new(Mutex::new(State {
            url: url.clone(),
            clients,
            keys,
            requests: HashMap::new(),
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("idp".to_owned()).spawn({
            let (state, stop) = (Arc::clone(&state), Arc::clone(&stop));
            move || accept(&listener, &state, &stop)
        })?;
        Ok(Idp { address, url, state, stop, thread: Some(thread) })
    }

    /// The issuer's URL: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The configuration entry that trusts it.
    pub fn issuer(&self) -> Issuer {
        Issuer {
            url: self.url.clone(),
            groups_claim: "groups".to_owned(),
            algorithms: Algorithm::ALL.to_vec(),
            token_types: vec!["at+jwt".to_owned()],
        }
    }

    /// A token with exactly these claims, signed with the current key.
    pub fn mint(&self, claims: &Value) -> String {
        lock(&self.state).signer().mint(claims)
    }

    /// Good claims for `subject` at `resource`, from now for `life_s` seconds.
    pub fn claims(&self, subject: &str, groups: &[&str], resource: &str, life_s: u64) -> Value {
        claims(&self.url, subject, groups, resource, life_s)
    }

    /// Signs with a new key from now on. `keep_old` publishes the old keys beside it.
    pub fn rotate(&self, key: SigningKey, keep_old: bool) {
        let mut state = lock(&self.state);
        if !keep_old {
            state.keys.clear();
        }
        state.keys.push(key);
    }

    /// Requests served so far under this path.
    pub fn requests(&self, path: &str) -> u64 {
        lock(&self.state).requests.get(path).copied().unwrap_or(0)
    }
}

impl Drop for Idp {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the accept that is waiting.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    fn signer(&self) -> &SigningKey {
        self.keys.last().expect("there is always a key: start_at and rotate see to it")
    }
}

/// Seconds of UTC.
pub fn utc_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Good claims of issuer `url` for `subject` at `resource`, from now for `life_s` seconds.
pub fn claims(url: &str, subject: &str, groups: &[&str], resource: &str, life_s: u64) -> Value {
    let mut id = [0; 12];
    getrandom::fill(&mut id).expect("the host has randomness");
    let now_s = utc_s();
    json!({
        "iss": url,
        "sub": subject,
        "aud": resource,
        "client_id": subject,
        "groups": groups,
        "iat": now_s,
        "exp": now_s + life_s,
        "jti": URL_SAFE_NO_PAD.encode(id),
    })
}

fn accept(listener: &TcpListener, state: &Arc<Mutex<State>>, stop: &AtomicBool) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else { continue };
        if open.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (state, counter) = (Arc::clone(state), Arc::clone(&open));
        let spawned = std::thread::Builder::new().name("idp-request".to_owned()).spawn(move || {
            // A client that goes away is its own affair.
            let _ = serve(stream, &state);
            counter.fetch_sub(1, Ordering::AcqRel);
        });
        if spawned.is_err() {
            open.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

struct Asked {
    method: String,
    path: String,
    authorization: Option<String>,
    body: Vec<u8>,
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    stream.set_read_timeout(Some(SOCKET_TIMEOUT))?;
    stream.set_write_timeout(Some(SOCKET_TIMEOUT))?;
    let (status, body) = match read_request(&mut stream)? {
        None => (400, json!({"error": "invalid_request"})),
        Some(asked) => answer(&asked, &mut lock(state)),
    };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        if status == 200 { "OK" } else { "Refused" },
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.flush()
}

/// Head and body by Content-Length; `None` when it is not such a request.
fn read_request(stream: &mut TcpStream) -> io::Result<Option<Asked>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(&bytes) {
            Err(_) => return Ok(None),
            Ok(httparse::Status::Complete(head)) => {
                let field = |name: &str| {
                    let found =
                        request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
                    found.and_then(|field| std::str::from_utf8(field.value).ok()).map(str::to_owned)
                };
                let length = match field("content-length").map(|text| text.parse::<usize>()) {
                    None => 0,
                    Some(Ok(length)) if length <= REQUEST_BYTES_MAX => length,
                    Some(_) => return Ok(None),
                };
                let target = request.path.unwrap_or_default();
                let asked = Asked {
                    method: request.method.unwrap_or_default().to_owned(),
                    path: target.split('?').next().unwrap_or_default().to_owned(),
                    authorization: field("authorization"),
                    body: Vec::new(),
                };
                if bytes.len() >= head + length {
                    return Ok(Some(Asked { body: bytes[head..head + length].to_vec(), ..asked }));
                }
            }
            Ok(httparse::Status::Partial) => {}
        }
        let count = stream.read(&mut chunk)?;
        if count == 0 || bytes.len() + count > 2 * REQUEST_BYTES_MAX {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk[..count]);
    }
}

fn answer(asked: &Asked, state: &mut State) -> (u16, Value) {
    *state.requests.entry(asked.path.clone()).or_default() += 1;
    let url = &state.url;
    match (asked.method.as_str(), asked.path.as_str()) {
        (
            "GET",
            "/.well-known/openid-configuration" | "/.well-known/oauth-authorization-server",
        ) => {
            let body = json!({
                "issuer": url,
                "authorization_endpoint": format!("{url}/authorize"),
                "token_endpoint": format!("{url}/token"),
                "jwks_uri": format!("{url}/jwks"),
                "grant_types_supported": ["client_credentials"],
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [state.signer().algorithm.as_str()],
                "token_endpoint_auth_methods_supported":
                    ["client_secret_basic", "client_secret_post"],
            });
            (200, body)
        }
        ("GET", "/jwks") => {
            let keys: Vec<Value> = state.keys.iter().map(SigningKey::jwk).collect();
            (200, json!({"keys": keys}))
        }
        ("POST", "/token") => token(asked, state),
        _ => (404, json!({"error": "not_found"})),
    }
}

/// RFC 6749 §4.4 with RFC 8707 `resource`.
fn token(asked: &Asked, state: &State) -> (u16, Value) {
    let refuse = |status, error: &str| (status, json!({"error": error}));
    let form = form(&asked.body);
    let get = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let basic = asked.authorization.as_deref().and_then(|value| {
        let (scheme, encoded) = value.split_once(' ')?;
        let decoded = STANDARD.decode(encoded.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (id, secret) = text.split_once(':')?;
        // RFC 6749 §2.3.1: both are form-encoded first.
        scheme.eq_ignore_ascii_case("basic").then(|| (unescape(id), unescape(secret)))
    });
    let Some((id, secret)) = basic.or_else(|| Some((get("client_id")?, get("client_secret")?)))
    else {
        return refuse(401, "invalid_client");
    };
    let known = |client: &&Client| client.id == id && client.secret == secret;
    let Some(client) = state.clients.iter().find(known) else {
        return refuse(401, "invalid_client");
    };
    if get("grant_type").as_deref() != Some("client_credentials") {
        return refuse(400, "unsupported_grant_type");
    }
    let Some(resource) = get("resource").or_else(|| get("audience")) else {
        return refuse(400, "invalid_target");
    };
    let groups: Vec<&str> = client.groups.iter().map(String::as_str).collect();
    let mut claims = claims(&state.url, &client.subject, &groups, &resource, client.life_s);
    claims["client_id"] = json!(client.id);
    let token = state.signer().mint(&claims);
    (200, json!({"access_token": token, "token_type": "Bearer", "expires_in": client.life_s}))
}

/// application/x-www-form-urlencoded.
fn form(body: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(body);
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (unescape(key), unescape(value)))
        .collect()
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}
