//! The whole interface between the engine and a machine: memory, and named kernels.
//!
//! A device never learns what a convolution is. Every launch of the program passes through [`Device::launch`], so
//! whatever concerns all kernels (profiling, poisoning, capture) has one place.

pub mod cpu;
pub mod cuda;
pub mod dry;
pub mod energy;
mod pool;
mod real;
mod times;

pub use pool::{Block, Pool, Source};
pub use real::Real;
pub use times::{KernelTime, Work};

use crate::Result;
use energy::Meter;
use half::{bf16, f16};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Type of the elements of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// bfloat16: the range of single precision with 8 bits of precision; on a GPU only.
    BF16,
    /// IEEE half precision; on a GPU only.
    F16,
    /// IEEE single precision: for work.
    F32,
    /// IEEE double precision: for proofs.
    F64,
    /// Class labels.
    U32,
    /// Positions inside a pooling window.
    U8,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::U8 => 1,
            DType::BF16 | DType::F16 => 2,
            DType::F32 | DType::U32 => 4,
            DType::F64 => 8,
        }
    }

    /// The type that sums of this one are kept in: single precision for the half types, else the type itself.
    pub const fn wide(self) -> DType {
        match self {
            DType::BF16 | DType::F16 => DType::F32,
            other => other,
        }
    }

    /// Elements in 16 bytes, which one access of a CUDA kernel moves; `PACK` in `kernels/common.cuh`.
    pub const fn pack(self) -> usize {
        16 / self.size()
    }

    /// Whether it holds fractions.
    pub const fn is_float(self) -> bool {
        !matches!(self, DType::U32 | DType::U8)
    }

    /// The bytes of `values` rounded to this float type.
    #[track_caller]
    pub fn encode(self, values: &[f64]) -> Vec<u8> {
        match self {
            DType::F64 => bytemuck::cast_slice(values).to_vec(),
            // By way of f32 also to the half types: `half` rounds f64 without looking at its low 32 bits.
            _ => self.encode_single(&values.iter().map(|&x| x as f32).collect::<Vec<_>>()),
        }
    }

    /// The same from single precision.
    #[track_caller]
    pub fn encode_single(self, values: &[f32]) -> Vec<u8> {
        fn bytes<T: bytemuck::NoUninit>(values: &[f32], round: impl Fn(f32) -> T) -> Vec<u8> {
            bytemuck::cast_slice(&values.iter().map(|&x| round(x)).collect::<Vec<T>>()).to_vec()
        }
        match self {
            DType::BF16 => bytes(values, bf16::from_f32),
            DType::F16 => bytes(values, f16::from_f32),
            DType::F32 => bytemuck::cast_slice(values).to_vec(),
            DType::F64 => bytes(values, f64::from),
            other => panic!("{other:?} is not a float type"),
        }
    }

    /// The values of `bytes` of this type.
    pub fn decode(self, bytes: &[u8]) -> Vec<f64> {
        fn values<T: bytemuck::Pod + Into<f64>>(bytes: &[u8]) -> Vec<f64> {
            bytemuck::pod_collect_to_vec::<u8, T>(bytes).into_iter().map(Into::into).collect()
        }
        match self {
            DType::BF16 => values::<bf16>(bytes),
            DType::F16 => values::<f16>(bytes),
            DType::F32 => values::<f32>(bytes),
            DType::F64 => values::<f64>(bytes),
            DType::U32 => values::<u32>(bytes),
            DType::U8 => values::<u8>(bytes),
        }
    }

    /// What the names of CUDA kernels in this type end in.
    pub const fn suffix(self) -> &'static str {
        match self {
            DType::BF16 => "bf16",
            DType::F16 => "f16",
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::U32 => "u32",
            DType::U8 => "u8",
        }
    }
}

/// A name with two bodies: the Rust function here, and the CUDA functions `<name>_<dtype>` in `kernels/`.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// Name of the kernel, shared by both bodies.
    pub name: &'static str,
    /// Body for the CPU.
    pub cpu: fn(&mut Args),
    /// How the CUDA body is launched.
    pub cuda: Launch,
    /// Multiplications, each with its addition, of a kernel that sums products with weights, from the bytes of the
    /// parameter struct.
    pub macs: Option<fn(&[u8]) -> u64>,
}

/// How a CUDA body is launched: its grid, a function of the bytes of the parameter struct and the float type, and what
/// it receives.
#[derive(Clone, Copy, Debug)]
pub enum Launch {
    /// The parameter struct by value, then one pointer for each input and output.
    Pointers(fn(&[u8], DType) -> Grid),
    /// For a list of tensors of any length: one struct by value, the parameters followed by all addresses.
    Table(fn(&[u8], DType) -> Grid),
}

/// Blocks, threads of a block and bytes of dynamic shared memory of a CUDA launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks along x, y and z.
    pub blocks: [usize; 3],
    /// Threads of a block.
    pub threads: usize,
    /// Dynamic shared memory of a block in bytes.
    pub shared: usize,
}

impl Grid {
    /// Threads of a block where nothing asks for another number: enough to hide latency, few enough for full occupancy.
    pub const THREADS: usize = 256;

    /// Blocks along x, y and z of so many threads.
    pub fn new(blocks: [usize; 3], threads: usize) -> Grid {
        Grid { blocks: blocks.map(|b| b.max(1)), threads, shared: 0 }
    }

    /// One thread for each of `items`.
    pub fn threads(items: usize) -> Grid {
        Grid::new([items.div_ceil(Grid::THREADS), 1, 1], Grid::THREADS)
    }

    /// One thread for each 16 bytes of `len` elements.
    pub fn packs(len: usize, dtype: DType) -> Grid {
        Grid::threads(len.div_ceil(dtype.pack()))
    }

    /// One thread for each pack of channels of each pixel, for `lines` lines of `pixels` pixels: lines along x, the
    /// threads of one along y. `Place` in `kernels/place.cuh` must agree.
    pub fn lines(lines: usize, pixels: usize, c: usize, dtype: DType) -> Grid {
        let items = pixels * if c.is_multiple_of(dtype.pack()) { c / dtype.pack() } else { c };
        let blocks = items.div_ceil(Grid::THREADS);
        Grid::new([lines, blocks, 1], items.div_ceil(blocks).next_multiple_of(32))
    }

    /// Most bytes of a row of channels that a block of [`Grid::channels`] spans, a cache line; `SPAN_BYTES` in
    /// `kernels/channels.cuh` must agree.
    pub const SPAN: usize = 128;

    /// `blocks` blocks of rows of `c` channels along x, and along y the spans of a row. `Lane` in `kernels/channels.cuh`
    /// must agree.
    pub fn channels(blocks: usize, c: usize, dtype: DType) -> Grid {
        Grid::new([blocks, (c * dtype.size()).div_ceil(Grid::SPAN), 1], Grid::THREADS)
    }
}

/// What both bodies receive: the float type, a plain-old-data parameter struct, inputs and outputs.
#[derive(Debug)]
pub struct Args<'a> {
    /// Float type of the launch.
    pub dtype: DType,
    /// Bytes of the parameter struct.
    pub params: &'a [u8],
    /// Bytes of the inputs.
    pub ins: Vec<&'a [u8]>,
    /// Bytes of the outputs. An output may also be read: an optimiser updates its weights in place.
    pub outs: Vec<&'a mut [u8]>,
}

/// Bytes of a device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Held by live tensors and recorded steps now.
    pub in_use: usize,
    /// The most that was ever in use.
    pub peak: usize,
    /// Obtained from the machine: live blocks and those kept for reuse.
    pub held: usize,
    /// What the device may obtain in all.
    pub limit: usize,
}

/// Bytes on their way to the host: waits for them. An error is a failure of the device, also of an earlier launch.
pub type Reading = Box<dyn FnOnce() -> Result<Vec<u8>>>;

/// A machine that holds tensors and runs kernels.
pub trait Device: Send + Sync {
    /// What it is, for people.
    fn name(&self) -> String;
    /// State of its memory.
    fn memory(&self) -> Memory;
    /// A block of uninitialised memory; `at` names the operation for the error.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`]; a failure of the device.
    fn alloc(&self, bytes: usize, at: &'static str) -> Result<Arc<Block>>;
    /// Copies from the host; the lengths must agree.
    ///
    /// # Errors
    /// A failure of the device.
    fn upload(&self, src: &[u8], dst: &Block) -> Result<()>;
    /// Copies to the host, after everything launched before; the lengths must agree.
    ///
    /// # Errors
    /// A failure of the device, also of an earlier launch.
    fn download(&self, src: &Block, dst: &mut [u8]) -> Result<()>;
    /// Starts copying to the host what `src` holds after everything launched before; launches from now on do not change it.
    ///
    /// # Errors
    /// A failure of the device.
    fn read_later(&self, src: &Block) -> Result<Reading> {
        let mut bytes = vec![0; src.bytes()];
        self.download(src, &mut bytes)?;
        Ok(Box::new(|| Ok(bytes)))
    }
    /// Whether the host goes on while it computes, so that it stands still unless more is launched before the host waits.
    fn runs_beside_host(&self) -> bool {
        false
    }
    /// Runs a kernel. No output may be another output or an input.
    ///
    /// # Errors
    /// A failure of the device.
    fn launch(&self, kernel: &Kernel, dtype: DType, params: &[u8], ins: &[&Block], outs: &[&Block]) -> Result<()>;
    /// Pixels of an image whose moments are taken together: those that its convolutions write at a time.
    fn moment_rows(&self) -> usize;
    /// Types that its kernels store images in, the best for training first.
    fn precisions(&self) -> &'static [DType];
    /// Whether long sums for few results are cut into parts, which a second kernel adds up in order, to occupy the machine.
    fn combines_parts(&self) -> bool {
        false
    }
    /// Whether what is uploaded or computed can be read again; if not, nobody needs to draw initial values.
    fn holds_values(&self) -> bool {
        true
    }
    /// Waits for everything launched.
    ///
    /// # Errors
    /// A failure of the device, also of an earlier launch.
    fn sync(&self) -> Result<()>;
    /// A meter of the energy that it draws from now on, which has no counter if none can be read.
    fn meter(&self) -> Meter {
        Meter::new(vec![])
    }
    /// Where the time went, by kernel and size of launch, since the last call. A GPU begins to measure at the first
    /// call, and does not record steps from then on.
    fn kernel_times(&self) -> Vec<KernelTime>;
    /// Records what `step` launches and uploads, without running it, to be replayed with little effort of the host; the
    /// step must read nothing back. `None` if the device does not record, or has too little memory for it.
    ///
    /// # Errors
    /// A failure of the step or of the device.
    fn capture(&self, step: &mut dyn FnMut() -> Result<()>) -> Result<Option<Box<dyn Replay>>> {
        let _ = step;
        Ok(None)
    }
}

/// A recorded step.
pub trait Replay {
    /// Runs it again: the same launches on the same memory, uploads with the same content.
    ///
    /// # Errors
    /// A failure of the device.
    fn replay(&self) -> Result<()>;
}

/// Locks what a device shares between threads, also after a holder panicked: none leaves it half-way changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Declares a kernel by its CPU body, generic over the float `T`:
/// `kernel!(POOL_FWD = "pool_fwd", |p: Pool, [x] -> [y, argmax: u8]| { … }, grid |dtype| Grid::threads(p.n as usize))`.
/// Inputs and outputs are slices of `T` unless a type is given; `p` is the parameter struct by reference, in the body and
/// in the grid of the CUDA body. `, macs p.n as u64` may follow, for [`Kernel::macs`](crate::device::Kernel::macs).
#[macro_export]
macro_rules! kernel {
    ($id:ident = $name:literal, |$p:ident : $P:ty, [$($i:ident $(: $it:ty)?),*] -> [$($o:ident $(: $ot:ty)?),*]| $body:block,
        grid |$dtype:pat_param| $grid:expr $(, macs $macs:expr)?) => {
        static $id: $crate::device::Kernel = $crate::device::Kernel {
            name: $name,
            cpu: {
                fn body<T: $crate::device::Real>(args: &mut $crate::device::Args) {
                    let $p: &$P = &bytemuck::pod_read_unaligned(args.params);
                    let _ = $p;
                    let mut ins = args.ins.iter();
                    $(let $i: &[$crate::kernel!(@element $($it)?)] = bytemuck::cast_slice(ins.next().expect($name));)*
                    assert!(ins.next().is_none(), concat!($name, ": too many inputs"));
                    let mut outs = args.outs.iter_mut();
                    $(let $o: &mut [$crate::kernel!(@element $($ot)?)] = bytemuck::cast_slice_mut(outs.next().expect($name));)*
                    assert!(outs.next().is_none(), concat!($name, ": too many outputs"));
                    $body
                }
                $crate::kernel!(@dispatch body)
            },
            cuda: $crate::device::Launch::Pointers(|params, $dtype| {
                let $p: &$P = &bytemuck::pod_read_unaligned(params);
                let _ = $p;
                $grid
            }),
            macs: $crate::kernel!(@macs $($p, $P, $macs)?),
        };
    };
    (@macs) => { None };
    (@macs $p:ident, $P:ty, $macs:expr) => {
        Some(|params| {
            let $p: &$P = &bytemuck::pod_read_unaligned(params);
            $macs
        })
    };
    (@element) => { T };
    (@element $t:ty) => { $t };
    (@dispatch $body:ident) => {
        |args| match args.dtype {
            $crate::device::DType::F32 => $body::<f32>(args),
            $crate::device::DType::F64 => $body::<f64>(args),
            other => panic!("no kernel computes in {other:?}"),
        }
    };
}
