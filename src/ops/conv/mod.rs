//! 2-D convolution.

pub mod cpu;

/// 2-D convolution: x `[n, h, w, c]`, weights `[k, r, s, c]`, y `[n, oh, ow, k]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
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
