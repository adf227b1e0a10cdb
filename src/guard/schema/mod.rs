//! What a tool says of its structured content (`outputSchema`, a JSON Schema), and whether a text fits it.
//!
//! Clients of MCP check `structuredContent` against the schema that the server listed, and throw away what
//! does not fit. A mask that keeps the type may still break a `pattern`, a `format` or an `enum`; then the
//! caller would see a fault of ours as one of the server. So an answer whose structured content was edited is
//! checked here before it goes on.
//!
//! Read are the keywords of the drafts from 4 to 2020-12. A value is refused when one of the clients refuses
//! it: `format` counts, as in the TypeScript SDK, also where the Python SDK does not look at it.
//! `unevaluatedProperties` and `unevaluatedItems` are not read. What cannot be told is untold
//! ([`Fit::Unknown`]), unless something else refuses the value: references to other documents, dynamic
//! references, keywords with nonsense in them, expressions that no engine takes in linear time, and whatever is
//! over a bound.
//!
//! | module | holds |
//! |---|---|
//! | `check`, `kinds` | the walk over schema and value, in bounded steps; what each kind of value is asked |
//! | `format` | what `format` asks of a text |
//! | `pattern` | expressions of ECMA-262 |
//!
//! Why no library does the walk: a schema comes from the server, and the crate `jsonschema` (0.61) has no bound
//! for its work. Schemas of 1.5 KB in which each of 26 definitions names the next one twice take it 0.6 s, and
//! each definition more doubles that; a worker must not stand so long. Its expressions step back, too.

mod check;
mod format;
mod kinds;
mod pattern;
#[cfg(test)]
mod tests;

pub use check::Checks;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::types::path::JsonPath;

/// The schema of one tool's structured content, as its text was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputSchema {
    text: Bytes,
    digest: [u8; 16],
}

/// What a text is to a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fit {
    /// It fits.
    Fits,
    /// It does not.
    Unfit(Refusal),
    /// Nobody here can tell.
    Unknown,
}

/// What a schema refuses first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Where in the text.
    pub path: JsonPath,
    /// The keyword that refuses it.
    pub keyword: &'static str,
}

impl OutputSchema {
    /// The schema with this text, which is valid JSON.
    pub fn new(text: &[u8]) -> OutputSchema {
        let mut digest = [0; 16];
        digest.copy_from_slice(&Sha256::digest(text)[..16]);
        OutputSchema { text: Bytes::copy_from_slice(text), digest }
    }

    /// The first half of the SHA-256 of its text: with it the answer that listed it is found in the record.
    pub fn digest(&self) -> [u8; 16] {
        self.digest
    }

    /// Bytes of its text.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// What holds the texts of one answer against it. Nothing is parsed yet.
    pub fn checks(&self) -> Checks {
        Checks::new(self.text.clone())
    }

    /// Whether the JSON text `value` fits, where it is the only one.
    pub fn check(&self, value: &[u8]) -> Fit {
        self.checks().check(value)
    }
}
