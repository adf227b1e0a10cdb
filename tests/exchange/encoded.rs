//! Answers with a content coding: refused, or by configuration decoded before anything else is done with
//! them.

use std::io::Write;

use stenograph::limits::Limits;
use stenograph::record::Kind;
use stenograph::wire::coding::Coding;

use super::script::{STREAM_HEAD, Script, call, post, result};
use super::stage::{FORBIDDEN, PLANTED, Plan};

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// A JSON answer of this coding, and how it is framed.
fn answer(coding: &str, body: &[u8], chunked: bool) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: {coding}\r\n"
    );
    match chunked {
        false => {
            let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
            [head.as_bytes(), body].concat()
        }
        true => {
            let head = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len());
            [head.as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
        }
    }
}

fn decoding() -> Plan {
    Plan { decode: Coding::ALL.to_vec(), ..Plan::default() }
}

/// One call, sent upstream, that waits for its answer.
fn sent(plan: Plan) -> Script {
    let script = Script::new(plan);
    let token = script.stage.token("alice", 600);
    script
        .client(call(&token, 7, "echo", "x"))
        .expect_open_upstream("codegen")
        .upstream_ready()
        // The upstream is asked for answers that can be read.
        .expect_to_upstream(&["Accept-Encoding: identity\r\n"])
}

/// Mutants: the coding not looked at in `on_answer_head`; `decode` of the route not asked.
#[test]
fn an_encoded_answer_is_502_unless_its_coding_is_named() {
    let body = gzip(result(7, "x").as_bytes());
    for decode in [vec![], vec![Coding::Zstd, Coding::Deflate]] {
        sent(Plan { decode, ..Plan::default() })
            .upstream(answer("gzip", &body, false))
            .expect_error(502, -31004)
            .expect_drop(false)
            .expect_recorded(Kind::Request, &[])
            .expect_recorded(Kind::Refusal, &["upstream-encoding"])
            .expect_recorded(Kind::End, &[])
            .end();
    }
    for coding in ["br", "gzip, gzip", "x-gzip", "identity, gzip", ""] {
        sent(decoding())
            .upstream(answer(coding, &body, false))
            .expect_error(502, -31004)
            .expect_drop(false)
            .expect_recorded(Kind::Request, &[])
            .expect_recorded(Kind::Refusal, &["upstream-encoding"])
            .expect_recorded(Kind::End, &[])
            .end();
    }
    sent(decoding())
        .upstream(STREAM_HEAD.replace("\r\n\r\n", "\r\nContent-Encoding: gzip\r\n\r\n"))
        .expect_error(502, -31004)
        .expect_drop(false)
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::Refusal, &["upstream-encoding"])
        .expect_recorded(Kind::End, &[])
        .end();
}

#[test]
fn an_encoded_request_is_415_whatever_the_upstream_may_do() {
    let script = Script::new(decoding());
    let token = script.stage.token("alice", 600);
    script
        .client(post(&token, "Content-Encoding: gzip\r\n", "{}"))
        .expect_answer(415, |_| {})
        .expect_recorded(Kind::Refusal, &["content-encoding"])
        .expect_recorded(Kind::End, &[])
        .end();
}

/// Mutant: the body judged as it came.
#[test]
fn what_is_decoded_is_judged_and_masked_and_goes_on_without_its_coding() {
    let said = result(7, &format!("a {PLANTED} b"));
    let said_in = |encode: fn(&[u8]) -> Vec<u8>| encode(said.as_bytes());
    let bodies = [("gzip", said_in(gzip)), ("DEFLATE", said_in(zlib)), ("zstd", said_in(zstd))];
    for (coding, body) in bodies {
        for chunked in [false, true] {
            let whole = answer(coding, &body, chunked);
            for size in [whole.len(), 1, 7] {
                let mut script = sent(decoding());
                for piece in whole.chunks(size) {
                    script = script.upstream(piece);
                }
                script
                    .expect_answer(200, |answer| {
                        assert!(answer.field("Content-Encoding").is_none());
                        assert_eq!(answer.body.len(), said.len());
                        assert!(!answer.body.contains(PLANTED), "{}", answer.body);
                    })
                    .expect_drop(true)
                    .expect_recorded(Kind::Request, &[])
                    .expect_recorded(
                        Kind::Answer,
                        &[&format!("\"coded_bytes\":{}", body.len()), "Content-Encoding"],
                    )
                    .expect_recorded(Kind::End, &[])
                    .end();
            }
        }
    }
}

#[test]
fn what_a_rule_blocks_is_blocked_in_its_coding_too() {
    sent(decoding())
        .upstream(answer("gzip", &gzip(result(7, FORBIDDEN).as_bytes()), false))
        .expect_error(200, -31002)
        .expect_drop(false)
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::Refusal, &["answer-blocked", "\"coding\":\"gzip\""])
        .expect_recorded(Kind::End, &[])
        .end();
}

/// Bombs and lies; `src/wire/coding/tests.rs` has each for every coding.
#[test]
fn what_cannot_be_decoded_within_bounds_is_refused() {
    let said = result(7, "x");
    let whole = gzip(said.as_bytes());
    let mut bent = whole.clone();
    let at = bent.len() - 8;
    bent[at] ^= 1;
    let cases = [
        ("coding-ratio", "gzip", gzip(&vec![b' '; 8 << 20])),
        ("coding-ratio", "zstd", zstd(&vec![b' '; 8 << 20])),
        ("coding-corrupt", "gzip", bent),
        ("coding-corrupt", "gzip", said.clone().into_bytes()),
        ("coding-corrupt", "zstd", whole.clone()),
        ("coding-truncated", "gzip", whole[..whole.len() - 1].to_vec()),
        ("coding-trailing", "gzip", [&whole[..], &whole].concat()),
    ];
    for (rule, coding, body) in cases {
        sent(decoding())
            .upstream(answer(coding, &body, true))
            .expect_answer(502, |answer| assert!(answer.body.contains(rule), "{}", answer.body))
            .expect_drop(false)
            .expect_recorded(Kind::Request, &[])
            .expect_recorded(Kind::Refusal, &["upstream-coding"])
            .expect_recorded(Kind::End, &[])
            .end();
    }
    // One layer: what is inside is no message.
    sent(decoding())
        .upstream(answer("gzip", &gzip(&whole), false))
        .expect_error(502, -31004)
        .expect_drop(false)
        .expect_recorded(Kind::Request, &[])
        .expect_recorded(Kind::Refusal, &["upstream-message"])
        .expect_recorded(Kind::End, &[])
        .end();
    let limits = Limits { answer_bytes_max: 1024, ..Limits::default() };
    let long: String = (0..600).map(|number| format!("{number} ")).collect();
    sent(Plan { limits, ..decoding() })
        .upstream(answer("gzip", &gzip(result(7, &long).as_bytes())[..], false))
        .expect_error(200, -31003)
        .expect_drop(false)
        .end();
}
