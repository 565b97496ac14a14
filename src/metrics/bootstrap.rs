//! Percentile bootstrap (Efron 1979): how far a metric would move on another sample of the same size.

use serde::{Deserialize, Serialize};

use super::classes::Confusion;
use crate::rng::{Purpose, Rng};

/// Enough for the 2.5th and 97.5th percentile to be steady to about a tenth of the interval.
const RESAMPLES: u32 = 1000;

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// 2.5th percentile.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
}

/// Bootstrap 95 % intervals of the headline metrics. Samples are drawn singly: several images of one patient make the
/// true interval wider. A metric at its bound (every sample right) gives an interval of no width.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// Of the accuracy.
    pub accuracy: Interval,
    /// Of the macro F1.
    pub macro_f1: Interval,
}

impl Intervals {
    /// Draws 1000 resamples of the samples counted in `confusion`, a function of it and `seed` only. `None` without
    /// samples. Accuracy and F1 depend on the counts alone, so drawing from them equals drawing samples.
    pub fn bootstrap(confusion: &Confusion, seed: u64) -> Option<Self> {
        let samples: Vec<(usize, usize)> = (confusion.0.iter().enumerate())
            .flat_map(|(truth, row)| row.iter().enumerate().map(move |(predicted, &count)| ((truth, predicted), count)))
            .flat_map(|(pair, count)| std::iter::repeat_n(pair, count as usize))
            .collect();
        if samples.is_empty() {
            return None;
        }
        let n = u32::try_from(samples.len()).expect("Intervals::bootstrap: more than 2^32 samples");
        let (accuracy, macro_f1) = (0..RESAMPLES)
            .map(|resample| {
                let mut rng = Rng::new(seed, Purpose::Bootstrap, resample, 0);
                let drawn = (0..n).map(|_| samples[rng.below(n) as usize]);
                let confusion = Confusion::count(confusion.0.len(), drawn);
                (confusion.accuracy(), confusion.macro_f1())
            })
            .unzip();
        Some(Intervals { accuracy: interval(accuracy), macro_f1: interval(macro_f1) })
    }
}

/// The bootstrap 95 % interval of `metric` over `n` samples, drawn under `seed`. The metric is given how often each sample was
/// drawn; a draw that it says `None` to is passed over. `None` without samples, or if every draw is.
pub(super) fn resampled(
    n: usize,
    seed: u64,
    metric: impl Fn(&dyn Fn(usize) -> f64) -> Option<f64>,
) -> Option<Interval> {
    let count = u32::try_from(n).expect("resampled: more than 2^32 samples");
    let values = (0..if n == 0 { 0 } else { RESAMPLES }).filter_map(|resample| {
        let mut rng = Rng::new(seed, Purpose::Bootstrap, resample, 0);
        let mut drawn = vec![0.0; n];
        (0..n).for_each(|_| drawn[rng.below(count) as usize] += 1.0);
        metric(&|i| drawn[i])
    });
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| interval(values))
}

/// The 95 % percentile interval of `values`.
fn interval(mut values: Vec<f64>) -> Interval {
    values.sort_by(f64::total_cmp);
    Interval { low: quantile(&values, 0.025), high: quantile(&values, 0.975) }
}

/// The `q` quantile of sorted values, linear between neighbours (Hyndman and Fan 1996, type 7).
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let position = q * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}
