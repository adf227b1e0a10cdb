//! Every state of the newest segment, with everything that may lie beside it: what a start makes of it,
//! and that the record verifies afterwards wherever it may.

mod record_support;

use record_support::{Image, Maker, MemoryDisk, Step, key, read_all, request, settings};
use stenograph::limits::Limits;
use stenograph::record::disk::{Disk, DiskFault, RealDisk};
use stenograph::record::entry::EntryView;
use stenograph::record::format::MAGIC_CHECKPOINT;
use stenograph::record::header::PreviousEnd;
use stenograph::record::keys::LogKey;
use stenograph::record::reader::{Checks, read};
use stenograph::record::recovery::{Leftover, Newest, Verdict, decide, recover};
use stenograph::record::scan::{Place, Sink};
use stenograph::record::writer::{self, StartFault};
use stenograph::record::{Entry, Kind, PartKind};
use stenograph::types::Now;

fn limits() -> Limits {
    Limits { reserve_bytes_max: 2 << 20, ..Limits::default() }
}

/// A whole first segment, so that the newest is number 1.
fn first() -> Maker {
    let mut maker = Maker::default();
    maker.segment(vec![
        Step::Flush(vec![Entry::new(Kind::Start, Now::default())]),
        Step::Flush(vec![request(1, b"one")]),
        Step::Seal,
    ]);
    maker
}

const NEWEST: &str = "00000001.seg";

/// A record whose newest segment is in this state. An exhaustive match: no state can be left out.
fn image(newest: Newest) -> Image {
    let mut maker = first();
    let flush = || Step::Flush(vec![request(2, b"two"), request(3, b"three three three")]);
    let stop = || Step::Flush(vec![Entry::new(Kind::Stop, Now::default())]);
    let with = |mut maker: Maker, steps: Vec<Step>, change: &dyn Fn(&mut Vec<u8>, &[u64])| {
        let points = maker.segment(steps);
        change(maker.files.get_mut(NEWEST).unwrap(), &points);
        maker.files
    };
    let nothing = |_: &mut Vec<u8>, _: &[u64]| {};
    match newest {
        Newest::Absent => Image::new(),
        Newest::Empty => with(maker, vec![], &|file, _| file.clear()),
        Newest::HeaderCut => with(maker, vec![], &|file, _| file.truncate(file.len() - 1)),
        Newest::HeaderWrong => with(maker, vec![flush()], &|file, _| file[60] ^= 1),
        Newest::OtherLog => {
            let other = LogKey::from_seed("other.example", &[9; 32]).unwrap();
            let disk = MemoryDisk::new();
            let mut settings = settings(0, limits());
            settings.key = other;
            writer::start(Box::new(disk.clone()), settings).unwrap().0.stop().unwrap();
            maker.files.insert(NEWEST.into(), disk.image()["00000000.seg"].clone());
            maker.files
        }
        Newest::Stopped => with(maker, vec![flush(), stop(), Step::Seal], &nothing),
        Newest::Sealed => with(maker, vec![flush(), Step::Seal], &nothing),
        Newest::HeaderOnly => with(maker, vec![], &nothing),
        Newest::AtPoint => with(maker, vec![flush(), Step::Checkpoint, flush()], &nothing),
        Newest::Torn => with(maker, vec![flush(), flush()], &|file, points| {
            file.truncate(points[2] as usize - 5);
        }),
        // Behind a checkpoint. Inside a frame zeros are empty blocks: torn.
        Newest::Zeros => with(maker, vec![flush(), Step::Checkpoint], &|file, _| {
            file.resize(file.len() + 4096, 0);
        }),
        // In the last flush, which no checkpoint follows: the tree up to the flush before it is known.
        Newest::Damaged => {
            with(maker, vec![flush(), Step::Checkpoint, flush()], &|file, points| {
                file[points[2] as usize + 6 + 20] ^= 0x10;
            })
        }
        // In front of a checkpoint that can still be read.
        Newest::TreeLost => with(maker, vec![flush(), Step::Checkpoint], &|file, points| {
            let magic = MAGIC_CHECKPOINT.to_le_bytes();
            assert!(memchr::memmem::find(file, &magic).is_some());
            file[points[0] as usize + 6 + 20] ^= 0x10;
        }),
    }
}

/// The detail of the last start entry.
#[derive(Default)]
struct Starts(Vec<serde_json::Value>);

impl Sink for Starts {
    fn entry(&mut self, _place: &Place, entry: &EntryView<'_>) {
        if entry.kind() == Some(Kind::Start)
            && let Some(detail) = entry.part(PartKind::Detail)
        {
            self.0.push(serde_json::from_slice(detail).unwrap());
        }
    }
}

fn without(image: &mut Image, leftover: Leftover) -> bool {
    match leftover {
        Leftover::New => {
            image.insert("00000002.new".into(), b"half a header".to_vec());
            image.insert("00000000.new".into(), Vec::new());
            true
        }
        // A whole segment is needed below the newest.
        Leftover::Missing => image.remove("00000000.seg").is_some(),
        Leftover::Foreign => image.insert("notes.txt".into(), b"mine".to_vec()).is_none(),
        // These two are not among the segments: below, on a real disk.
        Leftover::NoReserve | Leftover::Keys => false,
    }
}

// Mutants: the residue is not told in the next header; missing numbers are not told; a torn end is taken
// for damage; with an order, a lost tree is gone on from.
#[test]
fn every_state_of_the_newest_segment_with_everything_beside_it() {
    let mut cases = 0;
    for newest in Newest::ALL {
        for leftovers in 0..1u32 << Leftover::ALL.len() {
            for ordered in [false, true] {
                let mut image = image(newest);
                let beside: Vec<Leftover> = Leftover::ALL
                    .into_iter()
                    .enumerate()
                    .filter(|(bit, _)| leftovers & 1 << bit != 0)
                    .map(|(_, leftover)| leftover)
                    .collect();
                let there: Vec<Leftover> = beside
                    .iter()
                    .copied()
                    .filter(|leftover| without(&mut image, *leftover))
                    .collect();
                if there.len() == beside.len() {
                    check(newest, &there, ordered, image);
                    cases += 1;
                }
            }
        }
    }
    assert!(cases >= 13 * 6, "{cases}");
}

fn check(newest: Newest, there: &[Leftover], ordered: bool, image: Image) {
    let at = format!("{newest:?} beside {there:?}, ordered {ordered}");
    let before = image.clone();
    let disk = MemoryDisk::with(image);
    let verdict = decide(newest, ordered);
    match recover(&disk, key().verifier(), ordered) {
        Ok(recovered) => {
            assert_eq!(recovered.newest, newest, "{at}");
            match verdict {
                Verdict::Begin => assert_eq!(recovered.segment, 0, "{at}"),
                Verdict::GoOn(end) => {
                    assert_eq!((recovered.segment, recovered.previous.end), (2, end), "{at}");
                }
                Verdict::Refuse => panic!("{at}: went on"),
            }
        }
        Err(fault) => {
            assert_eq!(verdict, Verdict::Refuse, "{at}: {fault}");
            let offers = fault.to_string().contains("--accept-damage");
            assert_eq!(offers, decide(newest, true) != Verdict::Refuse, "{at}: {fault}");
        }
    }
    let mut settings = settings(0, limits());
    settings.accept_damage = ordered;
    let started = writer::start(Box::new(disk.clone()), settings);
    assert_eq!(started.is_ok(), verdict != Verdict::Refuse, "{at}");
    if let Ok((writer, _)) = started {
        writer.stop().unwrap();
        assert_eq!(disk.reserved(), 2 << 20);
    }
    // Whatever was there is as it was, but for a `*.new` whose number was used.
    let after = disk.image();
    for (name, bytes) in &before {
        if !name.ends_with(".new") {
            assert!(after[name] == *bytes, "{at}: {name} was changed");
        }
    }
    if verdict == Verdict::Refuse {
        assert!(after == before, "{at}");
        return;
    }
    let mut starts = Starts::default();
    let key = key();
    let checks = Checks { key: Some(key.verifier()), commitments: true };
    let reading = read(&disk, checks, &mut starts).unwrap();
    let missing = there.contains(&Leftover::Missing);
    let foreign = there.contains(&Leftover::Foreign);
    let told = &starts.0.last().expect("a start entry")["record"];
    assert_eq!(told["missing_segments"], u64::from(missing), "{at}");
    assert_eq!(told["foreign_files"], u64::from(foreign), "{at}");
    assert_eq!(told["accept_damage"], ordered, "{at}");
    let sound = !missing && !foreign && verdict != Verdict::GoOn(PreviousEnd::Damaged);
    assert_eq!(reading.is_consistent(), sound, "{at}: {:?}", reading.damage);
    // What the gap says: a residue, or an end without a stop.
    let gap = matches!(newest, Newest::HeaderOnly | Newest::AtPoint | Newest::Torn | Newest::Zeros);
    assert_eq!(reading.gaps.iter().any(|gap| gap.segment == 1), gap, "{at}: {:?}", reading.gaps);
}

// The rest of the directory, on a real disk: the trust table of the format, row by row.
#[test]
fn the_files_beside_the_segments_may_be_lost_and_rewritten() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("record");
    let start = || {
        let disk = RealDisk::open(&root).unwrap();
        writer::start(Box::new(disk), settings(0, limits())).unwrap().0.stop().unwrap();
    };
    let intact = || {
        let (reading, _) = read_all(&stenograph::record::disk::Directory::new(&root)).unwrap();
        assert!(reading.is_consistent(), "{:?} {:?}", reading.damage, reading.strays);
        reading.segments
    };
    start();
    assert_eq!(intact(), 1);
    for (file, content) in [
        ("reserve", None),
        ("reserve", Some(vec![b'x'; 5 << 20])),
        ("reserve", Some(Vec::new())),
        ("lock", None),
        ("lock", Some(b"x".to_vec())),
        ("log.pub", Some(b"not a key".to_vec())),
        ("log.pub", None),
        ("segments/00000000.new", Some(b"x".to_vec())),
        ("segments/00000000.new", None),
        ("segments/99999999.new", Some(b"x".to_vec())),
    ] {
        let before = intact();
        match content {
            Some(content) => std::fs::write(root.join(file), content).unwrap(),
            None => std::fs::remove_file(root.join(file)).unwrap(),
        }
        assert_eq!(intact(), before, "{file}");
        start();
        assert_eq!(intact(), before + 1, "{file}");
        let reserve = std::fs::metadata(root.join("reserve")).unwrap();
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(reserve.len(), 2 << 20, "after {file}");
        assert!(reserve.blocks() * 512 >= 2 << 20, "the space is really there");
    }
    // Files beside the segments are no entries.
    std::fs::create_dir_all(root.join("keys")).unwrap();
    std::fs::write(root.join("keys/half-written.tmp"), b"x").unwrap();
    let before = intact();
    start();
    assert_eq!(intact(), before + 1);
}

// Mutants: the lock is taken shared; a leftover is emptied and used again.
#[test]
fn a_second_writer_is_kept_out_as_long_as_the_first_lives() {
    let directory = tempfile::tempdir().unwrap();
    let first = RealDisk::open(directory.path()).unwrap();
    let fault = RealDisk::open(directory.path()).unwrap_err();
    assert!(matches!(fault, DiskFault::Locked(_)), "{fault}");
    drop(first);
    let mut second = RealDisk::open(directory.path()).unwrap();
    // A leftover is made anew and not emptied: another name for its bytes keeps them.
    let segments = directory.path().join("segments");
    second.create("00000000.new").unwrap();
    second.append(b"before").unwrap();
    std::fs::hard_link(segments.join("00000000.new"), segments.join("kept")).unwrap();
    second.create("00000000.new").unwrap();
    assert_eq!(std::fs::read(segments.join("kept")).unwrap(), b"before");
    assert_eq!(std::fs::read(segments.join("00000000.new")).unwrap(), b"");
}

#[test]
fn a_disk_that_cannot_be_read_at_the_start_is_no_damage() {
    let image = image(Newest::AtPoint);
    let disk = MemoryDisk::with(image.clone());
    recover(&disk, key().verifier(), false).unwrap();
    for n in 0..disk.calls() {
        let disk = MemoryDisk::with(image.clone());
        disk.fail(n..n + 1, record_support::How::Eio);
        let fault = recover(&disk, key().verifier(), true).unwrap_err();
        assert!(matches!(fault, StartFault::Io(_)), "call {n}: {fault}");
    }
}
