//! One function for each section of the configuration file. Each reads what it can, reports every
//! problem, and puts a harmless value where one was wrong, so that the others can still be read.

mod grants;
mod guard;
mod host;
mod issuers;
mod listen;
mod record;
mod upstreams;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::app::certificates;
use crate::app::config::problem::{At, Problem, Problems};
use crate::app::config::table::{Section, as_strings};
use crate::app::config::value::HttpUrl;
use crate::app::config::{Config, Files};

/// Upstreams, grants and listeners are numbered with 16 bits.
const ENTRIES_MAX: usize = 4096;

/// What every section needs: where the file stands, and whether to look at other files.
struct Reading<'a> {
    base: &'a Path,
    files: Files,
    problems: Problems,
}

impl Reading<'_> {
    fn path(&self, text: &At<&str>) -> At<PathBuf> {
        text.with(self.base.join(text.value))
    }

    fn checks_files(&self) -> bool {
        self.files >= Files::Check
    }
}

/// Reads the whole file.
pub(super) fn config(text: &str, path: &Path, files: Files) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems::new(text);
    let (document, broken) = DeTable::parse_recoverable(text);
    for error in &broken {
        problems.broken(error.span().map_or(0, |span| span.start), error.message());
    }
    let base = path.parent().unwrap_or(Path::new(""));
    let mut reading = Reading { base, files, problems };
    let mut root = Section::root(document.get_ref());

    let limits = host::limits(&mut root, &mut reading);
    let workers = host::workers(&mut root, &mut reading);
    let listens = listen::listens(&mut root, &mut reading);
    let issuers = issuers::issuers(&mut root, &mut reading);
    let upstreams = upstreams::upstreams(&mut root, &mut reading, &limits);
    let record = record::record(&mut root, &mut reading);
    // What is wrong with [record] is told there, not again at each grant.
    let seals = record.as_ref().is_none_or(|record| !record.seal_to.is_empty());
    let grants = grants::grants(&mut root, &mut reading, &upstreams, &issuers, seals);
    let deny_file = grants::deny(&mut root, &mut reading);
    let guard = guard::guard(&mut root, &mut reading);
    let admin = listen::admin(&mut root, &mut reading);
    root.finish(&mut reading.problems);

    let problems = reading.problems.into_sorted();
    let (Some(record), true) = (record, problems.is_empty()) else { return Err(problems) };
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let (key, allowed) = ("syntax".to_owned(), "a TOML 1.0 document".to_owned());
        vec![Problem { line: None, key, seen: error.message().to_owned(), allowed }]
    })?;
    let public_text = toml::to_string(&table).unwrap_or_default();
    let mut config = Config {
        path: path.to_owned(),
        workers,
        listens: listens.into_iter().flatten().collect(),
        issuers: issuers.into_iter().filter_map(|named| named.entry).collect(),
        upstreams: upstreams.into_iter().filter_map(|named| named.entry).collect(),
        grants,
        deny_file,
        guard,
        record,
        limits,
        admin,
        warnings: Vec::new(),
        public_text,
    };
    config.warnings = warnings(&config);
    if files >= Files::Check {
        config.warnings.extend(certificates::warnings(&config));
    }
    Ok(config)
}

fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, upstream) in config.upstreams.iter().enumerate() {
        let name = &upstream.name;
        if !config.grants.iter().any(|grant| usize::from(grant.upstream) == index) {
            warnings.push(format!("no grant names upstream {name}: every call to it is refused"));
        }
        let plain =
            HttpUrl::parse(&upstream.resource).is_ok_and(|url| !url.secure && !url.is_loopback());
        if plain {
            warnings.push(format!(
                "the resource of upstream {name} is plain http beyond this host: tokens can be read on the way"
            ));
        }
    }
    for listen in &config.listens {
        if listen.tls.is_none() && !listen.address.ip().is_loopback() {
            warnings.push(format!(
                "the listener {} is plain http beyond this host: without a proxy that ends TLS in front \
                 of it, tokens can be read on the way",
                listen.address
            ));
        }
    }
    if config.admin.is_some_and(|address| !address.ip().is_loopback()) {
        warnings.push(
            "the admin address is not on loopback: it answers anyone who reaches it".to_owned(),
        );
    }
    if !config.guard.builtin && config.guard.rule_files.is_empty() {
        warnings.push("no scan rules are configured: only known secrets are found".to_owned());
    }
    warnings
}

/// The word of `words` that stands there.
fn word<T: Copy>(
    at: Option<At<&str>>,
    words: &[(&'static str, T)],
    problems: &mut Problems,
) -> Option<T> {
    let at = at?;
    let found = words.iter().find(|(word, _)| *word == at.value).map(|(_, value)| *value);
    if found.is_none() {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        problems.at(&at, format!("{:?}", at.value), words.join(", "));
    }
    found
}

/// An entry that others refer to by name. The name is kept even where the rest has a problem, so that
/// those who refer to it are not called wrong too.
struct Named<T> {
    /// The text that stands for the name; `None` when there is none.
    name: Option<String>,
    /// That text is there and may be a name.
    is_well_named: bool,
    /// `None` when something in it is a problem.
    entry: Option<T>,
}

/// Reports values that were given before.
fn distinct<'a>(values: impl IntoIterator<Item = &'a At<String>>, problems: &mut Problems) {
    let mut first: BTreeMap<&str, u32> = BTreeMap::new();
    for at in values {
        match first.get(at.value.as_str()) {
            None => {
                first.insert(&at.value, at.line);
            }
            Some(line) => {
                let seen = format!("{:?}, which line {line} has too", at.value);
                problems.at(at, seen, "a value that no other entry has");
            }
        }
    }
}

/// `Some(())` when `check` accepts the string, else a problem.
fn accept<T>(
    at: &At<&str>,
    check: impl Fn(&str) -> Result<T, &'static str>,
    problems: &mut Problems,
) -> Option<T> {
    match check(at.value) {
        Ok(value) => Some(value),
        Err(allowed) => {
            problems.at(at, format!("{:?}", at.value), allowed);
            None
        }
    }
}

/// Non-empty strings; an empty list is a problem too.
fn names(
    list: Option<Vec<At<&str>>>,
    list_place: At<()>,
    problems: &mut Problems,
) -> Option<Vec<String>> {
    let list = list?;
    if list.is_empty() {
        problems.at(&list_place, "an empty list", "at least one entry, or no such key");
    }
    let mut names = Vec::new();
    for at in list {
        match at.value {
            "" => problems.at(&at, "an empty string", "a string that is not empty"),
            text => names.push(text.to_owned()),
        }
    }
    Some(names)
}

/// The list of non-empty strings under `key`.
fn name_list(
    section: &mut Section<'_>,
    key: &'static str,
    problems: &mut Problems,
) -> Option<Vec<String>> {
    let at = section.value(key, problems)?;
    let strings = as_strings(&at, problems);
    names(strings, at.with(()), problems)
}
