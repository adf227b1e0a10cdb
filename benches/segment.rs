//! The segment builder and the verifying scan beside what they rest on: zstd alone over the same
//! plain bytes with the same flushes, and SHA-256 alone over the same bytes.
//!
//! `cargo bench --bench segment`. Each round runs every contestant once, in turn, on one thread, and
//! counts the CPU time of that thread; ratios are taken within a round and their median is told, so
//! that what else the machine does hits all alike. Beside that, wall-clock time of reading several
//! segments with one thread and with two. `STENOGRAPH_SEGMENT_ROUNDS` (15),
//! `STENOGRAPH_SEGMENT_CALLS` (1500).

use std::any::Any;
use std::hint::black_box;
use std::io::{self, Cursor, Read};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use sha2::{Digest, Sha256};
use stenograph::record::Entry;
use stenograph::record::disk::Files;
use stenograph::record::entry::{
    EntryView, HEADER_FIXED_BYTES, PART_ROW_BYTES, SALT_BYTES, SALT_MESSAGE_BYTES,
};
use stenograph::record::format::segment_name;
use stenograph::record::hash::{Message, digest_all};
use stenograph::record::header::{Header, Previous, PreviousEnd};
use stenograph::record::keys::LogKey;
use stenograph::record::reader::{Checks, read_parallel};
use stenograph::record::scan::{Gather, Gatherer, Place, Sink, Task, scan};
use stenograph::record::segment::{Builder, Kept, Random};
use stenograph::record::tree::Tree;
use stenograph::types::Now;
use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective as Directive;
use zstd::zstd_safe::{CCtx, CParameter, DCtx, InBuffer, OutBuffer, ResetDirective};

mod mix;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn header() -> Header {
    Header {
        origin: "log.example".into(),
        segment: 0,
        tree: Tree::new(),
        created: Now::default(),
        boot_id: [0; 16],
        previous: Previous::NONE,
    }
}

fn random() -> Random {
    Arc::new(|bytes| getrandom::fill(bytes).expect("random bytes"))
}

/// Plain bytes at which a frame ends.
const FRAME_BYTES: u64 = 256 * 1024;

/// Entries as they go into one flush each.
fn batches(entries: &[Entry], bytes: usize) -> Vec<&[Entry]> {
    let mut batches = Vec::new();
    let mut from = 0;
    let mut held = 0;
    for (index, entry) in entries.iter().enumerate() {
        held += entry.plain_bytes();
        if held >= bytes || index + 1 == entries.len() {
            batches.push(&entries[from..=index]);
            (from, held) = (index + 1, 0);
        }
    }
    batches
}

/// The steps of a segment file, one for each batch.
fn build(batches: &[&[Entry]], mut each: impl FnMut(&[u8])) {
    let mut builder = Builder::begin(&header(), FRAME_BYTES, random()).expect("zstd");
    each(builder.step());
    builder.stored();
    for entries in batches {
        for entry in *entries {
            builder.entry(entry, 0).expect("zstd");
        }
        builder.flush().expect("zstd");
        each(builder.step());
        builder.stored();
    }
}

/// The plain bytes of each step.
fn plain_chunks(steps: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut zstd = DCtx::create();
    let mut chunks = Vec::new();
    for step in steps {
        let mut plain = Vec::new();
        let mut input = InBuffer::around(step);
        loop {
            plain.reserve(128 * 1024);
            let at = plain.len();
            let mut out = OutBuffer::around_pos(&mut plain, at);
            zstd.decompress_stream(&mut out, &mut input).expect("what was written");
            if input.pos() == step.len() && plain.len() < plain.capacity() {
                break;
            }
        }
        chunks.push(plain);
    }
    chunks
}

/// zstd alone: the same stream, one flush for each chunk, frames of the same size.
fn compress_alone(chunks: &[Vec<u8>]) -> usize {
    let mut zstd = CCtx::create();
    zstd.set_parameter(CParameter::CompressionLevel(1)).expect("zstd");
    zstd.set_parameter(CParameter::WindowLog(18)).expect("zstd");
    let mut out = Vec::with_capacity(4 * 1024 * 1024);
    let mut frame = 0;
    let mut total = 0;
    for chunk in chunks {
        out.clear();
        let mut input = InBuffer::around(chunk);
        frame += chunk.len() as u64;
        let directive = match frame >= FRAME_BYTES {
            true => Directive::ZSTD_e_end,
            false => Directive::ZSTD_e_flush,
        };
        loop {
            let at = out.len();
            let mut room = OutBuffer::around_pos(&mut out, at);
            if zstd.compress_stream2(&mut room, &mut input, directive).expect("zstd") == 0 {
                break;
            }
            out.reserve(128 * 1024);
        }
        if frame >= FRAME_BYTES {
            frame = 0;
        }
        total += out.len();
    }
    total
}

fn decompress_alone(file: &[u8], out: &mut [u8]) -> usize {
    let mut zstd = DCtx::create();
    zstd.reset(ResetDirective::SessionOnly).expect("zstd");
    let mut input = InBuffer::around(file);
    let mut total = 0;
    while input.pos() < file.len() {
        let mut room = OutBuffer::around(&mut *out);
        zstd.decompress_stream(&mut room, &mut input).expect("what was written");
        total += room.pos();
    }
    total
}

/// What has to be hashed: every part with its salt, each header, and the compressed bytes.
fn hash_alone(entries: &[Entry], file_bytes: &[u8]) -> u8 {
    let mut seen = 0;
    for entry in entries {
        for part in &entry.parts {
            let digest = Sha256::new().chain_update([0; 32]).chain_update(&part.bytes).finalize();
            seen ^= digest[0];
        }
        seen ^= Sha256::digest([0; 64])[0];
    }
    seen ^ Sha256::digest(file_bytes)[0]
}

/// The same, many messages side by side, with nothing else to do.
fn hash_side_by_side(messages: &[Message<'_>], out: &mut Vec<[u8; 32]>) -> usize {
    out.clear();
    for messages in messages.chunks(1024) {
        digest_all(messages, out);
    }
    usize::from(out[0][0])
}

/// What [`hash_alone`] hashes and the derived salts, as messages; the file in pieces of a flush.
fn messages<'a>(entries: &'a [Entry], steps: &'a [Vec<u8>]) -> Vec<Message<'a>> {
    let chain = steps.iter().map(|step| Message { head: &[0; 32], body: step });
    let mut messages: Vec<Message<'_>> = chain.collect();
    for entry in entries {
        for part in &entry.parts {
            messages.push(Message { head: &[1; SALT_MESSAGE_BYTES], body: &[] });
            messages.push(Message { head: &[2; SALT_BYTES], body: &part.bytes });
        }
        let header_bytes = HEADER_FIXED_BYTES + entry.parts.len() * PART_ROW_BYTES;
        messages.push(Message { head: &[0], body: &[3; 1024][..header_bytes] });
    }
    messages
}

struct Nothing(u64);

impl Sink for Nothing {
    fn entry(&mut self, _place: &Place, entry: &EntryView<'_>) {
        self.0 += entry.sequence;
    }
}

fn verify(file: &[u8]) -> u64 {
    let task = Task {
        segment: 0,
        length: file.len() as u64,
        key: None,
        key_sure: true,
        roots_at: &[],
        commitments: true,
    };
    let mut sink = Nothing(0);
    let scanned = scan(&task, &mut black_box(file), &mut sink).expect("memory");
    assert!(scanned.damage.is_empty(), "{:?}", scanned.damage);
    sink.0
}

/// A record in memory, whole.
struct Memory(Vec<(String, Vec<u8>)>);

impl Memory {
    fn file(&self, name: &str) -> io::Result<&[u8]> {
        let found = self.0.iter().find(|(own, _)| own == name);
        found.map(|(_, bytes)| &bytes[..]).ok_or(io::ErrorKind::NotFound.into())
    }
}

impl Files for Memory {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.iter().map(|(name, _)| name.clone()).collect())
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(self.file(name)?.len() as u64)
    }

    fn open_at(&self, name: &str, offset: u64) -> io::Result<Box<dyn Read>> {
        // A copy, as a read from the page cache is one.
        Ok(Box::new(Cursor::new(self.file(name)?[offset as usize..].to_vec())))
    }

    fn is_live(&self) -> bool {
        false
    }

    fn list_keys(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn read_key(&self, _name: &str) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// So many sealed segments, each with all of the batches.
fn segments(count: u32, batches: &[&[Entry]], key: &LogKey) -> Memory {
    let mut files = Vec::new();
    let mut header = header();
    for segment in 0..count {
        header.segment = segment;
        let mut file = Vec::new();
        let mut builder = Builder::begin(&header, FRAME_BYTES, random()).expect("zstd");
        for entries in batches {
            for entry in *entries {
                builder.entry(entry, 0).expect("zstd");
            }
            builder.flush().expect("zstd");
            file.extend_from_slice(builder.step());
            builder.stored();
        }
        builder.seal(key, 1).expect("zstd");
        file.extend_from_slice(builder.step());
        builder.stored();
        let Kept { bytes, chain, tree, .. } = builder.kept();
        header.tree = tree;
        let end = PreviousEnd::Sealed;
        header.previous = Previous { end, kept_bytes: bytes, chain, ..Previous::NONE };
        files.push((segment_name(segment), file));
    }
    Memory(files)
}

impl Sink for Threads {
    fn entry(&mut self, _place: &Place, _entry: &EntryView<'_>) {}

    fn gatherer(&self) -> Option<Gatherer> {
        Some(|| Box::new(Threads))
    }
}

impl Gather for Threads {
    fn entry(&mut self, _place: &Place, _entry: &EntryView<'_>) {}

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

/// What `verify --threads` does, without the disk.
struct Threads;

fn verify_with(threads: usize, files: &Memory, key: &LogKey) -> f64 {
    let before = Instant::now();
    let checks = Checks { key: Some(key.verifier()), commitments: true };
    let threads = NonZeroUsize::new(threads).expect("threads");
    let read = read_parallel(files, checks, &[], threads, &mut Threads).expect("memory");
    assert!(read.is_consistent(), "{read:?}");
    before.elapsed().as_secs_f64()
}

/// Wall-clock time with one thread and with two, in turn.
fn scaling(entries: &[Entry], rounds: u64) {
    let key = LogKey::from_seed(&header().origin, &[7; 32]).expect("key");
    let files = segments(8, &batches(entries, 256 * 1024), &key);
    let bytes: usize = files.0.iter().map(|(_, file)| file.len()).sum();
    let mut ratios = Vec::new();
    let mut best = [f64::MAX; 2];
    for _ in 0..rounds {
        let times = [1, 2].map(|threads| verify_with(threads, &files, &key));
        ratios.push(times[0] / times[1]);
        best = [best[0].min(times[0]), best[1].min(times[1])];
    }
    ratios.sort_by(f64::total_cmp);
    let [one, two] = best.map(|seconds| bytes as f64 / 1e6 / seconds);
    println!(
        "\n## {} segments of {bytes} bytes together, wall clock\nverify: {one:.0} MB/s of file with one \
         thread, {two:.0} with two at best; {:.2} times as fast, median of pairs ({:.2} at best)",
        files.0.len(),
        ratios[ratios.len() / 2],
        ratios[ratios.len() - 1]
    );
}

/// CPU time of this thread in seconds.
fn cpu_s() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

type Contestant<'a> = (&'a str, Box<dyn FnMut() -> usize + 'a>);

/// Runs all in turn, round by round; tells MB/s of `bytes` at the best round and the median of the
/// ratio to the first.
fn race(title: &str, bytes: usize, rounds: u64, mut contestants: Vec<Contestant<'_>>) {
    let mut times = vec![Vec::new(); contestants.len()];
    for round in 0..=rounds {
        for (index, (_, run)) in contestants.iter_mut().enumerate() {
            let before = cpu_s();
            black_box(run());
            // The first round warms up.
            if round > 0 {
                times[index].push(cpu_s() - before);
            }
        }
    }
    println!("\n{title}\n| | MB/s best | MB/s median | of the first, median |\n|---|---|---|---|");
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    for (index, (name, _)) in contestants.iter().enumerate() {
        let ratios = times[index].iter().zip(&times[0]).map(|(own, first)| first / own).collect();
        let best = times[index].iter().copied().fold(f64::MAX, f64::min);
        let mb_s = |seconds: f64| bytes as f64 / 1e6 / seconds;
        println!(
            "| {name} | {:.0} | {:.0} | {:.3} |",
            mb_s(best),
            mb_s(median(times[index].clone())),
            median(ratios)
        );
    }
}

fn main() {
    let rounds = setting("STENOGRAPH_SEGMENT_ROUNDS", 15);
    let entries = mix::calls(setting("STENOGRAPH_SEGMENT_CALLS", 1500) as u32);
    let payload = mix::payload_bytes(&entries);
    let parts: usize = entries.iter().map(|entry| entry.parts.len()).sum();
    println!("{} entries, {parts} parts, {payload} bytes of payload", entries.len());
    scaling(&entries, rounds);
    for flush_bytes in [4 * 1024, 64 * 1024, 256 * 1024, 1024 * 1024] {
        let batches = batches(&entries, flush_bytes);
        let mut steps = Vec::new();
        build(&batches, |step| steps.push(step.to_vec()));
        let file = steps.concat();
        let chunks = plain_chunks(&steps);
        let plain: usize = chunks.iter().map(Vec::len).sum();
        println!(
            "\n## {} flushes of about {} KiB: {plain} plain bytes, {} in the file, {:.3} on disk per \
             byte of payload",
            batches.len(),
            flush_bytes / 1024,
            file.len(),
            file.len() as f64 / payload as f64
        );
        let messages = messages(&entries, &steps);
        let mut digests = Vec::new();
        race(
            "writing",
            plain,
            rounds,
            vec![
                ("zstd level 1 alone", Box::new(|| compress_alone(&chunks))),
                (
                    "builder",
                    Box::new(|| {
                        let mut bytes = 0;
                        build(&batches, |step| bytes += step.len());
                        bytes
                    }),
                ),
                ("SHA-256 alone", Box::new(|| hash_alone(&entries, &file) as usize)),
                (
                    "SHA-256 alone, side by side",
                    Box::new(|| hash_side_by_side(&messages, &mut digests)),
                ),
            ],
        );
        let mut out = vec![0; 256 * 1024];
        race(
            "reading",
            plain,
            rounds,
            vec![
                ("zstd decompression alone", Box::new(|| decompress_alone(&file, &mut out))),
                ("verify", Box::new(|| verify(&file) as usize)),
                ("SHA-256 alone", Box::new(|| hash_alone(&entries, &file) as usize)),
                (
                    "SHA-256 alone, side by side",
                    Box::new(|| hash_side_by_side(&messages, &mut digests)),
                ),
            ],
        );
    }
}
