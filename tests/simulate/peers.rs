//! The two ends that the gateway stands between: clients and servers, each a peer that writes and reads
//! in pieces of any size and leaves when it likes.

use std::collections::VecDeque;

use super::ask::{Ask, Reply, marker_of};
use super::dice::Dice;
use super::stage::{FORBIDDEN, PLANTED};

/// An answer as a client reads it, without the code that wrote it.
#[derive(Debug)]
pub struct Seen {
    pub status: u16,
    pub body: String,
}

impl Seen {
    /// The message that answers: the body, or the last event of a stream.
    pub fn message(&self) -> serde_json::Value {
        let data = self.body.lines().rev().find_map(|line| line.strip_prefix("data: "));
        serde_json::from_str(data.unwrap_or(&self.body)).unwrap_or_default()
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// A whole body off the front of `bytes`: its text and where it ends. As a simple peer reads it.
fn body_of(head: &str, bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    if field(head, "transfer-encoding").is_some() {
        let mut body = Vec::new();
        let mut at = 0;
        loop {
            let line = at + memchr::memmem::find(&bytes[at..], b"\r\n")?;
            let size = std::str::from_utf8(&bytes[at..line]).expect("a chunk line is text");
            let size = usize::from_str_radix(size, 16).expect("a chunk line is a number");
            let piece = bytes.get(line + 2..line + 2 + size + 2)?;
            assert_eq!(&piece[size..], b"\r\n", "behind a chunk");
            body.extend_from_slice(&piece[..size]);
            at = line + 2 + size + 2;
            if size == 0 {
                return Some((body, at));
            }
        }
    }
    let length = field(head, "content-length").map_or(0, |text| text.parse().expect("a length"));
    bytes.get(..length).map(|body| (body.to_vec(), length))
}

/// Takes one whole answer off the front; interim answers are passed over.
pub fn take_answer(bytes: &mut Vec<u8>) -> Option<Seen> {
    loop {
        let end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is text");
        let status: u16 = head.get(9..12).and_then(|text| text.parse().ok()).expect("a status");
        if status < 200 {
            bytes.drain(..end);
            continue;
        }
        let (body, used) = body_of(&head, &bytes[end..])?;
        bytes.drain(..end + used);
        let body = String::from_utf8(body).expect("a body is text");
        return Some(Seen { status, body });
    }
}

/// One client connection from outside.
pub struct Client {
    pub asks: Vec<Ask>,
    /// Asks of which the first byte was written.
    pub begun: usize,
    /// Does not wait for an answer before the next request.
    pub pipelines: bool,
    /// Written and not yet in the network.
    pub unsent: VecDeque<u8>,
    /// In the network.
    pub wire: VecDeque<u8>,
    /// Read and not yet understood.
    pub received: Vec<u8>,
    /// Answers, in the order of the asks.
    pub answers: Vec<Seen>,
    /// Sends no more.
    pub fin: bool,
    pub reset: bool,
    /// Reads nothing before this moment.
    pub stuck_until_ns: u64,
    /// The gateway sends no more.
    pub ended: bool,
    /// Leaves with a FIN when it has all its answers; else waits to be closed.
    pub polite: bool,
}

impl Client {
    pub fn new(asks: Vec<Ask>, pipelines: bool, polite: bool) -> Client {
        Client {
            asks,
            begun: 0,
            pipelines,
            unsent: VecDeque::new(),
            wire: VecDeque::new(),
            received: Vec::new(),
            answers: Vec::new(),
            fin: false,
            reset: false,
            stuck_until_ns: 0,
            ended: false,
            polite,
        }
    }

    fn may_begin(&self) -> bool {
        self.begun < self.asks.len() && (self.pipelines || self.answers.len() >= self.begun)
    }

    pub fn may_write(&self) -> bool {
        !self.fin
            && !self.reset
            && !self.ended
            && (!self.unsent.is_empty() || self.may_begin() || self.may_leave())
    }

    fn may_leave(&self) -> bool {
        self.polite && self.begun == self.asks.len() && self.answers.len() == self.begun
    }

    /// Writes some, or leaves.
    pub fn write(&mut self, dice: &mut Dice) {
        if self.unsent.is_empty() {
            if self.may_begin() {
                let ask = &self.asks[self.begun];
                self.unsent.extend(&ask.bytes);
                self.begun += 1;
            } else {
                self.fin = true;
                return;
            }
        }
        let some = piece(self.unsent.len(), dice);
        self.wire.extend(self.unsent.drain(..some));
    }

    /// Reads what came, and understands what is whole of it.
    pub fn read(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        let text = String::from_utf8_lossy(&self.received);
        for secret in [PLANTED, FORBIDDEN, "gateways-own"] {
            assert!(!text.contains(secret), "a client sees {secret}: {text}");
        }
        while let Some(seen) = take_answer(&mut self.received) {
            let index = self.answers.len();
            assert!(index < self.begun, "an answer that nobody asked for: {seen:?}");
            self.check(index, &seen);
            self.answers.push(seen);
        }
    }

    /// The answer is this request's and nobody else's.
    fn check(&self, index: usize, seen: &Seen) {
        let ask = &self.asks[index];
        let message = seen.message();
        for other in self.asks.iter().filter(|other| other.marker != ask.marker) {
            assert!(!seen.body.contains(&other.marker), "{} got {seen:?}", ask.marker);
        }
        if let Some(id) = message.get("id").filter(|id| !id.is_null()) {
            assert_eq!(*id, ask.id, "{} got {seen:?}", ask.marker);
        }
        if message.get("result").is_some() {
            assert!(seen.body.contains(&ask.marker), "{} got {seen:?}", ask.marker);
        }
    }
}

/// A size for the next piece: one byte, a few, all, or anything between.
pub fn piece(len: usize, dice: &mut Dice) -> usize {
    if len == 0 {
        return 0;
    }
    match dice.below(8) {
        0 => 1,
        1 => (1 + dice.below(64)).min(len),
        2..=4 => len,
        _ => 1 + dice.below(len),
    }
}

/// A request as the server read it.
pub struct Arrived {
    pub marker: Option<String>,
    pub head: String,
    pub body: String,
}

/// How a server misbehaves, where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mischief {
    None,
    /// Closes before it answers, or behind a part of the answer.
    Cuts,
    Resets,
    /// Says nothing, for ever.
    Silent,
    WrongId,
    Nonsense,
    Status,
    /// Sends more than the answer.
    Babbles,
    /// Closes behind the whole answer.
    Leaves,
}

/// One connection of the server.
pub struct Link {
    /// From the gateway, not yet read.
    pub inbox: VecDeque<u8>,
    taken: Vec<u8>,
    /// To be written, in the network.
    unsent: VecDeque<u8>,
    pub wire: VecDeque<u8>,
    /// The server sends no more, once all is written.
    leaves: bool,
    resets: bool,
    pub fin: bool,
    pub reset: bool,
    /// The gateway is done with it.
    pub dropped: bool,
}

impl Link {
    pub fn new() -> Link {
        Link {
            inbox: VecDeque::new(),
            taken: Vec::new(),
            unsent: VecDeque::new(),
            wire: VecDeque::new(),
            leaves: false,
            resets: false,
            fin: false,
            reset: false,
            dropped: false,
        }
    }

    /// May carry another request: open, and nothing unasked has arrived.
    pub fn is_quiet(&self) -> bool {
        !self.reset && !self.fin && self.wire.is_empty()
    }

    pub fn may_write(&self) -> bool {
        !self.reset && !self.fin && (!self.unsent.is_empty() || self.leaves || self.resets)
    }

    pub fn write(&mut self, dice: &mut Dice) {
        if self.unsent.is_empty() {
            self.reset = self.resets;
            self.fin = self.leaves;
            return;
        }
        let some = piece(self.unsent.len(), dice);
        self.wire.extend(self.unsent.drain(..some));
    }

    /// Reads some of what came; gives a request when one is whole. As a simple server reads it.
    pub fn read(&mut self, dice: &mut Dice) -> Option<Arrived> {
        let some = piece(self.inbox.len(), dice);
        self.taken.extend(self.inbox.drain(..some));
        let end = memchr::memmem::find(&self.taken, b"\r\n\r\n")? + 4;
        let head = String::from_utf8(self.taken[..end].to_vec()).expect("a head is text");
        let (body, used) = body_of(&head, &self.taken[end..])?;
        self.taken.drain(..end + used);
        let body = String::from_utf8(body).expect("a body is text");
        Some(Arrived { marker: marker_of(&head, &body), head, body })
    }

    /// Answers this request, well or, in a storm, badly.
    pub fn answer(&mut self, arrived: &Arrived, ask: &Ask, calm: bool, dice: &mut Dice) {
        use Mischief::*;
        let mischief = match calm || dice.once_in(2) {
            true => *dice.pick(&[None, None, None, Leaves]),
            false => *dice
                .pick(&[Cuts, Cuts, Resets, Silent, WrongId, Nonsense, Status, Babbles, Leaves]),
        };
        let mut text = answer_text(arrived, ask, mischief, dice);
        match mischief {
            Silent => return,
            Cuts | Resets => text.truncate(dice.below(text.len() + 1)),
            Babbles => text += "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            _ => {}
        }
        self.unsent.extend(text.as_bytes());
        self.resets = mischief == Resets;
        self.leaves = matches!(mischief, Cuts | Leaves | Nonsense);
    }
}

fn answer_text(arrived: &Arrived, ask: &Ask, mischief: Mischief, dice: &mut Dice) -> String {
    let http = arrived.head.split(' ').next().unwrap_or_default();
    match mischief {
        Mischief::Nonsense => return "SSH-2.0-OpenSSH\r\n\r\n".to_owned(),
        Mischief::Status => {
            return "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned();
        }
        _ => {}
    }
    let id = ask.id + u32::from(mischief == Mischief::WrongId);
    let result = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"content\":[{{\"type\":\"text\",\
         \"text\":\"{} {}\"}}]}}}}",
        ask.marker, ask.spice
    );
    let close = if mischief == Mischief::Leaves { "Connection: close\r\n" } else { "" };
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let stream = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{close}Transfer-Encoding: chunked\r\n\r\n"
    );
    let progress = |step: usize| {
        chunk(&format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\
             \"params\":{{\"progressToken\":1,\"progress\":{step},\"message\":\"{} {}\"}}}}\n\n",
            ask.marker,
            if ask.spice == FORBIDDEN { "" } else { ask.spice },
        ))
    };
    let steps: String = (0..dice.below(4)).map(progress).collect();
    match (http, ask.reply) {
        ("GET", _) => stream + &steps + "0\r\n\r\n",
        ("DELETE", _) => format!("HTTP/1.1 204 No Content\r\n{close}\r\n"),
        _ if arrived.body.contains("notifications/initialized") => {
            format!("HTTP/1.1 202 Accepted\r\n{close}Content-Length: 0\r\n\r\n")
        }
        (_, Reply::Json) => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{close}Content-Length: {}\r\n\r\n{result}",
            result.len()
        ),
        (_, Reply::Chunked) => {
            let (front, back) = result.split_at(1 + dice.below(result.len() - 1));
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{close}Transfer-Encoding: chunked\r\n\r\n"
            ) + &chunk(front)
                + &chunk(back)
                + "0\r\n\r\n"
        }
        (_, Reply::Stream) => {
            stream + &steps + &chunk(&format!(": beat\n\nid: 1\ndata: {result}\n\n")) + "0\r\n\r\n"
        }
    }
}
