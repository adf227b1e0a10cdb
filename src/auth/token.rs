//! The access token: from the bytes of `Authorization` to an [`Identity`], or a refusal.
//!
//! [`verify`] is the only way to an `Identity`. The order of checks is: form (length, dots, base64url),
//! header, issuer, algorithm and type, key, signature, claims. Nothing in the token is believed before
//! the signature except which configured issuer and which key id to try; no address in a token is ever
//! used.
//!
//! Sources: RFC 7515, RFC 7519, RFC 8725 (best current practice), RFC 9068 (`at+jwt`), RFC 6750.
//!
//! It does not judge what the caller may do, and it does not know the deny list.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

pub use super::keys::Algorithm;
use super::keys::{KeySets, Lookup};
use super::object;
use crate::limits::{CLAIM_TEXT_BYTES_MAX, Limits};
use crate::types::{Identity, Now};

/// One configured issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// `iss`, compared byte for byte; also where discovery starts.
    pub url: String,
    /// The claim that holds the caller's groups: a member's name, or a dotted path to it.
    pub groups_claim: String,
    /// Algorithms its keys may use.
    pub algorithms: Vec<Algorithm>,
    /// Allowed `typ`, without regard to case and to a leading `application/`. A token without `typ`
    /// passes only where `JWT` is allowed.
    pub token_types: Vec<String>,
}

/// A claim whose form is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// `iss`.
    Issuer,
    /// `sub`.
    Subject,
    /// `aud`.
    Audience,
    /// `exp`.
    Expires,
    /// `iat`.
    Issued,
    /// `nbf`.
    NotBefore,
    /// `client_id`.
    Client,
    /// `azp`.
    AuthorizedParty,
    /// `jti`.
    TokenId,
    /// The configured groups claim.
    Groups,
}

impl Claim {
    /// The name in the token.
    pub fn as_str(self) -> &'static str {
        match self {
            Claim::Issuer => "iss",
            Claim::Subject => "sub",
            Claim::Audience => "aud",
            Claim::Expires => "exp",
            Claim::Issued => "iat",
            Claim::NotBefore => "nbf",
            Claim::Client => "client_id",
            Claim::AuthorizedParty => "azp",
            Claim::TokenId => "jti",
            Claim::Groups => "groups",
        }
    }
}

/// Why there is no identity. Every one of them is a 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenFault {
    /// No `Authorization`.
    Missing,
    /// Another scheme than `Bearer`.
    Scheme,
    /// `Authorization` is not one scheme and one token.
    Credentials,
    /// Longer than `token_bytes_max`.
    TooLong,
    /// Not three base64url parts, or header or claims are no JSON object with unique members.
    Malformed,
    /// The header holds `crit`, `jku`, `x5u`, `jwk`, `x5c`, `zip`, `cty`, `b64` or `enc`.
    HeaderMember,
    /// `typ` is not among the issuer's token types.
    Type,
    /// `alg` is unknown, not configured, or not the key's.
    Algorithm,
    /// No `kid`.
    NoKeyId,
    /// `iss` is no configured issuer.
    UnknownIssuer,
    /// The issuer has no such key: worth a fetch.
    UnknownKey {
        /// Index of the issuer.
        issuer: u16,
    },
    /// The issuer's keys are not there or too old: worth a fetch.
    NoKeys {
        /// Index of the issuer.
        issuer: u16,
    },
    /// The key id stands twice in the issuer's set.
    AmbiguousKey,
    /// The signature is not the key's.
    Signature,
    /// A required claim is not there.
    ClaimMissing(Claim),
    /// A claim has the wrong JSON type, is empty, too long, or holds control or invisible characters.
    ClaimForm(Claim),
    /// `aud` does not hold the upstream's resource.
    WrongAudience,
    /// `exp` is reached.
    Expired,
    /// `nbf` is not reached.
    NotYetValid,
    /// `iat` lies in the future.
    IssuedLater,
    /// `exp` is not after `iat`, or by more than `token_life_ms_max`.
    Lifetime,
    /// The token is bound to another certificate than the caller showed (`cnf`, RFC 8705 §3), or the caller
    /// showed none.
    OtherCertificate,
    /// `cnf`: the token is bound to a key whose possession cannot be shown here.
    Bound,
}

impl TokenFault {
    /// The name used in records, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenFault::Missing => "token-missing",
            TokenFault::Scheme => "token-scheme",
            TokenFault::Credentials => "token-credentials",
            TokenFault::TooLong => "token-too-long",
            TokenFault::Malformed => "token-malformed",
            TokenFault::HeaderMember => "token-header-member",
            TokenFault::Type => "token-type",
            TokenFault::Algorithm => "token-algorithm",
            TokenFault::NoKeyId => "token-no-key-id",
            TokenFault::UnknownIssuer => "token-unknown-issuer",
            TokenFault::UnknownKey { .. } => "token-unknown-key",
            TokenFault::NoKeys { .. } => "token-no-keys",
            TokenFault::AmbiguousKey => "token-ambiguous-key",
            TokenFault::Signature => "token-signature",
            TokenFault::ClaimMissing(_) => "token-claim-missing",
            TokenFault::ClaimForm(_) => "token-claim-form",
            TokenFault::WrongAudience => "token-wrong-audience",
            TokenFault::Expired => "token-expired",
            TokenFault::NotYetValid => "token-not-yet-valid",
            TokenFault::IssuedLater => "token-issued-later",
            TokenFault::Lifetime => "token-lifetime",
            TokenFault::OtherCertificate => "token-other-certificate",
            TokenFault::Bound => "token-bound",
        }
    }

    /// The issuer whose keys should be fetched before the refusal is final.
    pub fn fetch_wanted(self) -> Option<u16> {
        match self {
            TokenFault::UnknownKey { issuer } | TokenFault::NoKeys { issuer } => Some(issuer),
            _ => None,
        }
    }

    /// Whether the same bytes can become good without anything else changing. Such a verdict must not
    /// be remembered.
    pub fn may_pass_later(self) -> bool {
        matches!(
            self,
            TokenFault::UnknownKey { .. }
                | TokenFault::NoKeys { .. }
                | TokenFault::NotYetValid
                | TokenFault::IssuedLater
        )
    }
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenFault::ClaimMissing(claim) => write!(f, "claim {} is missing", claim.as_str()),
            TokenFault::ClaimForm(claim) => write!(f, "claim {} is malformed", claim.as_str()),
            TokenFault::Missing => f.write_str("no Authorization field"),
            TokenFault::Scheme => f.write_str("Authorization scheme is not Bearer"),
            TokenFault::Credentials => f.write_str("Authorization is not one scheme and one token"),
            TokenFault::TooLong => f.write_str("token is longer than token_bytes_max"),
            TokenFault::Malformed => f.write_str("token is not a signed JWT in compact form"),
            TokenFault::HeaderMember => f.write_str("token header holds a member that is refused"),
            TokenFault::Type => f.write_str("token type is not among the issuer's token_types"),
            TokenFault::Algorithm => f.write_str("token algorithm is not the key's"),
            TokenFault::NoKeyId => f.write_str("token header has no kid"),
            TokenFault::UnknownIssuer => f.write_str("iss is no configured issuer"),
            TokenFault::UnknownKey { .. } => f.write_str("issuer has no key of this kid"),
            TokenFault::NoKeys { .. } => f.write_str("issuer's keys are not available"),
            TokenFault::AmbiguousKey => f.write_str("issuer has two keys of this kid"),
            TokenFault::Signature => f.write_str("signature does not verify"),
            TokenFault::WrongAudience => f.write_str("aud does not name this resource"),
            TokenFault::Expired => f.write_str("token has expired"),
            TokenFault::NotYetValid => f.write_str("token is not valid yet"),
            TokenFault::IssuedLater => f.write_str("token was issued in the future"),
            TokenFault::Lifetime => f.write_str("token lifetime is over token_life_ms_max"),
            TokenFault::OtherCertificate => {
                f.write_str("token is bound to another client certificate (cnf)")
            }
            TokenFault::Bound => {
                f.write_str("token is bound to a key that is no client certificate (cnf)")
            }
        }
    }
}

/// SHA-256 of the DER form of the client certificate that the token of `identity` is bound to (RFC 8705
/// §3.1): over a connection without it, the token is nobody's. `None` for a token that is bound to nothing.
pub fn certificate_of(identity: &Identity) -> Option<[u8; 32]> {
    confirmed(&identity.claims)
}

/// `cnf`, where it is that one certificate and nothing else.
fn confirmed(claims: &Map<String, Value>) -> Option<[u8; 32]> {
    let members = claims.get("cnf")?.as_object().filter(|members| members.len() == 1)?;
    let digest = members.get("x5t#S256")?.as_str()?;
    URL_SAFE_NO_PAD.decode(digest).ok()?.try_into().ok()
}

/// The token in the value of `Authorization` (RFC 6750 §2.1, RFC 9110 §11.4): the scheme without regard
/// to case, spaces, one token68, nothing else.
///
/// # Errors
/// [`TokenFault::Missing`], [`TokenFault::Scheme`], [`TokenFault::Credentials`].
pub fn bearer(authorization: Option<&[u8]>) -> Result<&[u8], TokenFault> {
    let value = authorization.ok_or(TokenFault::Missing)?;
    let end = value.iter().position(|&byte| byte == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(TokenFault::Scheme);
    }
    let token = &rest[rest.iter().take_while(|&&byte| byte == b' ').count()..];
    let body = token.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1);
    let symbol = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    if body == 0 || !token[..body].iter().all(symbol) {
        return Err(TokenFault::Credentials);
    }
    Ok(token)
}

/// RFC 8725 §3.10, RFC 7515 §4.1: members that bring keys, addresses, extensions or another form along.
const HEADER_MEMBERS_REFUSED: [&str; 9] =
    ["crit", "jku", "x5u", "jwk", "x5c", "zip", "cty", "b64", "enc"];

/// Judges `token` for the upstream whose public address is `audience`.
///
/// # Errors
/// The first rule that is broken, in the order of the module's document.
pub fn verify(
    token: &[u8],
    issuers: &[Issuer],
    keys: &KeySets,
    audience: &str,
    now: Now,
    limits: &Limits,
) -> Result<Identity, TokenFault> {
    if token.len() as u64 > limits.token_bytes_max {
        return Err(TokenFault::TooLong);
    }
    let dots = memchr::memchr_iter(b'.', token).collect::<Vec<_>>();
    let &[first, second] = dots.as_slice() else { return Err(TokenFault::Malformed) };
    let header = part(&token[..first])?;
    let claims = part(&token[first + 1..second])?;
    let signature = decode(&token[second + 1..])?;
    let signed = &token[..second];

    if HEADER_MEMBERS_REFUSED.iter().any(|member| header.contains_key(*member)) {
        return Err(TokenFault::HeaderMember);
    }
    let url = claims.get("iss").ok_or(TokenFault::ClaimMissing(Claim::Issuer))?;
    let url = url.as_str().ok_or(TokenFault::ClaimForm(Claim::Issuer))?;
    let index =
        issuers.iter().position(|issuer| issuer.url == url).ok_or(TokenFault::UnknownIssuer)?;
    let issuer = &issuers[index];
    let algorithm = header
        .get("alg")
        .and_then(Value::as_str)
        .and_then(Algorithm::from_name)
        .filter(|algorithm| issuer.algorithms.contains(algorithm))
        .ok_or(TokenFault::Algorithm)?;
    if !type_allowed(header.get("typ"), &issuer.token_types) {
        return Err(TokenFault::Type);
    }
    let key_id = header
        .get("kid")
        .and_then(Value::as_str)
        .filter(|id| !id.is_empty())
        .ok_or(TokenFault::NoKeyId)?;
    let set = keys.usable(index, now).ok_or(TokenFault::NoKeys { issuer: index as u16 })?;
    let key = match set.get(key_id) {
        Lookup::One(key) => key,
        Lookup::None => return Err(TokenFault::UnknownKey { issuer: index as u16 }),
        Lookup::Many => return Err(TokenFault::AmbiguousKey),
    };
    // Why: the key decides how it verifies; the token may only agree (RFC 8725 §3.1).
    if key.algorithm != algorithm {
        return Err(TokenFault::Algorithm);
    }
    if !key.verifies(signed, &signature) {
        return Err(TokenFault::Signature);
    }
    let checked = check_claims(&claims, audience, now, limits)?;
    let groups = groups(&claims, &issuer.groups_claim)?;
    Ok(Identity {
        issuer: issuer.url.as_str().into(),
        subject: checked.subject,
        client: checked.client,
        token_id: checked.token_id,
        groups,
        claims,
        key_id: Arc::clone(&key.id),
        key_thumbprint: Arc::clone(&key.thumbprint),
        issued_s: checked.issued_s,
        expires_s: checked.expires_s,
    })
}

/// RFC 7515 §2: base64url without padding, white space or stray bits, so that one token has one form.
fn decode(part: &[u8]) -> Result<Vec<u8>, TokenFault> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Malformed)
}

fn part(part: &[u8]) -> Result<Map<String, Value>, TokenFault> {
    object::read(&decode(part)?).map_err(|_| TokenFault::Malformed)
}

/// RFC 9068 §2.1, RFC 7515 §4.1.9: a media type, compared without regard to case, `application/` may
/// be left out.
fn type_allowed(found: Option<&Value>, allowed: &[String]) -> bool {
    fn bare(name: &str) -> &str {
        match name.split_at_checked("application/".len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => rest,
            _ => name,
        }
    }
    let found = match found {
        None => "JWT",
        Some(Value::String(name)) => bare(name),
        Some(_) => return false,
    };
    allowed.iter().any(|name| bare(name).eq_ignore_ascii_case(found))
}

struct Checked {
    subject: Arc<str>,
    client: Option<Arc<str>>,
    token_id: Option<Arc<str>>,
    issued_s: u64,
    expires_s: u64,
}

fn check_claims(
    claims: &Map<String, Value>,
    audience: &str,
    now: Now,
    limits: &Limits,
) -> Result<Checked, TokenFault> {
    // RFC 7800 §3.1, RFC 9449: the sender must show the key, which a bearer token does not. A certificate is
    // shown by the connection (RFC 8705 §3), which whoever has the identity compares.
    if claims.contains_key("cnf") && confirmed(claims).is_none() {
        return Err(TokenFault::Bound);
    }
    let subject = name(claims, Claim::Subject)?.ok_or(TokenFault::ClaimMissing(Claim::Subject))?;
    check_audience(claims, audience)?;
    let expires_s =
        seconds(claims, Claim::Expires)?.ok_or(TokenFault::ClaimMissing(Claim::Expires))?;
    let issued_s =
        seconds(claims, Claim::Issued)?.ok_or(TokenFault::ClaimMissing(Claim::Issued))?;
    let begins_s = seconds(claims, Claim::NotBefore)?;
    let client = name(claims, Claim::Client)?;
    let party = name(claims, Claim::AuthorizedParty)?;
    let token_id = name(claims, Claim::TokenId)?;
    // RFC 7519 §4.1.4: on or after `exp` nothing is accepted. Leeway only helps issuers whose clock
    // runs ahead of ours; it never lengthens access.
    if now.utc_s() >= expires_s {
        return Err(TokenFault::Expired);
    }
    let latest_s = now.utc_s().saturating_add(limits.token_leeway_ms_max / 1000);
    if begins_s.is_some_and(|begins_s| begins_s > latest_s) {
        return Err(TokenFault::NotYetValid);
    }
    if issued_s > latest_s {
        return Err(TokenFault::IssuedLater);
    }
    let life_s = expires_s.checked_sub(issued_s).ok_or(TokenFault::Lifetime)?;
    if life_s == 0 || life_s > limits.token_life_ms_max / 1000 {
        return Err(TokenFault::Lifetime);
    }
    Ok(Checked { subject, client: client.or(party), token_id, issued_s, expires_s })
}

/// RFC 7519 §4.1.3: one string, or an array of strings. The comparison is exact.
fn check_audience(claims: &Map<String, Value>, audience: &str) -> Result<(), TokenFault> {
    let form = TokenFault::ClaimForm(Claim::Audience);
    let named = match claims.get("aud").ok_or(TokenFault::ClaimMissing(Claim::Audience))? {
        Value::String(one) => one == audience,
        Value::Array(many) if many.iter().all(Value::is_string) => {
            many.iter().any(|one| one == audience)
        }
        _ => return Err(form),
    };
    if named { Ok(()) } else { Err(TokenFault::WrongAudience) }
}

/// A NumericDate. RFC 7519 §2 allows fractions; no issuer needs them, and parsers differ on them, so
/// only whole, non-negative seconds pass.
fn seconds(claims: &Map<String, Value>, claim: Claim) -> Result<Option<u64>, TokenFault> {
    match claims.get(claim.as_str()) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or(TokenFault::ClaimForm(claim)),
    }
}

/// A claim that names somebody or something: it will be compared, recorded and shown.
fn name(claims: &Map<String, Value>, claim: Claim) -> Result<Option<Arc<str>>, TokenFault> {
    match claims.get(claim.as_str()) {
        None => Ok(None),
        Some(Value::String(text)) if name_allowed(text) => Ok(Some(text.as_str().into())),
        Some(_) => Err(TokenFault::ClaimForm(claim)),
    }
}

/// Whether `text` can name a subject, client or token: 1 to [`CLAIM_TEXT_BYTES_MAX`] bytes, no control
/// characters, nothing invisible and nothing that changes the direction of text (two names that look
/// alike must not be two people).
pub fn name_allowed(text: &str) -> bool {
    let invisible = |symbol: char| {
        matches!(symbol,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    };
    !text.is_empty()
        && text.len() <= CLAIM_TEXT_BYTES_MAX
        && !text.chars().any(|symbol| symbol.is_control() || invisible(symbol))
}

/// The groups: a string or an array of strings; none when the claim is not there. The whole name is
/// tried as one member first, because some issuers use addresses with dots as names.
fn groups(claims: &Map<String, Value>, path: &str) -> Result<Vec<String>, TokenFault> {
    let found = claims.get(path).or_else(|| {
        let mut steps = path.split('.');
        let first = claims.get(steps.next()?)?;
        steps.try_fold(first, |value, step| value.get(step))
    });
    let form = TokenFault::ClaimForm(Claim::Groups);
    match found {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(Value::Array(many)) => {
            many.iter().map(|one| one.as_str().map(str::to_owned).ok_or(form)).collect()
        }
        Some(_) => Err(form),
    }
}
