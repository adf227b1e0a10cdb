//! `[[upstream]]`: the servers behind the gateway.

use super::{ENTRIES_MAX, Named, Reading, accept, distinct};
use crate::app::certificates;
use crate::app::config::problem::{At, Problems};
use crate::app::config::table::{Section, as_strings};
use crate::app::config::value::{self, HttpUrl};
use crate::app::config::{Credential, Files, Upstream};
use crate::app::config::{files, tls};
use crate::auth::metadata;
use crate::limits::Limits;
use crate::wire::coding::Coding;
use crate::worker::tls::open;

fn credential(section: &mut Section<'_>, reading: &mut Reading<'_>) -> Option<Credential> {
    let mut section = section.section("credential", &mut reading.problems)?;
    let header = section.required("header", "header = \"authorization\"", &mut reading.problems);
    let header =
        header.filter(|at| accept(at, value::credential_header, &mut reading.problems).is_some());
    let file = section.required("file", "file = \"…\"", &mut reading.problems);
    let file = file.map(|at| reading.path(&at));
    if let (Some(at), true) = (&file, reading.checks_files()) {
        let remedy = "a file with the field's value, mode 600";
        let place = at.with(at.value.as_path());
        if let Some(bytes) = files::private(&place, remedy, &mut reading.problems) {
            // RFC 9110 §5.5: visible characters, spaces between them.
            let fits = |value: &[u8]| {
                value.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ')
                    && !value.starts_with(b" ")
                    && !value.ends_with(b" ")
            };
            if !files::one_secret(&bytes).is_some_and(fits) {
                let seen = format!("{}: no field value in it", at.value.display());
                reading.problems.at(at, seen, "one line of visible ASCII characters");
            }
        }
    }
    section.finish(&mut reading.problems);
    Some(Credential { header: header?.value.to_owned(), file: file?.value })
}

/// `decode = ["gzip"]` of an upstream.
fn decode(section: &mut Section<'_>, problems: &mut Problems) -> Vec<Coding> {
    let Some(at) = section.value("decode", problems) else { return Vec::new() };
    let names = Coding::ALL.map(Coding::as_str).join(", ");
    let mut codings = Vec::new();
    for at in as_strings(&at, problems).unwrap_or_default() {
        match Coding::ALL.into_iter().find(|coding| coding.as_str() == at.value) {
            Some(coding) => codings.push(coding),
            None => problems.at(&at, format!("{:?}", at.value), names.as_str()),
        }
    }
    codings
}

pub(super) fn upstreams(
    root: &mut Section<'_>,
    reading: &mut Reading<'_>,
    limits: &Limits,
) -> Vec<Named<Upstream>> {
    let sections = root.sections("upstream", &mut reading.problems);
    if sections.is_empty() {
        let allowed = "at least one, with name, path, url and resource";
        reading.problems.missing_table("[[upstream]]", allowed);
    }
    if let Some(section) = sections.get(ENTRIES_MAX) {
        let seen = format!("{} upstreams", sections.len());
        reading.problems.at(&section.place(), seen, format!("at most {ENTRIES_MAX}"));
    }
    let (mut names, mut paths, mut resources) = (Vec::new(), Vec::new(), Vec::new());
    let mut upstreams = Vec::new();
    let mut system = None;
    for mut section in sections.into_iter().take(ENTRIES_MAX) {
        let problems = &mut reading.problems;
        let mut text = |key, example, check: fn(&str) -> Result<(), _>, all: &mut Vec<_>| {
            let at = section.required(key, example, problems)?;
            all.push(at.with(at.value.to_owned()));
            accept(&at, check, problems).map(|()| at.value.to_owned())
        };
        let seen_before = names.len();
        let name = text("name", "name = \"codegen\"", value::name, &mut names);
        let written = names.get(seen_before).map(|at: &At<String>| at.value.clone());
        let path = text("path", "path = \"/codegen\"", value::upstream_path, &mut paths);
        // RFC 8707 §2: an absolute URI without a fragment; RFC 9728 §3: it says where the metadata is.
        let absolute = |text: &str| {
            const ALLOWED: &str = "the public URL, without query and fragment";
            HttpUrl::parse(text)?;
            metadata::metadata_path(text).map(|_| ()).map_err(|_| ALLOWED)
        };
        let example = "resource = \"https://mcp.example.com/codegen\"";
        let resource = text("resource", example, absolute, &mut resources);
        let url = section.required("url", "url = \"http://127.0.0.1:3001/mcp\"", problems);
        let url = url.and_then(|at| {
            let url = accept(&at, HttpUrl::parse, problems)?;
            Some(url)
        });
        let tls = tls::upstream(&mut section, reading.base, problems);
        if let (Some(at), Some(false)) = (&tls, url.as_ref().map(|url| url.secure)) {
            problems.at(at, "url is plain http", "an https:// URL, or no tls");
        }
        let mut connections = limits.upstream_connections_max;
        if let Some(at) = section.integer("connections", problems) {
            match u64::try_from(at.value) {
                Ok(value) if (1..=limits.upstream_connections_max).contains(&value) => {
                    connections = value;
                }
                _ => {
                    let allowed = format!("from 1 to {}", limits.upstream_connections_max);
                    problems.at(&at, at.value.to_string(), allowed);
                }
            }
        }
        let decode = decode(&mut section, problems);
        let credential = credential(&mut section, reading);
        let place = section.place();
        section.finish(&mut reading.problems);
        let is_well_named = name.is_some();
        let entry = (|| {
            let (name, path, url, resource) = (name?, path?, url?, resource?);
            let (place, tls) = match tls {
                Some(at) => (at.with(()), Some(at.value)),
                None => (At { key: format!("{}.tls", place.key), ..place }, None),
            };
            let entry =
                Upstream { name, path, url, tls, resource, credential, decode, connections };
            if reading.files >= Files::Check && entry.url.secure {
                let system = system.get_or_insert_with(|| open::system_roots().0);
                if let Err(faults) = certificates::connector(&entry, system) {
                    tls::tell(&place, faults, &mut reading.problems);
                }
            }
            Some(entry)
        })();
        upstreams.push(Named { name: written, is_well_named, entry });
    }
    distinct(&names, &mut reading.problems);
    distinct(&paths, &mut reading.problems);
    // Why: the metadata of two resources on one path could not both be served.
    for at in &mut resources {
        if let Ok(path) = metadata::metadata_path(&at.value) {
            at.value = path;
        }
    }
    distinct(&resources, &mut reading.problems);
    upstreams
}
