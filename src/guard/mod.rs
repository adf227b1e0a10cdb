//! What may pass: rules, scanner, masking and grants.
//!
//! | module | holds |
//! |---|---|
//! | [`policy`], [`glob`], [`lists`] | who may ask for what; lists shortened to it |
//! | [`pack`], `compile`, `secret`, [`rules`], [`packtest`] | rule files; one rule; where in a match its secret is; one shared set; its own tests |
//! | [`mod@print`], [`engine`], `hyperscan`, [`literals`] | one pattern for every engine; the seam; the one wrapper around the library; the engine without it |
//! | [`detect`], `simd`, [`validate`], `people`, `telephone`, `national` | byte scans for texts without a fixed part, 64 bytes at a time; checksums |
//! | [`views`], `units`, `runs`, [`scan`], `context`, `words`, `hit` | decoding and the way back; findings; what is around a match; overlaps |
//! | [`caller`], `keyed` | the caller's own token; a keyed digest of each finding |
//! | [`scope`] | which rules apply where |
//! | [`cost`], `work` | what a rule costs, and the gate against dear ones; what a message may cost |
//! | [`opaque`] | content that no rule can look into |
//! | [`split`], `opening` | secrets that come in pieces |
//! | [`mask`], [`judge`], `locate` | edits; verdicts; where in the message findings stand |
//! | [`schema`], [`structured`] | what a tool's `outputSchema` accepts; answers that it refuses once they are masked |
//!
//! Everything is sans-I/O and deterministic: the same bytes, rules and keys give the same verdict on
//! any machine. [`Judged`] is minted here and nowhere else.

mod between;
pub mod blocks;
mod caller;
mod compile;
mod context;
pub mod cost;
pub mod detect;
pub mod engine;
mod fault;
pub mod glob;
mod hit;
#[cfg(feature = "engine-hyperscan")]
pub mod hyperscan;
pub mod judge;
mod keyed;
pub mod lines;
mod lists;
pub mod literals;
mod locate;
pub mod mask;
mod national;
pub mod opaque;
mod opening;
pub mod pack;
pub mod packtest;
mod people;
pub mod policy;
pub mod print;
pub mod rules;
mod runs;
pub mod scan;
pub mod schema;
pub mod scope;
mod secret;
mod simd;
pub mod split;
pub mod structured;
mod telephone;
mod units;
pub mod validate;
pub mod views;
mod words;
mod work;

pub use caller::CallerMark;
pub use engine::EngineFault;
pub use fault::GuardFault;
pub use judge::{Judged, Judgement, Original, Outcome, Payload, Session, join, own};
pub use mask::Mask;
pub use opaque::Opaque;
pub use rules::{Category, KnownValue, Rule, RuleFault, RuleSet};
pub use scan::{Engine, Scanner};
pub use schema::OutputSchema;
pub use scope::Asked;
pub use structured::{Expected, Structured, Unfit};
pub use work::OverBudget;
