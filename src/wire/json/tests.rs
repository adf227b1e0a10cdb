//! Tests of the JSON pass: grammar, duplicate names, bounds.

use super::*;

fn judge(text: &str) -> Result<(), (JsonRule, u32)> {
    judge_bytes(text.as_bytes())
}

fn judge_bytes(bytes: &[u8]) -> Result<(), (JsonRule, u32)> {
    read(bytes, &Limits::default(), &mut Scratch::new(), &mut Unwatched)
        .map_err(|fault| (fault.rule, fault.at))
}

#[derive(Default)]
struct Log(Vec<String>);

impl Visitor for Log {
    fn key(&mut self, depth: u32, text: Text) {
        self.0.push(format!("{depth} key {:?}", text.span.range()));
    }
    fn string(&mut self, depth: u32, text: Text) {
        self.0.push(format!("{depth} string {:?}", text.span.range()));
    }
    fn number(&mut self, depth: u32, span: Span) {
        self.0.push(format!("{depth} number {:?}", span.range()));
    }
    fn literal(&mut self, depth: u32, span: Span) {
        self.0.push(format!("{depth} literal {:?}", span.range()));
    }
    fn open(&mut self, depth: u32, object: bool, at: u32) {
        self.0.push(format!("{depth} open {object} {at}"));
    }
    fn close(&mut self, depth: u32, object: bool, at: u32) {
        self.0.push(format!("{depth} close {object} {at}"));
    }
}

#[test]
fn the_visitor_is_told_everything_in_order() {
    let mut log = Log::default();
    let text = br#" {"a":[1,"b"],"c":null} "#;
    read(text, &Limits::default(), &mut Scratch::new(), &mut log).expect("valid");
    let told = [
        "0 open true 1",
        "1 key 3..4",
        "1 open false 6",
        "2 number 7..8",
        "2 string 10..11",
        "1 close false 12",
        "1 key 15..16",
        "1 literal 18..22",
        "0 close true 22",
    ];
    assert_eq!(log.0, told);
}

#[test]
fn scalars_and_empty_containers_are_texts() {
    for text in ["0", "-0", "1e9", "-1.5E-3", "\"\"", "true", " null\r\n", "{}", "[ ]", "[{},[]]"] {
        assert_eq!(judge(text), Ok(()), "{text}");
    }
}

#[test]
fn what_is_no_json_is_refused_where_it_breaks() {
    use JsonRule::*;
    for (text, rule, at) in [
        ("", Empty, 0),
        (" \n", Empty, 2),
        ("{", Truncated, 1),
        ("[1,", Truncated, 3),
        ("[1,]", Unexpected, 3),
        ("{\"a\":1,}", Unexpected, 7),
        ("{\"a\" 1}", Unexpected, 5),
        ("{a:1}", Unexpected, 1),
        ("[1 2]", Unexpected, 3),
        ("[}", Unexpected, 1),
        ("1 2", Trailing, 2),
        ("{}\0", Trailing, 2),
        ("NaN", Unexpected, 0),
        ("nul", Truncated, 3),
        ("nulL", Literal, 3),
        ("01", Number, 1),
        ("-", Truncated, 1),
        ("-a", Number, 1),
        ("1.", Truncated, 2),
        ("[1.]", Number, 3),
        ("1e+", Truncated, 3),
        ("+1", Unexpected, 0),
        (".5", Unexpected, 0),
        ("\"a\tb\"", ControlByte, 2),
        ("\"\\x41\"", Escape, 1),
        ("\"\\u12g4\"", Escape, 1),
        ("\"\\ud800\"", LoneSurrogate, 1),
        ("\"\\udc00\"", LoneSurrogate, 1),
        ("\"\\ud800\\u0041\"", LoneSurrogate, 1),
        ("\"\\ud800\\n\"", LoneSurrogate, 1),
        ("\"abc", Truncated, 4),
        ("// c\n1", Unexpected, 0),
        ("\u{a0}1", Unexpected, 0),
        ("\u{feff}1", ByteOrderMark, 0),
    ] {
        assert_eq!(judge(text), Err((rule, at)), "{text:?}");
    }
    assert_eq!(judge_bytes(b"\"a\xff\""), Err((NotUtf8, 2)));
    assert_eq!(judge_bytes(b"{\0\"\0"), Err((Unexpected, 1)), "UTF-16 is no UTF-8");
}

#[test]
fn a_name_stands_once_in_an_object_however_it_is_written() {
    use JsonRule::*;
    assert_eq!(judge(r#"{"a":1,"a":2}"#), Err((DuplicateKey, 7)));
    assert_eq!(judge(r#"{"a":1,"\u0061":2}"#), Err((DuplicateKey, 7)));
    assert_eq!(judge(r#"{"\u0061":1,"a":2}"#), Err((DuplicateKey, 12)));
    assert_eq!(judge(r#"{"":1,"":2}"#), Err((DuplicateKey, 6)));
    assert_eq!(judge(r#"{"x":{"a":1,"b":{"a":1}},"a":[{"a":1},{"a":2}]}"#), Ok(()));
    assert_eq!(judge(r#"[{"b":{"x":1,"x":2}}]"#), Err((DuplicateKey, 13)));
    assert_eq!(judge(r#"{"a\u0000":1}"#), Err((NulInKey, 1)));
    assert_eq!(judge(r#"{"a":"\u0000"}"#), Ok(()));
}

// Checked against the mutants: no sort on close; the sixteenth name not compared; names of a closed
// object kept; names compared as written.
#[test]
fn large_objects_are_checked_when_they_close() {
    let members = |count: usize| {
        (0..count).map(|n| format!("\"k{n}\":{{\"k0\":0}}")).collect::<Vec<_>>().join(",")
    };
    for count in [15, 16, 17, 18, 40, 1000] {
        assert_eq!(judge(&format!("{{{}}}", members(count))), Ok(()), "{count}");
        for again in [0, count / 2, count - 1] {
            let text = format!("{{{},\"\\u006b{again}\":1}}", members(count));
            let at = text.rfind("\"\\u").expect("written above") as u32;
            assert_eq!(judge(&text), Err((JsonRule::DuplicateKey, at)), "{count} {again}");
        }
    }
}

#[test]
fn bounds_hold_at_the_bound_and_not_beyond() {
    let limits = Limits {
        json_depth_max: 8,
        json_members_max: 64,
        json_key_bytes_max: 64,
        ..Limits::default()
    };
    let judge = |text: String| {
        read(text.as_bytes(), &limits, &mut Scratch::new(), &mut Unwatched)
            .map_err(|fault| (fault.rule, fault.at))
    };
    assert_eq!(judge(format!("{}{}", "[".repeat(8), "]".repeat(8))), Ok(()));
    assert_eq!(judge("[".repeat(100_000)), Err((JsonRule::TooDeep, 8)));
    let members = |count| (0..count).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(",");
    assert_eq!(judge(format!("{{{}}}", members(64))), Ok(()));
    let at = format!("{{{},", members(64)).len() as u32;
    assert_eq!(judge(format!("{{{}}}", members(65))), Err((JsonRule::TooManyMembers, at)));
    assert_eq!(judge(format!("{{\"{}\":0}}", "x".repeat(64))), Ok(()));
    assert_eq!(judge(format!("{{\"{}\":0}}", "x".repeat(65))), Err((JsonRule::KeyTooLong, 1)));
}

#[test]
fn texts_say_what_they_say() {
    struct Last(Option<Text>);
    impl Visitor for Last {
        fn string(&mut self, _: u32, text: Text) {
            self.0 = Some(text);
        }
    }
    for (raw, says) in [
        ("\"plain é\"", "plain é"),
        (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r#""\u0041\u00e9\uD83D\uDE00!\u0000""#, "Aé😀!\0"),
    ] {
        let mut last = Last(None);
        read(raw.as_bytes(), &Limits::default(), &mut Scratch::new(), &mut last).expect(raw);
        let text = last.0.expect("a string");
        assert_eq!(text.decode(raw.as_bytes()), says);
        assert!(text.is(raw.as_bytes(), says) && !text.is(raw.as_bytes(), "other"));
        assert_eq!(text.quoted().of(raw.as_bytes()), raw.as_bytes());
    }
}

#[test]
fn a_warm_scratch_does_not_grow() {
    let mut scratch = Scratch::new();
    let text = format!(
        "{{{}}}",
        (0..100).map(|n| format!("\"\\u006b{n}\":[{{}}]")).collect::<Vec<_>>().join(",")
    );
    let limits = Limits::default();
    read(text.as_bytes(), &limits, &mut scratch, &mut Unwatched).expect("valid");
    let warm = scratch.capacity_bytes();
    for _ in 0..10 {
        read(text.as_bytes(), &limits, &mut scratch, &mut Unwatched).expect("valid");
    }
    assert_eq!(scratch.capacity_bytes(), warm);
}

#[test]
fn rules_have_distinct_names() {
    let mut names: Vec<_> = JsonRule::ALL.iter().map(|rule| rule.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), JsonRule::ALL.len());
}
