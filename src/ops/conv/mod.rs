//! 2-D convolution. Activations are NHWC, weights K·R·S·C; all three passes gather, so the bits do not depend on threads.

pub mod cpu;
pub(super) mod tiles;
pub mod transposed;

use super::{
    Case, Spec,
    elementwise::{add, scale},
    slice::pad_channels,
};
use crate::{
    device::{DType, Device, Grid, Kernel},
    kernel,
    shape::{Window, int, nhwc},
    tensor::{Tensor, launch},
};
use bytemuck::{Pod, Zeroable};

/// y `[n, oh, ow, k]` = x `[n, h, w, c]` ∗ w `[k, r, s, c]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[allow(missing_docs)]
pub struct Conv {
    pub n: i32,
    pub h: i32,
    pub w: i32,
    pub c: i32,
    pub k: i32,
    pub r: i32,
    pub s: i32,
    pub oh: i32,
    pub ow: i32,
    pub stride_h: i32,
    pub stride_w: i32,
    pub pad_h: i32,
    pub pad_w: i32,
}

impl Conv {
    /// The parameters of a convolution of an image `[n, h, w, c]` into `k` channels.
    #[track_caller]
    pub fn new(x: [usize; 4], k: usize, window: Window, op: &str) -> Conv {
        let (oh, ow) = window.positions(x[1], x[2], op);
        // The kernels count pixels in 32 bits.
        let _pixels = [x[1] * x[2], oh * ow].map(|pixels| int(x[0] * pixels));
        let [n, h, w, c] = x.map(int);
        let Window { kernel: (r, s), stride, pad } = window;
        assert!(
            r <= 32 && s <= 32,
            "{op}: a window of {r}x{s}, and kernels keep its lines and columns in bits of a word"
        );
        let [k, r, s, oh, ow] = [k, r, s, oh, ow].map(int);
        let [stride_h, stride_w, pad_h, pad_w] = [stride.0, stride.1, pad.0, pad.1].map(int);
        Conv { n, h, w, c, k, r, s, oh, ow, stride_h, stride_w, pad_h, pad_w }
    }

    /// Shape of the result.
    pub fn output(&self) -> [usize; 4] {
        [self.n, self.oh, self.ow, self.k].map(|x| x as usize)
    }

    /// Shape of the moments of the result per `rows` pixels, mean and squared deviations.
    pub fn moments(&self, rows: usize) -> [usize; 3] {
        let [n, oh, ow, k] = self.output();
        [(n * oh * ow).div_ceil(rows), 2, k]
    }

    /// Multiplications, each with its addition, of any of the three passes.
    pub fn macs(&self) -> u64 {
        [self.n, self.oh, self.ow, self.k, self.r, self.s, self.c].iter().map(|&x| x as u64).product()
    }
}

kernel!(FWD = "conv2d_fwd", |p: Conv, [x, w] -> [y]| {
    cpu::conv2d_fwd(p, x, w, y, None);
}, grid |dtype| p.fwd_grid(dtype), macs p.macs());
kernel!(MOMENTS_FWD = "conv2d_moments_fwd", |p: Conv, [x, w] -> [y, moments]| {
    cpu::conv2d_fwd(p, x, w, y, Some(moments));
}, grid |dtype| p.fwd_grid(dtype), macs p.macs());
kernel!(DGRAD = "conv2d_dgrad", |p: Conv, [gy, w] -> [gx]| {
    cpu::conv2d_dgrad(p, gy, w, gx);
}, grid |dtype| p.dgrad_grid(dtype), macs p.macs());
kernel!(DGRAD_ADD = "conv2d_dgrad_add", |p: Conv, [gy, w] -> [gx]| {
    cpu::conv2d_dgrad_add(p, gy, w, gx);
}, grid |dtype| p.dgrad_grid(dtype), macs p.macs());
kernel!(WGRAD = "conv2d_wgrad", |p: Conv, [x, gy] -> [gw]| {
    cpu::conv2d_wgrad(p, x, gy, gw);
}, grid |dtype| p.wgrad_grid(p.wgrad_parts(dtype), dtype), macs p.macs());

/// `parts` arrays of `len` elements.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Parts {
    len: i64,
    parts: i64,
}

/// So many parts of an element are shared by so many threads; `kernels/conv_wgrad.cu` must agree.
const MANY_PARTS: i64 = 128;
const PART_SHARERS: usize = 8;

kernel!(COMBINE = "combine_parts", |p: Parts, [partials] -> [y]| {
    y.fill(T::ZERO);
    for part in partials.chunks_exact(p.len as usize) {
        y.iter_mut().zip(part).for_each(|(sum, &x)| *sum += x);
    }
}, grid |_| Grid::threads(p.len as usize * if p.parts < MANY_PARTS { 1 } else { PART_SHARERS }));

/// Launches `kernel` for `y`, a matrix product in tiles. Where the device combines parts and `parts` are more than one, the
/// kernel leaves as many sums, which are added up in order: so few results of long sums fill a GPU too.
pub(super) fn launch_in_parts<P: Pod>(kernel: &Kernel, p: &P, ins: &[&Tensor], y: &Tensor, parts: usize) {
    if parts == 1 || !y.tape().device().combines_parts() {
        return launch(kernel, p, ins, &[y]);
    }
    let partials = y.empty_wide(&[parts, y.len()], kernel.name);
    launch(kernel, p, ins, &[&partials]);
    launch(&COMBINE, &Parts { len: y.len() as i64, parts: parts as i64 }, &[&partials], &[y]);
}

/// The kernels of a kind of convolution.
pub(crate) struct Kernels {
    pub fwd: &'static Kernel,
    pub moments_fwd: &'static Kernel,
    pub dgrad: &'static Kernel,
    /// Adds the gradient to its output, if there is such a kernel.
    pub dgrad_add: Option<&'static Kernel>,
    pub wgrad: &'static Kernel,
    /// Parts that a device which combines partial sums gets of the gradient of the weights.
    pub wgrad_parts: fn(&Conv, DType) -> usize,
    /// Pixels of a part of the moments on a device.
    pub moment_rows: fn(&Conv, DType, &dyn Device) -> usize,
}

static DENSE: Kernels = Kernels {
    fwd: &FWD,
    moments_fwd: &MOMENTS_FWD,
    dgrad: &DGRAD,
    dgrad_add: Some(&DGRAD_ADD),
    wgrad: &WGRAD,
    wgrad_parts: Conv::wgrad_parts,
    moment_rows: |_, _, device| device.moment_rows(),
};

/// The moments of each channel of an image: mean and sum of squared deviations, by parts of its pixels.
#[derive(Clone)]
pub(crate) struct Moments {
    /// `[parts, 2, c]`.
    pub parts: Tensor,
    /// Pixels of every part but the last, which may have fewer.
    pub rows: usize,
}

/// x `[n, h, w, c]` ∗ w `[k, r, s, c]`.
#[track_caller]
pub fn conv2d(x: &Tensor, w: &Tensor, window: Window) -> Tensor {
    conv2d_with_moments(x, w, window, false).0
}

/// The convolution and, if wanted, the moments of its result per block of pixels, taken while it is in cache.
#[track_caller]
pub(crate) fn conv2d_with_moments(x: &Tensor, w: &Tensor, window: Window, wanted: bool) -> (Tensor, Option<Moments>) {
    let [k, r, s, c] = nhwc(w.shape(), "conv2d weight");
    let x_shape = nhwc(x.shape(), "conv2d");
    assert!((r, s) == window.kernel && c == x_shape[3], "conv2d: {:?}, weight {:?}, {window:?}", x.shape(), w.shape());
    let chunk = x.dtype().pack();
    if tiles::on_tensor_cores(x.dtype()) && k.is_multiple_of(chunk) && !c.is_multiple_of(chunk) {
        // The few channels of an image: to gather them one by one takes longer than to multiply zeros in whole chunks.
        let c = c.next_multiple_of(chunk);
        return conv2d_with_moments(&pad_channels(x, c), &pad_channels(w, c), window, wanted);
    }
    convolve(&DENSE, x, w, Conv::new(x_shape, k, window, "conv2d"), wanted)
}

/// Runs and records a convolution of either kind.
pub(crate) fn convolve(
    kernels: &'static Kernels,
    x: &Tensor,
    w: &Tensor,
    p: Conv,
    moments_wanted: bool,
) -> (Tensor, Option<Moments>) {
    let y = x.empty(&p.output(), kernels.fwd.name);
    let moments = moments_wanted.then(|| {
        let rows = (kernels.moment_rows)(&p, x.dtype(), &**x.tape().device());
        Moments { parts: x.empty_wide(&p.moments(rows), kernels.moments_fwd.name), rows }
    });
    match &moments {
        None => launch(kernels.fwd, &p, &[x, w], &[&y]),
        Some(moments) => launch(kernels.moments_fwd, &p, &[x, w], &[&y, &moments.parts]),
    }
    let (sx, sw) = (x.clone(), w.clone());
    let y = y.record_adding(kernels.fwd.name, &[x, w], move |g, so_far| {
        let gx = sx.wants_grad().then(|| {
            let sum = kernels.dgrad_add.and_then(|kernel| Some((kernel, so_far.take_if(|sum| sum.is_alone())?)));
            let (kernel, gx) = sum.unwrap_or_else(|| (kernels.dgrad, sx.like(kernels.dgrad.name)));
            launch(kernel, &p, &[&g, &sw], &[&gx]);
            gx
        });
        let gw = sw.wants_grad().then(|| {
            let gw = sx.empty_wide(sw.shape(), kernels.wgrad.name);
            launch_in_parts(kernels.wgrad, &p, &[&sx, &g], &gw, (kernels.wgrad_parts)(&p, sx.dtype()));
            gw
        });
        vec![gx, gw]
    });
    (y, moments)
}

/// Cases of [`conv2d`].
pub static CONV2D: Spec = Spec {
    name: "conv2d",
    cases: || {
        let case = |label, x: [usize; 4], k: usize, window: Window| {
            let (r, s) = window.kernel;
            Case::new(label, &[&x, &[k, r, s, x[3]]], move |t| conv2d(&t[0], &t[1], window)).linear_in(&[0, 1])
        };
        let real = |label, size, c, k, window| {
            let x = [8, size, size, c];
            case(label, x, k, window).real()
        };
        let square = Window::square;
        // Backwards the second writes the gradient of the image and the first adds to it.
        let twice = |label, x: [usize; 4], k: usize, first: Window, second: Window| {
            let weights = |window: Window| [k, window.kernel.0, window.kernel.1, x[3]];
            Case::new(label, &[&x, &weights(first), &weights(second)], move |t| {
                add(&conv2d(&t[0], &t[1], first), &conv2d(&t[0], &t[2], second))
            })
            .linear_in(&[0])
        };
        // Beside the identity: `scaled` so that its gradient of the image is not the one that the convolution reads.
        let skipped = |label, x: [usize; 4], window: Window, scaled: bool| {
            let (r, s) = window.kernel;
            Case::new(label, &[&x, &[x[3], r, s, x[3]]], move |t| {
                let y = conv2d(&t[0], &t[1], window);
                add(&if scaled { scale(&y, 0.5) } else { y }, &t[0])
            })
            .linear_in(&[0])
        };
        vec![
            case("3x3", [2, 5, 4, 3], 4, square(3, 1, 1)),
            case("1x1", [2, 3, 3, 4], 5, square(1, 1, 0)),
            case("1x1 s2", [1, 5, 4, 3], 4, square(1, 2, 0)),
            case("3x3 s2, odd size", [1, 7, 5, 2], 3, square(3, 2, 1)),
            case("7x7 s2 p3", [1, 9, 8, 3], 2, square(7, 2, 3)),
            case("1x7", [1, 5, 9, 2], 2, Window { kernel: (1, 7), stride: (1, 1), pad: (0, 3) }),
            case("7x1, no padding", [1, 9, 3, 2], 2, Window { kernel: (7, 1), stride: (1, 1), pad: (0, 0) }),
            case("2x2, stride beyond kernel", [1, 7, 8, 2], 3, square(2, 3, 0)),
            case("17 to 18 channels", [1, 3, 3, 17], 18, square(3, 1, 1)),
            case("padding beyond the image", [1, 2, 3, 2], 3, square(3, 1, 2)),
            case("3x3 s2, many pixels", [1, 25, 21, 1], 1, square(3, 2, 1)),
            case("3x3, a sum in parts", [2, 17, 16, 1], 1, square(3, 1, 1)),
            case("1x1 8-8, a sum in parts", [1, 23, 23, 8], 8, square(1, 1, 0)),
            case("3x3 s2 8-16", [2, 6, 7, 8], 16, square(3, 2, 1)),
            case("2x2 s3 8-8", [1, 7, 8, 8], 8, square(2, 3, 0)),
            case("1x7 24-8", [1, 3, 8, 24], 8, Window { kernel: (1, 7), stride: (1, 1), pad: (0, 3) }),
            case("1x1 s2 8-136", [1, 3, 5, 8], 136, square(1, 2, 0)),
            case("3x3 520-1, padded, channels in parts", [1, 2, 1, 520], 1, square(3, 1, 1)),
            case("3x3 s2 136-8", [1, 3, 4, 136], 8, square(3, 2, 1)),
            case("3x3 8-128, a step of k within a tap", [1, 5, 4, 8], 128, square(3, 1, 1)),
            case("3x3 s2 16-64", [1, 6, 5, 16], 64, square(3, 2, 1)),
            case("1x1 264-144", [1, 3, 5, 264], 144, square(1, 1, 0)),
            case("3-channel image to 8", [2, 6, 5, 3], 8, square(3, 2, 1)),
            twice("1x1 and 3x3, s2, of one image", [2, 5, 6, 8], 16, square(1, 2, 0), square(3, 2, 1)),
            twice("1x1 and 3x3, s2, of one image, 3-4", [2, 5, 6, 3], 4, square(1, 2, 0), square(3, 2, 1)),
            twice("two 1x1 of one image, 136-8", [1, 12, 12, 136], 8, square(1, 1, 0), square(1, 1, 0)),
            skipped("3x3 with a skip", [1, 3, 4, 8], square(3, 1, 1), false),
            skipped("3x3, scaled, with a skip", [1, 3, 4, 72], square(3, 1, 1), true),
            real("3x3 64 @56", 56, 64, 64, square(3, 1, 1)),
            real("3x3 s2 64-128 @56", 56, 64, 128, square(3, 2, 1)),
            real("3x3 128 @28", 28, 128, 128, square(3, 1, 1)),
            real("3x3 256 @14", 14, 256, 256, square(3, 1, 1)),
            real("3x3 512 @7", 7, 512, 512, square(3, 1, 1)),
            real("1x1 s2 64-128 @56", 56, 64, 128, square(1, 2, 0)),
            real("1x1 16-72 @56", 56, 16, 72, square(1, 1, 0)),
            real("1x1 96-576 @7", 7, 96, 576, square(1, 1, 0)),
            real("stem 7x7 s2 @224", 224, 3, 64, square(7, 2, 3)),
        ]
    },
};
