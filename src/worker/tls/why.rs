//! Why a handshake failed: what rustls says, in the words of the gateway.

use rustls::{CertificateError, Error, InvalidMessage, PeerIncompatible};

use crate::gateway::secure::TlsFault;

/// The fault that stands for `error`.
pub fn fault(error: &Error) -> TlsFault {
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::NoCertificatesPresented => TlsFault::CertificateMissing,
        Error::NoApplicationProtocol => TlsFault::Protocol,
        Error::PeerIncompatible(PeerIncompatible::UnsolicitedCertificateTypeExtension) => {
            TlsFault::Broken
        }
        Error::PeerIncompatible(_) => TlsFault::NothingInCommon,
        Error::AlertReceived(_) => TlsFault::Alert,
        // Why not for every invalid message: these come from the first five bytes of a record, so a
        // peer that speaks TLS at all does not cause them.
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::InvalidEmptyPayload
            | InvalidMessage::MessageTooLarge,
        ) => TlsFault::NotTls,
        _ => TlsFault::Broken,
    }
}

fn certificate(error: &CertificateError) -> TlsFault {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            TlsFault::CertificateExpired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsFault::CertificateEarly
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            TlsFault::CertificateIssuer
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsFault::CertificateName
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            TlsFault::CertificatePurpose
        }
        _ => TlsFault::CertificateBad,
    }
}

/// What came first on a port that speaks TLS is the begin of an HTTP/1.1 request.
pub fn is_plain_http(first: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] = [
        b"GET ",
        b"POST ",
        b"DELETE ",
        b"OPTIONS ",
        b"HEAD ",
        b"PUT ",
        b"PATCH ",
        b"CONNECT ",
        b"PRI ",
    ];
    METHODS.iter().any(|method| first.starts_with(method))
}
