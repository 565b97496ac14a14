//! Addition of a bias to each channel and the activation behind it, in one pass: what follows a convolution that has no
//! batch normalisation.

use super::{
    Case, Spec,
    activation::{Act, Activation, with_activation},
};
use crate::{
    device::{DType, Grid, cpu::parallel},
    kernel,
    shape::int,
    tensor::{Tensor, launch},
};
use bytemuck::{Pod, Zeroable};

/// `m` pixels of `c` channels.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct Bias {
    pub m: i64,
    pub c: i32,
    pub act: i32,
    /// 1 if the backward pass reads act(x + bias) instead of x.
    pub from_output: i32,
    pub unused: i32,
}

/// Pixels whose sum is one partial result; `BIAS_ROWS` in `kernels/bias.cu` must agree.
const BIAS_ROWS: usize = 256;
/// Channels that a block of the combination covers; `COMBINE_COLUMNS` in `kernels/bias.cu` must agree.
const COMBINE_COLUMNS: usize = 8;

impl Bias {
    fn parts(&self) -> usize {
        (self.m as usize).div_ceil(BIAS_ROWS)
    }

    /// A block for each part of a span of channels.
    fn grid(&self, dtype: DType) -> Grid {
        Grid::channels(self.parts(), self.c as usize, dtype)
    }
}

kernel!(FWD = "bias_act_fwd", |p: Bias, [x, bias] -> [y]| {
    let c = p.c as usize;
    with_activation!(p.act, A => parallel::rows(y, c, #[inline(always)] |row, y| {
        for (y, x) in y.chunks_exact_mut(c).zip(x[row * c..].chunks_exact(c)) {
            y.iter_mut().zip(x).zip(bias).for_each(|((y, &x), &bias)| *y = A::f(x + bias));
        }
    }));
}, grid |dtype| p.grid(dtype));

kernel!(BWD = "bias_act_bwd", |p: Bias, [x, gy, bias] -> [gx, partials]| {
    let c = p.c as usize;
    let nothing = vec![T::ZERO; c];
    let bias = if p.from_output == 1 { &nothing } else { bias };
    with_activation!(p.act, A => parallel::pieces2((gx, BIAS_ROWS * c), (partials, c), #[inline(always)] |part, gx, sums| {
        sums.fill(T::ZERO);
        let skip = part * BIAS_ROWS * c;
        let rows = x[skip..].chunks_exact(c).zip(gy[skip..].chunks_exact(c));
        for (gx, (x, gy)) in gx.chunks_exact_mut(c).zip(rows) {
            for i in 0..c {
                gx[i] = gy[i] * A::df(x[i] + bias[i]);
                sums[i] += gx[i];
            }
        }
    }));
}, grid |dtype| p.grid(dtype));

kernel!(BWD_COMBINE = "bias_bwd_combine", |p: Bias, [partials] -> [gbias]| {
    let c = p.c as usize;
    for (i, g) in gbias.iter_mut().enumerate() {
        *g = T::of(partials.chunks_exact(c).map(|sums| sums[i].f64()).sum());
    }
}, grid |_| Grid::new([(p.c as usize).div_ceil(COMBINE_COLUMNS), 1, 1], Grid::THREADS));

/// act(x + bias) for x `[…, c]` and bias `[c]`, the latter in [`DType::wide`].
#[track_caller]
pub fn bias_act(x: &Tensor, bias: &Tensor, act: Act) -> Tensor {
    let c = *x.shape().last().expect("bias_act: wants a channel axis");
    assert_eq!(bias.shape(), [c], "bias_act: bias for {:?}", x.shape());
    // Where the sign of the output tells the derivative, x need not be kept: whatever reads the output keeps that anyway.
    let from_output = matches!(act, Act::Relu | Act::Identity);
    let p = Bias { m: (x.len() / c) as i64, c: int(c), act: act as i32, from_output: from_output.into(), unused: 0 };
    let y = x.like("bias_act");
    launch(&FWD, &p, &[x, bias], &[&y]);
    let (saved, sbias) = (if from_output { y.clone() } else { x.clone() }, bias.clone());
    y.record("bias_act", &[x, bias], move |gy| {
        let gx = saved.like("bias_act backward");
        let partials = sbias.empty(&[p.parts(), c], "bias_act backward");
        launch(&BWD, &p, &[&saved, &gy, &sbias], &[&gx, &partials]);
        let gbias = sbias.like("bias_act backward");
        launch(&BWD_COMBINE, &p, &[&partials], &[&gbias]);
        vec![Some(gx), Some(gbias)]
    })
}

/// Cases of [`bias_act`].
pub static BIAS_ACT: Spec = Spec {
    name: "bias_act",
    cases: || {
        let case = |label, x: [usize; 4], act| {
            Case::new(label, &[&x, &[x[3]]], move |t| bias_act(&t[0], &t[1], act)).wide(&[1])
        };
        vec![
            case("identity", [2, 3, 4, 5], Act::Identity),
            case("many parts", [2, 13, 11, 1], Act::Identity),
            case("relu, whole packs", [2, 3, 2, 16], Act::Relu),
            case("silu, many spans", [1, 3, 2, 85], Act::Silu),
            case("56x56x256 relu", [8, 56, 56, 256], Act::Relu).real(),
        ]
    },
};
