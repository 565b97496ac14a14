//! Everything that determines the result of a run. What does not (threads, workers, where it is written) is not in here.

use super::{Optimizer, Precision, objective::ClassWeights, schedule::Course};
use crate::{
    Error, Result,
    data::{Augment, Columns, Fractions, Intensity, Layout, Normalise, Sampling},
    models,
    task::{Loss, Monitor, Task},
    weights::Transfer,
};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A factor on the learning rate of some parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LrFactor {
    /// Pattern over their names.
    pub glob: String,
    /// The factor; the first pattern that matches counts.
    pub factor: f64,
}

/// The recipe of a run, as in `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder or CSV of the data; `None` for the embedded sample.
    pub data: Option<PathBuf>,
    /// Published layout of the data, which also says the task; `None` for a folder or table as [`crate::data::Dataset::open_for`] has it.
    pub layout: Option<Layout>,
    /// What the network is trained for.
    pub task: Task,
    /// Backbone.
    pub model: String,
    /// File of weights to start from; `None` for random weights.
    pub weights: Option<PathBuf>,
    /// Start from its head too.
    pub copy_head: bool,
    /// Fold its first convolution to the channels of the images if it has another number.
    pub fold_stem: bool,
    /// Refuse it if it does not fill everything but the head.
    pub strict: bool,
    /// Side of the square images, in pixels.
    pub size: usize,
    /// Channels of an image: 1, or 3 that are repeated from its gray values, as weights of color images want them.
    pub channels: usize,
    /// Epochs at most.
    pub epochs: u32,
    /// Steps in all, dealt to the epochs evenly whatever the size of the data; `None` for epochs that show all of them.
    pub steps: Option<u64>,
    /// Images in a step.
    pub batch: usize,
    /// How often images come.
    pub sampling: Sampling,
    /// Seed of everything random: initial weights, split, order, augmentation, dropout, intervals.
    pub seed: u64,
    /// Seed of the split instead, so that several seeds can share one; `None` for the same.
    pub split_seed: Option<u64>,
    /// Type of images and activations; `None` for the device's best, which the run then keeps.
    pub precision: Option<Precision>,
    /// Optimiser.
    pub optimizer: Optimizer,
    /// Highest learning rate.
    pub lr: f64,
    /// Course of the learning rate.
    pub schedule: Course,
    /// Epochs of linear warm-up, for a constant or cosine schedule.
    pub warmup: f64,
    /// Learning rate at the end of a cosine schedule.
    pub lr_min: f64,
    /// Weight decay of convolution and linear weights.
    pub weight_decay: f64,
    /// Whether biases and normalisation parameters decay too.
    pub decay_all: bool,
    /// Largest norm of all gradients of a step together; longer ones are scaled down to it. `None` for no limit.
    pub clip_norm: Option<f64>,
    /// Decay of the averages over steps that are validated and kept in place of the values; `None` for the values themselves.
    pub ema: Option<f64>,
    /// The loss; `None` for the task's default, which the run then keeps.
    pub loss: Option<Loss>,
    /// Share of the target that label smoothing spreads over all classes.
    pub label_smoothing: f32,
    /// Weights of the classes in the loss.
    pub class_weights: ClassWeights,
    /// What tells the best epoch; `None` for the task's default, which the run then keeps.
    pub monitor: Option<Monitor>,
    /// Epochs without improvement after which training stops; 0 for never.
    pub patience: u32,
    /// Share of an epoch after which the validation split is looked at, and the best weights kept; 1 for once an epoch.
    pub validate_every: f64,
    /// Patterns of the parameters that stay as they are.
    pub freeze: Vec<String>,
    /// Leave unreadable images out, and say so, instead of refusing the data.
    pub skip_bad: bool,
    /// Take images out of training whose picture is also in validation or test.
    pub drop_copies: bool,
    /// Classes with fewer images, over all splits, are left out; RadiologyNET has 20.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_images: usize,
    /// Share of the training images that is used; see [`crate::data::split::keep_fraction`].
    pub train_fraction: f64,
    /// Which columns of a table say what.
    pub columns: Columns,
    /// Shares of the splits that are drawn.
    pub split: Fractions,
    /// How stored values become gray.
    pub intensity: Intensity,
    /// Scaling of the pixel values.
    pub normalise: Normalise,
    /// Variation of the training images.
    pub augment: Augment,
    /// Factors on the learning rate.
    pub lr_factors: Vec<LrFactor>,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Default for Config {
    /// For a user's data: ResNet18 at 224 px, 30 epochs of AdamW, one-cycle at 1e-3.
    fn default() -> Self {
        Config {
            data: None,
            layout: None,
            task: Task::MultiClass,
            model: "resnet18".into(),
            weights: None,
            copy_head: false,
            fold_stem: false,
            strict: false,
            size: 224,
            channels: 3,
            epochs: 30,
            steps: None,
            batch: 32,
            sampling: Sampling::Natural,
            seed: 1,
            split_seed: None,
            precision: None,
            optimizer: Optimizer::AdamW,
            lr: 1e-3,
            schedule: Course::OneCycle,
            warmup: 0.0,
            lr_min: 0.0,
            weight_decay: 0.01,
            decay_all: false,
            clip_norm: None,
            ema: None,
            loss: None,
            label_smoothing: 0.0,
            class_weights: ClassWeights::None,
            monitor: None,
            patience: 0,
            validate_every: 1.0,
            freeze: vec![],
            skip_bad: false,
            drop_copies: false,
            min_images: 0,
            train_fraction: 1.0,
            columns: Columns::default(),
            split: Fractions::default(),
            intensity: Intensity::Auto,
            normalise: Normalise::none(),
            augment: Augment::default(),
            lr_factors: vec![],
        }
    }
}

/// Images that an epoch may show: which of them come when is drawn for the whole epoch.
const MOST_TURNS: u64 = 100_000_000;

impl Config {
    /// For the embedded sample, which is small: less of everything, so that it ends within a minute or so on two cores.
    pub fn for_sample() -> Self {
        Config { size: 64, epochs: 12, batch: 16, monitor: Some(Monitor::Loss), ..Config::default() }
    }

    /// What tells the best epoch.
    ///
    /// # Errors
    /// A value that the task does not have.
    pub fn monitor(&self) -> Result<Monitor> {
        self.task.choose("monitor", self.monitor, self.task.monitors())
    }

    /// The same recipe with what its layout says, and the defaults of its task, written out.
    ///
    /// # Errors
    /// A loss or a monitor that the task does not have.
    pub fn resolved(mut self) -> Result<Config> {
        if let Some(layout) = self.layout {
            self.task = layout.task();
            self.columns.inputs = layout.inputs();
            if self.intensity == Intensity::Auto {
                self.intensity = layout.intensity();
            }
        }
        if let (Some(steps), Some(epoch)) = (self.steps, self.epoch_steps()) {
            self.epochs = steps.div_ceil(epoch as u64) as u32;
        }
        let loss = self.task.choose("loss", self.loss, self.task.losses())?;
        Ok(Config { loss: Some(loss), monitor: Some(self.monitor()?), ..self })
    }

    /// Outputs of a network whose classes, labels, numbers or structures are `names`.
    pub fn outputs(&self, names: &[String]) -> usize {
        if self.task == Task::Reconstruction { self.channels } else { self.task.outputs(names) }
    }

    /// Steps in an epoch, where the steps are given; the last epoch may have fewer.
    pub fn epoch_steps(&self) -> Option<usize> {
        Some(self.steps?.div_ceil(u64::from(self.epochs)) as usize)
    }

    /// Seed of the splits that are drawn.
    pub fn splits_seed(&self) -> u64 {
        self.split_seed.unwrap_or(self.seed)
    }

    /// How to start from `weights`.
    pub fn transfer(&self) -> Transfer {
        let Config { copy_head, fold_stem, strict, .. } = *self;
        Transfer { copy_head, fold_stem, strict }
    }

    /// Refuses a size that no image is made of.
    ///
    /// # Errors
    /// Such a size.
    pub fn check_size(&self) -> Result<()> {
        if (1..=4096).contains(&self.size) {
            return Ok(());
        }
        Err(Error::unusable(format!("size cannot be {}", self.size), "1 to 4096 pixels"))
    }

    /// Refuses values that cannot work, naming the key.
    ///
    /// # Errors
    /// The first such value.
    pub fn check(&self) -> Result<()> {
        let refuse = |problem: String, remedy: &str| Err(Error::unusable(problem, remedy));
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let not_negative = |x: f64| x.is_finite() && x >= 0.0;
        let Normalise { mean, std } = self.normalise;
        let rules = [
            ([1, 3].contains(&self.channels), "channels", self.channels.to_string(), "1 or 3"),
            (
                i32::try_from(self.batch.saturating_mul(self.size.saturating_pow(2))).is_ok(),
                "batch",
                format!("{} images of {} px", self.batch, self.size),
                "fewer, or smaller ones: 2^31 pixels at most",
            ),
            (self.epochs >= 1, "epochs", self.epochs.to_string(), "at least 1"),
            (self.steps != Some(0), "steps", "0".into(), "at least 1"),
            (
                self.steps
                    .is_none_or(|steps| steps / u64::from(self.epochs.max(1)) <= MOST_TURNS / self.batch.max(1) as u64),
                "steps",
                self.steps.unwrap_or_default().to_string(),
                "fewer, or more --epochs to deal them to: an epoch shows at most 100 million images",
            ),
            // Batch normalisation needs a spread.
            ((2..=65536).contains(&self.batch), "batch", self.batch.to_string(), "2 to 65536 images"),
            (positive(self.lr), "lr", self.lr.to_string(), "a number above 0, say 1e-3"),
            (not_negative(self.lr_min), "lr_min", self.lr_min.to_string(), "a number of at least 0"),
            (not_negative(self.warmup), "warmup", self.warmup.to_string(), "a number of epochs, at least 0"),
            (not_negative(self.weight_decay), "weight_decay", self.weight_decay.to_string(), "a number of at least 0"),
            (
                self.train_fraction > 0.0 && self.train_fraction <= 1.0,
                "train_fraction",
                self.train_fraction.to_string(),
                "a share above 0, up to 1",
            ),
            (
                self.validate_every > 0.0 && self.validate_every <= 1.0,
                "validate_every",
                self.validate_every.to_string(),
                "a share of an epoch above 0, up to 1",
            ),
            (
                self.ema.is_none_or(|decay| positive(decay) && decay < 1.0),
                "ema",
                self.ema.unwrap_or_default().to_string(),
                "a number between 0 and 1, say 0.999",
            ),
            (
                self.clip_norm.is_none_or(positive),
                "clip_norm",
                self.clip_norm.unwrap_or_default().to_string(),
                "a number above 0",
            ),
            (
                (0.0..1.0).contains(&self.label_smoothing),
                "label_smoothing",
                self.label_smoothing.to_string(),
                "at least 0 and below 1",
            ),
            (
                self.lr_factors.iter().all(|f| not_negative(f.factor)),
                "lr_factors",
                format!("{:?}", self.lr_factors),
                "factors of at least 0",
            ),
            (
                mean.iter().all(|x| x.is_finite()) && std.iter().all(|&x| positive(f64::from(x))),
                "normalise",
                format!("means of {mean:?} and deviations of {std:?}"),
                "finite means, and deviations above 0",
            ),
        ];
        self.check_size()?;
        if let Some((_, key, value, remedy)) = rules.into_iter().find(|(holds, ..)| !holds) {
            return refuse(format!("{key} cannot be {value}"), remedy);
        }
        self.augment.check()?;
        let dense = models::is_dense(&self.model).ok_or_else(|| models::unknown(&self.model))?;
        let resolved = self.clone().resolved()?;
        match (dense, resolved.task.is_dense()) {
            (false, true) => {
                let what = if resolved.task == Task::Segmentation { "masks" } else { "images" };
                return refuse(format!("{} draws no {what}", self.model), &format!("--model unet_{}", self.model));
            }
            (true, false) => {
                return refuse(
                    format!("{} is for masks, not for the task {}", self.model, resolved.task),
                    "a backbone",
                );
            }
            _ => {}
        }
        if models::ends_in_sigmoid(&self.model) {
            let reason = match resolved.task {
                Task::Reconstruction if self.normalise == Normalise::none() => None,
                Task::Reconstruction => Some("gives intensities from 0 to 1, not normalised ones"),
                _ => Some("reconstructs images and draws no masks"),
            };
            if let Some(reason) = reason {
                return refuse(format!("{} {reason}", self.model), "a U-Net over a backbone, say unet_resnet18");
            }
        }
        let weighted = self.class_weights != ClassWeights::None;
        if self.label_smoothing > 0.0 && resolved.task != Task::MultiClass {
            return refuse(
                format!("label_smoothing does not go with the task {}", resolved.task),
                "--label-smoothing 0",
            );
        }
        if weighted && !matches!(resolved.task, Task::MultiClass | Task::Binary | Task::MultiLabel) {
            return refuse(format!("class_weights do not go with the task {}", resolved.task), "--class-weights none");
        }
        if self.min_images > 0 && !resolved.task.counts_classes() {
            return refuse(format!("min_images does not go with the task {}", resolved.task), "--min-images 0");
        }
        if self.sampling == Sampling::Balanced && !resolved.task.counts_classes() {
            return refuse(
                format!("balanced sampling does not go with the task {}", resolved.task),
                "--sampling natural",
            );
        }
        if resolved.task.is_dense() && !resolved.columns.inputs.is_empty() {
            return refuse(
                format!("numbers beside the image do not go with the task {}", resolved.task),
                "no --inputs",
            );
        }
        let mixable = matches!(resolved.task, Task::MultiClass | Task::Binary | Task::MultiLabel);
        if self.augment.mixes() && !mixable {
            return refuse(
                format!("mixup and cutmix do not go with the task {}", resolved.task),
                "augment.mixup = 0 and augment.cutmix = 0",
            );
        }
        if self.channels == 1 && !self.normalise.is_gray() {
            return refuse(
                format!("{:?} does not go with images of one channel: its channels differ", self.normalise),
                "--normalise none, or --channels 3",
            );
        }
        if self.schedule == Course::OneCycle && self.warmup > 0.0 {
            return refuse(
                "warmup does not go with the one-cycle schedule, which warms up over 30 % of its steps".into(),
                "--warmup 0, or --schedule cosine",
            );
        }
        if f64::from(self.epochs) <= self.warmup {
            return refuse(
                format!("a warmup of {} leaves none of {} epochs", self.warmup, self.epochs),
                "fewer epochs",
            );
        }
        Ok(())
    }
}
