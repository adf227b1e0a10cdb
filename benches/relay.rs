//! What one call costs in CPU, end to end, with nginx's plain forwarding beside it in the same run.
//!
//! `cargo bench --bench relay` stands the gateway (authenticated, judged, scanned, recorded at
//! `written`) and nginx (forwarding, nothing else) between the same closed-loop clients and the same
//! upstream, all keep-alive: `tools/call` of 1 KiB, answered with 1 KiB of JSON, the texts changing
//! from call to call. In every round each of the two is loaded for the same time, in random order;
//! the figure is the CPU time of the whole process (all threads: worker, writer, control) over the
//! calls completed, and the ratio is taken within a round, so that what else the machine does hits
//! both. Both are pinned to core 0 and the load to core 1; the record's writer runs where the
//! scheduler puts it and is counted.
//!
//! Settings by environment: `STENOGRAPH_RELAY_ROUNDS` (12), `STENOGRAPH_RELAY_MS` (1500 per round
//! and contestant), `STENOGRAPH_RELAY_CONNECTIONS` (32), `STENOGRAPH_RELAY_RELEASE` (`written`).
//! Without nginx on the machine only the gateway is measured.
//!
//! `STENOGRAPH_RELAY_TABLE=1 cargo bench --bench relay` asks instead what each release level adds to the
//! time of a call: one gateway for each of `queued`, `written` and `synced`, and nginx, in turn, at 1, 32
//! and 256 connections. The record lies where `TMPDIR` says; the kind of disk is printed.

#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use support::{Gateway, IdentityProvider, RESOURCE, field, find, free_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

/// Texts of calls and of answers; enough of them that compression finds no repeats within a window.
const TEXTS: usize = 256;
/// Bytes of a call's and of an answer's body.
const BODY_BYTES: usize = 1024;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A small generator (xorshift64): texts and the order of a round; nothing depends on its quality.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

const WORDS: [&str; 32] = [
    "generate", "handler", "module", "request", "return", "value", "import", "struct", "field",
    "customer", "order", "invoice", "public", "static", "widget", "service", "deploy", "cluster",
    "review", "branch", "commit", "release", "north", "river", "window", "yellow", "quick",
    "account", "total", "number", "update", "please",
];

/// Text that pads a body built by `wrap` to exactly [`BODY_BYTES`].
fn body(dice: &mut Dice, wrap: impl Fn(&str) -> String) -> String {
    let room = BODY_BYTES - wrap("").len();
    let mut text = String::new();
    while text.len() < room {
        let _ = write!(text, "{} {} ", WORDS[(dice.next() % 32) as usize], dice.next() % 10_000);
    }
    text.truncate(room);
    wrap(&text)
}

/// Answers every request with the next of `answers`.
async fn serve_upstream(listener: TcpListener, answers: Rc<Vec<Vec<u8>>>) {
    let turn = Rc::new(Cell::new(0usize));
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        let (answers, turn) = (answers.clone(), turn.clone());
        spawn_local(async move {
            let _ = stream.set_nodelay(true);
            let mut kept = Vec::with_capacity(16 * 1024);
            loop {
                let whole = find(&kept, b"\r\n\r\n").map(|end| {
                    let length: usize = field(&kept[..end], "content-length")
                        .and_then(|value| value.parse().ok())
                        .unwrap_or(0);
                    end + 4 + length
                });
                match whole {
                    Some(whole) if kept.len() >= whole => {
                        kept.drain(..whole);
                        turn.set((turn.get() + 1) % answers.len());
                        if stream.write_all(&answers[turn.get()]).await.is_err() {
                            return;
                        }
                    }
                    _ => match stream.read_buf(&mut kept).await {
                        Ok(read) if read > 0 => {}
                        _ => return,
                    },
                }
            }
        });
    }
}

/// What one contestant's clients share while they run.
#[derive(Default)]
struct Load {
    stop: Cell<bool>,
    calls: Cell<u64>,
    latencies_us: RefCell<Vec<u32>>,
}

/// One closed-loop client: a call, its whole answer, the next call.
async fn run_client(address: SocketAddr, calls: Rc<Vec<Vec<u8>>>, first: usize, load: Rc<Load>) {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let _ = stream.set_nodelay(true);
    let mut kept = Vec::with_capacity(16 * 1024);
    let mut turn = first;
    while !load.stop.get() {
        let begun = Instant::now();
        stream.write_all(&calls[turn % calls.len()]).await.expect("the call goes out");
        turn += 1;
        loop {
            if let Some(end) = find(&kept, b"\r\n\r\n") {
                let length: usize = field(&kept[..end], "content-length")
                    .and_then(|value| value.parse().ok())
                    .expect("answers by length");
                if kept.len() >= end + 4 + length {
                    assert!(
                        kept.starts_with(b"HTTP/1.1 200")
                            && find(&kept[end..], b"\"result\"").is_some(),
                        "not an answer: {}",
                        String::from_utf8_lossy(&kept)
                    );
                    kept.drain(..end + 4 + length);
                    break;
                }
            }
            let read = stream.read_buf(&mut kept).await.expect("reads");
            assert!(read > 0, "closed: {}", String::from_utf8_lossy(&kept));
        }
        load.calls.set(load.calls.get() + 1);
        load.latencies_us.borrow_mut().push(begun.elapsed().as_micros() as u32);
    }
}

/// CPU time in ns of every thread of some processes, summed by the thread's name.
fn cpu_ns(processes: &[u32]) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for process in processes {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{process}/task")) else { continue };
        for task in tasks.flatten() {
            let read =
                |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let spent = read("schedstat").split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
            *found.entry(read("comm").trim().to_owned()).or_default() += spent.unwrap_or(0);
        }
    }
    found
}

/// One of the two: where it listens and which processes it is.
struct Contestant {
    name: &'static str,
    address: SocketAddr,
    processes: Vec<u32>,
}

/// The figures of one round of one contestant.
struct Figures {
    cpu_us: f64,
    calls_per_s: f64,
    p50_us: u32,
    p99_us: u32,
    threads_us: BTreeMap<String, f64>,
}

async fn run_round(
    one: &Contestant,
    calls: &Rc<Vec<Vec<u8>>>,
    connections: u64,
    time: Duration,
) -> Figures {
    let load = Rc::new(Load::default());
    let before = cpu_ns(&one.processes);
    let begun = Instant::now();
    let clients: Vec<JoinHandle<()>> = (0..connections as usize)
        .map(|client| spawn_local(run_client(one.address, calls.clone(), client * 7, load.clone())))
        .collect();
    tokio::time::sleep(time).await;
    load.stop.set(true);
    for client in clients {
        client.await.expect("no client fails");
    }
    let took = begun.elapsed();
    // The record's writer signs up to 100 ms after the last flush: that belongs to these calls.
    tokio::time::sleep(Duration::from_millis(150)).await;
    let after = cpu_ns(&one.processes);
    let calls = load.calls.get().max(1) as f64;
    let threads_us: BTreeMap<String, f64> = after
        .iter()
        .map(|(name, ns)| {
            let spent = ns.saturating_sub(before.get(name).copied().unwrap_or(0));
            (name.clone(), spent as f64 / 1000.0 / calls)
        })
        .collect();
    let mut latencies = load.latencies_us.take();
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    Figures {
        cpu_us: threads_us.values().sum(),
        calls_per_s: calls / took.as_secs_f64(),
        p50_us: at(0.5),
        p99_us: at(0.99),
        threads_us,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}

/// nginx as a plain forwarder with one worker on core 0; `None` where it is not installed.
fn start_nginx(directory: &Path, upstream: SocketAddr) -> Option<(Child, Contestant)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let here = directory.display();
    let mut temporary = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(temporary, "    {kind}_temp_path {here}/nginx-{kind};");
    }
    let config = format!(
        r"daemon off;
worker_processes 1;
worker_cpu_affinity 1;
pid {here}/nginx.pid;
error_log {here}/nginx.log;
events {{ worker_connections 4096; }}
http {{
{temporary}
    access_log off;
    keepalive_requests 100000000;
    client_body_buffer_size 64k;
    upstream tools {{
        server {upstream};
        keepalive 512;
        keepalive_requests 100000000;
    }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://tools;
            proxy_http_version 1.1;
            proxy_set_header Connection '';
        }}
    }}
}}
"
    );
    let path = directory.join("nginx.conf");
    std::fs::write(&path, config).expect("config is written");
    let mut child = ["nginx", "/usr/sbin/nginx"].iter().find_map(|program| {
        Command::new(program)
            .args(["-e", &format!("{here}/nginx.log"), "-c"])
            .arg(&path)
            .stdin(Stdio::null())
            .spawn()
            .ok()
    })?;
    let begun = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        let ended = child.try_wait().expect("waiting works");
        assert!(
            ended.is_none() && begun.elapsed() < Duration::from_secs(10),
            "nginx does not start: {}",
            std::fs::read_to_string(directory.join("nginx.log")).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()));
    let mut processes = vec![child.id()];
    processes.extend(
        children.unwrap_or_default().split_whitespace().filter_map(|id| id.parse::<u32>().ok()),
    );
    Some((child, Contestant { name: "nginx", address, processes }))
}

fn end_nginx(mut child: Child) {
    let process = rustix::process::Pid::from_child(&child);
    let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
    let _ = child.wait();
}

/// The load runs on core 1. To be called last: a child process inherits the affinity of its parent.
fn pin_load() {
    let mut core = rustix::thread::CpuSet::new();
    core.set(1);
    if rustix::thread::sched_setaffinity(None, &core).is_err() {
        println!("no second core to pin the load to");
    }
}

/// File system and device of a directory, as `/proc/self/mounts` names them.
fn disk_of(directory: &Path) -> String {
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (device, point, kind) = (words.next()?, words.next()?, words.next()?);
            directory.starts_with(point).then(|| (point.len(), format!("{kind} on {device}")))
        })
        .max()
        .map_or_else(|| "unknown".to_owned(), |(_, text)| text)
}

/// The time of a call by level and connections, and what a level adds to nginx's in the same round.
async fn print_table(
    contestants: &[Contestant],
    calls: &Rc<Vec<Vec<u8>>>,
    rounds: u64,
    time: Duration,
    directory: &Path,
) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("record on {}; load {}; {rounds} rounds", disk_of(directory), load.trim());
    println!(
        "\n| connections | | p50 us | p99 us | added at p50 | added at p99 | calls/s |\n\
         |---|---|---|---|---|---|---|"
    );
    for connections in [1, 32, 256] {
        for one in contestants {
            run_round(one, calls, connections, Duration::from_millis(300)).await;
        }
        let mut kept: Vec<Vec<Figures>> = contestants.iter().map(|_| Vec::new()).collect();
        for round in 0..rounds as usize {
            for turn in 0..contestants.len() {
                let at = (round + turn) % contestants.len();
                kept[at].push(run_round(&contestants[at], calls, connections, time).await);
            }
        }
        let plain = kept.last().expect("nginx is the last");
        for (one, figures) in contestants.iter().zip(&kept) {
            let all = |take: fn(&Figures) -> f64| median(figures.iter().map(take).collect());
            let added = |take: fn(&Figures) -> f64| {
                median(
                    figures.iter().zip(plain).map(|(own, plain)| take(own) - take(plain)).collect(),
                )
            };
            println!(
                "| {connections} | {} | {:.0} | {:.0} | {:+.0} | {:+.0} | {:.0} |",
                one.name,
                all(|f| f64::from(f.p50_us)),
                all(|f| f64::from(f.p99_us)),
                added(|f| f64::from(f.p50_us)),
                added(|f| f64::from(f.p99_us)),
                all(|f| f.calls_per_s),
            );
        }
    }
}

async fn run(directory: &Path) {
    let rounds = setting("STENOGRAPH_RELAY_ROUNDS", 12);
    let time = Duration::from_millis(setting("STENOGRAPH_RELAY_MS", 1500));
    let connections = setting("STENOGRAPH_RELAY_CONNECTIONS", 32);
    let release = std::env::var("STENOGRAPH_RELAY_RELEASE").unwrap_or_else(|_| "written".into());
    let mut dice = Dice(0x5EED_CAFE_F00D_0001);

    let answers = (0..TEXTS).map(|_| {
        let body = body(&mut dice, |text| {
            format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#)
        });
        format!("HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .into_bytes()
    });
    let answers = Rc::new(answers.collect::<Vec<_>>());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let upstream = listener.local_addr().expect("bound");
    spawn_local(serve_upstream(listener, answers));

    let provider = IdentityProvider::start();
    let token = provider.token("builder", &["engineering"], RESOURCE);
    let calls = (0..TEXTS).map(|_| {
        let body = body(&mut dice, |text| {
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"{text}"}}}}}}"#
            )
        });
        format!(
            "POST /tools HTTP/1.1\r\nHost: mcp.example.test\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
             MCP-Protocol-Version: 2025-11-25\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    });
    let calls = Rc::new(calls.collect::<Vec<_>>());

    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    if setting("STENOGRAPH_RELAY_TABLE", 0) == 1 {
        let make = |release: &'static str| {
            let directory = directory.join(release);
            std::fs::create_dir(&directory).expect("a directory");
            let mut gateway =
                Gateway::prepare(&binary, &directory, &provider, upstream, "[0]", release, "");
            gateway.start();
            let (address, processes) = (gateway.address, vec![gateway.id()]);
            (gateway, Contestant { name: release, address, processes })
        };
        let (mut gateways, mut contestants): (Vec<_>, Vec<_>) =
            ["queued", "written", "synced"].into_iter().map(make).unzip();
        let nginx = start_nginx(directory, upstream);
        let (child, contestant) = nginx.expect("nginx is installed (Debian: nginx-light)");
        contestants.push(contestant);
        pin_load();
        print_table(&contestants, &calls, rounds, time, directory).await;
        end_nginx(child);
        assert!(gateways.iter_mut().all(Gateway::stop), "the gateways stop");
        return;
    }
    let mut gateway =
        Gateway::prepare(&binary, directory, &provider, upstream, "[0]", &release, "");
    // Blocking is fine: nothing of the load runs yet, and the key set comes from other threads.
    gateway.start();
    let nginx = start_nginx(directory, upstream);
    let mut contestants = vec![Contestant {
        name: "stenograph",
        address: gateway.address,
        processes: vec![gateway.id()],
    }];
    let mut nginx_process = None;
    match nginx {
        Some((child, contestant)) => {
            nginx_process = Some(child);
            contestants.push(contestant);
        }
        None => {
            println!("nginx is not installed (Debian: nginx-light); measuring the gateway alone")
        }
    }

    pin_load();
    println!("{connections} connections, {} ms a round, release = {release}", time.as_millis());
    for one in &contestants {
        run_round(one, &calls, connections, Duration::from_millis(700)).await;
    }
    let mut kept: BTreeMap<&str, Vec<Figures>> = BTreeMap::new();
    for _ in 0..rounds {
        let first = dice.next() as usize % contestants.len();
        for turn in 0..contestants.len() {
            let one = &contestants[(first + turn) % contestants.len()];
            kept.entry(one.name).or_default().push(run_round(one, &calls, connections, time).await);
        }
    }
    println!(
        "\n| | CPU us/call p25 | median | p75 | calls/s median | p50 us | p99 us |\n|---|---|---|---|---|---|---|"
    );
    for (name, figures) in &kept {
        let all = |take: fn(&Figures) -> f64| figures.iter().map(take).collect::<Vec<_>>();
        println!(
            "| {name} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} | {:.0} |",
            quantile(all(|f| f.cpu_us), 0.25),
            median(all(|f| f.cpu_us)),
            quantile(all(|f| f.cpu_us), 0.75),
            median(all(|f| f.calls_per_s)),
            median(all(|f| f64::from(f.p50_us))),
            median(all(|f| f64::from(f.p99_us))),
        );
    }
    let mut threads: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for figures in &kept["stenograph"] {
        for (name, us) in &figures.threads_us {
            threads.entry(name).or_default().push(*us);
        }
    }
    println!("\nCPU us/call by thread (median):");
    for (name, values) in threads {
        let value = median(values);
        if value >= 0.05 {
            println!("  {name}: {value:.1}");
        }
    }
    if let Some(nginx) = kept.get("nginx") {
        let ratios: Vec<f64> =
            kept["stenograph"].iter().zip(nginx).map(|(a, b)| a.cpu_us / b.cpu_us).collect();
        println!(
            "\nstenograph / nginx, paired: median {:.2} (p25 {:.2}, p75 {:.2}, {} rounds)",
            median(ratios.clone()),
            quantile(ratios.clone(), 0.25),
            quantile(ratios.clone(), 0.75),
            ratios.len()
        );
    }
    if let Some(child) = nginx_process {
        end_nginx(child);
    }
    assert!(gateway.stop(), "the gateway stops");
    let (code, said, why) = gateway.command(&["verify", "--json", "--key", &gateway.verifier]);
    assert_eq!(code, 0, "the record of the run: {said}{why}");
    println!("the record of the run verifies: {}", said.trim());
}

fn main() {
    // `cargo test --benches` asks for a quick look only.
    if std::env::args().any(|word| word == "--test") {
        return;
    }
    let directory = tempfile::tempdir().expect("directory");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(LocalSet::new().run_until(run(directory.path())));
}
