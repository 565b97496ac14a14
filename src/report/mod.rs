//! The report of a run: one self-contained HTML page, with no script and nothing to load.

mod classes;
mod images;
mod labels;
mod masks;
mod numbers;
mod page;
mod picture;
mod sections;
pub mod study;
mod svg;

use serde::{Deserialize, Serialize};

pub use page::render;
pub use picture::Picture;

use crate::{
    metrics::{Measures, Predictions, decimals, nan_as_null, percent},
    task::Monitor,
};

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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Number of the epoch, from 1.
    pub epoch: u32,
    /// Mean training loss per sample, as optimised: with augmentation, label smoothing and class weights.
    #[serde(with = "nan_as_null")]
    pub train_loss: f64,
    /// Share of augmented training samples predicted rightly while training, where samples have a class.
    pub train_accuracy: Option<f64>,
    /// Mean loss on the validation split; of one class of several the cross-entropy in nats, without smoothing and weights.
    pub validation_loss: Option<f64>,
    /// Accuracy on the validation split.
    pub validation_accuracy: Option<f64>,
    /// Macro F1 on the validation split.
    pub validation_macro_f1: Option<f64>,
    /// Mean AUC of the labels on the validation split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_auc: Option<f64>,
    /// Mean absolute error on the validation split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_mae: Option<f64>,
    /// Mean Dice on the validation split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_dice: Option<f64>,
    /// Looks at the validation split before the end of the epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interim: Vec<Interim>,
    /// Learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// Wall time of training and validation together.
    pub seconds: f64,
    /// Energy that the device drew in that time; `None` if it has no counter that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
    /// Training images a second, validation not counted.
    pub images_per_second: f64,
}

/// A look at the validation split within an epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interim {
    /// Steps done in the epoch.
    pub step: usize,
    /// Loss, as [`EpochRecord::validation_loss`].
    #[serde(with = "nan_as_null")]
    pub loss: f64,
    /// What tells the best epoch.
    pub monitored: Option<f64>,
}

impl EpochRecord {
    /// Takes down what the validation split said, `loss` being the mean of the objective.
    pub fn note(&mut self, measures: &Measures, loss: f64) {
        self.validation_loss = Some(loss);
        match measures {
            Measures::Classes(summary) => {
                self.validation_loss = Some(summary.log_loss);
                self.validation_accuracy = Some(summary.accuracy);
                self.validation_macro_f1 = Some(summary.macro_f1);
            }
            Measures::Labels(summary) => {
                self.validation_accuracy = Some(summary.accuracy);
                self.validation_auc = summary.macro_auc;
            }
            Measures::Numbers(summary) => self.validation_mae = Some(summary.mae()),
            Measures::Masks(summary) => self.validation_dice = Some(summary.dice()),
            Measures::Images(summary) => self.validation_mae = Some(summary.mae.value),
        }
    }

    /// What was measured on the validation split beside the loss, by name, as text.
    pub fn measured(&self) -> Vec<(&'static str, String)> {
        let values = [
            ("accuracy", self.validation_accuracy.map(percent)),
            ("macro F1", self.validation_macro_f1.map(|v| decimals(v, 3))),
            ("AUC", self.validation_auc.map(|v| decimals(v, 3))),
            ("MAE", self.validation_mae.map(|v| decimals(v, if v < 0.1 { 4 } else { 3 }))),
            ("Dice", self.validation_dice.map(|v| decimals(v, 3))),
        ];
        values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// The value that `monitor` looks at.
    pub fn monitored(&self, monitor: Monitor) -> Option<f64> {
        match monitor {
            Monitor::MacroF1 => self.validation_macro_f1,
            Monitor::Loss => self.validation_loss,
            Monitor::Auc => self.validation_auc,
            Monitor::Mae => self.validation_mae,
            Monitor::Dice => self.validation_dice,
        }
    }
}

/// One evaluation of the trained network.
#[derive(Clone, Debug)]
pub struct Evaluation<'a> {
    /// What was evaluated, say `"test"`.
    pub split: String,
    /// The metrics.
    pub summary: &'a Measures,
    /// The worst samples, worst first.
    pub worst: Vec<WorstCase>,
}

/// A sample that the network got wrong, or nearly.
#[derive(Clone, Debug)]
pub struct WorstCase {
    /// File or record.
    pub name: String,
    /// What was true and what was predicted, line by line.
    pub lines: Vec<CaseLine>,
    /// The image as the network saw it, before normalisation.
    pub picture: Picture,
}

/// A line below a worst case.
#[derive(Clone, Debug)]
pub struct CaseLine {
    /// What it tells, say `truth`.
    pub role: &'static str,
    /// Whether that is as it should be.
    pub right: bool,
    /// The class, label, number or structure.
    pub text: String,
    /// Its value.
    pub value: String,
    /// Length of the bar behind it, from 0 to 1.
    pub share: f64,
}

impl WorstCase {
    /// Sample `i` of `predictions`, which is called `name` and looks like `picture`.
    pub fn new(predictions: &Predictions, i: usize, name: String, picture: Picture) -> Self {
        WorstCase { name, lines: case_lines(predictions, i), picture }
    }
}

fn case_lines(predictions: &Predictions, i: usize) -> Vec<CaseLine> {
    let odds = |role, right, text: &String, probability: f32| {
        let p = f64::from(probability);
        CaseLine { role, right, text: text.clone(), value: percent(p), share: if p.is_finite() { p } else { 0.0 } }
    };
    match predictions {
        Predictions::Classes(scores) => {
            let (truth, predicted) = (scores.labels[i] as usize, scores.predicted(i));
            let mut lines = vec![odds("truth", true, &scores.classes[truth], scores.row(i)[truth])];
            if predicted != truth {
                lines.push(odds("predicted", false, &scores.classes[predicted], scores.row(i)[predicted]));
            }
            lines
        }
        Predictions::Labels(scores) => {
            let line = |k| {
                let (truth, right) = (scores.truth(i, k), scores.predicted(i, k) == scores.truth(i, k));
                let role = if truth { "is" } else { "is not" };
                odds(role, right, &scores.names[k], scores.probability(i, k))
            };
            (0..scores.names.len()).filter(|&k| scores.truth(i, k) || scores.predicted(i, k)).map(line).collect()
        }
        Predictions::Numbers(scores) => {
            let line = |k| {
                let (truth, predicted) = (scores.truth(i, k), scores.prediction(i, k));
                let value = format!("{} for {}", decimals(predicted, 1), decimals(truth, 1));
                CaseLine { role: "predicted", right: false, text: scores.names[k].clone(), value, share: 0.0 }
            };
            (0..scores.names.len()).map(line).collect()
        }
        Predictions::Images(scores) => {
            let (text, value) = ("mean absolute error".into(), decimals(scores.mae[i], 4));
            vec![CaseLine { role: "off by", right: false, text, value, share: 0.0 }]
        }
        Predictions::Masks(scores) => {
            let line = |(name, case): (&String, &crate::metrics::MaskCase)| {
                let (text, value) = (name.clone(), decimals(case.dice(), 3));
                CaseLine { role: "Dice", right: true, text, value, share: case.dice() }
            };
            scores.names.iter().zip(scores.case(i)).map(line).collect()
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
    /// Whether an image may be in several of them, so that their sum means nothing.
    pub overlap: bool,
}
