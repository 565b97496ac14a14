//! What a step minimises.

use super::Config;
use crate::{
    Result,
    data::{Batch, Dataset, Split},
    models,
    ops::{
        dense_loss::{bce_with_logits, dice, focal, huber, l1, mse},
        elementwise::add,
        loss::{one_hot, softmax_cross_entropy},
    },
    task::{Loss, Task},
    tensor::Tensor,
};
use serde::{Deserialize, Serialize};

/// Huber's loss is squared up to this many standard deviations of the target.
const HUBER_DELTA: f32 = 1.0;
/// Added to both sums of Dice, as RadiologyNET has it: an empty mask found empty has no loss.
const DICE_SMOOTHING: f32 = 1.0;
/// Weight of RadiologyNET's term for missed pixels.
const MISSED_WEIGHT: f32 = 8.0;
/// Exponent of the focal loss, that of its authors' best run.
const FOCAL_GAMMA: f32 = 2.0;

/// How much each class counts in the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// All the same.
    None,
    /// n / (classes · n of the class) over the training images, as scikit-learn's `balanced`.
    Balanced,
}

/// A loss with its weights.
#[derive(Clone, Debug, PartialEq)]
pub enum Objective {
    /// Weighted cross-entropy with label smoothing.
    CrossEntropy {
        /// Weight of each class.
        class_weights: Vec<f64>,
        /// Share of the target spread over all classes.
        label_smoothing: f32,
    },
    /// A loss of outputs that a sigmoid brings into [0, 1].
    Sigmoid {
        /// Which: [`Loss::Bce`] or [`Loss::Focal`], means over all outputs; or one of Dice, a mean over images whose sums go
        /// over all pixels and structures of an image together.
        loss: Loss,
        /// Weight of each output.
        weights: Vec<f64>,
        /// Weight of the positive part of each output, beside that.
        positive: Vec<f64>,
    },
    /// A distance from standardised numbers: [`Loss::Mse`], [`Loss::L1`] or [`Loss::Huber`].
    Distance(Loss),
    /// The same distance from the image that was given.
    Reconstruction(Loss),
}

impl Objective {
    /// What `config` asks for, with the weights that follow from the training images of `dataset`.
    ///
    /// # Errors
    /// A loss that the task cannot take.
    pub fn new(config: &Config, dataset: &Dataset) -> Result<Objective> {
        let loss = config.task.choose("loss", config.loss, config.task.losses())?;
        let weights = class_weights(config.class_weights, dataset);
        Ok(match config.task {
            Task::MultiClass => {
                let class_weights = weights.into_iter().map(|(_, weight)| weight).collect();
                Objective::CrossEntropy { class_weights, label_smoothing: config.label_smoothing }
            }
            Task::Binary => {
                let [(_, negative), (_, positive)] = weights[..] else { unreachable!("two classes") };
                Objective::Sigmoid { loss, weights: vec![negative], positive: vec![positive / negative] }
            }
            Task::MultiLabel | Task::Segmentation => {
                let (negative, positive): (Vec<f64>, Vec<f64>) = weights.into_iter().unzip();
                let positive = positive.iter().zip(&negative).map(|(p, n)| p / n).collect();
                Objective::Sigmoid { loss, weights: negative, positive }
            }
            Task::Regression => Objective::Distance(loss),
            Task::Reconstruction => Objective::Reconstruction(loss),
        })
    }

    /// One without weights for network `model` by name: of masks if it draws, else of classes.
    pub fn plain(model: &str, classes: usize) -> Objective {
        let ones = vec![1.0; classes];
        match models::is_dense(model) {
            Some(true) => Objective::Sigmoid { loss: Loss::DiceBce, weights: ones.clone(), positive: ones },
            _ => Objective::CrossEntropy { class_weights: ones, label_smoothing: 0.0 },
        }
    }

    /// The loss of `outputs` against `targets` of their shape, one element.
    #[track_caller]
    pub fn loss(&self, outputs: &Tensor, targets: &Tensor) -> Tensor {
        let wide = outputs.dtype().wide();
        let floats = |values: &[f64]| outputs.tape().floats(&[values.len()], wide, values);
        match self {
            Objective::CrossEntropy { class_weights, label_smoothing } => {
                softmax_cross_entropy(outputs, targets, &floats(class_weights), *label_smoothing)
            }
            Objective::Sigmoid { loss, weights, positive } => {
                let bce = || bce_with_logits(outputs, targets, &floats(weights), &floats(positive));
                let dice = |missed| dice(outputs, targets, DICE_SMOOTHING, missed);
                match loss {
                    Loss::Focal => focal(outputs, targets, &floats(weights), &floats(positive), FOCAL_GAMMA),
                    Loss::Dice => dice(0.0),
                    Loss::DiceMissed => dice(MISSED_WEIGHT),
                    Loss::DiceBce => add(&dice(0.0), &bce()),
                    _ => bce(),
                }
            }
            Objective::Distance(Loss::L1) | Objective::Reconstruction(Loss::L1) => l1(outputs, targets),
            Objective::Distance(Loss::Huber) => huber(outputs, targets, HUBER_DELTA),
            Objective::Distance(_) | Objective::Reconstruction(_) => mse(outputs, targets),
        }
    }

    /// What the mean loss of images of these labels counts in a mean over batches: as many as they are, or the sum of the class
    /// weights that cross-entropy divides by.
    pub fn weight(&self, labels: &[u32]) -> f64 {
        match self {
            Objective::CrossEntropy { class_weights, .. } => {
                labels.iter().map(|&class| class_weights[class as usize]).sum()
            }
            _ => labels.len() as f64,
        }
    }

    /// Whether outputs are compared with the images themselves.
    pub fn reconstructs(&self) -> bool {
        matches!(self, Objective::Reconstruction(_))
    }

    /// The numbers that the outputs for `batch` are compared with, in the order of the outputs; none where those are masks or the
    /// images themselves. Of mixed images they are mixed in the same shares.
    pub fn numbers(&self, batch: &Batch) -> Vec<f32> {
        let numbers = match self {
            Objective::CrossEntropy { class_weights, .. } => one_hot(&batch.labels, class_weights.len()),
            Objective::Reconstruction(_) => return vec![],
            _ if !batch.masks.is_empty() => return vec![],
            _ => batch.targets.clone(),
        };
        batch.mixed(&numbers)
    }

    /// Whether `outputs` name a class of each image.
    pub fn names_classes(&self, outputs: &Tensor) -> bool {
        matches!(
            (self, outputs.shape()),
            (Objective::CrossEntropy { .. }, [_, _]) | (Objective::Sigmoid { .. }, [_, 1])
        )
    }

    /// Images of these labels that `outputs`, a row for each, name rightly: the class with the largest output, or the second of
    /// two if its output is above 0.
    pub fn right(&self, outputs: &[f64], labels: &[u32]) -> u64 {
        let k = outputs.len() / labels.len();
        let predicted = |row: &[f64]| match self {
            Objective::CrossEntropy { .. } => (1..k).fold(0, |best, c| if row[c] > row[best] { c } else { best }),
            _ => usize::from(row[0] > 0.0),
        };
        let right = |&(row, label): &(&[f64], &u32)| predicted(row) == *label as usize;
        outputs.chunks_exact(k).zip(labels).filter(right).count() as u64
    }
}

/// Weights of the absence and of the presence of each class or label in the loss: n / (2 · n of either) over the training
/// images, as scikit-learn's `balanced`; of each class n / (classes · n of the class) where there are several.
pub(super) fn class_weights(weights: ClassWeights, dataset: &Dataset) -> Vec<(f64, f64)> {
    let counts = dataset.class_counts(Some(Split::Train));
    let n = dataset.of(Some(Split::Train)).count() as f64;
    let share = |parts: usize, count: f64| n / (parts as f64 * count);
    let balanced = |&count: &usize| match dataset.task {
        Task::MultiLabel => (share(2, (n - count as f64).max(1.0)), share(2, count as f64)),
        _ => (share(counts.len(), count as f64), share(counts.len(), count as f64)),
    };
    match weights {
        ClassWeights::None => vec![(1.0, 1.0); counts.len()],
        ClassWeights::Balanced => counts.iter().map(balanced).collect(),
    }
}
