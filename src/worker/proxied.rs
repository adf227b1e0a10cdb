//! The header of a proxy in front: taken off a new connection before anything else, TLS included.
//!
//! It is looked at before it is taken, and nothing behind its last byte is touched: whoever reads on
//! begins where the caller's bytes begin. A listener that asks for the header takes connections from
//! the proxies that are named and from nobody else: without a header a caller would pass for the
//! proxy, and anybody's header would pass for a proxy's.

use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::{Instant, timeout_at};
use tokio_uring::net::TcpStream;

use super::core::Worker;
use super::receive::readable;
use super::socket;
use crate::gateway::fault::Fault;
use crate::limits::PROXY_BYTES_MAX;
use crate::wire::Read;
use crate::wire::proxy::{self, Network, Proxied, ProxyFault, ProxyRule};

/// Who a connection is from.
pub struct Taken {
    /// The caller; the proxy itself on a connection of its own.
    pub source: SocketAddr,
    /// The proxy, where it speaks for somebody.
    pub proxy: Option<SocketAddr>,
}

/// Takes the header off. `None` when there is none to be believed: that is told, and the connection is
/// over.
pub async fn take(
    worker: &Worker,
    stream: &Rc<TcpStream>,
    peer: SocketAddr,
    proxies: &[Network],
) -> Option<Taken> {
    let named = proxies.iter().any(|network| network.contains(peer.ip()));
    let result = if named {
        let until = Instant::now() + Duration::from_millis(worker.limits().proxy_ms_max);
        tokio::select! {
            result = timeout_at(until, header(stream)) => {
                result.unwrap_or(Err(ProxyFault { rule: ProxyRule::Late, at: 0 }))
            }
            // Nothing has begun here that a drain would wait for.
            () = worker.until_drain() => return None,
        }
    } else {
        Err(ProxyFault { rule: ProxyRule::NotNamed, at: 0 })
    };
    match result {
        Ok(Proxied::Own) => Some(Taken { source: peer, proxy: None }),
        Ok(Proxied::Caller { source, .. }) => Some(Taken { source, proxy: Some(peer) }),
        // A proxy that looks whether the port is open.
        Err(ProxyFault { rule: ProxyRule::Ended, at: 0 }) => {
            worker.count(peer, "connection-client-ended");
            None
        }
        Err(fault) => {
            worker.tell_refused(peer, Fault::Proxy(fault), &fault.to_string());
            socket::shutdown(&**stream, Shutdown::Both);
            None
        }
    }
}

async fn header(stream: &Rc<TcpStream>) -> Result<Proxied, ProxyFault> {
    let mut taken = Vec::new();
    loop {
        let ended = ProxyFault { rule: ProxyRule::Ended, at: taken.len() as u32 };
        readable(stream).await.map_err(|_| ended)?;
        let mut room = [0; PROXY_BYTES_MAX];
        let seen = match socket::peek(&**stream, &mut room) {
            Err(Errno::AGAIN | Errno::INTR) => continue,
            Ok(0) | Err(_) => return Err(ended),
            Ok(seen) => seen,
        };
        let before = taken.len();
        taken.extend_from_slice(&room[..seen]);
        let (bytes, header) = match proxy::read(&taken) {
            Read::Done { value, used } => (used - before, Some(value)),
            // All that came is of the header, for it goes on.
            Read::More => (seen, None),
            Read::Broken(fault) => return Err(fault),
        };
        match socket::take(&**stream, &mut room[..bytes]) {
            Ok(there) if there == bytes => {}
            _ => return Err(ended),
        }
        match header {
            Some(header) => return Ok(header),
            None => taken.truncate(before + bytes),
        }
    }
}
