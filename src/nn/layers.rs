//! Layers: parameter handles with what the operation needs beside them.

use super::{Builder, Id, Init, Kind, Pass};
use crate::{
    ops::{
        activation::Act,
        bias::bias_act,
        conv::{conv2d, transposed::conv_transpose2d},
        conv_bn_act::{conv_bn_act, conv_bn_add_relu, depthwise_bn_act},
        dense_block::DenseBlock,
        linear::linear,
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

/// What the convolutions and batch normalisations of a network have in common.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Added to the variance.
    pub eps: f64,
    /// Share of the batch in the running statistics.
    pub momentum: f64,
    /// Initial weights of a convolution, from its fan-in and fan-out.
    pub init: fn(usize, usize) -> Init,
}

impl Style {
    /// PyTorch's default normalisation, and the initialisation that most of torchvision's networks choose.
    pub const DEFAULT: Style = Style { eps: 1e-5, momentum: 0.1, init: |_, fan_out| Init::kaiming(fan_out) };
}

impl BatchNorm {
    /// Declares one called `name`.
    pub fn new(b: &mut Builder, name: &str, c: usize, style: Style) -> BatchNorm {
        b.scope(name, |b| BatchNorm {
            weight: b.floats("weight", &[c], Kind::Undecayed, Init::Constant(1.0)),
            bias: b.floats("bias", &[c], Kind::Undecayed, Init::Constant(0.0)),
            running_mean: b.floats("running_mean", &[c], Kind::Buffer, Init::Constant(0.0)),
            running_var: b.floats("running_var", &[c], Kind::Buffer, Init::Constant(1.0)),
            batches: b.counter("num_batches_tracked"),
            eps: style.eps,
            momentum: style.momentum,
        })
    }
}

/// Convolution without bias, batch normalisation and activation: the block that most of the networks are made of.
#[derive(Clone, Debug)]
pub struct ConvBn {
    weight: Id,
    window: Window,
    depthwise: bool,
    bn: BatchNorm,
}

impl ConvBn {
    /// Declares a dense one from `c` to `k` channels under the names `conv` and `bn`.
    pub fn new(
        b: &mut Builder,
        (conv, bn): (&str, &str),
        (c, k): (usize, usize),
        window: Window,
        style: Style,
    ) -> ConvBn {
        let weight = conv_weight(b, conv, (c, k), window, style);
        ConvBn { weight, window, depthwise: false, bn: BatchNorm::new(b, bn, k, style) }
    }

    /// Declares a depthwise one over `c` channels.
    pub fn depthwise(b: &mut Builder, (conv, bn): (&str, &str), c: usize, window: Window, style: Style) -> ConvBn {
        let (r, s) = window.kernel;
        // torch counts the fan-out of a grouped convolution as if it were dense.
        let init = (style.init)(r * s, c * r * s);
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

fn conv_weight(b: &mut Builder, name: &str, (c, k): (usize, usize), window: Window, style: Style) -> Id {
    let (r, s) = window.kernel;
    let init = (style.init)(c * r * s, k * r * s);
    b.scope(name, |b| b.conv("weight", [k, r, s, c], init))
}

/// Convolution without bias or normalisation.
#[derive(Clone, Debug)]
pub struct Conv {
    weight: Id,
    window: Window,
}

impl Conv {
    /// Declares one called `name`, from `c` to `k` channels.
    pub fn new(b: &mut Builder, name: &str, channels: (usize, usize), window: Window, style: Style) -> Conv {
        Conv { weight: conv_weight(b, name, channels, window, style), window }
    }

    /// conv(x).
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        conv2d(x, &pass.param(self.weight), self.window)
    }

    /// Adds the channels of conv(x) to those of a dense block.
    pub fn append_to(&self, block: &mut DenseBlock, pass: &Pass, x: &Tensor) {
        block.append_conv(x, &pass.param(self.weight), self.window);
    }
}

/// Convolution with bias, and activation.
#[derive(Clone, Debug)]
pub struct ConvBias {
    conv: Conv,
    bias: Id,
}

impl ConvBias {
    /// Declares one called `name`, from `c` to `k` channels; the bias starts as `bias`.
    pub fn new(
        b: &mut Builder,
        name: &str,
        (c, k): (usize, usize),
        window: Window,
        style: Style,
        bias: Init,
    ) -> ConvBias {
        let conv = Conv::new(b, name, (c, k), window, style);
        ConvBias { conv, bias: b.scope(name, |b| b.floats("bias", &[k], Kind::Undecayed, bias)) }
    }

    /// act(conv(x) + bias).
    pub fn forward(&self, pass: &Pass, x: &Tensor, act: Act) -> Tensor {
        bias_act(&self.conv.forward(pass, x), &pass.param(self.bias), act)
    }
}

/// Transposed convolution that doubles height and width (2×2, stride 2), with or without bias.
#[derive(Clone, Debug)]
pub struct Doubling {
    weight: Id,
    bias: Option<Id>,
}

impl Doubling {
    const WINDOW: Window = Window { kernel: (2, 2), stride: (2, 2), pad: (0, 0) };

    /// Declares one called `name`, from `c` to `k` channels; a bias starts as `bias`.
    pub fn new(b: &mut Builder, name: &str, (c, k): (usize, usize), style: Style, bias: Option<Init>) -> Doubling {
        // torch counts the fans of a transposed convolution by its weights [c, k, 2, 2], as if it were a convolution.
        let init = (style.init)(4 * k, 4 * c);
        b.scope(name, |b| Doubling {
            weight: b.conv("weight", [c, 2, 2, k], init),
            bias: bias.map(|bias| b.floats("bias", &[k], Kind::Undecayed, bias)),
        })
    }

    /// `[n, h, w, c]` to `[n, 2·h, 2·w, k]`.
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let y = conv_transpose2d(x, &pass.param(self.weight), Doubling::WINDOW);
        match self.bias {
            Some(bias) => bias_act(&y, &pass.param(bias), Act::Identity),
            None => y,
        }
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
            bias: b.floats("bias", &[o], Kind::Undecayed, bias),
        })
    }

    /// Declares one that torchvision writes as a 1×1 convolution, as in squeeze-and-excitation.
    pub fn pointwise(b: &mut Builder, name: &str, (i, o): (usize, usize), weight: Init, bias: Init) -> Linear {
        b.scope(name, |b| Linear {
            weight: b.weight_as("weight", &[o, i], &[o, i, 1, 1], weight),
            bias: b.floats("bias", &[o], Kind::Undecayed, bias),
        })
    }

    /// Declares one that reads images `[n, h, w, c]` flattened, which a file counts as `[c, h, w]`.
    pub fn flattening(b: &mut Builder, name: &str, image: [usize; 3], o: usize, weight: Init, bias: Init) -> Linear {
        b.scope(name, |b| Linear {
            weight: b.flattened("weight", o, image, weight),
            bias: b.floats("bias", &[o], Kind::Undecayed, bias),
        })
    }

    /// x·wᵀ + b, x `[n, i]` or the images `[n, h, w, c]` that the layer flattens.
    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let flat = |t: &Tensor| match *t.shape() {
            [_, _] => t.clone(),
            _ => t.reshape(&[t.shape()[0], t.len() / t.shape()[0]]),
        };
        linear(&flat(x), &flat(&pass.param(self.weight)), &pass.param(self.bias))
    }
}
