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
        norm::batch_norm,
        pool::{avg_pool, max_pool},
        slice::concat,
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
    last: BatchNorm,
    channels: Vec<usize>,
}

/// A dense block, and the transition that halves channels and resolution in front of it.
struct Stage {
    transition: Option<(BatchNorm, Conv)>,
    layers: Vec<Layer>,
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
            let transition = (stage > 0).then(|| {
                c /= 2;
                b.scope(format!("transition{stage}"), |b| {
                    let norm = BatchNorm::new(b, "norm", 2 * c, STYLE);
                    (norm, Conv::new(b, "conv", (2 * c, c), Window::square(1, 1, 0), STYLE))
                })
            });
            let layer = |i: usize| {
                let name = format!("denseblock{}.denselayer{}", stage + 1, i + 1);
                b.scope(name, |b| Layer::new(b, c + i * GROWTH))
            };
            stages.push(Stage { transition, layers: (0..layers).map(layer).collect() });
            c += layers * GROWTH;
            channels.push(c);
        }
        DenseNet { stem, stages, last: BatchNorm::new(b, "norm5", c, STYLE), channels }
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

    /// The channels that this layer adds to x.
    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let y = batch_norm(x, &pass.batch_norm(&self.norm1), Relu);
        self.conv2.forward(pass, &self.conv1.forward(pass, &y, Relu))
    }
}

impl Encoder for DenseNet {
    fn features(&self, pass: &Pass, images: &Tensor) -> Features {
        let stem = self.stem.forward(pass, images, Relu);
        let mut x = max_pool(&stem, Window::square(3, 2, 1));
        let mut maps = vec![stem];
        for stage in &self.stages {
            if let Some((norm, conv)) = &stage.transition {
                maps.push(x.clone());
                x = conv.forward(pass, &batch_norm(&x, &pass.batch_norm(norm), Relu));
                x = avg_pool(&x, Window::square(2, 2, 0), false);
            }
            x = stage.layers.iter().fold(x, |x, layer| concat(&[&x, &layer.forward(pass, &x)]));
        }
        maps.push(batch_norm(&x, &pass.batch_norm(&self.last), Relu));
        maps.into()
    }

    fn channels(&self) -> Vec<usize> {
        self.channels.clone()
    }
}
