//! The operations: one file per kernel family, each with its shape rule, CPU bodies, gradient and cases.
//!
//! Adding an operation is its section in one of these files and its line in [`ALL`]. From that line follow the gradient
//! check, the adjoint test and a benchmark row.

pub mod activation;
pub mod augment;
pub mod bias;
pub mod conv;
pub mod conv_bn_act;
pub mod dense_block;
pub mod dense_loss;
pub mod depthwise;
pub mod elementwise;
pub mod linear;
pub mod loss;
pub mod norm;
pub mod optim;
pub mod pool;
pub mod regularise;
pub mod resample;
pub mod slice;

use crate::tensor::Tensor;

/// Every differentiable operation.
pub static ALL: &[&Spec] = &[
    &elementwise::ADD,
    &elementwise::SCALING,
    &elementwise::ACTIVATE,
    &elementwise::SCALE_CHANNELS,
    &elementwise::CASTS,
    &regularise::DROP,
    &regularise::DEPTH,
    &slice::CONCAT,
    &slice::CHANNELS,
    &slice::PAD_CHANNELS,
    &bias::BIAS_ACT,
    &resample::UPSAMPLE_NEAREST,
    &resample::BILINEAR,
    &resample::CROP_OR_PAD,
    &conv::CONV2D,
    &conv::transposed::CONV_TRANSPOSE2D,
    &depthwise::DEPTHWISE,
    &linear::LINEAR,
    &norm::BATCH_NORM,
    &conv_bn_act::CONV_BN_ACT,
    &dense_block::DENSE_BLOCK,
    &pool::MAX_POOL,
    &pool::AVG_POOL,
    &pool::ADAPTIVE_AVG_POOL,
    &pool::GLOBAL_AVG_POOL,
    &loss::SOFTMAX_CROSS_ENTROPY,
    &dense_loss::BCE_WITH_LOGITS,
    &dense_loss::FOCAL,
    &dense_loss::DISTANCES,
    &dense_loss::DICE,
];

/// An operation and the cases it must be right and fast at.
pub struct Spec {
    /// Name of the operation.
    pub name: &'static str,
    /// Its cases, small ones for proofs and real ones for the adjoint test and benchmarks.
    pub cases: fn() -> Vec<Case>,
}

type Run = dyn Fn(&[Tensor]) -> Tensor;

/// One use of an operation: input shapes and the call.
pub struct Case {
    /// What is particular about it.
    pub label: &'static str,
    /// Shapes of the inputs that get gradients.
    pub shapes: Vec<Vec<usize>>,
    /// The call.
    pub run: Box<Run>,
    /// Inputs kept in [`DType::wide`](crate::device::DType::wide) where the others are of a half type.
    pub wide: &'static [usize],
    /// Inputs in which the operation is linear, the others held fixed: the adjoint test applies to them.
    pub linear_in: &'static [usize],
    /// Values no input may come close to, because the operation has a kink there.
    pub kinks: &'static [f64],
    /// Whether it has the size of a real network's layer: too large for differences, right for adjoints and timing.
    pub real: bool,
}

impl Case {
    /// A small case, not linear, without kinks.
    pub fn new(label: &'static str, shapes: &[&[usize]], run: impl Fn(&[Tensor]) -> Tensor + 'static) -> Case {
        let shapes = shapes.iter().map(|s| s.to_vec()).collect();
        Case { label, shapes, run: Box::new(run), wide: &[], linear_in: &[], kinks: &[], real: false }
    }

    /// The same, with the inputs of these positions in the type that sums are kept in.
    pub fn wide(self, wide: &'static [usize]) -> Case {
        Case { wide, ..self }
    }

    /// The same, linear in the inputs of these positions.
    pub fn linear_in(self, linear_in: &'static [usize]) -> Case {
        Case { linear_in, ..self }
    }

    /// The same, with kinks at these values.
    pub fn kinks(self, kinks: &'static [f64]) -> Case {
        Case { kinks, ..self }
    }

    /// The same, at the size of a real layer.
    pub fn real(self) -> Case {
        Case { real: true, ..self }
    }
}
