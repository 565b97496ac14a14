//! A worker: does the runs of its shard that nobody else does, until none is left.

use super::{
    Cell, Choice, Outcome, Pretraining, Run, Shard, Status, Study, Watch,
    claim::{Claim, Claims},
    run::{Extent, Trainer, forget_last},
};
use crate::{Error, Result, files::write_atomic};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Time between looks at what others are doing.
const WAIT: Duration = Duration::from_millis(500);

/// How a worker came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All runs of its shard are done, by whomever.
    Complete,
    /// It was interrupted and can be started again.
    Interrupted,
}

/// A worker on one shard of a study.
pub struct Worker<'a> {
    pub(super) study: &'a Study,
    pub(super) shard: Shard,
    pub(super) trainer: Trainer,
    pub(super) claims: Claims,
    watch: &'a mut dyn Watch,
    pub(super) interrupt: &'a Arc<AtomicBool>,
}

/// How a step of the work went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is done.
    Done,
    /// Somebody else does it, or something that it needs.
    Elsewhere,
    /// It was interrupted.
    Interrupted,
}

impl<'a> Worker<'a> {
    /// A worker on `shard` of `study`. A claim without sign of life for `stale` is taken over.
    ///
    /// # Errors
    /// A folder that cannot be made or written.
    pub fn new(
        study: &'a Study,
        shard: Shard,
        stale: Duration,
        trainer: Trainer,
        watch: &'a mut dyn Watch,
        interrupt: &'a Arc<AtomicBool>,
    ) -> Result<Worker<'a>> {
        let claims = Claims::new(&study.folder.join("claims"), stale)?;
        study.note_shard(shard)?;
        Ok(Worker { study, shard, trainer, claims, watch, interrupt })
    }

    /// Works until nothing of the shard is left to do.
    ///
    /// # Errors
    /// A full disk, a failing device, a folder or an image that cannot be used: what would make every run fail. Data or weights
    /// that have changed since runs that are done. Nothing is lost, and the worker can be started again.
    pub fn work(&mut self) -> Result<Ended> {
        self.ready()?;
        let mut open: Vec<Cell> = self.study.cells_of(self.shard).collect();
        loop {
            let mut left = vec![];
            for cell in open {
                match self.cell(cell)? {
                    Step::Done => {}
                    Step::Elsewhere => left.push(cell),
                    Step::Interrupted => return Ok(Ended::Interrupted),
                }
            }
            if left.is_empty() {
                return Ok(Ended::Complete);
            }
            open = left;
            thread::sleep(WAIT);
        }
    }

    /// Forgets the failures of the shard, so that these runs are done again.
    ///
    /// # Errors
    /// A file that cannot be read or removed.
    pub fn retry(&self) -> Result<()> {
        for cell in self.study.cells_of(self.shard) {
            let pretraining = self.study.pretraining_of(cell).map(|p| self.study.folder.join(p.place()));
            let runs = self.study.grid(cell).map(|run| self.study.run_folder(&run));
            for folder in pretraining.into_iter().chain(runs) {
                if let Some(Outcome { status: Status::Failed(_), .. }) = Outcome::read(&folder)? {
                    Outcome::remove(&folder)?;
                }
            }
        }
        Ok(())
    }

    /// Takes a cell as far as it goes now: its pretraining, its candidates, its runs.
    fn cell(&mut self, cell: Cell) -> Result<Step> {
        if let Some(pretraining) = self.study.pretraining_of(cell) {
            match self.pretraining(&pretraining)? {
                Step::Done => {}
                other => return Ok(other),
            }
            if let Some(reason) = self.failure_of(&pretraining)? {
                return self.fail_cell(cell, &reason);
            }
        }
        if self.study.learning_rates.len() > 1 {
            let candidates: Vec<Run> = self.study.candidates(cell).collect();
            match self.all(&candidates, Extent::Training)? {
                Step::Done => {}
                other => return Ok(other),
            }
        }
        let lr = match self.study.choice(cell)? {
            Choice::Rate(lr) => lr,
            Choice::Failed(_) => return Ok(Step::Done),
            Choice::Open => return Ok(Step::Elsewhere),
        };
        let runs: Vec<Run> = self.study.seeds.iter().map(|&seed| self.study.run(cell, lr, seed)).collect();
        let step = self.all(&runs, Extent::Test)?;
        if step == Step::Done {
            // Nothing is taken up from the candidates that were not chosen.
            self.study.candidates(cell).try_for_each(|run| forget_last(&self.study.run_folder(&run)))?;
        }
        Ok(step)
    }

    fn all(&mut self, runs: &[Run], extent: Extent) -> Result<Step> {
        let mut all = Step::Done;
        for run in runs {
            match self.attempt(run, extent)? {
                Step::Interrupted => return Ok(Step::Interrupted),
                Step::Elsewhere => all = Step::Elsewhere,
                Step::Done => {}
            }
        }
        Ok(all)
    }

    /// Does a run, unless it is done or somebody else does it.
    fn attempt(&mut self, run: &Run, extent: Extent) -> Result<Step> {
        let folder = self.study.run_folder(run);
        self.under_claim(
            &run.hash,
            &folder,
            |outcome| extent.reached(outcome),
            |worker, claim| {
                worker.trainer.read(&worker.study.located(run))?;
                worker.watch.run(worker.study, run, extent);
                let done = worker.trainer.run(worker.study, run, extent, claim, worker.watch);
                worker.settle(done, claim, &folder, worker.study.blank(run, Status::Trained))
            },
        )
    }

    fn pretraining(&mut self, pretraining: &Pretraining) -> Result<Step> {
        let folder = self.study.folder.join(pretraining.place());
        self.under_claim(
            &pretraining.hash,
            &folder,
            |_| true,
            |worker, claim| {
                worker.trainer.read(&worker.study.located_recipe(&pretraining.config))?;
                worker.watch.pretraining(pretraining);
                let done = worker.trainer.pretrain(worker.study, pretraining, claim, worker.watch);
                worker.settle(done, claim, &folder, pretraining.blank(Status::Trained))
            },
        )
    }

    /// Does `work` under a claim to `name`, unless the outcome in `folder` has `reached` what is wanted.
    fn under_claim(
        &mut self,
        name: &str,
        folder: &Path,
        reached: impl Fn(&Outcome) -> bool,
        work: impl FnOnce(&mut Self, &Claim) -> Result<Step>,
    ) -> Result<Step> {
        let is_done = || Ok::<_, Error>(Outcome::read(folder)?.is_some_and(|outcome| reached(&outcome)));
        if is_done()? {
            return Ok(Step::Done);
        }
        if self.interrupt.load(Ordering::Relaxed) {
            return Ok(Step::Interrupted);
        }
        let Some(claim) = self.claims.take(name, self.interrupt)? else { return Ok(Step::Elsewhere) };
        if is_done()? { Ok(Step::Done) } else { work(self, &claim) }
    }

    /// What an attempt came to: an outcome, an interruption, or a failure, which is put on record unless it is one of the machine:
    /// beside what was known of the run before, or else is in `blank`.
    fn settle(&mut self, done: Result<Option<Outcome>>, claim: &Claim, folder: &Path, blank: Outcome) -> Result<Step> {
        let outcome = match done {
            Ok(Some(outcome)) => outcome,
            Ok(None) if self.interrupt.load(Ordering::Relaxed) => return Ok(Step::Interrupted),
            Ok(None) => return Ok(Step::Elsewhere),
            // Two workers on one run may have been in each other's way.
            Err(_) if claim.is_lost() => return Ok(Step::Elsewhere),
            Err(e @ (Error::Full(_) | Error::Device(_))) => return Err(e),
            Err(e) => {
                let known = Outcome::read(folder)?.unwrap_or(blank);
                let outcome = Outcome { status: Status::Failed(e.to_string()), ..known };
                std::fs::create_dir_all(folder).map_err(|e| Error::io("make the folder", folder, e))?;
                outcome.write(folder)?;
                outcome
            }
        };
        self.watch.ended(&outcome);
        Ok(Step::Done)
    }

    fn failure_of(&self, pretraining: &Pretraining) -> Result<Option<String>> {
        Ok(match Outcome::read(&self.study.folder.join(pretraining.place()))? {
            Some(Outcome { status: Status::Failed(reason), .. }) => {
                Some(format!("the pretraining {} failed: {reason}", pretraining.name))
            }
            _ => None,
        })
    }

    /// Puts on record that no run of a cell can be done.
    fn fail_cell(&mut self, cell: Cell, reason: &str) -> Result<Step> {
        let lr = self.study.learning_rates[0];
        let candidates: Vec<Run> = self.study.candidates(cell).collect();
        let seeds: Vec<Run> = self.study.seeds.iter().map(|&seed| self.study.run(cell, lr, seed)).collect();
        let mut step = Step::Done;
        for run in candidates.iter().chain(&seeds) {
            let folder = self.study.run_folder(run);
            let failed = self.under_claim(
                &run.hash,
                &folder,
                |_| true,
                |worker, claim| {
                    let done = Err(Error::unusable(reason, "put that right, then --retry"));
                    worker.settle(done, claim, &folder, worker.study.blank(run, Status::Trained))
                },
            )?;
            step = if failed == Step::Done { step } else { failed };
        }
        Ok(step)
    }
}

impl Study {
    /// Every run that a cell may come to: all learning rates under all seeds.
    pub fn grid(&self, cell: Cell) -> impl Iterator<Item = Run> + '_ {
        let seeds = move |lr| self.seeds.iter().map(move |&seed| self.run(cell, lr, seed));
        self.learning_rates.iter().flat_map(move |&lr| seeds(lr))
    }

    /// Leaves word that a shard has been begun.
    fn note_shard(&self, shard: Shard) -> Result<()> {
        let folder = self.folder.join("shards");
        std::fs::create_dir_all(&folder).map_err(|e| Error::io("make the folder", &folder, e))?;
        write_atomic(&folder.join(format!("{}-of-{}", shard.number, shard.of)), b"")
    }
}
