//! The control thread that fetches issuers' key sets: it performs what
//! [`KeyFetcher`] asks for and publishes every new snapshot.
//!
//! What it may reach is narrow: addresses come from the configuration and from discovery documents
//! alone; plain http only to loopback, decided by the address that is connected to and not by the name;
//! no redirect is followed; no proxy of the environment is used; an issuer may name a key address of
//! another host, but not one that resolves to this host or to a link-local address.
//!
//! Bounds: one fetch at a time, `keys_wait_ms_max` for the whole of it, `keys_bytes_max` of body.
//!
//! It does not decide when to fetch, nor what a document means.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use ureq::http::Uri;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::log;
use crate::auth::keys::{Fetch, FetchFault, KeyFetcher, KeySets, Stage};
use crate::auth::token::Issuer;
use crate::limits::Limits;
use crate::types::Now;

/// Longest sleep between two looks at the machine, whatever it says: the monotonic clock of a wait
/// stands still while the host is suspended.
const SLEEP_MS_MAX: u64 = 30_000;

/// The running thread, as workers and the control work see it. Clones are one handle; when the last is
/// dropped, or [`Handle::stop`] is called, nothing is published any more.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    wanted: Arc<[AtomicBool]>,
    wake: Sender<()>,
    stopped: Arc<Mutex<bool>>,
}

impl Handle {
    /// A token named a key id that is not in the set of `issuer`, or there is no set. Never blocks; how
    /// often this leads to a fetch is the machine's affair.
    pub fn want(&self, issuer: usize) {
        let Some(wanted) = self.0.wanted.get(issuer) else { return };
        if !wanted.swap(true, Ordering::AcqRel) {
            match self.0.wake.try_send(()) {
                // Full: the thread is awake or about to be, and looks at the flags after that.
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            }
        }
    }

    /// Ends the thread after the fetch it may be in; nothing is published from now on.
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl Inner {
    fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let _ = self.wake.try_send(());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts the thread. `publish` is called with the first snapshot at once and with every later one;
/// `generation` is that of the first (above every one published before, when the configuration was
/// reloaded).
///
/// # Errors
/// The thread cannot be started.
pub fn spawn(
    issuers: &[Issuer],
    limits: &Limits,
    generation: u64,
    publish: impl Fn(Arc<KeySets>) + Send + 'static,
) -> io::Result<Handle> {
    let (wake, woken) = crossbeam_channel::bounded(1);
    let wanted: Arc<[AtomicBool]> = issuers.iter().map(|_| AtomicBool::new(false)).collect();
    let stopped = Arc::new(Mutex::new(false));
    let thread = Thread {
        fetcher: KeyFetcher::new(issuers, limits, generation),
        issuers: issuers.to_vec(),
        limits: limits.clone(),
        wanted: Arc::clone(&wanted),
        woken,
        stopped: Arc::clone(&stopped),
        publish,
    };
    // Why here and not by the thread: a request that comes before it has begun waits for the keys, and
    // is not told that there are none.
    thread.publish();
    std::thread::Builder::new().name("key-fetch".to_owned()).spawn(move || thread.run())?;
    Ok(Handle(Arc::new(Inner { wanted, wake, stopped })))
}

struct Thread<P> {
    fetcher: KeyFetcher,
    issuers: Vec<Issuer>,
    limits: Limits,
    wanted: Arc<[AtomicBool]>,
    woken: Receiver<()>,
    stopped: Arc<Mutex<bool>>,
    publish: P,
}

impl<P: Fn(Arc<KeySets>)> Thread<P> {
    fn run(mut self) {
        while self.publish() {
            self.wishes();
            while let Some(fetch) = self.fetcher.poll(now()) {
                self.perform(&fetch);
                self.wishes();
                if !self.publish() {
                    return;
                }
            }
            let wait_ns = self.fetcher.deadline_ns().saturating_sub(now().mono_ns);
            let wait = Duration::from_nanos(wait_ns).min(Duration::from_millis(SLEEP_MS_MAX));
            match self.woken.recv_timeout(wait) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// False when the handle is gone. Publishing under the lock: after `stop` has returned, no snapshot
    /// of an old configuration can replace one of the new.
    fn publish(&self) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if !*stopped {
            (self.publish)(Arc::new(self.fetcher.snapshot()));
        }
        !*stopped
    }

    fn wishes(&mut self) {
        for issuer in 0..self.wanted.len() {
            if self.wanted[issuer].swap(false, Ordering::AcqRel) {
                self.fetcher.want(issuer, now());
            }
        }
    }

    fn perform(&mut self, fetch: &Fetch) {
        let issuer = &self.issuers[fetch.issuer].url;
        let before = self.fetcher.snapshot().generation;
        let outcome = match get(fetch, issuer, &self.limits) {
            Ok(body) => self.fetcher.arrived(fetch.issuer, &body, now()),
            Err(fault) => {
                self.fetcher.failed(fetch.issuer, now());
                Err(fault)
            }
        };
        let snapshot = self.fetcher.snapshot();
        match outcome {
            Err(fault) => {
                let document = match fetch.stage {
                    Stage::Discovery => "discovery document",
                    Stage::Keys => "key set",
                };
                let level = match snapshot.usable(fetch.issuer, now()) {
                    Some(_) => log::Level::Warn,
                    None => log::Level::Error,
                };
                log::line(level, "keys_failed", format!("cannot fetch the {document}: {fault}"))
                    .field("issuer", issuer.as_str())
                    .field("fault", fault.as_str())
                    .write();
            }
            Ok(()) if snapshot.generation != before => {
                let set = snapshot.issuer(fetch.issuer).and_then(|keys| keys.set.as_ref());
                let (keys, ignored) =
                    set.map_or((0, 0), |set| (set.keys().len(), set.ignored.len()));
                log::info("keys_changed", format!("keys in force: {keys}, left out: {ignored}"))
                    .field("issuer", issuer.as_str())
                    .field("keys", keys)
                    .field("ignored", ignored)
                    .write();
            }
            Ok(()) => {}
        }
    }
}

fn now() -> Now {
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let utc = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        utc_ns: u64::try_from(utc.as_nanos()).unwrap_or(u64::MAX),
        mono_ns: boot.tv_sec as u64 * 1_000_000_000 + boot.tv_nsec as u64,
    }
}

/// Which addresses a fetch may connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Plain http: this host only.
    Loopback,
    /// https to the issuer's own host: the operator named it.
    Named,
    /// https to another host that the issuer named: not this host, not its link.
    Elsewhere,
}

impl Reach {
    fn allows(self, address: IpAddr) -> bool {
        // An IPv4 address in an IPv6 one reaches the IPv4 host.
        let address = address.to_canonical();
        match self {
            Reach::Loopback => address.is_loopback(),
            Reach::Named => true,
            Reach::Elsewhere => {
                let link_local = match address {
                    IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
                    IpAddr::V6(v6) => v6.is_unicast_link_local(),
                };
                !(address.is_loopback()
                    || address.is_unspecified()
                    || address.is_multicast()
                    || link_local)
            }
        }
    }
}

/// Resolves like everybody, and refuses the name when any of its addresses is out of reach.
#[derive(Debug)]
struct Guard(Reach, DefaultResolverDebug);

#[derive(Default)]
struct DefaultResolverDebug(DefaultResolver);

impl std::fmt::Debug for DefaultResolverDebug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DefaultResolver")
    }
}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let addresses = self.1.0.resolve(uri, config, timeout)?;
        match addresses.iter().all(|address| self.0.allows(address.ip())) {
            true => Ok(addresses),
            false => Err(ureq::Error::HostNotFound),
        }
    }
}

fn reach(url: &Uri, issuer: &str) -> Option<Reach> {
    match url.scheme_str() {
        Some("http") => Some(Reach::Loopback),
        Some("https") => {
            let issuer: Uri = issuer.parse().ok()?;
            let same =
                issuer.scheme_str() == Some("https") && issuer.authority() == url.authority();
            Some(if same { Reach::Named } else { Reach::Elsewhere })
        }
        _ => None,
    }
}

/// One GET, as narrow as the module's document says. `issuer` is the URL of the issuer it is for.
///
/// # Errors
/// Anything but a whole body under status 200.
pub fn get(fetch: &Fetch, issuer: &str, limits: &Limits) -> Result<Vec<u8>, FetchFault> {
    let url: Uri = fetch.url.parse().map_err(|_| FetchFault::Address)?;
    let reach = reach(&url, issuer).ok_or(FetchFault::Address)?;
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build();
    let config = ureq::config::Config::builder()
        .tls_config(tls)
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .max_idle_connections(0)
        .user_agent(concat!("stenograph/", env!("CARGO_PKG_VERSION")))
        .accept("application/json")
        .timeout_global(Some(Duration::from_millis(limits.keys_wait_ms_max)))
        .timeout_connect(Some(Duration::from_millis(limits.connect_ms_max)))
        .build();
    let guard = Guard(reach, DefaultResolverDebug::default());
    let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), guard);
    let mut response = agent.get(url).call().map_err(|error| fault(&error))?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(FetchFault::Status(status));
    }
    response
        .body_mut()
        .with_config()
        .limit(fetch.bytes_max)
        .read_to_vec()
        .map_err(|error| fault(&error))
}

fn fault(error: &ureq::Error) -> FetchFault {
    match error {
        ureq::Error::Timeout(_) => FetchFault::Timeout,
        ureq::Error::HostNotFound => FetchFault::Resolve,
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => FetchFault::Address,
        ureq::Error::BodyExceedsLimit(_) => FetchFault::TooLong,
        ureq::Error::ConnectionFailed | ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            FetchFault::Connect
        }
        ureq::Error::Io(error) => match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => FetchFault::Timeout,
            // rustls reports a certificate it does not trust as invalid data.
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::InvalidData => FetchFault::Connect,
            _ => FetchFault::Broken,
        },
        _ => FetchFault::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Mutants: `Reach::Elsewhere` allowing loopback, or not looking into mapped addresses.
    #[test]
    fn reach_is_decided_by_the_address() {
        let allowed = |reach: Reach, address: &str| reach.allows(address.parse().unwrap());
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(allowed(Reach::Loopback, address), "{address}");
            assert!(allowed(Reach::Named, address), "{address}");
            assert!(!allowed(Reach::Elsewhere, address), "{address}");
        }
        for address in ["10.0.0.1", "93.184.216.34", "2001:db8::1"] {
            assert!(!allowed(Reach::Loopback, address), "{address}");
            assert!(allowed(Reach::Elsewhere, address), "{address}");
        }
        for address in ["169.254.169.254", "0.0.0.0", "::", "fe80::1", "224.0.0.1", "ff02::1"] {
            assert!(!allowed(Reach::Loopback, address), "{address}");
            assert!(!allowed(Reach::Elsewhere, address), "{address}");
        }
    }

    #[test]
    fn reach_follows_from_scheme_and_origin() {
        let of = |url: &str| reach(&url.parse().unwrap(), "https://login.example.com/realm");
        assert_eq!(of("http://localhost:1/keys"), Some(Reach::Loopback));
        assert_eq!(of("https://login.example.com/keys"), Some(Reach::Named));
        assert_eq!(of("https://login.example.com:8443/keys"), Some(Reach::Elsewhere));
        assert_eq!(of("https://keys.example.com/keys"), Some(Reach::Elsewhere));
        assert_eq!(of("ftp://login.example.com/keys"), None);
        assert_eq!(of("/keys"), None);
    }
}
