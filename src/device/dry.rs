//! A device that computes nothing: it hands out addresses without memory behind them, and takes every launch for done.
//!
//! Since each launch and each block of the program passes through [`Device`], a dry run of a training step knows its peak
//! memory to the byte, for a machine that is not here and in the time that the host needs for bookkeeping.

use super::{Block, DType, Device, Kernel, KernelTime, Memory, Pool, Source, Work, cpu, cuda, lock, times::Times};
use crate::Result;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

/// Whose choices a dry device makes where a program asks its device for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Like {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// A device without memory and without arithmetic.
pub struct Dry {
    like: Like,
    pool: Arc<Pool>,
    launches: Mutex<Times>,
}

impl Dry {
    /// One that makes the choices of `like`.
    #[allow(clippy::new_ret_no_self)] // A device is always used through the trait.
    pub fn new(like: Like) -> Arc<dyn Device> {
        let pool = Pool::new(Addresses(AtomicUsize::new(PAGE)), usize::MAX);
        Arc::new(Dry { like, pool, launches: Mutex::default() })
    }
}

/// The first address, so that none is 0.
const PAGE: usize = 4096;

/// Addresses that nothing is stored at, each given once.
struct Addresses(AtomicUsize);

impl Source for Addresses {
    fn get(&self, bytes: usize) -> Result<Option<usize>> {
        Ok(Some(self.0.fetch_add(bytes, Ordering::Relaxed)))
    }

    fn put(&self, _address: usize, _bytes: usize) {}
}

impl Device for Dry {
    fn name(&self) -> String {
        let like = match self.like {
            Like::Cpu => "cpu",
            Like::Cuda => "cuda",
        };
        format!("{like} (nothing is computed)")
    }

    fn memory(&self) -> Memory {
        self.pool.memory()
    }

    fn alloc(&self, bytes: usize, at: &'static str) -> Result<Arc<Block>> {
        self.pool.take(bytes, at)
    }

    fn upload(&self, src: &[u8], dst: &Block) -> Result<()> {
        assert_eq!(src.len(), dst.bytes(), "upload: lengths differ");
        Ok(())
    }

    /// Zeros: there is nothing to read.
    fn download(&self, src: &Block, dst: &mut [u8]) -> Result<()> {
        assert_eq!(src.bytes(), dst.len(), "download: lengths differ");
        dst.fill(0);
        Ok(())
    }

    fn launch(&self, kernel: &Kernel, _: DType, params: &[u8], ins: &[&Block], outs: &[&Block]) -> Result<()> {
        lock(&self.launches).add(kernel.name, Work::of(kernel, params, ins, outs), 0.0);
        Ok(())
    }

    fn moment_rows(&self) -> usize {
        match self.like {
            Like::Cpu => cpu::MOMENT_ROWS,
            Like::Cuda => cuda::MOMENT_ROWS,
        }
    }

    fn precisions(&self) -> &'static [DType] {
        match self.like {
            Like::Cpu => cpu::PRECISIONS,
            Like::Cuda => cuda::PRECISIONS,
        }
    }

    fn combines_parts(&self) -> bool {
        self.like == Like::Cuda
    }

    fn holds_values(&self) -> bool {
        false
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    /// How often each kernel was launched, in no time.
    fn kernel_times(&self) -> Vec<KernelTime> {
        lock(&self.launches).take()
    }
}
