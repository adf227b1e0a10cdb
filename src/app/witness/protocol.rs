//! The body of `POST /add-checkpoint` (c2sp.org/tlog-witness): old size, consistency proof, checkpoint.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::record::note::NOTE_BYTES_MAX;
use crate::record::tree::proof::PROOF_HASHES_MAX;

/// Largest body: a proof of 63 hashes in base64, and a note.
pub const BODY_BYTES_MAX: usize = 32 + PROOF_HASHES_MAX * 45 + NOTE_BYTES_MAX;
/// Media type of the body that states a size.
pub const SIZE_MEDIA: &str = "text/x.tlog.size";

/// A request for a cosignature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Size of the tree that the witness is thought to have cosigned last.
    pub old_size: u64,
    /// That the tree of the checkpoint continues that one.
    pub proof: Vec<[u8; 32]>,
    /// The checkpoint, a signed note.
    pub note: &'a str,
}

/// A decimal number in its one spelling.
pub fn size(text: &str) -> Option<u64> {
    text.parse::<u64>().ok().filter(|size| size.to_string() == text)
}

impl<'a> Request<'a> {
    /// Reads a body, strictly.
    pub fn parse(body: &'a [u8]) -> Option<Request<'a>> {
        let body = std::str::from_utf8(body).ok()?;
        let (first, mut rest) = body.split_once('\n')?;
        let old_size = size(first.strip_prefix("old ")?)?;
        let mut proof = Vec::new();
        loop {
            let (line, behind) = rest.split_once('\n')?;
            rest = behind;
            if line.is_empty() {
                break;
            }
            let hash = STANDARD.decode(line).ok().filter(|hash| STANDARD.encode(hash) == line)?;
            proof.push(hash.try_into().ok()?);
            if proof.len() > PROOF_HASHES_MAX {
                return None;
            }
        }
        Some(Request { old_size, proof, note: rest })
    }

    /// The body.
    pub fn text(&self) -> String {
        let mut text = format!("old {}\n", self.old_size);
        for hash in &self.proof {
            text.push_str(&STANDARD.encode(hash));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(self.note);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_is_written_and_in_no_other_way() {
        let request = Request { old_size: 7, proof: vec![[1; 32], [2; 32]], note: "a\n1\n" };
        let text = request.text();
        assert_eq!(Request::parse(text.as_bytes()), Some(request));
        for bad in [
            text.replace("old 7", "old 07"),
            text.replace("old 7", "old +7"),
            text.replace("old 7", "7"),
            text.replace("old 7\n", "old 7\r\n"),
            text.replacen("=\n", "\n", 1),
            text.split_once("\n\n").unwrap().0.to_owned(),
            format!("old 0\n{}\n", format!("{}\n", STANDARD.encode([0; 32])).repeat(64)),
        ] {
            assert_eq!(Request::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
