//! What each kernel had to do, and how long it took.

use super::{Block, Kernel};
use std::collections::BTreeMap;

/// What the launches of one kernel took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelTime {
    /// Name of the kernel.
    pub name: &'static str,
    /// Size of each of the launches.
    pub work: Work,
    /// How often it ran.
    pub launches: u64,
    /// Time in it, in all.
    pub seconds: f64,
}

/// How much there is to do in a launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Work {
    /// Bytes of all tensors that it is given, each counted once.
    pub bytes: u64,
    /// As [`Kernel::macs`]; 0 for a kernel that sums no products.
    pub macs: u64,
}

impl Work {
    /// That of a launch with these parameters and tensors.
    pub fn of(kernel: &Kernel, params: &[u8], ins: &[&Block], outs: &[&Block]) -> Work {
        let bytes = ins.iter().chain(outs).map(|block| block.bytes() as u64).sum();
        Work { bytes, macs: kernel.macs.map_or(0, |macs| macs(params)) }
    }
}

/// Sums by kernel and size of launch.
#[derive(Default)]
pub(super) struct Times(BTreeMap<(&'static str, Work), KernelTime>);

impl Times {
    /// Counts a launch.
    pub fn add(&mut self, name: &'static str, work: Work, seconds: f64) {
        let time = self.0.entry((name, work)).or_insert(KernelTime { name, work, launches: 0, seconds: 0.0 });
        time.launches += 1;
        time.seconds += seconds;
    }

    /// The sums so far; they begin anew.
    pub fn take(&mut self) -> Vec<KernelTime> {
        std::mem::take(&mut self.0).into_values().collect()
    }
}
