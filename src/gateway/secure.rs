//! What is known of a connection that TLS protects, as facts: which version and suite, who the peer
//! is by its certificate, what binds the channel, and why a handshake was refused. Nothing here does
//! TLS; the worker does, and hands these to the machines and to the record.

use std::fmt;

use serde::Serialize;

use crate::types::hex;

/// A peer's certificate that was verified: chain, time and purpose, and that the peer has its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// SHA-256 of its DER form, in hexadecimal: the fingerprint that `openssl x509 -fingerprint
    /// -sha256` prints, without colons.
    pub sha256: String,
    /// Its subject (RFC 4514); `None` when it cannot be read, or is empty.
    pub subject: Option<String>,
    /// Its alternative names (RFC 5280 §4.2.1.6), each with its kind: `dns:`, `ip:`, `uri:`,
    /// `email:`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// When it ends, RFC 3339; `None` when it cannot be read.
    pub ends: Option<String>,
}

/// A TLS connection as the record tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Secured {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// Name of the cipher suite in the IANA registry.
    pub suite: &'static str,
    /// The server name that was asked for (RFC 6066 §3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The handshake resumed an earlier session.
    pub resumed: bool,
    /// The channel binding `tls-exporter` (RFC 9266), in hexadecimal: 32 bytes that both ends of this
    /// connection derive and nobody else, so that what the peer wrote down of it can be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exporter: Option<String>,
    /// The peer's certificate, if it showed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
}

impl Secured {
    /// Version and suite in a few words, for every exchange.
    pub fn brief(&self) -> String {
        format!("{} {}", self.version, self.suite)
    }
}

/// The `tls-exporter` value of a channel, as the record writes it.
pub fn exporter_text(value: &[u8; 32]) -> String {
    hex(value)
}

/// Why a handshake came to nothing. The same words are used for callers and for upstreams; who is to
/// blame is said where they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsFault {
    /// It took longer than `tls_ms_max`.
    Timeout,
    /// It took more bytes than `tls_handshake_bytes_max`.
    TooLong,
    /// The peer ended the connection before the handshake was over.
    Ended,
    /// What came is no TLS.
    NotTls,
    /// What came is plain HTTP.
    PlainHttp,
    /// No version, suite, group or signature scheme that both sides have.
    NothingInCommon,
    /// The application protocols that the peer offers do not include `http/1.1`.
    Protocol,
    /// The peer showed no certificate where one is required.
    CertificateMissing,
    /// The peer's certificate is not valid any more, or one of its chain is not.
    CertificateExpired,
    /// The peer's certificate is not valid yet.
    CertificateEarly,
    /// The chain of the peer's certificate ends at no authority that is trusted here.
    CertificateIssuer,
    /// The peer's certificate is for another name.
    CertificateName,
    /// The peer's certificate is for another purpose.
    CertificatePurpose,
    /// Anything else about the peer's certificate.
    CertificateBad,
    /// The peer refused, by an alert: our certificate, or what we offer.
    Alert,
    /// The peer broke a rule of the protocol.
    Broken,
}

impl TlsFault {
    /// Every fault.
    pub const ALL: [TlsFault; 16] = [
        TlsFault::Timeout,
        TlsFault::TooLong,
        TlsFault::Ended,
        TlsFault::NotTls,
        TlsFault::PlainHttp,
        TlsFault::NothingInCommon,
        TlsFault::Protocol,
        TlsFault::CertificateMissing,
        TlsFault::CertificateExpired,
        TlsFault::CertificateEarly,
        TlsFault::CertificateIssuer,
        TlsFault::CertificateName,
        TlsFault::CertificatePurpose,
        TlsFault::CertificateBad,
        TlsFault::Alert,
        TlsFault::Broken,
    ];

    /// The label for a caller's handshake: reason in the record, in metrics and in the log.
    pub fn caller_label(self) -> &'static str {
        match self {
            TlsFault::Timeout => "tls-timeout",
            TlsFault::TooLong => "tls-handshake-too-long",
            TlsFault::Ended => "tls-ended",
            TlsFault::NotTls => "tls-not-tls",
            TlsFault::PlainHttp => "tls-plain-http",
            TlsFault::NothingInCommon => "tls-nothing-in-common",
            TlsFault::Protocol => "tls-protocol",
            TlsFault::CertificateMissing => "tls-certificate-missing",
            TlsFault::CertificateExpired => "tls-certificate-expired",
            TlsFault::CertificateEarly => "tls-certificate-early",
            TlsFault::CertificateIssuer => "tls-certificate-issuer",
            TlsFault::CertificateName => "tls-certificate-name",
            TlsFault::CertificatePurpose => "tls-certificate-purpose",
            TlsFault::CertificateBad => "tls-certificate-bad",
            TlsFault::Alert => "tls-alert",
            TlsFault::Broken => "tls-broken",
        }
    }

    /// The label for a handshake with an upstream.
    pub fn upstream_label(self) -> &'static str {
        match self {
            TlsFault::Timeout => "upstream-tls-timeout",
            TlsFault::TooLong => "upstream-tls-handshake-too-long",
            TlsFault::Ended => "upstream-tls-ended",
            TlsFault::NotTls => "upstream-tls-not-tls",
            TlsFault::PlainHttp => "upstream-tls-plain-http",
            TlsFault::NothingInCommon => "upstream-tls-nothing-in-common",
            TlsFault::Protocol => "upstream-tls-protocol",
            TlsFault::CertificateMissing => "upstream-tls-certificate-missing",
            TlsFault::CertificateExpired => "upstream-tls-certificate-expired",
            TlsFault::CertificateEarly => "upstream-tls-certificate-early",
            TlsFault::CertificateIssuer => "upstream-tls-certificate-issuer",
            TlsFault::CertificateName => "upstream-tls-certificate-name",
            TlsFault::CertificatePurpose => "upstream-tls-certificate-purpose",
            TlsFault::CertificateBad => "upstream-tls-certificate-bad",
            TlsFault::Alert => "upstream-tls-alert",
            TlsFault::Broken => "upstream-tls-broken",
        }
    }

    /// What is wrong, in words for whoever has to mend it.
    pub fn as_str(self) -> &'static str {
        match self {
            TlsFault::Timeout => "the handshake took longer than tls_ms_max",
            TlsFault::TooLong => "the handshake took more bytes than tls_handshake_bytes_max",
            TlsFault::Ended => "the peer ended the connection before the handshake was over",
            TlsFault::NotTls => "what came is no TLS",
            TlsFault::PlainHttp => "what came is plain HTTP: use https://",
            TlsFault::NothingInCommon => {
                "no version, cipher suite, group or signature scheme in common; TLS 1.2 (with \
                 extended master secret) or 1.3 is needed"
            }
            TlsFault::Protocol => {
                "the peer offers application protocols, and http/1.1 is not among them"
            }
            TlsFault::CertificateMissing => "the peer showed no certificate, and one is required",
            TlsFault::CertificateExpired => {
                "the peer's certificate, or one of its chain, has expired"
            }
            TlsFault::CertificateEarly => "the peer's certificate is not valid yet",
            TlsFault::CertificateIssuer => {
                "the peer's certificate was issued by no authority that is trusted here"
            }
            TlsFault::CertificateName => "the peer's certificate is for another name",
            TlsFault::CertificatePurpose => "the peer's certificate is for another purpose",
            TlsFault::CertificateBad => "the peer's certificate is not acceptable",
            TlsFault::Alert => "the peer refused the handshake",
            TlsFault::Broken => "the peer broke a rule of TLS",
        }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_labels_of_its_own() {
        let mut labels: Vec<&str> = TlsFault::ALL
            .iter()
            .flat_map(|fault| [fault.caller_label(), fault.upstream_label()])
            .collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), 2 * TlsFault::ALL.len());
        let known = super::super::fault::LABELS;
        assert!(labels.iter().all(|label| known.contains(label)), "a label that metrics lack");
    }
}
