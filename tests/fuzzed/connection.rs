//! One client connection, played with the shipped machine, a real recorder and a disk in memory.
//!
//! The bytes of an input are sections with 0xfe between them. The first says what goes wrong and when,
//! one byte for each turn; a section that begins with `<` is an answer of the server, given to the next
//! request that reaches it (`<<`: the connection ends behind it); any other is what the client sends. In
//! both, `$T` is a good token and `$L` the number of bytes behind the first empty line.

use std::collections::VecDeque;
use std::sync::LazyLock;

use stenograph::gateway::connection::Event;
use stenograph::gateway::fault::Fault;
use stenograph::guard::policy::IMPLIED;
use stenograph::limits::Limits;
use stenograph::record::Kind;
use stenograph::wire::coding::Coding;

use super::rig::{POISON, Rig, Served};
use super::script::check_record;
use super::stage::{Plan, Recorded, Stage};
use super::{parts, pieces};

/// Bound: sections and turns of one input; more only makes it slow.
const TURNS_MAX: usize = 64;

struct Play {
    trouble: Vec<u8>,
    client: Vec<Vec<u8>>,
    server: Vec<(Vec<u8>, bool)>,
}

static TOKEN: LazyLock<String> = LazyLock::new(|| Stage::new(Plan::default()).token("alice", 600));

impl Play {
    fn read(data: &[u8]) -> Play {
        let mut sections = data.split(|byte| *byte == 0xfe).take(TURNS_MAX);
        let mut play = Play { trouble: Vec::new(), client: Vec::new(), server: Vec::new() };
        play.trouble.extend(sections.next().unwrap_or_default().iter().take(TURNS_MAX));
        for section in sections {
            match section {
                [b'<', b'<', answer @ ..] => play.server.push((filled(answer), true)),
                [b'<', answer @ ..] => play.server.push((filled(answer), false)),
                sent => play.client.push(filled(sent)),
            }
        }
        play
    }

    fn served(&self, sizes: &[usize]) -> VecDeque<Served> {
        let one =
            |(bytes, ends): &(Vec<u8>, bool)| Served { pieces: pieces(bytes, sizes), ends: *ends };
        self.server.iter().map(one).collect()
    }
}

/// The text with `$T` and `$L` filled in.
fn filled(text: &[u8]) -> Vec<u8> {
    let body = memchr::memmem::find(text, b"\r\n\r\n").map_or(0, |at| text.len() - at - 4);
    let mut out = Vec::with_capacity(text.len() + TOKEN.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'$', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let value = match rest.get(1) {
            Some(b'T') => TOKEN.clone().into_bytes(),
            Some(b'L') => body.to_string().into_bytes(),
            _ => {
                out.push(b'$');
                rest = &rest[1..];
                continue;
            }
        };
        out.extend_from_slice(&value);
        rest = &rest[2..];
    }
    out.extend_from_slice(rest);
    out
}

/// Whether a rule of the stage finds the planted value as a word of its own in `text`.
fn holds_planted(text: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    memchr::memmem::find_iter(text.as_bytes(), "MASKME-").any(|at| {
        let bytes = text.as_bytes();
        let before = at.checked_sub(1).and_then(|at| bytes.get(at)).is_some_and(is_word);
        let mut value = bytes[at + 7..].iter();
        let is_hit = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let found = value.clone().take(12).take_while(|byte| is_hit(byte)).count() == 12;
        !before && found && !value.nth(12).is_some_and(is_word)
    })
}

/// Every string of a JSON text, names too.
fn strings(value: &serde_json::Value, each: &mut dyn FnMut(&str)) {
    match value {
        serde_json::Value::String(text) => each(text),
        serde_json::Value::Array(items) => items.iter().for_each(|item| strings(item, each)),
        serde_json::Value::Object(members) => members.iter().for_each(|(name, item)| {
            each(name);
            strings(item, each);
        }),
        _ => {}
    }
}

/// Nothing leaves that nobody sent: what spare memory of the receive buffers was filled with.
fn look_at_memory(rig: &Rig, play: &Play) {
    // Why four: that many of it in a row are in no text in UTF-8; an input may hold them all the same.
    let poisoned = |bytes: &[u8]| bytes.windows(4).any(|four| four == [POISON; 4]);
    let server = play.server.iter().map(|(answer, _)| answer);
    if !play.client.iter().chain(server).any(|bytes| poisoned(bytes)) {
        let out = rig.requests.iter().chain([&rig.client_out]);
        assert!(!{ out }.any(|bytes| poisoned(bytes)), "memory that nobody wrote");
    }
}

/// What another reader says of a message that reached the server: a grant allows it, and nothing planted
/// is in it.
fn look_at_request(request: &[u8]) {
    let end = memchr::memmem::find(request, b"\r\n\r\n").expect("a whole head") + 4;
    let head = std::str::from_utf8(&request[..end]).unwrap_or_default();
    assert!(!head.contains(&**TOKEN), "the caller's token goes nowhere");
    if !request.starts_with(b"POST ") {
        assert_eq!(request.len(), end, "only POST has a body");
        return;
    }
    let message: serde_json::Value = serde_json::from_slice(&request[end..]).expect("one message");
    if let Some(method) = message.get("method") {
        let method = method.as_str().expect("a name");
        let tool = message["params"]["name"].as_str().unwrap_or_default();
        let granted = tool == "echo" || tool.starts_with("generate_") && !tool.contains('/');
        assert!(
            IMPLIED.contains(&method) || method == "tools/call" && granted,
            "nobody granted {method} {tool}"
        );
    }
    strings(&message, &mut |text| assert!(!holds_planted(text), "a secret goes to the server"));
}

/// Everything that left the gateway stands in the record.
fn look_at_record(rig: &Rig, record: &[Recorded]) {
    check_record(record);
    // Bytes that are no text look alike on both sides.
    let texts: Vec<_> = record.iter().map(|entry| (entry.kind, entry.text())).collect();
    for request in &rig.requests {
        let end = memchr::memmem::find(request, b"\r\n\r\n").expect("a whole head") + 4;
        let body = String::from_utf8_lossy(&request[end..]);
        let told = |(kind, text): &(Kind, String)| *kind == Kind::Request && text.contains(&*body);
        assert!(texts.iter().any(told), "forwarded and not recorded: {body}");
    }
    let out = String::from_utf8_lossy(&rig.client_out).into_owned();
    // A head follows the body before it without a line end.
    for line in out.split("HTTP/1.1 ").flat_map(|answer| answer.split(['\r', '\n'])) {
        let line = line.strip_prefix("data: ").unwrap_or(line);
        if line.starts_with("{\"") {
            let message: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            // A refusal of ours is recorded by its reason, not by its text.
            let told = match message["error"]["data"]["exchange"].as_str() {
                Some(id) => record.iter().any(|one| one.exchange.unwrap().to_string() == id),
                None => texts.iter().any(|(_, text)| text.contains(line)),
            };
            assert!(told, "released and not recorded: {line}");
            strings(&message, &mut |text| assert!(!holds_planted(text), "a secret is released"));
        }
    }
}

fn stage() -> Stage {
    // All plays come from one address; none of their refusals may end as a mere count.
    let limits = Limits {
        refusals_each_max: u64::MAX,
        body_bytes_max: 16 * 1024,
        answer_bytes_max: 16 * 1024,
        event_bytes_max: 4 * 1024,
        ..Limits::default()
    };
    Stage::new(Plan { limits, decode: Coding::ALL.to_vec(), ..Plan::default() })
}

fn later(stage: &mut Stage, ms: u64) {
    stage.now.utc_ns += ms * 1_000_000;
    stage.now.mono_ns += ms * 1_000_000;
}

fn wake(rig: &mut Rig, stage: &mut Stage) {
    if !rig.closed {
        rig.event(stage, Event::Wake);
    }
    rig.drive(stage);
}

/// The client goes, time passes, and nothing is left.
fn end(mut rig: Rig, stage: &mut Stage) {
    rig.client_reads = true;
    rig.upstream_reads = true;
    rig.client_ends();
    rig.drive(stage);
    for _ in 0..8 {
        later(stage, 1_000_000);
        wake(&mut rig, stage);
    }
    assert!(rig.closed, "still open after eight thousand seconds");
    drop(rig);
    assert_eq!(stage.env.budget.used_bytes(), 0, "memory that was not given back");
}

/// One conversation. Mutants: a reservation that is not given back; any tool is granted; what arrives behind
/// an unfinished request takes its place.
pub fn run(input: &[u8]) {
    let (data, sizes) = parts(input);
    let play = Play::read(data);
    match play.trouble.is_empty() {
        true => whole_and_cut(&play, &sizes),
        false => in_trouble(&play, &sizes),
    }
}

/// What one play came to, without the names of its exchanges and without what may depend on how much of
/// what nobody asked for had arrived when the exchange was over.
fn played(play: &Play, cut: Option<&[usize]>) -> (String, Vec<String>, Vec<String>) {
    let mut stage = stage();
    let mut rig = Rig::new(&mut stage);
    let sizes = cut.unwrap_or_default();
    rig.server = Some(play.served(sizes));
    let sent = play.client.concat();
    pieces(&sent, sizes).iter().for_each(|piece| rig.client(piece));
    rig.drive(&mut stage);
    stage.settle();
    let record = stage.record();
    look_at_memory(&rig, play);
    rig.requests.iter().for_each(|request| look_at_request(request));
    look_at_record(&rig, &record);
    let mut ids: Vec<String> = record.iter().map(|one| one.exchange.unwrap().to_string()).collect();
    ids.dedup();
    let without_ids = |text: &[u8]| {
        let text = String::from_utf8_lossy(text).into_owned();
        ids.iter().enumerate().fold(text, |text, (at, id)| text.replace(id, &format!("<{at}>")))
    };
    let entries = record.iter().filter(|entry| entry.kind != Kind::End).map(|entry| {
        let head = format!("{:?} {} {} ", entry.kind, entry.ordinal, entry.status);
        head + &without_arrival(&without_ids(entry.text().as_bytes()))
    });
    let entries = entries.collect();
    let out = without_ids(&rig.client_out);
    let requests = rig.requests.iter().map(|request| without_ids(request)).collect();
    end(rig, &mut stage);
    (out, requests, entries)
}

/// How much of an upstream's broken answer is kept back depends on how much of it is there when it is found broken.
fn without_arrival(text: &str) -> String {
    const KEPT: &str = ",\"kept_back_bytes\":";
    match text.split_once(KEPT) {
        Some((before, behind)) if before.contains("\"reason\":\"upstream-") => {
            before.to_owned() + behind.trim_start_matches(|digit: char| digit.is_ascii_digit())
        }
        _ => text.to_owned(),
    }
}

fn whole_and_cut(play: &Play, sizes: &[usize]) {
    let whole = played(play, None);
    let cut = played(play, Some(sizes));
    // A refusal in front of a body closes the connection only where that body is not there yet: what
    // follows is then answered by one of the two.
    const CLOSE: &str = "Connection: close\r\n";
    if whole.0 != cut.0 && (whole.0.contains(CLOSE) || cut.0.contains(CLOSE)) {
        let (whole, cut) = (whole.0.replace(CLOSE, ""), cut.0.replace(CLOSE, ""));
        assert!(whole.starts_with(&cut) || cut.starts_with(&whole), "{whole}\n{cut}");
        return;
    }
    assert_eq!(whole.0, cut.0, "cuts change what the client is sent");
    assert_eq!(whole.1, cut.1, "cuts change what the server is sent");
    assert_eq!(whole.2, cut.2, "cuts change the record");
}

/// Turn by turn: a piece arrives, then something happens.
fn in_trouble(play: &Play, sizes: &[usize]) {
    let mut stage = stage();
    let mut rig = Rig::new(&mut stage);
    rig.server = Some(play.served(sizes));
    let mut sent: VecDeque<_> = pieces(&play.client.concat(), sizes).into();
    let mut failed = false;
    for what in &play.trouble {
        if let Some(piece) = sent.pop_front() {
            rig.client(&piece);
        }
        if rig.closed {
            break;
        }
        match what % 13 {
            0 => {}
            1 => later(&mut stage, 100 * u64::from(*what)),
            2 => later(&mut stage, 10_000 * u64::from(*what)),
            3 => rig.client_ends(),
            4 => rig.client_reads = !rig.client_reads,
            5 => rig.upstream_reads = !rig.upstream_reads,
            6 => stage.deny("alice"),
            7 => stage.change(|plan| plan.tools = vec!["nothing"]),
            8 => {
                stage.fail(!failed);
                failed = true;
            }
            9 => stage.env.draining = true,
            10 => stage.env.drained = stage.env.draining,
            11 if rig.is_linked() => rig.upstream_breaks(&mut stage),
            12 => {
                let server = rig.server.take();
                rig.drive(&mut stage);
                if !rig.closed && rig.opens.pop_front().is_some() {
                    rig.upstream_refused(&mut stage, Fault::UpstreamBusy);
                }
                rig.server = server;
            }
            _ => {}
        }
        wake(&mut rig, &mut stage);
    }
    sent.iter().for_each(|piece| rig.client(piece));
    wake(&mut rig, &mut stage);
    look_at_memory(&rig, play);
    rig.requests.iter().for_each(|request| look_at_request(request));
    if !failed {
        stage.settle();
        look_at_record(&rig, &stage.record());
    }
    end(rig, &mut stage);
}
