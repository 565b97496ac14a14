//! A file of weights, read.

use super::{Listing, Tensors};
use crate::Result;
use std::path::{Path, PathBuf};

/// A file of weights, read.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The file.
    pub path: PathBuf,
    /// Its tensors.
    pub tensors: Tensors,
    /// The state that [`super::encode`] was given; `None` in a file that another program wrote.
    pub state: Option<String>,
}

impl Archive {
    /// Reads a file of any format of [`super::Format`].
    ///
    /// # Errors
    /// As [`Listing::open`] and [`Listing::read`].
    pub fn read(path: &Path) -> Result<Archive> {
        Listing::open(path)?.read()
    }
}
