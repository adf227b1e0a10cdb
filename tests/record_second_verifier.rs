//! A verifier written in Python from the format document alone (`tests/verifier/`) and the gateway's
//! own reader judge the same records: every vector, and a small record damaged in every way. It does not
//! say which damage must be found (`record_damage.rs` does), only that both find the same.

mod record_support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use record_support::{Image, Maker, MemoryDisk, Step, key, random, read_all, request};
use serde::Deserialize;
use serde_json::{Value, json};
use stenograph::record::header::PreviousEnd;
use stenograph::record::recovery::recover;
use stenograph::record::{Entry, Kind};
use stenograph::types::Now;

/// One way to damage a record.
#[derive(Debug, Clone)]
enum Harm {
    None,
    Flip(String, usize),
    Cut(String, usize),
    Insert(String, usize, Vec<u8>),
    Remove(String),
    Copy(String, String),
    Move(String, String),
    Swap(String, String),
    Replace(String, Vec<u8>),
}

impl Harm {
    /// What `tests/verifier/cases.py` reads.
    fn line(&self, record: usize) -> Value {
        match self {
            Harm::None => json!([record, "none"]),
            Harm::Flip(name, bit) => json!([record, "flip", name, bit]),
            Harm::Cut(name, length) => json!([record, "cut", name, length]),
            Harm::Insert(name, at, bytes) => {
                let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
                    let _ = write!(hex, "{byte:02x}");
                    hex
                });
                json!([record, "insert", name, at, hex])
            }
            Harm::Remove(name) => json!([record, "remove", name]),
            Harm::Copy(from, to) => json!([record, "copy", from, to]),
            Harm::Move(from, to) => json!([record, "move", from, to]),
            Harm::Swap(one, other) => json!([record, "swap", one, other]),
            Harm::Replace(name, bytes) => {
                json!([record, "replace", name, STANDARD.encode(bytes)])
            }
        }
    }

    fn apply(&self, image: &mut Image) {
        match self {
            Harm::None => {}
            Harm::Flip(name, bit) => {
                image.get_mut(name).unwrap()[bit / 8] ^= 1 << (bit % 8);
            }
            Harm::Cut(name, length) => image.get_mut(name).unwrap().truncate(*length),
            Harm::Insert(name, at, bytes) => {
                image.get_mut(name).unwrap().splice(at..at, bytes.iter().copied());
            }
            Harm::Remove(name) => {
                image.remove(name);
            }
            Harm::Copy(from, to) => {
                image.insert(to.clone(), image[from].clone());
            }
            Harm::Move(from, to) => {
                let file = image.remove(from).unwrap();
                image.insert(to.clone(), file);
            }
            Harm::Swap(one, other) => {
                let first = image[one].clone();
                let second = image.insert(other.clone(), first).unwrap();
                image.insert(one.clone(), second);
            }
            Harm::Replace(name, bytes) => {
                image.insert(name.clone(), bytes.clone());
            }
        }
    }

    /// The segments whose files are not as they were.
    fn touched(&self) -> BTreeSet<u32> {
        let names: Vec<&String> = match self {
            Harm::None => vec![],
            Harm::Flip(name, _) | Harm::Cut(name, _) | Harm::Insert(name, ..) => vec![name],
            Harm::Remove(name) | Harm::Replace(name, _) | Harm::Copy(_, name) => vec![name],
            Harm::Move(one, other) | Harm::Swap(one, other) => vec![one, other],
        };
        names.into_iter().filter_map(|name| name[..8].parse().ok()).collect()
    }

    /// The first byte that is not as it was, where one can be told.
    fn byte(&self) -> Option<u64> {
        match self {
            Harm::Flip(_, bit) => Some((bit / 8) as u64),
            Harm::Cut(_, length) => Some(*length as u64),
            _ => None,
        }
    }
}

/// A place of damage: segment, entry, first and last byte in doubt, the rule that is broken.
type Damage = (u32, Option<u64>, u64, u64, String);

/// What both verifiers say of a record.
#[derive(Debug, Deserialize)]
struct Verdict {
    intact: bool,
    damage: Vec<Damage>,
    /// How many files do not belong to the record.
    strangers: usize,
    segments: u32,
    entries: u64,
    checkpoints: u64,
    unsigned_entries: u64,
    root: String,
    gaps: Vec<u32>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn gateways_verdict(image: Image) -> Verdict {
    let (reading, _) = read_all(&MemoryDisk::with(image)).unwrap();
    let damage = reading.damage.iter();
    Verdict {
        intact: reading.is_consistent(),
        strangers: reading.strays.len(),
        damage: damage
            .map(|one| (one.segment, one.entry, one.offset, one.end, one.what.clone()))
            .collect(),
        segments: reading.segments as u32,
        entries: reading.entries,
        checkpoints: reading.checkpoints,
        unsigned_entries: reading.unsigned_entries,
        root: reading.tree.as_ref().map(|tree| hex(&tree.root())).unwrap_or_default(),
        gaps: reading.gaps.iter().map(|gap| gap.segment).collect(),
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Python that has what the verifier imports: `STENOGRAPH_PYTHON`, the environment that
/// `tests/setup.sh` makes, or the system's.
fn python() -> PathBuf {
    if let Some(python) = std::env::var_os("STENOGRAPH_PYTHON") {
        return python.into();
    }
    let own = root().join(".local/verifier/bin/python");
    if own.exists() { own } else { "python3".into() }
}

const REMEDY: &str = "tests/run.sh installs a Python 3.11 or newer with zstandard into .local/verifier; \
                      STENOGRAPH_PYTHON names another";

/// Runs the Python verifier over `cases` in one process while `meanwhile` runs here.
fn second_verdicts<T>(lines: &[Value], meanwhile: impl FnOnce() -> T) -> (Vec<Verdict>, T) {
    let folder = tempfile::tempdir().unwrap();
    let (cases, verdicts) = (folder.path().join("cases"), folder.path().join("verdicts"));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&cases, text).unwrap();
    let python = python();
    let child = Command::new(&python)
        .arg(root().join("tests/verifier/cases.py"))
        .args([&cases, &verdicts])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.unwrap_or_else(|error| panic!("{}: {error}. {REMEDY}", python.display()));
    let here = meanwhile();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}\n{REMEDY}", python.display());
    let text = fs::read_to_string(&verdicts).unwrap();
    (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), here)
}

/// Runs the command line of the Python verifier: its exit code, and the object it prints.
fn second_verify(arguments: &[&Path]) -> (i32, Value) {
    let mut command = Command::new(python());
    command.arg(root().join("tests/verifier/verify.py")).args(arguments);
    verify(command.env("PYTHONDONTWRITEBYTECODE", "1"))
}

/// The same of `stenograph verify --json`.
fn gateways_verify(arguments: &[&Path]) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stenograph"));
    verify(command.args(["verify", "--json"]).args(arguments))
}

fn verify(command: &mut Command) -> (i32, Value) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().unwrap();
    let object = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    assert!(code == 4 || object.is_object(), "{command:?}: {said}\n{REMEDY}");
    (code, object)
}

fn record_line(image: &Image) -> Value {
    let files: serde_json::Map<String, Value> =
        image.iter().map(|(name, file)| (name.clone(), json!(STANDARD.encode(file)))).collect();
    json!({ "key": key().verifier().to_string(), "files": files })
}

/// The gateway's verdict of each case, on all cores.
fn gateways_verdicts(records: &[Image], cases: &[(usize, Harm)]) -> Vec<Verdict> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::with_capacity(cases.len()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((record, harm)) = cases.get(at) else { return };
                    let mut image = records[*record].clone();
                    harm.apply(&mut image);
                    let verdict = gateways_verdict(image);
                    found.lock().unwrap().push((at, verdict));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, verdict)| verdict).collect()
}

/// How two verdicts of one record differ, if they do. What stands behind the first damage of a file
/// cannot be proven, so both may tell more; what they have to agree on is in the format document.
fn difference(harm: &Harm, ours: &Verdict, theirs: &Verdict) -> Option<String> {
    let touched = harm.touched();
    let named = |verdict: &Verdict| -> BTreeSet<u32> {
        verdict.damage.iter().map(|one| one.0).filter(|one| touched.contains(one)).collect()
    };
    let mut faults = Vec::new();
    if ours.intact != theirs.intact {
        faults.push("one finds damage, the other none");
    } else if ours.intact {
        if (ours.segments, ours.entries, ours.checkpoints, ours.unsigned_entries)
            != (theirs.segments, theirs.entries, theirs.checkpoints, theirs.unsigned_entries)
        {
            faults.push("the counts differ");
        }
        if ours.root != theirs.root {
            faults.push("the roots differ");
        }
        if ours.gaps != theirs.gaps {
            faults.push("the gaps differ");
        }
    } else {
        if ours.strangers != theirs.strangers {
            faults.push("other files are strangers");
        }
        if named(ours) != named(theirs) || (harm.byte().is_some() && named(ours) != touched) {
            faults.push("other segments are damaged");
        }
        for segment in &named(ours) {
            let first =
                |verdict: &Verdict| verdict.damage.iter().find(|one| one.0 == *segment).cloned();
            let (Some(first), Some(other)) = (first(ours), first(theirs)) else { continue };
            if first.1 != other.1 {
                faults.push("the first damage is at another entry");
            }
            if first.2 > other.3 || other.2 > first.3 {
                faults.push("the first damages are apart");
            }
            if let Some(byte) = harm.byte()
                && [first, other].iter().any(|one| one.2 > byte || byte > one.3)
            {
                faults.push("the first damage does not hold the byte");
            }
        }
    }
    (!faults.is_empty())
        .then(|| format!("{}\n  gateway {ours:?}\n  second  {theirs:?}", faults.join(", ")))
}

fn agree(records: &[Image], cases: &[(usize, Harm)]) {
    let mut lines: Vec<Value> = records.iter().map(record_line).collect();
    lines.extend(cases.iter().map(|(record, harm)| harm.line(*record)));
    let (theirs, ours) = second_verdicts(&lines, || gateways_verdicts(records, cases));
    assert_eq!(theirs.len(), cases.len());
    let differences: Vec<String> = cases
        .iter()
        .zip(ours.iter().zip(&theirs))
        .filter_map(|((record, harm), (ours, theirs))| {
            let text = difference(harm, ours, theirs)?;
            Some(format!("record {record}, {harm:?}: {text}"))
        })
        .collect();
    let shown = differences.len().min(12);
    assert!(
        differences.is_empty(),
        "{} of {} cases differ\n{}",
        differences.len(),
        cases.len(),
        differences[..shown].join("\n")
    );
}

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

#[test]
fn both_find_the_same_damage_in_a_small_record() {
    let (small, _) = Maker::small_record();
    let mut cases: Vec<(usize, Harm)> = Vec::new();
    for harms in [each_file(&small), each_bit(&small), each_length(&small), each_insertion(&small)]
    {
        cases.extend(harms.into_iter().map(|harm| (0, harm)));
    }
    let adopted = adopted_record();
    let after = Image::from([("00000003.seg".to_owned(), adopted["00000003.seg"].clone())]);
    for harms in [each_file(&adopted), each_bit(&after), each_length(&adopted)] {
        cases.extend(harms.into_iter().map(|harm| (1, harm)));
    }
    agree(&[small, adopted], &cases);
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

#[test]
fn both_commands_say_the_same_of_every_vector() {
    for vector in vectors() {
        let key = vector.join("log.pub");
        for arguments in [&[&*vector, Path::new("--key"), &*key][..], &[&*vector]] {
            let (ours, theirs) = (gateways_verify(arguments), second_verify(arguments));
            assert_eq!(ours.0, theirs.0, "{arguments:?}");
            assert_eq!(ours.0, i32::from(arguments.len() == 1), "{arguments:?}");
            assert_eq!(fixed(&ours.1), fixed(&theirs.1), "{arguments:?}");
        }
        let expected = fs::read_to_string(vector.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        let (_, object) = second_verify(&[&vector, Path::new("--key"), &key]);
        assert_eq!(object["checkpoints"], expected["checkpoints"]);
        assert_eq!(object["size"], json!(expected["entries"].as_array().unwrap().len()));
        let root = STANDARD.decode(object["root"].as_str().unwrap()).unwrap();
        assert_eq!(json!(hex(&root)), expected["root"]);
    }
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
