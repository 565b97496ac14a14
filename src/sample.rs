//! The small real dataset that the program carries, so that it has something to learn from before a user has.
//! Origin and licences are in `sample/README.md`.

use crate::{Result, data::Dataset};

/// Every image by its path below `sample/`.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/sample.rs"));

/// The sample as a dataset.
///
/// # Errors
/// None, unless the program was built from a broken sample.
pub fn dataset() -> Result<Dataset> {
    Dataset::embedded(include_str!("../sample/index.csv"), FILES)
}
