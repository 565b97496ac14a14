//! What a dataset is: records with a label, from a folder, a CSV or the program itself.

use super::{
    decode::Gray,
    folder,
    intensity::Intensity,
    metaimage,
    resize::{fit, fit_plain},
    scan::{Facts, Scan},
    table,
    table::Columns,
};
use crate::{Error, Result, task::Task};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    collections::HashMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
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
    /// In memory, made from a part of a file.
    Memory(Arc<[u8]>),
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
            Source::Embedded(_) | Source::Memory(_) => None,
        }
    }

    /// The bytes of the image file; a MetaImage comes with its data.
    pub fn read(&self) -> Result<Cow<'static, [u8]>> {
        match self {
            Source::File(path) | Source::Frame(path, _) => {
                // A pipe or a device may never end.
                if path.metadata().is_ok_and(|facts| !facts.is_file()) {
                    return Err(Error::unusable(format!("{} is no file", path.display()), "the path of an image"));
                }
                let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
                let bytes = metaimage::with_data(path, bytes).map_err(|(data, e)| Error::io("read", &data, e))?;
                Ok(Cow::Owned(bytes))
            }
            Source::Embedded(bytes) => Ok(Cow::Borrowed(bytes)),
            Source::Memory(bytes) => Ok(Cow::Owned(bytes.to_vec())),
        }
    }

    /// The gray image in the `bytes` of its file, at its own size. `name` is how the errors call it.
    pub fn decode(&self, bytes: &[u8], name: &str, intensity: Intensity) -> Result<Gray> {
        let scan = Scan::open(bytes, name)?;
        scan.frame(self.index(&scan))?.render(intensity, name)
    }

    /// The size of the image, and its place in its file.
    pub(super) fn extent(&self, scan: &Scan) -> Extent {
        let &Facts { width, height, frames, slices, .. } = scan.facts();
        Extent { width, height, frames, slices, frame: self.index(scan) }
    }

    /// Which frame of its file it is.
    fn index(&self, scan: &Scan) -> usize {
        match self {
            Source::Frame(_, index) => *index,
            _ => scan.middle(),
        }
    }

    /// The gray image, read, scaled and padded to a square of `size`.
    pub fn fitted(&self, name: &str, size: usize, intensity: Intensity) -> Result<Gray> {
        let gray = self.decode(&self.read()?, name, intensity)?;
        Ok(if intensity.antialias() { fit(&gray, size) } else { fit_plain(&gray, size) })
    }

    /// How messages call it: its path, or `name` within the embedded sample.
    fn location(&self, name: &str) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::Frame(path, index) => format!("{}#{index}", path.display()),
            Source::Embedded(_) => format!("{name} (embedded)"),
            Source::Memory(_) => name.into(),
        }
    }
}

/// The size of an image, and its place among the frames of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Frames of the file.
    pub frames: usize,
    /// Those of one of its volumes.
    pub slices: usize,
    /// Which of the frames it is, counted from 0.
    pub frame: usize,
}

/// SHA-256 digests that tell one image from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of the bytes of the file and of its masks.
    pub file: [u8; 32],
    /// Of the decoded size and gray values: the same for copies saved with another header or compression level.
    pub pixels: [u8; 32],
}

/// What is true of an image.
#[derive(Clone, Debug, PartialEq)]
pub enum Truth {
    /// An index into [`Dataset::classes`].
    Class(u32),
    /// A number for each of [`Dataset::classes`]; of a label 1 if it applies, else 0.
    Numbers(Vec<f32>),
    /// The masks of each of [`Dataset::classes`]; none where nothing is known.
    Masks(Vec<Raters>),
}

/// The masks that one or more raters drew of a structure, as images of the size of theirs.
#[derive(Clone, Debug, PartialEq)]
pub struct Raters {
    /// One mask a rater.
    pub masks: Vec<Source>,
    /// How many raters must have marked a pixel for it to belong to the structure.
    pub agree: usize,
}

/// One labelled image.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Path relative to the dataset, with `/`; unique. Used in manifests and predictions.
    pub name: String,
    /// What is true of it.
    pub truth: Truth,
    /// A number for each of [`Dataset::inputs`].
    pub inputs: Vec<f32>,
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

    /// The size of the image and its place in its file, as the header has them.
    pub fn extent(&self) -> Result<Extent> {
        let (bytes, location) = (self.read()?, self.location());
        Ok(self.source.extent(&Scan::open(&bytes, &location)?))
    }

    /// The name of its file without folders and suffix, with the number of its frame if it is one of several.
    pub fn stem(&self) -> String {
        match &self.source {
            Source::File(path) => folder::stem(path),
            Source::Frame(path, index) => format!("{}-{index}", folder::stem(path)),
            Source::Embedded(_) | Source::Memory(_) => folder::stem(Path::new(&self.name)),
        }
    }

    /// How messages call the file: its path, or its name within the embedded sample.
    pub fn location(&self) -> String {
        self.source.location(&self.name)
    }

    /// Its class; 0 where its truth is not one.
    pub fn label(&self) -> u32 {
        match self.truth {
            Truth::Class(class) => class,
            _ => 0,
        }
    }

    /// The files of all its masks.
    pub fn mask_sources(&self) -> impl Iterator<Item = &Source> {
        let raters = if let Truth::Masks(raters) = &self.truth { &raters[..] } else { &[] };
        raters.iter().flat_map(|raters| &raters.masks)
    }

    /// What the raters agree on: `[height, width, structures]` of 0 and 1; empty where the truth is no mask. Which
    /// pixels are marked tells [`super::Frame::marked`]. Of a file with several masks it is the one of the same number as the
    /// image ([`Record::extent`]) in its own file, or in its own volume if the masks are those of one, unless the path
    /// says another.
    ///
    /// # Errors
    /// A mask that cannot be read, has another size than its image, or is in a file with another number of frames.
    pub fn mask(&self, of: Extent) -> Result<Vec<u8>> {
        let Truth::Masks(structures) = &self.truth else { return Ok(vec![]) };
        let Extent { width, height, frames, slices, frame } = of;
        let k = structures.len();
        let mut mask = vec![0; width * height * k];
        for (c, raters) in structures.iter().enumerate() {
            let mut votes = vec![0; width * height];
            for source in &raters.masks {
                let location = source.location(&self.name);
                let bytes = source.read()?;
                let scan = Scan::open(&bytes, &location)?;
                let drawn = scan.facts();
                if (drawn.width, drawn.height) != (width, height) {
                    return Err(Error::unusable(
                        format!("{location} is {} x {}, its image {width} x {height}", drawn.width, drawn.height),
                        "masks of the size of their images",
                    ));
                }
                let index = match (source, drawn.frames) {
                    (Source::Frame(_, index), _) => *index,
                    (_, 1) => 0,
                    (_, n) if n == frames => frame,
                    (_, n) if n == slices => frame % slices,
                    (_, n) => {
                        return Err(Error::unusable(
                            format!("{location} has {n} frames, the file of its image {frames}"),
                            "a mask for each frame of the image, or FILE#N for the mask in frame N",
                        ));
                    }
                };
                let marked = scan.marked(index)?;
                votes.iter_mut().zip(marked).for_each(|(votes, marked)| *votes += usize::from(marked));
            }
            let agreed = votes.into_iter().map(|votes| u8::from(votes >= raters.agree));
            mask.iter_mut().skip(c).step_by(k).zip(agreed).for_each(|(mask, agreed)| *mask = agreed);
        }
        Ok(mask)
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

/// Labelled images and the names of what they are labelled with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    /// The folder or CSV it was read from, or `embedded sample`.
    pub origin: String,
    /// What the labels are for.
    pub task: Task,
    /// Names of the classes, labels, numbers or structures. Classes are in byte order, but for the positive one of two, which
    /// comes last if it was named.
    pub classes: Vec<String>,
    /// Names of the numbers that the network is given beside the image.
    pub inputs: Vec<String>,
    /// In byte order of the names.
    pub records: Vec<Record>,
    /// Files found in the folders that are no images, or masks of none; always 0 for a CSV.
    pub ignored: usize,
    /// The classes that [`Dataset::drop_small_classes`] took out, and their images.
    pub dropped: Vec<(String, usize)>,
}

/// A record as a folder or a table lists it, before classes have numbers.
pub(super) struct Listed {
    pub name: String,
    pub truth: ListedTruth,
    pub inputs: Vec<f32>,
    pub group: Option<String>,
    pub split: Option<Split>,
    pub source: Source,
}

/// What is true of an image, in words.
pub(super) enum ListedTruth {
    Class(String),
    /// The labels that apply.
    Labels(Vec<String>),
    /// A number for each of the names.
    Numbers(Vec<f32>),
    /// Masks for each of the names.
    Masks(Vec<Raters>),
}

/// What was listed; `names` of labels, numbers or structures, if the listing gives them.
pub(super) struct Listing {
    pub origin: String,
    pub task: Task,
    pub names: Vec<String>,
    pub listed: Vec<Listed>,
    pub ignored: usize,
}

impl Dataset {
    /// Opens what `path` names for classification, with the columns of [`Columns::default`]; see [`Dataset::open_for`].
    pub fn open(path: &Path) -> Result<Dataset> {
        Dataset::open_for(Task::MultiClass, path, &Columns::default())
    }

    /// Opens what `path` names:
    ///
    /// - a folder with one folder per class; in each, at any depth, the files that [`super::is_image_file`] takes for
    ///   images are; hidden files are passed over, others are counted in [`Dataset::ignored`];
    /// - for segmentation a folder with `images/` and `masks/` (or one folder `mask…/` a rater) that hold files of the same
    ///   names but for their suffixes;
    /// - a folder with such a folder per split, say `Training/` and `Testing/` (spellings of [`Split::parse`]);
    /// - a CSV file with the columns that `columns` names, paths relative to the CSV's folder. A path `FILE#N`, or a column
    ///   `frame` (or `slice`), says which frame of a volume it is; without, it is the middle one.
    ///
    /// No image is read yet, see [`Dataset::verify`]. Errors: nothing there, no images, an empty class, fewer than two
    /// classes, or not two for a binary task; in a CSV, with its line: a missing column, an unknown or repeated path, an
    /// unknown split, an empty label, what is no number.
    pub fn open_for(task: Task, path: &Path, columns: &Columns) -> Result<Dataset> {
        let origin = path.display().to_string();
        let listing = match fs::metadata(path) {
            Err(e) => {
                return Err(Error::unusable(
                    format!("cannot open the dataset {origin}: {e}"),
                    "give a folder of class folders, or a CSV with the columns path,label",
                ));
            }
            Ok(found) if found.is_dir() => folder::list(task, path, columns)?,
            Ok(_) => table::list_file(task, path, columns)?,
        };
        Dataset::from_listing(listing, columns)
    }

    /// The images that the CSV at `path` lists, whatever is true of them: of `columns` only path, frame and inputs count.
    ///
    /// # Errors
    /// As [`Dataset::open_for`] of a CSV.
    pub fn unlabelled(path: &Path, columns: &Columns) -> Result<Vec<Record>> {
        let Columns { path: image, frame, inputs, .. } = columns.clone();
        let columns = Columns { path: image, frame, inputs, target: vec![], ..Columns::default() };
        let listing = table::list_file(Task::Reconstruction, path, &columns)?;
        Ok(Dataset::from_listing(listing, &columns)?.records)
    }

    /// A dataset inside the program: `csv` as in [`Dataset::open_for`], with paths that name entries of `files`.
    pub fn embedded(
        csv: &str,
        files: &'static [(&'static str, &'static [u8])],
        task: Task,
        columns: &Columns,
    ) -> Result<Dataset> {
        Dataset::from_listing(table::list_embedded(csv, files, task, columns)?, columns)
    }

    pub(super) fn from_listing(listing: Listing, columns: &Columns) -> Result<Dataset> {
        let Listing { origin, task, names, mut listed, ignored } = listing;
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        if listed.is_empty() {
            return Err(Error::unusable(
                format!("{origin} lists no images"),
                "check that it is laid out as the task wants it (README)",
            ));
        }
        let mut classes: Vec<String> = names;
        for l in &listed {
            match &l.truth {
                ListedTruth::Class(class) => classes.push(class.clone()),
                ListedTruth::Labels(labels) => classes.extend(labels.iter().cloned()),
                ListedTruth::Numbers(_) | ListedTruth::Masks(_) => {}
            }
        }
        if task.counts_classes() || task == Task::MultiLabel {
            classes.sort();
            classes.dedup();
        }
        check_classes(task, &origin, &classes)?;
        if let Some(positive) = &columns.positive {
            let at = classes.iter().position(|class| class == positive).ok_or_else(|| {
                let problem = format!("{origin} has no class {positive:?} to be the positive one");
                Error::unusable(problem, format!("one of: {}", classes.join(", ")))
            })?;
            classes[at..].rotate_left(1);
        }
        let class = |name: &String| classes.iter().position(|class| class == name).expect("every label is a class");
        let truth = |truth| match truth {
            ListedTruth::Class(name) => Truth::Class(class(&name) as u32),
            ListedTruth::Labels(labels) => {
                let mut applies = vec![0.0; classes.len()];
                labels.iter().for_each(|label| applies[class(label)] = 1.0);
                Truth::Numbers(applies)
            }
            ListedTruth::Numbers(numbers) => Truth::Numbers(numbers),
            ListedTruth::Masks(masks) => Truth::Masks(masks),
        };
        // Frames of one file show one body.
        let mut listed_frames: HashMap<PathBuf, usize> = HashMap::new();
        for l in &listed {
            if let Source::Frame(path, _) = &l.source {
                *listed_frames.entry(path.clone()).or_default() += 1;
            }
        }
        let file = |source: &Source| match source {
            Source::Frame(path, _) if listed_frames[path] > 1 => Some(path.display().to_string()),
            _ => None,
        };
        let record = |l: Listed| Record {
            name: l.name,
            truth: truth(l.truth),
            inputs: l.inputs,
            group: l.group.or_else(|| file(&l.source)),
            split: l.split,
            source: l.source,
            fingerprint: None,
        };
        let records = listed.into_iter().map(record).collect();
        Ok(Dataset { origin, task, classes, inputs: columns.inputs.clone(), records, ignored, dropped: vec![] })
    }

    /// Takes out the classes with fewer than `fewest` images over all splits, as RadiologyNET does with 20, and notes them in
    /// [`Dataset::dropped`]. Truths other than classes stay as they are.
    ///
    /// # Errors
    /// Too few classes left for the task.
    pub fn drop_small_classes(&mut self, fewest: usize) -> Result<()> {
        if !self.task.counts_classes() {
            return Ok(());
        }
        let counts = self.class_counts(None);
        let (kept, dropped): (Vec<usize>, Vec<usize>) = (0..counts.len()).partition(|&class| counts[class] >= fewest);
        if dropped.is_empty() {
            return Ok(());
        }
        let named = |class: &usize| self.classes[*class].clone();
        let classes: Vec<String> = kept.iter().map(named).collect();
        self.dropped = dropped.iter().map(|class| (named(class), counts[*class])).collect();
        if classes.len() < if self.task.has_classes() { 2 } else { 1 } {
            let problem = format!("{} of {} classes of {} have {fewest} images", kept.len(), counts.len(), self.origin);
            return Err(Error::unusable(problem, "a lower --min-images"));
        }
        self.records.retain_mut(|record| match &mut record.truth {
            Truth::Class(class) => match kept.iter().position(|kept| kept == &(*class as usize)) {
                Some(place) => {
                    *class = place as u32;
                    true
                }
                None => false,
            },
            _ => true,
        });
        self.classes = classes;
        Ok(())
    }

    /// The classes taken out for want of images, in a sentence, if there are any.
    pub fn dropped_classes(&self) -> Option<String> {
        let images: usize = self.dropped.iter().map(|(_, n)| n).sum();
        let named: Vec<String> = self.dropped.iter().map(|(class, n)| format!("{class} ({n})")).collect();
        let count = named.len();
        (count > 0).then(|| {
            format!("{count} classes with too few images were left out, {images} in all: {}", named.join(", "))
        })
    }

    /// The records of one split, in order.
    pub fn subset(&self, split: Split) -> Vec<Record> {
        self.of(Some(split)).cloned().collect()
    }

    /// The records of one split, or all.
    pub fn of(&self, split: Option<Split>) -> impl Iterator<Item = &Record> + Clone {
        self.records.iter().filter(move |r| split.is_none() || r.split == split)
    }

    /// Number of records per class or label, over all splits or in one; of all records for numbers and structures.
    pub fn class_counts(&self, split: Option<Split>) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for record in self.of(split) {
            match &record.truth {
                Truth::Class(class) => counts[*class as usize] += 1,
                Truth::Numbers(applies) if self.task == Task::MultiLabel => {
                    counts.iter_mut().zip(applies).for_each(|(n, &applies)| *n += usize::from(applies != 0.0));
                }
                Truth::Numbers(_) | Truth::Masks(_) => counts.iter_mut().for_each(|n| *n += 1),
            }
        }
        counts
    }

    /// What is true of `record`, as manifests have it: its class, its labels joined by `|`, its numbers by spaces; nothing
    /// for masks, which are in its fingerprint.
    pub fn describe(&self, record: &Record) -> String {
        let join = |parts: Vec<String>, by: &str| parts.join(by);
        match &record.truth {
            Truth::Class(class) => self.classes[*class as usize].clone(),
            Truth::Numbers(applies) if self.task == Task::MultiLabel => {
                let names = self.classes.iter().zip(applies).filter(|(_, applies)| **applies != 0.0);
                join(names.map(|(name, _)| name.clone()).collect(), "|")
            }
            Truth::Numbers(numbers) => join(numbers.iter().map(f32::to_string).collect(), " "),
            Truth::Masks(_) => String::new(),
        }
    }
}

fn check_classes(task: Task, origin: &str, classes: &[String]) -> Result<()> {
    match (task, classes) {
        (Task::MultiClass | Task::Binary, [only]) => Err(Error::unusable(
            format!("{origin} has only one class, {only:?}, so there is nothing to tell apart"),
            "add a second class, or give the folder above if this is one class of several",
        )),
        (Task::Binary, classes) if classes.len() != 2 => Err(Error::unusable(
            format!("{origin} has {} classes, and a binary task two: {}", classes.len(), classes.join(", ")),
            "--task multi-class",
        )),
        (Task::MultiLabel, []) => {
            Err(Error::unusable(format!("no image of {origin} has a label"), "name the column with --target"))
        }
        _ => Ok(()),
    }
}
