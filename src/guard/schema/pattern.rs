//! Expressions of ECMA-262, as `pattern` and `patternProperties` hold them, searched for in time linear in the
//! text.
//!
//! What looks ahead right behind a leading `^` is an expression of its own that must hold, or must not, from
//! the begin of the text: so libraries write addresses and rules for passwords. What looks around elsewhere, or
//! refers to what it has read, is not understood: no engine takes it in linear time.

use regex_automata::meta;
use regex_automata::util::syntax;
use regex_syntax::ast;

/// Bound: bytes of one expression. Those of libraries that check addresses have a few hundred.
pub(super) const PATTERN_BYTES_MAX: usize = 1 << 10;
/// Bound: bytes of a text that is held against an expression.
pub(super) const TEXT_BYTES_MAX: usize = 16 << 10;
/// Bound: bytes of the automaton of one expression; a class of letters of all scripts has 40 KiB.
const AUTOMATON_BYTES_MAX: usize = 64 << 10;
/// Bound: bytes of what an automaton is turned into while it searches. Smaller, and it goes through all its
/// states for each letter of a text.
const CACHE_BYTES_MAX: usize = 128 << 10;
/// Bound: groups that look ahead in one expression.
const AHEAD_MAX: usize = 8;
/// Bound: classes of letters of all scripts (`\p{L}`) in one expression. Each has up to some hundred ranges,
/// which are all gone through before an automaton is built, and so before its bound holds.
const SCRIPTS_MAX: usize = 16;
/// Bound: groups inside each other.
const NESTING_MAX: u32 = 64;

/// An expression that can be searched for: all of these must match, or must not.
pub(super) struct Pattern(Vec<(bool, meta::Regex)>);

impl Pattern {
    /// Compiles an expression; `None` when it is over a bound or not understood.
    pub(super) fn new(text: &str) -> Option<Pattern> {
        let compiled = |(holds, text): &(bool, String)| Some((*holds, compile(text)?));
        demands(text)?.iter().map(compiled).collect::<Option<_>>().map(Pattern)
    }

    /// Bytes of its automata.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|(_, regex)| regex.memory_usage()).sum()
    }

    /// Whether it matches somewhere in `text`; `None` over a bound.
    pub(super) fn matches(&self, text: &str) -> Option<bool> {
        let holds = |(holds, regex): &(bool, meta::Regex)| regex.is_match(text) == *holds;
        (text.len() <= TEXT_BYTES_MAX).then(|| self.0.iter().all(holds))
    }
}

/// Whether `text` is an expression; `None` when it is over a bound or not understood. Nothing is compiled.
pub(super) fn is_expression(text: &str) -> Option<bool> {
    use ast::ErrorKind::{NestLimitExceeded, UnsupportedBackreference, UnsupportedLookAround};
    for (_, part) in demands(text)? {
        // A parser is not to be used again after a fault.
        let mut parser = ast::parse::ParserBuilder::new().nest_limit(NESTING_MAX).build();
        match parser.parse(&part).map_err(|fault| fault.kind().clone()) {
            Ok(_) => {}
            Err(NestLimitExceeded(_) | UnsupportedBackreference | UnsupportedLookAround) => {
                return None;
            }
            Err(_) => return Some(false),
        }
    }
    Some(true)
}

/// What must match for an expression to match, or must not, in the engine's dialect.
fn demands(text: &str) -> Option<Vec<(bool, String)>> {
    if text.len() > PATTERN_BYTES_MAX {
        return None;
    }
    let mut demands = vec![];
    let mut rest = text;
    if let Some(behind) = text.strip_prefix('^')
        && behind.starts_with("(?")
    {
        let mut behind = behind;
        while let Some((holds, ahead, after)) = ahead(behind) {
            if demands.len() == AHEAD_MAX {
                return None;
            }
            demands.push((holds, format!("^(?:{ahead})")));
            behind = after;
        }
        // What stands beside an alternative does not bind it.
        if !demands.is_empty() && has_alternatives(text) {
            return None;
        }
        rest = &text[text.len() - behind.len()..];
    }
    let whole = if demands.is_empty() { text.to_owned() } else { format!("^(?:{rest})") };
    demands.push((true, whole));
    let mut scripts = 0;
    for (_, part) in &mut demands {
        *part = translated(part, &mut scripts)?;
    }
    Some(demands)
}

/// Compiles an expression of the engine's dialect; `None` over a bound.
fn compile(text: &str) -> Option<meta::Regex> {
    let config = meta::Config::new()
        .nfa_size_limit(Some(AUTOMATON_BYTES_MAX))
        .hybrid_cache_capacity(CACHE_BYTES_MAX)
        .onepass(false)
        .dfa(false);
    let syntax = syntax::Config::new().nest_limit(NESTING_MAX);
    meta::Builder::new().configure(config).syntax(syntax).build(text).ok()
}

/// A group that looks ahead, where `text` begins with one: whether it must hold, what it holds, what is behind.
fn ahead(text: &str) -> Option<(bool, &str, &str)> {
    let (holds, inside) = match (text.strip_prefix("(?="), text.strip_prefix("(?!")) {
        (Some(inside), _) => (true, inside),
        (_, Some(inside)) => (false, inside),
        _ => return None,
    };
    let end = signs(inside).find(|(_, sign, depth)| *sign == ')' && *depth == 0)?.0;
    let behind = &inside[end + 1..];
    let repeated = behind.starts_with(['*', '+', '?', '{']);
    (!repeated).then_some((holds, &inside[..end], behind))
}

fn has_alternatives(text: &str) -> bool {
    signs(text).any(|(_, sign, depth)| sign == '|' && depth == 0)
}

/// The signs of an expression that mean something, outside of classes: where, which, and inside how many groups.
/// Of closing brackets only those are told that close nothing in it.
fn signs(text: &str) -> impl Iterator<Item = (usize, char, usize)> {
    let (mut class, mut escaped, mut depth) = (false, false, 0usize);
    text.char_indices().filter_map(move |(at, sign)| {
        if std::mem::take(&mut escaped) {
            return None;
        }
        match sign {
            '\\' => {
                escaped = true;
                return None;
            }
            '[' => class = true,
            ']' => class = false,
            _ if class => return None,
            // The one that closes what was not opened here is told.
            ')' if depth > 0 => {
                depth -= 1;
                return None;
            }
            '(' => depth += 1,
            _ => {}
        }
        (!class).then_some((at, sign, depth))
    })
}

/// The expression in the engine's dialect: digits and words are those of ASCII, and in a class only `^`, `-`,
/// `\` and `]` mean something. `None` where it has what ECMA-262 does not have, or more classes than
/// `scripts`, counted on, may reach: letters without regard to case are such a thing, and cost dearly.
fn translated(text: &str, scripts: &mut usize) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 16);
    let mut class = false;
    let mut last = None;
    let mut signs = text.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '\\' => {
                let Some(escaped) = signs.next() else {
                    out.push(sign);
                    break;
                };
                *scripts += usize::from(matches!(escaped, 'p' | 'P'));
                if *scripts > SCRIPTS_MAX {
                    return None;
                }
                match (escaped, class) {
                    ('d', false) => out.push_str("[0-9]"),
                    ('D', false) => out.push_str("[^0-9]"),
                    ('w', false) => out.push_str("[0-9A-Za-z_]"),
                    ('W', false) => out.push_str("[^0-9A-Za-z_]"),
                    ('d', true) => out.push_str("0-9"),
                    ('w', true) => out.push_str("0-9A-Za-z_"),
                    ('D', true) => out.push_str(r"\x00-/:-\x{10FFFF}"),
                    ('W', true) => out.push_str(r"\x00-/:-@\[-\^`\{-\x{10FFFF}"),
                    ('b', false) => out.push_str(r"(?-u:\b)"),
                    ('B', false) => out.push_str(r"(?-u:\B)"),
                    ('b', true) => out.push_str("\\x08"),
                    ('0', _) => out.push_str("\\x00"),
                    ('/', _) => out.push('/'),
                    _ => out.extend([sign, escaped]),
                }
                last = None;
                continue;
            }
            '(' if !class && is_extension(signs.as_str()) => return None,
            '[' if class => out.push_str("\\["),
            // Without signs a class is nothing, or anything.
            '[' if signs.as_str().starts_with(']') => {
                signs.next();
                out.push_str("[^\\s\\S]");
            }
            '[' if signs.as_str().starts_with("^]") => {
                signs.nth(1);
                out.push_str("[\\s\\S]");
            }
            '[' => {
                class = true;
                out.push(sign);
            }
            ']' if class => {
                class = false;
                out.push(sign);
            }
            // Two of them are an operation on classes there.
            '&' | '~' | '-' if class && last == Some(sign) => out.extend(['\\', sign]),
            _ => out.push(sign),
        }
        last = Some(sign);
    }
    Some(out)
}

/// Whether a group with this inside has a meaning that is not carried over.
fn is_extension(inside: &str) -> bool {
    let Some(kind) = inside.strip_prefix('?') else { return false };
    let looks_back = kind.starts_with("<=") || kind.starts_with("<!");
    looks_back || !kind.starts_with([':', '<'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_ecma_262_are_understood() {
        let email = r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$";
        for (pattern, text, matches) in [
            (r"^\d{3}$", "123", true),
            (r"^\d{3}$", "१२३", false),
            (r"^[\w.]+$", "a_b.c", true),
            (r"^[\w.]+$", "é", false),
            (r"^[[\]]+$", "[]", true),
            (r"^[a&&b]+$", "&a", true),
            (r"^\/x\/$", "/x/", true),
            (r"b", "abc", true),
            (r"^a$", "a\n", false),
            (email, "jo@example.com", true),
            (email, "[email]*******", false),
            (email, "a..b@example.com", false),
            (r"^(?=.*[A-Z])(?=.*\d)(?!.*[)(?!x)])[A-Za-z\d]{8,}$", "Passw0rd", true),
            (r"^(?=.*[A-Z])(?=.*\d).{8,}$", "passw0rd", false),
            (r"^(?=.*[A-Z])(?=.*\d).{8,}$", "********", false),
            (r"^(?!(a|b)c\))[abc]", "acc", true),
            (r"^(?!(a|b)c\))[abc]", "bc)", false),
            (r"^[^]+$", "a\n", true),
            (r"a[]|b", "ab", true),
            (r"^\u0061$", "a", true),
            (r"^\p{L}+$", "é", true),
            (r"^[\W]+$", "é-[^`{/", true),
            (r"[\W]", "azAZ09_", false),
            (r"^[^\D]+$", "09", true),
            (r"^[\D]+$", "a/:é", true),
            (r"\bé", "aé", true),
            (r"a\Bé", "aé", false),
            (r"^[(?i)]+$", "?i", true),
        ] {
            let compiled = Pattern::new(pattern).unwrap_or_else(|| panic!("{pattern}"));
            assert_eq!(compiled.matches(text), Some(matches), "{pattern} {text:?}");
        }
        for pattern in [
            "(",
            "[a",
            "*",
            "(?<n>a",
            r"^(.)\1$",
            r"a(?=b)",
            r"(?<!a)b",
            r"^(?!a)b|c",
            r"^(?=a)*b",
            r"^(?!a(?=b))c",
            "(?i)a",
            "(?P<n>a)",
            "^(?=(?s:.))a",
        ] {
            assert!(Pattern::new(pattern).is_none(), "{pattern}");
        }
        for (pattern, told) in [
            ("^a+$", Some(true)),
            ("", Some(true)),
            ("(", Some(false)),
            ("[a", Some(false)),
            ("^(?!a)b", Some(true)),
            (r"a(?=b)", None),
            (r"^(.)\1$", None),
        ] {
            assert_eq!(is_expression(pattern), told, "{pattern}");
        }
    }

    #[test]
    fn no_expression_takes_long() {
        let text = "a".repeat(TEXT_BYTES_MAX);
        let near = format!("{}b", &text[1..]);
        assert_eq!(Pattern::new(r"^(a+)+$").unwrap().matches(&near), Some(false));
        assert!(Pattern::new(r"((a{1,100}){1,100}){1,100}").is_none());
        assert!(Pattern::new(&r"\pL?".repeat(SCRIPTS_MAX + 1)).is_none());
        assert!(Pattern::new(&"a".repeat(PATTERN_BYTES_MAX + 1)).is_none());
        assert_eq!(Pattern::new("a").unwrap().matches(&format!("{text}a")), None);
    }
}
