//! EfficientNet (Tan and Le 2019).

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
    ops::activation::Act::{Sigmoid, Silu},
};

const STYLE: Style = Style::DEFAULT;

/// A row of the paper's table 1 (network B0): expansion, kernel, stride, output channels, blocks.
type Row = (usize, usize, usize, usize, usize);

const B0: [Row; 7] = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
];
/// Channels of B0's stem.
const STEM: usize = 32;
/// How much wider the last convolution is than the last block.
const LAST: usize = 4;
/// Probability of leaving out the block behind the last; it grows linearly from 0 at the first.
const DEPTH_DROP: f64 = 0.2;

/// How much wider and deeper than B0 a network is.
struct Scaling {
    width: f64,
    depth: f64,
}

pub fn b3(b: &mut Builder, inputs: Inputs) -> Box<dyn Encoder> {
    encoder(b, inputs, Scaling { width: 1.2, depth: 1.4 })
}

pub fn b4(b: &mut Builder, inputs: Inputs) -> Box<dyn Encoder> {
    encoder(b, inputs, Scaling { width: 1.4, depth: 1.8 })
}

pub fn b3_head(b: &mut Builder, features: usize, outputs: usize) -> Box<dyn Head> {
    head(b, features, outputs, 0.3)
}

pub fn b4_head(b: &mut Builder, features: usize, outputs: usize) -> Box<dyn Head> {
    head(b, features, outputs, 0.4)
}

fn head(b: &mut Builder, features: usize, outputs: usize, dropout: f32) -> Box<dyn Head> {
    // torchvision takes the number of outputs for the fan.
    let (weight, bias) = (Init::linear(outputs), Init::Constant(0.0));
    let linear = b.scope("classifier", |b| Linear::new(b, "1", (features, outputs), weight, bias));
    Box::new(Pooled { hidden: None, dropout, linear })
}

fn encoder(b: &mut Builder, inputs: Inputs, scaling: Scaling) -> Box<dyn Encoder> {
    let width = |c: usize| make_divisible(c as f64 * scaling.width);
    let depth = |blocks: usize| (blocks as f64 * scaling.depth).ceil() as usize;
    let total: usize = B0.iter().map(|row| depth(row.4)).sum();
    let (mut c, mut blocks) = (width(STEM), vec![]);
    for (stage, &(expansion, kernel, stride, k, repeats)) in B0.iter().enumerate() {
        for i in 0..depth(repeats) {
            let shape = Shape {
                kernel,
                channels: [c, expansion * c, width(k)],
                stride: if i == 0 { stride } else { 1 },
                act: Silu,
                squeeze: Some(Squeeze { channels: c / 4, act: Silu, gate: Sigmoid }),
                depth_drop: (DEPTH_DROP * blocks.len() as f64 / total as f64) as f32,
                style: STYLE,
            };
            blocks.push((format!("{}.{i}.block", stage + 1), shape));
            c = width(k);
        }
    }
    Box::new(Chain::new(b, inputs, &blocks, (B0.len() + 1, LAST * c), Silu))
}
