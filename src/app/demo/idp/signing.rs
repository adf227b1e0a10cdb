//! Signing keys of the small identity provider, and tokens of any shape made with them.
//!
//! Keys live in memory only and are made anew at every start.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::auth::keys::Algorithm;

enum Pair {
    Edwards(Ed25519KeyPair),
    Elliptic(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// One key pair with its id and its one algorithm.
pub struct SigningKey {
    /// `kid`.
    pub id: String,
    /// `alg`.
    pub algorithm: Algorithm,
    pair: Pair,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({} {})", self.id, self.algorithm)
    }
}

impl SigningKey {
    /// A new key pair; RSA has 2048 bits. Panics when the host has no randomness: nothing goes then.
    pub fn generate(id: &str, algorithm: Algorithm) -> SigningKey {
        let pair = match algorithm {
            Algorithm::EdDsa => Pair::Edwards(Ed25519KeyPair::generate().expect("randomness")),
            Algorithm::Es256 => Pair::Elliptic(
                EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)
                    .expect("randomness"),
            ),
            Algorithm::Es384 => Pair::Elliptic(
                EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING)
                    .expect("randomness"),
            ),
            Algorithm::Rs256 | Algorithm::Ps256 => {
                Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("randomness"))
            }
        };
        SigningKey { id: id.to_owned(), algorithm, pair }
    }

    /// The signature of `message` in the form of RFC 7518.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Edwards(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Elliptic(pair) => pair.sign(&random, message).expect("signs").as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                let encoding = match self.algorithm {
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                pair.sign(encoding, &random, message, &mut out).expect("signs");
                out
            }
        }
    }

    /// The public half (RFC 7517), with `kid`, `use` and `alg`.
    pub fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.pair {
            Pair::Edwards(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())})
            }
            Pair::Elliptic(pair) => {
                // SEC 1 §2.3.3: 4, x, y.
                let (x, y) =
                    pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
                let curve = if self.algorithm == Algorithm::Es384 { "P-384" } else { "P-256" };
                json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
            }
            Pair::Rsa(pair) => {
                let parts: RsaPublicKeyComponents<Vec<u8>> = pair.public_key().into();
                json!({"kty": "RSA", "n": encode(&parts.n), "e": encode(&parts.e)})
            }
        };
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.algorithm.as_str());
        jwk
    }

    /// The header of an access token of this key (RFC 9068 §2.1).
    pub fn header(&self) -> Value {
        json!({"alg": self.algorithm.as_str(), "typ": "at+jwt", "kid": self.id})
    }

    /// A signed access token with exactly these claims.
    pub fn mint(&self, claims: &Value) -> String {
        self.mint_with(&self.header(), claims)
    }

    /// A token with any header and claims; the signature is a real one of this key, whatever they say.
    pub fn mint_with(&self, header: &Value, claims: &Value) -> String {
        self.mint_text(&header.to_string(), &claims.to_string())
    }

    /// The same with the bytes of header and claims as they are.
    pub fn mint_text(&self, header: &str, claims: &str) -> String {
        compact(header.as_bytes(), claims.as_bytes(), |message| self.sign(message))
    }
}

/// RFC 7515 §3.1: the compact form.
pub fn compact(header: &[u8], claims: &[u8], sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let mut token =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = sign(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}
