//! What is demanded of an upstream, and shown to it: a chain to a trusted authority, for the right
//! name and as of now, and where it asks, the gateway's own certificate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, Error, RootCertStore};

use super::accept::{HTTP_1_1, Pair, provider, roots};
use crate::gateway::env::RouteTls;

/// Whom an upstream's certificate may come from.
pub enum Trust {
    /// These authorities and no other.
    Only(Vec<CertificateDer<'static>>),
    /// The authorities that the system trusts.
    System(Arc<RootCertStore>),
}

/// How to connect to an upstream that has to be `name`; `own` is what is shown where it asks.
///
/// # Errors
/// Authorities that are no certificates, or a pair that does not match.
pub fn connector(
    trust: &Trust,
    own: Option<&Pair>,
    name: ServerName<'static>,
) -> Result<RouteTls, Error> {
    // Why: a number is never used twice, so no connection made under older demands is used under
    // newer ones.
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let trusted = match trust {
        Trust::Only(authorities) => Arc::new(roots(authorities)?),
        Trust::System(roots) => roots.clone(),
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_root_certificates(trusted);
    let mut config = match own {
        Some(pair) => {
            pair.certify()?;
            builder.with_client_auth_cert(pair.chain.clone(), pair.key.clone_key())?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    config.require_ems = true;
    // Why: rustls does not verify a resumed server again, so a certificate that has ended, or that comes
    // from an authority no longer trusted, would serve on. Connections are kept; handshakes are few.
    config.resumption = Resumption::disabled();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Ok(RouteTls { config: Arc::new(config), name, number })
}

/// The authorities that the system trusts, and what could not be read of them.
pub fn system_roots() -> (Arc<RootCertStore>, Vec<String>) {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Why ignored: systems carry authorities in forms that no one verifies any more.
    let _ = roots.add_parsable_certificates(found.certs);
    (Arc::new(roots), found.errors.iter().map(ToString::to_string).collect())
}
