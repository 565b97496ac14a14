//! Everything about a run that is not a tensor and has to survive it.

use super::config::Config;
use crate::{
    Result,
    data::Scaling,
    device::{DType, Device},
    metrics::nan_as_null,
    models::{Ends, Model},
    report::Interim,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The state of a run, kept as JSON in the metadata of its checkpoints. It holds no times of day and nothing about the
/// machine, so that an interrupted and resumed run writes the same bytes as an uninterrupted one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Version of this structure.
    pub format: u32,
    /// The recipe.
    pub config: Config,
    /// Names of the classes, labels, numbers or structures; the network's outputs are in this order, but for a binary network,
    /// which has one for the second class.
    pub classes: Vec<String>,
    /// Scaling of the numbers that the network predicts.
    #[serde(default, skip_serializing_if = "Scaling::is_none")]
    pub targets: Scaling,
    /// Scaling of the numbers that it is given beside the image.
    #[serde(default, skip_serializing_if = "Scaling::is_none")]
    pub inputs: Scaling,
    /// Digest of the data: names, labels, splits and contents of all images.
    pub data: String,
    /// Epochs completed, which is also the length of the history.
    pub epoch: u32,
    /// Steps done in the epoch that is under way.
    pub step_in_epoch: usize,
    /// Steps done in all: the place in the schedule, and the count of the optimiser.
    pub step: u64,
    /// Sums over the epoch under way.
    pub partial: Partial,
    /// The best epoch so far.
    pub best: Option<Best>,
}

/// The version of [`RunState`] that this program reads and writes.
pub const FORMAT: u32 = 1;

/// Sums over the steps of an epoch, and what was seen on its way; nothing between epochs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Partial {
    /// Of the losses, each times its number of images.
    pub loss: f64,
    /// Images predicted rightly.
    pub right: u64,
    /// Images.
    pub images: u64,
    /// Wall time of training.
    pub seconds: f64,
    /// Energy of training and of looks at the validation split; NaN if unknown.
    #[serde(default, with = "nan_as_null")]
    pub joules: f64,
    /// Looks at the validation split on the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interim: Vec<Interim>,
    /// Wall time of those.
    #[serde(default)]
    pub interim_seconds: f64,
}

/// When the weights were what is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Number of the epoch, from 1.
    pub epoch: u32,
    /// Steps done in all: fewer than at its end if it was an interim look.
    #[serde(default)]
    pub step: u64,
    /// Its monitored value; `None` without a validation split, where the latest epoch is the best.
    pub value: Option<f64>,
    /// For each label the probability from which on it is predicted, chosen on the validation split: that with the highest
    /// sensitivity + specificity (Youden 1950). None for other tasks, or without that split.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<f64>,
}

impl RunState {
    /// Before the first step.
    pub fn new(config: Config, classes: Vec<String>, [targets, inputs]: [Scaling; 2], data: String) -> RunState {
        RunState {
            format: FORMAT,
            config,
            classes,
            targets,
            inputs,
            data,
            epoch: 0,
            step_in_epoch: 0,
            step: 0,
            partial: Partial::default(),
            best: None,
        }
    }

    /// Its network, as it was before training.
    ///
    /// # Errors
    /// An unknown backbone, or a failure of the device.
    pub fn network(&self, device: &Arc<dyn Device>, dtype: DType) -> Result<Model> {
        let Config { model, channels, columns, seed, .. } = &self.config;
        let classes = self.config.outputs(&self.classes);
        let ends = Ends { channels: *channels, inputs: columns.inputs.len(), classes };
        Model::between(model, ends, device, dtype, *seed)
    }

    /// Epochs since the best one.
    pub fn since_best(&self) -> u32 {
        self.epoch.saturating_sub(self.best.as_ref().map_or(0, |best| best.epoch))
    }

    /// Whether patience has run out.
    pub fn out_of_patience(&self) -> bool {
        self.config.patience > 0 && self.since_best() >= self.config.patience
    }

    /// Whether no epoch is left to train.
    pub fn over(&self) -> bool {
        self.epoch >= self.config.epochs || self.out_of_patience()
    }
}
