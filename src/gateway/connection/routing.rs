//! Which upstream a path belongs to, and what of the path goes on to it.

use bytes::Bytes;

use super::super::env::{Route, Settings};
use super::super::fault::Fault;
use super::exchange::Exchange;
use super::upstream_head::percent_decoded;

pub(super) fn metadata_at(settings: &Settings, path: &[u8]) -> Option<Bytes> {
    const WELL_KNOWN: &[u8] = b"/.well-known/oauth-protected-resource";
    let rest = path.strip_prefix(WELL_KNOWN)?;
    if rest.is_empty() && settings.routes.len() == 1 {
        return Some(settings.routes[0].metadata.clone());
    }
    settings
        .routes
        .iter()
        .find(|route| {
            // The public path of `resource` and the path at this listener may differ behind another
            // proxy; both lead to the document.
            route.metadata_path.as_bytes() == path || route.path.as_bytes() == rest
        })
        .map(|route| route.metadata.clone())
}

/// The route with the longest path that is `path` or a whole-segment prefix of it.
pub(super) fn route_at(settings: &Settings, path: &[u8]) -> Option<usize> {
    settings.routes.iter().position(|route| {
        path.strip_prefix(route.path.as_bytes())
            .is_some_and(|rest| rest.is_empty() || (rest[0] == b'/' && suffix_is_plain(rest)))
    })
}

/// A query with the session parameter of the 2024-11-05 transport, in either spelling.
pub(super) fn names_a_session(query: &[u8]) -> bool {
    query.split(|byte| matches!(byte, b'&' | b';')).any(|pair| {
        // Why decoded: servers decode the names of a query.
        let name = percent_decoded(pair.split(|&byte| byte == b'=').next().unwrap_or_default());
        name.eq_ignore_ascii_case(b"session_id") || name.eq_ignore_ascii_case(b"sessionId")
    })
}

/// What stands behind the route's path goes on to the upstream, so nothing in it may be read in two
/// ways: no dot segment, no escape, no backslash.
pub(super) fn suffix_is_plain(rest: &[u8]) -> bool {
    let symbol = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
    rest.iter().all(symbol)
        && rest.split(|&byte| byte == b'/').all(|segment| segment != b"." && segment != b"..")
        && memchr::memmem::find(rest, b"//").is_none()
}

/// The upstream's target for the path that was asked for.
///
/// # Errors
/// The path is not one of the exchange's route.
pub(super) fn suffix_target(exchange: &Exchange) -> Result<String, Fault> {
    let route = exchange.route();
    let rest = suffix(exchange)?;
    let rest = std::str::from_utf8(rest).expect("the suffix is plain ASCII");
    Ok(format!(
        "{}{rest}",
        if rest.is_empty() { &route.target } else { route.target.trim_end_matches('/') }
    ))
}

/// What stands behind the route's path in the path that was asked for.
///
/// # Errors
/// The path is not one of the exchange's route.
pub(super) fn suffix(exchange: &Exchange) -> Result<&[u8], Fault> {
    let path = exchange.request.path.of(&exchange.head);
    path.strip_prefix(exchange.route().path.as_bytes()).ok_or(Fault::PathUnknown)
}

/// The settings name another place under this upstream's name than those under which the exchange
/// began: what was read and written for the one must not go to the other.
pub(super) fn moved(exchange: &Exchange, found: &Route) -> bool {
    let route = exchange.route();
    let name = |route: &Route| route.tls.as_ref().map(|tls| tls.name.clone());
    route.path != found.path
        || route.host != found.host
        || route.target != found.target
        || route.address != found.address
        || name(route) != name(found)
        // Until the head is written the new credential is taken, and one that is with the server cannot
        // be called back; in between it waits in a head that is not sent yet.
        || (exchange.asked && !exchange.forwarded && route.credential != found.credential)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_in_the_query_is_nobodys() {
        assert!(names_a_session(b"session_id=1") && names_a_session(b"a=b&sessionId=1"));
        assert!(names_a_session(b"session%5Fid=1") && names_a_session(b"%73ess%69onId=1"));
        assert!(!names_a_session(b"session=1&x=session_id"));
    }

    #[test]
    fn a_path_suffix_is_plain_or_unknown() {
        assert!(suffix_is_plain(b"/a/b.c"));
        for bad in ["/../x", "/a/./b", "/%2e%2e/x", "/a%2fb", "/a\\b", "//x", "/a;b"] {
            assert!(!suffix_is_plain(bad.as_bytes()), "{bad}");
        }
    }
}
