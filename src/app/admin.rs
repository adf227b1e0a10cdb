//! The admin endpoint: `/healthz`, `/readyz`, `/metrics` and `/checkpoint`, the latest signed note, over plain HTTP/1.1, on threads of its own,
//! away from the workers.
//!
//! It answers GET and HEAD, one request a connection, and reads nothing but the request line and the
//! end of the head. It holds no secret and changes nothing; its address belongs on loopback.
//!
//! Bounds: [`CONNECTIONS_MAX`] connections at once, [`HEAD_BYTES_MAX`] bytes and [`CLIENT_MS_MAX`] for
//! each. Beyond them the oldest connection gives way to the newest, so that clients which say
//! nothing keep no probe waiting.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::app::witness::watch::Gauges;
use crate::gateway::metrics::{DURATION_CLASSES_US, DurationSum, Metrics};

/// Connections served at once, each on a small thread of its own.
pub const CONNECTIONS_MAX: usize = 32;
/// Stack of such a thread: a page of metrics is gathered on the heap.
const STACK_BYTES: usize = 256 * 1024;
/// Largest request head.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Longest time for one client, from accept to close.
pub const CLIENT_MS_MAX: u64 = 2_000;

/// What the recorder says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecorderGauges {
    /// Entries waiting for the writer.
    pub queue_entries: u64,
    /// Payload bytes waiting for the writer.
    pub queue_bytes: u64,
    /// Entries written since start.
    pub entries: u64,
    /// Bytes written to segments since start.
    pub bytes: u64,
    /// The recorder cannot write: calls are refused.
    pub failed: bool,
    /// Entries written after the last signed checkpoint.
    pub unsigned_entries: u64,
    /// Age of the last signed checkpoint; `None` before the first.
    pub checkpoint_age_ms: Option<u64>,
}

/// What is known about one issuer's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerGauges {
    /// The issuer's URL, as configured.
    pub issuer: String,
    /// Keys in use.
    pub keys: u64,
    /// Age of the key set; `None` when none was ever fetched.
    pub age_ms: Option<u64>,
}

/// What the endpoint shows. The closures are called on its threads.
pub struct Sources {
    /// `Ok` when calls can be served; else why not.
    pub ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// The counters of the workers.
    pub metrics: Arc<Metrics>,
    /// The recorder now.
    pub recorder: Box<dyn Fn() -> RecorderGauges + Send + Sync>,
    /// The newest checkpoint of the record, a signed note.
    pub checkpoint: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// What witnesses have come to; `None` when none is configured.
    pub witnesses: Box<dyn Fn() -> Option<Gauges> + Send + Sync>,
    /// The key sets now.
    pub issuers: Box<dyn Fn() -> Vec<IssuerGauges> + Send + Sync>,
}

/// The connections that are served now, oldest first.
#[derive(Default)]
struct Served {
    next: u64,
    open: VecDeque<(u64, Arc<TcpStream>)>,
}

/// Forgets its connection when it is over.
struct Serving {
    served: Arc<Mutex<Served>>,
    number: u64,
}

impl Serving {
    /// Takes a new connection in; the oldest gives way when there are too many.
    fn begin(served: &Arc<Mutex<Served>>, stream: &Arc<TcpStream>) -> Serving {
        let mut all = served.lock().unwrap_or_else(PoisonError::into_inner);
        if all.open.len() >= CONNECTIONS_MAX
            && let Some((_, oldest)) = all.open.pop_front()
        {
            // Its thread reads the end, and ends.
            let _ = oldest.shutdown(Shutdown::Both);
        }
        all.next += 1;
        let number = all.next;
        all.open.push_back((number, Arc::clone(stream)));
        Serving { served: Arc::clone(served), number }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let mut all = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        all.open.retain(|(number, _)| *number != self.number);
    }
}

/// A running endpoint. Dropping it leaves it running; [`Admin::stop`] ends it.
pub struct Admin {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    served: Arc<Mutex<Served>>,
    accepting: JoinHandle<()>,
}

/// Starts the endpoint. Fails when the address cannot be bound.
pub fn start(address: SocketAddr, sources: Sources) -> io::Result<Admin> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    let sources = Arc::new(sources);
    let stopping = Arc::new(AtomicBool::new(false));
    let served = Arc::new(Mutex::new(Served::default()));
    let (ends, all) = (Arc::clone(&stopping), Arc::clone(&served));
    let accept = move || {
        while !ends.load(Ordering::Acquire) {
            let taken = listener.accept().and_then(|(stream, _)| {
                let stream = Arc::new(stream);
                let serving = Serving::begin(&all, &stream);
                let sources = Arc::clone(&sources);
                let serve = move || {
                    // A client that goes away is no event of ours.
                    let _ = answer(&stream, &sources);
                    drop(serving);
                };
                let thread = std::thread::Builder::new().name("admin-client".to_owned());
                thread.stack_size(STACK_BYTES).spawn(serve)
            });
            if taken.is_err() {
                // Why: out of descriptors or threads; without a pause this would spin.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    };
    let accepting = std::thread::Builder::new().name("admin".to_owned()).spawn(accept)?;
    Ok(Admin { address, stopping, served, accepting })
}

impl Admin {
    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the listener and cuts who is still connected.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the thread out of accept.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_millis(100));
        let _ = self.accepting.join();
        let all = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, stream) in &all.open {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// The request line's method and path, once the head is complete.
fn request_line(head: &[u8]) -> Option<(&str, &str)> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let path = target.split('?').next()?;
    (words.next().is_none() && version.starts_with("HTTP/1.")).then_some((method, path))
}

fn answer(mut stream: &TcpStream, sources: &Sources) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_millis(CLIENT_MS_MAX);
    let remaining = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut) } else { Ok(left) }
    };
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX {
            let body = "head is too long\n";
            return send(stream, 431, "text/plain; charset=utf-8", body, true);
        }
        stream.set_read_timeout(Some(remaining()?))?;
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => head.extend_from_slice(&buffer[..count]),
        }
    }
    stream.set_write_timeout(Some(remaining()?))?;
    const TEXT: &str = "text/plain; charset=utf-8";
    let Some((method, path)) = request_line(&head) else {
        return send(stream, 400, TEXT, "not an HTTP/1.1 request\n", true);
    };
    if method != "GET" && method != "HEAD" {
        return send(stream, 405, TEXT, "GET and HEAD only\n", true);
    }
    let with_body = method == "GET";
    match path {
        "/healthz" => send(stream, 200, TEXT, "ok\n", with_body),
        "/readyz" => match (sources.ready)() {
            Ok(()) => send(stream, 200, TEXT, "ready\n", with_body),
            Err(reason) => send(stream, 503, TEXT, &format!("{reason}\n"), with_body),
        },
        "/metrics" => {
            let mut text = render(&sources.metrics, (sources.recorder)(), &(sources.issuers)());
            if let Some(gauges) = (sources.witnesses)() {
                text.push_str(&render_witnesses(&gauges));
            }
            send(stream, 200, "text/plain; version=0.0.4; charset=utf-8", &text, with_body)
        }
        "/checkpoint" => match (sources.checkpoint)() {
            Some(note) => send(stream, 200, TEXT, &note, with_body),
            None => send(stream, 404, TEXT, "nothing is signed yet\n", with_body),
        },
        _ => {
            let body = "/healthz, /readyz, /metrics, /checkpoint\n";
            send(stream, 404, TEXT, body, with_body)
        }
    }
}

fn send(
    mut stream: &TcpStream,
    status: u16,
    media: &str,
    body: &str,
    with_body: bool,
) -> io::Result<()> {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    let length = body.len();
    let mut text = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {media}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    );
    if with_body {
        text.push_str(body);
    }
    stream.write_all(text.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)
}

/// A label value in the text format: backslash, quote and line feed are escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Text format version 0.0.4 of Prometheus.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn seconds(&mut self, name: &str, help: &str, duration: &DurationSum) {
        self.head(name, "histogram", help);
        let mut count = 0;
        for (index, class) in duration.classes.iter().enumerate() {
            count += class;
            let bound = match DURATION_CLASSES_US.get(index) {
                Some(us) => (*us as f64 / 1e6).to_string(),
                None => "+Inf".to_owned(),
            };
            let _ = writeln!(self.0, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(self.0, "{name}_sum {}", duration.sum_us as f64 / 1e6);
        let _ = writeln!(self.0, "{name}_count {count}");
    }
}

/// The page of `/metrics`.
pub fn render(metrics: &Metrics, recorder: RecorderGauges, issuers: &[IssuerGauges]) -> String {
    let sum = metrics.sum();
    let mut page = Page(String::new());
    page.head("stenograph_build_info", "gauge", "Always 1; the version is a label.");
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(page.0, "stenograph_build_info{{version=\"{version}\"}} 1");

    let name = "stenograph_requests_total";
    page.head(name, "counter", "Exchanges that have ended, by upstream and outcome.");
    for (upstream, outcome, count) in &sum.requests {
        let upstream = label(upstream);
        let labels = format!("upstream=\"{upstream}\",outcome=\"{outcome}\"");
        let _ = writeln!(page.0, "{name}{{{labels}}} {count}");
    }
    let name = "stenograph_refusals_total";
    page.head(name, "counter", "Refusals by reason.");
    for (reason, count) in &sum.refusals {
        let _ = writeln!(page.0, "{name}{{reason=\"{reason}\"}} {count}");
    }
    let name = "stenograph_findings_total";
    page.head(name, "counter", "Findings of the scanner, by action.");
    for (action, count) in &sum.findings {
        let _ = writeln!(page.0, "{name}{{action=\"{action}\"}} {count}");
    }
    let name = "stenograph_network_bytes_total";
    page.head(name, "counter", "Bytes over sockets.");
    for (peer, direction, count) in &sum.bytes {
        let _ = writeln!(page.0, "{name}{{peer=\"{peer}\",direction=\"{direction}\"}} {count}");
    }
    let name = "stenograph_connections_total";
    page.head(name, "counter", "Connections accepted from clients and made to upstreams.");
    let _ = writeln!(page.0, "{name}{{peer=\"client\"}} {}", sum.clients_opened);
    let _ = writeln!(page.0, "{name}{{peer=\"upstream\"}} {}", sum.upstreams_opened);
    let name = "stenograph_connections_open";
    page.head(name, "gauge", "Connections open now.");
    let _ = writeln!(page.0, "{name}{{peer=\"client\"}} {}", sum.clients_open);
    let _ = writeln!(page.0, "{name}{{peer=\"upstream\"}} {}", sum.upstreams_open);
    let help = "Payload bytes held now.";
    page.one("stenograph_inflight_bytes", "gauge", help, sum.inflight_bytes);
    let help = "From the head of a request to the last byte of its answer.";
    page.seconds("stenograph_exchange_seconds", help, &sum.exchange);
    let help = "From a frozen message to the receipt of its entry.";
    page.seconds("stenograph_recorder_wait_seconds", help, &sum.recorder_wait);

    let help = "Entries waiting for the writer.";
    page.one("stenograph_recorder_queue_entries", "gauge", help, recorder.queue_entries);
    let help = "Payload bytes waiting for the writer.";
    page.one("stenograph_recorder_queue_bytes", "gauge", help, recorder.queue_bytes);
    let help = "1 while the record cannot be written and calls are refused.";
    page.one("stenograph_recorder_failed", "gauge", help, u64::from(recorder.failed));
    let help = "Entries written to the record.";
    page.one("stenograph_recorder_entries_total", "counter", help, recorder.entries);
    let help = "Bytes written to segment files.";
    page.one("stenograph_recorder_written_bytes_total", "counter", help, recorder.bytes);
    let help = "Entries written after the last signed checkpoint.";
    page.one("stenograph_recorder_unsigned_entries", "gauge", help, recorder.unsigned_entries);
    if let Some(age_ms) = recorder.checkpoint_age_ms {
        let name = "stenograph_recorder_checkpoint_age_seconds";
        page.head(name, "gauge", "Age of the last signed checkpoint.");
        let _ = writeln!(page.0, "{name} {}", age_ms as f64 / 1e3);
    }
    let name = "stenograph_issuer_keys";
    page.head(name, "gauge", "Keys known of an issuer; 0 refuses all its tokens.");
    for issuer in issuers {
        let _ = writeln!(page.0, "{name}{{issuer=\"{}\"}} {}", label(&issuer.issuer), issuer.keys);
    }
    let name = "stenograph_issuer_keys_age_seconds";
    page.head(name, "gauge", "Age of an issuer's key set.");
    for issuer in issuers {
        if let Some(age_ms) = issuer.age_ms {
            let (issuer, age) = (label(&issuer.issuer), age_ms as f64 / 1e3);
            let _ = writeln!(page.0, "{name}{{issuer=\"{issuer}\"}} {age}");
        }
    }
    page.0
}

/// The part of `/metrics` about witnesses.
pub fn render_witnesses(gauges: &Gauges) -> String {
    let mut page = Page(String::new());
    let help = "Entries behind the last cosigned checkpoint.";
    page.one("stenograph_unwitnessed_entries", "gauge", help, gauges.unwitnessed_entries);
    let name = "stenograph_unwitnessed_seconds";
    page.head(name, "gauge", "For how long the oldest of them has waited for a witness.");
    let _ = writeln!(page.0, "{name} {}", gauges.unwitnessed_ms as f64 / 1e3);
    let help = "1 while that is longer than max_unwitnessed, or no witness was ever reached.";
    page.one("stenograph_unwitnessed_alarm", "gauge", help, u64::from(gauges.alarm));
    let name = "stenograph_witness_entries";
    page.head(name, "gauge", "Entries that a witness has cosigned.");
    for one in &gauges.witnesses {
        let _ = writeln!(page.0, "{name}{{witness=\"{}\"}} {}", label(&one.name), one.size);
    }
    let name = "stenograph_witness_failures_total";
    page.head(name, "counter", "Requests to a witness that failed, by reason.");
    for one in &gauges.witnesses {
        for (reason, count) in &one.failures {
            let labels = format!("witness=\"{}\",reason=\"{reason}\"", label(&one.name));
            let _ = writeln!(page.0, "{name}{{{labels}}} {count}");
        }
    }
    page.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::metrics::Outcome;

    fn sources(ready: Arc<AtomicBool>) -> Sources {
        let metrics = Arc::new(Metrics::new(1, vec!["codegen".to_owned()], &["expired"]));
        metrics.worker(0).request(Some(0), Outcome::Answered);
        metrics.worker(0).exchange_us(300);
        let issuer = "https://a\"b\\c".to_owned();
        Sources {
            ready: Box::new(move || match ready.load(Ordering::Relaxed) {
                true => Ok(()),
                false => Err("no keys of https://login.example.com yet".to_owned()),
            }),
            metrics,
            recorder: Box::new(|| RecorderGauges {
                checkpoint_age_ms: Some(1500),
                ..RecorderGauges::default()
            }),
            checkpoint: Box::new(|| Some("a\nnote\n".to_owned())),
            witnesses: Box::new(|| None),
            issuers: Box::new(move || {
                vec![IssuerGauges { issuer: issuer.clone(), keys: 2, age_ms: Some(250) }]
            }),
        }
    }

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get(address: SocketAddr, path: &str) -> String {
        ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    #[test]
    fn probes_and_metrics_are_answered() {
        let ready = Arc::new(AtomicBool::new(false));
        let local = "127.0.0.1:0".parse().unwrap();
        let admin = start(local, sources(Arc::clone(&ready))).unwrap();
        let address = admin.address();
        assert!(get(address, "/healthz").starts_with("HTTP/1.1 200 "));
        let answer = get(address, "/readyz");
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("no keys of"), "{answer}");
        ready.store(true, Ordering::Relaxed);
        assert!(get(address, "/readyz").starts_with("HTTP/1.1 200 "));
        assert!(get(address, "/secret").starts_with("HTTP/1.1 404 "));
        assert!(ask(address, "POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert!(ask(address, "hello\r\n\r\n").starts_with("HTTP/1.1 400 "));
        assert!(ask(address, &"x".repeat(HEAD_BYTES_MAX)).starts_with("HTTP/1.1 431 "));
        let head = ask(address, "HEAD /metrics HTTP/1.1\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");

        let page = get(address, "/metrics");
        for line in [
            "stenograph_requests_total{upstream=\"codegen\",outcome=\"answered\"} 1",
            "stenograph_refusals_total{reason=\"expired\"} 0",
            "stenograph_exchange_seconds_bucket{le=\"0.00025\"} 0",
            "stenograph_exchange_seconds_bucket{le=\"0.001\"} 1",
            "stenograph_exchange_seconds_bucket{le=\"+Inf\"} 1",
            "stenograph_exchange_seconds_count 1",
            "stenograph_recorder_failed 0",
            "stenograph_recorder_checkpoint_age_seconds 1.5",
            "stenograph_issuer_keys{issuer=\"https://a\\\"b\\\\c\"} 2",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        admin.stop();
        assert!(TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err());
    }

    /// Checked against the mutant that lets nobody give way.
    #[test]
    fn clients_that_say_nothing_keep_no_probe_waiting() {
        let local = "127.0.0.1:0".parse().unwrap();
        let admin = start(local, sources(Arc::default())).unwrap();
        let address = admin.address();
        let silent: Vec<TcpStream> =
            (0..300).map(|_| TcpStream::connect(address).unwrap()).collect();
        let begun = Instant::now();
        assert!(get(address, "/healthz").starts_with("HTTP/1.1 200 "));
        assert!(begun.elapsed() < Duration::from_millis(CLIENT_MS_MAX / 2), "it waited");
        let open = admin.served.lock().unwrap().open.len();
        assert!(open <= CONNECTIONS_MAX, "{open} connections");
        drop(silent);
        admin.stop();
    }

    #[test]
    fn every_sample_has_a_type() {
        let sources = sources(Arc::default());
        let page = render(&sources.metrics, (sources.recorder)(), &(sources.issuers)());
        let typed: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter_map(|line| line.split(' ').next())
            .collect();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end).filter(|name| typed.contains(name)))
                .unwrap_or(name);
            assert!(typed.contains(&family), "{line}");
            assert!(name.starts_with("stenograph_"), "{line}");
        }
    }
}
