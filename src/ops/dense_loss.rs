//! Losses against targets of the prediction's own shape: binary cross-entropy, squared, absolute and Huber error, Dice.
//!
//! Sums leave one partial result a part, added up by a second launch. Gradients are computed from the inputs again and
//! rounded once, after the factor of the backward pass: a mean over a million pixels has gradients that half precision
//! could not hold before the loss scale is in them.

use super::{Case, Spec};
use crate::{
    device::{Grid, Kernel, Real, cpu::parallel},
    kernel,
    shape::int,
    tensor::{Tensor, launch},
};
use bytemuck::{Pod, Zeroable};

/// Elements of one partial sum; `PART` in `kernels/dense_loss.cu` must agree.
const PART: usize = 4096;

/// A mean over `len` elements of `classes` classes each.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Mean {
    len: i64,
    classes: i32,
    /// A [`Distance`] by number.
    distance: i32,
    delta: f32,
    unused: u32,
}

impl Mean {
    fn parts(&self) -> usize {
        (self.len as usize).div_ceil(PART)
    }

    /// Sums of `f` over the parts, as shares of the mean.
    fn sums<T: Real>(&self, partials: &mut [T], f: impl Fn(usize) -> f64 + Sync) {
        let len = self.len as usize;
        parallel::pieces(partials, 1, |part, sum| {
            sum[0] = T::of((part * PART..len.min((part + 1) * PART)).map(&f).sum::<f64>() / len as f64);
        });
    }

    /// Gradients `df` of the elements, times the factor `g` of the backward pass.
    fn gradients<T: Real>(&self, g: T, gx: &mut [T], df: impl Fn(usize) -> f64 + Sync) {
        let factor = g.f64() / self.len as f64;
        parallel::rows(gx, 1, |start, gx| {
            gx.iter_mut().enumerate().for_each(|(i, gx)| *gx = T::of(df(start + i) * factor));
        });
    }
}

kernel!(SUM = "loss_sum", |_parts: i64, [partials] -> [loss]| {
    loss[0] = T::of(partials.iter().map(|x| x.f64()).sum());
}, grid |_| Grid::new([1, 1, 1], Grid::THREADS));

/// log(1 + exp(x)).
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

kernel!(BCE_FWD = "bce_with_logits_fwd", |p: Mean, [logits, targets, weights, positive] -> [partials]| {
    p.sums(partials, |i| {
        let (x, y, class) = (logits[i].f64(), targets[i].f64(), i % p.classes as usize);
        weights[class].f64() * ((1.0 - y) * softplus(x) + positive[class].f64() * y * softplus(-x))
    });
}, grid |_| Grid::new([p.parts(), 1, 1], Grid::THREADS));

kernel!(BCE_BWD = "bce_with_logits_bwd", |p: Mean, [logits, targets, weights, positive, g] -> [glogits]| {
    p.gradients(g[0], glogits, |i| {
        let (x, y, class) = (logits[i].f64(), targets[i].f64(), i % p.classes as usize);
        weights[class].f64() * ((1.0 - y) * sigmoid(x) - positive[class].f64() * y * sigmoid(-x))
    });
}, grid |_| Grid::threads(p.len as usize));

/// A loss of one number given another.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Distance {
    Squared,
    Absolute,
    /// Squared up to this distance, absolute beyond.
    Huber(f32),
}

impl Distance {
    fn parameters(self, len: usize) -> Mean {
        let (distance, delta) = match self {
            Distance::Squared => (0, 0.0),
            Distance::Absolute => (1, 0.0),
            Distance::Huber(delta) => (2, delta),
        };
        Mean { len: len as i64, classes: 1, distance, delta, unused: 0 }
    }

    fn of(p: &Mean) -> Distance {
        match p.distance {
            0 => Distance::Squared,
            1 => Distance::Absolute,
            _ => Distance::Huber(p.delta),
        }
    }

    fn f(self, d: f64) -> f64 {
        match self {
            Distance::Squared => d * d,
            Distance::Absolute => d.abs(),
            Distance::Huber(delta) if d.abs() <= f64::from(delta) => 0.5 * d * d,
            Distance::Huber(delta) => f64::from(delta) * (d.abs() - 0.5 * f64::from(delta)),
        }
    }

    fn df(self, d: f64) -> f64 {
        let sign = if d == 0.0 { 0.0 } else { d.signum() };
        match self {
            Distance::Squared => 2.0 * d,
            Distance::Absolute => sign,
            Distance::Huber(delta) if d.abs() <= f64::from(delta) => d,
            Distance::Huber(delta) => f64::from(delta) * sign,
        }
    }
}

kernel!(DISTANCE_FWD = "distance_fwd", |p: Mean, [x, targets] -> [partials]| {
    let distance = Distance::of(p);
    p.sums(partials, |i| distance.f(x[i].f64() - targets[i].f64()));
}, grid |_| Grid::new([p.parts(), 1, 1], Grid::THREADS));

kernel!(DISTANCE_BWD = "distance_bwd", |p: Mean, [x, targets, g] -> [gx]| {
    let distance = Distance::of(p);
    p.gradients(g[0], gx, |i| distance.df(x[i].f64() - targets[i].f64()));
}, grid |_| Grid::threads(p.len as usize));

/// The mean of a loss over the elements of x, and its gradient.
fn mean(op: &'static str, p: Mean, [fwd, bwd]: [&'static Kernel; 2], x: &Tensor, others: &[&Tensor]) -> Tensor {
    let partials = x.empty_wide(&[p.parts()], op);
    let ins: Vec<&Tensor> = std::iter::once(x).chain(others.iter().copied()).collect();
    launch(fwd, &p, &ins, &[&partials]);
    let loss = if p.parts() == 1 { partials } else { x.empty_wide(&[1], op) };
    if p.parts() > 1 {
        launch(&SUM, &(p.parts() as i64), &[&partials], &[&loss]);
    }
    let saved: Vec<Tensor> = ins.into_iter().cloned().collect();
    loss.record(op, &[x], move |g| {
        let gx = saved[0].like(op);
        launch(bwd, &p, &saved.iter().chain([&g]).collect::<Vec<_>>(), &[&gx]);
        vec![Some(gx)]
    })
}
