//! Event streams: what servers send, spelt in every way, and what they should not send.

use super::dice::Dice;

/// Pieces of which streams are made, and what lies beside them.
const PIECES: &[&[u8]] = &[
    b"data:",
    b"data: ",
    b"data",
    b"data:  x",
    b"data: {\"a\":1}",
    b"Data: x",
    b" data: x",
    b"id:",
    b"id",
    b"id: 7",
    b"id:8",
    b"id: \xc3\xa9",
    b"event: message",
    b"event: e",
    b"event:",
    b"event",
    b"retry: 5",
    b"retry: 0300",
    b"retry: 99999999999999999999",
    b"retry:x",
    b"retry:  7",
    b"retry: 1_0",
    b"retry: -1",
    b"retry: \xd9\xa1",
    b"retry",
    b":",
    b": words",
    b":data: no",
    b"other: y",
    b"other",
    b" ",
    b":",
    b"a",
    b"\xc3\xa9",
    b"\xf0\x9f\x98\x80",
    b"\xef\xbb\xbf",
    b"\xc3\xaf\xc2\xbb\xc2\xbf",
    b"\xe2\x80\xa8",
    b"\xc2\x85",
    b"\x0b",
    b"\x0c",
    b"\x1c",
    b"\0",
    b"\t",
];

const LINE_ENDS: [&[u8]; 3] = [b"\n", b"\r", b"\r\n"];

/// Lines of anything. Most are read without a fault; some have what a reader refuses.
pub fn wild(dice: &mut Dice) -> Vec<u8> {
    let mut stream = Vec::new();
    if dice.once_in(8) {
        stream.extend_from_slice(b"\xef\xbb\xbf");
    }
    if dice.once_in(40) {
        stream.extend_from_slice(b"\xc3\xaf\xc2\xbb\xc2\xbf");
    }
    let mut end = *dice.pick(&LINE_ENDS);
    let mixed = dice.once_in(3);
    for _ in 0..dice.below(24) {
        for _ in 0..1 + dice.below(2) {
            stream.extend_from_slice(dice.pick::<&[u8]>(PIECES));
        }
        // Empty lines are frequent: without them nothing is told.
        for _ in 0..[0, 1, 1, 1, 2, 2, 2, 3][dice.below(8)] {
            if mixed {
                end = *dice.pick(&LINE_ENDS);
            }
            stream.extend_from_slice(end);
        }
    }
    if dice.once_in(30) {
        stream.extend_from_slice(b"id: 1\x002\n\n");
        stream.extend_from_slice(b"data: behind\n\n");
    }
    if dice.once_in(10) {
        mutate(&mut stream, dice);
    }
    stream
}

/// Something is taken out, put in twice, or another byte.
fn mutate(stream: &mut Vec<u8>, dice: &mut Dice) {
    if stream.is_empty() {
        return;
    }
    let at = dice.below(stream.len());
    let end = stream.len().min(at + 1 + dice.below(8));
    match dice.below(4) {
        0 => drop(stream.drain(at..end)),
        1 => {
            let again = stream[at..end].to_vec();
            stream.splice(at..at, again);
        }
        2 => stream[at] = dice.below(256) as u8,
        _ => stream.truncate(at),
    }
}

/// What the lines of a server's event are, in an order that the standard allows.
fn message(dice: &mut Dice, number: usize) -> String {
    let words = ["x", "é", "😀", "\u{2028}", "\u{85}", "\u{feff}", "\\n", "data: no", "id: 9", ":"];
    let text: String = (0..dice.below(5)).map(|_| *dice.pick(&words)).collect();
    let pad = if dice.once_in(20) { "y".repeat(dice.below(9000)) } else { String::new() };
    let (open, comma, close) = *dice.pick(&[
        ("{", ",", "}"),
        ("{", ",\n", "}"),
        ("{\n  ", ",\n  ", "\n}"),
        ("\n{\n", "\n\n,\t", "\n}\n"),
    ]);
    format!(
        "{open}\"jsonrpc\":\"2.0\"{comma}\"method\":\"notifications/message\"{comma}\"params\":\
         {open}\"level\":\"info\"{comma}\"data\":\"{number} {text}{pad}\"{close}{close}"
    )
}

/// Events with good messages, spelt as nobody would but as everybody must read them; now and then the
/// last one is not ended.
pub fn served(dice: &mut Dice) -> Vec<u8> {
    let mut stream = Vec::new();
    if dice.once_in(6) {
        stream.extend_from_slice(b"\xef\xbb\xbf");
    }
    let mut end = *dice.pick(&LINE_ENDS);
    let mixed = dice.once_in(3);
    let count = 1 + dice.below(6);
    for number in 0..count {
        let mut lines: Vec<String> = Vec::new();
        let colon = *dice.pick(&[": ", ":"]);
        match dice.below(12) {
            0 => lines.push(format!("retry{colon}{}", dice.below(2_000_000))),
            1 => lines.push("data:".to_owned()),
            2 => {}
            _ => {
                // A space that belongs to the data would be taken for the one that does not.
                let text = message(dice, number);
                let data = text.split('\n').map(|line| match line.starts_with(' ') {
                    true => format!("data: {line}"),
                    false => format!("data{colon}{line}"),
                });
                lines.extend(data);
            }
        }
        if dice.once_in(2) {
            lines.insert(0, format!("id{colon}{}", dice.below(5)));
        }
        if dice.once_in(20) {
            lines.push("id".to_owned());
        }
        if dice.once_in(3) {
            lines.push("event: message".to_owned());
        }
        if dice.once_in(4) {
            lines.insert(0, format!("retry{colon}{}", dice.below(1_000_000)));
        }
        for _ in 0..dice.below(3) {
            let at = dice.below(lines.len() + 1);
            let odd = [": a comment", ":", "other: data: x", "DATA: x", "event:", "retry: soon"];
            lines.insert(at, (*dice.pick(&odd)).to_owned());
        }
        if number + 1 < count || !dice.once_in(4) {
            lines.push(String::new());
        }
        for line in lines {
            stream.extend_from_slice(line.as_bytes());
            // A line feed of an empty line would belong to the CR before it.
            let joins = line.is_empty() && stream.ends_with(b"\r");
            if mixed {
                end = if joins { b"\r" } else { *dice.pick(&LINE_ENDS) };
            }
            stream.extend_from_slice(end);
        }
    }
    stream
}

/// Sizes of the pieces that a stream comes in.
pub fn sizes(dice: &mut Dice, bytes: usize) -> Vec<usize> {
    match dice.below(4) {
        0 => Vec::new(),
        1 => vec![1; bytes.min(400)],
        _ => (0..dice.below(12)).map(|_| 1 + dice.below(1 + bytes / 4)).collect(),
    }
}
