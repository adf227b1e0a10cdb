//! Gathering the members of the envelope during the JSON pass, then judging them together.
//!
//! Members come in any order, so what they mean (is `params.name` a target?) is decided in
//! [`Envelope::finish`]. Invariant: the first broken rule in reading order is the one reported; rules
//! about what is missing or does not fit together come after all others.

use super::place::{Slot, Walk};
use super::{
    Class, Id, KnownMethod, List, ListItem, McpFault, McpRule, Message, Target, TargetKind,
    TargetRule, known_method,
};
use crate::limits::{ID_BYTES_MAX, METHOD_BYTES_MAX};
use crate::types::{Direction, Span};
use crate::wire::json::{Text, Visitor};

/// 2^53 - 1, the largest integer that every reader of JSON numbers keeps (RFC 8259 §6).
const ID_NUMBER_MAX: u64 = (1 << 53) - 1;

/// One value, as the pass reports it.
#[derive(Debug, Clone, Copy)]
enum Seen {
    Text(Text),
    Number(Span),
    Literal(Span),
    Object(u32),
    Array(u32),
}

impl Seen {
    /// Where the value begins.
    fn at(self) -> u32 {
        match self {
            Seen::Text(text) => text.span.start - 1,
            Seen::Number(span) | Seen::Literal(span) => span.start,
            Seen::Object(at) | Seen::Array(at) => at,
        }
    }

    /// The raw token of a scalar.
    fn token(self) -> Option<Span> {
        match self {
            Seen::Text(text) => Some(text.quoted()),
            Seen::Number(span) | Seen::Literal(span) => Some(span),
            Seen::Object(_) | Seen::Array(_) => None,
        }
    }
}

/// A member that should be a string.
#[derive(Debug, Clone, Copy, Default)]
enum Member {
    #[default]
    Absent,
    Text(Text),
    /// Something else, beginning here.
    Other(u32),
}

impl Member {
    fn of(seen: Seen) -> Member {
        match seen {
            Seen::Text(text) => Member::Text(text),
            other => Member::Other(other.at()),
        }
    }

    fn text(self) -> Option<Text> {
        match self {
            Member::Text(text) => Some(text),
            Member::Absent | Member::Other(_) => None,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
enum IdSeen {
    #[default]
    Absent,
    Null(u32),
    Good(Id),
}

/// Containers whose extent is wanted stand at most this deep.
const OPENED_MAX: usize = 4;

pub(super) struct Envelope<'a> {
    bytes: &'a [u8],
    walk: Walk,
    fault: Option<(McpRule, u32)>,
    whole: Option<Seen>,
    /// The member of the message that the pass is in.
    section: Slot,
    /// Slot and start of the container that is open at each depth.
    opened: [(Slot, u32); OPENED_MAX],
    jsonrpc: bool,
    id: IdSeen,
    method: Option<Text>,
    params_at: Option<u32>,
    result_at: Option<u32>,
    error_at: Option<u32>,
    error_has: (bool, bool),
    name: Member,
    uri: Member,
    task_id: Member,
    reference: Option<u32>,
    reference_type: Member,
    reference_name: Member,
    reference_uri: Member,
    filter: bool,
    filter_bad: Option<u32>,
    filter_targets: Vec<Target>,
    /// Room for targets and task ids together.
    targets_left: u64,
    message: Message,
}

impl<'a> Envelope<'a> {
    /// `targets_max`: targets and task ids of the message together; what goes beyond is not gathered.
    pub(super) fn new(bytes: &'a [u8], targets_max: u64) -> Envelope<'a> {
        Envelope {
            bytes,
            walk: Walk::new(),
            fault: None,
            whole: None,
            section: Slot::Free,
            opened: [(Slot::Free, 0); OPENED_MAX],
            jsonrpc: false,
            id: IdSeen::Absent,
            method: None,
            params_at: None,
            result_at: None,
            error_at: None,
            error_has: (false, false),
            name: Member::Absent,
            uri: Member::Absent,
            task_id: Member::Absent,
            reference: None,
            reference_type: Member::Absent,
            reference_name: Member::Absent,
            reference_uri: Member::Absent,
            filter: false,
            filter_bad: None,
            filter_targets: Vec::new(),
            targets_left: targets_max,
            message: Message::empty(),
        }
    }

    fn broken(&mut self, rule: McpRule, at: u32) {
        self.fault.get_or_insert((rule, at));
    }

    /// A value of the envelope, where it begins.
    fn value(&mut self, slot: Slot, seen: Seen) {
        let in_params = self.section == Slot::Params;
        match slot {
            Slot::Free => {}
            Slot::Whole => self.whole = Some(seen),
            Slot::Jsonrpc => match seen {
                Seen::Text(text) if text.is(self.bytes, "2.0") => self.jsonrpc = true,
                other => self.broken(McpRule::Version, other.at()),
            },
            Slot::Id => match self.id_of(seen) {
                Ok(id) => self.id = id,
                Err(rule) => self.broken(rule, seen.at()),
            },
            Slot::Method => match seen {
                Seen::Text(text) => self.method = Some(text),
                other => self.broken(McpRule::MethodKind, other.at()),
            },
            Slot::Params => match seen {
                Seen::Object(at) => self.params_at = Some(at),
                other => self.broken(McpRule::ParamsKind, other.at()),
            },
            Slot::Result => match seen {
                Seen::Object(at) => self.result_at = Some(at),
                other => self.broken(McpRule::ResultKind, other.at()),
            },
            Slot::Error => match seen {
                Seen::Object(at) => self.error_at = Some(at),
                other => self.broken(McpRule::ErrorKind, other.at()),
            },
            Slot::ErrorCode => match seen {
                Seen::Number(span) if is_integer(span.of(self.bytes)) => {
                    self.error_has.0 = true;
                    self.message.error_code = Some(saturated(span.of(self.bytes)));
                }
                other => self.broken(McpRule::ErrorKind, other.at()),
            },
            Slot::ErrorMessage => match seen {
                Seen::Text(text) => {
                    self.error_has.1 = true;
                    self.message.error_message = Some(text);
                }
                other => self.broken(McpRule::ErrorKind, other.at()),
            },
            Slot::Name => self.name = Member::of(seen),
            Slot::Uri => self.uri = Member::of(seen),
            Slot::TaskId if in_params => self.task_id = Member::of(seen),
            Slot::TaskId => self.task(seen),
            Slot::TaskIdOf => match self.walk_section_is_filter() {
                true => self.filter_item(TargetKind::Task, seen),
                false => self.task(seen),
            },
            Slot::Ref => self.reference = Some(seen.at()),
            Slot::RefType => self.reference_type = Member::of(seen),
            Slot::RefName => self.reference_name = Member::of(seen),
            Slot::RefUri => self.reference_uri = Member::of(seen),
            Slot::Filter => match seen {
                Seen::Object(_) => self.filter = true,
                other => self.filter_broken(other),
            },
            Slot::Subscriptions | Slot::TaskIds => match seen {
                Seen::Array(_) => {}
                other => self.filter_broken(other),
            },
            Slot::Subscription => self.filter_item(TargetKind::Resource, seen),
            Slot::Arguments => self.message.arguments = seen.token(),
            Slot::Meta => match seen {
                Seen::Object(_) => {}
                other => self.broken(McpRule::MetaKind, other.at()),
            },
            Slot::MetaVersion => match seen {
                Seen::Text(text) if in_params => self.message.protocol_version = Some(text),
                Seen::Text(_) => {}
                other => self.broken(McpRule::MetaKind, other.at()),
            },
            Slot::MetaToken => match seen {
                Seen::Text(_) | Seen::Number(_) if in_params => {
                    self.message.progress_token = seen.token();
                }
                Seen::Text(_) | Seen::Number(_) => {}
                other => self.broken(McpRule::MetaKind, other.at()),
            },
            Slot::SubscriptionId => match seen {
                Seen::Text(_) | Seen::Number(_) => self.message.subscription = seen.token(),
                other => self.broken(McpRule::MetaKind, other.at()),
            },
            Slot::TraceParent => set(&mut self.message.trace_parent, seen),
            // Why refused: what is no string would go on unopened, whoever made it.
            Slot::RequestState => match seen {
                Seen::Text(text) => self.message.request_state = Some(text),
                other => self.broken(McpRule::HandleKind, other.at()),
            },
            Slot::RelatedTask if in_params => match seen {
                Seen::Object(_) => {}
                other => self.broken(McpRule::HandleKind, other.at()),
            },
            // Why not in `params`: there these are names that any method may use for its own.
            Slot::RelatedTask | Slot::Task | Slot::TasksItem if !in_params => match seen {
                Seen::Object(_) => {}
                other => self.no_handle(other),
            },
            Slot::Tasks if !in_params => match seen {
                Seen::Array(_) => {}
                other => self.no_handle(other),
            },
            Slot::ProgressToken => self.message.progress_of = seen.token(),
            Slot::RequestId => match self.id_of(seen) {
                Ok(IdSeen::Good(id)) => self.message.cancelled = Some(id),
                _ => self.broken(McpRule::IdKind, seen.at()),
            },
            Slot::Version => set(&mut self.message.initialize_version, seen),
            Slot::PeerName if in_params => set(&mut self.message.client_name, seen),
            Slot::PeerName => set(&mut self.message.server_name, seen),
            Slot::PeerVersion if in_params => set(&mut self.message.client_version, seen),
            Slot::PeerVersion => set(&mut self.message.server_version, seen),
            Slot::CacheScope => self.message.cache_scope = seen.token(),
            Slot::ResultType => set(&mut self.message.result_type, seen),
            Slot::List(kind) => match seen {
                Seen::Array(_) => self.message.lists.push(List {
                    kind,
                    array: Span::default(),
                    items: Vec::new(),
                }),
                other => self.broken(McpRule::ListKind, other.at()),
            },
            Slot::ListItem(_) => {
                let item = ListItem { span: seen.token().unwrap_or_default(), name: None };
                if let Some(list) = self.message.lists.last_mut() {
                    list.items.push(item);
                }
            }
            Slot::ItemName => {
                if let Seen::Text(text) = seen
                    && let Some(item) = self.item()
                {
                    item.name = Some(text);
                }
            }
            Slot::Cursor
            | Slot::Handle
            | Slot::Peer
            | Slot::RelatedTask
            | Slot::Task
            | Slot::Tasks
            | Slot::TasksItem
            | Slot::InputRequests
            | Slot::InputRequest
            | Slot::InputMethod
            | Slot::Refused => {}
        }
    }

    /// The list element that is being read.
    fn item(&mut self) -> Option<&mut ListItem> {
        self.message.lists.last_mut()?.items.last_mut()
    }

    /// A task id stands in `params.notifications.taskIds` rather than in a task.
    fn walk_section_is_filter(&self) -> bool {
        self.section == Slot::Params && self.opened[2].0 == Slot::Filter
    }

    fn task(&mut self, seen: Seen) {
        match seen {
            Seen::Text(text) if self.has_room(text.span.start) => self.message.task_ids.push(text),
            Seen::Text(_) => {}
            other => self.broken(McpRule::HandleKind, other.at()),
        }
    }

    /// Something stands where tasks are handed out, and is none: null, true and false hold no id.
    fn no_handle(&mut self, seen: Seen) {
        if !matches!(seen, Seen::Literal(_)) {
            self.broken(McpRule::HandleKind, seen.at());
        }
    }

    /// One more target or task id is within the bound.
    fn has_room(&mut self, at: u32) -> bool {
        match self.targets_left.checked_sub(1) {
            Some(left) => {
                self.targets_left = left;
                true
            }
            None => {
                self.broken(McpRule::TooManyTargets, at);
                false
            }
        }
    }

    fn filter_broken(&mut self, seen: Seen) {
        self.filter_bad.get_or_insert(seen.at());
    }

    fn filter_item(&mut self, kind: TargetKind, seen: Seen) {
        match seen {
            Seen::Text(text) if self.has_room(text.span.start) => {
                self.filter_targets.push(Target { kind, text });
            }
            Seen::Text(_) => {}
            other => self.filter_broken(other),
        }
    }

    fn id_of(&self, seen: Seen) -> Result<IdSeen, McpRule> {
        match seen {
            Seen::Text(text) if text.span.len as usize > ID_BYTES_MAX => Err(McpRule::IdTooLong),
            Seen::Text(text) if has_control(&text.decode(self.bytes)) => Err(McpRule::IdText),
            Seen::Text(text) => {
                Ok(IdSeen::Good(Id { span: text.quoted(), number: false, escaped: text.escaped }))
            }
            Seen::Number(span) => {
                let token = span.of(self.bytes);
                if !is_integer(token) {
                    return Err(McpRule::IdKind);
                }
                let size = saturated(token).unsigned_abs();
                // Why: `-0` comes back from some readers as `0`, and would then match no request.
                if size > ID_NUMBER_MAX || token == b"-0" {
                    return Err(McpRule::IdRange);
                }
                Ok(IdSeen::Good(Id { span, number: true, escaped: false }))
            }
            Seen::Literal(span) if span.of(self.bytes) == b"null" => Ok(IdSeen::Null(span.start)),
            _ => Err(McpRule::IdKind),
        }
    }

    /// Judges what was gathered.
    pub(super) fn finish(mut self, from: Direction) -> Result<Message, McpFault> {
        let judged =
            self.class(from).and_then(|()| self.targets()).and_then(|()| self.task_of(from));
        let id = match self.id {
            IdSeen::Good(id) => Some(id),
            _ => None,
        };
        self.message.id = id;
        self.message.name = self.name.text();
        self.message.uri = self.uri.text();
        match judged {
            Ok(()) => Ok(self.message),
            Err((rule, at)) => Err(McpFault { rule, at, id }),
        }
    }

    fn class(&mut self, from: Direction) -> Result<(), (McpRule, u32)> {
        let start = match self.whole {
            Some(Seen::Object(at)) => at,
            Some(Seen::Array(at)) => return Err((McpRule::Batch, at)),
            other => return Err((McpRule::NotAnObject, other.map_or(0, Seen::at))),
        };
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if !self.jsonrpc {
            return Err((McpRule::Version, start));
        }
        self.message.class = match (self.method, self.result_at, self.error_at) {
            (Some(_), Some(at), _) | (Some(_), _, Some(at)) => {
                return Err((McpRule::MethodWithOutcome, at));
            }
            (None, Some(a), Some(b)) => return Err((McpRule::ResultWithError, a.max(b))),
            (None, None, None) => return Err((McpRule::NoClass, start)),
            (None, Some(_), None) => Class::Answer,
            (None, None, Some(_)) => Class::Error,
            (Some(method), None, None) => self.asked(method)?,
        };
        if self.method.is_none()
            && let Some(at) = self.params_at
        {
            return Err((McpRule::ParamsWithOutcome, at));
        }
        match (self.message.class, self.id) {
            (Class::Answer, IdSeen::Absent) => return Err((McpRule::IdMissing, start)),
            (Class::Answer, IdSeen::Null(at)) => return Err((McpRule::IdKind, at)),
            // JSON-RPC 2.0 §5: null when the id of the request could not be read. Only a server has
            // reason to say so; the MCP schema of 2025-11-25 lets it leave the id out.
            (Class::Error, IdSeen::Absent) if from == Direction::Request => {
                return Err((McpRule::IdMissing, start));
            }
            (Class::Error, IdSeen::Null(at)) if from == Direction::Request => {
                return Err((McpRule::IdKind, at));
            }
            _ => {}
        }
        if let Some(at) = self.error_at
            && self.error_has != (true, true)
        {
            return Err((McpRule::ErrorKind, at));
        }
        self.message.result_empty = self.message.result.is_some_and(|span| {
            let inner = &self.bytes[span.start as usize + 1..span.end() - 1];
            inner.iter().all(u8::is_ascii_whitespace)
        });
        Ok(())
    }

    /// A message with a method: request or notification.
    fn asked(&mut self, method: Text) -> Result<Class, (McpRule, u32)> {
        let at = method.span.start - 1;
        let name = method.decode(self.bytes);
        if name.is_empty() || method.span.len as usize > METHOD_BYTES_MAX || has_control(&name) {
            return Err((McpRule::MethodText, at));
        }
        let known: Option<&KnownMethod> = known_method(&name);
        let notifies = name.starts_with("notifications/");
        self.message.method = Some(method);
        self.message.known = known;
        match self.id {
            IdSeen::Null(at) => Err((McpRule::IdKind, at)),
            IdSeen::Good(id) if notifies => Err((McpRule::IdUnexpected, id.span.start)),
            IdSeen::Good(_) => Ok(Class::Request),
            // Why only methods of the table: clients have private notifications without the prefix.
            IdSeen::Absent if known.is_some_and(|row| row.request) => Err((McpRule::IdMissing, at)),
            IdSeen::Absent => Ok(Class::Notification),
        }
    }

    fn targets(&mut self) -> Result<(), (McpRule, u32)> {
        let Some(known) = self.message.known else { return Ok(()) };
        let single = match known.target {
            TargetRule::None => return Ok(()),
            TargetRule::Name(kind) => (kind, self.name),
            TargetRule::Uri => (TargetKind::Resource, self.uri),
            TargetRule::TaskId => (TargetKind::Task, self.task_id),
            TargetRule::Ref => self.referenced()?,
            TargetRule::Filter => {
                if let Some(at) = self.filter_bad {
                    return Err((McpRule::TargetKind, at));
                }
                self.message.targets = std::mem::take(&mut self.filter_targets);
                self.message.targets_unclear = !self.filter;
                for target in &self.message.targets {
                    printable(self.bytes, target.text)?;
                }
                return Ok(());
            }
        };
        match single {
            (_, Member::Absent) => self.message.targets_unclear = true,
            (_, Member::Other(at)) => return Err((McpRule::TargetKind, at)),
            (kind, Member::Text(text)) => {
                printable(self.bytes, text)?;
                self.message.targets.push(Target { kind, text });
            }
        }
        Ok(())
    }

    /// `params.taskId` of a method that has another target or is not in the table: whoever reads it may
    /// know it there.
    fn task_of(&mut self, from: Direction) -> Result<(), (McpRule, u32)> {
        if matches!(self.message.known, Some(row) if row.target == TargetRule::TaskId) {
            return Ok(());
        }
        match self.task_id {
            Member::Absent => {}
            Member::Text(text) => self.message.task_named = Some(text),
            // A server's null, true or false is no id of it; a client's could be taken for one.
            Member::Other(at) => {
                let literal = matches!(self.bytes.get(at as usize), Some(b'n' | b't' | b'f'));
                if from == Direction::Request || !literal {
                    return Err((McpRule::HandleKind, at));
                }
            }
        }
        Ok(())
    }

    /// The target of a completion. A reference of unknown type, or with both members, names nothing.
    fn referenced(&self) -> Result<(TargetKind, Member), (McpRule, u32)> {
        let (kind, member, other) = match self.reference_type {
            Member::Text(text) if text.is(self.bytes, "ref/prompt") => {
                (TargetKind::Prompt, self.reference_name, self.reference_uri)
            }
            Member::Text(text) if text.is(self.bytes, "ref/resource") => {
                (TargetKind::Resource, self.reference_uri, self.reference_name)
            }
            Member::Other(at) => return Err((McpRule::TargetKind, at)),
            _ => return Ok((TargetKind::Prompt, Member::Absent)),
        };
        match other {
            Member::Absent => Ok((kind, member)),
            _ => Err((McpRule::TargetKind, self.reference.unwrap_or_default())),
        }
    }
}

impl Visitor for Envelope<'_> {
    fn key(&mut self, depth: u32, text: Text) {
        if let Err(rule) = self.walk.key(self.bytes, depth, text) {
            self.broken(rule, text.span.start - 1);
        }
    }

    fn string(&mut self, depth: u32, text: Text) {
        self.value(self.walk.slot(depth), Seen::Text(text));
    }

    fn number(&mut self, depth: u32, span: Span) {
        self.value(self.walk.slot(depth), Seen::Number(span));
    }

    fn literal(&mut self, depth: u32, span: Span) {
        self.value(self.walk.slot(depth), Seen::Literal(span));
    }

    fn open(&mut self, depth: u32, object: bool, at: u32) {
        let slot = self.walk.open(depth, object);
        if depth == 1 {
            self.section = slot;
        }
        if let Some(opened) = self.opened.get_mut(depth as usize) {
            *opened = (slot, at);
        }
        if slot != Slot::Free {
            self.value(slot, if object { Seen::Object(at) } else { Seen::Array(at) });
        }
    }

    fn close(&mut self, depth: u32, _: bool, at: u32) {
        self.walk.close(depth);
        let Some(&(slot, start)) = self.opened.get(depth as usize) else { return };
        let span = Span { start, len: at + 1 - start };
        match slot {
            Slot::Params => self.message.params = Some(span),
            Slot::Result => self.message.result = Some(span),
            Slot::Arguments => self.message.arguments = Some(span),
            Slot::CacheScope => self.message.cache_scope = Some(span),
            Slot::List(kind) => {
                // Why the kind: what is not an array opened no list (and is a fault already).
                if let Some(list) = self.message.lists.last_mut().filter(|l| l.kind == kind) {
                    list.array = span;
                }
            }
            Slot::ListItem(_) => {
                if let Some(item) = self.item() {
                    item.span = span;
                }
            }
            _ => {}
        }
    }
}

fn set(member: &mut Option<Text>, seen: Seen) {
    if let Seen::Text(text) = seen {
        *member = Some(text);
    }
}

fn printable(bytes: &[u8], text: Text) -> Result<(), (McpRule, u32)> {
    match has_control(&text.decode(bytes)) {
        true => Err((McpRule::TargetText, text.span.start - 1)),
        false => Ok(()),
    }
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// A JSON number without fraction and exponent.
fn is_integer(token: &[u8]) -> bool {
    token.iter().all(|byte| matches!(byte, b'-' | b'0'..=b'9'))
}

/// The value of an integer token, pinned to the range of `i64`.
fn saturated(token: &[u8]) -> i64 {
    let (negative, digits) = match token.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, token),
    };
    let size = digits
        .iter()
        .fold(0i64, |size, digit| size.saturating_mul(10).saturating_add((digit - b'0') as i64));
    if negative { -size } else { size }
}
