//! The PROXY header: any cut gives the same, and what is accepted is what a reader by words and by fixed
//! places sees.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use stenograph::limits::PROXY_BYTES_MAX;
use stenograph::wire::Read;
use stenograph::wire::proxy::{Proxied, read};

/// One header and what stands behind it. Mutant: its first bytes, when no more are there, are refused.
pub fn run(input: &[u8]) {
    let whole = read(input);
    for end in 0..input.len().min(PROXY_BYTES_MAX + 1) {
        match read(&input[..end]) {
            Read::More => {}
            early => {
                assert_eq!(early, whole, "cut at {end}");
                break;
            }
        }
    }
    let Read::Done { value, used } = whole else { return };
    assert!(used <= PROXY_BYTES_MAX && used <= input.len());
    assert_eq!(value, by_words(&input[..used]).unwrap_or_else(|| by_places(&input[..used])));
}

/// Version 1, by splitting.
fn by_words(header: &[u8]) -> Option<Proxied> {
    // What stands behind UNKNOWN is ignored, text or not.
    if header.starts_with(b"PROXY UNKNOWN") {
        return Some(Proxied::Own);
    }
    let line = std::str::from_utf8(header).ok()?.strip_prefix("PROXY ")?.strip_suffix("\r\n")?;
    let words: Vec<_> = line.split(' ').collect();
    Some(match words[..] {
        ["UNKNOWN", ..] => Proxied::Own,
        ["TCP4" | "TCP6", source, destination, from, to] => {
            let ip = |text: &str| text.parse::<IpAddr>().expect("an address").to_canonical();
            let port = |text: &str| text.parse::<u16>().expect("a port");
            Proxied::Caller {
                source: SocketAddr::new(ip(source), port(from)),
                destination: SocketAddr::new(ip(destination), port(to)),
            }
        }
        _ => panic!("no line of version 1: {line:?}"),
    })
}

/// Version 2, at the places of its table.
fn by_places(header: &[u8]) -> Proxied {
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let length = usize::from(port(14));
    assert_eq!(header.len(), 16 + length);
    match (header[12], header[13]) {
        (0x20, _) | (0x21, 0x00) => Proxied::Own,
        (0x21, 0x11) => {
            let ip = |at: usize| {
                let four: [u8; 4] = header[at..at + 4].try_into().expect("four bytes");
                IpAddr::V4(Ipv4Addr::from(four))
            };
            Proxied::Caller {
                source: SocketAddr::new(ip(16), port(24)),
                destination: SocketAddr::new(ip(20), port(26)),
            }
        }
        (0x21, 0x21) => {
            let ip = |at: usize| {
                let all: [u8; 16] = header[at..at + 16].try_into().expect("sixteen bytes");
                IpAddr::V6(Ipv6Addr::from(all)).to_canonical()
            };
            Proxied::Caller {
                source: SocketAddr::new(ip(16), port(48)),
                destination: SocketAddr::new(ip(32), port(50)),
            }
        }
        other => panic!("accepted: {other:?}"),
    }
}
