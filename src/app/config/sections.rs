//! One function for each section of the configuration file. Each reads what it can, reports every
//! problem, and puts a harmless value where one was wrong, so that the others can still be read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::problem::{At, Problem, Problems};
use super::table::{Section, allowed_keys, as_integer, as_string, as_strings, kind_of};
use super::value::{self, HttpUrl};
use super::{
    Config, Cores, Credential, Files, Grant, Guard, KnownSecret, Listen, MaskStyle, Record,
    Release, Upstream, Workers,
};
use super::{files, tls};
use crate::app::certificates;
use crate::app::witness::asker::Witness;
use crate::auth::deny::DenyList;
use crate::auth::metadata;
use crate::auth::token::{Algorithm, Issuer};
use crate::guard::rules::KNOWN_BYTES_MIN;
use crate::guard::{Opaque, Structured};
use crate::limits::{Limits, Unit};
use crate::record::age::{RECIPIENTS_MAX, Recipient};
use crate::record::cosign::WitnessVerifier;
use crate::record::{Keep, keys};
use crate::wire::coding::Coding;
use crate::wire::proxy::Network;
use crate::worker::tls::open;

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

    let limits = limits(&mut root, &mut reading);
    let workers = workers(&mut root, &mut reading);
    let listens = listens(&mut root, &mut reading);
    let issuers = issuers(&mut root, &mut reading);
    let upstreams = upstreams(&mut root, &mut reading, &limits);
    let record = record(&mut root, &mut reading);
    // What is wrong with [record] is told there, not again at each grant.
    let seals = record.as_ref().is_none_or(|record| !record.seal_to.is_empty());
    let grants = grants(&mut root, &mut reading, &upstreams, &issuers, seals);
    let deny_file = deny(&mut root, &mut reading);
    let guard = guard(&mut root, &mut reading);
    let admin = admin(&mut root, &mut reading);
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

fn limits(root: &mut Section<'_>, reading: &mut Reading<'_>) -> Limits {
    let mut limits = Limits::default();
    let problems = &mut reading.problems;
    let Some(mut section) = root.section("limits", problems) else { return limits };
    for bound in Limits::BOUNDS {
        let Some(at) = section.value(bound.name, problems) else { continue };
        let number = as_integer(at.value).and_then(|number| u64::try_from(number).ok());
        let value = match (bound.unit, at.value) {
            (Unit::Count | Unit::Bytes, DeValue::Integer(_)) => number,
            (Unit::Bytes, DeValue::String(text)) => value::size_bytes(text),
            (Unit::Milliseconds, DeValue::String(text)) => value::duration_ms(text),
            _ => None,
        };
        match value {
            Some(value) if (bound.least..=bound.default).contains(&value) => {
                limits.set(bound.name, value);
            }
            Some(value) => {
                problems.at(&at, value::bound_text(bound.unit, value), value::bound_range(bound));
            }
            None => {
                let seen = match at.value {
                    DeValue::String(text) => format!("{text:?}"),
                    other => kind_of(other),
                };
                problems.at(&at, seen, value::bound_range(bound));
            }
        }
    }
    section.finish(problems);
    limits
}

fn workers(root: &mut Section<'_>, reading: &mut Reading<'_>) -> Workers {
    let mut workers = Workers { cores: Cores::Auto, ring_depth: 1024 };
    let problems = &mut reading.problems;
    let Some(mut section) = root.section("workers", problems) else { return workers };
    const ALLOWED: &str = "\"auto\" or a list of core numbers such as [0, 1]";
    if let Some(at) = section.value("cores", problems) {
        match at.value {
            DeValue::String(text) if text == "auto" => {}
            DeValue::Array(items) => {
                let mut cores: Vec<u16> = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let line = problems.line(item.span().start);
                    let place = At { value: (), line, key: format!("{}[{index}]", at.key) };
                    // Bound: the kernel's CPU_SETSIZE, the width of an affinity mask.
                    match as_integer(item.get_ref()).filter(|core| (0..1024).contains(core)) {
                        Some(core) if cores.contains(&(core as u16)) => {
                            problems.at(&place, format!("{core} a second time"), "distinct cores");
                        }
                        Some(core) => cores.push(core as u16),
                        None => {
                            problems.at(&place, kind_of(item.get_ref()), "a core from 0 to 1023")
                        }
                    }
                }
                if items.is_empty() {
                    problems.at(&at, "an empty list", ALLOWED);
                }
                // Bound: a worker's number has 8 bits in an exchange id.
                if cores.len() > 256 {
                    problems.at(&at, format!("{} cores", cores.len()), "at most 256 cores");
                }
                workers.cores = Cores::List(cores);
            }
            DeValue::String(text) => problems.at(&at, format!("{text:?}"), ALLOWED),
            other => problems.at(&at, kind_of(other), ALLOWED),
        }
    }
    if let Some(at) = section.integer("ring_depth", problems) {
        // Bound: io_uring takes at most 32768 entries and rounds up to a power of two.
        match u32::try_from(at.value) {
            Ok(depth) if (64..=32_768).contains(&depth) && depth.is_power_of_two() => {
                workers.ring_depth = depth;
            }
            _ => problems.at(&at, at.value.to_string(), "a power of two from 64 to 32768"),
        }
    }
    section.finish(problems);
    workers
}

fn socket_address(at: &At<&str>, problems: &mut Problems) -> Option<SocketAddr> {
    const ALLOWED: &str = "an address and a port such as 127.0.0.1:8080 or [::]:8080";
    accept(at, |text| text.parse().map_err(|_| ALLOWED), problems)
}

fn listens(root: &mut Section<'_>, reading: &mut Reading<'_>) -> Vec<Option<Listen>> {
    let problems = &mut reading.problems;
    let sections = root.sections("listen", problems);
    if sections.is_empty() {
        problems.missing_table("[[listen]]", "at least one, with address = \"127.0.0.1:8080\"");
    }
    let mut addresses = Vec::new();
    let mut listens = Vec::new();
    for mut section in sections {
        let at = section.required("address", "address = \"127.0.0.1:8080\"", problems);
        let address = at.as_ref().and_then(|at| {
            let address = socket_address(at, problems)?;
            if address.port() != 0 {
                addresses.push(at.with(address.to_string()));
            }
            Some(address)
        });
        let tls = tls::listen(&mut section, reading.base, problems);
        if let Some(at) = tls.as_ref().filter(|_| reading.files >= Files::Check)
            && let Err(faults) = certificates::acceptor(&at.value)
        {
            tls::tell(at, faults, problems);
        }
        let tls = tls.map(|at| at.value);
        let mut origins = Vec::new();
        for at in section.strings("origins", problems).unwrap_or_default() {
            if accept(&at, value::origin, problems).is_some() {
                origins.push(at.value.to_owned());
            }
        }
        let mut hosts = Vec::new();
        for at in section.strings("hosts", problems).unwrap_or_default() {
            if accept(&at, value::host_name, problems).is_some() {
                hosts.push(at.value.to_owned());
            }
        }
        let proxies = section.strings("proxy_protocol", problems).map(|list| {
            if list.is_empty() {
                let allowed = "at least one address, or no such key: with none nobody is let in";
                problems.at(&section.place(), "an empty list of proxy_protocol", allowed);
            }
            list.iter().filter_map(|at| accept(at, Network::parse, problems)).collect()
        });
        listens.push(address.map(|address| Listen { address, proxies, origins, hosts, tls }));
        section.finish(problems);
    }
    distinct(&addresses, problems);
    listens
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

fn issuers(root: &mut Section<'_>, reading: &mut Reading<'_>) -> Vec<Named<Issuer>> {
    let problems = &mut reading.problems;
    let sections = root.sections("issuer", problems);
    if sections.is_empty() {
        problems.missing_table("[[issuer]]", "at least one, with url = \"https://…\"");
    }
    let mut urls = Vec::new();
    let mut issuers = Vec::new();
    for mut section in sections {
        let url = section.required("url", "url = \"https://login.example.com\"", problems);
        let name = url.as_ref().map(|at| at.value.to_owned());
        let url = url.and_then(|at| {
            let url = accept(&at, HttpUrl::parse, problems)?;
            let seen = format!("{:?}", at.value);
            // OpenID Connect Discovery 1.0 §2: no query, no fragment; https, but towards loopback.
            if url.target.contains('?') {
                problems.at(&at, seen, "an issuer URL without a query");
                return None;
            }
            if !url.secure && !url.is_loopback() {
                problems.at(&at, seen, "an https:// URL; plain http towards loopback only");
                return None;
            }
            urls.push(at.with(at.value.to_owned()));
            Some(at.value.to_owned())
        });
        let groups_claim = section.string("groups_claim", problems).and_then(|at| {
            let claim = |text: &str| match text.split('.').any(str::is_empty) {
                true => Err("a claim, or a dotted path such as realm_access.roles"),
                false => Ok(text.to_owned()),
            };
            accept(&at, claim, problems)
        });
        let algorithms = section.value("algorithms", problems).map(|at| {
            let list = as_strings(&at, problems).unwrap_or_default();
            if let DeValue::Array(items) = at.value
                && items.is_empty()
            {
                problems.at(&at, "an empty list", "at least one, or no such key");
            }
            // RFC 8725 §3.1, §3.2: named ones only, and no symmetric ones.
            let names = Algorithm::ALL.map(Algorithm::as_str).join(", ");
            let mut algorithms = Vec::new();
            for at in &list {
                match Algorithm::from_name(at.value) {
                    Some(algorithm) => algorithms.push(algorithm),
                    None => problems.at(at, format!("{:?}", at.value), names.as_str()),
                }
            }
            algorithms
        });
        let token_types = name_list(&mut section, "token_types", problems);
        let entry = url.map(|url| Issuer {
            url,
            groups_claim: groups_claim.unwrap_or_else(|| "groups".to_owned()),
            algorithms: algorithms
                .unwrap_or_else(|| vec![Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa]),
            token_types: token_types.unwrap_or_else(|| vec!["at+jwt".to_owned(), "JWT".to_owned()]),
        });
        issuers.push(Named { name, is_well_named: entry.is_some(), entry });
        section.finish(problems);
    }
    distinct(&urls, problems);
    issuers
}

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

fn upstreams(
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

fn grants(
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

fn deny(root: &mut Section<'_>, reading: &mut Reading<'_>) -> Option<PathBuf> {
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

fn guard(root: &mut Section<'_>, reading: &mut Reading<'_>) -> Guard {
    let mut guard = Guard {
        builtin: true,
        rule_files: Vec::new(),
        mask: MaskStyle::Fill,
        structured: Structured::default(),
        secrets: Vec::new(),
    };
    let Some(mut section) = root.section("guard", &mut reading.problems) else { return guard };
    if let Some(at) = section.value("rules", &reading.problems)
        && let Some(rules) = as_strings(&at, &mut reading.problems)
    {
        let mut texts = Vec::new();
        guard.builtin = rules.iter().any(|at| at.value == "builtin");
        for at in rules.iter().filter(|at| at.value != "builtin") {
            let path = reading.path(at);
            if reading.checks_files()
                && files::readable(&path.with(path.value.as_path()), &mut reading.problems)
            {
                match std::fs::read_to_string(&path.value) {
                    Ok(text) => texts.push((path.value.display().to_string(), text)),
                    Err(error) => {
                        let seen = format!("{}: {error}", path.value.display());
                        reading.problems.at(&path, seen, "a rule file in UTF-8");
                    }
                }
            }
            guard.rule_files.push(path.value);
        }
        // The built-in pack alone has no faults of the operator's.
        if !texts.is_empty() && reading.files == Files::Compile {
            let faults =
                crate::app::rules::compile(&texts, guard.builtin, &[]).err().unwrap_or_default();
            for fault in faults {
                reading.problems.at(&at, fault.to_string(), "rules without faults");
            }
        }
        let written: Vec<_> = rules.iter().map(|at| at.with(at.value.to_owned())).collect();
        distinct(&written, &mut reading.problems);
    }
    let mask = section.string("mask", &mut reading.problems);
    if let Some(mask) = word(mask, MaskStyle::WORDS, &mut reading.problems) {
        guard.mask = mask;
    }
    let structured = section.string("structured", &mut reading.problems);
    if let Some(structured) = word(structured, Structured::WORDS, &mut reading.problems) {
        guard.structured = structured;
    }
    let mut ids = Vec::new();
    for (index, mut secret) in
        section.sections("secret", &mut reading.problems).into_iter().enumerate()
    {
        let id = secret.string("id", &mut reading.problems);
        let id = id.filter(|at| accept(at, value::name, &mut reading.problems).is_some());
        ids.extend(id.as_ref().map(|at| at.with(at.value.to_owned())));
        let file = secret.required("file", "file = \"…\"", &mut reading.problems);
        let file = file.map(|at| reading.path(&at));
        if let (Some(at), true) = (&file, reading.checks_files()) {
            let place = at.with(at.value.as_path());
            let remedy = "a file with the secret, mode 600";
            if let Some(bytes) = files::private(&place, remedy, &mut reading.problems) {
                let length = files::one_secret(&bytes).map_or(0, <[u8]>::len);
                if length < KNOWN_BYTES_MIN {
                    let seen = format!("{}: holds {length} bytes", at.value.display());
                    let allowed = format!("a secret of at least {KNOWN_BYTES_MIN} bytes");
                    reading.problems.at(at, seen, allowed);
                }
            }
        }
        secret.finish(&mut reading.problems);
        let id = id.map_or_else(|| format!("known-secret-{index}"), |at| at.value.to_owned());
        guard.secrets.extend(file.map(|at| KnownSecret { id, file: at.value }));
    }
    distinct(&ids, &mut reading.problems);
    section.finish(&mut reading.problems);
    guard
}

fn record(root: &mut Section<'_>, reading: &mut Reading<'_>) -> Option<Record> {
    let Some(mut section) = root.section("record", &mut reading.problems) else {
        if !root.has("record") {
            let allowed = "directory and signing_key: nothing is forwarded that is not recorded";
            reading.problems.missing_table("[record]", allowed);
        }
        return None;
    };
    let example = "directory = \"/var/lib/stenograph\"";
    let directory = section.required("directory", example, &mut reading.problems);
    let directory = directory.map(|at| reading.path(&at));
    let release = section.string("release", &mut reading.problems);
    let release = word(release, Release::WORDS, &mut reading.problems);
    let example = "signing_key = \"log.key\", made by: stenograph keygen log --out log.key";
    let signing_key = section.required("signing_key", example, &mut reading.problems);
    let signing_key = signing_key.map(|at| reading.path(&at));
    let fingerprint_key = section.string("fingerprint_key", &mut reading.problems);
    let fingerprint_key = fingerprint_key.map(|at| reading.path(&at));
    let (seal_to, seal_payloads, seal_tokens) = sealing(&mut section, &mut reading.problems);
    let previous_signing_key = section.string("previous_signing_key", &mut reading.problems);
    let previous_signing_key = previous_signing_key.map(|at| reading.path(&at));
    let witnesses = witnesses(&mut section, &mut reading.problems);
    let unwitnessed = section.string("max_unwitnessed", &mut reading.problems).and_then(|at| {
        let read = |text: &str| {
            let allowed = "a duration of at least 1s, such as \"1m\"";
            value::duration_ms(text).filter(|ms| *ms >= 1_000).ok_or(allowed)
        };
        accept(&at, read, &mut reading.problems)
    });
    let on_unwitnessed = section.string("on_unwitnessed", &mut reading.problems);
    let on_unwitnessed =
        word(on_unwitnessed, &[("alarm", false), ("refuse", true)], &mut reading.problems);
    section.finish(&mut reading.problems);
    if reading.checks_files() {
        let problems = &mut reading.problems;
        if let Some(at) = &previous_signing_key {
            previous_key(at, signing_key.as_ref().map(|at| at.value.as_path()), problems);
        }
        if let Some(at) = &directory {
            files::directory(&at.with(at.value.as_path()), problems);
        }
        if let Some(at) = &signing_key {
            let place = at.with(at.value.as_path());
            let remedy = format!("a key: stenograph keygen log --out {}", at.value.display());
            if files::private(&place, &remedy, problems).is_some()
                && let Err(fault) = keys::load_signing_key(&at.value)
            {
                problems.at(at, format!("{}: {fault}", at.value.display()), remedy);
            }
        }
        if let Some(at) = &fingerprint_key {
            let place = at.with(at.value.as_path());
            if !at.value.exists() {
                files::parent(&place, problems);
            } else if files::private(&place, "", problems).is_some()
                && let Err(fault) = keys::load_fingerprint_key(&at.value)
            {
                let allowed = "no such file (serve makes it), or the key that serve made";
                problems.at(at, format!("{}: {fault}", at.value.display()), allowed);
            }
        }
    }
    let (directory, signing_key) = (directory?.value, signing_key?.value);
    let fingerprint_key = match fingerprint_key {
        Some(at) => at.value,
        None => signing_key.with_file_name("fingerprint.key"),
    };
    let release = release.unwrap_or(Release::Written);
    Some(Record {
        directory,
        release,
        signing_key,
        fingerprint_key,
        seal_to,
        seal_payloads,
        seal_tokens,
        previous_signing_key: previous_signing_key.map(|at| at.value),
        witnesses,
        unwitnessed_ms_max: unwitnessed.unwrap_or(60_000),
        unwitnessed_refuses: on_unwitnessed.unwrap_or(false),
    })
}

/// The key before has to be a key of the same name.
fn previous_key(at: &At<PathBuf>, signing_key: Option<&Path>, problems: &mut Problems) {
    let remedy = "the signing key that was used before, mode 600";
    if files::private(&at.with(at.value.as_path()), remedy, problems).is_none() {
        return;
    }
    match keys::load_signing_key(&at.value) {
        Err(fault) => problems.at(at, format!("{}: {fault}", at.value.display()), remedy),
        Ok(previous) => {
            let now = signing_key.and_then(|path| keys::load_signing_key(path).ok());
            let Some(now) = now else { return };
            let (seen, name) = (previous.verifier().name(), now.verifier().name());
            if seen != name {
                let allowed = format!("a key of the name {name:?}: keygen log --name");
                problems.at(at, format!("a key of the name {seen:?}"), allowed);
            }
        }
    }
}

/// `witnesses = [{ url = "…", key = "…" }]`; keys are verifier keys, as text.
fn witnesses(section: &mut Section<'_>, problems: &mut Problems) -> Vec<Witness> {
    let mut witnesses = Vec::new();
    let mut names = Vec::new();
    for mut one in section.sections("witnesses", problems) {
        let url = one.required("url", "url = \"https://witness.example.com\"", problems);
        let url = url.and_then(|at| {
            let url = accept(&at, HttpUrl::parse, problems)?;
            if url.target.contains('?') {
                problems.at(&at, format!("{:?}", at.value), "a URL without a query");
                return None;
            }
            Some(at.value.trim_end_matches('/').to_owned())
        });
        let example = "key = \"…\", as printed by: stenograph keygen witness --out FILE";
        let key =
            one.required("key", example, problems).and_then(|at| {
                match WitnessVerifier::parse(at.value) {
                    Ok(key) => {
                        names.push(at.with(key.name().to_owned()));
                        Some(key)
                    }
                    Err(fault) => {
                        problems.at(&at, fault.to_string(), "the verifier key of a witness");
                        None
                    }
                }
            });
        one.finish(problems);
        witnesses.extend(url.zip(key).map(|(url, key)| Witness { url, key }));
    }
    distinct(&names, problems);
    witnesses
}

/// `seal_to`, `seal` and `seal_tokens` of `[record]`.
fn sealing(section: &mut Section<'_>, problems: &mut Problems) -> (Vec<Recipient>, bool, bool) {
    let example = "seal_to = [\"age1…\"], made by: stenograph keygen auditor --out auditor.key";
    let mut recipients = Vec::new();
    let listed = section.value("seal_to", problems);
    if let Some(at) = &listed
        && let Some(texts) = as_strings(at, problems)
    {
        if texts.is_empty() {
            problems.at(at, "an empty list", format!("{example}; or no such key"));
        }
        if texts.len() > RECIPIENTS_MAX {
            let seen = format!("{} auditors", texts.len());
            problems.at(at, seen, format!("at most {RECIPIENTS_MAX}"));
        }
        for text in &texts {
            match Recipient::parse(text.value) {
                Ok(recipient) => recipients.push(recipient),
                // Why: whoever mixes up the two halves of a key must not find the secret one in a log.
                Err(_) if text.value.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") => {
                    let allowed = "the auditor's recipient, age1…: the identity is the auditor's \
                                   alone and must not be on this host";
                    problems.at(text, "a secret age identity", allowed);
                }
                Err(_) => {
                    let seen = format!("{:?}", text.value);
                    problems.at(text, seen, format!("an age X25519 recipient: {example}"));
                }
            }
        }
        let written: Vec<_> = texts.iter().map(|at| at.with(at.value.to_owned())).collect();
        distinct(&written, problems);
    }
    let how = section.string("seal", problems);
    let payloads = word(how.clone(), SEAL_WORDS, problems).unwrap_or(false);
    let tokens = section.value("seal_tokens", problems);
    let seals_tokens = match tokens.as_ref().map(|at| at.value) {
        Some(DeValue::Boolean(value)) => *value,
        Some(other) => {
            let at = tokens.as_ref().expect("it was matched");
            problems.at(at, kind_of(other), "true or false");
            false
        }
        None => false,
    };
    if listed.is_none() {
        let asked =
            [how.map(|at| at.with(())), tokens.filter(|_| seals_tokens).map(|at| at.with(()))];
        for at in asked.into_iter().flatten() {
            problems.at(&at, "nobody to seal to", format!("with {example}"));
        }
    }
    (recipients, payloads, seals_tokens)
}

/// The words of `seal`: whether whole payloads are sealed.
const SEAL_WORDS: &[(&str, bool)] = &[("masked", false), ("payloads", true)];

fn admin(root: &mut Section<'_>, reading: &mut Reading<'_>) -> Option<SocketAddr> {
    let problems = &mut reading.problems;
    let mut section = root.section("admin", problems)?;
    let at = section.required("address", "address = \"127.0.0.1:9464\"", problems);
    let address = at.and_then(|at| socket_address(&at, problems));
    section.finish(problems);
    address
}
