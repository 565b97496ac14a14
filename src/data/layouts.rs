//! The published layouts of the datasets that the RadiologyNET study is about.

use super::{
    Intensity,
    folder::{relative_name, stem, visible_entries},
    luna,
    source::{Dataset, Listed, ListedTruth, Listing, Source, Split},
    table::{self, Columns, Header, number},
};
use crate::{Error, Result, task::Task};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

/// A published layout by name. Brain Tumor MRI is `Training/` and `Testing/` with class folders, which needs no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// RSNA bone age 2017: tables of id, age in months and sex with folders of `<id>.png`, the official ones or those
    /// of the study; regression with `male` as input.
    RsnaBoneAge,
    /// COVID-19 Radiography: `Normal/images` and `COVID/images`, other classes unused; binary, COVID is positive.
    CovidRadiography,
    /// LUNA16: volumes `<series>.mhd` at any depth with `annotations.csv`, or `masks/<series>.mhd`; segmentation of
    /// crops of 64 pixels around the nodules in each slice that shows them, series kept together; -1000 to 1000 HU.
    Luna16,
    /// The same, and as many crops without a nodule.
    #[value(name = "luna16-empty")]
    #[serde(rename = "luna16-empty")]
    Luna16Empty,
    /// GRAZPEDWRI-DX: `dataset.csv` and the images by `filestem`, osteopenia or not, patients kept together; binary.
    GrazpedwriDx,
}

impl Layout {
    /// The task that it is for.
    pub fn task(self) -> Task {
        match self {
            Layout::RsnaBoneAge => Task::Regression,
            Layout::CovidRadiography | Layout::GrazpedwriDx => Task::Binary,
            Layout::Luna16 | Layout::Luna16Empty => Task::Segmentation,
        }
    }

    /// How stored values become gray where nothing else is asked for.
    pub fn intensity(self) -> Intensity {
        if self.task() == Task::Segmentation { Intensity::CT } else { Intensity::Auto }
    }

    /// The numbers that it gives beside an image.
    pub fn inputs(self) -> Vec<String> {
        if self == Layout::RsnaBoneAge { vec!["male".into()] } else { vec![] }
    }

    /// Opens the dataset in the folder `root`.
    ///
    /// # Errors
    /// What is missing there, or in a table, with its line.
    pub fn open(self, root: &Path) -> Result<Dataset> {
        let (listed, names, positive) = match self {
            Layout::RsnaBoneAge => (bone_age(root)?, vec!["boneage".to_string()], None),
            Layout::CovidRadiography => (covid(root)?, vec![], Some("COVID")),
            Layout::GrazpedwriDx => (grazpedwri(root)?, vec![], Some("osteopenia")),
            Layout::Luna16 | Layout::Luna16Empty => {
                (luna::list(root, self == Layout::Luna16Empty)?, vec!["nodule".to_string()], None)
            }
        };
        let columns = Columns { inputs: self.inputs(), positive: positive.map(str::to_string), ..Columns::default() };
        let origin = root.display().to_string();
        Dataset::from_listing(Listing { origin, task: self.task(), names, listed, ignored: 0 }, &columns)
    }
}

/// All visible files below `root` with this suffix in any case, in order; links to folders are not followed.
pub(super) fn files(root: &Path, suffix: &str) -> Result<Vec<PathBuf>> {
    let (mut pending, mut found) = (vec![root.to_path_buf()], vec![]);
    while let Some(folder) = pending.pop() {
        for path in visible_entries(&folder)? {
            if path.is_dir() && !path.is_symlink() {
                pending.push(path);
            } else if path.extension().is_some_and(|s| s.eq_ignore_ascii_case(suffix)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The rows of a table with the texts of the named columns, each of which has one of several names.
pub(super) fn rows<const N: usize>(path: &Path, columns: [&[&str]; N]) -> Result<Vec<[String; N]>> {
    let shown = path.display().to_string();
    let malformed = |e: csv::Error| Error::unusable(format!("{shown} is no valid CSV: {e}"), "mend that line");
    let text = fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let mut reader = table::reader(&text);
    let names = reader.headers().map_err(malformed)?.clone();
    let header = Header::new(&names, &shown);
    let place = |names: &[&str]| match names.iter().find_map(|name| header.find(name)) {
        Some(place) => Ok(place),
        None => header.need(names[0]),
    };
    let places = columns.iter().map(|names| place(names)).collect::<Result<Vec<_>>>()?;
    let row = |row: std::result::Result<csv::StringRecord, csv::Error>| {
        let row = row.map_err(malformed)?;
        Ok(std::array::from_fn(|i| row[places[i]].to_string()))
    };
    reader.records().map(row).collect()
}

/// Whether a table has a column of one of these names, or cannot be read, of which [`rows`] will tell.
fn has_column(path: &Path, names: &[&str]) -> bool {
    let Ok(text) = fs::read(path) else { return true };
    let Ok(found) = table::reader(&text).headers().cloned() else { return true };
    names.iter().any(|name| Header::new(&found, "").find(name).is_some())
}

/// The official headers of the three parts, and those of the study.
const BONE_AGE_COLUMNS: [&[&str]; 3] = [
    &["id", "Image ID", "Case ID"],
    &["boneage", "Bone Age (months)", "Ground truth bone age (months)"],
    &["male", "Sex"],
];

/// The split is that which the path of a table names; one for training alone, as officially published, leaves the
/// rest to be drawn.
fn bone_age(root: &Path) -> Result<Vec<Listed>> {
    let mut images: BTreeMap<(Option<Split>, String), PathBuf> = BTreeMap::new();
    for path in files(root, "png")? {
        images.insert((split_of(&relative_name(root, &path)), stem(&path)), path);
    }
    let mut listed = vec![];
    // The public test table of Kaggle has no ages.
    let (tables, others): (Vec<_>, Vec<_>) =
        files(root, "csv")?.into_iter().partition(|table| has_column(table, BONE_AGE_COLUMNS[1]));
    for table in if tables.is_empty() { others } else { tables } {
        let split = split_of(&relative_name(root, &table));
        for [id, age, male] in rows(&table, BONE_AGE_COLUMNS)? {
            let refuse = |problem: &str| {
                let problem = format!("{}: {problem} of image {id:?}", table.display());
                Error::unusable(problem, "fill it in, or remove the line")
            };
            let path = images.get(&(split, id.clone())).ok_or_else(|| refuse("no file"))?;
            let age = number(&age).ok_or_else(|| refuse("no number for the age"))?;
            let male = number(&male).ok_or_else(|| refuse("neither true nor false for the sex"))?;
            listed.push(Listed {
                name: relative_name(root, path),
                truth: ListedTruth::Numbers(vec![age]),
                inputs: vec![male],
                group: None,
                split,
                source: Source::File(path.clone()),
            });
        }
    }
    Ok(listed)
}

/// The split that a path speaks of.
fn split_of(path: &str) -> Option<Split> {
    let path = path.to_lowercase();
    let words = [("train", Split::Train), ("valid", Split::Validation), ("test", Split::Test)];
    words.into_iter().find(|(word, _)| path.contains(word)).map(|(_, split)| split)
}

fn covid(root: &Path) -> Result<Vec<Listed>> {
    let mut listed = vec![];
    for class in ["Normal", "COVID"] {
        for path in files(&root.join(class).join("images"), "png")? {
            listed.push(Listed {
                name: relative_name(root, &path),
                truth: ListedTruth::Class(class.into()),
                inputs: vec![],
                group: None,
                split: None,
                source: Source::File(path),
            });
        }
    }
    Ok(listed)
}

fn grazpedwri(root: &Path) -> Result<Vec<Listed>> {
    let images: HashMap<String, PathBuf> = files(root, "png")?.into_iter().map(|path| (stem(&path), path)).collect();
    let table = root.join("dataset.csv");
    let row = |[file, patient, osteopenia]: [String; 3]| {
        let path = images.get(&file).ok_or_else(|| {
            let problem = format!("{}: there is no image {file}.png below {}", table.display(), root.display());
            Error::unusable(problem, "put the images into a folder beside the table")
        })?;
        // The column holds a 1 or nothing.
        let class = if osteopenia.is_empty() { "normal" } else { "osteopenia" };
        Ok(Listed {
            name: relative_name(root, path),
            truth: ListedTruth::Class(class.into()),
            inputs: vec![],
            group: Some(patient),
            split: None,
            source: Source::File(path.clone()),
        })
    };
    rows(&table, [&["filestem"], &["patient_id"], &["osteopenia"]])?.into_iter().map(row).collect()
}
