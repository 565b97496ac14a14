//! A convolution and the batch normalisation and activation behind it: the block that most networks are written in. The
//! convolution leaves the moments of its result, so that no pass of its own is needed for the statistics of the batch.

use super::{
    Case, Spec,
    activation::Act,
    conv::conv2d_with_moments,
    depthwise::depthwise_with_moments,
    norm::{BatchNorm, Statistics, case_norm, normalise},
};
use crate::{shape::Window, tensor::Tensor};

/// Convolution, batch normalisation, activation: x `[n, h, w, c]`, w `[k, r, s, c]`.
#[track_caller]
pub fn conv_bn_act(x: &Tensor, w: &Tensor, window: Window, bn: &BatchNorm, act: Act) -> Tensor {
    let (y, moments) = conv2d_with_moments(x, w, window, bn.statistics == Statistics::Batch);
    normalise(&y, moments, bn, act, None)
}

/// Convolution, batch normalisation, addition of the residual, ReLU.
#[track_caller]
pub fn conv_bn_add_relu(x: &Tensor, w: &Tensor, window: Window, bn: &BatchNorm, residual: &Tensor) -> Tensor {
    let (y, moments) = conv2d_with_moments(x, w, window, bn.statistics == Statistics::Batch);
    normalise(&y, moments, bn, Act::Relu, Some(residual))
}

/// Depthwise convolution, batch normalisation, activation: x `[n, h, w, c]`, w `[c, r, s]`.
#[track_caller]
pub fn depthwise_bn_act(x: &Tensor, w: &Tensor, window: Window, bn: &BatchNorm, act: Act) -> Tensor {
    let (y, moments) = depthwise_with_moments(x, w, window, bn.statistics == Statistics::Batch);
    normalise(&y, moments, bn, act, None)
}

/// Cases of [`conv_bn_act`], [`conv_bn_add_relu`] and [`depthwise_bn_act`].
pub static CONV_BN_ACT: Spec = Spec {
    name: "conv_bn_act",
    cases: || {
        let window = Window::square(3, 1, 1);
        let norm = |t: &[Tensor]| case_norm(&t[2], &t[3], Statistics::Batch);
        let case = |label, x: [usize; 4], k: usize| {
            Case::new(label, &[&x, &[k, 3, 3, x[3]], &[k], &[k]], move |t| {
                conv_bn_act(&t[0], &t[1], window, &norm(t), Act::HardSwish)
            })
            .wide(&[2, 3])
        };
        vec![
            case("hardswish", [2, 4, 3, 2], 3),
            Case::new("residual, relu", &[&[2, 4, 3, 2], &[3, 3, 3, 2], &[3], &[3], &[2, 4, 3, 3]], move |t| {
                conv_bn_add_relu(&t[0], &t[1], window, &norm(t), &t[4])
            })
            .wide(&[2, 3]),
            Case::new("depthwise, bands across images", &[&[5, 7, 2, 64], &[64, 3, 3], &[64], &[64]], move |t| {
                depthwise_bn_act(&t[0], &t[1], window, &norm(t), Act::Identity)
            })
            .wide(&[2, 3]),
            Case::new(
                "depthwise, channels of several blocks",
                &[&[1, 3, 2, 72], &[72, 3, 3], &[72], &[72]],
                move |t| depthwise_bn_act(&t[0], &t[1], window, &norm(t), Act::Identity),
            )
            .wide(&[2, 3]),
            Case::new("depthwise, relu", &[&[2, 4, 3, 3], &[3, 3, 3], &[3], &[3]], move |t| {
                depthwise_bn_act(&t[0], &t[1], window, &norm(t), Act::Relu)
            })
            .wide(&[2, 3]),
            Case::new("1x1 8-72, many pixels", &[&[1, 12, 13, 8], &[72, 1, 1, 8], &[72], &[72]], move |t| {
                conv_bn_act(&t[0], &t[1], Window::square(1, 1, 0), &norm(t), Act::Identity)
            })
            .wide(&[2, 3]),
            case("56x56x64", [8, 56, 56, 64], 64).real(),
        ]
    },
};
