//! The comparison study: does pretraining help on these tasks, by how much, and with how few images?
//!
//! A [`Study`] is declared in a file. Its [`Run`]s follow from it, each named by a digest of its recipe; a [`Worker`] does them
//! one by one, alone or beside others in the same folder, and each leaves an [`Outcome`]. Tables are made of these alone.

mod check;
pub mod claim;
mod comparison;
mod cost;
mod definition;
mod execute;
mod explain;
pub mod outcome;
mod plan;
mod ready;
mod report;
mod run;
pub mod scheduler;
mod tables;

pub use comparison::{Comparison, Summary};
pub use cost::Cost;
pub use definition::{Arm, Named, Start, Study};
pub use execute::{Ended, Worker};
pub use outcome::{Curve, Metric, Outcome, Status};
pub use plan::{Cell, Choice, MOST_RUNS, Pretraining, Run, Shard};
pub use run::{Extent, Trainer};
pub use tables::{CellResults, Results, share};

use crate::{report::EpochRecord, train::StepProgress};

/// Hears how a study goes.
pub trait Watch {
    /// A run is begun or gone on with.
    fn run(&mut self, study: &Study, run: &Run, extent: Extent);
    /// A pretraining is.
    fn pretraining(&mut self, pretraining: &Pretraining);
    /// A step is done.
    fn step(&mut self, progress: &StepProgress);
    /// An epoch is done.
    fn epoch(&mut self, record: &EpochRecord);
    /// A run or pretraining has come to its end.
    fn ended(&mut self, outcome: &Outcome);
}
