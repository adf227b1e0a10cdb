//! `rules list|check|explain ID`: what the scanner looks for.
//!
//! Rule files given by path are added to the built-in pack, as in `scan`. `check` compiles the set and
//! runs the tests that the rules carry, on both engines.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use crate::guard::packtest;
use crate::guard::rules::{Actions, BUILTIN_NAME, Matcher};
use crate::guard::{Engine, Rule, RuleFault, RuleSet};
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
    RuleSet::compile(&files, true, &[]).map_err(LoadFault::Rules)
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
    })
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
        writeln!(
            out,
            "{:<22} {category:<10} {request:<5} / {response:<5}  {}",
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
    }
    Ok(if faults.is_empty() { 0 } else { 1 })
}

fn explain(rule: &Rule, json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        let mut value = as_json(rule);
        value["pattern"] = rule.pattern.clone().into();
        value["file"] = rule.file.clone().into();
        value["line"] = rule.line.into();
        return writeln!(out, "{value}");
    }
    writeln!(out, "{}  {}", rule.id, rule.title)?;
    writeln!(out, "  from       {}:{}", rule.file, rule.line)?;
    writeln!(out, "  category   {}, severity {}", rule.category.as_str(), rule.severity)?;
    let (request, response) =
        (word(rule.actions, Direction::Request), word(rule.actions, Direction::Response));
    writeln!(out, "  action     {request} in requests, {response} in responses")?;
    if rule.on_confirmed != Actions::default() {
        writeln!(
            out,
            "  confirmed  {} in requests, {} in responses, when {:?} hold",
            word(rule.on_confirmed, Direction::Request),
            word(rule.on_confirmed, Direction::Response),
            rule.confirm
        )?;
    }
    match &rule.matcher {
        Matcher::Pattern { printed, .. } => {
            writeln!(out, "  pattern    {}", rule.pattern)?;
            writeln!(out, "  hyperscan  {printed}")?;
        }
        Matcher::Detector { detector, .. } => {
            writeln!(out, "  pattern    {}", rule.pattern)?;
            writeln!(out, "  detector   {detector:?}")?;
        }
        Matcher::Known => writeln!(out, "  a known value, found exactly")?,
    }
    if !rule.validators.is_empty() {
        writeln!(out, "  must hold  {:?}", rule.validators)?;
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
    writeln!(out, "  pseudonym  {}", if rule.pseudonym { "shown in the mask" } else { "not shown" })
}
