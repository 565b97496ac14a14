//! The U-Net that the RadiologyNET study trained to reproduce its input: small, without a backbone.
//!
//! Blocks of two 3×3 convolutions, each followed by ReLU and then normalisation; average pooling down, transposed
//! convolutions up, a sigmoid at the end. Sizes that do not divide by 4 are treated as in [`super::unet`].

use crate::{
    nn::{
        Builder, Init, Network, Pass, Scores,
        layers::{BatchNorm, ConvBias, Doubling, Style},
    },
    ops::{
        activation::Act::{Identity, Relu, Sigmoid},
        elementwise::{activate, widen},
        norm::batch_norm,
        pool::avg_pool,
        resample::crop_or_pad,
        slice::concat,
    },
    shape::Window,
    tensor::Tensor,
};

/// PyTorch's own initial convolutions: uniform in ±1/√fan_in.
const STYLE: Style = Style { init: |fan_in, _| Init::linear(fan_in), ..Style::DEFAULT };
/// Channels of each resolution.
const WIDTHS: [usize; 3] = [16, 32, 64];
/// Two halvings leave one pixel.
pub const LEAST_SIZE: usize = 4;

pub struct UNet {
    down: Vec<Block>,
    up: Vec<(Doubling, Block)>,
    last: ConvBias,
}

struct Block([(ConvBias, BatchNorm); 2]);

impl Block {
    fn new(b: &mut Builder, c: usize, k: usize) -> Block {
        // The published names count the activations too.
        let mut half = |at: usize, c: usize| {
            let name = at.to_string();
            let conv = ConvBias::new(b, &name, (c, k), Window::square(3, 1, 1), STYLE, Init::linear(9 * c));
            (conv, BatchNorm::new(b, &(at + 2).to_string(), k, STYLE))
        };
        Block([half(0, c), half(3, k)])
    }

    fn forward(&self, pass: &Pass, x: &Tensor) -> Tensor {
        self.0.iter().fold(x.clone(), |x, (conv, norm)| {
            batch_norm(&conv.forward(pass, &x, Relu), &pass.batch_norm(norm), Identity)
        })
    }
}

impl UNet {
    /// Declares one; outputs are usually as many as the channels.
    pub fn new(b: &mut Builder, channels: usize, outputs: usize) -> UNet {
        let mut c = channels;
        let down = WIDTHS.iter().enumerate().map(|(i, &k)| {
            let block = b.scope(format!("down_path.{i}.block"), |b| Block::new(b, c, k));
            c = k;
            block
        });
        let down = down.collect();
        let up = WIDTHS.iter().rev().skip(1).enumerate().map(|(i, &k)| {
            let step = b.scope(format!("up_path.{i}"), |b| {
                let up = Doubling::new(b, "up", (c, k), STYLE, Some(Init::linear(4 * k)));
                (up, b.scope("conv_block.block", |b| Block::new(b, 2 * k, k)))
            });
            c = k;
            step
        });
        let up = up.collect();
        let last = ConvBias::new(b, "last", (c, outputs), Window::square(1, 1, 0), STYLE, Init::linear(c));
        UNet { down, up, last }
    }
}

impl Network for UNet {
    fn forward(&self, pass: &Pass, images: &Tensor) -> Scores {
        let mut maps: Vec<Tensor> = vec![];
        for block in &self.down {
            let x = maps.last().map_or_else(|| images.clone(), |x| avg_pool(x, Window::square(2, 2, 0), false));
            maps.push(block.forward(pass, &x));
        }
        let mut x = maps.pop().expect("there are blocks");
        for (up, block) in &self.up {
            let beside = maps.pop().expect("a map for each doubling");
            let size = (beside.shape()[1], beside.shape()[2]);
            x = block.forward(pass, &concat(&[&crop_or_pad(&up.forward(pass, &x), size, (0, 0)), &beside]));
        }
        Scores { main: activate(&widen(&self.last.forward(pass, &x, Identity)), Sigmoid), auxiliary: None }
    }
}
