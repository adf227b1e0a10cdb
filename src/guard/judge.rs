//! Judging whole messages: scan, mask, read again, scan again, freeze.
//!
//! ```text
//! scan -- nothing ------------------------------------------> Pass, same bytes
//!      -- only alerts --------------------------------------> Pass, same bytes, findings
//!      -- a block ------------------------------------------> Blocked, masked copy for the record
//!      -- masks -> edit -> strict reading -> scan -- clean -> Pass, edited
//!                    ^                          |
//!                    +------- masks, at most ROUNDS_MAX
//! bound passed, reading failed, never clean -----------------> Refused
//! ```
//!
//! [`Judged`] is minted here and in [`own`] only: bytes that were not judged cannot be released.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zeroize::Zeroizing;

use super::fault::GuardFault;
use super::locate::locate;
use super::mask::{Mask, cover_with, fill_hits, label_hits};
use super::opaque::{self, Opaque};
use super::policy::Permit;
use super::scan::{Kind, Scanner, kind_of};
use super::structured::{self, Expected, Unfit};
use crate::limits::Limits;
use crate::types::{Direction, Finding, RuleAction, Span};
use crate::wire::json;
use crate::wire::mcp::{self, Message};

/// Bound: edits of one message. A second one is needed when a mask uncovers a match beside it.
const ROUNDS_MAX: usize = 4;

/// What the guard has judged. The field is private to the guard: there is no other way to make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged<T>(T);

impl<T> Judged<T> {
    /// The judged thing itself.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> std::ops::Deref for Judged<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Text the gateway wrote itself: error answers, heads it writes anew, empty comments. For the gateway
/// floor only, and never for bytes that came from a caller or a server.
pub fn own<T>(value: T) -> Judged<T> {
    Judged(value)
}

/// What leaves in one go: what stands before a message (a head, the prefix of an event), the message in
/// its own memory, and what stands behind it. Pieces may be empty.
pub type Payload = [Bytes; 3];

/// Puts a payload together; each piece has been judged by itself.
pub fn join(
    before: Judged<Bytes>,
    message: Judged<Bytes>,
    behind: Judged<Bytes>,
) -> Judged<Payload> {
    Judged([before.0, message.0, behind.0])
}

/// A message that may go on.
#[derive(Debug)]
pub struct Judgement {
    /// Its final bytes.
    pub bytes: Judged<Bytes>,
    /// The message as read from the final bytes.
    pub message: Message,
    /// What was found, with positions in the bytes as they were judged first.
    pub findings: Vec<Finding>,
    /// Whether the bytes differ from what was handed in.
    pub edited: bool,
    /// What was handed in, when it was edited and the scanner keeps originals.
    pub original: Option<Original>,
    /// What its tool's schema refuses of it now, and let pass before.
    pub unfit: Option<Box<Unfit>>,
}

/// Bytes as they came, kept because what goes on differs. Wiped on drop.
pub type Original = Zeroizing<Vec<u8>>;

/// Which way a message goes, and how it is masked there.
#[derive(Debug, Clone, Copy)]
pub struct Session<'a> {
    /// The way.
    pub direction: Direction,
    /// The style.
    pub mask: Mask,
    /// The session's key for the digits in masks.
    pub pseudonym_key: &'a [u8; 32],
    /// The bounds in force.
    pub limits: &'a Limits,
}

/// What comes of a message.
#[derive(Debug)]
pub enum Outcome {
    /// It may go on.
    Pass(Judgement),
    /// A rule refuses it.
    Blocked {
        /// The rule that blocked: the first one in the message.
        rule: Arc<str>,
        /// Everything found.
        findings: Vec<Finding>,
        /// The message with every secret filled, for the record only.
        masked: Bytes,
        /// The message as it came, when the scanner keeps originals.
        original: Option<Original>,
        /// The message as read before.
        message: Message,
        /// What its tool's schema would refuse of it, where that is why it is blocked.
        unfit: Option<Box<Unfit>>,
    },
    /// It could not be judged.
    Refused(GuardFault),
}

impl Scanner {
    /// Judges one message that `permit` allows. `pseudonym_key` is the session's key for the digits in
    /// masks. The message must have been read from these bytes.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call, one caller; each is a thing of its own"
    )]
    pub fn judge_message(
        &mut self,
        bytes: BytesMut,
        message: Message,
        permit: &Permit,
        direction: Direction,
        mask: Mask,
        pseudonym_key: &[u8; 32],
        scratch: &mut json::Scratch,
        limits: &Limits,
    ) -> Outcome {
        let session = Session { direction, mask, pseudonym_key, limits };
        self.judge_answer(bytes, message, permit, &session, None, scratch)
    }

    /// The same for an answer of which its reader expects more than that it can be read.
    pub fn judge_answer(
        &mut self,
        bytes: BytesMut,
        message: Message,
        permit: &Permit,
        session: &Session<'_>,
        expected: Option<&Expected<'_>>,
        scratch: &mut json::Scratch,
    ) -> Outcome {
        let Session { direction, pseudonym_key, limits, .. } = *session;
        if let Err(fault) =
            self.find(&bytes, Kind::Json, direction, Some(pseudonym_key), scratch, limits)
        {
            return Outcome::Refused(fault);
        }
        let opaque = match permit.opaque() {
            Opaque::Allow => vec![],
            asked => match self.opaque(&bytes, asked.action(), scratch, limits) {
                Ok(found) => found,
                Err(fault) => return Outcome::Refused(fault),
            },
        };
        if self.hits.is_empty() && opaque.is_empty() {
            return pass(bytes, message, vec![], None);
        }
        if let Err(fault) = self.bounded_with(opaque.len()) {
            return Outcome::Refused(fault);
        }
        let blocked = opaque.iter().any(|finding| finding.action == RuleAction::Block);
        let mut findings = self.findings();
        findings.extend(opaque);
        locate(&bytes, &mut findings);
        let strongest = self.strongest();
        match strongest.max(blocked.then_some(RuleAction::Block)) {
            Some(RuleAction::Block) => {
                let original = self.original(&bytes);
                self.block(bytes, message, findings, original)
            }
            Some(RuleAction::Mask) => {
                self.edit_as_expected(bytes, message, findings, session, expected, scratch)
            }
            _ => pass(bytes, message, findings, None),
        }
    }

    /// Findings of opaque content.
    fn opaque(
        &self,
        raw: &[u8],
        action: RuleAction,
        scratch: &mut json::Scratch,
        limits: &Limits,
    ) -> Result<Vec<Finding>, GuardFault> {
        let found = opaque::find(raw, self.views_max(raw, Kind::Json), scratch, limits)?;
        let finding = |(kind, span): (opaque::Kind, Span)| Finding {
            rule: kind.rule().into(),
            action,
            span,
            fingerprint: self.fingerprint_of(span.of(raw)),
            level: 1,
            path: None,
        };
        Ok(found.into_iter().map(finding).collect())
    }

    /// The copy that an edit needs. Why here: what is not edited is never copied.
    fn original(&self, bytes: &[u8]) -> Option<Original> {
        self.keeps_originals.then(|| Zeroizing::new(bytes.to_vec()))
    }

    fn strongest(&self) -> Option<RuleAction> {
        self.hits.iter().map(|hit| hit.action).max()
    }

    fn block(
        &mut self,
        mut bytes: BytesMut,
        message: Message,
        findings: Vec<Finding>,
        original: Option<Original>,
    ) -> Outcome {
        let blocks = |action: RuleAction| action == RuleAction::Block;
        let rules = Arc::clone(self.rules());
        let told = findings.iter().find(|it| blocks(it.action)).map(|it| Arc::clone(&it.rule));
        // What only an edit has uncovered is told nowhere else.
        let hit = self.hits.iter().find(|hit| blocks(hit.action));
        let rule = told.or_else(|| hit.map(|hit| Arc::clone(&rules.all()[hit.rule].id)));
        let rule = rule.unwrap_or_else(|| "".into());
        fill_hits(&rules, &self.hits, &mut bytes);
        // Why: what no rule could look into is not stored in clear, where it does not go on.
        for it in findings.iter().filter(|it| opaque::is_told_by(it) && blocks(it.action)) {
            cover_with(&mut bytes[it.span.range()], &it.rule);
        }
        let masked = bytes.freeze();
        Outcome::Blocked { rule, findings, masked, original, message, unfit: None }
    }

    /// Masks what was found. `fills`: structured content is filled, whatever the style.
    pub(super) fn edit(
        &mut self,
        mut bytes: BytesMut,
        first: Message,
        mut findings: Vec<Finding>,
        session: &Session<'_>,
        fills: bool,
        scratch: &mut json::Scratch,
    ) -> Outcome {
        let Session { direction, mask, pseudonym_key, limits } = *session;
        let rules = Arc::clone(self.rules());
        let original = self.original(&bytes);
        for round in 0..ROUNDS_MAX {
            match mask {
                Mask::Fill => fill_hits(&rules, &self.hits, &mut bytes),
                Mask::Label => {
                    let mut grown = Vec::from(&bytes[..]);
                    // Why each time: labels before it move it.
                    let filled =
                        fills.then(|| structured::place(&bytes, scratch, limits)).flatten();
                    let filled = filled.unwrap_or(0..0);
                    label_hits(&rules, &self.hits, &filled, &mut grown);
                    bytes = BytesMut::from(&grown[..]);
                }
            }
            let Ok(message) = mcp::read(&bytes, direction, limits, scratch) else {
                return Outcome::Refused(GuardFault::EditBroke);
            };
            let again = self
                .find(&bytes, Kind::Json, direction, Some(pseudonym_key), scratch, limits)
                .and_then(|()| self.bounded());
            if let Err(fault) = again {
                return Outcome::Refused(fault);
            }
            match self.strongest() {
                Some(RuleAction::Block) => return self.block(bytes, first, findings, original),
                Some(RuleAction::Mask) if round + 1 < ROUNDS_MAX => {
                    // Positions are those of the first judgement as long as nothing moves.
                    if mask == Mask::Fill {
                        let mut more = self.findings();
                        locate(&bytes, &mut more);
                        findings
                            .extend(more.into_iter().filter(|it| it.action > RuleAction::Alert));
                    }
                }
                Some(RuleAction::Mask) => return Outcome::Refused(GuardFault::NotClean),
                _ => return pass(bytes, message, findings, Some(original)),
            }
        }
        Outcome::Refused(GuardFault::NotClean)
    }

    /// The strongest rule that matches a single value: a header value, an event id or name, a query.
    /// Such values are not edited: the caller refuses or drops them. Over a bound counts as a block.
    pub fn judge_field(
        &mut self,
        value: &[u8],
        direction: Direction,
    ) -> Option<(Arc<str>, RuleAction)> {
        // A value that is no JSON needs neither bounds of JSON nor its memory.
        let (mut scratch, limits) = (json::Scratch::new(), Limits::default());
        if self.find(value, Kind::Field, direction, None, &mut scratch, &limits).is_err() {
            return Some(("unreadable".into(), RuleAction::Block));
        }
        let told = self.hits.iter().filter(|hit| hit.action > RuleAction::Allow);
        let hit = told.max_by_key(|hit| hit.action)?;
        Some((Arc::clone(&self.rules().all()[hit.rule].id), hit.action))
    }

    /// True when nothing at all is found in a plain text: then nothing is found in any piece of it that
    /// stands between line ends or separators, and none needs to be looked at by itself.
    pub fn is_clean(&mut self, text: &[u8], direction: Direction) -> bool {
        let (mut scratch, limits) = (json::Scratch::new(), Limits::default());
        self.find(text, Kind::Field, direction, None, &mut scratch, &limits).is_ok()
            && self.hits.iter().all(|hit| hit.action == RuleAction::Allow)
    }

    /// Fills every secret in plain text, in place and without pseudonyms: heads on their way into the
    /// record. A text over a bound is filled whole, line ends excepted.
    pub fn fill_text(&mut self, text: &mut [u8], direction: Direction) -> Vec<Finding> {
        let (mut scratch, limits) = (json::Scratch::new(), Limits::default());
        let found = self
            .find(text, Kind::Field, direction, None, &mut scratch, &limits)
            .and_then(|()| self.bounded());
        if found.is_err() {
            text.iter_mut()
                .filter(|byte| !matches!(byte, b'\r' | b'\n'))
                .for_each(|byte| *byte = b'*');
            return vec![];
        }
        let findings = self.findings();
        let rules = Arc::clone(self.rules());
        fill_hits(&rules, &self.hits, text);
        findings
    }

    /// A single word of a message that no mask may edit (an id, a method, the name of a target), with
    /// every secret filled: for the record only.
    pub fn fill_words(&mut self, text: &[u8], direction: Direction) -> String {
        let mut filled = text.to_vec();
        self.fill_text(&mut filled, direction);
        String::from_utf8_lossy(&filled).into_owned()
    }

    /// Fills every secret of a single value, with the digits that the same value gets inside a message:
    /// a field that mirrors a masked argument stays equal to it.
    pub fn fill_field(
        &mut self,
        value: &[u8],
        direction: Direction,
        pseudonym_key: &[u8; 32],
    ) -> Vec<u8> {
        let (mut scratch, limits) = (json::Scratch::new(), Limits::default());
        let mut filled = value.to_vec();
        let found = self
            .find(value, Kind::Field, direction, Some(pseudonym_key), &mut scratch, &limits)
            .and_then(|()| self.bounded());
        match found {
            Ok(()) => {
                let rules = Arc::clone(self.rules());
                fill_hits(&rules, &self.hits, &mut filled);
            }
            Err(_) => filled.fill(b'*'),
        }
        filled
    }

    /// The message with every secret filled, for the record only: what was tried is evidence, and
    /// nothing that comes out of here can be forwarded. `opaque` is what becomes of opaque content, which
    /// is covered where it is blocked.
    pub fn mask_for_record(
        &mut self,
        mut bytes: BytesMut,
        opaque: Opaque,
        session: &Session<'_>,
        scratch: &mut json::Scratch,
    ) -> Result<(Bytes, Vec<Finding>), GuardFault> {
        let Session { direction, pseudonym_key, limits, .. } = *session;
        let rules = Arc::clone(self.rules());
        let mut untold = match opaque {
            Opaque::Allow => vec![],
            asked => self.opaque(&bytes, asked.action(), scratch, limits)?,
        };
        let covered = untold.iter().filter(|it| it.action == RuleAction::Block);
        let covered: Vec<_> = covered.map(|it| (it.span, Arc::clone(&it.rule))).collect();
        let mut findings = None;
        for _ in 0..ROUNDS_MAX {
            self.find(&bytes, Kind::Json, direction, Some(pseudonym_key), scratch, limits)?;
            self.bounded_with(untold.len())?;
            findings.get_or_insert_with(|| {
                let mut findings = self.findings();
                findings.append(&mut untold);
                locate(&bytes, &mut findings);
                findings
            });
            if self.strongest() < Some(RuleAction::Mask) {
                // Positions are those of the first round: filling moves nothing.
                for (span, rule) in &covered {
                    cover_with(&mut bytes[span.range()], rule);
                }
                return Ok((bytes.freeze(), findings.unwrap_or_default()));
            }
            fill_hits(&rules, &self.hits, &mut bytes);
        }
        Err(GuardFault::NotClean)
    }

    /// The masked form of any input, as the command line shows it: what would be blocked is masked too.
    /// Returns the findings and the new bytes.
    pub fn mask_input(
        &mut self,
        input: &[u8],
        direction: Direction,
        mask: Mask,
        scratch: &mut json::Scratch,
        limits: &Limits,
    ) -> Result<(Vec<Finding>, Vec<u8>), GuardFault> {
        let kind = kind_of(input, scratch, limits);
        let mut bytes = input.to_vec();
        let rules = Arc::clone(self.rules());
        let mut findings = None;
        for _ in 0..ROUNDS_MAX {
            self.find(&bytes, kind, direction, None, scratch, limits)?;
            self.bounded()?;
            findings.get_or_insert_with(|| self.findings());
            if self.strongest() < Some(RuleAction::Mask) {
                return Ok((findings.unwrap_or_default(), bytes));
            }
            match mask {
                Mask::Fill => fill_hits(&rules, &self.hits, &mut bytes),
                Mask::Label => label_hits(&rules, &self.hits, &(0..0), &mut bytes),
            }
        }
        Err(GuardFault::NotClean)
    }
}

/// `edited`: the bytes were edited; inside, what they were, where that is kept.
fn pass(
    bytes: BytesMut,
    message: Message,
    findings: Vec<Finding>,
    edited: Option<Option<Original>>,
) -> Outcome {
    Outcome::Pass(Judgement {
        bytes: Judged(bytes.freeze()),
        message,
        findings,
        edited: edited.is_some(),
        original: edited.flatten(),
        unfit: None,
    })
}
