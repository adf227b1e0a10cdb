//! Which place of a message a value stands in: the members that route, and the containers on the way
//! to them.
//!
//! | container | holds |
//! |---|---|
//! | the message | `jsonrpc` `id` `method` `params` `result` `error` |
//! | `params` | targets, handles, `_meta`, `ref`, `notifications`, `clientInfo`, `task`, `tasks` |
//! | `result` | lists, handles, `_meta`, `cacheScope`, `serverInfo`, `task`, `tasks`, `inputRequests` |
//! | `_meta`, `ref`, `notifications`, list elements, tasks | see [`Inside::routed`] |
//! | anything else | nothing that routes: tool arguments, contents, schemas |
//!
//! In the containers of this table a key that *looks like* a routed one is refused; anywhere else
//! keys are free, so tool arguments may be called what they like.
//!
//! Invariant: [`Walk`] follows only the chain of table containers from the outside in; what is opened
//! below an untracked container is never tracked.

use super::{ListKind, McpRule};
use crate::types::Span;
use crate::wire::json::{JsonFault, JsonRule, Text};

/// How an edit must treat a string or number of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// A member name. Never edited.
    Key,
    /// A string or number that routes, correlates or is handed back: JSON-RPC ids, methods, targets,
    /// `requestState`, cursors, task ids, progress tokens, subscription ids, versions. Never edited.
    Protected,
    /// A string of content.
    Value,
    /// A bare number of content.
    Number,
}

/// Lists every member name, string and number that begins before `until` in a JSON text, with its place, in order. Strings
/// and names are given between their quotes. `out` is emptied first. Works for any JSON text; one that is no MCP
/// message has no protected values where the members are not called like MCP's.
///
/// `bytes` passed the strict reading: brackets, quotes and commas say all, and nothing else is asked again. What
/// cannot be such a text is a fault all the same.
pub fn places(bytes: &[u8], until: usize, out: &mut Vec<(Span, Place)>) -> Result<(), JsonFault> {
    out.clear();
    let fault = |rule, at: usize| Err(JsonFault { rule, at: at as u32 });
    let mut walk = Walk::new();
    let (mut depth, mut at) = (0u32, 0);
    while at < bytes.len().min(until) {
        let from = at;
        at += 1;
        match bytes[from] {
            b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => {}
            b'"' => {
                let Some(end) = quote(bytes, at) else {
                    return fault(JsonRule::Truncated, bytes.len());
                };
                let span = Span::new(at, end);
                at = end + 1;
                let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
                // Nothing but a name stands before a colon.
                if bytes[at..].iter().find(|byte| !blank(byte)) == Some(&b':') {
                    let escaped = memchr::memchr(b'\\', span.of(bytes)).is_some();
                    // Why ignored: a look-alike is refused by `super::read`; here it routes nothing.
                    let _ = walk.key(bytes, depth, Text { span, escaped });
                    out.push((span, Place::Key));
                } else {
                    let protected = walk.slot(depth).is_protected();
                    out.push((span, if protected { Place::Protected } else { Place::Value }));
                }
            }
            open @ (b'{' | b'[') => {
                walk.open(depth, open == b'{');
                depth += 1;
            }
            b'}' | b']' => {
                let Some(outer) = depth.checked_sub(1) else {
                    return fault(JsonRule::Unexpected, from);
                };
                depth = outer;
                walk.close(depth);
            }
            first @ (b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                let ends =
                    |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b']' | b'}');
                let rest = &bytes[at..];
                at += rest.iter().position(ends).unwrap_or(rest.len());
                if !first.is_ascii_alphabetic() {
                    let protected = walk.slot(depth).is_protected();
                    let place = if protected { Place::Protected } else { Place::Number };
                    out.push((Span::new(from, at), place));
                }
            }
            _ => return fault(JsonRule::Unexpected, from),
        }
    }
    Ok(())
}

/// The quote that ends the string which begins at `from`: the first one with an even number of backslashes before it. Why not
/// from escape to escape: most of them are no quotes.
fn quote(bytes: &[u8], from: usize) -> Option<usize> {
    let quotes = memchr::memchr_iter(b'"', &bytes[from..]).map(|on| from + on);
    // No backslash is counted twice: a quote is before the next ones.
    let backslashes =
        |at: usize| bytes[from..at].iter().rev().take_while(|byte| **byte == b'\\').count();
    quotes.into_iter().find(|&at| backslashes(at).is_multiple_of(2))
}

/// What a value is to the envelope, by where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// Nothing that routes.
    Free,
    /// The whole text.
    Whole,
    Jsonrpc,
    Id,
    Method,
    Params,
    Result,
    Error,
    ErrorCode,
    ErrorMessage,
    Name,
    Uri,
    Ref,
    RefType,
    RefName,
    RefUri,
    Filter,
    Subscriptions,
    Subscription,
    TaskIds,
    TaskIdOf,
    TaskId,
    Arguments,
    Meta,
    MetaVersion,
    MetaToken,
    SubscriptionId,
    TraceParent,
    Cursor,
    RequestState,
    ProgressToken,
    RequestId,
    Handle,
    Version,
    Peer,
    PeerName,
    PeerVersion,
    CacheScope,
    ResultType,
    List(ListKind),
    ListItem(ListKind),
    ItemName,
    RelatedTask,
    Task,
    Tasks,
    TasksItem,
    InputRequests,
    InputRequest,
    InputMethod,
    /// A member name that is refused where it stands: some readers take it for a routed one.
    Refused,
}

impl Slot {
    fn is_protected(self) -> bool {
        use Slot::*;
        matches!(
            self,
            Jsonrpc
                | Id
                | Method
                | Name
                | Uri
                | RefType
                | RefName
                | RefUri
                | Subscription
                | TaskIdOf
                | TaskId
                | MetaVersion
                | MetaToken
                | SubscriptionId
                | TraceParent
                | Cursor
                | RequestState
                | ProgressToken
                | RequestId
                | Handle
                | Version
                | CacheScope
                | ResultType
                | ItemName
                | InputMethod
        )
    }

    /// The container that a value in this slot opens, if it is one of the table.
    fn inside(self, object: bool) -> Option<Inside> {
        Some(match (self, object) {
            (Slot::Whole, true) => Inside::Message,
            (Slot::Params, true) => Inside::Params,
            (Slot::Result, true) => Inside::Result,
            (Slot::Error, true) => Inside::Error,
            (Slot::Meta, true) => Inside::Meta,
            (Slot::Ref, true) => Inside::Ref,
            (Slot::Filter, true) => Inside::Filter,
            (Slot::Subscriptions, false) => Inside::Subscriptions,
            (Slot::TaskIds, false) => Inside::TaskIds,
            (Slot::Peer, true) => Inside::Peer,
            (Slot::RelatedTask | Slot::Task | Slot::TasksItem, true) => Inside::Task,
            (Slot::Tasks, false) => Inside::Tasks,
            (Slot::List(kind), false) => Inside::List(kind),
            (Slot::ListItem(kind), true) => Inside::ListItem(kind),
            (Slot::InputRequests, true) => Inside::InputRequests,
            (Slot::InputRequest, true) => Inside::InputRequest,
            _ => return None,
        })
    }
}

/// A container of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Message,
    Params,
    Result,
    Error,
    Meta,
    Ref,
    Filter,
    Subscriptions,
    TaskIds,
    Peer,
    Task,
    Tasks,
    List(ListKind),
    ListItem(ListKind),
    InputRequests,
    InputRequest,
}

impl Inside {
    /// The routed members of this container.
    fn routed(self) -> &'static [(&'static str, Slot)] {
        match self {
            Inside::Message => &[
                ("jsonrpc", Slot::Jsonrpc),
                ("id", Slot::Id),
                ("method", Slot::Method),
                ("params", Slot::Params),
                ("result", Slot::Result),
                ("error", Slot::Error),
            ],
            Inside::Params => &[
                ("name", Slot::Name),
                ("arguments", Slot::Arguments),
                ("_meta", Slot::Meta),
                ("uri", Slot::Uri),
                ("cursor", Slot::Cursor),
                ("requestState", Slot::RequestState),
                ("inputResponses", Slot::Free),
                ("ref", Slot::Ref),
                ("taskId", Slot::TaskId),
                ("task", Slot::Task),
                ("tasks", Slot::Tasks),
                ("notifications", Slot::Filter),
                ("progressToken", Slot::ProgressToken),
                ("requestId", Slot::RequestId),
                ("elicitationId", Slot::Handle),
                ("protocolVersion", Slot::Version),
                ("clientInfo", Slot::Peer),
                // Why: the Python SDK's own name for `_meta`; with it a reader could be told of
                // another version or token than the one judged here.
                ("meta", Slot::Refused),
            ],
            Inside::Result => &[
                ("tools", Slot::List(ListKind::Tools)),
                ("prompts", Slot::List(ListKind::Prompts)),
                ("resources", Slot::List(ListKind::Resources)),
                ("resourceTemplates", Slot::List(ListKind::ResourceTemplates)),
                ("_meta", Slot::Meta),
                ("nextCursor", Slot::Cursor),
                ("cacheScope", Slot::CacheScope),
                ("resultType", Slot::ResultType),
                ("requestState", Slot::RequestState),
                ("inputRequests", Slot::InputRequests),
                ("protocolVersion", Slot::Version),
                ("serverInfo", Slot::Peer),
                ("taskId", Slot::TaskId),
                ("task", Slot::Task),
                ("tasks", Slot::Tasks),
            ],
            Inside::Error => &[("code", Slot::ErrorCode), ("message", Slot::ErrorMessage)],
            Inside::Meta => &[
                ("io.modelcontextprotocol/protocolVersion", Slot::MetaVersion),
                ("io.modelcontextprotocol/clientInfo", Slot::Peer),
                ("io.modelcontextprotocol/clientCapabilities", Slot::Free),
                ("io.modelcontextprotocol/subscriptionId", Slot::SubscriptionId),
                ("io.modelcontextprotocol/related-task", Slot::RelatedTask),
                ("progressToken", Slot::MetaToken),
                ("traceparent", Slot::TraceParent),
            ],
            Inside::Ref => {
                &[("type", Slot::RefType), ("name", Slot::RefName), ("uri", Slot::RefUri)]
            }
            Inside::Filter => {
                &[("resourceSubscriptions", Slot::Subscriptions), ("taskIds", Slot::TaskIds)]
            }
            Inside::Peer => &[("name", Slot::PeerName), ("version", Slot::PeerVersion)],
            Inside::Task => &[("taskId", Slot::TaskIdOf)],
            Inside::ListItem(ListKind::Tools | ListKind::Prompts) => &[("name", Slot::ItemName)],
            Inside::ListItem(ListKind::Resources) => &[("uri", Slot::ItemName)],
            Inside::ListItem(ListKind::ResourceTemplates) => &[("uriTemplate", Slot::ItemName)],
            Inside::InputRequest => &[("method", Slot::InputMethod)],
            Inside::InputRequests
            | Inside::Subscriptions
            | Inside::TaskIds
            | Inside::Tasks
            | Inside::List(_) => &[],
        }
    }

    /// The slot of every value in this container, where all are alike.
    fn every(self) -> Option<Slot> {
        match self {
            Inside::Subscriptions => Some(Slot::Subscription),
            Inside::TaskIds => Some(Slot::TaskIdOf),
            Inside::Tasks => Some(Slot::TasksItem),
            Inside::List(kind) => Some(Slot::ListItem(kind)),
            Inside::InputRequests => Some(Slot::InputRequest),
            _ => None,
        }
    }
}

/// Containers of the table on one chain: message, params, _meta, related task; message, result,
/// tools, element.
const CHAIN_MAX: usize = 5;

/// Follows a JSON pass and says which slot the next value stands in.
#[derive(Debug)]
pub(super) struct Walk {
    chain: [Inside; CHAIN_MAX],
    /// Containers of the chain that are open; `chain[..tracked]` are meant.
    tracked: u32,
    /// Slot of the member whose name came last, in the innermost tracked container.
    named: Slot,
}

impl Walk {
    pub(super) fn new() -> Walk {
        Walk { chain: [Inside::Message; CHAIN_MAX], tracked: 0, named: Slot::Free }
    }

    fn innermost(&self, depth: u32) -> Option<Inside> {
        (depth == self.tracked && depth > 0).then(|| self.chain[depth as usize - 1])
    }

    /// To be called with every member name, before its value.
    pub(super) fn key(&mut self, bytes: &[u8], depth: u32, text: Text) -> Result<(), McpRule> {
        let Some(inside) = self.innermost(depth) else { return Ok(()) };
        // Why first: after a refused name the value must not be taken for the member before it.
        self.named = Slot::Refused;
        self.named = match inside.every() {
            Some(slot) => slot,
            None => routed_slot(inside.routed(), bytes, text)?,
        };
        Ok(())
    }

    /// The slot of the value that is reported at `depth`.
    pub(super) fn slot(&self, depth: u32) -> Slot {
        if depth == 0 {
            return Slot::Whole;
        }
        match self.innermost(depth) {
            Some(inside) => inside.every().unwrap_or(self.named),
            None => Slot::Free,
        }
    }

    /// To be called with every opening bracket; returns its slot.
    pub(super) fn open(&mut self, depth: u32, object: bool) -> Slot {
        let slot = self.slot(depth);
        if let Some(inside) = slot.inside(object) {
            self.chain[depth as usize] = inside;
            self.tracked = depth + 1;
        }
        slot
    }

    /// To be called with every closing bracket; returns the slot when the container was tracked.
    pub(super) fn close(&mut self, depth: u32) {
        if self.tracked == depth + 1 {
            self.tracked = depth;
        }
    }
}

fn routed_slot(routed: &[(&str, Slot)], bytes: &[u8], text: Text) -> Result<Slot, McpRule> {
    let decoded = text.decode(bytes);
    let name = decoded.as_ref();
    match routed.iter().find(|(word, _)| *word == name) {
        Some((_, Slot::Refused)) => return Err(McpRule::LookAlikeKey),
        Some((_, slot)) => return Ok(*slot),
        None => {}
    }
    match routed.iter().any(|(word, _)| looks_like(name, word)) {
        true => Err(McpRule::LookAlikeKey),
        false => Ok(Slot::Free),
    }
}

/// Whether some reader takes `name` for `word`: equal after ASCII case folding, after folding U+017F
/// to s and U+212A to k (simple case folding, CVE-2026-27896), after dropping control characters
/// (GHSA-q382-vc8q-7jhj), and after dropping low lines that do not lead (Python SDK: `task_id` and
/// `taskId` name one member).
pub fn looks_like(name: &str, word: &str) -> bool {
    // Why: nearly every name ends here, without a walk over characters.
    if name.len() < word.len() {
        return false;
    }
    let mut left = folded(name);
    let mut right = folded(word);
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (a, b) if a != b => return false,
            _ => {}
        }
    }
}

fn folded(name: &str) -> impl Iterator<Item = char> {
    let mut leading = true;
    name.chars().filter_map(move |symbol| {
        if symbol.is_control() || (symbol == '_' && !leading) {
            return None;
        }
        leading = false;
        Some(match symbol {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            other => other.to_ascii_lowercase(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::wire::json::{self, Visitor};
    use proptest::prelude::*;

    /// The same from the strict reading.
    struct Lister<'a> {
        bytes: &'a [u8],
        walk: Walk,
        out: Vec<(Span, Place)>,
    }

    impl Visitor for Lister<'_> {
        fn key(&mut self, depth: u32, text: Text) {
            let _ = self.walk.key(self.bytes, depth, text);
            self.out.push((text.span, Place::Key));
        }
        fn string(&mut self, depth: u32, text: Text) {
            let protected = self.walk.slot(depth).is_protected();
            self.out.push((text.span, if protected { Place::Protected } else { Place::Value }));
        }
        fn number(&mut self, depth: u32, span: Span) {
            let protected = self.walk.slot(depth).is_protected();
            self.out.push((span, if protected { Place::Protected } else { Place::Number }));
        }
        fn open(&mut self, depth: u32, object: bool, _: u32) {
            self.walk.open(depth, object);
        }
        fn close(&mut self, depth: u32, _: bool, _: u32) {
            self.walk.close(depth);
        }
    }

    /// Messages, near messages, and texts of JSON that are none.
    fn value() -> impl Strategy<Value = serde_json::Value> {
        let word = || {
            proptest::sample::select(vec![
                "jsonrpc",
                "id",
                "method",
                "params",
                "result",
                "error",
                "name",
                "uri",
                "_meta",
                "task",
                "tasks",
                "taskId",
                "tools",
                "ref",
                "arguments",
                "progressToken",
                "nextCursor",
                "Params",
                "a\"b",
                "\\",
                "x\\\"",
                "\u{e9}\n",
                "",
            ])
        };
        let leaf = prop_oneof![
            word().prop_map(serde_json::Value::from),
            any::<i32>().prop_map(serde_json::Value::from),
            any::<bool>().prop_map(serde_json::Value::from),
            Just(serde_json::Value::Null),
            Just(serde_json::json!(-1.5e-7)),
        ];
        leaf.prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                proptest::collection::vec((word(), inner), 0..6).prop_map(|members| {
                    let members = members.into_iter().map(|(name, value)| (name.to_owned(), value));
                    serde_json::Value::Object(members.collect())
                }),
            ]
        })
    }

    proptest! {
        // Mutants: any quote ends a string; a name is a string; a token more at `until`; no name is escaped.
        #[test]
        fn places_are_those_of_the_strict_reading(value in value(), wide: bool, spelled: bool, until in 0usize..400) {
            let text = match wide {
                true => serde_json::to_string_pretty(&value).unwrap().replace("\":", "\" \r:\t"),
                false => value.to_string(),
            };
            let text = match spelled {
                true => text.replace("\"id\"", "\"\\u0069d\"").replace("\"params\"", "\"p\\u0061rams\""),
                false => text,
            };
            let bytes = text.as_bytes();
            let mut lister = Lister { bytes, walk: Walk::new(), out: vec![] };
            let mut memory = json::Scratch::new();
            let read = json::read(bytes, &Limits::default(), &mut memory, &mut lister);
            prop_assume!(read.is_ok());
            let mut seen = vec![];
            places(bytes, usize::MAX, &mut seen).unwrap();
            prop_assert_eq!(&seen, &lister.out);
            places(bytes, until, &mut seen).unwrap();
            let begins = |span: &Span| {
                let at = span.start as usize;
                at - usize::from(at > 0 && bytes[at - 1] == b'"')
            };
            lister.out.retain(|(span, _)| begins(span) < until);
            prop_assert_eq!(&seen, &lister.out);
        }

        // No text at all makes it fail otherwise than with a fault.
        #[test]
        fn whatever_was_not_read_strictly_ends(text in "[\\[\\]{}\",:a1 \\\\t-]{0,40}") {
            let _ = places(text.as_bytes(), usize::MAX, &mut vec![]);
        }
    }

    #[test]
    fn look_alikes_are_told_from_other_names() {
        for (name, word) in [
            ("Method", "method"),
            ("METHOD", "method"),
            ("method\0", "method"),
            ("me\u{7f}thod", "method"),
            ("param\u{17f}", "params"),
            ("ta\u{17f}\u{212a}Id", "taskId"),
            ("taskid", "taskId"),
            ("task_id", "taskId"),
            ("_META", "_meta"),
            ("\u{1}_meta", "_meta"),
        ] {
            assert!(looks_like(name, word), "{name:?} {word}");
        }
        for (name, word) in [
            ("methods", "method"),
            ("metho", "method"),
            ("meta", "_meta"),
            ("mеthod", "method"), // a Cyrillic е: no reader folds it
            ("", "id"),
            ("ids", "id"),
        ] {
            assert!(!looks_like(name, word), "{name:?} {word}");
        }
    }

    #[test]
    fn no_table_container_holds_a_chain_longer_than_the_walk() {
        fn longest(inside: Inside) -> usize {
            let named = inside.routed().iter().map(|(_, slot)| *slot);
            let below = named.chain(inside.every()).flat_map(|slot| {
                [slot.inside(true), slot.inside(false)].into_iter().flatten().map(longest)
            });
            1 + below.max().unwrap_or(0)
        }
        assert!(longest(Inside::Message) <= CHAIN_MAX);
    }

    #[test]
    fn routed_names_of_one_container_do_not_look_alike() {
        for inside in [Inside::Message, Inside::Params, Inside::Result, Inside::Meta] {
            let words: Vec<_> = inside.routed().iter().map(|(word, _)| *word).collect();
            for (at, word) in words.iter().enumerate() {
                assert!(words.iter().enumerate().all(|(n, w)| n == at || !looks_like(w, word)));
            }
        }
    }
}
