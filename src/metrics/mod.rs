//! How good a network is, from stored per-sample scores only: nothing here runs a network.
//!
//! Each task has its scores and its summary: [`Scores`] and [`Summary`] of one class of several, [`LabelScores`] and
//! [`LabelSummary`] of yes-or-no answers, [`NumberScores`] and [`NumberSummary`] of regression, [`MaskScores`] and
//! [`MaskSummary`] of segmentation, [`ImageScores`] and [`ImageSummary`] of reconstruction. [`Predictions`] and [`Measures`] are whichever it is.

mod bootstrap;
pub mod calibration;
mod classes;
mod images;
mod labels;
pub mod masks;
mod numbers;
mod predictions;
mod ranking;
mod table;

pub(crate) use bootstrap::quantile;
pub use bootstrap::{Interval, Intervals};
pub use classes::{ClassSummary, Confusion, Scores, Summary};
pub use images::{ImageScores, ImageSummary};
pub use labels::{LabelMetrics, LabelScores, LabelSummary};
pub use masks::{MaskCase, MaskScores, MaskSummary, StructureMetrics};
pub use numbers::{Measured, NumberMetrics, NumberScores, NumberSummary};
pub use predictions::{Measures, Predictions};
pub use ranking::RocPoint;
pub use table::{DASH, decimals, images, percent};

/// Up to `k` of `n` samples with the highest `badness`, worst first; the first of equals first.
fn worst_by(n: usize, k: usize, badness: impl Fn(usize) -> f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| badness(b).total_cmp(&badness(a)));
    order.truncate(k);
    order
}

/// For `#[serde(with = ...)]`: JSON has no NaN; it is written as `null` and read back from it.
pub mod nan_as_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes a number, or `null` if it is not finite.
    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(serializer)
    }

    /// Reads a number, or NaN from `null`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}
