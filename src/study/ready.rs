//! Before a worker begins: whether its images can be read, and whether data and weights are still those of the runs that are done.

use super::{CellResults, Outcome, Pretraining, Run, Worker, check::of};
use crate::{Error, Result};
use std::sync::atomic::Ordering;

impl Worker<'_> {
    /// Reads every image of the shard once, and compares data and weights with those of the runs that are done.
    ///
    /// # Errors
    /// An image that cannot be read; data or weights that have changed.
    pub(super) fn ready(&mut self) -> Result<()> {
        for pretraining in self.study.pretrainings_of(self.study.cells_of(self.shard)) {
            self.ready_to_pretrain(&pretraining)?;
        }
        for cell in self.study.cells_of(self.shard) {
            let results = CellResults::read(self.study, cell)?;
            let named = of(format!("the task {}", self.study.tasks[cell.task].name));
            for (i, (run, outcome)) in results.all().enumerate() {
                // The first stands for those of which nothing is known yet.
                if (i == 0 || outcome.is_some()) && !self.interrupt.load(Ordering::Relaxed) {
                    self.ready_to_run(run, outcome.as_ref()).map_err(&named)?;
                }
            }
        }
        Ok(())
    }

    fn ready_to_run(&mut self, run: &Run, outcome: Option<&Outcome>) -> Result<()> {
        let config = self.study.located(run);
        let changed = |what: &str, outcome: &Outcome| Err(changed(what, &format!("the run {}", run.hash), outcome));
        let data = self.trainer.fingerprint(&config)?;
        let Some(outcome) = outcome.filter(|outcome| !outcome.data.is_empty()) else { return Ok(()) };
        if outcome.data != data {
            return changed("data", outcome);
        }
        match (&config.weights, &outcome.start) {
            // Those of a pretraining may have been removed when all was done.
            (Some(path), Some(start)) if path.exists() && self.trainer.digest(path)? != *start => {
                changed("weights", outcome)
            }
            _ => Ok(()),
        }
    }

    /// Reads the images of a pretraining. Where it is done they may be gone, and where another worker has it, that one reads them.
    fn ready_to_pretrain(&mut self, pretraining: &Pretraining) -> Result<()> {
        let study = self.study;
        let outcome = |of: &Pretraining| Outcome::read(&study.folder.join(of.place()));
        if outcome(pretraining)?.is_some() || self.interrupt.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Some(_claim) = self.claims.take(&pretraining.hash, self.interrupt)? else { return Ok(()) };
        let named = of(format!("the pretraining {}", pretraining.name));
        self.trainer.read(&study.located_recipe(&pretraining.config)).map_err(&named)?;
        // The arm is to be the same with every backbone.
        for other in study.all_pretrainings().iter().filter(|other| other.name == pretraining.name) {
            let Some(outcome) = outcome(other)?.filter(|outcome| !outcome.data.is_empty()) else { continue };
            if self.trainer.fingerprint(&study.located_recipe(&other.config)).map_err(&named)? != outcome.data {
                return Err(changed("data", &format!("the pretraining {}", other.hash), &outcome));
            }
        }
        Ok(())
    }
}

fn changed(what: &str, since: &str, outcome: &Outcome) -> Error {
    Error::unusable(
        format!("the {what} have changed since {since} was done: {}", outcome.place()),
        "restore them, or begin the study anew in another folder: --out DIR",
    )
}
