//! Time of each launch, by events before and behind it.

use crate::device::{KernelTime, Work, times::Times};
use cudarc::driver::{CudaEvent, CudaStream, DriverError, sys::CUevent_flags};

/// The launches since profiling began.
#[derive(Default)]
pub(super) struct Profile {
    launches: Vec<(&'static str, Work, CudaEvent, CudaEvent)>,
}

fn mark(stream: &CudaStream) -> Result<CudaEvent, DriverError> {
    stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))
}

impl Profile {
    /// Before a launch.
    pub fn start(&self, stream: &CudaStream) -> Result<CudaEvent, DriverError> {
        mark(stream)
    }

    /// Behind the launch of `name`.
    pub fn stop(
        &mut self,
        stream: &CudaStream,
        (name, work): (&'static str, Work),
        start: CudaEvent,
    ) -> Result<(), DriverError> {
        self.launches.push((name, work, start, mark(stream)?));
        Ok(())
    }

    /// Sums by kernel and size. Launches that failed have no time.
    pub fn times(self) -> Vec<KernelTime> {
        let mut times = Times::default();
        for (name, work, start, end) in self.launches {
            if let Ok(milliseconds) = start.elapsed_ms(&end) {
                times.add(name, work, f64::from(milliseconds) / 1e3);
            }
        }
        times.take()
    }
}
