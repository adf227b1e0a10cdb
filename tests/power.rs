//! Power cuts under load, against a ledger kept outside: with release level `synced`, whatever the
//! upstream or a client has seen is in the record when the file system comes back.
//!
//! The record lies on an ext4 or xfs file system in a file, mounted through a loop device.
//! `FS_IOC_SHUTDOWN` with `NOLOGFLUSH` makes it forget at one instant everything that was not forced
//! out, and fail every call from then on: what a power cut leaves, decided by the file system itself.
//!
//! Unlike a power cut the host goes on: a sync that is under way in that instant may come back as good
//! (the aborted journal has nothing left to wait for), and its answers are then sent by a gateway that
//! would have lost power. So what was seen before the cut must be there, all of it; of what was seen
//! after it only the one flush that was under way may be missing.
//!
//! While it is down the gateway must refuse; then it is killed, the file system mounted again (its journal
//! is replayed), `verify --key` must find nothing but a torn tail, and the gateway must adopt it.
//!
//! `STENOGRAPH_POWER_CUTS` sets the number of cuts for each file system (default 3), and
//! `STENOGRAPH_KILL_SEED` repeats the moments of an earlier run. Needs root and loop devices. Where a host
//! cannot have them, `STENOGRAPH_POWER=none` says so; without that the tests fail there.
//!
//! Checked against the mutant "a sync does nothing": segments then come back without their bytes, which
//! `verify` finds as damage after the first cut.

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::dice::{Dice, setting};
use support::ledger::{
    CLIENTS, FEW_RULES, Ledger, Load, assert_torn_at_most, recorded, start_upstream,
};
use support::{Gateway, IdentityProvider, RESOURCE};

/// A command of the system that must succeed.
fn must(program: &str, words: &[&str]) {
    let done = Command::new(program).args(words).output();
    let done = done.unwrap_or_else(|error| panic!("{program}: {error}; see tests/setup.sh"));
    assert!(
        done.status.success(),
        "{program} {words:?}: {}\nThis test needs root and loop devices; on a host without them say so \
         with STENOGRAPH_POWER=none",
        String::from_utf8_lossy(&done.stderr)
    );
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

/// A file system in a file. Unmounted with its end.
struct FileSystem {
    image: PathBuf,
    at: PathBuf,
}

impl FileSystem {
    fn new(kind: &str, directory: &Path, at: PathBuf) -> FileSystem {
        let image = directory.join("image");
        let file = std::fs::File::create(&image).expect("image");
        // The least that mkfs.xfs accepts is 300 MB.
        file.set_len(400 << 20).expect("sparse");
        must(&format!("mkfs.{kind}"), &["-q", text(&image)]);
        std::fs::create_dir(&at).expect("mount point");
        let made = FileSystem { image, at };
        made.mount();
        made
    }

    fn mount(&self) {
        must("mount", &["-o", "loop", text(&self.image), text(&self.at)]);
    }

    /// `FS_IOC_SHUTDOWN` (include/uapi/linux/fs.h, `_IOR('X', 125, __u32)`), flag 2:
    /// `FS_SHUTDOWN_FLAGS_NOLOGFLUSH`.
    ///
    /// Gives a moment just before it.
    fn cut(&self) -> Instant {
        let call = "import fcntl, os, struct, sys\n\
                    fd = os.open(sys.argv[1], os.O_RDONLY)\n\
                    print('armed', flush=True)\n\
                    sys.stdin.readline()\n\
                    fcntl.ioctl(fd, 0x8004587d, struct.pack('I', 2))";
        let mut child = Command::new("python3")
            .args(["-c", call, text(&self.at)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3; see tests/setup.sh");
        let mut line = String::new();
        let output = child.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut line).expect("a line");
        assert_eq!(line, "armed\n");
        let moment = Instant::now();
        child.stdin.take().expect("a pipe").write_all(b"now\n").expect("it listens");
        assert!(child.wait().expect("it ends").success(), "FS_IOC_SHUTDOWN on {:?}", self.at);
        moment
    }

    fn unmount(&self) {
        must("umount", &[text(&self.at)]);
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", text(&self.at)]).output();
    }
}

fn cut_over_and_over(kind: &str) {
    if std::env::var("STENOGRAPH_POWER").is_ok_and(|word| word == "none") {
        println!("not run: STENOGRAPH_POWER=none");
        return;
    }
    let cuts = setting("STENOGRAPH_POWER_CUTS").unwrap_or(3);
    let (mut dice, seed) = Dice::of_setting("STENOGRAPH_KILL_SEED");
    println!("STENOGRAPH_KILL_SEED={seed} STENOGRAPH_POWER_CUTS={cuts}");
    let begun = Instant::now();
    let directory = tempfile::tempdir().expect("directory");
    let provider = IdentityProvider::start();
    let ledger = Ledger::default();
    let upstream = start_upstream(ledger.clone());
    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    let mut gateway =
        Gateway::prepare(&binary, directory.path(), &provider, upstream, "\"auto\"", "synced", "");
    gateway.few_rules(FEW_RULES);
    // Declared behind the gateway's directory and unmounted before it goes.
    let disk = FileSystem::new(kind, directory.path(), directory.path().join("record"));
    let token = provider.token("builder", &["engineering"], RESOURCE).into();
    let (mut answered, mut torn) = (0, 0u64);
    let mut moments = Vec::new();
    for cycle in 0..cuts {
        gateway.start();
        let load = Load::start(gateway.address, &token, cycle, &ledger, true);
        thread::sleep(Duration::from_micros(dice.next() % 300_000));
        moments.push(disk.cut());
        // Everything that asks now must be refused; whatever gets out is in the ledger.
        thread::sleep(Duration::from_millis(60));
        gateway.kill();
        answered += load.stop();
        disk.unmount();
        disk.mount();
        torn += u64::from(assert_torn_at_most(&gateway));
    }
    thread::sleep(Duration::from_millis(300));
    gateway.start();
    let verifier = gateway.verifier.clone();
    assert!(gateway.stop(), "the last one drains and seals");
    let (code, said, why) = gateway.command(&["verify", "--json", "--key", &verifier]);
    assert_eq!(code, 0, "verify in the end: {said}{why}");
    let recorded = recorded(directory.path());
    let ledger = ledger.lock().expect("no panic");
    let mut lost = Vec::new();
    let mut under_way = vec![0usize; moments.len()];
    for (mark, seen) in ledger.iter().filter(|(mark, _)| !recorded.contains(*mark)) {
        let cycle: usize = mark.split('-').nth(1).expect("a cycle").parse().expect("a number");
        match seen.checked_duration_since(moments[cycle]) {
            Some(_) => under_way[cycle] += 1,
            None => lost.push(mark),
        }
    }
    println!(
        "{kind}: {cuts} cuts in {:?}, {} marks seen outside, {answered} answered, {torn} torn tails, {} \
         flushes under way",
        begun.elapsed(),
        ledger.len(),
        under_way.iter().filter(|marks| **marks > 0).count(),
    );
    assert!(ledger.len() as u64 > cuts * 20, "hardly any load: {}", ledger.len());
    assert!(lost.is_empty(), "seen before the cut and not in the record: {lost:?}");
    // Of each client one call, one event and one answer stand in a flush at most.
    assert!(under_way.iter().all(|marks| *marks <= 3 * CLIENTS), "{under_way:?}");
}

#[test]
fn nothing_seen_is_lost_by_a_power_cut_on_ext4() {
    cut_over_and_over("ext4");
}

#[test]
fn nothing_seen_is_lost_by_a_power_cut_on_xfs() {
    cut_over_and_over("xfs");
}
