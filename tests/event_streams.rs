//! Event streams as the clients' own parsers read them: eventsource-parser of the TypeScript SDK,
//! httpx-sse and httpx2 of the Python SDKs 1 and 2, at the versions that `tests/sdk` pins.
//!
//! Generated and mutated streams go through our reader, and so do streams of a server through the whole
//! machine. What each parser tells of the server's own bytes is what we read there, so what is judged is
//! what was said; what it tells of what we send is what we meant. Each stream comes in other pieces.
//!
//! Where a parser reads the server's bytes otherwise than the standard (WHATWG HTML §9.2) says, it is
//! given them in another spelling, and what we send never has that spelling:
//!
//! - a byte order mark: httpx-sse and httpx2 keep it, which spoils the first line; we take it off;
//! - the text `ï»¿`: eventsource-parser takes it off as if it were a mark; no line of ours begins so;
//! - a CR as the last line end: eventsource-parser waits for another line end, httpx2 takes one that is the
//!   very last byte for two and tells of an event that was not ended; our lines end in LF;
//! - a retry time that is no row of ASCII digits: Python's `int` reads more; we drop it;
//! - a retry time of an event that never ends: eventsource-parser tells it at once; we wait for the end;
//! - a stream in which we find a fault (bytes that are no UTF-8, control characters or too much in an id,
//!   anything but printable ASCII in a name) ends for us with the event before it; parsers go on.
//!
//! A fourth parser, httpx-sse 0.4.1, ends lines where Python's `str.splitlines` does. It reads what servers
//! send otherwise than everybody else, and what we send as we mean it.
//!
//! `STENOGRAPH_EVENT_STREAMS=…` sets how many streams are made (4000),
//! `STENOGRAPH_EVENT_STREAMS_SEED=…` repeats those of an earlier run.

mod record_support;

#[path = "support/dice.rs"]
mod dice;
#[path = "exchange/rig.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod rig;
#[path = "exchange/script.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod script;
#[path = "exchange/stage.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod stage;
#[path = "event_streams/texts.rs"]
mod texts;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::BytesMut;
use serde_json::Value;
use stenograph::limits::Limits;
use stenograph::wire::sse::{self, Event, Item, SseFault};

use dice::{Dice, setting};
use rig::{Rig, Served};
use script::{STREAM_HEAD, json_answer, post, read_answer};
use stage::{Plan, Stage};

/// One thing that a parser tells.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    /// Name, id as this parser has it (eventsource-parser: that of the event; the others: the last one
    /// seen), data. In Python the retry time too.
    Event(String, Option<String>, String, Option<f64>),
    /// The retry time, told by itself.
    Retry(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parser {
    /// eventsource-parser.
    Typescript,
    /// httpx-sse.
    Python1,
    /// httpx2.
    Python2,
    /// httpx-sse 0.4.1.
    Splitting,
}

const PARSERS: [Parser; 3] = [Parser::Typescript, Parser::Python1, Parser::Python2];

fn installed(what: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join(".local/readers").join(what);
    assert!(place.exists(), "{} is missing: tests/run.sh installs it", place.display());
    place
}

impl Parser {
    fn command(self) -> Command {
        let script = |name| format!("{}/tests/event_streams/{name}", env!("CARGO_MANIFEST_DIR"));
        let (mut command, script, argument) = match self {
            Parser::Typescript => {
                let packages = installed("node_modules/eventsource-parser");
                (Command::new("node"), script("read.js"), packages.into_os_string())
            }
            Parser::Python1 => (
                Command::new(installed("python/bin/python")),
                script("read.py"),
                "httpx-sse".into(),
            ),
            Parser::Python2 => {
                (Command::new(installed("python/bin/python")), script("read.py"), "httpx2".into())
            }
            Parser::Splitting => {
                let mut command = Command::new(installed("python/bin/python"));
                command.env("PYTHONPATH", installed("splits"));
                (command, script("read.py"), "httpx-sse".into())
            }
        };
        command.arg(script).arg(argument);
        command
    }

    /// What it tells of these streams.
    fn read(self, streams: &[(Vec<u8>, Vec<usize>)]) -> Vec<Vec<Told>> {
        let mut command = self.command();
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child =
            child.unwrap_or_else(|error| panic!("{self:?}: {error}; see tests/setup.sh"));
        let mut input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let all = std::thread::scope(|scope| {
            scope.spawn(move || {
                for (bytes, sizes) in streams {
                    let mut line = String::with_capacity(2 * bytes.len() + 64);
                    bytes.iter().for_each(|byte| write!(line, "{byte:02x}").unwrap());
                    let sizes: Vec<_> = sizes.iter().map(usize::to_string).collect();
                    writeln!(line, " {}", sizes.join(",")).unwrap();
                    input.write_all(line.as_bytes()).unwrap();
                }
            });
            output.lines().map(|line| self.told(&line.unwrap())).collect::<Vec<_>>()
        });
        assert!(child.wait().unwrap().success());
        assert_eq!(all.len(), streams.len(), "{self:?}: one line for each stream");
        all
    }

    fn told(self, line: &str) -> Vec<Told> {
        let all: Vec<Vec<Value>> = serde_json::from_str(line).unwrap();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let told = all.iter().map(|one| match (self, &one[..]) {
            (Parser::Typescript, [kind, ms]) if kind == "retry" => {
                Told::Retry(ms.as_f64().unwrap())
            }
            (Parser::Typescript, [_, name, id, data]) => {
                let name = text(name).unwrap_or_else(|| "message".to_owned());
                Told::Event(name, text(id), text(data).unwrap(), None)
            }
            (_, [name, id, data, retry]) => {
                Told::Event(text(name).unwrap(), text(id), text(data).unwrap(), retry.as_f64())
            }
            other => panic!("{other:?}"),
        });
        self.plain(told.collect())
    }

    /// Without what says nothing: of retry times by themselves the last counts; Python's parsers tell of
    /// an empty line once there was an id.
    fn plain(self, told: Vec<Told>) -> Vec<Told> {
        let mut plain: Vec<Told> = Vec::new();
        let mut last_id = Some(String::new());
        for one in told {
            if let (Told::Retry(_), Some(Told::Retry(_))) = (&one, plain.last()) {
                plain.pop();
            }
            if self != Parser::Typescript
                && let Told::Event(_, id, data, retry) = &one
            {
                let news = *id != last_id || retry.is_some() || !data.is_empty();
                last_id.clone_from(id);
                if !news {
                    continue;
                }
            }
            plain.push(one);
        }
        plain
    }

    /// What it must tell where these are the items.
    fn must_tell(self, items: &[Item]) -> Vec<Told> {
        let string = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut told = Vec::new();
        let mut last_id = String::new();
        for item in items {
            let Item::Event(event) = item else { continue };
            let name = event.name.as_deref().map_or_else(|| "message".to_owned(), string);
            let id = event.id.as_deref().map(string);
            let data = event.data.as_deref().map(string);
            let retry = event.retry_ms.map(|ms| ms as f64);
            if self == Parser::Typescript {
                told.extend(retry.map(Told::Retry));
                told.extend(data.map(|data| Told::Event(name, id, data, None)));
                continue;
            }
            last_id = id.unwrap_or(last_id);
            // An id that is taken back is told with the next event.
            let nothing = event.name.is_none() && data.is_none() && retry.is_none();
            if matches!(self, Parser::Python1 | Parser::Splitting) && nothing && last_id.is_empty()
            {
                continue;
            }
            told.push(Told::Event(name, Some(last_id.clone()), data.unwrap_or_default(), retry));
        }
        self.plain(told)
    }
}

/// The ways in which a parser goes its own way with a server's bytes; see above.
type Ways = BTreeMap<&'static str, u64>;

/// The server's stream in the spelling that this parser is given.
fn respelt(parser: Parser, stream: &[u8], ways: &mut Ways) -> Vec<u8> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    let mut way = |name| *ways.entry(name).or_default() += 1;
    let mut stream = stream.to_vec();
    let last_end = stream.iter().rfind(|byte| matches!(byte, b'\r' | b'\n'));
    if match parser {
        Parser::Typescript => last_end == Some(&b'\r'),
        Parser::Python1 | Parser::Splitting => false,
        Parser::Python2 => stream.ends_with(b"\r"),
    } {
        way("CR at the end");
        stream.push(b'\n');
    }
    if parser != Parser::Typescript {
        if stream.starts_with(MARK) {
            way("byte order mark");
            stream.drain(..MARK.len());
        }
        return stream;
    }
    let text = stream.strip_prefix(MARK).unwrap_or(&stream);
    if text.starts_with("\u{ef}\u{bb}\u{bf}".as_bytes()) {
        way("text like a mark");
        stream = [b":\n", text].concat();
    }
    stream
}

/// A retry time that only Python may take for one.
fn odd_retry(stream: &[u8]) -> bool {
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    stream.split(|byte| matches!(byte, b'\r' | b'\n')).any(|line| {
        let value = line.strip_prefix(b"retry:");
        value.is_some_and(|value| {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            value.is_empty() || !value.iter().all(u8::is_ascii_digit)
        })
    })
}

/// Our reading of a stream that comes in these pieces: the items, what broke it, and whether an event
/// was left open.
fn ours(stream: &[u8], sizes: &[usize]) -> (Vec<Item>, Option<SseFault>, bool) {
    let limits = Limits::default();
    let (mut reader, mut items, mut at) = (sse::Reader::new(), Vec::new(), 0);
    for size in sizes.iter().copied().chain([stream.len()]) {
        let end = stream.len().min(at + size);
        while at < end {
            match reader.read(&stream[at..end], &limits) {
                Ok((used, item)) => {
                    at += used;
                    items.extend(item);
                }
                Err(fault) => return (items, Some(fault), true),
            }
        }
    }
    (items, None, reader.unterminated_bytes() > 0)
}

fn without_last_retries(mut told: Vec<Told>) -> Vec<Told> {
    while let Some(Told::Retry(_)) = told.last() {
        told.pop();
    }
    told
}

fn without_retries(parser: Parser, told: Vec<Told>) -> Vec<Told> {
    let told = told.into_iter().map(|one| match one {
        Told::Event(name, id, data, _) => Told::Event(name, id, data, None),
        retry => retry,
    });
    let mut told = parser.plain(told.collect());
    if parser == Parser::Python1 {
        // Whether it tells of an id that is taken back depends on the retry time; the next event has it.
        told.retain(|one| !matches!(one, Told::Event(_, _, data, _) if data.is_empty()));
    }
    told
}

type Stream = (Vec<u8>, Vec<usize>);

/// What the parsers tell of these streams of servers against what we read: says how many differ.
fn servers_are_read_alike(streams: &[Stream], ways: &mut Ways) -> u64 {
    let mut differences = 0;
    for parser in PARSERS {
        let given: Vec<_> = streams
            .iter()
            .map(|(stream, sizes)| (respelt(parser, stream, ways), sizes.clone()))
            .collect();
        for ((stream, sizes), mut told) in streams.iter().zip(parser.read(&given)) {
            let (items, fault, open) = ours(stream, sizes);
            let mut must = parser.must_tell(&items);
            if parser != Parser::Typescript && odd_retry(stream) {
                *ways.entry("retry time spelt otherwise").or_default() += 1;
                (told, must) = (without_retries(parser, told), without_retries(parser, must));
            }
            if open {
                let all = told.len();
                (told, must) = (without_last_retries(told), without_last_retries(must));
                if told.len() < all {
                    *ways.entry("retry time of an open event").or_default() += 1;
                }
            }
            if fault.is_some() {
                *ways.entry("fault").or_default() += 1;
                told.truncate(must.len());
            }
            if told != must {
                differences += 1;
                let shown = stream.escape_ascii();
                println!("{parser:?} tells {told:?}\n  we read {must:?}\n  in {shown} {sizes:?}");
            }
        }
    }
    differences
}

/// What the parsers tell of streams that we wrote against what was meant.
fn we_are_read_as_meant(parsers: &[Parser], streams: &[Stream], meant: &[Vec<Item>]) -> u64 {
    let mut differences = 0;
    for &parser in parsers {
        for (((stream, _), told), items) in streams.iter().zip(parser.read(streams)).zip(meant) {
            let must = parser.must_tell(items);
            if told != must {
                differences += 1;
                let shown = stream.escape_ascii();
                println!("{parser:?} tells {told:?}\n  we meant {must:?}\n  in {shown}");
            }
        }
    }
    differences
}

fn dice() -> (Dice, u64) {
    let (dice, seed) = Dice::of_setting("STENOGRAPH_EVENT_STREAMS_SEED");
    let count = setting("STENOGRAPH_EVENT_STREAMS").unwrap_or(4_000);
    println!("STENOGRAPH_EVENT_STREAMS_SEED={seed} STENOGRAPH_EVENT_STREAMS={count}");
    (dice, count)
}

// Checked against the mutants of the reader: data lines joined without a line feed; CR ends no line; LF
// behind CR ends another; the mark kept; all spaces behind the colon dropped.
#[test]
fn parsers_tell_of_any_stream_what_we_read_and_of_our_form_what_we_mean() {
    let (mut dice, count) = dice();
    let mut streams = Vec::new();
    let (mut written, mut meant) = (Vec::new(), Vec::new());
    let (mut events, mut broken) = (0, 0);
    for _ in 0..count {
        let stream = texts::wild(&mut dice);
        let sizes = texts::sizes(&mut dice, stream.len());
        let (items, fault, _) = ours(&stream, &sizes);
        events += items.iter().filter(|item| matches!(item, Item::Event(_))).count() as u64;
        broken += u64::from(fault.is_some());
        let mut out = BytesMut::new();
        for item in &items {
            match item {
                Item::Comment => out.extend_from_slice(sse::COMMENT),
                Item::Event(Event { name, id, retry_ms, data }) => {
                    let (name, id) = (name.as_deref(), id.as_deref());
                    sse::write_event(&mut out, name, id, *retry_ms, data.as_deref());
                }
            }
        }
        written.push((out.to_vec(), texts::sizes(&mut dice, out.len())));
        meant.push(items);
        streams.push((stream, sizes));
    }
    let mut ways = Ways::new();
    let differences = servers_are_read_alike(&streams, &mut ways)
        + we_are_read_as_meant(&PARSERS, &written, &meant);
    println!("{events} events, {broken} streams with a fault; {ways:?}");
    assert_eq!(differences, 0);
    // A property of nothing shows nothing.
    assert!(events > count && broken > count / 100 && broken < count / 2, "{events} {broken}");
    assert_eq!(ways.len(), 6, "{ways:?}");
}

// A class that made no difference would be an excuse.
#[test]
fn each_way_of_a_parser_is_one() {
    use Parser::*;
    // "data: a", ended twice, is a piece of its own.
    let pieces = vec![9];
    for (parser, stream) in [
        (Python1, "\u{feff}data: a\n\n"),
        (Python2, "\u{feff}data: a\n\n"),
        (Typescript, "\u{ef}\u{bb}\u{bf}data: a\n\ndata: b\n\n"),
        (Typescript, "data: a\r\r"),
        (Typescript, "data: a\r\rda"),
        (Python2, "data: a\r"),
        (Python1, "retry: +7\ndata: a\n\n"),
        (Python2, "retry: \u{661}\ndata: a\n\n"),
        (Typescript, "data: a\n\nretry: 5\n"),
        (Typescript, "id: 1\u{1}\ndata: a\n\n"),
        (Python1, "id: 1\u{1}\ndata: a\n\n"),
        (Python2, "id: 1\u{1}\ndata: a\n\n"),
    ] {
        let told = parser.read(&[(stream.into(), pieces.clone())]).remove(0);
        let (items, ..) = ours(stream.as_bytes(), &pieces);
        assert_ne!(told, parser.must_tell(&items), "{parser:?} {stream:?}");
    }
}

/// The machine in front of a server with a session.
struct House {
    stage: Stage,
    token: String,
    handle: String,
}

impl House {
    fn new() -> House {
        let mut stage = Stage::new(Plan::default());
        let token = stage.token("alice", 600);
        let body = "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":\
                    {\"protocolVersion\":\"2025-11-25\"}}";
        let answer = "{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{\"protocolVersion\":\"2025-11-25\",\
                      \"capabilities\":{}}}";
        let answer = json_answer("Mcp-Session-Id: s\r\n", answer).into_bytes();
        let mut out = play(&mut stage, &post(&token, "", body), vec![answer]);
        let answer = read_answer(&mut out);
        let handle = answer.field("Mcp-Session-Id").unwrap().to_owned();
        House { stage, token, handle }
    }

    /// What a client that asks for the server's stream is sent: the body.
    fn stream(&mut self, stream: &[u8], dice: &mut Dice) -> Vec<u8> {
        let request = format!(
            "GET /codegen HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {}\r\n\
             Accept: text/event-stream\r\nMcp-Session-Id: {}\r\n\r\n",
            self.token, self.handle
        );
        let mut answer = STREAM_HEAD.as_bytes().to_vec();
        let mut at = 0;
        for size in texts::sizes(dice, stream.len()).into_iter().chain([stream.len()]) {
            let piece = &stream[at..stream.len().min(at + size)];
            at += piece.len();
            if !piece.is_empty() {
                answer.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                answer.extend_from_slice(piece);
                answer.extend_from_slice(b"\r\n");
            }
        }
        answer.extend_from_slice(b"0\r\n\r\n");
        let size = 1 + dice.below(answer.len());
        let pieces = answer.chunks(size).map(<[u8]>::to_vec).collect();
        let mut out = play(&mut self.stage, &request, pieces);
        let answer = read_answer(&mut out);
        assert_eq!((answer.status, out.len()), (200, 0), "{answer:?}");
        answer.body.into_bytes()
    }
}

fn play(stage: &mut Stage, request: &str, pieces: Vec<Vec<u8>>) -> Vec<u8> {
    let mut rig = Rig::new(stage);
    rig.server = Some([Served { pieces, ends: false }].into());
    rig.client(request.as_bytes());
    rig.drive(stage);
    rig.client_out
}

/// What is sent to the client where a server said this; ids are looked at by [`same_ids`].
fn normal(item: &Item) -> Option<Item> {
    let Item::Event(Event { name, id, retry_ms, data }) = item else { return Some(Item::Comment) };
    // A name without data says nothing.
    if data.is_none() && id.is_none() && retry_ms.is_none() {
        return None;
    }
    let data = data.as_ref().map(|data| {
        let text = std::str::from_utf8(data).unwrap().replace('\n', " ");
        let text = text.replace('\u{85}', "\\u0085").replace('\u{2028}', "\\u2028");
        BytesMut::from(&*text.replace('\u{2029}', "\\u2029"))
    });
    let retry_ms = retry_ms.map(|ms| ms.clamp(100, 600_000));
    let (name, id) = (name.clone(), id.clone());
    Some(Item::Event(Event { name, id, retry_ms, data }))
}

/// Comments that arrive together are sent on as one: how many of a run that is, is up to the network.
fn one_for_a_run(items: &mut Vec<Item>) {
    items.dedup_by(|next, item| matches!((next, item), (Item::Comment, Item::Comment)));
}

/// Puts the server's ids where ours are; each of ours stands for one of theirs.
fn same_ids(meant: &[Item], sent: &mut [Item], known: &mut HashMap<Vec<u8>, Vec<u8>>) {
    for (meant, sent) in meant.iter().zip(sent) {
        let (Item::Event(Event { id: Some(own), .. }), Item::Event(Event { id: Some(id), .. })) =
            (meant, sent)
        else {
            continue;
        };
        if !own.is_empty() {
            assert_ne!(own, id, "the server's id is wrapped");
            assert_eq!(known.entry(id.clone()).or_insert_with(|| own.clone()), own);
            id.clone_from(own);
        }
    }
}

// Checked against the same mutants, and: no id is written; line ends inside a message are written as they
// came; a retry time by itself, or an empty id, is not sent.
#[test]
fn what_the_gateway_sends_is_what_the_server_said() {
    let (mut dice, count) = dice();
    let mut house = House::new();
    let (mut streams, mut sent, mut read) = (Vec::new(), Vec::new(), Vec::new());
    let (mut known, mut events) = (HashMap::new(), 0);
    for _ in 0..count / 8 {
        let stream = texts::served(&mut dice);
        let body = house.stream(&stream, &mut dice);
        let (said, fault, _) = ours(&stream, &[]);
        assert_eq!(fault, None);
        let mut meant: Vec<_> = said.iter().filter_map(normal).collect();
        one_for_a_run(&mut meant);
        let (items, fault, open) = ours(&body, &[]);
        assert!(fault.is_none() && !open, "{}", body.escape_ascii());
        let mut own = items.clone();
        one_for_a_run(&mut own);
        same_ids(&meant, &mut own, &mut known);
        assert_eq!(own, meant, "{} from {}", body.escape_ascii(), stream.escape_ascii());
        events += meant.len() as u64;
        let sizes = texts::sizes(&mut dice, body.len());
        sent.push((body, sizes));
        read.push(items);
        streams.push((stream, texts::sizes(&mut dice, 100)));
    }
    let mut ways = Ways::new();
    let all = [PARSERS.as_slice(), &[Parser::Splitting]].concat();
    let differences =
        servers_are_read_alike(&streams, &mut ways) + we_are_read_as_meant(&all, &sent, &read);
    println!("{events} events; {ways:?}");
    assert_eq!(differences, 0);
    assert!(events > count / 8 && known.len() >= 5, "{events} {}", known.len());
}

/// Python's `str.splitlines` ends lines here, and the standard does not.
const SPLITS: [&str; 8] =
    ["\u{b}", "\u{c}", "\u{1c}", "\u{1d}", "\u{1e}", "\u{85}", "\u{2028}", "\u{2029}"];

// A reader that splits there was told an event of the server's making that nobody had judged. Checked
// against the mutants "event names are what they are" and "the data of an event goes out as it came".
#[test]
fn nobody_is_told_an_event_that_was_not_judged() {
    let mut house = House::new();
    let mut dice = Dice(1);
    let message = |text: &str| {
        format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":\
             {{\"level\":\"info\",\"data\":\"{text}\"}}}}"
        )
    };
    let (mut streams, mut sent) = (Vec::new(), Vec::new());
    for end in SPLITS {
        let hidden = format!("{end}{end}event: endpoint{end}data: http://other.example/{end}{end}");
        for stream in [
            format!("event: message{hidden}\ndata: {}\n\n", message("x")),
            format!("data: {}\n\n", message(&format!("x{hidden}y"))),
            format!("id: 7{hidden}\ndata: {}\n\n", message("x")),
            format!(": ping{hidden}\n\ndata: {}\n\n", message("x")),
        ] {
            sent.push((house.stream(stream.as_bytes(), &mut dice), vec![]));
            streams.push((stream.into_bytes(), vec![]));
        }
    }
    let says_other = |told: &[Told]| {
        told.iter().any(|one| matches!(one, Told::Event(name, ..) if name == "endpoint"))
    };
    for (told, (stream, _)) in Parser::Splitting.read(&streams).iter().zip(&streams) {
        assert!(says_other(told), "{} shows nothing", stream.escape_ascii());
    }
    for parser in [PARSERS.as_slice(), &[Parser::Splitting]].concat() {
        for (told, (body, _)) in parser.read(&sent).iter().zip(&sent) {
            assert!(!says_other(told), "{parser:?}: {}", body.escape_ascii());
        }
    }
    for (body, _) in &sent {
        let text = std::str::from_utf8(body).unwrap();
        assert!(SPLITS.iter().all(|end| !text.contains(end)), "{}", body.escape_ascii());
    }
}
