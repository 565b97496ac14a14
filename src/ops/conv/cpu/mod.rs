//! CPU bodies of the convolution.

mod forward;
mod gather;
mod gradients;
pub(crate) mod moments;
mod pack;

use super::Conv;
pub use forward::conv2d_fwd;
pub use gradients::{conv2d_dgrad, conv2d_dgrad_add, conv2d_wgrad};
pub use moments::channel_moments;

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
