//! Any sequence of entries survives writing and reading, however the file is cut into reads; and the
//! golden segments of every released version read as they always did.

mod record_support;

use std::io::{self, Read};
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use record_support::{Maker, MemoryDisk, Step, key};
use serde_json::{Value, json};
use stenograph::audit::show::entry_json;
use stenograph::record::disk::{Directory, Files};
use stenograph::record::entry::EntryView;
use stenograph::record::reader::{Checks, Reading, read};
use stenograph::record::scan::{Place, Sink};
use stenograph::record::{Entry, Kind, Part, PartKind};
use stenograph::types::{ExchangeId, Now, SessionId};

/// Files whose reads give a few bytes at a time.
struct Dribble<'a> {
    disk: &'a MemoryDisk,
    bytes_max: usize,
}

struct DribbleRead {
    input: Box<dyn Read>,
    bytes_max: usize,
}

impl Read for DribbleRead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let want = out.len().min(self.bytes_max);
        self.input.read(&mut out[..want])
    }
}

impl Files for Dribble<'_> {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        self.disk.len(name)
    }

    fn open_at(&self, name: &str, offset: u64) -> io::Result<Box<dyn Read>> {
        let input = self.disk.open_at(name, offset)?;
        Ok(Box::new(DribbleRead { input, bytes_max: self.bytes_max }))
    }

    fn is_live(&self) -> bool {
        false
    }

    fn list_keys(&self) -> io::Result<Vec<String>> {
        self.disk.list_keys()
    }

    fn read_key(&self, name: &str) -> io::Result<Vec<u8>> {
        self.disk.read_key(name)
    }
}

/// Everything of an entry that is written.
type Told = (u8, Option<ExchangeId>, Option<SessionId>, u32, u16, Now, Vec<(u8, Vec<u8>)>);

fn told(entry: &Entry) -> Told {
    let parts = entry.parts.iter().map(|part| (part.kind as u8, part.bytes.to_vec())).collect();
    let Entry { kind, exchange, session, ordinal, status, now, .. } = entry;
    (*kind as u8, *exchange, *session, *ordinal, *status, *now, parts)
}

#[derive(Default)]
struct Tells {
    told: Vec<Told>,
}

impl Sink for Tells {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        assert!(place.sound && place.start < place.end);
        assert_eq!(entry.sequence, self.told.len() as u64);
        let parts = entry.parts.iter();
        let parts = parts.map(|part| (part.kind_number, part.bytes.unwrap().to_vec())).collect();
        self.told.push((
            entry.kind_number,
            entry.exchange,
            entry.session,
            entry.ordinal,
            entry.status,
            entry.now,
            parts,
        ));
    }
}

fn any_part() -> impl Strategy<Value = Part> {
    let bytes = prop_oneof![
        4 => vec(any::<u8>(), 0..200),
        2 => "[a-z ]{0,400}".prop_map(String::into_bytes),
        // Looks like a mark.
        1 => Just([b"M".as_slice(), &[7; 32]].concat()),
        1 => (0..300_000usize).prop_map(|len| {
            let mut state = len as u32;
            std::iter::repeat_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .take(len)
            .collect()
        }),
        1 => (0..300_000usize).prop_map(|len| vec![b'E'; len]),
    ];
    (0..PartKind::ALL.len(), bytes)
        .prop_map(|(kind, bytes)| Part { kind: PartKind::ALL[kind], bytes: bytes.into() })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let ids = (any::<Option<u64>>(), any::<Option<[u8; 10]>>());
    let numbers = (any::<u32>(), any::<u16>(), any::<u64>(), any::<u64>());
    // A rotation has a form and a place of its own.
    let kinds: Vec<Kind> =
        Kind::ALL.iter().copied().filter(|kind| *kind != Kind::Rotation).collect();
    (select(kinds), ids, numbers, vec(any_part(), 0..=6)).prop_map(
        |(kind, (exchange, session), (ordinal, status, utc_ns, mono_ns), parts)| {
            let mut entry = Entry::new(kind, Now { utc_ns, mono_ns });
            entry.exchange = exchange.map(|bits| ExchangeId::new(bits, 3, bits as u32, bits));
            entry.session = session.map(SessionId::from_bytes);
            entry.ordinal = ordinal;
            entry.status = status;
            entry.parts = parts;
            entry
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_entries_survives(
        segments in vec(vec((vec(any_entry(), 1..6), any::<bool>()), 0..5), 1..4),
        frame_bytes_max in prop_oneof![Just(1u64), Just(1000), Just(256 * 1024)],
        bytes_max in prop_oneof![Just(1usize), 2..5000usize, Just(usize::MAX)],
        sealed_last in any::<bool>(),
    ) {
        let mut maker = Maker { frame_bytes_max, ..Maker::default() };
        let mut expected = Vec::new();
        let last = segments.len() - 1;
        for (index, flushes) in segments.into_iter().enumerate() {
            let mut steps = Vec::new();
            for (entries, signed) in flushes {
                expected.extend(entries.iter().map(told));
                steps.push(Step::Flush(entries));
                if signed {
                    steps.push(Step::Checkpoint);
                }
            }
            if index < last || sealed_last {
                steps.push(Step::Seal);
            }
            maker.segment(steps);
        }
        let disk = MemoryDisk::with(maker.files);
        let key = key();
        let checks = Checks { key: Some(key.verifier()), commitments: true };
        let mut tells = Tells::default();
        // Why: one byte at a time through a large file proves no more than through a small one.
        let small = disk.image().values().map(Vec::len).sum::<usize>() < 100_000;
        let bytes_max = if small { bytes_max } else { bytes_max.max(4096) };
        let reading = read(&Dribble { disk: &disk, bytes_max }, checks, &mut tells).unwrap();
        prop_assert!(reading.is_consistent(), "{:?}", reading.damage);
        prop_assert_eq!(tells.told.len(), expected.len());
        prop_assert!(tells.told == expected);
        prop_assert_eq!(reading.tree.unwrap(), maker.tree);
    }
}

fn golden_directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/segment/v1")
}

#[derive(Default)]
struct Objects {
    objects: Vec<Value>,
}

impl Sink for Objects {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        let mut object = entry_json(place, entry);
        let hex: String = entry.header.iter().map(|byte| format!("{byte:02x}")).collect();
        object["header"] = json!(hex);
        self.objects.push(object);
    }
}

fn golden_expected() -> (Reading, Value) {
    let key = key();
    let checks = Checks { key: Some(key.verifier()), commitments: true };
    let mut objects = Objects::default();
    let reading = read(&Directory::new(golden_directory()), checks, &mut objects).unwrap();
    let root = reading.tree.as_ref().unwrap().root();
    let expected = json!({
        "key": key.verifier().to_string(),
        "checkpoints": reading.checkpoints,
        "unsigned_entries": reading.unsigned_entries,
        "root": root.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "entries": objects.objects,
    });
    (reading, expected)
}

// The files stay as they are for ever; nothing writes them.
#[test]
fn golden_segments_of_version_1_read_as_they_always_did() {
    let directory = golden_directory();
    let (reading, seen) = golden_expected();
    assert!(reading.is_consistent(), "{:?}", reading.damage);
    let text = std::fs::read_to_string(directory.join("expected.json")).unwrap();
    assert_eq!(seen, serde_json::from_str::<Value>(&text).unwrap());
}
