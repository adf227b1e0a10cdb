//! What reading the wire costs: heads, messages, events, beside the parsers one would use otherwise.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use stenograph::limits::Limits;
use stenograph::types::Direction;
use stenograph::wire::head::{Fields, Framing, Method, Read, read_request, read_response};
use stenograph::wire::{body, json, mcp, sse};

const REQUEST: &[u8] = b"POST /codegen HTTP/1.1\r\nHost: 127.0.0.1:28190\r\n\
    Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nUser-Agent: python-httpx2/2.16.2\r\n\
    accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n\
    authorization: Bearer eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6ImsxIn0.eyJpc3MiOiJodHRw\
    czovL2xvZ2luLmV4YW1wbGUuY29tIiwic3ViIjoiYWxpY2UiLCJhdWQiOiJodHRwczovL21jcC5leGFtcGxlLmNvbSIsIm\
    V4cCI6MTc2MzgwMDAwMH0.c2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJlc2lnbmF0dXJl\r\n\
    mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: generate_code\r\n\
    Content-Length: 423\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 06:51:08 GMT\r\n\
    server: uvicorn\r\ncache-control: no-cache, no-transform\r\nconnection: keep-alive\r\n\
    content-type: text/event-stream\r\nmcp-session-id: 3893081f28ee40d68bc2466a6502f55e\r\n\
    x-accel-buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A tool call of about `size` bytes whose arguments are prose, numbers and small objects.
fn call(size: usize) -> Vec<u8> {
    let item = r#"{"path":"src/lib.rs","line":1042,"text":"let value = parse(\"x\")?; // and so on, a line of code","flags":[true,null]}"#;
    let head = r#"{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{"name":"generate_code","arguments":{"edits":["#;
    let tail = r#"]},"_meta":{"progressToken":42,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"mcp","version":"0.1.0"}}}}"#;
    let count = size.saturating_sub(head.len() + tail.len()) / (item.len() + 1);
    format!("{head}{}{tail}", vec![item; count.max(1)].join(",")).into_bytes()
}

/// An answer whose content is one long text.
fn answer(size: usize) -> Vec<u8> {
    let line = "The quick brown fox jumps over the lazy dog, and says so at some length.\\n";
    let text = line.repeat(size.saturating_sub(80) / line.len());
    format!(
        r#"{{"jsonrpc":"2.0","id":42,"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#
    )
    .into_bytes()
}

fn heads(c: &mut Criterion) {
    let limits = Limits::default();
    let mut group = c.benchmark_group("head");
    let mut fields = Fields::new();
    group.throughput(Throughput::Bytes(REQUEST.len() as u64));
    group.bench_function("request", |b| {
        b.iter(|| {
            let read = read_request(black_box(REQUEST), &limits, &mut fields);
            assert!(matches!(read, Read::Done { .. }));
            read
        })
    });
    group.bench_function("request, httparse alone", |b| {
        b.iter(|| {
            let mut headers = [httparse::EMPTY_HEADER; 100];
            let mut request = httparse::Request::new(&mut headers);
            request.parse(black_box(REQUEST)).expect("a good head").is_complete()
        })
    });
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    group.bench_function("response", |b| {
        b.iter(|| read_response(black_box(RESPONSE), &limits, Method::Post, &mut fields))
    });
    group.finish();
}

fn messages(c: &mut Criterion) {
    let limits = Limits::default();
    let mut group = c.benchmark_group("message");
    let mut scratch = json::Scratch::new();
    let mut places = Vec::new();
    let texts = [
        ("call 1 KiB", call(1 << 10), Direction::Request),
        ("call 16 KiB", call(16 << 10), Direction::Request),
        ("answer 1 KiB", answer(1 << 10), Direction::Response),
        ("answer 16 KiB", answer(16 << 10), Direction::Response),
    ];
    for (name, text, from) in &texts {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::new("mcp", name), text, |b, text| {
            b.iter(|| mcp::read(black_box(text), *from, &limits, &mut scratch).expect("good"))
        });
        group.bench_with_input(BenchmarkId::new("json alone", name), text, |b, text| {
            b.iter(|| json::read(black_box(text), &limits, &mut scratch, &mut json::Unwatched))
        });
        group.bench_with_input(BenchmarkId::new("places", name), text, |b, text| {
            b.iter(|| mcp::places(black_box(text), usize::MAX, &mut places))
        });
        group.bench_with_input(BenchmarkId::new("serde_json::Value", name), text, |b, text| {
            b.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(text)).expect("good"))
        });
    }
    group.finish();
}

fn events(c: &mut Criterion) {
    let limits = Limits::default();
    let mut group = c.benchmark_group("sse");
    for (name, data) in [("1 KiB", answer(1 << 10)), ("16 KiB", answer(16 << 10))] {
        let mut stream = BytesMut::new();
        for _ in 0..8 {
            sse::write_event(&mut stream, Some(b"message"), Some(b"67"), None, Some(&data));
        }
        group.throughput(Throughput::Bytes(stream.len() as u64));
        for (how, piece) in [("whole", stream.len()), ("in reads of 8 KiB", 8 << 10)] {
            group.bench_with_input(BenchmarkId::new(how, name), &stream, |b, stream| {
                b.iter(|| {
                    let (mut reader, mut count) = (sse::Reader::new(), 0);
                    for piece in stream.chunks(piece) {
                        let mut at = 0;
                        while at < piece.len() {
                            let (used, item) =
                                reader.read(black_box(&piece[at..]), &limits).expect("good");
                            at += used;
                            count += item.is_some() as u32;
                        }
                    }
                    assert_eq!(count, 8);
                })
            });
        }
    }
    group.finish();
}

fn bodies(c: &mut Criterion) {
    let mut chunked = BytesMut::new();
    for _ in 0..16 {
        body::write_chunk_prefix(&mut chunked, 1024);
        chunked.extend_from_slice(&[b'x'; 1024]);
        chunked.extend_from_slice(body::CHUNK_SUFFIX);
    }
    chunked.extend_from_slice(body::CHUNKS_END);
    let mut group = c.benchmark_group("body");
    group.throughput(Throughput::Bytes(chunked.len() as u64));
    group.bench_function("16 chunks of 1 KiB", |b| {
        b.iter(|| {
            let (mut decoder, mut at, mut bytes) =
                (body::Decoder::new(Framing::Chunked), 0, 0usize);
            loop {
                match decoder.step(black_box(&chunked[at..])).expect("good") {
                    body::Step::Data(span) => {
                        bytes += span.len as usize;
                        at += span.end();
                    }
                    body::Step::Skip(used) => at += used,
                    body::Step::More => panic!("it is all there"),
                    body::Step::End { .. } => break bytes,
                }
            }
        })
    });
    group.finish();
}

criterion_group!(benches, heads, messages, events, bodies);
criterion_main!(benches);
