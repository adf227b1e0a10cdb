//! The commands that read the record back: their arguments, and where the record and its keys are found. The
//! reading itself is `audit`'s.

use std::io::{self, IsTerminal as _, Read as _, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use crate::app::check;
use crate::app::cli::Exit;
use crate::app::config::Config;
use crate::app::rules;
use crate::audit::echoed::{self, EchoedOptions};
use crate::audit::filter::{Filter, parse_time};
use crate::audit::originals::Opener;
use crate::audit::refusals::{self, RefusalsOptions};
use crate::audit::rescan::{self, RescanOptions};
use crate::audit::search::{self, SearchOptions};
use crate::audit::sessions::{self, SessionsOptions};
use crate::audit::show::{self, ShowOptions, Shown};
use crate::audit::since::Kept;
use crate::audit::verify::{self, VerifyOptions};
use crate::audit::{self, Indexes};
use crate::record::keys::{KeyFault, VerifierKey};
use crate::record::{age, keys};
use crate::types::SessionId;

/// Longest secret that `echoed` takes. Bound: it is held in memory; a certificate chain fits.
const SECRET_BYTES_MAX: u64 = 1 << 20;

/// What can be decided about an exchange, from the weakest to the strongest.
const VERDICTS: [&str; 6] = ["allowed", "masked", "failed", "refused", "denied", "blocked"];

/// Where the record is.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// Directory of the record [default: that of --config, else ./record]
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// A configuration that names the record
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// JSON Lines for scripts
    #[arg(long)]
    json: bool,
}

/// What may be left out while reading.
#[derive(Debug, Args)]
pub struct IndexArgs {
    /// The log's verifier key, as text or as a file that holds it: it must have signed the indexes that
    /// are used; without one every segment is read [default: next to the signing key of --config]
    #[arg(long, value_name = "VKEY|FILE", conflicts_with = "no_index")]
    key: Option<String>,
    /// Read every segment, also those whose index says that nothing asked for is inside
    #[arg(long)]
    no_index: bool,
}

impl IndexArgs {
    /// A key that is named has to be one; where one is looked for, one that cannot be read is as
    /// good as none, and then every segment is read.
    fn indexes(&self, found: &Found, err: &mut dyn Write) -> io::Result<Result<Indexes, Exit>> {
        let named = match self.key.as_deref().map(keys::load_verifier_key) {
            Some(Err(fault)) => {
                writeln!(err, "stenograph: --key: {fault}")?;
                return Ok(Err(Exit::Usage));
            }
            Some(Ok(key)) => Some(key),
            None => None,
        };
        // Why not the log.pub of the record: who can write its segments can write that too.
        let beside = || {
            let path = keys::verifier_path(&found.config.as_ref()?.record.signing_key);
            VerifierKey::parse(&std::fs::read_to_string(path).ok()?).ok()
        };
        Ok(Ok(Indexes { ignored: self.no_index, key: named.or_else(beside) }))
    }
}

/// The record's directory and the configuration, if one was named.
struct Found {
    directory: PathBuf,
    config: Option<Config>,
}

/// Reads the configuration for the places it names; its keys need not be on this machine.
fn find(args: &RecordArgs, err: &mut dyn Write) -> io::Result<Result<Found, Exit>> {
    let config = match &args.config {
        None => None,
        Some(path) => match read_config(path) {
            Ok(config) => Some(config),
            Err(problems) => {
                check::write_problems(path, &problems, false, err)?;
                return Ok(Err(Exit::Usage));
            }
        },
    };
    let directory = match (&args.record, &config) {
        (Some(directory), _) => directory.clone(),
        (None, Some(config)) => config.record.directory.clone(),
        (None, None) => PathBuf::from("record"),
    };
    Ok(Ok(Found { directory, config }))
}

fn read_config(path: &Path) -> Result<Config, Vec<crate::app::config::Problem>> {
    Config::read(&crate::app::config::read_whole(path)?, path)
}

/// Which exchanges: names match whole, and `*` stands for any characters.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Calls of this subject
    #[arg(long)]
    subject: Option<String>,
    /// Calls with tokens of this issuer
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Calls to this upstream
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// Calls of this tool
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// Calls of this method
    #[arg(long, value_name = "NAME")]
    method: Option<String>,
    /// Exchanges in which this rule found something
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// Exchanges with this verdict
    #[arg(long, value_name = "WORD", value_parser = VERDICTS)]
    verdict: Option<String>,
    /// From this time on: 2026-11-22T08:00:00Z, 2026-11-22, or 15m, 2h, 7d ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Exchanges of this session
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// Exchanges whose heads or bodies hold this text (for a secret, use `echoed`)
    #[arg(long)]
    text: Option<String>,
}

impl FilterArgs {
    fn filter(self) -> Result<Filter, String> {
        let now_ns = jiff::Timestamp::now().as_nanosecond().try_into().unwrap_or(0);
        let time = |name: &str, text: Option<String>| match text {
            None => Ok(None),
            Some(text) => match parse_time(&text, now_ns) {
                Some(ns) => Ok(Some(ns)),
                None => Err(format!(
                    "--{name} {text:?}: expected 2026-11-22T08:00:00Z, 2026-11-22, or 15m, 2h, 7d ago"
                )),
            },
        };
        Ok(Filter {
            since_ns: time("since", self.since)?,
            until_ns: time("until", self.until)?,
            subject: self.subject,
            issuer: self.issuer,
            upstream: self.upstream,
            tool: self.tool,
            method: self.method,
            rule: self.rule,
            verdict: self.verdict,
            session: self.session,
            text: self.text,
        })
    }
}

/// Who worked with what, and when
///
/// One line a session: the exchanges of one caller that belong together.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stenograph sessions --config stenograph.toml --since 2h\n  \
    stenograph sessions --record /var/lib/stenograph --subject contractor-7 --json")]
pub struct SessionsArgs {
    #[command(flatten)]
    record: RecordArgs,
    #[command(flatten)]
    index: IndexArgs,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Show one exchange or session whole
///
/// Everything that was recorded of it: who, what was asked, what went out, the verdicts, the ends, and the
/// connections that it came over.
/// Text is escaped so that nothing in it reaches the terminal as a command.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stenograph show 069f1c3gq0g0000001s2ajk4 --config stenograph.toml\n  \
    stenograph show 8v2k0q5w1m3n7r9t --json   # a session\n  \
    stenograph show 069f1c3gq0g0000001s2ajk4 --original --identity auditor.key"
)]
pub struct ShowArgs {
    /// Exchange (24 characters, from the Stenograph-Exchange field) or session (16 characters)
    #[arg(value_name = "ID")]
    id: Shown,
    #[command(flatten)]
    record: RecordArgs,
    #[command(flatten)]
    index: IndexArgs,
    /// Restore what is sealed, and prove it against the commitments in the record
    #[arg(long, requires = "identity")]
    original: bool,
    /// An auditor's identity, made by `keygen auditor`
    #[arg(long, value_name = "FILE", requires = "original")]
    identity: Option<PathBuf>,
}

/// Find exchanges by who, what, when, rule or text
///
/// One line an exchange. Exits with 1 when none is found.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stenograph search --config stenograph.toml --tool 'generate_*' --since 7d\n  \
    stenograph search --rule github-token --verdict masked --json\n  \
    stenograph search --refusals --since 1h   # before anybody was authenticated"
)]
pub struct SearchArgs {
    #[command(flatten)]
    record: RecordArgs,
    #[command(flatten)]
    index: IndexArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Look for --text in what is sealed too, with this auditor's identity
    #[arg(long, value_name = "FILE", requires = "text")]
    identity: Option<PathBuf>,
    /// Instead of exchanges, who was refused before anybody was authenticated, and connections on which
    /// nobody ever was: for each source and reason first, last, how often. Of the filters only --since and
    /// --until
    #[arg(long, conflicts_with_all = ["subject", "issuer", "upstream", "tool", "method", "rule",
        "verdict", "session", "text"])]
    refusals: bool,
}

/// Was this secret ever seen? Read from stdin
///
/// Looks for the secret in every head and body, also escaped and encoded, and, with the record's
/// fingerprint key, among what was masked. Says in which exchanges, in which direction, and whether it
/// was masked; then how much of the record the answer covers. Exits with 0 when it was seen, 1 when it
/// was not and everything was covered, 4 when the answer does not cover everything.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stenograph echoed --config stenograph.toml < leaked-token\n  \
    pass show ci/token | stenograph echoed --record ./record --fingerprint-key fingerprint.key"
)]
pub struct EchoedArgs {
    #[command(flatten)]
    record: RecordArgs,
    #[command(flatten)]
    index: IndexArgs,
    /// Look for its fingerprint alone, not for its text in heads and bodies: the indexes of sealed
    /// segments tell which of them need not be read
    #[arg(long, conflicts_with = "identity")]
    fingerprints_only: bool,
    /// The record's fingerprint key [default: that of --config]
    #[arg(long, value_name = "FILE")]
    fingerprint_key: Option<PathBuf>,
    /// Look in what is sealed too, with this auditor's identity
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

/// Run today's rules over what was recorded
///
/// Scans every body that the record holds in clear, and with an auditor's identity every original, with the
/// built-in rules and those of --rules, and tells what the verdicts of then do not name. Exits with 0 when
/// there is something new, 1 when there is not and everything was scanned, 4 when not everything was.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stenograph rescan --config stenograph.toml\n  \
    stenograph rescan --record ./record --rules new-rules.toml --identity auditor.key --json")]
pub struct RescanArgs {
    #[command(flatten)]
    record: RecordArgs,
    /// A rule file beside the built-in rules; may be given several times
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// Tell what the verdicts name already, too
    #[arg(long)]
    known: bool,
    /// Scan what is sealed too, with this auditor's identity
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

/// Check every byte of the record against the signed tree
///
/// Names segment, entry and byte of any damage, and every gap. The key has to come from outside: a
/// record that brings its own proves nothing, so without --key it is at most "consistent with itself"
/// and the exit code is 1.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stenograph verify /var/lib/stenograph --key log.key.pub\n  \
    stenograph verify --config stenograph.toml --key 'stenograph/host+1a2b3c4d+AR…'")]
pub struct VerifyArgs {
    /// Directory of the record; instead of --record
    #[arg(value_name = "DIR", conflicts_with_all = ["record", "config"])]
    directory: Option<PathBuf>,
    #[command(flatten)]
    record: RecordArgs,
    /// The log's verifier key, as text or as a file that holds it
    #[arg(long, value_name = "VKEY|FILE")]
    key: Option<String>,
    /// Threads that read; one segment is read by one [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// A checkpoint of this log kept elsewhere, or a witness's state file: the record has to continue
    /// it; may be given several times
    #[arg(long, value_name = "FILE", requires = "key")]
    since: Vec<PathBuf>,
    /// A witness's verifier key, as text or as a file: its cosignatures are checked, and the longest time
    /// without one is printed; may be given several times
    #[arg(long, value_name = "VKEY|FILE", requires = "key")]
    witness: Vec<String>,
}

impl From<audit::Exit> for Exit {
    fn from(exit: audit::Exit) -> Exit {
        match exit {
            audit::Exit::Done => Exit::Done,
            audit::Exit::No => Exit::No,
            audit::Exit::Usage => Exit::Usage,
            audit::Exit::Incomplete => Exit::Incomplete,
        }
    }
}

/// `sessions`.
pub fn sessions(args: SessionsArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let (record, index) = (&args.record, &args.index);
    with_filter(record, index, args.filter, err, |directory, filter, json, indexes, err| {
        let options = SessionsOptions { directory, filter, json, indexes };
        sessions::run(&options, out, err)
    })
}

/// `search`.
pub fn search(args: SearchArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    if args.refusals {
        let (record, index) = (&args.record, &args.index);
        return with_filter(
            record,
            index,
            args.filter,
            err,
            |directory, filter, json, indexes, err| {
                let Filter { since_ns, until_ns, .. } = filter;
                let options = RefusalsOptions { directory, since_ns, until_ns, json, indexes };
                refusals::run(&options, out, err)
            },
        );
    }
    let identity = args.identity;
    let (record, index) = (&args.record, &args.index);
    with_filter(record, index, args.filter, err, |directory, filter, json, indexes, err| {
        let opener = match identity.map(|path| opener(&directory, &path, err)).transpose()? {
            None => None,
            Some(Ok(opener)) => Some(opener),
            Some(Err(_)) => return Ok(audit::Exit::Incomplete),
        };
        search::run_with(&SearchOptions { directory, filter, json, indexes }, opener, out, err)
    })
}

fn with_filter(
    record: &RecordArgs,
    index: &IndexArgs,
    filter: FilterArgs,
    err: &mut dyn Write,
    run: impl FnOnce(PathBuf, Filter, bool, Indexes, &mut dyn Write) -> io::Result<audit::Exit>,
) -> io::Result<Exit> {
    let (found, indexes) = match find_indexed(record, index, err)? {
        Ok(found) => found,
        Err(exit) => return Ok(exit),
    };
    match filter.filter() {
        Ok(filter) => Ok(run(found.directory, filter, record.json, indexes, err)?.into()),
        Err(text) => {
            writeln!(err, "stenograph: {text}")?;
            Ok(Exit::Usage)
        }
    }
}

fn find_indexed(
    record: &RecordArgs,
    index: &IndexArgs,
    err: &mut dyn Write,
) -> io::Result<Result<(Found, Indexes), Exit>> {
    let found = match find(record, err)? {
        Ok(found) => found,
        Err(exit) => return Ok(Err(exit)),
    };
    Ok(index.indexes(&found, err)?.map(|indexes| (found, indexes)))
}

/// `show`.
pub fn show(args: &ShowArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let (found, indexes) = match find_indexed(&args.record, &args.index, err)? {
        Ok(found) => found,
        Err(exit) => return Ok(exit),
    };
    let (id, json) = (args.id, args.record.json);
    let options = ShowOptions { directory: found.directory, id, json, indexes };
    match &args.identity {
        None => Ok(show::run(&options, out, err)?.into()),
        Some(path) => match opener(&options.directory, path, err)? {
            Ok(opener) => Ok(show::run_original(&options, opener, out, err)?.into()),
            Err(exit) => Ok(exit),
        },
    }
}

/// Opens sealed parts with the identities in the file `path`.
fn opener(directory: &Path, path: &Path, err: &mut dyn Write) -> io::Result<Result<Opener, Exit>> {
    match age::load_identities(path) {
        Ok(identities) => Ok(Ok(Opener::new(directory, identities))),
        Err(fault) => {
            let at = match &fault {
                // These name it themselves.
                KeyFault::File(..) | KeyFault::Mode(..) => String::new(),
                KeyFault::Form(_) | KeyFault::Name => format!(" {}", path.display()),
            };
            writeln!(err, "stenograph: --identity{at}: {fault}")?;
            Ok(Err(Exit::Incomplete))
        }
    }
}

/// `rescan`.
pub fn rescan(args: RescanArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let found = match find(&args.record, err)? {
        Ok(found) => found,
        Err(exit) => return Ok(exit),
    };
    // Best without, too: positions tell most of what is known.
    let key = found.config.as_ref().map(|config| &config.record.fingerprint_key);
    let fingerprint_key = key.and_then(|path| keys::load_fingerprint_key(path).ok());
    let directory = found.directory;
    let rules = match rules::load(&args.rules) {
        Ok(rules) => rules,
        Err(fault) => {
            for line in fault.lines() {
                writeln!(err, "{line}")?;
            }
            return Ok(Exit::from_code(fault.exit_code()));
        }
    };
    let opener = match args.identity.map(|path| opener(&directory, &path, err)).transpose()? {
        None => None,
        Some(Ok(opener)) => Some(opener),
        Some(Err(exit)) => return Ok(exit),
    };
    let (known, json) = (args.known, args.record.json);
    let options = RescanOptions { directory, rules, fingerprint_key, known, json };
    Ok(rescan::run(&options, opener, out, err)?.into())
}

/// `echoed`.
pub fn echoed(args: &EchoedArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let (found, indexes) = match find_indexed(&args.record, &args.index, err)? {
        Ok(found) => found,
        Err(exit) => return Ok(exit),
    };
    let configured = found.config.as_ref().map(|config| &config.record.fingerprint_key);
    let fingerprint_key = match args.fingerprint_key.as_ref().or(configured) {
        None => None,
        Some(path) => match keys::load_fingerprint_key(path) {
            Ok(key) => Some(Zeroizing::new(key)),
            Err(fault) => {
                writeln!(err, "stenograph: fingerprint key: {fault}")?;
                return Ok(Exit::Incomplete);
            }
        },
    };
    if io::stdin().is_terminal() {
        writeln!(err, "the secret, then return and Ctrl-D:")?;
    }
    let mut secret = Zeroizing::new(Vec::new());
    let read = io::stdin().lock().take(SECRET_BYTES_MAX + 1).read_to_end(&mut secret);
    if let Err(error) = read {
        writeln!(err, "stenograph: cannot read the secret from stdin: {error}")?;
        return Ok(Exit::Incomplete);
    }
    if secret.len() as u64 > SECRET_BYTES_MAX {
        writeln!(err, "stenograph: the secret on stdin is over {SECRET_BYTES_MAX} bytes")?;
        return Ok(Exit::Usage);
    }
    // The line end that editors and `echo` add is no part of it.
    let length = crate::app::config::one_secret(&secret).map_or(0, <[u8]>::len);
    secret.truncate(length);
    let (directory, json) = (found.directory, args.record.json);
    let opener = match args.identity.as_ref().map(|path| opener(&directory, path, err)) {
        None => None,
        Some(opener) => match opener? {
            Ok(opener) => Some(opener),
            Err(exit) => return Ok(exit),
        },
    };
    let fingerprints_only = args.fingerprints_only;
    let options =
        EchoedOptions { directory, secret, fingerprint_key, fingerprints_only, json, indexes };
    Ok(echoed::run_with(&options, opener, out, err)?.into())
}

/// `verify`.
pub fn verify(args: VerifyArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let key = match args.key.as_deref().map(keys::load_verifier_key) {
        None => None,
        Some(Ok(key)) => Some(key),
        Some(Err(fault)) => {
            writeln!(err, "stenograph: --key: {fault}")?;
            return Ok(Exit::Usage);
        }
    };
    let directory = match args.directory {
        Some(directory) => directory,
        None => match find(&args.record, err)? {
            Ok(found) => found.directory,
            Err(exit) => return Ok(exit),
        },
    };
    let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let threads = args.threads.unwrap_or_else(cores);
    let mut since = Vec::new();
    for file in &args.since {
        match Kept::read(file) {
            Ok(kept) => since.extend(kept),
            Err(fault) => {
                writeln!(err, "stenograph: --since: {fault}")?;
                return Ok(Exit::Incomplete);
            }
        }
    }
    let mut witnesses = Vec::new();
    for text in &args.witness {
        match keys::load_witness_verifier(text) {
            Ok(key) => witnesses.push(key),
            Err(fault) => {
                writeln!(err, "stenograph: --witness: {fault}")?;
                return Ok(Exit::Usage);
            }
        }
    }
    let options =
        VerifyOptions { directory, key, since, witnesses, json: args.record.json, threads };
    Ok(verify::run(&options, out, err)?.into())
}
