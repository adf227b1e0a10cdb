//! `explain`: would this call be allowed, and by which grant, or why not. The judgement is the guard's own;
//! what is told about each grant is derived from it by asking about that grant alone.
//!
//! It judges what the command line says about the caller. It reads no token, so groups and claims
//! have to be given; it does not look at the content that a scan could block.

use std::io::{self, Write};
use std::sync::Arc;

use serde_json::json;

use crate::app::cli::Exit;
use crate::app::config::{Config, Grant};
use crate::app::denyfile::{self, DenyFileFault};
use crate::audit::text::escape;
use crate::auth::deny::DenyList;
use crate::guard::Opaque;
use crate::guard::policy::{Permit, Policy};
use crate::limits::Limits;
use crate::types::{Direction, Identity};
use crate::wire::{json, mcp};

/// Who calls what.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// Issuer of the caller's token; may be left out when one is configured.
    pub issuer: Option<String>,
    /// `sub`.
    pub subject: String,
    /// `client_id`.
    pub client: Option<String>,
    /// Groups of the token.
    pub groups: Vec<String>,
    /// Other claims, name and value.
    pub claims: Vec<(String, String)>,
    /// Name of the upstream; may be left out when one is configured.
    pub upstream: Option<String>,
    /// What is called.
    pub asked: Asked,
}

/// What is called.
#[derive(Debug, Clone)]
pub enum Asked {
    /// `tools/call` of this tool.
    Tool(String),
    /// `prompts/get` of this prompt.
    Prompt(String),
    /// `resources/read` of this URI.
    Resource(String),
    /// Another method.
    Method(String),
}

impl Default for Asked {
    fn default() -> Asked {
        Asked::Method("ping".to_owned())
    }
}

impl Asked {
    /// The message of such a call.
    fn message(&self) -> Vec<u8> {
        let (method, params) = match self {
            Asked::Tool(name) => ("tools/call", json!({ "name": name, "arguments": {} })),
            Asked::Prompt(name) => ("prompts/get", json!({ "name": name })),
            Asked::Resource(uri) => ("resources/read", json!({ "uri": uri })),
            Asked::Method(method) => (method.as_str(), json!({})),
        };
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        message.to_string().into_bytes()
    }

    fn words(&self) -> String {
        match self {
            Asked::Tool(name) => format!("tool {name}"),
            Asked::Prompt(name) => format!("prompt {name}"),
            Asked::Resource(uri) => format!("resource {uri}"),
            Asked::Method(method) => format!("method {method}"),
        }
    }
}

/// The only one, or the one of that name; else what to say.
fn pick<'a>(
    what: &str,
    asked: Option<&str>,
    names: impl Iterator<Item = &'a str>,
) -> Result<usize, String> {
    let names: Vec<&str> = names.collect();
    match asked {
        None if names.len() == 1 => Ok(0),
        None => Err(format!("--{what} is needed: {}", names.join(", "))),
        Some(name) => names
            .iter()
            .position(|known| *known == name)
            .ok_or_else(|| format!("--{what} {name:?} is not configured: {}", names.join(", "))),
    }
}

fn identity(question: &Question, issuer: &str) -> Identity {
    let claim = |(name, value): &(String, String)| (name.clone(), value.as_str().into());
    Identity {
        issuer: issuer.into(),
        subject: question.subject.as_str().into(),
        client: question.client.as_deref().map(Arc::from),
        token_id: None,
        groups: question.groups.clone(),
        claims: question.claims.iter().map(claim).collect(),
        key_id: "".into(),
        key_thumbprint: "".into(),
        issued_s: 0,
        expires_s: u64::MAX,
    }
}

/// What one grant says.
struct Said {
    line: u32,
    allows: bool,
    why: String,
}

/// Judges by `grants`; `Err` is the word for why not and its sentence.
fn judge(
    grants: &[&Grant],
    caller: &Identity,
    upstream: u16,
    bytes: &[u8],
    message: &mcp::Message,
) -> Result<Permit, (&'static str, &'static str)> {
    let policy = Policy::new(grants.iter().map(|grant| grant.to_policy()).collect());
    let access = policy.access(caller, upstream);
    match policy.judge_message(&access, message, bytes) {
        Ok(permit) => Ok(permit),
        Err(denial) => Err((denial.reason.as_str(), denial.reason.message())),
    }
}

/// Answers the question: exit code 0 allowed, 1 refused.
pub fn run(
    config: &Config,
    question: &Question,
    as_json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let issuers = config.issuers.iter().map(|issuer| issuer.url.as_str());
    let upstreams = config.upstreams.iter().map(|upstream| upstream.name.as_str());
    let picked = pick("issuer", question.issuer.as_deref(), issuers).and_then(|issuer| {
        Ok((issuer, pick("upstream", question.upstream.as_deref(), upstreams)?))
    });
    let (issuer, upstream) = match picked {
        Ok(picked) => picked,
        Err(text) => {
            writeln!(err, "stenograph: {}", escape(&text))?;
            return Ok(Exit::Usage);
        }
    };
    let caller = identity(question, &config.issuers[issuer].url);
    let bytes = question.asked.message();
    let limits = Limits::default();
    let mut scratch = json::Scratch::new();
    let message = match mcp::read(&bytes, Direction::Request, &limits, &mut scratch) {
        Ok(message) => message,
        Err(fault) => {
            writeln!(err, "stenograph: no such message can be sent: {:?}", fault.rule)?;
            return Ok(Exit::Usage);
        }
    };

    let denied = match config.deny_file.as_deref().map(denyfile::load) {
        None | Some(Err(DenyFileFault::Missing)) => DenyList::default().denies(&caller),
        Some(Ok(list)) => list.denies(&caller),
        Some(Err(fault)) => {
            writeln!(err, "stenograph: {}", escape(&fault.to_string()))?;
            return Ok(Exit::Incomplete);
        }
    };
    let number = upstream as u16;
    let all: Vec<&Grant> = config.grants.iter().collect();
    let verdict = judge(&all, &caller, number, &bytes, &message);
    let said: Vec<Said> = config
        .grants
        .iter()
        .filter(|grant| grant.upstream == number)
        .map(|grant| match judge(&[grant], &caller, number, &bytes, &message) {
            Ok(_) => Said { line: grant.line, allows: true, why: "allows it".to_owned() },
            Err(("no-grant", _)) => {
                let why = "is not for this caller: group, subject, claims or issuer differ";
                Said { line: grant.line, allows: false, why: why.to_owned() }
            }
            Err((_, sentence)) => Said {
                line: grant.line,
                allows: false,
                why: format!("is for this caller; {sentence}"),
            },
        })
        .collect();
    let opaque = verdict.ok().filter(|_| denied.is_none()).map(|permit| permit.opaque());
    let (allowed, reason) = match (denied, verdict) {
        (Some(reason), _) => (false, format!("{}: an entry of the deny file", reason.by.as_str())),
        (None, Ok(permit)) => {
            let grant = usize::from(permit.grant().unwrap_or_default());
            let line = config.grants.get(grant).map_or(0, |grant| grant.line);
            (true, format!("grant in line {line}"))
        }
        (None, Err((word, sentence))) => (false, format!("{word}: {sentence}")),
    };
    let name = &config.upstreams[upstream].name;
    if as_json {
        let grants: Vec<_> = said
            .iter()
            .map(|said| json!({ "line": said.line, "allows": said.allows, "why": said.why }))
            .collect();
        let answer = json!({
            "allowed": allowed, "reason": reason, "subject": question.subject,
            "issuer": caller.issuer.as_ref(), "upstream": name, "asked": question.asked.words(),
            "opaque": opaque.map(Opaque::as_str), "grants": grants,
        });
        writeln!(out, "{answer}")?;
    } else {
        let verdict = if allowed { "allowed" } else { "refused" };
        let asked = escape(&question.asked.words());
        let subject = escape(&question.subject);
        writeln!(out, "{verdict}: {subject} asks {name} for {asked}: {reason}")?;
        match opaque {
            None | Some(Opaque::Allow) => {}
            Some(Opaque::Alert) => writeln!(out, "  opaque content is told: opaque = \"alert\"")?,
            Some(Opaque::Block) => {
                writeln!(out, "  opaque content is blocked: opaque = \"block\"")?
            }
        }
        let file = config.path.display();
        for said in &said {
            writeln!(out, "  {file}:{}: {}", said.line, said.why)?;
        }
        if said.is_empty() {
            writeln!(out, "  no grant names upstream {name}")?;
        }
    }
    Ok(if allowed { Exit::Done } else { Exit::No })
}
