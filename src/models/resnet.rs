//! ResNet (He et al. 2016).

use super::{
    Encoder, Features, Inputs,
    head::{Head, Pooled},
};
use crate::{
    nn::{
        Builder, Pass,
        layers::{ConvBn, Style},
    },
    ops::{activation::Act::Identity, activation::Act::Relu, pool::max_pool},
    shape::Window,
    tensor::Tensor,
};

const STYLE: Style = Style::DEFAULT;

/// Table 1 of the paper: blocks of each stage.
const DEPTHS_18: [usize; 4] = [2, 2, 2, 2];
const DEPTHS_34_50: [usize; 4] = [3, 4, 6, 3];
/// Channels of the 3×3 convolutions of each stage.
const WIDTHS: [usize; 4] = [64, 128, 256, 512];

pub fn resnet18(b: &mut Builder, inputs: Inputs) -> Box<dyn Encoder> {
    Box::new(ResNet::new(b, inputs, DEPTHS_18, BASIC))
}

pub fn resnet34(b: &mut Builder, inputs: Inputs) -> Box<dyn Encoder> {
    Box::new(ResNet::new(b, inputs, DEPTHS_34_50, BASIC))
}

pub fn resnet50(b: &mut Builder, inputs: Inputs) -> Box<dyn Encoder> {
    Box::new(ResNet::new(b, inputs, DEPTHS_34_50, BOTTLENECK))
}

pub fn head(b: &mut Builder, features: usize, outputs: usize) -> Box<dyn Head> {
    Box::new(Pooled::linear(b, "fc", features, outputs))
}

struct ResNet {
    stem: ConvBn,
    stages: Vec<Vec<Block>>,
    channels: Vec<usize>,
}

/// Convolutions, the last of which adds a shortcut, projected where the shape changes.
struct Block {
    convs: Vec<ConvBn>,
    downsample: Option<ConvBn>,
}

/// A kind of block: kernels of its convolutions, which of them has the stride, and how much wider the last is.
struct Kind {
    kernels: &'static [usize],
    strided: usize,
    expansion: usize,
}

/// Two 3×3 convolutions.
const BASIC: Kind = Kind { kernels: &[3, 3], strided: 0, expansion: 1 };
/// 1×1, 3×3, 1×1; the stride is in the 3×3, unlike in the paper (ResNet v1.5, as torchvision).
const BOTTLENECK: Kind = Kind { kernels: &[1, 3, 1], strided: 1, expansion: 4 };

impl ResNet {
    fn new(b: &mut Builder, inputs: Inputs, depths: [usize; 4], kind: Kind) -> ResNet {
        let stem = ConvBn::new(b, ("conv1", "bn1"), (inputs.channels, 64), Window::square(7, 2, 3), STYLE);
        let mut channels = vec![64];
        let mut stages = vec![];
        for (stage, (depth, width)) in depths.into_iter().zip(WIDTHS).enumerate() {
            let mut c = channels[stage];
            let blocks = (0..depth).map(|i| {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let name = format!("layer{}.{i}", stage + 1);
                let block = b.scope(name, |b| Block::new(b, &kind, c, width, stride));
                c = width * kind.expansion;
                block
            });
            stages.push(blocks.collect());
            channels.push(c);
        }
        ResNet { stem, stages, channels }
    }
}

impl Block {
    fn new(b: &mut Builder, kind: &Kind, c: usize, width: usize, stride: usize) -> Block {
        let last = kind.kernels.len() - 1;
        let out = width * kind.expansion;
        let mut from = c;
        let convs = kind.kernels.iter().enumerate().map(|(i, &kernel)| {
            let to = if i == last { out } else { width };
            let window = Window::square(kernel, if i == kind.strided { stride } else { 1 }, kernel / 2);
            let names = (format!("conv{}", i + 1), format!("bn{}", i + 1));
            let conv = ConvBn::new(b, (&names.0, &names.1), (from, to), window, STYLE);
            from = to;
            conv
        });
        let convs = convs.collect();
        let project = |b: &mut Builder| ConvBn::new(b, ("0", "1"), (c, out), Window::square(1, stride, 0), STYLE);
        let downsample = (stride != 1 || c != out).then(|| b.scope("downsample", project));
        Block { convs, downsample }
    }

    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let (last, inner) = self.convs.split_last().expect("a block has convolutions");
        let y = inner.iter().fold(x.clone(), |y, conv| conv.forward(pass, &y, Relu));
        let shortcut = match &self.downsample {
            Some(project) => project.forward(pass, x, Identity),
            None => x.clone(),
        };
        last.forward_add_relu(pass, &y, &shortcut)
    }
}

impl Encoder for ResNet {
    fn features(&self, pass: &Pass, images: &Tensor) -> Features {
        let stem = self.stem.forward(pass, images, Relu);
        let mut x = max_pool(&stem, Window::square(3, 2, 1));
        let mut maps = vec![stem];
        for stage in &self.stages {
            x = stage.iter().fold(x, |x, block| block.forward(pass, &x));
            maps.push(x.clone());
        }
        maps.into()
    }

    fn channels(&self) -> Vec<usize> {
        self.channels.clone()
    }
}
