//! The writer's work, turn by turn, without a thread: what is done before each wait and what behind it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, TryRecvError};

use super::{EndFault, Ended, Report, Thread};
use crate::record::handle::{Order, Progress};

/// What the writer waits for between two turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// An entry, or the next thing due.
    Entries,
    /// The next try of a record that cannot be written.
    Pause,
}

/// What a turn came to.
#[derive(Debug)]
pub enum Turned {
    /// The next turn is due after this time, and as soon as there is an entry while the record can be
    /// written. A turn that comes early does no harm.
    Waits(Duration),
    /// Over: nothing will be published any more.
    Ended(Result<Report, EndFault>),
}

/// The writer's work, turn by turn. It says with its end that nothing will be published any more.
pub struct Steps {
    thread: Thread,
    waits: Waits,
    sender: Sender<Order>,
    // Why last: the disk is let go of before anybody hears of the end.
    _ended: Ended,
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").field("progress", &self.thread.progress).finish_non_exhaustive()
    }
}

impl Steps {
    pub(super) fn new(thread: Thread, sender: Sender<Order>, ended: Ended) -> Steps {
        Steps { thread, waits: Waits::Entries, sender, _ended: ended }
    }

    pub(super) fn orders(&self) -> Sender<Order> {
        self.sender.clone()
    }

    /// How far the writer has come.
    pub fn progress(&self) -> Arc<Progress> {
        self.thread.progress.clone()
    }

    /// The turns from now on store what is queued, write the stop entry, seal and sign; then they end.
    pub fn stop(&self) {
        self.thread.progress.set_stopping();
    }

    /// One turn, without waiting for anything.
    pub fn turn(&mut self) -> Turned {
        let first = match self.waits {
            Waits::Entries if !self.thread.progress.stopping() => {
                self.thread.orders.try_recv().map_err(|error| match error {
                    TryRecvError::Empty => RecvTimeoutError::Timeout,
                    TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
                })
            }
            _ => Err(RecvTimeoutError::Timeout),
        };
        match self.work(first).or_else(|| self.settle()) {
            Some(ended) => Turned::Ended(ended),
            None => Turned::Waits(self.wait()),
        }
    }

    pub(super) fn run(mut self) -> Result<Report, EndFault> {
        loop {
            if let Some(ended) = self.settle() {
                return ended;
            }
            let wait = self.wait();
            let first = match self.waits {
                Waits::Pause => {
                    std::thread::park_timeout(wait);
                    Err(RecvTimeoutError::Timeout)
                }
                Waits::Entries if self.thread.progress.stopping() => Err(RecvTimeoutError::Timeout),
                Waits::Entries => self.thread.orders.recv_timeout(wait),
            };
            if let Some(ended) = self.work(first) {
                return ended;
            }
        }
    }

    fn wait(&self) -> Duration {
        match self.waits {
            Waits::Entries => self.thread.wait(),
            Waits::Pause => self.thread.pause(),
        }
    }

    /// What is done before waiting: a full disk is closed at once. Decides what is waited for.
    fn settle(&mut self) -> Option<Result<Report, EndFault>> {
        let thread = &mut self.thread;
        self.waits = Waits::Entries;
        if thread.failed.is_some() {
            if let Some(ended) = thread.close_when_full() {
                return Some(Ok(ended));
            }
            if thread.progress.stopping() && thread.tries_are_over() {
                let unstored = thread.batch.len() + thread.orders.len();
                return Some(Err(EndFault::Unstored(unstored)));
            }
            self.waits = Waits::Pause;
        }
        None
    }

    /// What is done after waiting; `first` is what the wait for an entry gave.
    fn work(&mut self, first: Result<Order, RecvTimeoutError>) -> Option<Result<Report, EndFault>> {
        let thread = &mut self.thread;
        if self.waits == Waits::Pause {
            thread.retry();
            return None;
        }
        let connected = thread.receive(first);
        if let Err(fault) = thread.turn() {
            thread.fail(fault);
            return None;
        }
        let idle = thread.batch.is_empty() && thread.orders.is_empty();
        if idle && (thread.progress.stopping() || !connected) {
            match thread.finish() {
                Ok(report) => return Some(Ok(report)),
                Err(fault) => {
                    thread.progress.set_stopping();
                    thread.fail(fault);
                }
            }
        }
        None
    }
}
