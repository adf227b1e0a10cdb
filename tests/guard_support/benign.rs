//! Text of the kinds that tools answer with and that holds nothing to mask, made of templates.
//!
//! `{h40}` is forty hexadecimal digits, `{d16}` decimal ones, `{a20}` letters and digits, `{A8}` the same
//! in capitals, `{b44}` base64, `{w}` a word, `{v}` a version, `{o}` a number below 256, `{n}` one below
//! ten thousand, `{u}` a UUID, `{s}` seconds since 1970.

use super::text::{BASE64, Seed, prose, uuid};

/// One line each; a few hold escapes of JSON inside them.
const TEMPLATES: &[&str] = &[
    // Code.
    "const token = process.env.{w}_TOKEN ?? '';",
    "password = os.environ.get(\"DB_PASSWORD\", \"\")",
    "String password = System.getenv(\"PASSWORD\"); // {w}",
    "api_key: ${{ secrets.API_KEY }}",
    "Authorization: Bearer ${TOKEN}",
    "curl -H 'Authorization: Bearer <your-token>' https://api.example.com/v{n}",
    "if err := row.Scan(&user.Password, &user.Token); err != nil { return err }",
    "@property.setter\n    def token(self, value): self._token = value",
    "@app.route('/login')\ndef login(): return check(request.form['password'])",
    "@pytest.mark.parametrize(\"card\", [visa, amex])",
    "import x from '@angular/core@{v}'; // @types/node@{v}",
    "fn main() { let x = 0x{h8}; let y = {d16}u64; println!(\"{}\", x + y); }",
    "check_normalize({d16}, {n}, 11, {d19});",
    "static const uint32_t K[] = {0x{h8}, 0x{h8}, 0x{h8}, 0x{h8}};",
    "!function(e,t){var n=e.{w},r=t({n});for(var i={n};i--;)n[i]^=r>>{o}}(window,{d9});",
    ".c{h6}{color:#{h6};background:#{h3};margin:{n}px {n}px;transition:all .{d2}s}",
    "<path d=\"M{n}.{d2} {n}.{d2}c{n}.{d3}-{n}.{d2} {n}.{d3}.{d2} {n}.{d3}-{n}.{d3}z\"/>",
    "SELECT * FROM users WHERE id = {d10} AND created_at > {s} LIMIT {n};",
    "INSERT INTO `t` VALUES ({n},'{u}',{d12},'2024-0{n}-11 10:{o}:00',{d14},NULL);",
    "#define VERSION_{w} 0x{h8}UL /* {v} */",
    "regex = r'^\\+?[0-9]{10,15}$' # phone: digits only",
    "phone: z.string().regex(/^\\d{3}-\\d{3}-\\d{4}$/)",
    "mail = f\"{user}@{host}\"; assert '@' in mail",
    "$ ssh deploy@web-{o}.internal.example.com -p 22",
    "scp -r build/ deploy@web{o}.example.com:/srv/www/{w}",
    "git clone git@github.com:org/{w}-{n}.git && cd {w}",
    "remote: https://x-access-token:${GITHUB_TOKEN}@github.com/org/{w}.git",
    // Files that tools read.
    "      integrity sha512-{b86}==",
    "    \"resolved\": \"https://registry.npmjs.org/{w}/-/{w}-{v}.tgz#{h40}\",",
    "checksum = \"{h64}\"",
    "    --hash=sha256:{h64} \\",
    "image: registry.example.com/{w}@sha256:{h64}",
    "password: \"{{ vault_db_password }}\"",
    "SECRET_KEY=changeme\nDATABASE_URL=postgres://user:password@localhost:5432/{w}",
    "REDIS_URL=redis://localhost:6379/{o}\nTOKEN_TTL={n}",
    "  secretKeyRef:\n    name: {w}-secret\n    key: password",
    "apiVersion: v1\nkind: Secret\nmetadata:\n  uid: {u}\n  resourceVersion: \"{d9}\"",
    "resource \"aws_db_instance\" \"{w}\" { password = var.db_password }",
    "arn:aws:iam::{d12}:role/{w}-{n} vpc-{h17} subnet-{h17} ami-{h17}",
    "github.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{b43}",
    "|1|{b27}=|{b27}= ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAA{b60}=",
    "-----BEGIN CERTIFICATE-----\n{b64}\n{b64}\n{b64}\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\n{b64}\n{b64}\n-----END PUBLIC KEY-----",
    "Subject: C=US, O={w}, serial {h2}:{h2}:{h2}:{h2}:{h2}:{h2}:{h2}:{h2}",
    "SHA256:{b43} {w}@{w} (ED25519)",
    // History and logs.
    "commit {h40} (HEAD -> main, tag: v{v})",
    "diff --git a/src/{w}.rs b/src/{w}.rs\nindex {h7}..{h7} 100644\n@@ -{n},{o} +{n},{o} @@ fn {w}()",
    "From {h40} Mon Sep 17 00:00:00 2001",
    "Message-Id: <{d14}.{n}-1-{w}@mail.example.com>",
    "{d10}.{d6} [{n}] {w}: seq={d16} ack={d10} win {n}",
    "trace_id={h32} span_id={h16} parent={h16} sampled=1",
    "traceparent: 00-{h32}-{h16}-01",
    "request {u} finished in {n}.{d3} ms; ulid 01{A24}",
    "ksuid {a27} nanoid {a21} cuid c{a24}",
    "ETag: \"{h32}\" X-Amz-Request-Id: {A16} X-Amz-Id-2: {b75}=",
    "00000{h3}0  {h2} {h2} {h2} {h2} {h2} {h2} {h2} {h2}  {h2} {h2} {h2} {h2} {h2} {h2} {h2} {h2}  |................|",
    "{h4} {h4} {h4} {h4} {h4} {h4} {h4} {h4}",
    "{d4} {d4} {d4} {d4} {d4} {d4} {d4} {d4}",
    "at {w} (/srv/app/node_modules/{w}/index.js:{n}:{o})",
    "listening on 0.0.0.0:{n}, peers 10.{o}.{o}.{o}, 192.168.{o}.{o}",
    "fe80::{h4}:{h4}:{h4}:{h4}%eth0 mtu 1500",
    "[{d2}:{d2}:{d2}] progress {o}% ({d9} of {d10} bytes)",
    // Business data that is not personal.
    "Order #{d16} shipped, tracking number {d12}, invoice {d10}",
    "order_id={d16} transaction_id={d18} customer_id={d9}",
    "{\"orderId\":\"{d16}\",\"sku\":\"{A10}\",\"ean\":\"{d13}\",\"amount\":{n}.{d2}}",
    "{\"id\":{d16},\"message_id\":\"{d19}\",\"ts\":{s}000,\"channel_id\":\"{d18}\"}",
    "[{d16},{d16},{d16}]",
    "ISBN 978-{d1}-{d2}-{d6}-{d1}, EAN {d13}, 1Z{A6}{d10}",
    "lat {o}.{d15}, lon -{o}.{d14}; bbox [{o}.{d6}, {o}.{d6}]",
    "| {n} | {d7} | {n}.{d2} | {d3}-{d4} | {o}% |",
    "{n},{d8},{n}.{d4},{d2}/{d2},{w},{w}",
    "mean 0.{d16} sd 0.{d17} n={d6}",
    "epoch {s} = {s}{d3} ms = {s}{d6} us = {s}{d9} ns",
    "version {v}.{n} (build {n}.{n}.{n}.{n}), rfc {n} section {o}.{o}.{o}.{o}",
    "part no. {d3}-{d5}-{d2}, meeting id {d3} {d4} {d4}",
    "data:image/png;base64,iVBORw0KGgo{b200}",
    "data:font/woff2;base64,d09GMgABAAAAA{b160}=",
    "eyJ2ZXJzaW9uIjozLCJzb3VyY2VzIjpbXX0{b80}",
    "See the docs: set `API_KEY=<your-api-key>` or `--token YOUR_TOKEN_HERE`.",
    "The password must have 8 to 64 characters; tokens expire after {n} seconds.",
    "Call support between 9 and 17 h; phone support ends {s}.",
    "Card layout v{v}: grid of {o} by {o}, credit to the design team.",
];

fn fill(seed: &mut Seed, template: &str) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        let close = rest.find('}').unwrap_or(0);
        let (kind, count) = match rest.get(1..close).unwrap_or_default().split_at_checked(1) {
            Some((kind, "")) => (kind, 0),
            Some((kind, count)) => (kind, count.parse().unwrap_or(usize::MAX)),
            None => ("", 0),
        };
        let text = match (kind, count) {
            (_, usize::MAX) => String::new(),
            ("h", 1..) => seed.hex(count),
            ("d", 1..) => {
                let first = seed.of("123456789", 1);
                first + &seed.of("0123456789", count - 1)
            }
            ("a", 1..) => seed.of(&BASE64[..62], count),
            ("A", 1..) => seed.of("ABCDEFGHJKMNPQRSTVWXYZ0123456789", count),
            ("b", 1..) => seed.of(BASE64, count),
            ("w", 0) => prose(seed, 1),
            ("v", 0) => {
                format!("{}.{}.{}", seed.below(30), seed.below(40), seed.below(40))
            }
            ("o", 0) => seed.below(256).to_string(),
            ("n", 0) => seed.below(10_000).to_string(),
            ("u", 0) => uuid(seed),
            ("s", 0) => seed.number(1_500_000_000, 1_800_000_000).to_string(),
            _ => String::new(),
        };
        if text.is_empty() {
            out.push('{');
            rest = &rest[1..];
        } else {
            out.push_str(&text);
            rest = &rest[close + 1..];
        }
    }
    out + rest
}

/// One message: an answer of a tool, its structured twin, a call, a resource or a notification.
pub fn message(seed: &mut Seed, lines: usize) -> String {
    use serde_json::json;
    let lines: Vec<String> = (0..lines)
        .map(|_| {
            let template = seed.pick(TEMPLATES);
            fill(seed, template)
        })
        .collect();
    let text = lines.join("\n");
    let id = seed.number(0, 1 << 40);
    match seed.below(6) {
        0 => json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
            "name": "write_file", "arguments": {"path": "/srv/x", "content": text, "at": seed.number(0, 1 << 53)}}}),
        1 => json!({"jsonrpc": "2.0", "id": id, "result": {
            "content": [{"type": "text", "text": json!({"rows": lines}).to_string()}],
            "structuredContent": {"rows": lines, "total": seed.number(0, 1 << 53)}}}),
        2 => json!({"jsonrpc": "2.0", "id": id, "result": {
            "contents": [{"uri": format!("file:///srv/{}.txt", seed.hex(8)), "mimeType": "text/plain", "text": text}]}}),
        3 => json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {
            "level": "info", "data": {"lines": lines, "seq": seed.number(0, 1 << 53)}}}),
        _ => json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}]}}),
    }
    .to_string()
}
