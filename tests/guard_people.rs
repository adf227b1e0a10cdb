//! Personal data beside what looks like it: numbers with a sign, tables, fractions, references.

use stenograph::types::{Direction, RuleAction};

#[path = "guard_support/mod.rs"]
mod support;
#[path = "guard_support/text.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod text;

use support::Judge;
use text::Seed;

/// What is masked or blocked in `text`, with its rule.
fn masked(judge: &mut Judge, text: &str) -> Vec<(String, String)> {
    found(judge, text, |action| action != RuleAction::Alert)
}

/// What is found in `text`, with its rule.
fn found(judge: &mut Judge, text: &str, counts: fn(RuleAction) -> bool) -> Vec<(String, String)> {
    let findings = judge.scan(text.as_bytes(), Direction::Response);
    let counted = findings.into_iter().filter(|finding| counts(finding.action));
    counted.map(|at| (at.rule.to_string(), text[at.span.range()].to_owned())).collect()
}

/// A decimal with `places` digits behind the dot, below `below`, with its sign.
fn decimal(seed: &mut Seed, below: u64, places: usize) -> String {
    let sign = ['+', '-'][seed.below(2)];
    format!("{sign}{}.{}", seed.number(0, below), seed.of("0123456789", places))
}

// `%+.8f` was masked in three lines of four.
#[test]
fn numbers_with_a_sign_are_not_taken_for_telephone_numbers() {
    let kinds: [fn(&mut Seed) -> String; 9] = [
        |seed| decimal(seed, 1000, 8),
        |seed| decimal(seed, 1000, 6),
        |seed| decimal(seed, 10, 10),
        |seed| format!("{} {}", decimal(seed, 90, 6), decimal(seed, 180, 6)),
        |seed| {
            format!(
                "+{}.{} {}",
                seed.number(0, 90),
                seed.of("0123456789", 4),
                decimal(seed, 180, 4)
            )
        },
        |seed| {
            let (north, east) = (seed.number(0, 90), seed.number(0, 180));
            format!("+{north:02}{:02}-{east:03}{:02}", seed.number(0, 60), seed.number(0, 60))
        },
        |seed| format!("RSS delta +{}", seed.number(1, 1 << 31)),
        |seed| format!("diff +{} -{}", seed.number(1, 100), seed.number(1, 100_000_000)),
        |seed| {
            let (month, day, hour) = (seed.number(1, 13), seed.number(1, 29), seed.number(0, 24));
            format!("+2026{month:02}{day:02}-{hour:02}{}", seed.of("012345", 4))
        },
    ];
    let mut judge = Judge::builtin();
    let mut seed = Seed(0x5161);
    for (kind, text) in kinds.iter().enumerate() {
        let mut wrong = vec![];
        for _ in 0..100 {
            let lines = (0..100).map(|line| {
                let before = ["", "loss ", "x = ", "{\"v\": \"", "(", "a, "][line % 6];
                format!("{before}{}\n", text(&mut seed))
            });
            wrong.extend(masked(&mut judge, &lines.collect::<String>()));
        }
        assert!(wrong.len() <= 1, "{kind}: {wrong:?}");
    }
    for text in ["RSS delta +4915112345678", "+3217-06446\tAmerica/Havana", "+203.0.113.100 added"]
    {
        assert_eq!(masked(&mut judge, text), [], "{text}");
    }
}

// Every separator of E.123 and RFC 5733.
#[test]
fn telephone_numbers_with_their_usual_separators_are_found() {
    let mut judge = Judge::builtin();
    for number in [
        "+14155552671",
        "+1 (415) 555-2671",
        "+1.415.555.2671",
        "+1-415-555-2671",
        "+44 20 7946 0958",
        "+44 (0)20 7946 0958",
        "+49 30 12345678",
        "+4915112345678",
        "+33 6 12 34 56 78",
        "+33.6.12.34.56.78",
        "+91 98765 43210",
        "+55 11 91234-5678",
        "+34612345678",
    ] {
        for (before, after) in
            [("", ""), ("reach ", " today"), ("a,", ",b"), ("<td>", "</td>"), ("loss ", "")]
        {
            let seen = masked(&mut judge, &format!("{before}{number}{after}"));
            let bare = number.bytes().skip(1).all(|byte| byte.is_ascii_digit());
            assert!(seen.len() == 1 || bare && before == "loss ", "{before}{number}: {seen:?}");
        }
    }
    assert_eq!(masked(&mut judge, "Registrant Phone: +1.4155552671").len(), 1);
}
