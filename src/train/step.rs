//! One step of training, and evaluation over a loader.

use super::{head::Head, objective::Objective, optimiser::Optimiser};
use crate::{
    Error, Result,
    data::{Batch, Loader},
    device::{Block, DType, Device, Replay},
    metrics::Predictions,
    models::Model,
    nn::{Id, Mode, Pass, Scores},
    ops::elementwise::{add, scale},
    tensor::Tensor,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// What a step saw.
#[derive(Clone, Copy, Debug)]
pub struct StepResult {
    /// Mean loss of the batch, before the update.
    pub loss: f64,
    /// Images that were predicted rightly; 0 where the objective has no classes.
    pub right: u64,
}

/// Outputs for the images of a batch: `[n, outputs]`, or `[n, size, size, outputs]` of a network that segments.
pub fn forward(model: &Model, pass: &Pass, batch: &Batch) -> Tensor {
    let images = pass.images([batch.len(), batch.size, batch.size, model.channels], &batch.images);
    let wide = model.params.dtype().wide();
    let given = (model.inputs > 0)
        .then(|| pass.tape().upload(&[batch.len(), model.inputs], wide, &wide.encode_single(&batch.inputs)));
    model.scores(pass, &images, given.as_ref()).main
}

/// What a step reads that changes from step to step, in memory of its own, so that a recorded step finds it again.
struct Inputs {
    shape: [usize; 4],
    dtype: DType,
    images: Arc<Block>,
    /// What the objective compares outputs with.
    targets: Arc<Block>,
    /// The numbers beside the images, if the network takes any.
    given: Option<Arc<Block>>,
    step: Arc<Block>,
}

impl Inputs {
    /// Room for a `batch` that `model` is given.
    fn new(model: &Model, objective: &Objective, batch: &Batch) -> Result<Inputs> {
        let (device, dtype) = (model.params.device(), model.params.dtype());
        let shape = [batch.len(), batch.size, batch.size, model.channels];
        let images = device.alloc(shape.iter().product::<usize>() * dtype.size(), "images")?;
        let targets = device.alloc(objective.targets(batch, dtype).len(), "targets")?;
        let given = match batch.inputs.len() {
            0 => None,
            len => Some(device.alloc(len * dtype.wide().size(), "numbers beside images")?),
        };
        Ok(Inputs { shape, dtype, images, targets, given, step: device.alloc(size_of::<u32>(), "step")? })
    }

    fn fit(&self, batch: &Batch) -> bool {
        self.shape[..2] == [batch.len(), batch.size]
    }

    fn set(&self, device: &dyn Device, objective: &Objective, batch: &Batch, step: u64) -> Result<()> {
        if !device.holds_values() {
            return Ok(());
        }
        device.upload(bytemuck::bytes_of(&(step as u32)), &self.step)?;
        device.upload(&self.dtype.encode_single(&batch.images), &self.images)?;
        if let Some(given) = &self.given {
            device.upload(&self.dtype.wide().encode_single(&batch.inputs), given)?;
        }
        device.upload(&objective.targets(batch, self.dtype), &self.targets)
    }
}

/// What a step leaves on the device, and the counters it moved.
struct Results {
    loss: Tensor,
    outputs: Tensor,
    counted: Vec<Id>,
}

/// A step that the device replays.
struct Recorded {
    replay: Box<dyn Replay>,
    inputs: Inputs,
    results: Results,
}

/// Runs the steps of training. Once steps repeat, a device that records replays one of them, which costs the host a
/// single call.
pub struct Steps {
    objective: Objective,
    /// Of what is left out at random; without it nothing is.
    seed: Option<u64>,
    /// Steps of one shape without interruption: its images and their side, and how many.
    repeats: ((usize, usize), u32),
    recorded: Option<Recorded>,
}

/// Weight of the loss of an auxiliary head, as in torchvision's training of InceptionV3.
const AUXILIARY_WEIGHT: f64 = 0.4;

/// Steps of one shape before one is recorded: the first loads the kernels, the second finds memory steady.
const WARM_UP: u32 = 2;

impl Steps {
    /// Steps that minimise `objective`, with randomness from `seed`.
    pub fn new(objective: Objective, seed: u64) -> Steps {
        Steps { objective, seed: Some(seed), repeats: ((0, 0), 0), recorded: None }
    }

    /// The same without dropout and stochastic depth.
    #[must_use]
    pub fn without_omissions(self) -> Steps {
        Steps { seed: None, ..self }
    }

    /// What they minimise.
    pub fn objective(&self) -> &Objective {
        &self.objective
    }

    /// Forward, loss, backward, update. `step` counts from 0.
    ///
    /// # Errors
    /// A failure of the device; a loss that is not a number, in which case no parameter has moved.
    pub fn train(
        &mut self,
        model: &Model,
        optimiser: &Optimiser,
        batch: &Batch,
        (step, lr): (u64, f64),
    ) -> Result<StepResult> {
        let device = model.params.device();
        optimiser.scalars().set_rate(&**device, lr)?;
        if let Some(recorded) = self.recorded.as_ref().filter(|recorded| recorded.inputs.fit(batch)) {
            recorded.inputs.set(&**device, &self.objective, batch, step)?;
            recorded.replay.replay()?;
            recorded.results.counted.iter().for_each(|&id| model.params.count(id));
            return self.read(&recorded.results, batch, (step, lr));
        }
        let inputs = Inputs::new(model, &self.objective, batch)?;
        inputs.set(&**device, &self.objective, batch, step)?;
        let shape = (batch.len(), batch.size);
        self.repeats = if self.repeats.0 == shape { (shape, self.repeats.1 + 1) } else { (shape, 1) };
        if self.recorded.is_some() || self.repeats.1 <= WARM_UP {
            return self.read(&self.run(model, optimiser, &inputs, step)?, batch, (step, lr));
        }
        let mut results = None;
        let replay = device.capture(&mut || {
            results = Some(self.run(model, optimiser, &inputs, step)?);
            Ok(())
        })?;
        let Some(replay) = replay else {
            return self.read(&self.run(model, optimiser, &inputs, step)?, batch, (step, lr));
        };
        replay.replay()?;
        let results = results.expect("the step was recorded");
        let result = self.read(&results, batch, (step, lr));
        self.recorded = Some(Recorded { replay, inputs, results });
        result
    }

    /// Launches a whole step; nothing waits for it.
    fn run(&self, model: &Model, optimiser: &Optimiser, inputs: &Inputs, step: u64) -> Result<Results> {
        let mode = Mode::Train { seed: self.seed, step: step as u32 };
        let pass = model.pass(mode).with_step(&inputs.step);
        let (tape, dtype) = (pass.tape(), model.params.dtype());
        let images = tape.wrap(&inputs.shape, dtype, &inputs.images);
        let given = inputs.given.as_ref().map(|given| tape.wrap(&[inputs.shape[0], model.inputs], dtype.wide(), given));
        let Scores { main: outputs, auxiliary } = model.scores(&pass, &images, given.as_ref());
        let shape = self.objective.target_shape(&outputs);
        let targets = tape.wrap(&shape, self.objective.target_type(dtype), &inputs.targets);
        let loss = self.objective.loss(&outputs, &targets);
        let loss = match &auxiliary {
            Some(auxiliary) => add(&loss, &scale(&self.objective.loss(auxiliary, &targets), AUXILIARY_WEIGHT)),
            None => loss,
        };
        let scale = tape.wrap(loss.shape(), loss.dtype(), optimiser.scalars().loss_scale());
        let grads = tape.backward_from(&loss, scale)?;
        optimiser.update(model, &pass, &grads)?;
        Ok(Results { loss, outputs, counted: pass.counted() })
    }

    /// Waits for a step and reads what it left.
    fn read(&self, results: &Results, batch: &Batch, (step, lr): (u64, f64)) -> Result<StepResult> {
        let loss = results.loss.to_vec()?[0];
        if !loss.is_finite() {
            return Err(Error::unusable(
                format!("the loss became {loss} at step {} (learning rate {lr:.3e}): training has diverged", step + 1),
                format!("a smaller --lr, say {:.0e}, or a --warmup", lr / 10.0),
            ));
        }
        Ok(StepResult { loss, right: self.objective.right(&results.outputs, batch)? })
    }
}

/// Probabilities of each row of `scores`, by softmax.
pub fn softmax(scores: &[f64], classes: usize) -> Vec<f32> {
    let row = |row: &[f64]| {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = row.iter().map(|z| (z - max).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.into_iter().map(move |p| (p / sum) as f32)
    };
    scores.chunks_exact(classes).flat_map(row).collect()
}

/// Hands each batch of `loader`, in its order, to `take` with the outputs of `model` for it. `false` if `interrupt` was raised
/// on the way.
///
/// # Errors
/// An image that cannot be read, a failure of the device, or one of `take`.
pub fn each_batch(
    model: &Model,
    loader: &Loader,
    interrupt: &AtomicBool,
    take: &mut dyn FnMut(&Batch, &Tensor) -> Result<()>,
) -> Result<bool> {
    for batch in loader.epoch(0, 0) {
        if interrupt.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let batch = batch?;
        take(&batch, &forward(model, &model.pass(Mode::Eval), &batch))?;
    }
    Ok(true)
}

/// What `model` says about every record of `loader`, in its order; `None` if `interrupt` was raised on the way.
///
/// # Errors
/// An image that cannot be read, or a failure of the device.
pub fn evaluate(model: &Model, loader: &Loader, head: &Head, interrupt: &AtomicBool) -> Result<Option<Predictions>> {
    let mut predictions = head.no_predictions();
    let finished = each_batch(model, loader, interrupt, &mut |batch, outputs| {
        head.add(&mut predictions, &outputs.to_vec()?, batch, loader.records());
        Ok(())
    })?;
    Ok(finished.then_some(predictions))
}

/// As [`evaluate`], with the mean of `objective` over the images.
///
/// # Errors
/// As [`evaluate`].
pub fn validate(
    model: &Model,
    loader: &Loader,
    head: &Head,
    objective: &Objective,
    interrupt: &AtomicBool,
) -> Result<Option<(Predictions, f64)>> {
    let (mut predictions, mut sum) = (head.no_predictions(), 0.0);
    let finished = each_batch(model, loader, interrupt, &mut |batch, outputs| {
        head.add(&mut predictions, &outputs.to_vec()?, batch, loader.records());
        let dtype = model.params.dtype();
        let (shape, bytes) = (objective.target_shape(outputs), objective.targets(batch, dtype));
        let targets = outputs.tape().upload(&shape, objective.target_type(dtype), &bytes);
        sum += objective.loss(outputs, &targets).to_vec()?[0] * batch.len() as f64;
        Ok(())
    })?;
    Ok(finished.then(|| (predictions, sum / loader.records().len() as f64)))
}
