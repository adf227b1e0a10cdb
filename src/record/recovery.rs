//! What is found in the directory at start.

use super::disk::Disk;
use super::header::Previous;
use super::keys::VerifierKey;
use super::tree::Tree;
use super::writer::StartFault;

/// Where the record goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Number of the segment to create.
    pub segment: u32,
    /// The tree of all entries kept.
    pub tree: Tree,
    /// How the newest segment ended.
    pub previous: Previous,
}

/// Looks at the newest segment and decides.
pub fn recover(
    disk: &dyn Disk,
    _key: &VerifierKey,
    _accept_damage: bool,
) -> Result<Recovered, StartFault> {
    let names = disk.list().map_err(StartFault::Io)?;
    match names.iter().filter_map(|name| super::format::segment_number(name)).max() {
        None => Ok(Recovered { segment: 0, tree: Tree::new(), previous: Previous::NONE }),
        Some(segment) => Err(StartFault::Damaged {
            segment,
            offset: 0,
            what: "this version does not continue a record".into(),
        }),
    }
}
