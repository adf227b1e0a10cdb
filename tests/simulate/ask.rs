//! What the clients of the simulator ask, and what they must see of it.

use super::dice::Dice;
use super::stage::{FORBIDDEN, PLANTED};

/// What becomes of a request when nothing fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes up once and its answer comes back.
    Passes,
    /// It goes up once; there is no message in the answer.
    Accepted,
    /// It stays here: status, JSON-RPC code.
    Refused(u16, i64),
    /// It goes up once; a JSON-RPC error of ours takes the place of the answer.
    Replaced(i64),
}

/// How the server answers a request when nothing fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    Json,
    Chunked,
    Stream,
}

/// One request of a client.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Stands in the text of the call and of its answer; nowhere else.
    pub marker: String,
    pub id: u32,
    pub fate: Fate,
    pub reply: Reply,
    /// What the server puts beside the marker.
    pub spice: &'static str,
    pub bytes: Vec<u8>,
    pub http: &'static str,
    /// The connection ends with its answer.
    pub last: bool,
    /// Cut short by its client, it is cancelled.
    pub modern: bool,
}

/// Tokens of the callers of one run.
pub struct Tokens {
    pub alice: String,
    pub bob: String,
    /// In no group that a grant names.
    pub mallory: String,
    /// Signed with a key that the issuer publishes later.
    pub late: String,
}

fn chunked(body: &str, dice: &mut Dice) -> String {
    let mut text = String::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(1 + dice.below(rest.len()));
        text += &format!("{:x}\r\n{piece}\r\n", piece.len());
        rest = behind;
    }
    text + "0\r\n\r\n"
}

/// A request of alice, of somebody else, or of nobody.
pub fn ask(number: usize, tokens: &Tokens, calm: bool, dice: &mut Dice) -> Ask {
    let marker = format!("mk{number:05}x");
    let id = 1000 + number as u32;
    let mut token = if dice.once_in(3) { &tokens.bob } else { &tokens.alice };
    let reply = *dice.pick(&[Reply::Json, Reply::Json, Reply::Chunked, Reply::Stream]);
    let mut one = Ask {
        marker: marker.clone(),
        id,
        fate: Fate::Passes,
        reply,
        spice: "",
        bytes: Vec::new(),
        http: "POST",
        last: false,
        modern: false,
    };
    let (mut tool, mut text, mut more) = ("echo", marker.clone(), String::new());
    let mut path = "/codegen";
    let mut in_chunks = false;
    let mut body = None;
    match dice.below(24) {
        0..=4 => {}
        5 | 6 => text = format!("{marker} key {PLANTED} end"),
        7 => one.spice = PLANTED,
        8 => {
            one.spice = FORBIDDEN;
            one.fate = Fate::Replaced(-31002);
        }
        9 => {
            tool = "deploy";
            one.fate = Fate::Refused(200, -31001);
        }
        10 => {
            text = format!("{marker} {FORBIDDEN}");
            one.fate = Fate::Refused(200, -31002);
        }
        11 => {
            body = Some(format!(
                "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\",\"params\":{{\"text\":\"{marker}\"}}}}"
            ));
            one.fate = Fate::Accepted;
        }
        12 | 13 => in_chunks = true,
        14 => {
            one.modern = true;
            more =
                "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: echo\r\n"
                    .to_owned();
        }
        15 => {
            token = &tokens.mallory;
            one.fate = Fate::Refused(200, -31001);
        }
        16 => {
            body = Some(format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"id\":{id},\"method\":\"tools/call\",\
                 \"params\":{{\"name\":\"echo\",\"arguments\":{{\"text\":\"{marker}\"}}}}}}"
            ));
            one.fate = Fate::Refused(400, -32600);
        }
        17 => {
            more = "Expect: 100-continue\r\n".to_owned();
        }
        18 => {
            path = "/nowhere";
            one.fate = Fate::Refused(404, 0);
            one.last = true;
        }
        19 => text = format!("{marker} {}", "long ".repeat(dice.below(9000))),
        20 => {
            in_chunks = true;
            text = format!("{marker} {PLANTED} {}", "x".repeat(dice.below(3000)));
            one.spice = PLANTED;
        }
        21 if !calm => token = &tokens.late,
        22 => {
            // The name of a field with a space behind it.
            more = "X : y\r\n".to_owned();
            one.fate = Fate::Refused(400, 0);
            one.last = true;
        }
        _ => {
            one.http = *dice.pick(&["GET", "DELETE"]);
            one.fate = Fate::Accepted;
        }
    }
    let head = format!(
        "{} {path} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\n\
         Accept: application/json, text/event-stream\r\n{more}",
        one.http
    );
    one.bytes = match (one.http, in_chunks) {
        ("POST", _) => {
            let body = body.unwrap_or_else(|| {
                format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\
                     \"params\":{{\"name\":\"{tool}\",\"arguments\":{{\"text\":\"{text}\"}}}}}}"
                )
            });
            let head = format!("{head}Content-Type: application/json\r\n");
            match in_chunks {
                true => format!("{head}Transfer-Encoding: chunked\r\n\r\n") + &chunked(&body, dice),
                false => format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()),
            }
        }
        // The server tells these apart by a field that goes on.
        _ => format!("{head}Traceparent: 00-{}-00f067aa0ba902b7-01\r\n\r\n", trace_of(&marker)),
    }
    .into_bytes();
    one
}

/// The trace id that stands for a marker.
pub fn trace_of(marker: &str) -> String {
    marker.bytes().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
        + "000000000000000f"
}

/// The marker in a request that the server got.
pub fn marker_of(head: &str, body: &str) -> Option<String> {
    if let Some(at) = body.find("mk") {
        return body.get(at..at + 8).map(str::to_owned);
    }
    let at = head.to_ascii_lowercase().find("traceparent: 00-")? + 16;
    let digits = head.get(at..at + 16)?;
    let bytes: Option<Vec<u8>> = (0..8)
        .map(|index| u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).ok())
        .collect();
    String::from_utf8(bytes?).ok()
}
