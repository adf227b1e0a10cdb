//! What puts the gateway's reader and the Python verifier side by side: ways to damage a record that
//! both can apply, what both say of it, and how that is compared.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use stenograph::record::entry::EntryView;
use stenograph::record::key_files::KeyFiles;
use stenograph::record::keys::LogKey;
use stenograph::record::reader::{Checks, read, read_parallel};
use stenograph::record::scan::{Gather, Gatherer, Place, Sink};

use crate::record_support::{Image, MemoryDisk, key};

/// One way to damage a record.
#[derive(Debug, Clone)]
pub enum Harm {
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

    /// The files that are not as they were.
    fn names(&self) -> Vec<&String> {
        match self {
            Harm::None => vec![],
            Harm::Flip(name, _) | Harm::Cut(name, _) | Harm::Insert(name, ..) => vec![name],
            Harm::Remove(name) | Harm::Replace(name, _) | Harm::Copy(_, name) => vec![name],
            Harm::Move(one, other) | Harm::Swap(one, other) => vec![one, other],
        }
    }

    /// Only key files are not as they were.
    fn is_to_a_key(&self) -> bool {
        let names = self.names();
        !names.is_empty() && names.iter().all(|name| name.starts_with(KEYS))
    }

    /// The segments whose files are not as they were.
    fn touched(&self) -> BTreeSet<u32> {
        let names = self.names();
        names.into_iter().filter_map(|name| name.get(..8)?.parse().ok()).collect()
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
    /// Ids of data keys whose files are gone.
    erased: Vec<String>,
    /// Files among the keys that no entry names.
    foreign: Vec<String>,
}

/// Begins the names of key files in the image of a record.
pub const KEYS: &str = "keys/";

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Only the verdict and the keys are asked for.
#[derive(Default)]
struct Keys(KeyFiles);

impl Sink for Keys {
    fn gatherer(&self) -> Option<Gatherer> {
        Some(|| Box::<Keys>::default())
    }

    fn gathered(&mut self, segment: Box<dyn Any + Send>) {
        self.0.join(segment.downcast::<Keys>().unwrap().0);
    }

    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        self.0.add(place, entry);
    }
}

impl Gather for Keys {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        self.0.add(place, entry);
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

/// The record as it lies on a disk.
fn disk(mut image: Image) -> MemoryDisk {
    let names: Vec<String> = image.keys().filter(|name| name.starts_with(KEYS)).cloned().collect();
    let keys = names.into_iter().map(|name| {
        let file = image.remove(&name).unwrap();
        (name[KEYS.len()..].to_owned(), file)
    });
    let keys = keys.collect();
    let disk = MemoryDisk::with(image);
    disk.set_keys(keys);
    disk
}

fn gateways_verdict(image: Image, key: Option<&LogKey>, twice: bool) -> Verdict {
    let checks = Checks { key: key.map(LogKey::verifier), commitments: true };
    let disk = disk(image);
    let mut keys = Keys::default();
    let mut reading = read(&disk, checks, &mut keys).unwrap();
    if twice {
        let two = NonZeroUsize::new(2).unwrap();
        let other = read_parallel(&disk, checks, &[], two, &mut Keys::default()).unwrap();
        assert_eq!(
            (&reading.damage, &reading.gaps, &reading.strays, &reading.tree),
            (&other.damage, &other.gaps, &other.strays, &other.tree)
        );
    }
    let told = keys.0.check(&disk, false).unwrap();
    reading.damage.extend(told.damage);
    let damage = reading.damage.iter();
    Verdict {
        intact: reading.is_consistent(),
        erased: told.erased.iter().map(ToString::to_string).collect(),
        foreign: told.foreign,
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

pub fn root() -> &'static Path {
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
pub fn second_verify(arguments: &[&Path]) -> (i32, Value) {
    let mut command = Command::new(python());
    command.arg(root().join("tests/verifier/verify.py")).args(arguments);
    verify(&mut command)
}

/// The same of `stenograph verify --json`.
pub fn gateways_verify(arguments: &[&Path]) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stenograph"));
    verify(command.args(["verify", "--json"]).args(arguments))
}

fn verify(command: &mut Command) -> (i32, Value) {
    let (code, printed, said) = run(command);
    let object = serde_json::from_slice(&printed).unwrap_or(Value::Null);
    assert!(code == Some(4) || object.is_object(), "{command:?}: {said}\n{REMEDY}");
    (code.unwrap(), object)
}

/// Runs a command: its exit code, what it printed and what it said.
fn run(command: &mut Command) -> (Option<i32>, Vec<u8>, String) {
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}. {REMEDY}"));
    (output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A record and the key that it is judged by.
pub struct Record {
    pub files: Image,
    pub key: Option<LogKey>,
}

impl Record {
    /// A record of the tests' log.
    pub fn new(files: Image) -> Record {
        Record { files, key: Some(key()) }
    }

    fn line(&self) -> Value {
        let files =
            self.files.iter().map(|(name, file)| (name.clone(), json!(STANDARD.encode(file))));
        let files: serde_json::Map<String, Value> = files.collect();
        json!({ "key": self.key.as_ref().map(|key| key.verifier().to_string()), "files": files })
    }
}

/// The gateway's verdict of each case, on all cores.
fn gateways_verdicts(records: &[Record], cases: &[(usize, Harm)]) -> Vec<Verdict> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::with_capacity(cases.len()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((record, harm)) = cases.get(at) else { return };
                    let record = &records[*record];
                    let mut image = record.files.clone();
                    harm.apply(&mut image);
                    let twice = harm.byte().is_none() && !matches!(harm, Harm::Insert(..));
                    let verdict = gateways_verdict(image, record.key.as_ref(), twice);
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
fn difference(harm: &Harm, has_key: bool, ours: &Verdict, theirs: &Verdict) -> Option<String> {
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
    } else if harm.is_to_a_key() {
        let places = |verdict: &Verdict| -> Vec<(u32, Option<u64>)> {
            verdict.damage.iter().map(|one| (one.0, one.1)).collect()
        };
        if places(ours) != places(theirs) {
            faults.push("key files are damaged at other places");
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
            // Without the key nothing but the chain behind it says which byte of a checkpoint differs.
            if let Some(byte) = harm.byte().filter(|_| has_key)
                && [first, other].iter().any(|one| one.2 > byte || byte > one.3)
            {
                faults.push("the first damage does not hold the byte");
            }
        }
    }
    if (ours.intact || harm.is_to_a_key())
        && (&ours.erased, &ours.foreign) != (&theirs.erased, &theirs.foreign)
    {
        faults.push("the key files that are gone or foreign differ");
    }
    (!faults.is_empty())
        .then(|| format!("{}\n  gateway {ours:?}\n  second  {theirs:?}", faults.join(", ")))
}

/// Has both judge each case, a number of `records` and its harm, and asserts that they agree. Gives
/// which of the cases both find intact.
pub fn agree(records: &[Record], cases: &[(usize, Harm)]) -> Vec<bool> {
    let mut lines: Vec<Value> = records.iter().map(Record::line).collect();
    lines.extend(cases.iter().map(|(record, harm)| harm.line(*record)));
    let (theirs, ours) = second_verdicts(&lines, || gateways_verdicts(records, cases));
    assert_eq!(theirs.len(), cases.len());
    let judged = cases.iter().zip(ours.iter().zip(&theirs));
    let differences: Vec<String> = judged
        .filter_map(|((record, harm), (ours, theirs))| {
            let text = difference(harm, records[*record].key.is_some(), ours, theirs)?;
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
    ours.iter().map(|verdict| verdict.intact).collect()
}

/// The records that `tests/verifier/forgeries.py` makes: name, whether the document calls it sound.
pub fn forgeries() -> (Vec<(String, bool)>, Vec<Record>) {
    #[derive(Deserialize)]
    struct Forgery {
        name: String,
        sound: bool,
        seed: String,
        files: BTreeMap<String, String>,
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records");
    let script = root().join("tests/verifier/forgeries.py");
    let made = run(Command::new(python()).arg(script).arg(&path));
    assert_eq!(made.0, Some(0), "{}\n{REMEDY}", made.2);
    let text = fs::read_to_string(path).unwrap();
    let forgeries = text.lines().map(|line| serde_json::from_str::<Forgery>(line).unwrap());
    forgeries
        .map(|one| {
            let files = one.files.into_iter();
            let files = files.map(|(name, file)| (name, STANDARD.decode(file).unwrap()));
            let seed: Vec<u8> = (0..32)
                .map(|at| u8::from_str_radix(&one.seed[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            let key = LogKey::from_seed("log.example", &seed.try_into().unwrap()).unwrap();
            ((one.name, one.sound), Record { files: files.collect(), key: Some(key) })
        })
        .unzip()
}
