//! Task ids and request states in messages: to a caller they go as handles that only he can use, to the
//! server as the server made them (see [`handle`]).
//!
//! | message | what of it |
//! |---|---|
//! | request of a client | `taskId` (of any method), `taskIds[]`, `task`, `tasks[]`, related task: must be his |
//! | answer and notification of a client | `task`, `tasks[]`, related task, `taskId` of a result or of `notifications/tasks/status`: opened where it is a handle; a client that runs tasks of its own (MCP 2025-11-25) names them itself |
//! | any other notification of a client | `taskId`: must be his |
//! | every message of a client | `requestState`: must be his |
//! | every message of a server | `taskId`, `task`, `tasks[]`, related task, `requestState`: wrapped; but the target of its `tasks/…` requests is a task of the client |
//!
//! A task id that has not the form of a handle was never given out here. It is not refused, because only
//! the server knows how it answers a task that does not exist (no such task, no such method, a capability
//! is missing); it goes on in a form of our own that no server has given out, so it opens nothing. The
//! record says what was tried.

use bytes::BytesMut;

use super::super::fault::{Fault, UpstreamFault};
use super::super::session::SessionRule;
use super::exchange::Exchange;
use crate::auth::handle::{self, Owner, Purpose};
use crate::types::{SessionId, Span};
use crate::wire::json::Text;
use crate::wire::mcp::{Class, Message, TargetKind};

/// Bytes to put in the place of others.
type Edit = (Span, Vec<u8>);

impl Exchange {
    /// Whose handles these are.
    pub(super) fn owner(&self) -> Option<Owner<'_>> {
        let caller = self.caller.as_ref()?;
        Some(Owner {
            issuer: &caller.identity.issuer,
            subject: &caller.identity.subject,
            upstream: &self.route().name,
        })
    }
}

/// A client's message as the server is to get it.
pub(super) struct Opened {
    pub(super) bytes: BytesMut,
    /// Task ids that were never given out, where they stood.
    pub(super) tried: Vec<Text>,
}

/// A client's message with the server's own ids and states; `None` when there is nothing to change.
/// The session that a handle belongs to becomes that of the exchange, where none is known yet.
///
/// # Errors
/// A handle is not the caller's.
pub(super) fn open(
    exchange: &mut Exchange,
    message: &Message,
    bytes: &[u8],
) -> Result<Option<Opened>, Fault> {
    let mut edits: Vec<Edit> = Vec::new();
    let mut tried = Vec::new();
    let mut session = None;
    let asks = message.class == Class::Request;
    for task in tasks(message, true) {
        // A method that is not said to have a task has none of the client's.
        let strict = asks || message.task_named == Some(task);
        let (found, id) = open_task(exchange, &task.decode(bytes), strict)?;
        if let Some(id) = id {
            if found.is_none() {
                tried.push(task);
            }
            // Why of the target alone: `Mcp-Name` says the target, and nothing else that has an id.
            if asks && message.targets.len() == 1 && message.targets[0].text.span == task.span {
                exchange.upstream_fields.get_or_insert_default().name =
                    Some(id.clone().into_bytes().into());
            }
            edits.push((task.span, escaped(&id)));
        }
        session = session.or(found.map(|found| (found, SessionRule::Task)));
    }
    if let Some(state) = message.request_state {
        let text = state.decode(bytes);
        let key = &exchange.settings.handle_key;
        let owner = exchange.owner().expect("a call was authenticated");
        let (found, state_bytes) = handle::marked(key, owner, text.as_bytes())
            .ok_or(Fault::HandleForeign(Purpose::RequestState))?;
        // The mark is the last thing in the string. Where it stands as it was written, cutting it off
        // leaves the server's text byte for byte.
        let (kept, mark) = text.split_at(state_bytes);
        let raw = state.span.of(bytes);
        edits.push(match raw.strip_suffix(mark.as_bytes()) {
            Some(rest) => {
                let span = Span::new(state.span.start as usize + rest.len(), state.span.end());
                (span, Vec::new())
            }
            None => (state.span, escaped(kept)),
        });
        session = session.or(Some((found, SessionRule::RequestState)));
    }
    exchange.session = exchange.session.or(session);
    // What takes its place may be longer, and is held beside it for a moment.
    let added: usize = edits.iter().map(|(_, text)| text.len()).sum();
    if added > 0 && !exchange.request_memory.grow_to((bytes.len() + added) as u64) {
        return Err(Fault::Memory);
    }
    Ok(applied(bytes, edits).map(|bytes| Opened { bytes, tried }))
}

/// One task id of a client's message: its session, and what takes its place. `strict`: it is no task of
/// the client's own.
fn open_task(
    exchange: &Exchange,
    id: &str,
    strict: bool,
) -> Result<(Option<SessionId>, Option<String>), Fault> {
    let foreign = Fault::HandleForeign(Purpose::Task);
    let key = &exchange.settings.handle_key;
    let owner = exchange.owner().expect("a call was authenticated");
    if let Some((session, original)) = handle::unwrap(key, owner, Purpose::Task, id.as_bytes()) {
        let original = String::from_utf8(original).map_err(|_| foreign)?;
        return Ok((Some(session), Some(original)));
    }
    if handle::looks_wrapped(id.as_bytes()) {
        return Err(foreign);
    }
    if !strict {
        return Ok((None, None));
    }
    let unknown = handle::wrap(key, owner, Purpose::Unknown, SessionId::default(), id.as_bytes());
    Ok((None, Some(unknown.ok_or(foreign)?)))
}

/// A server's message with handles in the place of its ids and states; `None` when there is nothing to
/// change.
///
/// # Errors
/// An id is longer than can be wrapped.
pub(super) fn wrap(
    exchange: &Exchange,
    message: &Message,
    bytes: &[u8],
) -> Result<Option<BytesMut>, Fault> {
    let state = message.request_state;
    // What a server asks of a task is asked of a task of the client.
    let mut tasks = tasks(message, message.class != Class::Request).peekable();
    if state.is_none() && tasks.peek().is_none() {
        return Ok(None);
    }
    let unusable = Fault::Upstream(UpstreamFault::Handle);
    let (Some(owner), Some((session, _))) = (exchange.owner(), exchange.session) else {
        return Err(unusable);
    };
    let key = &exchange.settings.handle_key;
    let mut edits: Vec<Edit> = Vec::new();
    for task in tasks {
        let id = task.decode(bytes);
        let handle = handle::wrap(key, owner, Purpose::Task, session, id.as_bytes());
        edits.push((task.span, handle.ok_or(unusable)?.into_bytes()));
    }
    if let Some(state) = state {
        let mark = handle::mark(key, owner, session, state.decode(bytes).as_bytes());
        let end = state.span.end();
        edits.push((Span::new(end, end), mark.into_bytes()));
    }
    Ok(applied(bytes, edits))
}

/// Every place of the message where the id of a task stands; `targets`: those of its method too.
fn tasks(message: &Message, targets: bool) -> impl Iterator<Item = Text> {
    let named =
        message.targets.iter().filter(move |target| targets && target.kind == TargetKind::Task);
    let named = named.map(|target| target.text).chain(message.task_named);
    named.chain(message.task_ids.iter().copied())
}

/// As it stands in a JSON string, without the quotes.
fn escaped(text: &str) -> Vec<u8> {
    let quoted = serde_json::to_vec(text).expect("writing to memory does not fail");
    quoted[1..quoted.len() - 1].to_vec()
}

fn applied(bytes: &[u8], mut edits: Vec<Edit>) -> Option<BytesMut> {
    if edits.is_empty() {
        return None;
    }
    edits.sort_by_key(|(span, _)| span.start);
    let added: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut out = BytesMut::with_capacity(bytes.len() + added);
    let mut at = 0;
    for (span, text) in edits {
        out.extend_from_slice(&bytes[at..span.start as usize]);
        out.extend_from_slice(&text);
        at = span.end();
    }
    out.extend_from_slice(&bytes[at..]);
    Some(out)
}
