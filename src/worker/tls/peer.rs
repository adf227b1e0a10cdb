//! What a certificate says of itself, for the record and for `check`. Whether it is to be believed
//! was decided before, by the verifier of rustls; nothing here decides anything.

use std::net::IpAddr;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::gateway::secure::Certificate;
use crate::types::hex;

/// Bound: alternative names of one certificate that are kept, and bytes of each text.
const NAMES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 1024;

fn bounded(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let cut = (0..=TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(cut.unwrap_or(0));
        text.push('…');
    }
    text
}

fn parse(der: &CertificateDer<'_>) -> Option<x509_cert::Certificate> {
    x509_cert::Certificate::from_der(der).ok()
}

fn alternative_names(certificate: &x509_cert::Certificate) -> Vec<GeneralName> {
    match certificate.tbs_certificate.get::<SubjectAltName>() {
        Ok(Some((_, names))) => names.0,
        _ => Vec::new(),
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?)),
        _ => None,
    }
}

fn name_text(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(format!("dns:{}", name.as_str())),
        GeneralName::Rfc822Name(name) => Some(format!("email:{}", name.as_str())),
        GeneralName::UniformResourceIdentifier(uri) => Some(format!("uri:{}", uri.as_str())),
        GeneralName::IpAddress(octets) => {
            address(octets.as_bytes()).map(|address| format!("ip:{address}"))
        }
        _ => None,
    }
}

/// What the record says of a peer's certificate.
pub fn certificate(der: &CertificateDer<'_>) -> Certificate {
    let parsed = parse(der);
    let subject = parsed.as_ref().map(|one| one.tbs_certificate.subject.to_string());
    let names = parsed.as_ref().map(alternative_names).unwrap_or_default();
    Certificate {
        sha256: hex(&Sha256::digest(der)),
        subject: subject.filter(|text| !text.is_empty()).map(bounded),
        names: names.iter().filter_map(name_text).take(NAMES_MAX).map(bounded).collect(),
        ends: ends(der).and_then(|at| jiff::Timestamp::try_from(at).ok()).map(|at| at.to_string()),
    }
}

/// When a certificate ends; `None` when it cannot be read.
pub fn ends(der: &CertificateDer<'_>) -> Option<SystemTime> {
    Some(parse(der)?.tbs_certificate.validity.not_after.to_system_time())
}

/// DNS names that a certificate is for, in lower case: its alternative names. Its common name is no
/// name of a server (RFC 9525 §2).
pub fn dns_names(der: &CertificateDer<'_>) -> Vec<String> {
    let names = parse(der).as_ref().map(alternative_names).unwrap_or_default();
    names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}
