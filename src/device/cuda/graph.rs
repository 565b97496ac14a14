//! A step recorded once and replayed with one call.

use super::{
    Cuda, failed, lock,
    memory::{Checks, DeviceMemory, Pinned},
};
use crate::{
    Error, Result,
    device::{Device, Memory, Pool, Replay},
};
use cudarc::driver::{
    CudaGraph, CudaStream,
    sys::{CUgraphInstantiate_flags, CUstreamCaptureMode, CUstreamCaptureStatus},
};
use std::sync::Arc;

/// A captured step with all that it reads and writes. Fields drop in order: the graph before its memory.
struct Graph {
    graph: CudaGraph,
    stream: Arc<CudaStream>,
    _uploads: Vec<Pinned>,
    /// The step's own memory: nobody else is given the addresses that the graph has in it.
    _pool: Arc<Pool>,
}

impl Replay for Graph {
    fn replay(&self) -> Result<()> {
        self.graph.launch().map_err(|e| failed("replaying a step", e))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // A replay under way still uses the memory.
        let _ = self.stream.synchronize();
    }
}

/// Records what `step` does on `device`, without running it; `None` if that leaves no memory for launched steps.
pub(super) fn capture(device: &Cuda, step: &mut dyn FnMut() -> Result<()>) -> Result<Option<Box<dyn Replay>>> {
    let stream = &device.stream;
    device.sync()?;
    // A recorded step keeps its memory. A batch of another shape and a look at the validation split need as much again.
    let Memory { in_use, held, limit, .. } = device.memory();
    if held + (held - in_use) > limit {
        return Ok(None);
    }
    // Blocks kept for reuse would stand idle beside the graph's own.
    lock(&device.pool).trim();
    // Without guards: they are written when a block is taken, and here that is only recorded.
    let checks = Checks::new(device.checks.poison, false);
    let memory = device.memory();
    let own = Pool::keeping(DeviceMemory::new(stream, &checks), memory.limit - memory.held);
    let shared = std::mem::replace(&mut *lock(&device.pool), own.clone());
    lock(&device.staging).begin_capture();
    // Relaxed: the pool may ask the driver for memory while the step is recorded.
    let begun = stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED);
    let stepped = begun.map_err(|e| failed("recording a step", e)).and_then(|()| step());
    // Also after a failed step: the stream must not stay in capture.
    let graph = stream.end_capture(CUgraphInstantiate_flags(0));
    *lock(&device.pool) = shared;
    let uploads = lock(&device.staging).end_capture();
    match stepped {
        Err(Error::OutOfMemory { .. }) => return Ok(None),
        other => other?,
    }
    let graph = graph.map_err(|e| failed("recording a step", e))?;
    let graph = graph.ok_or_else(|| Error::Device("recording a step: it launched nothing".into()))?;
    device.keep(&own);
    Ok(Some(Box::new(Graph { graph, stream: stream.clone(), _uploads: uploads, _pool: own })))
}

/// Whether a step is being recorded, so that nothing can be read back.
pub(super) fn recording(stream: &CudaStream) -> bool {
    stream.capture_status().is_ok_and(|status| status != CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE)
}
