//! The launches of these tests again, in programs that AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer watch.

use super::{everything, passes, sim, what_was_not_written_is_nan};
use roentgen_sim::compile::{self, Flavour};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What a sanitizer finds, by kernel of `sim/tests/bugs.cu`.
const FOUND_BY_ASAN: [(&str, &str); 8] = [
    ("bug_write_past_end", "heap-buffer-overflow"),
    ("bug_read_past_end", "heap-buffer-overflow"),
    ("bug_copy_past_end", "heap-buffer-overflow"),
    ("bug_shared_past_end", "global-buffer-overflow"),
    ("bug_dynamic_past_end", "heap-buffer-overflow"),
    ("bug_row_past_end", "out of bounds"),
    ("bug_misaligned_vector", "misaligned address"),
    ("bug_integer_overflow", "signed integer overflow"),
];
const FOUND_BY_TSAN: [&str; 5] = [
    "bug_missing_barrier",
    "bug_missing_warp_barrier",
    "bug_copy_not_awaited",
    "bug_blocks_write_one_place",
    "bug_blocks_read_each_other",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("sanitizers").join(name)
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sim")
}

fn build(flavour: Flavour, kernels: &[PathBuf]) -> PathBuf {
    let out = folder(if flavour == Flavour::Asan { "asan" } else { "tsan" });
    compile::build(flavour, &sources(), kernels, &out, |warning| eprintln!("{warning}")).unwrap()
}

/// Whether the launches of kernels with this name pass, and what was said.
fn replay(program: &Path, launches: &Path, name: &str) -> (bool, String) {
    let output = Command::new(program).arg(launches).arg(name).output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.success(), text)
}

#[test]
#[ignore = "run by sanitizers_find_planted_bugs"]
fn launches() {
    everything();
    what_was_not_written_is_nan();
    let sim = sim().unwrap();
    for kernel in FOUND_BY_ASAN.map(|(kernel, _)| kernel).iter().chain(&FOUND_BY_TSAN) {
        sim.bug(kernel, 2).unwrap();
    }
}

#[test]
#[ignore = "compiles the simulator twice more and removes barriers in turn: a few minutes"]
fn sanitizers_find_planted_bugs() {
    if sim().is_none() {
        return;
    }
    let launches = folder("launches");
    fs::remove_dir_all(&launches).ok();
    fs::create_dir_all(&launches).unwrap();
    // One OS thread: a planted bug may write where another block's thread reads.
    passes("sanitizers::launches", &[("ROENTGEN_SIM_RECORD", &launches), ("ROENTGEN_SIM_THREADS", "1".as_ref())]);
    let kernels = compile::kernels_in(&sources().join("tests"));

    let asan = build(Flavour::Asan, &kernels);
    let tsan = build(Flavour::Tsan, &kernels);
    for program in [&asan, &tsan] {
        let (passed, text) = replay(program, &launches, "sim_");
        assert!(passed && text.contains(" launches of "), "{text}");
    }
    for (kernel, what) in FOUND_BY_ASAN {
        let (passed, text) = replay(&asan, &launches, kernel);
        assert!(!passed && text.contains(what) && text.contains("bugs.cu:"), "{kernel}: {text}");
    }
    for kernel in FOUND_BY_TSAN {
        let (passed, text) = replay(&tsan, &launches, kernel);
        assert!(!passed && text.contains("data race") && text.contains("bugs.cu:"), "{kernel}: {text}");
    }
    removed_barriers_are_found(&launches);
}

/// Every `__syncthreads` of `sim/tests/kernels.cu` is needed.
fn removed_barriers_are_found(launches: &Path) {
    let text = fs::read_to_string(sources().join("tests/kernels.cu")).unwrap();
    let changed = folder("changed").join("kernels.cu");
    fs::create_dir_all(changed.parent().unwrap()).unwrap();
    for (at, barrier) in text.match_indices("__syncthreads();") {
        let line = text[..at].lines().count();
        fs::write(&changed, format!("{}{}", &text[..at], &text[at + barrier.len()..])).unwrap();
        let tsan = build(Flavour::Tsan, std::slice::from_ref(&changed));
        let (passed, text) = replay(&tsan, launches, "sim_");
        assert!(!passed && text.contains("data race"), "kernels.cu:{line}: not missed: {text}");
    }
}
