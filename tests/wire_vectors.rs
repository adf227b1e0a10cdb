//! The vector files of `tests/vectors`, each case whole and at every cut, and the recorded exchanges
//! of real clients and servers.

#[path = "wire/vectors.rs"]
mod vectors;

use std::fs;
use std::path::Path;

use stenograph::limits::Limits;
use stenograph::types::{Direction, Span};
use stenograph::wire::body::{Decoder, Step};
use stenograph::wire::head::{
    self, Fields, Framing, Media, Method, Name, Read, read_request, read_response,
};
use stenograph::wire::mcp::{self, Class, ListKind, McpRule, Message, TargetKind};
use stenograph::wire::{json, sse};
use vectors::{Case, cases};

/// Compares what was said about a case with what is expected: line by line, and the byte of a fault
/// with the mark.
fn compare(case: &Case, said: &[String], fault_at: Option<usize>) {
    assert_eq!(said, case.expected, "{}", case.name);
    if let Some(at) = fault_at {
        assert_eq!(Some(at), case.mark, "{}: byte of the fault", case.name);
    } else {
        assert_eq!(case.mark, None, "{}: marked but not refused", case.name);
    }
}

/// Every cut of a short input; of a long one the first and last and some between.
fn cuts(len: usize) -> Vec<usize> {
    (0..len).filter(|at| len < 2000 || at % 97 == 0 || *at > len - 40 || *at < 40).collect()
}

fn framing_text(framing: Framing) -> String {
    match framing {
        Framing::Empty => "empty".into(),
        Framing::Length(length) => format!("length {length}"),
        Framing::Chunked => "chunked".into(),
        Framing::UntilClose => "until-close".into(),
    }
}

fn keep_text(keep_alive: bool) -> &'static str {
    if keep_alive { "keep" } else { "close" }
}

fn request_text(bytes: &[u8], fields: &mut Fields) -> (String, Option<usize>) {
    match read_request(bytes, &Limits::default(), fields) {
        Read::More => ("more".into(), None),
        Read::Broken(fault) => (fault.rule.as_str().into(), Some(fault.at as usize)),
        Read::Done { value, used } => {
            let text = |span: Span| String::from_utf8_lossy(span.of(bytes)).into_owned();
            let mut path = text(value.path);
            if path.len() > 100 {
                path = "/…".into();
            }
            let query = value.query.map(|span| format!(" ?{}", text(span))).unwrap_or_default();
            let wait = if value.expect_continue { " continue" } else { "" };
            let said = format!(
                "{} {path}{query} {} {}{wait} used {used} fields {}",
                value.method.as_str(),
                framing_text(value.framing),
                keep_text(value.keep_alive),
                fields.len()
            );
            (said, None)
        }
    }
}

fn response_text(bytes: &[u8], fields: &mut Fields) -> (String, Option<usize>) {
    match read_response(bytes, &Limits::default(), Method::Post, fields) {
        Read::More => ("more".into(), None),
        Read::Broken(fault) => (fault.rule.as_str().into(), Some(fault.at as usize)),
        Read::Done { value, used } => {
            let said = format!(
                "{} {} {} used {used} fields {}",
                value.status,
                framing_text(value.framing),
                keep_text(value.keep_alive),
                fields.len()
            );
            (said, None)
        }
    }
}

/// Mutants this was checked against: folding looked for from the second field on; a bare line feed
/// let pass; duplicate routing fields and look-alike names let pass; `chunked` as the end of another
/// coding; path segments not judged.
fn heads(file: &str, read: fn(&[u8], &mut Fields) -> (String, Option<usize>)) {
    for case in cases(file) {
        let whole = read(&case.input, &mut Fields::new());
        compare(&case, std::slice::from_ref(&whole.0), whole.1);
        // With one storage that remembers, and anew at each cut.
        let mut warm = Fields::new();
        let mut decided = false;
        for cut in cuts(case.input.len()) {
            let cold = read(&case.input[..cut], &mut Fields::new());
            assert!(cold.0 == "more" || cold == whole, "{} cut at {cut}: {cold:?}", case.name);
            if !decided {
                let answer = read(&case.input[..cut], &mut warm);
                assert_eq!(answer, cold, "{} cut at {cut}, warm", case.name);
                decided = answer.0 != "more";
            }
        }
        if !decided {
            assert_eq!(read(&case.input, &mut warm), whole, "{} warm", case.name);
        }
    }
}

#[test]
fn request_heads() {
    heads("http1/requests.txt", request_text);
}

#[test]
fn response_heads() {
    heads("http1/responses.txt", response_text);
}

/// Payload and how it ended, reading pieces of `size` bytes.
fn chunks_text(mut decoder: Decoder, input: &[u8], size: usize) -> (String, Option<usize>) {
    let mut payload = Vec::new();
    let mut at = 0;
    let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
    while at < input.len() {
        let piece = &input[at..input.len().min(at + size)];
        match decoder.step(piece) {
            Ok(Step::Data(span)) => {
                payload.extend_from_slice(span.of(piece));
                at += span.end();
            }
            Ok(Step::Skip(used)) => at += used,
            Ok(Step::More) => panic!("there was input"),
            Ok(Step::End { used }) => {
                return (format!("payload {} used {}", text(&payload), at + used), None);
            }
            Err(fault) => return (fault.rule.as_str().into(), Some(fault.at as usize)),
        }
    }
    match decoder.is_done() {
        true => (format!("payload {} used {at}", text(&payload)), None),
        false => (format!("more {}", text(&payload)), None),
    }
}

#[test]
fn chunked_bodies() {
    for case in cases("http1/chunks.txt") {
        type Make = fn(Framing) -> Decoder;
        for (who, make) in [("request", Decoder::new as Make), ("response", Decoder::of_response)] {
            let whole = chunks_text(make(Framing::Chunked), &case.input, case.input.len());
            for size in 1..case.input.len() {
                let cut = chunks_text(make(Framing::Chunked), &case.input, size);
                assert_eq!(cut, whole, "{} in pieces of {size}", case.name);
            }
            let expected = case.expected.iter().find_map(|line| {
                line.strip_prefix(&format!("{who}: ")).or(line.strip_prefix("both: "))
            });
            let expected = expected.unwrap_or_else(|| panic!("{}: nothing for {who}", case.name));
            let (rule, at) = match expected.split_once(" at ") {
                Some((rule, at)) => (rule, Some(at.parse().expect("an offset"))),
                None => (expected, whole.1.and(case.mark)),
            };
            assert_eq!((whole.0.as_str(), whole.1), (rule, at), "{} as {who}", case.name);
        }
    }
}

fn event_text(event: &sse::Event) -> String {
    let text = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
    let mut said = "event".to_string();
    if let Some(name) = &event.name {
        said += &format!(" name {}", text(name));
    }
    if let Some(id) = &event.id {
        said += &format!(" id {}", text(id));
    }
    if let Some(ms) = event.retry_ms {
        said += &format!(" retry {ms}");
    }
    if let Some(data) = &event.data {
        said += &format!(" data {}", text(data));
    }
    said
}

fn stream_text(input: &[u8], size: usize) -> (Vec<String>, Option<usize>) {
    let limits = Limits::default();
    let (mut reader, mut said) = (sse::Reader::new(), Vec::new());
    for piece in input.chunks(size) {
        let mut at = 0;
        while at < piece.len() {
            match reader.read(&piece[at..], &limits) {
                Ok((used, item)) => {
                    at += used;
                    said.extend(item.map(|item| match item {
                        sse::Item::Comment => "comment".to_string(),
                        sse::Item::Event(event) => event_text(&event),
                    }));
                }
                Err(fault) => {
                    said.push(fault.rule.as_str().to_string());
                    return (said, Some(fault.at as usize));
                }
            }
        }
    }
    if reader.unterminated_bytes() > 0 || said.is_empty() {
        said.push(format!("left {}", reader.unterminated_bytes()));
    }
    (said, None)
}

#[test]
fn event_streams() {
    for case in cases("sse/streams.txt") {
        let whole = stream_text(&case.input, case.input.len());
        compare(&case, &whole.0, whole.1);
        for size in 1..case.input.len().min(300) {
            assert_eq!(stream_text(&case.input, size), whole, "{} in {size}s", case.name);
        }
    }
}

#[test]
fn json_texts() {
    let mut scratch = json::Scratch::new();
    for case in cases("json/texts.txt") {
        let read = json::read(&case.input, &Limits::default(), &mut scratch, &mut json::Unwatched);
        let said = read.map_or_else(|fault| fault.rule.as_str(), |()| "ok");
        compare(&case, &[said.to_string()], read.err().map(|fault| fault.at as usize));
        stenograph::wire::check::json(&case.input);
    }
}

fn kind_text(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Tool => "tool",
        TargetKind::Prompt => "prompt",
        TargetKind::Resource => "resource",
        TargetKind::Task => "task",
    }
}

fn message_text(bytes: &[u8], message: &Message) -> String {
    let mut said = format!("ok {}", message.class.as_str());
    if message.method.is_some() {
        said += &format!(" {}", message.method_name(bytes));
    }
    for target in &message.targets {
        said += &format!(" {}:{}", kind_text(target.kind), target.text.decode(bytes));
    }
    if message.targets_unclear {
        said += " unclear";
    }
    for list in &message.lists {
        let kind = match list.kind {
            ListKind::Tools => "tools",
            ListKind::Prompts => "prompts",
            ListKind::Resources => "resources",
            ListKind::ResourceTemplates => "resourceTemplates",
        };
        let name = |item: &mcp::ListItem| {
            item.name.map_or("-".into(), |name| name.decode(bytes).into_owned())
        };
        let names: Vec<_> = list.items.iter().map(name).collect();
        said += &format!(" {kind}[{}]", names.join(" "));
    }
    said
}

/// Mutants this was checked against: no look-alike check; look-alikes compared by ASCII case only;
/// members of any depth taken for routed ones; a value after a refused name taken for the member
/// before it; ids up to 2^53; `-0` as an id; requests without an id.
#[test]
fn messages() {
    let mut refused = 0;
    for (file, from) in
        [("mcp/from-client.txt", Direction::Request), ("mcp/from-server.txt", Direction::Response)]
    {
        let mut scratch = json::Scratch::new();
        for case in cases(file) {
            let read = mcp::read(&case.input, from, &Limits::default(), &mut scratch);
            let said = match &read {
                Ok(message) => message_text(&case.input, message),
                Err(fault) => match fault.id {
                    Some(id) => {
                        let id = String::from_utf8_lossy(id.span.of(&case.input));
                        format!("{} id {id}", fault.rule.as_str())
                    }
                    None => fault.rule.as_str().to_string(),
                },
            };
            refused += read.is_err() as u32;
            compare(&case, &[said], read.err().map(|fault| fault.at as usize));
            stenograph::wire::check::message(&case.input);
        }
    }
    assert!(refused >= 100, "{refused} ambiguous messages");
}

/// Reads a whole body out of `bytes`; a stream that the client cut short ends where it ends.
fn payload(framing: Framing, bytes: &[u8]) -> Vec<u8> {
    let mut decoder = Decoder::of_response(framing);
    let (mut payload, mut at) = (Vec::new(), 0);
    loop {
        match decoder.step(&bytes[at..]).expect("a good body") {
            Step::Data(span) => {
                payload.extend_from_slice(&bytes[at..][span.range()]);
                at += span.end();
            }
            Step::Skip(used) => at += used,
            Step::More => return payload,
            Step::End { used } => {
                assert_eq!(at + used, bytes.len(), "nothing follows the body");
                return payload;
            }
        }
    }
}

fn said_of(bytes: &[u8], from: Direction) -> String {
    match mcp::read(bytes, from, &Limits::default(), &mut json::Scratch::new()) {
        Ok(message) => {
            let text = message_text(bytes, &message);
            text.strip_prefix("ok ").expect("written above").to_string()
        }
        Err(fault) => fault.rule.as_str().to_string(),
    }
}

/// One line for each recorded file: the head, and what each message in it is.
fn sample_text(name: &str, bytes: &[u8]) -> String {
    let limits = Limits::default();
    let mut fields = Fields::new();
    let (head, framing, used, from) = if name.ends_with(".req") {
        let Read::Done { value, used } = read_request(bytes, &limits, &mut fields) else {
            panic!("{name}: a good head")
        };
        (value.method.as_str().to_string(), value.framing, used, Direction::Request)
    } else {
        let read = read_response(bytes, &limits, Method::Post, &mut fields);
        let Read::Done { value, used } = read else { panic!("{name}: a good head: {read:?}") };
        (value.status.to_string(), value.framing, used, Direction::Response)
    };
    let body = payload(framing, &bytes[used..]);
    let media = fields.get(bytes, Name::ContentType).map_or(Media::Other, head::media);
    let mut said = format!("{name}: {head}");
    match media {
        Media::Json if !body.is_empty() => said += &format!(" json [{}]", said_of(&body, from)),
        Media::EventStream => {
            for size in [1, 7, body.len()] {
                assert_eq!(stream_text(&body, size), stream_text(&body, body.len()), "{name}");
            }
            let mut reader = sse::Reader::new();
            let mut at = 0;
            while let (used, Some(item)) = reader.read(&body[at..], &limits).expect("a good stream")
            {
                at += used;
                let sse::Item::Event(event) = item else { continue };
                said += &match (event.name.as_deref(), event.data) {
                    (Some(b"endpoint"), _) => " endpoint".to_string(),
                    (_, Some(data)) if data.is_empty() => " priming".to_string(),
                    (_, Some(data)) => format!(" event [{}]", said_of(&data, from)),
                    (_, None) => " fields".to_string(),
                };
            }
            assert_eq!(reader.unterminated_bytes(), 0, "{name}");
        }
        _ => said += &format!(" other {}", body.len()),
    }
    said
}

#[test]
fn recorded_exchanges() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/mcp");
    let mut names: Vec<_> = fs::read_dir(folder.join("samples"))
        .expect("the samples")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("ASCII"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 132);
    let said: Vec<_> = names
        .iter()
        .map(|name| {
            let bytes = fs::read(folder.join("samples").join(name)).expect("readable");
            stenograph::wire::check::head(&bytes[..bytes.len().min(700)]);
            sample_text(name, &bytes)
        })
        .collect();
    let expected = fs::read_to_string(folder.join("samples.txt")).expect("samples.txt");
    let expected: Vec<_> = expected.lines().collect();
    for (said, expected) in said.iter().zip(&expected) {
        assert_eq!(said, expected);
    }
    assert_eq!(said.len(), expected.len(), "{}", said.join("\n"));
}

/// The rules of the samples that must not pass.
#[test]
fn recorded_attacks_are_refused() {
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/mcp/samples");
        let bytes = fs::read(path.join(name)).expect("readable");
        let at = memchr::memmem::find(&bytes, b"\r\n\r\n").expect("a head") + 4;
        let read = mcp::read(
            &bytes[at..],
            Direction::Request,
            &Limits::default(),
            &mut json::Scratch::new(),
        );
        read.map(|message| message.class).map_err(|fault| fault.rule)
    };
    assert_eq!(read("56-neg-batch-accepted-node.req"), Err(McpRule::Batch));
    assert_eq!(
        read("63-neg-duplicate-method-key-executed.req"),
        Err(McpRule::Json(json::JsonRule::DuplicateKey))
    );
    assert_eq!(read("33-modern-tools-call-json.req"), Ok(Class::Request));
}
