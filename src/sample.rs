//! The small real dataset that the program carries, so that it has something to learn from before a user has.
//! Origin and licences are in `sample/README.md`.

use crate::{
    Result,
    data::{Columns, Dataset},
    task::Task,
};

/// Every image by its path below `sample/`.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/sample.rs"));

/// The sample as a dataset of classes.
///
/// # Errors
/// None, unless the program was built from a broken sample.
pub fn dataset() -> Result<Dataset> {
    dataset_for(Task::MultiClass, &Columns::default())
}

/// The sample for `task`, with the columns that `columns` names.
///
/// # Errors
/// A column that it does not have, or no row that is asked for.
pub fn dataset_for(task: Task, columns: &Columns) -> Result<Dataset> {
    Dataset::embedded(include_str!("../sample/index.csv"), FILES, task, columns)
}
