//! What the machines use, made of the configuration.

use std::net::ToSocketAddrs;
use std::sync::Arc;

use super::problem;
use super::rules::credential;
use super::secrets::Secrets;
use crate::app::certificates::Certificates;
use crate::app::config;
use crate::app::config::{Config, MaskStyle, Problem, Release};
use crate::auth::metadata;
use crate::gateway::demands::Demands;
use crate::gateway::env::{Route, Seals, Settings, Terms};
use crate::guard::Mask;
use crate::guard::policy::{self, Policy};
use crate::record::Level;

pub(super) fn level(release: Release) -> Level {
    match release {
        Release::Queued => Level::Queued,
        Release::Written => Level::Written,
        Release::Synced => Level::Synced,
    }
}

fn mask(style: MaskStyle) -> Mask {
    match style {
        MaskStyle::Fill => Mask::Fill,
        MaskStyle::Label => Mask::Label,
    }
}

/// What each listener demands of whoever connects.
fn demands(config: &Config, certificates: &Certificates) -> Vec<Arc<Demands>> {
    let each = config.listens.iter().enumerate().map(|(number, listen)| Demands {
        tls: listen.tls.is_some(),
        callers: certificates.caller_demands(number),
        proxies: listen.proxies.clone(),
    });
    each.map(Arc::new).collect()
}

/// Turns the configuration into what the machines use.
pub(super) fn settings(
    config: &Config,
    policy_id: Arc<str>,
    secrets: &Secrets,
    certificates: &Certificates,
) -> Result<Settings, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut routes = Vec::new();
    let issuers: Vec<&str> = config.issuers.iter().map(|issuer| issuer.url.as_str()).collect();
    for upstream in &config.upstreams {
        let url = &upstream.url;
        let address =
            (url.host.as_str(), url.port).to_socket_addrs().ok().and_then(|mut all| all.next());
        let Some(address) = address else {
            problems.push(problem(
                format!("upstream {} url", upstream.name),
                format!("{} cannot be resolved", url.host),
                "a host name that resolves, or an address",
            ));
            continue;
        };
        let metadata_at = metadata::metadata_url(&upstream.resource)
            .and_then(|url| Ok((url, metadata::metadata_path(&upstream.resource)?)));
        let (metadata_url, metadata_path) = match metadata_at {
            Ok(found) => found,
            Err(fault) => {
                problems.push(problem(
                    format!("upstream {} resource", upstream.name),
                    upstream.resource.clone(),
                    fault.as_str(),
                ));
                continue;
            }
        };
        let credential = match credential(upstream) {
            Ok(credential) => credential,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        routes.push((
            routes.len() as u16,
            Route {
                name: upstream.name.as_str().into(),
                path: upstream.path.trim_end_matches('/').to_owned(),
                host: url.authority.clone(),
                target: url.target.clone(),
                address,
                tls: certificates.connector(&upstream.name),
                resource: upstream.resource.as_str().into(),
                metadata_url,
                metadata_path,
                metadata: metadata::document(&upstream.resource, &issuers).into(),
                credential,
                decode: upstream.decode.clone(),
                connections: u32::try_from(upstream.connections).unwrap_or(u32::MAX),
            },
        ));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    // The longest path wins, so it is looked at first; grants follow their upstream to its new place.
    routes.sort_by_key(|(_, route)| std::cmp::Reverse(route.path.len()));
    let place = |upstream: u16| {
        routes.iter().position(|(index, _)| *index == upstream).unwrap_or_default() as u16
    };
    let mut grants = Vec::new();
    let mut grant_terms = Vec::new();
    for grant in &config.grants {
        grants.push(policy::Grant { upstream: place(grant.upstream), ..grant.to_policy() });
        grant_terms.push(Terms { level: grant.release.map(level), keep: grant.record });
    }
    Ok(Settings {
        policy_id,
        limits: config.limits.clone(),
        routes: routes.into_iter().map(|(_, route)| route).collect(),
        issuers: config.issuers.clone(),
        policy: Policy::new(grants),
        grant_terms,
        proxies: config.listens.iter().map(|listen| listen.proxies.clone()).collect(),
        demands: demands(config, certificates),
        origins: config.listens.iter().map(|listen| listen.origins.clone()).collect(),
        hosts: config.listens.iter().map(|listen| hosts(config, listen)).collect(),
        level: level(config.record.release),
        mask: mask(config.guard.mask),
        structured: config.guard.structured,
        handle_key: secrets.handle_key.clone(),
        pseudonym_key: secrets.pseudonym_key,
        seals: Seals {
            originals: !config.record.seal_to.is_empty(),
            tokens: config.record.seal_tokens,
            payloads: config.record.seal_payloads,
        },
    })
}

/// Names of the gateway at one listener: the hosts of its public URLs, and what the configuration adds.
fn hosts(config: &Config, listen: &config::Listen) -> Vec<String> {
    let resources = config.upstreams.iter().filter_map(|upstream| {
        config::HttpUrl::parse(&upstream.resource).ok().map(|url| url.host.to_ascii_lowercase())
    });
    let mut names: Vec<String> = resources.chain(listen.hosts.iter().cloned()).collect();
    names.sort();
    names.dedup();
    names
}
