//! `rules list|check|explain ID`: what the scanner looks for.
//!
//! Rule files given by path are added to the built-in pack, as in `scan`. `check` compiles the set and
//! runs the tests that the rules carry, on both engines.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::guard::glob::Glob;
use crate::guard::rules::{Actions, BUILTIN_NAME, Matcher};
use crate::guard::scope::Scope;
use crate::guard::validate::Validator;
use crate::guard::{Engine, KnownValue, Rule, RuleFault, RuleSet, Structured};
use crate::guard::{cost, packtest};
use crate::types::Direction;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RulesAsk {
    /// One line a rule.
    List,
    /// Compile and test.
    Check,
    /// Everything about one rule.
    Explain(String),
}

/// `stenograph rules …`.
#[derive(Debug, Clone)]
pub struct RulesOptions {
    /// Rule files beside the built-in pack; the word `builtin` names the pack itself and adds nothing.
    pub rules: Vec<PathBuf>,
    /// What is asked.
    pub ask: RulesAsk,
    /// JSON Lines.
    pub json: bool,
}

/// A rule file cannot be read, or the set does not compile.
#[derive(Debug)]
pub enum LoadFault {
    /// Path and reason.
    Unreadable(PathBuf, io::Error),
    /// Every fault of the set.
    Rules(Vec<RuleFault>),
}

impl LoadFault {
    /// One line for each thing that is wrong.
    pub fn lines(&self) -> Vec<String> {
        match self {
            LoadFault::Unreadable(path, error) => vec![format!("{}: {error}", path.display())],
            LoadFault::Rules(faults) => faults.iter().map(ToString::to_string).collect(),
        }
    }

    /// Exit code: unreadable is 4, wrong is 2.
    pub fn exit_code(&self) -> u8 {
        match self {
            LoadFault::Unreadable(..) => 4,
            LoadFault::Rules(_) => 2,
        }
    }
}

/// The built-in pack and the files of `paths`, compiled.
pub fn load(paths: &[PathBuf]) -> Result<Arc<RuleSet>, LoadFault> {
    let mut files = vec![];
    for path in paths.iter().filter(|path| path.as_os_str() != BUILTIN_NAME) {
        let text = std::fs::read_to_string(path)
            .map_err(|error| LoadFault::Unreadable(path.clone(), error))?;
        files.push((path.display().to_string(), text));
    }
    if files.is_empty() {
        return RuleSet::builtin().map_err(LoadFault::Rules);
    }
    compile(&files, true, &[]).map_err(LoadFault::Rules)
}

/// CPU time of this thread: what others do on the machine does not count.
fn spent() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Compiles a set and refuses rules of files that would slow it ([`cost`]). A dear rule with
/// `allow_slow` is named on standard error and stays.
pub fn compile(
    files: &[(String, String)],
    builtin: bool,
    secrets: &[KnownValue],
) -> Result<Arc<RuleSet>, Vec<RuleFault>> {
    let set = RuleSet::compile(files, builtin, secrets)?;
    let (faults, allowed) = cost::check(&set, &mut spent);
    for fault in allowed {
        eprintln!("{fault}");
    }
    if faults.is_empty() { Ok(set) } else { Err(faults) }
}

/// Runs the command; returns the exit code.
pub fn run(options: &RulesOptions, out: &mut dyn Write) -> u8 {
    let set = match load(&options.rules) {
        Ok(set) => set,
        Err(fault) => {
            for line in fault.lines() {
                eprintln!("{line}");
            }
            return fault.exit_code();
        }
    };
    let written = match &options.ask {
        RulesAsk::List => list(&set, options.json, out).map(|()| 0),
        RulesAsk::Check => check(&set, options.json, out),
        RulesAsk::Explain(id) => match set.rule(id) {
            Some(rule) => explain(rule, options.json, out).map(|()| 0),
            None => {
                eprintln!("no rule `{id}`; `rules list` names them");
                Ok(1)
            }
        },
    };
    written.and_then(|code| out.flush().map(|()| code)).unwrap_or(4)
}

fn word(actions: Actions, direction: Direction) -> &'static str {
    actions.of(direction).map_or("off", |action| action.as_str())
}

fn as_json(rule: &Rule) -> serde_json::Value {
    serde_json::json!({
        "id": &*rule.id,
        "title": rule.title,
        "category": rule.category.as_str(),
        "severity": rule.severity,
        "request": word(rule.actions, Direction::Request),
        "response": word(rule.actions, Direction::Response),
        "structured": rule.structured.map(Structured::as_str),
    })
}

/// Where a rule applies, by the keys of rule files.
fn parts(scope: &Scope) -> [(&'static str, Vec<&str>); 4] {
    [
        ("methods", texts(&scope.methods)),
        ("upstreams", texts(&scope.upstreams)),
        ("tools", texts(&scope.tools)),
        ("json_keys", scope.json_keys.iter().map(String::as_str).collect()),
    ]
}

fn texts(globs: &[Glob]) -> Vec<&str> {
    globs.iter().map(Glob::as_str).collect()
}

fn scope(rule: &Rule) -> Option<serde_json::Value> {
    let scope = rule.scope.as_deref()?;
    let members = parts(scope).into_iter();
    Some(members.map(|(name, texts)| (name.to_owned(), serde_json::json!(texts))).collect())
}

fn names(validators: &[Validator]) -> Vec<&'static str> {
    validators.iter().map(|validator| validator.name()).collect()
}

fn list(set: &RuleSet, json: bool, out: &mut dyn Write) -> io::Result<()> {
    for rule in set.rules() {
        if json {
            writeln!(out, "{}", as_json(rule))?;
            continue;
        }
        let (request, response) =
            (word(rule.actions, Direction::Request), word(rule.actions, Direction::Response));
        let category = rule.category.as_str();
        let structured =
            rule.structured.map_or("".into(), |it| format!(" (structured: {})", it.as_str()));
        writeln!(
            out,
            "{:<22} {category:<10} {request:<5} / {response:<5}  {}{structured}",
            rule.id, rule.title
        )?;
    }
    Ok(())
}

fn check(set: &Arc<RuleSet>, json: bool, out: &mut dyn Write) -> io::Result<u8> {
    let mut faults = packtest::check(set, Engine::Hyperscan);
    faults.extend(packtest::check(set, Engine::Expressions));
    for fault in &faults {
        eprintln!("{fault}");
    }
    let tests: usize =
        set.rules().iter().map(|rule| rule.tests_match.len() + rule.tests_no_match.len()).sum();
    if json {
        let (rules, failed) = (set.rules().len(), faults.len());
        writeln!(out, "{}", serde_json::json!({"rules": rules, "tests": tests, "failed": failed}))?;
    } else {
        writeln!(
            out,
            "{} rules, {tests} tests on two engines, {} failed",
            set.rules().len(),
            faults.len()
        )?;
        for (word, structured) in Structured::WORDS {
            let says = |rule: &&Rule| rule.structured == Some(*structured);
            let ids: Vec<&str> = set.rules().iter().filter(says).map(|rule| &*rule.id).collect();
            if !ids.is_empty() {
                writeln!(out, "structured = \"{word}\": {}", ids.join(", "))?;
            }
        }
    }
    Ok(if faults.is_empty() { 0 } else { 1 })
}

fn explain(rule: &Rule, json: bool, out: &mut dyn Write) -> io::Result<()> {
    let cost = cost::Gauge::new(&mut spent).cost(rule);
    let (request, response) =
        (word(rule.actions, Direction::Request), word(rule.actions, Direction::Response));
    let confirmed = (rule.on_confirmed != Actions::default()).then(|| {
        let actions = rule.on_confirmed;
        (word(actions, Direction::Request), word(actions, Direction::Response))
    });
    let structured = match rule.structured {
        None => {
            "what `[guard] structured` says of an answer that the mask makes unfit for its schema"
        }
        Some(Structured::Block) => {
            "block: an answer that the mask makes unfit for its schema is blocked"
        }
        Some(Structured::Mask) => {
            "mask: an answer that the mask makes unfit for its schema goes on"
        }
    };
    let (printed, detector) = match &rule.matcher {
        Matcher::Pattern { printed, .. } => (Some(printed.as_str()), None),
        Matcher::Detector { detector, .. } => (None, Some(detector.name())),
        Matcher::Known => (None, None),
    };
    if json {
        let mut value = as_json(rule);
        let more = serde_json::json!({
            "pattern": rule.pattern,
            "hyperscan": printed,
            "detector": detector,
            "validators": names(&rule.validators),
            "confirm": names(&rule.confirm),
            "on_confirmed": confirmed.map(|(request, response)| {
                serde_json::json!({ "request": request, "response": response })
            }),
            "min_entropy": rule.entropy_min,
            "context": rule.context.names(),
            "context_within": rule.context_within,
            "context_required": rule.context_required,
            "after": rule.after.names(),
            "not_after": rule.not_after.names(),
            "not_key": rule.not_key.names(),
            "pseudonym": rule.pseudonym,
            "scope": scope(rule),
            "key_lines": rule.key_lines,
            "allow_slow": rule.allow_slow,
            "cost": { "engine": cost.engine, "confirm": cost.confirm },
            "file": rule.file,
            "line": rule.line,
        });
        if let (Some(value), serde_json::Value::Object(more)) = (value.as_object_mut(), more) {
            value.extend(more);
        }
        return writeln!(out, "{value}");
    }
    writeln!(out, "{}  {}", rule.id, rule.title)?;
    writeln!(out, "  from       {}:{}", rule.file, rule.line)?;
    writeln!(out, "  category   {}, severity {}", rule.category.as_str(), rule.severity)?;
    writeln!(out, "  action     {request} in requests, {response} in responses")?;
    if let Some((request, response)) = confirmed {
        let confirm = names(&rule.confirm).join(", ");
        writeln!(
            out,
            "  confirmed  {request} in requests, {response} in responses, when {confirm} hold"
        )?;
    } else if !rule.confirm.is_empty() {
        writeln!(out, "  confirmed  when {} hold", names(&rule.confirm).join(", "))?;
    }
    if printed.is_none() && detector.is_none() {
        writeln!(out, "  a known value, found exactly")?;
    } else {
        writeln!(out, "  pattern    {}", rule.pattern)?;
    }
    if let Some(printed) = printed {
        writeln!(out, "  hyperscan  {printed}")?;
    }
    if let Some(detector) = detector {
        writeln!(out, "  detector   {detector}")?;
    }
    if !rule.validators.is_empty() {
        writeln!(out, "  must hold  {}", names(&rule.validators).join(", "))?;
    }
    if rule.entropy_min > 0.0 {
        writeln!(out, "  entropy    at least {} bits a byte", rule.entropy_min)?;
    }
    if !rule.context.is_empty() {
        let need = if rule.context_required { "needed" } else { "helps" };
        writeln!(
            out,
            "  context    {need} within {} bytes before: {}",
            rule.context_within,
            rule.context.names().join(", ")
        )?;
    }
    if !rule.after.is_empty() {
        writeln!(out, "  after      a label with one of: {}", rule.after.names().join(", "))?;
    }
    if !rule.not_after.is_empty() {
        writeln!(out, "  not after  a label with one of: {}", rule.not_after.names().join(", "))?;
    }
    if !rule.not_key.is_empty() {
        writeln!(out, "  not key    a key with one of: {}", rule.not_key.names().join(", "))?;
    }
    for (name, allowed) in rule.scope.iter().flat_map(|scope| parts(scope)) {
        if !allowed.is_empty() {
            writeln!(out, "  only {name:<10}{}", allowed.join(", "))?;
        }
    }
    if !rule.allow.is_empty() {
        writeln!(out, "  let pass   {} patterns", rule.allow.len())?;
    }
    writeln!(out, "  structured {structured}")?;
    writeln!(
        out,
        "  cost       engine {:.2}, expression {:.1} (1 is one pass of a plain automaton)",
        cost.engine, cost.confirm
    )?;
    writeln!(
        out,
        "  tests      {} match, {} do not",
        rule.tests_match.len(),
        rule.tests_no_match.len()
    )?;
    writeln!(out, "  pseudonym  {}", if rule.pseudonym { "shown in the mask" } else { "not shown" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(ask: RulesAsk, json: bool) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("own.toml");
        let text = "schema = 1\n[[override]]\nrule = \"email\"\nstructured = \"mask\"\n";
        std::fs::write(&path, text).unwrap();
        let mut out = vec![];
        assert_eq!(run(&RulesOptions { rules: vec![path], ask, json }, &mut out), 0);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_a_rule_says_of_structured_content_is_shown() {
        let line = |text: &str, id: &str| {
            text.lines()
                .find(|line| line.contains(id))
                .unwrap_or_else(|| panic!("{text}"))
                .to_owned()
        };
        let list = said(RulesAsk::List, false);
        assert!(line(&list, "email ").ends_with("(structured: mask)"), "{list}");
        assert!(!line(&list, "github-token ").contains("structured"));
        let list = said(RulesAsk::List, true);
        assert!(line(&list, "\"id\":\"email\"").contains("\"structured\":\"mask\""));
        assert!(line(&list, "\"id\":\"github-token\"").contains("\"structured\":null"));
        let email = said(RulesAsk::Explain("email".into()), false);
        assert!(line(&email, "  structured ").contains("mask: an answer"), "{email}");
        let token = said(RulesAsk::Explain("github-token".into()), false);
        assert!(line(&token, "  structured ").contains("what `[guard] structured` says"));
        assert!(said(RulesAsk::Check, false).contains("structured = \"mask\": email\n"));
    }
}
