//! Several threads read a record as one does: the same reading, the same damage, in the same order.

mod record_support;

use std::any::Any;
use std::num::NonZeroUsize;

use record_support::{Image, Maker, MemoryDisk, Step, key, request};
use stenograph::record::entry::EntryView;
use stenograph::record::note::Checkpoint;
use stenograph::record::reader::{Checks, read_parallel};
use stenograph::record::scan::{Gather, Gatherer, Place, Sink};
use stenograph::record::{Entry, Kind};
use stenograph::types::Now;

/// Writes down the start and stop entries.
#[derive(Default)]
struct Entries(Vec<String>);

impl Gather for Entries {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        if matches!(entry.kind(), Some(Kind::Start | Kind::Stop)) {
            self.0.push(format!("{place:?} {entry:?}"));
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

/// Writes down what it gets.
#[derive(Default)]
struct Heard {
    entries: Entries,
    lines: Vec<String>,
    bytes: u64,
}

impl Sink for Heard {
    fn gatherer(&self) -> Option<Gatherer> {
        Some(|| Box::<Entries>::default())
    }

    fn gathered(&mut self, segment: Box<dyn Any + Send>) {
        self.entries.0.extend(segment.downcast::<Entries>().unwrap().0);
    }

    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        self.entries.entry(place, entry);
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.lines.push(format!("{checkpoint:?}"));
    }

    fn bytes_read(&mut self, bytes: u64) {
        self.bytes += bytes;
    }
}

/// Seven sealed segments and one that was killed.
fn image() -> Image {
    let mut maker = Maker::default();
    for number in 0..7 {
        maker.segment(vec![
            Step::Flush(vec![Entry::new(Kind::Start, Now::default()), request(number, b"one")]),
            Step::Checkpoint,
            Step::Flush(vec![Entry::new(Kind::Stop, Now::default())]),
            Step::Seal,
        ]);
    }
    maker.segment(vec![Step::Flush(vec![request(9, b"nine")])]);
    maker.files
}

fn hear(image: &Image, threads: usize) -> (String, Heard) {
    let disk = MemoryDisk::with(image.clone());
    let key = key();
    let checks = Checks { key: Some(key.verifier()), commitments: true };
    let threads = NonZeroUsize::new(threads).unwrap();
    let mut heard = Heard::default();
    let reading = read_parallel(&disk, checks, &[0, 3, 8, 99], threads, &mut heard).unwrap();
    (format!("{reading:?}"), heard)
}

// Mutant: segments put together as they finish.
#[test]
fn several_threads_say_what_one_says() {
    let sound = image();
    let mut images = vec![sound.clone()];
    let names: Vec<String> = sound.keys().cloned().collect();
    for (at, name) in names.iter().enumerate() {
        for step in 0..40 {
            let mut damaged = sound.clone();
            let file = damaged.get_mut(name).unwrap();
            let byte = (step * 97 + at * 13) % file.len();
            file[byte] ^= 1 << (step % 8);
            images.push(damaged);
        }
        let mut cut = sound.clone();
        let file = cut.get_mut(name).unwrap();
        file.truncate(file.len() / 2);
        images.push(cut);
        let mut less = sound.clone();
        less.remove(name);
        images.push(less);
    }
    for image in &images {
        let (expected, alone) = hear(image, 1);
        for threads in [2, 3, 16] {
            let (reading, heard) = hear(image, threads);
            assert_eq!(reading, expected);
            assert_eq!(heard.lines, alone.lines);
            assert_eq!(heard.entries.0, alone.entries.0);
            assert_eq!(heard.bytes, alone.bytes);
        }
    }
}
