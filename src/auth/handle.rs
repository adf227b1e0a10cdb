//! Handles that belong to people: `Mcp-Session-Id`, `Last-Event-ID` and the like on their way to a
//! client and back.
//!
//! The upstream's own id goes out inside an envelope that only its owner can use, so no table is
//! shared between workers or hosts. Envelope, base64url without padding:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 10 | our session |
//! | 0 to [`ORIGINAL_BYTES_MAX`] | the upstream's bytes as they came |
//! | 16 | HMAC-SHA-256 over purpose, issuer, subject, upstream (each with its length) and all bytes before, cut to 128 bits |
//!
//! A `requestState` may be as long as a message, so it is not wrapped but marked: behind the server's text,
//! which stays as it is, come a full stop and [`MARK_BYTES`] characters, base64url of version, our session
//! and the HMAC over the same parts.
//!
//! It authenticates and does not encrypt: what is inside is no secret from its owner. A handle that is
//! not the caller's is `None`, whatever is wrong with it, in time that does not depend on what is.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::types::SessionId;

const VERSION: u8 = 1;
const TAG_BYTES: usize = 16;
const FRAME_BYTES: usize = 1 + SessionId::BYTES + TAG_BYTES;

/// Longest id of an upstream that can be wrapped, in bytes: the default of `event_id_bytes_max`.
pub const ORIGINAL_BYTES_MAX: usize = 1024;
/// Longest handle, in characters.
pub const HANDLE_BYTES_MAX: usize = (FRAME_BYTES + ORIGINAL_BYTES_MAX).div_ceil(3) * 4;

/// Characters behind the full stop of a marked `requestState`.
pub const MARK_BYTES: usize = FRAME_BYTES / 3 * 4;

/// The gateway's key for handles. Hosts that share clients share it.
#[derive(Clone)]
pub struct HandleKey(Hmac<Sha256>);

impl HandleKey {
    /// A key from 32 random bytes.
    pub fn new(bytes: &[u8; 32]) -> HandleKey {
        HandleKey(Hmac::new_from_slice(bytes).expect("HMAC takes a key of any length"))
    }
}

impl std::fmt::Debug for HandleKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HandleKey")
    }
}

/// What a handle stands for. One purpose's handle is never good for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `Mcp-Session-Id`.
    Session,
    /// Event `id`, `Last-Event-ID`.
    Event,
    /// `session_id` in the query of the 2024-11-05 transport.
    LegacySession,
    /// A task id.
    Task,
    /// `requestState`.
    RequestState,
    /// A task id that the gateway never gave out, in a form in which no server has given one out either.
    /// It opens nothing.
    Unknown,
}

impl Purpose {
    fn byte(self) -> u8 {
        match self {
            Purpose::Session => 1,
            Purpose::Event => 2,
            Purpose::LegacySession => 3,
            Purpose::Task => 4,
            Purpose::RequestState => 5,
            Purpose::Unknown => 6,
        }
    }
}

/// Whose handle it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    /// `iss`.
    pub issuer: &'a str,
    /// `sub`.
    pub subject: &'a str,
    /// Name of the upstream.
    pub upstream: &'a str,
}

fn tag(key: &HandleKey, owner: Owner<'_>, purpose: Purpose, body: &[u8]) -> [u8; TAG_BYTES] {
    let mut mac = key.0.clone();
    mac.update(&[purpose.byte()]);
    for part in [owner.issuer, owner.subject, owner.upstream] {
        // Why the length: without it ("ab", "c") and ("a", "bc") would be one owner.
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    mac.update(body);
    let full = mac.finalize().into_bytes();
    let mut out = [0; TAG_BYTES];
    out.copy_from_slice(&full[..TAG_BYTES]);
    out
}

/// The handle that `owner` gets for the upstream's `original`; `None` when that is longer than
/// [`ORIGINAL_BYTES_MAX`].
pub fn wrap(
    key: &HandleKey,
    owner: Owner<'_>,
    purpose: Purpose,
    session: SessionId,
    original: &[u8],
) -> Option<String> {
    if original.len() > ORIGINAL_BYTES_MAX {
        return None;
    }
    let mut bytes = Vec::with_capacity(FRAME_BYTES + original.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&session.to_bytes());
    bytes.extend_from_slice(original);
    let tag = tag(key, owner, purpose, &bytes);
    bytes.extend_from_slice(&tag);
    Some(URL_SAFE_NO_PAD.encode(&bytes))
}

/// Session and upstream's bytes behind `handle`, if it was made for this owner and purpose.
pub fn unwrap(
    key: &HandleKey,
    owner: Owner<'_>,
    purpose: Purpose,
    handle: &[u8],
) -> Option<(SessionId, Vec<u8>)> {
    if handle.len() > HANDLE_BYTES_MAX {
        return None;
    }
    let mut bytes = URL_SAFE_NO_PAD.decode(handle).ok()?;
    if bytes.len() < FRAME_BYTES || bytes[0] != VERSION {
        return None;
    }
    let (body, found) = bytes.split_at(bytes.len() - TAG_BYTES);
    if !bool::from(tag(key, owner, purpose, body).ct_eq(found)) {
        return None;
    }
    let mut session = [0; SessionId::BYTES];
    session.copy_from_slice(&bytes[1..1 + SessionId::BYTES]);
    bytes.truncate(bytes.len() - TAG_BYTES);
    bytes.drain(..1 + SessionId::BYTES);
    Some((SessionId::from_bytes(session), bytes))
}

/// Whether `handle` has the form of one that some gateway wrapped, whoever it was made for.
pub fn looks_wrapped(handle: &[u8]) -> bool {
    let bytes = URL_SAFE_NO_PAD.decode(handle);
    bytes.is_ok_and(|bytes| bytes.len() >= FRAME_BYTES && bytes[0] == VERSION)
}

/// What goes behind the server's `requestState` on its way to `owner`.
pub fn mark(key: &HandleKey, owner: Owner<'_>, session: SessionId, state: &[u8]) -> String {
    let mut frame = Vec::with_capacity(FRAME_BYTES);
    frame.push(VERSION);
    frame.extend_from_slice(&session.to_bytes());
    let tag = tag(key, owner, Purpose::RequestState, &[&frame, state].concat());
    frame.extend_from_slice(&tag);
    format!(".{}", URL_SAFE_NO_PAD.encode(&frame))
}

/// Session and bytes of the server's `requestState` in a marked one, if it was marked for this owner.
pub fn marked(key: &HandleKey, owner: Owner<'_>, handle: &[u8]) -> Option<(SessionId, usize)> {
    let state_bytes = handle.len().checked_sub(1 + MARK_BYTES)?;
    let (state, mark) = handle.split_at(state_bytes);
    let frame = URL_SAFE_NO_PAD.decode(mark.strip_prefix(b".")?).ok()?;
    let (said, found) = frame.split_at_checked(FRAME_BYTES - TAG_BYTES)?;
    let wanted = tag(key, owner, Purpose::RequestState, &[said, state].concat());
    if said[0] != VERSION || !bool::from(wanted.ct_eq(found)) {
        return None;
    }
    let mut session = [0; SessionId::BYTES];
    session.copy_from_slice(&said[1..]);
    Some((SessionId::from_bytes(session), state_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWNER: Owner<'_> =
        Owner { issuer: "https://login.example.com", subject: "alice", upstream: "codegen" };

    fn key(byte: u8) -> HandleKey {
        HandleKey::new(&[byte; 32])
    }

    proptest! {
        #[test]
        fn what_was_wrapped_comes_back(
            original in proptest::collection::vec(any::<u8>(), 0..=ORIGINAL_BYTES_MAX),
            session in any::<[u8; 10]>(),
        ) {
            let session = SessionId::from_bytes(session);
            let handle = wrap(&key(1), OWNER, Purpose::Session, session, &original).unwrap();
            prop_assert!(handle.len() <= HANDLE_BYTES_MAX);
            prop_assert!(handle.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
            let back = unwrap(&key(1), OWNER, Purpose::Session, handle.as_bytes());
            prop_assert_eq!(back, Some((session, original)));
        }

        // Mutants: leaving issuer, subject, upstream, purpose or the lengths out of `tag`, or comparing
        // only the first byte of it: one of the two properties below fails.
        #[test]
        fn a_changed_character_is_nobodys(
            original in proptest::collection::vec(any::<u8>(), 0..64),
            at in any::<proptest::sample::Index>(),
            other in any::<u8>(),
        ) {
            let session = SessionId::from_bytes([7; 10]);
            let handle = wrap(&key(1), OWNER, Purpose::Event, session, &original).unwrap();
            let mut bytes = handle.into_bytes();
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != other);
            bytes[at] = other;
            prop_assert_eq!(unwrap(&key(1), OWNER, Purpose::Event, &bytes), None);
        }

        #[test]
        fn another_owner_cannot_use_it(
            issuer in "[a-c]{0,3}", subject in "[a-c]{0,3}", upstream in "[a-c]{0,3}",
            issuer2 in "[a-c]{0,3}", subject2 in "[a-c]{0,3}", upstream2 in "[a-c]{0,3}",
        ) {
            let one = Owner { issuer: &issuer, subject: &subject, upstream: &upstream };
            let two = Owner { issuer: &issuer2, subject: &subject2, upstream: &upstream2 };
            prop_assume!(one != two);
            let session = SessionId::from_bytes([7; 10]);
            let handle = wrap(&key(1), one, Purpose::Session, session, b"id").unwrap();
            prop_assert_eq!(unwrap(&key(1), two, Purpose::Session, handle.as_bytes()), None);
        }
    }

    // Mutants: `marked` that looks at the first three bytes of the state; `tag` without the subject.
    #[test]
    fn a_marked_state_is_its_owners_and_whole() {
        let session = SessionId::from_bytes([7; 10]);
        for state in ["", "opaque", "a.b", "\u{e9}\u{1f600}"] {
            let whole = format!("{state}{}", mark(&key(1), OWNER, session, state.as_bytes()));
            let back = |owner, text: &[u8]| marked(&key(1), owner, text);
            assert_eq!(back(OWNER, whole.as_bytes()), Some((session, state.len())));
            assert_eq!(back(Owner { subject: "mallory", ..OWNER }, whole.as_bytes()), None);
            assert_eq!(back(Owner { upstream: "other", ..OWNER }, whole.as_bytes()), None);
            assert_eq!(marked(&key(2), OWNER, whole.as_bytes()), None);
            assert_eq!(back(OWNER, state.as_bytes()), None);
            assert_eq!(back(OWNER, format!("x{whole}").as_bytes()), None);
            for at in 0..whole.len() {
                let mut bytes = whole.clone().into_bytes();
                bytes[at] ^= 1;
                assert_eq!(back(OWNER, &bytes), None, "{at}");
            }
        }
    }

    #[test]
    fn what_looks_wrapped_is_told_from_ids_of_servers() {
        let session = SessionId::from_bytes([7; 10]);
        for purpose in [Purpose::Task, Purpose::Unknown] {
            let handle = wrap(&key(1), OWNER, purpose, session, b"id").unwrap();
            assert!(looks_wrapped(handle.as_bytes()));
        }
        for id in ["", "1", "task-1", "786512e2-9e0d-44bd-8f29-789f820fe840", "gate-test"] {
            assert!(!looks_wrapped(id.as_bytes()), "{id}");
        }
    }

    #[test]
    fn another_purpose_key_or_form_is_nobodys() {
        let session = SessionId::from_bytes([7; 10]);
        let handle = wrap(&key(1), OWNER, Purpose::Session, session, b"id").unwrap();
        let none = |key: &HandleKey, purpose, handle: &[u8]| {
            assert_eq!(unwrap(key, OWNER, purpose, handle), None);
        };
        for purpose in
            [Purpose::Event, Purpose::LegacySession, Purpose::Task, Purpose::RequestState]
        {
            none(&key(1), purpose, handle.as_bytes());
        }
        none(&key(2), Purpose::Session, handle.as_bytes());
        none(&key(1), Purpose::Session, format!("{handle}=").as_bytes());
        none(&key(1), Purpose::Session, format!(" {handle}").as_bytes());
        for cut in 0..handle.len() {
            none(&key(1), Purpose::Session, &handle.as_bytes()[..cut]);
        }
        none(&key(1), Purpose::Session, &vec![b'A'; HANDLE_BYTES_MAX + 1]);
        // A bare id of the upstream, as a client would send it that got around the gateway.
        none(&key(1), Purpose::Session, b"5f0c1f7e-2a6e-4a0e-9d3c-0b9a55b5c3a1");
        let long = vec![0; ORIGINAL_BYTES_MAX + 1];
        assert_eq!(wrap(&key(1), OWNER, Purpose::Session, session, &long), None);
    }
}
