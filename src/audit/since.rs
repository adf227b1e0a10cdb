//! Checkpoints that were kept elsewhere, against the record: whoever holds the log's key can write
//! another history that is intact by itself, but not one that passes through these; and what it leaves of
//! the history cannot be written anew either, because they hold the chain over its compressed bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::record::keys::VerifierKey;
use crate::record::note::{Checkpoint, Note, TreeHead, notes};
use crate::record::reader::Reading;

/// Largest file with checkpoints: a witness's state.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Segment, offset and value of a point of the chain over the compressed bytes.
pub type ChainPoint = (u32, u64, [u8; 32]);

/// The point at which a checkpoint stands.
pub fn chain_point(checkpoint: &Checkpoint) -> ChainPoint {
    (checkpoint.segment, checkpoint.offset, checkpoint.chain)
}

/// A checkpoint that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    file: PathBuf,
    note: String,
    head: TreeHead,
}

/// What it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The record continues it.
    Holds,
    /// The record says no; why.
    No(String),
    /// It cannot be told, because the record is damaged before it.
    Unknown,
}

impl Kept {
    /// The checkpoints in a file: one note, or several with an empty line between. The error is a
    /// sentence.
    pub fn read(file: &Path) -> Result<Vec<Kept>, String> {
        let fault = |what: String| format!("{}: {what}", file.display());
        let length = std::fs::metadata(file).map_err(|error| fault(error.to_string()))?.len();
        if length > FILE_BYTES_MAX {
            return Err(fault(format!("larger than {FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(file).map_err(|error| fault(error.to_string()))?;
        let form = || fault("no checkpoint in the form of a signed note".to_owned());
        let mut kept = Vec::new();
        for note in notes(&text).ok_or_else(form)? {
            let parsed = Note::parse(note.as_bytes()).ok_or_else(form)?;
            let head = TreeHead::parse(parsed.text).ok_or_else(form)?;
            kept.push(Kept { file: file.to_owned(), note: note.to_owned(), head });
        }
        if kept.is_empty() { Err(form()) } else { Ok(kept) }
    }

    /// Name of its log.
    pub fn origin(&self) -> &str {
        &self.head.origin
    }

    /// Entries in its tree.
    pub fn size(&self) -> u64 {
        self.head.size
    }

    /// Where its chain ends, when it is a checkpoint of this program.
    pub fn chain(&self) -> Option<ChainPoint> {
        let note = Note::parse(self.note.as_bytes())?;
        Checkpoint::parse(note.text).filter(|kept| kept.size > 0).map(|kept| chain_point(&kept))
    }

    /// Checks it against what was read. `chains` says of the chain points of all kept checkpoints
    /// whether they are points of this record.
    pub fn verdict(&self, reading: &Reading, chains: &BTreeMap<ChainPoint, bool>) -> Verdict {
        let Some(note) = Note::parse(self.note.as_bytes()) else {
            return Verdict::No("the checkpoint is no note".to_owned());
        };
        let by = |key: &VerifierKey| note.signatures.iter().any(|line| line.is_by(key, note.text));
        if !reading.keys.is_empty() && !reading.keys.iter().any(by) {
            return Verdict::No("the checkpoint is not signed by the log's key".to_owned());
        }
        let size = self.head.size;
        match reading.roots.iter().find(|(seen, _)| *seen == size) {
            Some((_, root)) if *root == self.head.root => {
                match self.chain().is_none_or(|point| chains.get(&point) == Some(&true)) {
                    true => Verdict::Holds,
                    false if reading.damage.is_empty() => Verdict::No(format!(
                        "written anew: the record's first {size} entries are those of the \
                         checkpoint, its bytes are not; parts may have been withheld"
                    )),
                    false => Verdict::Unknown,
                }
            }
            Some(_) => Verdict::No(format!(
                "forked: the record's first {size} entries are not those of the checkpoint"
            )),
            None => match &reading.tree {
                Some(tree) if tree.size() < size => Verdict::No(format!(
                    "rolled back: the record has {} entries, the checkpoint {size}",
                    tree.size()
                )),
                _ => Verdict::Unknown,
            },
        }
    }

    /// For `--json`.
    pub fn json(&self, verdict: &Verdict) -> Value {
        json!({
            "file": self.file.display().to_string(),
            "size": self.head.size,
            "holds": *verdict == Verdict::Holds,
            "what": verdict.text(self.head.size),
        })
    }

    /// For a terminal.
    pub fn line(&self, verdict: &Verdict) -> String {
        format!("{}: {}", self.file.display(), verdict.text(self.head.size))
    }
}

impl Verdict {
    fn text(&self, size: u64) -> String {
        match self {
            Verdict::Holds => format!("the record continues its {size} entries"),
            Verdict::No(what) => what.clone(),
            Verdict::Unknown => {
                format!("damage hides whether the record continues its {size} entries")
            }
        }
    }
}
