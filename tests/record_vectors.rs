//! The golden records of version 2, which read as they always did: one with everything that the format
//! knows, and one that version 1 began and version 2 continues.

mod record_support;

use std::fs;
use std::path::{Path, PathBuf};

use record_support::{Image, MemoryDisk, key, random, request};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stenograph::audit::originals::Opener;
use stenograph::audit::show::entry_json;
use stenograph::record::age::Identity;
use stenograph::record::cosign::{WitnessKey, WitnessVerifier};
use stenograph::record::disk::Directory;
use stenograph::record::entry::{EntryView, TAG_ENTRY, TAG_MARK, write_fixed, write_row};
use stenograph::record::format::{
    DATA_FRAME_HEAD, FRAME_END, MAGIC_CHECKPOINT, MARK_BLOCK_HEAD, skippable_head,
};
use stenograph::record::header::{Header, Previous, PreviousEnd};
use stenograph::record::key_files::{KeyFiles, seal_key_entry};
use stenograph::record::keys::{LogKey, VerifierKey};
use stenograph::record::note::{Checkpoint, Note};
use stenograph::record::reader::{Checks, Reading, read};
use stenograph::record::recovery::recover;
use stenograph::record::rotation::Rotation;
use stenograph::record::scan::{Place, Sink};
use stenograph::record::seal::DataKey;
use stenograph::record::segment::{Builder, Random};
use stenograph::record::tree::Tree;
use stenograph::record::{Entry, Keep, Kind, PartKind};
use stenograph::types::Now;
use zeroize::Zeroizing;

const START_NS: u64 = 1_795_000_000_000_000_000;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/segment").join(name)
}

fn next_key() -> LogKey {
    LogKey::from_seed("log.example", &[17; 32]).unwrap()
}

fn witness() -> WitnessKey {
    WitnessKey::from_seed("witness.example", &[9; 32]).unwrap()
}

fn auditor() -> Identity {
    Identity::from_seed(&[0xa1; 32])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn entry(kind: Kind, detail: &str) -> Entry {
    let mut entry = Entry::new(kind, Now { utc_ns: START_NS + 1, mono_ns: 6 });
    if !detail.is_empty() {
        entry = entry.part(PartKind::Detail, detail.to_owned());
    }
    entry
}

/// A request whose body was masked; what came is sealed as a patch.
fn masked(number: u32) -> Entry {
    let original = format!(r#"{{"id":{number},"text":"the number is 123456789"}}"#);
    request(number, original.replace("123456789", "*********").as_bytes())
        .original(PartKind::Original, Zeroizing::new(original.into_bytes()))
}

/// Writes the golden record; everything that is random or a time is fixed.
struct Golden {
    files: Image,
    keys: Image,
    random: Random,
    number: u32,
    previous: Previous,
    tree: Tree,
    signer: LogKey,
    data_key: Option<DataKey>,
    /// The notes that were signed.
    notes: Vec<String>,
}

/// A step of a segment.
enum Do {
    Flush(Vec<Entry>),
    Checkpoint,
    /// Cosigns the note with this number and signs a checkpoint behind it.
    Cosigned(usize),
    Seal,
}

impl Golden {
    fn new() -> Golden {
        Golden {
            files: Image::new(),
            keys: Image::new(),
            random: random(),
            number: 0,
            previous: Previous::NONE,
            tree: Tree::new(),
            signer: key(),
            data_key: None,
            notes: Vec::new(),
        }
    }

    /// The entry that names a new data key, under which originals are sealed from now on.
    fn new_data_key(&mut self) -> Entry {
        let key = DataKey::generate(&*self.random);
        let recipients = [auditor().recipient().clone()];
        let file = key.to_file(&recipients, &*self.random);
        let told = seal_key_entry(&key, &file, &recipients, None, Now::default());
        self.keys.insert(key.id().file_name(), file);
        self.data_key = Some(key);
        told
    }

    fn header(&self) -> Header {
        Header {
            origin: "log.example".into(),
            segment: self.number,
            tree: self.tree.clone(),
            created: Now { utc_ns: START_NS, mono_ns: 5 },
            boot_id: [0xb0; 16],
            previous: self.previous,
        }
    }

    /// The segment is whole; `residue` stands behind what is kept of it.
    fn ended(&mut self, end: PreviousEnd, mut file: Vec<u8>, residue: &[u8], chain: [u8; 32]) {
        let residue_digest = match residue.is_empty() {
            true => [0; 32],
            false => Sha256::digest(residue).into(),
        };
        let (kept_bytes, residue_bytes) = (file.len() as u64, residue.len() as u64);
        file.extend_from_slice(residue);
        self.files.insert(format!("{:08}.seg", self.number), file);
        self.previous = Previous { end, kept_bytes, residue_bytes, residue_digest, chain };
        self.number += 1;
    }

    fn segment(&mut self, steps: Vec<Do>, residue: &[u8]) {
        let mut builder = Builder::begin(&self.header(), 256 * 1024, self.random.clone()).unwrap();
        let mut file = builder.step().to_vec();
        builder.stored();
        let (mut utc_ns, mut end) = (START_NS + 7, PreviousEnd::Torn);
        for step in steps {
            utc_ns += 1_000_000_000;
            match step {
                Do::Flush(entries) => {
                    for entry in entries {
                        builder.entry_sealed(&entry, 0, self.data_key.as_ref()).unwrap();
                    }
                    builder.flush().unwrap();
                }
                Do::Checkpoint => builder.checkpoint(&self.signer, utc_ns).unwrap(),
                Do::Cosigned(number) => {
                    let note = &self.notes[number];
                    let text = Note::parse(note.as_bytes()).unwrap().text;
                    let line = witness().cosign(text, utc_ns / 1_000_000_000);
                    builder.cosignatures(&format!("{note}{line}")).unwrap();
                    builder.checkpoint(&self.signer, utc_ns).unwrap();
                }
                Do::Seal => {
                    builder.seal(&self.signer, utc_ns).unwrap();
                    end = PreviousEnd::Sealed;
                }
            }
            if let Some((note, ..)) = builder.signed()
                && self.notes.last() != Some(note)
            {
                self.notes.push(note.clone());
            }
            file.extend_from_slice(builder.step());
            builder.stored();
        }
        let kept = builder.kept();
        self.tree = kept.tree;
        self.ended(end, file, residue, kept.chain);
    }

    /// A segment of entries that are not compact, each with the parts in these rows withheld: what
    /// somebody gives away.
    fn copied_segment(&mut self, entries: &[(Entry, &[usize])]) {
        let header = self.header();
        let (mut file, chain) = header.write();
        let begin = file.len();
        file.extend_from_slice(&DATA_FRAME_HEAD);
        let mut plain = Vec::new();
        let mut leaves = Vec::new();
        for (entry, withheld) in entries {
            let (mut head, mut stored) = (Vec::new(), Vec::new());
            let sequence = self.tree.size() + leaves.len() as u64;
            write_fixed(&mut head, entry, sequence, 0, entry.parts.len());
            for (row, part) in entry.parts.iter().enumerate() {
                let mut salt = [0; 32];
                (self.random)(&mut salt);
                write_row(&mut head, part.kind, &salt, &part.bytes);
                let present = !withheld.contains(&row);
                stored.push(u8::from(present));
                if present {
                    stored.extend_from_slice(&salt);
                    stored.extend_from_slice(&part.bytes);
                }
            }
            leaves.push(Sha256::new().chain_update([0]).chain_update(&head).finalize().into());
            plain.push(TAG_ENTRY);
            plain.extend([head, stored].concat());
        }
        file.extend_from_slice(&((plain.len() as u32) << 3).to_le_bytes()[..3]);
        file.extend(plain);
        let point = file.len();
        let digest = |chain: [u8; 32], bytes: &[u8]| -> [u8; 32] {
            Sha256::new().chain_update(chain).chain_update(bytes).finalize().into()
        };
        let chain = digest(chain, &file[begin..]);
        file.extend_from_slice(&MARK_BLOCK_HEAD);
        file.push(TAG_MARK);
        file.extend_from_slice(&chain);
        file.extend_from_slice(&FRAME_END);
        self.tree.append_all(&mut leaves);
        let offset = file.len();
        let chain = digest(chain, &file[point..]);
        let checkpoint = Checkpoint {
            origin: header.origin,
            size: self.tree.size(),
            root: self.tree.root(),
            segment: self.number,
            offset: offset as u64,
            chain,
            utc_ns: START_NS + 99_000_000_000,
            sealed: false,
        };
        let note = checkpoint.sign(&self.signer);
        file.extend_from_slice(&skippable_head(MAGIC_CHECKPOINT, note.len()));
        file.extend_from_slice(note.as_bytes());
        self.notes.push(note);
        let chain = digest(chain, &file[offset..]);
        self.ended(PreviousEnd::Torn, file, &[], chain);
    }
}

/// Four segments: one of every kind of entry, cosigned and sealed; one in which the key changes, torn;
/// a copy in which parts are withheld; and one that ends in order.
fn everything() -> Golden {
    let mut golden = Golden::new();
    let told = golden.new_data_key();
    let mut payload = request(2, b"only an auditor reads this");
    payload.keep = Keep::Sealed;
    let mut heads = request(3, b"nobody reads this");
    heads.keep = Keep::Heads;
    let token = request(4, b"{}")
        .original(PartKind::Token, Zeroizing::new(b"eyJhbGciOiJFUzI1NiJ9.e30.AA".to_vec()));
    let mut refused = entry(Kind::Refusal, "");
    refused = refused
        .part(PartKind::Verdict, r#"{"decision":"refused"}"#)
        .original(PartKind::Original, Zeroizing::new(vec![0xff, 0xfe, 0]));
    let others = [
        (Kind::Policy, r#"{"policy":"p1","config":"[record]\n","packs":[]}"#),
        (Kind::Weakening, r#"{"policy":"p1","weak":[],"weakened":[]}"#),
        (Kind::Keys, r#"{"issuer":"https://issuer.example","keys":[]}"#),
        (Kind::Clock, r#"{"step_ns":250000000}"#),
        (Kind::Connect, r#"{"source":"192.0.2.1:4000"}"#),
        (Kind::Answer, r#"{}"#),
        (Kind::StreamOpen, r#"{}"#),
        (Kind::Event, r#"{}"#),
        (Kind::Interim, r#"{}"#),
        (Kind::Refusals, r#"{"source":"192.0.2.1","reason":"token-bad","count":3}"#),
        (Kind::Cut, r#"{}"#),
        (Kind::Delivery, r#"{"handed":[[0,1,5]]}"#),
        (Kind::End, r#"{"outcome":"done","entries":3}"#),
        (Kind::Disconnect, r#"{"source":"192.0.2.1:4000","exchanges":4}"#),
        (Kind::Deny, r#"{"entries":0}"#),
        (Kind::Resume, r#"{}"#),
        (Kind::Witness, r#"{}"#),
    ];
    let others = others.map(|(kind, detail)| entry(kind, detail)).into();
    golden.segment(
        vec![
            Do::Flush(vec![entry(Kind::Start, r#"{"version":"0.1.0"}"#), told, masked(1)]),
            Do::Checkpoint,
            Do::Flush(vec![payload, heads, token, refused]),
            Do::Flush(others),
            Do::Cosigned(0),
            Do::Flush(vec![entry(Kind::Stop, "{}")]),
            Do::Seal,
        ],
        &[],
    );
    let (size, root) = (golden.tree.size(), golden.tree.root());
    let rotation = Rotation::sign(&key(), &next_key(), size, root).to_string();
    golden.signer = next_key();
    let told = golden.new_data_key();
    golden.segment(
        vec![
            Do::Flush(vec![entry(Kind::Start, "{}"), entry(Kind::Rotation, &rotation)]),
            Do::Flush(vec![told, masked(5)]),
            Do::Checkpoint,
            Do::Flush(vec![request(6, &b"torn behind this one ".repeat(9))]),
        ],
        &b"\x4C\x00\x00 an unfinished write"[..],
    );
    let copied = request(7, b"this part stays");
    golden.copied_segment(&[
        (copied, &[0]),
        (request(8, b"this part is withheld"), &[1]),
        (entry(Kind::Answer, ""), &[]),
    ]);
    let last = golden.notes.len() - 1;
    let told = golden.new_data_key();
    golden.segment(
        vec![
            Do::Cosigned(last),
            Do::Flush(vec![entry(Kind::Start, "{}"), told, masked(9)]),
            Do::Checkpoint,
            Do::Flush(vec![entry(Kind::Stop, "{}")]),
            Do::Seal,
        ],
        &[],
    );
    // The last key was erased.
    let erased = golden.data_key.take().unwrap().id().file_name();
    golden.keys.remove(&erased);
    golden.keys.insert("00112233445566778899aabbccddeeff.age".into(), b"left over".to_vec());
    golden
}

/// The first segment of the golden record of version 1, and one of version 2 behind it that cosigns a
/// checkpoint of the first.
fn continued() -> Golden {
    let name = "00000000.seg";
    let first = fs::read(folder("v1/segments").join(name)).unwrap();
    let files = Image::from([(name.to_owned(), first)]);
    let recovered = recover(&MemoryDisk::with(files.clone()), key().verifier(), false).unwrap();
    let mut golden = Golden::new();
    let signed = recovered.checkpoint.as_ref().expect("version 1 was signed").sign(&key());
    golden.notes.push(signed);
    golden.files = files;
    golden.number = recovered.segment;
    golden.previous = recovered.previous;
    golden.tree = recovered.tree;
    let told = golden.new_data_key();
    golden.segment(
        vec![
            Do::Cosigned(0),
            Do::Flush(vec![entry(Kind::Start, "{}"), told, masked(4)]),
            Do::Checkpoint,
            Do::Flush(vec![entry(Kind::Stop, "{}")]),
            Do::Seal,
        ],
        &[],
    );
    golden
}

/// Everything that the commands say of an entry.
struct Objects {
    objects: Vec<Value>,
    keys: KeyFiles,
    opener: Opener,
    cosignatures: Vec<Value>,
    witness: Option<WitnessVerifier>,
}

impl Sink for Objects {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        self.keys.add(place, entry);
        let mut object = entry_json(place, entry);
        object["header"] = json!(hex(&entry.header));
        object["opened"] = match self.opener.open(entry) {
            None => Value::Null,
            Some(Err(closed)) => json!(closed.to_string()),
            Some(Ok(restored)) => {
                restored.iter().map(|one| json!([one.row, hex(&one.bytes)])).collect()
            }
        };
        self.objects.push(object);
    }

    fn cosignatures(&mut self, at: (u32, u64), checkpoint: &Checkpoint, note: &Note<'_>) {
        let witness = self.witness.as_ref().expect("cosigned by somebody");
        let times = note.signatures[1..].iter().map(|line| witness.verify(line, note.text));
        self.cosignatures.push(json!([at.1, checkpoint.size, times.collect::<Vec<_>>()]));
    }
}

fn verifier(file: &Path) -> VerifierKey {
    VerifierKey::parse(fs::read_to_string(file).unwrap().trim_end()).unwrap()
}

/// What is read of the record in `directory` by the key in `key_file`, and what it says.
fn seen(directory: &Path, key_file: &str) -> (Reading, Value) {
    let key = verifier(&directory.join(key_file));
    let checks = Checks { key: Some(&key), commitments: true };
    // Why not as the commands read it: they ask for a mode that a repository does not keep.
    let identity = fs::read_to_string(directory.join("auditor.key")).unwrap();
    let identities = vec![Identity::parse(identity.trim_end()).unwrap()];
    let witness = fs::read_to_string(directory.join("witness.pub")).unwrap();
    let mut objects = Objects {
        objects: Vec::new(),
        keys: KeyFiles::default(),
        opener: Opener::new(directory, identities),
        cosignatures: Vec::new(),
        witness: Some(WitnessVerifier::parse(witness.trim_end()).unwrap()),
    };
    let files = Directory::new(directory);
    let reading = read(&files, checks, &mut objects).unwrap();
    let keys = objects.keys.check(&files, false).unwrap();
    assert!(keys.damage.is_empty(), "{:?}", keys.damage);
    let root = reading.tree.as_ref().unwrap().root();
    let gaps: Vec<Value> =
        reading.gaps.iter().map(|gap| json!([gap.segment, gap.offset])).collect();
    let value = json!({
        "keys": reading.keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "checkpoints": reading.checkpoints,
        "unsigned_entries": reading.unsigned_entries,
        "gaps": gaps,
        "root": hex(&root),
        "erased": keys.erased.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "foreign": keys.foreign,
        "cosignatures": objects.cosignatures,
        "entries": objects.objects,
    });
    (reading, value)
}

/// Writes a record that is not there yet.
fn write(directory: &Path, golden: &Golden) {
    assert!(!directory.exists(), "{} stays as it is for ever", directory.display());
    for (folder, files) in [("segments", &golden.files), ("keys", &golden.keys)] {
        fs::create_dir_all(directory.join(folder)).unwrap();
        for (name, file) in files {
            fs::write(directory.join(folder).join(name), file).unwrap();
        }
    }
    let line = |name: &str, text: String| fs::write(directory.join(name), text + "\n").unwrap();
    line("log.pub", key().verifier().to_string());
    if golden.signer.verifier() != key().verifier() {
        line("log.new.pub", golden.signer.verifier().to_string());
    }
    line("witness.pub", witness().verifier().to_string());
    line("auditor.key", auditor().to_text().to_string());
    let kept = &golden.notes[golden.notes.len() / 2];
    fs::write(directory.join("kept.checkpoint"), kept).unwrap();
    let (_, value) = seen(directory, "log.pub");
    line("expected.json", serde_json::to_string_pretty(&value).unwrap());
}

// The files stay as they are for ever; `STENOGRAPH_WRITE_VECTORS=1` writes those that are not there.
// Mutants: `KeyPlan::follow` that keeps one key, or does not go on from the new one; cosignatures not
// handed on; a key file that is gone not told.
#[test]
fn golden_records_of_version_2_read_as_they_always_did() {
    for (name, make) in
        [("v2", everything as fn() -> Golden), ("v2_behind_v1", continued as fn() -> Golden)]
    {
        let directory = folder(name);
        if std::env::var_os("STENOGRAPH_WRITE_VECTORS").is_some() {
            write(&directory, &make());
        }
        let text = fs::read_to_string(directory.join("expected.json")).unwrap();
        let expected = serde_json::from_str::<Value>(&text).unwrap();
        for key_file in ["log.pub", "log.new.pub"] {
            if key_file == "log.pub" || directory.join(key_file).exists() {
                let (reading, seen) = seen(&directory, key_file);
                assert!(reading.is_consistent(), "{name}: {:?}", reading.damage);
                assert_eq!(seen, expected, "{name}, {key_file}");
            }
        }
    }
}

// What the golden record is for: that nothing is missing in it.
#[test]
fn the_golden_record_holds_everything_that_the_format_knows() {
    let text = fs::read_to_string(folder("v2/expected.json")).unwrap();
    for kind in Kind::ALL {
        let kind = format!("\"kind\": \"{}\"", kind.as_str());
        assert!(text.contains(&kind), "{kind}");
    }
    for kind in [PartKind::Original, PartKind::Sealed, PartKind::Token, PartKind::Body] {
        let kind = format!("\"kind\": \"{}\"", kind.as_str());
        assert!(text.contains(&kind), "{kind}");
    }
    for (number, said) in [(1, "the number is 123456789"), (2, "only an auditor reads this")] {
        assert!(text.contains(&hex(said.as_bytes())), "what {number} restores");
    }
    for never in ["nobody reads this", "this part is withheld"] {
        assert!(!text.contains(never) && !text.contains(&hex(never.as_bytes())), "{never}");
    }
    let first = fs::read(folder("v1/segments/00000000.seg")).unwrap();
    assert_eq!(fs::read(folder("v2_behind_v1/segments/00000000.seg")).unwrap(), first);
}
