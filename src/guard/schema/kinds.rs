//! What the keywords of one kind of value ask: numbers, texts, lists and objects.

use serde_json::{Map, Value};

use super::check::{All, At, Fits, Stop, Walk, compare, is_whole, list, object};
use super::format::is_format;
use super::pattern::is_expression;

impl<'s> Walk<'s> {
    pub(super) fn of_number(
        &mut self,
        schema: &Map<String, Value>,
        keyword: &str,
        asked: &Value,
        number: &serde_json::Number,
        at: &At<'_>,
    ) -> Fits {
        use std::cmp::Ordering::{Greater, Less};
        let strict = |name| schema.get(name).and_then(Value::as_bool) == Some(true);
        let (keyword, holds) = match (keyword, asked) {
            ("minimum", Value::Number(least)) => match compare(number, least) {
                Less => ("minimum", false),
                Greater => ("minimum", true),
                _ => ("exclusiveMinimum", !strict("exclusiveMinimum")),
            },
            ("maximum", Value::Number(most)) => match compare(number, most) {
                Greater => ("maximum", false),
                Less => ("maximum", true),
                _ => ("exclusiveMaximum", !strict("exclusiveMaximum")),
            },
            ("exclusiveMinimum", Value::Number(least)) => {
                ("exclusiveMinimum", compare(number, least) == Greater)
            }
            ("exclusiveMaximum", Value::Number(most)) => {
                ("exclusiveMaximum", compare(number, most) == Less)
            }
            // JSON Schema draft 4: it says how `minimum` and `maximum` are meant.
            ("exclusiveMinimum" | "exclusiveMaximum", Value::Bool(_)) => return Ok(()),
            ("multipleOf", Value::Number(of)) => ("multipleOf", is_multiple(number, of)),
            ("format", Value::String(name)) => {
                let Some(holds) = number_format(name, number) else { return Ok(()) };
                ("format", holds)
            }
            ("minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf", _) => {
                return Err(Stop::Unknown);
            }
            _ => return Ok(()),
        };
        self.demand(holds, at, keyword)
    }

    pub(super) fn of_text(
        &mut self,
        keyword: &str,
        asked: &'s Value,
        text: &str,
        at: &At<'_>,
    ) -> Fits {
        let (keyword, holds) = match keyword {
            "minLength" | "maxLength" => {
                self.spend(text.len() as u64 / 16)?;
                let (signs, asked) = (text.chars().count() as u64, count(asked)?);
                match keyword {
                    "minLength" => ("minLength", signs >= asked),
                    _ => ("maxLength", signs <= asked),
                }
            }
            "pattern" => {
                let pattern = asked.as_str().ok_or(Stop::Unknown)?;
                ("pattern", self.matches(pattern, text)?)
            }
            "format" => {
                let name = asked.as_str().ok_or(Stop::Unknown)?;
                self.spend(text.len() as u64)?;
                let holds = match name {
                    "regex" => {
                        self.spend_parse(text)?;
                        is_expression(text).ok_or(Stop::Unknown)?
                    }
                    _ => is_format(name, text),
                };
                ("format", holds)
            }
            _ => return Ok(()),
        };
        self.demand(holds, at, keyword)
    }

    pub(super) fn of_list(
        &mut self,
        schema: &'s Map<String, Value>,
        keyword: &str,
        asked: &'s Value,
        items: &[Value],
        at: &At<'_>,
    ) -> Fits {
        match keyword {
            "minItems" => self.demand(items.len() as u64 >= count(asked)?, at, "minItems"),
            "maxItems" => self.demand(items.len() as u64 <= count(asked)?, at, "maxItems"),
            "uniqueItems" => {
                if asked.as_bool().ok_or(Stop::Unknown)? {
                    for (index, item) in items.iter().enumerate() {
                        for other in &items[..index] {
                            let same = self.same(item, other)?;
                            self.demand(!same, at, "uniqueItems")?;
                        }
                    }
                }
                Ok(())
            }
            "prefixItems" => self.one_by_one(list(asked)?, items, at),
            "items" => match asked {
                // Before 2020-12 this is what `prefixItems` is now.
                Value::Array(first) => self.one_by_one(first, items, at),
                _ => {
                    let first = schema.get("prefixItems").and_then(Value::as_array);
                    self.each_from(first.map_or(0, Vec::len), asked, items, at)
                }
            },
            "additionalItems" => match schema.get("items") {
                Some(Value::Array(first)) => self.each_from(first.len(), asked, items, at),
                _ => Ok(()),
            },
            "contains" => {
                let least = schema.get("minContains").map_or(Ok(1), count)?;
                let most = schema.get("maxContains").map_or(Ok(u64::MAX), count)?;
                let mut found = 0;
                for (index, item) in items.iter().enumerate() {
                    let fits = self.fits(asked, item, &at.index(index))?;
                    found += u64::from(fits.ok_or(Stop::Unknown)?);
                }
                self.demand(found >= least, at, "contains")?;
                self.demand(found <= most, at, "maxContains")
            }
            _ => Ok(()),
        }
    }

    fn one_by_one(&mut self, schemas: &'s [Value], items: &[Value], at: &At<'_>) -> Fits {
        let mut all = All::default();
        for (index, (schema, item)) in schemas.iter().zip(items).enumerate() {
            all.and(self.check(schema, item, &at.index(index)))?;
        }
        all.end()
    }

    fn each_from(&mut self, from: usize, schema: &'s Value, items: &[Value], at: &At<'_>) -> Fits {
        let mut all = All::default();
        for (index, item) in items.iter().enumerate().skip(from) {
            all.and(self.check(schema, item, &at.index(index)))?;
        }
        all.end()
    }

    pub(super) fn of_object(
        &mut self,
        schema: &'s Map<String, Value>,
        keyword: &str,
        asked: &'s Value,
        (value, members): (&Value, &Map<String, Value>),
        at: &At<'_>,
    ) -> Fits {
        match keyword {
            "minProperties" => {
                self.demand(members.len() as u64 >= count(asked)?, at, "minProperties")
            }
            "maxProperties" => {
                self.demand(members.len() as u64 <= count(asked)?, at, "maxProperties")
            }
            "required" => self.required(asked, members, at, "required"),
            "properties" => {
                let (named, mut all) = (object(asked)?, All::default());
                for (name, member) in members {
                    self.spend_name(name)?;
                    if let Some(schema) = named.get(name) {
                        all.and(self.check(schema, member, &at.name(name)))?;
                    }
                }
                all.end()
            }
            "patternProperties" => {
                let mut all = All::default();
                for (pattern, schema) in object(asked)? {
                    for (name, member) in members {
                        let fits = match self.matches(pattern, name) {
                            Ok(true) => self.check(schema, member, &at.name(name)),
                            other => other.map(|_| ()),
                        };
                        all.and(fits)?;
                    }
                }
                all.end()
            }
            "additionalProperties" => {
                let named = schema.get("properties").map(object).transpose()?;
                let patterns = schema.get("patternProperties").map(object).transpose()?;
                let mut all = All::default();
                for (name, member) in members {
                    self.spend_name(name)?;
                    if named.is_some_and(|named| named.contains_key(name)) {
                        continue;
                    }
                    let told = self.matches_any(patterns, name);
                    let fits = match (told, asked) {
                        (Ok(true), _) => Ok(()),
                        (Ok(false), Value::Bool(passes)) => {
                            self.demand(*passes, at, "additionalProperties")
                        }
                        (Ok(false), _) => self.check(asked, member, &at.name(name)),
                        (Err(stop), _) => Err(stop),
                    };
                    all.and(fits)?;
                }
                all.end()
            }
            "propertyNames" => {
                for name in members.keys() {
                    self.spend(name.len() as u64)?;
                    let fits = self.fits(asked, &Value::String(name.clone()), at)?;
                    self.demand(fits.ok_or(Stop::Unknown)?, at, "propertyNames")?;
                }
                Ok(())
            }
            "dependentRequired" => {
                for (name, needed) in object(asked)? {
                    self.spend_name(name)?;
                    if members.contains_key(name) {
                        self.required(needed, members, at, "dependentRequired")?;
                    }
                }
                Ok(())
            }
            "dependentSchemas" | "dependencies" => {
                let mut all = All::default();
                for (name, needed) in object(asked)? {
                    self.spend_name(name)?;
                    if !members.contains_key(name) {
                        continue;
                    }
                    let fits = match needed {
                        Value::Array(_) => self.required(needed, members, at, "dependencies"),
                        _ => self.check(needed, value, at),
                    };
                    all.and(fits)?;
                }
                all.end()
            }
            _ => Ok(()),
        }
    }

    /// Whether some expression matches a name.
    fn matches_any(
        &mut self,
        patterns: Option<&'s Map<String, Value>>,
        name: &str,
    ) -> Result<bool, Stop> {
        let mut untold = false;
        for pattern in patterns.iter().flat_map(|patterns| patterns.keys()) {
            match self.matches(pattern, name) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(Stop::Unknown) => untold = true,
                Err(stop) => return Err(stop),
            }
        }
        if untold { Err(Stop::Unknown) } else { Ok(false) }
    }

    fn required(
        &mut self,
        names: &Value,
        members: &Map<String, Value>,
        at: &At<'_>,
        keyword: &'static str,
    ) -> Fits {
        // Draft 3 had a word for each member here.
        for name in list(names)? {
            let name = name.as_str().ok_or(Stop::Unknown)?;
            self.spend_name(name)?;
            let held = members.contains_key(name);
            self.demand(held, at, keyword)?;
        }
        Ok(())
    }
}

/// A count that a keyword asks for; `2.0` is one too.
fn count(value: &Value) -> Result<u64, Stop> {
    let whole = |number: f64| (number >= 0.0 && number.fract() == 0.0).then_some(number as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(whole)).ok_or(Stop::Unknown)
}

fn is_multiple(number: &serde_json::Number, of: &serde_json::Number) -> bool {
    match (number.as_i128(), of.as_i128()) {
        (Some(number), Some(of)) if of != 0 => number % of == 0,
        _ => {
            let [number, of] = [number, of].map(|number| number.as_f64().unwrap_or(f64::NAN));
            (number / of).fract() == 0.0
        }
    }
}

/// What the TypeScript SDK asks of numbers of these names (ajv-formats).
fn number_format(name: &str, number: &serde_json::Number) -> Option<bool> {
    match name {
        "int32" => Some(number.as_i64().is_some_and(|number| i32::try_from(number).is_ok())),
        "int64" => Some(is_whole(number)),
        _ => None,
    }
}
