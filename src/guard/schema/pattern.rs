//! Expressions of ECMA-262, as `pattern` and `patternProperties` hold them.

use fancy_regex::{Regex, RegexBuilder};

/// Bound: bytes of one expression. Those of libraries that check addresses have a few hundred.
pub(super) const PATTERN_BYTES_MAX: usize = 4 << 10;
/// Bound: bytes of a text that is held against an expression.
pub(super) const TEXT_BYTES_MAX: usize = 16 << 10;
/// Bound: steps back of one search, where an expression looks around or refers to what it has read. Others
/// are searched without stepping back.
const BACKTRACK_MAX: usize = 10_000;
/// Bound: bytes of the automaton of one expression; a class of letters of all scripts has 20 KiB.
const AUTOMATON_BYTES_MAX: usize = 128 << 10;

/// An expression that can be searched for.
pub(super) struct Pattern(Regex);

impl Pattern {
    /// Compiles an expression; `None` when it is over a bound or not understood.
    pub(super) fn new(text: &str) -> Option<Pattern> {
        if text.len() > PATTERN_BYTES_MAX {
            return None;
        }
        let mut builder = RegexBuilder::new(&translated(text));
        builder
            .backtrack_limit(BACKTRACK_MAX)
            .delegate_size_limit(AUTOMATON_BYTES_MAX)
            .delegate_dfa_size_limit(AUTOMATON_BYTES_MAX);
        builder.build().ok().map(Pattern)
    }

    /// Whether it matches somewhere in `text`; `None` over a bound.
    pub(super) fn matches(&self, text: &str) -> Option<bool> {
        (text.len() <= TEXT_BYTES_MAX).then(|| self.0.is_match(text).ok()).flatten()
    }
}

/// The expression in the engine's dialect: digits and words are those of ASCII, and in a class only `^`, `-`,
/// `\` and `]` mean something.
fn translated(text: &str) -> String {
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
                match (escaped, class) {
                    ('d', false) => out.push_str("[0-9]"),
                    ('D', false) => out.push_str("[^0-9]"),
                    ('w', false) => out.push_str("[0-9A-Za-z_]"),
                    ('W', false) => out.push_str("[^0-9A-Za-z_]"),
                    ('d', true) => out.push_str("0-9"),
                    ('w', true) => out.push_str("0-9A-Za-z_"),
                    ('b', true) => out.push_str("\\x08"),
                    ('0', _) => out.push_str("\\x00"),
                    ('/', _) => out.push('/'),
                    _ => out.extend([sign, escaped]),
                }
                last = None;
                continue;
            }
            '[' if class => out.push_str("\\["),
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
    out
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
            (r"^(.)\1$", "aa", true),
            (r"^\u0061$", "a", true),
            (r"^\p{L}+$", "é", true),
        ] {
            let compiled = Pattern::new(pattern).unwrap_or_else(|| panic!("{pattern}"));
            assert_eq!(compiled.matches(text), Some(matches), "{pattern} {text:?}");
        }
        for pattern in ["(", "[a", "*", "(?<n>a"] {
            assert!(Pattern::new(pattern).is_none(), "{pattern}");
        }
    }

    #[test]
    fn no_expression_takes_long() {
        let text = "a".repeat(TEXT_BYTES_MAX);
        let near = format!("{}b", &text[1..]);
        assert_ne!(Pattern::new(r"^(a|a)*\1(?=c)").unwrap().matches(&near), Some(true));
        assert_eq!(Pattern::new(r"^(a+)+$").unwrap().matches(&near), Some(false));
        assert!(Pattern::new(r"((a{1,100}){1,100}){1,100}").is_none());
        assert!(Pattern::new(&"a".repeat(PATTERN_BYTES_MAX + 1)).is_none());
        assert_eq!(Pattern::new("a").unwrap().matches(&format!("{text}a")), None);
    }
}
