//! CPU bodies of the depthwise convolution: the shape is a [`Conv`] with `k == c`, weights are `[c, r, s]`. Memory bounds
//! them: channels are the vectors, and sums stay in registers over the taps of a window (over pixels for the weights).

use crate::{
    device::{
        Real,
        cpu::{
            MOMENT_ROWS,
            block::{Block, Cut, blocks},
            lanes::{lanes, load, store},
            parallel::pieces,
            scratch,
        },
    },
    ops::conv::{
        Conv,
        cpu::{Dims, moments::blocks_with_moments},
    },
};
use pulp::{Arch, Simd, WithSimd};
use std::array;

/// What one output coordinate reads along one axis: source coordinates `start..start + count`, where the first one meets
/// tap `tap` and each next one tap + `step` of the axis.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Reach {
    start: usize,
    count: usize,
    tap: isize,
}

/// All output coordinates of one axis.
struct Axis {
    reaches: Vec<Reach>,
    /// From the tap of one source coordinate to that of the next.
    tap_step: isize,
    /// Output coordinates between two that meet the same taps.
    period: usize,
}

impl Axis {
    /// The forward convolution from `input` to `output` coordinates.
    fn forward(input: usize, output: usize, kernel: usize, stride: usize, pad: usize) -> Self {
        let reach = |o: usize| {
            let origin = (o * stride) as isize - pad as isize;
            let clip = |i: isize| i.clamp(0, input as isize);
            let (start, end) = (clip(origin), clip(origin + kernel as isize));
            Reach { start: start as usize, count: (end - start) as usize, tap: start - origin }
        };
        Self { reaches: (0..output).map(reach).collect(), tap_step: 1, period: 1 }
    }

    /// The gradient of the input, which reads `output` coordinates, those of later taps first.
    fn backward(input: usize, output: usize, kernel: usize, stride: usize, pad: usize) -> Self {
        let reach = |i: usize| {
            let (last, phase) = ((i + pad) / stride, (i + pad) % stride);
            let taps = kernel.saturating_sub(phase).div_ceil(stride);
            let end = (last + 1).min(output);
            let start = (last + 1).saturating_sub(taps).min(end);
            let tap = phase as isize + (last as isize - start as isize) * stride as isize;
            Reach { start, count: end - start, tap }
        };
        Self { reaches: (0..input).map(reach).collect(), tap_step: -(stride as isize), period: stride }
    }
}

/// Sums of windows: output pixel (y, x) is Σ source(i, j) · weights(tap of i, tap of j) over the reaches of y and x.
struct Windows<'a, T> {
    source: &'a [T],
    h: usize,
    w: usize,
    c: usize,
    /// `[r, s, c]`.
    weights: &'a [T],
    s: usize,
    rows: &'a Axis,
    cols: &'a Axis,
}

/// Where the vector from channel `c` of `channels` begins: a last one that would not be whole begins earlier, and makes some
/// channels once more.
#[inline(always)]
fn whole_from<T: Real, S: Simd>(c: usize, channels: usize) -> usize {
    c.min(channels.saturating_sub(lanes::<T, S>()))
}

/// Neighbouring pixels that share the weights of a tap.
const PIXELS: usize = 2;

/// The windows of the output pixels from `first` on, into `out` `[pixels, c]`.
struct Sum<'a, T> {
    windows: &'a Windows<'a, T>,
    first: usize,
    out: &'a mut [T],
}

impl<T: Real> WithSimd for Sum<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Sum { windows, first, out } = self;
        let (height, width) = (windows.rows.reaches.len(), windows.cols.reaches.len());
        let (mut at, end) = (first, first + out.len() / windows.c);
        while at < end {
            let (n, y, x) = (at / (height * width), at / width % height, at % width);
            let len = (width - x).min(end - at);
            let out = &mut out[(at - first) * windows.c..][..len * windows.c];
            windows.row(simd, n, windows.rows.reaches[y], x, out);
            at += len;
        }
    }
}

impl<T: Real> Windows<'_, T> {
    /// Part of an output row: its pixels from column `first` on.
    #[inline(always)]
    fn row<S: Simd>(&self, simd: S, n: usize, rows: Reach, first: usize, out: &mut [T]) {
        let (reaches, period) = (&self.cols.reaches[first..], self.cols.period);
        let len = out.len() / self.c;
        for phase in 0..period.min(len) {
            let mut x = phase;
            while x < len {
                let next = x + period;
                let pair = next < len && (reaches[next].count, reaches[next].tap) == (reaches[x].count, reaches[x].tap);
                let mut c = 0;
                while c < self.c {
                    c = whole_from::<T, S>(c, self.c);
                    let vectors = (self.c - c) / lanes::<T, S>();
                    macro_rules! pixels {
                        ($p:expr, $v:literal, $whole:literal) => {
                            self.pixels::<S, $p, $v, $whole>(simd, n, rows, reaches, (x, c), out)
                        };
                    }
                    c += match (pair, vectors) {
                        (true, 4..) => pixels!(PIXELS, 4, true),
                        (true, 3) => pixels!(PIXELS, 3, true),
                        (true, 2) => pixels!(PIXELS, 2, true),
                        (true, 1) => pixels!(PIXELS, 1, true),
                        (true, 0) => pixels!(PIXELS, 1, false),
                        (false, 4..) => pixels!(1, 4, true),
                        (false, 2..) => pixels!(1, 2, true),
                        (false, 1) => pixels!(1, 1, true),
                        (false, 0) => pixels!(1, 1, false),
                    };
                }
                x += if pair { PIXELS * period } else { period };
            }
        }
    }

    /// `P` pixels that meet the same taps, from column `x` on: `V` vectors of channels from `c` on, or the channels that
    /// are left if they do not fill a whole vector. Returns how many channels.
    #[inline(always)]
    fn pixels<S: Simd, const P: usize, const V: usize, const WHOLE: bool>(
        &self,
        simd: S,
        n: usize,
        rows: Reach,
        reaches: &[Reach],
        (x, c): (usize, usize),
        out: &mut [T],
    ) -> usize {
        let lanes = lanes::<T, S>();
        let channels = if WHOLE { V * lanes } else { self.c - c };
        let (cols, period) = (reaches[x], self.cols.period);
        let mut sums = [[T::splat(simd, T::ZERO); V]; P];
        let from: [usize; P] =
            array::from_fn(|p| ((n * self.h + rows.start) * self.w + reaches[x + p * period].start) * self.c + c);
        let tap_step = self.cols.tap_step * self.c as isize;
        for i in 0..rows.count {
            let tap = (rows.tap + i as isize * self.rows.tap_step) * self.s as isize + cols.tap;
            let mut weights_at = tap * self.c as isize + c as isize;
            let mut offset = i * self.w * self.c;
            for _ in 0..cols.count {
                let weights = &self.weights[weights_at as usize..][..channels];
                let weights: [_; V] = array::from_fn(|v| load(simd, &weights[v * lanes..]));
                for p in 0..P {
                    let source = &self.source[from[p] + offset..][..channels];
                    for v in 0..V {
                        sums[p][v] = T::mul_add(simd, load(simd, &source[v * lanes..]), weights[v], sums[p][v]);
                    }
                }
                weights_at += tap_step;
                offset += self.c;
            }
        }
        for p in 0..P {
            let out = &mut out[(x + p * period) * self.c + c..][..channels];
            for v in 0..V {
                store::<T, S>(&mut out[v * lanes..], sums[p][v]);
            }
        }
        channels
    }
}

/// Weights `[c, r·s]` as `[r·s, c]`, so that a tap's weights are a row.
fn taps_first<T: Real>(w: &[T], c: usize) -> Vec<T> {
    let taps = w.len() / c;
    (0..w.len()).map(|i| w[i % c * taps + i / c]).collect()
}

/// `y[n, oy, ox, c] = Σ x[n, oy·stride + r − pad, ox·stride + s − pad, c] · w[c, r, s]`; `moments` as in
/// [`conv2d_fwd`](crate::ops::conv::cpu::conv2d_fwd).
pub fn depthwise_fwd<T: Real>(p: &Conv, x: &[T], w: &[T], y: &mut [T], moments: Option<&mut [T]>) {
    let d = Dims::of(p);
    let rows = Axis::forward(d.h, d.oh, d.r, d.stride_h, d.pad_h);
    let cols = Axis::forward(d.w, d.ow, d.s, d.stride_w, d.pad_w);
    let weights = &taps_first(w, d.c);
    let windows = Windows { source: x, h: d.h, w: d.w, c: d.c, weights, s: d.s, rows: &rows, cols: &cols };
    blocks_with_moments(d.c, y, moments, |first, out| Arch::new().dispatch(Sum { windows: &windows, first, out }));
}

/// Gradient of the input: `gx[n, iy, ix, c] = Σ gy[n, oy, ox, c] · w[c, r, s]` over the outputs that read it.
pub fn depthwise_dgrad<T: Real>(p: &Conv, gy: &[T], w: &[T], gx: &mut [T]) {
    let d = Dims::of(p);
    let rows = Axis::backward(d.h, d.oh, d.r, d.stride_h, d.pad_h);
    let cols = Axis::backward(d.w, d.ow, d.s, d.stride_w, d.pad_w);
    let weights = &taps_first(w, d.c);
    let windows = Windows { source: gy, h: d.oh, w: d.ow, c: d.c, weights, s: d.s, rows: &rows, cols: &cols };
    // Whole rows, so that pixels of the same phase are found together.
    let step = MOMENT_ROWS.div_ceil(d.w) * d.w;
    pieces(gx, step * d.c, |i, out| Arch::new().dispatch(Sum { windows: &windows, first: i * step, out }));
}

/// Output pixels that a partial sum of the weight gradient covers at least, so that adding the partial sums costs little.
const PARTIAL_PIXELS: usize = 128;

/// Most partial sums of the weight gradient.
const PARTIALS: usize = 32;

/// Most channels of a piece of the weight gradient, and what their number is a multiple of, so that no piece but the last
/// is short of a vector's.
const PARTIAL_CHANNELS: usize = 80;
const WHOLE_CHANNELS: usize = 16;

/// Gradient of the weights: `gw[c, r, s] = Σ gy[n, oy, ox, c] · x[n, oy·stride + r − pad, ox·stride + s − pad, c]`, as
/// partial sums over fixed ranges of output rows that are added in their order.
pub fn depthwise_wgrad<T: Real>(p: &Conv, x: &[T], gy: &[T], gw: &mut [T]) {
    let d = Dims::of(p);
    let taps = d.r * d.s;
    let rows = (d.n * d.oh).div_ceil(PARTIALS).max(PARTIAL_PIXELS.div_ceil(d.ow));
    let partials = (d.n * d.oh).div_ceil(rows);
    scratch::with(partials * taps * d.c, |sums| {
        let cut = Cut { matrix: sums, rows: taps };
        let channels = d.c.div_ceil(d.c.div_ceil(PARTIAL_CHANNELS)).next_multiple_of(WHOLE_CHANNELS);
        blocks([cut], (d.c, channels), |i, j, [out]| {
            let rows = (i * rows, ((i + 1) * rows).min(d.n * d.oh));
            Arch::new().dispatch(Partial { d: &d, x, gy, rows, channel: j * channels, out });
        });
        for (i, gw) in gw.iter_mut().enumerate() {
            let (c, tap) = (i / taps, i % taps);
            *gw = sums[tap * d.c + c..].iter().step_by(taps * d.c).copied().sum();
        }
    });
}

/// The weight gradient of some channels, from `channel` on, over some output rows of all images: `out` is `[r·s, channels]`.
struct Partial<'a, 'b, T> {
    d: &'a Dims,
    x: &'a [T],
    gy: &'a [T],
    rows: (usize, usize),
    channel: usize,
    out: Block<'b, T>,
}

impl<T: Real> WithSimd for Partial<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut c = 0;
        while c < self.out.cols() {
            c = whole_from::<T, S>(c, self.out.cols());
            let whole = self.out.cols() - c >= lanes::<T, S>();
            macro_rules! all {
                ($m:literal, $n:literal, $stride:literal) => {
                    match whole {
                        true => self.all::<S, $m, $n, $stride, true>(simd, c),
                        false => self.all::<S, $m, $n, $stride, false>(simd, c),
                    }
                };
            }
            c += match (self.d.r, self.d.s, self.d.stride_w) {
                (3, 3, 1) => all!(3, 3, 1),
                (3, 3, 2) => all!(3, 3, 2),
                (_, 5, 1) => all!(1, 5, 1),
                (_, 5, 2) => all!(1, 5, 2),
                _ => all!(1, 1, 1),
            };
        }
    }
}

impl<T: Real> Partial<'_, '_, T> {
    /// All taps, `M` rows and `N` columns of them at a time, for a vector of channels from `c` on, or the channels that are
    /// left if they do not fill one. Returns how many channels.
    #[inline(always)]
    fn all<S: Simd, const M: usize, const N: usize, const STRIDE: usize, const WHOLE: bool>(
        &mut self,
        simd: S,
        c: usize,
    ) -> usize {
        for r in (0..self.d.r).step_by(M) {
            for s in (0..self.d.s).step_by(N) {
                self.taps::<S, M, N, STRIDE, WHOLE>(simd, (r, s), c);
            }
        }
        if WHOLE { lanes::<T, S>() } else { self.out.cols() - c }
    }

    /// The `M` × `N` taps from (r, s) on, for a vector of channels or fewer. What they read of the image slides over it:
    /// with `N > 1` the columns are `STRIDE` apart, and each is loaded once a row.
    #[inline(always)]
    fn taps<S: Simd, const M: usize, const N: usize, const STRIDE: usize, const WHOLE: bool>(
        &mut self,
        simd: S,
        (r, s): (usize, usize),
        c: usize,
    ) {
        let channels = if WHOLE { lanes::<T, S>() } else { self.out.cols() - c };
        let d = self.d;
        let channel = self.channel + c;
        let mut sums = [[T::splat(simd, T::ZERO); N]; M];
        for row in self.rows.0..self.rows.1 {
            let mut x_rows = [&self.x[..0]; M];
            for (m, x_row) in x_rows.iter_mut().enumerate() {
                let y = (row % d.oh * d.stride_h + r + m).wrapping_sub(d.pad_h);
                if y < d.h {
                    *x_row = &self.x[(row / d.oh * d.h + y) * d.w * d.c..][..d.w * d.c];
                }
            }
            let mut x = s.wrapping_sub(d.pad_w);
            let mut window = [[T::splat(simd, T::ZERO); N]; M];
            for (window, x_row) in window.iter_mut().zip(x_rows) {
                for (n, place) in window.iter_mut().skip(STRIDE).enumerate() {
                    *place = column(simd, x_row, x.wrapping_add(n), d.c, channel, channels);
                }
            }
            for gy in self.gy[row * d.ow * d.c..][..d.ow * d.c].chunks_exact(d.c) {
                let g = load(simd, &gy[channel..][..channels]);
                for m in 0..M {
                    for n in 0..N {
                        window[m][n] = match n + STRIDE < N {
                            true => window[m][n + STRIDE],
                            false => column(simd, x_rows[m], x.wrapping_add(n), d.c, channel, channels),
                        };
                        sums[m][n] = T::mul_add(simd, window[m][n], g, sums[m][n]);
                    }
                }
                x = x.wrapping_add(d.stride_w);
            }
        }
        for (m, sums) in sums.into_iter().enumerate() {
            for (n, sum) in sums.into_iter().enumerate() {
                store::<T, S>(&mut self.out.row_mut((r + m) * d.s + s + n)[c..][..channels], sum);
            }
        }
    }
}

/// `channels` elements from `channel` on of pixel `x` of a row of `c` channels; zero where the row has no such pixel, and `x`
/// may have wrapped below zero.
#[inline(always)]
fn column<T: Real, S: Simd>(simd: S, row: &[T], x: usize, c: usize, channel: usize, channels: usize) -> T::Vector<S> {
    let at = x.wrapping_mul(c).wrapping_add(channel);
    match row.get(at..at.wrapping_add(channels)) {
        Some(elements) => load(simd, elements),
        None => T::splat(simd, T::ZERO),
    }
}
