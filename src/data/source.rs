//! What a dataset is: records with a label, from a folder, a CSV or the program itself.

use super::{
    decode::Gray,
    folder,
    intensity::Intensity,
    metaimage,
    resize::{fit, fit_plain},
    scan::Scan,
    table,
};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    fmt, fs,
    path::{Path, PathBuf},
};

/// Which part of the data a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Weights are fitted to these.
    Train,
    /// Settings and the best checkpoint are chosen on these.
    Validation,
    /// Looked at once, at the end.
    Test,
}

impl Split {
    /// All three, in order.
    pub const ALL: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

    /// `train`, `validation` or `test`, as in manifests.
    pub fn name(self) -> &'static str {
        ["train", "validation", "test"][self as usize]
    }

    /// The split that a word means, in the usual spellings and any case: `train(ing)`, `val(id)(ation)`, `dev`,
    /// `test(ing)`.
    pub fn parse(word: &str) -> Option<Split> {
        match word.trim().to_lowercase().as_str() {
            "train" | "training" => Some(Split::Train),
            "val" | "valid" | "validation" | "dev" => Some(Split::Validation),
            "test" | "testing" => Some(Split::Test),
            _ => None,
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where the bytes of an image are.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// In a file; of several frames, it is the middle one.
    File(PathBuf),
    /// A frame of a file, counted from 0.
    Frame(PathBuf, usize),
    /// In the program.
    Embedded(&'static [u8]),
}

impl Source {
    /// The image that a path names: a file, or `FILE#N` for its frame `N`, unless there is a file called so.
    pub fn of_path(path: &Path) -> Source {
        let frame = || {
            let (file, number) = path.to_str()?.rsplit_once('#')?;
            Some(Source::Frame(file.into(), number.parse().ok()?))
        };
        frame().filter(|_| !path.is_file()).unwrap_or_else(|| Source::File(path.into()))
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Source::File(path) | Source::Frame(path, _) => Some(path),
            Source::Embedded(_) => None,
        }
    }

    /// The bytes of the image file; a MetaImage comes with its data.
    pub fn read(&self) -> Result<Cow<'static, [u8]>> {
        match self {
            Source::File(path) | Source::Frame(path, _) => {
                let bytes = fs::read(path).and_then(|bytes| metaimage::with_data(path, bytes));
                bytes.map(Cow::Owned).map_err(|e| Error::io("read", path, e))
            }
            Source::Embedded(bytes) => Ok(Cow::Borrowed(bytes)),
        }
    }

    /// The gray image in the `bytes` of its file, at its own size. `name` is how the errors call it.
    pub fn decode(&self, bytes: &[u8], name: &str, intensity: Intensity) -> Result<Gray> {
        let scan = Scan::open(bytes, name)?;
        let index = match self {
            Source::Frame(_, index) => *index,
            _ => scan.middle(),
        };
        scan.frame(index)?.render(intensity, name)
    }

    /// The gray image, read, scaled and padded to a square of `size`.
    pub fn fitted(&self, name: &str, size: usize, intensity: Intensity) -> Result<Gray> {
        let gray = self.decode(&self.read()?, name, intensity)?;
        Ok(if intensity.antialias() { fit(&gray, size) } else { fit_plain(&gray, size) })
    }
}

/// SHA-256 digests that tell one image from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of the file's bytes.
    pub file: [u8; 32],
    /// Of the decoded size and gray values: the same for copies saved with another header or compression level.
    pub pixels: [u8; 32],
}

/// One labelled image.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Path relative to the dataset, with `/`; unique. Used in manifests and predictions.
    pub name: String,
    /// Index into [`Dataset::classes`].
    pub label: u32,
    /// What must not straddle splits, say a patient.
    pub group: Option<String>,
    /// The split given by the dataset or by [`super::split::assign`].
    pub split: Option<Split>,
    /// Where the image is.
    pub source: Source,
    /// Known after [`Dataset::verify`].
    pub fingerprint: Option<Fingerprint>,
}

impl Record {
    /// The bytes of the image file.
    pub fn read(&self) -> Result<Cow<'static, [u8]>> {
        self.source.read()
    }

    /// The gray image at its own size. Errors name the file.
    pub fn decode(&self, intensity: Intensity) -> Result<Gray> {
        self.source.decode(&self.read()?, &self.location(), intensity)
    }

    /// The gray image as a square of `size`. Errors name the file.
    pub fn fitted(&self, size: usize, intensity: Intensity) -> Result<Gray> {
        self.source.fitted(&self.location(), size, intensity)
    }

    /// How messages call the file: its path, or its name within the embedded sample.
    pub fn location(&self) -> String {
        match &self.source {
            Source::File(path) => path.display().to_string(),
            Source::Frame(path, index) => format!("{}#{index}", path.display()),
            Source::Embedded(_) => format!("{} (embedded)", self.name),
        }
    }
}

/// A record that was left out, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Skipped {
    /// [`Record::name`].
    pub name: String,
    /// The error that reading it gave.
    pub reason: String,
}

/// Labelled images and the names of their classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The folder or CSV it was read from, or `embedded sample`.
    pub origin: String,
    /// Class names in byte order; a label is an index into them.
    pub classes: Vec<String>,
    /// In byte order of the names.
    pub records: Vec<Record>,
    /// Files found in the folders that are no images; always 0 for a CSV.
    pub ignored: usize,
}

/// A record as a folder or a table lists it, before classes have numbers.
pub(super) struct Listed {
    pub name: String,
    pub label: String,
    pub group: Option<String>,
    pub split: Option<Split>,
    pub source: Source,
}

impl Dataset {
    /// Opens what `path` names:
    ///
    /// - a folder with one folder per class; in each, at any depth, the files that [`super::is_image_file`] takes for
    ///   images are; hidden files are passed over, others are counted in [`Dataset::ignored`];
    /// - a folder with such a folder per split, say `Training/` and `Testing/` (spellings of [`Split::parse`]);
    /// - a CSV file with the columns `path,label[,group][,split][,frame]`, paths relative to the CSV's folder. A path
    ///   `FILE#N`, or a column `frame` (or `slice`), says which frame of a volume it is; without, it is the middle one.
    ///
    /// No image is read yet, see [`Dataset::verify`]. Errors: nothing there, no images, an empty class, fewer than two
    /// classes; in a CSV, with its line: a missing column, an unknown or repeated path, an unknown split, an empty label.
    pub fn open(path: &Path) -> Result<Dataset> {
        let origin = path.display().to_string();
        let (listed, ignored) = match fs::metadata(path) {
            Err(e) => {
                return Err(Error::unusable(
                    format!("cannot open the dataset {origin}: {e}"),
                    "give a folder of class folders, or a CSV with the columns path,label",
                ));
            }
            Ok(found) if found.is_dir() => folder::list(path)?,
            Ok(_) => (table::list_file(path)?, 0),
        };
        Dataset::from_listed(origin, listed, ignored)
    }

    /// A dataset inside the program: `csv` as in [`Dataset::open`], with paths that name entries of `files`.
    pub fn embedded(csv: &str, files: &'static [(&'static str, &'static [u8])]) -> Result<Dataset> {
        Dataset::from_listed("embedded sample".into(), table::list_embedded(csv, files)?, 0)
    }

    fn from_listed(origin: String, mut listed: Vec<Listed>, ignored: usize) -> Result<Dataset> {
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        let mut classes: Vec<String> = listed.iter().map(|l| l.label.clone()).collect();
        classes.sort();
        classes.dedup();
        match classes.as_slice() {
            [] => {
                return Err(Error::unusable(format!("{origin} lists no images"), "add images in at least two classes"));
            }
            [only] => {
                return Err(Error::unusable(
                    format!("{origin} has only one class, {only:?}, so there is nothing to tell apart"),
                    "add a second class, or give the folder above if this is one class of several",
                ));
            }
            _ => {}
        }
        let record = |l: Listed| Record {
            label: classes.binary_search(&l.label).expect("every label is a class") as u32,
            name: l.name,
            group: l.group,
            split: l.split,
            source: l.source,
            fingerprint: None,
        };
        let records = listed.into_iter().map(record).collect();
        Ok(Dataset { origin, classes, records, ignored })
    }

    /// The records of one split, in order.
    pub fn subset(&self, split: Split) -> Vec<Record> {
        self.records.iter().filter(|r| r.split == Some(split)).cloned().collect()
    }

    /// Number of records per class, over all splits or in one.
    pub fn class_counts(&self, split: Option<Split>) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for record in self.records.iter().filter(|r| split.is_none() || r.split == split) {
            counts[record.label as usize] += 1;
        }
        counts
    }
}
