//! The index of sealed segments: what is left out because of it is not read, is not missed, and an index
//! that lies is found.

mod record_support;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};

use record_support::{Image, Maker, MemoryDisk, Step, key};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stenograph::audit::echoed::{self, EchoedOptions};
use stenograph::audit::filter::Filter;
use stenograph::audit::search::{self, SearchOptions};
use stenograph::audit::sessions::{self, SessionsOptions};
use stenograph::audit::show::{self, ShowOptions, Shown};
use stenograph::audit::verify::{self, VerifyOptions};
use stenograph::audit::{Exit, Indexes};
use stenograph::record::cosign::WitnessKey;
use stenograph::record::disk::Files;
use stenograph::record::format::{
    MAGIC_CHECKPOINT, MAGIC_INDEX, SKIPPABLE_HEAD_BYTES, skippable_head,
};
use stenograph::record::index::Summary;
use stenograph::record::keys::LogKey;
use stenograph::record::note::Checkpoint;
use stenograph::record::reader::{Checks, read_skipping};
use stenograph::record::scan::{Place, Sink};
use stenograph::record::skip::{Asked, Skips};
use stenograph::record::{Entry, Kind, PartKind, fingerprint};
use stenograph::types::{ExchangeId, Now, SessionId};
use zeroize::Zeroizing;

const T0: u64 = 1_795_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;
const KEY: [u8; 32] = [3; 32];
const SUBJECTS: [&str; 4] = ["alice", "bob", "carol", "dan"];
const TOOLS: [&str; 4] = ["make", "test", "ship", "drop"];
const RULES: [&str; 3] = ["aws-key", "github-token", "ssn"];
const SECRETS: [&str; 5] =
    ["one secret", "two secret", "three secret", "four secret", "five secret"];

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % bound
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn once_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

fn exchange(number: u32) -> ExchangeId {
    ExchangeId::new(T0 + u64::from(number) * SECOND, 0, number, 1)
}

fn session(number: u32) -> SessionId {
    SessionId::from_bytes([(number % 9) as u8; 10])
}

fn entry(kind: Kind, number: u32, ordinal: u32, utc_ns: u64) -> Entry {
    let mut entry = Entry::new(kind, Now { utc_ns, mono_ns: 5 });
    entry.exchange = Some(exchange(number));
    entry.session = Some(session(number));
    entry.ordinal = ordinal;
    entry
}

fn request(number: u32, subject: &str, tool: &str, utc_ns: u64) -> Entry {
    let subject = json!({ "subject": subject, "issuer": "https://id.example" });
    let verdict = json!({
        "direction": "request", "decision": "allowed", "method": "tools/call",
        "targets": [{ "kind": "tool", "name": tool }],
    });
    entry(Kind::Request, number, 0, utc_ns)
        .part(PartKind::Subject, subject.to_string())
        .part(PartKind::Verdict, verdict.to_string())
        .part(PartKind::Body, format!("{{\"number\":{number}}}"))
}

fn finding(rule: &str, secret: &str) -> Value {
    let print: String =
        fingerprint(&KEY, secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "direction": "response", "decision": "masked",
        "findings": [{ "rule": rule, "action": "mask", "fingerprint": print }],
    })
}

fn end(number: u32, ordinal: u32, utc_ns: u64) -> Entry {
    let detail = json!({ "status": 200, "entries": ordinal + 1 });
    entry(Kind::End, number, ordinal, utc_ns).part(PartKind::Detail, detail.to_string())
}

fn refusal(number: u32, only: bool, utc_ns: u64) -> Entry {
    let verdict = json!({ "decision": "denied", "reason": "no-grant", "only": only });
    entry(Kind::Refusal, number, 0, utc_ns).part(PartKind::Verdict, verdict.to_string())
}

/// A gateway that is restarted and killed: segments with exchanges that begin, go on and end in them.
fn generated(dice: &mut Dice) -> (Image, u32) {
    let mut maker = Maker { frame_bytes_max: [200, 256 * 1024][dice.below(2)], ..Maker::default() };
    let (mut open, mut next) = (Vec::<(u32, u32)>::new(), 1);
    let (mut utc_ns, mut starts) = (T0, true);
    for _ in 0..3 + dice.below(8) {
        let mut steps = Vec::new();
        if std::mem::take(&mut starts) {
            open.clear();
            steps.push(Step::Flush(vec![Entry::new(Kind::Start, Now { utc_ns, mono_ns: 5 })]));
        }
        // Few names to a segment, so that some have none of those that are asked for.
        let (subject, tool) = (dice.one(&SUBJECTS), dice.one(&TOOLS));
        let (rule, secret) = (dice.one(&RULES), dice.one(&SECRETS));
        for _ in 0..1 + dice.below(4) {
            let mut flush = Vec::new();
            for _ in 0..1 + dice.below(4) {
                utc_ns += SECOND / 4;
                match dice.below(8) {
                    0..3 => {
                        flush.push(request(next, subject, tool, utc_ns));
                        open.push((next, 1));
                        next += 1;
                    }
                    3 => {
                        let only = dice.once_in(2);
                        flush.push(refusal(next, only, utc_ns));
                        open.extend((!only).then_some((next, 1)));
                        next += 1;
                    }
                    4 | 5 if !open.is_empty() => {
                        let at = dice.below(open.len());
                        let (number, ordinal) = &mut open[at];
                        let verdict = finding(rule, secret);
                        flush.push(
                            entry(Kind::Event, *number, *ordinal, utc_ns)
                                .part(PartKind::Verdict, verdict.to_string()),
                        );
                        *ordinal += 1;
                    }
                    6 | 7 if !open.is_empty() => {
                        let (number, ordinal) = open.swap_remove(dice.below(open.len()));
                        flush.push(end(number, ordinal, utc_ns));
                    }
                    _ => flush.push(Entry::new(Kind::Clock, Now { utc_ns, mono_ns: 5 })),
                }
            }
            steps.push(Step::Flush(flush));
            if dice.once_in(3) {
                steps.push(Step::Checkpoint);
            }
        }
        starts = dice.once_in(3);
        if !starts || dice.once_in(2) {
            steps.push(Step::Seal);
        }
        maker.segment(steps);
    }
    (maker.files, next)
}

fn write(image: &Image) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("segments")).unwrap();
    for (name, file) in image {
        std::fs::write(directory.path().join("segments").join(name), file).unwrap();
    }
    directory
}

/// How a command ended, what it printed, how many segments it left out.
#[derive(Debug)]
struct Ran {
    exit: Exit,
    out: String,
    left: u32,
}

fn ran(exit: io::Result<Exit>, out: Vec<u8>, err: Vec<u8>) -> Ran {
    let err = String::from_utf8(err).unwrap();
    let left = err.lines().find(|line| line.contains("segments were not read"));
    let left = left.map_or(0, |line| line.split(' ').nth(1).unwrap().parse().unwrap());
    Ran { exit: exit.unwrap(), out: String::from_utf8(out).unwrap(), left }
}

fn search(directory: &Path, filter: &Filter, indexes: &Indexes) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (filter, indexes) = (filter.clone(), indexes.clone());
    let options = SearchOptions { directory: directory.into(), filter, json: true, indexes };
    let exit = search::run(&options, &mut out, &mut err);
    ran(exit, out, err)
}

fn sessions(directory: &Path, filter: &Filter, indexes: &Indexes) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (filter, indexes) = (filter.clone(), indexes.clone());
    let options = SessionsOptions { directory: directory.into(), filter, json: true, indexes };
    let exit = sessions::run(&options, &mut out, &mut err);
    ran(exit, out, err)
}

fn show(directory: &Path, id: Shown, indexes: &Indexes) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let indexes = indexes.clone();
    let options = ShowOptions { directory: directory.into(), id, json: true, indexes };
    let exit = show::run(&options, &mut out, &mut err);
    ran(exit, out, err)
}

fn echo(directory: &Path, secret: &str, indexes: &Indexes) -> (Ran, Value) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let options = EchoedOptions {
        directory: directory.into(),
        secret: Zeroizing::new(secret.as_bytes().to_vec()),
        fingerprint_key: Some(Zeroizing::new(KEY)),
        fingerprints_only: true,
        json: true,
        indexes: indexes.clone(),
    };
    let exit = echoed::run(&options, &mut out, &mut err);
    let mut ran = ran(exit, out, err);
    let cut = ran.out.trim_end().rfind('\n').map_or(0, |at| at + 1);
    let coverage: Value = serde_json::from_str(&ran.out.split_off(cut)).unwrap();
    (ran, coverage["coverage"].clone())
}

fn verify(directory: &Path) -> (Exit, Value) {
    let options = VerifyOptions {
        directory: directory.into(),
        key: Some(key().verifier().clone()),
        since: Vec::new(),
        witnesses: Vec::new(),
        json: true,
        threads: std::num::NonZeroUsize::MIN,
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = verify::run(&options, &mut out, &mut err).unwrap();
    (exit, serde_json::from_slice(&out).unwrap())
}

fn signed() -> Indexes {
    Indexes { ignored: false, key: Some(key().verifier().clone()) }
}

fn none() -> Indexes {
    Indexes { ignored: true, key: None }
}

fn filters(dice: &mut Dice, last_ns: u64) -> Filter {
    let mut filter = Filter::default();
    for _ in 0..1 + dice.below(2) {
        let text = |text: &str| Some(text.to_owned());
        let time = T0 + dice.below((last_ns - T0) as usize) as u64;
        match dice.below(7) {
            0 => filter.subject = text(dice.one(&SUBJECTS)),
            1 => filter.tool = text(dice.one(&["make", "*t*", "drop"])),
            2 => filter.rule = text(dice.one(&RULES)),
            3 => filter.since_ns = Some(time),
            4 => filter.until_ns = Some(time),
            5 => filter.verdict = text(dice.one(&["allowed", "masked", "denied"])),
            _ => filter.session = Some(session(dice.below(9) as u32)),
        }
    }
    if dice.once_in(6) {
        filter.text = Some("number".to_owned());
    }
    filter
}

// Mutants: `whole_exchanges` that gives nothing needed, or only what one segment alone has all answers
// to; `unseen` false; `left` of `search` that gives no rows away at a start entry; an index without its
// late list.
#[test]
fn answers_are_the_same_with_and_without_indexes() {
    let (mut left, mut found) = ([0; 4], 0);
    for seed in 1..=60 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let (image, exchanges) = generated(&mut dice);
        let directory = write(&image);
        let directory = directory.path();
        assert_eq!(verify(directory).0, Exit::Done, "seed {seed}");
        let same = |with: Ran, without: Ran, what: &str, left: &mut u32| {
            assert_eq!(with.out, without.out, "seed {seed}, {what}");
            assert_eq!(with.exit, without.exit, "seed {seed}, {what}");
            assert_eq!(without.left, 0);
            *left += with.left;
            u32::from(with.exit == Exit::Done)
        };
        let last_ns = T0 + u64::from(exchanges) * SECOND;
        for _ in 0..24 {
            let filter = filters(&mut dice, last_ns);
            let what = format!("{filter:?}");
            let with = search(directory, &filter, &signed());
            found += same(with, search(directory, &filter, &none()), &what, &mut left[0]);
            let with = sessions(directory, &filter, &signed());
            found += same(with, sessions(directory, &filter, &none()), &what, &mut left[1]);
        }
        let ids = (0..=exchanges).map(|number| Shown::Exchange(exchange(number)));
        for id in ids.chain((0..9).map(|number| Shown::Session(session(number)))) {
            let with = show(directory, id, &signed());
            found += same(with, show(directory, id, &none()), &format!("{id:?}"), &mut left[2]);
        }
        for secret in SECRETS {
            let (with, told) = echo(directory, secret, &signed());
            let (without, all) = echo(directory, secret, &none());
            found += same(with, without, secret, &mut left[3]);
            for member in ["entries", "segments", "from", "to", "hits", "complete"] {
                assert_eq!(told[member], all[member], "seed {seed}, {member}");
            }
        }
    }
    assert!(left.iter().all(|left| *left > 100) && found > 1000, "{left:?} {found}");
}

/// Five sealed segments and an open one, each with a call of another subject; the third has ten
/// megabytes that do not compress.
fn five() -> Maker {
    let mut maker = Maker::default();
    let mut dice = Dice(77);
    for number in 0..6 {
        let utc_ns = T0 + u64::from(number) * SECOND;
        let mut flush = vec![request(number, &format!("subject-{number}"), "make", utc_ns)];
        if number == 2 {
            let large: Vec<u8> = (0..10_000_000).map(|_| dice.below(256) as u8).collect();
            flush.push(entry(Kind::Answer, number, 1, utc_ns).part(PartKind::Body, large));
        }
        let ordinal = flush.len() as u32;
        flush.push(end(number, ordinal, utc_ns));
        let mut steps = vec![Step::Flush(flush)];
        steps.extend((number % 2 == 0).then_some(Step::Checkpoint));
        steps.extend((number < 5).then_some(Step::Seal));
        maker.segment(steps);
    }
    maker
}

fn of_subject(number: u32) -> Filter {
    Filter { subject: Some(format!("subject-{number}")), ..Filter::default() }
}

/// Counts what is read of each file.
struct Counting {
    disk: MemoryDisk,
    read: Arc<Mutex<BTreeMap<String, usize>>>,
}

struct Counted {
    name: String,
    input: Box<dyn Read>,
    read: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        *self.read.lock().unwrap().entry(self.name.clone()).or_default() += read;
        Ok(read)
    }
}

impl Files for Counting {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        self.disk.len(name)
    }

    fn open_at(&self, name: &str, offset: u64) -> io::Result<Box<dyn Read>> {
        let input = self.disk.open_at(name, offset)?;
        Ok(Box::new(Counted { name: name.to_owned(), input, read: self.read.clone() }))
    }

    fn is_live(&self) -> bool {
        false
    }

    fn list_keys(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn read_key(&self, _name: &str) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

#[derive(Default)]
struct Heard(Vec<Option<ExchangeId>>);

impl Sink for Heard {
    fn entry(&mut self, _place: &Place, entry: &stenograph::record::entry::EntryView<'_>) {
        self.0.push(entry.exchange);
    }
}

#[test]
fn of_what_is_left_out_only_head_and_tail_are_read() {
    let image = five().files;
    let files = Counting { disk: MemoryDisk::with(image.clone()), read: Arc::default() };
    let key = key();
    let asked = |index: &Summary| index.subjects.may_name(&"subject-3".to_owned());
    let asked = Asked { questions: vec![Box::new(asked)], exchanges: true };
    let skips = Skips::of(&files, Some(key.verifier()), &asked).unwrap();
    let mut heard = Heard::default();
    let checks = Checks { key: None, commitments: true };
    let reading = read_skipping(&files, checks, &skips, &mut heard).unwrap();
    assert!(reading.is_consistent(), "{:?}", reading.damage);
    assert_eq!((reading.segments, reading.left_segments), (6, 4));
    let newest = vec![exchange(5); 2];
    let asked_for = vec![exchange(3); 2];
    let expected: Vec<_> = asked_for.into_iter().chain(newest).map(Some).collect();
    assert_eq!(heard.0, expected);
    let read = files.read.lock().unwrap();
    assert!(read["00000002.seg"] < 200 * 1024, "{read:?}");
    assert!(image["00000002.seg"].len() > 9_000_000);
    assert!(read["00000003.seg"] >= image["00000003.seg"].len());
}

// Mutant: `Skips::of` that believes nothing (then the damage is met).
#[test]
fn damage_in_what_is_left_out_is_for_verify() {
    let mut image = five().files;
    image.get_mut("00000002.seg").unwrap()[5_000_000] ^= 1;
    let directory = write(&image);
    let searched = search(directory.path(), &of_subject(3), &signed());
    assert_eq!((searched.exit, searched.left), (Exit::Done, 4));
    let read = search(directory.path(), &of_subject(3), &none());
    assert_eq!((read.exit, read.out), (Exit::Incomplete, searched.out));
    let (exit, report) = verify(directory.path());
    assert_eq!((exit, &report["damage"][0]["segment"]), (Exit::No, &json!(2)));
}

// Mutant: without the comparison of the chain with the seal an index with another byte is believed.
#[test]
fn an_index_that_is_not_as_it_was_signed_is_not_believed() {
    let mut maker = Maker::default();
    for number in 0..3 {
        let flush =
            vec![request(number, &format!("subject-{number}"), "make", T0), end(number, 1, T0)];
        let checkpoint = (number == 0).then_some(Step::Checkpoint);
        let steps = [Step::Flush(flush)].into_iter().chain(checkpoint).chain([Step::Seal]);
        maker.segment(steps.collect());
    }
    let image = maker.files;
    let directory = write(&image);
    let asked = of_subject(2);
    assert_eq!(search(directory.path(), &asked, &signed()).left, 2);
    for name in ["00000000.seg", "00000001.seg"] {
        let path = directory.path().join("segments").join(name);
        let file = &image[name];
        let (index, seal) = tail(file);
        let index_in_doubt = index - 39..file.len();
        for at in index_in_doubt {
            let mut other = file.clone();
            other[at] ^= 1 << (at % 8);
            std::fs::write(&path, &other).unwrap();
            let searched = search(directory.path(), &asked, &signed());
            let seen = (searched.exit, searched.left) == (Exit::Incomplete, 1);
            assert!(seen, "{name} {at} {searched:?}");
            let searched = search(directory.path(), &asked, &Indexes::default());
            assert_eq!(searched.left, 0, "{name} {at} {searched:?}");
        }
        for cut in [file.len() - 1, seal, index] {
            std::fs::write(&path, &file[..cut]).unwrap();
            let searched = search(directory.path(), &asked, &signed());
            assert_eq!((searched.exit, searched.left), (Exit::Incomplete, 1));
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(search(directory.path(), &asked, &signed()).exit, Exit::Incomplete);
        std::fs::write(&path, file).unwrap();
    }
}

/// Where the index and the sealed checkpoint of a file begin.
fn tail(file: &[u8]) -> (usize, usize) {
    let last = |magic: u32, before: usize| {
        let magic = magic.to_le_bytes();
        (0..before).rev().find(|&at| file[at..].starts_with(&magic)).unwrap()
    };
    let seal = last(MAGIC_CHECKPOINT, file.len());
    (last(MAGIC_INDEX, seal), seal)
}

/// Puts another index into the newest segment, signed with `key`, and lets the record go on from there.
fn forge(maker: &mut Maker, key: &LogKey, change: impl FnOnce(&mut Value)) {
    let name = format!("{:08}.seg", maker.number - 1);
    let file = maker.files.get_mut(&name).unwrap();
    let (index, seal) = tail(file);
    let mut checkpoint = Checkpoint::open(&file[seal + SKIPPABLE_HEAD_BYTES..], None).unwrap();
    let mut value = serde_json::from_slice(&file[index + SKIPPABLE_HEAD_BYTES..seal]).unwrap();
    change(&mut value);
    let payload = value.to_string().into_bytes();
    file.truncate(index);
    file.extend_from_slice(&skippable_head(MAGIC_INDEX, payload.len()));
    file.extend_from_slice(&payload);
    // A mark and the end of its frame stand before the index.
    let point = index - 39;
    let extent = Sha256::new().chain_update(&file[point + 4..point + 36]);
    checkpoint.chain = extent.chain_update(&file[point..]).finalize().into();
    checkpoint.offset = file.len() as u64;
    let note = checkpoint.sign(key);
    let seal = file.len();
    file.extend_from_slice(&skippable_head(MAGIC_CHECKPOINT, note.len()));
    file.extend_from_slice(note.as_bytes());
    let chain = Sha256::new().chain_update(checkpoint.chain).chain_update(&file[seal..]);
    maker.previous.chain = chain.finalize().into();
    maker.previous.kept_bytes = file.len() as u64;
}

/// Two segments, the first with another index; the call of `alice` that goes on in the second.
fn forged(key: &LogKey, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let mut maker = Maker::default();
    let verdict = finding("ssn", SECRETS[0]).to_string();
    maker.segment(vec![
        Step::Flush(vec![
            Entry::new(Kind::Start, Now { utc_ns: T0, mono_ns: 5 }),
            request(1, "alice", "make", T0 + SECOND),
            entry(Kind::Event, 1, 1, T0 + 2 * SECOND).part(PartKind::Verdict, verdict),
            entry(Kind::Event, 0, 7, T0 + 3 * SECOND),
        ]),
        Step::Seal,
    ]);
    forge(&mut maker, key, change);
    maker.segment(vec![Step::Flush(vec![end(1, 2, T0 + 4 * SECOND)])]);
    write(&maker.files)
}

// Mutants: `lie` without one of its lines, each; no comparison at all in the scan.
#[test]
fn an_index_that_lies_is_damage() {
    let honest = forged(&key(), |_| {});
    assert_eq!(verify(honest.path()).0, Exit::Done);
    for (member, lie) in [
        ("entries", json!(3)),
        ("starts", json!(0)),
        ("first", json!("2026-11-18T11:06:41.000000000Z")),
        ("last", json!("2026-11-18T11:06:41.000000000Z")),
        ("exchanges", json!(null)),
        ("sessions", json!([])),
        ("subjects", json!([])),
        ("subjects", json!(["alice", "bob"])),
        ("targets", json!(["other"])),
        ("rules", json!([])),
        ("fingerprints", json!([])),
        ("open", json!([])),
        ("late", json!([])),
    ] {
        let record = forged(&key(), |index| index[member] = lie.clone());
        let (exit, report) = verify(record.path());
        let damage = &report["damage"];
        assert_eq!((exit, damage.as_array().unwrap().len()), (Exit::No, 1), "{member} {damage}");
        assert_eq!((&damage[0]["segment"], &damage[0]["entry"]), (&json!(0), &json!(4)));
        let what = damage[0]["what"].as_str().unwrap();
        assert!(what.starts_with("index says of") && what.contains(member), "{what}");
    }
    // A search that reads the segment meets the lie too.
    let record = forged(&key(), |index| index["subjects"] = json!([]));
    let alice = Filter { subject: Some("alice".into()), ..Filter::default() };
    let searched = search(record.path(), &alice, &signed());
    assert_eq!((searched.exit, searched.left), (Exit::Incomplete, 0), "its call goes on behind");
}

// Mutants: a list that overflowed taken for whole; an index of an earlier writer taken for whole.
#[test]
fn what_an_index_does_not_promise_is_looked_for_inside() {
    type Change = fn(&mut Value);
    let changes: [Change; 2] = [
        |index| {
            index["fingerprints"] = json!([]);
            index["overflowed"] = json!(["fingerprints"]);
            index["complete"] = json!(false);
        },
        |index| {
            *index = json!({
                "version": 1, "complete": true, "entries": 4, "first": index["first"],
                "last": index["last"], "sessions": [], "subjects": [], "targets": [], "rules": [],
            });
        },
    ];
    for change in changes {
        let record = forged(&key(), change);
        assert_eq!(verify(record.path()).0, Exit::Done);
        let (ran, coverage) = echo(record.path(), SECRETS[0], &signed());
        assert_eq!((ran.exit, ran.left, &coverage["hits"]), (Exit::Done, 0, &json!(1)));
    }
    let honest = forged(&key(), |_| {});
    let (ran, _) = echo(honest.path(), SECRETS[1], &signed());
    assert_eq!((ran.exit, ran.left), (Exit::No, 1));
}

// Mutant: `cosigned` of the reader that asks behind a segment that was left out.
#[test]
fn a_cosignature_over_a_checkpoint_in_what_is_left_out_is_no_damage() {
    let mut maker = Maker::default();
    let call = |number: u32| {
        let subject = format!("subject-{number}");
        Step::Flush(vec![request(number, &subject, "make", T0), end(number, 1, T0)])
    };
    maker.segment(vec![call(0), Step::Seal]);
    let file = &maker.files["00000000.seg"];
    let (_, seal) = tail(file);
    let note = String::from_utf8(file[seal + SKIPPABLE_HEAD_BYTES..].to_vec()).unwrap();
    let text = &note[..=note.find("\n\n").unwrap()];
    let line = WitnessKey::from_seed("witness", &[5; 32]).unwrap().cosign(text, 1_795_000_000);
    maker.segment(vec![call(1), Step::Cosigned(note + line.trim_end() + "\n"), Step::Seal]);
    maker.segment(vec![call(2)]);
    let record = write(&maker.files);
    assert_eq!(verify(record.path()).0, Exit::Done);
    for (number, left) in [(0, 1), (1, 1), (2, 2)] {
        let searched = search(record.path(), &of_subject(number), &signed());
        assert_eq!((searched.exit, searched.left), (Exit::Done, left), "{searched:?}");
    }
}

/// A connect or disconnect entry of the connection that is named by exchange `number`.
fn connection(kind: Kind, number: u32, utc_ns: u64) -> Entry {
    let detail = json!({ "connection": exchange(number).to_string(), "source": "192.0.2.1:4000" });
    Entry::new(kind, Now { utc_ns, mono_ns: 5 }).part(PartKind::Detail, detail.to_string())
}

// Mutants: `Connections::window` that gives none; that looks at one time only.
#[test]
fn an_exchange_is_shown_with_its_connection_wherever_the_ends_of_that_lie() {
    const HOUR: u64 = 3_600 * SECOND;
    let over = |number: u32, connection: u32, at: u64| {
        let mut begun = request(number, "alice", "make", at);
        let verdict = json!({
            "direction": "request", "decision": "allowed",
            "connection": exchange(connection).to_string(),
        });
        begun.parts.retain(|part| part.kind != PartKind::Verdict);
        let begun = begun.part(PartKind::Verdict, verdict.to_string());
        vec![begun, end(number, 1, at)]
    };
    let start = |at: u64| Entry::new(Kind::Start, Now { utc_ns: at, mono_ns: 5 });
    let mut maker = Maker::default();
    let first = vec![start(T0), connection(Kind::Connect, 1, T0), connection(Kind::Connect, 3, T0)];
    for entries in [
        first,
        over(7, 3, T0 + HOUR / 2),
        over(2, 1, T0 + 2 * HOUR),
        over(8, 3, T0 + 5 * HOUR),
        vec![connection(Kind::Disconnect, 1, T0 + 300 * HOUR)],
        over(9, 3, T0 + 400 * HOUR),
    ] {
        maker.segment(vec![Step::Flush(entries), Step::Seal]);
    }
    maker.segment(vec![Step::Flush(over(10, 3, T0 + 500 * HOUR))]);
    let record = write(&maker.files);
    let told = |id: Shown, indexes: &Indexes| {
        let ran = show(record.path(), id, indexes);
        assert_eq!(ran.exit, Exit::Done, "{ran:?}");
        let lines = ran.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut told: Vec<_> = lines
            .map(|line| (line["sequence"].as_u64(), line["kind"].as_str().unwrap().to_owned()))
            .collect();
        told.sort();
        (told, ran.left)
    };
    let kinds = |told: &[(Option<u64>, String)]| {
        told.iter().map(|(_, kind)| kind.clone()).collect::<Vec<_>>().join(" ")
    };
    for (number, expected) in [(2, "connect request end disconnect"), (9, "connect request end")] {
        let id = Shown::Exchange(exchange(number));
        let (all, left) = told(id, &none());
        assert_eq!((kinds(&all).as_str(), left), (expected, 0));
        let (same, left) = told(id, &signed());
        assert!(left >= 4, "{left} segments were left out at first");
        assert_eq!(same, all, "exchange {number}");
    }
}

// Mutant: `SealedEnd::read` without the key.
#[test]
fn an_index_that_another_key_signed_is_not_believed() {
    let other = LogKey::from_seed("log.example", &[8; 32]).unwrap();
    let record = forged(&other, |index| index["fingerprints"] = json!([]));
    let (ran, coverage) = echo(record.path(), SECRETS[0], &signed());
    assert_eq!((ran.left, &coverage["hits"]), (0, &json!(1)));
    // Without the key nobody can tell, so all is read.
    let (ran, coverage) = echo(record.path(), SECRETS[0], &Indexes::default());
    assert_eq!((ran.left, &coverage["hits"]), (0, &json!(1)));
}
