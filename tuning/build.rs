//! Tells the program which commit it is built from: `STENOGRAPH_COMMIT` of the environment, or what git
//! says of the checkout. Only for release builds: watching the checkout would build everything anew at
//! each commit. The digest of the binary, in the start entry too, is what identifies it.

use std::process::Command;

fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok().filter(|it| it.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn main() {
    println!("cargo::rerun-if-env-changed=STENOGRAPH_COMMIT");
    println!("cargo::rerun-if-changed=tuning/build.rs");
    let given = std::env::var("STENOGRAPH_COMMIT").ok().filter(|given| !given.is_empty());
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let found = || {
        for name in ["HEAD", "logs/HEAD"] {
            if let Some(path) = git(&["rev-parse", "--git-path", name]) {
                println!("cargo::rerun-if-changed={path}");
            }
        }
        println!("cargo::rerun-if-changed=src");
        let commit = git(&["rev-parse", "HEAD"])?;
        let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
        Some(if changed.is_empty() { commit } else { format!("{commit}, changed") })
    };
    let commit = given.or_else(|| is_release.then(found).flatten());
    println!("cargo::rustc-env=STENOGRAPH_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}
