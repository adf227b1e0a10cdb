//! Certificates, keys and authorities that the configuration names: reading them, making of them what
//! the workers use, and seeing that the files changed.
//!
//! What cannot be used changes nothing: what was read before stays in force, and whoever reads the log
//! learns why. Files that did not change keep what was made of them, so that callers go on resuming
//! their sessions.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::app::config::{
    Config, ListenTls, PairFiles, Problem, SECRET_FILE_BYTES_MAX, Upstream, read_private,
};
use crate::gateway::demands::CallerDemands;
use crate::gateway::env::RouteTls;
use crate::limits::CA_FILE_BYTES_MAX;
use crate::worker::tls::accept::{Acceptor, Callers, Pair};
use crate::worker::tls::{accept, open, peer};

/// A certificate that ends sooner than this is worth a word. Those that live 90 days are renewed 30
/// days before their end; two weeks later somebody should look.
const ENDS_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    /// The key of the table `tls` that names it.
    pub key: String,
    /// What was seen; nothing of the file's content.
    pub seen: String,
    /// What is allowed, with the remedy.
    pub allowed: String,
}

fn fault(key: &str, path: &Path, seen: &str, allowed: &str) -> FileFault {
    FileFault {
        key: key.to_owned(),
        seen: format!("{}: {seen}", path.display()),
        allowed: allowed.to_owned(),
    }
}

fn certificates(
    key: &str,
    path: &Path,
    bytes_max: u64,
) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    const ALLOWED: &str = "a readable PEM file with BEGIN CERTIFICATE";
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes))
        .map_err(|error| fault(key, path, &error.to_string(), ALLOWED))?;
    if bytes.len() as u64 > bytes_max {
        let allowed = format!("at most {bytes_max} bytes");
        return Err(fault(key, path, "is longer", &allowed));
    }
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match read {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(fault(key, path, "holds no certificate", ALLOWED)),
        Err(_) => Err(fault(key, path, "is no PEM that can be read", ALLOWED)),
    }
}

fn pair(prefix: &str, files: &PairFiles) -> Result<Pair, FileFault> {
    let (certificate_key, key_key) = (format!("{prefix}certificate"), format!("{prefix}key"));
    let chain = certificates(&certificate_key, &files.certificate, SECRET_FILE_BYTES_MAX)?;
    let bytes = read_private(&files.key).map_err(|why| FileFault {
        key: key_key.clone(),
        seen: format!("{}: {}", files.key.display(), why.seen),
        allowed: why.allowed,
    })?;
    let bytes = Zeroizing::new(bytes);
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        let allowed = "a PEM file with BEGIN PRIVATE KEY (PKCS #8), or RSA or EC PRIVATE KEY, not \
                       encrypted";
        fault(&key_key, &files.key, "holds no private key that can be read", allowed)
    })?;
    let pair = Pair { chain, key };
    pair.certify().map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let seen = format!("does not belong to {}", files.certificate.display());
            fault(&key_key, &files.key, &seen, "the private key of that certificate")
        }
        rustls::Error::InvalidCertificate(error) => {
            let seen = format!("the first certificate cannot be used ({error:?})");
            let allowed = "an X.509 version 3 certificate, then its chain";
            fault(&certificate_key, &files.certificate, &seen, allowed)
        }
        error => {
            let seen = format!("cannot be used ({error})");
            fault(&key_key, &files.key, &seen, "an ECDSA, Ed25519 or RSA key of 2048 bits or more")
        }
    })?;
    Ok(pair)
}

/// What a listener with these files shows and demands.
///
/// # Errors
/// Every file that cannot be used.
pub fn acceptor(tls: &ListenTls) -> Result<Acceptor, Vec<FileFault>> {
    let mut faults = Vec::new();
    let mut pairs = Vec::new();
    for (number, files) in tls.pairs.iter().enumerate() {
        let prefix = match tls.is_list {
            true => format!("certificates[{number}]."),
            false => String::new(),
        };
        match pair(&prefix, files) {
            Ok(pair) => pairs.push(pair),
            Err(fault) => faults.push(fault),
        }
    }
    let callers = match &tls.client_ca {
        None => None,
        Some(path) => match certificates("client_ca", path, CA_FILE_BYTES_MAX) {
            Ok(authorities) => {
                Some(Callers { authorities, required: tls.client_certificate_required })
            }
            Err(fault) => {
                faults.push(fault);
                None
            }
        },
    };
    if !faults.is_empty() {
        return Err(faults);
    }
    Acceptor::new(&pairs, callers.as_ref()).map_err(|error| {
        let key = if tls.client_ca.is_some() { "client_ca" } else { "certificate" };
        let path = tls.client_ca.as_ref().unwrap_or(&tls.pairs[0].certificate);
        vec![fault(key, path, &error.to_string(), "certificates that can be used")]
    })
}

/// How the connections to an https upstream are made.
///
/// # Errors
/// Every file that cannot be used.
pub fn connector(
    upstream: &Upstream,
    system: &Arc<RootCertStore>,
) -> Result<RouteTls, Vec<FileFault>> {
    let mut faults = Vec::new();
    let tls = upstream.tls.as_ref();
    let trust = match tls.and_then(|tls| tls.ca.as_ref()) {
        Some(path) => match certificates("ca", path, CA_FILE_BYTES_MAX) {
            Ok(authorities) => Some(open::Trust::Only(authorities)),
            Err(fault) => {
                faults.push(fault);
                None
            }
        },
        None if system.is_empty() => {
            faults.push(FileFault {
                key: "ca".to_owned(),
                seen: "none, and this system trusts no authority".to_owned(),
                allowed: "ca = \"ca.pem\", or the package ca-certificates".to_owned(),
            });
            None
        }
        None => Some(open::Trust::System(system.clone())),
    };
    let own = match tls.and_then(|tls| tls.pair.as_ref()).map(|files| pair("", files)) {
        None => None,
        Some(Ok(pair)) => Some(pair),
        Some(Err(fault)) => {
            faults.push(fault);
            None
        }
    };
    let name = tls.and_then(|tls| tls.server_name.as_deref()).unwrap_or(&upstream.url.host);
    let name = ServerName::try_from(name.to_owned()).map_err(|_| {
        faults.push(FileFault {
            key: "server_name".to_owned(),
            seen: format!("{name:?}"),
            allowed: "a host name or an address, as the server's certificate has it".to_owned(),
        });
    });
    let (Some(trust), Ok(name), true) = (trust, name, faults.is_empty()) else {
        return Err(faults);
    };
    open::connector(&trust, own.as_ref(), name).map_err(|error| {
        let allowed = "certificates of authorities that can be used".to_owned();
        vec![FileFault { key: "ca".to_owned(), seen: error.to_string(), allowed }]
    })
}

/// Words about certificates that end soon, or have ended.
fn ending(path: &Path, now: SystemTime) -> Option<String> {
    let chain = certificates("", path, SECRET_FILE_BYTES_MAX).ok()?;
    let ends = chain.iter().filter_map(peer::ends).min()?;
    let at = jiff::Timestamp::try_from(ends).ok()?;
    if ends <= now {
        return Some(format!("{} has expired ({at}): peers refuse it", path.display()));
    }
    (ends <= now + ENDS_SOON).then(|| format!("{} expires soon ({at})", path.display()))
}

fn pairs_of(config: &Config) -> impl Iterator<Item = &PairFiles> {
    let listeners = config.listens.iter().filter_map(|listen| listen.tls.as_ref());
    let upstreams = config.upstreams.iter().filter_map(|upstream| upstream.tls.as_ref());
    listeners.flat_map(|tls| &tls.pairs).chain(upstreams.filter_map(|tls| tls.pair.as_ref()))
}

/// What is worth a word about the certificates of a configuration.
pub fn warnings(config: &Config) -> Vec<String> {
    let now = SystemTime::now();
    pairs_of(config).filter_map(|files| ending(&files.certificate, now)).collect()
}

/// What tells one set of the system's authorities from another, whatever their order.
fn trusted(system: &RootCertStore) -> [u8; 32] {
    let mut each: Vec<[u8; 32]> = system.roots.iter().map(accept::told).collect();
    each.sort_unstable();
    Sha256::digest(each.concat()).into()
}

fn digest(settings: &str, paths: &[&PathBuf]) -> [u8; 32] {
    let mut all = Sha256::new();
    all.update(settings);
    for path in paths {
        // One that cannot be read is told when it is read in earnest.
        let bytes = Zeroizing::new(std::fs::read(path).unwrap_or_default());
        all.update((bytes.len() as u64).to_be_bytes());
        all.update(&bytes[..]);
    }
    all.finalize().into()
}

struct Held<T> {
    digest: [u8; 32],
    value: Arc<T>,
}

impl<T> Clone for Held<T> {
    fn clone(&self) -> Held<T> {
        Held { digest: self.digest, value: self.value.clone() }
    }
}

/// What was made of the files of one configuration.
pub struct Certificates {
    listeners: Vec<Option<Held<Acceptor>>>,
    upstreams: BTreeMap<String, Held<RouteTls>>,
}

fn problems(place: &str, faults: Vec<FileFault>) -> impl Iterator<Item = Problem> {
    faults.into_iter().map(move |fault| Problem {
        line: None,
        key: format!("{place} tls.{}", fault.key),
        seen: fault.seen,
        allowed: fault.allowed,
    })
}

impl Certificates {
    /// Reads what `config` names; takes from `before` what did not change.
    ///
    /// # Errors
    /// Every file that cannot be used.
    pub fn load(
        config: &Config,
        before: Option<&Certificates>,
    ) -> Result<Certificates, Vec<Problem>> {
        let mut wrong = Vec::new();
        let mut listeners = Vec::new();
        for (number, listen) in config.listens.iter().enumerate() {
            let Some(tls) = &listen.tls else {
                listeners.push(None);
                continue;
            };
            let mut paths: Vec<&PathBuf> =
                tls.pairs.iter().flat_map(|pair| [&pair.certificate, &pair.key]).collect();
            paths.extend(&tls.client_ca);
            let digest = digest(&format!("{tls:?}"), &paths);
            let known = before.and_then(|before| before.listeners.get(number)?.as_ref());
            match known.filter(|held| held.digest == digest) {
                Some(held) => listeners.push(Some(held.clone())),
                None => match acceptor(tls) {
                    Ok(made) => listeners.push(Some(Held { digest, value: Arc::new(made) })),
                    Err(faults) => {
                        wrong.extend(problems(&format!("listen {}", listen.address), faults));
                    }
                },
            }
        }
        let mut system: Option<(Arc<RootCertStore>, [u8; 32])> = None;
        let mut upstreams = BTreeMap::new();
        for upstream in config.upstreams.iter().filter(|upstream| upstream.url.secure) {
            let tls = upstream.tls.as_ref();
            let mut paths = Vec::new();
            paths.extend(tls.and_then(|tls| tls.ca.as_ref()));
            if let Some(pair) = tls.and_then(|tls| tls.pair.as_ref()) {
                paths.extend([&pair.certificate, &pair.key]);
            }
            // The system's authorities are many files: read only where they are needed, and then each
            // time, for some may have been added or taken away.
            let needs = tls.is_none_or(|tls| tls.ca.is_none());
            let (system, of_system) = match needs {
                true => system.get_or_insert_with(|| {
                    let roots = open::system_roots().0;
                    let told = trusted(&roots);
                    (roots, told)
                }),
                false => &mut (Arc::new(RootCertStore::empty()), [0; 32]),
            };
            let digest = digest(&format!("{:?} {tls:?} {of_system:?}", upstream.url), &paths);
            let known = before.and_then(|before| before.upstreams.get(&upstream.name));
            if let Some(held) = known.filter(|held| held.digest == digest) {
                upstreams.insert(upstream.name.clone(), held.clone());
                continue;
            }
            match connector(upstream, system) {
                Ok(made) => {
                    upstreams.insert(upstream.name.clone(), Held { digest, value: Arc::new(made) });
                }
                Err(faults) => {
                    wrong.extend(problems(&format!("upstream {}", upstream.name), faults));
                }
            }
        }
        if wrong.is_empty() { Ok(Certificates { listeners, upstreams }) } else { Err(wrong) }
    }

    /// For each listener what it shows and demands; `None` where it speaks plain HTTP.
    pub fn acceptors(&self) -> Vec<Option<Arc<Acceptor>>> {
        self.listeners.iter().map(|held| held.as_ref().map(|held| held.value.clone())).collect()
    }

    /// For each listener what it demands of callers' certificates; `None` where it asks for none.
    pub fn caller_demands(&self, listener: usize) -> Option<CallerDemands> {
        self.listeners.get(listener)?.as_ref()?.value.demands().cloned()
    }

    /// How the connections to this upstream are made; `None` where they are plain.
    pub fn connector(&self, upstream: &str) -> Option<Arc<RouteTls>> {
        self.upstreams.get(upstream).map(|held| held.value.clone())
    }
}

/// What the file system says of a file; another one stands there when it differs.
type Stamp = Option<(u64, (i64, i64), (i64, i64), u64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let about = std::fs::metadata(path).ok()?;
    // The change time too: a mode that was put right makes a key fit for use.
    let changed = (about.ctime(), about.ctime_nsec());
    Some((about.ino(), (about.mtime(), about.mtime_nsec()), changed, about.len(), about.dev()))
}

fn stamps(config: &Config) -> Vec<Stamp> {
    let mut paths: Vec<&PathBuf> =
        pairs_of(config).flat_map(|pair| [&pair.certificate, &pair.key]).collect();
    paths.extend(config.listens.iter().filter_map(|one| one.tls.as_ref()?.client_ca.as_ref()));
    paths.extend(config.upstreams.iter().filter_map(|one| one.tls.as_ref()?.ca.as_ref()));
    paths.into_iter().map(|path| stamp(path)).collect()
}

/// Sees that files changed.
#[derive(Default)]
pub struct Watch {
    told: Vec<Stamp>,
    seen: Vec<Stamp>,
    /// Why the newest files are not in force, and looks since they were tried.
    failed: Option<(String, u32)>,
}

/// Looks after which files that could not be used are tried again: what was missing may be another file.
const RETRY_LOOKS: u32 = 5;

impl Watch {
    /// The files of a configuration that is about to be read.
    pub fn look(config: &Config) -> Looked {
        Looked(stamps(config))
    }

    /// What was read is in force: the files are known as they were before it was read.
    pub fn know(&mut self, looked: Looked) {
        self.told = looked.0;
        self.seen.clone_from(&self.told);
        self.failed = None;
    }

    /// True once for each change, at the second look that finds the files alike, and then now and again
    /// while they cannot be used. Why: a certificate and its key are two files, and between the two writes
    /// they do not match.
    pub fn changed(&mut self, config: &Config) -> bool {
        let now = stamps(config);
        let settled = self.seen == now;
        self.seen = now;
        let again = self.failed.as_mut().is_some_and(|(_, looks)| {
            *looks += 1;
            *looks >= RETRY_LOOKS
        });
        if !settled || (self.told == self.seen && !again) {
            return false;
        }
        self.told.clone_from(&self.seen);
        true
    }

    /// The files could not be used. True when that was not said before.
    pub fn failed(&mut self, why: String) -> bool {
        let new = self.failed.as_ref().is_none_or(|(said, _)| *said != why);
        self.failed = Some((why, 0));
        new
    }

    /// The files are in force.
    pub fn loaded(&mut self) {
        self.failed = None;
    }
}

/// Files as they were at one look.
pub struct Looked(Vec<Stamp>);
