#![allow(dead_code, reason = "each test uses a part")]
//! What the guard's tests share: secrets from the pack's own tests, messages to hide them in, and a
//! scanner to judge them with.

use std::sync::Arc;

use bytes::BytesMut;
use serde_json::{Value, json};
use stenograph::guard::policy::{Grant, Permit, Policy};
use stenograph::guard::{Engine, Mask, Outcome, RuleSet, Scanner};
use stenograph::limits::Limits;
use stenograph::types::{Direction, Finding, Identity};
use stenograph::wire::json::Scratch;
use stenograph::wire::mcp;

pub const PSEUDONYM_KEY: [u8; 32] = [7; 32];

pub fn builtin() -> Arc<RuleSet> {
    RuleSet::builtin().expect("the built-in pack compiles")
}

/// A scanner with everything it needs.
pub struct Judge {
    pub scanner: Scanner,
    pub scratch: Scratch,
    pub limits: Limits,
    permit: Permit,
}

impl Judge {
    pub fn new(rules: Arc<RuleSet>, engine: Engine) -> Judge {
        let limits = Limits::default();
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
        let permit = policy.judge_http(&policy.access(&identity, 0)).expect("granted to all");
        let scanner = Scanner::with_engine(rules, [3; 32], &limits, engine);
        Judge { scanner, scratch: Scratch::new(), limits, permit }
    }

    pub fn builtin() -> Judge {
        Judge::new(builtin(), Engine::Hyperscan)
    }

    pub fn judge(&mut self, text: &str, direction: Direction, mask: Mask) -> Outcome {
        let message = mcp::read(text.as_bytes(), direction, &self.limits, &mut self.scratch)
            .unwrap_or_else(|fault| panic!("{fault:?} in {text}"));
        self.scanner.judge_message(
            BytesMut::from(text),
            message,
            &self.permit,
            direction,
            mask,
            &PSEUDONYM_KEY,
            &mut self.scratch,
            &self.limits,
        )
    }

    pub fn scan(&mut self, text: &[u8], direction: Direction) -> Vec<Finding> {
        self.scanner.scan(text, direction, &mut self.scratch, &self.limits).expect("within bounds")
    }
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
}

impl Hiding {
    pub const ALL: [Hiding; 6] = [
        Hiding::Plain,
        Hiding::Spelled,
        Hiding::Nested(1),
        Hiding::Nested(2),
        Hiding::Nested(3),
        Hiding::NestedSpelled,
    ];
}

fn spelled(text: &str) -> String {
    text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text")
}

/// An answer whose text is `text`, hidden.
pub fn answer(text: &str, hiding: Hiding) -> String {
    let nest = |times: usize| {
        (0..times).fold(text.to_string(), |text, _| {
            json!({"before": "x \"y\"", "value": text, "z": [1]}).to_string()
        })
    };
    let token = match hiding {
        Hiding::Plain => quoted(text),
        Hiding::Spelled => format!("\"{}\"", spelled(text)),
        Hiding::Nested(times) => quoted(&nest(times)),
        Hiding::NestedSpelled => quoted(&format!("{{\"value\":\"{}\"}}", spelled(text))),
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
        Hiding::Plain | Hiding::Spelled => 0,
        Hiding::Nested(times) => times,
        Hiding::NestedSpelled => 1,
    };
    for _ in 0..times {
        let inner: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        text = inner["value"].as_str().expect("a value").to_string();
    }
    text
}
