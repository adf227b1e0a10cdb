//! Hiding places for secrets, and messages judged whole.

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
    let message = mcp::read(text.as_bytes(), direction, &judge.limits, &mut judge.scratch)
        .unwrap_or_else(|fault| panic!("{fault:?} in {text}"));
    judge.scanner.judge_message(
        BytesMut::from(text),
        message,
        &permit(),
        direction,
        mask,
        &[7; 32],
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
