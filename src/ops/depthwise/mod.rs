//! Depthwise convolution: each channel with its own filter. Weights are C·R·S.

pub mod cpu;

use super::{
    Case, Spec,
    conv::{Conv, Kernels, Moments, convolve},
};
use crate::{
    device::{DType, Device, Grid},
    kernel,
    shape::{Window, nhwc},
    tensor::Tensor,
};

/// Threads of a CUDA block; `BLOCK` in `kernels/depthwise.cuh` must agree.
const THREADS: usize = 128;
/// Most columns of a tile, which a thread makes line by line.
const COLS: usize = 4;
/// Lines of a tile that a thread makes at least: the window reaches beyond them at both ends, and those lines are read twice.
const LINES: usize = 8;
/// Multiprocessors of a large GPU, an H100 or H200. A constant, as results depend on the numbers of blocks.
const MULTIPROCESSORS: usize = 132;
/// Blocks that fill it for some rounds, so that the last one costs little.
const BLOCKS: usize = 20 * MULTIPROCESSORS;
/// The same for the gradient of the weights, each block of which leaves a partial sum of them.
const WGRAD_BLOCKS: usize = 8 * MULTIPROCESSORS;

/// Channels of a thread, where c is a multiple of them; `CHANNELS` in `kernels/depthwise.cuh` must agree.
fn channels(dtype: DType) -> usize {
    if dtype.size() < 4 { 2 } else { 1 }
}

/// Blocks along x, so that there are up to `most` in all: each takes the same number of the `lines` lines of all images, of
/// `columns` columns.
fn bands(p: &Conv, dtype: DType, lines: usize, columns: usize, most: usize) -> usize {
    let c = p.c as usize;
    let [_, spans, _] = Grid::channels(1, c, dtype).blocks;
    let packs = if c.is_multiple_of(channels(dtype)) { c / channels(dtype) } else { c };
    let rows = THREADS / packs.div_ceil(spans);
    let least = (rows * LINES).div_ceil(columns.div_ceil(COLS));
    lines.div_ceil((lines * spans).div_ceil(most).max(least))
}

fn grid(p: &Conv, bands: usize, dtype: DType) -> Grid {
    Grid { threads: THREADS, ..Grid::channels(bands, p.c as usize, dtype) }
}

/// The grid of the kernels that keep the taps of a block's channels in shared memory.
fn staged(p: &Conv, bands: usize, dtype: DType) -> Grid {
    let tap = Grid::SPAN / dtype.size() * dtype.wide().size();
    Grid { shared: p.r as usize * p.s as usize * tap, ..grid(p, bands, dtype) }
}

fn fwd_bands(p: &Conv, dtype: DType) -> usize {
    let [n, oh, ow, _] = p.output();
    bands(p, dtype, n * oh, ow, BLOCKS)
}

fn fwd_grid(p: &Conv, dtype: DType) -> Grid {
    staged(p, fwd_bands(p, dtype), dtype)
}

/// A part of the moments is a band of lines on devices that take bands.
fn moment_rows(p: &Conv, dtype: DType, device: &dyn Device) -> usize {
    let [n, oh, ow, _] = p.output();
    if device.combines_parts() { (n * oh).div_ceil(fwd_bands(p, dtype)) * ow } else { device.moment_rows() }
}

fn dgrad_grid(p: &Conv, dtype: DType) -> Grid {
    let [n, h, w, pad_h, pad_w, stride] = [p.n, p.h, p.w, p.pad_h, p.pad_w, p.stride_h].map(|x| x as usize);
    staged(p, bands(p, dtype, n * (h + pad_h).div_ceil(stride), w + pad_w, BLOCKS), dtype)
}

/// Parts of the weights' gradient that are summed apart.
fn wgrad_parts(p: &Conv, dtype: DType) -> usize {
    let [n, oh, ow, _] = p.output();
    bands(p, dtype, n * oh, ow, WGRAD_BLOCKS)
}

/// As [`Conv::macs`], for one filter a channel.
fn macs(p: &Conv) -> u64 {
    p.macs() / p.c as u64
}

kernel!(FWD = "depthwise_fwd", |p: Conv, [x, w] -> [y]| {
    cpu::depthwise_fwd(p, x, w, y, None);
}, grid |dtype| fwd_grid(p, dtype), macs macs(p));
kernel!(MOMENTS_FWD = "depthwise_moments_fwd", |p: Conv, [x, w] -> [y, moments]| {
    cpu::depthwise_fwd(p, x, w, y, Some(moments));
}, grid |dtype| fwd_grid(p, dtype), macs macs(p));
kernel!(DGRAD = "depthwise_dgrad", |p: Conv, [gy, w] -> [gx]| {
    cpu::depthwise_dgrad(p, gy, w, gx);
}, grid |dtype| dgrad_grid(p, dtype), macs macs(p));
kernel!(WGRAD = "depthwise_wgrad", |p: Conv, [x, gy] -> [gw]| {
    cpu::depthwise_wgrad(p, x, gy, gw);
}, grid |dtype| grid(p, wgrad_parts(p, dtype), dtype), macs macs(p));

static KERNELS: Kernels = Kernels {
    fwd: &FWD,
    moments_fwd: &MOMENTS_FWD,
    dgrad: &DGRAD,
    dgrad_add: None,
    wgrad: &WGRAD,
    wgrad_parts,
    moment_rows,
};

/// x `[n, h, w, c]` ∗ w `[c, r, s]`, channel by channel.
#[track_caller]
pub fn depthwise(x: &Tensor, w: &Tensor, window: Window) -> Tensor {
    depthwise_with_moments(x, w, window, false).0
}

/// The convolution and, if wanted, the moments of its result per block of pixels.
#[track_caller]
pub(crate) fn depthwise_with_moments(
    x: &Tensor,
    w: &Tensor,
    window: Window,
    wanted: bool,
) -> (Tensor, Option<Moments>) {
    let x_shape = nhwc(x.shape(), "depthwise");
    let (r, s) = window.kernel;
    assert_eq!(w.shape(), [x_shape[3], r, s], "depthwise: weight for {:?}, {window:?}", x.shape());
    convolve(&KERNELS, x, w, Conv::new(x_shape, x_shape[3], window, "depthwise"), wanted)
}

/// Cases of [`depthwise`].
pub static DEPTHWISE: Spec = Spec {
    name: "depthwise",
    cases: || {
        let case = |label, x: [usize; 4], window: Window| {
            let (r, s) = window.kernel;
            Case::new(label, &[&x, &[x[3], r, s]], move |t| depthwise(&t[0], &t[1], window)).linear_in(&[0, 1])
        };
        let real = |label, size, c, window| {
            let x = [8, size, size, c];
            case(label, x, window).real()
        };
        let square = Window::square;
        vec![
            case("3x3", [2, 5, 4, 3], square(3, 1, 1)),
            case("3x3 s2, odd size", [1, 7, 5, 4], square(3, 2, 1)),
            case("5x5 s2", [1, 6, 7, 2], square(5, 2, 2)),
            case("5x5, 17 channels", [1, 5, 5, 17], square(5, 1, 2)),
            case("3x3, 8 channels", [2, 3, 9, 8], square(3, 1, 1)),
            case("3x3 s2, 8 channels", [1, 7, 10, 8], square(3, 2, 1)),
            case("5x5, 8 channels", [1, 4, 6, 8], square(5, 1, 2)),
            case("5x5 s2, 8 channels", [1, 6, 7, 8], square(5, 2, 2)),
            case("3x3 s2, wider than a block", [1, 3, 3, 72], square(3, 2, 1)),
            case("3x3, a sum in parts", [2, 16, 11, 1], square(3, 1, 1)),
            case("3x3, bands across images", [5, 7, 2, 64], square(3, 1, 1)),
            case("5x5 s2, bands across images", [6, 11, 1, 64], square(5, 2, 2)),
            case("3x3, no padding", [1, 4, 7, 4], square(3, 1, 0)),
            case("7x3 s1x3", [1, 9, 8, 8], Window { kernel: (7, 3), stride: (1, 3), pad: (3, 1) }),
            real("3x3 s2 72 @56", 56, 72, square(3, 2, 1)),
            real("3x3 88 @28", 28, 88, square(3, 1, 1)),
            real("5x5 240 @14", 14, 240, square(5, 1, 2)),
            real("5x5 576 @7", 7, 576, square(5, 1, 2)),
        ]
    },
};
