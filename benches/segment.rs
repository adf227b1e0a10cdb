//! The segment builder and the verifying scan beside what they rest on: zstd alone over the same
//! plain bytes. `cargo bench --bench segment`.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stenograph::record::entry::EntryView;
use stenograph::record::header::{Header, Previous};
use stenograph::record::scan::{Place, Sink, Task, scan};
use stenograph::record::segment::{Builder, Random};
use stenograph::record::tree::Tree;
use stenograph::record::{Entry, Kind, PartKind};
use stenograph::types::{ExchangeId, Now, SessionId};

const WORDS: &[&str] = &[
    "function", "return", "value", "error", "request", "index", "buffer", "token", "stream",
    "record", "verify", "segment", "result", "server", "client", "message", "content", "while",
    "struct", "match", "string", "number", "object", "array", "config", "limit", "worker",
];

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Text of words and ids, about as compressible as tool output.
fn text(dice: &mut Dice, bytes: usize) -> String {
    let mut out = String::new();
    while out.len() < bytes {
        let roll = dice.roll();
        match roll % 5 {
            0 => out.push_str(&format!("{:08x} ", roll as u32)),
            _ => {
                out.push_str(WORDS[(roll >> 8) as usize % WORDS.len()]);
                out.push(' ');
            }
        }
    }
    out
}

/// Calls of two 1 KiB bodies: request, answer, end.
fn calls(count: u32) -> Vec<Entry> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut entries = Vec::new();
    let subject = Bytes::from_static(
        br#"{"issuer":"https://login.example.com","subject":"alice@example.com","client":"ide","token_id":"5c0f","key_id":"2026-11","key_thumbprint":"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs","expires":"2026-11-22T09:00:00Z","upstream":"codegen"}"#,
    );
    for number in 0..count {
        let exchange = ExchangeId::new(1_795_000_000_000_000_000, 0, number, 1);
        let session = SessionId::from_bytes([(number % 50) as u8; 10]);
        let make = |kind, ordinal| {
            let mut entry = Entry::new(
                kind,
                Now { utc_ns: 1_795_000_000_000_000_000 + u64::from(number) * 31_337, mono_ns: 9 },
            );
            entry.exchange = Some(exchange);
            entry.session = Some(session);
            entry.ordinal = ordinal;
            entry
        };
        let head = format!(
            "POST /codegen HTTP/1.1\r\nhost: mcp.example.com\r\nauthorization: ******\r\n\
             content-type: application/json\r\naccept: application/json, text/event-stream\r\n\
             x-request-id: {:016x}\r\n\r\n",
            dice.roll()
        );
        let request = format!(
            r#"{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{{"name":"make","arguments":{{"text":"{}"}}}}}}"#,
            text(&mut dice, 900)
        );
        let answer = format!(
            r#"{{"jsonrpc":"2.0","id":{number},"result":{{"content":[{{"type":"text","text":"{}"}}]}}}}"#,
            text(&mut dice, 930)
        );
        let verdict = r#"{"direction":"request","decision":"allowed","era":"modern","http":"POST","method":"tools/call","targets":[{"kind":"tool","name":"make"}],"id":"1","grant":0,"upstream":"codegen","source":"10.0.0.7:51234","edited":false,"filtered":false}"#;
        entries.push(
            make(Kind::Request, 0)
                .part(PartKind::Subject, subject.clone())
                .part(PartKind::Verdict, verdict)
                .part(PartKind::HeadIn, head)
                .part(PartKind::Body, request),
        );
        entries.push(
            make(Kind::Answer, 1)
                .part(PartKind::Verdict, r#"{"direction":"response","decision":"allowed"}"#)
                .part(PartKind::Body, answer),
        );
        entries.push(make(Kind::End, 2).part(
            PartKind::Detail,
            r#"{"status":200,"outcome":"complete","sent_bytes":1200,"entries":3}"#,
        ));
    }
    entries
}

fn header() -> Header {
    Header {
        origin: "log.example".into(),
        segment: 0,
        tree: Tree::new(),
        created: Now::default(),
        boot_id: [0; 16],
        previous: Previous::NONE,
    }
}

fn random() -> Random {
    Arc::new(|bytes| getrandom::fill(bytes).expect("random bytes"))
}

/// A segment file, flushed every `batch` entries; gives its plain length too.
fn build(entries: &[Entry], batch: usize) -> Vec<u8> {
    let mut builder = Builder::begin(&header(), 256 * 1024, random()).expect("zstd");
    let mut file = Vec::new();
    for entries in entries.chunks(batch) {
        for entry in entries {
            builder.entry(entry, 0).expect("zstd");
        }
        builder.flush().expect("zstd");
        file.extend_from_slice(builder.step());
        builder.stored();
    }
    file
}

struct Nothing(u64);

impl Sink for Nothing {
    fn entry(&mut self, _place: &Place, entry: &EntryView<'_>) {
        self.0 += entry.sequence;
    }
}

fn segment(criterion: &mut Criterion) {
    let entries = calls(1000);
    let plain: usize = entries.iter().map(Entry::plain_bytes).sum();
    let payload: usize =
        entries.iter().flat_map(|entry| &entry.parts).map(|part| part.bytes.len()).sum();
    let mut joined = Vec::new();
    let file = build(&entries, 300);
    let mut decoder = zstd::stream::read::Decoder::new(&file[..]).expect("zstd");
    // The file ends inside a frame; what came before counts.
    let _ = std::io::copy(&mut decoder, &mut joined);
    println!(
        "{plain} plain bytes, {payload} of payload, {} in the file: {:.3} per payload byte",
        file.len(),
        file.len() as f64 / payload as f64
    );
    let mut group = criterion.benchmark_group("segment");
    group.throughput(Throughput::Bytes(plain as u64)).sample_size(20);
    group.bench_function("zstd level 1 alone, frames of 256 KiB", |bencher| {
        let mut compressor = zstd::bulk::Compressor::new(1).expect("zstd");
        bencher.iter(|| {
            joined
                .chunks(256 * 1024)
                .map(|chunk| compressor.compress(black_box(chunk)).expect("zstd").len())
                .sum::<usize>()
        });
    });
    for batch in [1, 10, 300] {
        group.bench_function(format!("build, {batch} entries a flush"), |bencher| {
            bencher.iter(|| build(black_box(&entries), batch).len());
        });
    }
    group.bench_function("zstd decompression alone", |bencher| {
        let mut out = Vec::with_capacity(joined.len());
        bencher.iter(|| {
            out.clear();
            let mut decoder = zstd::stream::read::Decoder::new(&file[..]).expect("zstd");
            let _ = std::io::copy(&mut decoder, &mut out);
            out.len()
        });
    });
    group.bench_function("scan and verify, 300 entries a flush", |bencher| {
        bencher.iter(|| {
            let task = Task {
                segment: 0,
                length: file.len() as u64,
                key: None,
                roots_at: &[],
                commitments: true,
            };
            let mut sink = Nothing(0);
            let scanned = scan(&task, &mut black_box(&file[..]), &mut sink).expect("memory");
            assert!(scanned.damage.is_empty());
            sink.0
        });
    });
    group.finish();
}

criterion_group!(benches, segment);
criterion_main!(benches);
