//! The command line: what can be typed, and which part does it.
//!
//! Answers go to stdout, everything else to stderr. Secrets are read from stdin or a file, never from
//! an argument, where every user of the host could read them.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done, found, intact |
//! | 1 | the answer is no |
//! | 2 | wrong usage or configuration |
//! | 3 | the host lacks something; the message says what to type |
//! | 4 | could not read, write, or cover everything |

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::app::config::Config;
use crate::app::denyfile::{self, RevokeFault};
use crate::app::explain::{self, Asked, Question};
use crate::app::rules::{self, RulesAsk, RulesOptions};
use crate::app::scan::{self, ScanOptions};
use crate::app::{check, demo, doctor, keygen, reading, serve, witness};
use crate::limits::Limits;
use crate::types::Direction;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, found, intact.
    Done = 0,
    /// The answer is no.
    No = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// The host lacks something.
    Host = 3,
    /// Could not read, write, or cover everything.
    Incomplete = 4,
}

impl Exit {
    /// The exit of a command that says it as a number; what is no exit code is a failure.
    pub(crate) fn from_code(code: u8) -> Exit {
        match code {
            0 => Exit::Done,
            1 => Exit::No,
            2 => Exit::Usage,
            3 => Exit::Host,
            _ => Exit::Incomplete,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

const CODES: &str = "Exit codes: 0 done, found, intact · 1 the answer is no · 2 wrong usage or \
configuration · 3 the host lacks something · 4 could not read, write, or cover everything";

/// The court reporter for MCP traffic: authenticates every caller, judges and masks every message,
/// and records it before it is let through.
#[derive(Debug, Parser)]
#[command(name = "stenograph", version, after_help = CODES, max_term_width = 100)]
#[command(propagate_version = true, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(ServeArgs),
    Witness(WitnessArgs),
    Demo(DemoArgs),
    Check(CheckArgs),
    Doctor(DoctorArgs),
    Keygen(KeygenArgs),
    Revoke(RevokeArgs),
    Explain(ExplainArgs),
    Sessions(reading::SessionsArgs),
    Show(reading::ShowArgs),
    Search(reading::SearchArgs),
    Echoed(reading::EchoedArgs),
    Rescan(reading::RescanArgs),
    Verify(reading::VerifyArgs),
    Scan(ScanArgs),
    Rules(RulesArgs),
}

/// Run the gateway in the foreground
///
/// SIGTERM and SIGINT stop it: listeners close, open exchanges may end, the record is sealed and
/// signed. SIGHUP reads grants, upstreams and rules again. The line with "event":"ready" names the
/// bound addresses; port 0 lets the kernel choose.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stenograph serve --config /etc/stenograph/stenograph.toml")]
struct ServeArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Go on behind a newest segment that is damaged; the damage is told for ever
    ///
    /// The start entry and the next segment say that it was ordered, and verify goes on to report the
    /// damage. Keep a copy of the record before.
    #[arg(long)]
    accept_damage: bool,
    /// Go on although a witness has seen a larger or another record; recorded for ever
    ///
    /// The witness will not cosign this record any more until its operator gives it a new state.
    #[arg(long)]
    accept_rollback: bool,
}

/// Be a witness: cosign checkpoints of logs that only grow
///
/// Runs on another host than the gateway, with its own key and one file of state. Speaks C2SP
/// tlog-witness over plain HTTP: POST /add-checkpoint, and GET /checkpoint/ORIGIN for the latest
/// cosigned checkpoint. The state file is what auditors give to verify --since. A log whose key has
/// changed is listed with both keys.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stenograph keygen witness --out witness.key\n  \
    stenograph witness --listen 127.0.0.1:9900 --key witness.key --state witness.state \\\n      \
    --log stenograph/gw1+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")]
struct WitnessArgs {
    /// Address to listen on; port 0 lets the kernel choose
    #[arg(long, value_name = "ADDRESS")]
    listen: std::net::SocketAddr,
    /// The witness's key, from: keygen witness
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// What it remembers; made at the first cosignature
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// Verifier key of a log, as text or as a file; may be given several times
    #[arg(long, value_name = "VKEY|FILE", required = true, num_args = 1..)]
    log: Vec<String>,
}

/// Tell the whole story on loopback, and prove it
///
/// Starts an identity provider, an MCP server that leaks a credential, and the gateway; shows an
/// engineer's masked call, a contractor before and after off-boarding, a forged token; then asks the
/// record. The record stays, for exploring.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stenograph demo\n  stenograph demo --hold")]
struct DemoArgs {
    /// Keep everything running, and print a URL and a token for a client of your own
    #[arg(long)]
    hold: bool,
}

/// Check a configuration: every problem, with its line
///
/// Reads the configuration and the files it names: rules, keys, their modes. Prints every problem
/// with line, key, what was seen and what is allowed, not only the first.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stenograph check --config /etc/stenograph/stenograph.toml\n  \
    stenograph check --config stenograph.toml --json | jq .key"
)]
struct CheckArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// One JSON object a line: file, line, key, seen, allowed
    #[arg(long)]
    json: bool,
}

/// Is this host ready: kernel, io_uring, limits, disk, clock
///
/// One line for each thing the gateway needs of the host: ok, warn or fail, what was seen, and what
/// to type. Exits with 3 when something fails.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stenograph doctor\n  \
    stenograph doctor --config /etc/stenograph/stenograph.toml")]
struct DoctorArgs {
    /// Look at the record's directory and the limits of this configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON object a line: state, name, seen, remedy
    #[arg(long)]
    json: bool,
}

/// Make a key
///
/// `log` makes the key that signs the record's checkpoints (Ed25519). The verifier key is printed
/// and written beside it as FILE.pub, in the form of C2SP signed notes: auditors need it, and
/// nothing else, to verify the record. `witness` makes the key of a witness. `fingerprint` makes the key under which found secrets are
/// fingerprinted; serve makes one too where it may write. `auditor` makes an age identity that opens
/// sealed originals: make it on the auditor's machine, and give the gateway only the recipient (age1…)
/// that is printed and written beside it as FILE.pub.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stenograph keygen log --out /etc/stenograph/log.key\n  \
    stenograph keygen log --out log.key --name example.com/gateway\n  \
    stenograph keygen auditor --out auditor.key")]
struct KeygenArgs {
    /// Which key
    #[arg(value_name = "KIND")]
    kind: KeyKind,
    /// Where it goes; an existing file is never replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Name of the key, shown in every checkpoint [default: stenograph/HOST]
    #[arg(long)]
    name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KeyKind {
    Log,
    Witness,
    Fingerprint,
    Auditor,
}

/// Put a caller out at once, whatever his token says
///
/// Adds to the deny file of the configuration. A running gateway cuts the caller's open streams and
/// refuses new calls within a second; the entry works until it is taken out of the file. Doing it
/// again changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    stenograph revoke --config stenograph.toml --subject contractor-7 --reason \"left on 20 Nov\"\n  \
    stenograph revoke --config stenograph.toml --issuer https://login.example.com --client ci-runner")]
#[command(group(ArgGroup::new("whom").required(true).multiple(true)
    .args(["subject", "client", "jti"])))]
struct RevokeArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Issuer of the tokens, as configured [default: the only one]
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Subject (`sub`) to put out; may be given several times
    #[arg(long)]
    subject: Vec<String>,
    /// Client (`client_id` or `azp`) to put out; may be given several times
    #[arg(long)]
    client: Vec<String>,
    /// One token (`jti`) to put out; may be given several times
    #[arg(long)]
    jti: Vec<String>,
    /// Why, for people who read the file
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Would this call be allowed, and why
///
/// Judges a call by the grants and the deny file of the configuration, as the gateway would, and
/// says what each grant on the upstream makes of it. Groups and claims are those that the caller's
/// token would carry. Exits with 0 when the call is allowed, 1 when it is refused.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    stenograph explain --config stenograph.toml --subject ada --group engineering --tool generate_code\n  \
    stenograph explain --config stenograph.toml --subject ada --claim team=x --upstream files \\\n      \
    --resource file:///public/readme.md")]
#[command(group(ArgGroup::new("asked").required(true)
    .args(["tool", "prompt", "resource", "method"])))]
struct ExplainArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Subject (`sub`) of the caller
    #[arg(long)]
    subject: String,
    /// Issuer of the token, as configured [default: the only one]
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Client (`client_id`) of the token
    #[arg(long)]
    client: Option<String>,
    /// A group of the caller; may be given several times
    #[arg(long)]
    group: Vec<String>,
    /// A further claim of the token; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    claim: Vec<(String, String)>,
    /// Name of the upstream [default: the only one]
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// The tool that is called
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// The prompt that is fetched
    #[arg(long, value_name = "NAME")]
    prompt: Option<String>,
    /// The resource that is read
    #[arg(long, value_name = "URI")]
    resource: Option<String>,
    /// The method that is called
    #[arg(long, value_name = "NAME")]
    method: Option<String>,
    /// One JSON object: allowed, reason, grants
    #[arg(long)]
    json: bool,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Look for secrets and personal data in what comes on stdin
///
/// The gateway's own scanner. The input is one message: JSON where it parses, else text. Prints one JSON
/// line for each finding, rule, start, end and action, with positions in bytes into the input; or,
/// with --mask, the input with everything found masked. Exits with 0 when something was found (or
/// masked), 1 when nothing was.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stenograph scan < answer.json\n  \
    stenograph scan --lines --direction request < calls.jsonl\n  \
    stenograph scan --mask --rules own-rules.toml < log.txt > masked.txt")]
struct ScanArgs {
    /// A rule file beside the built-in rules; may be given several times
    #[arg(long, value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// Which of the rules' actions apply
    #[arg(long, value_enum, default_value = "response")]
    direction: Way,
    /// Print the input with everything found masked, instead of the findings
    #[arg(long)]
    mask: bool,
    /// Every line is a message of its own
    #[arg(long)]
    lines: bool,
    /// Also what an allow of a rule file lets through, with the action allow
    #[arg(long, conflicts_with = "mask")]
    allowed: bool,
    /// Threads for --lines; the answer is the same for any number [default: one for each core]
    #[arg(long, value_name = "N", requires = "lines")]
    threads: Option<std::num::NonZeroUsize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    Request,
    Response,
}

/// What the scanner looks for
///
/// `list` names every rule, `check` compiles them and runs the tests that they carry, `explain ID` tells
/// all about one.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  stenograph rules list\n  \
    stenograph rules check --rules own-rules.toml\n  stenograph rules explain aws-access-key-id")]
struct RulesArgs {
    #[command(subcommand)]
    ask: Ask,
    /// A rule file beside the built-in rules; may be given several times
    #[arg(long, value_name = "FILE", global = true)]
    rules: Vec<PathBuf>,
    /// JSON Lines for scripts
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Ask {
    /// One line for each rule
    List,
    /// Compile the rules and run their own tests
    Check,
    /// All about one rule
    Explain {
        /// Id of the rule
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// The program: reads the arguments, runs the command, answers with its exit code.
pub fn main() -> ExitCode {
    // Prints usage errors and exits with 2; help and version with 0.
    let cli = Cli::parse();
    let mut out = io::stdout().lock();
    let mut err = io::stderr();
    let done = run(cli.command, &mut out, &mut err).and_then(|exit| out.flush().map(|()| exit));
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            // Why: a reader that has seen enough (`| head`) needs no message, but not all was written.
            if error.kind() != io::ErrorKind::BrokenPipe {
                let _ = writeln!(err, "stenograph: cannot write the answer: {error}");
            }
            Exit::Incomplete.into()
        }
    }
}

fn run(command: Command, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    match command {
        Command::Serve(args) => {
            let host = serve::Host {
                accept_damage: args.accept_damage,
                accept_rollback: args.accept_rollback,
                ..serve::Host::default()
            };
            Ok(serve::run(&args.config, host))
        }
        Command::Witness(args) => Ok(witness::server::run(&witness::server::Options {
            listen: args.listen,
            key: args.key,
            state: args.state,
            logs: args.log,
        })),
        Command::Demo(args) => Ok(match demo::story::run(args.hold, out, err)? {
            true => Exit::Done,
            false => Exit::No,
        }),
        Command::Check(args) => check::run(&args.config, args.json, out),
        Command::Doctor(args) => doctor_command(&args, out, err),
        Command::Revoke(args) => revoke_command(&args, out, err),
        Command::Explain(args) => explain_command(args, out, err),
        Command::Sessions(args) => reading::sessions(args, out, err),
        Command::Show(args) => reading::show(&args, out, err),
        Command::Search(args) => reading::search(args, out, err),
        Command::Echoed(args) => reading::echoed(&args, out, err),
        Command::Rescan(args) => reading::rescan(args, out, err),
        Command::Verify(args) => reading::verify(args, out, err),
        Command::Scan(args) => Ok(scan_command(args, out)),
        Command::Rules(args) => Ok(rules_command(args, out)),
        Command::Keygen(args) => match args.kind {
            KeyKind::Log => keygen::log(&args.out, args.name.as_deref(), out, err),
            KeyKind::Witness => keygen::witness(&args.out, args.name.as_deref(), out, err),
            KeyKind::Fingerprint => keygen::fingerprint(&args.out, err),
            KeyKind::Auditor => keygen::auditor(&args.out, out, err),
        },
    }
}

/// The configuration, or the exit code after its problems were written.
fn load(path: &std::path::Path, err: &mut dyn Write) -> io::Result<Result<Config, Exit>> {
    match Config::load(path) {
        Ok(config) => Ok(Ok(config)),
        Err(problems) => {
            check::write_problems(path, &problems, false, err)?;
            Ok(Err(Exit::Usage))
        }
    }
}

fn doctor_command(args: &DoctorArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let wanted = match &args.config {
        None => doctor::Wanted { record: PathBuf::from("record"), limits: Limits::default() },
        Some(path) => match load(path, err)? {
            Ok(config) => doctor::Wanted { record: config.record.directory, limits: config.limits },
            Err(exit) => return Ok(exit),
        },
    };
    let findings = doctor::look(&wanted);
    for finding in &findings {
        match args.json {
            true => writeln!(out, "{}", finding.to_json())?,
            false => writeln!(out, "{}", finding.text())?,
        }
    }
    let failed = findings.iter().any(|finding| finding.state == doctor::State::Fail);
    Ok(if failed { Exit::Host } else { Exit::Done })
}

fn scan_command(args: ScanArgs, out: &mut dyn Write) -> Exit {
    let direction = match args.direction {
        Way::Request => Direction::Request,
        Way::Response => Direction::Response,
    };
    let options = ScanOptions {
        rules: args.rules,
        direction,
        mask: args.mask,
        lines: args.lines,
        allowed: args.allowed,
        threads: args.threads,
    };
    Exit::from_code(scan::run(&options, &mut io::stdin().lock(), out))
}

fn rules_command(args: RulesArgs, out: &mut dyn Write) -> Exit {
    let ask = match args.ask {
        Ask::List => RulesAsk::List,
        Ask::Check => RulesAsk::Check,
        Ask::Explain { id } => RulesAsk::Explain(id),
    };
    Exit::from_code(rules::run(&RulesOptions { rules: args.rules, ask, json: args.json }, out))
}

fn revoke_command(args: &RevokeArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let config = match load(&args.config, err)? {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let Some(path) = &config.deny_file else {
        writeln!(err, "stenograph: the configuration has no deny file: add [deny] file = \"…\"")?;
        return Ok(Exit::Usage);
    };
    let issuers: Vec<&str> = config.issuers.iter().map(|issuer| issuer.url.as_str()).collect();
    let issuer = match (&args.issuer, &issuers[..]) {
        (Some(issuer), known) if known.contains(&issuer.as_str()) => issuer.as_str(),
        (None, [only]) => only,
        _ => {
            let known = issuers.join(", ");
            writeln!(err, "stenograph: --issuer has to be one that is configured: {known}")?;
            return Ok(Exit::Usage);
        }
    };
    fn texts(list: &[String]) -> Vec<&str> {
        list.iter().map(String::as_str).collect()
    }
    let (subjects, clients, tokens) = (texts(&args.subject), texts(&args.client), texts(&args.jti));
    match denyfile::revoke(path, issuer, &subjects, &clients, &tokens, args.reason.as_deref()) {
        Ok(revoked) => {
            let (added, already) = (revoked.added, revoked.already);
            writeln!(out, "{}: {added} added, {already} there already", path.display())?;
            Ok(Exit::Done)
        }
        Err(fault @ RevokeFault::Name) => {
            writeln!(err, "stenograph: {fault}")?;
            Ok(Exit::Usage)
        }
        Err(fault) => {
            writeln!(err, "stenograph: {}: {fault}", path.display())?;
            Ok(Exit::Incomplete)
        }
    }
}

fn explain_command(
    args: ExplainArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let config = match load(&args.config, err)? {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    let asked = match (args.tool, args.prompt, args.resource, args.method) {
        (Some(tool), ..) => Asked::Tool(tool),
        (_, Some(prompt), ..) => Asked::Prompt(prompt),
        (_, _, Some(uri), _) => Asked::Resource(uri),
        (_, _, _, method) => Asked::Method(method.unwrap_or_default()),
    };
    let question = Question {
        issuer: args.issuer,
        subject: args.subject,
        client: args.client,
        groups: args.group,
        claims: args.claim,
        upstream: args.upstream,
        asked,
    };
    explain::run(&config, &question, args.json, out, err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    /// Every command says what it does, every argument says what it is for.
    #[test]
    fn the_help_is_complete() {
        use clap::CommandFactory as _;
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} has no text");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {} has no text", argument.get_id());
            }
        }
    }
}
