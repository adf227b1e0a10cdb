//! SIGKILL under load, against a ledger kept outside: whatever the upstream or a client has seen,
//! the record holds.
//!
//! Every call carries a mark in its arguments and every answer and event one of its own. The
//! upstream writes down each mark it receives and the clients each mark they receive, byte by byte
//! as it comes in, complete message or not. The gateway is killed at a random moment and started
//! again on the same directory, over and over; after each kill `verify --key` must find nothing but a
//! torn tail, which the next start adopts. Every [`CYCLES_OF_ONE_RECORD`] kills the record is closed:
//! `verify` must say intact, and every mark of the ledger must stand in it. In `written` and `synced`
//! none may be missing; in `queued` only the newest of a connection: no mark is missing from before one
//! that is there. The other direction (recorded but seen by nobody) is allowed: recording comes first.
//!
//! `STENOGRAPH_KILL_CYCLES` sets the number of kills for each release level (default 6; 1,000 take
//! about eight minutes each), `STENOGRAPH_KILL_SEED` repeats the moments of an earlier run.
//!
//! Checked against the mutants "`record::Held::release` lets go at once" (the ledger then holds marks
//! that the record lacks) and "tickets are published before the append". A kill rarely cuts an append
//! short, so torn tails are the matter of `record_recovery.rs` and `record_damage.rs`.

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

use std::collections::{BTreeSet, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use support::dice::{Dice, setting};
use support::ledger::{FEW_RULES, Ledger, Load, assert_torn_at_most, recorded, start_upstream};
use support::{Gateway, IdentityProvider, RESOURCE};

/// A record is closed and looked at after so many kills: `verify` runs after each, so its cost grows
/// with the square of this.
const CYCLES_OF_ONE_RECORD: u64 = 16;

/// Cycle and client of a mark, and its place in what that client's connection has seen.
fn place(mark: &str) -> (String, (u64, u8)) {
    let (kind, rest) = mark.split_once('-').expect("kind-cycle-client-number");
    let (label, number) = rest.rsplit_once('-').expect("kind-cycle-client-number");
    let step = match kind {
        "call" => 0,
        "event" => 1,
        _ => 2,
    };
    (label.to_owned(), (number.parse().expect("a number"), step))
}

/// What `queued` permits: of each connection the newest may be missing, and nothing before something
/// that is there.
fn only_newest_missing(
    ledger: &BTreeSet<String>,
    recorded: &BTreeSet<String>,
) -> Result<u64, String> {
    let mut newest_there: HashMap<String, (u64, u8)> = HashMap::new();
    for mark in ledger.intersection(recorded) {
        let (label, at) = place(mark);
        let newest = newest_there.entry(label).or_default();
        *newest = at.max(*newest);
    }
    let mut missing = 0;
    for mark in ledger.difference(recorded) {
        let (label, at) = place(mark);
        if newest_there.get(&label).is_some_and(|newest| at < *newest) {
            return Err(format!("{mark} is missing, and {newest_there:?} is there"));
        }
        missing += 1;
    }
    Ok(missing)
}

#[derive(Default)]
struct Counts {
    seen: usize,
    missing: u64,
    torn: u64,
}

/// Ends one record and holds it against the ledger, which is then empty.
fn close_record(gateway: &mut Gateway, ledger: &Ledger, release: &str, counts: &mut Counts) {
    // What the dead gateways handed to the kernel still reaches the upstream's threads.
    thread::sleep(Duration::from_millis(300));
    gateway.start();
    let verify = ["verify", "--json", "--key", &gateway.verifier];
    let (code, said, why) = gateway.command(&verify);
    assert_eq!(code, 0, "verify while it runs again: {said}{why}");
    let verifier = gateway.verifier.clone();
    assert!(gateway.stop(), "the last one drains and seals");
    let (code, said, why) = gateway.command(&["verify", "--json", "--key", &verifier]);
    assert_eq!(code, 0, "verify in the end: {said}{why}");
    let ledger = std::mem::take(&mut *ledger.lock().expect("no panic"));
    let ledger: BTreeSet<String> = ledger.into_keys().collect();
    let recorded = recorded(&gateway.directory);
    counts.seen += ledger.len();
    if release == "queued" {
        counts.missing +=
            only_newest_missing(&ledger, &recorded).unwrap_or_else(|what| panic!("{what}"));
    } else {
        let lost: Vec<_> = ledger.difference(&recorded).take(10).collect();
        assert!(lost.is_empty(), "seen outside but not in the record: {lost:?}");
    }
    std::fs::remove_dir_all(gateway.directory.join("record")).expect("the record goes");
}

fn kill_over_and_over(release: &str) {
    let cycles = setting("STENOGRAPH_KILL_CYCLES").unwrap_or(6);
    let (mut dice, seed) = Dice::of_setting("STENOGRAPH_KILL_SEED");
    println!("STENOGRAPH_KILL_SEED={seed} STENOGRAPH_KILL_CYCLES={cycles}");
    let begun = Instant::now();
    let directory = tempfile::tempdir().expect("directory");
    let provider = IdentityProvider::start();
    let ledger = Ledger::default();
    let upstream = start_upstream(ledger.clone());
    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    let mut gateway =
        Gateway::prepare(&binary, directory.path(), &provider, upstream, "\"auto\"", release, "");
    gateway.few_rules(FEW_RULES);
    let token = provider.token("builder", &["engineering"], RESOURCE).into();
    let mut answered = 0;
    let mut counts = Counts::default();

    for cycle in 0..cycles {
        gateway.start();
        let load = Load::start(gateway.address, &token, cycle, &ledger, false);
        thread::sleep(Duration::from_micros(dice.next() % 200_000));
        gateway.kill();
        answered += load.stop();
        counts.torn += u64::from(assert_torn_at_most(&gateway));
        if (cycle + 1) % CYCLES_OF_ONE_RECORD == 0 || cycle + 1 == cycles {
            close_record(&mut gateway, &ledger, release, &mut counts);
        }
    }
    println!(
        "{release}: {cycles} kills in {:?}, {} marks seen outside, {} answered, {} torn tails, {} of \
         the newest missing",
        begun.elapsed(),
        counts.seen,
        answered,
        counts.torn,
        counts.missing,
    );
    assert!(counts.seen as u64 > cycles * 20, "hardly any load: {}", counts.seen);
}

#[test]
fn nothing_seen_is_lost_by_a_kill_when_released_as_written() {
    kill_over_and_over("written");
}

#[test]
fn nothing_seen_is_lost_by_a_kill_when_released_as_synced() {
    kill_over_and_over("synced");
}

#[test]
fn only_the_newest_is_lost_by_a_kill_when_released_as_queued() {
    kill_over_and_over("queued");
}

#[test]
fn the_rule_of_queued_permits_the_newest_and_nothing_before_it() {
    let set = |marks: &[&str]| marks.iter().map(|mark| (*mark).to_owned()).collect::<BTreeSet<_>>();
    let ledger = set(&["call-0-1-1", "answer-0-1-1", "call-0-1-2", "event-0-1-2", "call-0-2-9"]);
    let newest = set(&["call-0-1-1", "answer-0-1-1", "call-0-2-9"]);
    assert_eq!(only_newest_missing(&ledger, &newest), Ok(2));
    let middle = set(&["call-0-1-1", "event-0-1-2"]);
    assert!(only_newest_missing(&ledger, &middle).is_err());
}

// Two processes on one directory: the second gives up before it has written a byte.
#[test]
fn a_second_process_on_the_same_record_is_turned_away() {
    let directory = tempfile::tempdir().expect("directory");
    let provider = IdentityProvider::start();
    let upstream = start_upstream(Ledger::default());
    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    let mut gateway =
        Gateway::prepare(&binary, directory.path(), &provider, upstream, "\"auto\"", "written", "");
    gateway.few_rules(FEW_RULES);
    gateway.start();
    let second = std::process::Command::new(&binary)
        .args(["serve", "--config"])
        .arg(directory.path().join("stenograph.toml"))
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(4), "{said}");
    assert!(said.contains("another gateway writes this record"), "{said}");
    let verifier = gateway.verifier.clone();
    assert!(gateway.stop());
    let (code, said, why) = gateway.command(&["verify", "--json", "--key", &verifier]);
    assert_eq!(code, 0, "{said}{why}");
    assert_eq!(
        std::fs::read_dir(directory.path().join("record/segments")).expect("there").count(),
        1
    );
}
