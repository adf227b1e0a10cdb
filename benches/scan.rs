//! The scanner on messages of MCP, beside each engine alone and a JSON tree.
//!
//! `cargo bench --bench scan`. The messages are what servers send (`support/realistic.rs`): they hold nothing to mask,
//! as nearly all do. Beside them those with a secret in each, and `dense`: lines that all look like something
//! (`tests/guard_support/text.rs`), the worst of what holds nothing; and `made to be dear` (`support/hostile.rs`).

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use stenograph::guard::detect;
use stenograph::guard::engine::{Candidates, Database, Presence};
use stenograph::guard::literals::Database as Literals;
use stenograph::guard::rules::Matcher;
use stenograph::guard::{RuleSet, Scanner};
use stenograph::limits::Limits;
use stenograph::types::Direction;
use stenograph::wire::json::Scratch;

#[path = "../tests/guard_support/text.rs"]
mod text;

#[path = "support/realistic.rs"]
mod realistic;

#[path = "support/hostile.rs"]
mod hostile;

use text::Seed;

/// What the messages of a group are.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Realistic,
    WithSecret,
    Dense,
}

fn messages(source: &realistic::Source, bytes: usize, kind: Kind) -> Vec<Vec<u8>> {
    let mut seed = Seed(0xbe7c4);
    let content = bytes.saturating_sub(120);
    (0..64)
        .map(|_| match kind {
            Kind::Realistic => source.message(&mut seed, content).into_bytes(),
            Kind::WithSecret => {
                let made = source.message(&mut seed, content);
                let middle = made.char_indices().map(|(at, _)| at).nth(made.len() / 2).unwrap_or(0);
                let blank = made[middle..].find(' ').map_or(middle, |on| middle + on);
                let (before, after) = made.split_at(blank);
                format!("{before} AKIAIOSFODNN7EXAMPLE{after}").into_bytes()
            }
            Kind::Dense => text::message(&mut seed, content).into_bytes(),
        })
        .collect()
}

/// The rules that most deployments meet: those of the large clouds, forges, chats and model vendors, keys and tokens of
/// every kind, cards and addresses of mail.
const COMMON: [&str; 30] = [
    "aws-access-key-id",
    "aws-secret-key",
    "aws-session-token",
    "gcp-api-key",
    "google-oauth-access",
    "google-oauth-secret",
    "azure-storage-key",
    "azure-client-secret",
    "github-token",
    "github-fine-pat",
    "gitlab-token",
    "atlassian-token",
    "npm-token",
    "pypi-token",
    "docker-token",
    "slack-token",
    "slack-webhook",
    "stripe-live",
    "sendgrid-key",
    "openai-key",
    "anthropic-key",
    "huggingface-token",
    "vault-token",
    "private-key-pem",
    "jwt",
    "http-auth",
    "database-uri",
    "url-credentials",
    "email",
    "payment-card",
];

/// A set of those alone.
fn common() -> std::sync::Arc<RuleSet> {
    let off: String = RuleSet::builtin()
        .expect("the built-in pack compiles")
        .rules()
        .iter()
        .filter(|rule| !COMMON.contains(&&*rule.id))
        .map(|rule| format!("[[override]]\nrule = \"{}\"\nenabled = false\n", rule.id))
        .collect();
    let set = RuleSet::compile(&[("common".into(), format!("schema = 1\n{off}"))], true, &[])
        .expect("a part of the built-in pack compiles");
    assert_eq!(set.rules().len(), COMMON.len());
    set
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
    let source = realistic::Source::read();
    let common = common();
    let literals = Literals::compile(&printed).expect("the built-in pack compiles");
    for (name, bytes, kind) in [
        ("200 B", 200, Kind::Realistic),
        ("1 KiB", 1 << 10, Kind::Realistic),
        ("2 KiB", 2 << 10, Kind::Realistic),
        ("16 KiB", 16 << 10, Kind::Realistic),
        ("2 KiB, one secret", 2 << 10, Kind::WithSecret),
        ("2 KiB, dense", 2 << 10, Kind::Dense),
        ("16 KiB, dense", 16 << 10, Kind::Dense),
    ] {
        let all = messages(&source, bytes, kind);
        let total: usize = all.iter().map(Vec::len).sum();
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(total as u64));
        for (name, rules) in [("whole pack", &rules), ("30 rules", &common)] {
            let mut scanner = Scanner::new(rules.clone(), [0; 32], &limits);
            group.bench_function(BenchmarkId::from_parameter(name), |b| {
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
        }
        if kind == Kind::WithSecret {
            continue;
        }
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
        let memory = literals.scratch();
        group.bench_function(BenchmarkId::from_parameter("aho-corasick alone"), |b| {
            b.iter(|| {
                presence.clear();
                for message in &all {
                    literals.scan(message, &memory, &mut presence).expect("scans");
                }
                presence.is_empty()
            });
        });
        // All expressions over everything, as a scanner without a filter does it: three orders of magnitude below.
        if bytes == 2 << 10 && kind == Kind::Realistic {
            let regexes: Vec<_> =
                rules.rules().iter().filter_map(|rule| rule.matcher.regex()).collect();
            group.bench_function(BenchmarkId::from_parameter("regex-automata alone"), |b| {
                b.iter(|| {
                    let found = |message: &&Vec<u8>| {
                        regexes.iter().any(|regex| regex.is_match(message.as_slice()))
                    };
                    all.iter().filter(found).count()
                });
            });
        }
        group.bench_function(BenchmarkId::from_parameter("serde_json value"), |b| {
            b.iter(|| {
                all.iter()
                    .filter(|message| serde_json::from_slice::<serde_json::Value>(message).is_ok())
                    .count()
            });
        });
    }
}

/// Texts that are made to be dear, beside ordinary ones of their length.
fn scan_hostile(c: &mut Criterion) {
    const BYTES: usize = 16 << 10;
    let rules = RuleSet::builtin().expect("the built-in pack compiles");
    let limits = Limits::default();
    let (mut scratch, source) = (Scratch::new(), realistic::Source::read());
    let mut group = c.benchmark_group("16 KiB, made to be dear");
    let ordinary = ("ordinary", messages(&source, BYTES, Kind::Realistic));
    for (name, all) in std::iter::once(ordinary).chain(hostile::kinds(BYTES)) {
        group.throughput(Throughput::Bytes(all.iter().map(Vec::len).sum::<usize>() as u64));
        let mut scanner = Scanner::new(rules.clone(), [0; 32], &limits);
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                let mut scan = |message: &Vec<u8>| {
                    scanner
                        .scan_json(message, Direction::Response, &mut scratch, &limits)
                        .map_or(0, |found| found.len())
                };
                all.iter().map(&mut scan).sum::<usize>()
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
    targets = scan, scan_hostile
}
criterion_main!(benches);
