//! What training will need: its memory, from steps that are not computed, and its time, from steps that are.

use super::{Config, Objective, Optimiser, Precision, step::Steps};
use crate::{
    Result,
    data::Batch,
    device::{
        Device,
        dry::{Dry, Like},
    },
    models::{self, Ends, Model},
};
use std::{sync::Arc, time::Instant};

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
    let device: Arc<dyn Device> = Dry::new(like);
    let mut trial = Trial::new(config, classes, &device)?;
    let weights = trial.weights;
    for step in 0..STEPS {
        trial.step(step)?;
    }
    let trained = trial.model.params.iter().filter(|(_, entry)| entry.trained());
    let gradients = trained.map(|(_, entry)| entry.len() * trial.precision.dtype().wide().size()).sum();
    let memory = device.memory();
    Ok(Forecast {
        precision: trial.precision,
        weights,
        optimiser: trial.with_optimiser - weights,
        gradients,
        peak: memory.peak,
        held: memory.held,
    })
}

/// How fast training goes on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Images a second in its steps, without loading them.
    pub images: f64,
    /// Seconds before the first step: the network is built and its weights are drawn.
    pub begin: f64,
}

/// The pace of training by `config` on `device`.
///
/// # Errors
/// A recipe that cannot work; a failure of the device.
pub fn pace(config: &Config, classes: usize, device: &Arc<dyn Device>) -> Result<Pace> {
    let start = Instant::now();
    let mut trial = Trial::new(config, classes, device)?;
    let begin = start.elapsed().as_secs_f64();
    trial.batch.pixels = vec![0; config.batch * config.size * config.size];
    trial.step(0)?;
    let start = Instant::now();
    trial.step(1)?;
    Ok(Pace { images: config.batch as f64 / start.elapsed().as_secs_f64(), begin })
}

/// Training on images without pixels, at which a dry device does not look.
struct Trial<'a> {
    config: &'a Config,
    model: Model,
    optimiser: Optimiser,
    steps: Steps,
    batch: Batch,
    precision: Precision,
    /// Bytes in use on the device with the weights, and with the optimiser.
    weights: usize,
    with_optimiser: usize,
}

impl Trial<'_> {
    fn new<'a>(config: &'a Config, classes: usize, device: &Arc<dyn Device>) -> Result<Trial<'a>> {
        config.check()?;
        let precision = Precision::resolve(config.precision, &**device)?;
        let ends = Ends { channels: config.channels, inputs: config.columns.inputs.len(), classes };
        let mut model = Model::between(&config.model, ends, device, precision.dtype(), config.seed)?;
        model.check_size(config.size)?;
        let weights = device.memory().in_use;
        let optimiser = Optimiser::new(&mut model, config)?;
        let with_optimiser = device.memory().in_use;
        let dense = models::is_dense(&config.model) == Some(true);
        let (n, size) = (config.batch, config.size);
        let masks = vec![0; if dense { n * size * size * classes } else { 0 }];
        let batch = Batch { masks, inputs: vec![0.0; n * ends.inputs], ..Batch::plain(size, vec![], vec![0; n]) };
        let steps = Steps::new(Objective::plain(&config.model, classes), config.seed);
        Ok(Trial { config, model, optimiser, steps, batch, precision, weights, with_optimiser })
    }

    fn step(&mut self, step: u64) -> Result<()> {
        self.steps.train(&self.model, &self.optimiser, &self.batch, (step, self.config.lr)).map(drop)
    }
}
