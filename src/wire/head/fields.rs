//! Field names the gateway knows, and the storage of one head's fields.

use super::lines::Lines;
use crate::types::Span;

/// How often a field may stand in one head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    /// Once: it frames, identifies or describes the message.
    One,
    /// Once, and it routes.
    Routing,
    /// Any number; lists and what the gateway does not rest on.
    Many,
}

macro_rules! names {
    ($($name:ident = $text:literal, $times:ident;)*) => {
        /// A field name the gateway knows. `McpParam` stands for every name that begins so.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the names are the fields' own")]
        pub enum Name { $($name,)* McpParam }

        impl Name {
            const COUNT: usize = [$(Name::$name,)* Name::McpParam].len();

            /// The name in lower case; a prefix for `McpParam`.
            pub fn as_str(self) -> &'static str {
                match self { $(Name::$name => $text,)* Name::McpParam => MCP_PARAM }
            }

            pub(super) fn times(self) -> Times {
                match self { $(Name::$name => Times::$times,)* Name::McpParam => Times::Routing }
            }

            fn of_lower(lower: &[u8]) -> Option<Name> {
                $(const _: () = assert!($text.len() <= NAME_BYTES_MAX);)*
                $(if lower == $text.as_bytes() { return Some(Name::$name); })*
                None
            }
        }
    };
}

const MCP_PARAM: &str = "mcp-param-";
/// Longest known name.
const NAME_BYTES_MAX: usize = 32;

names! {
    Host = "host", One;
    ContentLength = "content-length", One;
    ContentType = "content-type", One;
    TransferEncoding = "transfer-encoding", One;
    Connection = "connection", Many;
    Authorization = "authorization", One;
    Accept = "accept", Many;
    AcceptEncoding = "accept-encoding", Many;
    AcceptLanguage = "accept-language", Many;
    UserAgent = "user-agent", One;
    McpProtocolVersion = "mcp-protocol-version", Routing;
    McpSessionId = "mcp-session-id", Routing;
    McpMethod = "mcp-method", Routing;
    McpName = "mcp-name", Routing;
    LastEventId = "last-event-id", One;
    Origin = "origin", One;
    ContentEncoding = "content-encoding", One;
    ContentLanguage = "content-language", Many;
    ContentDisposition = "content-disposition", One;
    Expect = "expect", One;
    Upgrade = "upgrade", Many;
    Te = "te", Many;
    Trailer = "trailer", Many;
    KeepAlive = "keep-alive", Many;
    Cookie = "cookie", One;
    SetCookie = "set-cookie", Many;
    Dpop = "dpop", One;
    ProxyAuthorization = "proxy-authorization", One;
    AccessControlRequestMethod = "access-control-request-method", One;
    AccessControlRequestHeaders = "access-control-request-headers", One;
    Traceparent = "traceparent", One;
    Tracestate = "tracestate", Many;
    Baggage = "baggage", Many;
    CacheControl = "cache-control", Many;
    Date = "date", One;
    Server = "server", Many;
    Vary = "vary", Many;
    RetryAfter = "retry-after", One;
    Location = "location", One;
    Allow = "allow", Many;
    WwwAuthenticate = "www-authenticate", Many;
    XAccelBuffering = "x-accel-buffering", Many;
    StenographExchange = "stenograph-exchange", Many;
}

impl Name {
    /// The known name that `name` is, without regard to case.
    pub fn of(name: &[u8]) -> Option<Name> {
        Name::normal(name, false)
    }

    /// The known name that `name` becomes when `_` is read as `-`.
    pub(super) fn looking_like(name: &[u8]) -> Option<Name> {
        Name::normal(name, true)
    }

    fn normal(name: &[u8], underscores: bool) -> Option<Name> {
        let mut lower = [0; NAME_BYTES_MAX];
        // Why cut: a longer name is no known one, but may begin with `mcp-param-`.
        let len = name.len().min(NAME_BYTES_MAX);
        for (slot, &byte) in lower.iter_mut().zip(name) {
            let byte = if underscores && byte == b'_' { b'-' } else { byte };
            *slot = byte.to_ascii_lowercase();
        }
        let lower = &lower[..len];
        if lower.starts_with(MCP_PARAM.as_bytes()) {
            return Some(Name::McpParam);
        }
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        Name::of_lower(lower)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) name: Span,
    pub(super) value: Span,
    pub(super) known: Option<Name>,
}

/// Bound: bytes of a head whose places are told. `head_bytes_max` is at most half of it.
pub(super) const PLACES_MAX: usize = 1 << 16;

/// A slot in half the room: everybody whose body is on its way holds those of his head.
#[derive(Debug, Clone, Copy)]
struct Kept {
    name: Short,
    value: Short,
    known: Option<Name>,
}

/// Place and length, both below [`PLACES_MAX`].
#[derive(Debug, Clone, Copy)]
struct Short(u16, u16);

impl Short {
    fn of(span: Span) -> Short {
        let short = |number: u32| u16::try_from(number).expect("the end of a head is in bound");
        Short(short(span.start), short(span.len))
    }

    fn span(self) -> Span {
        Span { start: self.0.into(), len: self.1.into() }
    }
}

impl Kept {
    fn slot(&self) -> Slot {
        Slot { name: self.name.span(), value: self.value.span(), known: self.known }
    }
}

/// Storage for the fields of one head, one per connection and direction; not grown when warm.
///
/// It also remembers how far an unfinished head was looked at, so that a slow sender is not read anew
/// with every byte. So between a [`super::Read::More`] and the next call the bytes must only grow;
/// call [`Fields::clear`] when they are thrown away.
#[derive(Debug)]
pub struct Fields {
    pub(super) lines: Lines,
    slots: Vec<Kept>,
    /// For each known name, one more than the index of its first field.
    first: [u8; Name::COUNT],
}

impl Default for Fields {
    fn default() -> Fields {
        Fields::new()
    }
}

impl Fields {
    /// Empty.
    pub fn new() -> Fields {
        Fields { lines: Lines::default(), slots: Vec::new(), first: [0; Name::COUNT] }
    }

    /// Forgets the fields and how far an unfinished head was looked at.
    pub fn clear(&mut self) {
        self.lines = Lines::default();
        self.slots.clear();
        self.first = [0; Name::COUNT];
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Value of the first field called `name`. `head` is the bytes that were read.
    pub fn get<'a>(&self, head: &'a [u8], name: Name) -> Option<&'a [u8]> {
        self.slot(name).map(|slot| slot.value.of(head))
    }

    /// Values of all fields called `name`, in order.
    pub fn all<'a>(&'a self, head: &'a [u8], name: Name) -> impl Iterator<Item = &'a [u8]> {
        let named = self.slots().filter(move |slot| slot.known == Some(name));
        named.map(|slot| slot.value.of(head))
    }

    /// All fields in order.
    pub fn iter<'a>(&'a self, head: &'a [u8]) -> impl Iterator<Item = Field<'a>> {
        self.slots().map(|slot| Field {
            name: slot.name.of(head),
            value: slot.value.of(head),
            known: slot.known,
            value_span: slot.value,
        })
    }

    pub(super) fn slot(&self, name: Name) -> Option<Slot> {
        match self.first[name as usize] {
            0 => None,
            index => Some(self.slots[index as usize - 1].slot()),
        }
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.slots.iter().map(Kept::slot)
    }

    pub(super) fn push(&mut self, slot: Slot) {
        if self.slots.capacity() == 0 {
            // As many as clients send; growing by doubling would allocate three times.
            self.slots.reserve_exact(16);
        }
        let kept =
            Kept { name: Short::of(slot.name), value: Short::of(slot.value), known: slot.known };
        self.slots.push(kept);
        if let Some(name) = slot.known {
            let first = &mut self.first[name as usize];
            if *first == 0 {
                *first = self.slots.len() as u8;
            }
        }
    }
}

/// One field of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// As it came.
    pub name: &'a [u8],
    /// Without the white space around it.
    pub value: &'a [u8],
    /// What the gateway knows it as.
    pub known: Option<Name>,
    /// Where `value` stands in the head.
    pub value_span: Span,
}
