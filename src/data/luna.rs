//! LUNA16: CT volumes, nodules given by centre and diameter, and crops of slices around them.
//!
//! Each volume is read once, when the dataset is opened; what is kept of it are its crops, as small images of
//! Hounsfield units in memory. So training costs no volume, and what a set needs is bounded by its nodules: 12 KB a
//! crop.

use super::{
    decode::REPLACE,
    folder::{relative_name, stem, visible_entries},
    layouts::{files, rows},
    scan::Scan,
    source::{Listed, ListedTruth, Raters, Source},
    volume,
};
use crate::{
    Error, Result,
    rng::{Purpose, Rng},
};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

/// Side of a crop, in pixels.
const SIDE: usize = 64;

/// Crops are taken up to so many pixels beside the centre of a nodule, so that a place in the crop tells nothing.
const SHIFT: u32 = 16;

/// Volumes in memory at the same time.
const AT_ONCE: usize = 4;

/// Darker crops show nothing but air around the patient (mean Hounsfield units).
const AIR: f64 = -950.0;

/// Draws of a place for a crop without nodule before it is given up.
const DRAWS: usize = 50;

/// A nodule in the space of its volume, in millimetres.
#[derive(Clone, Copy)]
struct Nodule {
    centre: [f64; 3],
    diameter: f64,
}

/// Every crop of the set in the folder `root`: in each slice of a nodule one around it, and with `empty` as many
/// without any. Volumes are `<series>.mhd` or `.mha` at any depth. The nodules of a series are what
/// `masks/<series>.mhd` (or `.mha`, `.nii`, `.nii.gz`) marks, or else the spheres of `annotations.csv`. A series is a
/// group.
///
/// # Errors
/// Neither masks nor annotations; none for the volumes there are; what cannot be read, by name; a nodule outside of
/// its volume.
pub fn list(root: &Path, empty: bool) -> Result<Vec<Listed>> {
    let mut masks = HashMap::new();
    let is_mask_folder = |path: &Path| path.file_name().is_some_and(|name| name.eq_ignore_ascii_case("masks"));
    for folder in visible_entries(root)?.into_iter().filter(|path| path.is_dir() && is_mask_folder(path)) {
        masks.extend(visible_entries(&folder)?.into_iter().map(|path| (stem(&path), path)));
    }
    let mut volumes = BTreeMap::new();
    for path in [files(root, "mhd")?, files(root, "mha")?].concat() {
        let series = stem(&path);
        let below_masks = path.parent().is_some_and(is_mask_folder);
        // LUNA16 has masks of the lungs, too, under the names of the series.
        let of_lungs = relative_name(root, &path).starts_with("seg-lungs");
        if !below_masks
            && !of_lungs
            && let Some(other) = volumes.insert(series.clone(), path)
        {
            let problem = format!("the series {series} is there twice, once as {}", other.display());
            return Err(Error::unusable(problem, "one volume a series"));
        }
    }
    let nodules = annotations(&root.join("annotations.csv"), masks.is_empty())?;
    let known = |series: &String| masks.contains_key(series) || nodules.contains_key(series);
    if !volumes.keys().any(known) {
        return Err(Error::unusable(
            format!("none of the {} volumes below {} has a mask or a nodule", volumes.len(), root.display()),
            "volumes called <series>.mhd as the seriesuid of annotations.csv, or as masks/<series>.mhd",
        ));
    }
    // Of a series without a nodule there is nothing to read, unless crops without one are wanted.
    let volumes: Vec<(String, PathBuf)> = volumes.into_iter().filter(|(series, _)| empty || known(series)).collect();
    let mut listed = vec![];
    for some in volumes.chunks(AT_ONCE) {
        let read = |(series, path): &(String, PathBuf)| {
            let nodules = nodules.get(series).map_or(&[][..], Vec::as_slice);
            let crops = Volume::open(path).and_then(|of| of.crops(series, nodules, masks.get(series), empty));
            // A volume is read to find its crops, before anything could be left out.
            let crops = crops.map_err(|e| match e {
                Error::Unusable { problem, remedy } if remedy == REPLACE => {
                    Error::unusable(problem, "replace or remove the volume")
                }
                other => other,
            })?;
            let record = |crop: Crop| crop.listed(&relative_name(root, path), series);
            Ok(crops.into_iter().map(record).collect::<Vec<_>>())
        };
        let found: Vec<Result<Vec<Listed>>> = some.par_iter().map(read).collect();
        for crops in found {
            listed.extend(crops?);
        }
    }
    Ok(listed)
}

/// The nodules of each series. The table may be missing unless it is `needed`.
fn annotations(table: &Path, needed: bool) -> Result<HashMap<String, Vec<Nodule>>> {
    let mut nodules: HashMap<String, Vec<Nodule>> = HashMap::new();
    if !needed && !table.exists() {
        return Ok(nodules);
    }
    let columns: [&[&str]; 5] = [&["seriesuid"], &["coordX"], &["coordY"], &["coordZ"], &["diameter_mm"]];
    for [series, x, y, z, diameter] in rows(table, columns)? {
        let number = |text: &str| {
            text.parse().ok().filter(|x: &f64| x.is_finite()).ok_or_else(|| {
                let problem = format!("{}: {text:?} is no number, of a nodule of {series}", table.display());
                Error::unusable(problem, "millimetres")
            })
        };
        let nodule = Nodule { centre: [number(&x)?, number(&y)?, number(&z)?], diameter: number(&diameter)? };
        nodules.entry(series).or_default().push(nodule);
    }
    Ok(nodules)
}

/// A volume whose header is read, with its pixels unpacked.
struct Volume {
    bytes: Vec<u8>,
    name: String,
    /// Columns, rows, slices.
    size: [usize; 3],
    affine: Option<[[f64; 4]; 3]>,
    spacing: [f64; 3],
}

/// The nodules of a volume.
#[derive(Default)]
struct Nodules {
    /// Which pixels of a slice they mark: `height * width` of 0 and 1, of slices in which there are any.
    marks: BTreeMap<usize, Vec<u8>>,
    /// Slice, row and column of the middle of each in each of its slices.
    centres: Vec<(usize, usize, usize)>,
}

impl Volume {
    fn open(path: &Path) -> Result<Volume> {
        let name = path.display().to_string();
        let bytes = volume::unpacked(Source::File(path.into()).read()?.into_owned());
        let facts = Scan::open(&bytes, &name)?.facts().clone();
        let size = [facts.width, facts.height, facts.frames];
        Ok(Volume { bytes, name, size, affine: facts.affine, spacing: facts.spacing })
    }

    fn crops(&self, series: &str, nodules: &[Nodule], mask: Option<&PathBuf>, empty: bool) -> Result<Vec<Crop>> {
        let Nodules { marks, mut centres } = match mask {
            Some(path) => self.drawn(path)?,
            None => self.spheres(nodules)?,
        };
        centres.sort_unstable();
        let seed = Sha256::digest(series.as_bytes());
        let seed = u64::from_le_bytes(*seed.first_chunk().expect("32 bytes"));
        let [width, height, slices] = self.size;
        let (w, h) = (SIDE.min(width), SIDE.min(height));
        let scan = Scan::open(&self.bytes, &self.name)?;
        let mut crops = vec![];
        for (i, &(slice, row, column)) in centres.iter().enumerate() {
            let mut rng = Rng::new(seed, Purpose::Crop, i as u32, 0);
            let mut start = |centre: usize, side: usize, whole: usize| {
                let shifted = centre as i64 - side as i64 / 2 + i64::from(rng.below(2 * SHIFT)) - i64::from(SHIFT);
                shifted.clamp(0, (whole - side) as i64) as usize
            };
            let at = (slice, start(row, h, height), start(column, w, width));
            let crop = self.crop(&scan, at, (w, h), marks.get(&slice))?;
            if !crops.iter().any(|other: &Crop| other.at == at) {
                crops.push(crop);
            }
        }
        let wanted = if empty { crops.len().max(1) } else { 0 };
        for i in 0..wanted {
            let mut rng = Rng::new(seed, Purpose::Crop, i as u32, 1);
            for _ in 0..DRAWS {
                let slice = rng.below(slices as u32) as usize;
                let at =
                    (slice, rng.below((height - h + 1) as u32) as usize, rng.below((width - w + 1) as u32) as usize);
                let crop = self.crop(&scan, at, (w, h), marks.get(&slice))?;
                let mean = crop.values.iter().map(|&v| f64::from(v)).sum::<f64>() / crop.values.len() as f64;
                if crop.mask.is_none() && mean > AIR && !crops.iter().any(|other| other.at == at) {
                    crops.push(crop);
                    break;
                }
            }
        }
        Ok(crops)
    }

    fn crop(
        &self,
        scan: &Scan,
        at: (usize, usize, usize),
        (w, h): (usize, usize),
        marks: Option<&Vec<u8>>,
    ) -> Result<Crop> {
        let width = self.size[0];
        let cut = |row: usize| (at.1 + row) * width + at.2..(at.1 + row) * width + at.2 + w;
        let slice = scan.frame(at.0)?.physical();
        let values = (0..h).flat_map(|row| slice[cut(row)].iter().map(|&v| v.round() as i16)).collect();
        let mask = marks.map(|marks| (0..h).flat_map(|row| marks[cut(row)].iter().copied()).collect::<Vec<u8>>());
        Ok(Crop {
            at,
            size: (w, h),
            spacing: [self.spacing[0], self.spacing[1]],
            values,
            mask: mask.filter(|m| m.contains(&1)),
        })
    }

    /// The pixels whose centres lie within the spheres, and the middle of each nodule in each of its slices.
    fn spheres(&self, nodules: &[Nodule]) -> Result<Nodules> {
        let Nodules { mut marks, mut centres } = Nodules::default();
        let [width, height, slices] = self.size;
        for nodule in nodules {
            let outside = || {
                let problem = format!("the nodule at {:?} lies outside of {}", nodule.centre, self.name);
                Error::unusable(
                    problem,
                    "world coordinates in millimetres, as LUNA16 has them, and the volume's own origin",
                )
            };
            let affine = self.affine.ok_or_else(|| {
                Error::unusable(
                    format!("{} does not say where it lies", self.name),
                    "a header with Offset and ElementSpacing",
                )
            })?;
            let inverse = inverse(&affine).ok_or_else(|| {
                Error::unusable(
                    format!("the axes of {} span no space", self.name),
                    "another TransformMatrix or ElementSpacing",
                )
            })?;
            let from: [f64; 3] = std::array::from_fn(|i| nodule.centre[i] - affine[i][3]);
            let middle = inverse.map(|row| (0..3).map(|j| row[j] * from[j]).sum::<f64>());
            let nearest: [i64; 3] = middle.map(|x| x.round() as i64);
            if (0..3).any(|i| nearest[i] < 0 || nearest[i] >= self.size[i] as i64) {
                return Err(outside());
            }
            let [column, row, slice] = nearest.map(|x| x as usize);
            // Along an axis a sphere reaches as far as its radius does along the row of the inverse.
            let reach = inverse.map(|row| nodule.diameter / 2.0 * row.iter().map(|x| x * x).sum::<f64>().sqrt());
            let span = |i: usize, end: usize| {
                let (low, high) = ((middle[i] - reach[i]).ceil().max(0.0), (middle[i] + reach[i]).floor());
                low as usize..((high + 1.0).max(0.0) as usize).min(end)
            };
            let mut found = vec![];
            for k in span(2, slices) {
                let inside = |x: usize, y: usize| {
                    let from = [x as f64, y as f64, k as f64];
                    let square = |i: usize| {
                        let world = (0..3).map(|j| affine[i][j] * from[j]).sum::<f64>() + affine[i][3];
                        (world - nodule.centre[i]).powi(2)
                    };
                    (0..3).map(square).sum::<f64>() <= (nodule.diameter / 2.0).powi(2)
                };
                let pixels = span(1, height).flat_map(|y| span(0, width).map(move |x| (x, y)));
                let pixels: Vec<usize> = pixels.filter(|&(x, y)| inside(x, y)).map(|(x, y)| y * width + x).collect();
                if !pixels.is_empty() {
                    found.push((k, pixels));
                }
            }
            // One that falls between the pixels marks the nearest.
            if found.is_empty() {
                found.push((slice, vec![row * width + column]));
            }
            for (k, pixels) in found {
                let mark = marks.entry(k).or_insert_with(|| vec![0; width * height]);
                pixels.into_iter().for_each(|i| mark[i] = 1);
                centres.push((k, row, column));
            }
        }
        Ok(Nodules { marks, centres })
    }

    /// What a volume of masks marks, and the middle of each connected part in each slice.
    fn drawn(&self, path: &Path) -> Result<Nodules> {
        let mask = Volume::open(path)?;
        if mask.size != self.size {
            let problem = format!("{} has the size {:?}, and its volume {:?}", mask.name, mask.size, self.size);
            return Err(Error::unusable(problem, "masks of the size of their volumes"));
        }
        let scan = Scan::open(&mask.bytes, &mask.name)?;
        let Nodules { mut marks, mut centres } = Nodules::default();
        for k in 0..self.size[2] {
            let marked: Vec<u8> = scan.frame(k)?.marked().into_iter().map(u8::from).collect();
            if marked.contains(&1) {
                centres.extend(parts(&marked, self.size[0]).into_iter().map(|(row, column)| (k, row, column)));
                marks.insert(k, marked);
            }
        }
        Ok(Nodules { marks, centres })
    }
}

/// Row and column of the middle of the box around each connected part (by sides and corners) of a mask.
fn parts(mask: &[u8], width: usize) -> Vec<(usize, usize)> {
    let (mut left, mut middles) = (mask.to_vec(), vec![]);
    let height = mask.len() / width;
    for first in 0..mask.len() {
        if left[first] == 0 {
            continue;
        }
        left[first] = 0;
        let mut pending = vec![(first / width, first % width)];
        let (mut rows, mut columns) = ((height, 0), (width, 0));
        while let Some((y, x)) = pending.pop() {
            rows = (rows.0.min(y), rows.1.max(y));
            columns = (columns.0.min(x), columns.1.max(x));
            for (y, x) in (y.saturating_sub(1)..=y + 1).flat_map(|y| (x.saturating_sub(1)..=x + 1).map(move |x| (y, x)))
            {
                if y < height && x < width && left[y * width + x] != 0 {
                    left[y * width + x] = 0;
                    pending.push((y, x));
                }
            }
        }
        middles.push(((rows.0 + rows.1) / 2, (columns.0 + columns.1) / 2));
    }
    middles
}

/// The inverse of the first three columns.
fn inverse(affine: &[[f64; 4]; 3]) -> Option<[[f64; 3]; 3]> {
    let a = |i: usize, j: usize| affine[i % 3][j % 3];
    let minor = |i: usize, j: usize| a(i + 1, j + 1) * a(i + 2, j + 2) - a(i + 1, j + 2) * a(i + 2, j + 1);
    let determinant: f64 = (0..3).map(|j| a(0, j) * minor(0, j)).sum();
    let usable = determinant.is_finite() && determinant != 0.0;
    usable.then(|| std::array::from_fn(|i| std::array::from_fn(|j| minor(j, i) / determinant)))
}

/// A part of a slice.
struct Crop {
    /// Slice, first row, first column.
    at: (usize, usize, usize),
    /// Columns and rows.
    size: (usize, usize),
    /// Millimetres from column to column and row to row.
    spacing: [f64; 2],
    /// Hounsfield units.
    values: Vec<i16>,
    /// 1 where a nodule is; none where there is none.
    mask: Option<Vec<u8>>,
}

impl Crop {
    fn listed(self, volume: &str, series: &str) -> Listed {
        let Crop { at: (slice, row, column), size: (width, height), spacing: [x, y], values, mask } = self;
        // An image file in memory, so that whatever reads images reads it.
        let file = |element: &str, data: Vec<u8>| {
            let header = format!(
                "NDims = 2\nDimSize = {width} {height}\nElementSpacing = {x} {y}\nModality = MET_MOD_CT\n\
                 ElementType = {element}\nElementDataFile = LOCAL\n"
            );
            Source::Memory([header.as_bytes(), &data].concat().into())
        };
        let masks = mask.map(|mask| file("MET_UCHAR", mask)).into_iter().collect();
        Listed {
            name: format!("{volume}#{slice}@{row}x{column}"),
            truth: ListedTruth::Masks(vec![Raters { masks, agree: 1 }]),
            inputs: vec![],
            group: Some(series.into()),
            split: None,
            source: file("MET_SHORT", values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        }
    }
}
