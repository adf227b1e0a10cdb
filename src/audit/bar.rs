//! Progress on a terminal for work that takes longer than a second; nothing in a pipe.

use std::any::Any;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::record::disk::Files;
use crate::record::entry::EntryView;
use crate::record::note::{Checkpoint, Note};
use crate::record::scan::{Gatherer, Left, Place, Sink};

/// Work shorter than this shows nothing.
const QUIET: Duration = Duration::from_secs(1);

/// Bytes of all files of a record, as far as they can be told.
pub fn total_bytes(files: &dyn Files) -> u64 {
    let names = files.list().unwrap_or_default();
    names.iter().filter_map(|name| files.len(name).ok()).sum()
}

/// A sink with a bar in front of it.
pub struct Watched<'a> {
    sink: &'a mut dyn Sink,
    started: Instant,
    total_bytes: u64,
    done_bytes: u64,
    terminal: bool,
    bar: Option<ProgressBar>,
}

impl<'a> Watched<'a> {
    /// Watches what goes into `sink`.
    pub fn new(total_bytes: u64, sink: &'a mut dyn Sink) -> Watched<'a> {
        let terminal = stderr().is_terminal();
        Watched { sink, started: Instant::now(), total_bytes, done_bytes: 0, terminal, bar: None }
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Sink for Watched<'_> {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        self.sink.entry(place, entry);
    }

    fn gatherer(&self) -> Option<Gatherer> {
        self.sink.gatherer()
    }

    fn gathered(&mut self, segment: Box<dyn Any + Send>) {
        self.sink.gathered(segment);
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.sink.checkpoint(checkpoint);
    }

    fn cosignatures(&mut self, at: (u32, u64), checkpoint: &Checkpoint, note: &Note<'_>) {
        self.sink.cosignatures(at, checkpoint, note);
    }

    fn left(&mut self, left: &Left) {
        self.total_bytes = self.total_bytes.saturating_sub(left.bytes);
        if let Some(bar) = &self.bar {
            bar.set_length(self.total_bytes);
        }
        self.sink.left(left);
    }

    fn bytes_read(&mut self, bytes: u64) {
        self.done_bytes += bytes;
        self.sink.bytes_read(bytes);
        if self.terminal && self.bar.is_none() && self.started.elapsed() > QUIET {
            let target = ProgressDrawTarget::stderr();
            let style = ProgressStyle::with_template(
                "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            )
            .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(Some(self.total_bytes), target);
            self.bar = Some(bar.with_style(style));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done_bytes);
        }
    }
}
