//! Sealed originals, over the real pipeline: what clients and servers sent is written down outside;
//! without an auditor's identity nothing of it is on the disk, with it every byte comes back.

mod record_support;

#[path = "exchange/rig.rs"]
#[expect(dead_code, reason = "each test file uses a part of it")]
mod rig;
#[path = "exchange/script.rs"]
#[expect(dead_code, reason = "each test file uses a part of it")]
mod script;
#[path = "exchange/stage.rs"]
#[expect(dead_code, reason = "each test file uses a part of it")]
mod stage;

#[path = "sealed/attack.rs"]
mod attack;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use record_support::{How, MemoryDisk, key, random, request, settings, until};
use script::{STREAM_HEAD, Script, call, call_body, chunk, event, json_answer, post, result};
use serde_json::Value;
use stage::{FORBIDDEN, PLANTED, Plan};
use stenograph::audit::originals::{Closed, Opener};
use stenograph::audit::rescan::{self, RescanOptions};
use stenograph::gateway::env::{Seals, Terms};
use stenograph::guard::{Mask, RuleSet};
use stenograph::limits::Limits;
use stenograph::record::age::{AgeFault, Identity};
use stenograph::record::disk::{Directory, Files};
use stenograph::record::entry::{EntryRead, EntryView, read_entry};
use stenograph::record::key_files::{KeyFiles, KeyReport};
use stenograph::record::reader::{Checks, read};
use stenograph::record::scan::{Place, Sink};
use stenograph::record::seal::{DataKey, SealFault, restore};
use stenograph::record::writer::{self, Sealing};
use stenograph::record::{Entry, Keep, Kind, Level, PartKind};
use stenograph::types::{Now, SessionId};
use stenograph::wire::coding::Coding;
use zeroize::Zeroizing;

/// What the rule `number` of the stage finds behind `SSN-`.
const NUMBER: &str = "123456789";

fn auditor() -> Identity {
    Identity::from_seed(&[0xa1; 32])
}

fn stranger() -> Identity {
    Identity::from_seed(&[0x57; 32])
}

fn sealing(payloads: bool) -> Option<Sealing> {
    Some(Sealing { recipients: vec![auditor().recipient().clone()], payloads })
}

fn sealed_plan() -> Plan {
    let seals = Seals { originals: true, ..Seals::default() };
    Plan { seals, sealing: sealing(false), ..Plan::default() }
}

/// The record as files: what somebody who takes the host's disk has.
fn on_disk(disk: &MemoryDisk) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (folder, files) in [("segments", disk.image()), ("keys", disk.keys())] {
        let folder = directory.path().join(folder);
        std::fs::create_dir(&folder).unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
    directory
}

/// Plays `conversation` to its end; gives the disk of the sealed record.
fn played(plan: Plan, conversation: impl FnOnce(Script, &str) -> Script) -> MemoryDisk {
    let script = Script::new(plan);
    let token = script.stage.token("alice", 600);
    let script = conversation(script, &token);
    let disk = script.stage.disk.clone();
    script.end();
    disk
}

/// Everything sealed in a record, and why what did not open did not.
struct Originals {
    opener: Opener,
    keys: KeyFiles,
    /// Kind of the entry, kind of the part, the bytes.
    restored: Vec<(Kind, PartKind, Vec<u8>)>,
    closed: Vec<Closed>,
    /// Rows of originals, bodies and tokens whose bytes are not stored.
    withheld: usize,
    /// Entries that tell of a failure of the disk.
    resumed: usize,
}

impl Sink for Originals {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        self.keys.add(place, entry);
        self.resumed += usize::from(entry.kind() == Some(Kind::Resume));
        self.withheld += entry.parts.iter().filter(|part| part.bytes.is_none()).count();
        match self.opener.open(entry) {
            None => {}
            Some(Err(closed)) => self.closed.push(closed),
            Some(Ok(restored)) => self.restored.extend(restored.into_iter().map(|one| {
                let part = entry.parts[usize::from(one.row)].kind_number;
                let part = PartKind::from_number(part).unwrap();
                (entry.kind().unwrap(), part, one.bytes.to_vec())
            })),
        }
    }
}

fn opened(directory: &Path, identity: Identity) -> (Originals, KeyReport) {
    let mut originals = Originals {
        opener: Opener::new(directory, vec![identity]),
        keys: KeyFiles::default(),
        restored: Vec::new(),
        closed: Vec::new(),
        withheld: 0,
        resumed: 0,
    };
    let files = Directory::new(directory);
    let log = key();
    let checks = Checks { key: Some(log.verifier()), commitments: true };
    let reading = read(&files as &dyn Files, checks, &mut originals).unwrap();
    assert!(reading.is_consistent(), "{:?}", reading.damage);
    let report = std::mem::take(&mut originals.keys).check(&files, false).unwrap();
    (originals, report)
}

const LIST: &str = concat!(
    r#"{"jsonrpc":"2.0","id":6,"result":{"tools":[{"name":"echo","inputSchema":{}},"#,
    r#"{"name":"deploy","description":"with MASKME-abcdef123456","inputSchema":{}}]}}"#,
);

/// Secrets in every place where the gateway edits or stops a message. Gives the disk, and what was
/// sent: each text that did not go on as it came.
fn everything(plan: Plan) -> (MemoryDisk, Vec<String>) {
    let asked = call_body(1, "echo", &format!("use {PLANTED} and {PLANTED}"));
    let answered =
        result(1, &format!("{PLANTED} is \\u004dASKME of SSN-{NUMBER} \\\"{PLANTED}\\\""));
    let progress = script::progress(1).replace(":1}", &format!(":1,\"message\":\"{PLANTED}\"}}"));
    let stopped = script::progress(2).replace(":2}", &format!(":2,\"message\":\"{FORBIDDEN}\"}}"));
    let lines = result(2, PLANTED).replacen(',', ",\n", 2);
    let refused = call_body(3, "echo", &format!("{FORBIDDEN} {PLANTED}"));
    let blocked = result(4, FORBIDDEN);
    let denied = call_body(5, "deploy", PLANTED);
    let listed = LIST.to_owned();
    let list = r#"{"jsonrpc":"2.0","id":6,"method":"tools/list"}"#;
    let disk = played(plan, |script, token| {
        script
            .client(post(token, "", &asked))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["echo"])
            .upstream(json_answer("", &answered))
            .expect_answer(200, |answer| assert!(!answer.body.contains("MASKME-"), "{answer:?}"))
            .client(call(token, 2, "echo", "clean"))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["clean"])
            .upstream(STREAM_HEAD)
            .upstream(event(&progress))
            .upstream(event(&stopped))
            .upstream(chunk(&format!("data: {}\n\n", lines.replace('\n', "\ndata: "))))
            .upstream("0\r\n\r\n")
            .expect_to_client(&["HTTP/1.1 200 OK\r\n", "\"progress\":1", "\"id\":2", "0\r\n\r\n"])
            .client(post(token, "", &refused))
            .expect_error(200, -31002)
            .client(call(token, 4, "echo", "clean"))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["clean"])
            .upstream(json_answer("", &blocked))
            .expect_error(200, -31002)
            .client(post(token, "", &denied))
            .expect_error(200, -31001)
            .client(post(token, "", list))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["tools/list"])
            .upstream(json_answer("", &listed))
            .expect_answer(200, |answer| assert!(!answer.body.contains("deploy"), "{answer:?}"))
    });
    let sent = [asked, answered, progress, stopped, lines, refused, blocked, denied, listed];
    (disk, sent.into())
}

/// What `rescan` says: its lines, and its exit code.
fn rescanned(directory: &Path, rules: Arc<RuleSet>, identity: bool) -> (Vec<Value>, u8) {
    let options = RescanOptions {
        directory: directory.into(),
        rules,
        fingerprint_key: Some([5; 32]),
        known: false,
        json: true,
    };
    let opener = identity.then(|| Opener::new(directory, vec![auditor()]));
    let mut out = Vec::new();
    let exit = rescan::run(&options, opener, &mut out, &mut Vec::new()).unwrap();
    let lines = String::from_utf8(out).unwrap();
    (lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), exit as u8)
}

// Mutants: originals are not scanned; what the verdicts name is new.
#[test]
fn rules_of_then_find_nothing_new_and_rules_of_today_tell_where() {
    for plan in [sealed_plan(), Plan { mask: Mask::Label, ..sealed_plan() }] {
        let (disk, _) = everything(plan);
        let directory = on_disk(&disk);
        let (mut lines, exit) = rescanned(directory.path(), stage::RULES.clone(), true);
        let coverage = lines.pop().unwrap();
        // What was cut from the list was never judged.
        let cut = "/result/tools/1/description";
        assert!(lines.iter().all(|line| line["path"] == cut), "{lines:?}");
        assert_eq!((lines.len(), exit), (1, 0), "{lines:?}");
        assert!(coverage["coverage"]["known"].as_u64() > Some(5), "{coverage}");
        assert_eq!(coverage["coverage"]["complete"], true);
        // Without the identity nothing of it is seen, and it is said that not all was.
        let (lines, exit) = rescanned(directory.path(), stage::RULES.clone(), false);
        assert_eq!((lines.len(), exit), (1, 4), "{lines:?}");
    }
    let (disk, _) = everything(Plan::default());
    let directory = on_disk(&disk);
    assert_eq!(rescanned(directory.path(), stage::RULES.clone(), false).1, 1);
    let today = "schema = 1\n[[rule]]\nid = \"word\"\ntitle = \"w\"\ncategory = \"custom\"\n\
                 pattern = 'clean'\naction = \"alert\"\n";
    let today = RuleSet::compile(&[("today".into(), today.into())], false, &[]).unwrap();
    let (mut lines, exit) = rescanned(directory.path(), today, false);
    lines.pop();
    assert_eq!((lines.len(), exit), (2, 0), "{lines:?}");
    for line in &lines {
        let told = [&line["rule"], &line["direction"], &line["path"], &line["known"]];
        assert_eq!(
            told.map(ToString::to_string),
            ["\"word\"", "\"request\"", "\"/params/arguments/text\"", "false"]
        );
    }
}

#[test]
fn findings_name_their_place_and_where_bodies_are_sealed_no_name_of_it() {
    let answered = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[],"structuredContent":{{"mothers maid":["{PLANTED}"]}}}}}}"#
    );
    let told = |plan: Plan| {
        let disk = played(plan, |script, token| {
            script
                .client(post(token, "", &call_body(1, "echo", PLANTED)))
                .expect_open_upstream("codegen")
                .upstream_ready()
                .expect_to_upstream(&["echo"])
                .upstream(json_answer("", &answered))
                .expect_answer(200, |answer| assert!(!answer.body.contains("MASKME-")))
        });
        let mut places = Places::default();
        let directory = on_disk(&disk);
        let log = key();
        let checks = Checks { key: Some(log.verifier()), commitments: true };
        read(&Directory::new(directory.path()) as &dyn Files, checks, &mut places).unwrap();
        places.0
    };
    let clear = told(sealed_plan());
    assert_eq!(clear[1], "/result/structuredContent/mothers maid/0", "{clear:?}");
    let seals = Seals { payloads: true, ..sealed_plan().seals };
    let sealed = told(Plan { seals, sealing: sealing(true), ..Plan::default() });
    assert_eq!(sealed[1], "/result/structuredContent/*/0", "{sealed:?}");
    assert!(clear[0] == "/params/arguments/text" && sealed[0] == clear[0], "{clear:?} {sealed:?}");
}

/// The paths of all findings.
#[derive(Default)]
struct Places(Vec<String>);

impl Sink for Places {
    fn entry(&mut self, _: &Place, entry: &EntryView<'_>) {
        let verdict: Option<serde_json::Value> = entry
            .part(PartKind::Verdict)
            .map(|part| serde_json::from_slice(part).expect("a verdict is JSON"));
        let found = verdict.as_ref().and_then(|verdict| verdict["findings"].as_array());
        self.0.extend(found.into_iter().flatten().map(|one| one["path"].as_str().unwrap().into()));
    }
}

#[test]
fn what_could_not_be_judged_comes_back_too() {
    let half = "{\"jsonrpc\":\"2.0\",\"x\":\"MASKME-abcdef";
    let prose =
        "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nprose";
    let cut = format!("data: {half}");
    let disk = played(sealed_plan(), |script, token| {
        script
            .client(post(token, "", half))
            .expect_error(400, -32700)
            .client(call(token, 4, "echo", "clean"))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["clean"])
            .upstream(prose)
            .expect_answer(404, |_| {})
            .client(call(token, 5, "echo", "clean"))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["clean"])
            .upstream(STREAM_HEAD.to_owned() + &chunk(&cut) + "0\r\n\r\n")
            .expect_to_client(&["200 OK", "0\r\n\r\n"])
    });
    let directory = on_disk(&disk);
    let (originals, _) = opened(directory.path(), auditor());
    assert_eq!(originals.closed, []);
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
    let restored: Vec<_> =
        originals.restored.iter().map(|(kind, _, bytes)| (*kind, text(bytes))).collect();
    let expected =
        [(Kind::Refusal, half.to_owned()), (Kind::Answer, "prose".to_owned()), (Kind::End, cut)];
    assert_eq!(restored, expected);
}

// Checked against the mutants: a patch that leaves out its last run (where commitments are not
// compared); originals of blocked messages not kept; a list shortened without its original.
#[test]
fn with_the_identity_every_edited_message_comes_back_byte_for_byte() {
    for (mask, keep, payloads) in [
        (Mask::Fill, Keep::Full, false),
        (Mask::Label, Keep::Full, false),
        (Mask::Fill, Keep::Sealed, false),
        (Mask::Label, Keep::Full, true),
    ] {
        let terms = Terms { keep, ..Terms::default() };
        let plan = Plan { mask, terms, sealing: sealing(payloads), ..sealed_plan() };
        let (disk, sent) = everything(plan);
        let directory = on_disk(&disk);
        let (originals, report) = opened(directory.path(), auditor());
        assert_eq!(originals.closed, []);
        assert_eq!(originals.restored.len(), originals.withheld);
        let mut restored: Vec<String> = originals
            .restored
            .iter()
            .filter(|(_, part, _)| *part == PartKind::Original)
            .map(|(_, _, bytes)| String::from_utf8(bytes.clone()).unwrap())
            .collect();
        let bodies = originals.restored.len() - restored.len();
        let mut sent = sent;
        sent.sort_unstable();
        restored.sort_unstable();
        assert_eq!(restored, sent, "{mask:?} {keep:?} {payloads}");
        // All calls here are under one grant, but for what no grant allows.
        assert_eq!(bodies > 0, keep == Keep::Sealed || payloads);
        assert_eq!((report.named, report.erased.len(), report.foreign.len()), (1, 0, 0));
        assert!(report.damage.is_empty());
    }
}

// Checked against the mutant "bodies that are sealed are stored as they are too".
#[test]
fn without_the_identity_no_form_of_a_secret_is_on_the_disk() {
    for (mask, payloads) in [(Mask::Fill, false), (Mask::Label, true)] {
        let plan = Plan { mask, sealing: sealing(payloads), ..sealed_plan() };
        let (disk, _) = everything(plan);
        let directory = on_disk(&disk);
        let texts = attack::everything_readable(directory.path());
        // The search itself finds what is there.
        assert!(attack::forms_in(&texts, b"tools/call").contains(&"as it is"));
        for secret in [PLANTED, FORBIDDEN, NUMBER] {
            assert_eq!(attack::forms_in(&texts, secret.as_bytes()), Vec::<&str>::new(), "{secret}");
        }
        if payloads {
            assert!(attack::forms_in(&texts, b"is \\u004dASKME").is_empty());
        }
    }
}

// Checked against the mutant "the salt of an original is derived from the seed of its entry"; the search
// is also shown what other careless records would hold, such as an unsalted digest.
#[test]
fn a_brute_force_over_nine_digit_numbers_finds_none_that_is_masked() {
    let answer = |number: &str| result(1, &format!("number SSN-{number} of alice"));
    let disk = played(sealed_plan(), |script, token| {
        script
            .client(call(token, 1, "echo", "clean"))
            .expect_open_upstream("codegen")
            .upstream_ready()
            .expect_to_upstream(&["clean"])
            .upstream(json_answer("", &answer(NUMBER)))
            .expect_answer(200, |answer| assert!(!answer.body.contains(NUMBER)))
    });
    let directory = on_disk(&disk);
    let secret: u32 = NUMBER.parse().unwrap();
    let known = attack::Known::of(directory.path());
    // The attacker knows the message but for the number, and every salt and seed on the disk.
    assert_eq!(known.search(attack::numbers(secret), &answer), Vec::<u32>::new());
    // That the search is able to find it: what a careless record would hold is added to what it knows.
    for careless in attack::careless(NUMBER, &answer(NUMBER), &known) {
        let found = known.and(&careless).search(attack::around(secret), &answer);
        assert_eq!(found, [secret]);
    }
}

#[test]
fn tokens_are_sealed_at_their_first_use_and_nowhere_else() {
    let plan =
        Plan { seals: Seals { originals: true, tokens: true, payloads: false }, ..sealed_plan() };
    let mut shown = String::new();
    let disk = played(plan, |script, token| {
        shown = token.to_owned();
        let mut script = script;
        for id in [1, 2] {
            script = script
                .client(call(token, id, "echo", "clean"))
                .expect_open_upstream("codegen")
                .upstream_ready()
                .expect_to_upstream(&["clean"])
                .upstream(json_answer("", &result(id, "ok")))
                .expect_answer(200, |_| {});
        }
        script
    });
    let directory = on_disk(&disk);
    let texts = attack::everything_readable(directory.path());
    assert_eq!(attack::forms_in(&texts, shown.as_bytes()), Vec::<&str>::new());
    let (originals, _) = opened(directory.path(), auditor());
    assert_eq!(originals.restored, [(Kind::Request, PartKind::Token, shown.into_bytes())]);
}

// Checked against the mutant "what was decoded is the original".
#[test]
fn an_encoded_answer_comes_back_in_its_coding_whatever_became_of_it() {
    use std::io::Write;
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let mut cut = gzip(&result(4, "cut"));
    cut.pop();
    let bodies = [
        gzip(&result(1, "nothing")),
        gzip(&result(2, PLANTED)),
        gzip(&result(3, FORBIDDEN)),
        cut,
        gzip("[]"),
    ];
    let plan = Plan { decode: vec![Coding::Gzip], ..sealed_plan() };
    let disk = played(plan, |mut script, token| {
        for (id, body) in (1..).zip(&bodies) {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\
                 Content-Length: {}\r\n\r\n",
                body.len()
            );
            script = script
                .client(call(token, id, "echo", "clean"))
                .expect_open_upstream("codegen")
                .upstream_ready()
                .expect_to_upstream(&["clean"])
                .upstream([head.as_bytes(), body].concat())
                .expect_answer(if id < 4 { 200 } else { 502 }, |_| {});
        }
        script
    });
    let directory = on_disk(&disk);
    let (originals, _) = opened(directory.path(), auditor());
    let restored: Vec<_> = originals.restored.into_iter().map(|(_, _, bytes)| bytes).collect();
    assert_eq!(restored, bodies);
}

// Checked against the mutant "a shortened list keeps no original".
#[test]
fn a_wrong_identity_an_erased_key_and_every_change_is_told_apart() {
    let (disk, sent) = everything(sealed_plan());
    let directory = on_disk(&disk);
    let (originals, _) = opened(directory.path(), stranger());
    assert!(originals.restored.is_empty());
    assert_eq!(originals.closed.len(), sent.len());
    assert!(originals.closed.iter().all(|closed| matches!(closed, Closed::OtherIdentity(_))));

    let keys = disk.keys();
    let (name, bytes) = keys.iter().next().unwrap();
    let path = directory.path().join("keys").join(name);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        std::fs::write(&path, &changed).unwrap();
        let (originals, report) = opened(directory.path(), auditor());
        assert_eq!(report.damage.len(), 1, "byte {at}");
        assert!(report.damage[0].what.contains(name), "{:?}", report.damage);
        assert!(originals.restored.is_empty(), "byte {at}");
    }
    // Another data key of the same auditor under the same name.
    let other = DataKey::generate(&*random()).to_file(&[auditor().recipient().clone()], &*random());
    std::fs::write(&path, other).unwrap();
    let (originals, report) = opened(directory.path(), auditor());
    assert_eq!(report.damage.len(), 1);
    let form = AgeFault::Form("it holds the key of another file");
    assert!(
        originals.closed.iter().all(|it| matches!(it, Closed::Changed(_, fault) if *fault == form))
    );

    std::fs::remove_file(&path).unwrap();
    std::fs::write(directory.path().join("keys/notes.txt"), "x").unwrap();
    std::fs::write(directory.path().join("keys/0123.new"), "half").unwrap();
    let (originals, report) = opened(directory.path(), auditor());
    assert!(originals.closed.iter().all(|closed| matches!(closed, Closed::Erased(_))));
    assert_eq!((report.named, report.erased.len(), report.damage.len()), (1, 1, 0));
    assert_eq!(report.foreign, ["notes.txt"]);
}

/// Entries sealed by hand, as they stand in the plain stream.
fn sealed_entries(data_key: &DataKey) -> Vec<Vec<u8>> {
    use stenograph::record::segment::Builder;
    let header = stenograph::record::header::Header {
        origin: "log.example".into(),
        segment: 0,
        tree: stenograph::record::tree::Tree::new(),
        created: Now::default(),
        boot_id: [0; 16],
        previous: stenograph::record::header::Previous::NONE,
    };
    let mut builder = Builder::begin(&header, 256 * 1024, random()).unwrap();
    let head = builder.step().len();
    for (number, text) in [(1, "first SECRET-1 end"), (2, "other SECRET-2 end")] {
        let entry = request(number, text.replace("SECRET", "******").as_bytes())
            .original(PartKind::Original, Zeroizing::new(text.as_bytes().to_vec()));
        builder.entry_sealed(&entry, 0, Some(data_key)).unwrap();
    }
    builder.flush().unwrap();
    let mut plain = attack::decompressed(&builder.step()[head..]);
    let mut entries = Vec::new();
    while plain.first().is_some_and(|tag| *tag != b'M') {
        let EntryRead::Done(_, used) = read_entry(&plain, true) else { panic!() };
        entries.push(plain.drain(..used).collect());
    }
    entries
}

fn view(plain: &[u8]) -> EntryView<'_> {
    match read_entry(plain, true) {
        EntryRead::Done(view, _) => view,
        other => panic!("{other:?}"),
    }
}

// Checked against the mutants: nothing bound to the entry (`bound` gives the label alone); the check of
// the key not compared; the commitment not compared.
#[test]
fn a_sealed_part_opens_in_its_own_entry_only_and_with_its_own_key_only() {
    let (mine, another) = (DataKey::generate(&*random()), {
        let shifted = random();
        shifted(&mut [0; 7]);
        DataKey::generate(&*shifted)
    });
    let entries = sealed_entries(&mine);
    let (first, second) = (view(&entries[0]), view(&entries[1]));
    assert_eq!(*restore(&first, &mine).unwrap()[0].bytes, b"first SECRET-1 end");
    assert_eq!(*restore(&second, &mine).unwrap()[0].bytes, b"other SECRET-2 end");
    assert_eq!(restore(&first, &another).unwrap_err(), SealFault::OtherKey);

    let last = first.parts.len() - 1;
    let mut swapped = first.clone();
    swapped.parts[last] = second.parts[last];
    assert_eq!(restore(&swapped, &mine).unwrap_err(), SealFault::NotThisEntry);

    // Whoever holds the log's key can write any header; the sealed part still knows its own.
    for at in 0..first.header.len() - 38 {
        let mut rewritten = first.clone();
        let mut header = first.header.to_vec();
        header[at] ^= 1;
        rewritten.header = header.into();
        assert_eq!(restore(&rewritten, &mine).unwrap_err(), SealFault::NotThisEntry, "byte {at}");
    }
    // Every bit of the part itself.
    let part = first.parts[last].bytes.unwrap();
    for at in 0..part.len() {
        let mut bytes = part.to_vec();
        bytes[at] ^= 1 << (at % 8);
        let mut changed = first.clone();
        changed.parts[last].bytes = Some(&bytes);
        let fault = restore(&changed, &mine).unwrap_err();
        let expected = match at {
            0..2 => matches!(fault, SealFault::Form(_)),
            2..66 => fault == SealFault::OtherKey,
            _ => fault == SealFault::NotThisEntry,
        };
        assert!(expected, "byte {at}: {fault}");
    }
    // A body that was exchanged gives another original, which the header does not commit to.
    let mut other_body = first.clone();
    let body =
        other_body.parts.iter().position(|it| it.kind_number == PartKind::Body as u8).unwrap();
    other_body.parts[body].bytes = Some(b"FIRST ******-1 end");
    let row = (last - 1) as u8;
    assert_eq!(restore(&other_body, &mine).unwrap_err(), SealFault::Commitment(row));
}

/// An entry of the session `number` with something to seal.
fn secret_of(number: u32) -> Entry {
    let text = format!("SECRET of session {number}");
    let mut entry = request(number, text.replace("SECRET", "******").as_bytes())
        .original(PartKind::Original, Zeroizing::new(text.into_bytes()));
    entry.session = Some(SessionId::from_bytes(
        [&number.to_be_bytes()[..], &[7; 6]].concat().try_into().unwrap(),
    ));
    entry
}

// Checked against the mutant "every session gets a key of its own".
#[test]
fn a_flood_of_sessions_shares_a_key_and_every_session_comes_back() {
    let disk = MemoryDisk::new();
    let mut write = settings(1, Limits::default());
    write.sealing = sealing(false);
    let (writer, mut recorders) = writer::start(Box::new(disk.clone()), write).unwrap();
    const SESSIONS: u32 = 6000;
    for number in 0..SESSIONS {
        let mut entry = secret_of(number);
        while let Err((back, _)) = recorders[0].submit(entry) {
            entry = back;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    writer.stop().unwrap();
    let keys = disk.keys().len();
    assert!((65..200).contains(&keys), "{keys} key files for {SESSIONS} sessions");
    let directory = on_disk(&disk);
    let (originals, report) = opened(directory.path(), auditor());
    assert_eq!(originals.restored.len(), SESSIONS as usize);
    assert!(originals.closed.is_empty());
    assert_eq!(report.named as usize, keys);
    assert!(report.foreign.is_empty() && report.damage.is_empty());
}

// Checked against the mutants: a key file is not synced; a short write of one is taken for a whole one.
#[test]
fn no_entry_is_acknowledged_whose_key_file_failed() {
    let calls = ["write_key", "sync_key", "rename_key", "sync_key_names"];
    let hows = [How::Eio, How::Enospc, How::Short, How::HalfThenEio, How::DoneThenEio];
    let runs: Vec<_> = calls
        .into_iter()
        .flat_map(|call| hows.map(|how| (call, how)))
        .map(|(call, how)| std::thread::spawn(move || one_key_call_fails(call, how)))
        .collect();
    runs.into_iter().for_each(|run| run.join().unwrap());
}

fn one_key_call_fails(call: &'static str, how: How) {
    let disk = MemoryDisk::new();
    let mut write = settings(1, Limits::default());
    write.sealing = sealing(false);
    let (writer, mut recorders) = writer::start(Box::new(disk.clone()), write).unwrap();
    let recorder = &mut recorders[0];
    disk.fail_next(call, how);
    let ticket = recorder.submit(secret_of(1)).unwrap();
    let progress = recorder.progress_shared();
    until("the receipt", || progress.reached(ticket, Level::Written));
    let acknowledged = on_disk(&disk);
    writer.stop().unwrap();
    for directory in [acknowledged, on_disk(&disk)] {
        let (originals, report) = opened(directory.path(), auditor());
        let restored: Vec<_> = originals.restored.iter().map(|(_, _, bytes)| &bytes[..]).collect();
        assert_eq!(restored, [b"SECRET of session 1"], "{call} {how:?}");
        assert!(report.erased.is_empty() && report.damage.is_empty(), "{call} {how:?}");
        // The call did fail.
        assert!(originals.resumed > 0, "{call} {how:?}");
    }
}

#[test]
fn without_auditors_nothing_is_sealed_and_no_body_meant_to_be_sealed_is_stored() {
    let disk = MemoryDisk::new();
    let (writer, mut recorders) =
        writer::start(Box::new(disk.clone()), settings(1, Limits::default())).unwrap();
    let mut entry = secret_of(1);
    entry.keep = Keep::Sealed;
    recorders[0].submit(entry).unwrap();
    writer.stop().unwrap();
    assert!(disk.keys().is_empty());
    let directory = on_disk(&disk);
    let texts = attack::everything_readable(directory.path());
    assert_eq!(attack::forms_in(&texts, b"of session 1"), Vec::<&str>::new());
    let (originals, _) = opened(directory.path(), auditor());
    assert_eq!((originals.withheld, originals.closed.len()), (1, 0));
}
