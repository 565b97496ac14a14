//! How good a classifier is, from stored per-sample scores only: nothing here runs a network.

mod bootstrap;
mod classes;
mod table;

pub use bootstrap::{Interval, Intervals};
pub use classes::{ClassSummary, Confusion, Scores, Summary};
pub use table::{DASH, decimals, percent};

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
