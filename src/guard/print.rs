//! Prints one parsed pattern in Hyperscan's dialect.
//!
//! A rule's pattern is parsed once, by regex-syntax; the confirming expression is built from that tree
//! and this module prints the same tree, so the two engines cannot read one text differently (in
//! `(?x)`, `{1, 5}` is a repeat to one of them and literal text to the other).
//!
//! What is printed may match more than the rule, never less: anchors of the whole text are left out
//! (several views lie in one buffer), what follows the first long repeat is cut off, and a repeat at
//! the end shrinks to its minimum. Exact spans are the confirming expression's work.

use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

/// Repeats longer than this end the printed pattern: Hyperscan pays memory for every step.
const REPEAT_MAX: u32 = 128;
/// Repeats that can read more bytes than this end the printed pattern too: the shorter the texts that the
/// engine matches, the less must be decoded around an escape ([`super::views`]).
const REPEAT_BYTES_MAX: usize = 256;
/// Minimum kept of the repeat that ends a printed pattern.
const TAIL_MAX: u32 = 64;

/// Why a pattern cannot be a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrintFault {
    /// A repeat without an upper end.
    Unbounded,
    /// A look-around that Hyperscan does not have.
    Look,
    /// Matches nothing at all.
    Nothing,
    /// Can match the empty text.
    Empty,
}

impl PrintFault {
    /// Seen and allowed, in words.
    pub fn as_str(self) -> &'static str {
        match self {
            PrintFault::Unbounded => "a repeat without an upper bound; allowed: {m,n}",
            PrintFault::Look => "a look-around; allowed: \\b, \\B, ^ and $",
            PrintFault::Nothing => "a class that matches no byte",
            PrintFault::Empty => "the pattern can match nothing at all; allowed: at least one byte",
        }
    }
}

/// Checks `hir` for what no rule may hold and prints it for Hyperscan.
pub fn print(hir: &Hir) -> Result<String, PrintFault> {
    check(hir)?;
    if hir.properties().minimum_len().unwrap_or(0) == 0 {
        return Err(PrintFault::Empty);
    }
    let mut out = String::new();
    sequence(hir, &mut out, true);
    Ok(out)
}

/// Most bytes that a printed pattern matches; `None` for a text that is no pattern.
pub fn length_max(printed: &str) -> Option<usize> {
    let mut parser = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build();
    parser.parse(printed).ok()?.properties().maximum_len()
}

fn check(hir: &Hir) -> Result<(), PrintFault> {
    match hir.kind() {
        HirKind::Empty | HirKind::Literal(_) => Ok(()),
        HirKind::Class(class) => {
            let empty = match class {
                Class::Unicode(class) => class.ranges().is_empty(),
                Class::Bytes(class) => class.ranges().is_empty(),
            };
            if empty { Err(PrintFault::Nothing) } else { Ok(()) }
        }
        HirKind::Look(look) => match look {
            Look::Start
            | Look::End
            | Look::StartLF
            | Look::EndLF
            | Look::WordAscii
            | Look::WordAsciiNegate => Ok(()),
            _ => Err(PrintFault::Look),
        },
        HirKind::Repetition(repetition) => {
            if repetition.max.is_none() {
                return Err(PrintFault::Unbounded);
            }
            check(&repetition.sub)
        }
        HirKind::Capture(capture) => check(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().try_for_each(check),
    }
}

/// Prints `hir`; `tail` says that nothing follows it. True when what follows must be left out.
fn sequence(hir: &Hir, out: &mut String, tail: bool) -> bool {
    match hir.kind() {
        HirKind::Empty => false,
        HirKind::Literal(literal) => {
            literal.0.iter().for_each(|&byte| push_byte(byte, out));
            false
        }
        HirKind::Class(class) => {
            push_class(class, out);
            false
        }
        HirKind::Look(look) => {
            match look {
                Look::StartLF => out.push_str("(?m:^)"),
                Look::EndLF if !tail => out.push_str("(?m:$)"),
                Look::WordAscii if !tail => out.push_str("\\b"),
                Look::WordAsciiNegate if !tail => out.push_str("\\B"),
                _ => {}
            }
            false
        }
        HirKind::Repetition(repetition) => repeat(repetition, out, tail),
        HirKind::Capture(capture) => {
            out.push_str("(?:");
            let cut = sequence(&capture.sub, out, tail);
            out.push(')');
            cut
        }
        HirKind::Concat(parts) => {
            // What may read nothing, after the last part that must read, changes nothing but exactness.
            let reads = |part: &Hir| part.properties().minimum_len() != Some(0);
            let end = if tail { parts.iter().rposition(reads) } else { parts.len().checked_sub(1) };
            let last = end.unwrap_or(0);
            for (place, part) in parts.iter().enumerate().take(last + 1) {
                if sequence(part, out, tail && place >= last) {
                    return true;
                }
            }
            false
        }
        HirKind::Alternation(parts) => {
            out.push_str("(?:");
            let mut cut = false;
            for (place, part) in parts.iter().enumerate() {
                if place > 0 {
                    out.push('|');
                }
                cut |= sequence(part, out, tail);
            }
            out.push(')');
            cut
        }
    }
}

fn repeat(repetition: &Repetition, out: &mut String, tail: bool) -> bool {
    let max = repetition.max.unwrap_or(u32::MAX);
    let each = repetition.sub.properties().maximum_len().unwrap_or(usize::MAX);
    let long = max > REPEAT_MAX || each.saturating_mul(max as usize) > REPEAT_BYTES_MAX;
    let (low, high) = if long || tail {
        let low = repetition.min.min(TAIL_MAX);
        (low, low)
    } else {
        (repetition.min, max)
    };
    if high > 0 {
        let mut inner = String::new();
        // Inside a repeat something always follows, except in its last round.
        if sequence(&repetition.sub, &mut inner, false) {
            out.push_str("(?:");
            out.push_str(&inner);
            out.push(')');
            if low == 0 {
                out.push('?');
            }
            return true;
        }
        out.push_str("(?:");
        out.push_str(&inner);
        out.push_str(&format!("){{{low},{high}}}"));
    }
    long
}

fn push_byte(byte: u8, out: &mut String) {
    if byte.is_ascii_alphanumeric() {
        out.push(byte as char);
    } else {
        out.push_str(&format!("\\x{byte:02x}"));
    }
}

fn push_class(class: &Class, out: &mut String) {
    out.push('[');
    let mut range = |low: u8, high: u8| {
        out.push_str(&format!("\\x{low:02x}"));
        if low != high {
            out.push_str(&format!("-\\x{high:02x}"));
        }
    };
    match class {
        Class::Bytes(class) => {
            class.ranges().iter().for_each(|bytes| range(bytes.start(), bytes.end()))
        }
        // Patterns are parsed with Unicode off: a class of characters holds ASCII only.
        Class::Unicode(class) => class
            .ranges()
            .iter()
            .for_each(|chars| range(chars.start() as u8, chars.end().min('\u{7f}') as u8)),
    }
    out.push(']');
}

/// Whether the part of `hir` that becomes the secret (its capture groups, else all of it) can hold
/// `byte`.
pub fn secret_can_hold(hir: &Hir, byte: u8) -> bool {
    fn holds(hir: &Hir, byte: u8) -> bool {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => false,
            HirKind::Literal(literal) => literal.0.contains(&byte),
            HirKind::Class(Class::Bytes(class)) => {
                class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&byte))
            }
            HirKind::Class(Class::Unicode(class)) => class
                .ranges()
                .iter()
                .any(|range| (range.start()..=range.end()).contains(&(byte as char))),
            HirKind::Repetition(repetition) => holds(&repetition.sub, byte),
            HirKind::Capture(capture) => holds(&capture.sub, byte),
            HirKind::Concat(parts) | HirKind::Alternation(parts) => {
                parts.iter().any(|part| holds(part, byte))
            }
        }
    }
    fn in_captures(hir: &Hir, byte: u8) -> bool {
        match hir.kind() {
            HirKind::Capture(capture) => holds(&capture.sub, byte),
            HirKind::Repetition(repetition) => in_captures(&repetition.sub, byte),
            HirKind::Concat(parts) | HirKind::Alternation(parts) => {
                parts.iter().any(|part| in_captures(part, byte))
            }
            _ => false,
        }
    }
    if hir.properties().explicit_captures_len() == 0 {
        holds(hir, byte)
    } else {
        in_captures(hir, byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(pattern: &str) -> Hir {
        regex_syntax::ParserBuilder::new()
            .unicode(false)
            .utf8(false)
            .build()
            .parse(pattern)
            .unwrap()
    }

    #[test]
    fn the_printed_form_keeps_the_front_and_cuts_the_end() {
        assert_eq!(
            print(&tree(r"\bghp_[a-c]{36,255}\b")).unwrap(),
            r"\bghp\x5f(?:[\x61-\x63]){36,36}"
        );
        assert_eq!(print(&tree(r"eyJ[a-c]{8,512}\.x")).unwrap(), r"eyJ(?:[\x61-\x63]){8,8}");
        assert_eq!(
            print(&tree(r"(?i)k[:=] {0,2}(a{3})")).unwrap(),
            r"[\x4b\x6b][\x3a\x3d](?:\x20){0,2}(?:(?:[\x41\x61]){3,3})"
        );
        assert_eq!(print(&tree(r"^a|b$")).unwrap(), "(?:a|b)");
        let both = r"(?:\b|_)(x[a-c]{3,4})(?:\b|_)";
        assert_eq!(print(&tree(both)).unwrap(), r"(?:\b|\x5f)(?:x(?:[\x61-\x63]){3,3})");
        assert_eq!(print(&tree("(?:a(?:b{0,2})c|d)e{0,3}")).unwrap(), "(?:a(?:b){0,2}c|d)");
        // In the dialect of regex-syntax this is a repeat; printed, it is one for Hyperscan too.
        assert_eq!(print(&tree(r"(?x) a{1, 5} b")).unwrap(), "(?:a){1,5}b");
    }

    #[test]
    fn what_cannot_be_bounded_is_refused() {
        assert_eq!(print(&tree("a+")), Err(PrintFault::Unbounded));
        assert_eq!(print(&tree("a{0,3}")), Err(PrintFault::Empty));
        assert_eq!(print(&tree(r"\b{start-half}a")), Err(PrintFault::Look));
    }

    #[test]
    fn the_secret_is_looked_at_and_its_context_is_not() {
        assert!(!secret_can_hold(&tree(r#""k":"([a-z]{3})""#), b'"'));
        assert!(secret_can_hold(&tree(r#""k":"([^ ]{3})""#), b'"'));
        assert!(secret_can_hold(&tree(r"a\\b"), b'\\'));
    }
}
