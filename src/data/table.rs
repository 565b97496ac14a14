//! Datasets listed in a CSV table: `path,label[,group][,split][,frame]`.

use super::source::{Listed, Source, Split};
use crate::{Error, Result};
use std::{collections::HashMap, fs, path::Path};

/// The records of a CSV file; paths are relative to its folder. Every file is looked for, none is read.
pub fn list_file(path: &Path) -> Result<Vec<Listed>> {
    let shown = path.display().to_string();
    let text = fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let text = String::from_utf8(text).map_err(|_| {
        Error::unusable(
            format!("the dataset {shown} is a file but no CSV text in UTF-8"),
            "give a folder of class folders, or a CSV with the columns path,label saved as UTF-8",
        )
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    list(&text, &shown, |name| {
        let source = Source::of_path(&folder.join(name));
        source.file().is_some_and(Path::is_file).then_some(source)
    })
}

/// The records of a CSV text whose paths name entries of `files`.
pub fn list_embedded(csv: &str, files: &'static [(&'static str, &'static [u8])]) -> Result<Vec<Listed>> {
    let files: HashMap<&str, &'static [u8]> = files.iter().copied().collect();
    list(csv, "the embedded table", |name| files.get(name).copied().map(Source::Embedded))
}

/// Positions of the columns in a row.
struct Columns {
    path: usize,
    label: usize,
    group: Option<usize>,
    split: Option<usize>,
    frame: Option<usize>,
}

impl Columns {
    fn find(header: &csv::StringRecord, table: &str) -> Result<Columns> {
        let at = |name: &str| header.iter().position(|h| h.trim_start_matches('\u{feff}').eq_ignore_ascii_case(name));
        let need = |name: &str| {
            at(name).ok_or_else(|| {
                let found = header.iter().collect::<Vec<_>>().join(", ");
                Error::unusable(
                    format!("{table} has no column {name:?}; its first line reads: {found}"),
                    "start it with the line path,label (and, if you like, group and split), separated by commas",
                )
            })
        };
        Ok(Columns {
            path: need("path")?,
            label: need("label")?,
            group: at("group"),
            split: at("split"),
            frame: at("frame").or(at("slice")),
        })
    }
}

/// Parses `text`; `find` gives the source of a path, if there is one. `table` is how errors call the file.
fn list(text: &str, table: &str, find: impl Fn(&str) -> Option<Source>) -> Result<Vec<Listed>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let malformed = |e: csv::Error| Error::unusable(format!("{table} is no valid CSV: {e}"), "mend that line");
    let columns = Columns::find(reader.headers().map_err(malformed)?, table)?;
    let mut first_at = HashMap::new();
    let mut listed = Vec::new();
    for row in reader.records() {
        let row = row.map_err(malformed)?;
        let start = row.position().map_or(0, csv::Position::byte) as usize;
        let refused = |(problem, remedy): (String, &str)| {
            Error::unusable(format!("{table}, line {}: {problem}", line_at(text, start)), remedy)
        };
        let record = read_row(&row, &columns, &find).map_err(refused)?;
        if let Some(first) = first_at.insert(record.name.clone(), start) {
            let problem = format!("{:?} is listed already in line {}", record.name, line_at(text, first));
            return Err(refused((problem, "list each image once")));
        }
        listed.push(record);
    }
    Ok(listed)
}

/// The line of the row that starts at byte `start`, or after the blank lines there: the csv reader counts those to the
/// row that follows them.
fn line_at(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let blank = bytes[start..].iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    1 + bytes[..start + blank].iter().filter(|&&b| b == b'\n').count()
}

fn read_row(
    row: &csv::StringRecord,
    columns: &Columns,
    find: impl Fn(&str) -> Option<Source>,
) -> std::result::Result<Listed, (String, &'static str)> {
    let filled = |column: Option<usize>| column.map(|c| &row[c]).filter(|text| !text.is_empty());
    let Some(name) = filled(Some(columns.path)) else {
        return Err(("the path is empty".into(), "fill it in, or remove the line"));
    };
    let Some(label) = filled(Some(columns.label)) else {
        return Err((format!("the label of {name:?} is empty"), "fill it in, or remove the line"));
    };
    let split = match filled(columns.split) {
        None => None,
        Some(word) => Some(Split::parse(word).ok_or_else(|| {
            (format!("unknown split {word:?}"), "train, validation or test, or leave it empty to have it drawn")
        })?),
    };
    let name = match filled(columns.frame) {
        None => name.to_string(),
        Some(frame) if frame.parse::<usize>().is_ok() => format!("{name}#{frame}"),
        Some(frame) => {
            return Err((format!("{frame:?} is no number of a frame"), "0 for the first, or leave it empty"));
        }
    };
    let Some(source) = find(&name) else {
        return Err((format!("there is no file {name:?}"), "give paths relative to the folder of the CSV"));
    };
    Ok(Listed { name, label: label.into(), group: filled(columns.group).map(str::to_string), split, source })
}
