//! The command `witness`: a witness for a few logs, on a host of its own.
//!
//! | request | answer |
//! |---|---|
//! | `POST /add-checkpoint` | c2sp.org/tlog-witness: 200 with the cosignature, 400, 403, 404, 409 with the size, 422 |
//! | `GET /checkpoint/<origin, percent-encoded>` | 200 with the latest cosigned note, 404 |
//! | `GET /healthz` | 200 |
//!
//! One request a connection. Bounds: [`THREADS`] connections at once, [`HEAD_BYTES_MAX`] and
//! [`BODY_BYTES_MAX`] bytes, [`CLIENT_MS_MAX`] from accept to close. Requests are judged one after the
//! other. It speaks plain HTTP: what it says is signed and what it reads is too, so a proxy may add TLS.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use super::protocol::{BODY_BYTES_MAX, SIZE_MEDIA};
use super::state::{Answer, State};
use crate::app::cli::Exit;
use crate::app::log;
use crate::record::cosign::WitnessKey;
use crate::record::keys;

/// Connections served at once.
pub const THREADS: usize = 8;
/// Largest request head.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Longest time for one client, from accept to close.
pub const CLIENT_MS_MAX: u64 = 5_000;
/// How often signals are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What the command needs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address to listen on; port 0 is allowed.
    pub listen: SocketAddr,
    /// File of the witness's key.
    pub key: PathBuf,
    /// File of its state.
    pub state: PathBuf,
    /// Verifier keys of the logs, each as text or as a file.
    pub logs: Vec<String>,
}

struct Witness {
    key: WitnessKey,
    state: Mutex<State>,
    stopping: AtomicBool,
}

/// Runs until SIGTERM or SIGINT.
pub fn run(options: &Options) -> Exit {
    let refuse = |exit: Exit, text: String| {
        log::error("start", text).write();
        exit
    };
    let key = match keys::load_witness_key(&options.key) {
        Ok(key) => key,
        Err(fault) => {
            let remedy = "make it with: stenograph keygen witness --out FILE";
            return refuse(Exit::Usage, format!("--key: {fault}; {remedy}"));
        }
    };
    let mut logs = Vec::new();
    for text in &options.logs {
        match keys::load_verifier_key(text) {
            Ok(key) => logs.push(key),
            Err(fault) => return refuse(Exit::Usage, format!("--log: {fault}")),
        }
    }
    let state = match State::open(&options.state, &logs, &key) {
        Ok(state) => state,
        Err(text) => return refuse(Exit::Incomplete, text),
    };
    let signals = signal_hook::iterator::Signals::new([
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGINT,
    ]);
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => return refuse(Exit::Host, format!("signals cannot be taken: {error}")),
    };
    let name = key.verifier().to_string();
    let witness =
        Arc::new(Witness { key, state: Mutex::new(state), stopping: AtomicBool::new(false) });
    let (address, threads) = match start(options.listen, &witness) {
        Ok(started) => started,
        Err(error) => {
            let text = format!("cannot listen on {}: {error}", options.listen);
            return refuse(Exit::Incomplete, text);
        }
    };
    log::info("ready", format!("listening on {address}"))
        .field("addresses", vec![address.to_string()])
        .field("key", name)
        .field("logs", logs.iter().map(ToString::to_string).collect::<Vec<_>>())
        .write();
    while signals.pending().next().is_none() && !threads.iter().any(|one| one.is_finished()) {
        std::thread::sleep(LOOK);
    }
    let broken = threads.iter().any(|one| one.is_finished());
    witness.stopping.store(true, Ordering::Release);
    for _ in &threads {
        // Wakes one thread out of accept.
        let _ = TcpStream::connect_timeout(&address, Duration::from_millis(100));
    }
    let panicked = threads.into_iter().map(|thread| thread.join()).any(|ended| ended.is_err());
    log::info("stopped", "what was cosigned is in the state file").write();
    if broken || panicked { Exit::Incomplete } else { Exit::Done }
}

type Threads = Vec<std::thread::JoinHandle<()>>;

fn start(listen: SocketAddr, witness: &Arc<Witness>) -> io::Result<(SocketAddr, Threads)> {
    let listener = TcpListener::bind(listen)?;
    let address = listener.local_addr()?;
    let mut threads = Vec::new();
    for _ in 0..THREADS {
        let (listener, witness) = (listener.try_clone()?, Arc::clone(witness));
        let serve = move || {
            while !witness.stopping.load(Ordering::Acquire) {
                match listener.accept() {
                    // A client that goes away is no event of ours.
                    Ok((stream, _)) => drop(answer(stream, &witness)),
                    // Why: out of descriptors; without a pause this would spin.
                    Err(_) => std::thread::sleep(Duration::from_millis(100)),
                }
            }
        };
        threads.push(std::thread::Builder::new().name("witness".to_owned()).spawn(serve)?);
    }
    Ok((address, threads))
}

/// A stream that gives up at a deadline, however slowly bytes come.
struct Client {
    stream: TcpStream,
    deadline: Instant,
}

impl Client {
    fn read_some(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                into.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }

    fn send(&mut self, status: u16, media: &str, body: &str) -> io::Result<()> {
        let reason = match status {
            200 => "OK",
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            409 => "Conflict",
            411 => "Length Required",
            413 => "Content Too Large",
            422 => "Unprocessable Entity",
            431 => "Request Header Fields Too Large",
            _ => "Internal Server Error",
        };
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\
             \r\n{body}"
        );
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.stream.set_write_timeout(Some(left.max(Duration::from_millis(1))))?;
        self.stream.write_all(text.as_bytes())?;
        self.stream.shutdown(std::net::Shutdown::Write)
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

fn answer(stream: TcpStream, witness: &Witness) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_millis(CLIENT_MS_MAX);
    let mut client = Client { stream, deadline };
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        if bytes.len() >= HEAD_BYTES_MAX {
            return client.send(431, TEXT, "head is too long\n");
        }
        client.read_some(&mut bytes)?;
    };
    let body = bytes.split_off(head_end);
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    if !request.parse(&bytes).is_ok_and(|parsed| parsed.is_complete()) {
        return client.send(400, TEXT, "not an HTTP/1.1 request\n");
    }
    let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    match (method, path) {
        ("POST", "/add-checkpoint") => {}
        ("GET", "/healthz") => return client.send(200, TEXT, "ok\n"),
        ("GET", path) => {
            let origin = path.strip_prefix("/checkpoint/").and_then(percent_decoded);
            let note = origin.and_then(|origin| {
                let state = witness.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                state.latest(&origin).map(str::to_owned)
            });
            return match note {
                Some(note) => client.send(200, TEXT, &note),
                None => client.send(404, TEXT, "/add-checkpoint, /checkpoint/<origin>\n"),
            };
        }
        _ => return client.send(405, TEXT, "POST /add-checkpoint, GET /checkpoint/<origin>\n"),
    }
    let length = |name: &str| {
        let mut found =
            request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        found.next().map(|field| (field.value, found.next().is_none()))
    };
    let length = match (length("content-length"), length("transfer-encoding")) {
        (Some((value, true)), None) => {
            std::str::from_utf8(value).ok().and_then(super::protocol::size)
        }
        (None, _) => return client.send(411, TEXT, "a body needs Content-Length\n"),
        _ => None,
    };
    let Some(length) = length else { return client.send(400, TEXT, "Content-Length is wrong\n") };
    if length > BODY_BYTES_MAX as u64 {
        return client.send(413, TEXT, &format!("body is larger than {BODY_BYTES_MAX} bytes\n"));
    }
    let mut body = body;
    while (body.len() as u64) < length {
        client.read_some(&mut body)?;
    }
    body.truncate(length as usize);
    let seconds = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs());
    let judged = {
        let mut state = witness.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        state.add(&body, &witness.key, seconds)
    };
    match judged {
        Answer::Cosigned(line) => client.send(200, TEXT, &line),
        Answer::Form => client.send(400, TEXT, "not a request of tlog-witness\n"),
        Answer::Signature => client.send(403, TEXT, "not signed by a key of this log\n"),
        Answer::Unknown => client.send(404, TEXT, "this log is not witnessed here\n"),
        Answer::Size(size) => client.send(409, SIZE_MEDIA, &format!("{size}\n")),
        Answer::Fork => {
            let text = "a tree was shown that does not continue the one cosigned before";
            log::error("fork", text).write();
            client.send(422, TEXT, "the consistency proof does not hold\n")
        }
        Answer::Failed(error) => {
            log::error("state", format!("the state cannot be written: {error}")).write();
            client.send(500, TEXT, "the state cannot be written\n")
        }
    }
}

/// The name of a log out of a path.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: u8| (byte as char).to_digit(16);
                (digit(bytes.next()?)? * 16 + digit(bytes.next()?)?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}
