//! Who is out although the token is still good: the deny list.
//!
//! ```toml
//! [[deny]]
//! issuer = "https://login.example.com"
//! subject = "contractor-7"          # and / or: client = "…", jti = "…"; all given ones must fit
//! reason = "left on 2026-11-20"     # optional
//! since = 2026-11-20T17:00:00Z      # optional, for people: an entry works as long as it stands
//! ```
//!
//! The caller asks on every call and for every open stream; the list does not wait for anything. It
//! does not read files: `app::denyfile` does.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::token::name_allowed;
use crate::types::Identity;

/// What an entry names, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenyBy {
    /// A person or service.
    Subject,
    /// A client application.
    Client,
    /// One token.
    Token,
}

impl DenyBy {
    /// The word used in records and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            DenyBy::Subject => "denied-subject",
            DenyBy::Client => "denied-client",
            DenyBy::Token => "denied-token",
        }
    }
}

/// Which entry keeps a caller out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DenyReason {
    /// Index of the entry in the list.
    pub entry: u32,
    /// What it was found by.
    pub by: DenyBy,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct DenyEntry {
    /// Equal to the configured issuer URL.
    pub issuer: String,
    /// `sub`.
    pub subject: Option<String>,
    /// `client_id` or `azp`.
    pub client: Option<String>,
    /// `jti`.
    pub token_id: Option<String>,
    /// For people.
    pub reason: Option<String>,
    /// For people.
    pub since: Option<String>,
}

/// What is wrong with a deny file, in one place of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenyFault {
    /// Line, from 1.
    pub line: u32,
    /// The key or table it is about.
    pub key: String,
    /// What stands there; never more than a type, a length or a short name.
    pub seen: String,
    /// What may stand there.
    pub allowed: &'static str,
}

impl fmt::Display for DenyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}, allowed: {}", self.line, self.key, self.seen, self.allowed)
    }
}

/// See the module's document. Immutable; swapped whole.
#[derive(Debug, Clone, Default)]
pub struct DenyList {
    entries: Vec<DenyEntry>,
    index: HashMap<String, OfIssuer>,
}

/// Numbers of the entries of one issuer, each under the strongest thing it names.
#[derive(Debug, Clone, Default)]
struct OfIssuer {
    subjects: HashMap<String, Vec<u32>>,
    clients: HashMap<String, Vec<u32>>,
    tokens: HashMap<String, Vec<u32>>,
}

impl DenyList {
    /// A list of these entries.
    pub fn new(entries: Vec<DenyEntry>) -> DenyList {
        let mut index: HashMap<String, OfIssuer> = HashMap::new();
        for (number, entry) in entries.iter().enumerate() {
            let of_issuer = index.entry(entry.issuer.clone()).or_default();
            let place = match (&entry.subject, &entry.client, &entry.token_id) {
                (Some(subject), _, _) => of_issuer.subjects.entry(subject.clone()),
                (None, Some(client), _) => of_issuer.clients.entry(client.clone()),
                (None, None, Some(token_id)) => of_issuer.tokens.entry(token_id.clone()),
                (None, None, None) => continue,
            };
            place.or_default().push(number as u32);
        }
        DenyList { entries, index }
    }

    /// Reads a deny file.
    ///
    /// # Errors
    /// Every fault of the file, in order. A list is either whole or not there: half of it would let
    /// somebody back in.
    pub fn parse(text: &str) -> Result<DenyList, Vec<DenyFault>> {
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut reader = Reader { text, faults: Vec::new() };
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let seen = error.message().lines().next().unwrap_or_default().to_owned();
            reader.fault(span, "file", seen, "TOML with [[deny]] tables");
        }
        let mut entries = Vec::new();
        for (key, value) in document.get_ref() {
            match (&**key.get_ref(), value.get_ref()) {
                ("deny", DeValue::Array(tables)) => {
                    for table in tables.iter() {
                        match table.get_ref() {
                            DeValue::Table(table_ref) => {
                                entries.push(reader.entry(table.span(), table_ref));
                            }
                            other => reader.fault(
                                table.span(),
                                "deny",
                                other.type_str().to_owned(),
                                "a [[deny]] table",
                            ),
                        }
                    }
                }
                ("deny", other) => reader.fault(
                    value.span(),
                    "deny",
                    other.type_str().to_owned(),
                    "[[deny]], with two brackets",
                ),
                (other, _) => reader.fault(key.span(), other, "unknown".to_owned(), "deny"),
            }
        }
        if reader.faults.is_empty() {
            Ok(DenyList::new(entries))
        } else {
            reader.faults.sort_by_key(|fault| fault.line);
            Err(reader.faults)
        }
    }

    /// Whether the list keeps `identity` out, and by which entry.
    pub fn denies(&self, identity: &Identity) -> Option<DenyReason> {
        let of_issuer = self.index.get(&*identity.issuer)?;
        // Why the claims too: a token may carry `client_id` and `azp`, and an entry means either.
        let clients = || {
            let claim = |name: &str| identity.claims.get(name).and_then(|value| value.as_str());
            [identity.client.as_deref(), claim("client_id"), claim("azp")].into_iter().flatten()
        };
        let fits = |entry: &DenyEntry| {
            entry.subject.as_deref().is_none_or(|subject| subject == &*identity.subject)
                && entry.client.as_deref().is_none_or(|name| clients().any(|one| one == name))
                && entry.token_id.as_deref().is_none_or(|id| {
                    identity.token_id.as_deref().is_some_and(|token_id| token_id == id)
                })
        };
        let find = |by: DenyBy, under: &HashMap<String, Vec<u32>>, value: &str| {
            under
                .get(value)?
                .iter()
                .find(|number| fits(&self.entries[**number as usize]))
                .map(|number| DenyReason { entry: *number, by })
        };
        find(DenyBy::Subject, &of_issuer.subjects, &identity.subject)
            .or_else(|| {
                clients().find_map(|client| find(DenyBy::Client, &of_issuer.clients, client))
            })
            .or_else(|| find(DenyBy::Token, &of_issuer.tokens, identity.token_id.as_deref()?))
    }

    /// The entries, in the order of the file.
    pub fn entries(&self) -> &[DenyEntry] {
        &self.entries
    }

    /// Whether a caller `entry` names would be kept out by exactly such an entry.
    pub fn holds(&self, entry: &DenyEntry) -> bool {
        self.entries.iter().any(|held| {
            held.issuer == entry.issuer
                && held.subject == entry.subject
                && held.client == entry.client
                && held.token_id == entry.token_id
        })
    }

    /// Everybody whom either list keeps out.
    pub fn union(&self, other: &DenyList) -> DenyList {
        let mut entries = other.entries.clone();
        entries.extend(self.entries.iter().filter(|entry| !other.holds(entry)).cloned());
        DenyList::new(entries)
    }
}

/// One entry as it stands in the file, ending with an empty line.
pub fn entry_text(entry: &DenyEntry) -> String {
    let mut out = String::from("[[deny]]\n");
    let mut line = |key: &str, value: &Option<String>| {
        if let Some(value) = value {
            out.push_str(&format!("{key} = {}\n", toml::Value::from(value.as_str())));
        }
    };
    line("issuer", &Some(entry.issuer.clone()));
    line("subject", &entry.subject);
    line("client", &entry.client);
    line("jti", &entry.token_id);
    line("reason", &entry.reason);
    line("since", &entry.since);
    out.push('\n');
    out
}

struct Reader<'a> {
    text: &'a str,
    faults: Vec<DenyFault>,
}

impl Reader<'_> {
    fn fault(&mut self, span: Range<usize>, key: &str, seen: String, allowed: &'static str) {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let line = 1 + memchr::memchr_iter(b'\n', before).count() as u32;
        self.faults.push(DenyFault { line, key: key.to_owned(), seen, allowed });
    }

    fn entry(&mut self, span: Range<usize>, table: &DeTable<'_>) -> DenyEntry {
        let mut entry = DenyEntry::default();
        let before = self.faults.len();
        for (key, value) in table.iter() {
            match &**key.get_ref() {
                "issuer" => entry.issuer = self.name(key, value).unwrap_or_default(),
                "subject" => entry.subject = self.name(key, value),
                "client" => entry.client = self.name(key, value),
                "jti" => entry.token_id = self.name(key, value),
                "reason" => match value.get_ref() {
                    DeValue::String(text) => entry.reason = Some(text.to_string()),
                    other => {
                        self.fault(value.span(), "reason", other.type_str().to_owned(), "a string")
                    }
                },
                "since" => match value.get_ref() {
                    DeValue::String(text) => entry.since = Some(text.to_string()),
                    DeValue::Datetime(time) => entry.since = Some(time.to_string()),
                    other => self.fault(
                        value.span(),
                        "since",
                        other.type_str().to_owned(),
                        "a date and time",
                    ),
                },
                other => self.fault(
                    key.span(),
                    other,
                    "unknown".to_owned(),
                    "issuer, subject, client, jti, reason, since",
                ),
            }
        }
        let faulty = self.faults.len() > before;
        if entry.issuer.is_empty() && !table.contains_key("issuer") {
            self.fault(span.clone(), "issuer", "missing".to_owned(), "the issuer's url");
        }
        let nobody = entry.subject.is_none() && entry.client.is_none() && entry.token_id.is_none();
        if nobody && !faulty {
            self.fault(
                span,
                "deny",
                "an entry that names nobody".to_owned(),
                "subject, client or jti",
            );
        }
        entry
    }

    fn name(
        &mut self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<String> {
        match value.get_ref() {
            DeValue::String(text) if name_allowed(text) => Some(text.to_string()),
            DeValue::String(text) => {
                let seen = format!("a string of {} bytes", text.len());
                self.fault(
                    value.span(),
                    key.get_ref(),
                    seen,
                    "1 to 512 bytes without control or invisible characters",
                );
                None
            }
            other => {
                self.fault(value.span(), key.get_ref(), other.type_str().to_owned(), "a string");
                None
            }
        }
    }
}
