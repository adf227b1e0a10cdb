//! Every seed of the fuzz targets through its target: what the fuzzers ask is asked in each run of the
//! tests too, and what they once found stays found.

use std::fs;
use std::path::Path;
use std::process::Command;

mod fuzzed;

/// Bound: the seeds kept in `fuzz/seeds/`.
const SEEDS_BYTES_MAX: u64 = 300 * 1024;

/// Runs the inputs below `folder`, a folder for each target; gives how many each had, and all bytes.
fn run(folder: &Path) -> (Vec<usize>, u64) {
    let (mut counts, mut bytes, mut failed) = (Vec::new(), 0, Vec::new());
    for (name, target) in fuzzed::TARGETS {
        let inputs = fs::read_dir(folder.join(name)).into_iter().flatten();
        let inputs: Vec<_> = inputs.map(|input| input.expect("it is listed").path()).collect();
        for path in &inputs {
            let input = fs::read(path).expect("a file");
            bytes += input.len() as u64;
            if std::panic::catch_unwind(|| target(&input)).is_err() {
                failed.push(format!("{name}: {}", input.escape_ascii()));
            }
        }
        counts.push(inputs.len());
    }
    assert!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n"));
    (counts, bytes)
}

#[test]
fn what_was_found_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (counts, bytes) = run(&root.join("fuzz/seeds"));
    assert!(counts.iter().sum::<usize>() > 0 && bytes <= SEEDS_BYTES_MAX, "{counts:?} {bytes}");
}

#[test]
fn what_the_vectors_hold_holds_in_pieces_too() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().expect("a folder");
    let made = Command::new("python3")
        .arg(root.join("fuzz/seeds.py"))
        .arg("--out")
        .arg(folder.path())
        .output()
        .expect("python3 is there (tests/setup.sh)");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (counts, _) = run(folder.path());
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}
