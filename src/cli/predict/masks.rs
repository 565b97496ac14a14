//! Masks in the geometry of their sources: of volumes a volume, of other images a PNG.

use super::{Network, names::Names};
use crate::{
    Error, Result,
    data::{Extent, Record, Scan, Source, resize::unfit_mask, volume},
    files::write_atomic,
    report::Picture,
    train::Head,
};

/// Images that are predicted together, where they are files of their own.
const TOGETHER: usize = 64;

/// Predicts the masks of `records`, of a file with several frames all of them, and writes them to the folder of `names`,
/// if there is one.
///
/// # Errors
/// What cannot be read or written; two images whose masks would have one name.
pub fn predict(network: &mut Network, records: Vec<Record>, mut names: Option<Names>) -> Result<()> {
    let mut single: Vec<Record> = vec![];
    for record in records {
        match frames(&record) {
            Ok(Some(frames)) => {
                pictures(network, std::mem::take(&mut single), &mut names)?;
                match frames.volume {
                    Some(bytes) => whole_volume(network, &record, frames.records, &bytes, &mut names)?,
                    None => pictures(network, frames.records, &mut names)?,
                }
            }
            // What cannot be read is told of with the others.
            _ => single.push(record),
        }
        if single.len() >= TOGETHER {
            pictures(network, std::mem::take(&mut single), &mut names)?;
        }
    }
    pictures(network, single, &mut names)
}

/// What the file of an image's mask ends in, as far as its own name tells.
pub fn suffix(record: &Record) -> &'static str {
    let Source::File(path) = &record.source else { return "png" };
    let name = path.to_string_lossy().to_lowercase();
    match name.strip_suffix(".gz").unwrap_or(&name).rsplit_once('.') {
        Some((_, "nii")) => "nii.gz",
        Some((_, "mha" | "mhd")) => "mha",
        _ => "png",
    }
}

/// The frames of a file.
struct Frames {
    records: Vec<Record>,
    /// The file's bytes, unpacked, if its masks are to be a volume too.
    volume: Option<Vec<u8>>,
}

/// The frames of a file that has several and of which none is named.
fn frames(record: &Record) -> Result<Option<Frames>> {
    let Source::File(path) = &record.source else { return Ok(None) };
    let bytes = volume::unpacked(record.read()?.into_owned());
    let scan = Scan::open(&bytes, &record.name)?;
    let frames = scan.facts().frames;
    if frames == 1 && !volume::is_volume(&bytes) {
        return Ok(None);
    }
    let frame = |index: usize| {
        // A file in memory for each, so that the volume is unpacked once.
        let alone = volume::frame_alone(&bytes, index).map(|bytes| Source::Memory(bytes.into()));
        let source = alone.unwrap_or_else(|| Source::Frame(path.clone(), index));
        let name = if frames == 1 { record.name.clone() } else { format!("{}#{index}", record.name) };
        Record { name, source, ..record.clone() }
    };
    let records = (0..frames).map(frame).collect();
    let volume = volume::is_volume(&bytes).then_some(bytes);
    Ok(Some(Frames { records, volume }))
}

/// Predicts all slices of the volume `bytes`, and writes a volume for each structure.
fn whole_volume(
    network: &mut Network,
    whole: &Record,
    slices: Vec<Record>,
    bytes: &[u8],
    names: &mut Option<Names>,
) -> Result<()> {
    let places: Vec<String> = slices.iter().map(|slice| slice.name.clone()).collect();
    let structures = network.state.classes.clone();
    let (k, size) = (structures.len(), network.state.config.size);
    let (width, height) = {
        let scan = Scan::open(bytes, &whole.name)?;
        (scan.facts().width, scan.facts().height)
    };
    let area = width * height;
    let mut masks = vec![vec![0; if names.is_some() { area * slices.len() } else { 0 }]; k];
    let mut marked = vec![];
    network.predict(slices, &mut |slice, outputs| {
        let at = places.iter().position(|name| *name == slice.name).expect("it is a slice of the volume");
        let mask = unfit_mask(&Head::mask(outputs), (width, height), k, size);
        marked.extend(counts(&mask, k));
        if names.is_some() {
            for (c, drawn) in masks.iter_mut().enumerate() {
                let marked = mask.iter().skip(c).step_by(k);
                drawn[at * area..(at + 1) * area].iter_mut().zip(marked).for_each(|(to, &marked)| *to = marked);
            }
        }
        Ok(())
    })?;
    network.marked.extend(marked);
    let Some(names) = names else { return Ok(()) };
    for (part, mask) in parts(&structures).into_iter().zip(&masks) {
        let (file, suffix) = volume::mask_like(bytes, mask).ok_or_else(|| {
            Error::unusable(format!("{} is too large to be unpacked as a whole", whole.name), "unpack it before")
        })?;
        write_atomic(&names.of(whole, part, suffix)?, &file)?;
    }
    Ok(())
}

/// Predicts images, and writes a PNG for each structure of each.
fn pictures(network: &mut Network, records: Vec<Record>, names: &mut Option<Names>) -> Result<()> {
    let structures = network.state.classes.clone();
    let (k, size) = (structures.len(), network.state.config.size);
    let mut marked = vec![];
    network.predict(records, &mut |record, outputs| {
        let Extent { width, height, .. } = record.extent()?;
        let mask = unfit_mask(&Head::mask(outputs), (width, height), k, size);
        marked.extend(counts(&mask, k));
        let Some(names) = names else { return Ok(()) };
        for (c, part) in parts(&structures).into_iter().enumerate() {
            let pixels = mask.iter().skip(c).step_by(k).map(|&marked| marked * 255).collect();
            let picture = Picture { width: width as u32, height: height as u32, pixels };
            write_atomic(&names.of(record, part, "png")?, &picture.png())?;
        }
        Ok(())
    })?;
    network.marked.extend(marked);
    Ok(())
}

/// Pixels of a mask `[height, width, k]` that are marked, structure by structure.
fn counts(mask: &[u8], k: usize) -> impl Iterator<Item = usize> {
    (0..k).map(move |c| mask.iter().skip(c).step_by(k).filter(|&&marked| marked != 0).count())
}

/// What tells the file of each structure from those of others.
pub fn parts(structures: &[String]) -> Vec<Option<&str>> {
    let alone = structures.len() == 1;
    structures.iter().map(|name| (!alone).then_some(&**name)).collect()
}
