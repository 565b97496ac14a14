//! `roentgen doctor`: what there is to compute on, and why the CPU if it is the CPU; with `--data`, what the data are.

use super::{
    machine::{self, Machine},
    options::Recipe,
    output::print,
};
use crate::{
    Error, Result,
    data::{Dataset, Split, Spread, Survey},
    device::cuda::{
        self, Found,
        fatbin::{ARCHS, FATBINS, KERNELS_HASH, NVCC, code_for},
    },
    task::Task,
    train::{Config, Verified},
};
use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

/// Arguments of `doctor`.
#[derive(clap::Args)]
pub struct Args {
    /// With --data: the dataset is looked at instead, as finetune with the same flags would read and split it
    #[command(flatten)]
    recipe: Recipe,
    /// TOML file with any of the recipe's keys; flags override it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
}

fn line(key: &str, value: String) -> Result<()> {
    print(format!("{key:12}{value}\n"))
}

/// Prints a table of what was found. Fails only if the device that was asked for, or all of the data, cannot be used.
pub fn run(args: Args) -> Result<ExitCode> {
    let config = args.recipe.unchecked(args.config.as_deref(), |_| Ok(Config::default()))?.resolved()?;
    if config.data.is_some() {
        args.machine.threads()?;
        config.check_size()?;
        let mut dataset = Verified::list(&config)?;
        let survey = Survey::of(&mut dataset, config.intensity, config.size, &config.split, config.splits_seed());
        return describe(&dataset, &survey, config.size);
    }
    if let Some(key) = args.recipe.given()?.first() {
        let problem = format!("--{} is about data, and none are named", key.replace('_', "-"));
        return Err(Error::unusable(problem, "--data"));
    }
    let gib = |bytes: usize| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    line("roentgen", env!("CARGO_PKG_VERSION").into())?;
    line("processor", machine::processor().unwrap_or_else(|| "unknown".into()))?;
    line("memory", machine::memory_bytes().map_or("unknown".into(), gib))?;
    line("kernels", kernels())?;
    match cuda::find(0) {
        Ok(Found { name, capability: (major, minor), memory: (free, total), driver }) => {
            line("gpu", format!("{name}, compute capability {major}.{minor}"))?;
            line("gpu memory", format!("{} free of {}", gib(free), gib(total)))?;
            line("driver", format!("CUDA {}.{}", driver / 1000, driver % 1000 / 10))?;
            let code = code_for(major as u32, minor as u32);
            line("gpu code", code.unwrap_or("none for this compute capability").into())?;
        }
        Err(why) => line("gpu", format!("none: {}", first_line(&why.to_string())))?,
    }
    let device = args.machine.device()?;
    line("device", device.name())?;
    let energy = if device.meter().reads() { "has a counter" } else { "has no counter that can be read" };
    line("energy", energy.into())?;
    let precisions = device.precisions().iter().map(|dtype| dtype.suffix());
    line("precision", precisions.filter(|name| *name != "f64").collect::<Vec<_>>().join(" "))?;
    if let Err(why) = machine::first_gpu() {
        line("why no gpu", why.to_string().replace('\n', "\n            "))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Prints lines that belong together, the first with their key.
fn lines(key: &str, texts: impl IntoIterator<Item = String>) -> Result<()> {
    texts.into_iter().enumerate().try_for_each(|(i, text)| line(if i == 0 { key } else { "" }, text))
}

/// Prints what is known of the data.
fn describe(dataset: &Dataset, survey: &Survey, size: usize) -> Result<ExitCode> {
    let images = dataset.records.len();
    let noun = dataset.task.noun();
    line("data", dataset.origin.clone())?;
    line("task", dataset.task.to_string())?;
    let unreadable = match survey.unreadable.len() {
        0 => String::new(),
        n => format!(", {n} more cannot be read"),
    };
    let ignored = match dataset.ignored {
        0 => String::new(),
        n => format!("; {n} other files passed over"),
    };
    line("images", format!("{images} in {} {noun}{unreadable}{ignored}", dataset.classes.len()))?;
    line("formats", counted(&survey.formats, |format| format.clone()))?;
    if survey.volumes.0 > 0 {
        let (files, frames) = survey.volumes;
        line("volumes", format!("{files}, with {frames} frames; a record is one frame, by default the middle one"))?;
    }
    if !survey.modalities.is_empty() {
        line("modalities", counted(&survey.modalities, |modality| modality.clone()))?;
    }
    line("sizes", counted(&survey.sizes, |(width, height)| format!("{width} x {height}")))?;
    let depth = |&(bits, channels): &(u32, usize)| match channels {
        1 => format!("{bits} bit"),
        n => format!("{bits} bit in {n} channels"),
    };
    line("depths", counted(&survey.depths, depth))?;
    if survey.patients > 0 {
        line("patients", survey.patients.to_string())?;
    }
    if let Some((groups, fewest, most)) = survey.groups {
        line("groups", format!("{groups}, of {fewest} to {most} images"))?;
    }
    let splits: Vec<Split> = Split::ALL.into_iter().filter(|&split| dataset.of(Some(split)).next().is_some()).collect();
    let parts: Vec<String> =
        splits.iter().map(|&split| format!("{split} {}", dataset.of(Some(split)).count())).collect();
    let drawn = if survey.drawn > 0 { " (drawn as finetune does)" } else { "" };
    line("splits", parts.join(", ") + drawn)?;
    match dataset.task {
        Task::Regression => lines(noun, survey.numbers.iter().map(|spread| described(spread, "")))?,
        Task::Segmentation => {
            let covered = |area: &Spread| match area.count {
                0 => format!("{}: in no image", area.name),
                n => format!("{}; in {n} of {images} images", described(area, " % of the image")),
            };
            lines(noun, survey.areas.iter().map(covered))?;
        }
        Task::MultiClass | Task::Binary | Task::MultiLabel | Task::Reconstruction => {
            let all = dataset.class_counts(None);
            let counts: Vec<(Split, Vec<usize>)> =
                splits.iter().map(|&split| (split, dataset.class_counts(Some(split)))).collect();
            let class = |(c, class): (usize, &String)| {
                let share = 100.0 * all[c] as f64 / images.max(1) as f64;
                let parts: String = counts.iter().map(|(split, counts)| format!(", {split} {}", counts[c])).collect();
                format!("{class}: {} ({share:.1} %){parts}", all[c])
            };
            lines(noun, dataset.classes.iter().enumerate().map(class))?;
        }
    }
    lines("inputs", survey.inputs.iter().map(|spread| described(spread, "")))?;
    lines("unreadable", survey.unreadable.iter().map(|skipped| first_line(&skipped.reason).into()))?;
    lines("warnings", dataset.dropped_classes().into_iter().chain(survey.warnings.iter().cloned()))?;
    if images == 0 {
        let problem = format!("none of the {} images of {} can be read", survey.unreadable.len(), dataset.origin);
        return Err(Error::unusable(problem, "see the reasons above"));
    }
    let trained = match dataset.of(Some(Split::Train)).count() {
        0 => images,
        n => n,
    };
    let epoch = survey.seconds * trained as f64;
    line("reading", format!("{:.0} images/s on one core at {size} px", 1.0 / survey.seconds.max(1e-9)))?;
    line(
        "first epoch",
        format!("{epoch:.1} s of reading for {trained} images on one core; later ones are kept in memory"),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Mean, deviation and quartiles in words.
fn described(spread: &Spread, unit: &str) -> String {
    let Spread { name, mean, std, quartiles, .. } = spread;
    let [low, q1, median, q3, high] = quartiles.map(number);
    let (mean, std) = (number(*mean), number(*std));
    format!("{name}: mean {mean}, deviation {std}{unit}; from {low} to {high}, quartiles {q1}, {median}, {q3}")
}

/// A number with three significant digits, or all before the point.
fn number(x: f64) -> String {
    let digits = if x == 0.0 || !x.is_finite() { 0 } else { (2 - x.abs().log10().floor() as i64).clamp(0, 9) as usize };
    format!("{x:.digits$}")
}

/// The most frequent things, with their numbers.
fn counted<K: Ord>(counts: &BTreeMap<K, usize>, name: impl Fn(&K) -> String) -> String {
    const SHOWN: usize = 6;
    let mut all: Vec<(&K, &usize)> = counts.iter().collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut text: Vec<String> = all.iter().take(SHOWN).map(|(key, n)| format!("{} ({n})", name(key))).collect();
    if all.len() > SHOWN {
        text.push(format!("{} others ({})", all.len() - SHOWN, all[SHOWN..].iter().map(|(_, n)| **n).sum::<usize>()));
    }
    text.join(", ")
}

/// What GPU code the program carries.
fn kernels() -> String {
    let Some(nvcc) = NVCC else { return "none: built without nvcc (scripts/get-nvcc gets one)".into() };
    let count: usize = FATBINS.iter().map(|fatbin| fatbin.kernels.len()).sum();
    let bytes: usize = FATBINS.iter().map(|fatbin| fatbin.image.len()).sum();
    let archs = ARCHS.join(" ");
    format!("{count} for {archs}, {:.1} MiB, nvcc {nvcc}, {KERNELS_HASH:.12}", bytes as f64 / f64::from(1 << 20))
}
