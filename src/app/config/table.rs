//! Reading tables of a spanned TOML document: typed access by key, with every wrong type, missing key
//! and unknown key gathered as a problem instead of ending the reading.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{At, Problems};

/// One table being read. [`Section::finish`] reports the keys that nobody asked for.
pub(super) struct Section<'a> {
    name: String,
    line: u32,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

/// What kind of value stands there, in words, without its text: it may be a secret.
fn kind(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(_) => "a string".to_owned(),
        DeValue::Integer(number) => format!("the integer {number}"),
        DeValue::Float(_) => "a float".to_owned(),
        DeValue::Boolean(value) => format!("the boolean {value}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

impl<'a> Section<'a> {
    /// The document itself.
    pub(super) fn root(table: &'a DeTable<'a>) -> Section<'a> {
        Section { name: String::new(), line: 1, table, known: Vec::new() }
    }

    fn key(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// This table as a place.
    pub(super) fn place(&self) -> At<()> {
        At { value: (), line: self.line, key: self.name.clone() }
    }

    /// Something stands under `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value of `key`, whatever its type.
    pub(super) fn value(
        &mut self,
        key: &'static str,
        problems: &Problems,
    ) -> Option<At<&'a DeValue<'a>>> {
        self.known.push(key);
        let (name, value) = self.table.get_key_value(key)?;
        let line = problems.line(name.span().start);
        Some(At { value: value.get_ref(), line, key: self.key(key) })
    }

    /// The string under `key`.
    pub(super) fn string(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<At<&'a str>> {
        let at = self.value(key, problems)?;
        as_string(&at, problems)
    }

    /// The string under `key`, which has to be there.
    pub(super) fn required(
        &mut self,
        key: &'static str,
        allowed: &str,
        problems: &mut Problems,
    ) -> Option<At<&'a str>> {
        if !self.table.contains_key(key) {
            self.known.push(key);
            problems.missing(self.key(key), self.line, allowed);
            return None;
        }
        self.string(key, problems)
    }

    /// The integer under `key`.
    pub(super) fn integer(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<At<i64>> {
        let at = self.value(key, problems)?;
        let number = as_integer(at.value);
        if number.is_none() {
            problems.at(&at, kind(at.value), "an integer");
        }
        number.map(|number| at.with(number))
    }

    /// The list of strings under `key`; entries of another type are reported and left out.
    pub(super) fn strings(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<Vec<At<&'a str>>> {
        let at = self.value(key, problems)?;
        as_strings(&at, problems)
    }

    /// The table under `key`.
    pub(super) fn section(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<Section<'a>> {
        let at = self.value(key, problems)?;
        match at.value {
            DeValue::Table(table) => {
                // Why: a dotted or nested header has no span of its own that names its line well; the
                // line of the key is the line of the header.
                Some(Section { name: at.key, line: at.line, table, known: Vec::new() })
            }
            other => {
                problems.at(&at, kind(other), format!("a table: [{}]", at.key));
                None
            }
        }
    }

    /// The tables of the list `[[key]]`, in the order of the file.
    pub(super) fn sections(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Vec<Section<'a>> {
        let Some(at) = self.value(key, problems) else { return Vec::new() };
        let DeValue::Array(items) = at.value else {
            problems.at(&at, kind(at.value), format!("a list of tables: [[{}]]", at.key));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let name = format!("{}[{index}]", at.key);
            let line = problems.line(item.span().start);
            match item.get_ref() {
                DeValue::Table(table) => {
                    sections.push(Section { name, line, table, known: Vec::new() });
                }
                other => {
                    let place = At { value: (), line, key: name };
                    problems.at(&place, kind(other), format!("a table: [[{}]]", at.key));
                }
            }
        }
        sections
    }

    /// Every member with its place, for tables whose keys are free.
    pub(super) fn members(&self, problems: &Problems) -> Vec<(String, At<&'a DeValue<'a>>)> {
        let place = |name: &Spanned<_>| problems.line(name.span().start);
        self.table
            .iter()
            .map(|(name, value)| {
                let text = name.get_ref().to_string();
                let key = self.key(&text);
                (text, At { value: value.get_ref(), line: place(name), key })
            })
            .collect()
    }

    /// Reports the keys that are not known here.
    pub(super) fn finish(self, problems: &mut Problems) {
        let known = &self.known;
        for (text, at) in self.members(problems) {
            if !known.contains(&text.as_str()) {
                problems.at(&at, "unknown key", allowed_keys(&text, known));
            }
        }
    }
}

/// The string at this place.
pub(super) fn as_string<'a>(
    at: &At<&'a DeValue<'a>>,
    problems: &mut Problems,
) -> Option<At<&'a str>> {
    match at.value {
        DeValue::String(text) => Some(at.with(text.as_ref())),
        other => {
            problems.at(at, kind(other), "a string");
            None
        }
    }
}

/// The strings of the list at this place.
pub(super) fn as_strings<'a>(
    at: &At<&'a DeValue<'a>>,
    problems: &mut Problems,
) -> Option<Vec<At<&'a str>>> {
    let DeValue::Array(items) = at.value else {
        problems.at(at, kind(at.value), "a list of strings");
        return None;
    };
    let mut strings = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let line = problems.line(item.span().start);
        let place = At { value: item.get_ref(), line, key: format!("{}[{index}]", at.key) };
        strings.extend(as_string(&place, problems));
    }
    Some(strings)
}

/// The integer in `value`, if it is one that fits 64 bits.
pub(super) fn as_integer(value: &DeValue<'_>) -> Option<i64> {
    let DeValue::Integer(number) = value else { return None };
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// The kind of `value` in words.
pub(super) fn kind_of(value: &DeValue<'_>) -> String {
    kind(value)
}

/// "did you mean", when one known word is close; else the whole list.
pub(super) fn allowed_keys(seen: &str, known: &[&str]) -> String {
    let closest = known.iter().min_by_key(|word| distance(seen, word));
    match closest {
        Some(word) if distance(seen, word) <= 1 + word.len() / 4 => {
            format!("did you mean `{word}`?")
        }
        // Bound: the 60 bounds of [limits] would drown the message.
        _ if known.len() > 16 => "one of the bounds that the manual of [limits] lists".to_owned(),
        _ => known.join(", "),
    }
}

/// Edit distance with adjacent swaps counted once, in characters: a misspelling is rarely further away than two.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut older: Vec<usize> = Vec::new();
    let mut old: Vec<usize> = (0..=right.len()).collect();
    for (row, one) in left.iter().enumerate() {
        let mut new = vec![row + 1];
        for (column, other) in right.iter().enumerate() {
            let mut best = (old[column] + usize::from(one != other))
                .min(old[column + 1] + 1)
                .min(new[column] + 1);
            if row > 0 && column > 0 && *one == right[column - 1] && left[row - 1] == *other {
                best = best.min(older[column - 1] + 1);
            }
            new.push(best);
        }
        older = std::mem::replace(&mut old, new);
    }
    old[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_words_are_near_and_others_are_not() {
        assert_eq!(distance("adress", "address"), 1);
        assert_eq!(distance("ulr", "url"), 1);
        assert_eq!(distance("", "url"), 3);
        assert_eq!(allowed_keys("adress", &["address", "tls"]), "did you mean `address`?");
        assert_eq!(allowed_keys("colour", &["address", "tls"]), "address, tls");
    }
}
