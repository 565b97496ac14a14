//! What the program finds on the machine, and how it sets it up.

use crate::{
    Error, Result,
    device::{Device, cpu::Cpu},
};
use std::{fs, sync::Arc};

/// The CPU as a device, computing on `threads` threads (`None`: one a core).
///
/// # Errors
/// Threads that the system does not give.
pub fn device(threads: Option<usize>) -> Result<Arc<dyn Device>> {
    let threads = match threads {
        Some(n) => n,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build_global().map_err(|e| Error::unusable(format!("cannot start {threads} threads: {e}"), "fewer --threads"))?;
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
