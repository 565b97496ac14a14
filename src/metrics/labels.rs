//! Metrics of yes-or-no answers, one label at a time: of a binary classifier, or of each label of several.

use super::{
    Interval,
    bootstrap::resampled,
    calibration::{BINS, Bin, ece, reliability},
    classes::{mean, ratio},
    ranking::{Ranking, RocPoint},
};

/// What a network said about each label of each sample, and what was true.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelScores {
    /// Names of the labels; of the positive class for a binary classifier.
    pub names: Vec<String>,
    /// Name of the other class, for a binary classifier.
    pub negative: Option<String>,
    /// A label is predicted from this probability on, `[k]`.
    pub thresholds: Vec<f64>,
    /// Whether each label applies, `[n, k]`.
    pub truths: Vec<bool>,
    /// Probability of each label, `[n, k]`.
    pub probabilities: Vec<f32>,
}

impl LabelScores {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.truths.len() / self.names.len().max(1)
    }

    /// True if there is no sample.
    pub fn is_empty(&self) -> bool {
        self.truths.is_empty()
    }

    /// Whether label `k` applies to sample `i`.
    pub fn truth(&self, i: usize, k: usize) -> bool {
        self.truths[i * self.names.len() + k]
    }

    /// The probability of label `k` of sample `i`.
    pub fn probability(&self, i: usize, k: usize) -> f32 {
        self.probabilities[i * self.names.len() + k]
    }

    /// Whether label `k` is predicted for sample `i`.
    pub fn predicted(&self, i: usize, k: usize) -> bool {
        f64::from(self.probability(i, k)) >= self.thresholds[k]
    }

    /// Cross-entropy of sample `i`, a mean over its labels, in nats; finite, as [`super::Scores::loss`].
    pub fn loss(&self, i: usize) -> f64 {
        let epsilon = f64::from(f32::EPSILON);
        let of = |k| {
            let p = f64::from(self.probability(i, k));
            -(if self.truth(i, k) { p } else { 1.0 - p }).clamp(epsilon, 1.0 - epsilon).ln()
        };
        mean((0..self.names.len()).map(of))
    }

    /// Up to `n` samples with the highest loss, worst first; the first of equals first.
    pub fn worst(&self, n: usize) -> Vec<usize> {
        super::worst_by(self.len(), n, |i| self.loss(i))
    }

    fn ranking(&self, k: usize) -> Ranking {
        Ranking::new(self.len(), |i| self.probability(i, k), |i| self.truth(i, k))
    }

    /// For each label the threshold with the highest sensitivity + specificity here (Youden 1950); 0.5 for a label that
    /// applies to none or all.
    pub fn best_thresholds(&self) -> Vec<f64> {
        (0..self.names.len()).map(|k| self.ranking(k).youden().unwrap_or(0.5)).collect()
    }
}

/// The metrics of one label. Of the last four, each is 0 where it would be 0 / 0.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelMetrics {
    /// Name of the label.
    pub name: String,
    /// Samples that it applies to.
    pub positives: u64,
    /// Area under the ROC curve; `None` if the label applies to none or all.
    pub auc: Option<f64>,
    /// Its bootstrap 95 % interval, where it was asked for.
    pub auc_interval: Option<Interval>,
    /// Average precision; `None` without positives.
    pub average_precision: Option<f64>,
    /// The ROC curve, from the highest threshold down.
    pub roc: Vec<RocPoint>,
    /// The reliability curve.
    pub reliability: [Bin; BINS],
    /// Expected calibration error over these bins.
    pub ece: f64,
    /// The label is predicted from this probability on.
    pub threshold: f64,
    /// Share of the positives that are predicted.
    pub sensitivity: f64,
    /// Share of the negatives that are not.
    pub specificity: f64,
    /// Share of the predicted that are positive.
    pub precision: f64,
    /// Harmonic mean of precision and sensitivity.
    pub f1: f64,
}

/// All metrics of one evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelSummary {
    /// Number of samples.
    pub samples: usize,
    /// Share of all labels predicted rightly.
    pub accuracy: f64,
    /// Mean cross-entropy in nats.
    pub log_loss: f64,
    /// Mean of AUC over the labels that have one; `None` if none has.
    pub macro_auc: Option<f64>,
    /// Mean of the average precision over the labels that have one; `None` if none has.
    pub macro_average_precision: Option<f64>,
    /// The metrics of each label.
    pub labels: Vec<LabelMetrics>,
}

impl LabelSummary {
    /// Every metric of `scores`, with bootstrap intervals if there is a `seed` to draw them under. Panics if the lengths in
    /// `scores` do not fit together.
    #[track_caller]
    pub fn new(scores: &LabelScores, seed: Option<u64>) -> Self {
        let (n, k) = (scores.len(), scores.names.len());
        assert_eq!((scores.truths.len(), scores.probabilities.len()), (n * k, n * k), "LabelScores: {n} samples");
        assert_eq!(scores.thresholds.len(), k, "LabelScores: a threshold for each of {k} labels");
        let labels: Vec<LabelMetrics> = (0..k).map(|k| label(scores, k, seed)).collect();
        let right = (0..n * k).filter(|&i| scores.predicted(i / k, i % k) == scores.truths[i]).count();
        let over = |of: fn(&LabelMetrics) -> Option<f64>| {
            labels.iter().any(|label| of(label).is_some()).then(|| mean(labels.iter().filter_map(of)))
        };
        LabelSummary {
            samples: n,
            accuracy: right as f64 / (n * k) as f64,
            log_loss: mean((0..n).map(|i| scores.loss(i))),
            macro_auc: over(|label| label.auc),
            macro_average_precision: over(|label| label.average_precision),
            labels,
        }
    }
}

fn label(scores: &LabelScores, k: usize, seed: Option<u64>) -> LabelMetrics {
    let n = scores.len();
    let ranking = scores.ranking(k);
    let count = |truth: bool, predicted: bool| {
        (0..n).filter(|&i| scores.truth(i, k) == truth && scores.predicted(i, k) == predicted).count() as u64
    };
    let (tp, fp, fn_, tn) = (count(true, true), count(false, true), count(true, false), count(false, false));
    let bins = reliability((0..n).map(|i| (scores.probability(i, k), scores.truth(i, k))));
    LabelMetrics {
        name: scores.names[k].clone(),
        positives: tp + fn_,
        auc: ranking.auc(|_| 1.0),
        auc_interval: seed.and_then(|seed| resampled(n, seed, |weight| ranking.auc(weight))),
        average_precision: ranking.average_precision(|_| 1.0),
        roc: ranking.roc(),
        reliability: bins,
        ece: ece(&bins),
        threshold: scores.thresholds[k],
        sensitivity: ratio(tp, tp + fn_),
        specificity: ratio(tn, tn + fp),
        precision: ratio(tp, tp + fp),
        f1: ratio(2 * tp, 2 * tp + fp + fn_),
    }
}
