//! `[record]`: where the record is, its keys, its auditors and its witnesses.

use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::{Reading, accept, distinct, word};
use crate::app::config::files;
use crate::app::config::problem::{At, Problems};
use crate::app::config::table::{Section, as_strings, kind_of};
use crate::app::config::value::{self, HttpUrl};
use crate::app::config::{Record, Release};
use crate::app::witness::asker::Witness;
use crate::record::age::{RECIPIENTS_MAX, Recipient};
use crate::record::cosign::WitnessVerifier;
use crate::record::keys;

pub(super) fn record(root: &mut Section<'_>, reading: &mut Reading<'_>) -> Option<Record> {
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
