//! CPU bodies of the depthwise convolution: the shape is a [`Conv`] with `k == c`, weights are `[c, r, s]`.

use crate::{
    device::{Real, cpu::parallel::pieces},
    ops::conv::{
        Conv,
        cpu::{Dims, MOMENT_BLOCK, blocks_with_moments},
    },
};

/// Weights `[c, r·s]` as `[r·s, c]`, so that a tap's weights are a row.
fn taps_first<T: Real>(w: &[T], c: usize) -> Vec<T> {
    let taps = w.len() / c;
    (0..w.len()).map(|i| w[i % c * taps + i / c]).collect()
}

/// y += a·x, element by element.
#[inline(always)]
fn add_product<T: Real>(y: &mut [T], a: &[T], x: &[T]) {
    for ((y, &a), &x) in y.iter_mut().zip(a).zip(x) {
        *y += a * x;
    }
}

/// `y[n, oy, ox, c] = Σ x[n, oy·stride + r − pad, ox·stride + s − pad, c] · w[c, r, s]`; `moments` as in
/// [`conv2d_fwd`](crate::ops::conv::cpu::conv2d_fwd).
pub fn depthwise_fwd<T: Real>(p: &Conv, x: &[T], w: &[T], y: &mut [T], moments: Option<&mut [T]>) {
    let d = Dims::of(p);
    let w = taps_first(w, d.c);
    blocks_with_moments(d.c, y, moments, |first, y| {
        for (i, y) in y.chunks_exact_mut(d.c).enumerate() {
            y.fill(T::ZERO);
            let (pixel, n) = ((first + i) % (d.oh * d.ow), (first + i) / (d.oh * d.ow));
            for tap in 0..d.r * d.s {
                let Some(at) = d.input(n, (pixel / d.ow, pixel % d.ow), (tap / d.s, tap % d.s)) else { continue };
                add_product(y, &w[tap * d.c..][..d.c], &x[at * d.c..][..d.c]);
            }
        }
    });
}

/// Gradient of the input: `gx[n, iy, ix, c] = Σ gy[n, oy, ox, c] · w[c, r, s]` over the outputs that read it.
pub fn depthwise_dgrad<T: Real>(p: &Conv, gy: &[T], w: &[T], gx: &mut [T]) {
    let d = Dims::of(p);
    let w = taps_first(w, d.c);
    pieces(gx, MOMENT_BLOCK * d.c, |piece, gx| {
        for (i, gx) in gx.chunks_exact_mut(d.c).enumerate() {
            gx.fill(T::ZERO);
            let (pixel, n) = ((piece * MOMENT_BLOCK + i) % (d.h * d.w), (piece * MOMENT_BLOCK + i) / (d.h * d.w));
            for tap in 0..d.r * d.s {
                let Some(at) = d.output(n, (pixel / d.w, pixel % d.w), (tap / d.s, tap % d.s)) else { continue };
                add_product(gx, &w[tap * d.c..][..d.c], &gy[at * d.c..][..d.c]);
            }
        }
    });
}

/// Gradient of the weights: `gw[c, r, s] = Σ gy[n, oy, ox, c] · x[n, oy·stride + r − pad, ox·stride + s − pad, c]`.
pub fn depthwise_wgrad<T: Real>(p: &Conv, x: &[T], gy: &[T], gw: &mut [T]) {
    let d = Dims::of(p);
    let taps = d.r * d.s;
    let mut sums = vec![T::ZERO; gw.len()];
    pieces(&mut sums, d.c, |tap, sums| {
        for (pixel, gy) in gy.chunks_exact(d.c).enumerate() {
            let (at, n) = (pixel % (d.oh * d.ow), pixel / (d.oh * d.ow));
            let Some(at) = d.input(n, (at / d.ow, at % d.ow), (tap / d.s, tap % d.s)) else { continue };
            add_product(sums, gy, &x[at * d.c..][..d.c]);
        }
    });
    for (i, gw) in gw.iter_mut().enumerate() {
        *gw = sums[i % taps * d.c + i / taps];
    }
}
