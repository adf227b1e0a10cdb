//! What the record says beside payload: bodies that are not kept, and what the start entry holds.

mod record_support;

use std::sync::{Arc, Mutex};

use record_support::{Maker, MemoryDisk, Step, random, request};
use stenograph::record::entry::{EntryView, SALT_BYTES};
use stenograph::record::reader::{Checks, read};
use stenograph::record::scan::{Place, Sink};
use stenograph::record::segment::Random;
use stenograph::record::{Keep, PartKind};

/// Lengths of bodies, and their bytes where they are there.
#[derive(Default)]
struct Bodies(Vec<(u32, Option<Vec<u8>>)>);

impl Sink for Bodies {
    fn entry(&mut self, _place: &Place, entry: &EntryView<'_>) {
        for part in entry.parts.iter().filter(|part| part.kind_number == PartKind::Body as u8) {
            self.0.push((part.length, part.bytes.map(<[u8]>::to_vec)));
        }
        assert!(entry.part(PartKind::Subject).is_some(), "who called is always kept");
    }
}

// Mutants: the salt of the body written in front of its presence byte; `Keep::stores` true for bodies.
#[test]
fn a_body_that_is_not_kept_leaves_a_length_and_a_commitment_that_nobody_can_try() {
    let drawn: Arc<Mutex<Vec<u8>>> = Arc::default();
    let (source, kept) = (random(), drawn.clone());
    let random: Random = Arc::new(move |bytes| {
        source(bytes);
        kept.lock().unwrap().extend_from_slice(bytes);
    });
    let mut maker = Maker { random, ..Maker::default() };
    let mut heads = request(1, b"078-05-1120");
    heads.keep = Keep::Heads;
    maker.segment(vec![Step::Flush(vec![heads, request(2, b"kept as it is")]), Step::Seal]);

    let disk = MemoryDisk::with(maker.files.clone());
    let mut bodies = Bodies::default();
    let reading = read(&disk, Checks { key: None, commitments: true }, &mut bodies).unwrap();
    assert!(reading.is_consistent(), "{:?}", reading.damage);
    assert_eq!(bodies.0, [(11, None), (13, Some(b"kept as it is".to_vec()))]);

    // The four salts in the order of the parts: that of the body which is not kept is nowhere.
    let plain = zstd::decode_all(&maker.files["00000000.seg"][..]).unwrap();
    let holds = |bytes: &[u8]| plain.windows(bytes.len()).any(|window| window == bytes);
    let drawn = drawn.lock().unwrap();
    let salts: Vec<bool> = drawn.chunks(SALT_BYTES).take(4).map(holds).collect();
    assert_eq!(salts, [true, false, true, true]);
    assert!(!holds(b"078-05-1120"));
}
