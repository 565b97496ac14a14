//! Training: from a recipe to a run folder with checkpoints, metrics and a report.
//!
//! [`Session`] is a run in memory. It is begun from a [`Config`] or taken up from a checkpoint, [`Session::train`] takes it
//! epoch by epoch to the end or to an interruption, and [`Session::finish`] evaluates what it kept.

mod averages;
mod card;
pub mod checkpoint;
mod config;
pub mod explain;
mod feed;
mod finish;
mod folder;
mod forecast;
pub mod glob;
mod head;
mod layers;
mod mirrors;
mod objective;
mod optimiser;
mod precision;
mod prepare;
mod pretraining;
pub mod schedule;
mod session;
mod state;
pub mod step;

pub use checkpoint::Checkpoint;
pub use config::{Config, LrFactor};
pub use finish::{Finished, write_predictions};
pub use folder::RunFolder;
pub use forecast::{Forecast, Pace, forecast, pace};
pub use head::Head;
pub use mirrors::Mirrors;
pub use objective::{ClassWeights, Objective};
pub use optimiser::{Optimiser, Optimizer};
pub use precision::Precision;
pub use prepare::{Prepared, Verified, open};
pub use session::Session;
pub use state::{Best, Partial, RunState};

use crate::report::EpochRecord;

/// Hears how training goes.
pub trait Observer {
    /// A step is done.
    fn step(&mut self, progress: &StepProgress);
    /// An epoch is done; `best` if it is the best so far.
    fn epoch(&mut self, record: &EpochRecord, best: bool);
    /// The validation split was looked at after `step` of `steps` steps of an epoch; `best` if it is the best so far.
    fn interim(&mut self, (step, steps): (usize, usize), record: &EpochRecord, best: bool) {
        let _ = (step, steps, record, best);
    }
    /// Something else to tell.
    fn note(&mut self, text: &str);
    /// Whether the run's folder has become another's: nothing is saved any more, and training ends as interrupted.
    fn is_dispossessed(&self) -> bool {
        false
    }
}

/// Where training is after a step.
#[derive(Clone, Copy, Debug)]
pub struct StepProgress {
    /// Epoch under way, from 1.
    pub epoch: u32,
    /// Steps done in it.
    pub step: usize,
    /// Steps in an epoch.
    pub steps: usize,
    /// Images in this step.
    pub images: usize,
    /// Mean training loss of the epoch so far.
    pub loss: f64,
    /// Learning rate of this step.
    pub lr: f64,
}

/// How training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done, or patience ran out.
    Complete,
    /// It was interrupted and can be taken up again.
    Interrupted,
}
