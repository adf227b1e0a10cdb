//! The deny file: read at the start, and watched from then on.

use std::path::Path;
use std::sync::Arc;

use super::{StartFault, copy, problem};
use crate::app::evidence::Evidence;
use crate::app::{denyfile, log};
use crate::auth::deny::DenyList;
use crate::gateway::env::Snapshot;
use crate::worker::shared::Shared;

pub(super) fn load_deny(path: &Path) -> Result<Arc<DenyList>, StartFault> {
    match denyfile::load(path) {
        Ok(list) => Ok(Arc::new(list)),
        // Nobody has been denied yet.
        Err(denyfile::DenyFileFault::Missing) => Ok(Arc::new(DenyList::default())),
        Err(fault) => Err(StartFault::Config(vec![problem(
            "deny.file",
            format!("{}: {fault}", path.display()),
            "a deny file without faults",
        )])),
    }
}

pub(super) fn watch_deny(
    path: &Path,
    first: Arc<DenyList>,
    shared: Arc<Shared>,
    evidence: Arc<Evidence>,
) -> Result<denyfile::Watch, StartFault> {
    let name = path.display().to_string();
    denyfile::watch(path, first, move |change| match change {
        denyfile::Change::List(list) => {
            log::info("deny", "the deny file changed")
                .field("entries", list.entries().len())
                .write();
            shared.change(|snapshot| Snapshot { deny: list.clone(), ..copy(snapshot) });
            // Why behind the change: who is out must be out within a second, also while the record
            // waits for its disk.
            evidence.deny(&list);
        }
        denyfile::Change::Kept(fault) => {
            log::error("deny", format!("{name}: {fault}; the list before stays in force")).write();
            evidence.deny_kept(&fault.to_string());
        }
    })
    .map_err(|error| StartFault::Io(format!("the deny file cannot be watched: {error}")))
}
