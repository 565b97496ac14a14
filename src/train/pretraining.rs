//! Recipes of pretraining: those of the RadiologyNET study, whose validation was by image and whose weights were kept by the
//! lowest validation loss.

use super::{Config, Optimizer, schedule::Course};
use crate::{
    data::{Augment, Fractions, Sampling},
    task::{Monitor, Task},
};

/// What differs between networks.
struct Network {
    name: &'static str,
    size: usize,
    lr: f64,
    patience: u32,
    validate_every: f64,
}

const fn network(name: &'static str, size: usize, lr: f64, patience: u32, validate_every: f64) -> Network {
    Network { name, size, lr, patience, validate_every }
}

const NETWORKS: [Network; 11] = [
    network("resnet18", 224, 1e-4, 2, 0.05),
    network("resnet34", 224, 1e-4, 2, 0.05),
    network("resnet50", 224, 1e-4, 10, 0.05),
    network("vgg16", 224, 1e-4, 5, 0.025),
    network("efficientnet_b3", 300, 1e-4, 25, 0.05),
    network("efficientnet_b4", 380, 1e-3, 25, 0.025),
    network("inception_v3", 299, 1e-3, 10, 0.05),
    network("densenet121", 224, 1e-4, 10, 0.05),
    network("mobilenet_v3_small", 224, 1e-4, 2, 0.025),
    network("mobilenet_v3_large", 224, 1e-4, 2, 0.025),
    network("unet_reconstruction", 224, 1e-4, 2, 0.01),
];

impl Config {
    /// For pretraining on a user's data: the network's row of the study, weight decay of 1e-3, a constant rate, batches of 32,
    /// balanced classes, at most 500 epochs; for reconstruction Adam and images as they are. U-Nets over a backbone take its row.
    pub fn for_pretraining(model: Option<&str>, task: Task) -> Config {
        let reconstruct = task == Task::Reconstruction;
        let model = model.unwrap_or(if reconstruct { "unet_reconstruction" } else { "resnet18" });
        let row = NETWORKS.iter().find(|network| model.contains(network.name)).unwrap_or(&NETWORKS[0]);
        Config {
            task,
            model: model.into(),
            size: row.size,
            epochs: 500,
            sampling: if task.counts_classes() { Sampling::Balanced } else { Sampling::Natural },
            optimizer: if reconstruct { Optimizer::Adam } else { Optimizer::AdamW },
            lr: row.lr,
            schedule: Course::Constant,
            weight_decay: 1e-3,
            monitor: (!reconstruct).then_some(Monitor::Loss),
            patience: row.patience,
            validate_every: row.validate_every,
            split: Fractions { validation: 0.125, test: 0.125 },
            augment: if reconstruct { Augment::none() } else { Augment::default() },
            ..Config::default()
        }
    }

    /// The same on the embedded sample, which is small: as [`Config::for_sample`], with a look in the middle of each epoch.
    pub fn for_pretraining_on_sample(model: Option<&str>, task: Task) -> Config {
        let Config { size, epochs, batch, lr, schedule, patience, .. } = Config::for_sample();
        let validate_every = 0.5;
        Config { size, epochs, batch, lr, schedule, patience, validate_every, ..Config::for_pretraining(model, task) }
    }
}
