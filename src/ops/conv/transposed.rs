//! Transposed convolution, the adjoint of a convolution: forward is that one's gradient of the image, and the gradient of
//! the image is its forward. It has no kernels of its own.

use super::{Conv, DGRAD, FWD, WGRAD, launch_in_parts};
use crate::{
    ops::{Case, Spec},
    shape::{Window, nhwc},
    tensor::{Tensor, launch},
};

/// x `[n, h, w, c]` through the transposed convolution of w `[c, r, s, k]`: `[n, oh, ow, k]` with
/// oh = (h − 1)·stride − 2·pad + r. PyTorch's `conv_transpose2d`, whose weights `[c, k, r, s]` come in this order as those
/// of a convolution do.
#[track_caller]
pub fn conv_transpose2d(x: &Tensor, w: &Tensor, window: Window) -> Tensor {
    let op = "conv_transpose2d";
    let [n, h, width, c] = nhwc(x.shape(), op);
    let [wc, r, s, k] = nhwc(w.shape(), op);
    assert!((r, s) == window.kernel && c == wc, "{op}: {:?}, weight {:?}, {window:?}", x.shape(), w.shape());
    let extent = |size: usize, kernel: usize, stride: usize, pad: usize| {
        let extent = ((size - 1) * stride + kernel).checked_sub(2 * pad).filter(|&extent| extent > 0);
        extent.unwrap_or_else(|| panic!("{op}: {window:?} leaves nothing of an image of {h}x{width}"))
    };
    let oh = extent(h, r, window.stride.0, window.pad.0);
    let ow = extent(width, s, window.stride.1, window.pad.1);
    // The convolution whose adjoint this is: from y to x.
    let p = Conv::new([n, oh, ow, k], c, window, op);
    let y = x.empty(&[n, oh, ow, k], op);
    launch(&DGRAD, &p, &[x, w], &[&y]);
    let (sx, sw) = (x.clone(), w.clone());
    y.record(op, &[x, w], move |g| {
        let gx = sx.wants_grad().then(|| {
            let gx = sx.like("conv_transpose2d backward");
            launch(&FWD, &p, &[&g, &sw], &[&gx]);
            gx
        });
        let gw = sw.wants_grad().then(|| {
            let gw = sw.empty_wide(sw.shape(), "conv_transpose2d backward");
            launch_in_parts(&WGRAD, &p, &[&g, &sx], &gw, p.wgrad_parts(sx.dtype()));
            gw
        });
        vec![gx, gw]
    })
}

/// Cases of [`conv_transpose2d`].
pub static CONV_TRANSPOSE2D: Spec = Spec {
    name: "conv_transpose2d",
    cases: || {
        let case = |label, x: [usize; 4], k: usize, window: Window| {
            let (r, s) = window.kernel;
            let run = move |t: &[Tensor]| conv_transpose2d(&t[0], &t[1], window);
            Case::new(label, &[&x, &[x[3], r, s, k]], run).linear_in(&[0, 1])
        };
        vec![
            case("2x2 s2", [2, 3, 4, 3], 5, Window::square(2, 2, 0)),
            case("2x2 s2, 16 to 8 channels", [1, 2, 3, 16], 8, Window::square(2, 2, 0)),
            case("2x2 s2, a sum in parts", [2, 17, 16, 1], 1, Window::square(2, 2, 0)),
            case("3x3 s1 p1", [1, 4, 3, 2], 3, Window::square(3, 1, 1)),
            case("4x4 s2 p1", [1, 3, 2, 3], 2, Window::square(4, 2, 1)),
            case("256 to 128 @28", [8, 28, 28, 256], 128, Window::square(2, 2, 0)).real(),
        ]
    },
};
