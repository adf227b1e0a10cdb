//! A verifier written in Python from the format document alone (`tests/verifier/`) and the gateway's
//! own reader judge the same records: every vector, and a small record damaged in every way. It does not
//! say which damage must be found (`record_damage.rs` does), only that both find the same.

mod record_support;
mod second_verifier;

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use record_support::{Image, Maker, MemoryDisk, Step, key, next_key, random, request};
use second_verifier::{
    Harm, KEYS, Record, agree, forgeries, gateways_verify, hex, root, second_verify,
};
use serde_json::{Value, json};
use stenograph::record::age::Identity;
use stenograph::record::cosign::WitnessKey;
use stenograph::record::header::PreviousEnd;
use stenograph::record::keys::LogKey;
use stenograph::record::recovery::recover;
use stenograph::record::{Entry, Kind, PartKind};
use stenograph::types::Now;
use zeroize::Zeroizing;

/// A record whose second segment was cut off in a write and adopted by the third, which is sealed.
fn adopted_record() -> Image {
    let (mut image, _) = Maker::small_record();
    let newest = image.get_mut("00000002.seg").unwrap();
    newest.truncate(newest.len() - 20);
    let recovered = recover(&MemoryDisk::with(image.clone()), key().verifier(), false).unwrap();
    assert_eq!(recovered.previous.end, PreviousEnd::Torn);
    assert!(recovered.previous.residue_bytes > 0);
    let mut maker = Maker {
        files: image,
        random: random(),
        number: recovered.segment,
        previous: recovered.previous,
        tree: recovered.tree,
        ..Maker::default()
    };
    maker.segment(vec![
        Step::Flush(vec![request(9, b"after"), Entry::new(Kind::Stop, Now::default())]),
        Step::Seal,
    ]);
    let mut image = maker.files;
    image.insert("00000004.new".into(), b"left over".to_vec());
    image
}

/// Originals that are sealed under two keys; the key files lie in the image.
fn sealed_record() -> Image {
    let auditor = Identity::from_seed(&[0xa1; 32]);
    let mut maker = Maker::default();
    for number in 0..2 {
        let told = maker.seal_to(&[auditor.recipient().clone()]);
        let original = |number| Zeroizing::new(format!("what came {number}").into_bytes());
        let masked =
            |number| request(number, b"***").original(PartKind::Original, original(number));
        maker.segment(vec![
            Step::Flush(vec![told, masked(1 + 2 * number)]),
            Step::Flush(vec![masked(2 + 2 * number)]),
            Step::Seal,
        ]);
    }
    let mut image = maker.files;
    image.extend(maker.keys.into_iter().map(|(name, file)| (format!("{KEYS}{name}"), file)));
    image
}

fn each_key_file(image: &Image) -> Vec<Harm> {
    let names: Vec<String> = image.keys().filter(|name| name.starts_with(KEYS)).cloned().collect();
    let [one, other] = &names[..] else { panic!("two key files: {names:?}") };
    let left_over = |name: &str| format!("{KEYS}{name}");
    let mut harms = vec![
        Harm::Swap(one.clone(), other.clone()),
        Harm::Copy(one.clone(), other.clone()),
        Harm::Copy(one.clone(), left_over("00112233445566778899aabbccddeeff.age")),
        Harm::Copy(one.clone(), left_over("notes.txt")),
        Harm::Copy(one.clone(), left_over("00112233445566778899aabbccddeeff.new")),
        Harm::Copy(one.clone(), one.to_uppercase().replace("KEYS/", KEYS)),
        Harm::Copy(one.clone(), one.trim_end_matches(".age").to_owned()),
        Harm::Move(one.clone(), left_over("ffeeddccbbaa99887766554433221100.age")),
        Harm::Replace(other.clone(), Vec::new()),
    ];
    harms.extend(names.iter().map(|name| Harm::Remove(name.clone())));
    let file = &image[one];
    harms.extend((0..file.len() * 8).map(|bit| Harm::Flip(one.clone(), bit)));
    harms.extend((0..file.len()).map(|length| Harm::Cut(one.clone(), length)));
    harms.push(Harm::Insert(one.clone(), file.len(), b"\0".to_vec()));
    harms
}

fn each_bit(image: &Image) -> Vec<Harm> {
    let segments = image.iter().filter(|(name, _)| name.ends_with(".seg"));
    segments
        .flat_map(|(name, file)| (0..file.len() * 8).map(|bit| Harm::Flip(name.clone(), bit)))
        .collect()
}

fn each_length(image: &Image) -> Vec<Harm> {
    let segments = image.iter().filter(|(name, _)| name.ends_with(".seg"));
    segments
        .flat_map(|(name, file)| (0..file.len()).map(|length| Harm::Cut(name.clone(), length)))
        .collect()
}

fn each_insertion(image: &Image) -> Vec<Harm> {
    let bytes: [&[u8]; 3] = [b"\0", b"\x01\0\0", b"\x28\xB5\x2F\xFD\x00\x40"];
    let mut harms = Vec::new();
    for (name, file) in image.iter().filter(|(name, _)| name.ends_with(".seg")) {
        for at in 0..=file.len() {
            harms.extend(bytes.map(|bytes| Harm::Insert(name.clone(), at, bytes.to_vec())));
        }
    }
    harms
}

fn each_file(image: &Image) -> Vec<Harm> {
    let names: Vec<String> = image.keys().filter(|name| name.ends_with(".seg")).cloned().collect();
    let mut harms = vec![Harm::None];
    for name in &names {
        harms.push(Harm::Remove(name.clone()));
        harms.push(Harm::Replace(name.clone(), Vec::new()));
        for other in &names {
            if other > name {
                harms.push(Harm::Swap(name.clone(), other.clone()));
            }
            if other != name {
                harms.push(Harm::Copy(name.clone(), other.clone()));
            }
        }
        for other in ["00000009.seg", "copy.seg", "00000009.new"] {
            harms.push(Harm::Copy(name.clone(), other.into()));
            harms.push(Harm::Move(name.clone(), other.into()));
        }
        let next = format!("{:08}.seg", names.len());
        harms.push(Harm::Copy(name.clone(), next));
    }
    harms
}

// The checks that were taken out of the Python one by one to see this fail: chain of a mark, chain of a
// checkpoint, form of a mark block, signature, range of the scalar.
#[test]
fn both_find_the_same_damage_in_a_small_record() {
    let (small, _) = Maker::small_record();
    let adopted = adopted_record();
    let sealed = sealed_record();
    let newest = |image: &Image, name: &str| Image::from([(name.to_owned(), image[name].clone())]);
    let mut cases: Vec<(usize, Harm)> = Vec::new();
    let mut add = |record: usize, harms: Vec<Harm>| {
        cases.extend(harms.into_iter().map(|harm| (record, harm)));
    };
    for harms in [each_file(&small), each_bit(&small), each_length(&small), each_insertion(&small)]
    {
        add(0, harms);
    }
    add(1, each_file(&adopted));
    add(1, each_length(&adopted));
    add(1, each_bit(&newest(&adopted, "00000003.seg")));
    // Without the key, and by the keys of others.
    add(2, each_bit(&newest(&small, "00000002.seg")));
    add(3, vec![Harm::None]);
    add(4, vec![Harm::None]);
    // Key files and what is sealed under them. That sealed parts were exchanged by whoever signs shows
    // only to an auditor: `a_sealed_part_opens_in_its_own_entry_only_and_with_its_own_key_only`.
    add(5, vec![Harm::None]);
    add(5, each_key_file(&sealed));
    add(5, each_file(&sealed));
    // One bit of each byte.
    let bits = each_bit(&newest(&sealed, "00000001.seg")).into_iter().enumerate();
    add(5, bits.filter(|(at, _)| at % 8 == at / 8 % 8).map(|(_, harm)| harm).collect());
    let other = |name, seed| Some(LogKey::from_seed(name, &[seed; 32]).unwrap());
    let intact = agree(
        &[
            Record::new(small.clone()),
            Record::new(adopted),
            Record { files: small.clone(), key: None },
            Record { files: small.clone(), key: other("log.example", 8) },
            Record { files: small, key: other("other.example", 7) },
            Record::new(sealed),
        ],
        &cases,
    );
    let judged = |record: usize, harm: fn(&Harm) -> bool| {
        let found = cases.iter().position(|(one, what)| *one == record && harm(what));
        intact[found.expect("such a case")]
    };
    let unharmed = |harm: &Harm| matches!(harm, Harm::None);
    assert_eq!([0, 3, 4, 5].map(|record| judged(record, unharmed)), [true, false, false, true]);
    // An erased key is no damage, and neither is a file that no entry names; another one is.
    assert!(judged(5, |harm| matches!(harm, Harm::Remove(name) if name.starts_with(KEYS))));
    assert!(judged(5, |harm| matches!(harm, Harm::Copy(_, name) if name.ends_with("notes.txt"))));
    assert!(!judged(5, |harm| matches!(harm, Harm::Swap(one, _) if one.starts_with(KEYS))));
}

// A cosigned checkpoint, originals sealed under two keys, a change of the log's key; judged by the key
// before and the key behind the change.
#[test]
fn both_find_the_same_damage_in_a_record_that_holds_everything() {
    let (maker, states) = Maker::full_record();
    let with_keys = |files: Image| {
        let keys = maker.keys.iter().map(|(name, file)| (format!("{KEYS}{name}"), file.clone()));
        files.into_iter().chain(keys).collect::<Image>()
    };
    let full = with_keys(maker.files.clone());
    let by = |key: LogKey, files: &Image| Record { files: files.clone(), key: Some(key) };
    let mut records = vec![by(key(), &full), by(next_key(), &full)];
    let mut cases: Vec<(usize, Harm)> = Vec::new();
    for state in states {
        for trusted in [key(), next_key()] {
            cases.push((records.len(), Harm::None));
            records.push(by(trusted, &with_keys(state.clone())));
        }
    }
    let whole = cases.len();
    let mut add = |harms: Vec<Harm>| {
        // By turns, so that each byte is judged by both keys.
        cases.extend(harms.into_iter().enumerate().map(|(at, harm)| (at % 2, harm)));
    };
    for harms in [each_file(&full), each_bit(&full), each_length(&full), each_key_file(&full)] {
        add(harms);
    }
    let intact = agree(&records, &cases);
    // Where nothing is signed by the next key yet, it is a stranger's.
    let by_first = intact[..whole].iter().step_by(2);
    assert!(by_first.clone().all(|intact| *intact), "{:?}", &intact[..whole]);
}

// Rules that only the holder of the signing key can break unseen. The checks that were taken out of the
// Python one by one to see this fail: presence byte, commitment, root, size, tree of the header, chain
// carried over, chain_0, digest of the residue, canonical base64, scalar, R of small order, frame end.
#[test]
fn both_judge_forged_records_as_the_document_says() {
    let (stated, records) = forgeries();
    let cases: Vec<(usize, Harm)> = (0..records.len()).map(|record| (record, Harm::None)).collect();
    let intact = agree(&records, &cases);
    for ((name, sound), intact) in stated.iter().zip(intact) {
        assert_eq!(intact, *sound, "{name}");
    }
    let sound = stated.iter().filter(|(_, sound)| *sound).count();
    assert!(sound > 30 && stated.len() - sound > 120, "{sound} of {}", stated.len());
}

/// Directories below `tests/vectors/segment/`, one for each version of the format.
fn vectors() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("tests/vectors/segment")).unwrap();
    let mut found: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert!(!found.is_empty(), "there are vectors");
    found
}

/// The fields that the format document fixes.
fn fixed(object: &Value) -> Value {
    let names = [
        "intact",
        "key",
        "origin",
        "segments",
        "entries",
        "checkpoints",
        "unsigned_entries",
        "size",
        "root",
    ];
    let gaps = object["gaps"].as_array().unwrap().iter();
    let gaps: Vec<Value> = gaps.map(|gap| json!([gap["segment"], gap["offset"]])).collect();
    let mut fixed: serde_json::Map<String, Value> =
        names.iter().map(|&name| (name.to_owned(), object[name].clone())).collect();
    fixed.insert("gaps".to_owned(), json!(gaps));
    Value::Object(fixed)
}

/// What both say of key files, kept checkpoints and witnesses, each in its own form.
fn outside(object: &Value) -> (Value, Value, Value, Value) {
    let told = &object["unwitnessed"];
    let witnesses = told["witnesses"].as_array().into_iter().flatten();
    let witnesses: Vec<Value> =
        witnesses.map(|one| json!([one["key"], one["cosignatures"], one["last_size"]])).collect();
    let since = object["since"].as_array().unwrap().iter();
    let since: Vec<Value> = since.map(|one| one["holds"].clone()).collect();
    let sealed = &object["sealed"];
    let keys = json!([sealed["erased"], sealed["foreign"], object["keys"]]);
    (keys, json!(since), json!(witnesses), told["tail_entries"].clone())
}

fn outside_of_second(object: &Value) -> (Value, Value, Value, Value) {
    let keys = json!([object["erased"], object["foreign"], object["keys"]]);
    let asked = object["witnesses"].as_array().is_some_and(|asked| !asked.is_empty());
    let tail = if asked { object["tail_entries"].clone() } else { Value::Null };
    (keys, object["since"].clone(), object["witnesses"].clone(), tail)
}

/// Runs both with these arguments and compares what they say; gives the exit code and the object.
fn both_say(arguments: &[&Path]) -> (i32, Value) {
    let (ours, theirs) = (gateways_verify(arguments), second_verify(arguments));
    assert_eq!(ours.0, theirs.0, "{arguments:?}: {} and {}", ours.1, theirs.1);
    assert_eq!(fixed(&ours.1), fixed(&theirs.1), "{arguments:?}");
    assert_eq!(outside(&ours.1), outside_of_second(&theirs.1), "{arguments:?}");
    theirs
}

// The checks that were taken out of the Python one by one to see this fail: root and signature of a kept
// checkpoint, that each witness has cosigned, rotations forwards, rotations backwards.
#[test]
fn both_commands_say_the_same_of_every_vector() {
    let [key_option, since, witness] = ["--key", "--since", "--witness"].map(Path::new);
    for vector in vectors() {
        let key = vector.join("log.pub");
        assert_eq!(both_say(&[&vector]).0, 1);
        let (code, object) = both_say(&[&vector, key_option, &key]);
        assert_eq!(code, 0, "{object}");
        let expected = fs::read_to_string(vector.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        assert_eq!(object["checkpoints"], expected["checkpoints"]);
        assert_eq!(object["size"], json!(expected["entries"].as_array().unwrap().len()));
        let root = STANDARD.decode(object["root"].as_str().unwrap()).unwrap();
        assert_eq!(json!(hex(&root)), expected["root"]);
        if !vector.join("kept.checkpoint").exists() {
            continue;
        }
        assert_eq!(object["erased"], expected["erased"]);
        assert_eq!(object["foreign"], expected["foreign"]);
        assert_eq!(object["keys"], expected["keys"]);
        let [kept, by] = ["kept.checkpoint", "witness.pub"].map(|name| vector.join(name));
        for key in [key, vector.join("log.new.pub")].iter().filter(|key| key.exists()) {
            let all = [&*vector, key_option, key, since, &kept, witness, &by];
            assert_eq!(both_say(&all).0, 0);
        }
    }
}

#[test]
fn both_commands_deny_forks_roll_backs_and_strange_witnesses() {
    let vector = root().join("tests/vectors/segment/v2");
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        file
    };
    let kept = fs::read_to_string(vector.join("kept.checkpoint")).unwrap();
    let (text, _) = kept.split_once("\n\n").unwrap();
    let lines: Vec<&str> = text.split('\n').collect();
    let signed = |key: &LogKey, size: &str, tree: &str| {
        let text = format!("{}\n{size}\n{tree}\n", key.verifier().name());
        let mut signature = key.verifier().hash().to_vec();
        signature.extend(key.sign(text.as_bytes()));
        format!("{text}\n\u{2014} {} {}\n", key.verifier().name(), STANDARD.encode(signature))
    };
    let stranger = LogKey::from_seed("log.example", &[99; 32]).unwrap();
    let other = LogKey::from_seed("other.example", &[7; 32]).unwrap();
    let zeros = STANDARD.encode([0; 32]);
    let cases = [
        ("as it was kept", kept.clone(), 0),
        ("another root", signed(&key(), lines[1], &zeros), 1),
        ("more entries", signed(&key(), "1000", lines[2]), 1),
        ("of a stranger", signed(&stranger, lines[1], lines[2]), 1),
        ("of another log", signed(&other, lines[1], lines[2]), 1),
        ("another text under the signature", kept.replace(lines[1], "3"), 1),
        ("signed by the key before", signed(&key(), lines[1], lines[2]), 0),
    ];
    let (key_option, key_file) = (Path::new("--key"), vector.join("log.pub"));
    for (name, text, code) in cases {
        let file = put("kept", &text);
        let arguments = [&*vector, key_option, &key_file, Path::new("--since"), &file];
        assert_eq!(both_say(&arguments).0, code, "{name}");
    }
    let known = WitnessKey::from_seed("witness.example", &[9; 32]).unwrap();
    let strange = WitnessKey::from_seed("witness.example", &[10; 32]).unwrap();
    for (witness, code) in [(known, 0), (strange, 1)] {
        let file = put("witness", &format!("{}\n", witness.verifier()));
        let arguments = [&*vector, key_option, &key_file, Path::new("--witness"), &file];
        assert_eq!(both_say(&arguments).0, code);
    }
    // Rolled back: intact by itself, but not before the checkpoint that was kept.
    let segments = folder.path().join("record/segments");
    fs::create_dir_all(&segments).unwrap();
    fs::copy(vector.join("segments/00000000.seg"), segments.join("00000000.seg")).unwrap();
    let record = folder.path().join("record");
    let kept = vector.join("kept.checkpoint");
    assert_eq!(both_say(&[&record, key_option, &key_file]).0, 0);
    assert_eq!(both_say(&[&record, key_option, &key_file, Path::new("--since"), &kept]).0, 1);
}

#[test]
fn both_commands_end_with_the_same_code() {
    let folder = tempfile::tempdir().unwrap();
    let (record, key_file) = (folder.path().join("record"), folder.path().join("log.pub"));
    let empty = folder.path().join("empty");
    fs::create_dir_all(record.join("segments")).unwrap();
    fs::create_dir_all(empty.join("segments")).unwrap();
    fs::write(&key_file, format!("{}\n", key().verifier())).unwrap();
    let (image, _) = Maker::small_record();
    for (name, file) in &image {
        fs::write(record.join("segments").join(name), file).unwrap();
    }
    let key_option = Path::new("--key");
    let codes = |record: &Path| {
        let arguments = [record, key_option, &key_file];
        (gateways_verify(&arguments).0, second_verify(&arguments).0)
    };
    assert_eq!(codes(&record), (0, 0));
    assert_eq!(codes(&empty), (4, 4));
    assert_eq!(codes(&folder.path().join("missing")), (4, 4));
    fs::write(record.join("segments/notes.txt"), "not of the record").unwrap();
    assert_eq!(codes(&record), (1, 1));
    fs::remove_file(record.join("segments/notes.txt")).unwrap();
    fs::write(record.join("segments/00000001.seg"), &image["00000000.seg"]).unwrap();
    assert_eq!(codes(&record), (1, 1));
}
