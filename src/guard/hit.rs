//! One match, and what becomes of matches that overlap.

use std::ops::Range;

use crate::types::RuleAction;

/// A match, before it becomes a [`Finding`](crate::types::Finding).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hit {
    /// Number of the rule.
    pub(super) rule: usize,
    pub(super) action: RuleAction,
    /// Raw bytes of the secret, or of one piece of it.
    pub(super) span: Range<usize>,
    /// Levels of decoding.
    pub(super) level: u8,
    /// Stands in a bare number, of the message or of JSON in one of its strings.
    pub(super) number: bool,
    /// Its label says what it is.
    pub(super) context: bool,
    pub(super) view: usize,
    /// The secret in its view.
    pub(super) value: Range<usize>,
    /// What the rule may edit of it, in its view.
    pub(super) piece: Range<usize>,
    /// What takes its place, when it stands in a run: places in the raw bytes, and bytes.
    pub(super) patch: Option<Vec<(usize, u8)>>,
    pub(super) fingerprint: [u8; 16],
    /// First bytes of HMAC-SHA-256 of the value under the pseudonym key, when one was given.
    pub(super) pseudonym: [u8; 4],
}

/// Overlaps: blocks first, then masks, then alerts; among equals the longest. What a stronger hit
/// covers is cut from a weaker one; the rest of it stays a hit, so nothing is uncovered by a
/// neighbour. An alert that touches something stronger goes. Of two rules that match the same bytes the
/// one of a known value (from number `known_from` on) counts: it says whose they are.
pub(super) fn resolve(hits: &mut Vec<Hit>, known_from: usize) {
    // Nearly always none overlap, and then they stay as they are. Sorting by the start moves no two that are alike.
    let before = |a: &Hit, b: &Hit| a.span.start < b.span.start && a.span.end <= b.span.start;
    let alone = |hits: &[Hit]| hits.windows(2).all(|pair| before(&pair[0], &pair[1]));
    if alone(hits) {
        return;
    }
    hits.sort_by_key(|hit| hit.span.start);
    if alone(hits) {
        return;
    }
    hits.sort_by(|a, b| {
        b.action
            .cmp(&a.action)
            .then(b.span.len().cmp(&a.span.len()))
            .then(a.span.start.cmp(&b.span.start))
            .then((a.rule < known_from).cmp(&(b.rule < known_from)))
            .then(a.rule.cmp(&b.rule))
    });
    let mut covered: Vec<Range<usize>> = vec![];
    let mut kept: Vec<Hit> = vec![];
    for hit in std::mem::take(hits) {
        // Covered ranges are disjoint and sorted.
        let first = covered.partition_point(|range| range.end <= hit.span.start);
        let last =
            first + covered[first..].iter().take_while(|range| range.start < hit.span.end).count();
        if first == last {
            covered.insert(first, hit.span.clone());
            kept.push(hit);
            continue;
        }
        if hit.action <= RuleAction::Alert {
            continue;
        }
        let mut at = hit.span.start;
        let mut rest = vec![];
        for range in &covered[first..last] {
            if at < range.start {
                rest.push(at..range.start);
            }
            at = range.end;
        }
        if at < hit.span.end {
            rest.push(at..hit.span.end);
        }
        for piece in rest {
            let place = covered.partition_point(|range| range.end <= piece.start);
            covered.insert(place, piece.clone());
            kept.push(Hit { span: piece, ..hit.clone() });
        }
    }
    kept.sort_by_key(|hit| hit.span.start);
    *hits = kept;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hit((rule, start, length, masks): (usize, usize, usize, bool)) -> Hit {
        Hit {
            rule,
            action: if masks { RuleAction::Mask } else { RuleAction::Alert },
            span: start..start + length,
            level: 0,
            number: false,
            context: false,
            view: 0,
            value: 0..0,
            piece: 0..0,
            patch: None,
            fingerprint: [0; 16],
            pseudonym: [0; 4],
        }
    }

    proptest! {
        // Mutants: hits that overlap by a byte, or begin at one place, are taken to stand alone.
        #[test]
        fn hits_that_stand_alone_are_resolved_as_beside_two_that_overlap(
            hits in proptest::collection::vec((0usize..3, 0usize..60, 0usize..8, any::<bool>()), 0..6)
        ) {
            let mut alone: Vec<Hit> = hits.into_iter().map(hit).collect();
            let mut beside = alone.clone();
            beside.extend([hit((0, 1000, 9, true)), hit((1, 1001, 3, true))]);
            resolve(&mut alone, 2);
            resolve(&mut beside, 2);
            prop_assert_eq!(beside.pop().map(|last| last.span), Some(1000..1009));
            prop_assert_eq!(alone, beside);
        }
    }
}
