//! The memory that training will need, from a step that is not computed.

use super::{Config, Objective, Optimiser, Precision, step::Steps};
use crate::{
    Result,
    data::Batch,
    device::dry::{Dry, Like},
    models::{self, Ends, Model},
    task::Loss,
};

/// Bytes of tensors that training holds on its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// Type of images and activations.
    pub precision: Precision,
    /// Parameters and running statistics, with their rounded copies where images are of a half type.
    pub weights: usize,
    /// What the optimiser remembers of each parameter.
    pub optimiser: usize,
    /// The gradients at most: those of all trained parameters, were a step to reach every one. A part of `peak`.
    pub gradients: usize,
    /// All tensors at the fullest moment of a step.
    pub peak: usize,
    /// What the device obtains from the machine for them: blocks that wait for reuse included.
    pub held: usize,
}

/// Steps until no new memory is asked for.
const STEPS: u64 = 2;

/// What training by `config` with `classes` classes will hold on a device like that: steps of training on a dry device,
/// through the code of real ones.
///
/// # Errors
/// A recipe that cannot work, among them a precision that the device does not compute in.
pub fn forecast(config: &Config, classes: usize, like: Like) -> Result<Forecast> {
    config.check()?;
    let device = Dry::new(like);
    let precision = Precision::resolve(config.precision, &*device)?;
    let dtype = precision.dtype();
    let ends = Ends { channels: config.channels, inputs: config.columns.inputs.len(), classes };
    let mut model = Model::between(&config.model, ends, &device, dtype, config.seed)?;
    model.check_size(config.size)?;
    let weights = device.memory().in_use;
    let optimiser = Optimiser::new(&mut model, config)?;
    let with_optimiser = device.memory().in_use;
    let ones = vec![1.0; classes];
    let dense = models::is_dense(&config.model) == Some(true);
    let objective = if dense {
        Objective::Sigmoid { loss: Loss::DiceBce, weights: ones.clone(), positive: ones }
    } else {
        Objective::CrossEntropy { class_weights: ones, label_smoothing: config.label_smoothing }
    };
    let mut steps = Steps::new(objective, config.seed);
    // Nobody looks at the pixels.
    let (n, size) = (config.batch, config.size);
    let masks = vec![0; if dense { n * size * size * classes } else { 0 }];
    let batch = Batch { masks, ..Batch::plain(size, vec![], vec![0; n]) };
    for step in 0..STEPS {
        steps.train(&model, &optimiser, &batch, (step, config.lr))?;
    }
    let trained = model.params.iter().filter(|(_, entry)| entry.trained());
    let gradients = trained.map(|(_, entry)| entry.len() * dtype.wide().size()).sum();
    let memory = device.memory();
    Ok(Forecast {
        precision,
        weights,
        optimiser: with_optimiser - weights,
        gradients,
        peak: memory.peak,
        held: memory.held,
    })
}
