//! One run: trained, going on where it was interrupted, and tested if it is chosen.

use super::{Curve, Metric, Outcome, Pretraining, Run, Status, Study, Watch, claim::Claim};
use crate::{
    Error, Result,
    data::Split,
    device::Device,
    report::EpochRecord,
    train::{Checkpoint, Config, Observer, Prepared, RunFolder, Session, StepProgress, Verified, checkpoint},
};
use sha2::{Digest, Sha256};
use std::{
    collections::{HashMap, hash_map::Entry},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What the runs of one process share: the device, and what has been read once.
pub struct Trainer {
    device: Arc<dyn Device>,
    /// Threads that load images.
    workers: usize,
    /// Lists of images that have been read, without their pixels.
    verified: HashMap<String, Verified>,
    fingerprints: HashMap<String, String>,
    digests: HashMap<PathBuf, String>,
}

/// How far a run is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Its training, for the choice of a learning rate.
    Training,
    /// And its test.
    Test,
}

impl Extent {
    /// Whether an outcome is as far as that.
    pub fn reached(self, outcome: &Outcome) -> bool {
        outcome.status != Status::Trained || self == Extent::Training
    }
}

impl Trainer {
    /// Runs on `device`, with `workers` threads that load images.
    pub fn new(device: Arc<dyn Device>, workers: usize) -> Trainer {
        Trainer { device, workers, verified: HashMap::new(), fingerprints: HashMap::new(), digests: HashMap::new() }
    }

    /// Takes a run as far as `extent`; `None` if halted, everything being saved, or if the claim was lost, nothing more being
    /// saved.
    ///
    /// # Errors
    /// All that keeps the run from its end.
    pub fn run(
        &mut self,
        study: &Study,
        run: &Run,
        extent: Extent,
        claim: &Claim,
        watch: &mut dyn Watch,
    ) -> Result<Option<Outcome>> {
        let folder = study.run_folder(run);
        let config = study.located(run);
        let Some(session) = self.train(&config, &folder, claim, watch)? else { return Ok(None) };
        if claim.is_lost() {
            return Ok(None);
        }
        let mut outcome = study.blank(run, Status::Trained);
        self.fill(&mut outcome, &session)?;
        if let Some(pretraining) = study.pretraining_of(run.cell) {
            let pretraining = Outcome::read(&study.folder.join(pretraining.place()))?;
            outcome.pretraining_seconds = pretraining.map(|outcome| outcome.seconds);
        }
        outcome.write(&folder)?;
        if extent == Extent::Training {
            return Ok(Some(outcome));
        }
        if outcome.test_images == 0 {
            let problem = format!("{} has no test images", session.prepared.dataset.origin);
            return Err(Error::unusable(problem, "a test split in the data, or a share for it: split.test"));
        }
        let Some(outcome) = test(&session, outcome, &Outcome::folder(&run.hash), claim)? else { return Ok(None) };
        outcome.write(&folder)?;
        forget_last(&folder)?;
        Ok(Some(outcome))
    }

    /// Does a pretraining; `None` if halted.
    ///
    /// # Errors
    /// All that keeps it from its end.
    pub fn pretrain(
        &mut self,
        study: &Study,
        pretraining: &Pretraining,
        claim: &Claim,
        watch: &mut dyn Watch,
    ) -> Result<Option<Outcome>> {
        let folder = study.folder.join(pretraining.place());
        let config = study.located_recipe(&pretraining.config);
        let Some(session) = self.train(&config, &folder, claim, watch)? else { return Ok(None) };
        let mut outcome = pretraining.blank(Status::Trained);
        self.fill(&mut outcome, &session)?;
        let Some(outcome) = test(&session, outcome, &pretraining.place(), claim)? else { return Ok(None) };
        outcome.write(&folder)?;
        forget_last(&folder)?;
        Ok(Some(outcome))
    }

    /// Trains by `config` in `folder` to the end; `None` if halted.
    fn train(
        &mut self,
        config: &Config,
        folder: &Path,
        claim: &Claim,
        watch: &mut dyn Watch,
    ) -> Result<Option<Session>> {
        let data = self.verified(config)?.clone();
        if claim.is_lost() {
            return Ok(None);
        }
        let mut session = self.open(data, config, folder)?;
        let outcome = session.train(&mut Listener(watch, claim), &claim.halt)?;
        Ok((outcome == crate::train::Outcome::Complete).then_some(session))
    }

    /// The run in `folder` if it has begun, else a new one.
    fn open(&self, data: Verified, config: &Config, folder: &Path) -> Result<Session> {
        let begun =
            RunFolder::resume_guarded(folder).and_then(|folder| Ok((Checkpoint::open(&folder.last())?, folder)));
        if let Ok((mut checkpoint, folder)) = begun {
            // The study may have been moved since; all else is the same, as the folder's name says.
            let precision = checkpoint.state.config.precision;
            checkpoint.state.config = Config { precision, ..config.clone().resolved()? };
            return Session::resume_on(data, &checkpoint, folder, &self.device, self.workers);
        }
        let folder = RunFolder::guarded(folder)?;
        Ok(Session::begin_on(data, config.clone(), folder, &self.device, self.workers)?.0)
    }

    /// Reads the images of `config`, if that has not been done.
    ///
    /// # Errors
    /// One that cannot be read, unless the recipe skips such.
    pub fn read(&mut self, config: &Config) -> Result<()> {
        self.verified(config).map(drop)
    }

    /// The data of `config`, read at the first call.
    fn verified(&mut self, config: &Config) -> Result<&Verified> {
        let key = Verified::key(config);
        match self.verified.entry(key) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let verified = Verified::read(&config.clone().resolved()?).map_err(|e| match e {
                    Error::Unusable { problem, remedy } => Error::Unusable {
                        problem,
                        remedy: format!("{remedy} (in the file of a study: skip_bad = true in [recipe])"),
                    },
                    other => other,
                })?;
                Ok(entry.insert(verified))
            }
        }
    }

    /// Digest of the data that a run by `config` has today, as [`Outcome::data`].
    ///
    /// # Errors
    /// Data that cannot be used.
    pub fn fingerprint(&mut self, config: &Config) -> Result<String> {
        let Config { split, split_seed, drop_copies, train_fraction, seed, .. } = config;
        let key = format!("{} {split:?} {split_seed:?} {drop_copies} {train_fraction} {seed}", Verified::key(config));
        if let Some(fingerprint) = self.fingerprints.get(&key) {
            return Ok(fingerprint.clone());
        }
        let prepared = Prepared::of(self.verified(config)?.clone(), &config.clone().resolved()?, None)?;
        self.fingerprints.insert(key, prepared.fingerprint.clone());
        Ok(prepared.fingerprint)
    }

    /// Notes what a trained session came to.
    fn fill(&mut self, outcome: &mut Outcome, session: &Session) -> Result<()> {
        let images = |split| session.prepared.dataset.of(Some(split)).count();
        let (state, history) = (&session.state, &session.history);
        let best = state.best.as_ref();
        outcome.metric = Metric::of(state.config.task);
        outcome.curve = Curve::of(state.config.task, history);
        outcome.selected_by = best.and_then(|best| best.value);
        outcome.best_epoch = best.map(|best| best.epoch);
        outcome.train_images = images(Split::Train);
        outcome.test_images = images(Split::Test);
        outcome.seconds = history.iter().map(|record| record.seconds).sum();
        outcome.joules = history.iter().map(|record| record.joules).sum();
        outcome.data = state.data.clone();
        outcome.held_out = Some(session.prepared.held_out());
        outcome.start = state.config.weights.as_deref().map(|path| self.digest(path)).transpose()?;
        Ok(())
    }

    /// Digest of a file, read at the first call.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn digest(&mut self, path: &Path) -> Result<String> {
        if let Some(digest) = self.digests.get(path) {
            return Ok(digest.clone());
        }
        let path = &checkpoint::file_of(path);
        let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        self.digests.insert(path.into(), digest.clone());
        Ok(digest)
    }
}

/// Tests the best weights of a trained session, whose folder below the study's is `place`.
fn test(session: &Session, outcome: Outcome, place: &Path, claim: &Claim) -> Result<Option<Outcome>> {
    let facts = [("task", &outcome.task), ("arm", &outcome.arm), ("run", &outcome.hash)];
    let facts: Vec<_> = facts.map(|(name, value)| (name.to_string(), value.clone())).into();
    let finished = session.finish(&facts, &[], &claim.halt)?.filter(|_| !claim.is_lost());
    Ok(finished.map(|finished| outcome.tested(&finished.summaries, place)))
}

/// Removes what a finished run would be taken up from.
pub fn forget_last(folder: &Path) -> Result<()> {
    for name in ["last.safetensors", "last.json"] {
        let path = folder.join(name);
        if path.exists() {
            fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
    }
    Ok(())
}

/// Passes on what training tells, and whether the run is still this worker's.
struct Listener<'a>(&'a mut dyn Watch, &'a Claim);

impl Observer for Listener<'_> {
    fn step(&mut self, progress: &StepProgress) {
        self.0.step(progress);
    }

    fn epoch(&mut self, record: &EpochRecord, _: bool) {
        self.0.epoch(record);
    }

    fn note(&mut self, _: &str) {}

    fn is_dispossessed(&self) -> bool {
        self.1.is_lost()
    }
}
