//! What a network is trained for.
//!
//! This is where a task says how many outputs it has, which losses and monitors it can take (the first is its default) and
//! what its names stand for. Its targets are read in [`crate::data`], become losses in [`crate::train::Objective`] and
//! outputs become [`crate::metrics::Predictions`], which know their metrics, their columns and their part of the report.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A task by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// One of several classes: a logit each, softmax.
    #[default]
    MultiClass,
    /// One of two classes: one logit for the second, sigmoid.
    Binary,
    /// Any of several labels: a logit each, sigmoid.
    MultiLabel,
    /// One or more numbers, standardised by those of the training images.
    Regression,
    /// One or more structures: a logit for each at every pixel, sigmoid.
    Segmentation,
    /// The image that is given: a number for each of its channels at every pixel.
    Reconstruction,
}

/// A loss by name; see [`crate::train::Objective`] for what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Cross-entropy of the softmax.
    CrossEntropy,
    /// Binary cross-entropy of the sigmoid.
    Bce,
    /// Binary cross-entropy that counts easy examples less (Lin et al. 2017, γ = 2).
    Focal,
    /// Squared error.
    Mse,
    /// Absolute error.
    L1,
    /// Squared error up to one standard deviation, absolute beyond.
    Huber,
    /// Soft Dice.
    Dice,
    /// Soft Dice and binary cross-entropy.
    DiceBce,
    /// Soft Dice and eight times the soft Dice in which only missed pixels count, as RadiologyNET has it.
    DiceMissed,
}

/// What tells the best epoch, on the validation split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Monitor {
    /// The highest macro F1.
    MacroF1,
    /// The lowest loss.
    Loss,
    /// The highest area under the ROC curve, a mean over the labels.
    Auc,
    /// The lowest mean absolute error, a mean over the numbers or pixels.
    Mae,
    /// The highest Dice, a mean over cases and structures.
    Dice,
}

impl Monitor {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Monitor::MacroF1 => "validation macro F1",
            Monitor::Loss => "validation loss",
            Monitor::Auc => "validation AUC",
            Monitor::Mae => "validation MAE",
            Monitor::Dice => "validation Dice",
        }
    }

    /// Whether `value` is better than `best`.
    pub fn improves(self, value: f64, best: f64) -> bool {
        match self {
            Monitor::Loss | Monitor::Mae => value < best,
            Monitor::MacroF1 | Monitor::Auc | Monitor::Dice => value > best,
        }
    }
}

impl Task {
    /// Outputs of a network whose classes, labels, numbers or structures are `names`; of one that reconstructs images they are
    /// the channels instead.
    pub fn outputs(self, names: &[String]) -> usize {
        if self == Task::Binary { 1 } else { names.len() }
    }

    /// The losses that it can take.
    pub fn losses(self) -> &'static [Loss] {
        match self {
            Task::MultiClass => &[Loss::CrossEntropy],
            Task::Binary | Task::MultiLabel => &[Loss::Bce, Loss::Focal],
            Task::Regression => &[Loss::Mse, Loss::L1, Loss::Huber],
            Task::Segmentation => &[Loss::DiceBce, Loss::Dice, Loss::DiceMissed, Loss::Bce, Loss::Focal],
            Task::Reconstruction => &[Loss::Mse, Loss::L1],
        }
    }

    /// What can tell its best epoch.
    pub fn monitors(self) -> &'static [Monitor] {
        match self {
            Task::MultiClass => &[Monitor::MacroF1, Monitor::Loss],
            Task::Binary | Task::MultiLabel => &[Monitor::Auc, Monitor::Loss],
            Task::Regression | Task::Reconstruction => &[Monitor::Mae, Monitor::Loss],
            Task::Segmentation => &[Monitor::Dice, Monitor::Loss],
        }
    }

    /// Whether a target is one of its classes.
    pub fn has_classes(self) -> bool {
        matches!(self, Task::MultiClass | Task::Binary)
    }

    /// Whether each image has a class, be it only to be counted and balanced by.
    pub fn counts_classes(self) -> bool {
        self.has_classes() || self == Task::Reconstruction
    }

    /// Whether a network for it has outputs at every pixel.
    pub fn is_dense(self) -> bool {
        matches!(self, Task::Segmentation | Task::Reconstruction)
    }

    /// What its names stand for.
    pub fn noun(self) -> &'static str {
        match self {
            Task::MultiClass | Task::Binary | Task::Reconstruction => "classes",
            Task::MultiLabel => "labels",
            Task::Regression => "numbers",
            Task::Segmentation => "structures",
        }
    }

    /// `asked` if it is among `possible`, the first of them if nothing was asked for; `key` is the setting.
    ///
    /// # Errors
    /// A choice that this task does not have.
    pub fn choose<T: Copy + PartialEq + clap::ValueEnum>(
        self,
        key: &str,
        asked: Option<T>,
        possible: &[T],
    ) -> Result<T> {
        let choice = asked.unwrap_or(possible[0]);
        if possible.contains(&choice) {
            return Ok(choice);
        }
        let names: Vec<String> = possible.iter().map(|&value| name_of(value)).collect();
        Err(Error::unusable(format!("{key} cannot be {} for the task {self}", name_of(choice)), names.join(", ")))
    }
}

fn name_of(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().expect("no value is hidden").get_name().to_string()
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&name_of(*self))
    }
}
