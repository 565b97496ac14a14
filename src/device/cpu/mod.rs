//! The CPU device: memory from the host, kernels run by their Rust bodies.

pub mod block;
pub mod denormals;
pub mod gemm;
pub mod lanes;
pub mod parallel;
pub mod scratch;
pub mod tile;

use super::{
    Args, Block, DType, Device, Kernel, KernelTime, Memory, Pool, Source, Work, energy::Meter, lock, times::Times,
};
use crate::Result;
use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    path::Path,
    sync::{Arc, Mutex},
    time::Instant,
};

/// The host as a device.
pub struct Cpu {
    pool: Arc<Pool>,
    /// Held by whoever reads or writes blocks.
    times: Mutex<Times>,
}

impl Cpu {
    /// A CPU device that may hold `limit` bytes of tensors.
    #[allow(clippy::new_ret_no_self)] // A device is always used through the trait.
    pub fn new(limit: usize) -> Arc<dyn Device> {
        Arc::new(Cpu { pool: Pool::new(Host, limit), times: Mutex::default() })
    }
}

/// Output pixels whose moments are taken together, while they are hot in cache: two 7×7 maps, so that maps of 7·2ⁱ divide.
pub const MOMENT_ROWS: usize = 98;

/// What the CPU computes in.
pub(super) const PRECISIONS: &[DType] = &[DType::F32, DType::F64];

/// Blocks this large start on a page of 2 MiB, so that the kernel may back them with huge pages: a tensor that is read
/// once by many rows misses the TLB otherwise.
const HUGE_PAGE: usize = 2 << 20;
/// Alignment of smaller blocks: one cache line, the widest vector.
const LINE: usize = 64;

struct Host;

fn layout(bytes: usize) -> Layout {
    let align = if bytes >= HUGE_PAGE { HUGE_PAGE } else { LINE };
    Layout::from_size_align(bytes, align).expect("a block larger than the address space")
}

impl Source for Host {
    fn get(&self, bytes: usize) -> Result<Option<usize>> {
        // SAFETY: the pool never asks for zero bytes. Zeroed, so that a slice over the block is initialised.
        let address = unsafe { alloc_zeroed(layout(bytes)) } as usize;
        Ok((address != 0).then_some(address))
    }

    fn put(&self, address: usize, bytes: usize) {
        // SAFETY: the pool returns exactly what `get` gave, with the size it asked for.
        unsafe { dealloc(address as *mut u8, layout(bytes)) }
    }
}

impl Device for Cpu {
    fn name(&self) -> String {
        let threads = rayon::current_num_threads();
        let s = if threads == 1 { "" } else { "s" };
        format!("cpu, {threads} thread{s}, {}", parallel::instruction_set())
    }

    fn memory(&self) -> Memory {
        self.pool.memory()
    }

    fn alloc(&self, bytes: usize, at: &'static str) -> Result<Arc<Block>> {
        let block = self.pool.take(bytes, at)?;
        if cfg!(debug_assertions) {
            // Poison: an element that no kernel wrote shows up as NaN.
            // SAFETY: nobody else has the block yet.
            unsafe { slice_mut(&block) }.fill(0xFF);
        }
        Ok(block)
    }

    fn upload(&self, src: &[u8], dst: &Block) -> Result<()> {
        let _alone = lock(&self.times);
        // SAFETY: nothing else of this device runs, on whatever thread.
        unsafe { slice_mut(dst) }.copy_from_slice(src);
        Ok(())
    }

    fn download(&self, src: &Block, dst: &mut [u8]) -> Result<()> {
        let _alone = lock(&self.times);
        // SAFETY: as in `upload`.
        dst.copy_from_slice(unsafe { slice(src) });
        Ok(())
    }

    fn launch(&self, kernel: &Kernel, dtype: DType, params: &[u8], ins: &[&Block], outs: &[&Block]) -> Result<()> {
        for (i, out) in outs.iter().enumerate() {
            let taken = ins.iter().chain(&outs[..i]).any(|other| std::ptr::eq(*other, *out));
            assert!(!taken, "{}: output {i} is also an input or another output", kernel.name);
        }
        let work = Work::of(kernel, params, ins, outs);
        let mut times = lock(&self.times);
        // SAFETY: as in `upload`; no output aliases anything (asserted above), and the slices end with this call.
        let (ins, outs) = unsafe { (ins.iter().map(|b| slice(b)), outs.iter().map(|b| slice_mut(b))) };
        let start = Instant::now();
        (kernel.cpu)(&mut Args { dtype, params, ins: ins.collect(), outs: outs.collect() });
        times.add(kernel.name, work, start.elapsed().as_secs_f64());
        Ok(())
    }

    fn kernel_times(&self) -> Vec<KernelTime> {
        lock(&self.times).take()
    }

    fn meter(&self) -> Meter {
        Meter::of_packages(Path::new("/sys/class/powercap"))
    }

    fn moment_rows(&self) -> usize {
        MOMENT_ROWS
    }

    fn precisions(&self) -> &'static [DType] {
        PRECISIONS
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

/// # Safety
/// Nobody may write to the block while the slice lives.
unsafe fn slice(block: &Block) -> &[u8] {
    // SAFETY: the pool gave this many bytes at this address, and they live as long as the block.
    unsafe { std::slice::from_raw_parts(block.address() as *const u8, block.bytes()) }
}

/// # Safety
/// Nobody else may use the block while the slice lives.
#[allow(clippy::mut_from_ref)]
unsafe fn slice_mut(block: &Block) -> &mut [u8] {
    // SAFETY: as in `slice`.
    unsafe { std::slice::from_raw_parts_mut(block.address() as *mut u8, block.bytes()) }
}
