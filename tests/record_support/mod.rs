//! A disk in memory for the tests of the record: it fails, stalls and remembers as told.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use stenograph::limits::Limits;
use stenograph::record::age::{Identity, Recipient};
use stenograph::record::cosign::WitnessKey;
use stenograph::record::disk::{Disk, Files};
use stenograph::record::entry::EntryView;
use stenograph::record::header::{Header, Previous, PreviousEnd};
use stenograph::record::key_files::seal_key_entry;
use stenograph::record::keys::LogKey;
use stenograph::record::reader::{Checks, Reading, read};
use stenograph::record::rotation::Rotation;
use stenograph::record::scan::{Place, Sink};
use stenograph::record::seal::DataKey;
use stenograph::record::segment::{Builder, Random};
use stenograph::record::tree::Tree;
use stenograph::record::writer::Settings;
use stenograph::record::{Entry, Keep, Kind, PartKind};
use stenograph::types::{ExchangeId, Now, SessionId};
use zeroize::Zeroizing;

pub type Image = BTreeMap<String, Vec<u8>>;

/// How a call fails. Where a way means nothing for a call (only appends can be short), it is EIO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Eio,
    Enospc,
    Edquot,
    Erofs,
    /// Takes none of the bytes and says so.
    ShortNone,
    /// Takes one byte and says so.
    ShortOne,
    /// Takes half of the bytes and says so.
    Short,
    /// Takes all but one and says so.
    ShortByOne,
    /// Takes half of the bytes and fails.
    HalfThenEio,
    /// Does everything it was asked for and fails.
    DoneThenEio,
}

impl How {
    pub const ALL: [How; 10] = [
        How::Eio,
        How::Enospc,
        How::Edquot,
        How::Erofs,
        How::ShortNone,
        How::ShortOne,
        How::Short,
        How::ShortByOne,
        How::HalfThenEio,
        How::DoneThenEio,
    ];

    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            How::Enospc => 28,
            How::Edquot => 122,
            How::Erofs => 30,
            _ => 5,
        })
    }

    /// What an append of so many bytes takes, and whether it says so.
    fn takes(self, bytes: usize) -> (usize, bool) {
        match self {
            How::Eio | How::Enospc | How::Edquot | How::Erofs => (0, false),
            How::ShortNone => (0, true),
            How::ShortOne => (1.min(bytes - 1), true),
            How::Short => (bytes / 2, true),
            How::ShortByOne => (bytes - 1, true),
            How::HalfThenEio => (bytes / 2, false),
            How::DoneThenEio => (bytes, false),
        }
    }
}

/// The end of a call: what it gives, or how it fails.
fn ended<T>(how: Option<How>, value: T) -> io::Result<T> {
    how.map_or(Ok(value), |how| Err(how.error()))
}

#[derive(Default)]
struct Inner {
    files: Image,
    keys: Image,
    open: Option<String>,
    /// The names were asked for since the last file was created: somebody starts.
    listed: bool,
    calls: u64,
    names: Vec<&'static str>,
    /// Calls with these numbers fail.
    fail: Option<(std::ops::Range<u64>, How)>,
    /// The next call of this name fails.
    fail_next: Option<(&'static str, How)>,
    stalled: bool,
    given_up: Vec<u64>,
    synced_after_failure: bool,
    /// Bytes of all files and of the reserve that there is room for.
    capacity: Option<u64>,
    reserve: u64,
    /// One number for each file created, however it is called: as an inode.
    inode: u64,
}

impl Inner {
    fn room(&self) -> u64 {
        let files = self.files.values().chain(self.keys.values());
        let used = files.map(|file| file.len() as u64).sum::<u64>() + self.reserve;
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used))
    }
}

#[derive(Clone, Default)]
pub struct MemoryDisk {
    inner: Arc<(Mutex<Inner>, Condvar)>,
}

impl MemoryDisk {
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    pub fn with(files: Image) -> MemoryDisk {
        let disk = MemoryDisk::new();
        disk.lock().files = files;
        disk
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.0.lock().unwrap()
    }

    /// What a kill at this moment would leave.
    pub fn image(&self) -> Image {
        self.lock().files.clone()
    }

    /// The key files.
    pub fn keys(&self) -> Image {
        self.lock().keys.clone()
    }

    /// Puts other key files in their place.
    pub fn set_keys(&self, keys: Image) {
        self.lock().keys = keys;
    }

    pub fn fail(&self, calls: std::ops::Range<u64>, how: How) {
        self.lock().fail = Some((calls, how));
    }

    /// The next call of this name fails.
    pub fn fail_next(&self, call: &'static str, how: How) {
        self.lock().fail_next = Some((call, how));
    }

    /// No call fails any more.
    pub fn heal(&self) {
        self.lock().fail = None;
    }

    /// From now on there is room for so many bytes, the reserve included.
    pub fn capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Bytes of the reserve.
    pub fn reserved(&self) -> u64 {
        self.lock().reserve
    }

    pub fn stall(&self, stalled: bool) {
        self.lock().stalled = stalled;
        self.inner.1.notify_all();
    }

    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    pub fn call_names(&self) -> Vec<&'static str> {
        self.lock().names.clone()
    }

    /// A file was synced after a failed sync of the same file.
    pub fn synced_after_failure(&self) -> bool {
        self.lock().synced_after_failure
    }

    fn call(&self, name: &'static str) -> (MutexGuard<'_, Inner>, Option<How>) {
        let mut inner = self.lock();
        while inner.stalled {
            inner = self.inner.1.wait(inner).unwrap();
        }
        let number = inner.calls;
        inner.calls += 1;
        inner.names.push(name);
        let how = match (&inner.fail, &inner.fail_next) {
            (Some((calls, how)), _) if calls.contains(&number) => Some(*how),
            (_, Some((next, how))) if *next == name => Some(*how),
            _ => None,
        };
        inner.fail_next.take_if(|(next, _)| *next == name);
        (inner, how)
    }
}

impl Files for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let (mut inner, how) = self.call("list");
        inner.listed = true;
        ended(how, inner.files.keys().cloned().collect())
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        let (inner, how) = self.call("len");
        ended(how, inner.files.get(name).ok_or(io::ErrorKind::NotFound)?.len() as u64)
    }

    fn open_at(&self, name: &str, offset: u64) -> io::Result<Box<dyn Read>> {
        let (inner, how) = self.call("open");
        let file = inner.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        ended(how, Box::new(Cursor::new(file[offset as usize..].to_vec())))
    }

    fn is_live(&self) -> bool {
        false
    }

    fn list_keys(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().keys.keys().cloned().collect())
    }

    fn read_key(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(self.lock().keys.get(name).ok_or(io::ErrorKind::NotFound)?.clone())
    }
}

impl Disk for MemoryDisk {
    fn create(&mut self, name: &str) -> io::Result<()> {
        let (mut inner, how) = self.call("create");
        inner.open = None;
        inner.listed = false;
        if how.is_some_and(|how| how != How::DoneThenEio) {
            return ended(how, ());
        }
        inner.files.remove(name);
        if inner.room() == 0 {
            return ended(Some(How::Enospc), ());
        }
        inner.files.insert(name.to_owned(), Vec::new());
        inner.inode += 1;
        ended(how, ())?;
        inner.open = Some(name.to_owned());
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (mut inner, how) = self.call("append");
        let name = inner.open.clone().expect("a file is open");
        let room = inner.room();
        let (taken, said) = match how {
            // As tmpfs and ext4 do it: what has room is taken.
            None if room == 0 => return ended(Some(How::Enospc), 0),
            None => (bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX)), true),
            Some(how) => how.takes(bytes.len()),
        };
        let file = inner.files.get_mut(&name).expect("the open file is there");
        file.extend_from_slice(&bytes[..taken]);
        if said { Ok(taken) } else { ended(how, taken) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let (mut inner, how) = self.call("sync");
        assert!(inner.open.is_some(), "a file is open");
        let inode = inner.inode;
        if inner.given_up.contains(&inode) {
            inner.synced_after_failure = true;
        }
        if how.is_some() {
            inner.given_up.push(inode);
        }
        ended(how, ())
    }

    fn sync_closed(&mut self, name: &str) -> io::Result<()> {
        let (mut inner, how) = self.call("sync_closed");
        assert!(inner.files.contains_key(name), "{name} is there");
        // Another process cannot know what this one was told.
        let same_life = !inner.listed;
        if same_life && inner.open.as_deref() == Some(name) && inner.given_up.contains(&inner.inode)
        {
            inner.synced_after_failure = true;
        }
        ended(how, ())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let (mut inner, how) = self.call("rename");
        if how.is_none_or(|how| how == How::DoneThenEio) {
            let file = inner.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
            inner.files.insert(to.to_owned(), file);
            if inner.open.as_deref() == Some(from) {
                inner.open = Some(to.to_owned());
            }
        }
        ended(how, ())
    }

    fn sync_names(&mut self) -> io::Result<()> {
        let (_inner, how) = self.call("sync_names");
        ended(how, ())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let (mut inner, how) = self.call("remove");
        if how.is_none_or(|how| how == How::DoneThenEio) {
            inner.files.remove(name).ok_or(io::ErrorKind::NotFound)?;
        }
        ended(how, ())
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let (mut inner, how) = self.call("reserve");
        inner.reserve = inner.reserve.min(bytes);
        let more = bytes - inner.reserve;
        let how = how.or((more > inner.room()).then_some(How::Enospc));
        inner.reserve = if how.is_some() { 0 } else { bytes };
        ended(how, ())
    }

    fn free_reserve(&mut self) -> io::Result<()> {
        let (mut inner, how) = self.call("free_reserve");
        if how.is_none_or(|how| how == How::DoneThenEio) {
            inner.reserve = 0;
        }
        ended(how, ())
    }

    fn write_key(&mut self, name: &str, bytes: &[u8]) -> io::Result<usize> {
        let (mut inner, how) = self.call("write_key");
        let how = how.or((inner.room() < bytes.len() as u64).then_some(How::Enospc));
        let (taken, said) = how.map_or((bytes.len(), true), |how| how.takes(bytes.len()));
        inner.keys.insert(name.to_owned(), bytes[..taken].to_vec());
        if said { Ok(taken) } else { ended(how, taken) }
    }

    fn sync_key(&mut self) -> io::Result<()> {
        ended(self.call("sync_key").1, ())
    }

    fn rename_key(&mut self, from: &str, to: &str) -> io::Result<()> {
        let (mut inner, how) = self.call("rename_key");
        if how.is_none_or(|how| how == How::DoneThenEio) {
            let file = inner.keys.remove(from).ok_or(io::ErrorKind::NotFound)?;
            inner.keys.insert(to.to_owned(), file);
        }
        ended(how, ())
    }

    fn sync_key_names(&mut self) -> io::Result<()> {
        ended(self.call("sync_key_names").1, ())
    }
}

pub fn key() -> LogKey {
    LogKey::from_seed("log.example", &[7; 32]).unwrap()
}

/// Bytes that look random and are the same in each run.
pub fn random() -> Random {
    let state = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
    Arc::new(move |bytes| {
        for byte in bytes {
            let mut x = state.load(Ordering::Relaxed);
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            state.store(x, Ordering::Relaxed);
            *byte = (x >> 24) as u8;
        }
    })
}

pub fn settings(recorders: usize, limits: Limits) -> Settings {
    let wakers = (0..recorders).map(|_| Arc::new(|| {}) as stenograph::record::Waker).collect();
    Settings::system(key(), limits, wakers)
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited 30 s for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Keeps what a reader gives.
#[derive(Default)]
pub struct Kept {
    pub entries: Vec<(Place, Vec<u8>, Vec<Vec<u8>>)>,
}

impl Sink for Kept {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        let parts = entry.parts.iter().map(|part| part.bytes.unwrap().to_vec()).collect();
        self.entries.push((*place, entry.header.to_vec(), parts));
    }
}

pub fn read_all(files: &dyn Files) -> io::Result<(Reading, Kept)> {
    let mut kept = Kept::default();
    let key = key();
    let checks = Checks { key: Some(key.verifier()), commitments: true };
    let reading = read(files, checks, &mut kept)?;
    Ok((reading, kept))
}

pub fn request(number: u32, body: &[u8]) -> Entry {
    let mut entry = Entry::new(
        Kind::Request,
        Now { utc_ns: 1_795_000_000_000_000_000 + u64::from(number), mono_ns: u64::from(number) },
    )
    .part(PartKind::Subject, &br#"{"subject":"alice","upstream":"codegen"}"#[..])
    .part(PartKind::Body, Bytes::copy_from_slice(body));
    entry.exchange = Some(ExchangeId::new(1_795_000_000_000_000_000, 0, number, 1));
    entry.session = Some(SessionId::from_bytes([number as u8; 10]));
    entry
}

/// Builds segments by hand, without threads and clocks.
pub struct Maker {
    pub files: Image,
    pub random: Random,
    pub frame_bytes_max: u64,
    pub number: u32,
    pub previous: Previous,
    pub tree: Tree,
    /// Added to the times of checkpoints.
    pub late_ns: u64,
    /// What originals are sealed under; [`Maker::seal_to`] makes one.
    pub data_key: Option<DataKey>,
    pub keys: Image,
    /// Signs from here on.
    pub signer: LogKey,
}

impl Default for Maker {
    fn default() -> Maker {
        Maker {
            files: Image::new(),
            random: random(),
            frame_bytes_max: 256 * 1024,
            number: 0,
            previous: Previous::NONE,
            tree: Tree::new(),
            late_ns: 0,
            data_key: None,
            keys: Image::new(),
            signer: key(),
        }
    }
}

/// One step of a segment made by hand.
pub enum Step {
    Flush(Vec<Entry>),
    Checkpoint,
    /// A note that witnesses cosigned, in front of a checkpoint.
    Cosigned(String),
    /// The last checkpoint of the segment with a witness's cosignature, and a checkpoint behind it.
    Witnessed,
    Seal,
}

/// The key that the log of [`Maker::full_record`] changes to.
pub fn next_key() -> LogKey {
    LogKey::from_seed("log.example", &[17; 32]).unwrap()
}

/// Whom the originals of [`Maker::full_record`] are sealed to.
pub fn auditor() -> Identity {
    Identity::from_seed(&[0xa1; 32])
}

/// Cosigns the checkpoints of [`Maker::full_record`].
pub fn witness() -> WitnessKey {
    WitnessKey::from_seed("w.example", &[5; 32]).unwrap()
}

/// A request in which a part of the body was masked; what stood there is sealed.
fn masked(number: u32) -> Entry {
    let original = Zeroizing::new(format!("secret {number}").into_bytes());
    request(number, format!("****** {number}").as_bytes()).original(PartKind::Original, original)
}

impl Maker {
    /// Makes a data key and its file; gives the entry that has to go before what is sealed from now on.
    pub fn seal_to(&mut self, recipients: &[Recipient]) -> Entry {
        let key = DataKey::generate(&*self.random);
        let file = key.to_file(recipients, &*self.random);
        let entry = seal_key_entry(&key, &file, recipients, None, Now::default());
        self.keys.insert(key.id().file_name(), file);
        self.data_key = Some(key);
        entry
    }

    /// Adds one segment; gives the offsets of its points.
    pub fn segment(&mut self, steps: Vec<Step>) -> Vec<u64> {
        let header = Header {
            origin: "log.example".into(),
            segment: self.number,
            tree: self.tree.clone(),
            created: Now { utc_ns: 1_795_000_000_000_000_000, mono_ns: 5 },
            boot_id: [0xb0; 16],
            previous: self.previous,
        };
        let mut builder =
            Builder::begin(&header, self.frame_bytes_max, self.random.clone()).unwrap();
        let mut file = builder.step().to_vec();
        builder.stored();
        let mut points = vec![file.len() as u64];
        let mut end = PreviousEnd::Torn;
        let utc_ns = 1_795_000_000_000_000_007 + self.late_ns;
        for step in steps {
            match step {
                Step::Flush(entries) => {
                    for entry in entries {
                        builder.entry_sealed(&entry, 0, self.data_key.as_ref()).unwrap();
                    }
                    builder.flush().unwrap();
                }
                Step::Checkpoint => builder.checkpoint(&self.signer, utc_ns).unwrap(),
                Step::Cosigned(note) => {
                    builder.cosignatures(&note).unwrap();
                    builder.checkpoint(&self.signer, utc_ns).unwrap();
                }
                Step::Witnessed => {
                    let (note, ..) = builder.signed().expect("a checkpoint was signed").clone();
                    let (text, _) = note.split_once("\n\n").expect("a signed note");
                    let line = witness().cosign(&format!("{text}\n"), 1_795_000_001);
                    builder.cosignatures(&format!("{note}{line}")).unwrap();
                    builder.checkpoint(&self.signer, utc_ns + 1).unwrap();
                }
                Step::Seal => {
                    builder.seal(&self.signer, utc_ns + 2).unwrap();
                    end = PreviousEnd::Sealed;
                }
            }
            file.extend_from_slice(builder.step());
            builder.stored();
            points.push(file.len() as u64);
        }
        let kept = builder.kept();
        assert_eq!(kept.bytes, file.len() as u64);
        self.files.insert(format!("{:08}.seg", self.number), file);
        self.previous = Previous {
            end,
            kept_bytes: kept.bytes,
            residue_bytes: 0,
            residue_digest: [0; 32],
            chain: kept.chain,
        };
        self.tree = kept.tree;
        self.number += 1;
        points
    }

    /// Everything that a record can hold: a cosigned checkpoint, originals sealed under two keys, a
    /// change of the log's key. Two sealed segments, and one that was killed. Gives each state of the
    /// record as it grew, one for each point.
    pub fn full_record() -> (Maker, Vec<Image>) {
        let mut maker = Maker::default();
        let mut states = Vec::new();
        let start = || Entry::new(Kind::Start, Now::default());
        let first_key = maker.seal_to(&[auditor().recipient().clone()]);
        let mut grow = |maker: &mut Maker, steps: Vec<Step>| {
            let name = format!("{:08}.seg", maker.number);
            for point in maker.segment(steps) {
                let mut state = maker.files.clone();
                state.get_mut(&name).unwrap().truncate(point as usize);
                states.push(state);
            }
        };
        let first = vec![start(), first_key, masked(1)];
        grow(&mut maker, vec![Step::Flush(first), Step::Seal]);
        let (size, root) = (maker.tree.size(), maker.tree.root());
        let rotation = Rotation::sign(&key(), &next_key(), size, root).to_string();
        let rotation = Entry::new(Kind::Rotation, Now::default()).part(PartKind::Detail, rotation);
        maker.signer = next_key();
        let second_key = maker.seal_to(&[auditor().recipient().clone()]);
        let mut sealed = request(3, b"nobody but an auditor reads this");
        sealed.keep = Keep::Sealed;
        grow(
            &mut maker,
            vec![
                Step::Flush(vec![start(), rotation, second_key, masked(2)]),
                Step::Checkpoint,
                Step::Flush(vec![sealed]),
                Step::Witnessed,
                Step::Seal,
            ],
        );
        grow(
            &mut maker,
            vec![Step::Flush(vec![masked(4)]), Step::Checkpoint, Step::Flush(vec![masked(5)])],
        );
        (maker, states)
    }

    /// Two sealed segments and one that was killed.
    pub fn small_record() -> (Image, Vec<u64>) {
        let mut maker = Maker::default();
        maker.segment(vec![
            Step::Flush(vec![Entry::new(Kind::Start, Now::default())]),
            Step::Flush(vec![request(1, b"one"), request(2, b"two two two two two two")]),
            Step::Checkpoint,
            Step::Seal,
        ]);
        maker.segment(vec![Step::Flush(vec![request(3, b"three")]), Step::Seal]);
        let points = maker.segment(vec![
            Step::Flush(vec![request(4, b"four")]),
            Step::Checkpoint,
            Step::Flush(vec![request(5, b"five")]),
            Step::Flush(vec![request(6, &b"six ".repeat(40))]),
        ]);
        (maker.files, points)
    }
}
