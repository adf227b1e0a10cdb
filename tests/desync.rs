//! No desync: requests and answers that parsers read differently are sent to the real process, in front
//! of an upstream that reads as leniently as a careless server does.
//!
//! What is looked at is what arrived, not what was answered. Every request that the upstream saw is in
//! the record, with that body; none of it is the message that was hidden; and the lenient reading,
//! httparse and llhttp (Node's parser, strict) agree on every byte of it. Of the answers: what a client
//! gets belongs to its own call, although all calls carry one id. And what passes, in either direction, was
//! framed in a way that nobody can read otherwise, as a plain reading of RFC 9112 says.
//!
//! `STENOGRAPH_DESYNC_CASES=…` sets the number of conversations (3000), `STENOGRAPH_DESYNC_SEED=…`
//! repeats those of an earlier run.

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

#[path = "desync/mutations.rs"]
mod mutations;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use stenograph::record::disk::Directory;
use stenograph::record::entry::EntryView;
use stenograph::record::keys::VerifierKey;
use stenograph::record::reader::{Checks, read};
use stenograph::record::scan::{Place, Sink};
use stenograph::record::{Kind, PartKind};

use mutations::{CANARY, answer, conversation, good, result, single_flaws};
use support::dice::{Dice, setting};
use support::ledger::FEW_RULES;
use support::{Gateway, IdentityProvider, RESOURCE, find, listen};

/// Clients at once.
const CLIENTS: usize = 32;

/// A message as a parser read it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    /// The words of the first line.
    line: Vec<String>,
    /// Names in lower case.
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Message {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().rev().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }
}

fn text(bytes: &[u8]) -> String {
    // Each byte is one character, so nothing is lost.
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Reads the way a careless parser does: any line ending, spaces anywhere, the first digits of a number,
/// `chunked` wherever it stands. Gives the message and where it ends.
fn lenient(bytes: &[u8]) -> Option<(Message, usize)> {
    let begin = bytes.iter().position(|byte| !b"\r\n".contains(byte))?;
    let mut lines: Vec<String> = Vec::new();
    let mut at = begin;
    loop {
        let end = at + bytes[at..].iter().position(|byte| *byte == b'\n')?;
        let line = text(&bytes[at..end]).trim_end_matches('\r').to_owned();
        at = end + 1;
        if line.is_empty() {
            break;
        }
        match line.starts_with([' ', '\t']) && lines.len() > 1 {
            true => lines.last_mut().expect("there is one").push_str(&line),
            false => lines.push(line),
        }
    }
    let fields = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let line = lines[0].split_whitespace().map(str::to_owned).collect();
    let mut message = Message { line, fields, body: Vec::new() };
    let digits = |text: &str, radix: u32| {
        let end = text.find(|c: char| !c.is_digit(radix)).unwrap_or(text.len());
        usize::from_str_radix(&text[..end], radix).ok()
    };
    let coding = message.field("transfer-encoding").is_some_and(|value| value.contains("chunked"));
    if !coding {
        let length = message.field("content-length").and_then(|value| digits(value, 10));
        let length = length.unwrap_or(0);
        message.body = bytes.get(at..at.checked_add(length)?)?.to_vec();
        return Some((message, at + length));
    }
    loop {
        let end = at + bytes[at..].iter().position(|byte| *byte == b'\n')?;
        let size = digits(text(&bytes[at..end]).trim_start(), 16)?;
        at = end + 1;
        if size == 0 {
            loop {
                let end = at + bytes[at..].iter().position(|byte| *byte == b'\n')?;
                let line = bytes[at..end].trim_ascii();
                at = end + 1;
                if line.is_empty() {
                    return Some((message, at));
                }
            }
        }
        message.body.extend_from_slice(bytes.get(at..at.checked_add(size)?)?);
        at += size;
        at += bytes[at..].iter().take(2).take_while(|byte| b"\r\n".contains(byte)).count();
    }
}

/// Reads as nobody can read otherwise (RFC 9112 §2.2, §5.1, §6, §7.1): lines end in CRLF, names are tokens, one
/// plain length or `chunked` and never both, sizes of chunks are digits alone. Gives the body and where it
/// ends; `None` where that is not how the message is written, or not all of it is there. `answer`: trailers
/// may stand behind the chunks.
fn proper(bytes: &[u8], answer: bool) -> Option<(Vec<u8>, usize)> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let field = |line: &str| -> Option<(String, String)> {
        let (name, value) = line.split_once(':')?;
        let plain =
            !name.is_empty() && name.bytes().all(token) && !line.contains(['\r', '\n', '\0']);
        plain.then(|| (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()))
    };
    // RFC 9112 §2.2: a server passes over empty lines in front of a request.
    let empty = bytes.chunks(2).take_while(|pair| !answer && *pair == b"\r\n").count();
    let start = 2 * empty;
    let mut at = start + find(&bytes[start..], b"\r\n\r\n")? + 4;
    let head = text(&bytes[start..at - 4]);
    let mut lines = head.split("\r\n");
    if lines.next()?.contains(['\r', '\n', '\0']) {
        return None;
    }
    let (mut length, mut chunked) = (None, false);
    for line in lines {
        let (name, value) = field(line)?;
        let framed = length.is_some() || chunked;
        match &*name {
            "content-length" if framed || !value.bytes().all(|byte| byte.is_ascii_digit()) => {
                return None;
            }
            "content-length" => length = Some(value.parse::<usize>().ok()?),
            "transfer-encoding" if framed || !value.eq_ignore_ascii_case("chunked") => return None,
            "transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    if !chunked {
        let end = at.checked_add(length.unwrap_or(0))?;
        return Some((bytes.get(at..end)?.to_vec(), end));
    }
    let mut body = Vec::new();
    let line = |at: usize| -> Option<(String, usize)> {
        let end = find(bytes.get(at..)?, b"\r\n")?;
        Some((text(&bytes[at..at + end]), at + end + 2))
    };
    loop {
        let (size, data) = line(at)?;
        if !(1..=16).contains(&size.len()) || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::from_str_radix(&size, 16).ok()?;
        at = data;
        if size == 0 {
            break;
        }
        let end = at.checked_add(size)?;
        body.extend_from_slice(bytes.get(at..end)?);
        if bytes.get(end..end + 2)? != b"\r\n" {
            return None;
        }
        at = end + 2;
    }
    loop {
        let (trailer, next) = line(at)?;
        at = next;
        match trailer.is_empty() {
            true => return Some((body, at)),
            false if answer => drop(field(&trailer)?),
            false => return None,
        }
    }
}

/// The answer that the upstream gives to the call of an odd marker.
fn odd_answer(marker: &str, seed: u64) -> Vec<u8> {
    let mixed = marker.bytes().fold(seed, |seed, byte| seed.wrapping_mul(31) ^ u64::from(byte));
    answer(marker, &mut Dice(mixed))
}

/// Everything that the upstream received, one entry for each connection.
type Received = Arc<Mutex<Vec<Vec<u8>>>>;

/// Markers of the calls behind whose answers an answer was written that nobody asked for.
type Unasked = Arc<Mutex<HashSet<String>>>;

/// An upstream that reads leniently. A call whose marker says so gets an answer that parsers read
/// differently.
fn start_upstream(received: Received, unasked: Unasked, seed: u64) -> SocketAddr {
    let (listener, address) = listen();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (received, unasked) = (received.clone(), unasked.clone());
            thread::spawn(move || serve(stream, &received, &unasked, seed));
        }
    });
    address
}

fn marker_in(bytes: &[u8]) -> String {
    let body = text(bytes);
    let at = body.find("\"text\":\"").map(|at| at + 8);
    at.and_then(|at| body[at..].split('"').next()).unwrap_or("none").to_owned()
}

fn serve(mut stream: TcpStream, received: &Received, unasked: &Unasked, seed: u64) {
    let _ = stream.set_nodelay(true);
    let own = {
        let mut received = received.lock().unwrap();
        received.push(Vec::new());
        received.len() - 1
    };
    let mut kept = Vec::new();
    let mut room = [0; 16 * 1024];
    loop {
        while let Some((message, used)) = lenient(&kept) {
            kept.drain(..used);
            let marker = marker_in(&message.body);
            let odd = marker.contains("odd");
            let bytes = if odd {
                odd_answer(&marker, seed)
            } else {
                let text = result(&marker);
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
                    text.len()
                )
                .into_bytes()
            };
            if stream.write_all(&bytes).is_err() {
                return;
            }
            if marker.contains("more") {
                // Behind the whole answer, so that the connection was kept.
                thread::sleep(Duration::from_millis(20));
                let stolen = result(CANARY);
                let whole = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{stolen}",
                    stolen.len()
                );
                let _ = stream.write_all(whole.as_bytes());
                unasked.lock().unwrap().insert(marker);
            }
        }
        match stream.read(&mut room) {
            Ok(0) | Err(_) => return,
            Ok(some) => {
                received.lock().unwrap()[own].extend_from_slice(&room[..some]);
                kept.extend_from_slice(&room[..some]);
            }
        }
    }
}

/// Sends these pieces, and gives everything that comes back.
fn converse(address: SocketAddr, pieces: &[Vec<u8>], ends: bool) -> Vec<u8> {
    let mut got = Vec::new();
    let Ok(mut stream) = TcpStream::connect(address) else { return got };
    let _ = stream.set_nodelay(true);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for piece in pieces {
        // Whoever was refused may have been closed on.
        if stream.write_all(piece).is_err() {
            break;
        }
        thread::yield_now();
    }
    if ends {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let _ = stream.read_to_end(&mut got);
    got
}

/// Results among the answers of one connection, by the marker that each holds; the other answers.
fn results(mut bytes: &[u8]) -> (Vec<String>, usize) {
    let (mut found, mut others) = (Vec::new(), 0);
    while let Some((message, used)) = lenient(bytes) {
        bytes = &bytes[used..];
        match find(&message.body, b"\"result\"") {
            Some(_) => found.push(marker_in(&message.body)),
            None => others += 1,
        }
    }
    (found, others)
}

/// Messages in these bytes.
fn count(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some((_, used)) = lenient(bytes) {
        (count, bytes) = (count + 1, &bytes[used..]);
    }
    count
}

/// Runs `case` for every number below `count`, on several threads.
fn all(count: usize, case: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    case(number);
                }
            });
        }
    });
}

struct Bodies(HashMap<Vec<u8>, usize>);

impl Sink for Bodies {
    fn entry(&mut self, _place: &Place, entry: &EntryView<'_>) {
        if entry.kind() == Some(Kind::Request) {
            let body = entry.part(PartKind::Body).unwrap_or_default().to_vec();
            *self.0.entry(body).or_default() += 1;
        }
    }
}

/// How httparse reads the head; the body is what its one `Content-Length` says.
fn strict(bytes: &[u8]) -> Message {
    let mut storage = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut storage);
    let parsed = request.parse(bytes).expect("httparse reads what went upstream");
    let httparse::Status::Complete(used) = parsed else { panic!("httparse wants more") };
    let version = format!("HTTP/1.{}", request.version.unwrap());
    let line = vec![request.method.unwrap().to_owned(), request.path.unwrap().to_owned(), version];
    let fields: Vec<(String, String)> = request
        .headers
        .iter()
        .map(|field| (field.name.to_ascii_lowercase(), text(field.value)))
        .collect();
    let named = |name: &str| fields.iter().filter(|(found, _)| found == name).count();
    assert_eq!((named("host"), named("transfer-encoding")), (1, 0), "{fields:?}");
    assert!(named("content-length") <= 1, "{fields:?}");
    let mut message = Message { line, fields, body: Vec::new() };
    let length = message.field("content-length").map_or(0, |value| value.parse().unwrap());
    message.body = bytes[used..used + length].to_vec();
    message
}

/// How Node's parser reads each of these connections; `expected` is how many requests the other parsers
/// read.
fn llhttp(connections: &[Vec<u8>], expected: &[usize]) -> Vec<Vec<Message>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/desync/llhttp.js");
    let mut node = Command::new("node")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node; see tests/setup.sh");
    let mut lines = BufReader::new(node.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], first["listening"].as_u64().unwrap() as u16));
    let mut ports: BTreeMap<u64, usize> = BTreeMap::new();
    for (index, bytes) in connections.iter().enumerate() {
        // One after the other: a port may come twice, so what it said before is read before.
        let mut stream = TcpStream::connect(address).unwrap();
        ports.insert(u64::from(stream.local_addr().unwrap().port()), index);
        stream.write_all(bytes).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // Node lets go of what waits when the other side ends first.
        let (mut got, mut room) = (Vec::new(), [0; 16 * 1024]);
        while memchr::memmem::find_iter(&got, b"HTTP/1.1 ").count() < expected[index] {
            match stream.read(&mut room) {
                Ok(some) if some > 0 => got.extend_from_slice(&room[..some]),
                _ => break,
            }
        }
    }
    assert_eq!(ports.len(), connections.len(), "every connection has its own port");
    drop(node.stdin.take());
    let mut read = vec![Vec::new(); connections.len()];
    for line in lines {
        let said: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let connection = ports[&said["port"].as_u64().unwrap()];
        assert!(said["fault"].is_null(), "llhttp: {said} in {:?}", text(&connections[connection]));
        let words = |value: &Value| value.as_str().unwrap().to_owned();
        let fields = said["fields"].as_array().unwrap();
        read[connection].push(Message {
            line: vec![words(&said["method"]), words(&said["url"]), "HTTP/1.1".to_owned()],
            fields: fields
                .chunks(2)
                .map(|pair| (words(&pair[0]).to_ascii_lowercase(), words(&pair[1])))
                .collect(),
            body: words(&said["body"]).chars().map(|c| c as u8).collect(),
        });
    }
    node.wait().unwrap();
    read
}

// Checked against the mutants "a line feed alone ends the line of a chunk", "of a length and a coding the
// length counts", "… the coding counts", "what stands behind a message goes on with it", and "a kept
// connection is not looked at before its next call".
#[test]
fn an_upstream_sees_nothing_that_was_not_judged_and_a_client_nothing_that_is_not_its_own() {
    let cases = setting("STENOGRAPH_DESYNC_CASES").unwrap_or(3000) as usize;
    let (_, seed) = Dice::of_setting("STENOGRAPH_DESYNC_SEED");
    println!("STENOGRAPH_DESYNC_SEED={seed} STENOGRAPH_DESYNC_CASES={cases}");
    let directory = tempfile::tempdir().unwrap();
    let provider = IdentityProvider::start();
    let received = Received::default();
    let unasked = Unasked::default();
    let upstream = start_upstream(received.clone(), unasked.clone(), seed);
    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    let more = "[limits]\nhead_ms_max = \"500ms\"\nbody_ms_max = \"500ms\"\nidle_ms_max = \"500ms\"\n\
                linger_ms_max = \"100ms\"\nanswer_ms_max = \"1s\"\n";
    let path = directory.path();
    let mut gateway =
        Gateway::prepare(&binary, path, &provider, upstream, "[0, 1]", "written", more);
    gateway.few_rules(FEW_RULES);
    gateway.start();
    let token = provider.token("alice", &["engineering"], RESOURCE);

    // One flaw each.
    let flaws = single_flaws(&token);
    all(flaws.len(), |number| {
        let (marker, bytes) = &flaws[number];
        let got = converse(gateway.address, std::slice::from_ref(bytes), true);
        let (found, _) = results(&got);
        assert!(found.is_empty() || found == [&marker[..]], "flaw {number}: {found:?}");
        let plain = proper(bytes, false).is_some_and(|(body, _)| marker_in(&body) == *marker);
        assert!(found.is_empty() || plain, "flaw {number} passed: {}", text(bytes));
    });

    // Odd requests.
    let (passed, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    all(cases, |number| {
        let mut dice = Dice(seed.wrapping_add(number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let pieces = conversation(&token, number, &mut dice);
        let got = converse(gateway.address, &pieces, !dice.once_in(8));
        assert!(find(&got, CANARY.as_bytes()).is_none(), "case {number}: {}", text(&got));
        let (found, others) = results(&got);
        // What was answered was written as nobody can read otherwise, and so was all in front of it. The
        // markers are those of the bodies as they were sent: a changed byte may stand in a marker too.
        let (sent, mut at, mut written) = (pieces.concat(), 0, Vec::new());
        while let Some((body, used)) = proper(&sent[at..], false) {
            written.push(marker_in(&body));
            at += used;
        }
        let mut rest = written.iter();
        for marker in &found {
            let own = rest.any(|next| next == marker);
            assert!(own, "case {number}: {marker} of {found:?} passed: {}", text(&sent));
        }
        passed.fetch_add(found.len(), Ordering::Relaxed);
        refused.fetch_add(others, Ordering::Relaxed);
    });

    // Odd answers: three calls on one connection, the first or the second answered oddly.
    let (own, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    all(cases / 3, |number| {
        let odd = number % 3;
        let markers: Vec<String> = (0..4)
            .map(|part| format!("an{number:06}p{part}{}", if part == odd { "odd" } else { "" }))
            .collect();
        let last = "Connection: close\r\n";
        let bytes: Vec<u8> = markers
            .iter()
            .enumerate()
            .flat_map(|(part, marker)| good(&token, marker, if part == 3 { last } else { "" }))
            .collect();
        let got = converse(gateway.address, &[bytes], false);
        assert!(find(&got, CANARY.as_bytes()).is_none(), "answer {number}: {}", text(&got));
        let (found, others) = results(&got);
        let mut rest = markers.iter();
        for marker in &found {
            assert!(rest.any(|next| next == marker), "answer {number}: {found:?} of {markers:?}");
        }
        let answer = odd_answer(markers.get(odd).expect("of three"), seed);
        // Events go out one by one, before the end of the answer is seen.
        if find(&answer, b"text/event-stream").is_none()
            && answer.starts_with(b"HTTP/1.1 200 OK\r\n")
            && find(&answer, b"HTTP/1.1 200 OK\r\n\r\n") != Some(0)
            && proper(&answer, true).is_none()
        {
            assert!(!found.contains(&markers[odd]), "answer {number} passed: {}", text(&answer));
        }
        // Calls with good answers are answered, but for those whose connection an odd one took along.
        assert!(found.len() + others <= 4, "answer {number}: {}", text(&got));
        own.fetch_add(found.len(), Ordering::Relaxed);
        failed.fetch_add(others, Ordering::Relaxed);
    });

    // Answers that nobody asked for, on connections that are kept: the next call gets its own. One after the
    // other, for what arrives behind a call on its way could be its answer.
    for number in 0..16 {
        let markers = [format!("un{number:06}p0more"), format!("un{number:06}p1")];
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (mut kept, mut ledger) = (Vec::new(), Vec::new());
        for marker in &markers {
            stream.write_all(&good(&token, marker, "")).unwrap();
            let (_, body) = support::read_answer(&mut stream, &mut kept, &mut ledger).unwrap();
            assert_eq!(marker_in(&body), *marker, "unasked {number}: {}", text(&body));
            let begun = Instant::now();
            while marker.contains("more") && !unasked.lock().unwrap().contains(marker) {
                assert!(begun.elapsed() < Duration::from_secs(10), "the upstream says no more");
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    assert!(gateway.stop(), "it ends in order");
    let (code, out, err) = gateway.command(&["verify", "--key", &gateway.verifier]);
    assert_eq!(code, 0, "{out}{err}");
    let verifier = VerifierKey::parse(&gateway.verifier).unwrap();
    let checks = Checks { key: Some(&verifier), commitments: true };
    let mut recorded = Bodies(HashMap::new());
    read(&Directory::new(path.join("record")), checks, &mut recorded).unwrap();

    // What arrived, read by three parsers.
    let received = std::mem::take(&mut *received.lock().unwrap());
    let counts: Vec<usize> = received.iter().map(|bytes| count(bytes)).collect();
    let llhttp = llhttp(&received, &counts);
    let mut arrived = 0;
    for (connection, bytes) in received.iter().enumerate() {
        let mut rest = &bytes[..];
        let mut index = 0;
        while let Some((message, used)) = lenient(rest) {
            arrived += 1;
            assert_eq!(strict(rest), message, "httparse: {}", text(rest));
            assert_eq!(llhttp[connection].get(index), Some(&message), "llhttp: {}", text(rest));
            assert!(find(&rest[..used], CANARY.as_bytes()).is_none(), "{}", text(&rest[..used]));
            assert!(message.line[1].starts_with("/mcp"), "{message:?}");
            let known = recorded.0.get_mut(&message.body);
            let known = known.unwrap_or_else(|| panic!("not in the record: {message:?}"));
            assert!(*known > 0, "more often than in the record: {message:?}");
            *known -= 1;
            rest = &rest[used..];
            index += 1;
        }
        assert!(rest.is_empty(), "the rest of a request: {}", text(rest));
        assert_eq!(index, llhttp[connection].len(), "llhttp reads more: {}", text(bytes));
    }
    let [passed, refused, own, failed] =
        [passed, refused, own, failed].map(|count| count.load(Ordering::Relaxed));
    println!(
        "{cases} conversations: {arrived} requests arrived on {} connections, {passed} answered, \
         {refused} refused; {} with an odd answer: {own} results, {failed} errors",
        received.len(),
        cases / 3
    );
    // A test in which nothing passes, or nothing is refused, shows nothing.
    assert!(passed > cases / 2 && refused > cases / 2, "{passed} {refused}");
    assert!(own > cases / 3 && failed > cases / 12, "{own} {failed}");
}
