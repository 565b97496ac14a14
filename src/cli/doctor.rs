//! `roentgen doctor`: what there is to compute on, and why the CPU if it is the CPU.

use super::{
    machine::{self, Machine},
    output::print,
};
use crate::{
    Result,
    device::cuda::{
        self, Found,
        fatbin::{ARCHS, FATBINS, KERNELS_HASH, NVCC, code_for},
    },
};
use std::process::ExitCode;

/// Arguments of `doctor`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    machine: Machine,
}

/// Prints a table of what was found. Fails only if the device that was asked for cannot be used.
pub fn run(args: Args) -> Result<ExitCode> {
    let line = |key: &str, value: String| print(format!("{key:12}{value}\n"));
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

/// What GPU code the program carries.
fn kernels() -> String {
    let Some(nvcc) = NVCC else { return "none: built without nvcc (scripts/get-nvcc gets one)".into() };
    let count: usize = FATBINS.iter().map(|fatbin| fatbin.kernels.len()).sum();
    let bytes: usize = FATBINS.iter().map(|fatbin| fatbin.image.len()).sum();
    let archs = ARCHS.join(" ");
    format!("{count} for {archs}, {:.1} MiB, nvcc {nvcc}, {KERNELS_HASH:.12}", bytes as f64 / f64::from(1 << 20))
}
