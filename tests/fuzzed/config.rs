//! The configuration: any text gives a configuration or problems, never a panic, and problems do not
//! hide each other.

use std::path::Path;

use stenograph::app::config::{Config, Problem};

/// One text. Mutant: an unknown key with a dash in it is no problem.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let read = |text: &str| Config::read(text, Path::new("/etc/stenograph/stenograph.toml"));
    let problems = match read(text) {
        Ok(config) => {
            // The text for the record says the same: it is accepted, and is its own text.
            let again = read(config.public_text()).expect("the recorded text is accepted");
            assert_eq!(again.public_text(), config.public_text());
            Vec::new()
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            problems
        }
    };
    let lines = text.split('\n').count() as u32;
    for problem in &problems {
        assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{problem:?}");
        let line = problem.text("stenograph.toml");
        assert!(!line.contains(|c: char| c.is_control()), "control characters in {line:?}");
        problem.to_json("stenograph.toml");
    }
    // One more fault is one more problem, wherever the others are. `toml` by itself says what is TOML.
    let unknown = "\n[no-such-section]\nkey = 1\n";
    let more = format!("{text}{unknown}");
    if text.parse::<toml::Table>().is_ok() && more.parse::<toml::Table>().is_ok() {
        let is_new = |problem: &Problem| problem.key.starts_with("no-such-section");
        let of_more = read(&more).expect_err("an unknown section");
        let (new, old): (Vec<_>, Vec<_>) = of_more.into_iter().partition(is_new);
        assert_eq!(new.len(), 1, "{new:?}");
        assert_eq!(old, problems);
    }
}
