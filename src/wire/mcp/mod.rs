//! The envelope: one JSON-RPC 2.0 message of any MCP version, read strictly.
//!
//! [`read`] says what class a message is, what it asks of which target, and where everything stands
//! that must be judged, rewritten or left alone. What it accepts means the same to every reader: no
//! batches, no message of two classes, no id that readers give back differently, no member that is
//! taken for a routed one (see [`mod@place`]). It does not check a message against the schema of its
//! method beyond what routes, and does not decide who may send it.
//!
//! | class | `method` | `id` | `result` / `error` |
//! |---|---|---|---|
//! | [`Class::Request`] | string | string or integer | – |
//! | [`Class::Notification`] | string | absent | – |
//! | [`Class::Answer`] | – | string or integer | `result`, an object |
//! | [`Class::Error`] | – | string or integer; from a server also null or absent | `error` |
//!
//! Invariants: every position lies in the message that was read; a known method with a target has
//! either targets or `targets_unclear`; strings are compared as decoded, byte for byte, without
//! trimming, folding or normalising.

mod envelope;
mod method;
mod place;
mod rule;

pub use method::{KnownMethod, METHODS, TargetKind, TargetRule, known_method};
pub use place::{Place, looks_like, places};
pub use rule::{McpFault, McpRule};

use std::borrow::Cow;

use crate::limits::Limits;
use crate::types::{Direction, Span};
use crate::wire::json::{self, Text};

/// What a message is to JSON-RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Has a method and an id: will be answered.
    Request,
    /// Has a method and no id.
    Notification,
    /// Has a result.
    Answer,
    /// Has an error.
    Error,
}

impl Class {
    /// The word used in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Request => "request",
            Class::Notification => "notification",
            Class::Answer => "answer",
            Class::Error => "error",
        }
    }
}

/// A JSON-RPC id: a string, or an integer within ±(2^53-1) in its shortest form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    /// The raw token, with its quotes when it is a string: fit to be written into an answer.
    pub span: Span,
    /// Whether it is an integer.
    pub number: bool,
    /// Whether it is a string with escapes.
    pub escaped: bool,
}

impl Id {
    /// What the id says; two ids are equal when this and `number` are. An integer has one spelling.
    pub fn decode<'a>(&self, message: &'a [u8]) -> Cow<'a, str> {
        let span = match self.number {
            true => self.span,
            false => Span { start: self.span.start + 1, len: self.span.len - 2 },
        };
        Text { span, escaped: self.escaped }.decode(message)
    }

    /// Whether this id of `message` equals `other` of `other_message`.
    pub fn same(&self, message: &[u8], other: &Id, other_message: &[u8]) -> bool {
        self.number == other.number && self.decode(message) == other.decode(other_message)
    }
}

/// One thing a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// What it is.
    pub kind: TargetKind,
    /// Its name, URI or id.
    pub text: Text,
}

/// Which list a result holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListKind {
    /// `result.tools`.
    Tools,
    /// `result.prompts`.
    Prompts,
    /// `result.resources`.
    Resources,
    /// `result.resourceTemplates`.
    ResourceTemplates,
}

/// One element of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListItem {
    /// The element, brackets included.
    pub span: Span,
    /// `name`, `uri` or `uriTemplate`, when the element is an object that has it as a string.
    pub name: Option<Text>,
}

/// A list in a result, recognised by its shape whatever was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Which.
    pub kind: ListKind,
    /// The array, brackets included.
    pub array: Span,
    /// Its elements in order.
    pub items: Vec<ListItem>,
}

/// A message that was read. Positions only; the bytes stay with the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub class: Class,
    /// Its id; none for notifications, and for errors of servers that knew none.
    pub id: Option<Id>,
    /// Its method, for requests and notifications.
    pub method: Option<Text>,
    /// The row of the method table, when the method is in it.
    pub known: Option<&'static KnownMethod>,
    /// What it asks for, for methods of the table.
    pub targets: Vec<Target>,
    /// The table names a target for this method, and it is missing.
    pub targets_unclear: bool,
    /// `params.name`, where it is a string, whatever the method.
    pub name: Option<Text>,
    /// `params.uri` likewise.
    pub uri: Option<Text>,
    /// `params`, brackets included.
    pub params: Option<Span>,
    /// `params.arguments`, the whole value.
    pub arguments: Option<Span>,
    /// `params._meta["io.modelcontextprotocol/protocolVersion"]`.
    pub protocol_version: Option<Text>,
    /// `params.protocolVersion` of `initialize`, or `result.protocolVersion` of its answer.
    pub initialize_version: Option<Text>,
    /// `name` of `clientInfo`, in `params` or in `_meta`. Unverified: never a reason to allow.
    pub client_name: Option<Text>,
    /// `version` beside it.
    pub client_version: Option<Text>,
    /// `result.serverInfo.name`. Unverified.
    pub server_name: Option<Text>,
    /// `result.serverInfo.version`.
    pub server_version: Option<Text>,
    /// `params._meta.progressToken`, raw.
    pub progress_token: Option<Span>,
    /// `params.progressToken` of `notifications/progress`, raw.
    pub progress_of: Option<Span>,
    /// `params.requestId` of `notifications/cancelled`.
    pub cancelled: Option<Id>,
    /// `_meta["io.modelcontextprotocol/subscriptionId"]` of either side, raw.
    pub subscription: Option<Span>,
    /// `params._meta.traceparent` (W3C Trace Context).
    pub trace_parent: Option<Text>,
    /// `requestState` of params or result.
    pub request_state: Option<Text>,
    /// Task ids that are handed out or related to: `result.taskId`; `task.taskId`, `tasks[].taskId` and
    /// `_meta["io.modelcontextprotocol/related-task"].taskId` of params and result.
    pub task_ids: Vec<Text>,
    /// `params.taskId` where the method has another target, or is not in the table.
    pub task_named: Option<Text>,
    /// Lists in the result.
    pub lists: Vec<List>,
    /// `result`, brackets included.
    pub result: Option<Span>,
    /// `result` is `{}`.
    pub result_empty: bool,
    /// `result.cacheScope`, raw value.
    pub cache_scope: Option<Span>,
    /// `result.resultType`.
    pub result_type: Option<Text>,
    /// `error.code`; saturated when beyond 64 bits.
    pub error_code: Option<i64>,
    /// `error.message`.
    pub error_message: Option<Text>,
}

impl Message {
    /// Nothing read yet.
    fn empty() -> Message {
        Message {
            class: Class::Request,
            id: None,
            method: None,
            known: None,
            targets: Vec::new(),
            targets_unclear: false,
            name: None,
            uri: None,
            params: None,
            arguments: None,
            protocol_version: None,
            initialize_version: None,
            client_name: None,
            client_version: None,
            server_name: None,
            server_version: None,
            progress_token: None,
            progress_of: None,
            cancelled: None,
            subscription: None,
            trace_parent: None,
            request_state: None,
            task_ids: Vec::new(),
            task_named: None,
            lists: Vec::new(),
            result: None,
            result_empty: false,
            cache_scope: None,
            result_type: None,
            error_code: None,
            error_message: None,
        }
    }

    /// The decoded method, `""` when there is none.
    pub fn method_name<'a>(&self, bytes: &'a [u8]) -> Cow<'a, str> {
        self.method.map_or(Cow::Borrowed(""), |text| text.decode(bytes))
    }

    /// Whether the decoded method is `name`.
    pub fn is_method(&self, bytes: &[u8], name: &str) -> bool {
        self.method.is_some_and(|text| text.is(bytes, name))
    }
}

/// Reads one message that came `from` the client ([`Direction::Request`]) or the server.
pub fn read(
    bytes: &[u8],
    from: Direction,
    limits: &Limits,
    scratch: &mut json::Scratch,
) -> Result<Message, McpFault> {
    let targets_max = match from {
        Direction::Request => limits.targets_max,
        Direction::Response => limits.answer_tasks_max,
    };
    let mut envelope = envelope::Envelope::new(bytes, targets_max);
    if let Err(fault) = json::read(bytes, limits, scratch, &mut envelope) {
        return Err(McpFault { rule: McpRule::Json(fault.rule), at: fault.at, id: None });
    }
    envelope.finish(from)
}

#[cfg(test)]
mod tests;
