//! Any cut of what arrives gives the same bytes out and the same record.

use stenograph::limits::Limits;

use super::rig::{POISON, Rig, Served};
use super::script::{
    STREAM_HEAD, call, call_body, chunk, event, json_answer, post, progress, result,
};
use super::stage::{FORBIDDEN, PLANTED, Plan, Recorded, Stage};

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
    stage.settle();
    let first = stage.env.recorder.progress().entries();
    let mut rig = Rig::new(stage);
    rig.server = Some(
        one.server
            .iter()
            .map(|(text, ends)| Served { pieces: server.0(text.as_bytes(), server.1), ends: *ends })
            .collect(),
    );
    client.0(one.client.as_bytes(), client.1).iter().for_each(|piece| rig.client(piece));
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
    let mut stage = Stage::new(Plan { limits, ..Plan::default() });
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
