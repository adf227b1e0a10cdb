//! Values that are known in full: the operator's, the credentials of upstreams, and the caller's own token.
//! Found exactly, in every hiding place, without any rule of the pack.

use std::sync::Arc;

use serde_json::json;
use stenograph::guard::{CallerMark, Engine, Mask, Outcome, RuleSet};
use stenograph::types::{Direction, RuleAction};

#[path = "guard_support/mod.rs"]
mod support;

#[path = "guard_support/hiding.rs"]
mod hiding;

use hiding::{Hiding, answer, judge, reveal};
use support::Judge;

const TOKEN: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6Im9uZSJ9.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUuY29tIiwic3ViIjoiYWxpY2UiLCJhdWQiOiJtY3AifQ.Hq1cVx0Zr2p9aPz7m3yWk5uTn8bJd4fGs6oLe_iQ-wXKvRtYhNjM0BgCUDSEAFx1";
const VALUE: &str = "correct-horse/battery+staple";

/// A rule that is never met, so that there is a database that says so.
const RULES: &str = "schema = 1\n[pack]\nid = \"none\"\nversion = \"1\"\ntitle = \"None\"\n[[rule]]\n\
id = \"none\"\ntitle = \"None\"\ncategory = \"custom\"\npattern = 'NONE-[0-9]{9}'\n";

fn scanner() -> Judge {
    let files = [("none".to_owned(), RULES.to_owned())];
    let known = [("vault".to_owned(), VALUE.as_bytes().to_vec())];
    let rules = RuleSet::compile(&files, false, &known).expect("compiles");
    let mut judge = Judge::new(rules, Engine::Hyperscan);
    judge.scanner.look_for(CallerMark::of(TOKEN.as_bytes()).map(Arc::new));
    judge
}

// Mutants: the mark is searched in the first view alone; `look_for` forgets.
#[test]
fn known_values_and_the_callers_token_are_masked_in_every_hiding_place_both_ways() {
    let mut guard = scanner();
    for (value, rule) in [(TOKEN, "secret:caller-token"), (VALUE, "secret:vault")] {
        for hiding in Hiding::all() {
            for mask in [Mask::Fill, Mask::Label] {
                let original = answer(&format!("it was {value}\nindeed"), hiding);
                for direction in [Direction::Response, Direction::Request] {
                    let place = format!("{rule} {hiding:?} {mask:?} {direction:?}");
                    let outcome = judge(&mut guard, &original, direction, mask);
                    let Outcome::Pass(judgement) = outcome else { panic!("{place}: {outcome:?}") };
                    assert!(judgement.edited, "{place}");
                    assert!(judgement.findings.iter().all(|it| &*it.rule == rule), "{place}");
                    let seen = String::from_utf8(judgement.bytes.to_vec()).expect("text");
                    let shown = reveal(&seen, hiding);
                    assert!(!shown.contains(value), "{place}: {shown}");
                    assert!(
                        shown.contains("it was") && shown.contains("indeed"),
                        "{place}: {shown}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_long_token_with_one_unit_at_its_begin_is_seen_whole() {
    let (head, rest) = TOKEN.split_once('.').expect("three parts");
    let token = format!("{head}.{}{rest}", "YWxpY2VAbWFpbC5leGFtcGxl".repeat(60));
    let mut guard = scanner();
    guard.scanner.look_for(CallerMark::of(token.as_bytes()).map(Arc::new));
    for text in [format!("%65{}", &token[1..]), format!("{}&#49;", &token[..token.len() - 1])] {
        let found =
            guard.scan(json!({ "token": text }).to_string().as_bytes(), Direction::Response);
        assert_eq!(found.len(), 1, "{text}");
        assert_eq!(found[0].level, 2);
    }
}

// No rule knows such a token, and its unit stands further from its end than any rule sees. Mutant: the end of a token
// that stands somewhere is no reason to look deeper.
#[test]
fn a_token_of_no_known_kind_with_one_unit_far_from_its_end_is_seen_whole() {
    let token: String = (0..120).map(|n| format!("qz{n:03}wx")).collect();
    let mut guard = scanner();
    guard.scanner.look_for(CallerMark::of(token.as_bytes()).map(Arc::new));
    let filler = "lorem ipsum ".repeat(90);
    for text in
        [format!("%71{}", &token[1..]), format!("{filler}{}%71{}", &token[..7], &token[8..])]
    {
        let found =
            guard.scan(json!({ "token": text }).to_string().as_bytes(), Direction::Response);
        assert_eq!(found.len(), 1, "{text}");
    }
}

// Mutant: of two rules on the same bytes the one with the lower number.
#[test]
fn the_record_says_that_it_was_the_callers_own_token() {
    let mut guard = Judge::builtin();
    let text = json!({"jsonrpc": "2.0", "id": 1, "result": {"echo": TOKEN}}).to_string();
    let named = |guard: &mut Judge| -> Vec<String> {
        let found = guard.scan(text.as_bytes(), Direction::Response);
        found.iter().map(|finding| finding.rule.to_string()).collect()
    };
    assert_eq!(named(&mut guard), ["jwt"]);
    guard.scanner.look_for(CallerMark::of(TOKEN.as_bytes()).map(Arc::new));
    assert_eq!(named(&mut guard), ["secret:caller-token"]);
    guard.scanner.look_for(None);
    assert_eq!(named(&mut guard), ["jwt"]);
}

#[test]
fn what_is_never_edited_blocks() {
    let mut guard = scanner();
    let text = json!({"jsonrpc": "2.0", "id": TOKEN, "method": "ping"}).to_string();
    let outcome = judge(&mut guard, &text, Direction::Request, Mask::Fill);
    let Outcome::Blocked { rule, findings, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!((&*rule, findings[0].action), ("secret:caller-token", RuleAction::Block));
}
