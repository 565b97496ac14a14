//! The stand-in for the CUDA driver, through the same crate that drives the real one.

use cudarc::{
    driver::{CudaContext, CudaFunction, CudaStream, LaunchConfig, PushKernelArg, sys::is_culib_present},
    nvrtc::Ptx,
};

use std::sync::Arc;

struct Sim {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
}

/// `None`, with the reason on stderr, if the simulator was not built.
fn sim() -> Option<Sim> {
    if let Err(reason) = roentgen_sim::available() {
        eprintln!("SKIPPED: {reason}");
        return None;
    }
    // SAFETY: only looks for the library.
    assert!(unsafe { is_culib_present() });
    let context = CudaContext::new(0).unwrap();
    assert_eq!(context.name().unwrap(), "roentgen simulator");
    // SAFETY: one stream orders all work.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().unwrap();
    Some(Sim { context, stream })
}

impl Sim {
    fn kernel(&self, name: &str) -> CudaFunction {
        self.context.load_module(Ptx::from_binary(vec![])).unwrap().load_function(name).unwrap()
    }
}

fn config(grid: (u32, u32), block: (u32, u32), shared: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (grid.0, grid.1, 1), block_dim: (block.0, block.1, 1), shared_mem_bytes: shared }
}

#[test]
fn adds() {
    let Some(sim) = sim() else { return };
    let n = 1000;
    let a = sim.stream.clone_htod(&(0..n).map(|i| i as f32).collect::<Vec<_>>()).unwrap();
    let mut c = sim.stream.alloc_zeros::<f32>(n).unwrap();
    let kernel = sim.kernel("sim_add");
    let count = n as i32;
    let mut launch = sim.stream.launch_builder(&kernel);
    launch.arg(&a).arg(&a).arg(&mut c).arg(&count);
    unsafe { launch.launch(config((4, 1), (256, 1), 0)) }.unwrap();
    let c = sim.stream.clone_dtoh(&c).unwrap();
    assert!(c.iter().enumerate().all(|(i, c)| *c == 2.0 * i as f32));
}
