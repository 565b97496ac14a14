//! The cases of `ops::ALL` on a device.

use roentgen::{
    Result,
    device::{DType, Device},
    ops::Case,
    tape::Tape,
    tensor::Tensor,
};
use std::sync::Arc;

/// The float type of input `i` of a case whose images are `dtype`.
pub fn dtype_of(case: &Case, i: usize, dtype: DType) -> DType {
    if case.wide.contains(&i) { dtype.wide() } else { dtype }
}

/// What a case gives on a device: its result, then the gradient of each input for the gradient `gy(elements)` of the
/// result, each with the type that it is stored in.
pub fn results(
    device: &Arc<dyn Device>,
    case: &Case,
    dtype: DType,
    inputs: &[Vec<f64>],
    gy: &dyn Fn(usize) -> Vec<f64>,
) -> Result<Vec<(DType, Vec<f64>)>> {
    let tape = Tape::new(device, true);
    let leaf = |(i, x): (usize, &Vec<f64>)| tape.floats(&case.shapes[i], dtype_of(case, i, dtype), x).leaf();
    let leaves: Vec<Tensor> = inputs.iter().enumerate().map(leaf).collect();
    let y = (case.run)(&leaves);
    let read = |t: &Tensor| t.to_vec().map(|values| (t.dtype(), values));
    let value = read(&y);
    let grads = tape.backward_from(&y, tape.floats(y.shape(), y.dtype(), &gy(y.len())))?;
    let gradients = leaves.iter().map(|leaf| read(grads.of(leaf).expect("an input without gradient")));
    let all = std::iter::once(value).chain(gradients).collect();
    drop((tape, leaves, y, grads));
    device.sync()?;
    all
}

/// ‖a − b‖ / ‖b‖; not a number where a is not.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let error: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    let size: f64 = b.iter().copied().map(square).sum();
    (error / size.max(f64::MIN_POSITIVE)).sqrt()
}

/// Largest relative Frobenius error of results stored in `dtype`.
pub fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 4e-3,
        DType::F16 => 6e-4,
        DType::F32 => 2e-6,
        _ => 1e-12,
    }
}
