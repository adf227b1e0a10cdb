//! Messages that are made to be dear: nothing but secrets, but what is nearly one, but escapes, or levels of JSON.

use serde_json::json;

use crate::text::Seed;

const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const DIGITS: &str = "0123456789";

/// A number of 16 digits whose Luhn digit (ISO/IEC 7812-1, annex B) is right, or one off.
fn card(seed: &mut Seed, holds: bool) -> String {
    let body = format!("411111{}", seed.of(DIGITS, 9));
    let sum: u32 = body
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, digit)| match u32::from(digit - b'0') * (2 - place as u32 % 2) {
            two @ 10.. => two - 9,
            one => one,
        })
        .sum();
    let right = (10 - sum % 10) % 10;
    format!("{body}{}", if holds { right } else { (right + 1) % 10 })
}

fn message(text: &str) -> Vec<u8> {
    json!({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": text}]}})
        .to_string()
        .into_bytes()
}

/// Lines of `one` until there are about `bytes` bytes.
fn filled(seed: &mut Seed, bytes: usize, one: &dyn Fn(&mut Seed) -> String) -> String {
    let mut out = String::new();
    while out.len() < bytes {
        out.push_str(&one(seed));
        out.push_str(", ");
    }
    out
}

/// Each kind with its name, eight messages of about `bytes` bytes.
pub fn kinds(bytes: usize) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    type One = Box<dyn Fn(&mut Seed) -> String>;
    let lines: Vec<(&str, One)> = vec![
        (
            "mail addresses",
            Box::new(|seed| {
                format!(
                    "name{}.family@mail{}.example-corp.com",
                    seed.of(DIGITS, 4),
                    seed.of(DIGITS, 2)
                )
            }),
        ),
        ("access keys", Box::new(|seed| format!("AKIA{}", seed.of(LETTERS, 16)))),
        ("cards", Box::new(|seed| card(seed, true))),
        (
            "database URIs",
            Box::new(|seed| {
                format!(
                    "postgres://user{}:pA{}s@db.internal:5432/base",
                    seed.of(DIGITS, 3),
                    seed.of(LETTERS, 9)
                )
            }),
        ),
        ("passwords", Box::new(|seed| format!("password=\"x9{}!7\"", seed.of(LETTERS, 9)))),
        ("nearly access keys", Box::new(|seed| format!("AKIA{}", seed.of(LETTERS, 15)))),
        ("nearly cards", Box::new(|seed| card(seed, false))),
        (
            "escapes",
            Box::new(|seed| {
                seed.of(LETTERS, 12)
                    .bytes()
                    .map(|byte| format!("\\u{byte:04x}%{byte:02x}"))
                    .collect()
            }),
        ),
    ];
    let mut seed = Seed(0xd0a7);
    let mut out: Vec<(&str, Vec<Vec<u8>>)> = lines
        .into_iter()
        .map(|(name, one)| {
            (name, (0..8).map(|_| message(&filled(&mut seed, bytes, &*one))).collect())
        })
        .collect();
    let nested = |seed: &mut Seed| {
        let mut text = filled(seed, bytes / 8, &|seed| format!("\"{}\"", seed.of(LETTERS, 8)));
        for _ in 0..3 {
            text = json!({ "inner": text }).to_string();
        }
        message(&text)
    };
    out.push(("JSON in JSON in JSON", (0..8).map(|_| nested(&mut seed)).collect()));
    out
}
