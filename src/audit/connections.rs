//! The connections that exchanges came over: their connect and disconnect entries, which belong to no
//! exchange and are named by the first entry of each.
//!
//! A connection that is open at a place of the record is remembered there, since it is told before the
//! exchange that may be asked for; what is told later is taken as it passes. So one pass over the record
//! is enough, and memory is bounded by the connections open at once. Where segments were left out because
//! of their indexes, which name no connections, [`Connections::window`] says in which times an end that is
//! still missing may lie.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::parts;
use super::show::{connection_text, entry_json};
use super::text::json_line;
use crate::record::Kind;
use crate::record::entry::EntryView;
use crate::record::scan::{Left, Place, Sink};
use crate::types::ExchangeId;

/// Connections remembered. Bound: several times `connections_max`; ends that the gateway could not record
/// must not fill the memory of whoever reads.
const OPEN_MAX: usize = 131_072;
/// Around the times of an exchange, in which the ends of its connection are looked for first. Each further
/// look goes four times as far.
const HOUR_NS: u64 = 3_600_000_000_000;

/// What is known of a connection that was asked for.
struct Told {
    /// Somebody was authenticated on it, so it has a connect entry.
    caller: bool,
    connect: bool,
    disconnect: bool,
}

/// The connections of what is shown.
pub(super) struct Connections {
    json: bool,
    /// As they are shown, by name. Names sort by time.
    open: BTreeMap<String, String>,
    asked: BTreeMap<String, Told>,
    /// Times of what was shown, and of the begin of its connections, UTC ns.
    times_ns: Option<(u64, u64)>,
    /// The greatest time of an entry, UTC ns. The newest segment is always read, so there is nothing later.
    newest_ns: u64,
    /// Up to where the last look went, and how far it went.
    looked: Option<(u64, u64)>,
}

/// When an exchange with this id began, UTC ns.
fn begun_ns(id: &str) -> Option<u64> {
    let bytes = id.parse::<ExchangeId>().ok()?.to_bytes();
    let ms = bytes[..6].iter().fold(0, |ms: u64, byte| ms << 8 | u64::from(*byte));
    ms.checked_mul(1_000_000)
}

impl Connections {
    /// None yet; as JSON Lines or as text.
    pub(super) fn new(json: bool) -> Connections {
        Connections {
            json,
            open: BTreeMap::new(),
            asked: BTreeMap::new(),
            times_ns: None,
            newest_ns: 0,
            looked: None,
        }
    }

    /// Takes an entry of the record; gives what is to be shown of it.
    pub(super) fn add(&mut self, place: &Place, entry: &EntryView<'_>) -> Option<String> {
        self.newest_ns = self.newest_ns.max(entry.now.utc_ns);
        let connects = match entry.kind()? {
            Kind::Start => {
                self.forget();
                return None;
            }
            Kind::Connect => true,
            Kind::Disconnect => false,
            _ => return None,
        };
        let detail = parts::detail(entry)?;
        let name = detail["connection"].as_str()?;
        let told = self.asked.get_mut(name);
        let known = told.is_some();
        if !connects {
            self.open.remove(name);
        }
        if known || connects {
            let text = match self.json {
                true => format!("{}\n", json_line(&entry_json(place, entry))),
                false => connection_text(place, entry),
            };
            let Some(told) = told else {
                self.open.insert(name.to_owned(), text);
                if self.open.len() > OPEN_MAX {
                    self.open.pop_first();
                }
                return None;
            };
            let told = if connects { &mut told.connect } else { &mut told.disconnect };
            return (!std::mem::replace(told, true)).then_some(text);
        }
        None
    }

    /// A run of the gateway begins: nothing of the one before is open.
    pub(super) fn forget(&mut self) {
        self.open.clear();
    }

    /// An entry is shown: gives what is to be shown in front of it.
    pub(super) fn ask(&mut self, entry: &EntryView<'_>) -> Option<String> {
        let time = entry.now.utc_ns;
        let (first, last) = self.times_ns.unwrap_or((time, time));
        self.times_ns = Some((first.min(time), last.max(time)));
        let of_end = || Some(parts::detail(entry)?["connection"].as_str()?.to_owned());
        let name = match parts::verdict(entry) {
            Some(verdict) => verdict.connection?,
            None => of_end()?,
        };
        let begun = begun_ns(&name);
        let caller = parts::subject(entry).is_some();
        let told = self.asked.entry(name.clone()).or_insert(Told {
            caller: false,
            connect: false,
            disconnect: false,
        });
        told.caller |= caller;
        let text = self.open.get(&name).filter(|_| !told.connect).cloned();
        told.connect |= text.is_some();
        if let (Some(begun), Some((first, _))) = (begun, &mut self.times_ns) {
            *first = begun.min(*first);
        }
        text
    }

    /// The times, UTC ns, in which to look next for what is still missing; `None` when nothing is, or when
    /// every time was looked through.
    pub(super) fn window(&mut self) -> Option<(u64, u64)> {
        let missing = |told: &Told| told.caller && !(told.connect && told.disconnect);
        let (first, last) = self.times_ns.filter(|_| self.asked.values().any(missing))?;
        let (from, span) = match self.looked {
            None => (first.saturating_sub(HOUR_NS), (last - first).saturating_add(2 * HOUR_NS)),
            // Further back there is nothing: a connection is told when it has its first caller.
            Some((to, _)) if to > self.newest_ns => return None,
            Some((to, span)) => (to, span.saturating_mul(4)),
        };
        let to = from.saturating_add(span);
        self.looked = Some((to, span));
        Some((from, to))
    }
}

/// Takes the connections that were asked for, and nothing else.
pub(super) struct Later<'a> {
    connections: &'a mut Connections,
    out: &'a mut dyn Write,
    written: io::Result<()>,
}

impl<'a> Later<'a> {
    /// Shows them on `out`.
    pub(super) fn new(connections: &'a mut Connections, out: &'a mut dyn Write) -> Later<'a> {
        Later { connections, out, written: Ok(()) }
    }

    /// Whether all could be written.
    pub(super) fn end(self) -> io::Result<()> {
        self.written
    }
}

impl Sink for Later<'_> {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        if self.written.is_ok()
            && let Some(text) = self.connections.add(place, entry)
        {
            self.written = self.out.write_all(text.as_bytes());
        }
    }

    fn left(&mut self, left: &Left) {
        if left.starts {
            self.connections.forget();
        }
    }
}
