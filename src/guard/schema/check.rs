//! The walk over a schema and a value.
//!
//! Every schema met, every keyword in it and every byte compared is a step; steps and nesting are bounded, so
//! neither references that lead in a circle nor schemas that multiply take long. Members are looked at in the
//! order of their names: the first refusal of a value is always the same.

use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::pattern::{PATTERN_BYTES_MAX, Pattern};
use super::{Fit, Refusal};
use crate::limits::STRUCTURED_BYTES_MAX;
use crate::types::path::{JsonPath, Step};

/// Bound: steps of all checks of one answer, of some ten nanoseconds each. A result of 100 KB with a schema of
/// a hundred keywords takes a few ten thousand.
const STEPS_MAX: u64 = 1 << 20;
/// Bound: schemas inside each other, references followed. A message has 64 levels, each of which takes two
/// or three.
const NESTING_MAX: u32 = 256;
/// Steps that an expression costs to be compiled: for each of its bytes, and beside that.
const COMPILE_STEPS: (u64, u64) = (32, 1 << 14);
/// Steps that an expression costs to be parsed: for each of its bytes, and beside that.
const PARSE_STEPS: (u64, u64) = (4, 1 << 8);
/// Steps that an expression costs to be searched for: for each byte of the text, and beside that. Its automaton
/// may have to be gone through for each byte: each KiB of it costs a step more.
const SEARCH_STEPS: (u64, u64) = (16, 1 << 10);
/// Bytes of JSON that are parsed in a step.
const JSON_STEP_BYTES: u64 = 2;
/// Bytes that are compared or hashed in a step.
const COMPARE_STEP_BYTES: u64 = 16;

/// Why a walk ends early.
pub(super) enum Stop {
    /// Refused: by this keyword, here. The place is not told inside what may fail.
    Unfit(JsonPath, &'static str),
    /// Nobody here can tell; what else is asked may still refuse.
    Unknown,
    /// A bound is reached: the walk is over.
    Spent,
}

pub(super) type Fits = Result<(), Stop>;

/// Several demands that must all hold: one that is refused refuses all, and only then one that cannot be told
/// leaves all untold.
#[derive(Default)]
pub(super) struct All {
    untold: bool,
}

impl All {
    pub(super) fn and(&mut self, fits: Fits) -> Fits {
        match fits {
            Err(Stop::Unknown) => {
                self.untold = true;
                Ok(())
            }
            other => other,
        }
    }

    pub(super) fn end(self) -> Fits {
        if self.untold { Err(Stop::Unknown) } else { Ok(()) }
    }
}

/// Where the walk is in the value.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    up: Option<&'a At<'a>>,
    step: Way<'a>,
}

#[derive(Clone, Copy)]
enum Way<'a> {
    Root,
    Name(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    pub(super) fn name<'b>(&'b self, name: &'b str) -> At<'b> {
        At { up: Some(self), step: Way::Name(name) }
    }

    pub(super) fn index<'b>(&'b self, index: usize) -> At<'b> {
        At { up: Some(self), step: Way::Index(index) }
    }

    fn path(&self) -> JsonPath {
        let mut path = self.up.map_or_else(JsonPath::default, At::path);
        match self.step {
            Way::Root => {}
            Way::Name(name) => path.push(Step::member(name)),
            Way::Index(index) => path.push(Step::Index(index as u32)),
        }
        path
    }
}

pub(super) struct Walk<'s> {
    root: &'s Value,
    means: &'s mut Means,
    nested: u32,
    /// Inside something that may fail without consequence.
    quiet: u32,
}

/// What the checks of one answer have together.
struct Means {
    left: u64,
    patterns: HashMap<String, Option<Rc<Pattern>>>,
}

/// The checks of one answer against one schema: it is parsed once, and they have one bound together.
pub struct Checks {
    schema: Bytes,
    /// Parsed at the first check; `None` inside: it is no JSON.
    root: Option<Option<Value>>,
    means: Means,
}

impl std::fmt::Debug for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Checks({} steps left)", self.means.left)
    }
}

impl Checks {
    pub(super) fn new(schema: Bytes) -> Checks {
        let means = Means { left: STEPS_MAX, patterns: HashMap::new() };
        Checks { schema, root: None, means }
    }

    /// Whether the JSON text `value` fits.
    pub fn check(&mut self, value: &[u8]) -> Fit {
        if value.len() > STRUCTURED_BYTES_MAX {
            return Fit::Unknown;
        }
        let unread = if self.root.is_none() { self.schema.len() } else { 0 };
        let steps = (value.len() + unread) as u64 / JSON_STEP_BYTES;
        if self.means.spend(steps).is_err() {
            return Fit::Unknown;
        }
        let root = self.root.get_or_insert_with(|| serde_json::from_slice(&self.schema).ok());
        let (Some(root), Ok(value)) = (root.as_ref(), serde_json::from_slice::<Value>(value))
        else {
            return Fit::Unknown;
        };
        let mut walk = Walk { root, means: &mut self.means, nested: 0, quiet: 0 };
        match walk.check(root, &value, &At { up: None, step: Way::Root }) {
            Ok(()) => Fit::Fits,
            Err(Stop::Unfit(path, keyword)) => Fit::Unfit(Refusal { path, keyword }),
            Err(Stop::Unknown | Stop::Spent) => Fit::Unknown,
        }
    }
}

impl Means {
    fn spend(&mut self, steps: u64) -> Fits {
        self.left = self.left.checked_sub(steps).ok_or(Stop::Spent)?;
        Ok(())
    }
}

impl<'s> Walk<'s> {
    pub(super) fn spend(&mut self, steps: u64) -> Fits {
        self.means.spend(steps)
    }

    /// A name is looked up among others, or compared.
    pub(super) fn spend_name(&mut self, name: &str) -> Fits {
        self.spend(1 + name.len() as u64 / COMPARE_STEP_BYTES)
    }

    /// An expression is parsed.
    pub(super) fn spend_parse(&mut self, pattern: &str) -> Fits {
        let (each, once) = PARSE_STEPS;
        self.spend(once + each * pattern.len().min(PATTERN_BYTES_MAX) as u64)
    }

    pub(super) fn demand(&self, holds: bool, at: &At<'_>, keyword: &'static str) -> Fits {
        match (holds, self.quiet) {
            (true, _) => Ok(()),
            (false, 0) => Err(Stop::Unfit(at.path(), keyword)),
            (false, _) => Err(Stop::Unfit(JsonPath::default(), keyword)),
        }
    }

    /// Whether it fits, where that it does not fit is no end; `None` when nobody can tell.
    pub(super) fn fits(
        &mut self,
        schema: &'s Value,
        value: &Value,
        at: &At<'_>,
    ) -> Result<Option<bool>, Stop> {
        self.quiet += 1;
        let fits = self.check(schema, value, at);
        self.quiet -= 1;
        match fits {
            Ok(()) => Ok(Some(true)),
            Err(Stop::Unfit(..)) => Ok(Some(false)),
            Err(Stop::Unknown) => Ok(None),
            Err(Stop::Spent) => Err(Stop::Spent),
        }
    }

    pub(super) fn check(&mut self, schema: &'s Value, value: &Value, at: &At<'_>) -> Fits {
        self.spend(1)?;
        let schema = match schema {
            Value::Bool(passes) => return self.demand(*passes, at, "false"),
            Value::Object(schema) => schema,
            _ => return Err(Stop::Unknown),
        };
        // What stands in another document of its own has other references.
        let own = |id: &Value| id.as_str().is_none_or(|id| !id.starts_with('#'));
        if schema.get("$id").is_some_and(own)
            && !std::ptr::eq(self.root.as_object().unwrap_or(schema), schema)
        {
            return Err(Stop::Unknown);
        }
        if self.nested >= NESTING_MAX {
            return Err(Stop::Spent);
        }
        self.nested += 1;
        let mut all = All::default();
        let done = schema.iter().try_for_each(|(keyword, asked)| {
            all.and(self.keyword(schema, keyword, asked, value, at))
        });
        self.nested -= 1;
        done.and_then(|()| all.end())
    }

    fn keyword(
        &mut self,
        schema: &'s Map<String, Value>,
        keyword: &str,
        asked: &'s Value,
        value: &Value,
        at: &At<'_>,
    ) -> Fits {
        self.spend(1)?;
        match keyword {
            "$ref" => {
                let target = self.referred(asked)?;
                self.check(target, value, at)
            }
            "$dynamicRef" | "$recursiveRef" => Err(Stop::Unknown),
            "type" => {
                let holds = match asked {
                    Value::String(name) => is_type(name, value)?,
                    Value::Array(names) => {
                        self.spend(names.len() as u64)?;
                        let mut any = false;
                        for name in names {
                            any |= is_type(name.as_str().ok_or(Stop::Unknown)?, value)?;
                        }
                        any
                    }
                    _ => return Err(Stop::Unknown),
                };
                self.demand(holds, at, "type")
            }
            "const" => {
                let same = self.same(asked, value)?;
                self.demand(same, at, "const")
            }
            "enum" => {
                for one in list(asked)? {
                    if self.same(one, value)? {
                        return Ok(());
                    }
                }
                self.demand(false, at, "enum")
            }
            "allOf" => {
                let mut all = All::default();
                for one in list(asked)? {
                    all.and(self.check(one, value, at))?;
                }
                all.end()
            }
            "anyOf" => {
                let mut untold = false;
                for one in list(asked)? {
                    match self.fits(one, value, at)? {
                        Some(true) => return Ok(()),
                        Some(false) => {}
                        None => untold = true,
                    }
                }
                if untold { Err(Stop::Unknown) } else { self.demand(false, at, "anyOf") }
            }
            "oneOf" => {
                let (mut count, mut untold) = (0, false);
                for one in list(asked)? {
                    match self.fits(one, value, at)? {
                        Some(fits) => count += u32::from(fits),
                        None => untold = true,
                    }
                }
                match untold && count < 2 {
                    true => Err(Stop::Unknown),
                    false => self.demand(count == 1, at, "oneOf"),
                }
            }
            "not" => {
                let fits = self.fits(asked, value, at)?.ok_or(Stop::Unknown)?;
                self.demand(!fits, at, "not")
            }
            "if" => {
                let holds = self.fits(asked, value, at)?.ok_or(Stop::Unknown)?;
                let branch = if holds { "then" } else { "else" };
                schema.get(branch).map_or(Ok(()), |branch| self.check(branch, value, at))
            }
            _ => match value {
                Value::Number(number) => self.of_number(schema, keyword, asked, number, at),
                Value::String(text) => self.of_text(keyword, asked, text, at),
                Value::Array(items) => self.of_list(schema, keyword, asked, items, at),
                Value::Object(members) => {
                    self.of_object(schema, keyword, asked, (value, members), at)
                }
                Value::Null | Value::Bool(_) => Ok(()),
            },
        }
    }

    pub(super) fn matches(&mut self, pattern: &'s str, text: &str) -> Result<bool, Stop> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(Stop::Unknown);
        }
        self.spend_name(pattern)?;
        let compiled = match self.means.patterns.get(pattern) {
            Some(compiled) => compiled.clone(),
            None => {
                let (each, once) = COMPILE_STEPS;
                // Each part costs as much as a whole: at most one for each group that looks ahead.
                let parts = 1 + pattern.matches("(?=").count() + pattern.matches("(?!").count();
                self.spend(parts as u64 * once + each * pattern.len() as u64)?;
                let compiled = Pattern::new(pattern).map(Rc::new);
                self.means.patterns.insert(pattern.to_owned(), compiled.clone());
                compiled
            }
        };
        let pattern = compiled.ok_or(Stop::Unknown)?;
        let (each, once) = SEARCH_STEPS;
        self.spend(once + (each + pattern.bytes() as u64 / 1024) * text.len() as u64)?;
        pattern.matches(text).ok_or(Stop::Unknown)
    }

    /// The schema that a reference leads to, in this document.
    fn referred(&mut self, reference: &Value) -> Result<&'s Value, Stop> {
        let reference = reference.as_str().ok_or(Stop::Unknown)?;
        self.spend(reference.len() as u64)?;
        let root: &'s Value = self.root;
        let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let id = root.get("$id").or_else(|| root.get("id")).and_then(Value::as_str).unwrap_or("");
        self.spend_name(id)?;
        if !document.is_empty() && document != id.trim_end_matches('#') {
            return Err(Stop::Unknown);
        }
        let fragment = unescaped(fragment).ok_or(Stop::Unknown)?;
        match fragment.is_empty() || fragment.starts_with('/') {
            true => root.pointer(&fragment).ok_or(Stop::Unknown),
            false => self.anchored(root, &fragment)?.ok_or(Stop::Unknown),
        }
    }

    /// The schema that calls itself `name`.
    fn anchored(&mut self, within: &'s Value, name: &str) -> Result<Option<&'s Value>, Stop> {
        self.spend(1)?;
        match within {
            Value::Object(members) => {
                let says = |key, prefix: &str| {
                    let said = members.get(key).and_then(Value::as_str);
                    said.and_then(|said| said.strip_prefix(prefix)) == Some(name)
                };
                if says("$anchor", "") || says("$id", "#") || says("id", "#") {
                    return Ok(Some(within));
                }
                for member in members.values() {
                    if let Some(found) = self.anchored(member, name)? {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
            Value::Array(items) => {
                for item in items {
                    if let Some(found) = self.anchored(item, name)? {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Whether two values are the same: numbers by their size, members in any order.
    pub(super) fn same(&mut self, left: &Value, right: &Value) -> Result<bool, Stop> {
        self.spend(1)?;
        Ok(match (left, right) {
            (Value::Number(left), Value::Number(right)) => compare(left, right).is_eq(),
            (Value::String(left), Value::String(right)) => {
                self.spend(left.len().min(right.len()) as u64 / COMPARE_STEP_BYTES)?;
                left == right
            }
            (Value::Array(left), Value::Array(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                for (left, right) in left.iter().zip(right) {
                    if !self.same(left, right)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Object(left), Value::Object(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                for (name, left) in left {
                    self.spend_name(name)?;
                    match right.get(name) {
                        Some(right) if self.same(left, right)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            _ => left == right,
        })
    }
}

pub(super) fn list(value: &Value) -> Result<&[Value], Stop> {
    value.as_array().map(Vec::as_slice).ok_or(Stop::Unknown)
}

pub(super) fn object(value: &Value) -> Result<&Map<String, Value>, Stop> {
    value.as_object().ok_or(Stop::Unknown)
}

fn is_type(name: &str, value: &Value) -> Result<bool, Stop> {
    Ok(match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_number().is_some_and(is_whole),
        _ => return Err(Stop::Unknown),
    })
}

pub(super) fn is_whole(number: &serde_json::Number) -> bool {
    !number.is_f64() || number.as_f64().is_some_and(|number| number.fract() == 0.0)
}

pub(super) fn compare(left: &serde_json::Number, right: &serde_json::Number) -> std::cmp::Ordering {
    match (left.as_i128(), right.as_i128()) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => {
            let [left, right] = [left, right].map(|number| number.as_f64().unwrap_or(f64::NAN));
            left.total_cmp(&right)
        }
    }
}

/// A fragment without its percent-encoding (RFC 6901 §6).
fn unescaped(fragment: &str) -> Option<String> {
    if !fragment.contains('%') {
        return Some(fragment.to_owned());
    }
    let mut bytes = fragment.bytes();
    let mut out = Vec::with_capacity(fragment.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}
