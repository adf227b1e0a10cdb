//! Protected resource metadata (RFC 9728) and the challenge that leads a client to it.
//!
//! Each upstream has its own document, made from its own `resource`; nothing of the upstream's own
//! metadata is ever passed on.
//!
//! It does not decide who gets a challenge.

use std::fmt;

use serde_json::json;

use super::token::TokenFault;

/// RFC 9728 §3: goes between the host and the path of the resource.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Why a `resource` cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceFault {
    /// Neither `https://` nor `http://`.
    Scheme,
    /// No host, or userinfo before it.
    Host,
    /// A query or a fragment (RFC 8707 §2 forbids the latter; the former has no use here).
    Tail,
    /// A space, a quote, a backslash, a control character or a character outside ASCII.
    Symbol,
}

impl ResourceFault {
    /// The name used in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            ResourceFault::Scheme => "scheme",
            ResourceFault::Host => "host",
            ResourceFault::Tail => "tail",
            ResourceFault::Symbol => "symbol",
        }
    }
}

impl fmt::Display for ResourceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResourceFault::Scheme => "expected https:// (or http:// for tests)",
            ResourceFault::Host => "expected a host after the scheme, without userinfo",
            ResourceFault::Tail => "expected neither query nor fragment",
            ResourceFault::Symbol => "expected only visible ASCII without quotes and backslashes",
        })
    }
}

impl std::error::Error for ResourceFault {}

/// Cuts `resource` into origin and path; the path of a bare origin is empty.
fn cut(resource: &str) -> Result<(&str, &str), ResourceFault> {
    let symbol = |byte: u8| byte.is_ascii_graphic() && !b"\"\\<>^`{|}".contains(&byte);
    if !resource.bytes().all(symbol) {
        return Err(ResourceFault::Symbol);
    }
    let rest = resource
        .strip_prefix("https://")
        .or_else(|| resource.strip_prefix("http://"))
        .ok_or(ResourceFault::Scheme)?;
    if resource.contains(['?', '#']) {
        return Err(ResourceFault::Tail);
    }
    let host = rest.split('/').next().unwrap_or_default();
    if host.is_empty() || host.starts_with(':') || host.contains('@') {
        return Err(ResourceFault::Host);
    }
    let origin = &resource[..resource.len() - rest.len() + host.len()];
    let path = &resource[origin.len()..];
    // RFC 9728 §3.1: the slash that ends a bare host goes before the insertion.
    Ok((origin, if path == "/" { "" } else { path }))
}

/// Where clients look for the document of `resource`.
///
/// # Errors
/// `resource` is no usable address.
pub fn metadata_url(resource: &str) -> Result<String, ResourceFault> {
    let (origin, path) = cut(resource)?;
    Ok(format!("{origin}{WELL_KNOWN}{path}"))
}

/// The path of [`metadata_url`]: what this process serves it under.
///
/// # Errors
/// `resource` is no usable address.
pub fn metadata_path(resource: &str) -> Result<String, ResourceFault> {
    let (_, path) = cut(resource)?;
    Ok(format!("{WELL_KNOWN}{path}"))
}

/// The document (RFC 9728 §2): JSON, served without a token. `issuers` are the issuers' addresses.
pub fn document(resource: &str, issuers: &[&str]) -> Vec<u8> {
    json!({
        "resource": resource,
        "authorization_servers": issuers,
        "bearer_methods_supported": ["header"],
    })
    .to_string()
    .into_bytes()
}

/// The value of `WWW-Authenticate` for a 401 (RFC 6750 §3, RFC 9728 §5.1). Without a token there is no
/// `error`; with one the description tells an honest client what to do and a forger nothing: only what
/// follows a good signature (`exp`) is named.
pub fn challenge(metadata_url: &str, fault: Option<TokenFault>) -> String {
    let description = match fault {
        None | Some(TokenFault::Missing | TokenFault::Scheme) => {
            return format!("Bearer resource_metadata=\"{metadata_url}\"");
        }
        Some(TokenFault::Expired) => "the access token has expired",
        Some(TokenFault::UnknownKey { .. } | TokenFault::NoKeys { .. }) => {
            "the access token cannot be verified now"
        }
        Some(_) => "the access token is not valid for this resource",
    };
    format!(
        "Bearer error=\"invalid_token\", error_description=\"{description}\", \
         resource_metadata=\"{metadata_url}\""
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_inserted_between_host_and_path() {
        let cases = [
            ("https://mcp.example.com/codegen", "https://mcp.example.com", "/codegen"),
            ("https://mcp.example.com", "https://mcp.example.com", ""),
            ("https://mcp.example.com/", "https://mcp.example.com", ""),
            ("https://mcp.example.com:8443/a/b/", "https://mcp.example.com:8443", "/a/b/"),
            ("http://[::1]:8080/mcp", "http://[::1]:8080", "/mcp"),
        ];
        for (resource, origin, path) in cases {
            let well_known = format!("/.well-known/oauth-protected-resource{path}");
            assert_eq!(metadata_path(resource).as_deref(), Ok(well_known.as_str()));
            assert_eq!(metadata_url(resource), Ok(format!("{origin}{well_known}")));
        }
    }

    #[test]
    fn what_is_no_resource_is_refused_by_name() {
        for (resource, fault) in [
            ("ftp://a/b", ResourceFault::Scheme),
            ("mcp.example.com", ResourceFault::Scheme),
            ("https:///b", ResourceFault::Host),
            ("https://user@a/b", ResourceFault::Host),
            ("https://a/b?c", ResourceFault::Tail),
            ("https://a/b#c", ResourceFault::Tail),
            ("https://a/b\" x=\"", ResourceFault::Symbol),
            ("https://a/\r\nb", ResourceFault::Symbol),
            ("https://ä/", ResourceFault::Symbol),
        ] {
            assert_eq!(metadata_url(resource), Err(fault), "{resource}");
            assert_eq!(metadata_path(resource), Err(fault), "{resource}");
        }
    }

    #[test]
    fn the_document_names_resource_and_issuers() {
        let text = document("https://mcp.example.com/a", &["https://login.example.com"]);
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["resource"], "https://mcp.example.com/a");
        assert_eq!(value["authorization_servers"], json!(["https://login.example.com"]));
        assert_eq!(value["bearer_methods_supported"], json!(["header"]));
    }

    // Mutant: naming the fault itself in the description lets a forger tell a known key id from an
    // unknown one; the equality below fails then.
    #[test]
    fn the_challenge_tells_a_forger_nothing() {
        let url = "https://a/.well-known/oauth-protected-resource/b";
        let bare = format!("Bearer resource_metadata=\"{url}\"");
        assert_eq!(challenge(url, None), bare);
        assert_eq!(challenge(url, Some(TokenFault::Missing)), bare);
        let forged = challenge(url, Some(TokenFault::Signature));
        assert!(forged.contains("error=\"invalid_token\""));
        assert_eq!(forged, challenge(url, Some(TokenFault::Algorithm)));
        assert_eq!(forged, challenge(url, Some(TokenFault::UnknownIssuer)));
        assert!(challenge(url, Some(TokenFault::Expired)).contains("expired"));
    }
}
