//! Runs: base64 and hexadecimal text inside text.
//!
//! Nothing says where such a text begins: `key=QUtJ…` and `/path/QUtJ…` look alike to the alphabet. So
//! every run of letters that is long enough is read at each place where a group may begin, and what
//! counts is whether text comes out: [`PRINTABLE_MIN`] printable bytes in a row. Identifiers, digests,
//! pictures and keys come out as noise and are passed at the price of one group in a few.
//!
//! | code | letters | a group | source |
//! |---|---|---|---|
//! | base64 | `A-Za-z0-9`, `+/` or `-_` | 4 letters, 3 bytes | RFC 4648 §4, §5 |
//! | hexadecimal | `0-9A-Fa-f` | 2 letters, 1 byte | RFC 4648 §8 |
//!
//! Base64 text of a gzip member (RFC 1952) is told by its first bytes and read as the text that was compressed.
//!
//! A run goes on over a line end (RFC 2045 §6.8 folds lines) when the lines are long. Padding ends it. A window
//! begins and ends with whole groups, or with the run.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::simd;
use super::work::{self, OverBudget, Work};

/// Bound: shortest run, in letters.
pub(super) const LETTERS_MIN: usize = 16;
/// Printable bytes in a row that make a window. Noise has nine in a row once in 8,000 groups.
const PRINTABLE_MIN: usize = 9;
/// Printable bytes that no noise has: a run with so many in a row hides something.
const SURELY_MIN: usize = 24;
/// Printable bytes in a row that noise does not have: once in five million places.
const NOISE_MAX: usize = 16;
/// Groups of noise between two windows that become one.
const JOIN_GROUPS: usize = 8;

/// How letters become bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Code {
    /// Both alphabets.
    Base64,
    /// Both cases.
    Hex,
    /// Base64 of gzip members (RFC 1952).
    Gzip,
}

/// A piece of text that decodes to text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    /// Its first letter, and one past its last.
    pub(super) at: Range<usize>,
    pub(super) code: Code,
    /// Of [`Code::Gzip`], where the text lies in [`Scratch::inflated`] until the next search.
    text: Range<usize>,
}

impl Window {
    fn new(at: Range<usize>, code: Code) -> Window {
        Window { at, code, text: 0..0 }
    }

    /// What was compressed; `None` for other codes.
    pub(super) fn inflated<'a>(&self, scratch: &'a Scratch) -> Option<&'a [u8]> {
        (self.code == Code::Gzip).then(|| &scratch.inflated[self.text.clone()])
    }
}

/// Why the members of gzip in a text are not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooDear {
    /// They hold more than the bound, or those that break off make their reading long.
    Long,
    /// There are more of them than the message may have.
    Work(OverBudget),
}

impl From<OverBudget> for TooDear {
    fn from(over: OverBudget) -> TooDear {
        TooDear::Work(over)
    }
}

pub(super) const NONE: u8 = 0xff;

pub(super) const BASE64: [u8; 256] = {
    let mut table = [NONE; 256];
    let mut value = 0;
    while value < 26 {
        table[b'A' as usize + value] = value as u8;
        table[b'a' as usize + value] = value as u8 + 26;
        value += 1;
    }
    let mut value = 0;
    while value < 10 {
        table[b'0' as usize + value] = value as u8 + 52;
        value += 1;
    }
    table[b'+' as usize] = 62;
    table[b'-' as usize] = 62;
    table[b'/' as usize] = 63;
    table[b'_' as usize] = 63;
    table
};

pub(super) const HEX: [u8; 256] = {
    let mut table = [NONE; 256];
    let mut value = 0;
    while value < 10 {
        table[b'0' as usize + value] = value as u8;
        value += 1;
    }
    let mut value = 0;
    while value < 6 {
        table[b'a' as usize + value] = value as u8 + 10;
        table[b'A' as usize + value] = value as u8 + 10;
        value += 1;
    }
    table
};

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl Code {
    /// Letters of a group.
    fn letters(self) -> usize {
        match self {
            Code::Base64 | Code::Gzip => 4,
            Code::Hex => 2,
        }
    }

    /// Bytes of a group.
    fn bytes(self) -> usize {
        match self {
            Code::Base64 | Code::Gzip => 3,
            Code::Hex => 1,
        }
    }

    fn value(self, letter: u8) -> u8 {
        match self {
            Code::Base64 | Code::Gzip => BASE64[letter as usize],
            Code::Hex => HEX[letter as usize],
        }
    }

    /// Whether all bytes of the group at the front of `letters` are printable.
    fn is_text(self, letters: &[u8]) -> bool {
        match (self, letters) {
            (Code::Base64 | Code::Gzip, &[a, b, c, d, ..]) => {
                let group = group_of(a, b, c, d);
                is_printable((group >> 16) as u8)
                    && is_printable((group >> 8) as u8)
                    && is_printable(group as u8)
            }
            (Code::Hex, &[high, low, ..]) => {
                is_printable(HEX[high as usize] << 4 | HEX[low as usize])
            }
            _ => false,
        }
    }
}

/// Four letters of base64 as 24 bits; what is no letter shows in the bits above them.
fn group_of(a: u8, b: u8, c: u8, d: u8) -> u32 {
    let value = |letter: u8| u32::from(BASE64[letter as usize]);
    let strange = (value(a) | value(b) | value(c) | value(d)) >> 6;
    strange << 24 | value(a) << 18 | value(b) << 12 | value(c) << 6 | value(d)
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r')
}

pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Memory of [`find`].
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The letters of a folded run, and where each stands.
    letters: Vec<u8>,
    places: Vec<usize>,
    /// What the members of gzip in the text hold.
    inflated: Vec<u8>,
    /// What the message has cost so far.
    pub(super) work: Work,
}

impl Scratch {
    /// Begins a message that may cost `work`. Forgets memory that only a long one needs.
    pub(super) fn begin(&mut self, work: Work) {
        self.work = work;
        if self.inflated.capacity() > 4 << 20 {
            self.inflated = vec![];
        }
    }
}

/// Appends the windows of `text` to `out`, in no order. `runs` are its runs of letters ([`simd::Survey`]).
///
/// # Errors
/// Its members of gzip hold more than `bytes_max` bytes, or are more work than the message may be.
pub(super) fn find(
    text: &[u8],
    runs: &[Range<usize>],
    scratch: &mut Scratch,
    bytes_max: u64,
    out: &mut Vec<Window>,
) -> Result<(), TooDear> {
    encoded(text, runs, scratch, out);
    compressed(text, runs, scratch, bytes_max, out)
}

/// Windows of base64 and hexadecimal letters.
fn encoded(text: &[u8], runs: &[Range<usize>], scratch: &mut Scratch, out: &mut Vec<Window>) {
    let Scratch { letters, places, .. } = scratch;
    let mut at = 0;
    while at < runs.len() {
        let first = runs[at].clone();
        let mut last = at;
        // A line goes on when it is folded: nothing but a line end and blanks in between.
        while let Some(next) = runs.get(last + 1) {
            if !is_fold(&text[runs[last].end..next.start]) {
                break;
            }
            last += 1;
        }
        // The last line may be short.
        let end = runs[last].end;
        let tail = short_line(&text[end..]);
        if last == at && tail.is_empty() {
            in_letters(&text[first.clone()], |window| {
                let at = first.start + window.at.start..first.start + window.at.end;
                out.push(Window::new(at, window.code));
            });
        } else {
            letters.clear();
            places.clear();
            for place in (first.start..end).chain(end + tail.start..end + tail.end) {
                if !is_blank(text[place]) {
                    letters.push(text[place]);
                    places.push(place);
                }
            }
            in_letters(letters, |window| {
                let at = places[window.at.start]..places[window.at.end - 1] + 1;
                out.push(Window::new(at, window.code));
            });
        }
        at = last + 1;
    }
}

/// What base64 text begins with when the bytes begin with 1f 8b 08 (RFC 1952 §2.3.1: gzip, deflate).
const GZIP: &[u8] = b"H4sI";
/// Bound: letters that are read for members of gzip, for each letter of the text, and beside that. Each begins where the
/// one before it is over, unless that one broke off.
const MEMBER_LETTERS_MAX: (usize, usize) = (4, 64 << 10);

/// Letters whose reading takes as long as to begin a member: what one that breaks off costs beside its own.
const BROKEN_LETTERS: usize = 256;

/// Windows of letters that decode to members of gzip. They go on over blanks wherever these stand, but for blanks behind
/// the very first letter where fewer than [`LETTERS_MIN`] letters follow them in a row.
fn compressed(
    text: &[u8],
    runs: &[Range<usize>],
    scratch: &mut Scratch,
    bytes_max: u64,
    out: &mut Vec<Window>,
) -> Result<(), TooDear> {
    let Scratch { inflated, work, .. } = scratch;
    static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(&GZIP[..2]));
    inflated.clear();
    let mut room = text.len() * MEMBER_LETTERS_MAX.0 + MEMBER_LETTERS_MAX.1;
    let mut inflater = None;
    let mut from = 0;
    // Where the first letter stands by itself, a run begins behind it.
    let before =
        |run: &Range<usize>| Some(gzip_before(text, run.start)).filter(|at| *at < run.start);
    let mut apart = runs.iter().filter_map(before).peekable();
    let mut whole = FINDER.find(text);
    loop {
        while apart.next_if(|at| *at < from).is_some() {}
        if whole.is_some_and(|at| at < from) {
            whole = FINDER.find(&text[from..]).map(|on| from + on);
        }
        let at = match (whole, apart.peek()) {
            (Some(whole), Some(apart)) => whole.min(*apart),
            (Some(at), None) | (None, Some(&at)) => at,
            (None, None) => return Ok(()),
        };
        let Some(length) = gzip_at(&text[at..]) else {
            from = at + 1;
            continue;
        };
        let start = inflated.len();
        let member = member(&text[at..], &mut inflater, inflated, bytes_max, work)?;
        let broken = if member.whole { 0 } else { BROKEN_LETTERS };
        room = room.checked_sub(member.letters + broken).ok_or(TooDear::Long)?;
        if inflated.len() > start {
            let end = at + member.letters;
            out.push(Window { at: at..end, code: Code::Gzip, text: start..inflated.len() });
        }
        // Behind one that breaks off, what looks like a part of it may be the one that is meant.
        // Those before it are read: begun anew at each of them, a row whose end is cut off would be read for each.
        from = at + member.wholes.max(length);
    }
}

/// Bytes that the letters of [`GZIP`] take at the start of `text`, with the blanks between them.
fn gzip_at(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    for (number, letter) in GZIP.iter().enumerate() {
        while number > 0 && is_blank(*text.get(at)?) {
            at += 1;
        }
        if text.get(at) != Some(letter) {
            return None;
        }
        at += 1;
    }
    Some(at)
}

/// Where [`GZIP`] begins when it goes on at `at` behind blanks; else `at`.
fn gzip_before(text: &[u8], at: usize) -> usize {
    let number = GZIP.iter().position(|letter| text.get(at) == Some(letter)).unwrap_or(0);
    let mut begin = at;
    for letter in GZIP[..number].iter().rev() {
        let last = text[..begin].iter().rposition(|byte| !is_blank(*byte));
        match last {
            Some(last) if text[last] == *letter => begin = last,
            _ => return at,
        }
    }
    if gzip_at(&text[begin..]).is_some() { begin } else { at }
}

/// What base64 text of gzip holds, where `letters` begin like it; inside, `None` where they are not such members to
/// their last letter, hold more than `bytes_max` bytes, or hold more in a header than names of files.
pub(super) fn inflated(letters: &[u8], bytes_max: u64) -> Option<Option<Vec<u8>>> {
    gzip_at(letters)?;
    let mut text = vec![];
    let whole = member(letters, &mut None, &mut text, bytes_max, &mut Work::of(letters.len()))
        .is_ok_and(|member| member.whole && !member.hides && member.letters == letters.len());
    Some(whole.then_some(text))
}

/// Of one member after the other.
type Inflater<'a> = flate2::bufread::GzDecoder<LettersReader<'a>>;

struct Member {
    /// How much of the text was read, up to the last letter of what is whole.
    letters: usize,
    /// How much of it members take that are whole.
    wholes: usize,
    whole: bool,
    /// A header holds what is neither looked into nor a short text.
    hides: bool,
}

/// Bound: bytes in the header of a member beside its text: the name of the file that was compressed, seldom more.
const HEADER_BYTES_MAX: usize = 64;

/// Whether the optional fields of a header (RFC 1952 §2.3.1) are more than a short text.
fn hides(header: &flate2::GzHeader) -> bool {
    let fields =
        [header.extra(), header.filename(), header.comment()].map(Option::unwrap_or_default);
    let is_text = |field: &[u8]| {
        std::str::from_utf8(field).is_ok_and(|text| !text.contains(char::is_control))
    };
    fields.iter().map(|field| field.len()).sum::<usize>() > HEADER_BYTES_MAX
        || !fields.iter().all(|field| is_text(field))
}

/// Reads the members of gzip that begin with `text`, as far as they go. Zeros may stand between them, as readers of
/// such files let them. `inflater` is used again: to make one costs more than to read a short member.
fn member<'a>(
    text: &'a [u8],
    inflater: &mut Option<Inflater<'a>>,
    out: &mut Vec<u8>,
    bytes_max: u64,
    work: &mut Work,
) -> Result<Member, TooDear> {
    use std::io::{BufRead as _, Read as _};
    let mut reader = LettersReader::new(text);
    let mut piece = [0; 4 << 10];
    let mut read = Member { letters: 0, wholes: 0, whole: false, hides: false };
    loop {
        work.add(1, work::MEMBER)?;
        let before = out.len();
        let one = match inflater {
            Some(one) => {
                one.reset(reader);
                one
            }
            None => inflater.insert(Inflater::new(reader)),
        };
        let whole = loop {
            match one.read(&mut piece) {
                Ok(0) => break true,
                Ok(length) => out.extend_from_slice(&piece[..length]),
                Err(_) => break false,
            }
            if out.len() as u64 > bytes_max {
                return Err(TooDear::Long);
            }
        };
        let hides = read.hides || one.header().is_some_and(hides);
        reader = std::mem::replace(one.get_mut(), LettersReader::new(b""));
        // What begins like a further member and holds nothing is none.
        if read.letters == 0 || whole || out.len() > before {
            let letters = reader.letters();
            let wholes = if whole { letters } else { read.wholes };
            read = Member { letters, wholes, whole, hides };
        }
        while whole && reader.fill_buf().is_ok_and(|held| held.first() == Some(&0)) {
            reader.consume(1);
        }
        if !whole || !reader.fill_buf().is_ok_and(|held| held.first() == Some(&0x1f)) {
            return Ok(read);
        }
    }
}

/// Bytes that a reader of letters holds. Why so few: they are cleared and moved for each member.
const HELD_BYTES: usize = 192;

/// Reads the bytes of base64 letters, over blanks, until something else stands there.
struct LettersReader<'a> {
    text: &'a [u8],
    /// Where the bytes that are not taken yet begin, and their ends in the text, one for each byte.
    at: usize,
    bytes: [u8; HELD_BYTES],
    ends: [u32; HELD_BYTES],
    taken: usize,
    held: usize,
}

impl<'a> LettersReader<'a> {
    fn new(text: &'a [u8]) -> LettersReader<'a> {
        let (bytes, ends) = ([0; HELD_BYTES], [0; HELD_BYTES]);
        LettersReader { text, at: 0, bytes, ends, taken: 0, held: 0 }
    }

    /// One past the last letter of what was taken.
    fn letters(&self) -> usize {
        self.taken.checked_sub(1).map_or(0, |last| self.ends[last] as usize)
    }

    fn refill(&mut self) {
        let last = self.taken.checked_sub(1).map(|last| (self.bytes[last], self.ends[last]));
        (self.taken, self.held) = (0, 0);
        // Kept for `letters`, when nothing follows.
        if let Some((byte, end)) = last {
            (self.bytes[0], self.ends[0]) = (byte, end);
            (self.taken, self.held) = (1, 1);
        }
        let mut bits = 0u32;
        let mut count = 0;
        let mut at = self.at;
        while self.held < self.bytes.len() {
            let Some(&byte) = self.text.get(at) else { break };
            at += 1;
            if is_blank(byte) {
                continue;
            }
            let value = BASE64[byte as usize];
            if value == NONE {
                break;
            }
            bits = bits << 6 | u32::from(value);
            count += 6;
            if count >= 8 {
                count -= 8;
                self.bytes[self.held] = (bits >> count) as u8;
                self.ends[self.held] = at as u32;
                self.held += 1;
                if count == 0 {
                    self.at = at;
                    // Whole groups only: the next filling begins with one.
                    if self.held + 3 > self.bytes.len() {
                        break;
                    }
                }
            }
        }
        if self.held + 3 <= self.bytes.len() {
            // Nothing more comes.
            self.at = self.text.len();
        }
    }
}

impl std::io::BufRead for LettersReader<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.taken == self.held && self.at < self.text.len() {
            self.refill();
        }
        Ok(&self.bytes[self.taken..self.held])
    }

    fn consume(&mut self, amount: usize) {
        self.taken += amount;
    }
}

impl std::io::Read for LettersReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        use std::io::BufRead as _;
        let held = self.fill_buf()?;
        let length = held.len().min(out.len());
        out[..length].copy_from_slice(&held[..length]);
        self.consume(length);
        Ok(length)
    }
}

/// Where what stands at `at` begins: the first of the runs that reach there, folded or whole; else `at` itself. Nobody asks
/// what stands before `from`: it is looked at no further, so that asking again and again costs one walk.
pub(super) fn begin_of(text: &[u8], runs: &[Range<usize>], at: usize, from: usize) -> usize {
    let mut begin = at;
    let mut rest = runs.partition_point(|run| run.start < at);
    while let Some(run) = rest.checked_sub(1).map(|before| &runs[before]) {
        if begin <= from || run.end < begin && !is_fold(&text[run.end..begin]) {
            break;
        }
        begin = run.start;
        rest -= 1;
    }
    if begin > from { gzip_before(text, begin) } else { begin }
}

/// Where what stands at `at` ends: the last of the runs that begin there, folded or whole, with the short line behind
/// it; else `at` itself, at most the end of the text.
pub(super) fn end_of(text: &[u8], runs: &[Range<usize>], at: usize) -> usize {
    let at = at.min(text.len());
    let mut end = at;
    for run in &runs[runs.partition_point(|run| run.end < at)..] {
        if run.start > end && !is_fold(&text[end..run.start]) {
            break;
        }
        end = run.end;
    }
    let in_run =
        runs.get(runs.partition_point(|run| run.end < end)).is_some_and(|run| run.end == end);
    if in_run { end + short_line(&text[end..]).end } else { end }
}

fn is_fold(between: &[u8]) -> bool {
    between.len() <= 16
        && is_blank(between[0])
        && between.contains(&b'\n')
        && between.iter().all(|&byte| is_blank(byte))
}

/// The letters of a short line that continues a run; empty when there is none.
fn short_line(rest: &[u8]) -> Range<usize> {
    if !rest.first().is_some_and(|byte| is_blank(*byte)) {
        return 0..0;
    }
    let blanks = rest.iter().take(16).take_while(|byte| is_blank(**byte)).count();
    if !rest[..blanks].contains(&b'\n') {
        return 0..0;
    }
    let letters = rest[blanks..].iter().take_while(|byte| BASE64[**byte as usize] != NONE).count();
    blanks..blanks + letters
}

/// Windows of a run without blanks. Noise, nearly all runs, costs one pass: only where text may end is looked closer.
fn in_letters(letters: &[u8], mut found: impl FnMut(Window)) {
    let mut open: [Option<Range<usize>>; 4] = [const { None }; 4];
    let mut hex_over = 0;
    simd::text_ends(letters, |at| {
        in_base64(letters, at, &mut open, &mut found);
        if at >= hex_over {
            hex_over = in_hex(letters, at, &mut found).max(hex_over);
        }
    });
    for (phase, open) in open.into_iter().enumerate() {
        if let Some(open) = open {
            tell(letters, &open, phase, Code::Base64, &mut found);
        }
    }
}

/// Groups of text in a row that make a window.
fn groups_min(code: Code) -> usize {
    PRINTABLE_MIN.div_ceil(code.bytes())
}

/// Opens a window, or makes one longer, when the third letter of a group that ends text stands at `at`.
fn in_base64(
    letters: &[u8],
    at: usize,
    open: &mut [Option<Range<usize>>; 4],
    found: &mut impl FnMut(Window),
) {
    let code = Code::Base64;
    let Some(first) = at.checked_sub(2) else { return };
    let (phase, group) = (first % code.letters(), first / code.letters());
    let groups = (letters.len() - phase) / code.letters();
    let is_text = |group: usize| code.is_text(&letters[phase + group * code.letters()..]);
    let least = open[phase].as_ref().map_or(0, |open| open.end);
    if group < least || group >= groups || group + 1 < groups_min(code) || !is_text(group) {
        return;
    }
    let start = (least..group).rev().take_while(|&group| is_text(group)).last().unwrap_or(group);
    if group + 1 - start < groups_min(code) {
        return;
    }
    let end = (group + 1..groups).take_while(|&group| is_text(group)).last().unwrap_or(group) + 1;
    open[phase] = match open[phase].take() {
        Some(open) if start <= open.end + JOIN_GROUPS => Some(open.start..end),
        Some(open) => {
            tell(letters, &open, phase, code, found);
            Some(start..end)
        }
        None => Some(start..end),
    };
}

/// Windows of the hexadecimal letters around `at` when they are text up to there; one past the last of them.
fn in_hex(letters: &[u8], at: usize, found: &mut impl FnMut(Window)) -> usize {
    let code = Code::Hex;
    let is_text =
        |pair: &[u8]| pair.iter().all(|letter| HEX[*letter as usize] != NONE) && code.is_text(pair);
    let Some(from) = (at + 1).checked_sub(groups_min(code) * code.letters()) else { return 0 };
    if !letters[from..=at].chunks_exact(code.letters()).all(is_text) {
        return 0;
    }
    let is_hex = |letter: &&u8| HEX[**letter as usize] != NONE;
    let start = from - letters[..from].iter().rev().take_while(is_hex).count();
    let end = at + letters[at..].iter().take_while(is_hex).count();
    for phase in 0..code.letters() {
        in_phase(&letters[start..end], phase, code, &mut |window: Window| {
            found(Window::new(start + window.at.start..start + window.at.end, window.code));
        });
    }
    end
}

/// Windows of groups that begin `phase` letters behind the start.
fn in_phase(letters: &[u8], phase: usize, code: Code, found: &mut impl FnMut(Window)) {
    let size = code.letters();
    let Some(letters_here) = letters.get(phase..) else { return };
    let groups = letters_here.len() / size;
    let needed = groups_min(code);
    let is_text = |group: usize| code.is_text(&letters_here[group * size..]);
    let mut open: Option<Range<usize>> = None;
    // Every text of `needed` groups has one at a multiple of `needed`.
    let mut group = needed - 1;
    while group < groups {
        if !is_text(group) {
            group += needed;
            continue;
        }
        let least = open.as_ref().map_or(0, |open| open.end);
        let start =
            (least..group).rev().take_while(|&group| is_text(group)).last().unwrap_or(group);
        let end =
            (group + 1..groups).take_while(|&group| is_text(group)).last().unwrap_or(group) + 1;
        if end - start >= needed {
            open = match open {
                Some(open) if start <= open.end + JOIN_GROUPS => Some(open.start..end),
                Some(open) => {
                    tell(letters, &open, phase, code, found);
                    Some(start..end)
                }
                None => Some(start..end),
            };
        }
        group = end.max(group + 1) + needed - 1;
    }
    if let Some(open) = open {
        tell(letters, &open, phase, code, found);
    }
}

/// Groups of text at the front of a window that may be what letters in front of the encoded text decode to by chance:
/// of three in a row one in 8,000 is that.
const GLUED_GROUPS: usize = 2;

/// Tells of the groups `open` of `letters`, with one group more on each side, which may hold the ends of the text.
///
/// What stands in front of base64 text without a sign between (`/srv/x/QUtJ…`) decodes to bytes as well, and where the
/// last of them is a letter or a sign, no word begins behind it for a rule. So the text is told once more from each
/// place where it may have begun, and likewise to where it may have ended.
fn tell(
    letters: &[u8],
    open: &Range<usize>,
    phase: usize,
    code: Code,
    found: &mut impl FnMut(Window),
) {
    let size = code.letters();
    let groups = (letters.len() - phase) / size;
    let core = phase + open.start * size..phase + open.end * size;
    // The last group of a run may be short.
    let end = if open.end + 1 >= groups { letters.len() } else { core.end + size };
    // A single letter of base64 is no byte.
    let end = if (end - phase) % size == 1 { end - 1 } else { end };
    let first = phase + open.start.saturating_sub(1) * size;
    found(Window::new(first..end, code));
    if code != Code::Base64 {
        return;
    }
    let value = |at: usize| BASE64[letters[at] as usize];
    let starts = (0..=GLUED_GROUPS.min(open.len() - 1)).map(|group| core.start + group * size);
    // In front of a text that begins with the run there is nothing.
    let starts = starts.filter(|&start| {
        core.start > 0
            && start > first
            && (value(start - 2) << 6 | value(start - 1)).is_ascii_graphic()
    });
    // A short group is the end of the text.
    let ends = core.end + size <= end
        && (value(core.end) << 2 | value(core.end + 1) >> 4).is_ascii_graphic();
    for start in starts {
        found(Window::new(start..end, code));
        if ends {
            found(Window::new(start..core.end, code));
        }
    }
    if ends {
        found(Window::new(first..core.end, code));
    }
}

/// Decodes the letters of a window's text into `out`, which has room for them; how many bytes.
pub(super) fn decode(text: &[u8], code: Code, out: &mut [u8]) -> usize {
    let (mut bits, mut count, mut written) = (0u32, 0, 0);
    let each = if code == Code::Hex { 4 } else { 6 };
    let mut text = text;
    // Whole groups without a blank, nearly all there is.
    while let (Code::Base64 | Code::Gzip, &[a, b, c, d, ref rest @ ..]) = (code, text) {
        let group = group_of(a, b, c, d);
        if group >> 24 != 0 {
            break;
        }
        out[written..written + 3].copy_from_slice(&group.to_be_bytes()[1..]);
        written += 3;
        text = rest;
    }
    for &letter in text.iter().filter(|byte| !is_blank(**byte)) {
        bits = bits << each | u32::from(code.value(letter)) & ((1 << each) - 1);
        count += each;
        if count >= 8 {
            count -= 8;
            out[written] = (bits >> count) as u8;
            written += 1;
        }
    }
    written
}

/// The letters of a window, by number.
pub(super) struct Letters<'a> {
    text: &'a [u8],
    code: Code,
    /// Where each stands, when lines are folded.
    places: Option<Vec<usize>>,
}

impl<'a> Letters<'a> {
    /// The letters of a window's text.
    pub(super) fn new(text: &'a [u8], code: Code) -> Letters<'a> {
        let places = text
            .iter()
            .any(|byte| is_blank(*byte))
            .then(|| (0..text.len()).filter(|&place| !is_blank(text[place])).collect());
        Letters { text, code, places }
    }

    fn count(&self) -> usize {
        self.places.as_ref().map_or(self.text.len(), Vec::len)
    }

    fn place(&self, number: usize) -> usize {
        self.places.as_ref().map_or(number, |places| places[number])
    }

    fn bits(&self) -> usize {
        if self.code == Code::Hex { 4 } else { 6 }
    }

    /// The numbers of the letters that hold any bit of `bytes`.
    fn numbers_of(&self, bytes: &Range<usize>) -> Range<usize> {
        let last = (bytes.end * 8).div_ceil(self.bits()).min(self.count());
        (bytes.start * 8 / self.bits()).min(last)..last
    }

    /// The range of the text that holds `bytes` of what it decodes to.
    pub(super) fn of(&self, bytes: &Range<usize>) -> Range<usize> {
        let numbers = self.numbers_of(bytes);
        match numbers.is_empty() {
            true => self.text.len()..self.text.len(),
            false => self.place(numbers.start)..self.place(numbers.end - 1) + 1,
        }
    }

    /// What must stand where in the text for each byte (its number in what the text decodes to) to have
    /// its new value. Bits of their neighbours stay.
    pub(super) fn write(&self, bytes: &[Edit]) -> Vec<Edit> {
        let url = self.text.iter().any(|letter| matches!(letter, b'-' | b'_'))
            && !self.text.iter().any(|letter| matches!(letter, b'+' | b'/'));
        let each = self.bits();
        let first = bytes.iter().map(|edit| edit.place).min().unwrap_or(0);
        let last = bytes.iter().map(|edit| edit.place + 1).max().unwrap_or(0);
        let numbers = self.numbers_of(&(first..last.max(first)));
        let mut changed: Vec<u8> =
            numbers.clone().map(|number| self.code.value(self.text[self.place(number)])).collect();
        for edit in bytes {
            for number in self.numbers_of(&(edit.place..edit.place + 1)) {
                let bits = &mut changed[number - numbers.start];
                // How far the byte ends behind the letter, in bits.
                let behind = (edit.place * 8 + 8) as isize - (number * each + each) as isize;
                let here = |byte: u8| match behind {
                    0.. => byte >> behind,
                    _ => byte << -behind & ((1 << each) - 1),
                };
                let mask = here(0xff) & ((1 << each) - 1);
                *bits = *bits & !mask | here(edit.byte) & mask;
            }
        }
        let letter = |old: u8, bits: u8| match self.code {
            Code::Base64 | Code::Gzip if url && bits == 62 => b'-',
            Code::Base64 | Code::Gzip if url && bits == 63 => b'_',
            Code::Base64 | Code::Gzip => STANDARD[bits as usize],
            Code::Hex if old.is_ascii_uppercase() => b"0123456789ABCDEF"[bits as usize],
            Code::Hex => b"0123456789abcdef"[bits as usize],
        };
        let mut out: Vec<Edit> = vec![];
        for edit in bytes {
            // A letter of two bytes that both change holds both, whoever changes them.
            for number in self.numbers_of(&(edit.place..edit.place + 1)) {
                let place = self.place(number);
                let (old, bits) = (self.text[place], changed[number - numbers.start]);
                let new = Edit { place, byte: letter(old, bits), ..*edit };
                if self.code.value(old) != bits && out.last() != Some(&new) {
                    out.push(new);
                }
            }
        }
        out
    }
}

/// A byte that must become another one, for one of several reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) place: usize,
    pub(super) byte: u8,
    /// The number of the hit that asks for it.
    pub(super) hit: usize,
}

/// Whether what a run decodes to is text nowhere.
pub(super) fn is_noise(text: &[u8]) -> bool {
    let mut row = 0;
    !text.iter().any(|&byte| {
        row = if is_printable(byte) { row + 1 } else { 0 };
        row >= NOISE_MAX
    })
}

/// Whether `text` holds a run that surely decodes to text, or too much of what is compressed.
pub(super) fn hides_something(
    text: &[u8],
    runs: &[Range<usize>],
    scratch: &mut Scratch,
    bytes_max: u64,
) -> bool {
    let mut windows = vec![];
    if find(text, runs, scratch, bytes_max, &mut windows).is_err() {
        return true;
    }
    windows.iter().any(|window| {
        if window.code == Code::Gzip {
            return true;
        }
        let size = window.code.letters();
        let groups = SURELY_MIN.div_ceil(window.code.bytes());
        let letters: Vec<u8> =
            text[window.at.clone()].iter().copied().filter(|byte| !is_blank(*byte)).collect();
        let mut row = 0;
        letters.chunks_exact(size).any(|group| {
            row = if window.code.is_text(group) { row + 1 } else { 0 };
            row >= groups
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD as PADDED, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    fn texts(text: &str) -> Vec<String> {
        let (mut scratch, mut windows) = (Scratch::default(), vec![]);
        let mut survey = simd::Survey::default();
        simd::survey(text.as_bytes(), &mut survey);
        find(text.as_bytes(), &survey.runs, &mut scratch, 1 << 20, &mut windows).unwrap();
        windows
            .iter()
            .map(|window| {
                let mut out = vec![0; text.len()];
                let used = decode(&text.as_bytes()[window.at.clone()], window.code, &mut out);
                String::from_utf8_lossy(&out[..used]).into_owned()
            })
            .collect()
    }

    fn folded(text: &str, width: usize) -> String {
        let lines: Vec<String> = text
            .as_bytes()
            .chunks(width)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        lines.join("\r\n")
    }

    #[test]
    fn identifiers_digests_and_prose_are_noise() {
        for text in [
            "getUserAccountSettingsByIdentifier node_modules/typescript/lib/typescript.js",
            "b0ecc1be9f51f7f7c0fa631639aae99aca8f3b30 550e8400-e29b-41d4-a716-446655440000",
            "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
            "the server returned a list of open issues and merged the branch",
        ] {
            assert_eq!(texts(text), Vec::<String>::new(), "{text}");
        }
    }

    proptest! {
        // Mutants: phases 1 to 3 left out; no group more at the ends; the short last group left out;
        // a line end that ends a run.
        #[test]
        fn text_in_a_run_comes_out_whole(
            text in "[ -~]{12,90}", glue in "[a-zA-Z0-9/]{0,7}", noise in proptest::collection::vec(0x80u8.., 0..20),
            url in any::<bool>(), hex in any::<bool>(), width in 20usize..90
        ) {
            let whole = [noise.as_slice(), text.as_bytes(), noise.as_slice()].concat();
            let coded = match (hex, url) {
                (true, _) => whole.iter().map(|byte| format!("{byte:02x}")).collect(),
                (_, true) => URL_SAFE_NO_PAD.encode(&whole),
                _ => PADDED.encode(&whole),
            };
            for shown in [format!("{glue}{coded}"), format!("x = {}", folded(&coded, width)), format!("\"{coded}\"")] {
                let all = texts(&shown);
                prop_assert!(all.iter().any(|seen| seen.contains(&text)), "{shown} {all:?}");
            }
        }

        // Mutant: one phase for all.
        #[test]
        fn windows_are_those_of_every_phase_looked_at_whole(
            pieces in proptest::collection::vec(
                ("[ -~]{0,30}", 0usize..4, proptest::sample::select(vec!["", "/", "x", "0", "abc"])), 0..8
            )
        ) {
            let run: String = pieces.iter().map(|(text, code, end)| match code {
                0 => format!("{}{end}", end.repeat(9)),
                1 => format!("{}{end}", URL_SAFE_NO_PAD.encode(text)),
                2 => format!("{}{end}", PADDED.encode(text.bytes().map(|byte| byte ^ 0x90).collect::<Vec<_>>()).trim_end_matches('=')),
                _ => format!("{}{end}", text.bytes().map(|byte| format!("{byte:02X}")).collect::<String>()),
            }).collect();
            let letters = run.as_bytes();
            let mut all = vec![];
            for phase in 0..4 {
                in_phase(letters, phase, Code::Base64, &mut |window| all.push(window));
            }
            let mut from = 0;
            for part in letters.split(|letter| HEX[*letter as usize] == NONE) {
                for phase in 0..2 {
                    in_phase(part, phase, Code::Hex, &mut |window: Window| {
                        all.push(Window::new(from + window.at.start..from + window.at.end, Code::Hex));
                    });
                }
                from += part.len() + 1;
            }
            let mut found = vec![];
            in_letters(letters, |window| found.push(window));
            for windows in [&mut all, &mut found] {
                windows.sort_by_key(|window| (window.code == Code::Hex, window.at.start, window.at.end));
            }
            prop_assert_eq!(found, all);
        }

        // Mutant: `byte * 8 + 7` for the end of a byte in `write`.
        #[test]
        fn a_byte_that_is_written_is_the_only_one_that_changes(
            bytes in proptest::collection::vec(any::<u8>(), 1..40), at in any::<proptest::sample::Index>(),
            value in any::<u8>(), hex in any::<bool>()
        ) {
            let code = if hex { Code::Hex } else { Code::Base64 };
            let mut coded = if hex {
                bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
            } else {
                URL_SAFE_NO_PAD.encode(&bytes)
            }.into_bytes();
            let at = at.index(bytes.len());
            let before = coded.clone();
            let (letters, edits) = {
                let letters = Letters::new(&before, code);
                (letters.of(&(at..at + 1)), letters.write(&[Edit { place: at, byte: value, hit: 0 }]))
            };
            for edit in edits {
                coded[edit.place] = edit.byte;
            }
            let mut out = vec![0; coded.len()];
            let used = decode(&coded, code, &mut out);
            let mut wanted = bytes.clone();
            wanted[at] = value;
            prop_assert_eq!(&out[..used], &wanted[..]);
            for place in (0..coded.len()).filter(|place| !letters.contains(place)) {
                prop_assert_eq!(coded[place], before[place]);
            }
        }
    }
}
