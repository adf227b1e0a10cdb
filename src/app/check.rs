//! `check`: every problem of a configuration, and of the rules and keys it names.

use std::io::{self, Write};
use std::path::Path;

use crate::app::cli::Exit;
use crate::app::config::{Config, Problem};

/// Checks the configuration at `path` and writes what was found. The problems are the answer of
/// this command, so they go to `out`.
pub fn run(path: &Path, json: bool, out: &mut dyn Write) -> io::Result<Exit> {
    let config = match Config::check(path) {
        Ok(config) => config,
        Err(problems) => {
            write_problems(path, &problems, json, out)?;
            return Ok(Exit::Usage);
        }
    };
    if json {
        return Ok(Exit::Done);
    }
    for warning in &config.warnings {
        writeln!(out, "{}: note: {warning}", path.display())?;
    }
    writeln!(
        out,
        "{}: good: listen {}, issuer {}, upstream {}, grant {}",
        path.display(),
        config.listens.len(),
        config.issuers.len(),
        config.upstreams.len(),
        config.grants.len()
    )?;
    Ok(Exit::Done)
}

/// Writes all problems, one a line; for people also their count.
pub fn write_problems(
    path: &Path,
    problems: &[Problem],
    json: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let file = path.display().to_string();
    for problem in problems {
        match json {
            true => writeln!(out, "{}", problem.to_json(&file))?,
            false => writeln!(out, "{}", problem.text(&file))?,
        }
    }
    if !json {
        let count = problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        writeln!(out, "{file}: {count} {noun}")?;
    }
    Ok(())
}
