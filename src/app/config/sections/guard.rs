//! `[guard]`: rules, masks and known secrets.

use super::{Reading, accept, distinct, word};
use crate::app::config::files;
use crate::app::config::table::{Section, as_strings};
use crate::app::config::value;
use crate::app::config::{Files, Guard, KnownSecret, MaskStyle};
use crate::guard::Structured;
use crate::guard::rules::KNOWN_BYTES_MIN;

pub(super) fn guard(root: &mut Section<'_>, reading: &mut Reading<'_>) -> Guard {
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
