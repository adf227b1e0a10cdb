//! Parts whose bytes are not in the record: every proof stays valid without them, so that a copy can be
//! given away; and so that whoever writes the record anew with the log's key can hide them. What the
//! gateway itself never stores is told apart as far as the record says it.
//!
//! | a body is not here, and the policy that its verdict names | it counts as |
//! |---|---|
//! | keeps the bodies of its grant, or of every grant where the entry names none, in full | withheld |
//! | keeps those of its grant otherwise (`record = "heads"`, or `"sealed"` where nothing is sealed) | not kept |
//! | is not here, does not say how it records, or leaves it open which grant it was | not kept, and untold |

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::parts;
use crate::gateway::recording::Recording;
use crate::record::entry::EntryView;
use crate::record::seal::sealed_part;
use crate::record::{Keep, Kind, PartKind};

/// Bound: different pairs of policy and grant under which bodies are not here; beyond it they are untold.
const TERMS_MAX: usize = 10_000;

/// Bodies that are not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Bodies {
    count: u64,
    /// Entries that have no other part that is missing.
    entries: u64,
    /// Sequence of the first entry.
    first: Option<u64>,
}

impl Bodies {
    fn add(&mut self, other: Bodies) {
        self.count += other.count;
        self.entries += other.entries;
        self.first = earlier(self.first, other.first);
    }
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

/// What the record says about how a body is kept: the id of the policy, and the grant.
type Terms = (String, Option<u64>);

/// Gathers, in any order of the entries.
#[derive(Debug, Default)]
pub struct Withholding {
    parts: Bodies,
    /// Bodies of entries that name a policy.
    named: BTreeMap<Terms, Bodies>,
    /// Bodies of entries that name none.
    untold: u64,
    /// How each policy keeps the bodies of its grants.
    policies: BTreeMap<String, Arc<Vec<String>>>,
}

/// Counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Withheld {
    /// Parts that the gateway stored and that are not here.
    parts: u64,
    /// Entries that have such parts.
    entries: u64,
    /// Sequence of the first of them.
    first: Option<u64>,
    /// Bodies of which only length and commitment are here, and no policy says that they were stored.
    bodies: u64,
    /// Those of them of which no policy says that they were not stored either.
    untold: u64,
}

impl Withholding {
    /// Takes note of an entry.
    pub fn add(&mut self, entry: &EntryView<'_>) {
        if entry.kind() == Some(Kind::Policy) {
            self.policy(entry);
        }
        let (mut parts, mut bodies) = (0, 0);
        let seals = sealed_part(entry).is_some();
        for part in entry.parts.iter().filter(|part| part.bytes.is_none()) {
            match PartKind::from_number(part.kind_number) {
                Some(PartKind::Body | PartKind::Original | PartKind::Token) if seals => {}
                Some(PartKind::Body) => bodies += 1,
                _ => parts += 1,
            }
        }
        let first = Some(entry.sequence);
        if parts > 0 {
            self.parts.add(Bodies { count: parts, entries: 1, first });
        }
        if bodies > 0 {
            let entries = u64::from(parts == 0);
            self.body(entry, Bodies { count: bodies, entries, first });
        }
    }

    fn policy(&mut self, entry: &EntryView<'_>) {
        let detail = parts::detail(entry).unwrap_or_default();
        let Some(id) = detail["policy"].as_str() else { return };
        let Some(Ok(said)) =
            detail.get("recording").cloned().map(serde_json::from_value::<Recording>)
        else {
            return;
        };
        let kept: Vec<String> = said.grants.into_iter().map(|grant| grant.record).collect();
        self.policies.insert(id.to_owned(), Arc::new(kept));
    }

    fn body(&mut self, entry: &EntryView<'_>, bodies: Bodies) {
        let verdict = parts::verdict(entry).unwrap_or_default();
        let Some(policy) = verdict.policy else {
            self.untold += bodies.count;
            return;
        };
        let grant = verdict.grant.as_ref().and_then(Value::as_u64);
        self.named_body((policy, grant), bodies);
    }

    fn named_body(&mut self, terms: Terms, bodies: Bodies) {
        match self.named.len() < TERMS_MAX || self.named.contains_key(&terms) {
            true => self.named.entry(terms).or_default().add(bodies),
            false => self.untold += bodies.count,
        }
    }

    /// Takes what was gathered from other entries.
    pub fn join(&mut self, later: Withholding) {
        self.parts.add(later.parts);
        self.untold += later.untold;
        self.policies.extend(later.policies);
        for (terms, bodies) in later.named {
            self.named_body(terms, bodies);
        }
    }

    /// Everything that is not here, compared with the policies.
    pub fn finish(self) -> Withheld {
        let mut stored = self.parts;
        let (mut not_kept, mut untold) = (0, self.untold);
        let full = |kept: &String| kept == Keep::Full.as_str();
        for ((policy, grant), bodies) in self.named {
            let grants = self.policies.get(&policy);
            let own = |grant: u64| grants?.get(usize::try_from(grant).ok()?);
            match (grants, grant) {
                (_, Some(grant)) if own(grant).is_some_and(full) => stored.add(bodies),
                (_, Some(grant)) if own(grant).is_some() => not_kept += bodies.count,
                (Some(grants), None) if grants.iter().all(full) => stored.add(bodies),
                _ => untold += bodies.count,
            }
        }
        let Bodies { count, entries, first } = stored;
        Withheld { parts: count, entries, first, bodies: not_kept + untold, untold }
    }
}

impl Withheld {
    /// The JSON form.
    pub fn json(&self) -> Value {
        json!({
            "parts": self.parts,
            "entries": self.entries,
            "first": self.first,
            "bodies_not_kept": self.bodies,
            "bodies_untold": self.untold,
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
            let more = match self.untold {
                0 => "".to_owned(),
                untold => format!("; of {untold} no policy here says whether they were stored"),
            };
            lines.push(("not kept", text + &more));
        }
        lines
    }
}
