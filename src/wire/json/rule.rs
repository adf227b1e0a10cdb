//! Why a JSON text was refused, and where.

use std::fmt;

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal, $source:literal;)*) => {
        /// What a JSON text broke.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum JsonRule { $($(#[$doc])* $rule,)* }

        impl JsonRule {
            /// Every rule, in the order of this file.
            pub const ALL: &'static [JsonRule] = &[$(JsonRule::$rule,)*];

            /// The rule's name in records and logs.
            pub fn as_str(self) -> &'static str {
                match self { $(JsonRule::$rule => $name,)* }
            }

            /// Where the rule comes from.
            pub fn source(self) -> &'static str {
                match self { $(JsonRule::$rule => $source,)* }
            }
        }
    };
}

rules! {
    /// A byte order mark: stripped by some readers, an error to others.
    ByteOrderMark = "json-byte-order-mark", "RFC 8259 §8.1";
    /// Bytes that are not UTF-8; UTF-16 and UTF-32 end here too.
    NotUtf8 = "json-not-utf8", "RFC 8259 §8.1";
    /// No value at all.
    Empty = "json-empty", "RFC 8259 §2";
    /// A byte that the grammar does not allow here.
    Unexpected = "json-unexpected", "RFC 8259 §2";
    /// The text ends before its value does.
    Truncated = "json-truncated", "RFC 8259 §2";
    /// Anything but white space after the value.
    Trailing = "json-trailing", "RFC 8259 §2";
    /// A word that begins like `true`, `false` or `null` and is none of them.
    Literal = "json-literal", "RFC 8259 §3";
    /// A number outside the grammar: leading zero, bare point, empty exponent.
    Number = "json-number", "RFC 8259 §6";
    /// A number that no double holds: infinity to some readers, an error or exact to others.
    NumberRange = "json-number-range", "RFC 8259 §6";
    /// An unescaped control byte in a string.
    ControlByte = "json-control-byte", "RFC 8259 §7";
    /// A backslash that begins no escape.
    Escape = "json-escape", "RFC 8259 §7";
    /// Half a surrogate pair: no character, and replaced differently by each reader.
    LoneSurrogate = "json-lone-surrogate", "RFC 8259 §8.2";
    /// One name twice in one object: readers disagree which one counts.
    DuplicateKey = "json-duplicate-key", "RFC 8259 §4";
    /// U+0000 in a member name.
    NulInKey = "json-nul-in-key", "GHSA-q382-vc8q-7jhj";
    /// Nested beyond `json_depth_max`.
    TooDeep = "json-too-deep", "json_depth_max";
    /// More members in all than `json_members_max`.
    TooManyMembers = "json-too-many-members", "json_members_max";
    /// A member name longer than `json_key_bytes_max`.
    KeyTooLong = "json-key-too-long", "json_key_bytes_max";
    /// 4 GiB or more: positions would not fit.
    TooLong = "json-too-long", "Span";
}

impl JsonRule {
    /// Whether the text is JSON all the same, refused for being ambiguous or over a bound.
    pub fn is_well_formed(self) -> bool {
        use JsonRule::*;
        matches!(
            self,
            NumberRange | DuplicateKey | NulInKey | TooDeep | TooManyMembers | KeyTooLong | TooLong
        )
    }
}

/// A broken rule and the byte that broke it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonFault {
    /// What was broken.
    pub rule: JsonRule,
    /// Offset in the text, in bytes.
    pub at: u32,
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} ({})", self.rule.as_str(), self.at, self.rule.source())
    }
}

impl std::error::Error for JsonFault {}
