//! Key sets over time: the machine with a driven clock, the cache that rests on it, and real fetches
//! from a real identity provider over loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};
use stenograph::app::demo::idp::{Idp, SigningKey, claims};
use stenograph::app::keyfetch;
use stenograph::auth::cache::{Cache, Setting};
use stenograph::auth::keys::{
    Algorithm, Fetch, FetchFault, IssuerKeys, KeyFetcher, KeySet, KeySets, Stage,
};
use stenograph::auth::token::{Issuer, TokenFault, verify};
use stenograph::limits::Limits;
use stenograph::types::Now;

const ISSUER: &str = "https://login.example.com/realm";
const AUDIENCE: &str = "https://mcp.example.com/codegen";
const UTC_S: u64 = 1_800_000_000;

fn issuer(url: &str) -> Issuer {
    Issuer {
        url: url.to_owned(),
        groups_claim: "groups".to_owned(),
        algorithms: Algorithm::ALL.to_vec(),
        token_types: vec!["at+jwt".to_owned()],
    }
}

/// `ms` milliseconds after the beginning.
fn at(ms: u64) -> Now {
    Now { utc_ns: UTC_S * 1_000_000_000 + ms * 1_000_000, mono_ns: (1_000_000 + ms) * 1_000_000 }
}

fn discovery(issuer: &str, keys: &str) -> Vec<u8> {
    json!({"issuer": issuer, "jwks_uri": keys}).to_string().into_bytes()
}

fn key_set(keys: &[&SigningKey]) -> Vec<u8> {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

fn good_discovery() -> Vec<u8> {
    discovery(ISSUER, "https://keys.example.net/jwks")
}

/// One whole good run at `ms`.
fn run(machine: &mut KeyFetcher, ms: u64, keys: &[&SigningKey]) {
    assert_eq!(machine.poll(at(ms)).map(|fetch| fetch.stage), Some(Stage::Discovery));
    machine.arrived(0, &good_discovery(), at(ms)).unwrap();
    assert_eq!(machine.poll(at(ms)).map(|fetch| fetch.stage), Some(Stage::Keys));
    machine.arrived(0, &key_set(keys), at(ms)).unwrap();
    assert_eq!(machine.poll(at(ms)), None);
}

#[test]
fn a_run_fetches_discovery_then_keys() {
    let key = SigningKey::generate("k1", Algorithm::EdDsa);
    let limits = Limits::default();
    let mut machine = KeyFetcher::new(&[issuer(ISSUER)], &limits, 7);
    assert_eq!(machine.deadline_ns(), 0);
    assert!(machine.snapshot().usable(0, at(0)).is_none());
    assert!(machine.snapshot().waiting_helps(0, at(0)));
    let first = machine.poll(at(0)).unwrap();
    let expected = Fetch {
        issuer: 0,
        stage: Stage::Discovery,
        url: format!("{ISSUER}/.well-known/openid-configuration"),
        bytes_max: limits.keys_bytes_max,
    };
    assert_eq!(first, expected);
    assert_eq!(machine.poll(at(1)), None, "one fetch at a time");
    assert_eq!(machine.deadline_ns(), u64::MAX);
    machine.arrived(0, &good_discovery(), at(2)).unwrap();
    let second = machine.poll(at(2)).unwrap();
    assert_eq!((second.stage, second.url.as_str()), (Stage::Keys, "https://keys.example.net/jwks"));
    machine.arrived(0, &key_set(&[&key]), at(3)).unwrap();
    let snapshot = machine.snapshot();
    assert_eq!((snapshot.generation, snapshot.issuer(0).unwrap().attempts), (8, 1));
    assert!(snapshot.complete(at(3)));
    assert_eq!(machine.deadline_ns(), at(3 + limits.keys_fresh_ms_max).mono_ns);
    // The age counts from the beginning of the fetch.
    assert!(snapshot.usable(0, at(limits.keys_age_ms_max - 1)).is_some());
    assert!(snapshot.usable(0, at(limits.keys_age_ms_max)).is_none());
}

/// Mutants: a new generation with every fetch; none when a key goes; `usable` without the age.
#[test]
fn generations_follow_the_keys_and_the_last_good_set_ages() {
    let (one, two) = (
        SigningKey::generate("k1", Algorithm::EdDsa),
        SigningKey::generate("k2", Algorithm::EdDsa),
    );
    let limits = Limits::default();
    let (fresh, age) = (limits.keys_fresh_ms_max, limits.keys_age_ms_max);
    let mut machine = KeyFetcher::new(&[issuer(ISSUER)], &limits, 0);
    run(&mut machine, 0, &[&one]);
    run(&mut machine, fresh, &[&one]);
    assert_eq!(machine.snapshot().generation, 1);
    run(&mut machine, 2 * fresh, &[&one, &two]);
    assert_eq!(machine.snapshot().generation, 2);
    run(&mut machine, 3 * fresh, &[&two]);
    assert_eq!(machine.snapshot().generation, 3);
    // From here on nothing is reachable: 1, 2, 4, … 60 s pauses, and the set stays until its age.
    let mut ms = 4 * fresh;
    for pause_s in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
        assert!(machine.poll(at(ms)).is_some());
        machine.failed(0, at(ms));
        assert_eq!(machine.deadline_ns(), at(ms + pause_s * 1000).mono_ns);
        assert_eq!(machine.poll(at(ms + pause_s * 1000 - 1)), None);
        ms += pause_s * 1000;
    }
    let snapshot = machine.snapshot();
    assert_eq!((snapshot.generation, snapshot.issuer(0).unwrap().attempts), (3, 13));
    assert!(snapshot.usable(0, at(3 * fresh + age - 1)).is_some());
    assert!(snapshot.usable(0, at(3 * fresh + age)).is_none());
    // The same keys back after their age: what was cached before must not revive unseen.
    run(&mut machine, 3 * fresh + age, &[&two]);
    assert_eq!(machine.snapshot().generation, 4);
    assert_eq!(machine.deadline_ns(), at(4 * fresh + age).mono_ns, "pauses are forgotten");
}

/// Mutants: `want` without the pause; `want` that starts a second fetch beside one under way.
#[test]
fn unknown_keys_cause_one_fetch_a_minute() {
    let key = SigningKey::generate("k1", Algorithm::EdDsa);
    let limits = Limits::default();
    let mut machine = KeyFetcher::new(&[issuer(ISSUER)], &limits, 0);
    assert!(machine.want(0, at(0)), "before the first fetch it is due anyway");
    run(&mut machine, 0, &[&key]);
    for ms in (0..60_000).step_by(777) {
        assert!(!machine.want(0, at(ms)));
        assert!(!machine.snapshot().waiting_helps(0, at(ms)));
        assert_eq!(machine.poll(at(ms)), None);
    }
    assert!(machine.snapshot().waiting_helps(0, at(60_000)));
    assert!(machine.want(0, at(60_000)));
    assert!(machine.snapshot().waiting_helps(0, at(60_000)));
    run(&mut machine, 60_000, &[&key]);
    assert!(!machine.want(0, at(60_001)));
    assert!(!machine.want(9, at(999_999)), "no such issuer");
}

proptest! {
    /// Whatever happens in whatever order: at most one fetch under way, at most one wish granted per
    /// pause, never a set older than its age, and the machine always has a next step.
    #[test]
    fn the_machine_keeps_its_invariants(
        steps in proptest::collection::vec((0u8..5, 0u64..40_000), 1..200)
    ) {
        let key = SigningKey::generate("k1", Algorithm::EdDsa);
        let limits = Limits { keys_age_ms_max: 300_000, ..Limits::default() };
        let mut machine = KeyFetcher::new(&[issuer(ISSUER)], &limits, 0);
        let (mut ms, mut running, mut fetched_ms) = (0, None, None);
        let mut granted: Vec<u64> = Vec::new();
        for (step, wait) in steps {
            ms += wait;
            match step {
                0 => if let Some(fetch) = machine.poll(at(ms)) {
                    prop_assert_eq!(running, None, "two fetches at once");
                    running = Some((fetch.stage, if fetch.stage == Stage::Discovery { ms } else { 0 }));
                },
                1 => if machine.want(0, at(ms)) { granted.push(ms) },
                2 => if let Some((stage, began)) = running.take() {
                    if stage == Stage::Discovery {
                        machine.arrived(0, &good_discovery(), at(ms)).unwrap();
                        let fetch = machine.poll(at(ms)).unwrap();
                        running = Some((fetch.stage, began));
                    } else {
                        machine.arrived(0, &key_set(&[&key]), at(ms)).unwrap();
                        fetched_ms = Some(began);
                    }
                },
                3 => if running.take().is_some() { machine.failed(0, at(ms)) },
                _ => if running.take().is_some() {
                    let outcome = machine.arrived(0, b"[]", at(ms));
                    prop_assert!(outcome.is_err());
                },
            }
            let usable = machine.snapshot().usable(0, at(ms)).is_some();
            prop_assert_eq!(usable, fetched_ms.is_some_and(|then| ms < then + limits.keys_age_ms_max));
            prop_assert_eq!(machine.deadline_ns() == u64::MAX, running.is_some());
        }
        for pair in granted.windows(2) {
            prop_assert!(pair[1] - pair[0] >= limits.keys_refetch_ms_min);
        }
    }
}

/// Mutants: `issuer` not compared; `jwks_uri` of any scheme; loopback http allowed from https issuers.
#[test]
fn a_discovery_document_is_believed_only_about_itself() {
    let loopback = "http://127.0.0.1:8080";
    let keys = "https://keys.example.net/jwks";
    let cases: Vec<(&str, Vec<u8>, FetchFault)> = vec![
        (ISSUER, b"".to_vec(), FetchFault::Document),
        (ISSUER, b"[]".to_vec(), FetchFault::Document),
        (ISSUER, b"<html>".to_vec(), FetchFault::Document),
        (
            ISSUER,
            format!(
                "{{\"issuer\":\"https://evil\",\"issuer\":\"{ISSUER}\",\"jwks_uri\":\"{keys}\"}}"
            )
            .into_bytes(),
            FetchFault::Document,
        ),
        (ISSUER, discovery("https://login.example.com", keys), FetchFault::Issuer),
        (ISSUER, discovery("https://login.example.com/realm/", keys), FetchFault::Issuer),
        (ISSUER, discovery("https://LOGIN.example.com/realm", keys), FetchFault::Issuer),
        (ISSUER, json!({ "jwks_uri": keys }).to_string().into_bytes(), FetchFault::Issuer),
        (ISSUER, json!({ "issuer": ISSUER }).to_string().into_bytes(), FetchFault::KeysAddress),
        (ISSUER, discovery(ISSUER, "http://keys.example.net/jwks"), FetchFault::KeysAddress),
        (ISSUER, discovery(ISSUER, "http://127.0.0.1:1/jwks"), FetchFault::KeysAddress),
        (ISSUER, discovery(ISSUER, "http://localhost/jwks"), FetchFault::KeysAddress),
        (ISSUER, discovery(ISSUER, "file:///etc/passwd"), FetchFault::KeysAddress),
        (ISSUER, discovery(ISSUER, "HTTPS://keys.example.net"), FetchFault::KeysAddress),
        (ISSUER, discovery(ISSUER, "https://keys.example.net/\r\nx"), FetchFault::KeysAddress),
        (loopback, discovery(loopback, "http://10.0.0.1/jwks"), FetchFault::KeysAddress),
        (loopback, discovery(loopback, "http://127.0.0.1@10.0.0.1/"), FetchFault::KeysAddress),
        (loopback, discovery(loopback, "http://localhost.example.net/"), FetchFault::KeysAddress),
        (loopback, discovery(loopback, "http://[::1].example.net/"), FetchFault::KeysAddress),
    ];
    for (url, document, fault) in cases {
        let mut machine = KeyFetcher::new(&[issuer(url)], &Limits::default(), 0);
        machine.poll(at(0)).unwrap();
        let text = String::from_utf8_lossy(&document).into_owned();
        assert_eq!(machine.arrived(0, &document, at(0)), Err(fault), "{text}");
        assert_eq!(machine.poll(at(0)), None);
    }
    for keys in ["http://localhost:1/k", "http://127.1.2.3/k", "http://[::1]:8/k", "https://a/k"] {
        let mut machine = KeyFetcher::new(&[issuer(loopback)], &Limits::default(), 0);
        machine.poll(at(0)).unwrap();
        machine.arrived(0, &discovery(loopback, keys), at(0)).unwrap();
        assert_eq!(machine.poll(at(0)).unwrap().url, keys);
    }
    for document in
        ["{}", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\",\"kid\":\"a\"}]}"]
    {
        let mut machine = KeyFetcher::new(&[issuer(ISSUER)], &Limits::default(), 0);
        machine.poll(at(0)).unwrap();
        machine.arrived(0, &good_discovery(), at(0)).unwrap();
        machine.poll(at(0)).unwrap();
        assert!(machine.arrived(0, document.as_bytes(), at(0)).is_err());
        assert!(machine.snapshot().usable(0, at(0)).is_none());
    }
}

#[test]
fn addresses_of_issuers_are_https_or_loopback() {
    for url in
        ["https://a.example", "https://a.example:8443/x", "http://localhost:1", "http://[::1]"]
    {
        assert!(KeySets::address_allowed(url), "{url}");
    }
    for url in [
        "http://a.example",
        "https://",
        "https:///x",
        "https://u@a",
        "ftp://a",
        "a.example",
        "https://a?b",
        "https://a#b",
        "https://a b",
        "http://127.0.0.1@a",
        "http://localhost\\@a",
    ] {
        assert!(!KeySets::address_allowed(url), "{url}");
    }
}

// ---- the cache -------------------------------------------------------------------------------

struct Bench {
    key: SigningKey,
    issuers: Vec<Issuer>,
    keys: KeySets,
    limits: Limits,
}

impl Bench {
    fn new(limits: Limits) -> Bench {
        let key = SigningKey::generate("k1", Algorithm::EdDsa);
        let keys = Bench::sets(1, &[&key], u64::MAX);
        Bench { key, issuers: vec![issuer(ISSUER)], keys, limits }
    }

    fn sets(generation: u64, keys: &[&SigningKey], usable_until_ns: u64) -> KeySets {
        let set = KeySet::read(&key_set(keys), &Algorithm::ALL).unwrap();
        let keys = IssuerKeys { set: Some(Arc::new(set)), usable_until_ns, ..Default::default() };
        KeySets::new(generation, vec![keys])
    }

    fn setting(&self, ms: u64) -> Setting<'_> {
        Setting {
            issuers: &self.issuers,
            keys: &self.keys,
            policy_generation: 1,
            now: at(ms),
            limits: &self.limits,
        }
    }

    fn token(&self, subject: &str, life_s: u64) -> String {
        let mut claims = claims(ISSUER, subject, &[], AUDIENCE, life_s);
        claims["iat"] = json!(UTC_S);
        claims["exp"] = json!(UTC_S + life_s);
        self.key.mint(&claims)
    }
}

/// Mutants: an entry that does not compare the keys' generation, the policy's, the age, or `exp`; a
/// place without the upstream.
#[test]
fn a_cached_token_ends_with_all_it_rests_on() {
    let mut bench = Bench::new(Limits::default());
    let token = bench.token("alice", 60);
    let mut cache: Cache<u32> = Cache::new(&bench.limits);
    let mut verified = 0;
    let mut check = |bench: &Bench, setting: Setting<'_>, upstream: u16, audience: &str| {
        let _ = &bench;
        let outcome = cache.check(token.as_bytes(), upstream, audience, setting, |identity| {
            assert_eq!(&*identity.subject, "alice");
            verified += 1;
            verified
        });
        outcome.map(|(_, number)| *number)
    };
    assert_eq!(check(&bench, bench.setting(0), 0, AUDIENCE), Ok(1));
    assert_eq!(check(&bench, bench.setting(1), 0, AUDIENCE), Ok(1));
    assert_eq!(check(&bench, bench.setting(1), 1, "https://b"), Err(TokenFault::WrongAudience));
    assert_eq!(check(&bench, bench.setting(1), 2, AUDIENCE), Ok(2));
    let rotated = Bench::sets(5, &[&bench.key], u64::MAX);
    let setting = Setting { keys: &rotated, ..bench.setting(1) };
    assert_eq!(check(&bench, setting, 2, AUDIENCE), Ok(3));
    assert_eq!(check(&bench, setting, 2, AUDIENCE), Ok(3));
    let reloaded = Setting { policy_generation: 2, ..bench.setting(2) };
    assert_eq!(check(&bench, reloaded, 0, AUDIENCE), Ok(4));
    assert_eq!(check(&bench, reloaded, 0, AUDIENCE), Ok(4));
    let other = SigningKey::generate("k2", Algorithm::EdDsa);
    bench.keys = Bench::sets(2, &[&bench.key, &other], at(10_000).mono_ns);
    assert_eq!(check(&bench, bench.setting(3), 0, AUDIENCE), Ok(5));
    assert_eq!(check(&bench, bench.setting(9_999), 0, AUDIENCE), Ok(5));
    let aged = Err(TokenFault::NoKeys { issuer: 0 });
    assert_eq!(check(&bench, bench.setting(10_000), 0, AUDIENCE), aged);
    bench.keys = Bench::sets(3, &[&other], u64::MAX);
    let unknown = Err(TokenFault::UnknownKey { issuer: 0 });
    assert_eq!(check(&bench, bench.setting(10_001), 0, AUDIENCE), unknown);
    bench.keys = Bench::sets(4, &[&bench.key], u64::MAX);
    assert_eq!(check(&bench, bench.setting(59_999), 0, AUDIENCE), Ok(6));
    assert_eq!(check(&bench, bench.setting(60_000), 0, AUDIENCE), Err(TokenFault::Expired));
}

/// Mutants: remembering what `may_pass_later`; never forgetting; forgetting at once.
#[test]
fn a_bad_token_is_remembered_briefly_unless_it_can_become_good() {
    let mut bench = Bench::new(Limits::default());
    let token = bench.token("alice", 60);
    let mut cache: Cache<()> = Cache::new(&bench.limits);
    let mut check = |setting: Setting<'_>, token: &str| {
        cache.check(token.as_bytes(), 0, AUDIENCE, setting, |_| ()).map(|_| ())
    };
    // Monotonic time moves, UTC steps back: what is remembered shows.
    let stepped = |bench: &Bench, ms: u64| Now { utc_ns: at(0).utc_ns, ..bench.setting(ms).now };
    let late = bench.setting(61_000);
    assert_eq!(check(late, &token), Err(TokenFault::Expired));
    let soon = Setting { now: stepped(&bench, 61_000 + 9_999), ..bench.setting(0) };
    assert_eq!(check(soon, &token), Err(TokenFault::Expired));
    let then = Setting { now: stepped(&bench, 61_000 + 10_000), ..bench.setting(0) };
    assert_eq!(check(then, &token), Ok(()));
    // The same generation on purpose: only the verdict decides.
    let other = SigningKey::generate("k2", Algorithm::EdDsa);
    let fresh = bench.token("bob", 60);
    let known = std::mem::replace(&mut bench.keys, Bench::sets(1, &[&other], u64::MAX));
    assert_eq!(check(bench.setting(1), &fresh), Err(TokenFault::UnknownKey { issuer: 0 }));
    bench.keys = known;
    assert_eq!(check(bench.setting(2), &fresh), Ok(()));
    let long = "A".repeat(bench.limits.token_bytes_max as usize + 1);
    assert_eq!(check(bench.setting(2), &long), Err(TokenFault::TooLong));
}

#[test]
fn the_cache_is_bounded() {
    let limits = Limits { token_cache_entries_max: 16, ..Limits::default() };
    let bench = Bench::new(limits);
    let mut cache: Cache<()> = Cache::new(&bench.limits);
    for number in 0..100 {
        let token = bench.token(&format!("s{number}"), 60);
        assert!(cache.check(token.as_bytes(), 0, AUDIENCE, bench.setting(0), |_| ()).is_ok());
        assert!(cache.len() <= 16);
        assert!(number < 16 || cache.len() >= 8, "emptied by half, not more");
        let bad = format!("{token}A");
        assert!(cache.check(bad.as_bytes(), 0, AUDIENCE, bench.setting(0), |_| ()).is_err());
    }
}

// ---- real fetches ----------------------------------------------------------------------------

/// What was published, and a way to wait for it.
#[derive(Clone, Default)]
struct Board(Arc<Mutex<Arc<KeySets>>>);

impl Board {
    fn publish(&self) -> impl Fn(Arc<KeySets>) + Send + 'static {
        let board = self.clone();
        move |keys| *board.0.lock().unwrap() = keys
    }

    fn keys(&self) -> Arc<KeySets> {
        Arc::clone(&self.0.lock().unwrap())
    }

    fn wait(&self, what: &str, until: impl Fn(&KeySets) -> bool) -> Arc<KeySets> {
        let began = Instant::now();
        loop {
            let keys = self.keys();
            if until(&keys) {
                return keys;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The real clocks; the thread under test reads the same.
fn real_now() -> Now {
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let utc = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Now {
        utc_ns: utc.as_nanos() as u64,
        mono_ns: boot.tv_sec as u64 * 1_000_000_000 + boot.tv_nsec as u64,
    }
}

fn attempts(keys: &KeySets) -> u64 {
    keys.issuer(0).map_or(0, |keys| keys.attempts)
}

#[test]
fn rotation_is_followed_with_one_fetch() {
    let idp = Idp::start(Algorithm::Es256, Vec::new()).unwrap();
    let issuers = [idp.issuer()];
    let limits = Limits::default();
    let board = Board::default();
    let handle = keyfetch::spawn(&issuers, &limits, 0, board.publish()).unwrap();
    let keys = board.wait("first set", |keys| keys.complete(real_now()));
    let judge = |keys: &KeySets, token: &str| {
        verify(token.as_bytes(), &issuers, keys, AUDIENCE, real_now(), &limits)
    };
    let good = idp.claims("alice", &["engineering"], AUDIENCE, 60);
    let old = idp.mint(&good);
    assert_eq!(judge(&keys, &old).unwrap().groups, ["engineering"]);

    idp.rotate(SigningKey::generate("demo-2", Algorithm::EdDsa), true);
    let new = idp.mint(&good);
    assert_eq!(judge(&keys, &new).unwrap_err().fetch_wanted(), Some(0));
    for _ in 0..1000 {
        handle.want(0);
    }
    let keys = board.wait("second set", |keys| attempts(keys) == 2);
    assert!(judge(&keys, &new).is_ok());
    assert!(judge(&keys, &old).is_ok(), "the old key is still published");
    assert_eq!((keys.generation, idp.requests("/jwks")), (2, 2));

    // Tokens of unknown keys in any number: no further fetch within the minute.
    let stranger = SigningKey::generate("stranger", Algorithm::EdDsa);
    assert_eq!(judge(&keys, &stranger.mint(&good)), Err(TokenFault::UnknownKey { issuer: 0 }));
    assert!(!keys.waiting_helps(0, real_now()));
    for _ in 0..50 {
        handle.want(0);
        std::thread::sleep(Duration::from_millis(4));
    }
    assert_eq!((idp.requests("/jwks"), attempts(&board.keys())), (2, 2));
}

#[test]
fn a_key_that_is_gone_verifies_nothing_after_the_next_fetch() {
    let idp = Idp::start(Algorithm::EdDsa, Vec::new()).unwrap();
    let issuers = [idp.issuer()];
    let limits = Limits { keys_fresh_ms_max: 100, ..Limits::default() };
    let board = Board::default();
    let _handle = keyfetch::spawn(&issuers, &limits, 0, board.publish()).unwrap();
    let keys = board.wait("first set", |keys| keys.complete(real_now()));
    let old = idp.mint(&idp.claims("alice", &[], AUDIENCE, 60));
    let judge = |keys: &KeySets| {
        verify(old.as_bytes(), &issuers, keys, AUDIENCE, real_now(), &limits).map(|_| ())
    };
    assert_eq!(judge(&keys), Ok(()));
    idp.rotate(SigningKey::generate("demo-2", Algorithm::EdDsa), false);
    let keys = board.wait("background refresh", |keys| keys.generation == 2);
    assert_eq!(judge(&keys), Err(TokenFault::UnknownKey { issuer: 0 }));
}

#[test]
fn when_the_issuer_is_down_the_last_good_set_serves_until_its_age() {
    let idp = Idp::start(Algorithm::EdDsa, Vec::new()).unwrap();
    let (issuers, address, url) = ([idp.issuer()], idp.address(), idp.url().to_owned());
    let limits = Limits { keys_fresh_ms_max: 100, keys_age_ms_max: 3_000, ..Limits::default() };
    let board = Board::default();
    let _handle = keyfetch::spawn(&issuers, &limits, 0, board.publish()).unwrap();
    board.wait("first set", |keys| keys.complete(real_now()));
    let token = idp.mint(&idp.claims("alice", &[], AUDIENCE, 600));
    drop(idp);
    let before = attempts(&board.keys());
    let keys = board.wait("two failed fetches", |keys| attempts(keys) >= before + 2);
    let judge = |keys: &KeySets, now: Now| {
        verify(token.as_bytes(), &issuers, keys, AUDIENCE, now, &limits).map(|_| ())
    };
    // The clock is driven: the age itself is not waited for.
    let until_ns = keys.issuer(0).unwrap().usable_until_ns;
    let last = Now { mono_ns: until_ns - 1, ..real_now() };
    let after = Now { mono_ns: until_ns, ..real_now() };
    assert_eq!(judge(&keys, last), Ok(()));
    assert_eq!(judge(&keys, after), Err(TokenFault::NoKeys { issuer: 0 }));

    // Back at the same address with a new key: the pause is short enough to notice.
    let key = SigningKey::generate("back", Algorithm::EdDsa);
    let fresh = key.mint(&claims(&url, "alice", &[], AUDIENCE, 600));
    let _idp = Idp::start_at(address, vec![key], Vec::new()).unwrap();
    let keys = board.wait("recovery", |keys| keys.generation >= 2 && keys.complete(real_now()));
    let verdict = verify(fresh.as_bytes(), &issuers, &keys, AUDIENCE, real_now(), &limits);
    assert!(verdict.is_ok());
}

/// RFC 8725 §3.10. The listener stands for whatever a token points at; nobody may come.
///
/// Mutant: any code that fetches from `jku`, `x5u` or `iss` connects here.
#[test]
fn nothing_in_a_token_causes_a_request() {
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let lure = format!("http://{}", trap.local_addr().unwrap());
    let idp = Idp::start(Algorithm::Es256, Vec::new()).unwrap();
    let issuers = [idp.issuer()];
    let limits = Limits { keys_refetch_ms_min: 100, ..Limits::default() };
    let board = Board::default();
    let handle = keyfetch::spawn(&issuers, &limits, 0, board.publish()).unwrap();
    let keys = board.wait("first set", |keys| keys.complete(real_now()));
    let own = SigningKey::generate("own", Algorithm::Es256);
    let mut cache: Cache<()> = Cache::new(&limits);
    for (member, value) in [
        ("jku", json!(format!("{lure}/jwks"))),
        ("x5u", json!(format!("{lure}/chain"))),
        ("jwk", json!({"kty": "EC", "kid": "own", "jku": lure})),
        ("kid", json!(format!("{lure}/jwks"))),
        ("iss", json!(lure)),
    ] {
        let mut header = own.header();
        header[member] = value;
        for issuer in [idp.url(), &lure] {
            let token = own.mint_with(&header, &claims(issuer, "mallory", &[], AUDIENCE, 60));
            let setting = Setting {
                issuers: &issuers,
                keys: &keys,
                policy_generation: 0,
                now: real_now(),
                limits: &limits,
            };
            let verdict = cache.check(token.as_bytes(), 0, AUDIENCE, setting, |_| ());
            if let Some(issuer) = verdict.unwrap_err().fetch_wanted() {
                handle.want(issuer.into());
            }
        }
    }
    board.wait("the fetch that the unknown kid caused", |keys| attempts(keys) >= 2);
    std::thread::sleep(Duration::from_millis(200));
    let caught = trap.accept().map(|_| ()).map_err(|error| error.kind());
    assert_eq!(caught, Err(std::io::ErrorKind::WouldBlock), "somebody followed a token");
}

/// Serves `answer` to every connection, after reading a request head.
fn serve(answer: impl Fn(&mut TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            answer(&mut stream);
        }
    });
    address
}

fn fetched(url: String, limits: &Limits) -> Result<Vec<u8>, FetchFault> {
    let fetch = Fetch { issuer: 0, stage: Stage::Discovery, url, bytes_max: limits.keys_bytes_max };
    keyfetch::get(&fetch, ISSUER, limits)
}

/// Mutants: redirects followed (the trap is visited and answers 200); no limit of the body; no
/// timeout; the guard of the resolver removed (the two addresses are then tried).
#[test]
fn a_fetch_is_narrow() {
    let limits = Limits { keys_bytes_max: 4096, keys_wait_ms_max: 700, ..Limits::default() };
    let trap = serve(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    });
    assert_eq!(fetched(format!("http://{trap}/"), &limits), Ok(b"{}".to_vec()));
    let redirect = serve(move |stream| {
        let head =
            format!("HTTP/1.1 302 Found\r\nLocation: http://{trap}/\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.write_all(head.as_bytes());
    });
    assert_eq!(fetched(format!("http://{redirect}/"), &limits), Err(FetchFault::Status(302)));
    let missing = serve(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}");
    });
    assert_eq!(fetched(format!("http://{missing}/"), &limits), Err(FetchFault::Status(404)));
    let endless = serve(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        while stream.write_all(&[b' '; 1024]).is_ok() {}
    });
    assert_eq!(fetched(format!("http://{endless}/"), &limits), Err(FetchFault::TooLong));
    let long = serve(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4097\r\n\r\n");
        let _ = stream.write_all(&[b' '; 4097]);
    });
    assert_eq!(fetched(format!("http://{long}/"), &limits), Err(FetchFault::TooLong));
    let cut = serve(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}");
    });
    assert!(fetched(format!("http://{cut}/"), &limits).is_err());
    let silent = serve(|_| std::thread::sleep(Duration::from_secs(3)));
    let began = Instant::now();
    assert_eq!(fetched(format!("http://{silent}/"), &limits), Err(FetchFault::Timeout));
    assert!(began.elapsed() < Duration::from_secs(2));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(fetched(format!("http://{closed}/"), &limits), Err(FetchFault::Connect));
    // Not TLS on the other side.
    assert!(fetched(format!("https://{trap}/"), &limits).is_err());
    for url in ["http://192.0.2.1/", "http://[2001:db8::1]/", "https://127.0.0.1:9/"] {
        assert_eq!(fetched(url.to_owned(), &limits), Err(FetchFault::Resolve), "{url}");
    }
    for url in ["ftp://127.0.0.1/", "file:///etc/passwd", "nonsense", ""] {
        assert_eq!(fetched(url.to_owned(), &limits), Err(FetchFault::Address), "{url}");
    }
}

/// After `stop` nothing is published: a reload swaps threads without the old one having a last word.
#[test]
fn a_stopped_thread_is_silent() {
    let idp = Idp::start(Algorithm::EdDsa, Vec::new()).unwrap();
    let limits = Limits { keys_fresh_ms_max: 20, ..Limits::default() };
    let board = Board::default();
    let handle = keyfetch::spawn(&[idp.issuer()], &limits, 0, board.publish()).unwrap();
    board.wait("first set", |keys| keys.complete(real_now()));
    handle.stop();
    let silence = Arc::new(KeySets::default());
    *board.0.lock().unwrap() = Arc::clone(&silence);
    std::thread::sleep(Duration::from_millis(200));
    assert!(Arc::ptr_eq(&board.keys(), &silence));
}
