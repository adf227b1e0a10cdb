//! The simulator: the shipped connections over a few workers' environments and the shipped writer, with
//! client, server, clock, kernel and disk played by one seeded generator.
//!
//! A seed is a run, exactly: `STENOGRAPH_SIM_SEED=… cargo test --test simulate one_seed` repeats it, and
//! `STENOGRAPH_SIM_RUNS=…` asks for more runs than the hundred of every test run.
//!
//! What happens in a run: receives and sends of any size, completions in any order, resets and ends at
//! any point, a server that cuts, resets, is silent, answers wrongly or says too much, a disk that is
//! slow, full or fails in each of its ways, a wall clock that is set, keys that arrive, callers who are
//! denied, a drain, and kills and power cuts with the record started again.
//!
//! What is checked, while it runs: a request arrives at most once, masked, and only if it may; what
//! leaves is on the disk at that very moment, at the level of the run, by the shipped reader; the answer
//! of one request never reaches another; no secret reaches a client; one operation of a kind at a time.
//! At the end: every connection has ended in its time, all payload memory and all upstream connections
//! are back, nothing waits for the writer, the record verifies and holds all that was released. Where
//! nothing failed, every request came to what it had to.
//!
//! Three mutants must make it fail, and do: `tests/mutants.sh`.

mod record_support;

#[path = "support/dice.rs"]
#[expect(dead_code, reason = "each test uses its part of it")]
mod dice;
#[path = "exchange/stage.rs"]
#[expect(dead_code, reason = "the simulator uses its rules, plans and snapshots")]
mod stage;

#[path = "simulate/ask.rs"]
mod ask;
#[path = "simulate/disk.rs"]
mod disk;
#[path = "simulate/ledger.rs"]
mod ledger;
#[path = "simulate/peers.rs"]
mod peers;
#[path = "simulate/worker.rs"]
mod worker;
#[path = "simulate/world.rs"]
mod world;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};

use stenograph::limits::Limits;
use stenograph::record::writer;

use ask::Tokens;
use dice::setting;
use disk::SimDisk;
use ledger::read_image;
use record_support::{MemoryDisk, read_all, request, settings};
use stage::{ISSUER, NOW_S, RESOURCE};
use world::{Ended, World};

/// The key that the issuer publishes, and the one that it publishes later. Their signatures are the same
/// in every run, so a run is the same in every process.
fn signing_key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

static JWKS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let jwk = |number: u8| {
        let x = URL_SAFE_NO_PAD.encode(signing_key(number).verifying_key().as_bytes());
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": format!("key-{number}"),
               "use": "sig", "alg": "EdDSA"})
    };
    vec![jwk(1), jwk(2)]
});

fn token(number: u8, subject: &str, groups: &[&str]) -> String {
    let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": format!("key-{number}")});
    let claims = json!({
        "iss": ISSUER, "sub": subject, "aud": RESOURCE, "client_id": "ide", "jti": subject,
        "groups": groups, "iat": NOW_S - 600, "exp": NOW_S + 80_000,
    });
    let text = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let signature = signing_key(number).sign(text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

fn run(seed: u64) -> Ended {
    let tokens = Tokens {
        alice: token(1, "alice", &["engineering"]),
        bob: token(1, "bob", &["engineering"]),
        mallory: token(1, "mallory", &["elsewhere"]),
        late: token(2, "carol", &["engineering"]),
    };
    World::new(seed, tokens, &JWKS).run()
}

/// Repeats one run, when a seed is given.
#[test]
fn one_seed() {
    if let Some(seed) = setting("STENOGRAPH_SIM_SEED") {
        println!("{:?}", run(seed));
    }
}

// Mutants: see tests/mutants.sh.
#[test]
fn every_seed_keeps_the_promise() {
    let runs = setting("STENOGRAPH_SIM_RUNS").unwrap_or(100);
    let first = setting("STENOGRAPH_SIM_SEED").unwrap_or(1);
    let (mut looked, mut arrived, mut crashes, mut entries) = (0, 0, 0, 0);
    for seed in first..first + runs {
        let ended = run(seed);
        looked += ended.looked;
        arrived += ended.arrived;
        crashes += ended.crashes;
        entries += ended.entries;
    }
    println!(
        "{runs} runs from seed {first}: {looked} releases held against the disk, {arrived} requests \
         arrived, {crashes} kills and power cuts, {entries} entries"
    );
    if runs >= 100 {
        // A simulator in which nothing happens finds nothing.
        assert!(looked > 2000 && arrived > 800 && crashes > 10, "{looked} {arrived} {crashes}");
    }
}

// The simulator found it (seed 1002): what an earlier process had written and not forced out was lost
// with the power, and the segment behind it said for ever that it had been there. Mutant: the segment
// that is gone on from is not forced out.
#[test]
fn a_power_cut_behind_a_restart_takes_nothing_of_what_was_adopted() {
    let disk = SimDisk::default();
    let start = || writer::open(Box::new(disk.clone()), settings(1, Limits::default())).unwrap();
    let (mut killed, mut recorders) = start();
    recorders[0].submit(request(1, b"written and not synced")).unwrap();
    let written =
        |files| read_image(files).iter().any(|entry| entry.text().contains("written and"));
    while !written(disk.memory.image()) {
        killed.turn();
    }
    assert!(!written(disk.forced()), "the power would take it");
    drop((killed, recorders));
    let (again, _recorders) = start();
    assert!(written(disk.forced()));
    drop(again);
    let reading = read_all(&MemoryDisk::with(disk.forced())).unwrap().0;
    assert!(reading.is_consistent(), "{:?}", reading.damage);
}

#[test]
fn a_seed_is_a_run() {
    for seed in 1000..1006 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
