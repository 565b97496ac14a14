//! The energy counter of a GPU, by NVIDIA's management library, which comes with the driver.

use crate::device::energy::Counter;
use cudarc::driver::{CudaContext, sys};
use libloading::Library;
use std::ffi::{c_char, c_int, c_void};

/// Where the library is, by platform.
const NAMES: [&str; 2] = ["libnvidia-ml.so.1", "nvml.dll"];
/// Room for `domain:bus:device.function`.
const BUS_ID_BYTES: usize = 32;

type Init = unsafe extern "C" fn() -> c_int;
type HandleByBusId = unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int;
type TotalEnergy = unsafe extern "C" fn(*mut c_void, *mut u64) -> c_int;

/// The counter of the GPU behind `context`, if it has one: from Volta on, and not of a part of a GPU.
pub(super) fn counter(context: &CudaContext) -> Option<Counter> {
    let mut bus_id: [c_char; BUS_ID_BYTES] = [0; BUS_ID_BYTES];
    // SAFETY: the driver writes a string of at most this length.
    let known = unsafe { sys::cuDeviceGetPCIBusId(bus_id.as_mut_ptr(), BUS_ID_BYTES as i32, context.cu_device()) };
    known.result().ok()?;
    // SAFETY: these functions have had these parameters since they exist (nvml.h); 0 is success. The library stays loaded as
    // long as `total_energy` is called, and the handle is good as long as that.
    unsafe {
        let library = NAMES.iter().find_map(|name| Library::new(*name).ok())?;
        let init = *library.get::<Init>(b"nvmlInit_v2\0").ok()?;
        let find = *library.get::<HandleByBusId>(b"nvmlDeviceGetHandleByPciBusId_v2\0").ok()?;
        let total_energy = *library.get::<TotalEnergy>(b"nvmlDeviceGetTotalEnergyConsumption\0").ok()?;
        let mut gpu = std::ptr::null_mut();
        if init() != 0 || find(bus_id.as_ptr(), &mut gpu) != 0 {
            return None;
        }
        let gpu = gpu as usize;
        Counter::new(f64::INFINITY, move || {
            let _loaded = &library;
            let mut millijoules = 0;
            (total_energy(gpu as *mut c_void, &mut millijoules) == 0).then_some(millijoules as f64 / 1e3)
        })
    }
}
