//! Realistic text that holds nothing to mask: made from a seed, the same every time.

/// A small generator (xorshift), good enough to vary text.
#[derive(Debug, Clone)]
pub struct Seed(pub u64);

impl Seed {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    pub fn of(&mut self, alphabet: &str, length: usize) -> String {
        let alphabet = alphabet.as_bytes();
        (0..length).map(|_| alphabet[self.below(alphabet.len())] as char).collect()
    }

    pub fn hex(&mut self, length: usize) -> String {
        self.of("0123456789abcdef", length)
    }

    pub fn number(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least)
    }
}

pub const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn uuid(seed: &mut Seed) -> String {
    format!("{}-{}-4{}-a{}-{}", seed.hex(8), seed.hex(4), seed.hex(3), seed.hex(3), seed.hex(12))
}

fn timestamp(seed: &mut Seed) -> String {
    let (month, day) = (seed.number(1, 13), seed.number(1, 29));
    let (hour, minute, second) = (seed.number(0, 24), seed.number(0, 60), seed.number(0, 60));
    format!(
        "2026-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:06}Z",
        seed.number(0, 1_000_000)
    )
}

const WORDS: &[&str] = &[
    "the", "server", "returned", "a", "list", "of", "open", "issues", "and", "merged", "branch",
    "into", "main", "token", "count", "password", "policy", "secret", "santa", "key", "value",
    "card", "layout", "phone", "support", "deploy", "finished", "with", "status", "context",
    "window", "account", "settings", "page", "Section", "API",
];

pub fn prose(seed: &mut Seed, words: usize) -> String {
    (0..words).map(|_| seed.pick(WORDS)).collect::<Vec<_>>().join(" ")
}

/// One line of the kind that fills answers of tools.
pub fn line(seed: &mut Seed) -> String {
    match seed.below(24) {
        0 => format!("commit {} merged {}", seed.hex(40), timestamp(seed)),
        1 => format!("sha256:{}  image-{}.tar", seed.hex(64), seed.number(1, 99)),
        2 => format!(
            "{} INFO [worker-{}] request_id={} took {}ms",
            timestamp(seed),
            seed.number(0, 32),
            uuid(seed),
            seed.number(1, 9999)
        ),
        3 => format!(
            "    let {} = self.{}.get(&{}).unwrap_or({});",
            seed.pick(WORDS),
            seed.pick(WORDS),
            seed.pick(WORDS),
            seed.number(0, 100)
        ),
        4 => format!(
            "import {{ {} }} from \"@scope/pkg-{}@{}.{}.{}\";",
            seed.pick(WORDS),
            seed.number(1, 9),
            seed.number(0, 30),
            seed.number(0, 30),
            seed.number(0, 30)
        ),
        5 => format!(
            "| {} | {} | {}.{} | {} |",
            seed.number(1, 100_000),
            prose(seed, 2),
            seed.number(0, 1000),
            seed.number(0, 100),
            seed.number(1_600_000_000, 1_800_000_000)
        ),
        6 => format!(
            "order #{} total ${}.{:02} for 3 items",
            seed.number(1_000_000_000_000_000, 9_999_999_999_999_999),
            seed.number(1, 999),
            seed.number(0, 100)
        ),
        7 => format!(
            "def {}(self, {}=None): return os.environ.get('{}_TOKEN')",
            seed.pick(WORDS),
            seed.pick(WORDS),
            seed.pick(WORDS).to_uppercase()
        ),
        8 => format!(
            "https://git.example.com/org/repo/pull/{}?tab=files#diff-{}",
            seed.number(1, 9999),
            seed.hex(64)
        ),
        9 => format!(
            "at Object.<anonymous> (/srv/app/node_modules/x/lib/index.js:{}:{})",
            seed.number(1, 999),
            seed.number(1, 99)
        ),
        10 => format!("data:image/png;base64,iVBORw0KGgo{}", seed.of(BASE64, 220)),
        11 => format!("\"integrity\": \"sha512-{}==\",", seed.of(BASE64, 86)),
        12 => format!(
            "drwxr-xr-x 12 root root {} Nov 22 08:{:02} {}",
            seed.number(1, 99999),
            seed.number(0, 60),
            seed.pick(WORDS)
        ),
        13 => format!(
            "{{\"id\":{},\"trace_id\":\"{}\",\"span_id\":\"{}\"}}",
            seed.number(1, 1 << 53),
            seed.hex(32),
            seed.hex(16)
        ),
        14 => format!(
            "password: {} # see the policy",
            seed.pick(&[
                "str",
                "${DB_PASSWORD}",
                "<redacted>",
                "null",
                "required",
                "Optional[str] = None"
            ])
        ),
        15 => format!("Content-Length: {}\r\nETag: W/\"{}\"", seed.number(1, 99999), seed.hex(32)),
        16 => format!(
            "INSERT INTO t VALUES ({}, '{}', {}, '{}');",
            seed.number(1, 9999),
            uuid(seed),
            seed.number(1, 1 << 40),
            timestamp(seed)
        ),
        17 => format!(
            "v{}.{}.{} -> v{}.{}.{}-rc.{}",
            seed.number(0, 9),
            seed.number(0, 40),
            seed.number(0, 40),
            seed.number(0, 9),
            seed.number(0, 40),
            seed.number(0, 40),
            seed.number(0, 9)
        ),
        18 => format!(
            "ns={} us={} ms={}",
            seed.number(1_700_000_000_000_000_000, 1_800_000_000_000_000_000),
            seed.number(1_700_000_000_000_000, 1_800_000_000_000_000),
            seed.number(1_700_000_000_000, 1_800_000_000_000)
        ),
        19 => format!(
            "C:\\Users\\dev\\src\\{}\\{}.cs({},{}): warning CS{}",
            seed.pick(WORDS),
            seed.pick(WORDS),
            seed.number(1, 999),
            seed.number(1, 99),
            seed.number(1000, 9999)
        ),
        20 => format!(
            "re.match(r\"^\\d{{3}}-\\w+\\.(png|jpe?g)$\", {})  # {}",
            seed.pick(WORDS),
            prose(seed, 5)
        ),
        21 => format!(
            "token = tokens[{}]; api_key = get_api_key(\"{}\")",
            seed.number(0, 99),
            seed.pick(WORDS)
        ),
        22 => format!(
            "[{}, {}, {}, {}]",
            seed.number(0, 1 << 31),
            seed.number(0, 1 << 31),
            seed.number(0, 1 << 31),
            seed.number(0, 1 << 31)
        ),
        _ => format!("{}.", prose(seed, 14)),
    }
}

/// Lines of about `bytes` bytes.
pub fn lines(seed: &mut Seed, bytes: usize) -> String {
    let mut out = String::new();
    while out.len() < bytes {
        out.push_str(&line(seed));
        out.push('\n');
    }
    out
}

/// One message of a server: a tool's answer, a notification or a list.
pub fn message(seed: &mut Seed, bytes: usize) -> String {
    use serde_json::json;
    let text = lines(seed, bytes);
    match seed.below(5) {
        0 => json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "logger": "x", "data": {"text": text, "at": seed.number(0, 1 << 50)}}}),
        1 => {
            let rows: Vec<_> = text.lines().map(|line| json!({"id": uuid(seed), "line": line, "n": seed.number(0, 1 << 53)})).collect();
            json!({"jsonrpc": "2.0", "id": seed.number(0, 999), "result": {"content": [{"type": "text", "text": json!(rows).to_string()}], "structuredContent": {"rows": rows}}})
        }
        2 => json!({"jsonrpc": "2.0", "id": seed.number(0, 999), "result": {"tools": [{"name": "search", "description": text, "inputSchema": {"type": "object", "properties": {"password": {"type": "string"}}}}]}}),
        _ => json!({"jsonrpc": "2.0", "id": uuid(seed), "result": {"content": [{"type": "text", "text": text}], "isError": false}}),
    }
    .to_string()
}
