//! A record that holds everything the format knows: a cosigned checkpoint, originals sealed under two
//! keys with their files, a change of the log's key. Every bit of every file flipped, every length cut,
//! every file removed, swapped, doubled or put back to an older state: found and named, and what stands
//! before the damage is read. A key file that is gone is told as erased, which is no damage.

mod record_support;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use record_support::{Image, Maker, MemoryDisk, Step, auditor, key, next_key, witness};
use stenograph::audit::Exit;
use stenograph::audit::since::Kept;
use stenograph::audit::verify::{VerifyOptions, run as verify};
use stenograph::record::disk::Files;
use stenograph::record::entry::EntryView;
use stenograph::record::key_files::{KeyFiles, KeyReport};
use stenograph::record::keys::LogKey;
use stenograph::record::note::{Checkpoint, Note};
use stenograph::record::reader::{Checks, Reading, read};
use stenograph::record::recovery::recover_after;
use stenograph::record::rotation::Rotation;
use stenograph::record::scan::{Place, Sink};
use stenograph::record::seal::{DataKey, KeyId, key_of, restore, sealed_part};
use stenograph::record::{Entry, Kind, PartKind};
use stenograph::types::Now;

/// What is seen of a record.
#[derive(Default)]
struct Seen {
    key_files: KeyFiles,
    /// Segment of each entry that is proven.
    sound: Vec<u32>,
    cosigned: usize,
    /// What the auditor restores.
    restored: Vec<String>,
    /// An auditor reads, with these.
    data_keys: Vec<DataKey>,
}

impl Sink for Seen {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        self.key_files.add(place, entry);
        if place.sound {
            self.sound.push(place.segment);
        }
        let Some((_, Some(part))) = sealed_part(entry) else { return };
        let key = key_of(part).ok().and_then(|id| self.data_keys.iter().find(|key| key.id() == id));
        let restored = key.and_then(|key| restore(entry, key).ok());
        self.restored.extend(
            restored.iter().flatten().map(|one| String::from_utf8_lossy(&one.bytes).into_owned()),
        );
    }

    fn cosignatures(&mut self, _: (u32, u64), _: &Checkpoint, note: &Note<'_>) {
        if self.data_keys.is_empty() {
            return;
        }
        let by_witness = note.signatures.iter().filter(|line| {
            let witness = witness();
            let verifier = witness.verifier();
            verifier.is_named(line) && verifier.verify(line, note.text).is_some()
        });
        self.cosigned += by_witness.count();
    }
}

struct Judged {
    reading: Reading,
    keys: KeyReport,
    seen: Seen,
}

impl Judged {
    fn is_intact(&self) -> bool {
        let keys = &self.keys;
        self.reading.is_consistent() && keys.damage.is_empty() && keys.unreadable.is_empty()
    }

    /// Entries of the segments before `segment` that are proven.
    fn sound_before(&self, segment: u32) -> usize {
        self.seen.sound.iter().filter(|of| **of < segment).count()
    }
}

fn judge_by(trusted: &LogKey, files: Image, keys: Image) -> Judged {
    judged(Seen::default(), trusted, files, keys)
}

/// The same, by an auditor.
fn audit(trusted: &LogKey, files: Image, keys: Image) -> Judged {
    let mut seen = Seen::default();
    for file in keys.values() {
        seen.data_keys.extend(DataKey::of_file(file, &[auditor()]));
    }
    judged(seen, trusted, files, keys)
}

fn judged(mut seen: Seen, trusted: &LogKey, files: Image, keys: Image) -> Judged {
    let disk = MemoryDisk::with(files);
    disk.set_keys(keys);
    let checks = Checks { key: Some(trusted.verifier()), commitments: true };
    let reading = read(&disk, checks, &mut seen).unwrap();
    let keys = std::mem::take(&mut seen.key_files).check(&disk as &dyn Files, false).unwrap();
    Judged { reading, keys, seen }
}

/// Judged by the key that the log began with.
fn judge(files: Image, keys: Image) -> Judged {
    judge_by(&key(), files, keys)
}

fn number(name: &str) -> u32 {
    name[..8].parse().unwrap()
}

/// Entries in each segment.
const ENTRIES: [usize; 3] = [3, 5, 2];

#[test]
fn the_record_is_sound_and_an_auditor_reads_what_is_sealed() {
    let (maker, states) = Maker::full_record();
    assert_eq!(states.last(), Some(&maker.files));
    for trusted in [key(), next_key()] {
        let judged = audit(&trusted, maker.files.clone(), maker.keys.clone());
        assert!(judged.is_intact(), "{:?} {:?}", judged.reading.damage, judged.keys.damage);
        let counts = ENTRIES.map(|entries| entries as u64);
        assert_eq!(judged.reading.entries, counts.iter().sum::<u64>());
        assert_eq!(judged.seen.sound.len() as u64, judged.reading.entries);
        assert_eq!(judged.seen.cosigned, 1);
        assert_eq!(judged.reading.keys.len(), 2);
        assert_eq!((judged.keys.named, judged.keys.erased.len()), (2, 0));
        let restored = ["secret 1", "secret 2", "nobody but an auditor reads this"];
        assert_eq!(judged.seen.restored[..3], restored);
        assert_eq!(judged.seen.restored[3..], ["secret 4", "secret 5"]);
    }
}

/// Runs `check` for each number below `count`, on all cores.
fn on_all_cores(count: usize, check: impl Fn(usize) + Sync) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for core in 0..cores {
            let check = &check;
            scope.spawn(move || (core..count).step_by(cores).for_each(check));
        }
    });
}

// Mutant: the chain of a checkpoint or mark not compared.
#[test]
fn every_flipped_bit_of_every_segment_is_found_and_named() {
    let (maker, _) = Maker::full_record();
    for (name, file) in &maker.files {
        on_all_cores(file.len() * 8, |bit| {
            let mut damaged = maker.files.clone();
            damaged.get_mut(name).unwrap()[bit / 8] ^= 1 << (bit % 8);
            // Each byte is judged by both keys.
            let trusted = if bit % 2 == 0 { key() } else { next_key() };
            let judged = judge_by(&trusted, damaged, maker.keys.clone());
            let at = format!("{name} byte {} bit {}", bit / 8, bit % 8);
            let byte = (bit / 8) as u64;
            let damage = &judged.reading.damage;
            assert!(!damage.is_empty(), "{at} passed");
            let named = damage.iter().any(|damage| {
                damage.segment == number(name) && damage.offset <= byte && byte <= damage.end
            });
            assert!(named, "{at} is not named: {damage:?}");
            // Nothing that is proven is taken back.
            let before = ENTRIES[..number(name) as usize].iter().sum::<usize>();
            let by_first = trusted.verifier() == key().verifier();
            if by_first {
                assert_eq!(judged.sound_before(number(name)), before, "{at}");
                assert!(damage.iter().all(|damage| damage.segment >= number(name)), "{at}");
            }
        });
    }
}

// A flipped bit in a key file is damage of that file and of nothing else. Mutant: the digest of a key
// file is not compared.
#[test]
fn every_flipped_bit_and_every_length_of_every_key_file_is_found_and_named() {
    let (maker, _) = Maker::full_record();
    let whole = judge(maker.files.clone(), maker.keys.clone()).seen;
    for (name, file) in &maker.keys {
        let check = |changed: Vec<u8>, at: String| {
            let mut keys = maker.keys.clone();
            keys.insert(name.clone(), changed);
            let judged = judge(maker.files.clone(), keys);
            assert!(!judged.is_intact(), "{at} passed");
            assert_eq!(judged.keys.damage.len(), 1, "{at}: {:?}", judged.keys.damage);
            assert!(judged.keys.damage[0].what.contains(name), "{at}: {:?}", judged.keys.damage);
            assert!(judged.keys.damage[0].entry.is_some());
            assert!(judged.keys.erased.is_empty() && judged.keys.foreign.is_empty(), "{at}");
            assert!(judged.reading.is_consistent(), "{at}: {:?}", judged.reading.damage);
            assert_eq!(judged.seen.sound.len(), whole.sound.len(), "{at}");
        };
        on_all_cores(file.len() * 8, |bit| {
            let mut changed = file.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            check(changed, format!("{name} byte {} bit {}", bit / 8, bit % 8));
        });
        on_all_cores(file.len(), |length| {
            check(file[..length].to_vec(), format!("{name} cut at {length}"));
        });
        check([&file[..], b"\0"].concat(), format!("{name} grown"));
    }
}

// Mutants: an erased key is not told; a key file that no entry names is not told.
#[test]
fn key_files_removed_are_erased_and_swapped_or_doubled_ones_are_told() {
    let (maker, _) = Maker::full_record();
    let names: Vec<String> = maker.keys.keys().cloned().collect();
    let sealed = audit(&key(), maker.files.clone(), maker.keys.clone()).seen.restored.len();
    for name in &names {
        let mut keys = maker.keys.clone();
        keys.remove(name);
        let judged = audit(&key(), maker.files.clone(), keys);
        let id = KeyId::of_file_name(name).unwrap();
        assert!(judged.is_intact(), "an erased key is no damage");
        assert_eq!(judged.keys.erased, [id]);
        // What the other key sealed still opens.
        let restored = judged.seen.restored.len();
        assert!(restored > 0 && restored < sealed, "{restored} of {sealed}");
        for other in ["00112233445566778899aabbccddeeff.age", "copy.age", "copy"] {
            let mut keys = maker.keys.clone();
            keys.insert(other.into(), maker.keys[name].clone());
            let judged = audit(&key(), maker.files.clone(), keys.clone());
            assert!(judged.is_intact());
            assert_eq!(judged.keys.foreign, [other], "{name} copied");
            keys.remove(name);
            let judged = audit(&key(), maker.files.clone(), keys);
            assert_eq!(
                (&judged.keys.erased[..], &judged.keys.foreign[..]),
                (&[id][..], &[other.to_owned()][..])
            );
        }
    }
    let judged = audit(&key(), maker.files.clone(), Image::new());
    assert!(judged.is_intact() && judged.keys.erased.len() == 2 && judged.seen.restored.is_empty());
    // In each other's place, or one in both: the one that is not what was written is named.
    let [one, other] = [&maker.keys[&names[0]], &maker.keys[&names[1]]];
    for (first, second, wrong) in [(other, one, 2), (one, one, 1), (other, other, 1)] {
        let keys = [(names[0].clone(), first.clone()), (names[1].clone(), second.clone())];
        let judged = audit(&key(), maker.files.clone(), keys.into());
        assert_eq!(judged.keys.damage.len(), wrong, "{:?}", judged.keys.damage);
        assert!(judged.reading.is_consistent() && judged.keys.erased.is_empty());
    }
}

// Only the newest segment, cut at one of its points, is the record of an earlier moment.
#[test]
fn every_cut_is_found_but_for_points_of_the_newest_segment() {
    let (maker, states) = Maker::full_record();
    let points: Vec<usize> =
        states.iter().filter_map(|state| state.get("00000002.seg")).map(Vec::len).collect();
    for (name, file) in &maker.files {
        on_all_cores(file.len(), |length| {
            let mut cut = maker.files.clone();
            cut.get_mut(name).unwrap().truncate(length);
            let judged = judge(cut, maker.keys.clone());
            // A frame may end behind a mark, with three bytes.
            let point = number(name) == 2
                && points.iter().any(|point| *point == length || point + 3 == length);
            let at = format!("{name} cut at {length}");
            assert!(point || !judged.is_intact(), "{at} passed");
            if !judged.is_intact() {
                let first = judged.reading.damage.first().expect("a damage");
                assert_eq!(first.segment, number(name), "{at}: {first:?}");
            }
            let before = ENTRIES[..number(name) as usize].iter().sum::<usize>();
            assert_eq!(judged.sound_before(number(name)), before, "{at}");
        });
    }
    for point in points {
        let mut cut = maker.files.clone();
        cut.get_mut("00000002.seg").unwrap().truncate(point);
        assert!(judge(cut, maker.keys.clone()).is_intact(), "point {point}");
    }
}

// Crash here: anywhere between the first byte of the segment with the new key and its first checkpoint.
// What is kept says the change of keys, or the next start says it again, so that both keys verify all of
// it. Mutants: a rotation is looked for in whole frames only; one in a flush that is not whole counts.
#[test]
fn a_crash_just_behind_a_change_of_the_key_leaves_a_record_that_both_keys_verify() {
    let (maker, states) = Maker::full_record();
    let name = "00000001.seg";
    let lengths: Vec<usize> =
        states.iter().filter(|state| state.len() == 2).map(|state| state[name].len()).collect();
    let said_again = AtomicUsize::new(0);
    on_all_cores(lengths[2] - lengths[0], |more| {
        let length = lengths[0] + more;
        let mut files = maker.files.clone();
        files.remove("00000002.seg");
        files.get_mut(name).unwrap().truncate(length);
        let disk = MemoryDisk::with(files.clone());
        let (old, new) = (key(), next_key());
        let recovered = recover_after(&disk, new.verifier(), Some(old.verifier()), false).unwrap();
        assert_eq!(recovered.rotates, length < lengths[1], "cut at {length}");
        let mut next = Maker {
            files,
            number: recovered.segment,
            previous: recovered.previous,
            tree: recovered.tree,
            signer: new,
            ..Maker::default()
        };
        let mut entries = vec![Entry::new(Kind::Start, Now::default())];
        if recovered.rotates {
            said_again.fetch_add(1, Ordering::Relaxed);
            let (size, root) = (next.tree.size(), next.tree.root());
            let rotation = Rotation::sign(&old, &next.signer, size, root).to_string();
            let entry = Entry::new(Kind::Rotation, Now::default());
            entries.push(entry.part(PartKind::Detail, rotation));
        }
        next.segment(vec![Step::Flush(entries), Step::Seal]);
        for trusted in [key(), next_key()] {
            let judged = judge_by(&trusted, next.files.clone(), maker.keys.clone());
            assert!(judged.is_intact(), "cut at {length}: {:?}", judged.reading.damage);
            assert_eq!(judged.reading.unsigned_entries, 0);
        }
    });
    assert_eq!(said_again.into_inner(), lengths[1] - lengths[0]);
}

#[test]
fn every_segment_removed_swapped_doubled_or_put_back_is_named() {
    let (maker, states) = Maker::full_record();
    let assert_named = |files: Image, segments: &[u32], at: String| {
        let judged = judge(files, maker.keys.clone());
        let damage = &judged.reading.damage;
        let named = damage.iter().any(|damage| segments.contains(&damage.segment));
        assert!(named, "{at}: {damage:?}");
        let first = *segments.iter().min().unwrap();
        let before = ENTRIES.iter().take(first as usize).sum::<usize>();
        assert_eq!(judged.sound_before(first), before, "{at}");
    };
    for name in maker.files.keys() {
        if number(name) < 2 {
            let mut less = maker.files.clone();
            less.remove(name);
            assert_named(less, &[number(name)], format!("{name} removed"));
        }
        for other in maker.files.keys().filter(|other| *other != name) {
            let mut over = maker.files.clone();
            over.insert(other.clone(), maker.files[name].clone());
            assert_named(over.clone(), &[number(other)], format!("{name} over {other}"));
            over.insert(name.clone(), maker.files[other].clone());
            assert_named(over, &[number(name), number(other)], format!("{name} and {other}"));
        }
        let mut more = maker.files.clone();
        more.insert("00000003.seg".into(), maker.files[name].clone());
        assert_named(more, &[2, 3], format!("{name} as the next"));
    }
    for state in &states {
        for (name, older) in state.iter().filter(|(name, older)| maker.files[*name] != **older) {
            let mut back = maker.files.clone();
            back.insert(name.clone(), older.clone());
            if number(name) < 2 {
                assert_named(back, &[number(name)], format!("{name} of {} bytes", older.len()));
            }
        }
    }
}

fn write(at: &Path, files: &Image, keys: &Image) {
    let _ = std::fs::remove_dir_all(at);
    for (folder, files) in [("segments", files), ("keys", keys)] {
        std::fs::create_dir_all(at.join(folder)).unwrap();
        for (name, file) in files {
            std::fs::write(at.join(folder).join(name), file).unwrap();
        }
    }
}

/// The notes of the checkpoints in a record.
#[derive(Default)]
struct Notes(Vec<Checkpoint>);

impl Sink for Notes {
    fn entry(&mut self, _: &Place, _: &EntryView<'_>) {}

    fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.0.push(checkpoint.clone());
    }
}

// The newest segments taken away, or the whole put back: intact by itself, and found against each
// checkpoint that was kept elsewhere, by the command. Mutant: a checkpoint that the record does not reach
// holds (`Kept::verdict`).
#[test]
fn removal_of_the_newest_segments_is_found_against_a_checkpoint_kept_elsewhere() {
    let (maker, states) = Maker::full_record();
    let folder = tempfile::tempdir().unwrap();
    let (record, kept_at) = (folder.path().join("record"), folder.path().join("kept"));
    let mut notes = Notes::default();
    let trusted = key();
    let checks = Checks { key: Some(trusted.verifier()), commitments: true };
    read(&MemoryDisk::with(maker.files.clone()), checks, &mut notes).unwrap();
    assert_eq!(notes.0.len(), 5);
    let run = |files: &Image, keys: &Image, since: Vec<Kept>| {
        write(&record, files, keys);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let options = VerifyOptions {
            directory: record.clone(),
            key: Some(key().verifier().clone()),
            since,
            witnesses: Vec::new(),
            json: true,
            threads: std::num::NonZeroUsize::MIN,
        };
        let exit = verify(&options, &mut out, &mut err).unwrap();
        (exit, serde_json::from_slice::<serde_json::Value>(&out).unwrap())
    };
    for checkpoint in &notes.0 {
        let signer = if checkpoint.segment == 0 { key() } else { next_key() };
        std::fs::write(&kept_at, checkpoint.sign(&signer)).unwrap();
        let kept = || Kept::read(&kept_at).unwrap();
        let (exit, said) = run(&maker.files, &maker.keys, kept());
        assert_eq!(exit, Exit::Done, "{said}");
        for state in &states {
            let (exit, said) = run(state, &maker.keys, Vec::new());
            assert_eq!((exit, &said["intact"]), (Exit::Done, &true.into()), "{said}");
            let size = said["size"].as_u64().unwrap();
            let (exit, said) = run(state, &maker.keys, kept());
            if size >= checkpoint.size {
                continue;
            }
            assert_eq!(exit, Exit::No, "{size} of {}: {said}", checkpoint.size);
            let what = said["since"][0]["what"].as_str().unwrap();
            // Who trusts the first key learns of the next one from the record alone.
            let unknown = checkpoint.segment > 0 && said["keys"].as_array().unwrap().len() == 1;
            let expected = if unknown {
                "the checkpoint is not signed by the log's key"
            } else {
                "rolled back"
            };
            assert!(what.starts_with(expected), "{said}");
        }
    }
    // Key files of what is no longer there stay behind, and are told.
    let (_, said) = run(&states[0], &maker.keys, Vec::new());
    assert_eq!(said["sealed"]["foreign"].as_array().unwrap().len(), 2, "{said}");
}
