//! Layers: parameter handles with what the operation needs beside them.

use super::{Builder, Id, Init, Kind, Pass};
use crate::{
    ops::{
        activation::Act,
        linear::linear,
        norm::{conv_bn_act, conv_bn_add_relu, depthwise_bn_act},
    },
    shape::Window,
    tensor::Tensor,
};

/// Batch normalisation over `c` channels.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct BatchNorm {
    pub weight: Id,
    pub bias: Id,
    pub running_mean: Id,
    pub running_var: Id,
    pub batches: Id,
    pub eps: f64,
    pub momentum: f64,
}

/// ε and momentum of the batch normalisations of a network.
#[derive(Clone, Copy, Debug)]
pub struct NormStyle {
    /// Added to the variance.
    pub eps: f64,
    /// Share of the batch in the running statistics.
    pub momentum: f64,
}

impl NormStyle {
    /// PyTorch's default.
    pub const DEFAULT: NormStyle = NormStyle { eps: 1e-5, momentum: 0.1 };
}

impl BatchNorm {
    /// Declares one called `name`.
    pub fn new(b: &mut Builder, name: &str, c: usize, style: NormStyle) -> BatchNorm {
        b.scope(name, |b| BatchNorm {
            weight: b.floats("weight", &[c], Kind::Bias, Init::Constant(1.0)),
            bias: b.floats("bias", &[c], Kind::Bias, Init::Constant(0.0)),
            running_mean: b.floats("running_mean", &[c], Kind::Buffer, Init::Constant(0.0)),
            running_var: b.floats("running_var", &[c], Kind::Buffer, Init::Constant(1.0)),
            batches: b.counter("num_batches_tracked"),
            eps: style.eps,
            momentum: style.momentum,
        })
    }
}

/// Convolution without bias, batch normalisation and activation: the block all but one of the networks are made of.
#[derive(Clone, Debug)]
pub struct ConvBn {
    weight: Id,
    window: Window,
    depthwise: bool,
    bn: BatchNorm,
}

impl ConvBn {
    /// Declares a dense one from `c` to `k` channels under the names `conv` and `bn`; Kaiming fan-out initialisation.
    pub fn new(
        b: &mut Builder,
        (conv, bn): (&str, &str),
        (c, k): (usize, usize),
        window: Window,
        style: NormStyle,
    ) -> ConvBn {
        let (r, s) = window.kernel;
        let weight = b.scope(conv, |b| b.conv("weight", [k, r, s, c], Init::kaiming_fan_out(k * r * s)));
        ConvBn { weight, window, depthwise: false, bn: BatchNorm::new(b, bn, k, style) }
    }

    /// Declares a depthwise one over `c` channels.
    pub fn depthwise(b: &mut Builder, (conv, bn): (&str, &str), c: usize, window: Window, style: NormStyle) -> ConvBn {
        let (r, s) = window.kernel;
        // torch counts the fan-out of a grouped convolution as if it were dense.
        let init = Init::kaiming_fan_out(c * r * s);
        let weight = b.scope(conv, |b| b.depthwise("weight", [c, r, s], init));
        ConvBn { weight, window, depthwise: true, bn: BatchNorm::new(b, bn, c, style) }
    }

    /// act(bn(conv(x))).
    pub fn forward(&self, pass: &Pass, x: &Tensor, act: Act) -> Tensor {
        let block = if self.depthwise { depthwise_bn_act } else { conv_bn_act };
        block(x, &pass.param(self.weight), self.window, &pass.batch_norm(&self.bn), act)
    }

    /// relu(bn(conv(x)) + residual).
    pub fn forward_add_relu(&self, pass: &Pass, x: &Tensor, residual: &Tensor) -> Tensor {
        conv_bn_add_relu(x, &pass.param(self.weight), self.window, &pass.batch_norm(&self.bn), residual)
    }
}

/// Fully connected layer.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Id,
    bias: Id,
}

impl Linear {
    /// Declares one called `name`, from `i` to `o` features, with these initial weights and biases.
    pub fn new(b: &mut Builder, name: &str, (i, o): (usize, usize), weight: Init, bias: Init) -> Linear {
        b.scope(name, |b| Linear {
            weight: b.floats("weight", &[o, i], Kind::Weight, weight),
            bias: b.floats("bias", &[o], Kind::Bias, bias),
        })
    }

    /// Declares one that torchvision writes as a 1×1 convolution, as in squeeze-and-excitation.
    pub fn pointwise(b: &mut Builder, name: &str, (i, o): (usize, usize), weight: Init, bias: Init) -> Linear {
        b.scope(name, |b| Linear {
            weight: b.weight_as("weight", &[o, i], &[o, i, 1, 1], weight),
            bias: b.floats("bias", &[o], Kind::Bias, bias),
        })
    }

    /// x·wᵀ + b.
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        linear(x, &pass.param(self.weight), &pass.param(self.bias))
    }
}
