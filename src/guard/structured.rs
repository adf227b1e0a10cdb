//! Structured content that is masked still has to fit its tool's schema.
//!
//! ```text
//! edited, and the schema is known -- masked text fits --------------------------> Pass
//!                                 -- the text that came did not fit ------------> Pass: it is the server's fault
//!                                 -- labels: filled instead, it fits -----------> Pass
//!                                 -- only rules with structured = "mask" do it -> Pass, and the record says so
//!                                 -- else --------------------------------------> Blocked
//! ```
//!
//! What does not hold structured content, what is not edited there, and what nobody can tell, goes on as it is
//! without a schema. The text of an answer that says the same again is masked as ever; no client checks it.

use std::ops::Range;
use std::sync::Arc;

use bytes::BytesMut;

use super::hit::Hit;
use super::judge::{Judgement, Outcome, Session};
use super::mask::{Mask, fill_hits};
use super::scan::Scanner;
use super::schema::{Fit, OutputSchema, Refusal};
use crate::limits::Limits;
use crate::types::path::{JsonPath, Step};
use crate::types::{Finding, RuleAction};
use crate::wire::json;
use crate::wire::mcp::Message;

/// Where the structured content of an answer stands.
const PLACE: [&str; 2] = ["result", "structuredContent"];

/// What becomes of an answer whose structured content no longer fits its schema once it is masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Structured {
    /// It is blocked, and the caller is told why.
    #[default]
    Block,
    /// It goes on masked, and the caller's own check may refuse it.
    Mask,
}

impl Structured {
    /// The words of rule files and of the configuration.
    pub const WORDS: &'static [(&'static str, Structured)] =
        &[("block", Structured::Block), ("mask", Structured::Mask)];

    /// The word used in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Structured::Block => "block",
            Structured::Mask => "mask",
        }
    }

    /// The one called `name`.
    pub fn named(name: &str) -> Option<Structured> {
        Structured::WORDS.iter().find(|(word, _)| *word == name).map(|(_, found)| *found)
    }
}

/// What the reader of an answer expects of it.
pub struct Expected<'a> {
    /// The schema of the tool that answers, where it is known; asked only when structured content is masked.
    pub schema: &'a dyn Fn() -> Option<Arc<OutputSchema>>,
    /// What becomes of an answer that does not fit it, where the rule does not say.
    pub structured: Structured,
}

impl std::fmt::Debug for Expected<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Expected({})", self.structured.as_str())
    }
}

/// Structured content that its schema accepted as it came, and refuses as it is masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The rule whose mask it is.
    pub rule: Arc<str>,
    /// Where in the message.
    pub path: JsonPath,
    /// The keyword of the schema that refuses it.
    pub keyword: &'static str,
    /// The digest of the schema ([`OutputSchema::digest`]).
    pub schema: [u8; 16],
}

/// What is needed to look at an answer again: as it came, and what was found in it.
struct Before {
    schema: Arc<OutputSchema>,
    bytes: BytesMut,
    place: Range<usize>,
    message: Message,
    hits: Vec<Hit>,
}

impl Before {
    fn text(&self) -> &[u8] {
        &self.bytes[self.place.clone()]
    }

    /// Masks in the structured content.
    fn inside(&self) -> impl Iterator<Item = &Hit> {
        let inside =
            |hit: &&Hit| hit.action > RuleAction::Alert && self.place.contains(&hit.span.start);
        self.hits.iter().filter(inside)
    }
}

/// Where the structured content stands.
pub(super) fn place(
    bytes: &[u8],
    scratch: &mut json::Scratch,
    limits: &Limits,
) -> Option<Range<usize>> {
    json::member(bytes, &PLACE, limits, scratch).map(|span| span.range())
}

impl Scanner {
    /// Masks what was found, in a way that the tool's schema accepts where there is one.
    pub(super) fn edit_as_expected(
        &mut self,
        bytes: BytesMut,
        message: Message,
        findings: Vec<Finding>,
        session: &Session<'_>,
        expected: Option<&Expected<'_>>,
        scratch: &mut json::Scratch,
    ) -> Outcome {
        let before = expected.and_then(|expected| {
            let before = self.before(&bytes, &message, session, expected, scratch)?;
            Some((before, expected.structured))
        });
        let Some((before, otherwise)) = before else {
            return self.edit(bytes, message, findings, session, false, scratch);
        };
        let again = (session.mask == Mask::Label).then(|| findings.clone());
        let out = self.edit(bytes, message, findings, session, false, scratch);
        let limits = session.limits;
        let (judgement, refusal) = match out {
            Outcome::Pass(judgement) => match fit(&judgement, &before, scratch, limits) {
                Fit::Unfit(refusal) => (judgement, refusal),
                Fit::Fits | Fit::Unknown => return Outcome::Pass(judgement),
            },
            other => return other,
        };
        if before.schema.check(before.text()) != Fit::Fits {
            return Outcome::Pass(judgement);
        }
        if let Some(findings) = again {
            self.hits = before.hits.clone();
            let (bytes, message) = (before.bytes.clone(), before.message.clone());
            let out = self.edit(bytes, message, findings, session, true, scratch);
            if let Outcome::Pass(filled) = out
                && fit(&filled, &before, scratch, limits) == Fit::Fits
            {
                return Outcome::Pass(filled);
            }
        }
        self.unfit(judgement, refusal, before, otherwise)
    }

    /// What is kept of an answer whose structured content is about to be masked; `None` where no schema
    /// is known, or no mask stands in it.
    fn before(
        &self,
        bytes: &BytesMut,
        message: &Message,
        session: &Session<'_>,
        expected: &Expected<'_>,
        scratch: &mut json::Scratch,
    ) -> Option<Before> {
        let place = place(bytes, scratch, session.limits)?;
        let masks = |hit: &Hit| hit.action > RuleAction::Alert && place.contains(&hit.span.start);
        if !self.hits.iter().any(masks) {
            return None;
        }
        let schema = (expected.schema)()?;
        let (bytes, hits) = (bytes.clone(), self.hits.clone());
        Some(Before { schema, bytes, place, message: message.clone(), hits })
    }

    /// Says by which rule a masked answer no longer fits, and what becomes of it.
    fn unfit(
        &self,
        mut judgement: Judgement,
        mut refusal: Refusal,
        before: Before,
        otherwise: Structured,
    ) -> Outcome {
        let rules = Arc::clone(self.rules());
        let of = |hit: &Hit| rules.all()[hit.rule].structured.unwrap_or(otherwise);
        let blocks = |hit: &&Hit| of(hit) == Structured::Block;
        let mut blocking: Vec<Hit> = before.inside().filter(blocks).cloned().collect();
        if before.inside().any(|hit| !blocks(&hit)) && !blocking.is_empty() {
            // What the others do is not held against those that block.
            let mut bytes = before.bytes.clone();
            fill_hits(&rules, &blocking, &mut bytes);
            match before.schema.check(&bytes[before.place.clone()]) {
                Fit::Fits => blocking.clear(),
                Fit::Unfit(theirs) => refusal = theirs,
                Fit::Unknown => {}
            }
        }
        let path = JsonPath::below(PLACE.map(Step::member), &refusal.path);
        let blocked = !blocking.is_empty();
        // The one whose mask stands where the schema refuses it, where one does.
        let whose = |hit: &&Hit| blocks(hit) == blocked;
        let here = path.text(true);
        let at_fault = before.inside().filter(whose).find(|hit| {
            let found = |finding: &&Finding| finding.span.start as usize == hit.span.start;
            let found = judgement.findings.iter().find(found);
            found.and_then(|found| found.path.as_ref()).is_some_and(|found| {
                found
                    .text(true)
                    .strip_prefix(&here)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        });
        let at_fault = at_fault.or_else(|| before.inside().find(whose));
        let rule = at_fault.map_or_else(|| "".into(), |hit| Arc::clone(&rules.all()[hit.rule].id));
        let schema = before.schema.digest();
        let unfit = Some(Box::new(Unfit {
            rule: Arc::clone(&rule),
            path,
            keyword: refusal.keyword,
            schema,
        }));
        if !blocked {
            judgement.unfit = unfit;
            return Outcome::Pass(judgement);
        }
        let Judgement { bytes, findings, original, .. } = judgement;
        let (masked, message) = (bytes.into_inner(), before.message);
        Outcome::Blocked { rule, findings, masked, original, message, unfit }
    }
}

/// Whether the structured content of a masked answer fits.
fn fit(
    judgement: &Judgement,
    before: &Before,
    scratch: &mut json::Scratch,
    limits: &Limits,
) -> Fit {
    match place(&judgement.bytes, scratch, limits) {
        Some(place) => before.schema.check(&judgement.bytes[place]),
        None => Fit::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::RuleSet;

    #[test]
    fn a_rule_says_what_becomes_of_what_it_makes_unfit() {
        let rule = |id: &str, more: &str| {
            format!(
                "[[rule]]\nid = \"{id}\"\ntitle = \"t\"\ncategory = \"custom\"\npattern = 'x{{3}}'\n{more}\n"
            )
        };
        let (one, two) = (rule("one", ""), rule("two", "structured = \"mask\""));
        let text = format!(
            "schema = 1\n{one}{two}[[override]]\nrule = \"email\"\nstructured = \"block\"\n"
        );
        let set = RuleSet::compile(&[("own.toml".into(), text)], true, &[]).unwrap();
        let says = |id: &str| set.rule(id).unwrap().structured;
        assert_eq!((says("one"), says("two")), (None, Some(Structured::Mask)));
        assert_eq!((says("email"), says("github-token")), (Some(Structured::Block), None));
        let wrong = format!("schema = 1\n{}", rule("one", "structured = \"drop\""));
        let faults = RuleSet::compile(&[("own.toml".into(), wrong)], false, &[]).unwrap_err();
        let said: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["own.toml:7: rule one: structured: `drop`; allowed: block, mask"]);
    }
}
