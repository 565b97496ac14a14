//! `roentgen bench`: how long a training step takes, on random images.

use super::{
    machine::{self, Machine},
    output::print,
};
use crate::{
    Result,
    data::Batch,
    device::KernelTime,
    metrics::decimals,
    models::{self, Model},
    rng::{Purpose, Rng},
    task::Task,
    train::{
        Config, Objective, Optimiser, Optimizer, Precision,
        step::{self, Steps},
    },
};
use serde_json::json;
use std::{collections::BTreeMap, process::ExitCode, time::Instant};

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Network: a backbone, or unet_ and a backbone
    #[arg(long, value_name = "NAME", default_value = "resnet18")]
    model: String,
    /// Side of the square images, in pixels
    #[arg(long, value_name = "PX", default_value_t = 224)]
    size: usize,
    /// Images in a step
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Type of images and activations [default: bf16 on a GPU, f32 on the CPU]
    #[arg(long, value_name = "NAME")]
    precision: Option<Precision>,
    #[command(flatten)]
    machine: Machine,
    /// Steps that are timed
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Steps before them
    #[arg(long, value_name = "N", default_value_t = 3)]
    warmup: u32,
    /// Time the forward pass in evaluation mode instead of training
    #[arg(long)]
    forward: bool,
    /// Print the time of each kernel, in a few steps of their own
    #[arg(long)]
    profile: bool,
    /// End with a line of JSON: ms_per_step (from the end of one to that of the next), loss (first and last),
    /// images_per_second, peak_mem_mb (main memory of the program), device_peak_mb (tensors on the device), kernels (launches
    /// a step), profile (by kernel and size: launches a step, the bytes and multiplications of one, and the milliseconds of
    /// all)
    #[arg(long)]
    json: bool,
}

/// Classes of the made-up task: ImageNet's, as in the speeds that others publish. A U-Net draws one mask.
const CLASSES: usize = 1000;

/// Steps in which kernels are timed one by one, behind one that is not: a GPU then launches what it would replay.
const PROFILED: u32 = 2;

/// Times steps of SGD with momentum, or forward passes, and prints the rate.
pub fn run(args: Args) -> Result<ExitCode> {
    let device = args.machine.device()?;
    let images = args.batch as usize;
    let config = Config {
        task: models::usual_task(&args.model),
        model: args.model,
        size: args.size,
        // Only training needs two.
        batch: if args.forward { images.max(2) } else { images },
        // Small enough that random labels do not make it diverge.
        optimizer: Optimizer::Sgd,
        lr: 1e-3,
        ..Config::default()
    };
    config.check()?;
    let classes = if config.task.is_dense() { 1 } else { CLASSES };
    let precision = Precision::resolve(args.precision, &*device)?;
    let mut model = Model::new(&config.model, classes, &device, precision.dtype(), config.seed)?;
    model.check_size(args.size)?;
    let optimiser = Optimiser::new(&mut model, &config)?;
    let objective = Objective::plain(&config.model, classes);
    let batch = random_batch(images, args.size, config.task);
    // Steps from `first` on.
    let run = |first: u32, count: u32| -> Result<Ran> {
        let mut steps = Steps::new(objective.clone(), config.seed);
        let (mut times, mut losses) = (vec![], vec![]);
        let mut last = Instant::now();
        let mut lap = || times.push(std::mem::replace(&mut last, Instant::now()).elapsed().as_secs_f64());
        if args.forward {
            for _ in 0..count {
                step::look(&model, None, &batch)?.outputs.to_vec()?;
                lap();
            }
        } else {
            let batches = (first..first + count).map(|step| Ok((&batch, (u64::from(step), config.lr))));
            steps.train_each(&model, &optimiser, batches, |result| {
                losses.push(result.loss);
                lap();
                true
            })?;
        }
        Ok(Ran { times, losses, device_peak: device.memory().peak, recorded: steps.recorded() })
    };
    let Ran { mut times, losses, device_peak, recorded } = run(0, args.warmup + args.steps)?;
    times.drain(..args.warmup as usize);
    let rate = (times.len() * images) as f64 / times.iter().sum::<f64>();
    let (peak, device_peak) = (machine::peak_memory_mib(), device_peak >> 20);
    let kind = if args.forward { "forward" } else { "training" };
    print(format!("{}  {kind}  {} x {} px  {}\n", config.model, args.batch, args.size, device.name()))?;
    let mib = decimals(peak.map(|mib| mib as f64), 0);
    print(format!("{rate:.2} images/s, peak memory {mib} MiB, of tensors on the device {device_peak} MiB\n"))?;
    if !(args.profile || args.json) {
        return Ok(ExitCode::SUCCESS);
    }
    let next = args.warmup + args.steps;
    device.kernel_times();
    run(next, 1)?;
    device.kernel_times();
    let profiled = run(next + 1, PROFILED)?.times;
    let kernels = device.kernel_times();
    if args.profile {
        print_profile(&kernels, profiled.iter().sum())?;
    }
    if args.json {
        let ms: Vec<f64> = times.iter().map(|seconds| seconds * 1e3).collect();
        let ends: Vec<_> = [losses.first(), losses.last()].into_iter().flatten().collect();
        let launches: u64 = kernels.iter().map(|kernel| kernel.launches).sum();
        let groups: Vec<_> = kernels
            .iter()
            .map(|KernelTime { name, work, launches, seconds }| {
                json!({
                    "kernel": name,
                    "bytes": work.bytes,
                    "macs": work.macs,
                    "launches": launches / u64::from(PROFILED),
                    "ms": a_step(seconds * 1e3),
                })
            })
            .collect();
        let line = json!({
            "ms_per_step": ms,
            "loss": ends,
            "images_per_second": rate,
            "peak_mem_mb": peak,
            "device_peak_mb": device_peak,
            "recorded": recorded,
            "kernels": launches / u64::from(PROFILED),
            "profile": groups,
        });
        print(format!("{line}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What some steps came to.
struct Ran {
    /// Seconds from the end of each to that of the next.
    times: Vec<f64>,
    losses: Vec<f64>,
    /// The most memory on the device so far, that of a recorded step included.
    device_peak: usize,
    /// Whether the last were replayed.
    recorded: bool,
}

/// What all profiled steps have, for one.
fn a_step(sum: f64) -> f64 {
    sum / f64::from(PROFILED)
}

/// All launches of a kernel.
#[derive(Default)]
struct Sum {
    seconds: f64,
    launches: u64,
    bytes: f64,
    macs: f64,
}

/// A line a kernel, longest first: milliseconds and launches a step, share of the time of the profiled steps, and how fast it
/// moved bytes and multiplied.
fn print_profile(kernels: &[KernelTime], seconds: f64) -> Result<()> {
    let mut sums = BTreeMap::<_, Sum>::new();
    for kernel in kernels {
        let (sum, launches) = (sums.entry(kernel.name).or_default(), kernel.launches as f64);
        sum.seconds += kernel.seconds;
        sum.launches += kernel.launches;
        sum.bytes += launches * kernel.work.bytes as f64;
        sum.macs += launches * kernel.work.macs as f64;
    }
    let elsewhere = seconds - sums.values().map(|sum| sum.seconds).sum::<f64>();
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by(|(_, a), (_, b)| b.seconds.total_cmp(&a.seconds));
    sums.push(("(outside kernels)", Sum { seconds: elsewhere, ..Sum::default() }));
    for (name, Sum { seconds: time, launches, bytes, macs }) in sums {
        let (ms, launches, share) = (a_step(time * 1e3), a_step(launches as f64), 100.0 * time / seconds);
        let (moved, multiplied) = (bytes / time / 1e9, 2.0 * macs / time / 1e9);
        let line = format!(
            "{name:26} {ms:9.2} ms {launches:5.0} launches {share:5.1} % {moved:8.1} GB/s {multiplied:9.1} GFLOP/s"
        );
        print(line + "\n")?;
    }
    Ok(())
}

fn random_batch(n: usize, size: usize, task: Task) -> Batch {
    let mut rng = Rng::new(0, Purpose::Test, 0, 0);
    let pixels = (0..n * size * size).map(|_| rng.bits() as u8).collect();
    let labels = (0..n).map(|_| rng.below(CLASSES as u32)).collect();
    let masks = (0..if task.is_dense() { n * size * size } else { 0 }).map(|_| rng.below(2) as u8).collect();
    Batch { masks, ..Batch::plain(size, pixels, labels) }
}
