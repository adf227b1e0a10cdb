//! The configuration and the files of certificates, read again while the gateway runs.

use std::sync::Arc;

use super::rules::{compile, policy_text, rule_texts};
use super::settings::settings;
use super::{Gateway, copy, problem};
use crate::app::certificates::{self, Certificates};
use crate::app::config::{Config, Problem};
use crate::app::{config, log};
use crate::gateway::env::Snapshot;

impl Gateway {
    /// Reads the configuration again. What cannot change while the process runs is left as it is and
    /// said; a configuration with problems changes nothing.
    pub fn reload(&self) -> Result<(), Vec<Problem>> {
        let mut current = self.config.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let next = Config::load(&current.path)?;
        let fixed = [
            (
                "listen",
                next.listens
                    .iter()
                    .map(|listen| listen.address)
                    .ne(current.listens.iter().map(|listen| listen.address)),
            ),
            ("workers", next.workers != current.workers),
            ("issuer", next.issuers != current.issuers),
            (
                "record",
                next.record
                    != config::Record { release: next.record.release, ..current.record.clone() },
            ),
            ("admin", next.admin != current.admin),
            ("limits", next.limits != current.limits),
            ("deny", next.deny_file != current.deny_file),
        ];
        for (section, _) in fixed.iter().filter(|(_, changed)| *changed) {
            log::warn(
                "reload",
                format!("[{section}] changed; that takes effect at the next start"),
            )
            .write();
        }
        let pending: Vec<&'static str> =
            fixed.iter().filter(|(_, changed)| *changed).map(|(section, _)| *section).collect();
        let mut next = next;
        next.issuers.clone_from(&current.issuers);
        next.limits = current.limits.clone();
        next.record = config::Record { release: next.record.release, ..current.record.clone() };
        next.workers = current.workers.clone();
        next.admin = current.admin;
        next.deny_file.clone_from(&current.deny_file);
        // Why: origins and certificates belong to a listener by its place in the list.
        if pending.contains(&"listen") {
            next.listens.clone_from(&current.listens);
        }
        let mut certificates =
            self.certificates.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let looked = certificates::Watch::look(&next);
        let loaded = Certificates::load(&next, Some(&certificates))?;
        let texts = rule_texts(&next)?;
        let mut compiled = self.texts.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Why: grants must be in force within a second, and compiling a pack takes longer than that on a
        // slow or busy host.
        let rules = if *compiled == texts {
            self.shared.snapshot().rules.clone()
        } else {
            compile(&texts)?
        };
        let policy = policy_text(&next, pending, &texts, &rules);
        let settings = Arc::new(settings(&next, policy.id.clone(), &self.secrets, &loaded)?);
        if !self.evidence.policy(&policy) {
            let seen = "the policy cannot be recorded now";
            return Err(vec![problem("record", seen, "a record that can be written")]);
        }
        self.shared.set_acceptors(loaded.acceptors());
        self.shared.change(|snapshot| Snapshot {
            settings: settings.clone(),
            rules: rules.clone(),
            ..copy(snapshot)
        });
        *certificates = loaded;
        self.certificates_watch
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .know(looked);
        *current = next;
        *compiled = texts;
        log::info("reload", "the configuration was read again").write();
        Ok(())
    }

    /// Reads certificates, keys and authorities again when their files changed. What cannot be used
    /// changes nothing. True when new ones are in force.
    ///
    /// # Errors
    /// What cannot be used, once for each change.
    pub fn renew_certificates(&self) -> Result<bool, Vec<Problem>> {
        let current = self.config.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let changed = self
            .certificates_watch
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .changed(&current);
        if !changed {
            return Ok(false);
        }
        let mut certificates =
            self.certificates.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let policy_id = self.shared.snapshot().settings.policy_id.clone();
        let read = Certificates::load(&current, Some(&certificates)).and_then(|loaded| {
            let settings = settings(&current, policy_id, &self.secrets, &loaded)?;
            Ok((loaded, Arc::new(settings)))
        });
        let mut watch =
            self.certificates_watch.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (loaded, settings) = match read {
            Ok(read) => read,
            Err(problems) => {
                let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
                return if watch.failed(said.join("; ")) { Err(problems) } else { Ok(false) };
            }
        };
        watch.loaded();
        self.shared.set_acceptors(loaded.acceptors());
        self.shared.change(|snapshot| Snapshot { settings: settings.clone(), ..copy(snapshot) });
        *certificates = loaded;
        for warning in certificates::warnings(&current) {
            log::warn("certificates", warning).write();
        }
        Ok(true)
    }
}

pub(super) fn renew_certificates(gateway: &Gateway) {
    match gateway.renew_certificates() {
        Ok(false) => {}
        Ok(true) => log::info("certificates", "certificates or keys were read again").write(),
        Err(problems) => {
            for problem in problems {
                let text = format!("{problem}; those before stay in force");
                log::error("certificates", text).write();
            }
        }
    }
}
