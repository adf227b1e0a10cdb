//! The built-in pack keeps its own promises, on both engines.

use std::sync::Arc;

use stenograph::guard::packtest::check;
use stenograph::guard::rules::{Category, Matcher};
use stenograph::guard::{Engine, RuleSet};

fn builtin() -> Arc<RuleSet> {
    RuleSet::builtin().unwrap_or_else(|faults| {
        panic!("{}", faults.iter().map(|fault| format!("{fault}\n")).collect::<String>())
    })
}

// Mutant: a repeat in print.rs printed with its maximum only.
#[test]
fn every_rule_matches_what_it_must_and_nothing_else_on_both_engines() {
    for engine in [Engine::Hyperscan, Engine::Expressions] {
        let faults = check(&builtin(), engine);
        assert!(
            faults.is_empty(),
            "{}",
            faults.iter().map(|fault| format!("{fault}\n")).collect::<String>()
        );
    }
}

#[test]
fn the_pack_is_as_large_as_it_says_and_every_rule_is_tested() {
    let set = builtin();
    let count = |category| set.rules().iter().filter(|rule| rule.category == category).count();
    assert!(count(Category::Credential) >= 60 && count(Category::Pii) >= 8);
    for rule in set.rules() {
        assert!(rule.tests_match.len() >= 2 && rule.tests_no_match.len() >= 2, "{}", rule.id);
        assert!(
            matches!(rule.matcher, Matcher::Pattern { .. }) || rule.category == Category::Pii,
            "{}",
            rule.id
        );
    }
}

#[test]
fn every_fault_of_every_file_is_reported_with_its_line() {
    let bad = r#"schema = 1
colour = "blue"
[[rule]]
id = "Bad Id"
title = "t"
category = "secret"
pattern = 'a+'
[[rule]]
id = "open-end"
title = "t"
category = "custom"
pattern = '"([^ ]{3,9})"'
acton = "mask"
[[rule]]
id = "lookaround"
title = "t"
category = "custom"
pattern = '(?=a)b'
action = "shred"
validators = ["crc"]
[[override]]
rule = "no-such-rule"
action = "off"
[[allow]]
rule = "github-token"
pattern = 'x'
"#;
    let faults = RuleSet::compile(&[("mine.toml".into(), bad.into())], true, &[]).unwrap_err();
    let text: Vec<String> = faults.iter().map(ToString::to_string).collect();
    for expected in [
        "mine.toml:2: unknown key `colour` in the file; allowed: schema, pack, rule, override, allow",
        "mine.toml:4: rule Bad Id: id: `Bad Id`; allowed: 1 to 40 of a-z, 0-9 and '-'",
        "mine.toml:6: rule Bad Id: category: `secret`; allowed: credential, pii, custom",
        "mine.toml:4: rule Bad Id: pattern: a repeat without an upper bound; allowed: {m,n}",
        "mine.toml:9: rule open-end: the secret can hold a double quote; allowed: a capture group around a part without it",
        "mine.toml:13: rule open-end: unknown key `acton` in [[rule]]",
        "mine.toml:15: rule lookaround: pattern: error: look-around",
        "mine.toml:19: rule lookaround: action: `shred`; allowed: mask, block, alert, off",
        "mine.toml:20: rule lookaround: validators: `crc`; allowed: card",
        "mine.toml:22: rule no-such-rule: no such rule",
        "mine.toml:25: rule github-token: allow for a credential with a fixed form",
    ] {
        assert!(
            text.iter().any(|line| line.starts_with(expected)),
            "{expected}\nnot in\n{}",
            text.join("\n")
        );
    }
    // A syntax error is one more fault, not the end.
    let broken = "schema = 2\n[[rule]\nid = 1\n";
    assert!(
        RuleSet::compile(&[("broken.toml".into(), broken.into())], false, &[]).unwrap_err().len()
            >= 2
    );
}

#[test]
fn an_operator_changes_rules_without_copying_them() {
    let own = r#"schema = 1
[[override]]
rule = "email"
action = "alert"
[[override]]
rule = "ip-address"
enabled = false
[[allow]]
rule = "generic-assignment"
pattern = '^fixture-'
"#;
    let set = RuleSet::compile(&[("own.toml".into(), own.into())], true, &[]).unwrap();
    assert_eq!(set.rule("email").unwrap().actions.request.unwrap().as_str(), "alert");
    assert!(set.rule("ip-address").is_none());
    assert_ne!(set.source_digest(), builtin().source_digest());
}
