//! Thousands of connections that are slow, or say nothing, cost memory by the page and nobody's time.
//!
//! They stand in front of one worker: silent from the start, in the middle of a head, in the middle of
//! a body, between two calls, and on an event stream whose server says nothing. The process may grow by
//! at most 4 KiB for each of whatever kind, and by 3.6 KiB where they are mixed; the calls of somebody
//! else meanwhile take what they take at a second gateway of the same build before which nobody waits.
//!
//! `STENOGRAPH_IDLE_CONNECTIONS` (6000) and `STENOGRAPH_IDLE_ROUNDS` (2) make it the full run: 10000 and 9,
//! on a machine that does nothing else.
//! It needs two descriptors for each connection with a stream and one for each other, on both sides.
//!
//! Memory was checked against the mutant "a receive makes its room at once" (5.9 KiB for each that is
//! silent), time against "whatever the record wakes looks at every connection".

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::{
    Gateway, IdentityProvider, RESOURCE, call, field, listen, read_answer, read_head, read_up_to,
    setting,
};

/// User memory of one connection that waits, in bytes, of whatever kind.
const BYTES_MAX: usize = 4096;

/// The same where the kinds are mixed.
const MIXED_BYTES_MAX: usize = 3686;

/// What the kernel gives at once where transparent huge pages are on (x86-64).
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Connections of one kind: as many first, to warm up, and as many that are measured.
const OF_A_KIND: usize = 1500;

/// Calls that one gateway answers before it is the other's turn.
const CALLS: usize = 100;

/// Turns of each gateway in one round, unless [`ROUND`] is over before.
const TURNS: usize = 40;

/// Tries on a busy machine: who is slow is cut off 10 s after its first byte.
const TRIES: usize = 3;

/// Time for the calls of one round.
const ROUND: Duration = Duration::from_secs(5);

/// A server whose streams stay silent and whose calls are answered at once.
struct Server {
    address: SocketAddr,
    /// Streams that are open.
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Server {
    fn start() -> Server {
        let (listener, address) = listen();
        // Why: streams open faster than one thread accepts them, and the library's backlog is 128.
        rustix::net::listen(&listener, 4096).expect("a longer backlog");
        let streams = Arc::default();
        let kept = Arc::clone(&streams);
        thread::spawn(move || Server::accept(listener, kept));
        Server { address, streams }
    }

    fn accept(listener: TcpListener, streams: Arc<Mutex<Vec<TcpStream>>>) {
        for stream in listener.incoming().flatten() {
            let streams = streams.clone();
            let serve = move || Server::serve(stream, &streams);
            thread::Builder::new().stack_size(64 * 1024).spawn(serve).expect("a thread");
        }
    }

    fn serve(mut stream: TcpStream, streams: &Mutex<Vec<TcpStream>>) -> Option<()> {
        let mut kept = Vec::new();
        while let Ok(Some(head)) = read_head(&mut stream, &mut kept) {
            if head.starts_with(b"GET ") {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                            Transfer-Encoding: chunked\r\n\r\n";
                stream.write_all(head.as_bytes()).ok()?;
                // Kept open without a thread.
                streams.lock().expect("no panic").push(stream);
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

    /// The gateway has ended all streams; they are given back. How many they were.
    fn ended_streams(&self) -> usize {
        let streams = std::mem::take(&mut *self.streams.lock().expect("no panic"));
        for mut stream in &streams {
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
            assert_eq!(stream.read(&mut [0; 1]).ok(), Some(0), "a stream was not ended");
        }
        streams.len()
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

/// Who calls a gateway and whom it calls.
struct World {
    provider: IdentityProvider,
    server: Server,
    token: String,
}

/// A gateway with one worker.
struct House {
    gateway: Gateway,
    admin: SocketAddr,
    token: String,
    _directory: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let provider = IdentityProvider::start();
        let token = provider.token("builder", &["engineering"], RESOURCE);
        World { provider, server: Server::start(), token }
    }

    fn house(&self) -> House {
        let directory = tempfile::tempdir().expect("directory");
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, support::free_port()));
        let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
        let mut gateway = Gateway::prepare(
            Path::new(&binary),
            directory.path(),
            &self.provider,
            self.server.address,
            "[0]",
            "written",
            &format!("[admin]\naddress = \"{admin}\"\n"),
        );
        gateway.start();
        let house = House { gateway, admin, token: self.token.clone(), _directory: directory };
        // Whatever is set up once is set up.
        house.calls(&mut house.connect(Waiting::Silent), 1000);
        assert!(house.comes_to(0));
        house
    }

    /// What each connection costs that waits so, the gateway being warm, and each from the first on.
    fn cost(&self, waiting: &[Waiting], many: usize) -> (usize, usize) {
        let cost = (0..TRIES).find_map(|_| self.try_cost(waiting, many));
        cost.expect(
            "who is slow is cut off after 10 s, and this machine needs longer to connect them",
        )
    }

    /// `None` when it took so long that somebody was cut off.
    fn try_cost(&self, waiting: &[Waiting], many: usize) -> Option<(usize, usize)> {
        let house = self.house();
        let open = |count: usize| -> Vec<TcpStream> {
            (0..count).map(|at| house.connect(waiting[at % waiting.len()])).collect()
        };
        let begun = house.own_bytes();
        let first = open(many / 2);
        let warm = house.comes_to(first.len());
        let before = house.own_bytes();
        let others = open(many - first.len());
        let all = warm && house.comes_to(many);
        let after = house.own_bytes();
        let each = after.saturating_sub(before) / others.len();
        let in_all = after.saturating_sub(begun) / many;
        drop((first, others));
        assert!(house.comes_to(0));
        self.server.ended_streams();
        all.then(|| {
            println!(
                "{each} bytes for each of the later half of {many} {waiting:?}, {in_all} in all"
            );
            (each, in_all)
        })
    }
}

impl House {
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

    /// So many are open within 15 s.
    fn comes_to(&self, count: usize) -> bool {
        let begun = Instant::now();
        while self.open() != count {
            if begun.elapsed() > Duration::from_secs(15) {
                return false;
            }
            thread::sleep(Duration::from_millis(50));
        }
        true
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

    /// Times of so many calls, one after the other, in microseconds.
    fn calls(&self, stream: &mut TcpStream, count: usize) -> Vec<u64> {
        let _ = stream.set_nodelay(true);
        let bytes = call("/tools", &self.token, 1, "hello");
        let (mut kept, mut seen) = (Vec::new(), Vec::new());
        (0..count)
            .map(|_| {
                let begun = Instant::now();
                stream.write_all(&bytes).expect("a call");
                let answer = read_answer(stream, &mut kept, &mut seen).expect("an answer");
                assert_eq!(answer.0, 200);
                seen.clear();
                begun.elapsed().as_micros() as u64
            })
            .collect()
    }
}

/// The time that so many of a hundred calls stay under.
fn percentile(times: &mut [u64], of_hundred: usize) -> u64 {
    times.sort_unstable();
    times[times.len() * of_hundred / 100]
}

/// The middle of the best turn.
fn best_turn(times: &[u64]) -> u64 {
    let turns = times.chunks(CALLS).map(|turn| percentile(&mut turn.to_vec(), 50));
    turns.min().expect("a turn")
}

fn median<T: Copy + PartialOrd>(mut all: Vec<T>) -> T {
    all.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    all[all.len() / 2]
}

/// One at a time: both need most of the machine, and of its descriptors.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn who_waits_costs_at_most_four_kibibytes() {
    let _alone = ALONE.lock();
    let world = World::new();
    let many = setting("STENOGRAPH_IDLE_CONNECTIONS", 6000);
    for waiting in ALL {
        // Why: the allocator takes memory by 2 MiB where it may, which so few connections cannot tell from
        // their own.
        rustix::thread::disable_transparent_huge_pages(true).expect("prctl");
        // What else grows meanwhile only adds: a second and a third look at what was over.
        let mut each = usize::MAX;
        for _ in 0..3 {
            each = each.min(world.cost(&[waiting], 2 * OF_A_KIND).0);
            if each <= BYTES_MAX {
                break;
            }
        }
        assert!(each <= BYTES_MAX, "{each} bytes for each connection: {waiting:?}");
    }
    rustix::thread::disable_transparent_huge_pages(false).expect("prctl");
    let (each, in_all) = world.cost(&ALL, many);
    // One page more or less of 2 MiB for the later half is no matter of a connection's.
    let page = HUGE_PAGE_BYTES / (many / 2);
    assert!(each <= MIXED_BYTES_MAX + page, "{each} bytes for each connection");
    // The first take what any number of them needs once: pages of the allocator, tables.
    assert!(many < 10_000 || in_all <= MIXED_BYTES_MAX, "{in_all} bytes for each connection");
}

/// One round: many wait before one gateway and none before the other, and the same caller calls both by
/// turns. So whatever else the machine does befalls both. Gives the times at either, or `None` when
/// somebody who waits was cut off meanwhile.
fn round(
    world: &World,
    beside: &House,
    alone: &House,
    many: usize,
) -> Option<(Vec<u64>, Vec<u64>)> {
    // Why by kind: who is slow is cut off after 10 s, so those come last.
    let mut waiting = Vec::with_capacity(many);
    for kind in ALL.iter().rev() {
        waiting.extend((0..many / ALL.len()).map(|_| beside.connect(*kind)));
    }
    let all = beside.comes_to(waiting.len());
    let (mut to_beside, mut to_alone) =
        (beside.connect(Waiting::Silent), alone.connect(Waiting::Silent));
    let (mut at_beside, mut at_alone) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    for turn in (0..TURNS).take_while(|turn| *turn < 4 || begun.elapsed() < ROUND) {
        if turn % 2 == 0 {
            at_beside.extend(beside.calls(&mut to_beside, CALLS));
            at_alone.extend(alone.calls(&mut to_alone, CALLS));
        } else {
            at_alone.extend(alone.calls(&mut to_alone, CALLS));
            at_beside.extend(beside.calls(&mut to_beside, CALLS));
        }
    }
    let all = all && beside.open() == waiting.len() + 1;
    drop((waiting, to_beside, to_alone));
    assert!(beside.comes_to(0) && alone.comes_to(0));
    assert_eq!(world.server.ended_streams(), many / ALL.len());
    all.then_some((at_beside, at_alone))
}

#[test]
fn who_waits_costs_nobodys_time() {
    let _alone = ALONE.lock();
    let many = setting("STENOGRAPH_IDLE_CONNECTIONS", 6000);
    let rounds = setting("STENOGRAPH_IDLE_ROUNDS", 2);
    let world = World::new();
    let houses = [world.house(), world.house()];
    let mut ratios = [Vec::new(), Vec::new()];
    let (mut all_beside, mut all_alone) = (Vec::new(), Vec::new());
    let (mut best_beside, mut best_alone) = (u64::MAX, u64::MAX);
    for at in 0..rounds {
        // Why in turn: two processes of one build are not equally fast, by chance of their addresses.
        let (beside, alone) = (&houses[at % 2], &houses[1 - at % 2]);
        let times = (0..TRIES).find_map(|_| round(&world, beside, alone, many));
        let (mut beside, mut alone) = times.expect("who waits is cut off: calls take too long");
        best_beside = best_beside.min(best_turn(&beside));
        best_alone = best_alone.min(best_turn(&alone));
        for (ratios, of_hundred) in ratios.iter_mut().zip([50, 99]) {
            let (there, here) =
                (percentile(&mut beside, of_hundred), percentile(&mut alone, of_hundred));
            println!("p{of_hundred} beside {many} that wait {there} us, alone {here} us");
            ratios.push(there as f64 / here as f64);
        }
        all_beside.append(&mut beside);
        all_alone.append(&mut alone);
    }
    for of_hundred in [50, 99] {
        let there = percentile(&mut all_beside, of_hundred);
        let here = percentile(&mut all_alone, of_hundred);
        println!("p{of_hundred} of all rounds beside {there} us, alone {here} us");
    }
    let [middle, slowest] = ratios.map(median);
    println!("by the median of {rounds} rounds p50 moves by {middle:.3}, p99 by {slowest:.3}");
    let best = best_beside as f64 / best_alone as f64;
    println!("the best turns have {best_beside} us beside who waits, {best_alone} us alone");
    // A few rounds on a busy machine say nothing about the slowest calls: there the best turns count, for
    // who waits is there in every turn, and what else the machine does is not.
    let (ratio, allowed) = if rounds >= 9 { (slowest, 1.10) } else { (best, 1.5) };
    assert!(ratio < allowed, "the calls of others wait: {ratio:.2}");
}
