//! The walk over schemas, keyword by keyword, against hostile schemas, and beside a library.

use serde_json::{Value, json};

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

// Checked against the mutants "additionalProperties does not look at patternProperties" and "exclusiveMaximum
// is maximum".
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
        (json!({"items": {"pattern": "^(?=a*$)(?!b)(a|aa)+b$"}}), json!(vec![long.clone(); 100])),
        (json!({"items": {"pattern": "(\\p{L}{0,20}x){3}$"}}), json!(vec![long; 100])),
    ] {
        let began = spent();
        let fit = check(&schema, &value);
        let took = spent() - began;
        let text = schema.to_string();
        assert!(!matches!(fit, Fit::Unfit(_)), "{:.60} {fit:?}", text);
        assert!(took.as_millis() < 2_000, "{took:?} for {:.60}", text);
        eprintln!("{took:?} {fit:?} {text:.50}");
    }
}

// Checked against the mutant "oneOf is anyOf".
#[test]
fn the_walk_says_what_the_validators_of_the_sdks_say() {
    let vectors = include_str!("../../../tests/vectors/schema/agreed.jsonl");
    let (mut fitted, mut count) = (0, 0);
    for line in vectors.lines() {
        let vector: Value = serde_json::from_str(line).expect("JSON");
        let fit = check(&vector["schema"], &vector["value"]);
        assert_ne!(fit, Fit::Unknown, "{line}");
        assert_eq!(json!(fit == Fit::Fits), vector["fits"], "{line}: {fit:?}");
        fitted += u32::from(fit == Fit::Fits);
        count += 1;
    }
    assert!(count > 1_000 && fitted > count / 5 && fitted < 4 * count / 5, "{fitted} of {count}");
}

// Checked against the mutant "what cannot be told ends the walk".
#[test]
fn what_refuses_counts_beside_what_cannot_be_told() {
    let (untold, unfit) = (json!({"pattern": "(?<=a)b"}), json!({"format": "email"}));
    let value = json!("[email]");
    for (schema, said_of) in [
        (json!({"allOf": [untold, unfit]}), "format "),
        (json!({"format": "email", "pattern": "(?<=a)b"}), "format "),
        (json!({"anyOf": [untold, unfit]}), "?"),
        (json!({"anyOf": [untold, {"type": "string"}]}), "ok"),
        (json!({"oneOf": [untold, {"minLength": 1}, {"maxLength": 9}]}), "oneOf "),
        (json!({"oneOf": [untold, {"minLength": 1}]}), "?"),
        (json!({"not": untold}), "?"),
        (json!({"if": untold, "then": unfit}), "?"),
    ] {
        assert_eq!(said(&schema, &value), said_of, "{schema}");
    }
    let named = json!({"properties": {"a": untold, "b": unfit}});
    assert_eq!(said(&named, &json!({"a": "x", "b": "x"})), "format /b");
    let rest = json!({"properties": {"a": untold}, "additionalProperties": false});
    assert_eq!(said(&rest, &json!({"a": "x", "b": "x"})), "additionalProperties ");
    assert_eq!(said(&json!({"items": untold, "maxItems": 1}), &json!(["x", "y"])), "maxItems ");
    let named = json!({"patternProperties": {"(?<=a)b": true}, "additionalProperties": false});
    assert_eq!(said(&named, &json!({"x": 1})), "?");
}

#[test]
fn content_over_its_bound_is_not_held_against_anything() {
    let long = json!("x".repeat(crate::limits::STRUCTURED_BYTES_MAX));
    assert_eq!(said(&json!({"type": "null"}), &long), "?");
}

/// CPU time of this thread so far.
fn spent() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    std::time::Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

// Counted in readings of 259 KB of JSON, so that a slow machine is no fault. The dearest answer takes 90 to 120 of them
// (70 to 97 ms on a Xeon of 2.3 GHz). Checked against the mutants "a search costs the same whatever its automaton" and
// "each check has steps of its own", which take 255 and 330.
#[test]
fn one_answer_does_not_stop_a_worker() {
    const UNITS_MAX: u32 = 180;
    const TRIES: usize = 5;
    let dear = format!("(?i){}", r"[\W\pL\pN]".repeat(400));
    let short = format!("{}x", r"[\W\pL\pN]".repeat(100));
    let nearly = |n: usize| format!(r"[\pL\pN\pM\pS\pZ\PL\PN\PM\PS\PZ\p{{Lu}}\p{{Ll}}]{{0,{n}}}");
    let folded = |n: usize| format!("(?i){}{n}|", r"[\pL\pN]".repeat(8));
    let word = |n: usize| format!(r"[\W\D\w\d]*?[^\W]{{{n}}}{}", r"[\W]?".repeat(190));
    let masked = json!("*******x");
    let contains = |of: Value| json!({"properties": {"zkey": {"pattern": "^MASKME-"}, "a": {"contains": of, "minContains": 0}}});
    let many = |each: &str| json!({"zkey": masked, "a": vec![each; 6]});
    let regexes = contains(json!({"format": "regex"}));
    let all = |patterns: Vec<String>| {
        let each: Vec<Value> = patterns.iter().map(|pattern| json!({"pattern": pattern})).collect();
        json!({"properties": {"a": {"items": {"allOf": each}}}})
    };
    let mut random = 12_345u32;
    let mut ab = |length: usize| -> String {
        let mut sign = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if random >> 31 == 0 { 'a' } else { 'b' }
        };
        (0..length).map(|_| sign()).collect()
    };
    let walks = json!({"a": (0..15).map(|_| ab(16_000)).collect::<Vec<_>>()});
    let short_walks = json!({"a": (0..60).map(|_| ab(3_000)).collect::<Vec<_>>()});
    let name = "n".repeat(60_000);
    let mut doubling = serde_json::Map::new();
    for step in 0..18 {
        let next = json!({"$ref": format!("#/$defs/d{}", step + 1)});
        doubling.insert(format!("d{step}"), json!({"allOf": [next, next]}));
    }
    doubling.insert("d18".into(), json!({"properties": {name.clone(): {"const": 1}}}));
    let maps = format!("[{}0]", "{\"\":0},".repeat(37_000));
    let read = || serde_json::from_str::<serde::de::IgnoredAny>(&maps).expect("JSON");
    let unit = (0..20).map(|_| (spent(), read(), spent())).map(|(from, _, to)| to - from).min();
    let unit = unit.expect("twenty of them");
    let maps: Value = serde_json::from_str(&maps).expect("JSON");
    for (what, schema, value) in [
        ("format regex, dear", regexes.clone(), many(&dear)),
        ("format regex, many", regexes, json!({"a": vec![&short; 200]})),
        ("pattern, dear", all((0..40).map(|n| format!("{dear}{n}")).collect()), many("x")),
        ("pattern, folded", all((0..60).map(folded).collect()), many("x")),
        ("pattern, 1 KiB", all((0..60).map(|n| format!("{short}{n}")).collect()), many("x")),
        ("pattern, scripts", all((0..60).map(nearly).collect()), many("x")),
        ("pattern, words", all((0..60).map(word).collect()), many("x")),
        (
            "pattern, letters",
            all((0..60).map(|n| format!("{}{n}", "[a-j]?x|".repeat(110))).collect()),
            many("x"),
        ),
        (
            "pattern, never understood",
            json!({"items": {"allOf": vec![json!({"pattern": format!("(?i){}", "x".repeat(1000))}); 60]}}),
            json!(vec!["x"; 60_000]),
        ),
        ("pattern, walks", contains(json!({"pattern": "[ab]*a[ab]{1000}c"})), walks.clone()),
        ("pattern, walks 2", contains(json!({"pattern": "[ab]*a[ab]{700}c"})), walks),
        ("pattern, walks 3", contains(json!({"pattern": "[ab]*a[ab]{700}c"})), short_walks),
        ("long names", json!({"$ref": "#/$defs/d0", "$defs": doubling}), json!({name.clone(): 1})),
        ("maps", json!({"items": {"type": ["object", "integer"]}}), maps),
    ] {
        let schema = OutputSchema::new(schema.to_string().as_bytes());
        let value = value.to_string();
        let mut fastest = std::time::Duration::MAX;
        for _ in 0..TRIES {
            let mut checks = schema.checks();
            let began = spent();
            let fits: Vec<Fit> = (0..4).map(|_| checks.check(value.as_bytes())).collect();
            fastest = fastest.min(spent() - began);
            eprintln!("{fastest:?} of {unit:?} {fits:?} {what} {checks:?}");
            if fastest < unit * UNITS_MAX {
                break;
            }
        }
        assert!(fastest < unit * UNITS_MAX, "{what}: {fastest:?}, a reading takes {unit:?}");
    }
}
