//! Batch normalisation on the CPU: the affine map of both passes, and the sums over pixels of the backward pass.

use crate::{
    device::{Real, cpu::block::Block},
    ops::activation::{Activation, Relu},
};
use std::marker::PhantomData;

/// The affine map of one channel row: u = (y − mean)·scale + bias.
#[derive(Clone, Copy)]
pub struct Affine<'a, T> {
    pub mean: &'a [T],
    rstd: &'a [T],
    weight: &'a [T],
    bias: &'a [T],
}

impl<'a, T: Real> Affine<'a, T> {
    #[inline(always)]
    pub fn new(stats: &'a [T], weight: &'a [T], bias: &'a [T]) -> Self {
        let c = weight.len();
        Affine { mean: &stats[..c], rstd: &stats[c..][..c], weight, bias: &bias[..c] }
    }

    #[inline(always)]
    pub fn u(&self, i: usize, y: T) -> T {
        (y - self.mean[i]) * self.rstd[i] * self.weight[i] + self.bias[i]
    }
}

/// gᵤ and gᵤ·ŷ of `S` channels from `channel` on in row `row` of an image.
pub trait Terms<T> {
    fn of<const S: usize>(&mut self, row: usize, channel: usize) -> [[T; S]; 2];
}

/// Neighbouring channels that are added up together: a register of them, or two.
const SPAN: usize = 8;
/// Rows whose terms are added to each other before they meet the sums, which wait in memory.
const ROWS: usize = 4;

/// The sums of the terms over `rows` rows, `[2, c]`.
#[inline(always)]
pub fn add_up<T: Real>(terms: &mut impl Terms<T>, rows: usize, sums: &mut [T]) {
    sums.fill(T::ZERO);
    let (sums, whole) = (&mut Block::whole(sums, sums.len() / 2), rows - rows % ROWS);
    for row in (0..whole).step_by(ROWS) {
        add_rows::<T, ROWS>(terms, row, sums);
    }
    for row in whole..rows {
        add_rows::<T, 1>(terms, row, sums);
    }
}

/// Adds the terms of `R` rows to the sums.
#[inline(always)]
fn add_rows<T: Real, const R: usize>(terms: &mut impl Terms<T>, row: usize, sums: &mut Block<T>) {
    let whole = sums.cols() - sums.cols() % SPAN;
    for channel in (0..whole).step_by(SPAN) {
        add_span::<T, R, SPAN>(terms, row, channel, sums);
    }
    for channel in whole..sums.cols() {
        add_span::<T, R, 1>(terms, row, channel, sums);
    }
}

/// Adds the terms of `R` rows and `S` channels to the sums.
#[inline(always)]
fn add_span<T: Real, const R: usize, const S: usize>(
    terms: &mut impl Terms<T>,
    row: usize,
    channel: usize,
    sums: &mut Block<T>,
) {
    let mut span = [[T::ZERO; S]; 2];
    for row in row..row + R {
        let terms = terms.of::<S>(row, channel);
        for i in 0..S {
            span[0][i] += terms[0][i];
            span[1][i] += terms[1][i];
        }
    }
    for (row, span) in span.iter().enumerate() {
        sums.row_mut(row)[channel..][..S].iter_mut().zip(span).for_each(|(sum, &term)| *sum += term);
    }
}

/// `S` elements from `at` on.
#[inline(always)]
fn span<T: Real, const S: usize>(from: &[T], at: usize) -> &[T; S] {
    from[at..].first_chunk().expect("a row holds its spans")
}

/// The terms of an activation's backward pass.
pub struct ActTerms<'a, T, A> {
    /// Rows of `width` channels, of which the first have terms.
    pub y: &'a [T],
    pub width: usize,
    pub gz: &'a [T],
    pub affine: Affine<'a, T>,
    pub act: PhantomData<A>,
}

impl<T: Real, A: Activation> Terms<T> for ActTerms<'_, T, A> {
    #[inline(always)]
    fn of<const S: usize>(&mut self, row: usize, channel: usize) -> [[T; S]; 2] {
        let Affine { mean, rstd, weight, bias } = self.affine;
        let (y, gz) = (self.y, self.gz);
        let (y, gz) = (span::<T, S>(y, row * self.width + channel), span::<T, S>(gz, row * weight.len() + channel));
        let (mean, rstd) = (span::<T, S>(mean, channel), span::<T, S>(rstd, channel));
        let (weight, bias) = (span::<T, S>(weight, channel), span::<T, S>(bias, channel));
        let mut terms = [[T::ZERO; S]; 2];
        for i in 0..S {
            let normal = (y[i] - mean[i]) * rstd[i];
            terms[0][i] = gz[i] * A::df(normal * weight[i] + bias[i]);
            terms[1][i] = terms[0][i] * normal;
        }
        terms
    }
}

/// The terms behind relu(u + residual), whose gradient gᵤ they leave in `gu`.
pub struct AddReluTerms<'a, T> {
    pub y: &'a [T],
    pub z: &'a [T],
    pub gz: &'a [T],
    pub gu: &'a mut [T],
    pub mean: &'a [T],
    pub rstd: &'a [T],
}

impl<T: Real> Terms<T> for AddReluTerms<'_, T> {
    #[inline(always)]
    fn of<const S: usize>(&mut self, row: usize, channel: usize) -> [[T; S]; 2] {
        let at = row * self.mean.len() + channel;
        let (y, z, gz) = (span::<T, S>(self.y, at), span::<T, S>(self.z, at), span::<T, S>(self.gz, at));
        let (mean, rstd) = (span::<T, S>(self.mean, channel), span::<T, S>(self.rstd, channel));
        let mut terms = [[T::ZERO; S]; 2];
        for i in 0..S {
            terms[0][i] = gz[i] * Relu::df(z[i]);
            terms[1][i] = terms[0][i] * (y[i] - mean[i]) * rstd[i];
        }
        self.gu[at..][..S].copy_from_slice(&terms[0]);
        terms
    }
}
