//! The whole interface between the engine and a machine: memory, and named kernels.
//!
//! A device never learns what a convolution is. Every launch of the program passes through [`Device::launch`], so
//! whatever concerns all kernels (profiling, poisoning, capture) has one place.

pub mod cpu;
mod pool;
mod real;

pub use pool::{Block, Pool, Source};
pub use real::Real;

use crate::Result;
use std::sync::Arc;

/// Type of the elements of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
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
            DType::F32 | DType::U32 => 4,
            DType::F64 => 8,
        }
    }
}

/// A name with two bodies: the Rust function here, and the CUDA function of the same name.
#[derive(Debug)]
pub struct Kernel {
    /// Name of the kernel, shared by both bodies.
    pub name: &'static str,
    /// Body for the CPU.
    pub cpu: fn(&mut Args),
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
    /// Held by live tensors now.
    pub in_use: usize,
    /// The most that live tensors ever held.
    pub peak: usize,
    /// Obtained from the machine: live blocks and those kept for reuse.
    pub held: usize,
    /// What the device may obtain in all.
    pub limit: usize,
}

/// A machine that holds tensors and runs kernels.
pub trait Device: Send + Sync {
    /// What it is, for people.
    fn name(&self) -> String;
    /// State of its memory.
    fn memory(&self) -> Memory;
    /// A block of uninitialised memory; `at` names the operation for the error.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
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
    /// Runs a kernel. No output may be another output or an input.
    ///
    /// # Errors
    /// A failure of the device.
    fn launch(&self, kernel: &Kernel, dtype: DType, params: &[u8], ins: &[&Block], outs: &[&Block]) -> Result<()>;
    /// Waits for everything launched.
    ///
    /// # Errors
    /// A failure of the device, also of an earlier launch.
    fn sync(&self) -> Result<()>;
}

/// Declares a kernel by its CPU body, generic over the float `T`:
/// `kernel!(POOL_FWD = "pool_fwd", |p: Pool, [x] -> [y, argmax: u8]| { … })`.
/// Inputs and outputs are slices of `T` unless a type is given; `p` is the parameter struct by reference.
#[macro_export]
macro_rules! kernel {
    ($id:ident = $name:literal, |$p:ident : $P:ty, [$($i:ident $(: $it:ty)?),*] -> [$($o:ident $(: $ot:ty)?),*]| $body:block) => {
        static $id: $crate::device::Kernel = $crate::device::Kernel {
            name: $name,
            cpu: {
                fn body<T: $crate::device::Real>(args: &mut $crate::device::Args) {
                    let $p: &$P = &bytemuck::pod_read_unaligned(args.params);
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
        };
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
