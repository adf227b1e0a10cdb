//! Thousands of connections that are slow, or say nothing, cost memory by the page and nobody's time.
//!
//! They stand in front of one worker: silent from the start, in the middle of a head, in the middle of
//! a body, between two calls, and on an event stream whose server says nothing. The process may grow by
//! at most 4 KiB for each, and the calls of somebody else meanwhile take what they took before.
//!
//! `STENOGRAPH_IDLE_CONNECTIONS` (6000) and `STENOGRAPH_IDLE_ROUNDS` (2) make it the full run: 10000 and 9.
//! It needs two descriptors for each connection with a stream and one for each other, on both sides.
//!
//! Checked against the mutant "a receive makes its room at once", which keeps 8 KiB for each.

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{
    Gateway, IdentityProvider, RESOURCE, call, field, listen, read_answer, read_head, read_up_to,
};

/// User memory of one connection that waits, in bytes.
const BYTES_MAX: usize = 4096;

/// Calls of one sample.
const CALLS: usize = 1000;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A server whose streams stay silent and whose calls are answered at once.
struct Server {
    address: SocketAddr,
    /// Streams that were opened.
    streams: Arc<AtomicUsize>,
}

impl Server {
    fn start() -> Server {
        let (listener, address) = listen();
        // Why: streams open faster than one thread accepts them, and the library's backlog is 128.
        rustix::net::listen(&listener, 4096).expect("a longer backlog");
        let streams = Arc::new(AtomicUsize::new(0));
        let counted = streams.clone();
        thread::spawn(move || Server::accept(listener, counted));
        Server { address, streams }
    }

    fn accept(listener: TcpListener, streams: Arc<AtomicUsize>) {
        for stream in listener.incoming().flatten() {
            let streams = streams.clone();
            let serve = move || Server::serve(stream, &streams);
            thread::Builder::new().stack_size(64 * 1024).spawn(serve).expect("a thread");
        }
    }

    fn serve(mut stream: TcpStream, streams: &AtomicUsize) -> Option<()> {
        let mut kept = Vec::new();
        while let Ok(Some(head)) = read_head(&mut stream, &mut kept) {
            if head.starts_with(b"GET ") {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                            Transfer-Encoding: chunked\r\n\r\n";
                stream.write_all(head.as_bytes()).ok()?;
                streams.fetch_add(1, Ordering::Relaxed);
                // Kept open until the gateway ends it, without a thread.
                std::mem::forget(stream);
                return None;
            }
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
}

/// In which state a connection waits.
#[derive(Debug, Clone, Copy)]
enum Waiting {
    Silent,
    SlowHead,
    SlowBody,
    BetweenCalls,
    SilentStream,
}

const ALL: [Waiting; 5] = [
    Waiting::Silent,
    Waiting::SlowHead,
    Waiting::SlowBody,
    Waiting::BetweenCalls,
    Waiting::SilentStream,
];

/// The world of the test: a gateway with one worker, and who calls it.
struct World {
    gateway: Gateway,
    server: Server,
    admin: SocketAddr,
    token: String,
    _directory: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let directory = tempfile::tempdir().expect("directory");
        let provider = IdentityProvider::start();
        let server = Server::start();
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, support::free_port()));
        let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
        let mut gateway = Gateway::prepare(
            Path::new(&binary),
            directory.path(),
            &provider,
            server.address,
            "[0]",
            "written",
            &format!("[admin]\naddress = \"{admin}\"\n"),
        );
        gateway.start();
        let token = provider.token("builder", &["engineering"], RESOURCE);
        World { gateway, server, admin, token, _directory: directory }
    }

    /// Resident memory of the gateway that is its own and not a file's, in bytes.
    fn own_bytes(&self) -> usize {
        let told = std::fs::read_to_string(format!("/proc/{}/status", self.gateway.id()));
        let told = told.expect("it runs");
        let line = told.lines().find(|line| line.starts_with("RssAnon:")).expect("RssAnon");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("KiB")
            * 1024
    }

    /// Connections that the gateway counts as open.
    fn open(&self) -> usize {
        let mut stream = TcpStream::connect(self.admin).expect("the admin endpoint");
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("it asks");
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        let gauge = "stenograph_connections_open{peer=\"client\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(gauge));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("{text}"))
    }

    fn wait_open(&self, count: usize) {
        let begun = Instant::now();
        while self.open() != count {
            assert!(begun.elapsed() < Duration::from_secs(60), "{} of {count}", self.open());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// A connection in this state.
    fn connect(&self, waiting: Waiting) -> TcpStream {
        let mut stream = TcpStream::connect(self.gateway.address).expect("it connects");
        let whole = call("/tools", &self.token, 1, "hello");
        match waiting {
            Waiting::Silent => {}
            Waiting::SlowHead => stream.write_all(&whole[..60]).expect("a part of a head"),
            Waiting::SlowBody => {
                stream.write_all(&whole[..whole.len() - 20]).expect("a part of a body");
            }
            Waiting::BetweenCalls => {
                stream.write_all(&whole).expect("a call");
                let answer = read_answer(&mut stream, &mut Vec::new(), &mut Vec::new());
                assert_eq!(answer.expect("an answer").0, 200);
            }
            Waiting::SilentStream => {
                let head = format!(
                    "GET /tools HTTP/1.1\r\nHost: mcp.example.test\r\nAuthorization: Bearer {}\r\n\
                     Accept: text/event-stream\r\n\r\n",
                    self.token
                );
                stream.write_all(head.as_bytes()).expect("it asks for a stream");
                let head = read_head(&mut stream, &mut Vec::new()).expect("a head");
                assert_eq!(support::status(&head.expect("a head")), 200);
            }
        }
        stream
    }

    /// Times of single calls on one connection, in microseconds, in order of length.
    fn sample(&self) -> Vec<u64> {
        let mut stream = TcpStream::connect(self.gateway.address).expect("it connects");
        let _ = stream.set_nodelay(true);
        let bytes = call("/tools", &self.token, 1, "hello");
        let (mut kept, mut seen) = (Vec::new(), Vec::new());
        let mut times: Vec<u64> = (0..CALLS)
            .map(|_| {
                let begun = Instant::now();
                stream.write_all(&bytes).expect("a call");
                let answer = read_answer(&mut stream, &mut kept, &mut seen).expect("an answer");
                assert_eq!(answer.0, 200);
                seen.clear();
                begun.elapsed().as_micros() as u64
            })
            .collect();
        times.sort_unstable();
        times
    }
}

/// The time that so many of a hundred calls stay under.
fn percentile(times: &[u64], of_hundred: usize) -> u64 {
    times[times.len() * of_hundred / 100]
}

fn median<T: Copy + PartialOrd>(mut all: Vec<T>) -> T {
    all.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    all[all.len() / 2]
}

#[test]
fn who_waits_costs_at_most_four_kibibytes_and_nobodys_time() {
    let many = setting("STENOGRAPH_IDLE_CONNECTIONS", 6000);
    let rounds = setting("STENOGRAPH_IDLE_ROUNDS", 2);
    let world = World::new();
    world.sample();
    let open = |count: usize| -> Vec<TcpStream> {
        (0..count).map(|at| world.connect(ALL[at % ALL.len()])).collect()
    };

    let begun = world.own_bytes();
    let first = open(many / 2);
    world.wait_open(first.len());
    let before = world.own_bytes();
    let others = open(many - first.len());
    world.wait_open(many);
    let after = world.own_bytes();
    let each = after.saturating_sub(before) / others.len();
    let in_all = after.saturating_sub(begun) / many;
    println!("{each} bytes for each of the later half of {many}, {in_all} for each of all");
    assert!(each <= BYTES_MAX, "{each} bytes for each connection");
    // The first take what any number of them needs once: pages of the allocator, tables.
    assert!(many < 10_000 || in_all <= BYTES_MAX, "{in_all} bytes for each connection");
    drop((first, others));
    world.wait_open(0);

    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        alone.push(world.sample());
        let waiting = open(many);
        world.wait_open(many);
        beside.push(world.sample());
        drop(waiting);
        world.wait_open(0);
    }
    let of = |samples: &[Vec<u64>], of_hundred: usize| -> Vec<u64> {
        samples.iter().map(|times| percentile(times, of_hundred)).collect()
    };
    for of_hundred in [50, 99] {
        let (alone, beside) = (of(&alone, of_hundred), of(&beside, of_hundred));
        println!("p{of_hundred} alone {alone:?} us, beside {many} that wait {beside:?} us");
    }
    // A few rounds on a busy machine say nothing about the slowest calls: there the best middle of each
    // side counts, for what waits is there in every round, and what else the machine does is not.
    let (ratio, allowed) = match rounds {
        9.. => (median(of(&beside, 99)) as f64 / median(of(&alone, 99)) as f64, 1.10),
        _ => {
            let best = |samples: &[Vec<u64>]| of(samples, 50).into_iter().min().expect("a round");
            (best(&beside) as f64 / best(&alone) as f64, 2.0)
        }
    };
    println!("it moves by a factor of {ratio:.2}");
    assert!(ratio < allowed, "the calls of others wait: {ratio:.2}");
    assert!(world.server.streams.load(Ordering::Relaxed) > 0, "no stream was open");
}
