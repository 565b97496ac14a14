//! Fuzzing without libFuzzer: files of weights are mutated with a fixed seed, from the corpus of `fuzz/`, and must neither
//! panic nor be read to more than their size allows. A short turn for each target; for a longer one:
//!
//!     ROENTGEN_FUZZ_SECONDS=600 cargo test --test fuzz pickle -- --nocapture
//!
//! There is no coverage to guide it; instead, an input that leads to an error of new wording joins those that are mutated,
//! and with ROENTGEN_FUZZ_KEEP in the environment the corpus. `ROENTGEN_FUZZ_SEED` chooses another seed.

use roentgen::{
    rng::{Purpose, Rng},
    weights::Listing,
};
use std::{
    collections::HashSet,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

/// Bytes that mean something in one of the formats.
const WORDS: [&[u8]; 30] = [
    b"(",
    b".",
    b"0",
    b"2",
    b"t",
    b")",
    b"]",
    b"}",
    b"a",
    b"e",
    b"s",
    b"u",
    b"R",
    b"Q",
    b"b",
    b"h\x00",
    b"q\x00",
    b"\x85",
    b"\x86",
    b"\x94",
    b"\x8c\x01",
    b"\x8a\x08",
    b"PK\x01\x02",
    b"PK\x05\x06",
    b"\"dtype\":\"F16\"",
    b"[0,0]",
    b"-1",
    b"ctorch\nFloatStorage\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ccollections\nOrderedDict\n",
];

/// What comes before the pickle of the values in a file of the legacy format.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";

/// Longer inputs are cut.
const MOST: usize = 1 << 14;

/// Inputs that join the corpus at most: wordings that quote the input have no end.
const MOST_FOUND: usize = 500;

/// Runs of a short turn.
const FEW: u64 = 3000;

fn mutate(data: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let mut below = |n: usize| rng.below(n.max(1) as u32) as usize;
    for _ in 0..1 + below(4) {
        let at = below(data.len());
        let len = below(16).min(data.len() - at);
        match below(9) {
            0 if !data.is_empty() => data[at] ^= 1 << below(8),
            1 if !data.is_empty() => data[at] = below(256) as u8,
            2 => drop(data.drain(at..at + len)),
            3 => {
                let piece = data[at..at + len].to_vec();
                let to = below(data.len());
                data.splice(to..to, piece);
            }
            4 => drop(data.splice(at..at, WORDS[below(WORDS.len())].iter().copied())),
            5 => {
                let (from, len) = (below(other.len()), 1 + below(64));
                let end = (from + len).min(other.len());
                data.splice(at..at, other[from..end].iter().copied());
            }
            6 => data.truncate(data.len() - len),
            7 => {
                let extreme = [0u64, 1, 255, 1 << 31, u64::from(u32::MAX), 1 << 60, u64::MAX][below(7)].to_le_bytes();
                let width = [1, 2, 4, 8][below(4)].min(data.len() - at);
                data[at..at + width].copy_from_slice(&extreme[..width]);
            }
            _ if !data.is_empty() => {
                for _ in 0..len {
                    let (a, b) = (below(data.len()), below(data.len()));
                    data.swap(a, b);
                }
            }
            _ => {}
        }
    }
    data.truncate(MOST);
}

/// Reads the file; what came of it, without the numbers, which are the mutation's.
fn outcome(data: &[u8], start: &[u8]) -> String {
    match Listing::of_bytes([start, data].concat(), Path::new("fuzzed")).and_then(|listing| listing.read()) {
        Ok(archive) => format!("{} tensors", archive.tensors.len().min(20)),
        Err(e) => e.to_string().chars().filter(|c| !c.is_ascii_digit()).take(90).collect(),
    }
}

fn variable(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn fuzz(target: &str, start: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let mut corpus: Vec<Vec<u8>> = names.iter().map(|name| fs::read(name).unwrap()).collect();
    let seed = variable("ROENTGEN_FUZZ_SEED").unwrap_or(1);
    let end = variable("ROENTGEN_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut seen: HashSet<String> = corpus.iter().map(|data| outcome(data, start)).collect();
    let mut runs = 0;
    while end.map_or(runs < FEW, |end| Instant::now() < end) {
        let mut rng = Rng::new(seed, Purpose::Test, (runs >> 32) as u32, runs as u32);
        let mut pick = || corpus[rng.below(corpus.len() as u32) as usize].clone();
        let (mut data, other) = (pick(), pick());
        mutate(&mut data, &other, &mut rng);
        let said = catch_unwind(AssertUnwindSafe(|| outcome(&data, start))).unwrap_or_else(|_| {
            let file = folder.join(format!("panic-{seed}-{runs}"));
            fs::write(&file, &data).unwrap();
            panic!("run {runs} with seed {seed} panicked: {}", file.display());
        });
        if corpus.len() < names.len() + MOST_FOUND && seen.insert(said) {
            corpus.push(data);
        }
        runs += 1;
    }
    println!("{target}: {runs} runs with seed {seed}, {} inputs from {}", corpus.len(), names.len());
    if env::var_os("ROENTGEN_FUZZ_KEEP").is_some() {
        for (i, data) in corpus[names.len()..].iter().enumerate() {
            fs::write(folder.join(format!("found-{seed}-{i:03}")), data).unwrap();
        }
    }
}

#[test]
fn pickle() {
    fuzz("pickle", LEGACY);
}

#[test]
fn torch() {
    fuzz("torch", &[]);
}

#[test]
fn safetensors() {
    fuzz("safetensors", &[]);
}
