//! `roentgen predict`.

mod masks;
mod names;

use super::{
    machine::Machine,
    output::{check_free, print, say},
};
use crate::{
    Error, Result,
    data::{Dataset, Record, Source, Split, Truth, is_image_file, number},
    files::write_atomic,
    metrics::Predictions,
    models::Model,
    task::Task,
    train::{Checkpoint, Head, Mirrors, Prepared, RunState, explain, step},
};
use names::Names;
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::AtomicBool,
};

/// Arguments of `predict`.
#[derive(clap::Args)]
pub struct Args {
    /// Checkpoint, or the folder of a run
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: PathBuf,
    /// Images (FILE#N for frame N of a volume, else its middle one, and for masks all of them), or folders of images
    /// at any depth, or CSVs with the columns of the run: path and, if it was given numbers beside an image, those
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Leave unreadable images out instead of stopping
    #[arg(long)]
    skip_bad: bool,
    /// Where the table goes [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the files of --out, --masks and --explain if they are there
    #[arg(long)]
    force: bool,
    /// Folder for the masks that a segmenting network predicts: for a volume one of its shape and place, for other
    /// images PNGs of their size, 255 where marked
    #[arg(long, value_name = "DIR")]
    masks: Option<PathBuf>,
    /// Folder for PNGs of the images as the network sees them, warm where it finds what it predicts (Grad-CAM)
    #[arg(long, value_name = "DIR")]
    explain: Option<PathBuf>,
    /// Side of the squares that images are fitted into before a segmenting network sees them; for one trained on crops,
    /// the longer side of the whole images [default: as in training]
    #[arg(long, value_name = "PX", value_parser = clap::value_parser!(u16).range(1..=4096))]
    size: Option<u16>,
    /// Predict the mean of what the network says of an image and of its mirror images, of those that training drew
    #[arg(long)]
    mirrors: bool,
    /// Numbers that the network is given beside every image that no CSV lists, in the order of its training: 1 or 0 for
    /// yes or no
    #[arg(long, value_name = "NUMBER,...", value_delimiter = ',', allow_negative_numbers = true, value_parser = finite)]
    inputs: Vec<f32>,
    /// Threads that load images; changes no result
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(..=256))]
    workers: u16,
    #[command(flatten)]
    machine: Machine,
}

fn finite(text: &str) -> std::result::Result<f32, String> {
    number(text).ok_or_else(|| "no number".into())
}

/// Prints a CSV with what is predicted, a line an image.
pub fn run(args: Args) -> Result<ExitCode> {
    let mut checkpoint = Checkpoint::open(&args.checkpoint)?;
    check(&args, &checkpoint.state)?;
    if let Some(size) = args.size {
        checkpoint.state.config.size = size.into();
    }
    let state = &checkpoint.state;
    let records = records(&args, state)?;
    if let Some(out) = &args.out {
        let images = records.iter().filter_map(|record| record.source.file());
        check_free(out, args.force, images.chain([&*args.checkpoint]).chain(args.files.iter().map(PathBuf::as_path)))?;
    }
    let roots: Vec<PathBuf> = args.files.iter().filter_map(|path| root(path)).collect();
    let names =
        |folder, parts: &[Option<&str>], suffix| Names::new(folder, args.force, &roots, &records, parts, suffix);
    let drawn = masks::parts(&state.classes);
    let masks = args.masks.as_deref().map(|folder| names(folder, &drawn, masks::suffix)).transpose()?;
    let explained = args.explain.as_deref().map(|folder| names(folder, &[None], |_| "png")).transpose()?;
    let device = args.machine.device()?;
    let model = checkpoint.model(&device)?;
    model.check_size(state.config.size)?;
    let head = Head::of(state);
    let mirrors = if args.mirrors { Mirrors::drawn_by(&state.config.augment)? } else { Mirrors::NONE };
    let (predictions, names, marked) = (head.no_predictions(), vec![], vec![]);
    let (skip_bad, workers) = (args.skip_bad, usize::from(args.workers));
    let mut network = Network { model, state, head, mirrors, skip_bad, workers, predictions, names, marked };
    match state.config.task {
        Task::Segmentation => masks::predict(&mut network, records, masks)?,
        _ => {
            network.predict(records.clone(), &mut |_, _| Ok(()))?;
            if let Some(names) = explained {
                explain_to(&network, records, names)?;
            }
        }
    }
    let mut table = csv::Writer::from_writer(vec![]);
    let in_memory = "a Vec can be written to";
    let header = std::iter::once("path".to_string()).chain(network.predictions.columns(false));
    table.write_record(header).expect(in_memory);
    for (i, name) in network.names.iter().enumerate() {
        table.write_record(std::iter::once(name.clone()).chain(network.cells(i))).expect(in_memory);
    }
    let table = table.into_inner().expect(in_memory);
    match &args.out {
        Some(path) => write_atomic(path, &table)?,
        None => print(String::from_utf8_lossy(&table))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A trained network, and what it has predicted so far.
struct Network<'a> {
    model: Model,
    state: &'a RunState,
    head: Head,
    mirrors: Mirrors,
    skip_bad: bool,
    workers: usize,
    predictions: Predictions,
    /// The images of the predictions.
    names: Vec<String>,
    /// Of a segmenting network the pixels that it marked in each image, at the image's own size, structure by structure.
    marked: Vec<usize>,
}

impl Network<'_> {
    /// Adds what the network says of `records`; `each` is given the outputs for one of them.
    fn predict(&mut self, records: Vec<Record>, each: &mut dyn FnMut(&Record, &[f64]) -> Result<()>) -> Result<()> {
        let Network { model, state, head, mirrors, skip_bad, workers, predictions, names, .. } = self;
        let mut dataset = files(records, state);
        let skipped = dataset.verify(state.config.intensity, *skip_bad)?;
        skipped.iter().for_each(|skipped| say(format!("left out: {}", skipped.reason.lines().next().unwrap_or(""))));
        let Some(loader) = Prepared::plain(dataset).loader(Split::Test, state, *workers) else { return Ok(()) };
        step::each_batch(model, &loader, None, &AtomicBool::new(false), &mut |batch, seen| {
            let outputs = mirrors.mean(model, batch, seen)?;
            head.add(predictions, &outputs, seen, batch, loader.records())?;
            let images = outputs.chunks_exact(outputs.len() / batch.len());
            images.zip(&batch.indices).try_for_each(|(image, &i)| each(&loader.records()[i as usize], image))
        })?;
        names.extend(loader.records().iter().map(|record| record.name.clone()));
        Ok(())
    }

    /// What the table says of image `i`, beside its name.
    fn cells(&self, i: usize) -> Vec<String> {
        match self.state.config.task {
            Task::Segmentation => {
                let k = self.state.classes.len();
                self.marked[i * k..][..k].iter().map(usize::to_string).collect()
            }
            _ => self.predictions.cells(i, false),
        }
    }
}

/// Writes a PNG for each of `records` that `network` has predicted, under the Grad-CAM of its prediction.
fn explain_to(network: &Network, mut records: Vec<Record>, mut names: Names) -> Result<()> {
    let predicted: HashSet<&String> = network.names.iter().collect();
    records.retain(|record| predicted.contains(&record.name));
    let dataset = files(records, network.state);
    explain::explain(&network.model, network.state, dataset, explain::predicted, |record, case| {
        write_atomic(&names.of(record, None, "png")?, &case.picture.png())
    })
}

/// Images as a dataset for the network of `state`.
fn files(records: Vec<Record>, state: &RunState) -> Dataset {
    let (task, classes) = (state.config.task, state.classes.clone());
    Dataset { origin: "files".into(), task, classes, records, ..Dataset::default() }
}

/// Refuses flags that do not fit the network.
fn check(args: &Args, state: &RunState) -> Result<()> {
    let wanted = &state.config.columns.inputs;
    let (names, path) = (wanted.join(","), &state.config.columns.path);
    let listed = args.files.iter().all(|path| is_table(path));
    if listed && !wanted.is_empty() && !args.inputs.is_empty() {
        return Err(Error::unusable(format!("the CSV itself has to say {names}"), "leave --inputs out"));
    }
    if args.inputs.len() != if listed { 0 } else { wanted.len() } {
        let remedy = match wanted.is_empty() {
            true => "leave --inputs out".into(),
            false => format!("--inputs with {names} (1 or 0 for yes or no), or a CSV with the columns {path},{names}"),
        };
        let problem = format!("the network takes {} numbers beside an image, not {}", wanted.len(), args.inputs.len());
        return Err(Error::unusable(problem, remedy));
    }
    if args.masks.is_some() && state.config.task != Task::Segmentation {
        return Err(Error::unusable("the network predicts no masks".to_string(), "leave --masks out"));
    }
    if args.explain.is_some() {
        explain::check_explicable(state.config.task)?;
    }
    if args.size.is_some() && state.config.task != Task::Segmentation {
        let problem = "the network takes images of the size that it was trained on".to_string();
        return Err(Error::unusable(problem, "leave --size out"));
    }
    Ok(())
}

/// Whether `path` is a table that lists images.
fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("csv")) && path.is_file()
}

/// The folder below which images at `path` keep their path in what is written for them.
fn root(path: &Path) -> Option<PathBuf> {
    if is_table(path) { path.parent().map(Path::to_path_buf) } else { path.is_dir().then(|| path.into()) }
}

/// The images that were named, of which nothing is known.
fn records(args: &Args, state: &RunState) -> Result<Vec<Record>> {
    let unknown = match state.config.task {
        Task::MultiClass | Task::Binary | Task::Reconstruction => Truth::Class(0),
        Task::MultiLabel | Task::Regression => Truth::Numbers(vec![0.0; state.classes.len()]),
        Task::Segmentation => Truth::Masks(vec![]),
    };
    let blank = Record {
        name: String::new(),
        truth: unknown,
        inputs: args.inputs.clone(),
        group: None,
        split: Some(Split::Test),
        source: Source::Embedded(&[]),
        fingerprint: None,
    };
    let mut records = vec![];
    for path in &args.files {
        if is_table(path) {
            let listed = Dataset::unlabelled(path, &state.config.columns)?.into_iter();
            let image = |Record { name, source, inputs, .. }| Record { name, source, inputs, ..blank.clone() };
            records.extend(listed.map(image));
        } else {
            list(path, true, &blank, &mut records)?;
        }
    }
    if records.is_empty() {
        return Err(Error::unusable(
            format!("{} holds no images (DICOM, NIfTI, MetaImage, PNG, JPEG)", args.files[0].display()),
            "name images, or a folder that holds some",
        ));
    }
    Ok(records)
}

/// Adds the image at `path`, or all below it in order. A file counts as an image if it was `named`, else by
/// [`is_image_file`].
fn list(path: &Path, named: bool, blank: &Record, records: &mut Vec<Record>) -> Result<()> {
    let failed = |e| Error::io("read", path, e);
    let source = Source::of_path(path);
    let found = fs::metadata(source.file().expect("a path is no embedded image"));
    // A link to nothing below a folder is told of as what else cannot be read.
    if found.as_ref().is_ok_and(fs::Metadata::is_dir) {
        let mut entries = vec![];
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            // A link to a folder can form a loop.
            let loops = entry.path().is_symlink() && entry.path().is_dir();
            if !hidden && !loops {
                entries.push(entry.path());
            }
        }
        entries.sort();
        return entries.iter().try_for_each(|entry| list(entry, false, blank, records));
    }
    if named {
        found.map_err(failed)?;
    }
    if named || is_image_file(path) {
        records.push(Record { name: path.display().to_string(), source, ..blank.clone() });
    }
    Ok(())
}
