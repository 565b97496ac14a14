//! MobileNetV3 (Howard et al. 2019).

use crate::{
    nn::{
        Builder, Init, Network, Pass,
        layers::{ConvBn, Linear, NormStyle},
    },
    ops::{
        activation::Act::{self, HardSigmoid, HardSwish, Identity, Relu},
        elementwise::{activate, add, scale_channels},
        pool::global_avg_pool,
    },
    shape::Window,
    tensor::Tensor,
};

const STYLE: NormStyle = NormStyle { eps: 1e-3, momentum: 0.01 };

/// A row of the paper's table: kernel, expanded channels, output channels, squeeze-and-excitation, activation, stride.
type Row = (usize, usize, usize, bool, Act, usize);

/// Table 2 of the paper.
const SMALL: &[Row] = &[
    (3, 16, 16, true, Relu, 2),
    (3, 72, 24, false, Relu, 2),
    (3, 88, 24, false, Relu, 1),
    (5, 96, 40, true, HardSwish, 2),
    (5, 240, 40, true, HardSwish, 1),
    (5, 240, 40, true, HardSwish, 1),
    (5, 120, 48, true, HardSwish, 1),
    (5, 144, 48, true, HardSwish, 1),
    (5, 288, 96, true, HardSwish, 2),
    (5, 576, 96, true, HardSwish, 1),
    (5, 576, 96, true, HardSwish, 1),
];

/// Channels after the stem.
const STEM: usize = 16;

/// MobileNetV3, small.
pub struct MobileNetV3 {
    stem: ConvBn,
    blocks: Vec<InvertedResidual>,
    last: ConvBn,
    hidden: Linear,
    classifier: Linear,
}

/// Expansion by a 1×1 convolution, depthwise convolution, gate, projection.
struct InvertedResidual {
    expand: Option<ConvBn>,
    depthwise: ConvBn,
    gate: Option<Gate>,
    project: ConvBn,
    act: Act,
    shortcut: bool,
}

/// Squeeze-and-excitation with a hard sigmoid.
struct Gate {
    fc1: Linear,
    fc2: Linear,
}

impl MobileNetV3 {
    /// Declares the small network.
    pub fn small(b: &mut Builder, classes: usize) -> MobileNetV3 {
        MobileNetV3::new(b, SMALL, 1024, classes)
    }

    fn new(b: &mut Builder, table: &[Row], hidden: usize, classes: usize) -> MobileNetV3 {
        let (stem, blocks, last, features) = b.scope("features", |b| {
            let stem = b.scope("0", |b| ConvBn::new(b, ("0", "1"), (3, STEM), Window::square(3, 2, 1), STYLE));
            let mut c = STEM;
            let blocks = table.iter().enumerate().map(|(i, row)| {
                let block = b.scope(format!("{}.block", i + 1), |b| InvertedResidual::new(b, c, row));
                c = row.2;
                block
            });
            let blocks: Vec<_> = blocks.collect();
            let features = 6 * c;
            let last = b.scope(format!("{}", table.len() + 1), |b| {
                ConvBn::new(b, ("0", "1"), (c, features), Window::square(1, 1, 0), STYLE)
            });
            (stem, blocks, last, features)
        });
        let (weight, bias) = (Init::Normal(0.01), Init::Constant(0.0));
        let (hidden, classifier) = b.scope("classifier", |b| {
            let first = Linear::new(b, "0", (features, hidden), weight, bias);
            (first, Linear::new(b, "3", (hidden, classes), weight, bias))
        });
        MobileNetV3 { stem, blocks, last, hidden, classifier }
    }
}

impl InvertedResidual {
    fn new(b: &mut Builder, c: usize, &(kernel, expanded, k, gated, act, stride): &Row) -> InvertedResidual {
        let pointwise = Window::square(1, 1, 0);
        // torchvision numbers the parts of a block by what is there.
        let mut part = 0..;
        let mut next = || part.next().expect("an endless range").to_string();
        let expand =
            (expanded != c).then(|| b.scope(next(), |b| ConvBn::new(b, ("0", "1"), (c, expanded), pointwise, STYLE)));
        let window = Window::square(kernel, stride, (kernel - 1) / 2);
        let depthwise = b.scope(next(), |b| ConvBn::depthwise(b, ("0", "1"), expanded, window, STYLE));
        let gate = gated.then(|| b.scope(next(), |b| Gate::new(b, expanded)));
        let project = b.scope(next(), |b| ConvBn::new(b, ("0", "1"), (expanded, k), pointwise, STYLE));
        InvertedResidual { expand, depthwise, gate, project, act, shortcut: stride == 1 && c == k }
    }

    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let y = match &self.expand {
            Some(expand) => expand.forward(pass, x, self.act),
            None => x.clone(),
        };
        let y = self.depthwise.forward(pass, &y, self.act);
        let y = match &self.gate {
            Some(gate) => gate.forward(pass, &y),
            None => y,
        };
        let y = self.project.forward(pass, &y, Identity);
        if self.shortcut { add(&y, x) } else { y }
    }
}

impl Gate {
    fn new(b: &mut Builder, c: usize) -> Gate {
        let squeezed = make_divisible(c / 4);
        let bias = Init::Constant(0.0);
        Gate {
            fc1: Linear::pointwise(b, "fc1", (c, squeezed), Init::kaiming_fan_out(squeezed), bias),
            fc2: Linear::pointwise(b, "fc2", (squeezed, c), Init::kaiming_fan_out(c), bias),
        }
    }

    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        let squeezed = activate(&self.fc1.forward(pass, &global_avg_pool(x)), Relu);
        scale_channels(x, &activate(&self.fc2.forward(pass, &squeezed), HardSigmoid))
    }
}

/// The nearest multiple of 8, but not less than nine tenths: the paper's rule for channel counts.
fn make_divisible(c: usize) -> usize {
    let nearest = ((c + 4) / 8 * 8).max(8);
    if nearest * 10 < c * 9 { nearest + 8 } else { nearest }
}

impl Network for MobileNetV3 {
    fn forward(&self, pass: &Pass, images: &Tensor) -> Tensor {
        let x = self.stem.forward(pass, images, HardSwish);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(pass, &x));
        let x = self.last.forward(pass, &x, HardSwish);
        let x = activate(&self.hidden.forward(pass, &global_avg_pool(&x)), HardSwish);
        self.classifier.forward(pass, &pass.dropout(&x, 0.2))
    }
}
