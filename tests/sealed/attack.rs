//! Somebody who has the whole record directory, but neither an auditor's identity nor the gateway's
//! keys: looks for a secret in every form, and tries numbers out against everything that could be a
//! digest.

use std::collections::HashSet;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem;
use sha2::{Digest, Sha256};
use stenograph::record::entry::{
    EntryMeasure, HEADER_FIXED_BYTES, PART_ROW_BYTES, TAG_COMPACT, TAG_ENTRY, derive_salt,
    measure_entry,
};
use stenograph::record::format::MARK_BYTES;

/// What a file of zstd frames holds, as far as it goes.
pub fn decompressed(file: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let _ = zstd::stream::read::Decoder::new(file).unwrap().read_to_end(&mut plain);
    plain
}

fn files(directory: &Path) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for folder in ["segments", "keys"] {
        for entry in std::fs::read_dir(directory.join(folder)).unwrap() {
            files.push(std::fs::read(entry.unwrap().path()).unwrap());
        }
    }
    files
}

fn plains(directory: &Path) -> Vec<Vec<u8>> {
    let segments = std::fs::read_dir(directory.join("segments")).unwrap();
    segments.map(|entry| decompressed(&std::fs::read(entry.unwrap().path()).unwrap())).collect()
}

/// Every file as it is, and every segment decompressed. Nothing else on the disk is compressed: the
/// gateway refuses bodies with a content coding.
pub fn everything_readable(directory: &Path) -> Vec<Vec<u8>> {
    let mut all = files(directory);
    all.extend(plains(directory));
    all
}

/// The forms in which `secret` stands in `texts`.
pub fn forms_in(texts: &[Vec<u8>], secret: &[u8]) -> Vec<&'static str> {
    let mut forms: Vec<(&'static str, Vec<u8>)> = vec![("as it is", secret.to_vec())];
    let each = |form: &dyn Fn(u8) -> String| -> Vec<u8> {
        secret.iter().flat_map(|byte| form(*byte).into_bytes()).collect()
    };
    let quoted = serde_json::to_vec(&String::from_utf8_lossy(secret)).unwrap();
    forms.push(("JSON", quoted[1..quoted.len() - 1].to_vec()));
    forms.push(("JSON escapes", each(&|byte| format!("\\u{byte:04x}"))));
    forms.push(("JSON escapes", each(&|byte| format!("\\u{byte:04X}"))));
    forms.push(("hex", each(&|byte| format!("{byte:02x}"))));
    forms.push(("hex", each(&|byte| format!("{byte:02X}"))));
    forms.push(("percent", each(&|byte| format!("%{byte:02x}"))));
    forms.push(("percent", each(&|byte| format!("%{byte:02X}"))));
    forms.push(("backwards", secret.iter().rev().copied().collect()));
    forms.push(("UTF-16", secret.iter().flat_map(|byte| [*byte, 0]).collect()));
    for shift in 0..3 {
        let shifted = [&vec![0; shift], secret].concat();
        // Characters that depend on bytes before or behind the secret are left out.
        let (skip, keep) = ([0, 2, 3][shift], shifted.len() * 8 / 6);
        for text in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            forms.push(("base64", text.as_bytes()[skip..keep].to_vec()));
        }
    }
    let mut found: Vec<&'static str> = forms
        .iter()
        .filter(|(_, form)| texts.iter().any(|text| memmem::find(text, form).is_some()))
        .map(|(name, _)| *name)
        .collect();
    found.dedup();
    found
}

/// The numbers that are tried: the 20,000 around the masked one, unless `STENOGRAPH_NUMBERS` asks for
/// `all` (about an hour on a quiet core, less on more).
///
/// A trial of a number finds something exactly when one of its digests is on the disk, so every number
/// but the masked one only shows that the search is no trivial one.
pub fn numbers(secret: u32) -> Range<u32> {
    match std::env::var("STENOGRAPH_NUMBERS").as_deref() {
        Ok("all") => 0..1_000_000_000,
        _ => around(secret),
    }
}

/// The 20,000 numbers among which `secret` is.
pub fn around(secret: u32) -> Range<u32> {
    secret / 20_000 * 20_000..(secret / 20_000 + 1) * 20_000
}

/// What the attacker took from the disk.
#[derive(Clone)]
pub struct Known {
    /// Every eight bytes that stand next to each other anywhere, also inside hexadecimal and base64.
    windows: HashSet<[u8; 8]>,
    /// Salts and seeds, of entries that withhold something, and salts that can be derived from those.
    pub salts: Vec<Vec<u8>>,
}

impl Known {
    pub fn of(directory: &Path) -> Known {
        let mut known = Known { windows: HashSet::new(), salts: vec![Vec::new(), vec![0; 32]] };
        for text in everything_readable(directory) {
            known.add(&text);
        }
        for plain in plains(directory) {
            known.entries(&plain);
        }
        assert!(known.salts.len() > 2 && known.windows.len() > 1000);
        known
    }

    /// What is known with one more text on the disk.
    pub fn and(&self, text: &[u8]) -> Known {
        let mut known = self.clone();
        known.add(text);
        known
    }

    fn add(&mut self, text: &[u8]) {
        self.windows.extend(text.windows(8).map(|window| <[u8; 8]>::try_from(window).unwrap()));
        let words = text.split(|byte| !byte.is_ascii_alphanumeric() && !b"+/=_-".contains(byte));
        for word in words.filter(|word| word.len() >= 16) {
            let hex: Option<Vec<u8>> = word
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
                .collect();
            for bytes in [hex, STANDARD.decode(word).ok(), URL_SAFE_NO_PAD.decode(word).ok()] {
                let bytes = bytes.unwrap_or_default();
                let windows = bytes.windows(8);
                self.windows.extend(windows.map(|window| <[u8; 8]>::try_from(window).unwrap()));
            }
        }
    }

    /// Walks the entries of a segment for seeds and salts.
    fn entries(&mut self, mut plain: &[u8]) {
        while let Some(&tag) = plain.first() {
            if tag != TAG_ENTRY && tag != TAG_COMPACT {
                plain = plain.get(MARK_BYTES..).unwrap_or_default();
                continue;
            }
            let EntryMeasure::Done(used) = measure_entry(plain) else { panic!("an entry") };
            assert_eq!(tag, TAG_COMPACT, "the writer writes compact entries");
            let rows = usize::from(plain[63]);
            let seed_at = 1 + HEADER_FIXED_BYTES + rows * (PART_ROW_BYTES - 32);
            let seed: [u8; 32] = plain[seed_at..seed_at + 32].try_into().unwrap();
            // Kind 5 is an original: only beside one there is anything to guess.
            let kinds = plain[1 + HEADER_FIXED_BYTES..seed_at].chunks(PART_ROW_BYTES - 32);
            if kinds.clone().any(|row| row[0] == 5) {
                self.salts.push(seed.to_vec());
                let derived = (0..=rows as u8).map(|row| derive_salt(&seed, row).to_vec());
                self.salts.extend(derived);
            }
            plain = &plain[used..];
        }
    }

    /// The numbers of which any digest is known: of the number, of what stands around it, and of the
    /// whole message, alone and with every known salt before it. On every core.
    pub fn search(&self, numbers: Range<u32>, message: &impl Fn(&str) -> String) -> Vec<u32> {
        const MARK: &str = "000000000";
        let texts = [MARK.to_owned(), format!("SSN-{MARK}"), message(MARK)];
        let guesses: Vec<(Sha256, Vec<u8>)> = texts
            .iter()
            .flat_map(|text| {
                let (before, behind) =
                    text.split_once(MARK).expect("the number stands in the text");
                self.salts.iter().map(move |salt| {
                    let begun = Sha256::new().chain_update(salt).chain_update(before);
                    (begun, behind.as_bytes().to_vec())
                })
            })
            .collect();
        // Nearly every digest differs in its first three bytes from all that is known already.
        let mut starts = vec![0_u64; 1 << 18];
        let place = |bytes: &[u8]| {
            let start = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
            (start / 64, 1_u64 << (start % 64))
        };
        for window in &self.windows {
            let (word, bit) = place(window);
            starts[word] |= bit;
        }
        let is_known = |number: u32| {
            let digits = format!("{number:09}");
            guesses.iter().any(|(begun, behind)| {
                let digest = begun.clone().chain_update(&digits).chain_update(behind).finalize();
                let (word, bit) = place(&digest);
                starts[word] & bit != 0 && self.windows.contains(&digest[..8])
            })
        };
        let next = AtomicU32::new(numbers.start);
        let found = Mutex::new(Vec::new());
        let many = numbers.len() > 1_000_000;
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, |cores| cores.get()) {
                scope.spawn(|| {
                    loop {
                        let start = next.fetch_add(SHARE, Ordering::Relaxed);
                        if start >= numbers.end {
                            break;
                        }
                        let share = start..numbers.end.min(start + SHARE);
                        found.lock().unwrap().extend(share.filter(|number| is_known(*number)));
                        if many && start % 10_000_000 < SHARE {
                            eprintln!("numbers below {start} are tried");
                        }
                    }
                });
            }
        });
        found.into_inner().unwrap()
    }
}

/// Numbers that a thread takes at once.
const SHARE: u32 = 10_000;

/// What careless records would hold of a number: each alone lets the search find it.
pub fn careless(number: &str, message: &str, known: &Known) -> Vec<Vec<u8>> {
    let digest =
        |salt: &[u8], text: &str| Sha256::new().chain_update(salt).chain_update(text).finalize();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let salt = known.salts.last().unwrap();
    vec![
        digest(b"", number).to_vec(),
        digest(b"", message).to_vec(),
        format!("{{\"fingerprint\":\"{}\"}}", hex(&digest(b"", number)[..16])).into_bytes(),
        STANDARD.encode(digest(b"", number)).into_bytes(),
        digest(salt, message).to_vec(),
    ]
}
