//! Parser agreement: what the gateway reads in a message that it lets through, everybody behind it reads
//! there too.
//!
//! Generated and mutated messages go to the strict pass. Each one that it accepts is read by CPython's
//! json, Node's JSON.parse, serde_json and jiter (the parser of the Python SDK), each as its users call
//! it. Method, id, name, URI, task id, reference, request state and cursor must be the same to all.
//!
//! `STENOGRAPH_AGREEMENT_TEXTS=…` sets how many texts are made (100000), `STENOGRAPH_AGREEMENT_SEED=…`
//! repeats those of an earlier run.

#[path = "support/dice.rs"]
mod dice;
#[path = "agreement/texts.rs"]
mod texts;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use jiter::JsonValue;
use serde_json::Value;
use stenograph::limits::Limits;
use stenograph::types::{Direction, Span};
use stenograph::wire::json::{self, Text, Visitor};
use stenograph::wire::mcp::{self, Message, TargetKind};

use dice::{Dice, setting};

/// Where the members stand that policies, sessions and tasks rest on.
const PLACES: &[&str] = &[
    "method",
    "id",
    "params/name",
    "params/uri",
    "params/taskId",
    "params/cursor",
    "params/requestState",
    "params/protocolVersion",
    "params/ref/type",
    "params/ref/name",
    "params/ref/uri",
    "result/requestState",
    "result/nextCursor",
    "result/task/taskId",
    "result/tools/0/name",
    "result/tools/1/name",
    "result/resources/0/uri",
    "result/prompts/0/name",
    "error/message",
];

/// What one parser says of one text: place and value, in the order of [`PLACES`].
type Said = BTreeMap<String, String>;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn string(text: &str) -> String {
    format!("s{}", hex(text.as_bytes()))
}

/// Reads a line of `read.py` or `read.js`.
fn said(line: &str) -> Result<Said, String> {
    if let Some(fault) = line.strip_prefix('!') {
        return Err(fault.trim().to_owned());
    }
    let pairs = line.split(' ').filter_map(|pair| pair.split_once('='));
    Ok(pairs.map(|(place, value)| (place.to_owned(), value.to_owned())).collect())
}

/// What a program says of all texts.
fn said_by(program: &str, script: &str, all: &[Vec<u8>]) -> Vec<Result<Said, String>> {
    let mut child = Command::new(program)
        .arg(format!("{}/tests/agreement/{script}", env!("CARGO_MANIFEST_DIR")))
        .args(PLACES)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; see tests/setup.sh"));
    let mut input = child.stdin.take().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let lines = std::thread::scope(|scope| {
        scope.spawn(move || {
            for text in all {
                input.write_all((hex(text) + "\n").as_bytes()).unwrap();
            }
        });
        output.lines().map(|line| said(&line.unwrap())).collect::<Vec<_>>()
    });
    assert!(child.wait().unwrap().success());
    assert_eq!(lines.len(), all.len(), "{program}: one line for each text");
    lines
}

fn by_serde(text: &[u8]) -> Result<Said, String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let mut said = Said::new();
    for place in PLACES {
        let found = value.pointer(&format!("/{place}"));
        let Some(found) = found else { continue };
        let value = match found {
            Value::String(text) => string(text),
            Value::Bool(_) | Value::Null => "l".to_owned(),
            Value::Number(number) if *place == "id" && !number.is_f64() => format!("n{number}"),
            Value::Number(_) => "x".to_owned(),
            Value::Array(_) => "[".to_owned(),
            Value::Object(_) => "{".to_owned(),
        };
        said.insert((*place).to_owned(), value);
    }
    Ok(said)
}

fn by_jiter(text: &[u8]) -> Result<Said, String> {
    // Not a number is refused here as by the others that speak JSON; the SDK lets it in.
    let value = JsonValue::parse(text, false).map_err(|error| error.to_string())?;
    let mut said = Said::new();
    for place in PLACES {
        let mut found = Some(&value);
        for step in place.split('/') {
            found = match found {
                // Of two members of one name the SDK takes the last.
                Some(JsonValue::Object(all)) => {
                    all.iter().rev().find(|(name, _)| name == step).map(|(_, value)| value)
                }
                Some(JsonValue::Array(all)) => {
                    step.parse().ok().and_then(|index: usize| all.get(index))
                }
                _ => None,
            };
        }
        let value = match found {
            None => continue,
            Some(JsonValue::Str(text)) => string(text),
            Some(JsonValue::Bool(_) | JsonValue::Null) => "l".to_owned(),
            Some(JsonValue::Int(number)) if *place == "id" => format!("n{number}"),
            Some(JsonValue::Array(_)) => "[".to_owned(),
            Some(JsonValue::Object(_)) => "{".to_owned(),
            Some(_) => "x".to_owned(),
        };
        said.insert((*place).to_owned(), value);
    }
    Ok(said)
}

/// Watches the strict pass and keeps what stands at the places.
struct Watch<'a> {
    bytes: &'a [u8],
    /// For each open container: the name or the number of the value that comes next.
    steps: Vec<Step>,
    said: Said,
}

enum Step {
    Name(String),
    Index(usize),
}

impl Watch<'_> {
    fn value(&mut self, value: String) {
        let place: Vec<String> = self
            .steps
            .iter()
            .map(|step| match step {
                Step::Name(name) => name.clone(),
                Step::Index(index) => index.to_string(),
            })
            .collect();
        let place = place.join("/");
        if PLACES.contains(&&*place) {
            self.said.insert(place, value);
        }
    }

    fn behind(&mut self) {
        if let Some(Step::Index(index)) = self.steps.last_mut() {
            *index += 1;
        }
    }
}

impl Visitor for Watch<'_> {
    fn key(&mut self, _: u32, text: Text) {
        // A name with a slash in it is none of the places.
        let name = text.decode(self.bytes).replace('/', "\u{0}");
        *self.steps.last_mut().expect("a name stands in an object") = Step::Name(name);
    }

    fn string(&mut self, _: u32, text: Text) {
        self.value(string(&text.decode(self.bytes)));
        self.behind();
    }

    fn number(&mut self, _: u32, span: Span) {
        let text = String::from_utf8_lossy(span.of(self.bytes)).into_owned();
        let id = matches!(&self.steps[..], [Step::Name(name)] if name == "id");
        self.value(if id { format!("n{text}") } else { "x".to_owned() });
        self.behind();
    }

    fn literal(&mut self, _: u32, _: Span) {
        self.value("l".to_owned());
        self.behind();
    }

    fn open(&mut self, _: u32, object: bool, _: u32) {
        self.value(if object { "{" } else { "[" }.to_owned());
        self.steps.push(if object { Step::Name(String::new()) } else { Step::Index(0) });
    }

    fn close(&mut self, _: u32, _: bool, _: u32) {
        self.steps.pop();
        self.behind();
    }
}

/// What the gateway judges by is what the places say.
fn check_judged(bytes: &[u8], message: &Message, said: &Said) {
    let at = |place: &str| said.get(place).map(String::as_str);
    let shown = || String::from_utf8_lossy(bytes).into_owned();
    let method = message.method.map(|text| string(&text.decode(bytes)));
    assert_eq!(method.as_deref(), at("method"), "{}", shown());
    let id = message.id.map(|id| match id.number {
        true => format!("n{}", id.decode(bytes)),
        false => string(&id.decode(bytes)),
    });
    if id.is_some() || at("id") != Some("l") {
        assert_eq!(id.as_deref(), at("id"), "{}", shown());
    }
    for target in &message.targets {
        let text = string(&target.text.decode(bytes));
        let places: &[&str] = match target.kind {
            TargetKind::Tool => &["params/name"],
            TargetKind::Prompt => &["params/name", "params/ref/name"],
            TargetKind::Resource => &["params/uri", "params/ref/uri"],
            TargetKind::Task => &["params/taskId"],
        };
        assert!(places.iter().any(|place| at(place) == Some(&text)), "{:?}: {}", target, shown());
    }
    if let Some(state) = message.request_state {
        let text = string(&state.decode(bytes));
        let both = [at("params/requestState"), at("result/requestState")];
        assert!(both.contains(&Some(&text)), "{}", shown());
    }
}

// Checked against the mutants "the last of two members of one name counts", "half a surrogate pair is a
// character", "an id is any integer", "-0 is 0", "control characters may stand in strings" and "a number is
// as large as it likes".
#[test]
fn five_parsers_read_the_same_in_every_message_that_passes() {
    let count = setting("STENOGRAPH_AGREEMENT_TEXTS").unwrap_or(100_000);
    let (mut dice, seed) = Dice::of_setting("STENOGRAPH_AGREEMENT_SEED");
    println!("STENOGRAPH_AGREEMENT_SEED={seed} STENOGRAPH_AGREEMENT_TEXTS={count}");
    let samples = texts::samples();
    let (limits, mut scratch) = (Limits::default(), json::Scratch::new());
    let (mut accepted, mut ours) = (Vec::new(), Vec::new());
    let mut refused: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..count {
        let (text, from_client) = texts::text(&samples, &mut dice);
        let from = if from_client { Direction::Request } else { Direction::Response };
        match mcp::read(&text, from, &limits, &mut scratch) {
            Ok(message) => {
                let mut watch = Watch { bytes: &text, steps: Vec::new(), said: Said::new() };
                json::read(&text, &limits, &mut scratch, &mut watch).expect("it was read before");
                check_judged(&text, &message, &watch.said);
                ours.push(watch.said);
                accepted.push(text);
            }
            Err(fault) => *refused.entry(fault.rule.as_str()).or_default() += 1,
        }
    }
    let python = said_by("python3", "read.py", &accepted);
    let node = said_by("node", "read.js", &accepted);
    let mut differences = 0;
    for (index, (text, ours)) in accepted.iter().zip(&ours).enumerate() {
        for (who, theirs) in [
            ("CPython json", &python[index]),
            ("JSON.parse", &node[index]),
            ("serde_json", &by_serde(text)),
            ("jiter", &by_jiter(text)),
        ] {
            if theirs.as_ref() != Ok(ours) {
                differences += 1;
                let shown = String::from_utf8_lossy(text);
                println!("{who} reads {theirs:?}\n  we read {ours:?}\n  in {shown}");
            }
        }
    }
    println!("{} of {count} pass; refused: {refused:?}", accepted.len());
    assert_eq!(differences, 0);
    // A property of nothing shows nothing.
    assert!(accepted.len() as u64 > count / 4, "{} of {count}", accepted.len());
    assert!(refused.len() > 20, "{refused:?}");
}
