//! Metrics of a single-label classifier. They agree with scikit-learn's of the same name.

use serde::{Deserialize, Serialize};

use super::{bootstrap::Intervals, ranking::Ranking};

/// What a classifier said about each sample of a split, and what was true.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Class names; a label is an index into them.
    pub classes: Vec<String>,
    /// True class of each sample, `[n]`.
    pub labels: Vec<u32>,
    /// Probability of each class, `[n, classes]`, each row summing to one.
    pub probabilities: Vec<f32>,
}

impl Scores {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// True if there is no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The probabilities of sample `i`, `[classes]`.
    pub fn row(&self, i: usize) -> &[f32] {
        let classes = self.classes.len();
        &self.probabilities[i * classes..][..classes]
    }

    /// The most probable class of sample `i`; the first of equals.
    pub fn predicted(&self, i: usize) -> usize {
        let row = self.row(i);
        (1..row.len()).fold(0, |best, c| if row[c] > row[best] { c } else { best })
    }

    /// Cross-entropy of sample `i` in nats. The probability is kept within f32's epsilon of 0 and 1, so it is finite.
    pub fn loss(&self, i: usize) -> f64 {
        let epsilon = f64::from(f32::EPSILON);
        -f64::from(self.row(i)[self.labels[i] as usize]).clamp(epsilon, 1.0 - epsilon).ln()
    }

    /// Up to `k` samples whose true class got the lowest probability, worst first; the first of equals first.
    pub fn worst(&self, k: usize) -> Vec<usize> {
        super::worst_by(self.len(), k, |i| -f64::from(self.row(i)[self.labels[i] as usize]))
    }

    /// Area under the ROC curve of `class` against the rest: the chance that a sample of the class gets a higher score
    /// than another one, ties counting half (Mann and Whitney 1947). `None` if the class or the rest has no sample.
    pub fn auc(&self, class: usize) -> Option<f64> {
        let of_class = |i: usize| self.labels[i] as usize == class;
        Ranking::new(self.len(), |i| self.row(i)[class], of_class).auc(|_| 1.0)
    }

    /// Panics unless labels and probabilities fit together and name existing classes.
    #[track_caller]
    fn check(&self) {
        let (n, classes) = (self.len(), self.classes.len());
        assert_eq!(self.probabilities.len(), n * classes, "Scores: {n} samples of {classes} classes");
        assert!(self.labels.iter().all(|&l| (l as usize) < classes), "Scores: a label is not below {classes}");
    }
}

/// Counts of samples by true class (row) and predicted class (column).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Confusion(pub Vec<Vec<u64>>);

impl Confusion {
    /// Counts `(truth, predicted)` pairs over `classes` classes.
    pub fn count(classes: usize, pairs: impl Iterator<Item = (usize, usize)>) -> Self {
        let mut counts = vec![vec![0; classes]; classes];
        pairs.for_each(|(truth, predicted)| counts[truth][predicted] += 1);
        Confusion(counts)
    }

    /// Samples whose true class is `class`.
    pub fn support(&self, class: usize) -> u64 {
        self.0[class].iter().sum()
    }

    /// Samples predicted to be of `class`.
    pub fn predicted(&self, class: usize) -> u64 {
        self.0.iter().map(|row| row[class]).sum()
    }

    /// Share of samples predicted rightly; NaN without samples.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.0.len()).map(|c| self.0[c][c]).sum();
        right as f64 / self.0.iter().flatten().sum::<u64>() as f64
    }

    /// Precision TP / (TP + FP) of `class`; 0 if it was never predicted.
    pub fn precision(&self, class: usize) -> f64 {
        ratio(self.0[class][class], self.predicted(class))
    }

    /// Recall TP / (TP + FN) of `class`; 0 if it has no sample.
    pub fn recall(&self, class: usize) -> f64 {
        ratio(self.0[class][class], self.support(class))
    }

    /// F1 = 2 TP / (2 TP + FP + FN) of `class`; 0 if it has no sample and was never predicted.
    pub fn f1(&self, class: usize) -> f64 {
        ratio(2 * self.0[class][class], self.support(class) + self.predicted(class))
    }

    /// Mean of F1 over all classes.
    pub fn macro_f1(&self) -> f64 {
        mean((0..self.0.len()).map(|c| self.f1(c)))
    }
}

/// The metrics of one class against the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassSummary {
    /// Name of the class.
    pub name: String,
    /// Samples whose true class it is.
    pub support: u64,
    /// TP / (TP + FP); 0 if the class was never predicted.
    pub precision: f64,
    /// TP / (TP + FN), the sensitivity; 0 if the class has no sample.
    pub recall: f64,
    /// Harmonic mean of precision and recall; 0 if both are.
    pub f1: f64,
    /// Area under the ROC curve against the rest; `None` if the class or the rest has no sample.
    pub auc: Option<f64>,
}

/// All metrics of one evaluation. Printing it gives the tables for a terminal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of samples.
    pub samples: usize,
    /// Share of samples predicted rightly.
    #[serde(with = "crate::metrics::nan_as_null")]
    pub accuracy: f64,
    /// Accuracy of always naming the most frequent class: what `accuracy` has to beat.
    #[serde(with = "crate::metrics::nan_as_null")]
    pub chance: f64,
    /// Mean of precision over all classes, an undefined one counting as 0.
    pub macro_precision: f64,
    /// Mean of recall over all classes, an undefined one counting as 0: the balanced accuracy where each has samples.
    pub macro_recall: f64,
    /// Mean of F1 over all classes, an undefined one counting as 0.
    pub macro_f1: f64,
    /// Mean of AUC over the classes that have one; `None` if none has.
    pub macro_auc: Option<f64>,
    /// Mean cross-entropy in nats.
    #[serde(with = "crate::metrics::nan_as_null")]
    pub log_loss: f64,
    /// The metrics of each class.
    pub classes: Vec<ClassSummary>,
    /// Counts by truth (row) and prediction (column).
    pub confusion: Confusion,
    /// Bootstrap 95 % intervals, where they were asked for.
    pub intervals: Option<Intervals>,
}

impl Summary {
    /// Computes every metric of `scores` but the intervals. Panics if the lengths in `scores` do not fit together.
    #[track_caller]
    pub fn new(scores: &Scores) -> Self {
        scores.check();
        let n = scores.len();
        let pairs = (0..n).map(|i| (scores.labels[i] as usize, scores.predicted(i)));
        let confusion = Confusion::count(scores.classes.len(), pairs);
        let classes: Vec<ClassSummary> = (scores.classes.iter().enumerate())
            .map(|(c, name)| ClassSummary {
                name: name.clone(),
                support: confusion.support(c),
                precision: confusion.precision(c),
                recall: confusion.recall(c),
                f1: confusion.f1(c),
                auc: scores.auc(c),
            })
            .collect();
        let with_auc = classes.iter().any(|c| c.auc.is_some());
        Summary {
            samples: n,
            accuracy: confusion.accuracy(),
            chance: classes.iter().map(|c| c.support).max().unwrap_or(0) as f64 / n as f64,
            macro_precision: mean(classes.iter().map(|c| c.precision)),
            macro_recall: mean(classes.iter().map(|c| c.recall)),
            macro_f1: confusion.macro_f1(),
            macro_auc: with_auc.then(|| mean(classes.iter().filter_map(|c| c.auc))),
            log_loss: mean((0..n).map(|i| scores.loss(i))),
            classes,
            confusion,
            intervals: None,
        }
    }

    /// As [`Summary::new`], with bootstrap intervals drawn under `seed`.
    #[track_caller]
    pub fn with_intervals(scores: &Scores, seed: u64) -> Self {
        let summary = Summary::new(scores);
        let intervals = Intervals::bootstrap(&summary.confusion, seed);
        Summary { intervals, ..summary }
    }

    /// Names of the classes that have no AUC and so are missing from its mean.
    pub fn without_auc(&self) -> Vec<&str> {
        self.classes.iter().filter(|c| c.auc.is_none()).map(|c| c.name.as_str()).collect()
    }
}

/// `a / b`, and 0 for 0 / 0.
pub(super) fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

/// Arithmetic mean in the order given; NaN of nothing.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), v| (sum + v, n + 1.0));
    sum / n
}
