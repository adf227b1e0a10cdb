//! The configuration: one TOML file, read whole, with every problem reported at once.
//!
//! [`Config::load`] is what `serve`, `check` and a reload use; it also looks at the files that are
//! named (there, readable, private where they hold keys). [`Config::read`] looks at the text alone.
//! Unknown keys, wrong types and values out of bounds are problems, never ignored. Relative paths are
//! relative to the directory of the configuration file.
//!
//! It does not open sockets, resolve names, or read rules and keys into memory: the callers do.
//!
//! | file | holds |
//! |---|---|
//! | `problem` | what is wrong, where; gathers all of it |
//! | `table` | typed access to a spanned TOML table |
//! | `value` | durations, sizes, URLs, paths, names |
//! | `sections` | one function for each section of the file |
//! | `tls` | the tables `tls` of listeners and upstreams |
//! | `files` | the files that are named |

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::app::witness::asker::Witness;
use crate::auth::token::Issuer;
use crate::guard::glob::Glob;
use crate::guard::policy;
use crate::guard::{Mask, Opaque, Structured};
use crate::limits::Limits;
use crate::record::Keep;
use crate::record::age::Recipient;
use crate::wire::coding::Coding;
use crate::wire::proxy::Network;

mod files;
mod problem;
mod sections;
mod table;
mod tls;
mod value;

pub use files::{PrivateFault, SECRET_FILE_BYTES_MAX, one_secret, read_private};
pub use problem::Problem;
pub use value::{HttpUrl, bound_text, duration_ms, size_bytes};

/// A configuration without problems.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// `[workers]`.
    pub workers: Workers,
    /// `[[listen]]`, at least one.
    pub listens: Vec<Listen>,
    /// `[[issuer]]`, at least one.
    pub issuers: Vec<Issuer>,
    /// `[[upstream]]`, at least one, in the order of the file; other parts name them by index.
    pub upstreams: Vec<Upstream>,
    /// `[[grant]]`; nothing is allowed that none of them allows.
    pub grants: Vec<Grant>,
    /// `[deny] file`. May not exist yet: then nobody is denied.
    pub deny_file: Option<PathBuf>,
    /// `[guard]`.
    pub guard: Guard,
    /// `[record]`.
    pub record: Record,
    /// The bounds, lowered by `[limits]`.
    pub limits: Limits,
    /// `[admin] address`; `None` is no admin endpoint.
    pub admin: Option<SocketAddr>,
    /// What is allowed but worth a word at start.
    pub warnings: Vec<String>,
    public_text: String,
}

/// Which cores get a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cores {
    /// Every core this process may run on.
    Auto,
    /// These, by the kernel's number; distinct, at least one.
    List(Vec<u16>),
}

/// `[workers]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    /// `cores`.
    pub cores: Cores,
    /// Submission queue entries of each worker's ring; a power of two.
    pub ring_depth: u32,
}

/// `[[listen]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Address and port; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// Proxies whose header (PROXY protocol) begins every connection; nobody else is let in then.
    pub proxies: Option<Vec<Network>>,
    /// Browser origins let in, byte for byte; others get 403.
    pub origins: Vec<String>,
    /// Names beside those of the resources that a request may be sent to; others get 421.
    pub hosts: Vec<String>,
    /// `tls`; `None` is plain HTTP.
    pub tls: Option<ListenTls>,
}

/// `certificate` and `key`: files in PEM form, the key in private mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFiles {
    /// The certificate, then its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `tls` of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    /// At least one; the first is for callers that name no server one of them is for.
    pub pairs: Vec<PairFiles>,
    /// They were written as a list.
    pub is_list: bool,
    /// Authorities of callers' certificates; `None`: callers are not asked for one.
    pub client_ca: Option<PathBuf>,
    /// Callers without a certificate are refused.
    pub client_certificate_required: bool,
}

/// `tls` of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Authorities of its certificate; `None`: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// What the gateway shows it.
    pub pair: Option<PairFiles>,
    /// Who it has to be; `None`: the host of its URL.
    pub server_name: Option<String>,
}

/// `[[upstream]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Name in grants, metrics and the record; distinct.
    pub name: String,
    /// Path that callers use; distinct; the longest prefix wins.
    pub path: String,
    /// Where its calls go.
    pub url: HttpUrl,
    /// `tls`, for an https URL.
    pub tls: Option<UpstreamTls>,
    /// The public URL: audience that tokens need; distinct.
    pub resource: String,
    /// What the gateway itself presents to the upstream.
    pub credential: Option<Credential>,
    /// Codings in which its answers may come; decoded within bounds. None unless named.
    pub decode: Vec<Coding>,
    /// Cap on connections, of all workers together; event streams are not counted.
    pub connections: u64,
}

/// `credential = { header, file }` of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Field name, lower case.
    pub header: String,
    /// File with the field's value, in private mode; read with [`read_private`] and [`one_secret`].
    pub file: PathBuf,
}

/// How far an entry has to be before what it describes is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// In the writer's hands.
    Queued,
    /// In the operating system.
    Written,
    /// On the disk.
    Synced,
}

impl Release {
    /// The words of the configuration, weakest first.
    pub const WORDS: &'static [(&'static str, Release)] =
        &[("queued", Release::Queued), ("written", Release::Written), ("synced", Release::Synced)];
}

/// How a found secret is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskStyle {
    /// In place, same length.
    Fill,
    /// By a short label.
    Label,
}

impl MaskStyle {
    /// The words of the configuration.
    pub const WORDS: &'static [(&'static str, MaskStyle)] =
        &[("fill", MaskStyle::Fill), ("label", MaskStyle::Label)];
}

/// `[[grant]]`. It applies to a caller who has one of the groups or is one of the subjects, where any
/// are given, and who has all of the claims; at least one of the three is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Line of the configuration on which it begins.
    pub line: u32,
    /// Index into [`Config::upstreams`].
    pub upstream: u16,
    /// The issuer whose callers are meant, byte for byte; always given when two are configured.
    pub issuer: Option<String>,
    /// Any of these groups.
    pub groups: Vec<String>,
    /// Any of these subjects.
    pub subjects: Vec<String>,
    /// All of these claims, each with any of the values; by name.
    pub claims: Vec<(String, Vec<String>)>,
    /// Globs of tool names.
    pub tools: Vec<String>,
    /// Globs of prompt names.
    pub prompts: Vec<String>,
    /// Globs of resource URIs.
    pub resources: Vec<String>,
    /// Globs of further methods.
    pub methods: Vec<String>,
    /// Instead of `[guard] mask`.
    pub mask: Option<MaskStyle>,
    /// Instead of `[record] release`.
    pub release: Option<Release>,
    /// How the bodies of its exchanges are kept.
    pub record: Keep,
    /// What becomes of content that no rule can look into.
    pub opaque: Opaque,
}

impl Grant {
    /// The grant as the guard judges by it. Release levels are not the guard's: they stay here.
    pub fn to_policy(&self) -> policy::Grant {
        let globs = |texts: &[String]| texts.iter().map(|text| Glob::new(text)).collect();
        policy::Grant {
            upstream: self.upstream,
            groups: self.groups.clone(),
            subjects: self.subjects.clone(),
            claims: self.claims.clone(),
            issuer: self.issuer.clone(),
            tools: globs(&self.tools),
            prompts: globs(&self.prompts),
            resources: globs(&self.resources),
            methods: globs(&self.methods),
            mask: self.mask.map(|style| match style {
                MaskStyle::Fill => Mask::Fill,
                MaskStyle::Label => Mask::Label,
            }),
            release: None,
            opaque: self.opaque,
        }
    }
}

/// `[guard]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The built-in rule pack is used.
    pub builtin: bool,
    /// Further rule files, in the order of the configuration.
    pub rule_files: Vec<PathBuf>,
    /// `mask`.
    pub mask: MaskStyle,
    /// `structured`.
    pub structured: Structured,
    /// `[[guard.secret]]`.
    pub secrets: Vec<KnownSecret>,
}

/// `[[guard.secret]]`: a value found exactly, in both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSecret {
    /// Id of its rule; `known-secret-<n>` when none was given; distinct.
    pub id: String,
    /// File that holds the value, in private mode.
    pub file: PathBuf,
}

/// `[record]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Directory of the segments.
    pub directory: PathBuf,
    /// `release`.
    pub release: Release,
    /// Signing key of the log.
    pub signing_key: PathBuf,
    /// Key of the fingerprints. `serve` makes it when missing.
    pub fingerprint_key: PathBuf,
    /// Auditors to whom originals are sealed; none: originals are lost.
    pub seal_to: Vec<Recipient>,
    /// `seal = "payloads"`: whole bodies are sealed and not stored otherwise.
    pub seal_payloads: bool,
    /// Tokens are sealed at their first use.
    pub seal_tokens: bool,
    /// The signing key before this one, of the same name: the next start records the change.
    pub previous_signing_key: Option<PathBuf>,
    /// `witnesses`: who is asked to cosign checkpoints.
    pub witnesses: Vec<Witness>,
    /// `max_unwitnessed`, in ms.
    pub unwitnessed_ms_max: u64,
    /// `on_unwitnessed` is `refuse`: then new calls are refused, else it is told only.
    pub unwitnessed_refuses: bool,
}

/// Whether the files that a configuration names are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Files {
    /// The text alone.
    Skip,
    /// Are they there and private, and are keys keys.
    Check,
    /// The rule files are compiled too.
    Compile,
}

/// Largest configuration file. Bound: it is read whole.
const CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;

impl Config {
    /// Reads and checks the file and the files it names. The error holds every problem, in the order
    /// of the file. Rule files are not compiled: that takes up to a second, and who needs the rules
    /// compiles them.
    pub fn load(path: &Path) -> Result<Config, Vec<Problem>> {
        sections::config(&read_whole(path)?, path, Files::Check)
    }

    /// Like [`Config::load`], and compiles the rule files for their faults.
    pub fn check(path: &Path) -> Result<Config, Vec<Problem>> {
        sections::config(&read_whole(path)?, path, Files::Compile)
    }

    /// Reads the text alone; `path` is where it is said to come from. Touches no file.
    pub fn read(text: &str, path: &Path) -> Result<Config, Vec<Problem>> {
        sections::config(text, path, Files::Skip)
    }

    /// The configuration as it goes into the record: the same keys and values without comments. It
    /// names files and holds nothing of their content.
    pub fn public_text(&self) -> &str {
        &self.public_text
    }

    /// The upstream that serves `path`: the one with the longest path that is `path` itself or a
    /// prefix of it that ends before a `/`.
    pub fn upstream_of(&self, path: &str) -> Option<u16> {
        let covers = |upstream: &Upstream| {
            let prefix = upstream.path.trim_end_matches('/');
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let candidates = self.upstreams.iter().enumerate().filter(|(_, one)| covers(one));
        candidates.max_by_key(|(_, one)| one.path.len()).map(|(index, _)| index as u16)
    }
}

/// Reads the file's text, bounded.
pub(super) fn read_whole(path: &Path) -> Result<String, Vec<Problem>> {
    let whole_file = |seen: String, allowed: &str| {
        let key = "file".to_owned();
        vec![Problem { line: None, key, seen, allowed: allowed.to_owned() }]
    };
    let about = std::fs::metadata(path)
        .map_err(|error| whole_file(format!("cannot be read ({error})"), "a readable file"))?;
    if about.len() > CONFIG_BYTES_MAX {
        let allowed = format!("at most {CONFIG_BYTES_MAX} bytes");
        return Err(whole_file(format!("is {} bytes", about.len()), &allowed));
    }
    std::fs::read_to_string(path)
        .map_err(|error| whole_file(format!("cannot be read ({error})"), "UTF-8 text"))
}
