//! Whoever has the log's signing key writes a record anew in which a part is hidden: every entry header
//! and so the whole tree stays as it was. `verify` tells that the part is not there, and a checkpoint
//! that was kept elsewhere, which holds the chain over the compressed bytes, does not fit any more.

mod record_support;
#[expect(dead_code, reason = "only its two commands are asked")]
mod second_verifier;

use std::num::NonZeroUsize;
use std::path::Path;

use record_support::{Image, Maker, MemoryDisk, Step, key, request};
use serde_json::Value;
use sha2::{Digest, Sha256};
use stenograph::audit;
use stenograph::audit::since::Kept;
use stenograph::audit::verify::{self, VerifyOptions};
use stenograph::record::entry::{
    EntryMeasure, EntryRead, EntryView, TAG_COMPACT, TAG_MARK, measure_entry, read_entry,
};
use stenograph::record::format::{DATA_FRAME_HEAD, FRAME_END, MAGIC_CHECKPOINT, MARK_BLOCK_HEAD};
use stenograph::record::format::{MARK_BYTES, skippable_head};
use stenograph::record::header::Header;
use stenograph::record::note::Checkpoint;
use stenograph::record::reader::{Checks, read};
use stenograph::record::scan::{Place, Sink};
use stenograph::record::{Entry, Keep, Kind, PartKind};
use stenograph::types::Now;

const NAME: &str = "00000000.seg";

/// The last checkpoint of a record.
#[derive(Default)]
struct Last(Option<Checkpoint>);

impl Sink for Last {
    fn entry(&mut self, _: &Place, _: &EntryView<'_>) {}

    fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.0 = Some(checkpoint.clone());
    }
}

fn last_checkpoint(image: &Image) -> Checkpoint {
    let mut last = Last::default();
    let disk = MemoryDisk::with(image.clone());
    let key = key();
    let checks = Checks { key: Some(key.verifier()), commitments: true };
    assert!(read(&disk, checks, &mut last).unwrap().is_consistent());
    last.0.unwrap()
}

/// A record of one segment, open at a checkpoint.
fn honest() -> Image {
    let mut heads = request(3, b"this grant keeps heads");
    heads.keep = Keep::Heads;
    let mut maker = Maker::default();
    maker.segment(vec![
        Step::Flush(vec![Entry::new(Kind::Start, Now::default()), request(1, b"one")]),
        Step::Flush(vec![request(2, b"the order to delete everything"), heads]),
        Step::Checkpoint,
    ]);
    maker.files
}

/// The compact entry `item` without the bytes of its part of this kind.
fn without(item: &[u8], kind: PartKind) -> Vec<u8> {
    let EntryRead::Done(view, _) = read_entry(item, true) else { panic!("an entry") };
    let row = view.parts.iter().position(|part| part.kind_number == kind as u8).unwrap();
    let (commitment, bytes) = (view.parts[row].commitment, view.parts[row].bytes.unwrap());
    let start = bytes.as_ptr() as usize - item.as_ptr() as usize;
    let behind = &item[start + bytes.len()..];
    [&item[..start - 1], &[0], &commitment, behind].concat()
}

/// The same entries in new bytes, after `change` of each, signed with the log's key.
fn written_anew(honest: &Image, change: impl Fn(usize, &[u8]) -> Vec<u8>) -> Image {
    let file = &honest[NAME];
    let head_bytes = Header::frame_bytes(file.first_chunk().unwrap()).unwrap();
    let (_, chain) = Header::read(&file[..head_bytes]).unwrap();
    let plain = zstd::decode_all(&file[head_bytes..]).unwrap();
    let (mut flush, mut rest, mut number) = (Vec::new(), &plain[..], 0);
    while let Some(&tag) = rest.first() {
        let used = match tag {
            TAG_MARK => MARK_BYTES,
            _ => match measure_entry(rest) {
                EntryMeasure::Done(used) => used,
                other => panic!("{other:?}"),
            },
        };
        if tag == TAG_COMPACT {
            flush.extend_from_slice(&change(number, &rest[..used]));
            number += 1;
        }
        rest = &rest[used..];
    }
    let point = |chain: [u8; 32], bytes: &[u8]| -> [u8; 32] {
        Sha256::new().chain_update(chain).chain_update(bytes).finalize().into()
    };
    // One raw block, the mark, the end of the frame (RFC 8878 §3.1.1.2).
    let block_head = ((flush.len() as u32) << 3).to_le_bytes();
    let data = [&DATA_FRAME_HEAD, &block_head[..3], &flush].concat();
    let chain = point(chain, &data);
    let mark = [&MARK_BLOCK_HEAD[..], &[TAG_MARK], &chain].concat();
    let tail = [&mark[..], &FRAME_END].concat();
    let mut anew = [&file[..head_bytes], &data, &tail].concat();
    let mut checkpoint = last_checkpoint(honest);
    checkpoint.offset = anew.len() as u64;
    checkpoint.chain = point(chain, &tail);
    let note = checkpoint.sign(&key()).into_bytes();
    anew.extend_from_slice(&skippable_head(MAGIC_CHECKPOINT, note.len()));
    anew.extend_from_slice(&note);
    Image::from([(NAME.to_owned(), anew)])
}

fn verify(directory: &Path, image: &Image, since: Option<&Path>) -> (audit::Exit, Value) {
    let segments = directory.join("record/segments");
    std::fs::create_dir_all(&segments).unwrap();
    for (name, bytes) in image {
        std::fs::write(segments.join(name), bytes).unwrap();
    }
    let mut said = Vec::new();
    for threads in [1, 3] {
        let options = VerifyOptions {
            directory: directory.join("record"),
            key: Some(key().verifier().clone()),
            since: since.map_or(Vec::new(), |file| Kept::read(file).unwrap()),
            witnesses: Vec::new(),
            json: true,
            threads: NonZeroUsize::new(threads).unwrap(),
        };
        let mut out = Vec::new();
        let exit = verify::run(&options, &mut out, &mut std::io::sink()).unwrap();
        said.push((exit, serde_json::from_slice::<Value>(&out).unwrap()));
    }
    assert_eq!(said[0], said[1]);
    // The second verifier, from the format document alone, says the same.
    let (record, trusted) = (directory.join("record"), directory.join("log.pub"));
    std::fs::write(&trusted, format!("{}\n", key().verifier())).unwrap();
    let mut arguments = vec![&record, Path::new("--key"), &trusted];
    arguments.extend(since.iter().flat_map(|file| [Path::new("--since"), file]));
    let (code, second) = second_verifier::second_verify(&arguments);
    assert_eq!(code, said[0].0 as i32, "{second}");
    said.remove(0)
}

/// What `verify` says of that many parts of that many entries, and of (bodies not kept, of them untold).
fn withheld(parts: u64, entries: u64, first: Option<u64>, bodies: (u64, u64)) -> Value {
    serde_json::json!({
        "parts": parts,
        "entries": entries,
        "first": first,
        "bodies_not_kept": bodies.0,
        "bodies_untold": bodies.1,
    })
}

// Mutants: `Kept::verdict` that asks for the root alone; `Withholding::add` that passes bodies over.
#[test]
fn a_part_that_the_holder_of_the_key_hides_is_told_and_does_not_fit_a_kept_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let honest = honest();
    let kept = here.join("kept.note");
    std::fs::write(&kept, last_checkpoint(&honest).sign(&key())).unwrap();
    let (exit, said) = verify(here, &honest, Some(&kept));
    assert_eq!((exit, &said["since"][0]["holds"]), (audit::Exit::Done, &true.into()), "{said}");
    let none = withheld(0, 0, None, (1, 1));
    assert_eq!(said["withheld"], none);

    for (kind, parts, bodies) in [(PartKind::Subject, 1, 1), (PartKind::Body, 0, 2)] {
        let hidden = written_anew(&honest, |number, item| match number {
            2 => without(item, kind),
            _ => item.to_vec(),
        });
        let (exit, said) = verify(here, &hidden, None);
        assert_eq!(exit, audit::Exit::Done, "the tree is the same: {said}");
        assert_eq!(said["root"], serde_json::json!(root_text(&honest)));
        let first = if parts > 0 { Value::from(2) } else { Value::Null };
        assert_eq!(said["withheld"]["first"], first, "{said}");
        assert_eq!(said["withheld"]["parts"], parts, "{said}");
        assert_eq!(said["withheld"]["bodies_not_kept"], bodies, "{said}");
        let (exit, said) = verify(here, &hidden, Some(&kept));
        assert_eq!(exit, audit::Exit::No, "{said}");
        let what = said["since"][0]["what"].as_str().unwrap();
        assert!(what.starts_with("written anew"), "{what}");
    }
    // Nothing hidden, other bytes: nobody but the holder of the key makes them either.
    let same = written_anew(&honest, |_, item| item.to_vec());
    assert_eq!(verify(here, &same, None).0, audit::Exit::Done);
    assert_eq!(verify(here, &same, Some(&kept)).0, audit::Exit::No);
}

/// Entries: start, two policies, and requests whose verdicts name policy and grant.
fn under_policies() -> Image {
    let detail = |kind, detail: Value| {
        Entry::new(kind, Now::default()).part(PartKind::Detail, detail.to_string())
    };
    let grants = |words: &[&str]| -> Vec<Value> {
        words.iter().map(|word| serde_json::json!({ "record": word })).collect()
    };
    let policy = |id: &str, words: &[&str]| {
        let recording = serde_json::json!({ "grants": grants(words) });
        detail(Kind::Policy, serde_json::json!({ "policy": id, "recording": recording }))
    };
    let judged = |number: u32, keep: Keep, verdict: Value| {
        let mut entry = request(number, format!("the body of call {number}").as_bytes());
        entry.keep = keep;
        entry.part(PartKind::Verdict, verdict.to_string())
    };
    let mut maker = Maker::default();
    maker.segment(vec![
        Step::Flush(vec![
            Entry::new(Kind::Start, Now::default()),
            policy("both", &["full", "heads"]),
            policy("full", &["full"]),
        ]),
        Step::Flush(vec![
            judged(3, Keep::Full, serde_json::json!({ "policy": "both", "grant": 0 })),
            judged(4, Keep::Heads, serde_json::json!({ "policy": "both", "grant": 1 })),
            judged(5, Keep::Full, serde_json::json!({ "policy": "both" })),
            judged(6, Keep::Full, serde_json::json!({ "policy": "full" })),
            judged(7, Keep::Full, serde_json::json!({ "policy": "none", "grant": 0 })),
            judged(8, Keep::Full, serde_json::json!({ "policy": "full", "grant": 3 })),
        ]),
        Step::Checkpoint,
    ]);
    maker.files
}

// Mutants: a full grant whose missing body counts as not kept; one full grant that answers for all where
// none is named; an unknown policy that counts as not kept and not as untold; an entry counted twice;
// `join` without the policies, or with the later first.
#[test]
fn a_body_that_the_policy_in_force_had_stored_is_withheld_and_not_one_that_was_never_kept() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let honest = under_policies();
    let hide = |hidden: &[(usize, PartKind)]| {
        let anew = written_anew(&honest, |number, item| {
            let mut item = item.to_vec();
            for (_, kind) in hidden.iter().filter(|(hidden, _)| *hidden == number) {
                item = without(&item, *kind);
            }
            item
        });
        let (exit, said) = verify(here, &anew, None);
        assert_eq!(exit, audit::Exit::Done, "{said}");
        said["withheld"].clone()
    };
    let body = PartKind::Body;
    assert_eq!(hide(&[]), withheld(0, 0, None, (1, 0)), "what the grant does not keep");
    assert_eq!(hide(&[(3, body)]), withheld(1, 1, Some(3), (1, 0)), "what it keeps");
    assert_eq!(hide(&[(6, body)]), withheld(1, 1, Some(6), (1, 0)), "what every grant keeps");
    assert_eq!(hide(&[(5, body)]), withheld(0, 0, None, (2, 1)), "what one grant keeps");
    assert_eq!(
        hide(&[(7, body), (8, body)]),
        withheld(0, 0, None, (3, 2)),
        "no such policy, grant"
    );
    let two = [(3, body), (3, PartKind::Subject), (6, body)];
    assert_eq!(hide(&two), withheld(3, 2, Some(3), (1, 0)), "two parts of one entry");
    // Whoever hides the policy or the verdict as well cannot say that it was not kept.
    let policy = [(1, PartKind::Detail), (3, body)];
    assert_eq!(hide(&policy), withheld(1, 1, Some(1), (2, 2)), "the policy too");
    let verdict = [(3, PartKind::Verdict), (3, body)];
    assert_eq!(hide(&verdict), withheld(1, 1, Some(3), (2, 1)), "the verdict too");
}

fn root_text(image: &Image) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(last_checkpoint(image).root)
}
