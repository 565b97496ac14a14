//! The report of a run: one self-contained HTML page, with no script and nothing to load.

mod page;
mod picture;
mod sections;
mod svg;

use serde::{Deserialize, Serialize};

pub use page::render;
pub use picture::Picture;

use crate::metrics::{Scores, Summary, nan_as_null};

/// All that the report of a run shows. Every text is escaped; an empty part is left out of the page.
#[derive(Clone, Debug, Default)]
pub struct Report<'a> {
    /// Heading of the page, say `"ResNet18 on brain_tumor_mri"`.
    pub title: String,
    /// Key facts about the run as (name, value): backbone, data, device, epochs, time.
    pub facts: Vec<(String, String)>,
    /// What a reader has to know before believing the numbers, say duplicates across splits.
    pub warnings: Vec<String>,
    /// Files that were left out, as (file, reason).
    pub skipped: Vec<(String, String)>,
    /// What each epoch measured, in order.
    pub history: &'a [EpochRecord],
    /// The epoch whose weights were kept.
    pub best_epoch: Option<u32>,
    /// Learning rate over the run as (epochs done, rate), finer than `history` has it; empty to show that of `history`.
    pub schedule: Vec<(f64, f64)>,
    /// Images of each class in each split.
    pub data: SplitCounts,
    /// The evaluations; the first gives the headline.
    pub evaluations: Vec<Evaluation<'a>>,
    /// The resolved configuration, as TOML.
    pub configuration: String,
    /// Program, machine and device as (name, value).
    pub environment: Vec<(String, String)>,
}

/// What one epoch measured: a line of `metrics.jsonl`. A loss that is not finite is written as `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Number of the epoch, from 1.
    pub epoch: u32,
    /// Mean training loss per sample, as optimised: with augmentation, label smoothing and class weights.
    #[serde(with = "nan_as_null")]
    pub train_loss: f64,
    /// Share of augmented training samples predicted rightly while training.
    pub train_accuracy: Option<f64>,
    /// Mean cross-entropy on the validation split, in nats.
    pub validation_loss: Option<f64>,
    /// Accuracy on the validation split.
    pub validation_accuracy: Option<f64>,
    /// Macro F1 on the validation split.
    pub validation_macro_f1: Option<f64>,
    /// Learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// Wall time of training and validation together.
    pub seconds: f64,
    /// Training images a second, validation not counted.
    pub images_per_second: f64,
}

/// One evaluation of the trained network.
#[derive(Clone, Debug)]
pub struct Evaluation<'a> {
    /// What was evaluated, say `"test"`.
    pub split: String,
    /// The metrics.
    pub summary: &'a Summary,
    /// Samples whose truth got the lowest probability, worst first.
    pub worst: Vec<WorstCase>,
}

/// A sample that the network got wrong, or nearly.
#[derive(Clone, Debug)]
pub struct WorstCase {
    /// File or record.
    pub name: String,
    /// True class.
    pub truth: String,
    /// Probability that the network gave the true class.
    pub truth_probability: f32,
    /// Most probable class.
    pub predicted: String,
    /// Its probability.
    pub predicted_probability: f32,
    /// The image as the network saw it, before normalisation.
    pub picture: Picture,
}

impl WorstCase {
    /// Sample `i` of `scores`, which is called `name` and looks like `picture`.
    pub fn new(scores: &Scores, i: usize, name: String, picture: Picture) -> Self {
        let (truth, predicted) = (scores.labels[i] as usize, scores.predicted(i));
        WorstCase {
            name,
            truth: scores.classes[truth].clone(),
            truth_probability: scores.row(i)[truth],
            predicted: scores.classes[predicted].clone(),
            predicted_probability: scores.row(i)[predicted],
            picture,
        }
    }
}

/// Images of each class in each split.
#[derive(Clone, Debug, Default)]
pub struct SplitCounts {
    /// Class names.
    pub classes: Vec<String>,
    /// Splits as (name, images of each class).
    pub splits: Vec<(String, Vec<usize>)>,
}
