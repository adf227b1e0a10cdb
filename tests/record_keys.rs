//! Which key signs which segment: where a change of the log's key may stand, and what is said of a record
//! in which the file that may hold the change cannot be read.

mod record_support;

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use record_support::{Maker, Step, key, next_key, request};
use serde_json::Value;
use stenograph::audit::Exit;
use stenograph::audit::verify::{self, VerifyOptions};
use stenograph::record::keys::{LogKey, VerifierKey};
use stenograph::record::rotation::Rotation;
use stenograph::record::{Entry, Kind, PartKind};
use stenograph::types::Now;

fn last_key() -> LogKey {
    LogKey::from_seed("log.example", &[23; 32]).unwrap()
}

fn start() -> Entry {
    Entry::new(Kind::Start, Now::default())
}

/// The change to `new`, as a start at this place says it.
fn rotation(maker: &Maker, new: &LogKey) -> Entry {
    let (size, root) = (maker.tree.size(), maker.tree.root());
    let detail = Rotation::sign(&maker.signer, new, size, root).to_string();
    Entry::new(Kind::Rotation, Now::default()).part(PartKind::Detail, detail)
}

/// The maker starts with `new` from here on.
fn change(maker: &mut Maker, new: LogKey) {
    let rotation = rotation(maker, &new);
    maker.signer = new;
    maker.segment(vec![Step::Flush(vec![start(), rotation]), Step::Seal]);
}

fn call(maker: &mut Maker) {
    let calls = Step::Flush(vec![start(), request(1, b"a call")]);
    maker.segment(vec![calls, Step::Checkpoint, Step::Witnessed, Step::Seal]);
}

/// `verify` of the record with directories in the place of the segments `unread`, for each key: its exit
/// code.
fn exits(maker: &Maker, unread: &[u32], keys: &[&LogKey]) -> Vec<Exit> {
    told(maker, unread, keys).into_iter().map(|(exit, _)| exit).collect()
}

/// The same, with the segments that it says are not covered.
fn told(maker: &Maker, unread: &[u32], keys: &[&LogKey]) -> Vec<(Exit, Vec<u64>)> {
    let directory = tempfile::tempdir().unwrap();
    let segments = directory.path().join("segments");
    fs::create_dir(&segments).unwrap();
    for (name, bytes) in &maker.files {
        fs::write(segments.join(name), bytes).unwrap();
    }
    for number in unread {
        let file = segments.join(format!("{number:08}.seg"));
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
    }
    keys.iter().map(|key| verified(directory.path(), key.verifier())).collect()
}

fn verified(directory: &Path, key: &VerifierKey) -> (Exit, Vec<u64>) {
    let threads = [1, 2].map(|threads| {
        let options = VerifyOptions {
            directory: directory.to_owned(),
            key: Some(key.clone()),
            since: Vec::new(),
            witnesses: Vec::new(),
            json: true,
            threads: NonZeroUsize::new(threads).unwrap(),
        };
        let mut out = Vec::new();
        let exit = verify::run(&options, &mut out, &mut std::io::sink()).unwrap();
        let said: Value = serde_json::from_slice(&out).unwrap();
        let unread = said["unreadable"].as_array().unwrap().iter();
        (exit, unread.map(|one| one["segment"].as_u64().unwrap()).collect::<Vec<_>>())
    });
    assert_eq!(threads[0], threads[1], "one thread and two");
    let [one, _] = threads;
    one
}

/// Segments: call, change, call, change, call.
fn two_changes() -> Maker {
    let mut maker = Maker::default();
    call(&mut maker);
    change(&mut maker, next_key());
    call(&mut maker);
    change(&mut maker, last_key());
    call(&mut maker);
    maker
}

// Mutants: `KeyPlan::follow` that passes over a file that cannot be read; `is_sure` without its lower
// bound, without its upper one; `scan::open`, and the checks of a cosigned checkpoint and of a rotation,
// without `key_sure`; a key that does not occur held for sure; `key_unknown` not told.
#[test]
fn what_follows_from_a_file_that_cannot_be_read_is_not_covered_and_not_damaged() {
    let maker = two_changes();
    let (first, second, third) = (key(), next_key(), last_key());
    let all = [&first, &second, &third];
    assert_eq!(exits(&maker, &[], &all), [Exit::Done; 3]);
    for unread in [&[0][..], &[1], &[2], &[3], &[4], &[0, 3], &[1, 3], &[1, 2, 3]] {
        assert_eq!(exits(&maker, unread, &all), [Exit::Incomplete; 3], "{unread:?}");
    }
    // What another key signed is named, and nothing else.
    let named = [&[1, 2, 3, 4][..], &[0, 1], &[0, 1]];
    let expected = named.map(|segments| (Exit::Incomplete, segments.to_vec()));
    assert_eq!(told(&maker, &[1], &all), expected);
    assert_eq!(told(&maker, &[2], &all), [2, 2, 2].map(|one| (Exit::Incomplete, vec![one])));
}

// Mutants: nothing is sure, ever or once a file could not be read; a rotation that goes on from the same
// key does not make it sure again; a bad signature by the right key taken for another key's.
#[test]
fn what_can_be_read_is_damaged_as_ever() {
    let mut maker = two_changes();
    // A key that nobody trusts signs a segment whose key is known.
    maker.signer = LogKey::from_seed("log.example", &[99; 32]).unwrap();
    call(&mut maker);
    for unread in [&[][..], &[0], &[1], &[2]] {
        assert_eq!(exits(&maker, unread, &[&last_key()]), [Exit::No], "{unread:?}");
    }
    // The same where the change is behind it.
    let stranger = LogKey::from_seed("log.example", &[99; 32]).unwrap();
    let mut maker = Maker { signer: stranger, ..Maker::default() };
    call(&mut maker);
    maker.signer = key();
    call(&mut maker);
    change(&mut maker, next_key());
    call(&mut maker);
    for unread in [&[][..], &[1], &[3]] {
        let exits = exits(&maker, unread, &[&key(), &next_key()]);
        let expected = if unread == [1] { Exit::Incomplete } else { Exit::No };
        assert_eq!(exits, [expected; 2], "{unread:?}");
    }
    // A flipped bit, where any key may have signed.
    let mut maker = two_changes();
    let file = maker.files.get_mut("00000002.seg").unwrap();
    let middle = file.len() / 2;
    file[middle] ^= 1;
    assert_eq!(exits(&maker, &[1], &[&key()]), [Exit::No]);
    // A signature that does not fit, by the key that is trusted, there too.
    let mut maker = two_changes();
    let file = maker.files.get_mut("00000000.seg").unwrap();
    let near_end = file.len() - 20;
    file[near_end] = if file[near_end] == b'A' { b'B' } else { b'A' };
    assert_eq!(exits(&maker, &[1], &[&key()]), [Exit::No]);
}

// Mutants: each of the three conditions of the place taken out of `Scan::rotation`.
#[test]
fn a_rotation_stands_in_the_first_flush_behind_the_start_and_nowhere_else() {
    let sound = |steps: &dyn Fn(Entry) -> Vec<Step>| {
        let mut maker = Maker::default();
        let said = rotation(&maker, &next_key());
        maker.signer = next_key();
        maker.segment(steps(said));
        exits(&maker, &[], &[&next_key()])[0]
    };
    assert_eq!(sound(&|said| vec![Step::Flush(vec![start(), said]), Step::Seal]), Exit::Done);
    let first = |said| vec![Step::Flush(vec![said]), Step::Seal];
    assert_eq!(sound(&first), Exit::No, "before the start");
    let second = |said| vec![Step::Flush(vec![start()]), Step::Flush(vec![said]), Step::Seal];
    assert_eq!(sound(&second), Exit::No, "in the second flush");
    let later = |said| {
        vec![Step::Flush(vec![start()]), Step::Checkpoint, Step::Flush(vec![said]), Step::Seal]
    };
    assert_eq!(sound(&later), Exit::No, "in a later frame");
    let behind = |said| vec![Step::Checkpoint, Step::Flush(vec![start(), said]), Step::Seal];
    assert_eq!(sound(&behind), Exit::No, "behind a checkpoint");
}
