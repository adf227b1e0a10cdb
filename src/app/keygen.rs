//! `keygen`: makes the log's signing key, the fingerprint key, and an auditor's identity. The verifier key, which auditors need, is printed and written
//! beside it; the signing key itself is never printed.

use std::io::{self, Write};
use std::path::Path;

use crate::app::cli::Exit;
use crate::record::age;
use crate::record::cosign::WitnessKey;
use crate::record::keys::{self, KeyFault};
use zeroize::Zeroizing;

/// Name of the key when none is given: this program at this host, as far as the host's name can stand in
/// a key name.
fn default_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let fits = |symbol: &char| symbol.is_ascii_alphanumeric() || "-._".contains(*symbol);
    let host: String = host.chars().filter(fits).take(64).collect();
    if host.is_empty() { "stenograph".to_owned() } else { format!("stenograph/{host}") }
}

/// Makes a signing key in the file `path`.
pub fn log(
    path: &Path,
    name: Option<&str>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let name = name.map_or_else(default_name, str::to_owned);
    let mut failed = None;
    let key = keys::generate(&name, &mut |bytes| failed = getrandom::fill(bytes).err());
    if let Some(error) = failed {
        writeln!(err, "stenograph: the kernel gives no randomness: {error}")?;
        return Ok(Exit::Host);
    }
    let done = key.and_then(|key| keys::create_signing_key(path, &key).map(|()| key));
    match done {
        Ok(key) => {
            writeln!(out, "{}", key.verifier())?;
            let public = keys::verifier_path(path);
            writeln!(err, "signing key: {} (mode 600; back it up)", path.display())?;
            writeln!(err, "verifier key: {} (give it to auditors)", public.display())?;
            Ok(Exit::Done)
        }
        Err(KeyFault::Name) => {
            writeln!(err, "stenograph: --name: {}", KeyFault::Name)?;
            Ok(Exit::Usage)
        }
        Err(fault) => refuse(&fault, err),
    }
}

/// Makes a witness's key in the file `path`.
pub fn witness(
    path: &Path,
    name: Option<&str>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let name = name.map_or_else(|| format!("{}/witness", default_name()), str::to_owned);
    let mut failed = None;
    let key = WitnessKey::generate(&name, &mut |bytes| failed = getrandom::fill(bytes).err());
    if let Some(error) = failed {
        writeln!(err, "stenograph: the kernel gives no randomness: {error}")?;
        return Ok(Exit::Host);
    }
    match key.and_then(|key| keys::create_witness_key(path, &key).map(|()| key)) {
        Ok(key) => {
            writeln!(out, "{}", key.verifier())?;
            let public = keys::verifier_path(path);
            writeln!(err, "witness key: {} (mode 600; back it up)", path.display())?;
            let uses = "give it to auditors and to the gateway's [record] witnesses";
            writeln!(err, "verifier key: {} ({uses})", public.display())?;
            Ok(Exit::Done)
        }
        Err(KeyFault::Name) => {
            writeln!(err, "stenograph: --name: {}", KeyFault::Name)?;
            Ok(Exit::Usage)
        }
        Err(fault) => refuse(&fault, err),
    }
}

/// Makes a fingerprint key in the file `path`.
pub fn fingerprint(path: &Path, err: &mut dyn Write) -> io::Result<Exit> {
    let mut key = Zeroizing::new([0; 32]);
    if let Err(error) = getrandom::fill(&mut *key) {
        writeln!(err, "stenograph: the kernel gives no randomness: {error}")?;
        return Ok(Exit::Host);
    }
    match keys::create_fingerprint_key(path, &key) {
        Ok(()) => {
            writeln!(err, "fingerprint key: {} (mode 600; back it up)", path.display())?;
            Ok(Exit::Done)
        }
        Err(fault) => refuse(&fault, err),
    }
}

/// Makes an auditor's identity in the file `path`, and its recipient beside it.
pub fn auditor(path: &Path, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let mut failed = None;
    let identity = age::generate(&mut |bytes| failed = failed.or(getrandom::fill(bytes).err()));
    if let Some(error) = failed {
        writeln!(err, "stenograph: the kernel gives no randomness: {error}")?;
        return Ok(Exit::Host);
    }
    match age::create_identity(path, &identity) {
        Ok(()) => {
            writeln!(out, "{}", identity.recipient())?;
            let public = keys::verifier_path(path);
            let path = path.display();
            writeln!(err, "identity: {path} (mode 600; back it up, and keep it off the gateway)")?;
            writeln!(err, "recipient: {} (for [record] seal_to)", public.display())?;
            Ok(Exit::Done)
        }
        Err(fault) => refuse(&fault, err),
    }
}

fn refuse(fault: &KeyFault, err: &mut dyn Write) -> io::Result<Exit> {
    match fault {
        KeyFault::File(path, error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let path = path.display();
            writeln!(err, "stenograph: {path} is there already; a key is never overwritten")?;
            Ok(Exit::Usage)
        }
        fault => {
            writeln!(err, "stenograph: cannot write the key: {fault}")?;
            Ok(Exit::Incomplete)
        }
    }
}
