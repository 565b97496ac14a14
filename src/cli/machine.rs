//! What the program finds on the machine, and how it sets it up.

use crate::{
    Error, Result,
    device::{
        Device,
        cpu::{Cpu, denormals},
    },
};
use std::{fs, sync::Arc};

/// How many threads do what.
#[derive(clap::Args)]
#[command(next_help_heading = "Machine")]
pub struct Threads {
    /// Threads that load images; changes no result
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(..=256))]
    workers: u16,
    /// Threads that compute; changes no result [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl Threads {
    /// Threads that load images.
    pub fn workers(&self) -> usize {
        usize::from(self.workers)
    }

    /// The CPU as a device, computing on this many threads.
    ///
    /// # Errors
    /// Threads that the system does not give.
    pub fn device(&self) -> Result<Arc<dyn Device>> {
        device(self.threads)
    }
}

/// The CPU as a device, computing on `threads` threads (`None`: one a core).
///
/// # Errors
/// Threads that the system does not give.
pub fn device(threads: Option<u16>) -> Result<Arc<dyn Device>> {
    let threads = match threads {
        Some(n) => usize::from(n),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).start_handler(|_| denormals::flush());
    pool.build_global()
        .map_err(|e| Error::unusable(format!("cannot start {threads} threads: {e}"), "fewer --threads"))?;
    denormals::flush();
    Ok(Cpu::new(memory_bytes().unwrap_or(usize::MAX)))
}

/// Main memory, where the system tells.
fn memory_bytes() -> Option<usize> {
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
