//! `roentgen predict`.

use super::{
    machine::Machine,
    output::{print, say},
};
use crate::{
    Error, Result,
    data::{Batch, Dataset, Loader, Record, Source, Split, Truth, is_image_file, resize::unfit_mask},
    files::write_atomic,
    report::Picture,
    task::Task,
    train::{Checkpoint, Head, Prepared, RunState, step},
};
use std::{
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
    /// Images (FILE#N for frame N of a volume, else its middle one), or folders of images at any depth
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Leave unreadable images out instead of stopping
    #[arg(long)]
    skip_bad: bool,
    /// Where the table goes [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Folder for the masks that a segmenting network predicts: PNGs of the size of their images, 255 where marked
    #[arg(long, value_name = "DIR")]
    masks: Option<PathBuf>,
    /// Numbers that the network is given beside every image, in the order of its training
    #[arg(long, value_name = "NUMBER,...", value_delimiter = ',')]
    inputs: Vec<f32>,
    /// Threads that load images; changes no result
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(..=256))]
    workers: u16,
    #[command(flatten)]
    machine: Machine,
}

/// Prints a CSV with what is predicted, a line an image.
pub fn run(args: Args) -> Result<ExitCode> {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let state = &checkpoint.state;
    check(&args, state)?;
    let mut records = vec![];
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
    for path in &args.files {
        list(path, true, &blank, &mut records)?;
    }
    if records.is_empty() {
        return Err(Error::unusable(
            format!("{} holds no images (DICOM, NIfTI, MetaImage, PNG, JPEG)", args.files[0].display()),
            "name images, or a folder that holds some",
        ));
    }
    let device = args.machine.device()?;
    let model = checkpoint.model(&device)?;
    let mut dataset = Dataset {
        origin: "files".into(),
        task: state.config.task,
        classes: state.classes.clone(),
        records,
        ..Dataset::default()
    };
    let skipped = dataset.verify(state.config.intensity, args.skip_bad)?;
    skipped.iter().for_each(|skipped| say(format!("left out: {}", skipped.reason.lines().next().unwrap_or(""))));
    let prepared = Prepared::plain(dataset);
    let head = Head::of(state);
    let mut predictions = head.no_predictions();
    let loader = prepared.loader(Split::Test, state, usize::from(args.workers));
    if let Some(loader) = &loader {
        step::each_batch(&model, loader, None, &AtomicBool::new(false), &mut |batch, seen| {
            head.add(&mut predictions, seen, batch, loader.records())?;
            match &args.masks {
                Some(folder) => write_masks(folder, state, &seen.outputs.to_vec()?, batch, loader.records()),
                None => Ok(()),
            }
        })?;
    }
    let mut table = csv::Writer::from_writer(vec![]);
    let in_memory = "a Vec can be written to";
    let header = std::iter::once("path".to_string()).chain(predictions.columns(false));
    table.write_record(header).expect(in_memory);
    for (i, record) in loader.iter().flat_map(Loader::records).enumerate() {
        let row = std::iter::once(record.name.clone()).chain(predictions.cells(i, false));
        table.write_record(row).expect(in_memory);
    }
    let table = table.into_inner().expect(in_memory);
    match &args.out {
        Some(path) => write_atomic(path, &table)?,
        None => print(String::from_utf8_lossy(&table))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses flags that do not fit the network.
fn check(args: &Args, state: &RunState) -> Result<()> {
    let wanted = &state.config.columns.inputs;
    if args.inputs.len() != wanted.len() {
        return Err(Error::unusable(
            format!("the network takes {} numbers beside an image, not {}", wanted.len(), args.inputs.len()),
            if wanted.is_empty() { "leave --inputs out".into() } else { format!("--inputs with {}", wanted.join(",")) },
        ));
    }
    if args.masks.is_some() && state.config.task != Task::Segmentation {
        return Err(Error::unusable("the network predicts no masks".to_string(), "leave --masks out"));
    }
    Ok(())
}

/// Writes the masks that `outputs` are to `folder/<name of the image>.png`, with the structure's name where there are several.
fn write_masks(folder: &Path, state: &RunState, outputs: &[f64], batch: &Batch, records: &[Record]) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| Error::io("make the folder", folder, e))?;
    let k = state.classes.len();
    for (outputs, &i) in outputs.chunks_exact(outputs.len() / batch.len()).zip(&batch.indices) {
        let record = &records[i as usize];
        let (width, height) = record.extent()?;
        let mask = unfit_mask(&Head::mask(outputs), (width, height), k, batch.size);
        for (c, name) in state.classes.iter().enumerate() {
            let pixels = mask.iter().skip(c).step_by(k).map(|&marked| marked * 255).collect();
            let picture = Picture { width: width as u32, height: height as u32, pixels };
            let stem = record.stem();
            let file = if k == 1 { format!("{stem}.png") } else { format!("{stem}-{name}.png") };
            write_atomic(&folder.join(file), &picture.png())?;
        }
    }
    Ok(())
}

/// Adds the image at `path`, or all below it in order. A file counts as an image if it was `named`, else by
/// [`is_image_file`].
fn list(path: &Path, named: bool, blank: &Record, records: &mut Vec<Record>) -> Result<()> {
    let failed = |e| Error::io("read", path, e);
    let source = Source::of_path(path);
    if fs::metadata(source.file().expect("a path is no embedded image")).map_err(failed)?.is_dir() {
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
    if named || is_image_file(path) {
        records.push(Record { name: path.display().to_string(), source, ..blank.clone() });
    }
    Ok(())
}
