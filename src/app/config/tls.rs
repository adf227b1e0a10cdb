//! The tables `tls` of `[[listen]]` and `[[upstream]]`.

use std::path::{Path, PathBuf};

use rustls::pki_types::ServerName;

use super::problem::{At, Problems};
use super::table::Section;
use super::{ListenTls, PairFiles, UpstreamTls};
use crate::app::certificates::FileFault;

fn path(at: Option<At<&str>>, base: &Path) -> Option<PathBuf> {
    at.map(|at| base.join(at.value))
}

fn pair(section: &mut Section<'_>, base: &Path, problems: &mut Problems) -> Option<PairFiles> {
    let certificate = section.required("certificate", "certificate = \"server.pem\"", problems);
    let key = section.required("key", "key = \"server.key\"", problems);
    Some(PairFiles { certificate: path(certificate, base)?, key: path(key, base)? })
}

/// Several certificates for one listener, chosen by name. Bound: each is asked at each handshake.
const PAIRS_MAX: usize = 256;

/// `tls` of a listener, with its place.
pub(super) fn listen(
    section: &mut Section<'_>,
    base: &Path,
    problems: &mut Problems,
) -> Option<At<ListenTls>> {
    let mut tls = section.section("tls", problems)?;
    let place = tls.place();
    let is_list = tls.has("certificates");
    let mut pairs = Vec::new();
    if is_list {
        for key in ["certificate", "key"] {
            if let Some(at) = tls.value(key, problems) {
                let allowed = "either certificate and key, or a list of certificates";
                problems.at(&at, "certificates is there too", allowed);
            }
        }
        let sections = tls.sections("certificates", problems);
        if sections.is_empty() || sections.len() > PAIRS_MAX {
            let seen = format!("{} certificates", sections.len());
            let allowed = format!(
                "from 1 to {PAIRS_MAX}: certificates = [{{ certificate = \"a.pem\", key = \"a.key\" }}]"
            );
            problems.at(&place, seen, allowed);
        }
        for mut one in sections {
            pairs.extend(pair(&mut one, base, problems));
            one.finish(problems);
        }
    } else {
        pairs.extend(pair(&mut tls, base, problems));
    }
    let client_ca = path(tls.string("client_ca", problems), base);
    let mut client_certificate_required = client_ca.is_some();
    if let Some(at) = tls.string("client_certificate", problems) {
        match at.value {
            _ if client_ca.is_none() => {
                let allowed = "client_ca = \"ca.pem\" with it: whose certificates are good";
                problems.at(&at, "no client_ca", allowed);
            }
            "required" => client_certificate_required = true,
            "optional" => client_certificate_required = false,
            other => problems.at(&at, format!("{other:?}"), "required, optional"),
        }
    }
    tls.finish(problems);
    (!pairs.is_empty())
        .then(|| place.with(ListenTls { pairs, is_list, client_ca, client_certificate_required }))
}

/// `tls` of an upstream, with its place.
pub(super) fn upstream(
    section: &mut Section<'_>,
    base: &Path,
    problems: &mut Problems,
) -> Option<At<UpstreamTls>> {
    let mut tls = section.section("tls", problems)?;
    let place = tls.place();
    let ca = path(tls.string("ca", problems), base);
    let pair = match tls.has("certificate") || tls.has("key") {
        true => pair(&mut tls, base, problems),
        false => {
            let _ = (tls.value("certificate", problems), tls.value("key", problems));
            None
        }
    };
    let server_name = tls.string("server_name", problems).and_then(|at| {
        if ServerName::try_from(at.value).is_err() {
            let allowed = "a host name or an address, as the server's certificate has it";
            problems.at(&at, format!("{:?}", at.value), allowed);
            return None;
        }
        Some(at.value.to_owned())
    });
    tls.finish(problems);
    Some(place.with(UpstreamTls { ca, pair, server_name }))
}

/// Tells what is wrong with files, each at the key that names it.
pub(super) fn tell<T>(place: &At<T>, faults: Vec<FileFault>, problems: &mut Problems) {
    for fault in faults {
        let at = At { value: (), line: place.line, key: format!("{}.{}", place.key, fault.key) };
        problems.at(&at, fault.seen, fault.allowed);
    }
}
