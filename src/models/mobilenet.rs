//! MobileNetV3 (Howard et al. 2019).

use super::{
    Encoder, Features, Inputs,
    head::{Head, Pooled},
    inverted_residual::{InvertedResidual, Shape, Squeeze, make_divisible},
};
use crate::{
    nn::{
        Builder, Init, Pass,
        layers::{ConvBn, Linear, Style},
    },
    ops::activation::Act::{self, HardSigmoid, HardSwish, Relu},
    shape::Window,
    tensor::Tensor,
};

const STYLE: Style = Style { eps: 1e-3, momentum: 0.01, ..Style::DEFAULT };

/// A row of the paper's tables: kernel, expanded channels, output channels, squeeze-and-excitation, activation, stride.
type Row = (usize, usize, usize, bool, Act, usize);

/// Table 1 of the paper.
const LARGE: &[Row] = &[
    (3, 16, 16, false, Relu, 1),
    (3, 64, 24, false, Relu, 2),
    (3, 72, 24, false, Relu, 1),
    (5, 72, 40, true, Relu, 2),
    (5, 120, 40, true, Relu, 1),
    (5, 120, 40, true, Relu, 1),
    (3, 240, 80, false, HardSwish, 2),
    (3, 200, 80, false, HardSwish, 1),
    (3, 184, 80, false, HardSwish, 1),
    (3, 184, 80, false, HardSwish, 1),
    (3, 480, 112, true, HardSwish, 1),
    (3, 672, 112, true, HardSwish, 1),
    (5, 672, 160, true, HardSwish, 2),
    (5, 960, 160, true, HardSwish, 1),
    (5, 960, 160, true, HardSwish, 1),
];

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
/// How much wider the last convolution is than the last block.
const LAST: usize = 6;

pub fn small(b: &mut Builder, inputs: Inputs) -> Box<dyn Encoder> {
    Box::new(MobileNetV3::new(b, inputs, SMALL))
}

pub fn large(b: &mut Builder, inputs: Inputs) -> Box<dyn Encoder> {
    Box::new(MobileNetV3::new(b, inputs, LARGE))
}

pub fn small_head(b: &mut Builder, features: usize, outputs: usize) -> Box<dyn Head> {
    head(b, [features, 1024, outputs])
}

pub fn large_head(b: &mut Builder, features: usize, outputs: usize) -> Box<dyn Head> {
    head(b, [features, 1280, outputs])
}

fn head(b: &mut Builder, [features, hidden, outputs]: [usize; 3]) -> Box<dyn Head> {
    let (weight, bias) = (Init::Normal(0.01), Init::Constant(0.0));
    let head = b.scope("classifier", |b| Pooled {
        hidden: Some((Linear::new(b, "0", (features, hidden), weight, bias), HardSwish)),
        dropout: 0.2,
        linear: Linear::new(b, "3", (hidden, outputs), weight, bias),
    });
    Box::new(head)
}

struct MobileNetV3 {
    table: &'static [Row],
    stem: ConvBn,
    blocks: Vec<InvertedResidual>,
    last: ConvBn,
}

impl MobileNetV3 {
    fn new(b: &mut Builder, inputs: Inputs, table: &'static [Row]) -> MobileNetV3 {
        b.scope("features", |b| {
            let window = Window::square(3, 2, 1);
            let stem = b.scope("0", |b| ConvBn::new(b, ("0", "1"), (inputs.channels, STEM), window, STYLE));
            let mut c = STEM;
            let blocks = table.iter().enumerate().map(|(i, &(kernel, expanded, k, gated, act, stride))| {
                let channels = make_divisible(expanded as f64 / 4.0);
                let squeeze = gated.then_some(Squeeze { channels, act: Relu, gate: HardSigmoid });
                let channels = [c, expanded, k];
                let shape = Shape { kernel, channels, stride, act, squeeze, depth_drop: 0.0, style: STYLE };
                c = k;
                b.scope(format!("{}.block", i + 1), |b| InvertedResidual::new(b, shape))
            });
            let blocks = blocks.collect();
            let last = b.scope(format!("{}", table.len() + 1), |b| {
                ConvBn::new(b, ("0", "1"), (c, LAST * c), Window::square(1, 1, 0), STYLE)
            });
            MobileNetV3 { table, stem, blocks, last }
        })
    }

    /// Whether block `i` (the stem for 0) is the last of its resolution, the last block aside.
    fn ends_resolution(&self, i: usize) -> bool {
        self.table.get(i).is_some_and(|&(.., stride)| stride == 2)
    }
}

impl Encoder for MobileNetV3 {
    fn features(&self, pass: &Pass, images: &Tensor) -> Features {
        let mut x = self.stem.forward(pass, images, HardSwish);
        let mut maps = vec![];
        for (i, block) in self.blocks.iter().enumerate() {
            if self.ends_resolution(i) {
                maps.push(x.clone());
            }
            x = block.forward(pass, &x);
        }
        maps.push(self.last.forward(pass, &x, HardSwish));
        maps.into()
    }

    fn channels(&self) -> Vec<usize> {
        let widths: Vec<_> = [STEM].into_iter().chain(self.table.iter().map(|row| row.2)).collect();
        let ends = (0..self.table.len()).filter(|&i| self.ends_resolution(i)).map(|i| widths[i]);
        ends.chain([LAST * widths[self.table.len()]]).collect()
    }
}
