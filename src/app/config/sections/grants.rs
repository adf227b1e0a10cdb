//! `[[grant]]` and `[deny]`: who may do what, and who may not any more.

use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::{ENTRIES_MAX, Named, Reading, name_list, names, word};
use crate::app::config::files;
use crate::app::config::problem::{At, Problems};
use crate::app::config::table::{Section, allowed_keys, as_string, as_strings, kind_of};
use crate::app::config::{Grant, MaskStyle, Release, Upstream};
use crate::auth::deny::DenyList;
use crate::auth::token::Issuer;
use crate::guard::Opaque;
use crate::record::Keep;

/// Reports references to names that are not there. Names that no entry has are forgiven as long as
/// as many entries lack a good name: those are the fault then.
fn referred<T>(
    references: &[At<String>],
    entries: &[Named<T>],
    what: &str,
    problems: &mut Problems,
) {
    let names: Vec<&str> = entries.iter().filter_map(|entry| entry.name.as_deref()).collect();
    let unknown: Vec<_> =
        references.iter().filter(|at| !names.contains(&at.value.as_str())).collect();
    let mut distinct_unknown: Vec<&str> = unknown.iter().map(|at| at.value.as_str()).collect();
    distinct_unknown.sort_unstable();
    distinct_unknown.dedup();
    if distinct_unknown.len() <= entries.iter().filter(|entry| !entry.is_well_named).count() {
        return;
    }
    for at in unknown {
        let seen = format!("{:?} is no {what} of this file", at.value);
        problems.at(at, seen, allowed_keys(&at.value, &names));
    }
}

pub(super) fn grants(
    root: &mut Section<'_>,
    reading: &mut Reading<'_>,
    upstreams: &[Named<Upstream>],
    issuers: &[Named<Issuer>],
    seals: bool,
) -> Vec<Grant> {
    let problems = &mut reading.problems;
    let sections = root.sections("grant", problems);
    if let Some(section) = sections.get(ENTRIES_MAX) {
        let seen = format!("{} grants", sections.len());
        problems.at(&section.place(), seen, format!("at most {ENTRIES_MAX}"));
    }
    let (mut upstream_names, mut issuer_names) = (Vec::new(), Vec::new());
    // Why: an issuer that stands there twice is one fault, and not a reason for more at each grant.
    let mut issuer_urls: Vec<_> = issuers.iter().map(|named| &named.name).collect();
    issuer_urls.dedup_by(|one, other| one.is_some() && one == other);
    let mut grants = Vec::new();
    for mut section in sections.into_iter().take(ENTRIES_MAX) {
        let line = section.place().line;
        let upstream = section.required("upstream", "upstream = \"codegen\"", problems);
        let issuer = match issuer_urls.len() {
            0 | 1 => section.string("issuer", problems),
            _ => {
                let allowed = "the issuer's url: two issuers are configured, and a group or \
                               subject of one is nobody at the other";
                section.required("issuer", allowed, problems)
            }
        };
        upstream_names.extend(upstream.as_ref().map(|at| at.with(at.value.to_owned())));
        issuer_names.extend(issuer.as_ref().map(|at| at.with(at.value.to_owned())));

        let groups = name_list(&mut section, "groups", problems);
        let subjects = name_list(&mut section, "subjects", problems);
        let claims = claims(&mut section, problems);
        if groups.is_none() && subjects.is_none() && claims.is_none() {
            let place = section.place();
            let has_one = section
                .members(problems)
                .iter()
                .any(|(key, _)| ["groups", "subjects", "claims"].contains(&key.as_str()));
            if !has_one {
                problems.missing(
                    format!("{}.groups", place.key),
                    place.line,
                    "whom the grant is for: groups, subjects or claims",
                );
            }
        }
        let mut globs = |key| name_list(&mut section, key, problems).unwrap_or_default();
        let (tools, prompts) = (globs("tools"), globs("prompts"));
        let (resources, methods) = (globs("resources"), globs("methods"));
        let mask = word(section.string("mask", problems), MaskStyle::WORDS, problems);
        let release = word(section.string("release", problems), Release::WORDS, problems);
        let opaque = word(section.string("opaque", problems), Opaque::WORDS, problems);
        let opaque = opaque.unwrap_or_default();
        let kept_at = section.string("record", problems);
        let kept = word(kept_at.clone(), Keep::WORDS, problems).unwrap_or_default();
        if let (Keep::Sealed, Some(at), false) = (kept, kept_at, seals) {
            let allowed = "full or heads; sealed needs auditors to seal to: [record] seal_to";
            problems.at(&at, "\"sealed\"", allowed);
        }
        section.finish(problems);
        let position = upstream.and_then(|at| {
            upstreams.iter().position(|named| named.name.as_deref() == Some(at.value))
        });
        grants.extend(position.map(|upstream| Grant {
            line,
            upstream: upstream as u16,
            issuer: issuer.map(|at| at.value.to_owned()),
            groups: groups.unwrap_or_default(),
            subjects: subjects.unwrap_or_default(),
            claims: claims.unwrap_or_default(),
            tools,
            prompts,
            resources,
            methods,
            mask,
            release,
            record: kept,
            opaque,
        }));
    }
    referred(&upstream_names, upstreams, "upstream", problems);
    referred(&issuer_names, issuers, "issuer", problems);
    grants
}

/// `claims = { team = "x", level = ["a", "b"] }`.
fn claims(
    section: &mut Section<'_>,
    problems: &mut Problems,
) -> Option<Vec<(String, Vec<String>)>> {
    let section = section.section("claims", problems)?;
    let mut claims = Vec::new();
    for (claim, at) in section.members(problems) {
        let values = match at.value {
            DeValue::Array(_) => {
                let strings = as_strings(&at, problems);
                names(strings, at.with(()), problems)
            }
            DeValue::String(_) => as_string(&at, problems).map(|at| vec![at.value.to_owned()]),
            other => {
                problems.at(&at, kind_of(other), "a string, or a list of strings");
                None
            }
        };
        claims.extend(values.map(|values| (claim, values)));
    }
    if section.members(problems).is_empty() {
        problems.at(&section.place(), "an empty table", "at least one claim, or no such key");
    }
    Some(claims)
}

pub(super) fn deny(root: &mut Section<'_>, reading: &mut Reading<'_>) -> Option<PathBuf> {
    let mut section = root.section("deny", &mut reading.problems)?;
    let file = section.required("file", "file = \"deny.toml\"", &mut reading.problems);
    let file = file.map(|at| reading.path(&at));
    if let (Some(at), true) = (&file, reading.checks_files()) {
        let place = at.with(at.value.as_path());
        // Why: `revoke` makes the file; until then nobody is denied.
        if !at.value.exists() {
            files::parent(&place, &mut reading.problems);
        } else if files::readable(&place, &mut reading.problems)
            && let Err(faults) = read_deny(&at.value)
        {
            for (line, fault) in faults {
                let seen = format!("{}:{line}: {fault}", at.value.display());
                reading.problems.at(at, seen, "a deny file without faults");
            }
        }
    }
    section.finish(&mut reading.problems);
    file.map(|at| at.value)
}

/// Reads a deny file for its faults: line and words of each.
fn read_deny(path: &Path) -> Result<(), Vec<(u32, String)>> {
    let text = std::fs::read_to_string(path).map_err(|error| vec![(1, error.to_string())])?;
    let faults = DenyList::parse(&text).err().unwrap_or_default();
    let words: Vec<_> = faults
        .into_iter()
        .map(|fault| {
            let words = format!("{}: {}, allowed: {}", fault.key, fault.seen, fault.allowed);
            (fault.line, words)
        })
        .collect();
    if words.is_empty() { Ok(()) } else { Err(words) }
}
