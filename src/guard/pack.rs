//! Rule files: TOML to [`RuleSource`], with every fault of every file.
//!
//! Unknown keys are faults: a misspelt `action` must not leave a rule with its default.
//!
//! ```toml
//! schema = 1
//! [pack]
//! id = "mine"; version = "1"
//! [[rule]]
//! id = "acme-token"                    # a-z 0-9 and '-'
//! title = "ACME token"
//! category = "credential"              # credential | pii | custom
//! severity = "high"                    # low | medium | high | critical
//! pattern = '\bacme_([0-9a-f]{32})\b'  # regex-syntax, bytes; bounded repeats; the first group that
//!                                      # takes part is the secret, without groups the whole match
//!                                      # (?&to) and (?&pair): what stands between a name and its value
//! detector = "email"                   # for texts without a fixed part, instead of Hyperscan
//! validators = ["mixed"]               # all must hold
//! confirm = ["crc32-base62"]           # when these hold too, `on_confirmed` is the action
//! min_entropy = 3.0                    # bits a byte of the secret
//! context = ["acme"]                   # words before the match
//! context_within = 48                  # bytes
//! context_required = true
//! after = ["phone"]                    # label directly before the match, one of these needed
//! not_after = ["order"]                # label directly before the match that rules it out: a part of it,
//!                                      # `=ref` the whole of it, `*id` its last word
//! not_key = ["@number"]                # the same, for the key of a member only: with `:`, `=` or `>` behind it;
//!                                      # `@number` stands for a list of [labels]
//! action = "mask"                      # or { request = "block", response = "mask" }; also alert, off
//! on_confirmed = { request = "block" }
//! pseudonym = true
//! enabled = true
//! scope = { methods = ["tools/call"], upstreams = ["*"], tools = ["sql_*"], json_keys = ["arguments"] }
//!                                      # where it applies; globs, keys at any depth, all must hold
//! structured = "mask"                  # when its mask leaves structuredContent that the tool's outputSchema
//!                                      # refuses: "block" the answer, or "mask" it all the same
//! key_lines = false                    # true: the pattern finds the words before a key, and the secret is what looks
//!                                      # like its lines behind them, each by itself, up to the words PRIVATE KEY
//! allow_slow = false                   # true: loaded though it is dearer than `rules check` allows
//! tests = { match = ["…"], no_match = ["…"] }
//! [labels]                             # lists of labels under a name
//! number = ["*id", "*count"]
//! [[override]]                         # changes a rule of an earlier file
//! rule = "email"; action = "alert"; enabled = true; structured = "mask"
//! [[allow]]                            # values that are let through, and recorded with the action allow;
//!                                      # not for prefixed credentials
//! rule = "email"; pattern = '@acme\.example$'; reason = "our own"
//! ```

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::between::written_out;
use super::compile::RuleSource;
use super::detect::Detector;
use super::glob::Glob;
use super::rules::{Actions, CONTEXT_BYTES_MAX, Category, RuleFault};
use super::scope::Scope;
use super::structured::Structured;
use super::validate::Validator;
use crate::types::RuleAction;

/// Rules, overrides and allowed values of all files read so far.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) rules: Vec<RuleSource>,
    overrides: Vec<Override>,
    allows: Vec<Allow>,
}

#[derive(Debug)]
struct Override {
    file: String,
    line: u32,
    rule: String,
    actions: Option<Actions>,
    enabled: Option<bool>,
    structured: Option<Structured>,
}

#[derive(Debug)]
struct Allow {
    file: String,
    line: u32,
    rule: String,
    pattern: String,
}

impl Book {
    /// Applies overrides and allowed values; what names no rule is a fault.
    pub(super) fn settle(&mut self, faults: &mut Vec<RuleFault>) {
        let mut unknown = |file: &str, line: u32, id: &str| {
            faults.push(RuleFault {
                file: file.into(),
                line,
                rule: Some(id.into()),
                what: "no such rule; `rules list` names them".into(),
            });
        };
        for change in std::mem::take(&mut self.overrides) {
            match self.rules.iter_mut().find(|rule| rule.id == change.rule) {
                Some(rule) => {
                    rule.actions = change.actions.unwrap_or(rule.actions);
                    if change.actions.is_some() {
                        rule.on_confirmed = Actions::default();
                    }
                    rule.enabled = change.enabled.unwrap_or(rule.enabled);
                    rule.structured = change.structured.or(rule.structured);
                }
                None => unknown(&change.file, change.line, &change.rule),
            }
        }
        let mut refused = vec![];
        for allow in std::mem::take(&mut self.allows) {
            match self.rules.iter_mut().find(|rule| rule.id == allow.rule) {
                Some(rule)
                    if rule.category == Some(Category::Credential) && rule.entropy_min == 0.0 =>
                {
                    refused.push(RuleFault {
                        file: allow.file,
                        line: allow.line,
                        rule: Some(allow.rule),
                        what: "allow for a credential with a fixed form, which is one whatever it \
                               holds; allowed: personal data, rules of category custom, rules with \
                               min_entropy. An [[override]] of this rule may have action = \"alert\""
                            .into(),
                    });
                }
                Some(rule) => rule.allow.push(allow.pattern),
                None => unknown(&allow.file, allow.line, &allow.rule),
            }
        }
        faults.append(&mut refused);
    }
}

/// Reads one file into `book`; what is wrong goes to `faults` and reading goes on.
pub(super) fn read(file: &str, text: &str, book: &mut Book, faults: &mut Vec<RuleFault>) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { file, text, rule: None, labels: BTreeMap::new(), faults };
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        reader.fault(at, error.message().to_string());
    }
    let root = root.get_ref();
    reader.keys(root, &["schema", "pack", "labels", "rule", "override", "allow"], "the file");
    match root.get("schema") {
        Some(value)
            if value.get_ref().as_integer().is_some_and(|number| number.as_str() == "1") => {}
        Some(value) => {
            reader.fault(value.span().start, "schema of another version; allowed: 1".into())
        }
        None => reader.fault(0, "schema is missing; allowed: schema = 1".into()),
    }
    if let Some(table) = reader.table(root, "pack") {
        reader.keys(table, &["id", "version", "title"], "[pack]");
    }
    if let Some(table) = reader.table(root, "labels") {
        for name in table.keys() {
            let name = name.get_ref().as_ref();
            let words = reader.texts(table, name).into_iter().map(|(_, word)| word).collect();
            reader.labels.insert(name.to_owned(), words);
        }
    }
    for (line, table) in reader.tables(root, "rule") {
        if let Some(source) = reader.rule(table, line) {
            if let Some(other) = book.rules.iter().find(|other| other.id == source.id) {
                let what = format!(
                    "the id stands at {}:{} already; allowed: another id, or [[override]]",
                    other.file, other.line
                );
                reader.faults.push(RuleFault {
                    file: file.into(),
                    line,
                    rule: Some(source.id),
                    what,
                });
            } else {
                book.rules.push(source);
            }
        }
        reader.rule = None;
    }
    for (line, table) in reader.tables(root, "override") {
        reader.keys(table, &["rule", "action", "enabled", "structured", "reason"], "[[override]]");
        let rule = reader.text(table, "rule", true);
        let actions = reader.actions(table, "action");
        let enabled = reader.flag(table, "enabled");
        let structured = reader.structured(table);
        let file = file.into();
        book.overrides.push(Override { file, line, rule, actions, enabled, structured });
    }
    for (line, table) in reader.tables(root, "allow") {
        reader.keys(table, &["rule", "pattern", "reason"], "[[allow]]");
        let rule = reader.text(table, "rule", true);
        let pattern = reader.text(table, "pattern", true);
        book.allows.push(Allow { file: file.into(), line, rule, pattern });
    }
}

const RULE_KEYS: &[&str] = &[
    "id",
    "title",
    "category",
    "severity",
    "pattern",
    "detector",
    "validators",
    "confirm",
    "min_entropy",
    "context",
    "context_within",
    "context_required",
    "after",
    "not_after",
    "not_key",
    "action",
    "on_confirmed",
    "pseudonym",
    "enabled",
    "scope",
    "structured",
    "key_lines",
    "allow_slow",
    "tests",
];

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    rule: Option<String>,
    /// Lists of `[labels]`.
    labels: BTreeMap<String, Vec<String>>,
    faults: &'a mut Vec<RuleFault>,
}

impl<'a> Reader<'a> {
    fn line(&self, at: usize) -> u32 {
        let upto = &self.text.as_bytes()[..at.min(self.text.len())];
        1 + upto.iter().filter(|&&byte| byte == b'\n').count() as u32
    }

    fn fault(&mut self, at: usize, what: String) {
        let line = self.line(at);
        self.faults.push(RuleFault { file: self.file.into(), line, rule: self.rule.clone(), what });
    }

    fn keys(&mut self, table: &DeTable<'_>, allowed: &[&str], place: &str) {
        for key in table.keys() {
            if !allowed.contains(&key.get_ref().as_ref()) {
                let seen = key.get_ref();
                let what =
                    format!("unknown key `{seen}` in {place}; allowed: {}", allowed.join(", "));
                self.fault(key.span().start, what);
            }
        }
    }

    fn wrong(&mut self, value: &Spanned<DeValue<'_>>, key: &str, allowed: &str) {
        let seen = match value.get_ref() {
            DeValue::String(text) => format!("`{text}`"),
            other => other.type_str().to_string(),
        };
        self.fault(value.span().start, format!("{key}: {seen}; allowed: {allowed}"));
    }

    fn table<'t>(&mut self, table: &'t DeTable<'a>, key: &str) -> Option<&'t DeTable<'a>> {
        let value = table.get(key)?;
        let found = value.get_ref().as_table();
        if found.is_none() {
            self.wrong(value, key, "a table");
        }
        found
    }

    fn tables<'t>(&mut self, table: &'t DeTable<'a>, key: &str) -> Vec<(u32, &'t DeTable<'a>)> {
        let Some(value) = table.get(key) else { return vec![] };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value, key, "an array of tables");
            return vec![];
        };
        let mut out = vec![];
        for item in array.iter() {
            match item.get_ref().as_table() {
                Some(table) => {
                    // The span of an array-of-tables entry is its header; the first key is steadier.
                    let at =
                        table.keys().map(|key| key.span().start).min().unwrap_or(item.span().start);
                    out.push((self.line(at), table));
                }
                None => self.wrong(item, key, "a table"),
            }
        }
        out
    }

    fn text(&mut self, table: &DeTable<'a>, key: &str, required: bool) -> String {
        match table.get(key) {
            Some(value) => match value.get_ref().as_str() {
                Some(text) => text.to_string(),
                None => {
                    self.wrong(value, key, "a string");
                    String::new()
                }
            },
            None => {
                if required {
                    let at = table.keys().map(|key| key.span().start).min().unwrap_or(0);
                    self.fault(at, format!("{key} is missing"));
                }
                String::new()
            }
        }
    }

    fn flag(&mut self, table: &DeTable<'a>, key: &str) -> Option<bool> {
        let value = table.get(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong(value, key, "true or false");
        }
        flag
    }

    fn number(&mut self, table: &DeTable<'a>, key: &str, least: f32, most: f32) -> Option<f32> {
        let value = table.get(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) => number.as_str().parse::<f32>().ok(),
            DeValue::Float(number) => number.as_str().parse::<f32>().ok(),
            _ => None,
        }
        .filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.wrong(value, key, &format!("a number from {least} to {most}"));
        }
        number
    }

    fn texts(&mut self, table: &DeTable<'a>, key: &str) -> Vec<(usize, String)> {
        let Some(value) = table.get(key) else { return vec![] };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(value, key, "an array of strings");
            return vec![];
        };
        let mut out = vec![];
        for item in array.iter() {
            match item.get_ref().as_str() {
                Some(text) => out.push((item.span().start, text.to_string())),
                None => self.wrong(item, key, "a string"),
            }
        }
        out
    }

    /// Labels in lower case; `@NAME` is written out.
    fn labels(&mut self, table: &DeTable<'a>, key: &str) -> Vec<String> {
        let mut out = vec![];
        for (at, word) in self.texts(table, key) {
            let Some(name) = word.strip_prefix('@') else {
                out.push(word.to_ascii_lowercase());
                continue;
            };
            match self.labels.get(name) {
                Some(words) => out.extend(words.iter().map(|word| word.to_ascii_lowercase())),
                None => {
                    let known: Vec<&str> = self.labels.keys().map(String::as_str).collect();
                    let allowed = known.join(", ");
                    self.fault(
                        at,
                        format!(
                            "{key}: `{word}`; allowed: lists of [labels] in this file: {allowed}"
                        ),
                    );
                }
            }
        }
        out
    }

    fn validators(&mut self, table: &DeTable<'a>, key: &str) -> Vec<Validator> {
        let mut out = vec![];
        for (at, name) in self.texts(table, key) {
            match Validator::named(&name) {
                Some(validator) => out.push(validator),
                None => {
                    let allowed: Vec<&str> = Validator::ALL.iter().map(|(name, _)| *name).collect();
                    self.fault(at, format!("{key}: `{name}`; allowed: {}", allowed.join(", ")));
                }
            }
        }
        out
    }

    fn action(&mut self, value: &Spanned<DeValue<'_>>, key: &str) -> Option<RuleAction> {
        match value.get_ref().as_str() {
            Some("mask") => Some(RuleAction::Mask),
            Some("block") => Some(RuleAction::Block),
            Some("alert") => Some(RuleAction::Alert),
            Some("off") => None,
            _ => {
                self.wrong(value, key, "mask, block, alert, off");
                None
            }
        }
    }

    fn actions(&mut self, table: &DeTable<'a>, key: &str) -> Option<Actions> {
        let value = table.get(key)?;
        if let Some(sides) = value.get_ref().as_table() {
            self.keys(sides, &["request", "response"], key);
            let request = sides.get("request").and_then(|value| self.action(value, key));
            let response = sides.get("response").and_then(|value| self.action(value, key));
            return Some(Actions { request, response });
        }
        let action = self.action(value, key);
        Some(Actions { request: action, response: action })
    }

    fn structured(&mut self, table: &DeTable<'a>) -> Option<Structured> {
        let value = table.get("structured")?;
        let found = value.get_ref().as_str().and_then(Structured::named);
        if found.is_none() {
            self.wrong(value, "structured", "block, mask");
        }
        found
    }

    fn scope(&mut self, table: &DeTable<'a>) -> Scope {
        let Some(table) = self.table(table, "scope") else { return Scope::default() };
        self.keys(table, &["methods", "upstreams", "tools", "json_keys"], "scope");
        let mut plain = |key: &str| -> Vec<String> {
            self.texts(table, key).into_iter().map(|(_, text)| text).collect()
        };
        let json_keys = plain("json_keys");
        let mut globs = |key: &str| plain(key).iter().map(|text| Glob::new(text)).collect();
        Scope {
            methods: globs("methods"),
            upstreams: globs("upstreams"),
            tools: globs("tools"),
            json_keys,
        }
    }

    fn rule(&mut self, table: &DeTable<'a>, line: u32) -> Option<RuleSource> {
        let id = self.text(table, "id", true);
        self.rule = Some(id.clone());
        self.keys(table, RULE_KEYS, "[[rule]]");
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if let Some(value) = table.get("id")
            && (id.is_empty() || id.len() > 40 || !id.bytes().all(good))
        {
            self.wrong(value, "id", "1 to 40 of a-z, 0-9 and '-'");
        }
        let mut source = RuleSource {
            file: self.file.into(),
            line,
            title: self.text(table, "title", true),
            pattern: written_out(&self.text(table, "pattern", true)),
            severity: self.text(table, "severity", false),
            ..RuleSource::default()
        };
        if source.severity.is_empty() {
            source.severity = "high".into();
        } else if !["low", "medium", "high", "critical"].contains(&source.severity.as_str())
            && let Some(value) = table.get("severity")
        {
            self.wrong(value, "severity", "low, medium, high, critical");
        }
        let category = self.text(table, "category", true);
        source.category =
            Category::ALL.iter().find(|(name, _)| *name == category).map(|&(_, found)| found);
        if let (None, Some(value)) = (source.category, table.get("category")) {
            self.wrong(value, "category", "credential, pii, custom");
        }
        if let Some(value) = table.get("detector") {
            source.detector = value.get_ref().as_str().and_then(Detector::named);
            if source.detector.is_none() {
                let allowed: Vec<&str> = Detector::ALL.iter().map(|(name, _)| *name).collect();
                self.wrong(value, "detector", &allowed.join(", "));
            }
        }
        source.validators = self.validators(table, "validators");
        source.confirm = self.validators(table, "confirm");
        source.entropy_min = self.number(table, "min_entropy", 0.0, 8.0).unwrap_or(0.0);
        let context = self.texts(table, "context").into_iter();
        source.context = context.map(|(_, text)| text.to_ascii_lowercase()).collect();
        source.after = self.labels(table, "after");
        source.not_after = self.labels(table, "not_after");
        source.not_key = self.labels(table, "not_key");
        source.context_within = self
            .number(table, "context_within", 1.0, CONTEXT_BYTES_MAX as f32)
            .unwrap_or(48.0) as usize;
        source.context_required = self.flag(table, "context_required").unwrap_or(false);
        if source.context_required && source.context.is_empty() {
            self.fault(0, "context_required without context".into());
        }
        let mask = Actions { request: Some(RuleAction::Mask), response: Some(RuleAction::Mask) };
        source.actions = self.actions(table, "action").unwrap_or(mask);
        source.on_confirmed = self.actions(table, "on_confirmed").unwrap_or_default();
        source.pseudonym = self.flag(table, "pseudonym");
        source.scope = self.scope(table);
        source.structured = self.structured(table);
        source.key_lines = self.flag(table, "key_lines").unwrap_or(false);
        source.allow_slow = self.flag(table, "allow_slow").unwrap_or(false);
        source.enabled = self.flag(table, "enabled").unwrap_or(true);
        if let Some(tests) = self.table(table, "tests") {
            self.keys(tests, &["match", "no_match"], "tests");
            source.tests_match =
                self.texts(tests, "match").into_iter().map(|(_, text)| text).collect();
            source.tests_no_match =
                self.texts(tests, "no_match").into_iter().map(|(_, text)| text).collect();
        }
        source.id = id;
        (!source.pattern.is_empty() && !source.id.is_empty()).then_some(source)
    }
}
