//! Runs the tests that a rule carries with it, on one engine.
//!
//! Every text under `match` must be matched by that rule, every text under `no_match` must not; other
//! rules may match as they like. Directions in which a rule is off are not asked.

use std::sync::Arc;

use super::hit::Hit;
use super::rules::{RuleFault, RuleSet};
use super::scan::{Engine, Kind, Scanner};
use crate::limits::Limits;
use crate::types::{Direction, RuleAction};
use crate::wire::json;

/// Every test of every rule in `rules` that fails on `engine`.
pub fn check(rules: &Arc<RuleSet>, engine: Engine) -> Vec<RuleFault> {
    let limits = Limits::default();
    let mut scratch = json::Scratch::new();
    let mut scanner = Scanner::with_engine(Arc::clone(rules), [0; 32], &limits, engine);
    let mut faults = vec![];
    for (number, rule) in rules.rules().iter().enumerate() {
        let direction =
            if rule.actions.response.is_some() { Direction::Response } else { Direction::Request };
        if rule.actions.of(direction).is_none() {
            continue;
        }
        for (texts, wanted) in [(&rule.tests_match, true), (&rule.tests_no_match, false)] {
            for text in texts {
                scanner.unresolved = true;
                let found = scanner
                    .find(text.as_bytes(), Kind::Text, direction, None, &mut scratch, &limits)
                    .map(|()| {
                        let told = |hit: &Hit| hit.rule == number && hit.action > RuleAction::Allow;
                        scanner.hits.iter().any(told)
                    });
                scanner.unresolved = false;
                if found != Ok(wanted) {
                    let word =
                        if wanted { "must match and does not" } else { "must not match and does" };
                    faults.push(RuleFault {
                        file: rule.file.clone(),
                        line: rule.line,
                        rule: Some(rule.id.to_string()),
                        what: format!("test: {text:?} {word} ({engine:?})"),
                    });
                }
            }
        }
    }
    faults
}
