//! Memory of the GPU for the pool, and page-locked memory to copy through.

use super::{failed, graph::recording, lock};
use crate::{
    Error, Result,
    device::{Block, Source},
};
use cudarc::driver::{
    CudaEvent, CudaStream, DriverError, result,
    sys::{CUevent_flags, CUresult},
};
use std::sync::{Arc, Mutex};

/// What is checked beyond what a run needs, and what the checks found.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// New memory is NaN, so that an element which no kernel wrote shows.
    pub poison: bool,
    /// Bytes behind each block are compared when it is freed.
    pub guard: bool,
    broken: Mutex<Option<String>>,
}

impl Checks {
    pub fn new(poison: bool, guard: bool) -> Arc<Checks> {
        Arc::new(Checks { poison, guard, broken: Mutex::default() })
    }

    /// Whether no guard was found broken.
    ///
    /// # Errors
    /// The first block that was written beyond its end.
    pub fn passed(&self) -> Result<()> {
        lock(&self.broken).take().map_or(Ok(()), |what| Err(Error::Device(what)))
    }
}

/// Bytes behind a guarded block.
const GUARD: usize = 256;
/// What they hold.
const GUARD_BYTE: u8 = 0xA5;

/// The GPU's memory.
pub(super) struct DeviceMemory {
    stream: Arc<CudaStream>,
    checks: Arc<Checks>,
}

impl DeviceMemory {
    pub fn new(stream: &Arc<CudaStream>, checks: &Arc<Checks>) -> DeviceMemory {
        DeviceMemory { stream: stream.clone(), checks: checks.clone() }
    }
}

impl Source for DeviceMemory {
    fn get(&self, bytes: usize) -> Result<Option<usize>> {
        let bound = self.stream.context().bind_to_thread();
        // SAFETY: the pool never asks for zero bytes; the memory is written before it is read, by every kernel's contract.
        match bound.and_then(|()| unsafe { result::malloc_sync(bytes) }) {
            Ok(address) => Ok(Some(address as usize)),
            Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(None),
            // Also that of a kernel launched before.
            Err(e) => Err(failed("running on the GPU", e)),
        }
    }

    fn left(&self) -> usize {
        self.stream.context().mem_get_info().map_or(usize::MAX, |(free, _)| free)
    }

    fn put(&self, address: usize, _bytes: usize) {
        // SAFETY: `get` gave it. The driver waits for the work that uses it. A failure here is a failed context, which the
        // next call reports.
        let _ = unsafe { result::free_sync(address as u64) };
    }

    fn guard(&self) -> usize {
        if self.checks.guard { GUARD } else { 0 }
    }

    fn taken(&self, address: usize, bytes: usize) {
        if self.checks.guard {
            let (end, stream) = ((address + bytes) as u64, self.stream.cu_stream());
            // SAFETY: the pool left `guard` bytes behind the block.
            let _ = unsafe { result::memset_d8_async(end, GUARD_BYTE, GUARD, stream) };
        }
    }

    fn returned(&self, address: usize, bytes: usize) {
        // Nothing can be read back while a step is recorded.
        if self.checks.guard && !recording(&self.stream) {
            let mut guard = [0; GUARD];
            // SAFETY: as in `taken`; waiting for the copy before the array is read.
            let copied =
                unsafe { result::memcpy_dtoh_async(&mut guard, (address + bytes) as u64, self.stream.cu_stream()) };
            if copied.and_then(|()| self.stream.synchronize()).is_ok() && guard != [GUARD_BYTE; GUARD] {
                let what = format!("a kernel wrote beyond the end of a block of {bytes} bytes");
                lock(&self.checks.broken).get_or_insert(what);
            }
        }
    }
}

/// Page-locked host memory, which the GPU reads and writes while the host goes on.
pub(super) struct Pinned {
    address: *mut u8,
    bytes: usize,
    /// Recorded behind the last copy from or to it.
    copied: CudaEvent,
}

// SAFETY: the memory belongs to this value alone, and the driver allows its use from any thread.
unsafe impl Send for Pinned {}

impl Pinned {
    fn new(stream: &Arc<CudaStream>, bytes: usize) -> std::result::Result<Pinned, DriverError> {
        let copied = stream.context().new_event(Some(CUevent_flags::CU_EVENT_DISABLE_TIMING))?;
        // SAFETY: written before it is read.
        let address = unsafe { result::malloc_host(bytes, 0) }?.cast();
        Ok(Pinned { address, bytes, copied })
    }

    /// Starts copying `src` to `dst` by way of this memory, of which nothing may be under way.
    fn upload(&mut self, stream: &CudaStream, src: &[u8], dst: &Block) -> std::result::Result<(), DriverError> {
        assert!(src.len() <= self.bytes && src.len() <= dst.bytes());
        // SAFETY: this memory is as long as asserted, and no copy from it is under way.
        let staged = unsafe { std::slice::from_raw_parts_mut(self.address, src.len()) };
        staged.copy_from_slice(src);
        // SAFETY: the block is as long as asserted, and this memory stays as it is until the event has passed.
        unsafe { result::memcpy_htod_async(dst.address() as u64, staged, stream.cu_stream()) }
    }

    /// Starts copying `src` to this memory, of which nothing may be under way.
    fn download(&mut self, stream: &CudaStream, src: &Block) -> std::result::Result<(), DriverError> {
        assert!(src.bytes() <= self.bytes);
        // SAFETY: this memory is as long as asserted, nobody else writes it, and it is read behind the event only.
        let landing = unsafe { std::slice::from_raw_parts_mut(self.address, src.bytes()) };
        // SAFETY: both are that long; the block's memory is reused in stream order only.
        unsafe { result::memcpy_dtoh_async(landing, src.address() as u64, stream.cu_stream()) }?;
        self.copied.record(stream)
    }

    /// Waits for the copy to this memory, and takes the first `bytes` of it.
    pub fn read(&self, bytes: usize) -> std::result::Result<Vec<u8>, DriverError> {
        assert!(bytes <= self.bytes);
        self.copied.synchronize()?;
        // SAFETY: `download` wrote as many bytes, and the copy has ended.
        Ok(unsafe { std::slice::from_raw_parts(self.address, bytes) }.to_vec())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.copied.synchronize();
        // SAFETY: `new` allocated it, and no copy from or to it is under way.
        let _ = unsafe { result::free_host(self.address.cast()) };
    }
}

/// Buffers that are kept: enough for all that two steps of training copy. With more copies under way, one waits for an
/// earlier one.
const BUFFERS: usize = 16;
/// Smallest buffer: one page.
const PAGE: usize = 4096;

/// The page-locked buffers that copies go through.
pub(super) struct Staging {
    stream: Arc<CudaStream>,
    buffers: Vec<Pinned>,
    /// During a capture: the buffers that the graph will read at each replay, which nobody else may use.
    captured: Option<Vec<Pinned>>,
}

impl Staging {
    pub fn new(stream: &Arc<CudaStream>) -> Staging {
        Staging { stream: stream.clone(), buffers: vec![], captured: None }
    }

    /// Starts copying `src` to `dst`; `src` may change as soon as this returns.
    ///
    /// # Errors
    /// A failure of the driver.
    pub fn upload(&mut self, src: &[u8], dst: &Block) -> Result<()> {
        self.start(src, dst).map_err(|e| failed("copying to the GPU", e))
    }

    fn start(&mut self, src: &[u8], dst: &Block) -> std::result::Result<(), DriverError> {
        if let Some(captured) = &mut self.captured {
            let mut buffer = Pinned::new(&self.stream, src.len().max(1))?;
            buffer.upload(&self.stream, src, dst)?;
            captured.push(buffer);
            return Ok(());
        }
        let mut buffer = self.take(src.len())?;
        buffer.upload(&self.stream, src, dst)?;
        buffer.copied.record(&self.stream)?;
        self.put(buffer);
        Ok(())
    }

    /// Starts copying `src` to the buffer returned, which comes back by [`Staging::put`] once it is read.
    ///
    /// # Errors
    /// A failure of the driver.
    pub fn download(&mut self, src: &Block) -> Result<Pinned> {
        let started = self.take(src.bytes()).and_then(|mut buffer| {
            buffer.download(&self.stream, src)?;
            Ok(buffer)
        });
        started.map_err(|e| failed("copying from the GPU", e))
    }

    /// A buffer for `bytes` of which no copy is under way: the smallest that is kept, or a new one.
    fn take(&mut self, bytes: usize) -> std::result::Result<Pinned, DriverError> {
        let kept = self.buffers.iter().enumerate();
        let free = kept.filter(|(_, b)| b.bytes >= bytes && b.copied.is_complete()).min_by_key(|(_, b)| b.bytes);
        match free.map(|(index, _)| index) {
            Some(index) => Ok(self.buffers.remove(index)),
            None => Pinned::new(&self.stream, bytes.next_power_of_two().max(PAGE)),
        }
    }

    /// Keeps `buffer`, in place of the one kept longest if there are enough.
    pub fn put(&mut self, buffer: Pinned) {
        if self.buffers.len() >= BUFFERS {
            // Dropping waits for its copy.
            self.buffers.remove(0);
        }
        self.buffers.push(buffer);
    }

    pub fn begin_capture(&mut self) {
        self.captured = Some(vec![]);
    }

    pub fn end_capture(&mut self) -> Vec<Pinned> {
        self.captured.take().unwrap_or_default()
    }
}
