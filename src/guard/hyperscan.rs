//! The one place that talks to Hyperscan: block mode, single match, no start of match.
//!
//! It answers "which rules may match in this text" and nothing else. By construction it stays clear of
//! what the crate leaves open: no streams (they do not borrow their database), no database from disk,
//! a length check before the library's 32-bit length, and a callback that cannot unwind (it sets a bit
//! in memory that exists already; an index out of reach is ignored and cannot occur).

use hyperscan::prelude::*;
use hyperscan::{BlockDatabase, PatternFlags};

pub use hyperscan::Scratch;

pub use super::engine::Presence;
use super::engine::{Candidates, EngineFault};

/// A compiled set: shared by all workers, read only.
pub struct Database {
    database: BlockDatabase,
    template: std::sync::Mutex<Scratch>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database")
    }
}

impl Candidates for Database {
    type Scratch = Scratch;

    fn compile(patterns: &[(usize, &str)]) -> Result<Database, EngineFault> {
        let version = hyperscan::version_str().to_string_lossy().into_owned();
        if misses_matches(&version) {
            return Err(EngineFault::Version(version));
        }
        let patterns: Patterns = patterns
            .iter()
            .map(|&(id, text)| {
                let mut pattern =
                    Pattern::with_flags(text, PatternFlags::SINGLEMATCH | PatternFlags::DOTALL)
                        .map_err(|error| EngineFault::Library(error.to_string()))?;
                pattern.id = Some(id);
                Ok(pattern)
            })
            .collect::<Result<Vec<_>, EngineFault>>()?
            .into();
        let database: BlockDatabase =
            patterns.build().map_err(|error| EngineFault::Library(error.to_string()))?;
        let template =
            database.alloc_scratch().map_err(|error| EngineFault::Library(error.to_string()))?;
        Ok(Database { database, template: std::sync::Mutex::new(template) })
    }

    fn scratch(&self) -> Scratch {
        self.template.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Fails for 4 GiB and more, and when the library reports an error.
    fn scan(
        &self,
        text: &[u8],
        scratch: &Scratch,
        presence: &mut Presence,
    ) -> Result<(), EngineFault> {
        if u32::try_from(text.len()).is_err() {
            return Err(EngineFault::Library("text of 4 GiB or more".into()));
        }
        if text.is_empty() {
            return Ok(());
        }
        self.database
            .scan(text, scratch, |id: u32, _from: u64, _to: u64, _flags: u32| {
                presence.set(id as usize);
                Matching::Continue
            })
            .map_err(|error| EngineFault::Library(error.to_string()))
    }
}

/// The library's own version text, for the record.
pub fn version() -> String {
    hyperscan::version_str().to_string_lossy().into_owned()
}

/// Vectorscan before 5.4.12 misses matches on x86-64 (its issues 317, 358, 368); Hyperscan from 5.4.0
/// on does not. Vectorscan names itself in its version text or carries a version Hyperscan never had.
fn misses_matches(version: &str) -> bool {
    let numbers: Vec<u32> = version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .take(3)
        .collect();
    let &[major, minor, patch] = numbers.as_slice() else { return true };
    // Hyperscan's open releases end at 5.4.2; what is between 5.4.3 and 5.4.11 is Vectorscan.
    (major, minor) < (5, 4) || ((major, minor) == (5, 4) && (3..12).contains(&patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_miss_matches_are_refused() {
        for (version, refused) in [
            ("5.4.0 2021-01-26", false),
            ("5.4.2 2023-04-22", false),
            ("5.4.9 2023-03-21", true),
            ("5.4.11 2023-11-20", true),
            ("5.4.12 2025-05-01", false),
            ("5.3.0 2020-05-15", true),
            ("nonsense", true),
        ] {
            assert_eq!(misses_matches(version), refused, "{version}");
        }
    }

    #[test]
    fn it_says_which_rules_may_match() {
        let database = Database::compile(&[(3, "abc"), (70, "[x-z]{3}")]).unwrap();
        let scratch = database.scratch();
        let mut presence = Presence::new(71);
        database.scan(b"..abc..xyzxyz", &scratch, &mut presence).unwrap();
        assert_eq!(presence.iter().collect::<Vec<_>>(), [3, 70]);
        presence.clear();
        database.scan(b"", &scratch, &mut presence).unwrap();
        assert!(presence.is_empty());
    }
}
