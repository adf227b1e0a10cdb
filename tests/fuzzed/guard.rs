//! The engines of the guard beside each other, on any bytes: no rule is missed, and what is found is the same.

use std::cell::RefCell;
use std::sync::Arc;

use regex_automata::meta;
use stenograph::guard::engine::{Candidates, Database, Presence};
use stenograph::guard::rules::Matcher;
use stenograph::guard::{Engine, RuleSet, Scanner, literals};
use stenograph::limits::Limits;
use stenograph::types::Direction;
use stenograph::wire::json;

/// A rule as the engines and the expressions see it.
pub struct Pattern {
    pub number: usize,
    pub id: Arc<str>,
    /// What the engines compile.
    pub printed: String,
    /// What confirms.
    pub regex: meta::Regex,
    /// The printed pattern as regex-automata reads it.
    pub twin: meta::Regex,
}

/// All rules of the built-in pack with a pattern.
pub fn patterns(rules: &RuleSet) -> Vec<Pattern> {
    let config = meta::Config::new().utf8_empty(false);
    let syntax = regex_automata::util::syntax::Config::new().unicode(false).utf8(false);
    let rules = rules.rules().iter().enumerate();
    rules
        .filter_map(|(number, rule)| match &rule.matcher {
            Matcher::Pattern { printed, regex } => Some(Pattern {
                number,
                id: rule.id.clone(),
                printed: printed.clone(),
                regex: regex.clone(),
                twin: meta::Builder::new()
                    .configure(config.clone())
                    .syntax(syntax)
                    .build(&format!("(?s:{printed})"))
                    .expect("what is printed is a pattern"),
            }),
            _ => None,
        })
        .collect()
}

/// The engines, compiled for these patterns.
pub struct Engines {
    patterns: Vec<Pattern>,
    fast: Database,
    scratch: <Database as Candidates>::Scratch,
    plain: literals::Database,
    seen: (Presence, Presence),
}

impl Engines {
    pub fn new(patterns: Vec<Pattern>) -> Engines {
        let printed: Vec<_> = patterns.iter().map(|one| (one.number, &*one.printed)).collect();
        let fast = Database::compile(&printed).expect("the pack compiles");
        let plain = literals::Database::compile(&printed).expect("the pack compiles");
        let room = patterns.iter().map(|one| one.number + 1).max().unwrap_or(0);
        let seen = (Presence::new(room), Presence::new(room));
        Engines { scratch: fast.scratch(), patterns, fast, plain, seen }
    }

    /// What is wrong with what the engines say of `text`; and how many rules match in it.
    pub fn differ(&mut self, text: &[u8]) -> (Option<String>, usize) {
        let (fast, plain) = &mut self.seen;
        fast.clear();
        plain.clear();
        self.fast.scan(text, &self.scratch, fast).expect("it scans");
        self.plain.scan(text, &literals::Scratch, plain).expect("it scans");
        let mut matched = 0;
        for one in &self.patterns {
            let matches = one.regex.is_match(text);
            let printed = one.twin.is_match(text);
            matched += usize::from(matches);
            let wrong = if matches && !fast.has(one.number) {
                "the engine misses it"
            } else if matches && !plain.has(one.number) {
                "the engine without a library misses it"
            } else if cfg!(feature = "engine-hyperscan") && printed != fast.has(one.number) {
                "the engine reads the printed pattern in another way"
            } else {
                continue;
            };
            return (Some(format!("{}: {wrong}: {}", one.id, text.escape_ascii())), matched);
        }
        (None, matched)
    }
}

/// Whole scanners, one for each engine.
pub struct Scanners {
    all: Vec<Scanner>,
    scratch: json::Scratch,
    limits: Limits,
}

impl Scanners {
    pub fn new(rules: &Arc<RuleSet>) -> Scanners {
        let limits = Limits::default();
        let engines = [Engine::Expressions, Engine::Hyperscan, Engine::Literals];
        let scanner = |engine| Scanner::with_engine(rules.clone(), [3; 32], &limits, engine);
        Scanners { all: engines.map(scanner).into(), scratch: json::Scratch::new(), limits }
    }

    /// What they find, which must be the same, unless the text is over a bound for one of them.
    pub fn agree(&mut self, text: &[u8], direction: Direction) -> usize {
        let mut found = self
            .all
            .iter_mut()
            .map(|scanner| scanner.scan(text, direction, &mut self.scratch, &self.limits));
        let first = found.next().expect("there are some");
        for other in found {
            // Which bound is met is not the same: the expressions read everything.
            if let (Ok(first), Ok(other)) = (&first, &other) {
                assert_eq!(other, first, "{}", text.escape_ascii());
            }
        }
        first.map_or(0, |found| found.len())
    }
}

/// Any text. Mutants: see tests/guard_twins.rs, which has them built in.
pub fn run(input: &[u8]) {
    thread_local! {
        static BOTH: RefCell<(Engines, Scanners)> = RefCell::new({
            let rules = RuleSet::builtin().expect("the pack compiles");
            (Engines::new(patterns(&rules)), Scanners::new(&rules))
        });
    }
    BOTH.with_borrow_mut(|(engines, scanners)| {
        let (wrong, _) = engines.differ(input);
        assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
        scanners.agree(input, Direction::Response);
    });
}
