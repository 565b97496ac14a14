//! What the program finds on the machine, and how it sets it up.

use super::output::say;
use crate::{
    Error, Result,
    data::DiskCache,
    device::{
        Device,
        cpu::{Cpu, denormals},
        cuda::{self, Cuda},
    },
};
use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

/// Where to compute, and how many threads do what.
#[derive(clap::Args)]
#[command(next_help_heading = "Machine")]
pub struct Machine {
    /// Where to compute: auto (the first GPU that can be used, else the CPU), cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: Choice,
    /// Threads that compute on the CPU; changes no result [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Folder where decoded images are kept for later runs, or off; changes no result [default: off; cache/ of a sweep's folder]
    #[arg(long, value_name = "DIR|off")]
    cache: Option<PathBuf>,
}

/// A device as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The first GPU if it can be used, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Choice, String> {
        let number = text.strip_prefix("cuda").map(|rest| rest.strip_prefix(':').unwrap_or("0").parse());
        match (text, number) {
            ("auto", _) => Ok(Choice::Auto),
            ("cpu", _) => Ok(Choice::Cpu),
            ("cuda", _) => Ok(Choice::Cuda(0)),
            (_, Some(Ok(number))) if text.contains(':') => Ok(Choice::Cuda(number)),
            _ => Err("auto, cpu, cuda or cuda:N".into()),
        }
    }
}

impl Machine {
    /// Starts the threads of the CPU.
    ///
    /// # Errors
    /// Threads that the system does not give.
    pub fn threads(&self) -> Result<()> {
        start_threads(self.threads)
    }

    /// The device that was asked for.
    ///
    /// # Errors
    /// A GPU that was named and cannot be used; threads that the system does not give.
    pub fn device(&self) -> Result<Arc<dyn Device>> {
        self.device_with_cache(Path::new("off"))
    }

    /// The same, with decoded images kept in the folder `cache` unless another was asked for.
    ///
    /// # Errors
    /// As [`Machine::device`].
    pub fn device_with_cache(&self, cache: &Path) -> Result<Arc<dyn Device>> {
        // Images are decoded and metrics computed on the CPU in any case.
        self.threads()?;
        let cache = self.cache.as_deref().unwrap_or(cache);
        if cache != Path::new("off") {
            DiskCache::open(cache)?.install();
        }
        match self.device {
            Choice::Cpu => Ok(cpu()),
            Choice::Cuda(index) => Cuda::new(index),
            Choice::Auto => Ok(first_gpu().unwrap_or_else(|why| {
                // A machine without an NVIDIA driver is an ordinary one; a driver that does not serve is worth a word.
                if cuda::driver_present() {
                    say(format!("running on the CPU: {why}"));
                }
                cpu()
            })),
        }
    }
}

/// The first GPU, unless it is the simulator, which is for tests.
pub fn first_gpu() -> Result<Arc<dyn Device>> {
    if cuda::find(0)?.is_simulated() {
        return Err(Error::unusable("the only GPU is the simulator of the tests", "--device cuda to use it"));
    }
    Cuda::new(0)
}

/// Whether there is a GPU, other than the simulator.
pub fn has_gpu() -> bool {
    cuda::find(0).is_ok_and(|found| !found.is_simulated())
}

fn cpu() -> Arc<dyn Device> {
    Cpu::new(memory_bytes().unwrap_or(usize::MAX))
}

/// Starts the threads that compute (`None`: one a core).
fn start_threads(threads: Option<u16>) -> Result<()> {
    let threads = match threads {
        Some(n) => usize::from(n),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).start_handler(|_| denormals::flush());
    pool.build_global()
        .map_err(|e| Error::unusable(format!("cannot start {threads} threads: {e}"), "fewer --threads"))?;
    denormals::flush();
    Ok(())
}

/// Main memory, where the system tells.
pub fn memory_bytes() -> Option<usize> {
    kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:").map(|kb| kb << 10)
}

/// The most memory that this process ever had resident, in MiB, where the system tells.
pub fn peak_memory_mib() -> Option<usize> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:").map(|kb| kb >> 10)
}

/// The number after `key` in a table like `/proc/meminfo`.
fn kilobytes(table: &str, key: &str) -> Option<usize> {
    table.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

/// The processor's name, where the system tells.
pub fn processor() -> Option<String> {
    let table = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = table.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().into())
}
