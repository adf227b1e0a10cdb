//! `[[issuer]]`: who says who a caller is.

use toml::de::DeValue;

use super::{Named, Reading, accept, distinct, name_list};
use crate::app::config::table::{Section, as_strings};
use crate::app::config::value::HttpUrl;
use crate::auth::token::{Algorithm, Issuer};

pub(super) fn issuers(root: &mut Section<'_>, reading: &mut Reading<'_>) -> Vec<Named<Issuer>> {
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
