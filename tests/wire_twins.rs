//! The readers against their naive twins, and the properties of `wire::check`, on random input.

mod twins;

use proptest::collection::vec;
use proptest::prelude::*;
use stenograph::limits::Limits;
use stenograph::types::Direction;
use stenograph::wire::body::{Decoder, Step};
use stenograph::wire::head::Framing;
use stenograph::wire::{check, json, mcp, sse};
use twins::{chunk_twin, has_duplicate, sse_twin};

/// The pieces that event streams are made of, and what lies beside them.
fn stream() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("data:"),
        Just("data: "),
        Just("data"),
        Just("id:"),
        Just("id: 7"),
        Just("event: e"),
        Just("event:"),
        Just("retry: 5"),
        Just("retry:x"),
        Just(":"),
        Just(": c"),
        Just(" "),
        Just("a"),
        Just("é"),
        Just("\u{feff}"),
        Just("{\"a\":1}"),
        Just("\n"),
        Just("\r"),
        Just("\r\n"),
        Just("\n\n"),
        Just("\r\r"),
        Just("\r\n\r\n"),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn sse_cut(stream: &[u8], at: &[usize]) -> Vec<sse::Item> {
    let (mut reader, mut items, mut start) = (sse::Reader::new(), Vec::new(), 0);
    let ends = at.iter().copied().chain([stream.len()]);
    for end in ends {
        while start < end {
            let (used, item) = match reader.read(&stream[start..end], &Limits::default()) {
                Ok(read) => read,
                Err(fault) => {
                    assert_eq!(fault.rule, sse::SseRule::NameText, "nothing else is bad in it");
                    return items;
                }
            };
            start += used;
            items.extend(item);
        }
    }
    items
}

fn chunks_cut(body: &[u8], size: usize) -> Option<Vec<u8>> {
    let (mut decoder, mut payload, mut at) = (Decoder::new(Framing::Chunked), Vec::new(), 0);
    while at < body.len() {
        let piece = &body[at..body.len().min(at + size)];
        match decoder.step(piece).ok()? {
            Step::Data(span) => {
                payload.extend_from_slice(span.of(piece));
                at += span.end();
            }
            Step::Skip(used) => at += used,
            Step::More => return None,
            Step::End { .. } => break,
        }
    }
    decoder.is_done().then_some(payload)
}

/// JSON with every kind of value; names collide now and then, and now and then something is wrong.
fn json_text() -> impl Strategy<Value = String> {
    const GOOD: &[&str] = &["1", "-0.5e+3", "null", "true", "\"s\"", r#""\ud83d\ude00\n""#];
    const BAD: &[&str] = &[r#""\ud83d""#, "01", "nul", "\"\t\"", "tru", "\"", "[", "1,", "1e999"];
    let leaf = prop_oneof![
        60 => proptest::sample::select(GOOD),
        1 => proptest::sample::select(BAD),
    ];
    let name = prop_oneof![
        4 => (0u8..26).prop_map(|n| char::from(b'a' + n).to_string()),
        1 => (0u8..26).prop_map(|n| format!("\\u00{:02x}", b'a' + n)),
        1 => proptest::sample::select(&["method", "id", "params", "Name", "tools", "é"][..])
            .prop_map(str::to_string),
    ];
    leaf.prop_map(str::to_string).prop_recursive(3, 60, 24, move |inner| {
        let members = prop_oneof![3 => 0usize..4, 1 => 14usize..24].prop_flat_map({
            let pair = (name.clone(), inner.clone());
            move |count| vec(pair.clone(), count)
        });
        // One object in four says one of its names again at the end, mostly spelt otherwise.
        let object = (members, 0..4, any::<usize>()).prop_map(|(mut members, again, pick)| {
            let mut seen = std::collections::HashSet::new();
            members.retain(|(name, _)| seen.insert(plain(name)));
            if again == 0 && !members.is_empty() {
                let (name, value) = members[pick % members.len()].clone();
                let units = plain(&name).encode_utf16().map(|u| format!("\\u{u:04x}")).collect();
                members.push((if pick % 3 > 0 { units } else { name }, value));
            }
            let members: Vec<_> =
                members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
            format!("{{{}}}", members.join(","))
        });
        prop_oneof![vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(" ,"))), object]
    })
}

/// The name without its escape.
fn plain(name: &str) -> String {
    serde_json::from_str(&format!("\"{name}\"")).expect("a good name")
}

/// Bytes like those of heads.
fn head_bytes() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&[u8]] = &[
        b"POST ",
        b"GET /a HTTP/1.1\r\n",
        b"/mcp",
        b" HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 ",
        b"Host: h\r\n",
        b"Host:",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"X: y\r\n",
        b"Connection: close\r\n",
        b"Mcp-Name: a\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b"\t",
        b":",
        b"\0",
        b"\xff",
        b"a_b",
    ];
    let random = vec(proptest::sample::select(PIECES), 0..14).prop_map(|pieces| pieces.concat());
    let likely = vec(0usize..10, 0..8).prop_map(|picks| {
        const LINES: [&[u8]; 10] = [
            b"Content-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"X-y:z \r\n",
            b"Connection: close, x\r\n",
            b"Mcp-Name: a\r\n",
            b"Mcp-Param-A: \t b\r\n",
            b"Expect: 100-continue\r\n",
            b"User-Agent: \xff\r\n",
            b"a_b: c\r\n",
            b"Accept:\r\n",
        ];
        let mut head = b"POST /mcp?x HTTP/1.1\r\nHost: h\r\n".to_vec();
        picks.iter().for_each(|pick| head.extend_from_slice(LINES[*pick]));
        head.extend_from_slice(b"\r\nrest");
        head
    });
    prop_oneof![random, likely]
}

fn chunk_bytes() -> impl Strategy<Value = Vec<u8>> {
    // Some stand more than once: they are wanted more often.
    const PIECES: &[&[u8]] = &[
        b"3\r\nabc\r\n",
        b"3\r\nabc\r\n",
        b"3\r\nabc\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n",
        b"0\r\n",
        b"\r\n",
        b"\r\n",
        b"1",
        b"a",
        b"00",
        b"\r",
        b"\n",
        b";",
        b"X: y\r\n",
        b" ",
        b"10\r\n0123456789abcdef\r\n",
    ];
    vec(proptest::sample::select(PIECES), 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    // Mutants this was checked against: `after_cr` not kept between reads; a value kept with its
    // space; the name not reset by an empty one; no byte order mark dropped.
    #[test]
    fn streams_read_as_by_splitting(stream in stream(), mut at in vec(0usize..200, 0..5)) {
        at.iter_mut().for_each(|at| *at = (*at).min(stream.len()));
        at.sort_unstable();
        prop_assert_eq!(sse_cut(stream.as_bytes(), &at), sse_twin(&stream));
        check::events(stream.as_bytes(), &at);
    }

    #[test]
    fn chunks_read_as_by_collecting(body in chunk_bytes(), size in 1usize..9) {
        prop_assert_eq!(chunks_cut(&body, size), chunk_twin(&body));
        check::body(&[&[2], &body[..]].concat(), &[size, size + 2]);
    }

    // Mutants this was checked against: names compared as written; no check beyond sixteen names.
    #[test]
    fn duplicate_names_are_found_as_by_a_tree(text in json_text()) {
        let read = json::read(
            text.as_bytes(), &Limits::default(), &mut json::Scratch::new(), &mut json::Unwatched);
        let duplicate = read.is_err_and(|fault| fault.rule == json::JsonRule::DuplicateKey);
        // What comes first in the text is reported, so compare only where nothing else is wrong.
        let both = duplicate || read.is_ok();
        if both && serde_json::from_str::<serde_json::Value>(&text).is_ok() {
            prop_assert_eq!(duplicate, has_duplicate(&text), "{}", text);
        }
        check::json(text.as_bytes());
        check::message(text.as_bytes());
    }

    #[test]
    fn bytes_of_any_kind_break_nothing(data in vec(any::<u8>(), 0..300)) {
        check::head(&data);
        check::body(&data, &[]);
        check::events(&data, &[]);
        check::json(&data);
        check::message(&data);
    }

    #[test]
    fn heads_read_the_same_at_every_cut(head in head_bytes()) {
        check::head(&head);
    }

    /// A message with any members in any order, so that some are accepted.
    #[test]
    fn messages_mean_what_serde_reads(
        picks in proptest::sample::subsequence((0..14usize).collect::<Vec<_>>(), 2..8).prop_shuffle(),
        arguments in json_text(),
    ) {
        let members = [
            r#""jsonrpc":"2.0""#.to_string(), r#""id":7"#.into(), r#""id":"\u0061\"b""#.into(),
            r#""method":"tools\/call""#.into(), r#""method":"ping""#.into(),
            format!(r#""params":{{"name":"\u0065cho","arguments":{arguments}}}"#),
            r#""params":{"uri":"u","_meta":{"progressToken":1}}"#.into(),
            r#""method":"resources/read""#.into(), r#""result":{}"#.into(),
            r#""result":{"tools":[{"name":"a"},{},[1]],"x":1}"#.into(),
            r#""error":{"code":-1,"message":"m"}"#.into(), r#""x":{"id":1}"#.into(),
            r#""id":null"#.into(), r#""jsonrpc":"2.0""#.into(),
        ];
        let text: Vec<_> = picks.iter().map(|pick| members[*pick].as_str()).collect();
        let text = format!("{{\"jsonrpc\":\"2.0\",{}}}", text.join(",")).replacen(
            "\"jsonrpc\":\"2.0\",\"jsonrpc\":\"2.0\"", "\"jsonrpc\":\"2.0\"", 1);
        check::message(text.as_bytes());
    }
}

/// 100 kB of brackets are refused at the bound, at once: nothing is stacked.
#[test]
fn a_depth_bomb_costs_nothing() {
    let bomb = vec![b'['; 100_000];
    let mut scratch = json::Scratch::new();
    let fault = mcp::read(&bomb, Direction::Request, &Limits::default(), &mut scratch);
    let fault = fault.expect_err("refused");
    assert_eq!(fault.rule, mcp::McpRule::Json(json::JsonRule::TooDeep));
    assert_eq!(fault.at, 64);
    assert!(scratch.capacity_bytes() < 4096);
}

/// Names that are many and long: the check is bounded by the text, not by its square.
#[test]
fn many_names_cost_no_square() {
    let members: Vec<_> = (0..150_000).map(|n| format!("\"{n:020}\":0")).collect();
    let text = format!("{{{}}}", members.join(","));
    let started = std::time::Instant::now();
    json::read(
        text.as_bytes(),
        &Limits::default(),
        &mut json::Scratch::new(),
        &mut json::Unwatched,
    )
    .expect("all different");
    assert!(started.elapsed().as_secs() < 5, "a square of comparisons takes minutes");
}
