//! The walk over schemas, keyword by keyword, against hostile schemas, and beside a library.

use serde_json::{Value, json};

use super::format::FORMATS;
use super::{Fit, OutputSchema};

fn check(schema: &Value, value: &Value) -> Fit {
    OutputSchema::new(schema.to_string().as_bytes()).check(value.to_string().as_bytes())
}

/// Keyword and place of the refusal, `ok`, or `?`.
fn said(schema: &Value, value: &Value) -> String {
    match check(schema, value) {
        Fit::Fits => "ok".into(),
        Fit::Unknown => "?".into(),
        Fit::Unfit(refusal) => format!("{} {}", refusal.keyword, refusal.path.text(true)),
    }
}

#[test]
fn each_keyword_refuses_what_it_is_there_for() {
    let long = "x".repeat(11);
    for (schema, good, bad, refusal) in [
        (json!({"type": "string"}), json!("a"), json!(1), "type "),
        (json!({"type": ["integer", "null"]}), json!(1.0), json!(1.5), "type "),
        (json!({"const": {"a": [1, 2.0]}}), json!({"a": [1.0, 2]}), json!({"a": [2, 1]}), "const "),
        (json!({"enum": ["a", null]}), json!(null), json!("b"), "enum "),
        (json!({"pattern": "^gh[ps]_"}), json!("ghp_x"), json!("[x]"), "pattern "),
        (json!({"format": "email"}), json!("a@b.example"), json!("[email]"), "format "),
        (json!({"minLength": 3}), json!("äöü"), json!("äö"), "minLength "),
        (json!({"maxLength": 10.0}), json!("x"), json!(long), "maxLength "),
        (json!({"minimum": 5}), json!(5), json!(4.9), "minimum "),
        (json!({"maximum": 5}), json!(5), json!(6), "maximum "),
        (json!({"exclusiveMinimum": 5}), json!(6), json!(5), "exclusiveMinimum "),
        (json!({"exclusiveMaximum": 5}), json!(4), json!(5.0), "exclusiveMaximum "),
        (json!({"minimum": 5, "exclusiveMinimum": true}), json!(6), json!(5), "exclusiveMinimum "),
        (json!({"multipleOf": 0.5}), json!(1.5), json!(1.2), "multipleOf "),
        (json!({"format": "int32"}), json!(1), json!(1u64 << 40), "format "),
        (json!({"minItems": 1}), json!([1]), json!([]), "minItems "),
        (json!({"maxItems": 1}), json!([1]), json!([1, 2]), "maxItems "),
        (json!({"uniqueItems": true}), json!(["a", "b"]), json!(["*", "*"]), "uniqueItems "),
        (json!({"items": {"type": "string"}}), json!(["a"]), json!(["a", 1]), "type /1"),
        (json!({"prefixItems": [{}, {"type": "null"}]}), json!([1]), json!([1, 2]), "type /1"),
        (json!({"prefixItems": [{}], "items": false}), json!([1]), json!([1, 2]), "false /1"),
        (
            json!({"items": [{}], "additionalItems": {"type": "null"}}),
            json!([1]),
            json!([1, 2]),
            "type /1",
        ),
        (json!({"contains": {"const": 1}}), json!([0, 1]), json!([0]), "contains "),
        (
            json!({"contains": {"const": 1}, "maxContains": 1}),
            json!([1]),
            json!([1, 1]),
            "maxContains ",
        ),
        (json!({"required": ["a"]}), json!({"a": 1}), json!({"b": 1}), "required "),
        (json!({"minProperties": 1}), json!({"a": 1}), json!({}), "minProperties "),
        (json!({"maxProperties": 1}), json!({"a": 1}), json!({"a": 1, "b": 2}), "maxProperties "),
        (
            json!({"properties": {"a/b": {"items": {"type": "string"}}}}),
            json!({"c": 1}),
            json!({"a/b": [1]}),
            "type /a~1b/0",
        ),
        (
            json!({"patternProperties": {"^x": {"type": "null"}}}),
            json!({"y": 1}),
            json!({"x1": 1}),
            "type /x1",
        ),
        (
            json!({"properties": {"a": {}}, "patternProperties": {"^x": {}}, "additionalProperties": false}),
            json!({"a": 1, "x": 2}),
            json!({"a": 1, "y": 2}),
            "additionalProperties ",
        ),
        (
            json!({"additionalProperties": {"type": "string"}}),
            json!({"a": ""}),
            json!({"a": 1}),
            "type /a",
        ),
        (
            json!({"propertyNames": {"maxLength": 1}}),
            json!({"a": 1}),
            json!({"ab": 1}),
            "propertyNames ",
        ),
        (
            json!({"dependentRequired": {"a": ["b"]}}),
            json!({"b": 1}),
            json!({"a": 1}),
            "dependentRequired ",
        ),
        (
            json!({"dependentSchemas": {"a": {"required": ["b"]}}}),
            json!({}),
            json!({"a": 1}),
            "required ",
        ),
        (json!({"dependencies": {"a": ["b"]}}), json!({}), json!({"a": 1}), "dependencies "),
        (json!({"allOf": [{"minimum": 1}, {"maximum": 3}]}), json!(2), json!(4), "maximum "),
        (json!({"anyOf": [{"const": 1}, {"const": 2}]}), json!(2), json!(3), "anyOf "),
        (json!({"oneOf": [{"minimum": 1}, {"minimum": 5}]}), json!(2), json!(6), "oneOf "),
        (json!({"not": {"const": 1}}), json!(2), json!(1), "not "),
        (
            json!({"if": {"type": "string"}, "then": {"minLength": 2}, "else": {"minimum": 2}}),
            json!("ab"),
            json!(1),
            "minimum ",
        ),
        (
            json!({"$ref": "#/$defs/a%7E1b", "$defs": {"a/b": {"type": "string"}}}),
            json!("a"),
            json!(1),
            "type ",
        ),
        (
            json!({"$ref": "#here", "$defs": {"a": {"$anchor": "here", "const": 1}}}),
            json!(1),
            json!(2),
            "const ",
        ),
        (
            json!({"$id": "https://x.example/s", "$ref": "https://x.example/s#/$defs/a", "$defs": {"a": {"const": 1}}}),
            json!(1),
            json!(2),
            "const ",
        ),
        (
            json!({"properties": {"next": {"$ref": "#"}, "value": {"type": "string"}}}),
            json!({"next": {"next": {"value": "x"}}}),
            json!({"next": {"next": {"value": 1}}}),
            "type /next/next/value",
        ),
        (json!(true), json!(1), json!(1), "ok"),
        (json!(false), json!(1), json!(1), "false "),
    ] {
        assert_eq!(said(&schema, &bad), refusal, "{schema} {bad}");
        let expected = if schema == json!(false) { "false " } else { "ok" };
        assert_eq!(said(&schema, &good), expected, "{schema} {good}");
    }
}

#[test]
fn what_cannot_be_told_is_unknown() {
    for schema in [
        json!({"$ref": "https://x.example/s"}),
        json!({"$ref": "#/$defs/none"}),
        json!({"$ref": "#none"}),
        json!({"$dynamicRef": "#a"}),
        json!({"pattern": "("}),
        json!({"type": "text"}),
        json!({"minLength": "3"}),
        json!({"minLength": -1}),
        json!({"allOf": [{"$id": "https://x.example/t", "type": "string"}]}),
        json!({"required": true, "type": "object"}),
        json!([1]),
        json!("x"),
    ] {
        let value = if schema.get("required").is_some() { json!({}) } else { json!("ab") };
        assert_eq!(said(&schema, &value), "?", "{schema}");
    }
    let exact =
        |schema: &str, value: &str| OutputSchema::new(schema.as_bytes()).check(value.as_bytes());
    assert_eq!(exact("{\"maximum\":1e999}", "1"), Fit::Unknown);
    assert_eq!(exact("{}", "{"), Fit::Unknown);
}

// Checked against the mutants "no steps are counted" and "nesting without end": the first never ends, the
// second ends the process.
#[test]
fn hostile_schemas_end_soon() {
    let mut doubling = serde_json::Map::new();
    for step in 0..200 {
        let next = json!({"$ref": format!("#/$defs/d{}", step + 1)});
        doubling.insert(format!("d{step}"), json!({"allOf": [next, next]}));
    }
    doubling.insert("d200".into(), json!(true));
    let mut deep = json!("x");
    for _ in 0..60 {
        deep = json!({"a": deep});
    }
    let twice = json!({"properties": {"a": {"$ref": "#"}}});
    let names: serde_json::Map<_, _> =
        (0..1000).map(|n| (format!("n{n}"), json!("a".repeat(40)))).collect();
    let patterns: serde_json::Map<_, _> =
        (0..1000).map(|n| (format!("^(a|b|ab)*{n}$"), json!(true))).collect();
    let many: Vec<Value> = (0..20_000).map(Value::from).collect();
    let long = "a".repeat(16 << 10);
    for (schema, value) in [
        (json!({"$ref": "#"}), json!(1)),
        (json!({"allOf": [{"$ref": "#/allOf/0"}]}), json!(1)),
        (json!({"not": {"$ref": "#"}}), json!(1)),
        (json!({"$ref": "#/$defs/d0", "$defs": doubling}), json!(1)),
        (json!({"allOf": [twice, twice]}), deep.clone()),
        (json!({"patternProperties": patterns}), Value::Object(names)),
        (json!({"uniqueItems": true}), Value::Array(many)),
        (json!({"items": {"pattern": "^(a|aa)+\\1$"}}), json!(vec![long.clone(); 100])),
        (json!({"items": {"pattern": "(\\p{L}{0,20}x){3}$"}}), json!(vec![long; 100])),
    ] {
        let began = std::time::Instant::now();
        let fit = check(&schema, &value);
        let took = began.elapsed();
        let text = schema.to_string();
        assert!(!matches!(fit, Fit::Unfit(_)), "{:.60} {fit:?}", text);
        assert!(took.as_millis() < 2_000, "{took:?} for {:.60}", text);
        eprintln!("{took:?} {fit:?} {text:.50}");
    }
}

/// A generator of its own: the same schemas and values everywhere.
struct Made(u64);

impl Made {
    fn up_to(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn text(&mut self) -> String {
        let words =
            ["", "a", "ab", "x1", "é", "[rule]***", "2026-11-23", "abcabc", "jo@example.com"];
        words[self.up_to(words.len() as u64) as usize].to_owned()
    }

    fn value(&mut self, depth: u64) -> Value {
        match self.up_to(if depth == 0 { 6 } else { 9 }) {
            0 => Value::Null,
            1 => json!(self.up_to(2) == 0),
            2 => json!(self.up_to(6) as i64 - 2),
            3 => json!(self.up_to(12) as f64 / 2.0),
            4 | 5 => json!(self.text()),
            6 => (0..self.up_to(4)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let members = 0..self.up_to(4);
                Value::Object(members.map(|_| (self.name(), self.value(depth - 1))).collect())
            }
        }
    }

    fn name(&mut self) -> String {
        ["a", "b", "c", "x1", "long-name"][self.up_to(5) as usize].to_owned()
    }

    fn schemas(&mut self, depth: u64) -> Vec<Value> {
        (0..1 + self.up_to(2)).map(|_| self.schema(depth - 1)).collect()
    }

    fn named(&mut self, depth: u64) -> Value {
        Value::Object(
            (0..1 + self.up_to(3)).map(|_| (self.name(), self.schema(depth - 1))).collect(),
        )
    }

    fn names(&mut self) -> Vec<String> {
        let mut names: Vec<_> = (0..1 + self.up_to(2)).map(|_| self.name()).collect();
        names.sort();
        names.dedup();
        names
    }

    fn schema(&mut self, depth: u64) -> Value {
        if depth == 0 {
            return json!(self.up_to(6) != 0);
        }
        let mut schema = serde_json::Map::new();
        for _ in 0..1 + self.up_to(3) {
            let (keyword, asked) = self.keyword(depth);
            schema.insert(keyword.to_owned(), asked);
        }
        Value::Object(schema)
    }

    fn keyword(&mut self, depth: u64) -> (&'static str, Value) {
        let types = ["null", "boolean", "number", "integer", "string", "array", "object"];
        let patterns = ["^a", "b$", "^[a-z]+$", "\\d", "^.{2}$", "(ab|c)+"];
        let n = self.up_to(4);
        match self.up_to(32) {
            0 | 1 => ("type", json!(types[self.up_to(7) as usize])),
            2 => {
                ("type", json!([types[self.up_to(3) as usize], types[3 + self.up_to(4) as usize]]))
            }
            3 => ("enum", json!([self.value(1), self.value(0)])),
            4 => ("const", self.value(1)),
            5 => ("minimum", json!(n)),
            6 => ("maximum", json!(n as f64 + 0.5)),
            7 => ("exclusiveMinimum", json!(n)),
            8 => ("exclusiveMaximum", json!(n)),
            9 => ("multipleOf", json!(1 + n)),
            10 => ("minLength", json!(n)),
            11 => ("maxLength", json!(n)),
            12 => ("pattern", json!(patterns[self.up_to(6) as usize])),
            13 => ("minItems", json!(n)),
            14 => ("maxItems", json!(n)),
            15 => ("uniqueItems", json!(true)),
            16 => ("items", self.schema(depth - 1)),
            17 => ("prefixItems", json!(self.schemas(depth))),
            18 => ("contains", self.schema(depth - 1)),
            19 => ("minProperties", json!(n)),
            20 => ("maxProperties", json!(n)),
            21 => ("required", json!(self.names())),
            22 | 23 => ("properties", self.named(depth)),
            24 => ("patternProperties", json!({"^[ab]": self.schema(depth - 1)})),
            25 => ("additionalProperties", self.schema(depth - 1)),
            26 => ("propertyNames", json!({"maxLength": n})),
            27 => ("dependentRequired", json!({(self.name()): self.names()})),
            28 => ("allOf", json!(self.schemas(depth))),
            29 => ("anyOf", json!(self.schemas(depth))),
            30 => ("oneOf", json!(self.schemas(depth))),
            _ => ("not", self.schema(depth - 1)),
        }
    }
}

// Checked against the mutants "additionalProperties does not look at patternProperties", "oneOf is anyOf"
// and "exclusiveMaximum is maximum".
#[test]
fn the_walk_says_what_the_library_says() {
    let mut made = Made(7);
    let mut fitted = 0;
    for turn in 0..20_000 {
        let (schema, value) = (made.schema(3), made.value(3));
        let library = jsonschema::draft202012::options().build(&schema).expect("a valid schema");
        let expected = library.is_valid(&value);
        let fit = check(&schema, &value);
        assert_ne!(fit, Fit::Unknown, "{turn}: {schema} {value}");
        assert_eq!(fit == Fit::Fits, expected, "{turn}: {schema} {value}: {fit:?}");
        fitted += u32::from(expected);
    }
    assert!((4_000..16_000).contains(&fitted), "{fitted}: both outcomes are met often");
}

#[test]
fn formats_are_what_the_library_says() {
    for (name, good, bad) in FORMATS {
        let schema = json!({ "format": name });
        let options = jsonschema::draft202012::options().should_validate_formats(true);
        let library = options.build(&schema).expect("a valid schema");
        for text in good.iter().chain(*bad) {
            let value = json!(text);
            let fits = check(&schema, &value) == Fit::Fits;
            assert_eq!(fits, library.is_valid(&value), "{name} {text:?}");
        }
    }
}
