//! The backbones, by torchvision's names.

pub mod mobilenet;
pub mod resnet;

use crate::{
    Error, Result,
    device::{DType, Device},
    nn::{Builder, Init, Mode, Network, Params, Pass, layers::Linear},
    ops::elementwise::add,
    tensor::Tensor,
};
use std::sync::Arc;

type Make = fn(&mut Builder, usize) -> Box<dyn Network>;

/// Every backbone: name, least image size it can take, constructor from the number of classes.
const ALL: &[(&str, usize, Make)] = &[
    ("resnet18", 32, |b, classes| Box::new(resnet::ResNet::new(b, [2, 2, 2, 2], classes))),
    ("mobilenet_v3_small", 32, |b, classes| Box::new(mobilenet::MobileNetV3::small(b, classes))),
];

/// Names of all backbones.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, ..)| *name)
}

/// A network with its parameters on a device.
pub struct Model {
    /// Name of the backbone.
    pub name: &'static str,
    /// Number of outputs.
    pub classes: usize,
    /// Numbers that it is given beside an image.
    pub inputs: usize,
    /// Least height and width of an image.
    pub least_size: usize,
    /// Its values.
    pub params: Params,
    network: Box<dyn Network>,
    /// What the numbers beside an image add to the outputs.
    beside: Option<Linear>,
}

impl Model {
    /// Backbone `name` with a head of `classes` outputs and initial weights drawn from `seed`.
    ///
    /// # Errors
    /// An unknown name, or a failure of the device.
    pub fn new(name: &str, classes: usize, device: &Arc<dyn Device>, dtype: DType, seed: u64) -> Result<Model> {
        Model::with_inputs(name, (classes, 0), device, dtype, seed)
    }

    /// The same, given so many `inputs` beside each image: numbers around 0 that enter the last linear layer together with
    /// the features. That layer is linear in both, so their part of it is a layer of its own, `inputs.weight` and
    /// `inputs.bias`, whose result is added to the outputs, and the backbone stays as it is.
    ///
    /// # Errors
    /// As [`Model::new`].
    pub fn with_inputs(
        name: &str,
        (classes, inputs): (usize, usize),
        device: &Arc<dyn Device>,
        dtype: DType,
        seed: u64,
    ) -> Result<Model> {
        let known = ALL.iter().find(|(known, ..)| *known == name);
        let &(name, least_size, make) = known.ok_or_else(|| {
            let all: Vec<_> = names().collect();
            Error::unusable(format!("there is no backbone called {name}"), format!("one of: {}", all.join(", ")))
        })?;
        let mut builder = Builder::default();
        let network = make(&mut builder, classes);
        let init = Init::linear(inputs);
        let beside = (inputs > 0).then(|| Linear::new(&mut builder, "inputs", (inputs, classes), init, init));
        let params = Params::new(builder, device, dtype, seed)?;
        Ok(Model { name, classes, inputs, least_size, params, network, beside })
    }

    /// A pass in this mode.
    pub fn pass(&self, mode: Mode) -> Pass<'_> {
        Pass::new(&self.params, mode)
    }

    /// Outputs `[n, classes]` for images `[n, h, w, 3]`.
    #[track_caller]
    pub fn forward(&self, pass: &Pass, images: &Tensor) -> Tensor {
        self.forward_with(pass, images, None)
    }

    /// The same, given the numbers `[n, inputs]` beside the images.
    #[track_caller]
    pub fn forward_with(&self, pass: &Pass, images: &Tensor, inputs: Option<&Tensor>) -> Tensor {
        let outputs = self.network.forward(pass, images);
        match (&self.beside, inputs) {
            (Some(beside), Some(inputs)) => add(&outputs, &beside.forward(pass, inputs)),
            (None, None) => outputs,
            _ => panic!("{} takes {} numbers beside an image", self.name, self.inputs),
        }
    }
}
