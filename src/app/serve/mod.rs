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

mod deny;
mod gauges;
mod places;
mod reload;
mod rules;
mod secrets;
mod settings;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::deny::{load_deny, watch_deny};
use self::gauges::sources;
use self::places::{bind, cores};
use self::reload::renew_certificates;
use self::rules::{RuleTexts, compile, policy_text, rule_texts};
use self::secrets::{Secrets, load_keys, previous_key};
use self::settings::{level, settings};
use crate::app::admin::{self, Admin};
use crate::app::certificates::{self, Certificates};
use crate::app::cli::Exit;
use crate::app::config::{Config, Problem};
use crate::app::evidence::{self, Evidence};
use crate::app::notices::Notices;
use crate::app::witness::asking::{Asking, Witnessing};
use crate::app::{config, denyfile, kernelclock, keyfetch, log};
use crate::auth::deny::DenyList;
use crate::auth::keys::KeySets;
use crate::gateway::env::Snapshot;
use crate::gateway::fault;
use crate::gateway::metrics::Metrics;
use crate::record::disk::{Disk, RealDisk};
use crate::record::writer::{self, Writer};
use crate::record::{Progress, Waker};
use crate::worker::shared::{Clock, Shared, Signals};
use crate::worker::{core as worker, ring};

/// How often the main thread looks at signals and at the health of the other threads.
const LOOK: Duration = Duration::from_millis(20);

/// How often it looks whether files of certificates changed.
const CERTIFICATES_LOOK: Duration = Duration::from_secs(1);

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

fn problem(key: impl Into<String>, seen: impl Into<String>, allowed: impl Into<String>) -> Problem {
    Problem { line: None, key: key.into(), seen: seen.into(), allowed: allowed.into() }
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
