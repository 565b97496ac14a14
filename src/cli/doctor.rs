//! `roentgen doctor`: what there is to compute on, and why the CPU if it is the CPU; with `--data`, what the data are.

use super::{
    machine::{self, Machine},
    options,
    output::print,
};
use crate::{
    Error, Result,
    data::{Dataset, Intensity, Split, Survey},
    device::cuda::{
        self, Found,
        fatbin::{ARCHS, FATBINS, KERNELS_HASH, NVCC, code_for},
    },
};
use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

/// Arguments of `doctor`.
#[derive(clap::Args)]
pub struct Args {
    /// Look at this dataset instead: a folder or CSV as for finetune
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// How stored values become gray, as for finetune
    #[arg(long, value_name = "RULE", requires = "data", default_value = "auto", value_parser = options::intensity)]
    intensity: Intensity,
    /// Side of the square images, in pixels
    #[arg(long, value_name = "PX", requires = "data", default_value_t = 224, value_parser = clap::value_parser!(u16).range(1..))]
    size: u16,
    #[command(flatten)]
    machine: Machine,
}

fn line(key: &str, value: String) -> Result<()> {
    print(format!("{key:12}{value}\n"))
}

/// Prints a table of what was found. Fails only if the device that was asked for, or all of the data, cannot be used.
pub fn run(args: Args) -> Result<ExitCode> {
    if let Some(data) = &args.data {
        args.machine.threads()?;
        let mut dataset = Dataset::open(data)?;
        let survey = Survey::of(&mut dataset, args.intensity, args.size.into());
        return describe(&dataset, &survey, args.size);
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

/// Prints what is known of the data.
fn describe(dataset: &Dataset, survey: &Survey, size: u16) -> Result<ExitCode> {
    let images = dataset.records.len();
    line("data", dataset.origin.clone())?;
    let unreadable = match survey.unreadable.len() {
        0 => String::new(),
        n => format!(", {n} more cannot be read"),
    };
    let ignored = match dataset.ignored {
        0 => String::new(),
        n => format!("; {n} other files passed over"),
    };
    line("images", format!("{images} in {} classes{unreadable}{ignored}", dataset.classes.len()))?;
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
    let used = |split: &Split| dataset.class_counts(Some(*split)).iter().any(|&n| n > 0);
    let splits: Vec<Split> = Split::ALL.into_iter().filter(used).collect();
    let all = dataset.class_counts(None);
    for (c, (class, count)) in dataset.classes.iter().zip(&all).enumerate() {
        let share = 100.0 * *count as f64 / images.max(1) as f64;
        let of = |split: &Split| format!(", {split} {}", dataset.class_counts(Some(*split))[c]);
        let parts: String = splits.iter().map(of).collect();
        line(if c == 0 { "classes" } else { "" }, format!("{class}: {count} ({share:.1} %){parts}"))?;
    }
    for (i, skipped) in survey.unreadable.iter().enumerate() {
        line(if i == 0 { "unreadable" } else { "" }, first_line(&skipped.reason).into())?;
    }
    for (i, warning) in survey.warnings.iter().enumerate() {
        line(if i == 0 { "warnings" } else { "" }, warning.clone())?;
    }
    if images == 0 {
        let problem = format!("none of the {} images of {} can be read", survey.unreadable.len(), dataset.origin);
        return Err(Error::unusable(problem, "see the reasons above"));
    }
    let trained = match splits.contains(&Split::Train) {
        true => dataset.class_counts(Some(Split::Train)).iter().sum(),
        false => images,
    };
    let epoch = survey.seconds * trained as f64;
    line("reading", format!("{:.0} images/s on one core at {size} px", 1.0 / survey.seconds.max(1e-9)))?;
    line(
        "first epoch",
        format!("{epoch:.1} s of reading for {trained} images on one core; later ones are kept in memory"),
    )?;
    Ok(ExitCode::SUCCESS)
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
