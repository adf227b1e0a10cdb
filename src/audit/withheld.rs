//! Parts whose bytes are not in the record: every proof stays valid without them, so that a copy can be
//! given away; and so that whoever writes the record anew with the log's key can hide them. What the
//! gateway itself never stores is told apart as far as the entry says it.

use serde_json::{Value, json};

use crate::record::PartKind;
use crate::record::entry::EntryView;
use crate::record::seal::sealed_part;

/// Counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Withheld {
    /// Parts that the gateway stored and that are not here.
    parts: u64,
    /// Entries that have such parts.
    entries: u64,
    /// Sequence of the first of them.
    first: Option<u64>,
    /// Bodies of which only length and commitment are here: not kept, or withheld.
    bodies: u64,
}

impl Withheld {
    /// Takes note of an entry.
    pub fn add(&mut self, entry: &EntryView<'_>) {
        let mut parts = 0;
        let seals = sealed_part(entry).is_some();
        for part in entry.parts.iter().filter(|part| part.bytes.is_none()) {
            match PartKind::from_number(part.kind_number) {
                Some(PartKind::Body | PartKind::Original | PartKind::Token) if seals => {}
                Some(PartKind::Body) => self.bodies += 1,
                _ => parts += 1,
            }
        }
        if parts > 0 {
            self.parts += parts;
            self.entries += 1;
            self.first.get_or_insert(entry.sequence);
        }
    }

    /// Takes what was counted in entries behind these.
    pub fn join(&mut self, later: Withheld) {
        self.parts += later.parts;
        self.entries += later.entries;
        self.first = self.first.or(later.first);
        self.bodies += later.bodies;
    }

    /// The JSON form.
    pub fn json(&self) -> Value {
        json!({
            "parts": self.parts,
            "entries": self.entries,
            "first": self.first,
            "bodies_not_kept": self.bodies,
        })
    }

    /// For a terminal: (name, text) of each line.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        if let Some(first) = self.first {
            let text = format!(
                "{} parts of {} entries are not here, the first of entry {first}",
                self.parts, self.entries
            );
            lines.push(("withheld", text));
        }
        if self.bodies > 0 {
            let text = format!("{} bodies: only their length and commitment are here", self.bodies);
            lines.push(("not kept", text));
        }
        lines
    }
}
