//! The written forms of values: durations, sizes, URLs, paths and names. Exactly these forms are
//! accepted; nothing is trimmed or guessed.

use std::net::IpAddr;

use crate::limits::{Bound, Unit};

/// An absolute `http` or `https` URL without userinfo and fragment, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl {
    /// As it was written.
    pub text: String,
    /// Scheme `https`.
    pub secure: bool,
    /// Host name or address; IPv6 without the brackets.
    pub host: String,
    /// Port, the scheme's own when none was written.
    pub port: u16,
    /// Path and query as sent in the request line; at least `/`.
    pub target: String,
    /// `host[:port]` as written: the value of the `Host` field.
    pub authority: String,
}

impl HttpUrl {
    /// Reads a URL; the error says what is allowed.
    pub fn parse(text: &str) -> Result<HttpUrl, &'static str> {
        const ALLOWED: &str = "an absolute URL such as http://host:port/path";
        if text.bytes().any(|byte| !byte.is_ascii_graphic() || b"\"<>\\^`{|}".contains(&byte)) {
            return Err("an absolute URL of visible ASCII characters, others percent-encoded");
        }
        let (secure, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err("an absolute URL that begins with http:// or https://"),
        };
        if text.contains('#') {
            return Err("an absolute URL without a fragment (#…)");
        }
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(split);
        if authority.contains('@') {
            return Err("an absolute URL without user and password");
        }
        let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or(ALLOWED)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| ALLOWED)?;
            match port {
                "" => (host, None),
                port => (host, Some(port.strip_prefix(':').ok_or(ALLOWED)?)),
            }
        } else {
            match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            }
        };
        let host_fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        if host.is_empty() || !host.bytes().all(host_fits) {
            return Err(ALLOWED);
        }
        let port = match port {
            None => 80 + 363 * u16::from(secure),
            Some(digits) => decimal(digits)
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port > 0)
                .ok_or("a port from 1 to 65535")?,
        };
        let target = match target {
            "" => "/".to_owned(),
            target if target.starts_with('?') => format!("/{target}"),
            target => target.to_owned(),
        };
        Ok(HttpUrl {
            text: text.to_owned(),
            secure,
            host: host.to_owned(),
            port,
            target,
            authority: authority.to_owned(),
        })
    }

    /// The host is this machine: traffic to it crosses no network.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// Digits only: no sign, no space, no underscore.
fn decimal(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(split);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    decimal(digits)?.checked_mul(*factor)
}

/// Milliseconds of `"250ms"`, `"30s"`, `"5m"` or `"1h"`.
pub fn duration_ms(text: &str) -> Option<u64> {
    with_unit(text, &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)])
}

/// Bytes of `"512B"`, `"64KiB"`, `"1MiB"` or `"2GiB"`.
pub fn size_bytes(text: &str) -> Option<u64> {
    with_unit(text, &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)])
}

/// A bound's value in the form in which the configuration writes it.
pub fn bound_text(unit: Unit, value: u64) -> String {
    let scaled = |units: &[(&str, u64)]| {
        let fits =
            units.iter().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
        fits.map(|(name, factor)| format!("\"{}{name}\"", value / factor))
    };
    match unit {
        Unit::Count => value.to_string(),
        Unit::Bytes => scaled(&[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)])
            .unwrap_or_else(|| format!("\"{value}B\"")),
        Unit::Milliseconds => scaled(&[("h", 3_600_000), ("m", 60_000), ("s", 1000)])
            .unwrap_or_else(|| format!("\"{value}ms\"")),
    }
}

/// What the bound may be set to, in words.
pub fn bound_range(bound: &Bound) -> String {
    let text = |value| bound_text(bound.unit, value);
    format!(
        "from {} to {} (a bound can be lowered, not raised)",
        text(bound.least),
        text(bound.default)
    )
}

/// Path under which callers reach an upstream: `/` or `/part/part` of unreserved characters, so that
/// no two spellings of one path exist.
pub fn upstream_path(text: &str) -> Result<(), &'static str> {
    let Some(rest) = text.strip_prefix('/') else { return Err("a path that begins with /") };
    if rest.is_empty() {
        return Ok(());
    }
    for part in rest.split('/') {
        if part.is_empty() || part == "." || part == ".." {
            return Err("a path without empty or dot segments and without a / at its end");
        }
        if !part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) {
            return Err("a path of letters, digits and - . _ ~");
        }
    }
    if rest == ".well-known" || rest.starts_with(".well-known/") {
        return Err("a path outside /.well-known, where the gateway serves its metadata");
    }
    Ok(())
}

/// Name of an upstream: it becomes a label of metrics and a filter of `search`.
pub fn name(text: &str) -> Result<(), &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(fits) {
        return Err("1 to 64 letters, digits and - _ .");
    }
    Ok(())
}

/// A name that callers write into Host: without port, in lower case.
pub fn host_name(text: &str) -> Result<(), &'static str> {
    const ALLOWED: &str = "a host name such as gateway.internal, in lower case, without port";
    let symbol = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let label = |label: &str| !label.is_empty() && label.bytes().all(symbol);
    if text.split('.').all(label) { Ok(()) } else { Err(ALLOWED) }
}

/// A browser origin: scheme, host and port only (RFC 6454 §6.2), in lower case.
pub fn origin(text: &str) -> Result<(), &'static str> {
    const ALLOWED: &str = "an origin such as https://ide.example.com, in lower case, without path";
    let url = HttpUrl::parse(text).map_err(|_| ALLOWED)?;
    let scheme = if url.secure { "https://" } else { "http://" };
    let written = format!("{scheme}{}", url.authority);
    if written != text || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(ALLOWED);
    }
    Ok(())
}

/// Field of an upstream's credential: a token (RFC 9110 §5.6.2) in lower case that the gateway does not
/// write itself.
pub fn credential_header(text: &str) -> Result<(), &'static str> {
    const OURS: &[&str] = &[
        "host",
        "connection",
        "content-length",
        "content-type",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "accept",
        "accept-encoding",
        "keep-alive",
        "proxy-connection",
    ];
    let fits = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
    };
    if text.is_empty() || text.len() > 64 || !text.bytes().all(fits) {
        return Err("a field name in lower case, such as authorization or x-api-key");
    }
    if OURS.contains(&text) || text.starts_with("mcp-") || text.starts_with("stenograph-") {
        return Err("a field that the gateway does not write itself, such as authorization");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_one_form() {
        assert_eq!(duration_ms("250ms"), Some(250));
        assert_eq!(duration_ms("30s"), Some(30_000));
        assert_eq!(duration_ms("5m"), Some(300_000));
        assert_eq!(duration_ms("1h"), Some(3_600_000));
        assert_eq!(size_bytes("64KiB"), Some(65_536));
        assert_eq!(size_bytes("1MiB"), Some(1 << 20));
        for bad in ["", "s", "30", "30 s", "+30s", "-1s", "1.5s", "30S", "1_0s", "30sec"] {
            assert_eq!(duration_ms(bad), None, "{bad}");
        }
        assert_eq!(size_bytes("64KB"), None);
        assert_eq!(size_bytes("99999999999999999GiB"), None);
    }

    #[test]
    fn bounds_are_written_as_they_are_read() {
        assert_eq!(bound_text(Unit::Bytes, 32 * 1024), "\"32KiB\"");
        assert_eq!(bound_text(Unit::Bytes, 64), "\"64B\"");
        assert_eq!(bound_text(Unit::Milliseconds, 75_000), "\"75s\"");
        assert_eq!(bound_text(Unit::Milliseconds, 0), "\"0ms\"");
        assert_eq!(bound_text(Unit::Count, 100), "100");
    }

    #[test]
    fn urls_are_taken_apart_or_refused() {
        let url = HttpUrl::parse("http://127.0.0.1:3001/mcp?x=1").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("127.0.0.1", 3001));
        assert_eq!((url.target.as_str(), url.authority.as_str()), ("/mcp?x=1", "127.0.0.1:3001"));
        assert!(url.is_loopback() && !url.secure);
        let url = HttpUrl::parse("https://[2001:db8::1]").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("2001:db8::1", 443));
        assert_eq!(url.target, "/");
        assert!(HttpUrl::parse("http://[::1]:80/").unwrap().is_loopback());
        assert!(!HttpUrl::parse("http://localhost.example.com/").unwrap().is_loopback());
        for bad in [
            "ftp://x/",
            "http:/x",
            "http://",
            "http:///x",
            "http://a b/",
            "http://u:p@h/",
            "http://h/#f",
            "http://h:0/",
            "http://h:65536/",
            "http://h:+80/",
            "http://[::1/",
            "http://[::1]80/",
            "//h/x",
            "HTTP://h/",
            "http://h\\x/",
        ] {
            assert!(HttpUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_have_one_spelling() {
        for good in ["/", "/codegen", "/a/b-c_d.e~"] {
            assert_eq!(upstream_path(good), Ok(()), "{good}");
        }
        for bad in
            ["", "x", "//", "/a/", "/a//b", "/a/../b", "/.", "/a%2f", "/a?b", "/.well-known/x"]
        {
            assert!(upstream_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_and_headers_have_one_spelling() {
        assert_eq!(origin("https://ide.example.com:8443"), Ok(()));
        for bad in ["https://ide.example.com/", "null", "*", "https://IDE.example.com"] {
            assert!(origin(bad).is_err(), "{bad}");
        }
        assert_eq!(host_name("gateway-1.internal"), Ok(()));
        for bad in ["", "Gateway", "gateway:8080", "a..b", "*.example.com", "http://a"] {
            assert!(host_name(bad).is_err(), "{bad}");
        }
        assert_eq!(credential_header("x-api-key"), Ok(()));
        for bad in ["", "Authorization", "host", "mcp-session-id", "a b", "a:"] {
            assert!(credential_header(bad).is_err(), "{bad}");
        }
    }
}
