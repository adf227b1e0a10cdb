//! Certificates for tests: authorities that issue what is asked for, and files of them.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Issues certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM form.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// What a certificate is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// A server.
    Server,
    /// A client.
    Client,
}

fn params(names: &[&str], common_name: &str, purpose: For) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*name).try_into().expect("a name")),
        })
        .collect();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.extended_key_usages = vec![match purpose {
        For::Server => ExtendedKeyUsagePurpose::ServerAuth,
        For::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Authority { issuer: CertifiedIssuer::self_signed(params, key).expect("an authority") }
    }

    /// Its own certificate, in PEM form.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these names.
    pub fn issue(&self, names: &[&str], common_name: &str, purpose: For) -> Issued {
        self.sign(params(names, common_name, purpose))
    }

    /// One that was valid until the end of 2023.
    pub fn expired(&self, names: &[&str], common_name: &str, purpose: For) -> Issued {
        let mut params = params(names, common_name, purpose);
        params.not_before = date_time_ymd(2023, 1, 1);
        params.not_after = date_time_ymd(2023, 12, 31);
        self.sign(params)
    }

    /// One that will be valid from 2100 on.
    pub fn early(&self, names: &[&str], common_name: &str, purpose: For) -> Issued {
        let mut params = params(names, common_name, purpose);
        params.not_before = date_time_ymd(2100, 1, 1);
        params.not_after = date_time_ymd(2101, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A store that trusts it alone.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority");
        roots
    }
}

impl Issued {
    /// The chain as rustls takes it.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<_, _>>()
            .expect("PEM")
    }

    /// The key as rustls takes it.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM")
    }

    /// Writes `NAME.pem` and `NAME.key` (mode 600).
    pub fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let certificate = directory.join(format!("{name}.pem"));
        let key = directory.join(format!("{name}.key"));
        std::fs::write(&certificate, &self.certificate).expect("written");
        write_private(&key, &self.key);
        (certificate, key)
    }
}

/// Writes a file that only its owner may read.
pub fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("mode");
}

/// The cryptography of the test's own ends.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The versions of TLS.
pub const VERSIONS: [&rustls::SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

/// A client that trusts `roots`, speaks `version` only, and shows `own`.
pub fn client_config(
    roots: RootCertStore,
    version: &'static rustls::SupportedProtocolVersion,
    own: Option<&Issued>,
) -> rustls::ClientConfig {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .expect("versions")
        .with_root_certificates(roots);
    match own {
        Some(own) => builder.with_client_auth_cert(own.chain(), own.private_key()).expect("a pair"),
        None => builder.with_no_client_auth(),
    }
}
