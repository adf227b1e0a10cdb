//! Everything around a connection: settings, keys, grants, rules, and a real recorder over a disk in
//! memory that the test can stall or fail.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stenograph::app::demo::idp::SigningKey;
use stenograph::auth::cache::Cache;
use stenograph::auth::deny::DenyList;
use stenograph::auth::handle::HandleKey;
use stenograph::auth::keys::{Algorithm, IssuerKeys, KeySet, KeySets};
use stenograph::auth::metadata;
use stenograph::auth::token::Issuer;
use stenograph::gateway::budget::Budget;
use stenograph::gateway::demands::Demands;
use stenograph::gateway::env::{
    Env, Ids, Pseudonyms, Route, Seals, Settings, Snapshot, Terms, WorkerCounters,
};
use stenograph::gateway::fault;
use stenograph::gateway::metrics::Metrics;
use stenograph::gateway::refusals::Refusals;
use stenograph::gateway::schemas::Schemas;
use stenograph::gateway::session::SessionTable;
use stenograph::guard::policy::{Grant, Policy};
use stenograph::guard::{Mask, Opaque, RuleSet, Scanner, Structured, glob::Glob};
use stenograph::limits::Limits;
use stenograph::record::entry::EntryView;
use stenograph::record::reader::{Checks, read};
use stenograph::record::scan::{Place, Sink};
use stenograph::record::writer::{self, Sealing, Writer};
use stenograph::record::{Kind, Level, PartKind};
use stenograph::types::{ExchangeId, Now};
use stenograph::wire::coding::Coding;
use stenograph::wire::json as strict;

use super::record_support::{How, MemoryDisk, key, settings as record_settings};

pub const ISSUER: &str = "https://login.example.com";
pub const RESOURCE: &str = "https://mcp.example.com/codegen";
pub const NOW_S: u64 = 1_800_000_000;

/// What the rules of these tests look for.
pub const PLANTED: &str = "MASKME-abcdef123456";
pub const FORBIDDEN: &str = "BLOCKME-123456";

const RULES_TEXT: &str = r#"
schema = 1
[pack]
id = "play"
version = "1"
title = "What is planted"
[[rule]]
id = "planted"
title = "Planted"
category = "credential"
pattern = '\b(MASKME-[a-z0-9]{12})\b'
tests.match = ['MASKME-abcdef123456']
tests.no_match = ['MASKME-abc']
[[rule]]
id = "forbidden"
title = "Forbidden"
category = "credential"
pattern = '\b(BLOCKME-[0-9]{6})\b'
action = { request = "block", response = "block" }
tests.match = ['BLOCKME-123456']
tests.no_match = ['BLOCKME-1']
[[rule]]
id = "number"
title = "Number"
category = "pii"
pattern = 'SSN-([0-9]{9})\b'
structured = "mask"
tests.match = ['SSN-123456789']
tests.no_match = ['SSN-1234']
"#;

pub static RULES: LazyLock<Arc<RuleSet>> = LazyLock::new(|| {
    RuleSet::compile(&[("play".to_owned(), RULES_TEXT.to_owned())], false, &[]).unwrap()
});
static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate("one", Algorithm::Es256));
/// A key that the issuer publishes later.
static LATE: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate("late", Algorithm::Es256));

/// What a test may choose.
#[derive(Clone)]
pub struct Plan {
    pub limits: Limits,
    pub tools: Vec<&'static str>,
    pub groups: Vec<&'static str>,
    /// Methods granted by name.
    pub methods: Vec<&'static str>,
    /// Browser origins let in.
    pub origins: Vec<String>,
    pub level: Level,
    pub mask: Mask,
    pub structured: Structured,
    pub terms: Terms,
    /// What becomes of opaque content.
    pub opaque: Opaque,
    /// Further grants, each of one tool, and what becomes of opaque content there.
    pub also: Vec<(&'static str, Opaque)>,
    /// Id of the policy in force.
    pub policy: &'static str,
    pub late_key: bool,
    /// What the machines hand over to be sealed, and to whom the writer seals.
    pub seals: Seals,
    pub sealing: Option<Sealing>,
    /// A fetch of keys is under way.
    pub fetching: bool,
    /// Codings in which the upstream's answers may come.
    pub decode: Vec<Coding>,
    /// Path that callers use.
    pub path: &'static str,
    /// Where the upstream is.
    pub address: &'static str,
    /// How the gateway shows itself to the upstream.
    pub credential: &'static str,
    /// What the listener demands.
    pub demands: Demands,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            limits: Limits::default(),
            tools: vec!["generate_*", "echo"],
            groups: vec!["engineering"],
            methods: Vec::new(),
            origins: Vec::new(),
            level: Level::Written,
            mask: Mask::Fill,
            structured: Structured::Block,
            terms: Terms::default(),
            opaque: Opaque::Allow,
            also: Vec::new(),
            policy: "one",
            late_key: false,
            seals: Seals::default(),
            sealing: None,
            fetching: false,
            decode: Vec::new(),
            path: "/codegen",
            address: "127.0.0.1:1",
            credential: "Bearer gateways-own",
            demands: Demands::default(),
        }
    }
}

/// One entry of the record, as tests look at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub sequence: u64,
    pub kind: Kind,
    pub exchange: Option<ExchangeId>,
    pub ordinal: u32,
    pub status: u16,
    /// Kind, and the bytes where they are kept.
    pub parts: Vec<(u8, Option<Vec<u8>>)>,
}

impl Recorded {
    pub fn part(&self, kind: PartKind) -> Option<&[u8]> {
        self.parts.iter().find(|(number, _)| *number == kind as u8)?.1.as_deref()
    }

    pub fn detail(&self) -> Value {
        serde_json::from_slice(self.part(PartKind::Detail).unwrap_or_default()).unwrap_or_default()
    }

    /// All parts, one after the other.
    pub fn text(&self) -> String {
        let kept = self.parts.iter().filter_map(|(_, bytes)| bytes.as_ref());
        kept.map(|bytes| String::from_utf8_lossy(bytes) + "\n").collect()
    }
}

/// Keeps every entry.
pub struct Keep(pub Vec<Recorded>);

impl Sink for Keep {
    fn entry(&mut self, _place: &Place, entry: &EntryView<'_>) {
        let parts = entry.parts.iter();
        self.0.push(Recorded {
            sequence: entry.sequence,
            kind: entry.kind().expect("this version knows its kinds"),
            exchange: entry.exchange,
            ordinal: entry.ordinal,
            status: entry.status,
            parts: parts.map(|part| (part.kind_number, part.bytes.map(<[u8]>::to_vec))).collect(),
        });
    }
}

pub struct Stage {
    pub env: Env,
    pub now: Now,
    pub disk: MemoryDisk,
    /// The disk takes nothing now; nobody waits for the record.
    pub stalled: bool,
    plan: Plan,
    deny: Arc<DenyList>,
    writer: Option<Writer>,
}

impl Stage {
    pub fn new(plan: Plan) -> Stage {
        let disk = MemoryDisk::new();
        let mut write = record_settings(1, plan.limits.clone());
        write.sealing = plan.sealing.clone();
        let (writer, mut recorders) = writer::start(Box::new(disk.clone()), write).unwrap();
        let deny = Arc::new(DenyList::default());
        let metrics = Arc::new(Metrics::new(1, vec!["codegen".to_owned()], fault::LABELS));
        let snapshot = Arc::new(snapshot(&plan, &deny, 1));
        let env = Env {
            scanner: Scanner::new(RULES.clone(), [5; 32], &plan.limits),
            json: strict::Scratch::new(),
            tokens: Cache::new(&plan.limits),
            recorder: recorders.pop().unwrap(),
            ids: Ids::new(0, 7),
            sessions: SessionTable::new(64),
            schemas: Schemas::new(1 << 20),
            budget: Budget::new(plan.limits.inflight_bytes_max),
            metrics: WorkerCounters { all: metrics, worker: 0 },
            pseudonyms: Pseudonyms::default(),
            refusals: Refusals::default(),
            notices: Vec::new(),
            keys_wanted: Vec::new(),
            draining: false,
            drained: false,
            snapshot,
        };
        let now = Now { utc_ns: NOW_S * 1_000_000_000, mono_ns: 1_000_000_000_000 };
        Stage { env, now, disk, stalled: false, plan, deny, writer: Some(writer) }
    }

    fn publish(&mut self) {
        let generation = self.env.snapshot.generation + 1;
        self.env.snapshot = Arc::new(snapshot(&self.plan, &self.deny, generation));
    }

    pub fn change(&mut self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan);
        self.publish();
    }

    pub fn deny(&mut self, subject: &str) {
        let text = format!("[[deny]]\nissuer = \"{ISSUER}\"\nsubject = \"{subject}\"\n");
        self.deny = Arc::new(DenyList::parse(&text).unwrap());
        self.publish();
    }

    pub fn stall(&mut self, stalled: bool) {
        self.stalled = stalled;
        self.disk.stall(stalled);
    }

    /// Every write fails from now on, or none.
    pub fn fail(&mut self, failing: bool) {
        let range = if failing { self.disk.calls()..u64::MAX } else { 0..0 };
        self.disk.fail(range, How::Enospc);
    }

    pub fn token(&self, subject: &str, life_s: u64) -> String {
        token_of(&KEY, subject, life_s)
    }

    /// Signed with the key that the issuer publishes later.
    pub fn late_token(&self) -> String {
        token_of(&LATE, "alice", 600)
    }

    /// Waits until everything submitted is written.
    pub fn settle(&self) {
        let progress = self.env.recorder.progress();
        until("the queue to be empty", || progress.queued_entries() == 0);
    }

    /// Everything recorded so far that belongs to an exchange.
    pub fn record(&self) -> Vec<Recorded> {
        let mut all = self.all();
        all.retain(|entry| entry.exchange.is_some());
        all
    }

    /// Everything recorded so far.
    pub fn all(&self) -> Vec<Recorded> {
        let mut keep = Keep(Vec::new());
        let log_key = key();
        let checks = Checks { key: Some(log_key.verifier()), commitments: true };
        let files = MemoryDisk::with(self.disk.image());
        let reading = read(&files, checks, &mut keep).unwrap();
        assert!(reading.damage.is_empty(), "{:?}", reading.damage);
        keep.0
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.fail(false);
        self.stall(false);
        let report = self.writer.take().map(Writer::stop);
        if !std::thread::panicking() {
            report.unwrap().unwrap();
        }
    }
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    let mut turns = 0;
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited 60 s for {what}");
        turns += 1;
        match turns {
            0..50 => std::thread::yield_now(),
            _ => std::thread::sleep(Duration::from_micros(100)),
        }
    }
}

fn token_of(key: &SigningKey, subject: &str, life_s: u64) -> String {
    key.mint(&json!({
        "iss": ISSUER, "sub": subject, "aud": RESOURCE, "client_id": "ide", "jti": "t-1",
        "groups": ["engineering"], "iat": NOW_S - 10, "exp": NOW_S + life_s,
    }))
}

fn snapshot(plan: &Plan, deny: &Arc<DenyList>, generation: u64) -> Snapshot {
    let mut jwks = vec![KEY.jwk()];
    if plan.late_key {
        jwks.push(LATE.jwk());
    }
    snapshot_of(plan, deny, generation, &jwks)
}

/// A snapshot in which the issuer publishes these keys.
pub fn snapshot_of(plan: &Plan, deny: &Arc<DenyList>, generation: u64, jwks: &[Value]) -> Snapshot {
    let algorithms = vec![Algorithm::Es256, Algorithm::EdDsa];
    let set = KeySet::read(json!({ "keys": jwks }).to_string().as_bytes(), &algorithms).unwrap();
    let known = IssuerKeys {
        set: Some(Arc::new(set)),
        usable_until_ns: u64::MAX,
        fetching: plan.fetching,
        wish_from_ns: u64::MAX,
        ..IssuerKeys::default()
    };
    let issuer = Issuer {
        url: ISSUER.to_owned(),
        groups_claim: "groups".to_owned(),
        algorithms,
        token_types: vec!["at+jwt".to_owned()],
    };
    let route = Route {
        name: "codegen".into(),
        path: plan.path.to_owned(),
        host: "upstream.internal:3001".to_owned(),
        target: "/mcp".to_owned(),
        address: plan.address.parse().unwrap(),
        tls: None,
        resource: RESOURCE.into(),
        metadata_url: metadata::metadata_url(RESOURCE).unwrap(),
        metadata_path: metadata::metadata_path(RESOURCE).unwrap(),
        metadata: metadata::document(RESOURCE, &[ISSUER]).into(),
        credential: Some(("Authorization".to_owned(), plan.credential.as_bytes().to_vec())),
        decode: plan.decode.clone(),
        connections: 8,
    };
    let grant = Grant {
        groups: plan.groups.iter().map(|group| (*group).to_owned()).collect(),
        tools: plan.tools.iter().map(|tool| Glob::new(tool)).collect(),
        methods: plan.methods.iter().map(|method| Glob::new(method)).collect(),
        opaque: plan.opaque,
        ..Grant::default()
    };
    let also = plan.also.iter().map(|(tool, opaque)| Grant {
        groups: grant.groups.clone(),
        tools: vec![Glob::new(tool)],
        opaque: *opaque,
        ..Grant::default()
    });
    let grants: Vec<Grant> = std::iter::once(grant.clone()).chain(also).collect();
    let settings = Settings {
        policy_id: plan.policy.into(),
        limits: plan.limits.clone(),
        routes: vec![route],
        issuers: vec![issuer],
        grant_terms: vec![plan.terms; grants.len()],
        policy: Policy::new(grants),
        proxies: vec![None],
        demands: vec![Arc::new(plan.demands.clone())],
        origins: vec![plan.origins.clone()],
        // What the requests of these tests are sent to.
        hosts: vec![vec!["g".to_owned(), "mcp.example.com".to_owned()]],
        level: plan.level,
        mask: plan.mask,
        structured: plan.structured,
        handle_key: HandleKey::new(&[1; 32]),
        pseudonym_key: [2; 32],
        seals: plan.seals,
    };
    Snapshot {
        generation,
        settings: Arc::new(settings),
        keys: Arc::new(KeySets::new(generation, vec![known])),
        deny: deny.clone(),
        rules: RULES.clone(),
    }
}
