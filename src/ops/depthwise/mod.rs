//! Depthwise convolution: each channel with its own filter. Weights are C·R·S.

pub mod cpu;

use super::{
    Case, Spec,
    conv::{Conv, Kernels, convolve},
};
use crate::{
    device::{DType, Grid, cuda::PARTIAL_ROWS},
    kernel,
    shape::{Window, nhwc},
    tensor::Tensor,
};

/// Neighbouring pixels that a thread makes at a time; `COLS` in `kernels/depthwise.cu` must agree.
const COLS: usize = 4;
/// Tiles of `COLS` pixels of gx that a CUDA block makes; `DGRAD_TILES` in `kernels/depthwise.cu` must agree.
const DGRAD_TILES: usize = 64;
/// Blocks that fill a large GPU twice over. A constant, so that results do not depend on the GPU.
const WGRAD_BLOCKS: usize = 264;
/// Tiles of `COLS` pixels that a part of the weights' gradient has at least: fewer cost more to combine than they gain.
const WGRAD_TILES: usize = 64;

/// The grid of the kernels that keep the taps of a block's channels in shared memory.
fn staged(p: &Conv, blocks: usize, dtype: DType) -> Grid {
    let grid = Grid::channels(blocks, p.c as usize, dtype);
    Grid { shared: p.r as usize * p.s as usize * Grid::SPAN, ..grid }
}

fn fwd_grid(p: &Conv, dtype: DType) -> Grid {
    let [n, oh, ow, _] = p.output();
    staged(p, (n * oh * ow).div_ceil(PARTIAL_ROWS), dtype)
}

fn dgrad_grid(p: &Conv, dtype: DType) -> Grid {
    let tiles = p.n as usize * p.h as usize * (p.w as usize + p.pad_w as usize).div_ceil(COLS);
    staged(p, tiles.div_ceil(DGRAD_TILES), dtype)
}

/// Parts of the weights' gradient that are summed apart.
fn wgrad_parts(p: &Conv, dtype: DType) -> usize {
    let [n, oh, ow, c] = p.output();
    let [_, spans, _] = Grid::channels(1, c, dtype).blocks;
    (WGRAD_BLOCKS / spans).min((n * oh * ow.div_ceil(COLS)).div_ceil(WGRAD_TILES)).max(1)
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
}, grid |dtype| Grid::channels(wgrad_parts(p, dtype), p.c as usize, dtype), macs macs(p));

static KERNELS: Kernels = Kernels { fwd: &FWD, moments_fwd: &MOMENTS_FWD, dgrad: &DGRAD, wgrad: &WGRAD, wgrad_parts };

/// x `[n, h, w, c]` ∗ w `[c, r, s]`, channel by channel.
#[track_caller]
pub fn depthwise(x: &Tensor, w: &Tensor, window: Window) -> Tensor {
    depthwise_with_moments(x, w, window, false).0
}

/// The convolution and, if wanted, the moments of its result per block of pixels.
#[track_caller]
pub(crate) fn depthwise_with_moments(x: &Tensor, w: &Tensor, window: Window, wanted: bool) -> (Tensor, Option<Tensor>) {
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
            case(label, x, window).real(2 * macs(&Conv::new(x, c, window, label)))
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
            case("3x3, no padding", [1, 4, 7, 4], square(3, 1, 0)),
            case("7x3 s1x3", [1, 9, 8, 8], Window { kernel: (7, 3), stride: (1, 3), pad: (3, 1) }),
            real("3x3 s2 72 @56", 56, 72, square(3, 2, 1)),
            real("3x3 88 @28", 28, 88, square(3, 1, 1)),
            real("5x5 240 @14", 14, 240, square(5, 1, 2)),
            real("5x5 576 @7", 7, 576, square(5, 1, 2)),
        ]
    },
};
