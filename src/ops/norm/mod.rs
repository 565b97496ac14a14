//! Batch normalisation (Ioffe and Szegedy 2015) with the activation and residual addition that follow it in one pass.
//!
//! Forward, per channel: u = (y − μ)·γ·r + β with r = 1/√(σ² + ε), then z = act(u), or relu(u + residual).
//! Backward: gβ = Σ gᵤ, gγ = Σ gᵤ·ŷ with ŷ = (y − μ)·r, and gy = γ·r·(gᵤ − gβ/m − ŷ·gγ/m); with running statistics
//! the two means fall away.

mod cpu;
mod statistics;

use super::{
    Case, Spec,
    activation::{Act, Activation, Relu, with_activation},
    conv::Moments,
};
use crate::{
    device::{DType, Grid, cpu::parallel},
    kernel,
    shape::int,
    tensor::{Tensor, launch},
};
use bytemuck::{Pod, Zeroable};
use cpu::{ActTerms, AddReluTerms, Affine, add_up};
pub(super) use statistics::channel_moments;
use std::marker::PhantomData;

/// Where the mean and variance come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// From the batch, which also moves the running ones: training.
    Batch,
    /// The running ones: evaluation, and fine-tuning with a frozen backbone.
    Running,
}

/// What a batch normalisation over `c` channels reads; all tensors are `[c]`.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// γ
    pub weight: Tensor,
    /// β
    pub bias: Tensor,
    /// Moved in place by [`Statistics::Batch`].
    pub running_mean: Tensor,
    /// Moved in place by [`Statistics::Batch`]; unbiased, as in PyTorch.
    pub running_var: Tensor,
    /// Added to the variance.
    pub eps: f64,
    /// Share of the batch in the running statistics.
    pub momentum: f64,
    /// Source of the statistics.
    pub statistics: Statistics,
}

/// `m` pixels of `c` channels, in an image of `width`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Norm {
    pub m: i64,
    pub eps: f64,
    pub momentum: f64,
    pub c: i32,
    pub act: i32,
    /// 1 if the statistics are the batch's, so that gradients flow through them.
    pub batch: i32,
    /// Pixels of one part of the moments.
    pub moment_rows: i32,
    /// Channels of a row of y, its gradient and the moments, of which the first `c` are meant.
    pub width: i32,
    /// 1 if the gradient of y is added to what is there.
    pub add: i32,
    /// Pixels of one block of the kernels over an image, and of one partial sum.
    pub rows: i32,
    pub unused: i32,
}

impl Norm {
    /// All channels of y `[…, c]`, with nothing said yet of what is done to them.
    fn of(y: &Tensor) -> Norm {
        let c = *y.shape().last().expect("batch_norm: wants a channel axis");
        let moment_rows = int(y.tape().device().moment_rows());
        Norm { m: (y.len() / c) as i64, moment_rows, width: int(c), ..Norm::zeroed() }.of_channels(c)
    }

    /// The first `c` channels.
    fn of_channels(self, c: usize) -> Norm {
        let rows = (self.m as usize * c.div_ceil(BLOCK_CHANNELS) / BLOCKS).next_power_of_two();
        Norm { c: int(c), rows: int(rows.clamp(MIN_ROWS, MAX_ROWS)), ..self }
    }

    /// Pixels of a block.
    fn rows(&self) -> usize {
        self.rows as usize
    }

    /// Blocks, of as many pixels.
    fn blocks(&self) -> usize {
        (self.m as usize).div_ceil(self.rows())
    }

    /// Parts of the pixels that have their own moments.
    fn parts(&self) -> usize {
        (self.m as usize).div_ceil(self.moment_rows as usize)
    }
}

/// Channels of a block in half types.
const BLOCK_CHANNELS: usize = Grid::SPAN / DType::BF16.size();
/// Blocks that fill a large GPU several times over, and the bounds of the pixels of one: enough that partial sums cost
/// nothing, few enough for many threads.
const BLOCKS: usize = 4096;
const MIN_ROWS: usize = 128;
const MAX_ROWS: usize = 1024;
/// Columns of partial results that a CUDA block combines, and the threads that share one; `kernels/norm.cu` must agree.
const COMBINE_COLUMNS: usize = 8;
const COMBINE_RANGES: usize = 64;

/// The grid of the kernels over an image.
fn pixels(p: &Norm, dtype: DType) -> Grid {
    Grid::channels(p.blocks(), p.c as usize, dtype)
}

/// The grid of the kernels that combine the rows of partial results.
fn combine(columns: usize) -> Grid {
    Grid::new([columns.div_ceil(COMBINE_COLUMNS), 1, 1], COMBINE_COLUMNS * COMBINE_RANGES)
}

kernel!(ACT_FWD = "bn_act_fwd", |p: Norm, [y, stats, weight, bias] -> [z]| {
    let (c, width) = (p.c as usize, p.width as usize);
    with_activation!(p.act, A => parallel::rows(z, c, #[inline(always)] |row, z| {
        let affine = Affine::new(stats, weight, bias);
        for (z, y) in z.chunks_exact_mut(c).zip(y[row * width..].chunks_exact(width)) {
            let y = &y[..c];
            for i in 0..c {
                z[i] = A::f(affine.u(i, y[i]));
            }
        }
    }));
}, grid |dtype| pixels(p, dtype));

kernel!(ADD_RELU_FWD = "bn_add_relu_fwd", |p: Norm, [y, stats, weight, bias, residual] -> [z]| {
    let c = p.c as usize;
    parallel::rows(z, c, #[inline(always)] |row, z| {
        let affine = Affine::new(stats, weight, bias);
        let rows = y[row * c..].chunks_exact(c).zip(residual[row * c..].chunks_exact(c));
        for (z, (y, residual)) in z.chunks_exact_mut(c).zip(rows) {
            for i in 0..c {
                z[i] = Relu::f(affine.u(i, y[i]) + residual[i]);
            }
        }
    });
}, grid |dtype| pixels(p, dtype));

kernel!(ACT_BWD_REDUCE = "bn_act_bwd_reduce", |p: Norm, [y, gz, stats, weight, bias] -> [partials]| {
    let (c, width) = (p.c as usize, p.width as usize);
    with_activation!(p.act, A => parallel::pieces(partials, 2 * c, #[inline(always)] |block, partial| {
        let (y, gz) = (&y[block * p.rows() * width..], &gz[block * p.rows() * c..]);
        let mut terms = ActTerms { y, width, gz, affine: Affine::new(stats, weight, bias), act: PhantomData::<A> };
        add_up(&mut terms, p.rows().min(gz.len() / c), partial);
    }));
}, grid |dtype| pixels(p, dtype));

kernel!(ADD_RELU_BWD_REDUCE = "bn_add_relu_bwd_reduce", |p: Norm, [y, z, gz, stats] -> [gu, partials]| {
    let c = p.c as usize;
    let (mean, rstd) = stats.split_at(c);
    parallel::pieces2((gu, p.rows() * c), (partials, 2 * c), #[inline(always)] |block, gu, partial| {
        let (from, rows) = (block * p.rows() * c, gu.len() / c);
        let mut terms = AddReluTerms { y: &y[from..], z: &z[from..], gz: &gz[from..], gu, mean, rstd };
        add_up(&mut terms, rows, partial);
    });
}, grid |dtype| pixels(p, dtype));

kernel!(BWD_COMBINE = "bn_bwd_combine", |p: Norm, [partials] -> [gweight, gbias]| {
    let c = p.c as usize;
    let sum = |i: usize| partials.chunks_exact(2 * c).map(|partial| partial[i].f64()).sum::<f64>();
    for i in 0..c {
        gbias[i] = T::of(sum(i));
        gweight[i] = T::of(sum(c + i));
    }
}, grid |_| combine(2 * p.c as usize));

kernel!(ACT_BWD_APPLY = "bn_act_bwd_apply", |p: Norm, [y, gz, stats, weight, bias, gweight, gbias] -> [gy]| {
    let (c, width) = (p.c as usize, p.width as usize);
    let through = if p.batch == 1 { 1.0 / p.m as f64 } else { 0.0 };
    // gy = scale·gᵤ + (y − mean)·slope + offset, with the last two constant over the channel.
    let scale: Vec<T> = (0..c).map(|i| weight[i] * stats[c + i]).collect();
    let slope: Vec<T> = (0..c).map(|i| -scale[i] * stats[c + i] * gweight[i] * T::of(through)).collect();
    let offset: Vec<T> = (0..c).map(|i| -scale[i] * gbias[i] * T::of(through)).collect();
    with_activation!(p.act, A => parallel::rows(gy, width, #[inline(always)] |row, gy| {
        let (affine, add) = (Affine::new(stats, weight, bias), p.add == 1);
        let (scale, slope, offset) = (&scale[..c], &slope[..c], &offset[..c]);
        let rows = y[row * width..].chunks_exact(width).zip(gz[row * c..].chunks_exact(c));
        for (gy, (y, gz)) in gy.chunks_exact_mut(width).zip(rows) {
            let (gy, y) = (&mut gy[..c], &y[..c]);
            for i in 0..c {
                let gu = gz[i] * A::df(affine.u(i, y[i]));
                let part = scale[i] * gu + (y[i] - affine.mean[i]) * slope[i] + offset[i];
                gy[i] = if add { gy[i] + part } else { part };
            }
        }
    }));
}, grid |dtype| pixels(p, dtype));

/// Batch normalisation of y `[…, c]`, then the activation.
#[track_caller]
pub fn batch_norm(y: &Tensor, bn: &BatchNorm, act: Act) -> Tensor {
    normalise(y, None, bn, act, None)
}

/// relu(batch normalisation of y + residual): the end of a residual block.
#[track_caller]
pub fn batch_norm_add_relu(y: &Tensor, bn: &BatchNorm, residual: &Tensor) -> Tensor {
    normalise(y, None, bn, Act::Relu, Some(residual))
}

/// Batch normalisation of y, whose `moments` may be known already, then the activation, or relu(that + residual).
#[track_caller]
pub(super) fn normalise(
    y: &Tensor,
    moments: Option<Moments>,
    bn: &BatchNorm,
    act: Act,
    residual: Option<&Tensor>,
) -> Tensor {
    assert_eq!(y.shape().last(), bn.weight.shape().first(), "batch_norm: {y:?} over other channels");
    normalise_first(y, moments, bn, act, residual)
}

/// Normalises the first channels of y, as many as `bn` is over; `moments` are those of all.
#[track_caller]
pub(super) fn normalise_first(
    y: &Tensor,
    moments: Option<Moments>,
    bn: &BatchNorm,
    act: Act,
    residual: Option<&Tensor>,
) -> Tensor {
    let (&width, outer) = y.shape().split_last().expect("batch_norm: wants a channel axis");
    let c = bn.weight.len();
    for t in [&bn.weight, &bn.bias, &bn.running_mean, &bn.running_var] {
        assert_eq!(t.shape(), [c], "batch_norm: input {:?}", y.shape());
    }
    let batch = i32::from(bn.statistics == Statistics::Batch);
    let p = Norm { eps: bn.eps, momentum: bn.momentum, act: act as i32, batch, ..Norm::of(y).of_channels(c) };
    let stats = statistics::of(y, moments, bn, p);
    let z = y.empty(&[outer, &[c]].concat(), "batch_norm");
    match residual {
        None => launch(&ACT_FWD, &p, &[y, &stats, &bn.weight, &bn.bias], &[&z]),
        Some(residual) => {
            assert_eq!((residual.shape(), width), (y.shape(), c), "batch_norm: residual of another shape");
            launch(&ADD_RELU_FWD, &p, &[y, &stats, &bn.weight, &bn.bias, residual], &[&z]);
        }
    }
    let inputs: Vec<&Tensor> = [y, &bn.weight, &bn.bias].into_iter().chain(residual).collect();
    let wants_residual = residual.is_some();
    // The residual form needs the sign of its output; the plain one recomputes u from y.
    let (sy, sz) = (y.clone(), residual.map(|_| z.clone()));
    let (weight, bias) = (bn.weight.clone(), bn.bias.clone());
    z.record_adding("batch_norm", &inputs, move |gz, so_far| {
        let partials = sy.empty_wide(&[p.blocks(), 2, c], "batch_norm backward");
        let (gu, p) = match sz {
            None => {
                launch(&ACT_BWD_REDUCE, &p, &[&sy, &gz, &stats, &weight, &bias], &[&partials]);
                (gz, p)
            }
            Some(z) => {
                let gu = sy.like("batch_norm backward");
                launch(&ADD_RELU_BWD_REDUCE, &p, &[&sy, &z, &gz, &stats], &[&gu, &partials]);
                (gu, Norm { act: Act::Identity as i32, ..p })
            }
        };
        let (gweight, gbias) = (weight.like("batch_norm backward"), bias.like("batch_norm backward"));
        launch(&BWD_COMBINE, &p, &[&partials], &[&gweight, &gbias]);
        let gy = sy.wants_grad().then(|| {
            let sum = so_far.take_if(|gradient| gradient.is_alone());
            let p = Norm { add: i32::from(sum.is_some()), ..p };
            let gy = sum.unwrap_or_else(|| sy.like("batch_norm backward"));
            launch(&ACT_BWD_APPLY, &p, &[&sy, &gu, &stats, &weight, &bias, &gweight, &gbias], &[&gy]);
            gy
        });
        let residual = wants_residual.then_some(Some(gu));
        [gy, Some(gweight), Some(gbias)].into_iter().chain(residual).collect()
    })
}

/// Batch normalisation tensors made from the last two of a case's inputs.
pub(super) fn case_norm(weight: &Tensor, bias: &Tensor, statistics: Statistics) -> BatchNorm {
    let (tape, c, dtype) = (weight.tape(), weight.len(), weight.dtype());
    let running = |value: fn(usize) -> f64| tape.floats(&[c], dtype, &(0..c).map(value).collect::<Vec<_>>());
    BatchNorm {
        weight: weight.clone(),
        bias: bias.clone(),
        running_mean: running(|i| 0.1 * i as f64 - 0.2),
        running_var: running(|i| 0.5 + 0.3 * i as f64),
        eps: 1e-3,
        momentum: 0.1,
        statistics,
    }
}

/// Cases of [`batch_norm`] and [`batch_norm_add_relu`].
pub static BATCH_NORM: Spec = Spec {
    name: "batch_norm",
    cases: || {
        use Statistics::{Batch, Running};
        let case = |label, y: [usize; 4], act, statistics| {
            let c = y[3];
            Case::new(label, &[&y, &[c], &[c]], move |t| batch_norm(&t[0], &case_norm(&t[1], &t[2], statistics), act))
                .wide(&[1, 2])
        };
        let residual = |label, y: [usize; 4], statistics| {
            let c = y[3];
            Case::new(label, &[&y, &[c], &[c], &y], move |t| {
                batch_norm_add_relu(&t[0], &case_norm(&t[1], &t[2], statistics), &t[3])
            })
            .wide(&[1, 2])
        };
        vec![
            case("batch", [2, 3, 4, 5], Act::Identity, Batch),
            case("batch, many blocks", [2, 13, 11, 2], Act::Identity, Batch),
            // So many pixels that they are no input: their gradients would be checked one by one.
            Case::new("batch, merged moments", &[&[2], &[2]], |t| {
                let shape = [1, 363, 364, 2];
                let values: Vec<f64> =
                    (0..shape.iter().product()).map(|i: usize| (i * i % 1009) as f64 / 1009.0).collect();
                let y = t[0].tape().floats(&shape, t[0].dtype(), &values);
                batch_norm(&y, &case_norm(&t[0], &t[1], Batch), Act::Identity)
            })
            .wide(&[0, 1]),
            case("batch, 8 channels", [2, 3, 3, 8], Act::HardSwish, Batch),
            case("batch, wider than a block", [1, 2, 3, 72], Act::Relu, Batch),
            case("batch, relu", [2, 3, 4, 3], Act::Relu, Batch),
            case("batch, hardswish", [2, 3, 4, 3], Act::HardSwish, Batch),
            case("batch, silu", [2, 3, 4, 3], Act::Silu, Batch),
            case("batch, sigmoid", [2, 3, 4, 3], Act::Sigmoid, Batch),
            case("running", [2, 3, 2, 5], Act::Identity, Running),
            case("running, hardswish", [2, 3, 2, 5], Act::HardSwish, Running),
            residual("batch, residual, relu", [2, 3, 4, 3], Batch),
            residual("batch, residual, 16 channels", [1, 3, 3, 16], Batch),
            residual("running, residual, relu", [2, 3, 4, 3], Running),
            case("56x56x64 relu", [8, 56, 56, 64], Act::Relu, Batch).real(),
            residual("56x56x64 residual", [8, 56, 56, 64], Batch).real(),
            case("28x28x72 hardswish", [8, 28, 28, 72], Act::HardSwish, Batch).real(),
        ]
    },
};
