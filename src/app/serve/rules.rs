//! What the rules are compiled from: the built-in pack, the files, known secrets and the credentials of the upstreams.

use std::sync::Arc;

use super::problem;
use crate::app::config;
use crate::app::config::{Config, Problem};
use crate::app::evidence::PolicyText;
use crate::guard::rules::{BUILTIN_NAME, CALLER_TOKEN, KNOWN_BYTES_MIN, KNOWN_PREFIX};
use crate::guard::{Engine, KnownValue, RuleFault, RuleSet, packtest};

/// What a rule set is compiled from.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RuleTexts {
    pub(super) builtin: bool,
    pub(super) files: Vec<(String, String)>,
    pub(super) secrets: Vec<(String, Vec<u8>)>,
}

/// Reads what the rules of a configuration are compiled from, with the known values:
/// `[[guard.secret]]` files and the credentials of the upstreams, which a server that reflects its
/// input would give away.
pub(super) fn rule_texts(config: &Config) -> Result<RuleTexts, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut files = Vec::new();
    for path in &config.guard.rule_files {
        match std::fs::read_to_string(path) {
            Ok(text) => files.push((path.display().to_string(), text)),
            Err(error) => problems.push(problem(
                "guard.rules",
                format!("{}: {error}", path.display()),
                "a readable rule file",
            )),
        }
    }
    let mut secrets = Vec::new();
    for secret in &config.guard.secrets {
        match config::read_private(&secret.file) {
            Ok(bytes) => {
                if let Some(value) = config::one_secret(&bytes) {
                    secrets.push((secret.id.clone(), value.to_vec()));
                }
            }
            Err(fault) => problems.push(problem("guard.secret.file", fault.seen, fault.allowed)),
        }
    }
    for upstream in &config.upstreams {
        if let Ok(Some((_, value))) = credential(upstream) {
            secrets.extend(credential_values(&upstream.name, &value));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(RuleTexts { builtin: config.guard.builtin, files, secrets })
}

/// Words in front of a credential that are no part of it: schemes of the registry of RFC 9110 §16.4.1 that carry one
/// value, and those in use beside them.
const SCHEMES: [&str; 7] = ["Basic", "Bearer", "DPoP", "OAuth", "Token", "ApiKey", "SSWS"];

/// What of a credential opens the upstream for whoever reads it: the part behind the scheme, and of
/// `Basic` what it says (RFC 7617 §2).
fn credential_values(upstream: &str, value: &[u8]) -> Vec<KnownValue> {
    use base64::Engine;
    let mut parts = value.splitn(2, |byte| *byte == b' ');
    let scheme = parts.next().unwrap_or_default();
    let secret = parts.next().map_or(value, <[u8]>::trim_ascii_start);
    let name = format!("upstream-credential-{upstream}");
    let mut values = vec![(name.clone(), secret.to_vec())];
    let known = SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known.as_bytes()));
    if !known && secret.len() < value.len() {
        values.push((format!("{name}-whole"), value.to_vec()));
    }
    if scheme.eq_ignore_ascii_case(b"basic")
        && let Ok(pair) = base64::engine::general_purpose::STANDARD.decode(secret)
    {
        let password = pair.splitn(2, |byte| *byte == b':').nth(1).map(<[u8]>::to_vec);
        values.extend(password.map(|password| (format!("{name}-password"), password)));
        values.push((format!("{name}-pair"), pair));
    }
    values.retain(|(_, value)| value.len() >= KNOWN_BYTES_MIN);
    values
}

/// Compiles a set whose own tests hold: a rule that does not find what it says it finds protects nobody.
pub(super) fn compile(texts: &RuleTexts) -> Result<Arc<RuleSet>, Vec<Problem>> {
    let problems = |faults: Vec<RuleFault>| -> Vec<Problem> {
        faults
            .into_iter()
            .map(|fault| problem("guard.rules", fault.to_string(), "rules without faults"))
            .collect()
    };
    let set = crate::app::rules::compile(&texts.files, texts.builtin, &texts.secrets)
        .map_err(problems)?;
    // Those of the built-in pack hold by the tests of this program, and what files allow may be in them.
    let mut faults = packtest::check(&set, Engine::Hyperscan);
    faults.retain(|fault| fault.file != BUILTIN_NAME);
    faults.dedup_by(|later, kept| later.rule == kept.rule);
    for fault in &mut faults {
        // Why not which: a text of a test may be a token, and this goes into the log.
        fault.what =
            "a test of its own fails; `stenograph rules check --rules FILE` says which".into();
    }
    if faults.is_empty() { Ok(set) } else { Err(problems(faults)) }
}

pub(super) type Credential = Option<(String, Vec<u8>)>;

pub(super) fn credential(upstream: &config::Upstream) -> Result<Credential, Problem> {
    let Some(credential) = &upstream.credential else { return Ok(None) };
    let key = format!("upstream {} credential.file", upstream.name);
    let bytes = config::read_private(&credential.file)
        .map_err(|fault| problem(key.clone(), fault.seen, fault.allowed))?;
    let value = config::one_secret(&bytes).ok_or_else(|| {
        problem(key, "no single line of text", "one line: the value of the field")
    })?;
    Ok(Some((credential.header.clone(), value.to_vec())))
}

/// The rules in force as the record names them.
pub(super) fn policy_text(
    config: &Config,
    pending: Vec<&'static str>,
    texts: &RuleTexts,
    rules: &RuleSet,
) -> PolicyText {
    let caller = format!("{KNOWN_PREFIX}{CALLER_TOKEN}");
    let ids = rules.rules().iter().map(|rule| rule.id.to_string()).chain([caller]).collect();
    PolicyText::new(config, pending, &texts.files, ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    // `mysecret word` was looked for as `word`.
    #[test]
    fn only_a_scheme_is_no_part_of_a_credential() {
        let values = |credential: &str| -> Vec<String> {
            let values = credential_values("codegen", credential.as_bytes());
            values.into_iter().map(|(_, value)| String::from_utf8(value).expect("text")).collect()
        };
        assert_eq!(values("bearer abcdefgh"), ["abcdefgh"]);
        assert_eq!(values("abcdefgh"), ["abcdefgh"]);
        assert_eq!(values("mysecret word"), ["mysecret word"]);
        assert_eq!(values("secretword of two"), ["of two", "secretword of two"]);
        assert_eq!(
            values("Basic YWxpY2U6c2VjcmV0MQ=="),
            ["YWxpY2U6c2VjcmV0MQ==", "secret1", "alice:secret1"]
        );
    }
}
