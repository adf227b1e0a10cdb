//! What must not be masked, and what the two engines must agree on.

use std::time::{Duration, Instant};

use stenograph::guard::Engine;
use stenograph::types::{Direction, RuleAction};

#[path = "guard_support/mod.rs"]
mod support;
#[path = "guard_support/text.rs"]
mod text;

use support::{Judge, builtin};
use text::{Seed, line, lines, message, uuid};

#[test]
fn ordinary_messages_are_not_masked() {
    let mut judge = Judge::builtin();
    let mut seed = Seed(0x5eed);
    let mut wrong = vec![];
    let messages = 4000;
    for _ in 0..messages {
        let bytes = [200, 1000, 3000][seed.below(3)];
        let message = message(&mut seed, bytes);
        for direction in [Direction::Response, Direction::Request] {
            for finding in judge.scan(message.as_bytes(), direction) {
                if finding.action != RuleAction::Alert {
                    wrong.push(format!("{} {:?}", finding.rule, &message[finding.span.range()]));
                }
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{} of {messages} messages:\n{}", wrong.len(), wrong.join("\n"));
}

// Mutant: a repeat in print.rs printed with its maximum only.
#[test]
fn both_engines_find_the_same() {
    let rules = builtin();
    let mut fast = Judge::new(rules.clone(), Engine::Hyperscan);
    let mut plain = Judge::new(rules.clone(), Engine::Expressions);
    let positives: Vec<&String> = rules.rules().iter().flat_map(|rule| &rule.tests_match).collect();
    let negatives: Vec<&String> =
        rules.rules().iter().flat_map(|rule| &rule.tests_no_match).collect();
    let mut seed = Seed(0xd1ff);
    let until = Instant::now() + Duration::from_secs(5);
    let (mut rounds, mut agreed) = (0, 0);
    while Instant::now() < until || rounds < 300 {
        let before_bytes = seed.below(200);
        let before = lines(&mut seed, before_bytes);
        let from = if seed.below(6) == 0 { &negatives } else { &positives };
        let mut value = from[seed.below(from.len())].clone().into_bytes();
        if seed.below(3) == 0 {
            let at = seed.below(value.len());
            value[at] = b"aZ09-_. \n\"\\:/"[seed.below(13)];
        }
        let glue =
            ["", " ", "\n", "\"", "'", "=", ": ", "(", "\t", "-", "x", "\u{e9}"][seed.below(12)];
        let end = [" ", "\n", "\"", "", ".", ",", ")", "x", "\u{e9}"][seed.below(9)];
        let mut text = before.into_bytes();
        text.extend_from_slice(glue.as_bytes());
        text.extend_from_slice(&value);
        text.extend_from_slice(end.as_bytes());
        text.extend_from_slice(line(&mut seed).as_bytes());
        if seed.below(3) == 0
            && let Ok(inner) = std::str::from_utf8(&text)
        {
            text = serde_json::json!({"a": inner, "b": uuid(&mut seed)}).to_string().into_bytes();
        }
        let direction = [Direction::Request, Direction::Response][seed.below(2)];
        let (found, expected) = (fast.scan(&text, direction), plain.scan(&text, direction));
        assert_eq!(found, expected, "{}", String::from_utf8_lossy(&text));
        rounds += 1;
        agreed += found.len();
    }
    assert!(agreed > rounds / 2, "{agreed} findings in {rounds} texts");
}
