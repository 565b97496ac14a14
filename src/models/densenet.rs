//! DenseNet121 (Huang et al. 2017).

use super::{
    Encoder, Features, Inputs,
    head::{Head, Pooled},
};
use crate::{
    nn::{
        Builder, Init, Pass,
        layers::{BatchNorm, Conv, ConvBn, Linear, Style},
    },
    ops::{
        activation::Act::Relu,
        dense_block::DenseBlock,
        pool::{avg_pool, max_pool},
    },
    shape::Window,
    tensor::Tensor,
};

const STYLE: Style = Style { init: |fan_in, _| Init::kaiming(fan_in), ..Style::DEFAULT };

/// Layers of each dense block, from the paper's table 1.
const LAYERS: [usize; 4] = [6, 12, 24, 16];
/// Channels that each layer adds.
const GROWTH: usize = 32;
/// Channels between the two convolutions of a layer.
const BOTTLENECK: usize = 4 * GROWTH;
/// Channels of the stem.
const STEM: usize = 64;

struct DenseNet {
    stem: ConvBn,
    stages: Vec<Stage>,
    channels: Vec<usize>,
}

/// A dense block, the normalisation behind it, and in all but the last the transition that halves channels and resolution.
struct Stage {
    layers: Vec<Layer>,
    norm: BatchNorm,
    transition: Option<Conv>,
}

/// Normalisation, 1×1 convolution, normalisation, 3×3 convolution.
struct Layer {
    norm1: BatchNorm,
    conv1: ConvBn,
    conv2: Conv,
}

pub fn densenet121(b: &mut Builder, inputs: Inputs) -> Box<dyn Encoder> {
    let net = b.scope("features", |b| {
        let window = Window::square(7, 2, 3);
        let stem = ConvBn::new(b, ("conv0", "norm0"), (inputs.channels, STEM), window, STYLE);
        let mut c = STEM;
        let mut channels = vec![c];
        let mut stages = vec![];
        for (stage, &layers) in LAYERS.iter().enumerate() {
            let n = stage + 1;
            let layer =
                |i: usize| b.scope(format!("denseblock{n}.denselayer{}", i + 1), |b| Layer::new(b, c + i * GROWTH));
            let layers: Vec<_> = (0..layers).map(layer).collect();
            c += layers.len() * GROWTH;
            channels.push(c);
            let (norm, transition) = if n == LAYERS.len() {
                (BatchNorm::new(b, "norm5", c, STYLE), None)
            } else {
                b.scope(format!("transition{n}"), |b| {
                    let norm = BatchNorm::new(b, "norm", c, STYLE);
                    (norm, Some(Conv::new(b, "conv", (c, c / 2), Window::square(1, 1, 0), STYLE)))
                })
            };
            stages.push(Stage { layers, norm, transition });
            c /= 2;
        }
        DenseNet { stem, stages, channels }
    });
    Box::new(net)
}

pub fn head(b: &mut Builder, features: usize, outputs: usize) -> Box<dyn Head> {
    let (weight, bias) = (Init::linear(features), Init::Constant(0.0));
    let linear = Linear::new(b, "classifier", (features, outputs), weight, bias);
    Box::new(Pooled { hidden: None, dropout: 0.0, linear })
}

impl Layer {
    fn new(b: &mut Builder, c: usize) -> Layer {
        Layer {
            norm1: BatchNorm::new(b, "norm1", c, STYLE),
            conv1: ConvBn::new(b, ("conv1", "norm2"), (c, BOTTLENECK), Window::square(1, 1, 0), STYLE),
            conv2: Conv::new(b, "conv2", (BOTTLENECK, GROWTH), Window::square(3, 1, 1), STYLE),
        }
    }

    /// Adds its channels to the block.
    fn forward(&self, pass: &Pass, block: &mut DenseBlock) {
        let y = block.batch_norm(&pass.batch_norm(&self.norm1), Relu);
        let y = self.conv1.forward(pass, &y, Relu);
        self.conv2.append_to(block, pass, &y);
    }
}

impl Encoder for DenseNet {
    fn features(&self, pass: &Pass, images: &Tensor) -> Features {
        let stem = self.stem.forward(pass, images, Relu);
        let mut x = max_pool(&stem, Window::square(3, 2, 1));
        let mut maps = vec![stem];
        for stage in &self.stages {
            let c = x.shape()[3] + stage.layers.len() * GROWTH;
            let mut block = DenseBlock::new(&x, c, pass.training());
            stage.layers.iter().for_each(|layer| layer.forward(pass, &mut block));
            let y = block.batch_norm(&pass.batch_norm(&stage.norm), Relu);
            if let Some(conv) = &stage.transition {
                maps.push(block.output());
                x = avg_pool(&conv.forward(pass, &y), Window::square(2, 2, 0), false);
            } else {
                maps.push(y);
            }
        }
        maps.into()
    }

    fn channels(&self) -> Vec<usize> {
        self.channels.clone()
    }
}
