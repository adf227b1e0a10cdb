//! Secrets that come in pieces over the events of one stream: every cut, every delay.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Value, json};
use stenograph::guard::rules::Matcher;
use stenograph::guard::split::{Splits, covered};
use stenograph::guard::{Category, Engine, Mask, Outcome, RuleSet};
use stenograph::limits::Limits;
use stenograph::types::{Direction, RuleAction};
use stenograph::wire::mcp;

#[path = "guard_support/mod.rs"]
mod support;

#[path = "guard_support/hiding.rs"]
mod hiding;

use hiding::{Coding, judge};
use support::{Judge, builtin};

/// A stream as the gateway plays it, without the gateway.
struct Play {
    guard: Judge,
    splits: Splits<String>,
    now_ms: u64,
    /// Texts that went on.
    out: Vec<Value>,
    held: usize,
}

impl Play {
    fn new(guard: Judge) -> Play {
        Play { guard, splits: Splits::default(), now_ms: 1000, out: vec![], held: 0 }
    }

    fn say(&mut self, message: &Value) {
        let text = message.to_string();
        let limits = Limits::default();
        let read =
            mcp::read(text.as_bytes(), Direction::Response, &limits, &mut self.guard.scratch)
                .expect("a message");
        let Judge { scanner, scratch, .. } = &mut self.guard;
        let now_ns = self.now_ms * 1_000_000;
        let heard = self.splits.hear(text.as_bytes(), &read, scanner, scratch, &limits);
        self.splits.take(text, heard.expect("searched"), now_ns, &limits);
        self.release();
        self.held += usize::from(!self.splits.is_empty());
    }

    fn after_ms(&mut self, ms: u64) {
        let then = self.now_ms + ms;
        while let Some(due_ns) = self.splits.deadline_ns(&Limits::default()) {
            if due_ns > then * 1_000_000 {
                break;
            }
            self.splits.give_up();
            self.release();
            assert!(self.splits.deadline_ns(&Limits::default()).is_none_or(|due| due > due_ns));
        }
        self.now_ms = then;
    }

    fn end(&mut self) {
        self.splits.give_up();
        self.release();
        assert!(self.splits.is_empty());
    }

    fn release(&mut self) {
        while let Some((text, covers)) = self.splits.ready() {
            let limits = Limits::default();
            let scratch = &mut self.guard.scratch;
            let read = mcp::read(text.as_bytes(), Direction::Response, &limits, scratch).unwrap();
            let (bytes, findings) =
                covered(text.as_bytes(), &read, &covers, scratch, &limits).expect("covered");
            assert_eq!(covers.is_empty(), findings.is_empty());
            let text = String::from_utf8(bytes.to_vec()).expect("text");
            match judge(&mut self.guard, &text, Direction::Response, Mask::Fill) {
                Outcome::Pass(judgement) => {
                    self.out.push(serde_json::from_slice(&judgement.bytes).expect("JSON"));
                }
                Outcome::Blocked { .. } => {}
                Outcome::Refused(fault) => panic!("{fault:?}: {text}"),
            }
        }
    }

    /// What a client puts together from the pieces.
    fn told(&self) -> String {
        self.out.iter().filter_map(|it| it["params"]["data"].as_str()).collect()
    }
}

fn log(text: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": text}})
}

/// Bytes of a secret that may stand before the cut: what the pattern names, and small letters behind a name that is
/// a word.
const NAMED_BYTES_MAX: usize = 12;

/// Rules that name more, or name nothing before much of the secret: at most so many of a hundred.
const OTHERS_MAX: usize = 15;

/// Rules that are none of these.
const STRICT: [&str; 12] = [
    "anthropic-key",
    "database-uri",
    "gcp-api-key",
    "github-token",
    "gitlab-token",
    "http-auth",
    "jwt",
    "npm-token",
    "openai-key",
    "password-field",
    "slack-token",
    "stripe-live",
];

#[test]
fn a_secret_cut_anywhere_comes_out_nowhere() {
    let rules = builtin();
    let mut guard = Judge::builtin();
    let (mut cuts, mut rules_seen, mut others) = (0, 0, BTreeSet::new());
    for rule in rules.rules() {
        let masks = rule.actions.response == Some(RuleAction::Mask);
        if !masks
            || rule.category == Category::Pii
            || !matches!(rule.matcher, Matcher::Pattern { .. })
        {
            continue;
        }
        rules_seen += 1;
        for text in &rule.tests_match {
            let found = guard.scan(text.as_bytes(), Direction::Response);
            let masked = found.iter().filter(|finding| finding.action == RuleAction::Mask);
            let secret =
                masked.map(|finding| &text[finding.span.range()]).max_by_key(|it| it.len());
            let secret = secret.expect("a secret");
            let every = text.len() / 150 + 1;
            for cut in (1..text.len()).step_by(every).filter(|cut| text.is_char_boundary(*cut)) {
                for delay_ms in [0, 300, 5_000] {
                    let mut play = Play::new(guard);
                    play.say(&log(&format!("before {}", &text[..cut])));
                    play.after_ms(delay_ms);
                    play.say(&log(&format!("{}\n| after", &text[cut..])));
                    play.end();
                    let told = play.told();
                    let place = format!("{} cut at {cut}, {delay_ms} ms: {text}\n{told}", rule.id);
                    assert!(told.starts_with("before ") && told.ends_with("| after"), "{place}");
                    // An escape takes two bytes or more of stars.
                    assert!(told.len() >= text.len() + 15, "{place}");
                    let shows =
                        |part: &[u8]| told.contains(std::str::from_utf8(part).expect("ASCII"));
                    if secret.as_bytes().windows(NAMED_BYTES_MAX + 1).any(shows) {
                        assert!(!STRICT.contains(&&*rule.id), "{place}");
                        // Never all of it.
                        assert!(!told.contains(secret), "{place}");
                        others.insert(rule.id.to_string());
                    }
                    guard = play.guard;
                    cuts += 1;
                }
            }
        }
    }
    println!("{cuts} cuts of {rules_seen} rules; more than the name came out of {others:?}");
    assert!(others.len() * 100 <= rules_seen * OTHERS_MAX, "{others:?}");
    assert!(cuts > 20_000, "{cuts}");
}

/// A way to write one character or all of them, and its name.
type Written = (&'static str, fn(&str) -> String);

/// Those that [`unfolded`] takes off.
fn unit_codings() -> Vec<Written> {
    vec![
        ("percent", |text| Coding::Percent.write(text)),
        ("decimal", |text| Coding::Decimal.write(text)),
        ("decimal-bare", |text| Coding::Decimal.write(text).replace(';', "")),
        ("hexadecimal", |text| Coding::Hexadecimal.write(text)),
        ("named", |text| Coding::Named.write(text)),
        ("spelled", hiding::spelled),
        ("escapes", |text| Coding::Escapes.write(text)),
        ("octal", |text| text.bytes().map(|byte| format!("\\{byte:03o}")).collect()),
        ("braces", |text| text.bytes().map(|byte| format!("\\u{{{byte:x}}}")).collect()),
        ("zero-width", |text| Coding::ZeroWidth.write(text)),
        ("soft-hyphen", |text| Coding::SoftHyphen.write(text)),
        ("soft-hyphen-named", |text| {
            text.chars().flat_map(|c| [c.to_string(), "&shy;".into()]).collect()
        }),
        ("tags", |text| Coding::Tags.write(text)),
        ("fillers", |text| Coding::Fillers.write(text)),
        ("zero-width in percent", |text| Coding::Percent.write(&Coding::ZeroWidth.write(text))),
        ("tags spelled", |text| hiding::spelled(&Coding::Tags.write(text))),
        ("percent in percent", |text| Coding::Percent.write(&Coding::Percent.write(text))),
        ("spelled in JSON", |text| hiding::spelled(text).replace('\\', "\\\\")),
        ("decimal in named", |text| Coding::Decimal.write(text).replace('&', "&amp;")),
    ]
}

/// What a reader makes of `text` who takes off all that [`unit_codings`] writes.
fn unfolded(text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..4 {
        text = text.replace("&shy;", "").replace("\\\\", "\\");
        for unit in (0..=255u8).rev() {
            let c = char::from(unit).to_string();
            text = text.replace(&format!("\\u{{{unit:x}}}"), &c);
            text = text.replace(&format!("\\{unit:03o}"), &c);
            text = text.replace(&format!("&#{unit};"), &c);
            text = text.replace(&format!("\\u{unit:04x}"), &c);
        }
        for unit in (0..=255u8).rev() {
            text = text.replace(&format!("&#{unit}"), &char::from(unit).to_string());
        }
        for unseen in ["\\udb40\\udc01", "\\ufeff"] {
            text = text.replace(unseen, "");
        }
        for coding in [Coding::Escapes, Coding::Hexadecimal, Coding::ZeroWidth] {
            text = coding.read(&text);
        }
    }
    text
}

/// Letters of the secret in a row that nobody may read behind a cut.
const READ_BYTES_MAX: usize = 7;

/// Texts with a secret: the text before it, the secret, and what stands behind it.
const ENCODED: [(&str, &str, &str); 3] = [
    ("before ", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", " after"),
    ("{\"client_secret\": \"", "hunTer2-9fK3x_Q81", "\"} after"),
    ("Authorization: Bearer ", "mF9.B5f4.1JqMzz81kWq", " after"),
];

// One unit in the first event, and it went out bare. Mutants: no `find_below`; none without what is cut; one level only.
#[test]
fn a_secret_written_in_units_and_cut_anywhere_comes_out_nowhere() {
    let mut guard = Judge::builtin();
    let mut cuts = 0;
    for (number, (before, secret, after)) in ENCODED.into_iter().enumerate() {
        let middle = secret.len() / 2;
        let part = |at: Range<usize>| (format!("{before}{}", &secret[..at.start]), at.clone());
        for (name, write) in unit_codings() {
            // All of it, a letter of its name, one of its own, and the one before the last.
            let mut texts = vec![
                format!("{before}{}{after}", write(secret)),
                write(&format!("{before}{secret}{after}")),
            ];
            for at in [1, middle, secret.len() - 2] {
                let (front, at) = part(at..at + 1);
                let back = &secret[at.end..];
                // Its digits would go on.
                if name == "decimal-bare" && back.starts_with(|c: char| c.is_ascii_digit()) {
                    continue;
                }
                texts.push(format!("{front}{}{back}{after}", write(&secret[at])));
            }
            for (which, text) in texts.iter().enumerate() {
                assert!(unfolded(text).contains(secret), "{name}: {text}");
                let every = match (number, name.contains(' ')) {
                    (0, false) => 1,
                    (0, true) => 3,
                    _ => 11,
                };
                for cut in (1..text.len()).step_by(every).filter(|cut| text.is_char_boundary(*cut))
                {
                    for delay_ms in [0, 5_000] {
                        let mut play = Play::new(guard);
                        play.say(&log(&text[..cut]));
                        play.after_ms(delay_ms);
                        play.say(&log(&text[cut..]));
                        play.end();
                        read_nowhere(
                            &play,
                            secret,
                            &format!("{name} {which} cut at {cut}, {delay_ms} ms: {text}"),
                        );
                        // What stands around it is not covered.
                        let told = play.told();
                        if which != 1 {
                            // The quote that ends a value is waited for.
                            let after = after.trim_start_matches('"');
                            assert!(told.starts_with(before) && told.ends_with(after), "{told}");
                        }
                        guard = play.guard;
                        cuts += 1;
                    }
                }
                // Letter by letter.
                for delay_ms in [0, 5_000] {
                    let mut play = Play::new(guard);
                    for letter in text.chars() {
                        play.say(&log(&letter.to_string()));
                        play.after_ms(delay_ms);
                    }
                    play.end();
                    read_nowhere(
                        &play,
                        secret,
                        &format!("{name} {which} by letters, {delay_ms} ms: {text}"),
                    );
                    guard = play.guard;
                }
            }
        }
    }
    println!("{cuts} cuts");
    assert!(cuts > 20_000, "{cuts}");
}

// Each letter in another coding, in many pieces, some of which wait too long. Mutant: no `find_below`.
#[test]
fn a_secret_written_in_many_codings_and_pieces_comes_out_nowhere() {
    let runs = std::env::var("STENOGRAPH_SPLIT_RUNS").ok().and_then(|runs| runs.parse().ok());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |end: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end
    };
    let codings = unit_codings();
    let codings: Vec<_> = codings.into_iter().filter(|(name, _)| *name != "decimal-bare").collect();
    let mut guard = Judge::builtin();
    for _ in 0..runs.unwrap_or(1_000) {
        let (before, secret, after) = ENCODED[below(ENCODED.len())];
        let every = 1 + below(12);
        let mut write = |text: &str| -> String {
            let mut one = |c: char| match below(every) {
                0 => codings[below(codings.len())].1(&c.to_string()),
                _ => c.to_string(),
            };
            text.chars().map(&mut one).collect()
        };
        let text = write(before) + &write(secret) + after;
        assert!(unfolded(&text).contains(secret), "{text}");
        let mut play = Play::new(guard);
        let (mut rest, mut told) = (&text[..], vec![]);
        while !rest.is_empty() {
            let mut cut = 1 + below(rest.len());
            while !rest.is_char_boundary(cut) {
                cut += 1;
            }
            let (piece, behind) = rest.split_at(cut);
            play.say(&log(piece));
            let delay_ms = [0, 0, 300, 5_000][below(4)];
            play.after_ms(delay_ms);
            told.push((piece, delay_ms));
            rest = behind;
        }
        play.end();
        read_nowhere(&play, secret, &format!("{told:?}"));
        guard = play.guard;
    }
}

// Mutant: no `find_below`.
#[test]
fn a_known_value_written_in_units_and_cut_anywhere_comes_out_nowhere() {
    let secret = "tr0mb0ne-marmalade-93";
    let rules =
        RuleSet::compile(&[], false, &[("vault".to_owned(), secret.into())]).expect("compiles");
    let mut guard = Judge::new(rules, Engine::Expressions);
    for (name, write) in unit_codings() {
        let text = format!("it is {}, yes", write(secret));
        for cut in (1..text.len()).step_by(3).filter(|cut| text.is_char_boundary(*cut)) {
            for delay_ms in [0, 5_000] {
                let mut play = Play::new(guard);
                play.say(&log(&text[..cut]));
                play.after_ms(delay_ms);
                play.say(&log(&text[cut..]));
                play.end();
                read_nowhere(&play, secret, &format!("{name} cut at {cut}, {delay_ms} ms: {text}"));
                guard = play.guard;
            }
        }
    }
}

// What is whole is masked where it stands. Mutant: `window.len()` instead of `begun.end` in `Channel::hear`.
#[test]
fn a_whole_secret_is_not_held_for_what_nobody_sees_behind_it() {
    let (_, secret, _) = ENCODED[0];
    for text in ["gh&#112;_", "ghp_"].map(|named| secret.replace("ghp_", named)) {
        for behind in ["", "\u{200b}", "&shy;", "%"] {
            let mut play = Play::new(Judge::builtin());
            play.say(&log(&format!("it is {text}{behind}")));
            assert_eq!((play.held, play.out.len()), (0, 1), "{text}{behind}");
            read_nowhere(&play, secret, &text);
        }
    }
}

/// Nobody who puts together what `play` let out reads `secret`.
fn read_nowhere(play: &Play, secret: &str, place: &str) {
    for told in [play.told(), unfolded(&play.told())] {
        let shows = |part: &[u8]| told.contains(std::str::from_utf8(part).expect("ASCII"));
        assert!(!secret.as_bytes().windows(READ_BYTES_MAX + 1).any(shows), "{place}\n{told}");
    }
}

/// Texts as servers say them in progress and log notifications.
fn ordinary() -> Vec<Vec<String>> {
    let lines = |make: &dyn Fn(usize) -> String| (0..400).map(make).collect::<Vec<_>>();
    let hash = |n: usize| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) as u64;
    let deltas = |text: &str, step: usize| {
        let letters: Vec<char> = text.chars().collect();
        letters.chunks(step).map(|chunk| chunk.iter().collect()).collect::<Vec<String>>()
    };
    let code = include_str!("../src/guard/split.rs");
    let prose = include_str!("../README.md");
    vec![
        lines(&|n| format!("Processed {n} of 400 files")),
        lines(&|n| {
            format!("[{}s] GET https://api.example.com:8443/v1/items/{:x}?page={n} 200", n, hash(n))
        }),
        lines(&|n| format!("commit {:016x}{:016x}{:08x}", hash(n), hash(n + 1), n)),
        lines(&|n| {
            format!(
                "2026-11-23T00:{:02}:{:02}Z INFO worker-{n} listening on http://localhost:{}",
                n % 60,
                n % 59,
                3000 + n
            )
        }),
        lines(&|n| format!("checkout src/path{n}/pattern.rs (secret_key, api_key={{{{vault}}}})")),
        lines(&|n| format!("connected to postgres://db-{n}:5432")),
        lines(&|n| {
            format!(
                "uuid {:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
                n * 7919,
                n,
                n % 4096,
                n % 4095,
                hash(n) >> 16
            )
        }),
        lines(&|n| format!("{}%", n / 4)),
        lines(&|n| {
            ["token", "the password", "task-list", "sk", "eyes", "api-key rotated", "Bearer"][n % 7]
                .to_owned()
        }),
        lines(&|n| {
            format!(
                "data {}",
                &"TWFuIGlzIGRpc3Rpbmd1aXNoZWQsIG5vdCBvbmx5IGJ5IGhpcyByZWFzb24"[n % 40..]
            )
        }),
        lines(&|n| {
            format!("see https://example.com/a%20b/%C3%A4?q={n}&amp;lang=de&amp;page=%2F{n}")
        }),
        lines(&|n| format!("Tom &amp; Jerry &lt;{n}&gt; &nbsp;&#8211; &quot;done&quot; AT&T 50%")),
        lines(&|n| {
            format!("step {n} ❤\u{fe0f} done ✔\u{fe0f} \u{200b}zero\u{ad}width 👨\u{200d}👩")
        }),
        lines(&|n| format!("C:\\new\\table\\{n}\\users \\d+ \\\\server\\share\\")),
        lines(&|n| {
            json!({"text": format!("a \"quoted\" word {n}\n\tpath%2Fto%{n:02x}&a")}).to_string()
        }),
        deltas(&json!({"text": json!({"inner": code}).to_string()}).to_string(), 7),
        deltas(&prose.replace('&', "&amp;").replace('`', "&#96;").replace(' ', "%20"), 6),
        deltas(code, 4),
        deltas(prose, 5),
        deltas(prose, 80),
        deltas(code, 200),
    ]
}

// What is held of ordinary streams, and what looking costs: `cargo test --test guard_split ordinary -- --nocapture`.
#[test]
fn ordinary_events_are_not_held() {
    let (mut all, mut held, mut masked) = (0, 0, 0);
    let mut guard = Judge::builtin();
    for texts in ordinary() {
        let mut play = Play::new(guard);
        let start = std::time::Instant::now();
        for text in &texts {
            play.say(&log(text));
            play.after_ms(100);
        }
        let took = start.elapsed();
        play.end();
        let covered = play.told() != texts.concat();
        println!(
            "{} of {} events held, changed: {covered}, {:.1} µs an event: {:?}",
            play.held,
            texts.len(),
            took.as_secs_f64() * 1e6 / texts.len() as f64,
            texts[7]
        );
        all += texts.len();
        held += play.held;
        masked += usize::from(covered);
        guard = play.guard;
    }
    println!("{held} of {all} events held; texts of {masked} streams changed");
    assert!(all > 14_000, "{all}");
    assert_eq!((held, masked), (0, 0));
}

// With sixteen begun secrets at once the seventeenth let the first go as it stood.
#[test]
fn a_channel_that_is_forgotten_lets_nothing_out_bare() {
    let begun = "ghp_16C7e42F292c6912E7710c83";
    let mut play = Play::new(Judge::builtin());
    for token in 0..40 {
        let params = json!({"progressToken": token, "progress": 1, "message": begun});
        play.say(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}));
    }
    play.end();
    assert_eq!(play.out.len(), 40);
    for message in &play.out {
        let told = message["params"]["message"].as_str().expect("a message");
        assert!(!told.contains(&begun[..12]), "{told}");
    }
    // And in one message, whose strings are a channel each.
    let mut play = Play::new(Judge::builtin());
    let many: Vec<String> = (0..40).map(|_| format!("x {begun}")).collect();
    play.say(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": many}}));
    play.end();
    assert_eq!(play.out.len(), 1);
    assert!(!play.out[0].to_string().contains(&begun[..12]), "{}", play.out[0]);
}
