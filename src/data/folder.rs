//! Datasets laid out as folders.

use super::{
    decode, dicom, metaimage, nifti,
    source::{Listed, ListedTruth, Listing, Raters, Source, Split},
    table::Columns,
};
use crate::{Error, Result, task::Task};
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

const LAYOUT: &str = "lay it out as FOLDER/<class>/<image>, or as FOLDER/Training/<class>/... and \
                      FOLDER/Testing/<class>/...";

const PAIRS: &str = "lay it out as FOLDER/images/<image>.png and FOLDER/masks/<image>.png, with a folder mask... for each \
                     rater if there are several";

/// Every image under `root` with its class or masks and its split.
///
/// # Errors
/// A folder that is not laid out for the task.
pub fn list(task: Task, root: &Path, columns: &Columns) -> Result<Listing> {
    let mut found = Found { root, listed: Vec::new(), ignored: 0 };
    let folders = found.subfolders(root)?;
    if folders.is_empty() {
        return Err(found.no_class_folders());
    }
    let usual = Columns::default();
    let beyond = [
        (!columns.inputs.is_empty(), "numbers beside"),
        (!columns.only.is_empty(), "other columns of"),
        (columns.group != usual.group, "group of"),
        (columns.path != usual.path, "path of"),
        (columns.target != usual.target, "other targets of"),
        (!columns.masks.is_empty(), "columns of the masks of"),
        (columns.split != usual.split, "split of"),
    ];
    let beyond = beyond.into_iter().find_map(|(asked, what)| asked.then_some(what));
    let numbers = matches!(task, Task::MultiLabel | Task::Regression).then(|| format!("{} of", task.noun()));
    if let Some(what) = numbers.or(beyond.map(str::to_string)) {
        return Err(Error::unusable(
            format!("the folder {} cannot say the {what} an image", root.display()),
            "a CSV that names the images and has such columns",
        ));
    }
    let splits: Vec<Option<Split>> = folders.iter().map(|f| Split::parse(&base_name(f))).collect();
    let trains = splits.contains(&Some(Split::Train));
    let judges = splits.iter().flatten().any(|split| *split != Split::Train);
    let other = splits.iter().position(Option::is_none);
    let parts = match other {
        Some(other) if trains && judges => {
            let (root, other) = (root.display(), base_name(&folders[other]));
            let problem = format!("{root} holds folders of splits, and beside them {other}, which is none");
            return Err(Error::unusable(problem, format!("move {other} away, or name one of them as --data")));
        }
        None if trains => folders
            .iter()
            .zip(splits)
            .map(|(folder, split)| Ok((found.subfolders(folder)?, split)))
            .collect::<Result<Vec<_>>>()?,
        _ => vec![(folders, None)],
    };
    let pairs = |folders: &[PathBuf]| folders.iter().map(|path| base_name(path)).eq(["images", "masks"]);
    if task != Task::Segmentation && parts.iter().any(|(folders, _)| pairs(folders)) {
        let problem = format!("{} holds images and their masks, and no class folders", root.display());
        return Err(Error::unusable(problem, "--task segmentation"));
    }
    for (folders, split) in parts {
        if task == Task::Segmentation {
            found.add_pairs(&folders, split, columns)?;
        } else {
            folders.iter().try_for_each(|class| found.add_class(class, split))?;
        }
    }
    if found.listed.is_empty() {
        return Err(Error::unusable(format!("the dataset folder {} holds no images", root.display()), LAYOUT));
    }
    let names = if task == Task::Segmentation { vec!["mask".into()] } else { vec![] };
    Ok(Listing { origin: root.display().to_string(), task, names, listed: found.listed, ignored: found.ignored })
}

struct Found<'a> {
    root: &'a Path,
    listed: Vec<Listed>,
    ignored: usize,
}

impl Found<'_> {
    /// The visible folders in `folder` but those of runs; files beside them are counted as ignored.
    fn subfolders(&mut self, folder: &Path) -> Result<Vec<PathBuf>> {
        let (folders, files): (Vec<_>, Vec<_>) = visible_entries(folder)?.into_iter().partition(|p| p.is_dir());
        self.ignored += files.len();
        Ok(folders.into_iter().filter(|folder| !holds_runs(folder)).collect())
    }

    fn no_class_folders(&self) -> Error {
        let shown = self.root.display();
        let problem = if self.ignored == 0 {
            format!("the dataset folder {shown} is empty")
        } else {
            format!("the dataset folder {shown} holds {} files but no class folders", self.ignored)
        };
        Error::unusable(problem, LAYOUT)
    }

    /// Adds the images under `folder`, at any depth, as one class. Links to folders are not followed below it: they
    /// can form a loop.
    fn add_class(&mut self, folder: &Path, split: Option<Split>) -> Result<()> {
        let before = self.listed.len();
        let mut pending = vec![folder.to_path_buf()];
        while let Some(next) = pending.pop() {
            for path in visible_entries(&next)? {
                if path.is_dir() {
                    if !path.is_symlink() && !is_run(&path) {
                        pending.push(path);
                    }
                } else if is_image_file(&path) {
                    self.listed.push(Listed {
                        name: relative_name(self.root, &path),
                        truth: ListedTruth::Class(base_name(folder)),
                        inputs: vec![],
                        group: None,
                        split,
                        source: Source::File(path),
                    });
                } else {
                    self.ignored += 1;
                }
            }
        }
        if self.listed.len() == before {
            return Err(Error::unusable(
                format!("the class folder {} holds no images (DICOM, NIfTI, MetaImage, PNG, JPEG)", folder.display()),
                "add images to it, or remove the folder",
            ));
        }
        Ok(())
    }
}

impl Found<'_> {
    /// Adds the images of the folder `image…` with the files of the same stem in the folders `mask…`, one a rater. A
    /// rater without such a file marked nothing, but some rater must have one. Masks of no image are ignored.
    fn add_pairs(&mut self, folders: &[PathBuf], split: Option<Split>, columns: &Columns) -> Result<()> {
        let unpaired = |problem: String| Error::unusable(problem, PAIRS);
        let named = |start: &'static str| move |path: &PathBuf| base_name(path).to_lowercase().starts_with(start);
        let images = folders.iter().find(|path| named("image")(path));
        let raters: Vec<&PathBuf> = folders.iter().filter(|path| named("mask")(path)).collect();
        let (Some(images), false) = (images, raters.is_empty()) else {
            return Err(unpaired(format!("{} does not hold the folders images and masks", self.root.display())));
        };
        columns.check_raters(raters.len())?;
        let mut drawn: HashMap<String, Vec<Source>> = HashMap::new();
        for path in raters.iter().map(|folder| visible_entries(folder)).collect::<Result<Vec<_>>>()?.concat() {
            if is_image_file(&path) {
                drawn.entry(stem(&path)).or_default().push(Source::File(path));
            }
        }
        for path in visible_entries(images)? {
            if !is_image_file(&path) {
                self.ignored += 1;
                continue;
            }
            let masks =
                drawn.remove(&stem(&path)).ok_or_else(|| unpaired(format!("{} has no mask", path.display())))?;
            self.listed.push(Listed {
                name: relative_name(self.root, &path),
                truth: ListedTruth::Masks(vec![Raters { masks, agree: columns.agree }]),
                inputs: vec![],
                group: None,
                split,
                source: Source::File(path),
            });
        }
        self.ignored += drawn.values().map(Vec::len).sum::<usize>();
        Ok(())
    }
}

/// Whether a folder is that of a run of training.
fn is_run(folder: &Path) -> bool {
    ["config.toml", "manifest.csv"].iter().all(|name| folder.join(name).is_file())
}

/// Whether a folder is that of a run, or holds nothing else, as `runs` does. Of a folder of images it looks at one.
fn holds_runs(folder: &Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut entries = entries.filter(|path| is_visible(path)).peekable();
    is_run(folder) || entries.peek().is_some() && entries.all(|path| is_run(&path))
}

/// The name of a file without the suffix of an image; what else follows a dot, as in the names of DICOM files, stays.
pub(super) fn stem(path: &Path) -> String {
    let name = base_name(path);
    let lower = name.to_ascii_lowercase();
    let suffix = SUFFIXES.iter().find(|suffix| lower.ends_with(*suffix)).map_or(0, |suffix| suffix.len());
    name[..name.len() - suffix].to_string()
}

fn is_visible(path: &Path) -> bool {
    let name = base_name(path);
    !name.starts_with('.') && name != "__MACOSX"
}

/// What is in a folder and does not begin with a dot, sorted; not what a Mac adds to its archives.
pub(super) fn visible_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io("list", folder, e);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if is_visible(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Suffixes of images; what has one is an image whatever it holds, and an error if it holds none.
const SUFFIXES: [&str; 9] = [".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".nii", ".nii.gz", ".mha", ".mhd"];

/// Whether a file is an image by its suffix in any case, or by its first bytes: DICOM files often have no suffix.
pub fn is_image_file(path: &Path) -> bool {
    let name = base_name(path).to_ascii_lowercase();
    // So few bytes of a packed volume do not say what it is, and it has a suffix.
    SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) || start_of(path, 348).is_ok_and(|start| is_image(&start))
}

/// The first `bytes` of a file, or all of a shorter one.
///
/// # Errors
/// What is no file, or cannot be read.
pub(super) fn start_of(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for its other end.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is neither a file nor a folder"));
    }
    let mut start = Vec::new();
    File::open(path)?.take(bytes).read_to_end(&mut start)?;
    Ok(start)
}

/// Whether a file that starts so is an image, whole or not.
pub(super) fn is_image(start: &[u8]) -> bool {
    match start.starts_with(nifti::GZIP) {
        true => nifti::packs_nifti(start),
        false => {
            decode::is_picture(start)
                || dicom::is_dicom(start)
                || metaimage::is_metaimage(start)
                || nifti::is_nifti(start)
        }
    }
}

fn base_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

pub(super) fn relative_name(root: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(root).unwrap_or(path);
    relative.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}
