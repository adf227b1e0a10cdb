//! What names the rules that may match in a text; the expressions then say where.
//!
//! | engine | feature | what it is |
//! |---|---|---|
//! | [`super::hyperscan`] | `engine-hyperscan`, on by default | all patterns at once, in the library of the system |
//! | [`super::literals`] | always there; the one in use without the other | what each pattern cannot do without, aho-corasick; regex-automata for patterns without such a text |
//!
//! Both take the same printed patterns ([`mod@super::print`]) and may name too many rules, never too few:
//! what is found is the same. The expressions over everything ([`super::Engine::Expressions`]) are the twin
//! of both in the tests.

#[cfg(feature = "engine-hyperscan")]
pub use super::hyperscan::{Database, Scratch};
#[cfg(not(feature = "engine-hyperscan"))]
pub use super::literals::{Database, Scratch};

/// An engine compiled for one set of patterns: shared by all workers, read only.
pub trait Candidates: Sized {
    /// Working memory of one scanner.
    type Scratch;

    /// Compiles printed patterns, each with the number reported for it.
    fn compile(patterns: &[(usize, &str)]) -> Result<Self, EngineFault>;

    /// Working memory for one scanner. Panics without memory for it.
    fn scratch(&self) -> Self::Scratch;

    /// Marks in `presence` the rules that may match in `text`, beside those that are marked already. When
    /// it fails the caller refuses the text.
    fn scan(
        &self,
        text: &[u8],
        scratch: &Self::Scratch,
        presence: &mut Presence,
    ) -> Result<(), EngineFault>;
}

/// What the engine in use is, for the record and for people.
pub fn version() -> String {
    #[cfg(feature = "engine-hyperscan")]
    let version = format!("libhs {}", super::hyperscan::version());
    #[cfg(not(feature = "engine-hyperscan"))]
    let version = "aho-corasick and regex-automata".to_owned();
    version
}

/// The engine cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineFault {
    /// A version of the library that is known to miss matches.
    Version(String),
    /// The library refused a pattern or ran out of memory.
    Library(String),
}

impl std::fmt::Display for EngineFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EngineFault::Version(seen) => write!(
                f,
                "pattern library {seen} misses matches; allowed: Hyperscan 5.4.0 or later, Vectorscan 5.4.12 or later"
            ),
            EngineFault::Library(text) => write!(f, "pattern library: {text}"),
        }
    }
}

impl std::error::Error for EngineFault {}

/// The rules that may match: one bit a rule.
#[derive(Debug, Default, Clone)]
pub struct Presence {
    words: Vec<u64>,
}

impl Presence {
    /// Room for `rules` rules, none present.
    pub fn new(rules: usize) -> Presence {
        Presence { words: vec![0; rules.div_ceil(64)] }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Marks rule `rule`; beyond the room it does nothing.
    pub fn set(&mut self, rule: usize) {
        if let Some(word) = self.words.get_mut(rule / 64) {
            *word |= 1 << (rule % 64);
        }
    }

    /// Whether rule `rule` is marked.
    pub fn has(&self, rule: usize) -> bool {
        self.words.get(rule / 64).is_some_and(|word| word >> (rule % 64) & 1 == 1)
    }

    /// The marks of 64 rules each, the first in the lowest bit.
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    /// Whether no rule is marked.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// Marks what `other` marks too; beyond the room it does nothing.
    pub fn join(&mut self, other: &Presence) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    /// Whether a rule is marked in both.
    pub fn meets(&self, other: &Presence) -> bool {
        self.words.iter().zip(&other.words).any(|(word, other)| word & other != 0)
    }

    /// The marked rules in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(place, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    place * 64 + bit
                })
            })
        })
    }
}
