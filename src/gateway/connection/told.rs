//! What the log is told of a fault: whose it is, and what was seen.

use std::net::IpAddr;

use super::super::env::{Notice, Whose};
use super::super::fault::{Blame, Fault, Loud, UpstreamFault};
use super::Turn;
use super::exchange::Exchange;
use super::upstream_head::look_at_head;
use crate::types::Direction;
use crate::wire::head::{Fields, Name};

/// Bound: bytes that a line repeats of a field. A host name has at most 253 (RFC 1035 §2.3.4).
const SEEN_BYTES_MAX: usize = 300;

/// Leaves a notice about the fault, when it is loud enough for one.
pub(super) fn tell(
    exchange: &mut Exchange,
    fields: &Fields,
    (source, source_text): (IpAddr, &str),
    fault: Fault,
    turn: &mut Turn<'_>,
) {
    let disposition = fault.disposition();
    // Why there is no TLS connection the worker knows, and tells.
    let told = matches!(fault, Fault::Upstream(UpstreamFault::Tls(_)));
    if disposition.loud == Loud::Quiet || told {
        return;
    }
    let why = match fault {
        Fault::HostForeign => Some(seen("Host", Name::Host, exchange, fields, turn)),
        Fault::OriginForeign => Some(seen("Origin", Name::Origin, exchange, fields, turn)),
        _ => fault.why(),
    };
    let servers = disposition.blame == Blame::Server || fault == Fault::UpstreamBusy;
    let (whose, name) = match disposition.blame {
        Blame::Client => (Whose::Source(source), Some(source_text.to_owned())),
        _ if servers && exchange.route.is_some() => {
            let name = exchange.route().name.clone();
            let text = format!("upstream {name}");
            (Whose::Upstream(name), Some(text))
        }
        _ => (Whose::Own, None),
    };
    let why = [name, why].into_iter().flatten().collect::<Vec<_>>().join(": ");
    let why = (!why.is_empty()).then_some(why);
    turn.env.notice(Notice { fault, whose, exchange: Some(exchange.id), why });
}

/// The field as it came: secrets filled, what cannot be seen replaced, bounded.
fn seen(
    name: &str,
    field: Name,
    exchange: &mut Exchange,
    fields: &Fields,
    turn: &mut Turn<'_>,
) -> String {
    if exchange.head_clean.is_none() {
        // Why the result does not matter here: nothing of the head goes on.
        let _ = look_at_head(exchange, fields, turn);
    }
    let value = fields.get(&exchange.head, field).unwrap_or_default();
    let filled = turn.env.scanner.fill_words(value, Direction::Request);
    let printable = filled.chars().map(|seen| if seen.is_ascii_graphic() { seen } else { '?' });
    format!("{name} {}", printable.take(SEEN_BYTES_MAX).collect::<String>())
}
