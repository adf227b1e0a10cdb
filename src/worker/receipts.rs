//! Who waits for which receipt of the record, and when a worker hands its entries over.
//!
//! Both ways are batched by turns of the loop. What the connections of a worker have to record in one
//! turn goes to the writer at once, behind the last task of the turn: waking a sleeping writer costs
//! 13 µs, as much as forwarding a call. Ends of exchanges hold nothing back and ride with the next
//! batch, at most [`LAZY`] later. The writer wakes one task for each batch it has written; that task
//! wakes the connections whose receipt has come, and no others.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;

use super::core::Worker;
use crate::record::{Level, Progress, Ticket};

/// Longest an entry that nobody waits for stays with the worker.
const LAZY: Duration = Duration::from_millis(5);

/// What one connection waits for: a receipt, or (without one) any change of the record.
type Waiting = (Option<(Ticket, Level)>, Waker);

/// Waiting connections of one worker, by their number.
#[derive(Default)]
pub struct Receipts {
    waiting: RefCell<HashMap<u64, Waiting>>,
    /// Something was gathered for the writer.
    pub gathered: Notify,
}

impl Receipts {
    /// Wakes `waker` when the receipt has come (any change of the record, without one).
    pub fn wait(&self, connection: u64, receipt: Option<(Ticket, Level)>, waker: &Waker) {
        let mut waiting = self.waiting.borrow_mut();
        match waiting.get_mut(&connection) {
            Some((waits_for, known)) => {
                *waits_for = receipt;
                known.clone_from(waker);
            }
            None => drop(waiting.insert(connection, (receipt, waker.clone()))),
        }
    }

    /// Forgets a connection.
    pub fn forget(&self, connection: u64) {
        self.waiting.borrow_mut().remove(&connection);
    }

    fn wake(&self, progress: &Progress) {
        let all = progress.failed() || progress.ended();
        self.waiting.borrow_mut().retain(|_, (receipt, waker)| {
            let due = all || receipt.is_none_or(|(ticket, level)| progress.reached(ticket, level));
            if due {
                waker.wake_by_ref();
            }
            !due
        });
    }
}

/// Listens to the writer for all connections of the worker.
pub async fn listen(worker: Rc<Worker>) {
    loop {
        worker.signals().recorded.notified().await;
        worker.receipts().wake(worker.progress());
    }
}

/// Hands over what was gathered, turn by turn.
pub async fn hand_over(worker: Rc<Worker>) {
    loop {
        worker.receipts().gathered.notified().await;
        while worker.gathers_lazily() {
            tokio::select! {
                () = tokio::time::sleep(LAZY) => break,
                () = worker.receipts().gathered.notified() => {}
            }
        }
        worker.hand_over();
    }
}
