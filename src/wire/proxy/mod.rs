//! The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): who the caller of a proxy is.
//!
//! The header stands once, before everything else on a connection, TLS included. It is believed only
//! from addresses that are configured by name, for whoever may send one may be anybody. The reader is
//! as strict as the specification: one spelling for each IPv4 address and port (IPv6 has those of
//! RFC 4291 §2.2, which the specification admits), no unknown command, family or transport, no block that
//! is cut off or left over, and a checksum that is there is right.
//!
//! Invariants: the same answer for every cut of the input; at most [`PROXY_BYTES_MAX`] bytes belong to a
//! header; nothing behind its last byte is looked at.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Read;
use crate::limits::PROXY_BYTES_MAX;

/// What a header broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyRule {
    /// The first bytes begin no header of either version.
    Missing,
    /// A line of version 1 that has no CRLF within its 107 bytes.
    LineTooLong,
    /// A line of version 1 that is not words with one space between.
    LineForm,
    /// A protocol that is none of TCP4, TCP6 and UNKNOWN; a version, command, family or transport of
    /// version 2 that is none of TCP and unspecified.
    Protocol,
    /// An address that is not of its family, or not spelled as RFC 4291 §2.2 has it; of IPv4 there is one
    /// spelling.
    Address,
    /// A port that is no plain decimal number up to 65535.
    Port,
    /// A block of version 2 that is shorter than its addresses.
    BlockTooShort,
    /// A header of version 2 longer than `PROXY_BYTES_MAX`.
    BlockTooLong,
    /// Vectors behind the addresses that do not fill the block to its last byte.
    Vector,
    /// A checksum that is not that of the header, or a second one.
    Checksum,
    /// A connection from an address that is not configured as a proxy's.
    NotNamed,
    /// The header was not whole within `proxy_ms_max`.
    Late,
    /// The connection ended before the header did.
    Ended,
}

impl ProxyRule {
    /// Every rule.
    pub const ALL: &'static [ProxyRule] = &[
        ProxyRule::Missing,
        ProxyRule::LineTooLong,
        ProxyRule::LineForm,
        ProxyRule::Protocol,
        ProxyRule::Address,
        ProxyRule::Port,
        ProxyRule::BlockTooShort,
        ProxyRule::BlockTooLong,
        ProxyRule::Vector,
        ProxyRule::Checksum,
        ProxyRule::NotNamed,
        ProxyRule::Late,
        ProxyRule::Ended,
    ];

    /// The rule's name in records and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            ProxyRule::Missing => "proxy-missing",
            ProxyRule::LineTooLong => "proxy-line-too-long",
            ProxyRule::LineForm => "proxy-line-form",
            ProxyRule::Protocol => "proxy-protocol",
            ProxyRule::Address => "proxy-address",
            ProxyRule::Port => "proxy-port",
            ProxyRule::BlockTooShort => "proxy-block-too-short",
            ProxyRule::BlockTooLong => "proxy-block-too-long",
            ProxyRule::Vector => "proxy-vector",
            ProxyRule::Checksum => "proxy-checksum",
            ProxyRule::NotNamed => "proxy-not-named",
            ProxyRule::Late => "proxy-late",
            ProxyRule::Ended => "proxy-ended",
        }
    }

    /// Where the rule comes from, in proxy-protocol.txt.
    pub fn source(self) -> &'static str {
        match self {
            ProxyRule::Missing | ProxyRule::Ended => "proxy-protocol.txt §2",
            ProxyRule::NotNamed => "`proxy_protocol` of the listener",
            ProxyRule::Late => "proxy_ms_max",
            ProxyRule::LineTooLong | ProxyRule::LineForm | ProxyRule::Address | ProxyRule::Port => {
                "proxy-protocol.txt §2.1"
            }
            ProxyRule::Protocol | ProxyRule::BlockTooShort => "proxy-protocol.txt §2.2",
            ProxyRule::BlockTooLong => "PROXY_BYTES_MAX",
            ProxyRule::Vector => "proxy-protocol.txt §2.2.7",
            ProxyRule::Checksum => "proxy-protocol.txt §2.2.3",
        }
    }
}

/// A broken rule and the byte that broke it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyFault {
    /// What was broken.
    pub rule: ProxyRule,
    /// Offset from the first byte of the connection.
    pub at: u32,
}

impl fmt::Display for ProxyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} ({})", self.rule.as_str(), self.at, self.rule.source())
    }
}

impl std::error::Error for ProxyFault {}

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxied {
    /// The proxy's own (`LOCAL`), or of somebody it does not know (`UNKNOWN`, unspecified).
    Own,
    /// A caller's.
    Caller {
        /// Where the caller connected from.
        source: SocketAddr,
        /// Where to: an address of the proxy.
        destination: SocketAddr,
    },
}

/// Begins every header of version 1.
const LINE_START: &[u8] = b"PROXY ";
/// Longest line of version 1, its CRLF counted.
const LINE_BYTES_MAX: usize = 107;
/// Begins every header of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const FIXED_BYTES: usize = 16;
/// Type of the vector that holds the CRC32C of the header.
const VECTOR_CRC32C: u8 = 0x03;

fn broken(rule: ProxyRule, at: usize) -> Read<Proxied, ProxyFault> {
    Read::Broken(ProxyFault { rule, at: at as u32 })
}

/// Reads the header at the start of `input`.
pub fn read(input: &[u8]) -> Read<Proxied, ProxyFault> {
    let alike =
        |start: &[u8]| input.iter().zip(start).take_while(|(one, other)| one == other).count();
    let (line, block) = (alike(LINE_START), alike(SIGNATURE));
    let read = if line == LINE_START.len() {
        read_line(input)
    } else if block == SIGNATURE.len() {
        read_block(input)
    } else if input.len() <= line.max(block) {
        return Read::More;
    } else {
        return broken(ProxyRule::Missing, line.max(block));
    };
    read.unwrap_or_else(Read::Broken)
}

type Reading = Result<Read<Proxied, ProxyFault>, ProxyFault>;

fn read_line(input: &[u8]) -> Reading {
    let fault = |rule, at: usize| ProxyFault { rule, at: at as u32 };
    let within = &input[..input.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return match within.len() {
            LINE_BYTES_MAX => Err(fault(ProxyRule::LineTooLong, LINE_BYTES_MAX)),
            _ => Ok(Read::More),
        };
    };
    let Some(line) = within[..end].strip_suffix(b"\r") else {
        return Err(fault(ProxyRule::LineForm, end));
    };
    let used = end + 1;
    let mut at = LINE_START.len();
    let rest = &line[at..];
    // Decided in the specification: behind UNKNOWN everything up to the end of the line is ignored.
    if rest == b"UNKNOWN" || rest.starts_with(b"UNKNOWN ") {
        return Ok(Read::Done { value: Proxied::Own, used });
    }
    let words: Vec<&[u8]> = rest.split(|byte| *byte == b' ').collect();
    let &[protocol, from, to, from_port, to_port] = &words[..] else {
        return Err(fault(ProxyRule::LineForm, at));
    };
    let address: fn(&[u8]) -> Option<IpAddr> = match protocol {
        b"TCP4" => |word| Some(IpAddr::V4(plain_v4(word)?)),
        b"TCP6" => |word| Some(IpAddr::V6(plain_v6(word)?)),
        _ => return Err(fault(ProxyRule::Protocol, at)),
    };
    at += protocol.len() + 1;
    let source = address(from).ok_or(fault(ProxyRule::Address, at))?;
    at += from.len() + 1;
    let destination = address(to).ok_or(fault(ProxyRule::Address, at))?;
    at += to.len() + 1;
    let source_port = plain_port(from_port).ok_or(fault(ProxyRule::Port, at))?;
    at += from_port.len() + 1;
    let destination_port = plain_port(to_port).ok_or(fault(ProxyRule::Port, at))?;
    let value = Proxied::Caller {
        source: canonical(source, source_port),
        destination: canonical(destination, destination_port),
    };
    Ok(Read::Done { value, used })
}

/// An IPv4 address in the form of IPv6 (RFC 4291 §2.5.5.2) is the IPv4 address: bounds, lists and whoever
/// searches the record know one of the two.
fn canonical(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

fn plain_v4(word: &[u8]) -> Option<Ipv4Addr> {
    // The library refuses leading zeros and everything but four decimal numbers.
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn plain_v6(word: &[u8]) -> Option<Ipv6Addr> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn plain_port(word: &[u8]) -> Option<u16> {
    let plain = matches!(word, [b'0'] | [b'1'..=b'9', ..]) && word.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(word).ok().filter(|_| plain)?.parse().ok()
}

fn read_block(input: &[u8]) -> Reading {
    let fault = |rule, at: usize| ProxyFault { rule, at: at as u32 };
    let Some(&command) = input.get(SIGNATURE.len()) else { return Ok(Read::More) };
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(fault(ProxyRule::Protocol, 12)),
    };
    let Some(&family) = input.get(13) else { return Ok(Read::More) };
    let address_bytes = match family {
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        // Of a connection of the proxy itself the family does not matter.
        _ if local => 0,
        _ => return Err(fault(ProxyRule::Protocol, 13)),
    };
    let Some(length) = input.get(14..FIXED_BYTES) else { return Ok(Read::More) };
    let used = FIXED_BYTES + usize::from(u16::from_be_bytes([length[0], length[1]]));
    if used > PROXY_BYTES_MAX {
        return Err(fault(ProxyRule::BlockTooLong, 14));
    }
    if used < FIXED_BYTES + address_bytes && !local {
        return Err(fault(ProxyRule::BlockTooShort, 14));
    }
    let Some(header) = input.get(..used) else { return Ok(Read::More) };
    if local {
        // Decided in the specification: the receiver skips the block of LOCAL, whatever it holds.
        return Ok(Read::Done { value: Proxied::Own, used });
    }
    check_vectors(header, FIXED_BYTES + address_bytes)?;
    let block = &header[FIXED_BYTES..];
    let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    let value = match family {
        0x11 => {
            let address =
                |at: usize| Ipv4Addr::new(block[at], block[at + 1], block[at + 2], block[at + 3]);
            Proxied::Caller {
                source: SocketAddr::new(address(0).into(), port(8)),
                destination: SocketAddr::new(address(4).into(), port(10)),
            }
        }
        0x21 => {
            let address = |at: usize| {
                let bytes: [u8; 16] = block[at..at + 16].try_into().expect("sixteen bytes");
                Ipv6Addr::from(bytes)
            };
            Proxied::Caller {
                source: canonical(address(0).into(), port(32)),
                destination: canonical(address(16).into(), port(34)),
            }
        }
        _ => Proxied::Own,
    };
    Ok(Read::Done { value, used })
}

/// The vectors from `at` on fill the header to its last byte, and its checksum is right.
fn check_vectors(header: &[u8], mut at: usize) -> Result<(), ProxyFault> {
    let fault = |rule, at: usize| ProxyFault { rule, at: at as u32 };
    let mut checksum = None;
    while at < header.len() {
        let start = header.get(at..at + 3).ok_or(fault(ProxyRule::Vector, at))?;
        let value_at = at + 3;
        let length = usize::from(u16::from_be_bytes([start[1], start[2]]));
        let value = header.get(value_at..value_at + length).ok_or(fault(ProxyRule::Vector, at))?;
        if start[0] == VECTOR_CRC32C {
            let given: [u8; 4] = value.try_into().map_err(|_| fault(ProxyRule::Checksum, at))?;
            if checksum.replace((value_at, u32::from_be_bytes(given))).is_some() {
                return Err(fault(ProxyRule::Checksum, at));
            }
        }
        at = value_at + length;
    }
    match checksum {
        Some((at, given)) if crc32c(header, at..at + 4) != given => {
            Err(fault(ProxyRule::Checksum, at))
        }
        _ => Ok(()),
    }
}

/// CRC32C (RFC 3720 §12.1) with the bytes of `zeroed` taken as 0.
fn crc32c(bytes: &[u8], zeroed: std::ops::Range<usize>) -> u32 {
    let mut sum = u32::MAX;
    for (at, &byte) in bytes.iter().enumerate() {
        sum ^= if zeroed.contains(&at) { 0 } else { u32::from(byte) };
        for _ in 0..8 {
            // The polynomial 0x1edc6f41, its bits turned around.
            sum = (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg());
        }
    }
    !sum
}

/// Addresses whose headers are believed: one, or all that share their first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `10.0.0.5`, `192.0.2.0/24` or `2001:db8::/32`. What stands behind the prefix must be 0.
    pub fn parse(text: &str) -> Result<Network, &'static str> {
        const ALLOWED: &str = "an address or a network such as 10.0.0.5 or 192.0.2.0/24";
        const EXACT: &str = "a network whose bits behind the prefix are 0, such as 192.0.2.0/24";
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(plain_port(bits.as_bytes()).ok_or(ALLOWED)?)),
        };
        let address: IpAddr = address.parse().map_err(|_| ALLOWED)?;
        if address.to_canonical() != address {
            return Err("the IPv4 address itself, such as 10.0.0.5 for ::ffff:10.0.0.5");
        }
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        if bits > width {
            return Err(ALLOWED);
        }
        let network = Network { address, bits: bits as u8 };
        match network.prefix_of(address) == Network::number(address) {
            true => Ok(network),
            false => Err(EXACT),
        }
    }

    /// IPv4 addresses stand at the top, so that a prefix is a prefix in both families.
    fn number(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
            IpAddr::V6(address) => u128::from(address),
        }
    }

    fn prefix_of(&self, address: IpAddr) -> u128 {
        let kept = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
        Network::number(address) & kept
    }

    /// Whether `address` is one of them. An IPv4 address that came in over IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && self.prefix_of(address) == Network::number(self.address)
    }
}

#[cfg(test)]
mod tests;
