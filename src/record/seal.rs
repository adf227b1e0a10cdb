//! Sealed parts: originals, encrypted under a data key before they reach the disk, and the data keys
//! themselves, wrapped to auditors. The byte tables are in [`super::format`]. Knows no file.
//!
//! | who has | can |
//! |---|---|
//! | the record | see that there is a sealed part, its length, and which data key it needs |
//! | the record and its key files | the same |
//! | those and an auditor's identity | open, restore, and prove against the commitments in the header |
//! | the running gateway | open what it seals just now: data keys are in its memory for an hour at most |
//!
//! Invariants: a key encrypts one part only (it is derived from the data key and 16 random bytes of the
//! part); plaintext is wiped as soon as it is sealed or shown; key bytes are wiped on drop.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::age::{self, AgeFault, Identity, Recipient, open_once, seal_once};
use super::entry::{
    EntryView, HEADER_FIXED_BYTES, PART_ROW_BYTES, PartKind, SALT_BYTES, commitment,
};
use super::patch;

/// Version of sealed parts.
pub const SEALED_VERSION: u8 = 1;
/// Bytes of a sealed part before the ciphertext.
pub const SEALED_HEAD_BYTES: usize = 66;
/// Bytes of the tag behind the ciphertext (RFC 8439 §2.8).
pub const SEALED_TAG_BYTES: usize = 16;
/// Bytes of an item before its content.
pub const ITEM_HEAD_BYTES: usize = 2 + SALT_BYTES + 4;
/// Bytes that a sealed part with `items` items adds to their content.
pub const fn sealed_bytes(items: usize, content: usize) -> usize {
    SEALED_HEAD_BYTES + 1 + items * ITEM_HEAD_BYTES + content + SEALED_TAG_BYTES
}
/// Starts the message from which the key of one part is derived.
pub const LABEL_KEY: &[u8] = b"stenograph sealed part key v1";
/// Starts the message from which the check of one part is derived.
pub const LABEL_CHECK: &[u8] = b"stenograph sealed part check v1";
/// Starts what a sealed part is bound to.
pub const LABEL_PART: &[u8] = b"stenograph sealed part v1";
/// Bytes of a data key's id.
pub const KEY_ID_BYTES: usize = 16;

const AT_KEY: usize = 2;
const AT_NONCE: usize = AT_KEY + KEY_ID_BYTES;
const AT_CHECK: usize = AT_NONCE + 16;
const _: () = assert!(AT_CHECK + 32 == SEALED_HEAD_BYTES);

/// Names a data key. Random; prints as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; KEY_ID_BYTES]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl KeyId {
    /// Reads 32 hexadecimal digits, lower case.
    pub fn parse(text: &str) -> Option<KeyId> {
        let mut id = [0; KEY_ID_BYTES];
        for (slot, pair) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
            *slot = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        let id = KeyId(id);
        (id.to_string() == text).then_some(id)
    }

    /// Name of its file in the folder of keys.
    pub fn file_name(self) -> String {
        format!("{self}.age")
    }

    /// The id in the name of a key file; only the exact spelling counts.
    pub fn of_file_name(name: &str) -> Option<KeyId> {
        KeyId::parse(name.strip_suffix(".age")?)
    }
}

/// What encrypts the sealed parts of one session. Wiped on drop.
#[derive(Clone)]
pub struct DataKey {
    id: KeyId,
    /// Why a box: a key that is moved leaves no copy behind.
    secret: Box<Zeroizing<[u8; 32]>>,
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({})", self.id)
    }
}

impl DataKey {
    /// A fresh key.
    pub fn generate(random: &dyn Fn(&mut [u8])) -> DataKey {
        let mut key = DataKey { id: KeyId([0; KEY_ID_BYTES]), secret: Box::default() };
        random(&mut key.id.0);
        random(&mut **key.secret);
        key
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Its file: an age file whose payload is the id and the key.
    pub fn to_file(&self, recipients: &[Recipient], random: &dyn Fn(&mut [u8])) -> Vec<u8> {
        let mut payload = Zeroizing::new([0; KEY_ID_BYTES + 32]);
        payload[..KEY_ID_BYTES].copy_from_slice(&self.id.0);
        payload[KEY_ID_BYTES..].copy_from_slice(&**self.secret);
        age::encrypt(&*payload, recipients, &mut |bytes| random(bytes))
    }

    /// The key in a file.
    pub fn of_file(file: &[u8], identities: &[Identity]) -> Result<DataKey, AgeFault> {
        let payload = age::decrypt(file, identities)?;
        let short = AgeFault::Form("its payload is no data key");
        let (id, secret) = payload.split_at_checked(KEY_ID_BYTES).ok_or(short)?;
        if secret.len() != 32 {
            return Err(short);
        }
        let id = KeyId(id.try_into().expect("16 bytes"));
        let mut key = DataKey { id, secret: Box::default() };
        key.secret.copy_from_slice(secret);
        Ok(key)
    }

    fn derive(&self, label: &[u8], nonce: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&**self.secret).expect("any key length is allowed");
        mac.update(label);
        mac.update(nonce);
        Zeroizing::new(mac.finalize().into_bytes().into())
    }
}

/// How an item gives its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum How {
    /// The bytes themselves.
    Whole = 0,
    /// A patch of the entry's body.
    Patch = 1,
}

/// One text in a sealed part.
pub struct Item<'a> {
    /// Which row of the entry's table of parts it restores.
    pub row: u8,
    /// What `content` is.
    pub how: How,
    /// The salt of that row's commitment.
    pub salt: [u8; SALT_BYTES],
    /// The text, or the patch.
    pub content: &'a [u8],
}

impl Drop for Item<'_> {
    fn drop(&mut self) {
        self.salt.zeroize();
    }
}

/// What a sealed part is bound to besides its key: the entry's header up to the row of the sealed part.
fn bound(key: KeyId, header_before: &[u8]) -> Vec<u8> {
    [LABEL_PART, &key.0, header_before].concat()
}

/// The bytes of a sealed part. `header_before` is the entry's header up to the row of this part, which
/// is the last one.
pub fn seal(
    key: &DataKey,
    header_before: &[u8],
    items: &[Item<'_>],
    random: &dyn Fn(&mut [u8]),
) -> Vec<u8> {
    let content: usize = items.iter().map(|item| item.content.len()).sum();
    let mut nonce = [0; 16];
    random(&mut nonce);
    // Why: growing would leave a copy of the plaintext behind; here it is encrypted in its place.
    let mut text =
        Zeroizing::new(Vec::with_capacity(sealed_bytes(items.len(), content) - SEALED_HEAD_BYTES));
    text.push(items.len() as u8);
    for item in items {
        text.push(item.row);
        text.push(item.how as u8);
        text.extend_from_slice(&item.salt);
        text.extend_from_slice(&(item.content.len() as u32).to_le_bytes());
        text.extend_from_slice(item.content);
    }
    seal_once(&key.derive(LABEL_KEY, &nonce), [0; 12], &bound(key.id, header_before), &mut text);
    let mut part = Vec::with_capacity(SEALED_HEAD_BYTES + text.len());
    part.extend_from_slice(&[SEALED_VERSION, 0]);
    part.extend_from_slice(&key.id.0);
    part.extend_from_slice(&nonce);
    part.extend_from_slice(&*key.derive(LABEL_CHECK, &nonce));
    part.extend_from_slice(&text);
    part
}

/// Why a sealed part does not restore what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealFault {
    /// It has not the form of the byte table; what does not fit.
    Form(&'static str),
    /// The key is another one than the part was sealed with.
    OtherKey,
    /// It was not sealed for this entry, or is not as it was written.
    NotThisEntry,
    /// What comes out does not fit the commitment of its row.
    Commitment(u8),
}

impl fmt::Display for SealFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SealFault::Form(what) => write!(f, "sealed part has no known form: {what}"),
            SealFault::OtherKey => f.write_str("sealed part was sealed with another key"),
            SealFault::NotThisEntry => {
                f.write_str("sealed part belongs to another entry, or is not as it was written")
            }
            SealFault::Commitment(row) => {
                write!(f, "what was restored does not match the commitment of part {row}")
            }
        }
    }
}

impl std::error::Error for SealFault {}

/// The data key that a sealed part needs.
pub fn key_of(part: &[u8]) -> Result<KeyId, SealFault> {
    if part.len() < sealed_bytes(0, 0) {
        return Err(SealFault::Form("it is too short"));
    }
    match part[..2] {
        [SEALED_VERSION, 0] => {
            Ok(KeyId(part[AT_KEY..AT_NONCE].try_into().expect("16 bytes are 16 bytes")))
        }
        _ => Err(SealFault::Form("its version is another one")),
    }
}

/// A text that a sealed part gave, proven against the commitment of its row.
pub struct Restored {
    /// Which row of the entry's table of parts.
    pub row: u8,
    /// The bytes as they came, wiped on drop.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Restored(part {}, {} bytes)", self.row, self.bytes.len())
    }
}

/// The sealed part of an entry: its row and its bytes, where they are not withheld.
pub fn sealed_part<'a>(entry: &EntryView<'a>) -> Option<(usize, Option<&'a [u8]>)> {
    let row = entry.parts.iter().position(|part| part.kind_number == PartKind::Sealed as u8)?;
    Some((row, entry.parts[row].bytes))
}

/// Opens the sealed part of `entry` with `key` and proves every text in it.
pub fn restore(entry: &EntryView<'_>, key: &DataKey) -> Result<Vec<Restored>, SealFault> {
    let Some((sealed_row, Some(part))) = sealed_part(entry) else {
        return Err(SealFault::Form("it is withheld"));
    };
    if sealed_row + 1 != entry.parts.len() {
        return Err(SealFault::Form("it is not the last part"));
    }
    if key_of(part)? != key.id {
        return Err(SealFault::OtherKey);
    }
    let nonce = &part[AT_NONCE..AT_CHECK];
    // Why: the cipher alone does not tell keys apart; this does, and a key file with other content under
    // the same name is told from a damaged part.
    if part[AT_CHECK..SEALED_HEAD_BYTES] != *key.derive(LABEL_CHECK, nonce) {
        return Err(SealFault::OtherKey);
    }
    let header_before = &entry.header[..HEADER_FIXED_BYTES + sealed_row * PART_ROW_BYTES];
    let text = open_once(
        &key.derive(LABEL_KEY, nonce),
        [0; 12],
        &bound(key.id, header_before),
        &part[SEALED_HEAD_BYTES..],
    )
    .ok_or(SealFault::NotThisEntry)?;
    items(&text, entry, sealed_row)
}

fn items(
    text: &[u8],
    entry: &EntryView<'_>,
    sealed_row: usize,
) -> Result<Vec<Restored>, SealFault> {
    let short = SealFault::Form("it ends inside an item");
    let (&[count], mut rest) = text.split_first_chunk::<1>().ok_or(short)?;
    let body_row = entry.parts.iter().position(|part| part.kind_number == PartKind::Body as u8);
    let mut restored: Vec<Restored> = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let (head, behind) = rest.split_first_chunk::<ITEM_HEAD_BYTES>().ok_or(short)?;
        let (row, how) = (head[0], head[1]);
        let salt: Zeroizing<[u8; SALT_BYTES]> =
            Zeroizing::new(head[2..2 + SALT_BYTES].try_into().expect("32 bytes"));
        let length = u32::from_le_bytes(head[2 + SALT_BYTES..].try_into().expect("4 bytes"));
        let (content, behind) = behind.split_at_checked(length as usize).ok_or(short)?;
        rest = behind;
        let part = entry.parts.get(usize::from(row)).filter(|_| usize::from(row) < sealed_row);
        let part = part.ok_or(SealFault::Form("an item is of no part"))?;
        let bytes = match how {
            0 => Zeroizing::new(content.to_vec()),
            1 => {
                let body = body_row.and_then(|body| {
                    let sealed = restored.iter().find(|one| usize::from(one.row) == body);
                    sealed.map(|one| &one.bytes[..]).or(entry.parts[body].bytes)
                });
                let body = body.ok_or(SealFault::Form("a patch without a body"))?;
                patch::apply(body, content, part.length as usize)
                    .ok_or(SealFault::Form("a patch that does not fit the body"))?
            }
            _ => return Err(SealFault::Form("an item of an unknown kind")),
        };
        if bytes.len() != part.length as usize || commitment(&salt, &bytes) != part.commitment {
            return Err(SealFault::Commitment(row));
        }
        restored.push(Restored { row, bytes });
    }
    match rest.is_empty() {
        true => Ok(restored),
        false => Err(SealFault::Form("bytes behind the last item")),
    }
}
