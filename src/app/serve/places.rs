//! Where the gateway listens, and the cores that its workers run on.

use std::net::SocketAddr;
use std::time::Duration;

use super::{StartFault, problem};
use crate::app::config::{Config, Cores};
use crate::worker::socket;

/// Connections that wait to be accepted, per worker (the kernel cuts it to `net.core.somaxconn`).
const BACKLOG: i32 = 4096;

pub(super) fn cores(config: &Config) -> Result<Vec<usize>, StartFault> {
    let set = rustix::thread::sched_getaffinity(None)
        .map_err(|error| StartFault::Host(format!("the core set cannot be read: {error}")))?;
    let allowed: Vec<usize> =
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
    match &config.workers.cores {
        Cores::Auto => Ok(allowed.into_iter().take(64).collect()),
        Cores::List(list) => {
            let list: Vec<usize> = list.iter().map(|core| usize::from(*core)).collect();
            match list.iter().find(|core| !allowed.contains(core)) {
                Some(core) => Err(StartFault::Config(vec![problem(
                    "workers.cores",
                    format!("core {core}"),
                    format!("cores this process may run on: {allowed:?}"),
                )])),
                None => Ok(list),
            }
        }
    }
}

pub(super) type Sockets = Vec<Vec<std::net::TcpListener>>;

/// One socket for each worker and listener.
pub(super) fn bind(
    config: &Config,
    workers: usize,
) -> Result<(Sockets, Vec<SocketAddr>), StartFault> {
    let mut sockets: Sockets = (0..workers).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for listen in &config.listens {
        let mut address = listen.address;
        for of_worker in &mut sockets {
            let socket = listen_for_a_while(address)
                .map_err(|error| StartFault::Io(format!("cannot listen on {address}: {error}")))?;
            // Port 0: the first socket's port is everybody's.
            address = socket
                .local_addr()
                .map_err(|error| StartFault::Io(format!("cannot listen on {address}: {error}")))?;
            of_worker.push(socket);
        }
        addresses.push(address);
    }
    Ok((sockets, addresses))
}

/// Kernel 6.x: after a process with a ring has ended, its port may stay bound for some milliseconds.
fn listen_for_a_while(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let mut tries = 0;
    loop {
        match socket::listen(address, BACKLOG) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && tries < 20 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(25));
            }
            result => return result,
        }
    }
}
