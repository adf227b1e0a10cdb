//! Secrets that come in pieces: one text said by several messages of a stream.
//!
//! What a server says again and again at one place (method, path in `params`, progress token) is one text: a
//! channel. Each channel keeps the last bytes that were said. A new piece is searched together with them.
//!
//! ```text
//! piece --> what was said before + piece --> a match that reaches into the piece --> covered, in every message
//!                                       |                                           that still waits
//!                                       --> ends in a secret that has begun ------> the message waits
//!                                       --> closed -------------------------------> it goes on
//! ```
//!
//! Messages wait in order: what comes behind one that waits, waits too. What has begun and does not end within
//! [`Limits::split_ms_max`] and [`Limits::split_bytes_max`], or when the stream ends, is covered as far as
//! it came, never let out; what goes on with it later is covered as it comes.
//!
//! Not seen: pieces at places of different names, personal data, and what [`super::opening`] leaves out: of those
//! the pieces behind the first are covered. So it is with a value in base64 or hexadecimal text: its begin cannot be
//! told before it is whole. Characters written as units ([`super::units`]) are told one by one, level by level, and
//! what is cut in the middle of one may go on.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use std::sync::Arc;

use bytes::BytesMut;
use zeroize::Zeroizing;

use super::fault::GuardFault;
use super::hit::Hit;
use super::locate::locate;
use super::mask::cover_with;
use super::rules::Category;
use super::scan::{Kind, Scanner};
use crate::limits::Limits;
use crate::types::{Direction, Finding, RuleAction, Span};
use crate::wire::json::{self, Text};
use crate::wire::mcp::{Class, Message};

/// Bound: channels of one stream; the one that said nothing for longest is forgotten, and given up where it is open.
const CHANNELS_MAX: usize = 16;

/// Bound: pieces of one message that are looked at, the first ones. A log record has fewer.
const PIECES_MAX: usize = 64;

/// Bytes before a piece that are searched with it: context of a rule, and the named part of a secret.
const BEFORE_BYTES: usize = 512;

/// Bound: bytes of a secret that has begun; no rule of the pack matches more. Beyond, it is none. Once it has begun it may
/// be twice as long, encoded.
const BEGUN_BYTES_MAX: usize = 16 << 10;

/// Bound: bytes of a piece that are searched with what was said before. A longer piece holds what it says.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// A place where text is said in pieces.
#[derive(Debug)]
struct Channel {
    name: u64,
    /// Bytes said so far, and the last of them.
    said: u64,
    tail: Zeroizing<Vec<u8>>,
    /// The secret that the text ends in.
    begun: Option<Open>,
    /// When something was last said here, by count.
    used: u64,
}

#[derive(Debug, Clone)]
struct Open {
    rule: Arc<str>,
    /// Where the secret began.
    at: u64,
    /// It waited too long: what there is of it is covered, and so is what comes.
    given_up: bool,
}

/// Where a message says what: the number of the string in its `params`, the channel, and the bytes there.
#[derive(Debug, Clone)]
struct Said {
    string: usize,
    channel: u64,
    at: Range<u64>,
}

/// What is to be covered of one string of a message.
#[derive(Debug, Clone)]
pub struct Cover {
    string: usize,
    at: Range<usize>,
    with: With,
    rule: Arc<str>,
    fingerprint: [u8; 16],
}

#[derive(Debug, Clone)]
enum With {
    /// The rule's name and stars.
    Mask,
    /// These bytes: letters of an encoded text.
    Bytes(Vec<u8>),
}

/// What is to be covered of a channel.
#[derive(Debug)]
struct Hidden {
    channel: u64,
    at: Range<u64>,
    with: With,
    rule: Arc<str>,
    fingerprint: [u8; 16],
}

/// What a message says in pieces, and what is to be covered because of it.
#[derive(Debug)]
pub struct Heard {
    bytes: u64,
    said: Vec<Said>,
    hidden: Vec<Hidden>,
}

/// A message that waits, or could.
#[derive(Debug)]
struct Waiting<T> {
    message: T,
    bytes: u64,
    since_ns: u64,
    said: Vec<Said>,
    covers: Vec<Cover>,
}

/// The pieces of one stream, and the messages that wait because of them.
#[derive(Debug)]
pub struct Splits<T> {
    channels: Vec<Channel>,
    waiting: VecDeque<Waiting<T>>,
    count: u64,
}

impl<T> Default for Splits<T> {
    fn default() -> Splits<T> {
        Splits { channels: vec![], waiting: VecDeque::new(), count: 0 }
    }
}

impl<T> Splits<T> {
    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes of the messages that wait.
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting.iter().map(|waiting| waiting.bytes).sum()
    }

    /// When what waits is given up, in monotonic nanoseconds.
    pub fn deadline_ns(&self, limits: &Limits) -> Option<u64> {
        let first = self.waiting.front()?;
        Some(first.since_ns.saturating_add(limits.split_ms_max.saturating_mul(1_000_000)))
    }

    /// Takes a message that says nothing in pieces; it waits behind those that do.
    pub fn pass(&mut self, message: T, bytes: u64, now_ns: u64) {
        let (said, covers) = (vec![], vec![]);
        self.waiting.push_back(Waiting { message, bytes, since_ns: now_ns, said, covers });
    }

    /// Hears a message of the server whose text is `bytes`; `message` was read from it. It has to be given to
    /// [`Splits::take`] next.
    ///
    /// # Errors
    /// The text could not be searched.
    pub fn hear(
        &mut self,
        bytes: &[u8],
        message: &Message,
        scanner: &mut Scanner,
        scratch: &mut json::Scratch,
        limits: &Limits,
    ) -> Result<Heard, GuardFault> {
        let mut heard = Heard { bytes: bytes.len() as u64, said: vec![], hidden: vec![] };
        if message.class == Class::Notification {
            let name = channel_of(message, bytes);
            for (string, (path, text)) in
                pieces(bytes, message, limits, scratch)?.into_iter().enumerate()
            {
                let mut hasher = name.clone();
                path.hash(&mut hasher);
                let text = text.decode(bytes);
                if text.is_empty() {
                    continue;
                }
                let channel = self.channel(hasher.finish(), &mut heard.hidden);
                let said = channel.said..channel.said + text.len() as u64;
                heard.said.push(Said { string, channel: channel.name, at: said });
                channel.hear(text.as_bytes(), scanner, scratch, limits, &mut heard.hidden)?;
            }
        }
        Ok(heard)
    }

    /// Takes the message that was heard. Afterwards [`Splits::ready`] gives what may go on.
    pub fn take(&mut self, message: T, heard: Heard, now_ns: u64, limits: &Limits) {
        let Heard { bytes, said, hidden } = heard;
        self.waiting.push_back(Waiting { message, bytes, since_ns: now_ns, said, covers: vec![] });
        self.cover(&hidden);
        if self.waiting_bytes() > limits.split_bytes_max {
            self.give_up();
        }
    }

    /// What has begun and not ended is covered as far as it came: all that waits goes on.
    pub fn give_up(&mut self) {
        let hidden: Vec<Hidden> = self.channels.iter_mut().filter_map(Channel::give_up).collect();
        self.cover(&hidden);
    }

    /// The next message that may go on, and what of it is to be covered.
    pub fn ready(&mut self) -> Option<(T, Vec<Cover>)> {
        let first = self.waiting.front()?;
        let open = |said: &Said| {
            let channel = self.channels.iter().find(|channel| channel.name == said.channel);
            let begun = channel.and_then(|channel| channel.begun.as_ref());
            begun.is_some_and(|open| !open.given_up && open.at < said.at.end)
        };
        if first.said.iter().any(open) {
            return None;
        }
        let first = self.waiting.pop_front()?;
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        Some((first.message, first.covers))
    }

    /// The channel called `name`. One that is forgotten for it is given up, in `hidden`.
    fn channel(&mut self, name: u64, hidden: &mut Vec<Hidden>) -> &mut Channel {
        self.count += 1;
        let known = self.channels.iter().position(|channel| channel.name == name);
        let at = known.unwrap_or_else(|| {
            let (said, tail) = (0, Zeroizing::new(vec![]));
            let new = Channel { name, said, tail, begun: None, used: 0 };
            if self.channels.len() < CHANNELS_MAX {
                self.channels.push(new);
                return self.channels.len() - 1;
            }
            // One that is open is not forgotten as long as another is there.
            let oldest = |at: &usize| (self.channels[*at].begun.is_some(), self.channels[*at].used);
            let at = (0..self.channels.len()).min_by_key(oldest).unwrap_or(0);
            hidden.extend(self.channels[at].give_up());
            self.channels[at] = new;
            at
        });
        self.channels[at].used = self.count;
        &mut self.channels[at]
    }

    /// Marks what is hidden in the messages that wait.
    fn cover(&mut self, hidden: &[Hidden]) {
        for Hidden { channel, at, with, rule, fingerprint } in hidden {
            for waiting in &mut self.waiting {
                for said in waiting.said.iter().filter(|said| said.channel == *channel) {
                    let from = at.start.max(said.at.start);
                    let to = at.end.min(said.at.end);
                    if from >= to {
                        continue;
                    }
                    let with = match with {
                        With::Mask => With::Mask,
                        With::Bytes(bytes) => {
                            let range = (from - at.start) as usize..(to - at.start) as usize;
                            With::Bytes(bytes[range].to_vec())
                        }
                    };
                    waiting.covers.push(Cover {
                        string: said.string,
                        at: (from - said.at.start) as usize..(to - said.at.start) as usize,
                        with,
                        rule: Arc::clone(rule),
                        fingerprint: *fingerprint,
                    });
                }
            }
        }
    }
}

impl Channel {
    /// What has begun and not ended, to be covered as far as it came.
    fn give_up(&mut self) -> Option<Hidden> {
        let open = self.begun.as_mut().filter(|open| !open.given_up)?;
        open.given_up = true;
        Some(Hidden {
            channel: self.name,
            at: open.at..self.said,
            with: With::Mask,
            rule: Arc::clone(&open.rule),
            fingerprint: [0; 16],
        })
    }

    fn hear(
        &mut self,
        text: &[u8],
        scanner: &mut Scanner,
        scratch: &mut json::Scratch,
        limits: &Limits,
        hidden: &mut Vec<Hidden>,
    ) -> Result<(), GuardFault> {
        let before = self.tail.len();
        let from = self.said - before as u64;
        let mut window = std::mem::take(&mut self.tail);
        if before > 0 {
            window.extend_from_slice(&text[..text.len().min(HEAD_BYTES_MAX)]);
            // What waits may be whole only by what stands behind it.
            let waits = self.begun.as_ref().filter(|open| !open.given_up).map(|open| open.at);
            let since = waits.map_or(before, |at| (at.saturating_sub(from) as usize).min(before));
            for hit in across(&window, before, since, scanner, scratch, limits)? {
                let at = from + hit.span.start as u64..from + hit.span.end as u64;
                let rule = Arc::clone(&scanner.rules().all()[hit.rule].id);
                let with = match &hit.patch {
                    None => With::Mask,
                    Some(patch) => {
                        let mut bytes = window[hit.span.clone()].to_vec();
                        patch
                            .iter()
                            .for_each(|(place, byte)| bytes[place - hit.span.start] = *byte);
                        With::Bytes(bytes)
                    }
                };
                let fingerprint = hit.fingerprint;
                hidden.push(Hidden { channel: self.name, at, with, rule, fingerprint });
            }
            window.extend_from_slice(&text[text.len().min(HEAD_BYTES_MAX)..]);
        } else {
            window.extend_from_slice(text);
        }
        self.said += text.len() as u64;

        let from = self.said - window.len() as u64;
        let longest = BEGUN_BYTES_MAX * (1 + usize::from(self.begun.is_some()));
        let looked = window.len().saturating_sub(longest + BEFORE_BYTES);
        let begun = scanner.rules().openings.find(&window[looked..], limits.views_max);
        let before = self.begun.take();
        let mut keep = window.len().saturating_sub(BEFORE_BYTES);
        if let Some(begun) = begun {
            let at = from + (looked + begun.secret) as u64;
            keep = keep.min((looked + begun.start).saturating_sub(BEFORE_BYTES));
            // The same secret, or one that began within it.
            let given_up = before.is_some_and(|open| open.given_up && at >= open.at);
            // What is whole already is masked where it stands; only what goes on with it is of interest.
            let whole = !given_up && {
                let kind = Kind::Text;
                scanner.find(&window, kind, Direction::Response, None, scratch, limits)?;
                let ends = |hit: &Hit| {
                    hit.action != RuleAction::Alert
                        && hit.span.start <= looked + begun.secret
                        && hit.span.end >= looked + begun.end
                };
                scanner.hits.iter().any(ends)
            };
            let rule = Arc::clone(&scanner.rules().all()[begun.rule].id);
            if given_up {
                hidden.push(Hidden {
                    channel: self.name,
                    at: at.max(self.said - text.len() as u64)..self.said,
                    with: With::Mask,
                    rule: Arc::clone(&rule),
                    fingerprint: [0; 16],
                });
            }
            self.begun = Some(Open { rule, at, given_up: given_up || whole });
        }
        window.drain(..keep);
        window.shrink_to_fit();
        self.tail = window;
        Ok(())
    }
}

/// What is found in `window` that reaches behind `since` and is not found in what stands behind `before` alone.
fn across(
    window: &[u8],
    before: usize,
    since: usize,
    scanner: &mut Scanner,
    scratch: &mut json::Scratch,
    limits: &Limits,
) -> Result<Vec<Hit>, GuardFault> {
    scanner.find(window, Kind::Text, Direction::Response, None, scratch, limits)?;
    scanner.bounded()?;
    let rules = Arc::clone(scanner.rules());
    let mut hits = std::mem::take(&mut scanner.hits);
    hits.retain(|hit| {
        hit.action != RuleAction::Alert
            && rules.all()[hit.rule].category != Category::Pii
            && hit.span.end > since
    });
    if hits.iter().any(|hit| hit.span.start >= before) {
        scanner.find(&window[before..], Kind::Text, Direction::Response, None, scratch, limits)?;
        let alone = std::mem::take(&mut scanner.hits);
        hits.retain(|hit| {
            let same = |other: &Hit| {
                other.action != RuleAction::Alert
                    && other.span.start + before == hit.span.start
                    && other.span.end + before == hit.span.end
            };
            hit.span.start < before || !alone.iter().any(same)
        });
    }
    Ok(hits)
}

/// What all channels of a message have in their name.
fn channel_of(message: &Message, bytes: &[u8]) -> DefaultHasher {
    let mut name = DefaultHasher::new();
    message.method_name(bytes).hash(&mut name);
    let token = [message.progress_of, message.subscription];
    token.map(|token| token.map(|token| token.of(bytes))).hash(&mut name);
    name
}

/// The strings of `params` that may be edited, in order, each with the hash of its path.
fn pieces(
    bytes: &[u8],
    message: &Message,
    limits: &Limits,
    scratch: &mut json::Scratch,
) -> Result<Vec<(u64, Text)>, GuardFault> {
    let Some(params) = message.params else { return Ok(vec![]) };
    let mut pieces = Pieces { bytes, params, path: vec![], found: vec![] };
    json::read(bytes, limits, scratch, &mut pieces).map_err(|_| GuardFault::EditBroke)?;
    Ok(pieces.found)
}

/// Members of `params` that correlate: never edited ([`crate::wire::mcp::Place::Protected`]).
const CORRELATES: [&str; 4] = ["progressToken", "requestId", "taskId", "uri"];

struct Pieces<'a> {
    bytes: &'a [u8],
    params: Span,
    /// For each container around: whether it is an object, and the hash of the member or the number in it.
    path: Vec<(bool, u64)>,
    found: Vec<(u64, Text)>,
}

impl Pieces<'_> {
    fn step(&mut self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (object, step) in &self.path {
            (object, step).hash(&mut hasher);
        }
        if let Some((false, number)) = self.path.last_mut() {
            *number += 1;
        }
        hasher.finish()
    }
}

impl json::Visitor for Pieces<'_> {
    fn key(&mut self, _: u32, text: Text) {
        let name = text.decode(self.bytes);
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let hidden = CORRELATES.contains(&&*name);
        if let Some((_, step)) = self.path.last_mut() {
            *step = if hidden { 0 } else { hasher.finish().max(1) };
        }
    }

    fn string(&mut self, _: u32, text: Text) {
        let hidden = matches!(self.path.last(), Some((true, 0)));
        let path = self.step();
        let inside = text.span.start >= self.params.start && text.span.end() <= self.params.end();
        if inside && !hidden && self.found.len() < PIECES_MAX {
            self.found.push((path, text));
        }
    }

    fn number(&mut self, _: u32, _: Span) {
        self.step();
    }

    fn literal(&mut self, _: u32, _: Span) {
        self.step();
    }

    fn open(&mut self, _: u32, object: bool, _: u32) {
        self.path.push((object, u64::from(!object)));
    }

    fn close(&mut self, _: u32, _: bool, _: u32) {
        self.path.pop();
        self.step();
    }
}

/// `bytes` with what is to be covered written over, and what was found, by its place in `bytes`. The message
/// must be read and judged anew.
///
/// # Errors
/// The message cannot be read as it was.
pub fn covered(
    bytes: &[u8],
    message: &Message,
    covers: &[Cover],
    scratch: &mut json::Scratch,
    limits: &Limits,
) -> Result<(BytesMut, Vec<Finding>), GuardFault> {
    let pieces = pieces(bytes, message, limits, scratch)?;
    let mut out = BytesMut::with_capacity(bytes.len());
    let mut findings: Vec<Finding> = vec![];
    let mut done = 0;
    for (number, (_, text)) in pieces.iter().enumerate() {
        let mut here = covers.iter().filter(|cover| cover.string == number).peekable();
        if here.peek().is_none() {
            continue;
        }
        let mut new = text.decode(bytes).into_owned().into_bytes();
        for cover in here {
            let Some(place) = new.get_mut(cover.at.clone()) else {
                return Err(GuardFault::EditBroke);
            };
            match &cover.with {
                With::Mask => cover_with(place, &cover.rule),
                With::Bytes(bytes) => place.copy_from_slice(bytes),
            }
            findings.push(Finding {
                rule: Arc::clone(&cover.rule),
                action: RuleAction::Mask,
                span: text.span,
                fingerprint: cover.fingerprint,
                level: 1,
                path: None,
            });
        }
        let quoted = text.quoted();
        out.extend_from_slice(&bytes[done..quoted.start as usize]);
        let new = String::from_utf8_lossy(&new);
        let string = serde_json::to_string(&new).map_err(|_| GuardFault::EditBroke)?;
        out.extend_from_slice(string.as_bytes());
        done = quoted.end();
    }
    out.extend_from_slice(&bytes[done..]);
    locate(bytes, &mut findings);
    findings.dedup();
    Ok((out, findings))
}
