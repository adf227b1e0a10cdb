//! Words that a rule looks for around a match, all of them in one pass and in any case.
//!
//! Finds them as they stand; what counts as a word there is the caller's to say.

use std::ops::Range;

use aho_corasick::AhoCorasick;

/// Words in lower case, and what finds all of them in one pass whatever their case.
#[derive(Debug, Clone, Default)]
pub struct Words {
    names: Vec<String>,
    automaton: Option<AhoCorasick>,
}

impl Words {
    /// Words in lower case.
    pub fn new(words: &[String]) -> Words {
        Words { names: words.to_vec(), automaton: any_case(words) }
    }

    /// The words, for people.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// No words.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Where they stand in `text`, also one within another.
    pub(super) fn places(&self, text: &[u8]) -> impl Iterator<Item = Range<usize>> {
        let found = self.automaton.iter().flat_map(move |all| all.find_overlapping_iter(text));
        found.map(|found| found.range())
    }
}

/// Words of which a label must hold one, in lower case; one that begins with `=` must be the whole label.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    names: Vec<String>,
    parts: Option<AhoCorasick>,
}

impl Labels {
    /// Words in lower case.
    pub fn new(words: &[String]) -> Labels {
        let parts = any_case(words.iter().filter(|word| !word.starts_with('=')));
        Labels { names: words.to_vec(), parts }
    }

    /// The words, for people.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// No words.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether `label` holds one of them.
    pub(super) fn says(&self, label: &[u8]) -> bool {
        self.parts.as_ref().is_some_and(|parts| parts.is_match(label))
            || self.names.iter().any(|word| {
                word.strip_prefix('=')
                    .is_some_and(|whole| whole.as_bytes().eq_ignore_ascii_case(label))
            })
    }
}

/// What finds `words` in any case; `None` for none.
///
/// # Panics
/// Never: words come from a rule file or are written here, which is far below the automaton's bound of 2^31 states.
pub(super) fn any_case<W: AsRef<[u8]>>(words: impl IntoIterator<Item = W>) -> Option<AhoCorasick> {
    let words: Vec<W> = words.into_iter().collect();
    let build = || {
        AhoCorasick::builder().ascii_case_insensitive(true).build(&words).expect("words are few")
    };
    (!words.is_empty()).then(build)
}
