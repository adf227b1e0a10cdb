//! The keys of the gateway on disk, and those that are derived from them.

use std::path::Path;

use super::{StartFault, problem};
use crate::app::config::Config;
use crate::app::log;
use crate::auth::handle::HandleKey;
use crate::record::keys;

/// Keys of the gateway, derived once.
#[derive(Clone)]
pub(super) struct Secrets {
    pub(super) handle_key: HandleKey,
    pub(super) pseudonym_key: [u8; 32],
    pub(super) fingerprint_key: [u8; 32],
}

fn derive(key: &[u8; 32], label: &str) -> [u8; 32] {
    use hmac::{Hmac, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("HMAC takes any key length");
    mac.update(label.as_bytes());
    mac.finalize().into_bytes().into()
}

/// Reads the log's key and the fingerprint key; makes the latter when there is none.
pub(super) fn load_keys(config: &Config) -> Result<(keys::LogKey, Secrets), StartFault> {
    let log_key = keys::load_signing_key(&config.record.signing_key).map_err(|fault| {
        StartFault::Config(vec![problem(
            "record.signing_key",
            format!("{}: {fault}", config.record.signing_key.display()),
            "a key made by `stenograph keygen log --out FILE`",
        )])
    })?;
    let path = &config.record.fingerprint_key;
    if !path.exists() {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| StartFault::Host(error.to_string()))?;
        keys::create_fingerprint_key(path, &key)
            .map_err(|fault| StartFault::Io(format!("{}: {fault}", path.display())))?;
        log::info(
            "fingerprint-key",
            "a fingerprint key was made; keep a copy: without it echoed cannot find masked values",
        )
        .field("file", path.display().to_string())
        .write();
    }
    let fingerprint_key = keys::load_fingerprint_key(path).map_err(|fault| {
        StartFault::Config(vec![problem(
            "record.fingerprint_key",
            format!("{}: {fault}", path.display()),
            "a file of mode 0600 made by serve at its first start",
        )])
    })?;
    // Why from this key: it is the gateway's own secret on disk, so handles outlive a restart.
    let secrets = Secrets {
        handle_key: HandleKey::new(&derive(&fingerprint_key, "stenograph handle key v1")),
        pseudonym_key: derive(&fingerprint_key, "stenograph pseudonym key v1"),
        fingerprint_key,
    };
    Ok((log_key, secrets))
}

pub(super) fn previous_key(path: &Path) -> Result<keys::LogKey, StartFault> {
    keys::load_signing_key(path).map_err(|fault| {
        StartFault::Config(vec![problem(
            "record.previous_signing_key",
            format!("{}: {fault}", path.display()),
            "the signing key that was used before",
        )])
    })
}
