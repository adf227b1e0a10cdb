//! `[[listen]]` and `[admin]`: where the gateway is reached.

use std::net::SocketAddr;

use super::{Reading, accept, distinct};
use crate::app::certificates;
use crate::app::config::problem::{At, Problems};
use crate::app::config::table::Section;
use crate::app::config::tls;
use crate::app::config::value;
use crate::app::config::{Files, Listen};
use crate::wire::proxy::Network;

fn socket_address(at: &At<&str>, problems: &mut Problems) -> Option<SocketAddr> {
    const ALLOWED: &str = "an address and a port such as 127.0.0.1:8080 or [::]:8080";
    accept(at, |text| text.parse().map_err(|_| ALLOWED), problems)
}

pub(super) fn listens(root: &mut Section<'_>, reading: &mut Reading<'_>) -> Vec<Option<Listen>> {
    let problems = &mut reading.problems;
    let sections = root.sections("listen", problems);
    if sections.is_empty() {
        problems.missing_table("[[listen]]", "at least one, with address = \"127.0.0.1:8080\"");
    }
    let mut addresses = Vec::new();
    let mut listens = Vec::new();
    for mut section in sections {
        let at = section.required("address", "address = \"127.0.0.1:8080\"", problems);
        let address = at.as_ref().and_then(|at| {
            let address = socket_address(at, problems)?;
            if address.port() != 0 {
                addresses.push(at.with(address.to_string()));
            }
            Some(address)
        });
        let tls = tls::listen(&mut section, reading.base, problems);
        if let Some(at) = tls.as_ref().filter(|_| reading.files >= Files::Check)
            && let Err(faults) = certificates::acceptor(&at.value)
        {
            tls::tell(at, faults, problems);
        }
        let tls = tls.map(|at| at.value);
        let mut origins = Vec::new();
        for at in section.strings("origins", problems).unwrap_or_default() {
            if accept(&at, value::origin, problems).is_some() {
                origins.push(at.value.to_owned());
            }
        }
        let mut hosts = Vec::new();
        for at in section.strings("hosts", problems).unwrap_or_default() {
            if accept(&at, value::host_name, problems).is_some() {
                hosts.push(at.value.to_owned());
            }
        }
        let proxies = section.strings("proxy_protocol", problems).map(|list| {
            if list.is_empty() {
                let allowed = "at least one address, or no such key: with none nobody is let in";
                problems.at(&section.place(), "an empty list of proxy_protocol", allowed);
            }
            list.iter().filter_map(|at| accept(at, Network::parse, problems)).collect()
        });
        listens.push(address.map(|address| Listen { address, proxies, origins, hosts, tls }));
        section.finish(problems);
    }
    distinct(&addresses, problems);
    listens
}

pub(super) fn admin(root: &mut Section<'_>, reading: &mut Reading<'_>) -> Option<SocketAddr> {
    let problems = &mut reading.problems;
    let mut section = root.section("admin", problems)?;
    let at = section.required("address", "address = \"127.0.0.1:9464\"", problems);
    let address = at.and_then(|at| socket_address(&at, problems));
    section.finish(problems);
    address
}
