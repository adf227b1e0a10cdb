//! Everything that can fail around a running gateway, end to end over loopback: memory, disk, upstream,
//! identity provider, a worker itself; and access that ends while a stream is open.

mod record_support;

#[path = "faults/odd.rs"]
mod odd;

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use stenograph::app::config::Config;
use stenograph::app::demo::idp::{Idp, SigningKey};
use stenograph::app::demo::world::{PATH, PlainClient, Plan, World};
use stenograph::app::serve::{Gateway, Host};
use stenograph::audit::Exit;
use stenograph::audit::verify::{VerifyOptions, run as verify};
use stenograph::auth::keys::Algorithm;
use stenograph::record::PartKind;
use stenograph::record::disk::{Directory, Files};
use stenograph::record::entry::EntryView;
use stenograph::record::keys::VerifierKey;
use stenograph::record::note::Checkpoint;
use stenograph::record::reader::{Checks, Reading, read};
use stenograph::record::scan::{Place, Sink};
use stenograph::record::writer::system_now;

use odd::{Odd, answer_to};
use record_support::{How, MemoryDisk, until};

fn world(plan: Plan) -> (tempfile::TempDir, World) {
    let directory = tempfile::tempdir().unwrap();
    let world = World::start(&directory.path().join("world"), plan).unwrap();
    (directory, world)
}

fn assert_intact(record: &Path, verifier: &str) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let key = Some(VerifierKey::parse(verifier).unwrap());
    let options = VerifyOptions {
        directory: record.to_owned(),
        key,
        since: Vec::new(),
        witnesses: Vec::new(),
        json: true,
        threads: std::num::NonZeroUsize::MIN,
    };
    let exit = verify(&options, &mut out, &mut err).unwrap();
    let text = String::from_utf8_lossy(&out).into_owned() + &String::from_utf8_lossy(&err);
    assert_eq!(exit, Exit::Done, "{text}");
}

fn connect(world: &World) -> PlainClient {
    PlainClient::connect(world.address()).unwrap()
}

fn call(world: &World, id: u64, text: &str) -> stenograph::app::demo::world::Answer {
    connect(world).call(&world.engineer(), id, "echo", text).unwrap()
}

/// Resident bytes of this process.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

// Checked against the mutant "the budget is endless": `grow_to` always takes.
#[test]
fn a_thousand_maximal_bodies_at_once_end_in_refusals() {
    let more = "[limits]\ninflight_bytes_max = \"16MiB\"\nbody_ms_max = \"20s\"\n";
    let (_directory, world) = world(Plan { more: more.to_owned(), ..Plan::default() });
    let token = world.engineer();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 4194304\r\n\r\n"
    );
    let piece = vec![b' '; 64 * 1024];
    let before = resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..1000 {
        let mut client = connect(&world);
        client.send(head.as_bytes()).unwrap();
        client.stream().set_nonblocking(true).unwrap();
        clients.push(client);
    }
    // Whoever is refused has stopped listening: what the socket does not take is left out.
    for _ in 0..4 {
        for client in &mut clients {
            let _ = client.stream().write(&piece);
        }
    }
    until("refusals", || world.gateway.inflight_bytes() <= 16 << 20);
    std::thread::sleep(Duration::from_millis(300));
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 96 << 20, "{} MiB more", grown >> 20);
    let mut refused = 0;
    for client in &mut clients {
        client.stream().set_nonblocking(false).unwrap();
        client.stream().set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        // An answer may be lost to the reset that follows what was sent behind it.
        if client.answer().is_ok_and(|answer| {
            assert_eq!(answer.status, 503);
            assert!(answer.field("retry-after").is_some());
            true
        }) {
            refused += 1;
        }
    }
    assert!(refused > 900, "{refused} of 1000 were refused");
    assert!(world.server.seen().is_empty());
    drop(clients);
    until("the memory to be given back", || world.gateway.inflight_bytes() == 0);
    assert_eq!(call(&world, 1, "after the storm").status, 200);
    world.gateway.stop().unwrap();
}

#[test]
fn a_panic_in_a_worker_stops_the_gateway_with_a_sealed_record() {
    let bomb = Arc::new(AtomicBool::new(false));
    let lit = bomb.clone();
    let clock = Arc::new(move || {
        let here = std::thread::current();
        if lit.load(Ordering::Relaxed) && here.name().is_some_and(|name| name.starts_with("worker"))
        {
            panic!("the test wants a panic here");
        }
        system_now()
    });
    let host = Host { clock: Some(clock), ..Host::default() };
    let (_directory, world) = world(Plan { host, ..Plan::default() });
    assert_eq!(call(&world, 1, "before").status, 200);
    assert!(!world.gateway.is_broken());
    bomb.store(true, Ordering::Relaxed);
    let _ = connect(&world).send(b"GET ");
    until("the gateway to see it", || world.gateway.is_broken());
    bomb.store(false, Ordering::Relaxed);
    let (record, verifier) = (world.record(), world.verifier.clone());
    assert!(world.gateway.stop().is_err());
    assert_intact(&record, &verifier);
    let text = std::fs::read(record.join("segments/00000000.seg")).unwrap();
    let sealed = text.windows(7).any(|window| window == b"\nsealed");
    assert!(sealed, "the segment is not sealed");
}

// Checked against the mutant "released before it is recorded": `Held::ready` is always true.
#[test]
fn a_stalled_disk_holds_calls_back_and_a_failing_one_refuses_them() {
    let disk = MemoryDisk::new();
    let host = Host { disk: Some(Box::new(disk.clone())), ..Host::default() };
    let (_directory, world) = world(Plan { host, ..Plan::default() });
    let token = world.engineer();
    let mut client = connect(&world);
    assert_eq!(client.call(&token, 1, "echo", "first").unwrap().status, 200);

    disk.stall(true);
    client.stream().set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    assert!(client.call(&token, 2, "echo", "held").is_err(), "an answer without a record");
    assert_eq!(world.server.seen().len(), 1, "a call without a record");
    disk.stall(false);
    client.stream().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(client.answer().unwrap().json()["id"], 2);
    assert_eq!(world.server.seen().len(), 2);

    // A stream that is open: nothing more comes out.
    let mut stream = connect(&world);
    stream.open_stream(&token).unwrap();
    stream.head().unwrap();
    stream.some().unwrap();
    disk.stall(true);
    stream.stream().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    // What was recorded before the stall may still arrive.
    let start = Instant::now();
    while stream.some().is_ok() {
        assert!(start.elapsed() < Duration::from_secs(5), "events without a record");
    }
    disk.stall(false);
    stream.stream().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.some().unwrap();

    disk.fail(disk.calls()..u64::MAX, How::Enospc);
    let start = Instant::now();
    while stream.some().unwrap() > 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "events without a record");
    }
    assert!(String::from_utf8_lossy(stream.buffer()).contains("-31005"));
    let seen = world.server.seen().len();
    let refused = call(&world, 3, "refused");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.field("retry-after").is_some());
    assert_eq!(refused.json()["error"]["code"], -31005);
    assert_eq!(world.server.seen().len(), seen, "forwarded without a record");
    assert!(!world.gateway.is_ready());
    disk.fail(0..0, How::Eio);
    until("the record to go on", || world.gateway.is_ready());
    assert_eq!(call(&world, 4, "again").status, 200);
    drop((client, stream));
    world.gateway.stop().unwrap();
}

fn is_ready(world: &World) -> u16 {
    let mut admin = PlainClient::connect(world.gateway.admin_address().unwrap()).unwrap();
    admin.send(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    admin.answer().unwrap().status
}

// Mutant: the failure is published after the first retry and not at once.
#[test]
fn a_failing_disk_is_told_within_a_tenth_of_a_second() {
    for how in [How::Eio, How::Enospc, How::Edquot, How::Erofs, How::ShortNone, How::Short] {
        let disk = MemoryDisk::new();
        let host = Host { disk: Some(Box::new(disk.clone())), ..Host::default() };
        let more = "[admin]\naddress = \"127.0.0.1:0\"\n".to_owned();
        let (_directory, world) = world(Plan { host, more, ..Plan::default() });
        assert_eq!(call(&world, 1, "before").status, 200);
        assert_eq!(is_ready(&world), 200);
        let token = world.engineer();
        let mut fastest = Duration::MAX;
        // More than once, because a machine that is busy elsewhere may not run the gateway for as long.
        for _ in 0..5 {
            let mut client = connect(&world);
            disk.fail(disk.calls()..u64::MAX, how);
            let start = Instant::now();
            let refused = client.call(&token, 2, "echo", "refused").unwrap();
            fastest = fastest.min(start.elapsed());
            assert_eq!(refused.status, 503, "{how:?}: {refused:?}");
            assert_eq!(is_ready(&world), 503, "{how:?}");
            assert_eq!(world.server.seen().len(), 1, "{how:?}: forwarded without a record");
            disk.heal();
            until("the record to go on", || world.gateway.is_ready());
            assert_eq!(is_ready(&world), 200);
            if fastest < Duration::from_millis(100) {
                break;
            }
        }
        assert!(fastest < Duration::from_millis(100), "{how:?}: {fastest:?}");
        assert_eq!(call(&world, 3, "after").status, 200, "{how:?}");
        world.gateway.stop().unwrap();
    }
}

// A disk that is slow and does not fail: calls take longer, none is refused before the bound of waiting
// (`recorder_ms_max`), and what waits stays within its bounds. Mutants: a full queue is a refusal;
// whoever waits for room in the queue is woken and does not try again.
#[test]
fn a_slow_disk_makes_callers_wait_and_refuses_nobody_before_the_bound() {
    let disk = MemoryDisk::new();
    let host = Host { disk: Some(Box::new(disk.clone())), ..Host::default() };
    let more = "[limits]\nrecorder_ms_max = \"8s\"\nrecorder_queue_entries_max = 16\n".to_owned();
    let (_directory, world) = world(Plan { host, more, ..Plan::default() });
    let token = world.engineer();
    assert_eq!(call(&world, 1, "before").status, 200);
    std::thread::scope(|scope| {
        disk.stall(true);
        let clients: Vec<_> = (0..40u64)
            .map(|id| {
                let (world, token) = (&world, &token);
                scope.spawn(move || {
                    let mut client = connect(world);
                    client.call(token, 100 + id, "echo", "waits").unwrap().status
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(1500));
        assert!(clients.iter().all(|client| !client.is_finished()), "answered without a record");
        assert!(world.gateway.progress().queued_entries() <= 16);
        assert!(world.gateway.is_ready(), "lagging is not failing");
        assert_eq!(world.server.seen().len(), 1, "forwarded without a record");
        disk.stall(false);
        for client in clients {
            assert_eq!(client.join().unwrap(), 200);
        }
        // And beyond the bound.
        disk.stall(true);
        let start = Instant::now();
        assert_eq!(call(&world, 999, "too long").status, 503);
        let took = start.elapsed();
        assert!(took > Duration::from_secs(7) && took < Duration::from_secs(12), "{took:?}");
        disk.stall(false);
    });
    world.gateway.stop().unwrap();
}

/// A small file system in memory; gone with the guard.
struct Mount(PathBuf);

impl Mount {
    fn new(at: &Path) -> Option<Mount> {
        std::fs::create_dir_all(at).unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m,mode=0700", "none"])
            .arg(at)
            .output()
            .ok()?;
        status.status.success().then(|| Mount(at.to_owned()))
    }

    fn resize(&self, mib: u64) {
        let size = format!("remount,size={mib}m");
        let done = Command::new("mount").args(["-o", &size]).arg(&self.0).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The marks of all bodies of a record, each with the number of bodies, and its last checkpoint.
#[derive(Default)]
struct Everything {
    marks: HashMap<String, usize>,
    sealed: bool,
}

impl Sink for Everything {
    fn entry(&mut self, _place: &Place, entry: &EntryView<'_>) {
        let body = String::from_utf8_lossy(entry.part(PartKind::Body).unwrap_or_default());
        if body.contains("mark-") {
            *self.marks.entry(mark(&body)).or_default() += 1;
        }
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.sealed = checkpoint.sealed;
    }
}

impl Everything {
    fn of(files: &dyn Files, verifier: &str) -> (Reading, Everything) {
        let mut sink = Everything::default();
        let key = VerifierKey::parse(verifier).unwrap();
        let checks = Checks { key: Some(&key), commitments: true };
        (read(files, checks, &mut sink).unwrap(), sink)
    }

    /// Bodies with this mark.
    fn holds(&self, mark: &str) -> usize {
        self.marks.get(mark).copied().unwrap_or(0)
    }
}

/// The mark in a call.
fn mark(text: &str) -> String {
    let start = text.find("mark-").expect("every call has a mark");
    text[start..].split_inclusive("-end").next().unwrap().to_owned()
}

/// Calls with large bodies, from four clients at once, until each is refused with 503. Gives the texts
/// that were answered with 200.
fn call_until_refused(world: &World, round: u64) -> Vec<String> {
    let token = world.engineer();
    let mut answered = Vec::new();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4u64)
            .map(|client| {
                let token = &token;
                scope.spawn(move || {
                    let mut mine = Vec::new();
                    let start = Instant::now();
                    for id in round * 1_000_000 + client * 100_000.. {
                        assert!(start.elapsed() < Duration::from_secs(60), "never full");
                        let mut noise = [0; 6000];
                        getrandom::fill(&mut noise).unwrap();
                        // Letters and digits of little meaning: no rule finds anything in them.
                        let noise: String =
                            noise.iter().map(|byte| char::from(b'A' + byte % 26)).collect();
                        let text = format!("mark-{id}-end {noise}");
                        // A new connection for each: a refusal may close the one it was told on.
                        let answer = connect(world).call(token, id, "echo", &text).unwrap();
                        match answer.status {
                            200 if answer.text().contains(&noise) => {
                                mine.push(format!("mark-{id}-end"))
                            }
                            200 => assert!(answer.text().contains("-31005"), "{}", answer.text()),
                            503 => {
                                assert!(answer.field("retry-after").is_some());
                                return mine;
                            }
                            status => panic!("{status}: {}", answer.text()),
                        }
                    }
                    unreachable!()
                })
            })
            .collect();
        for client in clients {
            answered.extend(client.join().unwrap());
        }
    });
    answered
}

// Mutant: the reserve is not freed on a full disk (nothing is sealed then).
#[test]
fn a_full_disk_refuses_calls_and_space_lets_them_through_again() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("world");
    let mount = Mount::new(&root.join("record"));
    // Where nothing may be mounted, the disk in memory says the same.
    let fake = MemoryDisk::new();
    let mut host = Host::default();
    if mount.is_none() {
        fake.capacity(Some(8 << 20));
        host.disk = Some(Box::new(fake.clone()));
    }
    let more = "[limits]\nreserve_bytes_max = \"2MiB\"\n";
    let plan = Plan { host, more: more.to_owned(), ..Plan::default() };
    let world = World::start(&root, plan).unwrap();
    let files: Box<dyn Files> = match &mount {
        Some(_) => Box::new(Directory::new(world.record())),
        None => Box::new(fake.clone()),
    };
    let mut answered = Vec::new();
    for round in 1..=2 {
        answered.extend(call_until_refused(&world, round));
        assert!(answered.len() > 100, "{} calls fill 8 MiB", answered.len());
        assert!(!world.gateway.is_ready());
        // While it is full: nothing that was answered is missing, and the record is sealed.
        until("the seal", || {
            let (reading, everything) = Everything::of(&*files, &world.verifier);
            reading.is_consistent() && everything.sealed && reading.unsigned_entries == 0
        });
        let (_, everything) = Everything::of(&*files, &world.verifier);
        for text in &answered {
            assert!(everything.holds(text) >= 2, "{text}: call and answer");
        }
        let texts = world.server.seen();
        for seen in &texts {
            let mark = mark(&String::from_utf8_lossy(&seen.body));
            assert!(everything.holds(&mark) >= 1, "the server has seen what is not recorded");
        }
        for id in 3..6 {
            let refused = call(&world, id, "refused");
            assert_eq!(refused.status, 503, "{refused:?}");
        }
        assert_eq!(world.server.seen().len(), texts.len(), "forwarded without a record");
        // Space returns: the disk is made larger.
        match &mount {
            Some(mount) => mount.resize(8 * (round + 1)),
            None => fake.capacity(Some((8 * (round + 1)) << 20)),
        }
        until("the record to go on", || world.gateway.is_ready());
        let text = format!("mark-again-{round}-end");
        assert_eq!(call(&world, 9, &text).status, 200);
        answered.push(text);
    }
    let verifier = world.verifier.clone();
    world.gateway.stop().unwrap();
    let (reading, everything) = Everything::of(&*files, &verifier);
    assert!(reading.is_consistent(), "{:?} {:?}", reading.damage, reading.strays);
    assert!(answered.iter().all(|text| everything.holds(text) >= 2));
}

#[test]
fn an_upstream_that_is_down_is_502_and_serves_when_it_is_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let plan = Plan { upstream_url: Some(format!("http://{address}/mcp")), ..Plan::default() };
    let (_directory, world) = world(plan);
    let mut client = connect(&world);
    let down = client.call(&world.engineer(), 1, "echo", "x").unwrap();
    assert_eq!((down.status, down.json()["error"]["code"].as_i64()), (502, Some(-31004)));
    let odd = Odd::start_at(address, |mut stream, _, log| {
        while let Some(body) = log.receive(&mut stream) {
            stream.write_all(&answer_to(&body)).unwrap();
        }
    });
    assert_eq!(client.call(&world.engineer(), 2, "echo", "x").unwrap().status, 200);
    assert_eq!(odd.calls().len(), 1);
    world.gateway.stop().unwrap();
}

#[test]
fn without_the_identity_providers_keys_nobody_is_let_in_and_the_gateway_is_not_ready() {
    let more = "[admin]\naddress = \"127.0.0.1:0\"\n[limits]\nkeys_wait_ms_max = \"300ms\"\n\
                keys_refetch_ms_min = \"100ms\"\n";
    let (_directory, world) = world(Plan { more: more.to_owned(), ..Plan::default() });
    let token = world.engineer();
    let World { idp, gateway, config, server, .. } = world;
    let issuer = idp.address();
    gateway.stop().unwrap();
    drop(idp);
    let gateway = Gateway::start(Config::load(&config).unwrap(), Host::default()).unwrap();
    let address = gateway.addresses()[0];
    let call =
        |token: &str| PlainClient::connect(address).unwrap().call(token, 1, "echo", "x").unwrap();
    let refused = call(&token);
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.field("retry-after").is_some());
    assert!(server.seen().is_empty());
    assert!(!gateway.is_ready());
    let mut admin = PlainClient::connect(gateway.admin_address().unwrap()).unwrap();
    admin.send(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(admin.answer().unwrap().status, 503);

    let key = SigningKey::generate("second", Algorithm::Es256);
    let idp = Idp::start_at(issuer, vec![key], Vec::new()).unwrap();
    let resource = format!("http://{address}{PATH}");
    let token = idp.mint(&idp.claims("ada-engineer", &["engineering"], &resource, 600));
    until("the keys", || call(&token).status == 200);
    assert!(gateway.is_ready());
    gateway.stop().unwrap();
}

// Checked against the mutants "every request is sent twice" (in `send` of the worker), "a connection
// that is not quiet is used" (`is_quiet` is always true), "any id will do", and "the connection of an
// answer with a wrong id is kept".
#[test]
fn odd_upstreams_never_get_a_call_twice_nor_mix_answers() {
    type Behaviour = fn(TcpStream, u64, &odd::Log);
    let behaviours: [(&str, Behaviour, bool); 5] = [
        (
            "closes after each answer without saying so",
            |mut stream, _, log| {
                if let Some(body) = log.receive(&mut stream) {
                    let _ = stream.write_all(&answer_to(&body));
                }
            },
            true,
        ),
        (
            "sends a second answer, for the next call's id, with the first",
            |mut stream, _, log| {
                while let Some(body) = log.receive(&mut stream) {
                    let mut both = answer_to(&body);
                    both.extend(odd::stray_after(&body));
                    let _ = stream.write_all(&both);
                }
            },
            true,
        ),
        (
            "sends a second answer a little later",
            |mut stream, _, log| {
                while let Some(body) = log.receive(&mut stream) {
                    let _ = stream.write_all(&answer_to(&body));
                    std::thread::sleep(Duration::from_millis(5));
                    let _ = stream.write_all(&odd::stray_after(&body));
                }
            },
            true,
        ),
        (
            "answers before it has read anything",
            |mut stream, _, log| {
                let _ = stream.write_all(&odd::stray("0"));
                while log.receive(&mut stream).is_some() {}
            },
            false,
        ),
        (
            "takes every other call and closes without an answer",
            |mut stream, number, log| {
                if let Some(body) = log.receive(&mut stream)
                    && number % 2 == 0
                {
                    let _ = stream.write_all(&answer_to(&body));
                }
            },
            false,
        ),
    ];
    for (name, behaviour, all_succeed) in behaviours {
        let odd = Odd::start(behaviour);
        let plan = Plan { upstream_url: Some(odd.url()), cores: "[0]", ..Plan::default() };
        let (_directory, world) = world(plan);
        let token = world.engineer();
        let mut client = connect(&world);
        for id in 1..=20 {
            let answer = client.call(&token, id, "echo", &format!("text-{id}-"));
            let answer = answer.unwrap_or_else(|error| panic!("{name}: call {id}: {error}"));
            let text = answer.text();
            assert!(!text.contains("stray"), "{name}: {text}");
            match answer.status {
                200 => assert!(text.contains(&format!("text-{id}-")), "{name}: {text}"),
                status => assert_eq!((status, all_succeed), (502, false), "{name}: {text}"),
            }
            // What is sent late, or closed late, has then arrived.
            std::thread::sleep(Duration::from_millis(15));
        }
        let calls = odd.calls();
        for id in 1..=20 {
            let times = calls.iter().filter(|body| body.contains(&format!("text-{id}-"))).count();
            assert!(times <= 1, "{name}: call {id} arrived {times} times");
            assert!(times == 1 || !all_succeed, "{name}: call {id} is lost");
        }
        drop(client);
        world.gateway.stop().unwrap();
    }
}

#[test]
fn a_good_upstream_connection_is_used_again() {
    let odd = Odd::start(|mut stream, _, log| {
        while let Some(body) = log.receive(&mut stream) {
            stream.write_all(&answer_to(&body)).unwrap();
        }
    });
    let plan = Plan { upstream_url: Some(odd.url()), cores: "[0]", ..Plan::default() };
    let (_directory, world) = world(plan);
    let mut client = connect(&world);
    for id in 1..=20 {
        assert_eq!(client.call(&world.engineer(), id, "echo", "x").unwrap().status, 200);
    }
    // Bound: a loaded host may pause for longer than an idle connection is kept.
    assert!(odd.connections() <= 2, "{} connections for 20 calls", odd.connections());
    drop(client);
    world.gateway.stop().unwrap();
}

#[test]
fn an_upstream_that_answers_a_large_call_early_is_heard() {
    let odd = Odd::start(|mut stream, _, log| {
        log.receive_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n");
    });
    let (_directory, world) = world(Plan { upstream_url: Some(odd.url()), ..Plan::default() });
    let answer = call(&world, 1, &"x".repeat(3 << 20));
    assert_eq!(answer.status, 413, "{answer:?}");
    assert_eq!(odd.connections(), 1);
    world.gateway.stop().unwrap();
}

// Mutants tried: a call answered by a stream keeps its slot; what streamed is not kept; it is kept beyond the
// cap.
#[test]
fn streams_that_answer_calls_leave_the_connections_to_other_calls() {
    let odd = Odd::start(|mut stream, _, log| {
        while let Some(body) = log.receive(&mut stream) {
            if !body.contains("listen-") {
                let _ = stream.write_all(&answer_to(&body));
                continue;
            }
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                         Transfer-Encoding: chunked\r\n\r\n9\r\n: listen\n\r\n";
            let _ = stream.write_all(head);
            if body.contains("listen-and-end") {
                std::thread::sleep(Duration::from_millis(300));
                let answer = answer_to(&body);
                let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
                let event = [b"data: ", &answer[at..], b"\n\n"].concat();
                let chunk = format!("{:x}\r\n", event.len());
                let all = [chunk.as_bytes(), &event, b"\r\n0\r\n\r\n"].concat();
                let _ = stream.write_all(&all);
            }
        }
    });
    let plan = Plan {
        upstream_url: Some(odd.url()),
        cores: "[0]",
        more: "[limits]\nupstream_connections_max = 2\ndrain_ms_max = \"100ms\"\n".to_owned(),
        ..Plan::default()
    };
    let (_directory, world) = world(plan);
    let token = world.engineer();
    let listen = |text: &str, id: u64| {
        let mut client = connect(&world);
        let message = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": {"name": "echo", "arguments": {"text": text}}});
        client.send_post(&token, "", &message).unwrap();
        assert_eq!(client.head().unwrap().0.status, 200, "{text} {id}");
        client
    };
    let open: Vec<_> = (1..=6).map(|id| listen("listen-for-ever", id)).collect();
    let mut caller = connect(&world);
    for id in 10..=12 {
        assert_eq!(caller.call(&token, id, "echo", "x").unwrap().status, 200);
    }
    assert_eq!(odd.connections(), 7);
    // Streams that end whole leave their connections behind, as far as there is room.
    let mut ending: Vec<_> = (20..=25).map(|id| listen("listen-and-end", id)).collect();
    for client in &mut ending {
        while !String::from_utf8_lossy(client.buffer()).contains("0\r\n\r\n") {
            assert!(client.some().unwrap() > 0, "the stream ends with its last chunk");
        }
    }
    let before = odd.connections();
    let others: Vec<_> = (30..=31).map(|id| listen("listen-for-ever", id)).collect();
    assert_eq!(odd.connections(), before, "what is kept is used");
    let another = listen("listen-for-ever", 40);
    assert_eq!(odd.connections(), before + 1, "no more is kept than the cap");
    drop((open, others, another, ending, caller));
    world.gateway.stop().unwrap();
}

/// Opens the caller's stream and reads its first event.
fn open_stream(world: &World, token: &str) -> PlainClient {
    let mut stream = connect(world);
    stream.open_stream(token).unwrap();
    assert_eq!(stream.head().unwrap().0.status, 200);
    stream.some().unwrap();
    stream
}

#[test]
fn changed_grants_refuse_at_once_and_cut_open_streams() {
    let (_directory, world) = world(Plan::default());
    let (token, engineer) = (world.contractor(), world.engineer());
    assert_eq!(connect(&world).call(&token, 1, "echo", "x").unwrap().json()["id"], 1);
    let mut stream = open_stream(&world, &token);
    let mut others = open_stream(&world, &engineer);
    let text = std::fs::read_to_string(&world.config).unwrap();
    let text = text.replace("groups = [\"contractors\"]", "groups = [\"nobody\"]");
    std::fs::write(&world.config, text).unwrap();
    let start = Instant::now();
    world.gateway.reload().unwrap();
    let refused = connect(&world).call(&token, 2, "echo", "x").unwrap();
    assert_eq!(refused.json()["error"]["code"], -31001, "{refused:?}");
    while stream.some().unwrap() > 0 {}
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(others.some().unwrap() > 0);
    drop((stream, others));
    world.gateway.stop().unwrap();
}

#[test]
fn a_token_that_expires_ends_its_stream_on_time() {
    let (_directory, world) = world(Plan::default());
    let token = world.token("ada-engineer", &["engineering"], 2);
    let expires = world.idp.claims("x", &[], "y", 2)["exp"].as_u64().unwrap();
    let mut stream = open_stream(&world, &token);
    while stream.some().unwrap() > 0 {}
    let late = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(expires - 1));
    let late = late.expect("not cut before it expired");
    assert!(late < Duration::from_secs(2), "{late:?}");
    let refused =
        connect(&world).post(&token, "", &json!({"jsonrpc":"2.0","id":1,"method":"ping"}));
    assert_eq!(refused.unwrap().status, 401);
    world.gateway.stop().unwrap();
}
