//! The program on hosts that are less than ideal: under the profile of `tuning/`, and where io_uring is
//! refused. Uses Python to put a system call filter on a child; without Python it fails.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn under_profile(without: &[&str], arguments: &[&str]) -> (Output, Duration) {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut command = Command::new("python3");
    command.arg(format!("{root}/tests/seccomp.py")).arg(format!("{root}/tuning/seccomp.json"));
    for call in without {
        command.args(["--without", call]);
    }
    command.arg("--").arg(env!("CARGO_BIN_EXE_stenograph")).args(arguments);
    let begun = Instant::now();
    let output = command.output().expect("python3 runs");
    (output, begun.elapsed())
}

fn finding(output: &Output, name: &str) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("a JSON line"));
    let found = lines.into_iter().find(|line: &serde_json::Value| line["name"] == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn the_profile_of_tuning_allows_the_rings() {
    let (output, _) = under_profile(&[], &["doctor", "--json"]);
    assert_eq!(finding(&output, "io_uring")["state"], "ok");
    assert_eq!(finding(&output, "ring operations")["state"], "ok");
}

/// Mutant: `ring::refusal` without the case of a filter.
#[test]
fn a_filter_without_io_uring_is_named() {
    let calls = ["io_uring_setup", "io_uring_enter", "io_uring_register"];
    let (output, took) = under_profile(&calls, &["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(3));
    let ring = finding(&output, "io_uring");
    assert_eq!(ring["state"], "fail");
    assert!(ring["seen"].as_str().is_some_and(|seen| seen.contains("seccomp")), "{ring}");
    assert!(ring["remedy"].as_str().is_some_and(|text| text.contains("seccomp.json")), "{ring}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// What the profile refuses is refused: the filter of this test is in force at all.
#[test]
fn the_profile_refuses_what_the_program_does_not_use() {
    let root = env!("CARGO_MANIFEST_DIR");
    let script = "import os, sys\ntry:\n  os.mkfifo('/dev/null/x')\nexcept PermissionError:\n  sys.exit(7)\nexcept OSError: sys.exit(8)";
    let output = Command::new("python3")
        .arg(format!("{root}/tests/seccomp.py"))
        .arg(format!("{root}/tuning/seccomp.json"))
        .args(["--", "python3", "-c", script])
        .output()
        .expect("python3 runs");
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
}

/// `serve` does not start without a ring: exit 3 within a second, the cause by name and what to type.
///
/// Mutant: `Gateway::start` that goes on when the probe fails.
#[test]
fn serve_without_io_uring_ends_with_the_cause_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("log.key");
    let made = Command::new(env!("CARGO_BIN_EXE_stenograph"))
        .args(["keygen", "log", "--out"])
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success());
    let config = directory.path().join("stenograph.toml");
    let text =
        include_str!("vectors/config/readme.toml").replace("127.0.0.1:8080\"", "127.0.0.1:0\"");
    std::fs::write(&config, text.replace("127.0.0.1:9464", "127.0.0.1:0")).unwrap();
    let calls = ["io_uring_setup", "io_uring_enter", "io_uring_register"];
    let (output, took) = under_profile(&calls, &["serve", "--config", config.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("seccomp") && said.contains("seccomp.json"), "{said}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(!directory.path().join("record").exists(), "nothing was begun");
}
