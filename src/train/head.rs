//! Between a network's outputs and what they say, for the task of a run.

use super::{
    state::RunState,
    step::{Seen, softmax},
};
use crate::{
    Result,
    data::{Batch, Record, Scaling, Truth},
    metrics::{ImageScores, LabelScores, MaskCase, MaskScores, NumberScores, Predictions, Scores},
    task::Task,
};

/// A logit of 0 is a probability of one half.
const EVEN: f64 = 0.0;

/// A task with what a run fixed about it.
#[derive(Clone, Debug)]
pub struct Head {
    /// The task.
    pub task: Task,
    /// Names of the classes, labels, numbers or structures.
    pub names: Vec<String>,
    /// A label is predicted from this probability on, one for each output of a binary or multi-label network.
    pub thresholds: Vec<f64>,
    /// Scaling of the numbers that a regression predicts.
    pub targets: Scaling,
}

impl Head {
    /// That of a run. Thresholds are those of its best epoch, one half before there is one.
    pub fn of(state: &RunState) -> Head {
        let (task, names) = (state.config.task, state.classes.clone());
        let chosen = state.best.as_ref().map(|best| best.thresholds.clone()).filter(|chosen| !chosen.is_empty());
        let thresholds = chosen.unwrap_or_else(|| vec![0.5; task.outputs(&names)]);
        Head { task, names, thresholds, targets: state.targets.clone() }
    }

    /// Predictions of no image.
    pub fn no_predictions(&self) -> Predictions {
        let names = self.names.clone();
        match self.task {
            Task::MultiClass => Predictions::Classes(Scores { classes: names, ..Scores::default() }),
            Task::Binary | Task::MultiLabel => {
                let (negative, names) = match self.task {
                    Task::Binary => (Some(names[0].clone()), names[1..].to_vec()),
                    _ => (None, names),
                };
                let thresholds = self.thresholds.clone();
                Predictions::Labels(LabelScores { names, negative, thresholds, ..LabelScores::default() })
            }
            Task::Regression => {
                let spreads = self.targets.std.clone();
                Predictions::Numbers(NumberScores { names, spreads, ..NumberScores::default() })
            }
            Task::Segmentation => Predictions::Masks(MaskScores { names, ..MaskScores::default() }),
            Task::Reconstruction => Predictions::Images(ImageScores::default()),
        }
    }

    /// Adds the `outputs` of a network for the images of `batch`, which are among `records`, to `predictions`.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn add(
        &self,
        predictions: &mut Predictions,
        outputs: &[f64],
        seen: &Seen,
        batch: &Batch,
        records: &[Record],
    ) -> Result<()> {
        let truths = batch.indices.iter().map(|&i| &records[i as usize].truth);
        match predictions {
            Predictions::Classes(scores) => {
                scores.probabilities.extend(softmax(outputs, self.names.len()));
                scores.labels.extend(&batch.labels);
            }
            Predictions::Labels(scores) => {
                scores.probabilities.extend(outputs.iter().map(|&x| sigmoid(x) as f32));
                for truth in truths {
                    match truth {
                        Truth::Numbers(applies) => scores.truths.extend(applies.iter().map(|&applies| applies != 0.0)),
                        truth => scores.truths.push(*truth == Truth::Class(1)),
                    }
                }
            }
            Predictions::Numbers(scores) => {
                let k = self.names.len();
                scores.predictions.extend(outputs.iter().enumerate().map(|(i, &x)| self.targets.undo(i % k, x)));
                for truth in truths {
                    let Truth::Numbers(numbers) = truth else { unreachable!("regression is of numbers") };
                    scores.truths.extend(numbers.iter().copied().map(f64::from));
                }
            }
            Predictions::Images(scores) => {
                let area = outputs.len() / batch.len();
                let images = seen.fed.images.to_vec()?;
                let pairs = images.chunks_exact(area).zip(outputs.chunks_exact(area));
                pairs.for_each(|(image, outputs)| scores.push(image, outputs));
            }
            Predictions::Masks(scores) => {
                let k = self.names.len();
                let image = outputs.len() / batch.len();
                for (i, outputs) in outputs.chunks_exact(image).enumerate() {
                    let truth = batch.masks.get(i * image..(i + 1) * image);
                    for c in 0..k {
                        let predicted: Vec<bool> = outputs.iter().skip(c).step_by(k).map(|&x| x > EVEN).collect();
                        let truth = match truth {
                            Some(truth) => truth.iter().skip(c).step_by(k).map(|&marked| marked != 0).collect(),
                            // Nothing is known of the image.
                            None => vec![false; predicted.len()],
                        };
                        scores.cases.push(MaskCase::new(&truth, &predicted, batch.size));
                    }
                }
            }
        }
        Ok(())
    }

    /// The mask that the outputs of one image are, of 0 and 1.
    pub fn mask(outputs: &[f64]) -> Vec<u8> {
        outputs.iter().map(|&x| u8::from(x > EVEN)).collect()
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
