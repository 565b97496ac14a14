//! Time of each launch, by events before and behind it.

use crate::device::{KernelTime, Work};
use cudarc::driver::{CudaEvent, CudaStream, DriverError, sys::CUevent_flags};
use std::collections::BTreeMap;

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
        let mut times = BTreeMap::new();
        for (name, work, start, end) in self.launches {
            let Ok(milliseconds) = start.elapsed_ms(&end) else { continue };
            let time = times.entry((name, work)).or_insert(KernelTime { name, work, launches: 0, seconds: 0.0 });
            time.launches += 1;
            time.seconds += f64::from(milliseconds) / 1e3;
        }
        times.into_values().collect()
    }
}
