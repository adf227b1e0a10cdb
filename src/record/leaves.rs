//! The leaves of a record, read again from its files: for a witness whose tree has a size that nobody
//! holds a range for. Streaming, in bounded memory; chain and signatures are for `verify`.

use std::io;

use super::disk::Files;
use super::entry::EntryView;
use super::format::{segment_name, segment_number};
use super::header::PreviousEnd;
use super::reader::read_header;
use super::scan::{Place, Sink, Task, scan};
use super::tree::{Range, leaf_hash};

struct Leaves {
    old: Range,
    new: Range,
    size: u64,
}

impl Sink for Leaves {
    fn entry(&mut self, _place: &Place, entry: &EntryView<'_>) {
        let in_old = self.old.end() < self.new.begin();
        let range = if in_old { &mut self.old } else { &mut self.new };
        if entry.sequence == range.end() && entry.sequence < self.size {
            range.append(leaf_hash(&entry.header));
        }
    }
}

/// The ranges `0..middle` and `middle..size`. Segments before the one that holds `middle` are not read:
/// its header says what the tree was there.
pub fn ranges(files: &dyn Files, middle: u64, size: u64) -> io::Result<(Range, Range)> {
    let short = || {
        let what = format!("the record cannot be read from entry 0 to {size}; run verify");
        io::Error::new(io::ErrorKind::InvalidData, what)
    };
    if middle > size {
        return Err(short());
    }
    let names = files.list()?;
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let mut leaves = Leaves { old: Range::new(0), new: Range::new(middle), size };
    let mut first = 0;
    for (place, &number) in numbers.iter().enumerate().rev() {
        let (header, _) = read_header(files, number)?;
        if header.tree.size() <= middle {
            leaves.old = Range::of(&header.tree);
            first = place;
            break;
        }
    }
    for (place, &segment) in numbers.iter().enumerate().skip(first) {
        if leaves.new.end() >= size && leaves.old.end() == middle {
            break;
        }
        let name = segment_name(segment);
        let mut length = files.len(&name)?;
        if let Some(&follower) = numbers.get(place + 1) {
            let previous = read_header(files, follower)?.0.previous;
            if matches!(previous.end, PreviousEnd::Torn | PreviousEnd::Damaged) {
                length = length.min(previous.kept_bytes);
            }
        }
        let mut input = files.open_at(&name, 0)?;
        let task =
            Task { segment, length, key: None, key_sure: true, roots_at: &[], commitments: false };
        scan(&task, &mut *input, &mut leaves)?;
    }
    match (leaves.old.end(), leaves.new.end()) {
        (old, new) if old == middle && new == size => Ok((leaves.old, leaves.new)),
        _ => Err(short()),
    }
}
