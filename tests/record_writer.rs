//! The writer thread on a real directory: what it publishes, and that the files are plain zstd.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use stenograph::limits::Limits;
use stenograph::record::disk::RealDisk;
use stenograph::record::keys::LogKey;
use stenograph::record::writer::{self, Settings};
use stenograph::record::{Entry, Kind, Level, PartKind, SubmitFault};
use stenograph::types::{ExchangeId, Now};

fn key() -> LogKey {
    LogKey::from_seed("log.example", &[7; 32]).unwrap()
}

fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited 20 s");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_is_submitted_is_published_and_readable_with_zstd() {
    let directory = tempfile::tempdir().unwrap();
    let woken = Arc::new(AtomicUsize::new(0));
    let count = woken.clone();
    let wakers: Vec<stenograph::record::Waker> = vec![Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    })];
    let disk = RealDisk::open(directory.path()).unwrap();
    let settings = Settings::system(key(), Limits::default(), wakers);
    let (writer, mut recorders) = writer::start(Box::new(disk), settings).unwrap();
    let recorder = &mut recorders[0];
    let exchange = ExchangeId::new(1, 0, 0, 0);
    for level in [Level::Queued, Level::Written, Level::Synced] {
        let mut entry = Entry::new(Kind::Request, Now { utc_ns: 1, mono_ns: 2 })
            .part(PartKind::Body, Bytes::from_static(b"a body that can be found"));
        entry.exchange = Some(exchange);
        entry.level = level;
        let ticket = recorder.submit(entry).unwrap();
        let held = recorder.hold(ticket, level, "bytes");
        if level == Level::Queued {
            assert!(held.ready(recorder.progress()));
        }
        until(|| held.ready(recorder.progress()));
        assert_eq!(*held.release(recorder.progress()).unwrap(), "bytes");
    }
    assert!(woken.load(Ordering::Relaxed) > 0);
    let second = RealDisk::open(directory.path());
    assert!(second.unwrap_err().to_string().contains("another gateway"));
    let progress = writer.progress();
    let report = writer.stop().unwrap();
    assert_eq!((report.entries, report.segment), (5, 0));
    assert!(progress.ended() && progress.failed());
    let (_, fault) = recorder.submit(Entry::new(Kind::Stop, Now::default())).unwrap_err();
    assert_eq!(fault, SubmitFault::Ended);

    let file = std::fs::read(directory.path().join("segments/00000000.seg")).unwrap();
    let mut plain = Vec::new();
    zstd::stream::read::Decoder::new(&file[..]).unwrap().read_to_end(&mut plain).unwrap();
    let body = b"a body that can be found";
    assert_eq!(plain.windows(body.len()).filter(|window| window == body).count(), 3);
}
