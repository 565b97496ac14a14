//! VGG16 (Simonyan and Zisserman 2015), without batch normalisation.

use super::{Encoder, Features, Inputs, head::Head};
use crate::{
    nn::{
        Builder, Init, Pass,
        layers::{ConvBias, Linear, Style},
    },
    ops::{
        activation::Act::Relu,
        elementwise::{activate, widen},
        pool::{adaptive_avg_pool, max_pool},
    },
    shape::Window,
    tensor::Tensor,
};

/// Configuration D of the paper's table 1: channels of the 3×3 convolutions between the poolings.
const STAGES: [&[usize]; 5] = [&[64, 64], &[128, 128], &[256, 256, 256], &[512, 512, 512], &[512, 512, 512]];
/// Side of the map that the head flattens.
const GRID: usize = 7;
/// Features of the hidden layers.
const HIDDEN: usize = 4096;
const DROPOUT: f32 = 0.5;

struct Vgg {
    stages: Vec<Vec<ConvBias>>,
}

pub fn vgg16(b: &mut Builder, inputs: Inputs) -> Box<dyn Encoder> {
    let mut c = inputs.channels;
    // torchvision counts activations and poolings too.
    let mut place = 0;
    let stages = b.scope("features", |b| {
        let stage = |widths: &&[usize]| {
            let conv = |&k: &usize| {
                let window = Window::square(3, 1, 1);
                let conv = ConvBias::new(b, &place.to_string(), (c, k), window, Style::DEFAULT, Init::Constant(0.0));
                (c, place) = (k, place + 2);
                conv
            };
            let convs = widths.iter().map(conv).collect();
            place += 1;
            convs
        };
        STAGES.iter().map(stage).collect()
    });
    Box::new(Vgg { stages })
}

impl Encoder for Vgg {
    fn features(&self, pass: &Pass, images: &Tensor) -> Features {
        let mut maps = vec![];
        let mut x = images.clone();
        for stage in &self.stages {
            let map = stage.iter().fold(x, |x, conv| conv.forward(pass, &x, Relu));
            x = max_pool(&map, Window::square(2, 2, 0));
            maps.push(map);
        }
        maps.push(x);
        maps.into()
    }

    fn channels(&self) -> Vec<usize> {
        let widths = STAGES.iter().map(|stage| stage[0]);
        widths.chain([STAGES[4][2]]).collect()
    }
}

/// Three linear layers over the flattened map.
struct Flattened {
    first: Linear,
    second: Linear,
    last: Linear,
}

pub fn head(b: &mut Builder, features: usize, outputs: usize) -> Box<dyn Head> {
    let (weight, bias) = (Init::Normal(0.01), Init::Constant(0.0));
    let head = b.scope("classifier", |b| Flattened {
        first: Linear::flattening(b, "0", [GRID, GRID, features], HIDDEN, weight, bias),
        second: Linear::new(b, "3", (HIDDEN, HIDDEN), weight, bias),
        last: Linear::new(b, "6", (HIDDEN, outputs), weight, bias),
    });
    Box::new(head)
}

impl Head for Flattened {
    fn scores(&self, pass: &Pass, map: &Tensor) -> Tensor {
        let x = widen(&self.first.forward(pass, &adaptive_avg_pool(map, (GRID, GRID))));
        let x = pass.dropout(&activate(&x, Relu), DROPOUT);
        let x = pass.dropout(&activate(&self.second.forward(pass, &x), Relu), DROPOUT);
        self.last.forward(pass, &x)
    }
}
