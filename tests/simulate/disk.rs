//! The disk of the simulator: the one in memory that fails as told, and beside it what would be left of
//! it after a power cut.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use stenograph::record::disk::{Disk, Files};

use super::dice::Dice;
use super::record_support::{Image, MemoryDisk};

/// What was forced out.
#[derive(Default)]
struct Forced {
    open: String,
    /// Bytes of each file, by its name now.
    bytes: BTreeMap<String, usize>,
    /// Names, each with the name that its file has now.
    names: BTreeSet<String>,
    /// Files whose sync failed.
    given_up: BTreeSet<String>,
    keys: Image,
    /// Key files that were forced out and whose names were not.
    keys_nameless: Image,
    key_written: String,
}

/// Shared by the writer and the simulator.
#[derive(Clone, Default)]
pub struct SimDisk {
    pub memory: MemoryDisk,
    forced: Arc<Mutex<Forced>>,
}

impl SimDisk {
    /// A disk that holds these files, all of them forced out.
    pub fn with(files: Image, keys: Image) -> SimDisk {
        let disk = SimDisk { memory: MemoryDisk::with(files.clone()), ..SimDisk::default() };
        disk.memory.set_keys(keys.clone());
        {
            let mut forced = disk.forced.lock().unwrap();
            forced.bytes = files.iter().map(|(name, file)| (name.clone(), file.len())).collect();
            forced.names = files.into_keys().collect();
            forced.keys = keys;
        }
        disk
    }

    /// What is certain to be there after a power cut at this moment.
    pub fn forced(&self) -> Image {
        let forced = self.forced.lock().unwrap();
        let mut image = self.memory.image();
        image.retain(|name, _| forced.names.contains(name));
        for (name, file) in &mut image {
            file.truncate(forced.bytes.get(name).copied().unwrap_or(0));
        }
        image
    }

    /// What is there after a power cut at this moment: of what was not forced out, some.
    pub fn after_power_cut(&self, dice: &mut Dice) -> (Image, Image) {
        let forced = self.forced.lock().unwrap();
        let mut image = self.memory.image();
        image.retain(|name, _| forced.names.contains(name) || dice.once_in(2));
        for (name, file) in &mut image {
            let sure = forced.bytes.get(name).copied().unwrap_or(0);
            // Gap: what a file held behind its last good sync when a later one failed may be lost with the
            // power. The segment behind it says that it was there, so `verify` calls it damage, which no
            // run here expects.
            if forced.given_up.contains(name) {
                continue;
            }
            let loose = file.len() - sure;
            match dice.below(3) {
                0 => file.truncate(sure),
                1 => file.truncate(sure + dice.below(loose + 1)),
                // The length was forced out, the blocks were not.
                _ => file[sure..].fill(0),
            }
        }
        (image, forced.keys.clone())
    }
}

impl Files for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.memory.list()
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        self.memory.len(name)
    }

    fn open_at(&self, name: &str, offset: u64) -> io::Result<Box<dyn Read>> {
        self.memory.open_at(name, offset)
    }

    fn is_live(&self) -> bool {
        false
    }

    fn list_keys(&self) -> io::Result<Vec<String>> {
        self.memory.list_keys()
    }

    fn read_key(&self, name: &str) -> io::Result<Vec<u8>> {
        self.memory.read_key(name)
    }
}

impl Disk for SimDisk {
    fn create(&mut self, name: &str) -> io::Result<()> {
        let result = self.memory.create(name);
        let mut forced = self.forced.lock().unwrap();
        forced.bytes.remove(name);
        forced.given_up.remove(name);
        forced.open = name.to_owned();
        result
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.memory.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        let synced = self.memory.sync();
        let mut forced = self.forced.lock().unwrap();
        let open = forced.open.clone();
        if synced.is_err() {
            forced.given_up.insert(open);
            return synced;
        }
        let length = self.memory.image().get(&open).map_or(0, Vec::len);
        forced.bytes.insert(open, length);
        Ok(())
    }

    fn sync_closed(&mut self, name: &str) -> io::Result<()> {
        let synced = self.memory.sync_closed(name);
        if synced.is_err() {
            self.forced.lock().unwrap().given_up.insert(name.to_owned());
            return synced;
        }
        let length = self.memory.image().get(name).map_or(0, Vec::len);
        self.forced.lock().unwrap().bytes.insert(name.to_owned(), length);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let result = self.memory.rename(from, to);
        if self.memory.image().contains_key(to) {
            let mut forced = self.forced.lock().unwrap();
            if let Some(bytes) = forced.bytes.remove(from) {
                forced.bytes.insert(to.to_owned(), bytes);
            }
            forced.names.remove(from);
            if forced.given_up.remove(from) {
                forced.given_up.insert(to.to_owned());
            }
            if forced.open == from {
                forced.open = to.to_owned();
            }
        }
        result
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.memory.sync_names()?;
        self.forced.lock().unwrap().names = self.memory.image().into_keys().collect();
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.memory.remove(name)
    }

    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        self.memory.reserve(bytes)
    }

    fn free_reserve(&mut self) -> io::Result<()> {
        self.memory.free_reserve()
    }

    fn write_key(&mut self, name: &str, bytes: &[u8]) -> io::Result<usize> {
        self.forced.lock().unwrap().key_written = name.to_owned();
        self.memory.write_key(name, bytes)
    }

    fn sync_key(&mut self) -> io::Result<()> {
        self.memory.sync_key()?;
        let mut forced = self.forced.lock().unwrap();
        let name = forced.key_written.clone();
        if let Some(file) = self.memory.keys().remove(&name) {
            forced.keys_nameless.insert(name, file);
        }
        Ok(())
    }

    fn rename_key(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.memory.rename_key(from, to)?;
        let mut forced = self.forced.lock().unwrap();
        if let Some(file) = forced.keys_nameless.remove(from) {
            forced.keys_nameless.insert(to.to_owned(), file);
        }
        Ok(())
    }

    fn sync_key_names(&mut self) -> io::Result<()> {
        self.memory.sync_key_names()?;
        let mut forced = self.forced.lock().unwrap();
        let named = std::mem::take(&mut forced.keys_nameless);
        forced.keys.extend(named);
        Ok(())
    }
}
