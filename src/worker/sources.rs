//! How many connections each source has open, over all workers.
//!
//! A source is an IPv4 address or an IPv6 network of 64 bits: one host may have all the addresses of such
//! a network (RFC 6177). The table holds no more sources than connections are open, and is looked at when
//! a connection begins and ends, never on the way of a call.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The open connections of each source.
#[derive(Debug, Default)]
pub struct Sources(Mutex<HashMap<IpAddr, u64>>);

/// One connection of a source, until it is dropped.
#[derive(Debug)]
pub struct Place {
    sources: Arc<Sources>,
    source: IpAddr,
}

impl Sources {
    /// Counts a connection from `address` in; `None` when its source has `connections_max` open.
    pub fn enter(self: &Arc<Sources>, address: IpAddr, connections_max: u64) -> Option<Place> {
        let source = source_of(address);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = all.entry(source).or_default();
        if *open >= connections_max {
            return None;
        }
        *open += 1;
        Some(Place { sources: self.clone(), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = all.get_mut(&self.source) {
            *open -= 1;
            if *open == 0 {
                all.remove(&self.source);
            }
        }
    }
}

/// The source that `address` belongs to, by its first address.
pub fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_address_or_a_network_of_one_host() {
        let sources: Arc<Sources> = Arc::default();
        let enter = |address: &str| sources.enter(address.parse().unwrap(), 2);
        let first = enter("192.0.2.7").expect("the first");
        let second = enter("::ffff:192.0.2.7").expect("the second, the same over IPv6");
        assert!(enter("192.0.2.7").is_none());
        assert!(enter("192.0.2.8").is_some(), "its neighbour");
        drop(first);
        let third = enter("192.0.2.7").expect("there is room again");
        assert!(enter("192.0.2.7").is_none());
        let (_one, _two) = (enter("2001:db8::1"), enter("2001:db8::ffff:2"));
        assert!(enter("2001:db8::3").is_none());
        assert!(enter("2001:db8:0:1::3").is_some(), "another network");
        drop((second, third));
        assert_eq!(sources.0.lock().unwrap().len(), 1, "who is gone is forgotten");
    }
}
