//! Every CUDA kernel against the CPU's f64 body, on whatever libcuda is found: the simulator under `cargo test`, a GPU
//! where this binary is run by itself.

use roentgen::{
    device::{DType, Device, cpu::Cpu, cuda::Cuda},
    ops::{self, Case},
    rng::{Purpose, Rng},
    tape::Tape,
    tensor::Tensor,
};
use std::{rc::Rc, sync::Arc};

/// Least distance of an input from a kink, so that rounding does not move it across.
const CLEARANCE: f64 = 0.05;

fn noise(stream: usize, n: usize) -> Vec<f64> {
    let mut rng = Rng::new(1, Purpose::Test, stream as u32, 0);
    (0..n).map(|_| f64::from(rng.range(-2.0, 2.0))).collect()
}

fn rounded(values: &[f64], dtype: DType) -> Vec<f64> {
    dtype.decode(&dtype.encode(values))
}

/// The float type of input `i` of a case whose images are `dtype`.
fn dtype_of(case: &Case, i: usize, dtype: DType) -> DType {
    if case.wide.contains(&i) { dtype.wide() } else { dtype }
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

/// What a case gives on a device: its result, then the gradient of each input.
fn results(device: &Arc<dyn Device>, case: &Case, dtype: DType, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let tape: Rc<Tape> = Tape::new(device, true);
    let leaf = |(i, x): (usize, &Vec<f64>)| tape.floats(&case.shapes[i], dtype_of(case, i, dtype), x).leaf();
    let leaves: Vec<Tensor> = inputs.iter().enumerate().map(leaf).collect();
    let y = (case.run)(&leaves);
    let gy = rounded(&noise(99, y.len()), DType::BF16);
    let value = y.to_vec().unwrap_or_else(|e| panic!("{}: {e}", case.label));
    let grads = tape.backward_from(&y, tape.floats(y.shape(), y.dtype(), &gy));
    let grads = grads.unwrap_or_else(|e| panic!("{}, backward: {e}", case.label));
    let gradients = leaves.iter().map(|leaf| grads.of(leaf).expect("an input without gradient").to_vec().unwrap());
    let all = std::iter::once(value).chain(gradients).collect();
    drop((tape, leaves, y, grads));
    device.sync().unwrap_or_else(|e| panic!("{}: {e}", case.label));
    all
}

/// ‖a − b‖ / ‖b‖; not a number where a is not.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let error: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    let size: f64 = b.iter().copied().map(square).sum();
    (error / size.max(f64::MIN_POSITIVE)).sqrt()
}

/// Largest relative Frobenius error of results stored in `dtype`.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 4e-3,
        DType::F16 => 6e-4,
        DType::F32 => 2e-6,
        _ => 1e-12,
    }
}

fn gpu() -> Option<Arc<dyn Device>> {
    match Cuda::checked(0) {
        Ok(device) => Some(device),
        Err(e) => {
            assert!(std::env::var_os("REQUIRE_SIM").is_none(), "{e}");
            eprintln!("skipped: {e}");
            None
        }
    }
}

#[test]
fn kernels_equal_the_cpu_in_f64() {
    let Some(gpu) = gpu() else { return };
    let cpu = Cpu::new(1 << 30);
    let only = std::env::var("ROENTGEN_ONLY").unwrap_or_default();
    let mut wrong = vec![];
    for spec in ops::ALL.iter().filter(|spec| spec.name.contains(&only)) {
        for case in (spec.cases)().iter().filter(|case| !case.real) {
            for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
                let inputs: Vec<_> = (0..case.shapes.len()).map(|i| input(case, i, dtype)).collect();
                let expected = results(&cpu, case, DType::F64, &inputs);
                let got = results(&gpu, case, dtype, &inputs);
                for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    let error = distance(got, expected);
                    if error.is_nan() || error > tolerance(dtype) {
                        let what = if i == 0 { "result".into() } else { format!("gradient of input {}", i - 1) };
                        wrong.push(format!("{} ({}), {dtype:?}, {what}: {error:.1e}", spec.name, case.label));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "kernels differ from the CPU:\n{}", wrong.join("\n"));
    assert_eq!(gpu.memory().in_use, 0, "tensors outlive their tapes");
}
