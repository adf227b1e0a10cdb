//! Messages of every method with targets, and what may be wrong with one.

use serde_json::{Value, json};

use super::dice::Dice;

/// A JSON value as it is written.
#[derive(Clone)]
pub enum Node {
    /// As it stands.
    Raw(Vec<u8>),
    /// A string.
    Text(String),
    List(Vec<Node>),
    /// Names as they are written, with their quotes.
    Map(Vec<(Vec<u8>, Node)>),
}

impl Node {
    fn of(value: &Value) -> Node {
        match value {
            Value::String(text) => Node::Text(text.clone()),
            Value::Array(all) => Node::List(all.iter().map(Node::of).collect()),
            Value::Object(all) => {
                Node::Map(all.iter().map(|(name, value)| (quoted(name), Node::of(value))).collect())
            }
            other => Node::Raw(other.to_string().into_bytes()),
        }
    }

    fn write(&self, out: &mut Vec<u8>, dice: &mut Dice) {
        space(out, dice);
        match self {
            Node::Raw(bytes) => out.extend_from_slice(bytes),
            Node::Text(text) => out.extend_from_slice(&quoted(text)),
            Node::List(all) => {
                out.push(b'[');
                for (index, one) in all.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    one.write(out, dice);
                }
                out.push(b']');
            }
            Node::Map(all) => {
                out.push(b'{');
                for (index, (name, value)) in all.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    space(out, dice);
                    out.extend_from_slice(name);
                    space(out, dice);
                    out.push(b':');
                    value.write(out, dice);
                }
                out.push(b'}');
            }
        }
        space(out, dice);
    }
}

fn quoted(text: &str) -> Vec<u8> {
    Value::from(text).to_string().into_bytes()
}

fn space(out: &mut Vec<u8>, dice: &mut Dice) {
    if dice.once_in(24) {
        let some: &[&[u8]] = &[b" ", b"\t", b"\n", b"\r\n", b"  \r", b" \n \t "];
        out.extend_from_slice(dice.pick::<&[u8]>(some));
    }
    if dice.once_in(4000) {
        let odd: &[&[u8]] = &[
            b"\x0c",
            b"\x0b",
            b"\0",
            "\u{a0}".as_bytes(),
            "\u{2028}".as_bytes(),
            b"/**/",
            b"\xef\xbb\xbf",
        ];
        out.extend_from_slice(dice.pick::<&[u8]>(odd));
    }
}

/// Good messages. Each has its direction: true from the client.
pub fn samples() -> Vec<(Value, bool)> {
    let request = |method: &str, params: Value| {
        (json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}), true)
    };
    let answer =
        |result: Value| (json!({"jsonrpc": "2.0", "id": "seven", "result": result}), false);
    vec![
        request("tools/call", json!({"name": "echo", "arguments": {"text": "hi", "n": [1, 2.5]}})),
        request(
            "tools/call",
            json!({"name": "naïve \u{1f600}", "arguments": {"name": "inner",
            "uri": "x", "method": "m", "id": 9}, "requestState": "st\u{e9}", "_meta": {"progressToken": 1}}),
        ),
        request("prompts/get", json!({"name": "greet", "arguments": {"who": "you"}})),
        request("resources/read", json!({"uri": "file:///a/b%20c"})),
        request("resources/subscribe", json!({"uri": "file:///a"})),
        request(
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "greet"},
            "argument": {"name": "who", "value": "y"}}),
        ),
        request(
            "completion/complete",
            json!({"ref": {"type": "ref/resource", "uri": "file:///{x}"},
            "argument": {"name": "x", "value": "y"}}),
        ),
        request("tasks/get", json!({"taskId": "task-1"})),
        request("tasks/cancel", json!({"taskId": "task-1"})),
        request("tools/list", json!({"cursor": "next=="})),
        request(
            "initialize",
            json!({"protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "client", "version": "1"}}),
        ),
        request("custom/thing", json!({"name": "n", "uri": "u", "taskId": "t", "cursor": "c"})),
        (
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
            "params": {"requestId": 7, "reason": "r"}}),
            true,
        ),
        (json!({"jsonrpc": "2.0", "id": "s", "result": {"action": "accept"}}), true),
        answer(json!({"content": [{"type": "text", "text": "hi"}], "isError": false})),
        answer(json!({"tools": [{"name": "a", "inputSchema": {"name": "x"}}, {"name": "b"}],
            "nextCursor": "c=="})),
        answer(json!({"resources": [{"uri": "file:///a", "name": "a"}], "nextCursor": "c"})),
        answer(json!({"prompts": [{"name": "p"}]})),
        answer(
            json!({"requestState": "state", "inputRequests": {"a": {"method": "elicitation/create",
            "params": {"message": "m"}}}, "resultType": "input_required"}),
        ),
        answer(json!({"task": {"taskId": "t", "status": "working"}})),
        (json!({"jsonrpc": "2.0", "id": 7, "error": {"code": -32601, "message": "no"}}), false),
        (
            json!({"jsonrpc": "2.0", "id": 3, "method": "sampling/createMessage",
            "params": {"messages": []}}),
            false,
        ),
        (
            json!({"jsonrpc": "2.0", "method": "notifications/progress",
            "params": {"progressToken": "p", "progress": 0.5}}),
            false,
        ),
    ]
}

const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "7",
    "-7",
    "1.0",
    "7.",
    ".5",
    "1e0",
    "1E+2",
    "1e-2",
    "00",
    "07",
    "+1",
    "0x1",
    "-",
    "--1",
    "9007199254740991",
    "-9007199254740991",
    "9007199254740992",
    "9007199254740993",
    "18446744073709551615",
    "18446744073709551616",
    "123456789012345678901234567890",
    "1e308",
    "1e309",
    "1e400",
    "-1e999",
    "1e-400",
    "0.1e1",
    "1_000",
    "NaN",
    "Infinity",
    "-Infinity",
    "1,0",
    "\u{ff11}",
    "2.2250738585072014e-308",
    "0e0",
    "-0.0",
    "1e+",
    "1e",
];

const LITERALS: &[&str] =
    &["true", "false", "null", "True", "nul", "undefined", "'x'", "{}", "[]", "[[]]", "\"\"", ""];

/// Strings as they are written, with their quotes.
const STRINGS: &[&[u8]] = &[
    b"\"\\u0065cho\"",
    b"\"\\u0045\"",
    b"\"\\/\\b\\f\\n\\r\\t\\\\\\\"\"",
    b"\"\\u0000\"",
    b"\"a\\u0000b\"",
    b"\"\\ud83d\\ude00\"",
    b"\"\\uD83D\\uDE00x\"",
    b"\"\\ud83d\"",
    b"\"\\ude00\"",
    b"\"\\ude00\\ud83d\"",
    b"\"\\ud83dx\"",
    b"\"\\ud83d\\u0041\"",
    b"\"\\u00e9\"",
    b"\"\xc3\xa9\"",
    b"\"e\xcc\x81\"",
    b"\"\xf0\x9f\x98\x80\"",
    b"\"\xed\xa0\xbd\xed\xb8\x80\"",
    b"\"\xed\xa0\x80\"",
    b"\"\xc0\x80\"",
    b"\"\xff\"",
    b"\"\xf4\x90\x80\x80\"",
    b"\"\xe2\x82\"",
    b"\"\xef\xbf\xbf\"",
    b"\"\xef\xbb\xbfecho\"",
    b"\"\\ufeffecho\"",
    b"\"\\x41\"",
    b"\"\\u{41}\"",
    b"\"\\u004\"",
    b"\"\\u00g1\"",
    b"\"\\U0041\"",
    b"\"\\a\"",
    b"\"\\\"",
    b"\"tab\there\"",
    b"\"nul\0here\"",
    b"\"new\nline\"",
    b"\"\x7f\"",
    b"\"\xe2\x80\xa8\"",
    b"\"\xe2\x80\xae\"",
    b"\"\"",
    b"'echo'",
    b"\"\xc2\x85\"",
    b"\"\\u2028\\u2029\"",
];

/// Other ways to write a name, some of them the same to some readers.
fn alike(name: &[u8], dice: &mut Dice) -> Vec<u8> {
    let inner =
        String::from_utf8_lossy(name.get(1..name.len() - 1).unwrap_or_default()).into_owned();
    let text = match dice.below(12) {
        0 => inner.to_uppercase(),
        1 => {
            let mut chars = inner.chars();
            let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
            first + chars.as_str()
        }
        2 => inner.replacen('s', "\u{17f}", 1),
        3 => inner.replacen('k', "\u{212a}", 1),
        4 => inner.replacen('i', "\u{131}", 1),
        5 => inner + "\\u0000",
        6 => inner + " ",
        7 => format!("\\ufeff{inner}"),
        8 => inner.replacen('e', "\\u0065", 1),
        9 => inner.chars().map(|c| format!("\\u{:04x}", c as u32)).collect(),
        10 => inner.replacen('a', "\u{430}", 1),
        _ => inner.replacen('m', "\\u006D", 1),
    };
    [b"\"", text.as_bytes(), b"\""].concat()
}

/// Spells a string with escapes.
fn escaped(text: &str, dice: &mut Dice) -> Vec<u8> {
    let mut out = b"\"".to_vec();
    for c in text.chars() {
        if dice.once_in(3) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let hex = match dice.once_in(2) {
                    true => format!("\\u{unit:04X}"),
                    false => format!("\\u{unit:04x}"),
                };
                out.extend_from_slice(hex.as_bytes());
            }
        } else {
            let plain = quoted(&c.to_string());
            out.extend_from_slice(&plain[1..plain.len() - 1]);
        }
    }
    out.push(b'"');
    out
}

fn leaf(dice: &mut Dice) -> Node {
    Node::Raw(match dice.below(4) {
        0 => dice.pick(NUMBERS).as_bytes().to_vec(),
        1 => dice.pick(LITERALS).as_bytes().to_vec(),
        _ => dice.pick(STRINGS).to_vec(),
    })
}

/// Changes one thing somewhere.
fn change(node: &mut Node, dice: &mut Dice) {
    match node {
        Node::Map(all) if !all.is_empty() => {
            let at = dice.below(all.len());
            match dice.below(12) {
                0 => {
                    // The same member twice, with the same or another value, in any order.
                    let mut again = all[at].clone();
                    if dice.once_in(2) {
                        again.1 = leaf(dice);
                    }
                    all.insert(dice.below(all.len() + 1), again);
                }
                1 => {
                    let (name, value) = all[at].clone();
                    all.insert(dice.below(all.len() + 1), (alike(&name, dice), value));
                }
                2 => all[at].0 = alike(&all[at].0, dice),
                3 => drop(all.remove(at)),
                4 => {
                    let other = dice.below(all.len());
                    all.swap(at, other);
                }
                5 => {
                    let names: &[&[u8]] = &[
                        b"\"name\"",
                        b"\"uri\"",
                        b"\"method\"",
                        b"\"id\"",
                        b"\"params\"",
                        b"\"taskId\"",
                        b"\"cursor\"",
                        b"\"requestState\"",
                        b"\"__proto__\"",
                        b"\"constructor\"",
                        b"\"\"",
                        b"name",
                        b"'name'",
                        b"1",
                        b"\"toString\"",
                        b"\"length\"",
                        b"\"result\"",
                    ];
                    let name = dice.pick(names).to_vec();
                    all.insert(dice.below(all.len() + 1), (name, leaf(dice)));
                }
                _ => change(&mut all[at].1, dice),
            }
        }
        Node::List(all) if !all.is_empty() && !dice.once_in(4) => {
            let at = dice.below(all.len());
            change(&mut all[at], dice);
        }
        Node::Text(text) if dice.once_in(2) => *node = Node::Raw(escaped(text, dice)),
        node => match dice.below(8) {
            0 => {
                let deep = *dice.pick(&[2, 20, 58, 62, 64, 65, 130]);
                for _ in 0..deep {
                    let inner = std::mem::replace(node, Node::Raw(Vec::new()));
                    *node = match dice.once_in(2) {
                        true => Node::List(vec![inner]),
                        false => Node::Map(vec![(b"\"a\"".to_vec(), inner)]),
                    };
                }
            }
            _ => *node = leaf(dice),
        },
    }
}

/// One text, and whether it comes from the client.
pub fn text(samples: &[(Value, bool)], dice: &mut Dice) -> (Vec<u8>, bool) {
    let (sample, from_client) = dice.pick(samples);
    let mut node = Node::of(sample);
    for _ in 0..dice.below(4) {
        change(&mut node, dice);
    }
    let mut out = Vec::new();
    node.write(&mut out, dice);
    if dice.once_in(12) && !out.is_empty() {
        let at = dice.below(out.len());
        match dice.below(6) {
            0 => out[at] = dice.next() as u8,
            1 => drop(out.remove(at)),
            2 => out.insert(at, *dice.pick(b"\"\\{}[],:0\n\0e")),
            3 => out.truncate(at),
            4 => {
                let behind: &[&[u8]] = &[b"x", b"{}", b"\0", b",", b"\n\n", b"\x1a"];
                out.extend_from_slice(dice.pick::<&[u8]>(behind));
            }
            _ => drop(out.splice(0..0, [0xef, 0xbb, 0xbf])),
        }
    }
    (out, *from_client)
}
