//! CPU bodies of the convolution.

use super::Conv;
use crate::device::{
    Real,
    cpu::parallel::{pieces, pieces2},
};

/// Output pixels whose moments are taken together, while they are hot in cache: two 7×7 maps, so that maps of 7·2ⁱ divide.
pub const MOMENT_BLOCK: usize = 98;

/// The same shape in `usize`.
#[derive(Clone, Copy)]
pub(crate) struct Dims {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub k: usize,
    pub r: usize,
    pub s: usize,
    pub oh: usize,
    pub ow: usize,
    pub stride_h: usize,
    pub stride_w: usize,
    pub pad_h: usize,
    pub pad_w: usize,
}

impl Dims {
    pub fn of(p: &Conv) -> Self {
        let u = |v: i32| usize::try_from(v).expect("conv: a negative size");
        Self {
            n: u(p.n),
            h: u(p.h),
            w: u(p.w),
            c: u(p.c),
            k: u(p.k),
            r: u(p.r),
            s: u(p.s),
            oh: u(p.oh),
            ow: u(p.ow),
            stride_h: u(p.stride_h),
            stride_w: u(p.stride_w),
            pad_h: u(p.pad_h),
            pad_w: u(p.pad_w),
        }
    }

    /// Input pixel read by output row `oy`, column `ox` at tap `(r, s)` of image `n`; none outside the image.
    #[inline(always)]
    pub fn input(&self, n: usize, (oy, ox): (usize, usize), (r, s): (usize, usize)) -> Option<usize> {
        let y = (oy * self.stride_h + r).wrapping_sub(self.pad_h);
        let x = (ox * self.stride_w + s).wrapping_sub(self.pad_w);
        (y < self.h && x < self.w).then(|| (n * self.h + y) * self.w + x)
    }

    /// Output pixel that reads input row `iy`, column `ix` at tap `(r, s)` of image `n`; none if there is no such pixel.
    #[inline(always)]
    pub fn output(&self, n: usize, (iy, ix): (usize, usize), (r, s): (usize, usize)) -> Option<usize> {
        let (y, x) = ((iy + self.pad_h).wrapping_sub(r), (ix + self.pad_w).wrapping_sub(s));
        let inside = y / self.stride_h < self.oh && x / self.stride_w < self.ow;
        (inside && y % self.stride_h == 0 && x % self.stride_w == 0)
            .then(|| (n * self.oh + y / self.stride_h) * self.ow + x / self.stride_w)
    }
}

/// Mean and sum of squared deviations of each channel of `x` `[m, c]`, in blocks of `MOMENT_BLOCK` pixels:
/// `moments` is `[ceil(m / MOMENT_BLOCK), 2, c]`.
pub fn channel_moments<T: Real>(c: usize, x: &[T], moments: &mut [T]) {
    pieces(moments, 2 * c, |block, out| {
        let start = block * MOMENT_BLOCK * c;
        block_moments(c, &x[start..(start + MOMENT_BLOCK * c).min(x.len())], out);
    });
}

/// The moments `[2, c]` of one block of pixels `[m, c]`: mean, then sum of squared deviations from it.
pub(crate) fn block_moments<T: Real>(c: usize, x: &[T], out: &mut [T]) {
    out.fill(T::ZERO);
    let (mean, m2) = out.split_at_mut(c);
    for x in x.chunks_exact(c) {
        for (a, &x) in mean.iter_mut().zip(x) {
            *a += x;
        }
    }
    let scale = T::ONE / T::of((x.len() / c) as f64);
    for a in mean.iter_mut() {
        *a = *a * scale;
    }
    for x in x.chunks_exact(c) {
        for ((a, &x), &mean) in m2.iter_mut().zip(x).zip(&*mean) {
            *a += (x - mean) * (x - mean);
        }
    }
}

/// Writes y in pieces of `MOMENT_BLOCK` pixels of `k` channels through `body(first pixel, piece)`; takes the moments of
/// each piece, if they are wanted, as soon as it is written.
pub(crate) fn blocks_with_moments<T: Real>(
    k: usize,
    y: &mut [T],
    moments: Option<&mut [T]>,
    body: impl Fn(usize, &mut [T]) + Sync,
) {
    let len = MOMENT_BLOCK * k;
    match moments {
        None => pieces(y, len, |i, y| body(i * MOMENT_BLOCK, y)),
        Some(moments) => pieces2((y, len), (moments, 2 * k), |i, y, moments| {
            body(i * MOMENT_BLOCK, y);
            block_moments(k, y, moments);
        }),
    }
}

/// y += a·x.
#[inline(always)]
fn add_scaled<T: Real>(y: &mut [T], a: T, x: &[T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

/// y = x ∗ w: `y[n, oy, ox, k] = Σ x[n, oy·stride + r − pad, ox·stride + s − pad, c] · w[k, r, s, c]`; `moments`, if wanted,
/// receives those of y as [`channel_moments`] would compute them.
pub fn conv2d_fwd<T: Real>(p: &Conv, x: &[T], w: &[T], y: &mut [T], moments: Option<&mut [T]>) {
    let d = Dims::of(p);
    let depth = d.r * d.s * d.c;
    let mut transposed = vec![T::ZERO; w.len()];
    for (k, w) in w.chunks_exact(depth).enumerate() {
        for (i, &w) in w.iter().enumerate() {
            transposed[i * d.k + k] = w;
        }
    }
    blocks_with_moments(d.k, y, moments, |first, y| {
        for (i, y) in y.chunks_exact_mut(d.k).enumerate() {
            y.fill(T::ZERO);
            let (pixel, n) = ((first + i) % (d.oh * d.ow), (first + i) / (d.oh * d.ow));
            for tap in 0..d.r * d.s {
                let Some(at) = d.input(n, (pixel / d.ow, pixel % d.ow), (tap / d.s, tap % d.s)) else { continue };
                for (c, &x) in x[at * d.c..][..d.c].iter().enumerate() {
                    add_scaled(y, x, &transposed[(tap * d.c + c) * d.k..][..d.k]);
                }
            }
        }
    });
}

/// Gradient of the input: `gx[n, iy, ix, c] = Σ gy[n, oy, ox, k] · w[k, r, s, c]` over the outputs that read it.
pub fn conv2d_dgrad<T: Real>(p: &Conv, gy: &[T], w: &[T], gx: &mut [T]) {
    let d = Dims::of(p);
    let depth = d.r * d.s * d.c;
    pieces(gx, MOMENT_BLOCK * d.c, |piece, gx| {
        for (i, gx) in gx.chunks_exact_mut(d.c).enumerate() {
            gx.fill(T::ZERO);
            let (pixel, n) = ((piece * MOMENT_BLOCK + i) % (d.h * d.w), (piece * MOMENT_BLOCK + i) / (d.h * d.w));
            for tap in 0..d.r * d.s {
                let Some(at) = d.output(n, (pixel / d.w, pixel % d.w), (tap / d.s, tap % d.s)) else { continue };
                for (k, &g) in gy[at * d.k..][..d.k].iter().enumerate() {
                    add_scaled(gx, g, &w[k * depth + tap * d.c..][..d.c]);
                }
            }
        }
    });
}

/// Gradient of the weights: `gw[k, r, s, c] = Σ gy[n, oy, ox, k] · x[n, oy·stride + r − pad, ox·stride + s − pad, c]`.
pub fn conv2d_wgrad<T: Real>(p: &Conv, x: &[T], gy: &[T], gw: &mut [T]) {
    let d = Dims::of(p);
    pieces(gw, d.r * d.s * d.c, |k, gw| {
        gw.fill(T::ZERO);
        for pixel in 0..d.n * d.oh * d.ow {
            let (at, n) = (pixel % (d.oh * d.ow), pixel / (d.oh * d.ow));
            let g = gy[pixel * d.k + k];
            for (tap, gw) in gw.chunks_exact_mut(d.c).enumerate() {
                let Some(at) = d.input(n, (at / d.ow, at % d.ow), (tap / d.s, tap % d.s)) else { continue };
                add_scaled(gw, g, &x[at * d.c..][..d.c]);
            }
        }
    });
}
