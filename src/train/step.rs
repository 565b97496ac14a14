//! One step of training, and evaluation over a loader.

use super::{
    feed::{Fed, Inputs},
    head::Head,
    mirrors::Mirrors,
    objective::Objective,
    optimiser::{Optimiser, nothing_to_train},
};
use crate::{
    Error, Result,
    data::{Batch, Loader},
    device::Replay,
    metrics::Predictions,
    models::Model,
    nn::{Id, Mode, Scores},
    ops::elementwise::{add, scale},
    tensor::Tensor,
};
use std::{
    borrow::Borrow,
    sync::atomic::{AtomicBool, Ordering},
};

/// What a step saw.
#[derive(Clone, Copy, Debug)]
pub struct StepResult {
    /// Mean loss of the batch, before the update.
    pub loss: f64,
    /// Images that were predicted rightly; 0 where the objective has no classes.
    pub right: u64,
    /// Images of the batch.
    pub images: usize,
}

/// What a step leaves on the device, and the counters it moves.
struct Results {
    loss: Tensor,
    outputs: Tensor,
    counted: Vec<Id>,
}

/// Values on their way from the device.
type Values = Box<dyn FnOnce() -> Result<Vec<f64>>>;

/// A step that is launched, and not waited for.
struct Started {
    loss: Values,
    /// What says the class of each image, where the objective has classes.
    outputs: Option<Values>,
    /// The classes that they should say.
    labels: Vec<u32>,
    /// Its number from 0, and its learning rate.
    at: (u64, f64),
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
    /// Whether the device is still to be asked to record one.
    records: bool,
    recorded: Option<Recorded>,
}

/// Weight of the loss of an auxiliary head, as in torchvision's training of InceptionV3.
const AUXILIARY_WEIGHT: f64 = 0.4;

/// Steps of one shape before one is recorded: the first loads the kernels, the second finds memory steady.
const WARM_UP: u32 = 2;

impl Steps {
    /// Steps that minimise `objective`, with randomness from `seed`.
    pub fn new(objective: Objective, seed: u64) -> Steps {
        Steps { objective, seed: Some(seed), repeats: ((0, 0), 0), records: true, recorded: None }
    }

    /// The same without dropout and stochastic depth.
    #[must_use]
    pub fn without_omissions(self) -> Steps {
        Steps { seed: None, ..self }
    }

    /// Whether the device replays one of them.
    pub fn recorded(&self) -> bool {
        self.recorded.is_some()
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
        let started = self.start(model, optimiser, batch, (step, lr))?;
        self.finish(started)
    }

    /// A step on each of `batches`, which come with its number and its learning rate. Each result goes to `done`, in order,
    /// which says whether to go on. On a device that computes beside the host a result is read once the next step is
    /// launched, so that the device need not wait for the host; that step is finished too when `done` says no.
    ///
    /// # Errors
    /// The first of the errors in `batches` and those of [`Steps::train`], once all steps before it are done. Where the next step
    /// was launched already, it may have moved parameters.
    pub fn train_each<B: Borrow<Batch>>(
        &mut self,
        model: &Model,
        optimiser: &Optimiser,
        batches: impl Iterator<Item = Result<(B, (u64, f64))>>,
        mut done: impl FnMut(StepResult) -> bool,
    ) -> Result<()> {
        let beside = model.params.device().runs_beside_host();
        let mut under_way = None;
        for batch in batches {
            let next = batch.and_then(|(batch, at)| self.start(model, optimiser, batch.borrow(), at));
            let earlier = under_way.take().map(|started| self.finish(started)).transpose()?;
            let mut go_on = earlier.is_none_or(&mut done);
            match next? {
                next if beside => under_way = Some(next),
                next => go_on = done(self.finish(next)?),
            }
            if !go_on {
                break;
            }
        }
        if let Some(last) = under_way {
            done(self.finish(last)?);
        }
        Ok(())
    }

    /// Launches or replays a step, and starts reading its results; nothing waits for it.
    fn start(
        &mut self,
        model: &Model,
        optimiser: &Optimiser,
        batch: &Batch,
        (step, lr): (u64, f64),
    ) -> Result<Started> {
        let device = model.params.device();
        optimiser.scalars().set_rate(&**device, lr)?;
        let objective = Some(&self.objective);
        if let Some(recorded) = self.recorded.as_ref().filter(|recorded| recorded.inputs.fit(batch)) {
            recorded.inputs.set(model, objective, batch, step)?;
            recorded.replay.replay()?;
            return self.read(model, &recorded.results, batch, (step, lr));
        }
        let inputs = Inputs::new(model, objective, batch)?;
        inputs.set(model, objective, batch, step)?;
        let shape = (batch.len(), batch.size);
        self.repeats = if self.repeats.0 == shape { (shape, self.repeats.1 + 1) } else { (shape, 1) };
        if self.records && self.repeats.1 > WARM_UP {
            self.records = false;
            let mut results = None;
            let replay = device.capture(&mut || {
                results = Some(self.run(model, optimiser, &inputs, step)?);
                Ok(())
            })?;
            if let Some(replay) = replay {
                replay.replay()?;
                let results = results.expect("the step was recorded");
                let started = self.read(model, &results, batch, (step, lr));
                self.recorded = Some(Recorded { replay, inputs, results });
                return started;
            }
        }
        self.read(model, &self.run(model, optimiser, &inputs, step)?, batch, (step, lr))
    }

    /// Launches a whole step.
    fn run(&self, model: &Model, optimiser: &Optimiser, inputs: &Inputs, step: u64) -> Result<Results> {
        let mode = Mode::Train { seed: self.seed, step: step as u32 };
        let pass = model.pass(mode).with_step(&inputs.step);
        let tape = pass.tape();
        let Fed { images, targets, given } = inputs.feed(model, &pass, Some(&self.objective));
        let targets = targets.expect("an objective compares outputs with something");
        let Scores { main: outputs, auxiliary } = model.scores(&pass, &images, given.as_ref());
        let loss = self.objective.loss(&outputs, &targets);
        let loss = match &auxiliary {
            Some(auxiliary) => add(&loss, &scale(&self.objective.loss(auxiliary, &targets), AUXILIARY_WEIGHT)),
            None => loss,
        };
        if loss.node().is_none() {
            return Err(nothing_to_train());
        }
        let scale = tape.wrap(loss.shape(), loss.dtype(), optimiser.scalars().loss_scale());
        let grads = tape.backward_from(&loss, scale)?;
        optimiser.update(model, &pass, &grads)?;
        Ok(Results { loss, outputs, counted: pass.counted() })
    }

    /// Counts a step that was launched or replayed, and starts reading what it leaves, before the next replay overwrites it.
    fn read(&self, model: &Model, results: &Results, batch: &Batch, at: (u64, f64)) -> Result<Started> {
        let Results { loss, outputs, counted } = results;
        counted.iter().for_each(|&id| model.params.count(id));
        let later = |tensor: &Tensor| tensor.read_later().map(|values| Box::new(values) as Values);
        Ok(Started {
            loss: later(loss)?,
            outputs: self.objective.names_classes(outputs).then(|| later(outputs)).transpose()?,
            labels: (0..batch.len()).map(|i| batch.leading_label(i)).collect(),
            at,
        })
    }

    /// Waits for a step.
    fn finish(&self, Started { loss, outputs, labels, at: (step, lr) }: Started) -> Result<StepResult> {
        let loss = loss()?[0];
        if !loss.is_finite() {
            return Err(Error::unusable(
                format!("the loss became {loss} at step {} (learning rate {lr:.3e}): training has diverged", step + 1),
                format!("a smaller --lr, say {:.0e}, or --clip-norm 1", lr / 10.0),
            ));
        }
        let right = outputs.map(|outputs| Ok(self.objective.right(&outputs()?, &labels))).transpose()?;
        Ok(StepResult { loss, right: right.unwrap_or(0), images: labels.len() })
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

/// What a network makes of a batch without training.
pub struct Seen {
    /// The batch as it was given it.
    pub fed: Fed,
    /// Its outputs: `[n, outputs]`, or `[n, size, size, outputs]` of a network with outputs for each pixel.
    pub outputs: Tensor,
}

/// What `model` makes of `batch`, with what `objective`, if there is one, compares its outputs with.
///
/// # Errors
/// A failure of the device.
pub fn look(model: &Model, objective: Option<&Objective>, batch: &Batch) -> Result<Seen> {
    let inputs = Inputs::new(model, objective, batch)?;
    inputs.set(model, objective, batch, 0)?;
    let pass = model.pass(Mode::Eval);
    let fed = inputs.feed(model, &pass, objective);
    let outputs = model.scores(&pass, &fed.images, fed.given.as_ref()).main;
    Ok(Seen { fed, outputs })
}

/// Hands each batch of `loader`, in its order, to `take` with what `model` makes of it. `false` if `interrupt` was raised
/// on the way.
///
/// # Errors
/// An image that cannot be read, a failure of the device, or one of `take`.
pub fn each_batch(
    model: &Model,
    loader: &Loader,
    objective: Option<&Objective>,
    interrupt: &AtomicBool,
    take: &mut dyn FnMut(&Batch, &Seen) -> Result<()>,
) -> Result<bool> {
    for batch in loader.epoch(0, 0) {
        if interrupt.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let batch = batch?;
        take(&batch, &look(model, objective, &batch)?)?;
    }
    Ok(true)
}

/// What `model` says about every record of `loader`, in its order, with `mirrors`; `None` if `interrupt` was raised on the way.
///
/// # Errors
/// An image that cannot be read, or a failure of the device.
pub fn evaluate(
    model: &Model,
    loader: &Loader,
    head: &Head,
    mirrors: &Mirrors,
    interrupt: &AtomicBool,
) -> Result<Option<Predictions>> {
    let mut predictions = head.no_predictions();
    let finished = each_batch(model, loader, None, interrupt, &mut |batch, seen| {
        head.add(&mut predictions, &mirrors.mean(model, batch, seen)?, seen, batch, loader.records())
    })?;
    Ok(finished.then_some(predictions))
}

/// As [`evaluate`], with the mean of `objective` over the images, weighted as within a batch.
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
    let (mut predictions, mut sum, mut weights) = (head.no_predictions(), 0.0, 0.0);
    let finished = each_batch(model, loader, Some(objective), interrupt, &mut |batch, seen| {
        let targets = seen.fed.targets.as_ref().expect("an objective compares outputs with something");
        let weight = objective.weight(&batch.labels);
        sum += objective.loss(&seen.outputs, targets).to_vec()?[0] * weight;
        weights += weight;
        head.add(&mut predictions, &seen.outputs.to_vec()?, seen, batch, loader.records())
    })?;
    Ok(finished.then(|| (predictions, sum / weights)))
}
