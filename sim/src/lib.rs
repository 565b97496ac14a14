//! A stand-in for the CUDA driver, for tests: `libcuda.so` with the kernels of `../kernels` as C++ for the CPU. See
//! `docs/simulator.md`. The build script has compiled it; a package that depends on this one finds it under cargo by name.

pub mod compile;

use std::{env, path::Path};

/// Path of the simulator's `libcuda.so`, which exists if [`available`] says so.
pub fn library() -> &'static Path {
    Path::new(env!("ROENTGEN_SIM_LIBRARY"))
}

/// Whether the simulator was built, and if not, why not: a test skips with that reason.
///
/// # Panics
/// It was not, and `REQUIRE_SIM=1` is set: then a skipped test would hide what it should show.
///
/// # Errors
/// The reason.
pub fn available() -> Result<(), &'static str> {
    if library().is_file() {
        return Ok(());
    }
    let reason = "the simulator was not built: no C++ compiler (set CXX or install g++)";
    assert!(env::var("REQUIRE_SIM").as_deref() != Ok("1"), "REQUIRE_SIM=1, but {reason}");
    Err(reason)
}
