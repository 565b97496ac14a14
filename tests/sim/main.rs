//! The stand-in for the CUDA driver, through the crate that drives the real one.

mod sanitizers;

use cudarc::{
    driver::{
        CudaContext, CudaFunction, CudaSlice, CudaStream, DriverError, LaunchConfig, PushKernelArg, result,
        sys::{CUfunction_attribute_enum, CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode, is_culib_present},
    },
    nvrtc::Ptx,
};
use half::{bf16, f16};
use std::{path::Path, process::Command, sync::Arc};

struct Sim {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
}

/// `None`, with the reason on stderr, if the simulator was not built.
fn sim() -> Option<Sim> {
    if let Err(reason) = roentgen_sim::available() {
        eprintln!("skipped: {reason}");
        return None;
    }
    // SAFETY: only looks for the library.
    assert!(unsafe { is_culib_present() }, "cargo did not put the simulator where it is looked for");
    let context = CudaContext::new(0).unwrap();
    assert_eq!(context.name().unwrap(), "roentgen simulator");
    // SAFETY: one stream orders all work.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().unwrap();
    Some(Sim { context, stream })
}

impl Sim {
    fn kernel(&self, name: &str) -> CudaFunction {
        self.context.load_module(Ptx::from_binary(vec![0])).unwrap().load_function(name).unwrap()
    }

    fn numbers(&self, n: usize) -> CudaSlice<f32> {
        self.stream.clone_htod(&(0..n).map(|i| i as f32).collect::<Vec<_>>()).unwrap()
    }

    /// Memory that no one has written.
    fn fresh<T: cudarc::driver::DeviceRepr>(&self, n: usize) -> CudaSlice<T> {
        // SAFETY: kernels write it before it is read, or the test wants to see what is in it.
        unsafe { self.stream.alloc(n) }.unwrap()
    }

    /// Launches a kernel of `sim/tests/bugs.cu` on 32 floats.
    fn bug(&self, name: &str, blocks: u32) -> Result<Vec<f32>, DriverError> {
        let mut out = self.numbers(32);
        let kernel = self.kernel(name);
        let mut launch = self.stream.launch_builder(&kernel);
        launch.arg(&mut out);
        // SAFETY: what is wrong with it is the simulator's to find.
        unsafe { launch.launch(config((blocks, 1), (32, 1), 128)) }?;
        self.stream.clone_dtoh(&out)
    }
}

fn config(grid: (u32, u32), block: (u32, u32), shared: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (grid.0, grid.1, 1), block_dim: (block.0, block.1, 1), shared_mem_bytes: shared }
}

/// Launches `kernel` with the given arguments.
macro_rules! launch {
    ($sim:expr, $kernel:expr, $config:expr, $($argument:expr),*) => {{
        let kernel = $sim.kernel($kernel);
        let mut launch = $sim.stream.launch_builder(&kernel);
        $(launch.arg($argument);)*
        // SAFETY: the arguments are those of the kernel.
        unsafe { launch.launch($config) }
    }};
}

#[test]
fn adds_elements() {
    let Some(sim) = sim() else { return };
    let (a, mut c) = (sim.numbers(1000), sim.fresh::<f32>(1000));
    launch!(sim, "sim_add", config((4, 1), (256, 1), 0), &a, &a, &mut c, &1000i32).unwrap();
    assert!(sim.stream.clone_dtoh(&c).unwrap().iter().enumerate().all(|(i, c)| *c == 2.0 * i as f32));
}

#[test]
fn sums_by_shuffles() {
    let Some(sim) = sim() else { return };
    let (x, mut total) = (sim.numbers(1000), sim.fresh::<f32>(1));
    launch!(sim, "sim_sum", config((1, 1), (256, 1), 0), &x, &mut total, &1000i32).unwrap();
    assert_eq!(sim.stream.clone_dtoh(&total).unwrap(), [499_500.0]);
}

#[test]
fn transposes_in_dynamic_shared_memory() {
    let Some(sim) = sim() else { return };
    let n = 70;
    let size = n as i32;
    let (x, mut y) = (sim.numbers(n * n), sim.fresh::<f32>(n * n));
    launch!(sim, "sim_transpose", config((3, 3), (32, 8), 32 * 33 * 4), &x, &mut y, &size).unwrap();
    let y = sim.stream.clone_dtoh(&y).unwrap();
    assert!((0..n * n).all(|i| y[i % n * n + i / n] == i as f32));
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Gemm {
    m: i32,
    n: i32,
    k: i32,
}
// SAFETY: plain numbers in the order of the struct in sim/tests/kernels.cu.
unsafe impl cudarc::driver::DeviceRepr for Gemm {}

#[test]
fn multiplies_on_tensor_cores() {
    let Some(sim) = sim() else { return };
    let (m, n, k) = (32, 48, 80);
    // Small integers: every sum is exact.
    let a: Vec<f32> = (0..m * k).map(|i| (i * 7 % 11) as f32 - 5.0).collect();
    let b: Vec<f32> = (0..n * k).map(|i| (i * 5 % 13) as f32 - 6.0).collect();
    let expected: Vec<f32> =
        (0..m * n).map(|i| (0..k).map(|j| a[i / n * k + j] * b[i % n * k + j]).sum::<f32>()).collect();
    let shape = Gemm { m: m as i32, n: n as i32, k: k as i32 };
    let grid = config((n as u32 / 16, m as u32 / 16), (32, 1), 0);
    let mut c = sim.fresh::<f32>(m * n);
    let device = |x: &[f32]| {
        let bits: Vec<u16> = x.iter().map(|x| bf16::from_f32(*x).to_bits()).collect();
        sim.stream.clone_htod(&bits).unwrap()
    };
    let (a16, b16) = (device(&a), device(&b));
    launch!(sim, "sim_gemm_bf16", grid, &shape, &a16, &b16, &mut c).unwrap();
    assert_eq!(sim.stream.clone_dtoh(&c).unwrap(), expected);
    let mut c = sim.fresh::<f32>(m * n);
    let device = |x: &[f32]| {
        let bits: Vec<u16> = x.iter().map(|x| f16::from_f32(*x).to_bits()).collect();
        sim.stream.clone_htod(&bits).unwrap()
    };
    let (a16, b16) = (device(&a), device(&b));
    launch!(sim, "sim_gemm_f16", grid, &shape, &a16, &b16, &mut c).unwrap();
    assert_eq!(sim.stream.clone_dtoh(&c).unwrap(), expected);
}

#[test]
fn converts_as_the_half_crate_does() {
    let Some(sim) = sim() else { return };
    let (mut wide16, mut wide_b16) = (sim.fresh::<f32>(1 << 16), sim.fresh::<f32>(1 << 16));
    launch!(sim, "sim_widen", config((256, 1), (256, 1), 0), &mut wide16, &mut wide_b16).unwrap();
    let (wide16, wide_b16) = (sim.stream.clone_dtoh(&wide16).unwrap(), sim.stream.clone_dtoh(&wide_b16).unwrap());
    let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    for bits in 0..=u16::MAX {
        assert!(same(wide16[usize::from(bits)], f16::from_bits(bits).to_f32()), "f16 {bits:#x}");
        assert!(same(wide_b16[usize::from(bits)], bf16::from_bits(bits).to_f32()), "bf16 {bits:#x}");
    }
    // Each value of f16, the middle to its neighbour, and what lies next to that middle; then bits from everywhere.
    let mut x: Vec<f32> = vec![];
    for bits in 0..=u16::MAX {
        let (low, high) = (f16::from_bits(bits).to_f32(), f16::from_bits(bits.wrapping_add(1)).to_f32());
        let middle = (low + high) / 2.0;
        x.extend([low, middle, f32::from_bits(middle.to_bits() + 1), f32::from_bits(middle.to_bits().wrapping_sub(1))]);
    }
    x.extend((0..1u32 << 18).map(|i| f32::from_bits(i.wrapping_mul(0x9E37_79B9))));
    let (n, count) = (x.len(), x.len() as i32);
    let (mut narrow16, mut narrow_b16) = (sim.fresh::<u16>(n), sim.fresh::<u16>(n));
    let grid = config((n.div_ceil(256) as u32, 1), (256, 1), 0);
    let source = sim.stream.clone_htod(&x).unwrap();
    launch!(sim, "sim_narrow", grid, &source, &mut narrow16, &mut narrow_b16, &count).unwrap();
    let (narrow16, narrow_b16) =
        (sim.stream.clone_dtoh(&narrow16).unwrap(), sim.stream.clone_dtoh(&narrow_b16).unwrap());
    for (i, x) in x.into_iter().enumerate() {
        let (a, b) = (f16::from_bits(narrow16[i]), f16::from_f32(x));
        assert!(a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()), "{x:e} as f16: {a:?}, not {b:?}");
        let (a, b) = (bf16::from_bits(narrow_b16[i]), bf16::from_f32(x));
        assert!(a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()), "{x:e} as bf16: {a:?}, not {b:?}");
    }
}

#[test]
fn shuffles_and_votes() {
    let Some(sim) = sim() else { return };
    let mut out = sim.fresh::<i32>(256);
    launch!(sim, "sim_warp", config((1, 1), (32, 1), 0), &mut out).unwrap();
    let out = sim.stream.clone_dtoh(&out).unwrap();
    let thirds = (0..32).filter(|lane| lane % 3 == 0).fold(0u32, |mask, lane| mask | 1 << lane) as i32;
    for lane in 0..32i32 {
        let group = lane / 8 * 8;
        let expected = [
            group + 3,
            if lane % 8 >= 2 { lane - 2 } else { lane },
            if lane % 8 < 6 { lane + 2 } else { lane },
            lane ^ 9,
            lane ^ 1,
            thirds,
            3,
            if lane < 16 { lane ^ 1 } else { lane ^ 2 },
        ];
        assert_eq!(out[lane as usize * 8..][..8], expected, "lane {lane}");
    }
}

#[test]
fn loads_matrices() {
    let Some(sim) = sim() else { return };
    let mut out = sim.fresh::<u32>(32 * 14);
    launch!(sim, "sim_ldmatrix", config((1, 1), (32, 1), 0), &mut out).unwrap();
    let out = sim.stream.clone_dtoh(&out).unwrap();
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4);
        let pair = |low: u32, high: u32| low | high << 16;
        let plain = |m: u32| pair(64 * m + 8 * g + 2 * t, 64 * m + 8 * g + 2 * t + 1);
        let transposed = |m: u32| pair(64 * m + 16 * t + g, 64 * m + 8 * (2 * t + 1) + g);
        let mut expected: Vec<u32> = (0..4).map(plain).chain((0..4).map(transposed)).collect();
        expected.extend((0..2).map(plain).chain((0..2).map(transposed)));
        expected.extend([plain(0), transposed(0)]);
        assert_eq!(out[lane as usize * 14..][..14], expected, "lane {lane}");
    }
}

#[test]
fn counts_blocks_with_atomics() {
    let Some(sim) = sim() else { return };
    let n = 10_000;
    let x = sim.stream.clone_htod(&(0..n).collect::<Vec<i32>>()).unwrap();
    let (mut partials, mut total) = (sim.fresh::<i32>(79), sim.fresh::<i32>(1));
    let mut arrivals = sim.stream.alloc_zeros::<u32>(1).unwrap();
    let grid = config((79, 1), (128, 1), 0);
    launch!(sim, "sim_last_block", grid, &x, &mut partials, &mut arrivals, &mut total, &n).unwrap();
    assert_eq!(sim.stream.clone_dtoh(&total).unwrap(), [n * (n - 1) / 2]);
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Table {
    count: i32,
    ins: [u64; 2000],
    outs: [u64; 2000],
}
// SAFETY: as the struct in sim/tests/kernels.cu.
unsafe impl cudarc::driver::DeviceRepr for Table {}

#[test]
fn takes_large_parameters_by_value() {
    let Some(sim) = sim() else { return };
    let (x, y) = (sim.numbers(2000), sim.fresh::<f32>(2000));
    let address = |slice: &CudaSlice<f32>| cudarc::driver::DevicePtr::device_ptr(slice, &sim.stream).0;
    let at = |base: u64| std::array::from_fn(|i| base + 4 * i as u64);
    let mut table = Box::new(Table { count: 2000, ins: at(address(&x)), outs: at(address(&y)) });
    let kernel = sim.kernel("sim_table");
    let mut launch = sim.stream.launch_builder(&kernel);
    launch.arg(&*table);
    // SAFETY: the table's addresses are of live memory.
    unsafe { launch.launch(config((8, 1), (256, 1), 0)) }.unwrap();
    table.count = 0;
    assert!(sim.stream.clone_dtoh(&y).unwrap().iter().enumerate().all(|(i, y)| *y == i as f32 + 1.0));
}

#[test]
fn replays_a_captured_graph() {
    let Some(sim) = sim() else { return };
    let one = sim.stream.clone_htod(&[1f32; 100]).unwrap();
    let mut sum = sim.stream.alloc_zeros::<f32>(100).unwrap();
    sim.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
    launch!(sim, "sim_add", config((1, 1), (128, 1), 0), &one, &sum, &sum, &100i32).unwrap();
    assert!(sim.stream.synchronize().is_err(), "a capturing stream has nothing to wait for");
    let graph = sim.stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
    assert_eq!(sim.stream.clone_dtoh(&sum).unwrap(), [0.0; 100], "captured, not run");
    for _ in 0..3 {
        graph.launch().unwrap();
    }
    assert_eq!(sim.stream.clone_dtoh(&sum).unwrap(), [3.0; 100]);
    sim.stream.memset_zeros(&mut sum).unwrap();
    assert_eq!(sim.stream.clone_dtoh(&sum).unwrap(), [0.0; 100]);
}

#[test]
fn new_memory_is_nan() {
    let Some(sim) = sim() else { return };
    let memory = sim.stream.clone_dtoh(&sim.fresh::<f32>(100)).unwrap();
    assert!(memory.iter().all(|x| x.is_nan()));
}

#[test]
fn copies_stay_inside_live_allocations() {
    let Some(_sim) = sim() else { return };
    // SAFETY: the wrong calls are the simulator's to refuse.
    unsafe {
        let address = result::malloc_sync(100).unwrap();
        assert!(result::memset_d8_sync(address, 0, 100).is_ok());
        assert!(result::memset_d8_sync(address, 0, 101).is_err());
        assert!(result::memcpy_htod_sync(address + 50, &[0u8; 51]).is_err());
        result::free_sync(address).unwrap();
        assert!(result::memcpy_dtoh_sync(&mut [0u8; 1], address).is_err(), "read after free");
        assert!(result::free_sync(address).is_err(), "freed twice");
    }
}

#[test]
fn refuses_what_hardware_refuses() {
    let Some(sim) = sim() else { return };
    let mut out = sim.fresh::<f32>(128);
    let refused =
        |result: Result<_, DriverError>| assert_eq!(result.err().unwrap().0, CUresult::CUDA_ERROR_INVALID_VALUE);
    launch!(sim, "sim_bounds", config((1, 1), (64, 1), 0), &mut out).unwrap();
    refused(launch!(sim, "sim_bounds", config((1, 1), (65, 1), 0), &mut out));
    refused(launch!(sim, "sim_bounds", config((1, 1), (0, 1), 0), &mut out));
    refused(launch!(sim, "sim_bounds", config((1, 65536), (64, 1), 0), &mut out));
    let large = config((1, 1), (64, 1), 99 << 10);
    refused(launch!(sim, "sim_bounds", large, &mut out));
    let kernel = sim.kernel("sim_bounds");
    let attribute = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    kernel.set_attribute(attribute, 99 << 10).unwrap();
    assert!(kernel.set_attribute(attribute, 100 << 10).is_err());
    let mut launch = sim.stream.launch_builder(&kernel);
    launch.arg(&mut out);
    // SAFETY: the arguments are those of the kernel.
    unsafe { launch.launch(large) }.unwrap();
    let module = sim.context.load_module(Ptx::from_binary(vec![0])).unwrap();
    assert_eq!(module.load_function("no_such_kernel").err().unwrap().0, CUresult::CUDA_ERROR_NOT_FOUND);
}

#[test]
fn failures_name_kernel_block_thread_and_line() {
    let Some(sim) = sim() else { return };
    let bugs = [
        ("bug_deadlock", "deadlock"),
        ("bug_different_operations", "different operations"),
        ("bug_lane_not_in_mask", "leaves it out"),
        ("bug_lanes_returned", "have returned"),
        ("bug_misaligned_copy", "not 16-byte aligned"),
        ("bug_misaligned_row", "not a multiple of 16"),
    ];
    for (kernel, what) in bugs {
        let error = sim.bug(kernel, 1).unwrap_err();
        assert_eq!(error.0, CUresult::CUDA_ERROR_LAUNCH_FAILED);
        let message = error.to_string();
        for part in [what, kernel, "block (0,0,0)", "thread (", "bugs.cu:"] {
            assert!(message.contains(part), "{kernel}: {message}");
        }
    }
    for (kernel, what) in [("bug_wild_address", "illegal memory access"), ("bug_division_by_zero", "division by zero")]
    {
        let message = sim.bug(kernel, 1).unwrap_err().to_string();
        assert!(message.contains(what) && message.contains(kernel) && message.contains("thread ("), "{message}");
    }
    // The launch after a failed one is clean.
    sums_by_shuffles();
}

#[test]
fn what_was_not_written_is_nan() {
    let Some(sim) = sim() else { return };
    for kernel in ["bug_uninitialised_shared", "bug_uninitialised_dynamic", "bug_copy_not_awaited"] {
        // Several blocks, so that one finds what the other left behind.
        let out = sim.bug(kernel, 8).unwrap();
        assert!(out.iter().any(|x| x.is_nan()), "{kernel}: {out:?}");
    }
}

/// Runs a test that is ignored otherwise, in a process of its own.
fn passes(test: &str, settings: &[(&str, &Path)]) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).envs(settings.iter().copied());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{test}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "run by settings_change_the_device"]
fn finds_no_device() {
    assert!(CudaContext::new(0).is_err());
}

#[test]
#[ignore = "run by settings_change_the_device"]
fn driver_is_old() {
    let context = CudaContext::new(0).unwrap();
    let mut version = 0;
    // SAFETY: writes one integer.
    unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut version) };
    assert_eq!(version, 12020);
    assert!(context.load_module(Ptx::from_binary(vec![0])).is_err());
}

#[test]
#[ignore = "run by settings_change_the_device"]
fn no_kernels_for_the_device() {
    let context = CudaContext::new(0).unwrap();
    assert_eq!(context.compute_capability().unwrap(), (7, 5));
    let error = context.load_module(Ptx::from_binary(vec![0])).err().unwrap();
    assert_eq!(error.0, CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU);
}

#[test]
#[ignore = "run by settings_change_the_device"]
fn memory_is_short() {
    let sim = sim().unwrap();
    assert_eq!(sim.context.mem_get_info().unwrap(), (1000, 1000));
    let held = sim.fresh::<u8>(600);
    assert_eq!(sim.context.mem_get_info().unwrap(), (400, 1000));
    // SAFETY: not used.
    let error = unsafe { sim.stream.alloc::<u8>(500) }.err().unwrap();
    assert_eq!(error.0, CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    drop(held);
    sim.fresh::<u8>(1000);
}

#[test]
#[ignore = "run by settings_change_the_device"]
fn everything() {
    adds_elements();
    takes_large_parameters_by_value();
    sums_by_shuffles();
    transposes_in_dynamic_shared_memory();
    multiplies_on_tensor_cores();
    shuffles_and_votes();
    loads_matrices();
    counts_blocks_with_atomics();
    refuses_what_hardware_refuses();
    failures_name_kernel_block_thread_and_line();
}

#[test]
fn settings_change_the_device() {
    if sim().is_none() {
        return;
    }
    passes("finds_no_device", &[("ROENTGEN_SIM_NO_DEVICE", "1".as_ref())]);
    passes("driver_is_old", &[("ROENTGEN_SIM_DRIVER", "12020".as_ref())]);
    passes("no_kernels_for_the_device", &[("ROENTGEN_SIM_CAPABILITY", "75".as_ref())]);
    passes("memory_is_short", &[("ROENTGEN_SIM_MEMORY", "1000".as_ref())]);
    for order in ["forward", "reverse", "1", "2"] {
        for threads in ["1", "3"] {
            passes("everything", &[("ROENTGEN_SIM_ORDER", order.as_ref()), ("ROENTGEN_SIM_THREADS", threads.as_ref())]);
        }
    }
}
