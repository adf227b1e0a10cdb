//! The pack in every hiding place, over the wire: however an answer is cut on its way, what the client gets is
//! what it gets when it comes whole, and no secret is in it.

mod record_support;

#[path = "guard_support/mod.rs"]
mod support;

#[path = "guard_support/hiding.rs"]
mod hiding;

#[path = "exchange/rig.rs"]
#[expect(dead_code, reason = "each test file uses a part of it")]
mod rig;
#[path = "exchange/script.rs"]
#[expect(dead_code, reason = "each test file uses a part of it")]
mod script;
#[path = "exchange/stage.rs"]
#[expect(dead_code, reason = "each test file uses a part of it")]
mod stage;

use std::collections::VecDeque;

use hiding::{Hiding, answer, reveal};
use rig::{Rig, Served};
use script::{STREAM_HEAD, call, json_answer, read_answer};
use stage::{Plan, Stage};
use stenograph::guard::{Mask, Scanner};
use stenograph::limits::Limits;
use stenograph::record::Level;
use stenograph::types::{Direction, RuleAction};
use support::{Judge, builtin};

/// How a message comes from the server, cut at `at` of its bytes.
#[derive(Debug, Clone, Copy)]
enum Framing {
    /// With its length; two pieces.
    Length,
    /// Two chunks (RFC 9112 §7.1).
    Chunks,
    /// An event of a stream, in two chunks.
    Event,
    /// An event whose data are two lines where that is allowed: at the first comma behind the cut.
    Lines,
}

impl Framing {
    const ALL: [Framing; 4] = [Framing::Length, Framing::Chunks, Framing::Event, Framing::Lines];

    fn serve(self, message: &str, at: usize) -> Served {
        let chunks = |text: &[u8], head: &str| {
            let (front, back) = text.split_at(at.min(text.len()));
            let chunk = |text: &[u8]| match text {
                [] => vec![],
                _ => [format!("{:x}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat(),
            };
            vec![
                [head.as_bytes(), &chunk(front)].concat(),
                [&chunk(back)[..], b"0\r\n\r\n"].concat(),
            ]
        };
        let pieces = match self {
            Framing::Length => {
                let whole = json_answer("", message).into_bytes();
                let (front, back) = whole.split_at(at.min(whole.len()));
                vec![front.to_vec(), back.to_vec()]
            }
            Framing::Chunks => {
                let head = STREAM_HEAD.replace("text/event-stream", "application/json");
                chunks(message.as_bytes(), &head)
            }
            Framing::Event => chunks(format!("data: {message}\n\n").as_bytes(), STREAM_HEAD),
            Framing::Lines => {
                let text =
                    format!("data: {}\n\n", message.replacen(r#","id""#, ",\ndata: \"id\"", 1));
                chunks(text.as_bytes(), STREAM_HEAD)
            }
        };
        Served { pieces, ends: false }
    }
}

struct House {
    stage: Stage,
    token: String,
}

impl House {
    fn new(mask: Mask) -> House {
        let mut stage = Stage::new(Plan { mask, level: Level::Queued, ..Plan::default() });
        let rules = builtin();
        stage.env.scanner = Scanner::new(rules, [5; 32], &Limits::default());
        let token = stage.token("alice", 600);
        House { stage, token }
    }

    /// What a client gets that makes one call after another over one connection.
    fn answers(&mut self, served: impl Iterator<Item = Served>) -> Vec<String> {
        let served: VecDeque<_> = served.collect();
        let mut rig = Rig::new(&mut self.stage);
        let calls = served.len();
        rig.server = Some(served);
        let call = call(&self.token, 7, "echo", "x");
        (0..calls)
            .map(|_| {
                rig.client(call.as_bytes());
                rig.drive(&mut self.stage);
                let answer = read_answer(&mut rig.client_out);
                assert_eq!(answer.status, 200, "{answer:?}");
                match answer.body.find("data: ") {
                    Some(at) if !answer.body.starts_with('{') => {
                        answer.body[at + 6..].trim_end().to_owned()
                    }
                    _ => answer.body,
                }
            })
            .collect()
    }
}

// Every rule in every hiding place at some cuts, one rule in every hiding place at every cut;
// STENOGRAPH_TABLE=all: every rule in every hiding place at every cut, half an hour.
#[test]
fn however_an_answer_is_cut_what_is_masked_is_the_same() {
    let everything = std::env::var("STENOGRAPH_TABLE").is_ok_and(|value| value == "all");
    let rules = builtin();
    let rules: Vec<_> = rules
        .rules()
        .iter()
        .filter(|rule| rule.actions.response == Some(RuleAction::Mask))
        .collect();
    let mut plain = Judge::builtin();
    let mut checked = 0;
    for mask in [Mask::Fill, Mask::Label] {
        let mut house = House::new(mask);
        for (place, &hiding) in Hiding::all().iter().enumerate() {
            for (number, rule) in rules.iter().enumerate() {
                let text = &rule.tests_match[0];
                let message = answer(text, hiding);
                let framings = Framing::ALL.iter().cycle().skip(number + place);
                // 150 bytes stand before the message in the longest framing.
                let ends = message.len() + 150;
                let cuts: Vec<usize> = match everything || number == place {
                    true => (0..ends).collect(),
                    false => vec![(number * 7919 + place * 104_729) % ends],
                };
                let whole = Framing::Length.serve(&message, 0);
                let framed: Vec<_> = cuts.iter().zip(framings).collect();
                let served = framed.iter().map(|(at, framing)| framing.serve(&message, **at));
                let got = house.answers(std::iter::once(whole).chain(served));
                let seen = reveal(&got[0], hiding);
                for finding in plain.scan(text.as_bytes(), Direction::Response) {
                    let secret = &text[finding.span.range()];
                    let masked = finding.action == RuleAction::Mask;
                    assert!(!masked || !seen.contains(secret), "{} {hiding:?}: {seen}", rule.id);
                }
                for (got_cut, (at, framing)) in got[1..].iter().zip(&framed) {
                    // A line end between two members is white space.
                    let same = got_cut.replacen(", \"id\"", ",\"id\"", 1);
                    assert_eq!(same, got[0], "{} {hiding:?} {framing:?} cut at {at}", rule.id);
                    checked += 1;
                }
            }
        }
    }
    println!("{checked} answers, each as when it comes whole");
    assert!(checked > 20_000, "{checked}");
}
