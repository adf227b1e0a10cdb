//! A message of the server on its way to the client: the same steps for a body and for an event.

use bytes::{Bytes, BytesMut};
use zeroize::Zeroizing;

use super::super::fault::{Fault, UpstreamFault};
use super::Turn;
use super::answer::mask_of;
use super::exchange::Exchange;
use super::handles;
use super::request::pseudonym_key;
use crate::guard::policy::Permit;
use crate::guard::{self, Expected, Judgement, Outcome, Unfit};
use crate::types::Direction;
use crate::wire::mcp::{Class, ListKind};
use crate::wire::{json, mcp, sse};

/// Read strictly, its lists shortened to what the caller may use.
pub(super) struct FromServer {
    pub(super) bytes: BytesMut,
    pub(super) message: mcp::Message,
    /// Elements were removed from lists.
    pub(super) filtered: bool,
    /// It is another text that says the same: handles stand for ids and states, escapes for line ends.
    pub(super) rewritten: bool,
    /// What came, where it is another text than `bytes` and originals are sealed.
    pub(super) original: Option<guard::Original>,
    permit: Permit,
}

/// The same, before the bytes are put beside it.
struct Strict {
    message: mcp::Message,
    permit: Permit,
    filtered: bool,
    rewritten: bool,
    original: Option<guard::Original>,
}

impl FromServer {
    /// Reads `bytes` for the caller of `exchange`.
    pub(super) fn read(
        exchange: &mut Exchange,
        mut bytes: BytesMut,
        turn: &mut Turn<'_>,
    ) -> Result<FromServer, Fault> {
        let read = FromServer::read_strictly(exchange, &mut bytes, turn);
        match read {
            Ok(Strict { message, permit, filtered, rewritten, original }) => {
                Ok(FromServer { bytes, message, filtered, rewritten, original, permit })
            }
            Err(fault) => {
                exchange.keep_back(&bytes);
                Err(fault)
            }
        }
    }

    fn read_strictly(
        exchange: &Exchange,
        bytes: &mut BytesMut,
        turn: &mut Turn<'_>,
    ) -> Result<Strict, Fault> {
        let limits = &exchange.settings.limits;
        let mut read = |bytes: &BytesMut| {
            mcp::read(bytes, Direction::Response, limits, &mut turn.env.json)
                .map_err(|fault| Fault::Upstream(UpstreamFault::Message(fault)))
        };
        let mut message = read(bytes)?;
        let caller = exchange.caller.as_ref().expect("a call was authenticated");
        let (permit, before) = exchange
            .settings
            .policy
            .judge_answer(&caller.access, &message, bytes)
            .map_err(|denial| Fault::NotGranted(denial.reason))?;
        let filtered = before.is_some();
        if filtered {
            message = read(bytes)?;
        }
        let seals = exchange.settings.seals.originals;
        let mut original = before.filter(|_| seals).map(|before| Zeroizing::new(before.to_vec()));
        let handled = handles::wrap(exchange, &message, bytes)?;
        let rewritten = handled.is_some();
        if let Some(handled) = handled {
            let before = std::mem::replace(bytes, handled);
            if seals && original.is_none() {
                original = Some(Zeroizing::new(before.to_vec()));
            }
            message = read(bytes)?;
        }
        Ok(Strict { message, permit, filtered, rewritten, original })
    }

    /// Makes it one line for every reader of event streams. A line end by the standard is white space in
    /// valid JSON, and a space in its place keeps every position; what else ends a line for some readers
    /// stands in strings, and is escaped there.
    ///
    /// # Errors
    /// There is no memory for the escapes.
    pub(super) fn join_lines(
        &mut self,
        exchange: &mut Exchange,
        waiting: u64,
        turn: &mut Turn<'_>,
    ) -> Result<(), Fault> {
        let before = |bytes: &[u8]| Some(Zeroizing::new(bytes.to_vec()));
        let seals = exchange.settings.seals.originals && self.original.is_none();
        if seals && memchr::memchr2(b'\n', b'\r', &self.bytes).is_some() {
            self.original = before(&self.bytes);
        }
        if let Some(escaped) = sse::escape_line_ends(&self.bytes) {
            if !exchange.answer_memory.grow_to(waiting + escaped.len() as u64) {
                exchange.keep_back(&self.bytes);
                return Err(Fault::Memory);
            }
            let limits = &exchange.settings.limits;
            let read = mcp::read(&escaped, Direction::Response, limits, &mut turn.env.json);
            self.message = read.map_err(|fault| Fault::Upstream(UpstreamFault::Message(fault)))?;
            let came = std::mem::replace(&mut self.bytes, escaped);
            if seals && self.original.is_none() {
                self.original = before(&came);
            }
            self.rewritten = true;
        }
        sse::join_lines(&mut self.bytes);
        Ok(())
    }

    /// Scans and masks it. What answers the call follows what permitted the call; what else a server says,
    /// nothing tells under which of the caller's grants.
    pub(super) fn scan(
        self,
        exchange: &Exchange,
        answers_call: bool,
        turn: &mut Turn<'_>,
    ) -> Outcome {
        let permit = match answers_call {
            true => self.permit.answering(exchange.opaque),
            false => self.permit,
        };
        let key = pseudonym_key(exchange, turn);
        let keeps = exchange.settings.seals.originals && self.original.is_none();
        turn.env.scanner.keep_originals(keeps);
        exchange.asked(&mut turn.env.scanner);
        let session = guard::Session {
            direction: Direction::Response,
            mask: mask_of(exchange),
            pseudonym_key: &key,
            limits: &exchange.settings.limits,
        };
        let schemas = &turn.env.schemas;
        let schema = || {
            let tool = exchange.targets.iter().find(|target| target.kind == "tool")?;
            let caller = exchange.caller.as_ref()?;
            schemas.get(&exchange.route().name, &caller.identity, &tool.name)
        };
        let calls = exchange.rpc_method.as_deref() == Some("tools/call");
        let structured = exchange.settings.structured;
        let expected = (calls && self.message.class == Class::Answer)
            .then_some(Expected { schema: &schema, structured });
        let mut outcome = turn.env.scanner.judge_answer(
            self.bytes,
            self.message,
            &permit,
            &session,
            expected.as_ref(),
            &mut turn.env.json,
        );
        if let Some(before) = self.original {
            match &mut outcome {
                Outcome::Pass(Judgement { original, .. }) => *original = Some(before),
                Outcome::Blocked { original, .. } => *original = Some(before),
                Outcome::Refused(_) => {}
            }
        }
        outcome
    }
}

/// A message that goes no further, as the record has it.
pub(super) struct Stopped {
    /// Masked.
    pub(super) body: Bytes,
    /// As it came, where that is sealed.
    pub(super) original: Option<guard::Original>,
    /// What its tool's schema would refuse of it.
    pub(super) unfit: Option<Box<Unfit>>,
}

impl Stopped {
    /// Why an answer goes no further.
    pub(super) fn fault(&self) -> Fault {
        if self.unfit.is_some() { Fault::AnswerUnfit } else { Fault::AnswerBlocked }
    }
}

/// The member of a tool that says what its structured content is (MCP 2025-06-18, server/tools).
const OUTPUT_SCHEMA: &str = "outputSchema";

/// Remembers what an answer to `tools/list` says of structured content, as its caller gets it.
pub(super) fn learn(exchange: &Exchange, judgement: &Judgement, turn: &mut Turn<'_>) {
    if exchange.rpc_method.as_deref() != Some("tools/list") {
        return;
    }
    let Some(caller) = &exchange.caller else { return };
    let limits = &exchange.settings.limits;
    let bytes = &judgement.bytes;
    let some = memchr::memmem::find(bytes, OUTPUT_SCHEMA.as_bytes()).is_some();
    if !some && turn.env.schemas.is_empty() {
        return;
    }
    let lists = judgement.message.lists.iter().filter(|list| list.kind == ListKind::Tools);
    let mut tools = vec![];
    for item in lists.flat_map(|list| &list.items) {
        let Some(name) = item.name else { continue };
        let tool = item.span.of(bytes);
        // Why first: most tools have none, and are not read again.
        let schema = memchr::memmem::find(tool, OUTPUT_SCHEMA.as_bytes())
            .and_then(|_| json::member(tool, &[OUTPUT_SCHEMA], limits, &mut turn.env.json))
            .map(|span| span.of(tool))
            .filter(|schema| schema.len() as u64 <= limits.output_schema_bytes_max);
        tools.push((name.decode(bytes).into_owned(), schema));
    }
    turn.env.schemas.learn(&exchange.route().name, &caller.identity, &tools);
}
