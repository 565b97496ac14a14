//! Tests, intervals and effect sizes for comparing networks: pure functions of numbers, equal to SciPy's where it has them.
//!
//! A comparison of two arms has two sources of chance: the training runs (seeds) and the test cases, which come in groups
//! (patients). [`paired`] counts both; [`rank_tests`] look at the runs alone; [`delong`] and [`bootstrap`] at the cases alone.
//! [`holm`] keeps the error of a whole family of comparisons at its level.

pub mod bootstrap;
mod delong;
mod distributions;
pub mod effects;
mod holm;
mod learning_curve;
mod mean;
mod paired;
pub mod rank_tests;
mod ranks;

pub use bootstrap::{Groups, Interval, quantile};
pub use delong::{Auc, AucDifference};
pub use holm::holm;
pub use learning_curve::{Scale, area_under};
pub use mean::Mean;
pub use paired::{PairedDifference, paired_bootstrap, paired_difference};
pub use rank_tests::{RankSums, SignedRanks};

/// Coverage of every interval of this crate.
pub const LEVEL: f64 = 0.95;
