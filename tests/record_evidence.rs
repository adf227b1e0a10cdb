//! What the record says beside payload: bodies that are not kept, and what the start entry holds.

mod record_support;

use std::sync::{Arc, Mutex};

use record_support::{Maker, MemoryDisk, Step, random, request, settings, until};
use serde_json::Value;
use stenograph::limits::Limits;
use stenograph::record::clock::Stated;
use stenograph::record::entry::{EntryView, SALT_BYTES};
use stenograph::record::reader::{Checks, read};
use stenograph::record::scan::{Place, Sink};
use stenograph::record::segment::Random;
use stenograph::record::writer;
use stenograph::record::{Keep, Kind, PartKind};
use stenograph::types::Now;

/// Lengths of bodies, and their bytes where they are there.
#[derive(Default)]
struct Bodies(Vec<(u32, Option<Vec<u8>>)>);

impl Sink for Bodies {
    fn entry(&mut self, _place: &Place, entry: &EntryView<'_>) {
        for part in entry.parts.iter().filter(|part| part.kind_number == PartKind::Body as u8) {
            self.0.push((part.length, part.bytes.map(<[u8]>::to_vec)));
        }
        assert!(entry.part(PartKind::Subject).is_some(), "who called is always kept");
    }
}

// Mutant: `Keep::stores` true for bodies.
#[test]
fn a_body_that_is_not_kept_leaves_a_length_and_a_commitment_that_nobody_can_try() {
    let drawn: Arc<Mutex<Vec<u8>>> = Arc::default();
    let (source, kept) = (random(), drawn.clone());
    let random: Random = Arc::new(move |bytes| {
        source(bytes);
        kept.lock().unwrap().extend_from_slice(bytes);
    });
    let mut maker = Maker { random, ..Maker::default() };
    let mut heads = request(1, b"078-05-1120");
    heads.keep = Keep::Heads;
    maker.segment(vec![Step::Flush(vec![heads, request(2, b"kept as it is")]), Step::Seal]);

    let disk = MemoryDisk::with(maker.files.clone());
    let mut bodies = Bodies::default();
    let reading = read(&disk, Checks { key: None, commitments: true }, &mut bodies).unwrap();
    assert!(reading.is_consistent(), "{:?}", reading.damage);
    assert_eq!(bodies.0, [(11, None), (13, Some(b"kept as it is".to_vec()))]);

    // A salt for each part of the first entry, a seed for the second: that of the body which is not
    // kept is nowhere.
    let plain = zstd::decode_all(&maker.files["00000000.seg"][..]).unwrap();
    let holds = |bytes: &[u8]| plain.windows(bytes.len()).any(|window| window == bytes);
    let drawn = drawn.lock().unwrap();
    let salts: Vec<bool> = drawn.chunks(SALT_BYTES).take(3).map(holds).collect();
    assert_eq!(salts, [true, false, true]);
    assert!(!holds(b"078-05-1120"));
}

/// Details of the entries of one kind.
struct Details(Kind, Vec<Value>);

impl Sink for Details {
    fn entry(&mut self, _place: &Place, entry: &EntryView<'_>) {
        if entry.kind() == Some(self.0) {
            let detail = entry.part(PartKind::Detail).unwrap_or_default();
            self.1.push(serde_json::from_slice(detail).unwrap());
        }
    }
}

fn details(disk: &MemoryDisk, kind: Kind) -> Vec<Value> {
    let mut details = Details(kind, Vec::new());
    let image = MemoryDisk::with(disk.image());
    let reading = read(&image, Checks::default(), &mut details).unwrap();
    assert!(reading.is_consistent(), "{:?}", reading.damage);
    details.1
}

// Mutant: `watch_clock` not called.
#[test]
fn the_writer_tells_of_clock_steps_and_of_the_kernels_word_without_being_asked() {
    let disk = MemoryDisk::new();
    let shift_ns: Arc<Mutex<u64>> = Arc::default();
    let synchronized: Arc<Mutex<bool>> = Arc::new(Mutex::new(true));
    let limits = Limits { heartbeat_ms_max: 100, ..Limits::default() };
    let mut settings = settings(1, limits);
    let (shift, known) = (shift_ns.clone(), synchronized.clone());
    settings.clock = Arc::new(move || {
        let now = writer::system_now();
        Now { utc_ns: now.utc_ns + *shift.lock().unwrap(), mono_ns: now.mono_ns }
    });
    settings.kernel_clock = Some(Arc::new(move || {
        let synchronized = *known.lock().unwrap();
        Some(Stated { synchronized, error_us_max: 500_000, error_us: 20, status: 0 })
    }));
    let (writer, recorders) = writer::start(Box::new(disk.clone()), settings).unwrap();
    let count = |expected: usize| {
        until("a clock entry", || details(&disk, Kind::Clock).len() == expected);
        details(&disk, Kind::Clock).pop().unwrap()
    };
    assert_eq!(count(1)["stated"]["error_us_max"], 500_000);
    *shift_ns.lock().unwrap() = 3_600_000_000_000;
    let step = count(2)["step_ns"].as_i64().unwrap();
    // The boot clock may be read a little later than the wall clock.
    assert!((3_599_900_000_000..3_600_100_000_000).contains(&step), "{step}");
    *synchronized.lock().unwrap() = false;
    assert_eq!(count(3)["stated"]["synchronized"], false);
    drop(recorders);
    writer.stop().unwrap();
}

// Mutant: `checkpoint_before` never called.
#[test]
fn a_start_entry_names_the_last_checkpoint_before_it() {
    let mut maker = Maker::default();
    maker.segment(vec![Step::Flush(vec![request(1, b"one")]), Step::Checkpoint, Step::Seal]);
    maker.segment(vec![Step::Flush(vec![request(2, b"two")]), Step::Checkpoint]);
    let with_one = MemoryDisk::with(maker.files.clone());
    maker.segment(vec![Step::Flush(vec![request(3, b"killed within its first 100 ms")])]);
    for disk in [with_one, MemoryDisk::with(maker.files)] {
        let (writer, recorders) =
            writer::start(Box::new(disk.clone()), settings(1, Limits::default())).unwrap();
        drop(recorders);
        writer.stop().unwrap();
        let start = details(&disk, Kind::Start).pop().unwrap();
        let checkpoint = &start["record"]["checkpoint"];
        let told = (&checkpoint["segment"], &checkpoint["size"], &checkpoint["sealed"]);
        assert_eq!(told, (&1.into(), &2.into(), &false.into()), "{start}");
        assert!(checkpoint["root"].as_str().is_some_and(|root| root.len() == 44), "{start}");
    }
}
