//! Views, windows and bounds of the scanner, against every rule of the pack; what it costs is measured in `benches/`.

use proptest::prelude::*;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::search::REJECTED_MAX;
use super::*;

/// One character in another way of writing it.
fn unit(way: u8, character: char) -> String {
    match (way % 4, character.is_ascii()) {
        (0, true) => format!("%{:02X}", character as u8),
        (1, true) => format!("\\u{:04x}", character as u32),
        (2, _) => format!("&#{};", character as u32),
        _ => format!("{character}\u{200b}"),
    }
}

/// A text that `hir` matches, with repeats of `repeats` of their longest.
fn long_match(hir: &Hir, repeats: f64, seed: &mut u64, out: &mut Vec<u8>) {
    let mut below = |most: usize| {
        *seed = seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (*seed >> 33) as usize % most.max(1)
    };
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => out.extend_from_slice(&literal.0),
        HirKind::Class(Class::Bytes(class)) => {
            let has = |byte: &u8| {
                class.ranges().iter().any(|range| (range.start()..=range.end()).contains(byte))
            };
            let letters: Vec<u8> = (b'0'..=b'9')
                .chain(b'A'..=b'Z')
                .chain(b'a'..=b'z')
                .chain(*b"-_=/ :.,;@'\n")
                .filter(has)
                .collect();
            let first = class.ranges().first().map_or(b'?', |range| range.start());
            out.push(letters.get(below(letters.len())).copied().unwrap_or(first));
        }
        HirKind::Class(Class::Unicode(_)) => unreachable!("patterns are of bytes"),
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(repetition.min).min(2000);
            let count = (f64::from(most) * repeats).round() as u32;
            for _ in 0..count.max(repetition.min) {
                long_match(&repetition.sub, repeats, seed, out);
            }
        }
        HirKind::Capture(capture) => long_match(&capture.sub, repeats, seed, out),
        HirKind::Concat(parts) => {
            parts.iter().for_each(|part| long_match(part, repeats, seed, out));
        }
        HirKind::Alternation(parts) => {
            let which = below(parts.len());
            long_match(&parts[which], repeats, seed, out);
        }
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, text).expect("memory");
    encoder.finish().expect("memory")
}

/// In letters, as the `way` says; each three ways of writing them.
fn in_letters(way: usize, text: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    match way {
        0 => base64(text).into_bytes(),
        1 => text.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect(),
        2 => base64(&gzip(text)).into_bytes(),
        _ => {
            let whole = base64(text);
            let lines: Vec<&[u8]> = whole.as_bytes().chunks(76).collect();
            lines.join(&b"\r\n"[..])
        }
    }
}

// A unit in a run cut what was looked at in the run, so that gzip broke off and base64 was read from the middle.
// Mutants: pieces do not begin where their run does; nor end there.
#[test]
fn a_unit_anywhere_in_a_long_run_hides_nothing_of_it() {
    let rules = RuleSet::builtin().expect("the built-in pack compiles");
    let limits = Limits::default();
    let mut memory = json::Scratch::new();
    let mut scanner = Scanner::new(Arc::clone(&rules), [0; 32], &limits);
    let noise: String = (0..6000u32)
        .map(|at| char::from(b'a' + (at.wrapping_mul(2_654_435_761) >> 24) as u8 % 26))
        .collect();
    let key = "ghp_b9Le03MtXyZ7aQ2wE4rT6uI8oP1sD3fG5hJ0";
    let mut missed = vec![];
    for ways in [&[0][..], &[1], &[2], &[3], &[1, 1], &[0, 0], &[1, 1, 1], &[2, 0], &[0, 2]] {
        let long = ways.len() < 2 || ways.contains(&2);
        let mut text = match long {
            true => format!("{} key {key} {}", &noise[..3000], &noise[3000..]).into_bytes(),
            false => format!("{} key {key} ", &noise[..60]).into_bytes(),
        };
        for way in ways {
            text = in_letters(*way, &text);
        }
        let text = String::from_utf8(text).expect("letters");
        for part in 1..24 {
            let at = text.len() * part / 24;
            let letter = char::from(text.as_bytes()[at]);
            for unit in [
                format!("\u{200b}{letter}"),
                format!("&shy;{letter}"),
                format!("%{:02X}", letter as u8),
            ] {
                let coded = format!("a {}{unit}{} b", &text[..at], &text[at + 1..]);
                let raw = serde_json::to_string(&coded).expect("text");
                let found =
                    scanner.scan_json(raw.as_bytes(), Direction::Response, &mut memory, &limits);
                if !found.is_ok_and(|found| found.iter().any(|one| &*one.rule == "github-token")) {
                    missed.push((ways, part, unit));
                }
            }
        }
    }
    assert!(missed.is_empty(), "{} missed: {:?}", missed.len(), &missed[..missed.len().min(40)]);
}

/// A scanner of `rules` alone.
fn own(rules: &str) -> Scanner {
    let rules = format!("schema = 1\n{rules}");
    let rules = RuleSet::compile(&[("own.toml".into(), rules)], false, &[]).expect("compiles");
    Scanner::new(rules, [0; 32], &Limits::default())
}

fn ids_of(scanner: &mut Scanner, text: &str) -> Vec<(String, u8)> {
    let raw = serde_json::to_string(text).expect("text");
    let (mut memory, limits) = (json::Scratch::new(), Limits::default());
    let found = scanner.scan_json(raw.as_bytes(), Direction::Response, &mut memory, &limits);
    found.expect("within bounds").iter().map(|one| (one.rule.to_string(), one.level)).collect()
}

// Mutants: a match may go over the end of its view; one that does ends the search.
#[test]
fn no_match_goes_over_from_one_view_into_the_next() {
    use base64::Engine as _;
    let coded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let mut scanner = own(
        "[[rule]]\nid = \"own-pair\"\ntitle = \"x\"\ncategory = \"custom\"\npattern = 'begin-[0-9]{4}(?:[\\x00-!#-\\[\\]-~]{0,200}end-[0-9]{4})?'\ntests.match = [\"begin-1234\"]\ntests.no_match = [\"begin\"]\n",
    );
    let text = format!(
        "{} , {} , {}",
        coded("say begin-1234 now"),
        coded("say end-1234 now"),
        coded("say begin-5678 now")
    );
    assert_eq!(ids_of(&mut scanner, &text), vec![("own-pair".to_owned(), 2); 2]);
    let whole = coded("say begin-1234 now, then end-1234 too");
    assert_eq!(ids_of(&mut scanner, &whole), vec![("own-pair".to_owned(), 2)]);
}

// Mutants: no rule asks for ends; only the end of what is searched in one go counts.
#[test]
fn a_rule_that_asks_for_the_end_of_a_text_has_it_in_each_view() {
    use base64::Engine as _;
    let coded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let mut scanner = own(
        "[[rule]]\nid = \"own-last\"\ntitle = \"x\"\ncategory = \"custom\"\npattern = 'the last word\\z'\ntests.match = [\"the last word\"]\ntests.no_match = [\"the last words\"]\n",
    );
    let text = format!("{} , {}", coded("it is the last word"), coded("it is nothing at all"));
    assert_eq!(ids_of(&mut scanner, &text), vec![("own-last".to_owned(), 2)]);
    let text = format!("{} , {}", coded("it is the last word, or"), coded("it is nothing at all"));
    assert_eq!(ids_of(&mut scanner, &text), vec![]);
}

#[test]
fn nine_thousand_encoded_ids_and_an_emoji_are_no_reason_to_refuse() {
    let ids: String = (0..9000).map(|id| format!("/a/YWJjZGVmZ2hpamts{id} ")).collect();
    let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";
    let rules = RuleSet::builtin().expect("the built-in pack compiles");
    let mut scanner = Scanner::new(rules, [0; 32], &Limits::default());
    let found = ids_of(&mut scanner, &format!("{ids}\u{2764}\u{fe0f} {token}"));
    assert_eq!(found, vec![("jwt".to_owned(), 1)]);
}

#[test]
fn near_matches_at_the_bound_pass_and_one_more_is_refused() {
    let mut scanner = own(
        "[[rule]]\nid = \"own-mixed\"\ntitle = \"x\"\ncategory = \"custom\"\npattern = 'key-([0-9]{4})'\nmin_entropy = 1.5\ntests.match = [\"key-1234\"]\ntests.no_match = [\"key-1111\"]\n",
    );
    let (mut memory, limits) = (json::Scratch::new(), Limits::default());
    let mut scan = |near: usize| {
        let text = "key-1111 ".repeat(near) + &"key-1234 ".repeat(9);
        let bound = REJECTED_MAX + text.len() / 64;
        let found = scanner.scan(text.as_bytes(), Direction::Response, &mut memory, &limits);
        (near <= bound, found.map(|found| found.len()))
    };
    let near = (0..).find(|near| *near > REJECTED_MAX + (near * 9 + 81) / 64).expect("one");
    assert_eq!(scan(near - 1), (true, Ok(9)));
    assert_eq!(scan(near), (false, Err(GuardFault::TooManyCandidates)));
}

#[test]
fn a_rule_of_groups_that_asks_for_no_card_finds_all_of_them() {
    let mut scanner = own(
        "[[rule]]\nid = \"own-groups\"\ntitle = \"x\"\ncategory = \"custom\"\ndetector = \"card\"\npattern = '([0-9]{4} [0-9]{4} [0-9]{4} [0-9]{4})'\ntests.match = [\"1234 5678 1234 5678\"]\ntests.no_match = [\"1234\"]\n",
    );
    let found = ids_of(&mut scanner, "the house card 1234 5678 1234 5679 is lost");
    assert_eq!(found, vec![("own-groups".to_owned(), 1)]);
}

// Mutant: the secret is a run of its letters though what stands beside it can hold them.
#[test]
fn the_secret_of_every_rule_stands_where_its_expression_says() {
    let rules = RuleSet::builtin().expect("the built-in pack compiles");
    let (mut counted, mut seen) = (0, 0);
    for (number, rule) in rules.rules().iter().enumerate() {
        let (Some(secret), Some(regex)) = (&rule.secret, rule.matcher.regex()) else {
            continue;
        };
        counted += usize::from(regex.captures_len() > 1);
        let hir = crate::guard::compile::parse(&rule.pattern).expect("it compiled");
        let mut texts: Vec<Vec<u8>> =
            rule.tests_match.iter().map(|text| text.clone().into_bytes()).collect();
        for seed in 0..60u64 {
            let mut made = b"_-:a@\"._= "[seed as usize % 10..][..1].to_vec();
            let repeats = seed as f64 / 60.0;
            long_match(&hir, repeats, &mut (seed * 7919 + number as u64), &mut made);
            made.extend_from_slice(&b"_-_ :@-x\"_="[seed as usize % 9..][..2]);
            texts.push(made);
        }
        for text in texts {
            for groups in regex.captures_iter(&text) {
                let (Some(all), Some(group)) = (groups.get_group(0), groups.get_group(1)) else {
                    continue;
                };
                seen += 1;
                let told = secret.within(&text, &(all.start..all.end));
                let text = String::from_utf8_lossy(&text[all.start..all.end]);
                assert_eq!(told, group.start..group.end, "{} {text}", rule.id);
            }
        }
    }
    assert!(counted > 80 && seen > 3000, "{counted} {seen}");
}

// Mutants: no rule is far; one without a bound is not; the reach of a rule is nine bytes.
#[test]
fn a_match_of_any_length_is_found_wherever_a_unit_stands_in_it() {
    let rules = RuleSet::builtin().expect("the built-in pack compiles");
    let limits = Limits::default();
    let mut memory = json::Scratch::new();
    let mut scanner = Scanner::new(Arc::clone(&rules), [0; 32], &limits);
    let (mut far, mut local) = (0, 0);
    for (number, rule) in rules.rules().iter().enumerate() {
        let hir = crate::guard::compile::parse(&rule.pattern).expect("it compiled");
        for (seed, repeats) in [(1, 0.1), (2, 0.4), (3, 0.7), (4, 1.0), (5, 1.0)] {
            let mut made = vec![];
            long_match(&hir, repeats, &mut (seed * 7919 + number as u64), &mut made);
            let Ok(text) = String::from_utf8(made) else { continue };
            for part in 0..16 {
                let at = text.len() * part / 16;
                // Patterns with characters beyond ASCII have places inside of one.
                if !text.as_bytes()[at].is_ascii() {
                    continue;
                }
                let character = char::from(text.as_bytes()[at]);
                let unit = format!("%{:02X}", character as u8);
                let coded = format!(". {}{unit}{} .", &text[..at], &text[at + 1..]);
                let mut found = |whole: bool| {
                    scanner.whole = whole;
                    scanner.scan(coded.as_bytes(), Direction::Response, &mut memory, &limits)
                };
                let (looked, all) = (found(false), found(true));
                assert_eq!(looked, all, "{} {repeats} {part}: {coded}", rule.id);
                let own = all.is_ok_and(|all| all.iter().any(|one| one.rule == rule.id));
                *(if rules.far.has(number) { &mut far } else { &mut local }) += usize::from(own);
            }
        }
    }
    // A test in which nothing is found shows nothing.
    assert!(far > 300 && local > 3000, "{far} {local}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    // Mutant: a margin of 24 bytes.
    #[test]
    fn what_stands_around_units_says_all_that_whole_views_do(
        pieces in proptest::collection::vec(
            (0usize..700, any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..200, any::<u8>(), 0usize..3), 1..4
        )
    ) {
        let rules = RuleSet::builtin().expect("the built-in pack compiles");
        let mut text = String::new();
        for (filler, rule, example, place, way, units) in pieces {
            // Nothing of the filler stands in a secret or before one.
            text.push_str(&"lorem ipsum; ".repeat(filler / 13));
            let rule = rule.get(rules.rules());
            let example = example.get(&rule.tests_match);
            for (at, character) in example.chars().enumerate() {
                let coded = (0..units).any(|unit| at == (place + unit * 37) % example.chars().count());
                if coded {
                    text.push_str(&unit(way, character));
                } else {
                    text.push(character);
                }
            }
        }
        let raw = serde_json::to_string(&text).expect("text");
        let limits = Limits::default();
        let mut memory = json::Scratch::new();
        let mut found = |whole: bool| {
            let mut scanner = Scanner::new(Arc::clone(&rules), [0; 32], &limits);
            scanner.whole = whole;
            scanner.scan_json(raw.as_bytes(), Direction::Response, &mut memory, &limits)
        };
        prop_assert_eq!(found(false), found(true), "{}", raw);
    }
}
