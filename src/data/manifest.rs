//! The split on record: a CSV `path,label,group,split,sha256` that a later run can take over.

use super::source::{Dataset, Record, Split};
use crate::{Error, Result, files::write_atomic};
use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

const COLUMNS: [&str; 5] = ["path", "label", "group", "split", "sha256"];

/// Writes every record with its split (after [`super::split::assign`]) and, if verified, the digest of its file. Being
/// itself a table of `path,label,group,split`, a manifest of classes copied into the dataset's folder opens as that dataset.
pub fn write(dataset: &Dataset, path: &Path) -> Result<()> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let in_memory = "a Vec can be written to";
    table.write_record(COLUMNS).expect(in_memory);
    for record in &dataset.records {
        let label = dataset.describe(record);
        let split = record.split.map_or("", Split::name);
        let sha256 = record.fingerprint.map(|print| hex(&print.file)).unwrap_or_default();
        let group = record.group.as_deref().unwrap_or_default();
        table.write_record([record.name.as_str(), &label, group, split, &sha256]).expect(in_memory);
    }
    write_atomic(path, &table.into_inner().expect(in_memory))
}

/// Gives every record the split that the manifest at `path` has for it; records and groups are otherwise untouched.
///
/// Errors name the first record that the manifest lacks, that the dataset lacks, or whose label or (if both sides know
/// it) digest differs: the data are then not those of the manifest.
pub fn apply(dataset: &mut Dataset, path: &Path) -> Result<()> {
    let shown = path.display();
    let unlike = |problem: String| {
        Error::unusable(
            format!("the manifest {shown} does not fit the dataset {}: {problem}", dataset.origin),
            "use the data it was made from, or draw a new split",
        )
    };
    let mut rows = read(path)?;
    let mut splits = Vec::with_capacity(dataset.records.len());
    for record in &dataset.records {
        let name = &record.name;
        let row = rows.remove(name).ok_or_else(|| unlike(format!("it does not list {name}")))?;
        let label = dataset.describe(record);
        if row.label != label {
            return Err(unlike(format!("{name} is {:?} there and {label:?} here", row.label)));
        }
        if let Some(print) = record.fingerprint
            && !row.sha256.is_empty()
            && row.sha256 != hex(&print.file)
        {
            return Err(unlike(format!("the file {name} has changed")));
        }
        splits.push(row.split);
    }
    if let Some(name) = rows.keys().min() {
        return Err(unlike(format!("it lists {name}, which is not there")));
    }
    dataset.records.iter_mut().zip(splits).for_each(|(record, split)| record.split = Some(split));
    Ok(())
}

/// Takes out of `dataset` what the manifest at `path` does not list; gives the names.
///
/// # Errors
/// A manifest that cannot be read.
pub fn leave_out_unlisted(dataset: &mut Dataset, path: &Path) -> Result<Vec<String>> {
    let rows = read(path)?;
    let unlisted = |record: &&Record| !rows.contains_key(&record.name);
    let names = dataset.records.iter().filter(unlisted).map(|record| record.name.clone()).collect();
    dataset.records.retain(|record| !unlisted(&record));
    Ok(names)
}

/// Those of `records` (after [`Dataset::verify`]) that the manifest at `path` has in `split`, under whatever name.
///
/// # Errors
/// A manifest that cannot be read.
pub fn listed_in<'a>(path: &Path, split: Split, records: &'a [Record]) -> Result<Vec<&'a Record>> {
    // All frames of a file share its digest.
    let frame = |name: &str| name.rfind('#').map_or(String::new(), |at| name[at..].to_string());
    let rows = read(path)?.into_iter().filter(|(_, row)| row.split == split);
    let images: HashSet<(String, String)> = rows.map(|(name, row)| (row.sha256, frame(&name))).collect();
    let listed = |record: &&Record| {
        record.fingerprint.is_some_and(|print| images.contains(&(hex(&print.file), frame(&record.name))))
    };
    Ok(records.iter().filter(listed).collect())
}

struct Row {
    label: String,
    split: Split,
    sha256: String,
}

fn read(path: &Path) -> Result<HashMap<String, Row>> {
    let broken = |problem: String| {
        Error::unusable(
            format!("the manifest {} cannot be used: {problem}", path.display()),
            "take the manifest.csv that a run has written",
        )
    };
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let mut table = csv::Reader::from_reader(bytes.as_slice());
    let header = table.headers().map_err(|e| broken(e.to_string()))?;
    if header != COLUMNS.as_slice() {
        return Err(broken(format!("its first line is not {}", COLUMNS.join(","))));
    }
    let mut rows = HashMap::new();
    for record in table.records() {
        let record = record.map_err(|e| broken(e.to_string()))?;
        let split = Split::parse(&record[3]).ok_or_else(|| broken(format!("unknown split {:?}", &record[3])))?;
        rows.insert(record[0].to_string(), Row { label: record[1].into(), split, sha256: record[4].into() });
    }
    Ok(rows)
}

/// A digest as text.
pub(crate) fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
