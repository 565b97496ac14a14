//! Names of the files that are written for images.

use crate::{Error, Result, data::Record};
use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Component, Path, PathBuf},
};

/// The names in a folder.
pub struct Names<'a> {
    folder: &'a Path,
    /// Whether files that are there may be replaced.
    force: bool,
    /// Folders below which images keep their path.
    roots: &'a [PathBuf],
    /// The images themselves.
    sources: HashSet<PathBuf>,
    taken: HashSet<PathBuf>,
}

impl<'a> Names<'a> {
    /// Those in `folder`, which is made, for `records`, of each of which the files have these `parts` and end in `suffix`. Below
    /// `folder` an image has the path that it has below the first of `roots` that holds it.
    ///
    /// # Errors
    /// A folder that cannot be made; two images that would have one name; a file that would replace one that is there, unless
    /// `force` allows it, or one of the images.
    pub fn new(
        folder: &'a Path,
        force: bool,
        roots: &'a [PathBuf],
        records: &[Record],
        parts: &[Option<&str>],
        suffix: fn(&Record) -> &'static str,
    ) -> Result<Names<'a>> {
        let sources = records.iter().filter_map(|record| record.source.file()?.canonicalize().ok()).collect();
        let names = Names { folder, force, roots, sources, taken: HashSet::new() };
        let mut first: HashMap<PathBuf, &str> = HashMap::new();
        for (record, part) in records.iter().flat_map(|record| parts.iter().map(move |part| (record, part))) {
            let path = names.path(record, *part, suffix(record));
            names.check_free(&path)?;
            if let Some(other) = first.insert(path.clone(), &record.name) {
                return Err(twice(&path, other, &record.name));
            }
        }
        fs::create_dir_all(folder).map_err(|e| Error::io("make the folder", folder, e))?;
        Ok(names)
    }

    /// The file for an image, called like it; with `part` where it has several. Its folder is made.
    ///
    /// # Errors
    /// Another image that has the name; a file that would be replaced, as for [`Names::new`]; a folder that cannot be made.
    pub fn of(&mut self, record: &Record, part: Option<&str>, suffix: &str) -> Result<PathBuf> {
        let path = self.path(record, part, suffix);
        self.check_free(&path)?;
        if !self.taken.insert(path.clone()) {
            return Err(twice(&path, "another image", &record.name));
        }
        let folder = path.parent().expect("it is in a folder");
        fs::create_dir_all(folder).map_err(|e| Error::io("make the folder", folder, e))?;
        Ok(path)
    }

    fn path(&self, record: &Record, part: Option<&str>, suffix: &str) -> PathBuf {
        let part = part.map_or(String::new(), |part| format!("-{part}"));
        let file = record.source.file().unwrap_or(Path::new(""));
        let below = self.roots.iter().find_map(|root| file.strip_prefix(root).ok()?.parent());
        // A table may name images beside its folder.
        let below = below.unwrap_or(Path::new("")).components().filter(|part| matches!(part, Component::Normal(_)));
        self.folder.join(below.collect::<PathBuf>()).join(format!("{}{part}.{suffix}", record.stem()))
    }

    fn check_free(&self, path: &Path) -> Result<()> {
        match path.canonicalize() {
            Ok(there) if self.sources.contains(&there) => {
                let problem = format!("{} is one of the images and would be replaced", path.display());
                Err(Error::unusable(problem, "another output folder"))
            }
            Ok(_) if !self.force && !self.taken.contains(path) => Err(Error::unusable(
                format!("{} is already there", path.display()),
                "another output folder, or --force",
            )),
            _ => Ok(()),
        }
    }
}

fn twice(path: &Path, a: &str, b: &str) -> Error {
    let problem = format!("{a} and {b} would both be written to {}", path.display());
    Error::unusable(
        problem,
        "the folder above them, whose folders are kept; or a call for each, with an output folder of its own",
    )
}
