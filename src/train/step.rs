//! One step of training, and evaluation over a loader.

use super::optimiser::Optimiser;
use crate::{
    Error, Result,
    data::{Batch, Loader},
    device::DType,
    metrics::Scores,
    models::Model,
    nn::{Mode, Pass},
    ops::loss::softmax_cross_entropy,
    tensor::Tensor,
};
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Forward, loss, backward, update. `step` counts from 0.
///
/// # Errors
/// A failure of the device; a loss that is not a number, before anything is updated.
pub fn train(
    model: &Model,
    optimiser: &Optimiser,
    objective: &Objective,
    batch: &Batch,
    (seed, step, lr): (u64, u64, f64),
) -> Result<StepResult> {
    let pass = model.pass(Mode::Train { seed: Some(seed), step: step as u32 });
    let logits = forward(model, &pass, batch);
    let tape = pass.tape();
    let labels = tape.upload(&[batch.len()], DType::U32, bytemuck::cast_slice(&batch.labels));
    let weights = tape.floats(&[model.classes], model.params.dtype(), &objective.class_weights);
    let loss = softmax_cross_entropy(&logits, &labels, &weights, objective.label_smoothing);
    let value = loss.to_vec()?[0];
    if !value.is_finite() {
        return Err(Error::unusable(
            format!("the loss became {value} at step {} (learning rate {lr:.3e}): training has diverged", step + 1),
            format!("a smaller --lr, say {:.0e}, or a --warmup", lr / 10.0),
        ));
    }
    let scores = logits.to_vec()?;
    let grads = tape.backward(&loss)?;
    optimiser.update(model, &pass, &grads, lr, step + 1)?;
    let right = scores.chunks_exact(model.classes).zip(&batch.labels).filter(|(row, l)| argmax(row) == **l as usize);
    Ok(StepResult { loss: value, right: right.count() as u64 })
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
