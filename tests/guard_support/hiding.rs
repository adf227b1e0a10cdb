//! Hiding places for secrets, and messages judged whole.
#![allow(dead_code, reason = "each test file uses a part of it")]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::BytesMut;
use serde_json::{Value, json};
use stenograph::guard::policy::{Grant, Permit, Policy};
use stenograph::guard::{Mask, Outcome};
use stenograph::types::{Direction, Identity};
use stenograph::wire::mcp;

use super::support::Judge;

fn permit() -> Permit {
    let identity = Identity {
        issuer: "i".into(),
        subject: "s".into(),
        client: None,
        token_id: None,
        groups: vec![],
        claims: Default::default(),
        key_id: "k".into(),
        key_thumbprint: "t".into(),
        issued_s: 0,
        expires_s: 1,
    };
    let policy = Policy::new(vec![Grant::default()]);
    policy.judge_http(&policy.access(&identity, 0)).expect("granted to all")
}

/// Reads and judges one message as the gateway does.
pub fn judge(judge: &mut Judge, text: &str, direction: Direction, mask: Mask) -> Outcome {
    judge_in(&[7; 32], judge, text, direction, mask)
}

/// The same in the session whose pseudonyms have this key.
pub fn judge_in(
    session: &[u8; 32],
    judge: &mut Judge,
    text: &str,
    direction: Direction,
    mask: Mask,
) -> Outcome {
    let message = mcp::read(text.as_bytes(), direction, &judge.limits, &mut judge.scratch)
        .unwrap_or_else(|fault| panic!("{fault:?} in {text}"));
    judge.scanner.judge_message(
        BytesMut::from(text),
        message,
        &permit(),
        direction,
        mask,
        session,
        &mut judge.scratch,
        &judge.limits,
    )
}

/// How a text is hidden in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hiding {
    /// The JSON string that serde_json writes.
    Plain,
    /// Every character as `\uXXXX`.
    Spelled,
    /// Inside JSON inside a string, that many levels down.
    Nested(usize),
    /// Nested, and spelled at the inner level.
    NestedSpelled,
    /// In one coding.
    Coded(Coding),
    /// In two codings, the first one inside.
    Twice(Coding, Coding),
    /// In a coding, inside JSON inside a string.
    NestedCoded(Coding),
}

/// Codings that write a text character by character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// `%67`, every byte.
    Percent,
    /// `%2F`, what is no letter or digit.
    PercentSigns,
    /// `&#103;`
    Decimal,
    /// `&#x67;`
    Hexadecimal,
    /// `&lowbar;` and `&amp;`
    Named,
    /// U+200B between all characters.
    ZeroWidth,
    /// U+00AD between all characters.
    SoftHyphen,
    /// U+E0001 and U+FEFF in turn between all characters.
    Tags,
    /// Fillers of scripts and others that Unicode ignores: U+115F, U+3164, U+180B, U+034F, U+1D173 in turn.
    Fillers,
    /// Colours of terminals (ECMA-48) before and between all characters.
    Colours,
    /// RFC 4648 §4, padded.
    Base64,
    /// RFC 4648 §5, without padding.
    Base64Url,
    /// In lines of 76 letters (RFC 2045 §6.8).
    Base64Lines,
    /// Behind a path, so that nothing says where it begins.
    Base64Glued,
    /// RFC 4648 §8.
    Hex,
    /// `\x67`
    Escapes,
}

impl Coding {
    pub const ALL: [Coding; 16] = [
        Coding::Percent,
        Coding::PercentSigns,
        Coding::Decimal,
        Coding::Hexadecimal,
        Coding::Named,
        Coding::ZeroWidth,
        Coding::SoftHyphen,
        Coding::Tags,
        Coding::Fillers,
        Coding::Colours,
        Coding::Base64,
        Coding::Base64Url,
        Coding::Base64Lines,
        Coding::Base64Glued,
        Coding::Hex,
        Coding::Escapes,
    ];

    /// Its name, and what it is, as the README publishes them.
    pub fn told(self) -> (&'static str, &'static str) {
        match self {
            Coding::Percent => ("percent", "percent-encoding of every byte: `%67`"),
            Coding::PercentSigns => {
                ("percent-signs", "percent-encoding of what is no letter: `%2F`")
            }
            Coding::Decimal => ("html-decimal", "character references: `&#103;`"),
            Coding::Hexadecimal => ("html-hex", "character references: `&#x67;`"),
            Coding::Named => ("html-named", "character references by name: `&lowbar;`"),
            Coding::ZeroWidth => {
                ("zero-width", "characters without width between all others: U+200B")
            }
            Coding::SoftHyphen => ("soft-hyphen", "soft hyphens between all others: U+00AD"),
            Coding::Tags => {
                ("tags", "tags and byte order marks between all others: U+E0001, U+FEFF")
            }
            Coding::Fillers => {
                ("fillers", "fillers and marks that Unicode ignores: U+115F, U+3164, U+034F")
            }
            Coding::Colours => {
                ("colours", "colours of terminals before and between all others: ESC`[32m`")
            }
            Coding::Base64 => ("base64", "base64, padded"),
            Coding::Base64Url => ("base64url", "base64 of URLs, without padding"),
            Coding::Base64Lines => ("base64-lines", "base64 in lines of 76 letters"),
            Coding::Base64Glued => {
                ("base64-glued", "base64 behind a path: nothing says where it begins")
            }
            Coding::Hex => ("hex", "hexadecimal digits"),
            Coding::Escapes => ("hex-escapes", "escapes of shells and programs: `\\x67`"),
        }
    }

    pub fn write(self, text: &str) -> String {
        let bytes = |all: bool| {
            text.bytes()
                .map(|byte| match byte {
                    _ if !all && byte.is_ascii_alphanumeric() => (byte as char).to_string(),
                    _ => format!("%{byte:02x}"),
                })
                .collect()
        };
        let between = |unseen: &[char]| {
            let mut unseen = unseen.iter().cycle();
            text.chars().flat_map(|c| [c, *unseen.next().expect("a cycle")]).collect()
        };
        let hex = |before: &str| {
            text.bytes().map(|byte| format!("{before}{byte:02x}")).collect::<String>()
        };
        let each = |write: &dyn Fn(char) -> String| text.chars().map(write).collect::<String>();
        match self {
            Coding::Percent => bytes(true),
            Coding::PercentSigns => bytes(false),
            Coding::Decimal => each(&|c| format!("&#{};", c as u32)),
            Coding::Hexadecimal => each(&|c| format!("&#x{:X};", c as u32)),
            Coding::Named => each(&|c| match NAMED.iter().find(|(sign, _)| *sign == c) {
                Some((_, name)) => format!("&{name};"),
                None => c.to_string(),
            }),
            Coding::ZeroWidth => between(&['\u{200b}']),
            Coding::SoftHyphen => between(&['\u{ad}']),
            Coding::Tags => between(&['\u{e0001}', '\u{feff}']),
            Coding::Fillers => between(&FILLERS),
            Coding::Colours => {
                let mut colours = COLOURS.iter().cycle();
                let coloured = |c| format!("{}{c}", colours.next().expect("a cycle"));
                text.chars().map(coloured).collect()
            }
            Coding::Base64 => format!("data {} end", STANDARD.encode(text)),
            Coding::Base64Url => format!("data {} end", URL_SAFE_NO_PAD.encode(text)),
            Coding::Base64Lines => {
                let letters = STANDARD.encode(text);
                let lines = letters.as_bytes().chunks(76).map(String::from_utf8_lossy);
                format!("data {} end", lines.collect::<Vec<_>>().join("\r\n"))
            }
            Coding::Base64Glued => format!("data /srv/x/{} end", STANDARD.encode(text)),
            Coding::Hex => format!("data {} end", hex("")),
            Coding::Escapes => hex("\\x"),
        }
    }

    pub fn read(self, text: &str) -> String {
        match self {
            Coding::Escapes => Coding::Percent.read(&text.replace("\\x", "%")),
            Coding::Percent | Coding::PercentSigns => {
                let (mut out, mut rest) = (vec![], text.as_bytes());
                while let Some((&byte, behind)) = rest.split_first() {
                    let digits = behind.get(..2).filter(|_| byte == b'%');
                    let value = digits
                        .and_then(|digits| std::str::from_utf8(digits).ok())
                        .and_then(|digits| u8::from_str_radix(digits, 16).ok());
                    out.push(value.unwrap_or(byte));
                    rest = if value.is_some() { &behind[2..] } else { behind };
                }
                String::from_utf8_lossy(&out).into_owned()
            }
            Coding::Decimal | Coding::Hexadecimal | Coding::Named => {
                let mut out = String::new();
                let mut pieces = text.split('&');
                out.push_str(pieces.next().unwrap_or_default());
                for piece in pieces {
                    let (name, behind) = piece.split_once(';').unwrap_or((piece, ""));
                    let value = match (name.strip_prefix("#x"), name.strip_prefix('#')) {
                        (Some(hex), _) => {
                            u32::from_str_radix(hex, 16).ok().and_then(char::from_u32)
                        }
                        (_, Some(decimal)) => decimal.parse().ok().and_then(char::from_u32),
                        _ => NAMED.iter().find(|(_, known)| *known == name).map(|(sign, _)| *sign),
                    };
                    match value {
                        Some(c) => out.extend([c.to_string().as_str(), behind]),
                        None => out.extend(["&", piece]),
                    }
                }
                out
            }
            Coding::Base64 | Coding::Base64Url | Coding::Base64Lines | Coding::Base64Glued => {
                let letters = text.trim_start_matches("data ").trim_end_matches(" end");
                let letters = letters.trim_start_matches("/srv/x/").replace("\r\n", "");
                let bytes = STANDARD.decode(&letters).or_else(|_| URL_SAFE_NO_PAD.decode(&letters));
                String::from_utf8(bytes.unwrap_or_else(|error| panic!("{error}: {text}")))
                    .expect("text")
            }
            Coding::Hex => {
                let letters = text.trim_start_matches("data ").trim_end_matches(" end");
                let byte = |at: usize| u8::from_str_radix(&letters[at..at + 2], 16).expect("hex");
                String::from_utf8((0..letters.len()).step_by(2).map(byte).collect()).expect("text")
            }
            Coding::Colours => {
                COLOURS.iter().fold(text.to_owned(), |text, colour| text.replace(colour, ""))
            }
            Coding::ZeroWidth | Coding::SoftHyphen | Coding::Tags | Coding::Fillers => text
                .chars()
                .filter(|c| !['\u{200b}', '\u{ad}', '\u{e0001}', '\u{feff}'].contains(c))
                .filter(|c| !FILLERS.contains(c))
                .collect(),
        }
    }
}

const COLOURS: [&str; 3] = ["\u{1b}[32m", "\u{1b}[0;1m", "\u{1b}[38;2;255;0;10m"];

const FILLERS: [char; 5] = ['\u{115f}', '\u{3164}', '\u{180b}', '\u{34f}', '\u{1d173}'];

const NAMED: [(char, &str); 14] = [
    ('_', "lowbar"),
    ('-', "hyphen"),
    ('.', "period"),
    ('/', "sol"),
    ('+', "plus"),
    ('=', "equals"),
    (':', "colon"),
    ('@', "commat"),
    ('&', "amp"),
    ('"', "quot"),
    ('\'', "apos"),
    ('<', "lt"),
    ('>', "gt"),
    ('$', "dollar"),
];

impl Hiding {
    /// Every place.
    pub fn all() -> Vec<Hiding> {
        let mut all = vec![
            Hiding::Plain,
            Hiding::Spelled,
            Hiding::Nested(1),
            Hiding::Nested(2),
            Hiding::Nested(3),
            Hiding::NestedSpelled,
        ];
        all.extend(Coding::ALL.map(Hiding::Coded));
        all.extend(Coding::ALL.map(Hiding::NestedCoded));
        all.extend([
            Hiding::Twice(Coding::Percent, Coding::Hexadecimal),
            Hiding::Twice(Coding::Hexadecimal, Coding::PercentSigns),
            Hiding::Twice(Coding::ZeroWidth, Coding::Percent),
            Hiding::Twice(Coding::Named, Coding::SoftHyphen),
            Hiding::Twice(Coding::Base64, Coding::Base64),
            Hiding::Twice(Coding::Hex, Coding::Base64Url),
            Hiding::Twice(Coding::Percent, Coding::Base64),
            Hiding::Twice(Coding::Base64, Coding::PercentSigns),
            Hiding::Twice(Coding::Base64, Coding::Hexadecimal),
            Hiding::Twice(Coding::Base64Url, Coding::ZeroWidth),
            Hiding::Twice(Coding::Hex, Coding::Fillers),
        ]);
        all
    }
}

pub fn spelled(text: &str) -> String {
    text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text")
}

/// An answer whose text is `text`, hidden.
pub fn answer(text: &str, hiding: Hiding) -> String {
    let nest = |times: usize, text: &str| {
        (0..times).fold(text.to_string(), |text, _| {
            json!({"before": "x \"y\"", "value": text, "z": [1]}).to_string()
        })
    };
    let token = match hiding {
        Hiding::Plain => quoted(text),
        Hiding::Spelled => format!("\"{}\"", spelled(text)),
        Hiding::Nested(times) => quoted(&nest(times, text)),
        Hiding::NestedSpelled => quoted(&format!("{{\"value\":\"{}\"}}", spelled(text))),
        Hiding::Coded(coding) => quoted(&coding.write(text)),
        Hiding::Twice(inner, outer) => quoted(&outer.write(&inner.write(text))),
        Hiding::NestedCoded(coding) => quoted(&nest(1, &coding.write(text))),
    };
    format!(
        r#"{{"jsonrpc":"2.0","id":7,"result":{{"content":[{{"type":"text","text":{token}}}],"isError":false}}}}"#
    )
}

/// The text of an answer, taken out of its hiding.
pub fn reveal(message: &str, hiding: Hiding) -> String {
    let whole: Value =
        serde_json::from_str(message).unwrap_or_else(|error| panic!("{error}: {message}"));
    let mut text = whole["result"]["content"][0]["text"].as_str().expect("a text").to_string();
    let times = match hiding {
        Hiding::Plain | Hiding::Spelled | Hiding::Coded(_) | Hiding::Twice(..) => 0,
        Hiding::Nested(times) => times,
        Hiding::NestedSpelled | Hiding::NestedCoded(_) => 1,
    };
    for _ in 0..times {
        let inner: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        text = inner["value"].as_str().expect("a value").to_string();
    }
    match hiding {
        Hiding::Coded(coding) | Hiding::NestedCoded(coding) => coding.read(&text),
        Hiding::Twice(inner, outer) => inner.read(&outer.read(&text)),
        _ => text,
    }
}

/// A place of a message: its name, one message of the server with `@` where a value may stand, and whether
/// a mask may edit it there. What it may not edit blocks for credentials and alerts for people.
pub const PLACES: &[(&str, &str, bool)] = &[
    ("text of an answer", r#"{"id":7,"result":{"content":[{"type":"text","text":"@"}]}}"#, true),
    (
        "structured content",
        r#"{"id":7,"result":{"content":[],"structuredContent":{"a":[{"b":"@"}]}}}"#,
        true,
    ),
    ("`_meta`", r#"{"id":7,"result":{"content":[],"_meta":{"example.com/x":"@"}}}"#, true),
    (
        "text, blob and address of a resource",
        r#"{"id":7,"result":{"contents":[{"uri":"a:/@","text":"@","blob":"@"}]}}"#,
        true,
    ),
    (
        "resources and links in an answer",
        r#"{"id":7,"result":{"content":[{"type":"resource","resource":{"uri":"a:/@","text":"@"}},{"type":"resource_link","uri":"a:/@","name":"@","description":"@"}]}}"#,
        true,
    ),
    (
        "descriptions and schemas in lists",
        r#"{"id":7,"result":{"tools":[{"name":"a","description":"@","inputSchema":{"type":"object","properties":{"b":{"description":"@","default":"@"}}}}]}}"#,
        true,
    ),
    (
        "messages of a prompt",
        r#"{"id":7,"result":{"description":"@","messages":[{"role":"user","content":{"type":"text","text":"@"}}]}}"#,
        true,
    ),
    ("values of a completion", r#"{"id":7,"result":{"completion":{"values":["@"]}}}"#, true),
    (
        "instructions of a server",
        r#"{"id":7,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"a","version":"1"},"instructions":"@"}}"#,
        true,
    ),
    (
        "message and data of an error",
        r#"{"id":7,"error":{"code":-1,"message":"@","data":["@"]}}"#,
        true,
    ),
    (
        "progress",
        r#"{"method":"notifications/progress","params":{"progressToken":1,"progress":1,"message":"@"}}"#,
        true,
    ),
    (
        "log",
        r#"{"method":"notifications/message","params":{"level":"info","logger":"@","data":{"a":"@"}}}"#,
        true,
    ),
    (
        "questions to the client",
        r#"{"id":1,"method":"elicitation/create","params":{"message":"@","requestedSchema":{"type":"object","properties":{}}}}"#,
        true,
    ),
    ("names of members", r#"{"id":7,"result":{"structuredContent":{"@":1},"content":[]}}"#, false),
    ("names in lists", r#"{"id":7,"result":{"tools":[{"name":"@","inputSchema":{}}]}}"#, false),
    ("cursors", r#"{"id":7,"result":{"tools":[],"nextCursor":"@"}}"#, false),
    ("JSON-RPC ids", r#"{"id":"@","result":{"content":[]}}"#, false),
    (
        "progress tokens",
        r#"{"method":"notifications/progress","params":{"progressToken":"@","progress":1}}"#,
        false,
    ),
];

/// The message of a place with `value` there.
pub fn placed(message: &str, value: &str) -> String {
    let value = quoted(value);
    message.replacen('{', r#"{"jsonrpc":"2.0","#, 1).replace('@', &value[1..value.len() - 1])
}

/// The tables that the README publishes.
pub fn published() -> String {
    let mut rows = String::from("| how a value is written | | what comes of it |\n|---|---|---|\n");
    let mut row =
        |name: &str, what: &str, fate: &str| rows += &format!("| `{name}` | {what} | {fate} |\n");
    row("plain", "as it is", "masked");
    row("spelled", "escapes of JSON: `\\u0067`", "masked");
    row("json-1 … json-3", "in JSON in a string, again and again", "masked");
    for coding in Coding::ALL {
        let (name, what) = coding.told();
        row(name, what, "masked");
    }
    row("gzip-base64", "base64 of gzip, in one member or several", "the whole of it is masked");
    row("a>b", "in several of these, one inside the other, to four levels", "masked");
    row("deeper", "in five levels and more", "the message is refused");
    rows += "\n| where it stands | credentials | people |\n|---|---|---|\n";
    for (name, _, edited) in PLACES {
        let fates = if *edited { "masked | masked" } else { "blocked | alert" };
        rows += &format!("| {name} | {fates} |\n");
    }
    rows
}
