//! JSON, read once and strictly (RFC 8259), without building a tree.
//!
//! One call judges one whole text: valid UTF-8 without a byte order mark, exactly one value followed
//! by white space only, every escape a character (no lone surrogates), no member name twice in one
//! object after unescaping, no NUL in a member name, and the bounds of [`Limits`]. What passes means
//! the same to every parser that follows the RFC. The caller watches through a [`Visitor`] and gets
//! positions, never copies.
//!
//! It does not interpret members ([`super::mcp`] does), does not convert numbers, and does not
//! recurse: nesting costs a frame in [`Scratch`], not stack.
//!
//! Invariants: every [`Span`] handed out lies in the input; `open` and `close` calls pair up; a key
//! is followed by exactly one value; a warm [`Scratch`] is not grown by a text that fits it.
//!
//! Duplicate names: up to [`NAMES_COMPARED_MAX`] names of an object are compared one by one (by hash,
//! then by bytes) as they arrive; a larger object is sorted when it closes. Why no hash table: it
//! would need a secret seed against chosen collisions, and this floor has no source of randomness.
//! Sorting costs at most the bytes of all names times the logarithm of their number, whoever chose
//! them.

mod member;
mod number;
mod rule;
mod text;

pub use member::member;
pub use rule::{JsonFault, JsonRule};
pub use text::Text;

use crate::limits::Limits;
use crate::types::Span;
use crate::wire::seek;

/// Who watches the pass. `depth` counts the containers around the thing reported: 0 for the value
/// that is the whole text, and for the `open` and `close` of that value.
pub trait Visitor {
    /// A member name.
    fn key(&mut self, depth: u32, text: Text) {
        let _ = (depth, text);
    }
    /// A string value.
    fn string(&mut self, depth: u32, text: Text) {
        let _ = (depth, text);
    }
    /// A number, as its text.
    fn number(&mut self, depth: u32, span: Span) {
        let _ = (depth, span);
    }
    /// `true`, `false` or `null`.
    fn literal(&mut self, depth: u32, span: Span) {
        let _ = (depth, span);
    }
    /// The opening bracket of an object or (`object` false) an array, at byte `at`.
    fn open(&mut self, depth: u32, object: bool, at: u32) {
        let _ = (depth, object, at);
    }
    /// The closing bracket, at byte `at`.
    fn close(&mut self, depth: u32, object: bool, at: u32) {
        let _ = (depth, object, at);
    }
}

/// A visitor that watches nothing: for validity alone.
#[derive(Debug, Default, Clone, Copy)]
pub struct Unwatched;

impl Visitor for Unwatched {}

/// Names of one object that are compared one by one; larger objects are sorted when they close.
pub const NAMES_COMPARED_MAX: usize = 16;

#[derive(Debug, Clone, Copy)]
struct Frame {
    object: bool,
    /// First of this object's names in `Scratch::names`.
    names: u32,
    /// First of its unescaped bytes in `Scratch::unescaped`.
    unescaped: u32,
}

#[derive(Debug, Clone, Copy)]
struct SeenName {
    hash: u64,
    /// In the input, or, when `unescaped`, in `Scratch::unescaped`.
    span: Span,
    unescaped: bool,
    /// Opening quote in the input.
    at: u32,
}

/// Memory of the pass, kept between calls: open containers and the names of open objects.
///
/// Bound: `json_depth_max` frames, `json_members_max` names, and unescaped bytes within the length of
/// the text.
#[derive(Debug, Default)]
pub struct Scratch {
    frames: Vec<Frame>,
    names: Vec<SeenName>,
    unescaped: Vec<u8>,
}

impl Scratch {
    /// Empty; grows to what the texts need.
    pub fn new() -> Scratch {
        Scratch::default()
    }

    /// Bytes of memory held between calls.
    pub fn capacity_bytes(&self) -> usize {
        self.frames.capacity() * size_of::<Frame>()
            + self.names.capacity() * size_of::<SeenName>()
            + self.unescaped.capacity()
    }
}

/// Reads `bytes` as one JSON text, reporting to `visitor`. What the visitor was told before a fault
/// is void.
pub fn read<V: Visitor>(
    bytes: &[u8],
    limits: &Limits,
    scratch: &mut Scratch,
    visitor: &mut V,
) -> Result<(), JsonFault> {
    if bytes.len() > u32::MAX as usize {
        return Err(JsonFault { rule: JsonRule::TooLong, at: u32::MAX });
    }
    // RFC 8259 §8.1: a reader may ignore a byte order mark; some strip it, others fail.
    if bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
        return Err(JsonFault { rule: JsonRule::ByteOrderMark, at: 0 });
    }
    if let Err(fault) = std::str::from_utf8(bytes) {
        return Err(JsonFault { rule: JsonRule::NotUtf8, at: fault.valid_up_to() as u32 });
    }
    scratch.frames.clear();
    scratch.names.clear();
    scratch.unescaped.clear();
    Pass { bytes, limits, scratch, visitor, members: 0 }.run()
}

struct Pass<'a, V> {
    bytes: &'a [u8],
    limits: &'a Limits,
    scratch: &'a mut Scratch,
    visitor: &'a mut V,
    members: u64,
}

fn fault<T>(rule: JsonRule, at: usize) -> Result<T, JsonFault> {
    Err(JsonFault { rule, at: at as u32 })
}

impl<V: Visitor> Pass<'_, V> {
    fn run(&mut self) -> Result<(), JsonFault> {
        let mut at = self.space(0);
        if at == self.bytes.len() {
            return fault(JsonRule::Empty, at);
        }
        loop {
            at = self.value(at)?;
            // After a value: close what ends here, then go on with the next member or element.
            loop {
                at = self.space(at);
                let Some(&Frame { object, .. }) = self.scratch.frames.last() else {
                    return match at == self.bytes.len() {
                        true => Ok(()),
                        false => fault(JsonRule::Trailing, at),
                    };
                };
                match self.bytes.get(at) {
                    Some(b',') => {
                        at = self.space(at + 1);
                        if object {
                            at = self.key(at)?;
                        }
                        break;
                    }
                    Some(b'}') if object => self.close(at)?,
                    Some(b']') if !object => self.close(at)?,
                    Some(_) => return fault(JsonRule::Unexpected, at),
                    None => return fault(JsonRule::Truncated, at),
                }
                at += 1;
            }
        }
    }

    fn depth(&self) -> u32 {
        self.scratch.frames.len() as u32
    }

    /// RFC 8259 §2: white space is space, tab, line feed and carriage return, nothing else.
    fn space(&self, mut at: usize) -> usize {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(at) {
            at += 1;
        }
        at
    }

    /// Reads one scalar, an empty container, or the opening of a container up to its first value.
    /// Returns where to go on: after what is complete, which for a just opened container is again a
    /// value, so that this loops.
    fn value(&mut self, mut at: usize) -> Result<usize, JsonFault> {
        loop {
            match self.bytes.get(at) {
                Some(b'"') => {
                    let (text, next) = self.string(at)?;
                    self.visitor.string(self.depth(), text);
                    return Ok(next);
                }
                Some(b'{') => {
                    self.open(true, at)?;
                    at = self.space(at + 1);
                    if self.bytes.get(at) == Some(&b'}') {
                        self.close(at)?;
                        return Ok(at + 1);
                    }
                    at = self.key(at)?;
                }
                Some(b'[') => {
                    self.open(false, at)?;
                    at = self.space(at + 1);
                    if self.bytes.get(at) == Some(&b']') {
                        self.close(at)?;
                        return Ok(at + 1);
                    }
                }
                Some(b'-' | b'0'..=b'9') => {
                    let next = self.number(at)?;
                    self.visitor.number(self.depth(), Span::new(at, next));
                    return Ok(next);
                }
                Some(b't') => return self.literal(at, b"true"),
                Some(b'f') => return self.literal(at, b"false"),
                Some(b'n') => return self.literal(at, b"null"),
                Some(_) => return fault(JsonRule::Unexpected, at),
                None => return fault(JsonRule::Truncated, at),
            }
        }
    }

    fn literal(&mut self, at: usize, word: &[u8]) -> Result<usize, JsonFault> {
        let seen = &self.bytes[at..self.bytes.len().min(at + word.len())];
        let same = seen.iter().zip(word).take_while(|(a, b)| a == b).count();
        if same == word.len() {
            let span = Span::new(at, at + word.len());
            self.visitor.literal(self.depth(), span);
            return Ok(span.end());
        }
        let rule = if same == seen.len() { JsonRule::Truncated } else { JsonRule::Literal };
        fault(rule, at + same)
    }

    /// RFC 8259 §6: minus, integer part without leading zeros, fraction, exponent; and within the range
    /// of a double.
    fn number(&self, start: usize) -> Result<usize, JsonFault> {
        let mut at = start + usize::from(self.bytes[start] == b'-');
        let digits = |from: usize| {
            let run = self.bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            match run {
                0 if from == self.bytes.len() => fault(JsonRule::Truncated, from),
                0 => fault(JsonRule::Number, from),
                run => Ok(from + run),
            }
        };
        let integer = at;
        at = digits(at)?;
        if self.bytes[integer] == b'0' && at > integer + 1 {
            return fault(JsonRule::Number, integer + 1);
        }
        if self.bytes.get(at) == Some(&b'.') {
            at = digits(at + 1)?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(at) {
            at += 1;
            at += usize::from(matches!(self.bytes.get(at), Some(b'+' | b'-')));
            at = digits(at)?;
        }
        let token = &self.bytes[start..at];
        // Why not always: without an exponent it takes 309 digits to be beyond.
        let has_exponent = || token.iter().any(|byte| matches!(byte, b'e' | b'E'));
        if (token.len() >= number::DIGITS || has_exponent()) && number::is_beyond_double(token) {
            return fault(JsonRule::NumberRange, start);
        }
        Ok(at)
    }

    /// Reads the string whose opening quote is at `at`; returns it and the byte after it.
    fn string(&self, at: usize) -> Result<(Text, usize), JsonFault> {
        let start = at + 1;
        let mut escaped = false;
        let mut at = start;
        loop {
            let (stop, short) = seek::string_stop(self.bytes, at);
            escaped |= short;
            at = stop;
            match self.bytes.get(at) {
                Some(b'"') => {
                    return Ok((Text { span: Span::new(start, at), escaped }, at + 1));
                }
                Some(b'\\') => {
                    escaped = true;
                    at = text::escape_end(self.bytes, at)?;
                }
                Some(_) => return fault(JsonRule::ControlByte, at),
                None => return fault(JsonRule::Truncated, at),
            }
        }
    }

    fn open(&mut self, object: bool, at: usize) -> Result<(), JsonFault> {
        let depth = self.depth();
        if depth as u64 >= self.limits.json_depth_max {
            return fault(JsonRule::TooDeep, at);
        }
        self.visitor.open(depth, object, at as u32);
        self.scratch.frames.push(Frame {
            object,
            names: self.scratch.names.len() as u32,
            unescaped: self.scratch.unescaped.len() as u32,
        });
        Ok(())
    }

    fn close(&mut self, at: usize) -> Result<(), JsonFault> {
        let frame = self.scratch.frames.pop().expect("a close follows an open");
        let names = frame.names as usize;
        if self.scratch.names.len() - names > NAMES_COMPARED_MAX {
            self.sorted_names_differ(names)?;
        }
        self.scratch.names.truncate(names);
        self.scratch.unescaped.truncate(frame.unescaped as usize);
        self.visitor.close(self.depth(), frame.object, at as u32);
        Ok(())
    }

    /// Reads a member name and its colon; returns where the value begins.
    fn key(&mut self, at: usize) -> Result<usize, JsonFault> {
        match self.bytes.get(at) {
            Some(b'"') => {}
            Some(_) => return fault(JsonRule::Unexpected, at),
            None => return fault(JsonRule::Truncated, at),
        }
        let (text, next) = self.string(at)?;
        if text.span.len as u64 > self.limits.json_key_bytes_max {
            return fault(JsonRule::KeyTooLong, at);
        }
        self.members += 1;
        if self.members > self.limits.json_members_max {
            return fault(JsonRule::TooManyMembers, at);
        }
        self.name_is_new(text, at)?;
        self.visitor.key(self.depth(), text);
        let colon = self.space(next);
        match self.bytes.get(colon) {
            Some(b':') => Ok(self.space(colon + 1)),
            Some(_) => fault(JsonRule::Unexpected, colon),
            None => fault(JsonRule::Truncated, colon),
        }
    }

    fn name_is_new(&mut self, text: Text, at: usize) -> Result<(), JsonFault> {
        let scratch = &mut *self.scratch;
        let span = if text.escaped {
            let start = scratch.unescaped.len();
            text::unescape(text.span.of(self.bytes), &mut scratch.unescaped);
            let name = &scratch.unescaped[start..];
            // Why: parsers with C strings end the name here, and one Go decoder dropped the NUL
            // (GHSA-q382-vc8q-7jhj).
            if memchr::memchr(0, name).is_some() {
                return fault(JsonRule::NulInKey, at);
            }
            Span::new(start, scratch.unescaped.len())
        } else {
            text.span
        };
        let name = SeenName { hash: 0, span, unescaped: text.escaped, at: at as u32 };
        let bytes = name_bytes(self.bytes, &scratch.unescaped, &name);
        let name = SeenName { hash: hash(bytes), ..name };
        let first = scratch.frames.last().expect("a name stands in an object").names as usize;
        let seen = &scratch.names[first..];
        if seen.len() < NAMES_COMPARED_MAX
            && seen.iter().any(|other| {
                other.hash == name.hash
                    && name_bytes(self.bytes, &scratch.unescaped, other) == bytes
            })
        {
            return fault(JsonRule::DuplicateKey, at);
        }
        scratch.names.push(name);
        Ok(())
    }

    #[cold]
    fn sorted_names_differ(&mut self, first: usize) -> Result<(), JsonFault> {
        let Scratch { names, unescaped, .. } = &mut *self.scratch;
        let names = &mut names[first..];
        let bytes = |name: &SeenName| name_bytes(self.bytes, unescaped, name);
        names.sort_unstable_by(|a, b| {
            a.hash.cmp(&b.hash).then_with(|| bytes(a).cmp(bytes(b))).then(a.at.cmp(&b.at))
        });
        let again = names
            .windows(2)
            .filter(|pair| pair[0].hash == pair[1].hash && bytes(&pair[0]) == bytes(&pair[1]))
            .map(|pair| pair[1].at)
            .min();
        match again {
            Some(at) => fault(JsonRule::DuplicateKey, at as usize),
            None => Ok(()),
        }
    }
}

fn name_bytes<'a>(bytes: &'a [u8], unescaped: &'a [u8], name: &SeenName) -> &'a [u8] {
    name.span.of(if name.unescaped { unescaped } else { bytes })
}

/// Mixes eight bytes a step. Quality is a matter of speed only: equal hashes are compared by bytes.
fn hash(bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = bytes.len() as u64;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        state = (state ^ word).wrapping_mul(ODD).rotate_left(29);
    }
    for &byte in chunks.remainder() {
        state = (state ^ byte as u64).wrapping_mul(ODD).rotate_left(29);
    }
    state
}

#[cfg(test)]
mod tests;
