//! Events on their way out: each is judged as it leaves, and waits where a secret that began in it, or in one
//! before it, has not ended ([`crate::guard::split`]).

use bytes::{Bytes, BytesMut};
use zeroize::Zeroizing;

use super::super::entries::Decision;
use super::super::fault::{Fault, UpstreamFault};
use super::exchange::Exchange;
use super::judge::{FromServer, Stopped, learn};
use super::outbox::Emission;
use super::stream::{chunk, event_verdict, own_piece, with_prefix};
use super::upstream_head::count_findings;
use super::{Connection, Phase, Turn};
use crate::guard::split::{self, Cover, Splits};
use crate::guard::{self, Outcome};
use crate::record::{Kind, PartKind};
use crate::types::Direction;
use crate::wire::mcp::{self, Class};
use crate::wire::sse;

/// An event that is read and not judged.
pub(super) enum Waits {
    /// With a message.
    Said(Box<Said>),
    /// Of fields alone: they, and what ends the event.
    Fields(BytesMut, &'static [u8]),
}

/// An event with a message.
pub(super) struct Said {
    pub(super) from_server: FromServer,
    /// What stands before its data.
    pub(super) prefix: BytesMut,
    /// It is the outcome of the call.
    pub(super) answers_call: bool,
}

impl Connection {
    /// A message of the server: out with it, unless it has to wait.
    ///
    /// # Errors
    /// It, or one that waited, could not be judged.
    pub(super) fn say(&mut self, said: Box<Said>, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let exchange = self.exchange.as_ref().expect("a stream belongs to an exchange");
        let Phase::Stream { splits, .. } = &mut self.phase else {
            unreachable!("only streams have events")
        };
        let notifies = said.from_server.message.class == Class::Notification;
        if said.answers_call {
            // Nothing more will come of what has begun.
            self.give_up_waiting(turn)?;
            return self.let_out(*said, &[], turn);
        }
        let waits = splits.as_ref().is_some_and(|splits| !splits.is_empty());
        if !notifies && !waits {
            return self.let_out(*said, &[], turn);
        }
        let splits = splits.get_or_insert_with(|| Box::new(Splits::default()));
        let limits = &exchange.settings.limits;
        if notifies {
            let FromServer { bytes, message, .. } = &said.from_server;
            let (scanner, scratch) = (&mut turn.env.scanner, &mut turn.env.json);
            let heard =
                splits.hear(bytes, message, scanner, scratch, limits).map_err(Fault::Guard)?;
            splits.take(Waits::Said(said), heard, turn.now.mono_ns, limits);
        } else {
            let bytes = said.from_server.bytes.len() as u64;
            splits.pass(Waits::Said(said), bytes, turn.now.mono_ns);
        }
        self.let_out_waiting(turn)
    }

    /// An event of fields alone.
    pub(super) fn say_fields(&mut self, fields: BytesMut, end: &'static [u8], turn: &mut Turn<'_>) {
        match &mut self.phase {
            Phase::Stream { splits: Some(splits), .. } if !splits.is_empty() => {
                let bytes = fields.len() as u64;
                splits.pass(Waits::Fields(fields, end), bytes, turn.now.mono_ns);
            }
            _ => self.let_out_fields(fields, end, turn),
        }
    }

    /// Nothing waits any longer: what has begun is covered as far as it came.
    ///
    /// # Errors
    /// An event that waited could not be judged.
    pub(super) fn give_up_waiting(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        if let Phase::Stream { splits: Some(splits), .. } = &mut self.phase {
            splits.give_up();
        }
        self.let_out_waiting(turn)
    }

    /// Lets out what waits no longer.
    fn let_out_waiting(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        while let Phase::Stream { splits: Some(splits), .. } = &mut self.phase
            && let Some((waits, covers)) = splits.ready()
        {
            match waits {
                Waits::Said(said) => self.let_out(*said, &covers, turn)?,
                Waits::Fields(fields, end) => self.let_out_fields(fields, end, turn),
            }
        }
        Ok(())
    }

    fn let_out_fields(&mut self, fields: BytesMut, end: &'static [u8], turn: &mut Turn<'_>) {
        let exchange = self.exchange.as_mut().expect("a stream belongs to an exchange");
        let entry = with_prefix(exchange.entry(Kind::Event, turn.now), &fields);
        let (head, tail) = chunk(fields, 0, end);
        self.emit(Emission::answer(entry, own_piece(head, Bytes::new(), tail)), turn);
    }

    /// Judges one event, records it, and lets it out.
    fn let_out(&mut self, said: Said, covers: &[Cover], turn: &mut Turn<'_>) -> Result<(), Fault> {
        let Said { mut from_server, prefix, answers_call } = said;
        let waiting = self.waiting_bytes();
        let exchange = self.exchange.as_mut().expect("a stream belongs to an exchange");
        let mut findings = vec![];
        if !covers.is_empty() {
            let limits = &exchange.settings.limits;
            let (bytes, found) = split::covered(
                &from_server.bytes,
                &from_server.message,
                covers,
                &mut turn.env.json,
                limits,
            )
            .map_err(Fault::Guard)?;
            from_server.message =
                mcp::read(&bytes, Direction::Response, limits, &mut turn.env.json)
                    .map_err(|fault| Fault::Upstream(UpstreamFault::Message(fault)))?;
            let came = std::mem::replace(&mut from_server.bytes, bytes);
            if exchange.settings.seals.originals && from_server.original.is_none() {
                from_server.original = Some(Zeroizing::new(came.to_vec()));
            }
            from_server.join_lines(exchange, waiting, turn)?;
            findings = found;
        }
        let FromServer { bytes: data, message, filtered, rewritten, .. } = &from_server;
        let (filtered, rewritten) = (*filtered, *rewritten);
        let class = message.class;
        let id = message.id.as_ref().map(|id| Bytes::copy_from_slice(id.span.of(data)));
        let method = message.method.as_ref().map(|text| text.decode(data).into_owned());
        let outcome = from_server.scan(exchange, answers_call, turn);
        match outcome {
            Outcome::Pass(judgement) => {
                if answers_call {
                    learn(exchange, &judgement, turn);
                    exchange.answered = true;
                    exchange.answer_ordinal = Some(exchange.ordinal);
                }
                let edited = judgement.edited || !covers.is_empty();
                let decision = if edited { Decision::Masked } else { Decision::Allowed };
                findings.extend(judgement.findings);
                count_findings(&findings, turn);
                let mut verdict =
                    event_verdict(decision, method.as_deref(), id.as_deref(), &findings);
                verdict.policy = Some(&exchange.settings.policy_id);
                verdict.names = exchange.tells_names();
                verdict.edited = edited || rewritten;
                verdict.filtered = filtered;
                verdict.split = !covers.is_empty();
                verdict.unfit = judgement.unfit.as_deref();
                let verdict = verdict.part();
                let entry = exchange.entry(Kind::Event, turn.now).part(PartKind::Verdict, verdict);
                let entry = with_prefix(entry, &prefix);
                let body = (*judgement.bytes).clone();
                let entry = Exchange::body(entry, body, judgement.original);
                let (head, tail) = chunk(prefix, judgement.bytes.len(), sse::EVENT_SUFFIX);
                let payload = guard::join(guard::own(head), judgement.bytes, guard::own(tail));
                self.emit(Emission::answer(entry, payload), turn);
                Ok(())
            }
            Outcome::Blocked { findings: found, masked, original, unfit, .. } => {
                findings.extend(found);
                let body = Stopped { body: masked, original, unfit };
                self.block_event(class, id, answers_call, method, findings, body, turn);
                Ok(())
            }
            Outcome::Refused(fault) => Err(Fault::Guard(fault)),
        }
    }
}
