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
//! Lines are shared out among threads, a megabyte at a time; what comes out is the same for any number.
//!
//! Bounds: with `lines` those of the gateway, so that the answer is the gateway's; a line may be as
//! long as memory allows, and [`PIECES_MAX`] pieces are kept for each thread. Without, one input below 4 GiB.

use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use super::rules::load;
use crate::guard::{GuardFault, Mask, RuleSet, Scanner};
use crate::limits::Limits;
use crate::types::{Direction, Finding, RuleAction};
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
    /// Also what an `allow` of a rule file lets through.
    pub allowed: bool,
    /// Threads for lines; none given: one for each core.
    pub threads: Option<NonZeroUsize>,
}

/// Bytes read at once, and about as many in one piece of work.
const READ_BYTES: usize = 1 << 20;

/// Bound: pieces of work on their way for each thread: one in hand, one waiting.
const PIECES_MAX: usize = 2;

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
    let mut out = io::BufWriter::with_capacity(READ_BYTES, out);
    let done = if options.lines {
        lines(options, &rules, input, &mut out)
    } else {
        whole(options, &rules, input, &mut out)
    };
    match done.and_then(|told| out.flush().map(|()| told)) {
        Err(error) => {
            eprintln!("{error}");
            4
        }
        Ok(told) if told.failed => 4,
        Ok(told) if told.found || options.mask => 0,
        Ok(_) => 1,
    }
}

/// What the messages so far came to.
#[derive(Debug, Default, Clone, Copy)]
struct Told {
    found: bool,
    failed: bool,
}

fn whole(
    options: &ScanOptions,
    rules: &Arc<RuleSet>,
    input: &mut dyn Read,
    out: &mut dyn Write,
) -> io::Result<Told> {
    let mut bytes = vec![];
    input.read_to_end(&mut bytes)?;
    if bytes.len() >= u32::MAX as usize {
        return Err(io::Error::other("input of 4 GiB or more; allowed: less, or --lines"));
    }
    // Why: one input of the command line is often a file of many messages.
    let limits =
        Limits { findings_max: 1 << 24, view_bytes_max: u32::MAX as u64, ..Limits::default() };
    let mut worker = Worker::new(options, rules, limits);
    let mut answer = vec![];
    worker.message(&bytes, 0, None, &mut answer);
    worker.faults.iter().for_each(|fault| eprintln!("{fault}"));
    out.write_all(&answer)?;
    Ok(worker.told)
}

/// Whole lines, in the order they came.
#[derive(Debug, Default)]
struct Piece {
    bytes: Vec<u8>,
    /// Place of the first byte in the input.
    offset: u64,
    /// Lines before it.
    lines: u64,
}

/// What one piece came to, and its memory, to be used again.
#[derive(Debug, Default)]
struct Answer {
    out: Vec<u8>,
    faults: Vec<String>,
    told: Told,
    piece: Piece,
}

/// A thread at work: pieces go in, answers come out in the same order.
struct Hand {
    pieces: mpsc::SyncSender<(Piece, Vec<u8>)>,
    answers: mpsc::Receiver<Answer>,
}

impl Hand {
    fn start<'scope>(
        scope: &'scope std::thread::Scope<'scope, '_>,
        options: &'scope ScanOptions,
        rules: &'scope Arc<RuleSet>,
    ) -> Hand {
        let (pieces, work) = mpsc::sync_channel::<(Piece, Vec<u8>)>(PIECES_MAX);
        let (done, answers) = mpsc::sync_channel(PIECES_MAX);
        scope.spawn(move || {
            let mut worker = Worker::new(options, rules, Limits::default());
            while let Ok((piece, out)) = work.recv() {
                // Nobody waits any more when the output cannot be written.
                if done.send(worker.piece(piece, out)).is_err() {
                    break;
                }
            }
        });
        Hand { pieces, answers }
    }
}

/// Reads pieces, hands them out in turn, and writes the answers in the same turn: what comes out does not
/// depend on the number of threads, nor on how the input is cut.
fn lines(
    options: &ScanOptions,
    rules: &Arc<RuleSet>,
    input: &mut dyn Read,
    out: &mut dyn Write,
) -> io::Result<Told> {
    let threads = options
        .threads
        .or_else(|| std::thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get);
    std::thread::scope(|scope| {
        let mut hands: Vec<Hand> = vec![];
        let (mut sent, mut written) = (0usize, 0usize);
        let mut told = Told::default();
        let mut spare: Vec<(Vec<u8>, Vec<u8>)> = vec![];
        let mut cutter = Cutter::default();
        let mut write = |hands: &[Hand], written: &mut usize, spare: &mut Vec<_>| {
            let Ok(answer) = hands[*written % threads].answers.recv() else {
                return Err(io::Error::other("a thread of the scanner ended"));
            };
            *written += 1;
            answer.faults.iter().for_each(|fault| eprintln!("{fault}"));
            told.found |= answer.told.found;
            told.failed |= answer.told.failed;
            out.write_all(&answer.out)?;
            spare.push((answer.piece.bytes, answer.out));
            Ok(())
        };
        loop {
            let (bytes, mut answer) = spare.pop().unwrap_or_default();
            let Some(piece) = cutter.next(input, bytes)? else { break };
            answer.clear();
            if sent - written == threads * PIECES_MAX {
                write(&hands, &mut written, &mut spare)?;
            }
            // A short input starts one thread only.
            if hands.len() < threads && hands.len() == sent % threads {
                hands.push(Hand::start(scope, options, rules));
            }
            // A thread that ended is told of where its answer is waited for.
            let _ = hands[sent % threads].pieces.send((piece, answer));
            sent += 1;
        }
        while written < sent {
            write(&hands, &mut written, &mut spare)?;
        }
        Ok(told)
    })
}

/// Cuts the input behind line ends.
#[derive(Debug, Default)]
struct Cutter {
    /// The line that has begun.
    kept: Vec<u8>,
    offset: u64,
    lines: u64,
    ended: bool,
}

impl Cutter {
    /// The next whole lines, or what stands behind the last line end when the input is over. `memory` is
    /// used for it.
    fn next(&mut self, input: &mut dyn Read, mut memory: Vec<u8>) -> io::Result<Option<Piece>> {
        memory.clear();
        let mut buffer = std::mem::replace(&mut self.kept, memory);
        while !self.ended {
            let before = buffer.len();
            buffer.resize(before + READ_BYTES, 0);
            let read = loop {
                match input.read(&mut buffer[before..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
            buffer.truncate(before + read);
            self.ended = read == 0;
            // What was kept holds no line end: it was searched before.
            let Some(end) = memchr::memrchr(b'\n', &buffer[before..]) else { continue };
            let end = before + end + 1;
            self.kept.extend_from_slice(&buffer[end..]);
            buffer.truncate(end);
            return Ok(Some(self.piece(buffer)));
        }
        Ok((!buffer.is_empty()).then(|| self.piece(buffer)))
    }

    fn piece(&mut self, bytes: Vec<u8>) -> Piece {
        let (offset, lines) = (self.offset, self.lines);
        self.offset += bytes.len() as u64;
        self.lines += memchr::memchr_iter(b'\n', &bytes).count() as u64;
        Piece { bytes, offset, lines }
    }
}

/// A scanner and what it needs.
struct Worker<'a> {
    options: &'a ScanOptions,
    scanner: Scanner,
    limits: Limits,
    scratch: json::Scratch,
    told: Told,
    faults: Vec<String>,
}

impl<'a> Worker<'a> {
    fn new(options: &'a ScanOptions, rules: &Arc<RuleSet>, limits: Limits) -> Worker<'a> {
        let scanner = Scanner::new(Arc::clone(rules), [0; 32], &limits);
        let scratch = json::Scratch::new();
        Worker { options, scanner, limits, scratch, told: Told::default(), faults: vec![] }
    }

    fn piece(&mut self, piece: Piece, mut out: Vec<u8>) -> Answer {
        self.told = Told::default();
        let mut number = piece.lines;
        let mut start = 0;
        while start < piece.bytes.len() {
            let rest = &piece.bytes[start..];
            let end = memchr::memchr(b'\n', rest);
            number += 1;
            let line = &rest[..end.unwrap_or(rest.len())];
            self.message(line, piece.offset + start as u64, Some(number), &mut out);
            if end.is_some() && self.options.mask {
                out.push(b'\n');
            }
            start += line.len() + 1;
        }
        Answer { out, faults: std::mem::take(&mut self.faults), told: self.told, piece }
    }

    fn message(&mut self, bytes: &[u8], offset: u64, line: Option<u64>, out: &mut Vec<u8>) {
        let direction = self.options.direction;
        if self.options.mask {
            let masked = self.scanner.mask_input(
                bytes,
                direction,
                Mask::Fill,
                &mut self.scratch,
                &self.limits,
            );
            match masked {
                Ok((findings, masked)) => {
                    self.told.found |= findings.iter().any(tells);
                    out.extend_from_slice(&masked);
                }
                Err(fault) => {
                    self.refused(line, fault);
                    out.resize(out.len() + bytes.len(), b'*');
                }
            }
            return;
        }
        match self.scanner.scan(bytes, direction, &mut self.scratch, &self.limits) {
            Ok(findings) => {
                self.told.found |= findings.iter().any(tells);
                let told = findings.iter().filter(|it| tells(it) || self.options.allowed);
                told.for_each(|finding| write_finding(finding, offset, line, out));
            }
            Err(fault) => self.refused(line, fault),
        }
    }

    fn refused(&mut self, line: Option<u64>, fault: GuardFault) {
        self.told.failed = true;
        self.faults.push(match line {
            Some(line) => format!("line {line}: {fault}"),
            None => fault.to_string(),
        });
    }
}

/// Whether it is a finding, not a value that is let through.
fn tells(finding: &Finding) -> bool {
    finding.action > RuleAction::Allow
}

/// Rule ids are `a-z0-9-` and names of known values are not used here: nothing needs escaping.
fn write_finding(finding: &Finding, offset: u64, line: Option<u64>, out: &mut Vec<u8>) {
    let start = offset + u64::from(finding.span.start);
    let end = offset + finding.span.end() as u64;
    let (rule, action) = (&finding.rule, finding.action.as_str());
    let line = line.map(|line| format!(r#","line":{line},"line_start":{offset}"#));
    let line = line.as_deref().unwrap_or_default();
    out.extend_from_slice(
        format!("{{\"rule\":\"{rule}\",\"start\":{start},\"end\":{end},\"action\":\"{action}\"{line}}}\n")
            .as_bytes(),
    );
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
        let mut options = ScanOptions {
            rules: vec![],
            direction: Direction::Response,
            mask,
            lines,
            allowed: false,
            threads: NonZeroUsize::new(1),
        };
        let mut whole = vec![];
        let code = run(&options, &mut text.as_bytes(), &mut whole);
        options.threads = NonZeroUsize::new(3);
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

    // Mutants: answers written as they come; a piece that does not count the lines before it.
    #[test]
    fn the_number_of_threads_changes_nothing() {
        let mut seed = 7u64;
        let mut next = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let mut text = String::new();
        while text.len() < 9 * READ_BYTES / 2 {
            match next() % 64 {
                0 => text.push_str("{\"key\":\"AKIAIOSFODNN7EXAMPLE\"}"),
                1 => text.push_str(&"x".repeat((next() % 20_000) as usize)),
                2 => text.push_str("mail to anna@example.com"),
                _ => text.push_str(&"an ordinary line ".repeat((next() % 40) as usize)),
            }
            text.push('\n');
        }
        text.push_str("and anna@example.com last");
        for mask in [false, true] {
            let answer = |threads| {
                let options = ScanOptions {
                    rules: vec![],
                    direction: Direction::Response,
                    mask,
                    lines: true,
                    allowed: false,
                    threads: NonZeroUsize::new(threads),
                };
                let mut out = vec![];
                (run(&options, &mut text.as_bytes(), &mut out), out)
            };
            let one = answer(1);
            assert!(one.1.len() > 5_000 && one.0 == 0, "{}", one.1.len());
            for threads in [2, 5] {
                assert!(answer(threads) == one, "{threads} threads");
            }
        }
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
