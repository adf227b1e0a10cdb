//! Connections to upstreams: kept between calls, capped, with a bounded queue.
//!
//! A call is never sent twice, so a kept connection is used only if it is quiet (open, nothing unasked
//! arrived) and young; if it turns out to be dead after the request was handed over, the call fails.
//! Per worker: the cap of an upstream is divided between the workers.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_uring::net::TcpStream;

use super::handshake::{self, Refused};
use super::pipe::Pipe;
use super::receive::writable;
use super::socket;
use crate::gateway::env::{Route, WorkerCounters};
use crate::gateway::fault::{Fault, UpstreamFault};
use crate::gateway::secure::Secured;
use crate::limits::Limits;

struct Kept {
    pipe: Rc<Pipe>,
    secured: Option<Arc<Secured>>,
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

/// What tells pools apart: where they lead, and the demands under which their connections were made.
/// Why the latter: of two upstreams at one address each has its own certificates, and a connection made
/// under demands of before a reload is not used after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    address: SocketAddr,
    tls: Option<u64>,
}

impl Key {
    fn of(route: &Route) -> Key {
        Key { address: route.address, tls: route.tls.as_ref().map(|tls| tls.number) }
    }
}

struct Pool {
    key: Rc<Key>,
    idle: Vec<Kept>,
    open: usize,
    waiting: VecDeque<oneshot::Sender<Slot>>,
}

/// The right to have one counted connection; given back when dropped.
struct Slot {
    pools: Rc<Pools>,
    /// Shared with the pool: every connection that waits for an answer has one.
    key: Rc<Key>,
    armed: bool,
}

/// Where a call stands that wants a connection.
enum Turn {
    Free(Slot),
    Queue(oneshot::Receiver<Slot>),
}

/// How a connection in use is counted.
enum Place {
    /// It has one of so many slots.
    Slot(Slot, usize),
    /// It had one of so many, until its answer turned out to be a stream.
    Beside(Rc<Key>, usize),
    /// It is not, and is not kept.
    Uncounted,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.armed {
            self.pools.give_back(&self.key);
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
    pub pipe: Rc<Pipe>,
    /// What protects it.
    pub secured: Option<Arc<Secured>>,
    /// Name of the upstream.
    pub name: Arc<str>,
    place: Place,
    open: Open,
}

impl Upstream {
    /// What it carries is a stream now: its slot goes to the next call.
    pub fn streams(&mut self) {
        if let Place::Slot(slot, cap) = &self.place {
            let key = slot.key.clone();
            // Given back by its drop.
            self.place = Place::Beside(key, *cap);
        }
    }
}

/// Why there is no connection.
pub enum NoLink {
    /// As the fault says.
    Fault(Fault),
    /// The TLS handshake failed.
    Tls(Refused),
}

impl From<Fault> for NoLink {
    fn from(fault: Fault) -> NoLink {
        NoLink::Fault(fault)
    }
}

impl Pools {
    /// No connections yet.
    pub fn new(counters: WorkerCounters) -> Rc<Pools> {
        Rc::new(Pools { pools: RefCell::default(), counters })
    }

    fn with<T>(&self, key: &Key, work: impl FnOnce(&mut Pool) -> T) -> T {
        let mut pools = self.pools.borrow_mut();
        let at = match pools.iter().position(|pool| *pool.key == *key) {
            Some(at) => at,
            None => {
                let (idle, waiting) = (Vec::new(), VecDeque::new());
                pools.push(Pool { key: Rc::new(*key), idle, open: 0, waiting });
                pools.len() - 1
            }
        };
        work(&mut pools[at])
    }

    /// Gets a connection to the upstream of `route`. `stream`: the caller may hold it for long; it is
    /// neither counted nor kept. `cap` is this worker's share of the upstream's connections.
    ///
    /// # Errors
    /// Nothing was sent to the upstream but handshake messages of TLS.
    pub async fn checkout(
        self: Rc<Pools>,
        route: &Route,
        stream: bool,
        cap: usize,
        limits: &Limits,
    ) -> Result<Upstream, NoLink> {
        let name = route.name.clone();
        if stream {
            let (pipe, secured) = connect(route, limits).await?;
            let open = Open::new(&self.counters);
            return Ok(Upstream { pipe, secured, name, place: Place::Uncounted, open });
        }
        let key = Key::of(route);
        let slot = self.slot(&key, cap, limits).await?;
        while let Some(kept) = self.with(&key, |pool| pool.idle.pop()) {
            let idle_max = Duration::from_millis(limits.upstream_idle_ms_max);
            let Kept { pipe, secured, since, open } = kept;
            if since.elapsed() < idle_max && pipe.is_quiet() {
                return Ok(Upstream { pipe, secured, name, place: Place::Slot(slot, cap), open });
            }
            // Closed, answered unasked, or too old: retired.
            pipe.end(Shutdown::Both);
        }
        let (pipe, secured) = connect(route, limits).await?;
        let open = Open::new(&self.counters);
        Ok(Upstream { pipe, secured, name, place: Place::Slot(slot, cap), open })
    }

    async fn slot(self: &Rc<Pools>, key: &Key, cap: usize, limits: &Limits) -> Result<Slot, Fault> {
        let receiver = {
            let taken = self.with(key, |pool| {
                if pool.open < cap {
                    pool.open += 1;
                    let key = pool.key.clone();
                    return Ok(Turn::Free(Slot { pools: self.clone(), key, armed: true }));
                }
                if pool.waiting.len() as u64 >= limits.upstream_queue_max {
                    return Err(Fault::UpstreamBusy);
                }
                let (sender, receiver) = oneshot::channel();
                pool.waiting.push_back(sender);
                Ok(Turn::Queue(receiver))
            })?;
            match taken {
                Turn::Free(slot) => return Ok(slot),
                Turn::Queue(receiver) => receiver,
            }
        };
        receiver.await.map_err(|_| Fault::UpstreamBusy)
    }

    /// A slot is free: the next in the queue gets it, or it is gone.
    fn give_back(self: &Rc<Pools>, key: &Rc<Key>) {
        loop {
            let next = self.with(key, |pool| {
                let next = pool.waiting.pop_front();
                if next.is_none() {
                    pool.open -= 1;
                }
                next
            });
            let Some(sender) = next else { return };
            let slot = Slot { pools: self.clone(), key: key.clone(), armed: true };
            match sender.send(slot) {
                Ok(()) => return,
                // Gave up waiting: the next one. The slot is not given back twice.
                Err(mut slot) => slot.armed = false,
            }
        }
    }

    /// Takes a connection back after an exchange.
    pub fn put(self: &Rc<Pools>, upstream: Upstream, reusable: bool) {
        let Upstream { pipe, secured, place, open, .. } = upstream;
        let key = match &place {
            Place::Slot(slot, _) if reusable => Some(slot.key.clone()),
            // Bound: kept and counted connections together are never more than the cap.
            Place::Beside(key, cap) if reusable => {
                self.with(key, |pool| pool.open + pool.idle.len() < *cap).then(|| key.clone())
            }
            _ => None,
        };
        match key {
            Some(key) => self.with(&key, |pool| {
                pool.idle.push(Kept { pipe, secured, since: Instant::now(), open });
            }),
            // Operations of the ring that still hold the connection complete with its end.
            None => pipe.end(Shutdown::Both),
        }
        drop(place);
    }

    /// Closes connections that were idle for too long.
    pub fn prune(&self, limits: &Limits) {
        let idle_max = Duration::from_millis(limits.upstream_idle_ms_max);
        let mut pools = self.pools.borrow_mut();
        for pool in pools.iter_mut() {
            pool.idle.retain(|kept| {
                let keep = kept.since.elapsed() < idle_max;
                if !keep {
                    kept.pipe.end(Shutdown::Both);
                }
                keep
            });
        }
        // Bound: each change of certificates makes pools of its own.
        pools.retain(|pool| pool.open > 0 || !pool.idle.is_empty() || !pool.waiting.is_empty());
    }
}

/// A connection that is being opened. Why: who waits for it may be gone before, and an operation of the
/// ring that waits for the upstream holds the socket until it completes, which is minutes where nobody
/// answers.
struct Opening(Option<Rc<TcpStream>>);

impl Opening {
    fn begin(address: SocketAddr) -> io::Result<Opening> {
        Ok(Opening(Some(Rc::new(TcpStream::from_std(socket::connect(address)?)))))
    }

    fn stream(&self) -> &Rc<TcpStream> {
        self.0.as_ref().expect("it is being opened")
    }

    fn done(mut self) -> Rc<TcpStream> {
        self.0.take().expect("it is being opened")
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(stream) = &self.0 {
            socket::shutdown(&**stream, Shutdown::Both);
        }
    }
}

async fn connect(
    route: &Route,
    limits: &Limits,
) -> Result<(Rc<Pipe>, Option<Arc<Secured>>), NoLink> {
    let unreachable =
        |error: std::io::Error| Fault::Upstream(UpstreamFault::Unreachable(error.kind()));
    let opening = Opening::begin(route.address).map_err(unreachable)?;
    let mut made = writable(opening.stream());
    let bound = Duration::from_millis(limits.connect_ms_max);
    match tokio::time::timeout(bound, &mut made).await {
        Err(_) => {
            drop(opening);
            // Why: until the operation is over the socket is open, and its place in the pool is taken.
            let _ = made.await;
            return Err(Fault::Upstream(UpstreamFault::ConnectTimeout).into());
        }
        Ok(result) => {
            result.and_then(|()| socket::fault(&**opening.stream())).map_err(unreachable)?;
        }
    }
    // Heads and bodies go out in one operation; waiting for more would only delay them.
    let _ = opening.stream().set_nodelay(true);
    match &route.tls {
        None => Ok((Rc::new(Pipe::plain(opening.done())), None)),
        Some(tls) => match handshake::open(opening.stream(), tls, limits).await {
            Ok((pipe, secured)) => {
                opening.done();
                Ok((Rc::new(pipe), Some(Arc::new(secured))))
            }
            Err(refused) => Err(NoLink::Tls(refused)),
        },
    }
}
