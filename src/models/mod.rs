//! The backbones, by torchvision's names, and U-Nets over them.
//!
//! A backbone is an [`Encoder`], which turns images into feature maps, and a [`Head`], which turns the last map into
//! scores. `unet_NAME` is the encoder of backbone `NAME` with a decoder instead.

mod densenet;
mod efficientnet;
mod grad_cam;
mod head;
mod inception;
mod inverted_residual;
mod mobilenet;
mod reconstruction;
mod resnet;
mod unet;
mod vgg;

use crate::{
    Error, Result,
    device::{DType, Device},
    nn::{Builder, Init, Mode, Network, Params, Pass, Scores, layers::Linear},
    ops::elementwise::add,
    task::Task,
    tensor::Tensor,
};
use head::Head;
use std::sync::Arc;
use unet::{UNet, Upsampling};

/// The part of a backbone before its head.
trait Encoder: Send + Sync {
    /// Feature maps of images.
    fn features(&self, pass: &Pass, images: &Tensor) -> Features;
    /// Channels of each map.
    fn channels(&self) -> Vec<usize>;
}

/// What an encoder makes of images.
struct Features {
    /// For every halving of the resolution the last map that has it, from fine to coarse; the last is what the head reads.
    maps: Vec<Tensor>,
    /// Scores of an auxiliary head half-way, in training.
    auxiliary: Option<Tensor>,
}

impl From<Vec<Tensor>> for Features {
    fn from(maps: Vec<Tensor>) -> Features {
        Features { maps, auxiliary: None }
    }
}

/// What an encoder is declared for.
#[derive(Clone, Copy)]
struct Inputs {
    /// Channels of an image.
    channels: usize,
    /// Outputs of an auxiliary head, where the backbone has one and it is wanted.
    auxiliary: Option<usize>,
}

/// A row of [`BACKBONES`].
struct Backbone {
    name: &'static str,
    /// Least height and width of an image.
    least_size: usize,
    encoder: fn(&mut Builder, Inputs) -> Box<dyn Encoder>,
    /// From channels of the last map and number of outputs.
    head: fn(&mut Builder, usize, usize) -> Box<dyn Head>,
}

const BACKBONES: &[Backbone] = &[
    Backbone { name: "resnet18", least_size: 32, encoder: resnet::resnet18, head: resnet::head },
    Backbone { name: "resnet34", least_size: 32, encoder: resnet::resnet34, head: resnet::head },
    Backbone { name: "resnet50", least_size: 32, encoder: resnet::resnet50, head: resnet::head },
    Backbone { name: "vgg16", least_size: 32, encoder: vgg::vgg16, head: vgg::head },
    Backbone { name: "densenet121", least_size: 32, encoder: densenet::densenet121, head: densenet::head },
    Backbone { name: "inception_v3", least_size: 75, encoder: inception::inception_v3, head: inception::head },
    Backbone { name: "efficientnet_b3", least_size: 32, encoder: efficientnet::b3, head: efficientnet::b3_head },
    Backbone { name: "efficientnet_b4", least_size: 32, encoder: efficientnet::b4, head: efficientnet::b4_head },
    Backbone { name: "mobilenet_v3_small", least_size: 32, encoder: mobilenet::small, head: mobilenet::small_head },
    Backbone { name: "mobilenet_v3_large", least_size: 32, encoder: mobilenet::large, head: mobilenet::large_head },
];

/// What the name of a U-Net over a backbone begins with.
const UNET: &str = "unet_";
/// What it ends with if the decoder enlarges by interpolation.
const BILINEAR: &str = "_bilinear";
/// The U-Net without a backbone that learns to reconstruct images.
const RECONSTRUCTION: &str = "unet_reconstruction";

/// Names of all backbones.
pub fn names() -> impl Iterator<Item = &'static str> {
    BACKBONES.iter().map(|backbone| backbone.name)
}

/// Whether network `name` has outputs for each pixel; `None` if there is no such network.
pub fn is_dense(name: &str) -> Option<bool> {
    Some(!matches!(Plan::find(name)?, Plan::Classifier(_)))
}

/// What network `name` is tried on where nothing says for what it is.
pub fn usual_task(name: &str) -> Task {
    match is_dense(name) {
        Some(true) if ends_in_sigmoid(name) => Task::Reconstruction,
        Some(true) => Task::Segmentation,
        _ => Task::MultiClass,
    }
}

/// Whether the outputs of network `name` are intensities from 0 to 1.
pub fn ends_in_sigmoid(name: &str) -> bool {
    name == RECONSTRUCTION
}

/// The error of a network that there is not.
pub fn unknown(name: &str) -> Error {
    let all: Vec<_> = names().collect();
    let remedy = format!("one of: {}; or {UNET}NAME, {UNET}NAME{BILINEAR} of these", all.join(", "));
    Error::unusable(format!("there is no network called {name}"), remedy)
}

/// A network by name, before it has parameters.
enum Plan {
    Classifier(&'static Backbone),
    UNet(&'static Backbone, Upsampling),
    Reconstruction,
}

impl Plan {
    fn find(name: &str) -> Option<Plan> {
        let backbone = |name: &str| BACKBONES.iter().find(|backbone| backbone.name == name);
        match name.strip_prefix(UNET) {
            None => backbone(name).map(Plan::Classifier),
            Some(_) if name == RECONSTRUCTION => Some(Plan::Reconstruction),
            Some(rest) => Some(match rest.strip_suffix(BILINEAR) {
                None => Plan::UNet(backbone(rest)?, Upsampling::Transposed),
                Some(rest) => Plan::UNet(backbone(rest)?, Upsampling::Bilinear),
            }),
        }
    }

    fn least_size(&self) -> usize {
        match self {
            Plan::Classifier(backbone) | Plan::UNet(backbone, _) => backbone.least_size,
            Plan::Reconstruction => reconstruction::LEAST_SIZE,
        }
    }

    fn declare(&self, b: &mut Builder, channels: usize, outputs: usize) -> Parts {
        match self {
            Plan::Classifier(backbone) => {
                let encoder = (backbone.encoder)(b, Inputs { channels, auxiliary: Some(outputs) });
                let features = *encoder.channels().last().expect("an encoder has maps");
                Parts::Classifier(Classifier { encoder, head: (backbone.head)(b, features, outputs) })
            }
            Plan::UNet(backbone, upsampling) => {
                let inputs = Inputs { channels, auxiliary: None };
                let encoder = b.scope("encoder", |b| (backbone.encoder)(b, inputs));
                Parts::Dense(Box::new(UNet::new(b, encoder, *upsampling, outputs)))
            }
            Plan::Reconstruction => Parts::Dense(Box::new(reconstruction::UNet::new(b, channels, outputs))),
        }
    }
}

/// What a network is made of.
enum Parts {
    Classifier(Classifier),
    /// A network with outputs for each pixel.
    Dense(Box<dyn Network>),
}

impl Network for Parts {
    fn forward(&self, pass: &Pass, images: &Tensor) -> Scores {
        match self {
            Parts::Classifier(classifier) => classifier.forward(pass, images),
            Parts::Dense(network) => network.forward(pass, images),
        }
    }
}

/// A backbone with its head.
struct Classifier {
    encoder: Box<dyn Encoder>,
    head: Box<dyn Head>,
}

impl Network for Classifier {
    fn forward(&self, pass: &Pass, images: &Tensor) -> Scores {
        let Features { maps, auxiliary } = self.encoder.features(pass, images);
        let last = maps.last().expect("an encoder has maps");
        Scores { main: self.head.scores(pass, last), auxiliary }
    }
}

/// What goes into a network and what comes out.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Channels of an image.
    pub channels: usize,
    /// Numbers around 0 that are given beside an image. They enter the last linear layer together with the features; that
    /// layer is linear in both, so their part of it is a layer of its own, `inputs.weight` and `inputs.bias`, whose result
    /// is added to the outputs, and the backbone stays as it is.
    pub inputs: usize,
    /// Number of classes, or of other outputs.
    pub classes: usize,
}

/// A network with its parameters on a device.
pub struct Model {
    /// Its name.
    pub name: String,
    /// Number of classes, or of other outputs.
    pub classes: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Numbers that it is given beside an image.
    pub inputs: usize,
    /// Least height and width of an image.
    pub least_size: usize,
    /// Its values.
    pub params: Params,
    network: Parts,
    /// What the numbers beside an image add to the outputs.
    beside: Option<Linear>,
}

impl Model {
    /// Network `name` for images of three channels, with `classes` outputs and initial weights drawn from `seed`.
    ///
    /// # Errors
    /// An unknown name, or a failure of the device.
    pub fn new(name: &str, classes: usize, device: &Arc<dyn Device>, dtype: DType, seed: u64) -> Result<Model> {
        Model::between(name, Ends { channels: 3, inputs: 0, classes }, device, dtype, seed)
    }

    /// The same between any `ends`.
    ///
    /// # Errors
    /// As [`Model::new`].
    pub fn between(name: &str, ends: Ends, device: &Arc<dyn Device>, dtype: DType, seed: u64) -> Result<Model> {
        let Ends { channels, inputs, classes } = ends;
        let plan = Plan::find(name).ok_or_else(|| unknown(name))?;
        let mut builder = Builder::default();
        let network = plan.declare(&mut builder, channels, classes);
        let init = Init::linear(inputs);
        let beside = (inputs > 0).then(|| Linear::new(&mut builder, "inputs", (inputs, classes), init, init));
        let params = Params::new(builder, device, dtype, seed)?;
        let least_size = plan.least_size();
        Ok(Model { name: name.into(), classes, channels, inputs, least_size, params, network, beside })
    }

    /// Refuses images of side `size` that it cannot take.
    ///
    /// # Errors
    /// Images that are too small, with the least size.
    pub fn check_size(&self, size: usize) -> Result<()> {
        if size >= self.least_size {
            return Ok(());
        }
        let problem = format!("{} cannot take images of {size} px", self.name);
        Err(Error::unusable(problem, format!("--size {} or more", self.least_size)))
    }

    /// A pass in this mode.
    pub fn pass(&self, mode: Mode) -> Pass<'_> {
        Pass::new(&self.params, mode)
    }

    /// Scores of images `[n, h, w, channels]`: `[n, classes]`, or `[n, h, w, classes]` of a U-Net.
    #[track_caller]
    pub fn forward(&self, pass: &Pass, images: &Tensor) -> Tensor {
        self.scores(pass, images, None).main
    }

    /// The same with the scores of an auxiliary head, which InceptionV3 has in training, given the numbers `[n, inputs]` beside
    /// the images.
    #[track_caller]
    pub fn scores(&self, pass: &Pass, images: &Tensor, inputs: Option<&Tensor>) -> Scores {
        let Scores { main, auxiliary } = self.network.forward(pass, images);
        match (&self.beside, inputs) {
            (Some(beside), Some(inputs)) => {
                let beside = beside.forward(pass, inputs);
                Scores { main: add(&main, &beside), auxiliary: auxiliary.map(|scores| add(&scores, &beside)) }
            }
            (None, None) => Scores { main, auxiliary },
            _ => panic!("{} takes {} numbers beside an image", self.name, self.inputs),
        }
    }
}
