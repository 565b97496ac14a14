//! Damaged and hostile files: no reader panics, and none asks for much more memory than it is given bytes or pixels.
//!
//! Every run replays some thousand mutations of the fixtures. For longer ones, with a seed of their own, say
//! `FUZZ_SECONDS=300 FUZZ_SEED=7 cargo test --test data -- --ignored --nocapture hostile::dicom`.

use roentgen::{
    data::{Intensity, Scan, Source, volume},
    rng::{Purpose, Rng},
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Reads a file as training would, and its last frame.
fn read(bytes: &[u8]) {
    let Ok(scan) = Scan::open(bytes, "fuzz") else { return };
    for index in [scan.middle(), scan.facts().frames - 1] {
        if let Ok(frame) = scan.frame(index) {
            let _ = frame.render(Intensity::Auto, "fuzz");
        }
    }
    // And as a volume that is taken apart.
    let plain = volume::unpacked(bytes.to_vec());
    let _ = volume::frame_alone(&plain, scan.middle());
    let _ = volume::mask_like(&plain, &[]);
}

/// The fixtures whose names end so, small ones of the real files and what once made a reader panic included.
fn corpus(suffixes: &[&str]) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [
        "tests/fixtures/hostile",
        "tests/fixtures/scans",
        "tests/fixtures/data",
        "../shared/data/dicom_fixtures/pydicom_test_files",
    ];
    let files = folders.iter().flat_map(|folder| fs::read_dir(root.join(folder)).into_iter().flatten());
    let mut paths: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| suffixes.iter().any(|suffix| path.to_string_lossy().ends_with(suffix)));
    paths.sort();
    let all = paths.into_iter().map(|path| Source::File(path).read().unwrap().into_owned());
    all.filter(|bytes| bytes.len() < 8192).collect()
}

/// One to eight changes: a byte or a number overwritten, a piece cut out, doubled, or taken from another file.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    for _ in 0..1 + rng.below(8) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.below(bytes.len() as u32) as usize;
        let length = (1 + rng.below(16) as usize).min(bytes.len() - at);
        match rng.below(6) {
            0 => bytes[at] = rng.below(256) as u8,
            1 => bytes[at] ^= 1 << rng.below(8),
            2 => {
                let odd = [0, 0xff, 0x7f, 0x80, 1][rng.below(5) as usize];
                bytes[at..at + length.min(4)].fill(odd);
            }
            3 => drop(bytes.drain(at..at + length)),
            4 => {
                let piece = bytes[at..at + length].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let from = rng.below(other.len() as u32) as usize;
                let piece = &other[from..(from + length).min(other.len())];
                bytes.splice(at..at + piece.len().min(bytes.len() - at), piece.iter().copied());
            }
        }
    }
}

fn fuzz(suffixes: &[&str], limit: Duration, most: u64) {
    let corpus = corpus(suffixes);
    assert!(corpus.len() > 5, "no fixtures ending in {suffixes:?}");
    let seed = env::var("FUZZ_SEED").map_or(0, |seed| seed.parse().expect("FUZZ_SEED is a number"));
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut runs = 0;
    while runs < most && start.elapsed() < limit {
        let mut rng = Rng::new(seed, Purpose::Test, (runs >> 32) as u32, runs as u32);
        let pick = |rng: &mut Rng| &corpus[rng.below(corpus.len() as u32) as usize];
        let mut bytes = pick(&mut rng).clone();
        let other = pick(&mut rng);
        mutate(&mut bytes, other, &mut rng);
        let began = Instant::now();
        if std::panic::catch_unwind(|| read(&bytes)).is_err() {
            let path = env::temp_dir().join(format!("roentgen-fuzz-{seed}-{runs}"));
            fs::write(&path, &bytes).unwrap();
            panic!("run {runs} of seed {seed} panics; the file is {}", path.display());
        }
        slowest = slowest.max(began.elapsed());
        runs += 1;
    }
    println!("{suffixes:?}: {runs} runs in {:.0?}, the slowest {slowest:.0?}", start.elapsed());
    assert!(slowest < Duration::from_secs(20), "a file of a few kilobytes takes {slowest:?}");
}

const DICOM: &[&str] = &[".dcm"];
const META_IMAGE: &[&str] = &[".mha", ".mhd"];
const NIFTI: &[&str] = &[".nii", ".nii.gz"];
const PICTURES: &[&str] = &[".png", ".jpg"];

#[test]
fn mutated_files_never_panic() {
    for suffixes in [DICOM, META_IMAGE, NIFTI, PICTURES] {
        fuzz(suffixes, Duration::from_secs(20), 3000);
    }
}

/// However a file is cut, reading returns.
#[test]
fn cut_files_never_panic() {
    for suffixes in [DICOM, META_IMAGE, NIFTI] {
        for bytes in corpus(suffixes) {
            read(&bytes);
            (0..bytes.len()).step_by(7).for_each(|end| read(&bytes[..end]));
        }
    }
}

fn long(suffixes: &[&str]) {
    let seconds = env::var("FUZZ_SECONDS").map_or(60, |s| s.parse().expect("FUZZ_SECONDS is a number"));
    fuzz(suffixes, Duration::from_secs(seconds), u64::MAX);
}

#[test]
#[ignore = "as long as it is given"]
fn dicom() {
    long(DICOM);
}

#[test]
#[ignore = "as long as it is given"]
fn meta_image() {
    long(META_IMAGE);
}

#[test]
#[ignore = "as long as it is given"]
fn nifti() {
    long(NIFTI);
}

#[test]
#[ignore = "as long as it is given"]
fn pictures() {
    long(PICTURES);
}
