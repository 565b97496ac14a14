//! The backbones, by torchvision's names.

pub mod mobilenet;
pub mod resnet;

use crate::{
    Error, Result,
    device::{DType, Device},
    nn::{Builder, Mode, Network, Params, Pass},
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
    /// Number of classes.
    pub classes: usize,
    /// Least height and width of an image.
    pub least_size: usize,
    /// Its values.
    pub params: Params,
    network: Box<dyn Network>,
}

impl Model {
    /// Backbone `name` with a head for `classes` classes and initial weights drawn from `seed`.
    ///
    /// # Errors
    /// An unknown name, or a failure of the device.
    pub fn new(name: &str, classes: usize, device: &Arc<dyn Device>, dtype: DType, seed: u64) -> Result<Model> {
        let known = ALL.iter().find(|(known, ..)| *known == name);
        let &(name, least_size, make) = known.ok_or_else(|| {
            let all: Vec<_> = names().collect();
            Error::unusable(format!("there is no backbone called {name}"), format!("one of: {}", all.join(", ")))
        })?;
        let mut builder = Builder::default();
        let network = make(&mut builder, classes);
        let params = Params::new(builder, device, dtype, seed)?;
        Ok(Model { name, classes, least_size, params, network })
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

    /// Scores `[n, classes]` of images `[n, h, w, 3]`.
    #[track_caller]
    pub fn forward(&self, pass: &Pass, images: &Tensor) -> Tensor {
        self.network.forward(pass, images)
    }
}
