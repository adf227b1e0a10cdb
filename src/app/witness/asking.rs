//! The gateway's threads for witnesses, from before the record is written to until after it is sealed.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::asker::{Asker, Witness, ask_at_start};
use super::watch::Watch;
use crate::app::config::Record;
use crate::app::evidence::Evidence;
use crate::record::disk::Directory;
use crate::record::keys::LogKey;
use crate::record::mailbox::Mailbox;
use crate::record::settings::Settings;
use crate::record::tree::Tree;
use crate::record::writer::Writer;

/// The tree the record was opened with, and where each witness agreed.
type Opened = (Tree, Vec<Option<u64>>);

/// Everything that is needed before the writer runs.
pub struct Asking {
    witnesses: Vec<Witness>,
    directory: Directory,
    key: LogKey,
    accept_rollback: bool,
    max_ms: u64,
    refuses: bool,
    mailboxes: Vec<Arc<Mailbox>>,
    opened: Arc<Mutex<Opened>>,
}

/// The running threads; none when no witness is configured.
pub struct Witnessing {
    watch: Option<Arc<Watch>>,
    threads: Vec<JoinHandle<()>>,
}

impl Asking {
    /// For the witnesses of this configuration.
    pub fn new(config: &Record, key: &LogKey, accept_rollback: bool) -> Asking {
        Asking {
            witnesses: config.witnesses.clone(),
            directory: Directory::new(&config.directory),
            key: key.clone(),
            accept_rollback,
            max_ms: config.unwitnessed_ms_max,
            refuses: config.unwitnessed_refuses,
            mailboxes: config.witnesses.iter().map(|_| Arc::default()).collect(),
            opened: Arc::default(),
        }
    }

    /// Makes the writer publish, and ask before it writes.
    pub fn prepare(&mut self, settings: &mut Settings) {
        if self.witnesses.is_empty() {
            return;
        }
        settings.mailboxes.clone_from(&self.mailboxes);
        let (witnesses, key) = (self.witnesses.clone(), self.key.clone());
        let (accept, directory) = (self.accept_rollback, self.directory.clone());
        let opened = self.opened.clone();
        settings.before_writing = Some(Box::new(move |_, tree, checkpoint| {
            let (entries, agreed) =
                ask_at_start(&witnesses, &key, accept, &directory, tree, checkpoint);
            *opened.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
                (tree.clone(), agreed);
            entries
        }));
    }

    /// Starts a thread for each witness and one that watches the time.
    pub fn start(self, writer: &Writer, evidence: &Arc<Evidence>) -> io::Result<Witnessing> {
        if self.witnesses.is_empty() {
            return Ok(Witnessing { watch: None, threads: Vec::new() });
        }
        let opened = &mut *self.opened.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (tree, agreed) = std::mem::take(opened);
        let names: Vec<String> =
            self.witnesses.iter().map(|witness| witness.key.name().to_owned()).collect();
        let watch = Arc::new(Watch::new(&names, &agreed, self.max_ms, self.refuses));
        let progress = writer.progress();
        progress.set_unwitnessed(self.refuses && agreed.iter().all(Option::is_none));
        let mut threads = Vec::new();
        for (index, (witness, mailbox)) in self.witnesses.iter().zip(&self.mailboxes).enumerate() {
            let asker = Asker {
                witness: witness.clone(),
                index,
                mailbox: mailbox.clone(),
                cosigned: writer.cosigned(),
                directory: self.directory.clone(),
                tree: tree.clone(),
                known: agreed.get(index).copied().flatten(),
                watch: watch.clone(),
            };
            let thread = std::thread::Builder::new().name("asker".to_owned());
            threads.push(thread.spawn(move || asker.run())?);
        }
        let (watching, evidence) = (watch.clone(), evidence.clone());
        let thread = std::thread::Builder::new().name("watch".to_owned());
        threads.push(thread.spawn(move || watching.run(&progress, &evidence))?);
        Ok(Witnessing { watch: Some(watch), threads })
    }
}

impl Witnessing {
    /// What is shown; `None` when no witness is configured.
    pub fn watch(&self) -> Option<Arc<Watch>> {
        self.watch.clone()
    }

    /// Waits for the threads. The writer must have ended, so that the mailboxes are closed.
    pub fn stop(self) {
        if let Some(watch) = &self.watch {
            watch.stop();
        }
        for thread in self.threads {
            // A panic there is told by its own message.
            let _ = thread.join();
        }
    }
}
