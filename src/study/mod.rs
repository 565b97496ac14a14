//! The comparison study: does pretraining help on these tasks, by how much, and with how few images?

pub mod outcome;

pub use outcome::{Curve, Metric, Outcome, Status};
