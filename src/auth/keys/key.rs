//! One public key and one issuer's key set (RFC 7517), checked when it arrives.
//!
//! A key that cannot be used safely is left out and counted; it never makes the others unusable. What
//! a key may verify is fixed here, before any token is seen: [`Key::algorithm`].

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::auth::object;

/// Signature algorithms that may be configured. There is no symmetric one and no `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ed25519 (RFC 8037).
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
}

impl Algorithm {
    /// All of them, in the order in which messages name them.
    pub const ALL: [Algorithm; 5] =
        [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Es384, Algorithm::Rs256, Algorithm::Ps256];

    /// The name in `alg` and in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::EdDsa => "EdDSA",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::Rs256 => "RS256",
            Algorithm::Ps256 => "PS256",
        }
    }

    /// The algorithm called `name`, exactly; `None` for every other name.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a key or a key set is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFault {
    /// The document is no JSON object with an array `keys`, or has duplicate members.
    Document,
    /// An element of `keys` is no object.
    Shape,
    /// `kid` is missing or no string; a token could not name the key.
    NoKeyId,
    /// `kty` is missing or none of RSA, EC, OKP: symmetric keys are ignored.
    Kind,
    /// `use` is there and is not `sig`.
    Use,
    /// `key_ops` is there and does not hold `verify`.
    Operations,
    /// `alg` does not fit the key, or no configured algorithm does.
    Algorithm,
    /// `crv` is none of P-256, P-384, Ed25519.
    Curve,
    /// A component is missing, not canonical base64url, of the wrong length, or off the curve.
    Component,
    /// RSA below 2048 or above 8192 bits, or a useless exponent.
    Weak,
    /// The private part is published with it: anybody could sign.
    Private,
}

impl KeyFault {
    /// The name used in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyFault::Document => "document",
            KeyFault::Shape => "shape",
            KeyFault::NoKeyId => "no-key-id",
            KeyFault::Kind => "kind",
            KeyFault::Use => "use",
            KeyFault::Operations => "operations",
            KeyFault::Algorithm => "algorithm",
            KeyFault::Curve => "curve",
            KeyFault::Component => "component",
            KeyFault::Weak => "weak",
            KeyFault::Private => "private",
        }
    }
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyFault::Document => "key set is not a JSON object with an array \"keys\"",
            KeyFault::Shape => "key is not a JSON object",
            KeyFault::NoKeyId => "key has no \"kid\"",
            KeyFault::Kind => "\"kty\" is none of RSA, EC, OKP",
            KeyFault::Use => "\"use\" is not \"sig\"",
            KeyFault::Operations => "\"key_ops\" does not hold \"verify\"",
            KeyFault::Algorithm => "\"alg\" does not fit the key or the configured algorithms",
            KeyFault::Curve => "\"crv\" is none of P-256, P-384, Ed25519",
            KeyFault::Component => "a component is missing or malformed",
            KeyFault::Weak => "RSA key outside 2048 to 8192 bits, or a useless exponent",
            KeyFault::Private => "the private part is published",
        })
    }
}

/// One public key that may verify tokens with exactly one algorithm.
#[derive(Clone)]
pub struct Key {
    /// `kid`.
    pub id: Arc<str>,
    /// RFC 7638 thumbprint: SHA-256, base64url.
    pub thumbprint: Arc<str>,
    /// The one algorithm this key is for.
    pub algorithm: Algorithm,
    /// The required members of the key in the form of RFC 7638 §3: what the thumbprint is of, and all
    /// that checking a signature needs.
    pub public_jwk: Arc<str>,
    public: ParsedPublicKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} {} {})", self.id, self.algorithm, self.thumbprint)
    }
}

impl Key {
    /// Reads one element of `keys`. A key without `alg` serves the first of `algorithms` that fits its
    /// kind (for RSA: RS256 or PS256, whichever is configured first), never two.
    ///
    /// # Errors
    /// Why the key is left out.
    pub fn read(jwk: &Map<String, Value>, algorithms: &[Algorithm]) -> Result<Key, KeyFault> {
        let id = text(jwk, "kid").filter(|id| !id.is_empty()).ok_or(KeyFault::NoKeyId)?;
        let kind = text(jwk, "kty").ok_or(KeyFault::Kind)?;
        if !matches!(kind, "RSA" | "EC" | "OKP") {
            return Err(KeyFault::Kind);
        }
        // RFC 7518 §6.2.2, §6.3.2; RFC 8037 §2: `d` is the private part of all three kinds.
        if jwk.contains_key("d") {
            return Err(KeyFault::Private);
        }
        if jwk.get("use").is_some_and(|value| value != "sig") {
            return Err(KeyFault::Use);
        }
        if let Some(operations) = jwk.get("key_ops") {
            let operations = operations.as_array().ok_or(KeyFault::Operations)?;
            if !operations.iter().any(|operation| operation == "verify") {
                return Err(KeyFault::Operations);
            }
        }
        let named = match jwk.get("alg") {
            None => None,
            Some(Value::String(name)) => {
                Some(Algorithm::from_name(name).ok_or(KeyFault::Algorithm)?)
            }
            Some(_) => return Err(KeyFault::Algorithm),
        };
        let choose = |fitting: &[Algorithm]| {
            algorithms
                .iter()
                .copied()
                .filter(|algorithm| named.is_none_or(|named| named == *algorithm))
                .find(|algorithm| fitting.contains(algorithm))
                .ok_or(KeyFault::Algorithm)
        };
        let (algorithm, public, canonical) = match kind {
            "RSA" => {
                let algorithm = choose(&[Algorithm::Rs256, Algorithm::Ps256])?;
                let (public, canonical) = rsa(jwk, algorithm)?;
                (algorithm, public, canonical)
            }
            "EC" => {
                let (curve, algorithm) = match text(jwk, "crv") {
                    Some("P-256") => ("P-256", Algorithm::Es256),
                    Some("P-384") => ("P-384", Algorithm::Es384),
                    _ => return Err(KeyFault::Curve),
                };
                let algorithm = choose(&[algorithm])?;
                let (public, canonical) = elliptic(jwk, curve, algorithm)?;
                (algorithm, public, canonical)
            }
            _ => {
                if text(jwk, "crv") != Some("Ed25519") {
                    return Err(KeyFault::Curve);
                }
                let algorithm = choose(&[Algorithm::EdDsa])?;
                let (public, canonical) = edwards(jwk)?;
                (algorithm, public, canonical)
            }
        };
        Ok(Key {
            id: id.into(),
            thumbprint: thumbprint(&canonical).into(),
            algorithm,
            public_jwk: canonical.into(),
            public,
        })
    }

    /// Whether `signature` is this key's signature of `message` under [`Key::algorithm`]. ECDSA
    /// signatures are the fixed-length form of RFC 7518 §3.4, never DER.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.public.verify_sig(message, signature).is_ok()
    }
}

fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    jwk.get(name)?.as_str()
}

fn component(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, KeyFault> {
    let text = text(jwk, name).ok_or(KeyFault::Component)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyFault::Component)
}

/// RFC 7638 §3: the required members in alphabetical order, without white space.
fn thumbprint(canonical: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
}

fn rsa(
    jwk: &Map<String, Value>,
    algorithm: Algorithm,
) -> Result<(ParsedPublicKey, String), KeyFault> {
    // Some issuers write the sign octet of DER in front; it carries no value.
    let trimmed = |bytes: Vec<u8>| -> Vec<u8> {
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        bytes[zeros..].to_vec()
    };
    let n = trimmed(component(jwk, "n")?);
    let e = trimmed(component(jwk, "e")?);
    let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    // RFC 7518 §3.3: 2048 bits or larger. An even modulus or exponent is no RSA key, and exponent 1
    // makes every message its own signature; above 2^32 verification only gets slower.
    let exponent_good = match e.as_slice() {
        [low] => *low >= 3 && low % 2 == 1,
        [.., low] => e.len() <= 4 && low % 2 == 1,
        [] => false,
    };
    if !(2048..=8192).contains(&bits) || n.last().is_none_or(|low| low % 2 == 0) || !exponent_good {
        return Err(KeyFault::Weak);
    }
    let parameters = match algorithm {
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        _ => &signature::RSA_PKCS1_2048_8192_SHA256,
    };
    let public = RsaPublicKeyComponents { n: &n, e: &e }
        .to_parsed_public_key(parameters)
        .map_err(|_| KeyFault::Component)?;
    let canonical = format!(
        r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#,
        URL_SAFE_NO_PAD.encode(&e),
        URL_SAFE_NO_PAD.encode(&n)
    );
    Ok((public, canonical))
}

fn elliptic(
    jwk: &Map<String, Value>,
    curve: &str,
    algorithm: Algorithm,
) -> Result<(ParsedPublicKey, String), KeyFault> {
    let (x, y) = (component(jwk, "x")?, component(jwk, "y")?);
    let length = if algorithm == Algorithm::Es384 { 48 } else { 32 };
    if x.len() != length || y.len() != length {
        return Err(KeyFault::Component);
    }
    let mut point = vec![4];
    point.extend_from_slice(&x);
    point.extend_from_slice(&y);
    let public = match algorithm {
        Algorithm::Es384 => ParsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, &point),
        _ => ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, &point),
    }
    .map_err(|_| KeyFault::Component)?;
    let canonical = format!(
        r#"{{"crv":"{curve}","kty":"EC","x":"{}","y":"{}"}}"#,
        URL_SAFE_NO_PAD.encode(&x),
        URL_SAFE_NO_PAD.encode(&y)
    );
    Ok((public, canonical))
}

fn edwards(jwk: &Map<String, Value>) -> Result<(ParsedPublicKey, String), KeyFault> {
    let x = component(jwk, "x")?;
    let bytes: [u8; 32] = x.as_slice().try_into().map_err(|_| KeyFault::Component)?;
    // Why: under a key of small order one signature fits many messages (RFC 8032 §8.4 leaves the check
    // to the caller).
    match ed25519_dalek::VerifyingKey::from_bytes(&bytes) {
        Ok(key) if !key.is_weak() => {}
        _ => return Err(KeyFault::Component),
    }
    let public = ParsedPublicKey::new(&signature::ED25519, &x).map_err(|_| KeyFault::Component)?;
    let canonical =
        format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(&x));
    Ok((public, canonical))
}

/// The keys of one issuer.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    /// Ids that stand at more than one element of `keys`, used or not.
    doubled: Vec<String>,
    /// What was left out: index in `keys` and reason.
    pub ignored: Vec<(usize, KeyFault)>,
}

/// Answer to a question for a key id.
#[derive(Debug)]
pub enum Lookup<'a> {
    /// No key of this id: the issuer may have a newer set.
    None,
    /// Exactly one.
    One(&'a Key),
    /// The id is not unique in the set; nothing is verified with any of them.
    Many,
}

impl KeySet {
    /// Reads a key set as it came from `jwks_uri`. The caller has bounded `document`
    /// (`keys_bytes_max`).
    ///
    /// # Errors
    /// [`KeyFault::Document`]; faults of single keys are kept in [`KeySet::ignored`].
    pub fn read(document: &[u8], algorithms: &[Algorithm]) -> Result<KeySet, KeyFault> {
        let document = object::read(document).map_err(|_| KeyFault::Document)?;
        let elements = document.get("keys").and_then(Value::as_array).ok_or(KeyFault::Document)?;
        let mut set = KeySet::default();
        let mut ids = std::collections::HashSet::new();
        for (index, element) in elements.iter().enumerate() {
            let Some(jwk) = element.as_object() else {
                set.ignored.push((index, KeyFault::Shape));
                continue;
            };
            if let Some(id) = text(jwk, "kid")
                && !ids.insert(id)
            {
                set.doubled.push(id.to_owned());
            }
            match Key::read(jwk, algorithms) {
                Ok(key) => set.keys.push(key),
                Err(fault) => set.ignored.push((index, fault)),
            }
        }
        Ok(set)
    }

    /// The key called `id`.
    pub fn get(&self, id: &str) -> Lookup<'_> {
        if self.doubled.iter().any(|doubled| doubled == id) {
            return Lookup::Many;
        }
        match self.keys.iter().find(|key| &*key.id == id) {
            Some(key) => Lookup::One(key),
            None => Lookup::None,
        }
    }

    /// The usable keys.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Whether both verify the same tokens.
    pub fn same_keys(&self, other: &KeySet) -> bool {
        let face = |key: &Key| (key.id.clone(), key.thumbprint.clone(), key.algorithm);
        self.doubled == other.doubled && self.keys.iter().map(face).eq(other.keys.iter().map(face))
    }
}
