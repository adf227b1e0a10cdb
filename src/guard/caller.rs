//! The caller's own token, found wherever it comes back: a server that shows what it was told shows it to
//! whoever reads the answer.
//!
//! The token itself is not kept: its last bytes find the places, the digest of all of it decides there. What is
//! kept opens nothing, and a search costs the same however long the token is.

use memchr::memmem::Finder;
use sha2::{Digest, Sha256};

use super::fault::GuardFault;

/// Bytes at the end of a token that name the places. They belong to the signature: nobody has them by chance.
pub(super) const TAIL_BYTES: usize = 16;

/// Bound: places in one text that have the end of a token and not the rest of it. Each costs a digest; only who
/// knows the token can make them.
const STRAYS_MAX: usize = 256;

/// What the scanner needs to find one token.
#[derive(Debug)]
pub struct CallerMark {
    tail: Finder<'static>,
    bytes: usize,
    digest: [u8; 32],
}

impl CallerMark {
    /// The mark of `token`; `None` for one that is too short to be told from other text.
    pub fn of(token: &[u8]) -> Option<CallerMark> {
        let from = token.len().checked_sub(TAIL_BYTES).filter(|from| *from >= TAIL_BYTES)?;
        Some(CallerMark {
            tail: Finder::new(&token[from..]).into_owned(),
            bytes: token.len(),
            digest: Sha256::digest(token).into(),
        })
    }

    /// Length of the token.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where the token ends in `text`. True when its last bytes stand anywhere: then the rest of it may be
    /// encoded in another way.
    pub(super) fn ends(
        &self,
        text: &[u8],
        mut each: impl FnMut(usize) -> Result<(), GuardFault>,
    ) -> Result<bool, GuardFault> {
        let mut strays = 0;
        let mut any = false;
        for at in self.tail.find_iter(text) {
            any = true;
            let end = at + TAIL_BYTES;
            let whole = end.checked_sub(self.bytes).map(|start| &text[start..end]);
            if whole.is_some_and(|whole| self.digest[..] == Sha256::digest(whole)[..]) {
                each(end)?;
                continue;
            }
            strays += 1;
            if strays > STRAYS_MAX {
                return Err(GuardFault::TooManyCandidates);
            }
        }
        Ok(any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg";

    fn ends(text: &str) -> Result<Vec<usize>, GuardFault> {
        let mut found = vec![];
        let mark = CallerMark::of(TOKEN.as_bytes()).expect("long enough");
        let any = mark.ends(text.as_bytes(), |end| {
            found.push(end);
            Ok(())
        })?;
        assert_eq!(any, text.contains(&TOKEN[TOKEN.len() - TAIL_BYTES..]));
        Ok(found)
    }

    // Mutant: the digest is not asked.
    #[test]
    fn only_the_whole_token_counts() {
        assert_eq!(
            ends(&format!("a{TOKEN}b{TOKEN}")),
            Ok(vec![1 + TOKEN.len(), 2 + 2 * TOKEN.len()])
        );
        assert_eq!(ends(&TOKEN[1..]), Ok(vec![]));
        assert_eq!(ends(&format!("f{}", &TOKEN[1..])), Ok(vec![]));
        assert!(CallerMark::of(b"too short to be a token").is_none());
    }

    #[test]
    fn ends_without_a_token_have_a_bound() {
        let tail = &TOKEN[TOKEN.len() - TAIL_BYTES..];
        assert_eq!(ends(&tail.repeat(STRAYS_MAX)), Ok(vec![]));
        assert_eq!(ends(&tail.repeat(STRAYS_MAX + 1)), Err(GuardFault::TooManyCandidates));
    }
}
