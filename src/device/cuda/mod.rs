//! The CUDA device: hand-written kernels from `kernels/`, launched on one stream through the driver.
//!
//! Everything runs in stream order, so a block that the pool hands out again is never written before its last reader is
//! done, and no event has to be tracked.

mod energy;
pub mod fatbin;
mod graph;
mod memory;
mod profile;

use super::{
    Block, DType, Device, Grid, Kernel, KernelTime, Launch, Memory, Pool, Reading, Replay, Work, energy::Meter, lock,
};
use crate::{Error, Result};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaStream, DriverError, result,
    sys::{self, CUfunction_attribute_enum as FunctionAttribute, CUresult},
};
use fatbin::FATBINS;
use memory::{Checks, DeviceMemory, Staging};
use profile::Profile;
use std::{
    collections::{HashMap, hash_map::Entry},
    ffi::c_void,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

/// What the simulator in `sim/` calls itself.
const SIMULATOR: &str = "roentgen simulator";
/// CUDA version that the kernels are compiled with; an older driver cannot load them.
const DRIVER_VERSION: i32 = 13_000;
/// Pixels of the tile that a convolution writes; `TILE_ROWS` in `kernels/product.cuh` must agree.
pub(crate) const MOMENT_ROWS: usize = 128;
/// What the kernels are compiled for, the best for training first.
pub(super) const PRECISIONS: &[DType] = &[DType::BF16, DType::F16, DType::F32, DType::F64];
/// Bytes of parameters that a kernel can receive by value (compute capability 7.0 and up).
const MAX_PARAMETER_BYTES: usize = 32_764;
/// Share of the free memory that tensors may take: the rest is for the context, the kernels and other programs.
const MEMORY_SHARE: (usize, usize) = (95, 100);

/// A GPU, or the simulator of one.
pub struct Cuda {
    stream: Arc<CudaStream>,
    modules: Vec<Arc<CudaModule>>,
    functions: Mutex<HashMap<(&'static str, DType), Function>>,
    /// Where new blocks come from: during a capture a pool of the graph's own.
    pool: Mutex<Arc<Pool>>,
    /// The pools of graphs, as long as those live.
    recorded: Mutex<Vec<Weak<Pool>>>,
    /// The most memory that was seen in use beside graphs.
    peak: AtomicUsize,
    staging: Arc<Mutex<Staging>>,
    profile: Mutex<Option<Profile>>,
    checks: Arc<Checks>,
    name: String,
}

/// A kernel in one type, and the dynamic shared memory in bytes that it may use.
struct Function {
    function: CudaFunction,
    shared: usize,
}

/// What is known of a GPU before it is used.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Compute capability.
    pub capability: (i32, i32),
    /// Memory in bytes: free and in all.
    pub memory: (usize, usize),
    /// CUDA version of the driver, as 13000 for 13.0.
    pub driver: i32,
}

impl Found {
    /// Whether it is the simulator of the tests and no GPU.
    pub fn is_simulated(&self) -> bool {
        self.name == SIMULATOR
    }
}

/// What kind of failure a driver call had, in words.
fn failed(what: &str, e: DriverError) -> Error {
    Error::Device(format!("{what}: {e}"))
}

/// The context of GPU `index` and what is known of it.
///
/// # Errors
/// No driver, one that is too old, or no such GPU: what is missing and what to do about it.
fn context(index: usize) -> Result<(Arc<CudaContext>, Found)> {
    // cudarc panics at the first call without a driver, so this comes first.
    if !driver_present() {
        return Err(Error::unusable(
            "there is no NVIDIA driver (libcuda) on this machine",
            "install one, or --device cpu",
        ));
    }
    let mut driver = 0;
    // SAFETY: writes one integer; the function exists in every driver.
    unsafe { sys::cuDriverGetVersion(&mut driver).result() }
        .map_err(|e| failed("asking for the driver's version", e))?;
    if driver < DRIVER_VERSION {
        let version = |v: i32| format!("{}.{}", v / 1000, v % 1000 / 10);
        return Err(Error::unusable(
            format!(
                "the NVIDIA driver supports CUDA {}, the kernels need {}",
                version(driver),
                version(DRIVER_VERSION)
            ),
            "update the driver (580 or newer), or --device cpu",
        ));
    }
    // Without a device the driver says so in one call or the other.
    let count = match CudaContext::device_count() {
        Ok(count) => count as usize,
        Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => 0,
        Err(e) => {
            let next = "nvidia-smi, which says more; or --device cpu";
            return Err(Error::unusable(format!("the NVIDIA driver does not start: {e}"), next));
        }
    };
    if index >= count {
        let problem = match count {
            0 => "the NVIDIA driver finds no GPU".into(),
            1 => format!("there is no GPU {index}: the only one is 0"),
            n => format!("there is no GPU {index}: they are 0 to {}", n - 1),
        };
        return Err(Error::unusable(problem, "--device cpu, or check nvidia-smi and CUDA_VISIBLE_DEVICES"));
    }
    let at = |e| failed("opening the GPU", e);
    let context = CudaContext::new(index).map_err(at)?;
    // SAFETY: one stream is used, in order; there is nothing to track, and waiting on events would break a capture.
    unsafe { context.disable_event_tracking() };
    let found = Found {
        name: context.name().map_err(at)?,
        capability: context.compute_capability().map_err(at)?,
        memory: context.mem_get_info().map_err(at)?,
        driver,
    };
    Ok((context, found))
}

/// Whether there is an NVIDIA driver.
pub fn driver_present() -> bool {
    // SAFETY: looks for the library only.
    unsafe { sys::is_culib_present() }
}

/// What is known of GPU `index`.
///
/// # Errors
/// Why it cannot be used.
pub fn find(index: usize) -> Result<Found> {
    Ok(context(index)?.1)
}

/// The kernels in `context`.
fn load_kernels(context: &Arc<CudaContext>, found: &Found) -> Result<Vec<Arc<CudaModule>>> {
    let load = |image: Vec<u8>| {
        let module = context.load_module(cudarc::nvrtc::Ptx::from_binary(image));
        module.map_err(|e| failed("loading the kernels", e))
    };
    if FATBINS.is_empty() && !found.is_simulated() {
        let next = "scripts/get-nvcc, then build again; or --device cpu";
        return Err(Error::unusable("this program was built without GPU kernels", next));
    }
    let (major, minor) = found.capability;
    if !FATBINS.is_empty() && fatbin::code_for(major as u32, minor as u32).is_none() {
        let problem = format!("the kernels are built for {}, this GPU is sm_{major}{minor}", fatbin::ARCHS.join(", "));
        return Err(Error::unusable(problem, "build again with it in ROENTGEN_CUDA_ARCHS, or --device cpu"));
    }
    if found.is_simulated() {
        // The simulator has the kernels in itself, and any image names them.
        return Ok(vec![load(vec![0])?]);
    }
    FATBINS.iter().map(|fatbin| load(fatbin.image.to_vec())).collect()
}

impl Cuda {
    /// GPU `index`.
    ///
    /// # Errors
    /// Why it cannot be used.
    #[allow(clippy::new_ret_no_self)] // A device is always used through the trait.
    pub fn new(index: usize) -> Result<Arc<dyn Device>> {
        Ok(Arc::new(Cuda::open(index, Checks::new(cfg!(debug_assertions), false))?))
    }

    /// GPU `index` for tests: new memory is NaN, and a write behind the end of a block is an error of the next
    /// [`Device::sync`].
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn checked(index: usize) -> Result<Arc<dyn Device>> {
        Ok(Arc::new(Cuda::open(index, Checks::new(true, true))?))
    }

    fn open(index: usize, checks: Arc<Checks>) -> Result<Cuda> {
        let (context, found) = context(index)?;
        let modules = load_kernels(&context, &found)?;
        let stream = context.new_stream().map_err(|e| failed("opening the GPU", e))?;
        let limit = found.memory.0 / MEMORY_SHARE.1 * MEMORY_SHARE.0;
        let (major, minor) = found.capability;
        Ok(Cuda {
            modules,
            functions: Mutex::default(),
            pool: Mutex::new(Pool::new(DeviceMemory::new(&stream, &checks), limit)),
            recorded: Mutex::default(),
            peak: AtomicUsize::new(0),
            staging: Arc::new(Mutex::new(Staging::new(&stream))),
            profile: Mutex::default(),
            checks,
            name: format!("{}, compute capability {major}.{minor}", found.name),
            stream,
        })
    }

    /// The CUDA function of a kernel, allowed to use `shared` bytes of dynamic shared memory.
    fn function(&self, kernel: &Kernel, dtype: DType, shared: usize) -> Result<CudaFunction> {
        let mut functions = lock(&self.functions);
        let known = match functions.entry((kernel.name, dtype)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let name = format!("{}_{}", kernel.name, dtype.suffix());
                // The simulator has one module for all.
                let module = self.modules.get(fatbin::holding(&name).unwrap_or(0)).or(self.modules.first());
                let function = module.and_then(|module| module.load_function(&name).ok());
                let function = function.ok_or_else(|| Error::Device(format!("there is no CUDA kernel {name}")))?;
                entry.insert(Function { function, shared: 0 })
            }
        };
        // Without being asked the driver allows 48 KiB, of which what the kernel declares itself is a part.
        if shared > known.shared {
            let attribute = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            known.function.set_attribute(attribute, shared as i32).map_err(|e| failed(kernel.name, e))?;
            known.shared = shared;
        }
        Ok(known.function.clone())
    }

    /// Counts the memory of a graph as in use, as long as it lives.
    fn keep(&self, pool: &Arc<Pool>) {
        let mut recorded = lock(&self.recorded);
        recorded.retain(|pool| pool.strong_count() > 0);
        recorded.push(Arc::downgrade(pool));
        drop(recorded);
        self.memory(); // remembers the peak
    }

    fn bind(&self) -> Result<()> {
        self.stream.context().bind_to_thread().map_err(|e| failed("using the GPU from another thread", e))
    }

    /// That no step is being recorded, which could not do this with its own results.
    fn not_recording(&self, what: &str) -> Result<()> {
        if graph::recording(&self.stream) {
            return Err(Error::Device(format!("a step that is being recorded cannot {what} its own results")));
        }
        Ok(())
    }
}

/// What the driver copies for a launch: one by-value struct, and pointers or nothing behind it.
fn arguments(kernel: &Kernel, params: &[u8], ins: &[&Block], outs: &[&Block]) -> (Vec<u64>, Vec<u64>) {
    let addresses: Vec<u64> = ins.iter().chain(outs).map(|block| block.address() as u64).collect();
    let words = |bytes: usize| vec![0u64; bytes.div_ceil(8)];
    match kernel.cuda {
        Launch::Pointers(_) => {
            let mut by_value = words(params.len());
            bytemuck::cast_slice_mut(&mut by_value)[..params.len()].copy_from_slice(params);
            (by_value, addresses)
        }
        Launch::Table(_) => {
            // The kernel's struct has room for a full table, so the driver reads that far.
            let mut by_value = words(MAX_PARAMETER_BYTES);
            let table = params.len() + 8 * addresses.len();
            assert!(params.len().is_multiple_of(8) && table <= MAX_PARAMETER_BYTES, "{}: {table} bytes", kernel.name);
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut by_value);
            bytes[..params.len()].copy_from_slice(params);
            bytes[params.len()..table].copy_from_slice(bytemuck::cast_slice(&addresses));
            (by_value, vec![])
        }
    }
}

impl Device for Cuda {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn memory(&self) -> Memory {
        let mut memory = lock(&self.pool).memory();
        let recorded: usize =
            lock(&self.recorded).iter().filter_map(Weak::upgrade).map(|pool| pool.memory().held).sum();
        memory.held += recorded;
        memory.in_use += recorded;
        memory.peak = memory.peak.max(memory.in_use).max(self.peak.fetch_max(memory.in_use, Ordering::Relaxed));
        memory
    }

    fn alloc(&self, bytes: usize, at: &'static str) -> Result<Arc<Block>> {
        self.bind()?;
        let block = lock(&self.pool).take(bytes, at)?;
        if self.checks.poison {
            // SAFETY: the block is that long, and nothing else uses it.
            let filled =
                unsafe { result::memset_d8_async(block.address() as u64, 0xFF, bytes, self.stream.cu_stream()) };
            filled.map_err(|e| failed(at, e))?;
        }
        Ok(block)
    }

    fn upload(&self, src: &[u8], dst: &Block) -> Result<()> {
        assert_eq!(src.len(), dst.bytes(), "upload: lengths differ");
        self.bind()?;
        lock(&self.staging).upload(src, dst)
    }

    fn download(&self, src: &Block, dst: &mut [u8]) -> Result<()> {
        assert_eq!(src.bytes(), dst.len(), "download: lengths differ");
        self.bind()?;
        self.not_recording("read")?;
        // SAFETY: both are that long, and `sync` waits before anyone reads `dst`.
        let copied = unsafe { result::memcpy_dtoh_async(dst, src.address() as u64, self.stream.cu_stream()) };
        copied.map_err(|e| failed("copying from the GPU", e))?;
        self.sync()
    }

    fn read_later(&self, src: &Block) -> Result<Reading> {
        self.bind()?;
        self.not_recording("read")?;
        let (staging, checks, bytes) = (self.staging.clone(), self.checks.clone(), src.bytes());
        let buffer = lock(&staging).download(src)?;
        Ok(Box::new(move || {
            let read = buffer.read(bytes).map_err(|e| failed("running on the GPU", e))?;
            lock(&staging).put(buffer);
            checks.passed()?;
            Ok(read)
        }))
    }

    fn runs_beside_host(&self) -> bool {
        true
    }

    fn launch(&self, kernel: &Kernel, dtype: DType, params: &[u8], ins: &[&Block], outs: &[&Block]) -> Result<()> {
        self.bind()?;
        let (Launch::Pointers(grid) | Launch::Table(grid)) = kernel.cuda;
        let Grid { blocks, threads, shared } = grid(params, dtype);
        let function = self.function(kernel, dtype, shared)?;
        let (mut by_value, mut pointers) = arguments(kernel, params, ins, outs);
        let mut values: Vec<*mut c_void> = vec![by_value.as_mut_ptr().cast()];
        values.extend(pointers.iter_mut().map(|p| std::ptr::from_mut(p).cast::<c_void>()));
        let [x, y, z] = blocks.map(|b| u32::try_from(b).expect("a grid of over 2³² blocks"));
        let mut profile = lock(&self.profile);
        let timer = profile.as_ref().map(|p| p.start(&self.stream)).transpose().map_err(|e| failed(kernel.name, e))?;
        // SAFETY: the arguments are those of the CUDA function by the convention of `kernels/`, they outlive the call, which
        // copies them, and the blocks outlive the work because memory is reused in stream order only.
        let launched = unsafe {
            let (grid, block) = ((x, y, z), (threads as u32, 1, 1));
            let stream = self.stream.cu_stream();
            result::launch_kernel(function.cu_function(), grid, block, shared as u32, stream, &mut values)
        };
        launched.map_err(|e| failed(kernel.name, e))?;
        if let (Some(profile), Some(timer)) = (profile.as_mut(), timer) {
            let work = Work::of(kernel, params, ins, outs);
            profile.stop(&self.stream, (kernel.name, work), timer).map_err(|e| failed(kernel.name, e))?;
        }
        Ok(())
    }

    fn meter(&self) -> Meter {
        Meter::new(energy::counter(self.stream.context()).into_iter().collect())
    }

    fn moment_rows(&self) -> usize {
        MOMENT_ROWS
    }

    fn precisions(&self) -> &'static [DType] {
        PRECISIONS
    }

    fn combines_parts(&self) -> bool {
        true
    }

    fn sync(&self) -> Result<()> {
        self.not_recording("wait for")?;
        self.stream.synchronize().map_err(|e| failed("running on the GPU", e))?;
        self.checks.passed()
    }

    fn kernel_times(&self) -> Vec<KernelTime> {
        let mut profile = lock(&self.profile);
        let done = profile.replace(Profile::default());
        done.map(Profile::times).unwrap_or_default()
    }

    fn capture(&self, step: &mut dyn FnMut() -> Result<()>) -> Result<Option<Box<dyn Replay>>> {
        // The times of single launches cannot be told inside a recorded step.
        if lock(&self.profile).is_some() {
            return Ok(None);
        }
        graph::capture(self, step)
    }
}
