//! The engine without a library: what each pattern cannot do without is looked for, in any case of letters,
//! all at once; a pattern without such a text is looked for itself.
//!
//! A pattern's *needs* are a list of texts of which one stands in whatever the pattern matches. They come
//! from the printed pattern, so they lie in the part of a match that Hyperscan reads too, and what must be
//! decoded around an escape ([`super::views`]) is the same for both.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex_automata::meta;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::engine::{Candidates, EngineFault, Presence};

/// Bound: shortest text that is looked for. Shorter ones stand everywhere.
const BYTES_MIN: usize = 3;
/// Bound: texts of which one is needed. Decided: more than the names of any issuer's tokens.
const TEXTS_MAX: usize = 64;
/// Bound: characters that a place of a text may have, letters counted once for both cases.
const CLASS_MAX: usize = 10;
/// Bound: bytes of one text; the rest would tell no more.
const TEXT_BYTES_MAX: usize = 16;

/// Nothing is needed between texts.
#[derive(Debug, Clone, Copy)]
pub struct Scratch;

/// A compiled set.
#[derive(Debug)]
pub struct Database {
    /// Needed texts, and for each the rules that need it, in `rules`.
    needed: Option<(AhoCorasick, Vec<Range<usize>>)>,
    rules: Vec<usize>,
    /// Patterns that need nothing.
    bare: Vec<(usize, meta::Regex)>,
}

impl Database {
    /// How many patterns are looked for by themselves.
    pub fn bare(&self) -> usize {
        self.bare.len()
    }
}

impl Candidates for Database {
    type Scratch = Scratch;

    fn compile(patterns: &[(usize, &str)]) -> Result<Database, EngineFault> {
        let fault = |error: &dyn std::fmt::Display| EngineFault::Library(error.to_string());
        let (mut texts, mut bare) = (vec![], vec![]);
        for &(rule, printed) in patterns {
            let mut parser = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build();
            let hir = parser.parse(printed).map_err(|error| fault(&error))?;
            match needs(&hir) {
                Some(needed) => texts.extend(needed.into_iter().map(|text| (text, rule))),
                None => {
                    let config = meta::Config::new().utf8_empty(false);
                    let regex = meta::Builder::new().configure(config).build_from_hir(&hir);
                    bare.push((rule, regex.map_err(|error| fault(&error))?));
                }
            }
        }
        texts.sort();
        texts.dedup();
        let (mut words, mut ranges, mut rules) = (vec![], vec![], vec![]);
        for same in texts.chunk_by(|a, b| a.0 == b.0) {
            words.push(&same[0].0);
            ranges.push(rules.len()..rules.len() + same.len());
            rules.extend(same.iter().map(|(_, rule)| *rule));
        }
        let needed = match words.is_empty() {
            true => None,
            false => {
                let automaton = AhoCorasick::builder()
                    .ascii_case_insensitive(true)
                    .kind(Some(AhoCorasickKind::DFA))
                    .build(words)
                    .map_err(|error| fault(&error))?;
                Some((automaton, ranges))
            }
        };
        Ok(Database { needed, rules, bare })
    }

    fn scratch(&self) -> Scratch {
        Scratch
    }

    fn scan(&self, text: &[u8], _: &Scratch, presence: &mut Presence) -> Result<(), EngineFault> {
        if let Some((automaton, ranges)) = &self.needed {
            // Overlapping: a text may stand inside another one.
            for found in automaton.find_overlapping_iter(text) {
                let range = ranges[found.pattern().as_usize()].clone();
                self.rules[range].iter().for_each(|&rule| presence.set(rule));
            }
        }
        for (rule, regex) in &self.bare {
            if !presence.has(*rule) && regex.is_match(text) {
                presence.set(*rule);
            }
        }
        Ok(())
    }
}

/// Texts in lower case.
type Texts = Vec<Vec<u8>>;

/// The texts of which one stands, in some case of letters, in every match of `hir`.
fn needs(hir: &Hir) -> Option<Texts> {
    let texts = required(hir)?;
    (worth(&texts) >= BYTES_MIN).then_some(texts)
}

/// Length of the shortest text: the longer, the seldomer.
fn worth(texts: &Texts) -> usize {
    texts.iter().map(Vec::len).min().unwrap_or(0)
}

fn required(hir: &Hir) -> Option<Texts> {
    let mut best = exact(hir);
    let mut better = |texts: Option<Texts>| {
        let Some(texts) = texts else { return };
        let than = best.as_ref().map_or((0, 0), |best| (worth(best), best.len()));
        if worth(&texts) > than.0 || (worth(&texts) == than.0 && texts.len() < than.1) {
            best = Some(texts);
        }
    };
    match hir.kind() {
        HirKind::Capture(capture) => better(required(&capture.sub)),
        HirKind::Repetition(repetition) if repetition.min > 0 => better(required(&repetition.sub)),
        HirKind::Concat(parts) => {
            // Texts that stand side by side are one.
            let mut run: Texts = vec![vec![]];
            for part in parts {
                let own = exact(part);
                let joined = own.as_ref().and_then(|own| joined(&run, own));
                match joined {
                    Some(joined) => run = joined,
                    None => {
                        better(Some(std::mem::replace(&mut run, own.unwrap_or(vec![vec![]]))));
                        better(required(part));
                    }
                }
            }
            better(Some(run));
        }
        HirKind::Alternation(parts) => {
            let all: Option<Vec<Texts>> = parts.iter().map(required).collect();
            let all = all.map(|all| united(all.concat()));
            better(all.filter(|all| all.len() <= TEXTS_MAX));
        }
        _ => {}
    }
    best
}

/// All that `hir` matches, in lower case, where that is little. Where it is long, all beginnings.
fn exact(hir: &Hir) -> Option<Texts> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(vec![vec![]]),
        HirKind::Literal(literal) => Some(vec![literal.0.to_ascii_lowercase()]),
        HirKind::Class(class) => {
            let bytes: Vec<u8> = match class {
                Class::Bytes(class) => {
                    class.ranges().iter().flat_map(|range| range.start()..=range.end()).collect()
                }
                // Parsed with Unicode off: ASCII only.
                Class::Unicode(class) => {
                    let ranges = class.ranges().iter();
                    ranges.flat_map(|range| range.start() as u8..=range.end() as u8).collect()
                }
            };
            let texts = united(bytes.iter().map(|byte| vec![byte.to_ascii_lowercase()]).collect());
            (texts.len() <= CLASS_MAX).then_some(texts)
        }
        HirKind::Repetition(repetition) if repetition.max == Some(repetition.min) => {
            let each = exact(&repetition.sub)?;
            (0..repetition.min).try_fold(vec![vec![]], |all, _| joined(&all, &each))
        }
        HirKind::Repetition(repetition) if (repetition.min, repetition.max) == (0, Some(1)) => {
            let mut texts = exact(&repetition.sub)?;
            texts.push(vec![]);
            Some(united(texts))
        }
        HirKind::Repetition(_) => None,
        HirKind::Capture(capture) => exact(&capture.sub),
        HirKind::Concat(parts) => {
            parts.iter().try_fold(vec![vec![]], |all, part| joined(&all, &exact(part)?))
        }
        HirKind::Alternation(parts) => {
            let all: Option<Vec<Texts>> = parts.iter().map(exact).collect();
            let all = united(all?.concat());
            (all.len() <= TEXTS_MAX).then_some(all)
        }
    }
}

/// Each of `front` with each of `back` behind it, unless these are too many or too long.
fn joined(front: &Texts, back: &Texts) -> Option<Texts> {
    let pairs =
        front.iter().flat_map(|front| back.iter().map(move |back| [&front[..], back].concat()));
    let fits = front.len() * back.len() <= TEXTS_MAX
        && front.iter().map(Vec::len).max()? + back.iter().map(Vec::len).max()? <= TEXT_BYTES_MAX;
    fits.then(|| united(pairs.collect()))
}

fn united(mut texts: Texts) -> Texts {
    texts.sort();
    texts.dedup();
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pattern: &str) -> Option<Vec<String>> {
        let mut parser = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build();
        let texts = needs(&parser.parse(pattern).unwrap())?;
        Some(texts.into_iter().map(|text| String::from_utf8(text).unwrap()).collect())
    }

    #[test]
    fn what_a_pattern_needs_is_found_in_it() {
        let some = |texts: &[&str]| Some(texts.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(told(r"\bghp_[A-Za-z0-9]{36}"), some(&["ghp_"]));
        assert_eq!(told(r"[0-9]{8,10}:AA[A-Za-z]{33}"), some(&[":aa"]));
        assert_eq!(told(r"(?:AKIA|ASIA)[A-Z2-7]{16}"), some(&["akia", "asia"]));
        assert_eq!(told(r"(?i)(?:pass|pwd).{0,9}=x"), some(&["pass", "pwd"]));
        assert_eq!(told(r"gh[pousr]_x"), some(&["gho_x", "ghp_x", "ghr_x", "ghs_x", "ghu_x"]));
        assert_eq!(
            told(r"(?:x{0,1}y){2}zz?"),
            some(&["xyxyz", "xyxyzz", "xyyz", "xyyzz", "yxyz", "yxyzz", "yyz", "yyzz"])
        );
        assert_eq!(told(r"[0-9]{3}-[0-9]{2}"), None);
        assert_eq!(told(r"(?:abc|[0-9]{9})"), None);
    }

    #[test]
    fn it_says_which_rules_may_match() {
        let patterns = [(3, "abc"), (70, "[m-z]{3}[0-9]"), (4, "bcd"), (5, "(?i)ABC")];
        let database = Database::compile(&patterns).unwrap();
        assert_eq!(database.bare(), 1);
        let mut presence = Presence::new(71);
        database.scan(b"..abcd..xyzxyz1", &Scratch, &mut presence).unwrap();
        assert_eq!(presence.iter().collect::<Vec<_>>(), [3, 4, 5, 70]);
        presence.clear();
        database.scan(b"", &Scratch, &mut presence).unwrap();
        assert!(presence.is_empty());
    }
}
