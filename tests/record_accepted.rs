//! A gateway process on a record, or a disk, that is not as it should be: what it refuses, what it says,
//! and what going on all the same leaves in the record for ever.

#[expect(dead_code, reason = "each test uses its part of it")]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use stenograph::record::disk::{Directory, Files};
use stenograph::record::entry::EntryView;
use stenograph::record::reader::{Checks, read};
use stenograph::record::scan::{Place, Sink};
use stenograph::record::{Kind, PartKind};
use support::ledger::{FEW_RULES, Ledger, start_upstream};
use support::{Gateway, IdentityProvider};

fn prepare(directory: &Path) -> Gateway {
    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    let provider = IdentityProvider::start();
    let upstream = start_upstream(Ledger::default());
    let gateway = Gateway::prepare(&binary, directory, &provider, upstream, "[0]", "written", "");
    gateway.few_rules(FEW_RULES);
    gateway
}

/// A call that is refused, and recorded.
fn call(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).expect("the gateway listens");
    stream
        .write_all(b"POST /tools HTTP/1.1\r\nHost: mcp.example.test\r\nContent-Length: 0\r\n\r\n")
        .expect("sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("answered");
    assert_eq!(&answer, b"HTTP/1.1 401");
}

fn serve(gateway: &Gateway, more: &[&str]) -> Command {
    let mut command = Command::new(&gateway.binary);
    command.arg("serve").args(more).arg("--config").arg(gateway.directory.join("stenograph.toml"));
    command.stdin(Stdio::null());
    command
}

/// `serve` that must not come up: exit code and log.
fn refused(gateway: &Gateway, more: &[&str]) -> (Option<i32>, String) {
    let done = serve(gateway, more).output().expect("it runs");
    (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
}

/// Serves with these words, takes a call, and drains.
fn serves(gateway: &Gateway, more: &[&str]) {
    let mut child = serve(gateway, more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let begun = Instant::now();
    while TcpStream::connect(gateway.address).is_err() {
        let ended = child.try_wait().expect("waiting works");
        assert!(ended.is_none() && begun.elapsed() < Duration::from_secs(30), "{ended:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    call(gateway.address);
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("signal");
    assert!(child.wait().expect("gone").success());
}

fn verify(gateway: &Gateway) -> (i32, Value) {
    let (code, out, err) = gateway.command(&["verify", "--json", "--key", &gateway.verifier]);
    (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}")))
}

/// What start entries say of the record.
#[derive(Default)]
struct Starts(Vec<Value>);

impl Sink for Starts {
    fn entry(&mut self, _: &Place, entry: &EntryView<'_>) {
        if entry.kind() == Some(Kind::Start) {
            let detail = entry.part(PartKind::Detail).expect("a start says something");
            let detail: Value = serde_json::from_slice(detail).expect("JSON");
            self.0.push(detail["record"].clone());
        }
    }
}

// Mutants: `--accept-damage` is not handed on; the next header calls a damaged segment torn.
#[test]
fn damage_is_gone_on_behind_by_order_only_and_is_told_for_ever() {
    let directory = tempfile::tempdir().expect("directory");
    let mut gateway = prepare(directory.path());
    gateway.start();
    call(gateway.address);
    assert!(gateway.stop());
    assert_eq!(verify(&gateway).0, 0);
    let newest = directory.path().join("record/segments/00000000.seg");
    let mut bytes = std::fs::read(&newest).expect("there");
    // In the last signature.
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    std::fs::write(&newest, &bytes).expect("written");

    for _ in 0..2 {
        let (code, said) = refused(&gateway, &[]);
        assert_eq!(code, Some(4), "{said}");
        assert!(said.contains("--accept-damage") && said.contains("segment 00000000"), "{said}");
        assert_eq!(std::fs::read(&newest).expect("there"), bytes, "nothing is touched");
    }
    let named = |said: &Value| {
        let damage = said["damage"].as_array().expect("a list").iter();
        let of_first = damage.filter(|one| one["segment"] == 0);
        of_first.map(|one| one["what"].as_str().expect("a text").to_owned()).collect::<Vec<_>>()
    };
    serves(&gateway, &["--accept-damage"]);
    for round in 0..2 {
        let (code, said) = verify(&gateway);
        assert_eq!((code, &said["intact"]), (1, &false.into()), "{said}");
        let told = named(&said);
        assert!(told.iter().any(|what| what.contains("ordered to go on")), "{said}");
        assert!(said["damage"].as_array().expect("a list").len() == told.len(), "{said}");
        let mut starts = Starts::default();
        let files = Directory::new(directory.path().join("record"));
        read(&files as &dyn Files, Checks::default(), &mut starts).expect("read");
        let second = &starts.0[1];
        assert_eq!(
            (&starts.0[0]["accept_damage"], &second["accept_damage"]),
            (&false.into(), &true.into())
        );
        assert_eq!(second["previous"]["end"], "damaged", "{second}");
        // The order was for one start; the next one finds a whole newest segment.
        if round == 0 {
            serves(&gateway, &[]);
        }
    }
}

/// A small file system in memory; gone with the guard.
struct Mount(PathBuf);

impl Mount {
    /// None where nothing may be mounted.
    fn new(at: &Path, options: &str) -> Option<Mount> {
        std::fs::create_dir_all(at).expect("made");
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(at).output();
        done.is_ok_and(|done| done.status.success()).then(|| Mount(at.to_owned()))
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let done = Command::new("mount").args(["-o", &options]).arg(&self.0).status();
        assert!(done.expect("mount runs").success(), "{options}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

// A disk that cannot be used from the start: the folder, the lock, the reserve. Mutant: `RealDisk::open`
// that goes on without the folder.
#[test]
fn a_start_on_a_disk_that_takes_nothing_says_which_file_and_why() {
    let directory = tempfile::tempdir().expect("directory");
    let gateway = prepare(directory.path());
    let record = directory.path().join("record");
    let assert_refused = |path: &str, why: &str| {
        let (code, said) = refused(&gateway, &[]);
        assert_eq!(code, Some(4), "{said}");
        assert!(said.contains(path) && said.contains(why), "{path} {why}: {said}");
    };
    // A file where the folder should be.
    std::fs::create_dir(&record).expect("made");
    std::fs::write(record.join("segments"), b"mine").expect("written");
    assert_refused("record/segments", "File exists");
    std::fs::remove_file(record.join("segments")).expect("removed");
    // A folder where the lock should be.
    std::fs::create_dir_all(record.join("lock")).expect("made");
    assert_refused("record/lock", "Is a directory");
    std::fs::remove_dir_all(&record).expect("removed");
    let Some(mount) = Mount::new(&record, "size=8m,nr_inodes=2,mode=0700") else { return };
    // One file has room, and it is the folder.
    assert_refused("record/lock", "No space left");
    drop(mount);
    let mount = Mount::new(&record, "ro,size=8m,mode=0700").expect("as before");
    assert_refused("record/segments", "Read-only file system");
    mount.remount("rw,size=1m");
    assert_refused("reserve_bytes_max", "No space left");
    mount.remount("rw,size=512m");
    serves(&gateway, &[]);
    assert_eq!(verify(&gateway).0, 0);
    mount.remount("ro");
    assert_refused("record/lock", "Read-only file system");
    // The record of before can be read all the same.
    assert_eq!(verify(&gateway).0, 0);
}

/// Status of a path of the admin address.
fn admin(address: SocketAddr, path: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("the gateway listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("answered");
    std::str::from_utf8(&answer[9..]).expect("text").parse().expect("a status")
}

/// Status of a good call.
fn good_call(address: SocketAddr, token: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("the gateway listens");
    stream.write_all(&support::call("/tools", token, 1, "call-1-end")).expect("sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("answered");
    std::str::from_utf8(&answer[9..]).expect("text").parse().expect("a status")
}

// The kernel makes a file system read-only under a running gateway, as after an error of the disk: it
// lets that happen by force only, because a file is open for writing.
#[test]
fn a_file_system_that_turns_read_only_is_503_and_serves_again_when_it_can_be_written() {
    let directory = tempfile::tempdir().expect("directory");
    let record = directory.path().join("record");
    let image = directory.path().join("image");
    std::fs::create_dir(&record).expect("made");
    let file = std::fs::File::create(&image).expect("image");
    file.set_len(256 << 20).expect("sparse");
    let made = Command::new("mkfs.ext4").arg("-q").arg(&image).status();
    let mounted = made.is_ok_and(|made| made.success())
        && Command::new("mount")
            .args(["-o", "loop,errors=remount-ro"])
            .args([&image, &record])
            .output()
            .is_ok_and(|done| done.status.success());
    if !mounted {
        assert!(
            std::env::var("STENOGRAPH_POWER").is_ok_and(|said| said == "none"),
            "this test needs root and loop devices; on a host without them say so with \
             STENOGRAPH_POWER=none"
        );
        return;
    }
    let mut mount = Mount(record.clone());
    let provider = IdentityProvider::start();
    let upstream = start_upstream(Ledger::default());
    let binary = support::binary(env!("CARGO_BIN_EXE_stenograph"));
    let admin_port = SocketAddr::from(([127, 0, 0, 1], support::free_port()));
    let more =
        format!("[admin]\naddress = \"{admin_port}\"\n[limits]\nreserve_bytes_max = \"2MiB\"\n");
    let mut gateway =
        Gateway::prepare(&binary, directory.path(), &provider, upstream, "[0]", "written", &more);
    gateway.few_rules(FEW_RULES);
    gateway.start();
    let token = provider.token("ada", &["engineering"], support::RESOURCE);
    assert_eq!(good_call(gateway.address, &token), 200);
    assert_eq!(admin(admin_port, "/readyz"), 200);
    let remount = |how: &str| {
        let how = format!("remount,{how}");
        Command::new("mount").args(["-o", &how]).arg(&record).output().expect("mount runs")
    };
    let busy = remount("ro");
    assert!(!busy.status.success(), "a file is open for writing");
    assert_eq!(good_call(gateway.address, &token), 200, "and nothing has changed");
    // What ext4 does itself when its disk fails.
    let device = device_of(&mount.0);
    let trigger = Path::new("/sys/fs/ext4").join(&device).join("trigger_fs_error");
    std::fs::write(&trigger, "an error for the test").expect("ext4 offers it");
    let begun = Instant::now();
    while good_call(gateway.address, &token) != 503 {
        assert!(begun.elapsed() < Duration::from_secs(2), "calls go on without a record");
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "told by the failure, not by the bound");
    assert_eq!(admin(admin_port, "/readyz"), 503);
    assert_eq!(good_call(gateway.address, &token), 503);
    let again = remount("rw");
    if again.status.success() {
        let begun = Instant::now();
        while good_call(gateway.address, &token) != 200 {
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not go on");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(admin(admin_port, "/readyz"), 200);
        assert!(gateway.stop());
    } else {
        // A kernel that keeps it read-only after an error: it is closed to the end, says so, and goes on
        // in the next life.
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!((good_call(gateway.address, &token), admin(admin_port, "/readyz")), (503, 503));
        assert!(!gateway.stop(), "what waits cannot be stored, and the exit code says so");
        drop(mount);
        let mounted = Command::new("mount").arg("-o").arg("loop").args([&image, &record]).status();
        assert!(mounted.expect("mount runs").success());
        mount = Mount(record.clone());
        gateway.start();
        assert_eq!((good_call(gateway.address, &token), admin(admin_port, "/readyz")), (200, 200));
        assert!(gateway.stop());
    }
    let (code, said) = verify(&gateway);
    assert_eq!(code, 0, "{said}");
    drop(mount);
}

/// Name of the device of a mount, as below `/sys/fs`.
fn device_of(at: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    let at = at.to_str().expect("text");
    let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(at)).expect("mounted");
    line.split(' ').next().expect("a device").trim_start_matches("/dev/").to_owned()
}
