//! What left the gateway, held against the bytes of the disk at that moment, and at the end.

use std::collections::HashMap;

use stenograph::gateway::connection::ToClient;
use stenograph::guard::Payload;
use stenograph::record::reader::{Checks, read};
use stenograph::record::{Kind, Level, PartKind};
use stenograph::types::ExchangeId;

use super::disk::SimDisk;
use super::record_support::{Image, MemoryDisk, key};
use super::stage::{Keep, PLANTED, Recorded};

/// Everything in these files, read by the shipped reader.
pub fn read_image(image: Image) -> Vec<Recorded> {
    let mut keep = Keep(Vec::new());
    let log_key = key();
    let checks = Checks { key: Some(log_key.verifier()), commitments: true };
    // What is torn here is judged at the end: a write that failed stands behind what is kept.
    read(&MemoryDisk::with(image), checks, &mut keep).expect("a disk in memory");
    keep.0
}

/// What was released, and what it was released by.
#[derive(Default)]
pub struct Ledger {
    /// Kept while the disk does not change.
    cache: Option<(u64, Vec<Recorded>)>,
    /// Sequence numbers of the request entries that released something.
    asked: Vec<u64>,
    /// Ordinal of the last entry of an exchange that released something to the client.
    told: HashMap<ExchangeId, u32>,
    interims: usize,
    /// Entries that must be there for ever: sequence, kind.
    pub owed: Vec<(u64, Kind)>,
    /// Releases that were looked at.
    pub looked: usize,
}

impl Ledger {
    fn recorded(&mut self, disk: &SimDisk, level: Level) -> &[Recorded] {
        let calls = disk.memory.calls();
        if self.cache.as_ref().is_none_or(|(at, _)| *at != calls) {
            let image = match level {
                Level::Synced => disk.forced(),
                _ => disk.memory.image(),
            };
            self.cache = Some((calls, read_image(image)));
        }
        &self.cache.as_ref().expect("it was just made").1
    }

    /// A request leaves for the upstream: the record holds it, as it leaves, and for nothing else.
    pub fn request_leaves(&mut self, payload: &Payload, disk: &SimDisk, level: Level) {
        self.looked += 1;
        let asked = std::mem::take(&mut self.asked);
        let found = self.recorded(disk, level).iter().find(|entry| {
            entry.kind == Kind::Request
                && !asked.contains(&entry.sequence)
                && entry.part(PartKind::Body).unwrap_or_default() == &payload[1][..]
        });
        let sequence = found.map(|entry| entry.sequence);
        self.asked = asked;
        let Some(sequence) = sequence else {
            panic!(
                "a request leaves that is not in the record: {:?} {:?}",
                String::from_utf8_lossy(&payload[0]),
                String::from_utf8_lossy(&payload[1])
            )
        };
        self.asked.push(sequence);
        self.owed.push((sequence, Kind::Request));
    }

    /// Something leaves for the client: the record holds it. `exchange` is the one whose answer was
    /// begun last on this connection.
    pub fn answer_leaves(
        &mut self,
        out: &ToClient,
        exchange: &mut Option<ExchangeId>,
        disk: &SimDisk,
        level: Level,
    ) {
        let ToClient::Payload(payload) = out else { return };
        self.looked += 1;
        let head = String::from_utf8_lossy(&payload[0]);
        if head.starts_with("HTTP/1.1 1") {
            self.interims += 1;
            let interims = self.interims;
            let all = self.recorded(disk, level);
            let recorded = all.iter().filter(|entry| entry.kind == Kind::Interim).count();
            assert!(interims <= recorded, "an interim answer leaves that is not in the record");
            return;
        }
        if head.starts_with("HTTP/1.1 ") {
            let field = "Stenograph-Exchange: ";
            let at = head.find(field).expect("every answer names its exchange") + field.len();
            let id = head[at..].lines().next().unwrap_or_default();
            *exchange = Some(id.parse().unwrap_or_else(|_| panic!("no exchange id: {id}")));
        }
        let id = exchange.expect("an answer began");
        let next = self.told.get(&id).map_or(0, |last| last + 1);
        let said = payload[1].clone();
        let ours = memchr::memmem::find(&said, b"\"error\":{\"code\":-31").is_some();
        let found = self.recorded(disk, level).iter().find(|entry| {
            let body = entry.part(PartKind::Body).unwrap_or_default();
            entry.exchange == Some(id)
                && entry.ordinal >= next
                && match entry.kind {
                    Kind::Refusal => true,
                    Kind::Answer | Kind::StreamOpen | Kind::Event => {
                        ours || body == &said[..] || (body.is_empty() && entry.kind == Kind::Answer)
                    }
                    _ => false,
                }
        });
        let Some((ordinal, sequence, kind)) =
            found.map(|entry| (entry.ordinal, entry.sequence, entry.kind))
        else {
            let known: Vec<_> = self
                .recorded(disk, level)
                .iter()
                .filter(|entry| entry.exchange == Some(id))
                .map(|entry| (entry.ordinal, entry.kind))
                .collect();
            panic!(
                "an answer leaves that is not in the record: {head:?} {:?}; of {id} it has {known:?}",
                String::from_utf8_lossy(&said)
            )
        };
        self.told.insert(id, ordinal);
        self.owed.push((sequence, kind));
    }

    /// The record came back: everything that was released is in it.
    pub fn all_is_there(&mut self, record: &[Recorded]) {
        let kinds: HashMap<u64, Kind> =
            record.iter().map(|entry| (entry.sequence, entry.kind)).collect();
        for (sequence, kind) in &self.owed {
            assert_eq!(kinds.get(sequence), Some(kind), "entry {sequence} was released by");
        }
        self.cache = None;
        self.interims = record.iter().filter(|entry| entry.kind == Kind::Interim).count();
        // What was recorded and had released nothing when everything ended will release nothing.
        self.asked = record
            .iter()
            .filter(|entry| entry.kind == Kind::Request)
            .map(|entry| entry.sequence)
            .collect();
    }
}

/// Entries of every exchange are numbered in order, without a hole where `whole`; secrets stand nowhere.
pub fn check_record(record: &[Recorded], whole: bool) {
    let mut next: HashMap<ExchangeId, u32> = HashMap::new();
    for entry in record {
        assert!(!entry.text().contains(PLANTED), "an original is in the record: {entry:?}");
        let Some(exchange) = entry.exchange else { continue };
        let next = next.entry(exchange).or_default();
        match whole {
            true => assert_eq!(entry.ordinal, *next, "{:?} of {exchange}", entry.kind),
            false => assert!(entry.ordinal >= *next, "{:?} of {exchange}", entry.kind),
        }
        *next = entry.ordinal + 1;
        if whole && entry.kind == Kind::End {
            assert_eq!(entry.detail()["entries"], *next, "{exchange}");
        }
    }
}
