//! The scanner on realistic MCP messages, beside Hyperscan alone and a JSON tree.
//!
//! `cargo bench --bench scan`. Messages are made from a seed (`tests/guard_support/text.rs`) and hold
//! nothing to mask, as nearly all do; `secrets` holds one in every message.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use stenograph::guard::detect;
use stenograph::guard::engine::{Candidates, Database, Presence};
use stenograph::guard::rules::Matcher;
use stenograph::guard::{RuleSet, Scanner};
use stenograph::limits::Limits;
use stenograph::types::Direction;
use stenograph::wire::json::Scratch;

#[path = "../tests/guard_support/text.rs"]
mod text;

use text::{Seed, message};

fn messages(bytes: usize, secret: bool) -> Vec<Vec<u8>> {
    let mut seed = Seed(0xbe7c4);
    (0..64)
        .map(|_| {
            let mut made = message(&mut seed, bytes.saturating_sub(120));
            if secret {
                made = made.replacen("the ", "AKIAIOSFODNN7EXAMPLE ", 1);
            }
            made.into_bytes()
        })
        .collect()
}

fn scan(c: &mut Criterion) {
    let rules = RuleSet::builtin().expect("the built-in pack compiles");
    let limits = Limits::default();
    let mut scratch = Scratch::new();
    let printed: Vec<(usize, &str)> = rules
        .rules()
        .iter()
        .enumerate()
        .filter_map(|(number, rule)| match &rule.matcher {
            Matcher::Pattern { printed, .. } => Some((number, printed.as_str())),
            _ => None,
        })
        .collect();
    let database = Database::compile(&printed).expect("the built-in pack compiles");
    for (name, bytes, secret) in [
        ("200 B", 200, false),
        ("1 KiB", 1 << 10, false),
        ("2 KiB", 2 << 10, false),
        ("16 KiB", 16 << 10, false),
        ("2 KiB, one secret", 2 << 10, true),
    ] {
        let all = messages(bytes, secret);
        let total: usize = all.iter().map(Vec::len).sum();
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(total as u64));
        let mut scanner = Scanner::new(rules.clone(), [0; 32], &limits);
        group.bench_function(BenchmarkId::from_parameter("whole pipeline"), |b| {
            b.iter(|| {
                all.iter()
                    .map(|message| {
                        scanner
                            .scan_json(message, Direction::Response, &mut scratch, &limits)
                            .map_or(0, |found| found.len())
                    })
                    .sum::<usize>()
            });
        });
        let hs = database.scratch();
        let mut presence = Presence::new(rules.rules().len());
        group.bench_function(BenchmarkId::from_parameter("hyperscan alone"), |b| {
            b.iter(|| {
                presence.clear();
                for message in &all {
                    database.scan(message, &hs, &mut presence).expect("scans");
                }
                presence.is_empty()
            });
        });
        group.bench_function(BenchmarkId::from_parameter("byte scans alone"), |b| {
            let mut marks = detect::Marks::default();
            b.iter(|| {
                let mut count = 0;
                for message in &all {
                    detect::scan(message, &mut marks, |_| {
                        count += 1;
                        true
                    });
                }
                count
            });
        });
        group.bench_function(BenchmarkId::from_parameter("serde_json value"), |b| {
            b.iter(|| {
                all.iter()
                    .filter(|message| serde_json::from_slice::<serde_json::Value>(message).is_ok())
                    .count()
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = scan
}
criterion_main!(benches);
