//! Why a message was refused as JSON-RPC, where, and with which error code.

use std::fmt;

use super::Id;
use crate::wire::json::JsonRule;

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal, $source:literal, $code:literal;)*) => {
        /// What a message broke.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum McpRule {
            /// It is no JSON text that every reader understands alike.
            Json(JsonRule),
            $($(#[$doc])* $rule,)*
        }

        impl McpRule {
            /// Every rule of the envelope, in the order of this file; those of JSON are in
            /// [`JsonRule::ALL`].
            pub const ALL: &'static [McpRule] = &[$(McpRule::$rule,)*];

            /// The rule's name in records and logs.
            pub fn as_str(self) -> &'static str {
                match self {
                    McpRule::Json(rule) => rule.as_str(),
                    $(McpRule::$rule => $name,)*
                }
            }

            /// Where the rule comes from.
            pub fn source(self) -> &'static str {
                match self {
                    McpRule::Json(rule) => rule.source(),
                    $(McpRule::$rule => $source,)*
                }
            }

            /// The JSON-RPC error code that answers it (JSON-RPC 2.0 §5.1): -32700 for what is no
            /// JSON, -32600 for what is no request, -32602 for parameters.
            pub fn code(self) -> i32 {
                match self {
                    McpRule::Json(rule) if rule.is_well_formed() => -32600,
                    McpRule::Json(_) => -32700,
                    $(McpRule::$rule => $code,)*
                }
            }
        }
    };
}

rules! {
    /// An array of messages: removed in MCP 2025-06-18, executed by some servers all the same.
    Batch = "mcp-batch", "MCP 2025-06-18 changelog", -32600;
    /// JSON, but not an object.
    NotAnObject = "mcp-not-an-object", "JSON-RPC 2.0 §4", -32600;
    /// A member name that some readers take for a routed one: another case, U+017F for s, U+212A for
    /// k, a control character or a low line more.
    LookAlikeKey = "mcp-look-alike-key", "CVE-2026-27896", -32600;
    /// No `jsonrpc`, or not the string `2.0`.
    Version = "mcp-jsonrpc-version", "JSON-RPC 2.0 §4", -32600;
    /// An id that is neither a string nor an integer; null stands only in an error from a server.
    IdKind = "mcp-id-kind", "JSON-RPC 2.0 §4, MCP basic", -32600;
    /// An integer beyond ±(2^53-1), or written `-0`: readers give different numbers back.
    IdRange = "mcp-id-range", "RFC 8259 §6", -32600;
    /// A string id longer than `ID_BYTES_MAX`.
    IdTooLong = "mcp-id-too-long", "ID_BYTES_MAX", -32600;
    /// A control character in a string id.
    IdText = "mcp-id-text", "MCP basic", -32600;
    /// A request or an answer without an id.
    IdMissing = "mcp-id-missing", "JSON-RPC 2.0 §4.1, §5", -32600;
    /// A notification with an id.
    IdUnexpected = "mcp-id-unexpected", "JSON-RPC 2.0 §4.1", -32600;
    /// `method` is not a string.
    MethodKind = "mcp-method-kind", "JSON-RPC 2.0 §4", -32600;
    /// `method` is empty, holds a control character or is longer than `METHOD_BYTES_MAX`.
    MethodText = "mcp-method-text", "METHOD_BYTES_MAX", -32600;
    /// Both a request and an answer: `method` beside `result` or `error`.
    MethodWithOutcome = "mcp-method-with-outcome", "JSON-RPC 2.0 §5", -32600;
    /// `result` beside `error`.
    ResultWithError = "mcp-result-with-error", "JSON-RPC 2.0 §5", -32600;
    /// None of `method`, `result` and `error`.
    NoClass = "mcp-no-class", "JSON-RPC 2.0 §4, §5", -32600;
    /// `params` beside an outcome.
    ParamsWithOutcome = "mcp-params-with-outcome", "JSON-RPC 2.0 §5", -32600;
    /// `params` is not an object.
    ParamsKind = "mcp-params-kind", "MCP schema, Request", -32600;
    /// `result` is not an object.
    ResultKind = "mcp-result-kind", "MCP schema, Result", -32600;
    /// `error` is not an object with an integer `code` and a string `message`.
    ErrorKind = "mcp-error-kind", "JSON-RPC 2.0 §5.1", -32600;
    /// `_meta`, or a member of it that the gateway reads, is of another kind than the schema says.
    MetaKind = "mcp-meta-kind", "MCP schema, RequestMetaObject", -32602;
    /// A member that names a target is there and is not a string (or not a list of strings).
    TargetKind = "mcp-target-kind", "MCP schema", -32602;
    /// A control character in a string that names a target.
    TargetText = "mcp-target-text", "GHSA-q382-vc8q-7jhj", -32602;
    /// A request state, the id of a task, a task or a related task is there and is not of the schema's
    /// kind.
    HandleKind = "mcp-handle-kind", "MCP schema", -32602;
    /// More targets and task ids in a client's message than `targets_max`, or more task ids in a server's
    /// than `answer_tasks_max`.
    TooManyTargets = "mcp-too-many-targets", "targets_max, answer_tasks_max", -32602;
    /// A member of a result that holds a list (`tools`, …) and is not an array.
    ListKind = "mcp-list-kind", "MCP schema, PaginatedResult", -32600;
}

/// A broken rule, the byte, and the id to answer to when there is one that can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct McpFault {
    /// What was broken.
    pub rule: McpRule,
    /// Offset in the message, in bytes.
    pub at: u32,
    /// The message's id, when the message is JSON and the id itself is in order.
    pub id: Option<Id>,
}

impl fmt::Display for McpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} ({})", self.rule.as_str(), self.at, self.rule.source())
    }
}

impl std::error::Error for McpFault {}
