//! The log's key: Ed25519, in the text forms of C2SP signed-note, and the fingerprint key.
//!
//! | text | form |
//! |---|---|
//! | signing key | `PRIVATE+KEY+<name>+<hash>+<base64(0x01 \|\| seed)>` |
//! | verifier key | `<name>+<hash>+<base64(0x01 \|\| public key)>` |
//! | a witness's keys | the same with 0x04 (c2sp.org/tlog-cosignature), see [`super::cosign`] |
//! | fingerprint key | 64 hexadecimal digits |
//!
//! `hash` is 8 hexadecimal digits: the first 4 bytes of SHA-256(name || 0x0A || 0x01 || public key), 0x04
//! for a witness
//! (c2sp.org/signed-note, "Verifier keys"). One newline may follow each. Randomness comes in as an
//! argument; only `load_*` and `create_*` touch files. Key text is never part of a fault.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::cosign::{WitnessKey, WitnessVerifier};
use crate::types::hex;

/// Algorithm byte of Ed25519 in C2SP signed-note.
pub(super) const ALGORITHM_ED25519: u8 = 1;
/// Algorithm byte of timestamped Ed25519 cosignatures in C2SP tlog-cosignature.
pub(super) const ALGORITHM_COSIGNATURE: u8 = 4;
/// Longest name. Bound: one byte counts it in the segment header.
pub const KEY_NAME_BYTES_MAX: usize = 255;
/// Largest key file that is read.
const KEY_FILE_BYTES_MAX: u64 = 4096;

/// What is wrong with a key.
#[derive(Debug)]
pub enum KeyFault {
    /// The text has not the form of the table above; the part that does not fit.
    Form(&'static str),
    /// The name is empty, too long, or holds a space or `+`.
    Name,
    /// The file cannot be read or written.
    File(PathBuf, io::Error),
    /// The key file can be read or written by others; its mode.
    Mode(PathBuf, u32),
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyFault::Form(part) => write!(f, "key text does not have the expected {part}"),
            KeyFault::Name => {
                write!(f, "key name must be 1 to {KEY_NAME_BYTES_MAX} bytes without spaces and +")
            }
            KeyFault::File(path, error) => write!(f, "{}: {error}", path.display()),
            KeyFault::Mode(path, mode) => write!(
                f,
                "{}: mode is {:04o}, others must have no access; type chmod 600",
                path.display(),
                mode & 0o7777
            ),
        }
    }
}

impl std::error::Error for KeyFault {}

fn name_is_good(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= KEY_NAME_BYTES_MAX
        && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

fn key_hash(name: &str, algorithm: u8, public: &VerifyingKey) -> [u8; 4] {
    let digest = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', algorithm])
        .chain_update(public.as_bytes())
        .finalize();
    digest[..4].try_into().expect("4 of 32 bytes")
}

/// Canonical standard base64 only: what is read must be what would be written.
pub(super) fn base64_read(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text).ok()?;
    (STANDARD.encode(&bytes) == text).then_some(bytes)
}

/// The log's signing key with its name.
#[derive(Clone)]
pub struct LogKey {
    signing: SigningKey,
    verifier: VerifierKey,
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogKey({})", self.verifier)
    }
}

impl LogKey {
    /// The key with this seed.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<LogKey, KeyFault> {
        LogKey::from_seed_as(ALGORITHM_ED25519, name, seed)
    }

    pub(super) fn from_seed_as(
        algorithm: u8,
        name: &str,
        seed: &[u8; 32],
    ) -> Result<LogKey, KeyFault> {
        if !name_is_good(name) {
            return Err(KeyFault::Name);
        }
        let signing = SigningKey::from_bytes(seed);
        let public = signing.verifying_key();
        let hash = key_hash(name, algorithm, &public);
        let verifier = VerifierKey { name: name.to_owned(), hash, algorithm, public };
        Ok(LogKey { signing, verifier })
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<LogKey, KeyFault> {
        LogKey::parse_as(ALGORITHM_ED25519, text)
    }

    pub(super) fn parse_as(wanted: u8, text: &str) -> Result<LogKey, KeyFault> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let rest =
            text.strip_prefix("PRIVATE+KEY+").ok_or(KeyFault::Form("PRIVATE+KEY+ in front"))?;
        let mut fields = rest.splitn(3, '+');
        let name = fields.next().unwrap_or_default();
        let hash = fields.next().ok_or(KeyFault::Form("key hash"))?;
        let material = fields.next().ok_or(KeyFault::Form("key material"))?;
        let material =
            Zeroizing::new(base64_read(material).ok_or(KeyFault::Form("base64 key material"))?);
        let (&algorithm, seed) = material.split_first().ok_or(KeyFault::Form("algorithm"))?;
        algorithm_is(algorithm, wanted)?;
        let seed = Zeroizing::new(
            <[u8; 32]>::try_from(seed).map_err(|_| KeyFault::Form("32 bytes of seed"))?,
        );
        let key = LogKey::from_seed_as(algorithm, name, &seed)?;
        if hash != hex(&key.verifier.hash) {
            return Err(KeyFault::Form("key hash for this name and key"));
        }
        Ok(key)
    }

    /// The text form, a secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut material = Zeroizing::new(vec![self.verifier.algorithm]);
        material.extend_from_slice(self.signing.as_bytes());
        let encoded = Zeroizing::new(STANDARD.encode(&*material));
        Zeroizing::new(format!(
            "PRIVATE+KEY+{}+{}+{}\n",
            self.verifier.name,
            hex(&self.verifier.hash),
            *encoded
        ))
    }

    /// Its public half.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Ed25519 signature.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }
}

/// The public half of the log's key with its name. Prints as the C2SP verifier key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    hash: [u8; 4],
    algorithm: u8,
    public: VerifyingKey,
}

fn algorithm_is(seen: u8, wanted: u8) -> Result<(), KeyFault> {
    match wanted {
        _ if seen == wanted => Ok(()),
        ALGORITHM_ED25519 => Err(KeyFault::Form("algorithm 1 (Ed25519, the key of a log)")),
        _ => Err(KeyFault::Form("algorithm 4 (Ed25519, the key of a witness)")),
    }
}

impl VerifierKey {
    /// Reads the text form.
    pub fn parse(text: &str) -> Result<VerifierKey, KeyFault> {
        VerifierKey::parse_as(ALGORITHM_ED25519, text)
    }

    pub(super) fn parse_as(wanted: u8, text: &str) -> Result<VerifierKey, KeyFault> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let mut fields = text.splitn(3, '+');
        let name = fields.next().unwrap_or_default();
        if !name_is_good(name) {
            return Err(KeyFault::Name);
        }
        let hash = fields.next().ok_or(KeyFault::Form("key hash"))?;
        let material = fields.next().ok_or(KeyFault::Form("key material"))?;
        let material = base64_read(material).ok_or(KeyFault::Form("base64 key material"))?;
        let (&algorithm, public) = material.split_first().ok_or(KeyFault::Form("algorithm"))?;
        algorithm_is(algorithm, wanted)?;
        let public = <[u8; 32]>::try_from(public)
            .ok()
            .and_then(|public| VerifyingKey::from_bytes(&public).ok())
            .filter(|public| !public.is_weak() && is_canonical(public))
            .ok_or(KeyFault::Form("32 bytes of an Ed25519 public key"))?;
        let own_hash = key_hash(name, algorithm, &public);
        let key = VerifierKey { name: name.to_owned(), hash: own_hash, algorithm, public };
        if hash != hex(&key.hash) {
            return Err(KeyFault::Form("key hash for this name and key"));
        }
        Ok(key)
    }

    /// Name of the key, and of the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// First bytes of a signature by this key.
    pub fn hash(&self) -> [u8; 4] {
        self.hash
    }

    /// RFC 8032 §5.1.7, strict: no small-order keys, canonical points and scalars only.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.public.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut material = vec![self.algorithm];
        material.extend_from_slice(self.public.as_bytes());
        write!(f, "{}+{}+{}", self.name, hex(&self.hash), STANDARD.encode(material))
    }
}

/// The one encoding of its point: RFC 8032 §5.1.3 takes no other.
fn is_canonical(public: &VerifyingKey) -> bool {
    public.to_edwards().compress().as_bytes() == public.as_bytes()
}

/// A fresh signing key from 32 random bytes given by `random`.
pub fn generate(name: &str, random: &mut dyn FnMut(&mut [u8])) -> Result<LogKey, KeyFault> {
    let mut seed = Zeroizing::new([0; 32]);
    random(&mut *seed);
    LogKey::from_seed(name, &seed)
}

/// Path of the verifier key that [`create_signing_key`] writes: `FILE.pub`.
pub fn verifier_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

/// Writes a new signing key (mode 0600) and `FILE.pub`; an existing file is never replaced.
pub fn create_signing_key(path: &Path, key: &LogKey) -> Result<(), KeyFault> {
    create(path, 0o600, key.to_text().as_bytes())?;
    create(&verifier_path(path), 0o644, format!("{}\n", key.verifier()).as_bytes())
}

/// Writes a new witness key (mode 0600) and `FILE.pub`; an existing file is never replaced.
pub fn create_witness_key(path: &Path, key: &WitnessKey) -> Result<(), KeyFault> {
    create(path, 0o600, key.to_text().as_bytes())?;
    create(&verifier_path(path), 0o644, format!("{}\n", key.verifier()).as_bytes())
}

/// Reads a witness's key. A file that others can access is refused.
pub fn load_witness_key(path: &Path) -> Result<WitnessKey, KeyFault> {
    WitnessKey::parse(&read_secret(path)?)
}

/// Writes a new fingerprint key (mode 0600); an existing file is never replaced.
pub fn create_fingerprint_key(path: &Path, key: &[u8; 32]) -> Result<(), KeyFault> {
    create(path, 0o600, format!("{}\n", hex(key)).as_bytes())
}

/// Reads a signing key. A file that others can access is refused.
pub fn load_signing_key(path: &Path) -> Result<LogKey, KeyFault> {
    LogKey::parse(&read_secret(path)?)
}

/// Reads a fingerprint key. A file that others can access is refused.
pub fn load_fingerprint_key(path: &Path) -> Result<[u8; 32], KeyFault> {
    let text = read_secret(path)?;
    let digits = text.strip_suffix('\n').unwrap_or(&text).as_bytes();
    let mut key = [0; 32];
    if digits.len() != 64 {
        return Err(KeyFault::Form("64 hexadecimal digits"));
    }
    for (slot, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |byte: u8| (byte as char).to_digit(16);
        let (high, low) =
            digit(pair[0]).zip(digit(pair[1])).ok_or(KeyFault::Form("64 hexadecimal digits"))?;
        *slot = (high * 16 + low) as u8;
    }
    Ok(key)
}

/// A verifier key given as text, or as the path of a file that holds it.
pub fn load_verifier_key(text_or_path: &str) -> Result<VerifierKey, KeyFault> {
    text_or_file(text_or_path, VerifierKey::parse)
}

/// A witness's verifier key given as text, or as the path of a file that holds it.
pub fn load_witness_verifier(text_or_path: &str) -> Result<WitnessVerifier, KeyFault> {
    text_or_file(text_or_path, WitnessVerifier::parse)
}

fn text_or_file<T>(
    text_or_path: &str,
    parse: fn(&str) -> Result<T, KeyFault>,
) -> Result<T, KeyFault> {
    match parse(text_or_path) {
        Ok(key) => Ok(key),
        Err(fault) => match std::fs::read_to_string(text_or_path) {
            Ok(text) => parse(&text),
            Err(_) => Err(fault),
        },
    }
}

pub(super) fn create(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), KeyFault> {
    let fault = |error| KeyFault::File(path.to_owned(), error);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(fault)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fault)
}

pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<String>, KeyFault> {
    let fault = |error| KeyFault::File(path.to_owned(), error);
    let file = File::open(path).map_err(fault)?;
    let mode = file.metadata().map_err(fault)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(KeyFault::Mode(path.to_owned(), mode));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(fault)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of c2sp.org/signed-note and Go's sumdb/note (public test key of PeterNeumann).
    #[test]
    fn reads_the_keys_of_the_go_note_package() {
        let verifier = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let signer =
            "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
        let key = LogKey::parse(signer).unwrap();
        assert_eq!(key.verifier().to_string(), verifier);
        assert_eq!(VerifierKey::parse(verifier).unwrap(), *key.verifier());
        assert_eq!(key.to_text().trim_end(), signer);
        let text = b"If you think cryptography is the answer to your problem,\n\
            then you don't know what your problem is.\n";
        let signature = base64_read(
            "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=",
        )
        .unwrap();
        assert_eq!(signature[..4], key.verifier().hash());
        assert!(key.verifier().verify(text, signature[4..].try_into().unwrap()));
        assert_eq!(key.sign(text)[..], signature[4..]);
    }

    #[test]
    fn odd_spellings_are_refused() {
        let good = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        assert!(VerifierKey::parse(good).is_ok());
        for bad in [
            "",
            "PeterNeumann",
            "PeterNeumann+c74f20a3",
            "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T",
            "PeterNeumann+c74f20a3+AhpC2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "a b+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        ] {
            assert!(VerifierKey::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn key_files_are_private_and_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.key");
        let key = generate("log.example", &mut |bytes| bytes.fill(7)).unwrap();
        create_signing_key(&path, &key).unwrap();
        assert!(matches!(create_signing_key(&path, &key), Err(KeyFault::File(..))));
        let read = load_signing_key(&path).unwrap();
        assert_eq!(read.verifier(), key.verifier());
        let public = load_verifier_key(verifier_path(&path).to_str().unwrap()).unwrap();
        assert_eq!(public, *key.verifier());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o604)).unwrap();
        assert!(matches!(load_signing_key(&path), Err(KeyFault::Mode(..))));
        let path = directory.path().join("fingerprint.key");
        create_fingerprint_key(&path, &[0xa5; 32]).unwrap();
        assert_eq!(load_fingerprint_key(&path).unwrap(), [0xa5; 32]);
    }
}
