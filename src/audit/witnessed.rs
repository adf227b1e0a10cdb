//! What witnesses saw of a record: cosignatures against the checkpoints that stand in it, and how long
//! entries went without one.
//!
//! A stretch is unwitnessed from its first entry (or from the checkpoint before it, where that entry's
//! time is not remembered any more) to the cosignature of the first checkpoint that covers it.
//!
//! The times are those of two clocks. Where they do not agree that is told, but it is no damage: who
//! turned which clock cannot be seen from here, and what a cosignature proves does not hang on it.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::record::cosign::WitnessVerifier;
use crate::record::entry::EntryView;
use crate::record::format::COSIGNED_BEHIND_MAX;
use crate::record::note::{Checkpoint, Note, time_text};
use crate::record::scan::Damage;

/// How much earlier than its checkpoint a cosignature may be before that is told. Bound: clocks that are
/// kept by NTP differ by seconds; five minutes is what Kerberos (RFC 4120 §1.6) allows for clocks that are
/// kept loosely.
const EARLY_S_MAX: u64 = 300;

/// A checkpoint that was read, as far as it is needed later.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    checkpoint: Checkpoint,
    /// UTC ns of the first entry behind it.
    next_entry_ns: Option<u64>,
}

/// What one witness came to.
#[derive(Debug, Clone)]
struct One {
    key: WitnessVerifier,
    cosignatures: u64,
    /// Size and time of the last.
    last: Option<(u64, u64)>,
    /// Those whose time is before that of the checkpoint, by more than [`EARLY_S_MAX`].
    early: Odd,
    /// Those whose time is before that of the one before.
    backwards: Odd,
}

/// Cosignatures whose times are odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Odd {
    count: u64,
    /// Tree size that the first speaks of, its time, and the time that it should not be before, seconds.
    first: Option<(u64, u64, u64)>,
}

impl Odd {
    fn add(&mut self, size: u64, seconds: u64, not_before: u64) {
        self.count += 1;
        self.first.get_or_insert((size, seconds, not_before));
    }

    fn json(&self) -> Value {
        json!({
            "count": self.count,
            "first_size": self.first.map(|(size, ..)| size),
            "first_time": self.first.map(|(_, seconds, _)| seconds_text(seconds)),
            "not_before": self.first.map(|(.., not_before)| seconds_text(not_before)),
        })
    }

    fn line(&self, name: &str, what: &str) -> Option<String> {
        let (size, seconds, not_before) = self.first?;
        Some(format!(
            "{name}: {} cosignatures are earlier than {what}: the first, over {size} entries, says {}, \
             not before {}",
            self.count,
            seconds_text(seconds),
            seconds_text(not_before)
        ))
    }
}

/// Collects while a record is read in order.
#[derive(Debug)]
pub struct Witnessed {
    witnesses: Vec<One>,
    behind: VecDeque<Seen>,
    /// Entries read.
    entries: u64,
    first_entry_ns: Option<u64>,
    /// Entries that are covered, and since when what follows is not.
    covered: u64,
    since_ns: Option<u64>,
    longest: Option<Window>,
    /// What is wrong with cosignatures.
    pub damage: Vec<Damage>,
}

/// A stretch of entries without a cosignature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its first entry.
    pub first: u64,
    /// Its entries.
    pub entries: u64,
    /// Since when it lacked a cosignature, UTC ns.
    pub since_ns: u64,
    /// For how long.
    pub ns: u64,
}

impl Window {
    fn json(&self) -> Value {
        json!({
            "first": self.first,
            "entries": self.entries,
            "since": time_text(self.since_ns),
            "seconds": self.ns as f64 / 1e9,
        })
    }
}

impl Witnessed {
    /// Nothing read yet.
    pub fn new(keys: &[WitnessVerifier]) -> Witnessed {
        let one = |key: &WitnessVerifier| One {
            key: key.clone(),
            cosignatures: 0,
            last: None,
            early: Odd::default(),
            backwards: Odd::default(),
        };
        Witnessed {
            witnesses: keys.iter().map(one).collect(),
            behind: VecDeque::new(),
            entries: 0,
            first_entry_ns: None,
            covered: 0,
            since_ns: None,
            longest: None,
            damage: Vec::new(),
        }
    }

    /// The next entry.
    pub fn entry(&mut self, entry: &EntryView<'_>) {
        self.entries = entry.sequence.saturating_add(1);
        let time = entry.now.utc_ns;
        self.first_entry_ns.get_or_insert(time);
        if self.entries == self.covered + 1 {
            self.since_ns = Some(time);
        }
        for seen in self.behind.iter_mut().rev() {
            if seen.next_entry_ns.is_some() {
                break;
            }
            seen.next_entry_ns = Some(time);
        }
    }

    /// The next checkpoint.
    pub fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        if self.behind.len() == COSIGNED_BEHIND_MAX {
            self.behind.pop_front();
        }
        self.behind.push_back(Seen { checkpoint: checkpoint.clone(), next_entry_ns: None });
    }

    /// Cosignatures over an earlier checkpoint.
    pub fn cosignatures(&mut self, place: (u32, u64), checkpoint: &Checkpoint, note: &Note<'_>) {
        let mut damage = |what: String| {
            let (segment, offset) = place;
            self.damage.push(Damage { segment, entry: None, offset, end: offset, what });
        };
        // The reader tells one that is no checkpoint before it.
        let Some(seen) = self.behind.iter().rev().find(|seen| seen.checkpoint == *checkpoint)
        else {
            return;
        };
        let mut cosigned_s: Option<u64> = None;
        for line in &note.signatures[1..] {
            for one in self.witnesses.iter_mut().filter(|one| one.key.is_named(line)) {
                match one.key.verify(line, note.text) {
                    Some(seconds) => {
                        one.cosignatures += 1;
                        let signed_s = checkpoint.utc_ns / 1_000_000_000;
                        if seconds.saturating_add(EARLY_S_MAX) < signed_s {
                            one.early.add(checkpoint.size, seconds, signed_s);
                        }
                        if let Some((_, last)) = one.last.filter(|(_, last)| seconds < *last) {
                            one.backwards.add(checkpoint.size, seconds, last);
                        }
                        one.last = Some((checkpoint.size, seconds));
                        cosigned_s = Some(cosigned_s.map_or(seconds, |first| first.min(seconds)));
                    }
                    None => damage(format!(
                        "cosignature of {} over {} entries does not fit",
                        one.key.name(),
                        checkpoint.size
                    )),
                }
            }
        }
        let Some(cosigned_s) = cosigned_s else { return };
        if checkpoint.size <= self.covered {
            return;
        }
        let since_ns = self.since_ns.or(self.first_entry_ns).unwrap_or(checkpoint.utc_ns);
        // Why the next second: a cosignature states whole ones, rounded down.
        let until_ns = cosigned_s.saturating_add(1).saturating_mul(1_000_000_000);
        let window = Window {
            first: self.covered,
            entries: checkpoint.size - self.covered,
            since_ns,
            ns: until_ns.saturating_sub(since_ns),
        };
        if self.longest.is_none_or(|longest| window.ns > longest.ns) {
            self.longest = Some(window);
        }
        self.covered = checkpoint.size;
        self.since_ns = seen.next_entry_ns;
    }

    /// Entries behind the last cosigned checkpoint, and since when.
    pub fn tail(&self) -> (u64, Option<u64>) {
        let entries = self.entries.saturating_sub(self.covered);
        (entries, self.since_ns.or(self.first_entry_ns).filter(|_| entries > 0))
    }

    /// The stretch that waited longest for its cosignature.
    pub fn longest(&self) -> Option<Window> {
        self.longest
    }

    /// Witnesses were named, and each of them has cosigned.
    pub fn all_cosigned(&self) -> bool {
        self.witnesses.iter().all(|one| one.cosignatures > 0)
    }

    /// Somebody asked about witnesses.
    pub fn asked(&self) -> bool {
        !self.witnesses.is_empty()
    }

    /// For `--json`.
    pub fn json(&self) -> Value {
        let (tail, since_ns) = self.tail();
        let witnesses: Vec<Value> = self
            .witnesses
            .iter()
            .map(|one| {
                json!({
                    "key": one.key.to_string(),
                    "cosignatures": one.cosignatures,
                    "last_size": one.last.map(|(size, _)| size),
                    "last_time": one.last.map(|(_, seconds)| seconds_text(seconds)),
                    "early": one.early.json(),
                    "backwards": one.backwards.json(),
                })
            })
            .collect();
        json!({
            "witnesses": witnesses,
            "longest": self.longest.as_ref().map(Window::json),
            "tail_entries": tail,
            "tail_since": since_ns.map(time_text),
        })
    }

    /// For a terminal: (name, text) of each line.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        for one in &self.witnesses {
            let name = one.key.name();
            lines.push((
                "witness",
                match one.last {
                    Some((size, seconds)) => format!(
                        "{name}: {} cosignatures, the last at {} over {size} entries",
                        one.cosignatures,
                        seconds_text(seconds)
                    ),
                    None => format!("{name}: NO checkpoint in this record is cosigned by it"),
                },
            ));
            let early = one.early.line(name, "their checkpoints");
            let backwards = one.backwards.line(name, "the one before");
            lines.extend(early.into_iter().chain(backwards).map(|text| ("clocks", text)));
        }
        if let Some(longest) = &self.longest {
            let text = format!(
                "at most {:.3} s, for {} entries from {} on",
                longest.ns as f64 / 1e9,
                longest.entries,
                longest.first
            );
            lines.push(("unwitnessed", text));
        }
        let (tail, since_ns) = self.tail();
        let since = since_ns.map_or(String::new(), |ns| format!(", since {}", time_text(ns)));
        lines.push(("unwitnessed", format!("{tail} entries at the end{since}")));
        lines
    }
}

fn seconds_text(seconds: u64) -> String {
    time_text(seconds.saturating_mul(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::cosign::WitnessKey;
    use crate::record::keys::LogKey;

    const SIGNED_S: u64 = 1_795_000_000;

    /// What is told of cosignatures at these times after their checkpoints, which are a minute apart.
    fn told(after_s: &[i64]) -> (Value, Vec<String>) {
        let log = LogKey::from_seed("log.example", &[1; 32]).unwrap();
        let witness = WitnessKey::from_seed("w.example", &[2; 32]).unwrap();
        let mut witnessed = Witnessed::new(&[witness.verifier().clone()]);
        for (index, after_s) in (0..).zip(after_s) {
            let signed_s = SIGNED_S + 60 * index;
            let checkpoint = Checkpoint {
                origin: "log.example".into(),
                size: index + 1,
                root: [3; 32],
                segment: 0,
                offset: 100 * index,
                chain: [9; 32],
                utc_ns: signed_s * 1_000_000_000 + 999_999_999,
                sealed: false,
            };
            witnessed.checkpoint(&checkpoint);
            let line =
                witness.cosign(&checkpoint.text(), signed_s.checked_add_signed(*after_s).unwrap());
            let note = format!("{}{line}", checkpoint.sign(&log));
            let note = Note::parse(note.as_bytes()).unwrap();
            witnessed.cosignatures((0, 0), &checkpoint, &note);
        }
        assert!(witnessed.damage.is_empty() && witnessed.all_cosigned());
        let lines = witnessed.lines().into_iter();
        let clocks = lines.filter(|(name, _)| *name == "clocks").map(|(_, text)| text).collect();
        let one = &witnessed.json()["witnesses"][0];
        (json!([one["early"]["count"], one["backwards"]["count"]]), clocks)
    }

    #[test]
    fn a_cosignature_before_its_checkpoint_or_before_the_last_one_is_told_and_is_no_damage() {
        assert_eq!(told(&[0, 5, 900]), (json!([0, 0]), vec![]));
        assert_eq!(told(&[-300]), (json!([0, 0]), vec![]), "as far as clocks may differ");
        let (counts, lines) = told(&[0, -60, -301]);
        assert_eq!(counts, json!([1, 1]), "one at the time of the one before is not backwards");
        assert!(
            lines[0].contains("1 cosignatures are earlier than their checkpoints"),
            "{lines:?}"
        );
        assert!(lines[0].contains("over 3 entries"), "{lines:?}");
        assert!(lines[1].contains("1 cosignatures are earlier than the one before"), "{lines:?}");
        assert_eq!(told(&[-400, -500, 0]).0, json!([2, 1]));
    }
}
