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

/// A system call filter is in force on this process (proc(5), `Seccomp` in `/proc/pid/status`).
fn is_filtered() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"]))
}

/// Why the kernel refused a ring, and what to type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingRefusal {
    /// The cause by name: `kernel.io_uring_disabled`, `seccomp`, …
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for RingRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.cause, self.remedy)
    }
}

impl std::error::Error for RingRefusal {}

/// `kernel.io_uring_disabled` (kernel 6.6): 0 where there is no such setting.
fn disabled_level() -> u64 {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Explains an error of `io_uring_setup`.
pub fn refusal(error: &io::Error) -> RingRefusal {
    let disabled = disabled_level();
    explain(error.raw_os_error(), disabled, is_filtered(), error)
}

fn explain(errno: Option<i32>, disabled: u64, filtered: bool, error: &io::Error) -> RingRefusal {
    let is = |code: Errno| errno == Some(code.raw_os_error());
    let said = |cause: &str, remedy: &str| RingRefusal {
        cause: cause.to_owned(),
        remedy: remedy.to_owned(),
    };
    if is(Errno::PERM) && disabled == 2 {
        // Kernel 6.6: 2 refuses everybody, 1 everybody but CAP_SYS_ADMIN and one group.
        said(
            "io_uring is refused: the sysctl kernel.io_uring_disabled is 2",
            "type: sysctl -w kernel.io_uring_disabled=1 and \
             sysctl -w kernel.io_uring_group=<group of the service>",
        )
    } else if is(Errno::PERM) && disabled == 1 {
        said(
            "io_uring is refused: the sysctl kernel.io_uring_disabled is 1 and this user is not in \
             kernel.io_uring_group",
            "type: sysctl -w kernel.io_uring_group=<group of the service>",
        )
    } else if is(Errno::PERM) || (is(Errno::NOSYS) && filtered) {
        said(
            "io_uring is refused: a seccomp filter forbids io_uring_setup (the default of Docker, \
             containerd and Podman)",
            "run with the profile of tuning/: --security-opt seccomp=tuning/seccomp.json, or in \
             Kubernetes a Localhost profile",
        )
    } else if is(Errno::NOSYS) {
        said("io_uring is refused: this kernel has none", "install kernel 6.1 or newer")
    } else if is(Errno::NOMEM) {
        said(
            "io_uring is refused: not enough lockable memory (RLIMIT_MEMLOCK)",
            "type: ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit",
        )
    } else if is(Errno::MFILE) || is(Errno::NFILE) {
        said(
            "io_uring is refused: no file descriptor is left (RLIMIT_NOFILE)",
            "type: ulimit -n 65536, or LimitNOFILE=65536 in the unit",
        )
    } else {
        said(&format!("io_uring is refused: {error}"), "see the kernel's log: dmesg")
    }
}

/// Tries to make a ring of `depth` entries; gives the best flags that the kernel takes.
pub fn probe(depth: u32) -> Result<Flags, RingRefusal> {
    let mut last = io::Error::other("no flags were tried");
    for flags in Flags::LADDER {
        match flags.builder(depth).build(depth) {
            Ok(_) => return Ok(flags),
            Err(error) => last = error,
        }
        // Only an unknown flag is worth another try with fewer.
        if last.raw_os_error() != Some(Errno::INVAL.raw_os_error()) {
            break;
        }
    }
    Err(refusal(&last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_cause_and_remedy() {
        let cases: &[(Errno, u64, bool, &str, &str)] = &[
            (Errno::PERM, 2, false, "kernel.io_uring_disabled is 2", "sysctl -w"),
            (Errno::PERM, 1, true, "kernel.io_uring_disabled is 1", "io_uring_group"),
            (Errno::PERM, 0, true, "seccomp", "seccomp.json"),
            (Errno::NOSYS, 0, true, "seccomp", "seccomp.json"),
            (Errno::NOSYS, 0, false, "this kernel has none", "newer"),
            (Errno::NOMEM, 0, false, "RLIMIT_MEMLOCK", "LimitMEMLOCK"),
            (Errno::MFILE, 0, false, "RLIMIT_NOFILE", "LimitNOFILE"),
            (Errno::INVAL, 0, false, "io_uring is refused", "dmesg"),
        ];
        for (errno, disabled, filtered, cause, remedy) in cases {
            let error = io::Error::from(*errno);
            let said = explain(error.raw_os_error(), *disabled, *filtered, &error);
            assert!(said.cause.contains(cause), "{errno:?}: {}", said.cause);
            assert!(said.remedy.contains(remedy), "{errno:?}: {}", said.remedy);
        }
    }

    #[test]
    fn this_host_offers_a_ring() {
        let flags = probe(64).expect("the tests need io_uring");
        assert!(flags.coop_taskrun);
    }
}
