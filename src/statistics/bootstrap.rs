//! The bootstrap (Efron 1979): how far a number would move on another sample, seen by drawing from this one with replacement.
//!
//! Cases of one group (patient) are drawn together, because they are not independent. Every draw is a function of the seed and its
//! number alone.

use std::{collections::HashMap, hash::Hash};

use serde::{Deserialize, Serialize};

use super::{
    LEVEL,
    distributions::{normal_cdf, normal_quantile},
};
use crate::rng::{Purpose, Rng};

/// An interval of [`LEVEL`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Which cases belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups {
    of_case: Vec<usize>,
    count: usize,
}

impl Groups {
    /// Each of `cases` cases for itself.
    pub fn alone(cases: usize) -> Groups {
        Groups { of_case: (0..cases).collect(), count: cases }
    }

    /// Cases with equal names are one group.
    pub fn named<T: Eq + Hash>(names: &[T]) -> Groups {
        let mut numbers = HashMap::new();
        let of_case = names.iter().map(|name| {
            let next = numbers.len();
            *numbers.entry(name).or_insert(next)
        });
        Groups { of_case: of_case.collect(), count: numbers.len() }
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True if there is no case.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of cases.
    pub fn cases(&self) -> usize {
        self.of_case.len()
    }

    /// Draws as many groups as there are; how often each case came with them.
    pub fn draw(&self, rng: &mut Rng) -> Vec<f64> {
        let count = u32::try_from(self.count).expect("Groups::draw: more than 2^32 groups");
        let mut drawn = vec![0.0; self.count];
        (0..self.count).for_each(|_| drawn[rng.below(count) as usize] += 1.0);
        self.of_case.iter().map(|&group| drawn[group]).collect()
    }

    /// How often each case counts when every `parts`th group from `left_out` on is left out: not at all or once.
    pub fn without(&self, left_out: usize, parts: usize) -> Vec<f64> {
        self.of_case.iter().map(|&group| if group % parts == left_out { 0.0 } else { 1.0 }).collect()
    }
}

/// `metric` of `resamples` draws of the groups. It is given how often each case was drawn; a draw that it says `None` to is passed
/// over.
pub fn resampled(groups: &Groups, resamples: u32, seed: u64, metric: impl Fn(&[f64]) -> Option<f64>) -> Vec<f64> {
    resampled_with_runs(groups, 1, resamples, seed, |_, weights| metric(weights))
}

/// `metric` of `resamples` draws of the groups and, independently, of `runs` training runs: its mean over the drawn runs, all on
/// the drawn cases. It is given a run and how often each case was drawn.
pub fn resampled_with_runs(
    groups: &Groups,
    runs: usize,
    resamples: u32,
    seed: u64,
    metric: impl Fn(usize, &[f64]) -> Option<f64>,
) -> Vec<f64> {
    if groups.is_empty() {
        return vec![];
    }
    let draw = |resample| {
        let mut rng = Rng::new(seed, Purpose::Bootstrap, resample, 0);
        let weights = groups.draw(&mut rng);
        let drawn = Groups::alone(runs).draw(&mut rng);
        let of_runs = (0..runs).filter(|&run| drawn[run] > 0.0).map(|run| Some(drawn[run] * metric(run, &weights)?));
        Some(of_runs.sum::<Option<f64>>()? / runs as f64)
    };
    (0..resamples).filter_map(draw).collect()
}

/// The percentile interval: the middle of the resampled `values`. `None` of none.
pub fn percentile(mut values: Vec<f64>) -> Option<Interval> {
    values.sort_by(f64::total_cmp);
    let tail = (1.0 - LEVEL) / 2.0;
    (!values.is_empty()).then(|| Interval { low: quantile(&values, tail), high: quantile(&values, 1.0 - tail) })
}

/// The bias-corrected and accelerated interval (Efron 1987) of `estimate`, from its resampled `values` and from what it is with each
/// group left out. `None` where it has no answer: when all values lie on one side of the estimate, or leaving out changes nothing.
pub fn bca(mut values: Vec<f64>, estimate: f64, left_out: &[f64]) -> Option<Interval> {
    values.sort_by(f64::total_cmp);
    let below = values.iter().filter(|&&v| v < estimate).count() + values.iter().filter(|&&v| v <= estimate).count();
    let bias = normal_quantile(below as f64 / (2 * values.len()) as f64);
    let mean = left_out.iter().sum::<f64>() / left_out.len() as f64;
    let moment = |k| left_out.iter().map(|v| (mean - v).powi(k)).sum::<f64>();
    let acceleration = moment(3) / (6.0 * moment(2).powf(1.5));
    let end = |p| {
        let z = bias + normal_quantile(p);
        let share = normal_cdf(bias + z / (1.0 - acceleration * z));
        share.is_finite().then(|| quantile(&values, share))
    };
    let known = !values.is_empty() && bias.is_finite() && acceleration.is_finite();
    known.then(|| Some(Interval { low: end((1.0 - LEVEL) / 2.0)?, high: end((1.0 + LEVEL) / 2.0)? }))?
}

/// The two-sided p value of resampled differences: twice the share on the far side of 0, the sample itself counted as one more
/// (Davison and Hinkley 1997, 4.2). It is below 1 − [`LEVEL`] about when the percentile interval leaves 0 out. 1 of none.
pub fn two_sided_p(values: &[f64]) -> f64 {
    let share =
        |far: &dyn Fn(f64) -> bool| (1 + values.iter().filter(|&&v| far(v)).count()) as f64 / (values.len() + 1) as f64;
    (2.0 * share(&|v| v <= 0.0).min(share(&|v| v >= 0.0))).min(1.0)
}

/// The `q` quantile of sorted values, linear between neighbours (Hyndman and Fan 1996, type 7).
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let position = q * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}
