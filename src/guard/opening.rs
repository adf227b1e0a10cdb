//! Whether a text ends in the middle of a secret: for texts that come in pieces.
//!
//! From the tree of a rule's pattern the language of its beginnings is made: every text that ends within
//! the secret and can go on to a match. Searched at the end of a text it says whether the rule's automaton is
//! still alive there, and since where; ordinary text is dead after a few bytes.
//!
//! Only what is distinctive counts as begun: behind at least [`FIXED_MIN`] bytes that the pattern names (`ghp_`,
//! `authorization: bearer `). A word of small letters behind a name that is a word itself (`path` for
//! `pat`), and digits behind a host (`localhost:8080`), are ordinary text. A secret that begins with anything
//! (`[a-f0-9]{32}-us1`) is begun where its name stands.
//!
//! Left out: personal data, whose beginnings are ordinary words and numbers; rules that alert only or apply in some
//! places only.

use aho_corasick::AhoCorasick;
use regex_automata::{Input, meta};
use regex_syntax::hir::{Capture, Class, Hir, HirKind, Repetition};
use zeroize::Zeroizing;

use super::compile::{expression, parse, without_long_counts};
use super::rules::{Category, Matcher, Rule};
use super::{units, views};
use crate::types::RuleAction;

/// Bound: bytes named by a pattern before a secret that has begun is one. Fewer begin ordinary words.
const FIXED_MIN: usize = 3;

/// The same where the pattern names no more, and then bytes of the secret that there must be.
const FIXED_FEW: (usize, usize) = (2, 8);

/// Bound: bytes of a known value that make a beginning. Three bytes end ordinary texts by chance.
const KNOWN_MIN: usize = 4;

/// A secret that the text ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begun {
    /// Number of the rule.
    pub(super) rule: usize,
    /// Where the match begins, and the secret in it.
    pub(super) start: usize,
    pub(super) secret: usize,
    /// One past the last byte that belongs to it: behind it stands what nobody sees, or a unit that is cut.
    pub(super) end: usize,
}

impl Begun {
    /// Of two the one that began first.
    fn first(self, other: Option<Begun>) -> Begun {
        other.filter(|other| other.secret <= self.secret).unwrap_or(self)
    }
}

/// What finds beginnings for a set of rules.
#[derive(Debug, Default)]
pub(super) struct Openings {
    /// Number of the rule, what finds its beginnings, and bytes that there must be.
    rules: Vec<(usize, meta::Regex, usize)>,
    /// What those rules name before a secret, each with the place of its rule in `rules`; and the places of
    /// rules that name nothing.
    names: Option<(AhoCorasick, Vec<usize>)>,
    unnamed: Vec<usize>,
    known: Vec<(usize, Vec<u8>)>,
}

impl Openings {
    /// Of `rules`, with the known values and the numbers of their rules.
    pub(super) fn of(rules: &[Rule], known: Vec<(usize, Vec<u8>)>) -> Openings {
        let begun = |(number, rule): (usize, &Rule)| {
            let pattern = matches!(rule.matcher, Matcher::Pattern { .. });
            let alerts = rule.actions.response.is_none_or(|action| action == RuleAction::Alert);
            if !pattern
                || rule.key_lines
                || alerts
                || rule.scope.is_some()
                || rule.category == Category::Pii
            {
                return None;
            }
            let hir = without_long_counts(&parse(&rule.pattern).ok()?);
            let inside = hir.properties().explicit_captures_len() == 0;
            let state = |least| State { fixed: 0, inside, secret: false, least };
            let (few, bytes) = FIXED_FEW;
            let (begun, state, least) = match begun(&hir, state(FIXED_MIN)).0 {
                Some(begun) => (begun, state(FIXED_MIN), 1),
                None => (begun(&hir, state(few)).0?, state(few), bytes),
            };
            let end = Hir::look(regex_syntax::hir::Look::End);
            let regex = expression(&Hir::concat(vec![begun, end]), true).ok()?;
            Some(((number, regex, least), names(&hir, state)))
        };
        let (rules, names): (Vec<_>, Vec<_>) = rules.iter().enumerate().filter_map(begun).unzip();
        let unnamed = (0..rules.len()).filter(|at| names[*at].is_none()).collect();
        let each = |(at, names): (usize, Option<Vec<Vec<u8>>>)| {
            names.into_iter().flatten().map(move |name| (name, at))
        };
        let (names, places): (Vec<_>, Vec<_>) =
            names.into_iter().enumerate().flat_map(each).unzip();
        // Bound: all of them are short, so this cannot fail; without it every rule is looked at.
        let automaton = AhoCorasick::builder().ascii_case_insensitive(true).build(&names).ok();
        let (names, unnamed) = match automaton {
            Some(automaton) => (Some((automaton, places)), unnamed),
            None => (None, (0..rules.len()).collect()),
        };
        Openings { rules, names, unnamed, known }
    }

    /// The secret that `text` ends in, as it stands or written in units ([`units`]) in up to `levels` levels; of several
    /// the one that began first.
    pub(super) fn find(&self, text: &[u8], levels: u64) -> Option<Begun> {
        let found = self.find_plain(text);
        if units::next(text, 0).is_none() && units::cut(text).is_none() {
            return found;
        }
        // What is cut may be plain text as well.
        let (whole, cut) = self.find_below(text, levels, false);
        let without = if cut { self.find_below(text, levels, true).0 } else { None };
        [whole, without].into_iter().flatten().fold(found, |found, one| Some(one.first(found)))
    }

    /// The secret that `text` ends in at one of `levels` levels of units, `without` what is cut at its end at each level;
    /// and whether anything is cut there.
    fn find_below(&self, text: &[u8], levels: u64, without: bool) -> (Option<Begun>, bool) {
        let (mut found, mut any_cut) = (None, false);
        // Each with its units taken off is the next one.
        let mut texts: Vec<Zeroizing<Vec<u8>>> = vec![];
        for level in 0..=levels as usize {
            let mut here = match texts.last() {
                None => Zeroizing::new(text.to_vec()),
                Some(below) => Zeroizing::new(views::without_units(below)),
            };
            let cut = units::cut(&here);
            any_cut |= cut.is_some();
            if let Some(cut) = cut.filter(|_| without) {
                here.truncate(cut);
            }
            // As it stands it was looked at before.
            let look = level > 0 || without;
            if let Some(mut begun) = look.then(|| self.find_plain(&here)).flatten() {
                let Begun { start, secret, end, .. } = &mut begun;
                for below in texts.iter().rev() {
                    *start = views::unit_of(below, *start).start;
                    *secret = views::unit_of(below, *secret).start;
                    *end = views::unit_of(below, *end - 1).end;
                }
                found = Some(begun.first(found));
            }
            if units::next(&here, 0).is_none() && (cut.is_none() || !without) {
                break;
            }
            texts.push(here);
        }
        (found, any_cut)
    }

    /// The secret that `text` ends in as it stands.
    fn find_plain(&self, text: &[u8]) -> Option<Begun> {
        let mut found: Option<Begun> = None;
        let end = text.len();
        let mut take = |begun: Begun| {
            if found.is_none_or(|before| begun.secret < before.secret) {
                found = Some(begun);
            }
        };
        let mut wanted = vec![false; self.rules.len()];
        self.unnamed.iter().for_each(|at| wanted[*at] = true);
        if let Some((automaton, places)) = &self.names {
            for name in automaton.find_overlapping_iter(text) {
                wanted[places[name.pattern().as_usize()]] = true;
            }
        }
        for (_, (rule, regex, least)) in
            wanted.iter().zip(&self.rules).filter(|(wanted, _)| **wanted)
        {
            let mut slots = [None; 16];
            let groups = regex.captures_len().min(slots.len() / 2);
            let Some(whole) = regex.find(Input::new(text)) else { continue };
            // Why twice: most texts end in nothing, and to ask for groups costs more.
            let input = Input::new(text).range(whole.start()..text.len());
            let _ = regex.search_slots(&input, &mut slots[..groups * 2]);
            let at = |slot: usize| slots[slot].map(|at| at.get());
            let secret = (1..groups).find_map(|group| at(group * 2)).unwrap_or(whole.start());
            if text.len() - secret >= *least && !is_ordinary(text, secret) {
                take(Begun { rule: *rule, start: whole.start(), secret, end });
            }
        }
        for (rule, value) in &self.known {
            let longest = text.len().min(value.len() - 1);
            let begins = |length: &usize| text.ends_with(&value[..*length]);
            if let Some(length) = (KNOWN_MIN..=longest).rev().find(begins) {
                let start = text.len() - length;
                take(Begun { rule: *rule, start, secret: start, end });
            }
        }
        found
    }
}

/// Bound: letters of a name that is a word: `secret_key` is one of ordinary text, `ghp_` is not.
const WORD_LETTERS_MIN: usize = 5;

/// Whether what stands behind `secret` is a word or the number of a port, as they stand in ordinary texts.
fn is_ordinary(text: &[u8], secret: usize) -> bool {
    let rest = &text[secret..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let closes = |byte: &u8| b").,;:!?]".contains(byte);
    if (1..=5).contains(&digits) && rest[digits..].iter().all(closes) {
        return true;
    }
    let letters = rest.iter().rev().take_while(|byte| byte.is_ascii_lowercase()).count();
    let name = &rest[..rest.len() - letters];
    match (letters, name) {
        (0, _) => false,
        (_, []) => !matches!(text[..secret].last(), Some(b'"' | b'\'')),
        _ => {
            let plain = |byte: &u8| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-');
            let words = name.split(|byte| !byte.is_ascii_lowercase());
            name.iter().all(plain) && words.map(<[u8]>::len).max() >= Some(WORD_LETTERS_MIN)
        }
    }
}

/// Texts, in small letters, of which one stands in every beginning of `hir`; `None` where there are none.
fn names(hir: &Hir, mut state: State) -> Option<Vec<Vec<u8>>> {
    match hir.kind() {
        HirKind::Capture(capture) => names(&capture.sub, State { inside: true, ..state }),
        HirKind::Alternation(parts) => {
            // An alternative in which nothing begins is none that a beginning goes through.
            let begins = |part: &&Hir| begun(part, state).0.is_some();
            let none = parts.iter().find(begins).is_none();
            let some = parts.iter().filter(|part| none || begins(part));
            let each: Option<Vec<_>> = some.map(|part| names(part, state)).collect();
            Some(each?.concat())
        }
        HirKind::Concat(parts) => {
            let shortest = |names: &Vec<Vec<u8>>| names.iter().map(Vec::len).min().unwrap_or(0);
            let (mut all, mut run) = (vec![], vec![]);
            for part in parts {
                let (sub, after) = begun(part, state);
                match named(part) {
                    Some(bytes) if sub.is_none() => run.extend(bytes),
                    _ => all.push(vec![std::mem::take(&mut run)]),
                }
                match (&sub, part.kind()) {
                    (Some(_), _) => {
                        all.extend(names(part, state));
                        break;
                    }
                    (None, HirKind::Alternation(_)) => all.extend(names(part, state)),
                    _ => {}
                }
                state = after;
            }
            all.push(vec![run]);
            all.into_iter().filter(|names| shortest(names) > 0).max_by_key(shortest)
        }
        _ => named(hir).map(|name| vec![name]),
    }
}

/// The one text that `hir` reads, in small letters.
fn named(hir: &Hir) -> Option<Vec<u8>> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(vec![]),
        HirKind::Literal(literal) => Some(literal.0.to_ascii_lowercase()),
        HirKind::Class(Class::Bytes(class)) if is_fixed(&Class::Bytes(class.clone())) => {
            let bytes = class.ranges().iter().flat_map(|range| range.start()..=range.end());
            let mut small: Vec<u8> = bytes.map(|byte| byte.to_ascii_lowercase()).collect();
            small.dedup();
            (small.len() == 1).then_some(small)
        }
        HirKind::Capture(capture) => named(&capture.sub),
        HirKind::Concat(parts) => {
            Some(parts.iter().map(named).collect::<Option<Vec<_>>>()?.concat())
        }
        _ => None,
    }
}

/// What has been read of a pattern on the way to a place in it, at least.
#[derive(Debug, Clone, Copy)]
struct State {
    /// Bytes that the pattern names.
    fixed: usize,
    /// Within the secret, or behind its begin.
    inside: bool,
    /// Something of the secret that is not named.
    secret: bool,
    /// Bytes that must be named.
    least: usize,
}

impl State {
    fn counts(self) -> bool {
        self.inside && (self.fixed >= self.least || self.secret)
    }
}

/// Whether `class` has one letter only, in either case.
fn is_fixed(class: &Class) -> bool {
    let bytes = match class {
        Class::Bytes(class) => class.ranges().iter().map(|range| range.len()).sum::<usize>(),
        Class::Unicode(class) => class
            .ranges()
            .iter()
            .map(|range| range.end() as usize - range.start() as usize + 1)
            .sum::<usize>(),
    };
    bytes <= 2
}

/// The texts that end within `hir` at a place that counts; and the state behind all of it.
fn begun(hir: &Hir, state: State) -> (Option<Hir>, State) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => (None, state),
        HirKind::Literal(literal) => {
            let after = State { fixed: state.fixed + literal.0.len(), ..state };
            if !(state.secret && state.inside) {
                return (None, after);
            }
            let starts = (1..=literal.0.len()).map(|end| Hir::literal(&literal.0[..end])).collect();
            (Some(Hir::alternation(starts)), after)
        }
        HirKind::Class(class) if is_fixed(class) => {
            let after = State { fixed: state.fixed + 1, ..state };
            ((state.secret && state.inside).then(|| hir.clone()), after)
        }
        HirKind::Class(_) => match state.counts() {
            true => (Some(hir.clone()), State { secret: true, ..state }),
            false => (None, state),
        },
        HirKind::Capture(capture) => {
            let (sub, after) = begun(&capture.sub, State { inside: true, ..state });
            let wrap = |sub| Hir::capture(Capture { sub: Box::new(sub), ..capture.clone() });
            (sub.map(wrap), after)
        }
        HirKind::Repetition(repetition) => {
            let (sub, once) = begun(&repetition.sub, state);
            // A repeat may be left out; what its first turn allows, the next one does as well.
            let after = match repetition.min {
                0 => State { secret: once.secret, ..state },
                times => {
                    let each = once.fixed - state.fixed;
                    State { fixed: state.fixed + each * times as usize, ..once }
                }
            };
            let before = |sub: Hir| {
                let whole = Hir::repetition(Repetition {
                    min: 0,
                    max: repetition.max.map(|max| max.saturating_sub(1)),
                    greedy: repetition.greedy,
                    sub: repetition.sub.clone(),
                });
                Hir::concat(vec![whole, sub])
            };
            (sub.map(before), after)
        }
        HirKind::Alternation(parts) => {
            let all: Vec<_> = parts.iter().map(|part| begun(part, state)).collect();
            let after = State {
                fixed: all.iter().map(|(_, after)| after.fixed).min().unwrap_or(state.fixed),
                inside: all.iter().all(|(_, after)| after.inside),
                secret: all.iter().any(|(_, after)| after.secret),
                ..state
            };
            let some: Vec<Hir> = all.into_iter().filter_map(|(sub, _)| sub).collect();
            ((!some.is_empty()).then(|| Hir::alternation(some)), after)
        }
        HirKind::Concat(parts) => {
            let mut states = state;
            let mut each = vec![];
            for part in parts {
                let (sub, after) = begun(part, states);
                each.push((part, sub));
                states = after;
            }
            let mut all: Option<Hir> = None;
            for (part, sub) in each.into_iter().rev() {
                let further = all.take().map(|all| Hir::concat(vec![part.clone(), all]));
                all = match (further, sub) {
                    (Some(further), Some(sub)) => Some(Hir::alternation(vec![further, sub])),
                    (further, sub) => further.or(sub),
                };
            }
            (all, states)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::guard::RuleSet;

    fn secret(text: &str) -> Option<String> {
        let set = RuleSet::builtin().expect("compiles");
        let begun = set.openings.find(text.as_bytes(), 4)?;
        Some(format!("{}: {}", set.rules()[begun.rule].id, &text[begun.secret..]))
    }

    #[test]
    fn what_has_begun_is_told() {
        for (text, expected) in [
            ("it is ghp_a", "github-token: ghp_a"),
            ("it is GHP_a", ""),
            ("it is ghp_", ""),
            ("eyJhbGciOiJ", "jwt: eyJhbGciOiJ"),
            ("x eyJhbGciOiJFUzI1NiJ9.", "jwt: eyJhbGciOiJFUzI1NiJ9."),
            ("Authorization: Bearer a1", "http-auth: a1"),
            ("Authorization: Bearer ", ""),
            ("postgres://app:Tr0ub", "database-uri: Tr0ub"),
            (
                "-----BEGIN PRIVATE KEY-----\nHhp/BP8+W1",
                "private-key-pem: -----BEGIN PRIVATE KEY-----\nHhp/BP8+W1",
            ),
            ("SKd781a723f", "twilio-key: SKd781a723f"),
            ("\"client_secret\": \"hun", "password-field: hun"),
        ] {
            assert_eq!(secret(text).unwrap_or_default(), expected, "{text}");
        }
    }

    // Mutants: `start`, `secret` or `end` not taken back to the text as it stands.
    #[test]
    fn what_has_begun_in_units_is_told_where_it_stands() {
        let set = RuleSet::builtin().expect("compiles");
        for (before, named, secret, behind) in [
            ("a %20b &amp; ", "", "gh&#112;_a", ""),
            ("%25 ", "", "ghp_a\u{ad}b", "\u{200b}"),
            ("&lt;&lt;", "Authorization&colon; Bearer ", "a%31b", "%3"),
            ("%2520", "", "%2567hp%255fA&#38;shy;b%25", "4"),
            ("x %26amp; ", "", "\\\\u0067hp_a", "\\\\u00"),
        ] {
            let text = format!("{before}{named}{secret}{behind}");
            let begun = set.openings.find(text.as_bytes(), 4).expect(&text);
            let told = (&text[begun.start..begun.secret], &text[begun.secret..begun.end]);
            assert_eq!(told, (named, secret.trim_end_matches("%25")), "{text}");
        }
    }

    #[test]
    fn ordinary_ends_have_not_begun() {
        for text in [
            "src/path",
            "the secret_key",
            "http://localhost:8080",
            "(see http://localhost:8080).",
            "postgres://db:5432",
            "xoxo",
            "patent",
            "key-value",
            "SKIP",
            "SKa1",
            "commit 671ee5f0b2edc770b33f510b199f7141",
            "a.b@mail.example",
            "4111 1111",
            "aws-key rotated",
            "sk-",
            "glpat-",
            "Bearer token",
            "gh&#112;_",
            "localhost&#58;8080%2",
            "the p%61th",
        ] {
            assert_eq!(secret(text), None, "{text}");
        }
    }

    #[test]
    fn every_rule_of_the_pack_is_told_by_name() {
        let set = RuleSet::builtin().expect("compiles");
        assert!(set.openings.unnamed.is_empty(), "{:?}", set.openings.unnamed);
        assert!(set.openings.rules.len() > 80, "{}", set.openings.rules.len());
    }
}
