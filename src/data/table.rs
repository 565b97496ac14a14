//! Datasets listed in a CSV table: `path,label[,group][,split][,frame]`, or columns of other names.

use super::source::{Listed, ListedTruth, Listing, Raters, Source, Split};
use crate::{Error, Result, task::Task};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::Path,
};

/// The class of images that have none, where none is needed.
const UNLABELLED: &str = "image";

/// Which columns of a table say what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// Path of the image, relative to the table's folder.
    pub path: String,
    /// The class; the labels (one column with names joined by `|`, or a column of 0 and 1 for each); the numbers.
    pub target: Vec<String>,
    /// What must not straddle splits, say a patient. A table need not have the default.
    pub group: String,
    /// The split. A table need not have the default.
    pub split: String,
    /// The number of the frame in a file of several: `None` for `frame` or `slice`, where there is one; empty for no column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    /// Numbers that the network is given beside the image.
    pub inputs: Vec<String>,
    /// Paths of the masks, a structure each: `COLUMN,…` with a column a rater, or `NAME=COLUMN,…`.
    pub masks: Vec<String>,
    /// How many raters must have marked a pixel.
    pub agree: usize,
    /// Which rows are used: `COLUMN=VALUE,...`, one of these values in that column; all of these if there are several.
    #[serde(rename = "where", skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// The class that a binary network gives the probability of; `None` for the last in byte order.
    pub positive: Option<String>,
}

impl Default for Columns {
    /// `path,label[,group][,split][,frame]`.
    fn default() -> Self {
        Columns {
            path: "path".into(),
            target: vec!["label".into()],
            group: "group".into(),
            split: "split".into(),
            frame: None,
            inputs: vec![],
            masks: vec![],
            agree: 1,
            only: vec![],
            positive: None,
        }
    }
}

impl Columns {
    /// Name and columns of each structure.
    fn structures(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.masks.iter().map(|masks| {
            let (name, columns) = masks.split_once('=').unwrap_or(("mask", masks));
            (name, columns.split(',').map(str::trim).collect())
        })
    }

    /// An error if so many raters cannot agree.
    pub(super) fn check_raters(&self, raters: usize) -> Result<()> {
        if (1..=raters).contains(&self.agree) {
            return Ok(());
        }
        let problem = format!("{} of {raters} raters cannot agree", self.agree);
        Err(Error::unusable(problem, format!("--agree from 1 to {raters}")))
    }
}

/// The records of a CSV file; paths are relative to its folder. Every file is looked for, none is read.
pub fn list_file(task: Task, path: &Path, columns: &Columns) -> Result<Listing> {
    let shown = path.display().to_string();
    let text = fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let text = String::from_utf8(text).map_err(|_| {
        Error::unusable(
            format!("the dataset {shown} is a file but no CSV text in UTF-8"),
            "give a folder of class folders, or a CSV with the columns path,label saved as UTF-8",
        )
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    list(&text, task, columns, &shown, |name| {
        let source = Source::of_path(&folder.join(name));
        source.file().is_some_and(Path::is_file).then_some(source)
    })
}

/// The records of a CSV text whose paths name entries of `files`.
pub fn list_embedded(
    csv: &str,
    files: &'static [(&'static str, &'static [u8])],
    task: Task,
    columns: &Columns,
) -> Result<Listing> {
    let files: HashMap<&str, &'static [u8]> = files.iter().copied().collect();
    let find = |name: &str| files.get(name).copied().map(Source::Embedded);
    let listing = list(csv, task, columns, "the embedded table", find)?;
    Ok(Listing { origin: "embedded sample".into(), ..listing })
}

/// The header of a table, to find columns in.
pub(super) struct Header<'a> {
    names: &'a csv::StringRecord,
    table: &'a str,
}

impl<'a> Header<'a> {
    pub fn new(names: &'a csv::StringRecord, table: &'a str) -> Header<'a> {
        Header { names, table }
    }

    /// Position of the column called `name`, in any case.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|h| h == name).or_else(|| self.called(name).next())
    }

    fn called(&self, name: &str) -> impl Iterator<Item = usize> {
        let same = |h: &str| h.trim_start_matches('\u{feff}').eq_ignore_ascii_case(name);
        self.names.iter().enumerate().filter(move |(_, h)| same(h)).map(|(place, _)| place)
    }

    /// The same, which must be there.
    pub fn need(&self, name: &str) -> Result<usize> {
        let exactly = self.names.iter().filter(|h| *h == name).count();
        if exactly > 1 || exactly == 0 && self.called(name).count() > 1 {
            return Err(Error::unusable(
                format!("{} has several columns {name:?}", self.table),
                "other names for them",
            ));
        }
        self.find(name).ok_or_else(|| {
            let found = self.names.iter().collect::<Vec<_>>().join(", ");
            let has = if found.is_empty() { "it is empty".into() } else { format!("its first line reads: {found}") };
            Error::unusable(
                format!("{} has no column {name:?}; {has}", self.table),
                "start it with the line path,label (and, if you like, group and split), or name its columns: \
                 --path, --target, --masks, --group, --split-column, --frame, --inputs",
            )
        })
    }
}

/// The values that rows must have in a column to be used.
struct Condition<'a> {
    column: &'a str,
    place: usize,
    values: Vec<&'a str>,
    /// What rows have there.
    found: BTreeSet<String>,
}

impl<'a> Condition<'a> {
    /// That of a text `COLUMN=VALUE,...`.
    fn parse(text: &'a str, header: &Header) -> Result<Condition<'a>> {
        let (column, values) = text.split_once('=').ok_or_else(|| {
            Error::unusable(format!("{text:?} does not say which rows to use"), "--where COLUMN=VALUE,...")
        })?;
        let values = values.split(',').map(str::trim).collect();
        Ok(Condition { column, place: header.need(column)?, values, found: BTreeSet::new() })
    }

    fn holds(&mut self, row: &csv::StringRecord) -> bool {
        let value = &row[self.place];
        if !self.found.contains(value) {
            self.found.insert(value.into());
        }
        self.values.contains(&value)
    }

    /// An error if a value is in no row.
    fn check(&self, table: &str) -> Result<()> {
        let Some(missing) = self.values.iter().find(|value| !self.found.contains(**value)) else { return Ok(()) };
        let found: Vec<&str> = self.found.iter().take(MOST_FOUND).map(String::as_str).collect();
        let more = if self.found.len() > MOST_FOUND { ", ..." } else { "" };
        let problem = format!("no row of {table} has {missing:?} in the column {:?}", self.column);
        Err(Error::unusable(problem, format!("one of: {}{more}", found.join(", "))))
    }
}

/// Values of a column that an error lists.
const MOST_FOUND: usize = 20;

/// Positions of the columns in a row.
struct Places {
    path: usize,
    target: Vec<usize>,
    masks: Vec<Vec<usize>>,
    inputs: Vec<usize>,
    group: Option<usize>,
    split: Option<usize>,
    frame: Option<usize>,
    /// Whether a comma in a number is its decimal point: between cells there are other signs.
    decimal_comma: bool,
}

impl Places {
    fn find(header: &Header, task: Task, columns: &Columns, delimiter: u8) -> Result<Places> {
        let all = |names: &[String]| names.iter().map(|name| header.need(name)).collect::<Result<Vec<_>>>();
        let twice = |names: &[String]| {
            names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)).map(|(_, name)| name.clone())
        };
        if let Some(name) = twice(&columns.target).or_else(|| twice(&columns.inputs)) {
            return Err(Error::unusable(format!("the column {name} is named twice"), "each column once"));
        }
        if matches!(task, Task::MultiClass | Task::Binary) && columns.target.len() > 1 {
            let problem = format!("{} columns are named, and an image has one class", columns.target.len());
            return Err(Error::unusable(
                problem,
                "one --target, or --task multi-label for a column of 0 and 1 for each label",
            ));
        }
        // The default may be missing, a column that was named may not.
        let optional = |name: &str, default: &str| match header.find(name) {
            None if name != default => header.need(name).map(Some),
            found => Ok(found),
        };
        let path = header.need(&columns.path)?;
        let (mut target, mut masks) = (vec![], vec![]);
        if task == Task::Segmentation {
            let mut names = BTreeSet::new();
            for (name, raters) in columns.structures() {
                if !names.insert(name) {
                    let remedy = "--masks NAME=COLUMN for each structure, and commas between the raters of one";
                    return Err(Error::unusable(format!("two structures are called {name}"), remedy));
                }
                columns.check_raters(raters.len())?;
                masks.push(raters.into_iter().map(|name| header.need(name)).collect::<Result<_>>()?);
            }
        } else if task != Task::Reconstruction || columns.target.iter().any(|name| header.find(name).is_some()) {
            target = all(&columns.target)?;
        }
        if let Some(told) = columns.inputs.iter().find(|input| !target.is_empty() && columns.target.contains(input)) {
            return Err(Error::unusable(format!("{told} is the target and an input too"), "--inputs without it"));
        }
        // Unless a column is named, patients are what must not straddle splits.
        let patient = (columns.group == "group").then(|| header.find("patient")).flatten();
        Ok(Places {
            path,
            target,
            masks,
            inputs: all(&columns.inputs)?,
            group: optional(&columns.group, "group")?.or(patient),
            split: optional(&columns.split, "split")?,
            frame: match columns.frame.as_deref() {
                None => header.find("frame").or(header.find("slice")),
                Some("") => None,
                Some(name) => Some(header.need(name)?),
            },
            decimal_comma: delimiter != b',',
        })
    }
}

/// A reader of a table whose cells are separated by the most frequent of commas, semicolons and tabs in its first line:
/// spreadsheets write semicolons where numbers have a decimal comma.
pub(super) fn reader(text: &[u8]) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new().delimiter(delimiter(text)).trim(csv::Trim::All).from_reader(text)
}

/// What separates the cells of a table, by its first line.
fn delimiter(text: &[u8]) -> u8 {
    let header = text.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let count = |mark: &u8| header.iter().filter(|&byte| byte == mark).count();
    // Of equals the last: the comma.
    [b'\t', b';', b','].into_iter().max_by_key(count).unwrap_or(b',')
}

/// Parses `text`; `find` gives the source of a path, if there is one. `table` is how errors call the file.
fn list(
    text: &str,
    task: Task,
    columns: &Columns,
    table: &str,
    find: impl Fn(&str) -> Option<Source>,
) -> Result<Listing> {
    if task == Task::Segmentation && columns.masks.is_empty() {
        return Err(Error::unusable(format!("nothing says which columns of {table} are masks"), "--masks COLUMN,..."));
    }
    let mut reader = reader(text.as_bytes());
    let malformed = |e: csv::Error| Error::unusable(format!("{table} is no valid CSV: {e}"), "mend that line");
    let names = reader.headers().map_err(malformed)?.clone();
    let header = Header::new(&names, table);
    let places = Places::find(&header, task, columns, delimiter(text.as_bytes()))?;
    let conditions = columns.only.iter().map(|text| Condition::parse(text, &header));
    let mut conditions = conditions.collect::<Result<Vec<_>>>()?;
    let mut first_at = HashMap::new();
    let mut listed = Vec::new();
    for row in reader.records() {
        let row = row.map_err(malformed)?;
        // Each has to see every row.
        let unmet = conditions.iter_mut().map(|condition| condition.holds(&row)).filter(|holds| !holds).count();
        if unmet > 0 {
            continue;
        }
        let start = row.position().map_or(0, csv::Position::byte) as usize;
        let refused = |(problem, remedy): (String, &str)| {
            Error::unusable(format!("{table}, line {}: {problem}", line_at(text, start)), remedy)
        };
        let record = read_row(&row, task, columns, &places, &find).map_err(refused)?;
        if let Some(first) = first_at.insert(record.name.clone(), start) {
            let problem = format!("{:?} is listed already in line {}", record.name, line_at(text, first));
            return Err(refused((problem, "list each image once")));
        }
        listed.push(record);
    }
    conditions.iter().try_for_each(|condition| condition.check(table))?;
    let is_flag = |record: &Listed| matches!(&record.truth, ListedTruth::Labels(one) if *one == ["0"] || *one == ["1"]);
    if task == Task::MultiLabel && columns.target.len() == 1 && !listed.is_empty() && listed.iter().all(is_flag) {
        let problem = format!("the column {} of {table} says yes or no, and lists no labels", columns.target[0]);
        return Err(Error::unusable(problem, "--task binary, or more columns of 0 and 1"));
    }
    let names = match task {
        Task::MultiClass | Task::Binary | Task::Reconstruction => vec![],
        Task::MultiLabel if columns.target.len() == 1 => vec![],
        Task::MultiLabel | Task::Regression => columns.target.clone(),
        Task::Segmentation => columns.structures().map(|(name, _)| name.to_string()).collect(),
    };
    Ok(Listing { origin: table.into(), task, names, listed, ignored: 0 })
}

/// The line of the row that starts at byte `start`, or after the blank lines there: the csv reader counts those to the
/// row that follows them.
fn line_at(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let blank = bytes[start..].iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    1 + bytes[..start + blank].iter().filter(|&&b| b == b'\n').count()
}

/// What is wrong with a row, and what to do about it.
type Refusal = (String, &'static str);

/// The number that a cell means: as it is, or 1 and 0 for `true` and `false`, `yes` and `no`, `m`(ale) and `f`(emale).
pub(crate) fn number(text: &str) -> Option<f32> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "m" | "male" => Some(1.0),
        "false" | "no" | "f" | "female" => Some(0.0),
        number => number.parse().ok().filter(|x: &f32| x.is_finite()),
    }
}

fn read_row(
    row: &csv::StringRecord,
    task: Task,
    columns: &Columns,
    places: &Places,
    find: impl Fn(&str) -> Option<Source>,
) -> std::result::Result<Listed, Refusal> {
    let filled = |column: Option<usize>| column.map(|c| &row[c]).filter(|text| !text.is_empty());
    let Some(name) = filled(Some(places.path)) else {
        return Err(("the path is empty".into(), "fill it in, or remove the line"));
    };
    let file = |name: &str| {
        find(name).ok_or_else(|| (format!("there is no file {name:?}"), "give paths relative to the folder of the CSV"))
    };
    let numbers = |at: &[usize], names: &[String]| {
        let read = |(&c, column): (&usize, &String)| {
            let text = if places.decimal_comma { row[c].replacen(',', ".", 1) } else { row[c].into() };
            number(&text).ok_or_else(|| {
                (format!("the {column} of {name:?} is no number: {:?}", &row[c]), "fill it in, or remove the line")
            })
        };
        at.iter().zip(names).map(read).collect::<std::result::Result<Vec<f32>, Refusal>>()
    };
    let truth = match task {
        Task::Reconstruction => ListedTruth::Class(filled(places.target.first().copied()).unwrap_or(UNLABELLED).into()),
        Task::MultiClass | Task::Binary => {
            let Some(label) = filled(places.target.first().copied()) else {
                return Err((format!("the label of {name:?} is empty"), "fill it in, or remove the line"));
            };
            ListedTruth::Class(label.into())
        }
        Task::MultiLabel if places.target.len() == 1 => {
            let labels = row[places.target[0]].split('|').map(str::trim).filter(|label| !label.is_empty());
            ListedTruth::Labels(labels.map(str::to_string).collect())
        }
        Task::MultiLabel => {
            let applies = numbers(&places.target, &columns.target)?;
            if applies.iter().any(|&x| x != 0.0 && x != 1.0) {
                return Err((format!("the labels of {name:?} are not all 0 or 1"), "one column a label, of 0 and 1"));
            }
            let labels = columns.target.iter().zip(applies).filter(|(_, applies)| *applies == 1.0);
            ListedTruth::Labels(labels.map(|(label, _)| label.clone()).collect())
        }
        Task::Regression => ListedTruth::Numbers(numbers(&places.target, &columns.target)?),
        Task::Segmentation => {
            // An empty cell is a rater who marked nothing.
            let drawn = |raters: &Vec<usize>| {
                let masks = raters.iter().filter_map(|&c| filled(Some(c))).map(file);
                Ok(Raters { masks: masks.collect::<std::result::Result<_, _>>()?, agree: columns.agree })
            };
            ListedTruth::Masks(places.masks.iter().map(drawn).collect::<std::result::Result<_, _>>()?)
        }
    };
    let split = match filled(places.split) {
        None => None,
        Some(word) => Some(Split::parse(word).ok_or_else(|| {
            (format!("unknown split {word:?}"), "train, validation or test; or no split in any line, to have it drawn")
        })?),
    };
    let name = match filled(places.frame) {
        None => name.to_string(),
        Some(frame) if frame.parse::<usize>().is_ok() => format!("{name}#{frame}"),
        Some(frame) => {
            let problem = format!("{frame:?} is no number of a frame");
            return Err((problem, "0 for the first, or empty; --frame '' if the column says something else"));
        }
    };
    Ok(Listed {
        truth,
        inputs: numbers(&places.inputs, &columns.inputs)?,
        group: filled(places.group).map(str::to_string),
        split,
        source: file(&name)?,
        name,
    })
}
