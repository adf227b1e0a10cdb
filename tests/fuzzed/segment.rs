//! Reading a record: whatever stands in its files, what counts as intact is what was signed.

use std::io::{self, Read};
use std::sync::LazyLock;

use stenograph::record::disk::Files;
use stenograph::record::entry::EntryView;
use stenograph::record::keys::VerifierKey;
use stenograph::record::reader::{Checks, Reading, read};
use stenograph::record::scan::{Place, Sink};

use super::parts;
use super::record_support::{Image, MemoryDisk};

/// A record of the vectors, and what stands in it.
struct Golden {
    files: Image,
    key: VerifierKey,
    entries: Vec<Entry>,
}

/// Header and parts of one entry.
type Entry = (Vec<u8>, Vec<Option<Vec<u8>>>);

#[derive(Default)]
struct Keep(Vec<Entry>);

impl Sink for Keep {
    fn entry(&mut self, _place: &Place, entry: &EntryView<'_>) {
        let parts = entry.parts.iter().map(|part| part.bytes.map(<[u8]>::to_vec)).collect();
        self.0.push((entry.header.to_vec(), parts));
    }
}

macro_rules! golden {
    ($folder:literal: $($number:literal)*) => {{
        let files = [$((
            concat!($number, ".seg"),
            &include_bytes!(concat!("../vectors/segment/", $folder, "/segments/", $number, ".seg"))[..],
        )),*];
        Golden::new(&files, include_str!(concat!("../vectors/segment/", $folder, "/log.pub")))
    }};
}

static GOLDEN: LazyLock<[Golden; 3]> = LazyLock::new(|| {
    [
        golden!("v1": "00000000" "00000001"),
        golden!("v2": "00000000" "00000001" "00000002" "00000003"),
        golden!("v2_behind_v1": "00000000" "00000001"),
    ]
});

impl Golden {
    fn new(files: &[(&str, &[u8])], key: &str) -> Golden {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()));
        let key = VerifierKey::parse(key.trim()).expect("a verifier key");
        let mut golden = Golden { files: files.collect(), key, entries: Vec::new() };
        let (reading, entries) = golden.read(&MemoryDisk::with(golden.files.clone())).unwrap();
        assert!(reading.is_consistent() && !entries.is_empty(), "{:?}", reading.damage);
        golden.entries = entries;
        golden
    }

    fn read(&self, files: &dyn Files) -> io::Result<(Reading, Vec<Entry>)> {
        let mut keep = Keep::default();
        let reading = read(files, Checks { key: Some(&self.key), commitments: true }, &mut keep)?;
        Ok((reading, keep.0))
    }
}

/// The files, read in pieces of chosen sizes.
struct Cut {
    files: MemoryDisk,
    sizes: Vec<usize>,
}

struct CutRead(Box<dyn Read>, std::iter::Cycle<std::vec::IntoIter<usize>>);

impl Read for CutRead {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let most = self.1.next().unwrap_or(usize::MAX).min(room.len());
        self.0.read(&mut room[..most])
    }
}

impl Files for Cut {
    fn list(&self) -> io::Result<Vec<String>> {
        self.files.list()
    }
    fn len(&self, name: &str) -> io::Result<u64> {
        self.files.len(name)
    }
    fn open_at(&self, name: &str, offset: u64) -> io::Result<Box<dyn Read>> {
        let sizes = self.sizes.clone().into_iter().cycle();
        Ok(Box::new(CutRead(self.files.open_at(name, offset)?, sizes)))
    }
    fn is_live(&self) -> bool {
        false
    }
    fn list_keys(&self) -> io::Result<Vec<String>> {
        self.files.list_keys()
    }
    fn read_key(&self, name: &str) -> io::Result<Vec<u8>> {
        self.files.read_key(name)
    }
}

/// One change of the files: kind, file, place (two bytes), value, more.
fn change(files: &mut Image, how: &[u8]) {
    let &[kind, file, high, low, value] = how else { return };
    let names: Vec<String> = files.keys().cloned().collect();
    let (Some(name), Some(other)) = (
        names.get(usize::from(file) % names.len().max(1)),
        names.get(usize::from(value) % names.len().max(1)),
    ) else {
        return;
    };
    let bytes = files.get_mut(name).expect("it is listed");
    let at = usize::from(u16::from_be_bytes([high, low])) % (bytes.len() + 1);
    let end = (at + usize::from(value)).min(bytes.len());
    match kind % 9 {
        0 => bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << (value % 8)),
        1 => bytes.get_mut(at).into_iter().for_each(|byte| *byte = value),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => bytes.insert(at, value),
        5 => {
            let again = bytes[at..end].to_vec();
            bytes.extend_from_slice(&again);
        }
        6 => {
            let tail = bytes.split_off(at);
            files.insert("00000007.seg".to_owned(), tail);
        }
        7 => drop(files.remove(name)),
        _ => {
            let copy = bytes.clone();
            files.insert(other.clone(), copy);
        }
    }
}

/// Inputs that begin with a letter `a`, `b` or `c` change a golden record, five bytes for each change;
/// in others the bytes are the first file of a record. Mutant: neither chain nor commitments are compared.
pub fn run(input: &[u8]) {
    let (data, sizes) = parts(input);
    let (golden, files) = match data.split_first() {
        Some((letter @ b'a'..=b'c', changes)) => {
            let golden = &GOLDEN[usize::from(letter - b'a')];
            let mut files = golden.files.clone();
            changes.chunks(5).for_each(|how| change(&mut files, how));
            (golden, files)
        }
        _ => (&GOLDEN[0], Image::from([("00000000.seg".to_owned(), data.to_vec())])),
    };
    let untouched = files == golden.files;
    let disk = MemoryDisk::with(files);
    let whole = golden.read(&disk);
    let cut = golden.read(&Cut { files: disk, sizes });
    let shown = |read: &io::Result<(Reading, Vec<Entry>)>| match read {
        Ok((reading, entries)) => format!("{reading:?} {entries:?}"),
        Err(fault) => fault.to_string(),
    };
    assert_eq!(shown(&whole), shown(&cut), "cuts change what is read");
    let Ok((reading, entries)) = whole else { return };
    assert!(!untouched || reading.is_consistent(), "{:?}", reading.damage);
    assert_eq!(reading.entries, entries.len() as u64);
    if reading.is_consistent() {
        let signed = entries.len() - reading.unsigned_entries as usize;
        assert!(signed <= golden.entries.len(), "more is intact than was written");
        assert_eq!(entries[..signed], golden.entries[..signed], "intact, and not what was written");
    }
}
