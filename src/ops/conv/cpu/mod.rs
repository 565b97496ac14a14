//! CPU bodies of the convolution.

mod forward;
mod gather;
mod gradients;
mod pack;

use super::Conv;
use crate::device::{
    Real,
    cpu::{
        block::Block,
        parallel::{pieces, pieces2},
    },
};
pub use forward::conv2d_fwd;
pub use gradients::{conv2d_dgrad, conv2d_wgrad};

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
}

/// Mean and sum of squared deviations of each channel of `x` `[m, c]`, in blocks of `MOMENT_BLOCK` pixels:
/// `moments` is `[ceil(m / MOMENT_BLOCK), 2, c]`.
pub fn channel_moments<T: Real>(c: usize, x: &[T], moments: &mut [T]) {
    pieces(moments, 2 * c, |block, out| {
        let start = block * MOMENT_BLOCK * c;
        let x = &x[start..(start + MOMENT_BLOCK * c).min(x.len())];
        block_moments((x.len() / c, c), |i| &x[i * c..][..c], &mut Block::whole(out, c));
    });
}

/// The moments `[2, c]` of one block of pixels, `pixels` rows of `c` channels: mean, then sum of squared deviations from it.
#[inline(always)]
pub(crate) fn block_moments<'a, T: Real>(
    (pixels, c): (usize, usize),
    row: impl Fn(usize) -> &'a [T],
    out: &mut Block<T>,
) {
    /// Channels whose sums stay in registers.
    const CHANNELS: usize = 32;
    let scale = T::ONE / T::of(pixels as f64);
    for start in (0..c).step_by(CHANNELS) {
        let channels = start..c.min(start + CHANNELS);
        let (mut mean, mut m2) = ([T::ZERO; CHANNELS], [T::ZERO; CHANNELS]);
        for i in 0..pixels {
            for (sum, &x) in mean.iter_mut().zip(&row(i)[channels.clone()]) {
                *sum += x;
            }
        }
        mean.iter_mut().for_each(|mean| *mean = *mean * scale);
        for i in 0..pixels {
            for ((sum, &mean), &x) in m2.iter_mut().zip(&mean).zip(&row(i)[channels.clone()]) {
                *sum += (x - mean) * (x - mean);
            }
        }
        out.row_mut(0)[channels.clone()].copy_from_slice(&mean[..channels.len()]);
        out.row_mut(1)[channels.clone()].copy_from_slice(&m2[..channels.len()]);
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
            block_moments((y.len() / k, k), |i| &y[i * k..][..k], &mut Block::whole(moments, k));
        }),
    }
}
