//! Whose name a request was sent to, and from which page: the checks against DNS rebinding.
//!
//! A page that a name of its own brought to this address sends that name as Host, and as its Origin. So
//! Host must be a name of ours, and an Origin must be listed or be our own (MCP 2025-11-25 and
//! 2026-07-28, transports, security warning).

use super::super::env::Settings;

/// Whether `host`, the value of a Host field that the strict reader accepted, names this gateway: a
/// name of a resource, one in `hosts` of the listener, `localhost`, or an address. Why any address: no
/// name stands for it, so nobody can have turned a name of his into it. The port is not looked at:
/// whoever passes connections on has another one.
pub(super) fn host_is_ours(settings: &Settings, listener: u16, host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    if let Some(rest) = host.strip_prefix('[') {
        // RFC 3986 §3.2.2: only addresses stand in brackets; the reader has checked this one.
        return rest.contains(']');
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    // RFC 1034 §3.1: the name with its root is the same name.
    let name = name.strip_suffix('.').unwrap_or(name);
    name.parse::<std::net::Ipv4Addr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || settings
            .hosts
            .get(usize::from(listener))
            .is_some_and(|hosts| hosts.iter().any(|known| name.eq_ignore_ascii_case(known)))
}

/// Whether `origin` may read answers: it is in `origins` of the listener, or it is that of the gateway
/// itself, by the Host that the same request was sent to and that is ours. Nothing but the gateway's
/// own answers is served from there. Where TLS ends here (`tls`), only `https` is our own; where it does
/// not, both are, since TLS may end in front of us.
pub(super) fn origin_is_let_in(
    settings: &Settings,
    listener: u16,
    origin: &[u8],
    host: Option<&[u8]>,
    tls: bool,
) -> bool {
    let listed = settings
        .origins
        .get(usize::from(listener))
        .is_some_and(|list| list.iter().any(|one| one.as_bytes() == origin));
    // RFC 6454 §4: another scheme is another origin.
    let plain = (!tls).then_some(&b"http://"[..]);
    let own = plain
        .into_iter()
        .chain([&b"https://"[..]])
        .filter_map(|scheme| origin.strip_prefix(scheme))
        .any(|authority| host.is_some_and(|host| authority.eq_ignore_ascii_case(host)));
    listed || own
}
