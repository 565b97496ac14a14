//! Where a trained network sees the evidence for a class.

use super::{Config, Head, Prepared, RunState, step};
use crate::{
    Error, Result,
    data::{Dataset, Record, Split},
    metrics::Predictions,
    models::Model,
    report::{Picture, WorstCase},
    task::Task,
};
use std::sync::atomic::AtomicBool;

/// Refuses networks that have no classes to explain.
///
/// # Errors
/// Another task than telling classes or labels.
pub fn check_explicable(task: Task) -> Result<()> {
    match task {
        Task::MultiClass | Task::Binary | Task::MultiLabel => Ok(()),
        _ => Err(Error::unusable(format!("there are no classes to explain in the task {task}"), "leave --explain out")),
    }
}

/// Hands every record of `dataset` to `each`: under its Grad-CAM ([`Model::grad_cam`]), with what `model` says of it. `class` gives
/// the class or label whose evidence is sought, from the predictions so far and the number of the record.
///
/// # Errors
/// A task without classes, images that cannot be read, a failure of the device, or one of `each`.
pub fn explain(
    model: &Model,
    state: &RunState,
    mut dataset: Dataset,
    class: impl Fn(&Predictions, usize) -> usize,
    mut each: impl FnMut(&Record, WorstCase) -> Result<()>,
) -> Result<()> {
    let task = state.config.task;
    check_explicable(task)?;
    dataset.verify(state.config.intensity, false)?;
    let Some(loader) = Prepared::plain(dataset).loader(Split::Test, state, 0) else { return Ok(()) };
    let head = Head::of(state);
    let (mut predictions, mut done) = (head.no_predictions(), 0);
    step::each_batch(model, &loader, None, &AtomicBool::new(false), &mut |batch, seen| {
        head.add(&mut predictions, &seen.outputs.to_vec()?, seen, batch, loader.records())?;
        let mut direction = vec![0.0; batch.len() * model.classes];
        for (i, outputs) in direction.chunks_exact_mut(model.classes).enumerate() {
            match (task, class(&predictions, done + i)) {
                // One output speaks for the second class, and against the first.
                (Task::Binary, class) => outputs[0] = if class == 0 { -1.0 } else { 1.0 },
                (_, class) => outputs[class] = 1.0,
            }
        }
        let cams = model.grad_cam(&seen.fed.images, &direction)?.expect("a network for classes has a head");
        for (i, cam) in cams.chunks_exact(batch.size * batch.size).enumerate() {
            let record = &loader.records()[batch.indices[i] as usize];
            let picture = picture(record, &state.config)?.overlaid(cam);
            each(record, WorstCase::new(&predictions, done + i, record.name.clone(), picture))?;
        }
        done += batch.len();
        Ok(())
    })
    .map(drop)
}

/// What a network predicts of sample `i`: its class, that of two, or its most probable label.
pub fn predicted(predictions: &Predictions, i: usize) -> usize {
    match predictions {
        Predictions::Classes(scores) => scores.predicted(i),
        Predictions::Labels(scores) if scores.negative.is_some() => scores.predicted(i, 0).into(),
        Predictions::Labels(scores) => {
            let labels = 0..scores.names.len();
            labels.max_by(|&a, &b| scores.probability(i, a).total_cmp(&scores.probability(i, b))).unwrap_or(0)
        }
        _ => unreachable!("only classes and labels are explained"),
    }
}

/// A record as a network sees it before normalisation.
///
/// # Errors
/// An image that cannot be read.
pub fn picture(record: &Record, config: &Config) -> Result<Picture> {
    let Config { size, intensity, .. } = *config;
    let pixels = record.fitted(size, intensity)?.to_unit().into_iter().map(|v| (v * 255.0).round() as u8).collect();
    Ok(Picture { width: size as u32, height: size as u32, pixels })
}
