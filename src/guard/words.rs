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
    /// Each begins with a letter, of any script.
    letters: bool,
}

impl Words {
    /// Words in lower case.
    pub fn new(words: &[String]) -> Words {
        let letters = words.iter().all(|word| word.bytes().next().is_some_and(is_letter));
        Words { names: words.to_vec(), automaton: any_case(words), letters }
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
        let from = if self.letters { first_letter(text) } else { 0 };
        let found =
            self.automaton.iter().flat_map(move |all| all.find_overlapping_iter(&text[from..]));
        found.map(move |found| from + found.start()..from + found.end())
    }
}

/// A letter, or a byte of a character beyond ASCII.
fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || !byte.is_ascii()
}

/// Where the first letter of `text` stands, or some bytes before it: around numbers there are often none, and many bytes are
/// asked at once.
fn first_letter(text: &[u8]) -> usize {
    let (chunks, rest) = text.as_chunks::<32>();
    let any = |bytes: &[u8]| bytes.iter().fold(false, |any, &byte| any | is_letter(byte));
    match chunks.iter().position(|chunk| any(chunk)) {
        Some(chunk) => chunk * 32,
        None => text.len() - if any(rest) { rest.len() } else { 0 },
    }
}

/// Words of which a label must hold one, in lower case; one that begins with `=` must be the whole label, one that
/// begins with `*` its last word (`*id`: `user_id` and `userId`, not `paid`).
#[derive(Debug, Clone, Default)]
pub struct Labels {
    names: Vec<String>,
    parts: Option<AhoCorasick>,
    /// Those that must be the whole label.
    wholes: Vec<String>,
    /// Those that must be its last word, in order.
    lasts: Vec<String>,
}

impl Labels {
    /// Words in lower case.
    pub fn new(words: &[String]) -> Labels {
        let parts = any_case(words.iter().filter(|word| !word.starts_with(['=', '*'])));
        let marked = |mark: char| {
            words.iter().filter_map(move |word| word.strip_prefix(mark)).map(str::to_owned)
        };
        let mut lasts: Vec<String> = marked('*').collect();
        lasts.sort_unstable();
        Labels { names: words.to_vec(), parts, wholes: marked('=').collect(), lasts }
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
            || self.wholes.iter().any(|whole| whole.as_bytes().eq_ignore_ascii_case(label))
            || (!self.lasts.is_empty() && self.is_last(last_word(label)))
    }

    fn is_last(&self, word: &[u8]) -> bool {
        let word = word.to_ascii_lowercase();
        self.lasts.binary_search_by(|last| last.as_bytes().cmp(&word)).is_ok()
    }
}

/// The last word of an identifier: `id` in `user_id`, `user-id`, `userId` and `userID`.
fn last_word(label: &[u8]) -> &[u8] {
    let is_part = |byte: &&u8| byte.is_ascii_alphanumeric();
    let length = label.iter().rev().take_while(is_part).count();
    let word = &label[label.len() - length..];
    let hump = |pair: &[u8]| !pair[0].is_ascii_uppercase() && pair[1].is_ascii_uppercase();
    match word.windows(2).rposition(hump) {
        Some(at) => &word[at + 1..],
        None => word,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    // Mutants: the first word is left out; the last one is; capitals are not folded; a word within another is passed over.
    #[test]
    fn every_word_is_found_in_any_case_also_within_another() {
        let words = Words::new(&owned(&["credit card", "card", "visa"]));
        let found = |text: &str| {
            let places = words.places(text.as_bytes());
            let mut found: Vec<_> = places.map(|place| text[place].to_owned()).collect();
            found.sort();
            found
        };
        assert_eq!(found("a CREDIT Card"), ["CREDIT Card", "Card"]);
        assert_eq!(found("ViSa, visa"), ["ViSa", "visa"]);
        assert!(found("credit, car, vis a").is_empty());
        assert_eq!(Words::default().places(b"card").count(), 0);
    }

    // Mutants: a chunk more is passed; words that begin with a digit are looked for behind the first letter too.
    #[test]
    fn a_word_behind_many_digits_is_found() {
        for (word, numbers) in [
            ("card", "4111, "),
            ("\u{43a}\u{430}\u{440}\u{442}\u{430}", "4111, "),
            ("2fa", "4111, "),
        ] {
            let words = Words::new(&owned(&[word]));
            for before in 0..100 {
                let front: String = numbers.chars().cycle().take(before).collect();
                let text = format!("{front}{word} x");
                let places: Vec<_> = words.places(text.as_bytes()).collect();
                assert_eq!(
                    places,
                    vec![Range { start: before, end: before + word.len() }],
                    "{text}"
                );
                assert_eq!(words.places(front.as_bytes()).count(), 0);
            }
        }
    }

    // Mutants: the first word is left out; capitals are not folded, of parts or of whole labels; `=` is a part of a word;
    // what ends in a whole label is one.
    #[test]
    fn a_label_holds_a_word_or_is_one() {
        let labels = Labels::new(&owned(&["order", "sku", "=id", "=no=1"]));
        for label in ["order", "my_Order_no", "SKU-1", "id", "ID", "No=1"] {
            assert!(labels.says(label.as_bytes()), "{label}");
        }
        for label in ["", "uid", "id_", "=id", "is=id", "orde", "=no=1"] {
            assert!(!labels.says(label.as_bytes()), "{label}");
        }
        assert!(!Labels::default().says(b"order"));
    }

    // Mutants: a hump is no border; capitals in a row are borders; an underscore is none; the whole label is compared;
    // case counts; the list is not in order.
    #[test]
    fn the_last_word_of_a_label_is_one_in_every_way_to_write_an_identifier() {
        let labels = Labels::new(&owned(&["*rows", "*id", "*count"]));
        for says in
            ["id", "ID", "user_id", "user-id", "userId", "userID", "USER_ID", "x2Id", "rowCount"]
        {
            assert!(labels.says(says.as_bytes()), "{says}");
        }
        for silent in ["", "paid", "PREPAID", "account", "id_card", "idCard", "userIds", "user_"] {
            assert!(!labels.says(silent.as_bytes()), "{silent}");
        }
    }
}
