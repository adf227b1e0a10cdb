//! `scan`: the gateway's scanner over standard input.
//!
//! The input is one message (JSON when it parses strictly, else text); with `lines` every line is one.
//! Findings are JSON Lines `{"rule","start","end","action"}`, with `lines` also `"line"` (from 1) and
//! `"line_start"`; positions are bytes into the whole input. With `mask` the masked bytes come instead,
//! what would be blocked masked as well.
//!
//! Exit code: 0 found (or masked), 1 nothing found, 2 a rule file is wrong, 4 something could not be
//! read, written or judged. A line that cannot be judged is named on standard error, comes out as stars
//! with `mask`, and does not end the run.
//!
//! Bounds: with `lines` those of the gateway, so that the answer is the gateway's; a line may be as
//! long as memory allows. Without, one input below 4 GiB.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use super::rules::load;
use crate::guard::{GuardFault, Mask, Scanner};
use crate::limits::Limits;
use crate::types::{Direction, Finding};
use crate::wire::json;

/// `stenograph scan …`.
#[derive(Debug, Clone)]
pub struct ScanOptions {
    /// Rule files beside the built-in pack.
    pub rules: Vec<PathBuf>,
    /// Which actions apply.
    pub direction: Direction,
    /// Print the masked input instead of findings.
    pub mask: bool,
    /// Every line is one message.
    pub lines: bool,
}

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// Runs the command; returns the exit code.
pub fn run(options: &ScanOptions, input: &mut dyn Read, out: &mut dyn Write) -> u8 {
    let rules = match load(&options.rules) {
        Ok(rules) => rules,
        Err(fault) => {
            for line in fault.lines() {
                eprintln!("{line}");
            }
            return fault.exit_code();
        }
    };
    let mut limits = Limits::default();
    if !options.lines {
        // Why: one input of the command line is often a file of many messages.
        limits.findings_max = 1 << 24;
        limits.view_bytes_max = u32::MAX as u64;
    }
    let scanner = Scanner::new(Arc::clone(&rules), [0; 32], &limits);
    let mut run = Run {
        options,
        scanner,
        limits,
        scratch: json::Scratch::new(),
        found: false,
        failed: false,
    };
    let mut out = io::BufWriter::with_capacity(READ_BYTES, out);
    let done = if options.lines { run.lines(input, &mut out) } else { run.whole(input, &mut out) };
    match done.and_then(|()| out.flush()) {
        Err(error) => {
            eprintln!("{error}");
            4
        }
        Ok(()) if run.failed => 4,
        Ok(()) if run.found || options.mask => 0,
        Ok(()) => 1,
    }
}

struct Run<'a> {
    options: &'a ScanOptions,
    scanner: Scanner,
    limits: Limits,
    scratch: json::Scratch,
    found: bool,
    failed: bool,
}

impl Run<'_> {
    fn whole(&mut self, input: &mut dyn Read, out: &mut dyn Write) -> io::Result<()> {
        let mut bytes = vec![];
        input.read_to_end(&mut bytes)?;
        if bytes.len() >= u32::MAX as usize {
            return Err(io::Error::other("input of 4 GiB or more; allowed: less, or --lines"));
        }
        self.message(&bytes, 0, None, out)
    }

    fn lines(&mut self, input: &mut dyn Read, out: &mut dyn Write) -> io::Result<()> {
        let mut buffer: Vec<u8> = vec![];
        let (mut number, mut offset) = (0u64, 0u64);
        loop {
            let kept = buffer.len();
            buffer.resize(kept + READ_BYTES, 0);
            let read = loop {
                match input.read(&mut buffer[kept..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
            buffer.truncate(kept + read);
            let mut start = 0;
            // The kept part holds no line end: it was searched before.
            for end in memchr::memchr_iter(b'\n', &buffer[kept..]).map(|at| kept + at) {
                number += 1;
                self.message(&buffer[start..end], offset + start as u64, Some(number), out)?;
                if self.options.mask {
                    out.write_all(b"\n")?;
                }
                start = end + 1;
            }
            if read == 0 {
                if start < buffer.len() {
                    number += 1;
                    self.message(&buffer[start..], offset + start as u64, Some(number), out)?;
                }
                return Ok(());
            }
            offset += start as u64;
            buffer.drain(..start);
        }
    }

    fn message(
        &mut self,
        bytes: &[u8],
        offset: u64,
        line: Option<u64>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let direction = self.options.direction;
        if self.options.mask {
            let masked = self.scanner.mask_input(
                bytes,
                direction,
                Mask::Fill,
                &mut self.scratch,
                &self.limits,
            );
            return match masked {
                Ok((findings, masked)) => {
                    self.found |= !findings.is_empty();
                    out.write_all(&masked)
                }
                Err(fault) => {
                    self.refused(line, fault);
                    out.write_all(&vec![b'*'; bytes.len()])
                }
            };
        }
        match self.scanner.scan(bytes, direction, &mut self.scratch, &self.limits) {
            Ok(findings) => {
                self.found |= !findings.is_empty();
                findings.iter().try_for_each(|finding| write_finding(finding, offset, line, out))
            }
            Err(fault) => {
                self.refused(line, fault);
                Ok(())
            }
        }
    }

    fn refused(&mut self, line: Option<u64>, fault: GuardFault) {
        self.failed = true;
        match line {
            Some(line) => eprintln!("line {line}: {fault}"),
            None => eprintln!("{fault}"),
        }
    }
}

/// Rule ids are `a-z0-9-` and names of known values are not used here: nothing needs escaping.
fn write_finding(
    finding: &Finding,
    offset: u64,
    line: Option<u64>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let start = offset + u64::from(finding.span.start);
    let end = offset + finding.span.end() as u64;
    let (rule, action) = (&finding.rule, finding.action.as_str());
    write!(out, r#"{{"rule":"{rule}","start":{start},"end":{end},"action":"{action}""#)?;
    if let Some(line) = line {
        write!(out, r#","line":{line},"line_start":{offset}"#)?;
    }
    out.write_all(b"}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte at a time.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let Some((&first, rest)) = self.0.split_first() else { return Ok(0) };
            out[0] = first;
            self.0 = rest;
            Ok(1)
        }
    }

    fn scan(text: &str, mask: bool, lines: bool) -> (u8, String) {
        let options = ScanOptions { rules: vec![], direction: Direction::Response, mask, lines };
        let mut whole = vec![];
        let code = run(&options, &mut text.as_bytes(), &mut whole);
        let mut dripped = vec![];
        assert_eq!(run(&options, &mut Drip(text.as_bytes()), &mut dripped), code);
        assert_eq!(whole, dripped);
        (code, String::from_utf8(whole).unwrap())
    }

    #[test]
    fn findings_are_lines_with_positions_in_the_input() {
        let (code, out) = scan("x\n{\"a\":\"AKIAIOSFODNN7EXAMPLE\"}\n", false, true);
        assert_eq!(
            out,
            "{\"rule\":\"aws-access-key-id\",\"start\":8,\"end\":28,\"action\":\"mask\",\"line\":2,\"line_start\":2}\n"
        );
        assert_eq!(code, 0);
        assert_eq!(scan("nothing here\n", false, true), (1, String::new()));
        let (code, out) = scan(r#"{"AKIAIOSFODNN7EXAMPLE":1}"#, false, false);
        assert_eq!((code, out.contains(r#""action":"block""#)), (0, true), "{out}");
    }

    #[test]
    fn masked_bytes_come_out_line_by_line() {
        assert_eq!(
            scan("AKIAIOSFODNN7EXAMPLE\n\nlast AKIAIOSFODNN7EXAMPLE", true, true),
            (0, "[aws-access-key-id]*\n\nlast [aws-access-key-id]*".to_string())
        );
    }

    // Mutant: a refused line written as it came.
    #[test]
    fn a_line_that_cannot_be_judged_is_not_shown_and_fails_the_run() {
        let deep = (0..6).fold("a\nAKIAIOSFODNN7EXAMPLE".to_string(), |text, _| {
            serde_json::to_string(&text).unwrap()
        });
        let (code, out) = scan(&format!("{deep}\nplain\n"), true, true);
        assert_eq!(code, 4);
        assert_eq!(out, format!("{}\nplain\n", "*".repeat(deep.len())));
    }
}
