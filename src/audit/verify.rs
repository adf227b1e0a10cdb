//! `verify`: every byte of the record against the signed tree.
//!
//! Trust comes from the key that is given from outside; without one the record can only be consistent
//! with itself, and the command does not end with 0.

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::bar::{Watched, total_bytes};
use super::since::{ChainPoint, Kept, Verdict, chain_point};
use super::text::{escape, json_line};
use super::weakened::{Weakened, Weakening};
use super::withheld::{Withheld, Withholding};
use super::witnessed::Witnessed;
use super::{Exit, no_record};
use crate::record::cosign::WitnessVerifier;
use crate::record::disk::Directory;
use crate::record::entry::EntryView;
use crate::record::key_files::{KeyFiles, KeyReport};
use crate::record::keys::VerifierKey;
use crate::record::note::{Checkpoint, Note, time_text};
use crate::record::reader::{Checks, Gap, Reading, read_parallel};
use crate::record::scan::{Gather, Gatherer, Place, Sink};

/// What nobody can see from the files alone.
const NOTE: &str = "removal of the newest segments, or a roll-back of the whole directory, can be \
    found only against a checkpoint kept elsewhere";

/// What to verify, and how to say it.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Directory of the record.
    pub directory: PathBuf,
    /// The log's verifier key, from outside.
    pub key: Option<VerifierKey>,
    /// Checkpoints kept elsewhere, which the record has to continue.
    pub since: Vec<Kept>,
    /// Witnesses whose cosignatures are checked and counted.
    pub witnesses: Vec<WitnessVerifier>,
    /// One JSON object instead of text.
    pub json: bool,
    /// Threads that read segments.
    pub threads: NonZeroUsize,
}

/// What the entries say of more than themselves, in any order of the segments.
#[derive(Default)]
struct Gathered {
    weakened: Weakened,
    keys: KeyFiles,
    withheld: Withholding,
}

impl Gather for Gathered {
    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        self.weakened.add(entry);
        self.keys.add(place, entry);
        self.withheld.add(entry);
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

struct Sees {
    gathered: Gathered,
    witnessed: Witnessed,
    /// What the checkpoints that are looked for say of the chain: true when it is so.
    chains: BTreeMap<ChainPoint, bool>,
}

/// What was asked about others who saw the record.
struct Outside {
    witnessed: Witnessed,
    since: Vec<(Kept, Verdict)>,
}

impl Outside {
    fn look(
        witnessed: Witnessed,
        kept: &[Kept],
        reading: &Reading,
        chains: &BTreeMap<ChainPoint, bool>,
    ) -> Outside {
        // Why only of this log: a witness's state speaks of all logs that it watches.
        let own = |kept: &&Kept| reading.origin.as_deref().is_none_or(|own| own == kept.origin());
        let told = |kept: &Kept| (kept.clone(), kept.verdict(reading, chains));
        let mut since: Vec<(Kept, Verdict)> = kept.iter().filter(own).map(told).collect();
        if since.is_empty()
            && let Some(kept) = kept.first()
        {
            let what = format!("no checkpoint of this log in it, but of {:?}", kept.origin());
            since.push((kept.clone(), Verdict::No(what)));
        }
        Outside { witnessed, since }
    }

    fn holds(&self) -> bool {
        self.since.iter().all(|(_, verdict)| *verdict == Verdict::Holds)
            && self.witnessed.all_cosigned()
    }
}

impl Sink for Sees {
    fn gatherer(&self) -> Option<Gatherer> {
        // Why none then: the time of each entry says how long it went without a witness.
        (!self.witnessed.asked()).then_some(|| Box::<Gathered>::default())
    }

    fn gathered(&mut self, segment: Box<dyn Any + Send>) {
        let Ok(later) = segment.downcast::<Gathered>() else { return };
        let Gathered { weakened, keys, withheld } = *later;
        self.gathered.weakened.join(weakened);
        self.gathered.keys.join(keys);
        self.gathered.withheld.join(withheld);
    }

    fn entry(&mut self, place: &Place, entry: &EntryView<'_>) {
        self.gathered.entry(place, entry);
        self.witnessed.entry(entry);
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        if let Some(seen) = self.chains.get_mut(&chain_point(checkpoint)) {
            *seen = true;
        }
        self.witnessed.checkpoint(checkpoint);
    }

    fn cosignatures(&mut self, at: (u32, u64), checkpoint: &Checkpoint, note: &Note<'_>) {
        self.witnessed.cosignatures(at, checkpoint, note);
    }
}

/// Verifies and says so: 0 intact, 1 anything else that could be read, 4 not all could be read.
pub fn run(options: &VerifyOptions, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let files = Directory::new(&options.directory);
    let mut sees = Sees {
        gathered: Gathered::default(),
        witnessed: Witnessed::new(&options.witnesses),
        chains: options.since.iter().filter_map(Kept::chain).map(|point| (point, false)).collect(),
    };
    let mut watched = Watched::new(total_bytes(&files), &mut sees);
    let checks = Checks { key: options.key.as_ref(), commitments: true };
    let mut sizes: Vec<u64> = options.since.iter().map(Kept::size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let reading = read_parallel(&files, checks, &sizes, options.threads, &mut watched);
    watched.finish();
    let mut reading = match reading {
        Ok(reading) => reading,
        Err(error) => {
            no_record(&options.directory, &error, err)?;
            return Ok(Exit::Incomplete);
        }
    };
    let Gathered { weakened, keys, withheld } = sees.gathered;
    let mut keys = match keys.check(&files, reading.live) {
        Ok(keys) => keys,
        Err(error) => {
            no_record(&options.directory, &error, err)?;
            return Ok(Exit::Incomplete);
        }
    };
    reading.damage.append(&mut keys.damage);
    if reading.unsigned_entries > 0 {
        let what = format!(
            "{} entries at the end are behind the last checkpoint: chained, not signed",
            reading.unsigned_entries
        );
        let segment = u32::try_from(reading.segments.saturating_sub(1)).unwrap_or(u32::MAX);
        reading.gaps.push(Gap { segment, offset: 0, what });
    }
    reading.damage.append(&mut sees.witnessed.damage);
    // What a gateway had signed as it started stands in no checkpoint frame, but a file ends there.
    for end in &reading.ends {
        sees.chains.entry(*end).and_modify(|seen| *seen = true);
    }
    let outside = Outside::look(sees.witnessed, &options.since, &reading, &sees.chains);
    let withheld = withheld.finish();
    let told = Told { weakened: weakened.finish(), keys, withheld, outside };
    let consistent = reading.is_consistent() && told.keys.unreadable.is_empty();
    let consistent = consistent && told.outside.holds();
    let intact = options.key.is_some() && consistent;
    match options.json {
        true => {
            let report = report(&reading, &told, options.key.as_ref(), intact);
            writeln!(out, "{}", json_line(&report))?;
        }
        false => print(&reading, &told, options.key.as_ref(), intact, out)?,
    }
    let unread = !reading.unreadable.is_empty() || !told.keys.unreadable.is_empty();
    Ok(match (intact, reading.damage.is_empty() && unread) {
        (true, _) => Exit::Done,
        (false, true) => Exit::Incomplete,
        (false, false) => Exit::No,
    })
}

/// What is told beside the reading.
struct Told {
    weakened: Vec<Weakening>,
    keys: KeyReport,
    withheld: Withheld,
    outside: Outside,
}

fn report(reading: &Reading, told: &Told, key: Option<&VerifierKey>, intact: bool) -> Value {
    let Told { weakened, keys, withheld, outside } = told;
    let mut damage: Vec<Value> = reading
        .damage
        .iter()
        .map(|damage| {
            json!({
                "segment": damage.segment,
                "entry": damage.entry,
                "offset": damage.offset,
                "end": damage.end,
                "what": damage.what,
            })
        })
        .collect();
    for name in &reading.strays {
        let what = format!("file {name:?} does not belong to the record");
        damage.push(json!({ "segment": null, "entry": null, "offset": 0, "what": what }));
    }
    let gaps: Vec<Value> = reading
        .gaps
        .iter()
        .map(|gap| json!({ "segment": gap.segment, "offset": gap.offset, "what": gap.what }))
        .collect();
    let unreadable = reading
        .unreadable
        .iter()
        .map(|(segment, error)| json!({ "segment": segment, "error": error }));
    let unread_keys = keys.unreadable.iter().map(
        |(name, error)| json!({ "segment": null, "file": format!("keys/{name}"), "error": error }),
    );
    let unreadable: Vec<Value> = unreadable.chain(unread_keys).collect();
    json!({
        "intact": intact,
        "consistent": reading.is_consistent(),
        "key": key.map(VerifierKey::to_string),
        "origin": reading.origin,
        "segments": reading.segments,
        "entries": reading.entries,
        "checkpoints": reading.checkpoints,
        "unsigned_entries": reading.unsigned_entries,
        "live": reading.live,
        "progress_bytes": reading.progress_bytes,
        "size": reading.tree.as_ref().map(|tree| tree.size()),
        "root": reading.tree.as_ref().map(|tree| STANDARD.encode(tree.root())),
        "damage": damage,
        "gaps": gaps,
        "weakened": weakened.iter().map(Weakening::json).collect::<Vec<_>>(),
        "unreadable": unreadable,
        "sealed": {
            "keys": keys.named,
            "erased": keys.erased.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "foreign": keys.foreign,
        },
        "withheld": withheld.json(),
        "keys": reading.keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "since": outside.since.iter().map(|(kept, told)| kept.json(told)).collect::<Vec<_>>(),
        "unwitnessed": outside.witnessed.asked().then(|| outside.witnessed.json()),
        "note": NOTE,
    })
}

fn print(
    reading: &Reading,
    told: &Told,
    key: Option<&VerifierKey>,
    intact: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Told { weakened, keys, withheld, outside } = told;
    let verdict = match (intact, reading.is_consistent() && outside.holds()) {
        (true, _) => "intact",
        (false, true) => "consistent with itself only: name the log's key with --key",
        (false, false) => "NOT INTACT",
    };
    writeln!(out, "{verdict}")?;
    let origin = reading.origin.as_deref().unwrap_or("unknown");
    writeln!(out, "  log          {}", escape(origin))?;
    if let Some(key) = key {
        writeln!(out, "  key          {}", escape(&key.to_string()))?;
    }
    writeln!(
        out,
        "  read         {} segments, {} entries, {} checkpoints{}",
        reading.segments,
        reading.entries,
        reading.checkpoints,
        if reading.live { ", while the gateway runs" } else { "" }
    )?;
    if let Some(tree) = &reading.tree {
        writeln!(
            out,
            "  tree         {} entries, root {}",
            tree.size(),
            STANDARD.encode(tree.root())
        )?;
    }
    if keys.named > 0 {
        let erased = keys.erased.len();
        writeln!(out, "  sealed       under {} keys, {erased} of them erased", keys.named)?;
    }
    for (name, text) in withheld.lines() {
        writeln!(out, "  {name:<12} {text}")?;
    }
    for id in &keys.erased {
        writeln!(out, "  erased       key {id}: what it sealed cannot be restored any more")?;
    }
    for name in &keys.foreign {
        writeln!(out, "  foreign      file {} among the keys, which no entry names", escape(name))?;
    }
    for (name, error) in &keys.unreadable {
        writeln!(out, "  not read     key file {}: {}", escape(name), escape(error))?;
    }
    for damage in &reading.damage {
        let entry = damage.entry.map_or(String::new(), |entry| format!(", from entry {entry} on"));
        writeln!(
            out,
            "  damage       segment {:08}, bytes {} to {}{entry}: {}",
            damage.segment,
            damage.offset,
            damage.end,
            escape(&damage.what)
        )?;
    }
    for name in &reading.strays {
        writeln!(out, "  damage       file {} does not belong to the record", escape(name))?;
    }
    for (segment, error) in &reading.unreadable {
        writeln!(out, "  not read     segment {segment:08}: {}", escape(error))?;
    }
    for gap in &reading.gaps {
        let Gap { segment, offset, what } = gap;
        writeln!(out, "  gap          segment {segment:08}, byte {offset}: {}", escape(what))?;
    }
    for Weakening { what, entry, utc_ns, last, count } in weakened {
        let more = match count {
            1 => String::new(),
            _ => format!(", {count} times, last in entry {last}"),
        };
        let (time, what) = (time_text(*utc_ns), escape(what));
        writeln!(out, "  weakened     entry {entry}, {time}{more}: {what}")?;
    }
    for (kept, verdict) in &outside.since {
        writeln!(out, "  since        {}", escape(&kept.line(verdict)))?;
    }
    if outside.witnessed.asked() {
        for (name, text) in outside.witnessed.lines() {
            writeln!(out, "  {name:<12} {}", escape(&text))?;
        }
    }
    writeln!(out, "  note         {NOTE}")
}
