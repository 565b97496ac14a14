//! Names of the files that are written for images.

use crate::{Error, Result, data::Record};
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

/// The names in a folder.
pub struct Names<'a> {
    folder: &'a Path,
    taken: HashSet<PathBuf>,
}

impl<'a> Names<'a> {
    /// Those in `folder`, which is made.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn new(folder: &'a Path) -> Result<Names<'a>> {
        fs::create_dir_all(folder).map_err(|e| Error::io("make the folder", folder, e))?;
        Ok(Names { folder, taken: HashSet::new() })
    }

    /// The file for an image, called like it; with `part` where it has several.
    ///
    /// # Errors
    /// Another image that has the name.
    pub fn of(&mut self, record: &Record, part: Option<&str>, suffix: &str) -> Result<PathBuf> {
        let part = part.map_or(String::new(), |part| format!("-{part}"));
        let path = self.folder.join(format!("{}{part}.{suffix}", record.stem()));
        if self.taken.insert(path.clone()) {
            return Ok(path);
        }
        let problem = format!("{} of {} would replace that of another image", path.display(), record.name);
        Err(Error::unusable(problem, "a call for each folder of images, with an output folder of its own"))
    }
}
