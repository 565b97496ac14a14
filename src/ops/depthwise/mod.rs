//! Depthwise convolution: each channel with its own filter. Weights are C·R·S.

pub mod cpu;

use super::{
    Case, Spec,
    conv::{Conv, Kernels, convolve},
};
use crate::{
    kernel,
    shape::{Window, nhwc},
    tensor::Tensor,
};

kernel!(FWD = "depthwise_fwd", |p: Conv, [x, w] -> [y]| {
    cpu::depthwise_fwd(p, x, w, y, None);
});
kernel!(MOMENTS_FWD = "depthwise_moments_fwd", |p: Conv, [x, w] -> [y, moments]| {
    cpu::depthwise_fwd(p, x, w, y, Some(moments));
});
kernel!(DGRAD = "depthwise_dgrad", |p: Conv, [gy, w] -> [gx]| {
    cpu::depthwise_dgrad(p, gy, w, gx);
});
kernel!(WGRAD = "depthwise_wgrad", |p: Conv, [x, gy] -> [gw]| {
    cpu::depthwise_wgrad(p, x, gy, gw);
});

static KERNELS: Kernels =
    Kernels { fwd: &FWD, moments_fwd: &MOMENTS_FWD, dgrad: &DGRAD, wgrad: &WGRAD, wgrad_parts: |_, _| 1 };

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
            case(label, x, window).real(Conv::new(x, c, window, label).flops() / c as u64)
        };
        let square = Window::square;
        vec![
            case("3x3", [2, 5, 4, 3], square(3, 1, 1)),
            case("3x3 s2, odd size", [1, 7, 5, 4], square(3, 2, 1)),
            case("5x5 s2", [1, 6, 7, 2], square(5, 2, 2)),
            case("5x5, 17 channels", [1, 5, 5, 17], square(5, 1, 2)),
            real("3x3 s2 72 @56", 56, 72, square(3, 2, 1)),
            real("3x3 88 @28", 28, 88, square(3, 1, 1)),
            real("5x5 240 @14", 14, 240, square(5, 1, 2)),
            real("5x5 576 @7", 7, 576, square(5, 1, 2)),
        ]
    },
};
