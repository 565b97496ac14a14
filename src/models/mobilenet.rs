//! MobileNetV3 (Howard et al. 2019).

use super::{
    Encoder, Inputs,
    head::{Head, Pooled},
    inverted_residual::{Chain, Shape, Squeeze, make_divisible},
};
use crate::{
    nn::{
        Builder, Init,
        layers::{Linear, Style},
    },
    ops::activation::Act::{self, HardSigmoid, HardSwish, Relu},
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
    encoder(b, inputs, SMALL)
}

pub fn large(b: &mut Builder, inputs: Inputs) -> Box<dyn Encoder> {
    encoder(b, inputs, LARGE)
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

fn encoder(b: &mut Builder, inputs: Inputs, table: &[Row]) -> Box<dyn Encoder> {
    let mut c = STEM;
    let block = |(i, &(kernel, expanded, k, gated, act, stride)): (usize, &Row)| {
        let channels = make_divisible(expanded as f64 / 4.0);
        let squeeze = gated.then_some(Squeeze { channels, act: Relu, gate: HardSigmoid });
        let shape = Shape { kernel, channels: [c, expanded, k], stride, act, squeeze, depth_drop: 0.0, style: STYLE };
        c = k;
        (format!("{}.block", i + 1), shape)
    };
    let blocks: Vec<_> = table.iter().enumerate().map(block).collect();
    Box::new(Chain::new(b, inputs, &blocks, (table.len() + 1, LAST * c), HardSwish))
}
