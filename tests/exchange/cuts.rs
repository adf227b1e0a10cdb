//! Any cut of what arrives gives the same bytes out and the same record.

use stenograph::guard::Opaque;
use stenograph::limits::Limits;

use super::opaque::{picture, says, shows};
use super::rig::{POISON, Rig, Served};
use super::script::{
    STREAM_HEAD, call, call_body, chunk, event, json_answer, post, progress, result,
};
use super::stage::{FORBIDDEN, PLANTED, Plan, Recorded, Stage};
use super::vectors::cases;

struct Conversation {
    name: &'static str,
    client: String,
    server: Vec<(String, bool)>,
}

fn conversations(token: &str) -> Vec<Conversation> {
    let chunked = {
        let body = call_body(1, "echo", PLANTED);
        let (front, back) = body.split_at(40);
        let head =
            post(token, "Transfer-Encoding: chunked\r\n", "").replace("Content-Length: 0\r\n", "");
        format!("{head}28\r\n{front}\r\n{:x}\r\n{back}\r\n0\r\n\r\n", back.len())
    };
    let chunked_answer = {
        let body = result(1, &format!("a {PLANTED} b"));
        let (front, back) = body.split_at(50);
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
             32\r\n{front}\r\n{:x}\r\n{back}\r\n0\r\n\r\n",
            back.len()
        )
    };
    let stream = STREAM_HEAD.to_owned()
        + &event(&progress(1))
        + &chunk(
            ": beat\n\nid: 9\nretry: 5\ndata: {\"jsonrpc\":\"2.0\",\ndata: \"method\":\"notifications/x\"}\n\n",
        )
        + &event(&result(2, &format!("say {PLANTED}")))
        + "0\r\n\r\n";
    vec![
        Conversation {
            name: "pipelined: masked, denied, blocked, masked in the answer",
            client: call(token, 1, "echo", PLANTED)
                + &call(token, 2, "deploy", "x")
                + &call(token, 3, "echo", FORBIDDEN)
                + &call(token, 4, "echo", "x"),
            server: vec![
                (json_answer("", &result(1, PLANTED)), false),
                (json_answer("", &result(4, &format!("{PLANTED} {PLANTED}"))), false),
            ],
        },
        Conversation {
            name: "chunked both ways, then a stream",
            client: chunked + &call(token, 2, "echo", "x"),
            server: vec![(chunked_answer, false), (stream, false)],
        },
        Conversation {
            name: "an answer that breaks off, a wrong id, a stream that breaks off",
            client: call(token, 1, "echo", "x")
                + &call(token, 2, "echo", "x")
                + &call(token, 3, "echo", "x"),
            server: vec![
                (json_answer("", &result(1, "x")).replace("\"}]}}", ""), true),
                (json_answer("", &result(9, "x")), false),
                (STREAM_HEAD.to_owned() + &event(&progress(1)) + "fff\r\ndata: {", true),
            ],
        },
        Conversation {
            name: "a head that cannot be trusted, behind a good request",
            client: call(token, 1, "deploy", "x")
                + "POST /codegen HTTP/1.1\r\nHost: g\r\nX : y\r\n\r\n",
            server: vec![],
        },
        Conversation {
            name: "pictures: asked with one, told, blocked in an answer and on a stream",
            client: post(token, "", &call_body(1, "draw", "x").replace("\"x\"", &picture("image")))
                + &call(token, 2, "echo", "x")
                + &call(token, 3, "draw", "x")
                + &call(token, 4, "echo", "x"),
            server: vec![
                (json_answer("", &shows(2, &picture("image"))), false),
                (json_answer("", &shows(3, &picture("audio"))), false),
                (
                    STREAM_HEAD.to_owned()
                        + &event(&says(&picture("image")))
                        + &event(&shows(4, &picture("audio")))
                        + "0\r\n\r\n",
                    false,
                ),
            ],
        },
    ]
}

type Cut = fn(&[u8], usize) -> Vec<Vec<u8>>;

fn whole(bytes: &[u8], _: usize) -> Vec<Vec<u8>> {
    vec![bytes.to_vec()]
}

fn in_two(bytes: &[u8], at: usize) -> Vec<Vec<u8>> {
    let (front, back) = bytes.split_at(at.min(bytes.len()));
    vec![front.to_vec(), back.to_vec()]
}

fn in_bytes(bytes: &[u8], _: usize) -> Vec<Vec<u8>> {
    bytes.iter().map(|byte| vec![*byte]).collect()
}

struct Played {
    out: Vec<u8>,
    requests: Vec<Vec<u8>>,
    drops: Vec<bool>,
    ends: bool,
    entries: (u64, u64),
}

fn play(
    stage: &mut Stage,
    one: &Conversation,
    client: (Cut, usize),
    server: (Cut, usize),
) -> Played {
    let served: Vec<_> =
        one.server.iter().map(|(text, ends)| (text.as_bytes().to_vec(), *ends)).collect();
    play_bytes(stage, one.client.as_bytes(), &served, client, server)
}

fn play_bytes(
    stage: &mut Stage,
    sent: &[u8],
    served: &[(Vec<u8>, bool)],
    client: (Cut, usize),
    server: (Cut, usize),
) -> Played {
    stage.settle();
    let first = stage.env.recorder.progress().entries();
    let mut rig = Rig::new(stage);
    rig.server = Some(
        served
            .iter()
            .map(|(text, ends)| Served { pieces: server.0(text, server.1), ends: *ends })
            .collect(),
    );
    client.0(sent, client.1).iter().for_each(|piece| rig.client(piece));
    rig.drive(stage);
    stage.settle();
    let last = stage.env.recorder.progress().entries();
    assert!(!rig.client_out.contains(&POISON));
    assert!(!rig.requests.iter().any(|request| request.contains(&POISON)));
    Played {
        out: rig.client_out,
        requests: rig.requests,
        drops: rig.drops.into(),
        ends: rig.shut || rig.closed,
        entries: (first, last),
    }
}

/// The exchange ids differ from play to play; everything else must not.
fn without_ids(bytes: &[u8], ids: &[String]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    ids.iter().enumerate().fold(text, |text, (index, id)| text.replace(id, &format!("<{index}>")))
}

fn normal(played: &Played, record: &[Recorded]) -> (Vec<String>, Vec<String>) {
    let (first, last) = played.entries;
    let entries: Vec<_> =
        record.iter().filter(|entry| (first..last).contains(&entry.sequence)).collect();
    let mut ids: Vec<String> = Vec::new();
    for entry in &entries {
        let id = entry.exchange.unwrap().to_string();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let mut sent =
        vec![without_ids(&played.out, &ids), format!("{:?} {}", played.drops, played.ends)];
    sent.extend(played.requests.iter().map(|request| without_ids(request, &ids)));
    let recorded = entries
        .iter()
        .map(|entry| {
            assert!(
                !entry
                    .parts
                    .iter()
                    .any(|(_, bytes)| bytes.iter().flatten().any(|byte| *byte == POISON))
            );
            let id = entry.exchange.unwrap().to_string();
            let exchange = ids.iter().position(|known| *known == id).unwrap();
            let head = format!("{exchange} {:?} {} {} ", entry.kind, entry.ordinal, entry.status);
            head + &without_ids(entry.text().as_bytes(), &ids)
        })
        .collect();
    (sent, recorded)
}

// Checked against the mutant "what arrives behind an unfinished request takes its place" in
// `take_back`.
#[test]
fn any_cut_gives_the_same_bytes_and_the_same_record() {
    // All plays come from one address; none of their refusals may end as a mere count.
    let limits = Limits { refusals_each_max: u64::MAX, ..Limits::default() };
    let (opaque, also) = (Opaque::Alert, vec![("draw", Opaque::Block)]);
    let mut stage = Stage::new(Plan { limits, opaque, also, ..Plan::default() });
    let token = stage.token("alice", 600);
    for one in conversations(&token) {
        let expected = play(&mut stage, &one, (whole, 0), (whole, 0));
        let longest = one.server.iter().map(|(text, _)| text.len()).max().unwrap_or(0);
        let mut plays = vec![
            ("client bytes".to_owned(), play(&mut stage, &one, (in_bytes, 0), (whole, 0))),
            ("server bytes".to_owned(), play(&mut stage, &one, (whole, 0), (in_bytes, 0))),
            ("all bytes".to_owned(), play(&mut stage, &one, (in_bytes, 0), (in_bytes, 0))),
        ];
        for at in 1..one.client.len() {
            plays.push((
                format!("client at {at}"),
                play(&mut stage, &one, (in_two, at), (whole, 0)),
            ));
        }
        for at in 1..longest {
            plays.push((
                format!("server at {at}"),
                play(&mut stage, &one, (whole, 0), (in_two, at)),
            ));
        }
        let record = stage.record();
        let expected = normal(&expected, &record);
        assert!(!expected.1.is_empty());
        for (cut, played) in &plays {
            let (sent, recorded) = normal(played, &record);
            assert_eq!(sent, expected.0, "{}: {cut}", one.name);
            assert_eq!(recorded, expected.1, "{}: {cut}", one.name);
        }
    }
}

/// A conversation for each vector: as a head, as a body, as an answer or as a stream.
fn of_vectors(token: &str) -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    let asks = call(token, 1, "echo", "x").into_bytes();
    for case in cases("http1/requests.txt") {
        all.push((case.name.clone(), case.input, Vec::new()));
    }
    for case in cases("http1/responses.txt") {
        all.push((case.name.clone(), asks.clone(), case.input));
    }
    for case in cases("http1/chunks.txt") {
        let head = post(token, "Transfer-Encoding: chunked\r\n", "")
            .replace("Content-Length: 0\r\n", "")
            .into_bytes();
        all.push((case.name.clone(), [head, case.input.clone()].concat(), Vec::new()));
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        all.push((case.name.clone(), asks.clone(), [head.as_bytes(), &case.input].concat()));
    }
    for file in ["json/texts.txt", "mcp/from-client.txt", "mcp/from-server.txt"] {
        // The vectors at a bound are long; what they show is no matter of cuts.
        for case in cases(file).into_iter().filter(|case| case.input.len() < 2000) {
            let length = format!("Content-Length: {}\r\n\r\n", case.input.len());
            let head = post(token, "", "").replace("Content-Length: 0\r\n\r\n", &length);
            all.push((case.name.clone(), [head.as_bytes(), &case.input].concat(), Vec::new()));
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{length}");
            all.push((case.name.clone(), asks.clone(), [head.as_bytes(), &case.input].concat()));
        }
    }
    for case in cases("sse/streams.txt").into_iter().filter(|case| case.input.len() < 2000) {
        let chunk = format!("{:x}\r\n", case.input.len().max(1));
        let body: &[u8] = if case.input.is_empty() { b"\n" } else { &case.input };
        let stream = [STREAM_HEAD.as_bytes(), chunk.as_bytes(), body, b"\r\n0\r\n\r\n"].concat();
        all.push((case.name.clone(), asks.clone(), stream));
    }
    all
}

/// What an entry says but for counts of bytes: how much had come when a fault was seen depends on the cut.
fn verdict(entry: &str) -> String {
    let words: Vec<&str> = entry.splitn(5, ' ').collect();
    let said = ["decision", "reason", "outcome", "code", "at"].map(|name| {
        let at = entry.find(&format!("\"{name}\":"));
        at.map_or("", |at| entry[at..].split([',', '}']).next().unwrap_or_default())
    });
    format!("{} {}", words[..4].join(" "), said.join(" "))
}

/// A comment as it goes out.
const COMMENT: &str = "3\r\n:\n\n\r\n";

/// How many of the comments in a row arrive together, and are one, depends on the cut: each run is taken for
/// one, and where there is any, entries are told apart without their numbers.
fn one_for_a_run(sent: &mut [String], verdicts: &mut Vec<String>) {
    if !sent[0].contains(COMMENT) {
        return;
    }
    while sent[0].contains(&COMMENT.repeat(2)) {
        sent[0] = sent[0].replace(&COMMENT.repeat(2), COMMENT);
    }
    for verdict in verdicts.iter_mut() {
        let words: Vec<&str> = verdict.split(' ').collect();
        *verdict = [&words[..2], &words[3..]].concat().join(" ");
    }
    verdicts.dedup_by(|next, entry| next == entry && next.contains("Event"));
}

// Checked against the mutants "a line feed at the start of a piece ends a line" (`after_cr` is forgotten),
// "the size of a chunk is what the last piece says of it" and "half a byte order mark is forgotten".
#[test]
fn every_vector_gives_the_same_bytes_and_the_same_verdicts_at_any_cut() {
    let limits = Limits { refusals_each_max: u64::MAX, ..Limits::default() };
    let mut stage = Stage::new(Plan { limits, ..Plan::default() });
    let token = stage.token("alice", 600);
    let mut plays = Vec::new();
    for (number, (name, sent, answer)) in of_vectors(&token).into_iter().enumerate() {
        let served = [(answer.clone(), true)];
        let mut one = |client, server| play_bytes(&mut stage, &sent, &served, client, server);
        // Where the odd part stands, and places that change from vector to vector.
        let (near, far) = (sent.len().saturating_sub(1 + number % 60), answer.len() / 2);
        let all = vec![
            one((whole, 0), (whole, 0)),
            one((in_bytes, 0), (in_bytes, 0)),
            one((in_two, near), (in_two, far)),
            one((in_two, sent.len() / 2), (in_two, answer.len().saturating_sub(number % 60))),
        ];
        plays.push((name, all));
    }
    let record = stage.record();
    assert!(plays.len() > 300, "{} vectors", plays.len());
    for (name, all) in &plays {
        let verdicts = |played: &Played| {
            let (mut sent, recorded) = normal(played, &record);
            let mut verdicts = recorded.iter().map(|entry| verdict(entry)).collect();
            one_for_a_run(&mut sent, &mut verdicts);
            (sent, verdicts)
        };
        let expected = verdicts(&all[0]);
        for (cut, played) in all.iter().enumerate() {
            assert_eq!(verdicts(played), expected, "{name}: cut {cut}");
        }
    }
}

/// Events of one length, each in a chunk of its own but for every third.
fn many_events(count: u32) -> (String, usize) {
    let mut stream = STREAM_HEAD.to_owned();
    let mut waiting = String::new();
    let mut bytes = 0;
    for step in 100..100 + count {
        let event = format!("event: message\ndata: {}\n\n", progress(step));
        bytes = event.len();
        waiting += &event;
        if step % 3 != 0 {
            stream += &chunk(&std::mem::take(&mut waiting));
        }
    }
    (stream + &chunk(&waiting).replace("0\r\n\r\n", "") + "0\r\n\r\n", bytes)
}

// Checked against the mutants "what arrived counts" (`upstream_bytes` is compared as each piece comes in)
// and "the event that crosses the bound goes out" (the whole payload is read).
#[test]
fn a_stream_over_its_bound_ends_behind_the_same_event_at_any_cut() {
    let (stream, event_bytes) = many_events(20);
    for spare in [0, 1, event_bytes / 2, event_bytes - 1] {
        let allowed = (12 * event_bytes + spare) as u64;
        let limits =
            Limits { refusals_each_max: u64::MAX, stream_bytes_max: allowed, ..Limits::default() };
        let mut stage = Stage::new(Plan { limits, ..Plan::default() });
        let token = stage.token("alice", 600);
        let asks = call(&token, 1, "echo", "x").into_bytes();
        let served = [(stream.clone().into_bytes(), false)];
        let mut plays = vec![
            play_bytes(&mut stage, &asks, &served, (whole, 0), (whole, 0)),
            play_bytes(&mut stage, &asks, &served, (whole, 0), (in_bytes, 0)),
        ];
        for at in (1..stream.len()).step_by(11) {
            plays.push(play_bytes(&mut stage, &asks, &served, (whole, 0), (in_two, at)));
        }
        let record = stage.record();
        let verdicts = |played: &Played| {
            let (sent, recorded) = normal(played, &record);
            (sent, recorded.iter().map(|entry| verdict(entry)).collect::<Vec<_>>())
        };
        let expected = verdicts(&plays[0]);
        let out = String::from_utf8_lossy(&plays[0].out).into_owned();
        assert_eq!(out.matches("notifications/progress").count(), 12, "{spare}: {out}");
        assert!(out.contains("\"code\":-31003") && out.ends_with("0\r\n\r\n"), "{out}");
        for (cut, played) in plays.iter().enumerate() {
            assert_eq!(verdicts(played), expected, "{spare} to spare, cut {cut}");
        }
    }
}
