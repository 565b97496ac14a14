//! Every CUDA kernel against the CPU's f64 body, on whatever libcuda is found: the simulator under `cargo test`, a GPU
//! where this binary is run by itself.

mod common;

use common::{
    cases::{distance, dtype_of, results, tolerance},
    gpu,
};
use roentgen::{
    device::{Block, DType, Device, Grid, Kernel, Launch, cpu::Cpu, cuda::fatbin::FATBINS},
    ops::{
        self, Case,
        activation::Act,
        elementwise::activate,
        norm::{BatchNorm, Statistics, batch_norm},
        optim::{self, Limits, Progress, Rule, Scalars, Update},
        pool::MAX_POOL,
    },
    rng::{Purpose, Rng},
    tape::Tape,
};
use std::{collections::BTreeSet, sync::Arc};

/// Least distance of an input from a kink, so that rounding does not move it across.
const CLEARANCE: f64 = 0.05;

fn noise(stream: usize, n: usize) -> Vec<f64> {
    let mut rng = Rng::new(1, Purpose::Test, stream as u32, 0);
    (0..n).map(|_| f64::from(rng.range(-2.0, 2.0))).collect()
}

fn rounded(values: &[f64], dtype: DType) -> Vec<f64> {
    dtype.decode(&dtype.encode(values))
}

/// Values for input `i` of a case, clear of its kinks and exact in `dtype`.
fn input(case: &Case, i: usize, dtype: DType) -> Vec<f64> {
    let mut values = noise(i, case.shapes[i].iter().product());
    if !case.kinks.is_empty() {
        values.iter_mut().for_each(|x| *x *= 2.0);
    }
    for x in &mut values {
        if case.kinks.iter().any(|kink| (*x - kink).abs() < CLEARANCE) {
            *x += 2.0 * CLEARANCE;
        }
    }
    rounded(&values, dtype_of(case, i, dtype))
}

/// Kernels that the program carries and that are not in `launched`; files that have a test of their own aside.
fn never_launched(launched: &BTreeSet<&str>) -> BTreeSet<&'static str> {
    let differentiable = FATBINS.iter().filter(|fatbin| !["optim", "augment"].contains(&fatbin.name));
    let names = differentiable.flat_map(|fatbin| fatbin.kernels).map(|name| name.rsplit_once('_').expect("a type").0);
    names.filter(|name| !launched.contains(name)).collect()
}

#[test]
fn kernels_equal_the_cpu_in_f64() {
    let Some(gpu) = gpu() else { return };
    let cpu = Cpu::new(1 << 30);
    let only = std::env::var("ROENTGEN_ONLY").unwrap_or_default();
    let mut wrong = vec![];
    gpu.kernel_times();
    for spec in ops::ALL.iter().filter(|spec| spec.name.contains(&only)) {
        for case in (spec.cases)().iter().filter(|case| !case.real) {
            for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
                let inputs: Vec<_> = (0..case.shapes.len()).map(|i| input(case, i, dtype)).collect();
                let gy = |len| rounded(&noise(99, len), DType::BF16);
                let expected = results(&cpu, case, DType::F64, &inputs, &gy).unwrap();
                let got = match results(&gpu, case, dtype, &inputs, &gy) {
                    Ok(got) => got,
                    Err(e) => {
                        wrong.push(format!("{} ({}), {dtype:?}: {e}", spec.name, case.label));
                        continue;
                    }
                };
                for (i, ((_, got), (_, expected))) in got.iter().zip(&expected).enumerate() {
                    let error = distance(got, expected);
                    if error.is_nan() || error > tolerance(dtype) {
                        let what = if i == 0 { "result".into() } else { format!("gradient of input {}", i - 1) };
                        wrong.push(format!("{} ({}), {dtype:?}, {what}: {error:.1e}", spec.name, case.label));
                    }
                }
            }
        }
    }
    if only.is_empty() {
        let launched: BTreeSet<_> = gpu.kernel_times().iter().map(|time| time.name).collect();
        wrong.extend(never_launched(&launched).into_iter().map(|name| format!("{name} is in no case")));
    }
    assert!(wrong.is_empty(), "kernels differ from the CPU:\n{}", wrong.join("\n"));
    assert_eq!(gpu.memory().in_use, 0, "tensors outlive their tapes");
}

/// What is no number is the largest of its window, and gets its gradient.
#[test]
fn max_pool_finds_what_is_no_number_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let cpu = Cpu::new(1 << 30);
    for case in (MAX_POOL.cases)().iter().filter(|case| !case.real) {
        let mut x = noise(0, case.shapes[0].iter().product());
        x.iter_mut().skip(3).step_by(11).for_each(|x| *x = f64::NAN);
        let gy = |len| noise(99, len);
        let of = |device| results(device, case, DType::F64, &[x.clone()], &gy).unwrap();
        let text = |values: &[f64]| values.iter().map(|x| format!("{x:.9}")).collect::<Vec<_>>();
        for ((_, got), (_, expected)) in of(&gpu).iter().zip(&of(&cpu)) {
            assert_eq!(text(got), text(expected), "{}", case.label);
        }
        assert!(of(&cpu)[0].1.iter().any(|y| y.is_nan()), "{}", case.label);
    }
}

/// An overflow must not look like a quiet neuron.
#[test]
fn activations_of_what_is_no_number_are_none() {
    let acts = [Act::Identity, Act::Relu, Act::HardSwish, Act::HardSigmoid, Act::Silu, Act::Sigmoid];
    let devices = [gpu(), Some(Cpu::new(1 << 20))].into_iter().flatten();
    for (device, act) in devices.flat_map(|device| acts.map(move |act| (device.clone(), act))) {
        let tape = Tape::new(&device, false);
        let y = activate(&tape.floats(&[9], DType::F32, &[f64::NAN; 9]), act).to_vec().unwrap();
        assert!(y.iter().all(|y| y.is_nan()), "{act:?} on {}: {y:?}", device.name());
    }
}

#[test]
fn running_statistics_move_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    const CHANNELS: usize = 5;
    let moved = |device: &Arc<dyn Device>, dtype: DType| {
        let tape = Tape::new(device, false);
        let values = |stream, plus: f64| noise(stream, CHANNELS).iter().map(|x| x + plus).collect::<Vec<_>>();
        let of_channels = |stream, plus| tape.floats(&[CHANNELS], dtype, &values(stream, plus));
        let bn = BatchNorm {
            weight: of_channels(0, 0.0),
            bias: of_channels(1, 0.0),
            running_mean: of_channels(2, 0.0),
            running_var: of_channels(3, 3.0),
            eps: 1e-3,
            momentum: 0.1,
            statistics: Statistics::Batch,
        };
        let y = tape.floats(&[2, 9, 8, CHANNELS], dtype, &noise(4, 2 * 9 * 8 * CHANNELS));
        batch_norm(&y, &bn, Act::Identity);
        [bn.running_mean.to_vec().unwrap(), bn.running_var.to_vec().unwrap()]
    };
    let expected = moved(&Cpu::new(1 << 20), DType::F64);
    for dtype in [DType::F64, DType::F32] {
        for (got, expected) in moved(&gpu, dtype).iter().zip(&expected) {
            assert!(distance(got, expected) <= tolerance(dtype), "{dtype:?}: {got:?} for {expected:?}");
        }
    }
}

/// Values after a few steps of `rule`, those of one tensor rounded to `shadowed` beside them, and the progress.
fn optimised(
    device: &Arc<dyn Device>,
    (rule, growth): (Rule, Option<u32>),
    dtype: DType,
    shadowed: Option<DType>,
) -> (Vec<Vec<f64>>, Vec<f64>, Progress) {
    // More than one chunk, exactly one, less, and a single element.
    const LENGTHS: [usize; 4] = [40_000, 1 << 14, 100, 1];
    let limits = Limits { clip: Some(30.0), growth };
    let block = |values: &[f64], dtype: DType| {
        let block = device.alloc(values.len() * dtype.size(), "test").unwrap();
        device.upload(&dtype.encode(values), &block).unwrap();
        block
    };
    let scalars = Scalars::new(&**device, dtype, Progress::new(0, 8.0)).unwrap();
    scalars.set_rate(&**device, 0.1).unwrap();
    let values: Vec<_> = LENGTHS.iter().enumerate().map(|(i, &n)| block(&noise(i, n), dtype)).collect();
    let averages: Vec<_> = LENGTHS.iter().map(|&n| block(&vec![0.0; n], dtype)).collect();
    let states: Vec<Vec<_>> =
        LENGTHS.iter().map(|&n| rule.state().iter().map(|_| block(&vec![0.0; n], dtype)).collect()).collect();
    let stored = shadowed.unwrap_or(dtype);
    let shadow = block(&vec![0.0; LENGTHS[1]], stored);
    for step in 0..4 {
        // The third step meets a gradient that is not a number: nothing may move but the loss scale.
        let gradient = |(i, &n): (usize, &usize)| {
            let mut values = noise(10 * (step + 1) + i, n);
            values[0] = if step == 2 && i == 2 { f64::NAN } else { values[0] };
            block(&values, dtype)
        };
        let gradients: Vec<_> = LENGTHS.iter().enumerate().map(gradient).collect();
        let update = |i: usize| Update {
            value: &values[i],
            state: states[i].iter().map(|state| &**state).collect(),
            gradient: &gradients[i],
            shadow: (shadowed.is_some() && i == 1).then_some(&*shadow),
            lr_factor: 1.0 + i as f64,
            decay: 0.01 * i as f64,
        };
        let updates: Vec<_> = (0..LENGTHS.len()).map(update).collect();
        optim::update(&**device, rule, limits, stored, &scalars, &updates).unwrap();
        let pairs: Vec<_> = averages.iter().zip(&values).map(|(average, value)| (&**average, &**value)).collect();
        optim::average(&**device, 0.9, &scalars, &pairs).unwrap();
    }
    let read = |block: &Arc<Block>, dtype: DType| {
        let mut bytes = vec![0; block.bytes()];
        device.download(block, &mut bytes).unwrap();
        dtype.decode(&bytes)
    };
    let tensors = values.iter().chain(&averages).chain(states.iter().flatten()).map(|block| read(block, dtype));
    (tensors.collect(), read(&shadow, stored), scalars.progress(&**device).unwrap())
}

#[test]
fn optimisers_equal_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let cpu = Cpu::new(1 << 30);
    for (rule, growth) in [(Rule::SGD, None), (Rule::ADAM, Some(2)), (Rule::ADAMW, Some(2))] {
        let (single, double) = (DType::F32, DType::F64);
        let cases = [(double, None), (single, None), (single, Some(DType::BF16)), (single, Some(DType::F16))];
        for (dtype, shadowed) in cases {
            let (expected, _, progress) = optimised(&cpu, (rule, growth), dtype, None);
            let (got, shadow, gpu_progress) = optimised(&gpu, (rule, growth), dtype, shadowed);
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let error = distance(got, expected);
                assert!(error <= tolerance(dtype), "{rule:?} {dtype:?}: tensor {i} differs by {error:.1e}");
            }
            if let Some(stored) = shadowed {
                let value = rounded(&got[1], stored);
                let wrong = (0..value.len()).find(|&i| shadow[i] != value[i]).map(|i| (i, shadow[i], got[1][i]));
                assert_eq!(wrong, None, "{rule:?}: the shadow is not the rounded value");
            }
            assert_eq!((progress.step, progress.skipped), (3.0, 1.0));
            let Progress { step, scale, clean, skipped, .. } = gpu_progress;
            assert_eq!(
                (step, scale, clean, skipped),
                (progress.step, progress.scale, progress.clean, progress.skipped)
            );
        }
    }
    assert_eq!(gpu.memory().in_use, 0);
}

/// As `Parts` in `kernels/conv_wgrad.cu`: `parts` arrays of `len` elements.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Parts {
    len: i64,
    parts: i64,
}

#[test]
fn a_kernel_may_need_more_shared_memory_than_at_its_first_launch() {
    // As many kilobytes as parts.
    static COMBINE: Kernel = Kernel {
        macs: None,
        name: "combine_parts",
        cpu: |_| unreachable!(),
        cuda: Launch::Pointers(|params, _| {
            let p: Parts = bytemuck::pod_read_unaligned(params);
            Grid { shared: (p.parts as usize) << 10, ..Grid::threads(p.len as usize) }
        }),
    };
    let Some(gpu) = gpu() else { return };
    let size = DType::F32.size();
    for parts in [1, 64, 96, 32] {
        let (partials, sum) = (gpu.alloc(parts * size, "test").unwrap(), gpu.alloc(size, "test").unwrap());
        gpu.upload(&DType::F32.encode(&vec![1.0; parts]), &partials).unwrap();
        let p = Parts { len: 1, parts: parts as i64 };
        gpu.launch(&COMBINE, DType::F32, bytemuck::bytes_of(&p), &[&partials], &[&sum]).unwrap();
        let mut bytes = vec![0; size];
        gpu.download(&sum, &mut bytes).unwrap();
        assert_eq!(DType::F32.decode(&bytes), [parts as f64]);
    }
}
