//! The part of the age format (c2sp.org/age, version 1) that key files need: X25519 recipients and
//! identities, and files whose payload is one chunk. Files written here open with any age tool, and
//! key files written by one would open here.
//!
//! ```text
//! age-encryption.org/v1
//! -> X25519 <base64 of the ephemeral share, 32 bytes>          one stanza for each recipient
//! <base64 of the file key, encrypted: 16 + 16 bytes>
//! --- <base64 of the header's HMAC-SHA-256>
//! <16 bytes of nonce><payload and tag, ChaCha20-Poly1305>
//! ```
//! Base64 is the standard alphabet without padding; any other spelling is refused. Curve and cipher are
//! those of aws-lc. Randomness comes in as an argument; only `create_identity` and `load_identities`
//! touch files. Key text is never part of a fault.

use std::fmt;
use std::path::Path;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bech32::{Bech32, Hrp};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::keys::{self, KeyFault};

const VERSION_LINE: &str = "age-encryption.org/v1\n";
const STANZA_X25519: &str = "X25519";
const LABEL_X25519: &[u8] = b"age-encryption.org/v1/X25519";
const HRP_RECIPIENT: Hrp = Hrp::parse_unchecked("age");
const HRP_IDENTITY: Hrp = Hrp::parse_unchecked("age-secret-key-");
const FILE_KEY_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
const PAYLOAD_NONCE_BYTES: usize = 16;
/// Characters of one line of a stanza's body.
const BODY_COLUMNS: usize = 64;
/// Largest payload: one chunk of the format.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Most recipients of one file. Bound: the file, the entry that names them, and the time it takes to
/// wrap a key (about 0.1 ms each).
pub const RECIPIENTS_MAX: usize = 16;
/// Largest key file that is read: [`RECIPIENTS_MAX`] stanzas of any tool, and the payload of a data key.
pub const FILE_BYTES_MAX: u64 = 16 * 1024;

/// Why an age file does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgeFault {
    /// It is no age file of version 1; the part that does not fit.
    Form(&'static str),
    /// None of its stanzas is for this identity.
    OtherIdentity,
    /// Header or payload is not what the sender wrote.
    Changed,
}

impl fmt::Display for AgeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AgeFault::Form(part) => write!(f, "is no age file: {part}"),
            AgeFault::OtherIdentity => f.write_str("is sealed to others than this identity"),
            AgeFault::Changed => f.write_str("is not as it was written"),
        }
    }
}

impl std::error::Error for AgeFault {}

/// Somebody to whom keys are wrapped. Prints as `age1…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    public: [u8; 32],
}

impl Recipient {
    /// Reads `age1…`, lower case as it is printed.
    pub fn parse(text: &str) -> Result<Recipient, KeyFault> {
        let fault = KeyFault::Form("form of an age recipient, age1… (62 characters)");
        let Ok((hrp, data)) = bech32::decode(text) else { return Err(fault) };
        let Ok(public) = <[u8; 32]>::try_from(data) else { return Err(fault) };
        let recipient = Recipient { public };
        // Why again as text: one spelling only, and the checksum of this kind of key (BIP 173).
        if hrp != HRP_RECIPIENT || recipient.to_string() != text {
            return Err(fault);
        }
        // A point of small order would wrap to a key that anybody knows.
        let probe = PrivateKey::from_private_key(&X25519, &[0x41; 32]).expect("32 bytes are a key");
        match shared(&probe, &public) {
            Some(_) => Ok(recipient),
            None => Err(KeyFault::Form("point of full order in an age recipient")),
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = bech32::encode::<Bech32>(HRP_RECIPIENT, &self.public);
        f.write_str(&text.expect("32 bytes fit"))
    }
}

/// An auditor's secret: what opens key files wrapped to its recipient.
pub struct Identity {
    private: PrivateKey,
    seed: Zeroizing<[u8; 32]>,
    recipient: Recipient,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.recipient)
    }
}

impl Identity {
    /// The identity with these 32 secret bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Identity {
        let private = PrivateKey::from_private_key(&X25519, seed).expect("32 bytes are a key");
        let recipient = Recipient { public: public_of(&private) };
        Identity { private, seed: Zeroizing::new(*seed), recipient }
    }

    /// Reads `AGE-SECRET-KEY-1…`.
    pub fn parse(text: &str) -> Result<Identity, KeyFault> {
        let fault = KeyFault::Form("form of an age identity, AGE-SECRET-KEY-1… (74 characters)");
        let Ok((hrp, data)) = bech32::decode(text) else { return Err(fault) };
        let data = Zeroizing::new(data);
        let Ok(seed) = <[u8; 32]>::try_from(&data[..]) else { return Err(fault) };
        let identity = Identity::from_seed(&Zeroizing::new(seed));
        if hrp != HRP_IDENTITY || *identity.to_text() != text {
            return Err(fault);
        }
        Ok(identity)
    }

    /// The text form, a secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        let text = bech32::encode_upper::<Bech32>(HRP_IDENTITY, &*self.seed);
        Zeroizing::new(text.expect("32 bytes fit"))
    }

    /// Its public half.
    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }
}

/// A fresh identity from 32 random bytes given by `random`.
pub fn generate(random: &mut dyn FnMut(&mut [u8])) -> Identity {
    let mut seed = Zeroizing::new([0; 32]);
    random(&mut *seed);
    Identity::from_seed(&seed)
}

/// Writes a new identity (mode 0600) and its recipient as `FILE.pub`; an existing file is never
/// replaced.
pub fn create_identity(path: &Path, identity: &Identity) -> Result<(), KeyFault> {
    let text =
        Zeroizing::new(format!("# recipient: {}\n{}\n", identity.recipient(), *identity.to_text()));
    keys::create(path, 0o600, text.as_bytes())?;
    let public = format!("{}\n", identity.recipient());
    keys::create(&keys::verifier_path(path), 0o644, public.as_bytes())
}

/// Reads the identities of a file: one a line, lines that begin with `#` and empty lines are none. A
/// file that others can access is refused.
pub fn load_identities(path: &Path) -> Result<Vec<Identity>, KeyFault> {
    let text = keys::read_secret(path)?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let identities = lines.map(Identity::parse).collect::<Result<Vec<_>, _>>()?;
    match identities.is_empty() {
        true => Err(KeyFault::Form("line with an age identity, AGE-SECRET-KEY-1…")),
        false => Ok(identities),
    }
}

fn public_of(private: &PrivateKey) -> [u8; 32] {
    let public = private.compute_public_key().expect("X25519 has a public key");
    public.as_ref().try_into().expect("it has 32 bytes")
}

/// RFC 7748 §6.1; `None` where the result is all zero.
fn shared(private: &PrivateKey, public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    let peer = UnparsedPublicKey::new(&X25519, public);
    agree(private, peer, (), |secret| {
        let mut out = Zeroizing::new([0; 32]);
        out.copy_from_slice(secret);
        Ok(out)
    })
    .ok()
    .filter(|secret| **secret != [0; 32])
}

fn hmac(key: &[u8], message: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length is allowed");
    mac.update(message);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// RFC 5869 with SHA-256, 32 bytes of output.
fn hkdf(secret: &[u8], salt: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let extracted = hmac(salt, secret);
    hmac(&*extracted, &[info, &[1]].concat())
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has 32 bytes"))
}

/// Encrypts under a key that is used once.
pub(super) fn seal_once(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], bytes: &mut Vec<u8>) {
    // Why: growing would leave a copy of the plaintext behind.
    assert!(bytes.capacity() >= bytes.len() + TAG_BYTES, "room for the tag");
    cipher(key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), bytes)
        .expect("the text is far below 256 GiB");
}

/// Opens what [`seal_once`] made.
pub(super) fn open_once(
    key: &[u8; 32],
    nonce: [u8; 12],
    aad: &[u8],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let length = cipher(key).open_in_place(nonce, Aad::from(aad), &mut bytes).ok()?.len();
    bytes.truncate(length);
    Some(bytes)
}

/// The wrapping key of one stanza.
fn wrapping_key(secret: &[u8; 32], share: &[u8; 32], recipient: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    hkdf(secret, &[&share[..], recipient].concat(), LABEL_X25519)
}

const LAST_CHUNK: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// An age file that holds `payload` for all `recipients`.
///
/// Panics when there is no recipient, or more payload than one chunk takes.
pub fn encrypt(
    payload: &[u8],
    recipients: &[Recipient],
    random: &mut dyn FnMut(&mut [u8]),
) -> Vec<u8> {
    assert!(!recipients.is_empty() && payload.len() <= PAYLOAD_BYTES_MAX, "a file for somebody");
    let mut file_key = Zeroizing::new([0; FILE_KEY_BYTES]);
    random(&mut *file_key);
    let mut file = VERSION_LINE.to_owned();
    for recipient in recipients {
        let mut seed = Zeroizing::new([0; 32]);
        random(&mut *seed);
        let ephemeral = PrivateKey::from_private_key(&X25519, &*seed).expect("32 bytes are a key");
        let share = public_of(&ephemeral);
        let secret = shared(&ephemeral, &recipient.public).expect("checked as it was read");
        let key = wrapping_key(&secret, &share, &recipient.public);
        let mut body = Vec::with_capacity(FILE_KEY_BYTES + TAG_BYTES);
        body.extend_from_slice(&*file_key);
        seal_once(&key, [0; 12], b"", &mut body);
        let (share, body) = (STANDARD_NO_PAD.encode(share), STANDARD_NO_PAD.encode(body));
        file.push_str(&format!("-> {STANZA_X25519} {share}\n{body}\n"));
    }
    file.push_str("---");
    let mac = hmac(&*hkdf(&*file_key, b"", b"header"), file.as_bytes());
    file.push_str(&format!(" {}\n", STANDARD_NO_PAD.encode(*mac)));
    let mut nonce = [0; PAYLOAD_NONCE_BYTES];
    random(&mut nonce);
    let mut chunk = Vec::with_capacity(payload.len() + TAG_BYTES);
    chunk.extend_from_slice(payload);
    seal_once(&hkdf(&*file_key, &nonce, b"payload"), LAST_CHUNK, b"", &mut chunk);
    let mut file = file.into_bytes();
    file.extend_from_slice(&nonce);
    file.extend_from_slice(&chunk);
    file
}

/// The payload of an age file, for the first of `identities` that it is sealed to.
pub fn decrypt(file: &[u8], identities: &[Identity]) -> Result<Zeroizing<Vec<u8>>, AgeFault> {
    let mut lines = Lines { bytes: file, at: 0 };
    if lines.next()? != VERSION_LINE.trim_end() {
        return Err(AgeFault::Form("the first line is another"));
    }
    let mut file_key = None;
    let (header, mac) = loop {
        let start = lines.at;
        let line = lines.next()?;
        if let Some(arguments) = line.strip_prefix("-> ") {
            let arguments: Vec<&str> = arguments.split(' ').collect();
            if arguments.iter().any(|argument| {
                argument.is_empty() || !argument.bytes().all(|byte| byte.is_ascii_graphic())
            }) {
                return Err(AgeFault::Form("the arguments of a stanza"));
            }
            let body = stanza_body(&mut lines)?;
            if arguments[0] == STANZA_X25519 {
                let found = unwrapped(&arguments[1..], &body, identities)?;
                file_key = file_key.or(found);
            }
        } else {
            let mac = line.strip_prefix("--- ").ok_or(AgeFault::Form("a line of the header"))?;
            // The MAC covers the header up to and including `---`.
            break (&file[..start + 3], base64(mac, "the header's MAC")?);
        }
    };
    let file_key = file_key.ok_or(AgeFault::OtherIdentity)?;
    let mut check = Hmac::<Sha256>::new_from_slice(&*hkdf(&file_key, b"", b"header"))
        .expect("any key length is allowed");
    check.update(header);
    check.verify_slice(&mac).map_err(|_| AgeFault::Changed)?;
    let payload = &file[lines.at..];
    if payload.len() < PAYLOAD_NONCE_BYTES + TAG_BYTES
        || payload.len() > PAYLOAD_NONCE_BYTES + PAYLOAD_BYTES_MAX + TAG_BYTES
    {
        return Err(AgeFault::Form("its payload is not one chunk"));
    }
    let (nonce, chunk) = payload.split_at(PAYLOAD_NONCE_BYTES);
    let key = hkdf(&file_key, nonce, b"payload");
    open_once(&key, LAST_CHUNK, b"", chunk).ok_or(AgeFault::Changed)
}

struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a str, AgeFault> {
        let rest = &self.bytes[self.at..];
        let end = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or(AgeFault::Form("its header has no end"))?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| AgeFault::Form("its header is no text"))
    }
}

fn base64(text: &str, part: &'static str) -> Result<Vec<u8>, AgeFault> {
    let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| AgeFault::Form(part))?;
    // Why: what is read must be what would be written.
    (STANDARD_NO_PAD.encode(&bytes) == text).then_some(bytes).ok_or(AgeFault::Form(part))
}

/// Lines of 64 characters, then one that is shorter and may be empty.
fn stanza_body(lines: &mut Lines<'_>) -> Result<Vec<u8>, AgeFault> {
    const PART: &str = "the body of a stanza";
    let mut text = String::new();
    loop {
        let line = lines.next()?;
        text.push_str(line);
        match line.len() {
            BODY_COLUMNS => {}
            0..BODY_COLUMNS => return base64(&text, PART),
            _ => return Err(AgeFault::Form(PART)),
        }
    }
}

/// The file key, when the stanza is for one of `identities`.
fn unwrapped(
    arguments: &[&str],
    body: &[u8],
    identities: &[Identity],
) -> Result<Option<Zeroizing<Vec<u8>>>, AgeFault> {
    const PART: &str = "a stanza for X25519";
    let [share] = arguments else { return Err(AgeFault::Form(PART)) };
    let share: [u8; 32] = base64(share, PART)?.try_into().map_err(|_| AgeFault::Form(PART))?;
    if body.len() != FILE_KEY_BYTES + TAG_BYTES {
        return Err(AgeFault::Form(PART));
    }
    for identity in identities {
        let secret = shared(&identity.private, &share).ok_or(AgeFault::Form(PART))?;
        let key = wrapping_key(&secret, &share, &identity.recipient.public);
        if let Some(file_key) = open_once(&key, [0; 12], b"", body) {
            return Ok(Some(file_key));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted() -> impl FnMut(&mut [u8]) {
        let mut next = 0u8;
        move |bytes: &mut [u8]| {
            for byte in bytes {
                next = next.wrapping_add(1);
                *byte = next.wrapping_mul(167) ^ 0x5a;
            }
        }
    }

    #[test]
    fn a_file_opens_for_each_recipient_and_for_nobody_else() {
        let identities: Vec<Identity> =
            (1..5u8).map(|seed| Identity::from_seed(&[seed; 32])).collect();
        let recipients: Vec<Recipient> =
            identities[..3].iter().map(|identity| identity.recipient().clone()).collect();
        let file = encrypt(b"thirty-two bytes of a data key!!", &recipients, &mut counted());
        for (index, identity) in identities.iter().enumerate() {
            let opened = decrypt(&file, std::slice::from_ref(identity));
            match index {
                0..3 => assert_eq!(**opened.unwrap(), *b"thirty-two bytes of a data key!!"),
                _ => assert_eq!(opened.unwrap_err(), AgeFault::OtherIdentity),
            }
        }
        assert!(decrypt(&file, &identities).is_ok());
    }

    // Mutant: the header's MAC not compared.
    #[test]
    fn no_bit_and_no_byte_of_a_file_can_change() {
        let identity = [Identity::from_seed(&[9; 32])];
        let file = encrypt(b"key", &[identity[0].recipient().clone()], &mut counted());
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut bad = file.clone();
                bad[at] ^= 1 << bit;
                assert!(decrypt(&bad, &identity).is_err(), "byte {at}, bit {bit}");
            }
            assert!(decrypt(&file[..at], &identity).is_err(), "cut at {at}");
        }
        let longer = [&file[..], b"x"].concat();
        assert_eq!(decrypt(&longer, &identity).unwrap_err(), AgeFault::Changed);
    }

    // Made by the crate age 0.12 (by its Python binding) for this identity; it adds a stanza that nobody knows.
    #[test]
    fn a_file_of_another_tool_opens() {
        let file = "\
        YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBUQjVlL1NUSldRTW82aXU4UDRwajNvZ3FVSlI0d1c1c0I0\
        blFxb0RGT0dnCitsbitGejZzbmNzdllxYzJ6MytqMDdmNjZObkNGeHRXeC9xaFlrTkpTQ2cKLT4gLE9KQC1ncmVh\
        c2UgXHApTDpLIE5XVSBqM1NQClY4UzFQZEh2ME5CU3FPOGhjUlhEWWE4ZE1iSmtqd3F6aGVpWlF2T2p1b3A2QmJV\
        Ulc5em5TSy9rMzd1YlRwelQKY3hUWUIrV1pFTjhOZnd1dGxrZWRDWm44Y05zCi0tLSBrOFJqN2crY3dFMUhmL3lX\
        V3JYNHgvdzhpTTJqbS8rWUoyTEkyNVFaVGZjCqdx29tV7+PPh9R74/LrHDxqVSgDq9KpMiTL22eEXCpuzcc7C4Vx\
        nCMlJBSOGOi62IPL8fVfIQKVIjXEruMtQ3wpz1cBKyqCIG06B38VxsYX\
";
        let file = base64::engine::general_purpose::STANDARD.decode(file.replace(' ', "")).unwrap();
        let identity = Identity::from_seed(&[9; 32]);
        assert_eq!(
            *identity.to_text(),
            "AGE-SECRET-KEY-1PYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSTFVYXW"
        );
        let opened = decrypt(&file, &[identity]).unwrap();
        assert_eq!(**opened, *b"sixteen byte key id, then thirty-two of key ....");
    }

    #[test]
    fn keys_have_one_spelling() {
        let identity = Identity::from_seed(&[3; 32]);
        let (secret, public) = (identity.to_text(), identity.recipient().to_string());
        assert_eq!((secret.len(), public.len()), (74, 62));
        assert_eq!(Identity::parse(&secret).unwrap().recipient(), identity.recipient());
        assert_eq!(Recipient::parse(&public).unwrap(), *identity.recipient());
        for bad in [public.to_uppercase(), format!("{public} "), public.replace("age1", "ape1")] {
            assert!(Recipient::parse(&bad).is_err(), "{bad}");
        }
        assert!(Identity::parse(&secret.to_lowercase()).is_err());
        let zero = bech32::encode::<Bech32>(HRP_RECIPIENT, &[0; 32]).unwrap();
        assert!(matches!(Recipient::parse(&zero), Err(KeyFault::Form(_))));
        // The checksum of BIP 350 is another one.
        let other = bech32::encode::<bech32::Bech32m>(HRP_RECIPIENT, &[3; 32]).unwrap();
        assert!(Recipient::parse(&other).is_err());
    }

    #[test]
    fn identity_files_are_private_and_never_replaced() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("auditor.key");
        let identity = generate(&mut |bytes| bytes.fill(7));
        create_identity(&path, &identity).unwrap();
        assert!(matches!(create_identity(&path, &identity), Err(KeyFault::File(..))));
        let read = load_identities(&path).unwrap();
        assert_eq!(read[0].recipient(), identity.recipient());
        let public = std::fs::read_to_string(keys::verifier_path(&path)).unwrap();
        assert_eq!(Recipient::parse(public.trim_end()).unwrap(), *identity.recipient());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o604)).unwrap();
        assert!(matches!(load_identities(&path), Err(KeyFault::Mode(..))));
    }
}
