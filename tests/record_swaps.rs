//! Whole files of a record removed, moved, doubled, put back to an older state, or mixed with those of
//! another gateway: found and named, or, where the files alone cannot show it, found against a checkpoint
//! that was kept elsewhere. What stands before the damage stays readable.

mod record_support;

use std::path::Path;

use record_support::{Image, Kept, Maker, MemoryDisk, Step, key, random, request};
use stenograph::audit::Exit;
use stenograph::audit::search::{self, SearchOptions};
use stenograph::audit::sessions::{self, SessionsOptions};
use stenograph::record::entry::EntryView;
use stenograph::record::keys::LogKey;
use stenograph::record::note::Checkpoint;
use stenograph::record::reader::{Checks, Reading, read, read_roots};
use stenograph::record::scan::{Place, Sink};
use stenograph::record::{Entry, Kind};
use stenograph::types::Now;

/// What an auditor keeps elsewhere: the checkpoints it has seen.
#[derive(Default)]
struct Seen {
    checkpoints: Vec<Checkpoint>,
    sound_entries: usize,
}

impl Sink for Seen {
    fn entry(&mut self, place: &Place, _entry: &EntryView<'_>) {
        self.sound_entries += usize::from(place.sound);
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.checkpoints.push(checkpoint.clone());
    }
}

/// One that reads `image` with the trusted key, and asks for the roots at `sizes`.
fn look(image: &Image, sizes: &[u64]) -> (Reading, Vec<Option<[u8; 32]>>, Seen) {
    let mut seen = Seen::default();
    let key = key();
    let checks = Checks { key: Some(key.verifier()), commitments: true };
    let mut ascending = sizes.to_vec();
    ascending.dedup();
    let reading =
        read_roots(&MemoryDisk::with(image.clone()), checks, &ascending, &mut seen).unwrap();
    let root = |size: &u64| reading.roots.iter().find(|(at, _)| at == size).map(|(_, root)| *root);
    let roots = sizes.iter().map(root).collect();
    (reading, roots, seen)
}

/// Five segments: whole, whole, torn and adopted, whole, open. `salt` changes what they hold and nothing
/// else. The second gives each state of the record as it grew, one for each point.
fn record(salt: &str) -> (Image, Vec<Image>) {
    let mut maker = Maker { random: random(), ..Maker::default() };
    let mut states = Vec::new();
    let call = |number: u32| request(number, format!("{salt} {number}").repeat(9).as_bytes());
    let scripts: [Vec<Step>; 5] = [
        vec![
            Step::Flush(vec![Entry::new(Kind::Start, Now::default()), call(1)]),
            Step::Checkpoint,
            Step::Flush(vec![call(2)]),
            Step::Seal,
        ],
        vec![Step::Flush(vec![call(3), call(4)]), Step::Checkpoint, Step::Seal],
        vec![Step::Flush(vec![call(5)]), Step::Checkpoint, Step::Flush(vec![call(6)])],
        vec![Step::Flush(vec![call(7)]), Step::Seal],
        vec![Step::Flush(vec![call(8)]), Step::Checkpoint, Step::Flush(vec![call(9)])],
    ];
    for script in scripts {
        let name = format!("{:08}.seg", maker.number);
        let points = maker.segment(script);
        for point in points {
            let mut state = maker.files.clone();
            state.get_mut(&name).unwrap().truncate(point as usize);
            states.push(state);
        }
    }
    (maker.files, states)
}

fn number(name: &str) -> u32 {
    name[..8].parse().unwrap()
}

/// Damage is found, and one is named that touches `segments`; every range lies in a file.
fn assert_named(image: &Image, segments: &[u32], at: &str) {
    let (reading, ..) = look(image, &[]);
    assert!(!reading.is_consistent(), "{at} passed");
    let named = reading.damage.iter().any(|damage| segments.contains(&damage.segment));
    assert!(named, "{at} is not named: {:?} {:?}", reading.damage, reading.strays);
    for damage in &reading.damage {
        assert!(damage.offset <= damage.end, "{at}: {damage:?}");
    }
}

#[test]
fn the_whole_record_is_sound() {
    let (image, states) = record("a");
    let (reading, _, seen) = look(&image, &[]);
    assert!(reading.is_consistent(), "{:?}", reading.damage);
    assert_eq!((reading.segments, reading.entries, seen.sound_entries), (5, 10, 10));
    assert_eq!(states.last(), Some(&image));
}

// Mutant: a missing number is not told.
#[test]
fn every_file_removed_swapped_or_doubled_is_named() {
    let (image, _) = record("a");
    let names: Vec<String> = image.keys().cloned().collect();
    for name in &names {
        if number(name) < 4 {
            let mut less = image.clone();
            less.remove(name);
            assert_named(&less, &[number(name)], &format!("{name} removed"));
        }
        for other in &names {
            if name == other {
                continue;
            }
            let (a, b) = (number(name), number(other));
            let mut over = image.clone();
            over.insert(other.clone(), image[name].clone());
            assert_named(&over, &[b], &format!("{name} copied over {other}"));
            let mut swapped = over;
            swapped.insert(name.clone(), image[other].clone());
            assert_named(&swapped, &[a, b], &format!("{name} and {other} swapped"));
        }
        for next in [5, 6, 77] {
            let mut more = image.clone();
            more.insert(format!("{next:08}.seg"), image[name].clone());
            assert_named(&more, &[5, next], &format!("{name} copied as {next}"));
        }
    }
    for (from, to) in [(0, 3), (1, 3), (2, 4)] {
        let mut less = image.clone();
        less.retain(|name, _| !(from..to).contains(&number(name)));
        assert_named(&less, &[from], &format!("segments {from} to {to} removed"));
    }
}

// Before the first checkpoint nothing is signed, so a header can be made by anybody: its number must be
// that of the file. Mutant: the number in the header is not compared.
#[test]
fn a_newest_file_with_another_number_in_its_header_is_named() {
    for number in [0, 1, 3, 77] {
        let mut maker = Maker::default();
        maker.segment(vec![Step::Flush(vec![request(1, b"one")]), Step::Seal]);
        maker.segment(vec![Step::Flush(vec![request(2, b"two")]), Step::Seal]);
        let mut image = maker.files.clone();
        assert!(look(&image, &[]).0.is_consistent());
        maker.number = number;
        maker.files.clear();
        maker.segment(vec![Step::Flush(vec![request(3, b"three")])]);
        image.insert("00000002.seg".into(), maker.files.into_values().next().unwrap());
        assert_named(&image, &[2], &format!("header with the number {number}"));
    }
}

// A file put back to any older state of itself. Only the newest can pass by itself: it is then the
// record of an earlier moment.
#[test]
fn every_file_put_back_to_an_older_state_is_named() {
    let (image, states) = record("a");
    for state in &states {
        for (name, older) in state {
            if image[name] == *older {
                continue;
            }
            let mut back = image.clone();
            back.insert(name.clone(), older.clone());
            let at = format!("{name} put back to {} bytes", older.len());
            if number(name) < 4 {
                assert_named(&back, &[number(name)], &at);
            } else {
                assert!(look(&back, &[]).0.is_consistent(), "{at}");
            }
        }
    }
}

// The whole directory put back to each earlier moment: sound by itself, and found against every later
// checkpoint.
#[test]
fn a_roll_back_of_the_whole_directory_is_found_against_a_checkpoint_kept_elsewhere() {
    let (image, states) = record("a");
    let (_, _, seen) = look(&image, &[]);
    let kept = &seen.checkpoints;
    assert!(kept.len() >= 7, "{}", kept.len());
    let sizes: Vec<u64> = kept.iter().map(|checkpoint| checkpoint.size).collect();
    let (reading, roots, _) = look(&image, &sizes);
    assert!(reading.is_consistent());
    for (checkpoint, root) in kept.iter().zip(&roots) {
        assert_eq!(*root, Some(checkpoint.root));
    }
    for state in states {
        let (reading, roots, _) = look(&state, &sizes);
        assert!(reading.is_consistent(), "{:?}", reading.damage);
        let size = reading.tree.as_ref().unwrap().size();
        for (checkpoint, root) in kept.iter().zip(&roots) {
            let held = *root == Some(checkpoint.root);
            assert_eq!(held, checkpoint.size <= size, "{} of {size}", checkpoint.size);
        }
    }
}

// A second gateway with a copy of the key and the same clock: each file is sound and signed by itself.
#[test]
fn files_of_two_gateways_mixed_are_named() {
    let (image, _) = record("a");
    let (fork, _) = record("b");
    assert!(look(&fork, &[]).0.is_consistent());
    for choice in 1..31u32 {
        let mut mixed = image.clone();
        for (name, file) in &fork {
            if choice & 1 << number(name) != 0 {
                mixed.insert(name.clone(), file.clone());
            }
        }
        let all: Vec<u32> = (0..5).collect();
        assert_named(&mixed, &all, &format!("files {choice:05b} of the other"));
    }
    // The other history whole: sound, and found against a checkpoint of this one.
    let (_, _, seen) = look(&image, &[]);
    let checkpoint = seen.checkpoints.last().unwrap();
    let (reading, roots, _) = look(&fork, &[checkpoint.size]);
    assert!(reading.is_consistent());
    assert_ne!(roots[0], Some(checkpoint.root));
    // Another key altogether.
    let other = LogKey::from_seed("log.example", &[8; 32]).unwrap();
    let checks = Checks { key: Some(other.verifier()), commitments: true };
    let reading = read(&MemoryDisk::with(image), checks, &mut Kept::default()).unwrap();
    assert!(!reading.is_consistent());
}

fn write(image: &Image) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("segments")).unwrap();
    for (name, file) in image {
        std::fs::write(directory.path().join("segments").join(name), file).unwrap();
    }
    directory
}

/// Lines that `search` prints, and how it and `sessions` end.
fn read_commands(directory: &Path) -> (usize, Exit, Exit) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let options =
        SearchOptions { directory: directory.into(), json: true, ..SearchOptions::default() };
    let searched = search::run(&options, &mut out, &mut err).unwrap();
    let lines = out.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count();
    let options =
        SessionsOptions { directory: directory.into(), json: true, ..SessionsOptions::default() };
    let listed = sessions::run(&options, &mut Vec::new(), &mut err).unwrap();
    (lines, searched, listed)
}

// Mutant: the reading commands end with 0 whatever the reader found.
#[test]
fn what_stands_before_the_damage_is_read_and_the_commands_say_that_it_is_not_all() {
    let (image, _) = record("a");
    let (all, ..) = read_commands(write(&image).path());
    assert_eq!(all, 9, "one line for each call");
    let name = "00000002.seg";
    let length = image[name].len();
    for byte in (0..length).step_by(41).chain([length - 1]) {
        let mut damaged = image.clone();
        damaged.get_mut(name).unwrap()[byte] ^= 0x04;
        let (lines, searched, listed) = read_commands(write(&damaged).path());
        // Four calls stand in the segments before.
        assert!(lines >= 4, "byte {byte}: {lines}");
        assert_eq!((searched, listed), (Exit::Incomplete, Exit::Incomplete), "byte {byte}");
    }
    let mut less = image.clone();
    less.remove(name);
    let (lines, searched, listed) = read_commands(write(&less).path());
    assert!(lines >= 4);
    assert_eq!((searched, listed), (Exit::Incomplete, Exit::Incomplete));
}
