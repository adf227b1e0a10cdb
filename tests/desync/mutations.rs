//! Requests and answers that parsers read differently, made from good ones.
//!
//! The bytes of a second message are hidden where a parser that reads the framing in another way finds
//! it. The cases are our own, along RFC 9112 (§2.2 line endings, §3 request line, §5 fields, §6 body
//! length, §7 chunks, §9 connections) and RFC 9110 (§5 fields, §7.2 Host, §7.6 connection fields, §10.1.1
//! Expect, §7.8 Upgrade).

use super::support::dice::Dice;

/// Stands in every hidden message and nowhere else.
pub const CANARY: &str = "canary";

pub const PATH: &str = "/tools";

pub fn body(marker: &str) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\
         \"params\":{{\"name\":\"echo\",\"arguments\":{{\"text\":\"{marker}\"}}}}}}"
    )
}

/// The fields that every good request has, without its framing.
pub fn fields(token: &str) -> String {
    format!(
        "Host: mcp.example.test\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
    )
}

pub fn good(token: &str, marker: &str, more: &str) -> Vec<u8> {
    let body = body(marker);
    format!(
        "POST {PATH} HTTP/1.1\r\n{}{more}Content-Length: {}\r\n\r\n{body}",
        fields(token),
        body.len()
    )
    .into_bytes()
}

/// A hidden request: to the gateway or, as it would look behind it, to the upstream.
fn hidden(token: &str, dice: &mut Dice) -> String {
    let text = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\
         \"params\":{{\"name\":\"{CANARY}\",\"arguments\":{{}}}}}}"
    );
    match dice.below(4) {
        0 => format!("GET /{CANARY} HTTP/1.1\r\nHost: {CANARY}\r\n\r\n"),
        1 => format!("GET /{CANARY} HTTP/1.1\r\nX: "),
        2 => format!(
            "POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{text}",
            text.len()
        ),
        _ => format!(
            "POST {PATH} HTTP/1.1\r\n{}Content-Length: {}\r\n\r\n{text}",
            fields(token),
            text.len()
        ),
    }
}

/// Values of `Transfer-Encoding`, and ways to write its line.
const CODINGS: &[&str] = &[
    "Transfer-Encoding: chunked",
    "Transfer-Encoding:chunked",
    "Transfer-Encoding: Chunked",
    "Transfer-Encoding: \tchunked\t",
    "transfer-encoding: CHUNKED",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: chun\tked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding:",
    "Transfer-Encoding: \x0bchunked",
    "Transfer-Encoding: \x0cchunked",
    "Transfer-Encoding: chunked\x00",
    "Transfer-Encoding: \u{a0}chunked",
    "Transfer-Encoding: chun\u{17f}ed",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    " Transfer-Encoding: chunked",
    "\tTransfer-Encoding: chunked",
    "Transfer_Encoding: chunked",
    "Transfer-Encoding\x00: chunked",
    "Transfer\u{2010}Encoding: chunked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "X: y\r\n Transfer-Encoding: chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding: chunked\r\n , identity",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\ntransfer-encoding: x",
    "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    "TE: chunked",
    "Content-Encoding: chunked",
];

/// Ways to write `Content-Length`; `N` stands for the length that is right.
const LENGTHS: &[&str] = &[
    "Content-Length: N",
    "Content-Length:N",
    "Content-Length: +N",
    "Content-Length: -N",
    "Content-Length: 0N",
    "Content-Length: 000000000000000000000000000000N",
    "Content-Length: 0xN",
    "Content-Length: N.0",
    "Content-Length: Ne0",
    "Content-Length: N,N",
    "Content-Length: N, N",
    "Content-Length: N N",
    "Content-Length: N;",
    "Content-Length: 18446744073709551616",
    "Content-Length: 18446744073709551617N",
    "Content-Length: 4294967296",
    "Content-Length: \u{ff11}",
    "Content-Length: \"N\"",
    "Content-Length:",
    "Content-Length: 0",
    "Content-Length: 0\r\nContent-Length: N",
    "Content-Length: N\r\nContent-Length: 0",
    "Content-Length: N\r\nContent-Length: N",
    "Content-Length: N\r\ncontent-length: 5",
    "Content-Length : N",
    "Content-Length\t: N",
    "Content_Length: N",
    " Content-Length: N",
    "Content-Length:\r\n N",
    "Content-Length: N\r\n 0",
    "X: y\nContent-Length: N",
    "X: y\rContent-Length: N",
    "Content-Length: N\x00",
    "Content-Length: \x0bN",
    "Connection: Content-Length\r\nContent-Length: N",
    "Connection: close, content-length\r\nContent-Length: N",
];

/// Ways to write the line of a chunk; `N` stands for the size in hexadecimal digits.
const CHUNK_LINES: &[&str] = &[
    "N\r\n",
    "N\n",
    "N\r",
    "N \r\n",
    " N\r\n",
    "\tN\r\n",
    "N\t\r\n",
    "+N\r\n",
    "-N\r\n",
    "0xN\r\n",
    "0N\r\n",
    "0000000000000000N\r\n",
    "00000000000000000000000000000000N\r\n",
    "N;\r\n",
    "N;a\r\n",
    "N;a=b\r\n",
    "N;a=\"b\"\r\n",
    "N;a=\"b\r\n",
    "N;a=\"\r\n\"\r\n",
    "N;a\n\r\n",
    "N;a\rb\r\n",
    "N ;a=b\r\n",
    "N;\x00\r\n",
    "N,N\r\n",
    "NZ\r\n",
    "Ng\r\n",
    "N\x00\r\n",
    "N\r\r\n",
    "N\n\n",
    "10000000000000000N\r\n",
    "ffffffffffffffff\r\n",
    "fffffffffffffffN\r\n",
    "\r\nN\r\n",
    "\nN\r\n",
    "N;canary\r\n",
    "N.\r\n",
    "\u{ff11}\r\n",
];

/// Ways to end a chunk, and the chunked body.
const CHUNK_ENDS: &[&str] =
    &["\r\n", "\n", "\r", "", "\r\n\r\n", "X\r\n", " \r\n", "\r\r\n", "\n\r\n"];
const LAST_CHUNKS: &[&str] = &[
    "0\r\n\r\n",
    "0\n\n",
    "0\r\n\n",
    "00\r\n\r\n",
    "0000000000000000000\r\n\r\n",
    "0;a=b\r\n\r\n",
    "0 \r\n\r\n",
    "-0\r\n\r\n",
    "+0\r\n\r\n",
    "0x0\r\n\r\n",
    "0\r\nX: y\r\n\r\n",
    "0\r\nX: y\n\r\n",
    "0\r\nX : y\r\n\r\n",
    "0\r\n X: y\r\n\r\n",
    "0\r\nContent-Length: 5\r\n\r\n",
    "0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "0\r\nHost: canary\r\n\r\n",
    "0\r\nAuthorization: canary\r\n\r\n",
    "0\r\nX_Y: y\r\n\r\n",
    "0\r\nX: \x00\r\n\r\n",
    "0\r\nno colon\r\n\r\n",
    "0\r\n",
    "",
];

/// Lines that stand in for the request line; `@` is the path.
const REQUEST_LINES: &[&str] = &[
    "POST @ HTTP/1.1",
    "post @ HTTP/1.1",
    "POST  @ HTTP/1.1",
    "POST @  HTTP/1.1",
    "POST\t@\tHTTP/1.1",
    " POST @ HTTP/1.1",
    "POST @ HTTP/1.1 ",
    "POST @ HTTP/1.0",
    "POST @ HTTP/1.2",
    "POST @ HTTP/2.0",
    "POST @ HTTP/01.1",
    "POST @ http/1.1",
    "POST @ HTTP/1.1\x00",
    "POST @",
    "POST @ HTTP/1.1 HTTP/1.1",
    "POST @\x00 HTTP/1.1",
    "POST @\x0b HTTP/1.1",
    "POST http://mcp.example.test@ HTTP/1.1",
    "POST http://canary@ HTTP/1.1",
    "POST //canary@ HTTP/1.1",
    "POST @?x=odd HTTP/1.1",
    "POST @#canary HTTP/1.1",
    "POST @/../canary HTTP/1.1",
    "POST @/%2e%2e/canary HTTP/1.1",
    "POST @\\canary HTTP/1.1",
    "POST @%0d%0aX:canary HTTP/1.1",
    "POST @%20HTTP/1.1%0d%0a HTTP/1.1",
    "POST * HTTP/1.1",
    "POST mcp.example.test:80 HTTP/1.1",
    "CONNECT canary:80 HTTP/1.1",
    "HEAD @ HTTP/1.1",
    "TRACE @ HTTP/1.1",
    "PUT @ HTTP/1.1",
    "GET @ HTTP/1.1",
    "DELETE @ HTTP/1.1",
    "OPTIONS @ HTTP/1.1",
    "PO\x00ST @ HTTP/1.1",
    "\r\nPOST @ HTTP/1.1",
    "\r\n\r\n\r\nPOST @ HTTP/1.1",
    "\nPOST @ HTTP/1.1",
    "\rPOST @ HTTP/1.1",
    "POST @ HTTP/1.1\r\nX: y\r\n\r\nPOST @ HTTP/1.1",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nPOST @ HTTP/1.1",
];

/// Lines that are put between the others.
const LINES: &[&str] = &[
    "Host: canary",
    "host: mcp.example.test",
    "Host: a, b",
    "Host:",
    "Host : x",
    "H\u{f6}st: x",
    "X: y\r\n z",
    "X: y\r\n\tz",
    " X: y",
    "X : y",
    "X\t: y",
    "X:y\x00z",
    "X: y\rz",
    "X: y\nz: canary",
    "X: \x7f",
    "X: \u{80}",
    ": y",
    "X",
    "X Y: z",
    "(X): y",
    "X: y\r",
    "\rX: y",
    "X-Forwarded-For: canary",
    "Forwarded: for=canary",
    "Stenograph-Exchange: canary",
    "Content_Length: 5",
    "Transfer.Encoding: chunked",
    "Content-Length\u{e9}: 5",
    "Expect: 100-continue",
    "Expect: 100-continue, canary",
    "Expect: canary",
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
    "Upgrade: websocket\r\nConnection: Upgrade",
    "Upgrade: TLS/1.0",
    "Connection: close",
    "Connection: keep-alive, close",
    "Connection: Host, Authorization, Content-Type",
    "Connection: close\r\nConnection: keep-alive",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "TE: trailers",
    "Trailer: Content-Length",
    "Trailer: Host",
    "X-HTTP-Method-Override: DELETE",
    "Content-Encoding: gzip",
    "Content-Type: text/plain",
    "Accept: */*;q=0",
    "Authorization: Bearer canary",
    "Mcp-Session-Id: canary",
    "Mcp-Method: canary",
    "Mcp-Name: canary",
    "Mcp-Param-X: canary\r\n y",
    "Last-Event-ID: canary\nX: y",
    "Accept-Language: a\r\n\r\n",
];

fn pick(dice: &mut Dice, of: &[&'static str]) -> &'static str {
    of[dice.below(of.len())]
}

fn with(template: &str, number: &str) -> String {
    template.replace('N', number)
}

fn chunked(text: &str, dice: &mut Dice) -> String {
    let mut rest = text;
    let mut out = String::new();
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(1 + dice.below(rest.len()));
        rest = behind;
        // Most lines are good, so that the bad one stands anywhere.
        let bad = dice.once_in(3);
        let line = if bad { pick(dice, CHUNK_LINES) } else { CHUNK_LINES[0] };
        let end = if dice.once_in(4) { pick(dice, CHUNK_ENDS) } else { CHUNK_ENDS[0] };
        out += &with(line, &format!("{:x}", piece.len()));
        out += piece;
        out += end;
    }
    out + if dice.once_in(2) { pick(dice, LAST_CHUNKS) } else { LAST_CHUNKS[0] }
}

/// Good requests with one flaw each, in the framing; the marker that each holds.
pub fn single_flaws(token: &str) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut add = |make: &dyn Fn(&str) -> (String, String)| {
        let marker = format!("sf{:06}", all.len());
        let (framing, payload) = make(&body(&marker));
        let head = format!("POST {PATH} HTTP/1.1\r\n{}{framing}\r\n\r\n", fields(token));
        all.push((marker, (head + &payload).into_bytes()));
    };
    let chunks = |text: &str, line: &str, end: &str, last: &str| {
        let (front, back) = text.split_at(40);
        format!("{}{front}{end}{:x}\r\n{back}\r\n{last}", with(line, "28"), back.len())
    };
    let coding = CODINGS[0].to_owned();
    for line in CHUNK_LINES {
        add(&|text| (coding.clone(), chunks(text, line, "\r\n", LAST_CHUNKS[0])));
    }
    for end in CHUNK_ENDS {
        add(&|text| (coding.clone(), chunks(text, CHUNK_LINES[0], end, LAST_CHUNKS[0])));
    }
    for last in LAST_CHUNKS {
        add(&|text| (coding.clone(), chunks(text, CHUNK_LINES[0], "\r\n", last)));
    }
    for coding in CODINGS {
        add(&|text| ((*coding).to_owned(), chunks(text, CHUNK_LINES[0], "\r\n", LAST_CHUNKS[0])));
    }
    // Both, of which one is right.
    add(&|text| {
        let payload = chunks(text, CHUNK_LINES[0], "\r\n", LAST_CHUNKS[0]);
        (format!("{coding}\r\nContent-Length: {}", payload.len()), payload)
    });
    add(&|text| (format!("Content-Length: {}\r\n{coding}", text.len()), text.to_owned()));
    for length in LENGTHS {
        add(&|text| (with(length, &text.len().to_string()), text.to_owned()));
    }
    all
}

/// Flips, drops and doubles a few bytes, mostly in the head.
fn scratch(bytes: &mut Vec<u8>, dice: &mut Dice) {
    const ODD: &[u8] = b"\r\n\0 \t:;,\x0b\x7f\x80\xff0Aa-+\"";
    for _ in 0..1 + dice.below(3) {
        let end = memchr::memmem::find(bytes, b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        let within = if dice.once_in(4) { bytes.len() } else { end };
        let at = dice.below(within.max(1));
        match dice.below(4) {
            0 => bytes[at] = ODD[dice.below(ODD.len())],
            1 => bytes.insert(at, ODD[dice.below(ODD.len())]),
            2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, bytes[at]),
        }
    }
}

/// One request that parsers may read differently; the marker of the message that it may be read as.
pub fn request(token: &str, marker: &str, dice: &mut Dice) -> Vec<u8> {
    let text = body(marker);
    let hidden = hidden(token, dice);
    let line = if dice.once_in(4) { pick(dice, REQUEST_LINES) } else { REQUEST_LINES[0] };
    let head = line.replace('@', PATH);
    let mut lines: Vec<String> =
        fields(token).trim_end().split("\r\n").map(str::to_owned).collect();
    for _ in 0..dice.below(2) {
        lines.insert(dice.below(lines.len() + 1), pick(dice, LINES).to_owned());
    }
    let mut insert =
        |line: String, dice: &mut Dice| lines.insert(dice.below(lines.len() + 1), line);
    let payload = match dice.below(6) {
        // By its length, which is written oddly; a message behind it.
        0 => {
            insert(with(pick(dice, LENGTHS), &text.len().to_string()), dice);
            text + if dice.once_in(2) { &hidden } else { "" }
        }
        // By its length, with a coding beside it; a message behind the last chunk.
        1 => {
            let inner = format!("0\r\n\r\n{hidden}");
            insert(format!("Content-Length: {}", inner.len()), dice);
            insert(pick(dice, CODINGS).to_owned(), dice);
            inner
        }
        // In chunks, with a length beside them that ends within.
        2 => {
            let inner = chunked(&text, dice) + &hidden;
            insert(with(pick(dice, LENGTHS), "4"), dice);
            insert(pick(dice, CODINGS).to_owned(), dice);
            inner
        }
        // In chunks, written oddly.
        3 => {
            insert("Transfer-Encoding: chunked".to_owned(), dice);
            chunked(&text, dice) + if dice.once_in(2) { &hidden } else { "" }
        }
        // In chunks, by a coding that is written oddly.
        4 => {
            insert(pick(dice, CODINGS).to_owned(), dice);
            chunked(&text, dice) + if dice.once_in(3) { &hidden } else { "" }
        }
        // Well framed, and a few bytes are wrong.
        _ => {
            insert(format!("Content-Length: {}", text.len()), dice);
            text
        }
    };
    let ending = if dice.once_in(12) { pick(dice, &["\n", "\r", "\r\r\n"]) } else { "\r\n" };
    let mut bytes =
        format!("{head}{ending}{}{ending}{ending}{payload}", lines.join(ending)).into_bytes();
    if dice.once_in(5) {
        scratch(&mut bytes, dice);
    }
    bytes
}

/// What a client sends on one connection: requests of which some are odd, and the pieces it sends.
pub fn conversation(token: &str, number: usize, dice: &mut Dice) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut part = 0;
    let mut marker = || {
        part += 1;
        format!("mk{number:06}p{part}e")
    };
    if dice.once_in(2) {
        bytes.extend(good(token, &marker(), ""));
    }
    bytes.extend(request(token, &marker(), dice));
    if dice.once_in(3) {
        bytes.extend(request(token, &marker(), dice));
    }
    if dice.once_in(2) {
        bytes.extend(good(token, &marker(), "Connection: close\r\n"));
    }
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let some = if dice.once_in(2) { bytes.len() } else { 1 + dice.below(bytes.len()) };
        pieces.push(bytes.drain(..some).collect());
    }
    pieces
}

/// An answer that parsers may read differently, with another answer hidden in it. Both carry the id that
/// every call here has.
pub fn answer(marker: &str, dice: &mut Dice) -> Vec<u8> {
    let text = result(marker);
    let stolen = result(CANARY);
    let hidden = match dice.below(3) {
        0 => format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX: {CANARY}"),
        _ => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{stolen}",
            stolen.len()
        ),
    };
    const STATUS_LINES: &[&str] = &[
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200",
        "HTTP/1.1  200 OK",
        "HTTP/1.0 200 OK",
        "HTTP/2 200 OK",
        "HTTP/1.1 0200 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 +200 OK",
        "HTTP/1.1 204 OK",
        "HTTP/1.1 304 OK",
        "HTTP/1.1 100 OK",
        "HTTP/1.1 101 OK",
        "HTTP/1.1 102 OK\r\n\r\nHTTP/1.1 200 OK",
        "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK",
        "HTTP/1.1 205 OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 OK\rX: y",
        "\r\nHTTP/1.1 200 OK",
        "ICY 200 OK",
    ];
    let line = if dice.once_in(4) { pick(dice, STATUS_LINES) } else { STATUS_LINES[0] };
    let media = pick(dice, &["application/json", "application/json", "text/event-stream"]);
    let text = if media == "text/event-stream" { format!("data: {text}\n\n") } else { text };
    let mut lines = vec![format!("Content-Type: {media}")];
    if dice.once_in(4) {
        lines.push(pick(dice, LINES).to_owned());
    }
    let mut insert =
        |line: String, dice: &mut Dice| lines.insert(dice.below(lines.len() + 1), line);
    let payload = match dice.below(6) {
        0 => {
            insert(with(pick(dice, LENGTHS), &text.len().to_string()), dice);
            text
        }
        1 => {
            let inner = format!("0\r\n\r\n{hidden}");
            insert(format!("Content-Length: {}", inner.len()), dice);
            insert(pick(dice, CODINGS).to_owned(), dice);
            inner
        }
        2 => {
            insert(with(pick(dice, LENGTHS), "4"), dice);
            insert(pick(dice, CODINGS).to_owned(), dice);
            chunked(&text, dice)
        }
        3 => {
            insert("Transfer-Encoding: chunked".to_owned(), dice);
            chunked(&text, dice)
        }
        4 => {
            insert(pick(dice, CODINGS).to_owned(), dice);
            chunked(&text, dice)
        }
        _ => {
            insert(format!("Content-Length: {}", text.len()), dice);
            text
        }
    };
    let ending = if dice.once_in(12) { pick(dice, &["\n", "\r", "\r\r\n"]) } else { "\r\n" };
    let mut bytes =
        format!("{line}{ending}{}{ending}{ending}{payload}", lines.join(ending)).into_bytes();
    if dice.once_in(6) {
        scratch(&mut bytes, dice);
    }
    // Behind the answer, in the same breath.
    if dice.once_in(2) {
        bytes.extend_from_slice(hidden.as_bytes());
    }
    bytes
}

pub fn result(marker: &str) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{{\"content\":[{{\"type\":\"text\",\"text\":\"{marker}\"}}]}}}}"
    )
}
