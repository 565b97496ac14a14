//! `roentgen evaluate`.

use super::{
    machine::Machine,
    output::{check_free, print, say},
};
use crate::{
    Error, Result,
    data::{Split, manifest},
    train::{Checkpoint, Head, Mirrors, Prepared, step, write_predictions},
};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::AtomicBool,
};

/// Arguments of `evaluate`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of a run (its best checkpoint), or a checkpoint
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Other labelled data than the run's own, or where these are now: a folder or CSV as for finetune
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Split to evaluate [default: test, or validation if there is none; all of other data without splits]
    #[arg(long, value_name = "NAME", value_parser = split)]
    split: Option<Split>,
    /// Predict the mean of what the network says of an image and of its mirror images, of those that training drew
    #[arg(long)]
    mirrors: bool,
    /// Leave unreadable images out instead of refusing the data
    #[arg(long)]
    skip_bad: bool,
    /// Where the predictions go
    #[arg(long, value_name = "FILE", default_value = "predictions.csv")]
    out: PathBuf,
    /// Replace the predictions of --out if they are there
    #[arg(long)]
    force: bool,
    /// Threads that load images; changes no result
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(..=256))]
    workers: u16,
    #[command(flatten)]
    machine: Machine,
}

fn split(name: &str) -> std::result::Result<Split, String> {
    Split::parse(name).ok_or_else(|| "one of: train, validation, test".into())
}

/// Prints the metrics of a checkpoint on labelled images, and writes its predictions.
pub fn run(args: Args) -> Result<ExitCode> {
    let mut checkpoint = Checkpoint::open(&args.run)?;
    check_free(&args.out, args.force, [Some(&*args.run), args.data.as_deref()].into_iter().flatten())?;
    checkpoint.state.config.skip_bad |= args.skip_bad;
    let state = &checkpoint.state;
    let device = args.machine.device()?;
    let model = checkpoint.model(&device)?;
    let mirrors = if args.mirrors { Mirrors::drawn_by(&state.config.augment)? } else { Mirrors::NONE };
    let manifest = checkpoint.path().with_file_name("manifest.csv");
    let recorded = manifest.is_file().then_some(&*manifest);
    let other = args.data.as_deref().filter(|data| !same(data, state.config.data.as_deref()));
    let (prepared, own) = match (other, recorded) {
        (None, _) => (Prepared::again(state, recorded)?, true),
        (Some(data), Some(recorded)) if let Some(moved) = Prepared::moved(state, data, recorded) => {
            say(format!("{} holds the run's own data: its splits are used", data.display()));
            (moved, true)
        }
        (Some(data), _) => (Prepared::other(state, data)?, false),
    };
    prepared.tell(&mut |line| say(line));
    let split = chosen(&prepared, args.split)?;
    let loader = prepared.loader(split, state, usize::from(args.workers)).expect("the split has images");
    if let (Some(manifest), false) = (recorded, own) {
        let trained_on = manifest::listed_in(manifest, Split::Train, loader.records())?;
        if let Some(first) = trained_on.first() {
            let (n, all) = (trained_on.len(), loader.records().len());
            say(format!("warning: {n} of {all} images were trained on (say {}): scores will be too good", first.name));
        }
    }
    say(format!("evaluating {} on {} {split} images", checkpoint.path().display(), loader.records().len()));
    let predictions = step::evaluate(&model, &loader, &Head::of(state), &mirrors, &AtomicBool::new(false))?;
    let predictions = predictions.expect("nothing interrupts it");
    print(format!("{}\n", predictions.measures(Some(state.config.seed))))?;
    write_predictions(&args.out, &[(split, loader.records(), &predictions)])?;
    say(format!("predictions: {}", args.out.display()));
    Ok(ExitCode::SUCCESS)
}

/// Whether both name the same place.
fn same(a: &Path, b: Option<&Path>) -> bool {
    let place = |path: &Path| path.canonicalize().ok();
    b.is_some_and(|b| place(a).is_some_and(|a| place(b) == Some(a)))
}

/// The split that was asked for, or the first of test, validation and training that has images.
fn chosen(prepared: &Prepared, asked: Option<Split>) -> Result<Split> {
    let has = |split: &Split| prepared.dataset.records.iter().any(|record| record.split == Some(*split));
    let order = asked.map_or(vec![Split::Test, Split::Validation, Split::Train], |split| vec![split]);
    order.into_iter().find(has).ok_or_else(|| {
        let asked = asked.expect("a dataset has images in some split");
        Error::unusable(format!("{} has no {asked} images", prepared.dataset.origin), "another --split")
    })
}
