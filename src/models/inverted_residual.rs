//! The block of the MobileNets and EfficientNets, and the encoder that both families are: expansion by a 1×1 convolution, depthwise convolution,
//! squeeze-and-excitation, projection (Sandler et al. 2018; Hu et al. 2018).

use super::{Encoder, Features, Inputs};
use crate::{
    nn::{
        Builder, Init, Pass,
        layers::{ConvBn, Linear, Style},
    },
    ops::{
        activation::Act::{self, Identity},
        elementwise::{activate, add, scale_channels},
        pool::global_avg_pool,
    },
    shape::Window,
    tensor::Tensor,
};

/// What a block is made of.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Kernel of the depthwise convolution.
    pub kernel: usize,
    /// Channels of the input, in between and of the output.
    pub channels: [usize; 3],
    /// Stride of the depthwise convolution.
    pub stride: usize,
    /// Activation of the first two convolutions.
    pub act: Act,
    /// The squeeze-and-excitation, if there is one.
    pub squeeze: Option<Squeeze>,
    /// Probability of leaving the block out in training.
    pub depth_drop: f32,
    pub style: Style,
}

/// Squeeze-and-excitation: hidden channels, their activation and that of the gate.
#[derive(Clone, Copy)]
pub struct Squeeze {
    pub channels: usize,
    pub act: Act,
    pub gate: Act,
}

pub struct InvertedResidual {
    shape: Shape,
    expand: Option<ConvBn>,
    depthwise: ConvBn,
    gate: Option<Gate>,
    project: ConvBn,
    /// Whether the input is added, and the probability that only the input is left.
    shortcut: Option<f32>,
}

struct Gate {
    fc1: Linear,
    fc2: Linear,
    squeeze: Squeeze,
}

impl InvertedResidual {
    /// Declares one; torchvision numbers the parts of a block by what is there.
    pub fn new(b: &mut Builder, shape: Shape) -> InvertedResidual {
        let Shape { kernel, channels: [c, expanded, k], stride, squeeze, depth_drop, style, .. } = shape;
        let pointwise = Window::square(1, 1, 0);
        let mut part = 0..;
        let mut next = || part.next().expect("an endless range").to_string();
        let expand =
            (expanded != c).then(|| b.scope(next(), |b| ConvBn::new(b, ("0", "1"), (c, expanded), pointwise, style)));
        let window = Window::square(kernel, stride, (kernel - 1) / 2);
        let depthwise = b.scope(next(), |b| ConvBn::depthwise(b, ("0", "1"), expanded, window, style));
        let gate = squeeze.map(|squeeze| b.scope(next(), |b| Gate::new(b, expanded, squeeze)));
        let project = b.scope(next(), |b| ConvBn::new(b, ("0", "1"), (expanded, k), pointwise, style));
        let shortcut = (stride == 1 && c == k).then_some(depth_drop);
        InvertedResidual { shape, expand, depthwise, gate, project, shortcut }
    }

    pub fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let y = match &self.expand {
            Some(expand) => expand.forward(pass, x, self.shape.act),
            None => x.clone(),
        };
        let y = self.depthwise.forward(pass, &y, self.shape.act);
        let y = match &self.gate {
            Some(gate) => gate.forward(pass, &y),
            None => y,
        };
        let y = self.project.forward(pass, &y, Identity);
        match self.shortcut {
            Some(0.0) => add(&y, x),
            Some(drop) => add(&pass.stochastic_depth(&y, drop), x),
            None => y,
        }
    }
}

impl Gate {
    fn new(b: &mut Builder, c: usize, squeeze: Squeeze) -> Gate {
        let (hidden, bias) = (squeeze.channels, Init::Constant(0.0));
        Gate {
            fc1: Linear::pointwise(b, "fc1", (c, hidden), Init::kaiming(hidden), bias),
            fc2: Linear::pointwise(b, "fc2", (hidden, c), Init::kaiming(c), bias),
            squeeze,
        }
    }

    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let hidden = activate(&self.fc1.forward(pass, &global_avg_pool(x)), self.squeeze.act);
        scale_channels(x, &activate(&self.fc2.forward(pass, &hidden), self.squeeze.gate))
    }
}

/// A 3×3 convolution that halves the resolution, blocks, and a 1×1 convolution.
pub struct Chain {
    stem: ConvBn,
    blocks: Vec<InvertedResidual>,
    last: ConvBn,
    /// Channels of the last convolution.
    width: usize,
    /// Activation of the first and last convolution.
    act: Act,
}

impl Chain {
    /// Declares one of blocks by the names of their scopes; `last` is the number of the last convolution and its channels.
    pub fn new(
        b: &mut Builder,
        inputs: Inputs,
        blocks: &[(String, Shape)],
        (last, width): (usize, usize),
        act: Act,
    ) -> Chain {
        let ((_, first), (_, end)) = (&blocks[0], &blocks[blocks.len() - 1]);
        let convolution = |b: &mut Builder, number: usize, channels, window| {
            b.scope(number.to_string(), |b| ConvBn::new(b, ("0", "1"), channels, window, first.style))
        };
        b.scope("features", |b| Chain {
            stem: convolution(b, 0, (inputs.channels, first.channels[0]), Window::square(3, 2, 1)),
            blocks: blocks
                .iter()
                .map(|(name, shape)| b.scope(name.as_str(), |b| InvertedResidual::new(b, *shape)))
                .collect(),
            last: convolution(b, last, (end.channels[2], width), Window::square(1, 1, 0)),
            width,
            act,
        })
    }
}

impl Encoder for Chain {
    fn features(&self, pass: &Pass, images: &Tensor) -> Features {
        let mut x = self.stem.forward(pass, images, self.act);
        let mut maps = vec![];
        for block in &self.blocks {
            if block.shape.stride == 2 {
                maps.push(x.clone());
            }
            x = block.forward(pass, &x);
        }
        maps.push(self.last.forward(pass, &x, self.act));
        maps.into()
    }

    fn channels(&self) -> Vec<usize> {
        let halving = self.blocks.iter().filter(|block| block.shape.stride == 2);
        halving.map(|block| block.shape.channels[0]).chain([self.width]).collect()
    }
}

/// The nearest multiple of 8 to `c`, but not less than nine tenths of it: the rule for channel counts of these networks.
pub fn make_divisible(c: f64) -> usize {
    let nearest = ((c + 4.0) as usize / 8 * 8).max(8);
    if (nearest as f64) < 0.9 * c { nearest + 8 } else { nearest }
}
