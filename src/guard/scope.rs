//! Where a rule applies: to which methods, upstreams and tools, and below which keys of a message.
//!
//! Asked only when a rule with a scope found something. What a call is, is read from the call itself; of
//! an answer it is known from its call ([`Scanner::set_asked`](super::Scanner::set_asked)). What is not
//! known counts as in scope: a rule may then tell too much, never too little. Plain texts and heads have
//! neither keys nor methods: only rules without such a scope look at them.

use std::sync::Arc;

use super::glob::Glob;
use super::hit::Hit;
use super::locate::locate;
use super::rules::RuleSet;
use super::scan::Kind;
use crate::limits::Limits;
use crate::types::{Direction, Finding, RuleAction, Span};
use crate::wire::json;
use crate::wire::mcp;

/// Where a rule applies; what is empty asks nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Methods, as globs: of the call, or of the call that is answered.
    pub methods: Vec<Glob>,
    /// Names of upstreams, as globs.
    pub upstreams: Vec<Glob>,
    /// Names of tools (`params.name` of `tools/call`), as globs.
    pub tools: Vec<Glob>,
    /// Members of the message of which one must hold the match, at any depth.
    pub json_keys: Vec<String>,
}

impl Scope {
    /// Whether it asks nothing.
    pub fn is_empty(&self) -> bool {
        *self == Scope::default()
    }

    fn holds(&self, asked: &Asked, path: Option<&str>) -> bool {
        let any = |globs: &[Glob], name: &Option<String>| {
            let known = name.as_ref();
            globs.is_empty()
                || known.is_none_or(|name| globs.iter().any(|glob| glob.matches(name.as_bytes())))
        };
        // What is not told, because the path is too deep or a name too long, may be the key.
        let is_key = |step: &str| {
            let name = step.replace("~1", "/").replace("~0", "~");
            name == "*" || name.contains('…') || self.json_keys.contains(&name)
        };
        let below = |path: &str| path.split('/').any(is_key);
        any(&self.methods, &asked.method)
            && any(&self.upstreams, &asked.upstream)
            && any(&self.tools, &asked.tool)
            && (self.json_keys.is_empty() || path.is_none_or(below))
    }
}

/// What a message belongs to, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Name of the upstream.
    pub upstream: Option<String>,
    /// Method of the call.
    pub method: Option<String>,
    /// Name of the tool that is called; empty where none is.
    pub tool: Option<String>,
}

impl Asked {
    /// What `raw` says itself, if it is a call; else what is known of the call it answers.
    fn of(
        &self,
        raw: &[u8],
        direction: Direction,
        scratch: &mut json::Scratch,
        limits: &Limits,
    ) -> Asked {
        let Ok(message) = mcp::read(raw, direction, limits, scratch) else { return self.clone() };
        let Some(method) = message.method else { return self.clone() };
        let name = message.name.map(|name| name.decode(raw).into_owned());
        let method = method.decode(raw).into_owned();
        let tool = if method == "tools/call" { name } else { Some(String::new()) };
        Asked { upstream: self.upstream.clone(), method: Some(method), tool }
    }
}

/// Takes away the hits of rules that do not apply where they stand.
pub(super) fn keep_in_scope(
    hits: &mut Vec<Hit>,
    rules: &RuleSet,
    raw: &[u8],
    (kind, direction): (Kind, Direction),
    asked: &Asked,
    scratch: &mut json::Scratch,
    limits: &Limits,
) {
    let scope_of = |hit: &Hit| rules.all()[hit.rule].scope.as_deref();
    if !hits.iter().any(|hit| scope_of(hit).is_some()) {
        return;
    }
    if kind != Kind::Json {
        hits.retain(|hit| {
            scope_of(hit).is_none_or(|scope| {
                let bare = Scope { upstreams: scope.upstreams.clone(), ..Scope::default() };
                *scope == bare && scope.holds(asked, None)
            })
        });
        return;
    }
    let asked = asked.of(raw, direction, scratch, limits);
    hits.sort_by_key(|hit| hit.span.start);
    let mut places: Vec<Finding> = hits
        .iter()
        .map(|hit| Finding {
            rule: Arc::clone(&rules.all()[hit.rule].id),
            action: RuleAction::Alert,
            span: Span::new(hit.span.start, hit.span.end),
            fingerprint: [0; 16],
            level: hit.level,
            path: None,
        })
        .collect();
    // The order stays: both sorts are stable and by the same key.
    locate(raw, &mut places);
    let mut places = places.iter();
    hits.retain(|hit| {
        let path = places.next().and_then(|place| place.path.as_ref());
        scope_of(hit)
            .is_none_or(|scope| scope.holds(&asked, path.map(|path| path.text(true)).as_deref()))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    // Fourteen objects around a key hid it, and a key with a slash was none.
    #[test]
    fn a_key_that_the_path_does_not_tell_may_be_the_key() {
        let scope = |key: &str| Scope { json_keys: vec![key.into()], ..Scope::default() };
        let holds = |key: &str, path: &str| scope(key).holds(&Asked::default(), Some(path));
        assert!(holds("cmd", "/params/arguments/cmd"));
        assert!(!holds("cmd", "/params/arguments/command"));
        assert!(holds("cmd", &format!("/params/arguments{}/…", "/x".repeat(14))));
        assert!(holds("cmd", "/params/arguments/*"));
        assert!(holds("a/b~c", "/params/arguments/a~1b~0c"));
    }
}
