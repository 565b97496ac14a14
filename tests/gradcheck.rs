//! Every operation's gradient against central differences in f64, to the bar of PyTorch's `gradcheck`, and every linear
//! operation against its adjoint at the sizes of real layers.

use rayon::prelude::*;
use roentgen::{
    device::{DType, Device, cpu::Cpu},
    ops::{self, Case, Spec, elementwise::add},
    rng::{Purpose, Rng},
    tape::Tape,
    tensor::Tensor,
};
use std::{rc::Rc, sync::Arc};

/// Step of the central differences.
const H: f64 = 1e-6;
/// Least distance of an input from a kink: far more than the step.
const CLEARANCE: f64 = 1e-2;

fn noise(stream: usize, n: usize) -> Vec<f64> {
    let mut rng = Rng::new(1, Purpose::Test, stream as u32, 0);
    (0..n).map(|_| f64::from(rng.range(-2.0, 2.0))).collect()
}

/// Values for input `i` of a case, spread over ±4 where the case has kinks to straddle, and clear of them.
fn input(case: &Case, i: usize) -> Vec<f64> {
    let mut values = noise(i, case.shapes[i].iter().product());
    if !case.kinks.is_empty() {
        values.iter_mut().for_each(|x| *x *= 2.0);
    }
    for x in &mut values {
        if case.kinks.iter().any(|kink| (*x - kink).abs() < CLEARANCE) {
            *x += 2.0 * CLEARANCE;
        }
    }
    values
}

/// Every operation, or those whose names contain `ROENTGEN_ONLY`.
fn specs() -> impl Iterator<Item = &'static &'static Spec> {
    let only = std::env::var("ROENTGEN_ONLY").unwrap_or_default();
    ops::ALL.iter().filter(move |spec| spec.name.contains(&only))
}

fn leaves(tape: &Rc<Tape>, case: &Case, dtype: DType, inputs: &[Vec<f64>]) -> Vec<Tensor> {
    case.shapes.iter().zip(inputs).map(|(shape, x)| tape.floats(shape, dtype, x).leaf()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Partial derivatives that are compared for each input, of longer ones every so many: once, and where it is read twice.
const MOST_DIFFERENCES: [usize; 2] = [4096, 64];

/// Largest error of any partial derivative, as a share of what is tolerated: |num − ana| ≤ 1e-5 + 1e-3·|num|.
fn worst_gradient_error(device: &Arc<dyn Device>, case: &Case, fan_out: bool) -> f64 {
    let inputs: Vec<_> = (0..case.shapes.len()).map(|i| input(case, i)).collect();
    // With fan-out every input is read along two paths, so a gradient that overwrites instead of adding is caught.
    let run = |t: &[Tensor]| if fan_out { add(&(case.run)(t), &(case.run)(t)) } else { (case.run)(t) };
    let value =
        |inputs: &[Vec<f64>]| run(&leaves(&Tape::new(device, false), case, DType::F64, inputs)).to_vec().unwrap();

    let tape = Tape::new(device, true);
    let t = leaves(&tape, case, DType::F64, &inputs);
    let y = run(&t);
    let direction = noise(99, y.len());
    let grads = tape.backward_from(&y, tape.floats(y.shape(), DType::F64, &direction)).unwrap();

    let mut worst = 0.0f64;
    for (i, t) in t.iter().enumerate() {
        let analytic = grads.of(t).expect("an input without gradient").to_vec().unwrap();
        let every = analytic.len().div_ceil(MOST_DIFFERENCES[usize::from(fan_out)]);
        for (j, analytic) in analytic.into_iter().enumerate().step_by(every) {
            let shifted = |h: f64| {
                let mut inputs = inputs.clone();
                inputs[i][j] += h;
                dot(&value(&inputs), &direction)
            };
            let numeric = (shifted(H) - shifted(-H)) / (2.0 * H);
            let error = (numeric - analytic).abs() / (1e-5 + 1e-3 * numeric.abs());
            worst = if error.is_nan() { f64::INFINITY } else { worst.max(error) };
        }
    }
    worst
}

#[test]
fn gradients_equal_differences() {
    let device = Cpu::new(1 << 30);
    let wrong_of = |spec: &&Spec| {
        let mut wrong = vec![];
        for case in (spec.cases)().iter().filter(|case| !case.real) {
            for fan_out in [false, true] {
                let error = worst_gradient_error(&device, case, fan_out);
                if error > 1.0 {
                    wrong.push(format!("{} ({}), fan-out {fan_out}: {error:.1e} of tolerance", spec.name, case.label));
                }
            }
        }
        wrong
    };
    let wrong: Vec<String> = specs().collect::<Vec<_>>().into_par_iter().flat_map_iter(wrong_of).collect();
    assert!(wrong.is_empty(), "gradients differ from differences:\n{}", wrong.join("\n"));
    assert_eq!(device.memory().in_use, 0, "tensors outlive their tapes");
}

#[test]
fn every_operation_has_small_cases() {
    for spec in ops::ALL {
        assert!((spec.cases)().iter().any(|case| !case.real), "{} has no case to prove", spec.name);
    }
}

/// For an operation linear in x: ⟨f(x), g⟩ = ⟨x, f*(g)⟩.
#[test]
fn linear_operations_equal_their_adjoints() {
    let device = Cpu::new(4 << 30);
    for spec in specs() {
        for case in (spec.cases)().iter().filter(|case| !case.linear_in.is_empty()) {
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
                if case.real && dtype == DType::F64 {
                    continue;
                }
                let inputs: Vec<_> = (0..case.shapes.len()).map(|i| input(case, i)).collect();
                let tape = Tape::new(&device, true);
                let t = leaves(&tape, case, dtype, &inputs);
                let y = (case.run)(&t);
                let g = noise(98, y.len());
                let forward = y.to_vec().unwrap();
                let grads = tape.backward_from(&y, tape.floats(y.shape(), dtype, &g)).unwrap();
                let left = dot(&forward, &g);
                let scale = dot(&forward, &forward).sqrt() * dot(&g, &g).sqrt();
                for &i in case.linear_in {
                    let right = dot(&inputs[i], &grads.of(&t[i]).unwrap().to_vec().unwrap());
                    let gap = (left - right).abs() / scale;
                    assert!(gap <= tolerance, "{} ({}), {dtype:?}, input {i}: gap {gap:.1e}", spec.name, case.label);
                }
            }
        }
    }
}
