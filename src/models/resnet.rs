//! ResNet (He et al. 2016).

use crate::{
    nn::{
        Builder, Init, Network, Pass,
        layers::{ConvBn, Linear, NormStyle},
    },
    ops::{
        activation::Act,
        pool::{global_avg_pool, max_pool},
    },
    shape::Window,
    tensor::Tensor,
};

/// A residual network of basic blocks: 18 or 34 layers.
pub struct ResNet {
    stem: ConvBn,
    blocks: Vec<BasicBlock>,
    fc: Linear,
}

/// Two 3×3 convolutions and a shortcut, projected where the shape changes.
struct BasicBlock {
    conv1: ConvBn,
    conv2: ConvBn,
    downsample: Option<ConvBn>,
}

impl ResNet {
    /// Declares a network with this many blocks in each of the four stages.
    pub fn new(b: &mut Builder, depths: [usize; 4], classes: usize) -> ResNet {
        let stem = ConvBn::new(b, ("conv1", "bn1"), (3, 64), Window::square(7, 2, 3), NormStyle::DEFAULT);
        let mut blocks = vec![];
        let mut c = 64;
        for (stage, (depth, k)) in depths.into_iter().zip([64, 128, 256, 512]).enumerate() {
            for i in 0..depth {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                blocks.push(b.scope(format!("layer{}.{i}", stage + 1), |b| BasicBlock::new(b, c, k, stride)));
                c = k;
            }
        }
        let init = Init::linear(c);
        ResNet { stem, blocks, fc: Linear::new(b, "fc", (c, classes), init, init) }
    }
}

impl BasicBlock {
    fn new(b: &mut Builder, c: usize, k: usize, stride: usize) -> BasicBlock {
        let style = NormStyle::DEFAULT;
        let conv1 = ConvBn::new(b, ("conv1", "bn1"), (c, k), Window::square(3, stride, 1), style);
        let conv2 = ConvBn::new(b, ("conv2", "bn2"), (k, k), Window::square(3, 1, 1), style);
        let project = |b: &mut Builder| ConvBn::new(b, ("0", "1"), (c, k), Window::square(1, stride, 0), style);
        let downsample = (stride != 1 || c != k).then(|| b.scope("downsample", project));
        BasicBlock { conv1, conv2, downsample }
    }

    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let y = self.conv1.forward(pass, x, Act::Relu);
        let shortcut = match &self.downsample {
            Some(project) => project.forward(pass, x, Act::Identity),
            None => x.clone(),
        };
        self.conv2.forward_add_relu(pass, &y, &shortcut)
    }
}

impl Network for ResNet {
    fn forward(&self, pass: &Pass, images: &Tensor) -> Tensor {
        let x = self.stem.forward(pass, images, Act::Relu);
        let x = max_pool(&x, Window::square(3, 2, 1));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(pass, &x));
        self.fc.forward(pass, &global_avg_pool(&x))
    }
}
