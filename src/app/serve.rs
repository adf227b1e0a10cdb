//! `serve`: puts the parts together, runs them, and takes them down in order.
//!
//! Start: configuration, ring probe, rules, keys, record, listeners, workers, control threads. Stop:
//! listeners close, open exchanges may end (`drain_ms_max`), counted refusals are recorded, the record
//! is sealed and signed. A panic anywhere begins the same stop: a core that serves nobody while others
//! go on would be worse than a restart, and the record stays whole.
//!
//! | may change by SIGHUP | needs a restart |
//! |---|---|
//! | grants, upstreams, origins, certificates, rules, known secrets, masks, release levels | listeners, workers, issuers, record directory and keys, admin address, limits |

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::app::admin::{self, Admin, IssuerGauges, RecorderGauges, Sources};
use crate::app::certificates::{self, Certificates};
use crate::app::cli::Exit;
use crate::app::config::{Config, Cores, MaskStyle, Problem, Release};
use crate::app::evidence::{self, Evidence, PolicyText};
use crate::app::notices::Notices;
use crate::app::witness::asking::{Asking, Witnessing};
use crate::app::witness::watch::Watch;
use crate::app::{config, denyfile, kernelclock, keyfetch, log};
use crate::auth::deny::DenyList;
use crate::auth::handle::HandleKey;
use crate::auth::keys::KeySets;
use crate::auth::metadata;
use crate::gateway::demands::Demands;
use crate::gateway::env::{Route, Seals, Settings, Snapshot, Terms};
use crate::gateway::fault;
use crate::gateway::metrics::Metrics;
use crate::guard::policy::{self, Policy};
use crate::guard::rules::{BUILTIN_NAME, CALLER_TOKEN, KNOWN_BYTES_MIN, KNOWN_PREFIX};
use crate::guard::{Engine, KnownValue, Mask, RuleFault, RuleSet, packtest};
use crate::record::disk::{Disk, RealDisk};
use crate::record::writer::{self, Writer};
use crate::record::{Level, Progress, Waker, keys};
use crate::worker::shared::{Clock, Shared, Signals};
use crate::worker::{core as worker, ring, socket};

/// How often the main thread looks at signals and at the health of the other threads.
const LOOK: Duration = Duration::from_millis(20);

/// How often it looks whether files of certificates changed.
const CERTIFICATES_LOOK: Duration = Duration::from_secs(1);

/// Connections that wait to be accepted, per worker (the kernel cuts it to `net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Why the gateway does not start.
#[derive(Debug)]
pub enum StartFault {
    /// The configuration, or a file it names.
    Config(Vec<Problem>),
    /// The host lacks something.
    Host(String),
    /// A file or socket could not be used.
    Io(String),
}

impl StartFault {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            StartFault::Config(_) => Exit::Usage,
            StartFault::Host(_) => Exit::Host,
            StartFault::Io(_) => Exit::Incomplete,
        }
    }

    fn write(&self) {
        match self {
            StartFault::Config(problems) => {
                for problem in problems {
                    log::error("config", problem.to_string()).write();
                }
            }
            StartFault::Host(text) => log::error("host", text.clone()).write(),
            StartFault::Io(text) => log::error("start", text.clone()).write(),
        }
    }
}

impl std::fmt::Display for StartFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartFault::Config(problems) => {
                for (index, problem) in problems.iter().enumerate() {
                    let line_end = if index == 0 { "" } else { "\n" };
                    write!(f, "{line_end}{problem}")?;
                }
                Ok(())
            }
            StartFault::Host(text) | StartFault::Io(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for StartFault {}

/// What tests put in the place of the host, and what the operator orders for this one start.
#[derive(Default)]
pub struct Host {
    /// Instead of the record directory's real disk.
    pub disk: Option<Box<dyn Disk>>,
    /// Instead of the system's clocks, for the workers.
    pub clock: Option<Clock>,
    /// The operator's order to go on behind a damaged newest segment; recorded.
    pub accept_damage: bool,
    /// The operator's order to go on although a witness has seen more; recorded.
    pub accept_rollback: bool,
}

/// A running gateway.
pub struct Gateway {
    shared: Arc<Shared>,
    config: Mutex<Config>,
    /// What the rules in force were compiled from.
    texts: Mutex<RuleTexts>,
    certificates: Mutex<Certificates>,
    certificates_watch: Mutex<certificates::Watch>,
    addresses: Vec<SocketAddr>,
    admin: Option<Admin>,
    workers: Vec<JoinHandle<Result<(), String>>>,
    writer: Writer,
    evidence: Arc<Evidence>,
    witnessing: Witnessing,
    keys: keyfetch::Handle,
    deny_watch: Option<denyfile::Watch>,
    secrets: Secrets,
    panicked: Arc<AtomicBool>,
}

/// Keys of the gateway, derived once.
#[derive(Clone)]
struct Secrets {
    handle_key: HandleKey,
    pseudonym_key: [u8; 32],
    fingerprint_key: [u8; 32],
}

fn derive(key: &[u8; 32], label: &str) -> [u8; 32] {
    use hmac::{Hmac, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("HMAC takes any key length");
    mac.update(label.as_bytes());
    mac.finalize().into_bytes().into()
}

fn problem(key: impl Into<String>, seen: impl Into<String>, allowed: impl Into<String>) -> Problem {
    Problem { line: None, key: key.into(), seen: seen.into(), allowed: allowed.into() }
}

fn level(release: Release) -> Level {
    match release {
        Release::Queued => Level::Queued,
        Release::Written => Level::Written,
        Release::Synced => Level::Synced,
    }
}

fn mask(style: MaskStyle) -> Mask {
    match style {
        MaskStyle::Fill => Mask::Fill,
        MaskStyle::Label => Mask::Label,
    }
}

/// What a rule set is compiled from.
#[derive(Clone, PartialEq, Eq)]
struct RuleTexts {
    builtin: bool,
    files: Vec<(String, String)>,
    secrets: Vec<(String, Vec<u8>)>,
}

/// Reads what the rules of a configuration are compiled from, with the known values:
/// `[[guard.secret]]` files and the credentials of the upstreams, which a server that reflects its
/// input would give away.
fn rule_texts(config: &Config) -> Result<RuleTexts, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut files = Vec::new();
    for path in &config.guard.rule_files {
        match std::fs::read_to_string(path) {
            Ok(text) => files.push((path.display().to_string(), text)),
            Err(error) => problems.push(problem(
                "guard.rules",
                format!("{}: {error}", path.display()),
                "a readable rule file",
            )),
        }
    }
    let mut secrets = Vec::new();
    for secret in &config.guard.secrets {
        match config::read_private(&secret.file) {
            Ok(bytes) => {
                if let Some(value) = config::one_secret(&bytes) {
                    secrets.push((secret.id.clone(), value.to_vec()));
                }
            }
            Err(fault) => problems.push(problem("guard.secret.file", fault.seen, fault.allowed)),
        }
    }
    for upstream in &config.upstreams {
        if let Ok(Some((_, value))) = credential(upstream) {
            secrets.extend(credential_values(&upstream.name, &value));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(RuleTexts { builtin: config.guard.builtin, files, secrets })
}

/// Words in front of a credential that are no part of it: schemes of the registry of RFC 9110 §16.4.1 that carry one
/// value, and those in use beside them.
const SCHEMES: [&str; 7] = ["Basic", "Bearer", "DPoP", "OAuth", "Token", "ApiKey", "SSWS"];

/// What of a credential opens the upstream for whoever reads it: the part behind the scheme, and of
/// `Basic` what it says (RFC 7617 §2).
fn credential_values(upstream: &str, value: &[u8]) -> Vec<KnownValue> {
    use base64::Engine;
    let mut parts = value.splitn(2, |byte| *byte == b' ');
    let scheme = parts.next().unwrap_or_default();
    let secret = parts.next().map_or(value, <[u8]>::trim_ascii_start);
    let name = format!("upstream-credential-{upstream}");
    let mut values = vec![(name.clone(), secret.to_vec())];
    let known = SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known.as_bytes()));
    if !known && secret.len() < value.len() {
        values.push((format!("{name}-whole"), value.to_vec()));
    }
    if scheme.eq_ignore_ascii_case(b"basic")
        && let Ok(pair) = base64::engine::general_purpose::STANDARD.decode(secret)
    {
        let password = pair.splitn(2, |byte| *byte == b':').nth(1).map(<[u8]>::to_vec);
        values.extend(password.map(|password| (format!("{name}-password"), password)));
        values.push((format!("{name}-pair"), pair));
    }
    values.retain(|(_, value)| value.len() >= KNOWN_BYTES_MIN);
    values
}

/// Compiles a set whose own tests hold: a rule that does not find what it says it finds protects nobody.
fn compile(texts: &RuleTexts) -> Result<Arc<RuleSet>, Vec<Problem>> {
    let problems = |faults: Vec<RuleFault>| -> Vec<Problem> {
        faults
            .into_iter()
            .map(|fault| problem("guard.rules", fault.to_string(), "rules without faults"))
            .collect()
    };
    let set =
        super::rules::compile(&texts.files, texts.builtin, &texts.secrets).map_err(problems)?;
    // Those of the built-in pack hold by the tests of this program, and what files allow may be in them.
    let mut faults = packtest::check(&set, Engine::Hyperscan);
    faults.retain(|fault| fault.file != BUILTIN_NAME);
    faults.dedup_by(|later, kept| later.rule == kept.rule);
    for fault in &mut faults {
        // Why not which: a text of a test may be a token, and this goes into the log.
        fault.what =
            "a test of its own fails; `stenograph rules check --rules FILE` says which".into();
    }
    if faults.is_empty() { Ok(set) } else { Err(problems(faults)) }
}

type Credential = Option<(String, Vec<u8>)>;

fn credential(upstream: &config::Upstream) -> Result<Credential, Problem> {
    let Some(credential) = &upstream.credential else { return Ok(None) };
    let key = format!("upstream {} credential.file", upstream.name);
    let bytes = config::read_private(&credential.file)
        .map_err(|fault| problem(key.clone(), fault.seen, fault.allowed))?;
    let value = config::one_secret(&bytes).ok_or_else(|| {
        problem(key, "no single line of text", "one line: the value of the field")
    })?;
    Ok(Some((credential.header.clone(), value.to_vec())))
}

/// What each listener demands of whoever connects.
fn demands(config: &Config, certificates: &Certificates) -> Vec<Arc<Demands>> {
    let each = config.listens.iter().enumerate().map(|(number, listen)| Demands {
        tls: listen.tls.is_some(),
        callers: certificates.caller_demands(number),
        proxies: listen.proxies.clone(),
    });
    each.map(Arc::new).collect()
}

/// Turns the configuration into what the machines use.
fn settings(
    config: &Config,
    policy_id: Arc<str>,
    secrets: &Secrets,
    certificates: &Certificates,
) -> Result<Settings, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut routes = Vec::new();
    let issuers: Vec<&str> = config.issuers.iter().map(|issuer| issuer.url.as_str()).collect();
    for upstream in &config.upstreams {
        let url = &upstream.url;
        let address =
            (url.host.as_str(), url.port).to_socket_addrs().ok().and_then(|mut all| all.next());
        let Some(address) = address else {
            problems.push(problem(
                format!("upstream {} url", upstream.name),
                format!("{} cannot be resolved", url.host),
                "a host name that resolves, or an address",
            ));
            continue;
        };
        let metadata_at = metadata::metadata_url(&upstream.resource)
            .and_then(|url| Ok((url, metadata::metadata_path(&upstream.resource)?)));
        let (metadata_url, metadata_path) = match metadata_at {
            Ok(found) => found,
            Err(fault) => {
                problems.push(problem(
                    format!("upstream {} resource", upstream.name),
                    upstream.resource.clone(),
                    fault.as_str(),
                ));
                continue;
            }
        };
        let credential = match credential(upstream) {
            Ok(credential) => credential,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        routes.push((
            routes.len() as u16,
            Route {
                name: upstream.name.as_str().into(),
                path: upstream.path.trim_end_matches('/').to_owned(),
                host: url.authority.clone(),
                target: url.target.clone(),
                address,
                tls: certificates.connector(&upstream.name),
                resource: upstream.resource.as_str().into(),
                metadata_url,
                metadata_path,
                metadata: metadata::document(&upstream.resource, &issuers).into(),
                credential,
                decode: upstream.decode.clone(),
                connections: u32::try_from(upstream.connections).unwrap_or(u32::MAX),
            },
        ));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    // The longest path wins, so it is looked at first; grants follow their upstream to its new place.
    routes.sort_by_key(|(_, route)| std::cmp::Reverse(route.path.len()));
    let place = |upstream: u16| {
        routes.iter().position(|(index, _)| *index == upstream).unwrap_or_default() as u16
    };
    let mut grants = Vec::new();
    let mut grant_terms = Vec::new();
    for grant in &config.grants {
        grants.push(policy::Grant { upstream: place(grant.upstream), ..grant.to_policy() });
        grant_terms.push(Terms { level: grant.release.map(level), keep: grant.record });
    }
    Ok(Settings {
        policy_id,
        limits: config.limits.clone(),
        routes: routes.into_iter().map(|(_, route)| route).collect(),
        issuers: config.issuers.clone(),
        policy: Policy::new(grants),
        grant_terms,
        proxies: config.listens.iter().map(|listen| listen.proxies.clone()).collect(),
        demands: demands(config, certificates),
        origins: config.listens.iter().map(|listen| listen.origins.clone()).collect(),
        hosts: config.listens.iter().map(|listen| hosts(config, listen)).collect(),
        level: level(config.record.release),
        mask: mask(config.guard.mask),
        structured: config.guard.structured,
        handle_key: secrets.handle_key.clone(),
        pseudonym_key: secrets.pseudonym_key,
        seals: Seals {
            originals: !config.record.seal_to.is_empty(),
            tokens: config.record.seal_tokens,
            payloads: config.record.seal_payloads,
        },
    })
}

/// Names of the gateway at one listener: the hosts of its public URLs, and what the configuration adds.
fn hosts(config: &Config, listen: &config::Listen) -> Vec<String> {
    let resources = config.upstreams.iter().filter_map(|upstream| {
        config::HttpUrl::parse(&upstream.resource).ok().map(|url| url.host.to_ascii_lowercase())
    });
    let mut names: Vec<String> = resources.chain(listen.hosts.iter().cloned()).collect();
    names.sort();
    names.dedup();
    names
}

/// Reads the log's key and the fingerprint key; makes the latter when there is none.
fn load_keys(config: &Config) -> Result<(keys::LogKey, Secrets), StartFault> {
    let log_key = keys::load_signing_key(&config.record.signing_key).map_err(|fault| {
        StartFault::Config(vec![problem(
            "record.signing_key",
            format!("{}: {fault}", config.record.signing_key.display()),
            "a key made by `stenograph keygen log --out FILE`",
        )])
    })?;
    let path = &config.record.fingerprint_key;
    if !path.exists() {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| StartFault::Host(error.to_string()))?;
        keys::create_fingerprint_key(path, &key)
            .map_err(|fault| StartFault::Io(format!("{}: {fault}", path.display())))?;
        log::info(
            "fingerprint-key",
            "a fingerprint key was made; keep a copy: without it echoed cannot find masked values",
        )
        .field("file", path.display().to_string())
        .write();
    }
    let fingerprint_key = keys::load_fingerprint_key(path).map_err(|fault| {
        StartFault::Config(vec![problem(
            "record.fingerprint_key",
            format!("{}: {fault}", path.display()),
            "a file of mode 0600 made by serve at its first start",
        )])
    })?;
    // Why from this key: it is the gateway's own secret on disk, so handles outlive a restart.
    let secrets = Secrets {
        handle_key: HandleKey::new(&derive(&fingerprint_key, "stenograph handle key v1")),
        pseudonym_key: derive(&fingerprint_key, "stenograph pseudonym key v1"),
        fingerprint_key,
    };
    Ok((log_key, secrets))
}

fn previous_key(path: &Path) -> Result<keys::LogKey, StartFault> {
    keys::load_signing_key(path).map_err(|fault| {
        StartFault::Config(vec![problem(
            "record.previous_signing_key",
            format!("{}: {fault}", path.display()),
            "the signing key that was used before",
        )])
    })
}

fn cores(config: &Config) -> Result<Vec<usize>, StartFault> {
    let set = rustix::thread::sched_getaffinity(None)
        .map_err(|error| StartFault::Host(format!("the core set cannot be read: {error}")))?;
    let allowed: Vec<usize> =
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
    match &config.workers.cores {
        Cores::Auto => Ok(allowed.into_iter().take(64).collect()),
        Cores::List(list) => {
            let list: Vec<usize> = list.iter().map(|core| usize::from(*core)).collect();
            match list.iter().find(|core| !allowed.contains(core)) {
                Some(core) => Err(StartFault::Config(vec![problem(
                    "workers.cores",
                    format!("core {core}"),
                    format!("cores this process may run on: {allowed:?}"),
                )])),
                None => Ok(list),
            }
        }
    }
}

/// The rules in force as the record names them.
fn policy_text(
    config: &Config,
    pending: Vec<&'static str>,
    texts: &RuleTexts,
    rules: &RuleSet,
) -> PolicyText {
    let caller = format!("{KNOWN_PREFIX}{CALLER_TOKEN}");
    let ids = rules.rules().iter().map(|rule| rule.id.to_string()).chain([caller]).collect();
    PolicyText::new(config, pending, &texts.files, ids)
}

fn sealing(record: &config::Record) -> Option<writer::Sealing> {
    (!record.seal_to.is_empty()).then(|| writer::Sealing {
        recipients: record.seal_to.clone(),
        payloads: record.seal_payloads,
    })
}

impl Gateway {
    /// Starts a gateway with this configuration.
    pub fn start(config: Config, host: Host) -> Result<Gateway, StartFault> {
        let flags = ring::probe(config.workers.ring_depth)
            .map_err(|fault| StartFault::Host(fault.to_string()))?;
        let cores = cores(&config)?;
        let texts = rule_texts(&config).map_err(StartFault::Config)?;
        let rules = compile(&texts).map_err(StartFault::Config)?;
        let (log_key, secrets) = load_keys(&config)?;
        let previous_key = config.record.previous_signing_key.as_deref().map(previous_key);
        let previous_key = previous_key.transpose()?;
        let deny = match &config.deny_file {
            Some(path) => load_deny(path)?,
            None => Arc::new(DenyList::default()),
        };
        let policy = policy_text(&config, Vec::new(), &texts, &rules);
        let mut certificates_watch = certificates::Watch::default();
        certificates_watch.know(certificates::Watch::look(&config));
        let certificates = Certificates::load(&config, None).map_err(StartFault::Config)?;
        let settings = Arc::new(
            settings(&config, policy.id.clone(), &secrets, &certificates)
                .map_err(StartFault::Config)?,
        );

        let (sockets, addresses) = bind(&config, cores.len())?;

        let signals: Vec<Arc<Signals>> = cores.iter().map(|_| Arc::default()).collect();
        let mut wakers: Vec<Waker> = signals
            .iter()
            .map(|signals| {
                let signals = signals.clone();
                Arc::new(move || signals.recorded.notify_one()) as Waker
            })
            .collect();
        // One more recorder for what the control threads have to say.
        wakers.push(Arc::new(|| {}));
        let disk = match host.disk {
            Some(disk) => disk,
            None => Box::new(
                RealDisk::open(&config.record.directory)
                    .map_err(|fault| StartFault::Io(fault.to_string()))?,
            ),
        };
        let mut asking = Asking::new(&config.record, &log_key, host.accept_rollback);
        let mut write = writer::Settings::system(log_key, config.limits.clone(), wakers);
        write.sealing = sealing(&config.record);
        write.previous_key = previous_key;
        asking.prepare(&mut write);
        write.accept_damage = host.accept_damage;
        write.kernel_clock = Some(Arc::new(kernelclock::stated));
        write.facts =
            evidence::start_facts(level(config.record.release).as_str(), &flags.to_string());
        let (writer, mut recorders) = writer::start(disk, write).map_err(|fault| match fault {
            writer::StartFault::Refused(text) => StartFault::Host(text),
            fault => StartFault::Io(fault.to_string()),
        })?;
        let control = recorders.pop().expect("one recorder was added for the control threads");
        let evidence = Arc::new(Evidence::new(control));
        if !evidence.policy(&policy) {
            return Err(StartFault::Io("the policy could not be recorded".to_owned()));
        }
        evidence.deny(&deny);
        let witnessing = asking.start(&writer, &evidence).map_err(|error| {
            StartFault::Io(format!("the threads that ask witnesses cannot start: {error}"))
        })?;

        let names = settings.routes.iter().map(|route| route.name.to_string()).collect();
        let metrics = Arc::new(Metrics::new(cores.len(), names, fault::LABELS));
        let clock = host.clock.unwrap_or_else(|| Arc::new(writer::system_now));
        let snapshot = Snapshot {
            generation: 1,
            settings,
            keys: Arc::new(KeySets::new(0, Vec::new())),
            deny: deny.clone(),
            rules,
        };
        let wanted: Arc<Mutex<Option<keyfetch::Handle>>> = Arc::default();
        let ask = wanted.clone();
        let shared = Arc::new(Shared::new(
            snapshot,
            metrics,
            signals,
            clock,
            Box::new(move |issuer| {
                if let Some(handle) = &*ask.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
                {
                    handle.want(usize::from(issuer));
                }
            }),
            Box::new(Notices::default().into_teller()),
        ));
        shared.set_acceptors(certificates.acceptors());

        let (publish, told) = (shared.clone(), evidence.clone());
        let issuers: Vec<String> = config.issuers.iter().map(|one| one.url.clone()).collect();
        let keys = keyfetch::spawn(&config.issuers, &config.limits, 1, move |keys| {
            // Why in this order: whoever reads an identity in the record finds the key that verified
            // it before it. Keys that cannot be recorded are told again at the next look.
            if told.keys(&issuers, &keys) {
                publish.change(|snapshot| Snapshot { keys: keys.clone(), ..copy(snapshot) });
            }
        })
        .map_err(|error| StartFault::Io(format!("the key thread cannot start: {error}")))?;
        *wanted.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(keys.clone());

        let deny_watch = match &config.deny_file {
            Some(path) => Some(watch_deny(path, deny, shared.clone(), evidence.clone())?),
            None => None,
        };

        let panicked = Arc::new(AtomicBool::new(false));
        let mut workers = Vec::new();
        for (index, ((core, recorder), listeners)) in
            cores.iter().zip(recorders).zip(sockets).enumerate()
        {
            let mut seed = [0; 8];
            getrandom::fill(&mut seed).map_err(|error| StartFault::Host(error.to_string()))?;
            let start = worker::Start {
                index: index as u8,
                core: Some(*core),
                ring_depth: config.workers.ring_depth,
                flags,
                listeners,
                recorder,
                fingerprint_key: secrets.fingerprint_key,
                seed: u64::from_ne_bytes(seed),
            };
            let shared = shared.clone();
            let panicked = panicked.clone();
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || {
                    let _bell = Bell(panicked);
                    worker::run(start, shared)
                })
                .map_err(|error| StartFault::Io(format!("worker {index} cannot start: {error}")))?;
            workers.push(thread);
        }

        let admin = match config.admin {
            Some(address) => Some(
                admin::start(
                    address,
                    sources(&shared, &writer.progress(), &config, witnessing.watch()),
                )
                .map_err(|error| StartFault::Io(format!("admin address {address}: {error}")))?,
            ),
            None => None,
        };
        Ok(Gateway {
            shared,
            config: Mutex::new(config),
            texts: Mutex::new(texts),
            certificates: Mutex::new(certificates),
            certificates_watch: Mutex::new(certificates_watch),
            addresses,
            admin,
            workers,
            writer,
            evidence,
            witnessing,
            keys,
            deny_watch,
            secrets,
            panicked,
        })
    }

    /// The bound addresses, in the order of the listeners.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The bound address of the admin endpoint.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// How far the record is.
    pub fn progress(&self) -> Arc<Progress> {
        self.writer.progress()
    }

    /// Payload bytes in flight.
    pub fn inflight_bytes(&self) -> u64 {
        self.shared.budget.used_bytes()
    }

    /// True when the keys of every issuer are there and the record can be written.
    pub fn is_ready(&self) -> bool {
        let snapshot = self.shared.snapshot();
        snapshot.keys.complete((self.shared.clock)())
            && !self.writer.progress().failed()
            && !self.writer.progress().unwitnessed()
            && !self.shared.draining()
    }

    /// Reads the configuration again. What cannot change while the process runs is left as it is and
    /// said; a configuration with problems changes nothing.
    pub fn reload(&self) -> Result<(), Vec<Problem>> {
        let mut current = self.config.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let next = Config::load(&current.path)?;
        let fixed = [
            (
                "listen",
                next.listens
                    .iter()
                    .map(|listen| listen.address)
                    .ne(current.listens.iter().map(|listen| listen.address)),
            ),
            ("workers", next.workers != current.workers),
            ("issuer", next.issuers != current.issuers),
            (
                "record",
                next.record
                    != config::Record { release: next.record.release, ..current.record.clone() },
            ),
            ("admin", next.admin != current.admin),
            ("limits", next.limits != current.limits),
            ("deny", next.deny_file != current.deny_file),
        ];
        for (section, _) in fixed.iter().filter(|(_, changed)| *changed) {
            log::warn(
                "reload",
                format!("[{section}] changed; that takes effect at the next start"),
            )
            .write();
        }
        let pending: Vec<&'static str> =
            fixed.iter().filter(|(_, changed)| *changed).map(|(section, _)| *section).collect();
        let mut next = next;
        next.issuers.clone_from(&current.issuers);
        next.limits = current.limits.clone();
        next.record = config::Record { release: next.record.release, ..current.record.clone() };
        next.workers = current.workers.clone();
        next.admin = current.admin;
        next.deny_file.clone_from(&current.deny_file);
        // Why: origins and certificates belong to a listener by its place in the list.
        if pending.contains(&"listen") {
            next.listens.clone_from(&current.listens);
        }
        let mut certificates =
            self.certificates.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let looked = certificates::Watch::look(&next);
        let loaded = Certificates::load(&next, Some(&certificates))?;
        let texts = rule_texts(&next)?;
        let mut compiled = self.texts.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Why: grants must be in force within a second, and compiling a pack takes longer than that on a
        // slow or busy host.
        let rules = if *compiled == texts {
            self.shared.snapshot().rules.clone()
        } else {
            compile(&texts)?
        };
        let policy = policy_text(&next, pending, &texts, &rules);
        let settings = Arc::new(settings(&next, policy.id.clone(), &self.secrets, &loaded)?);
        if !self.evidence.policy(&policy) {
            let seen = "the policy cannot be recorded now";
            return Err(vec![problem("record", seen, "a record that can be written")]);
        }
        self.shared.set_acceptors(loaded.acceptors());
        self.shared.change(|snapshot| Snapshot {
            settings: settings.clone(),
            rules: rules.clone(),
            ..copy(snapshot)
        });
        *certificates = loaded;
        self.certificates_watch
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .know(looked);
        *current = next;
        *compiled = texts;
        log::info("reload", "the configuration was read again").write();
        Ok(())
    }

    /// Reads certificates, keys and authorities again when their files changed. What cannot be used
    /// changes nothing. True when new ones are in force.
    ///
    /// # Errors
    /// What cannot be used, once for each change.
    pub fn renew_certificates(&self) -> Result<bool, Vec<Problem>> {
        let current = self.config.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let changed = self
            .certificates_watch
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .changed(&current);
        if !changed {
            return Ok(false);
        }
        let mut certificates =
            self.certificates.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let policy_id = self.shared.snapshot().settings.policy_id.clone();
        let read = Certificates::load(&current, Some(&certificates)).and_then(|loaded| {
            let settings = settings(&current, policy_id, &self.secrets, &loaded)?;
            Ok((loaded, Arc::new(settings)))
        });
        let mut watch =
            self.certificates_watch.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (loaded, settings) = match read {
            Ok(read) => read,
            Err(problems) => {
                let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
                return if watch.failed(said.join("; ")) { Err(problems) } else { Ok(false) };
            }
        };
        watch.loaded();
        self.shared.set_acceptors(loaded.acceptors());
        self.shared.change(|snapshot| Snapshot { settings: settings.clone(), ..copy(snapshot) });
        *certificates = loaded;
        for warning in certificates::warnings(&current) {
            log::warn("certificates", warning).write();
        }
        Ok(true)
    }

    /// True when the gateway must stop by itself: a thread panicked, or the writer ended.
    pub fn is_broken(&self) -> bool {
        self.panicked.load(Ordering::Acquire)
            || self.shared.broken()
            || self.writer.is_finished()
            || self.workers.iter().any(JoinHandle::is_finished)
    }

    /// Drains, seals and ends all threads. The error says what was not in order.
    pub fn stop(self) -> Result<(), String> {
        let mut wrong = Vec::new();
        if self.panicked.load(Ordering::Acquire) || self.shared.broken() {
            wrong.push("a thread panicked".to_owned());
        }
        self.shared.drain();
        for worker in self.workers {
            match worker.join() {
                Ok(Ok(())) => {}
                Ok(Err(text)) => wrong.push(text),
                Err(_) => wrong.push("a worker panicked".to_owned()),
            }
        }
        self.keys.stop();
        drop(self.deny_watch);
        if let Err(fault) = self.writer.stop() {
            wrong.push(format!("the record was not sealed: {fault}"));
        }
        // The last checkpoint is cosigned now, where a witness answers.
        self.witnessing.stop();
        if let Some(admin) = self.admin {
            admin.stop();
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}

/// Rings when its thread panics.
struct Bell(Arc<AtomicBool>);

impl Drop for Bell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Release);
        }
    }
}

/// The same values, for the parts that a change does not touch.
fn copy(snapshot: &Snapshot) -> Snapshot {
    Snapshot {
        generation: snapshot.generation,
        settings: snapshot.settings.clone(),
        keys: snapshot.keys.clone(),
        deny: snapshot.deny.clone(),
        rules: snapshot.rules.clone(),
    }
}

fn load_deny(path: &Path) -> Result<Arc<DenyList>, StartFault> {
    match denyfile::load(path) {
        Ok(list) => Ok(Arc::new(list)),
        // Nobody has been denied yet.
        Err(denyfile::DenyFileFault::Missing) => Ok(Arc::new(DenyList::default())),
        Err(fault) => Err(StartFault::Config(vec![problem(
            "deny.file",
            format!("{}: {fault}", path.display()),
            "a deny file without faults",
        )])),
    }
}

fn watch_deny(
    path: &Path,
    first: Arc<DenyList>,
    shared: Arc<Shared>,
    evidence: Arc<Evidence>,
) -> Result<denyfile::Watch, StartFault> {
    let name = path.display().to_string();
    denyfile::watch(path, first, move |change| match change {
        denyfile::Change::List(list) => {
            log::info("deny", "the deny file changed")
                .field("entries", list.entries().len())
                .write();
            shared.change(|snapshot| Snapshot { deny: list.clone(), ..copy(snapshot) });
            // Why behind the change: who is out must be out within a second, also while the record
            // waits for its disk.
            evidence.deny(&list);
        }
        denyfile::Change::Kept(fault) => {
            log::error("deny", format!("{name}: {fault}; the list before stays in force")).write();
            evidence.deny_kept(&fault.to_string());
        }
    })
    .map_err(|error| StartFault::Io(format!("the deny file cannot be watched: {error}")))
}

type Sockets = Vec<Vec<std::net::TcpListener>>;

/// One socket for each worker and listener.
fn bind(config: &Config, workers: usize) -> Result<(Sockets, Vec<SocketAddr>), StartFault> {
    let mut sockets: Sockets = (0..workers).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for listen in &config.listens {
        let mut address = listen.address;
        for of_worker in &mut sockets {
            let socket = listen_for_a_while(address)
                .map_err(|error| StartFault::Io(format!("cannot listen on {address}: {error}")))?;
            // Port 0: the first socket's port is everybody's.
            address = socket
                .local_addr()
                .map_err(|error| StartFault::Io(format!("cannot listen on {address}: {error}")))?;
            of_worker.push(socket);
        }
        addresses.push(address);
    }
    Ok((sockets, addresses))
}

/// Kernel 6.x: after a process with a ring has ended, its port may stay bound for some milliseconds.
fn listen_for_a_while(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let mut tries = 0;
    loop {
        match socket::listen(address, BACKLOG) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && tries < 20 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(25));
            }
            result => return result,
        }
    }
}

fn sources(
    shared: &Arc<Shared>,
    progress: &Arc<Progress>,
    config: &Config,
    watch: Option<Arc<Watch>>,
) -> Sources {
    let (ready_shared, ready_progress) = (shared.clone(), progress.clone());
    let gauges = progress.clone();
    let noted = progress.clone();
    let issuers: Vec<String> = config.issuers.iter().map(|issuer| issuer.url.clone()).collect();
    let issuer_shared = shared.clone();
    Sources {
        ready: Box::new(move || {
            if ready_shared.draining() {
                return Err("draining".to_owned());
            }
            if ready_progress.failed() {
                let why = ready_progress.failure().unwrap_or_default();
                return Err(format!("the recorder cannot write: {why}"));
            }
            if ready_progress.unwitnessed() {
                return Err("no witness cosigns the record: new calls are refused".to_owned());
            }
            if !ready_shared.snapshot().keys.complete((ready_shared.clock)()) {
                return Err("the keys of an issuer are not there".to_owned());
            }
            Ok(())
        }),
        metrics: shared.metrics.clone(),
        recorder: Box::new(move || RecorderGauges {
            queue_entries: gauges.queued_entries(),
            queue_bytes: gauges.queued_bytes(),
            entries: gauges.entries(),
            failed: gauges.failed(),
            unsigned_entries: gauges
                .signed()
                .map_or(0, |signed| gauges.entries().saturating_sub(signed.size)),
            checkpoint_age_ms: gauges.signed().map(|signed| {
                writer::system_now().mono_ns.saturating_sub(signed.now.mono_ns) / 1_000_000
            }),
            ..RecorderGauges::default()
        }),
        checkpoint: Box::new(move || noted.signed().map(|signed| signed.note.clone())),
        witnesses: Box::new(move || watch.as_ref().map(|watch| watch.gauges())),
        issuers: Box::new(move || {
            let keys = issuer_shared.snapshot().keys.clone();
            issuers
                .iter()
                .enumerate()
                .map(|(index, issuer)| IssuerGauges {
                    issuer: issuer.clone(),
                    keys: keys
                        .issuer(index)
                        .and_then(|known| known.set.as_ref())
                        .map_or(0, |set| set.keys().len() as u64),
                    age_ms: None,
                })
                .collect()
        }),
    }
}

fn renew_certificates(gateway: &Gateway) {
    match gateway.renew_certificates() {
        Ok(false) => {}
        Ok(true) => log::info("certificates", "certificates or keys were read again").write(),
        Err(problems) => {
            for problem in problems {
                let text = format!("{problem}; those before stay in force");
                log::error("certificates", text).write();
            }
        }
    }
}

/// The command: runs until SIGTERM or SIGINT, reads the configuration again at SIGHUP.
pub fn run(path: &Path, host: Host) -> Exit {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(problems) => {
            let fault = StartFault::Config(problems);
            fault.write();
            return fault.exit();
        }
    };
    for warning in &config.warnings {
        log::warn("config", warning.clone()).write();
    }
    if config.record.seal_to.is_empty() {
        let text = "the originals of masked spans are lost: seal_to is not configured";
        log::info("unsealed", text).write();
    }
    let signals = signal_hook::iterator::Signals::new([
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGHUP,
    ]);
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => {
            log::error("start", format!("signals cannot be taken: {error}")).write();
            return Exit::Host;
        }
    };
    let gateway = match Gateway::start(config, host) {
        Ok(gateway) => gateway,
        Err(fault) => {
            fault.write();
            return fault.exit();
        }
    };
    let addresses: Vec<String> = gateway.addresses().iter().map(ToString::to_string).collect();
    log::info("ready", format!("listening on {}", addresses.join(", ")))
        .field("addresses", addresses)
        .field("admin", gateway.admin_address().map(|address| address.to_string()))
        .write();
    let mut failing = false;
    let mut looked = Instant::now();
    let broken = loop {
        let mut stop = false;
        if looked.elapsed() >= CERTIFICATES_LOOK {
            looked = Instant::now();
            renew_certificates(&gateway);
        }
        // Why here: whoever only reads the log has to learn that every call is refused.
        if gateway.progress().failed() != failing {
            failing = !failing;
            let why = gateway.progress().failure().unwrap_or_default();
            match failing {
                true => log::error("recorder", "the record cannot be written: calls are refused")
                    .field("failed", why),
                false => log::info("recorder", "the record can be written again"),
            }
            .write();
        }
        for signal in signals.pending() {
            if signal == signal_hook::consts::SIGHUP {
                if let Err(problems) = gateway.reload() {
                    for problem in problems {
                        log::error("reload", format!("{problem}; nothing was changed")).write();
                    }
                }
            } else {
                stop = true;
            }
        }
        if gateway.is_broken() {
            break true;
        }
        if stop {
            break false;
        }
        std::thread::sleep(LOOK);
    };
    log::info("drain", "stopping: open exchanges may end, then the record is sealed").write();
    match gateway.stop() {
        Ok(()) if !broken => {
            log::info("stopped", "the record is sealed").write();
            Exit::Done
        }
        Ok(()) => Exit::Incomplete,
        Err(text) => {
            log::error("stopped", text).write();
            Exit::Incomplete
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // `mysecret word` was looked for as `word`.
    #[test]
    fn only_a_scheme_is_no_part_of_a_credential() {
        let values = |credential: &str| -> Vec<String> {
            let values = credential_values("codegen", credential.as_bytes());
            values.into_iter().map(|(_, value)| String::from_utf8(value).expect("text")).collect()
        };
        assert_eq!(values("bearer abcdefgh"), ["abcdefgh"]);
        assert_eq!(values("abcdefgh"), ["abcdefgh"]);
        assert_eq!(values("mysecret word"), ["mysecret word"]);
        assert_eq!(values("secretword of two"), ["of two", "secretword of two"]);
        assert_eq!(
            values("Basic YWxpY2U6c2VjcmV0MQ=="),
            ["YWxpY2U6c2VjcmV0MQ==", "secret1", "alice:secret1"]
        );
    }
}
