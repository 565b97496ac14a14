//! Small runs of training, interrupted or not, and what they must reproduce.

use roentgen::{
    device::{Device, cpu::Cpu},
    report::EpochRecord,
    train::{Checkpoint, Config, Observer, Outcome, RunFolder, Session, StepProgress},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Raises a flag after a number of steps.
pub struct Stop<'a> {
    pub after: usize,
    pub flag: &'a AtomicBool,
}

impl Observer for Stop<'_> {
    fn step(&mut self, _: &StepProgress) {
        // One more may be under way when the flag is raised.
        self.after = self.after.saturating_sub(1);
        self.flag.store(self.after == 0, Ordering::Relaxed);
    }
    fn epoch(&mut self, _: &EpochRecord, _: bool) {}
    fn note(&mut self, _: &str) {}
}

/// Two short epochs of the smallest network.
pub fn recipe(data: &Path) -> Config {
    Config {
        data: Some(data.into()),
        model: "mobilenet_v3_small".into(),
        size: 32,
        epochs: 2,
        batch: 8,
        ..Config::default()
    }
}

/// A new run.
pub fn begin(config: &Config, out: &Path, workers: usize) -> Session {
    begin_on(&Cpu::new(1 << 30), config, out, workers)
}

/// A new run on `device`.
pub fn begin_on(device: &Arc<dyn Device>, config: &Config, out: &Path, workers: usize) -> Session {
    let folder = RunFolder::create(out, false).unwrap();
    Session::begin(config.clone(), folder, device, workers).unwrap().0
}

/// Trains until `steps` steps are done, or to the end and through the final evaluation.
pub fn go_on(mut session: Session, steps: usize) -> Outcome {
    let flag = AtomicBool::new(false);
    let outcome = session.train(&mut Stop { after: steps, flag: &flag }, &flag).unwrap();
    if outcome == Outcome::Complete {
        session.finish(&[], &[], &flag).unwrap().unwrap();
    }
    outcome
}

/// The run in `out` once more.
pub fn resume(out: &Path, workers: usize) -> Session {
    resume_on(&Cpu::new(1 << 30), out, workers)
}

/// The run in `out` once more, on `device`.
pub fn resume_on(device: &Arc<dyn Device>, out: &Path, workers: usize) -> Session {
    let folder = RunFolder::resume(out).unwrap();
    Session::resume(&Checkpoint::open(&folder.last()).unwrap(), folder, device, workers).unwrap()
}

/// A whole run that is interrupted after each of these numbers of steps, and resumed with `workers`.
#[track_caller]
pub fn in_parts(config: &Config, out: &Path, pauses: &[usize], workers: usize) {
    let mut session = begin(config, out, 2);
    for &steps in pauses {
        assert_eq!(go_on(session, steps), Outcome::Interrupted);
        session = resume(out, workers);
    }
    assert_eq!(go_on(session, ALL), Outcome::Complete);
}

/// More steps than there are.
pub const ALL: usize = usize::MAX;

/// What a run must reproduce to the byte: all but wall times and the report, which shows them.
pub fn result(out: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut result: Vec<_> =
        ["best.safetensors", "last.safetensors", "predictions.csv", "manifest.csv", "config.toml", "model-card.md"]
            .map(|name| (name.into(), fs::read(out.join(name)).unwrap()))
            .into();
    let history = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let timeless = history.lines().map(|line| {
        let record: EpochRecord = serde_json::from_str(line).unwrap();
        format!("{:?}\n", EpochRecord { seconds: 0.0, joules: None, images_per_second: 0.0, ..record })
    });
    result.push(("metrics.jsonl".into(), timeless.collect::<String>().into_bytes()));
    result
}

/// Panics unless both runs came to the same.
#[track_caller]
pub fn same(a: &Path, b: &Path, what: &str) {
    for ((name, a), (_, b)) in result(a).into_iter().zip(result(b)) {
        assert!(a == b, "{what}: {} differs", name.display());
    }
}
