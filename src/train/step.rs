//! One step of training, and evaluation over a loader.

use super::optimiser::Optimiser;
use crate::{
    Error, Result,
    data::{Batch, Loader},
    device::{Block, DType, Device, Replay},
    metrics::Scores,
    models::Model,
    nn::{self, Id, Mode, Pass},
    ops::{
        elementwise::{add, scale},
        loss::softmax_cross_entropy,
    },
    tensor::Tensor,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// What a step minimises: weighted cross-entropy with label smoothing.
#[derive(Clone, Debug)]
pub struct Objective {
    /// Weight of each class.
    pub class_weights: Vec<f64>,
    /// Share of the target spread over all classes.
    pub label_smoothing: f32,
}

/// What a step saw.
#[derive(Clone, Copy, Debug)]
pub struct StepResult {
    /// Mean loss of the batch, before the update.
    pub loss: f64,
    /// Images that were predicted rightly.
    pub right: u64,
}

/// Scores `[n, classes]` of the images of a batch.
pub fn forward(model: &Model, pass: &Pass, batch: &Batch) -> Tensor {
    model.forward(pass, &pass.images([batch.len(), batch.size, batch.size, 3], &batch.images))
}

/// What a step reads that changes from step to step, in memory of its own, so that a recorded step finds it again.
struct Inputs {
    shape: [usize; 4],
    dtype: DType,
    images: Arc<Block>,
    labels: Arc<Block>,
    step: Arc<Block>,
}

impl Inputs {
    /// Room for `batch`, its images in `dtype`.
    fn new(device: &dyn Device, batch: &Batch, dtype: DType) -> Result<Inputs> {
        let shape = [batch.len(), batch.size, batch.size, 3];
        let images = device.alloc(shape.iter().product::<usize>() * dtype.size(), "images")?;
        let labels = device.alloc(batch.len() * size_of::<u32>(), "labels")?;
        Ok(Inputs { shape, dtype, images, labels, step: device.alloc(size_of::<u32>(), "step")? })
    }

    fn fit(&self, batch: &Batch) -> bool {
        self.shape[..2] == [batch.len(), batch.size]
    }

    fn set(&self, device: &dyn Device, batch: &Batch, step: u64) -> Result<()> {
        if !device.holds_values() {
            return Ok(());
        }
        device.upload(bytemuck::bytes_of(&(step as u32)), &self.step)?;
        device.upload(&self.dtype.encode_single(&batch.images), &self.images)?;
        device.upload(bytemuck::cast_slice(&batch.labels), &self.labels)
    }
}

/// What a step leaves on the device, and the counters it moved.
struct Results {
    loss: Tensor,
    scores: Tensor,
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
            recorded.inputs.set(&**device, batch, step)?;
            recorded.replay.replay()?;
            recorded.results.counted.iter().for_each(|&id| model.params.count(id));
            return read(&recorded.results, model, batch, (step, lr));
        }
        let inputs = Inputs::new(&**device, batch, model.params.dtype())?;
        inputs.set(&**device, batch, step)?;
        let shape = (batch.len(), batch.size);
        self.repeats = if self.repeats.0 == shape { (shape, self.repeats.1 + 1) } else { (shape, 1) };
        if self.recorded.is_some() || self.repeats.1 <= WARM_UP {
            return read(&self.run(model, optimiser, &inputs, step)?, model, batch, (step, lr));
        }
        let mut results = None;
        let replay = device.capture(&mut || {
            results = Some(self.run(model, optimiser, &inputs, step)?);
            Ok(())
        })?;
        let Some(replay) = replay else {
            return read(&self.run(model, optimiser, &inputs, step)?, model, batch, (step, lr));
        };
        replay.replay()?;
        let results = results.expect("the step was recorded");
        let result = read(&results, model, batch, (step, lr));
        self.recorded = Some(Recorded { replay, inputs, results });
        result
    }

    /// Launches a whole step; nothing waits for it.
    fn run(&self, model: &Model, optimiser: &Optimiser, inputs: &Inputs, step: u64) -> Result<Results> {
        let mode = Mode::Train { seed: self.seed, step: step as u32 };
        let pass = model.pass(mode).with_step(&inputs.step);
        let (tape, dtype) = (pass.tape(), model.params.dtype());
        let nn::Scores { main: scores, auxiliary } =
            model.scores(&pass, &tape.wrap(&inputs.shape, dtype, &inputs.images));
        let labels = tape.wrap(&inputs.shape[..1], DType::U32, &inputs.labels);
        let weights = tape.floats(&[model.classes], scores.dtype().wide(), &self.objective.class_weights);
        let loss_of = |scores| softmax_cross_entropy(scores, &labels, &weights, self.objective.label_smoothing);
        let loss = match &auxiliary {
            Some(auxiliary) => add(&loss_of(&scores), &scale(&loss_of(auxiliary), AUXILIARY_WEIGHT)),
            None => loss_of(&scores),
        };
        let scale = tape.wrap(loss.shape(), loss.dtype(), optimiser.scalars().loss_scale());
        let grads = tape.backward_from(&loss, scale)?;
        optimiser.update(model, &pass, &grads)?;
        Ok(Results { loss, scores, counted: pass.counted() })
    }
}

/// Waits for a step and reads what it left.
fn read(results: &Results, model: &Model, batch: &Batch, (step, lr): (u64, f64)) -> Result<StepResult> {
    let loss = results.loss.to_vec()?[0];
    if !loss.is_finite() {
        return Err(Error::unusable(
            format!("the loss became {loss} at step {} (learning rate {lr:.3e}): training has diverged", step + 1),
            format!("a smaller --lr, say {:.0e}, or a --warmup", lr / 10.0),
        ));
    }
    let scores = results.scores.to_vec()?;
    let right = scores.chunks_exact(model.classes).zip(&batch.labels).filter(|(row, l)| argmax(row) == **l as usize);
    Ok(StepResult { loss, right: right.count() as u64 })
}

fn argmax(row: &[f64]) -> usize {
    (1..row.len()).fold(0, |best, c| if row[c] > row[best] { c } else { best })
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

/// The probabilities of every record of `loader`, in its order; `None` if `interrupt` was raised on the way.
///
/// # Errors
/// An image that cannot be read, or a failure of the device.
pub fn evaluate(model: &Model, loader: &Loader, classes: &[String], interrupt: &AtomicBool) -> Result<Option<Scores>> {
    let mut scores = Scores { classes: classes.to_vec(), ..Scores::default() };
    for batch in loader.epoch(0, 0) {
        if interrupt.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let batch = batch?;
        let logits = forward(model, &model.pass(Mode::Eval), &batch).to_vec()?;
        scores.probabilities.extend(softmax(&logits, model.classes));
        scores.labels.extend(&batch.labels);
    }
    Ok(Some(scores))
}
