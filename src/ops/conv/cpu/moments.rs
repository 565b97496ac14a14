//! Batch-norm statistics, taken block by block while the block is hot in cache.

use crate::device::{
    Real,
    cpu::{
        MOMENT_ROWS,
        block::Block,
        lanes::{lanes, load, store},
        parallel::{pieces, pieces2},
    },
};
use pulp::{Arch, Simd, WithSimd};
use std::array;

/// Mean and sum of squared deviations of each channel of `x` `[m, c]`, in blocks of `MOMENT_ROWS` pixels:
/// `moments` is `[ceil(m / MOMENT_ROWS), 2, c]`.
pub fn channel_moments<T: Real>(c: usize, x: &[T], moments: &mut [T]) {
    pieces(moments, 2 * c, |block, out| {
        let start = block * MOMENT_ROWS * c;
        let x = &x[start..(start + MOMENT_ROWS * c).min(x.len())];
        block_moments((x.len() / c, c), |i| &x[i * c..][..c], &mut Block::whole(out, c));
    });
}

/// The moments `[2, c]` of one block of pixels, `pixels` rows of `c` channels: mean, then sum of squared deviations from it.
pub(crate) fn block_moments<'a, T: Real>(
    (pixels, c): (usize, usize),
    row: impl Fn(usize) -> &'a [T],
    out: &mut Block<T>,
) {
    Arch::new().dispatch(Moments { pixels, c, row, out });
}

struct Moments<'b, 'c, T, F> {
    pixels: usize,
    c: usize,
    row: F,
    out: &'b mut Block<'c, T>,
}

impl<'a, T: Real, F: Fn(usize) -> &'a [T]> WithSimd for Moments<'_, '_, T, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = lanes::<T, S>();
        let mut c = 0;
        while c < self.c {
            c += match (self.c - c) / lanes {
                4.. => self.channels::<S, 4, true>(simd, c),
                1.. => self.channels::<S, 1, true>(simd, c),
                0 => self.channels::<S, 1, false>(simd, c),
            };
        }
    }
}

impl<'a, T: Real, F: Fn(usize) -> &'a [T]> Moments<'_, '_, T, F> {
    /// `V` vectors of channels from `first` on, or the channels left if they do not fill a whole one; returns how many.
    #[inline(always)]
    fn channels<S: Simd, const V: usize, const WHOLE: bool>(&mut self, simd: S, first: usize) -> usize {
        let lanes = lanes::<T, S>();
        let channels = if WHOLE { V * lanes } else { self.c - first };
        let row = |i| -> [T::Vector<S>; V] {
            let row = &(self.row)(i)[first..][..channels];
            array::from_fn(|v| load(simd, &row[v * lanes..]))
        };
        let zero = T::splat(simd, T::ZERO);
        let mut sums = [zero; V];
        for i in 0..self.pixels {
            let row = row(i);
            sums = array::from_fn(|v| T::plus(simd, sums[v], row[v]));
        }
        let scale = T::splat(simd, -T::ONE / T::of(self.pixels as f64));
        let minus_mean: [_; V] = array::from_fn(|v| T::mul_add(simd, sums[v], scale, zero));
        let mut m2 = [zero; V];
        for i in 0..self.pixels {
            let row = row(i);
            m2 = array::from_fn(|v| {
                let deviation = T::plus(simd, row[v], minus_mean[v]);
                T::mul_add(simd, deviation, deviation, m2[v])
            });
        }
        let minus_one = T::splat(simd, -T::ONE);
        for v in 0..V {
            let out = first + v * lanes..first + channels.min((v + 1) * lanes);
            store::<T, S>(&mut self.out.row_mut(0)[out.clone()], T::mul_add(simd, minus_mean[v], minus_one, zero));
            store::<T, S>(&mut self.out.row_mut(1)[out], m2[v]);
        }
        channels
    }
}

/// Writes y in pieces of `MOMENT_ROWS` pixels of `k` channels through `body(first pixel, piece)`; takes the moments of
/// each piece, if they are wanted, as soon as it is written.
pub(crate) fn blocks_with_moments<T: Real>(
    k: usize,
    y: &mut [T],
    moments: Option<&mut [T]>,
    body: impl Fn(usize, &mut [T]) + Sync,
) {
    let len = MOMENT_ROWS * k;
    match moments {
        None => pieces(y, len, |i, y| body(i * MOMENT_ROWS, y)),
        Some(moments) => pieces2((y, len), (moments, 2 * k), |i, y, moments| {
            body(i * MOMENT_ROWS, y);
            block_moments((y.len() / k, k), |i| &y[i * k..][..k], &mut Block::whole(moments, k));
        }),
    }
}
