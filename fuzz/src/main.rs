//! Fuzzing without libFuzzer: mutates the corpus of a target with a fixed seed until the time is up.
//!
//!     cargo run --manifest-path fuzz/Cargo.toml --target-dir target -- pickle 600 [SEED]
//!
//! There is no coverage to guide it; instead, an input that leads to an error of new wording joins those that are mutated.
//! With KEEP in the environment those are added to the corpus in the end. The input at hand is written to `fuzz/last-<target>` if it panics.

use roentgen::{
    rng::{Purpose, Rng},
    weights::Listing,
};
use std::{
    collections::HashSet,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

/// Bytes that mean something in one of the formats.
const WORDS: [&[u8]; 30] = [
    b"(", b".", b"0", b"2", b"t", b")", b"]", b"}", b"a", b"e", b"s", b"u", b"R", b"Q", b"b", b"h\x00", b"q\x00", b"\x85",
    b"\x86", b"\x94", b"\x8c\x01", b"\x8a\x08", b"PK\x01\x02", b"PK\x05\x06", b"\"dtype\":\"F16\"", b"[0,0]", b"-1",
    b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n",
];

/// Longer ones are cut.
const MOST: usize = 1 << 14;

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
            _ => {
                for _ in 0..len {
                    let (a, b) = (below(data.len()), below(data.len()));
                    data.swap(a, b);
                }
            }
        }
    }
    data.truncate(MOST);
}

/// The error's wording, without the numbers and names in it, which are the mutation's.
fn wording(data: &[u8], pickle: bool) -> String {
    let start: &[u8] = if pickle { roentgen_fuzz::START } else { &[] };
    match Listing::of_bytes([start, data].concat(), Path::new("fuzzed")).and_then(|listing| listing.read()) {
        Ok(archive) => format!("{} tensors", archive.tensors.len().min(20)),
        Err(e) => e.to_string().chars().filter(|c| !c.is_ascii_digit()).take(90).collect(),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let [target, seconds, seed @ ..] = &args[..] else {
        eprintln!("usage: mutate pickle|torch|safetensors SECONDS [SEED]");
        return ExitCode::FAILURE;
    };
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = home.join("corpus").join(target);
    let mut names: Vec<_> = fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    names.sort();
    let mut corpus: Vec<Vec<u8>> = names.iter().map(|name| fs::read(name).expect("a file")).collect();
    let seed: u64 = seed.first().map_or(1, |seed| seed.parse().expect("a number"));
    let end = Instant::now() + Duration::from_secs(seconds.parse().expect("seconds"));
    let pickle = target == "pickle";
    let mut seen: HashSet<String> = corpus.iter().map(|data| wording(data, pickle)).collect();
    let mut runs = 0u64;
    while Instant::now() < end {
        let mut rng = Rng::new(seed, Purpose::Test, (runs >> 32) as u32, runs as u32);
        let mut data = corpus[rng.below(corpus.len() as u32) as usize].clone();
        let other = corpus[rng.below(corpus.len() as u32) as usize].clone();
        mutate(&mut data, &other, &mut rng);
        let Ok(said) = catch_unwind(AssertUnwindSafe(|| wording(&data, pickle))) else {
            let last = home.join(format!("last-{target}"));
            fs::write(&last, &data).expect("a place for the input");
            eprintln!("run {runs} panicked on {}", last.display());
            return ExitCode::FAILURE;
        };
        if seen.insert(said) {
            corpus.push(data);
        }
        runs += 1;
    }
    println!("{target}: {runs} runs with seed {seed}, {} inputs from {}, no panic", corpus.len(), names.len());
    for (i, data) in corpus[names.len()..].iter().enumerate() {
        if env::var_os("KEEP").is_some() {
            fs::write(folder.join(format!("found-{seed}-{i:03}")), data).expect("a place for the input");
        }
    }
    ExitCode::SUCCESS
}
