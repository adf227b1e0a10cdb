//! Connections to upstreams: kept between calls, capped, with a bounded queue.
//!
//! A call is never sent twice, so a kept connection is used only if it is quiet (open, nothing unasked
//! arrived) and young; if it turns out to be dead after the request was handed over, the call fails.
//! Per worker: the cap of an upstream is divided between the workers.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_uring::net::TcpStream;

use super::socket;
use crate::gateway::env::WorkerCounters;
use crate::gateway::fault::{Fault, UpstreamFault};
use crate::limits::Limits;

struct Kept {
    stream: Rc<TcpStream>,
    since: Instant,
    open: Open,
}

/// Counts a connection as open until it is dropped.
struct Open(WorkerCounters);

impl Open {
    fn new(counters: &WorkerCounters) -> Open {
        counters.upstream_opened();
        Open(counters.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.upstream_closed();
    }
}

struct Pool {
    address: SocketAddr,
    idle: Vec<Kept>,
    open: usize,
    waiting: VecDeque<oneshot::Sender<Slot>>,
}

/// The right to have one counted connection; given back when dropped.
struct Slot {
    pools: Rc<Pools>,
    address: SocketAddr,
    armed: bool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.armed {
            self.pools.give_back(self.address);
        }
    }
}

/// The pools of one worker.
pub struct Pools {
    pools: RefCell<Vec<Pool>>,
    counters: WorkerCounters,
}

/// A connection in use by one exchange.
pub struct Upstream {
    /// The connection.
    pub stream: Rc<TcpStream>,
    slot: Option<Slot>,
    open: Open,
}

impl Pools {
    /// No connections yet.
    pub fn new(counters: WorkerCounters) -> Rc<Pools> {
        Rc::new(Pools { pools: RefCell::default(), counters })
    }

    fn with<T>(&self, address: SocketAddr, work: impl FnOnce(&mut Pool) -> T) -> T {
        let mut pools = self.pools.borrow_mut();
        let at = match pools.iter().position(|pool| pool.address == address) {
            Some(at) => at,
            None => {
                let (idle, waiting) = (Vec::new(), VecDeque::new());
                pools.push(Pool { address, idle, open: 0, waiting });
                pools.len() - 1
            }
        };
        work(&mut pools[at])
    }

    /// Gets a connection to `address`. `stream`: the caller may hold it for long; it is neither counted
    /// nor kept. `cap` is this worker's share of the upstream's connections.
    pub async fn checkout(
        self: Rc<Pools>,
        address: SocketAddr,
        stream: bool,
        cap: usize,
        limits: &Limits,
    ) -> Result<Upstream, Fault> {
        if stream {
            let stream = connect(address, limits).await?;
            return Ok(Upstream { stream, slot: None, open: Open::new(&self.counters) });
        }
        let slot = self.slot(address, cap, limits).await?;
        while let Some(kept) = self.with(address, |pool| pool.idle.pop()) {
            let idle_max = Duration::from_millis(limits.upstream_idle_ms_max);
            if kept.since.elapsed() < idle_max && socket::is_quiet(&*kept.stream) {
                return Ok(Upstream { stream: kept.stream, slot: Some(slot), open: kept.open });
            }
            // Closed, answered unasked, or too old: retired.
            socket::shutdown(&*kept.stream, std::net::Shutdown::Both);
        }
        let stream = connect(address, limits).await?;
        Ok(Upstream { stream, slot: Some(slot), open: Open::new(&self.counters) })
    }

    async fn slot(
        self: &Rc<Pools>,
        address: SocketAddr,
        cap: usize,
        limits: &Limits,
    ) -> Result<Slot, Fault> {
        let receiver = {
            let taken = self.with(address, |pool| {
                if pool.open < cap {
                    pool.open += 1;
                    return Ok(None);
                }
                if pool.waiting.len() as u64 >= limits.upstream_queue_max {
                    return Err(Fault::UpstreamBusy);
                }
                let (sender, receiver) = oneshot::channel();
                pool.waiting.push_back(sender);
                Ok(Some(receiver))
            })?;
            match taken {
                None => return Ok(Slot { pools: self.clone(), address, armed: true }),
                Some(receiver) => receiver,
            }
        };
        receiver.await.map_err(|_| Fault::UpstreamBusy)
    }

    /// A slot is free: the next in the queue gets it, or it is gone.
    fn give_back(self: &Rc<Pools>, address: SocketAddr) {
        loop {
            let next = self.with(address, |pool| {
                let next = pool.waiting.pop_front();
                if next.is_none() {
                    pool.open -= 1;
                }
                next
            });
            let Some(sender) = next else { return };
            let slot = Slot { pools: self.clone(), address, armed: true };
            match sender.send(slot) {
                Ok(()) => return,
                // Gave up waiting: the next one. The slot is not given back twice.
                Err(mut slot) => slot.armed = false,
            }
        }
    }

    /// Takes a connection back after an exchange.
    pub fn put(self: &Rc<Pools>, upstream: Upstream, reusable: bool) {
        let Upstream { stream, slot, open } = upstream;
        match slot {
            Some(slot) if reusable => {
                let address = slot.address;
                self.with(address, |pool| {
                    pool.idle.push(Kept { stream, since: Instant::now(), open });
                });
                drop(slot);
            }
            slot => {
                // Operations of the ring that still hold the connection complete with its end.
                socket::shutdown(&*stream, std::net::Shutdown::Both);
                drop(slot);
            }
        }
    }

    /// Closes connections that were idle for too long.
    pub fn prune(&self, limits: &Limits) {
        let idle_max = Duration::from_millis(limits.upstream_idle_ms_max);
        for pool in self.pools.borrow_mut().iter_mut() {
            pool.idle.retain(|kept| {
                let keep = kept.since.elapsed() < idle_max;
                if !keep {
                    socket::shutdown(&*kept.stream, std::net::Shutdown::Both);
                }
                keep
            });
        }
    }
}

async fn connect(address: SocketAddr, limits: &Limits) -> Result<Rc<TcpStream>, Fault> {
    let bound = Duration::from_millis(limits.connect_ms_max);
    match tokio::time::timeout(bound, TcpStream::connect(address)).await {
        Err(_) => Err(Fault::Upstream(UpstreamFault::ConnectTimeout)),
        Ok(Err(_)) => Err(Fault::Upstream(UpstreamFault::Unreachable)),
        Ok(Ok(stream)) => {
            // Heads and bodies go out in one operation; waiting for more would only delay them.
            let _ = stream.set_nodelay(true);
            Ok(Rc::new(stream))
        }
    }
}
