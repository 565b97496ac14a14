//! Metrics of predicted numbers.

use super::{Interval, bootstrap::resampled, classes::mean};

/// The numbers that a network gave for each sample, and the true ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NumberScores {
    /// Names of the numbers.
    pub names: Vec<String>,
    /// True numbers, `[n, k]`.
    pub truths: Vec<f64>,
    /// Predicted numbers, `[n, k]`.
    pub predictions: Vec<f64>,
    /// Spread of each number in training, which makes their errors comparable, `[k]`.
    pub spreads: Vec<f64>,
}

impl NumberScores {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.truths.len() / self.names.len().max(1)
    }

    /// True if there is no sample.
    pub fn is_empty(&self) -> bool {
        self.truths.is_empty()
    }

    /// True number `k` of sample `i`.
    pub fn truth(&self, i: usize, k: usize) -> f64 {
        self.truths[i * self.names.len() + k]
    }

    /// Predicted number `k` of sample `i`.
    pub fn prediction(&self, i: usize, k: usize) -> f64 {
        self.predictions[i * self.names.len() + k]
    }

    /// Up to `n` samples with the largest sum of errors in spreads, worst first; the first of equals first.
    pub fn worst(&self, n: usize) -> Vec<usize> {
        let error = |i| (0..self.names.len()).map(|k| self.error(i, k).abs() / self.spreads[k]).sum();
        super::worst_by(self.len(), n, error)
    }

    fn error(&self, i: usize, k: usize) -> f64 {
        self.prediction(i, k) - self.truth(i, k)
    }
}

/// A metric with its bootstrap 95 % interval, where that was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Its value.
    pub value: f64,
    /// Its interval.
    pub interval: Option<Interval>,
}

/// The metrics of one number, in its units but for R².
#[derive(Clone, Debug, PartialEq)]
pub struct NumberMetrics {
    /// Name of the number.
    pub name: String,
    /// Mean absolute error.
    pub mae: Measured,
    /// Root of the mean squared error.
    pub rmse: Measured,
    /// Coefficient of determination, 1 − Σ(error²) / Σ((truth − mean)²); NaN where the truth never varies.
    pub r2: Measured,
    /// Mean absolute error of always naming the mean of the truths: what `mae` has to beat.
    pub chance: f64,
    /// Mean of prediction − truth.
    pub bias: f64,
    /// Standard deviation of prediction − truth, n − 1 in the denominator.
    pub sd: f64,
    /// Limits of agreement, bias ± 1.96 sd (Bland and Altman 1986).
    pub limits: [f64; 2],
    /// (truth, prediction) of each sample.
    pub pairs: Vec<(f64, f64)>,
}

/// All metrics of one evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberSummary {
    /// Number of samples.
    pub samples: usize,
    /// The metrics of each number.
    pub numbers: Vec<NumberMetrics>,
}

impl NumberSummary {
    /// Every metric of `scores`, with bootstrap intervals if there is a `seed` to draw them under. Panics if the lengths in
    /// `scores` do not fit together.
    #[track_caller]
    pub fn new(scores: &NumberScores, seed: Option<u64>) -> Self {
        let (n, k) = (scores.len(), scores.names.len());
        assert_eq!((scores.truths.len(), scores.predictions.len()), (n * k, n * k), "NumberScores: {n} samples");
        NumberSummary { samples: n, numbers: (0..k).map(|k| number(scores, k, seed)).collect() }
    }

    /// Mean absolute error, a mean over the numbers.
    pub fn mae(&self) -> f64 {
        mean(self.numbers.iter().map(|number| number.mae.value))
    }
}

/// How often a sample counts.
pub(super) type Weight<'a> = dyn Fn(usize) -> f64 + 'a;

fn number(scores: &NumberScores, k: usize, seed: Option<u64>) -> NumberMetrics {
    let n = scores.len();
    let pairs: Vec<(f64, f64)> = (0..n).map(|i| (scores.truth(i, k), scores.prediction(i, k))).collect();
    let errors: Vec<f64> = pairs.iter().map(|(truth, prediction)| prediction - truth).collect();
    let weighted = |weight: &Weight, of: &dyn Fn(usize) -> f64| {
        (0..n).map(|i| weight(i) * of(i)).sum::<f64>() / (0..n).map(weight).sum::<f64>()
    };
    let mae = |weight: &Weight| weighted(weight, &|i| errors[i].abs());
    let mse = |weight: &Weight| weighted(weight, &|i| errors[i] * errors[i]);
    let r2 = |weight: &Weight| {
        let middle = weighted(weight, &|i| pairs[i].0);
        1.0 - mse(weight) / weighted(weight, &|i| (pairs[i].0 - middle).powi(2))
    };
    let measured = |metric: &dyn Fn(&Weight) -> f64| Measured {
        value: metric(&|_| 1.0),
        interval: seed.and_then(|seed| resampled(n, seed, |weight| Some(metric(&weight)).filter(|v| v.is_finite()))),
    };
    let bias = mean(errors.iter().copied());
    let sd = (errors.iter().map(|e| (e - bias).powi(2)).sum::<f64>() / (n as f64 - 1.0)).sqrt();
    let middle = mean(pairs.iter().map(|pair| pair.0));
    NumberMetrics {
        name: scores.names[k].clone(),
        mae: measured(&mae),
        rmse: measured(&|weight| mse(weight).sqrt()),
        r2: measured(&r2),
        chance: mean(pairs.iter().map(|pair| (pair.0 - middle).abs())),
        bias,
        sd,
        limits: [bias - 1.96 * sd, bias + 1.96 * sd],
        pairs,
    }
}
