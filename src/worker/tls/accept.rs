//! What a listener shows and demands: its certificates, chosen by the name that the caller asks for,
//! and the authorities that callers' certificates come from.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};

use super::peer;
use super::session::Session;
use crate::gateway::demands::CallerDemands;
use crate::limits::TLS_SESSIONS_MAX;

/// The one application protocol (RFC 7301).
pub const HTTP_1_1: &[u8] = b"http/1.1";

/// The cryptography of both sides.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A certificate with what it was issued by, and its key.
pub struct Pair {
    /// The certificate, then its chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

impl Pair {
    /// The pair in the form that signs.
    ///
    /// # Errors
    /// A key that does not belong to the certificate, or that cannot be used.
    pub fn certify(&self) -> Result<CertifiedKey, Error> {
        let certified =
            CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), &provider())?;
        // Why here: what names a certificate has is asked at each handshake, and it must be readable.
        rustls::server::ParsedCertificate::try_from(certified.end_entity_cert()?)?;
        Ok(certified)
    }
}

/// What a listener does about callers' certificates.
pub struct Callers {
    /// Certificates of the authorities.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Callers without a certificate are refused.
    pub required: bool,
}

/// Certificates of a listener, each with the names it is for.
struct ByName {
    pairs: Vec<(Vec<String>, Arc<CertifiedKey>)>,
}

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pairs.iter().map(|(names, _)| names)).finish()
    }
}

/// `pattern` is `name`, or stands for it by a star in place of its first label (RFC 9525 §6.3).
fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(rest) => name
            .split_once('.')
            .is_some_and(|(first, behind)| !first.is_empty() && behind.eq_ignore_ascii_case(rest)),
        None => pattern.eq_ignore_ascii_case(name),
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |pair: &&(Vec<String>, Arc<CertifiedKey>)| {
            pair.1.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let named = |name: &str| {
            let exact = |pair: &&(Vec<String>, Arc<CertifiedKey>)| {
                pair.0.iter().any(|pattern| pattern.eq_ignore_ascii_case(name))
            };
            let covering = |pair: &&(Vec<String>, Arc<CertifiedKey>)| {
                pair.0.iter().any(|pattern| covers(pattern, name))
            };
            let mut all = self.pairs.iter().filter(fits);
            all.clone().find(exact).or_else(|| all.find(covering))
        };
        // Why the first one for everybody else: a caller that names no server or another decides by
        // the certificate whether it goes on.
        let found = hello.server_name().and_then(named);
        found.or_else(|| self.pairs.iter().find(fits)).map(|(_, key)| key.clone())
    }
}

/// What makes the accepting ends of a listener. Shared by all workers, so that a session begun on one
/// is resumed on any.
#[derive(Debug)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    demands: Option<CallerDemands>,
}

impl Acceptor {
    /// A listener with these certificates, the first of them for callers that name no server it knows,
    /// and these demands on callers.
    ///
    /// # Errors
    /// A pair that does not match, or authorities that are no certificates.
    pub fn new(pairs: &[Pair], callers: Option<&Callers>) -> Result<Acceptor, Error> {
        let mut by_name = ByName { pairs: Vec::new() };
        for pair in pairs {
            let names = pair.chain.first().map(peer::dns_names).unwrap_or_default();
            by_name.pairs.push((names, Arc::new(pair.certify()?)));
        }
        let provider = provider();
        let mut demands = None;
        let verifier = match callers {
            None => None,
            Some(callers) => {
                let roots = Arc::new(roots(&callers.authorities)?);
                let authorities = roots.roots.iter().map(told).collect();
                demands = Some(CallerDemands { authorities, required: callers.required });
                let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
                let builder = match callers.required {
                    true => builder,
                    false => builder.allow_unauthenticated(),
                };
                Some(builder.build().map_err(|error| Error::General(error.to_string()))?)
            }
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(by_name));
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        config.require_ems = true;
        // Why new ones with each acceptor: what was verified by other authorities is not resumed.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        config.session_storage = ServerSessionMemoryCache::new(TLS_SESSIONS_MAX);
        Ok(Acceptor { config: Arc::new(config), verifier, demands })
    }

    /// What is demanded of callers' certificates.
    pub fn demands(&self) -> Option<&CallerDemands> {
        self.demands.as_ref()
    }

    /// The accepting end of one connection.
    ///
    /// # Errors
    /// None that is known: the configuration was taken.
    pub fn session(&self) -> Result<Session, Error> {
        Session::accept(&self.config)
    }

    /// Judges a resumed session as of now. Why: rustls takes the caller's certificate from the ticket,
    /// which may be half a day old, and verifies it no more.
    ///
    /// # Errors
    /// As in a whole handshake.
    pub fn verify_resumed(&self, session: &Session) -> Result<(), Error> {
        let Some(verifier) = self.verifier.as_ref().filter(|_| session.is_resumed()) else {
            return Ok(());
        };
        match session.peer_chain().split_first() {
            None if verifier.client_auth_mandatory() => Err(Error::NoCertificatesPresented),
            None => Ok(()),
            Some((own, chain)) => {
                verifier.verify_client_cert(own, chain, UnixTime::now()).map(|_| ())
            }
        }
    }
}

/// What tells one authority from another, whenever its certificate was issued.
pub fn told(authority: &TrustAnchor<'_>) -> [u8; 32] {
    let mut all = Sha256::new();
    let constraints = authority.name_constraints.as_deref().unwrap_or_default();
    for part in [&authority.subject[..], &authority.subject_public_key_info, constraints] {
        all.update((part.len() as u64).to_be_bytes());
        all.update(part);
    }
    all.finalize().into()
}

/// The trust anchors of these certificates.
///
/// # Errors
/// One that is no certificate.
pub fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone())?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        assert!(covers("mcp.example.com", "MCP.example.com"));
        assert!(covers("*.example.com", "mcp.example.com"));
        for name in ["example.com", "a.mcp.example.com", ".example.com", "mcp.example.org"] {
            assert!(!covers("*.example.com", name), "{name}");
        }
    }
}
