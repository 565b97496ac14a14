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
    models::Model,
    nn::Mode,
    rng::{Purpose, Rng},
    train::{
        Config, Objective, Optimiser, Optimizer, Precision,
        step::{self, Steps},
    },
};
use serde_json::json;
use std::{process::ExitCode, time::Instant};

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Backbone
    #[arg(long, value_name = "NAME", default_value = "resnet18")]
    model: String,
    /// Side of the square images, in pixels
    #[arg(long, value_name = "PX", default_value_t = 224)]
    size: usize,
    /// Images in a step
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch: usize,
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
    /// Print the time of each kernel
    #[arg(long)]
    profile: bool,
    /// End with a line of JSON: ms_per_step, loss (first and last), peak_mem_mb, images_per_second
    #[arg(long)]
    json: bool,
}

/// Classes of the made-up task: ImageNet's, as in the speeds that others publish.
const CLASSES: usize = 1000;

/// Times steps of SGD with momentum, or forward passes, and prints the rate.
pub fn run(args: Args) -> Result<ExitCode> {
    let device = args.machine.device()?;
    // Small enough that random labels do not make it diverge.
    let config = Config {
        model: args.model,
        size: args.size,
        batch: args.batch,
        optimizer: Optimizer::Sgd,
        lr: 1e-3,
        ..Config::default()
    };
    config.check()?;
    let mut model = Model::new(
        &config.model,
        CLASSES,
        &device,
        Precision::resolve(args.precision, &*device)?.dtype(),
        config.seed,
    )?;
    let optimiser = Optimiser::new(&mut model, &config)?;
    let objective = Objective::CrossEntropy { class_weights: vec![1.0; CLASSES], label_smoothing: 0.0 };
    let mut steps = Steps::new(objective, config.seed);
    let batch = random_batch(args.batch, args.size);
    let (mut times, mut losses) = (vec![], vec![]);
    for step in 0..args.warmup + args.steps {
        let start = Instant::now();
        if args.forward {
            step::forward(&model, &model.pass(Mode::Eval), &batch).to_vec()?;
        } else {
            losses.push(steps.train(&model, &optimiser, &batch, (u64::from(step), config.lr))?.loss);
        }
        let seconds = start.elapsed().as_secs_f64();
        if step >= args.warmup {
            times.push(seconds);
        } else if args.profile {
            device.kernel_times();
        }
    }
    let rate = (times.len() * args.batch) as f64 / times.iter().sum::<f64>();
    let peak = machine::peak_memory_mib();
    let kind = if args.forward { "forward" } else { "training" };
    print(format!("{}  {kind}  {} x {} px  {}\n", config.model, args.batch, args.size, device.name()))?;
    print(format!("{rate:.2} images/s, peak memory {} MiB\n", decimals(peak.map(|mib| mib as f64), 0)))?;
    if args.profile {
        print_profile(&device.kernel_times(), times.iter().sum::<f64>(), times.len());
    }
    if args.json {
        let ms: Vec<f64> = times.iter().map(|seconds| seconds * 1e3).collect();
        let ends: Vec<_> = [losses.first(), losses.last()].into_iter().flatten().collect();
        let line = json!({ "ms_per_step": ms, "loss": ends, "peak_mem_mb": peak, "images_per_second": rate });
        print(format!("{line}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line a kernel, longest first: milliseconds and launches a step, and share of the steps' time.
fn print_profile(kernels: &[KernelTime], seconds: f64, steps: usize) {
    let mut kernels = kernels.to_vec();
    kernels.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let elsewhere = seconds - kernels.iter().map(|kernel| kernel.seconds).sum::<f64>();
    kernels.push(KernelTime { name: "(outside kernels)", launches: 0, seconds: elsewhere });
    for KernelTime { name, launches, seconds: time } in kernels {
        let (ms, launches) = (time * 1e3 / steps as f64, launches as f64 / steps as f64);
        println!("{name:26} {ms:9.2} ms {launches:5.0} launches {:5.1} %", 100.0 * time / seconds);
    }
}

fn random_batch(n: usize, size: usize) -> Batch {
    let mut rng = Rng::new(0, Purpose::Test, 0, 0);
    let images = (0..n * size * size * 3).map(|_| rng.uniform()).collect();
    Batch {
        images,
        labels: (0..n).map(|_| rng.below(CLASSES as u32)).collect(),
        indices: (0..n as u32).collect(),
        size,
        ..Batch::default()
    }
}
