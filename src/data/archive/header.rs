//! What a manifest says of a file: facts and tags that name nobody, and hashes of those that do.
//!
//! Only the tags listed here leave the archive: coded words and numbers that the basic profile of PS3.15 E lets stay,
//! and sex and age, an age above 89 as 90. Descriptions and comments, which people write names into, are not among
//! them.

use super::key::Key;
use crate::data::{
    dicom::{self, DataSet, Tag},
    scan::Facts,
};

/// A file whose header has been read.
struct File<'a> {
    /// Of a file other than DICOM, an empty one.
    set: &'a DataSet<'a>,
    facts: &'a Facts,
    /// Hash of where it is.
    source: &'a str,
    key: &'a Key,
}

impl File<'_> {
    fn text(&self, tag: Tag) -> String {
        self.set.text(tag).map_or(String::new(), |text| text.into_owned())
    }

    /// The hash of a text, if there is one; `what` it is of.
    fn hash(&self, what: &str, tag: Tag) -> String {
        let value = self.text(tag);
        if value.is_empty() { value } else { self.key.hash(what, value.as_bytes()) }
    }

    fn spacing(&self, axis: usize) -> String {
        let mm = self.facts.spacing[axis];
        if mm > 0.0 { mm.to_string() } else { String::new() }
    }
}

/// What stands where a file does not say; a class of its own for training.
const UNKNOWN: &str = "UNKNOWN";

fn or(value: String, other: &str) -> String {
    if value.is_empty() { other.to_string() } else { value }
}

/// A column of the manifest: its name, and its cell for a file.
type Column = (&'static str, fn(&File) -> String);

const COLUMNS: [Column; 32] = [
    // Who is not named is kept together as far as it is known: a study, or else a file.
    ("patient", |f| or(or(f.hash("patient", 0x0010_0020), &f.hash("study", 0x0020_000d)), f.source)),
    ("study", |f| f.hash("study", 0x0020_000d)),
    ("series", |f| f.hash("series", 0x0020_000e)),
    ("instance", |f| f.hash("instance", 0x0008_0018)),
    ("source", |f| f.source.into()),
    ("modality", |f| or(f.facts.modality.clone().unwrap_or_default(), UNKNOWN)),
    ("body_part", |f| or(f.text(0x0018_0015).to_uppercase(), UNKNOWN)),
    ("view", |f| f.text(0x0018_5101)),
    ("laterality", |f| or(f.text(0x0020_0062), &f.text(0x0020_0060))),
    ("sex", |f| f.text(0x0010_0040)),
    ("age", |f| years(&f.text(0x0010_1010)).map_or(String::new(), |years| years.to_string())),
    ("frames", |f| f.facts.frames.to_string()),
    ("rows", |f| f.facts.height.to_string()),
    ("columns", |f| f.facts.width.to_string()),
    ("row_spacing", |f| f.spacing(1)),
    ("column_spacing", |f| f.spacing(0)),
    ("slice_spacing", |f| f.spacing(2)),
    ("bits", |f| f.facts.bits.to_string()),
    ("channels", |f| f.facts.channels.to_string()),
    ("photometric", |f| f.text(0x0028_0004)),
    ("format", |f| f.facts.format.clone()),
    ("image_type", |f| f.text(0x0008_0008)),
    ("manufacturer", |f| f.text(0x0008_0070)),
    ("model", |f| f.text(0x0008_1090)),
    ("slice_thickness", |f| f.text(0x0018_0050)),
    ("kvp", |f| f.text(0x0018_0060)),
    ("exposure", |f| f.text(0x0018_1152)),
    ("sequence", |f| f.text(0x0018_0020)),
    ("repetition_time", |f| f.text(0x0018_0080)),
    ("echo_time", |f| f.text(0x0018_0081)),
    ("flip_angle", |f| f.text(0x0018_1314)),
    ("field_strength", |f| f.text(0x0018_0087)),
];

/// Names of the columns.
pub fn columns() -> impl Iterator<Item = &'static str> {
    COLUMNS.iter().map(|(name, _)| *name)
}

/// The cells of the columns for the file of these bytes, of which `facts` are known. `source` is the hash of where it
/// is.
pub fn cells(bytes: &[u8], facts: &Facts, source: &str, key: &Key) -> Vec<String> {
    let read = |set: &DataSet| COLUMNS.map(|(_, cell)| cell(&File { set, facts, source, key })).to_vec();
    let of_dicom = facts.format.starts_with("DICOM").then(|| dicom::header(bytes, read).ok()).flatten();
    of_dicom.unwrap_or_else(|| read(&DataSet::default()))
}

/// Years that an age such as `045Y` or `018M` is, at most 90; to hundredths.
fn years(age: &str) -> Option<f64> {
    let (number, unit) = age.split_at_checked(3)?;
    let days = match unit {
        "Y" => 365.25,
        "M" => 365.25 / 12.0,
        "W" => 7.0,
        "D" => 1.0,
        _ => return None,
    };
    let years = number.parse::<u16>().ok().map(|number| f64::from(number) * days / 365.25)?;
    Some((years.min(90.0) * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::years;

    #[test]
    fn ages_are_years() {
        let ages = ["045Y", "018M", "002W", "003D", "101Y", "45", "", "abcY"].map(years);
        assert_eq!(ages, [Some(45.0), Some(1.5), Some(0.04), Some(0.01), Some(90.0), None, None, None]);
    }
}
