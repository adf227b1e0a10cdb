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
//! A text of which nobody can tell whether it fits counts as one that does.
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
use super::schema::{Checks, Fit, OutputSchema, Refusal};
use crate::limits::{Limits, STRUCTURED_BYTES_MAX};
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
    checks: Checks,
    /// The structured content, and where it began.
    text: BytesMut,
    start: usize,
    /// Masks in it.
    inside: Vec<Hit>,
    message: Message,
    /// The whole message and all that was found, where it may have to be edited again.
    whole: Option<(BytesMut, Vec<Hit>, Vec<Finding>)>,
}

impl Before {
    /// Its hits as they stand in the structured content alone.
    fn moved(&self, hits: impl Iterator<Item = Hit>) -> Vec<Hit> {
        let start = self.start;
        hits.map(|mut hit| {
            hit.span = hit.span.start - start..hit.span.end - start;
            hit.patch.iter_mut().flatten().for_each(|(place, _)| *place -= start);
            hit
        })
        .collect()
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
            let before = self.before(&bytes, &message, &findings, session, expected, scratch)?;
            Some((before, expected.structured))
        });
        let out = self.edit(bytes, message, findings, session, false, scratch);
        let Some((mut before, otherwise)) = before else { return out };
        let judgement = match out {
            Outcome::Pass(judgement) => judgement,
            other => return other,
        };
        let limits = session.limits;
        let Fit::Unfit(refusal) = fit(&judgement, &mut before, scratch, limits) else {
            return Outcome::Pass(judgement);
        };
        if matches!(before.checks.check(&before.text), Fit::Unfit(_)) {
            return Outcome::Pass(judgement);
        }
        if let Some((bytes, hits, findings)) = before.whole.take() {
            self.hits = hits;
            let message = before.message.clone();
            let out = self.edit(bytes, message, findings, session, true, scratch);
            if let Outcome::Pass(filled) = out
                && !matches!(fit(&filled, &mut before, scratch, limits), Fit::Unfit(_))
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
        findings: &[Finding],
        session: &Session<'_>,
        expected: &Expected<'_>,
        scratch: &mut json::Scratch,
    ) -> Option<Before> {
        let place = place(bytes, scratch, session.limits)?;
        let masks = |hit: &&Hit| hit.action > RuleAction::Alert && place.contains(&hit.span.start);
        let inside: Vec<Hit> = self.hits.iter().filter(masks).cloned().collect();
        if inside.is_empty() || place.len() > STRUCTURED_BYTES_MAX {
            return None;
        }
        let schema = (expected.schema)()?;
        let again = || (bytes.clone(), self.hits.clone(), findings.to_vec());
        Some(Before {
            checks: schema.checks(),
            schema,
            text: BytesMut::from(&bytes[place.clone()]),
            start: place.start,
            inside,
            message: message.clone(),
            whole: (session.mask == Mask::Label).then(again),
        })
    }

    /// Says by which rule a masked answer no longer fits, and what becomes of it.
    fn unfit(
        &self,
        mut judgement: Judgement,
        mut refusal: Refusal,
        mut before: Before,
        otherwise: Structured,
    ) -> Outcome {
        let rules = Arc::clone(self.rules());
        let of = |hit: &Hit| rules.all()[hit.rule].structured.unwrap_or(otherwise);
        let blocks = |hit: &&Hit| of(hit) == Structured::Block;
        let mut blocked = before.inside.iter().any(|hit| blocks(&hit));
        if blocked && before.inside.iter().any(|hit| !blocks(&hit)) {
            // What the others do is not held against those that block.
            let mut text = before.text.clone();
            let theirs = before.moved(before.inside.iter().filter(blocks).cloned());
            fill_hits(&rules, &theirs, &mut text);
            match before.checks.check(&text) {
                Fit::Unfit(theirs) => refusal = theirs,
                Fit::Fits | Fit::Unknown => blocked = false,
            }
        }
        let path = JsonPath::below(PLACE.map(Step::member), &refusal.path);
        // The one whose mask stands where the schema refuses it, where one does.
        let whose = |hit: &&Hit| blocks(hit) == blocked;
        let here = path.text(true);
        let at_fault = before.inside.iter().filter(whose).find(|hit| {
            let found = |finding: &&Finding| finding.span.start as usize == hit.span.start;
            let found = judgement.findings.iter().find(found);
            found.and_then(|found| found.path.as_ref()).is_some_and(|found| {
                found
                    .text(true)
                    .strip_prefix(&here)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        });
        let at_fault = at_fault.or_else(|| before.inside.iter().find(whose));
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
    before: &mut Before,
    scratch: &mut json::Scratch,
    limits: &Limits,
) -> Fit {
    match place(&judgement.bytes, scratch, limits) {
        Some(place) => before.checks.check(&judgement.bytes[place]),
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
