//! The head towards the upstream, written anew, and the recorded copies of heads: what is a credential
//! is filled, what a rule finds is filled or refused.

use bytes::{Bytes, BytesMut};

use super::super::fault::Fault;
use super::super::heads::{self, HeadText};
use super::agreement::{decode_field, encode_field};
use super::exchange::Exchange;
use super::request::pseudonym_key;
use super::{Connection, Turn, routing};
use crate::guard::{self};
use crate::types::{Direction, Finding, RuleAction, Span};
use crate::wire::head::{self, Method, Name};

impl Connection {
    /// Writes the head of the upstream request: the bytes to send, and their recorded copy.
    pub(super) fn upstream_head(
        &mut self,
        body_bytes: Option<usize>,
        target: &str,
        pseudonym_key: &[u8; 32],
        turn: &mut Turn<'_>,
    ) -> Result<(Bytes, Bytes, Vec<Finding>), Fault> {
        let exchange = self.exchange.as_mut().expect("an exchange has begun");
        look_at_head(exchange, &self.fields, turn)?;
        let route = exchange.route();
        let head = &exchange.head;
        let query = exchange.request.query.map(|span| span.of(head));
        let scanner = &mut turn.env.scanner;
        // Nothing found in the whole head: then nothing in any of its values.
        let clean = exchange.head_clean == Some(true);
        if let Some(query) = query.filter(|_| !clean)
            && scanner
                .judge_field(query, Direction::Request)
                .is_some_and(|(_, action)| action != RuleAction::Alert)
        {
            return Err(Fault::RequestBlocked);
        }
        let suffix = routing::suffix(exchange)?;
        if encodes_a_secret(suffix, scanner)
            || query.is_some_and(|query| query.contains(&b'%') && encodes_a_secret(query, scanner))
        {
            return Err(Fault::RequestBlocked);
        }
        let mut text = HeadText::request(exchange.http, target, query);
        text.field("Host", route.host.as_bytes());
        let mut accepted = false;
        for field in self.fields.iter(head) {
            let known = field.known.is_some_and(heads::forwarded);
            let param = field.known == Some(Name::McpParam);
            if !known && !param {
                continue;
            }
            accepted |= field.known == Some(Name::Accept);
            if let (Some(Name::McpName), Some(task)) = (field.known, exchange.upstream_name()) {
                // It agreed with the body as it came, so it agrees with the body that goes on.
                text.field_bytes(field.name, &encode_field(task));
                continue;
            }
            let found = match clean {
                true => None,
                false => scanner.judge_field(field.value, Direction::Request),
            };
            match found {
                None | Some((_, RuleAction::Alert)) => {
                    text.field_bytes(field.name, field.value);
                }
                Some((_, RuleAction::Mask)) if param => {
                    // Decided: a mirrored argument gets the value that the masked argument got.
                    let value = scanner.fill_field(field.value, Direction::Request, pseudonym_key);
                    text.field_bytes(field.name, &value);
                }
                Some((_, RuleAction::Mask))
                    if !matches!(field.known, Some(Name::McpName | Name::McpMethod)) => {}
                Some(_) => return Err(Fault::RequestBlocked),
            }
        }
        if !accepted {
            let both: &[u8] = match exchange.http {
                Method::Get => b"text/event-stream",
                _ => b"application/json, text/event-stream",
            };
            text.field("Accept", both);
        }
        // Why: an encoded answer could not be inspected.
        text.field("Accept-Encoding", b"identity");
        if let Some(session) = &exchange.upstream_session {
            text.field("Mcp-Session-Id", session);
        }
        if let Some(event) = exchange.upstream_event() {
            text.field("Last-Event-ID", event);
        }
        if let Some(bytes) = body_bytes {
            text.field("Content-Type", b"application/json");
            text.length(bytes);
        }
        let credential = route.credential.as_ref().map(|(name, value)| {
            let at = text.next_value_at(name);
            text.field(name, value);
            at..at + value.len()
        });
        // The rest of it is our own text and handles that the upstream made.
        let session = exchange.upstream_session.as_deref();
        let handles = [session, exchange.upstream_event(), exchange.upstream_name()];
        let clean = clean
            && handles
                .into_iter()
                .flatten()
                .all(|value| scanner.is_clean(value, Direction::Request));
        let sent = text.end().freeze();
        if clean && credential.is_none() {
            return Ok((sent.clone(), sent, Vec::new()));
        }
        let mut recorded = BytesMut::from(&sent[..]);
        if let Some(range) = credential {
            recorded[range].fill(b'*');
        }
        let findings = match clean {
            true => Vec::new(),
            false => scanner.fill_text(&mut recorded, Direction::Request),
        };
        Ok((sent, recorded.freeze(), findings))
    }
}

/// Fills the credentials in the head as it came, and looks whether anything else in it is found by a
/// rule. From here on the head is fit for the record, or is filled on its way there.
///
/// # Errors
/// The head may not go on: a mirrored argument cannot be read, or a rule blocks it.
pub(super) fn look_at_head(
    exchange: &mut Exchange,
    fields: &head::Fields,
    turn: &mut Turn<'_>,
) -> Result<(), Fault> {
    let key = pseudonym_key(exchange, turn);
    let head = &mut exchange.head;
    let secret: Vec<_> = fields
        .iter(head)
        .filter(|field| match field.known {
            Some(Name::Authorization | Name::ProxyAuthorization | Name::Cookie | Name::Dpop) => {
                true
            }
            Some(_) => false,
            None => names_a_credential(field.name),
        })
        .map(|field| field.value_span)
        .collect();
    let copies = TokenCopies::of(head, fields, exchange.request.query);
    for range in secret.into_iter().map(|span| span.range()).chain(copies.at) {
        head[range].fill(b'*');
    }
    let params: Vec<_> = fields
        .iter(head)
        .filter(|field| matches!(field.known, Some(Name::McpParam | Name::McpName)))
        .map(|field| field.value_span)
        .collect();
    let scanner = &mut turn.env.scanner;
    let mut result = if copies.leave { Err(Fault::RequestBlocked) } else { Ok(()) };
    for span in params {
        let fine = fill_encoded(&mut head[span.range()], scanner, &key);
        result = result.and(fine);
    }
    exchange.head_clean = Some(scanner.is_clean(head, Direction::Request));
    result
}

/// Where the bearer token stands in the head once more: a second copy would go where the first may not.
struct TokenCopies {
    /// What is to be filled.
    at: Vec<std::ops::Range<usize>>,
    /// One of them stands in what goes upstream, and not only in fields that are dropped.
    leave: bool,
}

impl TokenCopies {
    fn of(head: &[u8], fields: &head::Fields, query: Option<Span>) -> TokenCopies {
        let mut copies = TokenCopies { at: Vec::new(), leave: false };
        let own = fields.iter(head).find(|field| field.known == Some(Name::Authorization));
        let Some(own) = own else { return copies };
        let token = own.value.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        // Shorter than any signature: no token, and it may stand anywhere.
        if token.len() < 32 {
            return copies;
        }
        let find = memchr::memmem::Finder::new(token);
        let dropped: Vec<_> = fields
            .iter(head)
            .filter(|field| field.known.is_none())
            .map(|field| field.value_span.range())
            .collect();
        for at in find.find_iter(head).filter(|at| !own.value_span.range().contains(at)) {
            copies.at.push(at..at + token.len());
            copies.leave |= !dropped.iter().any(|field| field.contains(&at));
        }
        // Whoever reads the query or a mirrored argument behind us decodes it.
        let decoded = |part: &[u8]| {
            let mut text = percent_decoded(part);
            (0..TARGET_LEVELS_MAX).any(|_| {
                let found = find.find(&text).is_some();
                text = percent_decoded(&text);
                found
            })
        };
        if let Some(query) = query.filter(|query| decoded(query.of(head))) {
            copies.at.push(query.range());
            copies.leave = true;
        }
        for field in fields.iter(head) {
            if matches!(field.known, Some(Name::McpParam | Name::McpName))
                && let Some(std::borrow::Cow::Owned(value)) = decode_field(field.value)
                && find.find(&value).is_some()
            {
                copies.at.push(field.value_span.range());
                copies.leave = true;
            }
        }
        copies
    }
}

/// A mirrored argument in its base64 form (see [`decode_field`]): what a rule finds in it is filled in
/// the decoded bytes, which keeps the length of the encoded ones. In the other form it is left as it is.
pub(super) fn fill_encoded(
    value: &mut [u8],
    scanner: &mut guard::Scanner,
    key: &[u8; 32],
) -> Result<(), Fault> {
    use base64::Engine;
    let decoded = match decode_field(value) {
        Some(std::borrow::Cow::Borrowed(_)) => return Ok(()),
        Some(std::borrow::Cow::Owned(decoded)) => decoded,
        None => {
            value.fill(b'*');
            return Err(Fault::HeaderMismatch("Mcp-Param"));
        }
    };
    let action = match scanner.judge_field(&decoded, Direction::Request) {
        None | Some((_, RuleAction::Alert)) => return Ok(()),
        Some((_, action)) => action,
    };
    let filled = scanner.fill_field(&decoded, Direction::Request, key);
    let encoded = base64::engine::general_purpose::STANDARD.encode(filled);
    let start = value.len() - encoded.len() - 2;
    value[start..start + encoded.len()].copy_from_slice(encoded.as_bytes());
    match action {
        RuleAction::Block => Err(Fault::RequestBlocked),
        _ => Ok(()),
    }
}

/// The recorded copy of the request head: credentials filled, the rest scanned and filled.
pub(super) fn record_head(
    exchange: &mut Exchange,
    fields: &head::Fields,
    turn: &mut Turn<'_>,
) -> (Bytes, Vec<Finding>) {
    if exchange.head.is_empty() {
        return (Bytes::new(), Vec::new());
    }
    if exchange.head_clean.is_none() {
        // Why the result does not matter here: the head goes nowhere but into the record.
        let _ = look_at_head(exchange, fields, turn);
    }
    let mut head = std::mem::take(&mut exchange.head);
    for span in [Some(exchange.request.path), exchange.request.query].into_iter().flatten() {
        if span.of(&head).contains(&b'%') && encodes_a_secret(span.of(&head), &mut turn.env.scanner)
        {
            head[span.range()].fill(b'*');
        }
    }
    let findings = match exchange.head_clean {
        Some(true) => Vec::new(),
        _ => turn.env.scanner.fill_text(&mut head, Direction::Request),
    };
    (head.freeze(), findings)
}

/// Bound: how often the target of a request may be percent-encoded over.
const TARGET_LEVELS_MAX: usize = 3;

/// Whether a part of the target holds what a rule masks or blocks, as it stands or percent-decoded:
/// whoever reads the target behind us decodes it.
pub(super) fn encodes_a_secret(part: &[u8], scanner: &mut guard::Scanner) -> bool {
    if part.is_empty() {
        return false;
    }
    let mut text = part.to_vec();
    for _ in 0..=TARGET_LEVELS_MAX {
        let found = scanner.judge_field(&text, Direction::Request);
        if found.is_some_and(|(_, action)| action != RuleAction::Alert) {
            return true;
        }
        let decoded = percent_decoded(&text);
        if decoded == text {
            return false;
        }
        text = decoded;
    }
    true
}

pub(super) fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| (*byte as char).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Fields outside the known ones whose name says that a credential stands in them.
pub(super) fn names_a_credential(name: &[u8]) -> bool {
    const WORDS: [&[u8]; 7] =
        [b"auth", b"token", b"secret", b"api-key", b"apikey", b"password", b"cookie"];
    let lower = name.to_ascii_lowercase();
    WORDS.iter().any(|word| memchr::memmem::find(&lower, word).is_some())
}

/// Fills every secret in what the record says of the call in words.
pub(super) fn hide_words(exchange: &mut Exchange, turn: &mut Turn<'_>) {
    let mut fill = |text: &[u8]| turn.env.scanner.fill_words(text, Direction::Request);
    exchange.rpc_id = exchange.rpc_id.take().map(|id| Bytes::from(fill(&id)));
    exchange.rpc_method = exchange.rpc_method.take().map(|method| fill(method.as_bytes()).into());
    for target in &mut exchange.targets {
        target.name = fill(target.name.as_bytes());
    }
}

pub(super) fn count_findings(findings: &[Finding], turn: &mut Turn<'_>) {
    for finding in findings {
        turn.env.metrics.found(finding.action);
    }
}
