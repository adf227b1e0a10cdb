//! Views: one message at every level of decoding, and the way back to its bytes.
//!
//! In valid JSON a backslash stands in strings only, so unescaping a whole message needs no parser:
//! view 1 is the message unescaped, view 2 is view 1 unescaped (JSON inside JSON strings), and so on
//! while an escape remains. A view is a copy for looking only; nothing is ever sent from it.
//!
//! ```text
//! build:   raw -> view 1, whole
//! around:  view 1 -> what stands around its escapes, level by level, in one buffer: is anything there?
//! deepen:  view 1 -> view 2 -> …, whole, only when something may be there
//! ```
//!
//! Most messages have a few escapes below the first level that hide nothing: a path, an expression. A
//! match that stands at a deeper level only has an escape in it or near it, so the neighbourhoods
//! of the escapes say whether whole views are worth their time. Both ways see the same.
//!
//! The first level of JSON has its escapes only, exactly. Behind it nobody knows which coding a text is in: all
//! codings that write characters as units ([`super::units`]) are taken off at once, level by level. Each run of
//! base64 or hexadecimal text ([`super::runs`]) is a view of its own, one level up.
//!
//! No map is kept while decoding. When something matched, the few ends are walked back, level by
//! level, over the text below ([`Views::to_raw`]): a start goes to the first byte of the escape or
//! character that produced it, an end to one past the last, so no edit leaves half of either.
//!
//! Bounds: levels (runs may stand at the last one, and hold nothing that is encoded further), views, and bytes of all views together; beyond them the message is refused.

use std::collections::VecDeque;
use std::ops::Range;

use super::runs::{self, Edit, Letters, Window};
use super::simd::{self, Survey};
use super::units::{self, Units};
use super::work::{OverBudget, Work};

/// Between two views: no rule reads across it, because no secret holds it.
const SEPARATOR: &[u8] = b"\n\x00\n";

/// Where the text of a view lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Levels of decoding above the raw bytes; 0 is the raw bytes themselves. For JSON without
    /// escapes the raw bytes serve as level 1.
    pub level: u8,
    /// Where in the buffer, or `None` for the raw bytes.
    at: Option<Range<usize>>,
    made: Made,
}

/// What a view was decoded from, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Made {
    /// The raw bytes, or their escapes of JSON.
    First,
    /// The units of the view with that number.
    Units { below: usize },
    /// A run in the view with that number.
    Run { below: usize, window: Window },
}

/// Bound: views of one message. A list of 16 MiB holds some 50,000 encoded ids, each told once.
const VIEWS_MAX: usize = 1 << 16;

/// A message is more deeply or more widely encoded than the bounds allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewFault {
    /// Escapes remain after the last level.
    TooDeep,
    /// The views are too long together.
    TooLong,
    /// More of its texts are encoded than [`VIEWS_MAX`].
    TooMany,
    /// Reading what is compressed is too much work.
    TooMuchWork(OverBudget),
}

impl From<runs::TooDear> for ViewFault {
    fn from(fault: runs::TooDear) -> ViewFault {
        match fault {
            runs::TooDear::Long => ViewFault::TooLong,
            runs::TooDear::Work(over) => ViewFault::TooMuchWork(over),
        }
    }
}

/// Bound: bytes of a buffer that are kept for the next message.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// Memory for text, used again; what was written once stays, so it is never cleared twice.
#[derive(Debug, Default)]
struct Buffer {
    memory: Vec<u8>,
    used: usize,
}

impl Buffer {
    /// Forgets the message before, and memory that only a long one needs.
    fn begin(&mut self) {
        self.used = 0;
        if self.memory.len() > KEPT_BYTES_MAX {
            self.memory = vec![];
        }
    }

    fn text(&self) -> &[u8] {
        &self.memory[..self.used]
    }

    /// Makes room for what `bytes` unescape to.
    fn reserve(&mut self, bytes: usize) {
        let wanted = self.used + bytes + simd::BLOCK_BYTES + SEPARATOR.len();
        if self.memory.len() < wanted {
            self.memory.resize(wanted, 0);
        }
    }

    /// Appends `from` decoded; the number of units in it.
    fn decode(&mut self, from: &[u8], units: Units) -> usize {
        self.reserve(from.len());
        let to = &mut self.memory[self.used..];
        let done = simd::unescape(from, to, units, |text, out| units.decode(text, out));
        self.used += done.written;
        done.units
    }

    /// The same from the buffer's own text.
    fn decode_within(&mut self, below: Range<usize>, units: Units) -> usize {
        self.reserve(below.len());
        let (from, to) = self.memory.split_at_mut(self.used);
        let done = simd::unescape(&from[below], to, units, |text, out| units.decode(text, out));
        self.used += done.written;
        done.units
    }

    /// Appends the text of a run.
    fn decode_run(&mut self, from: &[u8], code: runs::Code) {
        self.reserve(from.len());
        self.used += runs::decode(from, code, &mut self.memory[self.used..]);
    }

    /// The same from the buffer's own text.
    fn decode_run_within(&mut self, below: Range<usize>, code: runs::Code) {
        self.reserve(below.len());
        let (from, to) = self.memory.split_at_mut(self.used);
        self.used += runs::decode(&from[below], code, to);
    }

    fn append(&mut self, text: &[u8], bytes_max: u64) -> Result<(), ViewFault> {
        fits(self, &(0..text.len()), bytes_max)?;
        self.reserve(text.len());
        self.memory[self.used..self.used + text.len()].copy_from_slice(text);
        self.used += text.len();
        Ok(())
    }

    fn separate(&mut self) {
        self.reserve(0);
        self.memory[self.used..self.used + SEPARATOR.len()].copy_from_slice(SEPARATOR);
        self.used += SEPARATOR.len();
    }
}

/// What stands around some units, or what a run decodes to.
#[derive(Debug, Clone)]
struct Piece {
    level: u8,
    /// Where in `around`.
    at: Range<usize>,
    /// What it was decoded from, when that are units of the first view.
    from: Option<Range<usize>>,
    /// It is what letters of a run decode to, and may be noise.
    run: bool,
}

/// The views of one message, and their memory, which is used again.
#[derive(Debug, Default)]
pub struct Views {
    buffer: Buffer,
    around: Buffer,
    views: Vec<View>,
    pieces: Vec<Piece>,
    /// Where shapes may start in `around`.
    around_marks: Vec<simd::Marks>,
    runs: runs::Scratch,
    windows: Vec<Window>,
    /// Of the first view, and of the text that is looked at behind it.
    first: Survey,
    piece: Survey,
    levels_max: u8,
    bytes_max: u64,
}

impl Views {
    /// No views, no memory.
    pub fn new() -> Views {
        Views::default()
    }

    /// Builds the first view of `raw`. `json` says that the bytes are valid JSON: then it is the unescaped text at level 1;
    /// otherwise the bytes themselves, at level 0.
    pub fn build(
        &mut self,
        raw: &[u8],
        json: bool,
        levels_max: u64,
        bytes_max: u64,
    ) -> Result<(), ViewFault> {
        self.buffer.begin();
        self.around.begin();
        self.runs.begin(Work::of(raw.len()));
        self.views.clear();
        self.levels_max = levels_max.min(u8::MAX as u64) as u8;
        self.bytes_max = bytes_max;
        if !json || memchr::memchr(b'\\', raw).is_none() {
            self.views.push(View { level: u8::from(json), at: None, made: Made::First });
            simd::survey(raw, &mut self.first);
            return Ok(());
        }
        if raw.len() as u64 > bytes_max {
            return Err(ViewFault::TooLong);
        }
        self.buffer.decode(raw, Units::Json);
        simd::survey(self.buffer.text(), &mut self.first);
        self.views.push(View { level: 1, at: Some(0..self.buffer.used), made: Made::First });
        self.buffer.separate();
        Ok(())
    }

    /// What stands at any deeper level within `margin` bytes of a unit, and what runs decode to; empty when there is
    /// nothing. It holds every match up to `margin` bytes long that a deeper view has and the view below it
    /// has not. Fails where something remains to decode behind the last level.
    pub fn around(&mut self, raw: &[u8], margin: usize) -> Result<&[u8], ViewFault> {
        let Views { buffer, around, views, pieces, around_marks, runs, windows, .. } = self;
        let (first, piece) = (&self.first, &mut self.piece);
        let (levels_max, bytes_max) = (&self.levels_max, &self.bytes_max);
        around.used = 0;
        pieces.clear();
        around_marks.clear();
        let Some(&View { level, ref at, .. }) = views.first() else { return Ok(&[]) };
        // The first level lies in the raw bytes or in the buffer of whole views.
        let text = at.as_ref().map_or(raw, |at| &buffer.memory[at.clone()]);
        if level >= *levels_max && units::hides_something(text) {
            return Err(ViewFault::TooDeep);
        }
        let mut from = if level < *levels_max { 0 } else { text.len() };
        while let Some(window) = units_around(text, first, from, margin) {
            from = window.end;
            fits(around, &window, *bytes_max)?;
            let start = around.used;
            around.decode(&text[window.clone()], Units::Any);
            let at = start..around.used;
            pieces.push(Piece { level: level + 1, at, from: Some(window), run: false });
            around.separate();
        }
        windows.clear();
        runs::find(text, &first.runs, runs, *bytes_max, windows)?;
        for window in windows.drain(..) {
            let start = around.used;
            match window.inflated(runs) {
                Some(inflated) => around.append(inflated, *bytes_max)?,
                None => {
                    fits(around, &window.at, *bytes_max)?;
                    around.decode_run(&text[window.at], window.code);
                }
            }
            let at = start..around.used;
            pieces.push(Piece { level: level + 1, at, from: None, run: true });
            around.separate();
        }
        // Each piece by itself: nothing reaches from one into another.
        let mut number = 0;
        while let Some(&Piece { level, at: ref below, run, .. }) = pieces.get(number) {
            let below = below.clone();
            number += 1;
            let text = &around.memory[below.clone()];
            simd::survey(text, piece);
            let moved = |marks: &simd::Marks| simd::Marks { at: below.start + marks.at, ..*marks };
            around_marks.extend(piece.marks.iter().map(moved));
            if level >= *levels_max && hides_units(text, run)
                || level > *levels_max && runs::hides_something(text, &piece.runs, runs, *bytes_max)
            {
                return Err(ViewFault::TooDeep);
            }
            if level > *levels_max {
                continue;
            }
            let mut from = if level < *levels_max { 0 } else { below.len() };
            while let Some(window) =
                units_around(&around.memory[below.clone()], piece, from, margin)
            {
                from = window.end;
                fits(around, &window, *bytes_max)?;
                let start = around.used;
                let at = below.start + window.start..below.start + window.end;
                around.decode_within(at, Units::Any);
                let at = start..around.used;
                pieces.push(Piece { level: level + 1, at, from: None, run: false });
                around.separate();
            }
            windows.clear();
            runs::find(&around.memory[below.clone()], &piece.runs, runs, *bytes_max, windows)?;
            for window in windows.drain(..) {
                let start = around.used;
                match window.inflated(runs) {
                    Some(inflated) => around.append(inflated, *bytes_max)?,
                    None => {
                        fits(around, &window.at, *bytes_max)?;
                        let at = below.start + window.at.start..below.start + window.at.end;
                        around.decode_run_within(at, window.code);
                    }
                }
                let at = start..around.used;
                pieces.push(Piece { level: level + 1, at, from: None, run: true });
                around.separate();
            }
        }
        Ok(around.text())
    }

    /// Builds all deeper views whole.
    pub fn deepen(&mut self, raw: &[u8]) -> Result<(), ViewFault> {
        // Why not counted: engines may differ in whether they look here, and never in what stands around units.
        let counted = std::mem::replace(&mut self.runs.work, Work::again());
        let done = self.deepen_all(raw);
        self.runs.work = counted;
        done
    }

    fn deepen_all(&mut self, raw: &[u8]) -> Result<(), ViewFault> {
        let Views { buffer, views, runs, windows, piece, levels_max, bytes_max, .. } = self;
        // For each view of units to come what was found in the text that it was taken off from.
        let mut told: VecDeque<Vec<Told>> = VecDeque::new();
        let mut number = 0;
        while let Some(View { level, at: below, made }) = views.get(number).cloned() {
            let text = below.as_ref().map_or(raw, |at| &buffer.memory[at.clone()]);
            simd::survey(text, piece);
            if level >= *levels_max {
                let hides = hides_units(text, matches!(made, Made::Run { .. }))
                    || level > *levels_max
                        && runs::hides_something(text, &piece.runs, runs, *bytes_max);
                if hides {
                    return Err(ViewFault::TooDeep);
                }
                if level > *levels_max {
                    number += 1;
                    continue;
                }
            }
            windows.clear();
            runs::find(text, &piece.runs, runs, *bytes_max, windows)?;
            let deeper = level < *levels_max && units::next_of(text, piece, 0).is_some();
            let here = if deeper { told_in(windows) } else { vec![] };
            if let Made::Units { below } = made {
                let under = views[below].at.as_ref().map_or(raw, |at| &buffer.memory[at.clone()]);
                drop_told(windows, under, &told.pop_front().unwrap_or_default());
            }
            if deeper {
                told.push_back(here);
                fits(buffer, &(0..text.len()), *bytes_max)?;
                let start = buffer.used;
                match below.clone() {
                    Some(below) => buffer.decode_within(below, Units::Any),
                    None => buffer.decode(raw, Units::Any),
                };
                let at = Some(start..buffer.used);
                views.push(View { level: level + 1, at, made: Made::Units { below: number } });
                buffer.separate();
            }
            for window in windows.drain(..) {
                let start = buffer.used;
                match (window.inflated(runs), &below) {
                    (Some(inflated), _) => buffer.append(inflated, *bytes_max)?,
                    (None, below) => {
                        fits(buffer, &window.at, *bytes_max)?;
                        match below {
                            Some(below) => {
                                let at = below.start + window.at.start..below.start + window.at.end;
                                buffer.decode_run_within(at, window.code);
                            }
                            None => buffer.decode_run(&raw[window.at.clone()], window.code),
                        }
                    }
                }
                let at = Some(start..buffer.used);
                views.push(View {
                    level: level + 1,
                    at,
                    made: Made::Run { below: number, window },
                });
                buffer.separate();
            }
            if views.len() > VIEWS_MAX {
                return Err(ViewFault::TooMany);
            }
            number += 1;
        }
        Ok(())
    }

    /// What the message has cost, to be added to.
    pub(super) fn work(&mut self) -> &mut Work {
        &mut self.runs.work
    }

    /// Where shapes may start in the first view.
    pub(super) fn marks(&self) -> &[simd::Marks] {
        &self.first.marks
    }

    /// The same in [`Views::around`].
    pub(super) fn marks_around(&self) -> &[simd::Marks] {
        &self.around_marks
    }

    /// What stands around units, as long as nothing else is looked for.
    pub(super) fn text_around(&self) -> &[u8] {
        self.around.text()
    }

    /// Where `span` of the text around units stands in the first view, when it stands there as it is.
    pub(super) fn in_first(&self, raw: &[u8], span: &Range<usize>) -> Option<Range<usize>> {
        let which = self.pieces.partition_point(|piece| piece.at.end < span.end);
        let Piece { at, from, .. } = self.pieces.get(which)?;
        let from = from.as_ref()?;
        let mut below = span.start.checked_sub(at.start)?..span.end - at.start;
        let text = &self.text(raw, 0)[from.clone()];
        step_down(text, Units::Any, std::slice::from_mut(&mut below));
        (below.len() == span.len()).then(|| from.start + below.start..from.start + below.end)
    }

    /// The views, lowest level first.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// Whether some view is what a run decodes to: only there is something rewritten.
    pub(super) fn has_runs(&self) -> bool {
        self.views.iter().any(|view| matches!(view.made, Made::Run { .. }))
    }

    /// Whether what view `number` was decoded from was compressed, at any level.
    pub(super) fn is_compressed(&self, mut number: usize) -> bool {
        loop {
            match &self.views[number].made {
                Made::First => return false,
                Made::Run { window, .. } if window.code == runs::Code::Gzip => return true,
                Made::Run { below, .. } | Made::Units { below } => number = *below,
            }
        }
    }

    /// The text of view `number`.
    pub fn text<'a>(&'a self, raw: &'a [u8], number: usize) -> &'a [u8] {
        match &self.views[number].at {
            None => raw,
            Some(at) => &self.buffer.memory[at.clone()],
        }
    }

    /// All views but the first with their separators: what is scanned in one go.
    pub fn deeper(&self) -> &[u8] {
        &self.buffer.text()[self.deeper_from()..]
    }

    /// Where [`Views::deeper`] begins in the buffer.
    fn deeper_from(&self) -> usize {
        let first = self.views.first().and_then(|view| view.at.as_ref());
        first.map_or(0, |at| at.end)
    }

    /// The view that byte `at` of [`Views::deeper`] stands in, or the first behind it, and where it lies there.
    pub(super) fn at(&self, at: usize) -> Option<(usize, Range<usize>)> {
        let base = self.deeper_from();
        let deeper = self.views.get(1..)?;
        // Views lie one behind the other, each with its end.
        let before = deeper
            .partition_point(|view| view.at.as_ref().is_none_or(|place| place.end <= base + at));
        let place = deeper.get(before)?.at.as_ref()?;
        Some((before + 1, place.start - base..place.end - base))
    }

    /// The text of view `number`, not the first.
    pub(super) fn deeper_text(&self, number: usize) -> &[u8] {
        let at = self.views[number].at.clone().unwrap_or(0..0);
        &self.buffer.memory[at]
    }

    /// Takes spans of views back to spans of the raw bytes, in place; each has the number of its view. Every span is
    /// widened to whole units, letters and characters.
    pub fn to_raw(&self, raw: &[u8], spans: &mut [(usize, Range<usize>)]) {
        // Each view is walked once, for all spans that came down to it: below is always lower.
        let mut pending: Vec<Vec<usize>> = vec![vec![]; self.views.len()];
        for (which, (view, _)) in spans.iter().enumerate() {
            pending[*view].push(which);
        }
        for number in (0..self.views.len()).rev() {
            let mut here = std::mem::take(&mut pending[number]);
            if here.is_empty() {
                continue;
            }
            here.sort_by_key(|&which| spans[which].1.start);
            let mut ranges: Vec<Range<usize>> =
                here.iter().map(|&which| spans[which].1.clone()).collect();
            let below = self.down(raw, number, &mut ranges);
            for (which, range) in here.into_iter().zip(ranges) {
                spans[which].1 = range;
                if let Some(below) = below {
                    pending[below].push(which);
                }
            }
        }
        // Whole characters: an end inside one moves to its end.
        for (_, span) in spans {
            while span.start > 0 && span.start < raw.len() && is_continuation(raw[span.start]) {
                span.start -= 1;
            }
            while span.end < raw.len() && is_continuation(raw[span.end]) {
                span.end += 1;
            }
        }
    }

    /// Takes spans of view `number`, sorted by start, to the view below, which is given; `None` for the raw bytes.
    fn down(&self, raw: &[u8], number: usize, spans: &mut [Range<usize>]) -> Option<usize> {
        match &self.views[number].made {
            Made::First => {
                if self.views[number].at.is_some() {
                    step_down(raw, Units::Json, spans);
                }
                None
            }
            Made::Units { below } => {
                step_down(self.text(raw, *below), Units::Any, spans);
                Some(*below)
            }
            Made::Run { below, window } => {
                let text = &self.text(raw, *below)[window.at.clone()];
                let letters = Letters::new(text, window.code);
                for span in spans.iter_mut() {
                    let at = match window.code {
                        // No byte of what was compressed has letters of its own.
                        runs::Code::Gzip => 0..text.len(),
                        _ => letters.of(span),
                    };
                    *span = window.at.start + at.start..window.at.start + at.end;
                }
                Some(*below)
            }
        }
    }

    /// What must stand where in the raw bytes for spans of views to become other text of the same length, where they stand
    /// in runs: `text` makes it from the number of the hit, the run's own text and the span in it. For each hit (its
    /// view and its span) what is to be written; `None` outside of runs, where a letter of the run is written in a
    /// way that cannot take another one, and where the text is compressed.
    pub(super) fn rewrite(
        &self,
        raw: &[u8],
        hits: &[Option<(usize, Range<usize>)>],
        mut text: impl FnMut(usize, &[u8], Range<usize>) -> Vec<u8>,
    ) -> Vec<Option<Vec<(usize, u8)>>> {
        let mut out = vec![None; hits.len()];
        let mut failed = vec![false; hits.len()];
        let mut pending: Vec<Pending> = vec![Pending::default(); self.views.len()];
        for (hit, place) in hits.iter().enumerate() {
            if let Some((view, span)) = place {
                pending[*view].spans.push((span.clone(), hit));
            }
        }
        for number in (0..self.views.len()).rev() {
            let Pending { mut spans, mut edits } = std::mem::take(&mut pending[number]);
            if spans.is_empty() && edits.is_empty() {
                continue;
            }
            let made = &self.views[number].made;
            match made {
                Made::Run { window, .. } if window.code == runs::Code::Gzip => {
                    edits.iter().for_each(|edit| failed[edit.hit] = true);
                    continue;
                }
                Made::Run { .. } => {
                    let here = self.text(raw, number);
                    for (span, hit) in spans.drain(..) {
                        let new = text(hit, here, span.clone());
                        let edit = |(place, byte)| Edit { place, byte, hit };
                        edits.extend((span.start..).zip(new).map(edit));
                    }
                }
                Made::Units { below } => {
                    spans.sort_by_key(|(span, _)| span.start);
                    let mut ranges: Vec<Range<usize>> =
                        spans.iter().map(|(span, _)| span.clone()).collect();
                    self.down(raw, number, &mut ranges);
                    let hits = spans.into_iter().map(|(_, hit)| hit);
                    pending[*below].spans.extend(ranges.into_iter().zip(hits));
                }
                Made::First => {}
            }
            edits.sort_by_key(|edit| edit.place);
            match made {
                Made::First => {
                    if self.views[number].at.is_some() {
                        edits = rewrite_units(raw, Units::Json, &edits, &mut failed);
                    }
                    for Edit { place, byte, hit } in edits {
                        out[hit].get_or_insert_with(Vec::new).push((place, byte));
                    }
                }
                Made::Units { below } => {
                    let text = self.text(raw, *below);
                    let edits = rewrite_units(text, Units::Any, &edits, &mut failed);
                    pending[*below].edits.extend(edits);
                }
                Made::Run { below, window } => {
                    let text = &self.text(raw, *below)[window.at.clone()];
                    let edits = Letters::new(text, window.code).write(&edits);
                    let at = window.at.start;
                    let moved = |edit: Edit| Edit { place: edit.place + at, ..edit };
                    pending[*below].edits.extend(edits.into_iter().map(moved));
                }
            }
        }
        for (hit, failed) in failed.into_iter().enumerate() {
            if failed {
                out[hit] = None;
            }
        }
        out
    }
}

/// Where a window lies, and its code.
type Told = (usize, usize, runs::Code);

/// All of `windows`, in order.
fn told_in(windows: &[Window]) -> Vec<Told> {
    let told = windows.iter().map(|window| (window.at.start, window.at.end, window.code));
    let mut told: Vec<_> = told.collect();
    told.sort_unstable();
    told
}

/// Leaves out the windows that stand in the text `under` as they are, letter by letter, and were `told` there. Without
/// it every run of a message would be read again at every level, because of one unit anywhere.
fn drop_told(windows: &mut Vec<Window>, under: &[u8], told: &[Told]) {
    if windows.is_empty() || told.is_empty() {
        return;
    }
    windows.sort_by_key(|window| window.at.start);
    let mut spans: Vec<Range<usize>> = windows.iter().map(|window| window.at.clone()).collect();
    step_down(under, Units::Any, &mut spans);
    let mut spans = spans.into_iter();
    windows.retain(|window| {
        let Some(span) = spans.next() else { return true };
        span.len() != window.at.len()
            || told.binary_search(&(span.start, span.end, window.code)).is_err()
    });
}

/// What comes down to a view.
#[derive(Debug, Default, Clone)]
struct Pending {
    /// Hits that stand in no run yet.
    spans: Vec<(Range<usize>, usize)>,
    edits: Vec<Edit>,
}

/// Edits of the decoded text, in order, as edits of `below`: each unit is written anew in its own length. A hit is
/// marked in `failed` where a unit cannot be.
fn rewrite_units(below: &[u8], units: Units, edits: &[Edit], failed: &mut [bool]) -> Vec<Edit> {
    let mut walk = Walk::new(below, units);
    let mut out = vec![];
    for edit in edits {
        let at = walk.unit_around(edit.place);
        match units::rewrite(&below[at.clone()], edit.byte) {
            Some(new) => {
                out.extend(at.zip(new).map(|(place, byte)| Edit { place, byte, hit: edit.hit }));
            }
            None => failed[edit.hit] = true,
        }
    }
    out
}

/// Whether units remain in `text`; noise that a run decodes to has some by chance.
fn hides_units(text: &[u8], run: bool) -> bool {
    units::hides_something(text) && !(run && runs::is_noise(text))
}

fn fits(buffer: &Buffer, more: &Range<usize>, bytes_max: u64) -> Result<(), ViewFault> {
    if (buffer.used + more.len()) as u64 > bytes_max { Err(ViewFault::TooLong) } else { Ok(()) }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// Takes spans of the unescaped text to spans of `below`, one walk for all. Starts ascend; ends need
/// not, so they are walked as a list of their own.
fn step_down(below: &[u8], units: Units, spans: &mut [Range<usize>]) {
    let mut walk = Walk::new(below, units);
    for span in spans.iter_mut() {
        span.start = walk.unit_around(span.start).start;
    }
    let mut ends: Vec<usize> = (0..spans.len()).collect();
    ends.sort_unstable_by_key(|&place| spans[place].end);
    let mut walk = Walk::new(below, units);
    for place in ends {
        let end = spans[place].end;
        spans[place].end = if end == 0 { 0 } else { walk.unit_around(end - 1).end };
    }
}

/// `text` with the units of any coding taken off, once.
pub(super) fn without_units(text: &[u8]) -> Vec<u8> {
    let mut buffer = Buffer::default();
    buffer.decode(text, Units::Any);
    buffer.memory.truncate(buffer.used);
    buffer.memory
}

/// Where the byte at `at` of [`without_units`] of `below` stands there: its unit.
pub(super) fn unit_of(below: &[u8], at: usize) -> Range<usize> {
    Walk::new(below, Units::Any).unit_around(at)
}

struct Walk<'a> {
    below: &'a [u8],
    units: Units,
    /// Place in `below`, and the place in the decoded text that it produces.
    at: usize,
    out: usize,
    /// Where the next unit may begin, at or after `at`.
    next: usize,
    /// What is passed over is decoded into, once something is.
    passed: Vec<u8>,
    /// From which place in the decoded text on it is worth while to pass something over.
    again: usize,
}

/// Bound: bytes that [`Walk::pass_over`] decodes at once, least and most. Fewer are walked as fast.
const PASSED_BYTES: (usize, usize) = (256, 2048);

impl<'a> Walk<'a> {
    fn new(below: &'a [u8], units: Units) -> Walk<'a> {
        let next = units.next_lead(below, 0).unwrap_or(below.len());
        Walk { below, units, at: 0, out: 0, next, passed: vec![], again: 0 }
    }

    /// Goes on towards `target` by many units at once, as long as it is far: what lies between is decoded again, for its
    /// length alone. Nothing becomes longer by decoding, so that as many bytes as are wanted never lead too far.
    fn pass_over(&mut self, target: usize) {
        let (least, most) = PASSED_BYTES;
        while target - self.out >= least {
            let end = self.below.len().min(self.at + (target - self.out).min(most));
            let Some(end) = self.units.outside(self.below, self.at, end) else {
                self.again = self.out + most;
                return;
            };
            self.passed.resize(most + simd::BLOCK_BYTES, 0);
            let (piece, units) = (&self.below[self.at..end], self.units);
            let done =
                simd::unescape(piece, &mut self.passed, units, |text, out| units.decode(text, out));
            (self.at, self.out) = (end, self.out + done.written);
            self.next = self.units.next_lead(self.below, end).unwrap_or(self.below.len());
        }
    }

    /// The bytes below that produce byte `target` of the decoded text. Targets must not descend
    /// below the unit reached last.
    fn unit_around(&mut self, target: usize) -> Range<usize> {
        loop {
            let plain = self.next - self.at;
            if target >= self.out + plain + PASSED_BYTES.0 && self.out >= self.again {
                self.pass_over(target);
            }
            let plain = self.next - self.at;
            if target < self.out + plain {
                let place = self.at + (target - self.out);
                return place..place + 1;
            }
            if self.next >= self.below.len() {
                return self.below.len()..self.below.len();
            }
            let unit = self.units.at(&self.below[self.next..]);
            if target < self.out + plain + unit.out_len {
                return self.next..self.next + unit.len;
            }
            self.out += plain + unit.out_len;
            self.at = self.next + unit.len;
            self.next = self.units.next_lead(self.below, self.at).unwrap_or(self.below.len());
        }
    }
}

/// The next piece of `text` from `from` on in which units stand with `margin` bytes around each.
///
/// It begins and ends outside of any unit: one within the margin of another belongs to the same piece,
/// with its own margin. It begins and ends outside of any run too: letters say nothing before all of them are there.
fn units_around(text: &[u8], survey: &Survey, from: usize, margin: usize) -> Option<Range<usize>> {
    let first = units::next_of(text, survey, from)?;
    let start =
        runs::begin_of(text, &survey.runs, first.start.saturating_sub(margin), from).max(from);
    let mut last = first.end;
    let mut end = runs::end_of(text, &survey.runs, last.saturating_add(margin));
    while let Some(next) = units::next_of(text, survey, last) {
        // Both margins meet.
        if runs::begin_of(text, &survey.runs, next.start.saturating_sub(margin), end) > end {
            break;
        }
        last = next.end;
        if last.saturating_add(margin) > end {
            end = runs::end_of(text, &survey.runs, last.saturating_add(margin));
        }
    }
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(raw: &[u8]) -> Result<Views, ViewFault> {
        let mut views = Views::new();
        views.build(raw, true, 4, 1 << 20)?;
        let hidden = views.around(raw, usize::MAX).map(|_| ());
        views.deepen(raw)?;
        hidden?;
        Ok(views)
    }

    fn nested(text: &str, levels: usize) -> String {
        (0..levels).fold(text.to_string(), |text, _| serde_json::to_string(&text).unwrap())
    }

    #[test]
    fn views_end_when_nothing_is_left_to_decode() {
        assert_eq!(build(b"{\"a\":1}").unwrap().views().len(), 1);
        assert_eq!(build(br#""a\nb""#).unwrap().views().len(), 1);
        assert_eq!(build(br#""a\\nb""#).unwrap().views().len(), 2);
        // A regular expression and a path are no deeper text.
        assert_eq!(build(br#""\\d+ C:\\Users""#).unwrap().views().len(), 1);
    }

    #[test]
    fn more_levels_than_the_bound_are_refused() {
        assert!(build(nested("x\ny", 4).as_bytes()).is_ok());
        assert_eq!(build(nested("x\ny", 5).as_bytes()).err(), Some(ViewFault::TooDeep));
        // A picture made of backslashes hides nothing.
        assert!(build(nested(&"\\".repeat(40), 2).as_bytes()).is_ok());
        let mut views = Views::new();
        assert_eq!(views.build(br#""\n""#, true, 4, 2), Err(ViewFault::TooLong));
    }

    // Four of 400,000 ordinary messages were refused. Mutants: `hides_units` without `is_noise`, and with all as noise.
    #[test]
    fn what_noise_decodes_to_is_no_further_level() {
        use base64::Engine as _;
        let coded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        for backslashes in 0..12 {
            let text = "\\".repeat(backslashes) + "\" 5LGprXHIzP35C0Ze";
            assert!(build(nested(&text, 1).as_bytes()).is_ok(), "{text}");
        }
        let hidden = coded("the key is AKIA%49OSFODNN7EXAMPLE");
        assert!(build(nested(&hidden, 2).as_bytes()).is_ok());
        let deep = "\\".repeat(15) + "n " + &hidden;
        assert_eq!(build(nested(&deep, 1).as_bytes()).err(), Some(ViewFault::TooDeep));
    }

    // 4,000 encoded ids and one `%25252526` were 20,000 views, and 9,000 with an emoji were refused. Mutants: no run is
    // told already; every one is.
    #[test]
    fn a_run_that_stands_the_same_one_level_up_is_told_once() {
        let count = |text: &str| {
            build(serde_json::to_string(text).unwrap().as_bytes()).unwrap().views().len()
        };
        let ids = "/a/YWJjZGVmZ2hpamts ".repeat(500);
        let alone = count(&ids);
        assert!(alone > 500, "{alone}");
        assert_eq!(count(&(ids.clone() + "%41")), alone + 1);
        assert_eq!(count(&(ids.clone() + "%2541")), alone + 2);
        // What a unit stands in is another text.
        let coded = ids.replacen("YWJj", "YW%4aj", 3);
        assert!(count(&coded) > alone, "{} {alone}", count(&coded));
    }

    #[test]
    fn each_byte_of_the_deeper_text_has_its_view() {
        let text = "/a/YWJjZGVmZ2hpamts ".repeat(20) + "%2541 \\n";
        let raw = serde_json::to_string(&text).unwrap();
        let views = build(raw.as_bytes()).unwrap();
        let deeper = views.deeper();
        let mut seen = std::collections::BTreeSet::new();
        for at in 0..deeper.len() {
            let Some((number, place)) = views.at(at) else { continue };
            assert_eq!(&deeper[place.clone()], views.text(raw.as_bytes(), number));
            assert!(at < place.end && (at >= place.start || place.start - at <= SEPARATOR.len()));
            seen.insert(number);
        }
        assert_eq!(
            seen.into_iter().collect::<Vec<_>>(),
            (1..views.views().len()).collect::<Vec<_>>()
        );
    }

    proptest! {
        #[test]
        fn the_first_view_is_what_a_parser_reads(text in any::<String>()) {
            let raw = serde_json::to_string(&text).unwrap();
            let views = build(raw.as_bytes());
            prop_assume!(views.is_ok());
            let views = views.unwrap();
            let seen = views.text(raw.as_bytes(), 0);
            prop_assert_eq!(&seen[1..seen.len() - 1], text.as_bytes());
        }

        // Mutants: a piece ends thirteen bytes further; sequences of terminals are taken to be as short as escapes of JSON.
        #[test]
        fn a_place_far_on_is_found_as_from_unit_to_unit(
            pieces in proptest::collection::vec((0usize..90, proptest::sample::select(vec![
                "\\n", "\\\\", "\\ud83d\\ude00", "\\u0041", "%41", "&amp;", "&#00000065;", "\u{200b}", "\u{e9}",
                "\u{1b}[38;2;255;100;100;48;2;255;100;100m", "\u{1b}[38;2;255;100;100;48;2;255;100;100;00000000001m",
            ])), 20..120),
            any_unit in any::<bool>(),
            targets in proptest::collection::vec(any::<proptest::sample::Index>(), 1..5)
        ) {
            let text: Vec<u8> = pieces
                .iter()
                .flat_map(|(plain, unit)| ["a".repeat(*plain), unit.to_string()].concat().into_bytes())
                .collect();
            let units = if any_unit { Units::Any } else { Units::Json };
            let mut targets: Vec<_> = targets.iter().map(|at| at.index(text.len())).collect();
            targets.sort_unstable();
            let mut walk = Walk::new(&text, units);
            let mut plain = Walk { again: usize::MAX, ..Walk::new(&text, units) };
            for target in targets {
                prop_assert_eq!(walk.unit_around(target), plain.unit_around(target));
            }
            prop_assert!(plain.passed.is_empty());
        }

        // Mutant: `unit_around(span.end)` instead of the byte before the end.
        #[test]
        fn a_place_found_at_any_level_goes_back_to_the_bytes_it_came_from(
            before in "[a-z\\n\"é😀/]{0,8}", after in "[a-z\\n\"é😀/]{0,8}", levels in 1usize..=3, spell in any::<bool>()
        ) {
            let mut raw = nested(&format!("{before}TOKEN{after}"), levels);
            if spell {
                let escape = nested("\\u0054", levels - 1);
                raw = raw.replace('T', &escape[levels.min(2) - 1..escape.len() + 1 - levels.min(2)]);
            }
            let views = build(raw.as_bytes());
            prop_assume!(views.is_ok());
            let views = views.unwrap();
            for number in 0..views.views().len() {
                let text = views.text(raw.as_bytes(), number);
                if let Some(at) = memchr::memmem::find(text, b"TOKEN") {
                    let mut spans = [(number, at..at + 5)];
                    views.to_raw(raw.as_bytes(), &mut spans);
                    let spans = spans.map(|(_, span)| span);
                    let mut edited = raw.clone().into_bytes();
                    let length = spans[0].len();
                    edited.splice(spans[0].clone(), vec![b'*'; length]);
                    // Still valid at every level, and the rest is untouched.
                    let mut value = String::from_utf8(edited).unwrap();
                    for _ in 0..levels {
                        value = serde_json::from_str(&value).unwrap();
                    }
                    prop_assert_eq!(value, format!("{before}{}{after}", "*".repeat(length)));
                }
            }
        }
    }
}
