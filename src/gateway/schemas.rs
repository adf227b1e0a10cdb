//! Output schemas of tools, as the answers to `tools/list` tell them: shared by the workers.
//!
//! A tool may look otherwise to another caller, so what a caller was shown last counts for his answers; a client that
//! was shown nothing has what another client of the same subject was shown last. Nobody else's list counts: who
//! defines tools for others must not get their answers blocked. What a tool is listed with replaces what it
//! was listed with before. Nothing is fetched, and nothing outlives the process: a tool that nobody has listed
//! has no schema.
//!
//! The lock is taken for an answer to `tools/list` that holds a schema or replaces one, and for one whose
//! structured content is masked. Bound: [`Limits::output_schemas_bytes_max`](crate::limits::Limits); beyond it
//! the older half of the upstream that grew is forgotten, where it has more than its part, else of the one with
//! the most, so that no server makes others' forgotten.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::guard::OutputSchema;
use crate::types::Identity;

/// Bytes that an entry is counted with beside the name of its tool.
const ENTRY_BYTES: u64 = 256;
/// Bytes that a schema is counted with beside its text.
const SCHEMA_BYTES: u64 = 128;

/// A tool, and by whom it was seen: a client of a subject, or any of that subject.
type Key = (Box<str>, u64);

#[derive(Debug)]
struct Known {
    schema: Arc<OutputSchema>,
    /// Grows with every listing.
    listed: u64,
}

#[derive(Debug, Default)]
struct Listed {
    tools: HashMap<Key, Known>,
    /// Every schema once, however many tools and callers have it.
    schemas: HashMap<[u8; 16], Arc<OutputSchema>>,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Table {
    upstreams: HashMap<Arc<str>, Listed>,
    listings: u64,
}

/// Output schemas of all upstreams.
#[derive(Debug)]
pub struct Schemas {
    table: Mutex<Table>,
    /// Some schema was learned: without one no lock is taken.
    any: AtomicBool,
    callers: RandomState,
    bytes_max: u64,
}

impl Schemas {
    /// No schema yet; at most `bytes_max` of them.
    pub fn new(bytes_max: u64) -> Arc<Schemas> {
        let (table, callers) = (Mutex::default(), RandomState::new());
        Arc::new(Schemas { table, any: AtomicBool::new(false), callers, bytes_max })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether nothing was ever learned.
    pub fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// The caller, and his subject whatever the client.
    fn seen_by(&self, identity: &Identity) -> [u64; 2] {
        let Identity { issuer, subject, client, .. } = identity;
        [
            self.callers.hash_one((issuer, subject, Some(client))),
            self.callers.hash_one((issuer, subject, None::<&Option<String>>)),
        ]
    }

    /// The schema of `tool` at `upstream`, as `identity` was shown it last, or another client of his subject.
    pub fn get(
        &self,
        upstream: &str,
        identity: &Identity,
        tool: &str,
    ) -> Option<Arc<OutputSchema>> {
        if self.is_empty() {
            return None;
        }
        let table = self.table();
        let tools = &table.upstreams.get(upstream)?.tools;
        let known =
            self.seen_by(identity).into_iter().find_map(|by| tools.get(&(tool.into(), by)))?;
        Some(Arc::clone(&known.schema))
    }

    /// `identity` was shown these tools of `upstream`, each with the JSON text of its schema, where it has one.
    pub fn learn(
        &self,
        upstream: &Arc<str>,
        identity: &Identity,
        tools: &[(String, Option<&[u8]>)],
    ) {
        let learns = tools.iter().any(|(_, schema)| schema.is_some());
        if !learns && self.is_empty() {
            return;
        }
        let seen_by = self.seen_by(identity);
        // Why before the lock: a list may hold as much as an answer may, and each text is hashed.
        let schemas: Vec<_> =
            tools.iter().map(|(tool, text)| (tool, text.map(OutputSchema::new))).collect();
        let mut table = self.table();
        table.listings += 1;
        let listed = table.listings;
        for (tool, schema) in &schemas {
            let of = table.upstreams.entry(Arc::clone(upstream)).or_default();
            for by in seen_by {
                let key = (tool.as_str().into(), by);
                match schema {
                    Some(schema) => of.learn(key, schema, listed),
                    None => of.forget(&key),
                }
            }
            // Why for each: one list may hold as much as an answer may.
            table.shrink(self.bytes_max, upstream);
        }
        self.any.store(true, Ordering::Release);
    }
}

impl Table {
    /// Forgets until the bound holds: first schemas that no tool has any more. The upstream that `grew` forgets
    /// what it has above its part, then the one with the most.
    fn shrink(&mut self, bytes_max: u64, grew: &str) {
        while self.upstreams.values().map(|listed| listed.bytes).sum::<u64>() > bytes_max {
            let part = bytes_max / self.upstreams.len() as u64;
            let over = |(name, listed): &(&Arc<str>, &mut Listed)| {
                (***name == *grew && listed.bytes > part, listed.bytes)
            };
            let Some((_, most)) = self.upstreams.iter_mut().max_by_key(over) else {
                return;
            };
            let before = most.bytes;
            most.sweep();
            // Why: where each listing leaves one schema behind, each would cost a walk over all of them.
            if most.bytes > before / 4 * 3 {
                most.forget_half();
                most.sweep();
            }
            // What is left is in somebody's hands for a moment.
            if most.tools.is_empty() {
                return;
            }
        }
    }
}

impl Listed {
    fn entry_bytes((tool, _): &Key) -> u64 {
        ENTRY_BYTES + tool.len() as u64
    }

    fn schema_bytes(schema: &OutputSchema) -> u64 {
        SCHEMA_BYTES + schema.bytes() as u64
    }

    fn learn(&mut self, key: Key, schema: &OutputSchema, listed: u64) {
        let bytes = &mut self.bytes;
        let schema = self.schemas.entry(schema.digest()).or_insert_with(|| {
            *bytes += Listed::schema_bytes(schema);
            Arc::new(schema.clone())
        });
        let (schema, entry_bytes) = (Arc::clone(schema), Listed::entry_bytes(&key));
        if self.tools.insert(key, Known { schema, listed }).is_none() {
            self.bytes += entry_bytes;
        }
    }

    fn forget(&mut self, key: &Key) {
        if self.tools.remove(key).is_some() {
            self.bytes -= Listed::entry_bytes(key);
        }
    }

    /// Forgets schemas that no tool has.
    fn sweep(&mut self) {
        let bytes = &mut self.bytes;
        self.schemas.retain(|_, schema| {
            let used = Arc::strong_count(schema) > 1;
            *bytes -= if used { 0 } else { Listed::schema_bytes(schema) };
            used
        });
    }

    /// Forgets the tools that were listed longest ago: half of them, and at least one.
    fn forget_half(&mut self) {
        let mut ages: Vec<u64> = self.tools.values().map(|known| known.listed).collect();
        ages.sort_unstable();
        let middle = ages.get(ages.len() / 2).copied().unwrap_or(0);
        let (mut left, bytes) = (ages.len().div_ceil(2), &mut self.bytes);
        self.tools.retain(|key, known| {
            let goes = known.listed <= middle && left > 0;
            if goes {
                left -= 1;
                *bytes -= Listed::entry_bytes(key);
            }
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::caller;
    use crate::guard::schema::Fit;

    fn listed(tool: &str, schema: Option<&'static str>) -> [(String, Option<&'static [u8]>); 1] {
        [(tool.to_owned(), schema.map(str::as_bytes))]
    }

    fn bytes(schemas: &Schemas) -> u64 {
        schemas.table().upstreams.values().map(|listed| listed.bytes).sum()
    }

    // Checked against the mutants "what anybody was shown counts for who was shown nothing" and "a tool without a schema keeps it".
    #[test]
    fn what_a_caller_was_shown_last_counts_for_him() {
        let schemas = Schemas::new(1 << 20);
        let (al, bo, cy) = (caller("al"), caller("bo"), caller("cy"));
        let codegen: Arc<str> = "codegen".into();
        assert!(schemas.get("codegen", &al, "t").is_none());
        schemas.learn(&codegen, &al, &listed("t", Some("true")));
        schemas.learn(&codegen, &bo, &listed("t", Some("false")));
        let fits = |by: &Identity| {
            schemas.get("codegen", by, "t").map(|schema| schema.check(b"1") == Fit::Fits)
        };
        assert_eq!((fits(&al), fits(&bo), fits(&cy)), (Some(true), Some(false), None));
        assert!(schemas.get("other", &al, "t").is_none());
        assert!(schemas.get("codegen", &al, "u").is_none());
        schemas.learn(&codegen, &bo, &listed("t", Some("true")));
        assert_eq!((fits(&bo), fits(&cy)), (Some(true), None));
        // Another client of the same subject.
        let other = Identity { client: Some("other".into()), ..caller("bo") };
        assert_eq!(fits(&other), Some(true));
        schemas.learn(&codegen, &bo, &listed("t", None));
        assert_eq!((fits(&al), fits(&bo), fits(&cy)), (Some(true), None, None));
    }

    #[test]
    fn an_upstream_that_grows_halves_itself_and_not_a_larger_one() {
        let schemas = Schemas::new(64 << 10);
        let al = caller("al");
        let (large, grows): (Arc<str>, Arc<str>) = ("large".into(), "grows".into());
        let text = |turn: usize| format!("\"{turn}{}\"", "x".repeat(1000));
        let learn = |upstream: &Arc<str>, turn: usize| {
            let text = text(turn);
            schemas.learn(upstream, &al, &[(format!("t{turn}"), Some(text.as_bytes()))]);
        };
        let known = |upstream: &str| {
            (0..100).filter(|n| schemas.get(upstream, &al, &format!("t{n}")).is_some()).count()
        };
        (0..18).for_each(|turn| learn(&grows, turn));
        (0..20).for_each(|turn| learn(&large, turn));
        let before = known("large");
        (18..24).for_each(|turn| learn(&grows, turn));
        assert!(known("large") >= before / 2 && before > 10, "{before}");
        // From here on it has more than its part with each of its lists.
        let before = known("large");
        (24..100).for_each(|turn| learn(&grows, turn));
        assert_eq!(known("large"), before);
        assert!(schemas.get("grows", &al, "t99").is_some());
    }

    // Checked against the mutant "all upstreams forget".
    #[test]
    fn a_server_with_many_schemas_makes_only_its_own_forgotten() {
        let schemas = Schemas::new(64 << 10);
        let al = caller("al");
        let (good, bad): (Arc<str>, Arc<str>) = ("good".into(), "bad".into());
        schemas.learn(&good, &al, &listed("t", Some("true")));
        for turn in 0..2_000 {
            let text = format!("{{\"title\":\"{turn}{}\"}}", "x".repeat(turn % 700));
            let tool = format!("t{}", turn % 900);
            schemas.learn(&bad, &al, &[(tool, Some(text.as_bytes()))]);
            assert!(bytes(&schemas) <= 64 << 10);
        }
        assert!(schemas.get("good", &al, "t").is_some());
        assert!(schemas.get("bad", &al, "t199").is_some(), "the newest stays");
        // One answer that is larger than all that may be held.
        let huge: Vec<String> =
            (0..300).map(|turn| format!("\"{turn}{}\"", "y".repeat(1000))).collect();
        let tools: Vec<_> =
            huge.iter().map(|text| (text[..4].to_owned(), Some(text.as_bytes()))).collect();
        schemas.learn(&bad, &al, &tools);
        assert!(bytes(&schemas) <= 64 << 10);
        let none: Vec<_> = tools.iter().map(|(tool, _)| (tool.clone(), None)).collect();
        schemas.learn(&bad, &al, &none);
        assert!(schemas.get("good", &al, "t").is_some());
    }
}
