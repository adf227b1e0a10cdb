//! The gateway's side: asks witnesses at the start whether they know a larger or another tree, and then
//! to cosign what is published.
//!
//! | the witness says | at the start | later |
//! |---|---|---|
//! | 200 | it agrees up to here | the note goes into the record |
//! | 409 with a smaller size | asked again with a proof from there | likewise |
//! | 409 with a larger size | refused: the record was rolled back | failure `rolled-back`, logged |
//! | 409 with our size, 422 | refused: the record was forked | failure `forked`, logged |
//! | anything else, nothing | logged; goes on | failure, tried again |
//!
//! Proofs come from ranges: the tree that the witness has and the leaves since. Where its size is none
//! that is held, both are read from the record's files.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

use super::protocol::{Request, SIZE_MEDIA, size};
use super::watch::Watch;
use crate::app::log;
use crate::record::cosign::WitnessVerifier;
use crate::record::disk::{Directory, Files};
use crate::record::keys::LogKey;
use crate::record::leaves::ranges;
use crate::record::mailbox::{Cosigned, Mailbox, Signed, Taken};
use crate::record::note::{Checkpoint, SignatureLine};
use crate::record::settings::{BeforeWritten, StartFault};
use crate::record::tree::{Range, Tree, proof};
use crate::record::writer::system_now;
use crate::record::{Entry, Kind, PartKind};

/// Longest time for one request.
const ASK_MS_MAX: u64 = 5_000;
/// Pause before a request that failed is made again with what is newest then.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Longest time for the last checkpoint, when the gateway stops.
const LAST_MS_MAX: u64 = 2_000;
/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;
/// Pause between two lines about the same witness.
const NOTICE_PAUSE: Duration = Duration::from_secs(30);
/// Least time between two readings of the record for one witness.
const REREAD_PAUSE: Duration = Duration::from_secs(60);

/// A witness to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Prefix of its addresses, without a slash at the end.
    pub url: String,
    /// Its key.
    pub key: WitnessVerifier,
}

/// What a witness answered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    /// Its cosignature line, verified, with the line feed.
    Cosigned(String),
    /// It is at this size.
    Size(u64),
    /// The proof does not hold for it.
    Fork,
    /// Anything else: the reason for metrics, and in words.
    Failed(&'static str, String),
}

fn agent(ms_max: u64) -> ureq::Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build();
    ureq::config::Config::builder()
        .tls_config(tls)
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .max_idle_connections(0)
        .user_agent(concat!("stenograph/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(Duration::from_millis(ms_max)))
        .build()
        .new_agent()
}

impl Witness {
    fn ask(&self, old_size: u64, proof: Vec<[u8; 32]>, note: &str, ms_max: u64) -> Said {
        let body = Request { old_size, proof, note }.text();
        let sent = agent(ms_max).post(format!("{}/add-checkpoint", self.url)).send(&body);
        let mut response = match sent {
            Ok(response) => response,
            Err(ureq::Error::Timeout(_)) => {
                return Said::Failed("timeout", format!("no answer within {ms_max} ms"));
            }
            Err(error) => return Said::Failed("unreachable", error.to_string()),
        };
        let status = response.status().as_u16();
        let media = response.headers().get("content-type").map(|media| media == SIZE_MEDIA);
        let text = match response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string()
        {
            Ok(text) => text,
            Err(error) => return Said::Failed("answer", error.to_string()),
        };
        match status {
            200 => self.line(&text, note),
            409 => match (media, text.strip_suffix('\n').and_then(size)) {
                (Some(true), Some(size)) => Said::Size(size),
                _ => Said::Failed("answer", "409 without a size".to_owned()),
            },
            422 => Said::Fork,
            403 => Said::Failed("signature", "it does not know the log's key (403)".to_owned()),
            404 => Said::Failed("unknown-log", "it does not witness this log (404)".to_owned()),
            status => Said::Failed("status", format!("it answers with {status}")),
        }
    }

    /// The witness's own line among those it sent.
    fn line(&self, text: &str, note: &str) -> Said {
        let signed = note.split_once("\n\n").map_or("", |(text, _)| &note[..text.len() + 1]);
        let own = text.split_inclusive('\n').find(|line| {
            let line = line.strip_suffix('\n').and_then(SignatureLine::parse);
            line.is_some_and(|line| self.key.verify(&line, signed).is_some())
        });
        match own {
            Some(line) => Said::Cosigned(line.to_owned()),
            None => Said::Failed("cosignature", "its cosignature does not fit its key".to_owned()),
        }
    }

    /// The note that this program's witness gives out; others need not.
    fn latest(&self, origin: &str) -> Option<String> {
        let origin: String = origin
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                    char::from(byte).to_string()
                }
                byte => format!("%{byte:02X}"),
            })
            .collect();
        let got = agent(ASK_MS_MAX).get(format!("{}/checkpoint/{origin}", self.url)).call();
        let mut response = got.ok().filter(|response| response.status() == 200)?;
        response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().ok()
    }
}

/// How a witness stands to the record at the start.
enum Stand {
    Agrees,
    Ahead(u64),
    Forked(u64),
    Unknown(String),
}

fn stand(witness: &Witness, files: &(dyn Files + Sync), tree: &Tree, note: &str) -> Stand {
    let mut old = 0;
    // Bound: the second answer about the same tree is the last one.
    for _ in 0..3 {
        let size = tree.size();
        let proof = match old {
            0 => Ok(Vec::new()),
            old if old == size => Ok(Vec::new()),
            old => proof_from(files, old, size),
        };
        let proof = match proof {
            Ok(proof) => proof,
            Err(error) => return Stand::Unknown(error.to_string()),
        };
        match witness.ask(old, proof, note, ASK_MS_MAX) {
            Said::Cosigned(_) => return Stand::Agrees,
            Said::Size(seen) if seen > size => return Stand::Ahead(seen),
            Said::Size(seen) if seen == old => return Stand::Forked(seen),
            Said::Size(seen) => old = seen,
            Said::Fork => return Stand::Forked(old),
            Said::Failed(_, what) => return Stand::Unknown(what),
        }
    }
    Stand::Unknown("its size changes while it is asked".to_owned())
}

fn proof_from(files: &dyn Files, old: u64, new: u64) -> io::Result<Vec<[u8; 32]>> {
    let (before, after) = ranges(files, old, new)?;
    proof::consistency(&before, &after).ok_or_else(|| io::Error::other("no proof can be made"))
}

/// Asks all witnesses before the record is written to. Gives the entries to put behind the start entry
/// and, for each witness, the size at which it agreed.
pub fn ask_at_start(
    witnesses: &[Witness],
    key: &LogKey,
    accept_rollback: bool,
    directory: &Directory,
    tree: &Tree,
    checkpoint: &Checkpoint,
) -> (BeforeWritten, Vec<Option<u64>>) {
    let note = checkpoint.sign(key);
    let stands: Vec<Stand> = std::thread::scope(|scope| {
        let asked: Vec<_> = witnesses
            .iter()
            .map(|witness| scope.spawn(|| stand(witness, directory, tree, &note)))
            .collect();
        let unknown = |_| Stand::Unknown("the thread that asked panicked".to_owned());
        asked.into_iter().map(|thread| thread.join().unwrap_or_else(unknown)).collect()
    });
    let mut entries = Vec::new();
    let mut reached = Vec::new();
    for (witness, stand) in witnesses.iter().zip(stands) {
        let (name, ours) = (witness.key.name(), tree.size());
        let (what, theirs) = match stand {
            Stand::Agrees => {
                reached.push(Some(ours));
                continue;
            }
            Stand::Unknown(what) => {
                log::error("witness", format!("{name} could not be asked: {what}")).write();
                reached.push(None);
                continue;
            }
            Stand::Ahead(theirs) => ("rolled back", theirs),
            Stand::Forked(theirs) => ("another history", theirs),
        };
        reached.push(None);
        if !accept_rollback {
            let text = format!(
                "the record is not what the witness {name} has seen ({what}): the record has \
                 {ours} entries, the witness cosigned {theirs}; bring back the newest copy of the \
                 record and run verify --since with the witness's state, or start once with \
                 --accept-rollback, which is recorded"
            );
            return (Err(StartFault::Refused(text)), reached);
        }
        let detail = json!({
            "event": "rollback-accepted",
            "witness": name,
            "what": what,
            "ours": { "size": ours, "checkpoint": note },
            "theirs": { "size": theirs, "checkpoint": witness.latest(&checkpoint.origin) },
        });
        let text = format!("{name} has seen {theirs} entries, the record has {ours}: accepted");
        log::error("witness", text).write();
        entries.push(
            Entry::new(Kind::Witness, system_now()).part(PartKind::Detail, detail.to_string()),
        );
    }
    (Ok(entries), reached)
}

/// What the thread of one witness needs.
pub struct Asker {
    /// Whom it asks.
    pub witness: Witness,
    /// Its place among the witnesses.
    pub index: usize,
    /// Where checkpoints come from.
    pub mailbox: Arc<Mailbox>,
    /// Where cosigned notes go.
    pub cosigned: Cosigned,
    /// The record, for proofs from sizes that nobody holds.
    pub directory: Directory,
    /// The tree that the record was opened with.
    pub tree: Tree,
    /// The size at which the witness agreed at the start.
    pub known: Option<u64>,
    /// What is told.
    pub watch: Arc<Watch>,
}

impl Asker {
    /// Asks until the mailbox is closed.
    pub fn run(self) {
        let mut base = Range::of(&self.tree);
        let mut grown = Range::new(base.end());
        let mut known = self.known.unwrap_or(base.end());
        let mut latest: Option<Arc<Signed>> = None;
        let mut told: Option<Instant> = None;
        let mut reread: Option<Instant> = None;
        loop {
            let mut last = false;
            match self.mailbox.take(RETRY_PAUSE) {
                Taken::Signed(signed, range) => {
                    if !grown.join(&range) {
                        // The ranges do not fit: read from the files.
                        base = Range::new(0);
                        grown = Range::new(range.end());
                    }
                    latest = Some(signed);
                }
                Taken::Nothing => {}
                Taken::Closed => last = true,
            }
            let Some(signed) = latest.clone() else {
                if last {
                    return;
                }
                continue;
            };
            let ms_max = if last { LAST_MS_MAX } else { ASK_MS_MAX };
            match self.cosign(&signed, &mut base, &mut grown, &mut known, &mut reread, ms_max) {
                Ok(()) => {
                    latest = None;
                    if told.take().is_some() {
                        let name = self.witness.key.name();
                        log::info("witness", format!("{name} cosigns again")).write();
                    }
                }
                Err((reason, what)) => {
                    self.watch.failed(self.index, reason);
                    if told.is_none_or(|at| at.elapsed() > NOTICE_PAUSE) {
                        told = Some(Instant::now());
                        let name = self.witness.key.name();
                        log::error("witness", format!("{name} does not cosign: {what}"))
                            .field("reason", reason)
                            .write();
                    }
                }
            }
            if last {
                return;
            }
        }
    }

    fn cosign(
        &self,
        signed: &Signed,
        base: &mut Range,
        grown: &mut Range,
        known: &mut u64,
        reread: &mut Option<Instant>,
        ms_max: u64,
    ) -> Result<(), (&'static str, String)> {
        // Bound: one answer may name the size to ask from, the next one decides.
        for _ in 0..2 {
            // A proof from the empty tree is empty (RFC 9162 §2.1.4.1): nothing has to be read for it.
            let held =
                base.end() == *known && grown.begin() == *known && grown.end() == signed.size;
            if !held && *known > 0 {
                // Bound: a witness that names another size each time makes the gateway read its record
                // once in this time, not at each answer.
                if reread.is_some_and(|at| at.elapsed() < REREAD_PAUSE) {
                    let what = format!("it is at {known}, a size that nothing is held for");
                    return Err(("proof", what));
                }
                *reread = Some(Instant::now());
                (*base, *grown) = ranges(&self.directory, *known, signed.size)
                    .map_err(|error| ("proof", error.to_string()))?;
            }
            let proof = match *known == signed.size || *known == 0 {
                true => Vec::new(),
                false => proof::consistency(base, grown)
                    .ok_or_else(|| ("proof", "no proof can be made".to_owned()))?,
            };
            match self.witness.ask(*known, proof, &signed.note, ms_max) {
                Said::Cosigned(line) => {
                    *known = signed.size;
                    // False from the empty tree, for which nothing was read: then the next proof is.
                    base.join(grown);
                    *grown = Range::new(base.end());
                    self.cosigned.store(format!("{}{line}", signed.note));
                    let age = system_now().mono_ns.saturating_sub(signed.now.mono_ns);
                    self.watch.cosigned(self.index, signed.size, Duration::from_nanos(age));
                    return Ok(());
                }
                Said::Size(seen) if seen > signed.size => {
                    let what = format!("it has seen {seen} entries, the record {}", signed.size);
                    return Err(("rolled-back", what));
                }
                Said::Size(seen) if seen == *known => {
                    return Err(("forked", format!("it has seen another tree of {seen} entries")));
                }
                Said::Size(seen) => *known = seen,
                Said::Fork => {
                    let what = format!("the record does not continue its {known} entries");
                    return Err(("forked", what));
                }
                Said::Failed(reason, what) => return Err((reason, what)),
            }
        }
        Err(("answer", "its size changes while it is asked".to_owned()))
    }
}
