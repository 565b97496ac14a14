//! `roentgen predict`.

use super::{
    machine::Machine,
    output::{print, say},
};
use crate::{
    Error, Result,
    data::{Dataset, Record, Source, Split, is_image_file},
    train::{Checkpoint, Prepared, step},
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
    /// Threads that load images; changes no result
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(..=256))]
    workers: u16,
    #[command(flatten)]
    machine: Machine,
}

/// Prints a CSV with the prediction and the score of each class, a line an image.
pub fn run(args: Args) -> Result<ExitCode> {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let state = &checkpoint.state;
    let mut records = vec![];
    for path in &args.files {
        list(path, true, &mut records)?;
    }
    if records.is_empty() {
        return Err(Error::unusable(
            format!("{} holds no images (DICOM, NIfTI, MetaImage, PNG, JPEG)", args.files[0].display()),
            "name images, or a folder that holds some",
        ));
    }
    let device = args.machine.device()?;
    let model = checkpoint.model(&device)?;
    let mut dataset = Dataset { origin: "files".into(), classes: state.classes.clone(), records, ignored: 0 };
    let skipped = dataset.verify(state.config.intensity, args.skip_bad)?;
    skipped.iter().for_each(|skipped| say(format!("left out: {}", skipped.reason.lines().next().unwrap_or(""))));
    let prepared = Prepared::plain(dataset);
    let mut table = csv::Writer::from_writer(vec![]);
    let in_memory = "a Vec can be written to";
    let scores = state.classes.iter().map(|class| format!("score_{class}"));
    let header = ["path", "predicted"].map(String::from).into_iter().chain(scores);
    table.write_record(header).expect(in_memory);
    if let Some(loader) = prepared.loader(Split::Test, &state.config, usize::from(args.workers)) {
        let scores = step::evaluate(&model, &loader, &state.classes, &AtomicBool::new(false))?;
        let scores = scores.expect("nothing interrupts it");
        for (i, record) in loader.records().iter().enumerate() {
            let facts = [record.name.clone(), state.classes[scores.predicted(i)].clone()];
            table.write_record(facts.into_iter().chain(scores.row(i).iter().map(f32::to_string))).expect(in_memory);
        }
    }
    let table = table.into_inner().expect(in_memory);
    match &args.out {
        Some(path) => crate::files::write_atomic(path, &table)?,
        None => print(String::from_utf8_lossy(&table))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds the image at `path`, or all below it in order. A file counts as an image if it was `named`, else by
/// [`is_image_file`].
fn list(path: &Path, named: bool, records: &mut Vec<Record>) -> Result<()> {
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
        return entries.iter().try_for_each(|entry| list(entry, false, records));
    }
    if named || is_image_file(path) {
        records.push(Record {
            name: path.display().to_string(),
            label: 0,
            group: None,
            split: Some(Split::Test),
            source,
            fingerprint: None,
        });
    }
    Ok(())
}
