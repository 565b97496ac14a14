//! Datasets laid out as folders.

use super::{
    decode, dicom, metaimage, nifti,
    source::{Listed, Source, Split},
};
use crate::{Error, Result};
use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

const LAYOUT: &str = "lay it out as FOLDER/<class>/<image>, or as FOLDER/Training/<class>/... and \
                      FOLDER/Testing/<class>/...";

/// Every image under `root` with its class and split, and the number of other files passed over.
pub fn list(root: &Path) -> Result<(Vec<Listed>, usize)> {
    let mut found = Found { root, listed: Vec::new(), ignored: 0 };
    let folders = found.subfolders(root)?;
    if folders.is_empty() {
        return Err(found.no_class_folders());
    }
    let splits: Option<Vec<Split>> = folders.iter().map(|f| Split::parse(&base_name(f))).collect();
    match splits {
        Some(splits) if splits.contains(&Split::Train) => {
            for (folder, &split) in folders.iter().zip(&splits) {
                for class in found.subfolders(folder)? {
                    found.add_class(&class, Some(split))?;
                }
            }
        }
        _ => {
            for class in &folders {
                found.add_class(class, None)?;
            }
        }
    }
    if found.listed.is_empty() {
        return Err(Error::unusable(format!("the dataset folder {} holds no images", root.display()), LAYOUT));
    }
    Ok((found.listed, found.ignored))
}

struct Found<'a> {
    root: &'a Path,
    listed: Vec<Listed>,
    ignored: usize,
}

impl Found<'_> {
    /// The visible folders in `folder`; files beside them are counted as ignored.
    fn subfolders(&mut self, folder: &Path) -> Result<Vec<PathBuf>> {
        let (folders, files): (Vec<_>, Vec<_>) = visible_entries(folder)?.into_iter().partition(|p| p.is_dir());
        self.ignored += files.len();
        Ok(folders)
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
                    if !path.is_symlink() {
                        pending.push(path);
                    }
                } else if is_image_file(&path) {
                    self.listed.push(Listed {
                        name: relative_name(self.root, &path),
                        label: base_name(folder),
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

fn visible_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e| Error::io("list", folder, e);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if !base_name(&path).starts_with('.') {
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
    SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) || starts_as_image(path).unwrap_or(false)
}

fn starts_as_image(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(348).read_to_end(&mut start)?;
    let packed = start.starts_with(&[0x1f, 0x8b]);
    Ok(decode::is_picture(&start)
        || dicom::is_dicom(&start)
        || metaimage::is_metaimage(&start)
        || !packed && nifti::is_nifti(&start))
}

fn base_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn relative_name(root: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(root).unwrap_or(path);
    relative.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}
