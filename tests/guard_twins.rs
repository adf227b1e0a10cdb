//! Hyperscan and the engine without it against the expressions, over positives that are changed at random
//! and stand in realistic text: no miss. The twins themselves are shown to find a printer that errs.
//!
//! `STENOGRAPH_FUZZ_SECONDS` (30) says for how long; the seed is printed, `STENOGRAPH_FUZZ_SEED` sets it.

use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use stenograph::guard::RuleSet;
use stenograph::types::Direction;

#[path = "fuzzed/guard.rs"]
#[allow(dead_code, reason = "a part of it is for the fuzzer")]
mod guard;
#[path = "guard_support/text.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod text;

use guard::{Engines, Pattern, Scanners, patterns};
use text::{Seed, line, lines, uuid};

/// Texts in which rules match, and how to change them.
struct Maker {
    seed: Seed,
    positives: Vec<Vec<u8>>,
}

/// Bytes that patterns treat in their own ways.
const BYTES: &[u8] = b"aZ09-_. \n\r\t\"\\:/=+'<>(){}[],;@#%&~*\x00\x7f\x80\xc3\xff";

impl Maker {
    fn new(rules: &RuleSet, seed: u64) -> Maker {
        let positives = rules.rules().iter().flat_map(|rule| &rule.tests_match);
        let positives = positives.map(|text| text.clone().into_bytes()).collect();
        Maker { seed: Seed(seed | 1), positives }
    }

    fn value(&mut self) -> Vec<u8> {
        let seed = &mut self.seed;
        let mut value = self.positives[seed.below(self.positives.len())].clone();
        for _ in 0..[0, 1, 1, 2, 3][seed.below(5)] {
            let at = seed.below(value.len());
            match seed.below(10) {
                0 => value[at] = BYTES[seed.below(BYTES.len())],
                1 => value[at] = seed.next() as u8,
                2 => value[at] ^= 0x20,
                3 => value.insert(at, BYTES[seed.below(BYTES.len())]),
                4 => drop(value.remove(at)),
                5 => value.truncate(at + 1),
                6 => {
                    let again = value[at];
                    let more = 1 + seed.below(40);
                    value.splice(at..at, std::iter::repeat_n(again, more));
                }
                7 => {
                    let upper = seed.below(2) == 0;
                    let end = (at + 1 + seed.below(12)).min(value.len());
                    for byte in &mut value[at..end] {
                        *byte = if upper {
                            byte.to_ascii_uppercase()
                        } else {
                            byte.to_ascii_lowercase()
                        };
                    }
                }
                8 => {
                    let other = &self.positives[seed.below(self.positives.len())];
                    let from = seed.below(other.len());
                    value.splice(at.., other[from..].iter().copied());
                }
                _ => {
                    let end = (at + 1 + seed.below(30)).min(value.len());
                    let part = value[at..end].to_vec();
                    value.splice(at..at, part);
                }
            }
            if value.is_empty() {
                value.push(b'x');
            }
        }
        value
    }

    fn text(&mut self) -> Vec<u8> {
        let before = self.seed.below(120);
        let mut text = lines(&mut self.seed, before).into_bytes();
        let glue = ["", " ", "\n", "\"", "'", "=", ": ", "(", "\t", "-", "_", "x", "0", "\u{e9}"];
        text.extend_from_slice(self.seed.pick(&glue).as_bytes());
        text.extend(self.value());
        text.extend_from_slice(self.seed.pick(&glue).as_bytes());
        if self.seed.below(2) == 0 {
            text.extend_from_slice(line(&mut self.seed).as_bytes());
        }
        if self.seed.below(6) == 0
            && let Ok(inner) = std::str::from_utf8(&text)
        {
            let id = uuid(&mut self.seed);
            text = serde_json::json!({"a": inner, "b": id}).to_string().into_bytes();
        }
        text
    }
}

impl Maker {
    /// Many texts in one, some of them encoded: long enough to be looked at in blocks, with many views.
    fn long(&mut self) -> Vec<u8> {
        let mut text = vec![];
        for _ in 0..8 + self.seed.below(40) {
            let one = self.text();
            match self.seed.below(4) {
                0 => text.extend(STANDARD.encode(one).into_bytes()),
                1 => text.extend(one.iter().flat_map(|byte| format!("{byte:02x}").into_bytes())),
                _ => text.extend(one),
            }
            text.extend_from_slice(self.seed.pick(&["\n", " ", ", ", "\"", "%41 "]).as_bytes());
        }
        text
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn the_engines_miss_nothing_that_the_expressions_find() {
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_nanos() as u64;
    let seed = number("STENOGRAPH_FUZZ_SEED").unwrap_or(now);
    let until =
        Instant::now() + Duration::from_secs(number("STENOGRAPH_FUZZ_SECONDS").unwrap_or(30));
    println!("STENOGRAPH_FUZZ_SEED={seed}");
    let rules = RuleSet::builtin().expect("the pack compiles");
    let mut maker = Maker::new(&rules, seed);
    let mut engines = Engines::new(patterns(&rules));
    let mut scanners = Scanners::new(&rules);
    let (mut texts, mut matched, mut whole, mut found) = (0u64, 0, 0u64, 0);
    while Instant::now() < until || texts < 2000 {
        let text = maker.text();
        let (wrong, rules) = engines.differ(&text);
        assert!(wrong.is_none(), "seed {seed}: {}", wrong.unwrap_or_default());
        matched += rules;
        if texts % 8 == 0 {
            let direction = [Direction::Request, Direction::Response][maker.seed.below(2)];
            found += scanners.agree(&text, direction);
            whole += 1;
        }
        if texts % 200 == 0 {
            scanners.agree(&maker.long(), Direction::Response);
        }
        texts += 1;
    }
    println!(
        "{texts} texts, {matched} matches, 0 misses; {whole} by whole scanners, {found} findings"
    );
    assert!(matched as u64 > texts / 4 && found as u64 > whole / 4, "{matched} {found}");
}

// Mutants: blocks with a margin of 8 bytes; a reach of 8 bytes; windows that begin a block late.
#[test]
fn many_rules_in_one_long_text_are_found_where_they_stand() {
    let rules = RuleSet::builtin().expect("the pack compiles");
    let mut maker = Maker::new(&rules, 0x5747);
    let mut scanners = Scanners::new(&rules);
    let found: usize = (0..300).map(|_| scanners.agree(&maker.long(), Direction::Response)).sum();
    assert!(found > 3000, "{found}");
}

/// Changes that a printer could make by mistake, each a miss waiting.
type Mistake = fn(&str) -> String;

/// What stands between `open` and `close` behind `from`.
fn inner(text: &str, from: usize, open: char, close: char) -> Option<(usize, &str)> {
    let start = from + text[from..].find(open)? + 1;
    Some((start, &text[start..start + text[start..].find(close)?]))
}

const MISTAKES: &[(&str, Mistake)] = &[
    ("a repeat is printed with its most", |text| {
        let mut out = String::new();
        let mut at = 0;
        while let Some((start, counts)) = inner(text, at, '{', '}') {
            let most = counts.split(',').next_back().unwrap_or_default();
            out += &format!("{}{most},{most}", &text[at..start]);
            at = start + counts.len();
        }
        out + &text[at..]
    }),
    ("a class loses its last range", |text| {
        let mut out = String::new();
        let mut at = 0;
        while let Some((start, ranges)) = inner(text, at, '[', ']') {
            let last = ranges.rfind("\\x").unwrap_or(0);
            let last = if ranges[..last].ends_with('-') { last.saturating_sub(5) } else { last };
            let kept = if last == 0 { ranges } else { &ranges[..last] };
            out += &format!("{}{kept}", &text[at..start]);
            at = start + ranges.len();
        }
        out + &text[at..]
    }),
    ("letters lose their other case", |text| {
        let mut out = text.to_owned();
        for letter in b'a'..=b'z' {
            out = out.replace(
                &format!("[\\x{:02x}\\x{letter:02x}]", letter - 32),
                &(letter as char).to_string(),
            );
        }
        out
    }),
    ("a boundary is one behind every text", |text| format!("{text}\\b")),
    ("the last branch is lost", |text| {
        let bar = text.rfind('|').unwrap_or(text.len());
        match text[bar..].find([')', '(']) {
            Some(end) if text[bar + end..].starts_with(')') => {
                format!("{}{}", &text[..bar], &text[bar + end..])
            }
            _ => text.to_owned(),
        }
    }),
];

#[test]
fn a_printer_that_errs_is_found() {
    let rules = RuleSet::builtin().expect("the pack compiles");
    for (what, mistake) in MISTAKES {
        let wrong: Vec<_> = patterns(&rules)
            .into_iter()
            .map(|one| Pattern { printed: mistake(&one.printed), ..one })
            .collect();
        let mut engines = Engines::new(wrong);
        let mut maker = Maker::new(&rules, 7);
        let misses = |wrong: Option<String>| wrong.is_some_and(|told| told.contains("misses it"));
        let found = (0..20_000).find(|_| misses(engines.differ(&maker.text()).0));
        println!("{what}: found by text {found:?}");
        assert!(found.is_some(), "{what}: no text shows it");
    }
}
