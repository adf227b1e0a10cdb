//! Grants: who may ask what of which server. Nothing is allowed that no grant allows.
//!
//! | asked | needs |
//! |---|---|
//! | `initialize`, `notifications/initialized`, `ping`, `server/discover`, `notifications/cancelled`, `notifications/progress` | any grant on the upstream |
//! | `tools/list`, `prompts/list`, `resources/list`, `resources/templates/list` | any grant; the answer is shortened ([`super::lists`]) |
//! | answers and errors of the client (to sampling, elicitation, roots, ping) | any grant: the server asked, and its request passed |
//! | GET, DELETE | any grant |
//! | `tools/call` | every tool matched by `tools` |
//! | `prompts/get`, `completion/complete` with `ref/prompt` | by `prompts` |
//! | `resources/read`, `resources/subscribe`, `resources/unsubscribe`, `completion/complete` with `ref/resource`, each of `resourceSubscriptions[]` | by `resources` |
//! | `subscriptions/listen` itself, `logging/setLevel`, `tasks/*`, `notifications/roots/list_changed`, every other method | by `methods` |
//!
//! Each target may be allowed by another grant. The mask, the release level and the number that is
//! recorded are those of the first grant that allowed the first target. What becomes of opaque content
//! ([`super::opaque`]) is said by the first grant that allows each target or method, by the strictest of these
//! where there are several, and holds for the answer too. What no target or method tells apart (everything
//! that needs any grant, what a server sends by itself, and what comes on a GET) follows the strictest of the
//! caller's grants on the upstream: whose it is cannot be told.
//!
//! [`Permit`] is minted here only.

use bytes::BytesMut;

use super::glob::{Glob, uri_is_plain};
use super::lists;
use super::mask::Mask;
use super::opaque::Opaque;
use crate::types::Identity;
use crate::wire::mcp::{Class, Message, TargetKind, TargetRule};

/// One `[[grant]]` of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    /// Index of the upstream.
    pub upstream: u16,
    /// Any of these; with `subjects` and `claims` empty too, everybody of the issuer.
    pub groups: Vec<String>,
    /// Or any of these.
    pub subjects: Vec<String>,
    /// And each of these: the claim holds one of the values (as a string, or in an array of strings).
    pub claims: Vec<(String, Vec<String>)>,
    /// And this issuer.
    pub issuer: Option<String>,
    /// Tool names.
    pub tools: Vec<Glob>,
    /// Prompt names.
    pub prompts: Vec<Glob>,
    /// Resource URIs and templates.
    pub resources: Vec<Glob>,
    /// Methods that have no target of their own.
    pub methods: Vec<Glob>,
    /// Mask style for what passes under this grant.
    pub mask: Option<Mask>,
    /// Release level; opaque here.
    pub release: Option<u8>,
    /// What becomes of content that no rule can look into.
    pub opaque: Opaque,
}

impl Grant {
    /// Whether it names this caller.
    fn names(&self, identity: &Identity) -> bool {
        if self.issuer.as_deref().is_some_and(|issuer| issuer != &*identity.issuer) {
            return false;
        }
        let people = self.groups.is_empty() && self.subjects.is_empty();
        let group = self.groups.iter().any(|group| identity.groups.contains(group));
        let subject = self.subjects.iter().any(|subject| **subject == *identity.subject);
        (people || group || subject)
            && self.claims.iter().all(|(name, values)| claim_holds(identity, name, values))
    }

    fn globs(&self, kind: TargetKind) -> &[Glob] {
        match kind {
            TargetKind::Tool => &self.tools,
            TargetKind::Prompt => &self.prompts,
            TargetKind::Resource => &self.resources,
            TargetKind::Task => &self.methods,
        }
    }
}

fn claim_holds(identity: &Identity, name: &str, values: &[String]) -> bool {
    let Some(claim) = identity.claims.get(name) else { return false };
    let holds = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => values.contains(text),
        serde_json::Value::Bool(flag) => values.contains(&flag.to_string()),
        serde_json::Value::Number(number) => values.contains(&number.to_string()),
        _ => false,
    };
    match claim {
        serde_json::Value::Array(items) => items.iter().any(holds),
        other => holds(other),
    }
}

/// The grants of one caller on one upstream, by number, in the order of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    grants: Vec<u16>,
    /// The strictest of them.
    opaque: Opaque,
}

impl Access {
    /// Nothing is granted: every judgement is a denial.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// What becomes of opaque content where none of the grants allows a message.
    pub fn opaque(&self) -> Opaque {
        self.opaque
    }

    /// Numbers of the grants.
    pub fn grants(&self) -> &[u16] {
        &self.grants
    }
}

/// Proof that grants allow a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    grant: Option<u16>,
    mask: Option<Mask>,
    release: Option<u8>,
    opaque: Opaque,
}

impl Permit {
    /// Number of the grant that allowed it.
    pub fn grant(&self) -> Option<u16> {
        self.grant
    }

    /// Mask style that the grant sets.
    pub fn mask(&self) -> Option<Mask> {
        self.mask
    }

    /// Release level that the grant sets.
    pub fn release(&self) -> Option<u8> {
        self.release
    }

    /// What becomes of opaque content.
    pub fn opaque(&self) -> Opaque {
        self.opaque
    }

    /// The same permit for the answer to what was permitted so.
    pub fn answering(self, opaque: Opaque) -> Permit {
        Permit { opaque, ..self }
    }
}

/// Why something is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenialReason {
    /// No grant names this caller on this upstream.
    NoGrant,
    /// No grant allows the tool.
    Tool,
    /// No grant allows the prompt.
    Prompt,
    /// No grant allows the resource.
    Resource,
    /// No grant allows the method.
    Method,
    /// The resource's URI can be read in two ways.
    TwistedUri,
    /// The method needs a target and names none.
    TargetMissing,
    /// The list in the answer could not be shortened.
    List,
}

impl DenialReason {
    /// Every reason.
    pub const ALL: &'static [DenialReason] = &[
        DenialReason::NoGrant,
        DenialReason::Tool,
        DenialReason::Prompt,
        DenialReason::Resource,
        DenialReason::Method,
        DenialReason::TwistedUri,
        DenialReason::TargetMissing,
        DenialReason::List,
    ];

    /// The word used in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            DenialReason::NoGrant => "no-grant",
            DenialReason::Tool => "tool-not-granted",
            DenialReason::Prompt => "prompt-not-granted",
            DenialReason::Resource => "resource-not-granted",
            DenialReason::Method => "method-not-granted",
            DenialReason::TwistedUri => "uri-ambiguous",
            DenialReason::TargetMissing => "target-missing",
            DenialReason::List => "list-unreadable",
        }
    }

    /// What the caller is told; nothing of the policy's text.
    pub fn message(self) -> &'static str {
        match self {
            DenialReason::NoGrant => "nothing on this server is granted to you",
            DenialReason::Tool => "this tool is not granted to you",
            DenialReason::Prompt => "this prompt is not granted to you",
            DenialReason::Resource => "this resource is not granted to you",
            DenialReason::Method => "this method is not granted to you",
            DenialReason::TwistedUri => {
                "this resource URI has dot segments, encoded separators, a backslash or user information"
            }
            DenialReason::TargetMissing => {
                "the method needs a name or URI and the message has none"
            }
            DenialReason::List => {
                "the list in the answer cannot be shortened to what is granted to you"
            }
        }
    }
}

/// A refusal by the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub reason: DenialReason,
}

fn deny<T>(reason: DenialReason) -> Result<T, Denial> {
    Err(Denial { reason })
}

/// Methods that any grant on the upstream implies.
pub const IMPLIED: &[&str] = &[
    "initialize",
    "notifications/initialized",
    "ping",
    "server/discover",
    "notifications/cancelled",
    "notifications/progress",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
];

/// Methods that are judged by their targets alone.
const BY_TARGET: &[&str] = &[
    "tools/call",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "completion/complete",
];

/// All grants.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    grants: Vec<Grant>,
}

impl Policy {
    /// The grants in the order of the configuration; a grant's number is its place here.
    pub fn new(grants: Vec<Grant>) -> Policy {
        Policy { grants }
    }

    /// All grants.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// The masking style that grant number `grant` sets.
    pub fn mask(&self, grant: u16) -> Option<Mask> {
        self.grants.get(usize::from(grant)).and_then(|grant| grant.mask)
    }

    /// The grants that name `identity` on `upstream`.
    pub fn access(&self, identity: &Identity, upstream: u16) -> Access {
        let named = self.grants.iter().zip(0u16..);
        let grants = named
            .filter(|(grant, _)| grant.upstream == upstream && grant.names(identity))
            .map(|(_, number)| number)
            .collect();
        let mut access = Access { grants, opaque: Opaque::Allow };
        let opaque = self.granted(&access).map(|(_, grant)| grant.opaque).max();
        access.opaque = opaque.unwrap_or_default();
        access
    }

    fn granted<'a>(&'a self, access: &'a Access) -> impl Iterator<Item = (u16, &'a Grant)> {
        access.grants.iter().filter_map(|&number| Some((number, self.grants.get(number as usize)?)))
    }

    /// By any grant: nothing says which of them.
    fn first(&self, access: &Access) -> Result<Permit, Denial> {
        match self.granted(access).next() {
            Some((number, grant)) => Ok(permit(number, grant).answering(access.opaque)),
            None => deny(DenialReason::NoGrant),
        }
    }

    /// GET and DELETE.
    pub fn judge_http(&self, access: &Access) -> Result<Permit, Denial> {
        self.first(access)
    }

    /// A message of the client: request, notification, or its answer to a request of the server.
    pub fn judge_message(
        &self,
        access: &Access,
        message: &Message,
        bytes: &[u8],
    ) -> Result<Permit, Denial> {
        let any = self.first(access)?;
        if matches!(message.class, Class::Answer | Class::Error) {
            return Ok(any);
        }
        let method = message.method_name(bytes);
        if IMPLIED.contains(&&*method) {
            return Ok(any);
        }
        if message.targets_unclear {
            // Why not refused outright: a later version drops methods and tells so (-32601), whatever
            // they carry. No target is named, so whatever the server takes for one must be granted.
            let known = message.known.map(|known| known.target);
            return self.untargeted(access, known, method.as_bytes());
        }
        let mut permit = None;
        if !BY_TARGET.contains(&&*method) {
            permit = Some(self.method(access, method.as_bytes())?);
        }
        for target in &message.targets {
            // A task is not named by a grant: whose it is, is the gateway's table to say.
            if target.kind == TargetKind::Task {
                continue;
            }
            let text = target.text.decode(bytes);
            let allowed = self.target(access, target.kind, text.as_bytes())?;
            let permit = permit.get_or_insert(allowed);
            permit.opaque = permit.opaque.max(allowed.opaque);
        }
        match permit {
            Some(permit) => Ok(permit),
            None => deny(DenialReason::TargetMissing),
        }
    }

    /// A method that names a target, without one: granted by its name, or where all targets are.
    fn untargeted(
        &self,
        access: &Access,
        rule: Option<TargetRule>,
        method: &[u8],
    ) -> Result<Permit, Denial> {
        let kind = match rule {
            Some(TargetRule::Name(kind)) => Some(kind),
            Some(TargetRule::Uri) => Some(TargetKind::Resource),
            _ => None,
        };
        let found = self.granted(access).find(|(_, grant)| {
            kind.is_some_and(|kind| grant.globs(kind).iter().any(|glob| glob.as_str() == "**"))
                || grant.methods.iter().any(|glob| glob.matches(method))
        });
        found.map_or(deny(DenialReason::TargetMissing), |(number, grant)| Ok(permit(number, grant)))
    }

    fn method(&self, access: &Access, method: &[u8]) -> Result<Permit, Denial> {
        let found = self
            .granted(access)
            .find(|(_, grant)| grant.methods.iter().any(|glob| glob.matches(method)));
        found.map_or(deny(DenialReason::Method), |(number, grant)| Ok(permit(number, grant)))
    }

    fn target(&self, access: &Access, kind: TargetKind, text: &[u8]) -> Result<Permit, Denial> {
        if kind == TargetKind::Resource && !uri_is_plain(text) {
            return deny(DenialReason::TwistedUri);
        }
        let found = self
            .granted(access)
            .find(|(_, grant)| grant.globs(kind).iter().any(|glob| glob.matches(text)));
        match found {
            Some((number, grant)) => Ok(permit(number, grant)),
            None => deny(match kind {
                TargetKind::Tool => DenialReason::Tool,
                TargetKind::Prompt => DenialReason::Prompt,
                TargetKind::Resource => DenialReason::Resource,
                TargetKind::Task => DenialReason::Method,
            }),
        }
    }

    /// Whether a name or URI in a list may be shown.
    pub fn shows(&self, access: &Access, kind: TargetKind, text: &[u8]) -> bool {
        self.target(access, kind, text).is_ok()
    }

    /// A message of the server on its way to the caller. Lists are shortened to what is granted, by the
    /// shape of the result, and a public cache scope becomes private. True means that `bytes` were
    /// changed and `message` no longer describes them: read again.
    pub fn judge_answer(
        &self,
        access: &Access,
        message: &Message,
        bytes: &mut BytesMut,
    ) -> Result<(Permit, Option<BytesMut>), Denial> {
        // Without any grant nothing was asked under this access, but what comes is still shortened.
        let opaque = access.opaque;
        let nobodys = Permit { grant: None, mask: None, release: None, opaque };
        let permit = self.first(access).unwrap_or(nobodys);
        let edits = lists::edits(message, bytes, |kind, name| self.shows(access, kind, name));
        if edits.is_empty() {
            return Ok((permit, None));
        }
        match lists::apply(bytes, &edits) {
            Some(new) => Ok((permit, Some(std::mem::replace(bytes, new)))),
            None => deny(DenialReason::List),
        }
    }
}

fn permit(number: u16, grant: &Grant) -> Permit {
    let Grant { mask, release, opaque, .. } = *grant;
    Permit { grant: Some(number), mask, release, opaque }
}
