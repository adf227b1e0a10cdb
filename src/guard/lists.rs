//! Shortening lists in answers: whole elements go, and the comma that belonged to them.
//!
//! `result.tools[]`, `prompts[]`, `resources[]` and `resourceTemplates[]` are recognised by their shape,
//! whatever was asked: answers may arrive on another connection. An element without a string for a
//! name goes. The rest keeps its bytes. `result.cacheScope` of `"public"` becomes `"private"`: what one
//! caller may see must not be served to another from a cache.

use bytes::BytesMut;

use crate::types::Span;
use crate::wire::mcp::{ListKind, Message, TargetKind};

/// Bytes to replace, in order and without overlap.
pub type Edit = (Span, &'static [u8]);

/// What must be changed in `message`, given which names may be shown.
pub fn edits(
    message: &Message,
    bytes: &[u8],
    shows: impl Fn(TargetKind, &[u8]) -> bool,
) -> Vec<Edit> {
    let mut out: Vec<Edit> = vec![];
    for list in &message.lists {
        let kind = match list.kind {
            ListKind::Tools => TargetKind::Tool,
            ListKind::Prompts => TargetKind::Prompt,
            ListKind::Resources | ListKind::ResourceTemplates => TargetKind::Resource,
        };
        let keep: Vec<bool> = list
            .items
            .iter()
            .map(|item| item.name.is_some_and(|name| shows(kind, name.decode(bytes).as_bytes())))
            .collect();
        // An element goes with the text up to the next element; at the end, with the text from the end
        // of the last one that stays.
        let mut last_kept: Option<usize> = None;
        let mut place = 0;
        while place < keep.len() {
            if keep[place] {
                last_kept = Some(place);
                place += 1;
                continue;
            }
            let until = (place..keep.len()).find(|&later| keep[later]);
            let start = list.items[place].span.start as usize;
            let span = match until {
                Some(next) => Span::new(start, list.items[next].span.start as usize),
                None => {
                    let from = last_kept.map_or(start, |kept| list.items[kept].span.end());
                    Span::new(from, list.items[keep.len() - 1].span.end())
                }
            };
            out.push((span, b""));
            place = until.unwrap_or(keep.len());
        }
    }
    if let Some(scope) = message.cache_scope
        && scope.of(bytes) != b"\"private\""
    {
        out.push((scope, b"\"private\""));
    }
    out.sort_by_key(|(span, _)| span.start);
    out
}

/// The bytes with all edits done; `None` when they overlap or lie outside, which a message that was
/// read cannot cause.
pub fn apply(bytes: &[u8], edits: &[Edit]) -> Option<BytesMut> {
    let mut out = BytesMut::with_capacity(bytes.len() + 16);
    let mut at = 0;
    for (span, text) in edits {
        out.extend_from_slice(bytes.get(at..span.start as usize)?);
        out.extend_from_slice(text);
        at = span.end();
    }
    out.extend_from_slice(bytes.get(at..)?);
    Some(out)
}
