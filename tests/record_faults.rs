//! The writer on a disk that fails, stalls, or is killed: what it publishes is in the record, and
//! nothing else is ever claimed.

mod record_support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use record_support::{How, MemoryDisk, read_all, request, settings, until};
use stenograph::limits::Limits;
use stenograph::record::entry::EntryView;
use stenograph::record::reader::{Checks, read};
use stenograph::record::scan::{Place, Sink};
use stenograph::record::writer::{self, EndFault, StartFault};
use stenograph::record::{Kind, Level, PartKind, SubmitFault};

fn limits() -> Limits {
    Limits { checkpoint_ms_max: 10, drain_ms_max: 2_000, ..Limits::default() }
}

/// Bodies of all requests, in order of the record.
#[derive(Default)]
struct Bodies {
    bodies: Vec<Vec<u8>>,
    kinds: Vec<Kind>,
}

impl Sink for Bodies {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        assert!(place.sound);
        self.kinds.push(entry.kind().unwrap());
        if let Some(body) = entry.part(PartKind::Body) {
            self.bodies.push(body.to_vec());
        }
    }
}

fn bodies(disk: &MemoryDisk) -> (Bodies, usize) {
    let key = record_support::key();
    let mut sink = Bodies::default();
    let checks = Checks { key: Some(key.verifier()), commitments: true };
    let reading = read(disk, checks, &mut sink).unwrap();
    assert!(reading.is_consistent(), "{:?} {:?}", reading.damage, reading.strays);
    (sink, reading.gaps.len())
}

const CALLS: u32 = 6;

fn body(number: u32) -> Vec<u8> {
    format!("body of call {number} ").repeat(3).into_bytes()
}

/// One run of the writer with a few calls, each waited for. Gives whether `failed` was published.
fn run(disk: &MemoryDisk) -> Result<bool, StartFault> {
    let (writer, mut recorders) = writer::start(Box::new(disk.clone()), settings(1, limits()))?;
    let recorder = &mut recorders[0];
    let seen = AtomicBool::new(false);
    for number in 0..CALLS {
        let mut entry = request(number, &body(number));
        entry.level = if number % 3 == 2 { Level::Synced } else { Level::Written };
        let level = entry.level;
        let ticket = recorder.submit(entry).unwrap();
        let held = recorder.hold(ticket, level, ());
        until("a ticket", || {
            seen.fetch_or(recorder.progress().failed(), Ordering::Relaxed);
            held.ready(recorder.progress())
        });
        // What is published is in the files at this very moment.
        let image = MemoryDisk::with(disk.image());
        let stored = Stored::of(&image);
        assert!(stored.contains(&body(number)), "call {number} is published and not stored");
    }
    std::thread::sleep(Duration::from_millis(15));
    writer.stop().unwrap();
    Ok(seen.into_inner())
}

/// Bodies that can be read from an image, be it torn.
struct Stored(Vec<Vec<u8>>);

impl Stored {
    fn of(disk: &MemoryDisk) -> Stored {
        let mut sink = Bodies::default();
        let key = record_support::key();
        let checks = Checks { key: Some(key.verifier()), commitments: true };
        read(disk, checks, &mut sink).unwrap();
        Stored(sink.bodies)
    }

    fn contains(&self, body: &[u8]) -> bool {
        self.0.iter().any(|stored| stored == body)
    }
}

// Mutants this was checked against: tickets published before the append; a short append taken as
// whole; the batch dropped on a fault; the failed file synced and written on.
#[test]
fn the_nth_call_to_the_disk_fails_for_every_n() {
    let disk = MemoryDisk::new();
    run(&disk).unwrap();
    let calls = disk.calls();
    assert!(calls > 15, "{:?}", disk.call_names());
    std::thread::scope(|scope| {
        for how in [How::Eio, How::Enospc, How::Short, How::HalfThenEio] {
            for n in 0..calls {
                for count in [1, 3] {
                    scope.spawn(move || {
                        let disk = MemoryDisk::new();
                        disk.fail(n..n + count, how);
                        let at = format!("call {n} and {count} in all, {how:?}");
                        let mut seen = None;
                        for _ in 0..4 {
                            match run(&disk) {
                                Ok(failed) => {
                                    seen = Some(failed);
                                    break;
                                }
                                // The start fails closed; starting again works.
                                Err(StartFault::Io(_)) => {}
                                Err(fault) => panic!("{at}: {fault}"),
                            }
                        }
                        let seen = seen.expect("starts in the end");
                        let (read, gaps) = bodies(&disk);
                        // Each once and in order: what was given up does not count twice.
                        let expected: Vec<_> = (0..CALLS).map(body).collect();
                        assert_eq!(read.bodies, expected, "{at}");
                        if seen {
                            assert!(gaps > 0, "{at}");
                            assert!(read.kinds.contains(&Kind::Resume), "{at}");
                        }
                        assert!(!disk.synced_after_failure(), "{at}");
                    });
                }
            }
        }
    });
}

#[test]
fn a_stalled_disk_publishes_nothing() {
    let disk = MemoryDisk::new();
    let mut small = limits();
    small.recorder_queue_bytes_max = 4096;
    let (writer, mut recorders) =
        writer::start(Box::new(disk.clone()), settings(1, small)).unwrap();
    let recorder = &mut recorders[0];
    disk.stall(true);
    let mut held = Vec::new();
    let fault = loop {
        let entry = request(held.len() as u32, &[b'x'; 100]);
        match recorder.submit(entry) {
            Ok(ticket) => held.push(recorder.hold(ticket, Level::Written, ())),
            Err((entry, fault)) => {
                assert_eq!(entry.parts[1].bytes.len(), 100, "the entry comes back");
                break fault;
            }
        }
    };
    assert_eq!(fault, SubmitFault::Full);
    std::thread::sleep(Duration::from_millis(200));
    assert!(held.iter().all(|held| !held.ready(recorder.progress())));
    let held: Vec<_> = held
        .into_iter()
        .map(|held| held.release(recorder.progress()).expect_err("not before it is written"))
        .collect();
    disk.stall(false);
    until("the queue", || held.iter().all(|held| held.ready(recorder.progress())));
    assert_eq!(recorder.progress().queued_bytes(), 0);
    assert!(recorder.submit(request(99, b"again")).is_ok());
    writer.stop().unwrap();
    assert_eq!(bodies(&disk).0.bodies.len(), held.len() + 1);
}

#[test]
fn a_disk_that_never_recovers_ends_closed() {
    let disk = MemoryDisk::new();
    let mut short = limits();
    short.drain_ms_max = 300;
    let (writer, mut recorders) =
        writer::start(Box::new(disk.clone()), settings(1, short)).unwrap();
    let recorder = &mut recorders[0];
    disk.fail(disk.calls()..u64::MAX, How::Enospc);
    let ticket = recorder.submit(request(1, b"never stored")).unwrap();
    let held = recorder.hold(ticket, Level::Written, ());
    until("failed", || recorder.progress().failed());
    assert!(!held.ready(recorder.progress()));
    let fault = writer.stop().unwrap_err();
    assert!(matches!(fault, EndFault::Unstored(entries) if entries >= 1), "{fault}");
    assert!(!held.ready(recorder.progress()) && recorder.progress().ended());
}

// A panic in the writer must be seen by everybody who waits for it.
#[test]
fn a_panic_in_the_writer_is_published_as_the_end() {
    let disk = MemoryDisk::new();
    let mut settings = settings(1, limits());
    let armed = std::sync::Arc::new(AtomicBool::new(false));
    let trigger = armed.clone();
    settings.clock = std::sync::Arc::new(move || {
        assert!(!trigger.load(Ordering::Relaxed), "the clock panics as told");
        writer::system_now()
    });
    let (writer, mut recorders) = writer::start(Box::new(disk), settings).unwrap();
    armed.store(true, Ordering::Relaxed);
    let ticket = recorders[0].submit(request(1, b"x")).unwrap();
    until("the end", || recorders[0].progress().ended());
    assert!(recorders[0].progress().failed());
    until("the thread", || writer.is_finished());
    let (_, fault) = recorders[0].submit(request(2, b"x")).unwrap_err();
    assert_eq!(fault, SubmitFault::Ended);
    let _ = ticket;
    assert!(matches!(writer.stop(), Err(EndFault::Panicked)));
}

// What a kill leaves at any moment, started again: everything published before is there.
#[test]
fn killed_and_started_again_over_and_over() {
    let mut image = record_support::Image::new();
    let mut published = Vec::new();
    let mut runs_with_seal = 0;
    for round in 0..12u32 {
        let disk = MemoryDisk::with(image);
        let mut small = limits();
        small.segment_bytes_max = 2048;
        small.checkpoint_ms_max = 1;
        let (writer, mut recorders) =
            writer::start(Box::new(disk.clone()), settings(2, small)).unwrap();
        let mut waiting = Vec::new();
        for number in 0..40 {
            let recorder = &mut recorders[number as usize % 2];
            let body = format!("round {round} call {number} ").repeat(20).into_bytes();
            let ticket = recorder.submit(request(number, &body)).unwrap();
            waiting.push((recorder.hold(ticket, Level::Written, body), number % 2));
        }
        let progress = writer.progress();
        until("some", || waiting[round as usize].0.ready(&progress));
        // Why this order: what is ready before the image is taken must be in the image.
        for (held, _) in waiting {
            if let Ok(body) = held.release(&progress) {
                published.push(body.into_inner());
            }
        }
        image = disk.image();
        runs_with_seal += usize::from(image.len() > round as usize + 1);
        drop(writer.stop());
    }
    assert!(runs_with_seal > 0, "no run reached a second segment");
    let disk = MemoryDisk::with(image);
    let (writer, _) = writer::start(Box::new(disk.clone()), settings(0, limits())).unwrap();
    writer.stop().unwrap();
    let (read, gaps) = bodies(&disk);
    assert!(gaps >= 10, "{gaps} gaps");
    for body in &published {
        assert!(read.bodies.contains(body));
    }
    assert_eq!(read.kinds.iter().filter(|kind| **kind == Kind::Start).count(), 13);
    let (reading, _) = read_all(&disk).unwrap();
    assert_eq!(reading.unsigned_entries, 0);
}
