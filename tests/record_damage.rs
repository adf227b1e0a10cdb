//! Damage of every kind to a small record, and what the reader says of it.

mod record_support;

use std::io::Read;

use record_support::{Image, Maker, MemoryDisk, Step, key, random, read_all, request};
use stenograph::record::header::PreviousEnd;
use stenograph::record::recovery::recover;
use stenograph::record::writer::StartFault;
use stenograph::record::{Entry, Kind};
use stenograph::types::Now;

fn names(image: &Image) -> Vec<String> {
    image.keys().cloned().collect()
}

fn number(name: &str) -> u32 {
    name[..8].parse().unwrap()
}

#[test]
fn an_undamaged_record_reads_as_it_was_written() {
    let (image, _) = Maker::small_record();
    let (reading, kept) = read_all(&MemoryDisk::with(image)).unwrap();
    assert!(reading.is_consistent(), "{:?}", reading.damage);
    assert_eq!((reading.segments, reading.entries, reading.checkpoints), (3, 7, 4));
    assert_eq!(reading.unsigned_entries, 2);
    assert_eq!(reading.gaps.len(), 1, "{:?}", reading.gaps);
    let bodies: Vec<_> = kept.entries.iter().filter_map(|(_, _, parts)| parts.get(1)).collect();
    assert_eq!(bodies[0], b"one");
    assert_eq!(*bodies[5], b"six ".repeat(40));
    assert!(kept.entries.iter().all(|(place, ..)| place.sound));
}

#[test]
fn zstd_prints_the_plain_entries_of_every_segment() {
    let (image, _) = Maker::small_record();
    let mut plain = Vec::new();
    for (name, file) in &image {
        let whole = zstd::stream::read::Decoder::new(&file[..]).unwrap().read_to_end(&mut plain);
        // The killed segment ends inside a frame.
        assert_eq!(whole.is_ok(), number(name) < 2, "{name}");
    }
    for body in ["one", "two two two", "three", "four", "five", "six six six"] {
        assert!(plain.windows(body.len()).any(|window| window == body.as_bytes()), "{body}");
    }
}

/// Flips every bit of `names` and hands each image to `check`, on all cores.
fn each_flip(image: &Image, check: impl Fn(&str, usize, Image) + Sync) {
    let jobs: Vec<(String, usize)> = image
        .iter()
        .flat_map(|(name, file)| (0..file.len() * 8).map(move |bit| (name.clone(), bit)))
        .collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for core in 0..cores {
            let (jobs, check) = (&jobs, &check);
            scope.spawn(move || {
                for (name, bit) in jobs.iter().skip(core).step_by(cores) {
                    let mut image = image.clone();
                    image.get_mut(name).unwrap()[bit / 8] ^= 1 << (bit % 8);
                    check(name, *bit, image);
                }
            });
        }
    });
}

// Mutants this was checked against: the mark's chain not compared; FRAME_END compared in its last bit
// only.
#[test]
fn every_flipped_bit_of_every_file_is_found_and_named() {
    let (image, _) = Maker::small_record();
    each_flip(&image, |name, bit, damaged| {
        let (reading, kept) = read_all(&MemoryDisk::with(damaged)).unwrap();
        let at = format!("{name} byte {} bit {}", bit / 8, bit % 8);
        assert!(!reading.is_consistent(), "{at} passed");
        let byte = (bit / 8) as u64;
        let named = reading.damage.iter().any(|damage| {
            damage.segment == number(name) && damage.offset <= byte && byte <= damage.end
        });
        assert!(named, "{at} is not named: {:?}", reading.damage);
        // What stands in the segments before the damage is still read, and sound.
        let before = [0, 3, 4][number(name) as usize];
        let sound = kept.entries.iter().filter(|(place, ..)| place.segment < number(name));
        assert_eq!(sound.clone().count(), before, "{at}");
        assert!(sound.clone().all(|(place, ..)| place.sound), "{at}");
    });
}

// Cutting the newest segment exactly at one of its points gives the record of an earlier moment:
// nothing in the files can show that, only a checkpoint kept elsewhere.
#[test]
fn every_cut_is_found_but_for_points_of_the_newest_segment() {
    let (image, points) = Maker::small_record();
    for (name, file) in &image {
        for length in 0..file.len() {
            let mut cut = image.clone();
            cut.get_mut(name).unwrap().truncate(length);
            let (reading, _) = read_all(&MemoryDisk::with(cut)).unwrap();
            // A frame end stands between the mark and the checkpoint behind it.
            let point = number(name) == 2
                && (points.contains(&(length as u64)) || points[1] + 3 == length as u64);
            assert_eq!(reading.is_consistent(), point, "{name} cut at {length}");
            if !point {
                assert!(reading.damage.iter().any(|damage| damage.segment == number(name)));
            }
        }
    }
}

// A sealed segment that is the newest, cut at a point, is the open segment of an earlier moment too;
// everywhere else its cut is found.
#[test]
fn cuts_of_a_newest_sealed_segment() {
    let (mut image, _) = Maker::small_record();
    image.remove("00000002.seg");
    let file = image["00000001.seg"].clone();
    let mut passed = Vec::new();
    for length in 0..file.len() {
        image.insert("00000001.seg".into(), file[..length].to_vec());
        let (reading, _) = read_all(&MemoryDisk::with(image.clone())).unwrap();
        if reading.is_consistent() {
            passed.push(length);
            assert!(!reading.gaps.is_empty());
        }
    }
    // The ends of the header, of the mark, of the frame.
    assert_eq!(passed.len(), 3, "{passed:?}");
}

#[test]
fn removed_swapped_duplicated_and_foreign_files_are_found() {
    let (image, _) = Maker::small_record();
    let all = names(&image);
    for name in &all[..2] {
        let mut less = image.clone();
        less.remove(name);
        let (reading, _) = read_all(&MemoryDisk::with(less)).unwrap();
        let missing = &reading.damage[0];
        assert_eq!(
            (missing.segment, missing.what.as_str()),
            (number(name), "segment file is missing")
        );
    }
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        let mut swapped = image.clone();
        let first = swapped[&all[a]].clone();
        let second = swapped.insert(all[b].clone(), first).unwrap();
        swapped.insert(all[a].clone(), second);
        let (reading, _) = read_all(&MemoryDisk::with(swapped)).unwrap();
        for segment in [a as u32, b as u32] {
            assert!(reading.damage.iter().any(|damage| damage.segment == segment));
        }
    }
    for from in 0..3 {
        for to in ["00000003.seg", "00000001.seg", "00000000.seg", "copy.seg"] {
            if all[from] != to {
                let mut doubled = image.clone();
                doubled.insert(to.into(), image[&all[from]].clone());
                let (reading, _) = read_all(&MemoryDisk::with(doubled)).unwrap();
                assert!(!reading.is_consistent(), "{} as {to}", all[from]);
            }
        }
    }
    // The newest removed: the record of an earlier moment, with a gap, because no stop entry ends it.
    let mut less = image.clone();
    less.remove(&all[2]);
    let (reading, _) = read_all(&MemoryDisk::with(less)).unwrap();
    assert!(reading.is_consistent() && reading.gaps.len() == 1);
    // An older state of a middle segment.
    let mut maker = Maker::default();
    maker.segment(vec![Step::Flush(vec![Entry::new(Kind::Start, Now::default())]), Step::Seal]);
    let mut older = image.clone();
    older.insert(all[0].clone(), maker.files[&all[0]].clone());
    let (reading, _) = read_all(&MemoryDisk::with(older)).unwrap();
    assert!(!reading.is_consistent());
}

// Whoever holds the signing key can write a segment that is sound by itself; how segments join still
// tells. Mutants: the chain carried over not compared; the tree in the header not compared.
#[test]
fn a_segment_that_is_signed_but_does_not_join_is_found() {
    let (image, _) = Maker::small_record();
    let first = |late_ns| {
        let mut maker = Maker { late_ns, ..Maker::default() };
        maker.segment(vec![
            Step::Flush(vec![Entry::new(Kind::Start, Now::default())]),
            Step::Flush(vec![request(1, b"one"), request(2, b"two two two two two two")]),
            Step::Checkpoint,
            Step::Seal,
        ]);
        maker
    };
    assert_eq!(first(0).files["00000000.seg"], image["00000000.seg"]);
    // The same entries, the same length, signed at another time.
    let mut other = image.clone();
    let replaced = first(1).files["00000000.seg"].clone();
    assert_eq!(replaced.len(), image["00000000.seg"].len());
    other.insert("00000000.seg".into(), replaced);
    let (reading, _) = read_all(&MemoryDisk::with(other)).unwrap();
    assert_eq!(reading.damage.len(), 1, "{:?}", reading.damage);
    assert_eq!(reading.damage[0].segment, 0);
    // A second segment that carries the chain on and forgets the entries before it.
    let mut maker = first(0);
    maker.tree = stenograph::record::tree::Tree::new();
    maker.segment(vec![Step::Flush(vec![request(3, b"three")]), Step::Seal]);
    let (reading, _) = read_all(&MemoryDisk::with(maker.files)).unwrap();
    assert_eq!(reading.damage.len(), 1, "{:?}", reading.damage);
    assert_eq!(reading.damage[0].segment, 1);
}

#[test]
fn bytes_inserted_anywhere_are_found() {
    let (image, _) = Maker::small_record();
    for (name, file) in &image {
        for at in 0..=file.len() {
            for insert in [&b"\0"[..], b"\x01\0\0", b"\x28\xB5\x2F\xFD\x00\x40"] {
                let mut damaged = image.clone();
                damaged.get_mut(name).unwrap().splice(at..at, insert.iter().copied());
                let (reading, _) = read_all(&MemoryDisk::with(damaged)).unwrap();
                let end_of_frame = number(name) == 2 && at == file.len() && insert.len() == 3;
                // Ending the open frame is what a writer may do next; it adds no entry.
                assert_eq!(reading.is_consistent(), end_of_frame, "{name} at {at}: {insert:?}");
            }
        }
    }
}

#[test]
fn another_key_and_no_key() {
    use stenograph::record::keys::LogKey;
    use stenograph::record::reader::{Checks, read};
    let (image, _) = Maker::small_record();
    let disk = MemoryDisk::with(image);
    for (name, seed) in [("log.example", 8), ("other.example", 7)] {
        let other = LogKey::from_seed(name, &[seed; 32]).unwrap();
        let checks = Checks { key: Some(other.verifier()), commitments: true };
        let reading = read(&disk, checks, &mut record_support::Kept::default()).unwrap();
        assert!(!reading.is_consistent());
        let refused = recover(&disk, other.verifier(), true).unwrap_err();
        assert!(matches!(refused, StartFault::OtherLog(_)));
    }
    let checks = Checks { key: None, commitments: true };
    let reading = read(&disk, checks, &mut record_support::Kept::default()).unwrap();
    assert!(reading.is_consistent());
}

// Crash here: an append cut off at any byte. Recovery keeps every whole flush, the next segment tells
// the residue, and the whole verifies.
#[test]
fn every_torn_tail_is_adopted() {
    let (image, points) = Maker::small_record();
    let newest = image["00000002.seg"].clone();
    for zeros in [0, 700] {
        for length in points[0] as usize..newest.len() {
            let mut torn = image.clone();
            let file = torn.get_mut("00000002.seg").unwrap();
            file.truncate(length);
            file.resize(length + zeros, 0);
            let disk = MemoryDisk::with(torn.clone());
            let recovered = match recover(&disk, key().verifier(), false) {
                Ok(recovered) => recovered,
                Err(fault) => {
                    // Zeros inside a compressed block contradict it: damaged, never silently dropped.
                    assert!(zeros > 0, "cut at {length}: {fault}");
                    continue;
                }
            };
            assert_eq!((recovered.segment, recovered.previous.end), (3, PreviousEnd::Torn));
            let kept = recovered.previous.kept_bytes;
            let whole = points.iter().filter(|&&point| point <= length as u64).max().unwrap();
            assert!(kept >= *whole, "cut at {length} kept {kept}");
            let mut maker = Maker {
                files: torn,
                random: random(),
                number: recovered.segment,
                previous: recovered.previous,
                tree: recovered.tree,
                ..Maker::default()
            };
            maker.segment(vec![Step::Flush(vec![request(9, b"after")]), Step::Seal]);
            let (reading, read) = read_all(&MemoryDisk::with(maker.files.clone())).unwrap();
            assert!(reading.is_consistent(), "cut at {length}: {:?}", reading.damage);
            assert_eq!(read.entries.last().unwrap().2[1], b"after");
            assert!(reading.gaps.iter().any(|gap| gap.segment == 2));
            // The residue is covered too.
            if recovered.previous.residue_bytes > 0 {
                let file = maker.files.get_mut("00000002.seg").unwrap();
                *file.last_mut().unwrap() ^= 1;
                let (reading, _) = read_all(&MemoryDisk::with(maker.files)).unwrap();
                assert!(!reading.is_consistent());
            }
        }
    }
}

#[test]
fn a_damaged_newest_segment_is_not_continued_without_an_order() {
    let (image, _) = Maker::small_record();
    each_flip(&image, |name, bit, damaged| {
        if number(name) < 2 {
            return;
        }
        let disk = MemoryDisk::with(damaged.clone());
        match recover(&disk, key().verifier(), false) {
            Err(StartFault::Damaged { segment: 2, .. } | StartFault::OtherLog(_)) => {}
            // A length that was damaged behind the last checkpoint reads as torn.
            Ok(recovered) => {
                assert!(recovered.previous.residue_bytes > 0, "bit {bit}");
                assert!(recovered.tree.size() >= 5, "bit {bit}: signed entries are kept");
            }
            Err(fault) => panic!("bit {bit}: {fault}"),
        }
        if let Ok(recovered) = recover(&disk, key().verifier(), true) {
            let mut maker = Maker {
                files: damaged,
                number: recovered.segment,
                previous: recovered.previous,
                tree: recovered.tree,
                ..Maker::default()
            };
            maker.segment(vec![Step::Flush(vec![request(9, b"after")]), Step::Seal]);
            let (reading, kept) = read_all(&MemoryDisk::with(maker.files)).unwrap();
            assert_eq!(kept.entries.last().unwrap().2[1], b"after", "bit {bit}");
            let stated = recovered.previous.end == PreviousEnd::Damaged;
            assert_eq!(!reading.is_consistent(), stated, "bit {bit}: {:?}", reading.damage);
        }
    });
}
