//! The command line as scripts see it: every `tests/cli/*.txt` is a play of files, commands, expected
//! output and exit codes.
//!
//! ```text
//! # comment
//! file NAME MODE          the indented lines that follow are its text
//!     …
//! run ARGUMENTS           of the program; "quotes" keep spaces together
//! in                      its stdin; none without
//! exit CODE               0 without
//! out                     its stdout, line by line; nothing may come without
//! err                     its stderr likewise
//! ```
//!
//! In expected text `…` stands for anything within the line, and a line that is only `…` for any
//! number of lines. All commands of one play run in one directory of its own.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Debug, Default)]
struct Run {
    line: usize,
    arguments: Vec<String>,
    input: String,
    exit: i32,
    out: Vec<String>,
    err: Vec<String>,
}

#[derive(Debug)]
enum Step {
    File { name: String, mode: u32, text: String },
    Run(Run),
}

/// Splits at spaces outside double quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for symbol in text.chars() {
        match symbol {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().expect("never empty").push(other),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn read_play(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut target = "";
    let mut empty_lines = 0;
    for (number, line) in text.lines().enumerate() {
        // Empty lines belong to the text only where more of it follows.
        if line.is_empty() {
            empty_lines += 1;
            continue;
        }
        let before = "\n".repeat(std::mem::take(&mut empty_lines));
        if let Some(content) = line.strip_prefix("    ") {
            match (target, steps.last_mut()) {
                ("file", Some(Step::File { text, .. })) => {
                    *text = format!("{text}{before}{content}\n");
                }
                ("in", Some(Step::Run(run))) => {
                    run.input = format!("{}{before}{content}\n", run.input);
                }
                ("out" | "err", Some(Step::Run(run))) => {
                    let lines = if target == "out" { &mut run.out } else { &mut run.err };
                    lines.extend(before.lines().chain([content]).map(str::to_owned));
                }
                _ => panic!("line {}: indented text belongs to nothing", number + 1),
            }
            continue;
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (word, steps.last_mut()) {
            ("#", _) => {}
            ("file", _) => {
                let words = words(rest);
                let [name, mode] = &words[..] else {
                    panic!("line {}: file NAME MODE", number + 1)
                };
                let mode = u32::from_str_radix(mode, 8).expect("a mode");
                steps.push(Step::File { name: name.clone(), mode, text: String::new() });
                target = "file";
            }
            ("run", _) => {
                let arguments = words(rest);
                steps.push(Step::Run(Run { line: number + 1, arguments, ..Run::default() }));
                target = "";
            }
            ("exit", Some(Step::Run(run))) => run.exit = rest.parse().expect("a number"),
            ("in" | "out" | "err", Some(Step::Run(_))) => target = word_of(word),
            _ => panic!("line {}: not understood: {line}", number + 1),
        }
    }
    steps
}

fn word_of(word: &str) -> &'static str {
    match word {
        "in" => "in",
        "out" => "out",
        _ => "err",
    }
}

/// `pattern` with `…` for anything.
fn line_fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn fits(patterns: &[String], lines: &[&str]) -> bool {
    match patterns.split_first() {
        None => lines.is_empty(),
        Some((pattern, rest)) if pattern == "…" => {
            (0..=lines.len()).any(|skipped| fits(rest, &lines[skipped..]))
        }
        Some((pattern, rest)) => match lines.split_first() {
            Some((line, lines)) => line_fits(pattern, line) && fits(rest, lines),
            None => false,
        },
    }
}

fn play(path: &Path) -> Result<(), String> {
    let text = fs::read_to_string(path).expect("a play is readable");
    let home = tempfile::tempdir().expect("a directory");
    for step in read_play(&text) {
        let run = match step {
            Step::File { name, mode, text } => {
                let file = home.path().join(name);
                fs::create_dir_all(file.parent().expect("below home")).expect("a directory");
                fs::write(&file, text).expect("a file");
                fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("a mode");
                continue;
            }
            Step::Run(run) => run,
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_stenograph"))
            .args(&run.arguments)
            .current_dir(home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // A command that does not read its stdin closes it: no failure of the play.
        let _ = child.stdin.take().expect("piped").write_all(run.input.as_bytes());
        let output = child.wait_with_output().expect("the program ends");
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let exit = output.status.code().unwrap_or(-1);
        let out_fits = fits(&run.out, &out.lines().collect::<Vec<_>>());
        let err_fits = fits(&run.err, &err.lines().collect::<Vec<_>>());
        if exit != run.exit || !out_fits || !err_fits {
            let wrong = |fits: bool| if fits { "as expected" } else { "NOT as expected" };
            return Err(format!(
                "{}:{}: run {}\nexit {exit}, expected {}\nstdout, {}:\n{out}\nstderr, {}:\n{err}",
                path.display(),
                run.line,
                run.arguments.join(" "),
                run.exit,
                wrong(out_fits),
                wrong(err_fits),
            ));
        }
    }
    Ok(())
}

#[test]
fn every_play_ends_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let entries = fs::read_dir(folder).expect("tests/cli").flatten();
    let mut plays: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    plays.sort();
    assert!(!plays.is_empty());
    let failures: Vec<String> = plays.iter().filter_map(|path| play(path).err()).collect();
    assert!(failures.is_empty(), "{} plays failed\n{}", failures.len(), failures.join("\n\n"));
}

/// The plays can fail: each of these differs in one thing.
#[test]
fn what_differs_does_not_fit() {
    let lines = ["one 1 two", "three"];
    let fits = |patterns: &[&str]| {
        fits(&patterns.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), &lines)
    };
    for good in [&["one 1 two", "three"][..], &["one … two", "three"], &["…"], &["…", "three"]]
    {
        assert!(fits(good), "{good:?}");
    }
    for bad in [&["one 1 two"][..], &["one … tow", "three"], &["…", "one 1 two"], &[], &["…", "x"]]
    {
        assert!(!fits(bad), "{bad:?}");
    }
    assert!(line_fits("a…b…c", "a1b2c") && !line_fits("a…b…c", "acb"));
}

/// A reader that goes away early is no reason for a panic, and no success either.
#[test]
fn a_closed_pipe_is_no_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_stenograph"))
        .arg("doctor")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the program ends");
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// Every command shows its help with an example and exits with 0.
#[test]
fn every_command_has_help_with_an_example() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stenograph"));
        let output = command.args(arguments).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let help = run(&["--help"]);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> = commands
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.contains(&"check") && commands.len() >= 3, "{help}");
    for command in commands {
        let help = run(&[command, "--help"]);
        assert!(help.contains("Example"), "{command} shows no example\n{help}");
        assert!(run(&[command, "--version"]).contains(env!("CARGO_PKG_VERSION")));
    }
}
