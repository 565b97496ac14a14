//! U-Net (Ronneberger et al. 2015) with the encoder of a backbone.
//!
//! The decoder goes back up the encoder's maps: it doubles the resolution, puts the encoder's map of that resolution
//! beside its own, and convolves twice. Where a resolution is odd, doubling gives one row or column too many or too few:
//! the map is cut, or filled with zeros, at the bottom and the right, so that images of any size are taken.

use super::{Encoder, Features};
use crate::{
    nn::{
        Builder, Init, Network, Pass, Scores,
        layers::{ConvBias, ConvBn, Doubling, Style},
    },
    ops::{
        activation::Act::{Identity, Relu},
        elementwise::widen,
        resample::{bilinear, crop_or_pad},
        slice::concat,
    },
    shape::Window,
    tensor::Tensor,
};

const STYLE: Style = Style::DEFAULT;
/// Channels of the decoder, from coarse to fine.
const WIDTHS: [usize; 5] = [256, 128, 64, 32, 16];

/// How the decoder enlarges.
#[derive(Clone, Copy)]
pub enum Upsampling {
    /// By a learnt transposed convolution.
    Transposed,
    /// By interpolation.
    Bilinear,
}

pub struct UNet {
    encoder: Box<dyn Encoder>,
    steps: Vec<Step>,
    last: ConvBias,
}

/// One doubling of the resolution.
struct Step {
    /// Without it, by interpolation.
    up: Option<Doubling>,
    conv1: ConvBn,
    conv2: ConvBn,
}

impl UNet {
    pub fn new(b: &mut Builder, encoder: Box<dyn Encoder>, upsampling: Upsampling, outputs: usize) -> UNet {
        let channels = encoder.channels();
        let (&deepest, beside) = channels.split_last().expect("an encoder has maps");
        // Beyond the finest map of an encoder that begins with a stride there is nothing to put beside.
        let beside = beside.iter().rev().copied().chain([0]);
        let mut c = deepest;
        let steps = WIDTHS.into_iter().zip(beside).enumerate().map(|(i, (width, beside))| {
            let step = b.scope(format!("decoder.{i}"), |b| Step::new(b, c, beside, width, upsampling));
            c = width;
            step
        });
        let steps = steps.collect();
        let last = ConvBias::new(b, "head", (c, outputs), Window::square(1, 1, 0), STYLE, Init::Constant(0.0));
        UNet { encoder, steps, last }
    }
}

impl Step {
    fn new(b: &mut Builder, c: usize, beside: usize, width: usize, upsampling: Upsampling) -> Step {
        let window = Window::square(3, 1, 1);
        let (up, c) = match upsampling {
            Upsampling::Transposed => (Some(Doubling::new(b, "up", (c, width), STYLE, None)), width),
            Upsampling::Bilinear => (None, c),
        };
        Step {
            up,
            conv1: ConvBn::new(b, ("conv1", "bn1"), (c + beside, width), window, STYLE),
            conv2: ConvBn::new(b, ("conv2", "bn2"), (width, width), window, STYLE),
        }
    }

    /// x at the given size, which is about twice its own, with `beside` behind its channels, convolved.
    fn forward(&self, pass: &Pass, x: &Tensor, size: (usize, usize), beside: Option<&Tensor>) -> Tensor {
        let x = match &self.up {
            Some(up) => {
                let x = up.forward(pass, x);
                // Half of an odd size doubled is a pixel off. Encoders that do not pad leave more, which zeros would not do for.
                let near = x.shape()[1].abs_diff(size.0) <= 1 && x.shape()[2].abs_diff(size.1) <= 1;
                if near { crop_or_pad(&x, size, (0, 0)) } else { bilinear(&x, size, false) }
            }
            None => bilinear(x, size, false),
        };
        let x = match beside {
            Some(beside) => concat(&[&x, beside]),
            None => x,
        };
        self.conv2.forward(pass, &self.conv1.forward(pass, &x, Relu), Relu)
    }
}

impl Network for UNet {
    fn forward(&self, pass: &Pass, images: &Tensor) -> Scores {
        let Features { mut maps, .. } = self.encoder.features(pass, images);
        let mut x = maps.pop().expect("an encoder has maps");
        for step in &self.steps {
            let beside = maps.pop();
            let like = beside.as_ref().unwrap_or(images).shape();
            x = step.forward(pass, &x, (like[1], like[2]), beside.as_ref());
        }
        Scores { main: widen(&self.last.forward(pass, &x, Identity)), auxiliary: None }
    }
}
