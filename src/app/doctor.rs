//! Is this host ready: one line for each thing the gateway needs of it, with what was seen and what to
//! type. Also the words for a ring that the kernel refuses, which `serve` uses at start.
//!
//! It changes nothing. It opens one ring of eight entries and closes it again.
//!
//! | state | meaning |
//! |---|---|
//! | `ok` | as it should be |
//! | `warn` | works; the line says what it costs |
//! | `fail` | the gateway does not start, or cannot keep its promise |
//!
//! Gap: the kernel's own word on clock synchronisation (`adjtimex`) has no safe wrapper here; a time
//! service that runs is taken for a clock that is right.

use std::fs;

use std::path::{Path, PathBuf};

use io_uring::{IoUring, Probe, opcode};
use rustix::fs::statvfs;

use rustix::process::{Resource, getrlimit};

use crate::guard::engine;
use crate::limits::{Limits, MIB};
use crate::worker::ring;

/// Oldest kernel on which the ring does all that is asked of it (Debian 12).
const KERNEL_GOOD: (u32, u32) = (6, 1);
/// Oldest kernel on which it works at all: `IORING_OP_SHUTDOWN` and native workers.
const KERNEL_LEAST: (u32, u32) = (5, 12);

/// Operations that a worker's ring uses: code, name, kernel that brought it.
const OPERATIONS: &[(u8, &str, &str)] = &[
    (opcode::PollAdd::CODE, "POLL_ADD", "5.1"),
    (opcode::SendMsg::CODE, "SENDMSG", "5.3"),
    (opcode::Accept::CODE, "ACCEPT", "5.5"),
    (opcode::Connect::CODE, "CONNECT", "5.5"),
    (opcode::AsyncCancel::CODE, "ASYNC_CANCEL", "5.5"),
    (opcode::Close::CODE, "CLOSE", "5.6"),
    (opcode::Read::CODE, "READ", "5.6"),
    (opcode::Write::CODE, "WRITE", "5.6"),
    (opcode::Send::CODE, "SEND", "5.6"),
    (opcode::Recv::CODE, "RECV", "5.6"),
    (opcode::Shutdown::CODE, "SHUTDOWN", "5.11"),
];

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Ok,
    /// Works, at a cost.
    Warn,
    /// Does not work.
    Fail,
}

impl State {
    /// The word that begins a line.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "fail",
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it stands.
    pub state: State,
    /// What was looked at.
    pub name: &'static str,
    /// What was seen.
    pub seen: String,
    /// What to do; empty when all is well.
    pub remedy: String,
}

fn ok(name: &'static str, seen: impl Into<String>) -> Finding {
    Finding { state: State::Ok, name, seen: seen.into(), remedy: String::new() }
}

fn warn(name: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { state: State::Warn, name, seen: seen.into(), remedy: remedy.into() }
}

fn fail(name: &'static str, seen: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { state: State::Fail, name, seen: seen.into(), remedy: remedy.into() }
}

impl Finding {
    /// The line for people.
    pub fn text(&self) -> String {
        let head = format!("{:4} {}: {}", self.state.as_str(), self.name, self.seen);
        if self.remedy.is_empty() { head } else { format!("{head}; {}", self.remedy) }
    }

    /// The line for scripts.
    pub fn to_json(&self) -> serde_json::Value {
        let state = self.state.as_str();
        serde_json::json!({
            "state": state, "name": self.name, "seen": self.seen, "remedy": self.remedy,
        })
    }
}

/// What to look at besides the host itself.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where the record is, or will be.
    pub record: PathBuf,
    /// The bounds in force.
    pub limits: Limits,
}

/// Looks at everything.
pub fn look(wanted: &Wanted) -> Vec<Finding> {
    let mut findings = vec![kernel()];
    findings.extend(ring());
    findings.extend([
        cores(),
        descriptors(&wanted.limits),
        locked_memory(),
        memory(&wanted.limits),
        core_dumps(),
        disk(&wanted.record),
        clock(),
        scanner(),
    ]);
    findings
}

/// Major and minor number of a release such as `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn kernel() -> Finding {
    let name = "kernel";
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let (major, minor) = KERNEL_GOOD;
    let remedy = format!("install kernel {major}.{minor} or newer");
    match version(&release) {
        Some(seen) if seen >= KERNEL_GOOD => ok(name, release),
        Some(seen) if seen >= KERNEL_LEAST => {
            warn(name, format!("{release}, some ring flags are missing"), remedy)
        }
        _ => fail(name, release, remedy),
    }
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn ring() -> Vec<Finding> {
    let name = "io_uring";
    let ring = match IoUring::new(8) {
        Ok(ring) => ring,
        Err(error) => {
            let refusal = ring::refusal(&error);
            return vec![fail(name, refusal.cause, refusal.remedy)];
        }
    };
    let disabled = match read_number("/proc/sys/kernel/io_uring_disabled") {
        None => "no sysctl".to_owned(),
        Some(number) => format!("kernel.io_uring_disabled is {number}"),
    };
    let mut findings = vec![ok(name, format!("a ring was made; {disabled}"))];
    let mut probe = Probe::new();
    findings.push(match ring.submitter().register_probe(&mut probe) {
        Err(error) => fail("ring operations", format!("cannot be asked for: {error}"), "see dmesg"),
        Ok(()) => {
            let missing: Vec<String> = OPERATIONS
                .iter()
                .filter(|(code, _, _)| !probe.is_supported(*code))
                .map(|(_, name, kernel)| format!("{name} (kernel {kernel})"))
                .collect();
            match missing.is_empty() {
                true => ok("ring operations", format!("all {} are there", OPERATIONS.len())),
                false => fail("ring operations", missing.join(", "), "install a newer kernel"),
            }
        }
    });
    // Kernel 5.19 and 6.0: fewer interrupts of the worker by its own completions.
    let mut flags = Vec::new();
    let mut builder = IoUring::<io_uring::squeue::Entry>::builder();
    if builder.setup_coop_taskrun().build(8).is_err() {
        flags.push("COOP_TASKRUN (kernel 5.19)");
    }
    let mut builder = IoUring::<io_uring::squeue::Entry>::builder();
    if builder.setup_single_issuer().build(8).is_err() {
        flags.push("SINGLE_ISSUER (kernel 6.0)");
    }
    findings.push(match flags.is_empty() {
        true => ok("ring flags", "COOP_TASKRUN, SINGLE_ISSUER"),
        false => {
            let seen = format!("missing: {}", flags.join(", "));
            warn("ring flags", seen, "works without; a newer kernel needs less processor time")
        }
    });
    findings
}

fn cores() -> Finding {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) if set.count() == 1 => {
            warn("cores", "1 may be used", "give it two: one for the worker, one for the writer")
        }
        Ok(set) => ok("cores", format!("{} may be used", set.count())),
        Err(error) => warn("cores", format!("unknown ({error})"), "list them in [workers] cores"),
    }
}

/// A resource limit in words; `None` is unlimited.
fn limit_text(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

fn descriptors(limits: &Limits) -> Finding {
    let name = "open files";
    let limit = getrlimit(Resource::Nofile);
    // One for each client, one for an upstream connection each, and the rest of the program.
    let wanted = 2 * limits.connections_max + 512;
    let soft = limit.current.unwrap_or(u64::MAX);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let seen = format!("{} (wanted {wanted} for connections_max)", limit_text(limit.current));
    let remedy = format!("type: ulimit -n {wanted}, or LimitNOFILE={wanted} in the unit");
    if soft >= wanted {
        ok(name, seen)
    } else if soft >= 256 {
        warn(name, format!("{seen}, hard limit {}", limit_text(Some(hard))), remedy)
    } else {
        fail(name, seen, remedy)
    }
}

fn locked_memory() -> Finding {
    let limit = getrlimit(Resource::Memlock);
    // Kernel 5.12: ring memory is charged to the control group, no longer to this limit; only
    // registered buffers still are, and none are registered.
    ok("locked memory", format!("{} bytes; rings need none of it", limit_text(limit.current)))
}

fn memory(limits: &Limits) -> Finding {
    let name = "memory";
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text.lines().find_map(|line| {
        let kib = line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?;
        kib.trim().parse::<u64>().ok()
    });
    let workers = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count() as u64);
    let wanted = limits.memory_bytes_max(workers) / MIB;
    match available.map(|kib| kib / 1024) {
        Some(mib) if mib >= wanted => {
            ok(name, format!("{mib} MiB available, at most {wanted} used"))
        }
        Some(mib) => warn(
            name,
            format!("{mib} MiB available, up to {wanted} MiB used under full load"),
            "lower inflight_bytes_max and connections_max in [limits]",
        ),
        None => warn(name, "unknown: /proc/meminfo cannot be read", "mount /proc"),
    }
}

fn core_dumps() -> Finding {
    match getrlimit(Resource::Core).current {
        Some(0) => ok("core dumps", "off"),
        _ => warn(
            "core dumps",
            "on: a crash would write tokens and keys to a file",
            "type: ulimit -c 0, or LimitCORE=0 in the unit",
        ),
    }
}

/// The nearest folder that is there.
fn existing(path: &Path) -> PathBuf {
    let candidates = path.ancestors().filter(|path| !path.as_os_str().is_empty());
    let found = candidates.into_iter().find(|path| path.is_dir());
    found.map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

fn disk(record: &Path) -> Finding {
    let name = "disk";
    let folder = existing(record);
    let about = match statvfs(&folder) {
        Ok(about) => about,
        Err(error) => {
            return fail(
                name,
                format!("{}: {error}", folder.display()),
                "choose another directory",
            );
        }
    };
    let free = about.f_bavail.saturating_mul(about.f_frsize) / MIB;
    let seen = format!("{free} MiB free for {}", record.display());
    let remedy = "make room: calls are refused when the record cannot be written";
    match free {
        0..64 => fail(name, seen, remedy),
        64..2048 => warn(name, seen, remedy),
        _ => ok(name, seen),
    }
}

fn clock() -> Finding {
    let name = "clock";
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return ok(name, "set by systemd-timesyncd");
    }
    const SERVICES: &[&str] =
        &["chronyd", "ntpd", "openntpd", "ptp4l", "phc2sys", "systemd-timesyn"];
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let running = processes
        .filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
        .find(|name| SERVICES.contains(&name.trim()));
    match running {
        Some(service) => ok(name, format!("{} runs", service.trim())),
        None => warn(
            name,
            "no time service was found here",
            "install one (apt-get install chrony), unless the host of this container has one: \
             tokens are judged by this clock",
        ),
    }
}

fn scanner() -> Finding {
    let version = engine::version();
    #[cfg(all(target_arch = "x86_64", feature = "engine-hyperscan"))]
    if !std::arch::is_x86_feature_detected!("ssse3") {
        let seen = format!("{version}, but the processor has no SSSE3");
        return fail("scanner", seen, "use a processor with SSSE3 (any since 2006)");
    }
    ok("scanner", version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_read() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.15.153.1-microsoft-standard-WSL2"), Some((5, 15)));
        assert_eq!(version("next"), None);
    }

    #[test]
    fn everything_is_looked_at() {
        let wanted = Wanted { record: "/nowhere/at/all".into(), limits: Limits::default() };
        let findings = look(&wanted);
        assert!(findings.len() >= 9);
        for finding in &findings {
            assert_eq!(finding.state == State::Ok, finding.remedy.is_empty(), "{finding:?}");
            assert!(!finding.text().contains('\n'));
        }
    }
}
