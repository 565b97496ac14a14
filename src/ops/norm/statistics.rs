//! The statistics that channels are normalised by: μ and r = 1/√(σ² + ε), from the moments of the batch's parts or the
//! running ones.

use super::{BatchNorm, Norm, Statistics, combine};
use crate::{
    device::{Grid, Real},
    kernel,
    ops::conv::{self, Moments},
    shape::int,
    tensor::{Tensor, launch},
};
use std::ops::Range;

/// Parts whose moments one thread makes those of one part; `kernels/norm.cu` must agree.
const MERGED: usize = 32;
/// Parts of which more are merged first: those that a block of the combining kernel reads in two rounds.
const MERGE_BEYOND: usize = 1024;

kernel!(MOMENTS = "channel_moments", |p: Norm, [y] -> [moments]| {
    conv::cpu::channel_moments(p.c as usize, y, moments);
}, grid |dtype| Grid::channels(p.parts(), p.c as usize, dtype));

kernel!(MERGE_MOMENTS = "bn_merge_moments", |p: Norm, [moments] -> [merged]| {
    let c = p.c as usize;
    for (block, merged) in merged.chunks_exact_mut(2 * c).enumerate() {
        for i in 0..c {
            let (_, mu, m2) = total(p, moments, i, block * MERGED..p.parts().min((block + 1) * MERGED));
            (merged[i], merged[c + i]) = (T::of(mu), T::of(m2));
        }
    }
}, grid |_| Grid::threads(p.parts().div_ceil(MERGED) * p.c as usize));

kernel!(BATCH_STATS = "bn_batch_stats", |p: Norm, [moments] -> [stats, running_mean, running_var]| {
    let c = p.c as usize;
    let (mean, rstd) = stats.split_at_mut(c);
    for i in 0..c {
        let (count, mu, m2) = total(p, moments, i, 0..p.parts());
        mean[i] = T::of(mu);
        rstd[i] = T::of(1.0 / (m2 / count + p.eps).sqrt());
        let unbiased = m2 / (count - 1.0).max(1.0);
        running_mean[i] = T::of(running_mean[i].f64() * (1.0 - p.momentum) + mu * p.momentum);
        running_var[i] = T::of(running_var[i].f64() * (1.0 - p.momentum) + unbiased * p.momentum);
    }
}, grid |_| combine(p.c as usize));

kernel!(RUNNING_STATS = "bn_running_stats", |p: Norm, [running_mean, running_var] -> [stats]| {
    let (mean, rstd) = stats.split_at_mut(p.c as usize);
    mean.copy_from_slice(running_mean);
    for (rstd, var) in rstd.iter_mut().zip(running_var) {
        *rstd = T::of(1.0 / (var.f64() + p.eps).sqrt());
    }
}, grid |_| Grid::threads(p.c as usize));

/// Pixels of some parts, and the mean and sum of squared deviations of channel `i` over them.
fn total<T: Real>(p: &Norm, moments: &[T], i: usize, parts: Range<usize>) -> (f64, f64, f64) {
    let (width, rows) = (p.width as usize, p.moment_rows as usize);
    // Chan, Golub and LeVeque 1983: the moments of two parts give those of the whole without cancellation.
    let (mut count, mut mu, mut m2) = (0.0, 0.0, 0.0);
    for part in parts {
        let moments = &moments[part * 2 * width..];
        let part_count = rows.min(p.m as usize - part * rows) as f64;
        let delta = moments[i].f64() - mu;
        let sum = count + part_count;
        mu += delta * part_count / sum;
        m2 += moments[width + i].f64() + delta * delta * count * part_count / sum;
        count = sum;
    }
    (count, mu, m2)
}

/// The moments of each channel of y `[…, c]`.
pub(in crate::ops) fn channel_moments(y: &Tensor) -> Moments {
    let p = Norm::of(y);
    let parts = y.empty_wide(&[p.parts(), 2, p.c as usize], "batch_norm");
    launch(&MOMENTS, &p, &[y], &[&parts]);
    Moments { parts, rows: p.moment_rows as usize }
}

/// The moments of fewer and larger parts, of the channels that are normalised, if there are many.
fn merged(parts: Tensor, p: Norm) -> (Tensor, Norm) {
    if p.parts() <= MERGE_BEYOND {
        return (parts, p);
    }
    let merged = parts.empty(&[p.parts().div_ceil(MERGED), 2, p.c as usize], "batch_norm");
    launch(&MERGE_MOMENTS, &p, &[&parts], &[&merged]);
    (merged, Norm { moment_rows: p.moment_rows * int(MERGED), width: p.c, ..p })
}

/// μ and r `[2, c]` of the first channels of y, which `bn` is over; `moments` are those of all, if they are known already.
pub(super) fn of(y: &Tensor, moments: Option<Moments>, bn: &BatchNorm, p: Norm) -> Tensor {
    let stats = y.empty_wide(&[2, p.c as usize], "batch_norm");
    match bn.statistics {
        Statistics::Batch => {
            let moments = moments.unwrap_or_else(|| channel_moments(y));
            let (parts, p) = merged(moments.parts, Norm { moment_rows: int(moments.rows), ..p });
            launch(&BATCH_STATS, &p, &[&parts], &[&stats, &bn.running_mean, &bn.running_var]);
        }
        Statistics::Running => launch(&RUNNING_STATS, &p, &[&bn.running_mean, &bn.running_var], &[&stats]),
    }
    stats
}
